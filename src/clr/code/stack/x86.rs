//! Unwinding x86 code, which has no tables for it: by what its GC information says of the frame.
//!
//! Source: dotnet/coreclr release/3.1 `src/vm/eetwain.cpp` (`UnwindStackFrame`, `GetHandlerFrameInfo`), the same since
//! .NET Framework. Whoever is called takes the arguments off the stack. Prologue and epilogue are followed by their
//! instructions.

use std::collections::VecDeque;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use rustc_hash::FxHashSet;

use super::registers::Context;
use crate::clr::code::gcinfo::x86::{FrameInfo, Header, SAVED};
use crate::native::x64::{Memory, Stop};

const ESP: usize = 4;
const EBP: usize = 5;
/// Most instructions of an epilogue.
const MAX_EPILOGUE: usize = 24;
/// Most handlers that run one inside the other in one frame.
const MAX_HANDLERS: u32 = 1 << 10;
/// Most instructions followed in search of the end of a native function.
const MAX_FOLLOWED: usize = 1 << 12;
/// Longest instruction, in bytes.
const LONGEST: usize = 15;

/// How a frame with handlers stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The stack pointer with which the handler that runs was begun, or that of the method itself.
    pub base: u64,
    /// A filter runs: it returns to who asked it.
    pub filter: bool,
    /// A filter runs that was entered from here and speaks for the frame.
    pub asked: bool,
    /// Where in the code the filter ends that ran last, if one did.
    pub ended: Option<u32>,
}

/// The caller of the method described by `info` that begins at `start`, `offset` bytes behind which execution is; `leaf` where
/// it was interrupted there rather than calling.
pub fn unwind(
    memory: &impl Memory,
    info: &FrameInfo,
    context: &mut Context,
    (start, offset): (u64, u32),
    leaf: bool,
) -> Result<(), Stop> {
    let h = &info.header;
    if leaf && info.in_epilog(offset) {
        return epilog(memory, h, context);
    }
    if info.in_prolog(offset) {
        return prolog(memory, h, context, start);
    }
    let bad = Stop::BadUnwindData(start);
    if info.by_stack_pointer() {
        let pushed = info.pushed(offset).ok_or(bad)?;
        let mut at = context.sp().wrapping_add(u64::from(pushed)).wrapping_add(u64::from(h.locals));
        // The last one pushed lies lowest.
        for (_, &register) in saved(h).rev() {
            context.put(register, memory.pointer(at));
            at = at.wrapping_add(4);
        }
        return returns(memory, h, context, at);
    }
    let fp = context.get(EBP).ok_or(Stop::NoRegister(EBP as u8))?;
    if h.handlers {
        let running = running(memory, h, fp, context.sp()).ok_or(Stop::NoStack(fp))?;
        if running.filter {
            let at = running.base;
            context.ip = memory.pointer(at).ok_or(Stop::NoStack(at))?;
            context.set_sp(at.wrapping_add(4));
            return Ok(());
        }
    }
    let aligned = if h.double_align { fp & 4 } else { 0 };
    let mut at = fp.wrapping_sub(aligned);
    for (_, &register) in saved(h).filter(|s| *s.1 != EBP) {
        at = at.wrapping_sub(4);
        context.put(register, memory.pointer(at));
    }
    context.put(EBP, memory.pointer(fp));
    returns(memory, h, context, fp.wrapping_add(4))
}

/// Registers a method saves, in the order it pushes them.
fn saved(h: &Header) -> impl DoubleEndedIterator<Item = (usize, &'static usize)> {
    let bits = h.saved;
    SAVED.iter().enumerate().filter(move |(i, _)| bits >> i & 1 != 0)
}

/// Returns by the address at `at`.
fn returns(memory: &impl Memory, h: &Header, context: &mut Context, at: u64) -> Result<(), Stop> {
    context.ip = memory.pointer(at).ok_or(Stop::NoStack(at))?;
    context.set_sp(at.wrapping_add(4).wrapping_add(u64::from(h.popped())) & 0xFFFF_FFFF);
    Ok(())
}

