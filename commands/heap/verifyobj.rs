//! `!verifyobj`: one object and its references checked.

use anyhow::Result;

use crate::clr::runtime::syncblocks;
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

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
    returns: Returns::NOTHING,
    run,
};

/// What is wrong, at which offset of the object.
struct Issue {
    offset: i64,
    what: &'static str,
    description: String,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] = &[
        Col::right("Offset", "offset", 8),
        Col::left("Issue", "issue", 30),
        Col::left("Description", "description", 0),
    ];
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let walker = session.walker()?;
    let Some(object) = walker.object_at(address) else {
        let what =
            if session.dump().space.readable(address) { "is not the start of an object" } else { "is not in the dump" };
        ctx.out.line(format!("object 0x{address:x} {what}"))?;
        return Ok(Outcome::Empty);
    };
    let issues = issues(session, &object)?;
    if issues.is_empty() {
        ctx.out.line(format!("object 0x{address:x} is a valid object"))?;
        return Ok(Outcome::Complete);
    }
    ctx.out.table("issues", COLUMNS, true)?;
    for i in issues {
        ctx.out.row(&[Cell::Int(i.offset), Cell::text(i.what), Cell::text(i.description)])?;
    }
    Ok(Outcome::Complete)
}

fn issues(session: &Session, o: &Found<'_>) -> Result<Vec<Issue>> {
    let (clr, ids) = (session.clr()?, &session.index()?.ids);
    let mut out = Vec::new();
    if ids.id_of(o.address).is_none() {
        let around = ids.start_before(o.address).map_or_else(String::new, |a| format!("; the object before is {a:x}"));
        let description = format!("the walk over the heap finds no object that starts here{around}");
        out.push(Issue { offset: 0, what: "ObjectNotOnTheHeap", description });
    }
    o.ty.refs.slots(o.size, clr.header(), |slot| {
        let Some(target) = o.address.checked_add(slot).and_then(|a| clr.space().ptr(a)) else {
            let description = "the memory of this field is not in the dump".to_owned();
            out.push(Issue { offset: slot as i64, what: "CouldNotReadObject", description });
            return;
        };
        if target != 0 && ids.id_of(target).is_none() {
            let what =
                if target % clr.header() == 0 { "InvalidObjectReference" } else { "ObjectReferenceNotPointerAligned" };
            let description = format!("{target:x} is not the start of an object");
            out.push(Issue { offset: slot as i64, what, description });
        }
    });
    if let Some(index) = clr.object_header(o.address).and_then(syncblocks::index_of) {
        let block = clr.sync_blocks().items.iter().find(|b| b.index == index).map(|b| b.object);
        if block != Some(o.address) {
            let description = match block {
                Some(other) => format!("sync block {index} belongs to {other:x}"),
                None => format!("sync block {index} is not in use"),
            };
            out.push(Issue { offset: -4, what: "SyncBlockMismatch", description });
        }
    }
    Ok(out)
}
