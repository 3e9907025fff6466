//! What the commands print, row by row, against transcripts of SOS on the same dumps.
//!
//! Rows are compared as a set with their blanks collapsed: SOS sorts equal sizes in no order of its own. Where SOS failed
//! or is known to be wrong, [`KNOWN`] says which rows are left out, on which side, and why; `docs/accuracy.md` explains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Dumps with a transcript. Those of 3.1 hold no names: there SOS had the runtime's files, ours has nothing.
const DUMPS: &[&str] =
    &["linux-x64-10.0-wks-heap", "linux-x64-10.0-leak-heap", "linux-x64-10.0-crash-heap", "linux-x64-9.0-svr-heap"];

/// Commands compared.
const COMMANDS: &[&str] = &[
    "dumpheap",
    "dumpobj",
    "dumparray",
    "dumpvc",
    "dumpmt",
    "dumpclass",
    "dumpmodule",
    "dumpdelegate",
    "dumpmd",
    "ip2md",
    "dumpil",
    "name2ee",
    "gcroot",
    "pathto",
    "objsize",
    "gcwhere",
    "listnearobj",
    "eeheap",
    "finalizequeue",
    "gchandles",
    "clrthreads",
    "syncblk",
    "dumpexceptions",
    "verifyheap",
    "verifyobj",
    "gcheapstat",
    "sizestats",
    "dumpconcurrentdictionary",
    "dumpasync",
    "timerinfo",
    "threadpool",
    "dumpdomain",
    "clrmodules",
    "assemblies",
    "pe",
    "dso",
    "clrstack",
    "parallelstacks",
];

/// Whose row.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Sos,
    Ours,
    Both,
}
use Side::{Both, Ours, Sos};

