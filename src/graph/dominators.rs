//! The dominator tree: for every object the nearest one that every way from the roots passes through.
//!
//! Semi-NCA (Georgiadis, "Linear-time algorithms for dominators and related problems", 2005): semidominators over a
//! depth-first numbering with path compression, then each immediate dominator as the nearest common ancestor of parent
//! and semidominator. That last search goes over jump pointers (Myers, "An applicative random-access stack", 1983), so a long
//! chain in the tree cannot make it quadratic. Nothing recurs; all arrays hold `u32`, 24 bytes a node while it runs.
//!
//! The tree is kept in its own preorder: a subtree is a run of positions, so the bytes it retains are a difference of two
//! running sums.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::Adjacency;
use crate::watch::{Interrupted, Watch};

const NONE: u32 = u32::MAX;
/// Steps between two looks at the cancellation flag.
const CHECK: u32 = 1 << 14;
/// The same inside one node's edges or one path, where a step is short.
const MANY: usize = 1 << 20;

/// The dominator tree of all nodes the roots reach. Position 0 is a virtual root above all roots; the nodes stand at
/// positions `1..=reached()`, each in front of everything it dominates.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DominatorTree {
    /// Node at each position; `NONE` for the virtual root.
    nodes: Vec<u32>,
    /// Position of each node; `NONE` when no root reaches it.
    positions: Vec<u32>,
    /// Position of the immediate dominator of each position.
    parents: Vec<u32>,
    /// Where the subtree of each position ends.
    ends: Vec<u32>,
}

impl DominatorTree {
    /// Computes the tree of what `roots` reach. `reverse` must be `forward` turned around; roots out of range are ignored,
    /// and so is the last node of a graph of `u32::MAX` nodes (numbers run out).
    pub fn build(forward: &Adjacency, reverse: &Adjacency, roots: &[u32], watch: &Watch) -> Result<Self, Interrupted> {
        watch.progress.start("visiting objects in depth", u64::from(forward.nodes()));
        let search = Search::run(forward, roots, watch)?;
        watch.progress.start("computing dominators", 2 * search.nodes.len() as u64);
        let tree = search.dominators(reverse, watch)?;
        watch.progress.finish();
        Ok(tree)
    }

    /// From the node at each position and the position of its immediate dominator, both beginning with the virtual root,
    /// of a graph of `count` nodes; `None` when they are those of no tree, and after a
    /// stop.
    pub fn from_parts(nodes: Vec<u32>, parents: Vec<u32>, count: u32, watch: &Watch) -> Option<Self> {
        if nodes.len() != parents.len() || nodes.len() > count as usize + 1 || nodes.first() != Some(&NONE) {
            return None;
        }
        let positions: Vec<AtomicU32> = (0..count).into_par_iter().map(|_| AtomicU32::new(NONE)).collect();
        let once = |(p, &n): (usize, &u32)| {
            positions.get(n as usize).is_some_and(|at| at.swap(p as u32, Ordering::Relaxed) == NONE)
        };
        if !nodes.par_iter().enumerate().skip(1).all(once) {
            return None;
        }
        let mut ends: Vec<u32> = (1..=nodes.len() as u32).collect();
        for p in (1..parents.len()).rev() {
            let up = parents[p] as usize;
            // A dominator stands in front of what it dominates.
            if up >= p || p.is_multiple_of(MANY) && watch.cancel.is_set() {
                return None;
            }
            ends[up] = ends[up].max(ends[p]);
        }
        let positions = positions.into_iter().map(AtomicU32::into_inner).collect();
        Some(Self { nodes, positions, parents, ends })
    }

    /// The node at each position and the position of its immediate dominator, as [`DominatorTree::from_parts`] takes them.
    pub fn parts(&self) -> (&[u32], &[u32]) {
        (&self.nodes, &self.parents)
    }

    /// Number of nodes the roots reach.
    pub fn reached(&self) -> u32 {
        self.nodes.len().saturating_sub(1) as u32
    }

    /// Position of `node`; `None` when no root reaches it.
    #[inline]
    pub fn position(&self, node: u32) -> Option<u32> {
        self.positions.get(node as usize).copied().filter(|&p| p != NONE)
    }

