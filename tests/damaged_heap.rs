//! Heaps that are not whole: dumped inside a collection, or torn while the dump was written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::clr::layout::discover::{DiscoverOptions, discover};
use clrscope::dump::{Dump, OpenOptions};
use clrscope::watch::Watch;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps")
}

fn run(dump: &Path, commands: &[&str]) -> String {
    let mut c = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    c.arg(dump).env("CLRSCOPE_CACHE", cache()).stdin(Stdio::null());
    for command in commands {
        c.args(["-c", command]);
    }
    let out = c.output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().skip(1).filter(|l| !l.starts_with('#'));
    rows.map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn a_heap_inside_a_collection_is_walked_by_its_plugs() {
    let out = tempfile::tempdir().unwrap();
    let said = run(&testdata("linux-x64-10.0-ingc-heap.core.zst"), &[&format!(".export \"{}\"", out.path().display())]);
    assert!(said.contains("inside a garbage collection"), "{said}");
    let address = |s: &str| u64::from_str_radix(s, 16).unwrap();
    let objects: HashSet<u64> = rows(&out.path().join("objects.tsv")).iter().map(|r| address(&r[0])).collect();
    // 40000 chains of four, plus what replaced some of them: the program wrote no other number of itself.
    assert!(objects.len() > 69_000, "{} objects", objects.len());
    let segments: Vec<(u64, u64)> =
        rows(&out.path().join("segments.tsv")).iter().map(|r| (address(&r[3]), address(&r[6]))).collect();
    let mut hits = 0;
    for row in rows(&out.path().join("edges.tsv")) {
        for target in row[1].split(' ').map(address) {
            hits += u32::from(objects.contains(&target));
            // The length of a gap (0x28) or the distance a plug moves is no reference.
            assert!(segments.iter().any(|s| (s.0..s.1).contains(&target)), "{} refers to {target:x}", row[0]);
        }
    }
    assert!(hits > 40_000, "{hits} references hit objects");
}

#[test]
fn every_answer_from_inside_a_collection_says_so() {
    for command in ["!dumpheap -stat", "!verifyheap", "!eeheap -gc", "!heapstat"] {
        let said = run(&testdata("linux-x64-10.0-ingc-heap.core.zst"), &[command]);
        assert!(said.contains("partial: the dump was taken inside a garbage collection"), "{command}: {said}");
    }
    let status = run(&testdata("linux-x64-10.0-ingc-heap.core.zst"), &["!sosstatus"]);
    assert!(status.contains("FAILED: references hit objects"), "{status}");
}

/// A copy of the dump with the words at some addresses overwritten.
fn patched(name: &str, words: impl Fn(&Dump) -> Vec<(u64, u64)>) -> tempfile::NamedTempFile {
    let options = OpenOptions { cache_dir: Some(cache()), no_images: true, ..OpenOptions::default() };
    let dump = Dump::open(&testdata(name), &options, &Watch::default()).unwrap();
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::new(fs::File::open(testdata(name)).unwrap()).unwrap();
    decoder.window_log_max(31).unwrap();
    std::io::copy(&mut decoder, &mut bytes).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (table, count) = (word(32) as usize, usize::from(u16::from_le_bytes(bytes[56..58].try_into().unwrap())));
    // Program headers of 56 bytes: type, flags, offset, address, physical address, size in the file.
    let loads: Vec<[u64; 3]> = (0..count)
        .map(|i| table + 56 * i)
        .filter(|&h| bytes[h] == 1)
        .map(|h| [word(h + 8), word(h + 16), word(h + 32)])
        .collect();
    for (address, value) in words(&dump) {
        let load = loads.iter().find(|l| (l[1]..l[1] + l[2]).contains(&address)).unwrap();
        let at = (load[0] + address - load[1]) as usize;
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let file = tempfile::NamedTempFile::with_suffix(".core").unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

/// The word that leads to the first region of a generation.
fn chain(dump: &Dump, generation: u64) -> u64 {
    let gc = discover(dump, &DiscoverOptions::default()).unwrap().gc;
    gc.generation_table.unwrap() + generation * gc.generation_size + gc.generation_field_offsets[1] as u64
}

fn total(said: &str) -> String {
    said.lines().find(|l| l.starts_with("Total ")).unwrap_or_default().to_owned()
}

#[test]
fn regions_off_the_chains_are_found_and_named() {
    let whole = run(&testdata("linux-x64-10.0-leak-heap.core.zst"), &["!dumpheap -stat"]);
    assert!(!whole.contains("partial"), "{whole}");
    let torn = patched("linux-x64-10.0-leak-heap.core.zst", |d| vec![(chain(d, 0), 0)]);
    let said = run(torn.path(), &["!dumpheap -stat"]);
    assert!(said.contains("partial: the dump looks torn: "), "{said}");
    assert!(said.contains("regions in use are in no generation's chain"), "{said}");
    assert_eq!(total(&said), total(&whole));
    let status = run(torn.path(), &["!sosstatus", "!verifyheap"]);
    assert!(status.contains("Heap: the dump looks torn"), "{status}");
    assert!(!status.contains("No heap corruption detected"), "{status}");
}

#[test]
fn chains_that_run_into_one_another_are_named() {
    let torn = patched("linux-x64-10.0-leak-heap.core.zst", |d| vec![(chain(d, 0), d.space.ptr(chain(d, 1)).unwrap())]);
    let said = run(torn.path(), &["!dumpheap -stat"]);
    assert!(said.contains("the dump looks torn: 1 chains of segments run into another one"), "{said}");
}

#[test]
fn a_sound_heap_passes_every_check() {
    let said = run(&testdata("linux-x64-10.0-wks-heap.core.zst"), &["!sosstatus", "!verifyheap"]);
    assert!(said.contains("Heap checks: 8 passed, 0 failed, 0 with nothing to check"), "{said}");
    assert!(said.contains("9,122 objects verified, 0 errors."), "{said}");
    assert!(said.contains("No heap corruption detected."), "{said}");
    let list = run(&testdata("linux-x64-10.0-wks-heap.core.zst"), &["!runtimes -v"]);
    assert!(list.contains("references hit objects"), "{list}");
}

#[test]
fn a_reference_into_the_middle_is_found() {
    let name = "linux-x64-10.0-wks-heap.core.zst";
    // The first reference of the list's head: `Session` with a next one behind it.
    let facts = fs::read_to_string(testdata("linux-x64-10.0-wks-heap.facts.tsv")).unwrap();
    let head = facts.lines().find_map(|l| l.strip_prefix("address:listHead\t")).unwrap();
    let head = u64::from_str_radix(head, 16).unwrap();
    let torn = patched(name, |d| {
        let next = (1..8).map(|i| head + 8 * i).find(|&a| d.space.ptr(a).is_some_and(|v| v > 0x1_0000)).unwrap();
        vec![(next, d.space.ptr(next).unwrap() + 8)]
    });
    let said = run(torn.path(), &["!verifyheap"]);
    assert!(said.contains("InvalidObjectReference") && said.contains(", 1 errors."), "{said}");
}

#[test]
fn a_thread_too_many_in_the_count_loses_no_threads() {
    let name = "linux-x64-10.0-leak-heap.core.zst";
    let torn = patched(name, |d| {
        let found = discover(d, &DiscoverOptions::default()).unwrap();
        let store = d.space.ptr(found.layout.global("ThreadStore").unwrap()).unwrap();
        let count = store + found.layout.try_offset("ThreadStore", "ThreadCount").unwrap();
        vec![(count, d.space.u64(count).unwrap() + 1)]
    });
    let (whole, said) = (run(&testdata(name), &["!dumpheap -stat"]), run(torn.path(), &["!dumpheap -stat"]));
    assert_eq!(total(&said), total(&whole));
    let threads = run(torn.path(), &["!threads", "!sosstatus"]);
    assert!(threads.contains("(Finalizer)"), "{threads}");
    assert!(threads.contains("FAILED: the thread list is as long as the thread store says: 1 of 1"), "{threads}");
}
