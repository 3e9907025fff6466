//! Statics of types whose storage is their own, not their module's, through .NET 8: instantiations, types of assemblies
//! that can be unloaded, and types made at run time.
//!
//! Each has a number in the dynamic class table of its loader module (dotnet/coreclr v3.1.32 `src/vm/appdomain.hpp`:
//! `DynamicClassInfo`, `NormalDynamicEntry`, `CollectibleDynamicEntry`; `threads.h` for those of a thread). An
//! instantiation has the number in an optional member of its MethodTable; for the others the module's list of the types
//! that have a number is searched (`Module::m_pDynamicStaticsInfo`, `ceeload.h`: count, capacity, list).

use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::layout::Layout;
use crate::dump::AddressSpace;

/// Statics bits of the MethodTable's flags: not the module's; of an instantiation.
const STATICS_MASK: u32 = 0x6;
const STATICS_GENERIC: u32 = 0x4;
/// `DynamicClassInfo` flags: initialised; the entry holds loader handles.
const READY: u32 = 1;
const COLLECTIBLE: u32 = 8;
/// More types with a number than a module has.
const MAX_IDS: u64 = 1 << 24;
/// Bytes of a `Module` behind the pointer to its statics in which the list of types is looked for (0x48 in 3.1 and 8.0).
const LIST_WITHIN: u64 = 0x100;

/// Base of a type's statics; of a class that was not initialised as the error.
pub(super) type Base = Result<u64, Option<u64>>;

/// Whether the type has its own storage.
pub fn is_dynamic(mt: &MethodTable) -> bool {
    !mt.has_component_size() && mt.flags & STATICS_MASK != 0
}

/// Base of the statics of `mt`.
pub fn base(clr: &Clr, mt: &MethodTable, reference: bool) -> Option<Base> {
    let (space, l) = (clr.space(), clr.layout());
    let local = local_of(clr, mt)?;
    let table = local.checked_add(l.try_offset("DomainLocalModule", "DynamicClassTable")?)?;
    let count = local.checked_add(l.try_offset("DomainLocalModule", "DynamicClassCount")?)?;
    let (data, flags) = entry(clr, number(clr, mt)?, table, space.ptr(count)?)?;
    if flags & READY == 0 {
        return Some(Err(None));
    }
    let found = match (flags & COLLECTIBLE != 0, reference) {
        (true, _) => collectible(clr, mt, data, reference)?,
        (false, true) => space.ptr(data).filter(|&b| b != 0)?,
        (false, false) => data,
    };
    Some(Ok(found))
}

/// Flags of the entry of `mt`: bit 0 when it is initialised, bit 1 when that failed.
pub(super) fn flags(clr: &Clr, mt: &MethodTable) -> Option<u32> {
    let l = clr.layout();
    let local = local_of(clr, mt)?;
    let table = local.checked_add(l.try_offset("DomainLocalModule", "DynamicClassTable")?)?;
    let count = clr.space().ptr_at(local, l.try_offset("DomainLocalModule", "DynamicClassCount")?)?;
    Some(entry(clr, number(clr, mt)?, table, count)?.1)
}

/// Base of the thread statics of `mt` in a thread's `block` of the loader module.
pub fn thread_base(clr: &Clr, mt: &MethodTable, block: u64, reference: bool) -> Option<u64> {
    let (space, l) = (clr.space(), clr.layout());
    let table = block.checked_add(l.try_offset("ThreadLocalModule", "DynamicClassTable")?)?;
    let count = space.u32(block.checked_add(l.try_offset("ThreadLocalModule", "DynamicClassCount")?)?)?;
    let (data, flags) = entry(clr, number(clr, mt)?, table, u64::from(count))?;
    if flags & COLLECTIBLE != 0 {
        return collectible(clr, mt, data, reference);
    }
    if !reference {
        return Some(data);
    }
    let handle = space.ptr(data).filter(|&h| h != 0)?;
    first_element(clr, space.ptr(handle)?)
}

