//! Names of types where no metadata is at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clrscope::clr::image::samebuild::contradiction;
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
        for (&mt, &known) in &clr.known_types().names {
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

/// Counts and bytes of all types of the truth of `dump` are those of `s`; names are its names or fallbacks, and a fallback is
/// never given to a type that is known without metadata. Gives how many were named and how many not.
fn types_without_metadata(dump: &str, s: &Session) -> (u32, u32) {
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
        assert_eq!((&count, &bytes), (&row[column("count")], &row[column("bytes")]), "{dump}: {mt:x}");
        let (ours, theirs) = (clr.type_name(mt), &row[column("name")]);
        assert_eq!(ours.contains("!0x02"), clr.is_unnamed(mt), "{dump}: {ours}");
        match clr.is_unnamed(mt) {
            true => unnamed += 1,
            // Microsoft's reader spells an array of rank 1 with a lower bound so.
            false => {
                assert_eq!(ours.replace("[*]", "<*>"), theirs.replace("[*]", "<*>"), "{dump}: {mt:x}");
                named += 1;
            }
        }
        let primitive = ["Boolean", "Char", "Int32", "Int64", "Double", "Byte[]", "Int32[,,]", "Int32[][]", "Object[]"];
        let known = ["String", "Object", "String[]", "RuntimeType", "Threading.Thread", "OutOfMemoryException"];
        if primitive.iter().chain(&known).any(|n| theirs.strip_prefix("System.") == Some(n)) {
            assert_eq!(*ours, **theirs, "{dump}");
        }
    }
    (named, unnamed)
}

/// A heap dump of 3.1 has no metadata.
#[test]
fn without_metadata_types_are_counted_right_and_named_as_far_as_their_shape_goes() {
    let dump = "linux-x64-3.1-wks-heap";
    let (_, s) = sessions().find(|(n, _)| n == dump).unwrap();
    let (named, unnamed) = types_without_metadata(dump, &s);
    assert!(named >= 35 && unnamed > 100, "{named} named, {unnamed} not");
}

/// Later ones have it: here it is made unreadable, that of dynamic modules too.
#[test]
fn a_dump_robbed_of_its_metadata_is_read_as_well() {
    for dump in ["linux-x64-8.0-wks-heap", "linux-x64-10.0-wks-heap"] {
        let file = std::fs::File::open(testdata().join(format!("{dump}.core.zst"))).unwrap();
        let mut bytes = zstd::decode_all(file).unwrap();
        let words = bytes.chunks_exact(4).enumerate();
        let marks: Vec<usize> = words.filter(|(_, w)| w == b"BSJB").map(|(i, _)| 4 * i).collect();
        assert!(marks.len() > 10, "{dump}");
        marks.iter().for_each(|&at| bytes[at..at + 4].fill(0));
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("robbed.core");
        std::fs::write(&path, bytes).unwrap();
        let options = OpenOptions { no_images: true, ..OpenOptions::default() };
        let s = Session::new(Dump::open(&path, &options, &Watch::default()).unwrap(), Watch::default());
        let (named, unnamed) = types_without_metadata(dump, &s);
        assert!(named >= 25 && unnamed > 100, "{dump}: {named} named, {unnamed} not");
        let missing = s.missing_metadata().unwrap();
        assert!(missing.contains("-i FOLDER"), "{missing}");
        // The exceptions the runtime keeps ready are known by their codes.
        let clr = s.clr().unwrap();
        let ready = clr.handles().items.iter().filter(|h| h.object != 0).filter_map(|h| {
            let mt = clr.object_type(h.object)?;
            (&*clr.type_name(mt) == "System.StackOverflowException").then(|| clr.exception_at(h.object, mt).hresult)
        });
        assert_eq!(ready.collect::<Vec<_>>(), [0x8007_03E9], "{dump}");
    }
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
