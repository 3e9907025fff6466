//! Which heap is which, and whose.

use std::collections::BTreeSet;

use super::super::domains;
use super::{LoaderHeap, Owner, PAGE, held};
use crate::clr::Clr;
use crate::clr::code::codeheaps::CodeHeaps;

/// Bytes of a loader allocator looked at; it has grown to about 0x1400 in 3.1.
const ALLOCATOR: u64 = 0x1800;
/// Heaps inside the allocator, in the order of their fields (`loaderallocator.hpp`, 2.1 to 10).
const INSIDE: [&str; 7] = [
    "LowFrequencyHeap",
    "HighFrequencyHeap",
    "StaticsHeap",
    "StubHeap",
    "ExecutableHeap",
    "FixupPrecodeHeap",
    "NewStubPrecodeHeap",
];
/// Heaps that the runtime's own description names (11.0): those of a loader allocator and of its stub dispatch.
const DESCRIBED: &[(&str, &str, &str)] = &[
    ("LoaderAllocator", "LowFrequencyHeap", "LowFrequencyHeap"),
    ("LoaderAllocator", "HighFrequencyHeap", "HighFrequencyHeap"),
    ("LoaderAllocator", "StaticsHeap", "StaticsHeap"),
    ("LoaderAllocator", "ExecutableHeap", "ExecutableHeap"),
    ("LoaderAllocator", "FixupPrecodeHeap", "FixupPrecodeHeap"),
    ("LoaderAllocator", "NewStubPrecodeHeap", "NewStubPrecodeHeap"),
    ("VirtualCallStubManager", "IndcellHeap", "IndirectionCellHeap"),
    ("VirtualCallStubManager", "CacheEntryHeap", "CacheEntryHeap"),
];
/// Heaps of the virtual stub dispatch, in the order their memory is cut off the first reservation
/// (`VirtualCallStubManager::InitStatic` and `Init`, `virtualcallstub.cpp`).
const DISPATCH: [&str; 6] =
    ["IndirectionCellHeap", "CacheEntryHeap", "LookupHeap", "DispatchHeap", "ResolveHeap", "VtableHeap"];
/// Sizes of a heap inside the allocator (0x60 to 0x90 so far).
const SIZES: std::ops::RangeInclusive<u64> = 0x40..=0x100;
/// Words behind the first pointer to a heap in which the pointers to the others are.
const POINTERS: u64 = 12;
/// Unit of reservations.
const RESERVATION: u64 = 0x1_0000;
/// Bytes from the start of a code heap to the loader heap in it, at most.
const CODE_HEAP: u64 = 0x20;
/// Pages between the code heap and the first block of high frequency of a collectible allocator, which are cut off one
/// reservation: those of the stub dispatch (`LoaderAllocator::Init`, `loaderallocator.cpp`: five in 3.1, two since 7.0).
const DISPATCH_PAGES: u64 = 6;

/// Names the heaps by where they stand and puts those of one owner together, the global allocator's first.
pub fn name(clr: &Clr, heaps: &mut Vec<LoaderHeap>, code: Option<&CodeHeaps>) {
    let listed_heaps: BTreeSet<u64> =
        code.into_iter().flat_map(|c| &c.heaps).filter(|l| l.host.is_none()).map(|l| l.heap).collect();
    for h in heaps.iter_mut() {
        let executable = h.blocks.first().and_then(|b| clr.dump.map_at(b.start)).is_some_and(|e| e.protect & 0xF0 != 0);
        let interleaved = interleave(clr, h);
        let listed = code.map_or(executable && !interleaved, |_| {
            listed_heaps.range(h.address.saturating_sub(CODE_HEAP - 1)..=h.address).next().is_some()
        });
        match (listed, interleaved) {
            (true, _) => (h.kind, h.owner) = ("LoaderCodeHeap", Owner::Jit),
            (false, true) => h.kind = "PrecodeHeap",
            (false, false) => {}
        }
    }
    if let Some(allocator) = domains::system_domain(clr) {
        within(clr, allocator, Owner::Global, heaps);
    }
    if let Some(domain) = domains::app_domain(clr) {
        within(clr, domain, Owner::Domain, heaps);
    }
    dispatch(heaps);
    let edges = Edges::of(heaps);
    for a in clr.loader_allocators() {
        let own = within(clr, a.native, Owner::Allocator(a.native), heaps);
        collectible_dispatch(a.native, &own, &edges, heaps);
    }
    let hosts = code.into_iter().flat_map(|c| &c.heaps).filter_map(|c| Some((c.heap, c.host?)));
    heaps.extend(hosts.map(|(address, block)| LoaderHeap {
        address,
        kind: "HostCodeHeap",
        owner: Owner::Jit,
        blocks: vec![block],
    }));
    let place = |h: &LoaderHeap| INSIDE.iter().chain(&DISPATCH).position(|k| *k == h.kind).unwrap_or(usize::MAX);
    let group = |h: &LoaderHeap| match h.owner {
        Owner::Global => (0, 0),
        Owner::Domain => (1, 0),
        Owner::Jit => (2, 0),
        Owner::Allocator(native) => (3, native),
        Owner::Unknown => (4, 0),
    };
    heaps.sort_by_key(|h| (group(h), place(h), h.address));
}

