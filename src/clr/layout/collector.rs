//! The garbage collector's variables by structure, where `GcDacVars` is not in the dump or may not be asked.
//!
//! Shapes: dotnet/runtime `src/coreclr/gc/gcpriv.h` (`generation` starts with its allocation context, then its first
//! segment; `heap_segment`; `CFinalize`), `objecthandle.h` (`HandleTableMap`).

use super::gcdac::{GcDacVars, context_size};
use super::scan::{Span, each_word, words_equal};
use crate::clr::types::methodtable::MtReader;
use crate::dump::{AddressSpace, Dump};

/// Sizes of a `generation` record in pointers, at least and at most.
const GENERATION_WORDS: std::ops::RangeInclusive<u64> = 24..=48;
/// Bytes of a `gc_heap` looked through.
const HEAP_REACH: u64 = 0x4000;
/// More heaps than processors a process can use.
const MOST_HEAPS: usize = 1024;
/// Most words of one image.
const MOST_WORDS: usize = 1 << 20;

/// Pages are at least this big.
const PAGE: u64 = 0x1000;

struct Finder<'a> {
    space: &'a AddressSpace,
    ptr: u64,
    /// Words of the image that are pointers out of it, with their addresses.
    words: Vec<(u64, u64)>,
}

/// A table of generations.
#[derive(Clone, Copy)]
struct Generations {
    table: u64,
    size: u64,
    count: u32,
    /// Whether the segment allocated in stands in front of the first one, as through 1.x.
    older: bool,
}

/// The variables found in the image; `None` when there is no generation table.
pub fn find(dump: &Dump, image: Span) -> Option<GcDacVars> {
    let finder = Finder::new(dump, image);
    finder.workstation().or_else(|| finder.server(image))
}

/// The map of handle tables in the image: through 2.0 the collector's struct does not name it.
pub fn handle_map(dump: &Dump, image: Span) -> Option<u64> {
    Finder::new(dump, image).handle_table_map()
}

/// The variable that holds the end of allocation, once the threads' allocation contexts are known: the last context ends
/// an object's least size before it. `None` where several may be it.
pub fn allocation_end(
    dump: &Dump,
    image: Span,
    gc: &GcDacVars,
    contexts: &[(u64, u64)],
    mts: Option<&MtReader>,
) -> Option<u64> {
    let finder = Finder::new(dump, image);
    let record = dump.space.ptr(gc.ephemeral_heap_segment?)?;
    let (mem, committed, _) = finder.segment(record)?;
    let last = contexts.iter().map(|c| c.1).filter(|l| (mem..=committed).contains(l)).max()?;
    let end = last.checked_add(3 * finder.ptr)?;
    let ends = finder.ends(image, record)?;
    if let Some(proved) = ends.iter().find(|e| e.0 == end) {
        return Some(proved.1);
    }
    // The thread that was last given memory has ended: then there must be but one. Multiples of a page are bounds of
    // memory, not of objects.
    let behind: Vec<&(u64, u64)> = ends.iter().filter(|e| e.0 > end && !e.0.is_multiple_of(PAGE)).collect();
    let first = behind.first()?;
    if behind.iter().all(|e| e.0 == first.0) {
        return Some(first.1);
    }
    // Or only one of them is where an object begins: objects follow one another up to there.
    let wanted: Vec<u64> = behind.iter().map(|e| e.0).collect();
    match finder.boundaries(mts?, mem, committed, contexts, &wanted)[..] {
        [only] => behind.iter().find(|e| e.0 == only).map(|e| e.1),
        _ => None,
    }
}

impl<'a> Finder<'a> {
    fn new(dump: &'a Dump, image: Span) -> Self {
        let space = &dump.space;
        let ptr = u64::from(space.ptr_size());
        let mut words = Vec::new();
        each_word(space, image, |at, value| {
            let out = value > 0x1_0000 && !image.contains(value) && value.is_multiple_of(ptr);
            if out && words.len() < MOST_WORDS && space.readable(value) {
                words.push((at, value));
            }
        });
        Self { space, ptr, words }
    }

