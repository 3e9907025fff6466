//! Invariants of the GC heap, handles, finalizer queue, sync table.

use super::{Found, Probe};
use crate::clr::layout::scan::{Span, words_equal};
use crate::clr::runtime::handles::blocks;
use crate::dump::{MapEntry, MapState, Presence};

pub fn run(p: &mut Probe<'_>) {
    segment(p);
    handles(p);
    finalize_queue(p);
    sync_table(p);
    heap_type(p);
    if p.layout.constant("InlineVtables").is_err() {
        super::tails::array_elements(p);
    }
}

/// Whether the first objects of generation 2 are not in the dump: every heap or full dump has them.
pub fn is_missing(p: &Probe<'_>) -> bool {
    let Some(record) = p.first_segment() else { return true };
    p.field(record, "HeapSegment", "Mem").is_none_or(|m| p.plausible(m) && !p.space().readable(m))
}

fn segment(p: &mut Probe<'_>) {
    const FIELDS: &[&str] = &[
        "HeapSegment.Allocated",
        "HeapSegment.Committed",
        "HeapSegment.Reserved",
        "HeapSegment.Mem",
        "HeapSegment.Flags",
        "HeapSegment.Next",
        "GCHeap.GenerationTable",
    ];
    let expected = "mem <= allocated <= committed <= reserved in generation 2's first segment";
    let record = p.first_segment();
    let get = |f| record.and_then(|r| p.field(r, "HeapSegment", f));
    let flags = if p.layout.try_offset("HeapSegment", "Flags").is_some() { get("Flags") } else { Some(0) };
    let found = match (get("Mem"), get("Allocated"), get("Committed"), get("Reserved"), flags, get("Next")) {
        (Some(mem), Some(allocated), Some(committed), Some(reserved), Some(flags), Some(next)) => {
            let next_ok = next == 0 || p.field(next, "HeapSegment", "Mem").is_none_or(|m| m != 0);
            let ok = mem != 0 && mem <= allocated && allocated <= committed && committed <= reserved && flags < 0x1000;
            let seen = format!("{mem:x} {allocated:x} {committed:x} {reserved:x}, flags {flags:x}");
            Found::when(ok && next_ok && committed - mem < 1 << 46, seen)
        }
        _ => Found::Absent("the segment's record is not in the dump".into()),
    };
    p.record("segment record", FIELDS, expected, found);
}

fn handles(p: &mut Probe<'_>) {
    const FIELDS: &[&str] = &[
        "HandleTableMap.Buckets",
        "HandleTableBucket.Table",
        "HandleTable.SegmentList",
        "HandleSegment.Owner",
        "HandleSegment.BlockType",
        "HandleSegment.Next",
    ];
    let way = || {
        let map = p.handle_table_map()?;
        let buckets = p.field(map, "HandleTableMap", "Buckets")?;
        let bucket = p.space().ptr(buckets)?;
        let tables = p.field(bucket, "HandleTableBucket", "Table")?;
        let table = p.space().ptr(tables)?;
        let segment = p.field(table, "HandleTable", "SegmentList")?;
        Some((table, segment))
    };
    let types = p.layout.constant("HandleTypeCount").unwrap_or(12) as u8;
    let known = p.layout.try_offset("HandleTable", "SegmentList").is_some();
    let found = match way() {
        _ if !known => Found::Absent("no provider names HandleTable.SegmentList".into()),
        Some((table, segment)) => {
            let owner = p.field(segment, "HandleSegment", "Owner");
            let next = p.field(segment, "HandleSegment", "Next");
            let kinds = p
                .layout
                .try_offset("HandleSegment", "BlockType")
                .and_then(|o| p.space().slice(segment.checked_add(o)?, blocks(p.ptr()) as usize))
                .map(|k| k.iter().all(|&t| t < types || t == 0xFF) && tails(p, segment, k, types));
            let next_ok = next.is_some_and(|n| n.is_multiple_of(0x1_0000));
            let ok = segment.is_multiple_of(0x1_0000) && owner == Some(table) && kinds == Some(true) && next_ok;
            let seen = format!("segment {segment:x}, owner {:x}, next {:x}", owner.unwrap_or(0), next.unwrap_or(0));
            if owner.is_none() && segment.is_multiple_of(0x1_0000) && segment != 0 {
                Found::Absent(format!("the segment at {segment:x} is not in the dump"))
            } else {
                Found::when(ok, seen)
            }
        }
        None if p.handle_table_map().is_some_and(|m| p.space().readable(m)) => {
            p.unreadable("the map leads nowhere".into())
        }
        None => Found::Absent("the handle table is not in the dump".into()),
    };
    p.record("handle segment", FIELDS, "64 KiB aligned, owned by its table, block types known", found);
}

