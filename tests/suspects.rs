//! `!leaks` on a dump of a program that holds one suspect of each kind (`testdata/shop.cs`, 600 elements each), and the
//! commands it says to type next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use captured::open;
use clrscope::commands::graph::leaks::{Limits, Suspect, find};
use clrscope::shell::state::{Ended, Shell};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

const COUNT: u64 = 600;

fn shop(shell: &Shell) -> Vec<Suspect> {
    find(shell.session.as_ref().unwrap(), &Limits { share: 0.5, ..Limits::default() }).unwrap().suspects.clone()
}

/// The suspect of a kind whose owner begins so.
fn of<'a>(all: &'a [Suspect], kind: &str, owner: &str) -> &'a Suspect {
    let is = |s: &&Suspect| s.kind == kind && s.owner.starts_with(owner);
    all.iter().find(is).unwrap_or_else(|| panic!("no {kind} of {owner}: {all:#?}"))
}

#[test]
fn collections_of_every_kind_have_their_elements() {
    let (shell, _) = open(&data("linux-x64-10.0-shop-heap.core.zst"));
    let all = shop(&shell);
    let collections = [
        ("Shop.Program.worker", "ConcurrentQueue", "Shop.Order", 600),
        ("Shop.Cache.Seen", "HashSet", "Shop.Order", 400),
        ("Shop.Cache.Jobs", "ConcurrentQueue", "Shop.Order", 300),
        ("Shop.Cache.Blocking", "ConcurrentQueue", "Shop.Order", 280),
        ("Shop.Cache.Bag", "ConcurrentBag", "Shop.Order", 240),
        ("Shop.Cache.Queue", "Queue", "Shop.Order", 220),
        ("Shop.Cache.Stack", "Stack", "Shop.Order", 200),
        ("Shop.Cache.Prio", "PriorityQueue", "Shop.Order", 180),
        ("Shop.Cache.Invoices", "ConcurrentDictionary", "Node", 0),
        ("Shop.Program.keys", "List", "System.Object", 260),
    ];
    for (owner, holder, element, payload) in collections {
        let s = of(&all, "collection", &format!("{owner}, "));
        assert_eq!(s.count, COUNT, "{s:?}");
        assert!(s.element.ends_with(element), "{s:?}");
        assert!(s.owner.contains(&format!(".{holder}<")), "{s:?}");
        assert!(s.path.contains(&format!("static {owner}: ")) && s.holder != 0 && s.example != 0, "{s:?}");
        // Each order is an object, a text and an array of so many bytes.
        let least = COUNT * payload;
        assert!(s.bytes > least && s.bytes < least + COUNT * 250, "{s:?}");
    }
    let linked = [
        ("Shop.Cache.Sorted", "Node"),
        ("Shop.Cache.Frozen", "SortedInt32KeyNode"),
        ("Shop.Cache.Lru", "LinkedListNode"),
        ("Shop.Program.ring", "Shop.Cycle"),
    ];
    for (owner, element) in linked {
        let s = of(&all, "linked", &format!("{owner}, "));
        assert!(s.count == COUNT && s.element.contains(element), "{s:?}");
    }
    // What a weak table attaches to its keys is said, and big arrays are a collection though they are few.
    let keys = of(&all, "collection", "Shop.Program.keys");
    assert!(keys.facts.iter().any(|f| f.text.starts_with("600 dependent handles")), "{keys:?}");
    assert_eq!(of(&all, "collection", "Shop.Program.islands").count, 30);
}

#[test]
fn what_waits_and_what_calls_back() {
    let (shell, _) = open(&data("linux-x64-10.0-shop-heap.core.zst"));
    let all = shop(&shell);
    let says = |s: &Suspect, fact: &str| assert!(s.facts.iter().any(|f| f.text.contains(fact)), "{fact}: {s:?}");
    let event = of(&all, "event", "Shop.Bus.Instance");
    assert_eq!((event.count, event.element.as_str()), (COUNT, "handlers on Shop.View"));
    says(event, "event: Shop.Bus.Message of ");

    // Every method called waits; what it waits for holds it.
    let handle = of(&all, "async", "Shop.Program.never");
    assert_eq!(handle.count, COUNT);
    says(handle, "state machines of Shop.Program.Handle");
    let outer = of(&all, "async", "Shop.Program.tasks");
    assert_eq!(outer.count, COUNT / 2);
    says(outer, "state machines of Shop.Program.Outer");
    assert!(!all.iter().any(|s| s.kind == "collection" && s.element == handle.element), "told twice: {all:#?}");

    // What is registered for cancellation is told as that, its delegates are not told again.
    let registered = of(&all, "registrations", "Shop.Program.appStopping");
    assert_eq!(registered.count, COUNT / 3);
    says(registered, "called on: 200 Shop.Program+<>c__DisplayClass");
    assert!(!all.iter().any(|s| s.kind == "delegates" && s.owner.contains("appStopping")), "told twice: {all:#?}");
    assert_eq!(all.iter().filter(|s| s.kind == "timers").map(|s| s.count).max(), Some(COUNT / 5));
    let thread = of(&all, "thread", "thread static Shop.Program.perThread");
    assert_eq!(thread.count, 4);
    says(thread, "of 4 threads");
}

