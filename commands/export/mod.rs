//! `.export`: the whole model as tables for spreadsheets, DuckDB, pandas.

mod asyncframes;
pub mod bulk;
mod column;
mod dumps;
mod fleet;
mod frames;
#[cfg(feature = "parquet")]
mod groups;
mod heap;
mod holders;
mod job;
mod lines;
mod locks;
mod native;
mod runtime;
mod specs;
mod stackgroups;
mod suspects;
mod tables;
mod types;
mod view;
mod writer;

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;
use crate::shell::redact::REDACT;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Type};
use column::Style;
use fleet::Partition;
use specs::{DUMPS, HELD_OBJECTS, NATIVE, Spec};
use tables::Place;

/// `.export DIR [-tables a,b] [-format tsv|csv|jsonl]`.
pub const EXPORT: Command = Command {
    name: "export",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "write the whole model as tables into a folder, or the heap or stacks into a viewer's file",
    help: "A name that ends so is a file for a viewer (docs/viewers.md): .heapsnapshot (developer tools of browsers, memlab), \
           .gcdump (PerfView, Visual Studio; experimental), .speedscope.json (dominators, thread stacks, suspended async \
           methods as profiles), .collapsed.txt or .folded (one of them, -stacks says which; dominators without it). Of the \
           heap two million objects go into a file, those that retain most; -most changes that. What is left out is summed up \
           under what holds it, so that retained sizes stay as they are, and said.\n\n\
           Else it writes one file a table: runtime, segments, objects, types, edges, fields, statics, threadstatics, handles, \
           finalizable, roots, stackroots, threads, modules, strings, exceptions, delegates, syncblocks, \
           thinlocks, waits, frames, ilmap, asyncframes, suspects, stackgroups, nativeblocks, nativearenas, nativeowners, dumps. Tables stream, so ten million objects need no memory of that order.\n\n\
           Addresses are hexadecimal without 0x. Text in TSV has backslash escapes (\\t \\n \\r \\0 \\\\). Primitive \
           static values are raw: signed for 32 and 64 bits, unsigned for 8 and 16, floats as their bits. \
           `statics.address` is 0 for RVA fields, for types not yet initialised and for open generics; through .NET 8 \
           it is of no use for types of collectible and of dynamic assemblies, there `storage` tells the place. `types` and \
           `fields` list the types of heap objects; arrays and Free have no fields. `delegates` has a row for each \
           delegate that one calls, of a list in its order. `edges` leaves out dependent \
           handles and the loader allocators of collectible types. Strings are cut at 200 UTF-16 units. \
           `stackroots` are those of the frames of walked stacks, by register or slot; where `precise` is False the value \
           was found by a conservative scan of what could not be walked and may be stale. `thinlocks.recursion` is 0 for a \
           lock entered once. `waits` has a row for each thread that waits, with how, for \
           which object or objects and whom, and one for each lock, mutex or reader-writer lock that is held, with how \
           often it was entered. \
           `frames` has the managed stack of every thread, newest frame first: managed and explicit ones, and under \
           the kind native what could not be walked; `ilmap` the IL offset of each stretch of code of the methods on them. \
           `nativeblocks` has every block of the C library's heaps: `address` is what the program got, `size` the bytes it may \
           use, `state` used, free or cached; `nativearenas` has the sums of chunks with their headers, `nativeowners` the blocks in use that words of objects point \
           to, by type and field. What a dump lacks of \
           these is said with their file and makes the answer as a whole no partial one; they are written without a runtime too. \
           `suspects` is what !leaks lists, `stackgroups` has each different managed stack once: `hash` is that of the names \
           of its methods and the same in every dump of the program. `dumps` has one row: what the dump is, its sizes, its \
           trouble as !analyze tells it, and whether the export is whole, partial or refused, with the reason.\n\n\
           -retained adds to `objects` what each keeps alive, the object that dominates it, how many do (itself counted), and \
           the root that holds it, as !gcroot -type names it; dead objects have none of them. It adds `suspects` and `dumps` \
           too, which otherwise are written only when -tables names them: all of this needs the graph of all objects, as \
           !leaks and !diff do, and 12 bytes an object more.\n\n\
           -format parquet writes into a fleet, a folder for many dumps: DIR/TABLE/dump=ID/part.parquet, `objects` with \
           -retained. Addresses are unsigned and null for none, times are UTC, what is not known is null. A dump that is \
           written again takes its own place: ID is made of process, process id and content, or is what -id says. \
           -fleet does the same in another format. .exportall exports many dumps; docs/fleets.md shows what to ask then.",
    args: &[
        Arg::pos("DIR", Kind::File, "folder to write to, made when missing; or FILE for a viewer").required(),
        Arg::opt("tables", Kind::Text, "only these tables, separated by commas"),
        Arg::opt("format", Kind::OneOf(Style::NAMES), "file format; default tsv"),
        Arg::flag("retained", "what each object keeps alive and what keeps it, and what !leaks and !analyze say"),
        Arg::flag("fleet", "as a part of a fleet, in any format"),
        Arg::opt("id", Kind::Text, "what the dump is called in a fleet"),
        Arg::flag(REDACT, "strings and messages as length and hash, paths as their last part"),
        Arg::opt("most", Kind::Count, "objects in a viewer's file; 0 for all"),
        Arg::opt("stacks", Kind::OneOf(view::STACKS), "which stacks a viewer's file has"),
    ],
    examples: &[
        Example { line: ".export /tmp/model -tables objects,types -format csv", what: "two tables as CSV" },
        Example { line: ".export heap.heapsnapshot", what: "the heap for the developer tools of a browser" },
        Example { line: ".export all.speedscope.json", what: "what holds the memory, and all stacks, as flame graphs" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(view::FACTS).and(&[&FILES, &view::PROFILES]),
    run: export,
};

/// The files written.
const FILES: shell::Table = shell::Table::new(
    "files",
    &[
        Col::data("table", Type::Text).titled("what it holds"),
        Col::data("rows", Type::Count).titled("rows of it"),
        Col::data("path", Type::Path).titled("the file"),
        Col::data("partial", Type::Text).titled("why rows may be missing"),
    ],
);

fn export(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dir = Path::new(args.text("DIR").unwrap_or("."));
    let redact = ctx.settings.redact || args.has(REDACT);
    if let Some(viewer) = view::of(dir) {
        if redact {
            bail!("a viewer's file names strings by their texts and is not written with -{REDACT}");
        }
        return view::write(ctx, args, dir, viewer);
    }
    if args.has("most") || args.has("stacks") {
        bail!("-most and -stacks are for files of viewers: {} names none", dir.display());
    }
    let style = Style::named(args.text("format").unwrap_or(""));
    style.check()?;
    let is_fleet = args.has("fleet") || style == Style::Parquet;
    let wanted = wanted(args.text("tables"), is_fleet || args.has("retained"))?;
    if !wanted.iter().all(|s| needs_no_runtime(s)) {
        session.clr()?;
    }
    fleet::make(dir)?;
    let id = match args.text("id") {
        Some(id) => fleet::check_id(id).map(|()| id.to_owned())?,
        None if is_fleet => fleet::id(session)?,
        // It is a cell of `dumps` alone.
        None => fleet::id(session).unwrap_or_default(),
    };
    let partition = Partition::new(dir, &id);
    let place = if is_fleet { Place::Fleet(&partition) } else { Place::Folder(dir) };
    let out = &mut *ctx.out;
    let missing = tables::write((session, &id), &wanted, (&place, style, redact), |done| {
        let (path, why) = (done.path.display().to_string(), done.partial.as_deref());
        let cells = [Cell::text(done.name), Cell::Num(done.rows), Cell::text(&path), Cell::maybe(why)];
        out.row_as(&FILES, &cells, format!("{:<14} {:>10} rows  {path}", done.name, done.rows))?;
        match why.filter(|_| done.aside) {
            Some(why) => Ok(out.note(format!("  {}: {why}", done.name))?),
            None => Ok(()),
        }
    })?;
    Ok(if missing.is_empty() { Outcome::Complete } else { Outcome::Partial(missing.join("; ")) })
}

/// The tables named, or without a list all, those that need the graph of all objects only where `all` says so: `objects` then
/// has what keeps each.
fn wanted(list: Option<&str>, all: bool) -> Result<Vec<&'static Spec>> {
    let held = |spec: &'static Spec| if all && spec.name == HELD_OBJECTS.name { &HELD_OBJECTS } else { spec };
    let Some(list) = list else { return Ok(specs::all().filter(|s| all || !s.is_costly()).map(held).collect()) };
    let mut wanted = Vec::new();
    for name in list.split(',') {
        match specs::all().find(|t| t.name.eq_ignore_ascii_case(name.trim())) {
            Some(spec) => wanted.push(held(spec)),
            None => {
                let known: Vec<_> = specs::all().map(|t| t.name).collect();
                bail!("no table `{name}`; there are: {}", known.join(", "))
            }
        }
    }
    // What became of the others is known last.
    wanted.sort_by_key(|s| s.name == DUMPS.name);
    Ok(wanted)
}

fn needs_no_runtime(spec: &Spec) -> bool {
    NATIVE.iter().chain([&DUMPS]).any(|n| n.name == spec.name)
}
