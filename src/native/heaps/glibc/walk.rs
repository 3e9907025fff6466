//! The walk through the chunks of one piece of memory.

use super::layout::{ArenaLayout, FLAGS, IS_MMAPPED, NON_MAIN, PREV_INUSE};
use crate::dump::{AddressSpace, little_endian};
use crate::native::heaps::blocks::MOST_SIZE;
use crate::native::heaps::regions::Range;
use crate::native::heaps::{Block, Kind, State, Sum};
use crate::watch::{Interrupted, Watch};

/// A piece of an arena's memory that chunks fill.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Where the first chunk begins.
    pub start: u64,
    /// Where the memory ends.
    pub end: u64,
    /// Number of the arena.
    pub arena: u16,
    /// The flag [`NON_MAIN`] that its chunks have while they are in use.
    pub flag: u64,
    /// The arena's top, wherever it is; `None` where the arena is not in the dump.
    pub top: Option<u64>,
    /// Behind its end the next chunk begins: it is a part of a longer piece.
    pub open: bool,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the arena's top.
    Top,
    /// At the fence behind memory that could not grow; the address behind it.
    Fence(u64),
    /// At the end of the memory, where the top is not known.
    Memory,
    /// At what is no chunk.
    Broken(u64),
    /// At memory the dump lacks.
    Absent(u64),
}

/// What a walk found.
#[derive(Debug)]
pub struct Walked {
    /// Blocks by address.
    pub blocks: Vec<Block>,
    /// Those in use.
    pub used: Sum,
    /// Those free.
    pub free: Sum,
    /// The largest free one.
    pub largest: u64,
    /// Size of the top chunk.
    pub top: u64,
    /// Bytes of fences.
    pub fences: u64,
    /// What `malloc_trim` would give back of free chunks.
    pub trimmable: u64,
    /// Free chunks whose size does not stand behind them.
    pub torn: u64,
    /// Chunks in use that say they belong to another arena.
    pub strange: u64,
    /// Used blocks of a size in which a thread's cache may lie.
    pub caches: Vec<u64>,
    /// How it ended.
    pub end: End,
}

/// Blocks for which room is made before it is known how many there are: a part of a heap of 4 GB with small ones.
const MOST_ROOM: u64 = 1 << 25;
/// Bytes read between two looks at whether the user wants to stop.
const BETWEEN: u64 = 16 << 20;

/// A window on the readable memory around the last read: chunks follow one another in it.
struct Window<'a> {
    space: &'a AddressSpace,
    base: u64,
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> Window<'a> {
    fn new(space: &'a AddressSpace) -> Self {
        Self { space, base: 0, bytes: &[], wide: space.ptr_size() == 8 }
    }

    #[inline]
    fn word(&mut self, address: u64) -> Option<u64> {
        let size = if self.wide { 8 } else { 4 };
        let read = |bytes: &[u8], base: u64| {
            let at = usize::try_from(address.wrapping_sub(base)).ok()?;
            Some(little_endian(bytes.get(at..at.checked_add(size)?)?))
        };
        if let Some(word) = read(self.bytes, self.base) {
            return Some(word);
        }
        (self.bytes, self.base) = (self.space.run(address)?, address);
        read(self.bytes, self.base).or_else(|| self.space.ptr(address))
    }
}

