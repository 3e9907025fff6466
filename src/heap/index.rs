//! Which addresses are objects: the id index over all segments.

use super::model::{Heap, Segment, SegmentKind};
use super::walk::{WalkReport, Walker};
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

impl ObjectIndex {
    /// Walks everything once, in parallel by segment.
    pub fn build(walker: &Walker<'_>) -> Result<Self, Interrupted> {
        let ptr = walker.clr.ptr_size();
        walker.watch.progress.start("indexing objects", walker.heap.allocated());
        let (parts, report) = walker.parallel(
            &walker.heap.segments,
            |s| RangeBits::new(s.start, s.end, shift(s, ptr)),
            |bits, _, o| bits.set(o.address),
        )?;
        walker.watch.progress.finish();
        Ok(Self { ids: ObjectIds::build(parts), report })
    }

    /// From the bits of a walk of the same heap and its report; `None` when they are those of another.
    pub fn from_bits(walker: &Walker<'_>, bits: Vec<u64>, report: WalkReport) -> Option<Self> {
        let ptr = walker.clr.ptr_size();
        let ranges = walker.heap.segments.iter().map(|s| RangeBits::new(s.start, s.end, shift(s, ptr))).collect();
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
