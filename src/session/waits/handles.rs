//! Wait handles: which object has which handle, and who owns a mutex.
//!
//! Source: dotnet/runtime v8.0 `System.Private.CoreLib/src/System/Threading/WaitHandle.cs` (`_waitHandle`), `SafeHandle.cs`
//! (`handle`); since 11.0 on Unix the handle leads to a managed object, `WaitSubsystem.Unix.cs`,
//! `WaitSubsystem.WaitableObject.Unix.cs`, `WaitSubsystem.ThreadWaitInfo.Unix.cs`, `NamedMutex.Unix.cs`; through 10.0 there
//! the platform adaptation layer knows the owner ([`crate::clr::runtime::pal`]), on Windows the system alone.

use rustc_hash::FxHashMap;

use super::kinds::Kind;
use super::{SAFE_HANDLE, Threads};
use crate::clr::runtime::pal::PalHandles;
use crate::session::Session;
use crate::session::value::Value;

/// The wait handles of the heap.
pub(super) struct Handles<'s> {
    session: &'s Session,
    /// The object by its `SafeWaitHandle`.
    by_safe: FxHashMap<u64, u64>,
    all: &'s [u64],
    pal: Option<PalHandles>,
}

/// Owner of a mutex, as address of a `Thread`, and how often it entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub thread: u64,
    pub count: u32,
}

impl<'s> Handles<'s> {
    pub(super) fn new(session: &'s Session, all: &'s [u64]) -> Self {
        let safe = |&a: &u64| Some((safe_handle(&session.value(a)?)?, a));
        let by_safe = all.iter().filter_map(safe).collect();
        let pal = session.clr().ok().filter(|_| !all.is_empty()).and_then(|clr| PalHandles::find(clr));
        Self { session, by_safe, all, pal }
    }

    /// The object of a `SafeWaitHandle`: the wait handle it belongs to, where there is one.
    pub(super) fn of_safe(&self, safe: u64) -> u64 {
        self.by_safe.get(&safe).copied().unwrap_or(safe)
    }

    /// What a wait for this object is called.
    pub(super) fn kind(&self, object: u64) -> Kind {
        let classes = self.session.value(object).map(|v| v.classes()).unwrap_or_default();
        Kind::of_handle(classes.iter().map(|c| &**c))
    }

    /// The operating system's handle, or what the core library has in its place.
    pub(super) fn handle(&self, object: u64) -> Option<u64> {
        let value = self.session.value(object)?;
        let safe = if &*value.type_name() == SAFE_HANDLE { value } else { self.session.value(safe_handle(&value)?)? };
        safe.pointer(&["handle", "_handle"]).filter(|&h| h != 0 && h != u64::MAX)
    }

    /// Who owns the mutex `object`.
    pub(super) fn owner(&self, object: u64, threads: &Threads<'_>) -> Option<Owner> {
        let (handle, clr) = (self.handle(object)?, self.session.clr().ok()?);
        // The layer has a table of handles since 11.0 too, but none of mutexes.
        if let Some(owner) = self.pal.and_then(|pal| pal.mutex_owner(clr, handle)) {
            let thread = self.session.clr_thread(owner.os_id)?;
            return Some(Owner { thread: thread.address, count: owner.count });
        }
        // The handle is one of the collector's, of the object that threads wait for.
        let waitable = self.session.value(clr.space().ptr(handle)?)?;
        if !waitable.type_name().starts_with("System.Threading.WaitSubsystem+") {
            return None;
        }
        if let Some(info) = waitable.object(&["_ownershipInfo"]) {
            let again = info.int(&["_reacquireCount"]).unwrap_or(0);
            let thread = threads.of_object(info.pointer(&["_thread"])?)?;
            return Some(Owner { thread, count: (again as u32).saturating_add(1) });
        }
        let named = waitable.object(&["_processDataHeader"])?.object(&["_processData"])?;
        let thread = threads.of_object(named.pointer(&["_lockOwnerThread"])?)?;
        Some(Owner { thread, count: named.int(&["_lockCount"]).map_or(1, |c| c as u32) })
    }

    /// The mutexes that are owned.
    pub(super) fn owned(&self, threads: &Threads<'_>) -> Vec<(u64, Owner)> {
        let mutexes = self.all.iter().filter(|&&o| self.kind(o) == Kind::Mutex);
        mutexes.filter_map(|&o| Some((o, self.owner(o, threads)?))).collect()
    }
}

/// The `SafeWaitHandle` of a wait handle.
fn safe_handle(value: &Value<'_>) -> Option<u64> {
    value.pointer(&["_waitHandle", "waitHandle", "safeWaitHandle"]).filter(|&s| s != 0)
}
