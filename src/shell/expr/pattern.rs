//! Patterns as the native debuggers have them: `*` any text, `?` any character, `[a-z7]` one of these, `#` none or more and
//! `+` one or more of what stands before it, `\` takes the next character at its word. Case does not count.

use std::ops::RangeInclusive;

/// Longest pattern, in characters: what is behind them is left out.
const MOST: usize = 4096;

/// A pattern, read once for many texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    items: Vec<Item>,
}

/// What one place of a pattern takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    Any,
    Is(char),
    Among(Vec<RangeInclusive<char>>),
}

impl One {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Is(own) => *own == c,
            Self::Among(ranges) => ranges.iter().any(|r| r.contains(&c)),
        }
    }
}

/// A place of a pattern, and how often it may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    one: One,
    none: bool,
    many: bool,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Self {
        Self { items: read(pattern) }
    }

    /// That of texts that hold `text` at their start, or at their end.
    pub fn at(text: &str, start: bool) -> Self {
        let mut plain = String::new();
        for c in text.chars() {
            if "*?[]#+\\".contains(c) {
                plain.push('\\');
            }
            plain.push(c);
        }
        Self::new(&if start { plain + "*" } else { format!("*{plain}") })
    }

    /// Whether all of a text matches. Each character of the text is held against each place of the pattern once.
    pub fn fits(&self, text: impl Iterator<Item = char>) -> bool {
        let text = text.flat_map(char::to_lowercase);
        // Places are bits where they have room: nothing is allocated for a text then.
        match self.items.len() < 128 {
            true => self.steps(text, 0u128),
            false => self.steps(text, vec![false; self.items.len() + 1]),
        }
    }

    fn steps<P: Places>(&self, text: impl Iterator<Item = char>, mut now: P) -> bool {
        let items = &self.items;
        // Which places may come next.
        let mut next = now.clone();
        now.reach(items, 0);
        for c in text {
            next.clear();
            let mut lives = false;
            for (i, item) in items.iter().enumerate() {
                if now.has(i) && item.one.takes(c) {
                    lives = true;
                    next.reach(items, i + 1);
                    if item.many {
                        next.set(i);
                    }
                }
            }
            if !lives {
                return false;
            }
            std::mem::swap(&mut now, &mut next);
        }
        now.has(items.len())
    }
}

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).fits(text.chars())
}

/// A set of places of a pattern.
trait Places: Clone {
    fn clear(&mut self);
    fn set(&mut self, at: usize);
    fn has(&self, at: usize) -> bool;

    /// Marks `at` and what can be reached from there without a character.
    fn reach(&mut self, items: &[Item], mut at: usize) {
        self.set(at);
        while items.get(at).is_some_and(|i| i.none) {
            at += 1;
            self.set(at);
        }
    }
}

impl Places for u128 {
    fn clear(&mut self) {
        *self = 0;
    }
    fn set(&mut self, at: usize) {
        *self |= 1 << at;
    }
    fn has(&self, at: usize) -> bool {
        *self >> at & 1 == 1
    }
}

impl Places for Vec<bool> {
    fn clear(&mut self) {
        self.fill(false);
    }
    fn set(&mut self, at: usize) {
        if let Some(place) = self.get_mut(at) {
            *place = true;
        }
    }
    fn has(&self, at: usize) -> bool {
        self.get(at).copied().unwrap_or(false)
    }
}

fn read(pattern: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut chars = pattern.chars().take(MOST).flat_map(char::to_lowercase).peekable();
    while let Some(c) = chars.next() {
        let one = match (c, items.last_mut()) {
            ('*', _) => {
                items.push(Item { one: One::Any, none: true, many: true });
                continue;
            }
            ('#', Some(last)) => {
                (last.none, last.many) = (true, true);
                continue;
            }
            ('+', Some(last)) => {
                last.many = true;
                continue;
            }
            ('?', _) => One::Any,
            ('[', _) => {
                let mut rest = chars.clone();
                match among(&mut rest) {
                    Some(ranges) => {
                        chars = rest;
                        One::Among(ranges)
                    }
                    // What is not closed is no list.
                    None => One::Is('['),
                }
            }
            ('\\', _) => One::Is(chars.next().unwrap_or('\\')),
            (c, _) => One::Is(c),
        };
        items.push(Item { one, none: false, many: false });
    }
    items
}

/// What stands in brackets, behind the first.
fn among(chars: &mut impl Iterator<Item = char>) -> Option<Vec<RangeInclusive<char>>> {
    let mut ranges: Vec<RangeInclusive<char>> = Vec::new();
    let mut open = false;
    loop {
        let c = match chars.next()? {
            ']' => break,
            '-' if !ranges.is_empty() && !open => {
                open = true;
                continue;
            }
            '\\' => chars.next()?,
            c => c,
        };
        match ranges.last_mut() {
            Some(last) if open => *last = *last.start()..=c,
            _ => ranges.push(c..=c),
        }
        open = false;
    }
    // A last `-` stands for itself.
    if open {
        ranges.push('-'..='-');
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("core*", "CoreClr", true),
            ("*clr", "coreclr", true),
            ("c?re*r", "coreclr", true),
            ("core", "coreclr", false),
            ("*a*b", "xaxbxb", true),
            ("a*b*c", "abbc_", false),
            ("Prog[er-t7]am", "Prog7am", true),
            ("Prog[er-t7]am", "Progsam", true),
            ("Prog[er-t7]am", "Progxam", false),
            ("Lo#p", "Lp", true),
            ("Lo#p", "LOOOP", true),
            ("Lo+p", "Lp", false),
            ("lo+p", "LOOOP", true),
            ("a[b-]c", "a-c", true),
            (r"c:\\x\*", r"C:\x*", true),
            (r"c:\\x\*", r"C:\xy", false),
            ("[x", "[X", true),
            ("+a", "+a", true),
            ("", "", true),
            ("", "a", false),
            ("???", "ab", false),
            ("[a-z]#", "", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    /// The plain way: what each place takes, tried one after the other.
    fn naive(pattern: &[Item], text: &[char]) -> bool {
        let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
        if first.none && naive(rest, text) {
            return true;
        }
        let Some((_, after)) = text.split_first().filter(|(c, _)| first.one.takes(**c)) else { return false };
        naive(rest, after) || first.many && naive(pattern, after)
    }

    proptest::proptest! {
        #[test]
        fn as_the_plain_way(pattern in "[ab*?#+\\[\\]\\\\-]{0,8}", text in "[ab*\\[-]{0,8}") {
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(matches(&pattern, &text), naive(&read(&pattern), &chars), "{pattern} {text}");
        }
    }

    #[test]
    fn starts_and_ends_are_taken_at_their_word() {
        let fits = |p: Pattern, text: &str| p.fits(text.chars());
        assert!(fits(Pattern::at("a*[b]", true), "A*[B] and more"));
        assert!(!fits(Pattern::at("a*", true), "ab"));
        assert!(fits(Pattern::at("\\+", false), "what ends with \\+"));
        assert!(!fits(Pattern::at("x", false), "x "));
    }

    #[test]
    fn long_ones_end() {
        assert!(!matches(&format!("{}b", "a*".repeat(1000)), &"a".repeat(4000)));
    }
}
