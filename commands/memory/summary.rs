//! The tables of `!address -summary`.

use anyhow::Result;

use super::protect;
use super::usage::{UsageRange, word};
use super::wide;
use crate::dump::{Dump, DumpKind, MapState, MapType, Presence};
use crate::session::ranges::ManagedRange;
use crate::shell::{Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

/// `   2.090 GB`: three decimals in the largest unit that leaves at least one.
pub fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match units.iter().find(|(u, _)| bytes >= *u) {
        Some((unit, name)) => format!("{:8.3} {name}", bytes as f64 / *unit as f64),
        None => format!("{:8.3}  B", bytes as f64),
    }
}

/// One row: regions and bytes of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// What is added up.
    pub name: String,
    /// Regions.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes whose content is in the dump.
    pub dumped: u64,
    /// Bytes known to be mapped whose content is not in the dump.
    pub mapped: u64,
    /// Start and size of the largest region.
    pub largest: (u64, u64),
}

impl Sum {
    /// Bytes of which the dump says neither.
    pub fn unknown(&self) -> u64 {
        self.bytes.saturating_sub(self.dumped).saturating_sub(self.mapped)
    }

    fn add(&mut self, r: &UsageRange, presence: Presence) {
        self.count += 1;
        self.bytes += r.size();
        match presence {
            Presence::Dumped => self.dumped += r.size(),
            Presence::MappedOnly => self.mapped += r.size(),
            Presence::Unknown => {}
        }
        if r.size() > self.largest.1 {
            self.largest = (r.start, r.size());
        }
    }
}

/// Adds up `ranges` by `name`, the largest sum first; ranges it has no name for are left out.
pub fn add_up(dump: &Dump, ranges: &[UsageRange], name: impl Fn(&UsageRange) -> Option<String>) -> Vec<Sum> {
    let mut sums: Vec<Sum> = Vec::new();
    let mut places = rustc_hash::FxHashMap::<String, usize>::default();
    for r in ranges {
        let (Some(n), Some(e)) = (name(r), dump.map.get(r.entry)) else { continue };
        let at = *places.entry(n).or_insert_with_key(|n| {
            sums.push(Sum { name: n.clone(), ..Sum::default() });
            sums.len() - 1
        });
        if let Some(s) = sums.get_mut(at) {
            s.add(r, e.presence);
        }
    }
    sums.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    sums
}

/// What `!address -summary` returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("total", "bytes of all regions, free ones among them", Type::Bytes),
    Fact::new("busy", "bytes of those that are not free", Type::Bytes),
    Fact::new("dumped", "bytes that are in the dump", Type::Bytes),
    Fact::new("absent", "bytes of committed memory that are not in it", Type::Bytes),
])
.and(&[&BY_USAGE, &BY_TYPE, &BY_STATE, &BY_PROTECT, &LARGEST])
.with(&[&super::nativeheap::share::RETURNS]);

const BY_USAGE: Table = Table::new("usage", SUMS);
const BY_TYPE: Table = Table::new("type", SUMS);
const BY_STATE: Table = Table::new("state", SUMS);
const BY_PROTECT: Table = Table::new("protect", SUMS);

const SUMS: &[Col] = &[
    Col::left("", "name", 34).titled("what is added up"),
    Col::right("", "regions", 8).of(Type::Count).titled("regions"),
    // Text has the size twice: exact, and in words.
    Col::right("", "size", 31).of(Type::Bytes).titled("their bytes"),
    Col::right("", "of_busy", 7).of(Type::Share).titled("share of what is not free"),
    Col::right("", "of_total", 8).of(Type::Share).titled("share of all"),
    Col::right("", "dumped", 12).of(Type::Bytes).titled("bytes that are in the dump"),
    Col::right("", "mapped_only", 12).of(Type::Bytes).titled("bytes known to be mapped that are not in it"),
    Col::right("", "unknown", 12).of(Type::Bytes).titled("bytes of which the dump says neither"),
];

const LARGEST: Table = Table::new(
    "largest",
    &[
        Col::left("", "usage", 36).titled("use of memory"),
        Col::right("", "base", 17).of(Type::Address).titled("where its largest region begins"),
        Col::right("", "size", 31).of(Type::Bytes).titled("bytes of that"),
    ],
);

struct Totals {
    all: u64,
    busy: u64,
}