/// Walks the chunks of `piece`.
pub fn walk(space: &AddressSpace, layout: &ArenaLayout, piece: &Piece, watch: &Watch) -> Result<Walked, Interrupted> {
    let w = layout.word;
    // Room for chunks of 128 bytes each; what is not needed is never touched.
    let room = (piece.end.saturating_sub(piece.start) / 128).min(MOST_ROOM);
    let mut out = Walked {
        blocks: Vec::with_capacity(room as usize),
        used: Sum::default(),
        free: Sum::default(),
        largest: 0,
        top: 0,
        fences: 0,
        trimmable: 0,
        torn: 0,
        strange: 0,
        caches: Vec::new(),
        end: End::Memory,
    };
    let mut window = Window::new(space);
    let (mut at, mut last, mut flags, mut stop) =
        (piece.start, None::<(u64, u64)>, 0, piece.start.saturating_add(BETWEEN));
    loop {
        if at >= stop {
            watch.cancel.check()?;
            stop = at.saturating_add(BETWEEN);
        }
        if at >= piece.end {
            if at == piece.end
                && piece.open
                && let Some(word) = at.checked_add(w).and_then(|a| window.word(a))
            {
                settle(&mut out, &mut window, piece, layout, (last, flags), at, word);
                return Ok(out);
            }
            out.end = if at == piece.end { End::Memory } else { End::Broken(at) };
            break;
        }
        let Some(word) = at.checked_add(w).and_then(|a| window.word(a)) else {
            out.end = End::Absent(at);
            break;
        };
        let size = word & !FLAGS;
        let before = last;
        if is_end(word, size, piece, layout, at, before) {
            out.end = End::Broken(at);
            break;
        }
        settle(&mut out, &mut window, piece, layout, (before, flags), at, word);
        if piece.top == Some(at) {
            top(&mut out, piece, at, size, w);
            out.end = End::Top;
            return Ok(out);
        }
        if size <= 2 * w {
            if fence(&mut out, &mut window, piece, at, w, before) {
                return Ok(out);
            }
            out.end = End::Broken(at);
            last = None;
            break;
        }
        (last, flags) = (Some((at, size)), word);
        at += size;
    }
    // What follows the last chunk would say whether it is in use.
    if let Some((chunk, bytes)) = last {
        match out.end {
            End::Memory if piece.top.is_none() => top(&mut out, piece, chunk, bytes, w),
            _ => {
                out.used.add(bytes);
                out.blocks.push(Block::new(chunk + 2 * w, bytes - w, State::Used, Kind::Chunk, piece.arena));
            }
        }
    }
    Ok(out)
}

/// Takes in the chunk before the one at `at`, whose size word says whether it is in use.
#[inline]
fn settle(
    out: &mut Walked,
    window: &mut Window<'_>,
    piece: &Piece,
    layout: &ArenaLayout,
    (before, flags): (Option<(u64, u64)>, u64),
    at: u64,
    word: u64,
) {
    let (w, Some((chunk, bytes))) = (layout.word, before) else { return };
    if word & PREV_INUSE == 0 {
        out.torn += u64::from(window.word(at) != Some(bytes));
        return free(out, layout, piece, chunk, bytes);
    }
    out.strange += u64::from(flags & NON_MAIN != piece.flag);
    out.used.add(bytes);
    out.blocks.push(Block::new(chunk + 2 * w, bytes - w, State::Used, Kind::Chunk, piece.arena));
    if layout.cache_chunks().contains(&bytes) {
        out.caches.push(chunk + 2 * w);
    }
}

/// Whether what stands at `at` is no chunk of the piece.
#[inline]
fn is_end(word: u64, size: u64, piece: &Piece, layout: &ArenaLayout, at: u64, before: Option<(u64, u64)>) -> bool {
    let w = layout.word;
    if piece.top == Some(at) {
        return word & PREV_INUSE == 0 || size > MOST_SIZE || size > piece.end - at;
    }
    if size <= 2 * w {
        // A fence of the main arena is two headers of two words each; that of a heap, at its very end, one of those or a
        // remainder of four words, and one of size 0 with no flag but the first.
        let flags = word & (IS_MMAPPED | NON_MAIN);
        let main = piece.flag == 0;
        let near = main || piece.end - at <= 6 * w;
        let zero = !main && word == PREV_INUSE && before.is_some_and(|b| b.1 <= 4 * w);
        return flags != 0 || !near || before.is_none() || !zero && size != 2 * w;
    }
    size < layout.least()
        || size & (layout.align() - 1) != 0
        || size > piece.end - at
        || size > MOST_SIZE
        // Free chunks of other arenas have lost the flag that says so; none of the main arena ever has it.
        || word & IS_MMAPPED != 0
        || word & NON_MAIN > piece.flag
        || before.is_none() && word & PREV_INUSE == 0
}

fn free(out: &mut Walked, layout: &ArenaLayout, piece: &Piece, chunk: u64, bytes: u64) {
    let w = layout.word;
    out.free.add(bytes);
    out.largest = out.largest.max(bytes);
    out.blocks.push(Block::new(chunk + 2 * w, bytes - w, State::Free, Kind::Chunk, piece.arena));
    // `mtrim` gives back the whole pages behind the six words that a free chunk needs.
    let (first, end) = ((chunk + 6 * w).next_multiple_of(0x1000), (chunk + bytes) & !0xFFF);
    out.trimmable += end.saturating_sub(first);
}

fn top(out: &mut Walked, piece: &Piece, chunk: u64, bytes: u64, w: u64) {
    out.top = bytes;
    out.blocks.push(Block::new(chunk + 2 * w, bytes.saturating_sub(w), State::Free, Kind::Top, piece.arena));
}

