//! Static bases: the objects that hold the static references of a class, and whose each of them is.
//!
//! Source: dotnet/runtime `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/DependencyAnalysis/GCStaticsNode.cs`,
//! `StaticsInfoHashtableNode.cs`, `src/coreclr/nativeaot/System.Private.CoreLib/src/Internal/Runtime/CompilerHelpers/StartupCodeHelpers.cs`.
//! A class has a cell in the image, which holds its base once the program runs; all bases hang off one array in the order
//! of the cells, which a strong handle keeps. Classes with equally laid out statics share the type of their bases, so that
//! the type does not tell the owner. What does: records of reflected fields, the table of statics of instantiations (whose
//! types and cells are numbers in tables of their own, `MetadataManager.cs`), and the code that refers to a cell
//! ([`super::owners`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::clr::gathered::Gathered;
use crate::clr::runtime::handles::Tables;
use crate::clr::types::typename::TypeName;
use crate::native::Native;

use super::Aot;
use super::format::Blob;
use super::image::{AotModule, section};
use super::reflected::Place;

/// `BagElementKind.GcStaticData`: the cell of an instantiation, by its number among the references to statics.
const GC_STATIC_DATA: u32 = 0x43;
/// `BagElementKind.ThreadStaticIndex`: the index of its thread statics, the same way.
const THREAD_STATIC_INDEX: u32 = 0x49;
/// Elements of a bag: statics with and without references, thread statics.
const MAX_ELEMENTS: usize = 16;
/// Cells of a module: a class with static references each.
const MAX_CELLS: u64 = 1 << 20;

/// The cell of a class.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Its address.
    pub address: u64,
    /// The base object; 0 where it was not made yet or is not in the dump.
    pub base: u64,
}

/// Cells and their bases.
#[derive(Debug, Default)]
pub struct Cells {
    /// In the order of the image, by module.
    pub modules: Vec<Vec<Cell>>,
    by_address: FxHashMap<u64, u64>,
}

impl Cells {
    /// The base that the cell at `address` holds.
    pub fn base(&self, address: u64) -> Option<u64> {
        self.by_address.get(&address).copied().filter(|&b| b != 0)
    }
}

impl Aot {
    /// The cells of all modules.
    pub fn cells(&self) -> &Cells {
        self.cells.get_or_init(|| {
            let mut cells = Cells::default();
            for m in self.types.modules() {
                let of_module = self.read_cells(m);
                cells.by_address.extend(of_module.iter().map(|c| (c.address, c.base)));
                cells.modules.push(of_module);
            }
            cells
        })
    }

    fn read_cells(&self, module: &AotModule) -> Vec<Cell> {
        let space = &self.dump.space;
        let Some((start, end)) = module.header.section(section::GC_STATICS) else { return Vec::new() };
        let mut cells = Vec::new();
        for i in 0..((end - start) / 4).min(MAX_CELLS) {
            let at = start + 4 * i;
            let Some(distance) = space.u32(at) else { break };
            let address = at.wrapping_add_signed(i64::from(distance as i32));
            // Bit 0: what tells the runtime to make it.
            let base = space.ptr(address).filter(|b| b & 1 == 0 && *b != 0 && self.is_object(*b));
            cells.push(Cell { address, base: base.unwrap_or(0) });
        }
        if cells.iter().any(|c| c.base == 0) {
            let all = self.list_of_bases(cells.len());
            for (c, &base) in cells.iter_mut().zip(&all).filter(|(c, _)| c.base == 0) {
                c.base = base;
            }
        }
        cells
    }

    /// The array of all bases: one of so many objects, kept by a strong handle, each null or of the shape of a base.
    fn list_of_bases(&self, count: usize) -> Vec<u64> {
        let space = &self.dump.space;
        let tables = Tables {
            space,
            layout: &self.layout,
            map: self.gc.handle_table_map.unwrap_or(0),
            server: self.gc.is_server(),
        };
        let handles = tables.read().unwrap_or_else(|_| Gathered::default()).items;
        let strong = handles.iter().filter(|h| h.kind.is_strong());
        let list = |array: u64| {
            let ty = self.types.words(self.object_type(array)?)?;
            let length = usize::try_from(space.u32(array.checked_add(8)?)?).ok()?;
            if length != count || !self.types.is_array_of_objects(&ty) {
                return None;
            }
            let item = |i: usize| space.ptr(array.checked_add(16 + 8 * i as u64)?);
            let items: Vec<u64> = (0..length).map_while(item).collect();
            let base = |&o: &u64| {
                let words = self.object_type(o).and_then(|mt| self.types.words(mt));
                o == 0 || words.is_some_and(|w| self.types.is_static_base(&w))
            };
            (items.len() == count && items.iter().any(|&o| o != 0) && items.iter().all(base)).then_some(items)
        };
        strong.filter(|h| h.object != 0).find_map(|h| list(h.object)).unwrap_or_default()
    }

    /// Objects that hold the references of static fields; those not made yet left out.
    pub fn static_bases(&self) -> Vec<u64> {
        self.cells().modules.iter().flatten().map(|c| c.base).filter(|&b| b != 0).collect()
    }

