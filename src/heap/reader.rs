//! Objects read one by one, in any order, by address: what each refers to, without a graph.

use super::links::{Links, Owners};
use super::walk::{LocalTypes, Object, Walker, pointer_in};
use crate::graph::mark::References;

/// Reads objects whose starts are known. Each worker has its own.
#[derive(Debug)]
pub struct Reader<'a> {
    walker: Walker<'a>,
    links: &'a Links,
    types: LocalTypes,
    owners: Owners,
}

impl<'a> Reader<'a> {
    /// A reader of the heap `walker` walks.
    pub fn new(walker: Walker<'a>, links: &'a Links) -> Self {
        Self { walker, links, types: LocalTypes::new(), owners: Owners::default() }
    }

    /// The object that starts at `address`, as a walk shows it outside a collection; `None` when no object can start there.
    #[inline]
    pub fn read(&mut self, address: u64) -> Option<Object<'_>> {
        let (clr, ptr) = (self.walker.clr, u64::from(self.walker.clr.ptr_size()));
        let space = clr.space();
        let run = space.run(address)?;
        let slot = self.types.find(&self.walker, head(run, ptr).or_else(|| space.ptr(address))? & !(ptr - 1))?;
        let count = match slot.is_counted() {
            true => run.get(ptr as usize..).and_then(le32).or_else(|| space.u32(address + ptr))?,
            false => 0,
        };
        let size = slot.size(count).max(3 * ptr);
        let bytes = run.get(..size as usize).unwrap_or(run);
        Some(Object { address, size, ty: self.types.of(slot)?, bytes, intact: size })
    }

    /// As [`References::references`]: first those of the slots in their order, then those that stand in none, in address
    /// order. Returns the object's bytes.
    #[inline]
    pub fn each_reference(&mut self, address: u64, mut each: impl FnMut(u64)) -> u64 {
        let (walker, links) = (self.walker, self.links);
        let mut owners = std::mem::take(&mut self.owners);
        let mut size = 0;
        if let Some(o) = self.read(address) {
            size = o.size;
            of_object(&walker, links, &mut owners, &o, &mut each);
        }
        self.owners = owners;
        size
    }
}

/// Calls `each` for every reference of `o`, as [`Reader::each_reference`] does.
#[inline]
pub fn of_object(walker: &Walker<'_>, links: &Links, owners: &mut Owners, o: &Object<'_>, each: &mut impl FnMut(u64)) {
    let space = walker.clr.space();
    if !o.ty.refs.is_none() {
        o.slots(space, |offset| {
            if let Some(target) = pointer_in(space, o, offset).filter(|&t| t != 0) {
                each(target);
            }
        });
    }
    let owner = owners.of(links, walker.clr, o.ty);
    let secondaries = links.secondaries(o.address);
    if owner == 0 {
        secondaries.iter().for_each(|s| each(s.1));
    } else {
        let before = secondaries.partition_point(|s| s.1 <= owner);
        secondaries.iter().take(before).for_each(|s| each(s.1));
        each(owner);
        secondaries.iter().skip(before).for_each(|s| each(s.1));
    }
}

impl References for Reader<'_> {
    #[inline]
    fn references(&mut self, address: u64, each: impl FnMut(u64)) {
        self.each_reference(address, each);
    }
}

#[inline]
fn head(run: &[u8], ptr: u64) -> Option<u64> {
    match ptr {
        8 => Some(u64::from_le_bytes(run.get(..8)?.try_into().ok()?)),
        _ => le32(run).map(u64::from),
    }
}

#[inline]
fn le32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}
