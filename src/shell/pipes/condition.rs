//! `| where`: conditions on the columns of a row, how they are read and what they say of a row.

use std::cmp::Ordering;

use super::super::cell::Cell;
use super::super::expr::Scope;
use super::super::opaque::show;
use super::super::returns::Type;
use super::super::words::{SyntaxError, unclosed};
use super::columns::{View, Wrong};
use super::literal::{Literal, is_unit};
use super::name::Name;
use super::value::{Value, contains, push_whole, whole};

/// Most parentheses and `not`s in each other: a bound on recursion.
const MAX_DEPTH: usize = 64;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `~`
    Contains,
    /// `!~`
    Lacks,
}

/// How they are written; of two that begin alike the longer first.
const OPS: &[(&str, Op)] = &[
    ("==", Op::Equal),
    ("!=", Op::Unequal),
    ("!~", Op::Lacks),
    ("<=", Op::AtMost),
    (">=", Op::AtLeast),
    ("<", Op::Less),
    (">", Op::Greater),
    ("=", Op::Equal),
    ("~", Op::Contains),
];

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Right<C> {
    /// A value.
    Literal(Literal),
    /// Another column.
    Column(C),
}

/// A condition; `C` names a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition<C = Name> {
    /// One of them holds.
    Any(Vec<Condition<C>>),
    /// All of them hold.
    All(Vec<Condition<C>>),
    /// It does not hold.
    Not(Box<Condition<C>>),
    /// A comparison.
    Compare(C, Op, Right<C>),
    /// A column is true.
    Is(C),
}

/// A condition whose columns are places in a row.
pub type Check = Condition<usize>;

struct Reader<'i> {
    all: &'i str,
    rest: &'i str,
    column: usize,
    depth: usize,
}

/// Reads what follows `| where`, which begins at `column` of the line.
pub fn read(text: &str, column: usize) -> Result<Condition, SyntaxError> {
    let mut r = Reader { all: text, rest: text, column, depth: 0 };
    let condition = r.any()?;
    if !r.rest.trim().is_empty() {
        return r.wrong("expected `and`, `or` or the end here; text with blanks stands in quotes");
    }
    Ok(condition)
}

impl<'i> Reader<'i> {
    fn place(&self) -> usize {
        self.column + self.all.len() - self.rest.trim_start().len()
    }

