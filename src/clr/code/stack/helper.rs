//! `HelperMethodFrame`, through 9.0: managed code called a function of the runtime, and how to come back to it is known only
//! as the registers of that function: the runtime itself unwinds native code from there.
//!
//! Layout: dotnet/runtime release/8.0 `src/coreclr/vm/frames.h`, `vm/amd64/gmscpu.h`, `vm/i386/gmscpu.h`, `vm/arm64/gmscpu.h`
//! (`MachState`, `LazyMachState`). Native code is unwound by `.eh_frame` or `.pdata`, where they are at hand, to the first return
//! address in managed code. On Unix the runtime keeps frame pointers, so that without them the chain of `rbp` leads there; other
//! registers that were saved on the way are then lost. On x86 there are no tables, and where the chain of `ebp` breaks off the
//! caller is searched for ([`behind`]).

use super::behind;
use super::reader::Reader;
use super::registers::{self, Context};
use super::saved::{callee_saved, read_saved};
use super::x86;
use crate::clr::Clr;
use crate::dump::{Arch, Os};
use crate::native::x64::Memory;

/// Most native frames between the helper and managed code.
const MAX_NATIVE: usize = 256;

/// Places in a `MachState`, from its start.
struct State {
    /// Instruction and stack pointer, once they are known.
    ip: u64,
    sp: u64,
    /// Callee-saved registers as they were captured.
    captured: u64,
    /// Pointers to where they were saved.
    pointers: u64,
    /// Not 0 once unwinding is done.
    ready: u64,
    /// Values the registers then have (Unix).
    unwound: Option<u64>,
    /// Instruction and stack pointer of the helper.
    capture_ip: u64,
    capture_sp: u64,
}

/// The registers of the managed code that called the helper whose frame is at `address`, and whether that was only searched for.
pub fn caller(reader: &Reader<'_>, address: u64, thread: u64) -> Option<(Context, bool)> {
    let clr = reader.clr;
    let ptr = clr.header();
    (clr.space().ptr_at(address, 4 * ptr)? == thread).then_some(())?;
    let state = state(clr, address)?;
    match clr.dump.arch {
        Arch::X64 => x64(reader, state).map(|c| (c, false)),
        Arch::X86 => of_x86(reader, address, state),
        Arch::Arm64 => arm64(reader, state).map(|c| (c, false)),
        Arch::Arm => None,
    }
}

/// Where the state of the frame at `address` lies: behind vtable, next, MethodDesc, attributes, thread and entry of the
/// function.
fn state(clr: &Clr, address: u64) -> Option<u64> {
    address.checked_add(6 * clr.header())
}

/// Whether the runtime itself has unwound the frame at `address`: then what it writes into it while it does so is there.
pub fn is_unwound(clr: &Clr, address: u64) -> bool {
    let saved = callee_saved(clr.dump.arch, clr.dump.os).len() as u64;
    let ready = match clr.dump.arch {
        Arch::X64 => 2 + 2 * saved,
        Arch::X86 => 9,
        _ => return false,
    };
    let word = state(clr, address).and_then(|at| clr.space().ptr_at(at, ready * clr.header()));
    word.is_some_and(|w| w != 0)
}

/// Where the frame at `address` ends: behind its state, where a frame of a derived class keeps what it protects.
pub fn end(clr: &Clr, address: u64) -> Option<u64> {
    let saved = callee_saved(clr.dump.arch, clr.dump.os).len() as u64 * clr.header();
    let size = match (clr.dump.arch, clr.dump.os) {
        // Instruction and stack pointer, captured registers, pointers to them, whether it is ready; on Unix their values;
        // instruction and stack pointer of the helper.
        (Arch::X64, Os::Linux) => 40 + 3 * saved,
        (Arch::X64, Os::Windows) => 40 + 2 * saved,
        (Arch::X86, _) => 52,
        _ => return None,
    };
    state(clr, address)?.checked_add(size)
}

fn x64(reader: &Reader<'_>, state: u64) -> Option<Context> {
    let clr = reader.clr;
    let saved = callee_saved(clr.dump.arch, clr.dump.os);
    let size = 8 * saved.len() as u64;
    let unix = clr.dump.os == Os::Linux;
    let lazy = 24 + 2 * size + if unix { size } else { 0 };
    let places = State {
        ip: 0,
        sp: 8,
        captured: 16,
        pointers: 16 + size,
        ready: 16 + 2 * size,
        unwound: unix.then_some(24 + 2 * size),
        capture_ip: lazy,
        capture_sp: lazy + 8,
    };
    let read = |at: u64| clr.space().ptr_at(state, at);
    if read(places.ready)? != 0 {
        let mut context = Context::new(Arch::X64, read(places.ip)?, read(places.sp)?);
        // A collection unwound it and wrote through the pointers where it moved objects; without one the value stands in for it.
        for (i, &register) in saved.iter().enumerate() {
            let nth = |first: u64| read(first + 8 * i as u64);
            let kept = nth(places.pointers).filter(|&p| p != 0).and_then(|p| clr.space().ptr(p));
            context.put(register, kept.or_else(|| nth(places.unwound?)));
        }
        return Some(context);
    }
    // The stack pointer was captured with the return address of the call that captured it.
    let mut context = Context::new(Arch::X64, read(places.capture_ip)?, read(places.capture_sp)?.checked_add(8)?);
    read_saved(clr, &mut context, state.checked_add(places.captured)?);
    let described = by_tables(reader, context);
    let chained = || by_frame_pointers(reader, &context, 16).ok().map(|found| found.0);
    if unix { described.or_else(chained) } else { described }
}

