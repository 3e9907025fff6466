//! `!ephrefs`, `!ephtoloh`: references between generations of different age.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::heap::walk::pointer_in;
use crate::heap::{Generation, Object, WalkReport};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Args, Cell, Col, Command, Ctx, Example, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type};

/// `!ephrefs`.
pub const EPHREFS: Command = Command {
    name: "ephrefs",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "objects of older generations that refer to younger ones",
    help: "For each pair of generations the objects of the older one that refer into the younger one, with how many \
           objects they refer to there and how big those are: the collector has to look at them whenever it collects the \
           younger one.",
    args: &[],
    examples: &[Example { line: "!ephrefs", what: "what makes young collections slow" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&REFERENCES, &PAIRS]),
    run: ephrefs,
};

/// Objects that refer to younger ones.
const REFERENCES: Table = Table::new(
    "references",
    &[
        Col::right("Object", "object", 16).of(Type::Address),
        Col::right("MethodTable", "method_table", 16).of(Type::Address),
        Col::right("Size", "size", 14).of(Type::Bytes),
        Col::left("Obj Gen", "object_generation", 8),
        Col::left("Ref Gen", "reference_generation", 8),
        Col::right("Obj Count", "object_count", 9).of(Type::Count),
        Col::right("Obj Size", "object_size", 14).of(Type::Bytes),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);

/// Sums of a pair of generations.
const PAIRS: Table = Table::new(
    "pairs",
    &[
        Col::data("object_generation", Type::Text).titled("the older generation"),
        Col::data("reference_generation", Type::Text).titled("the younger generation"),
        Col::data("holders", Type::Count).titled("objects of the older that refer to the younger"),
        Col::data("object_count", Type::Count).titled("objects they refer to, each once for each that does"),
        Col::data("object_size", Type::Bytes).titled("their bytes"),
    ],
);

/// `!ephtoloh`.
pub const EPHTOLOH: Command = Command {
    name: "ephtoloh",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "references between young objects and the large object heap",
    help: "Three tables: young objects (generation 0 and 1) that refer to large ones, large objects that refer to young \
           ones, and the young objects from which the way leads to a large object and back to a young one.",
    args: &[],
    examples: &[Example { line: "!ephtoloh", what: "large buffers held by short-lived objects" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&DOWN, &UP, &ROUND]),
    run: ephtoloh,
};

const FROM_YOUNG: &[Col] = &[
    Col::right("Ephemeral", "from", 16).of(Type::Address),
    Col::left("Ephemeral Type", "from_type", 40).of(Type::TypeName),
    Col::right("Large Object", "to", 16).of(Type::Address),
    Col::left("Large Object Type", "to_type", 0).of(Type::TypeName),
];

/// Young objects that refer to large ones.
const DOWN: Table = Table::new("ephemeral_to_large", FROM_YOUNG);

/// Large objects that refer to young ones.
const UP: Table = Table::new(
    "large_to_ephemeral",
    &[
        Col::right("Large Object", "from", 16).of(Type::Address),
        Col::left("Large Object Type", "from_type", 40).of(Type::TypeName),
        Col::right("Ephemeral", "to", 16).of(Type::Address),
        Col::left("Ephemeral Type", "to_type", 0).of(Type::TypeName),
    ],
);

/// Young objects that refer to large ones which refer to young ones.
const ROUND: Table = Table::new("ephemeral_to_large_and_back", FROM_YOUNG);

/// Age of a generation; references from higher to lower ones are those the collector must remember.
fn age(g: Generation) -> u8 {
    match g {
        Generation::Gen0 => 0,
        Generation::Gen1 => 1,
        Generation::Gen2 | Generation::Large | Generation::Pinned | Generation::Frozen => 2,
    }
}

fn is_young(g: Generation) -> bool {
    age(g) < 2
}

/// The word the tables print.
fn word(g: Generation) -> &'static str {
    match g {
        Generation::Gen0 => "gen0",
        Generation::Gen1 => "gen1",
        Generation::Gen2 => "gen2",
        Generation::Large => "large",
        Generation::Pinned => "pinned",
        Generation::Frozen => "frozen",
    }
}

/// Calls `visit` with each reference of the object that leads to a segment: target and its generation.
fn targets(session: &Session, o: &Object<'_>, mut visit: impl FnMut(u64, Generation)) {
    let (Ok(clr), Ok(heap)) = (session.clr(), session.heap()) else { return };
    o.slots(clr.space(), |slot| {
        if let Some(target) = pointer_in(clr.space(), o, slot).filter(|&t| t != 0)
            && let Some(s) = heap.segment_at(target)
        {
            visit(target, s.generation(target));
        }
    });
}

/// One object and what it refers to in one younger generation.
struct Holder {
    address: u64,
    mt: u64,
    size: u64,
    targets: Vec<u64>,
}

type Pairs = BTreeMap<(Generation, Generation), Vec<Holder>>;