    /// Words of a record before its first segment.
    fn context(&self) -> u64 {
        context_size(self.ptr) / self.ptr
    }

    fn word(&self, base: u64, index: u64) -> Option<u64> {
        self.space.ptr_at(base, index * self.ptr)
    }

    /// Whether a `heap_segment` lies at `at`; gives its first object, the end of what is committed and of the whole.
    fn segment(&self, at: u64) -> Option<(u64, u64, u64)> {
        let [allocated, committed, reserved, used, mem, flags] =
            [0, 1, 2, 3, 4, 5].map(|i| self.word(at, i).unwrap_or(u64::MAX));
        let ordered = mem <= allocated && allocated <= committed && committed <= reserved && reserved < 1 << 56;
        let within = mem <= used && used <= committed && mem > 0x1_0000 && mem.is_multiple_of(self.ptr);
        (ordered && within && flags < 0x1000 && committed.is_multiple_of(PAGE)).then_some((mem, committed, reserved))
    }

    /// Whether `address` lies in one of the segments from `segment` on. Generation 2 begins with the NonGC heap's segments,
    /// its objects behind them (the standalone collector of 8.0 and later).
    fn chain_has(&self, segment: u64, address: u64) -> bool {
        const MOST_SEGMENTS: usize = 256;
        let mut at = segment;
        for _ in 0..MOST_SEGMENTS {
            let Some((mem, committed, _)) = self.segment(at) else { return false };
            if (mem..=committed).contains(&address) {
                return true;
            }
            at = self.word(at, 6).unwrap_or(0);
        }
        false
    }

    /// A table whose first record holds its first segment at `first`.
    fn generations(&self, first: u64) -> Option<Generations> {
        // Behind the first segment: with regions the last one, with segments where the generation's objects begin.
        let holds = |at: u64| {
            let segment = self.space.ptr(at)?;
            self.segment(segment)?;
            let after = self.space.ptr_at(at, self.ptr)?;
            Some(self.segment(after).is_some() || self.chain_has(segment, after))
        };
        let holds = |at: u64| holds(at) == Some(true);
        if !holds(first) {
            return None;
        }
        let table = first.checked_sub(self.context() * self.ptr)?;
        let size = GENERATION_WORDS.map(|n| n * self.ptr).find(|size| (1..4).all(|i| holds(first + i * size)))?;
        // The two oldest generations begin where their segments do: three words behind the segment allocated in, where
        // that comes first.
        let begins = |at: u64| {
            let (mem, ..) = self.segment(self.word(at, 1)?)?;
            (self.word(at, 3)? == mem).then_some(())
        };
        let older = [2, 3].iter().all(|i| begins(first + i * size).is_some());
        let count = if !older && holds(first + 4 * size) { 5 } else { 4 };
        Some(Generations { table, size, count, older })
    }

    /// What both flavours of the collector have.
    fn variables(&self, g: Generations) -> GcDacVars {
        let after = self.word(g.table, self.context() + 1).unwrap_or(0);
        // With regions the last region of the generation follows the first, with segments the start of allocation.
        let regions = self.segment(after).is_some();
        let at = |n: u64| (n * self.ptr) as i32;
        let offsets = match (g.older, regions) {
            (true, _) => [0, at(self.context() + 1), at(self.context() + 3)],
            (false, true) => [0, at(self.context()), -1],
            (false, false) => [0, at(self.context()), at(self.context() + 1)],
        };
        GcDacVars {
            generation_size: g.size,
            generation_count: g.count,
            generation_field_offsets: offsets,
            handle_table_map: self.handle_table_map(),
            ..GcDacVars::default()
        }
    }

