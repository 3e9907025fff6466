//! Types that are loaded, whether or not the heap has instances of them: the TypeDef maps of all modules.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/ceeload.h` (`LookupMap`): blocks of {next, table, count, flag mask}.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use super::lookupmap::LookupMap;
use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::dump::AddressSpace;

/// Bounds on one module's map, which say so: blocks (a module made at run time gets one more whenever it has outgrown the
/// last), and types (a TypeDef token has 24 bits for the row).
const MAX_BLOCKS: usize = 1 << 20;
const MAX_TYPES: u64 = 1 << 24;
/// More vectors or instantiations than any process has made: each takes some hundred bytes of loader heap, whose search ends
/// at 4 GB.
const MAX_FOUND: usize = 1 << 20;

/// Bytes of memory one worker looks through at once.
const CHUNK: u64 = 1 << 20;

/// What of the memory lies outside `skip` (sorted and disjoint), in pieces for workers that begin and end between words.
fn outside(space: &AddressSpace, skip: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for piece in space.pieces() {
        let mut at = piece.start;
        while at < piece.end {
            let i = skip.partition_point(|r| r.1 <= at);
            let next = skip.get(i).map_or(piece.end, |r| r.0.min(piece.end));
            if next <= at {
                // Inside one of them.
                at = skip.get(i).map_or(piece.end, |r| r.1);
                continue;
            }
            let end = (at / CHUNK + 1).saturating_mul(CHUNK).min(next);
            parts.push((at, end));
            at = end;
        }
    }
    parts
}

impl Clr {
    /// MethodTables of the types of `module` that are loaded, with their TypeDef rows: plain types and open generics.
    pub fn loaded_types(&self, module: u64) -> Gathered<(u32, u64)> {
        let mut out = Gathered::default();
        if let Some(ahead) = self.ahead() {
            // There are no rows: numbers stand for them.
            out.items.extend((1..).zip(ahead.types()));
            return out;
        }
        if self.read_map(module, &mut out).is_none() {
            out.because(format!("the type map of module {module:x} is not in the dump"));
        }
        out
    }

    /// MethodTable of the core library's type that metadata calls `name`, when it is loaded.
    pub fn core_type(&self, name: &str) -> Option<u64> {
        if let Some(ahead) = self.ahead() {
            return ahead.type_named(name);
        }
        let core = self.method_table(self.known.object)?.module;
        let rid = self.module(core).metadata(self)?.typedef_by_name(name)?;
        self.loaded_types(core).items.iter().find(|t| t.0 == rid).map(|t| t.1)
    }

    /// As [`Clr::loaded_types`], of all assemblies.
    pub fn defined_types(&self) -> impl Iterator<Item = MethodTable> {
        let all = self.assemblies().items.iter().flat_map(|a| self.loaded_types(a.module).items);
        all.filter_map(|(_, mt)| self.valid_type(mt))
    }

    /// Whether the type is an instantiation that stands for others: one of its arguments, or what is in it, is
    /// `System.__Canon`, the stand-in for every class (dotnet/runtime `src/coreclr/vm/generics.cpp`).
    pub fn is_shared(&self, mt: u64) -> bool {
        self.type_name(mt).contains("System.__Canon")
    }

    fn read_map(&self, module: u64, out: &mut Gathered<(u32, u64)>) -> Option<()> {
        let (space, l) = (self.space(), self.layout());
        let mut block = module.checked_add(l.try_offset("Module", "TypeDefToMethodTableMap")?)?;
        let (mut row, mut seen) = (0u64, FxHashSet::default());
        while block != 0 {
            if !seen.insert(block) || seen.len() > MAX_BLOCKS || row >= MAX_TYPES {
                out.because(format!("the type map of module {module:x} runs in a circle or is too long"));
                break;
            }
            let map = LookupMap::at(space, l, block)?;
            let n = u64::from(map.count()).min(MAX_TYPES.saturating_sub(row));
            let found = (0..n as u32).filter_map(|i| Some((row as u32 + i, map.get(space, i).filter(|&m| m != 0)?)));
            out.items.extend(found);
            row += n;
            block = map.next();
        }
        Some(())
    }

