//! Which managed objects hold native blocks: every word of every object that points to a block in use. No knowledge of types
//! is needed, so `SafeHandle.handle`, `IntPtr`, pointers, arrays and values in collections all appear by themselves.

use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::Session;
use crate::clr::runtime::handles::Handle;
use crate::dump::little_endian;
use crate::heap::Object;
use crate::native::heaps::{Blocks, State};

/// A word of an object that points to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The object.
    pub object: u64,
    /// Where in it the word stands.
    pub offset: u64,
    /// Number of the object's type.
    pub ty: u32,
    /// Number of the block.
    pub block: u32,
}

/// What the words of objects hold.
#[derive(Debug, Default)]
pub struct Holds {
    /// By object.
    pub list: Vec<Hold>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

/// Native memory that one field of one type holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the type.
    pub ty: Arc<str>,
    /// The field, as slots are called.
    pub field: Arc<str>,
    /// Objects that hold a block by it.
    pub objects: u64,
    /// Different blocks they hold.
    pub blocks: u64,
    /// Usable bytes of those.
    pub bytes: u64,
    /// Blocks of them that no other field holds, and their bytes.
    pub alone: (u64, u64),
    /// Blocks held by a pointer into their middle.
    pub inside: u64,
    /// The first object.
    pub example: u64,
}

/// Which objects count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All on the heap.
    All,
    /// Those that a root reaches.
    Live,
    /// Those that none does: forgotten to be disposed of.
    Dead,
}

/// The block in use that `word` points into.
#[inline]
fn block_in_use(blocks: &Blocks, word: u64) -> Option<usize> {
    blocks.holding(word).filter(|&i| blocks.get(i).is_some_and(|b| b.state() == State::Used))
}

impl Session {
    /// Every word of every object that points to a native block in use.
    pub fn native_holds(&self) -> Result<&Holds> {
        self.native_holds.get(|| {
            let blocks = &self.native_heaps()?.blocks;
            let walker = self.walker()?;
            self.watch.progress.start("looking for pointers to native blocks", 0);
            let visit = |found: &mut Vec<Hold>, _: &_, o: Object<'_>| {
                if o.ty.is_free || o.ty.is_string {
                    return;
                }
                each_word(&o, walker.clr.space(), |offset, word| {
                    if let Some(block) = block_in_use(blocks, word) {
                        found.push(Hold { object: o.address, offset, ty: o.ty.id, block: block as u32 });
                    }
                });
            };
            let (found, report) = walker.parallel(&walker.heap.segments, |_| Vec::new(), visit)?;
            self.watch.progress.finish();
            Ok(Holds { list: found.into_iter().flatten().collect(), partial: report.sentence() })
        })
    }

    /// Native memory by the type and field that holds it, the most bytes first.
    pub fn native_owners(&self, which: Which) -> Result<Vec<Owner>> {
        let (clr, blocks) = (self.clr()?, &self.native_heaps()?.blocks);
        let live = if which == Which::All { None } else { Some(self.live()?) };
        let counts = |h: &&Hold| live.as_ref().is_none_or(|l| l.has(h.object) == (which == Which::Live));
        // A group for each type and slot; elements of an array are one.
        let mut groups: FxHashMap<(u32, u64), u32> = FxHashMap::default();
        let mut rows: Vec<(u32, u32, u64, bool)> = Vec::new();
        for h in self.native_holds()?.list.iter().filter(counts) {
            let Some(ty) = self.types.by_id(h.ty) else { continue };
            let next = groups.len() as u32;
            let group = *groups.entry((h.ty, self.slot_key(clr, &ty, h.offset))).or_insert(next);
            let word = h.object.checked_add(h.offset).and_then(|a| clr.space().ptr(a));
            let inside = blocks.get(h.block as usize).is_none_or(|b| word != Some(b.address()));
            rows.push((group, h.block, h.object, inside));
        }
        self.watch.cancel.check()?;
        rows.sort_unstable();
        let mut held: FxHashMap<u32, u32> = FxHashMap::default();
        for pair in rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            *held.entry(pair.first().map_or(0, |r| r.1)).or_default() += 1;
        }
        let mut keys: Vec<((u32, u64), u32)> = groups.into_iter().collect();
        keys.sort_unstable_by_key(|k| k.1);
        let mut owners = Vec::with_capacity(keys.len());
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            let Some(&((ty, key), _)) = group.first().and_then(|r| keys.get(r.0 as usize)) else { continue };
            let Some(ty) = self.types.by_id(ty) else { continue };
            let mut objects: Vec<u64> = group.iter().map(|r| r.2).collect();
            objects.sort_unstable();
            objects.dedup();
            let mut owner = Owner {
                ty: clr.type_name(ty.mt.address),
                field: self.slot_name(clr, &ty, key),
                objects: objects.len() as u64,
                blocks: 0,
                bytes: 0,
                alone: (0, 0),
                inside: 0,
                example: objects.first().copied().unwrap_or(0),
            };
            for same in group.chunk_by(|a, b| a.1 == b.1) {
                let Some(first) = same.first() else { continue };
                let bytes = blocks.get(first.1 as usize).map_or(0, |b| b.size());
                owner.blocks += 1;
                owner.bytes = owner.bytes.saturating_add(bytes);
                owner.inside += u64::from(same.iter().all(|r| r.3));
                if held.get(&first.1) == Some(&1) {
                    owner.alone = (owner.alone.0 + 1, owner.alone.1.saturating_add(bytes));
                }
            }
            owners.push(owner);
        }
        owners.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (&a.ty, &a.field).cmp(&(&b.ty, &b.field))));
        Ok(owners)
    }

    /// Numbers of the different blocks that objects hold, ascending.
    pub fn native_owned(&self, which: Which) -> Result<Vec<u32>> {
        let live = if which == Which::All { None } else { Some(self.live()?) };
        let counts = |h: &&Hold| live.as_ref().is_none_or(|l| l.has(h.object) == (which == Which::Live));
        let mut blocks: Vec<u32> = self.native_holds()?.list.iter().filter(counts).map(|h| h.block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    /// Handles that native blocks name: by their slots, which native code was given by `GCHandle.ToIntPtr`, and by the thunks of
    /// delegates, which it was given as functions. Each with the number of words that do.
    pub fn handles_in_native(&self) -> Result<Vec<NativeHandle>> {
        let (clr, heaps) = (self.clr()?, self.native_heaps()?);
        let handles = clr.handles();
        let mut names: Vec<(u64, usize, bool)> =
            handles.items.iter().enumerate().map(|(i, h)| (h.address, i, false)).collect();
        names.sort_unstable();
        let thunks = self.delegate_thunks(&names)?;
        names.extend(thunks);
        names.sort_unstable();
        let space = clr.space();
        let used = heaps.blocks.list().par_iter().filter(|b| b.state() == State::Used);
        let bounds = bounds(&names);
        let found: Vec<usize> = used
            .flat_map_iter(|b| {
                let words = space.words(b.address(), b.end()).map(|w| w.1);
                let near = words.filter(|w| bounds.iter().any(|r| r.contains(w)));
                near.filter_map(|w| names.binary_search_by_key(&w, |n| n.0).ok()).collect::<Vec<_>>()
            })
            .collect();
        let mut counts: FxHashMap<usize, u64> = FxHashMap::default();
        for i in found {
            *counts.entry(i).or_default() += 1;
        }
        let mut out: Vec<(usize, u64)> = counts.into_iter().collect();
        out.sort_unstable();
        let named = |(i, words): (usize, u64)| {
            let &(name, handle, thunk) = names.get(i)?;
            Some(NativeHandle { handle: handles.items.get(handle).copied()?, name, thunk, words })
        };
        Ok(out.into_iter().filter_map(named).collect())
    }

    /// The thunks by which native code calls delegates, each with the number of the handle that holds its delegate. Found by
    /// their structure: somewhere in the runtime's heaps stands the handle, two words behind it the thunk, and the thunk's own
    /// data, a page of the heap of stubs further, name where that begins, two words before the handle (dotnet/runtime v10.0
    /// `src/coreclr/vm/dllimportcallback.h`, `UMEntryThunkData`). `slots` are addresses of handles, sorted.
    fn delegate_thunks(&self, slots: &[(u64, usize, bool)]) -> Result<Vec<(u64, usize, bool)>> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(Vec::new()) };
        let space = &self.dump().space;
        let w = u64::from(space.ptr_size());
        let mut out = Vec::new();
        for range in self.managed_ranges()?.iter().filter(|m| !m.what.starts_with("GCHeap")) {
            self.watch.cancel.check()?;
            for (at, word) in space.words(range.start, range.end).filter(|w| (first.0..=last.0).contains(&w.1)) {
                let Ok(slot) = slots.binary_search_by_key(&word, |s| s.0) else { continue };
                let (Some(thunk), Some(data)) = (space.ptr_at(at, 2 * w), at.checked_sub(2 * w)) else { continue };
                let names_data = |page: &u64| thunk.checked_add(*page).and_then(|a| space.ptr(a)) == Some(data);
                if STUB_PAGES.iter().any(names_data) {
                    out.extend(slots.get(slot).map(|s| (thunk, s.1, true)));
                }
            }
        }
        Ok(out)
    }
}

