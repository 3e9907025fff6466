//! Reachability and shortest paths.

use super::Adjacency;
use crate::watch::{Interrupted, Watch};

const NONE: u32 = u32::MAX;
/// Nodes between two looks at the cancellation flag.
const CHECK: u32 = 1 << 14;

/// Everything that leads to one node: for each ancestor the next step of a shortest way there.
#[derive(Debug)]
pub struct WaysTo {
    target: u32,
    next: Vec<u32>,
}

impl WaysTo {
    /// Searches backwards from `target` over the reverse edges.
    pub fn new(reverse: &Adjacency, target: u32, watch: &Watch) -> Result<Self, Interrupted> {
        let mut next = vec![NONE; reverse.nodes() as usize];
        let mut queue = std::collections::VecDeque::from([target]);
        if let Some(n) = next.get_mut(target as usize) {
            *n = target;
        }
        let mut left = CHECK;
        while let Some(node) = queue.pop_front() {
            left -= 1;
            if left == 0 {
                watch.cancel.check()?;
                left = CHECK;
            }
            for &from in reverse.of(node) {
                if let Some(n) = next.get_mut(from as usize).filter(|n| **n == NONE) {
                    *n = node;
                    queue.push_back(from);
                }
            }
        }
        Ok(Self { target, next })
    }

    /// Whether `node` leads to the target.
    pub fn reaches(&self, node: u32) -> bool {
        self.next.get(node as usize).is_some_and(|&n| n != NONE)
    }

    /// A shortest path from `node` to the target, both included; empty when there is none.
    pub fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut at = node;
        if !self.reaches(node) {
            return path;
        }
        loop {
            path.push(at);
            if at == self.target {
                return path;
            }
            at = self.next[at as usize];
        }
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
    let mut left = CHECK;
    while let Some(node) = stack.pop() {
        left -= 1;
        if left == 0 {
            watch.cancel.check()?;
            left = CHECK;
        }
        for &t in forward.of(node) {
            if let Some(b) = seen.get_mut(t as usize).filter(|b| !**b) {
                *b = true;
                stack.push(t);
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
    use super::super::adjacency::Chunk;
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
            let ways = WaysTo::new(&reverse, target, &w).unwrap();
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
