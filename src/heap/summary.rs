//! Where the heap refers to, roughly: for each block of it which cards of memory the objects in it refer to. With that,
//! who refers to an object is found by reading a few blocks again, without a graph.
//!
//! A card is a power of two of bytes. Cards are numbered round: those of distant segments may share a number, and cost no
//! more than a look at a block that need not have been looked at.

use std::ops::Range;

use rayon::prelude::*;

use super::index::{ObjectIndex, SegmentBits};
use super::links::{Links, Owners};
use super::model::Segment;
use super::reader::{Reader, of_object};
use super::walk::{Object, Walker};
use crate::graph::ObjectIds;
use crate::graph::rounds::Sought;
use crate::watch::Interrupted;

/// A block is as many cards long, as a shift.
const CARDS_A_BLOCK: u32 = 4;
/// Shortest card, as a shift.
const MIN_CARD: u32 = 12;

/// Bytes of a long array that cost as much to read as one of small objects.
const A_STRETCH: u64 = 4;

/// Bytes a word of bits stands for.
const WORD: u64 = 512;

/// Sizes of cards and blocks.
#[derive(Debug, Clone, Copy)]
struct Plan {
    card: u32,
    /// Words of a block's row; a power of two.
    words: usize,
}

impl Plan {
    fn of(walker: &Walker<'_>) -> Self {
        // What segments say of their length may be damaged.
        Self::new(walker.heap.allocated().min(walker.clr.space().readable_bytes()))
    }

    /// So that all rows together take a sixteenth of the bytes of the heap or less, in round figures.
    fn new(bytes: u64) -> Self {
        let mut card = MIN_CARD;
        while 1u64 << (2 * card) < bytes / 8 {
            card += 1;
        }
        let cards = (bytes >> card).max(64).next_power_of_two();
        Self { card, words: (cards / 64) as usize }
    }

    /// Words of bits in a block: a word stands for 64 times 8 bytes, or 4.
    fn block(self) -> usize {
        1 << (self.card + CARDS_A_BLOCK - 9)
    }

    /// Number of the card of `address`.
    #[inline]
    fn card(self, address: u64) -> usize {
        (address >> self.card) as usize & (self.words * 64 - 1)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new(0)
    }
}

/// The rows of one segment, whose memory in the dump is taken together.
#[derive(Debug)]
struct Rows {
    /// First address and number of words of the bits of each range of its memory.
    ranges: Vec<(u64, usize)>,
    rows: Vec<u64>,
}

/// Takes notes of one segment.
struct Notes {
    rows: Rows,
    bits: SegmentBits,
    owners: Owners,
}

impl Notes {
    fn new(plan: Plan, walker: &Walker<'_>, segment: &Segment) -> Self {
        let bits = SegmentBits::new(walker.clr.space(), segment);
        let ranges = bits.shape();
        let blocks = ranges.iter().map(|r| r.1).sum::<usize>().div_ceil(plan.block());
        let rows = Rows { ranges, rows: vec![0; blocks * plan.words] };
        Self { rows, bits, owners: Owners::default() }
    }

    /// Notes that `o` is there and what it refers to.
    #[inline]
    fn add(&mut self, plan: Plan, walker: &Walker<'_>, links: &Links, o: &Object<'_>) {
        self.bits.set(o.address);
        let Some(word) = self.bits.word_of(o.address) else { return };
        let first = word / plan.block() * plan.words;
        let Some(row) = self.rows.rows.get_mut(first..first + plan.words) else { return };
        of_object(walker, links, &mut self.owners, o, &mut |target| {
            let card = plan.card(target);
            if let Some(word) = row.get_mut(card / 64) {
                *word |= 1 << (card % 64);
            }
        });
    }
}

/// Which cards the objects of each block refer to.
#[derive(Debug, Default)]
pub struct Summary {
    plan: Plan,
    parts: Vec<Rows>,
}

/// What a search reads.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The heap and the runtime.
    pub walker: Walker<'a>,
    /// Which addresses are objects.
    pub index: &'a ObjectIndex,
    /// References that stand in no field.
    pub links: &'a Links,
    /// Where to look.
    pub summary: &'a Summary,
}

impl Summary {
    /// Walks the heap once for its index and the summary.
    pub fn with_index(walker: &Walker<'_>, links: &Links) -> Result<(ObjectIndex, Self), Interrupted> {
        let plan = Plan::of(walker);
        walker.watch.progress.start("reading references", walker.heap.allocated());
        let (notes, report) = walker.parallel(
            &walker.heap.segments,
            |s| Notes::new(plan, walker, s),
            |notes, _, o| notes.add(plan, walker, links, &o),
        )?;
        walker.watch.progress.finish();
        let (parts, bits) = notes.into_iter().map(|n| (n.rows, n.bits)).unzip();
        Ok((ObjectIndex::of(bits, report), Self { plan, parts }))
    }

