//! What portable PDBs add to metadata: documents, the source lines of methods, names of local variables.
//!
//! Format: dotnet/runtime `docs/design/specs/PortablePdb-Metadata.md` (version 1.0).

use super::tables::{table, u32_at};
use super::{Metadata, sig};

/// Identity of a portable PDB: the GUID of the module's CodeView record, then the time stamp of its entry.
pub type PdbIdentity = [u8; 20];

/// Symbols of a module.
#[derive(Debug)]
pub struct Symbols {
    /// Their tables.
    pub tables: Metadata,
    /// Where they came from: a path, or the image they are inside of.
    pub from: String,
}

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// Path of the file, as the compiler recorded it.
    pub document: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A sequence point: IL from `offset` on is that of a place in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequencePoint {
    /// IL offset.
    pub offset: u32,
    /// Row of the document.
    pub document: u32,
    /// First line, from 1; 0 where the code is no source's.
    pub line: u32,
    /// First column, from 1.
    pub column: u32,
}

/// Most documents a path is put together for, and parts of one.
const MAX_PARTS: usize = 256;
/// Longest path.
const MAX_PATH: usize = 4096;

/// Rows of the tables that a PDB refers to: identity, entry point, a bit for each table, then the counts.
pub(super) fn rows_elsewhere(stream: &[u8]) -> [u32; 64] {
    let mut rows = [0; 64];
    let bits = stream.get(24..32).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
    let mut at = 32;
    for (i, count) in rows.iter_mut().enumerate() {
        if bits >> i & 1 != 0 {
            *count = u32_at(stream, at).unwrap_or(0).min(0x00FF_FFFF);
            at += 4;
        }
    }
    rows
}

impl Metadata {
    /// Identity, if this is a portable PDB.
    pub fn pdb_identity(&self) -> Option<PdbIdentity> {
        self.bytes().get(self.pdb.clone()?)?.first_chunk().copied()
    }

    /// Path of document `row`: a separator, then the places of the parts.
    pub fn document(&self, row: u32) -> Option<String> {
        let mut blob = self.blob_cell(table::DOCUMENT, row, 0)?;
        let (&separator, rest) = blob.split_first()?;
        blob = rest;
        let mut path = String::new();
        for part in 0..MAX_PARTS {
            if blob.is_empty() || path.len() > MAX_PATH {
                break;
            }
            let at = sig::compressed(&mut blob)?;
            if part > 0 && separator != 0 {
                path.push(char::from(separator));
            }
            path.push_str(&String::from_utf8_lossy(self.blob(at)));
        }
        Some(path)
    }

    /// The sequence points of method `row`, by offset; empty where it has none. Damaged ones end the list.
    pub fn sequence_points(&self, row: u32) -> Vec<SequencePoint> {
        let mut out = Vec::new();
        let initial = self.cell(table::METHOD_DEBUG_INFORMATION, row, 0).unwrap_or(0);
        if let Some(blob) = self.blob_cell(table::METHOD_DEBUG_INFORMATION, row, 1).filter(|b| !b.is_empty()) {
            points(blob, initial, &mut out);
        }
        out
    }

    /// The source line of the IL at `offset` of method `row`: that of the last point before it that is of the source. What
    /// the compiler adds, such as the wait of an `await`, belongs to the statement it was added to.
    pub fn source_line(&self, row: u32, offset: u32) -> Option<SourceLine> {
        let points = self.sequence_points(row);
        let last = points.partition_point(|p| p.offset <= offset).checked_sub(1)?;
        let point = points.get(..=last)?.iter().rev().find(|p| p.line != 0)?;
        Some(SourceLine { document: self.document(point.document)?, line: point.line, column: point.column })
    }

    /// Slot and name of the local variables of method `row` that are in scope at IL offset `offset`.
    pub fn local_names(&self, row: u32, offset: u32) -> Vec<(u16, &str)> {
        let t = table::LOCAL_SCOPE;
        let end = self.rows(table::LOCAL_VARIABLE) + 1;
        let cell = |scope: u32, column| self.cell(t, scope, column).unwrap_or(0);
        let mut out = Vec::new();
        for scope in self.tables.matching(self.bytes(), t, 0, row) {
            let (start, length) = (cell(scope, 4), cell(scope, 5));
            if offset.checked_sub(start).is_none_or(|d| d >= length) {
                continue;
            }
            let first = cell(scope, 2).clamp(1, end);
            let last = self.cell(t, scope + 1, 2).unwrap_or(end).clamp(first, end);
            // A slot has 16 bits.
            for variable in (first..last).take(0x1_0000) {
                let v = table::LOCAL_VARIABLE;
                if let (Some(slot), Some(name)) = (self.cell(v, variable, 1), self.name_cell(v, variable, 2)) {
                    out.push((slot as u16, name));
                }
            }
        }
        out
    }
}

