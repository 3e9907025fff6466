//! `| where`: conditions on the columns of a row, how they are read and what they say of a row. `!select` has the same, on
//! fields of an object.

use std::cmp::Ordering;

use super::super::cell::Cell;
use super::super::cursor::{Cursor, Unclosed};
use super::super::expr::Scope;
use super::super::expr::pattern::Pattern;
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
    /// A column has no value.
    Missing(C),
    /// The text of a column matches.
    Like(C, Pattern),
}

/// A condition whose columns are places in a row.
pub type Check = Condition<usize>;

/// How columns are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// By key or title, in quotes or brackets where it holds blanks.
    Columns,
    /// As fields from one object to another: `Customer.Name`, `_items[0].Total`.
    Paths,
}

struct Reader<'i> {
    text: Cursor<'i>,
    column: usize,
    depth: usize,
    names: Names,
}

/// Reads what follows `| where`, which begins at `column` of the line.
pub fn read(text: &str, column: usize) -> Result<Condition, SyntaxError> {
    read_with(text, column, Names::Columns)
}

/// As [`read`], where columns are named as fields from one object to another. Text may stand in single quotes too.
pub fn read_paths(text: &str, column: usize) -> Result<Condition, SyntaxError> {
    read_with(text, column, Names::Paths)
}

fn read_with(text: &str, column: usize, names: Names) -> Result<Condition, SyntaxError> {
    let mut r = Reader { text: Cursor::new(text), column, depth: 0, names };
    let condition = r.any()?;
    if !r.text.is_done() {
        return r.wrong("expected `and`, `or` or the end here; text with blanks stands in quotes");
    }
    Ok(condition)
}

/// Signs that end a word.
const ENDS: &str = "()\"'[";

impl<'i> Reader<'i> {
    fn place(&self) -> usize {
        self.column + self.text.at()
    }

    fn wrong<T>(&self, what: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError { column: self.place(), what: what.to_owned() })
    }

    /// Takes a word such as `and`; it may touch a parenthesis.
    fn word(&mut self, word: &str) -> bool {
        self.text.word(word, ENDS)
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.text.sign(sign)
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
        if self.names == Names::Paths
            && let Some(condition) = self.function()?
        {
            return Ok(condition);
        }
        let column = self.name()?;
        let rest = self.text.rest();
        let Some((sign, op)) = OPS.iter().find(|(sign, _)| rest.starts_with(sign)) else {
            return self.in_words(column);
        };
        self.sign(sign);
        if matches!(op, Op::Equal | Op::Unequal) && self.word("null") {
            return Ok(unless(*op == Op::Unequal, Condition::Missing(column)));
        }
        Ok(Condition::Compare(column, *op, self.right()?))
    }

    /// What follows a column that no sign follows: `is null`, `contains TEXT`, `like PATTERN`, each with `not`; or nothing.
    fn in_words(&mut self, column: Name) -> Result<Condition, SyntaxError> {
        if self.word("is") {
            let not = self.word("not");
            return match self.word("null") {
                true => Ok(unless(not, Condition::Missing(column))),
                false => self.wrong("expected `null` or `not null` here"),
            };
        }
        let before = self.text;
        let not = self.word("not");
        for word in ["contains", "like", "startswith", "endswith"] {
            if self.word(word) {
                let condition = self.about_text(column, word)?;
                return Ok(unless(not, condition));
            }
        }
        self.text = before;
        Ok(Condition::Is(column))
    }

    /// The text a column is held against with one of these words.
    fn about_text(&mut self, column: Name, word: &str) -> Result<Condition, SyntaxError> {
        let at = self.place();
        let Right::Literal(l) = self.right()? else {
            return Err(SyntaxError { column: at, what: format!("expected a text after `{word}`") });
        };
        Ok(match word {
            "contains" => Condition::Compare(column, Op::Contains, Right::Literal(l)),
            "like" => Condition::Like(column, Pattern::new(&l.text.replace('%', "*"))),
            _ => Condition::Like(column, Pattern::at(&l.text, word == "startswith")),
        })
    }

    /// `$contains(PATH, TEXT)`, `$wildcardmatch(PATH, PATTERN)`, `$isnull(PATH)`, as NetExt has them.
    fn function(&mut self) -> Result<Option<Condition>, SyntaxError> {
        let rest = self.text.rest();
        let known = [("$contains(", "contains"), ("$wildcardmatch(", "like"), ("$isnull(", "")];
        let is = |name: &str| rest.get(..name.len()).is_some_and(|r| r.eq_ignore_ascii_case(name));
        let Some((name, word)) = known.into_iter().find(|(name, _)| is(name)) else { return Ok(None) };
        self.text.take(name.len());
        let column = self.name()?;
        let condition = if word.is_empty() {
            Condition::Missing(column)
        } else {
            if !self.sign(",") {
                return self.wrong("expected `,` and a text here");
            }
            self.about_text(column, word)?
        };
        if self.sign(")") { Ok(Some(condition)) } else { self.wrong("expected `)` here") }
    }

    /// The text in quotes or brackets that begins here.
    fn enclosed(&mut self, open: char, close: char) -> Result<Option<Name>, SyntaxError> {
        let column = self.place();
        match self.text.enclosed(open, close, self.names == Names::Paths) {
            Ok(text) => Ok(text.map(|t| Name { text: t.to_owned(), column })),
            Err(Unclosed) => self.wrong(&unclosed(open)),
        }
    }

    fn name(&mut self) -> Result<Name, SyntaxError> {
        if self.names == Names::Paths {
            return self.path();
        }
        for (open, close) in [('"', '"'), ('[', ']')] {
            if let Some(name) = self.enclosed(open, close)? {
                return Ok(shown_name(name));
            }
        }
        let column = self.place();
        let text = self.text.until(|c| c.is_whitespace() || "=!<>~()\"&".contains(c));
        if text.is_empty() {
            return self.wrong("expected a condition: COLUMN == VALUE");
        }
        Ok(Name { text: show(text).into_owned(), column })
    }

    fn path(&mut self) -> Result<Name, SyntaxError> {
        if let Some(name) = self.enclosed('"', '"')? {
            return Ok(shown_name(name));
        }
        let column = self.place();
        let text = self.text.rest();
        let text = self.text.take(path_end(text));
        if text.is_empty() {
            return self.wrong("expected a condition: FIELD == VALUE");
        }
        Ok(Name { text: show(text).into_owned(), column })
    }

    fn right(&mut self) -> Result<Right<Name>, SyntaxError> {
        if let Some(name) = self.enclosed('[', ']')? {
            return Ok(Right::Column(shown_name(name)));
        }
        let single = self.names == Names::Paths && self.text.rest().starts_with('\'');
        for quote in ['"', '\''].into_iter().take(1 + usize::from(single)) {
            if let Some(text) = self.enclosed(quote, quote)? {
                return Ok(Right::Literal(Literal::new(&text.text, text.column)));
            }
        }
        let column = self.place();
        let text = self.text.rest();
        let end = literal_end(text, self.names == Names::Paths);
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
        Ok(Right::Literal(Literal::new(self.text.take(end), column)))
    }
}

