//! Names people type that are not commands here: what stands nearest.

use super::command::{Command, Prefix};
use super::grammar::Typed;
use super::opaque;
use super::parse::spelled;

/// Names of SOS, the debuggers and their extensions that are no commands here, with what answers the same question. What
/// stands between backticks is a line of this program.
pub const INSTEAD: &[(&[&str], &str)] = &[
    (
        &["clrma", "crashinfo", "checkcurrentexception", "cce", "currentexceptionname"],
        "`!analyze -crash` says what crashed, `!pe` shows the exception of the current thread, `.lastevent` what stopped the process, `!clrstack` where it stands",
    ),
    (
        &["comstate", "dumprcw", "dumpccw", "rcwcleanuplist"],
        "wrappers of COM objects are not read; `!dumpobj ADDR` shows the managed side, `!syncblk` counts the wrappers",
    ),
    (
        &["dumpgcdata", "dgc"],
        "counters that the collector keeps for its makers are not read; `!eeheap -gc` and `!gcheapstat` have its memory",
    ),
    (&["dumphttpruntime"], "`!dumprequests` lists the requests that are served, `!dumphttp` those that were sent"),
    (
        &["dumplog", "histinit", "histclear", "histobj", "histobjfind", "hof", "histroot", "histstats"],
        "the stress log, which is off unless DOTNET_StressLog=1 was set, is not read; `!gcwhere ADDR` says where an object is, `!gcroot ADDR` what holds it",
    ),
    (&["notreachableinrange"], "`!dumpheap -dead START END` lists what nothing reaches"),
    (
        &["dumpobjgcrefs"],
        "`!refs -out ADDR` lists what an object refers to, `!dumpobj -refs ADDR` shows it with its fields",
    ),
    (&["traverseheap", "savestate", "dump"], "`.export FOLDER` writes objects, types, roots and references as tables"),
    (&["processor"], "`.effmach` says for which processor the dump is"),
    (&["readmemory"], "`db ADDR L20` shows bytes, `dd`, `dq` and the others numbers, `du` text"),
    (&["saveallmodules"], "`!savemodule ADDR FILE` writes the image of a module, `!clrmodules` lists them"),
    (&["setruntime", "handleclrn", "dac"], "`!runtimes` shows the runtime that is read"),
    (&["procinfo"], "`vertarget`, `.time` and `!peb` have what the dump records of the process"),
    (&["setthread", "setsostid", "lt", "tl"], "`~3s` makes thread 3 the current one, `~` lists them"),
    (&["watch", "di"], "`!dumpobj ADDR` shows an object, `!clrstack -a` the variables of a stack"),
    (
        &["heaps", "mem"],
        "`!heap` shows native heaps and their blocks, `!address -summary` counts the process's memory by use",
    ),
    (&["clrusage", "rtusage"], "`!maddress -summary` counts the process's memory, that of the runtime by kind"),
    (
        &["cs", "crit"],
        "critical sections of Windows are not read; `!waits` has managed locks, who holds them and who waits",
    ),
    (
        &["rwlock", "rwlocks"],
        "`!dumpheap -type ReaderWriterLockSlim` finds them, `!dumpobj ADDR` shows their state, `!waits` who holds them and who waits",
    ),
    (&["avrf"], "`!handle` lists the handles of the process"),
    (&["chkimg", "imggp", "itoldyouso", "imports"], "`lmv` shows what the dump records of each image"),
    (&["lmd"], "`lm` lists the modules"),
    (&["mapped_file"], "`!address ADDR` names the file that is mapped there"),
    (&["evlog"], "a dump holds no event log"),
    (&["for_each_frame"], "`!clrstack -a` and `k` list the frames, `.frame N` makes one the current one"),
    (&["for_each_thread"], "`~*e COMMANDS` runs commands with each thread the current one"),
    (&["gflag", "psp", "token"], "`!peb` shows what the dump records of the process"),
    (&["tls"], "`!teb` shows the thread's own data"),
    (&["trap"], "`.ecxr` shows the registers of the exception"),
    (&["dumpdebug"], "`vertarget` says what kind of dump it is, `!address -summary` what memory it has"),
    (&["kframes", "km", "mframe"], "`k` and `!clrstack` show whole stacks, `.frame N` makes one the current one"),
    (&["mdv", "dv", "vars"], "`!clrstack -a` shows arguments and local variables"),
    (&["wstack"], "`~*e !dso` lists the objects on each thread's stack"),
    (&["extpath", "setdll"], "there are no extensions to load; `.help` lists what is here"),
    (&["z"], "`.do {COMMANDS} (E)` repeats commands as long as a condition holds"),
    (&["rf", "rm", "rx"], "`r` shows the registers the dump records"),
    (&["up", "uu"], "`u ADDR` and `db ADDR` show code and memory; there is one address space"),
    (&["||"], "`|` shows the process of the dump; `.opendump FILE` opens another, `!diff FILE` compares with it"),
    (
        &["scriptload", "scriptrun", "scriptlist", "scriptunload", "scriptproviders", "runscript"],
        "scripts are files of commands: `$$>a<FILE ARGUMENTS`",
    ),
    (&["dml_start", "dml_flow"], "`.help` lists the commands by what they are for"),
    (
        &["mx", "dumpfd", "dumpfield"],
        "`!name2ee *!NAME` finds a type or method by its name in all modules, `!dumpclass MT` shows its fields",
    ),
    (&["mln"], "`ln ADDR` names the code at an address"),
    (
        &["mfrag"],
        "`!dumpheap -stat -type Free` counts free blocks, `!sizestats` their sizes; `!dumpheap` lists big ones with what follows",
    ),
    (&["gcgen", "where"], "`!gcwhere ADDR` says heap, segment and generation of an object"),
    (
        &["whatis"],
        "`!gcwhere ADDR` and `!listnearobj ADDR` find an object, `!address ADDR` any other memory, `ln ADDR` code",
    ),
    (&["mheap"], "`!eeheap -gc` lists the segments, `!dumpheap -stat` what is in them"),
    (&["tasks"], "`!dumpasync -tasks` lists tasks with what waits for them"),
    (&["mroots"], "`!gcroot ADDR` shows what holds an object, `!leaks` what holds most"),
    (&["wk"], "`~*k` shows the stacks of all threads, `!uniqstack` each different one once"),
    (&["wconfig"], "`!strings TEXT` finds configuration by its text; files are not in the dump"),
    (
        &["wsql"],
        "`!select FIELD, ... from TYPE where CONDITION` asks objects for their fields; sort and group with `| sort` and `| group`",
    ),
    (
        &[
            "wcookie",
            "wservice",
            "wtoken",
            "wruntime",
            "wcf",
            "sqlcmd",
            "sqlcn",
            "sqlclientperfcounters",
            "traceregexinformation",
            "findtable",
            "dumphistorytable",
        ],
        "`!dumpheap -type NAME` finds objects of a library by a part of their type's name, `!dumpobj ADDR` shows one",
    ),
    (&["wxml", "dumpxmldoc"], "`!dumpheap -type XmlDocument` finds documents, `!dumpobj ADDR` shows one"),
    (&["wupdate"], "there is nothing to look up in the network; `vertarget` says what is open"),
    (
        &["aspnetcache", "dumpaspnetcache", "dumpaspstate", "dumpsessionstateinfo"],
        "`!dumpheap -type Cache` finds caches, `!dumpcollection ADDR` lists what is in one, `!retained ADDR` what it keeps alive",
    ),
    (
        &["converttickstodate", "convertvtdatetodate"],
        "`.formats VALUE` shows a number as a time, `!dumpvc MT ADDR` says dates and times in words",
    ),
    (&["dumpbuckets"], "`!dumpcollection ADDR` lists what is in a hash table"),
    (
        &["dumpdatatable", "dumpdatatables", "finddatatables"],
        "`!dumpheap -type DataTable` finds tables, `!dumpobj ADDR` shows one",
    ),
    (&["dumpdynamicassemblies"], "`!clrmodules` lists assemblies made at run time with the others and counts them"),
    (&["dumpmethodsig"], "`!dumpmd MD` and `!dumpsig ADDR` show the signature of a method"),
    (&["dumpthreadconfig", "dtc"], "`!threadpool` shows the limits of the thread pool"),
    (
        &["dumpthreadstatics"],
        "`!dumpclass MT` shows static fields of all threads; `.export FOLDER -tables threadstatics` those of all types",
    ),
    (&["finddebugmodules", "finddebugtrue"], "`!clrmodules -v` shows the modules; how they were compiled is not read"),
    (&["managedanalysis"], "`!leaks` names what holds much memory, `!threads`, `!syncblk` and `!dumpasync` what waits"),
    (&["printipaddress"], "`!dumpobj ADDR` says an address of the network in words"),
    (&["savedynamicassembly", "writemodule"], "`!savemodule ADDR FILE` writes the image of a module"),
    (&["verifystack"], "`!verifyheap` checks the heap, `!dso -verify` the objects on a stack"),
    (&["clrheaps", "gcview", "gcheapinfo"], "`!eeheap -gc` lists heaps and segments, `!gcheapstat` their generations"),
    (&["cut"], "`!dumpheap -stat | cols class_name,count` keeps columns"),
    (&["fel", "foreachline"], "`.foreach (x {COMMANDS}) {COMMANDS}` goes through what commands print word by word"),
    (
        &["feo", "fod", "foreachobject"],
        "`.foreach (o {!dumpheap -type T -short}) {!dumpobj o}` does something with each object",
    ),
    (&["getcallback"], "`!dumpdelegate ADDR` shows the methods of a delegate"),
    (&["sort"], "`!dumpheap -stat | sort -count` sorts rows by a column"),
    (&["tee"], "`.logopen FILE` keeps what is printed, `!dumpheap -o FILE` one answer"),
    (&["dumpstacktraces"], "`!uniqstack` shows each different stack once"),
    (&["info"], "`vertarget` and `.effmach` say which process and processor it is"),
];

