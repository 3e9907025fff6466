//! Ranges as the native debugger has them: `ADDR`, `ADDR END`, `ADDR L N`, `ADDR L-N`, `ADDR L?N`.

use anyhow::{Result, anyhow, bail};

/// Without `L?`, a range of more bytes than this is refused: it is a typing mistake.
const MOST: u128 = 256 << 20;

/// A range: its first address and how many elements it has; `None` when none was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Elements, never more than fit below the end of the address space.
    pub count: Option<u64>,
}

/// The words of a command's arguments, read from the left.
#[derive(Debug)]
pub struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

/// Operators that are words.
const OPERATORS: [&str; 4] = ["mod", "and", "or", "xor"];

impl<'a> Words<'a> {
    /// Over words already split at blanks.
    pub fn new(words: impl Iterator<Item = &'a str>) -> Self {
        Self { words: words.collect(), at: 0 }
    }

    /// The next word, without taking it.
    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    /// Takes the next word.
    pub fn take(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    /// What is left.
    pub fn rest(&self) -> &[&'a str] {
        self.words.get(self.at..).unwrap_or(&[])
    }

    /// Takes an expression: a word with those that belong to it by parentheses or operators.
    pub fn expression(&mut self) -> Option<String> {
        let mut text = self.take()?.to_owned();
        while let Some(next) = self.peek() {
            let open = text.matches('(').count() > text.matches(')').count();
            let ends = text.ends_with(['+', '-', '*', '/', '%', '&', '^', '<', '>'])
                || OPERATORS.iter().any(|o| text.to_ascii_lowercase().ends_with(&format!(" {o}")));
            let continues = next.starts_with(['+', '-', '*', '/', '%', '&', '^', '<', '>', ')'])
                || OPERATORS.iter().any(|o| next.eq_ignore_ascii_case(o));
            if !(open || ends || continues) {
                break;
            }
            text.push(' ');
            text.push_str(next);
            self.at += 1;
        }
        Some(text)
    }
}

/// Takes a range of elements of `size` bytes; `None` when no word is left. `value` evaluates expressions.
pub fn take(words: &mut Words<'_>, size: u64, value: &dyn Fn(&str) -> Result<u64>) -> Result<Option<Range>> {
    let Some(text) = words.expression() else { return Ok(None) };
    let start = value(&text)?;
    let Some(next) = words.peek() else { return Ok(Some(Range { start, count: None })) };
    let range = match length_word(next) {
        Some((any_size, rest)) => {
            words.take();
            length(start, size, any_size, rest, words, value)?
        }
        None => {
            let end = value(&words.expression().unwrap_or_default())?;
            if end < start {
                bail!("the range ends at {end:x}, before it starts at {start:x}");
            }
            let bytes = u128::from(end) - u128::from(start) + 1;
            Range { start, count: Some(limited(bytes.div_ceil(size.into()), size, false)?) }
        }
    };
    Ok(Some(fit(range, size)))
}

/// `L`, `L?` or `L-` with what follows in the same word; `None` when the word is no length.
fn length_word(word: &str) -> Option<(bool, &str)> {
    let rest = word.strip_prefix(['L', 'l'])?;
    let (any, rest) = match rest.strip_prefix('?') {
        Some(r) => (true, r),
        None => (false, rest),
    };
    let starts = |c: char| c.is_ascii_hexdigit() || matches!(c, '-' | '@' | '(' | '$');
    (rest.is_empty() || rest.starts_with(starts)).then_some((any, rest))
}

fn length(
    start: u64,
    size: u64,
    any: bool,
    rest: &str,
    words: &mut Words<'_>,
    value: &dyn Fn(&str) -> Result<u64>,
) -> Result<Range> {
    let text = match rest {
        "" => words.expression().ok_or_else(|| anyhow!("a number of elements is missing after L"))?,
        "-" => format!("-{}", words.expression().unwrap_or_default()),
        text => text.to_owned(),
    };
    match text.strip_prefix('-') {
        Some(back) => {
            let count = limited(value(back)?.into(), size, any)?;
            let bytes = count.checked_mul(size).filter(|b| *b <= start);
            let Some(bytes) = bytes else { bail!("the range would begin before address 0") };
            Ok(Range { start: start - bytes, count: Some(count) })
        }
        None => Ok(Range { start, count: Some(limited(value(&text)?.into(), size, any)?) }),
    }
}

fn limited(count: u128, size: u64, any: bool) -> Result<u64> {
    if !any && count.saturating_mul(size.into()) > MOST {
        bail!("Range error: more than 256 MB; write L? instead of L to mean it");
    }
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Cuts the count to what lies below the end of the address space.
fn fit(range: Range, size: u64) -> Range {
    let most = (u128::from(u64::MAX) - u128::from(range.start) + 1) / u128::from(size.max(1));
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    Range { count: range.count.map(|c| c.min(most)), ..range }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u64> {
        let values = crate::shell::expr::Values::default();
        let scope = crate::shell::expr::Scope { dump: None, thread: 0, values: &values, context: None };
        crate::shell::expr::evaluate(text, &scope).map_err(|e| anyhow!(e))
    }

    fn read(text: &str, size: u64) -> Result<Option<(u64, Option<u64>)>> {
        let mut words = Words::new(text.split_whitespace());
        Ok(take(&mut words, size, &number)?.map(|r| (r.start, r.count)))
    }

    #[test]
    fn ranges() {
        assert_eq!(read("", 1).unwrap(), None);
        assert_eq!(read("1000", 1).unwrap(), Some((0x1000, None)));
        assert_eq!(read("1000 L8", 4).unwrap(), Some((0x1000, Some(8))));
        assert_eq!(read("1000 l 0n10", 4).unwrap(), Some((0x1000, Some(10))));
        assert_eq!(read("1000 + 10 L 2", 4).unwrap(), Some((0x1010, Some(2))));
        assert_eq!(read("( 1000 + 8 ) L2", 4).unwrap(), Some((0x1008, Some(2))));
        assert_eq!(read("1000 101f", 8).unwrap(), Some((0x1000, Some(4))));
        assert_eq!(read("1000 L-4", 8).unwrap(), Some((0xfe0, Some(4))));
        assert_eq!(read("0 L?7fffffff", 8).unwrap(), Some((0, Some(0x7fff_ffff))));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(read("0 L7fffffff", 8).unwrap_err().to_string().contains("Range error"));
        assert!(read("1000 10", 1).is_err());
        assert!(read("10 L-100", 8).is_err());
        assert!(read("10 L", 8).is_err());
        // The end of the address space ends a range.
        assert_eq!(read("ffffffffffffffff L20", 1).unwrap(), Some((u64::MAX, Some(1))));
        assert_eq!(read("0 L?ffffffffffffffff", 8).unwrap(), Some((0, Some(1 << 61))));
        assert_eq!(read("fffffffffffffff0 ffffffffffffffff", 1).unwrap(), Some((u64::MAX - 15, Some(16))));
    }
}
