//! `!dumpheap`: objects on the GC heap, listed or counted by type.

use anyhow::{Result, bail};

use super::filter::{Filter, NameMatch};
use super::listing::{self, Listed};
use super::table::{self, ADDRESSES, OBJECTS, Sort};
use super::texts::{self, Asked, TEXTS};
use crate::clr::runtime::locks::{Owners, ThinBits};
use crate::clr::runtime::syncblocks::thin_bits;
use crate::heap::stat::{Fragment, Tally, TypeTallies};
use crate::heap::{Segment, WalkReport};
use crate::session::Session;
use crate::shell::expr::number;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumpheap`.
pub const DUMPHEAP: Command = Command {
    name: "dumpheap",
    prefix: Prefix::Bang,
    aliases: &["wheap"],
    group: Group::Heap,
    summary: "list objects on the GC heap, or count them by type",
    help: "Without options: every object (address, MethodTable, size), then the statistics by type, smallest total first. \
           -stat prints the statistics alone.\n\n\
           An argument that is wholly hexadecimal is an address: START, or START END. Anything else is a type name, in \
           either spelling: the type of exactly that name, else every type whose name contains it, and the answer says \
           so. -type is always a case-sensitive substring.\n\n\
           -min, -max, -heap and -top are decimal, 0x for hexadecimal. Sizes are the objects' own, not rounded. -live and \
           -dead mark from the roots first; a stack that cannot be walked is scanned conservatively, so some of what is called \
           live may be dead then. The statistics are sorted by bytes, biggest last; -sort count or name changes that, -top N keeps the \
           biggest. -sort retained adds what all live objects of the type keep alive (!retained), whatever the filters.",
    args: &[
        Arg::pos("RANGE_OR_TYPE", Kind::TypeName, "START, START END, or a type name").many(),
        Arg::flag("stat", "statistics only").or(&["summary"]),
        Filter::MT,
        Filter::TYPE,
        Filter::SMALLEST,
        Filter::LARGEST,
        Filter::LIVE,
        Filter::DEAD,
        Filter::GEN,
        Filter::HEAP,
        Filter::SEGMENT,
        Arg::flag("short", "addresses only, one a line"),
        Arg::flag("strings", "only strings, counted by their text; with -stat the counts alone"),
        Arg::flag("thinlock", "objects whose thin lock is held"),
        Arg::opt("sort", Kind::OneOf(&["size", "count", "name", "retained"]), "order of the statistics"),
        Arg::flag("bycount", "as -sort count"),
        Arg::opt("top", Kind::Count, "only so many rows of the statistics, the biggest"),
        Arg::flag("ignoregcstate", "accepted; the walk always goes as far as it can"),
        Arg::flag("noprogress", "accepted; progress goes to stderr"),
        Arg::flag("startatlowerbound", "accepted; walks begin at object starts"),
        Arg::flag("d", "accepted for scripts that ask for links; no effect"),
    ],
    examples: &[
        Example { line: "!dumpheap -stat", what: "what the heap holds, by type" },
        Example { line: "!dumpheap -stat -sort count -top 10", what: "the ten most frequent types" },
        Example { line: "!dumpheap System.Byte[] -min 85000", what: "big byte arrays" },
        Example { line: "!dumpheap -mt $MT -short", what: "addresses only, for scripts" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("matching_types", "types whose name contains the one typed", Type::Count)])
        .and(&[&OBJECTS, &ADDRESSES, &TEXTS, &LOCKS, &FRAGMENTATION])
        .with(&[&table::RETURNS]),
    run,
};

const LOCKS: Table = Table::new(
    "locks",
    &[
        Col::right("Object", "object", 16).of(Type::Address),
        Col::right("Thread", "thread", 16).of(Type::Address),
        Col::right("OSId", "os_id", 8).of(Type::Hex),
        Col::right("Recursion", "recursion", 9).of(Type::Count),
    ],
);

const FRAGMENTATION: Table = Table::new(
    "fragmentation",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("Size", "size", 14).of(Type::Bytes),
        Col::right("Followed By", "followed_by", 16).of(Type::Address),
        Col::left("", "type", 0).of(Type::TypeName),
    ],
);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut filter = Filter::new(args)?;
    if let Some((name, hits)) = positional(session, args, &mut filter)? {
        let line = format!("No type is called {name}; {hits} types whose name contains it:");
        ctx.out.fact("matching_types", Cell::Num(hits), line)?;
    }
    if args.has("strings") {
        return strings(ctx, session, &filter, args.has("stat"));
    }
    if args.has("thinlock") {
        return thin_locks(ctx, session, &filter);
    }
    let sort = match args.text("sort") {
        Some("count") => Sort::Count,
        Some("name") => Sort::Name,
        Some("retained") => Sort::Retained,
        None if args.has("bycount") => Sort::Count,
        _ => Sort::Size,
    };
    if args.has("short") {
        return short(ctx, session, &filter);
    }
    let top = args.number("top");
    let Listed { tallies, report, fragments } = if args.has("stat") {
        let (tallies, report) = count(session, &filter)?;
        Listed { tallies, report, fragments: None }
    } else {
        list(ctx, session, &filter)?
    };
    table::statistics(session, ctx.out, &tallies, sort, top)?;
    if !args.has("stat") || filter.is_everything() {
        fragmentation(ctx, session, &filter, fragments)?;
    }
    if tallies.total().count == 0
        && let Some(near) = otherwise_spelled(session, args.text("type"))?
    {
        ctx.out.note(format!("case matters in -type: there is {near}"))?;
    }
    Ok(outcome(session, &filter, &report, tallies.total().count))
}

/// A type on the heap whose name holds the text in other letters, capital or small, where none holds it as it is.
fn otherwise_spelled(session: &Session, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    session.stat()?;
    let (clr, lower) = (session.clr()?, text.to_lowercase());
    let mut near = None;
    for t in session.types().all() {
        let name = clr.type_name(t.mt.address);
        if name.contains(text) {
            return Ok(None);
        }
        if near.is_none() && name.to_lowercase().contains(&lower) {
            near = Some(name.to_string());
        }
    }
    Ok(near)
}

fn outcome(session: &Session, filter: &Filter, report: &WalkReport, count: u64) -> Outcome {
    let heap = session.heap().ok().and_then(|h| h.problems.first().cloned());
    match report.sentence().or(heap).or_else(|| filter.nameless(session)) {
        Some(why) => Outcome::Partial(why),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    }
}

/// Reads the positional arguments; returns a name that no type has, and how many types contain it.
fn positional(session: &Session, args: &Args, filter: &mut Filter) -> Result<Option<(String, u64)>> {
    let words: Vec<&str> = args.texts("RANGE_OR_TYPE").collect();
    if words.is_empty() {
        return Ok(None);
    }
    if let Some(NameMatch::Part(part)) = &mut filter.name
        && part.matches(['<', '[']).count() > part.matches(['>', ']']).count()
    {
        // The name given to -type holds blanks: the rest of it stands here.
        for w in words {
            part.push(' ');
            part.push_str(w);
        }
        return Ok(None);
    }
    if let Some(numbers) = words.iter().map(|w| number(w)).collect::<Option<Vec<u64>>>() {
        filter.range = match numbers[..] {
            [start] => Some((start, u64::MAX)),
            [start, end] if start < end => Some((start, end)),
            [_, _] => bail!("the end must lie behind the start"),
            _ => bail!("too many arguments: START END at most"),
        };
        return Ok(None);
    }
    let name = words.join(" ");
    session.stat()?;
    let clr = session.clr()?;
    let wanted = crate::clr::types::typename::canonical(&name);
    let all = session.types().all();
    if all.iter().any(|t| crate::clr::types::typename::canonical(&clr.type_name(t.mt.address)) == wanted) {
        filter.name = Some(NameMatch::Exact(name));
        return Ok(None);
    }
    let hits = all.iter().filter(|t| clr.type_name(t.mt.address).contains(name.as_str())).count();
    if hits == 0 {
        let lower = name.to_lowercase();
        let near = all.iter().map(|t| clr.type_name(t.mt.address)).find(|n| n.to_lowercase().contains(&lower));
        match near {
            Some(n) => bail!("no type on the heap is called {name} or contains it; case matters: there is {n}"),
            None => match (Filter { name: Some(NameMatch::Part(name.clone())), ..Filter::default() }).nameless(session)
            {
                Some(why) => bail!("no type on the heap is called {name} or contains it; {why}"),
                None => bail!("no type on the heap is called {name} or contains it"),
            },
        }
    }
    filter.name = Some(NameMatch::Part(name.clone()));
    Ok(Some((name, hits as u64)))
}

/// Counts in parallel; everything at once comes from the session's statistics.
pub(super) fn count(session: &Session, filter: &Filter) -> Result<(TypeTallies, WalkReport)> {
    if filter.is_everything() {
        let stat = session.stat()?;
        return Ok((stat.types.clone(), stat.report.clone()));
    }
    let walker = session.walker()?;
    let segments = filter.segments(session)?;
    let types = filter.types(session)?;
    session.watch.progress.start("walking the heap", segments.iter().map(Segment::len).sum());
    let (parts, report) = walker.parallel(
        &segments,
        |_| (TypeTallies::default(), types.clone()),
        |(tallies, types), segment, o| {
            if types.passes(session, o.ty) && filter.passes(session, segment, &o) {
                tallies.add(o.ty.id, o.size);
            }
        },
    )?;
    let mut all = TypeTallies::default();
    parts.iter().for_each(|p| all.merge(&p.0));
    Ok((all, report))
}

/// Lists in address order, streaming.
fn list(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter) -> Result<Listed> {
    let listed = listing::list(ctx.out, session, filter, false)?;
    ctx.out.done(&OBJECTS)?;
    ctx.out.note("")?;
    Ok(listed)
}

/// Calls `visit` for every matching object, segments by start address.
fn each(
    session: &Session,
    filter: &Filter,
    mut visit: impl FnMut(crate::heap::Object<'_>) -> std::io::Result<()>,
) -> Result<WalkReport> {
    let walker = session.walker()?;
    let mut types = filter.types(session)?;
    let mut report = WalkReport::default();
    for segment in filter.segments(session)? {
        let mut failed = None;
        let end = filter.range.map_or(segment.end, |r| r.1.min(segment.end));
        let start = filter.range.map_or(segment.start, |r| r.0);
        report.merge(walker.segment(&segment, (start, end), &mut |o| {
            if !(types.passes(session, o.ty) && filter.passes(session, &segment, &o)) {
                return true;
            }
            match visit(o) {
                Ok(()) => true,
                Err(e) => {
                    failed = Some(e);
                    false
                }
            }
        })?);
        if let Some(e) = failed {
            return Err(e.into());
        }
    }
    Ok(report)
}

fn short(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter) -> Result<Outcome> {
    let Listed { tallies, report, .. } = listing::list(ctx.out, session, filter, true)?;
    Ok(outcome(session, filter, &report, tallies.total().count))
}

fn strings(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter, stat: bool) -> Result<Outcome> {
    let asked = Asked { filter, counts: &|_| true, units: texts::UNITS };
    let (found, report) = texts::find(ctx.out, session, asked, !stat)?;
    if !stat {
        ctx.out.done(&OBJECTS)?;
        ctx.out.note("")?;
    }
    ctx.out.note("Statistics:")?;
    texts::print(ctx.out, session.clr()?, &found)?;
    let mut total = Tally::default();
    found.iter().for_each(|t| total.merge(Tally { count: t.count, bytes: t.bytes }));
    table::total(ctx.out, total)?;
    Ok(outcome(session, filter, &report, total.count))
}

fn thin_locks(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter) -> Result<Outcome> {
    let clr = session.clr()?;
    ctx.out.open(&LOCKS)?;
    let (owners, bits) = (Owners::of(clr), ThinBits::of(clr));
    let mut count = 0;
    let report = each(session, filter, |o| {
        // Free blocks keep what stood in front of the objects they were.
        let header = if o.ty.is_free { None } else { clr.object_header(o.address) };
        let Some((id, recursion)) = header.and_then(thin_bits).and_then(|h| bits.owner(h)) else { return Ok(()) };
        let Some(t) = owners.living(id) else { return Ok(()) };
        count += 1;
        ctx.out.row(&[
            Cell::Addr(o.address),
            Cell::Addr(t.address),
            Cell::Hex(t.os_id),
            Cell::Num(u64::from(recursion)),
        ])
    })?;
    Ok(outcome(session, filter, &report, count))
}

/// Free blocks of half a megabyte and more in the small object heap, with what follows them.
fn fragmentation(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter, found: Option<Vec<Fragment>>) -> Result<()> {
    let clr = session.clr()?;
    let blocks = match found {
        Some(found) => found,
        None => {
            let segments = filter.segments(session)?;
            let before = |a: u64| segments.partition_point(|s| s.start <= a).checked_sub(1);
            let wanted = |a: u64| before(a).and_then(|i| segments.get(i)).is_some_and(|s| a < s.end);
            session.stat()?.fragments.iter().filter(|f| wanted(f.address)).copied().collect()
        }
    };
    if blocks.is_empty() {
        return Ok(());
    }
    ctx.out.note("")?;
    ctx.out.note("Fragmented blocks larger than 0.5 MB:")?;
    ctx.out.open(&FRAGMENTATION)?;
    for f in blocks {
        let name = clr.type_name(f.next_mt).to_string();
        ctx.out.row(&[Cell::Addr(f.address), Cell::Sep(f.size), Cell::Addr(f.next), Cell::text(name)])?;
    }
    Ok(())
}
