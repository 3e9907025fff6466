//! The one way out: commands hand over lines and table rows, the sink renders text, JSON or CSV.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Hexadecimal digits of an address of the open dump.
static DIGITS: AtomicUsize = AtomicUsize::new(16);

/// Hexadecimal digits of an address of the open dump, zeros in front included: 16, or 8 where a pointer has 4 bytes.
pub fn digits() -> usize {
    DIGITS.load(Ordering::Relaxed)
}

/// As [`digits`], where SOS leaves out the zeros every address of 8 bytes begins with: 12, or 8.
pub fn narrow_digits() -> usize {
    digits().min(12)
}

/// Tells the size of a pointer of the dump that is opened.
pub fn set_pointer_size(bytes: u8) {
    DIGITS.store(2 * usize::from(bytes), Ordering::Relaxed);
}

/// One value in a table row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// Hexadecimal without padding (`7f3a1c000028`); the shell remembers it for address completion.
    Addr(u64),
    /// Hexadecimal zero-padded to the given digits (`00007f3a1c000028`); remembered too.
    AddrPad(u64, u8),
    /// As `AddrPad` with capitals, as some SOS tables have it.
    AddrUpper(u64, u8),
    /// Hexadecimal as the native debuggers print it, `00007f3a`1c000028`, or 8 digits where a pointer has 4 bytes (the
    /// second value is the size of a pointer); remembered too.
    AddrTick(u64, u8),
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

    /// Appends the cell as text prints it. Control characters of names and strings never reach the terminal.
    fn render(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            // As SOS prints addresses in its tables.
            Cell::Addr(x) => write!(out, "{x:0w$x}", w = narrow_digits()),
            Cell::Hex(x) => write!(out, "{x:x}"),
            Cell::AddrPad(x, w) => write!(out, "{x:0w$x}", w = digits().min(*w as usize)),
            Cell::AddrUpper(x, w) => write!(out, "{x:0w$X}", w = digits().min(*w as usize)),
            Cell::AddrTick(x, 4) => write!(out, "{x:08x}"),
            Cell::AddrTick(x, _) => write!(out, "{:08x}`{:08x}", x >> 32, x & 0xFFFF_FFFF),
            Cell::Num(x) => write!(out, "{x}"),
            Cell::Int(x) => write!(out, "{x}"),
            Cell::Sep(x) => {
                out.push_str(&thousands(*x));
                Ok(())
            }
            Cell::Percent(p) => write!(out, "{p:.2}%"),
            Cell::Text(t) | Cell::As(t, _) => {
                push_clean(out, t);
                Ok(())
            }
            Cell::None => Ok(()),
        };
    }

    fn json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) | Cell::Hex(x) => {
                Value::from(format!("0x{x:x}"))
            }
            Cell::Num(x) | Cell::Sep(x) | Cell::As(_, x) => Value::from(*x),
            Cell::Int(x) => Value::from(*x),
            Cell::Percent(p) => Value::from(*p),
            Cell::Text(t) => Value::from(t.as_ref()),
            Cell::None => Value::Null,
        }
    }

    fn address(&self) -> Option<u64> {
        match self {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) if *x != 0 => Some(*x),
            _ => None,
        }
    }
}

