//! Which version of the format GC information has, and what each changed.
//!
//! dotnet/runtime `src/coreclr/inc/gcinfo.h`, `inc/gcinfotypes.h`, `vm/gcinfodecoder.cpp`: 2 (2.0 to 8.0), 3 (9.0), 4 (10.0)
//! and 5 (11.0), which differs on x86 alone; 1 of 1.0 and .NET Framework (dotnet/coreclr v1.0.0 `src/inc/gcinfodecoder.h`,
//! `vm/gcinfodecoder.cpp`: nine flags, and nothing is said of the value returned).

use crate::dump::Arch;

/// Versions that JIT code may have, newest first; 5 is 4 but for x86.
pub const OF_JIT: &[u32] = &[4, 3, 2, 1];

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

/// How the format is written for one architecture and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Version.
    pub version: u32,
    /// Architecture: x64 or arm64.
    pub arch: Arch,
}

impl Encoding {
    /// `None` for architectures whose format is not read: x86 has another, 32-bit ARM was not tried.
    pub fn new(version: u32, arch: Arch) -> Option<Self> {
        matches!(arch, Arch::X64 | Arch::Arm64).then_some(Self { version, arch })
    }

    fn arm64(self) -> bool {
        self.arch == Arch::Arm64
    }

    /// Bits of the flags of a long header.
    pub fn flag_bits(self) -> u32 {
        if self.version < 2 { 9 } else { 10 }
    }

    /// Whether the header says what kind of value the method returns.
    pub fn has_return_kind(self) -> bool {
        (2..4).contains(&self.version)
    }

    /// Whether a slot for the security object and one for the previous stack pointer can be announced.
    pub fn has_old_slots(self) -> bool {
        self.version < 4
    }

    /// Bytes a unit of the code's length stands for.
    pub fn length_unit(self) -> u32 {
        if self.arm64() { 4 } else { 1 }
    }

    /// Bytes a unit of an offset in the code stands for: on arm64 an instruction since version 4.
    pub fn offset_unit(self) -> u32 {
        if self.arm64() && self.version >= 4 { 4 } else { 1 }
    }

    /// What a safe point's offset is smaller by than the return address it is for.
    pub fn safe_point_bias(self) -> u32 {
        u32::from(self.version < 4)
    }

    /// Bits of a group of the frame register's number, and the number that is written as 0.
    pub fn frame_register(self) -> (u32, u32) {
        if self.arm64() { (2, 29) } else { (3, 5) }
    }

    /// Whether the size of the fixed frame follows that of the area which edit and continue preserves.
    pub fn has_fixed_frame(self) -> bool {
        self.arm64() && self.version >= 3
    }

    /// Bits of a group of the count of safe points.
    pub fn safe_point_count(self) -> u32 {
        if self.arm64() { 3 } else { 2 }
    }

    /// Bits of a group of the count of registers.
    pub fn register_count(self) -> u32 {
        if self.arm64() { 3 } else { 2 }
    }

    /// One past the highest register number; those of the stack pointer never occur.
    pub fn registers(self) -> u32 {
        if self.arm64() { 31 } else { 16 }
    }

    /// Whether a register need not survive a call.
    pub fn is_scratch(self, register: u32, windows: bool) -> bool {
        match self.arch {
            Arch::Arm64 => register <= 17 || register >= 29,
            _ if windows => !matches!(register, 3 | 5 | 6 | 7 | 12..=15),
            _ => !matches!(register, 3 | 5 | 12..=15),
        }
    }
}
