//! Unwinding of x64 PE images: `.pdata` names a function's `UNWIND_INFO`.
//!
//! Format: Microsoft "PE format" (exception directory), "x64 exception handling" (`RUNTIME_FUNCTION`).

use super::context::Context;
use super::step::{End, Stepped};
use super::x64::{self, Memory, Stop};
use super::xdata::Code;

/// Longest chain of unwind information: compilers write two or three links.
const MOST_CHAINED: usize = 32;

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

/// The entry whose function holds `rva`, and its number. `Err` where the table is not at hand.
fn find(code: &Code<'_>, rva: u32) -> Result<Option<(u64, Function)>, ()> {
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
            return Ok(Some((middle, f)));
        }
    }
    Ok(None)
}

/// The function that holds `rva`: where it begins and ends. The pieces of one function are told apart by the chain of their
/// unwind information: the first is meant.
pub fn function(code: &Code<'_>, rva: u32) -> Option<(u32, u32)> {
    let (_, mut f) = find(code, rva).ok()??;
    for _ in 0..MOST_CHAINED {
        // An indirect entry names another one.
        if f.info & 1 != 0 {
            f = entry(code, u64::from(f.info & !1))?;
            continue;
        }
        let Some(next) = parent(code, f.info) else { break };
        f = next;
    }
    Some((f.begin, f.end))
}

/// The function that the table has before that which holds `rva`.
pub fn before(code: &Code<'_>, rva: u32) -> Option<(u32, u32)> {
    let (number, _) = find(code, rva).ok()??;
    let f = entry(code, u64::from(code.table.0) + number.checked_sub(1)? * 12)?;
    Some((f.begin, f.end))
}

/// Where what lies behind the unwind information of the function that holds `rva` begins: behind its codes, and behind its
/// handler where it has one.
pub fn behind(code: &Code<'_>, rva: u32) -> Option<u64> {
    const HANDLERS: u8 = 3;
    let (_, f) = find(code, rva).ok()??;
    let info = u64::from(Some(f.info).filter(|i| i & 1 == 0)?);
    let [first, _, count, _] = code.image.array::<4>(code.space, info)?;
    let codes = 4 + u64::from(count) * 2;
    match first >> 3 {
        flags if flags & CHAINED != 0 => None,
        flags if flags & HANDLERS != 0 => Some(info + codes.next_multiple_of(4) + 4),
        _ => Some(info + codes),
    }
}

/// The flag of unwind information that goes on with another function's.
const CHAINED: u8 = 4;

/// The function that the unwind information at `rva` is a continuation of.
fn parent(code: &Code<'_>, rva: u32) -> Option<Function> {
    let [first, _, count, _] = code.image.array::<4>(code.space, u64::from(rva))?;
    (first >> 3 & CHAINED != 0).then_some(())?;
    entry(code, u64::from(rva) + 4 + (u64::from(count) * 2).next_multiple_of(4))
}

impl Memory for Code<'_> {
    fn pointer(&self, address: u64) -> Option<u64> {
        (self.read)(address)
    }

    fn table(&self, address: u64, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let n = address.checked_sub(self.image.base).map_or(0, |rva| self.image.read(self.space, rva, &mut bytes));
        bytes.truncate(n);
        bytes
    }
}

/// The caller of a frame. `None` where the tables are not at hand.
pub fn step(code: &Code<'_>, from: &Context, lookup: u64, exact: bool) -> Option<Result<Stepped, End>> {
    let base = code.image.base;
    let rva = u32::try_from(lookup.checked_sub(base)?).ok()?;
    let mut to = *from;
    let f = match find(code, rva).ok()? {
        // An indirect entry names another one.
        Some((_, f)) if f.info & 1 != 0 => entry(code, u64::from(f.info & !1))?,
        Some((_, f)) => f,
        // A function without an entry changes no register and calls nothing: its return address is on top of the stack.
        None => return exact.then(|| returned(code, to)),
    };
    let begin = base.checked_add(u64::from(f.begin))?;
    let stop = match x64::unwind(code, &mut to, begin, base.checked_add(u64::from(f.info))?, base, exact) {
        Ok(machine) => {
            // The processor pushed all registers: the caller was interrupted, and nothing of it is lost.
            if !machine {
                to.forget_scratch(true);
            }
            return Some(Ok(Stepped { context: to, exact: machine, guessed: false }));
        }
        Err(stop) => stop,
    };
    match stop {
        Stop::NoUnwindData(_) => None,
        Stop::BadUnwindData(_) => Some(Err(End::Stuck)),
        Stop::NoStack(at) => Some(Err(End::Memory(at))),
        Stop::NoRegister(_) => Some(Err(End::Register)),
    }
}

/// Pops the return address.
fn returned(code: &Code<'_>, mut to: Context) -> Result<Stepped, End> {
    let sp = to.sp();
    to.ip = (code.read)(sp).ok_or(End::Memory(sp))?;
    to.set_sp(sp.wrapping_add(8));
    to.forget_scratch(true);
    Ok(Stepped { context: to, exact: false, guessed: false })
}
