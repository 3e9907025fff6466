//! No limit is silent: every bound in the sources is in this table, with what becomes of an answer that meets it. A new one
//! that is not in it fails; those that a damaged dump can meet are driven over their edge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/patch.rs"]
mod patch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use captured::open;
use clrscope::session::Session;
use clrscope::shell::Format;
use patch::Patch;

/// What becomes of an answer that meets a bound.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Met {
    /// It says so: `partial`, a refusal, a count of what is left out.
    Says,
    /// No healthy dump meets it: the comment at the bound says why.
    Never,
    /// It bounds a search for one thing, a sample or a cache, not a list of the answer.
    Search,
    /// A text is cut for its line, or a name for its length; what cuts it is seen, or data has it whole.
    Shown,
    /// It bounds what a user types.
    Typed,
}
use Met::{Never, Says, Search, Shown, Typed};

/// File, bound, what becomes of an answer that meets it.
const BOUNDS: &[(&str, &str, Met)] = &[
    ("commands/code/dumpsig.rs", "MAX_SIGNATURE", Never),
    ("commands/code/unassemble.rs", "MOST", Says),
    ("commands/code/unassemble.rs", "MOST_BYTES", Says),
    ("commands/export/asyncframes.rs", "MOST_FRAMES", Says),
    ("commands/export/asyncframes.rs", "MOST_INNER", Says),
    ("commands/export/fleet.rs", "MOST_ID", Typed),
    ("commands/export/fleet.rs", "MOST_NAME", Shown),
    ("commands/export/view/dominators.rs", "MOST_DEPTH", Says),
    ("commands/export/view/dominators.rs", "MOST_GROUPS", Says),
    ("commands/export/view/mod.rs", "MOST", Says),
    ("commands/graph/diff/show.rs", "MOST_STEPS", Shown),
    ("commands/graph/held.rs", "MOST_PATHS", Says),
    ("commands/graph/held.rs", "MOST_STEPS", Shown),
    ("commands/graph/leaks/view.rs", "MAX_PATH", Never),
    ("commands/graph/leaks/view.rs", "MAX_ARRAYS", Search),
    ("commands/heap/select.rs", "MOST_FIELDS", Typed),
    ("commands/heap/select/read.rs", "MOST_PLANS", Search),
    ("commands/heap/select/suggest.rs", "MOST_TYPES", Search),
    ("commands/heap/select/types.rs", "MOST_NAMES", Says),
    ("commands/heap/verifyheap.rs", "MAX_LISTED", Says),
    ("commands/memory/display.rs", "MOST_COLUMNS", Typed),
    ("commands/memory/environment.rs", "MOST_STRINGS", Says),
    ("commands/memory/environment.rs", "MOST_TEXT", Shown),
    ("commands/memory/forms.rs", "MOST_UNITS", Never),
    ("commands/memory/list.rs", "MOST_ELEMENTS", Typed),
    ("commands/memory/list.rs", "MOST_WORDS", Typed),
    ("commands/memory/pointers.rs", "MOST_TEXT", Shown),
    ("commands/memory/range.rs", "MOST", Typed),
    ("commands/memory/raw.rs", "MOST", Says),
    ("commands/memory/search.rs", "MOST", Says),
    ("commands/memory/search.rs", "MOST_TEXT", Says),
    ("commands/memory/usage.rs", "MOST_GUARD", Search),
    ("commands/objects/collections/parts.rs", "MAX_ITEMS", Never),
    ("commands/objects/collections/read.rs", "MAX_WRAPPERS", Says),
    ("commands/objects/collections/room.rs", "MAX_LOCKS", Never),
    ("commands/objects/decoded/mod.rs", "MAX_DEPTH", Shown),
    ("commands/objects/decoded/mod.rs", "MAX_ELEMENTS", Says),
    ("commands/objects/decoded/number.rs", "MAX_WORDS", Shown),
    ("commands/objects/decoded/time.rs", "MAX_DAYS", Never),
    ("commands/objects/dumpobj.rs", "MOST", Says),
    ("commands/objects/name2ee.rs", "MAX_DEPTH", Search),
    ("commands/objects/savemodule.rs", "MAX_FILE", Says),
    ("commands/session/analyze.rs", "MOST_EVIDENCE", Says),
    ("commands/session/analyze.rs", "MOST_FINDINGS", Says),
    ("commands/session/analyze/crash.rs", "MAX_PERIOD", Search),
    ("commands/session/analyze/crash.rs", "MOST_FRAMES", Says),
    ("commands/session/analyze/memory.rs", "MOST_GROWN", Says),
    ("commands/session/dx/read.rs", "MAX_DEPTH", Typed),
    ("commands/session/list.rs", "MOST", Says),
    ("commands/session/printf.rs", "MOST_TEXT", Typed),
    ("commands/session/printf.rs", "MOST_WIDTH", Typed),
    ("commands/session/report/ahead.rs", "MOST_OBJECTS", Search),
    ("commands/session/report/chart.rs", "MOST_NAME", Shown),
    ("commands/session/report/growth.rs", "MOST_ROWS", Says),
    ("commands/session/report/icicle.rs", "MOST_BELOW", Says),
    ("commands/session/report/icicle.rs", "MOST_PARTS", Says),
    ("commands/session/report/page.rs", "MOST_BYTES", Says),
    ("commands/session/report/page.rs", "MOST_ROWS", Says),
    ("commands/session/report/treemap.rs", "MOST_INSIDE", Says),
    ("commands/session/report/treemap.rs", "MOST_RECTANGLES", Says),
    ("commands/session/report/waitgraph.rs", "MOST_ALIKE", Says),
    ("commands/session/report/waitgraph.rs", "MOST_NODES", Says),
    ("src/shell/sheets.rs", "MOST_ROWS", Never),
    ("src/shell/sheets.rs", "MOST_TEXT", Shown),
    ("src/shell/sheets.rs", "MOST_WIDTH", Shown),
    ("commands/threads/dso.rs", "MAX_STACK", Says),
    ("commands/threads/dumpstack.rs", "MOST_WORDS", Says),
    ("commands/threads/frameroots.rs", "MOST", Shown),
    ("commands/threads/joined.rs", "MOST_STEPS", Says),
    ("commands/threads/threadpoolqueue.rs", "MAX_HOPS", Shown),
    ("commands/threads/timerinfo.rs", "MAX_TIMERS", Says),
    ("commands/threads/waits/work.rs", "MAX_DEPTH", Search),
    ("commands/threads/waits/work.rs", "MAX_OBJECTS", Search),
    ("commands/threads/web/work.rs", "MAX_CHAIN", Search),
    ("src/aot/checks.rs", "MAX_PARENTS", Search),
    ("src/aot/checks.rs", "MOST", Search),
    ("src/aot/code.rs", "MOST_FUNCLETS", Never),
    ("src/aot/debug.rs", "MAX_FIELDS", Never),
    ("src/aot/debug.rs", "MAX_NESTED", Never),
    ("src/aot/fields.rs", "MAX_PARENTS", Never),
    ("src/aot/fields.rs", "MAX_WORDS", Says),
    ("src/aot/format.rs", "MAX_TEXT", Never),
    ("src/aot/found.rs", "MAX_SLOTS", Never),
    ("src/aot/found.rs", "MAX_TYPES", Never),
    ("src/aot/header.rs", "MAX_ENTRIES", Never),
    ("src/aot/header.rs", "MAX_NAME", Never),
    ("src/aot/header.rs", "MAX_PLACES", Search),
    ("src/aot/image.rs", "MAX_MODULES", Never),
    ("src/aot/image.rs", "MAX_SECTION", Never),
    ("src/aot/image.rs", "MAX_SECTIONS", Never),
    ("src/aot/indexed.rs", "MAX_DICTIONARY", Search),
    ("src/aot/indexed.rs", "MAX_INDEX", Never),
    ("src/aot/indexed.rs", "MAX_PARENTS", Never),
    ("src/aot/indexed.rs", "MAX_SLOTS", Search),
    ("src/aot/indexed.rs", "MOST_WORDS", Search),
    ("src/aot/locks.rs", "MAX_ENTRIES", Never),
    ("src/aot/metadata.rs", "MAX_ARGUMENTS", Never),
    ("src/aot/metadata.rs", "MAX_DEPTH", Never),
    ("src/aot/metadata.rs", "MAX_NODES", Never),
    ("src/aot/methods.rs", "MAX_PARAMETERS", Never),
    ("src/aot/owners.rs", "MOST_CODE", Never),
    ("src/aot/owners.rs", "MOST_PLACES", Never),
    ("src/aot/statics.rs", "MAX_CELLS", Never),
    ("src/aot/statics.rs", "MAX_ELEMENTS", Never),
    ("src/aot/threads.rs", "MAX_NESTED", Says),
    ("src/aot/threads.rs", "MAX_NODES", Never),
    ("src/aot/threads.rs", "MOST_SLOTS", Never),
    ("src/aot/threads.rs", "MOST_STEPS", Search),
    ("src/aot/threadstatics.rs", "MOST_CODE", Never),
    ("src/aot/threadstatics.rs", "MOST_OFFSETS", Never),
    ("src/aot/threadstatics.rs", "MOST_PLACES", Never),
    ("src/aot/threadstatics.rs", "MOST_STEPS", Search),
    ("src/aot/threadstatics.rs", "MOST_THREADS", Search),
    ("src/aot/types.rs", "MAX_ARGUMENTS", Never),
    ("src/aot/types.rs", "MAX_BASE", Never),
    ("src/aot/types.rs", "MAX_DEPTH", Never),
    ("src/clr/code/clauses.rs", "MAX_CLAUSES", Says),
    ("src/clr/code/codeheaps.rs", "MAX_BLOCKS", Search),
    ("src/clr/code/codeheaps.rs", "MAX_HEAPS", Says),
    ("src/clr/code/debuginfo.rs", "MAX_SIZE", Never),
    ("src/clr/code/dynamicmethods.rs", "MAX_NAME", Search),
    ("src/clr/code/dynamicmethods.rs", "MAX_SIGNATURE", Search),
    ("src/clr/code/entries.rs", "MAX_ENTRIES", Search),
    ("src/clr/code/fragile.rs", "MAX_FUNCLETS", Search),
    ("src/clr/code/fragile.rs", "MAX_FUNCTIONS", Search),
    ("src/clr/code/gcinfo/x86/steps.rs", "MAX_PUSHED", Never),
    ("src/clr/code/imports.rs", "MAX_SECTIONS", Never),
    ("src/clr/code/imports.rs", "MAX_SIGNATURE", Shown),
    ("src/clr/code/jitcode.rs", "MAX_FUNCTIONS", Search),
    ("src/clr/code/jitcode.rs", "MAX_START", Search),
    ("src/clr/code/jitcode.rs", "MAX_STUB", Search),
    ("src/clr/code/lookup.rs", "MAX_DEBUG", Search),
    ("src/clr/code/lookup.rs", "MAX_STARTS", Search),
    ("src/clr/code/methods.rs", "MAX_CHUNKS", Says),
    ("src/clr/code/nativeformat.rs", "MAX_ENTRIES", Search),
    ("src/clr/code/nativeformat.rs", "MAX_MISSED", Search),
    ("src/clr/code/ranges.rs", "MAX_FRAGMENTS", Says),
    ("src/clr/code/ranges.rs", "MAX_RANGE", Search),
    ("src/clr/code/ranges.rs", "MAX_RANGES", Says),
    ("src/clr/code/ranges.rs", "MAX_TABLES", Says),
    ("src/clr/code/readytorun.rs", "MAX_FUNCTIONS", Search),
    ("src/clr/code/readytorun.rs", "MAX_SECTIONS", Search),
    ("src/clr/code/stack/behind.rs", "MAX_CALLS", Search),
    ("src/clr/code/stack/behind.rs", "MAX_PUSHED", Search),
    ("src/clr/code/stack/behind.rs", "MAX_TRIED", Search),
    ("src/clr/code/stack/behind.rs", "MAX_WORDS", Search),
    ("src/clr/code/stack/arm64.rs", "MAX_FUNCTION", Never),
    ("src/clr/code/stack/exact.rs", "MAX_PARENTS", Search),
    ("src/clr/code/stack/frames.rs", "MAX_CHAIN", Says),
    ("src/clr/code/stack/frames.rs", "MAX_SLOTS", Search),
    ("src/clr/code/stack/helper.rs", "MAX_NATIVE", Search),
    ("src/clr/code/stack/slots.rs", "MAX_PROTECTED", Never),
    ("src/clr/code/stack/slots.rs", "MAX_RECORDS", Never),
    ("src/clr/code/stack/walk.rs", "MAX_FRAMES", Says),
    ("src/clr/code/stack/walk.rs", "MAX_SCAN", Search),
    ("src/clr/code/stack/x86.rs", "MAX_EPILOGUE", Search),
    ("src/clr/code/stack/x86.rs", "MAX_FOLLOWED", Search),
    ("src/clr/code/stack/x86.rs", "MAX_HANDLERS", Never),
    ("src/clr/code/starts.rs", "MAX_BUCKETS", Search),
    ("src/clr/code/starts.rs", "MAX_DEPTH", Search),
    ("src/clr/il/body.rs", "MAX_CLAUSES", Says),
    ("src/clr/il/body.rs", "MAX_CODE", Says),
    ("src/clr/il/body.rs", "MAX_SECTIONS", Says),
    ("src/clr/il/names.rs", "MAX_DEPTH", Shown),
    ("src/clr/il/names.rs", "MAX_NAME", Shown),
    ("src/clr/il/names.rs", "MAX_STRING", Shown),
    ("src/clr/il/names.rs", "MAX_TYPES", Shown),
    ("src/clr/image/metadata/debug.rs", "MAX_PARTS", Shown),
    ("src/clr/image/metadata/debug.rs", "MAX_PATH", Shown),
    ("src/clr/image/metadata/mod.rs", "MAX_NAME", Never),
    ("src/clr/image/metadata/mod.rs", "MAX_NESTING", Shown),
    ("src/clr/image/metadata/names.rs", "MAX_CANDIDATES", Search),
    ("src/clr/image/metadata/rawsig.rs", "MAX_DEPTH", Shown),
    ("src/clr/image/metadata/rawsig.rs", "MAX_TEXT", Shown),
    ("src/clr/image/metadata/rows.rs", "MAX_MEMBERS", Never),
    ("src/clr/image/metadata/sig.rs", "MAX_BLOB", Shown),
    ("src/clr/image/metadata/sig.rs", "MAX_DEPTH", Shown),
    ("src/clr/image/metadata/sig.rs", "MAX_TEXT", Shown),
    ("src/clr/image/metadata/tables.rs", "MAX_COLUMNS", Never),
    ("src/clr/image/samebuild.rs", "MAX_TYPES", Search),
    ("src/clr/image/symbols.rs", "MAX_EMBEDDED", Search),
    ("src/clr/layout/checks/frames.rs", "MOST", Search),
    ("src/clr/layout/checks/threads.rs", "MOST_MODULES", Search),
    ("src/clr/layout/collector.rs", "MOST_HEAPS", Search),
    ("src/clr/layout/collector.rs", "MOST_SEGMENTS", Search),
    ("src/clr/layout/collector.rs", "MOST_WORDS", Search),
    ("src/clr/layout/descriptor/mod.rs", "MAX_DEPTH", Search),
    ("src/clr/layout/descriptor/mod.rs", "MAX_PARTS", Search),
    ("src/clr/layout/descriptor/mod.rs", "MAX_PLACES", Search),
    ("src/clr/layout/descriptor/mod.rs", "MAX_POINTERS", Search),
    ("src/clr/layout/descriptor/mod.rs", "MAX_TEXT", Search),
    ("src/clr/layout/descriptor/text.rs", "MAX_NOTES", Says),
    ("src/clr/layout/descriptor/text.rs", "MAX_OFFSET", Search),
    ("src/clr/layout/discover.rs", "MOST_COLLECTORS", Search),
    ("src/clr/layout/exports.rs", "MOST", Search),
    ("src/clr/layout/inline/domains.rs", "MOST_DOMAINS", Search),
    ("src/clr/layout/inline/domains.rs", "MOST_SLOTS", Search),
    ("src/clr/layout/inline/heap.rs", "MOST", Search),
    ("src/clr/layout/inline/mod.rs", "MOST", Search),
    ("src/clr/layout/inline/modules.rs", "MOST", Search),
    ("src/clr/layout/inline/server.rs", "MOST_HEAPS", Search),
    ("src/clr/layout/scan.rs", "MOST", Search),
    ("src/clr/layout/scan.rs", "MOST_CELLS", Search),
    ("src/clr/layout/scan.rs", "MOST_SLOTS", Search),
    ("src/clr/layout/search.rs", "MOST_CELLS", Search),
    ("src/clr/layout/structure.rs", "MAX_THREADS", Search),
    ("src/clr/layout/threadlist.rs", "MAX_THREADS", Says),
    ("src/clr/runtime/continuations.rs", "MAX_PARENTS", Never),
    ("src/clr/runtime/continuations.rs", "MAX_RUNS", Shown),
    ("src/clr/runtime/delegates.rs", "MAX_ENTRIES", Says),
    ("src/clr/runtime/delegates.rs", "MAX_NESTED", Says),
    ("src/clr/runtime/domains.rs", "MAX_ASSEMBLIES", Says),
    ("src/clr/runtime/domains.rs", "MAX_DOMAINS", Says),
    ("src/clr/runtime/domains.rs", "MOST", Shown),
    ("src/clr/runtime/exceptions.rs", "MAX_MESSAGE", Says),
    ("src/clr/runtime/finalizer.rs", "MAX_ARRAY", Never),
    ("src/clr/runtime/handles.rs", "MAX_ARRAYS", Says),
    ("src/clr/runtime/handles.rs", "MAX_BUCKETS", Says),
    ("src/clr/runtime/handles.rs", "MAX_MAPS", Says),
    ("src/clr/runtime/handles.rs", "MAX_SEGMENTS", Says),
    ("src/clr/runtime/handles.rs", "MAX_TABLES", Never),
    ("src/clr/runtime/loaderheaps.rs", "MAX_BLOCKS", Never),
    ("src/clr/runtime/loaderheaps.rs", "MAX_SEARCHED", Says),
    ("src/clr/runtime/pal.rs", "MAX_COUNT", Never),
    ("src/clr/runtime/pal.rs", "MAX_ENTRIES", Never),
    ("src/clr/runtime/syncblocks.rs", "MAX_ENTRIES", Never),
    ("src/clr/runtime/syncblocks.rs", "MAX_GAP", Never),
    ("src/clr/runtime/threads.rs", "MAX_NESTED", Says),
    ("src/clr/types/dynamicstatics.rs", "MAX_IDS", Never),
    ("src/clr/types/fielddesc.rs", "MAX_FIELDS", Never),
    ("src/clr/types/gcdesc.rs", "MAX_SERIES", Never),
    ("src/clr/types/knowntypes.rs", "MAX_EXCEPTION", Search),
    ("src/clr/types/loaded.rs", "MAX_BLOCKS", Says),
    ("src/clr/types/loaded.rs", "MAX_FOUND", Never),
    ("src/clr/types/loaded.rs", "MAX_TYPES", Says),
    ("src/clr/types/names.rs", "MAX_ARGS", Never),
    ("src/clr/types/names.rs", "MAX_DEPTH", Shown),
    ("src/clr/types/names.rs", "MAX_NAMES", Search),
    ("src/clr/types/parents.rs", "MAX_PARENTS", Says),
    ("src/clr/types/statics.rs", "MAX_IN_FLIGHT", Never),
    ("src/clr/types/typename.rs", "MAX_DEPTH", Shown),
    ("src/clr/types/typename.rs", "MAX_TEXT", Shown),
    ("src/dump/elf/arguments.rs", "MOST", Never),
    ("src/dump/elf/arguments.rs", "MOST_ENVIRONMENT", Never),
    ("src/dump/elf/image.rs", "MOST_SEGMENTS", Never),
    ("src/dump/elf/modules.rs", "MOST_GAP", Search),
    ("src/dump/elf/stacks.rs", "MOST_STACK", Search),
    ("src/dump/memmap.rs", "MAX_PARTS", Never),
    ("src/dump/minidump/cost.rs", "MOST_NAMES", Says),
    ("src/dump/minidump/streams.rs", "MOST_STACK", Search),
    ("src/dump/mod.rs", "MOST_STACK", Search),
    ("src/dump/overlay.rs", "MOST_MODULES", Never),
    ("src/graph/adjacency.rs", "MAX_BINS", Search),
    ("src/graph/container.rs", "MAX_SECTIONS", Never),
    ("src/heap/regions.rs", "MAX_REGIONS", Never),
    ("src/heap/roots.rs", "MAX_STACK", Says),
    ("src/heap/segments.rs", "MAX_CHAIN", Says),
    ("src/heap/segments.rs", "MAX_HEAPS", Never),
    ("src/heap/walk.rs", "MAX_PROBLEMS", Says),
    ("src/heap/walk.rs", "MAX_STARTS", Search),
    ("src/live/proc.rs", "MOST", Search),
    ("src/native/classes.rs", "MAX_CLASSES", Never),
    ("src/native/classes.rs", "MAX_STEPS", Never),
    ("src/native/codeview.rs", "MAX_STEPS", Never),
    ("src/native/cfi.rs", "MOST_BYTES", Never),
    ("src/native/cfi.rs", "MOST_ENTRY", Never),
    ("src/native/cfi.rs", "MOST_INDEXED", Never),
    ("src/native/cfi.rs", "MOST_OPERATIONS", Never),
    ("src/native/context.rs", "MOST", Never),
    ("src/native/demangle.rs", "MOST_DEPTH", Shown),
    ("src/native/demangle.rs", "MOST_IN", Shown),
    ("src/native/demangle.rs", "MOST_OUT", Shown),
    ("src/native/demangle.rs", "MOST_REFERENCES", Shown),
    ("src/native/dynamic.rs", "MOST_EXPORTS", Never),
    ("src/native/headers.rs", "MOST", Never),
    ("src/native/heaps/blocks.rs", "MOST_SIZE", Never),
    ("src/native/heaps/foreign.rs", "MOST_BSS", Search),
    ("src/native/heaps/glibc/walk.rs", "MOST_ROOM", Search),
    ("src/native/heaps/windows.rs", "MAX_HEAPS", Never),
    ("src/native/image.rs", "MOST_HEADERS", Never),
    ("src/native/lines.rs", "MOST_BYTES", Never),
    ("src/native/minidebug.rs", "MOST", Never),
    ("src/native/record.rs", "MOST_PARAMETERS", Never),
    ("src/native/record.rs", "MOST_WORDS", Search),
    ("src/native/table.rs", "MOST_NAME", Never),
    ("src/native/table.rs", "MOST_NAMES", Never),
    ("src/native/table.rs", "MOST_SYMBOLS", Never),
    ("src/native/unwind.rs", "MOST_FRAME", Search),
    ("src/native/unwind.rs", "MOST_FRAMES", Says),
    ("src/native/unwind.rs", "MOST_STACKS", Says),
    ("src/native/unwindinfo.rs", "MOST_CHAINED", Never),
    ("src/native/x64.rs", "MAX_CHAIN", Never),
    ("src/native/x64.rs", "MAX_EPILOGUE", Search),
    ("src/serve/answer.rs", "MOST_TEXT", Shown),
    ("src/serve/engine.rs", "MOST_ANSWERS", Says),
    ("src/serve/engine.rs", "MOST_KNOWN", Says),
    ("src/serve/engine.rs", "MOST_OPEN", Never),
    ("src/serve/tools.rs", "MOST_BYTES", Says),
    ("src/session/code.rs", "MAX_HOPS", Search),
    ("src/session/code.rs", "MAX_STRING", Shown),
    ("src/session/code.rs", "MAX_STUB", Search),
    ("src/session/describe.rs", "MOST_MESSAGE", Shown),
    ("src/session/describe.rs", "MOST_NAME", Shown),
    ("src/session/describe.rs", "MOST_NAMES", Says),
    ("src/session/dynamic.rs", "MAX_CODE", Never),
    ("src/session/dynamic.rs", "MAX_STRING", Shown),
    ("src/session/enums.rs", "MAX_SIZE", Never),
    ("src/session/enums.rs", "MAX_TYPES", Search),
    ("src/session/failfast.rs", "MAX_MESSAGE", Shown),
    ("src/session/held.rs", "MAX_PERIOD", Shown),
    ("src/session/initializers.rs", "MAX_NAME", Search),
    ("src/session/locks/waits.rs", "MAX_RECORDS", Says),
    ("src/session/lookup.rs", "MAX_FORWARDS", Never),
    ("src/session/memo.rs", "MOST_KEPT", Search),
    ("src/session/nativereach.rs", "MOST_NAME", Shown),
    ("src/session/nativereach.rs", "MOST_STEPS", Says),
    ("src/session/slots.rs", "MAX_DEPTH", Shown),
    ("src/session/slots.rs", "MAX_NAMES", Search),
    ("src/session/tasks/links.rs", "MAX_STEPS", Says),
    ("src/session/tasks/method.rs", "MAX_KEPT", Search),
    ("src/session/tasks/running.rs", "MAX_RECORDS", Says),
    ("src/session/tasks/running.rs", "MAX_STACK", Search),
    ("src/session/tasks/suspended.rs", "MAX_CHAIN", Says),
    ("src/session/waits.rs", "MAX_HANDLES", Never),
    ("src/session/waits/blocked.rs", "MAX_BELOW", Search),
    ("src/session/waits/blocked.rs", "MAX_PART", Search),
    ("src/session/waits/rwlocks.rs", "MAX_COUNTERS", Says),
    ("src/shell/alias.rs", "MOST", Typed),
    ("src/shell/complete/offer.rs", "MOST_ADDRESSES", Typed),
    ("src/shell/data.rs", "MOST_NOTES", Says),
    ("src/shell/expr.rs", "MAX_DEPTH", Typed),
    ("src/shell/expr/cplus.rs", "MAX_DEPTH", Typed),
    ("src/shell/expr/pattern.rs", "MOST", Typed),
    ("src/shell/flow.rs", "MOST_FILE", Typed),
    ("src/shell/pipes/condition.rs", "MAX_DEPTH", Typed),
    ("src/shell/pipes/kept.rs", "MOST_BYTES", Says),
    ("src/shell/pipes/pipe.rs", "MOST", Typed),
    ("src/shell/returns.rs", "MOST_NAMES", Typed),
    ("src/shell/run.rs", "MAX_NESTING", Says),
    ("src/shell/script.rs", "MAX_BYTES", Typed),
    ("src/shell/script.rs", "MAX_DEPTH", Typed),
    ("src/shell/state.rs", "MOST_TAKEN", Says),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

/// The lines in front of the tests of a file.
fn outside_tests(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = |at: usize| {
        let behind = lines[at..].iter().find(|l| !l.starts_with('#'));
        lines[at] == "#[cfg(test)]" && behind.is_some_and(|l| l.starts_with("mod ") && l.ends_with('{'))
    };
    let end = (0..lines.len()).find(|&at| tests(at)).unwrap_or(lines.len());
    lines.into_iter().take(end)
}

/// Name of the bound a line declares.
fn bound(line: &str) -> Option<&str> {
    let rest = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ").strip_prefix("const ")?;
    let name = rest.split(':').next()?.trim();
    let word = name.split('_').next()?;
    ["MAX", "MOST"].contains(&word).then_some(name)
}

/// The bounds of the sources: file and name, and whether a comment stands above each, alone or with its neighbours.
fn found() -> BTreeMap<(String, String), bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("commands"), &mut files);
    let mut all = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        let mut commented = false;
        for line in outside_tests(&text) {
            match bound(line) {
                Some(b) => drop(all.insert((name.clone(), b.to_owned()), commented)),
                None => commented = line.trim_start().starts_with("///"),
            }
        }
    }
    all
}

