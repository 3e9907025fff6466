//! Delegates: their fields by name and by structure agree, and damaged ones end every walk.
//!
//! What delegates call is held against the truth in `truth/delegates.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/patch.rs"]
mod patch;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use captured::open;
use clrscope::clr::runtime::delegates::{DelegateKind, DelegateShape};
use clrscope::shell::state::Shell;
use patch::Patch;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

#[test]
fn fields_by_name_are_those_by_structure() {
    let dumps = [
        "linux-x64-2.1-wks-heap.core.zst",
        "win-x86-3.1-small.dmp.zst",
        "win-x64-3.1-wks-full.dmp.zst",
        "linux-x64-8.0-wks-heap.core.zst",
        "linux-x64-9.0-svr-heap.core.zst",
        "linux-x64-10.0-leak-heap.core.zst",
        "win-x64-10.0-wks-full.dmp.zst",
    ];
    for dump in dumps {
        let (shell, _) = open(&data(dump));
        let clr = shell.session.as_ref().unwrap().clr().unwrap();
        let shape = clr.delegate_shape().unwrap();
        // Without the name the comparison would be of structure with itself.
        assert_eq!(&*clr.type_name(shape.class), "System.MulticastDelegate", "{dump}");
        assert_eq!(DelegateShape::by_structure(clr).as_ref(), Ok(shape), "{dump}");
    }
}

#[test]
fn where_no_metadata_is_at_hand_structure_answers() {
    let (shell, _) = open(&data("linux-x64-3.1-leak-heap.core.zst"));
    let session = shell.session.as_ref().unwrap();
    let clr = session.clr().unwrap();
    let class = clr.delegate_shape().unwrap().class;
    assert!(clr.is_unnamed(class));
    assert!(!delegates(&shell).is_empty());
}

/// Delegates of the heap.
fn delegates(shell: &Shell) -> Vec<u64> {
    let session = shell.session.as_ref().unwrap();
    let clr = session.clr().unwrap();
    let class = clr.delegate_shape().unwrap().class;
    let walker = session.walker().unwrap();
    let (parts, _) = walker
        .parallel(
            &walker.heap.segments,
            |_| Vec::new(),
            |found: &mut Vec<u64>, _, o| {
                if o.ty.mt.parent == class {
                    found.push(o.address);
                }
            },
        )
        .unwrap();
    parts.into_iter().flatten().collect()
}

/// The heap dump that is damaged: of .NET 10, where the fields lie so (`Delegate.CoreCLR.cs`, v10.0).
const DUMP: &str = "linux-x64-10.0-leak-heap.core.zst";
const TARGET: u64 = 8;
const CODE: u64 = 24;
const AUX: u64 = 32;
const LIST: u64 = 40;
const COUNT: u64 = 48;

/// The dump unpacked, all its delegates, and those with a list.
fn whole() -> (PathBuf, Vec<u64>, Vec<u64>) {
    let (shell, _) = open(&data(DUMP));
    let all = delegates(&shell);
    let clr = shell.session.as_ref().unwrap().clr().unwrap();
    let is_list = |a: &&u64| clr.delegate(**a).is_some_and(|d| d.kind == DelegateKind::Multicast);
    let lists = all.iter().filter(is_list).copied().collect();
    let unpacked = tempfile::Builder::new().suffix(".core").tempfile().unwrap().into_temp_path().keep().unwrap();
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::new(fs::File::open(data(DUMP)).unwrap()).unwrap();
    decoder.window_log_max(31).unwrap();
    std::io::copy(&mut decoder, &mut bytes).unwrap();
    fs::write(&unpacked, bytes).unwrap();
    (unpacked, all, lists)
}

/// A copy with these words overwritten.
fn damaged(from: &Path, words: &[(u64, u64)]) -> tempfile::NamedTempFile {
    let mut patch = Patch::open(from);
    for (address, value) in words {
        patch.write(*address, &value.to_le_bytes());
    }
    let file = tempfile::NamedTempFile::with_suffix(".core").unwrap();
    patch.save(file.path());
    file
}

