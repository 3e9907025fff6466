//! Dumps of the shape of .NET Framework, built from the tables: no heap of one was at hand. They prove the code against the
//! tables, not the tables against a runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

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

use clrscope::clr::layout::Source;
use clrscope::clr::layout::provider::Provider;
use clrscope::clr::layout::standing::Standing;
use clrscope::clr::layout::tables::{TABLES, Table};
use clrscope::clr::runtime::{domains, finalizer};
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::watch::Watch;
use make_framework::{IMAGE, Made, OS_IDS, SEGMENT, build, build_as, build_with, with_places};

#[test]
fn a_heap_of_the_tables_shape_is_read() {
    let tables: Vec<&Table> = TABLES.iter().filter(|t| t.name.starts_with("clr-4")).collect();
    assert_eq!(tables.len(), 4);
    for table in tables {
        let made = build(table);
        let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        std::fs::write(file.path(), &made.bytes).unwrap();
        let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
        // Structure would find what the tables name wrongly.
        let s = Session::new(dump, Watch::default()).without(vec![Provider::Structure]);
        let clr = s.clr().unwrap_or_else(|e| panic!("{}: {e:#}", table.name));
        assert_eq!(clr.found.table.as_deref(), Some(table.name));
        assert!(clr.found.is_framework());
        assert!(matches!(clr.found.standing, Standing::Structures | Standing::Relatives), "{}", table.name);
        let ids = &s.index().unwrap().ids;
        for (&at, text) in made.strings.iter().zip(["Framework", "two domains", "x"]) {
            assert!(ids.id_of(at).is_some(), "{}: {at:x}", table.name);
            assert_eq!(clr.string_at(at, 100).unwrap().1, text, "{}", table.name);
        }
        assert!(ids.id_of(made.locked).is_some(), "{}", table.name);
        assert_eq!(&*clr.type_name(clr.object_type(made.locked).unwrap()), "System.Object");

        let apps = domains::app_domains(clr);
        let named: Vec<(u64, u32, &str)> =
            apps.items.iter().map(|d| (d.address, d.id, d.name.as_deref().unwrap_or(""))).collect();
        let [first, second] = made.domains;
        assert_eq!(named, [(first, 1, "DefaultDomain"), (second, 2, "Second")], "{}", table.name);
        let of_threads: Vec<u64> = clr.threads().items.iter().map(|t| t.domain).collect();
        assert_eq!(of_threads, made.domains, "{}", table.name);
    }
}

