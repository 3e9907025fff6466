//! The registers an explicit frame gives: those of the managed code it was pushed for.
//!
//! Source: dotnet/runtime `src/coreclr/vm/frames.h` (layouts), `vm/amd64/cgencpu.h`, `vm/arm64/cgencpu.h`, `vm/i386/cgencpu.h`
//! (`CalleeSavedRegisters`, `TransitionBlock`, `HijackArgs`); offsets by the layout's names.

use super::frames::{Class, Explicit};
use super::registers::{self, Context, LINK};
use super::{helper, walk::Reader};
use crate::clr::Clr;
use crate::dump::{Arch, Os};

/// What a frame gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The registers of its managed caller.
    Caller(Context),
    /// Those of code that was interrupted where it stood.
    Interrupted(Context),
    /// Nothing: a mark, or a call that is not under way.
    Nothing,
    /// It should give some, and they cannot be read.
    Lost,
}

/// Registers the runtime's stubs save for the collector, in the order of `CalleeSavedRegisters`.
pub fn callee_saved(arch: Arch, os: Os) -> &'static [usize] {
    match (arch, os) {
        // r12 r13 r14 r15 rbx rbp
        (Arch::X64, Os::Linux) => &[12, 13, 14, 15, 3, 5],
        // rdi rsi rbx rbp r12 r13 r14 r15
        (Arch::X64, Os::Windows) => &[7, 6, 3, 5, 12, 13, 14, 15],
        // edi esi ebx ebp
        (Arch::X86, _) => &[7, 6, 3, 5],
        // fp lr x19 .. x28
        (Arch::Arm64, _) => &[29, 30, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28],
        // r4 .. r11 lr
        (Arch::Arm, _) => &[4, 5, 6, 7, 8, 9, 10, 11, 14],
    }
}

/// Reads what `frame` of `thread` gives.
pub fn of(reader: &Reader<'_>, frame: &Explicit, thread: u64) -> Given {
    let given = match frame.class {
        Class::Mark => Some(Given::Nothing),
        Class::InlinedCall => inlined_call(reader.clr, frame.address),
        Class::Helper => helper::caller(reader, frame.address, thread).map(Given::Caller),
        Class::SoftwareException => {
            let at = field(reader.clr, frame.address, "SoftwareExceptionFrame", "TargetContext");
            at.and_then(|at| context(reader.clr, at)).map(Given::Caller)
        }
        Class::FaultingException => fault(reader, frame.address).map(Given::Interrupted),
        Class::Stopped => {
            let at = field(reader.clr, frame.address, "ResumableFrame", "TargetContextPtr");
            at.and_then(|at| context(reader.clr, reader.clr.space().ptr(at)?)).map(Given::Interrupted)
        }
        Class::Hijack => hijack(reader.clr, frame.address).map(Given::Caller),
        Class::Transition => transition(reader.clr, frame.address).map(Given::Caller),
    };
    given.unwrap_or(Given::Lost)
}

/// Place of a field of the frame at `address`.
fn field(clr: &Clr, address: u64, ty: &str, name: &str) -> Option<u64> {
    address.checked_add(clr.layout().try_offset(ty, name)?)
}

/// The registers in the `CONTEXT` at `at`.
pub fn context(clr: &Clr, at: u64) -> Option<Context> {
    let (arch, space) = (clr.dump.arch, clr.space());
    let (ip, places) = registers::in_context(arch);
    let sp = space.ptr_at(at, *places.get(registers::stack_pointer(arch))?)?;
    let mut context = Context::new(arch, space.ptr_at(at, ip)?, sp);
    for (number, place) in places.iter().enumerate() {
        context.put(number, space.ptr_at(at, *place));
    }
    Some(context)
}

/// Where a call of native code returns to. The caller keeps no other register live across it.
fn inlined_call(clr: &Clr, address: u64) -> Option<Given> {
    let read = |name: &str| clr.space().ptr(field(clr, address, "InlinedCallFrame", name)?);
    let ip = read("CallerReturnAddress")?;
    if ip == 0 {
        return Some(Given::Nothing);
    }
    let mut context = Context::new(clr.dump.arch, ip, read("CallSiteSP")?);
    if let Some(fp) = read("CalleeSavedFP") {
        context.set(registers::frame_pointer(clr.dump.arch), fp);
    }
    Some(Given::Caller(context))
}

/// A fault's context lies in the frame itself; in front of it stand a return address and, in older runtimes, a flag.
fn fault(reader: &Reader<'_>, address: u64) -> Option<Context> {
    let described = field(reader.clr, address, "FaultingExceptionFrame", "TargetContext");
    let searched = (2..16).filter_map(|i| address.checked_add(i * reader.clr.header()));
    let managed = |at: u64| context(reader.clr, at).filter(|c| reader.is_method(c.ip) && c.sp() > address);
    described.into_iter().chain(searched).find_map(managed)
}

/// Callee-saved registers that lie together at `at`.
pub fn read_saved(clr: &Clr, context: &mut Context, at: u64) {
    let arch = clr.dump.arch;
    for (i, &register) in callee_saved(arch, clr.dump.os).iter().enumerate() {
        context.put(register, clr.space().ptr_at(at, i as u64 * clr.header()));
    }
    if arch == Arch::Arm64 {
        context.forget(LINK);
    }
}

/// Bytes of them.
pub fn saved_size(clr: &Clr) -> u64 {
    callee_saved(clr.dump.arch, clr.dump.os).len() as u64 * clr.header()
}

/// Behind the registers a hijacked return keeps lies where it returns to.
fn hijack(clr: &Clr, address: u64) -> Option<Context> {
    let (space, l) = (clr.space(), clr.layout());
    let ip = space.ptr(field(clr, address, "HijackFrame", "ReturnAddress")?)?;
    let args = space.ptr(field(clr, address, "HijackFrame", "HijackArgsPtr")?)?;
    let saved = match (l.try_offset("HijackArgs", "CalleeSavedRegisters"), l.try_offset("HijackArgs", "Fp")) {
        (Some(at), _) | (None, Some(at)) => args.checked_add(at)?,
        (None, None) => return None,
    };
    let behind = saved.checked_add(saved_size(clr))?;
    let sp = match (l.try_offset("HijackArgs", "Rsp"), l.try_offset("HijackArgs", "!")) {
        (Some(at), _) => space.ptr_at(args, at)?,
        (None, Some(size)) => args.checked_add(size)?,
        (None, None) => behind.checked_add(clr.header())?,
    };
    let mut context = Context::new(clr.dump.arch, ip, sp);
    read_saved(clr, &mut context, saved);
    Some(context)
}

/// A stub's `TransitionBlock`: registers it saved, the return address, behind it the caller's stack.
fn transition(clr: &Clr, address: u64) -> Option<Context> {
    let space = clr.space();
    let block = space.ptr(field(clr, address, "FramedMethodFrame", "TransitionBlockPtr")?)?;
    let (saved, returns, size) = transition_block(clr);
    let ip = space.ptr_at(block, returns)?;
    let mut context = Context::new(clr.dump.arch, ip, block.checked_add(size)?);
    read_saved(clr, &mut context, block.checked_add(saved)?);
    (ip != 0).then_some(context)
}

/// Where a `TransitionBlock` has callee-saved registers and return address, and its size: as described, else by the calling
/// convention (Unix x64: six argument registers in front; x86: two; arm64: nine behind).
fn transition_block(clr: &Clr) -> (u64, u64, u64) {
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
