//! What structural discovery looks at: cells that may be variables of the runtime.

use super::effort::Effort;
use super::gcdac::GcDacVars;
use super::report::RuntimeModule;
use super::scan::{Anchor, Span, runs};
use crate::dump::Dump;
use crate::dump::little_endian;

/// Slots of the DAC table looked at, before and behind the one of `g_gcDacGlobals`, or of the type of free blocks, which stands
/// some fifty further back.
const SLOTS: std::ops::RangeInclusive<i32> = -128..=160;
/// Most cells of one image.
const MOST_CELLS: usize = 1 << 20;

/// What a search looks at.
pub struct Search<'a> {
    /// The dump.
    pub dump: &'a Dump,
    /// The collector's variables.
    pub gc: &'a GcDacVars,
    /// The runtime's module.
    pub module: &'a RuntimeModule,
    /// Cells that may be variables.
    pub cells: &'a [u64],
    /// Whether the cells are those of the DAC table, in its order.
    pub slots: bool,
    /// What it may cost.
    pub effort: &'a Effort<'a>,
}

impl Search<'_> {
    pub(super) fn ptr(&self) -> u64 {
        u64::from(self.dump.space.ptr_size())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = (u64, u64)> {
        self.cells
            .iter()
            .take_while(|_| !self.effort.is_over())
            .filter_map(|&c| Some((c, self.dump.space.ptr(c).filter(|&v| v != 0)?)))
    }
}

/// The cells of the DAC table at `anchor`.
pub fn slots(dump: &Dump, image: Span, anchor: &Anchor) -> Vec<u64> {
    SLOTS.filter_map(|i| anchor.get(&dump.space, i)).filter(|&c| image.contains(c)).collect()
}

/// Every word of the image that leads out of it.
pub fn words(dump: &Dump, image: Span) -> Vec<u64> {
    let ptr = u64::from(dump.space.ptr_size());
    let mut found = Vec::new();
    runs(&dump.space, image, |start, bytes| {
        let skip = start.next_multiple_of(ptr) - start;
        let words = bytes.get(skip as usize..).unwrap_or(&[]).chunks_exact(ptr as usize);
        for (i, w) in words.enumerate() {
            let value = little_endian(w);
            let pointer = value.is_multiple_of(ptr) && value > 0x1_0000 && !image.contains(value);
            if pointer && found.len() < MOST_CELLS && dump.space.readable(value) {
                found.push(start + skip + i as u64 * ptr);
            }
        }
    });
    found
}
