//! `!address`: what each range of the process's memory is.

use anyhow::{Result, anyhow, bail};

use super::usage::{Detail, UsageRange, classify, detail, word};
use super::wide;
use super::{module_name, protect, summary, tick};
use crate::dump::{Dump, MapEntry, MapState, MapType, Presence};
use crate::session::ranges::ManagedRange;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Request, Returns, Table,
    Type,
};

/// `!address`.
pub const ADDRESS: Command = Command {
    name: "address",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "what the process's memory is used for: -summary, all regions, or one address",
    help: "-summary adds up by use, type, state and protection, says how much of each is in the dump, and names the \
           largest regions. Without arguments: all regions. With ADDR: the region that holds it and what it is.\n\
           -f takes filters, joined by commas: uses (VAR for <unknown>, Free, Image, Stack, Teb, Peb, Heap, FileMap, \
           GCHeap, ...), types (MEM_IMAGE, MEM_MAPPED, MEM_PRIVATE), states (MEM_COMMIT, MEM_RESERVE, MEM_FREE), \
           protections (PAGE_*), contents (dumped, mapped, unknown). Filters of one kind widen, of several kinds \
           narrow.\n\
           -c:\"COMMANDS\" runs commands for each region, %1 being its base, %2 its end, %3 its size, %4 its type, %5 its \
           state, %6 its protection, %7 its use.\n\
           -o:csv and -o:tsv print columns for programs, -o:1 addresses alone.\n\
           The column Content says whether the bytes are in the dump, or the range is only known to be mapped.",
    args: &[
        Arg::pos("ADDR", Kind::Address, "show what holds this address"),
        Arg::flag("summary", "totals"),
        Arg::opt("f", Kind::Text, "only regions that match (VAR,MEM_PRIVATE,...)").list(FILTERS),
        Arg::opt("c", Kind::Text, "run this for each region"),
        Arg::opt("o", Kind::OneOf(&["csv", "tsv", "1"]), "output for programs"),
    ],
    examples: &[
        Example { line: "!address -summary", what: "what the memory of the process is" },
        Example { line: "!address -f:Stack", what: "the stacks" },
        Example { line: "!address -f:Stack -c:\".echo %1 %3\"", what: "a line of one's own for each stack" },
        Example { line: "!address @$csp", what: "what the stack pointer points to" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("address", "the address asked for", Type::Address),
        Fact::new("usage", "what the region that holds it is used for", Type::Text),
        Fact::new("base", "where the region begins", Type::Address),
        Fact::new("end", "one past its last address", Type::Address),
        Fact::new("size", "its bytes", Type::Bytes),
        Fact::new("state", "MEM_COMMIT, MEM_RESERVE or MEM_FREE", Type::Text),
        Fact::new("state_bits", "the same as bits", Type::Hex),
        Fact::new("protect", "its protection", Type::Text),
        Fact::new("protect_bits", "the same as bits", Type::Hex),
        Fact::new("type", "MEM_PRIVATE, MEM_MAPPED or MEM_IMAGE", Type::Text),
        Fact::new("type_bits", "the same as bits", Type::Hex),
        Fact::new("allocation_base", "where the allocation begins that it is a part of", Type::Address),
        Fact::new("allocation_protect", "protection of the allocation when it was made", Type::Text),
        Fact::new("allocation_protect_bits", "the same as bits", Type::Hex),
        Fact::new("module", "the module mapped there", Type::Text),
        Fact::new("path", "the path of the module or file mapped there", Type::Path),
        Fact::new("file", "the file name of the module", Type::Path),
        Fact::new("mapped_file", "the path of the file mapped there, as the memory map has it", Type::Path),
        Fact::new("detail", "what the runtime says of it", Type::Text),
        Fact::new("thread", "number of the thread whose stack or block it is", Type::Number),
        Fact::new("os_id", "operating system id of that thread", Type::Hex),
        Fact::new("pid", "process id, of what belongs to the process or a thread", Type::Number),
        Fact::new("heap", "handle of the heap of the operating system it belongs to", Type::Address),
        Fact::new("content_source", "0 none, 1 the dump, 2 an image file", Type::Number),
        Fact::new("content_length", "bytes that can be read from the address on", Type::Bytes),
    ])
    .and(&[&REGIONS])
    .with(&[&summary::RETURNS]),
    run: address,
};