/// Where the elements of the array at `array` begin; offsets of references count from there.
pub fn first_element(clr: &Clr, array: u64) -> Option<u64> {
    array.checked_add(2 * clr.header()).filter(|_| array != 0)
}

/// The entry of a collectible type: loader handles of an `Object[]` and of an array of bytes. Offsets of what is no
/// reference count from the entry of other types, whose data stands behind one pointer.
fn collectible(clr: &Clr, mt: &MethodTable, entry: u64, reference: bool) -> Option<u64> {
    let handle = clr.space().ptr_at(entry, if reference { 0 } else { clr.header() }).filter(|&h| h != 0)?;
    let allocator = clr.loader_allocator_of(mt.module)?;
    let data = first_element(clr, clr.loader_handle(&allocator, handle)?)?;
    if reference { Some(data) } else { data.checked_sub(clr.header()) }
}

fn local_of(clr: &Clr, mt: &MethodTable) -> Option<u64> {
    local_module(clr.space(), clr.layout(), mt.module)
}

/// Data and flags of entry `id` of the table that `table` points to.
fn entry(clr: &Clr, id: u64, table: u64, count: u64) -> Option<(u64, u32)> {
    let (space, l) = (clr.space(), clr.layout());
    if id >= MAX_IDS || id >= count {
        return None;
    }
    let at = space.ptr(table)?.checked_add(id.checked_mul(l.try_offset("DynamicClassInfo", "!")?)?)?;
    let data = space.ptr_at(at, l.try_offset("DynamicClassInfo", "Data")?).filter(|&d| d != 0)?;
    Some((data, space.u32(at.checked_add(l.try_offset("DynamicClassInfo", "Flags")?)?)?))
}

/// The type's number in the tables of its loader module.
fn number(clr: &Clr, mt: &MethodTable) -> Option<u64> {
    let (space, ptr) = (clr.space(), clr.header());
    if mt.flags & STATICS_GENERIC != 0 {
        return space.ptr_at(clr.mts().optional_members(mt, ptr), ptr);
    }
    let near = mt.module.checked_add(clr.layout().try_offset("Module", "DomainLocalModule")?)?;
    (1..LIST_WITHIN / ptr).find_map(|i| {
        let word = |n: u64| space.ptr_at(near, (i + n) * ptr);
        let (count, capacity, list) = (word(0)?, word(1)?, word(2)?);
        if count == 0 || count > capacity || capacity >= MAX_IDS || !list.is_multiple_of(ptr) {
            return None;
        }
        (0..count).map_while(|id| space.ptr_at(list, id * ptr)).position(|m| m == mt.address).map(|id| id as u64)
    })
}

/// Through .NET 8: the `DomainLocalModule` of a module. In .NET Framework each app domain has its own for a module that
/// domains share: the module has a number then, whose lowest bit is set, and the domain a table of them (dotnet/coreclr v1.0
/// `src/vm/appdomain.hpp`, `DomainLocalBlock`). The domain is the one the layout knows: that of the finalizer thread, which
/// is the first.
pub fn local_module(space: &AddressSpace, l: &Layout, module: u64) -> Option<u64> {
    let local = space.ptr_at(module, l.try_offset("Module", "DomainLocalModule")?).filter(|&p| p != 0)?;
    if local & 1 == 0 {
        return Some(local);
    }
    let domain = space.ptr(l.global("AppDomain").ok()?).filter(|&d| d != 0)?;
    let slots = space.ptr_at(domain, l.try_offset("AppDomain", "ModuleSlots")?)?;
    let count = space.ptr_at(domain, l.try_offset("AppDomain", "ModuleSlotCount")?)?;
    let index = Some(local >> 1).filter(|i| *i < count)?;
    space.ptr_at(slots, index.checked_mul(u64::from(space.ptr_size()))?).filter(|&p| p != 0)
}
