//! Dumps of runtimes nobody has seen: copies of dumps, changed as another runtime would have them. What is answered still
//! equals the truth, what is not is named, and what was refused is said aloud.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use clrscope::clr::layout::discover::{DiscoverOptions, discover};
use clrscope::clr::layout::report::Discovered;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::watch::Watch;
use libtest_mimic::{Failed, Trial};

use crate::eleven::{self, Form};
use crate::patch::Patch;
use crate::{Case, UNANSWERED, cache, compare, options, tables};

/// What is done to the copy of a dump.
#[derive(Clone, Copy)]
enum Change {
    /// It gets the contract descriptor of .NET 11, and its version.
    Eleven(Form),
    /// `GcDacVars` gets another version.
    GcVersion(u8, u8),
    /// Both.
    ElevenWithGcVersion(u8, u8),
    /// The image has more that has the shape of `GcDacVars`.
    LookAlikes,
}

struct Variant {
    name: &'static str,
    change: Change,
    dumps: &'static [&'static str],
    /// Sets of providers, and what `!runtimes -v` says then: all of it.
    runs: &'static [(&'static str, &'static [&'static str])],
}

const CARRIES: &str = "contract descriptor over shape-";
const PARTS: &str = ", with GC at ";
const BY_DESCRIPTOR: &str = "the collector's variables by the contract descriptor";
const BY_STRUCTURE: &str = "the collector's variables by structure";
const NOT_KNOWN: &str = "only major versions 1 to 2 are known: it is not used";

const ALL: &[Variant] = &[
    Variant {
        name: "as .NET 11",
        change: Change::Eleven(Form::Bare),
        dumps: &[
            "win-x64-10.0-wks-full",
            "linux-x64-10.0-wks-heap",
            "linux-x64-10.0-clrgc-heap",
            "linux-x64-10.0-leak-heap",
            "linux-x64-9.0-svr-heap",
        ],
        runs: &[
            ("", &["version 2, ", PARTS]),
            ("-tables", &[CARRIES, PARTS]),
            ("-tables,-gcdacvars", &[CARRIES, PARTS, BY_DESCRIPTOR]),
            ("descriptor,gcdacvars", &[CARRIES, PARTS, "GcDacVars and the collector's descriptor agree"]),
            ("descriptor,structure", &[CARRIES, PARTS, BY_DESCRIPTOR]),
            (
                "descriptor",
                &[CARRIES, PARTS, BY_DESCRIPTOR, "no layout provider answers: the types that System.RuntimeType"],
            ),
        ],
    },
    Variant {
        name: "as a preview of .NET 11",
        change: Change::Eleven(Form::Typed),
        dumps: &["win-x64-10.0-wks-full", "linux-x64-10.0-clrgc-heap", "linux-x64-9.0-svr-heap"],
        runs: &[("-tables", &["version 1, ", CARRIES]), ("descriptor", &["version 1, ", CARRIES, BY_DESCRIPTOR])],
    },
    Variant {
        name: "as .NET 11 with another GcDacVars",
        change: Change::ElevenWithGcVersion(3, 0),
        dumps: &["win-x64-10.0-wks-full", "linux-x64-10.0-clrgc-heap", "linux-x64-9.0-svr-heap"],
        runs: &[
            ("-tables", &[CARRIES, NOT_KNOWN, BY_DESCRIPTOR]),
            ("descriptor,gcdacvars", &[NOT_KNOWN, BY_DESCRIPTOR]),
        ],
    },
    Variant {
        name: "GcDacVars with a newer minor version",
        change: Change::GcVersion(0, 200),
        dumps: GC_DUMPS,
        runs: &[
            ("", &[".200, generation size", "its minor version is newer than any known: the known part is used"]),
            ("gcdacvars,structure", &["its minor version is newer than any known"]),
        ],
    },
    Variant {
        name: "GcDacVars of major version 3",
        change: Change::GcVersion(3, 0),
        dumps: GC_DUMPS,
        runs: &[
            (
                "",
                &[
                    "has version 3.0, and ",
                    NOT_KNOWN,
                    BY_STRUCTURE,
                    "no layout provider answers: ",
                    "whether a collection was running",
                ],
            ),
            ("gcdacvars,structure", &[NOT_KNOWN, BY_STRUCTURE]),
        ],
    },
    Variant {
        name: "GcDacVars of major version 255",
        change: Change::GcVersion(255, 255),
        dumps: &["linux-x64-10.0-wks-heap", "win-x64-3.1-wks-full"],
        runs: &[("", &["has version 255.255, and ", NOT_KNOWN, BY_STRUCTURE])],
    },
    Variant {
        name: "GcDacVars among others like it",
        change: Change::LookAlikes,
        dumps: GC_DUMPS,
        runs: &[("", &["GcDacVars  "]), ("gcdacvars,structure", &["GcDacVars  "])],
    },
];

const GC_DUMPS: &[&str] = &[
    "linux-x64-3.1-wks-heap",
    "linux-x64-8.0-wks-heap",
    "linux-x64-9.0-svr-heap",
    "linux-x64-10.0-wks-heap",
    "linux-x64-10.0-clrgc-heap",
    "win-x64-10.0-wks-full",
    "win-x64-3.1-wks-full",
];

