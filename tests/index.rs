//! The index file: what a reopened one answers is what a fresh build answers, and damage never shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::session::saved::IndexMode;
use clrscope::watch::Watch;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn options() -> OpenOptions {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    OpenOptions { cache_dir: Some(cache), ..OpenOptions::default() }
}

fn open(dump: &Path, index: &Path) -> Session {
    let opened = Dump::open(dump, &options(), &Watch::default()).unwrap();
    Session::new(opened, Watch::default()).with_index(IndexMode::File(index.to_owned()), &options())
}

/// Everything an index holds, computed if need be.
fn all(s: &Session) -> String {
    let (index, graph) = (s.index().unwrap(), s.graph().unwrap());
    let ids: Vec<_> = (0..index.ids.len()).map(|i| index.ids.address_of(i)).collect();
    let retained = s.dominators().unwrap();
    let by_type: Vec<_> = s.types().all().iter().map(|t| t.mt.address).zip(s.retained_by_type().unwrap()).collect();
    let mut by_type: Vec<_> = by_type.into_iter().filter(|t| t.1.count > 0).collect();
    by_type.sort_by_key(|t| t.0);
    format!("{ids:?} {:?} {graph:?} {:?} {retained:?} {by_type:?}", index.report, s.holders().unwrap())
}

/// Runs the program on `dump` with the index `index`.
fn run(dump: &Path, index: &str, lines: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    command.arg(dump).args(["--index", index]).stdin(Stdio::null());
    command.env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"));
    for line in lines {
        command.args(["-c", line]);
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Whether both answer the same.
fn same(a: &Session, b: &Session) -> bool {
    let by_type = |s: &Session| {
        let sizes = s.retained_by_type().unwrap().to_vec();
        let mut rows: Vec<_> = s.types().all().iter().map(|t| t.mt.address).zip(sizes).collect();
        rows.retain(|r| r.1.count > 0);
        rows.sort_by_key(|r| r.0);
        rows
    };
    let (x, y) = (a.graph().unwrap(), b.graph().unwrap());
    let (r, t) = (a.dominators().unwrap(), b.dominators().unwrap());
    a.index().unwrap().ids.bits() == b.index().unwrap().ids.bits()
        && a.index().unwrap().report == b.index().unwrap().report
        && (&x.forward, &x.dependent, x.misses) == (&y.forward, &y.dependent, y.misses)
        && a.reverse().unwrap() == b.reverse().unwrap()
        && a.holders().unwrap() == b.holders().unwrap()
        && (&r.tree, &r.weights) == (&t.tree, &t.weights)
        && by_type(a) == by_type(b)
}

const DUMPS: [&str; 4] = [
    "linux-x64-10.0-leak-heap.core.zst",
    "linux-x64-3.1-leak-heap.core.zst",
    "linux-x64-9.0-svr-heap.core.zst",
    "win-x64-10.0-wks-full.dmp.zst",
];

#[test]
fn a_reopened_index_is_what_was_computed() {
    let folder = tempfile::tempdir().unwrap();
    for name in DUMPS {
        let index = folder.path().join(format!("{name}.index"));
        let fresh = open(&data(name), &index);
        let wanted = all(&fresh);
        assert_eq!(fresh.save_index(false).unwrap().as_deref(), Some(index.as_path()));
        assert_eq!(fresh.save_index(false).unwrap(), None, "there is nothing new to save");
        let again = open(&data(name), &index);
        let state = again.index_state().unwrap();
        assert_eq!(state.holds.len(), 5, "{state:?}");
        assert!(all(&again) == wanted, "{name}");
        assert!(!again.index_state().unwrap().fresh, "{name}: something was computed that the index holds");
        // Whatever is looked up first.
        let first = open(&data(name), &index);
        let by_type = |s: &Session| {
            let sizes = s.retained_by_type().unwrap().to_vec();
            let mut rows: Vec<_> = s.types().all().iter().map(|t| t.mt.address).zip(sizes).collect();
            rows.retain(|r| r.1.count > 0);
            rows.sort_by_key(|r| r.0);
            rows
        };
        assert_eq!(by_type(&first), by_type(&fresh));
        assert!(all(&first) == wanted, "{name}");
    }
}

#[test]
fn answers_are_the_same_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for (name, ty) in [(DUMPS[0], "Zoo.Session"), (DUMPS[3], "System.String")] {
        let held = format!("!gcroot -type {ty}");
        let mut lines = vec!["!retained", "!retained -assembly", "!dominators -top 50", "!dumpheap -stat -live", &held];
        let plain = run(&data(name), "none", &lines);
        let address = plain.lines().find(|l| l.contains("static variable")).unwrap();
        let address = address.split_whitespace().find(|w| w.len() > 6 && u64::from_str_radix(w, 16).is_ok()).unwrap();
        let one: Vec<String> = ["!gcroot", "!refs", "!retained", "!dominators", "!objsize"]
            .iter()
            .map(|c| format!("{c} {address}"))
            .collect();
        lines.extend(one.iter().map(String::as_str));
        let wanted = run(&data(name), "none", &lines);
        let index = folder.path().join(format!("{name}.index"));
        let path = index.to_str().unwrap();
        assert_eq!(run(&data(name), path, &lines), wanted, "{name}: while it is made");
        let size = std::fs::metadata(&index).unwrap().len();
        assert!(size > 10_000, "{size}");
        assert_eq!(run(&data(name), path, &lines), wanted, "{name}: from the index");
        // Each first, in a run of its own.
        for line in &lines {
            assert_eq!(run(&data(name), path, &[line]), run(&data(name), "none", &[line]), "{name}: {line}");
        }
        let told = run(&data(name), path, &[".index"]);
        assert!(told.contains(path) && told.contains("retained sizes by type"), "{told}");
    }
}

/// Damaged copies of an index.
const ROUNDS: usize = 300;

#[test]
fn what_is_damaged_is_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("a.index");
    let dump = Dump::open(&data(DUMPS[0]), &options(), &Watch::default()).unwrap().unpacked.unwrap();
    let fresh = open(&dump, &index);
    all(&fresh);
    fresh.save_index(false).unwrap();
    let good = std::fs::read(&index).unwrap();
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut rebuilt = 0;
    for round in 0..ROUNDS {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes[random(good.len())] ^= 1 << random(8),
            1 => bytes.truncate(random(good.len())),
            2 => {
                let (at, n) = (random(good.len()), 1 + random(64));
                bytes.iter_mut().skip(at).take(n).for_each(|b| *b = random(256) as u8);
            }
            // The head, where sections lie and how long they are.
            _ => bytes[random(700)] ^= 1 << random(8),
        }
        let part = folder.path().join("b.index");
        std::fs::write(&part, &bytes).unwrap();
        let s = open(&dump, &part);
        assert!(same(&s, &fresh), "round {round}");
        assert!(s.types().len() <= fresh.types().len());
        rebuilt += usize::from(s.index_state().unwrap().fresh);
    }
    // Only damage to what is not read goes by unnoticed: the room left for more sections.
    assert!(rebuilt > ROUNDS * 4 / 5, "only {rebuilt} of {ROUNDS} times something was computed anew");
}

