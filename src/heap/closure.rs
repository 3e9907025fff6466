//! Everything one object reaches, at the cost of what it reaches: segments are walked only where a reference leads, and all
//! of them only when there is much.

use rustc_hash::FxHashSet;

use super::index::ObjectIndex;
use super::links::Links;
use super::reader::Reader;
use super::starts::Starts;
use super::walk::Walker;
use crate::watch::Interrupted;

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
