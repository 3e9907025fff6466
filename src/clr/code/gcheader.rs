//! The header of GC information: how long a method's code is.
//!
//! Format: dotnet/runtime `src/coreclr/vm/gcinfodecoder.cpp`, `inc/gcinfotypes.h`, `docs/design/datacontracts/GCInfo.md`.
//! Versions: 2 (3.1 to 8.0), 3 (9.0), 4 (10.0) and 5 (11.0), which differs on x86 alone. Not for x86, whose format is another.

use crate::dump::Arch;

/// Version of the GC information of a ReadyToRun image by the version of the image's format (dotnet/runtime
/// `src/coreclr/vm/readytoruninfo.h`, `GetGcInfoVersion`).
pub fn version_of_image(major: u16, minor: u16) -> u32 {
    match (major, minor) {
        (11.., _) => 4,
        (9, 2..) | (10, _) => 3,
        (2..=9, _) => 2,
        _ => 1,
    }
}

/// Bytes of code, funclets included, of the method whose GC information begins `bytes`.
pub fn code_length(bytes: &[u8], version: u32, arch: Arch) -> Option<u32> {
    let mut r = BitReader { bytes, at: 0 };
    let fat = r.take(1)? != 0;
    if fat {
        r.take(if version < 2 { 9 } else { 10 })?;
    } else {
        r.take(1)?;
    }
    // The kind of what is returned, gone in version 4.
    if version < 4 {
        r.take(if fat { 4 } else { 2 })?;
    }
    let length = r.variable(8)?;
    let unit = match arch {
        Arch::X64 => 1,
        Arch::Arm64 => 4,
        Arch::Arm => 2,
        Arch::X86 => return None,
    };
    u32::try_from(length.checked_mul(unit)?).ok()
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: usize) -> Option<u64> {
        let mut value = 0;
        for i in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= u64::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Some(value)
    }

    /// Groups of `base` bits, each with a bit that says whether another follows, lowest first.
    fn variable(&mut self, base: usize) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(base) {
            value |= self.take(base)?.checked_shl(shift as u32)?;
            if self.take(1)? == 0 {
                return Some(value);
            }
        }
        None
    }
}
