//! Suspects from the runtime's own state: the finalizer queue, contexts that stay.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::view::View;
use crate::clr::runtime::finalizer;
use crate::clr::runtime::locks::{Lock, LockKind};
use crate::heap::roots::RootKind;
use crate::session::locks::waits::Wait;
use crate::shell::out::thousands;

/// Objects ready for finalization that the finalizer thread did not get to.
pub fn finalizer(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let mut ready: Vec<u32> = Vec::new();
    let mut total = 0u64;
    for (_, queue) in &view.session.finalizer_queues()?.items {
        let objects = finalizer::objects(view.clr, queue.all_ready()).items;
        total += objects.len() as u64;
        ready.extend(objects.into_iter().filter_map(|o| view.position_of(o)));
    }
    if total < view.limits.min_count {
        return Ok(());
    }
    ready.sort_unstable();
    ready.dedup();
    let (mut bytes, mut covered) = (0u64, 0);
    let mut types: FxHashMap<u32, (u64, u32)> = FxHashMap::default();
    for &p in &ready {
        if p >= covered {
            covered = view.retained.tree.subtree(p).end;
            bytes = bytes.saturating_add(view.retained.bytes(p));
        }
        types.entry(view.type_at(p)).or_insert((0, p)).0 += 1;
    }
    let Some((ty, (n, p))) = types.into_iter().max_by_key(|(ty, n)| (n.0, std::cmp::Reverse(*ty))) else {
        return Ok(());
    };
    let mut s = Suspect { kind: "finalizer", bytes, count: total, ..Suspect::default() };
    s.element = "objects ready for finalization".into();
    s.owner = "finalizer queue".into();
    s.place.root = s.owner.clone();
    s.example = view.address(p).unwrap_or(0);
    let name = view.type_name(ty);
    let item = Item::of("objects of the commonest type").ty(&name).count(n);
    s.facts.push(Evidence::new(format!("{} of them {name}", thousands(n)), item));
    s.next = vec!["!finalizequeue -ready".into(), "!clrthreads".into()];
    match blocked(view)? {
        Some((facts, next)) => {
            s.facts.extend(facts);
            s.next.extend(next);
        }
        None => {
            let text = "the finalizer thread waits for no monitor: it may wait otherwise, or not keep up";
            s.facts.push(Evidence::new(text, Item::of("the finalizer thread waits for no monitor")));
        }
    }
    out.push(s);
    Ok(())
}

/// Objects on the finalizer thread's stack named.
const ON_STACK: usize = 3;

/// What the finalizer thread is at, and the monitor it waits for; what to type next. `None` when it waits for none.
fn blocked(view: &View<'_>) -> Result<Option<(Vec<Evidence>, Vec<String>)>> {
    let threads = view.clr.threads();
    let Some(thread) = threads.items.iter().find(|t| t.finalizer) else { return Ok(None) };
    let (mut on_stack, mut seen): (Vec<u64>, FxHashSet<u64>) = Default::default();
    for root in &view.session.roots()?.items {
        let os_id = match root.kind {
            RootKind::Frame { os_id, .. } | RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => os_id,
            _ => continue,
        };
        if os_id == thread.os_id && seen.insert(root.object) {
            on_stack.push(root.object);
        }
    }
    let has_finalizer = |a: &&u64| view.walker.object_at(**a).is_some_and(|o| o.ty.mt.has_finalizer());
    let named = |a: &u64| format!("{} {a:x}", view.name_at(*a));
    let objects: Vec<&u64> = on_stack.iter().filter(has_finalizer).take(ON_STACK).collect();
    let mut facts = Vec::new();
    if !objects.is_empty() {
        let names: Vec<String> = objects.iter().map(|a| named(a)).collect();
        let text = format!("on the stack of the finalizer thread {:x}: {}", thread.os_id, names.join(", "));
        let what = "on the stack of the finalizer thread";
        let item = |a: &&u64| Item::of(what).thread(thread.os_id).ty(view.name_at(**a)).at(**a);
        facts.push(Evidence::many(text, objects.iter().map(item).collect()));
    }
    let os_id = |owner: u64| threads.items.iter().find(|t| t.address == owner).map_or(0, |t| t.os_id);
    let blocks = &view.clr.sync_blocks().items;
    // Where a thread's own record does not say what it waits for: a contended monitor whose object is on its stack.
    let may_wait = |l: &&Lock| l.waiters > 0 && l.owner != 0 && l.owner != thread.address && seen.contains(&l.object);
    let own = |w: &&Wait| w.thread == thread.address && w.holder() != 0;
    let known = view.session.waits()?.items.iter().find(own).map(|w| &w.lock);
    let Some(lock) = known.or_else(|| blocks.iter().map(|b| &b.monitor).find(may_wait)) else {
        return Ok((!facts.is_empty()).then_some((facts, Vec::new())));
    };
    let (what, owner) = (if lock.kind == LockKind::Lock { "" } else { "the monitor of " }, os_id(lock.owner));
    let text = format!("it waits for {what}{}, held by thread {owner:x}", named(&lock.object));
    let item = Item::of("what the finalizer thread waits for, with the thread that holds it");
    let kind = if lock.kind == LockKind::Lock { "lock" } else { "monitor" };
    let item = item.ty(view.name_at(lock.object)).at(lock.object).thread(owner).name(kind);
    facts.push(Evidence::new(text, item));
    Ok(Some((facts, vec!["!syncblk".into(), format!("!dumpobj {:x}", lock.object)])))
}

