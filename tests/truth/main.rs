//! Holds what `.export` writes against the truth tables beside each dump: one test a dump.
//!
//! The dumps are those of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, all of that folder too. What lies there may
//! be compressed (`NAME.core.zst`, `NAME.truth.tar.zst`) or unpacked (`NAME.core`, `NAME.truth/`). `CLRSCOPE_OPTIONS`
//! is added to the command line (for example `-i FOLDER` with the files of assemblies the dumps lack), that of
//! `CLRSCOPE_OPTIONS_FOR`, lines of `PATTERN=OPTIONS`, to those of dumps whose name matches (`*` stands for anything).
//! With `CLRSCOPE_ACCURACY` set to a file, what was compared is written there as a table: `docs/accuracy.md` shows it.
//!
//! Each dump is read once more with each set of layout providers switched off: what is still answered equals the truth,
//! and what is not answered is named. So it is with dumps of runtimes nobody has seen (`variants.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod accuracy;
mod compare;
mod delegates;
#[path = "../support/eleven.rs"]
mod eleven;
mod frames;
#[path = "../support/patch.rs"]
mod patch;
#[path = "../support/pattern.rs"]
mod pattern;
mod tables;
mod variants;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use pattern::matches;

/// One dump and its truth.
#[derive(Clone)]
struct Case {
    name: String,
    dump: PathBuf,
    truth: PathBuf,
}

/// Dumps with a truth beside them.
fn cases(dir: &Path) -> Vec<Case> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bare = file.strip_suffix(".zst").unwrap_or(&file);
        let Some(name) = bare.strip_suffix(".core").or_else(|| bare.strip_suffix(".dmp")) else { continue };
        let truth =
            [format!("{name}.truth"), format!("{name}.truth.tar.zst")].iter().map(|t| dir.join(t)).find(|t| t.exists());
        if let Some(truth) = truth
            && !found.iter().any(|c: &Case| c.name == name)
        {
            found.push(Case { name: name.to_owned(), dump: path, truth });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Dumps taken inside a collection: the truth's reader could not walk all of it, so its tables are not the measure.
fn in_collection(name: &str) -> bool {
    name.contains("-ingc-")
}

/// Providers that are asked; the first set is all of them.
const PROVIDERS: &[&str] = &[
    "",
    "-descriptor",
    "-tables",
    "-dactable",
    "-gcdacvars",
    "-structure",
    "gcdacvars,dactable,structure",
    "gcdacvars,structure",
    "structure",
];

/// What a set of providers may leave unanswered, if the answer says so: table, column, the words.
const UNANSWERED: &[(&str, &str, &str)] = &[("threads", "finalizer", "which thread is the finalizer is not known")];

/// Options for the dump `name`.
fn options(name: &str) -> Vec<String> {
    let split = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut all = split(&std::env::var("CLRSCOPE_OPTIONS").unwrap_or_default());
    for line in std::env::var("CLRSCOPE_OPTIONS_FOR").unwrap_or_default().lines() {
        if let Some((pattern, options)) = line.split_once('=')
            && matches(pattern.trim(), name)
        {
            all.extend(split(options));
        }
    }
    all
}

fn run(case: &Case, providers: &str) -> Result<(), Failed> {
    let work = tempfile::tempdir()?;
    let truth = tables::truth_folder(&case.truth, work.path())?;
    let out = work.path().join("out");
    let switch = (!providers.is_empty()).then(|| format!("--provider={providers}"));
    let result = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .args(options(&case.name))
        .args(switch)
        .arg(&case.dump)
        .arg("-c")
        .arg(format!(".export \"{}\"", out.display()))
        .env("CLRSCOPE_CACHE", cache())
        .stdin(std::process::Stdio::null())
        .output()?;
    // A mini dump lacks the types that would prove a layout: without the tables it is refused, aloud.
    let mini = ["-mini", "-triage"].iter().any(|k| case.name.contains(k));
    if mini && !providers.is_empty() && String::from_utf8_lossy(&result.stderr).contains("cannot be read: ") {
        return Ok(());
    }
    if !result.status.success() {
        return Err(format!("exit {:?}: {}", result.status.code(), String::from_utf8_lossy(&result.stderr)).into());
    }
    if in_collection(&case.name) {
        let text = String::from_utf8_lossy(&result.stdout).into_owned();
        let said = text.contains("partial") && text.contains("garbage collection");
        if providers.is_empty() {
            accuracy::in_collection(&case.name, &truth, &out);
        }
        return if said { Ok(()) } else { Err(format!("says nothing of the collection:\n{text}").into()) };
    }
    let text = String::from_utf8_lossy(&result.stdout);
    let unanswered: Vec<(&str, &str)> = UNANSWERED
        .iter()
        .filter(|u| text.contains(u.2))
        .map(|u| (u.0, u.1))
        .filter(|_| !providers.is_empty())
        .collect();
    let mut outcomes = compare::folders(&case.name, &truth, &out, &unanswered);
    if providers.is_empty() {
        // Without a provider explicit frames may not be told apart, and where they cannot the stack says so.
        outcomes.extend(frames::compare(&case.name, &truth, &out));
        accuracy::add(&case.name, &truth, &outcomes);
    }
    let wrong: Vec<String> = outcomes.into_iter().filter_map(|o| o.wrong).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// Unpacked dumps are shared by all tests of a build.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps")
}

fn main() {
    let arguments = Arguments::from_args();
    let mut all = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    if let Ok(more) = std::env::var("CLRSCOPE_DUMPS") {
        for case in cases(Path::new(&more)) {
            if !all.iter().any(|c| c.name == case.name) {
                all.push(case);
            }
        }
    }
    assert!(!all.is_empty(), "no dumps with truth tables in testdata/");
    let variants = variants::trials(&all);
    let trials = all.into_iter().flat_map(|case| {
        PROVIDERS.iter().map(move |&p| {
            let case = case.clone();
            let name = if p.is_empty() { case.name.clone() } else { format!("{} --provider={p}", case.name) };
            Trial::test(name, move || run(&case, p))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.chain(variants).collect());
    if let Ok(file) = std::env::var("CLRSCOPE_ACCURACY") {
        fs::write(&file, accuracy::table()).expect("the table of what was compared cannot be written");
    }
    conclusion.exit();
}
