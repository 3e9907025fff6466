//! Suspects told by what objects of well-known libraries mean: weak references to what is gone, clients, registrations for
//! cancellation, contexts of entities.

use std::cmp::Reverse;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::holders::Holders;
use super::view::{NONE, View};
use crate::heap::Generation;
use crate::heap::stat::Tally;
use crate::shell::out::thousands;

/// Types named in text; data has all.
const NAMED: usize = 3;

/// Weak references of one type of holder.
#[derive(Default, Clone, Copy)]
struct Weak {
    live: u64,
    dead: u64,
    bytes: u64,
    /// One that is dead, and how many.
    first: Option<u32>,
}

/// Weak references whose target is gone: tables of such that nobody cleans up.
pub fn weak(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_of_class(&["System.WeakReference"]);
    let parts = view.gather(&wanted, |seen: &mut FxHashMap<u32, Weak>, position| {
        let Some(dead) = view.address(position).and_then(|a| is_dead(view, a)) else { return };
        let w = seen.entry(view.owner_type(position)).or_default();
        match dead {
            true => {
                w.dead += 1;
                w.bytes += view.retained.weights.own(position);
                w.first.get_or_insert(position);
            }
            false => w.live += 1,
        }
    })?;
    let mut all: FxHashMap<u32, Weak> = FxHashMap::default();
    for (ty, part) in parts.into_iter().flatten() {
        let w = all.entry(ty).or_default();
        (w.live, w.dead, w.bytes) = (w.live + part.live, w.dead + part.dead, w.bytes + part.bytes);
        w.first = w.first.or(part.first);
    }
    // Who lives with what is gone has more of it than of what is there.
    all.retain(|_, w| w.dead >= view.limits.min_count && w.dead > w.live);
    let mut all: Vec<(u32, Weak)> = all.into_iter().collect();
    all.sort_unstable_by_key(|(ty, w)| (Reverse(w.dead), *ty));
    let Some(first) = all.first().and_then(|a| a.1.first) else { return Ok(()) };
    let sum = |of: fn(&Weak) -> u64| all.iter().map(|(_, w)| of(w)).sum::<u64>();
    let (live, dead, bytes) = (sum(|w| w.live), sum(|w| w.dead), sum(|w| w.bytes));
    // Each has a handle too, which every collection looks at.
    let mut s = Suspect { kind: "weak", bytes, count: dead, ..Suspect::default() };
    s.element = "weak references whose target is gone".into();
    s.example = view.address(first).unwrap_or(0);
    s.holder = view.owner_of(first).and_then(|p| view.address(p)).unwrap_or(0);
    if let Some(id) = view.retained.tree.node(first) {
        view.place(&mut s, id);
    }
    let item = Item::of("weak references of the same holders whose target is there").count(live);
    s.facts.push(Evidence::new(format!("{} beside them have their target", thousands(live)), item));
    let mut holders = Holders::default();
    for (ty, w) in &all {
        holders.add_all(*ty, Tally { count: w.dead, bytes: w.bytes });
    }
    s.facts.extend(holders.evidence(view, "what holds weak references whose target is gone"));
    s.next = vec!["!gchandles -stat".into(), format!("!gcroot {:x}", s.example)];
    if s.holder != 0 {
        s.next.insert(0, format!("!dumpobj {:x}", s.holder));
    }
    out.push(s);
    Ok(())
}

/// Whether the target of the weak reference at `address` is gone; `None` when it has no handle. The low bits of the handle
/// say of which kind it is (dotnet/runtime v8.0 `src/libraries/System.Private.CoreLib/src/System/WeakReference.cs`).
fn is_dead(view: &View<'_>, address: u64) -> Option<bool> {
    let handle = view.pointer(address, &["_taggedHandle", "m_taggedHandle", "m_handle"])? & !3;
    Some(view.clr.space().ptr(handle).filter(|_| handle != 0)? == 0)
}

