//! How answers grow: every command over dumps of one program (`scale/Scale.cs`) that holds one kind of thing at scale 1, 2,
//! 4 and 8. Fails when the processor time of a command grows faster than 1.3 times the scale, and does so at eight times these
//! scales as well, in both of the last doublings.
//!
//! `CLRSCOPE_KIT=FOLDER cargo bench --bench scale` runs it, FOLDER being one with `csc` and `dump` and the runtimes they need
//! (docs/performance.md says what they do). `CLRSCOPE_KINDS=threads,timers` takes some kinds only, `CLRSCOPE_RUNTIME` another
//! runtime, `CLRSCOPE_TIMES=N` makes all scales N times larger, `CLRSCOPE_ALL=1` prints every line that takes more than the
//! noise, `CLRSCOPE_PASSES=1` measures once and takes what it finds; otherwise lines that seem to grow too fast are measured
//! again, which tells what they cost from what another program on the machine cost them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;

use clrscope::commands;
use clrscope::dump::OpenOptions;
use clrscope::session::saved::IndexMode;
use clrscope::shell::Format;
use clrscope::shell::state::Shell;
use clrscope::watch::Watch;

/// Kinds of things (`Scale.cs` says what each is) and how many there are at scale 1.
const KINDS: &[(&str, u32)] = &[
    ("objects", 60_000),
    ("types", 750),
    ("classes", 500),
    ("assemblies", 250),
    ("contexts", 100),
    ("modules", 75),
    ("threads", 75),
    ("locks", 75),
    ("tasks", 10_000),
    ("waiters", 5_000),
    ("chain", 2_500),
    ("runtime-async waiters", 5_000),
    ("runtime-async chain", 2_500),
    ("timers", 10_000),
    ("handles", 10_000),
    ("syncblocks", 10_000),
    ("methods", 2_500),
    ("finalizable", 20_000),
    ("entries", 15_000),
    ("collections", 10_000),
    ("exceptions", 2_500),
    ("nested", 50),
    ("strings", 20_000),
    ("delegates", 40_000),
    ("listeners", 15_000),
    ("pool", 10_000),
    ("frames", 2_500),
    ("tokens", 10_000),
    ("list", 40_000),
    ("structs", 25_000),
    ("large", 100),
];
const SCALES: [u32; 4] = [1, 2, 4, 8];
/// Milliseconds below which a time says nothing.
const FLOOR: f64 = 50.0;
/// Milliseconds that a time is off by, whatever it is.
const NOISE: f64 = 8.0;
/// How much faster than the scale a time may grow.
const SLACK: f64 = 1.3;
/// How often what grows too fast is measured before it counts as such: the least time at each scale counts.
const PASSES: usize = 6;
/// By how much larger what grows too fast is measured once more, less where a program cannot hold so many. What no longer fits a
/// cache costs several times as much from there on, which is one step: what grows too fast does so in both of the last doublings.
const BEYOND: [u32; 3] = [8, 4, 2];

/// Lines that no example has.
const MORE: &[&str] = &[
    "!clrthreads -live -locks",
    "!syncblk -all",
    "!dso -all",
    "!dumpheap",
    "!dumpheap -strings",
    "!dumpheap -live -stat",
    "!strings",
    "!eeheap -loader",
    "!gchandles",
    "!gchandles -stat",
    "!finalizequeue",
    "!frq",
    "!finq",
    "!dumpasync",
    "!dumpasync -tasks -completed",
    "!dumpasync -coalesce -tasks",
    "!dumpasync -fields",
    "!dumpexceptions -full",
    "!pe -nested -lines $EXCEPTION",
    "!gcroot -type Scale.Node -limit 3",
    "!retained",
    "!dominators -top 20",
    "!leaks -share 0.1",
    "!clrmodules -v",
    "!dumpmodule -mt $OWN",
    "!name2ee * Scale.Node",
    "!address",
    "!maddress",
    "lmv",
    "~",
    "~*e !dso",
];

/// Lines asked of one object of each of the program's types.
const OF_EACH: &[&str] = &[
    "!do $EACH",
    "!objsize $EACH",
    "!gcroot $EACH",
    "!refs $EACH",
    "!verifyobj $EACH",
    "!gcwhere $EACH",
    "!retained $EACH",
    "!dumpcollection $EACH",
    "!dumparray -details -length 50 $EACH",
    "!dumpdelegate $EACH",
    "!pe -nested $EACH",
    "!findappdomain $EACH",
    "!dumpalc $EACH",
];