/// CLR 2.0: nobody has seen one. Its table is completed by shape, and refused where an invariant fails.
#[test]
fn a_heap_of_the_shape_of_clr_2_is_read_and_said_to_be_experimental() {
    let tables: Vec<&Table> = TABLES.iter().filter(|t| t.name.starts_with("clr-2.0")).collect();
    assert_eq!(tables.len(), 2);
    for table in tables {
        let made = build(table);
        let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        std::fs::write(file.path(), &made.bytes).unwrap();
        let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
        let s = Session::new(dump, Watch::default());
        let clr = s.clr().unwrap_or_else(|e| panic!("{}: {e:#}", table.name));
        assert_eq!((clr.found.table.as_deref(), clr.found.standing), (Some(table.name), Standing::Experimental));
        let said = clr.found.warnings.join("\n");
        assert!(
            said.contains("experimental") && said.contains("!runtimes -v") && said.contains("mscorwks.dll"),
            "{said}"
        );
        let ids = &s.index().unwrap().ids;
        for (&at, text) in made.strings.iter().zip(["Framework", "two domains", "x"]) {
            assert!(ids.id_of(at).is_some(), "{}: {at:x}", table.name);
            assert_eq!(clr.string_at(at, 100).unwrap().1, text, "{}", table.name);
        }
        assert!(ids.id_of(made.array).is_some() && ids.id_of(made.locked).is_some(), "{}", table.name);
        // References of the array are its elements, and nothing else is one.
        let (shape, first) = clr.array_shape(made.array, true, 1).unwrap();
        assert_eq!((shape, first), (vec![(3, 0)], made.array + 3 * u64::from(table.pointer_size)), "{}", table.name);
        let graph = s.graph().unwrap();
        assert_eq!(graph.misses, 0, "{}", table.name);
        let checked = s.heap_check().unwrap();
        assert_eq!(checked.verdicts().1, 0, "{}: {:?}", table.name, checked);
        let os_ids: Vec<u64> = clr.threads().items.iter().map(|t| t.os_id).collect();
        assert_eq!(os_ids, OS_IDS.map(u64::from), "{}", table.name);

        let say = |command: &str| {
            let run = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"));
            let out =
                { run }.arg(file.path()).args(["-c", command]).stdin(std::process::Stdio::null()).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
        };
        names_handles_and_queue(&say, &made, table.name);
        domains_and_statics(&say, &made, table.name);
        let apps = domains::app_domains(clr);
        let named: Vec<(u64, u32, &str)> =
            apps.items.iter().map(|d| (d.address, d.id, d.name.as_deref().unwrap_or(""))).collect();
        let [first, second] = made.domains;
        assert_eq!(named, [(first, 1, "app.exe"), (second, 7, "Second")], "{}", table.name);
        // Where the first thread allocates no objects are, and behind it they are.
        let contexts = clr.allocation_contexts();
        assert!(contexts.contains(&made.more.free), "{}: {contexts:x?}", table.name);
        assert!(ids.id_of(made.more.behind).is_some() && ids.id_of(made.more.empty).is_some(), "{}", table.name);
        assert!(say("!eeversion").contains("experimental"), "{}", say("!eeversion"));
        assert!(say("!dumpheap -stat").contains("System.String"), "{}", say("!dumpheap -stat"));
        assert!(say(&format!("!dumpobj {:x}", made.strings[1])).contains("two domains"));
        let array = say(&format!("!dumparray {:x}", made.array));
        assert!(made.strings.iter().all(|s| array.contains(&format!("{s:x}"))), "{array}");
        assert!(say("!eeheap -gc").contains(&format!("{:x}", SEGMENT + 0x1000)), "{}", say("!eeheap -gc"));
        let refs = say(&format!("!refs {:x}", made.strings[2]));
        assert!(refs.contains(&format!("{:x}", made.array)), "{refs}");

        // Without the variable that holds the image's own base, or with generations that begin nowhere, it is refused.
        let base = (IMAGE as u32).to_le_bytes();
        let mut broken = made.bytes.clone();
        let places: Vec<usize> = broken.windows(4).enumerate().filter(|w| w.1 == base).map(|w| w.0).collect();
        let last = *places.last().unwrap();
        broken[last..last + 4].fill(0x11);
        std::fs::write(file.path(), &broken).unwrap();
        let refused = say("!dumpheap -stat");
        assert!(
            refused.contains("mscorwks.dll") && refused.contains("a report with what !runtimes -v prints"),
            "{refused}"
        );
    }
}

/// Names from metadata, fields, instantiations, handles, the finalizer's queue and roots.
fn names_handles_and_queue(say: &dyn Fn(&str) -> String, made: &Made, table: &str) {
    let has = |command: &str, wanted: &[&str]| {
        let said = say(command);
        let lower = said.to_ascii_lowercase();
        assert!(
            wanted.iter().all(|w| lower.contains(&w.to_ascii_lowercase())),
            "{table}: {command}: not all of {wanted:?} in\n{said}"
        );
    };
    let hex = |address: u64| format!("{address:x}");
    let m = &made.more;
    let (list, stream, dead) = (hex(m.list), hex(m.stream), hex(m.dead_stream));
    has(
        "!dumpheap -stat",
        &["System.Collections.Generic.List<System.String>", "System.Int32[]", "System.IO.FileStream"],
    );
    has(&format!("!dumpobj {list}"), &["System.Collections.Generic.List", "_items", &hex(made.array)]);
    has(&format!("!dumpobj {}", hex(m.number)), &["System.Int32", "m_value", "42"]);
    has(&format!("!dumparray {}", hex(m.numbers)), &["System.Int32[]", "7", "9"]);
    has("!gchandles", &["Strong", "WeakShort", &list, &hex(m.number), &hex(m.handle)]);
    has("!finalizequeue", &["System.IO.FileStream"]);
    has("!finalizequeue -allready", &[&dead]);
    has(&format!("!gcroot {}", hex(made.strings[1])), &[&hex(m.handle), &list, &hex(made.array)]);
    has("!dumpdomain", &["mscorlib.dll"]);
    has(&format!("!dumpobj {stream}"), &["System.IO.FileStream"]);
}

