//! The blocks of native heaps: 16 bytes each, sorted by address, and an index by page that finds the block of an address.

use rayon::prelude::*;

/// What a block is to its allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// The program has it.
    Used,
    /// The allocator has it and may join it with its neighbours.
    Free,
    /// The allocator keeps it as it was, for the next request of its size.
    Cached,
}

impl State {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            State::Used => "used",
            State::Free => "free",
            State::Cached => "cached",
        }
    }
}

/// Where a block comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Cut from a heap of an arena.
    Chunk,
    /// The end of an arena's newest heap, from which new blocks are cut.
    Top,
    /// A mapping of its own.
    Mapped,
    /// A chunk that a thread keeps for itself.
    ThreadCache,
    /// A chunk in a list of an arena that keeps small ones as they are.
    FastBin,
    /// What a thread's cache itself lies in.
    Cache,
    /// A slot of a group of equal ones.
    Slot,
}

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Chunk, Kind::Top, Kind::Mapped, Kind::ThreadCache, Kind::FastBin, Kind::Cache, Kind::Slot];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chunk => "chunk",
            Kind::Top => "top",
            Kind::Mapped => "mapped",
            Kind::ThreadCache => "thread cache",
            Kind::FastBin => "fast bin",
            Kind::Cache => "cache",
            Kind::Slot => "slot",
        }
    }
}

/// The number that blocks of no arena have in place of its number.
pub const NO_ARENA: u16 = u16::MAX;

const SIZE_BITS: u32 = 40;
/// Largest size a block is believed to have, in bytes: one terabyte.
pub const MOST_SIZE: u64 = (1 << SIZE_BITS) - 1;

/// A block: where it is, how many bytes the program may use of it, its arena, state and kind, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    at: u64,
    bits: u64,
}

impl Block {
    /// No block: no bytes at address 0.
    pub(super) const NONE: Block = Block { at: 0, bits: 0 };

    /// A block of `size` usable bytes at `address`, which is what the program got.
    #[inline]
    pub fn new(address: u64, size: u64, state: State, kind: Kind, arena: u16) -> Self {
        let what = u64::from(arena) << 8 | (kind as u64) << 4 | state as u64;
        Self { at: address, bits: size.min(MOST_SIZE) | what << SIZE_BITS }
    }

    /// What the program got.
    #[inline]
    pub fn address(&self) -> u64 {
        self.at
    }

    /// Usable bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.bits & MOST_SIZE
    }

    /// One past its last usable byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.size())
    }

    /// What it is to its allocator.
    #[inline]
    pub fn state(&self) -> State {
        match self.bits >> SIZE_BITS & 0xF {
            0 => State::Used,
            1 => State::Free,
            _ => State::Cached,
        }
    }

    /// Where it comes from.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::ALL.get((self.bits >> (SIZE_BITS + 4) & 0xF) as usize).copied().unwrap_or(Kind::Chunk)
    }

    /// Number of its arena, [`NO_ARENA`] without one.
    #[inline]
    pub fn arena(&self) -> u16 {
        (self.bits >> (SIZE_BITS + 8)) as u16
    }

    /// The same block in another state.
    pub fn with(self, state: State, kind: Kind) -> Self {
        Self::new(self.at, self.size(), state, kind, self.arena())
    }
}

/// A part of the address space that blocks fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
    /// Its first page in `Blocks::pages`.
    page: usize,
}

const PAGE_SHIFT: u32 = 12;
/// Stretches of [`Blocks::near`] and words of bits for them: 8 KB, which stay in the nearest cache.
const NEAR_SHIFT: u32 = 22;
const NEAR_WORDS: usize = 1024;
/// Blocks further apart than this lie in spans of their own, so that the index is of the order of the blocks.
const GAP: u64 = 1 << 16;

/// Blocks looked at by one thread at a time.
const PART: usize = 1 << 16;

