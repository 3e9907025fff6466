//! Suspects told by what is in objects: collections with much room, values in boxes.

use std::cmp::Reverse;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::evidence::{Evidence, Item};
use super::holders::Holders;
use super::view::View;
use super::{LEAST, Suspect};
use crate::commands::graph::dominators::statics_arrays;
use crate::commands::objects::collections::room::{LEAST_USED, Plan};
use crate::heap::stat::Tally;
use crate::shell::out::thousands;

/// Types named in text; data has all.
const NAMED: usize = 3;

/// Collections of one type.
#[derive(Default, Clone, Copy)]
struct Rooms {
    /// All, with the bytes of their room.
    all: Tally,
    /// Bytes of it in use.
    used: u64,
    /// Those that are mostly empty, with the bytes they do not use.
    spare: Tally,
    /// The room of those.
    of: u64,
    /// The one with most spare bytes, and how many.
    most: (u64, u32),
}

impl Rooms {
    fn merge(&mut self, other: &Self) {
        self.all.merge(other.all);
        self.spare.merge(other.spare);
        self.used = self.used.saturating_add(other.used);
        self.of = self.of.saturating_add(other.of);
        if other.most.0 > self.most.0 {
            self.most = other.most;
        }
    }
}

/// Sums of a worker.
#[derive(Default)]
struct Seen {
    types: FxHashMap<u32, Rooms>,
    holders: Holders,
    /// Positions of the arrays of those that are mostly empty.
    arrays: Vec<u32>,
}

/// Plans of the types that are collections with room of their own, by type number.
fn plans(view: &View<'_>) -> Vec<Option<Plan>> {
    let mut tried = vec![false; view.all.len()];
    let mut plans = vec![None; view.all.len()];
    for (position, &ty) in view.types.iter().enumerate() {
        let Some(tried) = tried.get_mut(ty as usize).filter(|t| !**t) else { continue };
        *tried = true;
        let is_class = view.info(ty).is_some_and(|t| !t.is_free && !t.is_string && !t.mt.is_array());
        let sample = view.address(position as u32).filter(|_| is_class).and_then(|a| view.session.value(a));
        if let (Some(sample), Some(plan)) = (sample, plans.get_mut(ty as usize)) {
            *plan = Plan::of(&sample);
        }
    }
    plans
}

/// Live collections and builders that have room for far more than they hold. The positions of their arrays go to `told`.
pub fn capacity(view: &View<'_>, out: &mut Vec<Suspect>, told: &mut FxHashSet<u32>) -> Result<()> {
    let plans = plans(view);
    let wanted: Vec<bool> = plans.iter().map(Option::is_some).collect();
    view.session.watch.progress.start("measuring collections", 0);
    let parts = view.gather(&wanted, |seen: &mut Seen, position| {
        let ty = view.type_at(position);
        let plan = plans.get(ty as usize).copied().flatten();
        let room = plan.and_then(|p| p.read(view.clr, view.address(position)?, |a| view.array(a)));
        let Some(room) = room.filter(|r| r.capacity > 0) else { return };
        let bytes = room.capacity.saturating_mul(room.unit);
        let mut one =
            Rooms { all: Tally { count: 1, bytes }, used: bytes.saturating_sub(room.spare()), ..Rooms::default() };
        if room.is_mostly_empty() {
            one.spare = Tally { count: 1, bytes: room.spare() };
            (one.of, one.most) = (bytes, (room.spare(), position));
            seen.holders.add(view.owner_type(position), room.spare());
            seen.arrays.extend(room.arrays.iter().filter_map(|a| view.position_of(*a)));
        }
        seen.types.entry(ty).or_default().merge(&one);
    })?;
    view.session.watch.progress.finish();
    let (mut types, mut holders, mut total): (FxHashMap<u32, Rooms>, Holders, Rooms) = Default::default();
    let mut arrays = Vec::new();
    for part in parts {
        part.types.iter().for_each(|(ty, r)| types.entry(*ty).or_default().merge(r));
        holders.merge(part.holders);
        arrays.extend(part.arrays);
    }
    let mut types: Vec<(u32, Rooms)> = types.into_iter().collect();
    types.sort_unstable_by_key(|(ty, r)| (Reverse(r.spare.bytes), *ty));
    types.iter().for_each(|(_, r)| total.merge(r));
    if total.spare.bytes < view.threshold().max(LEAST) {
        return Ok(());
    }
    told.extend(arrays);
    let mut s = Suspect { kind: "capacity", bytes: total.spare.bytes, count: total.spare.count, ..Suspect::default() };
    s.element = format!("collections and builders less than {LEAST_USED}% full");
    s.example = view.address(total.most.1).unwrap_or(0);
    if let Some(id) = view.retained.tree.node(total.most.1) {
        view.place(&mut s, id);
    }
    describe(view, &total, &types, &mut s);
    s.facts.extend(holders.evidence(view, "what holds such collections, with the bytes they do not use"));
    let text = "the path is that of the one with most room; others may be held elsewhere";
    s.facts.push(Evidence::new(text, Item::of("object whose path it is").at(s.example).bytes(total.most.0)));
    let at = s.example;
    s.next = vec![format!("!dumpobj {at:x}"), format!("!retained {at:x}"), format!("!gcroot {at:x}")];
    out.push(s);
    Ok(())
}

fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

