//! Registers that the runtime's stubs and frames keep for the collector.
//!
//! Source: dotnet/runtime `src/coreclr/vm/amd64/cgencpu.h`, `vm/arm64/cgencpu.h`, `vm/i386/cgencpu.h` (`CalleeSavedRegisters`).

use super::registers::{Context, LINK};
use crate::clr::Clr;
use crate::dump::{Arch, Os};

/// Registers the runtime's stubs save for the collector, in the order of `CalleeSavedRegisters`.
pub fn callee_saved(arch: Arch, os: Os) -> &'static [usize] {
    match (arch, os) {
        // r12 r13 r14 r15 rbx rbp
        (Arch::X64, Os::Linux) => &[12, 13, 14, 15, 3, 5],
        // rdi rsi rbx rbp r12 r13 r14 r15
        (Arch::X64, Os::Windows) => &[7, 6, 3, 5, 12, 13, 14, 15],
        // edi esi ebx ebp
        (Arch::X86, _) => &[7, 6, 3, 5],
        // fp lr x19 .. x28
        (Arch::Arm64, _) => &[29, 30, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28],
        // r4 .. r11 lr
        (Arch::Arm, _) => &[4, 5, 6, 7, 8, 9, 10, 11, 14],
    }
}

/// Callee-saved registers that lie together at `at`.
pub fn read_saved(clr: &Clr, context: &mut Context, at: u64) {
    let arch = clr.dump.arch;
    for (i, &register) in callee_saved(arch, clr.dump.os).iter().enumerate() {
        context.put(register, clr.space().ptr_at(at, i as u64 * clr.header()));
    }
    if arch == Arch::Arm64 {
        context.forget(LINK);
    }
}

/// Bytes of them.
pub fn saved_size(clr: &Clr) -> u64 {
    callee_saved(clr.dump.arch, clr.dump.os).len() as u64 * clr.header()
}
