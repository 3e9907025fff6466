//! Tables of locks: sync blocks, thin locks, who holds and waits for what.

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::clr::runtime::locks::Owners;
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

/// `waits`: who waits for what, then who holds what.
pub fn waits(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let (owners, waits) = (Owners::of(session.clr()?), session.all_waits()?);
    let id = |thread: u64| owners.thread(thread).map_or((0, 0), |t| (t.managed_id, t.os_id));
    for w in waits.blocked() {
        let (managed_id, os_id) = id(w.thread);
        let holders: Vec<u64> = w.holders.iter().map(|&h| id(h).0.into()).collect();
        table.row(&[
            Field::Text("waits"),
            Field::Num(managed_id.into()),
            Field::Hex(os_id),
            Field::Text(w.kind.name()),
            Field::List(&w.objects),
            Field::None,
            Field::Numbers(&holders),
        ])?;
    }
    for h in &waits.holding {
        let (managed_id, os_id) = id(h.thread);
        table.row(&[
            Field::Text("holds"),
            Field::Num(managed_id.into()),
            Field::Hex(os_id),
            Field::Text(h.kind.name()),
            Field::List(&[h.object]),
            Field::Num(h.count.into()),
            Field::Numbers(&[managed_id.into()]),
        ])?;
    }
    Ok(waits.partial.clone())
}