/// The stack pointer of a frame that ebp leads to, when no arguments are pushed.
pub fn base_of(memory: &impl Memory, h: &Header, fp: u64) -> Option<u64> {
    if h.localloc {
        return memory.pointer(fp.checked_sub(u64::from(h.localloc_slot()))?);
    }
    (fp + 4).checked_sub(u64::from(h.frame_size()))
}

/// Which handler of the frame at `fp` runs, seen from the stack pointer `sp` in it: a row of slots, ended by 0, has the stack
/// pointer of each.
pub fn running(memory: &impl Memory, h: &Header, fp: u64, sp: u64) -> Option<Running> {
    /// A `finally` that the method itself called, for which a word was pushed.
    const LOCAL: u64 = 0xFC;
    const IN_FILTER: u64 = 1;
    const FILTER_DONE: u64 = 2;
    const BITS: u64 = 3;
    let first = fp.checked_sub(u64::from(h.handler_slots()))?;
    let slot = |i: u32| memory.pointer(first.checked_sub(4 * u64::from(i))?);
    let mut base = base_of(memory, h, fp)?;
    let (mut asked, mut ended) = (false, None);
    for i in 0..MAX_HANDLERS {
        let value = slot(i)?;
        if value == 0 {
            break;
        }
        if value == LOCAL {
            base = base.checked_sub(4)?;
            continue;
        }
        if sp > (value & !BITS) + 4 {
            if value & IN_FILTER != 0 && slot(i + 1)? == 0 && base & IN_FILTER == 0 {
                if value & FILTER_DONE != 0 {
                    ended = memory.pointer(first.checked_add(4)?).and_then(|e| u32::try_from(e).ok());
                } else {
                    asked = true;
                }
            }
            break;
        }
        base = value;
    }
    let base = base.max(sp);
    Some(Running { base: base & !BITS, filter: base & IN_FILTER != 0, asked, ended })
}

/// Number of a 32-bit register in instructions.
fn number(register: Register) -> Option<usize> {
    const ALL: [Register; 8] = [
        Register::EAX,
        Register::ECX,
        Register::EDX,
        Register::EBX,
        Register::ESP,
        Register::EBP,
        Register::ESI,
        Register::EDI,
    ];
    ALL.iter().position(|r| *r == register)
}

/// What is added to the stack pointer by `add` or taken off it by `sub`.
fn immediate(i: &Instruction) -> Option<u64> {
    let kinds = [OpKind::Immediate8, OpKind::Immediate8to32, OpKind::Immediate32];
    kinds.contains(&i.op1_kind()).then(|| i.immediate(1) & 0xFFFF_FFFF)
}

/// The rest of an epilogue, by its instructions.
fn epilog(memory: &impl Memory, h: &Header, context: &mut Context) -> Result<(), Stop> {
    let bytes = memory.table(context.ip, MAX_EPILOGUE * LONGEST);
    let mut decoder = Decoder::with_ip(32, &bytes, context.ip, DecoderOptions::NONE);
    let no = Stop::BadUnwindData(context.ip);
    let mut now = *context;
    for _ in 0..MAX_EPILOGUE {
        if !decoder.can_decode() {
            break;
        }
        let i = decoder.decode();
        let (sp, fp) = (now.sp(), now.get(EBP));
        match i.mnemonic() {
            Mnemonic::Pop => {
                now.put(number(i.op0_register()).ok_or(no)?, memory.pointer(sp));
                now.set_sp(sp.wrapping_add(4));
            }
            Mnemonic::Add if number(i.op0_register()) == Some(ESP) => {
                now.set_sp(sp.wrapping_add(immediate(&i).ok_or(no)?));
            }
            Mnemonic::Lea if number(i.op0_register()) == Some(ESP) && i.memory_base() == Register::EBP => {
                let fp = fp.ok_or(Stop::NoRegister(EBP as u8))?;
                now.set_sp(fp.wrapping_add(i.memory_displacement64()) & 0xFFFF_FFFF);
            }
            Mnemonic::Mov if number(i.op0_register()) == Some(ESP) && i.op1_register() == Register::EBP => {
                now.set_sp(fp.ok_or(Stop::NoRegister(EBP as u8))?);
            }
            Mnemonic::Leave => {
                let fp = fp.ok_or(Stop::NoRegister(EBP as u8))?;
                now.put(EBP, memory.pointer(fp));
                now.set_sp(fp.wrapping_add(4));
            }
            Mnemonic::Ret | Mnemonic::Jmp => {
                *context = now;
                return returns(memory, h, context, sp);
            }
            _ => return Err(no),
        }
    }
    Err(no)
}

