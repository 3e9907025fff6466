//! Shortest ways to one object, found backwards round by round by whoever can say what refers to a set of objects: the same
//! ways that [`WaysTo`](super::paths::WaysTo) finds over the reverse of the whole graph.

use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

/// The objects looked for in one round, by address, with their places in their order.
pub type Sought = FxHashMap<u64, u32>;

/// For what leads to one object, the next step of a shortest way there. Only as far as was asked for.
#[derive(Debug)]
pub struct Rounds {
    target: u64,
    next: FxHashMap<u64, u64>,
}

impl Rounds {
    /// Searches backwards from `target` until nothing more leads there, or all of `wanted` are known to. Of ways of the same
    /// length one over an object of `late` comes last. `referrers` gives each object that refers to one of those sought, with
    /// the least place among them, sorted by that and then by address; with `None` it gives up.
    pub fn search<E>(
        target: u64,
        wanted: &FxHashSet<u64>,
        late: &[u64],
        mut referrers: impl FnMut(&Sought) -> Result<Option<Vec<(u32, u64)>>, E>,
    ) -> Result<Option<Self>, E> {
        let mut ways = Self { target, next: FxHashMap::from_iter([(target, target)]) };
        let mut missing = wanted.len() - usize::from(wanted.contains(&target));
        // Those from `split` on lead over a late object.
        let (mut near, mut split) = (vec![target], 1);
        while !near.is_empty() && missing > 0 {
            let sought: Sought = near.iter().copied().zip(0..).collect();
            let Some(found) = referrers(&sought)? else { return Ok(None) };
            let mut far: [Vec<u64>; 2] = Default::default();
            for (place, from) in found {
                let Some(&to) = near.get(place as usize) else { continue };
                if let Entry::Vacant(v) = ways.next.entry(from) {
                    v.insert(to);
                    far[usize::from(place as usize >= split || late.contains(&from))].push(from);
                    missing -= usize::from(wanted.contains(&from));
                }
            }
            split = far[0].len();
            near = far.concat();
        }
        Ok(Some(ways))
    }

    /// Whether `address`, one of those asked for, leads to the target.
    pub fn reaches(&self, address: u64) -> bool {
        self.next.contains_key(&address)
    }

    /// A shortest path from `address` to the target, both included; empty when there is none.
    pub fn path(&self, address: u64) -> Vec<u64> {
        let mut path = Vec::new();
        let mut at = address;
        while let Some(&next) = self.next.get(&at) {
            path.push(at);
            if at == self.target {
                break;
            }
            at = next;
        }
        path
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Adjacency;
    use super::super::Chunk;
    use super::super::paths::WaysTo;
    use super::*;
    use crate::watch::{Interrupted, Watch};

    proptest::proptest! {
        #[test]
        fn ways_are_those_over_the_graph(
            n in 1u32..60,
            raw in proptest::collection::vec((0u32..60, 0u32..60), 0..200),
            target in 0u32..60,
            wanted in proptest::collection::hash_set(0u32..60, 0..60),
            late in proptest::collection::vec(0u32..60, 0..4),
        ) {
            let edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            let (target, w) = (target % n, Watch::default());
            let none = Chunk { degrees: vec![0; n as usize], ..Chunk::default() };
            let reverse = Adjacency::build(n, vec![none], &edges, &w).unwrap().reversed(&w).unwrap();
            assert_eq!(reverse.edges(), edges.len());
            let whole = WaysTo::new(&reverse, target, &late, &w).unwrap();
            let address = |v: u32| u64::from(v) * 8 + 0x1000;
            let mut asked = 0;
            let late: Vec<u64> = late.into_iter().map(address).collect();
            let rounds = Rounds::search(address(target), &wanted.iter().map(|&v| address(v)).collect(), &late, |sought| {
                asked += 1;
                let places = |v: u32| edges.iter().filter(move |e| e.0 == v).filter_map(|e| sought.get(&address(e.1)));
                let mut all: Vec<(u32, u64)> =
                    (0..n).filter_map(|v| Some((*places(v).min()?, address(v)))).collect();
                all.sort_unstable();
                Ok::<_, Interrupted>(Some(all))
            });
            let rounds = rounds.unwrap().unwrap();
            for v in wanted.iter().copied().filter(|&v| v < n) {
                assert_eq!(rounds.reaches(address(v)), whole.reaches(v));
                assert_eq!(rounds.path(address(v)), whole.path(v).into_iter().map(address).collect::<Vec<_>>());
            }
            // No round too many: the farthest that is wanted is found in the last, unless one is out of reach.
            if wanted.iter().all(|&v| v < n && whole.reaches(v)) {
                assert_eq!(asked, wanted.iter().map(|&v| whole.path(v).len() - 1).max().unwrap_or(0));
            }
            let none = Rounds::search(0, &FxHashSet::from_iter([8]), &[], |_| Ok::<_, Interrupted>(None));
            assert!(none.unwrap().is_none());
        }
    }
}
