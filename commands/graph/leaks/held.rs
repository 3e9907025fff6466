//! Objects that hold much: collections, chains, single objects.
//!
//! The dominator tree is followed from the top along what keeps at least the threshold. Where what an object keeps spreads
//! over many like children, or over several big ones, that object is the suspect and its children are the elements.
//! Where it does not, the big children are looked at in turn, and what is left counts for the object itself. So each byte
//! counts for one suspect only.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::view::View;
use crate::shell::out::thousands;

/// From this size on, in bytes, an element is big: the runtime's own threshold for large objects.
const BIG: u64 = 85_000;
/// Types of elements named.
const NAMED: usize = 3;

/// Children of one type.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    count: u64,
    bytes: u64,
    biggest: u32,
    biggest_bytes: u64,
}

/// Elements with those of their own kind that they hold.
#[derive(Default)]
struct Nodes {
    of_type: u64,
    /// What else they hold, by type.
    groups: FxHashMap<u32, Group>,
}

/// An object with those below it that are of its own type and big: a chain or tree counts as one.
struct Unit {
    members: Vec<u32>,
    groups: FxHashMap<u32, Group>,
    /// Children that keep at least the threshold.
    big: Vec<u32>,
}

/// Adds the suspects. `told` are ids of objects that are part of others already.
pub fn find(view: &View<'_>, told: &FxHashSet<u32>, out: &mut Vec<Suspect>) -> Result<()> {
    let search = Search { view, told, threshold: view.threshold(), keys: keys(view) };
    let mut todo = search.top(out)?;
    let mut step = 0usize;
    while let Some(head) = todo.pop() {
        step += 1;
        view.check(step)?;
        if view.retained.tree.node(head).is_none_or(|id| !told.contains(&id)) {
            search.look(head, &mut todo, out)?;
        }
    }
    Ok(())
}

struct Search<'a, 'b> {
    view: &'a View<'b>,
    told: &'a FxHashSet<u32>,
    threshold: u64,
    /// Positions of the keys of dependent handles by type, in ascending order.
    keys: FxHashMap<u32, Vec<u32>>,
}

/// Positions of what dependent handles attach others to, by type.
fn keys(view: &View<'_>) -> FxHashMap<u32, Vec<u32>> {
    let mut keys: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for p in view.graph.dependent.iter().filter_map(|(from, _)| view.retained.tree.position(*from)) {
        keys.entry(view.type_at(p)).or_default().push(p);
    }
    keys.values_mut().for_each(|k| k.sort_unstable());
    keys
}

impl Search<'_, '_> {
    fn is_enough(&self, g: &Group) -> bool {
        let many = g.count >= self.view.limits.min_count;
        g.bytes >= self.threshold && (many || g.count >= 2 && g.bytes / g.count >= BIG)
    }

