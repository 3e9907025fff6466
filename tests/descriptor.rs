//! The contract descriptor as a hostile dump would have it: whatever is wrong with it is refused with the reason, and the
//! other providers carry on. And what .NET 11 has that no dump at hand does: monitors that are `System.Threading.Lock`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/eleven.rs"]
mod eleven;
#[path = "support/patch.rs"]
mod patch;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use clrscope::clr::layout::discover::{DiscoverOptions, Provider, discover};
use clrscope::clr::layout::gcdac::GcSource;
use clrscope::clr::layout::report::Discovered;
use clrscope::clr::layout::verdict::Verdict;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::watch::Watch;
use eleven::Form;
use patch::Patch;
use serde_json::Value;

/// The dump of `testdata/` that holds the descriptor of its runtime.
const DUMP: &str = "win-x64-10.0-wks-full.dmp.zst";

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps")
}

fn open(path: &Path) -> Dump {
    let options = OpenOptions { cache_dir: Some(cache()), no_images: true, ..OpenOptions::default() };
    Dump::open(path, &options, &Watch::default()).unwrap()
}

/// A dump and what is known of it, to be changed.
struct Base {
    file: PathBuf,
    found: Discovered,
    image: Range<u64>,
    /// Where the descriptor lies.
    header: u64,
}

impl Base {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
        let dump = open(&path);
        let found = discover(&dump, &DiscoverOptions::default()).unwrap();
        let image = found.module.base..found.module.end;
        let file = dump.unpacked.clone().unwrap_or(path);
        let patch = Patch::open(&file);
        let places = (image.start..image.end - 8).step_by(8);
        let header = places.into_iter().find(|&a| patch.read(a, 8) == Some(b"DNCCDAC\0")).unwrap();
        Self { file, found, image, header }
    }

    fn patch(&self) -> Patch {
        Patch::open(&self.file)
    }

    /// What is discovered in the changed copy.
    fn discover(&self, patch: &Patch, off: &[Provider]) -> Discovered {
        let file = tempfile::Builder::new().suffix(".dmp").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        patch.save(file.path());
        let dump = open(file.path());
        discover(&dump, &DiscoverOptions { disabled: off.to_vec(), ..DiscoverOptions::default() }).unwrap()
    }
}

/// Fields and variables, without what only a descriptor names.
fn facts(found: &Discovered, than: &Discovered) -> Vec<(String, u64, u64)> {
    let mut unlike = Vec::new();
    for (name, value, _) in than.layout.facts() {
        if let Some(is) = found.layout.facts().iter().find(|f| f.0 == name).map(|f| f.1)
            && is != value
        {
            unlike.push((name, value, is));
        }
    }
    unlike
}

fn providers(found: &Discovered) -> String {
    let lines = found.providers.iter().map(|(name, answer)| format!("{name}: {answer}\n"));
    lines.chain(found.warnings.iter().cloned()).collect()
}

/// Whatever is wrong, the rest answers as without a descriptor; returns what is said.
fn carries_on(base: &Base, patch: &Patch, case: &str) -> String {
    let found = base.discover(patch, &[]);
    assert_eq!(found.table, base.found.table, "{case}");
    assert_eq!(facts(&found, &base.found), [], "{case}");
    assert!(found.checks.iter().all(|c| c.verdict != Verdict::Failed), "{case}");
    providers(&found)
}

#[test]
fn a_wrong_header_is_refused_with_the_reason() {
    let base = Base::new(DUMP);
    let cases: &[(&str, u64, &[u8], &str)] = &[
        ("flags", 8, &0u32.to_le_bytes(), "its flags 0x0 do not fit pointers of 8 bytes"),
        ("pointer size", 8, &3u32.to_le_bytes(), "its flags 0x3 do not fit pointers of 8 bytes"),
        ("length", 12, &u32::MAX.to_le_bytes(), "its text would be 4294967295 bytes long"),
        ("short text", 12, &100u32.to_le_bytes(), "its text is no JSON"),
        ("count", 24, &u32::MAX.to_le_bytes(), "it would have 4294967295 pointers"),
        ("no text", 16, &0x10u64.to_le_bytes(), "its text at 10 is not in the dump"),
        ("no pointers", 32, &0x18u64.to_le_bytes(), "its pointers at 18 are not in the dump"),
        ("magic", 0, b"\0CADCCND", "does not begin with `DNCCDAC`"),
    ];
    for (case, offset, bytes, reason) in cases {
        let mut patch = base.patch();
        let at = base.header;
        patch.write(at + offset, bytes);
        let said = carries_on(&base, &patch, case);
        assert!(said.contains(reason), "{case}: {said}");
    }
}

