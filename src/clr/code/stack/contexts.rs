//! The registers an explicit frame gives: those of the managed code it was pushed for.
//!
//! Source: dotnet/runtime `src/coreclr/vm/frames.h` (layouts), `vm/amd64/cgencpu.h`, `vm/arm64/cgencpu.h`, `vm/i386/cgencpu.h`
//! (`CalleeSavedRegisters`, `TransitionBlock`, `HijackArgs`); offsets by the layout's names.

use super::frames::{Class, Explicit};
use super::helper;
use super::reader::Reader;
use super::registers::{self, Context};
use super::saved::{read_saved, saved_size};
use crate::clr::Clr;
use crate::dump::{Arch, Os};

/// What a frame gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The registers of its managed caller.
    Caller(Context),
    /// The same, only searched for: frames in between may be missing.
    Searched(Context),
    /// Those of code that was interrupted where it stood.
    Interrupted(Context),
    /// Nothing: a mark, or a call that is not under way.
    Nothing,
    /// It should give some, and they cannot be read.
    Lost,
}

/// Reads what `frame` of `thread` gives.
pub fn of(reader: &Reader<'_>, frame: &Explicit, thread: u64) -> Given {
    let given = match frame.class {
        Class::Mark => Some(Given::Nothing),
        Class::InlinedCall => inlined_call(reader, frame.address),
        Class::Helper => helper::caller(reader, frame.address, thread).map(|(context, searched)| match searched {
            true => Given::Searched(context),
            false => Given::Caller(context),
        }),
        Class::SoftwareException => thrown(reader.clr, frame.address).map(Given::Caller),
        Class::FaultingException => fault(reader, frame.address).map(Given::Interrupted),
        Class::Stopped => {
            let at = field(reader.clr, frame.address, ("ResumableFrame", "TargetContextPtr"), 2);
            at.and_then(|at| context(reader.clr, reader.clr.space().ptr(at)?)).map(Given::Interrupted)
        }
        Class::Hijack => hijack(reader.clr, frame.address).map(Given::Caller),
        Class::Transition => {
            let popped = reader.clr.popped_by(frame).unwrap_or(0);
            let behind = |mut c: Context| {
                c.set_sp(c.sp().wrapping_add(popped));
                Given::Caller(c)
            };
            transition(reader.clr, frame.address).map(behind)
        }
    };
    given.unwrap_or(Given::Lost)
}

/// Place of a field of the frame at `address`: as described, else so many words behind its start, which no version moved.
pub fn field(clr: &Clr, address: u64, (ty, name): (&str, &str), own: u64) -> Option<u64> {
    address.checked_add(clr.layout().try_offset(ty, name).unwrap_or(own * clr.header()))
}

/// Place of a field that only a descriptor names.
fn described(clr: &Clr, address: u64, ty: &str, name: &str) -> Option<u64> {
    address.checked_add(clr.layout().try_offset(ty, name)?)
}

/// The registers in the `CONTEXT` at `at`.
pub fn context(clr: &Clr, at: u64) -> Option<Context> {
    let (arch, space) = (clr.dump.arch, clr.space());
    let (ip, places) = registers::in_context(arch)?;
    let sp = space.ptr_at(at, *places.get(registers::stack_pointer(arch))?)?;
    let mut context = Context::new(arch, space.ptr_at(at, ip)?, sp);
    for (number, place) in places.iter().enumerate() {
        context.put(number, space.ptr_at(at, *place));
    }
    Some(context)
}

/// Where a call of native code returns to. The caller keeps no other register live across it. On x86 the stack pointer is that
/// of the call, arguments included, which whom is called may take off: when it has returned it is that of the frame.
fn inlined_call(reader: &Reader<'_>, address: u64) -> Option<Given> {
    let clr = reader.clr;
    let first = clr.frame_classes().call_site;
    let read = |name: &str, own: u64| clr.space().ptr(field(clr, address, ("InlinedCallFrame", name), first + own)?);
    let ip = read("CallerReturnAddress", 1)?;
    if ip == 0 {
        return Some(Given::Nothing);
    }
    let mut context = Context::new(clr.dump.arch, ip, read("CallSiteSP", 0)?);
    if let Some(fp) = read("CalleeSavedFP", 2) {
        context.set(registers::frame_pointer(clr.dump.arch), fp);
    }
    let base = reader.frame_base(&context).filter(|&base| context.sp() <= base);
    context.set_sp(base.unwrap_or(context.sp()));
    Some(Given::Caller(context))
}

/// Words of a frame in which its context is looked for where no descriptor names its place.
const CONTEXT_WORDS: u64 = 64;

