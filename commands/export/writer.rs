//! One table file: rows in, TSV, CSV or JSON lines out, streamed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::shell::numbers::{push_decimal, push_hex};
use crate::shell::quote::{push_clean, push_csv, push_json};
use crate::shell::redact;

/// File format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Tab-separated, backslash escapes.
    Tsv,
    /// Comma-separated, quoted as RFC 4180.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Style {
    /// File name extension.
    pub fn extension(self) -> &'static str {
        match self {
            Style::Tsv => "tsv",
            Style::Csv => "csv",
            Style::Jsonl => "jsonl",
        }
    }
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// Address: hexadecimal.
    Hex(u64),
    /// Number.
    Num(u64),
    /// `True` or `False`.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Text that a string or a message holds.
    Content(&'a str),
    /// A path of the file system.
    Path(&'a str),
    /// Several addresses, separated by blanks.
    List(&'a [u64]),
}

/// A table being written.
pub struct Table {
    out: BufWriter<File>,
    style: Style,
    columns: &'static [&'static str],
    line: Vec<u8>,
    rows: u64,
    redact: bool,
}

impl Table {
    /// Makes the file and writes its head.
    pub fn create(path: &Path, style: Style, columns: &'static [&'static str]) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 18, File::create(path)?);
        match style {
            Style::Tsv => writeln!(out, "{}", columns.join("\t"))?,
            Style::Csv => writeln!(out, "{}", columns.join(","))?,
            Style::Jsonl => {}
        }
        Ok(Self { out, style, columns, line: Vec::new(), rows: 0, redact: false })
    }

    /// Keeps texts of the process and paths in.
    pub fn redacted(mut self, on: bool) -> Self {
        self.redact = on;
        self
    }

    /// One row, a value a column.
    pub fn row(&mut self, fields: &[Field<'_>]) -> io::Result<()> {
        self.line.clear();
        if self.style == Style::Jsonl {
            self.line.push(b'{');
        }
        for (i, field) in fields.iter().enumerate() {
            match (self.style, i) {
                (_, 0) => {}
                (Style::Tsv, _) => self.line.push(b'\t'),
                _ => self.line.push(b','),
            }
            if self.style == Style::Jsonl {
                push_json(&mut self.line, self.columns.get(i).copied().unwrap_or("?"));
                self.line.push(b':');
            }
            let hidden = match field {
                Field::Content(t) if self.redact => redact::content(t),
                Field::Path(p) if self.redact => redact::last(p).to_owned(),
                _ => String::new(),
            };
            let field = if hidden.is_empty() { *field } else { Field::Text(&hidden) };
            push(&mut self.line, self.style, &field, fields.len() == 1);
        }
        if self.style == Style::Jsonl {
            self.line.push(b'}');
        }
        self.line.push(b'\n');
        self.rows += 1;
        self.out.write_all(&self.line)
    }

    /// Flushes and returns the number of rows.
    pub fn finish(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.rows)
    }
}

fn push(line: &mut Vec<u8>, style: Style, field: &Field<'_>, alone: bool) {
    let json = style == Style::Jsonl;
    match *field {
        Field::Hex(v) => quoted(line, json, |line| push_hex(line, v, 1)),
        Field::Num(v) => push_decimal(line, v),
        Field::Bool(b) if json => line.extend_from_slice(if b { b"true" } else { b"false" }),
        Field::Bool(b) => line.extend_from_slice(if b { b"True" } else { b"False" }),
        Field::Text(t) | Field::Path(t) => text(line, style, t, alone),
        Field::Content(t) if style == Style::Tsv => content(line, t),
        Field::Content(t) => text(line, style, t, alone),
        Field::List(items) => quoted(line, json, |line| {
            for (i, v) in items.iter().enumerate() {
                if i > 0 {
                    line.push(b' ');
                }
                push_hex(line, *v, 1);
            }
        }),
    }
}

/// Appends what needs no escapes, in quotes where it must have them.
fn quoted(line: &mut Vec<u8>, quotes: bool, of: impl FnOnce(&mut Vec<u8>)) {
    let mark: &[u8] = if quotes { b"\"" } else { b"" };
    line.extend_from_slice(mark);
    of(line);
    line.extend_from_slice(mark);
}

/// What a string holds: all of it but what TSV itself needs, so that other readers' tables can be compared with it.
fn content(line: &mut Vec<u8>, t: &str) {
    for b in t.bytes() {
        match b {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\t' => line.extend_from_slice(b"\\t"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\0' => line.extend_from_slice(b"\\0"),
            b => line.push(b),
        }
    }
}

fn text(line: &mut Vec<u8>, style: Style, t: &str, alone: bool) {
    match style {
        Style::Jsonl => push_json(line, t),
        Style::Csv => push_csv(line, t, alone),
        Style::Tsv => {
            for part in t.split_inclusive('\\') {
                let (text, backslash) = part.strip_suffix('\\').map_or((part, ""), |text| (text, "\\\\"));
                push_clean(line, text);
                line.extend_from_slice(backslash.as_bytes());
            }
        }
    }
}