/// Heaps inside the allocator at `start`, by its pointers to them (`m_pLowFrequencyHeap` and those that follow). `heaps` are
/// sorted by address; gives the places of those that were found to be the owner's.
fn within(clr: &Clr, start: u64, owner: Owner, heaps: &mut [LoaderHeap]) -> Vec<usize> {
    // The global allocator is part of the system domain.
    let inside = match owner {
        Owner::Global => clr.layout().try_offset("SystemDomain", "GlobalLoaderAllocator").unwrap_or(0),
        _ => 0,
    };
    let mut described = described(clr, start.saturating_add(inside));
    let place = |heaps: &[LoaderHeap], address: u64| heaps.binary_search_by_key(&address, |h| h.address).ok();
    // What the layout names must be heaps: one that lies elsewhere is not believed.
    let found = described.iter().filter(|d| place(heaps, d.0).is_some()).count();
    if 2 * found < described.len() {
        described.clear();
    }
    let mut own = Vec::new();
    for &(address, kind) in &described {
        let Some(i) = place(heaps, address) else { continue };
        if let Some(h) = heaps.get_mut(i).filter(|h| h.owner == Owner::Unknown) {
            (h.kind, h.owner) = (kind, owner);
            own.push(i);
        }
    }
    let kinds = if described.is_empty() { pointers(clr, start) } else { Vec::new() };
    let end = start.saturating_add(ALLOCATOR);
    let first = heaps.partition_point(|h| h.address < start);
    let of_range = heaps.iter_mut().enumerate().skip(first).take_while(|h| h.1.address < end);
    for (i, h) in of_range.filter(|h| h.1.owner == Owner::Unknown) {
        // The list of blocks comes behind the heap's own first word.
        let kind = kinds.iter().find(|k| k.0.checked_add(clr.header()) == Some(h.address)).map(|k| k.1);
        match (owner, kind) {
            // What lies behind an allocator that the runtime allocated is not its own.
            (Owner::Allocator(_) | Owner::Domain, None) => {}
            (_, kind) => {
                (h.kind, h.owner) = (kind.unwrap_or(h.kind), owner);
                own.push(i);
            }
        }
    }
    own.sort_unstable();
    own
}

/// Places of the lists of blocks of the heaps that the layout names in the allocator at `start`, with their kinds.
fn described(clr: &Clr, start: u64) -> Vec<(u64, &'static str)> {
    let l = clr.layout();
    // Before 11.0 only some of the heaps are described.
    if l.try_offset("LoaderAllocator", "FixupPrecodeHeap").is_none() {
        return Vec::new();
    }
    let field = |of: u64, ty: &str, name: &str| clr.space().ptr_at(of, l.try_offset(ty, name)?).filter(|&p| p != 0);
    let manager = field(start, "LoaderAllocator", "VirtualCallStubManager").unwrap_or(0);
    let first = l.try_offset("LoaderHeap", "FirstBlock").unwrap_or(clr.header());
    let heap = |&(ty, name, kind): &(&str, &str, &'static str)| {
        let of = if ty == "LoaderAllocator" { start } else { manager };
        Some((field(of, ty, name).filter(|_| of != 0)?.checked_add(first)?, kind))
    };
    DESCRIBED.iter().filter_map(heap).collect()
}

