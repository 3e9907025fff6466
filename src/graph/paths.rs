//! Reachability and shortest paths.

use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Adjacency;
use crate::watch::{Interrupted, Watch};

/// Nodes between two looks at the cancellation flag.
const CHECK: u32 = 1 << 14;
/// Edges of one node between two.
const MANY: usize = 1 << 20;
/// Not visited. Zeros cost nothing until they are written.
const NONE: u32 = 0;

/// Counts nodes and edges down to the next look at the cancellation flag.
struct Looks<'a> {
    watch: &'a Watch,
    left: u32,
}

impl<'a> Looks<'a> {
    fn new(watch: &'a Watch) -> Self {
        Self { watch, left: CHECK }
    }

    /// One node with `edges` edges is next.
    #[inline]
    fn node(&mut self, edges: usize) -> Result<(), Interrupted> {
        self.left = self.left.saturating_sub(1 + (edges >> 6) as u32);
        if self.left == 0 {
            self.left = CHECK;
            self.watch.cancel.check()?;
        }
        Ok(())
    }
}

/// A search in waves, each a step farther: what is near, apart from it what lies behind a node that comes late.
struct Waves<'a> {
    late: &'a [u32],
    near: [Vec<u32>; 2],
    looks: Looks<'a>,
}

impl<'a> Waves<'a> {
    fn new(late: &'a [u32], watch: &'a Watch) -> Self {
        Self { late, near: Default::default(), looks: Looks::new(watch) }
    }

    /// Begins a search at `node`, where `places` has nothing yet.
    fn begin(&mut self, places: &mut [u32], node: u32, place: u32) {
        if let Some(p) = places.get_mut(node as usize).filter(|p| **p == NONE) {
            *p = place;
            self.near[usize::from(self.late.contains(&node))].push(node);
        }
    }

    /// Goes over `edges` until nothing new is met: the place of each node becomes the one before it plus `plus`. `wave` is told
    /// of each wave before it goes on.
    fn run(
        &mut self,
        edges: &Adjacency,
        places: &mut [u32],
        plus: u32,
        mut wave: impl FnMut(&[Vec<u32>; 2]),
    ) -> Result<(), Interrupted> {
        let mut far: [Vec<u32>; 2] = Default::default();
        while self.near.iter().any(|n| !n.is_empty()) {
            wave(&self.near);
            for (behind, nodes) in self.near.iter().enumerate() {
                for &node in nodes {
                    let targets = edges.of(node);
                    self.looks.node(targets.len())?;
                    for part in targets.chunks(MANY) {
                        self.looks.watch.cancel.check()?;
                        for &to in part {
                            if let Some(p) = places.get_mut(to as usize).filter(|p| **p == NONE) {
                                *p = node + plus;
                                far[behind | usize::from(self.late.contains(&to))].push(to);
                            }
                        }
                    }
                }
            }
            self.near.iter_mut().for_each(Vec::clear);
            std::mem::swap(&mut self.near, &mut far);
        }
        Ok(())
    }
}

/// Everything that leads to one node: for each ancestor the next step of a shortest way there.
#[derive(Debug)]
pub struct WaysTo {
    target: u32,
    /// Next node plus one.
    next: Vec<u32>,
    /// The ancestors, the nearest first; the target is the first.
    order: Vec<u32>,
}

impl WaysTo {
    /// Searches backwards from `target` over the reverse edges. Of ways of the same length one over a node of `late` comes
    /// last; these are few, and `target` may be one.
    pub fn new(reverse: &Adjacency, target: u32, late: &[u32], watch: &Watch) -> Result<Self, Interrupted> {
        let mut next = vec![NONE; reverse.nodes() as usize];
        let mut order = Vec::new();
        let mut waves = Waves::new(late, watch);
        // Every way ends there: that it is late sets none behind another.
        if let Some(n) = next.get_mut(target as usize) {
            *n = target.wrapping_add(1);
            waves.near[0].push(target);
        }
        waves.run(reverse, &mut next, 1, |near| near.iter().for_each(|nodes| order.extend_from_slice(nodes)))?;
        Ok(Self { target, next, order })
    }