    /// Reads all objects of a heap whose index is known.
    pub fn build(walker: &Walker<'_>, index: &ObjectIndex, links: &Links) -> Result<Self, Interrupted> {
        let plan = Plan::of(walker);
        walker.watch.progress.start("reading references", walker.heap.allocated());
        let segments = walker.heap.segments.par_iter().with_max_len(1);
        let parts = segments.map(|s| {
            let (mut notes, mut reader, mut last) = (Notes::new(plan, walker, s), Reader::new(*walker, links), s.start);
            let mut stopped = Ok(());
            for (start, words) in notes.rows.ranges.clone() {
                let Some(first) = index.ids.first_word(start) else { continue };
                index.ids.each_set(index.ids.bits(), first..first + words, |address| {
                    if let Some(o) = reader.read(address) {
                        notes.add(plan, walker, links, &o);
                    }
                    if address.saturating_sub(last) >= 1 << 20 {
                        walker.watch.progress.add(address - last);
                        last = address;
                        stopped = walker.watch.cancel.check();
                    }
                    stopped.is_ok()
                });
            }
            stopped.map(|()| notes.rows)
        });
        let parts = parts.collect::<Result<_, _>>()?;
        walker.watch.progress.finish();
        Ok(Self { plan, parts })
    }

    /// Number of blocks.
    fn rows(&self) -> u64 {
        self.parts.iter().map(|p| (p.rows.len() / self.plan.words) as u64).sum()
    }

    /// The words of bits of the blocks that may refer to something sought.
    fn blocks(&self, ids: &ObjectIds, sought: &Sought) -> Vec<Range<usize>> {
        let mut cards: Vec<usize> = sought.keys().map(|&a| self.plan.card(a)).collect();
        cards.sort_unstable();
        cards.dedup();
        let mut mask = vec![0u64; self.plan.words];
        cards.iter().for_each(|c| mask[c / 64] |= 1 << (c % 64));
        let may = |row: &[u64]| match cards.len() < self.plan.words {
            true => cards.iter().any(|c| row.get(c / 64).is_some_and(|w| w >> (c % 64) & 1 != 0)),
            false => row.iter().zip(&mask).any(|(a, b)| a & b != 0),
        };
        let mut found = Vec::new();
        for part in &self.parts {
            for (i, _) in part.rows.chunks_exact(self.plan.words).enumerate().filter(|(_, row)| may(row)) {
                let (from, to) = (i * self.plan.block(), (i + 1) * self.plan.block());
                let mut before = 0;
                for &(start, words) in &part.ranges {
                    let (a, b) = (from.max(before), to.min(before + words));
                    if a < b
                        && let Some(first) = ids.first_word(start)
                    {
                        found.push(first + a - before..first + b - before);
                    }
                    before += words;
                }
            }
        }
        found
    }
}

impl View<'_> {
    /// Every object that refers to something sought, with the least place among what it refers to, sorted by that and then
    /// by address; `None` when more than `budget` bytes would have to be read. What was read is taken off it.
    pub fn referrers(&self, sought: &Sought, budget: &mut u64) -> Result<Option<Vec<(u32, u64)>>, Interrupted> {
        let blocks = self.summary.blocks(&self.index.ids, sought);
        // A word of a row costs about as much as sixteen bytes of objects.
        let rows = self.summary.rows() * sought.len().min(self.summary.plan.words) as u64 * 16;
        let look = blocks.iter().map(|b| b.len() as u64 * WORD).sum::<u64>() + rows;
        let Some(left) = budget.checked_sub(look) else { return Ok(None) };
        *budget = left;
        let (plan, ids) = (self.summary.plan, &self.index.ids);
        let mut mask = vec![0u64; plan.words];
        for &a in sought.keys() {
            mask[plan.card(a) / 64] |= 1 << (plan.card(a) % 64);
        }
        let found = blocks.par_iter().map_init(
            || Reader::new(self.walker, self.links),
            |reader, words| {
                let (mut found, mut bytes) = (Vec::new(), 0);
                self.walker.watch.cancel.check()?;
                ids.each_set(ids.bits(), words.clone(), |address| {
                    let mut least = u32::MAX;
                    bytes += reader.each_reference(address, |target| {
                        let card = plan.card(target);
                        if mask[card / 64] >> (card % 64) & 1 != 0
                            && let Some(&place) = sought.get(&target)
                        {
                            least = least.min(place);
                        }
                    });
                    if least != u32::MAX {
                        found.push((least, address));
                    }
                    true
                });
                // Arrays reach far beyond their block.
                Ok((found, bytes.saturating_sub(words.len() as u64 * WORD)))
            },
        );
        let found: Vec<(Vec<(u32, u64)>, u64)> = found.collect::<Result<_, Interrupted>>()?;
        let beyond: u64 = found.iter().map(|f| f.1).sum();
        let mut all: Vec<(u32, u64)> = found.into_iter().flat_map(|f| f.0).collect();
        for (&target, &place) in sought {
            let primaries = self.links.primaries(target).iter().map(|p| p.1);
            all.extend(primaries.filter(|&p| ids.bit_of(p).is_some()).map(|p| (place, p)));
        }
        *budget = budget.saturating_sub(beyond / A_STRETCH).saturating_sub(all.len() as u64 * 64);
        // Each once, for the first it refers to.
        all.sort_unstable_by_key(|f| (f.1, f.0));
        all.dedup_by_key(|f| f.1);
        all.sort_unstable();
        Ok(Some(all))
    }
}
