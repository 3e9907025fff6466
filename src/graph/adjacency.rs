//! Adjacency in compact arrays: for each node, a run of target ids.

use rayon::prelude::*;

use crate::watch::{Interrupted, Watch};

/// Nodes between two looks at the cancellation flag.
const CHECK: usize = 1 << 16;
/// Edges between two.
const MANY: usize = 1 << 20;
/// Workers that turn edges around at most: each looks at all edges.
const MAX_BINS: usize = 8;

/// Forward or reverse edges of a graph of `u32` nodes: 4 bytes a node and 4 bytes an edge, 8 bytes a node from `u32::MAX`
/// edges on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Adjacency {
    offsets: Offsets,
    targets: Vec<u32>,
}

/// Where the targets of each node begin, and where the last one's end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Offsets {
    Short(Vec<u32>),
    Long(Vec<u64>),
}

impl Default for Offsets {
    fn default() -> Self {
        Offsets::Short(Vec::new())
    }
}

impl Offsets {
    /// Room for `nodes` with `edges` in all.
    fn with_capacity(nodes: usize, edges: usize) -> Self {
        if u32::try_from(edges).is_ok() {
            Offsets::Short(Vec::with_capacity(nodes + 1))
        } else {
            Offsets::Long(Vec::with_capacity(nodes + 1))
        }
    }

    fn push(&mut self, at: usize) {
        match self {
            Offsets::Short(o) => o.push(at as u32),
            Offsets::Long(o) => o.push(at as u64),
        }
    }

    fn len(&self) -> usize {
        match self {
            Offsets::Short(o) => o.len(),
            Offsets::Long(o) => o.len(),
        }
    }

    fn resize(&mut self, len: usize, at: usize) {
        match self {
            Offsets::Short(o) => o.resize(len, at as u32),
            Offsets::Long(o) => o.resize(len, at as u64),
        }
    }

    /// Start and end of the targets of node `n`; nothing for a node that does not exist.
    #[inline]
    fn run(&self, n: usize) -> (usize, usize) {
        match self {
            Offsets::Short(o) => match (o.get(n), o.get(n + 1)) {
                (Some(&a), Some(&b)) => (a as usize, b as usize),
                _ => (0, 0),
            },
            Offsets::Long(o) => match (o.get(n), o.get(n + 1)) {
                (Some(&a), Some(&b)) => (a as usize, b as usize),
                _ => (0, 0),
            },
        }
    }
}

/// An offset of either width.
trait Offset: Copy + Default + Send + Sync {
    fn place(self) -> usize;
    fn of(place: usize) -> Self;
}

impl Offset for u32 {
    #[inline]
    fn place(self) -> usize {
        self as usize
    }
    #[inline]
    fn of(place: usize) -> Self {
        place as u32
    }
}

impl Offset for u64 {
    #[inline]
    fn place(self) -> usize {
        self as usize
    }
    #[inline]
    fn of(place: usize) -> Self {
        place as u64
    }
}

/// Edges of a run of consecutive nodes, collected by one worker.
#[derive(Debug, Default, Clone)]
pub struct Chunk {
    /// First node.
    pub first: u32,
    /// Out-degree of each node.
    pub degrees: Vec<u32>,
    /// Targets of all of them, in order.
    pub targets: Vec<u32>,
}