    /// Whether `node` leads to the target.
    pub fn reaches(&self, node: u32) -> bool {
        self.next.get(node as usize).is_some_and(|&n| n != NONE)
    }

    /// A shortest path from `node` to the target, both included; empty when there is none.
    pub fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut at = node;
        while let Some(&next) = self.next.get(at as usize).filter(|&&n| n != NONE) {
            path.push(at);
            if at == self.target {
                break;
            }
            at = next - 1;
        }
        path
    }

    /// Ways from `source` to the target, the shortest first, that together take every edge on a way without a detour: each
    /// goes straight to one edge, over it, and straight on to the target, and has an edge that none before it has.
    /// `show` gets them until it returns `false`.
    pub fn all_from(
        &self,
        forward: &Adjacency,
        reverse: &Adjacency,
        source: u32,
        watch: &Watch,
        mut show: impl FnMut(&[u32]) -> bool,
    ) -> Result<(), Interrupted> {
        let shortest = self.path(source);
        if shortest.is_empty() || !show(&shortest) {
            return Ok(());
        }
        let from = self.straight_from(forward, source, watch)?;
        let mut candidates = Vec::new();
        let before = from.lengths();
        let mut after: FxHashMap<u32, u32> = FxHashMap::default();
        let mut looks = Looks::new(watch);
        for &node in &self.order {
            let next = self.next.get(node as usize).map_or(NONE, |n| n - 1);
            let rest = if node == self.target { 0 } else { after.get(&next).map_or(1, |r| r + 1) };
            after.insert(node, rest);
            let sources = reverse.of(node);
            looks.node(sources.len())?;
            for &p in sources.iter().filter(|p| **p != self.target) {
                if let Some(way) = before.get(&p) {
                    candidates.push((way + 1 + rest, p, node));
                }
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let mut told: FxHashSet<(u32, u32)> = shortest.windows(2).map(|e| (e[0], e[1])).collect();
        for (_, p, node) in candidates {
            looks.node(0)?;
            if told.contains(&(p, node)) {
                continue;
            }
            let mut path = from.path(p);
            path.extend(self.path(node));
            let mut once = path.clone();
            once.sort_unstable();
            once.dedup();
            if once.len() != path.len() {
                continue;
            }
            told.extend(path.windows(2).map(|e| (e[0], e[1])));
            if !show(&path) {
                break;
            }
        }
        Ok(())
    }

    /// Shortest ways from `source` to the ancestors of the target, none over the target.
    fn straight_from(&self, forward: &Adjacency, source: u32, watch: &Watch) -> Result<Straight, Interrupted> {
        let mut straight = Straight { before: FxHashMap::default(), order: vec![source] };
        straight.before.insert(source, source);
        let (mut at, mut looks) = (0, Looks::new(watch));
        while let Some(&node) = straight.order.get(at) {
            at += 1;
            if node == self.target {
                continue;
            }
            let targets = forward.of(node);
            looks.node(targets.len())?;
            for &t in targets.iter().filter(|t| self.reaches(**t)) {
                if let Entry::Vacant(v) = straight.before.entry(t) {
                    v.insert(node);
                    straight.order.push(t);
                }
            }
        }
        Ok(straight)
    }
}

/// Shortest ways from one node.
struct Straight {
    /// The node before each; the source's is itself.
    before: FxHashMap<u32, u32>,
    /// The nearest first.
    order: Vec<u32>,
}

impl Straight {
    /// From the source to `node`, both included.
    fn path(&self, node: u32) -> Vec<u32> {
        let mut path = vec![node];
        let mut at = node;
        while let Some(&b) = self.before.get(&at).filter(|b| **b != at) {
            path.push(b);
            at = b;
        }
        path.reverse();
        path
    }

    /// Steps to each node.
    fn lengths(&self) -> FxHashMap<u32, u32> {
        let mut all = FxHashMap::default();
        for node in &self.order {
            let length = self.before.get(node).and_then(|b| all.get(b)).map_or(0, |l| l + 1);
            all.insert(*node, length);
        }
        all
    }
}

/// For every node that roots reach, the one before it on a shortest way from a root.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Holders {
    /// 0: not reached; 1: a root; else the node before plus two.
    up: Vec<u32>,
}

