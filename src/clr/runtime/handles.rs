//! The handle table.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/handletablepriv.h` (`TableSegment`: 64 KiB, blocks of 64 handles behind a header
//! of 4 KiB), `objecthandle.h` (`HandleTableMap`); offsets from the layout.

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::{Layout, Missing};
use crate::dump::AddressSpace;

/// Bytes of a segment and of its header.
const SEGMENT: u64 = 0x1_0000;
const HEADER: u64 = 0x1000;
/// Handles of a block.
const HANDLES: u64 = 64;

/// Blocks of a segment: 120, or 240 with pointers of four bytes.
pub fn blocks(ptr: u64) -> u64 {
    (SEGMENT - HEADER) / (HANDLES * ptr)
}

/// Bounds: maps in the chain, tables of one bucket (processors), segments of one table.
const MAX_MAPS: usize = 64;
const MAX_TABLES: u64 = 1024;
const MAX_SEGMENTS: usize = 1 << 16;
/// `INITIAL_HANDLE_TABLE_ARRAY_SIZE` is 10; the map's own count is believed up to this.
const MAX_BUCKETS: u32 = 1 << 12;
/// A bucket a process (or an app domain), a table a processor.
const MAX_ARRAYS: usize = 1 << 12;

/// Kind of a handle, by the number the table stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleKind(pub u8);

impl HandleKind {
    /// Strong: keeps its object alive.
    pub const STRONG: Self = Self(2);
    /// Pinned.
    pub const PINNED: Self = Self(3);
    /// Reference-counted (COM).
    pub const REF_COUNTED: Self = Self(5);
    /// Dependent: keeps the secondary alive while the primary lives.
    pub const DEPENDENT: Self = Self(6);
    /// Pinned for asynchronous I/O.
    pub const ASYNC_PINNED: Self = Self(7);
    /// Strong, with a size computed by the collector.
    pub const SIZED_REF: Self = Self(8);

    /// The kinds by number, as tables print them.
    pub const NAMES: &[&str] = &[
        "WeakShort",
        "WeakLong",
        "Strong",
        "Pinned",
        "Variable",
        "RefCounted",
        "Dependent",
        "AsyncPinned",
        "SizedRef",
        "WeakWinRT",
    ];

    /// The name as tables print it; kinds the field's tools have no name for are printed as their number.
    pub fn name(self) -> &'static str {
        match self.0 {
            10 => "10",
            11 => "11",
            n => Self::NAMES.get(n as usize).copied().unwrap_or("Unknown"),
        }
    }

    /// The words gcroot prints: `strong handle`.
    pub fn words(self) -> &'static str {
        match self.0 {
            0 => "weak short handle",
            1 => "weak long handle",
            2 => "strong handle",
            3 => "pinned handle",
            5 => "ref counted handle",
            6 => "dependent handle",
            7 => "async pinned handle",
            8 => "sized ref handle",
            9 => "weak WinRT handle",
            _ => "handle",
        }
    }

    /// Whether the handle keeps its object alive. A reference-counted handle does while its count is above zero, which
    /// only the COM wrapper knows; it is taken as holding.
    pub fn is_strong(self) -> bool {
        matches!(self.0, 2 | 3 | 5 | 7 | 8)
    }
}

/// One handle in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Address of its slot.
    pub address: u64,
    /// Its kind.
    pub kind: HandleKind,
    /// The object it refers to.
    pub object: u64,
    /// Secondary object of a dependent handle, else 0.
    pub dependent: u64,
    /// The extra word of a handle that has one and is not dependent (weak interior: the address inside), else 0.
    pub extra: u64,
}

/// Where handle tables are found.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// Readable memory.
    pub space: &'a AddressSpace,
    /// Offsets of maps, buckets, tables and segments.
    pub layout: &'a Layout,
    /// `g_HandleTableMap`.
    pub map: u64,
    /// Whether a bucket has a table for each processor.
    pub server: bool,
}

struct Reader<'a> {
    space: &'a AddressSpace,
    segments: u64,
    block_type: u64,
    user_data: u64,
    next: u64,
    owner: u64,
    handles: u64,
    types: u8,
}

/// All handles in use, of every table.
pub fn read(clr: &Clr) -> Result<Gathered<Handle>, Missing> {
    let map = clr.found.gc.handle_table_map.unwrap_or(0);
    Tables { space: clr.space(), layout: clr.layout(), map, server: clr.found.gc.is_server() }.read()
}

