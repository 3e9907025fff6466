//! Where an object holds references: the GCDesc in front of its MethodTable, read once a type.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcdesc.h`. A signed word before the MethodTable gives the number of series;
//! a negative number marks the repeating form of arrays of structs with references.

use super::methodtable::MethodTable;
use crate::dump::AddressSpace;

/// More series than any class has; a larger number is damage.
const MAX_SERIES: u64 = 1 << 16;

/// Where instances of a type hold references. Offsets are from the object's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RefMap {
    /// No references.
    #[default]
    None,
    /// Runs of references: each starts at `start` and is `delta + size of the object` bytes long.
    Series(Vec<Series>),
    /// An array of structs: from `start` on, the items repeat to the end of the object.
    Repeating {
        /// Offset of the first item.
        start: u64,
        /// Pointers to take, then bytes to skip, per item.
        items: Vec<(u32, u32)>,
    },
    /// The GCDesc is damaged or not in the dump.
    Unreadable,
}

/// One run of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Offset of the first reference.
    pub start: u64,
    /// Length minus object size, in bytes.
    pub delta: i64,
}

impl RefMap {
    /// Reads the GCDesc of `mt`.
    pub fn read(space: &AddressSpace, mt: &MethodTable) -> Self {
        if !mt.contains_pointers() {
            return RefMap::None;
        }
        Self::parse(space, mt).unwrap_or(RefMap::Unreadable)
    }

    fn parse(space: &AddressSpace, mt: &MethodTable) -> Option<Self> {
        let ptr = u64::from(space.ptr_size());
        let signed = |v: u64| if ptr == 8 { v as i64 } else { i64::from(v as u32 as i32) };
        let count = signed(space.ptr(mt.address.checked_sub(ptr)?)?);
        if count == 0 || count.unsigned_abs() > MAX_SERIES {
            return None;
        }
        if count < 0 {
            return Self::parse_repeating(space, mt, count.unsigned_abs());
        }
        // Each begins at another pointer of the instance's fixed part, or behind it in an array of references.
        if count as u64 > u64::from(mt.base_size) / ptr {
            return None;
        }
        let mut series = Vec::with_capacity(count as usize);
        for i in 1..=count as u64 {
            let at = mt.address.checked_sub(ptr + 2 * ptr * i)?;
            series.push(Series { delta: signed(space.ptr(at)?), start: space.ptr(at + ptr)? });
        }
        // The series lie in memory from high to low offsets; ascending order reads an object front to back.
        series.sort_by_key(|s| s.start);
        let apart = series.windows(2).all(|w| w[0].start < w[1].start);
        (apart && series.iter().all(|s| s.start.is_multiple_of(ptr))).then_some(RefMap::Series(series))
    }

    fn parse_repeating(space: &AddressSpace, mt: &MethodTable, count: u64) -> Option<Self> {
        let ptr = u64::from(space.ptr_size());
        let start = space.ptr(mt.address.checked_sub(2 * ptr)?)?;
        let mut items = Vec::new();
        for i in 0..count {
            let at = mt.address.checked_sub(3 * ptr + ptr * i)?;
            let (pointers, skip) = if ptr == 8 {
                (space.u32(at)?, space.u32(at.checked_add(4)?)?)
            } else {
                (u32::from(space.u16(at)?), u32::from(space.u16(at.checked_add(2)?)?))
            };
            // An item is there for its pointers.
            if pointers == 0 || !u64::from(skip).is_multiple_of(ptr) {
                return None;
            }
            items.push((pointers, skip));
        }
        start.is_multiple_of(ptr).then_some(RefMap::Repeating { start, items })
    }

    /// Words the GCDesc takes, about: what it costs to keep.
    pub fn words(&self) -> u64 {
        match self {
            RefMap::None | RefMap::Unreadable => 0,
            RefMap::Series(series) => 2 * series.len() as u64,
            RefMap::Repeating { items, .. } => items.len() as u64,
        }
    }

    /// Calls `each(offset)` for every reference slot of an object of `size` bytes (unaligned), in ascending order.
    /// `ptr` is the pointer size.
    #[inline]
    pub fn slots(&self, size: u64, ptr: u64, each: impl FnMut(u64)) {
        self.slots_between(size, ptr, (0, u64::MAX), each);
    }