impl Holders {
    /// Searches from the roots of each rank in turn: what one rank reaches, no later one holds. Of holders at the same
    /// distance one behind a node of `late` comes last; these are few.
    pub fn build(forward: &Adjacency, ranks: &[Vec<u32>], late: &[u32], watch: &Watch) -> Result<Self, Interrupted> {
        let mut up = vec![NONE; forward.nodes() as usize];
        let mut waves = Waves::new(late, watch);
        for roots in ranks {
            roots.iter().for_each(|&r| waves.begin(&mut up, r, 1));
            let told = |near: &[Vec<u32>; 2]| watch.progress.add(near.iter().map(|n| n.len() as u64).sum());
            waves.run(forward, &mut up, 2, told)?;
        }
        Ok(Self { up })
    }

    /// Whether a root reaches `node`.
    #[inline]
    pub fn is_reached(&self, node: u32) -> bool {
        self.up.get(node as usize).is_some_and(|&u| u != NONE)
    }

    /// The node that holds `node`; `None` for a root, and for what no root reaches.
    #[inline]
    pub fn above(&self, node: u32) -> Option<u32> {
        self.up.get(node as usize)?.checked_sub(2)
    }

    /// Number of nodes.
    pub fn nodes(&self) -> u32 {
        self.up.len() as u32
    }

    /// The numbers it consists of.
    pub fn parts(&self) -> &[u32] {
        &self.up
    }

    /// From [`Holders::parts`]; `None` when they lead out of range or round in a circle, and after a stop.
    pub fn from_parts(up: Vec<u32>, watch: &Watch) -> Option<Self> {
        const OPEN: u8 = 1;
        const GOOD: u8 = 2;
        let mut state = vec![0u8; up.len()];
        let mut way = Vec::new();
        let mut looks = Looks::new(watch);
        for start in 0..up.len() {
            looks.node(0).ok()?;
            let mut at = start;
            loop {
                match (*state.get(at)?, *up.get(at)?) {
                    (OPEN, _) => return None,
                    // What holds something is held itself.
                    (_, NONE) if at != start => return None,
                    (GOOD, _) => break,
                    (_, above) => {
                        looks.node(0).ok()?;
                        state[at] = OPEN;
                        way.push(at);
                        match above.checked_sub(2) {
                            Some(a) => at = a as usize,
                            None => break,
                        }
                    }
                }
            }
            way.drain(..).for_each(|w| state[w] = GOOD);
        }
        Some(Self { up })
    }
}

/// The nodes reachable from `sources`, as bits in id order.
pub fn reachable(
    forward: &Adjacency,
    sources: impl IntoIterator<Item = u32>,
    watch: &Watch,
) -> Result<Vec<bool>, Interrupted> {
    let mut seen = vec![false; forward.nodes() as usize];
    let mut stack = Vec::new();
    for s in sources {
        if let Some(b) = seen.get_mut(s as usize).filter(|b| !**b) {
            *b = true;
            stack.push(s);
        }
    }
    let mut looks = Looks::new(watch);
    while let Some(node) = stack.pop() {
        let targets = forward.of(node);
        looks.node(targets.len())?;
        for part in targets.chunks(MANY) {
            watch.cancel.check()?;
            for &t in part {
                if let Some(b) = seen.get_mut(t as usize).filter(|b| !**b) {
                    *b = true;
                    stack.push(t);
                }
            }
        }
    }
    Ok(seen)
}

