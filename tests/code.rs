//! From instruction pointers to methods, native and IL offsets, against the truth's tables: `frames` and `methods`.
//!
//! The dumps are those of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, all of that folder too, and with
//! `CLRSCOPE_FRAMES` set to a folder the detailed stacks in it (`NAME.frames.tsv.zst`, `NAME.ilmap.tsv.zst`).
//! `CLRSCOPE_IMAGES` names folders with the files of assemblies, separated by colons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use clrscope::clr::Clr;
use clrscope::clr::code::lookup::CodeKind;
use clrscope::clr::layout::discover::Provider;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;
use tables::{Table, load, truth_folder};

struct Case {
    name: String,
    dump: PathBuf,
    truth: Option<PathBuf>,
}

fn cases(dir: &Path) -> Vec<Case> {
    let mut found: Vec<Case> = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path()) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bare = file.strip_suffix(".zst").unwrap_or(&file);
        let Some(name) = bare.strip_suffix(".core").or_else(|| bare.strip_suffix(".dmp")) else { continue };
        let truth = [format!("{name}.truth"), format!("{name}.truth.tar.zst")];
        let truth = truth.iter().map(|t| dir.join(t)).find(|t| t.exists());
        found.push(Case { name: name.to_owned(), dump: path, truth });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn all() -> Vec<Case> {
    let mut all = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    if let Ok(more) = std::env::var("CLRSCOPE_DUMPS") {
        let more = cases(Path::new(&more)).into_iter().filter(|c| !all.iter().any(|a| a.name == c.name));
        let more: Vec<Case> = more.collect();
        all.extend(more);
    }
    if let Ok(only) = std::env::var("CLRSCOPE_ONLY") {
        all.retain(|c| c.name.contains(&only));
    }
    all
}

fn open(path: &Path) -> Option<Session> {
    open_without(path, Vec::new())
}

/// A session that does not ask some providers of layouts; `None` where there is no runtime.
fn open_without(path: &Path, providers: Vec<Provider>) -> Option<Session> {
    let images = std::env::var("CLRSCOPE_IMAGES").unwrap_or_default();
    let options = OpenOptions {
        cache_dir: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps")),
        no_images: images.is_empty(),
        image_paths: images.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect(),
        ..OpenOptions::default()
    };
    let dump = Dump::open(path, &options, &Watch::default()).unwrap();
    let session = Session::new(dump, Watch::default()).without(providers);
    session.clr().is_ok().then_some(session)
}

/// A row by the names of its columns.
struct Row<'a>(&'a Table, &'a [String]);

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        self.0.column(column).and_then(|c| self.1.get(c)).map_or("", String::as_str)
    }

    fn hex(&self, column: &str) -> u64 {
        u64::from_str_radix(self.text(column), 16).unwrap_or(0)
    }
}

fn rows(table: &Table) -> impl Iterator<Item = Row<'_>> {
    table.rows.iter().map(move |r| Row(table, r))
}

/// What was compared, and what differs.
#[derive(Default)]
struct Tally {
    equal: usize,
    differ: Vec<String>,
}

impl Tally {
    fn add(&mut self, equal: bool, what: impl FnOnce() -> String) {
        if equal {
            self.equal += 1;
        } else {
            self.differ.push(what());
        }
    }
}

fn is_mini(name: &str) -> bool {
    ["-mini", "-triage"].iter().any(|k| name.ends_with(k))
}

/// Return addresses of the truth's frames lie in the methods it names. A mini dump lacks most MethodDescs of precompiled
/// code: then none is named.
fn frames(clr: &Clr, table: &Table, tally: &mut Tally) {
    let mini = clr.dump.path.file_stem().is_some_and(|n| is_mini(&n.to_string_lossy()));
    for row in rows(table).filter(|r| r.text("kind") == "ManagedMethod" && r.hex("method_desc") != 0) {
        let (ip, method) = (row.hex("ip"), row.hex("method_desc"));
        let at = clr.code().at(ip);
        let found = at.and_then(|a| a.method);
        tally.add(found == Some(method) || found.is_none() && mini, || {
            let at = at.map(|a| format!("{:x?} token {:x?} start {:x} kind {:?}", a.method, a.token, a.start, a.kind));
            format!("frame {ip:x} {method:x} {}{}: {at:?}", row.text("text"), row.text("signature"))
        });
    }
}