/// Whether blocks lie one behind the other.
fn in_order(list: &[Block]) -> bool {
    let part = |n: usize| list.get(n * PART..list.len().min((n + 1) * PART + 1));
    let parts = list.len().div_ceil(PART);
    (0..parts).into_par_iter().all(|n| part(n).is_some_and(|p| p.is_sorted_by(|a, b| a.end() <= b.at)))
}

/// The index of some of the blocks.
#[derive(Default)]
struct Indexed {
    spans: Vec<Span>,
    pages: Vec<u32>,
}

impl Indexed {
    /// That of `blocks`, the first of which has the number `first`.
    fn of(blocks: &[Block], first: usize) -> Self {
        let mut all = Self::default();
        for (i, b) in blocks.iter().enumerate() {
            all.add((b.at, b.end().max(b.at.saturating_add(1))), first + i);
        }
        all
    }

    /// Goes on with what begins at `from` and ends at `end`, the block of that number the first there.
    fn add(&mut self, (from, end): (u64, u64), number: usize) {
        let page = self.pages.len();
        let known = match self.spans.last_mut() {
            Some(s) if from.saturating_sub(s.end) <= GAP => {
                s.end = end;
                *s
            }
            _ => {
                let span = Span { start: from & !0xFFF, end, page };
                self.spans.push(span);
                span
            }
        };
        // Pages up to the one of the last byte whose first block is not known yet begin with this one.
        let known = known.page + ((known.end - 1 - known.start) >> PAGE_SHIFT) as usize + 1;
        self.pages.resize(known.max(page), number as u32);
    }

    /// Goes on with the index of the blocks behind; `list` are all of them.
    fn join(&mut self, behind: Indexed, list: &[Block]) {
        for (n, s) in behind.spans.iter().enumerate() {
            let end = behind.spans.get(n + 1).map_or(behind.pages.len(), |next| next.page);
            let Some((&first, pages)) = behind.pages.get(s.page..end).and_then(|p| p.split_first()) else { continue };
            let from = list.get(first as usize).map_or(s.start, |b| b.at);
            // Its first page may be the last one of those before, whose first block is known.
            self.add((from, (s.start | 0xFFF).saturating_add(1).min(s.end)), first as usize);
            if let Some(last) = self.spans.last_mut() {
                last.end = s.end;
            }
            self.pages.extend(pages);
        }
    }
}

/// All blocks by address.
#[derive(Debug, Default)]
pub struct Blocks {
    list: Vec<Block>,
    spans: Vec<Span>,
    /// For each page of each span the first block that ends behind the page's first byte.
    pages: Vec<u32>,
    /// A bit for each stretch of 4 MB in which a block lies, by its number modulo their count: most words that are no
    /// pointers to blocks end here.
    near: Vec<u64>,
}

impl Blocks {
    /// The table of these blocks, in any order; of those that overlap the one of the lower address stays.
    pub fn new(mut list: Vec<Block>) -> Self {
        // Sorted and disjoint already, as the walks leave them: looked through once.
        if !in_order(&list) {
            list.sort_unstable();
            let mut last = 0;
            list.retain(|b| {
                let keep = b.at >= last;
                last = if keep { b.end() } else { last };
                keep
            });
        }
        list.truncate(u32::MAX as usize);
        list.shrink_to_fit();
        let mut blocks = Self { list, ..Self::default() };
        blocks.index(PART);
        blocks
    }

    /// Makes the index, of so many blocks at once.
    fn index(&mut self, part: usize) {
        let parts: Vec<Indexed> =
            self.list.par_chunks(part).enumerate().map(|(n, blocks)| Indexed::of(blocks, n * part)).collect();
        let mut all = Indexed::default();
        parts.into_iter().for_each(|p| all.join(p, &self.list));
        (self.spans, self.pages) = (all.spans, all.pages);
        self.pages.shrink_to_fit();
        self.near = vec![0; NEAR_WORDS];
        for s in &self.spans {
            // A span longer than all bits are for sets each of them once.
            let stretches = (s.start >> NEAR_SHIFT)..=(s.end >> NEAR_SHIFT);
            for n in stretches.take(NEAR_WORDS * 64) {
                if let Some(word) = self.near.get_mut(n as usize / 64 % NEAR_WORDS) {
                    *word |= 1 << (n % 64);
                }
            }
        }
    }

