//! From the heap to the graph: edges by GCDesc, dependent handles as edges.

use rustc_hash::FxHashMap;

use super::index::ObjectIndex;
use super::types::TypeInfo;
use super::walk::{Walker, pointer_in};
use crate::graph::{Adjacency, Chunk};
use crate::watch::{Interrupted, Watch};

/// References of all objects.
#[derive(Debug, Default)]
pub struct ObjectGraph {
    /// What each object refers to; the secondaries of dependent handles are among it.
    pub forward: Adjacency,
    /// Edges (from, to) that come from dependent handles, sorted.
    pub dependent: Vec<(u32, u32)>,
    /// References that hit no object start.
    pub misses: u64,
}

impl ObjectGraph {
    /// Reads all references.
    pub fn build(walker: &Walker<'_>, index: &ObjectIndex) -> Result<Self, Interrupted> {
        struct Acc {
            chunk: Chunk,
            misses: u64,
            last: usize,
        }
        let ids = &index.ids;
        let space = walker.clr.space();
        walker.watch.progress.start("reading references", walker.heap.allocated());
        let (accs, _) = walker.parallel(
            &walker.heap.segments,
            |s| Acc {
                chunk: Chunk { first: index.first_id(s).unwrap_or(u32::MAX), ..Chunk::default() },
                misses: 0,
                last: 0,
            },
            |acc, _, o| {
                let before = acc.chunk.targets.len();
                o.slots(space, |offset| {
                    let Some(target) = pointer_in(space, &o, offset).filter(|&t| t != 0) else { return };
                    match ids.id_near(target, &mut acc.last) {
                        Some(id) => acc.chunk.targets.push(id),
                        None => acc.misses += 1,
                    }
                });
                acc.chunk.degrees.push((acc.chunk.targets.len() - before) as u32);
            },
        )?;
        let misses = accs.iter().map(|a| a.misses).sum();
        let dependent = dependent_edges(walker, index);
        let mut extra = dependent.clone();
        extra.extend(loader_edges(walker, index)?);
        let chunks = accs.into_iter().map(|a| a.chunk).filter(|c| c.first != u32::MAX).collect();
        let forward = Adjacency::build(ids.len(), chunks, &extra, walker.watch)?;
        walker.watch.progress.finish();
        Ok(Self { forward, dependent, misses })
    }

    /// What refers to each object.
    pub fn reversed(&self, watch: &Watch) -> Result<Adjacency, Interrupted> {
        watch.progress.start("turning references around", 0);
        let reverse = self.forward.reversed(watch)?;
        watch.progress.finish();
        Ok(reverse)
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

/// An object of a collectible type keeps the managed `LoaderAllocator` of that type alive, though no field refers to it.
fn loader_edges(walker: &Walker<'_>, index: &ObjectIndex) -> Result<Vec<(u32, u32)>, Interrupted> {
    let clr = walker.clr;
    let allocator = |t: &TypeInfo| Some((t.id, index.ids.id_of(clr.loader_allocator_of_type(&t.mt)?.object)?));
    let owner: FxHashMap<u32, u32> = walker.types.all().iter().filter_map(|t| allocator(t)).collect();
    if owner.is_empty() {
        return Ok(Vec::new());
    }
    let (found, _) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<(u32, u32)>, _, o| {
            if let Some(&to) = owner.get(&o.ty.id)
                && let Some(from) = index.ids.id_of(o.address)
            {
                acc.push((from, to));
            }
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}
