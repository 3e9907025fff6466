//! `.index`: the file that keeps what was computed of a dump.

use anyhow::Result;

use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Needs, Outcome, Prefix, Returns};

/// `.index`.
pub const INDEX: Command = Command {
    name: "index",
    prefix: Prefix::Dot,
    aliases: &[],
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
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    if args.has("save") {
        match session.save_index(true)? {
            Some(path) => ctx.out.line(format!("saved {}", path.display()))?,
            None => ctx.out.line("nothing new to save")?,
        }
        return Ok(Outcome::Complete);
    }
    let state = session.index_state()?;
    let Some(path) = state.path else {
        ctx.out.line("No index is kept (--index none, or no cache folder).")?;
        return Ok(Outcome::Empty);
    };
    ctx.out.line(format!("File:   {}", path.display()))?;
    match state.found {
        Some(bytes) => {
            ctx.out.line(format!("Size:   {} bytes", thousands(bytes)))?;
            ctx.out.line(format!("Holds:  {}", state.holds.join(", ")))?;
        }
        None => ctx.out.line("Not there yet, or not of this dump and version.")?,
    }
    if state.fresh {
        ctx.out.line("More was computed since; it is saved when the dump is left.")?;
    }
    Ok(Outcome::Complete)
}
