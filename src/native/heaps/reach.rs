//! What points to blocks: from the memory outside the heaps, from stacks, from one block to another.

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use super::blocks::Lookups;
use super::regions::{Range, Regions, without};
use super::{Block, NativeHeaps, State};
use crate::dump::{AddressSpace, Dump};
use crate::watch::{Interrupted, Watch};

/// Below a stack pointer lie this many bytes that a function may still use (System V x86-64 ABI, "red zone").
const RED_ZONE: u64 = 128;
/// Bytes of a root looked through by one worker at a time.
const PART: u64 = 4 << 20;

/// Memory whose words keep blocks: what is writable and neither the allocator's nor in `taken` (sorted by start), and of
/// each stack the part in use.
pub fn roots(dump: &Dump, heaps: &NativeHeaps, taken: &[Range]) -> Vec<Range> {
    let regions = Regions::of(dump, taken);
    let heap: Vec<Range> = heaps.memory.iter().map(|s| (s.start, s.end)).collect();
    let mut out = without(&regions.open, &heap);
    out.extend(without(&regions.data, &heap));
    for t in &dump.threads {
        let (Some(r), Some((low, high))) = (t.registers.as_ref(), t.stack) else { continue };
        out.push((r.sp.saturating_sub(RED_ZONE).max(low).min(high), high));
    }
    out.retain(|r| r.0 < r.1);
    out.sort_unstable();
    out
}

/// Words of the registers of all threads.
pub fn registers(dump: &Dump) -> impl Iterator<Item = u64> + '_ {
    dump.threads.iter().filter_map(|t| t.registers.as_ref()).flat_map(|r| r.general.iter().map(|g| g.1))
}

/// Ranges cut into parts for workers.
fn parts(ranges: &[Range]) -> Vec<Range> {
    let mut out = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges {
        let mut at = start;
        while at < end {
            let next = at.saturating_add(PART).min(end);
            out.push((at, next));
            at = next;
        }
    }
    out
}

/// Numbers of the used blocks that words of `ranges` point into, in any order and with repetitions.
fn pointed_to(
    space: &AddressSpace,
    heaps: &NativeHeaps,
    ranges: &[Range],
    watch: &Watch,
) -> Result<Vec<u32>, Interrupted> {
    let one = |&(start, end): &Range| {
        watch.cancel.check()?;
        let (mut hits, mut lookups) = (Vec::new(), Lookups::new(&heaps.blocks));
        space.words(start, end).for_each(|(_, word)| lookups.push(word, &mut hits));
        lookups.finish(&mut hits);
        hits.sort_unstable();
        hits.dedup();
        Ok(hits)
    };
    let found: Vec<Vec<u32>> = parts(ranges).par_iter().map(one).collect::<Result<_, _>>()?;
    Ok(found.concat())
}

/// Which blocks are reached from `roots` and `further` (words or addresses in blocks), by number. Interior pointers count;
/// free and cached blocks keep nothing.
pub fn reached(
    dump: &Dump,
    heaps: &NativeHeaps,
    roots: &[Range],
    further: impl Iterator<Item = u64>,
    watch: &Watch,
) -> Result<Vec<bool>, Interrupted> {
    let (space, blocks) = (&dump.space, &heaps.blocks);
    let mut reached = vec![false; blocks.len()];
    let mut pending: Vec<u32> = Vec::new();
    let mut reach = |i: usize, pending: &mut Vec<u32>| {
        let used = blocks.get(i).is_some_and(|b| b.state() == State::Used);
        if let Some(seen) = reached.get_mut(i).filter(|seen| used && !**seen) {
            *seen = true;
            pending.push(i as u32);
        }
    };
    for i in pointed_to(space, heaps, roots, watch)? {
        reach(i as usize, &mut pending);
    }
    for i in further.filter_map(|word| blocks.holding(word)) {
        reach(i, &mut pending);
    }
    let (mut hits, mut lookups, mut steps) = (Vec::new(), Lookups::new(blocks), 0u32);
    loop {
        let next = pending.pop();
        match next.and_then(|i| blocks.get(i as usize)) {
            Some(b) => space.words(b.address(), b.end()).for_each(|(_, word)| lookups.push(word, &mut hits)),
            None => lookups.finish(&mut hits),
        }
        if next.is_none() && hits.is_empty() {
            return Ok(reached);
        }
        hits.drain(..).for_each(|i: u32| reach(i as usize, &mut pending));
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(1 << 12) {
            watch.cancel.check()?;
        }
    }
}

/// Places in `ranges` and in blocks in use whose word points into `[start, end)`, by address.
pub fn pointers_to(
    dump: &Dump,
    heaps: &NativeHeaps,
    roots: &[Range],
    (start, end): Range,
    watch: &Watch,
) -> Result<Vec<u64>, Interrupted> {
    let space = &dump.space;
    let in_roots = |&(from, to): &Range| {
        watch.cancel.check()?;
        Ok(space.words(from, to).filter(|w| (start..end).contains(&w.1)).map(|w| w.0).collect::<Vec<u64>>())
    };
    let found: Vec<Vec<u64>> = parts(roots).par_iter().map(in_roots).collect::<Result<_, Interrupted>>()?;
    let mut found = found.concat();
    let used = heaps.blocks.list().par_iter().filter(|b| b.state() == State::Used);
    let in_blocks: Vec<u64> = used
        .flat_map_iter(|b| space.words(b.address(), b.end()).filter(|w| (start..end).contains(&w.1)).map(|w| w.0))
        .collect();
    found.extend(in_blocks);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Blocks in use whose words point into blocks of `targets`: each with the one it points to, by number.
pub fn pointing_blocks(
    dump: &Dump,
    heaps: &NativeHeaps,
    targets: &FxHashSet<u32>,
    watch: &Watch,
) -> Result<Vec<(u32, u32)>, Interrupted> {
    let (space, blocks) = (&dump.space, &heaps.blocks);
    let one = |(number, part): (usize, &[Block])| {
        watch.cancel.check()?;
        let mut found = Vec::new();
        for (i, b) in part.iter().enumerate().filter(|(_, b)| b.state() == State::Used) {
            let from = (number * BLOCKS + i) as u32;
            let words = space.words(b.address(), b.end()).filter_map(|w| blocks.holding(w.1));
            found.extend(words.map(|to| (from, to as u32)).filter(|(_, to)| targets.contains(to)));
        }
        Ok(found)
    };
    let found: Vec<Vec<(u32, u32)>> =
        blocks.list().par_chunks(BLOCKS).enumerate().map(one).collect::<Result<_, _>>()?;
    Ok(found.concat())
}

/// Blocks looked through by one worker at a time.
const BLOCKS: usize = 1 << 14;
