//! `!finq`, `!frq`: the two halves of the finalizer queue apart, as SOSEX shows them.

use anyhow::Result;

use super::filter::holds;
use super::table::{self, Sort};
use crate::clr::runtime::finalizer;
use crate::heap::stat::TypeTallies;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

const ARGS: &[Arg] = &[
    Arg::flag("stat", "statistics only").or(&["summary"]),
    Arg::opt("mt", Kind::MethodTable, "only this MethodTable"),
    Arg::opt("type", Kind::TypeName, "only types whose name contains this (case matters)"),
];

/// `!finq`.
pub const FINQ: Command = Command {
    name: "finq",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "objects registered for finalization that are still in use, by generation",
    help: "The registered half of !finalizequeue: objects with a finalizer that nobody has let go of yet, one block a heap \
           and generation, then their statistics. -stat leaves the lists out.",
    args: ARGS,
    examples: &[Example { line: "!finq -stat", what: "which types with a finalizer are alive" }],
    needs: Needs::Clr,
    returns: RETURNS,
    run: finq,
};

/// `!frq`.
pub const FRQ: Command = Command {
    name: "frq",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "objects whose finalizer is about to run (the f-reachable queue)",
    help: "The ready half of !finalizequeue: objects only the queue keeps alive, waiting for the finalizer thread, those \
           with a critical finalizer apart. A long list means that the thread is blocked or overrun.",
    args: ARGS,
    examples: &[Example { line: "!frq -stat", what: "what the finalizer thread has before it" }],
    needs: Needs::Clr,
    returns: RETURNS,
    run: frq,
};

const GROUP: Col = Col::data("group", Type::Count).titled("number of the group");

/// Parts of the queues that hold objects asked for.
const GROUPS: Table = Table::new(
    "groups",
    &[
        GROUP,
        Col::data("heap", Type::Count).titled("number of the GC heap"),
        Col::data("generation", Type::Text).titled("generation of what is registered: 0, 1, 2, large, pinned"),
        Col::data("critical", Type::Bool).titled("of what is ready: with a critical finalizer"),
        Col::data("objects", Type::Count).titled("objects in it"),
    ],
);

/// Their objects.
const OBJECTS: Table = Table::new(
    "objects",
    &[
        GROUP,
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::right("Size", "size", 14).of(Type::Bytes),
        Col::left("", "free", 0).of(Type::Bool),
    ],
)
.under("groups", "group");

const RETURNS: Returns = Returns::tables(&[&GROUPS, &OBJECTS]).with(&[&table::RETURNS]);

/// A part of a queue.
struct Part {
    title: String,
    heap: u32,
    generation: Option<&'static str>,
    critical: Option<bool>,
    slots: (u64, u64),
}

/// Generations as a queue numbers them: the word of the title, the one of the data.
const GENERATIONS: [(&str, &str); 5] =
    [("gen0", "0"), ("gen1", "1"), ("gen2", "2"), ("loh", "large"), ("poh", "pinned")];

fn finq(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut groups = Vec::new();
    for (heap, q) in &session.finalizer_queues()?.items {
        for (g, (name, generation)) in GENERATIONS.into_iter().enumerate() {
            if let Some(slots) = q.generation(g) {
                let title = format!("Heap {heap}, {name}");
                groups.push(Part { title, heap: *heap, generation: Some(generation), critical: None, slots });
            }
        }
    }
    show(ctx, session, args, &groups, "registered for finalization")
}

fn frq(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut groups = Vec::new();
    for (heap, q) in &session.finalizer_queues()?.items {
        for (name, critical, slots) in [("critical finalizers", true, q.critical), ("finalizers", false, q.ready)] {
            let title = format!("Heap {heap}, {name}");
            groups.push(Part { title, heap: *heap, generation: None, critical: Some(critical), slots });
        }
    }
    show(ctx, session, args, &groups, "ready for finalization")
}

fn show(ctx: &mut Ctx<'_>, session: &Session, args: &Args, groups: &[Part], what: &str) -> Result<Outcome> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    let mut partial = session.finalizer_queues()?.partial.clone();
    let mut all = TypeTallies::default();
    let wanted = |mt: u64| {
        args.number("mt").is_none_or(|m| m == mt) && args.text("type").is_none_or(|t| holds(&clr.type_name(mt), t))
    };
    for part in groups {
        let found = finalizer::objects(clr, part.slots);
        partial = partial.or(found.partial);
        let objects: Vec<_> =
            found.items.iter().filter_map(|&a| walker.object_at(a)).filter(|o| wanted(o.ty.mt.address)).collect();
        objects.iter().for_each(|o| all.add(o.ty.id, o.size));
        if objects.is_empty() {
            continue;
        }
        let number = ctx.out.count(&GROUPS) + 1;
        let cells = [
            Cell::Num(number),
            Cell::Num(u64::from(part.heap)),
            Cell::maybe(part.generation),
            part.critical.map_or(Cell::None, Cell::Bool),
            Cell::Num(objects.len() as u64),
        ];
        ctx.out.row_as(&GROUPS, &cells, format!("{}: {} objects {what}", part.title, objects.len()))?;
        if !args.has("stat") {
            ctx.out.open(&OBJECTS)?;
            for o in &objects {
                let [address, mt, size, free] = table::listing(o.address, o.ty.mt.address, o.ty.is_free, o.size);
                ctx.out.row(&[Cell::Num(number), address, mt, size, free])?;
            }
            ctx.out.note("")?;
        }
    }
    table::statistics(session, ctx.out, &all, Sort::Size, None)?;
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if all.total().count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}
