//! `!eeheap`: the GC heaps by generation and segment, with totals.

use anyhow::Result;

use super::filter::Filter;
use crate::clr::Clr;
use crate::clr::runtime::loaderheaps::{LoaderHeap, Owner};
use crate::heap::{Heap, Segment, SegmentKind, SubHeap};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
    narrow_digits,
};

/// `!eeheap`.
pub const EEHEAP: Command = Command {
    name: "eeheap",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "the runtime's heaps: segments, sizes, totals",
    help: "-gc lists the segments or regions of each GC heap by generation with their allocated and committed sizes. -stat \
           prints one table of all heaps instead. -loader lists the heaps types, stubs and jitted code live in, each \
           block with its reserved and committed size: the domain's, those of the JIT (HostCodeHeap: code of dynamic \
           methods), and those of each assembly that can be unloaded. Without an option, both.",
    args: &[
        Arg::flag("gc", "the GC heaps"),
        Arg::flag("loader", "the loader heaps"),
        Arg::flag("stat", "one table of all heaps with totals").or(&["summary"]),
        Arg::opt("heap", Kind::Count, "only this heap of server GC"),
        Arg::opt("segment", Kind::Address, "only the segment at or around this address"),
    ],
    examples: &[Example { line: "!eeheap -gc", what: "segments and sizes" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

const COLUMNS: &[Col] = &[
    Col::right("segment", "segment", 16),
    Col::right("begin", "begin", 16),
    Col::right("allocated", "allocated", 16),
    Col::right("committed", "committed", 16),
    Col::left("allocated size", "allocated_size", 18),
    Col::left("committed size", "committed_size", 18),
];

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let heap = session.heap()?;
    let filter = Filter::new(args)?;
    let segments = filter.segments(session)?;
    let all = !args.has("gc") && !args.has("loader") && !args.has("stat");
    let mut partial = heap.problems.first().cloned();
    if args.has("loader") || all {
        partial = partial.or(loader(session, ctx.out)?);
    }
    if args.has("stat") {
        stat(ctx.out, heap, &segments)?;
    } else if args.has("gc") || all {
        gc(session, ctx.out, heap, &segments, filter.heap.is_some() || filter.segment.is_some())?;
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// `0x5d33a8 (6108072)`.
fn size(n: u64) -> Cell<'static> {
    // Nothing is printed for nothing, as SOS does.
    Cell::As(if n == 0 { "".into() } else { format!("0x{n:x} ({n})").into() }, n)
}

fn committed(s: &Segment) -> u64 {
    s.committed.saturating_sub(s.base())
}

fn gc(session: &Session, out: &mut Out, heap: &Heap, segments: &[Segment], filtered: bool) -> Result<()> {
    let clr = session.clr()?;
    let datas = clr.found.gc.dynamic_adaptation_mode.and_then(|a| clr.space().u32(a));
    out.line("")?;
    out.line(format!("DATAS = {}", datas.map(|d| d.to_string()).unwrap_or_default()))?;
    out.line("=".repeat(40))?;
    out.line(format!("Number of GC Heaps: {}", heap.heaps.len()))?;
    out.line("-".repeat(40))?;
    for sub in &heap.heaps {
        let own: Vec<&Segment> = segments.iter().filter(|s| s.heap == sub.index).collect();
        if own.is_empty() && filtered {
            continue;
        }
        if heap.server {
            out.line(format!("Heap {} ({:0w$x})", sub.index, sub.address, w = digits()))?;
        }
        one(out, heap, sub, &own)?;
        if heap.server && heap.heaps.len() > 1 {
            out.line("-".repeat(30))?;
        }
    }
    out.line("-".repeat(30))?;
    let partial = if filtered { "Partial " } else { "" };
    let (a, c) = (segments.iter().map(Segment::len).sum::<u64>(), segments.iter().map(committed).sum::<u64>());
    out.line(format!("{partial}GC Allocated Heap Size:    Size: 0x{a:x} ({a}) bytes."))?;
    out.line(format!("{partial}GC Committed Heap Size:    Size: 0x{c:x} ({c}) bytes."))?;
    Ok(())
}

fn one(out: &mut Out, heap: &Heap, sub: &SubHeap, own: &[&Segment]) -> Result<()> {
    if !heap.regions {
        for (g, start) in sub.allocation_starts.iter().enumerate().take(3) {
            out.line(format!("generation {g} starts at {start:x}"))?;
        }
        let context = sub.contexts.first().map_or("none".into(), |c| format!("(0x{:x}, 0x{:x})", c.0, c.1));
        out.line(format!("ephemeral segment allocation context: {context}"))?;
    }
    out.line("Small object heap")?;
    let of = |kinds: &[SegmentKind]| -> Vec<&&Segment> { own.iter().filter(|s| kinds.contains(&s.kind)).collect() };
    if heap.regions {
        out.table("small", COLUMNS, true)?;
        for (g, kind) in
            [SegmentKind::Generation0, SegmentKind::Generation1, SegmentKind::Generation2].into_iter().enumerate()
        {
            out.line(format!("generation {g}:"))?;
            rows(out, &of(&[kind]))?;
        }
    } else {
        part(out, "small", &of(&[SegmentKind::Ephemeral, SegmentKind::Generation2]))?;
    }
    let frozen = of(&[SegmentKind::Frozen]);
    if !frozen.is_empty() {
        out.line("NonGC heap")?;
        part(out, "frozen", &frozen)?;
    }
    match sub.allocation_starts.get(3) {
        Some(&start) if !heap.regions => out.line(format!("Large object heap starts at {start:x}"))?,
        _ => out.line("Large object heap")?,
    }
    part(out, "large", &of(&[SegmentKind::Large]))?;
    let pinned = of(&[SegmentKind::Pinned]);
    if !pinned.is_empty() {
        out.line("Pinned object heap")?;
        part(out, "pinned", &pinned)?;
    }
    Ok(())
}

fn part(out: &mut Out, name: &'static str, segments: &[&&Segment]) -> Result<()> {
    out.table(name, COLUMNS, true)?;
    rows(out, segments)
}

fn rows(out: &mut Out, segments: &[&&Segment]) -> Result<()> {
    for s in segments {
        out.row(&[
            Cell::Addr(s.record),
            Cell::Addr(s.start),
            Cell::Addr(s.end),
            Cell::Addr(s.committed),
            size(s.len()),
            size(committed(s)),
        ])?;
    }
    Ok(())
}

fn stat(out: &mut Out, heap: &Heap, segments: &[Segment]) -> Result<()> {
    const COLUMNS: &[Col] = &[
        Col::left("Heap", "heap", 5),
        Col::left("Kind", "kind", 12),
        Col::right("Segments", "segments", 8),
        Col::right("Allocated", "allocated", 16),
        Col::right("Committed", "committed", 16),
        Col::right("Reserved", "reserved", 16),
    ];
    let kinds = [
        SegmentKind::Generation0,
        SegmentKind::Generation1,
        SegmentKind::Generation2,
        SegmentKind::Ephemeral,
        SegmentKind::Large,
        SegmentKind::Pinned,
        SegmentKind::Frozen,
    ];
    out.table("heaps", COLUMNS, true)?;
    let sum = |list: &[&Segment]| {
        let reserved = list.iter().map(|s| s.reserved.saturating_sub(s.base())).sum();
        (
            list.len() as u64,
            list.iter().map(|s| s.len()).sum::<u64>(),
            list.iter().map(|s| committed(s)).sum::<u64>(),
            reserved,
        )
    };
    let mut print = |heap: Cell<'_>, kind: &str, (n, a, c, r): (u64, u64, u64, u64)| {
        out.row(&[heap, Cell::text(kind.to_owned()), Cell::Sep(n), Cell::Sep(a), Cell::Sep(c), Cell::Sep(r)])
    };
    for sub in &heap.heaps {
        for kind in kinds {
            let own: Vec<&Segment> = segments.iter().filter(|s| s.heap == sub.index && s.kind == kind).collect();
            if !own.is_empty() {
                print(Cell::Num(u64::from(sub.index)), kind.name(), sum(&own))?;
            }
        }
    }
    print(Cell::text("Total"), "", sum(&segments.iter().collect::<Vec<_>>()))?;
    Ok(())
}

const LOADER: &[Col] = &[
    Col::left("", "kind", 21),
    Col::left("", "blocks", 0),
    Col::right("", "committed", 0),
    Col::right("", "wasted", 0),
];

/// The loader heaps: of the global allocator, of the JIT, of each collectible allocator, others.
fn loader(session: &Session, out: &mut Out) -> Result<Option<String>> {
    let clr = session.clr()?;
    let found = session.loader_heaps()?;
    let address = |a: Option<u64>| a.map_or("not in the dump".into(), |a| format!("{a:0v$x}", v = narrow_digits()));
    let of = |owner: Owner| found.heaps.items.iter().filter(move |h| h.owner == owner);
    let system = crate::clr::runtime::domains::system_domain(clr);
    out.line("Loader Heap:")?;
    out.line("-".repeat(40))?;
    // SOS gives the allocator of a domain by the domain's address.
    out.line(format!("{:<21} {}", "System Domain:", address(system)))?;
    out.line(format!("{:<21} {}", "LoaderAllocator:", address(system)))?;
    let mut total = group(out, of(Owner::Global))?;
    let app = crate::clr::runtime::domains::app_domain(clr);
    out.line(format!("{:<21} {}", "Domain 1:", address(app)))?;
    out.line(format!("{:<21} {}", "LoaderAllocator:", address(app)))?;
    if of(Owner::Domain).next().is_some() {
        total += group(out, of(Owner::Domain))?;
    } else {
        out.line("No unique loader heaps found.")?;
        out.line("-".repeat(40))?;
    }
    out.line(format!("{:<21} {}", "JIT Manager:", address(found.jit_manager)))?;
    total += group(out, of(Owner::Jit))?;
    let collectible = clr.loader_allocators();
    if !collectible.is_empty() {
        out.line("Module LoaderAllocators:")?;
    }
    for a in collectible {
        out.line(format!(
            "{:<21} {:0v$x} {}",
            "LoaderAllocator:",
            a.native,
            modules_of(clr, a.native),
            v = narrow_digits()
        ))?;
        total += group(out, of(Owner::Allocator(a.native)))?;
    }
    let mut rest = of(Owner::Unknown).peekable();
    if rest.peek().is_some() {
        out.line("Other loader heaps:")?;
        total += group(out, rest)?;
    }
    out.line(format!("Total LoaderHeap size:   Size: 0x{total:x} ({total}) bytes total."))?;
    out.line("=".repeat(40))?;
    Ok(found.heaps.partial.clone())
}

/// The modules that go when the collectible allocator at `native` goes, and the object that keeps them.
fn modules_of(clr: &Clr, native: u64) -> String {
    let own = |module: u64| clr.loader_allocator_of(module).filter(|a| a.native == native);
    let modules = clr.assemblies().items.iter().map(|a| a.module).filter(|&m| own(m).is_some());
    let names: Vec<String> = modules.map(|m| clr.module(m).display_name(clr)).collect();
    let object = clr.loader_allocators().iter().find(|a| a.native == native).map_or(0, |a| a.object);
    let names = if names.is_empty() { "no module".into() } else { names.join(", ") };
    format!("collectible: {names} (object {object:0v$x})", v = narrow_digits())
}

/// Prints heaps of one owner and returns their committed bytes.
fn group<'h>(out: &mut Out, heaps: impl Iterator<Item = &'h LoaderHeap>) -> Result<u64> {
    let (mut total, mut wasted) = (0, 0);
    out.table("loader", LOADER, false)?;
    for h in heaps {
        let blocks: Vec<String> =
            h.blocks.iter().map(|b| format!("{:x}({:x}:{:x})", b.start, b.size, b.committed)).collect();
        total += h.committed();
        wasted += h.wasted();
        let sizes = format!("Size: 0x{:x} ({}) bytes total{}", h.committed(), h.committed(), waste(h.wasted()));
        out.row(&[
            Cell::text(format!("{}:", h.kind)),
            Cell::text(blocks.join(" ")),
            Cell::As(sizes.into(), h.committed()),
        ])?;
    }
    out.line(format!("{:<21} Size: 0x{total:x} ({total}) bytes total{}", "Total size:", waste(wasted)))?;
    out.line("-".repeat(40))?;
    Ok(total)
}

/// `, 0xe000 (57344) bytes wasted.`, as the end of a line.
fn waste(bytes: u64) -> String {
    if bytes == 0 { ".".into() } else { format!(", 0x{bytes:x} ({bytes}) bytes wasted.") }
}
