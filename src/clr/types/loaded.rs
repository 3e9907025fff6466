//! Types that are loaded, whether or not the heap has instances of them: the TypeDef maps of all modules.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/ceeload.h` (`LookupMap`): blocks of {next, table, count, flag mask}.

use rustc_hash::FxHashSet;

use super::lookupmap::LookupMap;
use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::dump::space::Piece;

/// Bounds on one module's map, which say so: blocks (a module made at run time gets one more whenever it has outgrown the
/// last), and types (a TypeDef token has 24 bits for the row).
const MAX_BLOCKS: usize = 1 << 20;
const MAX_TYPES: u64 = 1 << 24;
/// More vectors or instantiations than any process has made: each takes some hundred bytes of loader heap, whose search ends
/// at 4 GB.
const MAX_FOUND: usize = 1 << 20;

/// Whether one of the sorted, disjoint ranges holds all of the piece.
fn is_inside(ranges: &[(u64, u64)], piece: &Piece) -> bool {
    let i = ranges.partition_point(|r| r.0 <= piece.start);
    i.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|r| piece.end <= r.1)
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
        let (space, ptr) = (self.space(), self.header() as usize);
        let base = 3 * ptr as u32;
        let mut found = Vec::new();
        if self.ahead().is_some() {
            // They have another shape; those of the heap are known by its objects.
            return found;
        }
        for piece in space.pieces() {
            if is_inside(skip, piece) {
                continue;
            }
            let bytes = space.piece_bytes(piece);
            let lead = (piece.start.next_multiple_of(ptr as u64) - piece.start) as usize;
            for (i, w) in bytes.get(lead..).unwrap_or(&[]).windows(8).step_by(ptr).enumerate() {
                let word = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
                if (word >> 32) as u32 != base || word as u32 & VECTOR.0 != VECTOR.1 {
                    continue;
                }
                let address = piece.start + (lead + i * ptr) as u64;
                if self.valid_method_table(address).is_some() && found.len() < MAX_FOUND {
                    found.push(address);
                }
            }
        }
        found
    }

    /// MethodTables of all generic instantiations, found by their shape in memory outside `skip` as vectors are.
    pub fn loaded_instantiations(&self, skip: &[(u64, u64)]) -> Vec<u64> {
        /// Component size, and the generics bits of the flags (`enum_flag_GenericsMask`).
        const GENERIC: (u32, u32) = (0x8000_0000, 0x30);
        let (space, ptr) = (self.space(), self.header());
        let mut found = Vec::new();
        if self.ahead().is_some() {
            return found;
        }
        for piece in space.pieces() {
            if is_inside(skip, piece) {
                continue;
            }
            let lead = piece.start.next_multiple_of(ptr) - piece.start;
            let bytes = space.piece_bytes(piece).get(lead as usize..).unwrap_or(&[]);
            for (i, w) in bytes.windows(8).step_by(ptr as usize).enumerate() {
                let word = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
                let (flags, base) = (word as u32, (word >> 32) as u32);
                let kind = flags & GENERIC.1;
                let interface = flags & 0x000C_0000 == 0x000C_0000;
                let sized = if interface { base == 0 } else { (2 * ptr as u32..1 << 16).contains(&base) };
                if flags & GENERIC.0 != 0 || kind == 0 || kind == GENERIC.1 || !sized {
                    continue;
                }
                let address = piece.start + lead + i as u64 * ptr;
                let plausible = |m: &MethodTable| {
                    base.is_multiple_of(ptr as u32) && m.class_or_canonical != 0 && m.per_inst != 0 && m.module != 0
                };
                if self.method_table(address).filter(plausible).is_some()
                    && self.valid_type(address).is_some()
                    && found.len() < MAX_FOUND
                {
                    found.push(address);
                }
            }
        }
        found
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
