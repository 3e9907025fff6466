//! What Tab offers while a question is typed: types behind `from`, else fields of the types that are named there.

use super::plan::{self, OWN, Part, Path, Then};
use super::query::{CLAUSES, From};
use super::types::Like;
use crate::session::Session;
use crate::shell::Suggestion;
use crate::shell::pipes::name::Name;

/// Types looked at for their fields.
const MOST_TYPES: usize = 64;
/// What ends a path.
const ENDS: &str = " ,(=<>!~&|";

/// What may follow `typed`; `after` is the rest of the line, which may name the types already.
pub fn suggest(session: &Session, typed: &str, after: &str) -> Suggestion {
    let word = words(typed).last().filter(|(at, w)| at + w.len() == typed.len()).map_or(typed.len(), |w| w.0);
    let before: Vec<&str> = words(typed).take_while(|w| w.0 < word).map(|w| w.1).collect();
    match before.iter().rposition(|w| clause(w).is_some()) {
        Some(n) if clause(before[n]) == Some("from") && n + 1 == before.len() => Suggestion::Type(word),
        Some(n) if clause(before[n]) == Some("from") => {
            Suggestion::Words(word, CLAUSES.iter().filter(|c| **c != "from").map(|c| (*c).to_owned()).collect())
        }
        _ => fields(session, typed, &format!("{typed}{after}")),
    }
}

/// The clause a word begins.
fn clause(word: &str) -> Option<&'static str> {
    CLAUSES.into_iter().find(|c| c.eq_ignore_ascii_case(word))
}

/// Words with their places; blanks between quotes end none.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].len() - text[at..].trim_start().len();
        let (start, mut quoted) = (at, false);
        let ends = |c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        };
        at += text[start..].find(ends).unwrap_or(text.len() - start);
        (start < at).then(|| (start, &text[start..at]))
    })
}

fn fields(session: &Session, typed: &str, question: &str) -> Suggestion {
    let path = typed.rfind(|c| ENDS.contains(c)).map_or(0, |i| i + 1);
    let last = typed[path..].rfind('.').map_or(path, |i| path + i + 1);
    let own = OWN.iter().map(|o| o.0.to_owned());
    let mut found: Vec<String> = if last == path { own.collect() } else { Vec::new() };
    let head = typed[path..last].strip_suffix('.').map(|h| plan::read(&Name { text: h.to_owned(), column: 0 }));
    for mt in types(session, question) {
        match &head {
            None => found.extend(plan::names(session, mt)),
            Some(Ok(Path::Fields(parts))) => {
                found.extend(behind(session, mt, parts).map(|mt| plan::names(session, mt)).unwrap_or_default());
            }
            Some(_) => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    Suggestion::Words(last, found)
}

/// The types that `from` names, of those met on the heap.
fn types(session: &Session, question: &str) -> Vec<u64> {
    let mut from = words(question).map(|w| w.1).skip_while(|w| clause(w) != Some("from")).skip(1);
    let (Some(named), Ok(clr)) = (from.next(), session.clr()) else { return Vec::new() };
    let text = Name { text: named.trim_matches('"').to_owned(), column: 0 };
    let like = Like::of(&From { text, exact: named.starts_with('"') });
    let all = session.types().all();
    all.iter().map(|t| t.mt.address).filter(|&mt| like.takes(clr, mt)).take(MOST_TYPES).collect()
}

/// The declared type of what a path leads to.
fn behind(session: &Session, mut mt: u64, parts: &[Part]) -> Option<u64> {
    let mut first = 0;
    loop {
        let made = plan::make(session, mt, parts, first);
        let declared = Some(made.declared).filter(|&d| d != 0);
        match made.plan.then {
            Then::Value(_) => return declared,
            Then::Follow(next) if next > first => (mt, first) = (declared?, next),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_hold_words_together() {
        let all: Vec<_> = words("a,  from \"A<B, C\" x").collect();
        assert_eq!(all, [(0, "a,"), (4, "from"), (9, "\"A<B, C\""), (18, "x")]);
        assert_eq!(words("from \"A<B, ").last(), Some((5, "\"A<B, ")));
    }

    proptest::proptest! {
        #[test]
        fn words_cover_the_text(text in "[a\" ä,]{0,30}") {
            let mut end = 0;
            for (at, word) in words(&text) {
                assert!(text[end..at].trim().is_empty() && &text[at..at + word.len()] == word);
                end = at + word.len();
            }
            assert!(text[end..].trim().is_empty());
        }
    }
}
