//! Suspects known by what the class library's objects mean: events, timers, state machines.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::view::View;
use crate::clr::runtime::delegates::{Delegate, DelegateKind};
use crate::shell::out::thousands;

/// `Task.m_stateFlags`: ran to completion, faulted or cancelled (dotnet/runtime v8.0
/// `src/libraries/System.Private.CoreLib/src/System/Threading/Tasks/Task.cs`, `TaskStateFlags.CompletedMask`).
const COMPLETED: u32 = 0x0160_0000;

/// Delegates with many handlers. Their lists go to `told`: they are no suspects of their own.
pub fn events(view: &View<'_>, out: &mut Vec<Suspect>, told: &mut FxHashSet<u32>) -> Result<()> {
    for (i, p) in view.positions(&delegate_types(view)).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p) else { continue };
        let Some(delegate) = view.clr.delegate(address).filter(|d| d.kind == DelegateKind::Multicast) else { continue };
        if delegate.count < view.limits.few {
            continue;
        }
        let handlers = view.clr.invoked(&delegate).items;
        told.extend(view.index.ids.id_of(address));
        told.extend(view.index.ids.id_of(delegate.helper));
        told.extend(handlers.iter().filter_map(|h| view.index.ids.id_of(h.address)));
        if handlers.len() as u64 >= view.limits.few
            && let Some(s) = event(view, p, address, &handlers)
        {
            out.push(s);
        }
    }
    Ok(())
}

/// Which types are delegates, as flags by number.
fn delegate_types(view: &View<'_>) -> Vec<bool> {
    let class = view.clr.delegate_shape().map_or(0, |s| s.class);
    view.all.iter().map(|t| class != 0 && t.mt.parent == class).collect()
}

fn event(view: &View<'_>, position: u32, address: u64, handlers: &[Delegate]) -> Option<Suspect> {
    let mut targets: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    // A handler that is called on nothing stands for itself.
    for target in handlers.iter().map(|h| h.target).filter(|&t| t != 0) {
        let t = targets.entry(view.clr.object_type(target).unwrap_or(0)).or_insert((0, target));
        t.0 += 1;
    }
    let mut targets: Vec<_> = targets.into_iter().collect();
    targets.sort_by_key(|(mt, t)| (std::cmp::Reverse(t.0), *mt));
    let &(mt, (_, example)) = targets.first()?;
    let (bytes, count) = (view.retained.bytes(position), handlers.len() as u64);
    let mut s = Suspect { kind: "event", bytes, count, ..Suspect::default() };
    s.holder = address;
    s.example = example;
    s.element = format!("handlers on {}", view.clr.type_name(mt));
    let part = |(mt, (n, _)): &(u64, (u64, u64))| format!("{} {}", thousands(*n), view.clr.type_name(*mt));
    let id = view.retained.tree.node(position)?;
    if let Some((above, slot)) = view.above(id).and_then(|a| Some((a, view.slot_between(a, address)?))) {
        s.facts.push(format!("event: {}.{slot} of {above:x}", view.name_at(above)));
    }
    s.facts.push(format!("targets: {}", targets.iter().take(5).map(part).collect::<Vec<_>>().join(", ")));
    view.place(&mut s, id);
    s.next =
        vec![format!("!dumpdelegate {address:x}"), format!("!retained {address:x}"), format!("!gcroot {example:x}")];
    Some(s)
}

/// Timers by the target of their callback and their state.
pub fn timers(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_where(|n| n == "System.Threading.TimerQueueTimer");
    let mut kinds: FxHashMap<(u64, u64), Vec<u32>> = FxHashMap::default();
    for (i, p) in view.positions(&wanted).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p) else { continue };
        let type_of = |a: Option<u64>| a.filter(|&a| a != 0).and_then(|a| view.clr.object_type(a)).unwrap_or(0);
        let callback = view.pointer(address, &["_timerCallback", "m_timerCallback"]).filter(|&c| c != 0);
        let target = callback.and_then(|c| view.clr.delegate(c)?.receiver());
        let state = view.pointer(address, &["_state", "m_state"]);
        kinds.entry((type_of(target), type_of(state))).or_default().push(p);
    }
    for ((target, state), timers) in kinds {
        if (timers.len() as u64) < view.limits.few {
            continue;
        }
        let name = |mt: u64| if mt == 0 { "none".into() } else { view.clr.type_name(mt).to_string() };
        let mut s = group(view, "timers", &timers, &wanted);
        s.facts.insert(0, format!("state: {}; target of the callback: {}", name(state), name(target)));
        out.push(s);
    }
    Ok(())
}