/// What `!dumpdelegate` prints of each, with the error where there is one.
fn asked(dump: &Path, of: &[u64]) -> HashMap<u64, String> {
    let (mut shell, out) = open(dump);
    let ask = |&a: &u64| {
        let start = out.0.lock().unwrap().len();
        let ended = shell.line(&format!("!dumpdelegate {a:x}"));
        let text = String::from_utf8_lossy(&out.0.lock().unwrap()[start..]).into_owned();
        (a, format!("{text}{ended:?}"))
    };
    of.iter().map(ask).collect()
}

/// A name, the words that are overwritten, what is said then.
type Case = (&'static str, Vec<(u64, u64)>, &'static str);

#[test]
fn damaged_lists_are_said_to_be_damaged() {
    let (dump, _, lists) = whole();
    let first = lists[0];
    let patch = Patch::open(&dump);
    let word = |address: u64| patch.ptr(address).unwrap();
    let array = word(first + LIST);
    let (length, count, second) = (word(array + 8), word(first + COUNT), word(array + 24));
    let sound = asked(&dump, &[first]);
    assert!(!sound[&first].contains("partial"), "{}", sound[&first]);
    let rows = |text: &str| text.lines().filter(|l| l.contains("Zoo.Subscriber.On")).count() as u64;
    assert_eq!(rows(&sound[&first]), count);
    let cases: &[Case] = &[
        ("more than there is room for", vec![(first + COUNT, length + 5)], "its list has room for"),
        ("a count beyond all bounds", vec![(first + COUNT, 1 << 62)], "its list has room for"),
        ("no entries", vec![(first + COUNT, 0)], "counts 0 entries"),
        ("itself among them", vec![(array + 16, first)], "leads back to itself"),
        ("a circle of two", vec![(second + LIST, array), (second + COUNT, count)], "leads back to itself"),
        ("null among them", vec![(array + 16, 0)], "is no delegate"),
        ("no delegate among them", vec![(array + 16, array)], "is no delegate"),
        ("an address outside memory", vec![(array + 16, 0x10)], "is no delegate"),
        ("around itself", vec![(first + LIST, first)], ""),
        (
            "around another that is around it",
            vec![(first + LIST, second), (second + LIST, first), (second + COUNT, 1)],
            "leads back",
        ),
        ("a list outside memory", vec![(first + LIST, 0x7000_0000_0000)], ""),
    ];
    for (name, words, said) in cases {
        let copy = damaged(&dump, words);
        let text = &asked(copy.path(), &[first])[&first];
        assert!(text.contains(said), "{name}: {text}");
        // One bad entry does not hide the others.
        if words.len() == 1 && words[0].0 == array + 16 {
            assert_eq!(rows(text), count - 1, "{name}: {text}");
        }
    }
    fs::remove_file(dump).unwrap();
}

#[test]
fn whatever_stands_in_delegates_every_command_ends() {
    let (dump, all, lists) = whole();
    let patch = Patch::open(&dump);
    let arrays: Vec<u64> = lists.iter().filter_map(|l| patch.ptr(l + LIST)).collect();
    let codes: Vec<u64> = all.iter().filter_map(|a| patch.ptr(a + CODE)).collect();
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n.max(1) as u64) as usize
    };
    for round in 0..6 {
        let mut words = Vec::new();
        for &address in &all {
            for field in [TARGET, TARGET + 8, CODE, AUX, LIST, COUNT] {
                let value = match next(10) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => address,
                    3 => all[next(all.len())],
                    4 => lists[next(lists.len())],
                    5 => arrays[next(arrays.len())],
                    6 => codes[next(codes.len())],
                    7 => next(64) as u64,
                    8 => arrays[next(arrays.len())] + 4,
                    _ => continue,
                };
                words.push((address + field, value));
            }
        }
        let entries = arrays.iter().map(|a| (a + 16, if round % 2 == 0 { lists[next(lists.len())] } else { *a }));
        words.extend(entries.collect::<Vec<_>>());
        let copy = damaged(&dump, &words);
        let (mut shell, _) = open(copy.path());
        let out = tempfile::tempdir().unwrap();
        shell.line(&format!(".export \"{}\" -tables delegates", out.path().display()));
        assert!(out.path().join("delegates.tsv").exists());
        for command in ["!leaks", "!timerinfo", "!threadpoolqueue", "!dumpasync"] {
            shell.line(command);
        }
        asked(copy.path(), &all[..all.len().min(60)]);
    }
    fs::remove_file(dump).unwrap();
}