fn address(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let managed = session.managed_ranges()?;
    let ranges = classify(session.dump(), &managed);
    let filter = Filter::parse(args.text("f").unwrap_or(""))?;
    if args.has("summary") {
        return summary::print(ctx, session.dump(), &managed, &ranges);
    }
    if let Some(a) = args.number("ADDR") {
        return one(ctx, session.dump(), &managed, &ranges, a);
    }
    let kept: Vec<&UsageRange> = ranges.iter().filter(|r| filter.passes(session.dump(), r)).collect();
    if let Some(line) = args.text("c") {
        rows(ctx, session.dump(), &managed, &kept)?;
        ctx.request = Some(Request::Lines(kept.iter().filter_map(|r| filled(session.dump(), r, line)).collect()));
        return Ok(if kept.is_empty() { Outcome::Empty } else { Outcome::Complete });
    }
    match args.text("o") {
        Some("1") => bare(ctx, session.dump(), &managed, &kept)?,
        Some(o) => machine(ctx, session.dump(), &managed, &kept, if o == "tsv" { '\t' } else { ',' })?,
        None => list(ctx, session.dump(), &managed, &kept)?,
    }
    Ok(if kept.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// Filters by kind; an empty one lets everything pass.
#[derive(Debug, Default)]
struct Filter {
    usages: Vec<String>,
    kinds: Vec<MapType>,
    states: Vec<MapState>,
    pages: Vec<u32>,
    contents: Vec<Presence>,
}

/// Words [`Filter::parse`] knows; any other one is a use.
const FILTERS: &[&str] = &[
    word::FREE,
    word::IMAGE,
    word::STACK,
    word::HEAP,
    word::TEB,
    word::PEB,
    word::FILE,
    "GCHeap",
    "VAR",
    "FileMap",
    "MEM_PRIVATE",
    "MEM_MAPPED",
    "MEM_IMAGE",
    "MEM_COMMIT",
    "MEM_RESERVE",
    "MEM_FREE",
    "PAGE_NOACCESS",
    "PAGE_READONLY",
    "PAGE_READWRITE",
    "PAGE_WRITECOPY",
    "PAGE_EXECUTE",
    "PAGE_EXECUTE_READ",
    "PAGE_EXECUTE_READWRITE",
    "PAGE_GUARD",
    "dumped",
    "mapped",
    "unknown",
];

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let mut f = Self::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word.to_ascii_uppercase().as_str() {
                "MEM_PRIVATE" => f.kinds.push(MapType::Private),
                "MEM_MAPPED" => f.kinds.push(MapType::Mapped),
                "MEM_IMAGE" => f.kinds.push(MapType::Image),
                "MEM_COMMIT" => f.states.push(MapState::Commit),
                "MEM_RESERVE" => f.states.push(MapState::Reserve),
                "MEM_FREE" => f.states.push(MapState::Free),
                "DUMPED" => f.contents.push(Presence::Dumped),
                "MAPPED" => f.contents.push(Presence::MappedOnly),
                "UNKNOWN" => f.contents.push(Presence::Unknown),
                "VAR" => f.usages.push(word::UNKNOWN.into()),
                "FILEMAP" => f.usages.push(word::FILE.into()),
                page if page.starts_with("PAGE_") => {
                    f.pages.push(protect::bit(page).ok_or_else(|| anyhow!("no protection {page}"))?);
                }
                mem if mem.starts_with("MEM_") => {
                    bail!("no filter {mem}; MEM_ has IMAGE MAPPED PRIVATE COMMIT RESERVE FREE")
                }
                _ => f.usages.push(word.to_owned()),
            }
        }
        Ok(f)
    }

    fn passes(&self, dump: &Dump, r: &UsageRange) -> bool {
        let Some(e) = dump.map.get(r.entry) else { return false };
        let any = |list: bool, hit: bool| list || hit;
        any(self.usages.is_empty(), self.usages.iter().any(|u| u.eq_ignore_ascii_case(r.usage)))
            && any(self.kinds.is_empty(), self.kinds.contains(&e.kind))
            && any(self.states.is_empty(), self.states.contains(&e.state))
            && any(self.pages.is_empty(), self.pages.iter().any(|p| e.protect & p != 0))
            && any(self.contents.is_empty(), self.contents.contains(&e.presence))
    }
}