    /// Node at `position`; `None` for the virtual root and positions that do not exist.
    #[inline]
    pub fn node(&self, position: u32) -> Option<u32> {
        self.nodes.get(position as usize).copied().filter(|&n| n != NONE)
    }

    /// Position of the immediate dominator; 0 is the virtual root, `None` stands above that.
    #[inline]
    pub fn parent(&self, position: u32) -> Option<u32> {
        if position == 0 { None } else { self.parents.get(position as usize).copied() }
    }

    /// Positions of everything `position` dominates, itself first.
    #[inline]
    pub fn subtree(&self, position: u32) -> Range<u32> {
        position..self.ends.get(position as usize).copied().unwrap_or(position)
    }

    /// Positions of the nodes whose immediate dominator is at `position`.
    pub fn children(&self, position: u32) -> impl Iterator<Item = u32> + '_ {
        let all = self.subtree(position);
        let first = Some(position.saturating_add(1)).filter(|p| all.contains(p));
        std::iter::successors(first, move |&p| Some(self.subtree(p).end).filter(|p| all.contains(p)))
    }

    /// Positions from `position` up to the last below the virtual root.
    pub fn chain(&self, position: u32) -> impl Iterator<Item = u32> + '_ {
        let up = |p: u32| Some(p).filter(|&p| p != 0 && p <= self.reached());
        std::iter::successors(up(position), move |&p| self.parent(p).and_then(up))
    }
}

/// Bytes of every node, summed over the positions of a [`DominatorTree`]: 8 bytes a node.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Bytes of all positions up to each, its own included.
    sums: Vec<u64>,
}

impl Weights {
    /// Takes each position's own bytes, beginning with the virtual root's.
    pub fn new(mut own: Vec<u64>) -> Self {
        let mut sum = 0u64;
        for w in &mut own {
            sum = sum.saturating_add(*w);
            *w = sum;
        }
        Self { sums: own }
    }

    /// Bytes of the positions of a range: of a subtree, what its top retains.
    #[inline]
    pub fn of(&self, range: Range<u32>) -> u64 {
        let before = |end: u32| end.checked_sub(1).and_then(|last| self.sums.get(last as usize)).copied();
        before(range.end).unwrap_or(0).saturating_sub(before(range.start).unwrap_or(0))
    }

    /// Bytes of each position alone.
    pub fn all_own(&self) -> Vec<u64> {
        (0..self.sums.len() as u32).map(|p| self.own(p)).collect()
    }

    /// Bytes of the node at `position` alone.
    pub fn own(&self, position: u32) -> u64 {
        self.of(position..position.saturating_add(1))
    }
}

/// Two values of a vertex that are always used together.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// During the search: the parent. Then: the ancestor path compression has come to. Last: the jump pointer.
    up: u32,
    /// During the search: the edge to follow next. Then: the least semidominator on the compressed path. Last: the depth.
    label: u32,
}

/// Vertices looked at together.
const BATCH: u32 = 128;
/// Edges of a vertex that are fetched ahead.
const FEW: usize = 64;
/// Steps up the tree that are fetched ahead.
const ROUNDS: usize = 8;

/// The sources of the edges into a run of vertices.
#[derive(Debug, Default)]
struct Batch {
    /// Numbers of the sources of all vertices, the last vertex first; `NONE` for those not reached.
    sources: Vec<u32>,
    /// End of each vertex's sources, and whether it has more than those.
    ends: Vec<(u32, bool)>,
    /// Where the edges of each vertex lie.
    runs: Vec<(usize, usize)>,
    /// Where the ways up from the sources have come to.
    ups: Vec<u32>,
}

impl Batch {
    fn fetch(&mut self, search: &Search, reverse: &Adjacency, vertices: Range<u32>) {
        self.runs.clear();
        self.sources.clear();
        self.ends.clear();
        let nodes = search.nodes.get(vertices.start as usize..vertices.end as usize).unwrap_or(&[]);
        self.runs.extend(nodes.iter().rev().map(|&n| reverse.run(n)));
        for &(start, end) in &self.runs {
            let cut = end - start > FEW;
            let end = end.min(start + FEW);
            self.sources.extend_from_slice(reverse.slice(start, end));
            self.ends.push((self.sources.len() as u32, cut));
        }
        for s in &mut self.sources {
            *s = search.numbers.get(*s as usize).copied().unwrap_or(NONE);
        }
        // The first steps of the ways up are taken for the cache alone.
        self.ups.clear();
        let up = |v: u32| search.links.get(v as usize).map_or(0, |l| l.up);
        self.ups.extend(self.sources.iter().map(|&s| if s > vertices.start && s != NONE { up(s) } else { 0 }));
        for _ in 0..ROUNDS {
            let mut moved = false;
            for u in self.ups.iter_mut().filter(|u| **u > vertices.start) {
                *u = up(*u);
                moved = true;
            }
            if !moved {
                break;
            }
        }
        // What was read is not what counts: the ways change before their turn comes.
        std::hint::black_box(&self.ups);
    }

