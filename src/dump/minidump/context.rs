//! Thread contexts as registers.

use minidump::MinidumpContext;

use crate::dump::{Arch, Registers};

const X64: [&str; 17] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rip", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
];
const X86: [&str; 10] = ["eax", "ebx", "ecx", "edx", "esi", "edi", "eip", "esp", "ebp", "eflags"];

/// The registers of a context, in the debugger's order.
pub fn registers(context: &MinidumpContext, arch: Arch) -> Option<Registers> {
    let all: Vec<(&'static str, u64)> = context.registers().collect();
    let of = |name: &str| all.iter().find(|r| r.0 == name).copied();
    let general: Vec<(&'static str, u64)> = match arch {
        Arch::X64 => X64.iter().filter_map(|n| of(n)).collect(),
        Arch::X86 => {
            let shown = X86.iter().filter_map(|n| of(n));
            shown.map(|(n, v)| (if n == "eflags" { "efl" } else { n }, v)).collect()
        }
        Arch::Arm64 | Arch::Arm => all.clone(),
    };
    let fp = match arch {
        Arch::X64 => "rbp",
        Arch::X86 => "ebp",
        Arch::Arm64 | Arch::Arm => "fp",
    };
    let (ip, sp) = (context.get_instruction_pointer(), context.get_stack_pointer());
    let fp = of(fp).map_or(0, |r| r.1);
    (!general.is_empty()).then_some(Registers { ip, sp, fp, tp: None, general })
}
