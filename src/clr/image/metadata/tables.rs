//! The tables stream: which columns each table has, how wide they are here, and cell access in constant time.
//!
//! Table and column order: ECMA-335 6th edition, II.22 (tables) and II.24.2.6 (stream header, coded indexes); the tables of
//! portable PDBs: dotnet/runtime `docs/design/specs/PortablePdb-Metadata.md`.

use super::MetadataError;

/// Table numbers, the high byte of a token.
#[allow(missing_docs, reason = "the names are those of ECMA-335 II.22")]
pub mod table {
    pub const MODULE: u8 = 0x00;
    pub const TYPE_REF: u8 = 0x01;
    pub const TYPE_DEF: u8 = 0x02;
    pub const FIELD_PTR: u8 = 0x03;
    pub const FIELD: u8 = 0x04;
    pub const METHOD_PTR: u8 = 0x05;
    pub const METHOD_DEF: u8 = 0x06;
    pub const PARAM_PTR: u8 = 0x07;
    pub const PARAM: u8 = 0x08;
    pub const INTERFACE_IMPL: u8 = 0x09;
    pub const MEMBER_REF: u8 = 0x0A;
    pub const CONSTANT: u8 = 0x0B;
    pub const CUSTOM_ATTRIBUTE: u8 = 0x0C;
    pub const DECL_SECURITY: u8 = 0x0E;
    pub const CLASS_LAYOUT: u8 = 0x0F;
    pub const STAND_ALONE_SIG: u8 = 0x11;
    pub const EVENT: u8 = 0x14;
    pub const PROPERTY: u8 = 0x17;
    pub const MODULE_REF: u8 = 0x1A;
    pub const TYPE_SPEC: u8 = 0x1B;
    pub const FIELD_RVA: u8 = 0x1D;
    pub const ASSEMBLY: u8 = 0x20;
    pub const ASSEMBLY_REF: u8 = 0x23;
    pub const FILE: u8 = 0x26;
    pub const EXPORTED_TYPE: u8 = 0x27;
    pub const MANIFEST_RESOURCE: u8 = 0x28;
    pub const NESTED_CLASS: u8 = 0x29;
    pub const GENERIC_PARAM: u8 = 0x2A;
    pub const METHOD_SPEC: u8 = 0x2B;
    pub const GENERIC_PARAM_CONSTRAINT: u8 = 0x2C;
    pub const DOCUMENT: u8 = 0x30;
    pub const METHOD_DEBUG_INFORMATION: u8 = 0x31;
    pub const LOCAL_SCOPE: u8 = 0x32;
    pub const LOCAL_VARIABLE: u8 = 0x33;
    pub const LOCAL_CONSTANT: u8 = 0x34;
    pub const IMPORT_SCOPE: u8 = 0x35;
    pub const STATE_MACHINE_METHOD: u8 = 0x36;
}
use table::*;

/// Tables whose layout is known: 0x00 to 0x36. Higher ones lie behind them and are never needed.
const TABLES: usize = 0x37;
/// The first of those of portable PDBs.
const FIRST_OF_PDB: usize = 0x30;
/// Most columns any table has.
const MAX_COLUMNS: usize = 9;
/// Placeholder in a coded index for a tag no table answers to.
const NONE: u8 = 0xFF;

