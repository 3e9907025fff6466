//! References that stand in no field: the secondary of a dependent handle hangs off its primary, and an object of a
//! collectible type keeps the managed `LoaderAllocator` of that type alive.

use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashSet;

use super::types::TypeInfo;
use crate::clr::Clr;

/// Not looked up yet.
const UNKNOWN: u64 = u64::MAX;

/// All such references, by address. Whether an object starts there is not said.
#[derive(Debug, Default)]
pub struct Links {
    /// Dependent handles: primary, secondary; sorted, each once.
    pairs: Vec<(u64, u64)>,
    /// The same turned around.
    turned: Vec<(u64, u64)>,
    primaries: FxHashSet<u64>,
    /// By type number: the address of the `LoaderAllocator`, 0 for none.
    owners: RwLock<Vec<u64>>,
}

impl Links {
    /// Reads the handles.
    pub fn new(clr: &Clr) -> Self {
        let handles = clr.handles();
        let dependent = handles.items.iter().filter(|h| h.object != 0 && h.dependent != 0);
        Self::of(dependent.map(|h| (h.object, h.dependent)).collect())
    }

    fn of(mut pairs: Vec<(u64, u64)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut turned: Vec<(u64, u64)> = pairs.iter().map(|p| (p.1, p.0)).collect();
        turned.sort_unstable();
        Self { primaries: pairs.iter().map(|p| p.0).collect(), pairs, turned, owners: RwLock::default() }
    }

    /// What dependent handles hang off the object at `address`, in address order.
    #[inline]
    pub fn secondaries(&self, address: u64) -> &[(u64, u64)] {
        if self.primaries.is_empty() || !self.primaries.contains(&address) { &[] } else { run(&self.pairs, address) }
    }

    /// What the object at `address` hangs off by dependent handles, as second numbers, in address order.
    pub fn primaries(&self, address: u64) -> &[(u64, u64)] {
        run(&self.turned, address)
    }

    /// Whether a dependent handle makes the second hang off the first.
    pub fn is_dependent(&self, from: u64, to: u64) -> bool {
        self.pairs.binary_search(&(from, to)).is_ok()
    }

    /// What the object of type `ty` at `address` refers to beside its slots, in address order.
    pub fn beside_slots(&self, clr: &Clr, ty: &TypeInfo, address: u64) -> Vec<u64> {
        let owner = self.owner(clr, ty);
        let mut all: Vec<u64> = self.secondaries(address).iter().map(|p| p.1).collect();
        all.extend((owner != 0).then_some(owner));
        all.sort_unstable();
        all
    }

    fn owner(&self, clr: &Clr, ty: &TypeInfo) -> u64 {
        let at = ty.id as usize;
        let known = |all: &Vec<u64>| all.get(at).copied().filter(|&o| o != UNKNOWN);
        if let Some(owner) = known(&self.owners.read().unwrap_or_else(PoisonError::into_inner)) {
            return owner;
        }
        let owner = clr.loader_allocator_of_type(&ty.mt).map_or(0, |l| l.object);
        let mut all = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= at {
            all.resize(at + 1, UNKNOWN);
        }
        all[at] = owner;
        owner
    }
}

/// The pairs that begin with `first`.
fn run(pairs: &[(u64, u64)], first: u64) -> &[(u64, u64)] {
    let start = pairs.partition_point(|p| p.0 < first);
    let rest = pairs.get(start..).unwrap_or(&[]);
    rest.get(..rest.partition_point(|p| p.0 == first)).unwrap_or(&[])
}

/// A worker's own copy of which `LoaderAllocator` the objects of each type keep alive.
#[derive(Debug, Default)]
pub struct Owners(Vec<u64>);

impl Owners {
    /// Address of the `LoaderAllocator` that objects of type `ty` keep alive; 0 for none.
    #[inline]
    pub fn of(&mut self, links: &Links, clr: &Clr, ty: &TypeInfo) -> u64 {
        match self.0.get(ty.id as usize) {
            Some(&owner) if owner != UNKNOWN => owner,
            _ => self.ask(links, clr, ty),
        }
    }

    #[cold]
    fn ask(&mut self, links: &Links, clr: &Clr, ty: &TypeInfo) -> u64 {
        let at = ty.id as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, UNKNOWN);
        }
        let owner = links.owner(clr, ty);
        self.0[at] = owner;
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_from_both_ends() {
        let links = Links::of(vec![(16, 8), (8, 24), (8, 16), (8, 24), (0, 8)]);
        assert_eq!(links.secondaries(8), [(8, 16), (8, 24)]);
        assert_eq!(links.primaries(8), [(8, 0), (8, 16)]);
        assert!(links.secondaries(24).is_empty() && links.primaries(0).is_empty());
        assert!(links.is_dependent(8, 24) && !links.is_dependent(24, 8));
    }
}
