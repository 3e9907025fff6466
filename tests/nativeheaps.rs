//! Native heaps held against what the program said of itself: `testdata/native/heaps.c` writes its own list of blocks and
//! what the C library counts, then it is dumped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/patch.rs"]
mod patch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use captured::open;
use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;
use clrscope::dump::{Arch, CoreWriter, Dump, DumpKind, MapEntry, MapState, MapType, Os, Presence};
use clrscope::native::heaps::windows::{self, HeapKind};
use clrscope::native::heaps::{self, Allocator, Kind, NO_ARENA, NativeHeaps, State};
use clrscope::session::nativeowners::{Owner, Which};
use clrscope::shell::Format;
use clrscope::watch::Watch;
use patch::Patch;

/// Somebody else moved the break in between; aligned and large blocks, a further arena.
const BREAK: &str = "native/linux-x64-glibc-2.36-break";
/// The break was blocked by a mapping, so that the main arena has pieces elsewhere; caches full; a thread that ended.
const BLOCKED: &str = "native/linux-x64-glibc-2.36-blocked";

/// The same program under musl 1.2.3: aligned and large blocks; it says which sizes it asked for, to the byte.
const MUSL: &str = "native/linux-x64-musl-1.2.3";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Blocks the program had, with their usable sizes, and the numbers of mallinfo2.
fn told(name: &str) -> (BTreeMap<u64, u64>, Vec<u64>) {
    let file = std::fs::File::open(data(&format!("{name}.list.zst"))).unwrap();
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let (mut blocks, mut counts) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        match words.next().unwrap() {
            "mallinfo2" => counts = words.map(|w| w.parse().unwrap()).collect(),
            address => {
                let size = words.next().unwrap().parse().unwrap();
                blocks.insert(u64::from_str_radix(address, 16).unwrap(), size);
            }
        }
    }
    (blocks, counts)
}

fn adds_up(heaps: &NativeHeaps) {
    for (i, a) in heaps.arenas.iter().enumerate() {
        let parts = a.used.bytes + a.free.bytes + a.fast.bytes + a.cached.bytes + a.top + a.own + a.lost;
        assert_eq!(parts, a.system, "arena {i}: {a:?}");
    }
    for number in (0..heaps.arenas.len() as u16).chain([NO_ARENA]) {
        let memory: u64 = heaps.memory.iter().filter(|s| s.arena == number).map(|s| s.end - s.start).sum();
        let system = heaps.arenas.get(usize::from(number)).map_or(heaps.mapped.bytes, |a| a.system);
        assert_eq!(memory, system, "memory of arena {number}");
    }
    let sums = |state| heaps.blocks.list().iter().filter(move |b| b.state() == state && b.kind() != Kind::Mapped);
    let count = |state| sums(state).count() as u64;
    let all = heaps.totals();
    assert_eq!(count(State::Used) + heaps.mapped.count, all.used.count);
    assert_eq!(count(State::Cached), all.cached.count);
    assert_eq!(sums(State::Free).filter(|b| b.kind() != Kind::Top).count() as u64, all.free.count);
    for pair in heaps.blocks.list().windows(2) {
        assert!(pair[0].end() <= pair[1].address(), "{pair:x?}");
    }
}

#[test]
fn every_block_of_the_program_is_found_with_its_size() {
    for name in [BREAK, BLOCKED] {
        let (shell, _) = open(&data(&format!("{name}.core.zst")));
        let heaps = shell.session.as_ref().unwrap().native_heaps().unwrap();
        let (blocks, counts) = told(name);
        assert!(blocks.len() > 1000);
        for (&address, &size) in &blocks {
            let found = heaps.blocks.at(address).and_then(|i| heaps.blocks.get(i));
            let found = found.unwrap_or_else(|| panic!("{name}: no block at {address:x}"));
            assert_eq!((found.size(), found.state()), (size, State::Used), "{name}: {address:x}");
        }
        // The C library's own: a cache and thread vectors a thread.
        let others =
            heaps.blocks.list().iter().filter(|b| b.state() == State::Used && !blocks.contains_key(&b.address()));
        let sizes: Vec<u64> = others.map(|b| b.size()).collect();
        assert!(sizes.len() <= 4 && sizes.iter().all(|s| [280, 648].contains(s)), "{name}: {sizes:?}");
        // arena, ordblks (a top each), smblks, hblks, fsmblks, fordblks.
        let t = heaps.totals();
        let fast: (u64, u64) = heaps.arenas.iter().fold((0, 0), |s, a| (s.0 + a.fast.count, s.1 + a.fast.bytes));
        let system: u64 = heaps.arenas.iter().map(|a| a.system).sum();
        let ours = [
            system,
            t.free.count + heaps.arenas.len() as u64,
            fast.0,
            heaps.mapped.count,
            fast.1,
            t.free.bytes + fast.1 + t.top,
        ];
        assert_eq!(ours, [counts[0], counts[1], counts[2], counts[3], counts[5], counts[7]], "{name}");
        assert_eq!(heaps.partial(), None, "{name}");
        adds_up(heaps);
    }
}