impl Tables<'_> {
    /// All handles in use, of every table.
    pub fn read(&self) -> Result<Gathered<Handle>, Missing> {
        let mut out = Gathered::default();
        let f = |name| self.layout.offset("HandleSegment", name);
        let reader = Reader {
            space: self.space,
            segments: self.layout.offset("HandleTable", "SegmentList")?,
            block_type: f("BlockType")?,
            user_data: f("UserData")?,
            next: f("Next")?,
            owner: f("Owner")?,
            handles: f("Handles")?,
            types: self.layout.constant("HandleTypeCount")?.min(32) as u8,
        };
        let mut seen = FxHashSet::default();
        for table in self.tables(&mut out)? {
            reader.table(table, &mut seen, &mut out);
        }
        Ok(out)
    }

    /// Handle tables: in each bucket of the map, one a heap (server GC: one a processor).
    fn tables(&self, out: &mut Gathered<Handle>) -> Result<Vec<u64>, Missing> {
        let (space, l, ptr) = (self.space, self.layout, u64::from(self.space.ptr_size()));
        let (buckets_at, next_at) = (l.offset("HandleTableMap", "Buckets")?, l.offset("HandleTableMap", "Next")?);
        let (max_at, table_at) = (l.offset("HandleTableMap", "MaxIndex")?, l.offset("HandleTableBucket", "Table")?);
        let limit = if self.server { MAX_TABLES } else { 1 };
        let mut tables = Vec::new();
        let (mut arrays, mut known) = (FxHashSet::default(), FxHashSet::default());
        let mut map = self.map;
        let (mut seen, mut before) = (FxHashSet::default(), 0);
        while map != 0 {
            if !seen.insert(map) || seen.len() > MAX_MAPS {
                out.because("the chain of handle table maps runs in a circle or is too long");
                break;
            }
            let buckets = space.ptr_at(map, buckets_at).unwrap_or(0);
            let max = space.u32(map.saturating_add(max_at)).unwrap_or(0);
            let count = max.saturating_sub(before);
            if count > MAX_BUCKETS {
                out.because(format!("of {count} buckets of handle tables {MAX_BUCKETS} are read"));
            }
            let count = count.min(MAX_BUCKETS);
            before = max;
            for i in 0..u64::from(count) {
                let Some(bucket) = space.ptr_at(buckets, i * ptr).filter(|&b| b != 0) else { continue };
                let Some(array) = space.ptr_at(bucket, table_at).filter(|&a| a != 0) else { continue };
                if !arrays.insert(array) {
                    continue;
                }
                if arrays.len() > MAX_ARRAYS {
                    out.because(format!("more than {MAX_ARRAYS} buckets of handle tables are not read"));
                    return Ok(tables);
                }
                for k in 0..limit {
                    // The array is as long as the machine has processors, which it does not say: it ends at the first
                    // thing that is not a table.
                    let table = space.ptr_at(array, k * ptr).filter(|&t| t != 0 && self.is_table(t));
                    let Some(table) = table else { break };
                    if known.insert(table) {
                        tables.push(table);
                    }
                }
            }
            map = space.ptr_at(map, next_at).unwrap_or(0);
        }
        if tables.is_empty() {
            out.because("the handle tables are not in the dump");
        }
        Ok(tables)
    }

    fn is_table(&self, table: u64) -> bool {
        let offset = self.layout.try_offset("HandleTable", "SegmentList");
        let segment = offset.and_then(|o| self.space.ptr_at(table, o));
        segment.is_some_and(|s| s == 0 || s.is_multiple_of(SEGMENT))
    }
}

