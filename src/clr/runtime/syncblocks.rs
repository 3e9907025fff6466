//! Sync blocks and thin locks.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/syncblk.h` (object header bits, `SyncTableEntry`, `AwareLock`); since 11.0
//! `docs/design/datacontracts/SyncBlock.md` and `System.Private.CoreLib/src/System/Threading/Lock.cs`.

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::Missing;

/// Bound on entries: the index has 26 bits.
const MAX_ENTRIES: u64 = 1 << 26;
/// Entries in a row that are neither used nor free end the table.
const MAX_GAP: u32 = 4096;
/// `BIT_SBLK_IS_HASH_OR_SYNCBLKINDEX`.
const HASH_OR_INDEX: u32 = 0x0800_0000;
/// `BIT_SBLK_IS_HASHCODE`.
const IS_HASH: u32 = 0x0400_0000;
/// `BIT_SBLK_SPIN_LOCK`.
const SPIN_LOCK: u32 = 0x1000_0000;
const INDEX: u32 = 0x03FF_FFFF;

/// One sync block in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncBlock {
    /// Index in the table, from 1.
    pub index: u32,
    /// Address of the block.
    pub address: u64,
    /// The object it belongs to.
    pub object: u64,
    /// Whether its monitor is held.
    pub held: bool,
    /// How often the owner entered it: 1 for a monitor entered once.
    pub recursion: u32,
    /// Owner: a `Thread` address, or a managed id where the runtime stores ids (10.0 and later).
    pub owner: u64,
    /// Threads waiting to enter.
    pub waiters: u32,
}

/// Sync block index in an object's header word, if it has one.
pub fn index_of(header: u32) -> Option<u32> {
    (header & (HASH_OR_INDEX | IS_HASH) == HASH_OR_INDEX).then_some(header & INDEX).filter(|&i| i != 0)
}

/// Managed thread id and recursion of a thin lock in an object's header word.
pub fn thin_lock(header: u32) -> Option<(u32, u32)> {
    if header & (HASH_OR_INDEX | SPIN_LOCK) != 0 {
        return None;
    }
    let id = header & 0xFFFF;
    (id != 0).then_some((id, header >> 16 & 0x3F))
}

/// All sync blocks in use. The table does not say how long it is: entries are read as long as they are used (the
/// object's header leads back), free (a tagged index) or empty.
pub fn read(clr: &Clr) -> Result<Gathered<SyncBlock>, Missing> {
    let mut out = Gathered::default();
    let (space, l) = (clr.space(), clr.layout());
    let Some(table) = space.ptr(l.global("SyncTableEntries")?).filter(|&t| t != 0) else {
        out.because("the sync table is not in the dump");
        return Ok(out);
    };
    let size = l.offset("SyncTableEntry", "!")?;
    let (block_at, object_at) = (l.offset("SyncTableEntry", "SyncBlock")?, l.offset("SyncTableEntry", "Object")?);
    let mut gap = 0;
    for i in 1..MAX_ENTRIES {
        let Some(entry) = table.checked_add(i * size) else { break };
        let Some(object) = space.ptr_at(entry, object_at) else { break };
        let address = space.ptr_at(entry, block_at).unwrap_or(0);
        // A mini dump has the table and its blocks, but not the objects: then the block says whose entry it is. (Entries
        // behind those given out are memory never written; their number is not in the dump.)
        let leads_back = match object.checked_sub(4).and_then(|a| space.u32(a)) {
            Some(header) => index_of(header) == Some(i as u32),
            None => {
                let own = l.try_offset("SyncBlock", "Index").and_then(|o| space.u32(address.checked_add(o)?));
                object.is_multiple_of(u64::from(clr.ptr_size())) && own.is_some_and(|o| o & INDEX == i as u32)
            }
        };
        let used = object != 0 && object & 1 == 0 && leads_back;
        if !used {
            gap += 1;
            if gap > MAX_GAP || (object & 1 == 0 && object != 0) {
                break;
            }
            continue;
        }
        gap = 0;
        if !space.readable(address) {
            out.because(format!("sync block {address:x} is not in the dump: who holds its monitor is not known"));
        }
        let monitor = monitor(clr, address).unwrap_or_else(|why| {
            out.because(format!("who holds the monitor of sync block {i} is not known: {why}"));
            Monitor::default()
        });
        let Monitor { held, recursion, owner, waiters } = monitor;
        out.items.push(SyncBlock { index: i as u32, address, object, held, recursion, owner, waiters });
    }
    Ok(out)
}

