//! `!maddress`, `!vmmap`, `!vmstat`: the memory of the process in the forms SOS has for it.

use anyhow::Result;

use super::nativeheap::parts::{Parts, Sums};
use super::protect;
use super::usage::{Owner, UsageRange, classify, word};
use crate::dump::{Dump, MapEntry, MapState, MapType};
use crate::session::ranges::ManagedRange;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!maddress`.
pub const MADDRESS: Command = Command {
    name: "maddress",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "memory by what the runtime and the process use it for",
    help: "Every committed range with its kind, then totals by kind; -summary the totals alone, -images the totals of each \
           image, -list the ranges of these kinds (joined by commas). -reserve takes reserved memory in, -orderbysize sorts \
           ranges by size. !address -summary also says how much of each is in the dump.\n\
           Behind the totals stands what memory outside the runtime and images holds; the parts of a kind add up to it. \
           Heap: blocks in use, free and cached chunks, tops of arenas, headers. Stack: what lies above the stack pointer, \
           below it, and guard pages where the dump lists them. FileMapping: the files. The other kinds: blocks with a \
           mapping of their own, and what most words of a sample of pages are.",
    args: &[
        Arg::flag("summary", "totals by kind alone").or(&["stat"]),
        Arg::flag("images", "totals of each image"),
        Arg::flag("reserve", "reserved memory too"),
        Arg::flag("orderbysize", "largest first"),
        Arg::opt("list", Kind::Text, "only these kinds, joined by commas"),
        Arg::flag("reserveheuristic", "accepted: reserved memory is told by its allocation"),
        Arg::flag("forcehandletable", "accepted; no effect"),
    ],
    examples: &[
        Example { line: "!maddress -summary", what: "totals by kind" },
        Example { line: "!maddress -list GCHeap,Stack", what: "the ranges of two kinds" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("total_count", "ranges in all", Type::Count),
        Fact::new("total_size", "their bytes", Type::Bytes),
    ])
    .and(&[&RANGES, &TOTALS, &IMAGES, &PARTS]),
    run: maddress,
};

const RANGES: Table = Table::new(
    "ranges",
    &[
        Col::left("Memory Kind", "kind", 20),
        Col::right("StartAddr", "start", 16).of(Type::Address),
        Col::right("EndAddr-1", "last", 16).of(Type::Address),
        Col::right("Size", "size", 11).of(Type::Bytes),
        Col::left("Type", "type", 11),
        Col::left("State", "state", 11),
        Col::left("Protect", "protect", 30),
        Col::left("Image", "image", 0),
    ],
);
const TOTALS: Table = Table::new("totals", &[Col::data("kind", Type::Text).titled("kind of memory"), COUNT, SIZE]);
const IMAGES: Table = Table::new("images", &[Col::data("image", Type::Text).titled("path of the image"), COUNT, SIZE]);
const PARTS: Table = Table::new(
    "parts",
    &[
        Col::left("Memory Type", "kind", 18),
        Col::right("Ranges", "ranges", 7).of(Type::Count),
        Col::right("Size (bytes)", "size", 15).of(Type::Bytes),
        Col::left("What it holds", "part", 0),
    ],
);
const COUNT: Col = Col::data("count", Type::Count).titled("ranges");
const SIZE: Col = Col::data("size", Type::Bytes).titled("their bytes");

/// The kind of a range in SOS's words.
pub fn kind(dump: &Dump, r: &UsageRange, e: &MapEntry) -> String {
    let reserved = e.state == MapState::Reserve;
    match r.usage {
        word::UNKNOWN if reserved => "[RESERVED]".into(),
        word::UNKNOWN => match protect::of(e) {
            p if p.is_empty() => "Other".into(),
            p => p,
        },
        word::FILE => "FileMapping".into(),
        word::TEB => "Teb".into(),
        word::PEB => "Peb".into(),
        word::BRK => "Heap".into(),
        "GCHeapReserve" => "[GCHeapReserve]".into(),
        word::IMAGE if is_runtime(dump, e) => "CLR".into(),
        usage if reserved && r.owner == Owner::Entry => format!("[{usage}Reserve]"),
        usage => usage.into(),
    }
}

/// A kind without the brackets of reserved memory.
pub fn bare(kind: &str) -> &str {
    kind.trim_matches(['[', ']'])
}

fn is_runtime(dump: &Dump, e: &MapEntry) -> bool {
    let module = e.module.and_then(|i| dump.modules.get(i as usize));
    module.is_some_and(|m| ["coreclr.dll", "libcoreclr.so", "clr.dll"].iter().any(|n| m.file_name().ends_with(n)))
}

/// `12.34mb`, as SOS prints sizes.
fn human(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..=1023 => format!("{bytes}b"),
        1024..=0xF_FFFF => format!("{:.2}kb", b / 1024.0),
        0x10_0000..=0x3FFF_FFFF => format!("{:.2}mb", b / 1_048_576.0),
        _ => format!("{:.2}gb", b / 1_073_741_824.0),
    }
}

fn maddress(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    let managed: Vec<ManagedRange> = session.managed_ranges()?;
    let lists: Option<Vec<&str>> = args.text("list").map(|t| t.split(',').map(str::trim).collect());
    let mut chosen: Vec<(String, UsageRange, &MapEntry)> = Vec::new();
    let (mut parts, mut sums) = (Parts::new(session, &managed)?, Sums::default());
    for r in classify(dump, &managed) {
        session.watch.cancel.check()?;
        let Some(e) = dump.map.get(r.entry) else { continue };
        if e.state == MapState::Free || e.state == MapState::Reserve && !args.has("reserve") && lists.is_none() {
            continue;
        }
        let kind = kind(dump, &r, e);
        if lists.as_ref().is_none_or(|l| l.iter().any(|w| bare(w).eq_ignore_ascii_case(bare(&kind)))) {
            sums.add(bare(&kind), &parts.of(&r));
            chosen.push((kind, r, e));
        }
    }
    if args.has("orderbysize") {
        chosen.sort_by_key(|c| std::cmp::Reverse(c.1.size()));
    }
    if args.has("images") {
        let images = chosen.iter().filter_map(|c| Some((dump.modules.get(c.2.module? as usize)?.path.as_str(), &c.1)));
        return totals(ctx, &IMAGES, images);
    }
    if !args.has("summary") {
        ctx.out.open(&RANGES)?;
        for (kind, r, e) in &chosen {
            session.watch.cancel.check()?;
            let image = e.module.and_then(|i| dump.modules.get(i as usize)).map(|m| m.path.as_str());
            ctx.out.row(&[
                Cell::shown(kind.as_str(), Cell::text(bare(kind))),
                Cell::Addr(r.start),
                Cell::Addr(r.end - 1),
                Cell::As(human(r.size()).into(), r.size()),
                protect::kind_cell(e.kind),
                Cell::text(protect::state(e.state).1),
                protect::cell(protect::of(e)),
                Cell::maybe(image.or(e.file.as_deref())),
            ])?;
        }
        ctx.out.note("")?;
    }
    let outcome = totals(ctx, &TOTALS, chosen.iter().map(|c| (c.0.as_str(), &c.1)))?;
    show_parts(ctx, sums)?;
    Ok(outcome)
}

/// What the ranges hold.
fn show_parts(ctx: &mut Ctx<'_>, sums: Sums) -> Result<()> {
    let rows = sums.rows();
    if rows.is_empty() {
        return Ok(());
    }
    ctx.out.note("")?;
    ctx.out.open(&PARTS)?;
    for (kind, part, ranges, bytes) in &rows {
        ctx.out.row(&[Cell::text(kind.as_str()), Cell::Sep(*ranges), Cell::Sep(*bytes), Cell::text(&**part)])?;
    }
    Ok(())
}

/// Ranges added up by name, the largest sum first, with the total of all.
fn totals<'r>(
    ctx: &mut Ctx<'_>,
    table: &Table,
    ranges: impl Iterator<Item = (&'r str, &'r UsageRange)>,
) -> Result<Outcome> {
    let mut sums = rustc_hash::FxHashMap::<&str, (u64, u64)>::default();
    for (kind, r) in ranges {
        let sum = sums.entry(kind).or_default();
        *sum = (sum.0 + 1, sum.1 + r.size());
    }
    let mut sums: Vec<(&str, (u64, u64))> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.1.cmp(&a.1.1).then(a.0.cmp(b.0)));
    let all = sums.iter().fold((0, 0), |t, s| (t.0 + s.1.0, t.1 + s.1.1));
    let line = |name: &str, (count, size): (u64, u64)| {
        [name.replace('\n', "."), thousands(count), human(size), thousands(size)]
    };
    let titles = ["Memory Type", "Count", "Size", "Size (bytes)"].map(str::to_owned);
    let lines: Vec<[String; 4]> = sums.iter().map(|(n, s)| line(n, *s)).collect();
    let total = line("[TOTAL]", all);
    let width = |i: usize| {
        let widths = lines.iter().chain([&titles, &total]).filter_map(|l| l.get(i)).map(|t| t.chars().count());
        widths.max().unwrap_or(0)
    };
    let [a, b, c, d] = [width(0), width(1), width(2), width(3)];
    let aligned = |[name, count, size, bytes]: &[String; 4]| format!("{name:<a$} {count:>b$} {size:>c$} {bytes:>d$}");
    ctx.out.open_as(table, &aligned(&titles))?;
    for ((name, (count, size)), l) in sums.iter().zip(&lines) {
        let cells = [Cell::text(bare(name)), Cell::Num(*count), Cell::Num(*size)];
        ctx.out.row_as(table, &cells, aligned(l))?;
    }
    ctx.out.facts(&[("total_count", Cell::Num(all.0)), ("total_size", Cell::Num(all.1))], aligned(&total))?;
    Ok(if sums.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// `!vmmap`.
pub const VMMAP: Command = Command {
    name: "vmmap",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "list all regions in one table",
    help: "Every region of the dump's memory map, free ones included: bounds, length, protections, state, type.",
    args: &[],
    examples: &[Example { line: "!vmmap | find EXECUTE", what: "where code may run" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&REGIONS]),
    run: |ctx, _| {
        let session = ctx.session()?;
        let digits = session.dump().arch.pointer_size() * 2;
        ctx.out.open(&REGIONS)?;
        for e in &session.dump().map {
            session.watch.cancel.check()?;
            ctx.out.row(&[
                Cell::AddrPad(e.start, digits),
                Cell::AddrPad(e.end - 1, digits),
                Cell::shown(format!("{:x}", e.end - e.start), Cell::Num(e.end - e.start)),
                protect::cell(protect::name(e.allocation_protect)),
                protect::cell(protect::of(e)),
                Cell::text(protect::state(e.state).1),
                protect::kind_cell(e.kind),
            ])?;
        }
        Ok(Outcome::Complete)
    },
};

const REGIONS: Table = Table::new(
    "regions",
    &[
        Col::right("Start", "start", 16).of(Type::Address),
        Col::right("Stop", "stop", 16).of(Type::Address),
        Col::right("Length", "length", 12).of(Type::Bytes),
        Col::left("AllocProtect", "allocation_protect", 22),
        Col::left("Protect", "protect", 22),
        Col::left("State", "state", 11),
        Col::left("Type", "type", 0),
    ],
);

/// `!vmstat`.
pub const VMSTAT: Command = Command {
    name: "vmstat",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "sizes of regions by state and type, in kilobytes",
    help: "For free, reserved, committed, private, mapped and image memory: smallest, largest and mean region, how many \
           there are, and their sum, in units of 1024 bytes.",
    args: &[],
    examples: &[Example { line: "!vmstat", what: "sizes of regions" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&SIZES]),
    run: vmstat,
};

const SIZES: Table = Table::new(
    "sizes",
    &[
        Col::left("TYPE", "type", 8),
        Col::right("MINIMUM", "minimum", 14).of(Type::Number).unit("kB"),
        Col::right("MAXIMUM", "maximum", 14).of(Type::Number).unit("kB"),
        Col::right("AVERAGE", "average", 14).of(Type::Number).unit("kB"),
        Col::right("BLK COUNT", "count", 11).of(Type::Count),
        Col::right("TOTAL", "total", 16).of(Type::Number).unit("kB"),
    ],
);

fn vmstat(ctx: &mut Ctx<'_>, _: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    type Test = fn(&MapEntry) -> bool;
    let rows: [(&str, Test); 6] = [
        ("Free", |e| e.state == MapState::Free),
        ("Reserve", |e| e.state == MapState::Reserve),
        ("Commit", |e| e.state == MapState::Commit),
        ("Private", |e| e.state != MapState::Free && e.kind == MapType::Private),
        ("Mapped", |e| e.state != MapState::Free && e.kind == MapType::Mapped),
        ("Image", |e| e.state != MapState::Free && e.kind == MapType::Image),
    ];
    ctx.out.open(&SIZES)?;
    for (name, test) in rows {
        let sizes: Vec<u64> = dump.map.iter().filter(|e| test(e)).map(|e| (e.end - e.start) / 1024).collect();
        let total: u64 = sizes.iter().sum();
        let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
        let count = sizes.len() as u64;
        ctx.out.row(&[
            Cell::text(name),
            Cell::Sep(least),
            Cell::Sep(most),
            Cell::Sep(total.checked_div(count).unwrap_or(0)),
            Cell::Sep(count),
            Cell::Sep(total),
        ])?;
    }
    Ok(Outcome::Complete)
}