/// Start of the command (behind a part of the dump's name), side, a text the row holds (`^`: begins with), and why it is not compared.
const KNOWN: &[(&str, Side, &str, &str)] = &[
    ("dumpasync --stats", Ours, "are not counted; -", "what the table leaves out is said"),
    ("", Sos, "Calculating live objects", "progress"),
    ("", Both, "System.String<*>", "SOS's name of String[*]"),
    ("", Both, "System.String[*]", "SOS's name of String[*]"),
    ("finalizequeue", Sos, "SyncBlock", "SOS prints a row of zeros for an empty clean-up list"),
    ("finalizequeue", Sos, "000000000000 000000000000", "the same"),
    ("finalizequeue", Sos, "Interfaces to be released", "COM, Windows only"),
    ("finalizequeue", Ours, "SyncBlocks to be cleaned up", "the same"),
    ("finalizequeue", Both, "generation ", "SOS takes generation 0 for 1: the objects lie where ours says"),
    ("gchandles", Both, "Weak Interior Pointer", "SOS writes no colon behind it"),
    ("clrthreads -special", Sos, "-special not supported", "ours ignores the option"),
    ("verifyheap", Ours, "SyncBlocks verified", "counted in addition"),
    ("", Both, "EEClass:", "SOS prints none for 10.0, and an array's MethodTable instead of its class"),
    ("dumpmt", Sos, "AssemblyLoadContext:", "not printed"),
    ("", Ours, "^Assemblies made at run time:", "counted in addition"),
    ("dump", Ours, "^Decoded:", "what a value says in words"),
    ("dump", Ours, "^The initializer of ", "what SOS does not say"),
    ("dumpmt", Both, "JIT", "SOS prints the entry of a stub that was patched since"),
    ("", Sos, "Warning: .NET 11+ uses runtime-async", "ours reads it"),
    ("", Sos, "doesn't fully support .NET 11+", "the same"),
    ("-11.0-: dumpasync", Ours, "RuntimeAsyncTask<", "stacks of runtime-async: SOS shows none"),
    ("-11.0-: dumpasync", Sos, "DispatchContinuations", "the method of the loop that runs them"),
    ("-11.0-: dumpdelegate", Ours, "7f", "SOS prints an empty table on 11"),
    ("-11.0-: dumpdomain", Both, "System Domain:", "null in SOS, which lists the assemblies twice"),
    ("-11.0-: dumpdomain", Both, "^Name:", "the same"),
    ("-11.0-: dumpdomain", Both, "Heap:", "the same; 11 has no stub heap"),
    ("-11.0-: eeheap", Both, "^System Domain:", "SOS names the app domain alone"),
    ("-11.0-: eeheap", Both, "^LoaderAllocator:", "the same"),
    ("-11.0-: eeheap", Ours, "No unique loader heaps found", "the same"),
    ("-11.0-: eeheap", Both, "^HostCodeHeap:", "SOS takes what is used for what is reserved"),
    ("-11.0-: dumpobj", Both, "...Private.CoreLib]]", "SOS shows fields of generic types by the shared instantiation"),
    ("-11.0-: dumpobj", Both, "_items", "the same"),
    ("-11.0-: dumpobj", Both, "s_emptyArray", "the same"),
    ("-11.0-: dumpobj", Both, "_tables", "the same"),
    ("-11.0-: syncblk", Both, "System.Object", "SOS loses who waits: MonitorHeld counts them"),
    ("-11.0-: syncblk -all", Both, "0000 none ", "SOS counts one entry of a monitor nobody holds"),
    ("-11.0-: threadpool", Both, "", "SOS finds no pool that has not started"),
    ("-11.0-: dumpclass", Both, "", "fields of generic types: the same as dumpobj"),
    ("-11.0-: dumparray", Both, "String No static", "SOS leaves the value of a static without storage empty"),
    ("dumpil", Both, "pImport is", "SOS prints where its own reader of metadata is, ours where the metadata is"),
    ("dumpil", Sos, "<unknown token type 2b000000>", "ours names the instantiation of a method"),
    ("dumpil", Ours, "(!!0", "the same"),
    ("dumpmd", Sos, "ILCodeVersion:", "versions of IL are not read"),
    ("dumpmd", Sos, "ReJIT ID:", "the same"),
    ("dumpmd", Sos, "NativeCodeVersion:", "the same"),
    ("dumpmd", Both, "Class:", "SOS prints the MethodTable here since 9.0, ours the EEClass"),
    ("ip2md", Both, "Class:", "the same"),
    ("dumpmd", Both, "IL Addr:", "SOS prints zero before a method is compiled"),
    ("ip2md", Sos, "ILCodeVersion:", "versions of IL are not read"),
    ("ip2md", Sos, "ReJIT ID:", "the same"),
    ("ip2md", Sos, "NativeCodeVersion:", "the same"),
    ("ip2md", Ours, "IL offset", "SOS does not tell it"),
    ("dumpobj", Both, "String: ", "the transcript has no characters beyond ASCII"),
    ("dumpobj", Both, "tabbed", "the same string"),
    ("eeheap", Ours, "^LoaderHeap", "heaps SOS does not list"),
    ("eeheap", Ours, "^PrecodeHeap:", "heaps SOS does not list"),
    ("eeheap", Ours, "^Other loader heaps:", "heaps SOS does not list"),
    ("eeheap", Both, "^Total", "sums: ours have the heaps SOS does not list too"),
    ("eeheap", Both, "^---", "one block more"),
    ("eeheap", Both, "^===", "one block more"),
    ("gcroot", Both, "->", "chains may differ: checked edge by edge elsewhere"),
    ("dumpobj", Both, "_entries", "SOS has no type for a field whose type is made of type parameters"),
    ("dumpobj", Both, "_comparer", "the same"),
    ("dumpobj", Both, "_keys", "the same"),
    ("dumpobj", Both, "_values", "the same"),
    ("dumpobj", Both, "s_underlyingTypes", "SOS leaves the value of a static without storage empty, ours is zero"),
    ("dumpobj", Both, "static 0000000000000000 ValueType", "the same"),
    ("dumpobj", Both, "static 0000000000000000 ObjectType", "the same"),
    ("dumpobj", Both, "static 0000000000000000 StringType", "the same"),
    ("dumpobj", Both, "static ValueType", "the same"),
    ("dumpobj", Both, "static ObjectType", "the same"),
    ("dumpobj", Both, "static StringType", "the same"),
    ("dumpobj", Both, "Type Name:", "SOS does not name a type made with Reflection.Emit"),
    ("deadlock-heap: gcroot", Both, "Found ", "SOS leaves out what records of native code protect"),
    ("deadlock-heap: gcroot", Ours, "GCFrame:", "the same"),
    ("deadlock-heap: gcroot", Both, "System.Threading.Monitor.Enter_Slowpath", "the same"),
    ("objsize", Both, "Thread", "the same"),
    ("-11.0-: clrstack", Both, "(0x00007FFD79A461A8)", "a local of the program has its name from symbols"),
    ("-11.0-: clrstack", Sos, "PARAMETERS:", "SOS prints the heading for a stub whose parameters have no names"),
    ("-11.0-: parallelstacks", Both, "IL_STUB_", "SOS has another name for the class of stubs"),
    ("-11.0-: parallelstacks", Both, "RuntimeAsyncTask<", "SOS spells type arguments out"),
    ("threadpool", Sos, "Failed to obtain ThreadPool data", "there is no pool: ours says so"),
    ("threadpool", Ours, "No portable thread pool", "the same"),
];

