//! `!verifyobj`: one object and its references checked.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::runtime::syncblocks;
use crate::dump::AddressSpace;
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!verifyobj ADDR`.
pub const VERIFYOBJ: Command = Command {
    name: "verifyobj",
    prefix: Prefix::Bang,
    aliases: &["vo"],
    group: Group::Heap,
    summary: "check one object: its MethodTable, its size, its references",
    help: "Checks that ADDR is the start of an object, that the object ends where the walk over the heap says, that each \
           of its references is null or the start of another object, and that its header's sync block leads back to it.",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the object").required()],
    examples: &[Example { line: "!verifyobj $OBJECT", what: "is it sound" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("address", "the address asked for", Type::Address),
        Fact::new("object", "an object starts there", Type::Bool),
        Fact::new("valid", "nothing is wrong with it", Type::Bool),
    ])
    .and(&[&ISSUES]),
    run,
};

/// What is wrong with the object.
const ISSUES: Table = Table::new(
    "issues",
    &[
        Col::right("Offset", "offset", 8).of(Type::Number).unit("bytes"),
        Col::left("Issue", "issue", 30),
        Col::left("Description", "description", 0),
        Col::data("reference", Type::Address).titled("what the field refers to"),
        Col::data("other", Type::Address).titled("the object before, or the one its sync block belongs to"),
        Col::data("sync_block", Type::Count).titled("number of the sync block"),
    ],
);

/// What is wrong, at which offset of the object.
struct Issue {
    offset: i64,
    what: &'static str,
    description: String,
    /// What the field refers to.
    reference: Option<u64>,
    /// The object before, or the one the sync block belongs to.
    other: Option<u64>,
    /// Index of the sync block.
    sync_block: Option<u32>,
}

impl Issue {
    fn new(offset: i64, what: &'static str, description: String) -> Self {
        Self { offset, what, description, reference: None, other: None, sync_block: None }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let walker = session.walker()?;
    let Some(object) = walker.object_at(address) else {
        let what =
            if session.dump().space.readable(address) { "is not the start of an object" } else { "is not in the dump" };
        facts(ctx, address, (false, false), what)?;
        return Ok(Outcome::Empty);
    };
    let issues = issues(session, &object)?;
    if issues.is_empty() {
        facts(ctx, address, (true, true), "is a valid object")?;
        return Ok(Outcome::Complete);
    }
    ctx.out.datum("address", &Cell::Addr(address));
    ctx.out.datum("object", &Cell::Bool(true));
    ctx.out.datum("valid", &Cell::Bool(false));
    ctx.out.open(&ISSUES)?;
    let maybe = |a: Option<u64>| a.map_or(Cell::None, Cell::Addr);
    for i in issues {
        ctx.out.row(&[
            Cell::Int(i.offset),
            Cell::text(i.what),
            Cell::text(i.description),
            maybe(i.reference),
            maybe(i.other),
            i.sync_block.map_or(Cell::None, |n| Cell::Num(u64::from(n))),
        ])?;
    }
    Ok(Outcome::Complete)
}

fn facts(ctx: &mut Ctx<'_>, address: u64, (object, valid): (bool, bool), what: &str) -> Result<()> {
    let facts = [("address", Cell::Addr(address)), ("object", Cell::Bool(object)), ("valid", Cell::Bool(valid))];
    Ok(ctx.out.facts(&facts, format!("object 0x{address:x} {what}"))?)
}

fn issues(session: &Session, o: &Found<'_>) -> Result<Vec<Issue>> {
    let (clr, ids) = (session.clr()?, &session.index()?.ids);
    let mut out = Vec::new();
    if ids.id_of(o.address).is_none() {
        let segment = session.heap()?.segment_at(o.address);
        let before = ids.start_before(o.address).filter(|&a| segment.is_some_and(|s| s.start <= a));
        let around = before.map_or_else(String::new, |a| format!("; the object before is {a:x}"));
        let description = format!("the walk over the heap finds no object that starts here{around}");
        out.push(Issue { other: before, ..Issue::new(0, "ObjectNotOnTheHeap", description) });
    }
    o.slots(clr.space(), |slot| {
        let Some(target) = o.address.checked_add(slot).and_then(|a| clr.space().ptr(a)) else {
            return out.push(unreadable(slot));
        };
        if target != 0 && ids.id_of(target).is_none() {
            let what =
                if target % clr.header() == 0 { "InvalidObjectReference" } else { "ObjectReferenceNotPointerAligned" };
            let description = format!("{target:x} is not the start of an object");
            out.push(Issue { reference: Some(target), ..Issue::new(slot as i64, what, description) });
        }
    });
    out.extend(holes(clr.space(), o).filter_map(|(start, end)| first_slot(clr, o, start, end)).map(unreadable));
    if let Some(index) = clr.object_header(o.address).and_then(syncblocks::index_of) {
        let block = clr.sync_blocks().items.iter().find(|b| b.index == index).map(|b| b.object);
        if block != Some(o.address) {
            let description = match block {
                Some(other) => format!("sync block {index} belongs to {other:x}"),
                None => format!("sync block {index} is not in use"),
            };
            let issue = Issue::new(-4, "SyncBlockMismatch", description);
            out.push(Issue { other: block, sync_block: Some(index), ..issue });
        }
    }
    Ok(out)
}

fn unreadable(slot: u64) -> Issue {
    Issue::new(slot as i64, "CouldNotReadObject", "the memory of this field is not in the dump".to_owned())
}

/// The parts of an object that are not in the dump, as offsets.
fn holes<'a>(space: &'a AddressSpace, o: &Found<'_>) -> impl Iterator<Item = (u64, u64)> + 'a {
    let (start, size) = (o.address, o.size);
    let mut at = 0;
    let runs = space.runs(start, start.saturating_add(size)).map(move |(from, to)| (from - start, to - start));
    runs.chain([(size, size)]).filter_map(move |(from, to)| {
        let hole = (at, from);
        at = to;
        (hole.0 < hole.1).then_some(hole)
    })
}

/// The first reference in a part of an object: it stands for all that are missing there.
fn first_slot(clr: &Clr, o: &Found<'_>, start: u64, end: u64) -> Option<u64> {
    /// No component of an array is longer: its size has 16 bits.
    const COMPONENT: u64 = 1 << 16;
    let mut first = None;
    o.ty.refs.slots_between(o.size, clr.header(), (start, end.min(start.saturating_add(COMPONENT))), |slot| {
        first = first.or(Some(slot));
    });
    first
}
