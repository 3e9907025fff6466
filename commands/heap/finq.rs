//! `!finq`, `!frq`: the two halves of the finalizer queue apart, as SOSEX shows them.

use anyhow::Result;

use super::filter::holds;
use super::table::{self, LISTING, Sort};
use crate::clr::runtime::finalizer;
use crate::heap::stat::TypeTallies;
use crate::session::Session;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

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
    returns: Returns::NOTHING,
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
    returns: Returns::NOTHING,
    run: frq,
};

fn finq(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut groups = Vec::new();
    for (heap, q) in &session.finalizer_queues()?.items {
        for (g, name) in ["gen0", "gen1", "gen2", "loh", "poh"].into_iter().enumerate() {
            if let Some(slots) = q.generation(g) {
                groups.push((format!("Heap {heap}, {name}"), slots));
            }
        }
    }
    show(ctx, session, args, &groups, "registered for finalization")
}

fn frq(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut groups = Vec::new();
    for (heap, q) in &session.finalizer_queues()?.items {
        groups.push((format!("Heap {heap}, critical finalizers"), q.critical));
        groups.push((format!("Heap {heap}, finalizers"), q.ready));
    }
    show(ctx, session, args, &groups, "ready for finalization")
}

fn show(
    ctx: &mut Ctx<'_>,
    session: &Session,
    args: &Args,
    groups: &[(String, (u64, u64))],
    what: &str,
) -> Result<Outcome> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    let mut partial = session.finalizer_queues()?.partial.clone();
    let mut all = TypeTallies::default();
    let wanted = |mt: u64| {
        args.number("mt").is_none_or(|m| m == mt) && args.text("type").is_none_or(|t| holds(&clr.type_name(mt), t))
    };
    for (title, slots) in groups {
        let found = finalizer::objects(clr, *slots);
        partial = partial.or(found.partial);
        let objects: Vec<_> =
            found.items.iter().filter_map(|&a| walker.object_at(a)).filter(|o| wanted(o.ty.mt.address)).collect();
        objects.iter().for_each(|o| all.add(o.ty.id, o.size));
        if objects.is_empty() {
            continue;
        }
        ctx.out.line(format!("{title}: {} objects {what}", objects.len()))?;
        if !args.has("stat") {
            ctx.out.table("objects", LISTING, true)?;
            for o in &objects {
                table::listing_row(ctx.out, o.address, &o.ty, o.size)?;
            }
            ctx.out.line("")?;
        }
    }
    table::statistics(session, ctx.out, &all, Sort::Size, None)?;
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if all.total().count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}