/// Names of app domains; statics by name, those of the first domain; that threads' statics are not read is said.
fn domains_and_statics(say: &dyn Fn(&str) -> String, made: &Made, table: &str) {
    let has = |command: &str, wanted: &[&str]| {
        let said = say(command);
        assert!(wanted.iter().all(|w| said.contains(w)), "{table}: {command}: not all of {wanted:?} in\n{said}");
    };
    has("!dumpdomain", &["app.exe", "Second"]);
    has(&format!("!dumpobj {:x}", made.more.stream), &["count", "1234", "last", &format!("{:x}", made.more.list)]);
    has(&format!("!dumpobj {:x}", made.strings[0]), &["Empty", &format!("{:x}", made.more.empty)]);
    has("!clrstack", &["[Frame: ", "of which kind explicit frames are is not told in CLR 2.0"]);
    has("!runtimes", &["thread statics ("]);
    let said = say("!runtimes");
    assert!(!said.contains("; statics (") && !said.contains("allocation contexts ("), "{table}: {said}");
}

/// Statics are read where the empty string proves them, and where the modules' own do, and else not.
#[test]
fn statics_of_clr_2_are_proved_or_refused() {
    for table in TABLES.iter().filter(|t| t.name.starts_with("clr-2.0")) {
        let made = build(table);
        let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        let ptr = usize::from(table.pointer_size);
        let gaps = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
            Session::new(dump, Watch::default()).clr().unwrap().found.gaps.join("\n")
        };
        let missing = "statics (Module.DomainLocalModule)";
        assert!(!gaps(&made.bytes).contains(missing), "{}: {}", table.name, gaps(&made.bytes));
        // The empty string has a character.
        let mut other = made.bytes.clone();
        let object = made.more.empty.to_le_bytes();
        let slots: Vec<usize> = other.windows(ptr).enumerate().filter(|w| *w.1 == object[..ptr]).map(|w| w.0).collect();
        for at in slots {
            other[at..at + ptr].copy_from_slice(&made.strings[0].to_le_bytes()[..ptr]);
        }
        assert!(gaps(&other).contains(missing), "{}: {}", table.name, gaps(&other));
    }
}

/// Several heaps: each with its own table of generations, whose places are found.
#[test]
fn server_heaps_of_the_shape_of_clr_2_are_read() {
    for table in TABLES.iter().filter(|t| t.name.starts_with("clr-2.0")) {
        let made = build_as(table, with_places(table.layout(), u64::from(table.pointer_size)), true);
        let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        std::fs::write(file.path(), &made.bytes).unwrap();
        let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
        let s = Session::new(dump, Watch::default());
        let clr = s.clr().unwrap_or_else(|e| panic!("{}: {e:#}", table.name));
        assert!(clr.found.gc.is_server(), "{}", table.name);
        let heap = s.heap().unwrap();
        assert_eq!((heap.heaps.len(), heap.segments.len()), (2, 4), "{}: {:?}", table.name, heap.problems);
        assert_eq!(heap.problems, Vec::<String>::new(), "{}", table.name);
        let ids = &s.index().unwrap().ids;
        let all = made.strings.iter().chain([&made.array, &made.more.list, &made.more.dead_stream]);
        assert!(all.into_iter().all(|&o| ids.id_of(o).is_some()), "{}", table.name);
        assert_eq!(s.graph().unwrap().misses, 0, "{}", table.name);
        assert_eq!(&*clr.type_name(clr.object_type(made.more.stream).unwrap()), "System.IO.FileStream");
        let queue = finalizer::read(clr, heap.heaps[0].finalize_queue).unwrap().unwrap();
        assert_eq!(finalizer::objects(clr, queue.all_ready()).items, [made.more.dead_stream], "{}", table.name);
        let handles = clr.handles();
        assert_eq!(handles.items.len(), 2, "{}: {:?}", table.name, handles.partial);
        assert_eq!(clr.allocation_contexts(), [made.more.free], "{}", table.name);
        assert!(ids.id_of(made.more.behind).is_some(), "{}", table.name);
        assert_eq!(s.heap_check().unwrap().verdicts().1, 0, "{}", table.name);
    }
}