/// The condition, or that it does not hold.
fn unless(not: bool, condition: Condition) -> Condition {
    if not { Condition::Not(Box::new(condition)) } else { condition }
}

/// Where the path of fields at the start of `text` ends. Brackets hold numbers of elements; the compiler's names for what it
/// makes itself begin with `<`.
pub fn path_end(text: &str) -> usize {
    let (mut angle, mut square, mut starts) = (false, false, true);
    for (i, c) in text.char_indices() {
        match c {
            '<' if starts => angle = true,
            '>' if angle => angle = false,
            '[' => square = true,
            ']' if square => square = false,
            _ if angle || square => {}
            c if c.is_whitespace() || "=!<>~()\"'&,]".contains(c) => return i,
            _ => {}
        }
        starts = c == '.';
    }
    text.len()
}

fn shown_name(name: Name) -> Name {
    Name { text: show(&name.text).into_owned(), ..name }
}

/// Where the value at the start of `text` ends: at a blank or at a parenthesis that it does not open itself, as the names
/// of methods do. With `commas` one outside all parentheses ends it too.
fn literal_end(text: &str, commas: bool) -> usize {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return i,
            ')' => depth -= 1,
            ',' if commas && depth == 0 => return i,
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
            Condition::Compare(..) | Condition::Is(_) | Condition::Missing(_) | Condition::Like(..) => {}
        }
    }

    /// The same with columns as `find` has them, which is told what each is compared with.
    pub fn with_columns<E>(&self, find: &mut dyn FnMut(&Name, Asked<'_>) -> Result<usize, E>) -> Result<Check, E> {
        let mut all = |parts: &[Condition]| parts.iter().map(|p| p.with_columns(find)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Condition::Any(parts) => Check::Any(all(parts)?),
            Condition::All(parts) => Check::All(all(parts)?),
            Condition::Not(inner) => Check::Not(Box::new(inner.with_columns(find)?)),
            Condition::Compare(left, op, Right::Column(right)) => {
                let left = find(left, Asked::Value)?;
                Check::Compare(left, *op, Right::Column(find(right, Asked::Value)?))
            }
            Condition::Compare(left, op, Right::Literal(l)) => {
                Check::Compare(find(left, Asked::Compared(*op, l))?, *op, Right::Literal(l.clone()))
            }
            Condition::Is(name) => Check::Is(find(name, Asked::True)?),
            Condition::Missing(name) => Check::Missing(find(name, Asked::Value)?),
            Condition::Like(name, pattern) => Check::Like(find(name, Asked::Value)?, pattern.clone()),
        })
    }

    /// Finds the columns among those of a table.
    pub fn bind(&self, view: &View) -> Result<Check, Wrong> {
        self.with_columns(&mut |name, asked| {
            let at = view.find(name)?;
            view.checked(at).map_or(Ok(at), |ty| fits(ty, name, asked).map(|()| at))
        })
    }
}