    fn sources(&self, i: usize) -> &[u32] {
        let start = i.checked_sub(1).and_then(|b| self.ends.get(b)).map_or(0, |e| e.0);
        self.ends.get(i).and_then(|e| self.sources.get(start as usize..e.0 as usize)).unwrap_or(&[])
    }

    fn is_cut(&self, i: usize) -> bool {
        self.ends.get(i).is_some_and(|e| e.1)
    }
}

/// The depth-first search. Vertices are numbered in the order it meets them, 0 is the virtual root.
struct Search {
    nodes: Vec<u32>,
    numbers: Vec<u32>,
    /// Parents, then immediate dominators.
    parents: Vec<u32>,
    semis: Vec<u32>,
    links: Vec<Link>,
}

impl Search {
    fn run(forward: &Adjacency, roots: &[u32], watch: &Watch) -> Result<Self, Interrupted> {
        let n = forward.nodes() as usize;
        let mut s = Self {
            nodes: Vec::with_capacity(n + 1),
            numbers: vec![NONE; n],
            parents: Vec::new(),
            semis: Vec::new(),
            links: Vec::with_capacity(n + 1),
        };
        s.nodes.push(NONE);
        s.links.push(Link { up: 0, label: 0 });
        let mut left = CHECK;
        for &root in roots {
            s.visit_from(forward, root, &mut left, watch)?;
        }
        s.parents = s.links.iter().map(|l| l.up).collect();
        // A parent is an edge, so its number bounds the semidominator from the start; that of a root is the virtual root.
        s.semis.clone_from(&s.parents);
        for &root in roots {
            if let Some(&v) = s.numbers.get(root as usize).filter(|&&v| v != NONE) {
                s.semis[v as usize] = 0;
            }
        }
        Ok(s)
    }

    /// Numbers a node met for the first time.
    #[inline]
    fn meet(&mut self, node: u32, parent: u32) -> Option<u32> {
        let number = self.numbers.get_mut(node as usize).filter(|n| **n == NONE)?;
        let v = self.nodes.len() as u32;
        if v == NONE {
            return None;
        }
        *number = v;
        self.nodes.push(node);
        self.links.push(Link { up: parent, label: 0 });
        Some(v)
    }

    /// Visits what `root` reaches and nothing before did. The way back is in the parents, so no stack is needed.
    fn visit_from(&mut self, forward: &Adjacency, root: u32, left: &mut u32, watch: &Watch) -> Result<(), Interrupted> {
        let Some(mut v) = self.meet(root, 0) else { return Ok(()) };
        let mut edges = forward.of(root);
        let mut at = 0;
        loop {
            *left -= 1;
            if *left == 0 {
                watch.cancel.check()?;
                watch.progress.add(u64::from(CHECK) / 2);
                *left = CHECK;
            }
            let mut below = None;
            while let Some(&t) = edges.get(at) {
                at += 1;
                if at.is_multiple_of(MANY) {
                    watch.cancel.check()?;
                }
                below = self.meet(t, v).map(|w| (w, t));
                if below.is_some() {
                    break;
                }
            }
            match below {
                Some((w, node)) => {
                    self.links[v as usize].label = at as u32;
                    (v, edges, at) = (w, forward.of(node), 0);
                }
                None => {
                    v = self.links[v as usize].up;
                    if v == 0 {
                        return Ok(());
                    }
                    edges = forward.of(self.nodes[v as usize]);
                    at = self.links[v as usize].label as usize;
                }
            }
        }
    }

    fn dominators(mut self, reverse: &Adjacency, watch: &Watch) -> Result<DominatorTree, Interrupted> {
        self.semidominators(reverse, watch)?;
        self.nearest_common(watch)?;
        self.into_tree(watch)
    }

