//! `!heap -s`: arenas, totals, verdict, comparisons.

use anyhow::Result;

use crate::commands::memory::summary::human;
use crate::native::heaps::{Allocator, Arena, Check, NativeHeaps};
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

const ARENAS: Table = Table::new(
    "arenas",
    &[
        Col::right("Arena", "arena", 5).of(Type::Number),
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("Heaps", "heaps", 5).of(Type::Count),
        Col::right("System", "system", 14).of(Type::Bytes),
        Col::right("InUse", "used_bytes", 14).of(Type::Bytes),
        Col::right("Blocks", "used", 10).of(Type::Count),
        Col::right("Free", "free_bytes", 14).of(Type::Bytes),
        Col::right("Chunks", "free", 9).of(Type::Count),
        Col::right("Largest", "largest_free", 12).of(Type::Bytes),
        Col::right("Cached", "cached_bytes", 11).of(Type::Bytes),
        Col::right("Top", "top", 11).of(Type::Bytes),
        Col::right("Threads", "threads", 7).of(Type::Count),
        Col::data("fast_bytes", Type::Bytes).titled("bytes of cached chunks that are in fast bins"),
        Col::data("cached", Type::Count).titled("cached chunks"),
        Col::data("own", Type::Bytes).titled("headers of heaps and fences"),
        Col::data("lost", Type::Bytes).titled("bytes that could not be read as chunks"),
        Col::data("trimmable", Type::Bytes).titled("what malloc_trim would give back"),
    ],
);

const CHECKS: Table = Table::new(
    "checks",
    &[
        Col::right("Arena", "arena", 5).of(Type::Number),
        Col::left("Holds", "holds", 5).of(Type::Bool),
        Col::left("Compared", "compared", 28),
        Col::left("Found", "found", 0).breaks(),
    ],
);

/// What `!heap -s` returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("versions", "versions of the C library that have the layout found", Type::Text),
    Fact::new("mapped", "blocks that are mappings of their own", Type::Count),
    Fact::new("mapped_bytes", "bytes of those", Type::Bytes),
    Fact::new("system", "bytes the allocator has, those mappings included", Type::Bytes),
    Fact::new("in_use", "bytes of them that the program has", Type::Bytes),
    Fact::new("blocks", "blocks the program has", Type::Count),
    Fact::new("free", "bytes of free chunks", Type::Bytes),
    Fact::new("cached", "bytes of chunks kept for the next request of their size", Type::Bytes),
    Fact::new("top", "bytes at the end of heaps, from which new blocks are cut", Type::Bytes),
    Fact::new("own", "bytes of the allocator's headers and fences", Type::Bytes),
    Fact::new("lost", "bytes that could not be read as chunks", Type::Bytes),
    Fact::new("trimmable", "bytes that malloc_trim would give back", Type::Bytes),
    Fact::new("arena_count", "arenas", Type::Count),
    Fact::new("verdict", "what that means", Type::Text),
    Fact::new("checks_held", "comparisons that hold", Type::Count),
    Fact::new("checks_failed", "those that do not", Type::Count),
])
.and(&[&ARENAS, &CHECKS]);

/// Prints all of it.
pub fn show(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, verbose: bool) -> Result<Outcome> {
    head(ctx, heaps)?;
    ctx.out.open(&ARENAS)?;
    for (number, a) in heaps.arenas.iter().enumerate() {
        ctx.out.row(&row(number, a))?;
    }
    totals(ctx, heaps)?;
    checks(ctx, heaps, verbose)?;
    Ok(heaps.partial().map_or(Outcome::Complete, Outcome::Partial))
}

fn head(ctx: &mut Ctx<'_>, heaps: &NativeHeaps) -> Result<()> {
    match &heaps.allocator {
        Allocator::Glibc(versions) => {
            let facts = [("allocator", Cell::text("glibc malloc")), ("versions", Cell::text(*versions))];
            ctx.out.facts(&facts, format!("Allocator: glibc malloc, layout of {versions}"))?;
        }
        Allocator::Musl => {
            ctx.out.fact("allocator", Cell::text("musl mallocng"), "Allocator: musl mallocng")?;
        }
        Allocator::Other(name) => {
            ctx.out.fact("allocator", Cell::text(*name), format!("Allocator: {name}"))?;
        }
        Allocator::None => {}
    }
    Ok(())
}

