//! Suspects known by what the class library's objects mean: events, timers, state machines.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::evidence::{Evidence, Item};
use super::view::View;
use super::{HANDLERS, Suspect};
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
    s.element = format!("{HANDLERS}{}", view.clr.type_name(mt));
    let part = |(mt, (n, _)): &(u64, (u64, u64))| format!("{} {}", thousands(*n), view.clr.type_name(*mt));
    let id = view.retained.tree.node(position)?;
    if let Some((above, slot)) = view.above(id).and_then(|a| Some((a, view.slot_between(a, address)?))) {
        let name = view.name_at(above);
        let item = Item::of("event").ty(&name).name(&*slot).at(above);
        s.facts.push(Evidence::new(format!("event: {name}.{slot} of {above:x}"), item));
    }
    let text = format!("targets: {}", targets.iter().take(5).map(part).collect::<Vec<_>>().join(", "));
    let target = |(mt, (n, _)): &(u64, (u64, u64))| Item::of("targets").ty(view.clr.type_name(*mt)).count(*n);
    s.facts.push(Evidence::many(text, targets.iter().map(target).collect()));
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
        let name = |mt: u64| (mt != 0).then(|| view.clr.type_name(mt).to_string());
        let (state, target) = (name(state), name(target));
        let mut s = group(view, "timers", &timers, &wanted);
        let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".into());
        let text = format!("state: {}; target of the callback: {}", or_none(&state), or_none(&target));
        let items =
            vec![Item { ty: state, ..Item::of("state") }, Item { ty: target, ..Item::of("target of the callback") }];
        s.facts.insert(0, Evidence::many(text, items));
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
        let target = view.clr.type_name(target);
        let item = Item::of("targets").ty(&target).count(s.count);
        s.facts.insert(0, Evidence::new(format!("target of each: {target}"), item));
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
        let name = view.type_name(ty);
        let item = Item::of("handles").name(&s.owner).ty(&name).count(count);
        s.facts.push(Evidence::new(format!("{} {}s to {name}", thousands(count), s.owner), item));
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
        s.place.variable = Some(name.to_owned());
        let text = format!("of {} threads; the path is that of the biggest", thousands(s.count));
        s.facts.push(Evidence::new(text, Item::of("threads, the path is that of the biggest").count(s.count)));
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
        let none = Item::of("state machines that have not completed").count(s.count);
        s.facts.insert(0, Evidence::new("none of them has completed", none));
        let name = view.type_name(ty);
        if let Some(method) = method_of(&name) {
            let text = format!("state machines of {method}");
            s.facts.insert(0, Evidence::new(text, Item::of("method").name(method)));
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
            w.facts.retain(|f| !f.text.starts_with("the path is"));
            w.bytes = w.bytes.max(c.bytes);
            (w.owner, w.holder, w.path, w.example) = (c.owner, c.holder, c.path, c.example);
            w.place = c.place;
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
        let text = "the path is that of the example; others may be held elsewhere";
        s.facts.push(Evidence::new(text, Item::of("object whose path it is").at(s.example)));
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