    fn workstation(&self) -> Option<GcDacVars> {
        let g = self.words.iter().find_map(|&(at, _)| self.generations(at))?;
        let table = g.table..g.table + g.size * u64::from(g.count);
        let mut youngest = Vec::new();
        let mut record = self.word(g.table, self.context() + u64::from(g.older))?;
        while record != 0 && youngest.len() < 1 << 16 && !youngest.contains(&record) {
            youngest.push(record);
            record = self.word(record, 6).unwrap_or(0);
        }
        // The variable that names the segment allocated in, and the one that names where allocation is.
        let outside = || self.words.iter().filter(|w| !table.contains(&w.0));
        let ephemeral = outside().find(|w| youngest.contains(&w.1))?;
        let queue = outside().find(|w| self.finalize_queue(w.1, g.count) == Some(true)).map(|w| w.0);
        Some(GcDacVars {
            generation_table: Some(g.table),
            ephemeral_heap_segment: Some(ephemeral.0),
            finalize_queue: queue,
            ..self.variables(g)
        })
    }

    /// Variables that may hold the end of allocation in a segment, with their values: they point into its committed part,
    /// at or behind the end the last collection left.
    fn ends(&self, image: Span, record: u64) -> Option<Vec<(u64, u64)>> {
        let (mem, committed, _) = self.segment(record)?;
        let least = self.word(record, 0)?.max(mem);
        let mut found = Vec::new();
        each_word(self.space, image, |at, value| {
            if (least..=committed).contains(&value) && value.is_multiple_of(self.ptr) && found.len() < 4096 {
                found.push((value, at));
            }
        });
        Some(found)
    }

    /// Those of `wanted` where an object begins or ends, objects following one another from `mem` on, the unused rests of
    /// allocation contexts left out. What lies behind the last object may look like objects, too: it was one once.
    fn boundaries(
        &self,
        mts: &MtReader,
        mem: u64,
        committed: u64,
        contexts: &[(u64, u64)],
        wanted: &[u64],
    ) -> Vec<u64> {
        let least = 3 * self.ptr;
        let next = |at: u64| {
            if let Some(context) = contexts.iter().find(|c| c.0 == at && c.1 >= at) {
                return context.1.checked_add(least);
            }
            let mt = mts.read(self.space, self.space.ptr(at)? & !(self.ptr - 1))?;
            let count = if mt.has_component_size() { u64::from(self.space.u32(at.checked_add(self.ptr)?)?) } else { 0 };
            let size = u64::from(mt.base_size) + count * u64::from(mt.component_size());
            (mt.base_size >= 2 * self.ptr as u32).then_some(())?;
            at.checked_add(size.max(least).next_multiple_of(8))
        };
        let (mut at, mut found) = (Some(mem), Vec::new());
        while let Some(place) = at.filter(|&a| a <= committed) {
            if wanted.contains(&place) && !found.contains(&place) {
                found.push(place);
            }
            at = next(place);
        }
        found
    }

    /// Fill pointers in order within the array they divide; whether there is something in it.
    fn finalize_queue(&self, at: u64, generations: u32) -> Option<bool> {
        let fills = u64::from(generations) + 2;
        // Through 1.x the array stands in front of them.
        self.queue(at, fills, (0, fills)).or_else(|| self.queue(at, fills, (1, 0)))
    }

    /// With the first of `fills` fill pointers and the array at these words.
    fn queue(&self, at: u64, fills: u64, (first, array_at): (u64, u64)) -> Option<bool> {
        let (array, end) = (self.word(at, array_at)?, self.word(at, fills + 1)?);
        let mut before = array;
        let ordered = (0..fills).all(|i| {
            let fill = self.word(at, first + i).unwrap_or(0);
            std::mem::replace(&mut before, fill) <= fill && fill.is_multiple_of(self.ptr)
        });
        let sized = array > 0x1_0000 && before <= end && end > array && end - array < 1 << 32;
        let entries = (before.saturating_sub(array) / self.ptr).min(16);
        let shaped = ordered && sized && array.is_multiple_of(self.ptr);
        let held = shaped && (0..entries).all(|i| self.word(array, i).is_some_and(|o| self.is_object(o & !1)));
        held.then_some(before > array)
    }

