//! Corners of stacks that few dumps have: return addresses that the collector replaced, funclets, stubs, exact type arguments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/opened.rs"]
mod opened;
#[path = "support/patch.rs"]
mod patch;

use std::path::{Path, PathBuf};

use clrscope::clr::code::stack::{Frame, FrameKind};
use clrscope::clr::runtime::threads::ClrThread;
use clrscope::session::Session;
use opened::open;
use patch::Patch;

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let files = ["core", "dmp"].map(|e| folder.join(format!("{name}.{e}.zst")));
    files.into_iter().find(|f| f.exists()).unwrap()
}

/// Stack and instruction pointers of the managed frames of a thread.
fn frames(session: &Session, os_id: u64) -> Vec<(u64, u64)> {
    let clr = session.clr().unwrap();
    let thread = clr.threads().items.iter().find(|t| t.os_id == os_id).unwrap();
    clr.stack(thread).managed().map(|f| (f.sp, f.ip)).collect()
}

/// A managed frame that was called by another one, which is no funclet: where its return address lies.
fn called(session: &Session, thread: &ClrThread) -> Option<(u64, u64)> {
    let stack = session.clr().unwrap().stack(thread);
    let pair = stack.frames.windows(2).find(|p| p.iter().all(|f| f.kind == FrameKind::Managed && !f.is_funclet()))?;
    let slot = pair[0].caller_sp?.checked_sub(8)?;
    Some((slot, pair[1].ip))
}

#[test]
fn a_return_address_that_the_collector_replaced_is_found_in_the_thread() {
    // Words of a Thread in which no version keeps anything that a stack is read by.
    const PLACE: u64 = 0x3D0;
    let names = [
        "linux-x64-3.1-wks-heap",
        "linux-x64-8.0-wks-heap",
        "linux-x64-9.0-svr-heap",
        "linux-x64-10.0-wks-heap",
        "linux-x64-11.0-eleven-heap",
        "win-x64-10.0-wks-full",
    ];
    for name in names {
        let whole = open(&file(name));
        let clr = whole.clr().unwrap();
        let threads = clr.threads().items.iter().filter(|t| t.os_id != 0);
        let found = threads.filter_map(|t| Some((t, called(&whole, t)?))).next();
        let (thread, (slot, ip)) = found.unwrap_or_else(|| panic!("{name}: no managed frame called by another"));
        let runtime = whole.dump().modules.iter().find(|m| m.file_name().contains("coreclr")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (plain, copy) = (dir.path().join("plain"), dir.path().join("copy"));
        let mut decoder = zstd::Decoder::new(std::fs::File::open(file(name)).unwrap()).unwrap();
        decoder.window_log_max(31).unwrap();
        std::io::copy(&mut decoder, &mut std::fs::File::create(&plain).unwrap()).unwrap();
        let mut patch = Patch::open(&plain);
        assert_eq!(patch.read(slot, 8).unwrap(), ip.to_le_bytes(), "{name}: a return address");
        patch.write(slot, &(runtime.base + runtime.size / 2).to_le_bytes());
        patch.save(&copy);
        // Without the pair the frames behind are lost, but nothing is made up.
        let wanted = frames(&whole, thread.os_id);
        let lost = frames(&open(&copy), thread.os_id);
        assert!(lost.len() < wanted.len() && lost.iter().all(|f| wanted.contains(f)), "{name}: {lost:x?}");
        patch.write(thread.address + PLACE, &ip.to_le_bytes());
        patch.write(thread.address + PLACE + 8, &slot.to_le_bytes());
        patch.save(&copy);
        assert_eq!(frames(&open(&copy), thread.os_id), wanted, "{name}");
    }
}

/// All managed frames of a dump.
fn all(session: &Session) -> Vec<Frame> {
    let clr = session.clr().unwrap();
    let threads = clr.threads().items.iter().filter(|t| t.os_id != 0);
    threads.flat_map(|t| clr.stack(t).managed().cloned().collect::<Vec<_>>()).collect()
}

#[test]
fn stubs_and_instantiations_are_named() {
    // `testdata/eleven.cs`: a stub that resumes a method of runtime-async, and a class with a type argument.
    let session = open(&file("linux-x64-11.0-eleven-heap"));
    let frames = all(&session);
    let names: Vec<String> = frames.iter().filter_map(|f| session.frame_name(f, true)).collect();
    let shared: Vec<String> = frames.iter().filter_map(|f| session.frame_name(f, false)).collect();
    let stubs: Vec<&Frame> =
        frames.iter().filter(|f| session.frame_name(f, true).is_some_and(|n| n.contains("IL_STUB_"))).collect();
    assert!(!stubs.is_empty(), "{names:?}");
    // A stub has code and frames as a method has, but neither metadata nor IL.
    for f in stubs {
        let code = f.code.unwrap();
        assert!(code.method.is_some() && code.token.is_none() && f.caller_sp.is_some());
        assert_eq!(f.il_offset(session.clr().unwrap().code()), None);
    }
    assert!(names.iter().any(|n| n.contains("[[")), "{names:?}");
    assert!(names.iter().all(|n| !n.contains("__Canon")), "{names:?}");
    assert_eq!(names.len(), shared.len());
}

#[test]
fn a_funclet_shares_the_frame_of_its_method() {
    let session = open(&file("linux-x64-10.0-crash-heap"));
    let clr = session.clr().unwrap();
    let mut seen = 0;
    for thread in clr.threads().items.iter().filter(|t| t.os_id != 0) {
        let stack = clr.stack(thread);
        let managed: Vec<&Frame> = stack.managed().collect();
        for (i, f) in managed.iter().enumerate().filter(|(_, f)| f.is_funclet()) {
            let code = f.code.unwrap();
            let own = managed[i + 1..].iter().find(|o| {
                let same = o.registers.unwrap().fp() == f.registers.unwrap().fp();
                o.code.unwrap().start == code.start && !o.is_funclet() && same
            });
            let own = own.expect("the frame of its method, with the same frame register");
            assert_eq!(clr.code().name(&code), clr.code().name(&own.code.unwrap()));
            assert!(code.native > own.code.unwrap().native, "funclets lie behind the body");
            seen += 1;
        }
    }
    assert!(seen > 0);
}
