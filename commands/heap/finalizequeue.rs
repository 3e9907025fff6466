//! `!finalizequeue`: objects registered for finalization, by generation, and those ready for it.

use anyhow::Result;

use super::table::{self, ADDRESSES, OBJECTS, Sort};
use crate::clr::runtime::finalizer::{self, FinalizerQueue};
use crate::heap::stat::TypeTallies;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!finalizequeue`.
pub const FINALIZEQUEUE: Command = Command {
    name: "finalizequeue",
    prefix: Prefix::Bang,
    aliases: &["fq", "finalizable"],
    group: Group::Heap,
    summary: "objects registered or ready for finalization",
    help: "For each heap how many objects are registered in each generation and how many are ready, with the slots that \
           hold them; then the objects and their statistics. -allready shows only those nothing but the queue keeps \
           alive, -ready only those whose finalizer is about to run.",
    args: &[
        Arg::flag("detail", "accepted; no effect"),
        Arg::flag("allready", "only objects that are no longer rooted"),
        Arg::flag("ready", "only objects whose finalizer is about to run"),
        Arg::flag("short", "addresses only"),
        Arg::opt("mt", Kind::MethodTable, "only this MethodTable"),
        Arg::flag("stat", "statistics only").or(&["summary"]),
    ],
    examples: &[Example { line: "!finalizequeue -stat", what: "which finalizable types there are" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new(
        "sync_blocks_to_clean",
        "sync blocks whose object is gone, to be cleaned up",
        Type::Count,
    )])
    .and(&[&QUEUES, &OBJECTS, &ADDRESSES])
    .with(&[&table::RETURNS]),
    run,
};

/// Parts of the queues.
const QUEUES: Table = Table::new(
    "queues",
    &[
        Col::data("heap", Type::Count).titled("number of the GC heap"),
        Col::data("part", Type::Text).titled("generation of what is registered (0, 1, 2, large, pinned), or ready"),
        Col::data("objects", Type::Count).titled("slots in use"),
        Col::data("start", Type::Address).titled("first slot"),
        Col::data("end", Type::Address).titled("end of the slots"),
    ],
);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let queues = session.finalizer_queues()?;
    let short = args.has("short");
    let ptr = u64::from(clr.ptr_size());
    if !short {
        let blocks = clr.sync_blocks();
        let free = blocks.items.iter().filter(|b| b.object == 0).count() as u64;
        ctx.out.fact("sync_blocks_to_clean", Cell::Num(free), format!("SyncBlocks to be cleaned up: {free}"))?;
        ctx.out.note("-".repeat(34))?;
        for (heap, q) in &queues.items {
            ctx.out.note("")?;
            ctx.out.note(format!("Heap {heap}"))?;
            parts(ctx.out, ptr, u64::from(*heap), q)?;
            ctx.out.note("-".repeat(30))?;
        }
    }
    let which = if args.has("ready") {
        "that are ready for finalization"
    } else if args.has("allready") {
        "that are no longer rooted"
    } else {
        "(including all objects ready for finalization)"
    };
    if !short {
        ctx.out.note(format!("Statistics for all finalizable objects {which}:"))?;
    }
    let objects = objects(session, args)?;
    list(ctx, session, &objects, short, args.has("stat"), args.number("mt"))?;
    Ok(match &queues.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if objects.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// What one queue holds, by generation and state. As SOS does, text leaves out the generations above 2.
fn parts(out: &mut Out, ptr: u64, heap: u64, q: &FinalizerQueue) -> Result<()> {
    let cells = |part: &'static str, (a, b): (u64, u64)| {
        [Cell::Num(heap), Cell::text(part), Cell::Num((b - a) / ptr), Cell::Addr(a), Cell::Addr(b)]
    };
    for (g, name) in ["0", "1", "2", "large", "pinned"].into_iter().enumerate() {
        let slots = q.generation(g);
        let (a, b) = slots.unwrap_or((0, 0));
        if g < 3 {
            let line = format!("generation {g} has {} objects ({a:x}->{b:x})", (b - a) / ptr);
            out.row_as(&QUEUES, &cells(name, (a, b)), line)?;
        } else if let Some(slots) = slots {
            out.data_row(&QUEUES, &cells(name, slots))?;
        }
    }
    let (a, b) = q.all_ready();
    let line = format!("Ready for finalization {} objects ({a:x}->{b:x})", (b - a) / ptr);
    Ok(out.row_as(&QUEUES, &cells("ready", (a, b)), line)?)
}

fn objects(session: &Session, args: &Args) -> Result<Vec<u64>> {
    let clr = session.clr()?;
    let mut found = Vec::new();
    for (_, q) in &session.finalizer_queues()?.items {
        let slots = if args.has("ready") { q.all_ready() } else { q.all() };
        found.extend(finalizer::objects(clr, slots).items);
    }
    if args.has("allready") {
        // Rooted by something else than the queue: what the other roots reach.
        let ids = &session.index()?.ids;
        let others = session.roots()?.items.iter().filter(|r| r.kind != crate::heap::roots::RootKind::Finalizer);
        let live = session.marked_from(others.map(|r| r.object))?;
        found.retain(|&o| !live.has(ids, o));
    }
    Ok(found)
}

fn list(ctx: &mut Ctx<'_>, session: &Session, objects: &[u64], short: bool, stat: bool, mt: Option<u64>) -> Result<()> {
    let walker = session.walker()?;
    let mut tallies = TypeTallies::default();
    if short {
        ctx.out.open_bare(&ADDRESSES)?;
    } else if !stat {
        ctx.out.open(&OBJECTS)?;
    }
    for &address in objects {
        let Some(o) = walker.object_at(address) else { continue };
        if mt.is_some_and(|m| o.ty.mt.address != m) {
            continue;
        }
        tallies.add(o.ty.id, o.size);
        if short {
            ctx.out.row(&[Cell::Addr(address)])?;
        } else if !stat {
            table::listing_row(ctx.out, address, &o.ty, o.size)?;
        }
    }
    if !short {
        if !stat {
            ctx.out.note("")?;
        }
        table::statistics(session, ctx.out, &tallies, Sort::Size, None)?;
    }
    Ok(())
}
