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

/// Offset behind what closes the bracket or quote at `open`. Quotes hide brackets, braces hide parentheses.
pub fn closing(text: &str, open: usize, base: usize) -> Result<usize, SyntaxError> {
    let mut stack: Vec<(char, usize)> = Vec::new();
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < open) {
        let top = stack.last().map(|t| t.0);
        match (top, c) {
            (Some('"'), '"') | (Some('{'), '}') | (Some('('), ')') => {
                stack.pop();
            }
            (Some('"'), _) => {}
            (_, '"' | '{') | (None | Some('('), '(') => stack.push((c, i)),
            _ => {}
        }
        if stack.is_empty() {
            return Ok(i + c.len_utf8());
        }
    }
    let (c, i) = stack.first().copied().unwrap_or((' ', open));
    Err(SyntaxError { column: base + i, what: unclosed(c) })
}

/// Text in brackets at the start of `text` (blanks before it are skipped), and what follows: `open` is `(` or `{`. `None`
/// when none stands there or it is not closed.
pub fn bracketed(text: &str, open: char) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with(open) {
        return None;
    }
    let end = closing(text, 0, 0).ok()?;
    Some((text.get(1..end - 1)?, text.get(end..)?))
}

/// Where a quotation mark stands, whether `\"` within its quotes ends nothing: so it is behind the colon of an option
/// (`-c:"s -a %1 %2 \"MZ\""`). Elsewhere a backslash is a character: paths end with it.
fn escapes(before: Option<char>) -> bool {
    before == Some(':')
}

/// Offset of the first of `separators` outside quotes, or the length.
pub fn split_at(text: &str, separators: &[char], base: usize) -> Result<usize, SyntaxError> {
    let mut quote = None;
    let mut escaping = false;
    let mut before = None;
    for (i, c) in text.char_indices() {
        let last = before.replace(c);
        match quote {
            // `\\` is a backslash.
            Some(_) if escaping && last == Some('\\') => before = None,
            Some(_) if c == '"' => quote = None,
            Some(_) => {}
            None if c == '"' => (quote, escaping) = (Some(i), escapes(last)),
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
        let (mut inside, mut escaping) = (false, false);
        while let Some(&(_, c)) = chars.peek() {
            if c == '"' {
                inside = !inside;
                escaping = inside && escapes(word.text.chars().next_back());
                chars.next();
                continue;
            }
            if c == '\\' && inside && escaping {
                chars.next();
                if let Some((_, c)) = chars.next_if(|n| matches!(n.1, '"' | '\\')) {
                    word.text.push(c);
                } else {
                    word.text.push('\\');
                }
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