/// Clients of HTTP that have connections of their own: those of one holder could share one, or the handler below it.
pub fn clients(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_of_class(&["System.Net.Http.HttpClient"]);
    // By the type that holds them: positions, and the handler of each.
    let mut groups: FxHashMap<u32, Vec<(u32, u64)>> = FxHashMap::default();
    for p in view.positions(&wanted) {
        let handler = view.address(p).and_then(|a| view.pointer(a, &["_handler", "handler"])).unwrap_or(0);
        groups.entry(view.owner_type(p)).or_default().push((p, handler));
    }
    let total: u64 = groups.values().map(|g| g.len() as u64).sum();
    for (ty, group) in groups {
        let mut handlers: Vec<u64> = group.iter().map(|g| g.1).filter(|h| *h != 0).collect();
        handlers.sort_unstable();
        handlers.dedup();
        let own = handlers.len() as u64;
        let Some(&(first, _)) = group.first().filter(|_| own >= view.limits.few) else { continue };
        let mut positions: Vec<u32> = group.iter().map(|g| g.0).collect();
        positions.extend(handlers.iter().filter_map(|&h| view.position_of(h)));
        positions.sort_unstable();
        let count = group.len() as u64;
        let mut s = Suspect { kind: "clients", bytes: view.kept_by(&positions), count, ..Suspect::default() };
        s.element = view.type_name(view.type_at(first)).to_string();
        s.example = view.address(first).unwrap_or(0);
        if let Some(id) = view.retained.tree.node(first) {
            view.place(&mut s, id);
        }
        let item = Item::of("handlers of theirs, each with connections of its own").count(own);
        s.facts.push(Evidence::new(format!("{} of them have a handler of their own", thousands(own)), item));
        if ty != NONE {
            let item = Item::of("what holds them").ty(view.type_name(ty)).count(count);
            s.facts.push(Evidence::new(format!("held by {}", view.type_name(ty)), item));
        }
        s.facts.extend(all_clients(view, &wanted, total)?);
        let mt = view.clr.object_type(s.example).unwrap_or(0);
        s.next = vec!["!dumphttp".into(), format!("!dumpheap -live -mt {mt:x}"), format!("!gcroot {:x}", s.example)];
        out.push(s);
    }
    Ok(())
}

/// How many clients there are in all, and how many nothing holds any more.
fn all_clients(view: &View<'_>, wanted: &[bool], live: u64) -> Result<Option<Evidence>> {
    let is = |ty: u32| wanted.get(ty as usize).copied().unwrap_or(false);
    let met: u64 = view.session.stat()?.types.iter().filter(|t| is(t.0)).map(|t| t.1.count).sum();
    let dead = met.saturating_sub(live);
    let items = vec![Item::of("all live clients").count(live), Item::of("clients nothing holds any more").count(dead)];
    let text = format!("{} live clients in all; {} further ones nothing holds", thousands(live), thousands(dead));
    Ok(Some(Evidence::many(text, items)))
}

/// Classes of what is registered with a source of cancellation, and the fields that lead to it: directly, or through the
/// list it is in (dotnet/runtime v3.1 and v8.0 `src/libraries/System.Private.CoreLib/src/System/Threading/
/// CancellationTokenSource.cs`).
const REGISTERED: &[&str] =
    &["System.Threading.CancellationTokenSource+CallbackNode", "System.Threading.CancellationCallbackInfo"];
const LIST: &[&str] = &["Registrations", "Partition"];
const SOURCE: &[&str] = &["Source", "CancellationTokenSource"];
const CALLBACK: &[&str] = &["Callback"];
const STATE: &[&str] = &["CallbackState", "StateForCallback"];

/// Registrations with one source of cancellation that nobody took back. They and their callbacks go to `told`: they are no
/// suspects of their own.
pub fn registrations(view: &View<'_>, out: &mut Vec<Suspect>, told: &mut FxHashSet<u32>) -> Result<()> {
    let wanted = view.types_where(|n| REGISTERED.contains(&n));
    let mut sources: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
    for (i, p) in view.positions(&wanted).enumerate() {
        view.check(i)?;
        let Some(address) = view.address(p) else { continue };
        // One that was taken back is kept for the next.
        if view.pointer(address, CALLBACK).unwrap_or(0) == 0 {
            continue;
        }
        let of = view.pointer(address, LIST).filter(|l| *l != 0).unwrap_or(address);
        sources.entry(view.pointer(of, SOURCE).unwrap_or(0)).or_default().push(p);
    }
    let total: u64 = sources.values().map(|s| s.len() as u64).sum();
    for (source, nodes) in sources {
        let count = nodes.len() as u64;
        if source == 0 || count < view.limits.min_count {
            continue;
        }
        let bytes = view.kept_by(&nodes);
        let Some((&example, id)) = nodes.first().zip(view.index.ids.id_of(source)) else { continue };
        if bytes < view.threshold() {
            continue;
        }
        let mut s = Suspect { kind: "registrations", bytes, count, ..Suspect::default() };
        s.element = "callbacks registered for cancellation".into();
        (s.example, s.holder) = (view.address(example).unwrap_or(0), source);
        view.place(&mut s, id);
        told.extend(nodes.iter().filter_map(|&p| view.retained.tree.node(p)));
        let addresses = nodes.iter().filter_map(|&p| view.address(p));
        let objects = addresses.flat_map(|a| [view.pointer(a, CALLBACK), view.pointer(a, STATE)]).flatten();
        told.extend(objects.filter_map(|o| view.index.ids.id_of(o)));
        s.facts.extend(callbacks(view, &nodes));
        let others = total - count;
        let item = Item::of("registrations with other sources").count(others);
        s.facts.push(Evidence::new(format!("{} are registered with other sources", thousands(others)), item));
        s.next = vec![format!("!dumpobj {:x}", s.example), format!("!gcroot {source:x}")];
        out.push(s);
    }
    Ok(())
}

