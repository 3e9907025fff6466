//! Memory the runtime owns.

use anyhow::Result;

use super::Session;
use crate::heap::Heap;

/// A range of the address space that belongs to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedRange {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Its kind in the words of SOS's `!maddress`: `GCHeap`, `GCHeapReserve`, `LoaderCodeHeap`, `HighFrequencyHeap`, ...
    pub what: &'static str,
    /// What it is exactly (`heap 0 Generation2`); may be empty.
    pub detail: String,
}

/// Ranges reserved by the GC, sorted and disjoint.
pub fn reserved(heap: &Heap) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(heap.segments.len());
    for s in &heap.segments {
        let (start, end) = (page(s.start), s.reserved.max(s.committed).max(s.end));
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

/// A segment's header stands on the page of its first object.
fn page(start: u64) -> u64 {
    start & !0xFFF
}

/// The GC heap's segments, the memory reserved for them, loader heaps and code heaps, sorted by start.
pub fn collect(session: &Session) -> Result<Vec<ManagedRange>> {
    let mut out = Vec::new();
    if let Ok(heap) = session.heap() {
        for s in &heap.segments {
            let detail = format!("heap {} {}", s.heap, s.kind.name());
            let committed = s.committed.max(s.end);
            out.push(ManagedRange { start: page(s.start), end: committed, what: "GCHeap", detail: detail.clone() });
            if s.reserved > committed {
                out.push(ManagedRange { start: committed, end: s.reserved, what: "GCHeapReserve", detail });
            }
        }
    }
    for h in &session.loader_heaps()?.heaps.items {
        for b in &h.blocks {
            let end = b.start.saturating_add(b.size);
            out.push(ManagedRange { start: b.start, end, what: h.kind, detail: String::new() });
        }
    }
    out.sort_by_key(|r| r.start);
    Ok(out)
}
