//! Unwinding arm64 code by `.xdata` records.
//!
//! Format: Microsoft, "ARM64 exception handling" (`.xdata` records, unwind codes).

use super::registers::{Context, LINK};
use super::x64::{Memory, Stop};

const FP: usize = 29;
/// Longest function one record describes, in bytes.
const MAX_FUNCTION: u64 = 4 << 18;

/// Unwinds the function that begins at `start` and whose record is at `xdata`. `leaf`: the instruction pointer is where the
/// thread stands, not a return address.
pub fn unwind(memory: &impl Memory, context: &mut Context, start: u64, xdata: u64, leaf: bool) -> Result<(), Stop> {
    let record = Record::read(memory, xdata)?;
    let position = context.ip.wrapping_sub(start);
    let (mut at, mut skip) = (0usize, 0usize);
    if leaf && position < MAX_FUNCTION {
        let instructions = (position / 4) as usize;
        match record.epilogue(instructions) {
            // What of the epilogue was executed is undone already.
            Some((index, executed)) => (at, skip) = (index, executed),
            // Codes stand in reverse order: those of instructions not yet executed come first.
            None => skip = record.count(0).saturating_sub(instructions),
        }
    }
    let mut state = State { memory, context, next_pairs: 0 };
    while let Some(code) = record.code(at) {
        if code.length == 0 {
            return Err(Stop::BadUnwindData(xdata));
        }
        if matches!(code.op, Op::End) {
            break;
        }
        match skip {
            0 => state.undo(code.op)?,
            _ => skip -= 1,
        }
        at += code.length;
    }
    let link = context.get(LINK).ok_or(Stop::NoRegister(LINK as u8))?;
    context.ip = link;
    // The link register is that of the callee, which is gone.
    context.forget(LINK);
    Ok(())
}

/// What a code undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// The stack pointer was lowered by so many bytes.
    Alloc(u64),
    /// Registers `first` and the one behind were saved at the offset; with `true` the stack pointer was lowered by it first.
    Pair(usize, u64, bool),
    /// One register alike.
    One(usize, u64, bool),
    /// A register and the link register.
    WithLink(usize, u64),
    /// Floating point registers: only what became of the stack pointer matters.
    Float(u64),
    /// The stack pointer is the frame pointer, less so many bytes.
    SetFrame(u64),
    /// The next pair of registers was saved too.
    Next,
    Nothing,
    End,
}

struct Code {
    op: Op,
    length: usize,
}

struct Record {
    codes: Vec<u8>,
    /// Start of each epilogue in instructions from the function's start, and place of its codes.
    epilogues: Vec<(usize, usize)>,
}

impl Record {
    fn read(memory: &impl Memory, address: u64) -> Result<Self, Stop> {
        let word = |at: u64| {
            let at = address.checked_add(at).ok_or(Stop::BadUnwindData(address))?;
            let bytes = memory.table(at, 4);
            let word = bytes.first_chunk().ok_or(Stop::NoUnwindData(address))?;
            Ok(u32::from_le_bytes(*word))
        };
        let first = word(0)?;
        if first >> 18 & 3 != 0 {
            return Err(Stop::BadUnwindData(address));
        }
        let length = (first & 0x3_FFFF) as usize;
        let single = first >> 21 & 1 != 0;
        let (mut scopes, mut words, mut at) = (first >> 22 & 31, first >> 27, 4u64);
        if scopes == 0 && words == 0 {
            let second = word(4)?;
            (scopes, words, at) = (second & 0xFFFF, second >> 16 & 0xFF, 8);
        }
        let mut epilogues = Vec::new();
        if !single {
            for _ in 0..scopes {
                let scope = word(at)?;
                epilogues.push(((scope & 0x3_FFFF) as usize, (scope >> 22) as usize));
                at += 4;
            }
        }
        let size = words as usize * 4;
        let codes = memory.table(address.checked_add(at).ok_or(Stop::BadUnwindData(address))?, size);
        if codes.len() < size {
            return Err(Stop::NoUnwindData(address));
        }
        let mut record = Self { codes, epilogues };
        if single {
            // The one epilogue ends with the function.
            let index = scopes as usize;
            let instructions = record.count(index) + 1;
            record.epilogues.push((length.saturating_sub(instructions), index));
        }
        Ok(record)
    }

    /// Place of the codes of the epilogue that instruction `at` is in, and how many instructions of it were executed.
    fn epilogue(&self, at: usize) -> Option<(usize, usize)> {
        let inside =
            |&&(start, index): &&(usize, usize)| (start..=start.saturating_add(self.count(index))).contains(&at);
        self.epilogues.iter().find(inside).map(|&(start, index)| (index, at - start))
    }

    /// Codes from `at` to the end mark.
    fn count(&self, mut at: usize) -> usize {
        let mut count = 0;
        while let Some(code) = self.code(at).filter(|c| c.length > 0 && c.op != Op::End) {
            (at, count) = (at + code.length, count + 1);
        }
        count
    }