/// Whole commands that are not compared, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("dumpheap -strings", "the transcript cannot hold the characters beyond ASCII"),
    ("dumpheap -stat -live", "conservative roots keep more alive: checked as a bound below"),
    ("dumpheap -stat -dead", "the same"),
    ("gcheapstat -iu", "the same"),
    ("linux-x64-9.0-svr-heap: gchandles", "with server GC SOS lists only part of the handle tables"),
    ("linux-x64-9.0-svr-heap: gcroot", "the same"),
    ("linux-x64-10.0-crash-heap: dso", "SOS stands on the first thread, ours on the one that threw"),
    ("linux-x64-10.0-crash-heap: pe", "the same"),
];

struct Block {
    command: String,
    rows: Vec<String>,
}

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// A dump with its transcript.
struct Case {
    name: String,
    dump: PathBuf,
    transcript: PathBuf,
}

/// Those of testdata/, and of the folder that `CLRSCOPE_DUMPS` names.
fn cases() -> Vec<Case> {
    let own = |name: &&str| Case {
        name: (*name).to_owned(),
        dump: data(&format!("{name}.core.zst")),
        transcript: data(&format!("{name}.sos.txt.zst")),
    };
    let mut all: Vec<Case> = DUMPS.iter().map(own).collect();
    let folder = std::env::var_os("CLRSCOPE_DUMPS").map(PathBuf::from);
    let files = folder.and_then(|f| std::fs::read_dir(f).ok()).into_iter().flatten().flatten();
    for transcript in files.map(|e| e.path()) {
        let file = transcript.file_name().unwrap().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".zst").unwrap_or(&file).strip_suffix(".sos.txt") else { continue };
        let dump = ["core", "core.zst"].map(|e| transcript.with_file_name(format!("{name}.{e}")));
        // Of 3.1 the names are in files that are not there.
        let wanted = !name.contains("-3.1-") && all.iter().all(|c| c.name != name);
        if let Some(dump) = dump.into_iter().find(|d| wanted && d.exists()) {
            all.push(Case { name: name.to_owned(), dump, transcript });
        }
    }
    all
}

