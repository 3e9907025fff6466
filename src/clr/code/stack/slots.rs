//! Where the frames of a stack hold references: what the collector would take for roots if it ran now.
//!
//! Source: dotnet/runtime `src/coreclr/vm/gcenv.ee.common.cpp` (`GcStackCrawlCallBack`), `vm/stackwalk.cpp`
//! (`StackFrameIterator::Filter`), `vm/gcinfodecoder.cpp` (`ReportSlotToGC`), `vm/eetwain.cpp` (`EnumGcRefs`):
//! - What is live in a caller does not lie in registers that a call need not preserve, nor where arguments are passed on.
//! - A funclet speaks for its method; the frames between it and the method it belongs to were left by the exception that
//!   it handles, all but those of the managed code that dispatches exceptions (since 9.0).
//! - A filter runs before anything is left: its method speaks for itself, and for what is always live.
//! - Code that threw or faulted does not go on: it holds only what it would if interrupted there.

mod ahead;
mod x86;

use std::sync::{Arc, PoisonError};

use super::frames::Class;
use super::{Frame, FrameKind, Stack, helper, registers};
use crate::clr::Clr;
use crate::clr::code::clauses::ClauseKind;
use crate::clr::code::gcinfo::x86::FrameInfo;
use crate::clr::code::gcinfo::{Base, GcInfo, Place, Slot, Stop, register_name};
use crate::clr::code::lookup::{Code, CodeAt};
use crate::clr::runtime::threads::ClrThread;
use crate::dump::{Arch, Os};

/// Most protected slots of one explicit frame: a call has at most some hundred arguments.
const MAX_PROTECTED: u64 = 1 << 12;
/// Most records of protected slots, and of exceptions, of one thread: each lies in a native frame of its own, and so many fill
/// more than a stack of 8 MB.
const MAX_RECORDS: usize = 1 << 16;
/// Words of a `Thread` in which the first is looked for.
const THREAD_WORDS: u64 = 0x100;
/// Classes of the managed code that dispatches exceptions.
const DISPATCH: [&str; 2] = ["System.Runtime.EH.", "System.Runtime.StackFrameIterator."];

/// In place of a register: native code that the frame called protects the slot by a record of its own.
pub const RECORD: &str = "GCFrame";

/// A register or stack slot of a frame that holds a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSlot {
    /// Index of its frame in the stack.
    pub frame: usize,
    /// The register, or what the slot is counted from; `RECORD` for a slot that a record of native code protects, `None` for
    /// what an explicit frame points to.
    pub register: Option<&'static str>,
    /// Distance from the register in bytes; `None` for the register itself.
    pub offset: Option<i32>,
    /// Address of the slot; 0 for a register.
    pub address: u64,
    /// What it holds.
    pub value: u64,
    /// It may point into an object, or at something that is none.
    pub interior: bool,
    /// The object must not move.
    pub pinned: bool,
}

/// Where the frames of a thread hold references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSlots {
    /// The slots, by frame; some hold 0.
    pub slots: Vec<LiveSlot>,
    /// Stretches of the stack of which that is not known, with first address and one past the last.
    pub unknown: Vec<(u64, u64)>,
    /// Registers that may hold a reference: name and value.
    pub registers: Vec<(&'static str, u64)>,
}

impl Clr {
    /// Where the frames of `thread` hold references.
    pub fn live_slots(&self, thread: &ClrThread) -> LiveSlots {
        let Some(native) = self.dump.thread_of(thread.os_id) else { return LiveSlots::default() };
        let known = native.registers.as_ref();
        let top = native.stack.map_or(0, |s| s.1);
        let sp = known.map_or(0, |r| r.sp);
        let stack = self.stack(thread);
        let mut c =
            Collector { clr: self, code: self.code(), thread, stack: &stack, top, low: sp, out: LiveSlots::default() };
        if self.dump.arch == Arch::Arm {
            // GC information of 32-bit ARM is not read.
            c.unknown(sp, top);
            c.out.registers = known.map(|r| r.general.clone()).unwrap_or_default();
            return c.out;
        }
        if let Some(ahead) = self.ahead().filter(|_| !c.code.ranges().is_empty()) {
            c.all_ahead(sp, ahead);
            return c.out;
        }
        if c.code.ranges().is_empty() {
            // What is a frame nobody can tell.
            c.unknown(sp, top);
            c.out.registers = known.map(|r| r.general.clone()).unwrap_or_default();
        }
        c.all(sp);
        c.out
    }

