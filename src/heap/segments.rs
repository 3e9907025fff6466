//! Segments and regions of the GC heap, from the collector's own tables.
//!
//! Layout facts: dotnet/runtime `src/coreclr/gc/gcpriv.h` (`heap_segment`, `generation`), `dac_gcheap_fields.h`; the
//! order in which generations are visited and the end of a segment follow the rules in `docs/layouts.md`.

use rustc_hash::FxHashSet;

use super::model::{Heap, Segment, SegmentKind, SubHeap, TOP};
use super::regions::{Record, RegionTable};
use crate::clr::Clr;
use crate::clr::layout::Missing;
use crate::dump::AddressSpace;

/// No process has more heaps than this (the runtime's own limit is 1024 processors).
const MAX_HEAPS: u32 = 1024;
/// Bound on the nodes of one segment chain.
const MAX_CHAIN: usize = 1 << 20;
/// `heap_segment_flags_readonly`: frozen.
const FLAG_FROZEN: u64 = 1;
/// How a problem begins that only a dump written while its process ran on has.
pub const TORN: &str = "the dump looks torn";

impl Heap {
    /// Reads the heap's shape. `contexts` are the threads' allocation contexts.
    pub fn read(clr: &Clr, contexts: &[(u64, u64)]) -> Result<Self, Missing> {
        let gc = &clr.found.gc;
        let mut heap = Heap { server: gc.is_server(), regions: gc.has_regions(), ..Self::default() };
        let space = clr.space();
        heap.in_gc = gc.gc_structures_invalid_cnt.and_then(|a| space.u32(a)).is_some_and(|n| n as i32 > 0);
        if heap.in_gc {
            heap.problems
                .push("the dump was taken inside a garbage collection: parts of the heap are not walkable".into());
        }
        if gc.gc_structures_invalid_cnt.is_none() {
            heap.problems.push("whether the dump was taken inside a garbage collection is not known".into());
        }
        if !heap.server && gc.alloc_allocated.is_none() {
            let why = "where allocation ends in the youngest segment is not known: its objects are left out";
            heap.problems.push(why.into());
        }
        let reader = Reader { clr, space, record: RecordOffsets::new(clr)?, seen: FxHashSet::default(), shared: 0 };
        reader.fill(&mut heap)?;
        heap.contexts = contexts.iter().copied().filter(|c| c.0 != 0).collect();
        // Inside a collection a generation's own context says where objects are planned to go, not what lies there now.
        for h in heap.heaps.iter().filter(|_| !heap.in_gc) {
            heap.contexts.extend(&h.contexts);
        }
        heap.contexts.sort_unstable();
        heap.contexts.dedup();
        heap.stray_contexts();
        Ok(heap)
    }

    /// Threads allocate inside segments: a context elsewhere is a sign of a torn dump. (Silent where segments are known
    /// to be missing.)
    fn stray_contexts(&mut self) {
        if !self.problems.is_empty() {
            return;
        }
        let stray = self.contexts.iter().filter(|c| self.segment_reserving(c.0).is_none()).count();
        if stray > 0 {
            let all = self.contexts.len();
            self.problems.push(format!("{TORN}: {stray} of {all} allocation contexts lie in no segment"));
        }
    }

    /// The segment whose objects include `address`.
    pub fn segment_at(&self, address: u64) -> Option<&Segment> {
        let i = self.segments.partition_point(|s| s.start <= address);
        self.segments.get(i.checked_sub(1)?).filter(|s| address < s.end)
    }

    /// The segment whose reserved memory includes `address`, its end too, where the next does not begin.
    pub fn segment_reserving(&self, address: u64) -> Option<&Segment> {
        let i = self.segments.partition_point(|s| s.start <= address);
        self.segments.get(i.checked_sub(1)?).filter(|s| address <= s.reserved)
    }

    /// Allocated bytes of all segments.
    pub fn allocated(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }
}

struct RecordOffsets {
    allocated: u64,
    committed: u64,
    reserved: u64,
    mem: u64,
    /// CLR 2.0 may have none.
    flags: Option<u64>,
    next: u64,
    heap: Option<u64>,
}

impl RecordOffsets {
    fn new(clr: &Clr) -> Result<Self, Missing> {
        let f = |name| clr.layout().offset("HeapSegment", name);
        Ok(Self {
            allocated: f("Allocated")?,
            committed: f("Committed")?,
            reserved: f("Reserved")?,
            mem: f("Mem")?,
            flags: clr.layout().try_offset("HeapSegment", "Flags"),
            next: f("Next")?,
            heap: clr.layout().try_offset("HeapSegment", "Heap"),
        })
    }
}

