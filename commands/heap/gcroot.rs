//! `!gcroot`: what keeps an object alive, one chain for each root that reaches it. `!pathto`: a way from one object to
//! another.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::graph::paths::WaysTo;
use crate::heap::roots::{Root, RootKind};
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix};

/// `!gcroot ADDR`.
pub const GCROOT: Command = Command {
    name: "gcroot",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "what keeps an object alive: a chain from each root",
    help: "Prints a shortest chain of references from every root that reaches the object: handles, thread statics, the \
           finalizer queue, thread stacks and registers. Objects held by a static field are named by it; links made by a \
           dependent handle are marked.\n\n\
           Stacks are scanned conservatively: a value in a register or stack slot counts when it lies inside a live \
           object. Such roots are labelled; some may be stale. -nostacks leaves them out.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object").required(),
        Arg::flag("nostacks", "leave stacks and registers out"),
        Arg::flag("all", "accepted: every root is always shown"),
        Arg::opt("limit", Kind::Count, "stop after so many roots"),
    ],
    examples: &[Example { line: "!gcroot $OBJECT", what: "who holds it" }],
    needs: Needs::Clr,
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

fn gcroot(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let id = id_of(session, args.number("ADDR").unwrap_or(0))?;
    let graph = session.graph()?;
    let ways = WaysTo::new(&graph.reverse, id, &session.watch)?;
    let roots = session.roots()?;
    let limit = args.number("limit").filter(|&l| l > 0).unwrap_or(u64::MAX);
    let nostacks = args.has("nostacks");
    let mut section = String::new();
    let mut count = 0;
    for root in roots.items.iter().filter(|r| !(nostacks && r.is_stack())) {
        session.watch.cancel.check()?;
        let Some(start) = session.index()?.ids.id_of(root.object).filter(|&s| ways.reaches(s)) else { continue };
        if count == limit {
            break;
        }
        count += 1;
        let title = title(root);
        if title != section {
            ctx.out.line(&title)?;
            section = title;
        }
        ctx.out.line(source(root))?;
        chain(session, ctx.out, &ways.path(start))?;
        ctx.out.line("")?;
    }
    ctx.out.line(format!("Found {count} unique roots."))?;
    Ok(match &roots.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The heading of the section a root belongs to.
fn title(root: &Root) -> String {
    match &root.kind {
        RootKind::Handle(_) => "HandleTable:".into(),
        RootKind::Finalizer => "Finalizer Queue:".into(),
        RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => format!("Thread {os_id:x}: (conservative)"),
        RootKind::ThreadStatic { os_id, .. } => format!("Thread {os_id:x} statics:"),
    }
}

/// The line that names the root itself.
fn source(root: &Root) -> String {
    let inside = if root.interior { " (interior)" } else { "" };
    match &root.kind {
        RootKind::Handle(kind) => format!("    {:016x} ({})", root.slot, kind.words()),
        RootKind::Finalizer => format!("    {:016x} (finalizer root)", root.slot),
        RootKind::Stack { .. } => format!("    {:016x} (stack slot){inside}", root.slot),
        RootKind::Register { name, .. } => format!("    {name} (register){inside}"),
        RootKind::ThreadStatic { name, .. } => format!("    {:016x} (thread static variable: {name})", root.slot),
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
        let mt = clr.object_type(address).unwrap_or(0);
        let mut name = clr.type_name(mt).to_string();
        if let Some((from_id, from)) = before {
            if let Some(field) = static_between(session, clr, from, address) {
                name.push_str(&format!(" (static variable: {field})"));
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
    let walker = session.walker().ok()?;
    let o = walker.object_at(from)?;
    if !o.ty.mt.is_sz_array() || !o.ty.mt.contains_pointers() {
        return None;
    }
    // Statics arrays are few and small; the slots in question are those that hold the reference.
    let slots = session.static_slots().ok()?;
    let first = slots.partition_point(|s| s.0 < from);
    slots[first..]
        .iter()
        .take_while(|s| s.0 < from + o.size)
        .find(|s| clr.space().ptr(s.0) == Some(to))
        .map(|s| s.1.to_string())
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
