//! What `!address -summary` says of native heaps and stacks: how the regions of each use divide into blocks in use, free and
//! kept ones, to the byte.

use anyhow::Result;

use crate::commands::memory::usage::{UsageRange, word};
use crate::dump::{Dump, Os};
use crate::native::heaps::{Block, Kind, NO_ARENA, NativeHeaps, State};
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Returns, Table, Type};

const NATIVE: Table = Table::new(
    "native",
    &[
        Col::left("", "usage", 12).titled("use of memory"),
        Col::right("", "size", 15).of(Type::Bytes).titled("bytes of its regions"),
        Col::right("", "in_use", 15).of(Type::Bytes).titled("of those in blocks in use"),
        Col::right("", "free", 13).of(Type::Bytes).titled("in free chunks"),
        Col::right("", "cached", 12).of(Type::Bytes).titled("in chunks kept for the next request"),
        Col::right("", "top", 12).of(Type::Bytes).titled("in the tops of arenas"),
        Col::right("", "mapped", 14).of(Type::Bytes).titled("in blocks with a mapping of their own"),
        Col::right("", "other", 12).of(Type::Bytes).titled("in headers, fences, and what could not be read"),
        Col::right("", "rest", 15).of(Type::Bytes).titled("not the allocator's: reserved, or of somebody else"),
    ],
);

/// What it returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("stack_threads", "threads whose stacks the dump names", Type::Count),
    Fact::new("stack_bytes", "bytes of those stacks", Type::Bytes),
    Fact::new("stack_in_use", "bytes of them between stack pointer and base", Type::Bytes),
])
.and(&[&NATIVE]);

/// A range of memory, or all of one use, divided.
#[derive(Debug, Default, Clone, Copy)]
pub struct Share {
    /// All of it.
    pub size: u64,
    /// In blocks in use.
    pub in_use: u64,
    /// In free chunks.
    pub free: u64,
    /// In chunks kept for the next request.
    pub cached: u64,
    /// In the tops of arenas.
    pub top: u64,
    /// In blocks with a mapping of their own.
    pub mapped: u64,
    /// Memory of arenas.
    arenas: u64,
}

impl Share {
    /// What of arenas is no chunk: headers, fences, what could not be read.
    pub fn other(&self) -> u64 {
        self.arenas.saturating_sub(self.in_use + self.free + self.cached + self.top)
    }

    /// What is not the allocator's.
    pub fn rest(&self) -> u64 {
        self.size.saturating_sub(self.arenas + self.mapped)
    }

    fn join(&mut self, o: Share) {
        self.size += o.size;
        self.in_use += o.in_use;
        self.free += o.free;
        self.cached += o.cached;
        self.top += o.top;
        self.mapped += o.mapped;
        self.arenas += o.arenas;
    }
}

/// Divides ranges of memory, one after the other: each byte counts once, where it lies.
pub struct Divider<'a> {
    heaps: &'a NativeHeaps,
    word: u64,
    stretch: usize,
    block: usize,
}

impl<'a> Divider<'a> {
    /// Divides memory of a process with words of that many bytes.
    pub fn new(heaps: &'a NativeHeaps, word: u64) -> Self {
        Self { heaps, word, stretch: 0, block: 0 }
    }

    /// Divides `[start, end)`, which begins behind the range before.
    pub fn divide(&mut self, start: u64, end: u64) -> Share {
        let mut share = Share { size: end.saturating_sub(start), ..Share::default() };
        let memory = &self.heaps.memory;
        while memory.get(self.stretch).is_some_and(|s| s.end <= start) {
            self.stretch += 1;
        }
        for s in memory.get(self.stretch..).unwrap_or(&[]).iter().take_while(|s| s.start < end) {
            let (from, to) = (s.start.max(start), s.end.min(end));
            if s.arena == NO_ARENA {
                share.mapped += to.saturating_sub(from);
            } else {
                share.arenas += to.saturating_sub(from);
                self.chunks(from, to, &mut share);
            }
        }
        share
    }