/// `_pEdi edi _pEsi esi _pEbx ebx _pEbp ebp esp pRetAddr`, then the helper's ebp, esp and eip.
fn of_x86(reader: &Reader<'_>, address: u64, state: u64) -> Option<(Context, bool)> {
    const VALUES: [(usize, u64); 4] = [(7, 4), (6, 12), (3, 20), (5, 28)];
    let clr = reader.clr;
    let read = |at: u64| clr.space().ptr_at(state, at);
    let returns = read(36)?;
    if returns != 0 {
        let mut context = Context::new(Arch::X86, clr.space().ptr(returns)?, read(32)?);
        for (register, value) in VALUES {
            let through = read(value - 4).filter(|&p| p != 0).and_then(|p| clr.space().ptr(p));
            context.put(register, through.or_else(|| read(value)));
        }
        return Some((context, false));
    }
    let mut context = Context::new(Arch::X86, read(48)?, read(44)?);
    context.set(registers::frame_pointer(Arch::X86), read(40)?);
    let chain = by_frame_pointers(reader, &context, 8);
    let last = chain.map_or_else(|broken| broken.ip, |found| found.1);
    // Who was called takes the arguments off the stack: the method's signature tells how many, else the function itself.
    let popped = clr.popped_by(&clr.frame_classes().at(clr, address)).or_else(|| x86::popped(reader, last));
    match chain {
        Ok((mut caller, _)) => {
            caller.set_sp(caller.sp().wrapping_add(popped.unwrap_or(0)));
            Some((caller, false))
        }
        Err(broken) => {
            let until = behind::end(clr, address)?;
            behind::caller(reader, broken.sp..until, popped, None).map(|c| (c, true))
        }
    }
}

/// x19 to x29 as captured, pointers to them, then instruction and stack pointer and whether they are valid, on Unix the
/// unwound values, and the helper's stack and instruction pointer.
fn arm64(reader: &Reader<'_>, state: u64) -> Option<Context> {
    const SAVED: u64 = 11;
    let clr = reader.clr;
    let read = |word: u64| clr.space().ptr_at(state, 8 * word);
    let fp = read(SAVED - 1)?;
    let mut context = Context::new(Arch::Arm64, 0, fp);
    context.set(registers::frame_pointer(Arch::Arm64), fp);
    by_frame_pointers(reader, &context, 0).ok().map(|found| found.0)
}

/// Where a chain of frame pointers leads no further: the native function that the last one returns to, and its stack pointer
/// there.
#[derive(Clone, Copy)]
struct Broken {
    ip: u64,
    sp: u64,
}

/// Follows the chain of frame pointers to the first return address in a method. `behind`: bytes from where a frame pointer
/// points to the caller's stack; 0 where that is not known, and the caller's frame pointer stands for it. With the address in
/// the last native function.
///
/// On x86 functions of the runtime may use ebp for something else: there each return address before the last must be the
/// runtime's.
fn by_frame_pointers(reader: &Reader<'_>, from: &Context, behind: u64) -> Result<(Context, u64), Broken> {
    let (ptr, x86) = (reader.clr.header(), from.arch == Arch::X86);
    let mut broken = Broken { ip: from.ip, sp: from.sp() };
    let mut fp = from.fp().ok_or(broken)?;
    for _ in 0..MAX_NATIVE {
        let link = |at: u64| Some((reader.pointer(at)?, reader.pointer(at.checked_add(ptr)?)?));
        let (next, ip) = link(fp).ok_or(broken)?;
        if reader.is_method(ip) && (!x86 || reader.may_be_return(ip)) {
            let sp = if behind == 0 { next } else { fp.wrapping_add(behind) };
            let mut context = Context::new(from.arch, ip, sp);
            context.set(registers::frame_pointer(from.arch), next);
            return Ok((context, broken.ip));
        }
        if x86 && !reader.clr.found.module.holds(ip) {
            return Err(broken);
        }
        broken = Broken { ip, sp: fp.wrapping_add(behind) };
        // Older frames lie higher.
        (next > fp).then_some(()).ok_or(broken)?;
        fp = next;
    }
    Err(broken)
}

/// Unwinds native code by the tables of its images to the first return address in a method: then all registers that were
/// saved on the way are known.
fn by_tables(reader: &Reader<'_>, context: Context) -> Option<Context> {
    let found = reader.clr.native().walk_to(context, false, MAX_NATIVE, |ip| reader.is_method(ip)).ok()?;
    Some(found.context).filter(|_| !found.guessed)
}
