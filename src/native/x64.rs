//! Unwinding x64 code by `UNWIND_INFO`, which the runtime's compilers write on every system.
//!
//! Format: Microsoft, "x64 exception handling" (`UNWIND_INFO`, `UNWIND_CODE`); dotnet/runtime `src/coreclr/inc/win64unwind.h`
//! for the code only Unix has (11, a large offset of the frame pointer).

use super::context::Context;

/// What an unwinder reads: the stack, and the tables that describe code.
pub trait Memory {
    /// The pointer at `address` of the process.
    fn pointer(&self, address: u64) -> Option<u64>;
    /// Up to `most` bytes of code or tables at `address`.
    fn table(&self, address: u64, most: usize) -> Vec<u8>;
}

/// Why a frame could not be unwound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The description of the code at the address is not at hand.
    NoUnwindData(u64),
    /// It is damaged.
    BadUnwindData(u64),
    /// The stack at the address is not in the dump.
    NoStack(u64),
    /// A register the code needs is not known.
    NoRegister(u8),
}

const RSP: usize = 4;
/// Most parents a record may name.
const MAX_CHAIN: usize = 32;
/// Most instructions of an epilogue.
const MAX_EPILOGUE: usize = 24;

/// Unwinds the function that begins at `start` and is described at `unwind`; places are counted from `base`. `leaf`: the
/// instruction pointer is where the thread stands, not a return address. Whether the processor itself pushed the frame, so that
/// that holds for the caller too.
pub fn unwind(
    memory: &impl Memory,
    context: &mut Context,
    start: u64,
    unwind: u64,
    base: u64,
    leaf: bool,
) -> Result<bool, Stop> {
    if leaf && let Some(after) = epilogue(memory, context) {
        *context = after;
        return Ok(false);
    }
    let position = context.ip.wrapping_sub(start);
    let mut record = Record::read(memory, unwind)?;
    // In the prologue only what was executed is undone.
    let done = |offset: u8| !leaf || u64::from(offset) <= position;
    let mut machine = false;
    let mut frame = record.frame_base(context, &done)?;
    for depth in 0.. {
        // Behind the first record no prologue is under way.
        machine |= record.undo(memory, context, frame, |o| depth > 0 || done(o))?;
        let Some(parent) = record.parent(base) else { break };
        if depth >= MAX_CHAIN {
            return Err(Stop::BadUnwindData(unwind));
        }
        record = Record::read(memory, parent)?;
        frame = record.frame_base(context, &|_| true)?;
    }
    if !machine {
        let sp = context.sp();
        context.ip = memory.pointer(sp).ok_or(Stop::NoStack(sp))?;
        context.set_sp(sp.wrapping_add(8));
    }
    Ok(machine)
}

/// One `UNWIND_INFO`.
struct Record {
    address: u64,
    flags: u8,
    /// Frame register and its offset.
    frame: (u8, u64),
    codes: Vec<[u8; 2]>,
    /// What follows the codes, as far as it was read.
    rest: Vec<u8>,
}

impl Record {
    fn read(memory: &impl Memory, address: u64) -> Result<Self, Stop> {
        let head = memory.table(address, 4);
        let &[first, _, count, frame] = head.as_slice() else { return Err(Stop::NoUnwindData(address)) };
        if !(1..=2).contains(&(first & 7)) {
            return Err(Stop::BadUnwindData(address));
        }
        let flags = first >> 3;
        let padded = usize::from(count).next_multiple_of(2) * 2;
        let behind = if flags & 4 != 0 { 12 } else { 0 };
        let at = address.checked_add(4).ok_or(Stop::BadUnwindData(address))?;
        let bytes = memory.table(at, padded + behind);
        if bytes.len() < usize::from(count) * 2 + if behind > 0 { padded + behind - usize::from(count) * 2 } else { 0 }
        {
            return Err(Stop::NoUnwindData(address));
        }
        let codes = bytes.chunks_exact(2).take(usize::from(count)).filter_map(|c| c.try_into().ok()).collect();
        let rest = bytes.get(padded..).unwrap_or(&[]).to_vec();
        Ok(Self { address, flags, frame: (frame & 15, u64::from(frame >> 4) * 16), codes, rest })
    }

    /// The record of the function that this one continues.
    fn parent(&self, base: u64) -> Option<u64> {
        let unwind = self.rest.get(8..12).filter(|_| self.flags & 4 != 0)?;
        base.checked_add(u64::from(u32::from_le_bytes(unwind.try_into().ok()?)))
    }

    fn slot(&self, i: usize) -> Result<u64, Stop> {
        let code = self.codes.get(i).ok_or(Stop::BadUnwindData(self.address))?;
        Ok(u64::from(u16::from_le_bytes(*code)))
    }

    /// Slots of the code at `i`.
    fn slots(&self, i: usize) -> Result<usize, Stop> {
        let [_, code] = self.codes.get(i).copied().ok_or(Stop::BadUnwindData(self.address))?;
        match (code & 15, code >> 4) {
            (1, 0) | (4 | 8, _) => Ok(2),
            (1, 1) | (5 | 9 | 11, _) => Ok(3),
            (0 | 2 | 3 | 6 | 10, _) => Ok(1),
            _ => Err(Stop::BadUnwindData(self.address)),
        }
    }