/// `AssemblyLoadContext._state` (dotnet/runtime v8.0 `src/libraries/System.Private.CoreLib/src/System/Runtime/Loader/
/// AssemblyLoadContext.cs`, `InternalState`): told to unload.
const UNLOADING: u32 = 1;

/// Contexts that were told to unload and are still there.
pub fn contexts(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    const CONTEXT: &str = "System.Runtime.Loader.AssemblyLoadContext";
    let mut wanted = view.types_where(|n| n == CONTEXT);
    for (flag, t) in wanted.iter_mut().zip(&view.all) {
        let mut mt = Some(t.mt);
        for _ in 0..32 {
            let Some(parent) = mt.and_then(|m| view.clr.method_table(m.parent)) else { break };
            *flag |= &*view.clr.type_name(parent.address) == CONTEXT;
            mt = Some(parent);
        }
    }
    let allocators = allocators(view);
    for p in view.positions(&wanted) {
        let Some(address) = view.address(p) else { continue };
        if view.word(address, &["_state"]) != Some(UNLOADING) {
            continue;
        }
        let mut s = Suspect { kind: "context", count: 1, ..Suspect::default() };
        s.element = view.name_at(address).to_string();
        s.example = address;
        let item = Item::of("told to unload, and still there").at(address);
        s.facts.push(Evidence::new("told to unload, and still there", item));
        s.next.push(format!("!gcroot {address:x}"));
        let mut kept = vec![p];
        for allocator in allocators_of(view, address, &allocators) {
            held_by_instances(view, allocator, &mut s, &mut kept);
        }
        kept.sort_unstable();
        s.bytes = view.kept_by(&kept);
        if let Some(id) = view.retained.tree.node(p).filter(|_| s.path.is_empty()) {
            view.place(&mut s, id);
        }
        out.push(s);
    }
    Ok(())
}

/// Bytes of a native binder looked through for its loader allocator.
const BINDER_BYTES: u64 = 0x200;

/// Managed loader allocators by the native one each stands for, which its scout knows (dotnet/runtime v8.0
/// `src/coreclr/System.Private.CoreLib/src/System/Reflection/LoaderAllocator.cs`).
fn allocators(view: &View<'_>) -> FxHashMap<u64, u64> {
    let wanted = view.types_where(|n| n == "System.Reflection.LoaderAllocator");
    let native = |allocator: u64| {
        let scout = view.pointer(allocator, &["m_scout"])?;
        view.pointer(scout, &["m_nativeLoaderAllocator"]).filter(|&n| n != 0)
    };
    view.positions(&wanted).filter_map(|p| view.address(p)).filter_map(|a| Some((native(a)?, a))).collect()
}

/// Managed loader allocators of the context at `address`: its native binder has a pointer to the native one
/// (dotnet/runtime v8.0 `src/coreclr/binder/customassemblybinder.cpp`).
fn allocators_of(view: &View<'_>, address: u64, allocators: &FxHashMap<u64, u64>) -> Vec<u64> {
    let Some(binder) = view.pointer(address, &["_nativeAssemblyLoadContext"]).filter(|&b| b != 0) else {
        return Vec::new();
    };
    let words = (0..BINDER_BYTES).step_by(view.clr.header() as usize);
    words.filter_map(|o| allocators.get(&view.clr.space().ptr_at(binder, o)?).copied()).collect()
}

/// What keeps a loader allocator: live objects of the types it loaded. Their positions go to `kept`.
fn held_by_instances(view: &View<'_>, allocator: u64, s: &mut Suspect, kept: &mut Vec<u32>) {
    let Some(id) = view.index.ids.id_of(allocator) else { return };
    let mut types: FxHashMap<u32, (u64, u32)> = FxHashMap::default();
    for &from in view.reverse.of(id) {
        let Some(p) = view.retained.tree.position(from) else { continue };
        let collectible = view.info(view.type_at(p)).is_some_and(|t| view.clr.mts().is_collectible(&t.mt));
        if collectible {
            types.entry(view.type_at(p)).or_insert((0, p)).0 += 1;
            kept.push(p);
        }
    }
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(ty, n)| (std::cmp::Reverse(n.0), *ty));
    let part = |(ty, (n, _)): &(u32, (u64, u32))| format!("{} {}", thousands(*n), view.type_name(*ty));
    if let Some((_, (_, first))) = types.first() {
        let parts: Vec<String> = types.iter().take(3).map(part).collect();
        let text = format!("live objects of its types: {}", parts.join(", "));
        let item = |(ty, (n, p)): &(u32, (u64, u32))| {
            let address = view.address(*p).unwrap_or(0);
            Item::of("live objects of its types").ty(view.type_name(*ty)).count(*n).at(address)
        };
        s.facts.push(Evidence::many(text, types.iter().map(item).collect()));
        s.holder = view.address(*first).unwrap_or(0);
        if let Some(id) = view.retained.tree.node(*first) {
            view.place(s, id);
        }
        s.next.push(format!("!gcroot {:x}", s.holder));
    }
    s.next.push(format!("!gcroot {allocator:x}"));
}