    /// All of them, by address.
    pub fn list(&self) -> &[Block] {
        &self.list
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of memory they take, with their index.
    pub fn memory(&self) -> usize {
        self.list.capacity() * size_of::<Block>()
            + self.pages.capacity() * size_of::<u32>()
            + self.spans.capacity() * size_of::<Span>()
            + self.near.capacity() * size_of::<u64>()
    }

    /// The block of that number.
    pub fn get(&self, index: usize) -> Option<&Block> {
        self.list.get(index)
    }

    /// Number of the block one of whose usable bytes is at `address`.
    #[inline]
    pub fn holding(&self, address: u64) -> Option<usize> {
        if !self.is_near(address) {
            return None;
        }
        let (first, count) = self.of_page(address)?;
        self.among(address, first, count)
    }

    /// Whether a block lies in the stretch of 4 MB of `address`, or one of the same number modulo their count.
    #[inline]
    fn is_near(&self, address: u64) -> bool {
        let stretch = address >> NEAR_SHIFT;
        let word = self.near.get(stretch as usize / 64 % NEAR_WORDS);
        word.is_some_and(|w| w >> (stretch % 64) & 1 != 0)
    }

    /// The first block that may reach into the page of `address`, and how many there may be.
    #[inline]
    fn of_page(&self, address: u64) -> Option<(usize, usize)> {
        let i = self.spans.partition_point(|s| s.end <= address);
        let s = self.spans.get(i).filter(|s| s.start <= address)?;
        let page = s.page + ((address - s.start) >> PAGE_SHIFT) as usize;
        let first = *self.pages.get(page)? as usize;
        let next = self.pages.get(page + 1).map_or(self.list.len(), |&n| n as usize + 1).max(first + 1);
        Some((first, next.min(self.list.len()).saturating_sub(first)))
    }

    /// The block of `address` among the `count` from the one of number `first` on.
    #[inline]
    fn among(&self, address: u64, first: usize, count: usize) -> Option<usize> {
        let at = first + last_from(self.list.get(first..first + count)?, address)?;
        self.list.get(at).filter(|b| address < b.end()).map(|_| at)
    }

    /// Number of the block that begins at `address`.
    #[inline]
    pub fn at(&self, address: u64) -> Option<usize> {
        self.holding(address).filter(|&i| self.list.get(i).is_some_and(|b| b.at == address))
    }

    /// Number of the first block that begins at or behind `address`.
    pub fn first_from(&self, address: u64) -> usize {
        self.list.partition_point(|b| b.at < address)
    }

    /// Changes state and kind of a block.
    pub(super) fn set(&mut self, index: usize, state: State, kind: Kind) {
        if let Some(b) = self.list.get_mut(index) {
            *b = b.with(state, kind);
        }
    }
}

/// Words looked up at once.
const AT_ONCE: usize = 64;

/// Look-ups of many words at once: reading the index and the table waits for memory, for all of them together where they do
/// not wait for one another.
pub struct Lookups<'a> {
    blocks: &'a Blocks,
    words: [u64; AT_ONCE],
    count: usize,
}

impl<'a> Lookups<'a> {
    /// Looks words up in `blocks`.
    pub fn new(blocks: &'a Blocks) -> Self {
        Self { blocks, words: [0; AT_ONCE], count: 0 }
    }

    /// Takes a word. Numbers of the blocks that words point into are added to `hits`, if not now, then later.
    #[inline]
    pub fn push(&mut self, word: u64, hits: &mut Vec<u32>) {
        if let Some(place) = self.words.get_mut(self.count) {
            *place = word;
        }
        self.count += usize::from(self.blocks.is_near(word));
        if self.count == AT_ONCE {
            self.finish(hits);
        }
    }

