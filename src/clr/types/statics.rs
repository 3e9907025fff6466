//! Where static fields live, through every generation of statics storage.
//!
//! Through .NET 8: the `DomainLocalModule` of a module (dotnet/runtime v8.0 `src/coreclr/vm/appdomain.hpp`): references are
//! slots of a pinned `Object[]`, primitives lie behind the class flags. Since 9.0: `DynamicStaticsInfo` in front of a
//! type's auxiliary data (`methodtable.h`). Thread statics: `threadstatics.h` of the same versions.

use super::dynamicstatics::{self, Base, local_module};
use super::fielddesc::FieldDesc;
use super::fields::{Element, et};
use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::image::place;
use crate::clr::layout::Layout;
use crate::dump::AddressSpace;

/// Where a static field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its storage. A struct's storage holds a reference to a boxed copy through .NET 8, and so it does since.
    At(u64),
    /// In the image.
    Rva,
    /// The class was not initialised: it has no values yet but those the runtime itself puts in the storage, if there is
    /// any at this address (`String.Empty`).
    NotInitialised(Option<u64>),
    /// The type has no storage (open generic) or what leads to it is not in the dump.
    Nowhere,
}

impl Place {
    /// The address, when there is one.
    pub fn address(self) -> Option<u64> {
        match self {
            Place::At(a) => Some(a),
            _ => None,
        }
    }

    /// The address, of storage that was not initialised too.
    pub fn storage(self) -> Option<u64> {
        match self {
            Place::At(a) => Some(a),
            Place::NotInitialised(a) => a,
            _ => None,
        }
    }
}

/// Class flag bits in a `DomainLocalModule`: initialised; the initializer failed.
const CLASS_READY: u8 = 1;
const CLASS_FAILED: u8 = 2;

/// How far the initializer of a class has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassState {
    /// It is done, or there was nothing to do.
    Ready,
    /// It has not run, or is not done.
    NotReady,
    /// It ended with an exception.
    Failed,
}

/// How far the initializer of `mt` has come; `None` where that is not known.
pub fn class_state(clr: &Clr, mt: &MethodTable) -> Option<ClassState> {
    let (ready, failed) = if clr.layout().text("StaticsKind") == Some("DynamicStaticsInfo") {
        // The first word of the auxiliary data has the state too (`methodtable.h`: `enum_flag_Initialized`,
        // `enum_flag_IsInitError`): it is believed when it agrees with the pointers to the storage.
        const INITIALIZED: u32 = 1;
        const FAILED: u32 = 0x100;
        let info = statics_info(clr, mt)?;
        let bases = ["GCStatics", "NonGCStatics"].map(|f| {
            let at = clr.layout().try_offset("DynamicStaticsInfo", f)?;
            clr.space().ptr_at(info, at)
        });
        let ready = bases.iter().flatten().all(|b| b & 1 == 0);
        let flags = clr.space().u32(mt.aux)?;
        (ready, flags & INITIALIZED == 0 && flags & FAILED != 0 && !ready)
    } else if dynamicstatics::is_dynamic(mt) {
        let flags = dynamicstatics::flags(clr, mt)?;
        (flags & u32::from(CLASS_READY) != 0, flags & u32::from(CLASS_FAILED) != 0)
    } else {
        let flags = class_flags(clr, mt)?.1;
        (flags & CLASS_READY != 0, flags & CLASS_FAILED != 0)
    };
    Some(match (ready, failed) {
        (_, true) => ClassState::Failed,
        (true, false) => ClassState::Ready,
        (false, false) => ClassState::NotReady,
    })
}

/// The `DomainLocalModule` of a type of its own module, and the flags of the class there.
fn class_flags(clr: &Clr, mt: &MethodTable) -> Option<(u64, u8)> {
    let (space, l) = (clr.space(), clr.layout());
    let module = clr.defining_module(mt)?;
    if l.constant("InlineVtables").is_ok() {
        // In CLR 2.0 nothing that is known tells where instantiations have their own storage; types made at run time have too.
        (!mt.is_generic() && place::of_module(space, l, module).is_some()).then_some(())?;
    }
    let local = local_module(space, l, module)?;
    let rid = u64::from(clr.type_rid(mt)).checked_sub(1)?;
    let flags = space.u8(local.checked_add(l.try_offset("DomainLocalModule", "ClassFlags")?)?.checked_add(rid)?)?;
    Some((local, flags))
}

