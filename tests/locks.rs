//! Who holds and who waits for which lock, against what the program said of itself by the names of its threads, and with
//! whatever leads there damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/patch.rs"]
mod patch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clrscope::clr::Clr;
use clrscope::clr::runtime::locks::{LOCK, Lock, LockKind, Owners};
use clrscope::clr::runtime::threads::ClrThread;
use clrscope::session::Session;
use clrscope::session::locks::waits::{Wait, WaitKind, circles};
use opened::open;
use patch::Patch;
use proptest::prelude::*;

const RECORD: &str = "System.Threading.ThreadBlockingInfo";

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Every dump of `testdata/`.
fn dumps() -> Vec<(String, Session)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(testdata()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if let Some(bare) = name.strip_suffix(".core.zst").or_else(|| name.strip_suffix(".dmp.zst")) {
            found.push((bare.to_owned(), open(&testdata().join(&name))));
        }
    }
    assert!(found.len() >= 15, "only {} dumps", found.len());
    found
}

fn thread(clr: &Clr, address: u64) -> &ClrThread {
    clr.threads().items.iter().find(|t| t.address == address).expect("a thread of the list")
}

#[test]
fn as_many_wait_for_a_monitor_as_it_counts() {
    let mut waiting = 0;
    for (name, session) in dumps() {
        let (clr, waits) = (session.clr().unwrap(), session.waits().unwrap());
        assert_eq!(waits.partial, None, "{name}");
        for b in &clr.sync_blocks().items {
            let of_block = |w: &&Wait| w.kind == WaitKind::Monitor && w.lock.address == b.address;
            let (found, counted) = (waits.items.iter().filter(of_block).count(), b.monitor.waiters as usize);
            // 1.0 and 2.0 leave who waits out of the word that counts, and so does Microsoft's library.
            assert!(found == counted || counted == 0 && b.monitor.held, "{name}: {found} wait for {b:x?}");
            assert_eq!(b.monitor.held, b.monitor.owner != 0, "{name}: {b:x?}");
            assert!(!b.monitor.held || b.monitor.count > 0, "{name}: {b:x?}");
        }
        for w in &waits.items {
            assert_ne!(w.holder(), w.thread, "{name}");
            waiting += 1;
        }
        // Of all programs of testdata two are in a deadlock.
        let circles = circles(&waits.items);
        assert_eq!(
            circles.len(),
            usize::from(["linux-x64-11.0-eleven-heap", "linux-x64-10.0-locks-heap"].contains(&name.as_str())),
            "{name}: {circles:?}"
        );
    }
    assert!(waiting >= 20, "only {waiting} threads wait");
}

/// The zoo: "owns Keep" and a worker hold `LockA` and another worker `LockB`; one more worker waits for each.
#[test]
fn threads_wait_for_whom_their_names_tell() {
    let mut seen = 0;
    for (name, session) in dumps().into_iter().filter(|d| d.0.contains("-wks-") || d.0.contains("-svr-")) {
        let clr = session.clr().unwrap();
        let waits = session.waits().unwrap();
        assert_eq!(waits.items.len(), 2, "{name}");
        for w in &waits.items {
            assert!(w.lock.held && w.kind == WaitKind::Monitor && w.timeout.is_none(), "{name}: {w:x?}");
            // Dumps of 3.1 for Linux hold no names of types: then a thread's name is not found either.
            let names = [w.thread, w.holder()].map(|t| session.thread_name(thread(clr, t)));
            if names.iter().any(String::is_empty) {
                continue;
            }
            seen += 1;
            let [waits, holds] = names;
            assert!(["worker 0", "worker 1", "worker 2", "waits for Fat"].contains(&&*waits), "{name}: {waits}");
            let another = holds.starts_with("worker ") || holds == "owns Keep" || holds == "holds Fat";
            assert!(another && holds != waits, "{name}: {waits} waits for {holds}");
        }
        // "owns Keep" entered the list it is named after, which nobody waits for.
        let thin = session.thin_locks().unwrap();
        let keep = facts(&name).get("address:Keep").map(|a| u64::from_str_radix(a, 16).unwrap()).unwrap();
        let lock = thin.items.iter().find(|l| l.object == keep).expect("the list is locked");
        assert_eq!((lock.count, lock.waiters, lock.kind), (1, 0, LockKind::Thin), "{name}");
        let owner = session.thread_name(thread(clr, lock.owner));
        assert!(owner.is_empty() || owner == "owns Keep", "{name}: {owner}");
        let (held, partial) = session.locks_held().unwrap();
        assert_eq!((held.get(&lock.owner), partial), (Some(&2), None), "{name}");
    }
    assert!(seen >= 8, "only {seen} threads with names wait");
}