    /// Whether an object begins at `at`: the class of its MethodTable leads back, directly or by the canonical one. The
    /// two places are the same in every version (dotnet/runtime `src/coreclr/vm/methodtable.h`, `class.h`): in front of the
    /// class lie 16 bytes of numbers and three pointers, in front of the way back two pointers. Through 2.2
    /// the way back is stored as distance, and the canonical one may be behind a cell (both tag bits).
    fn is_object(&self, at: u64) -> bool {
        const BACK: u64 = 2;
        let class_at = 16 / self.ptr + 3;
        let tags = self.ptr - 1;
        let within = |a: u64| if self.ptr == 4 { a & 0xFFFF_FFFF } else { a };
        let leads_back = |class: u64, mt: u64| {
            let place = class.wrapping_add(BACK * self.ptr);
            self.space.ptr(place).is_some_and(|to| to == mt || to != 0 && within(place.wrapping_add(to)) == mt)
        };
        let back = || {
            let mt = self.space.ptr(at)? & !tags;
            let class = self.word(mt, class_at)?;
            let canonical = match class & 3 {
                0 => return leads_back(class, mt).then_some(()),
                3 => self.space.ptr(class & !3)?,
                _ => class & !3,
            };
            leads_back(self.word(canonical, class_at)? & !3, canonical).then_some(())
        };
        back().is_some()
    }

    /// The map of handle tables: a table of buckets, no next map, the number of buckets; the first table's first segment
    /// is aligned and knows its table.
    fn handle_table_map(&self) -> Option<u64> {
        // `HANDLE_MAX_INDEX` and the place of the owner in a segment's header: dotnet/runtime `handletablepriv.h`.
        let owners: [u64; 2] = if self.ptr == 8 { [0x7D0, 0x7D6] } else { [0xF4C, 0xF52] };
        const TABLE_WORDS: u64 = 0x40;
        let is_map = |at: u64, buckets: u64| {
            let count = self.space.u32(at.checked_add(2 * self.ptr)?)?;
            if self.word(at, 1)? != 0 || !(1..=4096).contains(&count) {
                return None;
            }
            let table = self.space.ptr(self.space.ptr(self.space.ptr(buckets)?)?)?;
            let aligned = |s: &u64| *s != 0 && s.is_multiple_of(0x1_0000);
            let mut segments = (0..TABLE_WORDS).filter_map(|i| self.word(table, i)).filter(aligned);
            segments.any(|s| owners.iter().any(|o| self.space.ptr_at(s, *o) == Some(table))).then_some(at)
        };
        self.words.iter().find_map(|&(at, value)| is_map(at, value))
    }

    /// Server GC: an array of heaps, each with a table of generations whose segments name the heap.
    fn server(&self, image: Span) -> Option<GcDacVars> {
        let mut seen = rustc_hash::FxHashSet::default();
        for &(cell, array) in &self.words {
            let Some(heap) = self.space.ptr(array).filter(|&h| h > 0x1_0000 && self.space.readable(h)) else {
                continue;
            };
            if !seen.insert(heap) {
                continue;
            }
            let Some((offset, g)) = self.heap(heap) else { continue };
            let heaps = self.heaps(array, offset);
            let together = self.parts(&heaps, g.count, offset).map(|p| [p, p + self.ptr, p + 2 * self.ptr]);
            let apart = || self.parts_apart(&heaps, g, offset);
            let Some([end, segment, queue]) = together.or_else(apart) else { continue };
            let count = words_equal(self.space, image, 4, heaps.len() as u64).first().copied();
            let mut offsets = vec![-1; 19];
            for (index, at) in [(0, end), (1, segment), (2, queue), (18, offset)] {
                offsets[index] = at as i32;
            }
            return Some(GcDacVars {
                n_heaps: count,
                g_heaps: Some(cell),
                gc_heap_field_offsets: offsets,
                ..self.variables(g)
            });
        }
        None
    }