/// Decodes a blob of sequence points.
fn points(mut blob: &[u8], initial: u32, out: &mut Vec<SequencePoint>) -> Option<()> {
    let blob = &mut blob;
    // The token of the locals' signature.
    sig::compressed(blob)?;
    let mut document = if initial == 0 { sig::compressed(blob)? } else { initial };
    let (mut offset, mut place) = (0u32, None::<(u32, u32)>);
    while !blob.is_empty() {
        let delta = sig::compressed(blob)?;
        if delta == 0 && !out.is_empty() {
            document = sig::compressed(blob)?;
            continue;
        }
        offset = offset.checked_add(delta)?;
        let lines = sig::compressed(blob)?;
        let columns = if lines == 0 { sig::compressed(blob)? as i32 } else { sig::compressed_signed(blob)? };
        if lines == 0 && columns == 0 {
            out.push(SequencePoint { offset, document, line: 0, column: 0 });
            continue;
        }
        let (line, column) = match place {
            None => (sig::compressed(blob)?, sig::compressed(blob)?),
            Some((l, c)) => (
                l.checked_add_signed(sig::compressed_signed(blob)?)?,
                c.checked_add_signed(sig::compressed_signed(blob)?)?,
            ),
        };
        place = Some((line, column));
        out.push(SequencePoint { offset, document, line, column });
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::make_metadata::root;
    use super::*;

    #[test]
    fn signed_numbers_are_those_of_the_specification() {
        // The examples of ECMA-335 II.23.2.
        let cases: [(&[u8], i32); 8] = [
            (&[0x06], 3),
            (&[0x7B], -3),
            (&[0x80, 0x80], 64),
            (&[0x01], -64),
            (&[0xC0, 0x00, 0x40, 0x00], 8192),
            (&[0x80, 0x01], -8192),
            (&[0xDF, 0xFF, 0xFF, 0xFE], 268_435_455),
            (&[0xC0, 0x00, 0x00, 0x01], -268_435_456),
        ];
        for (mut bytes, value) in cases {
            assert_eq!(sig::compressed_signed(&mut bytes), Some(value));
        }
    }

    /// A PDB with two documents, three methods (the second without points), and a scope with two locals.
    fn pdb() -> Vec<u8> {
        let word = |v: u32| v.to_le_bytes().to_vec();
        let half = |v: u16| v.to_le_bytes().to_vec();
        let mut stream = (1u8..=20).collect::<Vec<u8>>();
        stream.extend(word(0));
        stream.extend((1u64 << table::METHOD_DEF).to_le_bytes());
        stream.extend(word(3));
        // Blobs: 1 `src`, 5 `a.cs`, 10 `b.cs`, 15 and 19 the names, 23 and 31 points.
        let mut blobs = vec![0];
        for blob in
            [&b"src"[..], b"a.cs", b"b.cs", b"/\x01\x05", b"/\x01\x0A", &[0, 0, 1, 4, 10, 5, 4], &[0, 3, 0, 9, 7, 1]]
        {
            blobs.push(blob.len() as u8);
            blobs.extend(blob);
        }
        let strings = b"\0sum\0n\0".to_vec();
        let mut tables = vec![0, 0, 0, 0, 2, 0, 0, 1];
        let present = [table::DOCUMENT, table::METHOD_DEBUG_INFORMATION, table::LOCAL_SCOPE, table::LOCAL_VARIABLE];
        tables.extend(present.iter().fold(0u64, |bits, t| bits | 1 << t).to_le_bytes());
        tables.extend(0u64.to_le_bytes());
        [2, 3, 1, 2].iter().for_each(|&rows| tables.extend(word(rows)));
        let halves = [15, 0, 0, 0, 19, 0, 0, 0, 1, 23, 0, 0, 2, 31, 3, 0, 1, 1];
        halves.iter().for_each(|&v| tables.extend(half(v)));
        [2, 6].iter().for_each(|&v| tables.extend(word(v)));
        [0, 0, 1, 0, 1, 5].iter().for_each(|&v| tables.extend(half(v)));
        root("PDB v1.0", &[("#Pdb", stream), ("#~", tables), ("#Strings", strings), ("#Blob", blobs)])
    }

    #[test]
    fn lines_and_locals_of_a_whole_pdb() {
        let m = Metadata::parse(pdb()).unwrap();
        assert_eq!(m.pdb_identity().unwrap()[..4], [1, 2, 3, 4]);
        let line = |row, offset| m.source_line(row, offset).map(|l| (l.document, l.line, l.column));
        assert_eq!(line(1, 0), Some(("src/a.cs".into(), 10, 5)));
        assert_eq!(line(1, 99), Some(("src/a.cs".into(), 10, 5)));
        assert_eq!((line(2, 0), line(3, 2)), (None, None));
        assert_eq!(line(3, 3), Some(("src/b.cs".into(), 7, 1)));
        assert_eq!(m.local_names(3, 3), [(0, "sum"), (1, "n")]);
        assert!(m.local_names(3, 8).is_empty() && m.local_names(1, 3).is_empty());
    }

    #[test]
    fn points_with_hidden_code_and_a_second_document() {
        // Offset 0 line 10 column 5 (2 lines, 3 columns), offset 4 hidden, document 2, offset 9 line 8 column 6.
        let blob = [0, 0, 2, 6, 10, 5, 4, 0, 0, 0, 2, 5, 0, 1, 0x7D, 2];
        let mut out = Vec::new();
        points(&blob, 1, &mut out).unwrap();
        let point = |offset, document, line, column| SequencePoint { offset, document, line, column };
        assert_eq!(out, [point(0, 1, 10, 5), point(4, 1, 0, 0), point(9, 2, 8, 6)]);
    }
}
