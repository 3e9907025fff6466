//! The first question of a session, beside SOS: one command a start, both programs by turns on the same dump, medians of whole
//! processes. Fails when a command is slower than SOS.
//!
//! `CLRSCOPE_KIT=FOLDER cargo bench --bench first_question` runs it, FOLDER being one with `dump` and `sos.sh` and the runtimes
//! they need (docs/performance.md says what they do). `CLRSCOPE_DUMP=FILE` takes a dump that is there instead of making one,
//! `CLRSCOPE_RUNTIME` another runtime, `CLRSCOPE_SCALE` another size, `CLRSCOPE_RUNS` how often each is run,
//! `CLRSCOPE_ONLY=TEXT` the commands that hold the text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Commands as SOS has them. `$OBJECT` is an object deep in the heap, `$SMALL` one that reaches little, `$MT` the type of
/// many, `$STRING` a string, `$ARRAY` an array.
const QUESTIONS: &[&str] = &[
    "eeversion",
    "dumpheap -stat",
    "dumpheap -stat -live",
    "dumpheap -stat -dead",
    "dumpheap -strings",
    "dumpheap -min 80000",
    "dumpheap -mt $MT -short",
    "dumpheap -type Exception",
    "dumpheap -gen gen2 -stat",
    "dumpheap",
    "verifyheap",
    "gcheapstat",
    "eeheap -gc",
    "eeheap -loader",
    "gcroot $OBJECT",
    "objsize $SMALL",
    "pathto $HOLDER $SMALL",
    "dumpobj $OBJECT",
    "dumparray $ARRAY",
    "dumpmt -md $MT",
    "dumpclass $MT",
    "gcwhere $OBJECT",
    "gchandles -stat",
    "gchandles",
    "finalizequeue",
    "syncblk",
    "clrthreads",
    "clrstack",
    "clrstack -all",
    "dumpstackobjects",
    "parallelstacks",
    "clrmodules",
    "dumpdomain",
    "dumpasync -stats",
    "timerinfo",
    "threadpool",
    "printexception",
    "name2ee System.Private.CoreLib.dll System.String",
    "sizestats",
];

struct Kit {
    folder: PathBuf,
    runtime: String,
    dump: PathBuf,
}

impl Kit {
    fn ours(&self, line: &str) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_clrscope"));
        c.args(["--index", "none"]).arg(&self.dump).args(["-c", &format!("!{line}")]);
        c
    }

    fn sos(&self, line: &str) -> Command {
        let mut c = Command::new(self.folder.join("sos.sh"));
        // It refuses this option with one dash.
        c.arg(&self.dump).arg(&self.runtime).arg(line.replace("dumpasync -", "dumpasync --"));
        c
    }

    /// What one of our lines prints.
    fn says(&self, line: &str) -> String {
        String::from_utf8_lossy(&self.ours(line).output().unwrap().stdout).into_owned()
    }

    /// The address of the object in the middle of those of a type.
    fn object(&self, of: &str) -> String {
        let all = self.says(&format!("dumpheap {of} -short"));
        let all: Vec<&str> = all.lines().collect();
        all.get(all.len() / 2).unwrap_or_else(|| panic!("no object: {of}")).trim().to_owned()
    }
}

/// Seconds, and bytes printed.
fn time(command: &mut Command) -> (f64, u64) {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let bytes = std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    child.wait().unwrap();
    (start.elapsed().as_secs_f64(), bytes)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn variable(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn kit() -> Option<Kit> {
    let folder = PathBuf::from(std::env::var_os("CLRSCOPE_KIT")?);
    let runtime = variable("CLRSCOPE_RUNTIME", "11.0.0");
    let dump = match std::env::var_os("CLRSCOPE_DUMP") {
        Some(dump) => dump.into(),
        None => {
            let dump = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-question.core");
            let scale = variable("CLRSCOPE_SCALE", "3000000");
            let made = Command::new(folder.join("dump")).args([&*runtime, "big", &*scale, "heap"]).arg(&dump).status();
            assert!(made.unwrap().success(), "the dump was not made");
            dump
        }
    };
    Some(Kit { folder, runtime, dump })
}

fn main() {
    let Some(kit) = kit() else {
        println!("skipped: CLRSCOPE_KIT names no kit");
        return;
    };
    let runs: usize = variable("CLRSCOPE_RUNS", "3").parse().unwrap();
    let statistics = kit.says("dumpheap -stat");
    let big = statistics.lines().rfind(|l| l.contains("Zoo.")).expect("a type of the program");
    let mt = big.split_whitespace().next().unwrap().to_owned();
    let object = kit.object(&format!("-mt {mt}"));
    let small = kit.object("-type System.String");
    let array = kit.object("-type System.Byte[]");
    let places = [("$OBJECT", &object), ("$HOLDER", &object), ("$SMALL", &small), ("$MT", &mt), ("$ARRAY", &array)];
    let only = variable("CLRSCOPE_ONLY", "");
    println!("| command | clrscope | SOS | ratio | text |\n| --- | --- | --- | --- | --- |");
    let mut slower = Vec::new();
    for question in QUESTIONS.iter().filter(|q| q.contains(&*only)) {
        let line = places.iter().fold((*question).to_owned(), |l, (name, value)| l.replace(name, value));
        let (mut ours, mut theirs, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..runs {
            let (seconds, printed) = time(&mut kit.ours(&line));
            ours.push(seconds);
            bytes = printed;
            theirs.push(time(&mut kit.sos(&line)).0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let megabytes = bytes as f64 / 1e6;
        let rate =
            if megabytes > 10.0 { format!("{megabytes:.0} MB, {:.0} MB/s", megabytes / ours) } else { String::new() };
        println!("| `!{question}` | {ours:.2} s | {theirs:.2} s | {:.1} | {rate} |", theirs / ours);
        if ours > theirs {
            slower.push(*question);
        }
    }
    assert!(slower.is_empty(), "slower than SOS: {slower:?}");
}