/// Puts `text` over the descriptor's own.
fn with_text(base: &Base, patch: &mut Patch, text: &str) {
    let at = base.header;
    let (length, place) = (patch.ptr(at + 8).unwrap() >> 32, patch.ptr(at + 16).unwrap());
    assert!(text.len() as u64 <= length, "the text is too long");
    patch.write(place, text.as_bytes());
    patch.write(at + 12, &(text.len() as u32).to_le_bytes());
}

/// The descriptor's own text, less some types that are not read.
fn json(base: &Base, patch: &Patch) -> Value {
    let at = base.header;
    let (length, text) = (patch.ptr(at + 8).unwrap() >> 32, patch.ptr(at + 16).unwrap());
    let mut json: Value = serde_json::from_slice(patch.read(text, length as usize).unwrap()).unwrap();
    json["types"].as_object_mut().unwrap().retain(|ty, _| !ty.starts_with("StressLog") && !ty.contains("Precode"));
    json
}

#[test]
fn a_malformed_text_is_refused_with_the_reason() {
    let base = Base::new(DUMP);
    let cases = [
        ("[1, 2]".to_owned(), "its text is no JSON object"),
        ("{\"version\": 2, \"types\": {".to_owned(), "its text is no JSON"),
        ("{\"types\": {}}".to_owned(), "its text names no version"),
        ("{\"version\": 2, \"types\": 7}".to_owned(), "its types are neither an object nor a list"),
        ("{\"version\": 2, \"globals\": \"x\"}".to_owned(), "its globals are neither an object nor a list"),
        (format!("{{\"version\": 2, \"types\": {}", "[".repeat(4000)), "its text is no JSON"),
    ];
    for (text, reason) in cases {
        let mut patch = base.patch();
        with_text(&base, &mut patch, &text);
        let said = carries_on(&base, &patch, reason);
        assert!(said.contains(reason), "{said}");
    }
}

/// Offsets that lie elsewhere than the structures: the checks hold against them.
#[test]
fn a_descriptor_that_lies_is_not_believed() {
    let base = Base::new(DUMP);
    let mut patch = base.patch();
    let mut json = json(&base, &patch);
    for (ty, field, offset) in [
        ("MethodTable", "BaseSize", 12),
        ("EEClass", "FieldDescList", 48),
        ("Thread", "LinkNext", 8),
        ("Module", "TypeDefToMethodTableMap", 65_535),
        ("AppDomain", "DomainAssemblyList", 1 << 20),
    ] {
        json["types"][ty][field] = Value::from(offset);
    }
    json["globals"]["StringMethodTable"] = serde_json::json!([[99], "pointer"]);
    with_text(&base, &mut patch, &json.to_string());
    let found = base.discover(&patch, &[]);
    assert_eq!(found.table, base.found.table);
    assert_eq!(facts(&found, &base.found), []);
    let said = providers(&found);
    assert!(said.contains("not believed: AppDomain.DomainAssemblyList, global StringMethodTable"), "{said}");
    let unlike: Vec<&String> = found
        .checks
        .iter()
        .filter(|c| c.name == "the contract descriptor agrees" && c.verdict == Verdict::Failed)
        .flat_map(|c| &c.fields)
        .collect();
    for field in ["MethodTable.BaseSize", "EEClass.FieldDescList", "Thread.LinkNext"] {
        assert!(unlike.iter().any(|f| *f == field), "{field} in {unlike:?}");
    }
}