fn ephrefs(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let walker = session.walker()?;
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| Pairs::new(),
        |pairs, segment, o| {
            let own = segment.generation(o.address);
            targets(session, &o, |target, generation| {
                if age(generation) >= age(own) {
                    return;
                }
                let list = pairs.entry((own, generation)).or_default();
                match list.last_mut().filter(|h| h.address == o.address) {
                    Some(h) => h.targets.push(target),
                    None => list.push(Holder {
                        address: o.address,
                        mt: o.ty.mt.address,
                        size: o.size,
                        targets: vec![target],
                    }),
                }
            });
        },
    )?;
    let mut all = Pairs::new();
    for part in parts {
        for (pair, list) in part {
            all.entry(pair).or_default().extend(list);
        }
    }
    let none = all.is_empty();
    for ((from, to), list) in all {
        pair(session, ctx.out, (from, to), list)?;
    }
    Ok(ended(session, &report, none))
}

fn pair(session: &Session, out: &mut Out, (from, to): (Generation, Generation), list: Vec<Holder>) -> Result<()> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    out.note(format!("References from {} to {}:", word(from), word(to)))?;
    out.note("")?;
    out.open(&REFERENCES)?;
    let generations =
        [Cell::shown(word(from), Cell::text(from.short())), Cell::shown(word(to), Cell::text(to.short()))];
    let (mut objects, mut bytes, holders) = (0u64, 0u64, list.len() as u64);
    for mut h in list {
        session.watch.cancel.check()?;
        h.targets.sort_unstable();
        h.targets.dedup();
        let size: u64 = h.targets.iter().filter_map(|&t| walker.object_at(t)).map(|o| o.size).sum();
        objects += h.targets.len() as u64;
        bytes += size;
        out.row(&[
            Cell::Addr(h.address),
            Cell::Addr(h.mt),
            Cell::Sep(h.size),
            generations[0].clone(),
            generations[1].clone(),
            Cell::Sep(h.targets.len() as u64),
            Cell::Sep(size),
            Cell::text(&*clr.type_name(h.mt)),
        ])?;
    }
    let [from, to] = generations;
    let cells = [from, to, Cell::Num(holders), Cell::Num(objects), Cell::Num(bytes)];
    let (holders, objects, bytes) = (thousands(holders), thousands(objects), thousands(bytes));
    out.row_as(&PAIRS, &cells, format!("Total: {holders} objects refer to {objects} objects, {bytes} bytes"))?;
    out.note("")?;
    Ok(())
}

fn ended(session: &Session, report: &WalkReport, none: bool) -> Outcome {
    let heap = session.heap().ok().and_then(|h| h.problems.first().cloned());
    match report.sentence().or(heap) {
        Some(why) => Outcome::Partial(why),
        None if none => Outcome::Empty,
        None => Outcome::Complete,
    }
}

/// A reference by address of both ends.
type Edge = (u64, u64);

fn ephtoloh(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let walker = session.walker()?;
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| (Vec::new(), Vec::new()),
        |(down, up): &mut (Vec<Edge>, Vec<Edge>), segment, o| {
            let own = segment.generation(o.address);
            targets(session, &o, |target, generation| {
                if is_young(own) && generation == Generation::Large {
                    down.push((o.address, target));
                } else if own == Generation::Large && is_young(generation) {
                    up.push((o.address, target));
                }
            });
        },
    )?;
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for (d, u) in parts {
        down.extend(d);
        up.extend(u);
    }
    for list in [&mut down, &mut up] {
        list.sort_unstable();
        list.dedup();
    }
    edges(session, ctx.out, "Ephemeral objects pointing to the Large objects:", &DOWN, &down)?;
    edges(session, ctx.out, "Large objects pointing to ephemeral objects:", &UP, &up)?;
    // Both ways: the large object a young one refers to refers to a young one itself.
    let back = |large: u64| up.binary_search_by(|e| e.0.cmp(&large)).is_ok();
    let round: Vec<Edge> = down.iter().copied().filter(|e| back(e.1)).collect();
    let title = "Ephemeral objects pointing to Large objects that point back to ephemeral objects:";
    edges(session, ctx.out, title, &ROUND, &round)?;
    Ok(ended(session, &report, down.is_empty() && up.is_empty()))
}

fn edges(session: &Session, out: &mut Out, title: &str, table: &Table, list: &[Edge]) -> Result<()> {
    let clr = session.clr()?;
    let name = |a: u64| match clr.object_type(a) {
        Some(mt) => Cell::text(clr.type_name(mt).to_string()),
        None => Cell::shown("?", Cell::None),
    };
    out.note(title)?;
    if list.is_empty() {
        out.note("(none)")?;
        out.note("")?;
        return Ok(());
    }
    out.open(table)?;
    for &(from, to) in list {
        session.watch.cancel.check()?;
        out.row(&[Cell::Addr(from), name(from), Cell::Addr(to), name(to)])?;
    }
    out.done(table)?;
    out.note("")?;
    Ok(())
}
