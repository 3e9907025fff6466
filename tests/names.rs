//! Names of types where no metadata is at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clrscope::clr::samebuild::contradiction;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Every dump of `testdata/` with a runtime.
fn sessions() -> impl Iterator<Item = (String, Session)> {
    let files = std::fs::read_dir(testdata()).unwrap().flatten().map(|e| e.path());
    files.filter_map(|p| {
        let file = p.file_name()?.to_string_lossy().into_owned();
        let name = file.strip_suffix(".core.zst").or_else(|| file.strip_suffix(".dmp.zst"))?.to_owned();
        let dump = Dump::open(&p, &OpenOptions::default(), &Watch::default()).expect("a readable dump");
        let session = Session::new(dump, Watch::default());
        session.clr().ok()?;
        Some((name, session))
    })
}

/// What is said of a type by its shape alone is what its metadata says, wherever there is metadata.
#[test]
fn types_known_by_their_shape_have_the_names_of_the_metadata() {
    let mut compared: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, s) in sessions() {
        let clr = s.clr().unwrap();
        for (&mt, &known) in clr.known_types() {
            let table = clr.valid_method_table(mt).unwrap();
            let module = clr.module(clr.defining_module(&table).unwrap());
            let Some(metadata) = module.metadata(clr) else { continue };
            assert_eq!(metadata.full_name(clr.type_rid(&table)), known, "{name}: {mt:x}");
            *compared.entry(known).or_default() += 1;
        }
    }
    for name in [
        "System.ValueType",
        "System.Enum",
        "System.Array",
        "System.Exception",
        "System.SystemException",
        "System.OutOfMemoryException",
        "System.StackOverflowException",
        "System.ExecutionEngineException",
        "System.Threading.Thread",
        "System.Reflection.LoaderAllocator",
        "System.Reflection.LoaderAllocatorScout",
    ] {
        assert!(compared.get(name).is_some_and(|&n| n > 3), "{name}: {compared:?}");
    }
}

/// A heap dump of 3.1 has no metadata. Counts and bytes of all types are the truth's; names are its names or fallbacks,
/// and a fallback is never given to a type that is known without.
#[test]
fn without_metadata_types_are_counted_right_and_named_as_far_as_their_shape_goes() {
    let dump = "linux-x64-3.1-wks-heap";
    let (_, s) = sessions().find(|(n, _)| n == dump).unwrap();
    let work = tempfile::tempdir().unwrap();
    let folder = tables::truth_folder(&testdata().join(format!("{dump}.truth.tar.zst")), work.path()).unwrap();
    let truth = tables::load(&folder.join("types.tsv")).unwrap();
    let column = |n: &str| truth.column(n).unwrap();
    let (clr, stat) = (s.clr().unwrap(), s.stat().unwrap());
    let (mut named, mut unnamed) = (0, 0);
    for row in &truth.rows {
        let mt = u64::from_str_radix(&row[column("method_table")], 16).unwrap();
        let id = s.types().all().iter().find(|t| t.mt.address == mt).unwrap().id;
        let (_, tally) = stat.types.iter().find(|(i, _)| *i == id).unwrap();
        let (count, bytes) = (tally.count.to_string(), tally.bytes.to_string());
        assert_eq!((&count, &bytes), (&row[column("count")], &row[column("bytes")]), "{mt:x}");
        let (ours, theirs) = (clr.type_name(mt), &row[column("name")]);
        match ours.contains("!0x02") {
            true => unnamed += 1,
            // Microsoft's reader spells an array of rank 1 with a lower bound so.
            false => {
                assert_eq!(ours.replace("[*]", "<*>"), theirs.replace("[*]", "<*>"), "{mt:x}");
                named += 1;
            }
        }
        let primitive = ["Boolean", "Char", "Int32", "Int64", "Double", "Byte[]", "Int32[,,]", "Int32[][]", "Object[]"];
        let known = ["String", "Object", "String[]", "RuntimeType", "Threading.Thread", "OutOfMemoryException"];
        if primitive.iter().chain(&known).any(|n| theirs.strip_prefix("System.") == Some(n)) {
            assert_eq!(*ours, **theirs);
        }
    }
    assert!(named >= 35 && unnamed > 100, "{named} named, {unnamed} not");
}

/// Files that nothing but their name speaks for are held against the types in memory: the right metadata fits every module,
/// that of another module fits none.
#[test]
fn metadata_of_another_build_is_told_from_the_right_one() {
    let (mut right, mut wrong) = (0, 0);
    for (name, s) in sessions() {
        let clr = s.clr().unwrap();
        let loaded = |m: u64| clr.loaded_types(m).items.len();
        let modules: Vec<_> = clr.assemblies().items.iter().map(|a| clr.module(a.module)).collect();
        let with: Vec<_> = modules.iter().filter(|m| loaded(m.address) > 3 && m.metadata(clr).is_some()).collect();
        for (i, m) in with.iter().enumerate() {
            let own = m.metadata(clr).unwrap();
            assert_eq!(contradiction(clr, m.address, own), None, "{name}: {}", m.path);
            right += 1;
            let other = with[(i + 1) % with.len()];
            let metadata = other.metadata(clr).unwrap();
            // The two plug-ins differ in names alone.
            if metadata.typedef_count() != own.typedef_count() {
                assert!(contradiction(clr, m.address, metadata).is_some(), "{name}: {} for {}", other.path, m.path);
                wrong += 1;
            }
        }
    }
    assert!(right > 80 && wrong > 80, "{right} right ones, {wrong} wrong ones");
}
