//! The region table: one record for each region of the reserved range, in use or not. In a sound dump the generations'
//! chains lead to exactly the records in use; where they do not (a dump torn while it was written, or taken inside a
//! collection) the table is the better list.
//!
//! Records form one array indexed by address (dotnet/runtime v8.0.0 `src/coreclr/gc/gc.cpp`, `get_region_info`). Its start
//! and the size of a record are measured on the chains: no layout table names them.

use super::model::{Heap, Segment, SegmentKind, TOP};
use crate::clr::Clr;
use crate::dump::AddressSpace;

/// `heap_segment::mem` behind the start of its region: the first object has its header in front of it.
const HEAD: u64 = 0x28;
/// Lowest and highest address of the reserved range behind `bookkeeping_start` (`card_table_info`).
const LOWEST: u64 = 0x18;
const HIGHEST: u64 = 0x20;
/// `gen_num` (u8) before the end of a record: 8.0 to 10, workstation and server alike.
const GENERATION_BEFORE_END: u64 = 72;
/// More regions than any range has: twice the memory of the machine is reserved, in regions of 4 MB, so that these are 64 TB.
const MAX_REGIONS: u64 = 1 << 24;
const FLAG_LARGE: u64 = 8;
const FLAG_PINNED: u64 = 0x200;

/// Offsets of a record, as [`crate::clr::layout::Layout`] has them.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// End of the last object.
    pub allocated: u64,
    /// End of committed memory.
    pub committed: u64,
    /// End of the region.
    pub reserved: u64,
    /// First object.
    pub mem: u64,
    /// Flags.
    pub flags: u64,
    /// The owning `gc_heap` (server GC).
    pub heap: Option<u64>,
}

/// The array of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionTable {
    first: u64,
    record_size: u64,
    lowest: u64,
    region: u64,
    count: u64,
}

impl RegionTable {
    /// Measures the table on the regions the chains lead to; `None` when they are too few or do not agree on one.
    pub fn measure(clr: &Clr, heap: &Heap) -> Option<Self> {
        let (space, ptr) = (clr.space(), u64::from(clr.ptr_size()));
        let start = space.ptr(clr.found.gc.bookkeeping_start?).filter(|&a| a != 0)?;
        let (lowest, highest) = (space.ptr_at(start, LOWEST * ptr / 8)?, space.ptr_at(start, HIGHEST * ptr / 8)?);
        let inside = |s: &&Segment| s.kind != SegmentKind::Frozen && (lowest..highest).contains(&s.start);
        let known: Vec<&Segment> = heap.segments.iter().filter(inside).collect();
        let region = known.iter().map(|s| s.reserved.saturating_sub(s.start - HEAD)).min().filter(|r| *r >= 1 << 16)?;
        if !region.is_power_of_two() || !lowest.is_multiple_of(region) {
            return None;
        }
        let index = |s: &Segment| (s.start - HEAD - lowest) / region;
        let (a, b) = (*known.first()?, *known.last()?);
        let apart = index(b).checked_sub(index(a)).filter(|&n| n > 0)?;
        let record_size = b.record.checked_sub(a.record)? / apart;
        let first = a.record.checked_sub(index(a).checked_mul(record_size)?)?;
        let count = ((highest - lowest) / region).min(MAX_REGIONS);
        let table = Self { first, record_size, lowest, region, count };
        let agree = (0x60..0x400).contains(&record_size) && known.iter().all(|s| table.record(index(s)) == s.record);
        agree.then_some(table)
    }

    fn record(&self, index: u64) -> u64 {
        self.first.saturating_add(index.saturating_mul(self.record_size))
    }

    /// Regions in use that are in none of the chains.
    pub fn unlinked(&self, clr: &Clr, heap: &Heap, r: &Record) -> Vec<Segment> {
        let space = clr.space();
        let linked: rustc_hash::FxHashSet<u64> = heap.segments.iter().map(|s| s.record).collect();
        let mut found = Vec::new();
        let mut index = 0;
        while index < self.count {
            let record = self.record(index);
            if !space.readable(record) {
                // Most of the table was never committed: go to the next record that is there.
                let Some(next) = space.next_readable(record) else { break };
                index = (next - self.first).div_ceil(self.record_size).max(index + 1);
                continue;
            }
            if !linked.contains(&record)
                && let Some(s) = self.segment(space, heap, r, record, index)
            {
                found.push(s);
            }
            index += 1;
        }
        found
    }

    /// The region of a record, when it holds objects: one that is free or the continuation of a large one has none.
    fn segment(&self, space: &AddressSpace, heap: &Heap, r: &Record, record: u64, index: u64) -> Option<Segment> {
        let value = |o| space.ptr_at(record, o);
        let start = value(r.mem)?;
        if start != self.lowest + index * self.region + HEAD {
            return None;
        }
        let (end, committed, reserved) = (value(r.allocated)?, value(r.committed)?, value(r.reserved)?);
        if !(start < end && end <= committed && committed <= reserved && reserved <= TOP) {
            return None;
        }
        let flags = value(r.flags)?;
        let generation = space.u8(record.checked_add(self.record_size.checked_sub(GENERATION_BEFORE_END)?)?)?;
        let kind = match generation {
            _ if flags & FLAG_LARGE != 0 => SegmentKind::Large,
            _ if flags & FLAG_PINNED != 0 => SegmentKind::Pinned,
            0 => SegmentKind::Generation0,
            1 => SegmentKind::Generation1,
            _ => SegmentKind::Generation2,
        };
        let owner = r.heap.filter(|_| heap.server).and_then(value).unwrap_or(0);
        let heap = heap.heaps.iter().find(|h| h.address == owner).map_or(0, |h| h.index);
        Some(Segment { record, heap, kind, start, end, committed, reserved, flags, gen0: end, gen1: end })
    }
}
