//! NativeAOT: everything exported of a program compiled ahead of time held against tables that an independent reader wrote of
//! the same dump, and against what the program said of itself; the same without its file, and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/ask.rs"]
mod ask;
#[path = "support/debug_file.rs"]
mod debug_file;
#[path = "support/patch.rs"]
mod patch;
#[path = "aot/windows.rs"]
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clrscope::aot::image::{self, section};
use clrscope::clr::code::gcinfo::Stop;
use clrscope::clr::code::stack::LiveSlot;
use clrscope::clr::runtime::threads::ClrThread;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;
use debug_file::DebugFile;
use patch::Patch;

const DYN: &str = "linux-x64-9.0-nativeaot-dyn-full";
/// Without the pages of the program's file.
const GCORE: &str = "linux-x64-10.0-nativeaot-gcore";

fn testdata(name: &str, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/aot").join(format!("{name}.{ending}"))
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut decoder = zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap();
    decoder.window_log_max(31).unwrap();
    let mut out = Vec::new();
    std::io::copy(&mut decoder, &mut out).unwrap();
    out
}

/// Rows as maps from column to cell; what follows a blank in the heading is commentary.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let head: Vec<String> =
        lines.next().unwrap().split('\t').map(|h| h.split(' ').next().unwrap().to_owned()).collect();
    lines.map(|l| head.iter().cloned().zip(l.split('\t').map(str::to_owned)).collect()).collect()
}

/// Rows of these columns alone, references in no order.
fn cells(rows: &[BTreeMap<String, String>], columns: &[&str]) -> BTreeSet<Vec<String>> {
    let cell = |r: &BTreeMap<String, String>, c: &str| {
        let text = r.get(c).cloned().unwrap_or_default();
        let mut words: Vec<&str> = text.split(' ').collect();
        if c == "references" {
            words.sort_unstable();
        }
        words.join(" ").to_lowercase()
    };
    rows.iter().map(|r| columns.iter().map(|c| cell(r, c)).collect()).collect()
}

/// Folder with the tables that `.export` writes.
fn exported(dump: &Path) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let said = ask::ask(dump, &[format!(".export \"{}\"", out.path().display())]);
    assert!(!said[0].is_empty());
    out
}

/// Table, columns, whether the truth may be a sample.
const TABLES: &[(&str, &[&str], bool)] = &[
    ("objects", &["address", "method_table", "size", "generation"], false),
    ("types", &["method_table", "count", "bytes", "name"], false),
    ("edges", &["object", "references"], false),
    ("fields", &["method_table", "offset", "field", "element_type", "field_type"], false),
    ("handles", &["address", "kind", "object", "dependent"], false),
    ("finalizable", &["object", "f_reachable"], false),
    ("segments", &["objects_start", "kind", "heap", "objects_end"], false),
    ("threads", &["address", "os_id", "managed_id", "exception"], false),
    ("strings", &["object", "length", "text"], true),
    ("exceptions", &["object", "hresult", "message", "inner"], false),
];

#[test]
fn tables_are_those_of_the_truth() {
    compare(&testdata(DYN, "core.zst"));
}

/// A copy of the dump to change, in a folder of its own.
fn whole_copy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.core");
    fs::write(&path, unpacked(&testdata(DYN, "core.zst"))).unwrap();
    (folder, path)
}

/// What the program wrote of where something of it lies.
fn fact(name: &str) -> String {
    let facts = fs::read_to_string(testdata(DYN, "facts.tsv")).unwrap();
    facts.lines().find_map(|l| l.strip_prefix(&format!("address:{name}\t"))).unwrap().to_owned()
}

/// Holds every table exported of the dump at `path` against the truth.
fn compare(path: &Path) {
    let (out, work) = (exported(path), tempfile::tempdir().unwrap());
    let packed = unpacked(&testdata(DYN, "truth.tar.zst"));
    tar::Archive::new(&packed[..]).unpack(work.path()).unwrap();
    for (table, columns, sample) in TABLES {
        let file = format!("{table}.tsv");
        let mut truth = rows(&fs::read_to_string(work.path().join(&file)).unwrap());
        let mut ours = rows(&fs::read_to_string(out.path().join(&file)).unwrap());
        match *table {
            // Shapes of static bases are no types of the program; fields are those of types whose records the image has.
            "types" => ours.retain(|r| !r["name"].contains("static base")),
            "fields" => ours.retain(|r| truth.iter().any(|t| t["method_table"] == r["method_table"])),
            _ => {}
        }
        if *sample {
            let known = cells(&truth, &columns[..1]);
            ours.retain(|r| known.contains(&vec![r[columns[0]].clone()]));
        }
        truth.retain(|r| !r.is_empty());
        assert!(!truth.is_empty());
        let (truth, ours) = (cells(&truth, columns), cells(&ours, columns));
        let missing: Vec<_> = truth.difference(&ours).take(3).collect();
        let extra: Vec<_> = ours.difference(&truth).take(3).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{table}: missing {missing:?}, extra {extra:?}");
    }
}

