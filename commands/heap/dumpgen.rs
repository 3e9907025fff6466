//! `!dumpgen`: one generation's objects by type. `!sizestats`: sizes of objects and free blocks by generation.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::dumpheap::count;
use super::filter::Filter;
use super::table::{self, wide_statistics};
use crate::clr::Clr;
use crate::heap::{Generation, WalkReport};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumpgen GEN`.
pub const DUMPGEN: Command = Command {
    name: "dumpgen",
    prefix: Prefix::Bang,
    aliases: &["dg"],
    group: Group::Heap,
    summary: "count the objects of one generation by type, or list those of one type",
    help: "The statistics of one generation, smallest total first. -type keeps the types whose name contains a text; -mt \
           lists the objects of one MethodTable instead.",
    args: &[
        Arg::pos("GEN", Kind::Text, "gen0, gen1, gen2, loh, poh or foh; 0 to 4 as SOSEX counts them")
            .words(Generation::WORDS)
            .required(),
        Filter::TYPE,
        Arg::opt("mt", Kind::MethodTable, "list the objects of this MethodTable"),
        Arg::flag("stat", "the statistics, as without it"),
    ],
    examples: &[Example { line: "!dumpgen gen2 -type Zoo", what: "what of one's own types has grown old" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("objects", "objects counted or listed", Type::Count)])
        .and(&[&LISTED])
        .with(&[&table::WIDE_RETURNS]),
    run: dumpgen,
};

/// Objects of one MethodTable.
const LISTED: Table = Table::new(
    "objects",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::right("Size", "size", 8).of(Type::Bytes),
    ],
);

/// `!sizestats`.
pub const SIZESTATS: Command = Command {
    name: "sizestats",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "how often each size occurs, by generation: objects, then free blocks",
    help: "For each generation every size its objects have, with their number and the bytes and number of all smaller \
           ones; then the same of free blocks: many small ones are fragmentation.",
    args: &[],
    examples: &[Example { line: "!sizestats", what: "sizes of objects and of gaps" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&SIZES]),
    run: sizestats,
};

/// Sizes of objects or of free blocks, the smallest of each generation first.
const SIZES: Table = Table::new(
    "sizes",
    &[
        Col::data("generation", Type::Text).titled("0, 1, 2, large, pinned or frozen"),
        Col::data("free", Type::Bool).titled("free blocks, not objects"),
        Col::right("Size", "size", 14).of(Type::Bytes),
        Col::right("Count", "count", 14).of(Type::Count),
        Col::right("Cumulative Size", "cumulative_size", 15).of(Type::Bytes),
        Col::right("Cumulative Count", "cumulative_count", 16).of(Type::Count),
    ],
);

/// What a walk says of its own completeness.
fn outcome(session: &Session, report: &WalkReport, empty: bool) -> Outcome {
    let heap = session.heap().ok().and_then(|h| h.problems.first().cloned());
    match report.sentence().or(heap) {
        Some(why) => Outcome::Partial(why),
        None if empty => Outcome::Empty,
        None => Outcome::Complete,
    }
}

fn dumpgen(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let Some(generation) = args.text("GEN").and_then(Generation::parse) else {
        bail!("give a generation: gen0, gen1, gen2, loh, poh or foh")
    };
    let filter = Filter { generation: Some(generation), ..Filter::new(args)? };
    if let Some(mt) = filter.mt {
        if session.clr()?.valid_method_table(mt).is_none() {
            bail!("{mt:x} is not a MethodTable; !name2ee finds one by name");
        }
        return list(ctx, session, &filter);
    }
    let (tallies, report) = count(session, &filter)?;
    wide_statistics(session, ctx.out, &tallies, Clr::type_name)?;
    total(ctx.out, tallies.total().count)?;
    Ok(outcome(session, &report, tallies.total().count == 0))
}

fn list(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter) -> Result<Outcome> {
    let (walker, mut types) = (session.walker()?, filter.types(session)?);
    let (mut report, mut count, mut failed) = (WalkReport::default(), 0u64, None);
    ctx.out.open(&LISTED)?;
    for segment in filter.segments(session)? {
        report.merge(walker.segment(&segment, (segment.start, segment.end), &mut |o| {
            if !(types.passes(session, o.ty) && filter.passes(session, &segment, &o)) {
                return true;
            }
            count += 1;
            let row = [Cell::AddrPad(o.address, 16), Cell::AddrPad(o.ty.mt.address, 16), Cell::Num(o.size)];
            failed = ctx.out.row(&row).err();
            failed.is_none()
        })?);
        if let Some(e) = failed {
            return Err(e.into());
        }
    }
    ctx.out.note("")?;
    total(ctx.out, count)?;
    Ok(outcome(session, &report, count == 0))
}

fn total(out: &mut Out, objects: u64) -> Result<()> {
    Ok(out.fact("objects", Cell::Num(objects), format!("Total {objects} objects"))?)
}

/// Numbers by size: of objects, of free blocks.
type Sizes = [BTreeMap<u64, u64>; 2];

/// Generations in the order of the output, with the words of its headings.
const ORDER: [(Generation, &str); 6] = [
    (Generation::Gen0, "generation0"),
    (Generation::Gen1, "generation1"),
    (Generation::Gen2, "generation2"),
    (Generation::Large, "large"),
    (Generation::Pinned, "pinned"),
    (Generation::Frozen, "frozen"),
];

fn sizestats(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let walker = session.walker()?;
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| <[Sizes; 6]>::default(),
        |sizes, segment, o| {
            if let Some(s) = sizes.get_mut(segment.generation(o.address) as usize) {
                let size = o.size.next_multiple_of(8);
                *s[usize::from(o.ty.is_free)].entry(size).or_default() += 1;
            }
        },
    )?;
    let mut all = <[Sizes; 6]>::default();
    for part in &parts {
        for (sum, sizes) in all.iter_mut().flatten().zip(part.iter().flatten()) {
            sizes.iter().for_each(|(size, n)| *sum.entry(*size).or_default() += n);
        }
    }
    for (kind, what) in ["objects", "free objects"].into_iter().enumerate() {
        for (generation, word) in ORDER {
            let sizes = &all[generation as usize][kind];
            // Heaps this runtime does not have are left out, and the frozen heap's free blocks: there are none.
            let young = !matches!(generation, Generation::Pinned | Generation::Frozen);
            let there = young || walker.heap.segments.iter().any(|s| s.generation(s.start) == generation);
            if there && (kind == 0 || generation != Generation::Frozen) {
                ctx.out.note(format!("Size Statistics for {word} {what}"))?;
                ctx.out.note("")?;
                print(ctx.out, generation, kind == 1, sizes)?;
                ctx.out.note("")?;
            }
        }
    }
    Ok(outcome(session, &report, false))
}

fn print(out: &mut Out, generation: Generation, free: bool, sizes: &BTreeMap<u64, u64>) -> Result<()> {
    if sizes.is_empty() {
        out.note("(none)")?;
        return Ok(());
    }
    out.open(&SIZES)?;
    let (mut bytes, mut count) = (0u64, 0u64);
    for (&size, &n) in sizes {
        out.row(&[
            Cell::text(generation.short()),
            Cell::Bool(free),
            Cell::Sep(size),
            Cell::Sep(n),
            Cell::Sep(bytes),
            Cell::Sep(count),
        ])?;
        bytes = bytes.saturating_add(size.saturating_mul(n));
        count += n;
    }
    Ok(())
}
