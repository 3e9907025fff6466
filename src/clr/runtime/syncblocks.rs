//! Sync blocks, and what an object's header word says.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/syncblk.h` (object header bits, `SyncTableEntry`); since 11.0
//! `docs/design/datacontracts/SyncBlock.md`. Their monitors: [`locks`].

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::Missing;
use crate::clr::runtime::locks::{self, Lock, LockKind, LockReader, Owners, ThinBits};

/// Bound on entries: the index has 26 bits.
const MAX_ENTRIES: u64 = 1 << 26;
/// Entries in a row that are neither used nor free end the table; those on the list of the free ones, of which there may be
/// any number, do not count.
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
    /// Its monitor.
    pub monitor: Lock,
    /// The `System.Threading.Lock` its monitor is, since 11.0; 0 for none.
    pub lock_object: u64,
}

/// Sync block index in an object's header word, if it has one.
pub fn index_of(header: u32) -> Option<u32> {
    (header & (HASH_OR_INDEX | IS_HASH) == HASH_OR_INDEX).then_some(header & INDEX).filter(|&i| i != 0)
}

/// The bits of an object's header word that say who holds its thin lock, if they may: an index or a hash code is none.
pub fn thin_bits(header: u32) -> Option<u32> {
    (header & (HASH_OR_INDEX | SPIN_LOCK) == 0).then_some(header)
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
    let (owners, thin, mut locks) = (Owners::of(clr), ThinBits::of(clr), LockReader::default());
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
        // The list of free entries: each has the number of the next, above a set bit.
        if object & 1 == 1 && object >> 1 < MAX_ENTRIES {
            continue;
        }
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
        let read = monitor(clr, (address, object), &owners, thin, &mut locks);
        let (monitor, lock_object) = read.unwrap_or_else(|why| {
            out.because(format!("who holds the monitor of sync block {i} is not known: {why}"));
            (Lock::free(LockKind::Monitor, address, object), 0)
        });
        out.items.push(SyncBlock { index: i as u32, address, object, monitor, lock_object });
    }
    Ok(out)
}

/// The monitor of a block and its object, and the `Lock` it is.
fn monitor(
    clr: &Clr,
    (block, object): (u64, u64),
    owners: &Owners<'_>,
    thin: ThinBits,
    locks: &mut LockReader,
) -> Result<(Lock, u64), Missing> {
    let (space, l) = (clr.space(), clr.layout());
    if l.text("SyncBlockOwner") != Some("lock") {
        return Ok((locks::aware_lock(clr, block, object, owners)?, 0));
    }
    let at = |f| -> Result<u64, Missing> { Ok(block.saturating_add(l.offset("SyncBlock", f)?)) };
    let handle = space.ptr(at("Lock")?).unwrap_or(0);
    if handle == 0 {
        let bits = space.u32(at("ThinLock")?).unwrap_or(0);
        return Ok((thin.lock(bits, LockKind::Monitor, block, object, owners), 0));
    }
    let (address, class) = locks.behind(clr, handle)?;
    let unread = || Missing(format!("fields of the lock {address:x}"));
    let lock = class.of_monitors().read(clr, address, owners).ok_or_else(unread)?;
    Ok((Lock { kind: LockKind::Monitor, address: block, object, ..lock }, address))
}
