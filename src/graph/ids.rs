//! Object ids: numbers in address order, kept as one bit per possible start and a rank every 512 bits.
//!
//! About 1.4 bytes an object on ordinary heaps; both directions cost one cache miss or two.

use super::ranked::{BLOCK, RankedBits, WORDS};

/// Starts of one contiguous address range, filled by a worker.
#[derive(Debug, Clone)]
pub struct RangeBits {
    start: u64,
    end: u64,
    shift: u32,
    bits: Vec<u64>,
}

impl RangeBits {
    /// A range `[start, end)` whose objects are aligned to `1 << shift` bytes.
    pub fn new(start: u64, end: u64, shift: u32) -> Self {
        let units = end.saturating_sub(start).div_ceil(1 << shift);
        let words = (units.div_ceil(BLOCK) * WORDS as u64) as usize;
        Self { start, end, shift, bits: vec![0; words] }
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// One past the last address.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Marks the object that starts at `address`; one outside the range is ignored.
    #[inline]
    pub fn set(&mut self, address: u64) {
        let Some(offset) = address.checked_sub(self.start) else { return };
        let unit = offset >> self.shift;
        if let Some(word) = self.bits.get_mut((unit / 64) as usize) {
            *word |= 1 << (unit % 64);
        }
    }

    /// Words of bits.
    pub fn words(&self) -> usize {
        self.bits.len()
    }

    /// Number of the word of the bit of `address`.
    #[inline]
    pub fn word_of(&self, address: u64) -> Option<usize> {
        Some((address.checked_sub(self.start)? >> self.shift) as usize / 64)
    }

    /// Whether the object that starts at `address` was marked.
    pub fn has(&self, address: u64) -> bool {
        let Some(offset) = address.checked_sub(self.start).filter(|o| o & ((1 << self.shift) - 1) == 0) else {
            return false;
        };
        let unit = offset >> self.shift;
        self.bits.get((unit / 64) as usize).is_some_and(|w| w >> (unit % 64) & 1 != 0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    shift: u32,
    /// First word of the range in the bitmap.
    word: usize,
}

/// Parts of the address space that ranges are looked up by, at most.
const PARTS: u64 = 1 << 16;

/// Which ranges begin before each part of equal size between the first range and the last: regions are found without a
/// search.
#[derive(Debug, Default)]
struct Places {
    low: u64,
    shift: u32,
    /// Ranges that begin before each part, and before the end of the last.
    before: Vec<u32>,
}

impl Places {
    fn new(ranges: &[Range]) -> Self {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Self::default() };
        let (low, span) = (first.start, last.end.saturating_sub(first.start));
        let mut shift = 12;
        while span >> shift >= PARTS {
            shift += 1;
        }
        let mut at = 0;
        let before = (0..(span >> shift) + 2).map(|part| {
            let start = low.saturating_add(part << shift);
            while ranges.get(at).is_some_and(|r| r.start < start) {
                at += 1;
            }
            at as u32
        });
        Self { low, shift, before: before.collect() }
    }

    /// Number of ranges that begin at or before `address`.
    #[inline]
    fn until(&self, ranges: &[Range], address: u64) -> usize {
        let Some(part) = address.checked_sub(self.low).map(|o| (o >> self.shift) as usize) else { return 0 };
        let (Some(&a), Some(&b)) = (self.before.get(part), self.before.get(part + 1)) else { return ranges.len() };
        let (a, b) = (a as usize, b as usize);
        match ranges.get(a..b) {
            Some([]) | None => a,
            Some([one]) => a + usize::from(one.start <= address),
            Some(more) => a + more.partition_point(|r| r.start <= address),
        }
    }
}

/// Ids of all objects.
#[derive(Debug, Default)]
pub struct ObjectIds {
    ranges: Vec<Range>,
    places: Places,
    starts: RankedBits,
    /// Block of the object whose id is each multiple of [`NEAR`], and number of its range.
    near: Vec<(u32, u32)>,
}

/// Objects between two of which the block is known, so that the others are found near them.
const NEAR: u32 = if cfg!(test) { 8 } else { 1 << 9 };

impl ObjectIds {
    /// Joins the ranges, which must not overlap. More than `u32::MAX - 1` objects cannot be numbered: the rest gets no id.
    pub fn build(mut parts: Vec<RangeBits>) -> Self {
        parts.sort_by_key(|p| p.start);
        let mut ids = Self::default();
        let total: usize = parts.iter().map(|p| p.bits.len()).sum();
        let mut bits = Vec::with_capacity(total);
        for p in parts {
            ids.ranges.push(Range { start: p.start, end: p.end, shift: p.shift, word: bits.len() });
            bits.extend_from_slice(&p.bits);
        }
        ids.ranked(bits)
    }

    /// Counts the bits of the ranges.
    fn ranked(mut self, bits: Vec<u64>) -> Self {
        self.places = Places::new(&self.ranges);
        self.starts = RankedBits::new(bits);
        let (mut block, mut range) = (0, 0);
        self.near = (0..self.len())
            .step_by(NEAR as usize)
            .map(|id| {
                while self.starts.ranks().get(block + 1).is_some_and(|r| *r <= id) {
                    block += 1;
                }
                // The first of those that begin behind the block's first word.
                while self.ranges.get(range).is_some_and(|r| r.word <= block * WORDS) {
                    range += 1;
                }
                (block as u32, range as u32)
            })
            .collect();
        self
    }

    /// Start, end and alignment shift of each range.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        self.ranges.iter().map(|r| (r.start, r.end, r.shift))
    }

    /// The bits of all ranges, in their order.
    pub fn bits(&self) -> &[u64] {
        self.starts.bits()
    }

    /// From the bits of `ranges`, which are empty; `None` when they have another number of bits.
    pub fn from_bits(mut ranges: Vec<RangeBits>, bits: Vec<u64>) -> Option<Self> {
        ranges.sort_by_key(|r| r.start);
        let mut ids = Self::default();
        let mut word = 0;
        for r in ranges {
            ids.ranges.push(Range { start: r.start, end: r.end, shift: r.shift, word });
            word += r.bits.len();
        }
        (word == bits.len()).then(|| ids.ranked(bits))
    }

    /// Number of objects.
    pub fn len(&self) -> u32 {
        self.starts.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn range(&self, address: u64) -> Option<&Range> {
        let i = self.places.until(&self.ranges, address).checked_sub(1)?;
        self.ranges.get(i).filter(|r| address < r.end)
    }

    /// Number of the bit of the object that starts at `address`, for bits beside [`ObjectIds::bits`].
    #[inline]
    pub fn bit_of(&self, address: u64) -> Option<usize> {
        let r = self.range(address)?;
        let offset = address - r.start;
        if offset & ((1 << r.shift) - 1) != 0 {
            return None;
        }
        let bit = r.word * 64 + (offset >> r.shift) as usize;
        self.starts.has(bit).then_some(bit)
    }

    /// Calls `each` for every start that is set in `words` of `bits`, which are numbered as [`ObjectIds::bits`] are, in
    /// address order, until it returns `false`.
    pub fn each_set(&self, bits: &[u64], words: std::ops::Range<usize>, mut each: impl FnMut(u64) -> bool) {
        let mut next = self.ranges.partition_point(|r| r.word <= words.start);
        let mut range = next.checked_sub(1).and_then(|i| self.ranges.get(i));
        for at in words {
            let mut word = bits.get(at).copied().unwrap_or(0);
            if word == 0 {
                continue;
            }
            while let Some(r) = self.ranges.get(next).filter(|r| r.word <= at) {
                (range, next) = (Some(r), next + 1);
            }
            let Some(r) = range else { continue };
            while word != 0 {
                let unit = (at - r.word) as u64 * 64 + u64::from(word.trailing_zeros());
                if !each(r.start + (unit << r.shift)) {
                    return;
                }
                word &= word - 1;
            }
        }
    }

    /// Number of the first word of the range that begins at `start`.
    pub fn first_word(&self, start: u64) -> Option<usize> {
        // Empty ranges may begin there too, without words.
        self.ranges.get(self.ranges.partition_point(|r| r.start <= start).checked_sub(1)?).map(|r| r.word)
    }

    /// Id of the object that starts at `address`.
    #[inline]
    pub fn id_of(&self, address: u64) -> Option<u32> {
        self.id_in(self.range(address)?, address)
    }

    /// As [`ObjectIds::id_of`], looking first in the range of the last address asked for: references are near.
    #[inline]
    pub fn id_near(&self, address: u64, last: &mut usize) -> Option<u32> {
        let near = self.ranges.get(*last).filter(|r| (r.start..r.end).contains(&address));
        if let Some(r) = near {
            return self.id_in(r, address);
        }
        let i = self.places.until(&self.ranges, address).checked_sub(1)?;
        *last = i;
        self.id_in(self.ranges.get(i).filter(|r| address < r.end)?, address)
    }

    #[inline]
    fn id_in(&self, r: &Range, address: u64) -> Option<u32> {
        let offset = address - r.start;
        if offset & ((1 << r.shift) - 1) != 0 {
            return None;
        }
        self.starts.number_of(r.word * 64 + (offset >> r.shift) as usize)
    }

    /// Number of objects that start at or before `address`.
    fn until(&self, address: u64) -> u32 {
        let next = self.ranges.partition_point(|r| r.start <= address);
        let Some(r) = next.checked_sub(1).and_then(|i| self.ranges.get(i)) else { return 0 };
        if address >= r.end {
            return self.ranges.get(next).map_or(self.len(), |n| self.starts.rank(n.word * 64));
        }
        let bit = r.word * 64 + ((address - r.start) >> r.shift) as usize;
        self.starts.rank(bit) + u32::from(self.starts.has(bit))
    }

    /// Number of objects that start before `address`.
    fn before(&self, address: u64) -> u32 {
        address.checked_sub(1).map_or(0, |a| self.until(a))
    }

    /// Start of the last object at or before `address`. Whether it reaches that far is the caller's check.
    pub fn start_before(&self, address: u64) -> Option<u64> {
        self.address_of(self.until(address).checked_sub(1)?)
    }

    /// First object at or after `address`.
    pub fn start_after(&self, address: u64) -> Option<u64> {
        self.address_of(self.before(address))
    }

    /// Starts in `[first, last]`, at most `most`, in address order: all of them where they are few enough, else some of
    /// each of the sixteen parts of the range (of as many as may be), each chosen the same way.
    pub fn sample(&self, first: u64, last: u64, most: usize) -> Vec<u64> {
        let mut found = Vec::new();
        self.sample_into(first, last, most, &mut found);
        found
    }

    fn sample_into(&self, first: u64, last: u64, most: usize, found: &mut Vec<u64>) {
        let (from, to) = (self.before(first), last.checked_add(1).map_or(self.len(), |end| self.before(end)));
        let part = last.saturating_sub(first) / 16;
        if most < 2 || to.saturating_sub(from) as usize <= most || part == 0 {
            found.extend((from..to).take(most).filter_map(|id| self.address_of(id)));
            return;
        }
        let parts =
            (0..16).map(|i| first.saturating_add(i * (part + 1))).map(|at| (at, at.saturating_add(part).min(last)));
        let full: Vec<_> = parts.filter(|(a, b)| self.start_after(*a).is_some_and(|s| s <= *b)).collect();
        let step = full.len().div_ceil(most).max(1);
        let share = most / full.len().div_ceil(step).max(1);
        for (a, b) in full.iter().step_by(step) {
            self.sample_into(*a, *b, share, found);
        }
    }

    /// Address of the object numbered `id`.
    pub fn address_of(&self, id: u32) -> Option<u64> {
        if id >= self.len() {
            return None;
        }
        let (bits, ranks) = (self.starts.bits(), self.starts.ranks());
        let at = (id / NEAR) as usize;
        let (first, range) = self.near.get(at).map(|n| (n.0 as usize, n.1 as usize))?;
        let end = self.near.get(at + 1).map_or(ranks.len(), |n| n.0 as usize + 1);
        let block = first + ranks.get(first..end)?.partition_point(|&r| r <= id).checked_sub(1)?;
        let mut left = id - ranks.get(block)?;
        for (i, w) in bits.get(block * WORDS..)?.iter().enumerate() {
            let ones = w.count_ones();
            if left >= ones {
                left -= ones;
                continue;
            }
            let mut bits = *w;
            for _ in 0..left {
                bits &= bits - 1;
            }
            let bit = (block * WORDS + i) * 64 + bits.trailing_zeros() as usize;
            let last = self.near.get(at + 1).map_or(self.ranges.len(), |n| n.1 as usize).max(range);
            let later = self.ranges.get(range..last).unwrap_or(&[]);
            // One that begins in the block itself is behind those that begin before it.
            let mut next = range + later.partition_point(|r| r.word * 64 <= bit);
            while self.ranges.get(next).is_some_and(|r| r.word * 64 <= bit) {
                next += 1;
            }
            let r = self.ranges.get(next.checked_sub(1)?)?;
            return Some(r.start + (((bit - r.word * 64) as u64) << r.shift));
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn agrees_with_a_sorted_list(
            starts in proptest::collection::btree_set(0u64..4000, 0..300),
            more in proptest::collection::btree_set(0u64..900, 0..100),
        ) {
            let mut a = RangeBits::new(0x1000, 0x1000 + 4000 * 8, 3);
            let mut b = RangeBits::new(0x10_0008, 0x10_0008 + 900 * 8, 3);
            let mut all: Vec<u64> = starts.iter().map(|s| 0x1000 + s * 8).collect();
            all.iter().for_each(|&s| a.set(s));
            for s in &more {
                b.set(0x10_0008 + s * 8);
                all.push(0x10_0008 + s * 8);
            }
            // Ranges may be empty.
            let empty = [0x800, 0xF_0000, 0x20_0000].map(|at| RangeBits::new(at, at, 3));
            let ids = ObjectIds::build([vec![b, a], empty.to_vec()].concat());
            assert_eq!(ids.len() as usize, all.len());
            for (i, &s) in all.iter().enumerate() {
                assert_eq!(ids.id_of(s), Some(i as u32));
                for last in 0..3 {
                    assert_eq!(ids.id_near(s, &mut { last }), Some(i as u32));
                    assert_eq!(ids.id_near(s + 4, &mut { last }), None);
                }
                assert_eq!(ids.address_of(i as u32), Some(s));
                assert_eq!(ids.id_of(s + 4), None);
                assert_eq!(ids.start_before(s + 7), Some(s));
                assert_eq!(ids.start_after(s), Some(s));
            }
            for probe in [0, 0x1000u64, 0x1ff8, 0x3008, 0x8ff8, 0xF_FFFF, 0x10_0008, 0x10_1000, 0x20_0000, u64::MAX] {
                assert_eq!(ids.start_before(probe), all.iter().copied().filter(|&s| s <= probe).max());
                assert_eq!(ids.start_after(probe), all.iter().copied().find(|&s| s >= probe));
            }
            assert_eq!(ids.address_of(ids.len()), None);
            for probe in (0..0x10_4000u64).step_by(0x7f4).chain(all.iter().copied()).chain([u64::MAX]) {
                assert_eq!(ids.bit_of(probe).is_some(), all.contains(&probe));
            }
            let words = ids.bits().len();
            for part in [0..words, 0..words / 2, words / 3..words - 1, words..words + 9] {
                let mut seen = Vec::new();
                ids.each_set(ids.bits(), part.clone(), |a| { seen.push(a); true });
                let inside = |a: &u64| ids.bit_of(*a).is_some_and(|b| part.contains(&(b / 64)));
                assert_eq!(seen, all.iter().copied().filter(inside).collect::<Vec<_>>());
            }
            let firsts = (ids.first_word(0x1000), ids.first_word(0x10_0008));
            assert_eq!(firsts, (Some(0), Some(4000usize.div_ceil(512) * 8)));
            for (first, last) in [(0x1000u64, 0x1fff), (0x10_0000, 0x1f_ffff), (0, u64::MAX), (0x1230, 0x123f)] {
                let inside: Vec<u64> = all.iter().copied().filter(|s| (first..=last).contains(s)).collect();
                let few = ids.sample(first, last, 20);
                assert!(few.is_sorted() && few.iter().all(|s| inside.contains(s)) && few.len() <= 20);
                assert_eq!(ids.sample(first, last, 2000), inside.clone());
                let digit = |s: &u64| (s - first) / ((last - first) / 16 + 1);
                let digits = |of: &[u64]| of.iter().map(digit).collect::<std::collections::BTreeSet<_>>();
                assert_eq!(digits(&few), digits(&inside));
            }
        }
    }
}