/// The context of who threw lies in the frame itself; its instruction pointer stands in front of it too.
fn thrown(clr: &Clr, address: u64) -> Option<Context> {
    let returns = field(clr, address, ("SoftwareExceptionFrame", "ReturnAddress"), 2)?;
    let ip = clr.space().ptr(returns).filter(|&ip| ip != 0)?;
    let described = described(clr, address, "SoftwareExceptionFrame", "TargetContext");
    let searched = (3..CONTEXT_WORDS).filter_map(|i| address.checked_add(i * clr.header()));
    described.into_iter().chain(searched).find_map(|at| context(clr, at).filter(|c| c.ip == ip && c.sp() > address))
}

/// A fault's context lies in the frame itself; in front of it stand a return address and, in older runtimes, a flag.
fn fault(reader: &Reader<'_>, address: u64) -> Option<Context> {
    let described = described(reader.clr, address, "FaultingExceptionFrame", "TargetContext");
    let searched = (2..16).filter_map(|i| address.checked_add(i * reader.clr.header()));
    let managed = |at: u64| context(reader.clr, at).filter(|c| reader.is_method(c.ip) && c.sp() > address);
    described.into_iter().chain(searched).find_map(managed)
}

/// Words of `HijackArgs` in which the return address is looked for.
const HIJACK_WORDS: u64 = 24;

/// A hijacked return keeps what is returned, the callee-saved registers and where it returns to, which the frame knows too;
/// behind that lies the caller's stack. On Windows the stack pointer stands in front of the address since 10.0, behind two
/// registers that return values instead of one.
fn hijack(clr: &Clr, address: u64) -> Option<Context> {
    let (space, ptr, size) = (clr.space(), clr.header(), saved_size(clr));
    let ip = space.ptr(field(clr, address, ("HijackFrame", "ReturnAddress"), 2)?)?;
    let args = space.ptr(field(clr, address, ("HijackFrame", "HijackArgsPtr"), 4)?)?;
    let at = (0..HIJACK_WORDS).map(|i| i * ptr).find(|&at| space.ptr_at(args, at) == Some(ip))?;
    let (saved, sp) = match clr.dump.arch {
        // fp and lr, the address itself, come first.
        Arch::Arm64 => {
            let described = clr.layout().try_offset("HijackArgs", "!");
            let bytes = described.or_else(|| clr.layout().constant("HijackArgsSize").ok())?;
            (at.checked_sub(ptr)?, args.checked_add(bytes)?)
        }
        _ => {
            let (before, behind) = (at.checked_sub(size)?, args.checked_add(at + ptr)?);
            match (clr.dump.os, before / ptr) {
                (Os::Windows, 3) => (before - ptr, space.ptr_at(args, at - ptr)?),
                _ => (before, behind),
            }
        }
    };
    let mut context = Context::new(clr.dump.arch, ip, sp);
    read_saved(clr, &mut context, args.checked_add(saved)?);
    Some(context)
}

/// A stub's `TransitionBlock`: registers it saved, the return address, behind it the caller's stack.
fn transition(clr: &Clr, address: u64) -> Option<Context> {
    let space = clr.space();
    let block = space.ptr(field(clr, address, ("FramedMethodFrame", "TransitionBlockPtr"), 2)?)?;
    let (saved, returns, size) = transition_block(clr);
    let ip = space.ptr_at(block, returns)?;
    let mut context = Context::new(clr.dump.arch, ip, block.checked_add(size)?);
    read_saved(clr, &mut context, block.checked_add(saved)?);
    (ip != 0).then_some(context)
}

/// Where a `TransitionBlock` has callee-saved registers and return address, and its size: as described, else by the calling
/// convention (Unix x64: six argument registers in front; x86: two; arm64: nine behind).
pub(super) fn transition_block(clr: &Clr) -> (u64, u64, u64) {
    let (l, size, ptr) = (clr.layout(), saved_size(clr), clr.header());
    let own = match (clr.dump.arch, clr.dump.os) {
        (Arch::X64, Os::Linux) => (6 * ptr, 6 * ptr + size, 7 * ptr + size),
        (Arch::X64, Os::Windows) => (0, size, size + ptr),
        (Arch::X86, _) => (2 * ptr, 2 * ptr + size, 3 * ptr + size),
        (Arch::Arm64, _) => (0, ptr, size + 10 * ptr),
        (Arch::Arm, _) => (0, 8 * ptr, size + 4 * ptr),
    };
    let place = |name: &str, own: u64| l.try_offset("TransitionBlock", name).unwrap_or(own);
    (place("CalleeSavedRegisters", own.0), place("ReturnAddress", own.1), place("!", own.2))
}
