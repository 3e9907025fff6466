//! Stacks merged from their common bottoms.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// What lies below the bottom of a stack.
pub const NOTHING: usize = usize::MAX;

/// A method in a tree, above those it is called from.
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Threads through it.
    pub threads: usize,
    /// Chains of suspended methods through it.
    pub suspended: usize,
    /// Threads that stand in it.
    pub standing: Vec<u64>,
    /// Chains that begin with it.
    pub waiting: usize,
    /// What is called from it, the rarest first.
    pub above: Vec<usize>,
    below: usize,
}

impl Node {
    /// Stacks through it.
    pub fn stacks(&self) -> usize {
        self.threads + self.suspended
    }
}

/// The trees.
#[derive(Default)]
pub struct Forest {
    /// Every node comes behind the one it is called from.
    pub nodes: Vec<Node>,
    roots: Vec<usize>,
    /// By what they are called from and the method: so each frame is looked at once.
    known: FxHashMap<(usize, u64), usize>,
}

impl Forest {
    /// The node of the method `key` called from the node `below`.
    pub fn node(&mut self, below: usize, key: u64, name: &Arc<str>) -> usize {
        let next = self.nodes.len();
        let i = *self.known.entry((below, key)).or_insert(next);
        if i == next {
            let (name, above, standing) = (name.clone(), Vec::new(), Vec::new());
            self.nodes.push(Node { name, threads: 0, suspended: 0, standing, waiting: 0, above, below });
            match self.nodes.get_mut(below) {
                Some(n) => n.above.push(i),
                None => self.roots.push(i),
            }
        }
        i
    }

    /// Adds frames, the oldest first, above the node `below`; the node of the newest.
    pub fn stack<'n>(&mut self, below: usize, frames: impl Iterator<Item = (u64, &'n Arc<str>)>) -> usize {
        frames.fold(below, |below, (key, name)| self.node(below, key, name))
    }

    /// A thread stands in that node.
    pub fn stands(&mut self, node: usize, os_id: u64) {
        if let Some(n) = self.nodes.get_mut(node) {
            n.standing.push(os_id);
        }
    }

    /// A chain of suspended methods begins with that node.
    pub fn waits(&mut self, node: usize) {
        if let Some(n) = self.nodes.get_mut(node) {
            n.waiting += 1;
        }
    }

    /// Counts what goes through each node, once all is added, and leaves out what nothing goes through; the nodes at the
    /// bottom.
    pub fn finish(&mut self) -> Vec<usize> {
        for i in (0..self.nodes.len()).rev() {
            let Some(n) = self.nodes.get_mut(i) else { continue };
            n.threads += n.standing.len();
            n.suspended += n.waiting;
            let (below, threads, suspended) = (n.below, n.threads, n.suspended);
            if let Some(b) = self.nodes.get_mut(below) {
                b.threads += threads;
                b.suspended += suspended;
            }
        }
        for i in 0..self.nodes.len() {
            let mut above = self.nodes.get_mut(i).map(|n| std::mem::take(&mut n.above)).unwrap_or_default();
            above.retain(|&a| self.nodes.get(a).is_some_and(|n| n.stacks() > 0));
            above.sort_by_key(|&a| self.nodes.get(a).map_or(0, Node::stacks));
            if let Some(n) = self.nodes.get_mut(i) {
                n.above = above;
            }
        }
        self.roots.iter().copied().filter(|&r| self.nodes.get(r).is_some_and(|n| n.stacks() > 0)).collect()
    }
}
