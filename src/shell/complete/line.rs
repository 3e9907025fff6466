//! Which command of a line is being typed, and which word or part of a word of it.

use crate::shell::parse::each;

/// Script forms, the longer of two that begin alike first.
pub const SCRIPTS: [&str; 5] = ["$$>a<", "$$><", "$$<", "$><", "$<"];

/// The command being typed: behind the last `;`, `{` or line end outside quotes, and behind a choice of threads.
pub fn segment(before: &str) -> &str {
    let (mut start, mut quoted) = (0, false);
    for (i, c) in before.char_indices() {
        match c {
            '"' => quoted = !quoted,
            // In `${` stands no command.
            '{' if !quoted && before[..i].ends_with('$') => {}
            ';' | '{' | '}' | '\n' if !quoted => start = i + 1,
            _ => {}
        }
    }
    let text = before[start..].trim_start();
    match text.strip_prefix('~').and_then(each) {
        Some((_, line)) => before[before.len() - line.len()..].trim_start(),
        None => text,
    }
}

/// Where the last word starts; a quoted one starts at its quote.
pub fn word_start(text: &str) -> usize {
    let quote = text.rfind('"').filter(|_| text.matches('"').count() % 2 == 1);
    quote.unwrap_or_else(|| text.rfind(' ').map_or(0, |i| i + 1))
}

/// Where the last name or number of an expression starts: behind operators and brackets, `@` included.
pub fn atom_start(word: &str) -> usize {
    let inside = |c: char| c.is_alphanumeric() || "_$.`".contains(c);
    let bare = word.trim_end_matches(inside);
    bare.strip_suffix('@').unwrap_or(bare).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_being_typed() {
        for (line, want) in [
            ("!a; .b c", ".b c"),
            (".foreach (o {!dumph", "!dumph"),
            (".foreach (o {!a}) { !do ${o", "!do ${o"),
            (".if (1) {\n  !dumph", "!dumph"),
            ("~*e !dso", "!dso"),
            ("~1s", "~1s"),
            (".echo \"a;b", ".echo \"a;b"),
        ] {
            assert_eq!(segment(line), want, "{line}");
        }
    }

    #[test]
    fn a_quoted_word_starts_at_its_quote() {
        assert_eq!(word_start("!dumpheap -type Sys"), 16);
        assert_eq!(word_start("!dumpheap \"A<B, C"), 10);
        assert_eq!(word_start("!dumpheap \"A<B, C>\" x"), 20);
        assert_eq!(word_start("!dumpheap "), 10);
    }

    #[test]
    fn atoms_stand_behind_operators() {
        for (word, atom) in [
            ("poi(7f", "7f"),
            ("@$re", "@$re"),
            ("poi(@rs", "@rs"),
            ("1+coreclr", "coreclr"),
            ("7f3a`1c", "7f3a`1c"),
            ("(", ""),
        ] {
            assert_eq!(&word[atom_start(word)..], atom);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[!~.;{}()@$ \"\n\\PC]{0,40}") {
            let _ = (segment(&text), word_start(&text), atom_start(&text));
        }
    }
}
