//! Memory of a minidump: our own reading of the two memory lists, which keeps what is there of a damaged file.

use minidump::{MinidumpMemoryInfoList, MinidumpThreadList};

use super::{Mini, problem};
use crate::dump::map::FileMap;
use crate::dump::memmap;
use crate::dump::space::SpaceBuilder;
use crate::dump::{AddressSpace, Arch, MapEntry, MapState, MapType, Module, Presence, Problem, bytes};

const MEMORY_LIST: u32 = 5;
const MEMORY64_LIST: u32 = 9;

/// Counts of one list.
#[derive(Default)]
struct Tally {
    ranges: u64,
    cut: u64,
    lost: u64,
    first: Option<u64>,
}

/// Places all memory of the file: the 64-bit list, then the 32-bit list, then the threads' stacks, the first winning
/// where they overlap. Ranges that reach past the end of the file keep what is there.
pub fn space(mini: &Mini<'_>, map: &FileMap, arch: Arch, problems: &mut Vec<Problem>) -> AddressSpace {
    let mut builder = SpaceBuilder::new(arch.pointer_size());
    let source = builder.source(map.clone());
    if let Some(list) = stream(mini, map, MEMORY64_LIST) {
        let tally = list64(list, source, &mut builder, problems);
        report("Memory64List", &tally, problems);
    }
    if let Some(list) = stream(mini, map, MEMORY_LIST) {
        let tally = list32(list, source, &mut builder, problems);
        report("MemoryList", &tally, problems);
    }
    let (space, dropped) = builder.build();
    if dropped > 0 {
        let what = format!("{dropped:#x} bytes are given twice; the 64-bit list wins, then the file's order");
        problems.push(problem("memory lists", None, what));
    }
    with_stacks(space, mini, source)
}

/// Adds the stacks that only the thread list points at.
fn with_stacks(space: AddressSpace, mini: &Mini<'_>, source: u32) -> AddressSpace {
    let Ok(threads) = mini.get_stream::<MinidumpThreadList<'_>>() else { return space };
    let stacks = threads.threads.iter().map(|t| (t.raw.stack.start_of_memory_range, &t.raw.stack.memory));
    let missing: Vec<_> = stacks.filter(|(at, d)| d.rva != 0 && d.data_size != 0 && !space.readable(*at)).collect();
    if missing.is_empty() {
        return space;
    }
    let mut builder = space.into_builder();
    for (at, d) in missing {
        builder.add(at, source, u64::from(d.rva), u64::from(d.data_size));
    }
    builder.build().0
}

/// The bytes of a stream, as far as the file has them.
fn stream<'a>(mini: &Mini<'_>, map: &'a FileMap, kind: u32) -> Option<&'a [u8]> {
    let d = mini.all_streams().find(|d| d.stream_type == kind)?;
    let tail = map.get(d.location.rva as usize..)?;
    Some(tail.get(..d.location.data_size as usize).unwrap_or(tail))
}

impl Tally {
    fn add(&mut self, builder: &mut SpaceBuilder, start: u64, source: u32, offset: u64, len: u64) {
        self.ranges += 1;
        let kept = builder.add(start, source, offset, len);
        if kept < len {
            self.cut += 1;
            self.lost = self.lost.saturating_add(len - kept);
            self.first = self.first.or(Some(offset));
        }
    }
}

fn report(place: &str, tally: &Tally, problems: &mut Vec<Problem>) {
    if tally.cut > 0 {
        let what = format!(
            "{} of {} ranges reach past the end of the file; {:#x} bytes are missing",
            tally.cut, tally.ranges, tally.lost
        );
        problems.push(problem(place, tally.first, what));
    }
}

