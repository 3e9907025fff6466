//! Which addresses are objects, known for the segments that were asked about: enough for questions about a few objects,
//! where the index of all would have to walk the whole heap.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::index::SegmentBits;
use super::walk::Walker;
use crate::watch::Interrupted;

/// Share of the heap that is walked piece by piece.
const PART: u64 = 4;

/// The starts of objects, by segment.
#[derive(Debug, Default)]
pub struct Starts {
    parts: Vec<OnceLock<SegmentBits>>,
    walked: AtomicU64,
}

impl Starts {
    /// None known yet.
    pub fn new(walker: &Walker<'_>) -> Self {
        Self { parts: walker.heap.segments.iter().map(|_| OnceLock::new()).collect(), walked: AtomicU64::new(0) }
    }

    /// Whether an object starts at `address`; walks its segment at the first question about one.
    #[inline]
    pub fn has(&self, walker: &Walker<'_>, address: u64) -> Result<bool, Interrupted> {
        let segments = &walker.heap.segments;
        let Some(i) = segments.partition_point(|s| s.start <= address).checked_sub(1) else { return Ok(false) };
        let (Some(segment), Some(part)) = (segments.get(i), self.parts.get(i)) else { return Ok(false) };
        if address >= segment.end {
            return Ok(false);
        }
        if let Some(bits) = part.get() {
            return Ok(bits.has(address));
        }
        let mut bits = SegmentBits::new(walker.clr.space(), segment);
        walker.segment(segment, (segment.start, segment.end), &mut |o| {
            bits.set(o.address);
            true
        })?;
        self.walked.fetch_add(segment.len(), Ordering::Relaxed);
        Ok(part.get_or_init(|| bits).has(address))
    }

    /// Whether the next segment had better be walked together with all others.
    pub fn is_enough(&self, walker: &Walker<'_>) -> bool {
        self.walked.load(Ordering::Relaxed) > walker.heap.allocated() / PART
    }
}