/// Fills the sub-descriptors of the runtime's descriptor with what `entries` gives for it.
fn with_subs(base: &Base, entries: impl Fn(&mut Patch, u64) -> Vec<u64>) -> Patch {
    let mut patch = base.patch();
    let at = base.header;
    let cells = entries(&mut patch, at);
    let mut json = json(base, &patch);
    let (count, old) = (patch.ptr(at + 24).unwrap(), patch.ptr(at + 32).unwrap());
    let mut pointers = patch.read(old, 8 * count as usize).unwrap().to_vec();
    for (i, cell) in cells.iter().enumerate() {
        json["subDescriptors"][format!("S{i}")] = serde_json::json!([count as usize + i]);
        pointers.extend(cell.to_le_bytes());
    }
    let place = patch.put(&base.image, &pointers);
    patch.write(at + 24, &(count + cells.len() as u64).to_le_bytes());
    patch.write(at + 32, &place.to_le_bytes());
    with_text(base, &mut patch, &json.to_string());
    patch
}

#[test]
fn sub_descriptors_may_be_null_astray_or_lead_in_a_circle() {
    let base = Base::new(DUMP);
    let image = base.image.clone();
    let patch = with_subs(&base, |p, own| {
        let null = p.put(&image, &[0; 8]);
        let circle = p.put(&image, &own.to_le_bytes());
        let astray = p.put(&image, &0x18u64.to_le_bytes());
        let other = p.put(&image, &image.start.to_le_bytes());
        vec![null + 16, circle, astray, other, 0x20]
    });
    let said = carries_on(&base, &patch, "strays");
    for words in [
        "sub-descriptor S0 is null or not in the dump",
        "was refused: it leads back to itself",
        "sub-descriptor S2 at 18 was refused: its header is not in the dump",
        "was refused: it does not begin with `DNCCDAC`",
        "sub-descriptor S4 is null or not in the dump",
    ] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
}

#[test]
fn sub_descriptors_nest_only_so_deep() {
    let base = Base::new(DUMP);
    let image = base.image.clone();
    let patch = with_subs(&base, |p, _| {
        let text = r#"{"version": 2, "subDescriptors": {"Next": [1]}}"#;
        let place = p.put(&image, text.as_bytes());
        let mut cell = p.put(&image, &[0; 8]);
        for _ in 0..12 {
            let pointers: Vec<u8> = [0, cell].iter().flat_map(|w: &u64| w.to_le_bytes()).collect();
            let pointers = p.put(&image, &pointers);
            let header = p.put(&image, &eleven::header(text.len() as u32, place, 2, pointers));
            cell = p.put(&image, &header.to_le_bytes());
        }
        vec![cell]
    });
    let said = carries_on(&base, &patch, "nested");
    assert!(said.contains("was refused: sub-descriptors nest too deep or are too many"), "{said}");
}

#[test]
fn the_collectors_own_descriptor_is_found_by_its_variables() {
    let base = Base::new(DUMP);
    let mut patch = base.patch();
    let at = base.header;
    patch.write(at, &[0; 8]);
    let gc = eleven::collector_alone(&mut patch, &base.found, Form::Bare);
    // Minor version 6 added the descriptor's address at the end.
    patch.write(base.found.gc.address + 1, &[6]);
    patch.write(base.found.gc.address + 0x148, &gc.to_le_bytes());
    let found = base.discover(&patch, &[]);
    assert!(providers(&found).contains("the collector's alone, at "), "{}", providers(&found));
    assert!(found.checks.iter().any(|c| c.name.starts_with("GcDacVars and") && c.verdict == Verdict::Passed));
    assert_eq!(found.gc.source, GcSource::Struct);
    // A version nobody knows: the descriptor it leads to is not known either; structure answers.
    patch.write(base.found.gc.address, &[9]);
    let found = base.discover(&patch, &[]);
    assert!(found.warnings.iter().any(|w| w.contains("version 9.6")), "{:?}", found.warnings);
    assert_ne!(found.gc.source, GcSource::Struct);
    assert_eq!(found.gc.generation_table, base.found.gc.generation_table);
    assert_eq!(found.gc.alloc_allocated, base.found.gc.alloc_allocated);
}

