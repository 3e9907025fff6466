//! Initializers of classes that run, and threads that wait for one.
//!
//! The runtime lets a thread that needs a class wait until its initializer is done on another; it keeps the class's
//! MethodTable on the waiting thread's native stack (dotnet/runtime `src/coreclr/vm/methodtable.cpp`,
//! `DoRunClassInitThrowing`).

use rustc_hash::FxHashMap;

use super::{Kind, Waiting};
use crate::clr::Clr;
use crate::clr::code::stack::FrameKind;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;

/// Bytes of native frames looked through for a class: what the runtime has on the stack when it waits.
const NATIVE_PART: u64 = 1 << 14;

/// Classes whose initializers run, by their MethodTable, with the address of the `Thread`.
#[derive(Debug, Default)]
pub(super) struct Running(FxHashMap<u64, u64>);

impl Running {
    pub(super) fn of(session: &Session, clr: &Clr) -> Self {
        let mut found = FxHashMap::default();
        for thread in clr.threads().items.iter().filter(|t| t.os_id != 0 && !t.is_dead()) {
            for frame in clr.stack(thread).managed() {
                let method = frame.code.and_then(|c| c.method).and_then(|m| clr.method_desc(m));
                let named = || session.frame_name(frame, false).is_some_and(|n| n.contains("..cctor("));
                if let Some(md) = method.filter(|_| named()) {
                    found.entry(md.owner).or_insert(thread.address);
                }
            }
        }
        Self(found)
    }

    /// The wait of `thread` for one of them that runs on another thread.
    pub(super) fn awaited_by(&self, session: &Session, thread: &ClrThread) -> Option<Waiting> {
        if self.0.values().all(|&t| t == thread.address) || !thread.preemptive {
            return None;
        }
        let clr = session.clr().ok()?;
        let stack = clr.stack(thread);
        let first = stack.frames.iter().find(|f| f.kind == FrameKind::Managed)?;
        let sp = clr.dump.thread_of(thread.os_id)?.registers.as_ref()?.sp;
        // The frames of the core library that call into the runtime hold the class too.
        let end = first.caller_sp.unwrap_or(first.sp);
        let words = clr.space().words(sp.max(end.saturating_sub(NATIVE_PART)), end);
        let found = words.filter_map(|w| Some((w.1, *self.0.get(&w.1)?))).find(|w| w.1 != thread.address);
        let (class, holder) = found?;
        Some(Waiting {
            thread: thread.address,
            kind: Kind::TypeInitializer,
            objects: vec![class],
            holders: vec![holder],
            handle: None,
            timeout: None,
            method: String::new(),
            caller: session.frame_name(first, false),
        })
    }
}
