//! Unwinding of arm64 PE images: `.pdata` with packed unwind data or an `.xdata` record of byte codes.
//!
//! Format: Microsoft "ARM64 exception handling" (packed unwind data, `.xdata` records, unwind codes).

use super::context::{Context, LINK};
use super::image::Image;
use super::step::{End, Stepped};
use crate::dump::AddressSpace;

/// What unwinding a PE image needs.
pub struct Code<'a> {
    /// Memory of the process.
    pub space: &'a AddressSpace,
    /// The image.
    pub image: &'a Image,
    /// RVA and size of `.pdata`.
    pub table: (u32, u32),
    /// A word of memory.
    pub read: &'a dyn Fn(u64) -> Option<u64>,
}

const FP: usize = 29;
const LR: usize = LINK;

/// The entry of that number: begin and unwind data.
fn entry(code: &Code<'_>, number: u64) -> Option<(u32, u32)> {
    let place = u64::from(code.table.0) + number * 8;
    Some((code.image.u32(code.space, place)?, code.image.u32(code.space, place + 4)?))
}

/// The number of the entry of the function that may hold `rva`. `Err` where the table is not at hand.
fn number(code: &Code<'_>, rva: u32) -> Result<Option<u64>, ()> {
    let (mut low, mut high) = (0u64, u64::from(code.table.1 / 8));
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(code, middle).ok_or(())?.0 <= rva {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1))
}

/// The entry of the function that may hold `rva`. `Err` where the table is not at hand.
fn find(code: &Code<'_>, rva: u32) -> Result<Option<(u32, u32)>, ()> {
    match number(code, rva)? {
        Some(n) => entry(code, n).map(Some).ok_or(()),
        None => Ok(None),
    }
}

/// Where the function that holds `rva` begins and ends.
pub fn function(code: &Code<'_>, rva: u32) -> Option<(u32, u32)> {
    let (begin, end) = extent(code, find(code, rva).ok()??)?;
    (rva < end).then_some((begin, end))
}

/// The function that the table has before that which holds `rva`.
pub fn before(code: &Code<'_>, rva: u32) -> Option<(u32, u32)> {
    extent(code, entry(code, number(code, rva).ok()??.checked_sub(1)?)?)
}

/// Where what lies behind the unwind information of the function that holds `rva` begins: behind its codes, and behind its
/// handler where it has one. Packed unwind data has nothing behind it.
pub fn behind(code: &Code<'_>, rva: u32) -> Option<u64> {
    let (_, data) = find(code, rva).ok()??;
    let at = u64::from(Some(data).filter(|d| d & 3 == 0)?);
    let first = code.image.u32(code.space, at)?;
    let (mut epilogues, mut words, mut size) = (first >> 22 & 31, first >> 27, 4);
    if epilogues == 0 && words == 0 {
        let second = code.image.u32(code.space, at + 4)?;
        (epilogues, words, size) = (second & 0xFFFF, second >> 16 & 0xFF, 8);
    }
    let scopes = if first >> 21 & 1 == 1 { 0 } else { epilogues };
    Some(at + size + 4 * (u64::from(scopes) + u64::from(words) + u64::from(first >> 20 & 1)))
}

/// Where the function of an entry begins and ends.
fn extent(code: &Code<'_>, (begin, data): (u32, u32)) -> Option<(u32, u32)> {
    let words = if data & 3 == 0 { code.image.u32(code.space, u64::from(data))? & 0x3_FFFF } else { data >> 2 & 0x7FF };
    Some((begin, begin.checked_add(words * 4)?))
}

/// The caller of a frame. `None` where the tables are not at hand.
pub fn step(code: &Code<'_>, from: &Context, lookup: u64, exact: bool) -> Option<Result<Stepped, End>> {
    let rva = u32::try_from(lookup.checked_sub(code.image.base)?).ok()?;
    let found = find(code, rva).ok()?;
    let inside = found.filter(|_| function(code, rva).is_some());
    let mut run = Run { code, to: *from, pending: 0 };
    let done = match inside {
        // A leaf: its return address is still in the register.
        None if exact => Ok(()),
        None => return None,
        Some((begin, data)) => {
            // Instructions of the function that were run, as far as the prologue goes.
            let passed = exact.then(|| (rva - begin) / 4);
            if data & 3 == 0 { run.record(data, passed)? } else { run.packed(data, passed) }
        }
    };
    Some(done.and_then(|()| run.returned()))
}

struct Run<'a> {
    code: &'a Code<'a>,
    to: Context,
    /// Pairs that `save_next` codes have announced.
    pending: u8,
}

