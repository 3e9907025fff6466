//! A table as text: TSV, CSV or JSON lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::column::{Column, Field, Style};
use crate::shell::numbers::{push_decimal, push_hex, push_signed, rfc3339};
use crate::shell::quote::{push_clean, push_csv, push_json};

/// Rows that go out as lines.
pub struct Lines {
    out: BufWriter<File>,
    style: Style,
    columns: &'static [Column],
    line: Vec<u8>,
}

impl Lines {
    /// Writes the head.
    pub fn begin(file: File, style: Style, columns: &'static [Column]) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        let names = || columns.iter().map(|c| c.name).collect::<Vec<_>>();
        match style {
            Style::Tsv => writeln!(out, "{}", names().join("\t"))?,
            Style::Csv => writeln!(out, "{}", names().join(","))?,
            Style::Jsonl | Style::Parquet => {}
        }
        Ok(Self { out, style, columns, line: Vec::new() })
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
                push_json(&mut self.line, self.columns.get(i).map_or("?", |c| c.name));
                self.line.push(b':');
            }
            push(&mut self.line, self.style, field, fields.len() == 1);
        }
        if self.style == Style::Jsonl {
            self.line.push(b'}');
        }
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn push(line: &mut Vec<u8>, style: Style, field: &Field<'_>, alone: bool) {
    let json = style == Style::Jsonl;
    match *field {
        Field::Hex(v) => quoted(line, json, |line| push_hex(line, v, 1)),
        Field::Num(v) => push_decimal(line, v),
        Field::Int(v) => push_signed(line, v),
        // As short as it may be to be read back as the same.
        Field::Real(v) if v.is_finite() => drop(write!(line, "{v:?}")),
        Field::Time(t) => text(line, style, &rfc3339(t), alone),
        Field::Real(_) | Field::None if json => line.extend_from_slice(b"null"),
        Field::Real(_) | Field::None => text(line, style, "", alone),
        Field::Bool(b) if json => line.extend_from_slice(if b { b"true" } else { b"false" }),
        Field::Bool(b) => line.extend_from_slice(if b { b"True" } else { b"False" }),
        Field::Text(t) | Field::Path(t) => text(line, style, t, alone),
        Field::Content(t) if style == Style::Tsv => content(line, t),
        Field::Content(t) => text(line, style, t, alone),
        Field::List(items) => quoted(line, json, |line| joined(line, items, |line, v| push_hex(line, v, 1))),
        Field::Numbers(items) => quoted(line, json, |line| joined(line, items, push_decimal)),
    }
}

/// Appends several, separated by blanks.
fn joined(line: &mut Vec<u8>, items: &[u64], each: impl Fn(&mut Vec<u8>, u64)) {
    for (i, v) in items.iter().enumerate() {
        if i > 0 {
            line.push(b' ');
        }
        each(line, *v);
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
        Style::Tsv | Style::Parquet => {
            for part in t.split_inclusive('\\') {
                let (text, backslash) = part.strip_suffix('\\').map_or((part, ""), |text| (text, "\\\\"));
                push_clean(line, text);
                line.extend_from_slice(backslash.as_bytes());
            }
        }
    }
}
