//! Who holds a `ReaderWriterLockSlim`.
//!
//! Source: dotnet/runtime v8.0 `System.Private.CoreLib/src/System/Threading/ReaderWriterLockSlim.cs`: the lock names the
//! thread that writes (`_writeLockOwnerId`) and the one that may (`_upgradeLockOwnerId`) by their managed ids; each thread
//! counts what it reads in a list of its own (`t_rwc`), by the lock's number (`_lockID`).

use rustc_hash::FxHashMap;

use super::Threads;
use crate::session::Session;

/// Counters of one thread: one for each lock it reads at a time, kept when it no longer does.
const MAX_COUNTERS: usize = 1 << 16;

/// One thread that holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The lock.
    pub lock: u64,
    /// Address of the `Thread`.
    pub thread: u64,
    /// How often it entered.
    pub count: u32,
    /// Whether it may write.
    pub writes: bool,
}

/// Who holds the locks `all`.
pub(super) fn held(session: &Session, all: &[u64], threads: &Threads<'_>) -> (Vec<Held>, Option<String>) {
    let (mut found, mut partial) = (Vec::new(), None);
    if all.is_empty() {
        return (found, partial);
    }
    let locks: FxHashMap<i64, u64> =
        all.iter().filter_map(|&a| Some((session.value(a)?.int(&["_lockID", "lockID"])?, a))).collect();
    let mut counted: FxHashMap<(u64, u64), u32> = FxHashMap::default();
    for (thread, cell) in session.thread_static_cells("System.Threading.ReaderWriterLockSlim", "t_rwc") {
        let mut at = session.clr().ok().and_then(|c| c.space().ptr(cell)).and_then(|o| session.value(o));
        let mut left = MAX_COUNTERS;
        while let Some(counter) = at {
            let lock = counter.int(&["lockID"]).and_then(|id| locks.get(&id));
            if let Some(&lock) = lock {
                let reads = counter.int(&["readercount"]).unwrap_or(0);
                if reads > 0 {
                    found.push(Held { lock, thread: thread.address, count: reads as u32, writes: false });
                }
                let writes = counter.int(&["writercount"]).unwrap_or(0);
                counted.insert((lock, thread.address), writes.max(0) as u32);
            }
            left -= 1;
            if left == 0 {
                partial = Some(format!("thread {} counts more than {MAX_COUNTERS} locks", thread.managed_id));
                break;
            }
            at = counter.object(&["next"]);
        }
    }
    for &lock in all {
        let Some(value) = session.value(lock) else { continue };
        for name in ["_writeLockOwnerId", "_upgradeLockOwnerId"] {
            let id = value.int(&[name, &name[1..]]).and_then(|id| u32::try_from(id).ok()).filter(|&id| id != 0);
            if let Some(thread) = id.and_then(|id| threads.of_id(id)) {
                let count = counted.get(&(lock, thread)).copied().unwrap_or(0).max(1);
                found.push(Held { lock, thread, count, writes: true });
            }
        }
    }
    (found, partial)
}
