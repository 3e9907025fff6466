//! Suspects of wasted space: free space between objects, arrays mostly empty.

use std::collections::BTreeMap;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::view::View;
use crate::commands::graph::dominators::statics_arrays;
use crate::heap::Generation;
use crate::heap::stat::Tally;
use crate::shell::out::thousands;

/// Types named.
const NAMED: usize = 3;
/// From this size on, in bytes, an array is looked at.
const ARRAY: u64 = 512;

/// What stands behind free blocks of one generation.
#[derive(Default)]
struct Behind {
    /// Start and size of the biggest block.
    biggest: (u64, u64),
    /// Blocks in front of a pinned object.
    pinned: Tally,
    /// Blocks by the type of the object behind.
    types: FxHashMap<u32, Tally>,
}

/// Generations with much free space between objects.
pub fn fragmented(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let stat = view.session.stat()?;
    let heap = stat.types.total().bytes;
    let least = (heap as f64 * view.limits.share / 100.0) as u64;
    let mut sums: BTreeMap<Generation, (Tally, Tally)> = BTreeMap::new();
    for ((_, generation), all, free) in &stat.generations {
        let sum = sums.entry(*generation).or_default();
        sum.0.merge(*all);
        sum.1.merge(*free);
    }
    let percent = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
    sums.retain(|_, (all, free)| free.bytes >= least.max(1) && percent(free.bytes, all.bytes) >= view.limits.free);
    if sums.is_empty() {
        return Ok(());
    }
    let mut behind = behind(view)?;
    for (generation, (all, free)) in sums {
        let mut s = Suspect { kind: "free", bytes: free.bytes, count: free.count, ..Suspect::default() };
        s.element = "free blocks".into();
        s.owner = generation.name().into();
        s.share = percent(free.bytes, heap);
        s.place.generation = Some(generation.short());
        let share = percent(free.bytes, all.bytes);
        let item = Item::of("share of the generation that is free").share(share).bytes(all.bytes);
        s.facts.push(Evidence::new(format!("{share:.1}% of {} is free space", s.owner), item));
        s.next = vec!["!gcheapstat".into(), "!eeheap -gc".into()];
        if let Some(b) = behind.remove(&generation) {
            describe(view, &b, free, &mut s);
        }
        out.push(s);
    }
    Ok(())
}

fn describe(view: &View<'_>, b: &Behind, free: Tally, s: &mut Suspect) {
    let (at, size) = b.biggest;
    s.example = at;
    let item = Item::of("the biggest block").bytes(size).at(at);
    s.facts.push(Evidence::new(format!("the biggest block has {} bytes, at {at:x}", thousands(size)), item));
    let mut types: Vec<(&u32, &Tally)> = b.types.iter().collect();
    types.sort_by_key(|(ty, t)| (std::cmp::Reverse(t.bytes), **ty));
    let part = |(ty, t): &(&u32, &Tally)| {
        format!("{} {} ({} bytes free)", thousands(t.count), view.type_name(**ty), thousands(t.bytes))
    };
    let item = |(ty, t): &(&u32, &Tally)| {
        Item::of("blocks behind which such objects stand").ty(view.type_name(**ty)).count(t.count).bytes(t.bytes)
    };
    let parts: Vec<String> = types.iter().take(NAMED).map(part).collect();
    if !parts.is_empty() {
        let text = format!("behind the blocks stand: {}", parts.join(", "));
        s.facts.push(Evidence::many(text, types.iter().map(item).collect()));
    }
    let pinned = thousands(b.pinned.count);
    let text = match b.pinned.bytes {
        0 => "no block stands in front of a pinned object".into(),
        bytes => {
            let cause = if bytes >= free.bytes / 2 { "pinning: " } else { "" };
            format!("{cause}{pinned} blocks with {} bytes stand in front of pinned objects", thousands(bytes))
        }
    };
    let item = Item::of("blocks in front of pinned objects").count(b.pinned.count).bytes(b.pinned.bytes);
    s.facts.push(Evidence::new(text, item));
    if b.pinned.count > 0 {
        s.next.push("!gchandles -type Pinned".into());
    }
    s.next.push(format!("!listnearobj {at:x}"));
}

fn behind(view: &View<'_>) -> Result<FxHashMap<Generation, Behind>> {
    let handles = view.clr.handles();
    let pinned: FxHashSet<u64> = handles.items.iter().filter(|h| matches!(h.kind.0, 3 | 7)).map(|h| h.object).collect();
    view.session.watch.progress.start("looking at free space", view.walker.heap.allocated());
    let (parts, _) = view.walker.parallel(
        &view.walker.heap.segments,
        |_| (None, FxHashMap::default()),
        |acc: &mut (Option<(u64, u64)>, FxHashMap<Generation, Behind>), segment, o| {
            if o.ty.is_free {
                acc.0 = Some((o.address, o.size));
                let b = acc.1.entry(segment.generation(o.address)).or_default();
                if o.size > b.biggest.1 {
                    b.biggest = (o.address, o.size);
                }
            } else if let Some((at, size)) = acc.0.take() {
                let b = acc.1.entry(segment.generation(at)).or_default();
                b.types.entry(o.ty.id).or_default().add(size);
                if pinned.contains(&o.address) {
                    b.pinned.add(size);
                }
            }
        },
    )?;
    view.session.watch.progress.finish();
    let mut all: FxHashMap<Generation, Behind> = FxHashMap::default();
    for (generation, part) in parts.into_iter().flat_map(|p| p.1) {
        let b = all.entry(generation).or_default();
        if part.biggest.1 > b.biggest.1 {
            b.biggest = part.biggest;
        }
        b.pinned.merge(part.pinned);
        for (ty, t) in part.types {
            b.types.entry(ty).or_default().merge(t);
        }
    }
    Ok(all)
}

