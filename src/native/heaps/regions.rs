//! Which memory an allocator's blocks can lie in: anonymous and writable, and nobody else's.

use crate::dump::{AddressSpace, Dump, MapEntry, MapState, Presence};

/// A half-open range of addresses.
pub type Range = (u64, u64);

/// The writable memory of a process, by whose it may be. Lists are sorted and disjoint.
#[derive(Debug, Default)]
pub struct Regions {
    /// Anonymous mappings whose bytes are in the dump; neighbours are joined.
    pub anonymous: Vec<Range>,
    /// Those without what is known to be somebody else's, and without the stacks of threads.
    pub open: Vec<Range>,
    /// Writable parts of modules.
    pub data: Vec<Range>,
}

/// `PAGE_READWRITE`, `PAGE_WRITECOPY`, `PAGE_EXECUTE_READWRITE`, `PAGE_EXECUTE_WRITECOPY`.
const WRITABLE: u32 = 0x04 | 0x08 | 0x40 | 0x80;

impl Regions {
    /// Those of `dump`; `taken` is sorted by start.
    pub fn of(dump: &Dump, taken: &[Range]) -> Self {
        // A writer that records no protection leaves 0.
        let writable = |e: &&MapEntry| {
            e.state == MapState::Commit
                && e.presence == Presence::Dumped
                && (e.protect == 0 || e.protect & WRITABLE != 0)
        };
        let (mut anonymous, mut data) = (Vec::new(), Vec::new());
        for e in dump.map.iter().filter(writable) {
            let anonymous_one = e.file.is_none() && e.module.is_none();
            join(if anonymous_one { &mut anonymous } else { &mut data }, (e.start, e.end));
        }
        let mut held: Vec<Range> = taken.to_vec();
        held.extend(dump.threads.iter().filter_map(|t| t.stack));
        held.sort_unstable();
        let open = without(&anonymous, &held);
        Self { anonymous, open, data }
    }

    /// The anonymous mapping that holds `address`.
    pub fn around(&self, address: u64) -> Option<Range> {
        let i = self.anonymous.partition_point(|r| r.1 <= address);
        self.anonymous.get(i).copied().filter(|r| r.0 <= address)
    }
}

fn join(list: &mut Vec<Range>, range: Range) {
    match list.last_mut() {
        Some(last) if last.1 == range.0 => last.1 = range.1,
        _ => list.push(range),
    }
}

/// What of `ranges` can be read: what looks at steps of a range takes these, since a damaged entry may claim all addresses
/// there are.
pub fn readable<'a>(
    space: &'a AddressSpace,
    ranges: impl IntoIterator<Item = &'a Range>,
) -> impl Iterator<Item = Range> {
    ranges.into_iter().flat_map(|r| space.runs(r.0, r.1))
}

/// What of `list` (sorted, disjoint) none of `held` (sorted by start) covers.
pub fn without(list: &[Range], held: &[Range]) -> Vec<Range> {
    let mut out = Vec::with_capacity(list.len());
    let mut next = 0;
    for &(start, end) in list {
        let mut at = start;
        while held.get(next).is_some_and(|h| h.1 <= start) {
            next += 1;
        }
        for h in held.get(next..).unwrap_or(&[]).iter().take_while(|h| h.0 < end) {
            if h.0 > at {
                out.push((at, h.0));
            }
            at = at.max(h.1);
        }
        if at < end {
            out.push((at, end));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_hold_is_cut_out() {
        let list = [(10, 20), (30, 60), (70, 80)];
        let held = [(0, 5), (12, 14), (13, 40), (50, 55), (59, 90)];
        assert_eq!(without(&list, &held), [(10, 12), (40, 50), (55, 59)]);
        assert_eq!(without(&list, &[]), list);
    }
}
