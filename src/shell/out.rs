//! The one way out: commands hand over lines and table rows, the sink renders text, JSON or CSV.

use std::borrow::Cow;
use std::io::{self, Write};

/// One value in a table row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// Hexadecimal without padding (`7f3a1c000028`); the shell remembers it for address completion.
    Addr(u64),
    /// Hexadecimal zero-padded to the given digits (`00007f3a1c000028`); remembered too.
    AddrPad(u64, u8),
    /// Hexadecimal number that is no address.
    Hex(u64),
    /// Decimal.
    Num(u64),
    /// Signed decimal.
    Int(i64),
    /// Decimal with thousands separators in text, a plain number elsewhere.
    Sep(u64),
    /// A share, printed with two decimals and `%` in text.
    Percent(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A value rendered as the first in text, as the second number elsewhere (sizes in mixed notations).
    As(Cow<'a, str>, u64),
    /// Nothing.
    None,
}

impl<'a> Cell<'a> {
    /// Text cell.
    pub fn text(s: impl Into<Cow<'a, str>>) -> Self {
        Cell::Text(s.into())
    }
}

/// A table column.
#[derive(Debug, Clone, Copy)]
pub struct Col {
    /// Header as SOS prints it.
    pub title: &'static str,
    /// Key in JSON and CSV.
    pub key: &'static str,
    /// Minimum width in text; 0 means as wide as needed (the last column) or computed ([`Out::rows`]).
    pub width: u8,
    /// Aligned right.
    pub right: bool,
}

impl Col {
    /// Right-aligned column.
    pub const fn right(title: &'static str, key: &'static str, width: u8) -> Self {
        Self { title, key, width, right: true }
    }

    /// Left-aligned column.
    pub const fn left(title: &'static str, key: &'static str, width: u8) -> Self {
        Self { title, key, width, right: false }
    }
}

/// How results are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// WinDbg-like text.
    #[default]
    Text,
    /// JSON, one object a command.
    Json,
    /// CSV, one block a table.
    Csv,
}

/// The sink of one command.
pub struct Out {
    sink: Box<dyn Write + Send>,
    columns: Vec<Col>,
    format: Format,
}

impl Out {
    /// Writes text to `sink`.
    pub fn new(sink: Box<dyn Write + Send>, format: Format) -> Self {
        Self { sink, columns: Vec::new(), format }
    }

    /// The rendering chosen by the user.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A line of free text (heading, sentence). In JSON it is collected under `text`; CSV leaves it out.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.sink, "{}", text.as_ref())
    }

    /// Starts a table whose rows follow with [`Out::row`] and stream at once. `name` is its key in JSON.
    /// With `header` the titles are printed first, aligned like the data.
    pub fn table(&mut self, _name: &'static str, columns: &[Col], header: bool) -> io::Result<()> {
        self.columns = columns.to_vec();
        if header {
            let titles: Vec<Cell<'_>> = columns.iter().map(|c| Cell::text(c.title)).collect();
            self.row(&titles)?;
        }
        Ok(())
    }

    /// One row of the current table: cells joined with one space, padded to the column widths.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let col = self.columns.get(i);
            let text = match cell {
                Cell::Addr(x) | Cell::Hex(x) => format!("{x:x}"),
                Cell::AddrPad(x, w) => format!("{x:0w$x}", w = *w as usize),
                Cell::Num(x) => x.to_string(),
                Cell::Int(x) => x.to_string(),
                Cell::Sep(x) => thousands(*x),
                Cell::Percent(p) => format!("{p:.2}%"),
                Cell::Text(t) | Cell::As(t, _) => t.to_string(),
                Cell::None => String::new(),
            };
            if i > 0 {
                line.push(' ');
            }
            let w = col.map_or(0, |c| c.width as usize);
            if col.is_some_and(|c| c.right) {
                line.push_str(&format!("{text:>w$}"));
            } else {
                line.push_str(&format!("{text:<w$}"));
            }
        }
        writeln!(self.sink, "{line}")
    }

    /// A whole small table at once; columns of width 0 become as wide as their widest cell (or title).
    pub fn rows(
        &mut self,
        name: &'static str,
        columns: &[Col],
        header: bool,
        rows: &[Vec<Cell<'_>>],
    ) -> io::Result<()> {
        self.table(name, columns, header)?;
        for r in rows {
            self.row(r)?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut s = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            s.push(',');
        }
        s.push(c);
    }
    s
}
