//! The lists of free chunks: caches of threads, fast bins, bins. The walk sees the first two as used.

use super::find::Found;
use super::layout::{ArenaLayout, BINS, CACHES, CacheLayout, FLAGS, SMALL_BINS};
use crate::dump::AddressSpace;
use crate::native::heaps::{Blocks, Kind, State, Sum};
use crate::watch::{Interrupted, Watch};

/// How links are stored: as they are, or from 2.32 on `next ^ (address of the link >> 12)` ("safe linking").
fn link(space: &AddressSpace, at: u64, masked: bool) -> Option<u64> {
    let stored = space.ptr(at)?;
    Some(if masked { stored ^ at >> 12 } else { stored })
}

/// A cache: the number of its block and the numbers of those it holds.
#[derive(Debug)]
pub struct Cache {
    /// Where it is.
    pub address: u64,
    /// What it holds.
    pub held: Vec<u64>,
    /// Lists of it that do not hold what their counts say.
    pub torn: u64,
}

/// What the caches of threads hold.
#[derive(Debug, Default)]
pub struct Caches {
    /// Their layout, where one was found.
    pub layout: Option<&'static CacheLayout>,
    /// Each of them.
    pub caches: Vec<Cache>,
}

/// Usable bytes of the block at `address`, if it is one in use.
fn used(blocks: &Blocks, address: u64) -> Option<u64> {
    let b = blocks.at(address).and_then(|i| blocks.get(i))?;
    (b.state() == State::Used).then(|| b.size())
}

/// Reads the cache at `address`, if its shape is that of `layout`: each count agrees with its pointer, and each pointer leads
/// to a block in use of the bin's size.
fn cache(
    space: &AddressSpace,
    blocks: &Blocks,
    arena: &ArenaLayout,
    layout: &CacheLayout,
    address: u64,
    masked: bool,
) -> Option<Cache> {
    let w = arena.word;
    let room = used(blocks, address)?;
    if room < layout.size(w) {
        return None;
    }
    let count = |i: u64| {
        let at = address.checked_add(i * layout.count)?;
        if layout.count == 1 { space.u8(at).map(u64::from) } else { space.u16(at).map(u64::from) }
    };
    let entry = |i: u64| space.ptr_at(address, layout.entry(i, w));
    // Where counts are places, the least number of an empty bin is what fits: all small bins have the same.
    let mut fill = None;
    if layout.places {
        for i in 0..SMALL_BINS {
            if entry(i)? == 0 && *fill.get_or_insert(count(i)?) != count(i)? {
                return None;
            }
        }
    }
    let bin_size = |i: u64| arena.least() + i * arena.align() - w;
    let mut found = Cache { address, held: Vec::new(), torn: 0 };
    let mut lists = Vec::new();
    for i in 0..layout.bins {
        let (n, first) = (count(i)?, entry(i)?);
        let expected = if layout.places { fill.and_then(|f| f.checked_sub(n)) } else { Some(n) };
        let empty = if layout.places { first == 0 } else { n == 0 };
        if empty != (first == 0) || !layout.places && n > u64::from(u16::MAX) {
            return None;
        }
        if first == 0 {
            continue;
        }
        let size = used(blocks, first)?;
        let fits = if i < SMALL_BINS { size == bin_size(i) } else { size > bin_size(SMALL_BINS - 1) };
        if !fits {
            return None;
        }
        lists.push((first, size, i < SMALL_BINS, expected));
    }
    for (first, size, one_size, expected) in lists {
        let before = found.held.len();
        let mut at = first;
        // A list is no longer than a count can say; a circle ends there.
        let most = before + usize::from(u16::MAX);
        while at != 0 && found.held.len() < most {
            let fits = |s: u64| if one_size { s == size } else { s > bin_size(SMALL_BINS - 1) };
            if !used(blocks, at).is_some_and(fits) {
                break;
            }
            found.held.push(at);
            at = link(space, at, masked).unwrap_or(1);
        }
        let n = (found.held.len() - before) as u64;
        if at != 0 || expected.is_some_and(|e| e != n) && one_size {
            found.torn += 1;
        }
    }
    Some(found)
}

