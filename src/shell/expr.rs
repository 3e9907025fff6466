//! Expressions as MASM has them: hexadecimal by default, `0x 0n 0t 0y`, backticks, operators, `poi()` and its kin,
//! comparisons, string functions, registers and pseudo registers, module names.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, tag_no_case, take_while1};
use nom::character::complete::{char, space0};
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};

use super::opaque;
use crate::dump::{Dump, Thread};

/// Most parentheses and signs: a bound on recursion.
const MAX_DEPTH: usize = 128;

/// `$t0` and so on: how many there are.
pub const USER: usize = 20;

/// What a pseudo register stands for in a dump and on its current thread.
type Pseudo = fn(&Dump, Option<&Thread>) -> Option<u64>;

/// Pseudo registers, without their `$`.
pub const PSEUDO: &[(&str, Pseudo)] = &[
    ("ptrsize", |dump, _| Some(u64::from(dump.arch.pointer_size()))),
    ("pagesize", |dump, _| Some(dump.process.page_size)),
    ("tpid", |dump, _| dump.process.pid),
    ("tid", |_, thread| thread.map(|t| t.os_id)),
    ("teb", |_, thread| thread?.teb),
    ("thread", |_, thread| thread?.teb),
    ("peb", peb),
    ("proc", peb),
    ("exr_code", |dump, _| dump.exception.as_ref().map(|e| u64::from(e.code))),
    ("retreg", |_, thread| {
        let registers = thread?.registers.as_ref()?;
        ["rax", "eax", "x0", "r0"].iter().find_map(|n| registers.get(n))
    }),
    ("ip", |_, thread| thread?.registers.as_ref().map(|r| r.ip)),
    ("csp", |_, thread| thread?.registers.as_ref().map(|r| r.sp)),
];

fn peb(dump: &Dump, thread: Option<&Thread>) -> Option<u64> {
    dump.space.ptr_at(thread?.teb?, if dump.arch.pointer_size() == 8 { 0x60 } else { 0x30 })
}

