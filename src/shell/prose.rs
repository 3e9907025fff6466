//! Lines of prose as they are printed.

use super::cell::Cell;
use super::layout::end_line;
use super::mark::{self, Mark};
use super::quote::push_clean;
use super::returns::Type;

/// What a terminal is told of a line.
#[derive(Clone, Copy)]
pub enum Values<'v> {
    /// Nothing: it is no terminal, or nothing stands in the line.
    Unmarked,
    /// It is a sentence.
    Prose,
    /// These values stand in it.
    Those(&'v [(Type, &'v Cell<'v>)]),
    /// It is a head, and behind it sentences or paths that go on below where the window is narrow.
    Behind(&'v str, &'v str),
}

/// Appends the lines of a text, clean. `scratch` is empty before and after.
pub fn push(out: &mut Vec<u8>, scratch: &mut Vec<u8>, text: &str, values: Values<'_>) {
    let start = out.len();
    if let Values::Behind(head, text) = values {
        mark::row(out, false);
        mark::begin(out, Mark::Plain, false, 0);
        // A blank stands between the values of a row.
        push_clean(out, head.strip_suffix(' ').unwrap_or(head));
        mark::end(out);
        sentence(out, text);
        return end_line(out, start);
    }
    for (i, part) in text.split('\n').enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        match values {
            Values::Those(values) if !values.is_empty() => {
                push_clean(scratch, part);
                mark::line(out, &String::from_utf8_lossy(scratch), values);
                scratch.clear();
            }
            Values::Prose if !part.is_empty() => sentence(out, part),
            _ => push_clean(out, part),
        }
    }
    end_line(out, start);
}

fn sentence(out: &mut Vec<u8>, text: &str) {
    mark::begin(out, Mark::Prose, false, 0);
    push_clean(out, text);
    mark::end(out);
}
