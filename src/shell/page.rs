//! A part of an answer as data, for a reader with little room: some rows of each table, as many bytes as there is room for,
//! texts cut with their length said, and nothing in them that acts on a terminal. What is left out is counted, not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cell::Cell;
use super::numbers::push_decimal;
use super::quote::{clean, push_json};

/// Most lines of prose of an answer.
pub const NOTES: usize = 40;

/// What part of answers is given.
#[derive(Debug, Clone)]
pub struct Page {
    /// Rows of each table that are passed over.
    pub offset: u64,
    /// Rows of each table that are given.
    pub limit: u64,
    /// Characters of a text that are given.
    pub text: usize,
    /// Bytes of rows and facts that all answers together may have.
    pub bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Page {
    /// A part of so many rows and bytes.
    pub fn new(offset: u64, limit: u64, text: usize, bytes: usize) -> Self {
        Self { offset, limit, text, bytes, used: Arc::default() }
    }

    /// Whether the row behind `passed` rows of its table is one of those given, when `given` of them have been.
    pub fn takes(&self, passed: u64, given: u64) -> bool {
        passed >= self.offset && given < self.limit && self.used.load(Ordering::Relaxed) < self.bytes
    }

    /// Takes note of what was written; whether there was room for it. What had no room ends the page.
    pub fn room_for(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= self.bytes
    }

    /// Appends a cell as JSON.
    pub fn push(&self, cell: &Cell<'_>, out: &mut Vec<u8>) {
        match cell {
            Cell::Text(text) => self.text(text, || text.chars().count(), out),
            Cell::Units(units) => {
                // A character has at most two units: the rest need not be looked at.
                let head = units.get(..self.text.saturating_mul(2).saturating_add(2)).unwrap_or(units);
                self.text(&String::from_utf16_lossy(head), || units.len(), out);
            }
            Cell::Shown(_, value) => self.push(value, out),
            other => other.push_json(out),
        }
    }

    fn text(&self, text: &str, length: impl FnOnce() -> usize, out: &mut Vec<u8>) {
        match text.char_indices().nth(self.text) {
            None => push_json(out, &clean(text)),
            Some((end, _)) => {
                out.extend_from_slice(b"{\"text\":");
                push_json(out, &clean(&text[..end]));
                out.extend_from_slice(b",\"length\":");
                push_decimal(out, length() as u64);
                out.push(b'}');
            }
        }
    }

    /// A line of prose, cut.
    pub fn line(&self, text: &str) -> String {
        match text.char_indices().nth(self.text) {
            None => clean(text),
            Some((end, _)) => format!("{}... ({} characters)", clean(&text[..end]), text.chars().count()),
        }
    }

    /// Appends what stands behind the rows of a table: how many were passed over, and how many there are.
    pub fn push_total(&self, total: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"offset\":");
        push_decimal(out, self.offset.min(total));
        out.extend_from_slice(b",\"total\":");
        push_decimal(out, total);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pushed(cell: &Cell<'_>) -> String {
        let mut out = Vec::new();
        Page::new(0, 9, 3, 100).push(cell, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_cut_and_act_on_nothing() {
        assert_eq!(pushed(&Cell::text("ab\u{1b}")), r#""ab\\x1b""#);
        assert_eq!(pushed(&Cell::text("äöüß")), r#"{"text":"äöü","length":4}"#);
        let units: Vec<u16> = "\u{1F600}\u{1F600}\u{1F600}\u{1F600}".encode_utf16().collect();
        assert_eq!(pushed(&Cell::Units(units[..6].into())), "\"\u{1F600}\u{1F600}\u{1F600}\"");
        assert_eq!(pushed(&Cell::Units(units.into())), "{\"text\":\"\u{1F600}\u{1F600}\u{1F600}\",\"length\":8}");
        assert_eq!(pushed(&Cell::shown("x", Cell::Num(7))), "7");
    }

    #[test]
    fn what_has_no_room_ends_the_page() {
        let page = Page::new(2, 2, 9, 10);
        assert!(!page.takes(1, 0) && page.takes(2, 0) && !page.takes(4, 2));
        assert!(page.room_for(10) && !page.takes(3, 1) && !page.clone().room_for(1));
    }
}
