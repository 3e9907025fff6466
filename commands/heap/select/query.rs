//! What follows `!select`: fields, where from, a condition.

use crate::shell::cursor::{Cursor, Unclosed};
use crate::shell::opaque::show;
use crate::shell::pipes::condition::{Condition, path_end, read_paths};
use crate::shell::pipes::name::Name;
use crate::shell::words::{SyntaxError, closing, unclosed};

/// A question as it was typed.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    /// What is asked of each object.
    pub fields: Vec<Field>,
    /// Which objects; none where options say so.
    pub from: Option<From>,
    /// What has to hold for them.
    pub condition: Option<Condition>,
}

/// A field that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its path as typed; `*` for all of them.
    pub path: Name,
    /// What the column is called, where that was said.
    pub title: Option<String>,
}

/// The objects that are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Part of the names of their types, or an address.
    pub text: Name,
    /// It stood in quotes: the whole name.
    pub exact: bool,
}

/// The words that begin a clause.
pub const CLAUSES: [&str; 3] = ["select", "from", "where"];

/// Reads a question. Its clauses may come in any order; what stands before the first word of one are fields.
pub fn read(text: &str) -> Result<Query, SyntaxError> {
    let mut query = Query::default();
    for (clause, column, text) in clauses(text)? {
        let twice = match clause {
            "select" => !query.fields.is_empty(),
            "from" => query.from.is_some(),
            _ => query.condition.is_some(),
        };
        if twice {
            return Err(SyntaxError { column, what: format!("`{clause}` stands here twice") });
        }
        match clause {
            "select" => query.fields = fields(text, column)?,
            "from" => query.from = Some(from(text, column)?),
            _ => query.condition = Some(read_paths(text, column)?),
        }
    }
    if query.fields.is_empty() {
        let what = "expected fields: FIELD, ... from TYPE [where CONDITION]; * for all of them".to_owned();
        return Err(SyntaxError { column: text.len(), what });
    }
    Ok(query)
}

/// The clauses with their places: text between words that begin one, outside quotes and parentheses.
fn clauses(text: &str) -> Result<Vec<(&'static str, usize, &str)>, SyntaxError> {
    let mut found = Vec::new();
    let (mut clause, mut start, mut at, mut bound) = (CLAUSES[0], 0, 0, true);
    while let Some(c) = text[at..].chars().next() {
        if matches!(c, '"' | '(') {
            // A parenthesis that is not closed is told of where it is read.
            at = match closing(text, at, 0) {
                Ok(end) => end,
                Err(e) if c == '"' => return Err(e),
                Err(_) => text.len(),
            };
            bound = true;
            continue;
        }
        let mut cursor = Cursor::new(&text[at..]);
        let word =
            if bound && c.is_alphabetic() { CLAUSES.into_iter().find(|w| cursor.word(w, "(\"'*")) } else { None };
        if let Some(word) = word {
            if !text[start..at].trim().is_empty() {
                found.push((clause, start, &text[start..at]));
            } else if start > 0 {
                return Err(SyntaxError {
                    column: at,
                    what: format!("nothing stands between `{clause}` and `{word}`"),
                });
            }
            at += word.len();
            (clause, start) = (word, at);
            continue;
        }
        bound = c.is_whitespace();
        at += c.len_utf8();
    }
    match text[start..].trim().is_empty() {
        false => found.push((clause, start, &text[start..])),
        true if start > 0 => return Err(SyntaxError { column: start, what: format!("nothing follows `{clause}`") }),
        true => {}
    }
    Ok(found)
}

/// `FIELD [as NAME], ...`; NetExt's functions and `$a("NAME", FIELD)` too.
fn fields(text: &str, column: usize) -> Result<Vec<Field>, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let mut found = Vec::new();
    loop {
        let mut field = field(&mut cursor, column)?;
        if cursor.word("as", "\"") {
            field.title = Some(title(&mut cursor, column)?);
        }
        found.push(field);
        if !cursor.sign(",") {
            break;
        }
    }
    match cursor.is_done() {
        true => Ok(found),
        false => wrong(&cursor, column, "expected `,`, `as NAME`, `from` or `where` here"),
    }
}

fn wrong<T>(cursor: &Cursor<'_>, column: usize, what: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError { column: column + cursor.at(), what: what.to_owned() })
}

/// Functions of NetExt that say something of the object, or of a field.
const FUNCTIONS: &[(&str, &str)] = &[
    ("$addr", "@address"),
    ("$mt", "@mt"),
    ("$typename", "@type"),
    ("$enumname", ""),
    ("$string", ""),
    ("$rawfield", ""),
    ("$arraysize", ".Length"),
];

fn field(cursor: &mut Cursor<'_>, column: usize) -> Result<Field, SyntaxError> {
    if cursor.rest().starts_with('$') {
        return function(cursor, column);
    }
    let place = column + cursor.at();
    let path = match cursor.enclosed('"', '"', false) {
        Ok(Some(quoted)) => quoted,
        Ok(None) => cursor.take(path_end(cursor.rest())),
        Err(Unclosed) => return wrong(cursor, column, &unclosed('"')),
    };
    if path.is_empty() {
        return wrong(cursor, column, "expected a field here");
    }
    Ok(Field { path: Name { text: show(path).into_owned(), column: place }, title: None })
}