/// `Type.Method` without type arguments and parameters.
fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in name.split('(').next().unwrap().chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        if depth == 0 && c != ']' {
            out.push(c);
        }
    }
    out.split('`')
        .enumerate()
        .map(|(i, p)| if i == 0 { p } else { p.trim_start_matches(|c: char| c.is_ascii_digit()) })
        .collect()
}

#[test]
fn managed_frames_are_those_of_the_truth() {
    let out = exported(&testdata(DYN, "core.zst"));
    let stacks = |rows: &[BTreeMap<String, String>]| {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for r in rows.iter().filter(|r| r["kind"] == "ManagedMethod" && !r["signature"].is_empty()) {
            all.entry(r["os_id"].clone()).or_default().push(plain(&r["signature"]));
        }
        all
    };
    let truth = stacks(&rows(&String::from_utf8(unpacked(&testdata(DYN, "frames.tsv.zst"))).unwrap()));
    let ours = stacks(&rows(&fs::read_to_string(out.path().join("frames.tsv")).unwrap()));
    assert_eq!(truth.len(), 7);
    for (thread, frames) in truth {
        assert_eq!(ours.get(&thread), Some(&frames), "thread {thread}");
    }
}

#[test]
fn objects_are_as_the_program_said() {
    let facts = fs::read_to_string(testdata(DYN, "facts.tsv")).unwrap();
    let fact = |name: &str| facts.lines().find_map(|l| l.strip_prefix(&format!("{name}\t"))).unwrap().to_owned();
    let of = |command: &str, name: &str| format!("{command} {}", fact(&format!("address:{name}")));
    let commands = [
        of("!do", "refl"),
        of("!pe", "exception"),
        of("!gcroot", "refl"),
        "!syncblk".into(),
        "!threads".into(),
        of("!gcroot", "plainRoot"),
        of("!dumpdelegate", "staticDelegate"),
        of("!dumpdelegate", "closure"),
    ];
    let said = ask::ask(&testdata(DYN, "core.zst"), &commands);
    let text: Vec<String> = said.iter().map(|b| b.join("\n")).collect();
    let field = |name: &str| {
        let line = said[0].iter().find(|l| l.split_whitespace().last() == Some(name)).unwrap();
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    assert!(text[0].contains("Name:        Dyn.Refl"), "{}", text[0]);
    assert_eq!((field("c"), field("N")), (fact("field:c"), fact("field:N")));
    // Frames of the trace, with the distance that the program printed itself.
    let trace = fact("stack");
    for method in ["Dyn.P.Rethrow()+0x49", "Dyn.P.Main(System.String[])+0xa28"] {
        assert!(text[1].contains(method), "{}", text[1]);
        let (name, offset) = method.rsplit_once('+').unwrap();
        assert!(trace.contains(&format!("{} + {offset}", name.replace("System.String[]", "String[] a"))), "{trace}");
    }
    assert!(text[2].contains("strong handle") && text[2].contains("Dyn.Refl"), "{}", text[2]);
    assert!(text[6].contains("Dyn.P.Twice(Int32)"), "{}", text[6]);
    assert!(text[7].contains("Dyn.P+<>c__DisplayClass6_0.<Main>b__0(Int32)"), "{}", text[7]);
    // Whose statics they are the image does not say; the code that refers to them does.
    for (root, owner) in [(&text[2], "Dyn.P"), (&text[5], "Dyn.Plain")] {
        assert!(root.contains(&format!("static base of {owner}\n")), "{root}");
        assert!(root.contains(&format!("(static variable: {owner}+0x")), "{root}");
    }
    assert!(text[3].contains(&fact("address:contended")), "{}", text[3]);
    let owner = said[4].iter().find(|l| l.contains("\"lock owner\"")).unwrap();
    let thread = owner.split_whitespace().nth(3).unwrap();
    assert!(text[3].contains(thread), "the thread that owns it holds it: {}", text[3]);
    assert!(text[4].contains("(Finalizer)"), "{}", text[4]);
}

#[test]
fn what_such_a_program_does_not_have_is_said_in_a_line() {
    let commands =
        ["!dumpmd 1000", "!dumpil 1000", "!dumpalc 1000", "!dumpclass 1000", "!dumpdomain", "!eeheap -loader"]
            .map(String::from);
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(testdata(DYN, "core.zst"))
        .args(commands.iter().flat_map(|c| ["-c", c]))
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert_eq!(text.matches("has no meaning here: a NativeAOT program has no").count(), 5, "{text}");
    assert!(text.contains("has no loader heaps"), "{text}");
}

#[test]
fn without_the_programs_file_objects_are_walked_and_names_are_missed() {
    let commands = ["!runtimes", "!dumpheap -stat", "!gchandles -stat", "!verifyheap"].map(String::from);
    let said = ask::ask(&testdata(GCORE, "core.zst"), &commands);
    let text: Vec<String> = said.iter().map(|b| b.join("\n")).collect();
    assert!(text[0].contains("NativeAOT runtime 10.0") && text[0].contains("give its file with -i"), "{}", text[0]);
    // Types of the core library have the hash of their names in the MethodTable.
    for name in ["System.String", "System.Byte[]", "System.Collections.Generic.List<System.Object>"] {
        assert!(text[1].contains(name), "{}", text[1]);
    }
    // As many as the truth of this dump has.
    assert!(text[1].contains("Total 10,307 objects"), "{}", text[1]);
    assert!(text[3].contains("0 errors"), "{}", text[3]);
}

/// Where the image lies in the dump at `path`, and its module.
fn image_of(whole: &Session) -> (std::ops::Range<u64>, image::AotModule) {
    let clr = whole.clr().unwrap();
    let modules = image::modules(clr.space(), clr.layout(), clr.layout().global("RuntimeInstance").unwrap());
    let module = whole.dump().module_at(modules[0].base).unwrap();
    (module.base..module.base + module.size, modules[0].clone())
}

/// The program's file, made of the pages it was mapped to, and what loader and program wrote to them undone: relocations,
/// cells of static bases among them, the cell of the `TypeManager`, the arrays of the debug header.
fn program(patch: &Patch, image: &std::ops::Range<u64>, module: &image::AotModule) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let head = patch.read(image.start, 64).unwrap();
    let (table, count) = (word(head, 32), u16::from_le_bytes(head[56..58].try_into().unwrap()) as usize);
    let headers = patch.read(image.start + table, 56 * count).unwrap().to_vec();
    let mut file = Vec::new();
    let mut put = |at: u64, bytes: &[u8]| {
        let end = at as usize + bytes.len();
        file.resize(end.max(file.len()), 0);
        file[at as usize..end].copy_from_slice(bytes);
    };
    let mut places = Vec::new();
    for h in headers.chunks_exact(56).filter(|h| h[..4] == 1u32.to_le_bytes()) {
        let (offset, address, size) = (word(h, 8), word(h, 16), word(h, 32));
        for at in (address..address + size).step_by(8) {
            let left = (address + size - at).min(8) as usize;
            put(offset + at - address, patch.read(image.start + at, left).unwrap());
        }
        places.push((image.start + address, size, offset));
    }
    let mut undo = |address: u64, what: u64| {
        let (start, _, offset) = places.iter().find(|p| (p.0..p.0 + p.1).contains(&address)).unwrap();
        put(offset + address - start, &what.to_le_bytes());
    };
    // The loader turned addresses in the dynamic section into those in memory.
    let dynamic = headers.chunks_exact(56).find(|h| h[..4] == 2u32.to_le_bytes()).unwrap();
    let mut tags = BTreeMap::new();
    for i in 0..word(dynamic, 40) / 16 {
        let entry = image.start + word(dynamic, 16) + 16 * i;
        let (tag, value) = (patch.ptr(entry).unwrap(), patch.ptr(entry + 8).unwrap());
        if image.contains(&value) {
            undo(entry + 8, value - image.start);
        }
        tags.insert(tag, value);
    }
    let relocations = patch.read(tags[&7], tags[&8] as usize).unwrap();
    let relative: Vec<u64> = relocations.chunks_exact(24).filter(|r| word(r, 8) == 8).map(|r| word(r, 0)).collect();
    assert!(relative.len() > 400);
    relative.into_iter().for_each(|at| undo(image.start + at, 0));
    undo(module.header.start(section::TYPE_MANAGER).unwrap(), 0);
    let cookies = (module.header.address..image.end).step_by(8);
    let header = cookies.into_iter().find(|&a| patch.read(a, 4) == Some(b"DNDH")).unwrap();
    undo(header + 16, 0);
    undo(header + 24, 0);
    file
}

