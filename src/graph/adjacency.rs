//! Adjacency in compact arrays: for each node, a run of target ids.

use crate::watch::{Interrupted, Watch};

/// Nodes between two looks at the cancellation flag.
const CHECK: usize = 1 << 16;

/// Forward or reverse edges of a graph of `u32` nodes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Adjacency {
    offsets: Vec<u64>,
    targets: Vec<u32>,
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
    pub fn build(nodes: u32, mut chunks: Vec<Chunk>, extra: &[(u32, u32)]) -> Self {
        chunks.sort_by_key(|c| c.first);
        let mut more: Vec<(u32, u32)> = extra.iter().copied().filter(|e| e.0 < nodes && e.1 < nodes).collect();
        more.sort_unstable();
        let mut more = more.into_iter().peekable();
        let total: usize = chunks.iter().map(|c| c.targets.len()).sum();
        let mut offsets = Vec::with_capacity(nodes as usize + 1);
        let mut targets = Vec::with_capacity(total + extra.len());
        offsets.push(0);
        for chunk in chunks {
            let mut at = 0;
            for degree in chunk.degrees {
                let node = offsets.len() as u32 - 1;
                if node >= nodes {
                    break;
                }
                let run = chunk.targets.get(at..at + degree as usize).unwrap_or(&[]);
                targets.extend(run.iter().copied().filter(|&t| t < nodes));
                at += degree as usize;
                while let Some((_, to)) = more.next_if(|e| e.0 == node) {
                    targets.push(to);
                }
                offsets.push(targets.len() as u64);
            }
        }
        offsets.resize(nodes as usize + 1, targets.len() as u64);
        Self { offsets, targets }
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
        let n = node as usize;
        match (self.offsets.get(n), self.offsets.get(n + 1)) {
            (Some(&a), Some(&b)) => self.targets.get(a as usize..b as usize).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// Where the targets of `node` lie among all targets: start and end for [`Adjacency::slice`].
    #[inline]
    pub(super) fn run(&self, node: u32) -> (usize, usize) {
        let n = node as usize;
        match (self.offsets.get(n), self.offsets.get(n + 1)) {
            (Some(&a), Some(&b)) => (a as usize, b as usize),
            _ => (0, 0),
        }
    }

    /// Targets `start..end` of all targets.
    #[inline]
    pub(super) fn slice(&self, start: usize, end: usize) -> &[u32] {
        self.targets.get(start..end).unwrap_or(&[])
    }

    /// The same edges turned around, by counting.
    pub fn reversed(&self, watch: &Watch) -> Result<Self, Interrupted> {
        let n = self.nodes() as usize;
        let mut offsets = vec![0u64; n + 1];
        for &t in &self.targets {
            offsets[t as usize + 1] += 1;
        }
        for i in 0..n {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut targets = vec![0u32; self.targets.len()];
        for node in 0..n as u32 {
            if (node as usize).is_multiple_of(CHECK) {
                watch.cancel.check()?;
            }
            for &t in self.of(node) {
                let slot = &mut next[t as usize];
                targets[*slot as usize] = node;
                *slot += 1;
            }
        }
        Ok(Self { offsets, targets })
    }
}
