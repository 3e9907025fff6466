//! One table file: rows in, TSV, CSV or JSON lines out, streamed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

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
    /// Several addresses, separated by blanks.
    List(&'a [u64]),
}

/// A table being written.
pub struct Table {
    out: BufWriter<File>,
    style: Style,
    columns: &'static [&'static str],
    line: String,
    rows: u64,
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
        Ok(Self { out, style, columns, line: String::new(), rows: 0 })
    }

    /// One row, a value a column.
    pub fn row(&mut self, fields: &[Field<'_>]) -> io::Result<()> {
        self.line.clear();
        if self.style == Style::Jsonl {
            self.line.push('{');
        }
        for (i, field) in fields.iter().enumerate() {
            match (self.style, i) {
                (_, 0) => {}
                (Style::Tsv, _) => self.line.push('\t'),
                _ => self.line.push(','),
            }
            if self.style == Style::Jsonl {
                let _ = write!(self.line, "\"{}\":", self.columns.get(i).copied().unwrap_or("?"));
            }
            push(&mut self.line, self.style, field);
        }
        if self.style == Style::Jsonl {
            self.line.push('}');
        }
        self.line.push('\n');
        self.rows += 1;
        self.out.write_all(self.line.as_bytes())
    }

    /// Flushes and returns the number of rows.
    pub fn finish(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.rows)
    }
}

fn push(line: &mut String, style: Style, field: &Field<'_>) {
    let quoted = style == Style::Jsonl;
    // Writing to a String cannot fail.
    let _ = match *field {
        Field::Hex(v) if quoted => write!(line, "\"{v:x}\""),
        Field::Hex(v) => write!(line, "{v:x}"),
        Field::Num(v) => write!(line, "{v}"),
        Field::Bool(b) if quoted => write!(line, "{b}"),
        Field::Bool(b) => {
            line.push_str(if b { "True" } else { "False" });
            Ok(())
        }
        Field::Text(t) => {
            text(line, style, t);
            Ok(())
        }
        Field::List(items) => {
            if quoted {
                line.push('"');
            }
            for (i, v) in items.iter().enumerate() {
                let _ = write!(line, "{}{v:x}", if i > 0 { " " } else { "" });
            }
            if quoted {
                line.push('"');
            }
            Ok(())
        }
    };
}

fn text(line: &mut String, style: Style, t: &str) {
    match style {
        Style::Jsonl => line.push_str(&serde_json::Value::from(t).to_string()),
        Style::Csv if t.contains([',', '"', '\n', '\r']) => {
            line.push('"');
            line.push_str(&t.replace('"', "\"\""));
            line.push('"');
        }
        Style::Csv => line.push_str(t),
        Style::Tsv => {
            for c in t.chars() {
                match c {
                    '\\' => line.push_str("\\\\"),
                    '\t' => line.push_str("\\t"),
                    '\n' => line.push_str("\\n"),
                    '\r' => line.push_str("\\r"),
                    '\0' => line.push_str("\\0"),
                    c => line.push(c),
                }
            }
        }
    }
}
