//! Where threads of CLR 2.0 allocate: the shared source has the context in `Thread` (`clr/src/vm/threads.h`, `m_alloc_context`),
//! and does not tell where.

use super::super::search::Search;
use super::super::{Layout, Source};
use super::heap::Youngest;
use super::{domains, heap, server};
use crate::clr::types::methodtable::MtReader;
use crate::dump::AddressSpace;

/// Bytes of a `Thread` looked through.
const THREAD_REACH: u64 = 0x800;

/// Finds the place: the only one that holds, in all threads, nothing or a stretch of a youngest segment behind which an object
/// begins, and in one a stretch at least.
pub fn complete(search: &Search<'_>, layout: &mut Layout) {
    if layout.constant("InlineVtables").is_err() || layout.try_offset("Thread", "AllocContext").is_some() {
        return;
    }
    let space = &search.dump.space;
    let threads = domains::threads(search, layout);
    let youngest = match server::is_one(space, layout) {
        true => server::youngest(space, layout),
        false => heap::youngest(space, layout),
    };
    let (Some(youngest), Ok(mts)) = (youngest, MtReader::new(layout)) else { return };
    let ptr = u64::from(space.ptr_size());
    let fits = |o: &u64| {
        let mut used = 0;
        let all = threads.iter().all(|&thread| match (space.ptr_at(thread, *o), space.ptr_at(thread, o + ptr)) {
            (Some(0), Some(0)) => true,
            (Some(from), Some(limit)) => {
                used += 1;
                youngest.iter().any(|y| is_context(space, &mts, y, (from, limit)))
            }
            _ => false,
        });
        all && used > 0
    };
    let found: Vec<u64> = (0..THREAD_REACH).step_by(ptr as usize).filter(fits).collect();
    if let &[only] = found.as_slice() {
        layout.set_field("Thread", "AllocContext", only, Source::Calibrated);
    }
}

/// Whether what is free from `from` to `limit`, and room for the smallest object behind it, lies between objects of the segment. The
/// collector hands it out cleared.
fn is_context(space: &AddressSpace, mts: &MtReader, y: &Youngest, (from, limit): (u64, u64)) -> bool {
    let ptr = u64::from(space.ptr_size());
    let inside = y.mem <= from && from <= limit && limit < y.committed && from.is_multiple_of(ptr);
    let cleared = from == limit || space.ptr(from) == Some(0);
    let Some(behind) = limit.checked_add(3 * ptr).filter(|_| inside && cleared) else { return false };
    let begins = |at: u64| {
        let mt = space.ptr(at).and_then(|m| mts.read(space, m & !(ptr - 1)));
        mt.is_some_and(|mt| mt.base_size > 0 && (mt.component_size() == 1 || mts.round_trips(space, &mt)))
    };
    behind == y.end || behind < y.end && begins(behind)
}
