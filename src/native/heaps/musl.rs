//! musl's mallocng (1.2.1 and later): `src/malloc/mallocng/meta.h`, the same file in 1.2.1 to 1.2.5. Blocks are slots of
//! groups; what describes a group lies apart, in areas that begin with a secret of the process.

use rustc_hash::FxHashSet;

use super::regions::{Range, Regions, readable};
use super::{Allocator, Arena, Block, Blocks, Check, Kind, NO_ARENA, NativeHeaps, State, Stretch, Sum};
use crate::dump::{AddressSpace, Dump};
use crate::watch::{Interrupted, Watch};

const PAGE: u64 = 0x1000;
/// Blocks are multiples of it.
const UNIT: u64 = 16;
/// Bytes in front of a block (`IB`).
const HEADER: u64 = 4;
/// The class of a mapping that is one block.
const OWN_MAPPING: u64 = 63;
const AT_RANDOM: u64 = 25;
/// `size_classes`, in units of 16 bytes.
const CLASSES: [u64; 48] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 31, 36, 42, 50, 63, 72, 84, 102, 127, 146, 170, 204, 255, 292,
    340, 409, 511, 584, 682, 818, 1023, 1169, 1364, 1637, 2047, 2340, 2730, 3276, 4095, 4680, 5460, 6552, 8191,
];

/// `struct meta`: what describes a group.
#[derive(Debug, Clone, Copy)]
struct Meta {
    at: u64,
    mem: u64,
    /// Slots never used, and those freed: a bit each.
    avail: u32,
    freed: u32,
    slots: u64,
    class: u64,
    /// Bytes of the group's mapping; 0 where it lies in a slot of another or in memory of a library.
    mapped: u64,
}

impl Meta {
    fn read(space: &AddressSpace, at: u64) -> Option<Self> {
        let w = u64::from(space.ptr_size());
        let masks = at.checked_add(3 * w)?;
        let word = space.ptr_at(masks, 8)?;
        Some(Self {
            at,
            mem: space.ptr_at(at, 2 * w)?,
            avail: space.u32(masks)?,
            freed: space.u32(masks + 4)?,
            slots: (word & 31) + 1,
            class: word >> 6 & 63,
            mapped: (word >> 12).checked_mul(PAGE)?,
        })
    }

    /// Bytes from one slot to the next.
    fn stride(&self) -> Option<u64> {
        if self.slots == 1 && self.mapped > 0 {
            return self.mapped.checked_sub(UNIT);
        }
        CLASSES.get(usize::try_from(self.class).ok()?).map(|c| c * UNIT)
    }

    /// One past the group's last byte.
    fn end(&self) -> Option<u64> {
        let slots = self.mem.checked_add(UNIT)?.checked_add(self.stride()?.checked_mul(self.slots)?)?;
        Some(slots.max(self.mem.checked_add(self.mapped)?))
    }
}

/// Everything read so far.
#[derive(Default)]
struct Found {
    blocks: Vec<Block>,
    arena: Arena,
    mapped: Sum,
    memory: Vec<Stretch>,
    groups: u64,
    /// Groups that do not name what describes them, and slots that do not have their number.
    denied: u64,
    misnumbered: u64,
    absent: u64,
}

/// Reads the heaps; `None` when this allocator is not in use.
pub fn read(dump: &Dump, regions: &Regions, watch: &Watch) -> Result<Option<NativeHeaps>, Interrupted> {
    let space = &dump.space;
    let random = dump.auxv.iter().find(|a| a.0 == AT_RANDOM).and_then(|a| space.u64(a.1.checked_add(8)?));
    let Some(secret) = random.filter(|&s| s != 0) else { return Ok(None) };
    let mut areas = Vec::new();
    for (start, end) in readable(space, regions.anonymous.iter().chain(&regions.data)) {
        watch.cancel.check()?;
        let pages = (start.checked_next_multiple_of(PAGE).unwrap_or(end)..end).step_by(PAGE as usize);
        areas.extend(pages.filter(|&p| space.u64(p) == Some(secret)));
    }
    let metas: Vec<Meta> = areas.iter().flat_map(|&a| metas(space, a)).collect();
    let mut found = Found::default();
    let mut nested = FxHashSet::default();
    for meta in &metas {
        watch.cancel.check()?;
        group(space, meta, &mut found, &mut nested);
    }
    if found.groups == 0 {
        return Ok(None);
    }
    Ok(Some(put_together(found, &metas, &nested, areas.len() as u64)))
}

