//! The memory map: ranges the dump describes, cut so that each is wholly in the dump or wholly absent.

use super::space::Piece;
use super::{MapEntry, MapState, MapType, Module, Presence};

/// A half-open range.
pub type Range = (u64, u64);

/// An elementary range of two lists with the index of the member of each that covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Index into the first list.
    pub a: Option<usize>,
    /// Index into the second list.
    pub b: Option<usize>,
}

/// Cuts two lists of sorted, disjoint ranges at each other's bounds; what neither covers is left out.
pub fn sweep(a: &[Range], b: &[Range]) -> Vec<Part> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j, mut at) = (0, 0, 0u64);
    loop {
        while a.get(i).is_some_and(|r| r.1 <= at) {
            i += 1;
        }
        while b.get(j).is_some_and(|r| r.1 <= at) {
            j += 1;
        }
        let (ra, rb) = (a.get(i), b.get(j));
        let Some(start) = [ra, rb].into_iter().flatten().map(|r| r.0.max(at)).min() else { return out };
        let inside = |r: Option<&Range>| r.is_some_and(|r| r.0 <= start);
        let bound = |r: &Range| if r.0 > start { r.0 } else { r.1 };
        let Some(end) = [ra, rb].into_iter().flatten().map(bound).min() else { return out };
        out.push(Part { start, end, a: inside(ra).then_some(i), b: inside(rb).then_some(j) });
        at = end;
    }
}

/// Sorts ranges (each with its data) and cuts what overlaps an earlier one; empty ranges vanish.
pub fn disjoint<T>(mut list: Vec<(Range, T)>) -> Vec<(Range, T)> {
    list.sort_by_key(|(r, _)| *r);
    let mut last = 0;
    list.retain_mut(|(r, _)| {
        r.0 = r.0.max(last);
        let keep = r.0 < r.1;
        if keep {
            last = r.1;
        }
        keep
    });
    list
}

/// Most neighbours looked at for one allocation, in each direction: more than a process can have mappings.
const MAX_PARTS: usize = 1 << 20;

/// The neighbouring entries of the allocation that holds `address`.
pub fn allocation(map: &[MapEntry], address: u64) -> Option<Range> {
    let at = map.partition_point(|e| e.end <= address);
    let entry = map.get(at).filter(|e| e.start <= address && e.state != MapState::Free)?;
    let same = |e: &&MapEntry| e.allocation_base == entry.allocation_base && e.state != MapState::Free;
    let (mut low, mut high) = (entry.start, entry.end);
    for e in map.get(..at)?.iter().rev().take(MAX_PARTS).take_while(same) {
        if e.end != low {
            break;
        }
        low = e.start;
    }
    for e in map.get(at + 1..)?.iter().take(MAX_PARTS).take_while(same) {
        if e.start != high {
            break;
        }
        high = e.end;
    }
    Some((low, high))
}

/// Completes a map: `described` (sorted, disjoint; their presence says what holds where no bytes are) is cut at `pieces`
/// and joined by what only the pieces cover. `modules` name the owner of each range.
pub fn finish(described: Vec<MapEntry>, pieces: &[Piece], modules: &[Module]) -> Vec<MapEntry> {
    let a: Vec<Range> = described.iter().map(|e| (e.start, e.end)).collect();
    let b: Vec<Range> = pieces.iter().map(|p| (p.start, p.end)).collect();
    let owners: Vec<(Range, u32)> = disjoint(
        modules.iter().enumerate().map(|(i, m)| ((m.base, m.base.saturating_add(m.size)), i as u32)).collect(),
    );
    let mut out: Vec<(MapEntry, Option<usize>)> = Vec::with_capacity(a.len() + b.len());
    let with_pieces = sweep(&a, &b);
    let ranges: Vec<Range> = with_pieces.iter().map(|p| (p.start, p.end)).collect();
    let owner_ranges: Vec<Range> = owners.iter().map(|o| o.0).collect();
    for part in sweep(&ranges, &owner_ranges) {
        let Some(of) = part.a.and_then(|i| with_pieces.get(i)) else { continue };
        let module = part.b.and_then(|i| owners.get(i)).map(|o| o.1);
        let mut entry = match of.a.and_then(|i| described.get(i)) {
            Some(e) => e.clone(),
            None => unknown(part.start, module.is_some()),
        };
        entry.file_offset = entry.file_offset.saturating_add(part.start.saturating_sub(entry.start));
        (entry.start, entry.end) = (part.start, part.end);
        if of.b.is_some() {
            entry.presence = Presence::Dumped;
            entry.state = MapState::Commit;
        }
        if entry.module.is_none() && entry.state != MapState::Free {
            attach(&mut entry, module);
        }
        push(&mut out, entry, of.a);
    }
    out.into_iter().map(|(e, _)| e).collect()
}

/// A range known only because its bytes are in the dump.
fn unknown(start: u64, in_module: bool) -> MapEntry {
    MapEntry {
        start,
        end: start,
        state: MapState::Commit,
        kind: if in_module { MapType::Image } else { MapType::Unknown },
        protect: 0,
        allocation_base: start,
        allocation_protect: 0,
        presence: Presence::Dumped,
        module: None,
        file: None,
        file_offset: 0,
    }
}

/// A range inside a module's bounds belongs to it unless it is known to map another file.
fn attach(entry: &mut MapEntry, module: Option<u32>) {
    if module.is_some() && entry.file.is_none() {
        entry.module = module;
        if entry.kind == MapType::Unknown {
            entry.kind = MapType::Image;
        }
    }
}

fn push(out: &mut Vec<(MapEntry, Option<usize>)>, entry: MapEntry, origin: Option<usize>) {
    if let Some((last, of)) = out.last_mut()
        && *of == origin
        && last.end == entry.start
        && last.presence == entry.presence
        && last.module == entry.module
        && last.kind == entry.kind
    {
        last.end = entry.end;
        return;
    }
    out.push((entry, origin));
}
