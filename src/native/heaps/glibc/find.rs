//! Arenas by their structure: the heaps of further ones, the ring, the one in the C library's data.

use rustc_hash::FxHashSet;

use super::layout::{ArenaLayout, BINS, HEAP_ALIGN_32, HEAP_ALIGN_64, HEAP_MOST, LAYOUTS};
use crate::dump::AddressSpace;
use crate::native::heaps::regions::{Regions, readable};
use crate::watch::{Interrupted, Watch};

/// An arena with the words of it that matter.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Where it is.
    pub address: u64,
    /// It lies in no heap.
    pub main: bool,
    /// Its `top` chunk.
    pub top: u64,
    /// Its `next`.
    pub next: u64,
    /// `attached_threads`, of versions that have it.
    pub threads: Option<u64>,
    /// `system_mem`.
    pub system: u64,
    /// One past its last byte.
    pub end: u64,
}

/// A heap of an arena: `heap_info` and what follows.
#[derive(Debug, Clone, Copy)]
pub struct HeapFound {
    /// Where it begins.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    /// The arena it names.
    pub arena: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Arenas {
    /// The layout they have.
    pub layout: Option<&'static ArenaLayout>,
    /// The main one first, if it is in the dump, then by address.
    pub arenas: Vec<Found>,
    /// By address.
    pub heaps: Vec<HeapFound>,
    /// The ring leads through all of them and ends where it began; `None` where there is no main arena to tell.
    pub ring: Option<bool>,
}

/// Bins of a live arena that do not hold at the moment: the dump may have been made inside the allocator.
const TORN: u64 = 2;
/// Empty bins an arena has at least: sizes are spread over 127, and nothing else has dozens of pairs that point to themselves.
const EMPTY: u64 = 24;

/// Whether bins stand at the place where an arena at `address` would have them.
fn has_bins(space: &AddressSpace, address: u64, layout: &ArenaLayout) -> bool {
    let w = layout.word;
    let (mut bad, mut empty) = (0, 0);
    for i in 0..BINS {
        let chunk = layout.bin(address, i);
        let (Some(fd), Some(bk)) = (space.ptr_at(chunk, 2 * w), space.ptr_at(chunk, 3 * w)) else { return false };
        if fd == chunk && bk == chunk {
            empty += 1;
        } else if space.ptr_at(fd, 3 * w) != Some(chunk) || space.ptr_at(bk, 2 * w) != Some(chunk) {
            bad += 1;
            if bad > TORN {
                return false;
            }
        }
    }
    empty >= EMPTY
}

/// The arena at `address`, if there is one of that layout.
fn arena(space: &AddressSpace, address: u64, layout: &ArenaLayout) -> Option<Found> {
    if address == 0 || !has_bins(space, address, layout) {
        return None;
    }
    let (w, next_at) = (layout.word, layout.next());
    let word = |n: u64| space.ptr_at(address, next_at + n * w);
    let next = word(0)?;
    // next, next_free, [attached_threads from 2.23 on], system_mem, max_system_mem.
    let fits = |system: u64, most: u64| system <= most && system.is_multiple_of(0x1000) && most.is_multiple_of(0x1000);
    let (second, third, fourth) = (word(2)?, word(3)?, word(4).unwrap_or(1));
    let (threads, system, words) = match (second, third, fourth) {
        (n, system, most) if n < 0x1_0000 && fits(system, most) => (Some(n), system, 5),
        (system, most, _) if fits(system, most) => (None, system, 4),
        // Somebody else's sbrk leaves a system_mem that is no multiple of pages.
        (n, system, most) if n < 0x1_0000 && system <= most => (Some(n), system, 5),
        _ => return None,
    };
    let top = space.ptr_at(address, layout.top())?;
    Some(Found { address, main: false, top, next, threads, system, end: address + next_at + words * w })
}

/// Finds all arenas.
pub fn arenas(space: &AddressSpace, regions: &Regions, watch: &Watch) -> Result<Arenas, Interrupted> {
    let mut found = Arenas::default();
    let aligned = aligned(space, regions);
    for &at in &aligned {
        watch.cancel.check()?;
        first_heap(space, at, &mut found);
    }
    let known: FxHashSet<u64> = found.arenas.iter().map(|a| a.address).collect();
    found.heaps = aligned.iter().filter_map(|&at| heap(space, at, &known)).collect();
    match found.layout {
        Some(layout) => ring(space, layout, &mut found),
        None => lone(space, regions, &mut found, watch)?,
    }
    found.arenas.sort_by_key(|a| (!a.main, a.address));
    Ok(found)
}

/// Addresses at which a heap may begin.
fn aligned(space: &AddressSpace, regions: &Regions) -> Vec<u64> {
    let step = if space.ptr_size() == 8 { HEAP_ALIGN_64 } else { HEAP_ALIGN_32 };
    let mut out = Vec::new();
    for (start, end) in readable(space, &regions.anonymous) {
        let Some(mut at) = start.checked_next_multiple_of(step) else { continue };
        while at < end {
            out.push(at);
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
    }
    out
}

/// `heap_info` has four words through 2.34, six from 2.35 on; of 32 bits it is padded to the alignment of chunks.
const HEAP_INFO_WORDS: [u64; 3] = [4, 6, 8];

/// Adds the arena in the heap at `start`, if that is the first heap of one.
fn first_heap(space: &AddressSpace, start: u64, found: &mut Arenas) {
    let w = u64::from(space.ptr_size());
    let Some(address) = space.ptr(start) else { return };
    if space.ptr_at(start, w) != Some(0) || !HEAP_INFO_WORDS.iter().any(|n| start.checked_add(n * w) == Some(address)) {
        return;
    }
    for layout in LAYOUTS.iter().filter(|l| l.word == w && found.layout.is_none_or(|f| f == *l)) {
        if let Some(a) = arena(space, address, layout) {
            found.layout = Some(layout);
            found.arenas.push(a);
            return;
        }
    }
}

/// The heap at `start`, if it names one of the arenas.
fn heap(space: &AddressSpace, start: u64, known: &FxHashSet<u64>) -> Option<HeapFound> {
    let w = u64::from(space.ptr_size());
    let arena = space.ptr(start).filter(|a| known.contains(a))?;
    let (size, usable) = (space.ptr_at(start, 2 * w)?, space.ptr_at(start, 3 * w)?);
    let sound = size.is_multiple_of(0x1000) && size > 0 && size <= usable && usable <= HEAP_MOST;
    let previous = space.ptr_at(start, w)?;
    let linked = previous == 0 || previous.is_multiple_of(HEAP_ALIGN_32) && space.ptr(previous) == Some(arena);
    (sound && linked).then_some(HeapFound { start, end: start.checked_add(size)?, arena })
}

/// Follows `next` from the arenas known; the member in no heap is the main arena.
fn ring(space: &AddressSpace, layout: &'static ArenaLayout, found: &mut Arenas) {
    let mut known: FxHashSet<u64> = found.arenas.iter().map(|a| a.address).collect();
    let mut pending: Vec<u64> = found.arenas.iter().map(|a| a.next).collect();
    let mut main = None;
    while let Some(at) = pending.pop() {
        if !known.insert(at) {
            continue;
        }
        let Some(mut a) = arena(space, at, layout) else { continue };
        a.main = main.is_none();
        main.get_or_insert(at);
        pending.push(a.next);
        found.arenas.push(a);
    }
    // All of them, each once, and back where it began.
    found.ring = main.map(|start| {
        let next = |at: u64| found.arenas.iter().find(|a| a.address == at).map(|a| a.next);
        let mut at = start;
        for n in 1..=found.arenas.len() {
            match next(at) {
                Some(a) if a == start => return n == found.arenas.len(),
                Some(a) => at = a,
                None => return false,
            }
        }
        false
    });
}

/// A process with one arena: bins that point to themselves in the data of a module, where `next` is the arena itself.
fn lone(space: &AddressSpace, regions: &Regions, found: &mut Arenas, watch: &Watch) -> Result<(), Interrupted> {
    let w = u64::from(space.ptr_size());
    for &(start, end) in &regions.data {
        watch.cancel.check()?;
        let (mut before, mut last) = ((0, 0), 0u64);
        for (at, word) in space.words(start, end) {
            let pair = at.wrapping_sub(w);
            // Two equal words that follow one another and point two words before themselves.
            let empty = before == (pair, word) && word == pair.wrapping_sub(2 * w);
            before = (at, word);
            if !empty {
                continue;
            }
            // An arena in which this is a later bin than the last pair was looked for then.
            let bins = BINS.min(pair.saturating_sub(last) / (2 * w));
            last = pair;
            if let Some((layout, mut a)) = around_bin(space, pair, bins) {
                a.main = true;
                found.layout = Some(layout);
                found.ring = Some(true);
                found.arenas.push(a);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The arena whose `next` is itself and one of whose first `bins` bins is at `pair`.
fn around_bin(space: &AddressSpace, pair: u64, bins: u64) -> Option<(&'static ArenaLayout, Found)> {
    let w = u64::from(space.ptr_size());
    LAYOUTS.iter().filter(|l| l.word == w).find_map(|layout| {
        let mut bases = (0..bins).filter_map(|i| pair.checked_sub(layout.bins + i * 2 * w));
        let own = bases.find(|&b| space.ptr_at(b, layout.next()) == Some(b))?;
        Some((layout, arena(space, own, layout)?))
    })
}
