//! Fleets: many dumps in one folder of tables, and many dumps looked at together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Tables that cost little.
const FEW: &str = "runtime,modules,threads,dumps";
const SMALL: &str = "linux-x64-10.0-plugins-heap.core.zst";
const WINDOWS: &str = "win-x86-3.1-small.dmp.zst";

fn dump(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    command.env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps")).stdin(Stdio::null());
    command
}

fn export(fleet: &Path, dumps: &[PathBuf], more: &[&str]) -> Output {
    program().arg("export").arg("--out").arg(fleet).args(["--format", "tsv"]).args(more).args(dumps).output().unwrap()
}

/// All files below a folder with what they hold, by their paths in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                todo.push(entry);
            } else {
                let name = entry.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read(&entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Rows of `dumps` of all dumps of a fleet, each with its columns by name.
fn dumps(fleet: &Path) -> Vec<Vec<(String, String)>> {
    let mut rows = Vec::new();
    for (_, text) in files(&fleet.join("dumps")) {
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
        rows.extend(lines.map(|l| {
            let named = head.iter().zip(l.split('\t'));
            named.map(|(n, v)| ((*n).to_owned(), v.to_owned())).collect()
        }));
    }
    rows
}

fn cell<'r>(row: &'r [(String, String)], name: &str) -> &'r str {
    row.iter().find(|c| c.0 == name).map(|c| c.1.as_str()).unwrap_or_else(|| panic!("no column {name}"))
}

#[test]
fn a_second_export_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (fleet, copy) = (folder.path().join("fleet"), folder.path().join("other name.zst"));
    let said = export(&fleet, &[dump(SMALL)], &["--tables", FEW]);
    assert!(said.status.success(), "{said:?}");
    let first = files(&fleet);
    assert_eq!(first.len(), FEW.split(',').count());
    let (name, _) = first.iter().find(|f| f.0.starts_with("modules/")).unwrap();
    assert!(name.starts_with("modules/dump=") && name.ends_with("/part.tsv"), "{name}");
    // Where the dump lies is no matter, and what was there is gone.
    fs::write(fleet.join(name), "old").unwrap();
    fs::copy(dump(SMALL), &copy).unwrap();
    assert!(export(&fleet, std::slice::from_ref(&copy), &["--tables", FEW]).status.success());
    let second = files(&fleet);
    let other = |f: &&(String, Vec<u8>)| !f.0.starts_with("dumps/");
    assert!(first.iter().filter(other).eq(second.iter().filter(other)));
    assert_eq!(first.iter().map(|f| &f.0).collect::<Vec<_>>(), second.iter().map(|f| &f.0).collect::<Vec<_>>());
    let rows = dumps(&fleet);
    assert_eq!(rows.len(), 1);
    assert_eq!(cell(&rows[0], "file"), copy.display().to_string());
    assert_eq!(cell(&rows[0], "outcome"), "whole");
    assert_eq!(cell(&rows[0], "runtime"), "CoreCLR");
    // A name of its own is another dump.
    assert!(export(&fleet, &[copy], &["--tables", FEW, "--id", "twin"]).status.success());
    assert_eq!(dumps(&fleet).len(), 2);
    assert!(fleet.join("threads/dump=twin/part.tsv").is_file());
}

#[test]
fn ten_workers_on_one_folder_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone");
    let both = [dump(SMALL), dump(WINDOWS)];
    assert!(export(&alone, &both, &["--tables", FEW]).status.success());
    let fleet = folder.path().join("fleet");
    let workers: Vec<_> = (0..10)
        .map(|_| {
            let mut command = program();
            command.arg("export").arg("--out").arg(&fleet).args(["--format", "tsv", "--tables", FEW]).args(&both);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for worker in workers {
        let out = worker.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(files(&fleet), files(&alone));
}

#[test]
fn what_cannot_be_read_has_its_row_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (fleet, broken) = (folder.path().join("fleet"), folder.path().join("broken.dmp"));
    fs::write(&broken, b"MDMP is how they begin").unwrap();
    let missing = folder.path().join("missing.core");
    let said = export(&fleet, &[broken.clone(), missing.clone(), dump(SMALL)], &["--tables", FEW]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.contains("1 dumps exported, 2 refused"), "{text}");
    let rows = dumps(&fleet);
    assert_eq!(rows.len(), 3);
    let of = |file: &Path| rows.iter().find(|r| cell(r, "file") == file.display().to_string()).unwrap();
    for file in [&broken, &missing] {
        assert_eq!(cell(of(file), "outcome"), "refused");
        assert!(!cell(of(file), "reason").is_empty());
    }
    assert_eq!(cell(of(&dump(SMALL)), "outcome"), "whole");
    // What an earlier export left of a dump that is refused now goes.
    let id = cell(of(&broken), "id").to_owned();
    let stale = fleet.join(format!("threads/dump={id}"));
    fs::create_dir_all(&stale).unwrap();
    fs::write(stale.join("part.tsv"), "old").unwrap();
    assert_eq!(export(&fleet, &[broken], &[]).status.code(), Some(1));
    assert!(!stale.join("part.tsv").exists());
}

#[test]
fn names_that_are_no_folder_and_text_to_everybody_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["../up", "a/b", "2026", "", "1e5", "a b"] {
        let said = export(folder.path(), &[dump(SMALL)], &["--tables", "runtime", "--id", id]);
        assert_eq!(said.status.code(), Some(1), "{id}");
    }
    let two = export(folder.path(), &[dump(SMALL), dump(WINDOWS)], &["--id", "one"]);
    assert_eq!(two.status.code(), Some(1));
    assert!(files(folder.path()).is_empty());
    let nowhere = program().arg("export").arg(dump(SMALL)).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_parquet_says_which_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet");
    let said = program().arg("export").arg("--out").arg(&fleet).arg(dump(SMALL)).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let why = String::from_utf8_lossy(&said.stderr);
    assert!(why.contains("built without the feature `parquet`") && why.contains("--features parquet"), "{why}");
    assert!(!fleet.exists());
}