/// Counts what is written.
#[derive(Clone, Default)]
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Milliseconds of processor time all threads of this process have used.
#[cfg(unix)]
fn processor() -> f64 {
    let used = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    used.tv_sec() as f64 * 1e3 + used.tv_nsec() as f64 / 1e6
}

#[cfg(not(unix))]
fn processor() -> f64 {
    panic!("the programs measured are made for Linux")
}

fn shell_on(path: &Path) -> Shell {
    let mut shell = Shell {
        commands: commands::ALL,
        settings: Default::default(),
        session: None,
        format: Format::Text,
        watch: Watch::default(),
        open: OpenOptions::default(),
        recent: Arc::default(),
        sink: Box::new(|| Box::new(Nowhere)),
        depth: 0,
        last: String::new(),
        state: Default::default(),
    };
    shell.state.errors = Some(Default::default());
    shell.settings.index = IndexMode::None;
    shell.open(path).unwrap();
    shell
}

/// Placeholders of the examples: types that an object for them may have, the best first. Of one type the largest object.
const OBJECTS: &[(&str, &[&str])] = &[
    ("$EXCEPTION", &["System.AggregateException", "Scale.Special", "System.OutOfMemoryException"]),
    ("$DELEGATE", &["System.EventHandler", "System.Func<System.Int32, System.Int32>", "System.Threading.ThreadStart"]),
    ("$CONCURRENTDICTIONARY", &["System.Collections.Concurrent.ConcurrentDictionary<System.Int32, Scale.Session>"]),
    ("$CONCURRENTQUEUE", &["System.Collections.Concurrent.ConcurrentQueue<System.Object>"]),
    ("$LIST", &["System.Collections.Generic.List<System.Object>"]),
    ("$OBJECT", &["Scale.Node[]", "Scale.Pair[]", "System.Object[]"]),
    ("$ARRAY", &["Scale.Node[]", "Scale.Pair[]", "System.Object[]"]),
    ("$TARGET", &["Scale.Node", "System.OutOfMemoryException"]),
];

/// What stands for the placeholders, and one object of each type that does not depend on the scale.
fn values(shell: &Shell) -> (Vec<(&'static str, u64)>, Vec<u64>) {
    let session = shell.session.clone().unwrap();
    let (clr, walker) = (session.clr().unwrap(), session.walker().unwrap());
    let (parts, _) = walker
        .parallel(
            &walker.heap.segments,
            |_| BTreeMap::<u64, (u64, u64)>::new(),
            |of, _, o| {
                let kept = of.entry(o.ty.mt.address).or_insert((0, 0));
                *kept = (*kept).max((o.size, o.address));
            },
        )
        .unwrap();
    let mut largest: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (mt, found) in parts.into_iter().flatten() {
        let kept = largest.entry(clr.type_name(mt).to_string()).or_insert((0, 0));
        *kept = (*kept).max(found);
    }
    let object = |types: &[&str]| types.iter().find_map(|t| largest.get(*t)).map(|f| f.1);
    let mut values: Vec<(&str, u64)> = OBJECTS.iter().filter_map(|(n, types)| Some((*n, object(types)?))).collect();
    let exception = object(&["System.OutOfMemoryException"]).unwrap();
    let mt = |at: u64| session.walker().unwrap().object_at(at).unwrap().ty.mt.address;
    let methods = clr.methods(&session.walker().unwrap().object_at(exception).unwrap().ty.mt).items;
    let assemblies = &clr.assemblies().items;
    let own = assemblies.iter().find(|a| clr.module(a.module).path.ends_with("Scale.dll")).unwrap().module;
    let types = clr.loaded_types(own).items.into_iter().filter_map(|(_, mt)| clr.method_table(mt));
    let code = types.flat_map(|mt| clr.methods(&mt).items).find_map(|m| clr.native_code(&m)).unwrap();
    let boxed = object(&["System.Int32", "System.Boolean"]).unwrap();
    values.extend([
        ("$VALUETYPE", mt(boxed)),
        ("$VALUE", boxed + u64::from(clr.ptr_size())),
        ("$METHOD", methods[0].address),
        ("$CODE", code + 1),
        ("$ASSEMBLY", assemblies[0].assembly),
        ("$MODULE", assemblies[0].module),
        ("$OWN", own),
        ("$MT", mt(exception)),
    ]);
    values.sort_by_key(|v| std::cmp::Reverse(v.0.len()));
    let wanted = ["Scale.", "System.Collections.", "System.Object[]", "System.Threading.", "System.AggregateException"];
    let each = largest.iter().filter(|(n, _)| wanted.iter().any(|w| n.starts_with(w)) && !n.contains("Made."));
    (values, each.map(|(_, f)| f.1).collect())
}

/// Leaves the shell, needs another dump, writes somewhere or says nothing of the dump.
fn skipped(line: &str) -> bool {
    ["q", ".opendump", ".shell", ".logopen", ".help", ".sympath", ".exepath", ".index"]
        .iter()
        .any(|s| line.starts_with(s))
}

/// Runs everything on a dump, or what is `asked`: milliseconds by line.
fn measure(path: &Path, folder: &Path, asked: Option<&BTreeSet<String>>) -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    let wanted = |line: &str| asked.is_none_or(|a| a.contains(line));
    let before = processor();
    let mut shell = shell_on(path);
    shell.line("!eeversion");
    times.insert("(opening)".to_owned(), processor() - before);
    let before = processor();
    let (values, each) = values(&shell);
    times.insert("(one walk)".to_owned(), processor() - before);
    let examples = commands::ALL.iter().flat_map(|c| c.examples).map(|e| e.line).filter(|l| !skipped(l));
    let lines: BTreeSet<&str> = examples.chain(MORE.iter().copied()).collect();
    for &line in &lines {
        let mut filled = line.replace("/tmp/model", &folder.join("model").display().to_string());
        filled = filled.replace("older.core.zst", &path.display().to_string());
        values.iter().for_each(|(name, value)| filled = filled.replace(name, &format!("{value:x}")));
        if filled.contains('$') && !filled.contains("@$") && !filled.contains("$t") {
            continue;
        }
        let formats = [(Format::Text, line.to_owned()), (Format::Json, format!("{line} (JSON)"))];
        for (format, name) in formats.into_iter().filter(|f| wanted(&f.1)) {
            let before = processor();
            shell.format = format;
            shell.line(&filled);
            times.insert(name, processor() - before);
        }
    }
    shell.format = Format::Text;
    for line in OF_EACH.iter().filter(|l| wanted(l)) {
        let before = processor();
        for address in &each {
            shell.line(&line.replace("$EACH", &format!("{address:x}")));
        }
        times.insert((*line).to_owned(), processor() - before);
    }
    times
}

