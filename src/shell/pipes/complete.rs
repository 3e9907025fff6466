//! What may stand behind a `|`, for Tab: names of pipes, columns of the command before it.

use super::super::returns::Returns;
use super::super::words::split_at;
use super::columns::View;
use super::declared;
use super::kept::Budget;
use super::stages::Chain;

/// The text behind the last `|` of a line with pipes that ends where it is typed, and that before it.
fn parts(typed: &str) -> Option<(Vec<&str>, &str)> {
    let mut found = Vec::new();
    let mut rest = typed;
    // A quote that is not closed hides what follows it.
    while let Ok(at) = split_at(rest, &['|'], 0) {
        if at == rest.len() {
            break;
        }
        found.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    (!found.is_empty()).then_some((found, rest))
}

/// What could stand at the end of `typed`, a command of which `returns` says what it returns, and the bytes of it that are
/// replaced. `None` where no pipe is being typed.
pub fn candidates(typed: &str, returns: &Returns) -> Option<(usize, Vec<String>)> {
    let (before, last) = parts(typed)?;
    let text = last.trim_start();
    let Some(name_end) = text.find(|c: char| !c.is_alphanumeric()) else {
        let names = declared::ALL.iter().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
        return Some((text.len(), fitting(names.map(str::to_owned), text)));
    };
    let (name, rest) = text.split_at(name_end);
    let name = declared::named(name)?.name;
    let word = &rest[rest.rfind(|c: char| c.is_whitespace() || ",(!".contains(c)).map_or(0, |i| i + 1)..];
    let word = word.strip_prefix('-').unwrap_or(word);
    let done = rest[..rest.len() - word.len()].trim_end();
    let mut all = Vec::new();
    match name {
        "where" if done.ends_with(['=', '<', '>', '~']) => {}
        "where" if behind_value(done) => all.extend(["and", "or"].map(str::to_owned)),
        "where" => {
            all = columns(&before, returns);
            all.push("not".to_owned());
        }
        "sort" | "cols" => all = columns(&before, returns),
        "group" => {
            all = columns(&before, returns);
            if !done.is_empty() && !done.ends_with(',') {
                all.extend(["sum", "count", "max"].map(str::to_owned));
            }
        }
        _ => {}
    }
    Some((word.len(), fitting(all.into_iter(), word)))
}

/// What follows the name of the pipe being typed, until something does. `None` where no pipe is.
pub fn tip(typed: &str) -> Option<Option<String>> {
    let (_, last) = parts(typed)?;
    let name = last.trim_start();
    let bare = name.trim_end();
    let declared = declared::named(bare).filter(|d| !d.syntax.is_empty());
    Some(declared.map(|d| format!("{}{}", if name == bare { " " } else { "" }, d.syntax)))
}

/// Whether a condition is whole here: the last word is the value of a comparison.
fn behind_value(done: &str) -> bool {
    let words: Vec<&str> = done.split_whitespace().collect();
    let compares = |w: &&&str| w.ends_with(['=', '<', '>', '~']);
    let glued = |w: &&str| w.contains(['=', '<', '>', '~']) && !w.ends_with(['=', '<', '>', '~']);
    words.last().is_some_and(|w| w.ends_with(')') || glued(w)) || words.iter().rev().nth(1).filter(compares).is_some()
}

fn fitting(all: impl Iterator<Item = String>, typed: &str) -> Vec<String> {
    let lower = typed.to_lowercase();
    let mut found: Vec<String> = Vec::new();
    for name in all.filter(|n| n.starts_with(&lower)) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Keys of the columns there are behind the pipes `before`; the first of those is the command.
fn columns(before: &[&str], returns: &Returns) -> Vec<String> {
    let pipes: Vec<_> = before.iter().skip(1).filter_map(|p| declared::read(p, 0).ok()).collect();
    let budget = Budget::of(0);
    let views = returns.all_tables().into_iter().filter_map(|t| {
        let view = View::of(t.columns, true);
        Chain::over(view, false, &pipes, &budget).ok().map(|c| c.view)
    });
    views.flat_map(|v| v.data().map(|c| c.key.to_string()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::returns::{Col, Table, Type};
    use super::*;

    const T: Table = Table::new(
        "t",
        &[
            Col::left("MT", "method_table", 0),
            Col::left("", "size", 0).of(Type::Bytes),
            Col::left("", "some", 0).of(Type::Count),
        ],
    );
    const RETURNS: Returns = Returns::tables(&[&T]);

    #[test]
    fn names_and_columns() {
        for (typed, replaced, want) in [
            ("!x | so", 2, &["sort"][..]),
            ("!x | fi", 2, &["find", "findstr"]),
            ("!x | where s", 1, &["size", "some"]),
            ("!x | where size > 1", 1, &[]),
            ("!x | where size > 1 o", 1, &["or"]),
            ("!x | where size>1 an", 2, &["and"]),
            ("!x | where not (me", 2, &["method_table"]),
            ("!x | sort -si", 2, &["size"]),
            ("!x | sort size,-so", 2, &["some"]),
            ("!x | cols size | sort s", 1, &["size"]),
            ("!x | group size s", 1, &["size", "some", "sum"]),
            ("!x | group size sum some | sort s", 1, &["size", "sum_some"]),
            ("!x | top ", 0, &[]),
            ("!x \"a|b\" | wh", 2, &["where"]),
        ] {
            let found = candidates(typed, &RETURNS).unwrap();
            assert_eq!(
                (found.0, found.1.iter().map(String::as_str).collect::<Vec<_>>()),
                (replaced, want.to_vec()),
                "{typed}"
            );
        }
        for (typed, want) in [("!x | sort", Some(" [-]COLUMN,...")), ("!x | top ", Some("N")), ("!x | top 5", None)] {
            assert_eq!(tip(typed), Some(want.map(str::to_owned)), "{typed}");
        }
        assert_eq!(tip("!x top"), None);
        assert_eq!(candidates("!x \"a|so", &RETURNS), None);
        assert_eq!(candidates("!x | nope s", &RETURNS), None);
    }
}