    /// Chunks of `[from, to)`, each from its header on; one that begins before or ends behind counts with what of it is there.
    fn chunks(&mut self, from: u64, to: u64, share: &mut Share) {
        let (w, mut at) = (self.word, from);
        let chunk = |b: &Block| match b.kind() {
            Kind::Slot => (b.address(), b.end()),
            _ => (b.address().saturating_sub(2 * w), b.end().saturating_sub(w)),
        };
        while let Some(b) = self.heaps.blocks.get(self.block) {
            let (first, end) = chunk(b);
            if first >= to {
                break;
            }
            let bytes = end.min(to).saturating_sub(first.max(at));
            at = at.max(end.min(to));
            match (b.kind(), b.state()) {
                (Kind::Mapped, _) => {}
                (Kind::Top, _) => share.top += bytes,
                (_, State::Used) => share.in_use += bytes,
                (_, State::Free) => share.free += bytes,
                (_, State::Cached) => share.cached += bytes,
            }
            if end > to {
                break;
            }
            self.block += 1;
        }
    }
}

/// Divides the regions of each use that holds memory of the allocator.
fn divide(heaps: &NativeHeaps, ranges: &[UsageRange], w: u64) -> Vec<(&'static str, Share)> {
    let mut shares: Vec<(&'static str, Share)> = Vec::new();
    let mut divider = Divider::new(heaps, w);
    for r in ranges {
        let share = divider.divide(r.start, r.end);
        match shares.iter_mut().find(|s| s.0 == r.usage) {
            Some((_, all)) => all.join(share),
            None => shares.push((r.usage, share)),
        }
    }
    shares.retain(|s| s.1.arenas + s.1.mapped > 0);
    shares
}

/// Prints both.
pub fn show(ctx: &mut Ctx<'_>, dump: &Dump, ranges: &[UsageRange]) -> Result<()> {
    let heaps = ctx.session()?.native_heaps()?;
    let shares = divide(heaps, ranges, u64::from(dump.space.ptr_size()));
    if !shares.is_empty() {
        ctx.out.note("")?;
        ctx.out.open_as(
            &NATIVE,
            "--- Native heaps -- Region Size -------- InUse ------- Free ----- Cached -------- Top ------- Mapped ------ Other --------- Rest",
        )?;
        for (usage, s) in &shares {
            ctx.out.row(&[
                Cell::text(*usage),
                Cell::Sep(s.size),
                Cell::Sep(s.in_use),
                Cell::Sep(s.free),
                Cell::Sep(s.cached),
                Cell::Sep(s.top),
                Cell::Sep(s.mapped),
                Cell::Sep(s.other()),
                Cell::Sep(s.rest()),
            ])?;
        }
    }
    if dump.os == Os::Linux && ranges.iter().any(|r| r.usage == word::STACK) {
        stacks(ctx, dump)?;
    }
    Ok(())
}

/// How much of the stacks is in use.
fn stacks(ctx: &mut Ctx<'_>, dump: &Dump) -> Result<()> {
    let (mut threads, mut bytes, mut used) = (0u64, 0u64, 0u64);
    for t in &dump.threads {
        let Some((low, high)) = t.stack else { continue };
        let sp = t.registers.as_ref().map_or(low, |r| r.sp.clamp(low, high));
        threads += 1;
        bytes = bytes.saturating_add(high - low);
        used = used.saturating_add(high - sp);
    }
    let facts =
        [("stack_threads", Cell::Num(threads)), ("stack_bytes", Cell::Num(bytes)), ("stack_in_use", Cell::Num(used))];
    let line = format!("Stacks: {threads}, {} bytes, of which {} in use.", thousands(bytes), thousands(used));
    ctx.out.note("")?;
    Ok(ctx.out.facts(&facts, line)?)
}