#[test]
fn a_heap_dump_is_read_with_the_programs_file() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let (image, module) = image_of(&whole);
    let mut patch = Patch::open(&path);
    let file = program(&patch, &image, &module);
    // What of it is private memory stays: behind the last page of the file. And the page with headers and identity.
    let cell = module.header.start(section::TYPE_MANAGER).unwrap();
    for (start, length) in patch.runs(&image) {
        let written = (start..start + length).contains(&cell);
        let kept = match written {
            true => image.start + (file.len() as u64).next_multiple_of(0x1000)..start + length,
            false => start..start + if start == image.start { 0x1000 } else { 0 },
        };
        patch.limit(start, kept);
    }
    let heap = folder.path().join("heap.core");
    patch.save(&heap);
    let said = ask::ask(&heap, &["!runtimes".into()]);
    assert!(said[0].is_empty() || !said[0].join("\n").contains("NativeAOT runtime 9.0"), "{said:?}");
    fs::write(folder.path().join("zoo"), &file).unwrap();
    compare(&heap);
    let said = ask::ask(&heap, &["!runtimes".into(), "!syncblk".into()]);
    assert!(said[0].join("\n").contains("bytes that the program could write are not in the dump"), "{said:?}");
    let facts = fs::read_to_string(testdata(DYN, "facts.tsv")).unwrap();
    let contended = facts.lines().find_map(|l| l.strip_prefix("address:contended\t")).unwrap();
    assert!(said[1].join("\n").contains(contended), "{said:?}");
}

