//! `!refs`: what refers to an object, and what it refers to.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::clr::runtime::syncblocks;
use crate::commands::heap::gcroot::{source, title};
use crate::heap::walk::Found;
use crate::session::Session;
use crate::session::held::{COLLECTIBLE, DEPENDENT};
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!refs ADDR`.
pub const REFS: Command = Command {
    name: "refs",
    prefix: Prefix::Bang,
    aliases: &["references"],
    group: Group::Heap,
    summary: "what refers to an object, and through which field; or what it refers to",
    help: "Lists every object that refers to the one at ADDR with the field or element that does, and every root that holds \
           it directly. An object that refers to it several times has a row for each slot. Links made by a dependent \
           handle are marked, and so are those from an object of a collectible type to its loader allocator.\n\n\
           Weak handles to the object and its sync block are listed last: they do not keep it alive.\n\n\
           -out lists what the object itself refers to instead. -stat counts by type and field.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "the object").required(),
        Arg::flag("out", "what the object refers to").or(&["to"]),
        Arg::flag("stat", "only counts by type and field"),
        Arg::opt("limit", Kind::Count, "so many rows, 1000 without this option; 0 for all").or(&["top"]),
    ],
    examples: &[
        Example { line: "!refs $OBJECT", what: "who refers to it" },
        Example { line: "!refs $OBJECT -out", what: "what it refers to" },
        Example { line: "!refs $OBJECT -stat", what: "types and fields that refer to it, with counts" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

const ROWS: u64 = 1000;

const COLUMNS: &[Col] = &[
    Col::right("Address", "address", 16),
    Col::right("MT", "method_table", 16),
    Col::left("Field", "field", 24),
    Col::left("Class Name", "class_name", 0),
];

const COUNTS: &[Col] = &[
    Col::right("MT", "method_table", 0),
    Col::right("Count", "count", 0),
    Col::left("Field", "field", 0),
    Col::left("Class Name", "class_name", 0),
];

/// One reference: the object at its other end, and the slot.
struct Reference {
    id: u32,
    slot: Arc<str>,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let id = super::id_of(session, address)?;
    let limit = match args.number("limit") {
        None => ROWS,
        Some(0) => u64::MAX,
        Some(n) => n,
    };
    let outgoing = args.has("out");
    let mut listing = Listing { session, limit, rows: 0, counts: args.has("stat").then(FxHashMap::default) };
    if !args.has("stat") {
        ctx.out.table("references", COLUMNS, true)?;
    }
    if outgoing {
        from_one(session, id, |r| listing.show(ctx.out, &r))?;
    } else {
        into_one(session, id, |r| listing.show(ctx.out, &r))?;
    }
    let rows = listing.rows;
    listing.finish(ctx.out)?;
    let direction = if outgoing { "from" } else { "to" };
    ctx.out.line(format!("{} references {direction} {address:x}", thousands(rows)))?;
    let mut found = rows;
    if !outgoing {
        found += roots(session, ctx.out, address)?;
        weak(session, ctx.out, address)?;
    }
    if found == 0 { super::dominators::empty(session) } else { super::outcome(session) }
}

struct Listing<'a> {
    session: &'a Session,
    limit: u64,
    rows: u64,
    counts: Option<FxHashMap<(u64, Arc<str>), u64>>,
}

impl Listing<'_> {
    fn show(&mut self, out: &mut Out, r: &Reference) -> Result<()> {
        self.rows += 1;
        let clr = self.session.clr()?;
        let Some(address) = self.session.index()?.ids.address_of(r.id) else { return Ok(()) };
        let mt = clr.object_type(address).unwrap_or(0);
        if let Some(counts) = &mut self.counts {
            *counts.entry((mt, r.slot.clone())).or_default() += 1;
        } else if self.rows <= self.limit {
            let name = self.session.object_name(address).to_string();
            out.row(&[Cell::Addr(address), Cell::Addr(mt), Cell::text(&*r.slot), Cell::text(name)])?;
        }
        Ok(())
    }

    fn finish(self, out: &mut Out) -> Result<()> {
        let clr = self.session.clr()?;
        let Some(counts) = self.counts else {
            if self.rows > self.limit {
                out.line(format!("{} more; -limit 0 shows all", thousands(self.rows - self.limit)))?;
            }
            return Ok(());
        };
        let mut all: Vec<((u64, Arc<str>), u64)> = counts.into_iter().collect();
        all.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        let skip = all.len().saturating_sub(usize::try_from(self.limit).unwrap_or(usize::MAX));
        let rows: Vec<Vec<Cell<'_>>> = all
            .iter()
            .skip(skip)
            .map(|((mt, slot), n)| {
                let name = clr.type_name(*mt).to_string();
                vec![Cell::Addr(*mt), Cell::Sep(*n), Cell::text(&**slot), Cell::text(name)]
            })
            .collect();
        out.rows("counts", COUNTS, true, &rows)?;
        Ok(())
    }
}

/// The slots of `from` and what they hold, in the order they lie in.
fn each_slot(session: &Session, from: &Found<'_>, mut each: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let clr = session.clr()?;
    let (mut result, mut seen) = (Ok(()), 0u64);
    from.ty.refs.slots(from.size, clr.header(), |offset| {
        seen += 1;
        if seen.is_multiple_of(1 << 16) && result.is_ok() {
            result = session.watch.cancel.check().map_err(Into::into);
        }
        if result.is_ok()
            && let Some(target) = clr.space().ptr(from.address + offset).filter(|&t| t != 0)
        {
            result = each(offset, target);
        }
    });
    result
}

fn slot_name(session: &Session, o: &Found<'_>, statics: &[(u64, Arc<str>)], offset: u64) -> Result<Arc<str>> {
    let at = statics.binary_search_by_key(&(o.address + offset), |s| s.0);
    Ok(match at.ok().and_then(|i| statics.get(i)) {
        Some((_, name)) => format!("({name})").into(),
        None => session.slot_name(session.clr()?, &o.ty, offset),
    })
}

/// How the edge is called that no slot makes.
fn unslotted(session: &Session, from: u32, to: u32) -> Result<Arc<str>> {
    Ok(if session.graph()?.is_dependent(from, to) { DEPENDENT } else { COLLECTIBLE }.into())
}

fn into_one(session: &Session, id: u32, mut show: impl FnMut(Reference) -> Result<()>) -> Result<()> {
    let (walker, ids, graph) = (session.walker()?, &session.index()?.ids, session.graph()?);
    let address = ids.address_of(id).unwrap_or(0);
    let mut last = None;
    for &from in graph.reverse.of(id) {
        session.watch.cancel.check()?;
        // A referrer stands there once for each of its slots.
        if last.replace(from) == Some(from) {
            continue;
        }
        let Some(o) = ids.address_of(from).and_then(|a| walker.object_at(a)) else { continue };
        let statics = session.statics_within(o.address, o.size);
        let mut slots = 0;
        each_slot(session, &o, |offset, target| {
            if target == address {
                slots += 1;
                show(Reference { id: from, slot: slot_name(session, &o, &statics, offset)? })?;
            }
            Ok(())
        })?;
        if slots == 0 || graph.is_dependent(from, id) {
            show(Reference { id: from, slot: unslotted(session, from, id)? })?;
        }
    }
    Ok(())
}

fn from_one(session: &Session, id: u32, mut show: impl FnMut(Reference) -> Result<()>) -> Result<()> {
    let (walker, ids, graph) = (session.walker()?, &session.index()?.ids, session.graph()?);
    let Some(o) = ids.address_of(id).and_then(|a| walker.object_at(a)) else { return Ok(()) };
    let statics = session.statics_within(o.address, o.size);
    let mut slotted = 0;
    each_slot(session, &o, |offset, target| {
        let Some(to) = ids.id_of(target) else { return Ok(()) };
        slotted += 1;
        show(Reference { id: to, slot: slot_name(session, &o, &statics, offset)? })
    })?;
    // Behind those of the slots stand the others.
    for &to in graph.forward.of(id).get(slotted..).unwrap_or(&[]) {
        show(Reference { id: to, slot: unslotted(session, id, to)? })?;
    }
    Ok(())
}

/// Roots that hold the object directly; returns how many.
fn roots(session: &Session, out: &mut Out, address: u64) -> Result<u64> {
    let mut section = String::new();
    let mut count = 0;
    for root in session.roots()?.items.iter().filter(|r| r.object == address) {
        count += 1;
        let title = title(root);
        if title != section {
            out.line(format!("\n{title}"))?;
            section = title;
        }
        out.line(source(root))?;
    }
    Ok(count)
}

/// What knows the object without keeping it alive.
fn weak(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let clr = session.clr()?;
    let mut lines = Vec::new();
    for h in clr.handles().items.iter().filter(|h| h.object == address && !h.kind.is_strong()) {
        let to = if h.dependent != 0 { format!(" -> {:x}", h.dependent) } else { String::new() };
        lines.push(format!("    {:0w$x} ({}){to}", h.address, h.kind.words(), w = digits()));
    }
    if let Some(i) = clr.object_header(address).and_then(syncblocks::index_of) {
        lines.push(format!("    sync block {i}"));
    }
    if !lines.is_empty() {
        out.line("\nNot keeping it alive:")?;
        lines.iter().try_for_each(|l| out.line(l))?;
    }
    Ok(())
}
