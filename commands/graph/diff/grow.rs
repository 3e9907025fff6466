//! The growth from one dump to the other, matched by names.

use std::cmp::Reverse;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::side::{Node, Side};
use crate::heap::stat::Tally;

/// What stood before and what stands now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// In the older dump.
    pub old: Tally,
    /// In the newer one.
    pub new: Tally,
}

impl Change {
    /// Objects more, negative when fewer.
    pub fn count(&self) -> i64 {
        difference(self.old.count, self.new.count)
    }

    /// Bytes more, negative when fewer.
    pub fn bytes(&self) -> i64 {
        difference(self.old.bytes, self.new.bytes)
    }

    /// Growth of the bytes in percent; `None` from nothing.
    pub fn percent(&self) -> Option<f64> {
        (self.old.bytes > 0).then(|| self.bytes() as f64 * 100.0 / self.old.bytes as f64)
    }

    /// Whether anything changed.
    pub fn is_change(&self) -> bool {
        self.old != self.new
    }

    /// `new`, `gone` or nothing.
    pub fn word(&self) -> &'static str {
        match (self.old.count, self.new.count) {
            (0, n) if n > 0 => "new",
            (o, 0) if o > 0 => "gone",
            _ => "",
        }
    }

    fn merge(&mut self, other: Change) {
        self.old.merge(other.old);
        self.new.merge(other.new);
    }
}

/// What is more, negative when it is less.
pub fn difference(old: u64, new: u64) -> i64 {
    let d = i128::from(new) - i128::from(old);
    i64::try_from(d).unwrap_or(if d < 0 { i64::MIN } else { i64::MAX })
}

/// How rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Growth in bytes.
    Bytes,
    /// Growth in number.
    Count,
    /// Growth in percent, what is new first.
    Percent,
    /// Name.
    Name,
}

impl Sort {
    /// Puts what grew most first.
    pub fn apply<T>(self, rows: &mut [T], of: impl Fn(&T) -> (&str, Change)) {
        rows.sort_by(|a, b| {
            let ((a_name, a), (b_name, b)) = (of(a), of(b));
            let percent = |c: Change| c.percent().unwrap_or(f64::INFINITY);
            let order = match self {
                Sort::Bytes => (b.bytes(), b.count()).cmp(&(a.bytes(), a.count())),
                Sort::Count => (b.count(), b.bytes()).cmp(&(a.count(), a.bytes())),
                Sort::Percent => percent(b).total_cmp(&percent(a)).then(b.bytes().cmp(&a.bytes())),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a_name.cmp(b_name))
        });
    }
}

/// What changed of two lists with the same keys, in no order.
pub fn changes<K: Clone + Eq + Hash>(old: &FxHashMap<K, Tally>, new: &FxHashMap<K, Tally>) -> Vec<(K, Change)> {
    let mut all: FxHashMap<K, Change> = FxHashMap::default();
    for (k, t) in old {
        all.entry(k.clone()).or_default().old = *t;
    }
    for (k, t) in new {
        all.entry(k.clone()).or_default().new = *t;
    }
    all.into_iter().filter(|(_, c)| c.is_change()).collect()
}

/// Steps kept of the end of a path.
const STEPS: usize = 32;

/// A way in which objects are held, in both dumps.
#[derive(Debug, Clone)]
struct Way {
    parent: Option<u32>,
    name: Arc<str>,
    slot: Arc<str>,
    own: Change,
    /// The way at the top.
    root: u32,
    /// Ways above it.
    depth: u32,
    /// With everything held through these objects.
    all: Change,
    /// In the newer dump, else in the older.
    example: u64,
}

/// What tells ways apart: the way of the holder, its slot, the type.
type Place = (Option<u32>, Arc<str>, Arc<str>);

/// The ways of both dumps, matched by roots, slots and names of types. A way stands behind the way of its holder.
#[derive(Debug, Default)]
pub struct Ways(Vec<Way>);

/// A root, as far as two dumps can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Root and type in one line.
    pub words: Arc<str>,
    /// The static field or the kind of the root.
    pub root: Arc<str>,
    /// Type of what it refers to, where no field names it.
    pub ty: Option<Arc<str>>,
}

/// Slot and type of a step.
pub type PathStep = (Arc<str>, Arc<str>);

/// A path that grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The root.
    pub root: Arc<str>,
    /// Slot and type of each step; the first has no slot.
    pub steps: Vec<(Arc<str>, Arc<str>)>,
    /// Number of the objects at the end, bytes of them and of all that is held through them.
    pub change: Change,
    /// One of the objects at the end, of the newer dump where it has one.
    pub example: u64,
}

impl Path {
    /// In one line.
    pub fn line(&self) -> String {
        let mut line = self.root.to_string();
        for (slot, name) in &self.steps {
            line.push_str(" -> ");
            if !slot.is_empty() {
                line.push_str(&format!("{slot}: "));
            }
            line.push_str(name);
        }
        line
    }
}

