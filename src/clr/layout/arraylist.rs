//! The runtime's list of pointers that grows by blocks.
//!
//! Layout: dotnet/runtime `src/coreclr/inc/arraylist.h` (`ArrayListBase`; its blocks: next, length, slots).

use rustc_hash::FxHashSet;

use super::Layout;
use crate::clr::gathered::Gathered;
use crate::dump::AddressSpace;

/// The items of the list at `list`, at most `most`, empty ones and those not in the dump as 0; `None` when the list itself is
/// not in the dump or the layout does not know it.
pub fn items(space: &AddressSpace, l: &Layout, list: u64, most: usize) -> Option<Gathered<u64>> {
    let ptr = u64::from(space.ptr_size());
    let (first, next) = (l.try_offset("ArrayListBase", "FirstBlock")?, l.try_offset("ArrayListBlock", "Next")?);
    let (size, start) = (l.try_offset("ArrayListBlock", "Size")?, l.try_offset("ArrayListBlock", "ArrayStart")?);
    let mut out = Gathered::default();
    let count = space.u32(list.checked_add(l.try_offset("ArrayListBase", "Count")?)?)? as usize;
    if count > most {
        out.because(format!("the list claims {count} entries, {most} at most are read"));
    }
    let count = count.min(most);
    // The first block is part of the list itself.
    let mut block = list.checked_add(first)?;
    let (mut seen, mut before) = (FxHashSet::default(), 0u32);
    while block != 0 && out.items.len() < count && seen.insert(block) {
        let Some(mut slots) = space.u32(block.saturating_add(size)) else { break };
        // A block of none is no block: each is made twice as long as the one before (dotnet/coreclr v1.0
        // `src/utilcode/arraylist.cpp`, `ArrayListBase::Append`).
        if slots == 0 && before != 0 {
            slots = before.saturating_mul(2);
            out.because("the length of a block reads 0, taken as twice that of the block before");
        }
        if slots == 0 {
            break;
        }
        before = slots;
        for i in 0..u64::from(slots).min((count - out.items.len()) as u64) {
            out.items.push(space.ptr_at(block.saturating_add(start), i * ptr).unwrap_or(0));
        }
        block = space.ptr_at(block, next).unwrap_or(0);
    }
    if out.items.len() < count {
        out.because(format!("{} of {count} entries are in the dump", out.items.len()));
    }
    Some(out)
}
