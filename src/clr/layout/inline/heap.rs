//! Generations, segments and the finalizer's queue of CLR 2.0 by their shapes.
//!
//! The shared source has a collector of its own (`clr/src/vm/gcsmppriv.h`); that of the product had more members. What both
//! must have: a generation keeps its first segment and where its objects begin, a segment's record lies in the page in front of its
//! objects, and the queue's fill pointers are in order.

use super::super::{Layout, Source};
use crate::dump::AddressSpace;

/// Words of a `generation`, at least and at most.
pub const WORDS: std::ops::RangeInclusive<u64> = 5..=64;
const PAGE: u64 = 0x1000;
/// The generations: three, and the one of large objects.
pub const GENERATIONS: u64 = 4;

/// Objects of a segment: from here to here.
pub type Span = (u64, u64);

/// A segment whose record lies in the page in front of its objects: these, and the end of what is allocated.
pub fn segment(space: &AddressSpace, at: u64) -> Option<Span> {
    let ptr = u64::from(space.ptr_size());
    let word = |i: u64| space.ptr_at(at, i * ptr);
    let (allocated, committed, reserved, mem) = (word(0)?, word(1)?, word(2)?, word(4)?);
    let ordered = mem <= allocated && allocated <= committed && committed <= reserved;
    (at != 0 && at.is_multiple_of(PAGE) && mem == at.checked_add(PAGE)? && ordered).then_some((mem, allocated))
}

/// Where a generation's members may be: its size, the places of its first segment and of where its objects begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub size: u64,
    pub first: u64,
    pub start: u64,
}

/// A table of generations that may be one.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub space: &'a AddressSpace,
    pub at: u64,
}

impl Table<'_> {
    /// The word at `o` of generation `g`, if each has `size` bytes.
    pub fn word(&self, g: u64, size: u64, o: u64) -> Option<u64> {
        self.space.ptr(self.at.checked_add(g * size + o)?)
    }

    /// The first segments, where all four generations have one at `o`.
    pub fn segments(&self, size: u64, o: u64) -> Option<[Span; 4]> {
        let one = |g: u64| segment(self.space, self.word(g, size, o)?);
        Some([one(0)?, one(1)?, one(2)?, one(3)?])
    }

    /// Whether the generations begin at `o` in their segments: the oldest two where theirs do, the younger ones behind it.
    pub fn begins(&self, size: u64, o: u64, all: &[Span; 4]) -> bool {
        let starts = [0, 1, 2, 3].map(|g| self.word(g, size, o).unwrap_or(0));
        let inside = starts.iter().zip(all).all(|(s, seg)| (seg.0..=seg.1).contains(s));
        let old = starts[2] == all[2].0 && starts[3] == all[3].0;
        // In one segment the younger lie behind.
        let order = |a: usize, b: usize| all[a] != all[b] || starts[a] > starts[b];
        inside && old && order(1, 2) && order(0, 1)
    }

    /// Every form under which it is a table: with the first segment close in front of where the generation begins.
    pub fn forms(&self) -> Vec<Form> {
        let ptr = u64::from(self.space.ptr_size());
        let mut found = Vec::new();
        for size in WORDS.map(|n| n * ptr) {
            let places = || (0..size).step_by(ptr as usize);
            let firsts: Vec<(u64, [Span; 4])> = places().filter_map(|o| Some((o, self.segments(size, o)?))).collect();
            // Where a collection planned them to begin stands behind it, and they do begin there once it is over.
            let form = places().find_map(|start| {
                let near = firsts.iter().rev().find(|f| f.0 < start && self.begins(size, start, &f.1))?;
                Some(Form { size, first: near.0, start })
            });
            found.extend(form);
        }
        found
    }
}

/// Where a heap allocates: its youngest segment from its first object to what is committed, and where allocation has come to.
#[derive(Debug, Clone, Copy)]
pub struct Youngest {
    pub mem: u64,
    pub committed: u64,
    pub end: u64,
}

/// Where the one heap allocates.
pub fn youngest(space: &AddressSpace, layout: &Layout) -> Option<Vec<Youngest>> {
    let value = |name: &str| layout.global(name).ok().and_then(|c| space.ptr(c));
    let segment = value("GCHeapEphemeralHeapSegment")?;
    let (mem, committed) = bounds(space, segment)?;
    Some(vec![Youngest { mem, committed, end: value("GCHeapAllocAllocated")? }])
}

/// The first object of a segment, and the end of what is committed.
pub fn bounds(space: &AddressSpace, segment: u64) -> Option<(u64, u64)> {
    let ptr = u64::from(space.ptr_size());
    Some((self::segment(space, segment)?.0, space.ptr_at(segment, ptr)?))
}