#[test]
fn objects_have_what_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let said = program()
        .arg(dump(SMALL))
        .args([
            "-c",
            &format!(".export {} -tables objects -retained; !dominators -top 1 -json", folder.path().display()),
        ])
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = fs::read_to_string(folder.path().join("objects.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows[0], ["address", "method_table", "size", "generation", "retained", "dominator", "depth", "owner"]);
    let line = String::from_utf8(said.stdout).unwrap();
    let answer: Value = serde_json::from_str(line.lines().rfind(|l| l.starts_with('{')).unwrap()).unwrap();
    let first = &answer["tables"][0]["rows"][0];
    let address = first[0].as_str().unwrap().trim_start_matches("0x");
    let row = rows.iter().find(|r| r[0] == address).unwrap();
    assert_eq!(row[4], first[2].to_string());
    // All that is live hangs on roots: what stands at the top retains it all, and all of it has an owner.
    let live: Vec<_> = rows.iter().skip(1).filter(|r| !r[4].is_empty()).collect();
    let sum = |n: usize, of: &dyn Fn(&&&Vec<&str>) -> bool| -> u64 {
        live.iter().filter(of).map(|r| r[n].parse::<u64>().unwrap()).sum()
    };
    assert_eq!(sum(4, &|r| r[6] == "1"), sum(2, &|_| true));
    assert!(live.iter().all(|r| !r[7].is_empty() && (r[5].is_empty() == (r[6] == "1"))));
    assert!(rows.iter().skip(1).filter(|r| r[4].is_empty()).all(|r| r[5..].iter().all(|c| c.is_empty())));
}

#[test]
fn dumps_with_the_same_trouble_stand_together() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.core");
    fs::write(&broken, b"\x7fELF").unwrap();
    let names = [
        "linux-x64-10.0-leak-heap.core.zst",
        "linux-x64-10.0-crash-heap.core.zst",
        SMALL,
        "linux-x64-10.0-leaktwice-heap.core.zst",
        WINDOWS,
    ];
    let mut files: Vec<PathBuf> = names.iter().map(|n| dump(n)).collect();
    files.push(broken.clone());
    let said = program().arg("triage").args(&files).arg("--json").output().unwrap();
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answer["facts"]["dumps"], files.len());
    assert_eq!(answer["facts"]["refused"], 1);
    let table = &answer["tables"][0];
    let column = |name: &str| table["columns"].as_array().unwrap().iter().position(|c| c == name).unwrap();
    let rows = table["rows"].as_array().unwrap();
    let of = |file: &Path, name: &str| {
        let row = rows.iter().find(|r| r[column("file")] == *file.display().to_string()).unwrap();
        row[column(name)].clone()
    };
    assert_eq!(of(&broken, "trouble"), "refused");
    assert!(of(&broken, "reason").as_str().is_some_and(|r| !r.is_empty()));
    let crash = of(&dump("linux-x64-10.0-crash-heap.core.zst"), "signature");
    assert!(crash.as_str().unwrap().starts_with("crash: "), "{crash}");
    // The same leak in two processes is one trouble.
    let leaks = [names[0], names[3]].map(|n| of(&dump(n), "signature"));
    assert!(leaks[0].as_str().unwrap().starts_with("memory: "), "{leaks:?}");
    assert_eq!(leaks[0], leaks[1]);
    assert_eq!(of(&dump(names[0]), "dumps"), 2);
    assert!(of(&dump(names[0]), "bytes").as_u64().is_some_and(|b| b > 1_000_000));
    // Same signatures follow one another, what cannot be read is last.
    assert_eq!(rows.last().unwrap()[column("trouble")], "refused");
    let mut signatures: Vec<String> = rows.iter().map(|r| r[column("signature")].to_string()).collect();
    signatures.dedup();
    let followed = signatures.len();
    signatures.sort();
    signatures.dedup();
    assert_eq!(followed, signatures.len());
    let csv = program().arg("triage").arg(&broken).arg("--csv").output().unwrap();
    assert!(String::from_utf8_lossy(&csv.stdout).contains("refused"));
}