    /// MethodTables of all vectors (`T[]`) that were ever made, with instances or not, found by their shape in memory
    /// outside `skip` (sorted ranges, such as the GC heap): flags of a vector, base size of three pointers, an EEClass that
    /// leads back. The hash tables that list them moved with every release; the shape did not.
    pub fn loaded_vectors(&self, skip: &[(u64, u64)]) -> Vec<u64> {
        /// Component size present, array, single-dimensional: `enum_flag_Category_Mask` of `methodtable.h`.
        const VECTOR: (u32, u32) = (0x800E_0000, 0x800A_0000);
        let base = 3 * self.header() as u32;
        if self.ahead().is_some() {
            // They have another shape; those of the heap are known by its objects.
            return Vec::new();
        }
        self.shaped(skip, |address, flags, size| {
            size == base && flags & VECTOR.0 == VECTOR.1 && self.valid_method_table(address).is_some()
        })
    }

    /// Addresses outside `skip` whose first eight bytes, flags and base size, and what follows them have a shape; at most
    /// [`MAX_FOUND`].
    fn shaped(&self, skip: &[(u64, u64)], has: impl Fn(u64, u32, u32) -> bool + Sync) -> Vec<u64> {
        let (space, ptr, count) = (self.space(), self.header(), AtomicUsize::new(0));
        let parts = outside(space, skip);
        let found = parts.par_iter().flat_map_iter(|&(start, end)| {
            let lead = start.next_multiple_of(ptr);
            // The last eight bytes may lie in the next part.
            let length =
                space.run(lead).map_or(0, |r| r.len() as u64).min(end.saturating_sub(lead).saturating_add(8 - ptr));
            let bytes = space.slice(lead, length as usize).unwrap_or(&[]);
            let words = bytes.windows(8).step_by(ptr as usize).enumerate();
            let hit = |(i, w): (usize, &[u8])| {
                let word = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
                let address = lead + i as u64 * ptr;
                let is = has(address, word as u32, (word >> 32) as u32);
                (is && count.fetch_add(1, Ordering::Relaxed) < MAX_FOUND).then_some(address)
            };
            words.filter_map(hit).collect::<Vec<u64>>()
        });
        found.collect()
    }

    /// MethodTables of all generic instantiations, found by their shape in memory outside `skip` as vectors are.
    pub fn loaded_instantiations(&self, skip: &[(u64, u64)]) -> Vec<u64> {
        /// Component size, and the generics bits of the flags (`enum_flag_GenericsMask`).
        const GENERIC: (u32, u32) = (0x8000_0000, 0x30);
        let ptr = self.header() as u32;
        if self.ahead().is_some() {
            return Vec::new();
        }
        self.shaped(skip, |address, flags, base| {
            let kind = flags & GENERIC.1;
            let interface = flags & 0x000C_0000 == 0x000C_0000;
            let sized = if interface { base == 0 } else { (2 * ptr..1 << 16).contains(&base) };
            if flags & GENERIC.0 != 0 || kind == 0 || kind == GENERIC.1 || !sized || !base.is_multiple_of(ptr) {
                return false;
            }
            let plausible = |m: &MethodTable| m.class_or_canonical != 0 && m.per_inst != 0 && m.module != 0;
            self.method_table(address).filter(plausible).is_some() && self.valid_type(address).is_some()
        })
    }

    /// Whether the module has resolved TypeRef row `rid` to a loaded type; `None` when the layout does not know.
    pub fn typeref_resolved(&self, module: u64, rid: u32) -> Option<bool> {
        let (space, l) = (self.space(), self.layout());
        let map = LookupMap::at(space, l, module.checked_add(l.try_offset("Module", "TypeRefToMethodTableMap")?)?)?;
        // Rows beyond the first block are in further ones: only large edited modules have them.
        if rid >= map.count() {
            return None;
        }
        Some(map.get(space, rid)? != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, outside};
    use crate::dump::map::FileMap;
    use crate::dump::space::SpaceBuilder;

    #[test]
    fn what_is_looked_through_is_all_but_what_is_skipped() {
        let size = 3 * CHUNK;
        let mut builder = SpaceBuilder::new(8);
        let source = builder.source(FileMap::owned(vec![0; size as usize]));
        builder.add(0x1000, source, 0, size - 0x2000);
        builder.add(0x1000_0000, source, 0, 0x2000);
        let space = builder.build().0;
        // One over the beginning, one inside, one over the end and the beginning of the next.
        let skip = [(0, 0x2000), (0x8000, 0x9000), (size - 0x2000, 0x1000_1000)];
        let parts = outside(&space, &skip);
        let ends = [(0x2000, 0x8000), (0x9000, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, size - 0x2000)];
        assert_eq!(parts, [&ends[..], &[(0x1000_1000, 0x1000_2000)]].concat());
        assert_eq!(outside(&space, &[(0, u64::MAX)]), []);
    }
}
