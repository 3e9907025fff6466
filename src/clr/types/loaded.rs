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
/// Where the base size stands in the first eight bytes of a MethodTable, behind the flags.
const BASE_SIZE: u64 = 0xFFFF_FFFF << 32;

/// What of the memory lies outside `skip` (sorted and disjoint), in parts for workers.
fn outside(space: &AddressSpace, skip: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let starts = std::iter::once(0).chain(skip.iter().map(|s| s.1));
    let ends = skip.iter().map(|s| s.0).chain([u64::MAX]);
    starts.zip(ends).flat_map(|(start, end)| space.parts(start, end)).collect()
}

/// Calls `hit(offset, word)` for each eight bytes that `shaped` takes. Nearly all memory has none of them, which is told of a
/// block of words at once.
fn each_shaped(bytes: &[u8], shaped: &impl Fn(u64) -> bool, mut hit: impl FnMut(usize, u64)) {
    const BLOCK: usize = 32;
    let is = |w: &[u8; 8]| shaped(u64::from_le_bytes(*w));
    for (i, block) in bytes.as_chunks().0.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |any, w| any | is(w)) {
            let hits = block.iter().enumerate().filter(|w| is(w.1));
            hits.for_each(|(j, w)| hit((i * BLOCK + j) * 8, u64::from_le_bytes(*w)));
        }
    }
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
        const VECTOR: (u64, u64) = (0x800E_0000, 0x800A_0000);
        if self.ahead().is_some() {
            // They have another shape; those of the heap are known by its objects.
            return Vec::new();
        }
        let base = 3 * self.header();
        let shaped = |first: u64| first & (BASE_SIZE | VECTOR.0) == base << 32 | VECTOR.1;
        self.shaped(skip, shaped, |address, _| self.valid_method_table(address).is_some())
    }

    /// MethodTables of all generic instantiations, found by their shape in memory outside `skip` as vectors are.
    pub fn loaded_instantiations(&self, skip: &[(u64, u64)]) -> Vec<u64> {
        /// Component size.
        const SIZED: u64 = 0x8000_0000;
        /// The generics bits of the flags (`enum_flag_GenericsMask`): one of them alone is an instantiation.
        const GENERIC: (u64, u64) = (0x10, 0x20);
        /// Bits no base size has that is not absurd.
        const HUGE: u64 = 0xFFFF << 48;
        let ptr = self.header();
        if self.ahead().is_some() {
            return Vec::new();
        }
        let never = SIZED | HUGE | (ptr - 1) << 32;
        let shaped = |first: u64| {
            let one = (first & GENERIC.0 != 0) != (first & GENERIC.1 != 0);
            first & never == 0 && one
        };
        self.shaped(skip, shaped, |address, first| {
            let (base, interface) = (first >> 32, first & 0x000C_0000 == 0x000C_0000);
            if if interface { base != 0 } else { base < 2 * ptr } {
                return false;
            }
            let plausible = |m: &MethodTable| m.class_or_canonical != 0 && m.per_inst != 0 && m.module != 0;
            self.method_table(address).filter(plausible).is_some() && self.valid_type(address).is_some()
        })
    }

    /// Addresses outside `skip` whose first eight bytes, flags and base size, have a shape, and which are what is looked for;
    /// at most [`MAX_FOUND`].
    fn shaped(
        &self,
        skip: &[(u64, u64)],
        shaped: impl Fn(u64) -> bool + Sync,
        is: impl Fn(u64, u64) -> bool + Sync,
    ) -> Vec<u64> {
        let (space, ptr, count) = (self.space(), self.header(), AtomicUsize::new(0));
        let found = outside(space, skip).into_par_iter().flat_map_iter(|(start, end)| {
            let (mut found, mut at) = (Vec::new(), start.next_multiple_of(ptr));
            while let Some(run) = space.run(at).filter(|_| at < end) {
                let here = (run.len() as u64).min(end - at);
                // The last eight bytes may lie in the next part.
                let bytes = run.get(..(here + 8 - ptr) as usize).unwrap_or(run);
                for shift in (0..8).step_by(ptr as usize) {
                    each_shaped(bytes.get(shift..).unwrap_or(&[]), &shaped, |offset, first| {
                        let address = at + (shift + offset) as u64;
                        if is(address, first) && count.fetch_add(1, Ordering::Relaxed) < MAX_FOUND {
                            found.push(address);
                        }
                    });
                }
                at = (at + here).next_multiple_of(ptr);
            }
            found.sort_unstable();
            found
        });
        found.collect()
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
    use super::{each_shaped, outside};
    use crate::dump::map::FileMap;
    use crate::dump::space::{PART, SpaceBuilder};

    #[test]
    fn what_is_looked_through_is_all_but_what_is_skipped() {
        let size = 3 * PART;
        let mut builder = SpaceBuilder::new(8);
        let source = builder.source(FileMap::owned(vec![0; size as usize]));
        builder.add(0x1000, source, 0, size - 0x2000);
        builder.add(0x1000_0000, source, 0, 0x2000);
        let space = builder.build().0;
        // One over the beginning, one inside, one over the end and the beginning of the next.
        let skip = [(0, 0x2000), (0x8000, 0x9000), (size - 0x2000, 0x1000_1000)];
        let parts = outside(&space, &skip);
        let ends = [(0x2000, 0x8000), (0x9000, PART), (PART, 2 * PART), (2 * PART, size - 0x2000)];
        assert_eq!(parts, [&ends[..], &[(0x1000_1000, 0x1000_2000)]].concat());
        assert_eq!(outside(&space, &[(0, u64::MAX)]), []);
    }

    #[test]
    fn words_of_a_shape_are_told_with_their_offset() {
        let mut bytes = vec![0u8; 8 * 100 + 7];
        let places = [0usize, 8 * 31, 8 * 32, 8 * 64, 8 * 99];
        places.iter().for_each(|&at| bytes[at] = 3);
        bytes[8 * 40] = 2;
        let mut found = Vec::new();
        each_shaped(&bytes, &|w| w == 3, |at, word| found.push((at, word)));
        assert_eq!(found, places.map(|at| (at, 3)));
        found.clear();
        each_shaped(&[3, 0, 0], &|w| w == 3, |at, word| found.push((at, word)));
        assert_eq!(found, []);
    }
}
