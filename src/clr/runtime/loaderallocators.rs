//! Loader allocators of assemblies that can be unloaded: the native one, and the managed object that stands for it.
//!
//! A native `LoaderAllocator` holds a handle to its managed `System.Reflection.LoaderAllocator`, whose scout holds the
//! native address (dotnet/runtime v8.0 `src/coreclr/vm/loaderallocator.hpp`,
//! `src/coreclr/System.Private.CoreLib/src/System/Reflection/LoaderAllocator.cs`; the same from 2.1 to 10). Both are found by
//! that circle, whatever the fields' offsets are and with no name at hand.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::clr::types::methodtable::MethodTable;

/// Bytes of a native allocator looked through for the handle.
const NATIVE_BYTES: u64 = 0x1000;
/// Bytes of a `Module` and of an `Assembly` looked through for its allocator.
const MODULE_BYTES: u64 = 0x400;
const ASSEMBLY_BYTES: u64 = 0x80;
/// Words of a type's auxiliary data looked at for its loader module.
const AUXILIARY: u64 = 4;
/// Words of the managed allocator looked at: scout, slots, a table of instantiations, the number of slots.
const WORDS: u64 = 6;

/// A loader allocator that can be unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderAllocator {
    /// Address of the native one.
    pub native: u64,
    /// Address of the managed object.
    pub object: u64,
    /// Address of the object's scout, whose finalizer lets the native one go.
    pub scout: u64,
}

/// The allocators, and whose modules are whose: a process may have thousands of either.
#[derive(Debug, Default)]
pub struct LoaderAllocators {
    all: Vec<LoaderAllocator>,
    /// Place of each among them by its native address.
    by_native: FxHashMap<u64, usize>,
    /// Place of that of each module of the app domain that has one.
    by_module: FxHashMap<u64, usize>,
    /// Modules of each by its native address, in the order they were loaded.
    modules: FxHashMap<u64, Vec<u64>>,
    /// All modules of the app domain.
    loaded: FxHashSet<u64>,
}

impl LoaderAllocators {
    fn read(clr: &Clr) -> Self {
        let mut out = Self { all: read(clr), ..Self::default() };
        // Who asks for the allocator of the first of two at one address gets the first.
        for (i, a) in out.all.iter().enumerate() {
            out.by_native.entry(a.native).or_insert(i);
        }
        if out.all.is_empty() {
            return out;
        }
        for a in &clr.assemblies().items {
            if !out.loaded.insert(a.module) {
                continue;
            }
            let of_assembly = || (a.assembly != 0).then(|| out.within(clr, a.assembly, ASSEMBLY_BYTES)).flatten();
            let Some(i) = out.within(clr, a.module, MODULE_BYTES).or_else(of_assembly) else { continue };
            out.by_module.insert(a.module, i);
            if let Some(owner) = out.all.get(i) {
                out.modules.entry(owner.native).or_default().push(a.module);
            }
        }
        out
    }

    /// The first allocator that a word of these bytes points at.
    fn within(&self, clr: &Clr, start: u64, bytes: u64) -> Option<usize> {
        let words = (0..bytes).step_by(clr.header() as usize);
        let mut words = words.filter_map(|o| clr.space().ptr_at(start, o));
        words.find_map(|w| self.by_native.get(&w).copied())
    }
}

impl Clr {
    fn loader_allocator_index(&self) -> &LoaderAllocators {
        self.loader_allocators.get_or_init(|| LoaderAllocators::read(self))
    }

    /// The allocators of collectible assemblies, read at first need.
    pub fn loader_allocators(&self) -> &[LoaderAllocator] {
        &self.loader_allocator_index().all
    }

    /// Modules that go when the collectible allocator at `native` goes, in the order they were loaded.
    pub fn modules_of_loader_allocator(&self, native: u64) -> &[u64] {
        self.loader_allocator_index().modules.get(&native).map_or(&[], Vec::as_slice)
    }

    /// The collectible allocator that loaded the module at `module`: the module knows it itself (8.0 and later), or its
    /// assembly does.
    pub fn loader_allocator_of(&self, module: u64) -> Option<LoaderAllocator> {
        let known = self.loader_allocator_index();
        if known.all.is_empty() {
            return None;
        }
        // What is no module of the app domain may be one all the same.
        let unknown = || if known.loaded.contains(&module) { None } else { known.within(self, module, MODULE_BYTES) };
        known.by_module.get(&module).copied().or_else(unknown).and_then(|i| known.all.get(i).copied())
    }

