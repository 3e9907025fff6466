//! Locks: one model for the monitors of every runtime and for `System.Threading.Lock`.
//!
//! Source: dotnet/runtime `src/coreclr/vm/syncblk.h` (`AwareLock` through 10.0; bits of an object's header),
//! `System.Private.CoreLib/src/System/Threading/Lock.cs` and `Condition.cs`. A `Lock` (9.0 and later) names its owner by
//! the operating system's id of the thread through 10.0 and by the managed id since; since 11.0 a contended monitor is a
//! `Lock` too, and its `Monitor.Wait` a `Condition`.

use rustc_hash::FxHashMap;

use crate::clr::Clr;
use crate::clr::layout::Missing;
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::fields::{Field, et};
use crate::clr::types::methodtable::MethodTable;

/// Full names of the classes of the core library.
pub const LOCK: &str = "System.Threading.Lock";
/// What waits in `Monitor.Wait`, since 11.0.
pub const CONDITION: &str = "System.Threading.Condition";

/// Waiting threads of an `AwareLock` are counted from bit 6 of its state on.
const AWARE_WAITERS: u32 = 6;
/// Those of a `Lock` from bit 7 on: bit 6 says that it waits without a `SynchronizationContext`.
const LOCK_WAITERS: u32 = 7;

/// What keeps the state of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// A monitor in the header of its object.
    Thin,
    /// A monitor in the sync block of its object.
    Monitor,
    /// A `System.Threading.Lock` of its own.
    Lock,
}

impl LockKind {
    /// What a program takes: `Monitor` or `Lock`.
    pub fn name(self) -> &'static str {
        match self {
            LockKind::Thin | LockKind::Monitor => "Monitor",
            LockKind::Lock => "Lock",
        }
    }
}

/// One lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// What keeps its state.
    pub kind: LockKind,
    /// Where that is: the object, its sync block, the `Lock`.
    pub address: u64,
    /// The object the program locks; a `Lock` itself.
    pub object: u64,
    /// Whether it is held.
    pub held: bool,
    /// Address of the `Thread` that holds it; 0 for none, and where a thread of that id is not in the list.
    pub owner: u64,
    /// How often the owner entered it: 1 when once, 0 when it is free.
    pub count: u32,
    /// Threads that wait to enter.
    pub waiters: u32,
}

impl Lock {
    /// A lock nobody holds.
    pub fn free(kind: LockKind, address: u64, object: u64) -> Self {
        Self { kind, address, object, held: false, owner: 0, count: 0, waiters: 0 }
    }

    /// What SOS calls MonitorHeld: 1 for the owner and 2 for each thread that waits to enter. Not 0 either for a lock
    /// just left whose next owner has not woken up.
    pub fn monitor_held(&self) -> u32 {
        u32::from(self.held).saturating_add(self.waiters.saturating_mul(2))
    }
}

/// The threads by what a lock knows of its owner.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    by_address: FxHashMap<u64, &'a ClrThread>,
    by_id: FxHashMap<u32, &'a ClrThread>,
    by_os_id: FxHashMap<u64, &'a ClrThread>,
}

impl<'a> Owners<'a> {
    /// The threads of the list. An id given to another thread since is that of the living one.
    pub fn of(clr: &'a Clr) -> Self {
        let mut all = Self::default();
        for t in &clr.threads().items {
            all.by_address.insert(t.address, t);
            if t.managed_id != 0 && (!t.is_dead() || !all.by_id.contains_key(&t.managed_id)) {
                all.by_id.insert(t.managed_id, t);
            }
            if t.os_id != 0 && (!t.is_dead() || !all.by_os_id.contains_key(&t.os_id)) {
                all.by_os_id.insert(t.os_id, t);
            }
        }
        all
    }

