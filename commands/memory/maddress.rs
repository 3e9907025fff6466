//! `!maddress`, `!vmmap`, `!vmstat`: the memory of the process in the forms SOS has for it.

use anyhow::Result;

use super::protect;
use super::usage::{Owner, UsageRange, classify, word};
use crate::dump::{Dump, MapEntry, MapState, MapType};
use crate::session::ranges::ManagedRange;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!maddress`.
pub const MADDRESS: Command = Command {
    name: "maddress",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "memory by what the runtime and the process use it for",
    help: "Every committed range with its kind, then totals by kind; -summary the totals alone, -images the totals of each \
           image, -list the ranges of these kinds (joined by commas). -reserve takes reserved memory in, -orderbysize sorts \
           ranges by size. !address -summary also says how much of each is in the dump.",
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
    returns: Returns::NOTHING,
    run: maddress,
};

const RANGES: &[Col] = &[
    Col::left("Memory Kind", "kind", 20),
    Col::right("StartAddr", "start", 16),
    Col::right("EndAddr-1", "last", 16),
    Col::right("Size", "size", 11),
    Col::left("Type", "type", 11),
    Col::left("State", "state", 11),
    Col::left("Protect", "protect", 30),
    Col::left("Image", "image", 0),
];
const TOTALS: &[Col] = &[
    Col::left("Memory Type", "kind", 0),
    Col::right("Count", "count", 0),
    Col::right("Size", "size", 0),
    Col::right("Size (bytes)", "bytes", 0),
];

/// The kind of a range in SOS's words.
fn kind(dump: &Dump, r: &UsageRange, e: &MapEntry) -> String {
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
    for r in classify(dump, &managed) {
        let Some(e) = dump.map.get(r.entry) else { continue };
        if e.state == MapState::Free || e.state == MapState::Reserve && !args.has("reserve") && lists.is_none() {
            continue;
        }
        let kind = kind(dump, &r, e);
        let bare = kind.trim_matches(['[', ']']);
        if lists.as_ref().is_none_or(|l| l.iter().any(|w| w.trim_matches(['[', ']']).eq_ignore_ascii_case(bare))) {
            chosen.push((kind, r, e));
        }
    }
    session.watch.cancel.check()?;
    if args.has("orderbysize") {
        chosen.sort_by_key(|c| std::cmp::Reverse(c.1.size()));
    }
    if args.has("images") {
        let images = chosen.iter().filter_map(|c| Some((dump.modules.get(c.2.module? as usize)?.path.as_str(), &c.1)));
        return totals(ctx, "images", images);
    }
    if !args.has("summary") {
        ctx.out.table("ranges", RANGES, true)?;
        for (kind, r, e) in &chosen {
            session.watch.cancel.check()?;
            let image = e.module.and_then(|i| dump.modules.get(i as usize)).map(|m| m.path.as_str());
            ctx.out.row(&[
                Cell::text(kind.as_str()),
                Cell::Addr(r.start),
                Cell::Addr(r.end - 1),
                Cell::As(human(r.size()).into(), r.size()),
                Cell::text(protect::kind(e.kind).1),
                Cell::text(protect::state(e.state).1),
                Cell::text(protect::of(e)),
                Cell::text(image.or(e.file.as_deref()).unwrap_or("")),
            ])?;
        }
        ctx.out.line("")?;
    }
    totals(ctx, "totals", chosen.iter().map(|c| (c.0.as_str(), &c.1)))
}

/// Ranges added up by name, the largest sum first, with the total of all.
fn totals<'r>(
    ctx: &mut Ctx<'_>,
    name: &'static str,
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
    let row = |name: &'r str, (count, bytes): (u64, u64)| {
        vec![Cell::text(name), Cell::Sep(count), Cell::As(human(bytes).into(), bytes), Cell::Sep(bytes)]
    };
    let mut rows: Vec<Vec<Cell<'_>>> = sums.iter().map(|(n, s)| row(n, *s)).collect();
    if ctx.out.format() == Format::Text {
        rows.push(row("[TOTAL]", all));
    }
    ctx.out.rows(name, TOTALS, true, &rows)?;
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
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let session = ctx.session()?;
        let digits = session.dump().arch.pointer_size() * 2;
        ctx.out.table("regions", VMMAP_COLUMNS, true)?;
        for e in &session.dump().map {
            session.watch.cancel.check()?;
            ctx.out.row(&[
                Cell::AddrPad(e.start, digits),
                Cell::AddrPad(e.end - 1, digits),
                Cell::Hex(e.end - e.start),
                Cell::text(protect::name(e.allocation_protect)),
                Cell::text(protect::of(e)),
                Cell::text(protect::state(e.state).1),
                Cell::text(protect::kind(e.kind).1),
            ])?;
        }
        Ok(Outcome::Complete)
    },
};

const VMMAP_COLUMNS: &[Col] = &[
    Col::right("Start", "start", 16),
    Col::right("Stop", "stop", 16),
    Col::right("Length", "length", 12),
    Col::left("AllocProtect", "alloc_protect", 22),
    Col::left("Protect", "protect", 22),
    Col::left("State", "state", 11),
    Col::left("Type", "type", 0),
];

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
    returns: Returns::NOTHING,
    run: vmstat,
};

const VMSTAT_COLUMNS: &[Col] = &[
    Col::left("TYPE", "type", 8),
    Col::right("MINIMUM", "minimum", 14),
    Col::right("MAXIMUM", "maximum", 14),
    Col::right("AVERAGE", "average", 14),
    Col::right("BLK COUNT", "count", 11),
    Col::right("TOTAL", "total", 16),
];

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
    ctx.out.table("sizes", VMSTAT_COLUMNS, true)?;
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