impl Ways {
    /// Matches the ways of both dumps.
    pub fn new(old: &Side, new: &Side) -> Self {
        let mut ways = Self::default();
        let mut places = FxHashMap::default();
        ways.add(&old.nodes, &mut places, |c| &mut c.old);
        ways.add(&new.nodes, &mut places, |c| &mut c.new);
        ways.sum();
        ways
    }

    fn add(&mut self, nodes: &[Node], places: &mut FxHashMap<Place, u32>, side: impl Fn(&mut Change) -> &mut Tally) {
        let mut here: Vec<u32> = Vec::with_capacity(nodes.len());
        for n in nodes {
            let parent = n.parent.and_then(|p| here.get(p as usize)).copied();
            let place = *places.entry((parent, n.slot.clone(), n.name.clone())).or_insert_with(|| {
                let (name, slot, number) = (n.name.clone(), n.slot.clone(), self.0.len() as u32);
                let above = parent.and_then(|p| self.0.get(p as usize));
                let (root, depth) = above.map_or((number, 0), |p| (p.root, p.depth + 1));
                let none = Change::default();
                self.0.push(Way { parent, name, slot, own: none, root, depth, all: none, example: 0 });
                number
            });
            here.push(place);
            if let Some(way) = self.0.get_mut(place as usize) {
                side(&mut way.own).merge(n.own);
                if n.example != 0 {
                    way.example = n.example;
                }
            }
        }
    }

    fn sum(&mut self) {
        for i in (0..self.0.len()).rev() {
            let (before, rest) = self.0.split_at_mut(i);
            let Some(way) = rest.first_mut() else { continue };
            way.all.merge(way.own);
            if let Some(p) = way.parent.and_then(|p| before.get_mut(p as usize)) {
                p.all.merge(way.all);
            }
        }
    }

    /// What each root holds: static fields by name, other roots by their kind and the type of what they hold.
    pub fn owners(&self) -> Vec<(Owner, Change)> {
        let mut owners: FxHashMap<Owner, Change> = FxHashMap::default();
        for way in self.0.iter().filter(|w| w.parent.is_none()) {
            let root = way.slot.clone();
            let owner = match root.contains("static variable ") {
                true => Owner { words: root.clone(), root, ty: None },
                false => Owner { words: format!("{root}: {}", way.name).into(), root, ty: Some(way.name.clone()) },
            };
            owners.entry(owner).or_default().merge(way.all);
        }
        owners.into_iter().filter(|(_, c)| c.is_change()).collect()
    }

    /// The paths along which objects became more: from a root down to the first type of which there are more than before.
    /// Numbers of the ways with their growth, what grew most first.
    pub fn grown(&self) -> Vec<(u32, Change)> {
        let grows = |w: &&u32| self.0.get(**w as usize).is_some_and(|w| w.all.bytes() > 0);
        let mut children: Vec<u32> = (0..self.0.len() as u32).filter(|w| grows(&w)).collect();
        children.sort_by_key(|&w| (self.0.get(w as usize).and_then(|w| w.parent), w));
        let mut out = Vec::new();
        let parent = |w: &u32| self.0.get(*w as usize).and_then(|w| w.parent);
        let below = |p: Option<u32>| {
            let first = children.partition_point(|c| parent(c) < p);
            children.get(first..).unwrap_or(&[]).iter().copied().take_while(move |c| parent(c) == p)
        };
        let mut todo: Vec<u32> = below(None).collect();
        while let Some(w) = todo.pop() {
            let Some(way) = self.0.get(w as usize) else { continue };
            if way.own.count() > 1 || way.own.old.count == 0 {
                let with = |own: Tally, all: Tally| Tally { count: own.count, bytes: all.bytes };
                let (old, new) = (with(way.own.old, way.all.old), with(way.own.new, way.all.new));
                out.push((w, Change { old, new }));
                continue;
            }
            if way.own.bytes() > 0 {
                out.push((w, way.own));
            }
            todo.extend(below(Some(w)));
        }
        out.sort_by_key(|(w, c)| (Reverse(c.bytes()), Reverse(c.count()), *w));
        out
    }

    /// Steps of the path to a way, without its root.
    pub fn length(&self, end: u32) -> usize {
        self.0.get(end as usize).map_or(0, |w| w.depth as usize + 1)
    }

    /// The ways from `end` to its root. A way stands behind that of its holder, so this ends.
    fn upwards(&self, end: u32) -> impl Iterator<Item = &Way> {
        let way = |w: u32| self.0.get(w as usize);
        std::iter::successors(way(end), move |w| w.parent.and_then(way))
    }

    /// Number, slot and type of the steps of the path to a way: of one with more than so many, the first and the last ones.
    pub fn steps(&self, end: u32, most: usize) -> Vec<(usize, PathStep)> {
        let step = |w: &Way| {
            let slot = if w.parent.is_some() { w.slot.clone() } else { "".into() };
            (w.depth as usize, (slot, w.name.clone()))
        };
        let mut steps: Vec<_> = self.upwards(end).take(most).map(step).collect();
        let root = self.0.get(end as usize).and_then(|w| self.0.get(w.root as usize));
        steps.extend(root.filter(|_| self.length(end) > most).map(step));
        steps.reverse();
        steps
    }