/// The commands of `-c` for one region.
fn filled(dump: &Dump, r: &UsageRange, line: &str) -> Option<String> {
    let e = dump.map.get(r.entry)?;
    let values = [
        format!("0x{:x}", r.start),
        format!("0x{:x}", r.end),
        format!("0x{:x}", r.size()),
        protect::kind(e.kind).1.to_owned(),
        protect::state(e.state).1.to_owned(),
        protect::of(e),
        r.usage.to_owned(),
    ];
    let mut out = line.to_owned();
    for (i, v) in values.iter().enumerate() {
        out = out.replace(&format!("%{}", i + 1), v);
    }
    Some(out)
}

/// The regions; the options for programs print other lines of the same.
const REGIONS: Table = Table::new(
    "regions",
    &[
        Col::left("", "first", 1).of(Type::Bool).titled("an allocation begins here"),
        Col::right("BaseAddress", "base", 17).of(Type::Address),
        Col::right("EndAddress+1", "end", 17).of(Type::Address),
        Col::right("RegionSize", "size", 17).of(Type::Bytes),
        Col::left("Type", "type", 11),
        Col::left("State", "state", 11),
        Col::left("Protect", "protect", 34),
        Col::left("Usage", "usage", 10),
        Col::left("Content", "content", 8),
        Col::left("", "detail", 0).titled("what the runtime says of it"),
        Col::data("thread", Type::Number).titled("number of the thread whose stack or block it is"),
        Col::data("os_id", Type::Hex).titled("operating system id of that thread"),
        Col::data("pid", Type::Number).titled("process id, of what belongs to the process or a thread"),
        Col::data("heap", Type::Address).titled("handle of the heap of the operating system it belongs to"),
        Col::data("module", Type::Text).titled("the module mapped there"),
        Col::data("path", Type::Path).titled("the path of the module or file mapped there"),
    ],
);
const HEAD: &str = "        BaseAddress      EndAddress+1        RegionSize     Type       State                 Protect             Usage      Content";

fn row<'r>(r: &UsageRange, e: &MapEntry, d: &'r Detail<'_>) -> [Cell<'r>; 16] {
    let first = e.allocation_base == r.start || e.state == MapState::Free;
    let [detail, thread, os_id, pid, heap, module, path] = detail_cells(d);
    [
        Cell::Either(first, "+", ""),
        Cell::shown(wide(r.start), Cell::Addr(r.start)),
        Cell::shown(wide(r.end), Cell::Addr(r.end)),
        Cell::shown(wide(r.size()), Cell::Num(r.size())),
        protect::kind_cell(e.kind),
        Cell::text(protect::state(e.state).1),
        protect::cell(protect::of(e)),
        Cell::text(r.usage),
        Cell::text(protect::presence(e.presence)),
        Cell::shown(d.text(), detail),
        thread,
        os_id,
        pid,
        heap,
        module,
        path,
    ]
}

/// What the runtime says, thread and its id, process, heap, module, path.
fn detail_cells<'r>(d: &'r Detail<'_>) -> [Cell<'r>; 7] {
    [
        Cell::maybe(d.managed),
        d.thread.map_or(Cell::None, |t| Cell::Num(u64::from(t.0))),
        d.thread.map_or(Cell::None, |t| Cell::Hex(t.1)),
        d.pid.map_or(Cell::None, Cell::Num),
        d.heap.map_or(Cell::None, Cell::Addr),
        Cell::maybe(d.module.as_deref()),
        Cell::maybe(d.path),
    ]
}

