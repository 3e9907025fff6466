//! The object walk: every segment from its first object to its end, in place over the mapped file.
//!
//! Cost is counted per object: one load of the MethodTable word, a last-value check before a small hash table, one load
//! of the component count where the type has one. Nothing is allocated per object.

use std::sync::Arc;

use rayon::prelude::*;

use super::model::{Heap, Segment};
use super::types::{TypeInfo, TypeRegistry};
use crate::clr::Clr;
use crate::clr::types::gcdesc::RefMap;
use crate::dump::AddressSpace;
use crate::watch::{Interrupted, Watch};

/// Problems remembered per segment; further ones are only counted.
const MAX_PROBLEMS: usize = 64;
/// What a hole in the dump is called among the problems.
pub const NOT_IN_DUMP: &str = "the memory is not in the dump";
/// Objects between two looks at the cancellation flag.
const CHECK_EVERY: u32 = 1 << 14;

/// One object during a walk.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Address of its MethodTable word.
    pub address: u64,
    /// Size in bytes as tools report it: at least three pointers, not rounded up.
    pub size: u64,
    /// Its type.
    pub ty: &'a Arc<TypeInfo>,
    /// Its bytes; shorter than `size` when they are not contiguous in the dump or the collector wrote over its end.
    pub bytes: &'a [u8],
    /// Offset from which on its contents are no longer its own: inside a collection the header of the plug behind it lies
    /// over the end of the last dead object of a gap. Else `size`.
    pub intact: u64,
}

/// One object looked up by its address.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Address of its MethodTable word.
    pub address: u64,
    /// Size in bytes as tools report it.
    pub size: u64,
    /// Its type.
    pub ty: Arc<TypeInfo>,
    /// Its bytes; shorter than `size` when they are not contiguous in the dump.
    pub bytes: &'a [u8],
}

impl Object<'_> {
    /// Calls `each(offset)` for every reference slot in the dump, in ascending order.
    #[inline]
    pub fn slots(&self, space: &AddressSpace, each: impl FnMut(u64)) {
        slots(&self.ty.refs, space, (self.address, self.size), self.bytes.len(), each);
    }
}

impl Found<'_> {
    /// Calls `each(offset)` for every reference slot in the dump, in ascending order.
    pub fn slots(&self, space: &AddressSpace, each: impl FnMut(u64)) {
        slots(&self.ty.refs, space, (self.address, self.size), self.bytes.len(), each);
    }
}

#[inline]
fn slots(refs: &RefMap, space: &AddressSpace, (address, size): (u64, u64), whole: usize, mut each: impl FnMut(u64)) {
    let ptr = u64::from(space.ptr_size());
    if whole as u64 >= size {
        return refs.slots(size, ptr, each);
    }
    if refs.is_none() {
        return;
    }
    // What an object says of its size may be damaged, or most of it left out of the dump: the work is that of what is there.
    for (start, end) in space.runs(address, address.saturating_add(size)) {
        refs.slots_between(size, ptr, (start - address, end - address), &mut each);
    }
}

/// How a walk went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalkReport {
    /// Objects visited, free ones included.
    pub objects: u64,
    /// Bytes that could not be walked.
    pub skipped: u64,
    /// Places where the walk lost its way, and why.
    pub problems: Vec<(u64, String)>,
    /// Problems beyond those remembered.
    pub more: u64,
    /// Dead objects whose MethodTable or length the collector wrote over, inside a collection: expected there, no problem.
    pub gaps: u64,
    /// What is wrong with the heap's shape already: no walk over it is whole.
    pub shape: Option<String>,
}