#[test]
fn what_is_stuck_and_what_is_wasted() {
    let (shell, _) = open(&data("linux-x64-10.0-shop-heap.core.zst"));
    let all = shop(&shell);
    let says = |s: &Suspect, fact: &str| assert!(s.facts.iter().any(|f| f.text.contains(fact)), "{fact}: {s:?}");
    let finalizer = of(&all, "finalizer", "finalizer queue");
    assert!(finalizer.count > COUNT, "{finalizer:?}");
    // One of the first lot was behind the one that blocks.
    says(finalizer, "601 of them Shop.Finalizable");
    says(finalizer, "on the stack of the finalizer thread");
    says(finalizer, "Shop.Blocker");
    says(finalizer, "it waits for the monitor of System.Object");

    let context = of(&all, "context", "Shop.Program.pluginInstance, Shop.Plugin");
    assert!(context.bytes > 200_000, "{context:?}");
    says(context, "live objects of its types: 1 Shop.Plugin");

    let large = of(&all, "free", "Large");
    assert!(large.bytes >= 29 * 200_000 && large.count >= 30, "{large:?}");
    says(large, "behind the blocks stand: 31 System.Byte[]");
    let small = of(&all, "free", "Generation0");
    says(small, "pinning: ");
    assert!(small.next.contains(&"!gchandles -type Pinned".to_owned()), "{small:?}");

    let arrays = of(&all, "sparse", "Shop.Program.sparse");
    assert_eq!((arrays.count, arrays.element.as_str()), (30, "System.Object[]"));
    let zeros = of(&all, "sparse", "Shop.Program.zeros");
    assert_eq!((zeros.count, zeros.bytes), (30, 30 * 1000 * 8 + 240));
    let strings = of(&all, "strings", "bytes to be saved");
    says(strings, "600 times \"the same text in every row of the report\"");

    let few = find(shell.session.as_ref().unwrap(), &Limits { min_count: 90, ..Limits::default() }).unwrap();
    let pinned = of(&few.suspects, "handles", "pinned handle");
    assert_eq!((pinned.count, pinned.element.as_str()), (90, "System.Byte[]"));
}

#[test]
fn what_is_said_to_type_next_can_be_typed() {
    let dumps = [
        "linux-x64-10.0-shop-heap.core.zst",
        "web/linux-x64-10.0-web-heap.core.zst",
        "linux-x64-3.1-leak-heap.core.zst",
        "linux-x64-9.0-svr-heap.core.zst",
        "win-x64-10.0-wks-full.dmp.zst",
        "win-x64-3.1-wks-full.dmp.zst",
    ];
    for dump in dumps {
        let (mut shell, out) = open(&data(dump));
        let limits = Limits { share: 1.0, min_count: 20, few: 5, free: 5.0, empty: 60.0 };
        let found = find(shell.session.as_ref().unwrap(), &limits).unwrap();
        assert!(!found.suspects.is_empty(), "{dump}");
        let mut lines: Vec<String> = found.suspects.iter().flat_map(|s| s.next.clone()).collect();
        lines.sort();
        lines.dedup();
        for line in lines {
            out.0.lock().unwrap().clear();
            assert_eq!(shell.line(&line), Ended::Well, "{dump}: {line}");
            assert!(!out.0.lock().unwrap().is_empty(), "{dump}: {line} says nothing");
        }
    }
}

#[test]
fn who_asks_again_gets_what_was_found() {
    let (shell, _) = open(&data("linux-x64-10.0-leak-heap.core.zst"));
    let session = shell.session.as_ref().unwrap();
    let search = |share: f64| find(session, &Limits { share, ..Limits::default() }).unwrap();
    assert!(Arc::ptr_eq(&search(2.0), &search(2.0)) && !Arc::ptr_eq(&search(2.0), &search(1.0)));
    let older = data("linux-x64-10.0-leaktwice-heap.core.zst").display().to_string();
    let measured = || clrscope::commands::graph::diff::older(session, &older).unwrap();
    assert!(Arc::ptr_eq(&measured(), &measured()) && measured().0.live.count > 30_000);
}

#[test]
fn thresholds_are_checked_and_change_the_list() {
    let (mut shell, out) = open(&data("linux-x64-10.0-shop-heap.core.zst"));
    let mut kinds = |line: &str| {
        out.0.lock().unwrap().clear();
        assert_eq!(shell.line(line), Ended::Well, "{line}");
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let rows = text.lines().skip(1).take_while(|l| !l.is_empty());
        rows.filter_map(|l| l.split_whitespace().nth(1).map(str::to_owned)).collect::<Vec<_>>()
    };
    let count = |all: &[String], kind: &str| all.iter().filter(|k| *k == kind).count();
    let usual = kinds("!leaks -share 0.5 -top 0");
    assert_eq!(count(&usual, "event"), 1);
    assert_eq!(count(&kinds("!leaks -share 0.5 -top 0 -few 601"), "event"), 0);
    assert_eq!(count(&kinds("!leaks -share 0.5 -top 0 -min-count 601"), "async"), 0);
    assert!(count(&kinds("!leaks -share 0.5 -top 0 -free 99.9"), "free") < count(&usual, "free"));
    assert!(kinds("!leaks -share 50").len() < kinds("!leaks").len());
    let arrays = |empty: f64| {
        let limits = Limits { share: 0.5, empty, ..Limits::default() };
        let all = find(shell.session.as_ref().unwrap(), &limits).unwrap().suspects.clone();
        all.iter().filter(|s| s.kind == "sparse").map(|s| s.count).sum::<u64>()
    };
    assert!(arrays(1.0) > arrays(80.0) && arrays(80.0) > arrays(100.0));
    for wrong in ["!leaks -share 0", "!leaks -free 101", "!leaks -empty many"] {
        assert_eq!(shell.line(wrong), Ended::Failed, "{wrong}");
    }
}
