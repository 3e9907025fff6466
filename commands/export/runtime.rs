//! Tables of the runtime: its facts, modules, threads, handles, finalizer queue, roots, locks.

use anyhow::Result;

use super::writer::{Field, Table};
use crate::session::Session;

/// `runtime`: names and values.
pub fn runtime(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let heap = session.heap()?;
    let m = &clr.found.module;
    let version = m.version.clone().unwrap_or_default();
    let rows: &[(&str, String)] = &[
        ("flavor", "Core".into()),
        ("version", version),
        ("module", m.path.clone()),
        ("module_base", format!("{:x}", m.base)),
        ("single_file", if m.single_file { "True" } else { "False" }.into()),
        ("server", if heap.server { "True" } else { "False" }.into()),
        ("can_walk", if heap.in_gc { "False" } else { "True" }.into()),
        ("heaps", heap.heaps.len().to_string()),
        ("pointer_size", clr.ptr_size().to_string()),
        ("architecture", session.dump().arch.name().into()),
        ("pid", session.dump().process.pid.map(|p| p.to_string()).unwrap_or_default()),
    ];
    for (name, value) in rows {
        table.row(&[Field::Text(name), Field::Text(value)])?;
    }
    Ok(None)
}

fn later() -> Result<Option<String>> {
    Ok(Some("not read yet".into()))
}

/// `handles`.
pub fn handles(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `finalizable`.
pub fn finalizable(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `roots`.
pub fn roots(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `stackroots`.
pub fn stack_roots(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `threads`.
pub fn threads(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `modules`.
pub fn modules(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `syncblocks`.
pub fn sync_blocks(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}