#[test]
fn blocks_of_musl_are_found_with_the_size_asked_for() {
    let (shell, _) = open(&data(&format!("{MUSL}.core.zst")));
    let heaps = shell.session.as_ref().unwrap().native_heaps().unwrap();
    let used: BTreeMap<u64, u64> =
        heaps.blocks.list().iter().filter(|b| b.state() == State::Used).map(|b| (b.address(), b.size())).collect();
    let (blocks, _) = told(MUSL);
    assert!(blocks.len() > 1000 && heaps.mapped.count == 6);
    assert_eq!(used, blocks);
    assert_eq!(heaps.partial(), None);
    adds_up(heaps);
}

#[test]
fn blocks_are_exported_without_a_runtime() {
    let (mut shell, out) = open(&data(&format!("{BREAK}.core.zst")));
    let folder = tempfile::tempdir().unwrap();
    shell.line(&format!(".export \"{}\" -tables nativeblocks,nativearenas", folder.path().display()));
    let said = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let table = std::fs::read_to_string(folder.path().join("nativeblocks.tsv")).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("address\tsize\tstate\tarena\tkind"), "{said}");
    let used: BTreeMap<u64, u64> = lines
        .map(|l| l.split('\t').collect::<Vec<_>>())
        .filter(|c| c[2] == "used")
        .map(|c| (u64::from_str_radix(c[0], 16).unwrap(), c[1].parse().unwrap()))
        .collect();
    for (address, size) in told(BREAK).0 {
        assert_eq!(used.get(&address), Some(&size), "{address:x}");
    }
    assert!(!said.contains("partial"), "{said}");
}

