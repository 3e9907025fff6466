//! ECMA-335 metadata: names, fields, methods and signatures of one module.
//!
//! Reads the compressed (`#~`) and the uncompressed (`#-`, edit-and-continue and Reflection.Emit) form from bytes that
//! come out of a dump or a file on disk. The root and stream headers are read once ([`Metadata::parse`]), rows and names
//! on demand and in constant time. Layouts: ECMA-335 6th edition, partition II, chapters 22 to 24.
//!
//! The bytes are hostile: everything out of range answers `None` or an empty name, lists are cut to their tables, names
//! to [`MAX_NAME`] bytes and chains (nesting, scopes, signatures) to a fixed depth. Names are returned as they are
//! stored; whoever prints them must expect control characters.

pub mod debug;
#[cfg(test)]
#[path = "../../../../tests/support/make_metadata.rs"]
mod make_metadata;
mod names;
pub mod rawsig;
pub mod rows;
pub mod sig;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use crate::dump::map::FileMap;
use names::NameIndex;
pub use rows::*;
pub use tables::table;
use tables::{Tables, u16_at, u32_at};

/// A metadata token: table number in the high byte, row number (from 1) in the low 24 bits.
pub type Token = u32;

/// Longest stored name returned, in bytes: the limit of the runtime (`MAX_CLASSNAME_LENGTH`, dotnet/runtime
/// src/coreclr/inc/corhdr.h, v8.0.0). Longer ones are cut.
pub const MAX_NAME: usize = 1024;
/// Deepest nesting of types followed when a name is put together.
const MAX_NESTING: usize = 64;

/// The token of row `rid` of `table`.
pub const fn token(table: u8, rid: u32) -> Token {
    (table as u32) << 24 | (rid & 0x00FF_FFFF)
}

/// Why bytes are not usable as metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The signature `BSJB` is missing.
    #[error("not CLI metadata: no BSJB signature")]
    NotMetadata,
    /// The named part ends before it is complete.
    #[error("CLI metadata is cut off in {0}")]
    Truncated(&'static str),
    /// Contradicts itself.
    #[error("CLI metadata is damaged: {0}")]
    Damaged(&'static str),
}

/// The metadata of one module. Cheap to share behind an `Arc`; all answers borrow from it.
pub struct Metadata {
    file: FileMap,
    range: Range<usize>,
    tables: Tables,
    strings: Range<usize>,
    guids: Range<usize>,
    blobs: Range<usize>,
    user_strings: Range<usize>,
    /// The stream only a portable PDB has.
    pdb: Option<Range<usize>>,
    /// Enclosing type of every TypeDef by rid, 0 for none.
    enclosing: Vec<u32>,
    index: OnceLock<NameIndex>,
    /// ExportedType rows that forward a type.
    forwarded: OnceLock<NameIndex>,
    /// For `#-` with pointer tables: position in the list by rid.
    field_positions: OnceLock<Vec<u32>>,
    method_positions: OnceLock<Vec<u32>>,
    /// Constant rows by parent, where the table is not sorted.
    constants: OnceLock<FxHashMap<u32, u32>>,
}

impl fmt::Debug for Metadata {
    /// Name and size: the bytes themselves would fill screens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({}, {} bytes)", self.module_name().unwrap_or("?"), self.byte_len())
    }
}

/// Stream positions, relative to the metadata root.
#[derive(Default)]
struct Streams {
    tables: Option<Range<usize>>,
    strings: Range<usize>,
    guids: Range<usize>,
    blobs: Range<usize>,
    user_strings: Range<usize>,
    minimal_delta: bool,
    pdb: Option<Range<usize>>,
}