    /// What saved registers are relative to: the stack pointer behind the prologue, which the frame register keeps.
    fn frame_base(&self, context: &Context, done: &impl Fn(u8) -> bool) -> Result<u64, Stop> {
        let mut i = 0;
        while let Some(&[offset, code]) = self.codes.get(i) {
            let distance = match code & 15 {
                3 => Some(self.frame.1),
                11 => Some((self.slot(i + 1)? | self.slot(i + 2)? << 16) * 16),
                _ => None,
            };
            if let Some(distance) = distance.filter(|_| done(offset)) {
                let register = context.get(usize::from(self.frame.0)).ok_or(Stop::NoRegister(self.frame.0))?;
                return Ok(register.wrapping_sub(distance));
            }
            i += self.slots(i)?;
        }
        Ok(context.sp())
    }

    /// Undoes the codes; whether a machine frame gave instruction and stack pointer.
    fn undo(
        &self,
        memory: &impl Memory,
        context: &mut Context,
        frame: u64,
        done: impl Fn(u8) -> bool,
    ) -> Result<bool, Stop> {
        let read = |at: u64| memory.pointer(at).ok_or(Stop::NoStack(at));
        let mut i = 0;
        while let Some(&[offset, code]) = self.codes.get(i) {
            let (op, info) = (code & 15, code >> 4);
            let sp = context.sp();
            if done(offset) {
                match op {
                    0 => {
                        context.set(usize::from(info), read(sp)?);
                        if usize::from(info) != RSP {
                            context.set_sp(sp.wrapping_add(8));
                        }
                    }
                    1 if info == 0 => context.set_sp(sp.wrapping_add(self.slot(i + 1)? * 8)),
                    1 => context.set_sp(sp.wrapping_add(self.slot(i + 1)? | self.slot(i + 2)? << 16)),
                    2 => context.set_sp(sp.wrapping_add(u64::from(info) * 8 + 8)),
                    3 | 11 => context.set_sp(frame),
                    4 => context.set(usize::from(info), read(frame.wrapping_add(self.slot(i + 1)? * 8))?),
                    5 => {
                        let distance = self.slot(i + 1)? | self.slot(i + 2)? << 16;
                        context.set(usize::from(info), read(frame.wrapping_add(distance))?);
                    }
                    10 => {
                        // An error code may lie in front.
                        let at = sp.wrapping_add(if info == 1 { 8 } else { 0 });
                        context.ip = read(at)?;
                        context.set_sp(read(at.wrapping_add(24))?);
                        return Ok(true);
                    }
                    _ => {}
                }
            }
            i += self.slots(i)?;
        }
        Ok(false)
    }
}

/// Where the code at the instruction pointer returns to, if it is an epilogue: what takes the frame down, pops, a return or
/// a jump elsewhere. An epilogue undoes the prologue backwards, so half of it is done where the codes say nothing.
fn epilogue(memory: &impl Memory, context: &Context) -> Option<Context> {
    let bytes = memory.table(context.ip, 128);
    let mut after = *context;
    let mut at = 0usize;
    let u32_at = |i: usize| Some(u32::from_le_bytes(*bytes.get(i..)?.first_chunk()?));
    // What takes the frame down comes first and once, with at least the return behind it.
    let taken = match *bytes.as_slice() {
        [0x48, 0x83, 0xC4, size, ..] => Some((4, after.sp().wrapping_add_signed(i64::from(size as i8)))),
        [0x48, 0x81, 0xC4, ..] => Some((7, after.sp().wrapping_add_signed(i64::from(u32_at(3)? as i32)))),
        [0x48, 0x8D, 0x65, distance, ..] => Some((4, after.fp()?.wrapping_add_signed(i64::from(distance as i8)))),
        [0x48, 0x8D, 0xA5, ..] => Some((7, after.fp()?.wrapping_add_signed(i64::from(u32_at(3)? as i32)))),
        _ => None,
    };
    if let Some((length, sp)) = taken {
        after.set_sp(sp);
        at = length;
    }
    for _ in 0..MAX_EPILOGUE {
        let sp = after.sp();
        let pop = |after: &mut Context, register: usize| {
            after.set(register, memory.pointer(sp)?);
            after.set_sp(sp.wrapping_add(8));
            Some(())
        };
        match *bytes.get(at..)? {
            // vzeroupper
            [0xC5, 0xF8, 0x77, ..] => at += 3,
            [0x41, code @ 0x58..=0x5F, ..] => {
                pop(&mut after, 8 + usize::from(code - 0x58))?;
                at += 2;
            }
            [code @ 0x58..=0x5F, ..] if code != 0x5C => {
                pop(&mut after, usize::from(code - 0x58))?;
                at += 1;
            }
            [0xC3, ..] | [0xF3, 0xC3, ..] => {
                after.ip = memory.pointer(sp)?;
                after.set_sp(sp.wrapping_add(8));
                return Some(after);
            }
            // ret n
            [0xC2, low, high, ..] => {
                after.ip = memory.pointer(sp)?;
                after.set_sp(sp.wrapping_add(8 + u64::from(u16::from_le_bytes([low, high]))));
                return Some(after);
            }
            // A tail call: jmp through memory or a register with a REX prefix. Only behind what took a frame down is a jump
            // one; anywhere else it is a jump.
            [0x48, 0xFF, modrm, ..] | [0xFF, modrm, ..] if modrm & 0x38 == 0x20 && at > 0 => {
                after.ip = memory.pointer(sp)?;
                after.set_sp(sp.wrapping_add(8));
                return Some(after);
            }
            [0xE9, ..] if at > 0 => {
                after.ip = memory.pointer(sp)?;
                after.set_sp(sp.wrapping_add(8));
                return Some(after);
            }
            _ => return None,
        }
    }
    None
}