#[test]
fn without_metadata_types_of_the_core_library_have_names_by_hash() {
    let (folder, path) = whole_copy();
    let (_, module) = image_of(&session(&path));
    let mut patch = Patch::open(&path);
    let gone = [
        section::TYPE_MAP,
        section::METADATA,
        section::FIELD_MAP,
        section::INVOKE_MAP,
        section::STACK_TRACE_MAP,
        section::STATICS_TABLE,
    ];
    for (i, (id, start, _)) in module.header.sections.iter().enumerate().filter(|(_, s)| gone.contains(&s.0)) {
        // An empty hash table, as the compiler writes what it keeps nothing of; its end behind it.
        patch.write(*start, &[0, 2, 2, 0]);
        patch.write(module.header.address + 16 + 24 * i as u64 + 16, &(start + 3).to_le_bytes());
        assert_ne!(*id, 0);
    }
    let bare = folder.path().join("bare.core");
    patch.save(&bare);
    let facts = fs::read_to_string(testdata(DYN, "facts.tsv")).unwrap();
    let exception = facts.lines().find_map(|l| l.strip_prefix("address:exception\t")).unwrap();
    let commands = ["!runtimes -v".into(), "!dumpheap -stat".into(), format!("!pe {exception}"), "!threads".into()];
    let said = ask::ask(&bare, &commands);
    let text: Vec<String> = said.iter().map(|b| b.join("\n")).collect();
    assert!(text[0].contains("NativeAOT runtime 9.0") && text[0].contains("built without metadata"), "{}", text[0]);
    assert!(text[0].contains(" 0 failed"), "{}", text[0]);
    for name in ["System.Collections.Generic.List<System.Object>", "System.Threading.Thread", "System.Object[]"] {
        assert!(said[1].iter().any(|l| l.ends_with(&format!(" {name}"))), "{name}: {}", text[1]);
    }
    // The program's own types have none.
    assert!(!text[1].contains("Dyn.") && text[1].contains("zoo!0x"), "{}", text[1]);
    assert!(text[2].contains("wrapped"), "{}", text[2]);
    assert!(text[3].contains("lock owner"), "{}", text[3]);
}