    /// As [`RefMap::slots`], for the slots that begin from the first offset on and before the second. The work is that of
    /// the slots and series between them.
    #[inline]
    pub fn slots_between(&self, size: u64, ptr: u64, (from, to): (u64, u64), mut each: impl FnMut(u64)) {
        match self {
            RefMap::None | RefMap::Unreadable => {}
            RefMap::Series(series) => {
                // Series of a damaged GCDesc may overlap: no slot comes twice.
                let mut at = 0;
                for s in series {
                    if s.start >= size.min(to) {
                        return;
                    }
                    let end = s.start.saturating_add(size.saturating_add_signed(s.delta)).min(size);
                    at = s.start.max(at);
                    if at < from {
                        at += (from - at).next_multiple_of(ptr);
                    }
                    while at < to && at.saturating_add(ptr) <= end {
                        each(at);
                        at += ptr;
                    }
                }
            }
            RefMap::Repeating { start, items } => {
                let end = size.saturating_sub(ptr);
                let mut at = *start;
                if at < from {
                    let stride: u64 = items.iter().map(|&(n, skip)| u64::from(n) * ptr + u64::from(skip)).sum();
                    at += (from - at) / stride.max(1) * stride;
                }
                while at < end {
                    for &(n, skip) in items {
                        let run = at.saturating_add(u64::from(n) * ptr);
                        if at < from {
                            at += (from - at).next_multiple_of(ptr).min(run - at);
                        }
                        while at < run {
                            if at >= to || at.saturating_add(ptr) > size {
                                return;
                            }
                            each(at);
                            at += ptr;
                        }
                        at = at.saturating_add(u64::from(skip));
                    }
                }
            }
        }
    }

    /// Whether instances can hold references.
    pub fn is_none(&self) -> bool {
        matches!(self, RefMap::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(map: &RefMap, size: u64, ptr: u64) -> Vec<u64> {
        let mut slots = Vec::new();
        map.slots(size, ptr, |s| slots.push(s));
        slots
    }

    proptest::proptest! {
        #[test]
        fn parts_make_the_whole(
            starts in proptest::collection::btree_set(0u64..40, 1..6),
            deltas in proptest::collection::vec(-300i64..40, 6),
            items in proptest::collection::vec((1u32..4, 0u32..4), 1..4),
            size in 0u64..400,
            cuts in proptest::collection::btree_set(0u64..420, 0..6),
            ptr in proptest::sample::select(&[4u64, 8][..]),
        ) {
            let series = starts.iter().zip(deltas).map(|(s, delta)| Series { start: s * ptr, delta }).collect();
            let start = starts.iter().next().map_or(0, |s| s * ptr);
            let items = items.iter().map(|&(n, skip)| (n, skip * ptr as u32)).collect();
            for map in [RefMap::Series(series), RefMap::Repeating { start, items }] {
                let whole = all(&map, size, ptr);
                assert!(whole.is_sorted_by(|a, b| a < b), "no slot twice: {whole:?}");
                assert!(whole.iter().all(|s| s + ptr <= size));
                let mut parts = Vec::new();
                let edges: Vec<u64> = [0].into_iter().chain(cuts.iter().copied()).chain([u64::MAX]).collect();
                for w in edges.windows(2) {
                    map.slots_between(size, ptr, (w[0], w[1]), |s| parts.push(s));
                }
                assert_eq!(parts, whole);
            }
        }
    }

    #[test]
    fn far_starts_end() {
        let far = RefMap::Series(vec![Series { start: 8, delta: i64::MAX }, Series { start: u64::MAX - 7, delta: 0 }]);
        assert_eq!(all(&far, 24, 8), [8, 16]);
        assert!(
            all(&RefMap::Repeating { start: u64::MAX - 7, items: vec![(u32::MAX, u32::MAX - 7)] }, 24, 8).is_empty()
        );
        // Far into a large array the work is that of what is asked for.
        let mut slots = Vec::new();
        let pairs = RefMap::Repeating { start: 16, items: vec![(1, 8)] };
        pairs.slots_between(1 << 47, 8, (1 << 46, (1 << 46) + 32), |s| slots.push(s));
        assert_eq!(slots, [1 << 46, (1 << 46) + 16]);
    }
}