    /// How the method of `at` lays out its frame on x86, decoded once.
    pub(super) fn kept_frame_info(&self, at: &CodeAt) -> Option<Arc<FrameInfo>> {
        let place = at.gc_info?;
        let kept = self.stacks.frame_infos.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        let info = kept.unwrap_or_else(|| {
            let info = self.code().frame_info(at).map(Arc::new);
            let mut all = self.stacks.frame_infos.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(place).or_insert(info).clone()
        });
        info.filter(|i| at.native <= i.header.length)
    }

    /// GC information of the method of `at`, decoded once.
    fn kept_gc_info(&self, at: &CodeAt) -> Option<Arc<GcInfo>> {
        let place = at.gc_info?;
        let kept = self.stacks.gc_infos.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        kept.unwrap_or_else(|| {
            let info = self.code().gc_info(at).map(Arc::new);
            let mut all = self.stacks.gc_infos.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(place).or_insert(info).clone()
        })
    }
}

/// The method a funclet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    start: u64,
    /// Its frame register, which the funclet has too.
    fp: Option<u64>,
}

impl Parent {
    fn of(frame: &Frame, at: &CodeAt) -> Self {
        Self { start: at.start, fp: frame.registers.and_then(|r| r.fp()) }
    }

    fn is(&self, frame: &Frame, at: &CodeAt) -> bool {
        let same = match (self.fp, frame.registers.and_then(|r| r.fp())) {
            (Some(a), Some(b)) => a == b,
            _ => !at.in_funclet(),
        };
        at.start == self.start && same
    }
}

/// Slots that hold references, side by side.
#[derive(Debug, Clone, Copy)]
struct Protected {
    first: u64,
    count: u64,
    interior: bool,
}

struct Collector<'a> {
    clr: &'a Clr,
    code: Code<'a>,
    thread: &'a ClrThread,
    stack: &'a Stack,
    /// End of the thread's stack.
    top: u64,
    /// Where its used part begins.
    low: u64,
    out: LiveSlots,
}

/// How a frame is asked.
#[derive(Clone, Copy)]
struct Asked {
    stop: Stop,
    /// Whether what is always live is left to another frame.
    tracked_only: bool,
    /// Native code below the frame in which registers lie that it does not know.
    below: (u64, u64),
}