/// Native code of the truth's methods belongs to them, and begins there.
fn methods(clr: &Clr, table: &Table, tally: &mut Tally) {
    for row in rows(table) {
        let (code, method) = (row.hex("native_code"), row.hex("method_desc"));
        if !matches!(row.text("compilation"), "Jit" | "Ngen") || code == 0 {
            continue;
        }
        let at = clr.code().at(code);
        let same = at.is_some_and(|a| a.start == code && a.method == Some(method));
        tally.add(same, || {
            let at = at.map(|a| format!("{:x?} token {:x?} start {:x} kind {:?}", a.method, a.token, a.start, a.kind));
            format!("method {code:x} {method:x} {}: {at:?}", row.text("signature"))
        });
    }
}

#[test]
fn instruction_pointers_lead_to_the_methods_of_the_truth() {
    let mut wrong = Vec::new();
    for case in all() {
        let Some(truth) = &case.truth else { continue };
        let Some(session) = open(&case.dump) else { continue };
        let clr = session.clr().unwrap();
        let work = tempfile::tempdir().unwrap();
        let folder = truth_folder(truth, work.path()).unwrap();
        let mut tallies = BTreeMap::new();
        for (name, compare) in [("frames", frames as fn(&Clr, &Table, &mut Tally)), ("methods", methods)] {
            let Some(table) = load(&folder.join(format!("{name}.tsv"))) else { continue };
            compare(clr, &table, tallies.entry(name).or_insert_with(Tally::default));
        }
        for (name, tally) in tallies {
            println!("{:32} {name:8} {} equal, {} not", case.name, tally.equal, tally.differ.len());
            wrong.extend(tally.differ.into_iter().take(6).map(|d| format!("{}: {d}", case.name)));
        }
        println!("    {:?} {} ranges", clr.code().partial(), clr.code().ranges().len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is known of every code block of every dump agrees with itself: its first and last byte lead to it, its functions
/// lie inside, its debug information decodes to the last byte and stays inside too.
#[test]
fn code_blocks_agree_with_themselves() {
    for case in all() {
        let Some(session) = open(&case.dump) else { continue };
        let clr = session.clr().unwrap();
        let code = clr.code();
        let (mut methods, mut stubs, mut described, mut wrong) = (0, 0, 0, Vec::new());
        for start in code.starts() {
            let Some(at) = code.at(start) else {
                wrong.push(format!("{start:x}: nothing there"));
                continue;
            };
            if at.start != start {
                wrong.push(format!("{start:x}: {at:x?}"));
            }
            if matches!(at.kind, CodeKind::Stub(_)) {
                stubs += 1;
                continue;
            }
            methods += 1;
            let last = at.length.map(|l| start + u64::from(l) - 1);
            if last.is_some_and(|l| code.at(l).is_none_or(|a| a.start != start || a.method != at.method)) {
                wrong.push(format!("{start:x} length {:x?}: {:x?}", at.length, last.and_then(|l| code.at(l))));
            }
            let Some(info) = code.debug_info(&at) else { continue };
            described += 1;
            let whole = !info.damaged && info.bounds.windows(2).all(|w| w[0].native <= w[1].native);
            let inside = info.bounds.iter().all(|b| at.length.is_none_or(|l| b.native <= l));
            if !whole || !inside || info.vars.iter().any(|v| at.length.is_some_and(|l| v.end > l)) {
                wrong.push(format!("{start:x} length {:x?} {:?}: {info:?}", at.length, at.kind));
            }
        }
        println!("{:32} {methods} methods, {described} described, {stubs} stubs, {} wrong", case.name, wrong.len());
        for w in wrong.iter().take(4) {
            println!("    {}", w.chars().take(400).collect::<String>());
        }
        // A mini dump has the code of what stands on stacks and little more.
        if is_mini(&case.name) {
            continue;
        }
        assert!(wrong.is_empty(), "{}: {}", case.name, wrong[0]);
        assert!(methods > 20, "{}: only {methods} methods", case.name);
    }
}

/// A dump of each form of the map: lists of 2.1 and 3.1, with pointers of four bytes too, and maps.
const MAPS: &[&str] = &[
    "linux-x64-2.1-wks-heap",
    "linux-x64-3.1-wks-heap",
    "linux-x64-8.0-wks-heap",
    "linux-x64-10.0-wks-heap",
    "linux-x64-10.0-plugins-heap",
    "win-x64-10.0-wks-full",
    "win-x86-3.1-small",
];

/// Without the table that names the variable, the map of code ranges is found by its structure.
#[test]
fn code_ranges_are_found_by_structure_alone() {
    let all = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    for case in all.into_iter().filter(|c| MAPS.contains(&&*c.name)) {
        let Some(named) = open(&case.dump) else { continue };
        let structure = open_without(&case.dump, vec![Provider::Descriptor, Provider::DacTable]).unwrap();
        let clr = structure.clr().unwrap();
        assert!(clr.layout().global("ExecutionManagerCodeRangeMapAddress").is_err(), "{}", case.name);
        assert_eq!(clr.code().ranges(), named.clr().unwrap().code().ranges(), "{}", case.name);
    }
}

/// Return addresses on stacks, their distance from the start of the method, and their IL offset, by Microsoft's library.
type Offsets = (&'static str, &'static [(u64, u32, u32)]);
const IL_OFFSETS: &[Offsets] = &[
    (
        "linux-x64-10.0-wks-heap",
        &[
            (0x7fad_904b_a7d1, 0x41, 12),
            (0x7fad_912a_c5a8, 0xd8, 81),
            (0x7fad_912a_1e00, 0x5a0, 438),
            (0x7fad_904b_bb5b, 0xeb, 84),
            (0x7fad_912a_b8b0, 0x60, 18),
            (0x7fad_904d_08c0, 0xa0, 45),
        ],
    ),
    // The last two: a method that handles an exception, in its main body and in the handler's funclet.
    (
        "linux-x64-10.0-crash-heap",
        &[
            (0x7f8c_790b_9eb7, 0x47, 26),
            (0x7f8c_79ea_9bb1, 0x121, 75),
            (0x7f8c_79ea_1c27, 0x3c7, 278),
            (0x7f8c_79ea_9cb8, 0x98, 20),
            (0x7f8c_79ea_9dc2, 0x1a2, 88),
        ],
    ),
    (
        "linux-x64-9.0-svr-heap",
        &[
            (0x7f42_0e4b_806b, 0x2b, 12),
            (0x7f42_0f21_a767, 0xd7, 81),
            (0x7f42_0f21_1dfe, 0x59e, 438),
            (0x7f42_0e4b_a394, 0x84, 84),
            (0x7f42_0e4c_d965, 0x75, 45),
        ],
    ),
    (
        "linux-x64-8.0-wks-heap",
        &[
            (0x7fbc_7d65_84b1, 0x11, 12),
            (0x7fbc_7e21_934f, 0xdf, 81),
            (0x7fbc_7e21_1ecd, 0x5ad, 438),
            (0x7fbc_7d65_a7e5, 0x65, 70),
            (0x7fbc_7e21_8d03, 0x83, 47),
        ],
    ),
    (
        "linux-x64-3.1-wks-heap",
        &[
            (0x7fd1_ed64_a83a, 0xea, 81),
            (0x7fd1_ed63_1a4f, 0x59f, 438),
            (0x7fd1_ed14_94cd, 0xbd, 102),
            (0x7fd1_ed64_c74c, 0x2c, 5),
            (0x7fd1_ed16_47a1, 0x21, 15),
        ],
    ),
];

#[test]
fn return_addresses_have_the_il_offsets_of_the_truth() {
    for (name, wanted) in IL_OFFSETS {
        let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{name}.core.zst"));
        let session = open(&dump).unwrap();
        let code = session.clr().unwrap().code();
        for &(ip, native, il) in *wanted {
            let at = code.at(ip).unwrap_or_else(|| panic!("{name}: nothing at {ip:x}"));
            assert_eq!((at.native, code.il_of_return(&at)), (native, Some(il)), "{name}: {ip:x}");
        }
    }
}

fn packed(path: &Path) -> Option<Table> {
    let mut text = Vec::new();
    zstd::Decoder::new(std::fs::File::open(path).ok()?).unwrap().read_to_end(&mut text).unwrap();
    let plain = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(plain.path(), text).unwrap();
    load(plain.path())
}

/// Detailed stacks: starts, native and IL offsets, bounds. Prints what differs: the truth has its own faults.
#[test]
fn detailed_stacks() {
    let Ok(folder) = std::env::var("CLRSCOPE_FRAMES") else { return };
    let mut sums: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in all() {
        let table = |kind: &str| packed(&Path::new(&folder).join(format!("{}.{kind}.tsv.zst", case.name)));
        let Some(truth) = table("frames") else { continue };
        let Some(session) = open(&case.dump) else { continue };
        let clr = session.clr().unwrap();
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        frames(clr, &truth, tallies.entry("method").or_default());
        let mut ips: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for row in rows(&truth).filter(|r| r.text("kind") == "ManagedMethod") {
            let ip = row.hex("ip");
            let Some(at) = clr.code().at(ip) else { continue };
            ips.entry(row.hex("method_desc")).or_default().insert(ip);
            let what = || format!("{ip:x} {} {:?}", row.text("signature"), at.kind);
            if row.hex("hot_start") != 0 && at.start == row.hex("hot_start") {
                let length = at.length.map(u64::from);
                tallies.entry("length").or_default().add(length == Some(row.hex("hot_size")), || {
                    format!("{} length {length:x?} truth {:x}", what(), row.hex("hot_size"))
                });
            }
            if row.hex("hot_start") != 0 {
                tallies.entry("start").or_default().add(at.start == row.hex("hot_start"), what);
            }
            if row.hex("token") & 0xFF_FFFF != 0 {
                let same = at.token.map(u64::from) == Some(row.hex("token"));
                tallies
                    .entry("token")
                    .or_default()
                    .add(same, || format!("{} truth {:x} ours {:x?}", what(), row.hex("token"), at.token));
            }
            if !row.text("signature").is_empty() {
                let name = clr.code().name(&at);
                let same = name.as_deref() == Some(row.text("signature"));
                tallies.entry("name").or_default().add(same, || format!("{} ours {name:?}", what()));
            }
            if let Ok(il) = row.text("il_offset").parse::<i64>()
                && il >= 0
            {
                let ours = clr.code().il_of_return(&at);
                tallies.entry("il").or_default().add(ours.map(i64::from) == Some(il), || {
                    format!("{} truth {il} ours {ours:?} info {:x?}", what(), at.debug_info)
                });
            }
        }
        if let Some(map) = table("ilmap") {
            let mut of: BTreeMap<u64, BTreeSet<(u64, i32)>> = BTreeMap::new();
            for row in rows(&map) {
                let il = row.text("il_offset").parse().unwrap();
                of.entry(row.hex("method_desc")).or_default().insert((row.hex("native_start"), il));
            }
            for (method, wanted) in of {
                let found: Vec<_> =
                    ips.get(&method).into_iter().flatten().filter_map(|&ip| clr.code().at(ip)).collect();
                let maps: Vec<BTreeSet<(u64, i32)>> = found
                    .iter()
                    .filter_map(|at| Some((at, clr.code().debug_info(at)?)))
                    .map(|(at, d)| d.bounds.iter().map(|b| (at.start + u64::from(b.native), b.il)).collect())
                    .collect();
                // The truth leaves out what is empty.
                let same = maps.iter().any(|m| wanted.is_subset(m));
                let kind = found.first().map(|a| a.kind);
                let counts = (wanted.len(), maps.first().map(BTreeSet::len));
                if maps.is_empty() && kind == Some(CodeKind::ReadyToRun) {
                    continue;
                }
                tallies.entry("bounds").or_default().add(same, || format!("{method:x} {kind:?} {counts:?}"));
            }
        }
        for (name, tally) in tallies {
            println!("{:32} {name:8} {} equal, {} not", case.name, tally.equal, tally.differ.len());
            for d in tally.differ.iter().take(if std::env::var("CLRSCOPE_VERBOSE").is_ok() { 12 } else { 2 }) {
                println!("      {d}");
            }
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + tally.equal, sum.1 + tally.differ.len());
        }
    }
    for (name, (equal, not)) in sums {
        println!("all {name:8} {equal} equal, {not} not");
    }
}
