//! `!refs`: what refers to an object, and what it refers to.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::clr::Clr;
use crate::clr::runtime::syncblocks;
use crate::clr::types::gcdesc::RefMap;
use crate::commands::heap::gcroot::{ROOTS, cells, source};
use crate::commands::heap::rootnames::{self, Headings};
use crate::heap::walk::Found;
use crate::session::Session;
use crate::session::held::{COLLECTIBLE, DEPENDENT};
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!refs ADDR`.
pub const REFS: Command = Command {
    name: "refs",
    prefix: Prefix::Bang,
    aliases: &["references", "gcref"],
    group: Group::Heap,
    summary: "what refers to an object, and through which field; or what it refers to",
    help: "Lists every object that refers to the one at ADDR with the field or element that does, and every root that holds \
           it directly. An object that refers to it several times has a row for each slot. Links made by a dependent \
           handle are marked, and so are those from an object of a collectible type to its loader allocator.\n\n\
           Weak handles to the object and its sync block are listed last: they do not keep it alive.\n\n\
           -out lists what the object itself refers to instead. -stat counts by type and field.\n\n\
           Of an address in a native block it lists what points there: objects by field, blocks, stacks, modules.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "the object").required(),
        Arg::flag("out", "what the object refers to").or(&["to", "source"]),
        Arg::flag("target", "what refers to the object, as without it"),
        Arg::flag("stat", "only counts by type and field"),
        Arg::opt("limit", Kind::Count, "so many rows, 1000 without this option; 0 for all").or(&["top"]),
    ],
    examples: &[
        Example { line: "!refs $OBJECT", what: "who refers to it" },
        Example { line: "!refs $OBJECT -out", what: "what it refers to" },
        Example { line: "!refs $OBJECT -stat", what: "types and fields that refer to it, with counts" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("references", "references found", Type::Count),
        Fact::new("more", "references left out", Type::Count),
        Fact::new("roots", "roots that hold the object", Type::Count),
        Fact::new("sync_block", "number of the object's sync block", Type::Count),
    ])
    .and(&[&REFERENCES, &COUNTS, &ROOTS, &WEAK])
    .with(&[&crate::commands::memory::nativeheap::BLOCK]),
    run,
};

const ROWS: u64 = 1000;

const LINK: Col = Col::data("link", Type::Text).titled("what makes the reference, where it is no field");
const VARIABLE: Col = Col::data("variable", Type::Text).titled("the static variable that is the reference");

/// The objects at the other ends.
const REFERENCES: Table = Table::new(
    "references",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::left("Field", "field", 24).of(Type::FieldPath),
        Col::left("Class Name", "class_name", 0).of(Type::TypeName),
        LINK,
        VARIABLE,
    ],
);

/// How many there are of each type and field.
const COUNTS: Table = Table::new(
    "counts",
    &[
        Col::right("MT", "method_table", 0).of(Type::Address),
        Col::right("Count", "count", 0).of(Type::Count),
        Col::left("Field", "field", 0).of(Type::FieldPath),
        Col::left("Class Name", "class_name", 0).of(Type::TypeName),
        LINK,
        VARIABLE,
    ],
)
.rising("count");

/// Weak handles to the object, and others that do not keep it alive.
const WEAK: Table = Table::new(
    "weak",
    &[
        Col::data("handle", Type::Address).titled("the handle"),
        Col::data("kind", Type::Text).titled("what it is"),
        Col::data("dependent", Type::Address).titled("the object it keeps alive with this one"),
    ],
);

/// One reference: the object at its other end, and the slot.
struct Reference {
    address: u64,
    slot: Slot,
}

/// What makes a reference.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Slot {
    /// A field or element.
    Field(Arc<str>),
    /// A static variable, as `static variable Type.Field` or `thread static variable Type.Field`.
    Static(Arc<str>),
    /// No slot: these words in parentheses.
    Link(&'static str),
}

impl Slot {
    /// As text has it.
    fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Field(name) => (&**name).into(),
            Self::Static(name) => format!("({name})").into(),
            Self::Link(words) => (*words).into(),
        }
    }

    /// The cells of the field, of what else makes the reference and of the variable.
    fn cells(&self) -> [Cell<'_>; 3] {
        let shown = |value| Cell::shown(self.shown(), value);
        match self {
            Self::Field(name) => [Cell::text(&**name), Cell::None, Cell::None],
            Self::Static(name) => {
                let (link, variable) = match name.split_once("variable ") {
                    Some((kind, variable)) => (format!("{kind}variable"), variable),
                    None => ("static variable".to_owned(), &**name),
                };
                [shown(Cell::None), Cell::text(link), Cell::text(variable)]
            }
            Self::Link(words) => [shown(Cell::None), Cell::text(words.trim_matches(['(', ')'])), Cell::None],
        }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let outgoing = args.has("out");
    if !outgoing {
        session.expect_ways()?;
    }
    if !session.is_object(address)? && session.native_heaps()?.blocks.holding(address).is_some() {
        return crate::commands::memory::nativeheap::show_block(ctx, address);
    }
    super::check_object(session, address)?;
    let limit = match args.number("limit") {
        None => ROWS,
        Some(0) => u64::MAX,
        Some(n) => n,
    };
    let mut listing = Listing { session, limit, rows: 0, counts: args.has("stat").then(FxHashMap::default) };
    if !args.has("stat") {
        ctx.out.open(&REFERENCES)?;
    }
    let (mut whole, sum) = (true, args.has("stat"));
    if outgoing {
        whole = from_one(session, address, sum, |r| listing.show(ctx.out, &r))?;
    } else {
        into_one(session, address, sum, |r| listing.show(ctx.out, &r))?;
    }
    let rows = listing.rows;
    listing.finish(ctx.out)?;
    let direction = if outgoing { "from" } else { "to" };
    let line = format!("{} references {direction} {address:x}", thousands(rows));
    ctx.out.fact("references", Cell::Num(rows), line)?;
    let mut found = rows;
    if !outgoing {
        let roots = roots(session, ctx.out, address)?;
        ctx.out.datum("roots", &Cell::Num(roots));
        found += roots;
        weak(session, ctx.out, address)?;
    }
    if outgoing {
        // Nothing but the object itself can be missing.
        return Ok(match (whole, found) {
            (false, _) => Outcome::Partial("part of the object is not in the dump".into()),
            (true, 0) => Outcome::Empty,
            _ => Outcome::Complete,
        });
    }
    if found == 0 { super::empty(session) } else { super::outcome(session) }
}

struct Listing<'a> {
    session: &'a Session,
    limit: u64,
    rows: u64,
    counts: Option<FxHashMap<(u64, Slot), u64>>,
}

impl Listing<'_> {
    fn show(&mut self, out: &mut Out, r: &Reference) -> Result<()> {
        self.rows += 1;
        let clr = self.session.clr()?;
        let address = r.address;
        let mt = clr.object_type(address).unwrap_or(0);
        if let Some(counts) = &mut self.counts {
            *counts.entry((mt, r.slot.clone())).or_default() += 1;
        } else if self.rows <= self.limit {
            let name = self.session.object_name(address);
            let [field, link, variable] = r.slot.cells();
            out.row(&[Cell::Addr(address), Cell::Addr(mt), field, Cell::text(&*name), link, variable])?;
        }
        Ok(())
    }

    fn finish(self, out: &mut Out) -> Result<()> {
        let clr = self.session.clr()?;
        let Some(counts) = self.counts else {
            if self.rows > self.limit {
                let more = self.rows - self.limit;
                out.fact("more", Cell::Num(more), format!("{} more; -limit 0 shows all", thousands(more)))?;
            }
            return Ok(());
        };
        let mut all: Vec<((u64, Slot), u64)> = counts.into_iter().collect();
        let key = |r: &((u64, Slot), u64)| (r.1, std::cmp::Reverse((r.0.0, r.0.1.shown().into_owned())));
        all.sort_by_cached_key(key);
        let skip = all.len().saturating_sub(usize::try_from(self.limit).unwrap_or(usize::MAX));
        let rows = all.iter().skip(skip).map(|((mt, slot), n)| {
            let [field, link, variable] = slot.cells();
            [Cell::Addr(*mt), Cell::Sep(*n), field, Cell::text(clr.type_name(*mt).to_string()), link, variable]
        });
        Ok(out.fill(&COUNTS, rows)?)
    }
}

/// The slots of `from` and what they hold, in the order they lie in.
fn each_slot(session: &Session, from: &Found<'_>, mut each: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let clr = session.clr()?;
    let (mut result, mut seen) = (Ok(()), 0u64);
    from.slots(clr.space(), |offset| {
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

fn slot_name(session: &Session, o: &Found<'_>, statics: &[(u64, Arc<str>)], offset: u64, sum: bool) -> Result<Slot> {
    let at = statics.binary_search_by_key(&(o.address + offset), |s| s.0);
    Ok(match at.ok().and_then(|i| statics.get(i)) {
        Some((_, name)) => Slot::Static(name.clone()),
        None => {
            let clr = session.clr()?;
            let name = session.slot_name(clr, &o.ty, offset);
            // Where slots are counted all elements are one.
            let element = name.strip_prefix("[]").filter(|_| !sum).and_then(|rest| indexed(clr, o, offset, rest));
            Slot::Field(element.map_or(name.clone(), Arc::from))
        }
    })
}

/// `[17].Key`, `[1,2]`: the slot at `offset` of an array, `rest` being its name in the element.
fn indexed(clr: &Clr, o: &Found<'_>, offset: u64, rest: &str) -> Option<String> {
    let mt = &o.ty.mt;
    let (dimensions, data) = clr.array_shape(o.address, mt.is_sz_array(), mt.rank(clr.ptr_size()))?;
    let size = u64::from(mt.component_size());
    let mut index = o.address.checked_add(offset)?.checked_sub(data)?.checked_div(size)?;
    let mut parts = Vec::new();
    for &(length, lower) in dimensions.iter().rev() {
        let length = u64::from(length.max(1));
        parts.push((i64::from(lower) + (index % length) as i64).to_string());
        index /= length;
    }
    parts.reverse();
    Some(format!("[{}]{rest}", parts.join(",")))
}

/// How the edge is called that no slot makes.
fn unslotted(session: &Session, from: u64, to: u64) -> Result<Slot> {
    Ok(Slot::Link(if session.links()?.is_dependent(from, to) { DEPENDENT } else { COLLECTIBLE }))
}

fn into_one(session: &Session, address: u64, sum: bool, mut show: impl FnMut(Reference) -> Result<()>) -> Result<()> {
    let walker = session.walker()?;
    for from in session.referrers(address)? {
        session.watch.cancel.check()?;
        let Some(o) = walker.object_at(from) else { continue };
        let statics = session.statics_within(o.address, o.size);
        let mut slots = 0;
        each_slot(session, &o, |offset, target| {
            if target == address {
                slots += 1;
                show(Reference { address: from, slot: slot_name(session, &o, &statics, offset, sum)? })?;
            }
            Ok(())
        })?;
        if slots == 0 || session.links()?.is_dependent(from, address) {
            show(Reference { address: from, slot: unslotted(session, from, address)? })?;
        }
    }
    Ok(())
}

/// Returns whether all of the object could be read.
fn from_one(session: &Session, address: u64, sum: bool, mut show: impl FnMut(Reference) -> Result<()>) -> Result<bool> {
    let Some(o) = session.walker()?.object_at(address) else { return Ok(false) };
    let statics = session.statics_within(o.address, o.size);
    each_slot(session, &o, |offset, target| {
        if session.is_object(target)? {
            show(Reference { address: target, slot: slot_name(session, &o, &statics, offset, sum)? })?;
        }
        Ok(())
    })?;
    for to in session.links()?.beside_slots(session.clr()?, &o.ty, address) {
        if session.is_object(to)? {
            show(Reference { address: to, slot: unslotted(session, address, to)? })?;
        }
    }
    let space = session.clr()?.space();
    let hole = space.run(address).is_none_or(|run| (run.len() as u64) < o.size)
        && (address..address + o.size).step_by(1 << 12).chain([address + o.size - 1]).any(|a| !space.readable(a));
    Ok(!hole && o.ty.refs != RefMap::Unreadable)
}

/// Roots that hold the object directly; returns how many.
fn roots(session: &Session, out: &mut Out, address: u64) -> Result<u64> {
    let (mut headings, mut count) = (Headings::default(), 0);
    for root in session.roots()?.items.iter().filter(|r| r.object == address) {
        count += 1;
        let frame = rootnames::frame(session, root);
        for line in headings.before(root, frame.as_ref()) {
            let gap = if line.starts_with(' ') { "" } else { "\n" };
            out.note(format!("{gap}{line}"))?;
        }
        out.row_as(&ROOTS, &cells(root, frame.as_ref(), count, address), source(root))?;
    }
    Ok(count)
}

/// What knows the object without keeping it alive.
fn weak(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let clr = session.clr()?;
    let handles = clr.handles();
    let mut weak = handles.items.iter().filter(|h| h.object == address && !h.kind.is_strong()).peekable();
    let index = clr.object_header(address).and_then(syncblocks::index_of);
    if weak.peek().is_some() || index.is_some() {
        out.note("\nNot keeping it alive:")?;
    }
    for h in weak {
        let (to, dependent) = match h.dependent {
            0 => (String::new(), Cell::None),
            to => (format!(" -> {to:x}"), Cell::Addr(to)),
        };
        let cells = [Cell::Addr(h.address), Cell::text(h.kind.words()), dependent];
        out.row_as(&WEAK, &cells, format!("    {:0w$x} ({}){to}", h.address, h.kind.words(), w = digits()))?;
    }
    if let Some(i) = index {
        out.fact("sync_block", Cell::Num(u64::from(i)), format!("    sync block {i}"))?;
    }
    Ok(())
}
