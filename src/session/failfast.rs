//! Why a process ended itself: what it told `Environment.FailFast`.

use super::Session;
use crate::clr::Clr;
use crate::clr::code::stack::{Frame, LiveSlot};

/// Longest message, in UTF-16 units.
const MAX_MESSAGE: usize = 1 << 16;
/// The exception that stands for the end: one for the whole process, made when the runtime starts.
const END: &str = "System.ExecutionEngineException";
const METHOD: &str = "System.Environment.FailFast(";

impl Session {
    /// What the thread that `exception` ended told `Environment.FailFast`. The message is in no place of its own: the runtime
    /// hands it on from function to function, so it is read from what the innermost frames of the thread hold: those of the
    /// method, or what it protects while native code runs (`ExceptionNative_FailFast`, dotnet/runtime
    /// `src/coreclr/vm/comutilnative.cpp`; `SystemNative::FailFast` before 9).
    pub fn fail_fast(&self, exception: u64) -> Option<String> {
        let clr = self.clr().ok()?;
        (&*clr.type_name(clr.object_type(exception)?) == END).then_some(())?;
        let threads = clr.threads().items.iter().filter(|t| t.os_id != 0 && t.exception == exception);
        threads.into_iter().find_map(|t| self.said(clr, &clr.stack(t).frames, &clr.live_slots(t).slots))
    }

    fn said(&self, clr: &Clr, frames: &[Frame], slots: &[LiveSlot]) -> Option<String> {
        let holds = |i: usize| slots.iter().filter(move |s| s.frame == i);
        let mut protected = None;
        for (i, frame) in frames.iter().enumerate() {
            if frame.code.is_some() {
                if !self.frame_name(frame, false).is_some_and(|n| n.starts_with(METHOD)) {
                    break;
                }
                if let Some(text) = holds(i).find_map(|s| text(clr, s)) {
                    return Some(text);
                }
            } else {
                // Message and exception, and nothing else.
                let mut first = holds(i).filter(|s| s.value != 0);
                let message = first.next().and_then(|s| text(clr, s));
                let alone = first.all(|s| clr.object_type(s.value).is_some_and(|mt| mt != clr.known.string));
                if holds(i).next().is_some() {
                    protected = message.filter(|_| alone);
                }
            }
        }
        protected
    }
}

/// The text of the string a slot refers to, be it to its first character: pinned for a call of native code.
fn text(clr: &Clr, slot: &LiveSlot) -> Option<String> {
    let is_string = |a: &u64| clr.object_type(*a) == Some(clr.known.string);
    let inside = || slot.value.checked_sub(clr.header().checked_add(4)?).filter(|_| slot.interior);
    let address = Some(slot.value).filter(is_string).or_else(|| inside().filter(is_string))?;
    Some(clr.string_at(address, MAX_MESSAGE)?.1)
}
