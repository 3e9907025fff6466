//! Monitors that do not fit an object's header: the sync table, which is managed.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/System.Private.CoreLib/src/System/Threading/SyncTable.cs`, `Monitor.NativeAot.cs`,
//! `Lock.NativeAot.cs` (8.0) and `src/libraries/System.Private.CoreLib/src/System/Threading/Lock.cs`. An entry has the
//! `Lock`, and a dependent handle whose primary is the object it belongs to.

use crate::clr::gathered::Gathered;
use crate::clr::runtime::locks::{Lock, LockKind};
use crate::clr::runtime::syncblocks::{self, SyncBlock};
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::typename::TypeName;

use super::Aot;

/// The table's class.
const ENTRY: &str = "System.Threading.SyncTable+Entry";
/// Bound on entries: the index has 26 bits.
const MAX_ENTRIES: u32 = 1 << 26;

impl Aot {
    /// The sync table: the longest of its arrays that a static field holds.
    fn sync_table(&self) -> Option<(u64, u32)> {
        let space = &self.dump.space;
        let nameless = self.types.all().is_empty();
        let is_table = |mt: u64| match self.types.tree(mt, 0) {
            TypeName::SzArray(of) => nameless || matches!(&*of, TypeName::Named(n) if n.name == ENTRY),
            _ => false,
        };
        let mut best: Option<(u64, u32)> = None;
        for base in self.static_bases() {
            for slot in self.references(self.object_type(base)?) {
                let Some(object) = base.checked_add(slot).and_then(|a| space.ptr(a)).filter(|&o| o != 0) else {
                    continue;
                };
                let Some(mt) = self.object_type(object).filter(|&mt| is_table(mt)) else { continue };
                let length = space.u32(object.saturating_add(8)).unwrap_or(0);
                // Without names: the headers of objects lead back to it.
                let proved = !nameless || self.leads_back(object, mt, length);
                if best.is_none_or(|b| length > b.1) && proved {
                    best = Some((object, length));
                }
            }
        }
        best
    }

    /// Whether an entry of the array at `table` belongs to an object whose header has its number.
    fn leads_back(&self, table: u64, mt: u64, length: u32) -> bool {
        /// Entries looked at: they are given out from the first on.
        const SAMPLE: u32 = 64;
        let size = self.types.method_table(mt).map_or(0, |m| u64::from(m.component_size()));
        let owner = self.layout.try_offset("SyncTableEntry", "Owner").filter(|o| o + 8 <= size);
        let object = |i: u32| {
            let entry = table.checked_add(16)?.checked_add(u64::from(i) * size)?;
            let handle = self.dump.space.ptr_at(entry, owner?).filter(|&h| h != 0)?;
            self.dump.space.ptr(handle).filter(|&o| o != 0)
        };
        let header = |o: u64| self.dump.space.u32(o.checked_sub(4)?);
        (1..length.min(SAMPLE)).any(|i| object(i).and_then(header).and_then(syncblocks::index_of) == Some(i))
    }

    /// Sync blocks in use: entries whose object's header leads back.
    pub fn read_sync_blocks(&self, threads: &[ClrThread]) -> Gathered<SyncBlock> {
        let mut out = Gathered::default();
        let (space, l) = (&self.dump.space, &self.layout);
        let Some((table, length)) = self.sync_table() else {
            out.because("the sync table was not found: no static field holds one");
            return out;
        };
        let mt = self.object_type(table).and_then(|mt| self.types.method_table(mt));
        let size = mt.map_or(0, |m| u64::from(m.component_size()));
        let (Some(lock_at), Some(owner_at)) =
            (l.try_offset("SyncTableEntry", "Lock"), l.try_offset("SyncTableEntry", "Owner"))
        else {
            out.because("the layout of the sync table is not known");
            return out;
        };
        if size < 16 || !space.readable(table) {
            out.because("the sync table is not in the dump");
            return out;
        }
        let data = table.saturating_add(16);
        for i in 1..length.min(MAX_ENTRIES) {
            let Some(entry) = data.checked_add(u64::from(i) * size) else { break };
            let Some(handle) = space.ptr_at(entry, owner_at) else {
                out.because("the sync table is not whole in the dump");
                break;
            };
            // A handle of a free entry is null, or its primary is.
            let object = if handle == 0 { 0 } else { space.ptr(handle).unwrap_or(0) };
            let header = object.checked_sub(4).and_then(|a| space.u32(a)).unwrap_or(0);
            if syncblocks::index_of(header) != Some(i) {
                continue;
            }
            let lock = space.ptr_at(entry, lock_at).unwrap_or(0);
            let free = Lock::free(LockKind::Monitor, entry, object);
            let monitor = if lock == 0 { free } else { self.lock(lock, free, threads) };
            out.items.push(SyncBlock { index: i, address: entry, object, monitor, lock_object: lock });
        }
        out
    }

    fn lock(&self, lock: u64, free: Lock, threads: &[ClrThread]) -> Lock {
        let field = |name| self.dump.space.u32(lock.checked_add(self.layout.try_offset("Lock", name)?)?);
        let (Some(state), Some(owner)) = (field("State"), field("OwningThreadId")) else { return free };
        let shift = self.layout.constant("LockWaitersShift").unwrap_or(7) as u32;
        let waiters = state.checked_shr(shift).unwrap_or(0);
        if state & 1 == 0 {
            return Lock { waiters, ..free };
        }
        let owner = threads.iter().find(|t| t.managed_id == owner && owner != 0).map_or(0, |t| t.address);
        let count = field("RecursionCount").unwrap_or(0).saturating_add(1);
        Lock { held: true, owner, count, waiters, ..free }
    }
}
