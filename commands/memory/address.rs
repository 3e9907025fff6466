//! `!address`: what each range of the process's memory is.

use anyhow::{Result, anyhow, bail};

use super::usage::{UsageRange, classify, detail, word};
use super::{module_name, protect, summary, tick};
use crate::dump::{Dump, MapEntry, MapState, MapType, Presence};
use crate::session::ranges::ManagedRange;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Outcome, Prefix, Request, Returns,
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
    returns: Returns::NOTHING,
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
        ctx.request = Some(Request::Lines(kept.iter().filter_map(|r| filled(session.dump(), r, line)).collect()));
        return Ok(if kept.is_empty() { Outcome::Empty } else { Outcome::Complete });
    }
    match args.text("o") {
        Some("1") => bare(ctx, &kept)?,
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

/// `       0`7ffe0000`: the upper half padded with blanks.
pub fn wide(address: u64) -> String {
    format!("{:8x}`{:08x}", address >> 32, address & 0xFFFF_FFFF)
}

const LIST: &[Col] = &[
    Col::left("", "new", 1),
    Col::right("BaseAddress", "base", 17),
    Col::right("EndAddress+1", "end", 17),
    Col::right("RegionSize", "size", 17),
    Col::left("Type", "type", 11),
    Col::left("State", "state", 11),
    Col::left("Protect", "protect", 34),
    Col::left("Usage", "usage", 10),
    Col::left("Content", "content", 8),
    Col::left("", "detail", 0),
];

fn list(ctx: &mut Ctx<'_>, dump: &Dump, managed: &[ManagedRange], ranges: &[&UsageRange]) -> Result<()> {
    let session = ctx.session()?;
    ctx.out.line("")?;
    ctx.out.line(
        "        BaseAddress      EndAddress+1        RegionSize     Type       State                 Protect             Usage      Content",
    )?;
    ctx.out.line("-".repeat(132))?;
    ctx.out.table("regions", LIST, false)?;
    for r in ranges {
        session.watch.cancel.check()?;
        let Some(e) = dump.map.get(r.entry) else { continue };
        let opens = e.allocation_base == r.start || e.state == MapState::Free;
        ctx.out.row(&[
            Cell::text(if opens { "+" } else { "" }),
            padded(ctx.out.format(), r.start),
            padded(ctx.out.format(), r.end),
            padded(ctx.out.format(), r.size()),
            Cell::text(protect::kind(e.kind).1),
            Cell::text(protect::state(e.state).1),
            Cell::text(protect::of(e)),
            Cell::text(r.usage),
            Cell::text(protect::presence(e.presence)),
            Cell::text(detail(dump, managed, r)),
        ])?;
    }
    Ok(())
}

/// Text has the debugger's blanks, the other formats a number.
fn padded(format: Format, address: u64) -> Cell<'static> {
    match format {
        Format::Text => Cell::text(wide(address)),
        _ => Cell::Addr(address),
    }
}

fn bare(ctx: &mut Ctx<'_>, ranges: &[&UsageRange]) -> Result<()> {
    ctx.out.table("regions", &[Col::left("BaseAddress", "base", 0)], false)?;
    for r in ranges {
        ctx.out.row(&[Cell::text(format!("{:#x}", r.start))])?;
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
    let mut lines = vec![join(&heads.map(str::to_owned))];
    for r in ranges {
        let Some(e) = dump.map.get(r.entry) else { continue };
        lines.push(join(&[
            format!("{:#x}", r.start),
            format!("{:#x}", r.end),
            format!("{:#x}", r.size()),
            protect::kind(e.kind).1.to_owned(),
            protect::state(e.state).1.to_owned(),
            protect::of(e),
            r.usage.to_owned(),
            protect::presence(e.presence).to_owned(),
            detail(dump, managed, r),
        ]));
    }
    // A table of one column keeps tabs out of the cells' own cleaning only in lines that have none.
    for line in lines {
        ctx.out.line(line)?;
    }
    Ok(())
}

const FACTS: &[Col] = &[Col::left("", "name", 23), Col::left("", "value", 0)];

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
        ctx.out.line(format!(
            "{} lies in no region the dump describes: it is free, or the dump leaves it out",
            tick(address, dump.arch.pointer_size())
        ))?;
        return Ok(Outcome::Empty);
    };
    ctx.out.line("")?;
    ctx.out.table("region", FACTS, false)?;
    for (name, value) in facts(dump, managed, r, e) {
        ctx.out.row(&[Cell::text(name), Cell::text(value)])?;
    }
    ctx.out.line("")?;
    ctx.out.line("")?;
    ctx.out.line(content(dump, r, e, address))?;
    Ok(Outcome::Complete)
}

fn facts(dump: &Dump, managed: &[ManagedRange], r: &UsageRange, e: &MapEntry) -> Vec<(&'static str, String)> {
    let p = dump.arch.pointer_size();
    let numbered = |(n, name): (u32, &str)| format!("{n:08x}          {name}").trim_end().to_owned();
    let mut out = vec![
        ("Usage:", r.usage.to_owned()),
        ("Base Address:", tick(r.start, p)),
        ("End Address:", tick(r.end, p)),
        ("Region Size:", format!("{} ({})", tick(r.size(), p), summary::human(r.size()))),
        ("State:", numbered(protect::state(e.state))),
        ("Protect:", numbered((e.protect, &protect::of(e)))),
        ("Type:", numbered(protect::kind(e.kind))),
        ("Allocation Base:", tick(e.allocation_base, p)),
        ("Allocation Protect:", numbered((e.allocation_protect, &protect::name(e.allocation_protect)))),
    ];
    if let Some(m) = e.module.and_then(|i| dump.modules.get(i as usize)) {
        let name = module_name(m);
        out.push(("Image Path:", m.path.clone()));
        out.push(("Module Name:", name.clone()));
        out.push(("Loaded Image Name:", m.file_name().to_owned()));
        out.push(("More info:", format!("lmvm {name}")));
    }
    if let Some(f) = &e.file {
        out.push(("Mapped file name:", f.clone()));
    }
    let what = detail(dump, managed, r);
    if !what.is_empty() && e.module.is_none() && e.file.is_none() {
        out.push(("Additional info:", what));
    }
    out
}

/// Where the bytes at `address` come from and how many follow.
fn content(dump: &Dump, r: &UsageRange, e: &MapEntry, address: u64) -> String {
    let left = r.end - address;
    match (e.presence, dump.space.readable(address)) {
        (Presence::Dumped, true) => format!("Content source: 1 (target), length: {left:x}"),
        (_, true) => format!("Content source: 2 (mapped), length: {left:x}, from the image file: not in the dump"),
        (Presence::MappedOnly, false) => {
            "Content source: 0 (invalid): mapped in the process, but its bytes are not in the dump".into()
        }
        _ => "Content source: 0 (invalid), length: 0".into(),
    }
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

    #[test]
    fn wide_addresses() {
        assert_eq!(wide(0x7ffe_0000), "       0`7ffe0000");
        assert_eq!(wide(u64::MAX), "ffffffff`ffffffff");
    }
}