fn transcript(case: &Case) -> Vec<Block> {
    let mut bytes = std::fs::read(&case.transcript).unwrap();
    if case.transcript.extension().is_some_and(|e| e == "zst") {
        let packed = std::mem::take(&mut bytes);
        zstd::Decoder::new(&packed[..]).unwrap().read_to_end(&mut bytes).unwrap();
    }
    let mut blocks: Vec<Block> = Vec::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        match (line.strip_prefix("> "), blocks.last_mut()) {
            (Some(c), _) => blocks.push(Block { command: c.trim().to_owned(), rows: Vec::new() }),
            (None, Some(b)) => {
                // SOS prints a call of native code twice: where the thread is, and where the call returns to.
                let call = |l: &str| l.contains("[InlinedCallFrame:").then(|| l.get(..16).map(str::to_owned)).flatten();
                if b.rows.last().and_then(|l| call(l)).is_some_and(|c| call(line) == Some(c)) {
                    b.rows.pop();
                }
                b.rows.push(line.to_owned());
            }
            _ => {}
        }
    }
    blocks
}

/// What ours prints for each of the commands, asked in one run.
fn ours(case: &Case, commands: &[&str]) -> Vec<Vec<String>> {
    let commands: Vec<String> = commands.iter().map(|c| format!("!{c}")).collect();
    ask::ask(&case.dump, &commands)
}

/// A row with its blanks collapsed, without what SOS has no value for.
fn plain(command: &str, row: &str) -> String {
    let mut words: Vec<&str> = row.split_whitespace().collect();
    // The column FRZ has a title in SOS, but no values.
    if command.starts_with("gcheapstat") && words.get(6).is_some_and(|w| w.bytes().all(|b| b.is_ascii_digit())) {
        words.remove(6);
    }
    // What a value says in words, and whether it was ever stored, stands behind what SOS prints.
    if ["dumpobj", "dumpvc", "dumpclass", "dumparray"].iter().any(|c| command.starts_with(c)) {
        let mark = words.iter().position(|w| *w == "=" || *w == "(not");
        words.truncate(mark.unwrap_or(words.len()));
    }
    // So do names of assemblies made at run time.
    if let Some(at) = words.iter().position(|w| *w == "(Dynamic)") {
        words.truncate(at + 1);
    }
    // Names of threads stand behind what SOS prints.
    if command.starts_with("clrthreads")
        && let Some(name) = words.iter().position(|w| w.starts_with('"'))
    {
        words.truncate(name);
    }
    // SOS does not name methods in precompiled code.
    if command == "timerinfo"
        && let Some(arrow) = words.iter().position(|w| *w == "->")
    {
        words.truncate(arrow);
    }
    // SOS has no word for the heap of statics.
    if command.starts_with("eeheap") && words.first() == Some(&"Unknown:") {
        words[0] = "StaticsHeap:";
    }
    // SOS does not say which roots lead into an object.
    if command.starts_with("gcroot") {
        words.retain(|w| *w != "(interior)");
    }
    // Stacks are numbered in the order of the heap, which is not the same.
    if command.starts_with("dumpasync") && words.first() == Some(&"STACK") {
        words.truncate(1);
    }
    words.join(" ")
}

/// Rows with how often they occur, without those known to differ.
fn counted(dump: &str, command: &str, side: Side, rows: &[String]) -> HashMap<String, i64> {
    // Locks that are objects, who waits and deadlocks stand below SOS's own table and footer.
    let own =
        (side == Ours && command.starts_with("syncblk")).then(|| rows.iter().position(String::is_empty)).flatten();
    // Stacks of async methods joined with what awaits them stand behind the others.
    let joined = side == Ours && command.starts_with("parallelstacks");
    let joined = joined.then(|| rows.iter().position(|r| r.starts_with("Threads in resumed async methods"))).flatten();
    let rows = own.or(joined).map_or(rows, |end| &rows[..end]);
    let mut all = HashMap::new();
    let mut of_collectible = false;
    for row in rows {
        let row = plain(command, row);
        // SOS does not list the heaps of collectible allocators.
        of_collectible = match row.as_str() {
            "Module LoaderAllocators:" => true,
            "Other loader heaps:" => false,
            r => of_collectible && !r.starts_with("Total LoaderHeap size"),
        };
        if of_collectible {
            continue;
        }
        let noise = ["Loading core dump", "Set load path", "Caching GC roots", "Subsequent runs"];
        let known = |k: &&(&str, Side, &str, &str)| {
            let holds = match k.2.strip_prefix('^') {
                Some(start) => row.starts_with(start),
                None => row.contains(k.2),
            };
            let (of, start) = k.0.split_once(": ").unwrap_or(("", k.0));
            dump.contains(of) && command.starts_with(start) && (k.1 == side || k.1 == Both) && holds
        };
        if !row.is_empty() && !noise.iter().any(|n| row.starts_with(n)) && !KNOWN.iter().any(|k| known(&k)) {
            *all.entry(row).or_insert(0) += 1;
        }
    }
    all
}

