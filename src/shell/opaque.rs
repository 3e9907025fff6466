//! Text that nobody typed: what memory, a command's output or a file holds. On its way through the language it is one
//! opaque piece, so that it never yields a separator, a quotation mark, a brace, a comment, an alias, an option or a
//! command, wherever it is put in.
//!
//! Each of its characters travels as another one, of a plane that Unicode leaves to private use, which no part of the
//! grammar knows. Whoever takes an argument at its word calls [`show`]; whoever reads it as commands does not. What is
//! typed holds such characters only behind a mark ([`typed`]).

use std::borrow::Cow;

/// First of the characters that stand for those below `U+10000`.
const BASE: u32 = 0xF_0000;
/// The next character is opaque and stands for itself: one above `U+FFFF`. These two are the places of surrogates, which
/// are no characters.
const NEXT: char = '\u{FD800}';
/// The next character was typed.
const TYPED: char = '\u{FD801}';

fn is_ours(c: char) -> bool {
    (BASE..BASE + 0x1_0000).contains(&u32::from(c))
}

/// `text` as an opaque piece.
pub fn hide(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 4);
    for c in text.chars() {
        match char::from_u32(BASE + u32::from(c)).filter(|_| u32::from(c) < 0x1_0000) {
            Some(hidden) => out.push(hidden),
            None => out.extend([NEXT, c]),
        }
    }
    out
}

/// What was typed: opaque is nothing in it.
pub fn typed(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_ours) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().flat_map(|c| is_ours(c).then_some(TYPED).into_iter().chain([c])).collect())
}

/// `text` with its opaque pieces as they were.
pub fn show(text: &str) -> Cow<'_, str> {
    shown(text, None)
}

/// `text` with the letters, digits and backticks of its opaque pieces as they were: a number is a number wherever it came
/// from, and an operator is none.
pub fn words(text: &str) -> Cow<'_, str> {
    shown(text, Some(|c| c.is_alphanumeric() || matches!(c, '_' | '`')))
}

/// `text` with the digits of its opaque pieces as they were: `~N` takes a number wherever it came from.
pub fn digits(text: &str) -> Cow<'_, str> {
    shown(text, Some(|c| c.is_ascii_digit()))
}

/// With `which`, only those of the opaque characters are as they were.
fn shown(text: &str, which: Option<fn(char) -> bool>) -> Cow<'_, str> {
    if !text.chars().any(is_ours) {
        return Cow::Borrowed(text);
    }
    let shows = |c: char| which.is_none_or(|w| w(c));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let (hidden, was) = match c {
            NEXT => (chars.clone().next(), chars.next().filter(|n| shows(*n))),
            TYPED => (chars.clone().next(), chars.next().filter(|_| which.is_none())),
            c if is_ours(c) => (None, char::from_u32(u32::from(c) - BASE).filter(|w| shows(*w))),
            c => (None, Some(c)),
        };
        match was {
            Some(was) => out.push(was),
            None => out.extend(std::iter::once(c).chain(hidden)),
        }
    }
    Cow::Owned(out)
}

/// Whether a part of `text` is opaque.
pub fn is_in(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            TYPED => drop(chars.next()),
            c if is_ours(c) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back() {
        for text in ["", "x;.shell a", "\"{}${s}$$*\0\r\n\u{1b}", "ä\u{ffff}\u{1F600}", "\u{F0041}\u{FD800}"] {
            let hidden = hide(text);
            assert_eq!(show(&hidden), text);
            assert!(!hidden.chars().any(|c| u32::from(c) < 0x1_0000), "{hidden:?}");
            assert_eq!(is_in(&hidden), !text.is_empty());
            assert_eq!(show(&typed(text)), text);
            assert!(!is_in(&typed(text)), "{text:?}");
        }
        assert_eq!(show(&format!("a {} b", hide("c;d"))), "a c;d b");
    }

    #[test]
    fn numbers_are_numbers() {
        let text = format!("{}+8", hide("7f00`1234"));
        assert_eq!(words(&text), "7f00`1234+8");
        assert_eq!(words(&hide("1+2")).chars().filter(char::is_ascii).collect::<String>(), "12");
        assert_eq!(show(&words(&hide("1+2"))), "1+2");
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,40}", more in "[\u{F0000}-\u{F00FF}\u{FD800}\u{FD801}a;]{0,9}") {
            let all = format!("{text}{more}");
            assert_eq!(show(&hide(&all)), all.as_str());
            assert_eq!(show(&typed(&all)), all.as_str());
            assert_eq!(show(&words(&hide(&all))), all.as_str());
        }
    }
}
