//! Which addresses are objects: the id index over all segments.

use super::model::{Heap, Segment, SegmentKind};
use super::walk::{WalkReport, Walker};
use crate::dump::AddressSpace;
use crate::graph::ObjectIds;
use crate::graph::ids::RangeBits;
use crate::watch::Interrupted;

/// The id index and how the walk that built it went.
#[derive(Debug, Default)]
pub struct ObjectIndex {
    /// Ids in address order.
    pub ids: ObjectIds,
    /// Problems of the walk.
    pub report: WalkReport,
}

/// Alignment of objects in a segment as a shift: 8 bytes, 4 in the small object heap of a 32-bit process.
fn shift(segment: &Segment, ptr: u8) -> u32 {
    match (ptr, segment.kind) {
        (4, SegmentKind::Large | SegmentKind::Pinned) => 3,
        (4, _) => 2,
        _ => 3,
    }
}

/// A hole in a segment's memory that is no longer than this has bits: a page's are no more than a range of its own takes.
const HOLE: u64 = 0x1000;

/// The bits of one segment, a range for each run of it that is in the dump: what a segment says of its length may be
/// damaged, and objects start in memory that can be read.
#[derive(Debug)]
pub(super) struct SegmentBits {
    ranges: Vec<RangeBits>,
    /// The range that objects were found in last; they come in order.
    at: usize,
    /// Words of the ranges before that.
    before: usize,
}

impl SegmentBits {
    pub(super) fn new(space: &AddressSpace, segment: &Segment) -> Self {
        let shift = shift(segment, space.ptr_size());
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (start, end) in space.runs(segment.start, segment.end) {
            // Objects are aligned from the segment's start on.
            let start = segment.start + ((start - segment.start) >> shift << shift);
            match runs.last_mut() {
                Some(r) if start <= r.1.saturating_add(HOLE) => r.1 = end,
                _ => runs.push((start, end)),
            }
        }
        Self {
            ranges: runs.into_iter().map(|(start, end)| RangeBits::new(start, end, shift)).collect(),
            at: 0,
            before: 0,
        }
    }

    /// Marks an object; none may follow that lies before it.
    #[inline]
    pub(super) fn set(&mut self, address: u64) {
        while let Some(r) = self.ranges.get(self.at).filter(|r| r.end() <= address) {
            self.before += r.words();
            self.at += 1;
        }
        if let Some(range) = self.ranges.get_mut(self.at) {
            range.set(address);
        }
    }

    /// Number of the word of the object marked last among all words.
    #[inline]
    pub(super) fn word_of(&self, address: u64) -> Option<usize> {
        Some(self.before + self.ranges.get(self.at)?.word_of(address)?)
    }

    /// Whether the object that starts at `address` was marked.
    pub(super) fn has(&self, address: u64) -> bool {
        let range = self.ranges.partition_point(|r| r.start() <= address).checked_sub(1);
        range.and_then(|i| self.ranges.get(i)).is_some_and(|r| r.has(address))
    }

    /// First addresses and numbers of words of the ranges.
    pub(super) fn shape(&self) -> Vec<(u64, usize)> {
        self.ranges.iter().map(|r| (r.start(), r.words())).collect()
    }
}

impl ObjectIndex {
    /// Walks everything once, in parallel by segment.
    pub fn build(walker: &Walker<'_>) -> Result<Self, Interrupted> {
        let space = walker.clr.space();
        walker.watch.progress.start("indexing objects", walker.heap.allocated());
        let (parts, report) =
            walker.parallel(&walker.heap.segments, |s| SegmentBits::new(space, s), |bits, _, o| bits.set(o.address))?;
        walker.watch.progress.finish();
        Ok(Self::of(parts, report))
    }

    /// From the objects marked in a walk.
    pub(super) fn of(parts: Vec<SegmentBits>, report: WalkReport) -> Self {
        Self { ids: ObjectIds::build(parts.into_iter().flat_map(|p| p.ranges).collect()), report }
    }

    /// From the bits of a walk of the same heap and its report; `None` when they are those of another.
    pub fn from_bits(walker: &Walker<'_>, bits: Vec<u64>, report: WalkReport) -> Option<Self> {
        let space = walker.clr.space();
        let ranges = walker.heap.segments.iter().flat_map(|s| SegmentBits::new(space, s).ranges).collect();
        Some(Self { ids: ObjectIds::from_bits(ranges, bits)?, report })
    }

    /// Id of the first object of `segment`: those that follow in a walk have the ids that follow.
    pub fn first_id(&self, segment: &Segment) -> Option<u32> {
        self.ids.start_after(segment.start).filter(|&a| a < segment.end).and_then(|a| self.ids.id_of(a))
    }

    /// Start of the object whose bytes include `address` (interior pointers), free blocks excluded.
    pub fn object_containing(&self, walker: &Walker<'_>, heap: &Heap, address: u64) -> Option<u64> {
        heap.segment_at(address)?;
        let start = self.ids.start_before(address)?;
        let o = walker.object_at(start)?;
        (address - start < o.size && !o.ty.is_free).then_some(start)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dump::map::FileMap;
    use crate::dump::space::SpaceBuilder;

    #[test]
    fn bits_are_as_many_as_there_is_memory() {
        let mut builder = SpaceBuilder::new(8);
        let source = builder.source(FileMap::owned(vec![0; 0x6000]));
        for (start, length) in [(0x1000, 0x800), (0x2004, 0x1000), (0x7000_0000, 0x2000), (0x7FFF_0000_0000, 0x1000)] {
            builder.add(start, source, 0, length);
        }
        let space = builder.build().0;
        // Both ends are damaged.
        let (start, end) = (0x1004, u64::MAX - 7);
        let kind = SegmentKind::Generation2;
        let segment = Segment {
            record: 0,
            heap: 0,
            kind,
            start,
            end,
            committed: end,
            reserved: end,
            flags: 0,
            gen0: end,
            gen1: end,
        };
        let mut bits = SegmentBits::new(&space, &segment);
        let runs: Vec<(u64, u64)> = bits.ranges.iter().map(|r| (r.start(), r.end())).collect();
        assert_eq!(runs, [(0x1004, 0x3004), (0x6FFF_FFFC, 0x7000_2000), (0x7FFE_FFFF_FFFC, 0x7FFF_0000_1000)]);
        let objects = [0x1004, 0x2FFC, 0x7000_0004, 0x7FFF_0000_0004];
        objects.iter().for_each(|&o| bits.set(o));
        let ids = ObjectIds::build(bits.ranges);
        assert!(ids.bits().len() * 64 * 8 <= 0x10000, "{} words", ids.bits().len());
        assert_eq!((0..ids.len()).filter_map(|i| ids.address_of(i)).collect::<Vec<_>>(), objects);
        assert_eq!(ids.start_before(0x6FFF_0000), Some(0x2FFC));
    }
}
