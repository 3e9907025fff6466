//! Blocks that are mappings of their own, and what the allocator counts of them.

use super::layout::{ArenaLayout, FLAGS, IS_MMAPPED};
use crate::dump::AddressSpace;
use crate::native::heaps::regions::Range;
use crate::native::heaps::{Block, Kind, NO_ARENA, State, Sum};
use crate::watch::{Interrupted, Watch};

const PAGE: u64 = 0x1000;
/// Where on its first page the header of a mapping may stand that was asked for with an alignment: before a multiple of it.
const PLACES: [u64; 8] = [0x10, 0x30, 0x70, 0xF0, 0x1F0, 0x3F0, 0x7F0, 0xFF0];

/// Finds mappings in `ranges`: neighbours are joined there, so every page may be the first of one. Blocks, the sum of what
/// they take, and where.
pub fn find(
    space: &AddressSpace,
    layout: &ArenaLayout,
    ranges: &[Range],
    watch: &Watch,
) -> Result<(Vec<Block>, Sum, Vec<Range>), Interrupted> {
    let (mut blocks, mut sum, mut places) = (Vec::new(), Sum::default(), Vec::new());
    for &(start, end) in ranges {
        watch.cancel.check()?;
        let Some(mut base) = start.checked_next_multiple_of(PAGE) else { continue };
        while base < end {
            match at_page(space, layout, base, end) {
                Some((block, total)) => {
                    sum.add(total);
                    blocks.push(block);
                    places.push((base, base.saturating_add(total)));
                    base = base.saturating_add(total.next_multiple_of(PAGE));
                }
                None => base = base.saturating_add(PAGE),
            }
        }
    }
    Ok((blocks, sum, places))
}

/// The mapping that begins at the page `base` and ends before `end`, with the bytes it takes.
fn at_page(space: &AddressSpace, layout: &ArenaLayout, base: u64, end: u64) -> Option<(Block, u64)> {
    let w = layout.word;
    let plain = header(space, layout, base, base, end);
    // In front of an aligned block stands the header of the whole that was there before; from 2.43 on, nothing.
    if plain.is_none() && (!layout.short_mappings || space.ptr_at(base, w)? != 0) {
        return None;
    }
    // The header before a multiple of an alignment asked for is the real one; that of the whole stays behind at the start.
    let mut further = PLACES.iter().filter_map(|&p| header(space, layout, base, base.checked_add(p)?, end));
    let further = further.next().or_else(|| {
        (13..=30).find_map(|bits| {
            let block = base.checked_add(2 * w)?.checked_next_multiple_of(1u64 << bits)?;
            header(space, layout, base, block - 2 * w, end)
        })
    });
    further.filter(|f| plain.is_none_or(|p| p.1 == f.1)).or(plain)
}

/// The mapping from `base` on whose header stands at `at`.
fn header(space: &AddressSpace, layout: &ArenaLayout, base: u64, at: u64, end: u64) -> Option<(Block, u64)> {
    let w = layout.word;
    let word = space.ptr_at(at, w)?;
    if word & FLAGS != IS_MMAPPED {
        return None;
    }
    let before = space.ptr(at)?;
    // 2.43: bit 0 of what stands before the size says huge pages.
    let lead = if layout.short_mappings { before & !1 } else { before };
    if lead != at - base {
        return None;
    }
    let size = word & !FLAGS;
    let (total, usable) = if layout.short_mappings {
        (lead.checked_add(size)?.checked_add(2 * w)?, size.checked_sub(w)?)
    } else {
        (lead.checked_add(size)?, size.checked_sub(2 * w)?)
    };
    let fits = total >= PAGE && total.is_multiple_of(PAGE) && total <= end - base;
    fits.then(|| (Block::new(at + 2 * w, usable, State::Used, Kind::Mapped, NO_ARENA), total))
}

/// What the allocator counts: `struct malloc_par` (`mp_`), found beside the main arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// `n_mmaps` and `mmapped_mem`.
    pub mapped: Sum,
    /// `sbrk_base`: where the main arena began.
    pub base: u64,
}

/// How far from the main arena its statistics were ever seen: 0x998 in front of it (2.23). A page more is looked at.
const NEAR: u64 = 0x1A00;
/// `DEFAULT_MMAP_MAX`.
const MAPPINGS: u64 = 65_536;

/// The statistics, by their shape: `int n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold`, words `mmapped_mem`,
/// `max_mmapped_mem`, `max_total_mem` (through 2.23), `sbrk_base`. The numbers stand at any multiple of 4.
pub fn parameters(
    space: &AddressSpace,
    layout: &ArenaLayout,
    main: u64,
    starts: impl Fn(u64) -> bool,
) -> Option<Parameters> {
    let w = layout.word;
    let places = || (main.saturating_sub(NEAR)..main).chain(main..main.saturating_add(2 * NEAR)).step_by(4);
    let read = |at: u64, strict: bool| {
        let int = |n: u64| at.checked_add(4 * n).and_then(|a| space.u32(a)).map(u64::from);
        let (n, most, peak, fixed) = (int(0)?, int(1)?, int(2)?, int(3)?);
        let words = at.checked_add(16)?.checked_next_multiple_of(w)?;
        let (bytes, peak_bytes) = (space.ptr(words)?, space.ptr_at(words, w)?);
        let pages = bytes.is_multiple_of(PAGE) && peak_bytes.is_multiple_of(PAGE);
        let shape = n <= peak && fixed <= 1 && pages && bytes <= peak_bytes && (n == 0) == (bytes == 0);
        if !shape || strict != (most == MAPPINGS) || peak > most {
            return None;
        }
        let mut bases = [2, 3].into_iter().filter_map(|i| space.ptr_at(words, i * w));
        let base = bases.find(|&b| starts(b))?;
        Some(Parameters { mapped: Sum { count: n, bytes }, base })
    };
    // With the usual limit the shape is unmistakable; a limit of the user's own is believed where no other fits.
    let strict = places().find_map(|at| read(at, true));
    strict.or_else(|| {
        let mut loose = places().filter_map(|at| read(at, false));
        loose.next().filter(|_| loose.next().is_none())
    })
}
