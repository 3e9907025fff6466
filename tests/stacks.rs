//! Managed stacks against those that Microsoft's library walked: `testdata/NAME.frames.tsv.zst`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/patch.rs"]
mod patch;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clrscope::clr::code::stack::{Frame, FrameKind, Stack};
use clrscope::session::Session;
use opened::open;
use patch::Patch;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn dump(name: &str) -> PathBuf {
    let files = ["core", "dmp"].map(|e| testdata().join(format!("{name}.{e}.zst")));
    files.into_iter().find(|f| f.exists()).unwrap()
}

/// Rows by the names of their columns.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = String::from_utf8(zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()).unwrap();
    let mut lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let columns: Vec<String> = lines.next().unwrap().split('\t').map(str::to_owned).collect();
    lines.map(|l| columns.iter().cloned().zip(l.split('\t').map(str::to_owned)).collect()).collect()
}

fn hex(row: &BTreeMap<String, String>, column: &str) -> u64 {
    row.get(column).and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0)
}

fn stacks(session: &Session) -> BTreeMap<u64, Arc<Stack>> {
    let clr = session.clr().unwrap();
    clr.threads().items.iter().filter(|t| t.os_id != 0).map(|t| (t.os_id, clr.stack(t))).collect()
}

/// Compares the stacks of one dump; how many threads, frames and IL offsets were equal.
fn compare(name: &str) -> (usize, usize, usize) {
    let session = open(&dump(name));
    let clr = session.clr().unwrap();
    let ours = stacks(&session);
    let truth = rows(&testdata().join(format!("{name}.frames.tsv.zst")));
    // The library lists frames of a thread printed before for one that has none: they have no method.
    let managed = |r: &&BTreeMap<String, String>| r["kind"] == "ManagedMethod" && hex(r, "method_desc") != 0;
    let mut threads: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for r in truth.iter().filter(managed) {
        threads.entry(hex(r, "os_id")).or_default().push((hex(r, "sp"), hex(r, "ip")));
    }
    for (id, frames) in &threads {
        let walked: Vec<(u64, u64)> = ours[id].managed().map(|f| (f.sp, f.ip)).collect();
        assert_eq!(&walked, frames, "{name}: thread {id:x}");
    }
    let frame = |r: &BTreeMap<String, String>| -> Frame {
        let of = ours[&hex(r, "os_id")].managed().find(|f| f.sp == hex(r, "sp")).cloned();
        of.unwrap_or_else(|| panic!("{name}: {r:?}"))
    };
    let (mut frames, mut offsets) = (0, 0);
    for r in truth.iter().filter(managed) {
        let f = frame(r);
        assert_eq!(f.code.unwrap().method, Some(hex(r, "method_desc")), "{name}: {r:?}");
        if let Ok(native) = u64::from_str_radix(&r["native_offset"], 16) {
            assert_eq!(u64::from(f.code.unwrap().native), native, "{name}: {r:?}");
        }
        frames += 1;
        // Where the thread was interrupted the library gives the offset of the call before.
        let known = !f.leaf && r["native_offset"] != "?";
        if let Some(il) = r["il_offset"].parse::<u32>().ok().filter(|_| known) {
            assert_eq!(f.il_offset(clr.code()), Some(il), "{name}: {r:?}");
            offsets += 1;
        }
    }
    explicit(name, &truth, &ours);
    (threads.len(), frames, offsets)
}

/// Explicit frames stand at the same places and have the same names.
fn explicit(name: &str, truth: &[BTreeMap<String, String>], ours: &BTreeMap<u64, Arc<Stack>>) {
    // The collector's own records are no frames since 5.0.
    const LEFT_OUT: [&str; 3] = ["", "GCFrame", "ProtectByRefsFrame"];
    let of_truth = truth.iter().filter(|r| r["kind"] == "Runtime" && !LEFT_OUT.contains(&r["frame"].as_str()));
    let expected: HashSet<(u64, u64, &str)> =
        of_truth.map(|r| (hex(r, "os_id"), hex(r, "sp"), r["frame"].as_str())).collect();
    let all = ours.iter().flat_map(|(id, s)| s.frames.iter().filter_map(|f| Some((*id, f.explicit?))));
    let found: HashSet<(u64, u64, &str)> = all.map(|(id, e)| (id, e.address, e.name)).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.len() <= expected.len() / 10, "{name}: {missing:x?}");
}

#[test]
fn stacks_are_those_of_microsofts_library() {
    let (mut threads, mut frames, mut offsets) = (0, 0, 0);
    let files = std::fs::read_dir(testdata()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|f| f.strip_suffix(".frames.tsv.zst").map(str::to_owned)).collect();
    names.sort();
    for name in &names {
        let equal = compare(name);
        println!("{name}: {} threads, {} frames, {} IL offsets equal", equal.0, equal.1, equal.2);
        (threads, frames, offsets) = (threads + equal.0, frames + equal.1, offsets + equal.2);
    }
    assert!(names.len() >= 11 && threads >= 65 && frames >= 260 && offsets >= 150, "{threads} {frames} {offsets}");
}