/// References and structs (boxed) lie in the storage of references, the rest with the primitives.
pub fn in_reference_storage(element: Element) -> bool {
    element.is_reference() || element.0 == et::STRUCT
}

/// Where the ordinary static field `field` of `mt` lives.
pub fn place(clr: &Clr, mt: &MethodTable, field: &FieldDesc, reference_storage: bool) -> Place {
    if clr.ahead().is_some() {
        // Who reads the field knows its place.
        return if field.address == 0 { Place::Nowhere } else { Place::At(field.address) };
    }
    if field.is_rva {
        return Place::Rva;
    }
    let found = if clr.layout().text("StaticsKind") == Some("DynamicStaticsInfo") {
        dynamic_info(clr, mt, reference_storage)
    } else {
        domain_local(clr, mt, reference_storage)
    };
    match found {
        Some(Ok(base)) => base.checked_add(u64::from(field.offset)).map_or(Place::Nowhere, Place::At),
        Some(Err(base)) => Place::NotInitialised(base.and_then(|b| b.checked_add(u64::from(field.offset)))),
        None => Place::Nowhere,
    }
}

/// Base of a type's statics since 9.0. Bit 0 of the pointer is set until the class is initialised.
fn dynamic_info(clr: &Clr, mt: &MethodTable, reference: bool) -> Option<Base> {
    let (space, l) = (clr.space(), clr.layout());
    let info = statics_info(clr, mt)?;
    let which = if reference { "GCStatics" } else { "NonGCStatics" };
    let base = space.ptr_at(info, l.try_offset("DynamicStaticsInfo", which)?)?;
    if base & !1 == 0 {
        return None;
    }
    Some(if base & 1 != 0 { Err(Some(base & !1)) } else { Ok(base) })
}

fn domain_local(clr: &Clr, mt: &MethodTable, reference: bool) -> Option<Base> {
    if mt.is_open_generic() {
        return None;
    }
    if dynamicstatics::is_dynamic(mt) {
        dynamicstatics::base(clr, mt, reference)
    } else {
        module_local(clr, mt, reference)
    }
}

fn module_local(clr: &Clr, mt: &MethodTable, reference: bool) -> Option<Base> {
    let (space, l) = (clr.space(), clr.layout());
    let (local, flags) = class_flags(clr, mt)?;
    let base = match reference {
        true => space.ptr_at(local, l.try_offset("DomainLocalModule", "GCStatics")?).filter(|&b| b != 0),
        false => Some(local),
    };
    if flags & CLASS_READY == 0 {
        return Some(Err(base));
    }
    base.map(Ok)
}

/// Whether the instantiation `mt` may have static fields of its own; a cheap test before its fields are read.
pub fn may_have(clr: &Clr, mt: &MethodTable) -> bool {
    match clr.layout().text("StaticsKind") {
        Some("DynamicStaticsInfo") => statics_info(clr, mt).is_some(),
        _ => dynamicstatics::is_dynamic(mt),
    }
}

/// The `DynamicStaticsInfo` in front of the auxiliary data of `mt`, which leads back to it.
fn statics_info(clr: &Clr, mt: &MethodTable) -> Option<u64> {
    let (space, l) = (clr.space(), clr.layout());
    let info = mt.aux.checked_sub(l.try_offset("DynamicStaticsInfo", "!")?)?;
    let back = space.ptr_at(info, l.try_offset("DynamicStaticsInfo", "MethodTable")?)?;
    (back == mt.address).then_some(info)
}

/// Whether the place of the statics of `mt` is its own, not the module's, through .NET 8: where readers that know the
/// module's alone look in vain.
pub fn has_own_storage(clr: &Clr, mt: &MethodTable) -> bool {
    clr.layout().text("StaticsKind") != Some("DynamicStaticsInfo") && dynamicstatics::is_dynamic(mt) && !mt.is_generic()
}

/// Where the ordinary static field would be if the module kept it ([`has_own_storage`]).
pub fn place_in_module(clr: &Clr, mt: &MethodTable, field: &FieldDesc, reference: bool) -> Option<u64> {
    module_local(clr, mt, reference)?.ok()?.checked_add(u64::from(field.offset))
}

