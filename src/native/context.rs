//! Registers of a frame: what is known of them, and what survives a call.

use crate::dump::{Arch, Registers};

/// General registers kept for a frame.
pub const REGISTERS: usize = 32;

/// The registers of a frame. Those a callee may have overwritten are unknown in its caller.
///
/// Numbers: x64 and x86 as instructions encode them (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15); arm64 x0 to x30
/// and 31 for the stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Whose registers these are.
    pub arch: Arch,
    /// Where execution stands, or goes on after the call.
    pub ip: u64,
    values: [Option<u64>; REGISTERS],
}

const X64: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
const X86: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const ARM64: [&str; 32] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp",
];

/// Bits of an address of a process on arm64: those above may carry a pointer's signature.
const ARM64_ADDRESS: u64 = (1 << 48) - 1;

impl Context {
    /// Registers of which nothing but `ip` and `sp` is known.
    pub fn new(arch: Arch, ip: u64, sp: u64) -> Self {
        let mut new = Self { arch, ip, values: [None; REGISTERS] };
        new.set(new.sp_number(), Some(sp));
        new
    }

    /// The registers of a thread.
    pub fn of_thread(arch: Arch, registers: &Registers) -> Self {
        let mut new = Self::new(arch, registers.ip, registers.sp);
        for (number, name) in Self::names(arch).iter().enumerate() {
            if let Some(value) = registers.get(name) {
                new.set(number as u8, Some(value));
            }
        }
        new.set(new.sp_number(), Some(registers.sp));
        if new.fp().is_none() {
            new.set(new.fp_number(), Some(registers.fp));
        }
        new
    }

    /// Names of the registers by number.
    pub fn names(arch: Arch) -> &'static [&'static str] {
        match arch {
            Arch::X64 => &X64,
            Arch::X86 => &X86,
            Arch::Arm64 => &ARM64,
            Arch::Arm => &[],
        }
    }

    /// The register of that number, if it is known.
    pub fn get(&self, number: u8) -> Option<u64> {
        self.values.get(usize::from(number)).copied().flatten()
    }

    /// Sets a register, or makes it unknown.
    pub fn set(&mut self, number: u8, value: Option<u64>) {
        if let Some(slot) = self.values.get_mut(usize::from(number)) {
            *slot = value;
        }
    }

    fn sp_number(&self) -> u8 {
        if self.arch == Arch::Arm64 { 31 } else { 4 }
    }

    fn fp_number(&self) -> u8 {
        if self.arch == Arch::Arm64 { 29 } else { 5 }
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.get(self.sp_number()).unwrap_or(0)
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: u64) {
        self.set(self.sp_number(), Some(sp));
    }

    /// The frame pointer register.
    pub fn fp(&self) -> Option<u64> {
        self.get(self.fp_number())
    }

    /// Sets the frame pointer register.
    pub fn set_fp(&mut self, fp: Option<u64>) {
        self.set(self.fp_number(), fp);
    }

    /// Whether a callee keeps the register `number` for its caller, by the calling convention of the system: on Windows x64
    /// rsi and rdi too.
    pub fn survives(arch: Arch, windows: bool, number: u8) -> bool {
        match arch {
            Arch::X64 => matches!(number, 3 | 5 | 12..=15) || (windows && matches!(number, 6 | 7)),
            Arch::X86 => matches!(number, 3 | 5..=7),
            Arch::Arm64 => matches!(number, 19..=29),
            Arch::Arm => false,
        }
    }

    /// A return address without the signature that arm64 may have put into its upper bits.
    pub fn plain_address(arch: Arch, address: u64) -> u64 {
        if arch == Arch::Arm64 { address & ARM64_ADDRESS } else { address }
    }
}
