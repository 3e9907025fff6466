//! x86: who called code of which nothing is known: a native function that uses ebp for something else, so that the chain of
//! frame pointers ends with it, or a method whose tables are not at hand.
//!
//! Such code leaves its caller's ebp where it is or saves it between its own stack and the address it returns to. So of the words
//! above its stack pointer that are return addresses in methods, the first is taken whose method has its frame where ebp or one
//! of the words in front of it says, close above the word, and leads to another return address behind a call in a method: a word
//! that a call left behind long ago has not all of that.

use std::collections::BTreeSet;
use std::ops::Range;

use super::frames::Class;
use super::reader::Reader;
use super::registers::{self, Context};
use super::x86;
use crate::clr::Clr;
use crate::dump::Arch;
use crate::native::x64::Memory;

/// Words of the stack looked through.
const MAX_WORDS: u64 = 1 << 12;
/// Most frames tried.
const MAX_TRIED: usize = 1 << 10;
/// Most bytes of arguments pushed for a call.
const MAX_PUSHED: u64 = 0x100;

/// Most records of calls of native code in the frame of one method.
const MAX_CALLS: usize = 1 << 6;

/// Where the managed code ends that pushed the explicit frame at `address`: with the next one. That of a call of native code
/// lies in the frame of the method itself.
pub fn end(clr: &Clr, address: u64) -> Option<u64> {
    let next = clr.layout().try_offset("Frame", "Next").unwrap_or(clr.header());
    let mut at = address;
    for _ in 0..MAX_CALLS {
        at = clr.space().ptr_at(at, next)?;
        if clr.frame_classes().at(clr, at).class != Class::InlinedCall {
            break;
        }
    }
    Some(at)
}

/// The registers of the managed code that called the function whose stack begins `stack`, which ends with an older frame of the
/// runtime's. `popped`: bytes of arguments the function takes off the stack, where that is known; `fp`: ebp, where the function may
/// have left it alone.
pub fn caller(reader: &Reader<'_>, stack: Range<u64>, popped: Option<u64>, fp: Option<u64>) -> Option<Context> {
    let mut saved: BTreeSet<u64> = fp.into_iter().filter(|fp| stack.contains(fp)).collect();
    let mut left = MAX_TRIED;
    for at in (0..MAX_WORDS).map_while(|i| stack.start.checked_add(4 * i)).take_while(|at| stack.contains(at)) {
        let word = reader.pointer(at)?;
        if reader.is_method(word) && reader.may_be_return(word) {
            let context = Context::new(Arch::X86, word, at.checked_add(4 + popped.unwrap_or(0))?);
            // The frame of the function's caller is the nearest of those above it.
            let frames = saved.range(context.sp()..).copied().take(left);
            let mut all: Vec<Option<u64>> = frames.map(Some).collect();
            left -= all.len();
            all.push(None);
            let found = all.into_iter().find_map(|fp| with_frame(reader, context, fp, popped.is_some()));
            if found.is_some() {
                return found;
            }
        }
        if word > at && stack.contains(&word) && word.is_multiple_of(4) {
            saved.insert(word);
        }
    }
    None
}

/// The registers of a method that the function returns to, if its frame pointer is `fp`: it is where it should be, and leads to
/// another return address behind a call in a method. `exact` where the stack pointer is known, not only that it is no lower.
fn with_frame(reader: &Reader<'_>, mut context: Context, fp: Option<u64>, exact: bool) -> Option<Context> {
    // Of an image whose tables are not at hand no method is known.
    let at = reader.code_of(context.ip, false);
    let info = at.and_then(|at| Some((reader.clr.kept_frame_info(&at)?, (at.start, at.native))));
    // Where the stack pointer leads to the frame, no ebp is better than any.
    (fp.is_none() || !info.as_ref().is_some_and(|i| i.0.by_stack_pointer())).then_some(())?;
    if let Some(fp) = fp {
        context.set(registers::frame_pointer(Arch::X86), fp);
    }
    let base = reader.frame_base(&context);
    if let Some(base) = base {
        (context.sp()..context.sp().saturating_add(MAX_PUSHED)).contains(&base).then_some(())?;
        context.set_sp(if exact { context.sp() } else { base });
    }
    let ip = match info {
        Some((info, place)) => {
            let mut caller = context;
            x86::unwind(reader, &info, &mut caller, place, false).ok()?;
            (caller.sp() > context.sp()).then_some(caller.ip)?
        }
        // Without GC information the chain of frame pointers alone may tell.
        None => reader.pointer(fp?.checked_add(4)?)?,
    };
    // Where the frame stands right, it may return to the runtime, or to code that is not in the dump.
    let known = || reader.clr.found.module.holds(ip) || reader.is_method(ip) && reader.may_be_return(ip);
    (reader.is_return(ip) || base.is_some() && known()).then_some(context)
}
