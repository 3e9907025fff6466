//! Native and managed frames of a thread in one list.
//!
//! Native frames are unwound by the tables of their images, managed ones by those of the runtime. Where the walk over managed
//! frames has the same frame, it is taken: it knows return addresses that the collector has replaced. A native stretch that
//! nothing describes ends at the next explicit frame, which the runtime left for that.

use std::sync::Arc;

use super::Session;
use crate::clr::Clr;
use crate::clr::code::stack::{Frame, FrameKind, Stack};
use crate::clr::runtime::threads::ClrThread;
pub use crate::native::record::Chosen;
use crate::native::unwind::{MOST_FRAMES, Walk};
use crate::native::{Context, End, Native, Stepped};

/// What a frame of a mixed stack is.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Native code.
    Native,
    /// A method, or managed code that no method is known of.
    Managed(Box<Frame>),
    /// A record of the runtime, which ends a stretch that could not be unwound.
    Explicit(Box<Frame>),
    /// A stretch that could not be unwound, and why.
    Gap(String),
}

/// A frame of a mixed stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// What it is.
    pub what: What,
    /// Stack pointer in the frame.
    pub sp: u64,
    /// Return address, or where execution stands.
    pub ip: u64,
    /// Registers in the frame, as far as they are known.
    pub registers: Option<Context>,
    /// Whether `ip` is an interrupted instruction rather than a return address.
    pub exact: bool,
    /// Whether it was found by the frame pointer alone: frames before it may be missing.
    pub guessed: bool,
}

/// A stack of native and managed frames.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MixedStack {
    /// Frames, the newest first.
    pub frames: Vec<Mixed>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

impl Session {
    /// The stack of the thread of that number in the dump.
    pub fn mixed_stack(&self, thread: usize) -> MixedStack {
        self.mixed_stack_from(thread, None)
    }

    /// The stack of that thread from the registers `from` on, if some are given.
    pub fn mixed_stack_from(&self, thread: usize, from: Option<&Chosen>) -> MixedStack {
        let dump = self.dump();
        let Some(thread) = dump.threads.get(thread) else { return MixedStack::default() };
        let Some(registers) = from.map(|f| &f.registers).or(thread.registers.as_ref()) else {
            return MixedStack { frames: Vec::new(), partial: Some(End::NoRegisters.to_string()) };
        };
        let clr = self.clr().ok();
        let stack = |t| self.managed_stack(t, from);
        let managed = self.clr_thread(thread.os_id).and_then(|t| Some(Of { stack: stack(t)?, thread: t }));
        let mut walk = Mixer {
            native: self.native(),
            clr: clr.map(|c| &**c),
            managed,
            out: MixedStack::default(),
            steps: Walk::default(),
            next: 0,
        };
        let start = Context::of_thread(dump.arch, registers);
        walk.run(Stepped { context: start, exact: from.is_none_or(|f| f.exact), guessed: false });
        walk.out
    }

    /// The managed stack of a thread from the registers `from` on, if some are given; `None` without a runtime.
    pub fn managed_stack(&self, thread: &ClrThread, from: Option<&Chosen>) -> Option<Arc<Stack>> {
        let clr = self.clr().ok()?;
        Some(match from {
            None => clr.stack(thread),
            Some(f) => {
                let context = Context::of_thread(self.dump().arch, &f.registers);
                Arc::new(clr.stack_from(thread, &context, f.exact))
            }
        })
    }
}

/// The managed side of a thread.
struct Of<'a> {
    stack: Arc<Stack>,
    thread: &'a ClrThread,
}

struct Mixer<'a> {
    native: &'a Native,
    clr: Option<&'a Clr>,
    managed: Option<Of<'a>>,
    out: MixedStack,
    steps: Walk,
    /// Frames of the managed walk that were passed.
    next: usize,
}

