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
pub fn threads(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let threads = clr.threads();
    for t in &threads.items {
        let native = session.dump().threads.iter().find(|n| n.os_id == t.os_id && t.os_id != 0);
        let (low, high) = native.and_then(|n| n.stack).unwrap_or((0, 0));
        table.row(&[
            Field::Hex(t.address),
            Field::Hex(t.os_id),
            Field::Num(u64::from(t.managed_id)),
            Field::Bool(!t.is_dead()),
            Field::Bool(t.finalizer),
            Field::Bool(false),
            Field::Text(if t.preemptive { "Preemptive" } else { "Cooperative" }),
            Field::Hex(u64::from(t.state)),
            Field::Text(""),
            Field::Hex(t.exception),
            Field::Hex(t.alloc_context.0),
            Field::Hex(t.alloc_context.1),
            Field::Hex(high),
            Field::Hex(low),
        ])?;
    }
    Ok(threads.partial.clone())
}

/// `modules`.
pub fn modules(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let domain = crate::clr::domains::app_domain(clr).unwrap_or(0);
    let assemblies = clr.assemblies();
    for a in &assemblies.items {
        let m = clr.module(a.module);
        let metadata = m.metadata_range(clr).unwrap_or((0, 0));
        let name = if m.dynamic { String::new() } else { m.display_name(clr) };
        table.row(&[
            Field::Hex(m.address),
            Field::Hex(a.assembly),
            Field::Hex(m.image_base),
            Field::Num(m.size),
            Field::Bool(m.dynamic),
            Field::Bool(m.image_base != 0),
            Field::Hex(metadata.0),
            Field::Num(metadata.1),
            Field::Text(&name),
            Field::Text(&m.pdb(clr)),
            Field::Hex(domain),
        ])?;
    }
    Ok(assemblies.partial.clone())
}

/// `syncblocks`.
pub fn sync_blocks(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}
