//! Words, quotes, and mistakes with their place: what every reader of typed text needs.

use super::opaque;

/// A word of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its text, quotes removed.
    pub text: String,
    /// Whether it was quoted: then it is no option.
    pub quoted: bool,
    /// Where it starts in the line, in bytes.
    pub column: usize,
}

/// A mistake in a line: where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SyntaxError {
    /// Byte offset in the line.
    pub column: usize,
    /// What was expected.
    pub what: String,
}

/// Ends what is said of a bracket or quotation mark without its other half.
const UNCLOSED: &str = "is not closed";

/// What is said of such a bracket or quotation mark.
pub fn unclosed(open: char) -> String {
    if open == '"' { format!("this quote {UNCLOSED}") } else { format!("this {open} {UNCLOSED}") }
}

impl SyntaxError {
    /// Whether more text can mend it.
    pub fn is_unclosed(&self) -> bool {
        self.what.ends_with(UNCLOSED)
    }

    /// The line with a caret under the place.
    pub fn caret(&self, line: &str) -> String {
        // Of several lines, the one the place is in.
        let column = (0..=self.column.min(line.len())).rev().find(|c| line.is_char_boundary(*c)).unwrap_or(0);
        let (above, below) = line.split_at(column);
        let before = opaque::show(above.rsplit('\n').next().unwrap_or(""));
        let line = format!("{before}{}", opaque::show(below.lines().next().unwrap_or("")));
        let pad: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("    {line}\n    {pad}^ {}", self.what)
    }
}

/// Offset of the first of `separators` outside quotes, or the length.
pub fn split_at(text: &str, separators: &[char], base: usize) -> Result<usize, SyntaxError> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if c == '"' => quote = None,
            Some(_) => {}
            None if c == '"' => quote = Some(i),
            None if separators.contains(&c) => return Ok(i),
            None => {}
        }
    }
    match quote {
        Some(i) => Err(SyntaxError { column: base + i, what: unclosed('"') }),
        None => Ok(text.len()),
    }
}

/// Splits arguments into words; quotes group, `""` inside quotes is a quote.
pub fn words(text: &str, column: usize) -> Result<Vec<Word>, SyntaxError> {
    let mut words = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if c.is_ascii_whitespace() {
            chars.next();
            continue;
        }
        let mut word = Word { text: String::new(), quoted: c == '"', column: column + start };
        let mut inside = false;
        while let Some(&(_, c)) = chars.peek() {
            if c == '"' {
                inside = !inside;
                chars.next();
                continue;
            }
            if !inside && c.is_ascii_whitespace() {
                break;
            }
            word.text.push(c);
            chars.next();
        }
        if inside {
            return Err(SyntaxError { column: column + start, what: unclosed('"') });
        }
        words.push(word);
    }
    Ok(words)
}
