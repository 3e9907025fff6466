//! What is said where a runtime is in a dump and cannot be read: what to collect, which providers to ask, which build to report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/make_core.rs"]
mod make_core;
#[path = "support/make_framework.rs"]
mod make_framework;
#[path = "support/make_image.rs"]
mod make_image;
#[path = "support/make_metadata.rs"]
mod make_metadata;
#[path = "support/make_minidump.rs"]
mod make_minidump;
#[path = "support/make_mscorwks.rs"]
mod make_mscorwks;
#[path = "support/patch.rs"]
mod patch;

use std::process::{Command, Stdio};

use clrscope::clr::layout::provider::Provider;
use clrscope::clr::layout::tables::{TABLES, Table};
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;
use make_framework::{IMAGE, LARGE, Made, RUNTIME, SEGMENT, build};
use make_minidump::{Mini, MiniModule, X64};
use patch::Patch;
use tempfile::NamedTempFile;

const ASKED: &str = "this build is asked for: ";
const REPORT: &str = "a report with what !runtimes -v prints, which holds nothing of the program's data, to ";
const WINDOWS: &str = "take a heap or full dump (clrscope collect -t heap, procdump -ma)";
const LINUX: &str = "take a heap or full dump (clrscope collect -t heap, gcore)";
const ALL: &str = "ask all providers: some are switched off";