/// Every name under which a host of SOS knows a command (dotnet/diagnostics `src/SOS`, `src/Tools/dotnet-dump`, main of
/// August 2026), spelling aliases among them: `.help` and the reference say of each what is here.
pub const SOS: &[&str] = &[
    "dumpheap",
    "gcroot",
    "pathto",
    "objsize",
    "gcheapstat",
    "heapstat",
    "eeheap",
    "finalizequeue",
    "fq",
    "gchandles",
    "gchandleleaks",
    "gcwhere",
    "listnearobj",
    "lno",
    "verifyheap",
    "vh",
    "verifyobj",
    "vo",
    "dumpgen",
    "dg",
    "sizestats",
    "ephrefs",
    "ephtoloh",
    "dumpruntimetypes",
    "dumpexceptions",
    "analyzeoom",
    "ao",
    "traverseheap",
    "notreachableinrange",
    "dumpobjgcrefs",
    "findroots",
    "dumpgcdata",
    "enummem",
    "histinit",
    "histclear",
    "histobj",
    "histobjfind",
    "hof",
    "histroot",
    "histstats",
    "dumplog",
    "maddress",
    "gctonative",
    "findpointersin",
    "vmstat",
    "vmmap",
    "procinfo",
    "dumpobj",
    "do",
    "dumparray",
    "da",
    "dumpvc",
    "dumpdelegate",
    "dumpalc",
    "printexception",
    "pe",
    "dumpconcurrentdictionary",
    "dcd",
    "dumpconcurrentqueue",
    "dcq",
    "dumprcw",
    "dumpccw",
    "rcwcleanuplist",
    "comstate",
    "dumppermissionset",
    "watch",
    "dumpmt",
    "dumpclass",
    "dumpmd",
    "dumpmodule",
    "dumpassembly",
    "dumpdomain",
    "assemblies",
    "clrmodules",
    "name2ee",
    "token2ee",
    "dumpsig",
    "dumpsigelem",
    "dumpil",
    "findappdomain",
    "savemodule",
    "saveallmodules",
    "gcinfo",
    "ehinfo",
    "ip2md",
    "u",
    "clru",
    "clrstack",
    "dumpstackobjects",
    "dso",
    "dumpstack",
    "eestack",
    "clrthreads",
    "threads",
    "t",
    "threadstate",
    "setthread",
    "parallelstacks",
    "pstacks",
    "syncblk",
    "dumpasync",
    "taskstate",
    "tks",
    "threadpool",
    "tp",
    "threadpoolqueue",
    "tpq",
    "timerinfo",
    "ti",
    "dumphttp",
    "dumprequests",
    "crashinfo",
    "clrma",
    "clrmaconfig",
    "watsonbuckets",
    "bpmd",
    "stoponexception",
    "soe",
    "stoponcatch",
    "suppressjitoptimization",
    "sjo",
    "tracetocode",
    "getcodetypeflags",
    "verifystacktrace",
    "verifygmt",
    "savestate",
    "help",
    "soshelp",
    "eeversion",
    "runtimes",
    "setruntime",
    "sosstatus",
    "sosflush",
    "setclrpath",
    "setsymbolserver",
    "loadsymbols",
    "sethostruntime",
    "logging",
    "dbgout",
    "logopen",
    "logclose",
    "modules",
    "lm",
    "registers",
    "r",
    "d",
    "db",
    "dc",
    "du",
    "dw",
    "dd",
    "dp",
    "dq",
    "readmemory",
    "minidumpmode",
    "processor",
    "exit",
    "quit",
    "q",
    "dumpgclog",
    "dlog",
    "dumpgcconfiglog",
    "dclog",
    "dgc",
    "exposedml",
    "soshandleclrn",
];