fn describe(view: &View<'_>, total: &Rooms, types: &[(u32, Rooms)], s: &mut Suspect) {
    let full = percent(total.used, total.all.bytes);
    let (all, of) = (thousands(total.all.count), thousands(total.all.bytes));
    let item = Item::of("all collections and builders: the share of their room in use").share(full);
    let item = item.count(total.all.count).bytes(total.all.bytes);
    s.facts.push(Evidence::new(format!("{full:.0}% of the room of all {all} are in use ({of} bytes)"), item));
    // Of those that are mostly empty.
    let used = |r: &Rooms| percent(r.of.saturating_sub(r.spare.bytes), r.of);
    let part = |(ty, r): &(u32, Rooms)| {
        let (n, bytes) = (thousands(r.spare.count), thousands(r.spare.bytes));
        format!("{n} {} ({bytes} bytes, {:.0}% full)", view.type_name(*ty), used(r))
    };
    let item = |(ty, r): &(u32, Rooms)| {
        let item = Item::of("mostly empty ones, with the bytes they do not use and how full they are");
        let item = item.ty(view.type_name(*ty)).count(r.spare.count).bytes(r.spare.bytes).share(used(r));
        item.at(view.address(r.most.1).unwrap_or(0))
    };
    let spare: Vec<(u32, Rooms)> = types.iter().filter(|t| t.1.spare.count > 0).copied().collect();
    let parts: Vec<String> = spare.iter().take(NAMED).map(part).collect();
    s.facts.push(Evidence::many(parts.join(", "), spare.iter().map(item).collect()));
}

/// Values of one type in boxes.
#[derive(Default)]
struct Boxes {
    all: Tally,
    holders: FxHashMap<u32, u64>,
    first: u32,
}

/// Values in boxes: live objects of value types, but for those in which the runtime itself keeps static variables.
pub fn boxed(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted: Vec<bool> = view.all.iter().map(|t| !t.is_free && t.mt.is_value_type()).collect();
    let statics = statics_arrays(view.session, view.retained)?;
    let is_static = |position: u32| {
        let above = view.retained.tree.node(position).and_then(|id| view.above(id));
        above.and_then(|a| view.position_of(a)).is_some_and(|p| statics.contains(&p))
    };
    view.session.watch.progress.start("counting boxed values", 0);
    let parts = view.gather(&wanted, |seen: &mut FxHashMap<u32, Boxes>, position| {
        if is_static(position) {
            return;
        }
        let b = seen.entry(view.type_at(position)).or_insert_with(|| Boxes { first: position, ..Boxes::default() });
        b.all.add(view.retained.weights.own(position));
        *b.holders.entry(view.owner_type(position)).or_default() += 1;
    })?;
    view.session.watch.progress.finish();
    let mut types: FxHashMap<u32, Boxes> = FxHashMap::default();
    for (ty, part) in parts.into_iter().flatten() {
        let b = types.entry(ty).or_insert_with(|| Boxes { first: part.first, ..Boxes::default() });
        b.all.merge(part.all);
        part.holders.iter().for_each(|(h, n)| *b.holders.entry(*h).or_default() += n);
    }
    let mut types: Vec<(u32, Boxes)> = types.into_iter().collect();
    types.sort_unstable_by_key(|(ty, b)| (Reverse(b.all.bytes), *ty));
    let mut total = Tally::default();
    types.iter().for_each(|(_, b)| total.merge(b.all));
    let enough = total.bytes >= view.threshold().max(LEAST) && total.count >= view.limits.min_count;
    let Some((_, most)) = types.first().filter(|_| enough) else { return Ok(()) };
    let mut s = Suspect { kind: "boxed", bytes: total.bytes, count: total.count, ..Suspect::default() };
    s.element = "values in boxes".into();
    s.example = view.address(most.first).unwrap_or(0);
    s.holder = view.owner_of(most.first).and_then(|p| view.address(p)).unwrap_or(0);
    if let Some(id) = view.retained.tree.node(most.first) {
        view.place(&mut s, id);
    }
    s.facts.extend(by_type(view, &types));
    let text = "the path is that of the example; others may be held elsewhere";
    s.facts.push(Evidence::new(text, Item::of("object whose path it is").at(s.example)));
    let mt = view.clr.object_type(s.example).unwrap_or(0);
    s.next = vec![format!("!dumpheap -live -mt {mt:x}"), format!("!gcroot {:x}", s.example)];
    out.push(s);
    Ok(())
}

/// Boxes by type, each with what holds most of them.
fn by_type(view: &View<'_>, types: &[(u32, Boxes)]) -> Vec<Evidence> {
    let holder = |b: &Boxes| {
        let most = b.holders.iter().max_by_key(|(ty, n)| (**n, Reverse(**ty)));
        most.and_then(|(ty, n)| Some((view.info(*ty).map(|_| view.type_name(*ty))?, *n)))
    };
    let part = |(ty, b): &(u32, Boxes)| {
        format!("{} {} ({} bytes)", thousands(b.all.count), view.type_name(*ty), thousands(b.all.bytes))
    };
    let item = |(ty, b): &(u32, Boxes)| {
        Item::of("boxes of values of this type").ty(view.type_name(*ty)).count(b.all.count).bytes(b.all.bytes)
    };
    let parts: Vec<String> = types.iter().take(NAMED).map(part).collect();
    let mut facts = vec![Evidence::many(parts.join(", "), types.iter().map(item).collect())];
    for (ty, b) in types.iter().take(NAMED) {
        let Some((name, n)) = holder(b) else { continue };
        let text = format!("{} of the {} are held by {name}", thousands(n), view.type_name(*ty));
        facts.push(Evidence::new(text, Item::of("the type that holds most of one type's boxes").ty(name).count(n)));
    }
    facts
}