/// Heap and kind of the allocator's pointers. Low and high frequency come first: two neighbours in the global allocator, one
/// heap for both in a collectible one; then statics (since 9.0; there, too, not its own), stubs, one behind high frequency,
/// and executable memory; two neighbours further on are those of precode (since 7.0).
fn pointers(clr: &Clr, start: u64) -> Vec<(u64, &'static str)> {
    let (ptr, end) = (clr.header(), start.saturating_add(ALLOCATOR));
    let word = |i: u64| clr.space().ptr_at(start, i * ptr).filter(|w| (start..end).contains(w));
    let apart = |a: u64, b: u64| b.checked_sub(a).filter(|d| SIZES.contains(d));
    let find = |i: u64| {
        let (low, high) = (word(i)?, word(i + 1)?);
        let third = word(i + 2)?;
        let shared = low == high;
        let size = if shared { apart(high, third).or_else(|| apart(high, word(i + 3)?))? } else { apart(low, high)? };
        let stub = if third == high + size { i + 2 } else { i + 3 };
        let fits = word(stub)? == high + size && (stub == i + 2 || !shared || third == high);
        let mut found = vec![(high, "HighFrequencyHeap"), (high + size, "StubHeap")];
        if !shared {
            found.push((low, "LowFrequencyHeap"));
        }
        if stub == i + 3 && third != high {
            found.push((third, "StaticsHeap"));
        }
        let behind = stub + 1..i + POINTERS;
        let pair = behind.clone().find_map(|j| {
            let (a, b) = (word(j)?, word(j + 1)?);
            (a > high + size && apart(a, b).is_some()).then_some((j, a, b))
        });
        if let Some((_, fixup, new)) = pair {
            found.extend([(fixup, "FixupPrecodeHeap"), (new, "NewStubPrecodeHeap")]);
        }
        // Through 9.0 the heap of fragments of code, which is no loader heap, comes before that of executable memory.
        let rest = behind.take_while(|&j| pair.is_none_or(|p| j < p.0)).filter_map(word);
        found.extend(rest.filter(|&w| w > high + 2 * size).last().map(|w| (w, "ExecutableHeap")));
        fits.then_some(found)
    };
    (0..ALLOCATOR / ptr).find_map(find).unwrap_or_default()
}

/// The heaps of stub dispatch lie one behind the other: behind the global allocator's stub heap, with which they are cut off
/// one reservation, or (through 2.2) behind the domain's first reservation, those of the domain and those of the global
/// allocator, as many of each.
fn dispatch(heaps: &mut [LoaderHeap]) {
    let end = |owner: Owner, kind: &str| {
        let heap = heaps.iter().find(|h| h.owner == owner && h.kind == kind)?;
        heap.blocks.iter().min_by_key(|b| b.start).map(|b| b.start + b.size)
    };
    let behind_stubs = end(Owner::Global, "StubHeap").map(|edge| row(heaps, edge)).unwrap_or_default();
    let behind_domain = || {
        let high = end(Owner::Domain, "HighFrequencyHeap")?;
        Some(row(heaps, high.next_multiple_of(RESERVATION)))
    };
    if !behind_stubs.is_empty() {
        assign(heaps, &behind_stubs, Owner::Global);
    } else if let Some(both) = behind_domain().filter(|b| b.len() % 2 == 0) {
        let (domain, global) = both.split_at(both.len() / 2);
        assign(heaps, domain, Owner::Domain);
        assign(heaps, global, Owner::Global);
    }
}

