//! Builds ECMA-335 metadata byte by byte, independent of the reader's tables (partition II, chapters 22 to 24).
#![allow(dead_code, reason = "each test uses its own part")]

/// A metadata root with `streams` behind it, each beginning at a multiple of four.
pub fn root(version: &str, streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
    // A text and the zeros that end and pad it.
    let padded = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
        bytes
    };
    let mut out = b"BSJB\x01\0\x01\0\0\0\0\0".to_vec();
    let version = padded(version);
    out.extend((version.len() as u32).to_le_bytes());
    out.extend(version);
    out.extend([0, 0]);
    out.extend((streams.len() as u16).to_le_bytes());
    let mut at = out.len() + streams.iter().map(|s| 8 + padded(s.0).len()).sum::<usize>();
    for (name, bytes) in streams {
        out.extend((at as u32).to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(padded(name));
        at += bytes.len().next_multiple_of(4);
    }
    for (_, bytes) in streams {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// Column widths and streams of an image under construction.
#[derive(Clone, Copy, Default)]
pub struct Form {
    /// `#-` with pointer tables and the extra header word.
    pub uncompressed: bool,
    /// Four-byte heap indexes.
    pub wide: bool,
}

/// A module under construction.
pub struct Builder {
    form: Form,
    strings: Vec<u8>,
    blobs: Vec<u8>,
    rows: std::collections::BTreeMap<u8, (u32, Vec<u8>)>,
}

/// A column of a row: a number of two or four bytes, a text, a blob, an index of a heap.
pub enum Cell<'a> {
    W(u16),
    D(u32),
    S(&'a str),
    B(&'a [u8]),
    G(u32),
}
use Cell::*;

impl Builder {
    pub fn new(form: Form) -> Self {
        Self { form, strings: vec![0], blobs: vec![0], rows: Default::default() }
    }

    /// Adds a row.
    pub fn row(&mut self, table: u8, cells: &[Cell<'_>]) {
        let mut bytes = Vec::new();
        for cell in cells {
            let index = match cell {
                W(v) => {
                    bytes.extend(v.to_le_bytes());
                    continue;
                }
                D(v) => {
                    bytes.extend(v.to_le_bytes());
                    continue;
                }
                S("") => 0,
                S(text) => {
                    let at = self.strings.len();
                    self.strings.extend(text.as_bytes());
                    self.strings.push(0);
                    at as u32
                }
                B(blob) => {
                    let at = self.blobs.len();
                    self.blobs.push(blob.len() as u8);
                    self.blobs.extend(*blob);
                    at as u32
                }
                G(index) => *index,
            };
            if self.form.wide {
                bytes.extend(index.to_le_bytes());
            } else {
                bytes.extend((index as u16).to_le_bytes());
            }
        }
        let entry = self.rows.entry(table).or_default();
        entry.0 += 1;
        entry.1.extend(bytes);
    }

    fn tables(&self) -> Vec<u8> {
        let valid: u64 = self.rows.keys().map(|&t| 1 << t).sum();
        let heaps = if self.form.wide { 7 } else { 0 } | if self.form.uncompressed { 0x40 } else { 0 };
        let sorted: u64 = if self.form.uncompressed { 0 } else { u64::MAX };
        let mut out = vec![0, 0, 0, 0, 2, 0, heaps, 1];
        out.extend(valid.to_le_bytes());
        out.extend(sorted.to_le_bytes());
        self.rows.values().for_each(|(n, _)| out.extend(n.to_le_bytes()));
        if self.form.uncompressed {
            out.extend([0xEE; 4]);
        }
        self.rows.values().for_each(|(_, bytes)| out.extend(bytes));
        out
    }

    /// The metadata.
    pub fn finish(&self, version: &str) -> Vec<u8> {
        let name = if self.form.uncompressed { "#-" } else { "#~" };
        let guids = (1..=16).collect();
        let (strings, blobs) = (self.strings.clone(), self.blobs.clone());
        root(version, &[(name, self.tables()), ("#Strings", strings), ("#GUID", guids), ("#Blob", blobs)])
    }
}