/// What registered callbacks are called on.
fn callbacks(view: &View<'_>, nodes: &[u32]) -> Option<Evidence> {
    let mut targets: FxHashMap<u64, u64> = FxHashMap::default();
    for address in nodes.iter().filter_map(|&p| view.address(p)) {
        let callback = view.pointer(address, CALLBACK).filter(|c| *c != 0);
        let state = view.pointer(address, STATE).filter(|s| *s != 0);
        // The library wraps what was registered: then the state is the delegate.
        let target = state.or_else(|| callback.and_then(|c| view.clr.delegate(c)?.receiver()));
        let target = target.map(|t| view.clr.delegate(t).and_then(|d| d.receiver()).unwrap_or(t));
        if let Some(mt) = target.and_then(|t| view.clr.object_type(t)) {
            *targets.entry(mt).or_default() += 1;
        }
    }
    let mut targets: Vec<(u64, u64)> = targets.into_iter().collect();
    targets.sort_unstable_by_key(|(mt, n)| (Reverse(*n), *mt));
    let part = |(mt, n): &(u64, u64)| format!("{} {}", thousands(*n), view.clr.type_name(*mt));
    let item = |(mt, n): &(u64, u64)| {
        Item::of("what registered callbacks are called on").ty(view.clr.type_name(*mt)).count(*n)
    };
    let parts: Vec<String> = targets.iter().take(NAMED).map(part).collect();
    let text = format!("called on: {}", parts.join(", "));
    (!targets.is_empty()).then(|| Evidence::many(text, targets.iter().map(item).collect()))
}

/// Entries in which contexts of entities keep what they track, and the fields that lead to the context: EF Core (dotnet/
/// efcore v8.0 `src/EFCore/ChangeTracking/Internal/InternalEntityEntry.cs`, `StateManager.cs`) and EF 6 (dotnet/ef6 v6.4
/// `src/EntityFramework/Core/Objects/EntityEntry.cs`, `ObjectStateManager.cs`).
const ENTRIES: &[&str] = &[
    "Microsoft.EntityFrameworkCore.ChangeTracking.Internal.InternalEntityEntry",
    "System.Data.Entity.Core.Objects.EntityEntry",
];
const MANAGER: &[&str] = &["<StateManager>k__BackingField", "_stateManager", "_cache"];
const CONTEXT: &[&str] = &["<Context>k__BackingField", "_context"];
/// What is on the way to an object that waits in an async method, or is being worked on.
const AT_WORK: &[&str] = &["StateMachineBox", "System.Threading.Tasks.", "Http1Connection", "Http2Stream"];

/// Contexts of entities that track many and live long: in the oldest generation, held by a static variable or a handle over
/// objects none of which belongs to work that is under way.
pub fn trackers(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_of_class(ENTRIES);
    let mut managers: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
    for (i, p) in view.positions(&wanted).enumerate() {
        view.check(i)?;
        let manager = view.address(p).and_then(|a| view.pointer(a, MANAGER)).unwrap_or(0);
        if manager != 0 {
            managers.entry(manager).or_default().push(p);
        }
    }
    for (manager, entries) in managers {
        let context = view.pointer(manager, CONTEXT).filter(|c| view.position_of(*c).is_some()).unwrap_or(manager);
        let old = view.walker.heap.segment_at(context).map(|s| s.generation(context)) == Some(Generation::Gen2);
        let Some(id) = view.index.ids.id_of(context).filter(|_| old) else { continue };
        if (entries.len() as u64) < view.limits.min_count || !view.lives_long(id, AT_WORK) {
            continue;
        }
        let count = entries.len() as u64;
        let bytes = view.kept_by(&entries).max(view.position_of(context).map_or(0, |p| view.retained.bytes(p)));
        let mut s = Suspect { kind: "tracker", bytes, count, ..Suspect::default() };
        s.element = "tracked entities".into();
        (s.holder, s.example) = (context, entries.first().and_then(|&p| view.address(p)).unwrap_or(0));
        view.place(&mut s, id);
        let item = Item::of("entities tracked by one context").ty(view.name_at(context)).count(count).at(context);
        let text = format!("{} tracks {} entities, in generation 2", view.name_at(context), thousands(count));
        s.facts.push(Evidence::new(text, item));
        let text = "nothing on the path belongs to work under way: no task, state machine or request";
        s.facts.push(Evidence::new(text, Item::of("held by no work under way").at(context)));
        s.next = vec![format!("!retained {context:x}"), format!("!gcroot {context:x}")];
        out.push(s);
    }
    Ok(())
}
