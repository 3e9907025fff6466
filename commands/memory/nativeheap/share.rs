//! What `!address -summary` says of native heaps and stacks: how the regions of each use divide into blocks in use, free and
//! kept ones, to the byte.

use anyhow::Result;

use crate::commands::memory::usage::{UsageRange, word};
use crate::dump::{Dump, Os};
use crate::native::heaps::{Kind, NO_ARENA, NativeHeaps, State};
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

/// One use of memory, divided.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    size: u64,
    in_use: u64,
    free: u64,
    cached: u64,
    top: u64,
    mapped: u64,
    /// Memory of arenas.
    arenas: u64,
}

impl Share {
    /// What of arenas is no chunk: headers, fences, what could not be read.
    fn other(&self) -> u64 {
        self.arenas.saturating_sub(self.in_use + self.free + self.cached + self.top)
    }

    /// What is not the allocator's.
    fn rest(&self) -> u64 {
        self.size.saturating_sub(self.arenas + self.mapped)
    }
}

/// Divides the regions of each use that holds memory of the allocator.
fn divide(heaps: &NativeHeaps, ranges: &[UsageRange], w: u64) -> Vec<(&'static str, Share)> {
    let mut shares: Vec<(&'static str, Share)> = Vec::new();
    let (mut stretch, mut block) = (0, 0);
    for r in ranges {
        let place = shares.iter().position(|s| s.0 == r.usage).unwrap_or_else(|| {
            shares.push((r.usage, Share::default()));
            shares.len() - 1
        });
        let Some((_, share)) = shares.get_mut(place) else { continue };
        share.size += r.size();
        while heaps.memory.get(stretch).is_some_and(|s| s.end <= r.start) {
            stretch += 1;
        }
        for s in heaps.memory.get(stretch..).unwrap_or(&[]).iter().take_while(|s| s.start < r.end) {
            let bytes = s.end.min(r.end).saturating_sub(s.start.max(r.start));
            if s.arena == NO_ARENA { share.mapped += bytes } else { share.arenas += bytes }
        }
        // Chunks whose header begins here; one that reaches into the next range of another use is counted here.
        while let Some(b) = heaps.blocks.get(block).filter(|b| b.address().saturating_sub(2 * w) < r.end) {
            block += 1;
            let bytes = b.size() + w;
            match (b.kind(), b.state()) {
                (Kind::Mapped, _) => {}
                (Kind::Top, _) => share.top += bytes,
                (_, State::Used) => share.in_use += bytes,
                (_, State::Free) => share.free += bytes,
                (_, State::Cached) => share.cached += bytes,
            }
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
