//! What stands behind the name of a pipe.

use super::super::opaque::show;
use super::super::words::{SyntaxError, unclosed, words};
use super::condition;
use super::name::Name;
use super::pipe::{Aggregate, Pipe};

/// Reads what follows the name of a pipe, which begins at this place of the line.
pub type Read = fn(&str, usize) -> Result<Pipe, SyntaxError>;

fn wrong<T>(column: usize, what: &str) -> Result<T, SyntaxError> {
    Err(SyntaxError { column, what: what.to_owned() })
}

/// `TEXT`, `/i` or `-i` before it: case never counts.
pub fn find(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    let words = words(text, column)?;
    let mut words = words.iter().skip_while(|w| !w.quoted && matches!(w.text.as_str(), "/i" | "/I" | "-i"));
    match (words.next(), words.next()) {
        (Some(text), None) => Ok(Pipe::Find(show(&text.text).to_lowercase())),
        (Some(_), Some(more)) => wrong(more.column, "expected one text: quotes go around one with blanks"),
        _ => wrong(column, "expected `find TEXT`"),
    }
}

fn number(text: &str, column: usize, name: &str) -> Result<u64, SyntaxError> {
    let words = words(text, column)?;
    let [word] = words.as_slice() else {
        let place = words.get(1).map_or(column, |w| w.column);
        return wrong(place, &format!("expected a number after `{name}`, and nothing else"));
    };
    let typed = show(&word.text);
    let digits = typed.strip_prefix("0n").unwrap_or(&typed);
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number.or_else(|_| wrong(word.column, &format!("expected a number after `{name}`")))
}

/// `N`.
pub fn top(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    number(text, column, "top").map(Pipe::Top)
}

/// `N`.
pub fn last(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    number(text, column, "last").map(Pipe::Last)
}

/// Nothing.
pub fn count(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    if text.trim().is_empty() { Ok(Pipe::Count) } else { wrong(column, "expected nothing after `count`") }
}

/// `EXPR`.
pub fn condition(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    condition::read(text, column).map(Pipe::Where)
}

/// `[-]COLUMN,...`.
pub fn sort(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    let keys = names(text, column)?.into_iter().map(|n| (n.name, n.minus)).collect::<Vec<_>>();
    if keys.is_empty() { wrong(column, "expected `sort [-]COLUMN,...`") } else { Ok(Pipe::Sort(keys)) }
}

/// `A,B`.
pub fn cols(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    let names = names(text, column)?;
    if let Some(n) = names.iter().find(|n| n.minus) {
        return wrong(n.name.column, "expected the name of a column");
    }
    let names: Vec<Name> = names.into_iter().map(|n| n.name).collect();
    if names.is_empty() { wrong(column, "expected `cols COLUMN,...`") } else { Ok(Pipe::Cols(names)) }
}

/// `COLUMN,... [sum COLUMN] [count] [max COLUMN]`.
pub fn group(text: &str, column: usize) -> Result<Pipe, SyntaxError> {
    let mut all = names(text, column)?.into_iter().peekable();
    let mut keys = Vec::new();
    while let Some(n) = all.next_if(|n| keys.is_empty() || n.comma || n.word().is_none()) {
        if n.minus {
            return wrong(n.name.column, "expected the name of a column");
        }
        keys.push(n.name);
    }
    if keys.is_empty() {
        return wrong(column, "expected `group COLUMN,... [sum COLUMN] [count] [max COLUMN]`");
    }
    let mut aggregates = Vec::new();
    while let Some(n) = all.next() {
        let word = n.word();
        if word == Some("count") {
            aggregates.push(Aggregate::Count);
            continue;
        }
        let (Some(word @ ("sum" | "max")), Some(over)) = (word, all.next()) else {
            return wrong(n.name.column, "expected `sum COLUMN`, `count` or `max COLUMN`");
        };
        let mut over = vec![over.name];
        while let Some(n) = all.next_if(|n| n.comma) {
            over.push(n.name);
        }
        aggregates.extend(over.into_iter().map(if word == "sum" { Aggregate::Sum } else { Aggregate::Max }));
    }
    if aggregates.is_empty() {
        aggregates.push(Aggregate::Count);
    }
    Ok(Pipe::Group(keys, aggregates))
}

/// A name in a list.
struct Listed {
    name: Name,
    /// `-` stood before it.
    minus: bool,
    /// It was quoted or stood in brackets.
    quoted: bool,
    /// A comma stood before it.
    comma: bool,
}

impl Listed {
    /// The word it is, where it may be one of the grammar.
    fn word(&self) -> Option<&'static str> {
        ["sum", "count", "max"].into_iter().find(|w| !self.quoted && self.name.text.eq_ignore_ascii_case(w))
    }
}

/// Names separated by commas or blanks; those with blanks in quotes or brackets.
fn names(text: &str, column: usize) -> Result<Vec<Listed>, SyntaxError> {
    let mut found: Vec<Listed> = Vec::new();
    let mut rest = text;
    let mut comma = false;
    loop {
        rest = rest.trim_start();
        let place = column + text.len() - rest.len();
        if let Some(after) = rest.strip_prefix(',') {
            if comma || found.is_empty() {
                return wrong(place, "expected the name of a column");
            }
            (rest, comma) = (after, true);
            continue;
        }
        if rest.is_empty() {
            return if comma { wrong(place, "expected the name of a column") } else { Ok(found) };
        }
        let (minus, after) = rest.strip_prefix('-').map_or((false, rest), |a| (true, a));
        let place = column + text.len() - after.len();
        let close =
            after.chars().next().and_then(|c| [('"', '"'), ('[', ']')].into_iter().find(|(open, _)| *open == c));
        let (name, after) = match close {
            Some((open, close)) => match after[1..].split_once(close) {
                Some(parts) => parts,
                None => return wrong(place, &unclosed(open)),
            },
            None => after.split_at(after.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(after.len())),
        };
        if name.trim().is_empty() {
            return wrong(place, "expected the name of a column");
        }
        let name = Name { text: show(name).into_owned(), column: place };
        found.push(Listed { name, minus, quoted: close.is_some(), comma });
        (rest, comma) = (after, false);
    }
}
