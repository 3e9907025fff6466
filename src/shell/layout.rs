//! Rows as lines of text: columns and their widths.

use super::cell::{Cell, characters};
use super::mark;
use super::returns::Col;

/// The widths that columns declare.
pub fn declared(columns: &[Col]) -> Vec<usize> {
    columns.iter().map(|c| usize::from(c.width)).collect()
}

/// Makes the columns of width 0 as wide as their widest cell, and title, if titles are shown. The last one, on the left,
/// needs no width, unless a `window` has to share it out.
pub fn fit<'c, R: AsRef<[Cell<'c>]>>(
    columns: &[Col],
    widths: &mut [usize],
    rows: impl Iterator<Item = R>,
    titles: bool,
    window: bool,
) {
    let last = columns.iter().rposition(|c| !c.data_only);
    let open = |(i, c): (usize, &Col)| {
        let fits = c.width > 0 || c.data_only || last == Some(i) && !c.right && !window;
        (!fits).then_some((i, if titles { c.title.len() } else { 0 }))
    };
    let mut widest: Vec<(usize, usize)> = columns.iter().enumerate().filter_map(open).collect();
    let mut scratch = Vec::new();
    for row in rows {
        for (i, width) in &mut widest {
            if let Some(cell) = row.as_ref().get(*i) {
                scratch.clear();
                *width = (*width).max(cell.push_text(&mut scratch));
            }
        }
    }
    for (i, width) in widest {
        if let Some(w) = widths.get_mut(i) {
            *w = width;
        }
    }
}

/// Appends a row as text, `marked` for a terminal.
pub fn render(columns: &[Col], widths: &[usize], cells: &[Cell<'_>], out: &mut Vec<u8>, marked: bool) {
    let mut first = true;
    for (i, cell) in cells.iter().enumerate() {
        let column = columns.get(i);
        if column.is_some_and(|c| c.data_only) {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            out.push(b' ');
        }
        let start = out.len();
        let width = widths.get(i).copied().unwrap_or(0);
        let marked = column.filter(|_| marked);
        if let Some(c) = marked {
            mark::begin(out, mark::Mark::of(c, cell), c.right, width);
        }
        let characters = cell.push_text(out);
        if marked.is_some() {
            mark::end(out);
        }
        let pad = width.saturating_sub(characters);
        if pad == 0 {
            continue;
        }
        let end = out.len();
        out.resize(end + pad, b' ');
        if column.is_some_and(|c| c.right) {
            out.copy_within(start..end, start + pad);
            out[start..start + pad].fill(b' ');
        }
    }
}

/// Takes the blanks off the end of the line that begins at `start`, and ends it.
pub fn end_line(out: &mut Vec<u8>, start: usize) {
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}

/// What stands between the cells of a row that waits for its widths. No cell has it: controls are no part of text.
pub const SEPARATOR: u8 = 0x1F;

/// A column of a table behind pipes.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its title.
    pub title: String,
    /// Aligned right.
    pub right: bool,
    /// Minimum width.
    pub width: usize,
}

/// A table whose columns get as wide as what they hold: nothing runs together.
#[derive(Debug)]
pub struct Layout {
    fields: Vec<Field>,
}

impl Layout {
    /// Of these columns.
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// Appends the titles, if there are any, and rows whose cells [`SEPARATOR`] separates.
    pub fn begin(&mut self, rows: &[u8], out: &mut Vec<u8>) {
        let titles: Vec<String> = self.fields.iter().map(|f| f.title.clone()).collect();
        let titles = titles.join(&char::from(SEPARATOR).to_string());
        let untitled = self.fields.iter().all(|f| f.title.is_empty());
        if !untitled {
            self.widen(titles.as_bytes());
        }
        lines(rows).for_each(|row| self.widen(row));
        if !untitled {
            self.line(titles.as_bytes(), out);
        }
        lines(rows).for_each(|row| self.line(row, out));
    }

    /// Appends one row.
    pub fn row(&mut self, row: &[u8], out: &mut Vec<u8>) {
        self.widen(row);
        self.line(row, out);
    }

    fn widen(&mut self, row: &[u8]) {
        for (field, cell) in self.fields.iter_mut().zip(row.split(|b| *b == SEPARATOR)) {
            field.width = field.width.max(characters(cell));
        }
    }

    fn line(&self, row: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        for (i, (field, cell)) in self.fields.iter().zip(row.split(|b| *b == SEPARATOR)).enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            let pad = field.width.saturating_sub(characters(cell));
            let before = if field.right { pad } else { 0 };
            out.resize(out.len() + before, b' ');
            out.extend_from_slice(cell);
            out.resize(out.len() + pad - before, b' ');
        }
        end_line(out, start);
    }
}

fn lines(rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    // The last line ends too.
    rows.split_inclusive(|b| *b == b'\n').map(|l| l.strip_suffix(b"\n").unwrap_or(l))
}
