//! Expressions as MASM has them: hexadecimal unless `n` says otherwise, `0x 0n 0t 0y`, backticks, operators, `poi` and its
//! kin, comparisons, string functions, registers and pseudo registers, module names; `@@c++(...)` is read as C++.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag_no_case, take_while1};
use nom::character::complete::{char, space0};
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};

pub mod cplus;
pub mod pattern;
pub mod pseudo;

pub use pattern::matches;
use pseudo::{entry, named};

use super::opaque;
use super::words::bracketed;
use crate::dump::{Dump, Registers};

/// Most parentheses, signs and operators that are words: a bound on recursion. Each takes some kilobytes of stack.
const MAX_DEPTH: usize = 48;

/// `$t0` and so on: how many there are.
pub const USER: usize = 20;

/// What expressions remember from one to the next.
#[derive(Debug, Clone)]
pub struct Values {
    /// `$t0` to `$t19`.
    pub user: [u64; USER],
    /// Radix of numbers without a prefix.
    pub radix: u32,
    /// Whether expressions are C++ unless they say otherwise (`.expr /s c++`).
    pub cplus: bool,
    /// `$exp`: the value of the last expression.
    pub exp: u64,
    /// `$p`: the value displayed last.
    pub shown: Option<u64>,
}

impl Default for Values {
    fn default() -> Self {
        Self { user: [0; USER], radix: 16, cplus: false, exp: 0, shown: None }
    }
}

/// What names in an expression stand for.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The open dump.
    pub dump: Option<&'a Dump>,
    /// Index of the current thread.
    pub thread: usize,
    /// What is remembered.
    pub values: &'a Values,
    /// Registers that stand for those of the thread.
    pub context: Option<&'a Registers>,
}

/// An expression that has no value: it ends the line or block it stands in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unevaluated(pub String);

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Word(String),
    Call(&'static str, Box<Expr>),
    Valid(Box<Expr>, Box<Expr>),
    Texts(&'static str, String, String),
    CPlus(String),
    Unary(char, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
}

/// Evaluates `text`. The error says what was expected or what is not known.
pub fn evaluate(text: &str, scope: &Scope<'_>) -> Result<u64, String> {
    if scope.values.cplus && !text.contains("@@") {
        return cplus::evaluate(&opaque::words(text), scope).map(|v| v.bits());
    }
    masm(text, scope)
}

/// As [`evaluate`], of MASM whatever the default is.
fn masm(text: &str, scope: &Scope<'_>) -> Result<u64, String> {
    if text.len() > 4096 || nesting(text) > MAX_DEPTH {
        return Err("the expression is too long".into());
    }
    let text = &opaque::words(text).replace("@@masm", "");
    let (rest, expr) =
        or(text.trim()).map_err(|_| format!("expected a number or expression, not `{}`", opaque::show(text)))?;
    if !rest.trim().is_empty() {
        return Err(format!("expected an operator before `{}`", opaque::show(rest.trim())));
    }
    value(&expr, scope)
}

/// How deep reading `text` may go: brackets, signs and operators of one value.
fn nesting(text: &str) -> usize {
    let marks = text.bytes().filter(|b| b"([!~-+".contains(b)).count();
    let word = |w: &&str| UNARY.iter().any(|u| u.eq_ignore_ascii_case(w));
    marks + text.split(|c: char| !c.is_alphanumeric()).filter(word).count()
}

fn level<'i>(
    input: &'i str,
    operators: &'static [&'static str],
    next: fn(&'i str) -> IResult<&'i str, Expr>,
) -> IResult<&'i str, Expr> {
    let (mut rest, mut left) = next(input)?;
    'again: loop {
        for &op in operators {
            let found: IResult<&str, &str> = delimited(space0, tag_no_case(op), space0).parse(rest);
            if let Ok((after, _)) = found {
                // Hands used to C type `&&` and `||`; of comparisons they mean the same.
                let after = if matches!(op, "&" | "|") { after.strip_prefix(op).unwrap_or(after) } else { after };
                let word = op.chars().all(char::is_alphabetic);
                let glued = word && !rest.starts_with([' ', ')']);
                if glued {
                    continue;
                }
                let (after, right) = next(after)?;
                left = Expr::Binary(op, Box::new(left), Box::new(right));
                rest = after;
                continue 'again;
            }
        }
        return Ok((rest, left));
    }
}