/// Where the thread static would be if the thread's block of the module kept it ([`has_own_storage`]).
pub fn thread_place_in_module(
    clr: &Clr,
    thread: u64,
    mt: &MethodTable,
    field: &FieldDesc,
    reference: bool,
) -> Option<u64> {
    let block = block_of(clr, thread, clr.defining_module(mt)?)?;
    in_block(clr, block, reference)?.checked_add(u64::from(field.offset))
}

/// Where the thread static `field` of `mt` lives for the thread at `thread`; `None` when the thread never used it.
pub fn thread_place(clr: &Clr, thread: u64, mt: &MethodTable, field: &FieldDesc, reference: bool) -> Option<u64> {
    let base = if clr.layout().text("StaticsKind") == Some("DynamicStaticsInfo") {
        tls_index(clr, thread, mt, reference)?
    } else {
        thread_local_module(clr, thread, mt, reference)?
    };
    base.checked_add(u64::from(field.offset))
}

/// Whether the type has storage for thread statics since 9.0; a cheap test before its fields are read.
pub fn has_thread_statics(clr: &Clr, mt: &MethodTable) -> bool {
    let (space, l) = (clr.space(), clr.layout());
    let index = || {
        statics_info(clr, mt)?;
        let info = mt.aux.checked_sub(l.try_offset("ThreadStaticsInfo", "!")?)?;
        space.u32(info.checked_add(l.try_offset("ThreadStaticsInfo", "GCTlsIndex")?)?)
    };
    index().is_some_and(|i| i != NO_INDEX)
}

/// Through .NET 8: a table of per-module blocks, whose references are an `Object[]` behind a handle. An instantiation, and a
/// type of an assembly that can be unloaded or was made at run time, has an entry of its own in the block of its loader
/// module; an open generic has no storage, but like the field's tools we give the place its offset has in the module's
/// block, and the caller says that the type is open.
fn thread_local_module(clr: &Clr, thread: u64, mt: &MethodTable, reference: bool) -> Option<u64> {
    if dynamicstatics::is_dynamic(mt) && !mt.is_open_generic() {
        let block = block_of(clr, thread, mt.module)?;
        return dynamicstatics::thread_base(clr, mt, block, reference);
    }
    let block = block_of(clr, thread, clr.defining_module(mt)?)?;
    in_block(clr, block, reference)
}

/// Through .NET 8: the `ThreadLocalBlock` of the thread at `thread`. It is part of the `Thread` since 3.0; through 2.2 there
/// was one for each app domain, and the thread points at the one of its own (dotnet/coreclr v2.1 `src/vm/threads.h`,
/// `m_pThreadLocalBlock`).
pub fn local_block(space: &AddressSpace, l: &Layout, thread: u64) -> Option<u64> {
    let at = thread.checked_add(l.try_offset("Thread", "ThreadLocalBlock")?)?;
    if l.constant("ThreadLocalBlockIsPointer").is_ok() { space.ptr(at) } else { Some(at) }
}

/// Base of the thread statics of all plain types of a module, in the thread's `block`.
fn in_block(clr: &Clr, block: u64, reference: bool) -> Option<u64> {
    if !reference {
        return Some(block);
    }
    let handle = clr.space().ptr_at(block, clr.layout().try_offset("ThreadLocalModule", "GCStatics")?)?;
    dynamicstatics::first_element(clr, clr.space().ptr(handle)?)
}

/// The block the thread at `thread` has for `module`.
fn block_of(clr: &Clr, thread: u64, module: u64) -> Option<u64> {
    let (space, l, ptr) = (clr.space(), clr.layout(), u64::from(clr.ptr_size()));
    let local = local_module(space, l, module)?;
    let blocks = local_block(space, l, thread)?;
    let table = space.ptr_at(blocks, l.try_offset("ThreadLocalBlock", "Table")?).filter(|&t| t != 0)?;
    let count = space.ptr_at(blocks, l.try_offset("ThreadLocalBlock", "Size")?)?;
    let index = space.u32(local.checked_add(l.try_offset("DomainLocalModule", "ModuleIndex")?)?)?;
    if index >= 1 << 16 || u64::from(index) >= count {
        return None;
    }
    space.ptr_at(table, u64::from(index) * ptr).filter(|&b| b != 0)
}

