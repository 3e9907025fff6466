//! Who waits for what and who holds it, against what the programs said of themselves, and that nobody waits for a thread that
//! is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/opened.rs"]
mod opened;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clrscope::commands::threads::waits::verdicts::{Trouble, judge};
use clrscope::session::Session;
use clrscope::session::waits::{Kind, Waiting};
use opened::open;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn session(name: &str) -> Session {
    open(&testdata().join(format!("{name}.core.zst")))
}

/// What a program said of itself, hexadecimal.
fn facts(name: &str) -> HashMap<String, u64> {
    let text = std::fs::read_to_string(testdata().join(format!("{name}.facts.tsv"))).unwrap();
    let lines = text.lines().filter_map(|l| l.split_once('\t'));
    lines.filter_map(|(k, v)| Some((k.to_owned(), u64::from_str_radix(v, 16).ok()?))).collect()
}

/// Managed id of the `Thread` at `address`.
fn id(session: &Session, address: u64) -> u32 {
    let threads = &session.clr().unwrap().threads().items;
    threads.iter().find(|t| t.address == address).expect("a thread of the list").managed_id
}

fn waiters(all: &[Waiting], kind: Kind, object: u64) -> Vec<&Waiting> {
    all.iter().filter(|w| w.kind == kind && w.objects == [object]).collect()
}

#[test]
fn every_kind_of_wait_names_its_object_and_who_holds_it() {
    let name = "linux-x64-10.0-locks-heap";
    let (session, facts) = (session(name), facts(name));
    let waits = session.all_waits().unwrap();
    assert_eq!(waits.partial, None);
    let thread = |key: &str| format!("{:x}", facts[key]).parse::<u32>().unwrap();
    // Two locks, each held by whom the other thread waits for.
    for (lock, waiter, holder) in [("address:B.Gate", "tid:A", "tid:B"), ("address:A.Gate", "tid:B", "tid:A")] {
        let [w] = waiters(&waits.waiting, Kind::Lock, facts[lock])[..] else { panic!("{lock}") };
        assert_eq!(id(&session, w.thread), thread(waiter));
        assert_eq!(w.holders.iter().map(|&h| id(&session, h)).collect::<Vec<_>>(), [thread(holder)]);
    }
    let crowd = waiters(&waits.waiting, Kind::Monitor, facts["address:Crowd"]);
    assert_eq!(crowd.len(), 20);
    assert!(crowd.iter().all(|w| w.holders.iter().map(|&h| id(&session, h)).eq([thread("tid:Crowd")])));
    assert_eq!(waiters(&waits.waiting, Kind::SemaphoreSlim, facts["address:Mutex"]).len(), 5);
    let rw = waiters(&waits.waiting, Kind::ReaderWriterLockSlim, facts["address:RW"]);
    assert_eq!(rw.len(), 3);
    assert!(rw.iter().all(|w| w.holders.iter().map(|&h| id(&session, h)).eq([thread("tid:RW")])));
    let held = |object: u64| waits.holding.iter().find(|h| h.object == object).expect("it is held");
    assert_eq!(held(facts["address:Deep"]).count, 3);
    assert_eq!(held(facts["address:RW"]).kind, Kind::ReaderWriterLockSlim);
    assert!(waits.holding.iter().all(|h| h.object != facts["address:Free"]));
}

#[test]
fn every_holder_and_waiter_is_a_thread_of_the_dump() {
    let mut seen = 0;
    for entry in std::fs::read_dir(testdata()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".core.zst") && !name.ends_with(".dmp.zst") {
            continue;
        }
        let session = open(&path);
        let waits = session.all_waits().unwrap();
        let clr = session.clr().unwrap();
        let is_thread = |t: u64| clr.threads().items.iter().any(|x| x.address == t && !x.is_dead());
        for w in &waits.waiting {
            assert!(is_thread(w.thread) && w.holders.iter().all(|&h| is_thread(h) && h != w.thread), "{name}: {w:x?}");
            // A call that is known by its method has an object, unless the frames lost it.
            seen += usize::from(w.kind.is_wait() && !w.objects.is_empty());
        }
        for h in &waits.holding {
            assert!(is_thread(h.thread) && h.count > 0, "{name}: {h:x?}");
        }
        // What the lists of the runtime and of the library say is among it.
        for w in &session.waits().unwrap().items {
            let same = waits.waiting.iter().filter(|x| x.thread == w.thread);
            assert!(same.count() == 1, "{name}: {w:x?}");
        }
    }
    assert!(seen >= 60, "only {seen} waits");
}

/// The dumps of `testdata/` with their names.
fn dumps() -> impl Iterator<Item = (String, Session)> {
    let paths = std::fs::read_dir(testdata()).unwrap().map(|e| e.unwrap().path());
    paths.filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let bare = name.strip_suffix(".core.zst").or_else(|| name.strip_suffix(".dmp.zst"))?.to_owned();
        Some((bare, open(&path)))
    })
}

#[test]
fn deadlocks_are_said_of_programs_in_a_deadlock_alone() {
    let (mut rings, mut convoys) = (Vec::new(), Vec::new());
    for (name, session) in dumps() {
        for v in judge(&session).unwrap().verdicts {
            let waiting = &session.all_waits().unwrap().waiting;
            match v.trouble {
                Trouble::Deadlock => {
                    // Each holds up the one before it.
                    for (step, next) in v.steps.iter().zip(v.steps.iter().cycle().skip(1)) {
                        assert_eq!(step.holder, waiting[next.wait].thread, "{name}: {v:x?}");
                    }
                    rings.push((name.clone(), v.threads));
                }
                Trouble::Convoy => convoys.push((name.clone(), v.threads)),
                Trouble::Context => panic!("{name}: {v:x?}"),
                Trouble::Finalizer => {
                    let thread = waiting[v.steps[0].wait].thread;
                    assert!(session.clr().unwrap().threads().items.iter().any(|t| t.finalizer && t.address == thread));
                }
                Trouble::Starvation => assert!(v.pending > 0 && v.threads > 0, "{name}: {v:x?}"),
            }
        }
    }
    rings.sort();
    let expected = [("linux-x64-10.0-locks-heap".to_owned(), 2), ("linux-x64-11.0-eleven-heap".to_owned(), 2)];
    assert_eq!(rings, expected);
    assert!(convoys.contains(&("linux-x64-10.0-locks-heap".to_owned(), 20)), "{convoys:?}");
}
