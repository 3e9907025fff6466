//! Suspects from the runtime's own state: the finalizer queue, free space, texts held twice, contexts that stay.

use std::hash::{Hash, Hasher};

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHasher};

use super::Suspect;
use super::view::View;
use crate::clr::finalizer;
use crate::heap::Generation;
use crate::heap::stat::Tally;
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
    s.example = view.address(p).unwrap_or(0);
    s.facts.push(format!("{} of them {}", thousands(n), view.type_name(ty)));
    s.facts
        .push("a finalizer that waits, or more work than one thread does: see what the finalizer thread does".into());
    s.next = vec!["!finalizequeue -ready".into(), "!clrthreads".into()];
    out.push(s);
    Ok(())
}

/// Generations with much free space between objects.
pub fn free_space(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let stat = view.session.stat()?;
    let heap = stat.types.total().bytes;
    let least = (heap as f64 * view.limits.share / 100.0) as u64;
    let mut sums: std::collections::BTreeMap<_, (Tally, Tally)> = std::collections::BTreeMap::new();
    for ((_, generation), all, free) in &stat.generations {
        let sum = sums.entry(*generation).or_default();
        sum.0.merge(*all);
        sum.1.merge(*free);
    }
    for (generation, (all, free)) in sums {
        if free.bytes < least.max(1) {
            continue;
        }
        let mut s = Suspect { kind: "free", bytes: free.bytes, count: free.count, ..Suspect::default() };
        s.element = "free blocks".into();
        s.owner = generation.name().into();
        let percent = |of: u64| free.bytes as f64 * 100.0 / of.max(1) as f64;
        s.share = percent(heap);
        s.facts.push(format!("{:.1}% of {} is free space", percent(all.bytes), s.owner));
        let pinned = view.clr.handles().items.iter().filter(|h| matches!(h.kind.0, 3 | 7)).count();
        s.facts.push(format!("{} pinned handles", thousands(pinned as u64)));
        let small = matches!(generation, Generation::Gen0 | Generation::Gen1 | Generation::Gen2);
        if let Some(f) = stat.fragments.iter().max_by_key(|f| f.size).filter(|_| small) {
            let (size, next) = (thousands(f.size), view.clr.type_name(f.next_mt));
            s.facts.push(format!("the biggest block of the small object heap has {size} bytes, in front of {next}"));
        }
        s.next = vec!["!gcheapstat".into(), "!gchandles -type Pinned".into(), "!eeheap -gc".into()];
        out.push(s);
    }
    Ok(())
}

/// Live strings with the same text.
pub fn strings(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let string = view.all.iter().find(|t| t.is_string).map(|t| t.id);
    let live = |a: u64| view.position_of(a);
    view.session.watch.progress.start("comparing strings", view.walker.heap.allocated());
    let (parts, _) = view.walker.parallel(
        &view.walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<(u64, u64, u32)>, _, o| {
            if Some(o.ty.id) != string {
                return;
            }
            let text = o.bytes.get(view.clr.header() as usize..);
            if let (Some(text), Some(p)) = (text, live(o.address)) {
                let mut hash = FxHasher::default();
                text.hash(&mut hash);
                acc.push((hash.finish(), o.size, p));
            }
        },
    )?;
    view.session.watch.progress.finish();
    let mut all: Vec<(u64, u64, u32)> = parts.concat();
    all.sort_unstable();
    let mut texts: Vec<(u64, u64, u32)> = Vec::new();
    let (mut saved, mut count) = (0u64, 0u64);
    for (i, same) in all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).enumerate() {
        view.check(i)?;
        let (Some(first), more) = (same.first(), same.len() as u64 - 1) else { continue };
        saved = saved.saturating_add(more.saturating_mul(first.1));
        count += more;
        if more > 0 {
            texts.push((more.saturating_mul(first.1), more + 1, first.2));
        }
    }
    if saved < view.threshold() || count < view.limits.min_count {
        return Ok(());
    }
    texts.sort_unstable_by(|a, b| b.cmp(a));
    let mut s = Suspect { kind: "strings", bytes: saved, count, ..Suspect::default() };
    s.element = "strings whose text another has".into();
    s.owner = "bytes to be saved".into();
    s.example = texts.first().and_then(|t| view.address(t.2)).unwrap_or(0);
    for &(bytes, n, p) in texts.iter().take(3) {
        let text = view.address(p).and_then(|a| view.clr.string_at(a, 60)).map_or(String::new(), |t| t.1);
        s.facts.push(format!("{} times \"{text}\", {} bytes to be saved", thousands(n), thousands(bytes)));
    }
    s.next = vec!["!dumpheap -strings".into(), format!("!gcroot {:x}", s.example)];
    out.push(s);
    Ok(())
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
    let allocators = view.types_where(|n| n == "System.Reflection.LoaderAllocator");
    for p in view.positions(&wanted) {
        let Some(address) = view.address(p) else { continue };
        if view.word(address, &["_state"]) != Some(UNLOADING) {
            continue;
        }
        let mut s = Suspect { kind: "context", bytes: view.retained.bytes(p), count: 1, ..Suspect::default() };
        s.element = view.name_at(address).to_string();
        s.example = address;
        if let Some(id) = view.retained.tree.node(p) {
            view.place(&mut s, id);
        }
        s.facts.push("told to unload: instances of its types, stacks or handles keep it".into());
        s.next.push(format!("!gcroot {address:x}"));
        let live = view.positions(&allocators).filter_map(|a| view.address(a)).take(4);
        s.next.extend(live.map(|a| format!("!gcroot {a:x}")));
        out.push(s);
    }
    Ok(())
}