#[test]
fn every_bound_of_the_sources_is_known() {
    let found = found();
    let known: BTreeMap<(String, String), Met> =
        BOUNDS.iter().map(|(file, name, met)| (((*file).to_owned(), (*name).to_owned()), *met)).collect();
    assert_eq!(known.len(), BOUNDS.len(), "a bound stands twice in the table");
    let new: Vec<_> = found.keys().filter(|k| !known.contains_key(*k)).collect();
    assert!(new.is_empty(), "say in tests/bounds.rs what becomes of an answer that meets these: {new:?}");
    let gone: Vec<_> = known.keys().filter(|k| !found.contains_key(*k)).collect();
    assert!(gone.is_empty(), "these are no more: {gone:?}");
    let silent: Vec<_> = known.iter().filter(|(k, met)| **met == Never && !found[*k]).map(|(k, _)| k).collect();
    assert!(silent.is_empty(), "no comment says why no healthy dump meets these: {silent:?}");
}

/// Lists are cut by names alone: a number in the middle of the code is not looked for by anybody.
#[test]
fn bounds_have_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("commands"), &mut files);
    let mut unnamed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in outside_tests(&text).filter(|l| l.contains("for _ in 0..")) {
            let end = line.split("for _ in 0..").nth(1).unwrap();
            let number = end.chars().next().is_some_and(|c| c.is_ascii_digit());
            // Eight bytes of a number, three levels of a name: not a list.
            if number && !end.starts_with(|c: char| c.is_ascii_digit() && c != '1') {
                unnamed.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
}

/// A dump to be changed.
struct Base {
    session: std::sync::Arc<Session>,
    patch: Patch,
}

impl Base {
    fn new(name: &str) -> Self {
        let (shell, _) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name));
        let session = shell.session.clone().unwrap();
        let patch = Patch::open(session.dump().unpacked.as_ref().unwrap());
        Self { session, patch }
    }

    /// Writes a pointer.
    fn set(&mut self, address: u64, value: u64) {
        self.patch.write(address, &value.to_le_bytes());
    }

    /// Offset of a field in the layout.
    fn offset(&self, ty: &str, field: &str) -> u64 {
        self.session.clr().unwrap().layout().offset(ty, field).unwrap()
    }

    /// What the changed dump answers, as text and as JSON.
    fn say(&self, line: &str) -> (String, serde_json::Value) {
        let file = tempfile::Builder::new().suffix(".core").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        self.patch.save(file.path());
        let (mut shell, out) = open(file.path());
        let mut ask = |format| {
            shell.format = format;
            out.0.lock().unwrap().clear();
            shell.line(line);
            String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
        };
        let text = ask(Format::Text);
        (text, serde_json::from_str(&ask(Format::Json)).unwrap())
    }

    /// That text and JSON say why the answer is partial.
    fn partial(&self, line: &str, why: &str) {
        let (text, json) = self.say(line);
        assert!(text.contains("partial: ") && text.contains(why), "{line} says no {why:?}:\n{text:.2000}");
        assert_eq!(json["outcome"], "partial", "{line}: {json:.500}");
        assert!(json["reason"].as_str().is_some_and(|r| r.contains(why)), "{line}: {json:.500}");
    }

    /// Addresses of the objects of a type.
    fn objects(&self, ty: &str) -> Vec<u64> {
        let (clr, walker) = (self.session.clr().unwrap(), self.session.walker().unwrap());
        let (found, _) = walker
            .parallel(
                &walker.heap.segments,
                |_| Vec::new(),
                |found: &mut Vec<u64>, _, o| {
                    if &*clr.type_name(o.ty.mt.address) == ty {
                        found.push(o.address);
                    }
                },
            )
            .unwrap();
        found.into_iter().flatten().collect()
    }
}