    /// Looks up what was taken.
    pub fn finish(&mut self, hits: &mut Vec<u32>) {
        let words = self.words.get(..std::mem::take(&mut self.count)).unwrap_or(&[]);
        // Word, number of the first block of its page, how many there are; in the next step, where it may be among them.
        let mut ready = [(0u64, 0usize, 0usize); AT_ONCE];
        for (r, &word) in ready.iter_mut().zip(words) {
            let (first, count) = self.blocks.of_page(word).unwrap_or((0, 0));
            *r = (word, first, count);
        }
        let mut guesses = [0u64; AT_ONCE];
        for (g, &(word, first, count)) in guesses.iter_mut().zip(&ready).take(words.len()) {
            *g = self.blocks.list.get(first + guess(word, count)).map_or(0, |b| b.at);
        }
        std::hint::black_box(&guesses);
        let found =
            ready.iter().take(words.len()).filter_map(|&(word, first, count)| self.blocks.among(word, first, count));
        hits.extend(found.map(|i| i as u32));
    }
}

/// Where the block of `address` is among those of its page, if all were equal.
#[inline]
fn guess(address: u64, count: usize) -> usize {
    ((address & ((1 << PAGE_SHIFT) - 1)) as usize * count) >> PAGE_SHIFT
}

/// The last of the blocks of a page that begins at or before `address`. Blocks of a page are mostly of like sizes: the search
/// begins where it would be if they were equal, and goes on by one, so that it touches one cache line or two.
#[inline]
fn last_from(some: &[Block], address: u64) -> Option<usize> {
    let mut at = guess(address, some.len());
    while some.get(at)?.at > address {
        at = at.checked_sub(1)?;
    }
    while some.get(at + 1).is_some_and(|b| b.at <= address) {
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_what_it_is() {
        for kind in Kind::ALL {
            for state in [State::Used, State::Free, State::Cached] {
                let b = Block::new(0x7fff_1234_5670, 0x12_3456_7890, state, kind, 0xFFFE);
                assert_eq!((b.address(), b.size(), b.arena()), (0x7fff_1234_5670, 0x12_3456_7890, 0xFFFE));
                assert_eq!((b.state(), b.kind()), (state, kind));
            }
        }
        assert_eq!(size_of::<Block>(), 16);
    }

    #[test]
    fn every_address_finds_its_block_and_no_other() {
        let mut list = Vec::new();
        let mut at = 0x10_0010u64;
        for i in 0..2000u64 {
            let size = 24 + i * 7919 % 9000 / 16 * 16;
            list.push(Block::new(at, size, State::Used, Kind::Chunk, 0));
            at += size + 8 + if i % 100 == 0 { 0x5_0000 } else { 0 };
        }
        let blocks = Blocks::new(list.clone());
        for (i, b) in list.iter().enumerate() {
            for a in [b.at, b.at + 1, b.end() - 1] {
                assert_eq!(blocks.holding(a), Some(i), "{a:x}");
            }
            assert_eq!(blocks.holding(b.end()), None);
            assert_eq!(blocks.holding(b.at - 1), None);
            assert_eq!(blocks.at(b.at), Some(i));
            assert_eq!(blocks.at(b.at + 8), None);
        }
        assert_eq!(blocks.holding(0), None);
        assert_eq!(blocks.holding(u64::MAX), None);
        let (mut lookups, mut hits, mut one_by_one) = (Lookups::new(&blocks), Vec::new(), Vec::new());
        for word in (0x10_0000u64..at + 64).step_by(7).chain([0, u64::MAX]) {
            lookups.push(word, &mut hits);
            one_by_one.extend(blocks.holding(word).map(|i| i as u32));
        }
        lookups.finish(&mut hits);
        assert_eq!(hits, one_by_one);
        for part in [1, 2, 7, 100, 333] {
            let mut again = Blocks { list: list.clone(), ..Blocks::default() };
            again.index(part);
            assert_eq!(
                (&again.spans, &again.pages, &again.near),
                (&blocks.spans, &blocks.pages, &blocks.near),
                "{part}"
            );
        }
    }
}
