//! Registers of a frame, and where the runtime's own `CONTEXT` has them.

use crate::dump::Arch;

pub use crate::native::context::{Context, LINK, frame_pointer, names, stack_pointer};

/// Where the registers lie in the `CONTEXT` of the runtime, on Unix as on Windows (dotnet/runtime
/// `src/coreclr/pal/inc/pal.h`): place of the instruction pointer, and of each register by its number.
pub fn in_context(arch: Arch) -> (u64, Vec<u64>) {
    match arch {
        Arch::X64 => (0xF8, (0..16).map(|n| 0x78 + 8 * n).collect()),
        // x0 to x28, fp, lr, sp, pc.
        Arch::Arm64 => (0x108, (0..32).map(|n| 8 + 8 * n).collect()),
        // edi, esi, ebx, edx, ecx, eax, ebp, eip, cs, eflags, esp.
        Arch::X86 => (0xB8, vec![0xB0, 0xAC, 0xA8, 0xA4, 0xC4, 0xB4, 0xA0, 0x9C]),
        Arch::Arm => (0x40, (0..16).map(|n| 4 + 4 * n).collect()),
    }
}
