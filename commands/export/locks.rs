//! Tables of locks: sync blocks, thin locks, who holds and waits for what.

use anyhow::Result;

use super::writer::{Field, Table};
use crate::clr::runtime::locks::{Lock, Owners};
use crate::session::Session;

/// `syncblocks`. `held` is true, as in the tables of ClrMD, while anyone owns the monitor or waits for it.
pub fn sync_blocks(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let blocks = session.clr()?.sync_blocks();
    for b in &blocks.items {
        table.row(&[
            Field::Num(u64::from(b.index)),
            Field::Hex(b.object),
            Field::Bool(b.monitor.monitor_held() != 0),
            Field::Num(u64::from(b.monitor.count)),
            Field::Hex(b.monitor.owner),
            Field::Num(u64::from(b.monitor.waiters)),
            Field::Text("None"),
        ])?;
    }
    Ok(blocks.partial.clone())
}

/// `thinlocks`. `recursion` is 0 for a lock entered once, as the header counts.
pub fn thin_locks(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let locks = session.thin_locks()?;
    for lock in &locks.items {
        let again = u64::from(lock.count).saturating_sub(1);
        table.row(&[Field::Hex(lock.object), Field::Num(again), Field::Hex(lock.owner)])?;
    }
    Ok(locks.partial.clone())
}

/// `waits`: who waits for which lock, then who holds which: monitors and `System.Threading.Lock`s.
pub fn waits(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let (owners, waits, blocks) = (Owners::of(clr), session.waits()?, clr.sync_blocks());
    let (thin, objects) = (session.thin_locks()?, session.lock_objects()?);
    let id = |thread: u64| owners.thread(thread).map_or((0, 0), |t| (t.managed_id, t.os_id));
    for w in &waits.items {
        let ((managed_id, os_id), (holder, _)) = (id(w.thread), id(w.holder()));
        let holder = if holder == 0 { String::new() } else { holder.to_string() };
        table.row(&[
            Field::Text("waits"),
            Field::Num(managed_id.into()),
            Field::Hex(os_id),
            Field::Text(w.kind.name()),
            Field::Hex(w.lock.object),
            Field::Text(""),
            Field::Text(&holder),
        ])?;
    }
    let held = |l: &&Lock| l.held && l.owner != 0;
    let monitors = blocks.items.iter().map(|b| &b.monitor);
    for lock in thin.items.iter().chain(monitors).chain(&objects.items).filter(held) {
        let (managed_id, os_id) = id(lock.owner);
        table.row(&[
            Field::Text("holds"),
            Field::Num(managed_id.into()),
            Field::Hex(os_id),
            Field::Text(lock.kind.name()),
            Field::Hex(lock.object),
            Field::Num(lock.count.into()),
            Field::Num(managed_id.into()),
        ])?;
    }
    let partial = [&waits.partial, &blocks.partial, &thin.partial, &objects.partial];
    Ok(partial.into_iter().flatten().next().cloned())
}
