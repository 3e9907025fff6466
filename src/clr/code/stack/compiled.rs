//! The walk of a program compiled ahead of time: its frames are native ones, unwound by the image's own tables; those in
//! managed code are shown.
//!
//! Where the registers lead nowhere, because an image on the way is not at hand, the walk begins with what the runtime noted
//! when the thread left managed code. A return address that the collector replaced, to stop the thread as it returns, is the
//! one that the runtime keeps.

use super::{Context, Frame, Stack, walk};
use crate::clr::Clr;
use crate::clr::ahead::Ahead;
use crate::clr::runtime::threads::ClrThread;
use crate::dump::Arch;
use crate::native::unwind::{MOST_FRAMES, Walk};
use crate::native::{End, Stepped};

/// Walks the stack of `thread`, from its registers or from those given, which are return addresses unless the second says
/// that execution stands there.
pub fn walk(clr: &Clr, ahead: &dyn Ahead, thread: &ClrThread, from: Option<(Context, bool)>) -> Stack {
    let native = clr.dump.thread_of(thread.os_id);
    let own = native.and_then(|n| n.registers.as_ref()).map(|r| (Context::of_thread(clr.dump.arch, r), true));
    let replaced = ahead.hijacked(thread.address);
    let mut best = match from.or(own) {
        Some((context, exact)) => run(clr, (context, exact), replaced),
        None => Stack { partial: Some("the dump has no registers of the thread".into()), ..Stack::default() },
    };
    if best.partial.is_some()
        && from.is_none()
        && let Some(context) = ahead.transition(thread.address)
    {
        let noted = run(clr, (context, false), replaced);
        if noted.frames.len() > best.frames.len() {
            best = noted;
        }
    }
    best
}

/// The caller `to` of `from`, with what the place held whose return address was `replaced`, if it was taken from there.
pub fn restored(from: &Context, mut to: Context, replaced: Option<(u64, u64)>) -> Context {
    let Some((place, ip)) = replaced else { return to };
    let taken = match to.arch {
        Arch::X64 | Arch::X86 => to.sp().checked_sub(to.arch.pointer_size().into()) == Some(place),
        // The link register's place is somewhere in the frame.
        _ => (from.sp()..to.sp()).contains(&place),
    };
    if taken {
        to.ip = ip;
    }
    to
}

/// Walks from the first of `start`, where execution stands if the second says so.
fn run(clr: &Clr, (context, exact): (Context, bool), replaced: Option<(u64, u64)>) -> Stack {
    let (native, code) = (clr.native(), clr.code());
    let mut out = Stack::default();
    let (mut at, mut steps) = (Stepped { context, exact, guessed: false }, Walk::default());
    // Whether any frame was since the last one shown.
    let mut guessed = false;
    for _ in 0..MOST_FRAMES {
        let managed = code.is_managed(at.context.ip);
        let next = steps.next(native, &at);
        guessed |= at.guessed;
        if managed {
            let frame = walk::bare(clr, &at.context, at.exact);
            let caller_sp = next.as_ref().ok().map(|n| n.context.sp());
            out.frames.push(Frame { caller_sp, guessed: std::mem::take(&mut guessed), ..frame });
        }
        match next {
            Ok(next) => {
                let context = restored(&at.context, next.context, replaced);
                at = Stepped { context, ..next };
            }
            Err(End::Bottom) => return out,
            Err(why) => {
                out.partial = Some(why.to_string());
                return out;
            }
        }
    }
    out.partial = Some(format!("frames behind the first {MOST_FRAMES} are left out"));
    out
}