/// The last block of each type is of that type: `rgTail` follows the types, the user data and the locks of the blocks.
/// Source: dotnet/runtime `src/coreclr/gc/handletablepriv.h`, `_TableSegmentHeader`.
fn tails(p: &Probe<'_>, segment: u64, kinds: &[u8], types: u8) -> bool {
    let at =
        p.layout.try_offset("HandleSegment", "BlockType").and_then(|o| segment.checked_add(o + 3 * blocks(p.ptr())));
    let Some(tails) = at.and_then(|a| p.space().slice(a, usize::from(types))) else { return false };
    let mut known = 0;
    for (kind, &tail) in tails.iter().enumerate().filter(|(_, t)| **t != 0xFF) {
        if kinds.get(usize::from(tail)) != Some(&(kind as u8)) {
            return false;
        }
        known += 1;
    }
    known > 0
}

fn finalize_queue(p: &mut Probe<'_>) {
    const FIELDS: &[&str] =
        &["FinalizeQueue.FillPointers", "FinalizeQueue.Array", "FinalizeQueue.End", "GCHeap.FinalizeQueue"];
    let count = p.layout.constant("FinalizeSegmentCount").unwrap_or(7);
    let found = match p.first_heap().map(|h| h.1) {
        Some(queue) if queue != 0 => {
            let (array, end) = (p.field(queue, "FinalizeQueue", "Array"), p.field(queue, "FinalizeQueue", "End"));
            let first = p.layout.try_offset("FinalizeQueue", "FillPointers").unwrap_or(0);
            let fills: Option<Vec<u64>> = (0..count).map(|i| p.space().ptr_at(queue, first + i * p.ptr())).collect();
            match (array, end, fills) {
                (Some(a), Some(e), Some(f)) => {
                    let ordered = f.windows(2).all(|w| w[0] <= w[1]);
                    let inside = f.iter().all(|x| (a..=e).contains(x)) && a <= e && e - a < 1 << 40;
                    Found::when(ordered && inside && p.plausible(a), format!("array {a:x}-{e:x}, fill pointers {f:x?}"))
                }
                _ => Found::Absent("the finalize queue is not in the dump".into()),
            }
        }
        _ => Found::Absent("the finalize queue is not in the dump".into()),
    };
    p.record("finalize queue", FIELDS, "fill pointers in order, inside the array", found);
}

fn sync_table(p: &mut Probe<'_>) {
    const FIELDS: &[&str] =
        &["&SyncTableEntries", "SyncTableEntry.!", "SyncTableEntry.Object", "SyncTableEntry.SyncBlock"];
    let expected = "the object of entry i has i in its header";
    let Some(table) = p.variable("SyncTableEntries").filter(|&t| t != 0) else {
        p.record("sync table", FIELDS, expected, Found::Bad("null or not readable".into()));
        return;
    };
    let found = sync_table_at(p, table, || no_sync_block_yet(p));
    p.record("sync table", FIELDS, expected, found);
    sync_blocks(p, table);
}

/// `BIT_SBLK_IS_HASH_OR_SYNCBLKINDEX` set and `BIT_SBLK_IS_HASHCODE` clear.
const KIND: (u32, u32) = (0x0C00_0000, 0x0800_0000);
/// Bits of an index in an object's header and in a sync block.
const INDEX: u32 = 0x03FF_FFFF;

/// Whether the object's header has the index `i` of a sync block.
pub fn leads_back(p: &Probe<'_>, object: u64, i: u32) -> bool {
    let header = object.checked_sub(4).and_then(|a| p.space().u32(a));
    header.is_some_and(|h| h & KIND.0 == KIND.1 && h & INDEX == i)
}

/// A sync block names its own entry, behind the bit of those that must be kept.
fn sync_blocks(p: &mut Probe<'_>, table: u64) {
    if p.layout.try_offset("SyncBlock", "Index").is_none() {
        return;
    }
    let size = p.layout.try_offset("SyncTableEntry", "!").unwrap_or(2 * p.ptr());
    let (mut right, mut wrong) = (0, 0);
    for i in 1..64u32 {
        let Some(entry) = table.checked_add(size * u64::from(i)) else { break };
        let Some(object) = p.field(entry, "SyncTableEntry", "Object").filter(|o| *o != 0 && o & 1 == 0) else {
            continue;
        };
        let Some(block) = p.field(entry, "SyncTableEntry", "SyncBlock").filter(|&b| p.space().readable(b)) else {
            continue;
        };
        let header = object.checked_sub(4).and_then(|a| p.space().u32(a));
        let leads_back = leads_back(p, object, i);
        let named = p.word(block, "SyncBlock", "Index").is_some_and(|n| n & INDEX == i);
        right += u32::from(named && (leads_back || header.is_none()));
        wrong += u32::from(leads_back && !named);
    }
    let found = match right + wrong {
        0 => Found::Absent("no entry in use".into()),
        n => Found::when(wrong == 0, format!("{right} of {n} blocks")),
    };
    // The index stands behind the lock: where it is not, neither is the lock.
    const FIELDS: &[&str] = &[
        "SyncBlock.Index",
        "SyncBlock.LockState",
        "SyncBlock.Recursion",
        "SyncBlock.Owner",
        "SyncBlock.Lock",
        "SyncBlock.ThinLock",
    ];
    p.record("sync blocks", FIELDS, "the block of entry i has i in it", found);
}

