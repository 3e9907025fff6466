//! Heaps of Windows: which there are, of which kind, and how much memory they have. Their blocks are not read.
//!
//! No dump of Windows itself was at hand with its debugger's word on its heaps: list and recognition are proved on dumps of
//! wine, kinds and counters of Windows' own heaps on none.

use rustc_hash::FxHashSet;

use super::regions::Range;
use crate::dump::{Arch, Dump, MapState, MapType, Os};

/// Whose layout a heap has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeapKind {
    /// `_HEAP`, what every process of Windows has.
    Nt,
    /// `_SEGMENT_HEAP`, Windows 10 and later, where a program asks for it.
    Segment,
    /// wine's, of layouts of its own.
    Wine,
    /// None of these, or its head is not in the dump.
    Unknown,
}

impl HeapKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            HeapKind::Nt => "NT heap",
            HeapKind::Segment => "segment heap",
            HeapKind::Wine => "wine",
            HeapKind::Unknown => "unknown",
        }
    }
}

/// A heap of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsHeap {
    /// Its handle, which is its address.
    pub address: u64,
    /// Its kind.
    pub kind: HeapKind,
    /// Allocations that it has, as the memory map knows them, by address.
    pub memory: Vec<Range>,
    /// Bytes of those, reserved ones among them, and how many are committed.
    pub mapped: (u64, u64),
    /// What its own counters say is reserved and committed.
    pub counted: Option<(u64, u64)>,
}

/// Offsets in the process environment block and in a heap. Layout: winsiderss/phnt `ntpebteb.h` (`PEB`, `TEB`), the same since
/// Windows Vista; wine-mirror/wine `include/winternl.h` has it too.
struct Offsets {
    teb_peb: u64,
    process_heap: u64,
    heap_count: u64,
    heaps: u64,
    signature: u64,
    segment_heap: u64,
    /// `_HEAP.Signature`, since 8 and of 7, with the list of segments behind it.
    nt: [(u64, u64); 2],
    /// `_HEAP.Counters`: `TotalMemoryReserved`, `TotalMemoryCommitted`, ... of 10, 8.1, 7. Layout: ntdiff/headers
    /// `Win8.1_U1`, `Win10_20H1_18885` `_HEAP.h`; trolldbois/python-haystack `Win7SP1X64`, `Win7SP1X86`.
    counters: &'static [u64],
    /// `SegmentListEntry` in a segment.
    entry: u64,
    /// `_SEGMENT_HEAP.MemStats`: reserved, committed pages' bytes. Later versions of 10, and 1903.
    stats: &'static [u64],
}

const OFFSETS_64: Offsets = Offsets {
    teb_peb: 0x60,
    process_heap: 0x30,
    heap_count: 0xE8,
    heaps: 0xF0,
    signature: 0x10,
    segment_heap: 0x28,
    nt: [(0x98, 0x120), (0xA0, 0x128)],
    counters: &[0x238, 0x210, 0x188],
    entry: 0x18,
    stats: &[0x80, 0x18],
};
const OFFSETS_32: Offsets = Offsets {
    teb_peb: 0x30,
    process_heap: 0x18,
    heap_count: 0x88,
    heaps: 0x90,
    signature: 0x8,
    segment_heap: 0x18,
    nt: [(0x60, 0xA4), (0x64, 0xA8)],
    counters: &[0x1E0, 0xDC],
    entry: 0x10,
    stats: &[],
};

impl Offsets {
    fn of(arch: Arch) -> &'static Self {
        if arch.pointer_size() == 8 { &OFFSETS_64 } else { &OFFSETS_32 }
    }
}

/// Address of the process environment block, as the first thread that has one names it.
pub fn peb(dump: &Dump) -> Option<u64> {
    let offset = Offsets::of(dump.arch).teb_peb;
    dump.threads.iter().filter_map(|t| t.teb).find_map(|teb| dump.space.ptr_at(teb, offset)).filter(|&p| p != 0)
}

/// `SegmentSignature` of an NT heap and each of its segments; wine writes the same.
const NT_SEGMENT: u32 = 0xFFEE_FFEE;
/// `Signature` of a segment heap, at the same place.
const SEGMENT_HEAP: u32 = 0xDDEE_DDEE;
/// `Signature` of an NT heap.
const NT_HEAP: u32 = 0xEEFF_EEFF;
/// `HEAP`, what wine writes (`dlls/ntdll/heap.c`, `HEAP_MAGIC`), somewhere in this part of the head.
const WINE_HEAP: u32 = u32::from_le_bytes(*b"HEAP");
const WINE_HEAD: std::ops::Range<u64> = 0x40..0x200;
/// Most heaps a process is believed to have, and segments a heap: a program makes a handful, damage any number.
const MAX_HEAPS: u64 = 4096;

