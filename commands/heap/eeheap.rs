//! `!eeheap`: the GC heaps by generation and segment, with totals.

use anyhow::Result;

use super::filter::Filter;
use crate::clr::Clr;
use crate::clr::runtime::loaderheaps::{LoaderHeap, Owner};
use crate::heap::{Heap, Segment, SegmentKind, SubHeap};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits, narrow_digits,
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
        Filter::HEAP,
        Filter::SEGMENT,
    ],
    examples: &[Example { line: "!eeheap -gc", what: "segments and sizes" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("datas", "dynamic adaptation mode (DATAS)", Type::Number),
        Fact::new("gc_heaps", "GC heaps of the process", Type::Count),
        Fact::new("segments", "segments listed or counted", Type::Count),
        Fact::new("allocated", "their allocated bytes", Type::Bytes),
        Fact::new("committed", "their committed bytes", Type::Bytes),
        Fact::new("reserved", "their reserved bytes", Type::Bytes),
        Fact::new("loader_committed", "committed bytes of all loader heaps", Type::Bytes),
    ])
    .and(&[&HEAPS, &SEGMENTS, &STATISTICS, &ALLOCATORS, &MODULES, &LOADER_HEAPS, &BLOCKS]),
    run,
};

const HEAP: Col = Col::data("heap", Type::Count).titled("number of the GC heap");

/// The GC heaps.
const HEAPS: Table = Table::new(
    "gc_heaps",
    &[
        HEAP,
        Col::data("address", Type::Address).titled("the heap (server GC)"),
        Col::data("gen0_start", Type::Address).titled("where generation 0 starts (segments, not regions)"),
        Col::data("gen1_start", Type::Address).titled("where generation 1 starts (segments, not regions)"),
        Col::data("gen2_start", Type::Address).titled("where generation 2 starts (segments, not regions)"),
        Col::data("loh_start", Type::Address).titled("where the large object heap starts (segments, not regions)"),
        Col::data("context_start", Type::Address).titled("allocation context of the ephemeral segment: next object"),
        Col::data("context_end", Type::Address).titled("its end"),
    ],
);

/// Segments or regions of the GC heaps.
const SEGMENTS: Table = Table::new(
    "segments",
    &[
        HEAP,
        Col::data("kind", Type::Text).titled("Generation0 to 2, Ephemeral, Large, Pinned, Frozen"),
        Col::right("segment", "segment", 16).of(Type::Address),
        Col::right("begin", "begin", 16).of(Type::Address),
        Col::right("allocated", "allocated", 16).of(Type::Address),
        Col::right("committed", "committed", 16).of(Type::Address),
        Col::left("allocated size", "allocated_size", 18).of(Type::Bytes),
        Col::left("committed size", "committed_size", 18).of(Type::Bytes),
    ],
)
.under("gc_heaps", "heap");

/// Sums by heap and kind of segment.
const STATISTICS: Table = Table::new(
    "heaps",
    &[
        Col::left("Heap", "heap", 5).of(Type::Count),
        Col::left("Kind", "kind", 12),
        Col::right("Segments", "segments", 8).of(Type::Count),
        Col::right("Allocated", "allocated", 16).of(Type::Bytes),
        Col::right("Committed", "committed", 16).of(Type::Bytes),
        Col::right("Reserved", "reserved", 16).of(Type::Bytes),
    ],
);

const ALLOCATOR: Col = Col::data("allocator", Type::Count).titled("number of the owner of loader heaps");

/// Owners of loader heaps.
const ALLOCATORS: Table = Table::new(
    "allocators",
    &[
        ALLOCATOR,
        Col::data("owner", Type::Text).titled("system domain, domain, JIT manager, collectible allocator or unknown"),
        Col::data("address", Type::Address).titled("where it lies"),
        Col::data("object", Type::Address).titled("the managed object that keeps a collectible allocator"),
        Col::data("committed", Type::Bytes).titled("committed bytes of its heaps"),
        Col::data("wasted", Type::Bytes).titled("bytes given up at the end of full blocks"),
    ],
);

/// Modules that go with a collectible allocator.
const MODULES: Table = Table::new(
    "modules",
    &[
        ALLOCATOR,
        Col::data("module", Type::Address).titled("a module that goes with it"),
        Col::data("name", Type::Text).titled("its name"),
    ],
)
.under("allocators", "allocator");

const LOADER_HEAP: Col = Col::data("loader_heap", Type::Count).titled("number of the loader heap");

