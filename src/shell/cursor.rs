//! A place in typed text, for readers that go through it sign by sign.

/// What begins and does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclosed;

/// What is left of a text that is read.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'t> {
    all: &'t str,
    rest: &'t str,
}

impl<'t> Cursor<'t> {
    /// At the start of `text`.
    pub fn new(text: &'t str) -> Self {
        Self { all: text, rest: text }
    }

    /// What is left, blanks before it removed.
    pub fn rest(&self) -> &'t str {
        self.rest.trim_start()
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    /// Where what is left begins, in bytes.
    pub fn at(&self) -> usize {
        self.all.len() - self.rest().len()
    }

    /// Takes the first `length` bytes of what is left.
    pub fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest().split_at_checked(length).unwrap_or((self.rest(), ""));
        self.rest = rest;
        taken
    }

    /// Takes all up to the first character for which `ends` says so.
    pub fn until(&mut self, ends: impl Fn(char) -> bool) -> &'t str {
        let text = self.rest();
        self.take(text.find(ends).unwrap_or(text.len()))
    }

    /// Takes this sign, where it stands here.
    pub fn sign(&mut self, sign: &str) -> bool {
        let stands = self.rest().starts_with(sign);
        if stands {
            self.take(sign.len());
        }
        stands
    }

    /// Takes this word, whatever its case, where it stands here: a blank, the end or one of `ends` follows it.
    pub fn word(&mut self, word: &str, ends: &str) -> bool {
        let Some((start, after)) = self.rest().split_at_checked(word.len()) else { return false };
        let whole = after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || ends.contains(c));
        let stands = whole && start.eq_ignore_ascii_case(word);
        if stands {
            self.take(word.len());
        }
        stands
    }

    /// The text between `open` and `close` that begins here, taken. `None` where none begins; `Err` where it does not end.
    /// With `nested`, pairs of them within it belong to it.
    pub fn enclosed(&mut self, open: char, close: char, nested: bool) -> Result<Option<&'t str>, Unclosed> {
        let Some(inner) = self.rest().strip_prefix(open) else { return Ok(None) };
        let mut depth = 0usize;
        for (i, c) in inner.char_indices() {
            match c {
                c if c == close && depth == 0 => {
                    self.take(open.len_utf8() + i + close.len_utf8());
                    return Ok(inner.get(..i));
                }
                c if c == close => depth -= 1,
                c if c == open && nested => depth += 1,
                _ => {}
            }
        }
        Err(Unclosed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Unclosed};

    #[test]
    fn signs_words_and_what_is_enclosed() {
        let mut c = Cursor::new("  == AND(x [a[1]] \"b\" [c");
        assert!(!c.sign("=!") && c.sign("=="));
        assert!(!c.word("an", "(") && !c.word("and", "") && c.word("and", "("));
        assert_eq!((c.at(), c.take(2)), (8, "(x"));
        assert_eq!(c.enclosed('"', '"', false), Ok(None));
        assert_eq!(c.enclosed('[', ']', true), Ok(Some("a[1]")));
        assert_eq!(c.enclosed('"', '"', false), Ok(Some("b")));
        assert_eq!(c.enclosed('[', ']', false), Err(Unclosed));
        assert_eq!(c.until(char::is_alphabetic), "[");
        assert_eq!(c.take(50), "c");
        assert!(c.is_done());
    }
}
