//! The finalizer queue of one heap.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcpriv.h` (`CFinalize`): fill pointers, one a segment of the array. Segments run
//! from the oldest generation down to gen0, then come the objects ready for finalization, critical ones first.

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::Missing;

/// Bound on one queue's array in bytes.
const MAX_ARRAY: u64 = 1 << 36;

/// One heap's queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalizerQueue {
    /// Registered objects by segment of the array: address range `[start, end)` of the array's slots. The first entry is
    /// the oldest generation (pinned heap since .NET 5, then large), the last one gen0.
    pub registered: Vec<(u64, u64)>,
    /// Slots of objects ready with a critical finalizer.
    pub critical: (u64, u64),
    /// Slots of objects ready for finalization.
    pub ready: (u64, u64),
}

impl FinalizerQueue {
    /// Slots of the generation numbered as SOS does: 0, 1, 2, 3 (large), 4 (pinned).
    pub fn generation(&self, generation: usize) -> Option<(u64, u64)> {
        self.registered.len().checked_sub(generation + 1).and_then(|i| self.registered.get(i)).copied()
    }

    /// All slots in use, registered and ready: the array from its start to the last fill pointer.
    pub fn all(&self) -> (u64, u64) {
        (self.registered.first().map_or(0, |r| r.0), self.ready.1)
    }

    /// All slots of ready objects, critical ones first.
    pub fn all_ready(&self) -> (u64, u64) {
        (self.critical.0, self.ready.1)
    }
}

/// Reads the queue object at `queue`; `None` when it is not in the dump or not one.
pub fn read(clr: &Clr, queue: u64) -> Result<Option<FinalizerQueue>, Missing> {
    let (space, l, ptr) = (clr.space(), clr.layout(), u64::from(clr.ptr_size()));
    let first = l.offset("FinalizeQueue", "FillPointers")?;
    let segments = l.constant("FinalizeSegmentCount")?;
    let (Some(array), Some(end)) = (
        space.ptr_at(queue, l.offset("FinalizeQueue", "Array")?),
        space.ptr_at(queue, l.offset("FinalizeQueue", "End")?),
    ) else {
        return Ok(None);
    };
    let mut bounds = vec![array];
    for i in 0..segments {
        let Some(fill) = space.ptr_at(queue, first + i * ptr) else { return Ok(None) };
        bounds.push(fill);
    }
    let ordered = bounds.windows(2).all(|w| w[0] <= w[1]);
    if queue == 0 || !ordered || bounds.last().is_none_or(|&l| l > end || l - array > MAX_ARRAY) {
        return Ok(None);
    }
    let mut ranges: Vec<(u64, u64)> = bounds.windows(2).map(|w| (w[0], w[1])).collect();
    let ready = ranges.pop().unwrap_or((array, array));
    let critical = ranges.pop().unwrap_or((array, array));
    Ok(Some(FinalizerQueue { registered: ranges, critical, ready }))
}

/// Objects in the slots `[start, end)` of a queue's array.
pub fn objects(clr: &Clr, slots: (u64, u64)) -> Gathered<u64> {
    let mut out = Gathered::default();
    let ptr = u64::from(clr.ptr_size());
    let mut at = slots.0;
    while at < slots.1 {
        match clr.space().ptr(at) {
            // The low bit marks an entry during a collection.
            Some(o) if o & !1 != 0 => out.items.push(o & !1),
            Some(_) => {}
            None => {
                out.because("the finalizer queue's array is not whole in the dump");
                break;
            }
        }
        at += ptr;
    }
    out
}