/// Arrays of one type that are mostly empty.
#[derive(Default, Clone, Copy)]
struct Empty {
    arrays: Tally,
    /// Bytes of elements that are zero.
    zero: u64,
    /// The position of the one with most of them, and how many bytes.
    most: (u32, u64),
}

impl Empty {
    fn merge(&mut self, other: Self) {
        self.arrays.merge(other.arrays);
        self.zero = self.zero.saturating_add(other.zero);
        if other.most.1 > self.most.1 {
            self.most = other.most;
        }
    }
}

/// Live arrays most of whose elements are null or zero, by type. `told` are positions of arrays of collections that are told of.
pub fn sparse(view: &View<'_>, told: &FxHashSet<u32>, out: &mut Vec<Suspect>) -> Result<()> {
    let statics = statics_arrays(view.session, view.retained)?;
    let wanted: Vec<bool> = view.all.iter().map(|t| !t.is_free && t.mt.is_array()).collect();
    view.session.watch.progress.start("looking into arrays", 0);
    let parts = view.gather(&wanted, |acc: &mut FxHashMap<u32, Empty>, p| {
        let (bytes, ty) = (view.retained.weights.own(p), view.type_at(p));
        let Some(info) = view.info(ty).filter(|_| bytes >= ARRAY && !told.contains(&p)) else { return };
        let size = u64::from(info.mt.component_size());
        // The base size counts the header word in front of the object.
        let first = u64::from(info.mt.base_size).saturating_sub(view.clr.header());
        let run = view.address(p).and_then(|a| view.clr.space().run(a)).unwrap_or(&[]);
        let elements = run.get(first as usize..(bytes as usize).min(run.len())).unwrap_or(&[]);
        let zero = zeros(elements, size as usize).saturating_mul(size);
        if zero as f64 * 100.0 < view.limits.empty * elements.len().max(1) as f64 {
            return;
        }
        // The runtime makes its own arrays, of static fields and of literals, larger than needed: a handle holds them.
        let id = view.retained.tree.node(p);
        let held = id.is_some_and(|id| view.above(id).is_some());
        if !statics.contains(&p) && (held || !info.mt.contains_pointers()) {
            let arrays = Tally { count: 1, bytes };
            acc.entry(ty).or_default().merge(Empty { arrays, zero, most: (p, zero) });
        }
    })?;
    view.session.watch.progress.finish();
    let mut all: BTreeMap<u32, Empty> = BTreeMap::new();
    parts.into_iter().flatten().for_each(|(ty, e)| all.entry(ty).or_default().merge(e));
    for (ty, e) in all.into_iter().filter(|(_, e)| e.zero >= view.threshold()) {
        let mut s = Suspect { kind: "sparse", bytes: e.zero, count: e.arrays.count, ..Suspect::default() };
        s.element = view.type_name(ty).to_string();
        s.example = view.address(e.most.0).unwrap_or(0);
        if let Some(id) = view.retained.tree.node(e.most.0) {
            view.place(&mut s, id);
        }
        let part = e.zero as f64 * 100.0 / e.arrays.bytes.max(1) as f64;
        let text =
            format!("{part:.0}% of the {} bytes of these arrays are elements of zero", thousands(e.arrays.bytes));
        let item = Item::of("share of the arrays' bytes that is zero").share(part).bytes(e.arrays.bytes);
        s.facts.push(Evidence::new(text, item));
        let text = "the path is that of the one with most of them; others may be held elsewhere";
        s.facts.push(Evidence::new(text, Item::of("object whose path it is").at(s.example)));
        let mt = view.clr.object_type(s.example).unwrap_or(0);
        let at = s.example;
        s.next = vec![format!("!dumparray {at:x}"), format!("!gcroot {at:x}"), format!("!dumpheap -live -mt {mt:x}")];
        out.push(s);
    }
    Ok(())
}

/// Elements of `size` bytes whose bytes are all zero.
fn zeros(bytes: &[u8], size: usize) -> u64 {
    let count = match size {
        0 => 0,
        1 => bytes.iter().filter(|b| **b == 0).count(),
        2 => bytes.chunks_exact(2).filter(|c| **c == [0; 2]).count(),
        4 => bytes.chunks_exact(4).filter(|c| **c == [0; 4]).count(),
        8 => bytes.chunks_exact(8).filter(|c| **c == [0; 8]).count(),
        _ => bytes.chunks_exact(size).filter(|c| c.iter().all(|b| *b == 0)).count(),
    };
    count as u64
}

#[cfg(test)]
mod tests {
    use super::zeros;

    #[test]
    fn elements_of_any_size_are_counted() {
        for size in 1..=24usize {
            let mut bytes = vec![0u8; size * 10 + size - 1];
            assert_eq!(zeros(&bytes, size), 10 + u64::from(size == 1) * (size as u64 - 1), "{size}");
            bytes[3 * size] = 1;
            bytes[7 * size + size - 1] = 1;
            assert_eq!(zeros(&bytes, size), 8, "{size}");
        }
        assert_eq!(zeros(&[0; 8], 0), 0);
    }
}