    /// Whether the segment names `heap`: behind its flags, its successor and two more words, through 1.x two words further on.
    fn owned(&self, segment: u64, heap: u64) -> bool {
        [8, 10].iter().any(|&i| self.word(segment, i) == Some(heap))
    }

    /// Offset of the table of generations in a heap.
    fn heap(&self, heap: u64) -> Option<(u64, Generations)> {
        let owned = |segment: u64| self.owned(segment, heap);
        (0..HEAP_REACH).step_by(self.ptr as usize).find_map(|o| {
            let first = heap.checked_add(o)?;
            self.space.ptr(first).filter(|&s| s > 0x1_0000 && owned(s))?;
            let g = self.generations(first)?;
            Some((g.table - heap, g))
        })
    }

    /// Heaps of the array: as long as their generations are where the first one's are.
    fn heaps(&self, array: u64, offset: u64) -> Vec<u64> {
        let all = (0..MOST_HEAPS as u64).map_while(|i| {
            let heap = self.word(array, i).filter(|&h| h != 0)?;
            let first = self.space.ptr_at(heap, offset + self.context() * self.ptr)?;
            self.owned(first, heap).then_some(heap)
        });
        all.collect()
    }

    /// Offset in a heap of the end of allocation, followed by the segment allocated in and the finalize queue.
    fn parts(&self, heaps: &[u64], generations: u32, table: u64) -> Option<u64> {
        // Some of many heaps may have nothing to finalize, but not all.
        let fits = |heap: u64, o: u64| {
            let [end, segment, queue] = [0, 1, 2].map(|i| self.space.ptr_at(heap, o + i * self.ptr).unwrap_or(0));
            let (mem, committed, _) = self.segment(segment).filter(|_| self.owned(segment, heap))?;
            if (mem..=committed).contains(&end) { self.finalize_queue(queue, generations) } else { None }
        };
        let used = |o: u64| heaps.iter().map(|&h| fits(h, o)).try_fold(false, |any, used| Some(any | used?));
        let all = (0..HEAP_REACH).step_by(self.ptr as usize).filter(|&o| o != table);
        all.into_iter().find(|&o| used(o) == Some(true))
    }

    /// The same through 1.x, where the three do not stand together: the segment allocated in is the one that generation 0 begins
    /// with, the end of allocation stands close in front of the table of generations.
    fn parts_apart(&self, heaps: &[u64], g: Generations, table: u64) -> Option<[u64; 3]> {
        const NEAR: u64 = 4;
        g.older.then_some(())?;
        let youngest = |heap: u64| self.space.ptr_at(heap, table + (self.context() + 1) * self.ptr);
        let all = |fits: &dyn Fn(u64, u64) -> Option<bool>, o: u64| -> Option<bool> {
            heaps.iter().map(|&h| fits(h, self.space.ptr_at(h, o)?)).try_fold(false, |any, hit| Some(any | hit?))
        };
        let end = |heap: u64, value: u64| {
            let (mem, committed, _) = self.segment(youngest(heap)?)?;
            let least = self.word(youngest(heap)?, 0)?.max(mem);
            (least..=committed).contains(&value).then_some(true)
        };
        let segment = |heap: u64, value: u64| (youngest(heap)? == value).then_some(true);
        let queue = |_: u64, value: u64| self.finalize_queue(value, g.count);
        let outside = |o: &u64| !(table..table + g.size * u64::from(g.count)).contains(o);
        let find = |fits: &dyn Fn(u64, u64) -> Option<bool>| {
            (0..HEAP_REACH).step_by(self.ptr as usize).filter(outside).find(|&o| all(fits, o) == Some(true))
        };
        let near = (1..=NEAR).filter_map(|i| table.checked_sub(i * self.ptr));
        Some([near.into_iter().find(|&o| all(&end, o) == Some(true))?, find(&segment)?, find(&queue)?])
    }
}
