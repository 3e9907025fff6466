//! Where frames of a program compiled ahead of time hold references.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/StackFrameIterator.cpp` (`NextInternal`, `HandleExCollide`),
//! `thread.cpp` (`Thread::GcScanRootsWorker`), `unix/UnixNativeCodeManager.cpp` (`EnumGcRefs`):
//! - There are no explicit frames. Code that is called by P/Invoke, or calls back by it, holds no references, nor do the
//!   runtime's routines that throw and that call handlers.
//! - Other routines pass arguments on whose types they do not know: what lies there, and in the frame that called them, may
//!   be references.
//! - Records of exceptions hold theirs.

use super::super::Frame;
use super::{Asked, Collector, LiveSlot, Parent, RECORD};
use crate::clr::ahead::{Ahead, ExceptionRecord};
use crate::clr::code::gcinfo::Stop;
use crate::clr::code::lookup::CodeAt;

/// In place of a register: the record of an exception holds it.
pub const EXCEPTION: &str = "ExInfo";

impl Collector<'_> {
    /// All frames; `sp` is the thread's stack pointer.
    pub(super) fn all_ahead(&mut self, sp: u64, ahead: &dyn Ahead) {
        let frames = &self.stack.frames;
        self.top_of(sp, frames.first(), ahead);
        let records = ahead.exception_records(self.thread.address);
        let mut faulted: Vec<u64> = records.iter().filter(|r| r.faulted).map(|r| r.address).collect();
        faulted.sort_unstable();
        let (mut parent, mut since, mut below): (Option<Parent>, _, _) = (None, sp, sp);
        let mut last = sp;
        for (i, frame) in frames.iter().enumerate() {
            if frame.guessed && i > 0 {
                // Frames may be missing before it.
                self.unknown(below, frame.sp);
            }
            let asked = Asked { stop: stop(frame, last, &faulted), tracked_only: false, below: (below, frame.sp) };
            (last, below) = (frame.sp, frame.caller_sp.unwrap_or(frame.sp));
            let Some(at) = &frame.code else {
                self.guess(i, frame);
                continue;
            };
            since = if parent.is_none() { frame.sp } else { since };
            parent = self.frame(i, (frame, at), parent, asked, &[]);
            if let Some(next) = frames.get(i + 1).filter(|n| below < n.sp && self.passes_on(at)) {
                // Behind the arguments lies the return address.
                let end = next.caller_sp.map_or(next.sp, |sp| sp.saturating_sub(self.clr.header()));
                self.unknown(below, end);
            }
        }
        if self.stack.partial.is_some() {
            self.unknown(below, self.top);
        }
        if parent.is_some() {
            // A handler whose method was not met: which frames it left is not known.
            self.unknown(since, self.top);
        }
        self.recorded(&records);
        self.registered(ahead.registered_slots(self.thread.address));
    }

    /// Below the first managed frame is native code. Where it was called by P/Invoke the collector does not look at it.
    fn top_of(&mut self, sp: u64, first: Option<&Frame>, ahead: &dyn Ahead) {
        if first.is_some_and(|f| f.leaf) {
            return;
        }
        // What the runtime noted as the thread left managed code tells whether a walk that guessed missed any of it.
        let noted = || ahead.transition(self.thread.address).map(|c| c.sp());
        let missed = first.is_some_and(|f| f.guessed && noted() != Some(f.sp));
        if self.thread.preemptive && !missed {
            return;
        }
        self.unknown(sp, first.map_or(self.top, |f| f.sp));
        let known = self.clr.dump.thread_of(self.thread.os_id).and_then(|n| n.registers.as_ref());
        self.out.registers = known.map(|r| r.general.clone()).unwrap_or_default();
    }

    /// Whether native code that calls the method of `at` may have references: not what calls it by P/Invoke, nor what throws
    /// or calls a handler.
    fn passes_on(&self, at: &CodeAt) -> bool {
        let called = self.clr.kept_gc_info(at).is_some_and(|g| g.header.reverse_pinvoke.is_some());
        !called && !at.in_funclet() && !self.dispatches(at)
    }

    /// Records of exceptions lie above the frame that handles them.
    fn recorded(&mut self, records: &[ExceptionRecord]) {
        let frames = &self.stack.frames;
        for r in records {
            let handles = frames.partition_point(|f| f.sp < r.address).saturating_sub(1);
            self.kept(handles, (r.slot, EXCEPTION), false);
        }
    }

    /// Slots that native code registered belong to the frame it was called from.
    fn registered(&mut self, slots: Vec<(u64, bool)>) {
        let frames = &self.stack.frames;
        for (slot, interior) in slots {
            let calls = frames.partition_point(|f| f.sp < slot).min(frames.len().saturating_sub(1));
            self.kept(calls, (slot, RECORD), interior);
        }
    }

    fn kept(&mut self, frame: usize, (address, what): (u64, &'static str), interior: bool) {
        let Some(value) = self.clr.space().ptr(address) else { return };
        let register = Some(what);
        self.out.slots.push(LiveSlot { frame, register, offset: None, address, value, interior, pinned: false });
    }
}

/// Why execution is not going on in `frame`; `last` is the stack pointer of the managed frame before, `faulted` where records
/// of exceptions lie that the processor raised, ascending.
fn stop(frame: &Frame, last: u64, faulted: &[u64]) -> Stop {
    let record = faulted.get(faulted.partition_point(|&at| at <= last));
    match record.is_some_and(|&at| at < frame.sp) {
        true => Stop::Faulted,
        false if frame.leaf => Stop::Instruction,
        false => Stop::Return,
    }
}