/// Names that are another command behind `!` than without it: `!t` lists threads, `t` would trace.
pub const BANG_ALONE: &[(&str, &str)] = &[("t", "clrthreads")];

/// Names of commands that have no meaning on a dump, with what is said of them.
pub const NO_MEANING: &[(&[&str], &str)] = &[
    (
        &[
            "g", "gc", "gh", "gn", "gu", "p", "pa", "pc", "pct", "ph", "pt", "t", "ta", "tb", "tc", "tct", "th", "tt",
            "wt",
        ],
        "a dump stands still: nothing runs in it",
    ),
    (
        &[
            "bp",
            "bu",
            "bm",
            "ba",
            "bl",
            "bc",
            "bd",
            "be",
            "br",
            "bs",
            "bsc",
            "bpmd",
            "mbp",
            "mbm",
            "mbl",
            "mbc",
            "mbd",
            "mbe",
            "mgu",
            "stoponexception",
            "soe",
            "stoponcatch",
            "findroots",
        ],
        "a dump stands still: there is nothing to stop at",
    ),
    (
        &["e", "eb", "ed", "eq", "ep", "ea", "eu", "ew", "eza", "ezu", "f", "m", "fp"],
        "the memory of a dump cannot be changed",
    ),
    (&["a"], "code of a dump cannot be changed; u shows it"),
    (&["detach", "restart", "attach", "create", "kill", "abandon"], "there is no process behind a dump; q leaves"),
    (
        &["sethostruntime", "setclrpath", "setsymbolserver", "loadsymbols", "suppressjitoptimization", "sjo"],
        "neither the debugging library of the runtime nor symbols are needed: the dump is read itself",
    ),
    (
        &["verifystacktrace", "verifygmt", "getcodetypeflags", "tracetocode", "exposedml", "soshandleclrn", "enummem"],
        "it tests the runtime or SOS itself in a process that runs",
    ),
    (
        &["dumpgclog", "dlog", "dumpgcconfiglog", "dclog"],
        "only builds of the runtime made to trace the collector have that log",
    ),
    (&["dumppermissionset"], "only .NET Framework has code access security"),
    (
        &["watsonbuckets"],
        "the buckets are made for error reporting, of which a dump of .NET holds nothing; `!pe` has the exception",
    ),
    (&["clrmaconfig"], "it is for `!analyze` of another debugger"),
    (&["sosflush"], "nothing has to be forgotten: a dump does not change"),
    (&["minidumpmode"], "all kinds of dumps are read alike; what one lacks is said"),
    (&["dbgout", "logging"], "there are no extensions that could log; .logopen keeps what is printed"),
];