impl Adjacency {
    /// Joins chunks that together cover nodes `0..nodes`; `extra` are further edges. Targets out of range are dropped.
    pub fn build(nodes: u32, mut chunks: Vec<Chunk>, extra: &[(u32, u32)], watch: &Watch) -> Result<Self, Interrupted> {
        chunks.sort_by_key(|c| c.first);
        let mut more: Vec<(u32, u32)> = extra.iter().copied().filter(|e| e.0 < nodes && e.1 < nodes).collect();
        more.sort_unstable();
        let mut more = more.into_iter().peekable();
        let total: usize = chunks.iter().map(|c| c.targets.len()).sum();
        let mut offsets = Offsets::with_capacity(nodes as usize, total + extra.len());
        let mut targets = Vec::with_capacity(total + extra.len());
        offsets.push(0);
        for chunk in chunks {
            let mut at = 0;
            for degree in chunk.degrees {
                let node = offsets.len() as u32 - 1;
                if node.is_multiple_of(CHECK as u32) {
                    watch.cancel.check()?;
                }
                if node >= nodes {
                    break;
                }
                let run = chunk.targets.get(at..at + degree as usize).unwrap_or(&[]);
                targets.extend(run.iter().copied().filter(|&t| t < nodes));
                at += degree as usize;
                while let Some((_, to)) = more.next_if(|e| e.0 == node) {
                    targets.push(to);
                }
                offsets.push(targets.len());
            }
        }
        offsets.resize(nodes as usize + 1, targets.len());
        Ok(Self { offsets, targets })
    }

    /// From the number of targets of each node and all targets in order; `None` when they do not agree or a target is out
    /// of range, and after a stop.
    pub fn from_parts(degrees: &[u32], targets: Vec<u32>, watch: &Watch) -> Option<Self> {
        let nodes = u32::try_from(degrees.len()).ok()?;
        if !targets.par_iter().all(|&t| t < nodes) {
            return None;
        }
        let mut offsets = Offsets::with_capacity(degrees.len(), targets.len());
        offsets.push(0);
        let mut sum = 0usize;
        for (n, &d) in degrees.iter().enumerate() {
            if n.is_multiple_of(MANY) && watch.cancel.is_set() {
                return None;
            }
            sum += d as usize;
            // The widths of the offsets bound what they can hold.
            if sum > targets.len() {
                return None;
            }
            offsets.push(sum);
        }
        (sum == targets.len()).then_some(Self { offsets, targets })
    }

    /// Number of targets of each node.
    pub fn degrees(&self) -> Vec<u32> {
        (0..self.nodes()).map(|n| self.of(n).len() as u32).collect()
    }

    /// Targets of all nodes in order.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Number of nodes.
    pub fn nodes(&self) -> u32 {
        self.offsets.len().saturating_sub(1) as u32
    }

    /// Number of edges.
    pub fn edges(&self) -> usize {
        self.targets.len()
    }

    /// Targets of `node`.
    #[inline]
    pub fn of(&self, node: u32) -> &[u32] {
        let (start, end) = self.run(node);
        self.slice(start, end)
    }

    /// Where the targets of `node` lie among all targets: start and end for [`Adjacency::slice`].
    #[inline]
    pub(super) fn run(&self, node: u32) -> (usize, usize) {
        self.offsets.run(node as usize)
    }

    /// Targets `start..end` of all targets.
    #[inline]
    pub(super) fn slice(&self, start: usize, end: usize) -> &[u32] {
        self.targets.get(start..end).unwrap_or(&[])
    }

    /// The same edges turned around, sources in ascending order. Counts in parallel, each worker for a range of nodes.
    pub fn reversed(&self, watch: &Watch) -> Result<Self, Interrupted> {
        Ok(match &self.offsets {
            Offsets::Short(_) => {
                let (offsets, targets) = self.turned::<u32>(watch)?;
                Self { offsets: Offsets::Short(offsets), targets }
            }
            Offsets::Long(_) => {
                let (offsets, targets) = self.turned::<u64>(watch)?;
                Self { offsets: Offsets::Long(offsets), targets }
            }
        })
    }

