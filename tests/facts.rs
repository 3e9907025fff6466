//! What the zoo wrote of itself before it was dumped, against what is read: addresses of objects that static fields hold,
//! counts, a hash code, texts. No other reader is involved. Dumps without a truth are walked whole besides.
//!
//! The dumps are those of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, all of that folder too. `CLRSCOPE_OPTIONS` and
//! `CLRSCOPE_OPTIONS_FOR` name folders with files of assemblies as for `tests/truth` (`-i FOLDER`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/pattern.rs"]
mod pattern;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clrscope::clr::runtime::syncblocks;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::heap::roots::RootKind;
use clrscope::session::Session;
use clrscope::watch::Watch;
use pattern::matches;

struct Case {
    name: String,
    path: PathBuf,
    facts: BTreeMap<String, String>,
    truth: bool,
}

fn cases(dir: &Path) -> Vec<Case> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path()) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bare = file.strip_suffix(".zst").unwrap_or(&file);
        let Some(name) = bare.strip_suffix(".core").or_else(|| bare.strip_suffix(".dmp")) else { continue };
        let text = std::fs::read_to_string(dir.join(format!("{name}.facts.tsv"))).unwrap_or_default();
        // Of several stack roots the last one counts.
        let facts =
            text.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let truth = [format!("{name}.truth"), format!("{name}.truth.tar.zst")].iter().any(|t| dir.join(t).exists());
        found.push(Case { name: name.to_owned(), path, facts, truth });
    }
    found
}

fn all() -> Vec<Case> {
    let mut all = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    if let Ok(more) = std::env::var("CLRSCOPE_DUMPS") {
        let more = cases(Path::new(&more)).into_iter().filter(|c| !all.iter().any(|a| a.name == c.name));
        let more: Vec<Case> = more.collect();
        all.extend(more);
    }
    all
}

/// Folders given for the dump `name`.
fn folders(name: &str) -> Vec<PathBuf> {
    let mut words = std::env::var("CLRSCOPE_OPTIONS").unwrap_or_default();
    for line in std::env::var("CLRSCOPE_OPTIONS_FOR").unwrap_or_default().lines() {
        if let Some((pattern, options)) = line.split_once('=')
            && matches(pattern.trim(), name)
        {
            words = format!("{words} {options}");
        }
    }
    let words: Vec<&str> = words.split_whitespace().collect();
    words.windows(2).filter(|w| w[0] == "-i").map(|w| w[1].into()).collect()
}

