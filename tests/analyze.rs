//! What `!analyze` says of every dump of `testdata/`, against the table of `docs/verdicts.md`, which was reviewed line by line.
//! `CLRSCOPE_BLESS=1` writes the rows anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

use clrscope::commands::session::analyze::{Analysis, Area, STRIKING, Scope, Sure, analyze, trouble};
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;

const EVERYTHING: Scope = Scope { crash: true, hang: true, memory: true };

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn analysis(path: &Path) -> Analysis {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), no_images: true, ..OpenOptions::default() };
    let session = Session::new(Dump::open(path, &options, &Watch::default()).unwrap(), Watch::default());
    analyze(&session, EVERYTHING, None).unwrap()
}

/// Name and analysis of every dump of `testdata/`, by name.
fn all() -> Vec<(String, Analysis)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(here("testdata")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(bare) = name.strip_suffix(".core.zst").or_else(|| name.strip_suffix(".dmp.zst")) {
            found.push((bare.to_owned(), analysis(&path)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The row of a dump in the table.
fn row(name: &str, all: &Analysis) -> String {
    let first = all.findings.first().map_or("", |f| f.what.as_str());
    format!("| `{name}` | {} | {} |", trouble(all), first.replace('|', "\\|"))
}

#[test]
fn verdicts_are_those_that_were_reviewed() {
    let file = here("docs/verdicts.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut wrong = Vec::new();
    for (name, all) in all() {
        let wanted = row(&name, &all);
        let start = format!("| `{name}` |");
        match lines.iter_mut().find(|l| l.starts_with(&start)) {
            Some(line) if *line == wanted => {}
            Some(line) => {
                wrong.push(format!("{line}\n  is now\n{wanted}"));
                *line = wanted;
            }
            None => {
                wrong.push(format!("no row: {wanted}"));
                lines.push(wanted);
            }
        }
    }
    if std::env::var_os("CLRSCOPE_BLESS").is_some() {
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn planted_causes_come_first() {
    for (name, all) in all() {
        let first = all.findings.first();
        let ordered = all.findings.windows(2).all(|w| w[0].weight >= w[1].weight);
        assert!(ordered, "{name}: {all:?}");
        let is = |area: Area, word: &str| {
            let f = first.unwrap_or_else(|| panic!("{name}: nothing found"));
            assert!(f.area == area && f.weight >= STRIKING && f.what.contains(word), "{name}: {f:?}");
        };
        match name.split('-').nth(3).unwrap_or_default() {
            "crash" => {
                is(Area::Crash, "order 3 failed");
                assert_eq!(first.unwrap().sure, Sure::Certain, "{name}");
            }
            "ends" => is(Area::Crash, "out of disk space: 2 left"),
            "leak" if name.contains("10.0") => is(Area::Memory, "Zoo.Zoo.Cache"),
            "leak" => is(Area::Memory, "bytes"),
            "oom" => is(Area::Memory, "no memory to give"),
            "locks" | "eleven" => is(Area::Hang, "Deadlock"),
            _ => {}
        }
        // Nothing crashed but what was written when it did.
        let crashed = all.findings.iter().any(|f| f.area == Area::Crash && f.weight >= STRIKING);
        assert_eq!(crashed, ["crash", "ends"].iter().any(|w| name.contains(w)), "{name}: {:?}", first);
    }
}