#[test]
fn debug_information_gives_fields_and_owners_of_statics() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let (image, module) = image_of(&whole);
    let patch = Patch::open(&path);
    let types = whole.clr().unwrap().ahead().unwrap();
    let place = |name: &str| types.type_named(name).unwrap() - image.start;
    // The cell of a base whose first field holds the delegate, of which no code tells the owner.
    let cell = cell_of(&patch, &module, u64::from_str_radix(&fact("staticDelegate"), 16).unwrap());

    let mut file = DebugFile::new();
    let (int, double) = (file.number("int", 5, 4), file.number("double", 4, 8));
    let (object, string) = (file.declared("S_P_CoreLib_System_Object"), file.declared("String"));
    let (string, this) = (file.reference(string), file.declared("Dyn_Dyn_Plain"));
    let this = file.reference(this);
    let members = [
        ("Count", int, Some(0x20)),
        ("Text", string, Some(8)),
        ("All", this, None),
        ("Next", this, Some(0x10)),
        ("Weight", double, Some(0x18)),
        ("Number", int, Some(0x24)),
    ];
    file.class("Dyn_Dyn_Plain", 0x28, object, &members);
    // A number where the MethodTable has a reference: of another build, whatever its identity says.
    file.class("Dyn_Dyn_Refl", 0x28, object, &[("Wrong", int, Some(8))]);
    file.symbol("_ZTV13Dyn_Dyn_Plain", place("Dyn.Plain"));
    file.symbol("_ZTV12Dyn_Dyn_Refl", place("Dyn.Refl"));
    file.symbol("_ZTV6String", place("System.String"));
    file.symbol("__GCSTATICSDyn_Dyn_Delegates", cell - image.start);
    let id = whole.dump().module_at(image.start).unwrap().build_id.clone().unwrap();
    fs::write(folder.path().join("zoo.dbg"), file.finish(&id)).unwrap();

    let commands = [("!do", "plain"), ("!do", "refl"), ("!gcroot", "staticDelegate")];
    let said = ask::ask(&path, &commands.map(|(c, n)| format!("{c} {}", fact(n))));
    let field = |name: &str| -> Vec<String> {
        let line = said[0].iter().find(|l| l.split_whitespace().last() == Some(name));
        line.unwrap_or_else(|| panic!("{name}: {said:?}")).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(field("Text")[3..4], ["System.String"]);
    assert_eq!(field("Next")[2..4], ["10", "Dyn.Plain"]);
    for (name, ty, value) in
        [("Weight", "System.Double", "2.500000"), ("Count", "System.Int32", "1"), ("Number", "System.Int32", "9")]
    {
        let row = field(name);
        assert!(row.contains(&ty.to_owned()) && row.contains(&value.to_owned()), "{row:?}");
    }
    assert!(!said[0].join("\n").contains("+0x"), "{said:?}");
    assert!(!said[1].join("\n").contains("Wrong") && said[1].join("\n").contains(" N"), "{said:?}");
    assert!(said[2].join("\n").contains("static base of Dyn_Dyn_Delegates"), "{said:?}");
}

/// The cell of the static base whose first field holds the object.
fn cell_of(patch: &Patch, module: &image::AotModule, object: u64) -> u64 {
    let (start, end) = module.header.section(section::GC_STATICS).unwrap();
    let cell = |at: u64| {
        let distance = i32::from_le_bytes(patch.read(at, 4).unwrap().try_into().unwrap());
        at.wrapping_add_signed(distance.into())
    };
    let holds = |&c: &u64| patch.ptr(c).and_then(|base| patch.ptr(base + 8)) == Some(object);
    (start..end).step_by(4).map(cell).find(holds).unwrap()
}