fn or(i: &str) -> IResult<&str, Expr> {
    level(i, &["|", "or"], xor)
}

fn xor(i: &str) -> IResult<&str, Expr> {
    level(i, &["^", "xor"], and)
}

fn and(i: &str) -> IResult<&str, Expr> {
    level(i, &["&", "and"], equal)
}

fn equal(i: &str) -> IResult<&str, Expr> {
    level(i, &["==", "!=", "=", "<=", ">=", "<", ">"], shift)
}

fn shift(i: &str) -> IResult<&str, Expr> {
    level(i, &["<<", ">>>", ">>"], sum)
}

fn sum(i: &str) -> IResult<&str, Expr> {
    level(i, &["+", "-"], product)
}

fn product(i: &str) -> IResult<&str, Expr> {
    level(i, &["*", "/", "%", "mod"], unary)
}

/// Operators that are words, in front of their value.
const UNARY: &[&str] = &["poi", "qwo", "dwo", "wo", "by", "hi", "low", "not"];

fn unary(i: &str) -> IResult<&str, Expr> {
    let (i, _) = space0(i)?;
    let (rest, sign) = opt(alt((char('-'), char('+'), char('~'), char('!')))).parse(i)?;
    if let Some(c) = sign {
        return unary(rest).map(|(r, e)| (r, Expr::Unary(c, Box::new(e))));
    }
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '`' | '!'));
    let word = UNARY.iter().find_map(|w| {
        let rest = i.get(..w.len()).filter(|t| t.eq_ignore_ascii_case(w)).map(|_| &i[w.len()..])?;
        (ends(rest) && !rest.trim_start().is_empty()).then_some((*w, rest))
    });
    match word {
        Some((word, rest)) => unary(rest).map(|(r, e)| (r, Expr::Call(word, Box::new(e)))),
        None => primary(i),
    }
}

fn primary(i: &str) -> IResult<&str, Expr> {
    alt((
        delimited((char('('), space0), or, (space0, char(')'))),
        delimited((char('['), space0), or, (space0, char(']'))),
        cplus,
        texts,
        functions,
        preceded(char('@'), name).map(|n| Expr::Word(format!("@{n}"))),
        word,
    ))
    .parse(i)
}

fn name(i: &str) -> IResult<&str, String> {
    take_while1(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '!')).map(str::to_owned).parse(i)
}

/// `@@c++(...)`, `@@(...)`: what stands in the parentheses is C++.
fn cplus(i: &str) -> IResult<&str, Expr> {
    let (rest, _) = alt((tag_no_case("@@c++"), tag_no_case("@@"))).parse(i)?;
    match bracketed(rest, '(') {
        Some((inner, rest)) => Ok((rest, Expr::CPlus(inner.to_owned()))),
        None => Err(nom::Err::Error(nom::error::Error::new(i, nom::error::ErrorKind::Char))),
    }
}

/// `$vvalid(ADDRESS, LENGTH)`, `$iment(BASE)`.
fn functions(i: &str) -> IResult<&str, Expr> {
    let (rest, _) = opt(char('@')).parse(i)?;
    let (rest, function) = alt((tag_no_case("$vvalid"), tag_no_case("$iment"))).parse(rest)?;
    if function.eq_ignore_ascii_case("$iment") {
        let (rest, base) = delimited((char('('), space0), or, (space0, char(')'))).parse(rest)?;
        return Ok((rest, Expr::Call("$iment", Box::new(base))));
    }
    let (rest, (at, _, length)) =
        delimited((char('('), space0), (or, (space0, char(','), space0), or), (space0, char(')'))).parse(rest)?;
    Ok((rest, Expr::Valid(Box::new(at), Box::new(length))))
}

/// `$scmp("a", "b")` (minus, zero or plus), `$sicmp` without regard to case, `$spat("text", "pattern")`.
fn texts(i: &str) -> IResult<&str, Expr> {
    let (rest, _) = opt(char('@')).parse(i)?;
    let (rest, function) = alt((tag_no_case("$scmp"), tag_no_case("$sicmp"), tag_no_case("$spat"))).parse(rest)?;
    fn quoted(i: &str) -> IResult<&str, &str> {
        delimited((space0, char('"')), opt(is_not("\"")), (char('"'), space0))
            .parse(i)
            .map(|(r, t)| (r, t.unwrap_or("")))
    }
    let (rest, (a, _, b)) = delimited(char('('), (quoted, char(','), quoted), char(')')).parse(rest)?;
    let function = ["$scmp", "$sicmp"].into_iter().find(|f| function.eq_ignore_ascii_case(f)).unwrap_or("$spat");
    Ok((rest, Expr::Texts(function, opaque::show(a).into_owned(), opaque::show(b).into_owned())))
}