    fn wrong<T>(&self, what: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError { column: self.place(), what: what.to_owned() })
    }

    /// Takes a word such as `and`; it may touch a parenthesis.
    fn word(&mut self, word: &str) -> bool {
        let text = self.rest.trim_start();
        let Some((start, after)) = text.split_at_checked(word.len()) else { return false };
        let ends = after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || "()\"[".contains(c));
        if !start.eq_ignore_ascii_case(word) || !ends {
            return false;
        }
        self.rest = after;
        true
    }

    fn sign(&mut self, sign: &str) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Result<Condition, SyntaxError> {
        let mut parts = vec![self.all_of()?];
        while self.word("or") {
            parts.push(self.all_of()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn all_of(&mut self) -> Result<Condition, SyntaxError> {
        let mut parts = vec![self.term()?];
        while self.word("and") || self.sign("&&") {
            parts.push(self.term()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return self.wrong("the condition is nested too deep");
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn term(&mut self) -> Result<Condition, SyntaxError> {
        if self.word("not") || self.sign("!") {
            return Ok(Condition::Not(Box::new(self.deeper(Self::term)?)));
        }
        if self.sign("(") {
            let inner = self.deeper(Self::any)?;
            return if self.sign(")") { Ok(inner) } else { self.wrong("expected `)`, `and` or `or` here") };
        }
        let column = self.name()?;
        let rest = self.rest.trim_start();
        let Some((sign, op)) = OPS.iter().find(|(sign, _)| rest.starts_with(sign)) else {
            return Ok(Condition::Is(column));
        };
        self.rest = &rest[sign.len()..];
        Ok(Condition::Compare(column, *op, self.right()?))
    }

    /// The text in quotes or brackets that begins here.
    fn enclosed(&mut self, open: char, close: char) -> Result<Option<Name>, SyntaxError> {
        let column = self.place();
        let Some(inner) = self.rest.trim_start().strip_prefix(open) else { return Ok(None) };
        let Some((text, after)) = inner.split_once(close) else {
            return self.wrong(&unclosed(open));
        };
        self.rest = after;
        Ok(Some(Name { text: text.to_owned(), column }))
    }

    fn name(&mut self) -> Result<Name, SyntaxError> {
        for (open, close) in [('"', '"'), ('[', ']')] {
            if let Some(name) = self.enclosed(open, close)? {
                return Ok(shown_name(name));
            }
        }
        let column = self.place();
        let text = self.rest.trim_start();
        let end = text.find(|c: char| c.is_whitespace() || "=!<>~()\"&".contains(c)).unwrap_or(text.len());
        if end == 0 {
            return self.wrong("expected a condition: COLUMN == VALUE");
        }
        self.rest = &text[end..];
        Ok(Name { text: show(&text[..end]).into_owned(), column })
    }

    fn right(&mut self) -> Result<Right<Name>, SyntaxError> {
        if let Some(name) = self.enclosed('[', ']')? {
            return Ok(Right::Column(shown_name(name)));
        }
        if let Some(text) = self.enclosed('"', '"')? {
            return Ok(Right::Literal(Literal::new(&text.text, text.column)));
        }
        let column = self.place();
        let text = self.rest.trim_start();
        let end = literal_end(text);
        if end == 0 {
            return self.wrong("expected a value here");
        }
        let mut end = end;
        // `1 mb` is one number.
        let next = text[end..].trim_start();
        let unit = next.find(|c: char| c.is_whitespace() || c == ')').map_or(next, |e| &next[..e]);
        if text[..end].starts_with(|c: char| c.is_ascii_digit()) && is_unit(unit) {
            end = text.len() - next.len() + unit.len();
        }
        self.rest = &text[end..];
        Ok(Right::Literal(Literal::new(&text[..end], column)))
    }
}

fn shown_name(name: Name) -> Name {
    Name { text: show(&name.text).into_owned(), ..name }
}

/// Where the value at the start of `text` ends: at a blank or at a parenthesis that it does not open itself, as the names
/// of methods do.
fn literal_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return i,
            ')' => depth -= 1,
            c if c.is_whitespace() && depth == 0 => return i,
            _ => {}
        }
    }
    text.len()
}

impl Condition {
    /// Reads the values that stand for something in this dump.
    pub fn evaluate(&mut self, scope: &Scope<'_>) {
        match self {
            Condition::Any(parts) | Condition::All(parts) => parts.iter_mut().for_each(|p| p.evaluate(scope)),
            Condition::Not(inner) => inner.evaluate(scope),
            Condition::Compare(_, _, Right::Literal(l)) => l.evaluate(scope),
            Condition::Compare(..) | Condition::Is(_) => {}
        }
    }

    /// Finds the columns among those of a table.
    pub fn bind(&self, view: &View) -> Result<Check, Wrong> {
        let all = |parts: &[Condition]| parts.iter().map(|p| p.bind(view)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Condition::Any(parts) => Check::Any(all(parts)?),
            Condition::All(parts) => Check::All(all(parts)?),
            Condition::Not(inner) => Check::Not(Box::new(inner.bind(view)?)),
            Condition::Compare(left, op, Right::Column(right)) => {
                Check::Compare(view.find(left)?, *op, Right::Column(view.find(right)?))
            }
            Condition::Compare(left, op, Right::Literal(l)) => {
                let at = view.find(left)?;
                fits(view.checked(at), *op, l)?;
                Check::Compare(at, *op, Right::Literal(l.clone()))
            }
            Condition::Is(name) => {
                let at = view.find(name)?;
                if view.checked(at).is_some_and(|ty| ty != Type::Bool) {
                    return Err(Wrong::Value {
                        column: name.column,
                        what: format!("`{}` is not true or false: compare it (== != < <= > >= ~ !~)", name.text),
                    });
                }
                Check::Is(at)
            }
        })
    }
}

/// Whether a value can be compared with those of a column.
fn fits(ty: Option<Type>, op: Op, l: &Literal) -> Result<(), Wrong> {
    let wrong = |what: String| Err(Wrong::Value { column: l.column, what });
    if matches!(op, Op::Contains | Op::Lacks) {
        return Ok(());
    }
    match ty {
        Some(Type::Address | Type::Hex) => l.hex.as_ref().map(|_| ()).or_else(|why| wrong(why.clone())),
        Some(Type::Bytes | Type::Count | Type::Number | Type::Share) if l.decimal.is_none() => {
            wrong(format!("expected a number (decimal, 0x for hexadecimal; kb, mb, gb), not `{}`", l.text))
        }
        Some(Type::Time) if l.time.is_none() => {
            wrong(format!("expected a moment such as 2026-11-25 or 2026-11-25T15:59:53Z, not `{}`", l.text))
        }
        _ => Ok(()),
    }
}

impl Check {
    /// Whether it holds for a row. A missing value is unequal to everything and contains nothing; no other comparison
    /// holds for it.
    pub fn holds(&self, row: &[Cell<'_>]) -> bool {
        match self {
            Check::Any(parts) => parts.iter().any(|p| p.holds(row)),
            Check::All(parts) => parts.iter().all(|p| p.holds(row)),
            Check::Not(inner) => !inner.holds(row),
            Check::Is(at) => row.get(*at).is_some_and(|c| Value::of(c) == Value::Bool(true)),
            Check::Compare(at, op, right) => {
                let Some(cell) = row.get(*at) else { return false };
                match right {
                    Right::Literal(l) => against_literal(cell, *op, l),
                    Right::Column(other) => row.get(*other).is_some_and(|o| against_cell(cell, *op, o)),
                }
            }
        }
    }
}

fn against_literal(cell: &Cell<'_>, op: Op, l: &Literal) -> bool {
    if matches!(op, Op::Contains | Op::Lacks) {
        return has_text(cell, &l.lower) == (op == Op::Contains);
    }
    let value = Value::of(cell);
    let right = match value {
        Value::Missing => Value::Missing,
        Value::Hex(_) => l.hex.as_ref().map_or(Value::Missing, |x| Value::Hex(*x)),
        Value::Number(_) => l.decimal.map_or(Value::Missing, Value::Number),
        Value::Bool(_) => truth(cell, l).map_or(Value::Missing, Value::Bool),
        Value::Time(_) => l.time.map_or(Value::Missing, Value::Time),
        Value::Text(_) => Value::Text(l.text.as_str().into()),
    };
    compared(value.compare(&right), op)
}

fn against_cell(cell: &Cell<'_>, op: Op, other: &Cell<'_>) -> bool {
    let (a, b) = (Value::of(cell), Value::of(other));
    if matches!(op, Op::Contains | Op::Lacks) {
        let has = !b.is_missing() && has_text(cell, &shown(other).to_lowercase());
        return has == (op == Op::Contains);
    }
    compared(a.compare(&b), op)
}

fn compared(order: Option<Ordering>, op: Op) -> bool {
    match (op, order) {
        (Op::Unequal, order) => order != Some(Ordering::Equal),
        (_, None) => false,
        (Op::Equal, Some(o)) => o.is_eq(),
        (Op::Less, Some(o)) => o.is_lt(),
        (Op::AtMost, Some(o)) => o.is_le(),
        (Op::Greater, Some(o)) => o.is_gt(),
        (_, Some(o)) => o.is_ge(),
    }
}

/// True or false as typed, or in the words that text has for them.
fn truth(cell: &Cell<'_>, l: &Literal) -> Option<bool> {
    match whole(cell) {
        Cell::Either(_, yes, _) if !yes.is_empty() && yes.eq_ignore_ascii_case(&l.text) => Some(true),
        Cell::Either(_, _, no) if !no.is_empty() && no.eq_ignore_ascii_case(&l.text) => Some(false),
        _ => l.truth,
    }
}

/// The cell as text shows it, whole.
fn shown(cell: &Cell<'_>) -> String {
    let mut bytes = Vec::new();
    push_whole(cell, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a cell contains a text, as it is shown or as data has it.
fn has_text(cell: &Cell<'_>, lower: &str) -> bool {
    match whole(cell) {
        Cell::None => false,
        Cell::Text(t) => contains(t, lower),
        Cell::Units(t) => contains(&String::from_utf16_lossy(t), lower),
        other => {
            let mut data = Vec::new();
            other.push_csv(&mut data, false);
            contains(&shown(other), lower) || contains(&String::from_utf8_lossy(&data), lower)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str, column: usize) -> Name {
        Name { text: text.into(), column }
    }

    fn compare(left: Name, op: Op, right: &str, column: usize) -> Condition {
        Condition::Compare(left, op, Right::Literal(Literal::new(right, column)))
    }

    #[test]
    fn reads_precedence_and_parentheses() {
        assert_eq!(
            read("a == 1 or b<2 and not (c ~ x)", 0).unwrap(),
            Condition::Any(vec![
                compare(name("a", 0), Op::Equal, "1", 5),
                Condition::All(vec![
                    compare(name("b", 10), Op::Less, "2", 12),
                    Condition::Not(Box::new(compare(name("c", 23), Op::Contains, "x", 27))),
                ]),
            ])
        );
        assert_eq!(read(" free ", 7).unwrap(), Condition::Is(name("free", 8)));
        assert_eq!(read("!free", 0).unwrap(), Condition::Not(Box::new(Condition::Is(name("free", 1)))));
    }

    #[test]
    fn values_may_be_names_of_types() {
        for (text, value) in [
            ("x == List<Zoo.A+B>", "List<Zoo.A+B>"),
            ("x ~ Foo(Int32, Int64) and y == 1", "Foo(Int32, Int64)"),
            ("(x != System.Byte[])", "System.Byte[]"),
            ("x == \"a b | (c\"", "a b | (c"),
            ("x > 1 mb and y", "1 mb"),
            ("x > 1.5gb", "1.5gb"),
        ] {
            let found = format!("{:?}", read(text, 0).unwrap());
            assert!(found.contains(&format!("text: {value:?}, raw")), "{text}: {found}");
        }
        let c = read("[Class Name] == [other]", 0).unwrap();
        assert_eq!(c, Condition::Compare(name("Class Name", 0), Op::Equal, Right::Column(name("other", 16))));
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, column) in [
            ("", 0),
            ("a ==", 4),
            ("a == 1 c", 7),
            ("(a == 1", 7),
            ("a == 1 and", 10),
            ("== 1", 0),
            ("\"a", 0),
            ("a == \"", 5),
        ] {
            assert_eq!(read(text, 100).unwrap_err().column, 100 + column, "{text}");
        }
        assert!(read(&"(".repeat(100), 0).unwrap_err().what.contains("deep"));
        assert!(read(&format!("{}a", "not ".repeat(100)), 0).unwrap_err().what.contains("deep"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a-b0-9 ()\\[\\]\"!<>=~&.,]{0,40}|\\PC{0,20}|((a|not|and|or|==|\\(|\\)|1) ){0,20}") {
            let _ = read(&text, 3);
        }
    }
}