/// Appends `text` with control characters replaced by dots.
fn push_clean(out: &mut String, text: &str) {
    if text.bytes().any(|b| b < 0x20 || b == 0x7F) {
        out.extend(text.chars().map(|c| if c.is_control() { '.' } else { c }));
    } else {
        out.push_str(text);
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

/// What a pipe after a command does with its rows and lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pipe {
    /// `| find TEXT`: only those that contain the text, whatever its case.
    Find(String),
    /// `| top N`: only the first.
    Top(u64),
}

/// Addresses remembered for completion.
const RECENT: usize = 4096;

/// The sink of one command.
pub struct Out {
    sink: Box<dyn Write + Send>,
    columns: Vec<Col>,
    widths: Vec<usize>,
    format: Format,
    pipes: Vec<Pipe>,
    passed: u64,
    line: String,
    cell: String,
    recent: Vec<u64>,
    json: JsonState,
    mid_line: bool,
}

#[derive(Default)]
struct JsonState {
    open: bool,
    in_table: bool,
    tables: usize,
    rows: usize,
    text: Vec<String>,
}

impl Out {
    /// Writes to `sink`.
    pub fn new(sink: Box<dyn Write + Send>, format: Format) -> Self {
        Self {
            sink,
            columns: Vec::new(),
            widths: Vec::new(),
            format,
            pipes: Vec::new(),
            passed: 0,
            line: String::new(),
            cell: String::new(),
            recent: Vec::new(),
            json: JsonState::default(),
            mid_line: false,
        }
    }

    /// Puts pipes behind everything written from now on.
    pub fn set_pipes(&mut self, pipes: Vec<Pipe>) {
        self.pipes = pipes;
        self.passed = 0;
    }

    /// The rendering chosen by the user.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Addresses printed, oldest first.
    pub fn recent(&self) -> &[u64] {
        &self.recent
    }

    fn passes(&mut self, line: &str) -> bool {
        for p in &self.pipes {
            match p {
                Pipe::Find(t) if !line.to_lowercase().contains(t) => return false,
                Pipe::Top(n) if self.passed >= *n => return false,
                _ => {}
            }
        }
        self.passed += 1;
        true
    }

    /// A line of free text (heading, sentence). In JSON it is collected under `text`; CSV leaves it out.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        match self.format {
            Format::Text => {
                if !self.pipes.is_empty() && !self.passes(text) {
                    return Ok(());
                }
                let mut clean = String::with_capacity(text.len());
                for (i, part) in text.split('\n').enumerate() {
                    if i > 0 {
                        clean.push('\n');
                    }
                    push_clean(&mut clean, part);
                }
                writeln!(self.sink, "{}", clean.trim_end_matches(' '))
            }
            Format::Json => {
                if self.json.text.len() < 1 << 20 && (self.pipes.is_empty() || self.passes(text)) {
                    self.json.text.push(text.to_owned());
                }
                Ok(())
            }
            Format::Csv => Ok(()),
        }
    }

    /// Text as it is, without a line end of its own. In JSON it is collected under `text`; CSV leaves it out. Pipes see
    /// whole lines only and pass it.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Text => {
                let mut clean = String::with_capacity(text.len());
                clean.extend(text.chars().map(|c| if c.is_control() && !"\n\t".contains(c) { '.' } else { c }));
                self.mid_line = if text.is_empty() { self.mid_line } else { !text.ends_with('\n') };
                self.sink.write_all(clean.as_bytes())
            }
            Format::Json => {
                self.json.text.push(text.to_owned());
                Ok(())
            }
            Format::Csv => Ok(()),
        }
    }

    /// Whether the last [`Out::print`] left a line unfinished.
    pub fn mid_line(&self) -> bool {
        self.mid_line
    }

    /// Starts a table whose rows follow with [`Out::row`] and stream at once. `name` is its key in JSON.
    /// With `header` the titles are printed first, aligned like the data.
    pub fn table(&mut self, name: &'static str, columns: &[Col], header: bool) -> io::Result<()> {
        self.columns = columns.to_vec();
        self.widths = columns.iter().map(|c| c.width as usize).collect();
        // `top` counts the rows of each table, not what stands above it.
        self.passed = 0;
        match self.format {
            Format::Text if header => {
                let titles: Vec<Cell<'_>> = columns.iter().map(|c| Cell::text(c.title)).collect();
                // The head is no row: pipes leave it.
                let pipes = std::mem::take(&mut self.pipes);
                let result = self.row(&titles);
                self.pipes = pipes;
                result
            }
            Format::Text => Ok(()),
            Format::Json => self.json_table(name, columns),
            Format::Csv => {
                let keys: Vec<&str> = columns.iter().map(|c| c.key).collect();
                if self.json.tables > 0 {
                    writeln!(self.sink)?;
                }
                self.json.tables += 1;
                self.csv_row(keys.into_iter())
            }
        }
    }

    fn json_table(&mut self, name: &str, columns: &[Col]) -> io::Result<()> {
        self.json_close_table()?;
        let lead = if self.json.tables == 0 { "\"tables\":[" } else { "," };
        let keys: Vec<&str> = columns.iter().map(|c| c.key).collect();
        write!(self.sink, "{lead}{{\"name\":\"{name}\",\"columns\":{},\"rows\":[", serde_json::Value::from(keys))?;
        self.json.tables += 1;
        self.json.rows = 0;
        self.json.in_table = true;
        Ok(())
    }

    fn json_close_table(&mut self) -> io::Result<()> {
        if self.json.in_table {
            self.json.in_table = false;
            write!(self.sink, "]}}")?;
        }
        Ok(())
    }

    fn csv_row<'s>(&mut self, fields: impl Iterator<Item = &'s str>) -> io::Result<()> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        let failed = |e: csv::Error| io::Error::other(e.to_string());
        writer.write_record(fields).map_err(failed)?;
        let bytes = writer.into_inner().map_err(|e| io::Error::other(e.to_string()))?;
        self.sink.write_all(&bytes)
    }

    /// One row of the current table: in text, cells joined with one space, padded to the column widths.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for a in cells.iter().filter_map(Cell::address) {
            if self.recent.len() >= RECENT {
                self.recent.drain(..RECENT / 2);
            }
            self.recent.push(a);
        }
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        if self.format == Format::Text || !self.pipes.is_empty() {
            self.render(cells, &mut line);
        }
        let result = if self.pipes.is_empty() || self.passes(&line) { self.emit(cells, &line) } else { Ok(()) };
        self.line = line;
        result
    }

    fn emit(&mut self, cells: &[Cell<'_>], line: &str) -> io::Result<()> {
        match self.format {
            Format::Text => {
                self.sink.write_all(line.trim_end_matches(' ').as_bytes())?;
                self.sink.write_all(b"\n")
            }
            Format::Json => {
                let row = serde_json::Value::Array(cells.iter().map(Cell::json).collect());
                let lead = if self.json.rows == 0 { "" } else { "," };
                self.json.rows += 1;
                write!(self.sink, "{lead}{row}")
            }
            Format::Csv => {
                let fields: Vec<String> = cells
                    .iter()
                    .map(|c| match c.json() {
                        serde_json::Value::String(s) => s,
                        serde_json::Value::Null => String::new(),
                        other => other.to_string(),
                    })
                    .collect();
                self.csv_row(fields.iter().map(String::as_str))
            }
        }
    }

    fn render(&mut self, cells: &[Cell<'_>], line: &mut String) {
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                line.push(' ');
            }
            let width = self.widths.get(i).copied().unwrap_or(0);
            self.cell.clear();
            cell.render(&mut self.cell);
            let pad = width.saturating_sub(self.cell.chars().count());
            let right = self.columns.get(i).is_some_and(|c| c.right);
            if right {
                line.extend(std::iter::repeat_n(' ', pad));
            }
            line.push_str(&self.cell);
            if !right {
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
    }

    /// A whole small table at once; columns of width 0 become as wide as their widest cell (or title).
    pub fn rows(
        &mut self,
        name: &'static str,
        columns: &[Col],
        header: bool,
        rows: &[Vec<Cell<'_>>],
    ) -> io::Result<()> {
        let mut widths: Vec<usize> = columns.iter().map(|c| c.width as usize).collect();
        for (i, w) in widths.iter_mut().enumerate().filter(|(_, w)| **w == 0) {
            let last = i + 1 == columns.len() && !columns[i].right;
            let title = if header { columns[i].title.len() } else { 0 };
            let widest = rows.iter().filter_map(|r| r.get(i)).map(|c| {
                self.cell.clear();
                c.render(&mut self.cell);
                self.cell.chars().count()
            });
            *w = if last { 0 } else { widest.max().unwrap_or(0).max(title) };
        }
        self.table_with(name, columns, header, widths)?;
        for r in rows {
            self.row(r)?;
        }
        Ok(())
    }

    fn table_with(&mut self, name: &'static str, columns: &[Col], header: bool, widths: Vec<usize>) -> io::Result<()> {
        if self.format != Format::Text || !header {
            self.table(name, columns, header)?;
            self.widths = widths;
            return Ok(());
        }
        self.table(name, columns, false)?;
        self.widths = widths;
        let titles: Vec<Cell<'_>> = columns.iter().map(|c| Cell::text(c.title)).collect();
        let pipes = std::mem::take(&mut self.pipes);
        let result = self.row(&titles);
        self.pipes = pipes;
        result
    }

    /// Begins the output of one command (JSON opens its object).
    pub fn begin(&mut self, command: &str) -> io::Result<()> {
        self.json = JsonState { open: true, ..JsonState::default() };
        if self.format == Format::Json {
            write!(self.sink, "{{\"command\":{},", serde_json::Value::from(command))?;
        }
        Ok(())
    }

    /// Ends the output of one command: outcome `complete`, `partial`, `empty` or `failed`, with its reason.
    pub fn end(&mut self, outcome: &str, reason: Option<&str>) -> io::Result<()> {
        if self.format == Format::Json && self.json.open {
            self.json_close_table()?;
            if self.json.tables > 0 {
                write!(self.sink, "],")?;
            }
            let text = serde_json::Value::from(std::mem::take(&mut self.json.text));
            write!(self.sink, "\"text\":{text},\"outcome\":\"{outcome}\"")?;
            if let Some(r) = reason {
                write!(self.sink, ",\"reason\":{}", serde_json::Value::from(r))?;
            }
            writeln!(self.sink, "}}")?;
        }
        self.json.open = false;
        self.sink.flush()
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
