//! Tables of the runtime: its facts, modules, threads, handles, finalizer queue, roots, locks.

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::column::Field;
use super::writer::Table;
use crate::clr::runtime::finalizer::FinalizerQueue;
use crate::clr::runtime::handles::HandleKind;
use crate::commands::heap::rootnames;
use crate::heap::roots::RootKind;
use crate::session::Session;

/// `runtime`: names and values.
pub fn runtime(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let heap = session.heap()?;
    let m = &clr.found.module;
    let version = m.version.clone().unwrap_or_default();
    let rows: &[(&str, String)] = &[
        ("flavor", if clr.ahead().is_some() { "NativeAOT" } else { "Core" }.into()),
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

/// `handles`.
pub fn handles(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let domain = crate::clr::runtime::domains::app_domain(clr).unwrap_or(0);
    let handles = clr.handles();
    for h in &handles.items {
        table.row(&[
            Field::Hex(h.address),
            Field::Text(h.kind.name()),
            Field::Hex(h.object),
            Field::Hex(h.dependent),
            Field::Num(0),
            Field::Hex(domain),
        ])?;
    }
    Ok(handles.partial.clone())
}

/// `finalizable`: everything in the queues' arrays, then what is ready once more, as reachable from there. That is how
/// ClrMD lists them; of NativeAOT programs, which it does not read, what is ready stands once.
pub fn finalizable(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let queues = session.finalizer_queues()?;
    let mut partial = queues.partial.clone();
    let registered = |queue: &FinalizerQueue| match clr.ahead() {
        Some(_) => (queue.all().0, queue.all_ready().0),
        None => queue.all(),
    };
    let mut rows = |ready: bool, table: &mut Table| -> Result<()> {
        for (_, queue) in &queues.items {
            let slots = if ready { queue.all_ready() } else { registered(queue) };
            let objects = crate::clr::runtime::finalizer::objects(clr, slots);
            partial = partial.take().or(objects.partial);
            for object in objects.items {
                table.row(&[Field::Hex(object), Field::Bool(ready)])?;
            }
        }
        Ok(())
    };
    rows(false, table)?;
    rows(true, table)?;
    Ok(partial)
}

/// `roots`.
pub fn roots(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let roots = session.roots()?;
    for r in &roots.items {
        let (kind, name): (&str, &str) = match &r.kind {
            RootKind::Handle(HandleKind::PINNED) => ("PinnedHandle", ""),
            RootKind::Handle(HandleKind::REF_COUNTED) => ("RefCountedHandle", ""),
            RootKind::Handle(HandleKind::ASYNC_PINNED) => ("AsyncPinnedHandle", ""),
            RootKind::Handle(HandleKind::SIZED_REF) => ("SizedRefHandle", ""),
            RootKind::Handle(_) => ("StrongHandle", ""),
            RootKind::Finalizer => ("FinalizerQueue", ""),
            RootKind::Frame { .. } | RootKind::Stack { .. } | RootKind::Register { .. } => ("Stack", ""),
            RootKind::ThreadStatic { name, .. } => ("ThreadStatic", name),
        };
        let handle = matches!(r.kind, RootKind::Handle(HandleKind::PINNED | HandleKind::ASYNC_PINNED));
        let pinned = handle || matches!(r.kind, RootKind::Frame { pinned: true, .. });
        table.row(&[
            Field::Text(kind),
            Field::Hex(r.slot),
            Field::Hex(r.object),
            Field::Bool(r.interior),
            Field::Bool(pinned),
            Field::Text(name),
        ])?;
    }
    Ok(roots.partial.clone())
}

/// `stackroots`: by frame, and what was found conservatively where a stack could not be walked.
pub fn stack_roots(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let roots = session.roots()?;
    let mut names: FxHashMap<(u64, u64), String> = FxHashMap::default();
    let stacks: FxHashMap<u64, _> = clr.threads().items.iter().map(|t| (t.address, t)).collect();
    for r in &roots.items {
        let (os_id, register, pinned) = match &r.kind {
            RootKind::Stack { os_id, .. } => (*os_id, String::new(), false),
            RootKind::Register { os_id, name, .. } => (*os_id, (*name).to_owned(), false),
            RootKind::Frame { os_id, pinned, .. } => (*os_id, rootnames::place(r), *pinned),
            _ => continue,
        };
        let (mut sp, mut name) = (0, "");
        if let RootKind::Frame { thread, frame, .. } = r.kind
            && let Some(stack) = stacks.get(&thread).map(|t| clr.stack(t))
            && let Some(f) = stack.frames.get(frame as usize)
        {
            sp = f.sp;
            name = names.entry((f.sp, f.ip)).or_insert_with(|| rootnames::name_of(session, f));
        }
        table.row(&[
            Field::Hex(os_id),
            Field::Hex(sp),
            Field::Text(&register),
            Field::Hex(r.slot),
            Field::Hex(r.object),
            Field::Bool(r.interior),
            Field::Bool(pinned),
            Field::Text(name),
            Field::Bool(!r.is_conservative()),
        ])?;
    }
    Ok(roots.partial.clone())
}

/// `threads`.
pub fn threads(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let threads = clr.threads();
    for t in &threads.items {
        let native = session.dump().thread_of(t.os_id);
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
            Field::None,
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
    let domain = crate::clr::runtime::domains::app_domain(clr).unwrap_or(0);
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
            Field::Path(&name),
            Field::Path(&m.pdb(clr)),
            Field::Hex(domain),
        ])?;
    }
    Ok(assemblies.partial.clone())
}
