//! Suspects known by what the class library's objects mean: events, timers, state machines.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::view::View;
use crate::shell::out::thousands;

/// Most handlers of one event read.
const MAX_HANDLERS: u64 = 1 << 20;
/// `Task.m_stateFlags`: ran to completion, faulted or cancelled (dotnet/runtime v8.0
/// `src/libraries/System.Private.CoreLib/src/System/Threading/Tasks/Task.cs`, `TaskStateFlags.CompletedMask`).
const COMPLETED: u32 = 0x0160_0000;

/// Delegates with many handlers. Their lists go to `told`: they are no suspects of their own.
pub fn events(view: &View<'_>, out: &mut Vec<Suspect>, told: &mut FxHashSet<u32>) -> Result<()> {
    let is_delegate = |mt: u64| view.clr.type_name(mt).as_ref() == "System.MulticastDelegate";
    let delegates: Vec<bool> = view.all.iter().map(|t| t.mt.parent != 0 && is_delegate(t.mt.parent)).collect();
    for (i, p) in view.positions(&delegates).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p) else { continue };
        let Some(list) = view.pointer(address, &["_invocationList"]).filter(|&l| l != 0) else { continue };
        let count = view.pointer(address, &["_invocationCount"]).unwrap_or(0);
        // The fields have other meanings in other delegates: only with an array they are a list.
        if count < view.limits.few || count > MAX_HANDLERS {
            continue;
        }
        let Some(array) = view.walker.object_at(list).filter(|a| a.ty.mt.is_sz_array()) else { continue };
        if u64::from(view.clr.component_count(array.address).unwrap_or(0)) < count {
            continue;
        }
        told.extend(view.index.ids.id_of(address));
        told.extend(view.index.ids.id_of(list));
        if let Some(s) = event(view, p, address, list, count) {
            out.push(s);
        }
    }
    Ok(())
}

fn event(view: &View<'_>, position: u32, address: u64, list: u64, count: u64) -> Option<Suspect> {
    let mut targets: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    let data = list.checked_add(2 * view.clr.header())?;
    for i in 0..count {
        let Some(entry) = view.clr.space().ptr_at(data, i * view.clr.header()) else { break };
        let Some(target) = view.pointer(entry, &["_target"]).filter(|&t| t != 0) else { continue };
        let t = targets.entry(view.clr.object_type(target).unwrap_or(0)).or_insert((0, target));
        t.0 += 1;
    }
    let mut targets: Vec<_> = targets.into_iter().collect();
    targets.sort_by_key(|(mt, t)| (std::cmp::Reverse(t.0), *mt));
    let &(mt, (_, example)) = targets.first()?;
    let mut s = Suspect { kind: "event", bytes: view.retained.bytes(position), count, ..Suspect::default() };
    s.holder = address;
    s.example = example;
    s.element = format!("handlers on {}", view.clr.type_name(mt));
    let part = |(mt, (n, _)): &(u64, (u64, u64))| format!("{} {}", thousands(*n), view.clr.type_name(*mt));
    s.facts.push(format!("targets: {}", targets.iter().take(5).map(part).collect::<Vec<_>>().join(", ")));
    view.place(&mut s, view.retained.tree.node(position)?);
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
        // Without a closure the target is the delegate itself.
        let target = callback.and_then(|c| view.pointer(c, &["_target"]).filter(|&t| t != c));
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
    for waiting in methods.into_values().filter(|w| w.len() as u64 >= view.limits.min_count) {
        let mut s = group(view, "async", &waiting, &[]);
        s.facts.insert(0, "none of them has completed".into());
        out.push(s);
    }
    Ok(())
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
