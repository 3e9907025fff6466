//! Invariants of sync blocks that need the threads.

use super::{Found, Probe};

/// Entries of the sync table looked at.
const ENTRIES: u64 = 256;

/// Whoever holds a monitor is a thread: by address through 9.0, by managed id since.
pub fn owners(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] =
        &["SyncBlock.LockState", "SyncBlock.Recursion", "SyncBlock.Owner", "SyncBlock.Lock", "SyncBlock.ThinLock"];
    let ids: Vec<u64> = threads.iter().filter_map(|&t| p.word(t, "Thread", "Id")).map(u64::from).collect();
    let (mut right, mut wrong) = (0, Vec::new());
    for block in blocks(p) {
        match owner(p, block) {
            Some(Owner::Thread(t)) if threads.contains(&t) => right += 1,
            Some(Owner::Id(id)) if ids.contains(&id) => right += 1,
            Some(Owner::Thread(n) | Owner::Id(n)) => wrong.push(format!("{n:x} in {block:x}")),
            None => {}
        }
    }
    let found = match (right, wrong.len()) {
        (0, 0) => Found::Absent("no monitor is held".into()),
        // One may have been taken or left while the dump was written.
        (right, wrong_ones) if wrong_ones <= right / 8 => Found::Good(format!("{right} of {}", right + wrong_ones)),
        (right, wrong_ones) => Found::Bad(format!("{right} of {}, {}", right + wrong_ones, wrong[0])),
    };
    p.record("owners of monitors", FIELDS, "threads of the list", found);
}

enum Owner {
    Thread(u64),
    Id(u64),
}

/// Sync blocks in use.
fn blocks(p: &Probe<'_>) -> Vec<u64> {
    let Some(table) = p.variable("SyncTableEntries").filter(|&t| t != 0) else { return Vec::new() };
    let size = p.layout.try_offset("SyncTableEntry", "!").unwrap_or(2 * p.ptr());
    let entry = |i: u64| {
        let entry = table.checked_add(size.checked_mul(i)?)?;
        let object = p.field(entry, "SyncTableEntry", "Object").filter(|o| *o != 0 && o & 1 == 0)?;
        let used = super::heap::leads_back(p, object, i as u32);
        p.field(entry, "SyncTableEntry", "SyncBlock").filter(|&b| used && b != 0 && p.space().readable(b))
    };
    (1..ENTRIES).filter_map(entry).collect()
}

/// Who holds the monitor of the block, if anyone does.
fn owner(p: &Probe<'_>, block: u64) -> Option<Owner> {
    let kind = p.layout.text("SyncBlockOwner");
    if kind == Some("lock") {
        // What a handle leads to is a managed object, and read as one.
        let handle = p.field(block, "SyncBlock", "Lock")?;
        let id = p.word(block, "SyncBlock", "ThinLock").filter(|_| handle == 0)? & 0xFFFF;
        return (id != 0).then_some(Owner::Id(id.into()));
    }
    if p.word(block, "SyncBlock", "LockState")? & 1 == 0 {
        return None;
    }
    match kind {
        Some("id") => p.word(block, "SyncBlock", "Owner").map(|id| Owner::Id(id.into())),
        _ => p.field(block, "SyncBlock", "Owner").map(Owner::Thread),
    }
}