/// A dump with a whole heap.
fn open(case: &Case) -> Option<Session> {
    if ["-mini", "-triage"].iter().any(|k| case.name.contains(k)) {
        return None;
    }
    let options = OpenOptions { image_paths: folders(&case.name), ..OpenOptions::default() };
    let dump = Dump::open(&case.path, &options, &Watch::default()).expect("a readable dump");
    let session = Session::new(dump, Watch::default());
    let walkable = session.clr().is_ok() && session.index().is_ok_and(|i| !i.ids.is_empty());
    walkable.then_some(session)
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// Static fields that hold what the program named, of one of these types.
const HELD: [(&str, &str); 10] = [
    ("Cache", "System.Collections.Generic.Dictionary<System.String, Zoo.Session>"),
    ("Concurrent", "System.Collections.Concurrent.ConcurrentDictionary<System.Int32, Zoo.Session>"),
    ("Mixed", "System.Object[]"),
    ("Grid", "System.Int32[,,]"),
    ("Jagged", "System.Int32[][]"),
    ("Tags", "Zoo.Tagged[]"),
    ("Tree", "Zoo.Node<Zoo.Tagged>"),
    ("Unicode", "System.String"),
    ("Keep", "System.Collections.Generic.List<System.Object>"),
    ("Large", "System.Collections.Generic.List<System.Byte[]>"),
];

/// Facts of one dump; gives how many were compared.
fn compare(case: &Case, s: &Session) -> u32 {
    let (clr, ids, name) = (s.clr().unwrap(), &s.index().unwrap().ids, &case.name);
    let fact = |key: &str| case.facts.get(key);
    let address = |key: &str| fact(&format!("address:{key}")).map(|a| hex(a));
    let mut compared = 0;
    for (field, ty) in HELD {
        let Some(object) = address(field) else { continue };
        assert!(ids.id_of(object).is_some(), "{name}: {field} at {object:x} is no object");
        let found = clr.type_name(clr.object_type(object).unwrap());
        // Arrays of primitives, strings and objects have names with nothing at hand.
        if found.contains("!0x02") {
            continue;
        }
        assert_eq!(&*found, ty, "{name}: {field}");
        compared += 1;
    }
    if let Some(text) = address("Unicode") {
        let found = clr.string_at(text, 100).unwrap().1;
        assert_eq!(found, "Grüße, 世界 🌍 \"quoted\"\n\ttabbed", "{name}");
        compared += 1;
    }
    // A hash code is in the header, or in the sync block the header names.
    if let (Some(hash), Some(mixed)) = (fact("hash:Mixed"), address("Mixed")) {
        let header = clr.object_header(mixed).unwrap();
        if syncblocks::index_of(header).is_none() {
            assert_eq!(u64::from(header & 0x03FF_FFFF), hex(hash), "{name}: the header is {header:x}");
            compared += 1;
        }
    }
    if let Some(object) = address("stackRoot") {
        let on_stack =
            |k: &RootKind| matches!(k, RootKind::Frame { .. } | RootKind::Stack { .. } | RootKind::Register { .. });
        let roots = &s.roots().unwrap().items;
        assert!(roots.iter().any(|r| on_stack(&r.kind) && r.object == object), "{name}: {object:x} is on no stack");
        compared += 1;
    }
    let named = |ty: &str| s.types().all().iter().find(|t| &*clr.type_name(t.mt.address) == ty).map(|t| t.id);
    if let (Some(count), Some(id)) = (fact("count:Zoo.Session"), named("Zoo.Session")) {
        let tally = s.stat().unwrap().types.iter().find(|t| t.0 == id).map_or(0, |t| t.1.count);
        // One more is the value of a dependent handle.
        assert_eq!(tally, count.parse::<u64>().unwrap() + 1, "{name}");
        compared += 1;
    }
    let slots = s.static_slots().unwrap();
    for (field, _) in HELD {
        let slot = slots.iter().find(|(_, n)| **n == *format!("Zoo.Zoo.{field}"));
        if let (Some((slot, _)), Some(object)) = (slot, address(field)) {
            assert_eq!(clr.space().ptr(*slot), Some(object), "{name}: Zoo.Zoo.{field}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn what_the_program_said_of_itself_is_what_is_read() {
    let (mut dumps, mut compared) = (0, 0);
    for case in all().iter().filter(|c| c.facts.get("mode").is_some_and(|m| m == "zoo")) {
        let Some(s) = open(case) else { continue };
        let n = compare(case, &s);
        assert!(n >= 6, "{}: only {n} facts", case.name);
        (dumps, compared) = (dumps + 1, compared + n);
    }
    assert!(dumps >= 8 && compared > 150, "only {compared} facts of {dumps} dumps");
}

/// What `old.cs` wrote (.NET Core 1.0 and 2.0): where objects are and in which generation, handles, threads, locks, counts.
fn compare_old(case: &Case, s: &Session) -> u32 {
    let (clr, ids, heap, name) = (s.clr().unwrap(), &s.index().unwrap().ids, s.heap().unwrap(), &case.name);
    let mut compared = 0;
    for (key, value) in &case.facts {
        let (kind, rest) = key.split_once(':').unwrap_or((key, ""));
        match kind {
            "address" => {
                let object = hex(value);
                assert!(object == 0 || ids.id_of(object).is_some(), "{name}: {rest} at {object:x} is no object");
            }
            "generation" => {
                let object = hex(&case.facts[&format!("address:{rest}")]);
                let segment = heap.segment_at(object).unwrap();
                let is = format!("{:?}", segment.generation(object));
                let said = match value.as_str() {
                    "0" => ["Gen0"].as_slice(),
                    "1" => ["Gen1"].as_slice(),
                    _ => ["Gen2", "Large"].as_slice(),
                };
                assert!(said.contains(&is.as_str()), "{name}: {rest} is in {is}, the program says {value}");
            }
            "handleSlot" => {
                let slot = hex(value);
                let handle = clr.handles().items.iter().find(|h| h.address == slot);
                let holds = hex(&case.facts[&format!("address:handle.{rest}")]);
                // A weak handle whose object is gone holds nothing.
                assert_eq!(handle.map_or(0, |h| h.object), holds, "{name}: {rest}");
            }
            "thread" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let (managed, os) = (words[1].parse::<u32>().unwrap(), hex(words[3]));
                let thread = clr.threads().items.iter().find(|t| t.managed_id == managed).unwrap();
                assert_eq!(thread.os_id, os, "{name}: {rest}");
            }
            "count" => {
                let ty = s.types().all().iter().find(|t| &*clr.type_name(t.mt.address) == rest).unwrap().id;
                let tally = s.stat().unwrap().types.iter().find(|t| t.0 == ty).map_or(0, |t| t.1.count);
                assert_eq!(tally, value.parse::<u64>().unwrap(), "{name}: {rest}");
            }
            "hash" => {
                let header = clr.object_header(hex(&case.facts[&format!("address:{rest}")])).unwrap();
                // In a sync block otherwise.
                if syncblocks::index_of(header).is_none() {
                    assert_eq!(u64::from(header & 0x03FF_FFFF), hex(value), "{name}: the header is {header:x}");
                }
            }
            _ => continue,
        }
        compared += 1;
    }
    compared
}

#[test]
fn what_old_programs_said_of_themselves_is_what_is_read() {
    for case in all().iter().filter(|c| c.facts.contains_key("handleSlot:strong")) {
        let Some(s) = open(case) else { panic!("{} does not open", case.name) };
        let n = compare_old(case, &s);
        assert!(n > 80, "{}: only {n} facts", case.name);
    }
}

/// Dumps that no other reader read: every reference hits an object, every handle and queue holds one.
#[test]
fn dumps_without_a_truth_hold_every_invariant() {
    for case in all().iter().filter(|c| !c.truth && !c.name.contains("-ingc-")) {
        let Some(s) = open(case) else { continue };
        let (name, ids) = (&case.name, &s.index().unwrap().ids);
        assert_eq!(s.graph().unwrap().misses, 0, "{name}: references that hit no object");
        let handles = s.clr().unwrap().handles();
        assert!(handles.partial.is_none() && !handles.items.is_empty(), "{name}: {:?}", handles.partial);
        for h in handles.items.iter().filter(|h| h.object != 0) {
            assert!(ids.id_of(h.object).is_some(), "{name}: handle {:x} holds {:x}", h.address, h.object);
        }
        let check = s.heap_check().unwrap();
        assert_eq!(check.verdicts().1, 0, "{name}: {:?}", check.sentence());
    }
}
