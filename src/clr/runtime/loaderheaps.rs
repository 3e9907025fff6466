//! Loader heaps and code heaps, found by their shape.
//!
//! No layout table names them. What is looked for (dotnet/runtime `src/coreclr/utilcode/loaderheap.cpp`,
//! `UnlockedLoaderHeap`; the same idea from 2.1 to 11): a pointer to a list of blocks `{ next, address, size }`, and a
//! little behind it three pointers in a row, `m_pAllocPtr <= m_pPtrToEndOfCommittedRegion <= m_pEndReservedRegion`, the
//! last of which is the end of one of those blocks. No two unrelated words agree on that by chance.

mod ownership;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::clr::Clr;
use crate::clr::code::codeheaps::{self, Block, PAGE};
use crate::clr::gathered::Gathered;
use crate::dump::little_endian;
use crate::dump::{MapEntry, MapState};
use crate::watch::{Interrupted, Watch};

/// Whose a loader heap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The global loader allocator's.
    Global,
    /// The app domain's own (through 2.2: since, it has none).
    Domain,
    /// The JIT's: code of methods and dynamic methods.
    Jit,
    /// That of the collectible loader allocator at this (native) address.
    Allocator(u64),
    /// Not known.
    Unknown,
}

/// All loader heaps of a process.
#[derive(Debug, Clone, Default)]
pub struct LoaderHeaps {
    /// The heaps, those of one owner together.
    pub heaps: Gathered<LoaderHeap>,
    /// Address of the JIT manager, when it was found.
    pub jit_manager: Option<u64>,
}

/// One loader heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderHeap {
    /// Address of the word that points to the first block.
    pub address: u64,
    /// Its kind in the words of SOS (`LowFrequencyHeap`, `LoaderCodeHeap`, ...); `LoaderHeap` where only its shape is known.
    pub kind: &'static str,
    /// Whose it is.
    pub owner: Owner,
    /// Its blocks in the order of the list.
    pub blocks: Vec<Block>,
}

impl LoaderHeaps {
    /// The heaps of each owner.
    pub fn by_owner(&self) -> FxHashMap<Owner, &[LoaderHeap]> {
        self.heaps.items.chunk_by(|a, b| a.owner == b.owner).filter_map(|c| Some((c.first()?.owner, c))).collect()
    }
}

impl LoaderHeap {
    /// Committed bytes of all blocks.
    pub fn committed(&self) -> u64 {
        self.blocks.iter().map(|b| b.committed).sum()
    }

    /// Bytes at the end of full blocks that were given up: the next request did not fit.
    pub fn wasted(&self) -> u64 {
        let current = self.blocks.iter().position(|b| b.current);
        let full = self.blocks.iter().enumerate().filter(|(i, _)| Some(*i) != current);
        full.map(|(_, b)| b.size.saturating_sub(b.committed)).sum()
    }
}

/// Most blocks of one heap: they are reserved by 64 KB, so that more are 4 GB of one heap.
const MAX_BLOCKS: usize = 1 << 16;
/// Most bytes of native memory searched.
const MAX_SEARCHED: u64 = 4 << 30;
/// Words between the block pointer and the three pointers, at most.
const GAP: usize = 4;

/// Finds all loader heaps. `skip` are ranges not worth a look (the GC heap), sorted and disjoint.
pub fn find(clr: &Clr, skip: &[(u64, u64)], watch: &Watch) -> Result<LoaderHeaps, Interrupted> {
    let mut out = Gathered::default();
    let mut searched = 0;
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for e in clr.dump.map.iter().filter(|e| writable(e)) {
        for (start, end) in without(e.start, e.end, skip) {
            searched += end - start;
            if searched > MAX_SEARCHED {
                out.because("only the first 4 GB of native memory were searched for loader heaps");
                break;
            }
            ranges.push((start, end));
        }
    }
    watch.progress.start("looking for loader heaps", searched.min(MAX_SEARCHED));
    let found: Vec<Vec<LoaderHeap>> = ranges
        .par_iter()
        .map(|&(start, end)| {
            watch.cancel.check()?;
            let mut heaps = Vec::new();
            search(clr, start, end, &mut heaps);
            watch.progress.add(end - start);
            Ok(heaps)
        })
        .collect::<Result<_, Interrupted>>()?;
    watch.progress.finish();
    let mut heaps: Vec<LoaderHeap> = found.into_iter().flatten().collect();
    heaps.sort_by_key(|h| h.address);
    // A block belongs to one heap: a stale copy of a heap's fields is not another one.
    let mut taken = rustc_hash::FxHashSet::default();
    heaps.retain(|h| h.blocks.iter().all(|b| taken.insert(b.start)));
    let code = codeheaps::find(clr);
    ownership::name(clr, &mut heaps, code.as_ref());
    if let Some(why) = code.as_ref().and_then(|c| c.partial.clone()) {
        out.because(why);
    }
    out.items = heaps;
    Ok(LoaderHeaps { heaps: out, jit_manager: code.map(|c| c.manager) })
}