impl Mixer<'_> {
    fn run(&mut self, start: Stepped) {
        let mut at = start;
        while self.out.frames.len() < MOST_FRAMES {
            let managed = self.clr.is_some_and(|c| c.code().is_managed(at.context.ip));
            let caller = if managed { self.managed(&at) } else { self.native(&at) };
            at = match caller {
                Ok(next) => next,
                Err(None) => return,
                Err(Some(why)) => {
                    let Some(next) = self.resume(&at.context, why) else { return };
                    next
                }
            };
        }
        self.out.partial = Some(format!("frames behind the first {MOST_FRAMES} are left out"));
    }

    fn push(&mut self, what: What, at: &Stepped) {
        let c = at.context;
        let (sp, ip, registers) = (c.sp(), c.ip, Some(c));
        self.out.frames.push(Mixed { what, sp, ip, registers, exact: at.exact, guessed: at.guessed });
    }

    /// The next managed frame of the runtime's walk that is not below `sp`.
    fn ahead(&self, sp: u64) -> Option<(usize, &Frame)> {
        let frames = &self.managed.as_ref()?.stack.frames;
        let rest = frames.iter().enumerate().skip(self.next);
        rest.filter(|(_, f)| f.kind == FrameKind::Managed).find(|(_, f)| f.sp >= sp)
    }

    /// Shows a native frame; its caller, or why there is none: nothing where it is the outermost.
    fn native(&mut self, at: &Stepped) -> Result<Stepped, Option<String>> {
        self.push(What::Native, at);
        let next = self.steps.next(self.native, at).map_err(|e| (e != End::Bottom).then(|| e.to_string()))?;
        // A frame of managed code cannot be stepped over.
        let skipped = self.ahead(at.context.sp()).is_some_and(|(_, f)| next.context.sp() > f.sp);
        if skipped { Err(Some(End::Stuck.to_string())) } else { Ok(next) }
    }

    /// Shows a managed frame; its caller.
    fn managed(&mut self, at: &Stepped) -> Result<Stepped, Option<String>> {
        let same = |f: &Frame| f.sp == at.context.sp() && f.ip == at.context.ip;
        let known = self.ahead(at.context.sp()).filter(|(_, f)| same(f)).map(|(i, f)| (i, f.clone()));
        let clr = self.clr.ok_or(None)?;
        let frame = match known {
            Some((i, frame)) => {
                self.next = i + 1;
                frame
            }
            None => clr.frame_at(&at.context, at.exact),
        };
        // Unwinding native code keeps more registers than the runtime's records have, unless frames were passed over.
        let context = frame.registers.filter(|_| at.guessed).unwrap_or(at.context);
        let (leaf, guessed) = (frame.leaf, at.guessed || frame.guessed);
        self.push(What::Managed(Box::new(frame)), &Stepped { context, exact: leaf, guessed });
        let thread = self.managed.as_ref().map_or(0, |m| m.thread.address);
        let caller = clr.caller_of(thread, &context, leaf).map_err(Some)?;
        if caller.sp() <= context.sp() {
            return Err(Some(End::Stuck.to_string()));
        }
        Ok(Stepped { context: caller, exact: false, guessed: false })
    }

    /// After a stretch that could not be unwound: says so, and goes on with the next explicit frame that leads to managed
    /// code.
    fn resume(&mut self, from: &Context, why: String) -> Option<Stepped> {
        let gap = |sp, ip, why| Mixed { what: What::Gap(why), sp, ip, registers: None, exact: false, guessed: false };
        self.out.frames.push(gap(from.sp(), from.ip, why.clone()));
        self.out.partial.get_or_insert(why);
        let (index, frame) = self.ahead(from.sp().saturating_add(1)).map(|(i, f)| (i, f.clone()))?;
        let of = self.managed.as_ref()?;
        // The record that gives the managed code stands right before it.
        let explicit =
            index.checked_sub(1).and_then(|i| of.stack.frames.get(i)).filter(|f| f.kind == FrameKind::Explicit);
        if let Some(e) = explicit.cloned() {
            let (sp, ip) = (e.sp, e.ip);
            let what = What::Explicit(Box::new(e));
            self.out.frames.push(Mixed { what, sp, ip, registers: None, exact: false, guessed: false });
        }
        let context = frame.registers?;
        Some(Stepped { context, exact: frame.leaf, guessed: false })
    }
}