/// A frame whose prologue is under way: what of it has run is undone.
fn prolog(memory: &impl Memory, h: &Header, context: &mut Context, start: u64) -> Result<(), Stop> {
    let no = Stop::BadUnwindData(start);
    let size = context.ip.checked_sub(start).and_then(|n| usize::try_from(n).ok()).ok_or(no)?;
    let mut bytes = memory.table(start, size);
    bytes.truncate(size);
    if bytes.len() < size {
        return Err(no);
    }
    let mut decoder = Decoder::with_ip(32, &bytes, start, DecoderOptions::NONE);
    // Bytes below the return address; those at which ebp was set; registers pushed, with how far below they lie.
    let (mut depth, mut framed, mut aligned) = (0u64, None, false);
    let mut pushed: Vec<(usize, u64)> = Vec::new();
    while decoder.can_decode() {
        let i = decoder.decode();
        match i.mnemonic() {
            Mnemonic::Push => {
                depth += 4;
                // What is pushed behind an alignment lies where its size is not known.
                pushed.extend(number(i.op0_register()).filter(|_| !aligned).map(|n| (n, depth)));
            }
            Mnemonic::Sub if number(i.op0_register()) == Some(ESP) => depth += immediate(&i).unwrap_or(0),
            Mnemonic::And if number(i.op0_register()) == Some(ESP) => aligned = true,
            Mnemonic::Mov if i.op0_register() == Register::EBP && i.op1_register() == Register::ESP => {
                framed = Some(depth);
            }
            _ => {}
        }
    }
    let at = match framed {
        Some(depth) => context.get(EBP).ok_or(Stop::NoRegister(EBP as u8))?.wrapping_add(depth),
        None if aligned => return Err(no),
        None => context.sp().wrapping_add(depth),
    };
    for (register, below) in pushed.into_iter().filter(|p| SAVED.contains(&p.0)) {
        context.put(register, memory.pointer(at.wrapping_sub(below)));
    }
    returns(memory, h, context, at)
}

/// Bytes of arguments that the native function takes off the stack which `from` is in: those of the first `ret` its code leads to.
pub fn popped(memory: &impl Memory, from: u64) -> Option<u64> {
    let (mut open, mut met) = (VecDeque::from([from]), FxHashSet::default());
    while let Some(mut at) = open.pop_front() {
        while met.len() < MAX_FOLLOWED && met.insert(at) {
            let bytes = memory.table(at, LONGEST);
            let mut decoder = Decoder::with_ip(32, &bytes, at, DecoderOptions::NONE);
            if !decoder.can_decode() {
                break;
            }
            let i = decoder.decode();
            let target = Some(i.near_branch_target()).filter(|&t| t != 0);
            match i.flow_control() {
                FlowControl::Return => return Some(if i.op_count() == 0 { 0 } else { i.immediate(0) & 0xFFFF }),
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => open.extend(target),
                FlowControl::UnconditionalBranch => {
                    open.extend(target);
                    break;
                }
                _ => break,
            }
            at = i.next_ip();
        }
    }
    None
}