    /// The collectible allocator that the type's own structures come from: an instantiation over a type that can be
    /// unloaded goes with that one.
    pub fn loader_allocator_of_type(&self, mt: &MethodTable) -> Option<LoaderAllocator> {
        if !self.mts().is_collectible(mt) {
            return None;
        }
        // Since 9.0 the MethodTable names the module that defines the type; the one that loaded it is in its auxiliary
        // data (`MethodTableAuxiliaryData::m_pLoaderModule`), behind the flags.
        let modules = &self.loader_allocator_index().loaded;
        let words = (0..AUXILIARY).filter_map(|i| self.space().ptr_at(mt.aux, i * self.header()));
        let mut loaders = words.filter(|w| self.mts().module_is_defining() && modules.contains(w));
        loaders.find_map(|m| self.loader_allocator_of(m)).or_else(|| self.loader_allocator_of(mt.module))
    }

    /// The object behind a `LOADERHANDLE` of `allocator`: with bit 0 set it is the address of a reference, else twice the
    /// number, counted from 1, of a slot of the managed allocator (`LoaderAllocator::GetHandleValueFast`).
    pub fn loader_handle(&self, allocator: &LoaderAllocator, handle: u64) -> Option<u64> {
        if handle & 1 != 0 {
            return self.space().ptr(handle - 1).filter(|&o| o != 0);
        }
        let index = (handle >> 1).checked_sub(1)?;
        let slots = self.slots_of(allocator.object)?;
        if index >= u64::from(self.component_count(slots)?) {
            return None;
        }
        let first = slots.checked_add(2 * self.header())?;
        self.space().ptr_at(first, index.checked_mul(self.header())?).filter(|&o| o != 0)
    }

    /// The `Object[]` of a managed allocator.
    fn slots_of(&self, object: u64) -> Option<u64> {
        let of_objects = |a: u64| {
            let mt = self.object_type(a).and_then(|t| self.method_table(t));
            mt.is_some_and(|m| m.is_sz_array() && m.per_inst == self.known.object)
        };
        let words = (1..=WORDS).filter_map(|i| self.space().ptr_at(object, i * self.header()));
        words.filter(|&w| w != 0).find(|&w| of_objects(w))
    }
}

fn read(clr: &Clr) -> Vec<LoaderAllocator> {
    let core = clr.method_table(clr.known.object).map_or(0, |m| m.module);
    let ptr = clr.header();
    // Most handles hold objects of a few types.
    let mut possible: FxHashMap<u64, bool> = FxHashMap::default();
    let mut known: FxHashSet<u64> = FxHashSet::default();
    let mut found: Vec<LoaderAllocator> = Vec::new();
    for h in clr.handles().items.iter().filter(|h| h.object != 0) {
        let Some(mt) = clr.object_type(h.object) else { continue };
        let fits = *possible.entry(mt).or_insert_with(|| {
            let fits = |m: MethodTable| {
                m.module == core
                    && !m.has_component_size()
                    && m.contains_pointers()
                    && u64::from(m.base_size) >= 5 * ptr
            };
            clr.valid_method_table(mt).is_some_and(fits)
        });
        if !fits || known.contains(&h.object) {
            continue;
        }
        if let Some((scout, native)) = native_of(clr, core, h.object, h.address) {
            known.insert(h.object);
            found.push(LoaderAllocator { native, object: h.object, scout });
        }
    }
    found
}

/// The scout of `object` and the native allocator behind it, if that holds `handle`.
fn native_of(clr: &Clr, core: u64, object: u64, handle: u64) -> Option<(u64, u64)> {
    let (space, ptr) = (clr.space(), clr.header());
    let scout = |s: u64| {
        let mt = clr.valid_method_table(clr.object_type(s)?)?;
        // One native pointer between the header words, and a finalizer.
        let fits = mt.module == core && mt.has_finalizer() && !mt.contains_pointers();
        (fits && u64::from(mt.base_size) == 3 * ptr)
            .then(|| space.ptr_at(s, ptr))
            .flatten()
            .filter(|&n| n != 0)
            .map(|n| (s, n))
    };
    let holds = |native: u64| {
        let mut words = (0..NATIVE_BYTES).step_by(ptr as usize).map_while(|o| space.ptr_at(native, o));
        words.any(|w| w == handle)
    };
    let words = (1..=WORDS).filter_map(|i| space.ptr_at(object, i * ptr));
    words.filter(|&w| w != 0 && w.is_multiple_of(ptr)).filter_map(scout).find(|&(_, n)| holds(n))
}