    /// The thread whose `Thread` is at `address`.
    pub fn thread(&self, address: u64) -> Option<&'a ClrThread> {
        self.by_address.get(&address).copied()
    }

    /// The living thread of a managed id.
    pub fn living(&self, managed_id: u32) -> Option<&'a ClrThread> {
        self.by_id.get(&managed_id).copied().filter(|t| !t.is_dead())
    }

    fn address_of_id(&self, managed_id: u32) -> u64 {
        self.by_id.get(&managed_id).map_or(0, |t| t.address)
    }
}

/// Which bits of an object's header, or of a sync block's copy of them, say who holds a thin lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinBits {
    id: u32,
    levels: u32,
    shift: u32,
}

impl ThinBits {
    /// Those of the dump's runtime: since 8.0 an id of 16 bits with six bits of further entries above it, before an id of
    /// ten bits with the six above that.
    pub fn of(clr: &Clr) -> Self {
        let constant = |name, else_| clr.layout().constant(name).map_or(else_, |v| v as u32);
        Self {
            id: constant("SyncBlockMaskLockThreadId", 0xFFFF),
            levels: constant("SyncBlockMaskLockRecursionLevel", 0x3F_0000),
            shift: constant("SyncBlockRecursionLevelShift", 16),
        }
    }

    /// Managed id of the owner, and how often it entered again: 0 when once. `None` when nobody holds it.
    pub fn owner(&self, bits: u32) -> Option<(u32, u32)> {
        let again = (bits & self.levels).checked_shr(self.shift).unwrap_or(0);
        Some((bits & self.id, again)).filter(|o| o.0 != 0)
    }

    /// The monitor of `object` that these bits, kept at `address`, are; held by a thread of the list or by none.
    pub fn lock(&self, bits: u32, kind: LockKind, address: u64, object: u64, owners: &Owners<'_>) -> Lock {
        let free = Lock::free(kind, address, object);
        let Some((id, again)) = self.owner(bits) else { return free };
        Lock { held: true, owner: owners.address_of_id(id), count: again.saturating_add(1), ..free }
    }
}

/// The monitor in a sync block through 10.0.
pub fn aware_lock(clr: &Clr, block: u64, object: u64, owners: &Owners<'_>) -> Result<Lock, Missing> {
    let (space, l) = (clr.space(), clr.layout());
    let at = |f| -> Result<u64, Missing> { Ok(block.saturating_add(l.offset("SyncBlock", f)?)) };
    let owner = match l.text("SyncBlockOwner") {
        Some("id") => space.u32(at("Owner")?).map_or(0, |id| owners.address_of_id(id)),
        _ => space.ptr(at("Owner")?).unwrap_or(0),
    };
    let (state, count) = (space.u32(at("LockState")?).unwrap_or(0), space.u32(at("Recursion")?).unwrap_or(0));
    let held = state & 1 != 0;
    Ok(Lock {
        kind: LockKind::Monitor,
        address: block,
        object,
        held,
        owner: if held { owner } else { 0 },
        count,
        waiters: state >> AWARE_WAITERS,
    })
}

/// Whom `_owningThreadId` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Managed,
    Os(u8),
}

/// The class `System.Threading.Lock`: where its fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockClass {
    /// Its MethodTable.
    pub mt: u64,
    /// Offsets in an object.
    state: u64,
    owner: u64,
    again: u64,
    id: Id,
}

impl LockClass {
    /// The class with MethodTable `mt`.
    pub fn of(clr: &Clr, mt: u64) -> Result<Self, Missing> {
        let refused = |what: &str| Missing(format!("{what} of {LOCK}"));
        let table = clr.valid_method_table(mt).ok_or_else(|| refused("the MethodTable"))?;
        let named = !clr.is_unnamed(mt);
        if named && &*clr.type_name(mt) != LOCK || table.has_component_size() {
            return Err(Missing(format!("a {LOCK}: {mt:x} is the MethodTable of something else")));
        }
        let (fields, ptr) = (clr.fields(mt), clr.header());
        // Without metadata the order stands: a reference, then the owner, the state, the further entries.
        let place = |name: &str, known: u64| match fields.instance.iter().find(|f| &*f.name == name) {
            Some(f) => Ok((ptr.saturating_add(f.offset()), f.element.0)),
            None if !named => Ok((known, et::I4)),
            None => Err(refused(name)),
        };
        let (owner, element) = place("_owningThreadId", 2 * ptr)?;
        let id = match element {
            et::U4 => Id::Os(4),
            et::U8 => Id::Os(8),
            _ => Id::Managed,
        };
        let (state, again) = (place("_state", 2 * ptr + 4)?.0, place("_recursionCount", 2 * ptr + 8)?.0);
        let inside = |at: u64| at.saturating_add(4) <= u64::from(table.base_size);
        if ![state, owner, again].into_iter().all(inside) {
            return Err(refused("a field"));
        }
        Ok(Self { mt, state, owner, again, id })
    }

