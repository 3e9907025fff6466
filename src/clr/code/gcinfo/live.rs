//! Which slots are live where.

use super::bits::Bits;
use super::{GcInfo, Slot};

/// Offsets, in their unit, whose changes are written together.
const CHUNK: u32 = 64;

/// Why execution is not going on in a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It called another, to whose return address the offset belongs.
    Return,
    /// It was interrupted and goes on at the instruction.
    Instruction,
    /// A call in front of the offset threw: nothing goes on there.
    Thrown,
    /// The instruction faulted: nothing goes on there.
    Faulted,
}

/// What is live at a place, by index among the slots; the order is that of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Slots that come and go.
    pub tracked: Vec<usize>,
    /// Whether those that are always live are so here too: not where execution cannot go on.
    pub untracked: bool,
}

/// What changes at an offset of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Offset in bytes.
    pub offset: u32,
    /// Whether the code can be interrupted from there on, where that changes.
    pub interruptible: Option<bool>,
    /// It is the return address of a call.
    pub safe_point: bool,
    /// Indices of slots that are no longer live.
    pub dead: Vec<usize>,
    /// Indices of slots that have become live.
    pub born: Vec<usize>,
}

impl GcInfo {
    fn unit(&self) -> u32 {
        self.encoding.offset_unit()
    }

    /// Index of the safe point for the return address `offset`.
    pub fn safe_point(&self, offset: u32) -> Option<usize> {
        self.safe_points.binary_search(&offset).ok()
    }

    /// Whether the code can be interrupted at `offset`.
    pub fn is_interruptible(&self, offset: u32) -> bool {
        self.ranges.iter().any(|r| r.contains(&offset))
    }

    /// The slots that are live where execution left the code at `offset`. `None` where the bytes do not hold what they
    /// promise.
    pub fn live(&self, offset: u32, stop: Stop) -> Option<Live> {
        // Through version 3 an interrupted instruction is never looked for among the calls, and what is live during a call
        // is told by its last byte.
        let old = self.encoding.safe_point_bias() > 0;
        let (aborted, call) =
            (matches!(stop, Stop::Thrown | Stop::Faulted), matches!(stop, Stop::Return | Stop::Thrown));
        let point = if aborted || old && !call { None } else { self.safe_point(offset) };
        if let Some(index) = point {
            return Some(Live { tracked: self.at_safe_point(index)?, untracked: true });
        }
        let place = self.place(if old && call { offset.saturating_sub(1) } else { offset });
        let tracked = place.map_or(Some(Vec::new()), |p| self.at_place(p))?;
        // Through version 3 code without ranges keeps what is always live even when it is left, and code with ranges keeps
        // nothing outside them.
        let untracked = place.is_some() || if old { self.ranges.is_empty() } else { !aborted };
        Some(Live { tracked, untracked })
    }

    /// Where `offset` is when the ranges stand behind each other, in units.
    fn place(&self, offset: u32) -> Option<u32> {
        let mut before = 0u32;
        for r in &self.ranges {
            if r.contains(&offset) {
                return Some(before + (offset - r.start) / self.unit());
            }
            before += (r.end - r.start) / self.unit();
        }
        None
    }

    /// The reverse of [`GcInfo::place`].
    fn offset(&self, place: u32) -> Option<u32> {
        let mut before = 0u32;
        for r in &self.ranges {
            let size = (r.end - r.start) / self.unit();
            if place - before < size {
                return Some(r.start + (place - before) * self.unit());
            }
            before += size;
        }
        None
    }

    /// Behind the slots: whether the states of safe points are shared, and in how many bits they are named then.
    fn sharing(&self) -> Option<(Bits<'_>, u32)> {
        let mut r = Bits::new(&self.bytes, self.states);
        let shared = !self.safe_points.is_empty() && r.bit()?;
        let bits = if shared { r.unsigned(3)?.checked_add(1)? } else { 0 };
        Some((r, bits))
    }

    fn at_safe_point(&self, index: usize) -> Option<Vec<usize>> {
        if self.tracked == 0 {
            return Some(Vec::new());
        }
        let (mut r, bits) = self.sharing()?;
        if bits == 0 {
            r.skip(index.checked_mul(self.tracked)?)?;
            return set(&mut r, self.tracked, false);
        }
        let table = r.position();
        r.skip(index.checked_mul(bits as usize)?)?;
        let at = r.take(bits)? as usize;
        let states = table.checked_add(self.safe_points.len().checked_mul(bits as usize)?)?.next_multiple_of(8);
        r.seek(states.checked_add(at)?);
        set(&mut r, self.tracked, true)
    }

    /// Chunks of all ranges: where their table begins, how many bits an entry has, how many entries there are.
    fn chunks(&self) -> Option<(usize, u32, u32)> {
        let (mut r, _) = self.sharing()?;
        r.skip(self.safe_points.len().checked_mul(self.tracked)?)?;
        let bits = r.unsigned(3)?;
        let length: u32 = self.ranges.iter().map(|r| (r.end - r.start) / self.unit()).sum();
        Some((r.position(), bits, length.div_ceil(CHUNK)))
    }