/// `MINIDUMP_MEMORY64_LIST`: count, offset of the first range's bytes, then (address, size) of each; the bytes of all
/// ranges follow one another.
fn list64(list: &[u8], source: u32, builder: &mut SpaceBuilder, problems: &mut Vec<Problem>) -> Tally {
    let mut tally = Tally::default();
    let (Some(count), Some(mut offset)) = (bytes::u64(list, 0), bytes::u64(list, 8)) else {
        problems.push(problem("Memory64List", None, "is cut off; no memory is read from it".into()));
        return tally;
    };
    let room = (list.len() as u64).saturating_sub(16) / 16;
    if count > room {
        let what = format!("{count} ranges declared, {room} in the file");
        problems.push(problem("Memory64List", None, what));
    }
    for i in 0..count.min(room) {
        let (Some(start), Some(len)) = (bytes::u64(list, 16 + i * 16), bytes::u64(list, 24 + i * 16)) else { break };
        tally.add(builder, start, source, offset, len);
        let Some(next) = offset.checked_add(len) else {
            let what = format!("range {i} has the impossible size {len:#x}; those after it are lost");
            problems.push(problem("Memory64List", None, what));
            break;
        };
        offset = next;
    }
    tally
}

/// `MINIDUMP_MEMORY_LIST`: count, then (address, size, offset) of each; some writers align the entries to 8 bytes.
fn list32(list: &[u8], source: u32, builder: &mut SpaceBuilder, problems: &mut Vec<Problem>) -> Tally {
    let mut tally = Tally::default();
    let Some(count) = bytes::u32(list, 0).map(u64::from) else {
        problems.push(problem("MemoryList", None, "is cut off; no memory is read from it".into()));
        return tally;
    };
    let head = if list.len() as u64 == 8 + count * 16 { 8 } else { 4 };
    let room = (list.len() as u64).saturating_sub(head) / 16;
    if count > room {
        let what = format!("{count} ranges declared, {room} in the file");
        problems.push(problem("MemoryList", None, what));
    }
    for i in 0..count.min(room) {
        let at = head + i * 16;
        let (Some(start), Some(len), Some(offset)) =
            (bytes::u64(list, at), bytes::u32(list, at + 8), bytes::u32(list, at + 12))
        else {
            break;
        };
        tally.add(builder, start, source, offset.into(), len.into());
    }
    tally
}

/// The ranges that `MemoryInfoList` describes; without one, the modules' ranges.
pub fn describe(mini: &Mini<'_>, modules: &[Module], problems: &mut Vec<Problem>) -> Vec<MapEntry> {
    let list = match mini.get_stream::<MinidumpMemoryInfoList<'_>>() {
        Ok(list) => list,
        Err(e) => {
            if !matches!(e, minidump::Error::StreamNotFound) {
                problems.push(problem("MemoryInfoList", None, format!("cannot be read ({e}); left out")));
            }
            return from_modules(modules);
        }
    };
    let entries = list.iter().map(|i| {
        let r = &i.raw;
        let state = match r.state {
            0x1000 => MapState::Commit,
            0x2000 => MapState::Reserve,
            _ => MapState::Free,
        };
        let kind = match r._type {
            0x2_0000 => MapType::Private,
            0x4_0000 => MapType::Mapped,
            0x100_0000 => MapType::Image,
            _ => MapType::Unknown,
        };
        let (start, end) = (r.base_address, r.base_address.saturating_add(r.region_size));
        let entry = MapEntry {
            start,
            end,
            state,
            kind,
            protect: r.protection,
            allocation_base: r.allocation_base,
            allocation_protect: r.allocation_protection,
            presence: if state == MapState::Free { Presence::Unknown } else { Presence::MappedOnly },
            module: None,
            file: None,
            file_offset: 0,
        };
        ((start, end), entry)
    });
    let entries = memmap::disjoint(entries.collect());
    entries.into_iter().map(|((start, end), e)| MapEntry { start, end, ..e }).collect()
}

fn from_modules(modules: &[Module]) -> Vec<MapEntry> {
    let ranges = modules.iter().enumerate().map(|(i, m)| ((m.base, m.base.saturating_add(m.size)), i as u32));
    let entry = |((start, end), i): ((u64, u64), u32)| MapEntry {
        start,
        end,
        state: MapState::Commit,
        kind: MapType::Image,
        protect: 0,
        allocation_base: start,
        allocation_protect: 0,
        presence: Presence::MappedOnly,
        module: Some(i),
        file: None,
        file_offset: 0,
    };
    memmap::disjoint(ranges.collect()).into_iter().map(entry).collect()
}
