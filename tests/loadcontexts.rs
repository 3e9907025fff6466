//! Assembly load contexts, by `!dumpalc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn run(dump: &str, command: &str) -> String {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(testdata.join(dump))
        .args(["-c", command])
        .env("CLRSCOPE_CACHE", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// The zoo makes a type at run time, which asks for the default context: all of its assemblies are in that one.
#[test]
fn every_assembly_is_in_the_default_context() {
    for (dump, assemblies) in [
        ("linux-x64-8.0-wks-heap.core.zst", 21),
        ("linux-x64-10.0-wks-heap.core.zst", 21),
        ("win-x64-10.0-wks-full.dmp.zst", 21),
    ] {
        let said = run(dump, "!dumpalc");
        let line = said.lines().find(|l| l.contains("DefaultAssemblyLoadContext \"Default\"")).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.get(1..4), Some(["false", "Alive", &assemblies.to_string()].as_slice()), "{dump}: {said}");
        assert!(!said.contains("without a managed instance"), "{dump}: {said}");
    }
}

#[test]
fn an_object_leads_to_the_assemblies_beside_its_own() {
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/linux-x64-10.0-wks-heap.facts.tsv");
    let facts = fs::read_to_string(facts).unwrap();
    let cache = facts.lines().find_map(|l| l.strip_prefix("address:Cache\t")).unwrap().to_owned();
    let said = run("linux-x64-10.0-wks-heap.core.zst", &format!("!dumpalc {cache}"));
    assert!(said.starts_with("AssemblyLoadContext: ") && said.contains("Collectible:         false"), "{said}");
    assert!(said.contains("/zoo.dll") && said.contains("/System.Private.CoreLib.dll"), "{said}");
}

#[test]
fn a_context_nobody_asked_for_has_no_object() {
    let said = run("linux-x64-3.1-leak-heap.core.zst", "!dumpalc");
    assert!(said.contains("Default ALC without a managed instance: 16 assemblies"), "{said}");
}
