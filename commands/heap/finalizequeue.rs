//! `!finalizequeue`: objects registered for finalization, by generation, and those ready for it.

use anyhow::Result;

use super::table::{self, LISTING, Sort};
use crate::clr::runtime::finalizer;
use crate::heap::stat::TypeTallies;
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!finalizequeue`.
pub const FINALIZEQUEUE: Command = Command {
    name: "finalizequeue",
    prefix: Prefix::Bang,
    aliases: &["fq"],
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
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let queues = session.finalizer_queues()?;
    let short = args.has("short");
    let ptr = u64::from(clr.ptr_size());
    if !short {
        let blocks = clr.sync_blocks();
        let free = blocks.items.iter().filter(|b| b.object == 0).count();
        ctx.out.line(format!("SyncBlocks to be cleaned up: {free}"))?;
        ctx.out.line("-".repeat(34))?;
        for (heap, q) in &queues.items {
            ctx.out.line("")?;
            ctx.out.line(format!("Heap {heap}"))?;
            for g in 0..3 {
                let (a, b) = q.generation(g).unwrap_or((0, 0));
                ctx.out.line(format!("generation {g} has {} objects ({a:x}->{b:x})", (b - a) / ptr))?;
            }
            let (a, b) = q.all_ready();
            ctx.out.line(format!("Ready for finalization {} objects ({a:x}->{b:x})", (b - a) / ptr))?;
            ctx.out.line("-".repeat(30))?;
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
        ctx.out.line(format!("Statistics for all finalizable objects {which}:"))?;
    }
    let objects = objects(session, args)?;
    list(ctx, session, &objects, short, args.has("stat"), args.number("mt"))?;
    Ok(match &queues.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if objects.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
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
        let sources: Vec<u32> = others.filter_map(|r| ids.id_of(r.object)).collect();
        let live = crate::graph::paths::reachable(&session.graph()?.forward, sources, &session.watch)?;
        found.retain(|&o| !ids.id_of(o).and_then(|i| live.get(i as usize)).copied().unwrap_or(false));
    }
    Ok(found)
}

fn list(ctx: &mut Ctx<'_>, session: &Session, objects: &[u64], short: bool, stat: bool, mt: Option<u64>) -> Result<()> {
    let walker = session.walker()?;
    let mut tallies = TypeTallies::default();
    if short {
        ctx.out.table("objects", &[Col::left("", "address", 0)], false)?;
    } else if !stat {
        ctx.out.table("objects", LISTING, true)?;
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
            ctx.out.line("")?;
        }
        table::statistics(session, ctx.out, &tallies, Sort::Size, None)?;
    }
    Ok(())
}