impl WalkReport {
    fn problem(&mut self, address: u64, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((address, what));
        } else {
            self.more += 1;
        }
    }

    /// Adds another report's figures.
    pub fn merge(&mut self, other: WalkReport) {
        self.objects += other.objects;
        self.skipped += other.skipped;
        self.more += other.more;
        self.gaps += other.gaps;
        self.shape = self.shape.take().or(other.shape);
        for (a, w) in other.problems {
            self.problem(a, w);
        }
    }

    /// One sentence for the user when something was skipped; `None` after a clean walk.
    pub fn sentence(&self) -> Option<String> {
        let mut parts: Vec<String> = self.shape.iter().cloned().collect();
        if self.gaps > 0 {
            parts.push(format!("{} dead objects under the collector's notes are left out", self.gaps));
        }
        if let Some((address, what)) = self.problems.first() {
            let n = self.problems.len() as u64 + self.more;
            let bytes = self.skipped;
            parts.push(format!("{n} places not walkable, {bytes} bytes skipped (first at {address:x}: {what})"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Everything a walk reads.
#[derive(Debug, Clone, Copy)]
pub struct Walker<'a> {
    /// The runtime.
    pub clr: &'a Clr,
    /// The heap's shape.
    pub heap: &'a Heap,
    /// Types met so far.
    pub types: &'a TypeRegistry,
    /// Cancellation and progress.
    pub watch: &'a Watch,
}

impl<'a> Walker<'a> {
    /// Walks `segments` in parallel; each gets its own accumulator, returned in the order of the segments.
    pub fn parallel<A: Send>(
        &self,
        segments: &[Segment],
        init: impl Fn(&Segment) -> A + Sync,
        visit: impl Fn(&mut A, &Segment, Object<'_>) + Sync,
    ) -> Result<(Vec<A>, WalkReport), Interrupted> {
        let results: Vec<(A, WalkReport)> = segments
            .par_iter()
            .with_max_len(1)
            .map(|s| {
                let mut acc = init(s);
                let report = self.segment(s, (s.start, s.end), &mut |o| {
                    visit(&mut acc, s, o);
                    true
                })?;
                Ok((acc, report))
            })
            .collect::<Result<_, Interrupted>>()?;
        let mut report = WalkReport { shape: self.heap.problems.first().cloned(), ..WalkReport::default() };
        let accumulators = results
            .into_iter()
            .map(|(a, r)| {
                report.merge(r);
                a
            })
            .collect();
        Ok((accumulators, report))
    }

    /// Walks the objects of one segment whose address lies in `range`, in order. `visit` returns `false` to stop.
    pub fn segment(
        &self,
        segment: &Segment,
        range: (u64, u64),
        visit: &mut impl FnMut(Object<'_>) -> bool,
    ) -> Result<WalkReport, Interrupted> {
        if self.clr.ptr_size() == 8 {
            SegmentWalk::<8>::new(self, segment).run(range, visit)
        } else {
            SegmentWalk::<4>::new(self, segment).run(range, visit)
        }
    }

    /// The object that starts at `address`, read directly (the address is not proved to be an object start).
    pub fn object_at(&self, address: u64) -> Option<Found<'a>> {
        let segment = self.heap.segment_at(address)?;
        let space = self.clr.space();
        let ptr = u64::from(self.clr.ptr_size());
        let mt = space.ptr(address)? & !(ptr - 1);
        let ty = self.types.get(self.clr, mt)?;
        let count = if ty.mt.has_component_size() { space.u32(address + ptr)? } else { 0 };
        let size = object_size(&ty, count, ptr);
        if size > segment.end - address {
            return None;
        }
        let bytes = space.run(address).unwrap_or(&[]);
        let bytes = bytes.get(..size as usize).unwrap_or(bytes);
        Some(Found { address, size, ty, bytes })
    }
}

/// Size in bytes of an object of type `ty` with `count` components.
#[inline]
pub fn object_size(ty: &TypeInfo, count: u32, ptr: u64) -> u64 {
    (u64::from(ty.mt.base_size) + u64::from(count) * u64::from(ty.mt.component_size())).max(3 * ptr)
}

/// What a step of the walk needs of a type, in one place of a worker's table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    mt: u64,
    base: u32,
    /// Bytes of a component, with [`COUNTED`] where objects have a number of components.
    component: u32,
    /// Index into the worker's types; [`EMPTY`] in a free place.
    index: u32,
}

impl Slot {
    const FREE: Self = Self { mt: 0, base: 0, component: 0, index: EMPTY };

    /// Bytes of an object with `count` components.
    #[inline]
    pub(super) fn size(&self, count: u32) -> u64 {
        u64::from(self.base) + u64::from(count) * u64::from(self.component & !COUNTED)
    }

    /// Whether objects have a number of components.
    #[inline]
    pub(super) fn is_counted(&self) -> bool {
        self.component != 0
    }
}

/// A worker's own cache of types: open addressing over MethodTable addresses.
#[derive(Debug)]
pub(super) struct LocalTypes {
    table: Vec<Slot>,
    types: Vec<Arc<TypeInfo>>,
}

const EMPTY: u32 = u32::MAX;
/// Marks a component size as present, so that one test decides whether the count is read.
const COUNTED: u32 = 1 << 31;

impl LocalTypes {
    pub(super) fn new() -> Self {
        Self { table: vec![Slot::FREE; 1024], types: Vec::new() }
    }

    /// The type found as `slot`.
    #[inline]
    pub(super) fn of(&self, slot: Slot) -> Option<&Arc<TypeInfo>> {
        self.types.get(slot.index as usize)
    }

    #[inline]
    fn bucket(&self, mt: u64) -> usize {
        // MethodTables are 8-aligned and clustered: a multiplicative hash of the upper bits spreads them.
        ((mt >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize & (self.table.len() - 1)
    }

    #[inline]
    pub(super) fn find(&mut self, walker: &Walker<'_>, mt: u64) -> Option<Slot> {
        let mut b = self.bucket(mt);
        loop {
            let slot = self.table[b];
            if slot.mt == mt && slot.index != EMPTY {
                return Some(slot);
            }
            if slot.index == EMPTY {
                return self.miss(walker, mt);
            }
            b = (b + 1) & (self.table.len() - 1);
        }
    }

    #[cold]
    fn miss(&mut self, walker: &Walker<'_>, mt: u64) -> Option<Slot> {
        let info = walker.types.get(walker.clr, mt)?;
        if self.types.len() * 2 >= self.table.len() {
            self.grow();
        }
        let component = match info.mt.has_component_size() {
            true => info.mt.component_size() | COUNTED,
            false => 0,
        };
        let slot = Slot { mt, base: info.mt.base_size, component, index: self.types.len() as u32 };
        self.types.push(info);
        self.insert(slot);
        Some(slot)
    }

    fn insert(&mut self, slot: Slot) {
        let mut b = self.bucket(slot.mt);
        while self.table[b].index != EMPTY {
            b = (b + 1) & (self.table.len() - 1);
        }
        self.table[b] = slot;
    }

    fn grow(&mut self) {
        let larger = vec![Slot::FREE; self.table.len() * 2];
        let old = std::mem::replace(&mut self.table, larger);
        old.into_iter().filter(|s| s.index != EMPTY).for_each(|s| self.insert(s));
    }
}

/// Objects since the last plug that are remembered, at most.
const MAX_STARTS: usize = 1 << 20;

/// What a walk inside a collection knows of plugs.
///
/// The plan phase divides a segment into plugs of live objects and gaps of dead ones and writes before each plug, over the
/// end of the gap: the gap's length, the distance the plug will move, and its neighbours in a tree (`plug_and_gap`,
/// dotnet/runtime v8.0.0 `src/coreclr/gc/gc.cpp`), then the object header.
#[derive(Debug, Default)]
struct Plugs {
    /// Starts of the objects since the last plug: one of them is where its gap begins.
    starts: Vec<u64>,
}

impl Plugs {
    /// Bytes of the object of `step` bytes at `at` that are its own.
    #[cold]
    fn intact<const P: usize>(&mut self, space: &AddressSpace, at: u64, step: u64) -> u64 {
        if self.starts.len() < MAX_STARTS {
            self.starts.push(at);
        }
        let end = at.saturating_add(step);
        if !self.gap_ends::<P>(space, at, end) {
            return u64::MAX;
        }
        self.starts.clear();
        (end - 4 * P as u64).saturating_sub(at)
    }

    /// End of the dead object at `at` when the header of the plug behind it covers its MethodTable (objects of three and
    /// four words) or its number of components (of five): `words` are the sizes to try.
    #[cold]
    fn covered<const P: usize>(&mut self, space: &AddressSpace, at: u64, words: [u64; 2]) -> Option<u64> {
        let ends = words.map(|n| at.saturating_add(n * P as u64));
        let end = ends.into_iter().find(|&end| self.gap_ends::<P>(space, at, end))?;
        self.starts.clear();
        Some(end)
    }

    /// Whether a gap ends at `end`: the word of its length leads back to an object since the last plug, or to `at`.
    fn gap_ends<const P: usize>(&self, space: &AddressSpace, at: u64, end: u64) -> bool {
        let ptr = P as u64;
        let gap = end.checked_sub(4 * ptr).and_then(|a| space.ptr(a)).unwrap_or(0);
        if gap < 3 * ptr || !gap.is_multiple_of(ptr) {
            return false;
        }
        let Some(start) = end.checked_sub(gap) else { return false };
        start == at || self.starts.binary_search(&start).is_ok()
    }
}

struct SegmentWalk<'w, 'a, const P: usize> {
    walker: &'w Walker<'a>,
    segment: &'w Segment,
    contexts: &'w [(u64, u64)],
    types: LocalTypes,
    plugs: Option<Plugs>,
    report: WalkReport,
}

impl<'w, 'a, const P: usize> SegmentWalk<'w, 'a, P> {
    const PTR: u64 = P as u64;
    const MIN: u64 = 3 * P as u64;

    fn new(walker: &'w Walker<'a>, segment: &'w Segment) -> Self {
        let all = &walker.heap.contexts;
        let first = all.partition_point(|c| c.0 < segment.start);
        let last = all.partition_point(|c| c.0 < segment.end);
        Self {
            walker,
            segment,
            contexts: &all[first..last.max(first)],
            types: LocalTypes::new(),
            plugs: (walker.heap.in_gc && segment.kind != super::SegmentKind::Frozen).then(Plugs::default),
            report: WalkReport { shape: walker.heap.problems.first().cloned(), ..WalkReport::default() },
        }
    }

    #[inline]
    fn word(bytes: &[u8], at: usize) -> Option<u64> {
        let b = bytes.get(at..at + P)?;
        Some(if P == 8 {
            u64::from_le_bytes(b.try_into().ok()?)
        } else {
            u64::from(u32::from_le_bytes(b.try_into().ok()?))
        })
    }

    fn run(mut self, range: (u64, u64), visit: &mut impl FnMut(Object<'_>) -> bool) -> Result<WalkReport, Interrupted> {
        let end = self.segment.end.min(range.1);
        let space = self.walker.clr.space();
        let align = if matches!(self.segment.kind, super::SegmentKind::Large | super::SegmentKind::Pinned) {
            8
        } else {
            Self::PTR
        };
        let mut at = self.segment.start;
        let (mut progressed, mut budget) = (at, CHECK_EVERY);
        let mut context = 0;
        let mut next_context = self.contexts.first().map_or(u64::MAX, |c| c.0);
        while at < end {
            let Some(run) = space.run(at) else {
                at = self.hole(at, end);
                continue;
            };
            let base = at;
            while at < end {
                budget -= 1;
                if budget == 0 {
                    budget = CHECK_EVERY;
                    self.walker.watch.cancel.check()?;
                    self.walker.watch.progress.add(at - progressed);
                    progressed = at;
                }
                if at >= next_context {
                    at = self.skip_context(&mut context, at).unwrap_or(at);
                    next_context = self.contexts.get(context).map_or(u64::MAX, |c| c.0);
                    if at.wrapping_sub(base) >= run.len() as u64 {
                        break;
                    }
                }
                if at >= end {
                    break;
                }
                let offset = (at - base) as usize;
                // A header that straddles two pieces of memory is read the slow way.
                let (word, count) = match Self::word(run, offset) {
                    Some(w) => (w, run.get(offset + P..offset + P + 4).map(le32)),
                    None if offset >= run.len() => break,
                    None => match space.ptr(at) {
                        Some(w) => (w, None),
                        None => {
                            at = self.lost(at, end, "the object's header is cut off");
                            break;
                        }
                    },
                };
                if let Some(plugs) = &mut self.plugs
                    && let Some(end) = plugs.covered::<P>(space, at, [3, 4])
                {
                    (self.report.gaps, self.report.skipped) = (self.report.gaps + 1, self.report.skipped + end - at);
                    at = end;
                    continue;
                }
                let Some(slot) = self.types.find(self.walker, word & !(Self::PTR - 1)) else {
                    at = self.lost(at, end, "no MethodTable");
                    break;
                };
                let mut n = 0;
                if slot.component != 0 {
                    if let Some(plugs) = &mut self.plugs
                        && let Some(end) = plugs.covered::<P>(space, at, [5, 5])
                    {
                        (self.report.gaps, self.report.skipped) =
                            (self.report.gaps + 1, self.report.skipped + end - at);
                        at = end;
                        continue;
                    }
                    let Some(read) = count.or_else(|| space.u32(at + Self::PTR)) else {
                        at = self.lost(at, end, "the object's length is not in the dump");
                        break;
                    };
                    n = read;
                }
                let size = slot.size(n).max(Self::MIN);
                let step = size.wrapping_add(align - 1) & !(align - 1);
                // The last object may lack its padding: a segment ends where the object's own bytes end, rounded.
                if size > self.segment.end - at {
                    at = self.lost(at, end, "the object runs past the end of its segment");
                    break;
                }
                self.report.objects += 1;
                let intact = match &mut self.plugs {
                    None => size,
                    Some(plugs) => plugs.intact::<P>(self.walker.clr.space(), at, step).min(size),
                };
                if at >= range.0 {
                    let bytes = run.get(offset..).unwrap_or(&[]);
                    let bytes = bytes.get(..intact as usize).unwrap_or(bytes);
                    let ty = &self.types.types[slot.index as usize];
                    if !visit(Object { address: at, size, ty, bytes, intact }) {
                        return Ok(self.report);
                    }
                }
                at = at.saturating_add(step);
                if at - base >= run.len() as u64 {
                    break;
                }
            }
        }
        self.walker.watch.progress.add(at.saturating_sub(progressed));
        Ok(self.report)
    }

    /// Steps over the allocation context that begins at `at`: its tail holds old data, and three words stay reserved
    /// behind its limit.
    #[inline]
    fn skip_context(&self, next: &mut usize, mut at: u64) -> Option<u64> {
        let start = at;
        while let Some(&(pointer, limit)) = self.contexts.get(*next)
            && pointer <= at
        {
            if pointer == at && limit >= pointer && limit < self.segment.end.saturating_add(Self::MIN) {
                at = limit.saturating_add(Self::MIN);
            }
            *next += 1;
        }
        (at != start).then_some(at)
    }

    #[cold]
    fn hole(&mut self, at: u64, end: u64) -> u64 {
        let next = self.walker.clr.space().next_readable(at).unwrap_or(end).min(end);
        self.report.skipped += next - at;
        self.report.problem(at, NOT_IN_DUMP.into());
        if next >= end { end } else { self.resync(next, end) }
    }

    #[cold]
    fn lost(&mut self, at: u64, end: u64, why: &str) -> u64 {
        let next = self.resync(at + Self::PTR, end);
        self.report.skipped += next - at;
        if let Some(plugs) = &mut self.plugs {
            plugs.starts.clear();
        }
        let word = self.walker.clr.space().ptr(at).unwrap_or(0);
        self.report.problem(at, format!("{why} (word {word:x})"));
        next
    }

    /// Finds the next address from which three objects in a row can be read, or `end`.
    fn resync(&mut self, from: u64, end: u64) -> u64 {
        let mut at = from.next_multiple_of(Self::PTR);
        let mut looked = 0u32;
        while at < end {
            looked += 1;
            if looked.is_multiple_of(1 << 12) && self.walker.watch.cancel.is_set() {
                return at;
            }
            let Some(run) = self.walker.clr.space().run(at) else {
                at = self.walker.clr.space().next_readable(at).unwrap_or(end).next_multiple_of(Self::PTR);
                continue;
            };
            // Zeroed memory is passed over by whole words.
            let zeros = run.chunks_exact(P).take_while(|w| w.iter().all(|&b| b == 0)).count() as u64;
            if zeros > 0 {
                at += zeros * Self::PTR;
                continue;
            }
            if self.chain_from(at, end, 3) {
                return at;
            }
            at += Self::PTR;
        }
        end
    }

    fn chain_from(&mut self, mut at: u64, end: u64, objects: u32) -> bool {
        let space = self.walker.clr.space();
        for _ in 0..objects {
            if at >= end {
                return at == end;
            }
            let next = self.contexts.partition_point(|c| c.0 < at);
            if let Some(c) = self.contexts.get(next).filter(|c| c.0 == at) {
                at = c.1.saturating_add(Self::MIN);
                continue;
            }
            let Some(word) = space.ptr(at) else { return false };
            let Some(slot) = self.types.find(self.walker, word & !(Self::PTR - 1)) else { return false };
            let count = if slot.component != 0 { space.u32(at + Self::PTR).unwrap_or(u32::MAX) } else { 0 };
            let size = slot.size(count).max(Self::MIN);
            if size > end - at {
                return false;
            }
            at += size.next_multiple_of(Self::PTR);
        }
        true
    }
}

#[inline]
fn le32(b: &[u8]) -> u32 {
    match b.try_into() {
        Ok(b) => u32::from_le_bytes(b),
        Err(_) => 0,
    }
}

/// The reference at `offset` of `object`: from its bytes, or from the space when they are not contiguous.
#[inline]
pub fn pointer_in(space: &AddressSpace, object: &Object<'_>, offset: u64) -> Option<u64> {
    let at = offset as usize;
    if space.ptr_size() == 8 {
        if let Some(b) = object.bytes.get(at..at.wrapping_add(8)) {
            return Some(u64::from_le_bytes(b.try_into().ok()?));
        }
    } else if let Some(b) = object.bytes.get(at..at.wrapping_add(4)) {
        return Some(u64::from(u32::from_le_bytes(b.try_into().ok()?)));
    }
    if offset >= object.intact {
        return None;
    }
    space.ptr(object.address.checked_add(offset)?)
}