/// Prints all tables.
pub fn print(ctx: &mut Ctx<'_>, dump: &Dump, _managed: &[ManagedRange], ranges: &[UsageRange]) -> Result<Outcome> {
    let state = |r: &UsageRange| dump.map.get(r.entry).map(|e| e.state);
    let totals = Totals {
        all: ranges.iter().map(UsageRange::size).sum(),
        busy: ranges.iter().filter(|r| state(r) != Some(MapState::Free)).map(UsageRange::size).sum(),
    };
    let cancel = &ctx.session()?.watch.cancel;
    ctx.out.datum("total", &Cell::Num(totals.all));
    ctx.out.datum("busy", &Cell::Num(totals.busy));
    let usage = add_up(dump, ranges, |r| Some(r.usage.to_owned()));
    table(ctx, &BY_USAGE, "--- Usage Summary ---------------- ", &usage, &totals)?;
    cancel.check()?;
    let kinds = add_up(dump, ranges, |r| {
        let e = dump.map.get(r.entry).filter(|e| e.state != MapState::Free)?;
        Some(if e.kind == MapType::Unknown { word::UNKNOWN } else { protect::kind(e.kind).1 }.to_owned())
    });
    table(ctx, &BY_TYPE, "--- Type Summary (for busy) ------ ", &kinds, &totals)?;
    cancel.check()?;
    let states = add_up(dump, ranges, |r| state(r).map(|s| protect::state(s).1.to_owned()));
    table(ctx, &BY_STATE, "--- State Summary ---------------- ", &states, &totals)?;
    cancel.check()?;
    let pages = add_up(dump, ranges, |r| {
        let e = dump.map.get(r.entry).filter(|e| e.state == MapState::Commit)?;
        Some(if e.protect == 0 { word::UNKNOWN.to_owned() } else { protect::name(e.protect) })
    });
    table(ctx, &BY_PROTECT, "--- Protect Summary (for commit) - ", &pages, &totals)?;
    largest(ctx, &usage)?;
    super::nativeheap::share::show(ctx, dump, ranges)?;
    content(ctx, dump, &usage)
}

fn share(of: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { of as f64 * 100.0 / total as f64 }
}

/// Bytes, exact and in words in text.
fn size(bytes: u64) -> Cell<'static> {
    Cell::shown(format!("{} {:>13}", wide(bytes), format!("({})", human(bytes))), Cell::Num(bytes))
}

fn table(ctx: &mut Ctx<'_>, table: &Table, title: &str, sums: &[Sum], totals: &Totals) -> Result<()> {
    ctx.out.note("")?;
    ctx.out.open_as(
        table,
        &format!(
            "{title}RgnCount ----------- Total Size -------- %ofBusy %ofTotal ----- Dumped -- Mapped only ---- Unknown"
        ),
    )?;
    for s in sums {
        let free = s.name == word::FREE || s.name == protect::state(MapState::Free).1;
        ctx.out.row(&[
            Cell::text(s.name.as_str()),
            Cell::Num(s.count),
            size(s.bytes),
            if free { Cell::None } else { Cell::Percent(share(s.bytes, totals.busy)) },
            Cell::Percent(share(s.bytes, totals.all)),
            Cell::As(human(s.dumped).into(), s.dumped),
            Cell::As(human(s.mapped).into(), s.mapped),
            Cell::As(human(s.unknown()).into(), s.unknown()),
        ])?;
    }
    Ok(())
}

fn largest(ctx: &mut Ctx<'_>, usage: &[Sum]) -> Result<()> {
    ctx.out.note("")?;
    ctx.out
        .open_as(&LARGEST, "--- Largest Region by Usage ----------- Base Address -------- Region Size ----------")?;
    for s in usage {
        let (base, bytes) = s.largest;
        ctx.out.row(&[Cell::text(s.name.as_str()), Cell::shown(wide(base), Cell::Addr(base)), size(bytes)])?;
    }
    Ok(())
}

/// Windows `MiniDumpWithFullMemory`.
const FULL_MEMORY: u64 = 0x2;

/// Says how much of the process the dump holds.
fn content(ctx: &mut Ctx<'_>, dump: &Dump, usage: &[Sum]) -> Result<Outcome> {
    let dumped: u64 = usage.iter().map(|s| s.dumped).sum();
    let committed = dump.map.iter().filter(|e| e.state == MapState::Commit);
    let absent: u64 = committed.filter(|e| e.presence != Presence::Dumped).map(|e| e.end - e.start).sum();
    ctx.out.note("")?;
    let line = format!("In the dump: {dumped:#x} bytes ({}).", human(dumped).trim_start());
    ctx.out.facts(&[("dumped", Cell::Num(dumped)), ("absent", Cell::Num(absent))], line)?;
    let whole = match dump.kind {
        DumpKind::Minidump { flags } => flags & FULL_MEMORY != 0,
        // A core names its mappings itself; what it does not name is not known to exist.
        DumpKind::ElfCore { .. } => {
            ctx.out.note("A core describes only what its writer put in: ranges in neither its segments nor its file table do not appear above.")?;
            true
        }
    };
    if absent == 0 && whole {
        return Ok(Outcome::Complete);
    }
    Ok(Outcome::Partial(format!(
        "the dump is not the whole process: {absent:#x} bytes ({}) of committed memory are mapped but not in it",
        human(absent).trim_start()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(human(0x85c8_7000), "   2.090 GB");
        assert_eq!(human(0x1000), "   4.000 kB");
        assert_eq!(human(12), "  12.000  B");
        assert_eq!(human(0), "   0.000  B");
    }
}
