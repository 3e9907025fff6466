//! Command scripts as people write them for WinDbg, replayed by the real binary: `tests/scripts/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::RegexBuilder;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn dump(name: &str) -> PathBuf {
    let files = ["core", "dmp"].map(|e| folder("testdata").join(format!("{name}.{e}.zst")));
    files.into_iter().find(|f| f.exists()).unwrap_or_else(|| panic!("no dump {name}"))
}

/// What a script says of itself in its first lines.
fn said<'t>(text: &'t str, what: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |l| l.strip_prefix("* ")?.strip_prefix(what)?.strip_prefix(": "))
}

#[test]
fn scripts_do_what_they_do_in_windbg() {
    let mut scripts: Vec<_> = fs::read_dir(folder("tests/scripts")).unwrap().map(|e| e.unwrap().path()).collect();
    scripts.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    scripts.sort();
    assert!(scripts.len() > 30);
    let mut wrong = Vec::new();
    for script in scripts {
        let text = fs::read_to_string(&script).unwrap();
        let name = said(&text, "dump").next().unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
            .args(["--no-color", "--index", "none"])
            .arg(dump(name))
            .arg("-s")
            .arg(script.file_name().unwrap())
            .current_dir(folder("tests/scripts"))
            .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let all = [out.stdout, out.stderr].map(|o| String::from_utf8_lossy(&o).into_owned()).join("\n");
        let wanted: Vec<_> = said(&text, "expect").collect();
        assert!(!wanted.is_empty(), "{}", script.display());
        for want in wanted {
            let found = RegexBuilder::new(want).multi_line(true).build().unwrap();
            if !found.is_match(&all) {
                wrong.push(format!("{} lacks {want}:\n{all}", script.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
