//! Who owns a mutex on Unix through 10.0: the objects behind the handles of the platform adaptation layer.
//!
//! Source: dotnet/runtime `src/coreclr/pal/src/include/pal/handlemgr.hpp` (`CSimpleHandleManager`: size and growth of the
//! table, then its address; entries of two words, the object first), `synchmgr/synchmanager.hpp` (`CSynchData`),
//! `include/pal/mutex.hpp` (`NamedMutexProcessData`). No symbol leads there: the table is the one that a runtime's object
//! with a table of handles in it has, and an owner is believed where process, thread and the thread's own record agree.

use crate::clr::Clr;

/// `c_BasicGrowthRate`: entries the table grows by.
const GROWTH: u32 = 1024;
/// Most entries: a process has fewer files than that; a table that claims more is none.
const MAX_ENTRIES: u32 = 1 << 24;
/// Bytes of an entry.
const ENTRY: u64 = 16;
/// Bytes of the object manager in which the handle table lies: behind two locks of at most 0x60 bytes each.
const MANAGER: u64 = 0x200;
/// Bytes of an object looked through for what it is synchronised by: behind two lists and a lock.
const OBJECT: u64 = 0x240;
/// Bytes of a `CPalThread` looked through for its id.
const THREAD: u64 = 0x400;
/// Words of an object's local data, and of the head of shared memory behind it.
const LOCAL: u64 = 8;
const HEAD: u64 = 12;
/// Offsets in `CSynchData` of the owner's process, behind how often it owns it and before its thread's id, and of its
/// `CPalThread`: since 10.0, and with the object's id in shared memory in front.
const OWNERS: [(u64, u64); 2] = [(36, 48), (52, 64)];
/// Offset of the count of `NamedMutexProcessData`, before its `CPalThread`: since 5.0, and with the shared part's address in
/// front.
const NAMED: [u64; 2] = [16, 24];
/// More often than this no thread enters a mutex.
const MAX_COUNT: u64 = 1 << 24;

/// The owner of a mutex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MutexOwner {
    /// Operating system id of the thread.
    pub os_id: u64,
    /// How often it owns it.
    pub count: u32,
}

/// The table of handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PalHandles {
    table: u64,
    size: u32,
}

impl PalHandles {
    /// Looks for the table; `None` where there is none: on Windows, since 11.0, and where its memory is missing.
    pub fn find(clr: &Clr) -> Option<Self> {
        if clr.ptr_size() != 8 {
            return None;
        }
        let module = &clr.found.module;
        let writable = clr.dump.map.iter().filter(|e| e.protect & 0xCC != 0);
        for e in writable.filter(|e| e.start < module.end && e.end > module.base) {
            let words = clr.space().words(e.start.max(module.base), e.end.min(module.end));
            let pointers = words.map(|w| w.1).filter(|&p| p > 0xFFFF && !module.holds(p));
            if let Some(found) = pointers.filter(|&p| is_object(clr, p)).find_map(|p| Self::inside(clr, p)) {
                return Some(found);
            }
        }
        None
    }

    fn inside(clr: &Clr, manager: u64) -> Option<Self> {
        let space = clr.space();
        (8..MANAGER).step_by(8).find_map(|o| {
            let at = manager.checked_add(o)?;
            let (size, growth) = (space.u32(at)?, space.u32(at.checked_add(4)?)?);
            if growth != GROWTH || size == 0 || size > MAX_ENTRIES || !size.is_multiple_of(GROWTH) {
                return None;
            }
            let table = space.ptr_at(at, 8)?;
            let last = table.checked_add(ENTRY * u64::from(size - 1))?;
            let found = Self { table, size };
            (space.readable(last) && (0..u64::from(GROWTH)).any(|i| found.entry(clr, i).is_some())).then_some(found)
        })
    }

    fn entry(&self, clr: &Clr, index: u64) -> Option<u64> {
        if index >= u64::from(self.size) {
            return None;
        }
        clr.space().ptr_at(self.table, ENTRY * index).filter(|&o| o > 0xFFFF && is_object(clr, o))
    }

    /// The thread that owns the mutex of a handle; `None` when nobody does, and when it is no mutex.
    pub fn mutex_owner(&self, clr: &Clr, handle: u64) -> Option<MutexOwner> {
        let object = self.entry(clr, (handle >> 2).checked_sub(1)?).filter(|_| handle & 3 == 0)?;
        (8..OBJECT).step_by(8).find_map(|o| {
            let data = clr.space().ptr_at(object, o).filter(|&d| d > 0xFFFF)?;
            local(clr, data).or_else(|| named(clr, data))
        })
    }
}

/// Whether an object of the runtime lies at `address`: it begins with a table of functions in the image.
fn is_object(clr: &Clr, address: u64) -> bool {
    clr.space().ptr(address).is_some_and(|v| clr.found.module.holds(v))
}

fn is_thread(clr: &Clr, os_id: u64) -> bool {
    os_id != 0 && clr.dump.thread_number(os_id).is_some()
}

/// The owner that the `CSynchData` at `data` names.
fn local(clr: &Clr, data: u64) -> Option<MutexOwner> {
    let space = clr.space();
    OWNERS.iter().find_map(|&(at, thread)| {
        let word = |o: u64| space.u32(data.checked_add(o)?).map(u64::from);
        let (count, process, os_id) = (word(at - 4)?, word(at)?, word(at + 4)?);
        let of_process = clr.dump.process.pid.is_none_or(|pid| pid == process);
        let agreed = of_process && (1..MAX_COUNT).contains(&count) && is_thread(clr, os_id);
        let same = agreed && thread_id(clr, space.ptr_at(data, thread)?) == Some(os_id);
        same.then_some(MutexOwner { os_id, count: count as u32 })
    })
}

/// The owner of a named mutex, whose object's local data is at `data`: a pointer to the head of its shared memory, which
/// points to the mutex, which points back.
fn named(clr: &Clr, data: u64) -> Option<MutexOwner> {
    let space = clr.space();
    for i in 0..LOCAL {
        let Some(head) = space.ptr_at(data, 8 * i).filter(|&h| h > 0xFFFF) else { continue };
        for j in 0..HEAD {
            let mutex = space.ptr_at(head, 8 * j).filter(|&m| m > 0xFFFF && space.ptr_at(m, 8) == Some(head));
            let Some(mutex) = mutex.filter(|&m| is_object(clr, m)) else { continue };
            let owner = NAMED.iter().find_map(|&at| {
                let (count, thread) = (space.ptr_at(mutex, at)?, space.ptr_at(mutex, at + 8)?);
                let os_id = Some(count).filter(|c| (1..MAX_COUNT).contains(c)).and_then(|_| thread_id(clr, thread))?;
                Some(MutexOwner { os_id, count: count as u32 })
            });
            if owner.is_some() {
                return owner;
            }
        }
    }
    None
}

/// Operating system id of the `CPalThread` at `address`: the first of its words that is the id of a thread of the dump.
fn thread_id(clr: &Clr, address: u64) -> Option<u64> {
    let space = clr.space();
    if address <= 0xFFFF {
        return None;
    }
    let whole = (0..THREAD).step_by(8).filter_map(|o| space.ptr_at(address, o)).find(|&id| is_thread(clr, id));
    let half = || {
        let words = (0..THREAD).step_by(4).filter_map(|o| space.u32(address.checked_add(o)?));
        words.map(u64::from).find(|&id| is_thread(clr, id))
    };
    whole.or_else(half)
}
