//! `!gcroot`: what keeps an object alive, one chain for each root that reaches it. `!pathto`: a way from one object to
//! another.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::graph::paths::WaysTo;
use crate::heap::roots::{Root, RootKind};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!gcroot ADDR`, `!gcroot -type T`.
pub const GCROOT: Command = Command {
    name: "gcroot",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "what keeps an object, or all objects of a type, alive",
    help: "With an address: prints a shortest chain of references from every root that reaches the object: handles, thread \
           statics, the finalizer queue, thread stacks and registers. Objects held by a static field are named by it; links \
           made by a dependent handle are marked. -all adds further chains of each root, the shortest first, until every \
           reference that takes part was shown; as there may be very many, no more than 100 chains unless -limit says so.\n\n\
           With -type or -mt: all objects of that type, merged by the root and the types and fields over which they are \
           held, those with most bytes first, each with one example. Every object counts once, for a shortest way; what only \
           a stack holds comes after everything else. A step marked * repeats: lists and trees. So one command tells \
           whether there is one leak or several.\n\n\
           Stacks are scanned conservatively: a value in a register or stack slot counts when it lies inside a live \
           object. Such roots are labelled; some may be stale. -nostacks leaves them out. Sync blocks and weak handles hold \
           nothing; !refs lists those of an object.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object"),
        Arg::opt(
            "type",
            Kind::TypeName,
            "all objects whose type's name contains this (exactly this, when one has the name)",
        ),
        Arg::opt("mt", Kind::MethodTable, "all objects of this MethodTable"),
        Arg::flag("nostacks", "leave stacks and registers out"),
        Arg::flag("all", "further chains of each root"),
        Arg::opt(
            "limit",
            Kind::Count,
            "stop after so many chains, or paths of a type (20 without this option; 0 for all)",
        ),
    ],
    examples: &[
        Example { line: "!gcroot $OBJECT", what: "who holds it" },
        Example { line: "!gcroot $OBJECT -all -limit 5", what: "the first five ways to it" },
        Example { line: "!gcroot -type System.String -limit 3", what: "what holds all objects of a type" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: gcroot,
};

/// `!pathto SOURCE TARGET`.
pub const PATHTO: Command = Command {
    name: "pathto",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "a shortest chain of references from one object to another",
    help: "Prints a shortest way from SOURCE to TARGET along references, or that there is none.",
    args: &[
        Arg::pos("SOURCE", Kind::Object, "where to start").required(),
        Arg::pos("TARGET", Kind::Object, "where to arrive").required(),
    ],
    examples: &[Example { line: "!pathto $OBJECT $TARGET", what: "how one reaches the other" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: pathto,
};

const CHAIN: &[Col] = &[Col::left("", "arrow", 12), Col::left("", "object", 16), Col::left("", "type", 0)];

fn id_of(session: &Session, address: u64) -> Result<u32> {
    let index = session.index()?;
    if let Some(id) = index.ids.id_of(address) {
        return Ok(id);
    }
    super::super::objects::dumpobj::look_up(session, address)?;
    bail!("no object starts at {address:x}; try !listnearobj {address:x}")
}

/// Chains shown with `-all` unless `-limit` says otherwise.
const CHAINS: u64 = 100;

fn gcroot(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (ty, mt) = (args.text("type"), args.number("mt"));
    let Some(address) = args.number("ADDR") else {
        if ty.is_none() && mt.is_none() {
            bail!("an address, -type or -mt");
        }
        return crate::commands::graph::held::run(ctx, args);
    };
    if ty.is_some() || mt.is_some() {
        bail!("either an address, or -type or -mt");
    }
    let all = args.has("all");
    let limit = match args.number("limit") {
        None if all => CHAINS,
        None | Some(0) => u64::MAX,
        Some(n) => n,
    };
    let (count, chains) = roots_of(session, ctx.out, address, &Wanted { all, limit, nostacks: args.has("nostacks") })?;
    match all {
        true => ctx.out.line(format!("Found {count} unique roots, {chains} chains."))?,
        false => ctx.out.line(format!("Found {count} unique roots."))?,
    }
    Ok(match &session.roots()?.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// Which chains are shown.
struct Wanted {
    /// Every chain of each root, not a shortest one.
    all: bool,
    /// As many chains at most.
    limit: u64,
    /// None of the stacks'.
    nostacks: bool,
}

/// Prints what keeps the object at `address` alive: a shortest chain from each root.
pub fn print_roots(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let wanted = Wanted { all: false, limit: u64::MAX, nostacks: false };
    let (count, _) = roots_of(session, out, address, &wanted)?;
    Ok(out.line(format!("Found {count} unique roots."))?)
}

/// Prints the chains; gives the number of roots and of chains.
fn roots_of(session: &Session, out: &mut Out, address: u64, wanted: &Wanted) -> Result<(u64, u64)> {
    let id = id_of(session, address)?;
    let graph = session.graph()?;
    let ways = WaysTo::new(&graph.reverse, id, &session.watch)?;
    let mut section = String::new();
    let (mut count, mut chains) = (0u64, 0u64);
    for root in session.roots()?.items.iter().filter(|r| !(wanted.nostacks && r.is_stack())) {
        session.watch.cancel.check()?;
        let Some(start) = session.index()?.ids.id_of(root.object).filter(|&s| ways.reaches(s)) else { continue };
        if chains >= wanted.limit {
            out.line(format!("Stopped after {chains} chains; -limit 0 shows all."))?;
            break;
        }
        count += 1;
        let title = title(root);
        if title != section {
            out.line(&title)?;
            section = title;
        }
        out.line(source(root))?;
        if !wanted.all {
            chains += 1;
            chain(session, out, &ways.path(start))?;
            out.line("")?;
            continue;
        }
        let mut failed = Ok(());
        ways.all_from(&graph.forward, &graph.reverse, start, &session.watch, |path| {
            chains += 1;
            failed = chain(session, out, path).and_then(|()| Ok(out.line("")?));
            failed.is_ok() && chains < wanted.limit
        })?;
        failed?;
    }
    Ok((count, chains))
}

/// The heading of the section a root belongs to.
pub fn title(root: &Root) -> String {
    match &root.kind {
        RootKind::Handle(_) => "HandleTable:".into(),
        RootKind::Finalizer => "Finalizer Queue:".into(),
        RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => format!("Thread {os_id:x}: (conservative)"),
        RootKind::ThreadStatic { os_id, .. } => format!("Thread {os_id:x} statics:"),
    }
}

/// The line that names the root itself.
pub fn source(root: &Root) -> String {
    let inside = if root.interior { " (interior)" } else { "" };
    match &root.kind {
        RootKind::Handle(kind) => format!("    {:0w$x} ({})", root.slot, kind.words(), w = digits()),
        RootKind::Finalizer => format!("    {:0w$x} (finalizer root)", root.slot, w = digits()),
        RootKind::Stack { .. } => format!("    {:0w$x} (stack slot){inside}", root.slot, w = digits()),
        RootKind::Register { name, .. } => format!("    {name} (register){inside}"),
        RootKind::ThreadStatic { name, .. } => {
            format!("    {:0w$x} (thread static variable: {name})", root.slot, w = digits())
        }
    }
}

fn chain(session: &Session, out: &mut Out, path: &[u32]) -> Result<()> {
    let clr = session.clr()?;
    let ids = &session.index()?.ids;
    let graph = session.graph()?;
    out.table("chain", CHAIN, false)?;
    let mut before: Option<(u32, u64)> = None;
    for &id in path {
        let Some(address) = ids.address_of(id) else { continue };
        let mut name = session.object_name(address).to_string();
        if let Some((from_id, from)) = before {
            if let Some(field) = static_between(session, clr, from, address) {
                name.push_str(&format!(" (static variable: {field})"));
            } else if let Some(field) = slot_between(session.thread_static_slots()?, session, clr, from, address) {
                name.push_str(&format!(" (thread static variable: {field})"));
            } else if graph.is_dependent(from_id, id) {
                name.push_str(" (dependent handle)");
            }
        }
        out.row(&[Cell::text("          ->"), Cell::Addr(address), Cell::text(name)])?;
        before = Some((id, address));
    }
    Ok(())
}

/// Name of the static field when `from` is an `Object[]` that stores statics and one of its slots refers to `to`.
pub fn static_between(session: &Session, clr: &Clr, from: u64, to: u64) -> Option<String> {
    slot_between(session.static_slots().ok()?, session, clr, from, to)
}

/// As [`static_between`], for the slots of a list.
fn slot_between(slots: &[(u64, Arc<str>)], session: &Session, clr: &Clr, from: u64, to: u64) -> Option<String> {
    let walker = session.walker().ok()?;
    let o = walker.object_at(from)?;
    if !o.ty.mt.is_sz_array() || !o.ty.mt.contains_pointers() {
        return None;
    }
    // Statics arrays are few and small; the slots in question are those that hold the reference.
    let first = slots.partition_point(|s| s.0 < from);
    let inside = slots.get(first..)?.iter().take_while(|s| s.0 < from + o.size);
    inside.into_iter().find(|s| clr.space().ptr(s.0) == Some(to)).map(|s| s.1.to_string())
}

fn pathto(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (a, b) = (args.number("SOURCE").unwrap_or(0), args.number("TARGET").unwrap_or(0));
    let (from, to) = (id_of(session, a)?, id_of(session, b)?);
    let ways = WaysTo::new(&session.graph()?.reverse, to, &session.watch)?;
    let path = ways.path(from);
    if path.is_empty() {
        ctx.out.line(format!("Could not find a path from {a:x} to {b:x}"))?;
        return Ok(Outcome::Empty);
    }
    chain(session, ctx.out, &path)?;
    Ok(Outcome::Complete)
}
