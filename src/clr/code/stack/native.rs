//! One step through native x64 code of Windows, by the exception directory of its image.
//!
//! Format: Microsoft, "PE format" (exception directory), "x64 exception handling".

use super::reader::Reader;
use super::registers::Context;
use super::x64::{self, Memory, Stop};

/// Bytes of a `RUNTIME_FUNCTION`.
const ENTRY: u64 = 12;

/// Unwinds the native frame of `context`.
pub fn step(reader: &Reader<'_>, context: &mut Context) -> Result<(), Stop> {
    let missing = Stop::NoUnwindData(context.ip);
    let (base, table, count) = directory(reader, context.ip).ok_or(missing)?;
    let rva = context.ip - base;
    let word = |i: u64, n: u64| reader.word(table.checked_add(i * ENTRY)?.checked_add(4 * n)?).map(u64::from);
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if word(middle, 0).ok_or(missing)? <= rva { low = middle + 1 } else { high = middle }
    }
    let entry = low.checked_sub(1).filter(|&i| word(i, 1).is_some_and(|end| rva < end));
    let Some(entry) = entry else {
        // What has no entry calls nothing and has no frame.
        let sp = context.sp();
        context.ip = reader.pointer(sp).ok_or(Stop::NoStack(sp))?;
        context.set_sp(sp.wrapping_add(8));
        return Ok(());
    };
    let (begin, unwind) = (word(entry, 0).ok_or(missing)?, word(entry, 2).ok_or(missing)?);
    x64::unwind(reader, context, base + begin, base + unwind, base, false)
}

/// Base of the image at `ip`, its table of functions and their number.
fn directory(reader: &Reader<'_>, ip: u64) -> Option<(u64, u64, u64)> {
    const EXCEPTIONS: u64 = 3;
    let module = reader.clr.dump.module_at(ip)?;
    let base = module.base;
    let word = |at: u64| reader.word(base.checked_add(at)?).map(u64::from);
    let pe = word(0x3C)?;
    // Signature, file header, then the directories behind the optional header's fixed part of PE32+.
    let at = pe.checked_add(24 + 112 + 8 * EXCEPTIONS)?;
    let (rva, size) = (word(at)?, word(at.checked_add(4)?)?);
    let inside = rva != 0 && size >= ENTRY && rva.checked_add(size)? <= module.size;
    inside.then(|| (base + rva, base + rva, size / ENTRY)).map(|(_, table, count)| (base, table, count))
}