/// Places that the shared source does not tell are found wherever they are; what is proved by nothing is refused, aloud.
#[test]
fn places_of_clr_2_are_found_or_refused() {
    for table in TABLES.iter().filter(|t| t.name.starts_with("clr-2.0")) {
        let ptr = u64::from(table.pointer_size);
        let mut l = with_places(table.layout(), ptr);
        for (ty, field, words) in [
            ("Module", "PEAssembly", 3),
            ("Module", "TypeDefToMethodTableMap", 91),
            ("PEImage", "Path", 20),
            ("PEImage", "LoadedImageLayout", 40),
            ("HandleTable", "SegmentList", 22),
            ("FinalizeQueue", "Array", 6),
            ("FinalizeQueue", "FillPointers", 0),
            ("EEClass", "ArrayElement", 30),
            ("Generation", "!", 26),
            ("Generation", "StartSegment", 12),
            ("Generation", "AllocationStart", 13),
        ] {
            l.set_field(ty, field, words * ptr, Source::Calibrated);
        }
        let made = build_with(table, l);
        let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
            Session::new(dump, Watch::default())
        };
        let s = read(&made.bytes);
        let clr = s.clr().unwrap();
        let name = |object: u64| clr.type_name(clr.object_type(object).unwrap());
        assert_eq!(&*name(made.more.list), "System.Collections.Generic.List<System.String>", "{}", table.name);
        assert_eq!(&*name(made.more.numbers), "System.Int32[]", "{}", table.name);
        assert_eq!(clr.handles().items.len(), 2, "{}", table.name);
        let queue = finalizer::read(clr, s.heap().unwrap().heaps[0].finalize_queue).unwrap().unwrap();
        assert_eq!(finalizer::objects(clr, queue.all_ready()).items, [made.more.dead_stream], "{}", table.name);

        // An image that calls System.String otherwise is not the core library's: no name is taken from it.
        let mut other = made.bytes.clone();
        let at = other.windows(8).position(|w| w == b"\0String\0").unwrap();
        other[at + 1] = b'Q';
        let s = read(&other);
        let clr = s.clr().unwrap();
        let gaps = clr.found.gaps.join("\n");
        assert!(gaps.contains("images and metadata"), "{}: {gaps}", table.name);
        assert!(clr.type_name(clr.object_type(made.more.stream).unwrap()).contains("!0x02000008"), "{}", table.name);
        assert_eq!(clr.string_at(made.strings[1], 100).unwrap().1, "two domains", "{}", table.name);
    }
}

/// What builds of .NET Framework with four-byte pointers would need is found in the dump: the tail of threads by the ids of the
/// dump's threads and the thread that finalizes, wherever servicing has moved it; what is not found is refused.
#[test]
fn threads_that_servicing_has_moved_are_found_or_refused() {
    for table in TABLES.iter().filter(|t| t.name.starts_with("clr-4")) {
        for moved in [4, 8, 16, 32] {
            let mut l = table.layout();
            let bytes = moved * u64::from(table.pointer_size) / 4;
            for field in ["LinkNext", "OSId"] {
                let at = l.offset("Thread", field).unwrap();
                l.set_field("Thread", field, at + bytes, Source::Calibrated);
            }
            let made = build_with(table, l);
            let file = tempfile::Builder::new().suffix(".dmp").tempfile().unwrap();
            std::fs::write(file.path(), &made.bytes).unwrap();
            let dump = Dump::open(file.path(), &OpenOptions::default(), &Watch::default()).unwrap();
            let s = Session::new(dump, Watch::default());
            let clr = s.clr().unwrap_or_else(|e| panic!("{} moved by {bytes}: {e:#}", table.name));
            let threads = &clr.threads().items;
            let os_ids: Vec<u64> = threads.iter().map(|t| t.os_id).collect();
            assert_eq!(os_ids, OS_IDS.map(u64::from), "{} moved by {bytes}", table.name);
            assert_eq!(threads.iter().map(|t| t.managed_id).collect::<Vec<_>>(), [1, 2], "{}", table.name);
            let domains: Vec<u64> = threads.iter().map(|t| t.domain).collect();
            assert_eq!(domains, made.domains, "{} moved by {bytes}", table.name);
        }
    }
}
