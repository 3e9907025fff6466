//! The GNU C library's allocator, 2.17 to 2.43: arenas found by structure, chunks walked, lists subtracted, all of it held
//! against what the allocator counts.

mod checks;
mod find;
mod layout;
mod lists;
mod mapped;
mod walk;

use rayon::prelude::*;

use self::find::{Arenas, Found};
use self::layout::{ArenaLayout, HEAP_MOST, LAYOUTS, NON_MAIN};
use self::lists::Caches;
use self::mapped::Parameters;
use self::walk::{End, Piece, Walked};
use super::regions::{Range, Regions, without};
use super::{Allocator, Arena, Block, Blocks, Kind, NO_ARENA, NativeHeaps, Stretch, Sum};
use crate::dump::{AddressSpace, Dump};
use crate::watch::{Interrupted, Watch};

/// The break grows by what is asked for and this many bytes more (`DEFAULT_TOP_PAD`): what is shorter is a page that a small
/// dump happens to have.
const LEAST_GROWTH: u64 = 128 << 10;

/// A piece so long is walked in parts at once, in bytes.
const PART: u64 = 32 << 20;

/// What every step works with.
struct Reader<'a> {
    dump: &'a Dump,
    space: &'a AddressSpace,
    regions: &'a Regions,
    watch: &'a Watch,
    layout: &'static ArenaLayout,
    found: Arenas,
    parameters: Option<Parameters>,
}

/// A piece of memory with what was found in it.
struct Done {
    piece: Piece,
    walked: Walked,
}

/// What was read of one arena.
#[derive(Default)]
struct Part {
    done: Vec<Done>,
    /// Pieces that were walked.
    pieces: u32,
    /// Stretches that are no chunks.
    lost: Vec<Range>,
    /// All memory that was read, in the order it was.
    memory: Vec<Range>,
    /// Bytes of headers in front of the first chunks, and those that somebody else took of the break in between.
    own: u64,
}

/// Reads the heaps; `None` when this allocator is not in use. Where `another` stands in its place no memory is taken for the
/// main arena's without the arena itself.
pub fn read(dump: &Dump, regions: &Regions, another: bool, watch: &Watch) -> Result<Option<NativeHeaps>, Interrupted> {
    let space = &dump.space;
    let found = find::arenas(space, regions, watch)?;
    let word = u64::from(space.ptr_size());
    let Some(layout) = found.layout.or_else(|| LAYOUTS.iter().find(|l| l.word == word)) else { return Ok(None) };
    let main = found.arenas.first().filter(|a| a.main).copied();
    if found.arenas.is_empty() && another {
        return Ok(None);
    }
    let starts = |at: u64| regions.around(at).is_some() && is_first_chunk(space, layout, at);
    let parameters = main.and_then(|m| mapped::parameters(space, layout, m.address, starts));
    let reader = Reader { dump, space, regions, watch, layout, found, parameters };
    let (first, rest) = rayon::join(|| reader.main_arena(), || reader.further_arenas());
    let (first, rest) = (first?, rest?);
    if reader.found.arenas.is_empty() && first.done.is_empty() {
        return Ok(None);
    }
    reader.put_together(first, rest).map(Some)
}

/// Chunks begin where the block behind their header is aligned.
fn chunk_from(at: u64, layout: &ArenaLayout) -> Option<u64> {
    at.checked_add(2 * layout.word)?.checked_next_multiple_of(layout.align())?.checked_sub(2 * layout.word)
}

/// Whether a first chunk may begin at `at`, rounded up.
fn is_first_chunk(space: &AddressSpace, layout: &ArenaLayout, at: u64) -> bool {
    let Some(chunk) = chunk_from(at, layout) else { return false };
    let Some(word) = space.ptr_at(chunk, layout.word) else { return false };
    let size = word & !layout::FLAGS;
    word & layout::FLAGS == layout::PREV_INUSE && size >= layout.least() && size.is_multiple_of(layout.align())
}

