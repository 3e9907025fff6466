//! Colours: only on a terminal, never with NO_COLOR or `--no-color`. They say what a value is, and are chosen to be read
//! on dark and on light ground.

use std::sync::atomic::{AtomicBool, Ordering};

use owo_colors::{OwoColorize as _, Stream};

use super::mark::Mark;

static OFF: AtomicBool = AtomicBool::new(false);

/// Switches colours off for good.
pub fn disable() {
    OFF.store(true, Ordering::Relaxed);
}

/// An error message for stderr.
pub fn error(text: &str) -> String {
    // A line with a caret below it stands on a line of its own: the caret shows the place only there.
    let gap = if text.starts_with(' ') { '\n' } else { ' ' };
    let text = format!("error:{gap}{text}");
    if OFF.load(Ordering::Relaxed) {
        return text;
    }
    text.if_supports_color(Stream::Stderr, |t| t.red()).to_string()
}

/// The colours of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Whether the terminal has 256 colours: its own eight differ from one to the next, and some are hard to read.
    many: bool,
}

/// The colours of standard output; nothing when it has none.
pub fn paint() -> Option<Paint> {
    if OFF.load(Ordering::Relaxed) || !coloured(Stream::Stdout) {
        return None;
    }
    let named = |name: &str, part: &str| std::env::var(name).is_ok_and(|v| v.contains(part));
    let many = cfg!(windows) || named("TERM", "256") || named("TERM", "direct") || named("COLORTERM", "");
    Some(Paint { many })
}

fn coloured(stream: Stream) -> bool {
    "-".if_supports_color(stream, |t| t.bold()).to_string().len() > 1
}

impl Paint {
    /// The colour of a value: the number among 256 colours, each with a contrast of about 4 to black and to white, and
    /// the code among eight.
    fn code(self, mark: Mark, text: &str) -> Option<(u8, u8)> {
        Some(match mark {
            Mark::Address => (31, 36),
            Mark::TypeName => (64, 32),
            Mark::Size => (133, 35),
            Mark::Growth if text.starts_with('-') => (28, 32),
            Mark::Growth if text.starts_with('+') => (160, 31),
            Mark::Plain | Mark::Text | Mark::Prose | Mark::Growth => return None,
        })
    }

    /// Appends a value in its colour.
    pub fn value(self, out: &mut String, mark: Mark, text: &str) {
        let Some((among_many, among_eight)) = self.code(mark, text) else { return out.push_str(text) };
        let code = if self.many { format!("38;5;{among_many}") } else { among_eight.to_string() };
        out.push_str(&format!("\x1b[{code}m{text}\x1b[0m"));
    }

    /// Appends the titles of a table.
    pub fn heading(self, out: &mut String, text: &str) {
        out.push_str(&format!("\x1b[1m{text}\x1b[0m"));
    }

    /// Text that is no part of what was typed: hints.
    pub fn faint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", if self.many { "38;5;244" } else { "2" })
    }
}

/// How a text that was found is shown in a page.
pub fn found(text: &str) -> String {
    paint().map_or_else(|| text.to_owned(), |_| format!("\x1b[7m{text}\x1b[0m"))
}