/// The heaps of the process, in the order the process lists them.
pub fn list(dump: &Dump) -> Vec<OsHeap> {
    if dump.os != Os::Windows {
        return Vec::new();
    }
    let Some(peb) = peb(dump) else { return Vec::new() };
    let o = Offsets::of(dump.arch);
    let mut heaps: Vec<OsHeap> = handles(dump, peb, o).into_iter().map(|h| one(dump, o, h)).collect();
    further_segments(dump, o, &mut heaps);
    for h in &mut heaps {
        h.memory.sort_unstable();
        h.memory.dedup();
        h.mapped = h.memory.iter().fold((0, 0), |sum, r| (sum.0 + (r.1 - r.0), sum.1 + committed(dump, *r)));
    }
    heaps
}

fn handles(dump: &Dump, peb: u64, o: &Offsets) -> Vec<u64> {
    let step = u64::from(dump.arch.pointer_size());
    let count = peb.checked_add(o.heap_count).and_then(|a| dump.space.u32(a)).map_or(0, u64::from).min(MAX_HEAPS);
    let list = dump.space.ptr_at(peb, o.heaps);
    let listed = (0..count).map_while(|i| dump.space.ptr_at(list?, i * step)).filter(|&h| h != 0);
    // The process's own heap is named apart; where the list is not kept (wine) it is the only one known.
    let own = dump.space.ptr_at(peb, o.process_heap).filter(|&h| h != 0);
    let mut handles: Vec<u64> = listed.collect();
    handles.extend(own.filter(|h| !handles.contains(h)));
    handles
}

fn one(dump: &Dump, o: &Offsets, address: u64) -> OsHeap {
    let u32_at = |offset: u64| address.checked_add(offset).and_then(|a| dump.space.u32(a));
    let nt = o.nt.iter().find(|n| u32_at(n.0) == Some(NT_HEAP));
    let kind = match u32_at(o.signature) {
        Some(SEGMENT_HEAP) => HeapKind::Segment,
        Some(_) if nt.is_some() => HeapKind::Nt,
        Some(NT_SEGMENT) if WINE_HEAD.step_by(4).any(|n| u32_at(n) == Some(WINE_HEAP)) => HeapKind::Wine,
        _ => HeapKind::Unknown,
    };
    let counted = match (kind, nt) {
        (HeapKind::Nt, Some(&(_, list))) => nt_counters(dump, o, address, list),
        (HeapKind::Segment, _) => o.stats.iter().find_map(|&at| pair(dump, address, at)),
        _ => None,
    };
    OsHeap { address, kind, memory: dump.allocation(address).into_iter().collect(), mapped: (0, 0), counted }
}

/// Two numbers of bytes that follow one another: reserved and committed.
fn pair(dump: &Dump, heap: u64, offset: u64) -> Option<(u64, u64)> {
    let w = u64::from(dump.arch.pointer_size());
    let (reserved, committed) = (dump.space.ptr_at(heap, offset)?, dump.space.ptr_at(heap, offset.checked_add(w)?)?);
    let pages = reserved.is_multiple_of(0x1000) && committed.is_multiple_of(0x1000);
    (pages && committed > 0 && committed <= reserved).then_some((reserved, committed))
}

/// The counters of an NT heap: those whose number of segments is that of its list.
fn nt_counters(dump: &Dump, o: &Offsets, heap: u64, list: u64) -> Option<(u64, u64)> {
    let (head, w) = (heap.checked_add(list)?, u64::from(dump.arch.pointer_size()));
    let (mut segments, mut at) = (0, dump.space.ptr(head)?);
    while at != head && segments < MAX_HEAPS {
        // The entry of a segment whose heap is this one.
        let segment = at.checked_sub(o.entry)?;
        if dump.space.ptr_at(segment, o.segment_heap) != Some(heap) {
            return None;
        }
        (segments, at) = (segments + 1, dump.space.ptr(at)?);
    }
    // Reserved, committed, the largest uncommitted range, bytes of large blocks; then ULONG TotalSegments.
    let fits = |&&at: &&u64| {
        let total = heap.checked_add(at + 4 * w).and_then(|a| dump.space.u32(a));
        total.map(u64::from) == Some(segments)
    };
    o.counters.iter().filter(fits).find_map(|&at| pair(dump, heap, at))
}

/// Further segments of NT heaps: an allocation of their signature that names one of the heaps.
fn further_segments(dump: &Dump, o: &Offsets, heaps: &mut [OsHeap]) {
    let known: FxHashSet<u64> = heaps.iter().map(|h| h.address).collect();
    for e in dump.map.iter().filter(|e| e.kind == MapType::Private && e.start == e.allocation_base) {
        let signed = e.start.checked_add(o.signature).and_then(|a| dump.space.u32(a)) == Some(NT_SEGMENT);
        let Some(heap) = dump.space.ptr_at(e.start, o.segment_heap).filter(|h| signed && known.contains(h)) else {
            continue;
        };
        if let (Some(range), Some(h)) = (dump.allocation(e.start), heaps.iter_mut().find(|h| h.address == heap)) {
            h.memory.push(range);
        }
    }
}

fn committed(dump: &Dump, (start, end): Range) -> u64 {
    let first = dump.map.partition_point(|e| e.end <= start);
    let inside = dump.map.get(first..).unwrap_or(&[]).iter().take_while(|e| e.start < end);
    inside.filter(|e| e.state == MapState::Commit).map(|e| e.end.min(end) - e.start.max(start)).sum()
}