fn facts(name: &str) -> HashMap<String, String> {
    let text = std::fs::read_to_string(testdata().join(format!("{name}.facts.tsv"))).unwrap();
    text.lines().filter_map(|l| l.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A dump to be changed.
struct Base {
    session: Session,
    file: PathBuf,
    name: &'static str,
}

impl Base {
    fn new(name: &'static str) -> Self {
        let session = open(&testdata().join(name));
        let file = session.dump().unpacked.clone().unwrap();
        Self { session, file, name }
    }

    fn patch(&self) -> Patch {
        Patch::open(&self.file)
    }

    /// Opens the changed copy and says something of it.
    fn of<T>(&self, patch: &Patch, say: impl FnOnce(&Session) -> T) -> T {
        let ending = if self.name.contains(".dmp") { ".dmp" } else { ".core" };
        let file = tempfile::Builder::new().suffix(ending).tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        patch.save(file.path());
        say(&open(file.path()))
    }

    fn waits(&self, patch: &Patch) -> (Vec<Wait>, Option<String>) {
        self.of(patch, |s| {
            let waits = s.waits().unwrap();
            (waits.items.clone(), waits.partial.clone())
        })
    }
}

/// The header word of a thin lock entered three times: two further entries, where the runtime of the dump keeps them.
#[test]
fn further_entries_of_a_thin_lock_are_counted() {
    for (name, shift) in [("linux-x64-3.1-wks-heap.core.zst", 10), ("linux-x64-8.0-wks-heap.core.zst", 16)] {
        let base = Base::new(name);
        let lock = base.session.thin_locks().unwrap().items[0];
        let mut patch = base.patch();
        let word = u32::from_le_bytes(patch.read(lock.object - 4, 4).unwrap().try_into().unwrap());
        patch.write(lock.object - 4, &(word | 2 << shift).to_le_bytes());
        base.of(&patch, |s| {
            let thin = s.thin_locks().unwrap();
            let now = thin.items.iter().find(|l| l.object == lock.object).expect("still a thin lock");
            assert_eq!(*now, Lock { count: 3, ..lock }, "{name}");
            assert_eq!(s.thin_lock(lock.object).unwrap().1, 2, "{name}");
        });
    }
}

const ZOO: &str = "linux-x64-10.0-wks-heap.core.zst";

/// Where the waiting threads' native records lie: thread and address, by the lists' common head.
fn native_records(base: &Base) -> Vec<(u64, u64)> {
    let clr = base.session.clr().unwrap();
    let blocks: Vec<u64> = clr.sync_blocks().items.iter().map(|b| b.address).collect();
    let mut found = Vec::new();
    for w in &base.session.waits().unwrap().items {
        let stack = stack(&base.session, w.thread);
        // The one word of a `Thread` that leads to its stack, where the sync block's address is.
        let records = (0..0x800).step_by(8).filter_map(|o| clr.space().ptr_at(w.thread, o));
        let mut records = records.filter(|r| (stack.0..stack.1).contains(r));
        let is_record = |r: &u64| clr.space().ptr(*r).is_some_and(|b| blocks.contains(&b));
        found.push((w.thread, records.find(is_record).unwrap()));
    }
    assert_eq!(found.len(), 2);
    found
}

fn stack(session: &Session, of: u64) -> (u64, u64) {
    let os_id = thread(session.clr().unwrap(), of).os_id;
    session.dump().threads.iter().find(|t| t.os_id == os_id).and_then(|t| t.stack).unwrap()
}

#[test]
fn damaged_native_records_end_their_own_list_alone() {
    let base = Base::new(ZOO);
    let before = base.session.waits().unwrap().items.clone();
    let [(first, record), (second, other)] = native_records(&base)[..] else { panic!() };
    let (next, kind, monitor) = (record + 24, record + 16, record);
    let far = base.session.heap().unwrap().segments[0].start;
    // What is written, and how many waits of the damaged thread are left.
    let cases: &[(&str, u64, u64, usize)] = &[
        ("leads to itself", next, record, 1),
        ("leads into another stack", next, other, 1),
        ("leads to the heap", next, far, 1),
        ("leads nowhere", next, 0x10, 1),
        ("leads out of the address space", next, u64::MAX - 7, 1),
        ("no such kind", kind, 9, 0),
        ("no monitor", monitor, far, 0),
        ("no memory", monitor, 0x1000, 0),
    ];
    for (case, at, value, left) in cases {
        let mut patch = base.patch();
        patch.write(*at, &value.to_le_bytes());
        let (waits, partial) = base.waits(&patch);
        assert_eq!(waits.iter().filter(|w| w.thread == first).count(), *left, "{case}");
        assert!(partial.is_some_and(|p| p.contains("is no lock")), "{case}");
        let same = |w: &&Wait| w.thread == second;
        assert_eq!(waits.iter().find(same), before.iter().find(same), "{case}");
    }
    // A record of the same shape is followed: the thread waits inside a wait.
    let mut patch = base.patch();
    let inner = put(&mut patch, stack(&base.session, first), record + 64, &[]);
    let bytes = patch.read(other, 24).unwrap().to_vec();
    patch.write(inner, &bytes);
    patch.write(next, &inner.to_le_bytes());
    let (waits, partial) = base.waits(&patch);
    assert_eq!((waits.iter().filter(|w| w.thread == first).count(), partial), (2, None));
}

/// Writes words where a stack has zeros, from `from` on; returns the place. At least 48 bytes are kept.
fn put(patch: &mut Patch, stack: (u64, u64), from: u64, words: &[u64]) -> u64 {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.resize(bytes.len().max(48), 0);
    patch.put(&(from..stack.1), &bytes)
}

/// Two objects of class `Lock` that threads hold and wait for crosswise, as no dump of testdata has them: with the records
/// of `ThreadBlockingInfo` on their stacks.
struct Crossed {
    base: Base,
    patch: Patch,
    threads: [u64; 2],
    locks: [u64; 2],
    records: [u64; 2],
    /// Stack slots that refer to the locks.
    slots: [u64; 2],
}

impl Crossed {
    fn new() -> Self {
        let base = Base::new(ZOO);
        let mut patch = base.patch();
        let (clr, session) = (base.session.clr().unwrap(), &base.session);
        let [(first, record), (second, other)] = native_records(&base)[..] else { panic!() };
        let threads = [first, second];
        // A place in the threads' own data for `t_first`: free in all of them.
        let l = clr.layout();
        let data = |t: u64| clr.space().ptr_at(t, l.offset("Thread", "ThreadLocalDataPtr").unwrap()).unwrap();
        let all: Vec<u64> = clr.threads().items.iter().map(|t| data(t.address)).filter(|&d| d != 0).collect();
        let mt = clr.method_table(session.find_types(RECORD).unwrap()[0]).unwrap();
        let free = |slot: &u64| all.iter().all(|d| patch.read(d + slot, 64).is_some_and(|b| b.iter().all(|&x| x == 0)));
        let slot = (0x40..0x800u64).step_by(8).find(free).expect("no room for a thread static");
        let info = mt.aux - l.offset("ThreadStaticsInfo", "!").unwrap();
        let index = 2 << 24 | slot as u32;
        patch.write(info + l.offset("ThreadStaticsInfo", "NonGCTlsIndex").unwrap(), &index.to_le_bytes());
        let cells = base.of(&patch, |s| {
            let cells = s.thread_static_cells(RECORD, "t_first");
            threads.map(|t| cells.iter().find(|c| c.0.address == t).expect("a cell of the thread").1)
        });
        // The locks: held once by one thread, waited for by the other.
        let class = session.find_types(LOCK).unwrap()[0];
        let ids = &session.index().unwrap().ids;
        let mut objects =
            (0..ids.len()).filter_map(|id| ids.address_of(id)).filter(|&a| clr.object_type(a) == Some(class));
        let locks = [objects.next().unwrap(), objects.next().unwrap()];
        let fields = clr.fields(class);
        let field = |name: &str| fields.instance.iter().find(|f| &*f.name == name).unwrap().offset() + 8;
        for (lock, owner) in locks.iter().zip(threads) {
            let os_id = thread(clr, owner).os_id as u32;
            for (name, value) in [("_owningThreadId", os_id), ("_state", 1 | 1 << 7), ("_recursionCount", 0)] {
                patch.write(lock + field(name), &value.to_le_bytes());
            }
        }
        // The records, in front of the native ones: a `Lock`, for ever, nothing further out.
        let wants = [locks[1], locks[0]];
        let (mut records, mut slots) = ([0; 2], [0; 2]);
        for (i, native) in [record, other].into_iter().enumerate() {
            let stack = stack(session, threads[i]);
            slots[i] = put(&mut patch, stack, native + 64, &[wants[i]]);
            records[i] = put(&mut patch, stack, native + 64, &[slots[i], 2 | 0xFFFF_FFFF << 32, 0]);
            patch.write(cells[i], &records[i].to_le_bytes());
        }
        Self { base, patch, threads, locks, records, slots }
    }

    /// A further copy of the changed dump.
    fn copy(&self) -> Patch {
        let file = tempfile::Builder::new().suffix(".core").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        self.patch.save(file.path());
        Patch::open(file.path())
    }

    fn lock_waits(&self) -> (Vec<Wait>, Option<String>) {
        let (mut waits, partial) = self.base.waits(&self.patch);
        waits.retain(|w| w.kind == WaitKind::Lock);
        (waits, partial)
    }
}

#[test]
fn a_circle_of_locks_is_a_deadlock() {
    let crossed = Crossed::new();
    let (waits, partial) = crossed.lock_waits();
    assert_eq!(partial, None);
    assert_eq!(waits.len(), 2, "{waits:x?}");
    for (i, w) in waits.iter().enumerate() {
        let other = 1 - crossed.threads.iter().position(|t| *t == w.thread).unwrap();
        assert_eq!((w.lock.object, w.holder()), (crossed.locks[other], crossed.threads[other]), "{i}");
        assert_eq!((w.lock.count, w.lock.waiters, w.timeout), (1, 1, None), "{i}");
    }
    assert_eq!(circles(&waits), [[0, 1]]);
    crossed.base.of(&crossed.patch, |s| {
        let objects = s.lock_objects().unwrap();
        assert_eq!(objects.items.iter().map(|l| l.object).collect::<Vec<_>>(), crossed.locks);
        let owners = Owners::of(s.clr().unwrap());
        assert!(objects.items.iter().all(|l| owners.thread(l.owner).is_some() && l.kind == LockKind::Lock));
    });
    let file = tempfile::Builder::new().suffix(".core").tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    crossed.patch.save(file.path());
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(file.path())
        .args(["-c", "!syncblk", "-c", &format!("!do {:x}", crossed.locks[0])])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("Deadlock: 2 threads wait for one another"), "{said}");
    let (one, two) = (crossed.locks[0], crossed.locks[1]);
    assert!(said.contains(&format!("holds {one:016x} ({LOCK}) and waits for {two:016x} ({LOCK}), held by")), "{said}");
    assert!(said.contains(", Count 1, Waiters 1"), "{said}");
    // SOS's own table and footer come first, as they are.
    let footer = said.find("Total           4\nFree            0\n\n").expect("SOS's footer");
    assert!(footer < said.find("System.Threading.Lock objects:").unwrap(), "{said}");
}

#[test]
fn damaged_records_and_locks_are_said_and_left_out() {
    let heap = |c: &Crossed| c.base.session.heap().unwrap().segments[0].start;
    let string = |c: &Crossed| {
        let (session, clr) = (&c.base.session, c.base.session.clr().unwrap());
        let thread = clr.threads().items.iter().find(|t| !session.thread_name(t).is_empty()).unwrap();
        session.value(thread.exposed_object).unwrap().pointer(&["_name"]).unwrap()
    };
    type Damage = fn(&Crossed) -> (u64, u64);
    // What is written where, and whether the record itself still counts.
    let cases: &[(&str, Damage, bool)] = &[
        ("leads to itself", |c| (c.records[0] + 16, c.records[0]), true),
        ("leads back", |c| (c.records[0] + 16, c.records[0] - 8), true),
        ("leads into another stack", |c| (c.records[0] + 16, c.records[1]), true),
        ("leads nowhere", |c| (c.records[0] + 16, 8), true),
        ("leads past the end", |c| (c.records[0] + 16, u64::MAX - 7), true),
        ("is not aligned", |c| (c.records[0] + 16, c.records[0] + 33), true),
        ("no such kind", |c| (c.records[0] + 8, 77), false),
        ("a condition that is a lock", |c| (c.records[0] + 8, 3), false),
        ("a monitor that is a slot", |c| (c.records[0] + 8, 0), false),
        ("no slot", |c| (c.records[0], 0), false),
        ("a slot nowhere", |c| (c.records[0], u64::MAX - 3), false),
        ("no object", |c| (c.slots[0], 0), false),
        ("an object nowhere", |c| (c.slots[0], 0xFFFF_FFFF_FFFF_FFF8), false),
    ];
    let mut all: Vec<(&str, (u64, u64), bool)> = Vec::new();
    let whole = Crossed::new();
    all.extend(cases.iter().map(|(case, damage, counts)| (*case, damage(&whole), *counts)));
    all.push(("a string for a lock", (whole.slots[0], string(&whole)), false));
    all.push(("the start of the heap for a lock", (whole.slots[0], heap(&whole) + 1), false));
    all.push(("a lock without a type", (whole.locks[1], 0), false));
    for (case, (at, value), counts) in all {
        let mut patch = whole.copy();
        patch.write(at, &value.to_le_bytes());
        let (waits, partial) = whole.base.waits(&patch);
        let of_first = waits.iter().filter(|w| w.kind == WaitKind::Lock && w.thread == whole.threads[0]).count();
        assert_eq!(of_first, usize::from(counts), "{case}");
        assert!(partial.is_some_and(|p| p.contains("is no lock")), "{case}");
        let monitors = waits.iter().filter(|w| w.kind == WaitKind::Monitor).count();
        assert_eq!(monitors, 2, "{case}: what stands elsewhere is left");
        let listed = whole.base.of(&patch, |s| s.lock_objects().unwrap().items.len());
        assert!((1..=2).contains(&listed), "{case}: {listed} locks");
    }
}

#[test]
fn a_lock_held_by_nobody_known_has_no_owner() {
    let crossed = Crossed::new();
    let mut patch = crossed.copy();
    let clr = crossed.base.session.clr().unwrap();
    let fields = clr.fields(crossed.base.session.find_types(LOCK).unwrap()[0]);
    let field = |name: &str| fields.instance.iter().find(|f| &*f.name == name).unwrap().offset() + 8;
    let lock = crossed.locks[0];
    patch.write(lock + field("_owningThreadId"), &0xDEAD_BEEFu32.to_le_bytes());
    patch.write(lock + field("_state"), &u32::MAX.to_le_bytes());
    patch.write(lock + field("_recursionCount"), &u32::MAX.to_le_bytes());
    crossed.base.of(&patch, |s| {
        let found = s.lock_at(lock).unwrap();
        assert_eq!((found.held, found.owner, found.count, found.waiters), (true, 0, u32::MAX, u32::MAX >> 7));
        assert_eq!(found.monitor_held(), 1 + 2 * (u32::MAX >> 7));
        assert!(circles(&s.waits().unwrap().items).is_empty());
    });
}

fn wait(thread: u64, holder: u64) -> Wait {
    let lock = Lock { held: holder != 0, owner: holder, ..Lock::free(LockKind::Monitor, thread << 8 | holder, 1) };
    Wait { thread, kind: WaitKind::Monitor, lock, timeout: None }
}

#[test]
fn circles_are_found_behind_tails_and_in_nested_waits() {
    // 1 -> 2 -> 3 -> 2, and 5 -> 5, which is no wait.
    assert_eq!(circles(&[wait(1, 2), wait(2, 3), wait(3, 2), wait(5, 5)]), [[1, 2]]);
    // A thread that waits inside a wait is in every circle of either.
    assert_eq!(circles(&[wait(1, 2), wait(1, 3), wait(2, 1), wait(3, 1)]), [[0, 2], [1, 3]]);
    // Who waits for a pulse is held up by nobody.
    let pulse = Wait { kind: WaitKind::MonitorWait, ..wait(2, 1) };
    assert!(circles(&[wait(1, 2), pulse]).is_empty());
}

proptest! {
    /// Each thread waits for at most one other: every circle is found once, and what is found is one.
    #[test]
    fn circles_of_single_waits_are_all_found(to in proptest::collection::vec(0u64..24, 1..24)) {
        let waits: Vec<Wait> = to.iter().enumerate().map(|(i, &h)| wait(i as u64 + 1, h)).collect();
        let next = |t: u64| to.get(t as usize - 1).copied().filter(|&h| h != 0 && h != t && h as usize <= to.len());
        let mut on_circle = Vec::new();
        for start in 1..=to.len() as u64 {
            let mut at = next(start);
            for _ in 0..to.len() {
                if at == Some(start) {
                    on_circle.push(start);
                    break;
                }
                at = at.and_then(next);
            }
        }
        let found = circles(&waits);
        for circle in &found {
            for (i, w) in circle.iter().enumerate() {
                let following = circle[(i + 1) % circle.len()];
                prop_assert_eq!(waits[*w].holder(), waits[following].thread);
            }
        }
        let mut threads: Vec<u64> = found.iter().flatten().map(|w| waits[*w].thread).collect();
        threads.sort_unstable();
        prop_assert_eq!(threads, on_circle);
    }
}