    /// Owners of cells that the image names itself.
    fn named_owners(&self) -> &FxHashMap<u64, Arc<str>> {
        self.bases.get_or_init(|| {
            let mut found: FxHashMap<u64, Arc<str>> = self.debug_owners().into_iter().collect();
            let spell = |mt: u64| self.types.tree(mt, 0).display().into();
            for i in 0..self.types.modules().len() {
                self.instantiations(i, |mt, cell| drop(found.insert(cell, spell(mt))));
            }
            for (&owner, fields) in self.all_reflected() {
                for f in fields {
                    if let Place::Base(cell, _) = f.place {
                        found.insert(cell, spell(owner));
                    }
                }
            }
            found
        })
    }

    /// Instantiations and their cells, as the table of their statics has them.
    fn instantiations(&self, number: usize, mut each: impl FnMut(u64, u64)) {
        let cells = &self.cells().by_address;
        for (mt, cell) in self.statics_of_instantiations(number, GC_STATIC_DATA) {
            if cells.contains_key(&cell) {
                each(mt, cell);
            }
        }
    }

    /// Instantiations and the addresses of the indexes of their thread statics.
    pub fn thread_instantiations(&self, number: usize) -> Vec<(u64, u64)> {
        self.statics_of_instantiations(number, THREAD_STATIC_INDEX)
    }

    /// MethodTables of instantiations and what the table of their statics has of that kind.
    fn statics_of_instantiations(&self, number: usize, kind: u32) -> Vec<(u64, u64)> {
        let module = self.types.modules().get(number);
        let blob = |id| module.and_then(|m| m.header.blob(&self.dump.space, id));
        let (Some(table), Some(types), Some(statics)) =
            (blob(section::STATICS_TABLE), blob(section::NATIVE_REFERENCES), blob(section::NATIVE_STATICS))
        else {
            return Vec::new();
        };
        let (types, statics) = (types.distances(), statics.distances());
        let of = |entry: usize| {
            let (ty, place) = element(&table, entry, kind)?;
            let words = self.types.words(*types.get(ty)?).filter(|w| self.types.is_instantiation(w))?;
            Some((words.address, *statics.get(place)?))
        };
        table.entries().into_iter().filter_map(of).collect()
    }

    /// Owners of bases, by base object.
    fn owners(&self, native: &Native) -> &FxHashMap<u64, Arc<str>> {
        self.owners.get_or_init(|| {
            let mut of_cell = self.named_owners().clone();
            for (number, cells) in self.cells().modules.iter().enumerate() {
                for (cell, owner) in self.owners_by_code(native, number, cells, &of_cell) {
                    of_cell.entry(cell).or_insert(owner);
                }
            }
            let cells = self.cells();
            of_cell.into_iter().filter_map(|(cell, owner)| Some((cells.base(cell)?, owner))).collect()
        })
    }

    /// Whose static references the object at `base` holds, where that is told.
    pub fn owner_of_base(&self, native: &Native, base: u64) -> Option<Arc<str>> {
        let by_index = || {
            let bases = self.indexed_bases(native);
            let at = bases.binary_search_by_key(&base, |b| b.base).ok()?;
            bases.get(at).map(|b| b.owner.clone())
        };
        self.owners(native).get(&base).cloned().or_else(by_index)
    }

    /// Slots of static references whose owner is told, with `Type.Field`, or `Type+0x8` where nothing names the field.
    pub fn slots_of_statics(&self, native: &Native) -> Vec<(u64, Arc<str>)> {
        let mut names: FxHashMap<u64, Arc<str>> = self.debug_slots().into_iter().collect();
        for (&owner, fields) in self.all_reflected() {
            let spelled = self.types.tree(owner, 0).display();
            for f in fields {
                let Place::Base(cell, offset) = f.place else { continue };
                let slot = self.cells().base(cell).and_then(|b| b.checked_add(offset));
                names.extend(slot.map(|s| (s, format!("{spelled}.{}", f.name).into())));
            }
        }
        let mut slots = Vec::new();
        for (&base, owner) in self.owners(native) {
            for offset in self.references(self.object_type(base).unwrap_or(0)) {
                let Some(slot) = base.checked_add(offset) else { continue };
                let name = names.get(&slot).cloned();
                slots.push((slot, name.unwrap_or_else(|| format!("{owner}+{offset:#x}").into())));
            }
        }
        slots.sort_unstable();
        slots.dedup_by_key(|s| s.0);
        slots
    }

    /// The owner of the only base of the type `mt`, where the image itself names it.
    pub fn only_owner(&self, mt: u64) -> Option<TypeName> {
        let of_shape = self.shapes.get_or_init(|| {
            let mut cells: FxHashMap<u64, Option<u64>> = FxHashMap::default();
            for c in self.cells().modules.iter().flatten().filter(|c| c.base != 0) {
                let Some(shape) = self.object_type(c.base) else { continue };
                cells.entry(shape).and_modify(|one| *one = None).or_insert(Some(c.address));
            }
            cells
        });
        let cell = of_shape.get(&mt).copied().flatten()?;
        let owner = self.named_owners().get(&cell)?;
        Some(TypeName::plain(format!("static base of {owner}"), ""))
    }
}

/// Numbers of type and statics of that kind in an entry of the table: the type, then a bag of kinds and values.
fn element(table: &Blob, entry: usize, kind: u32) -> Option<(usize, usize)> {
    let mut r = table.at(entry);
    let ty = r.unsigned()? as usize;
    for _ in 0..MAX_ELEMENTS {
        match r.unsigned()? {
            0 => return None,
            k if k == kind => return Some((ty, r.unsigned()? as usize)),
            _ => drop(r.unsigned()?),
        }
    }
    None
}