    /// The code at `at`; one of no length is not known.
    fn code(&self, at: usize) -> Option<Code> {
        let first = *self.codes.get(at)?;
        let byte = |i: usize| self.codes.get(at + i).copied().map(u64::from).unwrap_or(0);
        // Two bytes: register in the upper bits of ten, offset in the lower six.
        let pair = || ((u64::from(first) << 8 | byte(1)) >> 6) as usize;
        let z = u64::from(first);
        let (op, length) = match first {
            0x00..=0x1F => (Op::Alloc((z & 0x1F) * 16), 1),
            // save_r19r20_x
            0x20..=0x3F => (Op::Pair(19, (z & 0x1F) * 8, true), 1),
            // save_fplr, save_fplr_x
            0x40..=0x7F => (Op::Pair(FP, (z & 0x3F) * 8, false), 1),
            0x80..=0xBF => (Op::Pair(FP, (z & 0x3F) * 8 + 8, true), 1),
            0xC0..=0xC7 => (Op::Alloc(((z & 7) << 8 | byte(1)) * 16), 2),
            0xC8..=0xCB => (Op::Pair(19 + (pair() & 15), (byte(1) & 0x3F) * 8, false), 2),
            0xCC..=0xCF => (Op::Pair(19 + (pair() & 15), (byte(1) & 0x3F) * 8 + 8, true), 2),
            0xD0..=0xD3 => (Op::One(19 + (pair() & 15), (byte(1) & 0x3F) * 8, false), 2),
            0xD4..=0xD5 => {
                let register = 19 + ((((u64::from(first) << 8 | byte(1)) >> 5) & 15) as usize);
                (Op::One(register, (byte(1) & 0x1F) * 8 + 8, true), 2)
            }
            0xD6..=0xD7 => (Op::WithLink(19 + 2 * (pair() & 7), (byte(1) & 0x3F) * 8), 2),
            // save_fregp, save_freg
            0xD8..=0xD9 | 0xDC..=0xDD => (Op::Float(0), 2),
            0xDA..=0xDB => (Op::Float((byte(1) & 0x3F) * 8 + 8), 2),
            0xDE => (Op::Float((byte(1) & 0x1F) * 8 + 8), 2),
            // alloc_z, which is of SVE
            0xDF => (Op::Nothing, 0),
            0xE0 => (Op::Alloc((byte(1) << 16 | byte(2) << 8 | byte(3)) * 16), 4),
            0xE1 => (Op::SetFrame(0), 1),
            0xE2 => (Op::SetFrame(byte(1) * 8), 2),
            0xE3 => (Op::Nothing, 1),
            0xE4 | 0xE5 => (Op::End, 1),
            0xE6 => (Op::Next, 1),
            // pac_sign_lr
            0xFC => (Op::Nothing, 1),
            _ => (Op::Nothing, 0),
        };
        Some(Code { op, length })
    }
}

struct State<'a, M> {
    memory: &'a M,
    context: &'a mut Context,
    /// `save_next` codes seen since the last pair.
    next_pairs: usize,
}

impl<M: Memory> State<'_, M> {
    fn restore(&mut self, register: usize, at: u64) -> Result<(), Stop> {
        let value = self.memory.pointer(at).ok_or(Stop::NoStack(at))?;
        self.context.set(register, value);
        Ok(())
    }

    fn undo(&mut self, op: Op) -> Result<(), Stop> {
        let sp = self.context.sp();
        match op {
            Op::Alloc(size) => self.context.set_sp(sp.wrapping_add(size)),
            Op::Pair(first, offset, lowered) => {
                let at = sp.wrapping_add(if lowered { 0 } else { offset });
                // The pairs announced lie behind, with the registers that follow.
                for i in 0..=2 * self.next_pairs + 1 {
                    let register = first + i;
                    if register <= LINK {
                        self.restore(register, at.wrapping_add(8 * i as u64))?;
                    }
                }
                self.next_pairs = 0;
                if lowered {
                    self.context.set_sp(sp.wrapping_add(offset));
                }
            }
            Op::One(register, offset, lowered) => {
                self.restore(register, sp.wrapping_add(if lowered { 0 } else { offset }))?;
                if lowered {
                    self.context.set_sp(sp.wrapping_add(offset));
                }
            }
            Op::WithLink(register, offset) => {
                self.restore(register, sp.wrapping_add(offset))?;
                self.restore(LINK, sp.wrapping_add(offset + 8))?;
            }
            Op::Float(lowered) => {
                self.next_pairs = 0;
                self.context.set_sp(sp.wrapping_add(lowered));
            }
            Op::SetFrame(distance) => {
                let fp = self.context.fp().ok_or(Stop::NoRegister(FP as u8))?;
                self.context.set_sp(fp.wrapping_sub(distance));
            }
            Op::Next => self.next_pairs += 1,
            Op::Nothing | Op::End => {}
        }
        Ok(())
    }
}