/// Many delegates of one type whose targets are of one type: callbacks registered and never taken back. `told` are those
/// of events.
pub fn delegates(view: &View<'_>, told: &FxHashSet<u32>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = delegate_types(view);
    let mut kinds: FxHashMap<(u32, u64), Vec<u32>> = FxHashMap::default();
    for (i, p) in view.positions(&wanted).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p).filter(|a| view.index.ids.id_of(*a).is_some_and(|i| !told.contains(&i)))
        else {
            continue;
        };
        let target = view.clr.delegate(address).and_then(|d| d.receiver());
        if let Some(mt) = target.and_then(|t| view.clr.object_type(t)) {
            kinds.entry((view.type_at(p), mt)).or_default().push(p);
        }
    }
    for ((_, target), found) in kinds {
        if (found.len() as u64) < view.limits.min_count || view.kept_by(&found) < view.threshold() {
            continue;
        }
        let mut s = group(view, "delegates", &found, &[]);
        s.facts.insert(0, format!("target of each: {}", view.clr.type_name(target)));
        s.next.push(format!("!dumpdelegate {:x}", s.example));
        out.push(s);
    }
    Ok(())
}

/// Many roots of one kind that lead to objects of one type: handles never freed, thread statics of many threads. What
/// thread statics hold goes to `told`.
pub fn roots(view: &View<'_>, out: &mut Vec<Suspect>, told: &mut FxHashSet<u32>) -> Result<()> {
    let mut handles: FxHashMap<(u8, u32), (u64, Vec<u32>)> = FxHashMap::default();
    for h in view.clr.handles().items.iter().filter(|h| h.kind.is_strong()) {
        let Some(p) = view.position_of(h.object) else { continue };
        let of = handles.entry((h.kind.0, view.type_at(p))).or_default();
        of.0 += 1;
        of.1.push(p);
    }
    for ((kind, ty), (count, found)) in handles.into_iter().filter(|h| h.1.0 >= view.limits.min_count) {
        let mut s = root_group(view, "handles", found);
        s.count = count;
        s.owner = crate::clr::runtime::handles::HandleKind(kind).words().into();
        s.facts.push(format!("{} {}s to {}", thousands(count), s.owner, view.type_name(ty)));
        s.next.insert(0, format!("!gchandles -type {}", crate::clr::runtime::handles::HandleKind(kind).name()));
        out.push(s);
    }
    let mut statics: FxHashMap<&str, Vec<u32>> = FxHashMap::default();
    for (slot, name) in view.session.thread_static_slots()? {
        statics.entry(name).or_default().extend(view.clr.space().ptr(*slot).and_then(|o| view.position_of(o)));
    }
    for (name, found) in statics.into_iter().filter(|s| s.1.len() > 1) {
        let mut s = root_group(view, "thread", found.clone());
        if s.bytes < view.threshold() {
            continue;
        }
        told.extend(found.iter().filter_map(|&p| view.retained.tree.node(p)));
        s.owner = format!("thread static {name}");
        s.facts.push(format!("of {} threads; the path is that of the biggest", thousands(s.count)));
        s.next.insert(0, format!("!dominators {:x}", s.example));
        out.push(s);
    }
    Ok(())
}

/// A suspect of objects that roots hold, the biggest as the example.
fn root_group(view: &View<'_>, kind: &'static str, mut found: Vec<u32>) -> Suspect {
    found.sort_unstable();
    found.dedup();
    let mut s = group(view, kind, &found, &[]);
    s.bytes = view.kept_by(&found);
    s.facts.clear();
    s
}

/// State machines of async methods that did not run to their end, by method.
pub fn state_machines(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_where(|n| n.contains("StateMachineBox"));
    let mut methods: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for (i, p) in view.positions(&wanted).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p) else { continue };
        if view.word(address, &["m_stateFlags"]).is_none_or(|f| f & COMPLETED == 0) {
            methods.entry(view.type_at(p)).or_default().push(p);
        }
    }
    for (ty, waiting) in methods.into_iter().filter(|w| w.1.len() as u64 >= view.limits.min_count) {
        let mut s = group(view, "async", &waiting, &[]);
        s.facts.insert(0, "none of them has completed".into());
        let name = view.type_name(ty);
        if let Some(method) = method_of(&name) {
            s.facts.insert(0, format!("state machines of {method}"));
        }
        s.next.push(format!("!dumpobj {:x}", s.example));
        out.push(s);
    }
    Ok(())
}

