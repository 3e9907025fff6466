//! Unwinding of x64 PE images: `.pdata` names a function's `UNWIND_INFO`, whose codes say what its prologue did.
//!
//! Format: Microsoft "x64 exception handling" (`UNWIND_INFO`, `UNWIND_CODE`), version 2 as dotnet/runtime
//! `src/coreclr/unwinder/amd64/unwinder.cpp` reads it; the form of epilogues as the same page prescribes it.

use super::context::Context;
use super::step::{End, Stepped};
use super::xdata::Code;

/// Longest chain of unwind information: compilers write two or three links.
const MOST_CHAINED: usize = 32;
const RSP: u8 = 4;

/// A `RUNTIME_FUNCTION`.
#[derive(Debug, Clone, Copy)]
struct Function {
    begin: u32,
    end: u32,
    info: u32,
}

fn entry(code: &Code<'_>, at: u64) -> Option<Function> {
    let bytes: [u8; 12] = code.image.array(code.space, at)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    let word = u32::from_le_bytes;
    Some(Function { begin: word([a, b, c, d]), end: word([e, f, g, h]), info: word([i, j, k, l]) })
}

/// The entry whose function holds `rva`. `Err` where the table is not at hand.
fn find(code: &Code<'_>, rva: u32) -> Result<Option<Function>, ()> {
    let (table, size) = code.table;
    let (mut low, mut high) = (0u64, u64::from(size / 12));
    while low < high {
        let middle = low + (high - low) / 2;
        let f = entry(code, u64::from(table) + middle * 12).ok_or(())?;
        if rva < f.begin {
            high = middle;
        } else if rva >= f.end {
            low = middle + 1;
        } else {
            return Ok(Some(f));
        }
    }
    Ok(None)
}

/// The function that holds `rva`: where it begins and ends. The pieces of one function are told apart by the chain of their
/// unwind information: the first is meant.
pub fn function(code: &Code<'_>, rva: u32) -> Option<(u32, u32)> {
    let mut f = find(code, rva).ok()??;
    for _ in 0..MOST_CHAINED {
        // An indirect entry names another one.
        if f.info & 1 != 0 {
            f = entry(code, u64::from(f.info & !1))?;
            continue;
        }
        let Some(info) = Info::read(code, f.info) else { break };
        let Some(next) = info.chained else { break };
        f = next;
    }
    Some((f.begin, f.end))
}

struct Info {
    version: u8,
    /// Frame register and the distance it is set to, in bytes.
    frame: Option<(u8, u64)>,
    /// Codes as stored, from the end of the prologue back.
    codes: Vec<[u8; 2]>,
    chained: Option<Function>,
}

impl Info {
    fn read(code: &Code<'_>, rva: u32) -> Option<Self> {
        const CHAINED: u8 = 4;
        let [first, _, count, frame] = code.image.array::<4>(code.space, u64::from(rva))?;
        let mut bytes = vec![0; usize::from(count) * 2];
        let start = u64::from(rva) + 4;
        (code.image.read(code.space, start, &mut bytes) == bytes.len()).then_some(())?;
        let chained = if first >> 3 & CHAINED != 0 {
            Some(entry(code, start + (u64::from(count) * 2).next_multiple_of(4))?)
        } else {
            None
        };
        Some(Self {
            version: first & 7,
            frame: (frame & 15 != 0).then_some((frame & 15, u64::from(frame >> 4) * 16)),
            codes: bytes.chunks_exact(2).filter_map(|c| c.first_chunk().copied()).collect(),
            chained,
        })
    }
}

/// The caller of a frame. `None` where the tables are not at hand.
pub fn step(code: &Code<'_>, from: &Context, lookup: u64, exact: bool) -> Option<Result<Stepped, End>> {
    let rva = u32::try_from(lookup.checked_sub(code.image.base)?).ok()?;
    let found = find(code, rva).ok()?;
    let mut to = *from;
    let f = match found {
        Some(f) if f.info & 1 != 0 => entry(code, u64::from(f.info & !1))?,
        Some(f) => f,
        // A function without an entry changes no register and calls nothing: its return address is on top of the stack.
        None => return exact.then(|| returned(code, from, &mut to, false)),
    };
    let info = Info::read(code, f.info)?;
    if exact {
        let place = (from.ip, code.image.base + u64::from(f.begin), code.image.base + u64::from(f.end));
        if let Some(sp) = epilogue(code, place, &info, &mut to) {
            to.set_sp(sp);
            return Some(returned(code, from, &mut to, false));
        }
    }
    Some(undo(code, &f, info, rva, exact, &mut to).and_then(|machine| returned(code, from, &mut to, machine)))
}