/// One test a variant and dump.
pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let pairs = ALL.iter().flat_map(|v| v.dumps.iter().map(move |d| (v, *d)));
    let trial = |(variant, dump): (&'static Variant, &str)| {
        let case = cases.iter().find(|c| c.name == dump).cloned()?;
        Some(Trial::test(format!("{dump} {}", variant.name), move || run(&case, variant)))
    };
    pairs.filter_map(trial).collect()
}

fn discovered(path: &Path) -> (Dump, Discovered) {
    let options = OpenOptions { cache_dir: Some(cache()), no_images: true, ..OpenOptions::default() };
    let dump = Dump::open(path, &options, &Watch::default()).unwrap();
    let found = discover(&dump, &DiscoverOptions::default()).unwrap();
    (dump, found)
}

/// Gives the struct another version; major version 0 leaves the one it has.
fn set_version(patch: &mut Patch, found: &Discovered, major: u8, minor: u8) {
    let major = if major == 0 { found.gc.major } else { major };
    patch.write(found.gc.address, &[major, minor]);
}

/// Puts two things where the image has room, mostly in front of the struct: callbacks behind a counter, as libcoreclr of 10.0.14 has them, whose counter reads 0x40
/// or another size now and then; and all that a struct has, but for a word that leads to it.
fn look_alikes(patch: &mut Patch, found: &Discovered) {
    let (image, at) = (found.module.base..found.module.end, found.gc.address);
    let put = |patch: &mut Patch, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        patch.put(&image, &bytes)
    };
    let counter = found.gc.generation_size;
    let callbacks = (0..36).map(|i| if i % 3 == 0 { image.start + 0x1000 + i / 9 } else { 0 });
    put(patch, &[2, counter].into_iter().chain(callbacks).collect::<Vec<u64>>());
    let two = put(patch, &[2]);
    let known: Vec<u64> = (0..3).map(|i| patch.ptr(at + 8 * i).unwrap()).collect();
    let begins = if (4..=6).contains(&known[2]) { &known[..] } else { &known[..2] };
    // The fifth leads to the number of the highest generation.
    let variables = (0..27).map(|i| if i == 4 { two } else { image.start + 0x1000 + 0x40 * i });
    put(patch, &begins.iter().copied().chain(variables).collect::<Vec<u64>>());
}

fn changed(case: &Case, change: Change, folder: &Path) -> PathBuf {
    let (dump, found) = discovered(&case.dump);
    let file = dump.unpacked.clone().unwrap_or(case.dump.clone());
    let mut patch = Patch::open(&file);
    match change {
        Change::Eleven(form) => eleven::describe(&mut patch, &found, form),
        Change::GcVersion(major, minor) => set_version(&mut patch, &found, major, minor),
        Change::ElevenWithGcVersion(major, minor) => {
            eleven::describe(&mut patch, &found, Form::Bare);
            set_version(&mut patch, &found, major, minor);
        }
        Change::LookAlikes => look_alikes(&mut patch, &found),
    }
    let path = folder.join(format!("{}.{}", case.name, if case.name.starts_with("win") { "dmp" } else { "core" }));
    patch.save(&path);
    path
}

fn run(case: &Case, variant: &Variant) -> Result<(), Failed> {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let truth = tables::truth_folder(&case.truth, work.path())?;
    let dump = changed(case, variant.change, work.path());
    let mut wrong = Vec::new();
    for (number, (providers, says)) in variant.runs.iter().enumerate() {
        let out = work.path().join(format!("out{number}"));
        let result = Command::new(env!("CARGO_BIN_EXE_clrscope"))
            .args(options(&case.name))
            .args((!providers.is_empty()).then(|| format!("--provider={providers}")))
            .arg(&dump)
            .args(["-c", "!runtimes -v"])
            .args(["-c", "!sosstatus"])
            .arg("-c")
            .arg(format!(".export \"{}\"", out.display()))
            .env("CLRSCOPE_CACHE", cache())
            .stdin(std::process::Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&result.stdout).into_owned();
        let mut fail = |what: String| wrong.push(format!("--provider={providers}: {what}"));
        if !result.status.success() {
            fail(format!("exit {:?}: {}\n{text}", result.status.code(), String::from_utf8_lossy(&result.stderr)));
            continue;
        }
        for words in says.iter().filter(|w| !text.contains(**w)) {
            fail(format!("does not say `{words}`:\n{}", head(&text, 0..40)));
        }
        let unanswered: Vec<(&str, &str)> =
            UNANSWERED.iter().filter(|u| text.contains(u.2)).map(|u| (u.0, u.1)).collect();
        for outcome in compare::folders(&case.name, &truth, &out, &unanswered) {
            if let Some(what) = outcome.wrong {
                fail(what);
            }
        }
        fs::remove_dir_all(&out)?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn head(text: &str, lines: Range<usize>) -> String {
    text.lines().skip(lines.start).take(lines.len()).collect::<Vec<_>>().join("\n")
}