/// Finds the caches among the blocks whose sizes fit. Whether links are masked and which layout it is decides how many lists
/// hold what their counts say.
pub fn caches(
    space: &AddressSpace,
    blocks: &Blocks,
    arena: &ArenaLayout,
    candidates: &[u64],
    watch: &Watch,
) -> Result<(Caches, bool), Interrupted> {
    let mut best: Option<(i64, Caches, bool)> = None;
    for layout in CACHES {
        for masked in [true, false] {
            watch.cancel.check()?;
            let found: Vec<Cache> =
                candidates.iter().filter_map(|&a| cache(space, blocks, arena, layout, a, masked)).collect();
            let found: Vec<Cache> = found.into_iter().filter(|c| layout.places || !c.held.is_empty()).collect();
            let held: usize = found.iter().map(|c| c.held.len()).sum();
            let torn: u64 = found.iter().map(|c| c.torn).sum();
            let score = (held + found.len()) as i64 - 4 * torn as i64;
            if !found.is_empty() && best.as_ref().is_none_or(|b| score > b.0) {
                best = Some((score, Caches { layout: Some(layout), caches: found }, masked));
            }
        }
    }
    Ok(best.map_or((Caches::default(), arena.bins != 0x68), |b| (b.1, b.2)))
}

/// What the fast bins of an arena hold, with the number of lists that end at what is no chunk of their size.
pub fn fast_bins(
    space: &AddressSpace,
    blocks: &Blocks,
    layout: &ArenaLayout,
    arena: &Found,
    masked: bool,
    most: u64,
) -> (Vec<u64>, u64) {
    let (w, (offset, count)) = (layout.word, layout.fast);
    let (mut held, mut torn) = (Vec::new(), 0);
    for i in 0..count {
        let mut chunk = space.ptr_at(arena.address, offset + i * w).unwrap_or(0);
        while chunk != 0 && (held.len() as u64) <= most {
            let block = chunk.wrapping_add(2 * w);
            if used(blocks, block) != Some(layout.fast_size(i) - w) {
                break;
            }
            held.push(block);
            chunk = link(space, block, masked).unwrap_or(1);
        }
        torn += u64::from(chunk != 0);
    }
    (held, torn)
}

/// Whether links are masked, as the fast bins of all arenas have it: how many chunks each reading leads to.
pub fn fast_are_masked(space: &AddressSpace, blocks: &Blocks, layout: &ArenaLayout, arenas: &[Found]) -> Option<bool> {
    let read = |masked: bool| {
        let lists = arenas.iter().map(|a| fast_bins(space, blocks, layout, a, masked, blocks.len() as u64));
        lists.fold((0i64, 0), |s, l| (s.0 + l.0.len() as i64 - 4 * l.1 as i64, s.1 + l.0.len()))
    };
    let (masked, plain) = (read(true), read(false));
    (masked.0 != plain.0).then_some(masked.0 > plain.0)
}

/// Chunks in the bins of an arena; `None` where a list is broken: its links disagree, or it has more than `most` chunks.
pub fn bins(
    space: &AddressSpace,
    layout: &ArenaLayout,
    arena: &Found,
    most: u64,
    watch: &Watch,
) -> Result<Option<Sum>, Interrupted> {
    let w = layout.word;
    let mut sum = Sum::default();
    for i in 0..BINS {
        watch.cancel.check()?;
        let head = layout.bin(arena.address, i);
        let (mut before, mut at) = (head, space.ptr_at(head, 2 * w));
        while at != Some(head) {
            let Some(chunk) = at.filter(|&c| space.ptr_at(c, 3 * w) == Some(before) && sum.count <= most) else {
                return Ok(None);
            };
            let Some(size) = space.ptr_at(chunk, w) else { return Ok(None) };
            sum.add(size & !FLAGS);
            (before, at) = (chunk, space.ptr_at(chunk, 2 * w));
        }
    }
    Ok(Some(sum))
}

/// Marks blocks as what their list says; returns the sum of their chunks by arena.
pub fn mark(blocks: &mut Blocks, held: &[u64], kind: Kind, w: u64, mut each: impl FnMut(u16, u64)) {
    for &at in held {
        let Some(i) = blocks.at(at) else { continue };
        let Some(b) = blocks.get(i).filter(|b| b.state() == State::Used).copied() else { continue };
        blocks.set(i, State::Cached, kind);
        each(b.arena(), b.size() + w);
    }
}
