//! CLR 2.0 (`mscorwks.dll`), whose MethodTables have their vtables inline: what no table can say of it, by shape.
//!
//! Order of the DAC table and of members: the shared source of CLR 2.0. No byte of such a runtime was at hand, so each piece is
//! taken only where what it leads to has the shape it must have: a variable that holds the image's own base aligns the
//! table, each generation begins in a segment, whose record lies in the page in front of its objects.

use super::scan::Anchor;
use super::{Layout, Source};
use crate::dump::{AddressSpace, Dump};

/// Slots on either side in which the variable with the image's base is looked for: service packs add some.
const REACH: i32 = 8;
/// Words of a `generation`, at least and at most.
const WORDS: std::ops::RangeInclusive<u64> = 5..=64;
const PAGE: u64 = 0x1000;

/// Completes `layout`, bound to the DAC table at `anchor`. What is not proved is taken out of it.
pub fn complete(dump: &Dump, layout: &mut Layout, anchor: &Anchor) {
    if layout.constant("InlineVtables").is_err() {
        return;
    }
    let aligned = align(dump, layout, anchor).is_some();
    if !aligned || generations(&dump.space, layout).is_none() {
        layout.drop_global("GCHeapGenerationTable");
    }
}

/// Moves the slots behind the well-known types so that the one that should hold the image's base does.
fn align(dump: &Dump, layout: &mut Layout, anchor: &Anchor) -> Option<()> {
    let own = *layout.dac_slots.get("RuntimeBase")?;
    let holds = |d: &i32| {
        let cell = anchor.get(&dump.space, own + d);
        cell.and_then(|c| dump.space.ptr(c)) == Some(anchor.base)
    };
    let moved = (0..=REACH).flat_map(|d| [d, -d]).find(holds)?;
    let behind: Vec<(String, i32)> =
        layout.dac_slots.iter().filter(|s| *s.1 > 0).map(|(n, &i)| (n.clone(), i + moved)).collect();
    for (name, index) in behind {
        match anchor.get(&dump.space, index) {
            Some(cell) => layout.set_global(&name, cell, Source::DacTable(index)),
            None => layout.drop_global(&name),
        }
    }
    Some(())
}

/// A segment whose record lies in the page in front of its objects: these, and the end of what is allocated.
fn segment(space: &AddressSpace, at: u64) -> Option<(u64, u64)> {
    let ptr = u64::from(space.ptr_size());
    let word = |i: u64| space.ptr_at(at, i * ptr);
    let (allocated, committed, reserved, mem) = (word(0)?, word(1)?, word(2)?, word(4)?);
    let ordered = mem <= allocated && allocated <= committed && committed <= reserved;
    (at != 0 && at.is_multiple_of(PAGE) && mem == at.checked_add(PAGE)? && ordered).then_some((mem, allocated))
}

/// Finds how generations are laid out: the only size and places at which all four begin in segments, the oldest two where
/// theirs do, the younger ones behind it; and where a segment names the next.
fn generations(space: &AddressSpace, layout: &mut Layout) -> Option<()> {
    let ptr = u64::from(space.ptr_size());
    let table = layout.global("GCHeapGenerationTable").ok()?;
    let word = |g: u64, size: u64, o: u64| space.ptr(table.checked_add(g * size + o)?);
    let segments = |size: u64, o: u64| -> Option<[(u64, u64); 4]> {
        let one = |g: u64| segment(space, word(g, size, o)?);
        Some([one(0)?, one(1)?, one(2)?, one(3)?])
    };
    let begins = |size: u64, o: u64, all: &[(u64, u64); 4]| -> Option<()> {
        let starts = [word(0, size, o)?, word(1, size, o)?, word(2, size, o)?, word(3, size, o)?];
        let inside = starts.iter().zip(all).all(|(s, seg)| (seg.0..=seg.1).contains(s));
        let old = starts[2] == all[2].0 && starts[3] == all[3].0;
        // In one segment the younger lie behind.
        let order = |a: usize, b: usize| all[a] != all[b] || starts[a] > starts[b];
        (inside && old && order(1, 2) && order(0, 1)).then_some(())
    };
    let mut found = Vec::new();
    for size in WORDS.map(|n| n * ptr) {
        let places = || (0..size).step_by(ptr as usize);
        let firsts: Vec<(u64, [(u64, u64); 4])> = places().filter_map(|o| Some((o, segments(size, o)?))).collect();
        for start in places() {
            // The first segment stands close in front of where the generation begins.
            let near = firsts.iter().rev().find(|f| f.0 < start && begins(size, start, &f.1).is_some());
            found.extend(near.map(|f| (size, f.0, start)));
        }
    }
    let &[(size, first, start)] = found.as_slice() else { return None };
    let next = next_of(space, word(2, size, first)?, word(3, size, first)?)?;
    let fields =
        [("Generation", "!", size), ("Generation", "StartSegment", first), ("Generation", "AllocationStart", start)];
    for (ty, name, at) in fields.into_iter().chain([("HeapSegment", "Next", next * ptr)]) {
        layout.set_field(ty, name, at, Source::Calibrated);
    }
    if next == FLAGS {
        layout.drop_field("HeapSegment", "Flags");
    }
    Some(())
}

/// The word of flags, where segments have them; the next segment stands there otherwise.
const FLAGS: u64 = 5;

/// The word of a segment that names the next one.
fn next_of(space: &AddressSpace, small: u64, large: u64) -> Option<u64> {
    let ptr = u64::from(space.ptr_size());
    let leads = |s: u64, i: u64| space.ptr_at(s, i * ptr).is_some_and(|n| n == 0 || segment(space, n).is_some());
    let known = |i: &u64| leads(small, *i) && leads(large, *i);
    let goes_on = |i: &u64| [small, large].iter().any(|&s| space.ptr_at(s, i * ptr).is_some_and(|n| n != 0));
    // Where nothing follows, either place says so.
    let all = [FLAGS + 1, FLAGS];
    all.into_iter().filter(known).find(goes_on).or_else(|| all.into_iter().find(known))
}