/// What a column holds.
#[derive(Clone, Copy)]
enum Col {
    U16,
    U32,
    Str,
    Guid,
    Blob,
    Rid(u8),
    Coded(&'static Coded),
}

/// A coded index: the low bits choose one of the tables.
pub(super) struct Coded {
    bits: u32,
    tables: &'static [u8],
}

pub(super) static TYPE_DEF_OR_REF: Coded = Coded { bits: 2, tables: &[TYPE_DEF, TYPE_REF, TYPE_SPEC] };
pub(super) static HAS_CONSTANT: Coded = Coded { bits: 2, tables: &[FIELD, PARAM, PROPERTY] };
pub(super) static HAS_CUSTOM_ATTRIBUTE: Coded = Coded {
    bits: 5,
    tables: &[
        METHOD_DEF,
        FIELD,
        TYPE_REF,
        TYPE_DEF,
        PARAM,
        INTERFACE_IMPL,
        MEMBER_REF,
        MODULE,
        DECL_SECURITY,
        PROPERTY,
        EVENT,
        STAND_ALONE_SIG,
        MODULE_REF,
        TYPE_SPEC,
        ASSEMBLY,
        ASSEMBLY_REF,
        FILE,
        EXPORTED_TYPE,
        MANIFEST_RESOURCE,
        GENERIC_PARAM,
        GENERIC_PARAM_CONSTRAINT,
        METHOD_SPEC,
    ],
};
static HAS_FIELD_MARSHAL: Coded = Coded { bits: 1, tables: &[FIELD, PARAM] };
static HAS_DECL_SECURITY: Coded = Coded { bits: 2, tables: &[TYPE_DEF, METHOD_DEF, ASSEMBLY] };
pub(super) static MEMBER_REF_PARENT: Coded =
    Coded { bits: 3, tables: &[TYPE_DEF, TYPE_REF, MODULE_REF, METHOD_DEF, TYPE_SPEC] };
static HAS_SEMANTICS: Coded = Coded { bits: 1, tables: &[EVENT, PROPERTY] };
pub(super) static METHOD_DEF_OR_REF: Coded = Coded { bits: 1, tables: &[METHOD_DEF, MEMBER_REF] };
static MEMBER_FORWARDED: Coded = Coded { bits: 1, tables: &[FIELD, METHOD_DEF] };
pub(super) static IMPLEMENTATION: Coded = Coded { bits: 2, tables: &[FILE, ASSEMBLY_REF, EXPORTED_TYPE] };
pub(super) static CUSTOM_ATTRIBUTE_TYPE: Coded = Coded { bits: 3, tables: &[NONE, NONE, METHOD_DEF, MEMBER_REF, NONE] };
pub(super) static RESOLUTION_SCOPE: Coded = Coded { bits: 2, tables: &[MODULE, MODULE_REF, ASSEMBLY_REF, TYPE_REF] };
pub(super) static TYPE_OR_METHOD_DEF: Coded = Coded { bits: 1, tables: &[TYPE_DEF, METHOD_DEF] };

impl Coded {
    /// The token a coded index stands for; `None` for the null index and for tags of no table.
    pub(super) fn decode(&self, value: u32) -> Option<u32> {
        let tag = value & ((1 << self.bits) - 1);
        let rid = value >> self.bits;
        let table = *self.tables.get(tag as usize)?;
        (table != NONE && rid != 0 && rid <= 0x00FF_FFFF).then_some(u32::from(table) << 24 | rid)
    }

