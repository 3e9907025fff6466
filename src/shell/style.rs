//! Colours: only on a terminal, never with NO_COLOR or `--no-color`.

use std::sync::atomic::{AtomicBool, Ordering};

use owo_colors::{OwoColorize as _, Stream};

static OFF: AtomicBool = AtomicBool::new(false);

/// Switches colours off for good.
pub fn disable() {
    OFF.store(true, Ordering::Relaxed);
}

/// An error message for stderr.
pub fn error(text: &str) -> String {
    let text = format!("error: {text}");
    if OFF.load(Ordering::Relaxed) {
        return text;
    }
    text.if_supports_color(Stream::Stderr, |t| t.red()).to_string()
}

/// A heading for stdout.
pub fn heading(text: &str) -> String {
    if OFF.load(Ordering::Relaxed) {
        return text.to_owned();
    }
    text.if_supports_color(Stream::Stdout, |t| t.bold()).to_string()
}
