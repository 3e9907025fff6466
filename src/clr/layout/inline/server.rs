//! The heaps of the server collector of CLR 2.0 by their shape: each has its table of generations in place.

use rustc_hash::FxHashSet;

use super::super::{Layout, Source};
use super::heap::{Form, GENERATIONS, Span, Table, WORDS, Youngest, bounds, queue_form, segment, set, set_queue};
use crate::dump::AddressSpace;

/// Bytes of a `gc_heap` looked through.
const REACH: u64 = 0x4000;
/// More heaps than processors a process can use.
const MOST_HEAPS: u64 = 1024;

/// Whether the variable with the heap's type says that there are several.
pub fn is_one(space: &AddressSpace, layout: &Layout) -> bool {
    const SERVER: u32 = 2;
    layout.global("HeapType").ok().and_then(|a| space.u32(a)) == Some(SERVER)
}

/// Finds where the members of a heap are, alike in all of them. Gives the segments that their oldest generations begin with.
pub fn heaps(space: &AddressSpace, layout: &mut Layout) -> Option<Vec<Span>> {
    let all = addresses(space, layout)?;
    let (at, form) = table(space, &all)?;
    let tables = || all.iter().map(|&h| Table { space, at: h.saturating_add(at) });
    let old: Vec<u64> =
        tables().flat_map(|t| [t.word(2, form.size, form.first), t.word(3, form.size, form.first)]).flatten().collect();
    set(space, layout, form, &old)?;
    // Where a heap begins to allocate from is not told by a table that is found by its segments.
    layout.drop_field("Generation", "AllocationContext");
    // A generation may begin before its first segment is named: nothing of the table is looked at for other members.
    let span = at.saturating_sub(form.size)..at + GENERATIONS * form.size;
    let places: Vec<u64> = words(space).filter(|o| !span.contains(o)).collect();
    let youngest: Vec<u64> = tables().map(|t| t.word(0, form.size, form.first).unwrap_or(0)).collect();
    let values = |o: u64| all.iter().map(|&h| space.ptr_at(h, o)).collect::<Option<Vec<u64>>>();
    let ephemeral = places.iter().copied().find(|&o| values(o).as_ref() == Some(&youngest))?;
    let end = end_of_allocation(space, &youngest, &places, &values)?;
    let queues: Vec<(u64, _)> = places.iter().filter_map(|&o| Some((o, queue_form(space, &values(o)?)?))).collect();
    let fields = [("GenerationTable", at), ("EphemeralHeapSegment", ephemeral), ("AllocAllocated", end)];
    for (field, offset) in fields {
        layout.set_field("GCHeap", field, offset, Source::Calibrated);
    }
    let queue = match queues.as_slice() {
        &[only] => Some(only),
        _ => None,
    };
    if let Some((offset, _)) = queue {
        layout.set_field("GCHeap", "FinalizeQueue", offset, Source::Calibrated);
    }
    set_queue(space, layout, queue.map(|q| q.1));
    Some(old.iter().filter_map(|&s| segment(space, s)).collect())
}

/// Where each of the heaps allocates.
pub fn youngest(space: &AddressSpace, layout: &Layout) -> Option<Vec<Youngest>> {
    let (segment, end) =
        (layout.try_offset("GCHeap", "EphemeralHeapSegment")?, layout.try_offset("GCHeap", "AllocAllocated")?);
    let of = |heap: u64| {
        let (mem, committed) = bounds(space, space.ptr_at(heap, segment)?)?;
        Some(Youngest { mem, committed, end: space.ptr_at(heap, end)? })
    };
    addresses(space, layout)?.into_iter().map(of).collect()
}

/// Offsets of words in a heap.
fn words(space: &AddressSpace) -> std::iter::StepBy<std::ops::Range<u64>> {
    (0..REACH).step_by(usize::from(space.ptr_size()))
}

/// The heaps' addresses: as many as the runtime counts, no two alike.
fn addresses(space: &AddressSpace, layout: &Layout) -> Option<Vec<u64>> {
    let count = layout.global("NumHeaps").ok().and_then(|a| space.u32(a)).map(u64::from)?;
    let array = layout.global("Heaps").ok().and_then(|a| space.ptr(a))?;
    let ptr = u64::from(space.ptr_size());
    if !(1..=MOST_HEAPS).contains(&count) {
        return None;
    }
    let all: Vec<u64> =
        (0..count).map(|i| space.ptr_at(array, i * ptr).filter(|&h| h > 0xFFFF)).collect::<Option<_>>()?;
    let distinct: FxHashSet<&u64> = all.iter().collect();
    (distinct.len() == all.len()).then_some(all)
}

/// Offset of the table of generations, counted from its first segment, and its form: the only one that all heaps have.
fn table(space: &AddressSpace, heaps: &[u64]) -> Option<(u64, Form)> {
    let ptr = u64::from(space.ptr_size());
    let &first = heaps.first()?;
    let leads: FxHashSet<u64> = words(space)
        .filter(|&o| space.ptr_at(first, o).is_some_and(|w| w.is_multiple_of(0x1000) && segment(space, w).is_some()))
        .collect();
    let mut found: Vec<(u64, Form)> = Vec::new();
    for at in words(space).filter(|o| leads.contains(o)) {
        for size in WORDS.map(|n| n * ptr).filter(|size| (1..GENERATIONS).all(|g| leads.contains(&(at + g * size)))) {
            let fits = |start: &u64| {
                heaps.iter().all(|&heap| {
                    let table = Table { space, at: heap.saturating_add(at) };
                    table.segments(size, 0).is_some_and(|all| table.begins(size, *start, &all))
                })
            };
            let start = (ptr..size).step_by(ptr as usize).find(fits);
            found.extend(start.map(|start| (at, Form { size, first: 0, start })));
        }
    }
    // The segment that is allocated in stands in front of the first one, where both are the same.
    let &(at, form) = found.last()?;
    let alike = |f: &(u64, Form)| f.1.size == form.size && f.0 + f.1.start == at + form.start;
    found.iter().all(alike).then_some((at, form))
}

/// Offset of where allocation ends in the youngest segment of each heap: the only value between what the last collection left and
/// what is committed.
fn end_of_allocation(
    space: &AddressSpace,
    youngest: &[u64],
    places: &[u64],
    values: &dyn Fn(u64) -> Option<Vec<u64>>,
) -> Option<u64> {
    let ptr = u64::from(space.ptr_size());
    let inside = |(&segment, &value): (&u64, &u64)| {
        let (allocated, committed) = (space.ptr(segment)?, space.ptr_at(segment, ptr)?);
        ((allocated..=committed).contains(&value) && value.is_multiple_of(4)).then_some(())
    };
    let fits = |o: &u64| {
        let all = values(*o)?;
        youngest.iter().zip(&all).all(|pair| inside(pair).is_some()).then_some((*o, all))
    };
    let found: Vec<(u64, Vec<u64>)> = places.iter().filter_map(fits).collect();
    let (offset, value) = found.first()?;
    found.iter().all(|f| f.1 == *value).then_some(*offset)
}
