//! What the collector recorded when it could not give memory: an `oom_history` record a heap.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcinterface.dac.h` (`oom_history`), the same from 3.0 to 11: reason, bytes asked
//! for, end of reserved and of allocated memory, number of the collection, what failed, bytes it failed for, available
//! commit space, whether it was for large objects.

use super::model::Heap;
use crate::clr::Clr;
use crate::clr::gathered::Gathered;

/// Place of the record among the fields of a heap of server GC (`dac_gcheap_fields.h`).
const FIELD: usize = 3;
/// Greatest `oom_reason` and `failure_get_memory`.
const REASONS: u32 = 6;
const FAILURES: u32 = 5;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomRecord {
    /// Number of the heap.
    pub heap: u32,
    /// Address of the record.
    pub address: u64,
    /// `oom_reason`, not 0.
    pub reason: u32,
    /// Bytes that were asked for.
    pub requested: u64,
    /// Number of the collection.
    pub collection: u64,
    /// `failure_get_memory`; 0 for none.
    pub failure: u32,
    /// Bytes that could not be had.
    pub size: u64,
    /// Available commit space when the collection began, in megabytes; 0 where it is not known.
    pub available_mb: u64,
    /// It was for large objects.
    pub large: bool,
}

impl OomRecord {
    /// The reason as the field's tools say it.
    pub fn reason(&self) -> &'static str {
        match self.reason {
            1 | 3 => "This was due to an internal .Net error, likely a bug in the GC",
            2 => "Didn't have enough memory to commit",
            4 => "Didn't have enough memory to allocate an LOH segment",
            5 => "Low on memory during GC",
            _ => "Could not do a full GC",
        }
    }

    /// What failed, as they say it; `None` when nothing did.
    pub fn failure(&self) -> Option<&'static str> {
        match self.failure {
            1 => Some("Failed to reserve memory"),
            2 => Some("Didn't have enough memory to commit beginning of the segment"),
            3 => Some("Didn't have enough memory to commit the new ephemeral segment"),
            4 => Some("Didn't have enough memory to grow the internal GC data structures"),
            5 => Some("Didn't have enough memory to commit the internal GC data structures"),
            _ => None,
        }
    }
}

/// The records of all heaps that ran out of memory.
pub fn records(clr: &Clr, heap: &Heap) -> Gathered<OomRecord> {
    let (gc, mut out) = (&clr.found.gc, Gathered::default());
    for h in &heap.heaps {
        let field = gc.gc_heap_field_offsets.get(FIELD).and_then(|&o| u64::try_from(o).ok());
        let at = match h.address {
            0 => gc.oom_info,
            heap => field.and_then(|o| heap.checked_add(o)),
        };
        let Some(at) = at else {
            out.because(format!("where heap {} keeps its record is not known", h.index));
            continue;
        };
        match read(clr, h.index, at) {
            Some(Ok(record)) if record.reason != 0 => out.items.push(record),
            Some(Ok(_)) => {}
            Some(Err(what)) => out.because(format!("the record at {at:x} is none: {what}")),
            None => out.because(format!("the record at {at:x} is not in the dump")),
        }
    }
    out
}

fn read(clr: &Clr, heap: u32, address: u64) -> Option<Result<OomRecord, String>> {
    let (space, ptr) = (clr.space(), clr.header());
    let number = |i: u64| space.u32(address.checked_add(i * ptr)?);
    let size = |i: u64| space.ptr_at(address, i * ptr);
    let record = OomRecord {
        heap,
        address,
        reason: number(0)?,
        requested: size(1)?,
        collection: size(4)?,
        failure: number(5)?,
        size: size(6)?,
        available_mb: size(7)?,
        large: number(8)? != 0,
    };
    let (reason, failure) = (record.reason, record.failure);
    Some(match reason <= REASONS && failure <= FAILURES {
        true => Ok(record),
        false => Err(format!("reason {reason} of {REASONS}, failure {failure} of {FAILURES}")),
    })
}