/// `TLSIndex`: none.
const NO_INDEX: u32 = u32::MAX;
/// Types of index, in the top byte: an entry of the table, one of the table of collectible types (whose entries are
/// handles), or directly in the thread's own data.
const IN_TABLE: u32 = 0;
const COLLECTIBLE_TABLE: u32 = 1;
const DIRECT: u32 = 2;
/// Bound on the list of entries being set up: a thread sets up one class while another waits for it, as deep as its
/// initialisers call each other.
const MAX_IN_FLIGHT: usize = 4096;

/// Since 9.0: an index per type and kind of storage.
fn tls_index(clr: &Clr, thread: u64, mt: &MethodTable, reference: bool) -> Option<u64> {
    let (space, l, ptr) = (clr.space(), clr.layout(), u64::from(clr.ptr_size()));
    statics_info(clr, mt)?;
    // The thread part stands in front of the ordinary one and shares its end.
    let info = mt.aux.checked_sub(l.try_offset("ThreadStaticsInfo", "!")?)?;
    let which = if reference { "GCTlsIndex" } else { "NonGCTlsIndex" };
    let index = space.u32(info.checked_add(l.try_offset("ThreadStaticsInfo", which)?)?)?;
    let data = space.ptr_at(thread, l.try_offset("Thread", "ThreadLocalDataPtr")?).filter(|&d| d != 0)?;
    if index == NO_INDEX {
        return None;
    }
    let slot = u64::from(index & 0x00FF_FFFF);
    match index >> 24 {
        DIRECT => data.checked_add(slot),
        IN_TABLE => {
            let count = space.u32(data.checked_add(l.try_offset("ThreadLocalData", "NonCollectibleTlsDataCount")?)?)?;
            let array = space.ptr_at(data, l.try_offset("ThreadLocalData", "NonCollectibleTlsArrayData")?)?;
            let entry = if slot < u64::from(count) && array != 0 { space.ptr_at(array, slot * ptr)? } else { 0 };
            if entry != 0 { Some(entry) } else { in_flight(clr, data, index) }
        }
        COLLECTIBLE_TABLE => {
            let count = space.u32(data.checked_add(l.try_offset("ThreadLocalData", "CollectibleTlsDataCount")?)?)?;
            let array = space.ptr_at(data, l.try_offset("ThreadLocalData", "CollectibleTlsArrayData")?)?;
            let handle = if slot < u64::from(count) && array != 0 { space.ptr_at(array, slot * ptr)? } else { 0 };
            let entry = if handle == 0 { 0 } else { space.ptr(handle)? };
            if entry != 0 { Some(entry) } else { in_flight(clr, data, index) }
        }
        _ => None,
    }
}

/// Where the thread at `thread` keeps the `Object[]` of its thread statics, since 9.0.
pub fn thread_array(clr: &Clr, thread: u64) -> Option<u64> {
    let (space, l) = (clr.space(), clr.layout());
    let data = space.ptr_at(thread, l.try_offset("Thread", "ThreadLocalDataPtr")?).filter(|&d| d != 0)?;
    data.checked_add(l.try_offset("ThreadLocalData", "NonCollectibleTlsArrayData")?)
}

/// An entry that was being set up is on a list of its own until the table has it.
fn in_flight(clr: &Clr, data: u64, index: u32) -> Option<u64> {
    let (space, l) = (clr.space(), clr.layout());
    let mut node = space.ptr_at(data, l.try_offset("ThreadLocalData", "InFlightData")?)?;
    for _ in 0..MAX_IN_FLIGHT {
        if node == 0 {
            return None;
        }
        if space.u32(node.checked_add(l.try_offset("InFlightTLSData", "TlsIndex")?)?)? == index {
            let handle = space.ptr_at(node, l.try_offset("InFlightTLSData", "TLSData")?).filter(|&h| h != 0)?;
            return space.ptr(handle).filter(|&o| o != 0);
        }
        node = space.ptr_at(node, l.try_offset("InFlightTLSData", "Next")?)?;
    }
    None
}