    /// The coded index of a token, to search a sorted column with.
    pub(super) fn encode(&self, token: u32) -> Option<u32> {
        let tag = self.tables.iter().position(|&t| u32::from(t) == token >> 24)? as u32;
        Some((token & 0x00FF_FFFF) << self.bits | tag)
    }
}

/// Columns of every table in order.
#[rustfmt::skip]
static SCHEMA: [&[Col]; TABLES] = {
    use Col::*;
    [
        &[U16, Str, Guid, Guid, Guid], // 00
        &[Coded(&RESOLUTION_SCOPE), Str, Str], // 01
        &[U32, Str, Str, Coded(&TYPE_DEF_OR_REF), Rid(FIELD), Rid(METHOD_DEF)], // 02
        &[Rid(FIELD)], // 03
        &[U16, Str, Blob], // 04
        &[Rid(METHOD_DEF)], // 05
        &[U32, U16, U16, Str, Blob, Rid(PARAM)], // 06
        &[Rid(PARAM)], // 07
        &[U16, U16, Str], // 08
        &[Rid(TYPE_DEF), Coded(&TYPE_DEF_OR_REF)], // 09
        &[Coded(&MEMBER_REF_PARENT), Str, Blob], // 0A
        &[U16, Coded(&HAS_CONSTANT), Blob], // 0B
        &[Coded(&HAS_CUSTOM_ATTRIBUTE), Coded(&CUSTOM_ATTRIBUTE_TYPE), Blob], // 0C
        &[Coded(&HAS_FIELD_MARSHAL), Blob], // 0D
        &[U16, Coded(&HAS_DECL_SECURITY), Blob], // 0E
        &[U16, U32, Rid(TYPE_DEF)], // 0F
        &[U32, Rid(FIELD)], // 10
        &[Blob], // 11
        &[Rid(TYPE_DEF), Rid(EVENT)], // 12
        &[Rid(EVENT)], // 13
        &[U16, Str, Coded(&TYPE_DEF_OR_REF)], // 14
        &[Rid(TYPE_DEF), Rid(PROPERTY)], // 15
        &[Rid(PROPERTY)], // 16
        &[U16, Str, Blob], // 17
        &[U16, Rid(METHOD_DEF), Coded(&HAS_SEMANTICS)], // 18
        &[Rid(TYPE_DEF), Coded(&METHOD_DEF_OR_REF), Coded(&METHOD_DEF_OR_REF)], // 19
        &[Str], // 1A
        &[Blob], // 1B
        &[U16, Coded(&MEMBER_FORWARDED), Str, Rid(MODULE_REF)], // 1C
        &[U32, Rid(FIELD)], // 1D
        &[U32, U32], // 1E
        &[U32], // 1F
        &[U32, U16, U16, U16, U16, U32, Blob, Str, Str], // 20
        &[U32], // 21
        &[U32, U32, U32], // 22
        &[U16, U16, U16, U16, U32, Blob, Str, Str, Blob], // 23
        &[U32, Rid(ASSEMBLY_REF)], // 24
        &[U32, U32, U32, Rid(ASSEMBLY_REF)], // 25
        &[U32, Str, Blob], // 26
        &[U32, U32, Str, Str, Coded(&IMPLEMENTATION)], // 27
        &[U32, U32, Str, Coded(&IMPLEMENTATION)], // 28
        &[Rid(TYPE_DEF), Rid(TYPE_DEF)], // 29
        &[U16, U16, Coded(&TYPE_OR_METHOD_DEF), Str], // 2A
        &[Coded(&METHOD_DEF_OR_REF), Blob], // 2B
        &[Rid(GENERIC_PARAM), Coded(&TYPE_DEF_OR_REF)], // 2C
        &[], // 2D
        &[], // 2E
        &[], // 2F
        &[Blob, Guid, Blob, Guid], // 30
        &[Rid(DOCUMENT), Blob], // 31
        &[Rid(METHOD_DEF), Rid(IMPORT_SCOPE), Rid(LOCAL_VARIABLE), Rid(LOCAL_CONSTANT), U32, U32], // 32
        &[U16, U16, Str], // 33
        &[Str, Blob], // 34
        &[Rid(IMPORT_SCOPE), Blob], // 35
        &[Rid(METHOD_DEF), Rid(METHOD_DEF)], // 36
    ]
};

/// Where one table lies and how its rows are cut.
#[derive(Debug, Clone, Copy, Default)]
struct Table {
    rows: u32,
    /// Offset of the first row in the metadata.
    start: usize,
    row_width: u8,
    /// Offset in the row and whether the cell is four bytes wide.
    columns: [(u8, bool); MAX_COLUMNS],
}

/// Row counts, positions and column widths of all tables.
#[derive(Debug)]
pub(super) struct Tables {
    tables: [Table; TABLES],
    sorted: u64,
}

/// Sizes that decide column widths.
struct Widths {
    rows: [u32; 64],
    heap_bits: u8,
    /// Minimal delta (`#JTD`): every index is four bytes.
    all_wide: bool,
}

impl Widths {
    fn wide(&self, col: Col) -> bool {
        let rows = |t: u8| self.rows.get(t as usize).copied().unwrap_or(0);
        match col {
            Col::U16 => false,
            Col::U32 => true,
            _ if self.all_wide => true,
            Col::Str => self.heap_bits & 1 != 0,
            Col::Guid => self.heap_bits & 2 != 0,
            Col::Blob => self.heap_bits & 4 != 0,
            Col::Rid(t) => rows(t) > 0xFFFF,
            Col::Coded(c) => c.tables.iter().any(|&t| rows(t) >= 1 << (16 - c.bits)),
        }
    }
}

impl Tables {
    /// Reads the header of the tables stream that lies at `start..end` of `bytes` (ECMA-335 II.24.2.6). `elsewhere`: rows of
    /// tables that a portable PDB refers to and does not hold.
    pub(super) fn parse(
        bytes: &[u8],
        start: usize,
        end: usize,
        all_wide: bool,
        elsewhere: Option<&[u32; 64]>,
    ) -> Result<Self, MetadataError> {
        let stream = bytes.get(..end).unwrap_or(bytes);
        let heap_bits = *stream.get(start.saturating_add(6)).ok_or(MetadataError::Truncated("the tables stream"))?;
        let (valid, sorted) = (u64_at(stream, start + 8)?, u64_at(stream, start + 16)?);
        let mut at = start + 24;
        let mut widths = Widths { rows: [0; 64], heap_bits, all_wide };
        for (i, rows) in widths.rows.iter_mut().enumerate() {
            if valid >> i & 1 != 0 {
                *rows = u32_at(stream, at)?;
                at += 4;
                if *rows > 0x00FF_FFFF {
                    return Err(MetadataError::Damaged("a table has more rows than a token can number"));
                }
            }
        }
        if heap_bits & 0x40 != 0 {
            at += 4; // extra data word of uncompressed streams
        }
        let own = widths.rows;
        if let Some(elsewhere) = elsewhere {
            for (rows, &there) in widths.rows.iter_mut().zip(elsewhere) {
                *rows = (*rows).max(there);
            }
        }
        let mut tables = [Table::default(); TABLES];
        for (i, (t, columns)) in tables.iter_mut().zip(SCHEMA).enumerate() {
            let mut width = 0u8;
            for (slot, &col) in t.columns.iter_mut().zip(columns) {
                let wide = widths.wide(col);
                *slot = (width, wide);
                width += if wide { 4 } else { 2 };
            }
            // What a module's own metadata has behind its tables is none of ours.
            let foreign = elsewhere.is_none() && i >= FIRST_OF_PDB;
            let rows = own.get(i).copied().filter(|_| !foreign).unwrap_or(0);
            (t.rows, t.row_width, t.start) = (rows, width, at);
            at = at
                .checked_add(rows as usize * width as usize)
                .filter(|&end| end <= stream.len())
                .ok_or(MetadataError::Truncated("the tables"))?;
        }
        Ok(Self { tables, sorted })
    }