#[test]
fn gc_information_is_that_of_the_code_and_names_references() {
    let (_folder, path) = whole_copy();
    let whole = session(&path);
    let clr = whole.clr().unwrap();
    let (code, ahead) = (clr.code(), clr.ahead().unwrap());
    let starts = ahead.method_starts();
    assert!(starts.len() > 4000);
    for &start in &starts {
        let info = code.gc_info(&code.at(start).unwrap()).unwrap();
        assert_eq!(Some(u64::from(info.header.length)), ahead.code_length(clr.native(), start), "{start:x}");
        let known = info.safe_points.iter().all(|&p| info.live(p, Stop::Return).is_some());
        assert!(known && info.is_whole(), "{start:x}");
    }
    let heap = whole.heap().unwrap();
    let in_heap = |v: u64| heap.segments.iter().any(|s| (s.start..s.end).contains(&v));
    let mut objects = 0;
    for thread in &clr.threads().items {
        let live = clr.live_slots(thread);
        assert!(live.unknown.is_empty() && live.registers.is_empty(), "{:x}: {:?}", thread.os_id, live.unknown);
        let (low, high) = clr.dump.thread_of(thread.os_id).unwrap().stack.unwrap();
        for s in live.slots.iter().filter(|s| s.value != 0) {
            let object = || in_heap(s.value) && clr.object_type(s.value).is_some_and(|mt| clr.valid_type(mt).is_some());
            let inside = || in_heap(s.value) || (low..high).contains(&s.value);
            assert!(if s.interior { inside() } else { object() }, "{s:x?}");
            objects += usize::from(!s.interior);
        }
    }
    assert!(objects >= 34, "{objects}");
    // A handler speaks for its method; what the exception left behind has no say. The frames between are those of `Deep`.
    let names = |t: &ClrThread| -> Vec<String> {
        let frames = clr.stack(t).frames.clone();
        let held = clr.live_slots(t).slots;
        let name = |s: &LiveSlot| frames[s.frame].code.and_then(|c| code.name(&c)).unwrap_or_default();
        held.iter().map(name).collect()
    };
    let handling = clr.threads().items.iter().find(|t| !t.in_flight.is_empty()).unwrap();
    let held = names(handling);
    assert!(held.iter().any(|n| n.starts_with("System.Runtime.EH.DispatchEx")), "{held:?}");
    assert!(!held.iter().any(|n| n.starts_with("Dyn.P.Deep")), "{held:?}");
    assert!(clr.live_slots(handling).slots.iter().any(|s| s.value == handling.in_flight[0]));
}

#[test]
fn thread_statics_are_named_by_the_code_that_uses_them() {
    let out = exported(&testdata(DYN, "core.zst"));
    let roots = fs::read_to_string(out.path().join("roots.tsv")).unwrap();
    for owner in ["System.Threading.ManagedThreadId+0x28", "System.Globalization.CultureInfo+0x", "thread statics"] {
        let expected = !owner.contains("Culture");
        assert_eq!(roots.contains(owner), expected, "{owner}: {roots}");
    }
    // That of an instantiation by its index.
    assert!(roots.contains("Dyn.Holder<System.String>+0x8"), "{roots}");
}

#[test]
fn interfaces_are_those_that_the_program_asks_for() {
    let dump = testdata(DYN, "core.zst");
    let said = ask::ask(&dump, &["!select -implement System.IDisposable @type".into()]);
    let types: BTreeSet<&str> = said[0].iter().map(|l| l.trim()).collect();
    for (name, implements) in [
        ("Microsoft.Win32.SafeHandles.SafeWaitHandle", true),
        ("System.SZGenericArrayEnumerator<System.String>", true),
        // By its base class.
        ("System.Threading.AutoResetEvent", true),
        ("System.String", false),
        ("Dyn.Plain", false),
    ] {
        assert_eq!(types.contains(name), implements, "{name}: {types:?}");
    }
    let mut asked = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"));
    asked.arg(dump).args(["-c", "!select -implement Dyn.INothing @type"]);
    asked.env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"));
    let text = String::from_utf8_lossy(&asked.output().unwrap().stderr).into_owned();
    assert!(text.contains("a NativeAOT program has those interfaces that it asks for"), "{text}");
}

#[test]
fn counters_of_the_thread_pool_are_read_where_its_class_is_the_known_one() {
    let said = ask::ask(&testdata(GCORE, "core.zst"), &["!threadpool".into(), "!threadpoolqueue".into()]);
    let text = said[0].join("\n");
    for line in ["Workers Total:    2", "Workers Running:  1", "Worker Min Limit: 2", "Worker Max Limit: 32767"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        said[1].join("\n").contains("partial: the fields of the thread pool's queues are not known"),
        "{:?}",
        said[1]
    );
    let said = ask::ask(&testdata(DYN, "core.zst"), &["!threadpool".into()]);
    assert!(said[0].join("\n").contains("No portable thread pool was used"), "{:?}", said[0]);
}

