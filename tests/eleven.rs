//! What .NET 11 does its own way, on a dump of `testdata/eleven.cs`: suspended and running methods of runtime-async, what
//! they keep, locks, delegates; and the same with whatever leads there damaged.
//!
//! What is expected is written in the source of that program; addresses are those it wrote of itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;
#[path = "support/patch.rs"]
mod patch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::session::tasks::{Kind, Tasks};
use clrscope::watch::Watch;
use patch::Patch;

const NAME: &str = "linux-x64-11.0-eleven-heap";

fn testdata(ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{NAME}.{ending}"))
}

fn facts() -> HashMap<String, u64> {
    let text = std::fs::read_to_string(testdata("facts.tsv")).unwrap();
    let pair = |l: &str| Some((l.split_once('\t')?.0.to_owned(), u64::from_str_radix(l.split_once('\t')?.1, 16).ok()?));
    text.lines().filter_map(pair).collect()
}

fn session(path: &Path) -> Session {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), no_images: true, ..OpenOptions::default() };
    Session::new(Dump::open(path, &options, &Watch::default()).unwrap(), Watch::default())
}

/// Methods of each task's chain, innermost first, by `.export`.
fn chains(dump: &Path) -> HashMap<u64, Vec<String>> {
    let out = tempfile::tempdir().unwrap();
    ask::ask(dump, &[format!(".export \"{}\" -tables asyncframes", out.path().display())]);
    let mut chains: HashMap<u64, Vec<String>> = HashMap::new();
    for line in std::fs::read_to_string(out.path().join("asyncframes.tsv")).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let chain = chains.entry(u64::from_str_radix(cells[0], 16).unwrap()).or_default();
        assert_eq!(cells[1].parse::<usize>().unwrap(), chain.len(), "depths are numbered through");
        chain.push(cells[2].to_owned());
    }
    chains
}

#[test]
fn every_task_names_its_suspended_methods() {
    let (facts, chains) = (facts(), chains(&testdata("core.zst")));
    let wait: &[&str] = &["Eleven.Program.WaitInner", "Eleven.Program.WaitMiddle", "Eleven.Program.Wait"];
    let expected: &[(&str, &[&str])] = &[
        ("wait1", wait),
        ("wait2", wait),
        ("buy", &["Eleven.Program.BuyInner", "Eleven.Program.Buy"]),
        (
            "load",
            &[
                "System.Threading.SemaphoreSlim.WaitAsync",
                "Eleven.Repository<System.__Canon>.Gate",
                "Eleven.Repository<System.__Canon>.Load",
                "Eleven.Program.LoadOne",
            ],
        ),
        ("read", &["Eleven.Program.ReadOne", "Eleven.Program.ReadAll"]),
        ("both", &["Eleven.Program.Both"]),
        // A state machine below a method that has none, and the other way round.
        ("drain", &["Eleven.Program.Numbers", "Eleven.Program.Drain"]),
        ("run", &["Eleven.Program.RunInner", "Eleven.Program.Run"]),
    ];
    for (task, methods) in expected {
        assert_eq!(chains[&facts[&format!("task:{task}")]], *methods, "{task}");
    }
    let machine = ["Eleven.Program.Custom", "Eleven.Program.Machine"];
    assert!(chains.values().any(|c| *c == machine), "the state machine above a method without one");
}

#[test]
fn a_running_method_tells_its_thread() {
    let session = session(&testdata("core.zst"));
    let tasks = Tasks::read(&session, false).unwrap();
    let running: Vec<_> = tasks.nodes.iter().filter(|n| matches!(n.kind, Kind::Running { .. })).collect();
    assert_eq!(running.len(), 1);
    assert_eq!(&*running[0].name, "Eleven.Program.RunInner");
    let Kind::Running { thread, slot, .. } = running[0].kind else { unreachable!() };
    let clr = session.clr().unwrap();
    let thread = clr.threads().items.iter().find(|t| t.managed_id == thread).unwrap();
    let native = session.dump().threads.iter().find(|t| t.os_id == thread.os_id).unwrap();
    let (low, high) = native.stack.unwrap();
    assert!((low..high).contains(&slot), "its place {slot:x} is on the thread's stack {low:x}-{high:x}");
}