/// What names in an expression stand for.
pub struct Scope<'a> {
    /// The open dump.
    pub dump: Option<&'a Dump>,
    /// Index of the current thread.
    pub thread: usize,
    /// `$t0` to `$t19`.
    pub user: &'a [u64; 20],
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Number(u64),
    Name(String),
    Call(String, Box<Expr>),
    Texts(&'static str, String, String),
    Unary(char, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
}

/// Evaluates `text`. The error says what was expected or what is not known.
pub fn evaluate(text: &str, scope: &Scope<'_>) -> Result<u64, String> {
    let depth = text.bytes().filter(|b| b"([!~-".contains(b)).count();
    if text.len() > 4096 || depth > MAX_DEPTH {
        return Err("the expression is too long".into());
    }
    if text.contains("@@c++") || text.contains("@@(") {
        return Err("C++ expressions are not read; write it the MASM way: poi(ADDR), @reg, @$t0".into());
    }
    let text = &opaque::words(text).replace("@@masm", "");
    let (rest, expr) =
        or(text.trim()).map_err(|_| format!("expected a number or expression, not `{}`", opaque::show(text)))?;
    if !rest.trim().is_empty() {
        return Err(format!("expected an operator before `{}`", opaque::show(rest.trim())));
    }
    value(&expr, scope)
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
    level(i, &["==", "!=", "="], less)
}

fn less(i: &str) -> IResult<&str, Expr> {
    level(i, &["<=", ">=", "<", ">"], shift)
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

fn unary(i: &str) -> IResult<&str, Expr> {
    let (i, _) = space0(i)?;
    let (rest, sign) = opt(alt((char('-'), char('+'), char('~'), char('!')))).parse(i)?;
    match sign {
        Some(c) => unary(rest).map(|(r, e)| (r, Expr::Unary(c, Box::new(e)))),
        None => primary(rest),
    }
}

fn primary(i: &str) -> IResult<&str, Expr> {
    alt((
        delimited((char('('), space0), or, (space0, char(')'))),
        delimited((char('['), space0), or, (space0, char(']'))),
        texts,
        preceded(char('@'), name).map(|n| Expr::Name(format!("@{n}"))),
        call,
        word,
    ))
    .parse(i)
}

fn name(i: &str) -> IResult<&str, String> {
    take_while1(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '!')).map(str::to_owned).parse(i)
}

fn call(i: &str) -> IResult<&str, Expr> {
    let (rest, function) = alt((
        tag_no_case("poi"),
        tag_no_case("qwo"),
        tag_no_case("dwo"),
        tag_no_case("wo"),
        tag_no_case("by"),
        tag_no_case("hi"),
        tag_no_case("low"),
        tag_no_case("not"),
    ))
    .parse(i)?;
    let (rest, inner) = delimited((tag("("), space0), or, (space0, tag(")"))).parse(rest)?;
    Ok((rest, Expr::Call(function.to_lowercase(), Box::new(inner))))
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
    Ok((rest, number(text).map_or_else(|| Expr::Name(text.to_owned()), Expr::Number)))
}

/// A number: hexadecimal unless a prefix says otherwise; backticks anywhere; a trailing `h` allowed.
pub fn number(text: &str) -> Option<u64> {
    let clean: String = text.chars().filter(|c| *c != '`').collect::<String>().to_lowercase();
    let (digits, radix) = match clean.get(..2) {
        Some("0x") => (&clean[2..], 16),
        Some("0n") => (&clean[2..], 10),
        Some("0t") => (&clean[2..], 8),
        Some("0y") => (&clean[2..], 2),
        _ => (clean.as_str(), 16),
    };
    let digits = if radix == 16 { digits.strip_suffix('h').unwrap_or(digits) } else { digits };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn value(e: &Expr, scope: &Scope<'_>) -> Result<u64, String> {
    Ok(match e {
        Expr::Number(n) => *n,
        Expr::Name(n) => named(n, scope)?,
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
    let space = &scope.dump.ok_or("no dump is open")?.space;
    let read = match name {
        "poi" => space.ptr(x),
        "qwo" => space.u64(x),
        "dwo" => space.u32(x).map(u64::from),
        "wo" => space.u16(x).map(u64::from),
        _ => space.u8(x).map(u64::from),
    };
    read.ok_or_else(|| format!("{name}({x:x}): the memory is not in the dump"))
}

fn named(name: &str, scope: &Scope<'_>) -> Result<u64, String> {
    let bare = name.trim_start_matches('@').to_lowercase();
    if let Some(n) = bare.strip_prefix("$t").and_then(|n| n.parse::<usize>().ok()).filter(|&n| n < USER) {
        return Ok(scope.user[n]);
    }
    let dump = scope.dump.ok_or_else(|| format!("`{name}` is not a number, and no dump is open"))?;
    let thread = dump.threads.get(scope.thread);
    let registers = thread.and_then(|t| t.registers.as_ref());
    let plain = bare.trim_start_matches('$');
    let found = match PSEUDO.iter().find(|p| p.0 == plain) {
        Some((_, of)) => of(dump, thread),
        None => registers.and_then(|r| r.get(plain)),
    };
    let module = || {
        dump.modules
            .iter()
            .find(|m| m.stem().to_lowercase() == bare || m.file_name().to_lowercase() == bare)
            .map(|m| m.base)
    };
    let known = ["$ip", "$csp", "$retreg"].contains(&bare.as_str()) || registers.is_none() && name.starts_with('@');
    found.or_else(module).ok_or_else(|| match known {
        true => format!("`{name}`: the dump has no registers of this thread"),
        false => format!("`{name}` is no number, register or module"),
    })
}

/// Whether `name` matches `pattern`, where `*` stands for any text and `?` for any character; case does not count.
pub fn matches(pattern: &str, name: &str) -> bool {
    let lower = |s: &str| s.chars().take(4096).flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (p, n) = (lower(pattern), lower(name));
    let (mut i, mut j) = (0, 0);
    // Where to go on after the last star when what follows does not match.
    let mut back: Option<(usize, usize)> = None;
    while j < n.len() {
        match p.get(i) {
            Some('*') => {
                back = Some((i + 1, j));
                i += 1;
            }
            Some(c) if *c == '?' || Some(c) == n.get(j) => (i, j) = (i + 1, j + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (i, j) = (star, from + 1);
                }
                None => return false,
            },
        }
    }
    p.iter().skip(i).all(|c| *c == '*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn eval(text: &str) -> Result<u64, String> {
        let mut user = [0; 20];
        user[3] = 7;
        evaluate(text, &Scope { dump: None, thread: 0, user: &user })
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
        ] {
            assert_eq!(eval(text), Ok(want), "{text}");
        }
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
        fn never_panics(text in "[0-9a-fx+*/()~@$ poi\\[\\]<>=!\"&|,-]{0,40}") {
            let _ = eval(&text);
        }
    }
}