/// Loader heaps.
const LOADER_HEAPS: Table = Table::new(
    "loader_heaps",
    &[
        LOADER_HEAP,
        ALLOCATOR,
        Col::data("kind", Type::Text).titled("what it is for, LoaderHeap where only its shape is known"),
        Col::data("committed", Type::Bytes).titled("committed bytes of its blocks"),
        Col::data("wasted", Type::Bytes).titled("bytes given up at the end of full blocks"),
    ],
)
.under("allocators", "allocator");

/// Blocks of loader heaps.
const BLOCKS: Table = Table::new(
    "blocks",
    &[
        LOADER_HEAP,
        Col::data("start", Type::Address).titled("where it starts"),
        Col::data("size", Type::Bytes).titled("reserved bytes"),
        Col::data("committed", Type::Bytes).titled("committed bytes"),
    ],
)
.under("loader_heaps", "loader_heap");

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let heap = session.heap()?;
    let filter = Filter::new(args)?;
    let segments = filter.segments(session)?;
    let all = !args.has("gc") && !args.has("loader") && !args.has("stat");
    let mut partial = heap.problems.first().cloned();
    if session.clr()?.ahead().is_some() && args.has("loader") {
        ctx.out.note("A NativeAOT program has no loader heaps: types and code lie in its image.")?;
    } else if session.clr()?.ahead().is_none() && (args.has("loader") || all) {
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
    out.note("")?;
    let mode = datas.map(|d| d.to_string()).unwrap_or_default();
    out.fact("datas", datas.map_or(Cell::None, |d| Cell::Num(u64::from(d))), format!("DATAS = {mode}"))?;
    out.note("=".repeat(40))?;
    let count = heap.heaps.len();
    out.fact("gc_heaps", Cell::Num(count as u64), format!("Number of GC Heaps: {count}"))?;
    out.note("-".repeat(40))?;
    for sub in &heap.heaps {
        let own: Vec<&Segment> = segments.iter().filter(|s| s.heap == sub.index).collect();
        if own.is_empty() && filtered {
            continue;
        }
        let cells = cells_of(heap, sub);
        if heap.server {
            out.row_as(&HEAPS, &cells, format!("Heap {} ({:0w$x})", sub.index, sub.address, w = digits()))?;
        } else {
            out.data_row(&HEAPS, &cells)?;
        }
        one(out, heap, sub, &own)?;
        if heap.server && heap.heaps.len() > 1 {
            out.note("-".repeat(30))?;
        }
    }
    out.note("-".repeat(30))?;
    let partial = if filtered { "Partial " } else { "" };
    let (a, c) = (segments.iter().map(Segment::len).sum::<u64>(), segments.iter().map(committed).sum::<u64>());
    out.datum("segments", &Cell::Num(segments.len() as u64));
    let line = |what: &str, n: u64| format!("{partial}GC {what} Heap Size:    Size: 0x{n:x} ({n}) bytes.");
    out.fact("allocated", Cell::Num(a), line("Allocated", a))?;
    out.fact("committed", Cell::Num(c), line("Committed", c))?;
    Ok(())
}

/// A row of [`HEAPS`].
fn cells_of(heap: &Heap, sub: &SubHeap) -> [Cell<'static>; 8] {
    let start = |g: usize| match sub.allocation_starts.get(g) {
        Some(&start) if !heap.regions => Cell::Addr(start),
        _ => Cell::None,
    };
    let context = sub.contexts.first().filter(|_| !heap.regions);
    [
        Cell::Num(u64::from(sub.index)),
        if heap.server { Cell::Addr(sub.address) } else { Cell::None },
        start(0),
        start(1),
        start(2),
        start(3),
        context.map_or(Cell::None, |c| Cell::Addr(c.0)),
        context.map_or(Cell::None, |c| Cell::Addr(c.1)),
    ]
}

fn one(out: &mut Out, heap: &Heap, sub: &SubHeap, own: &[&Segment]) -> Result<()> {
    if !heap.regions {
        for (g, start) in sub.allocation_starts.iter().enumerate().take(3) {
            out.facts(&[], format!("generation {g} starts at {start:x}"))?;
        }
        let context = sub.contexts.first().map_or("none".into(), |c| format!("(0x{:x}, 0x{:x})", c.0, c.1));
        out.facts(&[], format!("ephemeral segment allocation context: {context}"))?;
    }
    out.note("Small object heap")?;
    let of = |kinds: &[SegmentKind]| -> Vec<&&Segment> { own.iter().filter(|s| kinds.contains(&s.kind)).collect() };
    if heap.regions {
        out.open(&SEGMENTS)?;
        for (g, kind) in
            [SegmentKind::Generation0, SegmentKind::Generation1, SegmentKind::Generation2].into_iter().enumerate()
        {
            out.note(format!("generation {g}:"))?;
            rows(out, &of(&[kind]))?;
        }
    } else {
        part(out, &of(&[SegmentKind::Ephemeral, SegmentKind::Generation2]))?;
    }
    let frozen = of(&[SegmentKind::Frozen]);
    if !frozen.is_empty() {
        out.note("NonGC heap")?;
        part(out, &frozen)?;
    }
    match sub.allocation_starts.get(3) {
        Some(&start) if !heap.regions => out.facts(&[], format!("Large object heap starts at {start:x}"))?,
        _ => out.note("Large object heap")?,
    }
    part(out, &of(&[SegmentKind::Large]))?;
    let pinned = of(&[SegmentKind::Pinned]);
    if !pinned.is_empty() {
        out.note("Pinned object heap")?;
        part(out, &pinned)?;
    }
    Ok(())
}