impl Metadata {
    /// Reads metadata from bytes that start with `BSJB`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, MetadataError> {
        let len = bytes.len();
        Self::in_map(FileMap::owned(bytes), 0..len)
    }

    /// Reads metadata that lies at `range` of a mapped file, without copying it.
    pub fn in_map(file: FileMap, range: Range<usize>) -> Result<Self, MetadataError> {
        let bytes = file.get(range.clone()).ok_or(MetadataError::Truncated("the file"))?;
        let streams = streams(bytes)?;
        let at = streams.tables.ok_or(MetadataError::Damaged("no tables stream"))?;
        let pdb = streams.pdb.clone();
        let elsewhere = pdb.as_ref().map(|p| debug::rows_elsewhere(bytes.get(p.clone()).unwrap_or(&[])));
        let tables = Tables::parse(bytes, at.start, at.end, streams.minimal_delta, elsewhere.as_ref())?;
        let enclosing = enclosing(&tables, bytes);
        Ok(Self {
            tables,
            strings: streams.strings,
            guids: streams.guids,
            blobs: streams.blobs,
            user_strings: streams.user_strings,
            pdb,
            enclosing,
            index: OnceLock::new(),
            forwarded: OnceLock::new(),
            field_positions: OnceLock::new(),
            method_positions: OnceLock::new(),
            constants: OnceLock::new(),
            file,
            range,
        })
    }

    /// The bytes of the metadata, from `BSJB` on.
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.file.get(self.range.clone()).unwrap_or(&[])
    }

    /// Bytes the metadata takes.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }

    #[inline]
    fn cell(&self, table: u8, rid: u32, column: usize) -> Option<u32> {
        self.tables.cell(self.bytes(), table, rid, column)
    }

    /// Rows of `table` (see [`table`]).
    pub fn rows(&self, table: u8) -> u32 {
        self.tables.rows(table)
    }

    /// The name at `offset` of the string heap; empty when it lies outside, cut at the first byte that is not UTF-8.
    fn string(&self, offset: u32) -> &str {
        let heap = self.bytes().get(self.strings.clone()).unwrap_or(&[]);
        let run = heap.get(offset as usize..).unwrap_or(&[]);
        let run = run.get(..MAX_NAME).unwrap_or(run);
        let end = run.iter().position(|&b| b == 0).unwrap_or(run.len());
        let bytes = run.get(..end).unwrap_or(run);
        match std::str::from_utf8(bytes) {
            Ok(s) => s,
            Err(e) => bytes.get(..e.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or(""),
        }
    }

    /// The blob at `offset` of the blob heap; empty when it does not lie inside.
    fn blob(&self, offset: u32) -> &[u8] {
        let heap = self.bytes().get(self.blobs.clone()).unwrap_or(&[]);
        let mut rest = heap.get(offset as usize..).unwrap_or(&[]);
        let Some(len) = sig::compressed(&mut rest) else { return &[] };
        rest.get(..len as usize).unwrap_or(&[])
    }

    /// The string a `ldstr` names, by its place in the heap of user strings (ECMA-335 II.24.2.4): UTF-16 and a byte behind.
    pub fn user_string(&self, offset: u32) -> Option<Vec<u16>> {
        let heap = self.bytes().get(self.user_strings.clone()).filter(|_| offset != 0)?;
        let mut rest = heap.get(offset as usize..)?;
        let len = sig::compressed(&mut rest)? as usize;
        let bytes = rest.get(..len)?;
        Some(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }

    /// GUID number `index` (from 1) as stored.
    fn guid(&self, index: u32) -> Option<[u8; 16]> {
        let heap = self.bytes().get(self.guids.clone())?;
        heap.get((index.checked_sub(1)? as usize).checked_mul(16)?..)?.first_chunk().copied()
    }

    fn name_cell(&self, table: u8, rid: u32, column: usize) -> Option<&str> {
        Some(self.string(self.cell(table, rid, column)?))
    }

    fn blob_cell(&self, table: u8, rid: u32, column: usize) -> Option<&[u8]> {
        Some(self.blob(self.cell(table, rid, column)?))
    }
}

/// Finds the streams behind the metadata root (ECMA-335 II.24.2.1).
fn streams(bytes: &[u8]) -> Result<Streams, MetadataError> {
    if bytes.get(..4) != Some(b"BSJB") {
        return Err(MetadataError::NotMetadata);
    }
    let version = u32_at(bytes, 12)? as usize;
    let mut at = version.checked_add(16).filter(|&at| at < bytes.len()).ok_or(MetadataError::Truncated("the root"))?;
    let count = u16_at(bytes, at + 2)?;
    at += 4;
    let mut found = Streams::default();
    for _ in 0..count.min(32) {
        let (offset, size) = (u32_at(bytes, at)? as usize, u32_at(bytes, at + 4)? as usize);
        let name = bytes.get(at + 8..).unwrap_or(&[]);
        let name = name.get(..32).unwrap_or(name);
        let end = name.iter().position(|&b| b == 0).ok_or(MetadataError::Damaged("a stream name has no end"))?;
        let start = offset.min(bytes.len());
        let range = start..offset.saturating_add(size).min(bytes.len());
        match name.get(..end) {
            Some(b"#~" | b"#-") => found.tables = Some(range),
            Some(b"#Strings") => found.strings = range,
            Some(b"#GUID") => found.guids = range,
            Some(b"#Blob") => found.blobs = range,
            Some(b"#US") => found.user_strings = range,
            Some(b"#Pdb") => found.pdb = Some(range),
            Some(b"#JTD") => found.minimal_delta = true,
            _ => {}
        }
        at += 8 + (end + 4) / 4 * 4;
    }
    Ok(found)
}

/// The enclosing type of every TypeDef as a dense array, index 0 unused.
fn enclosing(tables: &Tables, bytes: &[u8]) -> Vec<u32> {
    let types = tables.rows(table::TYPE_DEF);
    let mut outer = vec![0; types as usize + 1];
    for row in 1..=tables.rows(table::NESTED_CLASS) {
        let cell = |column| tables.cell(bytes, table::NESTED_CLASS, row, column);
        if let (Some(inner), Some(of)) = (cell(0), cell(1))
            && inner != of
            && (1..=types).contains(&of)
            && let Some(slot) = outer.get_mut(inner as usize)
        {
            *slot = of;
        }
    }
    outer
}