#[test]
fn rows_are_those_of_sos() {
    let (mut wrong, mut compared, mut rows) = (Vec::new(), 0, 0);
    for case in cases() {
        let (dump, blocks) = (&case.name, transcript(&case));
        let asked: Vec<&str> = blocks.iter().map(|b| b.command.as_str()).collect();
        for (block, rows_of_ours) in blocks.iter().zip(ours(&case, &asked)) {
            let name = block.command.split(' ').next().unwrap_or("");
            // Where Microsoft's reader failed there is nothing to compare with.
            let failed = block.rows.iter().any(|r| r.contains("dotnet-dump crashed") || r.contains("COMMAND FAILED"));
            // SOS lists no elements of arrays of several dimensions with -details.
            let failed = failed || block.rows.iter().any(|r| r.contains("multi-dimension array, length"));
            let full = format!("{dump}: {}", block.command);
            let skipped = SKIPPED.iter().any(|s| block.command == s.0 || s.0.contains(':') && full.starts_with(s.0));
            if failed || skipped || !COMMANDS.contains(&name) {
                continue;
            }
            let sos = counted(dump, &block.command, Sos, &block.rows);
            let mine = counted(dump, &block.command, Ours, &rows_of_ours);
            compared += 1;
            rows += sos.len();
            let missing = sos.iter().filter(|(r, n)| mine.get(*r).unwrap_or(&0) < n).map(|(r, _)| format!("  - {r}"));
            let extra = mine.iter().filter(|(r, n)| sos.get(*r).unwrap_or(&0) < n).map(|(r, _)| format!("  + {r}"));
            let different: Vec<String> = missing.take(4).chain(extra.take(4)).collect();
            if !different.is_empty() {
                wrong.push(format!("{dump}: {}\n{}", block.command, different.join("\n")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} commands differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 200 && rows > 15_000, "only {compared} commands with {rows} rows were compared");
}

/// Counts by MethodTable of a `dumpheap -stat`.
fn counts(rows: &[String]) -> HashMap<String, i64> {
    rows.iter()
        .filter_map(|r| {
            let mut words = r.split_whitespace();
            let (mt, count) = (words.next()?, words.next()?);
            (mt.len() > 8 && mt.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| Some((mt.to_owned(), count.replace(',', "").parse().ok()?)))?
        })
        .collect()
}

#[test]
fn whatever_sos_finds_alive_is_alive() {
    let mut types = 0;
    for case in cases() {
        let dump = &case.name;
        for block in transcript(&case).iter().filter(|b| b.command == "dumpheap -stat -live") {
            let mine = ours(&case, &[&block.command]);
            let (sos, mine) = (counts(&block.rows), counts(&mine[0]));
            // On one dump Microsoft's reader crashes here: ours answers.
            if sos.is_empty() {
                assert!(mine.len() > 50, "{dump}: {} types alive", mine.len());
                continue;
            }
            for (mt, n) in &sos {
                assert!(mine.get(mt).unwrap_or(&0) >= n, "{dump}: {mt}: SOS has {n} alive, ours {:?}", mine.get(mt));
            }
            // Conservative roots keep little alive that is dead.
            let (theirs, own) = (sos.values().sum::<i64>(), mine.values().sum::<i64>());
            assert!(own - theirs <= theirs / 50, "{dump}: {own} alive, SOS has {theirs}");
            types += sos.len();
        }
    }
    assert!(types > 200, "only {types} types compared");
}