/// Pages of heaps of stubs (`GetStubCodePageSize`): 16 KB, or the system's page where that is larger.
const STUB_PAGES: [u64; 3] = [0x4000, 0x1_0000, 0x1000];

/// A handle that native blocks name.
#[derive(Debug, Clone, Copy)]
pub struct NativeHandle {
    /// The handle.
    pub handle: Handle,
    /// The word that names it: the handle's slot, or the thunk.
    pub name: u64,
    /// It is named by the thunk of the delegate that it holds.
    pub thunk: bool,
    /// Words of blocks in use that name it.
    pub words: u64,
}

/// Where slots lie, and where thunks do.
fn bounds(names: &[(u64, usize, bool)]) -> Vec<std::ops::RangeInclusive<u64>> {
    let of = |thunk: bool| {
        let mut some = names.iter().filter(move |n| n.2 == thunk).map(|n| n.0);
        let first = some.next()?;
        Some(first..=some.next_back().unwrap_or(first))
    };
    [of(false), of(true)].into_iter().flatten().collect()
}

/// The words of an object behind its MethodTable, each with its offset.
pub fn each_word(o: &Object<'_>, space: &crate::dump::AddressSpace, mut each: impl FnMut(u64, u64)) {
    let ptr = usize::from(space.ptr_size());
    let end = usize::try_from(o.size.min(o.intact)).unwrap_or(usize::MAX);
    if o.bytes.len() >= end {
        let words = o.bytes.get(..end).unwrap_or(&[]).chunks_exact(ptr).enumerate().skip(1);
        return words.for_each(|(i, w)| each((i * ptr) as u64, little_endian(w)));
    }
    for (at, word) in space.words(o.address.saturating_add(ptr as u64), o.address.saturating_add(end as u64)) {
        each(at - o.address, word);
    }
}