fn file(bytes: &[u8]) -> NamedTempFile {
    let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// Why the runtime of a dump is refused when `off` are not asked.
fn refused(file: &NamedTempFile, off: &[Provider]) -> String {
    let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
    let session = Session::new(dump, Watch::default()).without(off.to_vec());
    let why = session.clr().err().map(|e| e.to_string());
    let why = why.expect("the runtime is read");
    why.strip_prefix("the .NET runtime in this dump cannot be read: ").unwrap_or_else(|| panic!("{why}")).to_owned()
}

/// Everything asked for, and nothing else that could be done.
fn only(said: &str, wanted: &str) {
    for other in [ASKED, WINDOWS, LINUX, ALL].iter().filter(|o| !wanted.contains(**o)) {
        assert!(!said.contains(other), "{other} in {said}");
    }
    assert!(said.ends_with(wanted), "{said}\ndoes not end with {wanted}");
}

fn asked(build: &str) -> String {
    format!("{ASKED}{build}; {REPORT}{} helps", env!("CARGO_PKG_REPOSITORY"))
}

/// A process with `coreclr.dll`, of which the pages `pages` are in the dump, protected so.
fn windows(pages: &[(u64, u32)]) -> NamedTempFile {
    const BASE: u64 = 0x7FF8_0000_0000;
    let mut m = Mini::new();
    m.system(X64, 2);
    m.modules(&[MiniModule {
        base: BASE,
        size: 0x4000,
        name: r"C:\dotnet\coreclr.dll",
        timestamp: 0x6543_2100,
        version: [12, 0, 23, 4],
        pdb: "",
    }]);
    m.threads(&[]);
    let told: Vec<_> =
        pages.iter().map(|&(p, protect)| (BASE + p, 0x1000, BASE, 0x1000, protect, 0x100_0000)).collect();
    if told.iter().any(|t| t.4 != 0) {
        m.memory_info(&told);
    }
    m.memory64(pages.iter().map(|&(p, _)| (BASE + p, vec![0; 0x1000])).collect());
    file(&m.finish())
}

#[test]
fn a_dump_without_the_runtimes_variables_is_to_be_taken_anew() {
    const READ_ONLY: u32 = 0x02;
    const CODE: u32 = 0x20;
    let headers = [(0, READ_ONLY), (0x1000, CODE), (0x2000, CODE)];
    // No page at all, the headers, and pages that the process could not write to.
    for pages in [&[][..], &[(0, 0)], &headers] {
        let said = refused(&windows(pages), &[]);
        assert!(
            said.starts_with(r"C:\dotnet\coreclr.dll is loaded, but the collector's variables are not in the dump; ")
        );
        only(&said, WINDOWS);
    }
    let mut core = make_core::everything();
    for segment in core.segments.iter_mut().filter(|s| s.0 >= 0x7F00_0000_0000 && s.0 < 0x7F10_0000_0000) {
        segment.3.clear();
    }
    let said = refused(&file(&core.finish()), &[]);
    assert!(said.starts_with("/usr/lib/libcoreclr.so is loaded, but the collector's variables are not in the dump; "));
    only(&said, LINUX);
}

#[test]
fn a_build_that_nobody_knows_is_asked_for_by_its_identity() {
    const WRITABLE: u32 = 0x04;
    let build = "coreclr.dll 12.0.23.4 (Windows, x64, index 654321004000)";
    // One page of variables is enough; where the dump does not tell, most of the image.
    let untold: Vec<(u64, u32)> = (0..3).map(|i| (i * 0x1000, 0)).collect();
    for pages in [&[(0x3000, WRITABLE)][..], &untold] {
        let said = refused(&windows(pages), &[]);
        assert!(said.starts_with(r"C:\dotnet\coreclr.dll is loaded, but the collector's variables are not found; "));
        only(&said, &asked(build));
    }
    let mut core = make_core::everything();
    core.segments.iter_mut().for_each(|s| s.3.resize(s.1 as usize, 0));
    let said = refused(&file(&core.finish()), &[]);
    only(&said, &asked(&format!("libcoreclr.so of unknown version (Linux, x64, index {})", "02".repeat(20))));
}

#[test]
fn where_providers_are_switched_off_they_are_to_be_asked_first() {
    let whole: Vec<(u64, u32)> = (0..4).map(|i| (i * 0x1000, 0)).collect();
    // Whatever is in the dump: whether the runtime's data are, nobody has looked everywhere.
    for pages in [&[][..], &whole] {
        let said = refused(&windows(pages), &[Provider::GcDacVars]);
        assert!(
            said.contains("the collector's variables are not found by the providers that may be asked; "),
            "{said}"
        );
        only(&said, ALL);
    }
}

fn framework() -> (&'static Table, Made) {
    let table = TABLES.iter().find(|t| t.name == "clr-4.8-windows-x64").unwrap();
    (table, build(table))
}

/// The build that the builder's dumps of .NET Framework are of.
const BUILT: &str = "clr.dll 4.8.9999.0 (Windows, x64, index 710000)";

/// A copy of the dump, changed.
fn changed(made: &Made, change: impl FnOnce(&mut Patch)) -> NamedTempFile {
    let file = file(&made.bytes);
    let mut patch = Patch::open(file.path());
    change(&mut patch);
    patch.save(file.path());
    file
}

#[test]
fn what_no_layout_fits_is_asked_for_unless_a_provider_would_have_one() {
    let (_, made) = framework();
    // The collector's variables are there, and nothing leads to a type.
    let bare = changed(&made, |p| {
        p.write(IMAGE + 0x2000, &[0; 4]);
        p.write(RUNTIME, &[0; 0x2_0000]);
    });
    let said = refused(&bare, &[]);
    let fits = "no layout fits: no built-in table of this system does, and structure";
    assert!(said.contains(&format!("clr.dll has the collector's variables, but {fits} finds none; ")), "{said}");
    only(&said, &asked(BUILT));
    let said = refused(&bare, &[Provider::Structure]);
    assert!(said.contains(&format!("{fits} may not be asked; ")), "{said}");
    only(&said, ALL);
    let said = refused(&bare, &[Provider::Structure, Provider::Tables]);
    assert!(said.contains("built-in tables may not be asked, and structure may not be asked; "), "{said}");
    only(&said, ALL);
}

#[test]
fn the_nearest_table_is_named_with_what_fails() {
    let (table, made) = framework();
    let class = made.locked;
    // The classes of Object and String lead elsewhere.
    let broken = changed(&made, |p| {
        for object in [class, made.strings[0]] {
            let mt = p.ptr(object).unwrap();
            let class = p.ptr(mt + table.layout().offset("MethodTable", "EEClassOrCanonMT").unwrap()).unwrap();
            p.write(class, &[0x5A; 0x80]);
        }
    });
    let said = refused(&broken, &[]);
    let rest = said.split_once("the nearest table is clr-4.8-windows-x64, but ").map(|s| s.1).unwrap_or_default();
    let (check, found) = rest.split_once(": expected ").unwrap_or_default();
    assert!(!check.is_empty() && found.contains(", found "), "{said}");
    only(&said, &asked(BUILT));
    only(&refused(&broken, &[Provider::Structure]), ALL);
}

#[test]
fn a_dump_without_types_is_to_be_taken_anew_and_a_build_that_fails_besides_is_asked_for() {
    let (table, made) = framework();
    // What was the runtime's own memory and the heap lies elsewhere: nothing is where pointers lead.
    let mut bytes = made.bytes.clone();
    for (start, size) in [(RUNTIME, 0x2_0000u64), (SEGMENT, 0x4000), (LARGE, 0x2000)] {
        let entry = [start.to_le_bytes(), size.to_le_bytes()].concat();
        let at = bytes.windows(16).position(|w| w == entry).unwrap();
        bytes[at..at + 8].copy_from_slice(&(start + 0x3000_0000).to_le_bytes());
    }
    let without = Made { bytes, ..made };
    let said = refused(&file(&without.bytes), &[]);
    let why = "the memory that would prove a layout is not in the dump (";
    assert!(said.contains(why) && said.contains(" checks passed, 0 failed); "), "{said}");
    only(&said, WINDOWS);
    // A variable that leads nowhere is more than missing memory.
    let other = changed(&without, |p| {
        let slot = IMAGE + 0x2000 + 4 * table.layout().dac_slots["SyncTableEntries"] as u64;
        let cell = u32::from_le_bytes(p.read(slot, 4).unwrap().try_into().unwrap());
        p.write(IMAGE + u64::from(cell), &[0; 8]);
    });
    let said = refused(&other, &[]);
    assert!(said.contains(why) && said.contains(" 1 failed: sync table); "), "{said}");
    only(&said, &format!("{WINDOWS}; {}", asked(BUILT)));
    let said = refused(&other, &[Provider::Descriptor]);
    only(&said, &format!("{WINDOWS}; {ALL}"));
}

/// What the program itself says, and how it ends.
fn run(file: &NamedTempFile, options: &[&str], command: &str) -> (String, bool) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_clrscope"));
    let out = run.arg(file.path()).args(options).args(["-c", command]).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr), out.status.success())
}