/// A number or, if it is none, a name.
fn word(i: &str) -> IResult<&str, Expr> {
    let (rest, text) =
        take_while1(|c: char| c.is_alphanumeric() || matches!(c, '_' | '`' | '$' | '.' | '!')).parse(i)?;
    Ok((rest, Expr::Word(text.to_owned())))
}

/// A number: hexadecimal unless a prefix says otherwise; backticks anywhere; a trailing `h` allowed.
pub fn number(text: &str) -> Option<u64> {
    number_in(text, 16)
}

/// As [`number`], with another radix for those without prefix. A prefix alone is 0, as the debuggers have it.
pub fn number_in(text: &str, radix: u32) -> Option<u64> {
    let clean: String = text.chars().filter(|c| *c != '`').collect::<String>().to_lowercase();
    let (digits, radix) = match clean.get(..2) {
        Some("0x" | "0n" | "0t" | "0y") if clean.len() == 2 => return Some(0),
        Some("0x") => (&clean[2..], 16),
        Some("0n") => (&clean[2..], 10),
        Some("0t") => (&clean[2..], 8),
        Some("0y") => (&clean[2..], 2),
        _ => match clean.strip_suffix('h') {
            Some(digits) => (digits, 16),
            None => (clean.as_str(), radix),
        },
    };
    let digits = if radix == 16 { digits.strip_suffix('h').unwrap_or(digits) } else { digits };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn value(e: &Expr, scope: &Scope<'_>) -> Result<u64, String> {
    Ok(match e {
        Expr::Word(text) => match number_in(text, scope.values.radix) {
            Some(n) => n,
            None => named(text, scope)?,
        },
        Expr::CPlus(text) => cplus::evaluate(text, scope)?.bits(),
        Expr::Valid(at, length) => {
            let (at, length) = (value(at, scope)?, value(length, scope)?);
            let space = &scope.dump.ok_or("no dump is open")?.space;
            u64::from(space.holds(at, length))
        }
        Expr::Unary('-', x) => value(x, scope)?.wrapping_neg(),
        Expr::Unary('~', x) => !value(x, scope)?,
        Expr::Unary('!', x) => u64::from(value(x, scope)? == 0),
        Expr::Texts("$spat", text, pattern) => u64::from(matches(pattern, text)),
        Expr::Texts(f, a, b) => {
            let order = if *f == "$sicmp" { a.to_lowercase().cmp(&b.to_lowercase()) } else { a.cmp(b) };
            order as i64 as u64
        }
        Expr::Unary(_, x) => value(x, scope)?,
        Expr::Call(f, x) => function(f, value(x, scope)?, scope)?,
        Expr::Binary(op, a, b) => {
            let (a, b) = (value(a, scope)?, value(b, scope)?);
            match *op {
                "+" => a.wrapping_add(b),
                "-" => a.wrapping_sub(b),
                "*" => a.wrapping_mul(b),
                "/" => a.checked_div(b).ok_or("division by zero")?,
                "%" | "mod" => a.checked_rem(b).ok_or("division by zero")?,
                "<<" => a.checked_shl(b.min(64) as u32).unwrap_or(0),
                ">>" => a.checked_shr(b.min(64) as u32).unwrap_or(0),
                ">>>" => (a as i64 >> b.min(63)) as u64,
                "==" | "=" => u64::from(a == b),
                "!=" => u64::from(a != b),
                "<" => u64::from(a < b),
                ">" => u64::from(a > b),
                "<=" => u64::from(a <= b),
                ">=" => u64::from(a >= b),
                "&" | "and" => a & b,
                "^" | "xor" => a ^ b,
                _ => a | b,
            }
        }
    })
}

fn function(name: &str, x: u64, scope: &Scope<'_>) -> Result<u64, String> {
    match name {
        "hi" => return Ok(x >> 16 & 0xFFFF),
        "low" => return Ok(x & 0xFFFF),
        "not" => return Ok(u64::from(x == 0)),
        _ => {}
    }
    let dump = scope.dump.ok_or("no dump is open")?;
    let space = &dump.space;
    let read = match name {
        "poi" => space.ptr(x),
        "qwo" => space.u64(x),
        "dwo" => space.u32(x).map(u64::from),
        "wo" => space.u16(x).map(u64::from),
        "$iment" => {
            return entry(dump, x).ok_or_else(|| format!("$iment({x:x}): the dump has no header of an image there"));
        }
        _ => space.u8(x).map(u64::from),
    };
    read.ok_or_else(|| format!("{name}({x:x}): the memory is not in the dump"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn eval(text: &str) -> Result<u64, String> {
        in_radix(text, 16)
    }

    fn in_radix(text: &str, radix: u32) -> Result<u64, String> {
        let mut values = Values { radix, exp: 0x8f, ..Values::default() };
        values.user[3] = 7;
        evaluate(text, &Scope { dump: None, thread: 0, values: &values, context: None })
    }

    #[test]
    fn numbers_and_operators() {
        for (text, want) in [
            ("10", 16),
            ("0n10", 10),
            ("0x1f", 31),
            ("0y101", 5),
            ("0t17", 15),
            ("00007f3a`1c000028", 0x7f3a_1c00_0028),
            ("1ch", 0x1c),
            ("2+3*4", 14),
            ("(2+3)*4", 20),
            ("1<<4 | f", 31),
            ("-1 & ff", 255),
            ("@$t3 + 1", 8),
            ("hi(12345678)", 0x1234),
            ("7 mod 4", 3),
            ("not(0)", 1),
            ("1 == 1", 1),
            ("2 > 1 & 1 < 2", 1),
            ("(1 == 2) or (3 >= 3)", 1),
            ("1 != 1", 0),
            ("1 << 2 > 3", 1),
            ("!5", 0),
            ("(1 == 1) && (2 == 2)", 1),
            ("8000000000000000 >>> 3f", u64::MAX),
            ("$scmp(\"a\", \"b\")", u64::MAX),
            ("$sicmp(\"Zoo\",\"zOO\") == 0", 1),
            ("$spat(\"System.String\", \"*.str*\")", 1),
            ("[1+2]*2", 6),
            ("1 + 2 << 3", 24),
            ("5 & 3 == 1", 0),
            ("10 - 5 - 2", 9),
            ("5 xor 3 or 1 and 4 or 5 & 7 ^ 0", 7),
            ("not 0", 1),
            ("hi deadbeef", 0xdead),
            ("low deadbeef + 1", 0xbef0),
            ("- 1 + 2", 1),
            ("~0 & f", 15),
            ("0x", 0),
            ("0n + 1", 1),
            ("@@masm(1)", 1),
            ("@@c++(010 + 10) + 10", 34),
            ("@@(1 << 2)", 4),
        ] {
            assert_eq!(eval(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn the_deepest_fits_a_small_stack() {
        let deepest = |open: &str, close: &str| {
            let text = format!("{}1{}", open.repeat(MAX_DEPTH), close.repeat(MAX_DEPTH));
            let more = format!("{open}{text}{close}");
            std::thread::Builder::new()
                .stack_size(1 << 19)
                .spawn(move || (eval(&text).is_ok(), eval(&more).is_err()))
                .unwrap()
                .join()
                .unwrap()
        };
        for (open, close) in [("(", ")"), ("[", "]"), ("-", ""), ("not ", "")] {
            assert_eq!(deepest(open, close), (true, true), "{open}");
        }
    }

    #[test]
    fn radix_of_bare_numbers() {
        assert_eq!(in_radix("10 + 0x10 + 10h", 10), Ok(42));
        assert_eq!(in_radix("10", 8), Ok(8));
        assert!(in_radix("9", 8).is_err());
        assert!(in_radix("1f", 10).is_err());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert!(eval("1/0").unwrap_err().contains("zero"));
        assert!(eval("zoo").unwrap_err().contains("no dump"));
        assert!(eval("1 2").unwrap_err().contains("operator"));
        assert!(eval("(1").is_err());
        assert!(eval("").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9a-fx+*/()~@$ poi\\[\\]<>=!\"&|,.-]{0,40}|(not |poi|hi |-|@@c\\+\\+\\(|\\$vvalid\\(){0,40}") {
            let _ = eval(&text);
        }
    }
}