/// The state of a monitor.
#[derive(Default)]
struct Monitor {
    held: bool,
    recursion: u32,
    owner: u64,
    waiters: u32,
}

impl Monitor {
    /// By the state word that `AwareLock` and `Lock` share: bit 0 held, waiters from bit 6 on.
    fn of(state: u32, recursion: u32, owner: u64) -> Self {
        Self { held: state & 1 != 0, recursion, owner, waiters: state >> 6 }
    }
}

fn monitor(clr: &Clr, block: u64) -> Result<Monitor, Missing> {
    let (space, l) = (clr.space(), clr.layout());
    let at = |f| -> Result<u64, Missing> { Ok(block.saturating_add(l.offset("SyncBlock", f)?)) };
    if l.text("SyncBlockOwner") == Some("lock") {
        let handle = space.ptr(at("Lock")?).unwrap_or(0);
        return if handle == 0 { Ok(thin(clr, space.u32(at("ThinLock")?).unwrap_or(0))) } else { lock(clr, handle) };
    }
    let owner = match l.text("SyncBlockOwner") {
        Some("id") => space.u32(at("Owner")?).map(u64::from),
        _ => space.ptr(at("Owner")?),
    };
    let (state, recursion) = (space.u32(at("LockState")?).unwrap_or(0), space.u32(at("Recursion")?).unwrap_or(0));
    Ok(Monitor::of(state, recursion, owner.unwrap_or(0)))
}

/// A thin lock moved into the sync block, since 11.0: the bits it had in the object's header.
fn thin(clr: &Clr, bits: u32) -> Monitor {
    let constant = |name, else_| clr.layout().constant(name).map_or(else_, |v| v as u32);
    let owner = bits & constant("SyncBlockMaskLockThreadId", 0xFFFF);
    let levels = bits & constant("SyncBlockMaskLockRecursionLevel", 0x3F_0000);
    let levels = levels.checked_shr(constant("SyncBlockRecursionLevelShift", 16)).unwrap_or(0);
    match owner {
        0 => Monitor::default(),
        _ => Monitor { held: true, recursion: levels + 1, owner: owner.into(), waiters: 0 },
    }
}

/// A monitor of 11.0 with waiters or a condition: the `System.Threading.Lock` behind the handle.
fn lock(clr: &Clr, handle: u64) -> Result<Monitor, Missing> {
    let space = clr.space();
    let object = [space.ptr(handle), Some(handle)].into_iter().flatten().find_map(|object| {
        let mt = clr.object_type(object)?;
        clr.valid_method_table(mt).map(|_| (object, mt))
    });
    let (object, mt) = object.ok_or_else(|| Missing(format!("object behind the handle {handle:x} of a lock")))?;
    let fields = clr.fields(mt);
    let word = |name: &str| {
        let field = fields.instance.iter().find(|f| &*f.name == name);
        let at = field.and_then(|f| object.checked_add(clr.header())?.checked_add(f.offset()));
        at.and_then(|a| space.u32(a)).ok_or_else(|| Missing(format!("field {name} of the lock {object:x}")))
    };
    let (state, owner, again) = (word("_state")?, word("_owningThreadId")?, word("_recursionCount")?);
    let recursion = if state & 1 != 0 { again.saturating_add(1) } else { 0 };
    Ok(Monitor::of(state, recursion, owner.into()))
}

impl SyncBlock {
    /// What SOS calls MonitorHeld: 1 for the owner and 2 for each thread that waits to enter. Not 0 either for a
    /// monitor just left whose next owner has not woken up.
    pub fn monitor_held(&self) -> u32 {
        u32::from(self.held) + 2 * self.waiters
    }

    /// Address of the owning `Thread`, 0 when the monitor is free.
    pub fn owner_thread(&self, clr: &Clr) -> u64 {
        if !self.held {
            return 0;
        }
        if !matches!(clr.layout().text("SyncBlockOwner"), Some("id" | "lock")) {
            return self.owner;
        }
        let threads = clr.threads();
        threads.items.iter().find(|t| u64::from(t.managed_id) == self.owner).map_or(0, |t| t.address)
    }
}