fn row(number: usize, a: &Arena) -> [Cell<'static>; 17] {
    let address = Cell::at(a.address);
    [
        Cell::Num(number as u64),
        address,
        Cell::Num(u64::from(a.heaps)),
        Cell::Sep(a.system),
        Cell::Sep(a.used.bytes),
        Cell::Sep(a.used.count),
        Cell::Sep(a.free.bytes),
        Cell::Sep(a.free.count),
        Cell::Sep(a.largest),
        Cell::Sep(a.cached.bytes + a.fast.bytes),
        Cell::Sep(a.top),
        a.threads.map_or(Cell::None, Cell::Num),
        Cell::Num(a.fast.bytes),
        Cell::Num(a.cached.count + a.fast.count),
        Cell::Num(a.own),
        Cell::Num(a.lost),
        Cell::Num(a.trimmable),
    ]
}

fn totals(ctx: &mut Ctx<'_>, heaps: &NativeHeaps) -> Result<()> {
    let t = heaps.totals();
    let m = heaps.mapped;
    ctx.out.note("")?;
    let line = format!("Mapped on their own: {} blocks, {} bytes.", thousands(m.count), thousands(m.bytes));
    ctx.out.facts(&[("mapped", Cell::Num(m.count)), ("mapped_bytes", Cell::Num(m.bytes))], line)?;
    let parts = [
        ("in_use", "in use", t.used.bytes),
        ("free", "free", t.free.bytes),
        ("cached", "cached", t.cached.bytes),
        ("top", "top", t.top),
        ("own", "own", t.own),
        ("lost", "not read", t.lost),
    ];
    let words: Vec<String> = parts.iter().map(|(_, name, n)| format!("{name} {}", thousands(*n))).collect();
    let mut facts = vec![("system", Cell::Num(t.system)), ("blocks", Cell::Num(t.used.count))];
    facts.extend(parts.iter().map(|(key, _, n)| (*key, Cell::Num(*n))));
    let line =
        format!("Total: {} bytes: {}. {} blocks.", thousands(t.system), words.join(", "), thousands(t.used.count));
    ctx.out.facts(&facts, line)?;
    let arenas = heaps.arenas.len() as u64;
    let facts = [
        ("verdict", Cell::text(verdict(heaps))),
        ("arena_count", Cell::Num(arenas)),
        ("trimmable", Cell::Num(t.trimmable)),
    ];
    let trim = human(t.trimmable);
    let said = verdict(heaps);
    ctx.out.facts(&facts, format!("Verdict: {said}; malloc_trim would give back {}.", trim.trim_start()))?;
    Ok(())
}

/// What the sums mean, in words.
pub fn verdict(heaps: &NativeHeaps) -> &'static str {
    let t = heaps.totals();
    let held = t.system.saturating_sub(t.used.bytes);
    let idle = heaps.arenas.iter().filter(|a| a.system > 0 && a.used.bytes * 4 < a.system).count();
    if held * 4 < t.system {
        "most of it is in use: look for who has it"
    } else if idle > 8 && idle * 2 > heaps.arenas.len() {
        "many arenas with little in use: MALLOC_ARENA_MAX limits how many there are"
    } else if t.free.bytes * 2 > held && t.trimmable * 2 < t.free.bytes {
        "fragmented: free chunks lie between blocks in use"
    } else {
        "much of it is free and was not given back"
    }
}

fn checks(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, verbose: bool) -> Result<()> {
    let failed = heaps.checks.iter().filter(|c| !c.holds).count() as u64;
    let held = heaps.checks.len() as u64 - failed;
    let facts = [("checks_held", Cell::Num(held)), ("checks_failed", Cell::Num(failed))];
    ctx.out.facts(&facts, format!("Compared with what the allocator counts: {held} hold, {failed} do not."))?;
    let cells = |c: &Check| {
        let arena = c.arena.map_or(Cell::None, |n| Cell::Num(u64::from(n)));
        [arena, Cell::Bool(c.holds), Cell::text(c.what), Cell::text(c.text.clone())]
    };
    let shown = |c: &&Check| verbose || !c.holds;
    if heaps.checks.iter().any(|c| shown(&c)) {
        ctx.out.note("")?;
        ctx.out.open(&CHECKS)?;
    }
    for c in &heaps.checks {
        if shown(&c) {
            ctx.out.row_in(&CHECKS, &cells(c))?;
        } else {
            ctx.out.data_row(&CHECKS, &cells(c))?;
        }
    }
    Ok(())
}