impl Collector<'_> {
    fn unknown(&mut self, low: u64, high: u64) {
        if low < high {
            self.out.unknown.push((low, high));
        }
    }

    /// Stack pointer of the next older frame behind `index`, or the end of the stack.
    fn next_sp(&self, index: usize) -> u64 {
        self.stack.frames.get(index + 1).map_or(self.top, |f| f.sp)
    }

    /// Stack pointer of the next older managed frame.
    fn next_managed(&self, index: usize) -> u64 {
        let rest = self.stack.frames.get(index + 1..).unwrap_or(&[]);
        rest.iter().find(|f| f.kind != FrameKind::Explicit).map_or(self.top, |f| f.sp)
    }

    fn all(&mut self, sp: u64) {
        let (mut parent, mut below, mut thrown): (Option<Parent>, _, Option<Stop>) = (None, (sp, sp), None);
        let passed = self.passed();
        let frames = &self.stack.frames;
        for (i, frame) in frames.iter().enumerate() {
            match frame.kind {
                FrameKind::Gap => self.unknown(frame.sp, self.next_sp(i)),
                FrameKind::Explicit => {
                    (below, thrown) = ((frame.sp, self.next_managed(i)), self.threw(frame));
                    if parent.is_none() && !passed.iter().any(|p| p.0 < frame.sp && frame.sp <= p.1) {
                        self.explicit(i, frame);
                    }
                }
                FrameKind::Managed => {
                    let interrupted = if frame.leaf { Stop::Instruction } else { Stop::Return };
                    let stop = thrown.take().unwrap_or(interrupted);
                    let Some(at) = &frame.code else { continue };
                    let asked = Asked { stop, tracked_only: false, below };
                    parent = self.frame(i, (frame, at), parent, asked, &passed);
                }
            }
        }
        if self.stack.partial.is_some() && !frames.iter().any(|f| f.kind == FrameKind::Gap) {
            // The chain breaks off.
            let end = frames.last().map_or(sp, |f| f.caller_sp.unwrap_or(f.sp));
            self.unknown(end, self.top);
        }
        self.records();
    }

    /// One managed frame. `parent`: what the funclet shown before belongs to, if that was not reached. Gives that of the
    /// next one.
    fn frame(
        &mut self,
        index: usize,
        (frame, at): (&Frame, &CodeAt),
        parent: Option<Parent>,
        asked: Asked,
        passed: &[(u64, u64)],
    ) -> Option<Parent> {
        if let Some(p) = parent {
            if p.is(frame, at) {
                // Its funclet spoke for it; if it is one itself, its own parent follows.
                let asks_all = self.clr.dump.arch == Arch::X64
                    && self.clr.kept_gc_info(at).is_some_and(|g| !g.header.leaf_only && g.encoding.version < 4);
                if asks_all {
                    self.managed(index, (frame, at), Asked { tracked_only: true, ..asked });
                }
                return at.in_funclet().then(|| Parent::of(frame, at));
            }
            if self.dispatches(at) {
                self.managed(index, (frame, at), asked);
            } else if self.clr.ahead().is_some() && self.code.name(at).is_none() {
                // A program can be built without names of methods.
                self.guess(index, frame);
            }
            return parent;
        }
        let left = frame.caller_sp.is_some_and(|sp| passed.iter().any(|p| p.0 < sp && sp <= p.1));
        let filter = at.in_funclet() && self.is_filter(at);
        if !left {
            self.managed(index, (frame, at), Asked { tracked_only: filter, ..asked });
        }
        (at.in_funclet() && !filter).then(|| Parent::of(frame, at))
    }

    /// Whether the code is of those that dispatch exceptions.
    fn dispatches(&self, at: &CodeAt) -> bool {
        self.code.name(at).is_some_and(|n| DISPATCH.iter().any(|d| n.starts_with(d)))
    }

    /// Whether the funclet of `at` is a filter.
    fn is_filter(&self, at: &CodeAt) -> bool {
        let Some(function) = at.function else { return false };
        if let Some(ahead) = self.clr.ahead() {
            return ahead.code_at(self.clr.native(), function.start).is_some_and(|c| c.filter);
        }
        let begins = |offset: u32| at.start.checked_add(u64::from(offset)) == Some(function.start);
        self.code.clauses(at).items.iter().any(|c| matches!(c.kind, ClauseKind::Filter(offset) if begins(offset)))
    }

    /// Stretches of the stack that exceptions in flight have left behind: of those whose unwinding has begun (none of one that
    /// nobody handles), where their records say how far they came (dotnet/runtime `src/coreclr/vm/exinfo.h`,
    /// `m_ScannedStackRange`, `ExceptionFlags`; since 11.0 described).
    fn passed(&self) -> Vec<(u64, u64)> {
        const UNWINDING: u32 = 4;
        let (l, space) = (self.clr.layout(), self.clr.space());
        let place = |name: &str| l.try_offset("ExceptionInfo", name);
        let (Some(low), Some(high), Some(flags)) =
            (place("StackLowBound"), place("StackHighBound"), place("ExceptionFlags"))
        else {
            return Vec::new();
        };
        let next = place("PreviousNestedInfo").unwrap_or(0);
        let first = l.try_offset("Thread", "ExceptionTracker").and_then(|o| space.ptr_at(self.thread.address, o));
        let (mut at, mut out) = (first.unwrap_or(0), Vec::new());
        while at != 0 && out.len() < MAX_RECORDS {
            let stretch = (|| Some((space.ptr_at(at, low)?, space.ptr_at(at, high)?)))();
            let flags = at.checked_add(flags).and_then(|p| space.u32(p));
            let (Some(stretch), Some(flags)) = (stretch, flags) else { break };
            if flags & UNWINDING != 0 {
                out.push(stretch);
            }
            // Older records lie higher.
            at = space.ptr_at(at, next).filter(|&n| n > at).unwrap_or(0);
        }
        out
    }

    /// Whether the frame was pushed for an exception, and of what kind.
    fn threw(&self, frame: &Frame) -> Option<Stop> {
        /// `FRAME_ATTR_EXCEPTION`, `FRAME_ATTR_FAULTED`.
        const EXCEPTION: u32 = 1;
        const FAULTED: u32 = 2;
        match frame.explicit?.class {
            Class::SoftwareException => Some(Stop::Thrown),
            Class::FaultingException => Some(Stop::Faulted),
            Class::Helper => {
                // Behind vtable, next frame and method.
                let flags = self.clr.space().u32(frame.sp.checked_add(3 * self.clr.header())?)?;
                let is = flags < 0x100 && flags & EXCEPTION != 0;
                is.then_some(if flags & FAULTED != 0 { Stop::Faulted } else { Stop::Thrown })
            }
            _ => None,
        }
    }

    fn managed(&mut self, index: usize, (frame, at): (&Frame, &CodeAt), asked: Asked) {
        if self.clr.dump.arch == Arch::X86 {
            // Where the frame was only searched for, what it says of registers and stack pointer does not hold.
            let info = self.clr.kept_frame_info(at).filter(|_| !frame.guessed);
            let told = info.and_then(|info| self.managed_x86(index, (frame, at), &info, asked));
            if told.is_none() {
                self.guess(index, frame);
                self.unknown(asked.below.0, asked.below.1);
            }
            return;
        }
        let info = self.clr.kept_gc_info(at);
        let live = info.as_ref().and_then(|i| i.live(at.native, asked.stop));
        let (Some(info), Some(live)) = (info, live) else {
            self.guess(index, frame);
            // Registers of it that were lost below lie there.
            self.unknown(asked.below.0, asked.below.1);
            return;
        };
        let known = info.is_interruptible(at.native) || info.safe_point(at.native).is_some();
        if asked.stop == Stop::Instruction && !known {
            // The collector would let it run on to a place of which is known what is live.
            self.guess(index, frame);
        }
        let untracked = if live.untracked && !asked.tracked_only { info.untracked() } else { &[] };
        for slot in info.slots_of(&live.tracked).chain(untracked) {
            if self.slot(index, frame, (&info, slot), asked).is_none() {
                self.unknown(asked.below.0, asked.below.1);
            }
        }
    }

    /// What a frame holds is not known: all of it and its registers may.
    fn guess(&mut self, index: usize, frame: &Frame) {
        self.unknown(frame.sp, frame.caller_sp.unwrap_or_else(|| self.next_sp(index)));
        let Some(context) = frame.registers else { return };
        let names = registers::names(context.arch).iter().enumerate();
        self.out.registers.extend(names.filter_map(|(n, name)| Some((*name, context.get(n)?))));
    }

    /// One slot of a frame; `None` when it is a register that is not known.
    fn slot(&mut self, index: usize, frame: &Frame, (info, slot): (&GcInfo, &Slot), asked: Asked) -> Option<()> {
        let (clr, context) = (self.clr, frame.registers?);
        let arch = clr.dump.arch;
        let scratch = asked.stop == Stop::Instruction;
        let (interior, pinned) = (slot.interior, slot.pinned);
        let found = match slot.place {
            Place::Register(n) => {
                if !scratch && info.encoding.is_scratch(n, clr.dump.os == Os::Windows) {
                    return Some(());
                }
                let register = Some(register_name(arch, n));
                let value = context.get(n as usize)?;
                LiveSlot { frame: index, register, offset: None, address: 0, value, interior, pinned }
            }
            Place::Stack(base, distance) => {
                let (register, from) = match base {
                    Base::CallerSp => ("caller.sp", frame.caller_sp?),
                    Base::Sp => (register_name(arch, registers::stack_pointer(arch) as u32), frame.sp),
                    Base::Frame => {
                        let n = info.header.frame_register?;
                        (register_name(arch, n), context.get(n as usize)?)
                    }
                };
                let address = from.checked_add_signed(distance.into())?;
                let passed_on = address.wrapping_sub(frame.sp) < u64::from(info.header.outgoing);
                if !scratch && passed_on {
                    return Some(());
                }
                let value = clr.space().ptr(address).unwrap_or(0);
                LiveSlot {
                    frame: index,
                    register: Some(register),
                    offset: Some(distance),
                    address,
                    value,
                    interior,
                    pinned,
                }
            }
        };
        self.out.slots.push(found);
        Some(())
    }

    /// Slots an explicit frame protects.
    fn explicit(&mut self, index: usize, frame: &Frame) {
        let (space, ptr) = (self.clr.space(), self.clr.header());
        let Some(explicit) = frame.explicit else { return };
        // Some keep what they protect in a way that is not read; of all between them and the managed code they were left
        // for any word may be a reference.
        let behind = self.next_managed(index);
        match explicit.class {
            Class::Transition | Class::Hijack => {
                let passed = self.clr.passed_on(&explicit).filter(|_| explicit.class == Class::Transition);
                if let Some(passed) = passed {
                    for p in passed {
                        let Some(value) = space.ptr(p.address) else { continue };
                        let (address, interior, pinned) = (p.address, p.interior, false);
                        let (register, offset) = (None, None);
                        self.out.slots.push(LiveSlot {
                            frame: index,
                            register,
                            offset,
                            address,
                            value,
                            interior,
                            pinned,
                        });
                    }
                    return;
                }
                // Arguments lie at the caller's stack pointer.
                const ARGUMENTS: u64 = 32;
                let end = behind.saturating_add(ARGUMENTS * ptr).min(self.top);
                self.unknown(frame.sp, end);
                return;
            }
            Class::Mark => match explicit.name {
                "GCFrame" => {
                    // Behind vtable and next frame.
                    let found = frame.sp.checked_add(2 * ptr).and_then(|at| self.list(at));
                    return found.into_iter().for_each(|list| self.protected(index, None, list));
                }
                "ProtectByRefsFrame" | "ProtectValueClassFrame" | "InterpreterFrame" => {
                    return self.unknown(frame.sp, behind);
                }
                // One of unknown class may protect variables of the functions that were called since.
                "" => return self.unknown(self.low, behind),
                _ => return,
            },
            Class::Helper => {}
            _ => return,
        }
        let pointers = match explicit.name {
            "HelperMethodFrame_1OBJ" => 1,
            "HelperMethodFrame_2OBJ" => 2,
            "HelperMethodFrame_3OBJ" => 3,
            "HelperMethodFrame_PROTECTOBJ" => 0,
            _ => return,
        };
        let Some(at) = helper::end(self.clr, frame.sp) else { return self.unknown(self.low, behind) };
        if pointers == 0 {
            let found = self.list(at);
            found.into_iter().for_each(|list| self.protected(index, None, Protected { interior: false, ..list }));
        }
        for i in 0..pointers {
            // A variable of the function that was called: it lies on the stack, where the frame is laid out so.
            let object = |v: u64| v == 0 || self.clr.may_be_object(v);
            let holds = |slot: &u64| self.low <= *slot && *slot < self.top && space.ptr(*slot).is_some_and(object);
            match space.ptr_at(at, i * ptr).filter(holds) {
                Some(slot) => self.protected(index, None, Protected { first: slot, count: 1, interior: false }),
                None => self.unknown(self.low, behind),
            }
        }
    }

    /// What is said at `at` of protected slots: the first, how many (32 bits), whether they may be interior (32 bits).
    fn list(&self, at: u64) -> Option<Protected> {
        let (space, ptr) = (self.clr.space(), self.clr.header());
        let count = at.checked_add(ptr)?;
        let interior = space.u32(count.checked_add(4)?).is_some_and(|flags| flags & 1 != 0);
        Some(Protected { first: space.ptr(at)?, count: u64::from(space.u32(count)?), interior })
    }

    fn protected(&mut self, frame: usize, register: Option<&'static str>, list: Protected) {
        let ptr = self.clr.header();
        for i in 0..list.count.min(MAX_PROTECTED) {
            let Some(address) = list.first.checked_add(i * ptr) else { return };
            let Some(value) = self.clr.space().ptr(address) else { return };
            let (interior, pinned) = (list.interior, false);
            self.out.slots.push(LiveSlot { frame, register, offset: None, address, value, interior, pinned });
        }
    }

    /// Since 5.0 native code keeps its protected slots in a chain of records of its own (`GCFrame`: next, thread, slots, how
    /// many; dotnet/runtime `src/coreclr/vm/frames.h`), whose first the `Thread` names.
    fn records(&mut self) {
        let (space, ptr) = (self.clr.space(), self.clr.header());
        let (low, top, thread) = (self.stack.frames.first().map_or(0, |f| f.sp), self.top, self.thread.address);
        let native = self.clr.dump.thread_of(self.thread.os_id);
        let low = native.and_then(|t| t.registers.as_ref()).map_or(low, |r| r.sp);
        let inside = |a: u64| low <= a && a < top && a.is_multiple_of(ptr);
        // What such a record is known by: it names its thread, and slots on its stack.
        let proved = |at: u64| {
            let list = self.list(at.checked_add(2 * ptr)?)?;
            let is = inside(at) && space.ptr_at(at, ptr) == Some(thread) && inside(list.first);
            (is && (1..=MAX_PROTECTED).contains(&list.count)).then_some((space.ptr(at)?, list))
        };
        let described = self.clr.layout().try_offset("Thread", "GCFrame");
        let words = described.map_or(0..THREAD_WORDS, |at| at / ptr..at / ptr + 1);
        let mut heads = words.filter_map(|i| space.ptr_at(thread, i * ptr));
        let Some(mut at) = heads.find(|&a| proved(a).is_some()) else { return };
        let mut found = Vec::new();
        while let Some((next, list)) = proved(at).filter(|_| found.len() < MAX_RECORDS) {
            let frames = &self.stack.frames;
            let calls = |f: &Frame| f.kind == FrameKind::Managed && f.sp >= at;
            let owner = frames.iter().position(calls).unwrap_or(frames.len().saturating_sub(1));
            found.push((owner, list));
            if next <= at {
                break;
            }
            at = next;
        }
        found.into_iter().for_each(|(owner, list)| self.protected(owner, Some(RECORD), list));
    }
}
