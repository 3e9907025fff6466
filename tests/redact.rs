//! What is planted in a dump as a secret (strings, messages, paths, environment, command line, thread names) leaves with
//! `--redact` by no way: no answer, no table of `.export`, no report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/runner.rs"]
mod runner;

use std::fs;
use std::path::{Path, PathBuf};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::shell::Format;
use clrscope::watch::Watch;
use runner::Runner;

/// Texts of a dump and secrets of the same length; the first four characters of each are looked for.
const LEAK: (&str, &[(&str, &str, bool)]) = (
    "linux-x64-10.0-leak-heap.core.zst",
    &[
        ("/api/orders/", "QXA_orders_z", true),
        ("session/", "QXB_sess", true),
        ("GLOBALIZATION", "QXC_LIZATIONS", false),
        ("/srv/app/", "/QXD/app/", false),
        ("/srv/app/", "/QXD/app/", true),
    ],
);
const CRASH: (&str, &[(&str, &str, bool)]) = (
    "linux-x64-10.0-crash-heap.core.zst",
    &[("order 3 failed", "QXE_3 failed_x", true), ("bottom of it", "QXF_om of it", true), ("crasher", "QXG_her", true)],
);

fn bytes(text: &str, wide: bool) -> Vec<u8> {
    if wide { text.encode_utf16().flat_map(u16::to_le_bytes).collect() } else { text.as_bytes().to_vec() }
}

fn planted((dump, plants): (&str, &[(&str, &str, bool)]), folder: &Path) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), ..OpenOptions::default() };
    let unpacked = Dump::open(&path, &options, &Watch::default()).unwrap().unpacked.unwrap();
    let mut all = fs::read(unpacked).unwrap();
    for &(from, to, wide) in plants {
        let (from_bytes, to) = (bytes(from, wide), bytes(to, wide));
        assert_eq!(from_bytes.len(), to.len(), "{from}");
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(n) = find(&all[at..], &from_bytes) {
            places.push(at + n);
            at += n + from_bytes.len();
        }
        assert!(!places.is_empty(), "{from} is not in {dump}");
        places.iter().for_each(|&n| all[n..n + to.len()].copy_from_slice(&to));
    }
    let copy = folder.join(dump.trim_end_matches(".zst"));
    fs::write(&copy, all).unwrap();
    copy
}

fn find(all: &[u8], what: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(n) = all[at..].iter().position(|&b| b == what[0]) {
        if all[at + n..].starts_with(what) {
            return Some(at + n);
        }
        at += n + 1;
    }
    None
}

/// Where each secret is found in a text.
fn told(what: &str, text: &str, into: &mut Vec<String>) {
    for at in text.match_indices("QX").map(|m| m.0) {
        let mark = &text[at..text.len().min(at + 4)];
        if mark.len() == 4 && mark.ends_with('_') || mark.starts_with("QXD") {
            let from = text[..at].char_indices().rev().nth(60).map_or(0, |c| c.0);
            into.push(format!("{what}: {}", text[from..].chars().take(100).collect::<String>()));
        }
    }
}

fn files(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, into),
            false => told(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap()), into),
        }
    }
}

/// Commands that show bytes as they are, on purpose, or what the user typed.
const RAW: &[&str] = &["savemodule", "writemem", "logopen", "logappend", "logclose", "shell"];

#[test]
fn nothing_planted_leaves() {
    for plants in [LEAK, CRASH] {
        let folder = tempfile::tempdir().unwrap();
        let dump = planted(plants, folder.path());
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut runner = Runner::on(dump.to_str().unwrap());
        runner.shell.state.errors = Some(Default::default());
        // They are there to be found.
        let (mut seen, mut leaks) = (Vec::new(), Vec::new());
        for line in ["!strings", "!dumpexceptions", "!clrmodules", "!peb", "!clrthreads"] {
            told(line, &runner.run(line).1, &mut seen);
        }
        assert!(seen.len() > 2, "{seen:?}");
        let examples = runner.examples(plants.0, &out);
        runner.shell.settings.redact = true;
        let mut lines: Vec<String> =
            examples.iter().filter(|e| !RAW.contains(&e.command.name)).map(|e| e.line.clone()).collect();
        lines.extend(
            ["!peb", "!pe", "!pe -nested", "!dumpexceptions", "~", "lm", "!analyze -v", ".lastevent"]
                .map(str::to_owned),
        );
        lines.push(format!(".report {} -with-values", out.join("r.html").display()));
        lines.push(format!(".report {} -with-values", out.join("r.json").display()));
        for style in ["tsv", "csv", "jsonl"] {
            lines.push(format!(".export {} -format {style}", out.join(style).display()));
        }
        let few = lines.split_off(examples.len().min(lines.len()).saturating_sub(RAW.len()));
        for (format, lines) in [(Format::Json, [&lines[..], &few[..]].concat()), (Format::Csv, few)] {
            runner.shell.format = format;
            for line in &lines {
                told(&format!("{line} as {format:?}"), &runner.run(line).1, &mut leaks);
            }
        }
        runner.shell.format = Format::Text;
        runner.run("!strings");
        let errors = std::mem::take(&mut *runner.shell.state.errors.as_ref().unwrap().lock().unwrap());
        assert!(errors.last().is_some_and(|e| e.contains("--redact")), "{errors:?}");
        files(&out, &mut leaks);
        assert!(out.join("r.html").is_file() && out.join("tsv/strings.tsv").is_file());
        let n = leaks.len();
        assert!(n == 0, "{n} of {}:\n{}", plants.0, leaks[..n.min(40)].join("\n"));
    }
}