#[test]
fn a_return_address_that_the_collector_replaced_is_the_one_the_runtime_keeps() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let clr = whole.clr().unwrap();
    let frames = |s: &Session, thread: usize| -> Vec<(u64, u64)> {
        let clr = s.clr().unwrap();
        clr.stack(&clr.threads().items[thread]).frames.iter().map(|f| (f.sp, f.ip)).collect()
    };
    // Two managed frames of which one called the other.
    let (number, place, ip) = (0..clr.threads().items.len())
        .find_map(|n| {
            let stack = clr.stack(&clr.threads().items[n]);
            let pair = stack.frames.windows(2).find(|w| w[0].caller_sp == Some(w[1].sp))?;
            Some((n, pair[1].sp - 8, pair[1].ip))
        })
        .unwrap();
    let thread = clr.threads().items[number].address;
    let layout = clr.layout();
    let field = |name| thread + layout.try_offset("Thread", name).unwrap();
    let (kept_place, kept_ip) = (field("HijackedReturnAddressLocation"), field("HijackedReturnAddress"));
    let mut patch = Patch::open(&path);
    assert_eq!((patch.ptr(place), patch.ptr(kept_place), patch.ptr(kept_ip)), (Some(ip), Some(0), Some(0)));
    // Native code of the program, where the collector's own routine lies.
    let (image, _) = image_of(&whole);
    patch.write(place, &(image.start + 0x8000).to_le_bytes());
    let hijacked = folder.path().join("hijacked.core");
    patch.save(&hijacked);
    assert_ne!(frames(&session(&hijacked), number), frames(&whole, number));
    patch.write(kept_place, &place.to_le_bytes());
    patch.write(kept_ip, &ip.to_le_bytes());
    patch.save(&hijacked);
    assert_eq!(frames(&session(&hijacked), number), frames(&whole, number));
}

fn session(path: &Path) -> Session {
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    Session::new(Dump::open(path, &options, &Watch::default()).unwrap(), Watch::default())
}

/// Makes a copy of the dump at `path` whose collector is one for servers, with two heaps: the second has the large and the
/// pinned objects. A collector for servers has a record of each heap with what one for workstations has in variables.
fn two_heaps(path: &Path) -> PathBuf {
    const RECORD: usize = 256;
    const HEAP_FIELDS: usize = 22;
    let whole = session(path);
    let clr = whole.clr().unwrap();
    let (gc, layout) = (clr.found.gc.clone(), clr.layout());
    let (image, _) = image_of(&whole);
    let mut patch = Patch::open(path);
    let segment = |name: &str| layout.try_offset("HeapSegment", name).unwrap();
    let (table, start) = (gc.generation_table.unwrap(), gc.generation_field_offsets[1] as u64);
    let size = gc.generation_size;
    let first = |patch: &Patch, generation: u64| patch.ptr(table + size * generation + start).unwrap();
    let value = |patch: &Patch, cell: Option<u64>| patch.ptr(cell.unwrap()).unwrap();
    // A region with nothing in it.
    let like = patch.read(first(&patch, 0), RECORD).unwrap().to_vec();
    let empty = |patch: &mut Patch| {
        let (memory, record) = (patch.put(&image, &[0; 64]), patch.put(&image, &like));
        for (name, at) in [("Mem", 0), ("Allocated", 0), ("Used", 0), ("Committed", 64), ("Reserved", 64)] {
            patch.write(record + segment(name), &(memory + at).to_le_bytes());
        }
        patch.write(record + segment("Next"), &[0; 8]);
        (record, memory)
    };
    // Where the array of what waits for finalizers begins, no part of it is filled.
    let fill = layout.try_offset("FinalizeQueue", "FillPointers").unwrap();
    let nobody = patch.put(&image, &[0; 128]);
    let list = patch.put(&image, &[0; 64]);
    for i in 0..8 {
        patch.write(nobody + fill + 8 * i, &list.to_le_bytes());
    }
    let mut heaps = Vec::new();
    for number in 0..2u64 {
        let (ephemeral, end) = empty(&mut patch);
        let own = [value(&patch, gc.alloc_allocated), value(&patch, gc.ephemeral_heap_segment)];
        let queue = if number == 0 { value(&patch, gc.finalize_queue) } else { nobody };
        let [end, ephemeral] = if number == 0 { own } else { [end, ephemeral] };
        let mut record: Vec<u8> = [end, ephemeral, queue].iter().flat_map(|w| w.to_le_bytes()).collect();
        record.extend(patch.read(table, (size * u64::from(gc.generation_count)) as usize).unwrap());
        let heap = patch.put(&image, &record);
        for generation in 0..u64::from(gc.generation_count) {
            let place = heap + 24 + size * generation + start;
            if (generation < 3) != (number == 0) {
                let other = if generation == 0 { ephemeral } else { empty(&mut patch).0 };
                patch.write(place, &other.to_le_bytes());
            }
            let mut region = patch.ptr(place).unwrap();
            while region != 0 {
                patch.write(region + segment("Heap"), &heap.to_le_bytes());
                region = patch.ptr(region + segment("Next")).unwrap();
            }
        }
        heaps.push(heap);
    }
    let mut offsets = [-1i32; HEAP_FIELDS];
    (offsets[0], offsets[1], offsets[2], offsets[18]) = (0, 8, 16, 24);
    let offsets: Vec<u8> = offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
    let array: Vec<u8> = heaps.iter().flat_map(|h| h.to_le_bytes()).collect();
    let (array, count) = (patch.put(&image, &array), patch.put(&image, &2u64.to_le_bytes()));
    let (offsets, server) = (patch.put(&image, &offsets), patch.put(&image, &1u64.to_le_bytes()));
    let cell = patch.put(&image, &array.to_le_bytes());
    for (at, variable) in
        [(32, server), (48, 0), (80, 0), (120, 0), (136, 0), (144, 0), (176, count), (184, cell), (240, offsets)]
    {
        patch.write(gc.address + at, &variable.to_le_bytes());
    }
    let made = path.with_file_name("two.core");
    patch.save(&made);
    made
}

