//! `RUNTIME_FUNCTION`s: where a function's code begins and ends, and where its unwind information lies.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/codeman.h`, `inc/clrnt.h`, `docs/design/coreclr/botr/readytorun-format.md`
//! (`RUNTIME_FUNCTIONS`): begin, end and unwind information on x64, on every system; begin and unwind information elsewhere.
//! arm64: word 0 of the unwind information has the length in words in its low 18 bits. x86: GC information, in front of which
//! the length stands again since 2.1.

use super::gcinfo::x86;
use crate::clr::Clr;
use crate::dump::Arch;

/// A function: a method's main body or one of its funclets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// First address.
    pub start: u64,
    /// One past the last, where it is recorded.
    pub end: Option<u64>,
    /// Its unwind information.
    pub unwind: u64,
}

/// Bytes of an entry.
pub fn entry_size(arch: Arch) -> u64 {
    if arch == Arch::X64 { 12 } else { 8 }
}

/// x86: where the GC information lies of a function whose entry names `unwind`, and the bytes of code it tells.
pub fn of_x86(u32_at: impl Fn(u64) -> Option<u32>, unwind: u64) -> (u64, Option<u32>) {
    let length = |at: u64| {
        let words = [Some(at), at.checked_add(4)].map(|at| at.and_then(&u32_at));
        let bytes: Vec<u8> = words.into_iter().map_while(|w| w).flat_map(u32::to_le_bytes).collect();
        x86::code_length(&bytes)
    };
    let behind = unwind.saturating_add(4);
    match length(behind).filter(|&l| u32_at(unwind) == Some(l)) {
        Some(again) => (behind, Some(again)),
        None => (unwind, length(unwind)),
    }
}

/// The entry at `at`, counted from `base`.
pub fn read(clr: &Clr, at: u64, base: u64) -> Option<Function> {
    read_with(clr.dump.arch, |a| clr.space().u32(a), at, base)
}

/// As [`read`], with bytes from elsewhere.
pub fn read_with(arch: Arch, u32_at: impl Fn(u64) -> Option<u32>, at: u64, base: u64) -> Option<Function> {
    /// Low bits of a method's entry point that are set on 32-bit ARM.
    const THUMB: u64 = 1;
    let begin = u64::from(u32_at(at)?) & if arch == Arch::Arm { !THUMB } else { !0 };
    let start = base.checked_add(begin)?;
    let second = u64::from(u32_at(at.checked_add(4)?)?);
    if arch == Arch::X64 {
        let unwind = base.checked_add(u64::from(u32_at(at.checked_add(8)?)?))?;
        let end = base.checked_add(second)?;
        return (start < end).then_some(Function { start, end: Some(end), unwind });
    }
    let unwind = base.checked_add(second)?;
    let length = match arch {
        // The low bits say how it is packed; the JIT and crossgen always write a record of its own.
        Arch::Arm64 if second & 3 == 0 => u32_at(unwind).map(|w| u64::from(w & 0x3_FFFF) * 4),
        Arch::X86 => of_x86(u32_at, unwind).1.map(u64::from),
        _ => None,
    };
    let end = length.filter(|&l| l != 0).and_then(|l| start.checked_add(l));
    Some(Function { start, end, unwind })
}