/// By how much the times grow faster than the scale: the most of two scales.
fn growth(times: &[f64]) -> f64 {
    let mut most: f64 = 0.0;
    for (i, &less) in times.iter().enumerate() {
        for (j, &more) in times.iter().enumerate().skip(i + 1).filter(|t| *t.1 >= FLOOR) {
            most = most.max(more / less.max(NOISE) / f64::from(SCALES[j] / SCALES[i]));
        }
    }
    most
}

/// As [`growth`], as far as both of the last doublings show it.
fn lasting(times: &[f64; 4]) -> f64 {
    let doubling = |less: f64, more: f64| more / less.max(NOISE) / 2.0;
    growth(times).min(doubling(times[1], times[2])).min(doubling(times[2], times[3]))
}

/// What stands in front of kinds that are compiled for the async methods of .NET 11.
const NEW_ASYNC: &str = "runtime-async ";

fn compile(kit: &Path, app: &Path, options: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scale/Scale.cs");
    let compiled = Process::new(kit.join("csc")).arg(app).arg(source).args(options).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
}

/// Makes a dump, or says why the program did not come to that.
fn dump(kit: &Path, folder: &Path, kind: &str, count: u32, out: &Path) -> Result<(), String> {
    let (runtime, app, kind) = match kind.strip_prefix(NEW_ASYNC) {
        Some(kind) => ("11.0.0".into(), "new/Scale.dll", kind),
        None => (std::env::var("CLRSCOPE_RUNTIME").unwrap_or_else(|_| "10.0.14".into()), "Scale.dll", kind),
    };
    let mut made = Process::new(kit.join("dump"));
    made.env("ZOO", folder.join(app)).args([&runtime, kind, &count.to_string(), "heap"]).arg(out);
    let made = made.output().unwrap();
    let why = || format!("{kind} {count}: {}", String::from_utf8_lossy(&made.stderr));
    if made.status.success() { Ok(()) } else { Err(why()) }
}

/// The dumps of a program, which is `base` large at scale 1; the largest first, which may be too large for it.
fn dumps(kit: &Path, folder: &Path, kind: &str, base: u32) -> Result<[PathBuf; 4], String> {
    let paths = SCALES.map(|s| folder.join(format!("at-{s}.core")));
    for (scale, out) in SCALES.iter().zip(&paths).rev() {
        dump(kit, folder, kind, base * scale, out)?;
    }
    Ok(paths)
}

