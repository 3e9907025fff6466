//! `.index`: the file that keeps what was computed of a dump.

use anyhow::Result;

use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `.index`.
pub const INDEX: Command = Command {
    name: "index",
    prefix: Prefix::Dot,
    aliases: &["bhi", "lhi", "chi", "windex"],
    group: Group::Session,
    summary: "the file that keeps the object graph for the next time",
    help: "Shows where the index of the dump is and what it holds: object starts, references in both directions, what \
           holds each object, dominators and retained sizes. It is written when the dump is left, and read when it is \
           opened again, which answers in a fraction of the time. Heaps of less than a million objects have none, as they \
           are computed as fast. -save writes it now, however small the heap.\n\n\
           The program's option --index FILE keeps it in that file instead of the cache folder, --index none nowhere. An \
           index belongs to one dump and one version of the program; what is stale or damaged is computed anew.",
    args: &[Arg::flag("save", "write it now").outside()],
    examples: &[Example { line: ".index", what: "where it is" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("file", "path of the index; nothing when none is kept", Type::Path),
        Fact::new("saved", "it was written now", Type::Bool),
        Fact::new("present", "it is there and of this dump and version", Type::Bool),
        Fact::new("size", "bytes of the file", Type::Bytes),
        Fact::new("unsaved", "more was computed since it was written", Type::Bool),
    ])
    .and(&[&PARTS]),
    run,
};

/// What an index holds.
const PARTS: Table = Table::new("parts", &[Col::data("part", Type::Text).titled("what is kept")]);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    if args.has("save") {
        match session.save_index(true)? {
            Some(path) => {
                let path = path.display().to_string();
                let facts = [("file", Cell::text(&path)), ("saved", Cell::Bool(true))];
                ctx.out.facts(&facts, format!("saved {path}"))?;
            }
            None => ctx.out.fact("saved", Cell::Bool(false), "nothing new to save")?,
        }
        return Ok(Outcome::Complete);
    }
    let state = session.index_state()?;
    let Some(path) = state.path else {
        ctx.out.fact("file", Cell::None, "No index is kept (--index none, or no cache folder).")?;
        return Ok(Outcome::Empty);
    };
    let path = path.display().to_string();
    ctx.out.fact("file", Cell::text(&path), format!("File:   {path}"))?;
    match state.found {
        Some(bytes) => {
            let facts = [("present", Cell::Bool(true)), ("size", Cell::Num(bytes))];
            ctx.out.facts(&facts, format!("Size:   {} bytes", thousands(bytes)))?;
            ctx.out.note(format!("Holds:  {}", state.holds.join(", ")))?;
            state.holds.iter().try_for_each(|part| ctx.out.data_row(&PARTS, &[Cell::text(*part)]))?;
        }
        None => ctx.out.fact("present", Cell::Bool(false), "Not there yet, or not of this dump and version.")?,
    }
    match state.fresh {
        true => {
            let line = "More was computed since; it is saved when the dump is left.";
            ctx.out.fact("unsaved", Cell::Bool(true), line)?;
        }
        false => ctx.out.datum("unsaved", &Cell::Bool(false)),
    }
    Ok(Outcome::Complete)
}