    /// Fills `semis`, from the last vertex to the first, a batch at a time.
    ///
    /// Nearly every step misses the cache. What a batch will need is fetched in rounds of independent reads, so that many
    /// misses are under way at once; only then the vertices are worked through in order.
    fn semidominators(&mut self, reverse: &Adjacency, watch: &Watch) -> Result<(), Interrupted> {
        let mut path = Vec::new();
        let mut batch = Batch::default();
        let mut high = self.nodes.len() as u32;
        while high > 1 {
            watch.cancel.check()?;
            let low = high.saturating_sub(BATCH).max(1);
            watch.progress.add(u64::from(high - low));
            batch.fetch(self, reverse, low..high);
            for (i, v) in (low..high).rev().enumerate() {
                let mut semi = self.semis[v as usize];
                for &u in batch.sources(i) {
                    semi = semi.min(evaluate(&mut self.links, &mut path, u, v, watch)?);
                }
                let more = reverse.of(self.nodes[v as usize]).get(FEW..).filter(|_| batch.is_cut(i)).unwrap_or(&[]);
                for (i, &f) in more.iter().enumerate() {
                    if i.is_multiple_of(MANY) {
                        watch.cancel.check()?;
                    }
                    let u = self.numbers.get(f as usize).copied().unwrap_or(NONE);
                    semi = semi.min(evaluate(&mut self.links, &mut path, u, v, watch)?);
                }
                self.semis[v as usize] = semi;
                self.links[v as usize].label = semi;
            }
            high = low;
        }
        Ok(())
    }

    /// Turns `parents` into immediate dominators, from the first vertex to the last: the nearest dominator of the parent
    /// whose number is at most the semidominator.
    fn nearest_common(&mut self, watch: &Watch) -> Result<(), Interrupted> {
        let links = &mut self.links;
        if let Some(root) = links.first_mut() {
            *root = Link { up: 0, label: 0 };
        }
        for v in 1..self.nodes.len() {
            if v.is_multiple_of(CHECK as usize) {
                watch.cancel.check()?;
                watch.progress.add(u64::from(CHECK));
            }
            let semi = self.semis[v];
            let mut up = self.parents[v];
            while up > semi {
                let jump = links[up as usize].up;
                up = if jump >= semi { jump } else { self.parents[up as usize] };
            }
            self.parents[v] = up;
            let Link { up: jump, label: depth } = links[up as usize];
            let Link { up: far, label: jump_depth } = links[jump as usize];
            // Two jumps of the same length make one of twice the length.
            let same = depth - jump_depth == jump_depth - links[far as usize].label;
            links[v] = Link { up: if same { far } else { up }, label: depth + 1 };
        }
        Ok(())
    }

    /// Renumbers from the order of the search to the preorder of the tree. Arrays are freed as soon as they are used up.
    fn into_tree(self, watch: &Watch) -> Result<DominatorTree, Interrupted> {
        let look = |v: usize| if v.is_multiple_of(MANY) { watch.cancel.check() } else { Ok(()) };
        let Self { nodes, mut numbers, parents, semis: mut counts, links } = self;
        drop(links);
        let n = nodes.len();
        counts.fill(1);
        for v in (1..n).rev() {
            look(v)?;
            counts[parents[v] as usize] += counts[v];
        }
        // A vertex takes the next free position of its dominator's run and leaves what follows to its children: when all
        // have theirs, the next free position is the end of the run. Its count makes room for its position.
        let mut next = vec![0u32; n];
        let mut places = counts;
        places[0] = 0;
        next[0] = 1;
        for v in 1..n {
            look(v)?;
            let up = parents[v] as usize;
            let at = next[up];
            next[up] += places[v];
            places[v] = at;
            next[v] = at + 1;
        }
        let scatter = |of: &dyn Fn(usize) -> u32| {
            let mut out = vec![0u32; n];
            for (v, &at) in places.iter().enumerate() {
                look(v)?;
                out[at as usize] = of(v);
            }
            Ok(out)
        };
        for (&node, &at) in nodes.iter().zip(&places).skip(1) {
            look(at as usize)?;
            numbers[node as usize] = at;
        }
        let in_place = scatter(&|v| nodes[v])?;
        drop(nodes);
        let above = scatter(&|v| places[parents[v] as usize])?;
        drop(parents);
        let ends = scatter(&|v| next[v])?;
        Ok(DominatorTree { nodes: in_place, positions: numbers, parents: above, ends })
    }
}

