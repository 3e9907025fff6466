//! A dump of a 32-bit process: what the program wrote of itself, and what it holds, with pointers of four bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/patch.rs"]
mod patch;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::clr::code::stack::FrameKind;
use clrscope::clr::code::stack::frames::Class;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;
use patch::Patch;

const DUMP: &str = "win-x86-3.1-small";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn run(options: &[&str], commands: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(testdata(&format!("{DUMP}.dmp.zst")))
        .args(options)
        .args(commands.iter().flat_map(|c| ["-c", c]))
        .env("CLRSCOPE_CACHE", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn say(command: &str) -> String {
    run(&[], &[command])
}

/// What the program wrote of itself.
fn facts() -> HashMap<String, String> {
    let text = fs::read_to_string(testdata(&format!("{DUMP}.facts.tsv"))).unwrap();
    text.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn address(name: &str) -> String {
    facts()[&format!("address:{name}")].clone()
}

/// The line of a table that ends with `name`, in words.
fn row(table: &str, name: &str) -> Vec<String> {
    // What the value says in words stands behind the name.
    let rows = table.lines().filter_map(|l| l.split(" = ").next());
    let line = rows.rev().find(|l| l.split_whitespace().last() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {table}")).split_whitespace().map(str::to_owned).collect()
}

/// The value of a field in what `!dumpobj` or `!dumpclass` prints.
fn field(table: &str, name: &str) -> String {
    row(table, name).iter().rev().nth(1).unwrap().clone()
}

#[test]
fn every_provider_alone_gives_the_same_whole_heap() {
    let options: [&[&str]; 6] = [
        &[],
        &["--provider", "-tables"],
        &["--provider", "-dactable"],
        &["--provider", "-gcdacvars"],
        &["--provider", "-structure"],
        &["--provider", "structure"],
    ];
    // Without the collector's variables each answer says that a collection may have been running.
    let types =
        |o| run(o, &["!dumpheap -stat"]).lines().filter(|l| !l.starts_with("partial:")).collect::<Vec<_>>().join("\n");
    let all = types(options[0]);
    for o in options {
        let checks = run(o, &["!runtimes -v"]);
        assert!(checks.contains(" 0 failed"), "{o:?}: {checks}");
        let heap = run(o, &["!verifyheap"]);
        assert!(heap.contains("2,062 objects verified, 0 errors."), "{o:?}: {heap}");
        assert_eq!(types(o), all, "{o:?}");
    }
}

#[test]
fn addresses_the_program_wrote_are_what_it_says() {
    for (name, ty) in [
        ("Keep", "System.Collections.Generic.List`1[[System.Object, System.Private.CoreLib]]"),
        (
            "Cache",
            "System.Collections.Generic.Dictionary`2[[System.String, System.Private.CoreLib],[Small.Derived, small31]]",
        ),
        ("Pairs", "Small.Pair[]"),
        ("Grid", "System.Int32[,,]"),
        ("Plane", "Small.Pair[,]"),
        ("Jagged", "System.Int32[][]"),
        ("Unicode", "System.String"),
        ("Large", "System.Byte[]"),
        ("listHead", "Small.Derived"),
        ("dependentKey", "Small.Base"),
        ("exception", "Small.AppError"),
        ("Fat", "System.Object"),
    ] {
        let said = say(&format!("!dumpobj {}", address(name)));
        assert_eq!(said.lines().next().unwrap(), format!("Name:        {ty}"), "{name}");
    }
    assert!(say(&format!("!dumpobj {}", address("Unicode"))).contains("Grüße, 世界"));
}

#[test]
fn fields_of_every_size_have_their_values() {
    let head = say(&format!("!dumpobj {}", address("listHead")));
    for (name, value) in
        [("Weight", "2.500000"), ("B", "7"), ("S", "-2"), ("L", "-4"), ("F", "1.500000"), ("Yes", "1"), ("Paint", "4")]
    {
        assert_eq!(field(&head, name), value, "{name} in {head}");
    }
    let of = |table: &str, name: &str| say(&format!("!dumpobj {}", field(table, name)));
    assert!(of(&head, "Name").contains("derived199"));
    assert!(of(&of(&head, "Next"), "Name").contains("derived198"));
    let point = say(&format!("!dumpvc {} {}", row(&head, "At")[0], field(&head, "At")));
    assert_eq!((field(&point, "X"), field(&point, "Y")), ("10".into(), "-20".into()), "{point}");
}

#[test]
fn elements_of_arrays_lie_where_their_bounds_say() {
    let grid = say(&format!("!dumparray {}", address("Grid")));
    let last = u64::from_str_radix(grid.lines().last().unwrap().split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert!(grid.contains("[1][2][3]"), "{grid}");
    assert!(say(&format!("dd {last:x} L1")).contains("0000007b"), "123 at {last:x}");
    let pairs = say(&format!("!dumparray -start 39 -details {}", address("Pairs")));
    assert_eq!((field(&pairs, "Id"), field(&pairs, "Big")), ("39".into(), "39".into()), "{pairs}");
    // Structs with references: the last pair's text is kept by the array.
    assert!(say(&format!("!gcroot {}", field(&pairs, "Label"))).contains("Small.Pair[]"));
}

#[test]
fn statics_of_all_kinds_and_of_each_thread() {
    let found = say("!name2ee small!Small.Program");
    let class = found.lines().find_map(|l| l.strip_prefix("EEClass:")).unwrap().trim().to_owned();
    let statics = say(&format!("!dumpclass {class}"));
    for (name, value) in [("Finalized", "50"), ("Big", "1234605616436508552"), ("Real", "6.250000"), ("begun", "3")] {
        assert_eq!(field(&statics, name), value, "{name} in {statics}");
    }
    for name in ["Keep", "Cache", "Pairs", "Grid", "Large", "Fat"] {
        let wanted = address(name);
        assert!(field(&statics, name).trim_start_matches('0') == wanted, "{name} is not at {wanted}: {statics}");
    }
    let numbers = statics.split(" number\n").nth(1).unwrap();
    let mut values: Vec<&str> = numbers.lines().filter_map(|l| l.split_once(": ")).map(|v| v.1.trim()).collect();
    values.sort_unstable();
    assert_eq!(values, ["11", "22", "33"], "{numbers}");
}

#[test]
fn threads_locks_handles_and_the_exception() {
    let threads = say("!clrthreads");
    let thrower = threads.lines().find(|l| l.contains("Small.AppError")).expect("no thread has the exception");
    assert!(thrower.contains(&format!("{:0>8}", address("exception"))), "{thrower}");
    let held = say("!syncblk");
    let fat = held.lines().find(|l| l.contains(&address("Fat"))).unwrap_or_else(|| panic!("{held}"));
    // One owner, one that waits.
    assert_eq!(fat.split_whitespace().nth(2), Some("3"), "{fat}");
    let trace = say(&format!("!printexception {}", address("exception")));
    assert_eq!(trace.matches("small.dll!Small.Program.Fall(Int32)+0x").count(), 5, "{trace}");
    assert!(trace.contains("Message:          bottom of it"), "{trace}");
    let frame = trace.lines().find(|l| l.contains("Small.Program.Thrower()")).unwrap();
    let code = frame.split_whitespace().nth(1).unwrap();
    assert!(say(&format!("!ip2md {code}")).contains("Small.Program.Thrower()"), "{frame}");
    let handles = say("!gchandles").to_lowercase();
    for (name, kind) in [("handle.strong", "strong"), ("handle.pinned", "pinned"), ("handle.weak", "weakshort")] {
        let line = handles.lines().find(|l| l.contains(kind) && l.contains(&address(name)));
        assert!(line.is_some(), "no {kind} handle of {}: {handles}", address(name));
    }
    let key = handles.lines().find(|l| l.contains("dependent") && l.contains(&address("dependentKey")));
    assert!(key.is_some_and(|l| l.contains("small.base")), "{handles}");
}

#[test]
fn the_process_is_shown_with_its_own_width() {
    assert!(say("r").contains("eip=") && say("r").contains("esp="));
    let peb = say("!peb");
    assert!(peb.contains("ImageFile:                'C:\\dotnet31\\dotnet.exe'"), "{peb}");
    assert!(say("!teb").contains("PEB Address:              3fff1000"));
    // Addresses have eight digits everywhere.
    let object = say(&format!("!dumpobj {}", address("listHead")));
    assert!(object.lines().nth(1).unwrap().len() == "MethodTable: 04a2c264".len(), "{object}");
    assert!(say("!dumpheap -type Small.Base").contains(&format!("0{}", address("dependentKey"))));
    assert!(say("lm").lines().any(|l| l.starts_with("00f40000          0136f000            coreclr")));
}

fn session(path: &Path) -> Session {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps"));
    let options = OpenOptions { cache_dir, ..OpenOptions::default() };
    Session::new(Dump::open(path, &options, &Watch::default()).unwrap(), Watch::default())
}

/// Frames of all threads: stack and instruction pointer, kind, whether only searched for.
fn frames(session: &Session) -> Vec<Vec<(u64, u64, FrameKind, bool)>> {
    let clr = session.clr().unwrap();
    let of = |t| clr.stack(t).frames.iter().map(|f| (f.sp, f.ip, f.kind, f.guessed)).collect();
    clr.threads().items.iter().map(of).collect()
}

/// Methods of a thread that are on its stack, the newest first.
fn methods(thread: &str) -> Vec<String> {
    let said = say(&format!("~~[{thread}]e !clrstack"));
    let managed = said.lines().filter(|l| l.contains("Small.Program."));
    managed.map(|l| l.split("Small.Program.").nth(1).unwrap().to_owned()).collect()
}

#[test]
fn methods_below_code_that_is_not_in_the_dump_are_found() {
    let threads = say("!clrthreads");
    let owner = threads.lines().find(|l| l.contains("Small.AppError")).unwrap().split_whitespace().nth(2).unwrap();
    assert_eq!(
        methods(owner),
        ["Stay()", "Thrower()", "Fall(Int32)", "Fall(Int32)", "Fall(Int32)", "Fall(Int32)", "Fall(Int32)", "Thrower()"]
    );
    let said = say("~*e !clrstack");
    // The one owns what the other waits for, whose helper uses ebp for something else. Between the two frames is a method whose
    // code is not in the dump.
    let lines: Vec<&str> = said.lines().collect();
    let follows =
        |from: &str, by: &str, at: usize| lines.windows(at + 1).any(|w| w[0].contains(from) && w[at].contains(by));
    assert!(follows("System.Threading.Monitor.ReliableEnter", "Small.Program.Waiter()", 2), "{said}");
    assert!(follows("Small.Program.Stay()", "Small.Program.Owner()", 1), "{said}");
}

/// Where native code uses ebp for something else, its caller is searched for: it is the one that frame pointers lead to.
#[test]
fn callers_of_helpers_are_found_without_frame_pointers() {
    for (name, least) in [(DUMP, 3), ("win-x86-2.0-old", 4)] {
        let whole = session(&testdata(&format!("{name}.dmp.zst")));
        let clr = whole.clr().unwrap();
        let file = clr.dump.unpacked.clone().unwrap();
        let mut patch = Patch::open(&file);
        let mut changed = 0;
        for thread in &clr.threads().items {
            for frame in &clr.stack(thread).frames {
                let helper = frame.explicit.is_some_and(|e| e.class == Class::Helper) && frame.registers.is_some();
                // The return address, where the runtime has found it itself; else ebp as it was captured.
                if helper && clr.space().u32(frame.sp + 24 + 36) == Some(0) {
                    patch.write(frame.sp + 24 + 40, &[3, 0, 0, 0]);
                    changed += 1;
                }
            }
        }
        let copy = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        patch.save(copy.path());
        let (before, after) = (frames(&whole), frames(&session(copy.path())));
        let plain = |all: &[Vec<(u64, u64, FrameKind, bool)>]| -> Vec<Vec<(u64, FrameKind)>> {
            all.iter().map(|t| t.iter().map(|f| (f.0, f.2)).collect()).collect()
        };
        assert_eq!(plain(&before), plain(&after), "{name}");
        let guessed = |all: &[Vec<(u64, u64, FrameKind, bool)>]| all.iter().flatten().filter(|f| f.3).count();
        assert!(changed >= least && guessed(&after) > guessed(&before), "{name}: {changed}");
    }
}