/// The fence at `at`: all headers of size 0 and of two words that follow one another. In further heaps a remainder too
/// small for a chunk is part of it and looks like a used one of the least size. Whether it is a whole fence.
fn fence(
    out: &mut Walked,
    window: &mut Window<'_>,
    piece: &Piece,
    at: u64,
    w: u64,
    before: Option<(u64, u64)>,
) -> bool {
    let (mut end, mut zero) = (at, false);
    let main = piece.flag == 0;
    for _ in 0..3 {
        match window.word(end.saturating_add(w)).filter(|_| end < piece.end) {
            Some(word) if word & !FLAGS == 2 * w => end += 2 * w,
            Some(word) if word & !FLAGS == 0 && !main => {
                (end, zero) = (end + 2 * w, true);
                break;
            }
            _ => break,
        }
    }
    if !main && !zero || main && end < at + 4 * w {
        return false;
    }
    let only_zero = end == at + 2 * w && !main;
    if only_zero && let Some((chunk, bytes)) = before.filter(|b| b.1 <= 4 * w) {
        if out.blocks.pop().is_some() {
            out.used.take(bytes);
        }
        out.fences += at - chunk;
    }
    out.fences += end - at;
    out.end = End::Fence(end);
    true
}

/// So many chunks that follow one another in a heap are believed, where what was before them could not be read.
pub const ENOUGH: usize = 32;
/// So many begin a part of a heap that is walked at once with the part before it.
pub const SURE: usize = 64;
/// Chunks a chain has at least to be believed where nothing says that it begins there.
pub const CHAIN: usize = 8;

/// Whether a chain of chunks from `start` reaches the arena's top, a fence or (with the top unknown) the end of `piece`, and
/// over how many chunks. Each chunk looked at takes one off `effort`; at 0 there is no answer. `enough` chunks are believed whatever comes behind.
pub fn reaches(
    space: &AddressSpace,
    layout: &ArenaLayout,
    piece: &Piece,
    enough: usize,
    effort: &mut u64,
) -> Option<(usize, End)> {
    let w = layout.word;
    let mut window = Window::new(space);
    let (mut at, mut last, mut chunks) = (piece.start, None::<(u64, u64)>, 0);
    while at < piece.end {
        *effort = effort.checked_sub(1)?;
        let word = window.word(at.checked_add(w)?)?;
        let size = word & !FLAGS;
        if is_end(word, size, piece, layout, at, last) {
            return None;
        }
        if last.is_some_and(|l| word & PREV_INUSE == 0 && window.word(at) != Some(l.1)) {
            return None;
        }
        if piece.top == Some(at) {
            return Some((chunks, End::Top));
        }
        if size <= 2 * w {
            // One header of two words is a number like any other; a fence is two.
            let second = window.word(at.checked_add(3 * w)?)? & !FLAGS;
            return (second == if piece.flag == 0 { 2 * w } else { 0 } || size == 0)
                .then_some((chunks, End::Fence(at)));
        }
        last = Some((at, size));
        chunks += 1;
        at += size;
        if chunks >= enough {
            return Some((chunks, End::Memory));
        }
    }
    (at == piece.end && piece.top.is_none()).then_some((chunks, End::Memory))
}

/// First address from `range.0` on, in steps of `step`, from which a chain leads to the end of a piece like `like` that ends
/// within the range. What damaged memory makes chains of costs a bounded number of steps for each byte of the range: what
/// is not found then is not read, and the arena says so.
pub fn first_chain(
    space: &AddressSpace,
    layout: &ArenaLayout,
    like: &Piece,
    range: Range,
    (step, enough): (u64, usize),
    watch: &Watch,
) -> Result<Option<Piece>, Interrupted> {
    let mut at = range.0;
    let mut tried = 0u64;
    let mut effort = (range.1 - range.0) / 4 + (1 << 20);
    while at < range.1 {
        tried += 1;
        if tried.is_multiple_of(1 << 16) {
            watch.cancel.check()?;
        }
        let piece = Piece { start: at, end: range.1, ..*like };
        let first = at.checked_add(layout.word).and_then(|a| space.ptr(a));
        let Some(word) = first else {
            let Some(next) = space.next_readable(at + 1) else { return Ok(None) };
            at = next.next_multiple_of(step).max(at + step);
            continue;
        };
        if word & (PREV_INUSE | IS_MMAPPED) == PREV_INUSE
            && word & NON_MAIN <= piece.flag
            && word & !FLAGS >= layout.least()
            && let Some((chunks, end)) = reaches(space, layout, &piece, enough, &mut effort)
            && (chunks >= CHAIN || end == End::Top)
        {
            return Ok(Some(piece));
        }
        at += step;
    }
    Ok(None)
}
