//! Types that are loaded, whether or not the heap has instances of them: the TypeDef maps of all modules.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/ceeload.h` (`LookupMap`): blocks of {next, table, count, flag mask}.

use rustc_hash::FxHashSet;

use super::Clr;
use super::gathered::Gathered;

/// Bounds on one module's map.
const MAX_BLOCKS: usize = 1 << 12;
const MAX_TYPES: u64 = 1 << 24;

impl Clr {
    /// MethodTables of the types of `module` that are loaded, with their TypeDef rows: plain types and open generics.
    pub fn loaded_types(&self, module: u64) -> Gathered<(u32, u64)> {
        let mut out = Gathered::default();
        if self.read_map(module, &mut out).is_none() {
            out.because(format!("the type map of module {module:x} is not in the dump"));
        }
        out
    }

    fn read_map(&self, module: u64, out: &mut Gathered<(u32, u64)>) -> Option<()> {
        let (space, l, ptr) = (self.space(), self.layout(), self.header());
        let mut block = module.checked_add(l.try_offset("Module", "TypeDefToMethodTableMap")?)?;
        let (next, table) = (l.try_offset("ModuleLookupMap", "Next")?, l.try_offset("ModuleLookupMap", "TableData")?);
        let count = l.try_offset("ModuleLookupMap", "Count")?;
        let (mut row, mut seen) = (0u64, FxHashSet::default());
        while block != 0 && seen.insert(block) && seen.len() < MAX_BLOCKS {
            let data = space.ptr_at(block, table)?;
            let n = u64::from(space.u32(block.checked_add(count)?)?).min(MAX_TYPES.saturating_sub(row));
            for i in 0..n {
                let Some(entry) = data.checked_add(i * ptr).and_then(|a| space.ptr(a)) else { continue };
                let mt = entry & !7;
                if mt != 0 {
                    out.items.push(((row + i) as u32, mt));
                }
            }
            row += n;
            block = space.ptr_at(block, next).unwrap_or(0);
        }
        Some(())
    }
}