/// Finds how generations are laid out where there is one heap: the only form under which the table is one. Gives the segments
/// that the oldest generations begin with.
pub fn workstation(space: &AddressSpace, layout: &mut Layout) -> Option<Vec<Span>> {
    let table = Table { space, at: layout.global("GCHeapGenerationTable").ok()? };
    let forms = table.forms();
    let &[form] = forms.as_slice() else { return None };
    let old = [table.word(2, form.size, form.first)?, table.word(3, form.size, form.first)?];
    set(space, layout, form, &old)?;
    let queue = layout.global("GCHeapFinalizeQueue").ok().and_then(|c| space.ptr(c)).unwrap_or(0);
    set_queue(space, layout, queue_form(space, &[queue]));
    Some(old.iter().filter_map(|&s| segment(space, s)).collect())
}

/// Takes `form` over, and where a segment names the next one.
pub fn set(space: &AddressSpace, layout: &mut Layout, form: Form, old: &[u64]) -> Option<()> {
    let ptr = u64::from(space.ptr_size());
    let next = next_of(space, old)?;
    let fields = [
        ("Generation", "!", form.size),
        ("Generation", "StartSegment", form.first),
        ("Generation", "AllocationStart", form.start),
    ];
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
fn next_of(space: &AddressSpace, segments: &[u64]) -> Option<u64> {
    let ptr = u64::from(space.ptr_size());
    let leads = |s: u64, i: u64| space.ptr_at(s, i * ptr).is_some_and(|n| n == 0 || segment(space, n).is_some());
    let known = |i: &u64| segments.iter().all(|&s| leads(s, *i));
    let goes_on = |i: &u64| segments.iter().any(|&s| space.ptr_at(s, i * ptr).is_some_and(|n| n != 0));
    // Where nothing follows, either place says so.
    let all = [FLAGS + 1, FLAGS];
    all.into_iter().filter(known).find(goes_on).or_else(|| all.into_iter().find(known))
}

/// Words of fill pointers: a generation each, and the two lists of objects that are ready (`CFinalize`, `NUMBERGENERATIONS` + 2).
const FILLS: u64 = GENERATIONS + 2;

/// Where a queue keeps its array and its first fill pointer, in words; its end stands behind all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueForm {
    array: u64,
    fills: u64,
}

/// The form of finalizer queues under which all of `queues` are ones and one at least has entries: the array first, as in the
/// shared source, or behind the fill pointers, as since 2.0 of .NET Core.
pub fn queue_form(space: &AddressSpace, queues: &[u64]) -> Option<QueueForm> {
    let both = [QueueForm { array: 0, fills: 1 }, QueueForm { array: FILLS, fills: 0 }];
    let fits = |form: &QueueForm| {
        let used: Option<Vec<bool>> = queues.iter().map(|&q| entries(space, q, *form)).collect();
        used.is_some_and(|u| u.contains(&true))
    };
    both.into_iter().find(fits)
}

/// Whether the queue has entries; `None` where it is none of this form.
fn entries(space: &AddressSpace, queue: u64, form: QueueForm) -> Option<bool> {
    const MOST: u64 = 1 << 32;
    let ptr = u64::from(space.ptr_size());
    let word = |i: u64| space.ptr_at(queue, i * ptr);
    let (array, end) = (word(form.array)?, word(FILLS + 1)?);
    let fills: Vec<u64> = (0..FILLS).map(|i| word(form.fills + i)).collect::<Option<_>>()?;
    let ordered = fills.windows(2).all(|w| w[0] <= w[1]) && fills.iter().all(|f| (array..=end).contains(f));
    let shaped = array > 0xFFFF && array < end && end - array < MOST && fills.iter().all(|f| f.is_multiple_of(ptr));
    (ordered && shaped).then(|| fills.last() != Some(&array))
}

/// Takes the form over; without one queues are not read.
pub fn set_queue(space: &AddressSpace, layout: &mut Layout, form: Option<QueueForm>) {
    let ptr = u64::from(space.ptr_size());
    match form {
        Some(form) => {
            let places = [("Array", form.array), ("FillPointers", form.fills), ("End", FILLS + 1)];
            for (field, word) in places {
                layout.set_field("FinalizeQueue", field, word * ptr, Source::Calibrated);
            }
        }
        None => {
            for field in ["Array", "FillPointers", "End"] {
                layout.drop_field("FinalizeQueue", field);
            }
        }
    }
}