impl Reader<'_> {
    /// Walks `piece` to its end, over what is no chunk too.
    fn walk(&self, piece: Piece, part: &mut Part) -> Result<End, Interrupted> {
        let (start, mut piece) = (piece.start, piece);
        part.pieces += 1;
        loop {
            let done = self.walk_parts(piece)?;
            let end = done.last().map_or(End::Broken(piece.start), |d| d.walked.end);
            let behind = done.last().map_or(piece.end, |d| extent(self.space, self.layout, d).1);
            part.done.extend(done);
            let (End::Broken(at) | End::Absent(at)) = end else {
                part.memory.push((start, behind));
                return Ok(end);
            };
            let from = (at + self.layout.align()).min(piece.end);
            let range = (from, piece.end);
            let next = walk::first_chain(
                self.space,
                self.layout,
                &piece,
                range,
                (self.layout.align(), walk::ENOUGH),
                self.watch,
            )?;
            part.lost.push((at, next.map_or(piece.end, |n| n.start)));
            match next {
                Some(next) => piece = next,
                None => {
                    part.memory.push((start, piece.end));
                    return Ok(end);
                }
            }
        }
    }

    /// Walks a piece, a long one in parts at once: each part begins where a chain of chunks was found, and is believed when
    /// the walk of the part before it ends exactly there.
    fn walk_parts(&self, piece: Piece) -> Result<Vec<Done>, Interrupted> {
        let walk = |piece: Piece| {
            let walked = walk::walk(self.space, self.layout, &piece, self.watch)?;
            Ok(Done { piece, walked })
        };
        let count = ((piece.end - piece.start) / PART).min(2 * rayon::current_num_threads() as u64);
        if count < 2 {
            return Ok(vec![walk(piece)?]);
        }
        let step = (piece.end - piece.start) / count;
        let mut starts = vec![piece.start];
        for i in 1..count {
            let from = (piece.start + i * step).next_multiple_of(self.layout.align());
            let near = (from, from.saturating_add(PART / 4).min(piece.end));
            let how = (self.layout.align(), walk::SURE);
            if let Some(found) = walk::first_chain(self.space, self.layout, &piece, near, how, self.watch)? {
                starts.push(found.start);
            }
        }
        let ends = starts.iter().skip(1).map(|&s| (s, true)).chain([(piece.end, false)]);
        let parts: Vec<Piece> =
            starts.iter().zip(ends).map(|(&start, (end, open))| Piece { start, end, open, ..piece }).collect();
        let done: Vec<Done> = parts.into_par_iter().map(walk).collect::<Result<_, _>>()?;
        let joined = done.iter().all(|d| !d.piece.open || d.walked.end == End::Memory);
        if joined { Ok(done) } else { Ok(vec![walk(piece)?]) }
    }

    /// The heaps of all arenas but the main one, in parallel.
    fn further_arenas(&self) -> Result<Vec<Part>, Interrupted> {
        let arenas = &self.found.arenas;
        let one = |(i, arena): (usize, &Found)| {
            let mut part = Part::default();
            if arena.main {
                return Ok(part);
            }
            let heaps = self.found.heaps.iter().filter(|h| h.arena == arena.address);
            let first =
                self.found.heaps.iter().find(|h| (h.start..h.end).contains(&arena.address)).map_or(0, |h| h.start);
            for h in heaps {
                // The first heap holds the arena, the others begin with their heap_info alone.
                let from = if h.start == first { arena.end } else { h.start.saturating_add(arena.address - first) };
                let Some(start) = chunk_from(from, self.layout).filter(|&s| s < h.end) else { continue };
                part.own += start - h.start;
                part.memory.push((h.start, start));
                let (arena, top) = (self.number(i), Some(arena.top));
                self.walk(Piece { start, end: h.end, arena, flag: NON_MAIN, top, open: false }, &mut part)?;
            }
            Ok(part)
        };
        arenas.par_iter().enumerate().map(one).collect()
    }

    /// Number of the arena of that place in the list: where the main one is not in the dump, it has number 0 all the same.
    fn number(&self, place: usize) -> u16 {
        let shift = usize::from(!self.found.arenas.first().is_some_and(|a| a.main));
        u16::try_from(place + shift).unwrap_or(NO_ARENA - 1)
    }

    /// The main arena's memory.
    fn main_arena(&self) -> Result<Part, Interrupted> {
        let mut part = Part::default();
        match self.found.arenas.first().filter(|a| a.main) {
            Some(main) => self.main_by_top(main, &mut part)?,
            None => self.main_by_chain(&mut part)?,
        }
        Ok(part)
    }

    fn main_by_top(&self, main: &Found, part: &mut Part) -> Result<(), Interrupted> {
        let w = self.layout.word;
        let size = self.space.ptr_at(main.top, w).unwrap_or(0) & !layout::FLAGS;
        let by_size = main.top.saturating_add(size).checked_sub(main.system);
        let start = self.parameters.map(|p| p.base).or(by_size).and_then(|s| chunk_from(s, self.layout));
        let top = Some(main.top);
        let mut reached = false;
        // What others took of the break before the first chunk is aligned counts as the arena's.
        if let Some((base, start)) = self.parameters.map(|p| p.base).zip(start).filter(|(base, start)| base < start) {
            part.own += start - base;
            part.memory.push((base, start));
        }
        if let Some((start, range)) = start.and_then(|s| Some((s, self.regions.around(s)?))) {
            reached = self.pieces(
                Piece { start, end: range.1, arena: 0, flag: 0, top, open: false },
                self.layout.align(),
                part,
            )?;
        }
        if reached || main.top == main.address + self.layout.top() {
            return Ok(());
        }
        // The break could not grow: further pieces are mappings, each beginning with a chunk.
        for range in self.outside_heaps(part) {
            self.search_pieces(range, top, part)?;
        }
        Ok(())
    }

    /// The pieces from `first` on to the end of its mapping; whether the top was among them. Behind a fence the next piece
    /// begins at any place of `step`: somebody else moved the break, or it is the older one of two mappings.
    fn pieces(&self, first: Piece, step: u64, part: &mut Part) -> Result<bool, Interrupted> {
        let (mut piece, mut reached) = (first, false);
        loop {
            let behind = match self.walk(piece, part)? {
                End::Fence(behind) => behind,
                End::Top if step >= 0x1000 => {
                    reached = true;
                    part.done.last().map_or(first.end, |d| extent(self.space, self.layout, d).1)
                }
                end => return Ok(reached || end == End::Top),
            };
            let from = behind.next_multiple_of(step);
            match walk::first_chain(self.space, self.layout, &piece, (from, first.end), (step, usize::MAX), self.watch)?
            {
                Some(next) => {
                    // What lies between two pieces of the break is counted with the arena.
                    if step < 0x1000 {
                        part.own += next.start.saturating_sub(behind);
                        part.memory.push((behind, next.start));
                    }
                    piece = next;
                }
                None => return Ok(reached),
            }
        }
    }

    /// Finds pieces at the pages of `range`.
    fn search_pieces(&self, range: Range, top: Option<u64>, part: &mut Part) -> Result<(), Interrupted> {
        let like = Piece { start: range.0, end: range.1, arena: 0, flag: 0, top, open: false };
        let Some(first) = walk::first_chain(self.space, self.layout, &like, range, (0x1000, usize::MAX), self.watch)?
        else {
            return Ok(());
        };
        self.pieces(first, 0x1000, part)?;
        Ok(())
    }

    /// The main arena without its own data: a chain of chunks from a page to the end of its mapping.
    fn main_by_chain(&self, part: &mut Part) -> Result<(), Interrupted> {
        for range in self.outside_heaps(part).into_iter().filter(|r| r.1 - r.0 > LEAST_GROWTH) {
            self.search_pieces(range, None, part)?;
        }
        Ok(())
    }

    /// Memory in which no heap of an arena and no piece read so far lies.
    fn outside_heaps(&self, part: &Part) -> Vec<Range> {
        let mut held: Vec<Range> = self.found.heaps.iter().map(|h| (h.start, h.end)).collect();
        held.extend(part.done.iter().map(|d| extent(self.space, self.layout, d)));
        held.sort_unstable();
        without(&self.regions.open, &held)
    }

    fn put_together(&self, first: Part, rest: Vec<Part>) -> Result<NativeHeaps, Interrupted> {
        let main = self.found.arenas.first().is_some_and(|a| a.main);
        let ranges = self.outside_heaps(&first);
        let (own, mapped, mappings) = mapped::find(self.space, self.layout, &ranges, self.watch)?;
        let mut parts = rest;
        if main {
            parts.first_mut().into_iter().for_each(|p| *p = Part::default());
            if let Some(p) = parts.first_mut() {
                *p = first;
            }
        } else {
            parts.insert(0, first);
        }
        let mut heaps = NativeHeaps::none(Allocator::Glibc(self.layout.versions));
        heaps.mapped = mapped;
        heaps.mapped_counted = self.parameters.map(|p| p.mapped);
        let mut list: Vec<Vec<Block>> = Vec::new();
        let mut candidates = Vec::new();
        for (number, part) in parts.iter_mut().enumerate() {
            let place = if main { Some(number) } else { number.checked_sub(1) };
            let found = place.and_then(|p| self.found.arenas.get(p));
            heaps.arenas.push(self.arena(found, part));
            let stretch = |&(start, end): &Range| Stretch { start, end, arena: number as u16 };
            heaps.memory.extend(part.memory.iter().map(stretch));
            for done in &mut part.done {
                candidates.append(&mut done.walked.caches);
                list.push(std::mem::take(&mut done.walked.blocks));
            }
        }
        list.push(own);
        heaps.memory.extend(mappings.iter().map(|&(start, end)| Stretch { start, end, arena: NO_ARENA }));
        heaps.memory.sort_unstable();
        heaps.blocks = Blocks::new(joined(list));
        let cached = self.take_cached(&mut heaps, &candidates)?;
        self.check(&mut heaps, &parts, &cached)?;
        Ok(heaps)
    }

    /// The sums of one arena.
    fn arena(&self, found: Option<&Found>, part: &Part) -> Arena {
        let main = found.is_none_or(|f| f.main);
        let mut a = Arena {
            address: found.map_or(0, |f| f.address),
            main,
            threads: found.and_then(|f| f.threads),
            own: part.own,
            lost: part.lost.iter().map(|l| l.1.saturating_sub(l.0)).sum(),
            ..Arena::default()
        };
        for done in &part.done {
            let w = &done.walked;
            a.used.join(w.used);
            a.free.join(w.free);
            a.largest = a.largest.max(w.largest);
            a.top += w.top;
            a.own += w.fences;
            a.trimmable += w.trimmable;
        }
        let heaps = self.found.heaps.iter().filter(|h| !main && h.arena == a.address);
        if main {
            a.heaps = part.pieces.max(1);
            a.system = a.used.bytes + a.free.bytes + a.top + a.own + a.lost;
            // `systrim`: whole pages of the top, less what a chunk needs.
            a.trimmable += a.top.saturating_sub(self.layout.least() + 1) & !0xFFF;
        } else {
            for h in heaps {
                a.heaps += 1;
                a.system += h.end.saturating_sub(h.start).min(HEAP_MOST);
            }
        }
        a
    }

    /// Takes what caches and fast bins hold out of what is in use.
    fn take_cached(&self, heaps: &mut NativeHeaps, candidates: &[u64]) -> Result<Cached, Interrupted> {
        let (space, w) = (self.space, self.layout.word);
        let (caches, masked) = lists::caches(space, &heaps.blocks, self.layout, candidates, self.watch)?;
        let by_fast = lists::fast_are_masked(space, &heaps.blocks, self.layout, &self.found.arenas);
        let masked = if caches.caches.is_empty() { by_fast.unwrap_or(masked) } else { masked };
        let mut fast = Vec::new();
        let mut torn = Vec::new();
        for (i, a) in self.found.arenas.iter().enumerate() {
            let most = heaps.blocks.len() as u64;
            let (held, broken) = lists::fast_bins(space, &heaps.blocks, self.layout, a, masked, most);
            fast.extend(held);
            torn.push((self.number(i), broken));
        }
        let arenas = &mut heaps.arenas;
        let mut take = |number: u16, bytes: u64, fast: bool| {
            let Some(a) = arenas.get_mut(usize::from(number)) else { return };
            a.used.take(bytes);
            if fast { a.fast.add(bytes) } else { a.cached.add(bytes) }
        };
        lists::mark(&mut heaps.blocks, &fast, Kind::FastBin, w, |n, b| take(n, b, true));
        for c in &caches.caches {
            lists::mark(&mut heaps.blocks, &c.held, Kind::ThreadCache, w, |n, b| take(n, b, false));
        }
        for c in &caches.caches {
            if let Some(i) = heaps.blocks.at(c.address) {
                heaps.blocks.set(i, super::State::Used, Kind::Cache);
            }
        }
        Ok(Cached { caches, masked, torn })
    }
}

