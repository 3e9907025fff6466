//! What each object keeps alive: the dominator tree over all live objects with their sizes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::index::ObjectIndex;
use super::roots::Root;
use super::walk::{Object, Walker};
use crate::graph::{Adjacency, DominatorTree, Weights};
use crate::watch::{Interrupted, Watch};

/// The dominator tree from all roots, with bytes: 24 bytes an object.
#[derive(Debug, Default)]
pub struct Retained {
    /// The tree; its nodes are object ids.
    pub tree: DominatorTree,
    /// Sizes of the objects, not rounded.
    pub weights: Weights,
}

impl Retained {
    /// Computes the tree and reads all sizes, in one walk.
    pub fn build(
        walker: &Walker<'_>,
        index: &ObjectIndex,
        (forward, reverse): (&Adjacency, &Adjacency),
        roots: &[Root],
    ) -> Result<Self, Interrupted> {
        let mut starts: Vec<u32> = roots.iter().filter_map(|r| index.ids.id_of(r.object)).collect();
        starts.sort_unstable();
        starts.dedup();
        let tree = DominatorTree::build(forward, reverse, &starts, walker.watch)?;
        walker.watch.progress.start("weighing objects", walker.heap.allocated());
        let mut own: Vec<AtomicU64> = Vec::new();
        own.resize_with(tree.reached() as usize + 1, AtomicU64::default);
        each_live(walker, index, &tree, |position, o| {
            if let Some(w) = own.get(position as usize) {
                w.store(o.size, Ordering::Relaxed);
            }
        })?;
        walker.watch.progress.finish();
        let weights = Weights::new(own.into_iter().map(AtomicU64::into_inner).collect());
        Ok(Self { tree, weights })
    }

    /// Bytes that would be freed with the object at `position`, its own included.
    pub fn bytes(&self, position: u32) -> u64 {
        self.weights.of(self.tree.subtree(position))
    }

    /// Objects that would be freed with the one at `position`, itself included.
    pub fn objects(&self, position: u32) -> u64 {
        let all = self.tree.subtree(position);
        u64::from(all.end - all.start)
    }

    /// Type numbers by position, read in one walk; `u32::MAX` for the virtual root. 4 bytes an object.
    pub fn types(&self, walker: &Walker<'_>, index: &ObjectIndex) -> Result<Vec<u32>, Interrupted> {
        walker.watch.progress.start("reading types", walker.heap.allocated());
        let mut types: Vec<AtomicU32> = Vec::new();
        types.resize_with(self.tree.reached() as usize + 1, || AtomicU32::new(u32::MAX));
        each_live(walker, index, &self.tree, |position, o| {
            if let Some(t) = types.get(position as usize) {
                t.store(o.ty.id, Ordering::Relaxed);
            }
        })?;
        walker.watch.progress.finish();
        Ok(types.into_iter().map(AtomicU32::into_inner).collect())
    }

    /// Count, own bytes and retained bytes of each group of live objects. `groups` gives the group of each position, as
    /// dense numbers below `count`. Retained are the bytes of all objects of the group and of everything that hangs below
    /// them, each object once: one that another of its group dominates is part of that one's.
    pub fn by_group(
        &self,
        groups: impl Fn(u32) -> Option<u32>,
        count: usize,
        watch: &Watch,
    ) -> Result<Vec<GroupSize>, Interrupted> {
        let mut sizes = vec![GroupSize::default(); count];
        // Positions are a preorder: while an object's subtree lasts, whatever of its group follows lies in it.
        let mut covered = vec![0u32; count];
        for position in 1..=self.tree.reached() {
            if position.is_multiple_of(1 << 16) {
                watch.cancel.check()?;
            }
            let Some(g) = groups(position).map(|g| g as usize).filter(|&g| g < count) else { continue };
            let size = &mut sizes[g];
            size.count += 1;
            size.own += self.weights.own(position);
            if position >= covered[g] {
                covered[g] = self.tree.subtree(position).end;
                size.retained = size.retained.saturating_add(self.bytes(position));
            }
        }
        Ok(sizes)
    }
}

/// What the live objects of a group weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupSize {
    /// Objects.
    pub count: u64,
    /// Their own bytes.
    pub own: u64,
    /// Their own bytes and those of everything that only they keep alive.
    pub retained: u64,
}

/// Calls `visit(position, object)` for every live object, in parallel, in no order.
fn each_live(
    walker: &Walker<'_>,
    index: &ObjectIndex,
    tree: &DominatorTree,
    visit: impl Fn(u32, Object<'_>) + Sync,
) -> Result<(), Interrupted> {
    walker.parallel(
        &walker.heap.segments,
        |s| index.first_id(s).unwrap_or(u32::MAX),
        |id, _, o| {
            if let Some(position) = tree.position(*id) {
                visit(position, o);
            }
            *id = id.saturating_add(1);
        },
    )?;
    Ok(())
}