fn writable(e: &MapEntry) -> bool {
    e.state == MapState::Commit && e.protect & 0xCC != 0
}

/// The parts of a range outside `skip`.
fn without(start: u64, end: u64, skip: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut parts, mut at) = (Vec::new(), start);
    let first = skip.partition_point(|s| s.1 <= start);
    for &(low, high) in skip.get(first..).unwrap_or(&[]).iter().take_while(|s| s.0 < end) {
        if at < low {
            parts.push((at, low));
        }
        at = at.max(high);
    }
    if at < end {
        parts.push((at, end));
    }
    parts
}

fn search(clr: &Clr, start: u64, end: u64, heaps: &mut Vec<LoaderHeap>) {
    let (space, ptr) = (clr.space(), usize::from(clr.ptr_size()));
    let mut at = start;
    while let Some(from) = space.next_readable(at).filter(|&a| a < end) {
        let Some(run) = space.run(from) else { return };
        let run = run.get(..run.len().min((end - from) as usize)).unwrap_or(run);
        let skip = (from.next_multiple_of(ptr as u64) - from) as usize;
        let words = run.get(skip..).unwrap_or(&[]);
        // The three pointers are looked for first: a row of rising addresses, two of them page-aligned, is rare.
        let mut last = [0u64; 3];
        for (i, w) in words.chunks_exact(ptr).enumerate() {
            last = [last[1], last[2], little_endian(w)];
            let [alloc, committed, reserved] = last;
            let fits = reserved & (PAGE - 1) == 0 && committed & (PAGE - 1) == 0 && alloc != 0;
            if !fits
                || alloc > committed
                || committed > reserved
                || committed - alloc > 1 << 24
                || reserved - alloc > 1 << 30
            {
                continue;
            }
            let third = from + (skip + i * ptr) as u64;
            if let Some(heap) = (1..=GAP).find_map(|gap| heap_at(clr, third, gap, last)) {
                heaps.push(heap);
            }
        }
        let Some(next) = from.checked_add(run.len() as u64) else { return };
        at = next;
    }
}

/// The heap whose block pointer stands `gap` words before the first of the three pointers.
fn heap_at(clr: &Clr, third: u64, gap: usize, [alloc, committed, reserved]: [u64; 3]) -> Option<LoaderHeap> {
    let space = clr.space();
    let ptr = u64::from(clr.ptr_size());
    let address = third.checked_sub((gap as u64 + 2) * ptr)?;
    let mut next = space.ptr(address).filter(|b| *b != 0 && b.is_multiple_of(ptr))?;
    let (mut blocks, mut current) = (Vec::new(), false);
    while next != 0 && blocks.len() < MAX_BLOCKS {
        let (start, size) = (space.ptr_at(next, ptr)?, space.ptr_at(next, 2 * ptr)?);
        let end = start.checked_add(size).filter(|_| start != 0 && size != 0 && size < 1 << 32)?;
        if start & (PAGE - 1) != 0 || size & (PAGE - 1) != 0 {
            return None;
        }
        let own = end == reserved && (start..=end).contains(&alloc);
        current |= own;
        blocks.push(Block {
            start,
            size,
            committed: if own { committed - start } else { held(clr, start, end) },
            current: own,
        });
        next = space.ptr(next)?;
    }
    current.then_some(LoaderHeap { address, kind: "LoaderHeap", owner: Owner::Unknown, blocks })
}

/// Bytes from `start` on that the process could touch: what is committed of a block that is full.
fn held(clr: &Clr, start: u64, end: u64) -> u64 {
    let first = clr.dump.map.partition_point(|e| e.end <= start);
    let mut at = start;
    for e in clr.dump.map.get(first..).unwrap_or(&[]).iter().take_while(|e| e.start < end) {
        if e.start > at || e.state != MapState::Commit || e.protect & !0x01 == 0 {
            break;
        }
        at = e.end.min(end);
    }
    at - start
}