/// Pops the return address and forgets what does not survive a call. After a machine frame nothing is left to pop, and
/// every register is as it was.
fn returned(code: &Code<'_>, from: &Context, to: &mut Context, machine: bool) -> Result<Stepped, End> {
    if machine {
        return Ok(Stepped { context: *to, exact: true, guessed: false });
    }
    let sp = to.sp();
    to.ip = (code.read)(sp).ok_or(End::Memory(sp))?;
    to.set_sp(sp.wrapping_add(8));
    for n in (0..16).filter(|&n| n != RSP && !Context::survives(from.arch, true, n)) {
        to.set(n, None);
    }
    Ok(Stepped { context: *to, exact: false, guessed: false })
}

/// Undoes what the prologue did, of the function and of those its information is chained to. Whether the processor itself
/// pushed the frame.
fn undo(code: &Code<'_>, f: &Function, info: Info, rva: u32, exact: bool, to: &mut Context) -> Result<bool, End> {
    let (mut info, mut done) = (info, (rva - f.begin.min(rva)));
    let mut set = false;
    for _ in 0..MOST_CHAINED {
        // With a frame register the saves are relative to what it was set to, once the prologue has set it.
        if let Some((register, offset)) = info.frame
            && !set
            && (!exact || info.chained.is_some() || sets_frame(&info, done))
        {
            to.set_sp(to.get(register).ok_or(End::Register)?.wrapping_sub(offset));
            set = true;
        }
        if codes(code, &info, done, to)? {
            return Ok(true);
        }
        let Some(next) = info.chained else { return Ok(false) };
        let missing = || End::NoUnwindData {
            module: code.image.name.clone(),
            path: String::new(),
            offset: u64::from(next.begin),
        };
        info = Info::read(code, next.info).ok_or_else(missing)?;
        done = u32::MAX;
    }
    Err(End::Stuck)
}

/// Whether the instruction that sets the frame register was run.
fn sets_frame(info: &Info, done: u32) -> bool {
    slots(info).any(|(c, _)| matches!(c[1] & 15, 3 | 11) && u32::from(c[0]) <= done)
}

/// The codes with the words behind them.
fn slots(info: &Info) -> impl Iterator<Item = ([u8; 2], [u16; 2])> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let code = *info.codes.get(at)?;
        let more = match code[1] & 15 {
            1 if code[1] >> 4 == 0 => 1,
            1 | 5 | 9 | 11 => 2,
            4 | 6 | 8 => 1,
            // Version 1 used 7 for saving half an XMM register far away.
            7 => 2,
            _ => 0,
        };
        let word = |n: usize| info.codes.get(at + n).map_or(0, |c| u16::from_le_bytes(*c));
        let words = [word(1), word(2)];
        at += 1 + more;
        Some((code, words))
    })
}

/// Runs the codes of instructions up to the offset `done`; whether they ended with a machine frame.
fn codes(code: &Code<'_>, info: &Info, done: u32, to: &mut Context) -> Result<bool, End> {
    let word = |at: u64| (code.read)(at).ok_or(End::Memory(at));
    for ([_, op], [a, b]) in slots(info).filter(|(c, _)| u32::from(c[0]) <= done) {
        let (far, n, sp) = (u64::from(a) | u64::from(b) << 16, op >> 4, to.sp());
        match op & 15 {
            0 => {
                let value = word(sp)?;
                to.set(n, Some(value));
                to.set_sp(if n == RSP { value } else { sp.wrapping_add(8) });
            }
            1 if n == 0 => to.set_sp(sp.wrapping_add(u64::from(a) * 8)),
            1 => to.set_sp(sp.wrapping_add(far)),
            2 => to.set_sp(sp.wrapping_add(u64::from(n) * 8 + 8)),
            4 => to.set(n, Some(word(sp.wrapping_add(u64::from(a) * 8))?)),
            5 => to.set(n, Some(word(sp.wrapping_add(far))?)),
            10 => {
                // An error code, if there is one, then rip, cs, flags, rsp, ss.
                let at = sp.wrapping_add(if n == 0 { 0 } else { 8 });
                let (ip, sp) = (word(at)?, word(at.wrapping_add(24))?);
                to.ip = ip;
                to.set_sp(sp);
                return Ok(true);
            }
            // Saved XMM registers are of no interest; the frame register was looked at before; in version 2 op 6
            // describes epilogues.
            3 | 6 | 8 | 9 | 11 => {}
            7 if info.version == 1 => {}
            _ => return Err(End::Stuck),
        }
    }
    Ok(false)
}