    /// A chunk's bits; `None` inside where it has none and what was live at the end of the one before goes on.
    fn chunk(&self, (table, bits, count): (usize, u32, u32), index: u32) -> Option<Option<Chunk<'_>>> {
        let mut r = Bits::new(&self.bytes, table.checked_add((index as usize).checked_mul(bits as usize)?)?);
        let Some(at) = (r.take(bits)? as usize).checked_sub(1) else { return Some(None) };
        let chunks = table.checked_add((count as usize).checked_mul(bits as usize)?)?.next_multiple_of(8);
        let mut r = Bits::new(&self.bytes, chunks.checked_add(at)?);
        let slots = set(&mut r, self.tracked, true)?;
        let last = r;
        r.skip(slots.len())?;
        Some(Some(Chunk { slots, last, changes: r }))
    }

    fn at_place(&self, place: u32) -> Option<Vec<usize>> {
        if self.tracked == 0 {
            return Some(Vec::new());
        }
        let table = self.chunks()?;
        if table.1 == 0 {
            return Some(Vec::new());
        }
        let own = place / CHUNK;
        for index in (0..=own).rev() {
            let Some(mut chunk) = self.chunk(table, index)? else { continue };
            // A chunk before tells with what it ends.
            let within = if index == own { place % CHUNK } else { CHUNK };
            return chunk.live(within);
        }
        Some(Vec::new())
    }

    /// Offsets at which what is live may change, in order.
    fn changes(&self) -> Option<Vec<u32>> {
        let mut places = Vec::new();
        if self.tracked > 0 && !self.ranges.is_empty() {
            let table = self.chunks()?;
            for index in 0..if table.1 == 0 { 0 } else { table.2 } {
                let start = index * CHUNK;
                places.push(start);
                if let Some(mut chunk) = self.chunk(table, index)? {
                    for _ in 0..chunk.slots.len() {
                        chunk.each_change(|at| places.push(start + at))?;
                    }
                }
            }
        }
        let mut all: Vec<u32> = places.into_iter().filter_map(|p| self.offset(p)).collect();
        all.extend(self.ranges.iter().flat_map(|r| [r.start, r.end]));
        all.extend(self.safe_points.iter().flat_map(|&p| [p, p.saturating_add(self.unit())]));
        all.retain(|&o| o <= self.header.length);
        all.sort_unstable();
        all.dedup();
        Some(all)
    }

    /// Everything that changes along the code, in order; `None` where the bytes do not hold what they promise.
    pub fn transitions(&self) -> Option<Vec<Transition>> {
        let (mut out, mut before, mut interruptible) = (Vec::new(), Vec::new(), false);
        for offset in self.changes()? {
            let (now, point) = (self.is_interruptible(offset), self.safe_point(offset));
            let live = match (point, self.place(offset)) {
                (Some(index), _) => self.at_safe_point(index)?,
                (None, Some(place)) => self.at_place(place)?,
                (None, None) => Vec::new(),
            };
            let missing = |of: &[usize], from: &[usize]| -> Vec<usize> {
                of.iter().filter(|i| from.binary_search(i).is_err()).copied().collect()
            };
            let (dead, born) = (missing(&before, &live), missing(&live, &before));
            let changed = (now != interruptible).then_some(now);
            if changed.is_some() || point.is_some() || !dead.is_empty() || !born.is_empty() {
                out.push(Transition { offset, interruptible: changed, safe_point: point.is_some(), dead, born });
            }
            (before, interruptible) = (live, now);
        }
        Some(out)
    }

    /// The slots behind indices.
    pub fn slots_of<'a>(&'a self, indices: &'a [usize]) -> impl DoubleEndedIterator<Item = &'a Slot> {
        indices.iter().filter_map(|&i| self.slots.get(i))
    }
}

/// What is written of a chunk.
struct Chunk<'a> {
    /// The slots that are live somewhere in it, or at its end.
    slots: Vec<usize>,
    /// Bits of whether each is live at its end.
    last: Bits<'a>,
    /// The changes of each.
    changes: Bits<'a>,
}

impl Chunk<'_> {
    /// Reads the changes of the next slot.
    fn each_change(&mut self, mut change: impl FnMut(u32)) -> Option<()> {
        while self.changes.bit()? {
            change(self.changes.take(CHUNK.ilog2())?);
        }
        Some(())
    }

    /// The slots live at `place` of the chunk; its end at [`CHUNK`].
    fn live(&mut self, place: u32) -> Option<Vec<usize>> {
        let slots = std::mem::take(&mut self.slots);
        let mut out = Vec::new();
        for slot in slots {
            let mut live = self.last.bit()?;
            if place < CHUNK {
                self.each_change(|at| live ^= at > place)?;
            }
            if live {
                out.push(slot);
            }
        }
        Some(out)
    }
}

/// A set of slots: a bit for each, or (where `packed` allows, and a first bit says so) runs.
fn set(r: &mut Bits<'_>, count: usize, packed: bool) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    if !packed || !r.bit()? {
        for i in 0..count {
            if r.bit()? {
                out.push(i);
            }
        }
        return Some(out);
    }
    // Runs alternate, the first is of what is not in the set, all but the first are at least 1. The bit tells which kind of
    // run is written in groups of two bits, the other being longer.
    let swapped = r.bit()?;
    let base = |inside: bool| if inside == swapped { 4 } else { 2 };
    let (mut inside, mut at) = (false, r.unsigned(base(false))? as usize);
    (at <= count).then_some(())?;
    while at < count {
        inside = !inside;
        let end = at + r.unsigned(base(inside))? as usize + 1;
        (end <= count).then_some(())?;
        if inside {
            out.extend(at..end);
        }
        at = end;
    }
    Some(out)
}