/// What an edge from `u` bounds the semidominator of `v` by: `u` itself if it stands before `v`, else the least semidominator
/// on the way from `u` up to the vertices not yet looked at (up to `v`). Nothing (`NONE`) if no root reaches `u`.
#[inline]
fn evaluate(links: &mut [Link], path: &mut Vec<u32>, u: u32, v: u32, watch: &Watch) -> Result<u32, Interrupted> {
    if u <= v || u == NONE {
        return Ok(u);
    }
    let Link { up, label } = links[u as usize];
    if up <= v { Ok(label) } else { compress(links, path, u, v, watch) }
}

/// As [`evaluate`], for a way of more than one step: every vertex on it is made to point to its end.
fn compress(links: &mut [Link], path: &mut Vec<u32>, u: u32, v: u32, watch: &Watch) -> Result<u32, Interrupted> {
    let mut at = u;
    while links[at as usize].up > v {
        path.push(at);
        if path.len().is_multiple_of(MANY) {
            watch.cancel.check()?;
        }
        at = links[at as usize].up;
    }
    let Link { up: top, label: mut least } = links[at as usize];
    while let Some(w) = path.pop() {
        let link = &mut links[w as usize];
        least = least.min(link.label);
        *link = Link { up: top, label: least };
    }
    Ok(least)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Chunk;
    use super::*;

    fn graph(n: u32, edges: &[(u32, u32)]) -> Adjacency {
        let mut edges = edges.to_vec();
        edges.sort_by_key(|e| e.0);
        let mut chunk = Chunk { first: 0, degrees: vec![0; n as usize], targets: Vec::new() };
        for (from, to) in edges {
            chunk.degrees[from as usize] += 1;
            chunk.targets.push(to);
        }
        Adjacency::build(n, vec![chunk], &[], &Watch::default()).unwrap()
    }

    fn tree(n: u32, edges: &[(u32, u32)], roots: &[u32]) -> DominatorTree {
        let w = Watch::default();
        let forward = graph(n, edges);
        let reverse = forward.reversed(&w).unwrap();
        let tree = DominatorTree::build(&forward, &reverse, roots, &w).unwrap();
        check_shape(&tree);
        let (nodes, parents) = tree.parts();
        assert_eq!(DominatorTree::from_parts(nodes.to_vec(), parents.to_vec(), n, &w).as_ref(), Some(&tree));
        tree
    }

    /// Subtrees are nested runs, parents stand in front, nodes and positions are each other's inverse.
    fn check_shape(t: &DominatorTree) {
        assert_eq!(t.subtree(0), 0..t.reached() + 1);
        for p in 1..=t.reached() {
            assert_eq!(t.position(t.node(p).unwrap()), Some(p));
            let up = t.parent(p).unwrap();
            assert!(up < p && t.subtree(p).end <= t.subtree(up).end && t.subtree(p).end > p);
        }
        let below: u32 = (0..=t.reached()).map(|p| t.children(p).count() as u32).sum();
        assert_eq!(below, t.reached());
        assert!((0..=t.reached()).all(|p| t.children(p).all(|c| t.parent(c) == Some(p))));
    }

    /// What the roots reach without passing through `without`.
    fn reach(g: &Adjacency, roots: &[u32], without: Option<u32>) -> Vec<bool> {
        let mut seen = vec![false; g.nodes() as usize];
        let mut stack: Vec<u32> = roots.to_vec();
        while let Some(v) = stack.pop() {
            if Some(v) != without && v < g.nodes() && !std::mem::replace(&mut seen[v as usize], true) {
                stack.extend(g.of(v));
            }
        }
        seen
    }

    #[test]
    fn numbers_of_no_tree_are_refused() {
        let bad = |nodes: &[u32], parents: &[u32]| {
            DominatorTree::from_parts(nodes.to_vec(), parents.to_vec(), 3, &Watch::default()).is_none()
        };
        assert!(!bad(&[NONE, 2, 0], &[0, 0, 1]));
        assert!(bad(&[NONE, 2, 2], &[0, 0, 1]), "a node twice");
        assert!(bad(&[NONE, 2, 3], &[0, 0, 1]), "a node out of range");
        assert!(bad(&[NONE, 2, 0], &[0, 0, 2]), "its own parent");
        assert!(bad(&[NONE, 2, 0], &[0, 2, 0]), "a parent behind it");
        assert!(bad(&[NONE, 2, 0], &[0, 0]) && bad(&[0, 2], &[0, 0]) && bad(&[], &[]));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(600))]
        #[test]
        fn dominators_are_what_cannot_be_left_out(
            n in 1u32..40,
            raw in proptest::collection::vec((0u32..40, 0u32..40), 0..140),
            starts in proptest::collection::vec(0u32..45, 0..5),
            local in 0u32..2,
        ) {
            // Half of the graphs have near edges only: they are deep.
            let near = |a: u32, b: u32| if local == 1 { (a + b % 4) % n } else { b % n };
            let edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, near(a % n, b))).collect();
            let t = tree(n, &edges, &starts);
            let g = graph(n, &edges);
            let all = reach(&g, &starts, None);
            assert_eq!(t.reached() as usize, all.iter().filter(|b| **b).count());
            let size = |v: u32| 10 + u64::from(v * v);
            let own = (0..=t.reached()).map(|p| t.node(p).map_or(0, size)).collect();
            let weights = Weights::new(own);
            for v in 0..n {
                let Some(p) = t.position(v) else {
                    assert!(!all[v as usize]);
                    continue;
                };
                let left = reach(&g, &starts, Some(v));
                let mut retained: Vec<u32> = (0..n).filter(|&u| all[u as usize] && !left[u as usize]).collect();
                let mut found: Vec<u32> = t.subtree(p).map(|q| t.node(q).unwrap()).collect();
                assert!(found.iter().all(|&d| t.chain(t.position(d).unwrap()).any(|q| q == p)));
                retained.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, retained);
                assert_eq!(weights.of(t.subtree(p)), retained.iter().map(|&u| size(u)).sum::<u64>());
                assert_eq!(weights.own(p), size(v));
            }
        }
    }

    const MANY_NODES: u32 = 100_000;

    #[test]
    fn a_deep_chain_with_ways_back_is_one_path() {
        let mut edges: Vec<(u32, u32)> = (1..MANY_NODES).map(|v| (v - 1, v)).collect();
        edges.extend((1..MANY_NODES).map(|v| (v, v - 1)));
        let t = tree(MANY_NODES, &edges, &[0]);
        assert_eq!(t.chain(t.position(MANY_NODES - 1).unwrap()).count(), MANY_NODES as usize);
    }

    #[test]
    fn leaves_shared_with_the_end_of_a_long_chain_hang_off_the_root() {
        // Each leaf's dominator lies at the far end of the chain: climbing step by step would be quadratic.
        let (half, root) = (MANY_NODES / 2, MANY_NODES);
        let mut edges: Vec<(u32, u32)> = (1..half).map(|v| (v - 1, v)).collect();
        edges.push((root, 0));
        edges.extend((half..MANY_NODES).flat_map(|v| [(half - 1, v), (root, v)]));
        let t = tree(MANY_NODES + 1, &edges, &[root]);
        assert_eq!(t.children(1).count() as u32, MANY_NODES - half + 1);
        assert_eq!(t.chain(t.position(half - 1).unwrap()).count() as u32, half + 1);
    }

    #[test]
    fn a_star_and_many_roots_are_flat() {
        let edges: Vec<(u32, u32)> = (1..MANY_NODES).map(|v| (0, v)).collect();
        let t = tree(MANY_NODES, &edges, &[0]);
        assert_eq!(t.children(1).count() as u32, MANY_NODES - 1);
        let every: Vec<u32> = (0..MANY_NODES).rev().collect();
        assert_eq!(tree(MANY_NODES, &edges, &every).children(0).count() as u32, MANY_NODES);
    }

    #[test]
    fn a_stop_is_seen() {
        let edges: Vec<(u32, u32)> = (1..MANY_NODES).map(|v| (v - 1, v)).collect();
        let forward = graph(MANY_NODES, &edges);
        let w = Watch::default();
        let reverse = forward.reversed(&w).unwrap();
        w.cancel.set();
        assert!(DominatorTree::build(&forward, &reverse, &[0], &w).is_err());
    }
}