/// Longest epilogue looked at, in instructions: eight registers can be popped.
const MOST_EPILOGUE: usize = 16;

/// Where the return address lies if execution stands in an epilogue: what is left of it is run on `to`. An epilogue is
/// `[add rsp, n | lea rsp, [frame + n]] pop* (ret | jmp elsewhere)`, and nothing else.
fn epilogue(code: &Code<'_>, (ip, begin, end): (u64, u64, u64), info: &Info, to: &mut Context) -> Option<u64> {
    let mut bytes = [0; 64];
    let n = code.image.read(code.space, ip.checked_sub(code.image.base)?, &mut bytes);
    let bytes = bytes.get(..n.min(usize::try_from(end.checked_sub(ip)?).ok()?))?;
    let mut run = *to;
    let (mut at, mut sp, mut moved) = (0, run.sp(), false);
    for i in 0..MOST_EPILOGUE {
        let rest = bytes.get(at..)?;
        match *rest {
            [0x48, 0x83, 0xC4, n, ..] if i == 0 => {
                (sp, at, moved) = (sp.wrapping_add_signed(i64::from(n as i8)), at + 4, true);
            }
            [0x48, 0x81, 0xC4, a, b, c, d, ..] if i == 0 => {
                let n = i32::from_le_bytes([a, b, c, d]);
                (sp, at, moved) = (sp.wrapping_add_signed(i64::from(n)), at + 7, true);
            }
            [rex @ (0x48 | 0x49), 0x8D, mode, ref tail @ ..] if i == 0 && mode & 0x38 == 0x20 && mode & 7 != 4 => {
                let register = mode & 7 | (rex & 1) << 3;
                (info.frame?.0 == register).then_some(())?;
                let (n, size) = match (mode >> 6, tail) {
                    (1, [n, ..]) => (i64::from(*n as i8), 1),
                    (2, [a, b, c, d, ..]) => (i64::from(i32::from_le_bytes([*a, *b, *c, *d])), 4),
                    (0, _) if mode & 7 != 5 => (0, 0),
                    _ => return None,
                };
                (sp, at, moved) = (run.get(register)?.wrapping_add_signed(n), at + 3 + size, true);
            }
            [op @ 0x58..=0x5F, ..] => {
                (sp, at, moved) = (pop(code, &mut run, op & 7, sp)?, at + 1, true);
            }
            [0x41, op @ 0x58..=0x5F, ..] => {
                (sp, at, moved) = (pop(code, &mut run, (op & 7) + 8, sp)?, at + 2, true);
            }
            [0xC3 | 0xC2, ..] | [0xF3, 0xC3, ..] => {
                *to = run;
                return Some(sp);
            }
            // A jump out of the function is a call that does not come back to it.
            [0xE9, a, b, c, d, ..] => {
                let next = ip.wrapping_add(at as u64 + 5);
                let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
                (!(begin..end).contains(&target)).then_some(())?;
                *to = run;
                return Some(sp);
            }
            [0xEB, n, ..] => {
                let target = ip.wrapping_add(at as u64 + 2).wrapping_add_signed(i64::from(n as i8));
                (!(begin..end).contains(&target)).then_some(())?;
                *to = run;
                return Some(sp);
            }
            // Through a pointer: it may be a jump table, unless registers were restored before.
            [0xFF, 0x25, ..] | [0x48, 0xFF, 0x20..=0x27 | 0xE0..=0xE7, ..] if moved => {
                *to = run;
                return Some(sp);
            }
            _ => return None,
        }
    }
    None
}

/// Pops into a register; the new stack pointer.
fn pop(code: &Code<'_>, run: &mut Context, register: u8, sp: u64) -> Option<u64> {
    run.set(register, Some((code.read)(sp)?));
    Some(sp.wrapping_add(8))
}
