//! The same content many times: strings and byte arrays.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};

use anyhow::Result;
use rayon::prelude::*;

use super::evidence::{Evidence, Item};
use super::holders::Holders;
use super::view::View;
use super::{LEAST, Suspect};
use crate::heap::stat::Tally;
use crate::shell::out::thousands;

/// Contents named.
const NAMED: usize = 3;

/// A live object with the hash of its content.
#[derive(Clone, Copy)]
struct Met {
    hash: u64,
    size: u64,
    position: u32,
}

/// A content that more than one object has.
struct Same {
    /// Bytes that one object alone would save.
    saved: u64,
    count: u64,
    /// The first of them.
    position: u32,
}

/// What the copies of some objects come to.
struct Copies {
    /// Objects beyond the first of each content, and their bytes.
    beyond: Tally,
    /// The contents, those first whose copies take most.
    same: Vec<Same>,
    /// Who holds the copies.
    holders: Holders,
}

/// Bytes of the object at `address` behind its MethodTable: the length is among them. What it says of its size counts the
/// word in front of it, not the one behind, which is the next object's.
fn content<'v>(view: &'v View<'_>, address: u64, size: u64) -> Option<std::borrow::Cow<'v, [u8]>> {
    let header = view.clr.header();
    let (start, length) = (address.checked_add(header)?, size.checked_sub(2 * header)? as usize);
    // What lies in two pieces of the dump is put together: a part of a content is another content.
    match view.clr.space().slice(start, length) {
        Some(bytes) => Some(bytes.into()),
        None => view.clr.space().bytes(start, length).map(Into::into),
    }
}

/// Objects of the flagged types that have the same content as another. `counts` says which contents do.
fn find(view: &View<'_>, wanted: &[bool], counts: impl Fn(&[u8]) -> bool + Sync) -> Result<Copies> {
    // One that a dump does not know: nobody can write texts into it whose hashes are equal.
    let hasher = RandomState::new();
    let met = view.gather(wanted, |met: &mut Vec<Met>, position| {
        let (Some(address), size) = (view.address(position), view.retained.weights.own(position)) else { return };
        if let Some(bytes) = content(view, address, size).filter(|b| counts(b)) {
            met.push(Met { hash: hasher.hash_one(&*bytes), size, position });
        }
    })?;
    let mut met: Vec<Met> = met.concat();
    met.par_sort_unstable_by_key(|m| (m.hash, m.size, m.position));
    let mut copies = Copies { beyond: Tally::default(), same: Vec::new(), holders: Holders::default() };
    for (i, alike) in met.chunk_by(|a, b| (a.hash, a.size) == (b.hash, b.size)).enumerate() {
        view.check(i)?;
        if alike.len() > 1 {
            copies.add(view, alike);
        }
    }
    copies.same.sort_unstable_by_key(|s| (Reverse(s.saved), s.position));
    Ok(copies)
}

impl Copies {
    /// Adds objects whose hashes and sizes are equal: those of one content, but for chance.
    fn add(&mut self, view: &View<'_>, alike: &[Met]) {
        let mut left = alike.to_vec();
        while let Some(&first) = left.first() {
            let of = |m: &Met| content(view, view.address(m.position)?, m.size);
            let model = of(&first);
            let (same, other): (Vec<Met>, Vec<Met>) =
                left.into_iter().partition(|m| m.position == first.position || of(m) == model);
            let beyond = same.get(1..).unwrap_or_default();
            for m in beyond {
                self.beyond.add(m.size);
                self.holders.add(view.owner_type(m.position), m.size);
            }
            if let Some(m) = beyond.first() {
                let (count, saved) = (same.len() as u64, m.size.saturating_mul(beyond.len() as u64));
                self.same.push(Same { saved, count, position: first.position });
            }
            left = other;
        }
    }

    /// The suspect they make.
    fn suspect(&self, view: &View<'_>, kind: &'static str, element: &str) -> Suspect {
        let mut s = Suspect { kind, bytes: self.beyond.bytes, count: self.beyond.count, ..Suspect::default() };
        s.element = element.into();
        s.owner = "bytes to be saved".into();
        s.example = self.same.first().and_then(|t| view.address(t.position)).unwrap_or(0);
        s
    }
}

/// Live strings with the same text.
pub fn strings(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted: Vec<bool> = view.all.iter().map(|t| t.is_string).collect();
    view.session.watch.progress.start("comparing strings", 0);
    let copies = find(view, &wanted, |_| true)?;
    view.session.watch.progress.finish();
    if copies.beyond.bytes < view.threshold() || copies.beyond.count < view.limits.min_count {
        return Ok(());
    }
    let mut s = copies.suspect(view, "strings", "strings whose text another has");
    for same in copies.same.iter().take(NAMED) {
        let address = view.address(same.position).unwrap_or(0);
        let text = view.clr.string_at(address, 60).map_or(String::new(), |t| t.1);
        let item = Item::of("copies of one text, with the bytes to be saved");
        let item = item.count(same.count).bytes(same.saved).text(address);
        let (n, bytes) = (thousands(same.count), thousands(same.saved));
        s.facts.push(Evidence::new(format!("{n} times \"{text}\", {bytes} bytes to be saved"), item));
    }
    s.next = vec!["!dumpheap -strings".into(), format!("!gcroot {:x}", s.example)];
    out.push(s);
    Ok(())
}

/// Whether all bytes are zero: looked at many at a time, as processors like it.
fn are_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|some| some.iter().fold(0, |all, b| all | b) == 0)
}

/// Live byte arrays with the same content. Arrays of zeros are left out: nobody has written into them yet.
pub fn buffers(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let wanted = view.types_where(|n| n == "System.Byte[]");
    view.session.watch.progress.start("comparing byte arrays", 0);
    // The length stands in front of the bytes.
    let first = view.clr.header() as usize;
    let copies = find(view, &wanted, |b| b.get(first..).is_some_and(|b| !are_zeros(b)))?;
    view.session.watch.progress.finish();
    if copies.beyond.bytes < view.threshold().max(LEAST) {
        return Ok(());
    }
    let mut s = copies.suspect(view, "copies", "byte arrays whose content another has");
    for same in copies.same.iter().take(NAMED) {
        let address = view.address(same.position).unwrap_or(0);
        let item = Item::of("copies of one content, with the bytes to be saved");
        let item = item.count(same.count).bytes(same.saved).at(address);
        let (n, bytes) = (thousands(same.count), thousands(same.saved));
        s.facts.push(Evidence::new(format!("{n} times that of {address:x}, {bytes} bytes to be saved"), item));
    }
    s.facts.extend(copies.holders.evidence(view, "what holds copies, with their bytes"));
    if let Some(id) = copies.same.first().and_then(|t| view.retained.tree.node(t.position)) {
        view.place(&mut s, id);
    }
    s.next = vec![format!("!db {:x}", s.example), format!("!gcroot {:x}", s.example)];
    out.push(s);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::are_zeros;

    #[test]
    fn one_byte_is_enough_wherever_it_stands() {
        for length in [1, 63, 64, 65, 200] {
            let mut bytes = vec![0; length];
            assert!(are_zeros(&bytes) && are_zeros(&[]));
            for at in [0, length / 2, length - 1] {
                bytes[at] = 1;
                assert!(!are_zeros(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