#[test]
fn heaps_of_a_server_collector_are_read_as_one() {
    let (_folder, path) = whole_copy();
    let made = two_heaps(&path);
    let (one, two) = (exported(&path), exported(&made));
    let table = |of: &tempfile::TempDir, name: &str| rows(&fs::read_to_string(of.path().join(name)).unwrap());
    for name in
        ["objects.tsv", "types.tsv", "edges.tsv", "strings.tsv", "handles.tsv", "finalizable.tsv", "threads.tsv"]
    {
        assert_eq!(table(&two, name), table(&one, name), "{name}");
    }
    let filled = |r: &BTreeMap<String, String>| r["objects_start"] != r["objects_end"];
    let second = |r: &BTreeMap<String, String>| ["Large", "Pinned"].contains(&r["kind"].as_str());
    let (one, two) = (table(&one, "segments.tsv"), table(&two, "segments.tsv"));
    let placed: BTreeSet<(String, String)> =
        two.iter().filter(|r| filled(r)).map(|r| (r["objects_start"].clone(), r["heap"].clone())).collect();
    let expected = one.iter().filter(|r| filled(r));
    let expected =
        expected.map(|r| (r["objects_start"].clone(), if second(r) { "1" } else { "0" }.to_owned())).collect();
    assert_eq!(placed, expected, "{two:?}");
    let said = ask::ask(&made, &["!eeheap -gc".into(), "!verifyheap".into()]);
    assert!(said[0].join("\n").contains("Number of GC Heaps: 2"), "{:?}", said[0]);
    assert!(said[1].join("\n").contains("0 errors"), "{:?}", said[1]);
}

#[test]
fn damaged_headers_maps_and_metadata_end_in_answers() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let clr = whole.clr().unwrap();
    let header = &image_of(&whole).1.header;
    let ids = [
        section::METADATA,
        section::TYPE_MAP,
        section::FIXUPS,
        section::FIELD_MAP,
        section::INVOKE_MAP,
        section::STACK_TRACE_MAP,
        section::GC_STATICS,
        section::STATICS_TABLE,
        section::NATIVE_STATICS,
    ];
    let mut places: Vec<(u64, u64)> = ids.iter().map(|&id| header.section(id).unwrap()).collect();
    places.push((header.address + 4, header.address + 16 + 24 * header.sections.len() as u64));
    places.extend(clr.ahead().unwrap().types().into_iter().take(200).map(|mt| (mt, mt + 48)));
    let mut random = 0x9E37_79B9_97F4_A7C5_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let damaged = folder.path().join("damaged.core");
    for round in 0..6 {
        let mut patch = Patch::open(&path);
        for &(start, end) in &places {
            for _ in 0..1 + (end - start) / 64 % 200 {
                let at = start + next() % (end - start);
                patch.write(at, &[next() as u8]);
            }
        }
        patch.save(&damaged);
        let commands =
            ["!runtimes", "!dumpheap -stat", "!threads", "!clrstack -all", "!syncblk", "!dumpexceptions", "!leaks"];
        for (command, said) in commands.iter().zip(ask::ask(&damaged, &commands.map(String::from))) {
            assert!(!said.iter().any(|l| l.contains("hit a bug")), "round {round}, {command}: {said:?}");
        }
    }
}