    /// Rows of a table.
    #[inline]
    pub(super) fn rows(&self, table: u8) -> u32 {
        self.tables.get(table as usize).map_or(0, |t| t.rows)
    }

    /// Whether the stream says the table is sorted by its key column.
    pub(super) fn sorted(&self, table: u8) -> bool {
        self.sorted >> (table & 63) & 1 != 0
    }

    /// The cell of row `rid` (from 1) and column `column` (from 0); `None` outside the table.
    #[inline]
    pub(super) fn cell(&self, bytes: &[u8], table: u8, rid: u32, column: usize) -> Option<u32> {
        let t = self.tables.get(table as usize)?;
        let row = rid.checked_sub(1).filter(|&r| r < t.rows)? as usize;
        let (offset, wide) = *t.columns.get(column)?;
        let at = t.start + row * t.row_width as usize + offset as usize;
        if wide {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        } else {
            Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
        }
    }

    /// First row whose `column` is `key`, and how to go on: rows from there are contiguous when the table is sorted.
    fn first(&self, bytes: &[u8], table: u8, column: usize, key: u32) -> u32 {
        let cell = |rid| self.cell(bytes, table, rid, column).unwrap_or(u32::MAX);
        let (mut low, mut high) = (1, self.rows(table) + 1);
        while low < high {
            let mid = low + (high - low) / 2;
            if cell(mid) < key { low = mid + 1 } else { high = mid }
        }
        low
    }

    /// Rows whose `column` holds `key`: a binary search where the table is sorted, else a scan.
    pub(super) fn matching<'a>(
        &'a self,
        bytes: &'a [u8],
        table: u8,
        column: usize,
        key: u32,
    ) -> impl Iterator<Item = u32> + 'a {
        let sorted = self.sorted(table);
        let first = if sorted { self.first(bytes, table, column, key) } else { 1 };
        (first..=self.rows(table))
            .map(move |rid| (rid, self.cell(bytes, table, rid, column) == Some(key)))
            .take_while(move |&(_, hit)| hit || !sorted)
            .filter_map(|(rid, hit)| hit.then_some(rid))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, MetadataError> {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map(|b| u16::from_le_bytes(*b))
        .ok_or(MetadataError::Truncated("a header"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, MetadataError> {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map(|b| u32::from_le_bytes(*b))
        .ok_or(MetadataError::Truncated("a header"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, MetadataError> {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map(|b| u64::from_le_bytes(*b))
        .ok_or(MetadataError::Truncated("a header"))
}
