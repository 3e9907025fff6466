//! The heaps jitted code lives in, by the JIT manager's own list.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/codeman.h` (`HeapList`: next, code heap, start and end of the code, base of its
//! map, map; `EEJitManager`), `dynamicmethod.h` (`HostCodeHeap`: its `HeapList`, the manager, base, end of what is
//! committed, reserved bytes), the same from 2.1 to 10; 11.0 puts the kind of a code heap in front. The manager is a variable of the runtime; it is known by its list,
//! and the list by its heaps: that of dynamic methods (`HostCodeHeap`) points back, any other is a loader heap whose memory
//! holds the code.

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::dump::MapState;

pub(in crate::clr) const PAGE: u64 = 0x1000;
/// Words of a manager in which its list is looked for.
const WORDS: u64 = 16;
/// Most heaps of the list, which says so.
const MAX_HEAPS: usize = 1 << 20;
/// Most blocks of a code heap looked at: it is made with the one block it has (`LoaderCodeHeap::CreateCodeHeap`), others would
/// be of what it grew by.
const MAX_BLOCKS: usize = 64;

/// A block of reserved memory of a loader heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First address.
    pub start: u64,
    /// Reserved bytes.
    pub size: u64,
    /// Committed bytes from the start.
    pub committed: u64,
    /// Whether it is the one that is allocated from.
    pub current: bool,
}

/// One heap of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeHeap {
    /// Address of the heap object (`LoaderCodeHeap`, `HostCodeHeap`).
    pub heap: u64,
    /// The memory of a heap of dynamic methods; `None` for a loader heap, which keeps account of its own.
    pub host: Option<Block>,
}

/// The JIT manager and its heaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeHeaps {
    /// Address of the `EEJitManager`.
    pub manager: u64,
    /// Its heaps, in the order of the list.
    pub heaps: Vec<CodeHeap>,
    /// Why there may be more.
    pub partial: Option<String>,
}

/// Finds the list; `None` when the runtime jitted nothing or its memory is not in the dump.
pub fn find(clr: &Clr) -> Option<CodeHeaps> {
    let space = clr.space();
    let image = (clr.found.module.base, clr.found.module.end);
    let mut best = (u64::MAX, CodeHeaps::default());
    let writable = |at: u64| {
        let entry = clr.dump.map_at(at);
        entry.is_none_or(|e| e.state == MapState::Commit && e.protect & 0xCC != 0)
    };
    let mut at = image.0;
    while let Some(from) = space.next_readable(at).filter(|&a| a < image.1) {
        let Some(run) = space.run(from) else { break };
        let mut page = from;
        let end = from.saturating_add(run.len() as u64).min(image.1);
        while page < end {
            let next = (page & !(PAGE - 1)).saturating_add(PAGE).min(end);
            if writable(page) {
                for cell in (page.next_multiple_of(clr.header())..next).step_by(clr.header() as usize) {
                    let Some(found) = space.ptr(cell).and_then(|m| manager(clr, m)) else { continue };
                    // What happens to lie in front of the manager has its list further on.
                    let rank = |(list, of): &(u64, CodeHeaps)| (of.heaps.len(), u64::MAX - list);
                    if rank(&found) > rank(&best) {
                        best = found;
                    }
                }
            }
            page = next;
        }
        at = end;
    }
    (best.1.manager != 0).then_some(best.1)
}

/// The manager at `address`, if it is one, with the word of it that its list is at.
fn manager(clr: &Clr, address: u64) -> Option<(u64, CodeHeaps)> {
    let (space, ptr) = (clr.space(), clr.header());
    if address == 0 || !address.is_multiple_of(ptr) || clr.found.module.holds(address) {
        return None;
    }
    clr.found.module.holds(space.ptr(address)?).then_some(())?;
    let mut words = (1..WORDS).filter_map(|i| Some((i, space.ptr_at(address, i * ptr)?)));
    let (at, first) = words.find(|w| one(clr, address, w.1).is_some())?;
    let (mut list, mut heaps, mut seen) = (first, Vec::new(), FxHashSet::default());
    while list != 0 && heaps.len() < MAX_HEAPS {
        // A list that breaks off or runs in a circle is none.
        heaps.push(one(clr, address, list).filter(|_| seen.insert(list))?);
        list = space.ptr(list)?;
    }
    let partial = (list != 0).then(|| format!("only the first {MAX_HEAPS} code heaps are listed"));
    Some((at, CodeHeaps { manager: address, heaps, partial }))
}

/// The heap of the `HeapList` at `list`.
fn one(clr: &Clr, manager: u64, list: u64) -> Option<CodeHeap> {
    let (space, ptr) = (clr.space(), clr.header());
    let word = |of: u64, i: u64| space.ptr_at(of, i * ptr);
    if list == 0 || !list.is_multiple_of(ptr) {
        return None;
    }
    let (heap, start, end, map) = (word(list, 1)?, word(list, 2)?, word(list, 3)?, word(list, 4)?);
    let ordered = map != 0 && map.is_multiple_of(PAGE) && map <= start && start <= end;
    if !ordered || !heap.is_multiple_of(ptr) || !clr.found.module.holds(space.ptr(heap)?) {
        return None;
    }
    // Since 11.0 the kind of the heap comes first, and a word more in the loader heap inside.
    if let Some(at) = [1, 2].into_iter().find(|&i| word(heap, i) == Some(list)) {
        let (base, committed, size) = (word(heap, at + 2)?, word(heap, at + 3)?, word(heap, at + 4)?);
        let reserved = base.checked_add(size)?;
        let fits =
            word(heap, at + 1)? == manager && base <= map && end <= reserved && (base..=reserved).contains(&committed);
        let block = Block { start: base, size, committed: committed.wrapping_sub(base), current: true };
        return fits.then_some(CodeHeap { heap, host: Some(block) });
    }
    let holds = |i: u64| holds_code(clr, word(heap, i)?, map, end);
    [1, 3].into_iter().find_map(holds).map(|()| CodeHeap { heap, host: None })
}

/// Whether one of the blocks of a loader heap, a list that begins at `block`, holds the code from `map` to `end`.
fn holds_code(clr: &Clr, mut block: u64, map: u64, end: u64) -> Option<()> {
    let (space, ptr) = (clr.space(), clr.header());
    let word = |of: u64, i: u64| space.ptr_at(of, i * ptr);
    for _ in 0..MAX_BLOCKS {
        let (first, size) = (word(block, 1)?, word(block, 2)?);
        if first <= map && end <= first.checked_add(size)? {
            return Some(());
        }
        block = space.ptr(block).filter(|&b| b != 0)?;
    }
    None
}
