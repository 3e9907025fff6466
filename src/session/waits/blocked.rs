//! The call by which a thread waits, found on its stack, and the objects its frames hold.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::kinds::{Kind, Role, role};
use crate::clr::Clr;
use crate::clr::code::stack::{Frame, FrameKind, Stack};
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;
use crate::session::value::Value;

/// Frames a blocking call may have above the method by which the thread waits; deeper ones are none.
const MAX_BELOW: usize = 32;

/// A blocking call on a stack.
pub(super) struct Blocked<'s> {
    session: &'s Session,
    clr: &'s Arc<Clr>,
    thread: &'s ClrThread,
    stack: Arc<Stack>,
    /// How it waits.
    pub kind: Kind,
    /// Frames of the call in the stack, the newest first.
    frames: RangeInclusive<usize>,
    /// Full name of the outermost method of it.
    pub method: String,
    /// Full name of the method that called it.
    pub caller: Option<String>,
    /// Whether a method that waits for all of several is among them.
    pub all: bool,
}

impl<'s> Blocked<'s> {
    /// The call by which `thread` waits; `None` where it runs, or waits in code that is not known.
    pub(super) fn find(session: &'s Session, clr: &'s Arc<Clr>, thread: &'s ClrThread) -> Option<Self> {
        let stack = clr.stack(thread);
        let managed = stack.frames.iter().enumerate().filter(|(_, f)| f.kind == FrameKind::Managed);
        let mut found: Option<(Kind, RangeInclusive<usize>, String)> = None;
        let (mut all, mut caller, mut first) = (false, None, None);
        for (below, (i, frame)) in managed.enumerate() {
            let name = session.frame_name(frame, false);
            let of = name.as_deref().map_or(Role::Below, role);
            first.get_or_insert(i);
            match of {
                Role::Operation(kind) => {
                    all |= kind == Kind::WaitAll;
                    found = Some((kind, first.unwrap_or(i)..=i, name.unwrap_or_default()));
                }
                // What has no name and what calls into the runtime stands between.
                Role::Below if below < MAX_BELOW => {}
                _ => {
                    caller = name;
                    break;
                }
            }
        }
        let (kind, frames, method) = found?;
        Some(Self { session, clr, thread, stack, kind, frames, method, caller, all })
    }

    fn at(&self, i: usize) -> Option<&Frame> {
        self.stack.frames.get(i)
    }

    /// Objects for which `is` holds, those the frames of the call name first, the outermost before the others; behind them
    /// those in the words of their part of the stack.
    pub(super) fn objects(&self, is: impl Fn(&Value<'_>) -> bool) -> Vec<u64> {
        let (mut seen, mut order) = (FxHashSet::default(), Vec::new());
        let mut add = |word: u64| {
            if word != 0 && seen.insert(word) && self.session.value(word).is_some_and(|v| is(&v)) {
                order.push(word);
            }
        };
        for frame in self.frames.clone().rev().filter_map(|i| self.at(i)) {
            let variables = self.session.frame_variables(frame);
            variables.iter().filter_map(|v| v.value).for_each(&mut add);
        }
        let live = self.clr.live_slots(self.thread);
        let inside = live.slots.iter().rev().filter(|s| self.frames.contains(&s.frame));
        inside.map(|s| s.value).for_each(&mut add);
        let (from, to) = self.part();
        let words: Vec<u64> = self.clr.space().words(from, to).map(|w| w.1).collect();
        words.into_iter().rev().for_each(&mut add);
        order
    }

    /// The part of the stack that the call uses: from where the thread is to where the method that made it begins.
    fn part(&self) -> (u64, u64) {
        /// A call to wait takes no more of a stack.
        const MAX_PART: u64 = 1 << 16;
        let native = self.clr.dump.thread_of(self.thread.os_id).and_then(|t| t.registers.as_ref()).map(|r| r.sp);
        let from = native.or_else(|| self.at(*self.frames.start()).map(|f| f.sp)).unwrap_or(0);
        let to = self.at(*self.frames.end()).map_or(0, |f| f.caller_sp.unwrap_or(f.sp));
        (from.max(to.saturating_sub(MAX_PART)), to)
    }

    /// Time-out in milliseconds, where an argument that is still known gives one.
    pub(super) fn timeout(&self) -> Option<u32> {
        /// What the methods call it.
        const NAMES: [&str; 4] = ["millisecondsTimeout", "timeoutMs", "totalTimeout", "timeout"];
        let frames = self.frames.clone().rev().filter_map(|i| self.at(i));
        let arguments = frames.flat_map(|f| self.session.frame_variables(f)).filter(|v| v.argument);
        let known = arguments.filter(|v| NAMES.contains(&v.name.as_str())).filter_map(|v| v.value);
        known.map(|ms| ms as u32).next().filter(|&ms| ms != u32::MAX)
    }

    /// Whether an argument says that all of several are waited for.
    pub(super) fn waits_for_all(&self) -> bool {
        let frames = self.frames.clone().rev().filter_map(|i| self.at(i));
        let mut arguments = frames.flat_map(|f| self.session.frame_variables(f));
        self.all || arguments.any(|v| v.argument && v.name == "waitAll" && v.value == Some(1))
    }
}