struct Reader<'a> {
    clr: &'a Clr,
    space: &'a AddressSpace,
    record: RecordOffsets,
    seen: FxHashSet<u64>,
    /// Chains that run into another one.
    shared: u32,
}

impl Reader<'_> {
    fn fill(mut self, heap: &mut Heap) -> Result<(), Missing> {
        heap.heaps = if heap.server { self.server_heaps(&mut heap.problems)? } else { vec![self.workstation_heap()] };
        for i in 0..heap.heaps.len() {
            let sub = &mut heap.heaps[i];
            Self::read_generations(self.clr, self.space, sub);
            let sub = sub.clone();
            // Regions: the order decides which generation a region shared by two chains (a torn dump) belongs to.
            let order: &[usize] = if heap.regions { &[3, 2, 1, 0, 4] } else { &[2, 3, 4] };
            for &generation in order {
                if generation < self.clr.found.gc.generation_count as usize {
                    self.chain(heap, &sub, generation);
                }
            }
        }
        heap.segments.sort_by_key(|s| s.start);
        self.signs_of_tearing(heap);
        let overlaps = heap.segments.windows(2).filter(|w| w[1].start < w[0].end).count();
        if overlaps > 0 {
            heap.problems.push(format!("{overlaps} segments overlap their neighbour and were cut"));
            for i in 1..heap.segments.len() {
                let next = heap.segments[i].start;
                let s = &mut heap.segments[i - 1];
                s.end = s.end.min(next.max(s.start));
            }
        }
        Ok(())
    }

    /// A dump written while the process ran on: chains that share regions, an ephemeral segment or regions in use that no
    /// chain leads to. Those regions are added. Inside a collection the same is ordinary, and said as that.
    fn signs_of_tearing(&self, heap: &mut Heap) {
        let why = if heap.in_gc { "inside the collection" } else { TORN };
        if self.shared > 0 {
            heap.problems.push(format!("{why}: {} chains of segments run into another one", self.shared));
        }
        let r = &self.record;
        let record = Record {
            allocated: r.allocated,
            committed: r.committed,
            reserved: r.reserved,
            mem: r.mem,
            flags: r.flags.unwrap_or(u64::MAX),
            heap: r.heap,
        };
        let mut extra =
            RegionTable::measure(self.clr, heap).map(|t| t.unlinked(self.clr, heap, &record)).unwrap_or_default();
        for s in &mut extra {
            // The region that is allocated from ends where the heap says.
            let end = heap.heaps.iter().find(|h| h.ephemeral == s.record).map(|h| h.alloc_allocated);
            s.end = end.filter(|e| (s.start..=s.committed).contains(e)).unwrap_or(s.end);
        }
        if !extra.is_empty() {
            let n = extra.len();
            heap.problems
                .push(format!("{why}: {n} regions in use are in no generation's chain; they are shown as well"));
            heap.segments.extend(extra);
            heap.segments.sort_by_key(|s| s.start);
        }
        let lost = |h: &&SubHeap| h.ephemeral != 0 && !heap.segments.iter().any(|s| s.record == h.ephemeral);
        let lost = heap.heaps.iter().filter(lost).count();
        if lost > 0 && heap.problems.is_empty() {
            heap.problems.push(format!("{why}: the ephemeral segment of {lost} heaps is in no generation's chain"));
        }
    }

    fn workstation_heap(&self) -> SubHeap {
        let gc = &self.clr.found.gc;
        let value = |cell: Option<u64>| cell.and_then(|a| self.space.ptr(a)).unwrap_or(0);
        SubHeap {
            alloc_allocated: value(gc.alloc_allocated),
            ephemeral: value(gc.ephemeral_heap_segment),
            finalize_queue: value(gc.finalize_queue),
            generations: gc.generation_table.unwrap_or(0),
            ..SubHeap::default()
        }
    }

    fn server_heaps(&self, problems: &mut Vec<String>) -> Result<Vec<SubHeap>, Missing> {
        let gc = &self.clr.found.gc;
        let count = gc.n_heaps.and_then(|a| self.space.u32(a)).unwrap_or(0);
        if count == 0 || count > MAX_HEAPS {
            problems.push(format!("the number of server heaps reads {count}; taken as none"));
            return Ok(Vec::new());
        }
        let array = gc.g_heaps.and_then(|a| self.space.ptr(a)).unwrap_or(0);
        let offset = |index: usize, name: &str| -> Result<u64, Missing> {
            match gc.gc_heap_field_offsets.get(index) {
                Some(&o) if o >= 0 => Ok(o as u64),
                _ => self.clr.layout().offset("GCHeap", name),
            }
        };
        let (alloc, ephemeral) = (offset(0, "AllocAllocated")?, offset(1, "EphemeralHeapSegment")?);
        let (finalize, table) = (offset(2, "FinalizeQueue")?, offset(18, "GenerationTable")?);
        let ptr = u64::from(self.space.ptr_size());
        let mut heaps = Vec::new();
        for index in 0..count {
            let Some(address) = self.space.ptr_at(array, u64::from(index) * ptr).filter(|&a| a != 0) else {
                problems.push(format!("heap {index} of {count} is not readable"));
                continue;
            };
            let value = |o| self.space.ptr_at(address, o).unwrap_or(0);
            heaps.push(SubHeap {
                index,
                address,
                alloc_allocated: value(alloc),
                ephemeral: value(ephemeral),
                finalize_queue: value(finalize),
                generations: address.saturating_add(table),
                ..SubHeap::default()
            });
        }
        Ok(heaps)
    }

    fn generation(clr: &Clr, sub: &SubHeap, generation: usize) -> u64 {
        sub.generations.saturating_add(clr.found.gc.generation_size.saturating_mul(generation as u64))
    }

    fn read_generations(clr: &Clr, space: &AddressSpace, sub: &mut SubHeap) {
        let offsets = clr.found.gc.generation_field_offsets;
        let ptr = u64::from(space.ptr_size());
        for g in 0..(clr.found.gc.generation_count as usize).min(5) {
            let record = Self::generation(clr, sub, g);
            if let Ok(o) = u64::try_from(offsets[2]) {
                sub.allocation_starts[g] = space.ptr_at(record, o).unwrap_or(0);
            }
            // What older generations have left of theirs is a free block once a collection is over (dotnet/coreclr v1.0
            // `src/gc/gc.cpp`, `fix_older_allocation_area`), and the context still there.
            if g == 0
                && let Ok(o) = u64::try_from(offsets[0])
                && let Some(p) = space.ptr_at(record, o).filter(|&p| p != 0)
                && let Some(limit) = space.ptr_at(record, o + ptr)
            {
                sub.contexts.push((p, limit));
            }
        }
    }

    fn chain(&mut self, heap: &mut Heap, sub: &SubHeap, generation: usize) {
        let offset = self.clr.found.gc.generation_field_offsets[1].max(0) as u64;
        let Some(mut record) = self.space.ptr_at(Self::generation(self.clr, sub, generation), offset) else {
            heap.problems.push(format!("heap {}: the record of generation {generation} is not in the dump", sub.index));
            return;
        };
        let mut count = 0;
        self.shared += u32::from(record != 0 && self.seen.contains(&record));
        while record != 0 && self.seen.insert(record) {
            count += 1;
            if count > MAX_CHAIN {
                heap.problems.push(format!("the chain of generation {generation} has no end; cut"));
                break;
            }
            match self.segment(sub, generation, record) {
                Some(s) => heap.segments.push(s),
                None => heap.problems.push(format!("segment record {record:x} is not readable or not one; skipped")),
            }
            record = self.space.ptr_at(record, self.record.next).unwrap_or(0);
            self.shared += u32::from(record != 0 && self.seen.contains(&record));
        }
    }

    fn segment(&self, sub: &SubHeap, generation: usize, record: u64) -> Option<Segment> {
        let value = |o| self.space.ptr_at(record, o);
        let r = &self.record;
        let (start, committed) = (value(r.mem)?, value(r.committed)?);
        let flags = r.flags.map_or(Some(0), value)?;
        let ephemeral = record == sub.ephemeral;
        let end = if ephemeral { sub.alloc_allocated } else { value(r.allocated)? };
        if start == 0 || end < start || start >= TOP {
            return None;
        }
        let end = end.min(TOP);
        let kind = match generation {
            _ if flags & FLAG_FROZEN != 0 => SegmentKind::Frozen,
            3 => SegmentKind::Large,
            4 => SegmentKind::Pinned,
            0 => SegmentKind::Generation0,
            1 => SegmentKind::Generation1,
            _ if ephemeral && !self.clr.found.gc.has_regions() => SegmentKind::Ephemeral,
            _ => SegmentKind::Generation2,
        };
        let inside = |a: u64| if (start..=end).contains(&a) { a } else { end };
        let (gen0, gen1) = match kind {
            SegmentKind::Ephemeral => (inside(sub.allocation_starts[0]), inside(sub.allocation_starts[1])),
            _ => (end, end),
        };
        Some(Segment {
            record,
            heap: sub.index,
            kind,
            start,
            end,
            committed,
            reserved: value(r.reserved).unwrap_or(committed),
            flags,
            gen0,
            gen1: gen1.min(gen0),
        })
    }
}
