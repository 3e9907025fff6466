//! Rows as lines of text: columns and their widths.

use super::cell::{Cell, characters};
use super::mark::{self, Mark};
use super::returns::Col;

/// The widths that columns declare.
pub fn declared(columns: &[Col]) -> Vec<usize> {
    columns.iter().map(|c| usize::from(c.width)).collect()
}

/// The titles of columns as a row.
pub fn column_titles(columns: &[Col]) -> Vec<Cell<'static>> {
    columns.iter().map(|c| Cell::text(c.title)).collect()
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
            mark::begin(out, Mark::of(c, cell), c.right, width);
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
    /// What it holds and how it is aligned; at least so wide.
    pub col: Col,
}

/// A table whose columns get as wide as what they hold: nothing runs together. Rows come as their cells, each behind the
/// letter of its mark, with [`SEPARATOR`] between.
#[derive(Debug)]
pub struct Layout {
    fields: Vec<Field>,
    widths: Vec<usize>,
    marked: bool,
}

impl Layout {
    /// Of these columns, `marked` for a terminal.
    pub fn new(fields: Vec<Field>, marked: bool) -> Self {
        let widths = fields.iter().map(|f| usize::from(f.col.width)).collect();
        Self { fields, widths, marked }
    }

    /// Appends a row in the form that waits.
    pub fn pack<'c>(
        &self,
        cells: impl Iterator<Item = &'c Cell<'c>>,
        out: &mut Vec<u8>,
        push: fn(&Cell<'_>, &mut Vec<u8>),
    ) {
        for (i, (cell, field)) in cells.zip(&self.fields).enumerate() {
            if i > 0 {
                out.push(SEPARATOR);
            }
            out.push(Mark::of(&field.col, cell).letter());
            push(cell, out);
        }
        out.push(b'\n');
    }

    /// Appends the titles, if there are any, and the rows that waited.
    pub fn begin(&mut self, rows: &[u8], out: &mut Vec<u8>) {
        let mut titles = Vec::new();
        let cells: Vec<Cell<'_>> = self.fields.iter().map(|f| Cell::text(f.title.as_str())).collect();
        self.pack(cells.iter(), &mut titles, |cell, out| {
            cell.push_text(out);
        });
        let titles = if self.fields.iter().all(|f| f.title.is_empty()) { Vec::new() } else { titles };
        for row in lines(&titles).chain(lines(rows)) {
            widen(&mut self.widths, row);
        }
        lines(&titles).for_each(|row| self.line(row, true, out));
        lines(rows).for_each(|row| self.line(row, false, out));
    }

    /// Appends one row.
    pub fn row(&mut self, row: &[u8], out: &mut Vec<u8>) {
        for row in lines(row) {
            widen(&mut self.widths, row);
            self.line(row, false, out);
        }
    }

    fn line(&self, row: &[u8], titles: bool, out: &mut Vec<u8>) {
        let start = out.len();
        if self.marked {
            mark::row(out, titles);
        }
        for (i, ((letter, cell), (field, width))) in cells(row).zip(self.fields.iter().zip(&self.widths)).enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            let pad = width.saturating_sub(characters(cell));
            let before = if field.col.right { pad } else { 0 };
            out.resize(out.len() + before, b' ');
            if self.marked {
                mark::begin(out, Mark::of_letter(letter), field.col.right, *width);
            }
            out.extend_from_slice(cell);
            if self.marked {
                mark::end(out);
            }
            out.resize(out.len() + pad - before, b' ');
        }
        end_line(out, start);
    }
}

fn widen(widths: &mut [usize], row: &[u8]) {
    for (width, (_, cell)) in widths.iter_mut().zip(cells(row)) {
        *width = (*width).max(characters(cell));
    }
}

/// The letters and texts of a row that waited.
fn cells(row: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    row.split(|b| *b == SEPARATOR).filter_map(|c| c.split_first()).map(|(letter, cell)| (*letter, cell))
}

fn lines(rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    // The last line ends too.
    rows.split_inclusive(|b| *b == b'\n').map(|l| l.strip_suffix(b"\n").unwrap_or(l))
}