impl Run<'_> {
    fn returned(self) -> Result<Stepped, End> {
        let mut to = self.to;
        to.ip = Context::plain_address(to.arch, to.get(LR).ok_or(End::Register)?);
        // The register still names the caller's caller to a function that saves nothing.
        let link = to.get(LR);
        to.forget_scratch(true);
        to.put(LR, link);
        Ok(Stepped { context: to, exact: false, guessed: false })
    }

    fn load(&mut self, register: usize, at: u64) -> Result<(), End> {
        let value = (self.code.read)(at).ok_or(End::Memory(at))?;
        self.to.set(register, value);
        Ok(())
    }

    /// A pair saved at `sp + offset`; with `pop` the stack pointer then rises by `pop`.
    fn pair(&mut self, first: usize, second: usize, offset: u64, pop: u64) -> Result<(), End> {
        let at = self.to.sp().wrapping_add(offset);
        self.load(first, at)?;
        self.load(second, at.wrapping_add(8))?;
        // `save_next`: the pairs of registers above lie above.
        for k in 1..=usize::from(std::mem::take(&mut self.pending)) {
            let (next, place) = (first + 2 * k, at.wrapping_add(16 * k as u64));
            if next + 1 > LR {
                return Err(End::Stuck);
            }
            self.load(next, place)?;
            self.load(next + 1, place.wrapping_add(8))?;
        }
        self.to.set_sp(self.to.sp().wrapping_add(pop));
        Ok(())
    }

    fn one(&mut self, register: usize, offset: u64, pop: u64) -> Result<(), End> {
        self.load(register, self.to.sp().wrapping_add(offset))?;
        self.to.set_sp(self.to.sp().wrapping_add(pop));
        Ok(())
    }

    /// Runs an `.xdata` record. `None` where it is not at hand.
    fn record(&mut self, rva: u32, passed: Option<u32>) -> Option<Result<(), End>> {
        let (space, image) = (self.code.space, self.code.image);
        let first = image.u32(space, u64::from(rva))?;
        let mut at = u64::from(rva) + 4;
        let (mut epilogues, mut words) = (first >> 22 & 31, first >> 27);
        let single = first >> 21 & 1 == 1;
        if epilogues == 0 && words == 0 {
            let second = image.u32(space, at)?;
            (epilogues, words, at) = (second & 0xFFFF, second >> 16 & 0xFF, at + 4);
        }
        let scopes = if single { 0 } else { u64::from(epilogues) };
        let mut bytes = vec![0; words as usize * 4];
        (image.read(space, at + scopes * 4, &mut bytes) == bytes.len()).then_some(())?;
        // In an epilogue only what is left of it is run; it stands at the end for the single one, else in its scope.
        if let Some(passed) = passed {
            let length = first & 0x3_FFFF;
            let mut starts = (0..scopes).filter_map(|i| image.u32(space, at + i * 4)).map(|s| (s & 0x3_FFFF, s >> 22));
            let ending = if single {
                let codes = count(bytes.get(epilogues as usize..)?);
                Some((length.saturating_sub(codes), epilogues))
            } else {
                starts.find(|(s, index)| {
                    let codes = bytes.get(*index as usize..).map_or(0, count);
                    (*s..s.saturating_add(codes)).contains(&passed)
                })
            };
            if let Some((start, index)) = ending.filter(|e| passed >= e.0) {
                return Some(self.codes(bytes.get(index as usize..)?, passed - start));
            }
            // In the prologue the codes of instructions not run yet are passed over: they stand in reverse.
            let skip = prologue(&bytes).saturating_sub(passed);
            return Some(self.codes(&bytes, skip));
        }
        Some(self.codes(&bytes, 0))
    }

    /// Runs byte codes up to `end`, the first `skip` instructions left out.
    fn codes(&mut self, bytes: &[u8], mut skip: u32) -> Result<(), End> {
        let mut rest = bytes;
        while let Some((&code, _)) = rest.split_first() {
            let size = size(code);
            let (op, tail) = rest.split_at_checked(size).ok_or(End::Stuck)?;
            rest = tail;
            if matches!(code, 0xE4 | 0xE5) {
                // `end_c` closes the prologue of a part; the codes of the whole function follow.
                if code == 0xE4 {
                    return Ok(());
                }
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            self.one_code(op)?;
        }
        Ok(())
    }

    fn one_code(&mut self, op: &[u8]) -> Result<(), End> {
        let (first, second) = (op.first().copied().unwrap_or(0), op.get(1).copied().unwrap_or(0));
        let wide = u16::from_be_bytes([first, second]);
        let low = |bits: u32| u64::from(wide) & ((1 << bits) - 1);
        let saved = |shift: u32, bits: u32| 19 + usize::from((wide >> shift) & ((1 << bits) - 1));
        let sp = self.to.sp();
        match first {
            0x00..=0x1F => self.to.set_sp(sp.wrapping_add(u64::from(first) * 16)),
            0x20..=0x3F => self.pair(19, 20, 0, u64::from(first & 31) * 8)?,
            0x40..=0x7F => self.pair(FP, LR, u64::from(first & 63) * 8, 0)?,
            0x80..=0xBF => self.pair(FP, LR, 0, (u64::from(first & 63) + 1) * 8)?,
            0xC0..=0xC7 => self.to.set_sp(sp.wrapping_add(low(11) * 16)),
            0xC8..=0xCB => self.pair(saved(6, 4), saved(6, 4) + 1, low(6) * 8, 0)?,
            0xCC..=0xCF => self.pair(saved(6, 4), saved(6, 4) + 1, 0, (low(6) + 1) * 8)?,
            0xD0..=0xD3 => self.one(saved(6, 4), low(6) * 8, 0)?,
            0xD4..=0xD5 => self.one(saved(5, 4), 0, (low(5) + 1) * 8)?,
            0xD6..=0xD7 => {
                let register = 19 + 2 * usize::from((wide >> 6) & 7);
                let at = sp.wrapping_add(low(6) * 8);
                self.load(register, at)?;
                self.load(LR, at.wrapping_add(8))?;
            }
            // Floating point registers: only those saved with a push move the stack pointer.
            0xD8..=0xD9 | 0xDC..=0xDD => self.pending = 0,
            0xDA..=0xDB => self.to.set_sp(sp.wrapping_add((low(6) + 1) * 8)),
            0xDE => self.to.set_sp(sp.wrapping_add((low(5) + 1) * 8)),
            0xE0 => {
                let n = op.iter().skip(1).fold(0u64, |v, b| v << 8 | u64::from(*b));
                self.to.set_sp(sp.wrapping_add(n * 16));
            }
            0xE1 => {
                let fp = self.to.fp().ok_or(End::Register)?;
                self.to.set_sp(fp);
            }
            0xE2 => {
                let fp = self.to.fp().ok_or(End::Register)?;
                self.to.set_sp(fp.wrapping_sub(u64::from(second) * 8));
            }
            0xE6 => self.pending = self.pending.saturating_add(1),
            // nop; sign of the return address, which is taken off where the address is used.
            0xE3 | 0xFC => {}
            _ => return Err(End::Stuck),
        }
        Ok(())
    }

    /// Packed unwind data: the canonical prologue that the fields describe.
    fn packed(&mut self, data: u32, passed: Option<u32>) -> Result<(), End> {
        let (flag, functions) = (data & 3, data >> 2 & 0x7FF);
        let (floats, integers, homes) = (data >> 13 & 7, (data >> 16 & 15) as u8, data >> 20 & 1 == 1);
        let (chained, frame) = (data >> 21 & 3, u64::from(data >> 23 & 0x1FF) * 16);
        let lr_saved = chained == 1;
        let saved = u64::from(integers) * 8 + if lr_saved { 8 } else { 0 };
        let float_bytes = if floats > 0 { (u64::from(floats) + 1) * 8 } else { 0 };
        let area = (saved + float_bytes + if homes { 64 } else { 0 }).next_multiple_of(16);
        let local = frame.checked_sub(area).ok_or(End::Stuck)?;
        if let Some(passed) = passed.filter(|_| flag == 1) {
            // How many instructions the prologue has; an epilogue mirrors it at the end of the function.
            let pairs = u32::from(integers).div_ceil(2) + floats.div_ceil(2) + u32::from(lr_saved && integers % 2 == 0);
            let head = pairs + if homes { 4 } else { 0 } + u32::from(local > 0) + 2 * u32::from(chained >= 2);
            if passed < head || passed + 1 >= functions {
                return Err(End::Stuck);
            }
        }
        if chained >= 2 {
            // fp and lr lie at the bottom of the locals, fp points at them.
            let fp = self.to.fp().ok_or(End::Register)?;
            self.to.set_sp(fp);
            self.pair(FP, LR, 0, 0)?;
        }
        self.to.set_sp(self.to.sp().wrapping_add(local));
        let sp = self.to.sp();
        for n in 0..integers.min(10) {
            self.load(19 + usize::from(n), sp.wrapping_add(u64::from(n) * 8))?;
        }
        if lr_saved {
            self.load(LR, sp.wrapping_add(u64::from(integers) * 8))?;
        }
        self.to.set_sp(sp.wrapping_add(area));
        Ok(())
    }
}

/// Bytes of a code.
fn size(code: u8) -> usize {
    match code {
        0xC0..=0xDE | 0xE2 => 2,
        0xE0 => 4,
        0xE7 => 3,
        0xF8 => 2,
        0xF9 => 3,
        0xFA => 4,
        0xFB => 5,
        _ => 1,
    }
}

/// Instructions of an epilogue whose codes begin `bytes`, its return included.
fn count(bytes: &[u8]) -> u32 {
    instructions(bytes, &[0xE4]) + 1
}

/// Instructions of the prologue.
fn prologue(bytes: &[u8]) -> u32 {
    instructions(bytes, &[0xE4, 0xE5])
}

fn instructions(mut bytes: &[u8], ends: &[u8]) -> u32 {
    let mut n = 0;
    while let Some(code) = bytes.first().filter(|c| !ends.contains(c)) {
        n += 1;
        bytes = bytes.get(size(*code)..).unwrap_or(&[]);
    }
    n
}
