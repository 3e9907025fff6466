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
            last: usize,
        }
        let ids = &index.ids;
        let (space, ptr) = (walker.clr.space(), u64::from(walker.clr.ptr_size()));
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
                o.ty.refs.slots(o.size, ptr, |offset| {
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

/// Bytes of a `Module` looked through for its loader allocator.
const MODULE_BYTES: u64 = 0x400;

/// An object of a collectible type keeps the managed `LoaderAllocator` of that type alive, though no field refers to it.
///
/// Which native allocator a managed one stands for is in its scout (`LoaderAllocatorScout.m_nativeLoaderAllocator`, dotnet/runtime
/// `src/coreclr/System.Private.CoreLib/src/System/Reflection/LoaderAllocator.cs`); which native one a module has is found
/// by looking for one of those pointers in the module.
fn loader_edges(walker: &Walker<'_>, index: &ObjectIndex) -> Result<Vec<(u32, u32)>, Interrupted> {
    let clr = walker.clr;
    let all = walker.types.all();
    let collectible: Vec<_> = all.iter().filter(|t| clr.mts().is_collectible(&t.mt)).collect();
    if collectible.is_empty() {
        return Ok(Vec::new());
    }
    let named = |n: &str| all.iter().find(|t| &*clr.type_name(t.mt.address) == n).map(|t| t.id);
    let (Some(scout), Some(allocator)) =
        (named("System.Reflection.LoaderAllocatorScout"), named("System.Reflection.LoaderAllocator"))
    else {
        return Ok(Vec::new());
    };
    let wanted: rustc_hash::FxHashSet<u32> = collectible.iter().map(|t| t.id).collect();
    let (found, _) = walker.parallel(
        &walker.heap.segments,
        |_| (Vec::new(), Vec::new()),
        |acc: &mut (Vec<u64>, Vec<(u64, u32)>), _, o| {
            if o.ty.id == allocator {
                acc.0.push(o.address);
            } else if wanted.contains(&o.ty.id) {
                acc.1.push((o.address, o.ty.id));
            }
        },
    )?;
    let natives: rustc_hash::FxHashMap<u64, u64> =
        found.iter().flat_map(|f| &f.0).filter_map(|&a| Some((native_allocator(walker, a, scout)?, a))).collect();
    let owner: rustc_hash::FxHashMap<u32, u64> = collectible
        .iter()
        .filter_map(|t| {
            let space = clr.space();
            let loader = clr.layout().try_offset("MethodTableAuxiliaryData", "LoaderModule");
            let modules = [Some(t.mt.module), loader.and_then(|o| space.ptr_at(t.mt.aux, o))];
            let hit = modules
                .into_iter()
                .flatten()
                .find_map(|m| (0..MODULE_BYTES).step_by(8).find_map(|o| natives.get(&space.ptr_at(m, o)?).copied()));
            Some((t.id, hit?))
        })
        .collect();
    let edge = |&(address, ty): &(u64, u32)| Some((index.ids.id_of(address)?, index.ids.id_of(*owner.get(&ty)?)?));
    Ok(found.iter().flat_map(|f| &f.1).filter_map(edge).collect())
}

/// The native loader allocator of the managed one at `address`, by the pointer in its scout.
fn native_allocator(walker: &Walker<'_>, address: u64, scout: u32) -> Option<u64> {
    let clr = walker.clr;
    let o = walker.object_at(address)?;
    let ptr = clr.header();
    let mut found = None;
    o.ty.refs.slots(o.size, ptr, |slot| {
        let target = clr.space().ptr(address + slot).and_then(|t| walker.object_at(t));
        if let Some(s) = target.filter(|t| t.ty.id == scout) {
            found = clr.space().ptr(s.address + ptr).filter(|&n| n != 0);
        }
    });
    found
}