/// `Shop.Program.Handle` of `...AsyncStateMachineBox<Shop.Program+<Handle>d__17>`: the compiler names the state machine of
/// a method so.
fn method_of(name: &str) -> Option<String> {
    let end = name.rfind(">d__")?;
    let start = name.get(..end)?.rfind('<')?;
    let class = name.get(..start)?.trim_end_matches(['+', '.']);
    // The state machine is a type argument: its class begins behind the bracket or the comma that is still open.
    let mut depth = 0i32;
    let opens = |c: char| {
        depth += i32::from(c == '>') - i32::from(c == '<');
        depth < 0 || depth == 0 && c == ','
    };
    let begin = class.rfind(opens).map_or(0, |i| i + 1);
    let class = class.get(begin..)?.trim_start();
    Some(format!("{class}.{}", name.get(start + 1..end)?))
}

/// State machines that one object holds are found twice: as those of a method, and as what is in a collection. The one
/// suspect gets what the other knows: what holds them is what they wait for, where nothing else does.
pub fn join_state_machines(all: &mut Vec<Suspect>) {
    let (mut waiting, mut rest): (Vec<Suspect>, Vec<Suspect>) = all.drain(..).partition(|s| s.kind == "async");
    for w in &mut waiting {
        let same = |s: &Suspect| s.kind == "collection" && s.element == w.element && s.count >= w.count / 10 * 9;
        if let Some(c) = rest.iter().position(same).map(|i| rest.remove(i)) {
            w.facts.retain(|f| !f.starts_with("the path is"));
            w.bytes = w.bytes.max(c.bytes);
            (w.owner, w.holder, w.path, w.example) = (c.owner, c.holder, c.path, c.example);
            w.facts.extend(c.facts);
            w.next = c.next;
        }
    }
    all.extend(waiting);
    all.extend(rest);
}

/// A suspect of objects of one type that no single object needs to hold. `chained` are types whose objects are linked to
/// each other: one does not keep the next alive, though the tree has it so. `positions` are in ascending order.
fn group(view: &View<'_>, kind: &'static str, positions: &[u32], chained: &[bool]) -> Suspect {
    let is_chained = |p: &u32| chained.get(view.type_at(*p) as usize).copied().unwrap_or(false);
    let tree = &view.retained.tree;
    let (mut bytes, mut covered, mut most) = (0u64, 0, (0, 0));
    for &p in positions {
        let linked: u64 = match chained.is_empty() {
            true => 0,
            false => tree.children(p).filter(is_chained).map(|c| view.retained.bytes(c)).sum(),
        };
        let own = view.retained.bytes(p).saturating_sub(linked);
        if own > most.1 {
            most = (p, own);
        }
        if p >= covered || !chained.is_empty() {
            bytes = bytes.saturating_add(own);
            covered = tree.subtree(p).end;
        }
    }
    let mut s = Suspect { kind, bytes, count: positions.len() as u64, ..Suspect::default() };
    s.element = view.type_name(view.type_at(most.0)).to_string();
    s.example = view.address(most.0).unwrap_or(0);
    if let Some(id) = tree.node(most.0) {
        view.place(&mut s, id);
        s.facts.push("the path is that of the example; others may be held elsewhere".into());
    }
    let mt = view.clr.object_type(s.example).unwrap_or(0);
    s.next = vec![format!("!dumpheap -live -mt {mt:x}"), format!("!gcroot {:x}", s.example)];
    s
}

#[cfg(test)]
mod tests {
    use super::method_of;

    #[test]
    fn methods_of_state_machines() {
        let boxed = "System.Runtime.CompilerServices.AsyncTaskMethodBuilder<System.Int32>+AsyncStateMachineBox";
        let method = |machine: &str| method_of(&format!("{boxed}<{machine}>"));
        assert_eq!(method("Shop.Program+<Handle>d__17").as_deref(), Some("Shop.Program.Handle"));
        assert_eq!(method("Shop.Store<A, B>+<Load>d__1").as_deref(), Some("Shop.Store<A, B>.Load"));
        assert_eq!(method("Shop.Machine"), None);
    }
}