#[test]
fn a_stack_says_where_it_goes_and_what_it_knows() {
    let session = open(&dump("linux-x64-10.0-crash-heap"));
    let clr = session.clr().unwrap();
    for stack in stacks(&session).values() {
        assert_eq!(stack.partial, None);
        let managed: Vec<&Frame> = stack.managed().collect();
        for f in &managed {
            let registers = f.registers.unwrap();
            assert_eq!((registers.ip, registers.sp()), (f.ip, f.sp));
            // What a call does not preserve is not known in the caller.
            assert!(f.leaf || registers.named("rax").is_none() && registers.named("rcx").is_none());
            assert!(f.caller_sp.unwrap() > f.sp);
        }
        for pair in managed.windows(2) {
            assert!(pair[0].sp < pair[1].sp);
        }
    }
    // The thread that crashed stands in a handler on top of the frames the exception came through.
    let names = |s: &Stack| -> Vec<String> { s.managed().filter_map(|f| clr.code().name(&f.code?)).collect() };
    let all = stacks(&session);
    let crashed = all.values().find(|s| names(s).iter().filter(|n| *n == "Zoo.Zoo.Level(Int32)").count() > 3).unwrap();
    let first = crashed.managed().next().unwrap();
    assert!(first.is_funclet() && crashed.managed().skip(1).all(|f| !f.is_funclet()));
    assert!(crashed.frames.iter().any(|f| f.explicit.is_some_and(|e| e.name == "SoftwareExceptionFrame")));
}

#[test]
fn x86_stacks_are_found_by_frame_pointers_and_return_addresses() {
    let session = open(&dump("win-x86-3.1-small"));
    let clr = session.clr().unwrap();
    let all = stacks(&session);
    let named = |s: &Stack| s.managed().filter_map(|f| clr.code().name(&f.code?)).collect::<Vec<_>>();
    let main = all.values().map(|s| named(s)).find(|n| n.iter().any(|n| n.contains("Main(")));
    assert!(main.is_some(), "{:?}", all.values().map(|s| named(s)).collect::<Vec<_>>());
}

/// A copy of the dump with `change` applied to it, opened.
fn damaged(change: impl FnOnce(&mut Patch, &Session)) -> Session {
    let name = "linux-x64-9.0-svr-heap";
    let whole = open(&dump(name));
    let packed = std::fs::File::open(dump(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (plain, copy) = (dir.path().join("plain.core"), dir.path().join("copy.core"));
    let mut decoder = zstd::Decoder::new(packed).unwrap();
    decoder.window_log_max(31).unwrap();
    std::io::copy(&mut decoder, &mut std::fs::File::create(&plain).unwrap()).unwrap();
    let mut patch = Patch::open(&plain);
    change(&mut patch, &whole);
    patch.save(&copy);
    // What is mapped stays readable when its file is gone.
    open(&copy)
}

fn is_bounded(session: &Session) -> Vec<String> {
    let begun = Instant::now();
    let all = stacks(session);
    assert!(begun.elapsed() < Duration::from_secs(20));
    all.values().filter_map(|s| s.partial.clone()).collect()
}

#[test]
fn a_chain_of_frames_that_runs_in_a_circle_ends() {
    let session = damaged(|patch, whole| {
        let clr = whole.clr().unwrap();
        // The oldest frame of one thread leads back to its newest.
        let own = |s: &Arc<Stack>| s.frames.iter().filter_map(|f| Some(f.explicit?.address)).collect::<Vec<u64>>();
        let chain = stacks(whole).values().map(own).find(|c| c.len() > 1).unwrap();
        patch.write(chain[chain.len() - 1] + clr.header(), &chain[0].to_le_bytes());
    });
    let reasons = is_bounded(&session);
    assert!(reasons.iter().any(|r| r.contains("the chain of explicit frames goes wrong")), "{reasons:?}");
}

#[test]
fn unwind_data_of_zeros_and_of_noise_ends_the_walk_and_is_said() {
    for byte in [0u8, 0x5A, 0xFF] {
        let session = damaged(|patch, whole| {
            for stack in stacks(whole).values() {
                for f in stack.managed() {
                    let at = f.code.unwrap().function.map_or(0, |f| f.unwind);
                    if patch.read(at, 16).is_some() {
                        patch.write(at, &[byte; 16]);
                    }
                }
            }
        });
        let reasons = is_bounded(&session);
        assert!(!reasons.is_empty());
        let gaps =
            stacks(&session).values().flat_map(|s| s.frames.clone()).filter(|f| f.kind == FrameKind::Gap).count();
        assert!(gaps > 0 || byte == 0x5A, "{byte:x}");
    }
}