/// What is asked of a column.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'l> {
    /// Whether it is true.
    True,
    /// How it compares with a value as typed.
    Compared(Op, &'l Literal),
    /// Anything that any value answers.
    Value,
}

/// Whether this can be asked of a column with such values.
pub fn fits(ty: Type, name: &Name, asked: Asked<'_>) -> Result<(), Wrong> {
    match asked {
        Asked::Value => Ok(()),
        Asked::Compared(op, l) => compares(ty, op, l),
        Asked::True if ty == Type::Bool => Ok(()),
        Asked::True => Err(Wrong::Value {
            column: name.column,
            what: format!("`{}` is not true or false: compare it (== != < <= > >= ~ !~)", name.text),
        }),
    }
}

/// Whether a value can be compared with those of a column.
fn compares(ty: Type, op: Op, l: &Literal) -> Result<(), Wrong> {
    let wrong = |what: String| Err(Wrong::Value { column: l.column, what });
    if matches!(op, Op::Contains | Op::Lacks) {
        return Ok(());
    }
    match ty {
        Type::Address | Type::Hex => l.hex.as_ref().map(|_| ()).or_else(|why| wrong(why.clone())),
        Type::Bytes | Type::Count | Type::Number | Type::Share if l.decimal.is_none() => {
            wrong(format!("expected a number (decimal, 0x for hexadecimal; kb, mb, gb), not `{}`", l.text))
        }
        Type::Time if l.time.is_none() => {
            wrong(format!("expected a moment such as 2026-11-25 or 2026-11-25T15:59:53Z, not `{}`", l.text))
        }
        _ => Ok(()),
    }
}

/// What a condition is asked of: values by the place of their column.
pub trait Row {
    /// Whether a column is true.
    fn is_true(&mut self, at: usize) -> bool;

    /// Whether a column has no value.
    fn is_missing(&mut self, at: usize) -> bool;

    /// Whether a comparison with a value as typed holds.
    fn against(&mut self, at: usize, op: Op, right: &Literal) -> bool;

    /// Whether a comparison of two columns holds.
    fn against_column(&mut self, at: usize, op: Op, other: usize) -> bool;

    /// Whether the text of a column matches.
    fn is_like(&mut self, at: usize, pattern: &Pattern) -> bool;
}

impl Row for &[Cell<'_>] {
    fn is_true(&mut self, at: usize) -> bool {
        self.get(at).is_some_and(|c| Value::of(c) == Value::Bool(true))
    }

    fn is_missing(&mut self, at: usize) -> bool {
        self.get(at).is_none_or(|c| Value::of(c).is_missing())
    }

    fn against(&mut self, at: usize, op: Op, right: &Literal) -> bool {
        self.get(at).is_some_and(|c| against_literal(c, op, right))
    }

    fn against_column(&mut self, at: usize, op: Op, other: usize) -> bool {
        self.get(at).zip(self.get(other)).is_some_and(|(c, o)| against_cell(c, op, o))
    }

    fn is_like(&mut self, at: usize, pattern: &Pattern) -> bool {
        self.get(at).is_some_and(|c| like(c, pattern))
    }
}