const HEAP: &str = "linux-x64-10.0-leak-heap.core.zst";

#[test]
fn inner_exceptions_in_a_circle_are_said() {
    let mut base = Base::new(HEAP);
    let exception = base.objects("System.OutOfMemoryException")[0];
    let clr = base.session.clr().unwrap();
    let fields = clr.fields(clr.object_type(exception).unwrap());
    let inner = fields.instance.iter().find(|f| &*f.name == "_innerException").unwrap();
    let place = exception + clr.header() + inner.offset();
    base.set(place, exception);
    base.partial(&format!("!pe -nested {exception:x}"), "circle");
    base.set(place, exception + 8);
    base.partial(&format!("!pe -nested {exception:x}"), "is not in the dump");
}

#[test]
fn classes_that_derive_from_one_another_without_end_are_said() {
    let mut base = Base::new(HEAP);
    let exception = base.objects("System.OutOfMemoryException")[0];
    let mt = base.session.clr().unwrap().object_type(exception).unwrap();
    let parent = base.offset("MethodTable", "ParentMethodTable");
    base.set(mt + parent, mt);
    base.partial(&format!("!dumpobj {exception:x}"), "derive from one another");
}

#[test]
fn maps_of_handle_tables_in_a_circle_are_said() {
    let mut base = Base::new(HEAP);
    let map = base.session.clr().unwrap().found.gc.handle_table_map.unwrap();
    let next = base.offset("HandleTableMap", "Next");
    base.set(map + next, map);
    base.partial("!gchandles -stat", "circle");
}

