//! Loader heaps and code heaps against the truth's table of native heaps, of every dump that has one.
//!
//! The dumps are those of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, those of that folder instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clrscope::clr::runtime::loaderheaps::Owner;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;

fn folder() -> PathBuf {
    std::env::var_os("CLRSCOPE_DUMPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"), PathBuf::from)
}

/// Kind and size by address.
type Rows = BTreeMap<u64, (String, u64)>;

/// Every dump whose truth has a table of native heaps, and the rows of it: kind and size by address.
fn cases() -> Vec<(String, Session, Rows)> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder()).unwrap().flatten().map(|e| e.path()) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bare = file.strip_suffix(".zst").unwrap_or(&file);
        let Some(name) = bare.strip_suffix(".core").or_else(|| bare.strip_suffix(".dmp")) else { continue };
        let truths = [format!("{name}.truth"), format!("{name}.truth.tar.zst")];
        let Some(truth) = truths.iter().map(|t| folder().join(t)).find(|t| t.exists()) else { continue };
        let work = tempfile::tempdir().unwrap();
        let tables = tables::truth_folder(&truth, work.path()).unwrap();
        let Some(table) = tables::load(&tables.join("nativeheaps.tsv")) else { continue };
        let column = |n: &str| table.column(n).unwrap();
        let rows = table.rows.iter().filter(|r| r.len() > column("state")).map(|r| {
            let address = u64::from_str_radix(&r[column("address")], 16).unwrap();
            (address, (r[column("kind")].clone(), r[column("size")].parse().unwrap()))
        });
        // Memory of the collector is not a loader heap.
        let gc = ["GC", "HandleTable"];
        let rows: Rows = rows.filter(|(_, (kind, _))| !gc.iter().any(|g| kind.starts_with(g))).collect();
        if rows.is_empty() {
            continue;
        }
        let dump = Dump::open(&path, &OpenOptions::default(), &Watch::default()).expect("a readable dump");
        let session = Session::new(dump, Watch::default());
        if session.clr().is_ok() {
            found.push((name.to_owned(), session, rows));
        }
    }
    found
}

#[test]
fn every_native_heap_of_the_truth_is_there_with_its_kind_and_size() {
    let (mut dumps, mut compared, mut wrong) = (0, 0, Vec::new());
    for (name, session, truth) in cases() {
        let ours = &session.loader_heaps().unwrap().heaps.items;
        let blocks: BTreeMap<u64, (&str, u64)> = ours
            .iter()
            .flat_map(|h| h.blocks.iter().map(move |b| (h.kind, b)))
            .map(|(kind, b)| (b.start, (kind, if kind == "HostCodeHeap" { b.committed } else { b.size })))
            .collect();
        for (address, (kind, size)) in &truth {
            compared += 1;
            match blocks.get(address) {
                // What Microsoft's reader has no word for.
                Some(&(_, ours)) if kind == "Unknown" && ours == *size => {}
                Some(&(k, s)) if k == kind && s == *size => {}
                // What names them is not in a small dump, or was moving: then they have no name, not a wrong one.
                Some(&("LoaderHeap", s))
                    if s == *size && ["-mini", "-triage", "-ingc-"].iter().any(|k| name.contains(k)) => {}
                other => wrong.push(format!("{name}: {address:x} {kind} {size}: {other:x?}")),
            }
        }
        let jit = |kind: &str| ["LoaderCodeHeap", "HostCodeHeap"].contains(&kind);
        let theirs: BTreeSet<u64> = truth.iter().filter(|(_, r)| jit(&r.0)).map(|(a, _)| *a).collect();
        let own = ours.iter().filter(|h| h.owner == Owner::Jit).flat_map(|h| &h.blocks).map(|b| b.start).collect();
        if theirs != own {
            wrong.push(format!("{name}: code heaps {theirs:x?}, ours {own:x?}"));
        }
        dumps += 1;
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(any || (dumps > 8 && compared > 400), "only {compared} heaps of {dumps} dumps compared");
}
