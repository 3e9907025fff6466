//! What points to native blocks: memory outside the heaps, stacks, objects, other blocks. And what a block's first word says
//! of it.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Session;
use super::nativeowners::Hold;
use crate::native::demangle;
use crate::native::heaps::{Block, reach};

/// Blocks followed from one to another: longer chains are lists, whose first block holds them as well.
const MOST_STEPS: usize = 64;
/// Longest mangled name of a type that is read, in bytes.
const MOST_NAME: usize = 512;

impl Session {
    /// Ranges that belong to the runtime: no native block is looked for there, and what stands in them keeps none by itself.
    pub(super) fn runtime_ranges(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.managed_ranges()?.iter().map(|m| (m.start, m.end)).collect())
    }

    /// Which native blocks anything points to, by number: memory outside the heaps, the parts of stacks in use, registers,
    /// objects, and blocks that are reached themselves.
    pub fn native_reached(&self) -> Result<&Vec<bool>> {
        self.native_reached.get(|| {
            let (dump, heaps) = (self.dump(), self.native_heaps()?);
            let roots = reach::roots(dump, heaps, &self.runtime_ranges()?);
            let held = match self.clr() {
                Ok(_) => self.native_holds()?.list.as_slice(),
                Err(_) => &[],
            };
            let held = held.iter().filter_map(|h| heaps.blocks.get(h.block as usize)).map(Block::address);
            let further = held.chain(reach::registers(dump));
            self.watch.progress.start("following pointers of native blocks", 0);
            let reached = reach::reached(dump, heaps, &roots, further, &self.watch)?;
            self.watch.progress.finish();
            Ok(reached)
        })
    }

    /// Places outside the managed heap whose word points into `[start, end)`.
    pub fn native_pointers(&self, start: u64, end: u64) -> Result<Vec<u64>> {
        let (dump, heaps) = (self.dump(), self.native_heaps()?);
        let roots = reach::roots(dump, heaps, &self.runtime_ranges()?);
        Ok(reach::pointers_to(dump, heaps, &roots, (start, end), &self.watch)?)
    }

    /// How a managed object keeps the native block at `address`: the word of an object that points to it, and the blocks on a
    /// shortest way from there, that one last. `None` where no native block is there, or no object is found within
    /// [`MOST_STEPS`] blocks.
    pub fn native_holder(&self, address: u64) -> Result<Option<(Hold, Vec<u64>)>> {
        let heaps = self.native_heaps()?;
        let Some(target) = heaps.blocks.holding(address) else { return Ok(None) };
        let holds: FxHashMap<u32, Hold> = self.native_holds()?.list.iter().rev().map(|h| (h.block, *h)).collect();
        let mut next: FxHashMap<u32, u32> = FxHashMap::default();
        let mut front: FxHashSet<u32> = FxHashSet::from_iter([target as u32]);
        next.insert(target as u32, target as u32);
        for _ in 0..MOST_STEPS {
            let mut held: Vec<u32> = front.iter().copied().filter(|b| holds.contains_key(b)).collect();
            held.sort_unstable();
            if let Some((block, hold)) = held.first().and_then(|b| Some((*b, *holds.get(b)?))) {
                let mut way = Vec::new();
                let mut at = block;
                loop {
                    way.extend(heaps.blocks.get(at as usize).map(Block::address));
                    match next.get(&at) {
                        Some(&to) if to != at && way.len() <= MOST_STEPS => at = to,
                        _ => return Ok(Some((hold, way))),
                    }
                }
            }
            let found = reach::pointing_blocks(self.dump(), heaps, &front, &self.watch)?;
            front = FxHashSet::default();
            for (from, to) in found {
                if let Entry::Vacant(place) = next.entry(from) {
                    place.insert(to);
                    front.insert(from);
                }
            }
            if front.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// What the first word of a block says of it: `zero`, `number`, `text`, `pointer to a block`, `pointer to an object`,
    /// `pointer`; of a pointer into a module its place there, with the C++ type where it is a table of virtual functions
    /// whose type has a name.
    pub fn native_first_word(&self, block: &Block) -> Cow<'static, str> {
        let space = &self.dump().space;
        let Some(word) = space.ptr(block.address()) else { return "not in the dump".into() };
        if word == 0 {
            return "zero".into();
        }
        if let Some(module) = self.dump().module_at(word) {
            let place = format!("{}+0x{:x}", module.file_name(), word - module.base);
            return match self.type_of_table(word) {
                Some(name) => format!("{name} ({place})").into(),
                None => place.into(),
            };
        }
        let bytes = space.slice(block.address(), usize::from(space.ptr_size()).min(block.size() as usize));
        let ends = |b: &[u8]| b.iter().position(|&c| c == 0).unwrap_or(b.len());
        let text = bytes.is_some_and(|b| {
            let n = ends(b);
            n >= 4 && b.iter().take(n).all(|c| (0x20..0x7F).contains(c)) && b.iter().skip(n).all(|&c| c == 0)
        });
        if text {
            return "text".into();
        }
        if self.native_heaps().is_ok_and(|h| h.blocks.holding(word).is_some()) {
            return "pointer to a block".into();
        }
        if self.heap().is_ok_and(|h| h.segment_at(word).is_some()) {
            return "pointer to an object".into();
        }
        if space.readable(word) { "pointer".into() } else { "number".into() }
    }

    /// The C++ type whose table of virtual functions begins at `table` (Itanium C++ ABI): the word before it is the type
    /// information, whose second word is the type's mangled name.
    fn type_of_table(&self, table: u64) -> Option<String> {
        let space = &self.dump().space;
        let w = u64::from(space.ptr_size());
        let info = space.ptr(table.checked_sub(w)?)?;
        let name = space.ptr_at(info, w)?;
        self.dump().module_at(info)?;
        self.dump().module_at(name)?;
        let text = space.utf8z(name, MOST_NAME);
        let text = text.strip_prefix('*').unwrap_or(&text);
        let first = text.bytes().next()?;
        let mangled =
            (first.is_ascii_digit() || first == b'N') && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !mangled {
            return None;
        }
        let plain = demangle::plain(&format!("_ZTS{text}"));
        Some(plain.strip_prefix("typeinfo name for ").unwrap_or(&plain).to_owned())
    }
}