    /// The lock at `object`, which is of this class.
    pub fn read(&self, clr: &Clr, object: u64, owners: &Owners<'_>) -> Option<Lock> {
        let word = |at: u64| clr.space().u32(object.checked_add(at)?);
        let (state, again) = (word(self.state)?, word(self.again)?);
        let held = state & 1 != 0;
        let owner = match self.id {
            Id::Managed => owners.address_of_id(word(self.owner)?),
            Id::Os(8) => {
                owners.by_os_id.get(&clr.space().u64(object.checked_add(self.owner)?)?).map_or(0, |t| t.address)
            }
            Id::Os(_) => owners.by_os_id.get(&u64::from(word(self.owner)?)).map_or(0, |t| t.address),
        };
        Some(Lock {
            kind: LockKind::Lock,
            address: object,
            object,
            held,
            owner: if held { owner } else { 0 },
            count: if held { again.saturating_add(1) } else { 0 },
            waiters: state >> LOCK_WAITERS,
        })
    }

    /// As the monitors of 11.0 use it: they name their owner by its managed id.
    pub fn of_monitors(self) -> Self {
        Self { id: Id::Managed, ..self }
    }
}

/// The objects of class `Lock` met so far, read through one class.
#[derive(Debug, Default)]
pub struct LockReader {
    class: Option<LockClass>,
}

impl LockReader {
    /// The class of the object at `address`, when it is a `Lock`.
    pub fn class(&mut self, clr: &Clr, address: u64) -> Result<LockClass, Missing> {
        let mt = clr.object_type(address).ok_or_else(|| Missing(format!("object {address:x} of a lock")))?;
        if let Some(class) = self.class.filter(|c| c.mt == mt) {
            return Ok(class);
        }
        let class = LockClass::of(clr, mt)?;
        self.class = Some(class);
        Ok(class)
    }

    /// The object behind a handle, or at that address itself, that is a `Lock`.
    pub fn behind(&mut self, clr: &Clr, handle: u64) -> Result<(u64, LockClass), Missing> {
        let mut why = Missing(format!("object behind the handle {handle:x} of a lock"));
        for object in [clr.space().ptr(handle), Some(handle)].into_iter().flatten().filter(|&o| o != 0) {
            match self.class(clr, object) {
                Ok(class) => return Ok((object, class)),
                Err(missing) => why = missing,
            }
        }
        Err(why)
    }
}

/// The `Lock` of the `Condition` at `address`: its field `_lock`, without metadata the first reference that is a lock.
pub fn lock_of_condition(clr: &Clr, address: u64, reader: &mut LockReader) -> Option<(u64, LockClass)> {
    let mt: MethodTable = clr.valid_method_table(clr.object_type(address)?)?;
    let named = !clr.is_unnamed(mt.address);
    if named && &*clr.type_name(mt.address) != CONDITION {
        return None;
    }
    let fields = clr.fields(mt.address);
    let field = |f: &&Field| &*f.name == "_lock";
    let at = match fields.instance.iter().find(field) {
        Some(f) => clr.header().checked_add(f.offset())?,
        None if !named => clr.header(),
        None => return None,
    };
    let lock = clr.space().ptr_at(address, at)?;
    Some((lock, reader.class(clr, lock).ok()?))
}