#[test]
fn a_suspended_method_shows_what_it_keeps() {
    let facts = facts();
    let session = session(&testdata("core.zst"));
    let clr = session.clr().unwrap();
    let tasks = Tasks::read(&session, false).unwrap();
    let of = |name: &str| {
        let all = tasks.nodes.iter().filter_map(|n| match n.kind {
            Kind::Suspended(c) if &*n.name == name => Some(c),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    let holds = |method: &str, object: &str| {
        let object = facts[&format!("object:{object}")];
        let kept = of(method).into_iter().flat_map(|c| session.kept_variables(&c));
        kept.into_iter().any(|v| clr.space().ptr(v.at) == Some(object))
    };
    assert!(holds("Eleven.Program.WaitInner", "buffer.wait11"));
    assert!(holds("Eleven.Program.WaitInner", "buffer.wait91"));
    assert!(holds("Eleven.Program.Wait", "order.wait1"));
    assert!(holds("Eleven.Program.Custom", "order.custom"));
    assert!(!holds("Eleven.Program.WaitInner", "order.wait1"));
    let names: Vec<String> =
        session.kept_variables(&of("Eleven.Program.BuyInner")[0]).into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["who", "local 0"]);
}

#[test]
fn a_continuation_is_named_after_its_method() {
    let facts = facts();
    let lines = ask::ask(
        &testdata("core.zst"),
        &[
            format!("!gcroot -all -nostacks {:x}", facts["object:buffer.wait91"]),
            "!gcroot -type Eleven.Order".to_owned(),
            "!dumpasync -stats".to_owned(),
        ],
    );
    let has = |i: usize, text: &str| lines[i].iter().any(|l| l.contains(text));
    assert!(has(0, "async Eleven.Program.WaitInner"), "{:?}", lines[0]);
    assert!(has(1, "async Eleven.Program.BuyInner  Next"), "{:?}", lines[1]);
    assert!(has(2, " 3        Eleven.Program.WaitInner"), "{:?}", lines[2]);
}

#[test]
fn locks_name_their_holders_and_the_deadlock() {
    let lines = ask::ask(&testdata("core.zst"), &["!syncblk".to_owned(), "!threads".to_owned()]);
    let text = lines[0].join("\n").to_lowercase();
    assert!(text.contains("deadlock"), "{text}");
    for fact in ["lock.fat", "lock.left", "lock.right", "lock.free"] {
        assert!(text.contains(&format!("{:x}", facts()[&format!("object:{fact}")])), "{fact} in\n{text}");
    }
    assert!(lines[1].iter().any(|l| l.contains("System.FormatException")), "the thrower's exception");
}

#[test]
fn delegates_of_every_kind_name_their_method() {
    let facts = facts();
    let expected: &[(&str, &[&str])] = &[
        ("closed", &["Eleven.Order.Plus(Int32)"]),
        ("open", &["Eleven.Program.Static(Int32)"]),
        ("extension", &["Eleven.Extensions.Times(Eleven.Order, Int32)"]),
        ("virtual", &["System.Object.ToString()"]),
        ("many", &["Order.Plus", "Program.Static", "Extensions.Times"]),
        ("dynamic", &["DynamicClass.Made"]),
        ("native", &["unmanaged"]),
    ];
    let asked: Vec<String> = expected
        .iter()
        .map(|(name, _)| format!("!dumpdelegate {:x}", facts[&format!("object:delegate.{name}")]))
        .collect();
    for ((name, methods), lines) in expected.iter().zip(ask::ask(&testdata("core.zst"), &asked)) {
        for method in *methods {
            assert!(lines.iter().any(|l| l.contains(method)), "{name}: {method} in {lines:?}");
        }
    }
}

/// Damages where a chain may be followed: nothing loops, panics or is passed over in silence.
#[test]
fn damaged_chains_end() {
    let whole = session(&testdata("core.zst"));
    let unpacked = whole.dump().unpacked.clone().unwrap();
    let facts = facts();
    let chain: Vec<u64> = {
        let tasks = Tasks::read(&whole, false).unwrap();
        let of = |n: &&clrscope::session::tasks::Node| n.name.starts_with("Eleven.Program.Wait");
        tasks.nodes.iter().filter(of).map(|n| n.address).take(3).collect()
    };
    assert_eq!(chain.len(), 3);
    let (first, second, third) = (chain[0], chain[1], chain[2]);
    let task = facts["task:wait1"];
    // Offsets of 11.0.0: `Next` 8, `ResumeInfo` 16, `Flags` and `State` 24; of a task `m_stateObject` 16 and
    // `m_continuationObject` 32.
    let damages: &[(&str, u64, u64)] = &[
        ("the last leads back to the first", third + 8, first),
        ("one leads to itself", second + 8, second),
        ("the next is outside the heap", first + 8, 0x1234_5678_9ABC_DEF0),
        ("the next is no continuation", first + 8, facts["object:order.wait1"]),
        ("the next is its own task", first + 8, task),
        ("its type is another's", second, 0x10),
        ("its code is nowhere", first + 16, 0xFFFF_FFFF_FFFF_FFF0),
        ("its code is on the heap", first + 16, task),
        ("flags of all ones", first + 24, u64::MAX),
        ("the task holds itself", task + 16, task),
        ("the task continues itself", task + 32, task),
        ("the task continues the head of its own chain", task + 32, first),
    ];
    for (what, at, value) in damages {
        let mut patch = Patch::open(&unpacked);
        patch.write(*at, &value.to_le_bytes());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.core");
        patch.save(&path);
        let damaged = session(&path);
        let tasks = Tasks::read(&damaged, true).unwrap();
        assert!(tasks.nodes.len() > 10, "{what}: the others are still there");
        let asked = ["!dumpasync -fields", "!dumpasync -coalesce", "!dumpasync -stats", "!verifyheap"];
        let mut asked: Vec<String> = asked.iter().map(|c| (*c).to_owned()).collect();
        asked.extend([first, second, third, task].iter().map(|a| format!("!do {a:x}")));
        asked.push(format!(".export \"{}\" -tables asyncframes,waits,edges", dir.path().join("out").display()));
        let answers = ask::ask(&path, &asked);
        assert!(answers[0].iter().any(|l| l.starts_with("STACK")), "{what}: {:?}", answers[0]);
        assert!(answers.iter().flatten().all(|l| !l.contains("panicked")), "{what}");
    }
}