impl Reader<'_> {
    /// The segments of one table. `seen` has those of all: each belongs to one.
    fn table(&self, table: u64, seen: &mut FxHashSet<u64>, out: &mut Gathered<Handle>) {
        let mut segment = self.space.ptr_at(table, self.segments).unwrap_or(0);
        while segment != 0 {
            if !seen.insert(segment) {
                out.because("a chain of handle segments runs in a circle");
                break;
            }
            if seen.len() > MAX_SEGMENTS {
                out.because(format!("only {MAX_SEGMENTS} segments of handles are read"));
                break;
            }
            // They are reserved at multiples of their size, so that none overlaps another (`HANDLE_SEGMENT_ALIGNMENT`).
            if !segment.is_multiple_of(SEGMENT) || self.space.ptr_at(segment, self.owner) != Some(table) {
                out.because(format!("handle segment {segment:x} is not in the dump or not one"));
                break;
            }
            self.segment(segment, out);
            segment = self.space.ptr_at(segment, self.next).unwrap_or(0);
        }
    }

    fn segment(&self, segment: u64, out: &mut Gathered<Handle>) {
        let (space, ptr) = (self.space, u64::from(self.space.ptr_size()));
        let blocks = blocks(ptr);
        for block in 0..blocks {
            let Some(kind) = space.u8(segment.saturating_add(self.block_type + block)) else {
                out.because(format!("handle segment {segment:x} is not whole in the dump"));
                return;
            };
            // The last internal type marks blocks of user data; 0xFF marks a free block.
            if kind >= self.types.saturating_sub(1) {
                continue;
            }
            let data = space.u8(segment.saturating_add(self.user_data + block)).filter(|&d| u64::from(d) < blocks);
            for i in 0..HANDLES {
                let slot = |b: u64| segment.saturating_add(self.handles + (b * HANDLES + i) * ptr);
                let address = slot(block);
                let Some(object) = space.ptr(address).filter(|&o| o != 0) else { continue };
                let extra = data.and_then(|d| space.ptr(slot(u64::from(d)))).unwrap_or(0);
                let (dependent, extra) = if kind == HandleKind::DEPENDENT.0 { (extra, 0) } else { (0, extra) };
                out.items.push(Handle { address, kind: HandleKind(kind), object, dependent, extra });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clr::layout::tables::TABLES;
    use crate::dump::map::FileMap;
    use crate::dump::space::SpaceBuilder;

    const MAP: u64 = 0x1000;
    const BUCKETS: u64 = 0x2000;
    const BUCKET: u64 = 0x3000;
    const ARRAY: u64 = 0x4000;
    const TABLE: u64 = 0x5000;

    struct Memory(Vec<u8>);

    impl Memory {
        fn put(&mut self, at: u64, v: u64) {
            self.0[at as usize..at as usize + 8].copy_from_slice(&v.to_le_bytes());
        }
    }

    /// Two maps, both with all their buckets alike, a table and a segment of it with one handle; `lie` damages it.
    fn read(lie: impl Fn(&mut Memory, &Layout)) -> Gathered<Handle> {
        let layout = TABLES.iter().find(|t| t.name == "coreclr-10.0-linux-x64").unwrap().layout();
        let o = |ty, field| layout.offset(ty, field).unwrap();
        let mut m = Memory(vec![0; 0x4_0000]);
        for (map, max) in [(MAP, 40), (MAP + 0x100, 80)] {
            m.put(map + o("HandleTableMap", "Buckets"), BUCKETS);
            m.put(map + o("HandleTableMap", "MaxIndex"), max);
        }
        m.put(MAP + o("HandleTableMap", "Next"), MAP + 0x100);
        (0..40).for_each(|i| m.put(BUCKETS + 8 * i, BUCKET));
        m.put(BUCKET + o("HandleTableBucket", "Table"), ARRAY);
        (0..64).for_each(|i| m.put(ARRAY + 8 * i, TABLE));
        m.put(TABLE + o("HandleTable", "SegmentList"), SEGMENT);
        m.put(SEGMENT + o("HandleSegment", "Owner"), TABLE);
        let types = SEGMENT + o("HandleSegment", "BlockType");
        (0..15).for_each(|i| m.put(types + 8 * i, u64::MAX));
        m.put(types, u64::MAX << 8 | u64::from(HandleKind::STRONG.0));
        m.put(SEGMENT + o("HandleSegment", "Handles") + 24, 0xABCD);
        lie(&mut m, &layout);
        let mut space = SpaceBuilder::new(8);
        let source = space.source(FileMap::owned(m.0));
        space.add(0, source, 0, u64::MAX);
        let space = space.build().0;
        Tables { space: &space, layout: &layout, map: MAP, server: true }.read().unwrap()
    }

    #[test]
    fn a_handle_is_found_once_however_many_ways_lead_to_it() {
        let found = read(|_, _| {});
        assert_eq!(found.items.iter().map(|h| (h.object, h.kind)).collect::<Vec<_>>(), [(0xABCD, HandleKind::STRONG)]);
        assert_eq!(found.partial, None);
    }

    #[test]
    fn segments_lie_at_multiples_of_their_size() {
        let found = read(|m, l| {
            let o = |field| l.offset("HandleSegment", field).unwrap();
            // The next one would begin in the middle of the first.
            m.put(SEGMENT + o("Next"), SEGMENT + 0x40);
            m.put(SEGMENT + 0x40 + o("Owner"), TABLE);
        });
        assert_eq!(found.items.len(), 1);
        assert!(found.partial.unwrap().contains("handle segment 10040"));
        let circle = read(|m, l| m.put(SEGMENT + l.offset("HandleSegment", "Next").unwrap(), SEGMENT));
        assert_eq!((circle.items.len(), circle.partial.is_some()), (1, true));
    }
}
