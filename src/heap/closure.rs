//! Everything one object reaches, at the cost of what it reaches: segments are walked only where a reference leads, and all
//! of them only when there is much.

use rustc_hash::{FxHashMap, FxHashSet};

use super::index::ObjectIndex;
use super::links::Links;
use super::reader::Reader;
use super::starts::Starts;
use super::walk::Walker;
use crate::watch::Interrupted;

/// References read at most on the way from one object to another, before the whole heap is asked.
const FEW_REFERENCES: usize = 1 << 17;

/// The objects that one reaches, as far as another, and who of them refers to whom.
#[derive(Debug)]
pub struct Onward {
    /// By what is referred to.
    to: FxHashMap<u64, Vec<u64>>,
}

impl Onward {
    /// Those that refer to `sought`, with the least place among these, sorted by that and then by address.
    pub fn referrers(&self, sought: &FxHashMap<u64, u32>) -> Vec<(u32, u64)> {
        let mut least: FxHashMap<u64, u32> = FxHashMap::default();
        for (target, &place) in sought {
            for &from in self.to.get(target).into_iter().flatten() {
                least.entry(from).and_modify(|p| *p = place.min(*p)).or_insert(place);
            }
        }
        let mut all: Vec<(u32, u64)> = least.into_iter().map(|(from, place)| (place, from)).collect();
        all.sort_unstable();
        all
    }
}

/// Looks from `source` on, round by round, until `target` is met: all references of what is nearer to `source`. `None` when
/// there are too many. What is an object `known` says, else `starts`.
pub fn onward(
    walker: Walker<'_>,
    links: &Links,
    (source, target): (u64, u64),
    starts: &Starts,
    known: Option<&ObjectIndex>,
) -> Result<Option<Onward>, Interrupted> {
    let is_object = |address: u64| match known {
        Some(index) => Ok(index.ids.bit_of(address).is_some()),
        None => starts.has(&walker, address),
    };
    let mut reader = Reader::new(walker, links);
    let mut found = Onward { to: FxHashMap::default() };
    let (mut near, mut read, mut targets) = (vec![source], 0, Vec::new());
    while !near.is_empty() && !found.to.contains_key(&target) && source != target {
        let mut far = Vec::new();
        for from in near {
            walker.watch.cancel.check()?;
            // A long array has more than is taken: one more than the bound tells.
            reader.each_reference(from, |target| {
                if targets.len() <= FEW_REFERENCES {
                    targets.push(target);
                }
            });
            read += targets.len();
            if read > FEW_REFERENCES {
                return Ok(None);
            }
            for to in targets.drain(..) {
                if known.is_none() && starts.is_enough(&walker) {
                    return Ok(None);
                }
                let referrers = found.to.get_mut(&to);
                if referrers.is_none() && (to == source || !is_object(to)?) {
                    continue;
                }
                match referrers {
                    Some(referrers) => referrers.push(from),
                    None => {
                        found.to.insert(to, vec![from]);
                        far.push(to);
                    }
                }
            }
        }
        near = far;
    }
    Ok(Some(found))
}

/// Objects beyond which a set by address costs more than the index.
const FEW: usize = 1 << 16;
/// Objects between two looks at the cancellation flag.
const CHECK: usize = 1 << 12;

/// The objects that the one at `source` reaches, itself first, in the order of a breadth-first search. `index` is asked for
/// when there are many; when it is `known`, that answers from the beginning, else `starts`.
pub fn closure<'i, E: From<Interrupted>>(
    walker: Walker<'_>,
    links: &Links,
    source: u64,
    starts: &Starts,
    known: Option<&'i ObjectIndex>,
    index: impl FnOnce() -> Result<&'i ObjectIndex, E>,
) -> Result<Vec<u64>, E> {
    let mut order = vec![source];
    let mut at = 0;
    let mut reader = Reader::new(walker, links);
    if known.is_none() {
        let mut seen = FxHashSet::from_iter([source]);
        let mut targets = Vec::new();
        while let Some(&address) = order.get(at) {
            if order.len() > FEW || starts.is_enough(&walker) {
                break;
            }
            if at.is_multiple_of(CHECK) {
                walker.watch.cancel.check()?;
            }
            at += 1;
            reader.each_reference(address, |target| targets.push(target));
            for target in targets.drain(..) {
                if !seen.contains(&target) && starts.has(&walker, target)? {
                    seen.insert(target);
                    order.push(target);
                }
            }
        }
        if at == order.len() {
            return Ok(order);
        }
    }
    let ids = match known {
        Some(index) => &index.ids,
        None => &index()?.ids,
    };
    let mut seen = vec![0u64; ids.bits().len()];
    let mut set = |address: u64| {
        let Some(bit) = ids.bit_of(address) else { return false };
        let Some(word) = seen.get_mut(bit / 64) else { return false };
        let mask = 1 << (bit % 64);
        let new = *word & mask == 0;
        *word |= mask;
        new
    };
    order.iter().for_each(|&a| {
        set(a);
    });
    while let Some(&address) = order.get(at) {
        if at.is_multiple_of(CHECK) {
            walker.watch.cancel.check()?;
        }
        at += 1;
        reader.each_reference(address, |target| {
            if set(target) {
                order.push(target);
            }
        });
    }
    Ok(order)
}