    /// The path to a way; of a long one the end and the root.
    pub fn path(&self, (end, change): (u32, Change)) -> Path {
        let mut steps: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        let mut at = Some(end);
        while let Some(way) = at.and_then(|w| self.0.get(w as usize)).filter(|_| steps.len() < STEPS) {
            let slot = if way.parent.is_some() { way.slot.clone() } else { "".into() };
            steps.push((slot, way.name.clone()));
            at = way.parent;
        }
        let way = |w: u32| self.0.get(w as usize);
        let root = way(end).and_then(|w| way(w.root));
        if at.is_some() {
            steps.push(("".into(), "...".into()));
            steps.extend(root.map(|r| ("".into(), r.name.clone())));
        }
        steps.reverse();
        let example = way(end).map_or(0, |w| w.example);
        Path { root: root.map_or_else(|| "?".into(), |r| r.slot.clone()), steps, change, example }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Nodes given as (parent, type, slot, count, bytes).
    fn side(nodes: &[(Option<u32>, &str, &str, u64, u64)]) -> Side {
        let node = |n: &(Option<u32>, &str, &str, u64, u64)| Node {
            parent: n.0,
            name: n.1.into(),
            slot: n.2.into(),
            own: Tally { count: n.3, bytes: n.4 },
            example: n.3,
        };
        Side { nodes: nodes.iter().map(node).collect(), ..Side::default() }
    }

    #[test]
    fn ways_are_matched_by_name_whatever_their_order() {
        let old = side(&[
            (None, "List", "static variable A", 1, 32),
            (Some(0), "Item[]", "_items", 1, 100),
            (Some(1), "Item", "[]", 10, 240),
            (None, "Cache", "static variable B", 1, 24),
            (Some(3), "Gone", "x", 5, 500),
        ]);
        let new = side(&[
            (None, "Cache", "static variable B", 1, 24),
            (None, "List", "static variable A", 1, 32),
            (Some(1), "Item[]", "_items", 1, 200),
            (Some(2), "Item", "[]", 20, 480),
            (Some(3), "Text", "name", 20, 1000),
            (None, "Task", "strong handle", 3, 72),
        ]);
        let ways = Ways::new(&old, &new);
        let mut owners: Vec<(String, i64, i64)> =
            ways.owners().into_iter().map(|(o, c)| (o.words.to_string(), c.count(), c.bytes())).collect();
        owners.sort();
        let owner = |n: &str, c, b| (n.to_owned(), c, b);
        let a = owner("static variable A", 30, 1340);
        assert_eq!(owners, [a, owner("static variable B", -5, -500), owner("strong handle: Task", 3, 72)]);
        let grown: Vec<(String, i64, i64)> =
            ways.grown().into_iter().map(|g| (ways.path(g).line(), g.1.count(), g.1.bytes())).collect();
        assert_eq!(
            grown,
            [
                owner("static variable A -> List -> _items: Item[] -> []: Item", 10, 1240),
                owner("static variable A -> List -> _items: Item[]", 0, 100),
                owner("strong handle -> Task", 3, 72),
            ]
        );
        assert_eq!(ways.path(ways.grown()[0]).example, 20);
    }

    #[test]
    fn long_paths_are_cut_in_the_middle() {
        let mut nodes = vec![(None, "Root", "handle", 1, 8)];
        let names: Vec<String> = (0..100_000).map(|i| format!("T{i}")).collect();
        nodes.extend(names.iter().enumerate().map(|(i, n)| (Some(i as u32), n.as_str(), "next", 1, 8)));
        let mut more = nodes.clone();
        more.push((Some(100_000), "New", "value", 7, 700));
        let ways = Ways::new(&side(&nodes), &side(&more));
        let grown = ways.grown();
        assert_eq!(grown.len(), 1);
        let line = ways.path(grown[0]).line();
        assert!(line.starts_with("handle -> Root -> ... -> next: T9"), "{line}");
        assert!(line.ends_with("-> next: T99999 -> value: New"), "{line}");
        let steps: Vec<usize> = ways.steps(grown[0].0, 3).iter().map(|s| s.0).collect();
        assert_eq!((steps, ways.length(grown[0].0)), (vec![0, 99_999, 100_000, 100_001], 100_002));
    }

    #[test]
    fn growth_never_overflows() {
        let all = |bytes| Tally { count: 1, bytes };
        let huge = Change { old: all(0), new: all(u64::MAX) };
        assert_eq!(huge.bytes(), i64::MAX);
        assert_eq!(Change { old: huge.new, new: huge.old }.bytes(), i64::MIN);
        assert_eq!(huge.percent(), None);
        assert_eq!(Change { old: all(50), new: all(75) }.percent(), Some(50.0));
    }
}
