//! Native and managed frames in one list: the managed ones are those of the runtime's own walk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use clrscope::clr::code::stack::FrameKind;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::session::Session;
use clrscope::session::mixed::What;

fn session(name: &str) -> Session {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    Session::new(Dump::open(&path, &options, &Default::default()).unwrap(), Default::default())
}

const DUMPS: &[&str] = &[
    "linux-x64-3.1-wks-heap.core.zst",
    "linux-x64-8.0-wks-heap.core.zst",
    "linux-x64-9.0-svr-heap.core.zst",
    "linux-x64-10.0-wks-heap.core.zst",
    "linux-x64-10.0-crash-heap.core.zst",
    "linux-x64-10.0-ingc-heap.core.zst",
    "linux-x64-11.0-eleven-heap.core.zst",
    "win-x64-10.0-wks-full.dmp.zst",
    "win-x64-3.1-wks-full.dmp.zst",
];

#[test]
fn every_managed_frame_is_in_the_mixed_stack_in_its_place() {
    for name in DUMPS {
        let session = session(name);
        let clr = session.clr().unwrap();
        let (mut managed, mut native) = (0, 0);
        for t in clr.threads().items.iter() {
            let Some(index) = session.dump().threads.iter().position(|d| d.os_id == t.os_id) else { continue };
            let stack = session.mixed_stack(index);
            let mixed: Vec<(u64, u64)> =
                stack.frames.iter().filter(|f| matches!(f.what, What::Managed(_))).map(|f| (f.sp, f.ip)).collect();
            let known = clr.stack(t);
            let wanted: Vec<(u64, u64)> =
                known.frames.iter().filter(|f| f.kind == FrameKind::Managed).map(|f| (f.sp, f.ip)).collect();
            // The frame that a native call left behind notes a place in the method of its own; the call returns to another one.
            let method = |ip| clr.code().at(ip).map(|at| at.start);
            let same = |a: &(u64, u64), b: &(u64, u64)| a.0 == b.0 && (a.1 == b.1 || method(a.1) == method(b.1));
            let all = mixed.len() == wanted.len() && mixed.iter().zip(&wanted).all(|(a, b)| same(a, b));
            assert!(all, "{name}: thread {index} ({:x}): {mixed:x?} for {wanted:x?}", t.os_id);
            managed += mixed.len();
            native += stack.frames.iter().filter(|f| f.what == What::Native).count();
        }
        assert!(managed > 0 && native > 0, "{name}: {managed} managed, {native} native frames");
    }
}

#[test]
fn a_stretch_that_nothing_describes_ends_at_an_explicit_frame() {
    // The dump lacks the code and tables of ntdll, where every thread stands.
    let session = session("win-x64-10.0-wks-full.dmp.zst");
    let mut resumed = 0;
    for index in 0..session.dump().threads.len() {
        let stack = session.mixed_stack(index);
        let gap = stack.frames.iter().position(|f| matches!(f.what, What::Gap(_)));
        let Some(gap) = gap else { continue };
        assert!(stack.partial.is_some());
        if let [explicit, managed, ..] = &stack.frames[gap + 1..] {
            assert!(matches!(explicit.what, What::Explicit(_)), "{explicit:?}");
            assert!(matches!(managed.what, What::Managed(_)), "{managed:?}");
            resumed += 1;
        }
    }
    assert!(resumed > 0);
}