/// What to say of a name that is no command.
///
/// What a table of names says of one.
pub fn of(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(names, _)| names.contains(&name)).map(|row| row.1)
}

/// `typed_as` is the name as it was typed, with its mark and the name of its extension.
pub fn unknown(name: &str, typed: Typed, typed_as: &str, commands: &[&'static Command]) -> String {
    if let ("else" | "elsif", Typed::Dot) = (name, typed) {
        return format!(".{name} stands behind the }} of .if, without a `;` between them");
    }
    if let Some(why) = of(NO_MEANING, name) {
        return format!("{typed_as} has no meaning here: {why}");
    }
    if let Some(answer) = of(INSTEAD, name) {
        return format!("{typed_as} is not here: {answer}");
    }
    // What nobody typed is no slip of the finger.
    let most = if opaque::is_in(name) { 0 } else { (name.len() / 3).clamp(1, 2) };
    let length = name.chars().count();
    let nearest = commands
        .iter()
        .flat_map(|c| c.aliases.iter().copied().chain([c.name]).map(move |n| (n, c)))
        .filter(|(n, _)| n.len().abs_diff(length) <= most)
        .map(|(n, c)| (distance(name, n), c))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, c)| (*d, c.prefix != Prefix::Bang));
    match nearest {
        Some((_, c)) => format!("no command {typed_as}; did you mean {}? (.help lists all)", spelled(c)),
        None => format!("no command {typed_as}; .help lists all"),
    }
}

/// Edit distance, cut at short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(40).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
