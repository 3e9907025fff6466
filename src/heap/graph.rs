//! From the heap to the graph: forward edges by GCDesc, dependent handles as edges, the reverse of both.

use super::index::ObjectIndex;
use super::walk::{Walker, pointer_in};
use crate::graph::Adjacency;
use crate::graph::adjacency::Chunk;
use crate::watch::Interrupted;

/// Forward and reverse references of all objects.
#[derive(Debug, Default)]
pub struct ObjectGraph {
    /// What each object refers to; the secondaries of dependent handles are among it.
    pub forward: Adjacency,
    /// What refers to each object.
    pub reverse: Adjacency,
    /// Edges (from, to) that come from dependent handles, sorted.
    pub dependent: Vec<(u32, u32)>,
    /// References that hit no object start.
    pub misses: u64,
}

impl ObjectGraph {
    /// Builds both directions.
    pub fn build(walker: &Walker<'_>, index: &ObjectIndex) -> Result<Self, Interrupted> {
        struct Acc {
            chunk: Chunk,
            misses: u64,
        }
        let ids = &index.ids;
        let (space, ptr) = (walker.clr.space(), u64::from(walker.clr.ptr_size()));
        walker.watch.progress.start("reading references", walker.heap.allocated());
        let (accs, _) = walker.parallel(
            &walker.heap.segments,
            |s| {
                let first = ids.start_after(s.start).filter(|&a| a < s.end).and_then(|a| ids.id_of(a));
                Acc { chunk: Chunk { first: first.unwrap_or(u32::MAX), ..Chunk::default() }, misses: 0 }
            },
            |acc, _, o| {
                let before = acc.chunk.targets.len();
                o.ty.refs.slots(o.size, ptr, |offset| {
                    let Some(target) = pointer_in(space, &o, offset).filter(|&t| t != 0) else { return };
                    match ids.id_of(target) {
                        Some(id) => acc.chunk.targets.push(id),
                        None => acc.misses += 1,
                    }
                });
                acc.chunk.degrees.push((acc.chunk.targets.len() - before) as u32);
            },
        )?;
        let misses = accs.iter().map(|a| a.misses).sum();
        let dependent = dependent_edges(walker, index);
        let chunks = accs.into_iter().map(|a| a.chunk).filter(|c| c.first != u32::MAX).collect();
        let forward = Adjacency::build(ids.len(), chunks, &dependent);
        walker.watch.cancel.check()?;
        walker.watch.progress.start("turning references around", 0);
        let reverse = forward.reversed(walker.watch)?;
        walker.watch.progress.finish();
        Ok(Self { forward, reverse, dependent, misses })
    }

    /// Whether the edge exists only through a dependent handle.
    pub fn is_dependent(&self, from: u32, to: u32) -> bool {
        self.dependent.binary_search(&(from, to)).is_ok()
    }
}

fn dependent_edges(walker: &Walker<'_>, index: &ObjectIndex) -> Vec<(u32, u32)> {
    let mut edges: Vec<(u32, u32)> = walker
        .clr
        .handles()
        .items
        .iter()
        .filter(|h| h.dependent != 0)
        .filter_map(|h| Some((index.ids.id_of(h.object)?, index.ids.id_of(h.dependent)?)))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}