fn part(out: &mut Out, segments: &[&&Segment]) -> Result<()> {
    out.open(&SEGMENTS)?;
    rows(out, segments)
}

fn rows(out: &mut Out, segments: &[&&Segment]) -> Result<()> {
    for s in segments {
        out.row(&[
            Cell::Num(u64::from(s.heap)),
            Cell::text(s.kind.name()),
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
    let kinds = [
        SegmentKind::Generation0,
        SegmentKind::Generation1,
        SegmentKind::Generation2,
        SegmentKind::Ephemeral,
        SegmentKind::Large,
        SegmentKind::Pinned,
        SegmentKind::Frozen,
    ];
    out.open(&STATISTICS)?;
    let sum = |list: &[&Segment]| {
        let reserved = list.iter().map(|s| s.reserved.saturating_sub(s.base())).sum();
        (
            list.len() as u64,
            list.iter().map(|s| s.len()).sum::<u64>(),
            list.iter().map(|s| committed(s)).sum::<u64>(),
            reserved,
        )
    };
    for sub in &heap.heaps {
        for kind in kinds {
            let own: Vec<&Segment> = segments.iter().filter(|s| s.heap == sub.index && s.kind == kind).collect();
            if !own.is_empty() {
                let (n, a, c, r) = sum(&own);
                let heap = Cell::Num(u64::from(sub.index));
                out.row(&[heap, Cell::text(kind.name()), Cell::Sep(n), Cell::Sep(a), Cell::Sep(c), Cell::Sep(r)])?;
            }
        }
    }
    let (n, a, c, r) = sum(&segments.iter().collect::<Vec<_>>());
    let line = format!(
        "{:<5} {:<12} {:>8} {:>16} {:>16} {:>16}",
        "Total",
        "",
        thousands(n),
        thousands(a),
        thousands(c),
        thousands(r)
    );
    let numbers = [("segments", n), ("allocated", a), ("committed", c), ("reserved", r)];
    out.facts(&numbers.map(|(key, n)| (key, Cell::Num(n))), line)?;
    Ok(())
}

/// The loader heaps: of the global allocator, of the JIT, of each collectible allocator, others.
fn loader(session: &Session, out: &mut Out) -> Result<Option<String>> {
    let clr = session.clr()?;
    let found = session.loader_heaps()?;
    let by_owner = found.by_owner();
    let of = |owner: Owner| by_owner.get(&owner).copied().unwrap_or(&[]).iter();
    let system = crate::clr::runtime::domains::system_domain(clr);
    out.note("Loader Heap:")?;
    out.note("-".repeat(40))?;
    // SOS gives the allocator of a domain by the domain's address.
    heading(out, "System Domain:", system)?;
    heading(out, "LoaderAllocator:", system)?;
    let mut total = group(out, &Holder::new("system domain", system), of(Owner::Global))?;
    let app = crate::clr::runtime::domains::app_domain(clr);
    heading(out, "Domain 1:", app)?;
    heading(out, "LoaderAllocator:", app)?;
    let domain = Holder::new("domain", app);
    if of(Owner::Domain).next().is_some() {
        total += group(out, &domain, of(Owner::Domain))?;
    } else {
        out.note("No unique loader heaps found.")?;
        let number = out.count(&ALLOCATORS) + 1;
        out.data_row(&ALLOCATORS, &domain.cells(number, 0, 0))?;
        out.note("-".repeat(40))?;
    }
    heading(out, "JIT Manager:", found.jit_manager)?;
    total += group(out, &Holder::new("JIT manager", found.jit_manager), of(Owner::Jit))?;
    let collectible = clr.loader_allocators();
    if !collectible.is_empty() {
        out.note("Module LoaderAllocators:")?;
    }
    for a in collectible {
        let owner = Holder { object: Some(a.object), ..Holder::new("collectible allocator", Some(a.native)) };
        modules_of(clr, out, &owner)?;
        total += group(out, &owner, of(Owner::Allocator(a.native)))?;
    }
    let mut rest = of(Owner::Unknown).peekable();
    if rest.peek().is_some() {
        out.note("Other loader heaps:")?;
        total += group(out, &Holder::new("unknown", None), rest)?;
    }
    let line = format!("Total LoaderHeap size:   Size: 0x{total:x} ({total}) bytes total.");
    out.fact("loader_committed", Cell::Num(total), line)?;
    out.note("=".repeat(40))?;
    Ok(found.heaps.partial.clone())
}

/// Whose the loader heaps of a group are.
struct Holder {
    owner: &'static str,
    address: Option<u64>,
    /// The managed object of a collectible allocator.
    object: Option<u64>,
}

impl Holder {
    fn new(owner: &'static str, address: Option<u64>) -> Self {
        Self { owner, address, object: None }
    }

    /// A row of [`ALLOCATORS`].
    fn cells(&self, number: u64, committed: u64, wasted: u64) -> [Cell<'static>; 6] {
        let address = |a: Option<u64>| a.map_or(Cell::None, Cell::Addr);
        [
            Cell::Num(number),
            Cell::text(self.owner),
            address(self.address),
            address(self.object),
            Cell::Num(committed),
            Cell::Num(wasted),
        ]
    }
}

/// A line that begins a group: what text alone has, its address stands in the group's row.
fn heading(out: &mut Out, what: &str, address: Option<u64>) -> Result<()> {
    let address = address.map_or("not in the dump".into(), |a| format!("{a:0v$x}", v = narrow_digits()));
    Ok(out.facts(&[], format!("{what:<21} {address}"))?)
}

/// Says which modules go when a collectible allocator goes, and the object that keeps them.
fn modules_of(clr: &Clr, out: &mut Out, owner: &Holder) -> Result<()> {
    let native = owner.address.unwrap_or(0);
    let modules = clr.modules_of_loader_allocator(native).iter();
    let names: Vec<(u64, String)> = modules.map(|&m| (m, clr.module(m).display_name(clr))).collect();
    let number = out.count(&ALLOCATORS) + 1;
    for (module, name) in &names {
        out.data_row(&MODULES, &[Cell::Num(number), Cell::Addr(*module), Cell::text(name)])?;
    }
    let names: Vec<String> = names.into_iter().map(|n| n.1).collect();
    let names = if names.is_empty() { "no module".into() } else { names.join(", ") };
    let (object, v) = (owner.object.unwrap_or(0), narrow_digits());
    let line = format!("{:<21} {native:0v$x} collectible: {names} (object {object:0v$x})", "LoaderAllocator:");
    Ok(out.facts(&[], line)?)
}

/// Prints heaps of one owner and returns their committed bytes.
fn group<'h>(out: &mut Out, owner: &Holder, heaps: impl Iterator<Item = &'h LoaderHeap>) -> Result<u64> {
    let (mut total, mut wasted) = (0, 0);
    let allocator = out.count(&ALLOCATORS) + 1;
    for h in heaps {
        let blocks: Vec<String> =
            h.blocks.iter().map(|b| format!("{:x}({:x}:{:x})", b.start, b.size, b.committed)).collect();
        total += h.committed();
        wasted += h.wasted();
        let sizes = format!("Size: 0x{:x} ({}) bytes total{}", h.committed(), h.committed(), waste(h.wasted()));
        let number = out.count(&LOADER_HEAPS) + 1;
        let cells = [
            Cell::Num(number),
            Cell::Num(allocator),
            Cell::text(h.kind),
            Cell::Num(h.committed()),
            Cell::Num(h.wasted()),
        ];
        let line = format!("{:<21} {} {sizes}", format!("{}:", h.kind), blocks.join(" "));
        out.row_as(&LOADER_HEAPS, &cells, line)?;
        for b in &h.blocks {
            let cells = [Cell::Num(number), Cell::Addr(b.start), Cell::Num(b.size), Cell::Num(b.committed)];
            out.data_row(&BLOCKS, &cells)?;
        }
    }
    let line = format!("{:<21} Size: 0x{total:x} ({total}) bytes total{}", "Total size:", waste(wasted));
    out.row_as(&ALLOCATORS, &owner.cells(allocator, total, wasted), line)?;
    out.note("-".repeat(40))?;
    Ok(total)
}

/// `, 0xe000 (57344) bytes wasted.`, as the end of a line.
fn waste(bytes: u64) -> String {
    if bytes == 0 { ".".into() } else { format!(", 0x{bytes:x} ({bytes}) bytes wasted.") }
}
