//! `.export`: the whole model as tables for spreadsheets, DuckDB, pandas.

mod asyncframes;
mod frames;
mod heap;
mod locks;
mod native;
mod runtime;
mod types;
mod view;
mod writer;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::session::Session;
use crate::shell;
use crate::shell::redact::REDACT;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Type};
use writer::{Style, Table};

/// What one table is: its name, its columns, what fills it.
struct Spec {
    name: &'static str,
    columns: &'static [&'static str],
    /// Writes the rows; returns why the table is partial, if it is.
    fill: fn(&Session, &mut Table) -> Result<Option<String>>,
}

const TABLES: &[Spec] = &[
    Spec { name: "runtime", columns: &["name", "value"], fill: runtime::runtime },
    Spec {
        name: "segments",
        columns: &[
            "segment",
            "kind",
            "heap",
            "objects_start",
            "objects_end",
            "committed_end",
            "reserved_end",
            "gen0_start",
            "gen0_end",
            "gen1_start",
            "gen1_end",
            "gen2_start",
            "gen2_end",
        ],
        fill: heap::segments,
    },
    Spec { name: "objects", columns: &["address", "method_table", "size", "generation"], fill: heap::objects },
    Spec {
        name: "types",
        columns: &[
            "method_table",
            "count",
            "bytes",
            "name",
            "base",
            "module",
            "token",
            "static_size",
            "component_size",
            "contains_pointers",
            "element_type",
            "finalizable",
            "collectible",
        ],
        fill: types::types,
    },
    Spec { name: "edges", columns: &["object", "references"], fill: heap::edges },
    Spec {
        name: "fields",
        columns: &["method_table", "type", "field", "offset", "element_type", "field_type", "size", "containing_type"],
        fill: types::fields,
    },
    Spec {
        name: "statics",
        columns: &["type", "field", "element_type", "address", "value", "storage"],
        fill: types::statics,
    },
    Spec {
        name: "threadstatics",
        columns: &["thread_os_id", "type", "field", "element_type", "address", "value", "storage"],
        fill: types::thread_statics,
    },
    Spec {
        name: "handles",
        columns: &["address", "kind", "object", "dependent", "ref_count", "app_domain"],
        fill: runtime::handles,
    },
    Spec { name: "finalizable", columns: &["object", "f_reachable"], fill: runtime::finalizable },
    Spec { name: "roots", columns: &["kind", "address", "object", "interior", "pinned", "name"], fill: runtime::roots },
    Spec {
        name: "stackroots",
        columns: &["os_id", "frame_sp", "register", "address", "object", "interior", "pinned", "frame", "precise"],
        fill: runtime::stack_roots,
    },
    Spec {
        name: "threads",
        columns: &[
            "address",
            "os_id",
            "managed_id",
            "alive",
            "finalizer",
            "gc",
            "gc_mode",
            "state",
            "lock_count",
            "exception",
            "alloc_start",
            "alloc_end",
            "stack_base",
            "stack_limit",
        ],
        fill: runtime::threads,
    },
    Spec {
        name: "modules",
        columns: &[
            "address",
            "assembly",
            "image_base",
            "size",
            "dynamic",
            "pe",
            "metadata",
            "metadata_length",
            "name",
            "pdb",
            "app_domain",
        ],
        fill: runtime::modules,
    },
    Spec { name: "strings", columns: &["object", "length", "text"], fill: heap::strings },
    Spec {
        name: "exceptions",
        columns: &["object", "type", "hresult", "message", "inner", "stack"],
        fill: types::exceptions,
    },
    Spec {
        name: "delegates",
        columns: &["object", "index", "kind", "target", "method_desc", "method"],
        fill: types::delegates,
    },
    Spec {
        name: "syncblocks",
        columns: &["index", "object", "held", "recursion", "holder_thread", "waiting", "com"],
        fill: locks::sync_blocks,
    },
    Spec { name: "thinlocks", columns: &["object", "recursion", "thread"], fill: locks::thin_locks },
    Spec {
        name: "waits",
        columns: &["relation", "managed_id", "os_id", "kind", "object", "count", "holder_managed_id"],
        fill: locks::waits,
    },
    Spec {
        name: "frames",
        columns: &[
            "os_id",
            "index",
            "kind",
            "frame",
            "sp",
            "ip",
            "method_desc",
            "token",
            "module",
            "native_offset",
            "il_offset",
            "signature",
        ],
        fill: frames::frames,
    },
    Spec { name: "ilmap", columns: &["method_desc", "il_offset", "native_start"], fill: frames::il_map },
    Spec {
        name: "asyncframes",
        columns: &["task", "depth", "method", "il_offset", "line", "state", "awaited"],
        fill: asyncframes::rows,
    },
];