#[test]
fn a_heap_dump_of_a_runtime_says_what_it_lacks_and_exports_as_before() {
    let (mut shell, out) = open(&data("linux-x64-10.0-leak-heap.core.zst"));
    let session = shell.session.clone().unwrap();
    let heaps = session.native_heaps().unwrap();
    adds_up(heaps);
    assert!(heaps.checks.iter().all(|c| c.holds), "{:?}", heaps.checks);
    assert!(heaps.arenas[0].main && heaps.arenas[0].used.count > 1000 && heaps.arenas.len() > 3);
    let said = |shell: &mut clrscope::shell::state::Shell, line: &str| {
        out.0.lock().unwrap().clear();
        shell.line(line);
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    };
    let text = said(&mut shell, "!heap -s");
    assert!(text.contains("partial: the main arena's own data are not in the dump"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    shell.format = Format::Json;
    let text = said(&mut shell, &format!(".export \"{}\" -tables nativeblocks,runtime", folder.path().display()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["outcome"], "complete", "{text}");
    assert!(text.contains("the main arena's own data are not in the dump"), "{text}");
}

/// The runtime's own objects hold native memory in every dump: each managed thread its `Thread`.
#[test]
fn owners_are_told_by_type_and_field() {
    let (shell, _) = open(&data("linux-x64-10.0-leak-heap.core.zst"));
    let session = shell.session.clone().unwrap();
    let (all, live) = (session.native_owners(Which::All).unwrap(), session.native_owners(Which::Live).unwrap());
    let dead = session.native_owners(Which::Dead).unwrap();
    let of = |list: &[Owner], ty: &str| list.iter().find(|o| &*o.ty == ty).cloned();
    let thread = of(&all, "System.Threading.Thread").unwrap();
    assert_eq!(&*thread.field, "_DONT_USE_InternalThread");
    // Each thread has its own, of one size, and nothing else on the heap points there.
    assert_eq!((thread.blocks, thread.alone.0, thread.inside), (thread.objects, thread.blocks, 0));
    assert_eq!(thread.bytes % thread.blocks, 0);
    assert_eq!(
        of(&live, "System.Threading.Thread").map_or(0, |o| o.objects)
            + of(&dead, "System.Threading.Thread").map_or(0, |o| o.objects),
        thread.objects
    );
    let reached = session.native_reached().unwrap();
    let heaps = session.native_heaps().unwrap();
    for hold in &session.native_holds().unwrap().list {
        assert!(reached[hold.block as usize], "{hold:x?}");
        assert_eq!(heaps.blocks.get(hold.block as usize).unwrap().state(), State::Used);
    }
}

/// The rows of a table of an answer, each by the names of its columns.
fn rows(answer: &serde_json::Value, table: &str) -> Vec<BTreeMap<String, serde_json::Value>> {
    let of = |t: &&serde_json::Value| t["name"] == table;
    let Some(t) = answer["tables"].as_array().unwrap().iter().find(of) else { return Vec::new() };
    let columns: Vec<String> = t["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().into()).collect();
    let row = |r: &serde_json::Value| columns.iter().cloned().zip(r.as_array().unwrap().iter().cloned()).collect();
    t["rows"].as_array().unwrap().iter().map(row).collect()
}

/// `!maddress` divides memory by what it holds: the parts of a kind are all of it, those of native heaps what the allocator
/// has, and the kinds together what the dump lists.
#[test]
fn the_parts_of_memory_add_up_to_what_the_dump_lists() {
    let dumps = [
        "linux-x64-10.0-leak-heap.core.zst",
        "linux-x64-3.1-leak-heap.core.zst",
        "linux-x64-9.0-svr-heap.core.zst",
        "native/linux-x64-glibc-2.36-break.core.zst",
        "native/linux-x64-glibc-2.36-blocked.core.zst",
        "native/linux-x64-musl-1.2.3.core.zst",
        "win-x64-10.0-wks-full.dmp.zst",
    ];
    for name in dumps {
        let (mut shell, out) = open(&data(name));
        shell.format = Format::Json;
        shell.line("!maddress -summary -reserve");
        let answer: serde_json::Value = serde_json::from_slice(&out.0.lock().unwrap()).unwrap();
        let session = shell.session.clone().unwrap();
        let listed: u64 =
            session.dump().map.iter().filter(|e| e.state != MapState::Free).map(|e| e.end - e.start).sum();
        let of = |row: &BTreeMap<String, serde_json::Value>| row["size"].as_u64().unwrap();
        let totals = rows(&answer, "totals");
        assert_eq!(totals.iter().map(of).sum::<u64>(), listed, "{name}");
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for t in &totals {
            *kinds.entry(t["kind"].as_str().unwrap().to_owned()).or_default() += of(t);
        }
        let (mut sums, mut states) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        for p in rows(&answer, "parts") {
            *sums.entry(p["kind"].as_str().unwrap().to_owned()).or_default() += of(&p);
            *states.entry(p["part"].as_str().unwrap().to_owned()).or_default() += of(&p);
        }
        assert!(sums.contains_key("Stack"), "{name}: {sums:?}");
        for (kind, sum) in sums {
            assert_eq!(Some(&sum), kinds.get(&kind), "{name}: {kind}");
        }
        let heaps = session.native_heaps().unwrap();
        let t = heaps.totals();
        let has = |part: &str| states.get(part).copied().unwrap_or(0);
        assert_eq!(has("blocks with a mapping of their own"), heaps.mapped.bytes, "{name}");
        let parts = ["blocks in use", "free", "cached", "top", "headers, fences, not read"];
        // musl gives its heap what is left of the pages of libraries' data.
        assert!(parts.iter().map(|p| has(p)).sum::<u64>() <= t.system - heaps.mapped.bytes, "{name}");
        if matches!(heaps.allocator, Allocator::Glibc(_)) {
            let in_use = t.used.bytes - heaps.mapped.bytes;
            let own = [in_use, t.free.bytes, t.cached.bytes, t.top, t.own + t.lost];
            assert_eq!(parts.map(has), own, "{name}");
        }
    }
}

/// The heaps of a Windows process are listed, and those of wine are not taken for Windows' own.
#[test]
fn heaps_of_wine_are_named() {
    let (mut shell, out) = open(&data("win-x64-3.1-wks-full.dmp.zst"));
    let session = shell.session.clone().unwrap();
    let heaps = windows::list(session.dump());
    assert!(!heaps.is_empty());
    for h in &heaps {
        assert_eq!((h.kind, h.counted), (HeapKind::Wine, None), "{h:x?}");
        assert!(h.memory.iter().any(|r| (r.0..r.1).contains(&h.address)) && h.mapped.1 <= h.mapped.0, "{h:x?}");
    }
    shell.line("!heap -s");
    let said = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("wine") && said.contains("partial: blocks of Windows heaps are not read"), "{said}");
}

/// Two dumps of one program: each row is the difference of what both heaps have.
#[test]
fn native_heaps_of_two_dumps_are_compared() {
    let (mut shell, out) = open(&data("linux-x64-10.0-leaktwice-heap.core.zst"));
    shell.format = Format::Json;
    let older = data("linux-x64-10.0-leak-heap.core.zst");
    shell.line(&format!("!diff \"{}\" -native -top 0", older.display()));
    let answer: serde_json::Value = serde_json::from_slice(&out.0.lock().unwrap()).unwrap();
    let (old, _) = open(&older);
    let (old, new) = (old.session.unwrap(), shell.session.clone().unwrap());
    let (old, new) = (old.native_heaps().unwrap().totals(), new.native_heaps().unwrap().totals());
    let parts = rows(&answer, "native");
    let row = parts.iter().find(|r| r["name"] == "blocks in use").unwrap();
    let more = |old: u64, new: u64| new as i64 - old as i64;
    assert_eq!(row["growth_bytes"].as_i64(), Some(more(old.used.bytes, new.used.bytes)), "{row:?}");
    assert_eq!(row["growth_count"].as_i64(), Some(more(old.used.count, new.used.count)), "{row:?}");
}

/// Whatever stands in the heaps, the walk ends, nothing overlaps, the sums add up, and what is wrong is said.
/// Damaged headers claim all addresses there are: what looks at steps of them would not end.
#[test]
fn entries_that_claim_everything_cost_what_can_be_read() {
    const START: u64 = 0x10_0000;
    const LENGTH: u64 = 0x1_0000;
    let mut space = SpaceBuilder::new(8);
    let source = space.source(FileMap::owned((0..LENGTH).map(|i| i as u8 | 1).collect()));
    space.add(START, source, 0, LENGTH);
    let kind = DumpKind::ElfCore { writer: CoreWriter::Gcore };
    let mut dump = Dump::empty(Path::new("claims"), LENGTH, kind, Os::Linux, Arch::X64, space.build().0);
    dump.map = vec![MapEntry {
        start: START,
        end: u64::MAX - 0xFFF,
        state: MapState::Commit,
        kind: MapType::Private,
        protect: 0x04,
        allocation_base: START,
        allocation_protect: 0x04,
        presence: Presence::Dumped,
        module: None,
        file: None,
        file_offset: 0,
    }];
    // The secret of musl's allocator, for which every page is looked at.
    dump.auxv = vec![(25, START)];
    adds_up(&heaps::read(&dump, &[], &Watch::default()).unwrap());
}

#[test]
fn damaged_heaps_are_partial() {
    let (shell, _) = open(&data(&format!("{BREAK}.core.zst")));
    let session = shell.session.clone().unwrap();
    let sound = session.native_heaps().unwrap();
    let list: Vec<_> = sound.blocks.list().iter().filter(|b| b.kind() == Kind::Chunk).collect();
    let mut patch = Patch::open(session.dump().unpacked.as_ref().unwrap());
    let mut seed = 1u64;
    for i in (50..list.len()).step_by(150) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = [0, u64::MAX, seed, 0x7fff_ffff_fff1, 33][i % 5];
        patch.write(list[i].address() - 8, &word.to_le_bytes());
    }
    let file = tempfile::Builder::new().suffix(".core").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    patch.save(file.path());
    let (shell, _) = open(file.path());
    let session = shell.session.clone().unwrap();
    let heaps = session.native_heaps().unwrap();
    adds_up(heaps);
    assert!(heaps.partial().is_some());
    assert!(heaps.blocks.len() > sound.blocks.len() / 2, "{} of {}", heaps.blocks.len(), sound.blocks.len());
}