/// The groups that the area at `area` describes.
fn metas(space: &AddressSpace, area: u64) -> Vec<Meta> {
    let w = u64::from(space.ptr_size());
    // The secret, the next area, int nslots; then the array, at a multiple of a word.
    let (head, size) = ((8 + w + 4).next_multiple_of(w), 3 * w + 8 + w);
    let most = (PAGE - head) / size;
    let count = area.checked_add(8 + w).and_then(|a| space.u32(a)).map_or(0, u64::from);
    if count == 0 || count > most {
        return Vec::new();
    }
    let all = (0..count).filter_map(|i| Meta::read(space, area + head + i * size));
    all.filter(|m| m.mem != 0).collect()
}

/// Reads the slots of a group. The group names its meta: without that nothing of it is believed.
fn group(space: &AddressSpace, meta: &Meta, found: &mut Found, nested: &mut FxHashSet<u64>) {
    let Some(back) = space.ptr(meta.mem) else {
        found.absent += 1;
        return;
    };
    let (Some(stride), Some(end)) = (meta.stride().filter(|_| back == meta.at), meta.end()) else {
        found.denied += 1;
        return;
    };
    found.groups += 1;
    let own = meta.class == OWN_MAPPING;
    if meta.mapped > 0 {
        found.memory.push(Stretch { start: meta.mem, end, arena: if own { NO_ARENA } else { 0 } });
    }
    for i in 0..meta.slots {
        let slot = meta.mem + UNIT + i * stride;
        let free = (meta.avail | meta.freed) >> i & 1 != 0;
        if free {
            found.arena.free.add(stride);
            found.arena.largest = found.arena.largest.max(stride);
            found.blocks.push(Block::new(slot, stride - HEADER, State::Free, Kind::Slot, 0));
            continue;
        }
        match used(space, slot, stride, i) {
            Some(Slot::Block(at, size)) if own => {
                found.mapped.add(meta.mapped);
                found.blocks.push(Block::new(at, size, State::Used, Kind::Mapped, NO_ARENA));
            }
            Some(Slot::Block(at, size)) => {
                found.arena.used.add(stride);
                found.blocks.push(Block::new(at, size, State::Used, Kind::Slot, 0));
            }
            Some(Slot::Group(at)) => drop(nested.insert(at)),
            None => {
                found.misnumbered += 1;
                found.arena.lost += stride;
            }
        }
    }
}

/// What a slot in use holds.
enum Slot {
    /// A block: where it begins and the size asked for.
    Block(u64, u64),
    /// Another group, and where it begins.
    Group(u64),
}

fn used(space: &AddressSpace, slot: u64, stride: u64, number: u64) -> Option<Slot> {
    let byte = |at: u64| space.u8(at);
    let mut at = slot;
    if byte(at - 3)? >> 5 == 7 {
        // The block begins further in, so that an address is not used again at once.
        at = at.checked_add(u64::from(space.u16(at - 2)?) * UNIT)?;
    }
    let head = byte(at - 3)?;
    if u64::from(head & 31) != number {
        return None;
    }
    let end = slot + stride - HEADER;
    let reserved = match head >> 5 {
        6 => return Some(Slot::Group(at)),
        5 => u64::from(space.u32(end - 4)?),
        n => u64::from(n),
    };
    let size = end.checked_sub(reserved)?.checked_sub(at)?;
    Some(Slot::Block(at, size))
}

fn put_together(found: Found, metas: &[Meta], nested: &FxHashSet<u64>, areas: u64) -> NativeHeaps {
    let Found { blocks, mut arena, mapped, mut memory, groups, denied, misnumbered, absent } = found;
    // Groups that are no mappings lie in slots of others, or in what is left of a library's pages.
    for m in metas.iter().filter(|m| m.mapped == 0 && !nested.contains(&m.mem)) {
        memory.extend(m.end().map(|end| Stretch { start: m.mem, end, arena: 0 }));
    }
    memory.sort_unstable();
    let bytes: Vec<Range> = memory.iter().filter(|s| s.arena == 0).map(|s| (s.start, s.end)).collect();
    arena.system = bytes.iter().map(|r| r.1 - r.0).sum();
    arena.heaps = bytes.len() as u32;
    arena.main = true;
    arena.own = arena.system.saturating_sub(arena.used.bytes + arena.free.bytes + arena.lost);
    let check = |what, holds, text| Check { arena: None, what, holds, text };
    let mut missing = Vec::new();
    if absent > 0 {
        missing.push(format!("{absent} groups are not in the dump"));
    }
    let checks = vec![
        check(
            "groups name what describes them",
            denied == 0,
            format!("{groups} groups of {areas} areas do, {denied} do not"),
        ),
        check("slots have their number", misnumbered == 0, format!("{misnumbered} slots in use do not")),
    ];
    NativeHeaps {
        allocator: Allocator::Musl,
        arenas: vec![arena],
        mapped,
        mapped_counted: None,
        blocks: Blocks::new(blocks),
        memory,
        checks,
        missing,
    }
}
