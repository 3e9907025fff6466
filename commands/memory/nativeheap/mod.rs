//! `!heap`: the native heaps of the process, their blocks and who has them.

mod arenas;
mod blocks;
mod leaked;
mod owners;
pub mod parts;
pub mod share;
mod windows;

use anyhow::{Result, bail};

use crate::dump::Os;
use crate::native::heaps::{Allocator, NativeHeaps};
use crate::session::nativeowners::Which;
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// `!heap`.
pub const HEAP: Command = Command {
    name: "heap",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "native heaps: arenas, blocks by size, the block of an address",
    help: "Reads the heaps of the C library's malloc without symbols. -s (or nothing) has a row for each arena, in bytes of \
           chunks with their headers, so that they add up to the memory the arena has: in use, free, kept in lists for the \
           next request (fast bins and caches of threads), and the top, from which new blocks are cut; then the mappings \
           that large blocks have of their own, a verdict, and what did not hold when the numbers were compared with what \
           the allocator counts itself; -v shows every comparison.\n\
           -stat adds blocks up by size, -flt s SIZE lists those of one size, -flt r MIN MAX of a range, -h N all of arena \
           N; sizes are hexadecimal, and those a program may use. -x ADDR and -p -a ADDR show the block that holds an \
           address, its neighbours and every word that points into it: in objects by field, in blocks, on stacks, in modules. \
           -stat -type adds up by what the first word says: a C++ type where it is a table of virtual functions. -state keeps \
           blocks in one state.\n\
           -l lists blocks in use that no word of the process points to, by size and first word: candidates for leaks, for a \
           pointer may be kept in a form of its own.\n\
           -owners adds up the blocks in use that words of managed objects point to, by type and field: handles, IntPtr, \
           pointers, arrays, values in collections. Alone is what no other field holds. -dead counts objects that nothing \
           reaches, which somebody forgot to dispose of. Behind it the handles that native blocks name, by their slot or \
           by the thunk of a delegate: objects and callbacks that native code was given.\n\
           Where malloc is jemalloc, tcmalloc or mimalloc it says so: their blocks are not read. Of a Windows process the heaps \
           are listed with their kind and size; their blocks are not read either.",
    args: &[
        Arg::flag("s", "a row for each arena").or(&["summary"]),
        Arg::flag("v", "with every comparison"),
        Arg::flag("stat", "blocks in use by size"),
        Arg::opt("flt", Kind::OneOf(&["s", "r"]), "blocks of a size, or of a range of sizes"),
        Arg::pos("SIZE", Kind::Address, "with -flt: the size, or the smallest"),
        Arg::pos("MAX", Kind::Address, "with -flt r: the largest size"),
        Arg::opt("h", Kind::Count, "all blocks of the arena of this number; with -stat and -flt only those"),
        Arg::opt("x", Kind::Address, "the block that holds an address"),
        Arg::flag("p", "with -a: the same"),
        Arg::opt("a", Kind::Address, "with -p: the address"),
        Arg::flag("type", "with -stat: by what the first word says, C++ types by name"),
        Arg::flag("l", "blocks that nothing points to: candidates for leaks").or(&["leaked"]),
        Arg::flag("owners", "native memory by the managed type and field that holds it"),
        Arg::flag("live", "with -owners: only what live objects hold"),
        Arg::flag("dead", "with -owners: only what objects hold that nothing reaches"),
        Arg::opt("state", Kind::OneOf(&["used", "free", "cached"]), "only blocks in this state"),
    ],
    examples: &[
        Example { line: "!heap -s", what: "how much the C library has, and how much of it is in use" },
        Example { line: "!heap -stat", what: "which sizes the blocks have" },
        Example { line: "!heap -stat -type", what: "what the blocks are" },
        Example { line: "!heap -l", what: "blocks that nothing points to" },
        Example { line: "!heap -owners", what: "which managed types hold native memory" },
        Example { line: "!heap -flt s 18", what: "the blocks of one size" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("allocator", "whose heaps they are", Type::Text)]).with(&[
        &arenas::RETURNS,
        &blocks::RETURNS,
        &owners::RETURNS,
        &leaked::RETURNS,
        &windows::RETURNS,
    ]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let heaps = ctx.session()?.native_heaps()?;
    if heaps.blocks.is_empty() {
        return match ctx.session()?.dump().os {
            Os::Windows => windows::show(ctx),
            Os::Linux => none(ctx, heaps),
        };
    }
    let outcome = if let Some(address) = args.number("x").or_else(|| args.number("a")) {
        blocks::near(ctx, heaps, address)?
    } else if args.has("p") {
        bail!("-p wants -a ADDR");
    } else if args.has("owners") {
        owners::show(ctx, heaps, which(args)?)?
    } else if args.has("l") {
        leaked::leaked(ctx, heaps, &blocks::Filter::of(args, heaps)?)?
    } else if args.has("stat") && args.has("type") {
        leaked::by_type(ctx, heaps, &blocks::Filter::of(args, heaps)?)?
    } else if args.has("stat") {
        blocks::by_size(ctx, heaps, &blocks::Filter::of(args, heaps)?)?
    } else if args.has("flt") || args.has("h") {
        blocks::list(ctx, heaps, &blocks::Filter::of(args, heaps)?)?
    } else if args.number("SIZE").is_some() {
        bail!("-x ADDR shows the block of an address, -flt s SIZE lists those of a size, -h N those of an arena");
    } else {
        return arenas::show(ctx, heaps, args.has("v"));
    };
    Ok(match (outcome, heaps.partial()) {
        (Outcome::Complete, Some(why)) => Outcome::Partial(why),
        (outcome, _) => outcome,
    })
}

/// What [`show_block`] returns.
pub const BLOCK: Returns = blocks::RETURNS;

/// The native block that holds `address`, and what points to it.
pub fn show_block(ctx: &mut Ctx<'_>, address: u64) -> Result<Outcome> {
    let heaps = ctx.session()?.native_heaps()?;
    blocks::near(ctx, heaps, address)
}

/// Which objects are asked about.
fn which(args: &Args) -> Result<Which> {
    match (args.has("live"), args.has("dead")) {
        (true, true) => bail!("-live and -dead exclude one another"),
        (true, _) => Ok(Which::Live),
        (_, true) => Ok(Which::Dead),
        _ => Ok(Which::All),
    }
}

/// No block could be read: says whose they are, if that is known.
fn none(ctx: &mut Ctx<'_>, heaps: &NativeHeaps) -> Result<Outcome> {
    match &heaps.allocator {
        Allocator::Other(name) => {
            let line = format!("malloc is {name} here: its blocks are not read.");
            ctx.out.fact("allocator", Cell::text(*name), line)?;
            Ok(Outcome::Partial(format!("the blocks of {name} are not read")))
        }
        _ => {
            ctx.out.note("No native heap was found in the dump: it holds too little of the process's memory, or its allocator is not known.")?;
            Ok(Outcome::Empty)
        }
    }
}