/// The nodes reachable from `source`, in the order of a breadth-first search.
pub fn closure(forward: &Adjacency, source: u32, watch: &Watch) -> Result<Vec<u32>, Interrupted> {
    let mut seen = rustc_hash::FxHashSet::default();
    seen.insert(source);
    let mut order = vec![source];
    let mut at = 0;
    while let Some(&node) = order.get(at) {
        at += 1;
        if at.is_multiple_of(CHECK as usize) {
            watch.cancel.check()?;
        }
        for &t in forward.of(node) {
            if seen.insert(t) {
                order.push(t);
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Chunk;
    use super::*;
    use std::collections::{BTreeSet, VecDeque};

    fn graph(n: u32, edges: &[(u32, u32)]) -> Adjacency {
        let mut chunk = Chunk::default();
        for node in 0..n {
            let to: Vec<u32> = edges.iter().filter(|e| e.0 == node).map(|e| e.1).collect();
            chunk.degrees.push(to.len() as u32);
            chunk.targets.extend(to);
        }
        Adjacency::build(n, vec![chunk], &[], &Watch::default()).unwrap()
    }

    /// Distance from every node to `target`, the naive way.
    fn distances(n: u32, edges: &[(u32, u32)], target: u32) -> Vec<Option<u32>> {
        let mut d = vec![None; n as usize];
        d[target as usize] = Some(0);
        let mut queue = VecDeque::from([target]);
        while let Some(v) = queue.pop_front() {
            for e in edges.iter().filter(|e| e.1 == v) {
                if d[e.0 as usize].is_none() {
                    d[e.0 as usize] = d[v as usize].map(|x: u32| x + 1);
                    queue.push_back(e.0);
                }
            }
        }
        d
    }

    /// All simple paths from `from` to `to`.
    fn simple(n: u32, edges: &[(u32, u32)], from: u32, to: u32) -> Vec<Vec<u32>> {
        let mut out = Vec::new();
        let mut todo = vec![vec![from]];
        while let Some(path) = todo.pop() {
            let last = *path.last().unwrap();
            if last == to {
                out.push(path);
                continue;
            }
            for next in (0..n).filter(|t| edges.contains(&(last, *t)) && !path.contains(t)) {
                todo.push([path.as_slice(), &[next]].concat());
            }
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn further_paths_are_real_differ_and_end_with_every_referrer(
            n in 1u32..8,
            raw in proptest::collection::vec((0u32..8, 0u32..8), 0..24),
            (from, to) in (0u32..8, 0u32..8),
        ) {
            let edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            let (from, to, g, w) = (from % n, to % n, graph(n, &edges), Watch::default());
            let reverse = g.reversed(&w).unwrap();
            let naive = simple(n, &edges, from, to);
            let mut found: Vec<Vec<u32>> = Vec::new();
            let ways = WaysTo::new(&reverse, to, &[], &w).unwrap();
            ways.all_from(&g, &reverse, from, &w, |p| { found.push(p.to_vec()); true }).unwrap();
            assert!(found.iter().all(|p| naive.contains(p)), "{found:?} {naive:?}");
            assert!(found.is_sorted_by_key(Vec::len));
            assert_eq!(found.is_empty(), naive.is_empty());
            let steps = |all: &[Vec<u32>]| -> BTreeSet<(u32, u32)> {
                all.iter().flat_map(|p| p.windows(2).map(|e| (e[0], e[1]))).collect()
            };
            // Every path adds a step.
            for i in 1..found.len() {
                assert!(steps(&found[..=i]).len() > steps(&found[..i]).len());
            }
            let last = |all: &[Vec<u32>]| -> BTreeSet<(u32, u32)> {
                all.iter().filter(|p| p.len() > 1).map(|p| (p[p.len() - 2], to)).collect()
            };
            assert_eq!(last(&found), last(&naive));
            let mut few = 0;
            ways.all_from(&g, &reverse, from, &w, |_| { few += 1; few < 2 }).unwrap();
            assert_eq!(few, found.len().min(2));
        }

        #[test]
        fn holders_are_on_shortest_ways_of_the_first_rank_that_reaches(
            n in 1u32..40,
            raw in proptest::collection::vec((0u32..40, 0u32..40), 0..120),
            roots in proptest::collection::vec((0u32..44, 0usize..3), 0..6),
        ) {
            let edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            let mut ranks = vec![Vec::new(); 3];
            roots.iter().for_each(|&(r, rank)| ranks[rank].push(r));
            let g = graph(n, &edges);
            let holders = Holders::build(&g, &ranks, &[], &Watch::default()).unwrap();
            for v in 0..n {
                let d = distances(n, &edges, v);
                let near = |rank: &Vec<u32>| rank.iter().filter(|&&r| r < n).filter_map(|&r| d[r as usize]).min();
                let first = ranks.iter().position(|r| near(r).is_some());
                assert_eq!(holders.is_reached(v), first.is_some());
                let mut path = vec![v];
                while let Some(up) = holders.above(path[path.len() - 1]) {
                    assert!(edges.contains(&(up, path[path.len() - 1])));
                    path.push(up);
                    assert!(path.len() <= n as usize);
                }
                let Some(first) = first else { continue };
                assert!(ranks[first].contains(&path[path.len() - 1]));
                // Nodes an earlier rank reaches are in nobody's way.
                assert_eq!(Some(path.len() as u32 - 1), near(&ranks[first]));
            }
            assert_eq!(Holders::from_parts(holders.parts().to_vec(), &Watch::default()).as_ref(), Some(&holders));
            let junk: Vec<u32> = edges.iter().map(|e| e.0 + e.1 / 2).collect();
            if let Some(h) = Holders::from_parts(junk.clone(), &Watch::default()) {
                for v in 0..h.nodes() {
                    let way = std::iter::successors(Some(v), |&x| h.above(x));
                    assert!(way.take(junk.len() + 1).count() <= junk.len() && h.above(v).is_none_or(|a| h.is_reached(a)));
                }
            }
            assert!(!holders.is_reached(n) && holders.above(n).is_none() && holders.nodes() == n);
        }
    }

    /// 0 leads to 5 over 1 and 4, and over 2 and 6; to 7 over 1 alone in two steps.
    #[test]
    fn of_ways_of_one_length_a_late_one_comes_last() {
        let edges = [(0, 1), (0, 2), (1, 4), (1, 7), (2, 6), (4, 5), (6, 5), (2, 8), (8, 9), (9, 7)];
        let (g, w) = (graph(10, &edges), Watch::default());
        let reverse = g.reversed(&w).unwrap();
        for (late, way) in [(1, [0, 2, 6, 5]), (2, [0, 1, 4, 5]), (4, [0, 2, 6, 5]), (6, [0, 1, 4, 5])] {
            assert_eq!(WaysTo::new(&reverse, 5, &[late], &w).unwrap().path(0), way, "{late}");
            let holders = Holders::build(&g, &[vec![0]], &[late], &w).unwrap();
            assert_eq!(holders.above(5), Some(way[2]), "{late}");
            // A longer way is none the less the longer one.
            assert_eq!(WaysTo::new(&reverse, 7, &[late], &w).unwrap().path(0), [0, 1, 7]);
            assert_eq!(holders.above(7), Some(1));
        }
        // A target that is late itself sets none of them behind another.
        assert_eq!(WaysTo::new(&reverse, 5, &[5, 1], &w).unwrap().path(0), [0, 2, 6, 5]);
    }

    proptest::proptest! {
        #[test]
        fn paths_are_shortest_and_real(
            n in 1u32..40,
            raw in proptest::collection::vec((0u32..40, 0u32..40), 0..120),
            target in 0u32..40,
        ) {
            let edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            let target = target % n;
            let g = graph(n, &edges);
            let w = Watch::default();
            let reverse = g.reversed(&w).unwrap();
            assert_eq!(reverse.edges(), g.edges());
            let ways = WaysTo::new(&reverse, target, &[], &w).unwrap();
            let want = distances(n, &edges, target);
            for v in 0..n {
                let path = ways.path(v);
                assert_eq!(path.len() as u32, want[v as usize].map_or(0, |d| d + 1));
                for step in path.windows(2) {
                    assert!(edges.contains(&(step[0], step[1])));
                }
            }
            let from = n / 2;
            let naive: BTreeSet<u32> =
                (0..n).filter(|&v| distances(n, &edges, v)[from as usize].is_some()).collect();
            let order: BTreeSet<u32> = closure(&g, from, &w).unwrap().into_iter().collect();
            assert_eq!(order, naive);
            let bits = reachable(&g, [from], &w).unwrap();
            assert_eq!(bits.iter().filter(|b| **b).count(), naive.len());
        }
    }
}