#[test]
fn a_list_of_assemblies_longer_than_any_is_said() {
    let mut base = Base::new(HEAP);
    let clr = base.session.clr().unwrap();
    let domain = clr.space().ptr(clr.layout().global("AppDomain").unwrap()).unwrap();
    let count = domain + base.offset("AppDomain", "DomainAssemblyList") + base.offset("ArrayListBase", "Count");
    base.patch.write(count, &0x7FFF_FFFFu32.to_le_bytes());
    // A list so long is refused as a whole: no process has it.
    base.partial("!clrmodules", "failed its checks");
}

#[test]
fn a_type_map_in_a_circle_is_said() {
    let mut base = Base::new(HEAP);
    let clr = base.session.clr().unwrap();
    let module = clr.assemblies().items.iter().find(|a| clr.module(a.module).path.ends_with("zoo.dll")).unwrap().module;
    let map = module + base.offset("Module", "TypeDefToMethodTableMap");
    base.set(map, map);
    base.partial(&format!("!dumpmodule -mt {module:x}"), "circle");
}

/// An array is written with its index, each of its elements and their members too.
#[test]
fn references_of_arrays_say_which_element() {
    let base = Base::new("linux-x64-10.0-wks-heap.core.zst");
    let (clr, walker) = (base.session.clr().unwrap(), base.session.walker().unwrap());
    let array = base.objects("Zoo.Tagged[]")[0];
    let length = u64::from(clr.component_count(array).unwrap());
    assert!(length > 1 && walker.object_at(array).is_some());
    let (text, _) = base.say(&format!("!refs {array:x} -out -limit 0"));
    for i in 0..length {
        assert!(text.contains(&format!(" [{i}].Label")), "element {i}: {text}");
    }
    let (text, _) = base.say(&format!("!refs {array:x} -out -stat"));
    assert!(text.contains(" [].Label"), "{text}");
}