fn list(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], ranges: &[&UsageRange]) -> Result<()> {
    let session = ctx.session()?;
    ctx.out.note("")?;
    ctx.out.open_as(&REGIONS, &format!("{HEAD}\n{}", "-".repeat(132)))?;
    for r in ranges {
        session.watch.cancel.check()?;
        let Some(e) = dump.map.get(r.entry) else { continue };
        ctx.out.row(&row(r, e, &detail(dump, managed, r)))?;
    }
    Ok(())
}

/// The regions as data alone: text has what the commands of `-c` print of them.
fn rows(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], ranges: &[&UsageRange]) -> Result<()> {
    if !ctx.out.wants_data() {
        return Ok(());
    }
    for r in ranges {
        let Some(e) = dump.map.get(r.entry) else { continue };
        ctx.out.data_row(&REGIONS, &row(r, e, &detail(dump, managed, r)))?;
    }
    Ok(())
}

fn bare(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], ranges: &[&UsageRange]) -> Result<()> {
    for r in ranges {
        let Some(e) = dump.map.get(r.entry) else { continue };
        ctx.out.row_as(&REGIONS, &row(r, e, &detail(dump, managed, r)), format!("{:#x}", r.start))?;
    }
    Ok(())
}

/// Lines for programs, with the columns of the list.
fn machine(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], ranges: &[&UsageRange], sep: char) -> Result<()> {
    let join = |fields: &[String]| {
        let quoted = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\"")));
        quoted.collect::<Vec<_>>().join(&sep.to_string())
    };
    let heads =
        ["BaseAddress", "EndAddress+1", "RegionSize", "Type", "State", "Protect", "Usage", "Content", "Comment"];
    ctx.out.open_bare(&REGIONS)?;
    ctx.out.facts(&[], join(&heads.map(str::to_owned)))?;
    for r in ranges {
        let Some(e) = dump.map.get(r.entry) else { continue };
        let d = detail(dump, managed, r);
        let line = join(&[
            format!("{:#x}", r.start),
            format!("{:#x}", r.end),
            format!("{:#x}", r.size()),
            protect::kind(e.kind).1.to_owned(),
            protect::state(e.state).1.to_owned(),
            protect::of(e),
            r.usage.to_owned(),
            protect::presence(e.presence).to_owned(),
            d.text(),
        ]);
        ctx.out.row_as(&REGIONS, &row(r, e, &d), line)?;
    }
    Ok(())
}

fn one(
    ctx: &mut Ctx<'_>,
    dump: &Dump,
    managed: &[ManagedRange],
    ranges: &[UsageRange],
    address: u64,
) -> Result<Outcome> {
    let at = ranges.partition_point(|r| r.end <= address);
    let Some((r, e)) = ranges.get(at).filter(|r| r.start <= address).and_then(|r| Some((r, dump.map.get(r.entry)?)))
    else {
        let shown = tick(address, dump.arch.pointer_size());
        let line = format!("{shown} lies in no region the dump describes: it is free, or the dump leaves it out");
        ctx.out.datum("address", &Cell::Addr(address));
        ctx.out.note(line)?;
        return Ok(Outcome::Empty);
    };
    ctx.out.datum("address", &Cell::Addr(address));
    ctx.out.note("")?;
    region(ctx, dump, managed, r, e)?;
    ctx.out.note("")?;
    ctx.out.note("")?;
    content(ctx, dump, r, e, address)?;
    Ok(Outcome::Complete)
}