#[test]
fn an_index_belongs_to_its_dump_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (index, copy) = (folder.path().join("a.index"), folder.path().join("copy.core"));
    let dump = Dump::open(&data(DUMPS[0]), &options(), &Watch::default()).unwrap();
    let bytes = std::fs::read(dump.unpacked.unwrap()).unwrap();
    std::fs::write(&copy, &bytes).unwrap();
    let first = open(&copy, &index);
    all(&first);
    first.save_index(false).unwrap();
    assert!(open(&copy, &index).index_state().unwrap().found.is_some());
    // Another name is the same dump; other bytes or another time are not.
    let moved = folder.path().join("moved.core");
    std::fs::rename(&copy, &moved).unwrap();
    assert!(open(&moved, &index).index_state().unwrap().found.is_some());
    let mut other = bytes.clone();
    let end = other.len() - 1;
    other[end] ^= 1;
    let time = std::fs::metadata(&moved).unwrap().modified().unwrap();
    std::fs::write(&moved, &other).unwrap();
    std::fs::File::options().append(true).open(&moved).unwrap().set_modified(time).unwrap();
    let changed = open(&moved, &index);
    assert!(changed.index_state().unwrap().found.is_none());
    // It is replaced then.
    all(&changed);
    assert!(changed.save_index(false).unwrap().is_some());
    assert!(open(&moved, &index).index_state().unwrap().found.is_some());
    // What is no index is left alone.
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not an index").unwrap();
    let s = open(&moved, &text);
    all(&s);
    assert!(s.save_index(true).unwrap_err().to_string().contains("is no index"));
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "not an index");
    // A stop leaves nothing behind.
    let s = open(&moved, &folder.path().join("c.index"));
    all(&s);
    s.watch.cancel.set();
    assert!(s.save_index(true).is_err());
    s.watch.cancel.clear();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(s.save_index(true).unwrap().is_some());
}
