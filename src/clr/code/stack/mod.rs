//! Managed stacks: the frames of a thread, from its registers and the explicit frames the runtime left on its stack.

mod arguments;
mod arm64;
mod behind;
mod compiled;
mod contexts;
mod exact;
pub mod frames;
mod helper;
mod named;
mod reader;
pub mod registers;
mod saved;
mod slots;
#[cfg(test)]
mod tests;
mod walk;
mod x86;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxHashMap;

pub use self::exact::Exact;
pub use self::frames::{Class, Explicit};
pub use self::registers::Context;
pub use self::slots::{LiveSlot, LiveSlots};
use super::gcinfo::GcInfo;
use super::gcinfo::x86::FrameInfo;
use super::lookup::{Code, CodeAt};
use crate::clr::Clr;
use crate::clr::runtime::threads::ClrThread;
use crate::native::x64;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A method's.
    Managed,
    /// A record of the runtime.
    Explicit,
    /// A stretch that could not be walked.
    Gap,
}

/// A frame of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Stack pointer in the frame; of an explicit frame its address.
    pub sp: u64,
    /// Return address, or in a leaf the instruction that runs next; of an explicit frame where the thread is in the native
    /// code above it, or for a call of native code where it returns to.
    pub ip: u64,
    /// Registers in the frame: those of a call that is under way, so that only what survives it is known; in a leaf all. Of
    /// an explicit frame those of the caller it gives.
    pub registers: Option<Context>,
    /// The code of a managed frame.
    pub code: Option<CodeAt>,
    /// The record of an explicit one.
    pub explicit: Option<Explicit>,
    /// Stack pointer of the caller, where the frame could be unwound.
    pub caller_sp: Option<u64>,
    /// Whether the thread was interrupted here rather than in a call made here.
    pub leaf: bool,
    /// Whether it was found by looking for return addresses, so that frames in between may be missing.
    pub guessed: bool,
    /// Of a gap: what could not be walked, and why.
    pub why: Option<String>,
}

impl Frame {
    /// Whether it is a funclet of its method (a handler, a filter, a finally block).
    pub fn is_funclet(&self) -> bool {
        self.code.is_some_and(|c| c.in_funclet())
    }

    /// IL offset of what runs here: of the call under way, or of the instruction.
    pub fn il_offset(&self, code: Code<'_>) -> Option<u32> {
        let at = self.code.as_ref()?;
        if self.leaf { code.il_of_instruction(at) } else { code.il_of_return(at) }
    }
}

/// The stack of a thread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stack {
    /// Frames, the newest first.
    pub frames: Vec<Frame>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

impl Stack {
    /// The managed frames.
    pub fn managed(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|f| f.kind == FrameKind::Managed)
    }
}

/// What was walked so far.
#[derive(Debug, Default)]
pub struct Stacks {
    classes: OnceLock<frames::Classes>,
    functions: OnceLock<named::Functions>,
    by_thread: Mutex<FxHashMap<u64, Arc<Stack>>>,
    gc_infos: Mutex<FxHashMap<u64, Option<Arc<GcInfo>>>>,
    frame_infos: Mutex<FxHashMap<u64, Option<Arc<FrameInfo>>>>,
}

impl Clr {
    /// The stack of `thread`, walked at first need.
    pub fn stack(&self, thread: &ClrThread) -> Arc<Stack> {
        let kept = self.stacks.by_thread.lock().unwrap_or_else(PoisonError::into_inner).get(&thread.address).cloned();
        kept.unwrap_or_else(|| {
            let stack = Arc::new(self.walk(thread, None));
            let mut all = self.stacks.by_thread.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(thread.address).or_insert(stack).clone()
        })
    }

    /// The stack of `thread` from the registers `from` on; `exact` where execution stands there, else it is a caller.
    pub fn stack_from(&self, thread: &ClrThread, from: &Context, exact: bool) -> Stack {
        self.walk(thread, Some((*from, exact)))
    }

    fn walk(&self, thread: &ClrThread, from: Option<(Context, bool)>) -> Stack {
        match self.ahead() {
            Some(ahead) => compiled::walk(self, ahead, thread, from),
            None => walk::walk(self, thread, from),
        }
    }

    /// The caller of managed code with the registers `from`, or why it cannot be told; `leaf` where it was interrupted rather
    /// than calling. `thread`: address of the `Thread`, 0 for none.
    pub fn caller_of(&self, thread: u64, from: &Context, leaf: bool) -> Result<Context, String> {
        if let Some(ahead) = self.ahead() {
            let replaced = Some(thread).filter(|&t| t != 0).and_then(|t| ahead.hijacked(t));
            let caller = self.native().step(from, leaf).map_err(|e| e.to_string())?;
            return Ok(compiled::restored(from, caller.context, replaced));
        }
        walk::caller(self, thread, from, leaf)
    }

    /// A frame of managed code with the registers `at`, met elsewhere than on the walk of its thread.
    pub fn frame_at(&self, at: &Context, leaf: bool) -> Frame {
        walk::bare(self, at, leaf)
    }

    /// How explicit frames are told apart.
    pub fn frame_classes(&self) -> &frames::Classes {
        self.stacks.classes.get_or_init(|| frames::Classes::read(self))
    }
}
