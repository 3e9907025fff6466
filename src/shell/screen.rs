//! Text on its way to a terminal: what is marked in it is made to fit the window and coloured. A log gets the same text
//! whole and plain.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};

use super::fit::{self, Ready};
use super::mark::{self, Line, Mark, Piece};
use super::style::{self, Paint};

/// What is known of the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Asks how many columns it has now.
    pub columns: fn() -> usize,
}

/// A sink before the terminal's.
pub struct Screen {
    to: Box<dyn Write + Send>,
    log: Option<File>,
    window: Window,
    /// Columns; nothing when lines are left as long as they are, or before it was asked.
    columns: Option<usize>,
    wide: bool,
    paint: Option<Paint>,
    /// A line that has not ended.
    rest: Vec<u8>,
}

impl Screen {
    /// Text for `to`, and whole for the log. `wide` leaves lines as long as they are.
    pub fn new(to: Box<dyn Write + Send>, log: Option<File>, window: Window, wide: bool) -> Self {
        Self { to, log, window, columns: None, wide, paint: style::paint(), rest: Vec::new() }
    }

    fn columns(&mut self) -> usize {
        if self.wide {
            return usize::MAX;
        }
        *self.columns.get_or_insert_with(self.window.columns)
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let (bare, end) = line.strip_suffix('\n').map_or((line, ""), |l| (l, "\n"));
        if !mark::any(bare) {
            self.logged(line)?;
            return self.to.write_all(line.as_bytes());
        }
        if self.log.is_some() {
            self.logged(&(mark::plain(bare) + end))?;
        }
        let window = self.columns();
        let mut text = String::with_capacity(line.len() + 32);
        for (i, ready) in lines(bare, window).iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            let titles = matches!(mark::read(bare), Line::Titles(..));
            self.push(&mut text, ready, titles);
        }
        text.push_str(end);
        self.to.write_all(text.as_bytes())
    }

    fn push(&self, text: &mut String, ready: &[Ready<'_>], titles: bool) {
        // A row ends with its last value.
        let used = ready.iter().rposition(|p| !p.1.trim_end_matches(' ').is_empty()).map_or(0, |i| i + 1);
        let ready = ready.get(..used).unwrap_or(ready);
        let Some(paint) = self.paint else { return ready.iter().for_each(|p| text.push_str(&p.1)) };
        if titles {
            let line: String = ready.iter().map(|p| &*p.1).collect();
            return paint.heading(text, &line);
        }
        for (mark, value) in ready {
            match mark {
                Some(mark) => paint.value(text, *mark, value),
                None => text.push_str(value),
            }
        }
    }

    fn logged(&mut self, text: &str) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write_all(text.as_bytes()))
    }

    /// Passes on what waits, though its line has not ended.
    fn pass_rest(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { Ok(()) } else { self.line(&String::from_utf8_lossy(&rest)) }
    }
}

/// The lines a marked line becomes in a window.
fn lines(line: &str, window: usize) -> Vec<Vec<Ready<'_>>> {
    let whole = |text: &'_ str| -> usize { mark::pieces(text).iter().map(|p| fit::columns(p.text)).sum() };
    match mark::read(line) {
        Line::Loose(text) => fit::line(&mark::pieces(text), window),
        Line::Row(text) | Line::Titles(text, None) => fit::row(&mark::pieces(text), window),
        Line::Titles(own, Some(columns)) => {
            let pieces = mark::pieces(columns);
            let mut fitted = fit::row(&pieces, window);
            // Where the columns keep their places the command's own line stands above them.
            if whole(own) <= window && fitted.len() == 1 && unchanged(&fitted, &pieces) {
                return vec![vec![(Some(Mark::Plain), Cow::Borrowed(own))]];
            }
            // `--- Usage Summary ------- Count --- Size`: the name of the table stands in it too.
            if let Some((name, _)) = own.strip_prefix("--- ").and_then(|o| o.split_once(" ---")) {
                fitted.insert(0, vec![(Some(Mark::Plain), Cow::Owned(format!("--- {name} ---")))]);
            }
            fitted
        }
    }
}

fn unchanged(fitted: &[Vec<Ready<'_>>], pieces: &[Piece<'_>]) -> bool {
    let text = |parts: &mut dyn Iterator<Item = &str>| parts.collect::<String>().trim_end().to_owned();
    let ready = fitted.first().map(|l| text(&mut l.iter().map(|p| &*p.1))).unwrap_or_default();
    ready == text(&mut pieces.iter().map(|p| p.text))
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if self.rest.is_empty() && part.ends_with(b"\n") {
                self.line(&String::from_utf8_lossy(part))?;
                continue;
            }
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.pass_rest()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_rest()?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_titles_stand_where_columns_keep_their_places() {
        let mut line = Vec::new();
        mark::row(&mut line, true);
        line.extend(b"--- Usage ---- Count");
        mark::or_titles(&mut line);
        for (mark, right, width, text) in [(Mark::Text, false, 14, "Name"), (Mark::Plain, true, 5, "Count")] {
            mark::begin(&mut line, mark, right, width);
            line.extend(text.as_bytes());
            mark::end(&mut line);
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let shown = |window| -> Vec<String> {
            lines(&line, window).iter().map(|l| l.iter().map(|p| &*p.1).collect()).collect()
        };
        assert_eq!(shown(40), ["--- Usage ---- Count"]);
        assert_eq!(shown(16), ["--- Usage ---", "Name", "         Count"]);
        assert_eq!(mark::plain(&line), "--- Usage ---- Count");
    }
}