    fn turned<T: Offset>(&self, watch: &Watch) -> Result<(Vec<T>, Vec<u32>), Interrupted> {
        let n = self.nodes() as usize;
        // Behind the first, which stays 0, entry `t + 1` serves node `t`: first its count, then where its next source goes,
        // which is in the end where those of `t + 1` begin.
        let mut offsets = vec![T::default(); n + 1];
        let width = n.div_ceil(rayon::current_num_threads().clamp(1, MAX_BINS)).max(1);
        let Some((_, cells)) = offsets.split_first_mut() else { return Ok((Vec::new(), Vec::new())) };
        cells.par_chunks_mut(width).enumerate().try_for_each(|(bin, counts)| {
            let first = bin * width;
            for part in self.targets.chunks(MANY) {
                watch.cancel.check()?;
                for &t in part {
                    if let Some(c) = counts.get_mut((t as usize).wrapping_sub(first)) {
                        *c = T::of(c.place() + 1);
                    }
                }
            }
            Ok(())
        })?;
        let mut sum = 0;
        for c in cells.iter_mut() {
            let count = c.place();
            *c = T::of(sum);
            sum += count;
        }
        let mut targets = vec![0u32; self.targets.len()];
        let mut bins = Vec::new();
        let (mut rest, mut given) = (targets.as_mut_slice(), 0);
        let ends: Vec<usize> =
            (1..).map(|b| b * width).take_while(|&e| e < n).map(|e| cells[e].place()).chain([sum]).collect();
        for (bin, (next, end)) in cells.chunks_mut(width).zip(ends).enumerate() {
            let (own, more) = std::mem::take(&mut rest).split_at_mut(end - given);
            bins.push(Bin { first: bin * width, base: given, next, targets: own });
            (rest, given) = (more, end);
        }
        bins.into_par_iter().try_for_each(|bin| bin.fill(self, watch))?;
        Ok((offsets, targets))
    }
}

/// A range of nodes whose incoming edges one worker collects.
struct Bin<'a, T> {
    /// First node.
    first: usize,
    /// Place of the first of its sources among all.
    base: usize,
    /// Where the next source of each of its nodes goes.
    next: &'a mut [T],
    targets: &'a mut [u32],
}

impl<T: Offset> Bin<'_, T> {
    fn fill(self, edges: &Adjacency, watch: &Watch) -> Result<(), Interrupted> {
        for node in 0..edges.nodes() {
            if (node as usize).is_multiple_of(CHECK) {
                watch.cancel.check()?;
            }
            for &t in edges.of(node) {
                let Some(next) = self.next.get_mut((t as usize).wrapping_sub(self.first)) else { continue };
                if let Some(slot) = self.targets.get_mut(next.place() - self.base) {
                    *slot = node;
                }
                *next = T::of(next.place() + 1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn edges_turn_around_whatever_the_width(
            n in 1u32..60,
            raw in proptest::collection::vec((0u32..60, 0u32..60), 0..200),
        ) {
            let mut edges: Vec<(u32, u32)> = raw.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            edges.sort_unstable();
            // Edges belong to nodes of chunks: without any there would be none.
            let bare = || vec![Chunk { degrees: vec![0; n as usize], ..Chunk::default() }];
            let forward = Adjacency::build(n, bare(), &edges, &Watch::default()).unwrap();
            assert_eq!(forward.edges(), edges.len());
            let mut turned: Vec<(u32, u32)> = edges.iter().map(|&(a, b)| (b, a)).collect();
            turned.sort_unstable();
            let w = Watch::default();
            let reverse = forward.reversed(&w).unwrap();
            assert_eq!(reverse, Adjacency::build(n, bare(), &turned, &w).unwrap());
            let (short, targets) = forward.turned::<u32>(&w).unwrap();
            let (long, same) = forward.turned::<u64>(&w).unwrap();
            assert_eq!(targets, same);
            assert!(short.iter().map(|&o| u64::from(o)).eq(long.iter().copied()));
            assert_eq!(Adjacency::from_parts(&forward.degrees(), forward.targets().to_vec(), &w).as_ref(), Some(&forward));
            let mut wrong = forward.degrees();
            wrong[0] += 1;
            assert!(Adjacency::from_parts(&wrong, forward.targets().to_vec(), &w).is_none());
            assert!(Adjacency::from_parts(&[1], vec![1], &w).is_none());
            let wide = Adjacency { offsets: Offsets::Long(long), targets };
            assert!((0..=n).all(|v| wide.of(v) == reverse.of(v)));
        }
    }
}