/// What caches and fast bins hold.
struct Cached {
    caches: Caches,
    masked: bool,
    /// Broken fast bins by number of the arena.
    torn: Vec<(u16, u64)>,
}

/// The memory of a piece that was read, to the end of its top.
fn extent(space: &AddressSpace, layout: &ArenaLayout, done: &Done) -> Range {
    let start = done.piece.start & !0xFFF;
    let end = match (done.walked.end, done.piece.top) {
        (End::Fence(end), _) => end,
        (End::Top, Some(top)) => {
            let size = space.ptr_at(top, layout.word).unwrap_or(0) & !layout::FLAGS;
            top.saturating_add(size)
        }
        (End::Broken(at) | End::Absent(at), _) => at,
        _ => done.piece.end,
    };
    (start, end.min(done.piece.end).max(start))
}

/// Lists that follow one another in one, sorted. One long list is not copied, several are by all threads: memory that is
/// touched for the first time costs more than what is written there.
fn joined(mut lists: Vec<Vec<Block>>) -> Vec<Block> {
    lists.retain(|l| !l.is_empty());
    if lists.len() < 2 {
        return lists.pop().unwrap_or_default();
    }
    lists.sort_by_key(|l| l.first().map(Block::address));
    let mut starts = Vec::with_capacity(lists.len());
    let mut total = 0;
    for l in &lists {
        starts.push(total);
        total += l.len();
    }
    let of = |i: usize| {
        let n = starts.partition_point(|&s| s <= i).saturating_sub(1);
        let list = lists.get(n).zip(starts.get(n));
        list.and_then(|(l, s)| l.get(i - s)).copied().unwrap_or(Block::NONE)
    };
    (0..total).into_par_iter().with_min_len(1 << 14).map(of).collect()
}

impl Sum {
    fn is(&self, count: u64, bytes: u64) -> bool {
        self.count == count && self.bytes == bytes
    }
}