impl Check {
    /// Whether it holds for a row. A missing value is unequal to everything and contains nothing; no other comparison
    /// holds for it.
    pub fn holds(&self, mut row: &[Cell<'_>]) -> bool {
        self.holds_for(&mut row)
    }

    /// As [`Check::holds`], of anything that has values.
    pub fn holds_for(&self, row: &mut impl Row) -> bool {
        match self {
            Check::Any(parts) => parts.iter().any(|p| p.holds_for(row)),
            Check::All(parts) => parts.iter().all(|p| p.holds_for(row)),
            Check::Not(inner) => !inner.holds_for(row),
            Check::Is(at) => row.is_true(*at),
            Check::Missing(at) => row.is_missing(*at),
            Check::Like(at, pattern) => row.is_like(*at, pattern),
            Check::Compare(at, op, Right::Literal(l)) => row.against(*at, *op, l),
            Check::Compare(at, op, Right::Column(other)) => row.against_column(*at, *op, *other),
        }
    }
}

/// Whether the text of a cell matches; that of a missing one does not.
pub fn like(cell: &Cell<'_>, pattern: &Pattern) -> bool {
    match whole(cell) {
        Cell::None => false,
        Cell::Text(t) => pattern.fits(t.chars()),
        other => pattern.fits(shown(other).chars()),
    }
}

/// Whether a comparison of a cell with a value as typed holds.
pub fn against_literal(cell: &Cell<'_>, op: Op, l: &Literal) -> bool {
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

/// Whether a comparison of two cells holds.
pub fn against_cell(cell: &Cell<'_>, op: Op, other: &Cell<'_>) -> bool {
    let (a, b) = (Value::of(cell), Value::of(other));
    if matches!(op, Op::Contains | Op::Lacks) {
        let has = !b.is_missing() && has_text(cell, &shown(other).to_lowercase());
        return has == (op == Op::Contains);
    }
    compared(a.compare(&b), op)
}

/// Whether a comparison holds of values in this order; without one, one of them is missing.
pub fn compared(order: Option<Ordering>, op: Op) -> bool {
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
    fn words_compare_too() {
        let c = |text: &str| read(text, 0).unwrap();
        assert_eq!(
            c("a is null or b"),
            Condition::Any(vec![Condition::Missing(name("a", 0)), Condition::Is(name("b", 13))])
        );
        let missing = |at| Condition::Not(Box::new(Condition::Missing(name("a", at))));
        assert_eq!(c("a is not null"), missing(0));
        assert_eq!(c("(a != null)"), missing(1));
        assert_eq!(c("a == \"null\""), compare(name("a", 0), Op::Equal, "null", 5));
        assert_eq!(c("a contains x"), compare(name("a", 0), Op::Contains, "x", 11));
        let like = |p: &str| Condition::Like(name("a", 0), Pattern::new(p));
        assert_eq!(c("a like x%"), like("x*"));
        assert_eq!(c("a not like \"x y\""), Condition::Not(Box::new(like("x y"))));
        assert_eq!(c("a startswith x*"), like(r"x\**"));
        assert_eq!(c("a endswith x"), like("*x"));
        assert_eq!(read("a is x", 0).unwrap_err().column, 5);
        let row: &[Cell<'_>] = &[Cell::text("Xyz"), Cell::None, Cell::Num(12)];
        let columns = |n: &Name, _: Asked<'_>| n.text.parse::<usize>();
        for (text, holds) in [
            ("0 like x*", true),
            ("0 like y*", false),
            ("2 like 1?", true),
            ("1 like *", false),
            ("1 is null and 2 is not null", true),
            ("0 == null", false),
        ] {
            assert_eq!(c(text).with_columns(&mut { columns }).unwrap().holds(row), holds, "{text}");
        }
    }

    #[test]
    fn paths_of_fields_are_names() {
        let c = |text: &str| read_paths(text, 0).unwrap();
        let path = |text: &str, at| name(text, at);
        assert_eq!(c("_items[0].Total>5"), compare(path("_items[0].Total", 0), Op::Greater, "5", 16));
        assert_eq!(c("[0].Total == 'a b'"), compare(path("[0].Total", 0), Op::Equal, "a b", 13));
        assert_eq!(c("<A>k__Field.B < 1"), compare(path("<A>k__Field.B", 0), Op::Less, "1", 16));
        let other = Condition::Compare(path("A.B", 0), Op::Equal, Right::Column(path("_x[1].C", 7)));
        assert_eq!(c("A.B == [_x[1].C]"), other);
        assert_eq!(c("$contains(A.B, \"x\")"), compare(path("A.B", 10), Op::Contains, "x", 15));
        assert_eq!(c("($isnull(A))"), Condition::Missing(path("A", 9)));
        assert_eq!(c("$wildcardmatch(A, x*)"), Condition::Like(path("A", 15), Pattern::new("x*")));
        for (text, column) in [("$contains(A)", 11), ("A.B == 'x", 7), ("$isnull(A", 9), ("> 1", 0)] {
            assert_eq!(read_paths(text, 0).unwrap_err().column, column, "{text}");
        }
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
            let _ = read_paths(&text, 3);
        }
    }
}