/// `$addr()`, `$enumname(FIELD)`, `$a("NAME", FIELD)`.
fn function(cursor: &mut Cursor<'_>, column: usize) -> Result<Field, SyntaxError> {
    let place = column + cursor.at();
    let name = cursor.until(|c| c.is_whitespace() || c == '(' || c == ',').to_lowercase();
    let known = FUNCTIONS.iter().find(|f| f.0 == name);
    if !cursor.sign("(") || known.is_none() && name != "$a" {
        let names: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).chain(["$a"]).collect();
        let what = format!("no function `{name}` here; there are {}", names.join("(), ") + "()");
        return Err(SyntaxError { column: place, what });
    }
    let titled = if name == "$a" { Some(title(cursor, column)?) } else { None };
    if titled.is_some() && !cursor.sign(",") {
        return wrong(cursor, column, "expected `,` and a field here");
    }
    let behind = known.map_or("", |f| f.1);
    let mut inner = match cursor.rest().starts_with(')') {
        true => Field { path: Name { text: String::new(), column: place }, title: None },
        false => field(cursor, column)?,
    };
    match behind.starts_with('@') {
        true if inner.path.text.is_empty() => inner.path.text = behind.to_owned(),
        true => return Err(SyntaxError { column: inner.path.column, what: format!("{name}() says it of the object") }),
        false if inner.path.text.is_empty() => return wrong(cursor, column, "expected a field here"),
        false => inner.path.text.push_str(behind),
    }
    inner.title = titled.or(inner.title);
    if cursor.sign(")") { Ok(inner) } else { wrong(cursor, column, "expected `)` here") }
}

/// A name for a column.
fn title(cursor: &mut Cursor<'_>, column: usize) -> Result<String, SyntaxError> {
    let text = match cursor.enclosed('"', '"', false) {
        Ok(Some(quoted)) => quoted,
        Ok(None) => cursor.until(|c| c.is_whitespace() || ",()".contains(c)),
        Err(Unclosed) => return wrong(cursor, column, &unclosed('"')),
    };
    let text = show(text.trim()).into_owned();
    if text.is_empty() { wrong(cursor, column, "expected a name for the column here") } else { Ok(text) }
}

fn from(text: &str, column: usize) -> Result<From, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let place = column + cursor.at();
    let quoted = match cursor.enclosed('"', '"', false) {
        Ok(quoted) => quoted,
        Err(Unclosed) => return wrong(&cursor, column, &unclosed('"')),
    };
    let exact = quoted.is_some();
    let name = quoted.unwrap_or_else(|| cursor.take(cursor.rest().len())).trim();
    if !cursor.is_done() {
        return wrong(&cursor, column, "expected `where` or the end here; sort and group with | sort and | group");
    }
    // Names of types have blanks behind commas alone.
    let mut blanks = name.match_indices(char::is_whitespace).filter(|(i, _)| !name[..*i].trim_end().ends_with(','));
    if let Some((at, _)) = blanks.next().filter(|_| !exact) {
        let what = match name[at..].trim_start().starts_with('-') {
            true => "options stand before the fields: !select -live FIELD, ... from TYPE",
            false => "expected `where` or the end here; sort and group with | sort and | group",
        };
        return Err(SyntaxError { column: place + at + 1, what: what.to_owned() });
    }
    Ok(From { text: Name { text: show(name).into_owned(), column: place }, exact })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn field(path: &str, column: usize) -> Field {
        Field { path: Name { text: path.into(), column }, title: None }
    }

    #[test]
    fn clauses_in_any_order() {
        let q = read("A.B, _x[1].C as c from Zoo.Cat where (from1 == \"where x\") and A.B > 1").unwrap();
        assert_eq!(q.fields, [field("A.B", 0), Field { title: Some("c".into()), ..field("_x[1].C", 5) }]);
        let from = |text: &str, column, exact| Some(From { text: Name { text: text.into(), column }, exact });
        assert_eq!(q.from, from("Zoo.Cat", 23, false));
        assert!(q.condition.is_some());
        let q = read("from \"List<Zoo.Cat, X>\" select *").unwrap();
        assert_eq!((q.fields, q.from), (vec![field("*", 31)], from("List<Zoo.Cat, X>", 5, true)));
        let q = read("where ($contains(A, \"x\")) select $addr(), $a(\"n\", A), $enumname(K), $arraysize(A.Items)")
            .unwrap();
        let paths: Vec<&str> = q.fields.iter().map(|f| f.path.text.as_str()).collect();
        assert_eq!(paths, ["@address", "A", "K", "A.Items.Length"]);
        assert_eq!(q.fields[1].title.as_deref(), Some("n"));
        assert_eq!(read("A from Dictionary<Int32, X>").unwrap().from, from("Dictionary<Int32, X>", 7, false));
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, column) in [
            ("", 0),
            ("A from X from Y", 13),
            ("A from where B", 7),
            ("A B from X", 2),
            ("A, from X", 3),
            ("A from", 6),
            ("A from X order by A", 9),
            ("A from X where", 14),
            ("$nope(A) from X", 0),
            ("$addr(A) from X", 6),
            ("A from \"X\" Y", 11),
            ("A from \"X", 7),
            ("A from X where B ==", 19),
        ] {
            assert_eq!(read(text).unwrap_err().column, column, "{text}: {:?}", read(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "((a|select|from|where|and|\\(|\\)|,|\\$a|\\*|\"|'|==|1|as|[ ]) ?){0,24}|\\PC{0,30}") {
            let _ = read(&text);
        }
    }
}