    /// The children of the members, grouped; members are extended by `follow`.
    fn gather(&self, mut members: Vec<u32>, follow: Option<u32>) -> Result<Unit> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let mut groups: FxHashMap<u32, Group> = FxHashMap::default();
        let (mut big, mut at, mut step) = (Vec::new(), 0, 0usize);
        let given: FxHashSet<u32> = members.iter().copied().collect();
        while let Some(&member) = members.get(at) {
            at += 1;
            for child in tree.children(member).filter(|c| !given.contains(c)) {
                step += 1;
                view.check(step)?;
                let (ty, bytes) = (view.type_at(child), view.retained.bytes(child));
                if follow == Some(ty) && bytes >= self.threshold {
                    members.push(child);
                    continue;
                }
                if bytes >= self.threshold {
                    big.push(child);
                }
                let g = groups.entry(ty).or_default();
                g.count += 1;
                g.bytes += bytes;
                if bytes > g.biggest_bytes {
                    (g.biggest, g.biggest_bytes) = (child, bytes);
                }
            }
        }
        Ok(Unit { members, groups, big })
    }

    /// What no single object holds: the top of the tree, through the arrays of statics.
    fn top(&self, out: &mut Vec<Suspect>) -> Result<Vec<u32>> {
        let mut members = vec![0];
        members.extend(crate::commands::graph::dominators::statics_arrays(self.view.session, self.view.retained)?);
        let mut unit = self.gather(members, None)?;
        let (groups, _) = self.elements(&mut unit);
        let mut shared = FxHashSet::default();
        for (ty, _) in groups {
            if let Some(s) = self.shared(&unit, ty, &mut shared)? {
                out.push(s);
            }
        }
        unit.big.retain(|b| !shared.contains(b));
        Ok(unit.big)
    }

    /// Groups that are elements, the one with most bytes first, and what of the big children is left to look at. An
    /// element that has most of its group's bytes is no element like the others.
    fn elements(&self, unit: &mut Unit) -> (Vec<(u32, Group)>, Vec<u32>) {
        let mut alone = FxHashSet::default();
        let mut elements: Vec<(u32, Group)> = Vec::new();
        for (&ty, g) in &unit.groups {
            let mut g = *g;
            if g.biggest_bytes > g.bytes / 2 && g.biggest_bytes >= self.threshold && g.count > 2 {
                alone.insert(g.biggest);
                g.count -= 1;
                g.bytes -= g.biggest_bytes;
            }
            if self.is_enough(&g) {
                elements.push((ty, g));
            }
        }
        elements.sort_by_key(|(ty, g)| (std::cmp::Reverse(g.bytes), *ty));
        let is_element = |b: &u32| elements.iter().any(|e| e.0 == self.view.type_at(*b)) && !alone.contains(b);
        let rest = unit.big.iter().copied().filter(|b| !is_element(b)).collect();
        (elements, rest)
    }

    fn look(&self, head: u32, todo: &mut Vec<u32>, out: &mut Vec<Suspect>) -> Result<()> {
        let view = self.view;
        let own = view.type_at(head);
        let mut unit = self.gather(vec![head], Some(own))?;
        let (elements, rest) = self.elements(&mut unit);
        let below: u64 = rest.iter().map(|&b| view.retained.bytes(b)).sum();
        let bytes = view.retained.bytes(head).saturating_sub(below);
        todo.extend(&rest);
        if bytes < self.threshold {
            return Ok(());
        }
        let mut s = Suspect { bytes, ..Suspect::default() };
        let linked = elements.first().is_some_and(|e| e.0 == own);
        if linked || unit.members.len() as u64 >= view.limits.min_count {
            (s.kind, s.count) = ("linked", self.within(head, own, &rest)?);
            self.name(&mut s, own, head);
        } else if let Some(&(ty, g)) = elements.first() {
            s.kind = "collection";
            let nodes = self.expand(&unit, ty)?;
            if let Some((inner, g)) = self.inside(&nodes, ty, g) {
                s.count = g.count;
                self.name(&mut s, inner, g.biggest);
                let name = view.type_name(ty);
                let item = Item::of("holders of the elements").ty(&name).count(nodes.of_type);
                s.facts.push(Evidence::new(format!("in {} {name}", thousands(nodes.of_type)), item));
            } else {
                self.fill(&mut s, &unit, ty, g, &elements, self.within(head, ty, &rest)?)?;
                if nodes.of_type > s.count {
                    s.kind = if nodes.of_type >= 2 * s.count { "linked" } else { s.kind };
                    s.count = nodes.of_type;
                }
            }
            self.attached(&mut s, head, ty);
        } else {
            // Nodes of a tree that are all small: none of them shows alone.
            let nodes = self.expand(&unit, own)?.of_type + unit.members.len() as u64;
            let many = nodes >= view.limits.min_count;
            (s.kind, s.count) = if many { ("linked", nodes) } else { ("object", 1) };
            self.name(&mut s, own, head);
        }
        if view.retained.objects(head) > s.count.saturating_mul(2).max(1) || s.kind == "linked" {
            s.facts.extend(self.mostly(head, &rest)?);
        }
        if let Some(id) = view.retained.tree.node(head) {
            view.place(&mut s, id);
        }
        self.next(&mut s, head);
        out.push(s);
        Ok(())
    }

    /// The elements of type `ty` with what they hold through arrays and their own kind: nodes, segments, blocks.
    fn expand(&self, unit: &Unit, ty: u32) -> Result<Nodes> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let mut todo: Vec<u32> = self.children_of(unit, ty).collect();
        let mut nodes = Nodes::default();
        let mut step = 0usize;
        while let Some(p) = todo.pop() {
            nodes.of_type += u64::from(view.type_at(p) == ty);
            for child in tree.children(p) {
                step += 1;
                view.check(step)?;
                let of = view.type_at(child);
                let array = view.info(of).is_some_and(|t| t.mt.is_array() && t.mt.contains_pointers());
                if of == ty || array {
                    todo.push(child);
                    continue;
                }
                let bytes = view.retained.bytes(child);
                let g = nodes.groups.entry(of).or_default();
                g.count += 1;
                g.bytes += bytes;
                if bytes > g.biggest_bytes {
                    (g.biggest, g.biggest_bytes) = (child, bytes);
                }
            }
        }
        Ok(nodes)
    }

    /// Few elements of which each holds many others alike are parts of the collection: those others are the elements.
    fn inside(&self, nodes: &Nodes, ty: u32, g: Group) -> Option<(u32, Group)> {
        let most = nodes.groups.iter().map(|(t, g)| (*t, *g)).max_by_key(|(t, g)| (g.bytes, std::cmp::Reverse(*t)))?;
        let many = most.1.count >= self.view.limits.min_count.max(4 * nodes.of_type);
        (g.count < self.view.limits.min_count && most.0 != ty && many && most.1.bytes >= g.bytes / 2).then_some(most)
    }

    /// Says when elements are keys to which others are attached.
    fn attached(&self, s: &mut Suspect, head: u32, ty: u32) {
        let below = self.view.retained.tree.subtree(head);
        let keys = self.keys.get(&ty).map_or(&[][..], |k| k.as_slice());
        let keys = keys.partition_point(|&p| p < below.end) - keys.partition_point(|&p| p < below.start);
        if keys > 0 {
            let item = Item::of("dependent handles that attach objects to them").count(keys as u64);
            let keys = thousands(keys as u64);
            let text =
                format!("{keys} dependent handles (ConditionalWeakTable) attach objects to them; these count too");
            s.facts.push(Evidence::new(text, item));
        }
    }

    fn name(&self, s: &mut Suspect, ty: u32, example: u32) {
        s.element = self.view.type_name(ty).to_string();
        s.example = self.view.address(example).unwrap_or(0);
    }

    /// Count, example and further figures of a collection. `all` are the objects of the type anywhere below.
    fn fill(&self, s: &mut Suspect, unit: &Unit, ty: u32, g: Group, elements: &[(u32, Group)], all: u64) -> Result<()> {
        let view = self.view;
        let direct = self.direct(unit, ty)?;
        // Elements are what the members refer to; what another holds too is not below them in the tree.
        s.count = direct.max(g.count);
        self.name(s, ty, g.biggest);
        let name = &s.element;
        if direct > g.count {
            let shared = direct - g.count;
            let items = vec![
                Item::of("elements kept by this alone").ty(name).count(g.count),
                Item::of("elements held elsewhere too").ty(name).count(shared),
            ];
            let (alone, shared) = (thousands(g.count), thousands(shared));
            let text = format!("{alone} of the {name} kept by this alone, {shared} held elsewhere too");
            s.facts.push(Evidence::many(text, items));
        }
        if all > s.count {
            let item = Item::of("elements in all below it").ty(name).count(all);
            s.facts.push(Evidence::new(format!("{} {name} in all below it", thousands(all)), item));
        }
        for (ty, g) in elements.iter().skip(1).take(NAMED) {
            let (name, n, b) = (view.type_name(*ty), thousands(g.count), thousands(g.bytes));
            let item = Item::of("other elements").ty(&name).count(g.count).bytes(g.bytes);
            s.facts.push(Evidence::new(format!("also {n} {name}, {b} bytes"), item));
        }
        if direct < g.count / 2
            && let Some((holder, n, _)) = self.referrer(unit, ty)?
        {
            let address = view.index.ids.address_of(holder).unwrap_or(0);
            let name = view.name_at(address);
            let item = Item::of("elements in one object").ty(&name).count(n).at(address);
            s.facts.push(Evidence::new(format!("{} of them in {name} {address:x}", thousands(n)), item));
        }
        Ok(())
    }

    /// Different objects of a type that the members refer to.
    fn direct(&self, unit: &Unit, ty: u32) -> Result<u64> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let mut seen: Vec<u32> = Vec::new();
        for (i, &m) in unit.members.iter().enumerate() {
            view.check(i)?;
            let Some(id) = tree.node(m) else { continue };
            let of_type = |t: &&u32| tree.position(**t).is_some_and(|p| view.type_at(p) == ty);
            seen.extend(view.graph.forward.of(id).iter().filter(of_type));
        }
        seen.sort_unstable();
        seen.dedup();
        Ok(seen.len() as u64)
    }

    /// Objects of the type below `head`, without what is below `rest`.
    fn within(&self, head: u32, ty: u32, rest: &[u32]) -> Result<u64> {
        let tree = &self.view.retained.tree;
        let count = |p: u32| -> Result<u64> {
            let all = tree.subtree(p);
            let types = self.view.types.get(all.start as usize..all.end as usize).unwrap_or(&[]);
            self.view.session.watch.cancel.check()?;
            Ok(types.iter().filter(|&&t| t == ty).count() as u64)
        };
        let mut n = count(head)?;
        for &r in rest {
            n = n.saturating_sub(count(r)?);
        }
        Ok(n)
    }

    /// What most of the bytes below an object are, by type.
    fn mostly(&self, head: u32, rest: &[u32]) -> Result<Option<Evidence>> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let mut sums: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        let mut skip: Vec<_> = rest.iter().map(|&r| tree.subtree(r)).collect();
        skip.sort_unstable_by_key(|r| r.start);
        let (mut skip, mut p) = (skip.into_iter().peekable(), head);
        while p < tree.subtree(head).end {
            if let Some(r) = skip.next_if(|r| r.start == p) {
                p = r.end.max(p + 1);
                continue;
            }
            view.check(p as usize)?;
            let sum = sums.entry(view.type_at(p)).or_default();
            *sum = (sum.0 + 1, sum.1 + view.retained.weights.own(p));
            p += 1;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(ty, s)| (std::cmp::Reverse(s.1), *ty));
        let part = |(ty, s): &(u32, (u64, u64))| {
            format!("{} {} ({} bytes)", thousands(s.0), view.type_name(*ty), thousands(s.1))
        };
        let item = |(ty, s): &(u32, (u64, u64))| {
            Item::of("most of the bytes below").ty(view.type_name(*ty)).count(s.0).bytes(s.1)
        };
        sums.truncate(NAMED);
        let parts: Vec<String> = sums.iter().map(part).collect();
        let items = sums.iter().map(item).collect();
        Ok((!parts.is_empty()).then(|| Evidence::many(format!("mostly {}", parts.join(", ")), items)))
    }

    fn children_of<'c>(&'c self, unit: &'c Unit, ty: u32) -> impl Iterator<Item = u32> + 'c {
        let given: FxHashSet<u32> = unit.members.iter().copied().collect();
        let all = unit.members.iter().flat_map(|&m| self.view.retained.tree.children(m));
        all.filter(move |c| self.view.type_at(*c) == ty && !given.contains(c))
    }

    /// The object that refers to most of the children of a type: its id, how many, their bytes.
    fn referrer(&self, unit: &Unit, ty: u32) -> Result<Option<(u32, u64, u64)>> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let mut counts: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        for (i, c) in self.children_of(unit, ty).enumerate() {
            view.check(i)?;
            let Some(id) = tree.node(c) else { continue };
            let mut last = None;
            for &from in view.reverse.of(id).iter().filter(|f| tree.position(**f).is_some()) {
                if last.replace(from) != Some(from) {
                    let n = counts.entry(from).or_default();
                    *n = (n.0 + 1, n.1 + view.retained.bytes(c));
                }
            }
        }
        let most = counts.into_iter().max_by_key(|(id, n)| (n.0, std::cmp::Reverse(*id)));
        Ok(most.map(|(id, (n, bytes))| (id, n, bytes)))
    }

    /// Elements of a type that several objects hold together, so that none of these dominates them.
    fn shared(&self, unit: &Unit, ty: u32, shared: &mut FxHashSet<u32>) -> Result<Option<Suspect>> {
        let (view, tree) = (self.view, &self.view.retained.tree);
        let Some((holder, count, bytes)) = self.referrer(unit, ty)? else { return Ok(None) };
        let is_member = tree.position(holder).is_some_and(|p| unit.members.contains(&p));
        let group = Group { count, bytes, ..Group::default() };
        if is_member || self.told.contains(&holder) || !self.is_enough(&group) {
            return Ok(None);
        }
        let held: FxHashSet<u32> = view.graph.forward.of(holder).iter().filter_map(|&t| tree.position(t)).collect();
        let element = |p: &&u32| view.type_at(**p) == ty && tree.parent(**p).is_some_and(|q| unit.members.contains(&q));
        let mine: Vec<u32> = held.iter().filter(element).copied().collect();
        let example = mine.iter().copied().max_by_key(|&p| (view.retained.bytes(p), p)).unwrap_or(0);
        shared.extend(mine);
        let mut s = Suspect { kind: "collection", bytes, count, ..Suspect::default() };
        self.name(&mut s, ty, example);
        let text = format!("the {} {} are held by others too: they would not go with this one", count, s.element);
        let item = Item::of("elements held by others too").ty(&s.element).count(count);
        s.facts.push(Evidence::new(text, item));
        view.place(&mut s, holder);
        self.next(&mut s, tree.position(holder).unwrap_or(0));
        Ok(Some(s))
    }

    fn next(&self, s: &mut Suspect, head: u32) {
        let view = self.view;
        if let Some(a) = view.address(head) {
            s.next.push(format!("!dominators {a:x}"));
        }
        if s.holder != 0 {
            s.next.push(format!("!dumpobj {:x}", s.holder));
        }
        if s.example != 0 {
            s.next.push(format!("!gcroot {:x}", s.example));
        }
        if let Some(mt) = view.clr.object_type(s.example).filter(|_| s.example != 0) {
            s.next.push(format!("!dumpheap -live -mt {mt:x}"));
        }
    }
}
