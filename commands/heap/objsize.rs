//! `!objsize`: everything an object keeps alive, itself included.

use anyhow::{Result, bail};

use super::table::{self, ADDRESSES, OBJECTS, Sort};
use crate::heap::stat::{Tally, TypeTallies};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// `!objsize ADDR`.
pub const OBJSIZE: Command = Command {
    name: "objsize",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "everything reachable from an object, with sizes",
    help: "Lists the objects reachable from ADDR (dependent handles included) and their statistics. This is the transitive \
           closure, not what would be freed with the object: parts shared with others count in full. -exclusive says \
           beside it what would be freed (see !retained).",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object"),
        Arg::opt("mt", Kind::MethodTable, "everything reachable from all objects of this type"),
        Arg::flag("stat", "statistics only").or(&["summary"]),
        Arg::flag("short", "addresses only"),
        Arg::flag("exclusive", "also what only the object keeps alive"),
    ],
    examples: &[
        Example { line: "!objsize $OBJECT -stat", what: "how much hangs off it" },
        Example { line: "!objsize $OBJECT -stat -exclusive", what: "and how much of it would go with it" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("address", "the object asked for", Type::Address),
        Fact::new("type", "its type", Type::TypeName),
        Fact::new("rooted", "whether a root reaches it", Type::Bool),
        Fact::new("exclusive_objects", "objects that only it keeps alive, itself included", Type::Count),
        Fact::new("exclusive_bytes", "their bytes", Type::Bytes),
    ])
    .and(&[&OBJECTS, &ADDRESSES])
    .with(&[&table::RETURNS]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let walker = session.walker()?;
    let reached: Vec<u64> = match (args.number("ADDR"), args.number("mt")) {
        (Some(address), None) => {
            crate::commands::objects::dumpobj::look_up(session, address)?;
            if !session.is_object(address)? {
                bail!("no object starts at {address:x}; try !listnearobj {address:x}")
            }
            let name = session.object_name(address);
            ctx.out.facts(
                &[("address", Cell::Addr(address)), ("type", Cell::text(&*name))],
                format!("Objects which {address:x} ({name}) transitively keep alive:"),
            )?;
            ctx.out.note("")?;
            session.closure_of(address)?
        }
        (None, Some(mt)) => {
            let sources = instances(session, mt)?;
            let marked = session.marked_from(sources)?;
            let mut all = Vec::new();
            marked.each(&session.index()?.ids, |a| {
                all.push(a);
                true
            });
            all
        }
        _ => bail!("give an address or -mt"),
    };
    let (short, stat) = (args.has("short"), args.has("stat"));
    if short {
        ctx.out.open_bare(&ADDRESSES)?;
    } else if !stat {
        ctx.out.open(&OBJECTS)?;
    }
    let mut tallies = TypeTallies::default();
    for address in reached {
        session.watch.cancel.check()?;
        let Some(o) = walker.object_at(address) else { continue };
        tallies.add(o.ty.id, o.size);
        if short {
            ctx.out.row(&[Cell::Addr(o.address)])?;
        } else if !stat {
            table::listing_row(ctx.out, o.address, &o.ty, o.size)?;
        }
    }
    if !short {
        if !stat {
            ctx.out.done(&OBJECTS)?;
            ctx.out.note("")?;
        }
        table::statistics(session, ctx.out, &tallies, Sort::Size, None)?;
        if args.has("exclusive")
            && let Some(address) = args.number("ADDR")
        {
            exclusive(ctx, session, address)?;
        }
    }
    let none = tallies.total() == Tally::default();
    Ok(if none { Outcome::Empty } else { Outcome::Complete })
}

/// What would be freed with the object, beside what it reaches.
fn exclusive(ctx: &mut Ctx<'_>, session: &Session, address: u64) -> Result<()> {
    let id = session.index()?.ids.id_of(address);
    let retained = session.dominators()?;
    let Some(at) = id.and_then(|id| retained.tree.position(id)) else {
        let line = "Exclusive: no root reaches the object; it goes with the next collection";
        return Ok(ctx.out.fact("rooted", Cell::Bool(false), line)?);
    };
    let (objects, bytes) = (retained.objects(at), retained.bytes(at));
    let facts = [
        ("rooted", Cell::Bool(true)),
        ("exclusive_objects", Cell::Num(objects)),
        ("exclusive_bytes", Cell::Num(bytes)),
    ];
    Ok(ctx.out.facts(&facts, format!("Exclusive {} objects, {} bytes", thousands(objects), thousands(bytes)))?)
}

fn instances(session: &Session, mt: u64) -> Result<Vec<u64>> {
    let walker = session.walker()?;
    let (found, _) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<u64>, _, o| {
            if o.ty.mt.address == mt {
                acc.push(o.address);
            }
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}