/// Tables of native memory: they need no runtime, and what a dump lacks of them is no lack of the others.
const NATIVE: &[Spec] = &[
    Spec { name: "nativeblocks", columns: &["address", "size", "state", "arena", "kind"], fill: native::blocks },
    Spec {
        name: "nativearenas",
        columns: &[
            "arena",
            "address",
            "main",
            "heaps",
            "system",
            "used",
            "used_bytes",
            "free",
            "free_bytes",
            "largest_free",
            "fast",
            "fast_bytes",
            "cached",
            "cached_bytes",
            "top",
            "own",
            "lost",
            "threads",
        ],
        fill: native::arenas,
    },
    Spec { name: "nativeowners", columns: &["type", "field", "blocks", "bytes"], fill: native::owners },
];

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
           thinlocks, waits, frames, ilmap, asyncframes, nativeblocks, nativearenas, nativeowners. Tables stream, so ten million objects need no memory of that order.\n\n\
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
           these is said with their file and makes the answer as a whole no partial one; they are written without a runtime too.",
    args: &[
        Arg::pos("DIR", Kind::File, "folder to write to, made when missing; or FILE for a viewer").required(),
        Arg::opt("tables", Kind::Text, "only these tables, separated by commas"),
        Arg::opt("format", Kind::OneOf(&["tsv", "csv", "jsonl"]), "file format; default tsv"),
        Arg::opt("most", Kind::Count, "objects in a viewer's file; 0 for all"),
        Arg::opt("stacks", Kind::OneOf(view::STACKS), "which stacks a viewer's file has"),
        Arg::flag(REDACT, "strings and messages as length and hash, paths as their last part"),
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
    if let Some(viewer) = view::of(dir) {
        return view::write(ctx, args, dir, viewer);
    }
    if args.has("most") || args.has("stacks") {
        bail!("-most and -stacks are for files of viewers: {} names none", dir.display());
    }
    let style = match args.text("format").unwrap_or("tsv") {
        "csv" => Style::Csv,
        "jsonl" => Style::Jsonl,
        _ => Style::Tsv,
    };
    let wanted: Vec<&Spec> = match args.text("tables") {
        None => TABLES.iter().chain(NATIVE).collect(),
        Some(list) => {
            let find = |name: &str| TABLES.iter().chain(NATIVE).find(|t| t.name.eq_ignore_ascii_case(name.trim()));
            let mut wanted = Vec::new();
            for name in list.split(',') {
                match find(name) {
                    Some(t) => wanted.push(t),
                    None => {
                        let known: Vec<_> = TABLES.iter().chain(NATIVE).map(|t| t.name).collect();
                        bail!("no table `{name}`; there are: {}", known.join(", "))
                    }
                }
            }
            wanted
        }
    };
    let native = |spec: &Spec| NATIVE.iter().any(|n| n.name == spec.name);
    if !wanted.iter().all(|s| native(s)) {
        session.clr()?;
    }
    let redact = ctx.settings.redact || args.has(REDACT);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let mut partial = Vec::new();
    for spec in wanted {
        let path = dir.join(format!("{}.{}", spec.name, style.extension()));
        let table =
            Table::create(&path, style, spec.columns).with_context(|| format!("cannot write {}", path.display()))?;
        let mut table = table.redacted(redact);
        let why = (spec.fill)(session, &mut table)?;
        let rows = table.finish().with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.display().to_string();
        let cells = [Cell::text(spec.name), Cell::Num(rows), Cell::text(&path), Cell::maybe(why.as_deref())];
        ctx.out.row_as(&FILES, &cells, format!("{:<14} {rows:>10} rows  {path}", spec.name))?;
        match why {
            Some(why) if native(spec) => ctx.out.note(format!("  {}: {why}", spec.name))?,
            why => partial.extend(why.map(|why| format!("{}: {why}", spec.name))),
        }
    }
    Ok(if partial.is_empty() { Outcome::Complete } else { Outcome::Partial(partial.join("; ")) })
}