/// Monitors of .NET 11: a thin lock in the sync block, or the handle of a lock object.
#[test]
fn monitors_that_are_lock_objects_are_read() {
    let base = Base::new(DUMP);
    let before = sync_blocks(&base.file);
    let held: Vec<&Vec<String>> = before.iter().filter(|r| r[2] == "True" && r[4] != "0").collect();
    assert!(held.len() >= 2, "{before:?}");
    let l = &base.found.layout;
    let owner = l.offset("SyncBlock", "Owner").unwrap();
    let mut patch = base.patch();
    let table = patch.ptr(l.global("SyncTableEntries").unwrap()).unwrap();
    let block = |p: &Patch, index: &str| p.ptr(table + 16 * index.parse::<u64>().unwrap()).unwrap();
    let lock = lock_object(&base);
    // The last one held becomes an object.
    let made = before.iter().rposition(|r| r == *held.last().unwrap()).unwrap();
    for (i, row) in before.iter().enumerate() {
        let at = block(&patch, &row[0]);
        let id = patch.ptr(at + owner).unwrap() as u32;
        let (is_held, recursion) = (row[2] == "True" && row[4] != "0", row[3].parse::<u32>().unwrap());
        let thin = if is_held { id | (recursion - 1) << 16 } else { 0 };
        let mut handle = 0;
        if i == made {
            let (object, fields) = &lock;
            let waiters = row[5].parse::<u32>().unwrap();
            for (name, value) in
                [("_state", 1 | waiters << 7), ("_owningThreadId", id), ("_recursionCount", recursion - 1)]
            {
                let offset = fields.iter().find(|f| f.0 == name).unwrap().1;
                patch.write(object + 8 + offset, &value.to_le_bytes());
            }
            handle = patch.put(&base.image, &object.to_le_bytes());
        }
        patch.write(at, &handle.to_le_bytes());
        patch.write(at + 8, &(if handle == 0 { thin } else { 0 }).to_le_bytes());
    }
    eleven::describe_with(
        &mut patch,
        &base.found,
        Form::Bare,
        &[("SyncBlock", "Lock", 0), ("SyncBlock", "ThinLock", 8)],
    );
    let file = tempfile::Builder::new().suffix(".dmp").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    patch.save(file.path());
    let after = sync_blocks(file.path());
    for (i, (a, b)) in after.iter().zip(&before).enumerate() {
        // A thin lock has no waiters.
        let same = if i == made { a.len() } else { 5 };
        assert_eq!(a[..same], b[..same]);
    }
    assert_ne!(before[made][5], "0", "somebody waits for the lock");
    assert_eq!(after.len(), before.len());
    let found = base.discover(&patch, &[]);
    assert_eq!(found.layout.text("SyncBlockOwner"), Some("lock"));
    assert!(found.layout.try_offset("SyncBlock", "LockState").is_none());
}

fn clrscope(dump: &Path, command: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(dump)
        .args(["-c", command])
        .env("CLRSCOPE_CACHE", cache())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Rows of the exported table of sync blocks: index, object, held, recursion, holder, waiters.
fn sync_blocks(dump: &Path) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("out");
    clrscope(dump, &format!(".export \"{}\"", out.display()));
    let text = std::fs::read_to_string(out.join("syncblocks.tsv")).unwrap();
    let rows = text.lines().skip(1).filter(|l| !l.starts_with('#'));
    rows.map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

/// A `System.Threading.Lock` of the dump with the offsets of its fields.
fn lock_object(base: &Base) -> (u64, Vec<(String, u64)>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("out");
    clrscope(&base.file, &format!(".export \"{}\"", out.display()));
    let rows = |name: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(|l| l.split('\t').map(str::to_owned).collect()).collect()
    };
    let types = rows("types.tsv");
    let name = types[0].iter().position(|c| c.starts_with("name")).unwrap();
    let mt = &types.iter().find(|r| r[name] == "System.Threading.Lock").expect("no lock in the dump")[0];
    let object = rows("objects.tsv").iter().find(|r| r[1] == *mt).map(|r| u64::from_str_radix(&r[0], 16).unwrap());
    let fields = rows("fields.tsv");
    let column = |c: &str| fields[0].iter().position(|x| x.split(' ').next() == Some(c)).unwrap();
    let (offset, field) = (column("offset"), column("field"));
    let own = fields.iter().filter(|r| r[0] == *mt);
    (object.unwrap(), own.map(|r| (r[field].clone(), r[offset].parse().unwrap())).collect())
}