/// The least milliseconds at each scale: what is `asked`, else every line once, and what seems to grow too fast again.
fn least_times(
    dumps: &[PathBuf; 4],
    folder: &Path,
    asked: Option<BTreeSet<String>>,
    passes: usize,
) -> BTreeMap<String, [f64; 4]> {
    let (mut least, mut asked) = (BTreeMap::<String, [f64; 4]>::new(), asked);
    for _ in 0..passes {
        for (i, path) in dumps.iter().enumerate() {
            for (line, ms) in measure(path, folder, asked.as_ref()) {
                let kept = least.entry(line).or_insert([f64::MAX; 4]);
                kept[i] = kept[i].min(ms);
            }
        }
        // What not every dump could be asked says nothing.
        least.retain(|_, t| t.iter().all(|&ms| ms != f64::MAX));
        let again = too_fast(&least);
        if again.is_empty() {
            break;
        }
        asked = Some(again);
    }
    dumps.iter().for_each(|d| drop(std::fs::remove_file(d)));
    least
}

/// Lines whose times grow faster than the scale by more than is allowed.
fn too_fast(times: &BTreeMap<String, [f64; 4]>) -> BTreeSet<String> {
    times.iter().filter(|l| growth(l.1) > SLACK).map(|l| l.0.clone()).collect()
}

fn told(kind: &str, line: &str, t: &[f64; 4]) -> String {
    format!("{kind}: {line}: {:.0} {:.0} {:.0} {:.0} ms, {:.2}", t[0], t[1], t[2], t[3], growth(t))
}

fn main() {
    let Some(kit) = std::env::var_os("CLRSCOPE_KIT").map(|kit| std::path::absolute(kit).unwrap()) else {
        return println!("CLRSCOPE_KIT names no kit of runtimes: nothing measured");
    };
    let chosen = std::env::var("CLRSCOPE_KINDS").unwrap_or_default();
    let times: f64 = std::env::var("CLRSCOPE_TIMES").ok().and_then(|n| n.parse().ok()).unwrap_or(1.0);
    let passes: usize = std::env::var("CLRSCOPE_PASSES").ok().and_then(|n| n.parse().ok()).unwrap_or(PASSES);
    let all = std::env::var_os("CLRSCOPE_ALL").is_some();
    let folder = tempfile::tempdir().unwrap();
    compile(&kit, &folder.path().join("Scale.dll"), &[]);
    // Some lines write into the folder they are typed in.
    std::env::set_current_dir(folder.path()).unwrap();
    std::fs::create_dir(folder.path().join("new")).unwrap();
    compile(&kit, &folder.path().join("new/Scale.dll"), &["/features:runtime-async=on", "/nowarn:SYSLIB5007"]);
    println!(
        "| kind | at scale 1 | lines | most time at scale 8 | fastest growth | of | too fast | beyond caches |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let mut failed = Vec::new();
    for &(kind, base) in KINDS.iter().filter(|k| chosen.is_empty() || chosen.split(',').any(|c| c == k.0)) {
        let base = (f64::from(base) * times) as u32;
        let (kit, at) = (&kit, folder.path());
        let least = least_times(&dumps(kit, at, kind, base).unwrap(), at, None, passes);
        for (line, t) in least.iter().filter(|l| growth(l.1) > SLACK || all && l.1[3] >= FLOOR) {
            eprintln!("    {}", told(kind, line, t));
        }
        let again = too_fast(&least);
        let number = again.len();
        let mut beyond: f64 = 0.0;
        if !again.is_empty() {
            let made = BEYOND.into_iter().find_map(|n| Some((n, dumps(kit, at, kind, base * n).ok()?)));
            let (factor, larger) = made.expect("the program can hold twice as many");
            let larger = least_times(&larger, at, Some(again.clone()), passes);
            for (line, t) in larger.iter().filter(|l| again.contains(l.0)) {
                eprintln!("    {factor} times larger: {}", told(kind, line, t));
                beyond = beyond.max(lasting(t));
                failed.extend((lasting(t) > SLACK).then(|| told(kind, line, t)));
            }
        }
        let slowest = least.iter().max_by(|a, b| a.1[3].total_cmp(&b.1[3])).unwrap();
        let worst = least.iter().max_by(|a, b| growth(a.1).total_cmp(&growth(b.1))).unwrap();
        println!(
            "| {kind} | {base} | {} | {:.0} ms (`{}`) | {:.2} | `{}` | {number} | {beyond:.2} |",
            least.len(),
            slowest.1[3],
            slowest.0,
            growth(worst.1),
            worst.0,
        );
        io::stdout().flush().unwrap();
    }
    assert!(failed.is_empty(), "these grow faster than what they look at:\n{}", failed.join("\n"));
}