/// Heaps without an owner that follow one another from `edge` on.
fn row(heaps: &[LoaderHeap], mut edge: u64) -> Vec<usize> {
    let mut found = Vec::new();
    let at = |edge: u64| {
        let mut all = heaps.iter().enumerate().filter(|(_, h)| h.owner == Owner::Unknown);
        all.find_map(|(i, h)| h.blocks.iter().find(|b| b.start == edge).map(|b| (i, b.start + b.size)))
    };
    while let Some((i, end)) = at(edge).filter(|_| found.len() < 2 * DISPATCH.len()) {
        found.push(i);
        edge = end;
    }
    found
}

fn assign(heaps: &mut [LoaderHeap], row: &[usize], owner: Owner) {
    for (&i, kind) in row.iter().zip(DISPATCH) {
        if let Some(h) = heaps.get_mut(i) {
            (h.kind, h.owner) = (kind, owner);
        }
    }
}

/// What the heaps of stub dispatch of a collectible allocator lie between, looked up by address.
struct Edges {
    /// Ends of the blocks of code, each with its number in the order of the heaps.
    code: Vec<(u64, usize)>,
    /// Starts of the pages that are a heap of their own, with the heap's place.
    pages: Vec<(u64, usize)>,
}

impl Edges {
    fn of(heaps: &[LoaderHeap]) -> Self {
        let blocks = heaps.iter().filter(|h| h.kind == "LoaderCodeHeap").flat_map(|h| &h.blocks);
        let mut code: Vec<(u64, usize)> = blocks.enumerate().map(|(i, b)| (b.start + b.size, i)).collect();
        code.sort_unstable();
        let page = |(i, h): (usize, &LoaderHeap)| match h.blocks.as_slice() {
            [b] if b.size == PAGE && h.owner == Owner::Unknown => Some((b.start, i)),
            _ => None,
        };
        let mut pages: Vec<(u64, usize)> = heaps.iter().enumerate().filter_map(page).collect();
        pages.sort_unstable();
        Self { code, pages }
    }

    /// The items of a sorted list whose addresses are in the range.
    fn slice(list: &[(u64, usize)], range: std::ops::Range<u64>) -> &[(u64, usize)] {
        let at = |address: u64| list.partition_point(|e| e.0 < address);
        list.get(at(range.start)..at(range.end)).unwrap_or(&[])
    }
}

/// Stub dispatch of the collectible allocator at `native`, whose heaps are at the places `own`: a page each between its code
/// and its first block of high frequency.
fn collectible_dispatch(native: u64, own: &[usize], edges: &Edges, heaps: &mut [LoaderHeap]) {
    let mut own = own.iter().filter_map(|&i| heaps.get(i));
    let Some(high) = own.find(|h| h.kind == "HighFrequencyHeap") else { return };
    // Of all pairs of an end of code and a block near behind it, that of the first end, and of its blocks the first.
    let near = high.blocks.iter().enumerate().flat_map(|(i, b)| {
        let from = b.start.saturating_sub(DISPATCH_PAGES * PAGE);
        Edges::slice(&edges.code, from..b.start.saturating_add(1)).iter().map(move |e| (e.1, i, e.0, b.start))
    });
    let Some((_, _, edge, end)) = near.min() else { return };
    for &(start, i) in Edges::slice(&edges.pages, edge..end) {
        if let Some(h) = heaps.get_mut(i).filter(|h| h.owner == Owner::Unknown) {
            h.owner = Owner::Allocator(native);
            h.kind = DISPATCH.get(((start - edge) / PAGE) as usize).copied().unwrap_or("LoaderHeap");
        }
    }
}

/// Since .NET 7 a page of precode is followed by one of its data, which the committed end does not count
/// (`UnlockedLoaderHeap::CommitPages`). Adds it, and says whether the heap is of that kind.
fn interleave(clr: &Clr, heap: &mut LoaderHeap) -> bool {
    let Some(b) = heap.blocks.iter_mut().find(|b| b.current) else { return false };
    let held = held(clr, b.start, b.start.saturating_add(b.size));
    let code = clr.dump.map_at(b.start).is_some_and(|e| e.protect & 0xF0 != 0);
    let data = b.start.checked_add(b.committed).and_then(|a| clr.dump.map_at(a)).is_some_and(|e| e.protect & 0xF0 == 0);
    let found = code && data && held > b.committed;
    if found {
        b.committed = held;
    }
    found
}