#[test]
fn a_command_that_needs_the_runtime_says_why_and_fails() {
    let dump = windows(&[(0, 0)]);
    for command in ["!dumpheap -stat", "!clrthreads", "!gcroot 1000"] {
        let (said, good) = run(&dump, &[], command);
        assert!(said.contains(WINDOWS) && !good, "{command}: {said}");
    }
    // What needs no runtime is answered all the same.
    let (said, good) = run(&dump, &[], "lm");
    assert!(said.contains("coreclr") && good, "{said}");
}

#[test]
fn a_prediction_is_said_on_opening_and_asks_for_the_build_once() {
    let table = TABLES.iter().find(|t| t.name == "clr-2.0-windows-x86").unwrap();
    let dump = file(&build(table).bytes);
    let build = asked("mscorwks.dll 4.8.9999.0 (Windows, x86, index 710000)");
    for command in ["!runtimes", "!runtimes -v"] {
        let (said, good) = run(&dump, &[], command);
        assert!(good && said.contains("experimental, from shared source"), "{said}");
        assert_eq!(said.matches(&build).count(), 1, "{said}");
    }
    // With providers switched off what is not known says nothing of the build.
    let (said, _) = run(&dump, &["--provider", "-descriptor"], "!runtimes -v");
    assert!(!said.contains(ASKED), "{said}");
}
