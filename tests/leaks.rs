//! What `!leaks` finds in dumps of a program that keeps four things, held against naive counts over the references.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use clrscope::commands::graph::leaks::{Limits, Suspect, find};
use clrscope::session::Session;

#[path = "support/every.rs"]
mod every;
use every::sessions;

/// What references lead to from `from`.
fn reach(s: &Session, from: u32) -> BTreeSet<u32> {
    let (mut seen, mut stack) = (BTreeSet::new(), vec![from]);
    while let Some(v) = stack.pop() {
        if seen.insert(v) {
            stack.extend(s.graph().unwrap().forward.of(v));
        }
    }
    seen
}

fn type_of(s: &Session, id: u32) -> String {
    let clr = s.clr().unwrap();
    clr.type_name(clr.object_type(s.index().unwrap().ids.address_of(id).unwrap()).unwrap()).to_string()
}

fn bytes(s: &Session, ids: impl IntoIterator<Item = u32>) -> u64 {
    let (walker, index) = (s.walker().unwrap(), s.index().unwrap());
    ids.into_iter().map(|i| walker.object_at(index.ids.address_of(i).unwrap()).unwrap().size).sum()
}

/// The object a static field refers to.
fn held_by(s: &Session, field: &str) -> u32 {
    let slot = s.static_slots().unwrap().iter().find(|f| &*f.1 == field).expect(field).0;
    s.index().unwrap().ids.id_of(s.clr().unwrap().space().ptr(slot).unwrap()).unwrap()
}

/// What no root reaches once `without` is gone.
fn only_by(s: &Session, without: u32) -> BTreeSet<u32> {
    let ids = &s.index().unwrap().ids;
    let mut left = BTreeSet::from([without]);
    let mut stack: Vec<u32> = s.roots().unwrap().items.iter().filter_map(|r| ids.id_of(r.object)).collect();
    while let Some(v) = stack.pop() {
        if left.insert(v) {
            stack.extend(s.graph().unwrap().forward.of(v));
        }
    }
    left.remove(&without);
    reach(s, without).difference(&left).copied().collect()
}

/// What the program wrote down of itself beside its dump: addresses as numbers, counts.
fn facts(path: &Path) -> HashMap<String, u64> {
    let beside = path.to_string_lossy().replace(".core.zst", ".core").replace(".core", ".facts.tsv");
    let text = fs::read_to_string(beside).unwrap();
    let number = |(k, v): (&str, &str)| {
        let radix = if k.starts_with("address:") { 16 } else { 10 };
        Some((k.to_owned(), u64::from_str_radix(v, radix).ok()?))
    };
    text.lines().filter_map(|l| l.split_once('\t')).filter_map(number).collect()
}

fn collection_of(all: &[Suspect], holder: u64) -> &Suspect {
    all.iter().find(|s| s.kind == "collection" && s.holder == holder).unwrap_or_else(|| panic!("{holder:x}: {all:#?}"))
}

/// Whether the dump is of the program in the mode in which it leaks.
fn leaks(path: &Path) -> bool {
    path.to_string_lossy().contains("-leak-")
}

#[test]
fn the_four_things_are_found() {
    let (mut looked, mut named) = (0, 0);
    for (path, s) in sessions().filter(|d| leaks(&d.0)) {
        let all = find(&s, &Limits::default()).unwrap().suspects.clone();
        let (facts, ids, at) = (facts(&path), &s.index().unwrap().ids, path.display());
        let id = |address: u64| ids.id_of(address).unwrap();
        let like = |s: &Session, from: u32, as_in: u64| {
            let ty = type_of(s, id(as_in));
            reach(s, from).into_iter().filter(|&i| type_of(s, i) == ty).count() as u64
        };
        let kept = |from: u32| bytes(&s, only_by(&s, from));

        let cache = collection_of(&all, facts["address:Cache"]);
        assert_eq!(cache.count, facts["count:cache"], "{at}: {cache:?}");
        let large = collection_of(&all, facts["address:Large"]);
        // One session of three goes into the cache, one of 500 adds a big array.
        let scale = large.count * 500;
        assert_eq!(cache.count, scale.div_ceil(3), "{at}");
        assert_eq!(large.element, "System.Byte[]", "{at}");
        for c in [cache, large] {
            let holder = id(c.holder);
            assert_eq!(c.count, like(&s, holder, c.example), "{at}: {c:?}");
            // What keeps the elements is the array in a collection; the collection's own object comes on top.
            let kept = kept(holder);
            assert!(c.bytes <= kept && c.bytes >= kept / 10 * 9, "{at}: {c:?} of {kept}");
        }
        looked += 1;
        // Without the class library's metadata no type has a name: events and timers cannot be told.
        if cache.element != "Zoo.Session" {
            continue;
        }
        named += 1;
        assert!(cache.path.contains("static Zoo.Zoo.Cache: ") && large.path.contains("static Zoo.Zoo.Large: "), "{at}");

        let ticked = held_by(&s, "Zoo.Publisher.Ticked");
        let event = all.iter().find(|s| s.kind == "event" && s.owner.contains("Zoo.Publisher.Ticked")).expect("event");
        assert_eq!(
            (event.element.as_str(), event.count),
            ("handlers on Zoo.Subscriber", scale / 50),
            "{at}: {event:?}"
        );
        assert_eq!(event.count, like(&s, ticked, event.example), "{at}");
        assert_eq!((event.bytes, id(event.holder)), (kept(ticked), ticked), "{at}");

        let graph = s.graph().unwrap();
        let timer = |i: &u32| {
            type_of(&s, *i) == "System.Threading.TimerQueueTimer"
                && graph.forward.of(*i).iter().any(|t| type_of(&s, *t) == "Zoo.Session")
        };
        let live = |i: &u32| s.live().unwrap().has(s.index().unwrap().ids.address_of(*i).unwrap());
        let timers = (0..graph.forward.nodes()).filter(live).filter(timer).count() as u64;
        let of_sessions = |s: &&Suspect| s.kind == "timers" && s.facts[0].text.starts_with("state: Zoo.Session");
        let found = all.iter().find(of_sessions).expect("timers");
        assert_eq!((found.count, timers), (scale / 200, scale / 200), "{at}: {found:?}");
        assert!(!found.path.is_empty() && found.bytes > 0, "{at}");
        looked += 1;
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || (looked >= 2 && named >= 1), "{looked} dumps, {named} with names");
}

#[test]
fn every_dump_has_an_answer_and_no_byte_counts_twice() {
    for (path, s) in sessions() {
        let Ok(all) = find(&s, &Limits { share: 0.5, min_count: 20, few: 5, ..Limits::default() }) else {
            assert!(s.dominators().is_err(), "{}", path.display());
            continue;
        };
        let (all, live) = (all.suspects.clone(), s.dominators().unwrap().bytes(0));
        let held = all.iter().filter(|s| ["collection", "linked", "object"].contains(&s.kind)).map(|s| s.bytes);
        assert!(held.sum::<u64>() <= live, "{}: {all:#?}", path.display());
        assert!(all.iter().all(|s| (0.0..=100.0).contains(&s.share)), "{}: {all:#?}", path.display());
        for pair in all.windows(2) {
            let (a, b) = (pair[0].is_waste(), pair[1].is_waste());
            assert!(!a || b, "{}", path.display());
            assert!(a != b || pair[0].bytes >= pair[1].bytes, "{}", path.display());
        }
    }
}