fn region(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], r: &UsageRange, e: &MapEntry) -> Result<()> {
    let p = dump.arch.pointer_size();
    // One line whatever a path holds.
    let mut line = |name: &str, facts: &[(&'static str, Cell<'_>)], text: &str| {
        ctx.out.facts(facts, format!("{name:<23} {}", text.replace('\n', ".")))
    };
    let numbered = |n: u32, name: &str| format!("{n:08x}          {name}");
    let bits = |n: u32| Cell::Hex(u64::from(n));
    let (size, state, kind) = (r.size(), protect::state(e.state), protect::kind(e.kind));
    let (own, first) = (protect::of(e), protect::name(e.allocation_protect));
    line("Usage:", &[("usage", Cell::text(r.usage))], r.usage)?;
    line("Base Address:", &[("base", Cell::Addr(r.start))], &tick(r.start, p))?;
    line("End Address:", &[("end", Cell::Addr(r.end))], &tick(r.end, p))?;
    let shown = format!("{} ({})", tick(size, p), summary::human(size));
    line("Region Size:", &[("size", Cell::Num(size))], &shown)?;
    let facts = [("state", Cell::text(state.1)), ("state_bits", bits(state.0))];
    line("State:", &facts, &numbered(state.0, state.1))?;
    let facts = [("protect", protect::cell(own.clone())), ("protect_bits", bits(e.protect))];
    line("Protect:", &facts, &numbered(e.protect, &own))?;
    let facts = [("type", protect::kind_cell(e.kind)), ("type_bits", bits(kind.0))];
    line("Type:", &facts, &numbered(kind.0, kind.1))?;
    let base = e.allocation_base;
    line("Allocation Base:", &[("allocation_base", Cell::Addr(base))], &tick(base, p))?;
    let bits = bits(e.allocation_protect);
    let facts = [("allocation_protect", protect::cell(first.clone())), ("allocation_protect_bits", bits)];
    line("Allocation Protect:", &facts, &numbered(e.allocation_protect, &first))?;
    let d = detail(dump, managed, r);
    let module = e.module.and_then(|i| dump.modules.get(i as usize));
    if let Some(m) = module {
        let name = module_name(m);
        line("Image Path:", &[("path", Cell::text(m.path.as_str()))], &m.path)?;
        line("Module Name:", &[("module", Cell::text(name.as_str()))], &name)?;
        line("Loaded Image Name:", &[("file", Cell::text(m.file_name()))], m.file_name())?;
        line("More info:", &[], &format!("lmvm {name}"))?;
    }
    if let Some(f) = &e.file {
        let facts = [("mapped_file", Cell::text(f.as_str())), ("path", Cell::text(f.as_str()))];
        line("Mapped file name:", if module.is_none() { &facts } else { &facts[..1] }, f)?;
    }
    let what = d.text();
    let [managed, thread, os_id, pid, heap, ..] = detail_cells(&d);
    let facts = [("detail", managed), ("thread", thread), ("os_id", os_id), ("pid", pid), ("heap", heap)];
    if !what.is_empty() && e.module.is_none() && e.file.is_none() {
        line("Additional info:", &facts, &what)?;
    }
    Ok(())
}

/// Where the bytes at `address` come from and how many follow.
fn content(ctx: &mut Ctx<'_>, dump: &Dump, r: &UsageRange, e: &MapEntry, address: u64) -> Result<()> {
    let left = r.end - address;
    let (source, length, line) = match (e.presence, dump.space.readable(address)) {
        (Presence::Dumped, true) => (1, left, format!("Content source: 1 (target), length: {left:x}")),
        (_, true) => {
            (2, left, format!("Content source: 2 (mapped), length: {left:x}, from the image file: not in the dump"))
        }
        (Presence::MappedOnly, false) => {
            (0, 0, "Content source: 0 (invalid): mapped in the process, but its bytes are not in the dump".to_owned())
        }
        _ => (0, 0, "Content source: 0 (invalid), length: 0".to_owned()),
    };
    Ok(ctx.out.facts(&[("content_source", Cell::Num(source)), ("content_length", Cell::Num(length))], line)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let f = Filter::parse("VAR,mem_commit,PAGE_GUARD,gcheap").unwrap();
        assert_eq!(f.usages, ["<unknown>", "gcheap"]);
        assert_eq!((f.states.len(), f.pages[0]), (1, 0x100));
        assert!(Filter::parse("MEM_X").is_err());
        assert!(Filter::parse("PAGE_X").is_err());
        for w in FILTERS {
            let f = Filter::parse(w).unwrap();
            let named = w.contains('_') || w.chars().all(|c| c.is_lowercase());
            assert_eq!(f.usages.is_empty(), named, "{w}");
        }
    }
}