/// Whether no sync block was ever made, by the cache of them: none in use, the first entry the next to give out, no free
/// ones, the table of its first size. Then the table was never written, and whatever lies there is no entry (seen in the
/// first seconds of 8.0.27 and later). Source: dotnet/runtime `src/coreclr/vm/syncblk.h`, `SyncBlockCache`:
/// `m_ActiveCount`, `m_FreeSyncTableIndex`, `m_FreeSyncTableList`, `m_SyncTableSize`.
fn no_sync_block_yet(p: &Probe<'_>) -> bool {
    const FIRST_SIZE: u64 = 250;
    let image = Span { base: p.module.base, end: p.module.end };
    words_equal(p.space(), image, 4, FIRST_SIZE).iter().any(|&size| {
        let word = |back: u64| size.checked_sub(back).and_then(|a| p.space().u32(a));
        let list = size.checked_sub(p.ptr()).and_then(|a| p.space().ptr(a));
        let pad = 4 + p.ptr();
        (word(pad), word(pad + 4), list) == (Some(1), Some(0), Some(0))
    })
}

/// Whether the dump names no memory but its own and that of images: what else was mapped it does not tell.
fn names_only_its_own(p: &Probe<'_>) -> bool {
    let own = |e: &MapEntry| e.presence == Presence::Dumped || p.dump.module_at(e.start).is_some();
    p.dump.map.iter().all(own)
}

/// Judges a possible sync table by its first entries. Entry 0 is unused; freed entries hold a tagged index.
/// `unused` tells whether none was ever given out.
pub fn sync_table_at(p: &Probe<'_>, table: u64, unused: impl Fn() -> bool) -> Found {
    let size = p.layout.try_offset("SyncTableEntry", "!").unwrap_or(2 * p.ptr());
    // What lies behind the entries given out so far was never written: only an entry with a right one after it is wrong.
    let (mut right, mut wrong, mut unclear, mut free, mut odd) = (0, 0, 0, 0, 0);
    for i in 1..64u32 {
        let Some(entry) = table.checked_add(size * u64::from(i)) else { break };
        let Some(object) = p.field(entry, "SyncTableEntry", "Object") else { break };
        let block = p.field(entry, "SyncTableEntry", "SyncBlock");
        // A free entry holds the index of the next free one, shifted, with the lowest bit set.
        if object & 1 != 0 || object == 0 {
            free += 1;
            odd += u32::from(object > 1 << 27);
            continue;
        }
        let header = object.checked_sub(4).and_then(|a| p.space().u32(a));
        if header.is_none() && p.mini {
            continue;
        }
        let good = leads_back(p, object, i);
        // A mini dump has some objects and none of their blocks (2.1).
        if good && block.is_some_and(|b| p.space().readable(b) || p.mini && b != 0 && p.plausible(b)) {
            right += 1;
            wrong += std::mem::take(&mut unclear);
        } else {
            unclear += 1;
        }
    }
    if right == 0 && unclear > 0 && unused() {
        return Found::Absent("no entry was ever given out".into());
    }
    let seen = match right {
        0 => format!("none of {unclear} entries"),
        _ => format!("{right} of {} entries", right + wrong),
    };
    if right + unclear == 0 {
        return if odd > 0 {
            Found::Bad(format!("{odd} entries hold no index"))
        } else if free > 8 {
            Found::Absent("no entry in use".into())
        } else if p.space().readable(table) {
            Found::Bad(format!("readable, but only {free} entries"))
        } else if p.mini && p.plausible(table) && names_only_its_own(p) {
            // A dump that names no memory but its own does not tell.
            Found::Absent("the sync table is not in the dump".into())
        } else if p.dump.map_at(table).is_none_or(|e| e.state != MapState::Commit) {
            Found::Bad(format!("{table:x} is not mapped"))
        } else {
            Found::Absent("the sync table is not in the dump".into())
        };
    }
    Found::when(right > 0 && wrong == 0, seen)
}

fn heap_type(p: &mut Probe<'_>) {
    let Ok(at) = p.layout.global("HeapType") else { return };
    let found = match p.space().u32(at) {
        Some(n) => Found::when(n == if p.gc.is_server() { 2 } else { 1 }, n.to_string()),
        None => Found::Absent("not in the dump".into()),
    };
    p.record("heap type", &["&HeapType"], if p.gc.is_server() { "2, server" } else { "1, workstation" }, found);
}
