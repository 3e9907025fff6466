//! Registers of a frame: each known or not.

use crate::dump::{Arch, Registers};

/// Most general registers of an architecture.
pub const MOST: usize = 32;

/// Names by number: the numbers of GC information, debug information and unwind codes.
const X64: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
const X86: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const ARM64: [&str; 32] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp",
];
const ARM: [&str; 16] =
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc"];

/// Names of the general registers of `arch`, by their number.
pub fn names(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X64 => &X64,
        Arch::X86 => &X86,
        Arch::Arm64 => &ARM64,
        Arch::Arm => &ARM,
    }
}

/// Number of the stack pointer.
pub fn stack_pointer(arch: Arch) -> usize {
    match arch {
        Arch::X64 | Arch::X86 => 4,
        Arch::Arm64 => 31,
        Arch::Arm => 13,
    }
}

/// Number of the frame pointer.
pub fn frame_pointer(arch: Arch) -> usize {
    match arch {
        Arch::X64 | Arch::X86 => 5,
        Arch::Arm64 => 29,
        Arch::Arm => 11,
    }
}

/// Number of arm64's link register.
pub const LINK: usize = 30;

/// Bits of an address of a process on arm64: those above may carry a pointer's signature.
const ARM64_ADDRESS: u64 = (1 << 48) - 1;

/// A bit for each register that a call preserves, and for the stack pointer.
fn kept(arch: Arch, windows: bool) -> u32 {
    match arch {
        // rbx, rsp, rbp, r12 to r15; on Windows rsi and rdi too.
        Arch::X64 => 0xF038 | if windows { 0xC0 } else { 0 },
        // ebx, esp, ebp, esi, edi.
        Arch::X86 => 0xF8,
        // x19 to x29 and sp.
        Arch::Arm64 => 0xBFF8_0000,
        // r4 to r11 and sp.
        Arch::Arm => 0x2FF0,
    }
}

/// The registers of a frame. What a call does not preserve, and what was lost on the way, is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Architecture.
    pub arch: Arch,
    /// Instruction pointer: the return address, or in a leaf frame the instruction that runs next.
    pub ip: u64,
    /// A bit a register.
    known: u32,
    values: [u64; MOST],
}

impl Context {
    /// One of which only instruction and stack pointer are known.
    pub fn new(arch: Arch, ip: u64, sp: u64) -> Self {
        let mut context = Self { arch, ip, known: 0, values: [0; MOST] };
        context.set_sp(sp);
        context
    }

    /// The registers of a thread.
    pub fn of_thread(arch: Arch, registers: &Registers) -> Self {
        let mut context = Self::new(arch, registers.ip, registers.sp);
        for (number, name) in names(arch).iter().enumerate() {
            let other = match *name {
                "fp" => "x29",
                "lr" => "x30",
                other => other,
            };
            if let Some(value) = registers.get(name).or_else(|| registers.get(other)) {
                context.set(number, value);
            }
        }
        context.set_sp(registers.sp);
        context
    }

    /// The value of register `number`; `None` when it is not known.
    pub fn get(&self, number: usize) -> Option<u64> {
        let known = number < MOST && self.known >> number & 1 != 0;
        known.then(|| self.values.get(number).copied()).flatten()
    }

    /// The register of that name, the instruction pointer among them.
    pub fn named(&self, name: &str) -> Option<u64> {
        if name == self.arch.pointers()[0] {
            return Some(self.ip);
        }
        self.get(names(self.arch).iter().position(|n| *n == name)?)
    }

    /// Sets register `number`.
    pub fn set(&mut self, number: usize, value: u64) {
        if let Some(v) = self.values.get_mut(number) {
            *v = value;
            self.known |= 1 << number;
        }
    }

    /// Sets or forgets register `number`.
    pub fn put(&mut self, number: usize, value: Option<u64>) {
        match value {
            Some(v) => self.set(number, v),
            None => self.forget(number),
        }
    }

    /// Forgets register `number`.
    pub fn forget(&mut self, number: usize) {
        if number < MOST {
            self.known &= !(1 << number);
        }
    }

    /// The stack pointer, which is always known.
    pub fn sp(&self) -> u64 {
        self.values.get(stack_pointer(self.arch)).copied().unwrap_or(0)
    }

    /// Sets it.
    pub fn set_sp(&mut self, sp: u64) {
        self.set(stack_pointer(self.arch), sp);
    }

    /// The frame pointer.
    pub fn fp(&self) -> Option<u64> {
        self.get(frame_pointer(self.arch))
    }

    /// A return address without the signature that arm64 may have put into its upper bits.
    pub fn plain_address(arch: Arch, address: u64) -> u64 {
        if arch == Arch::Arm64 { address & ARM64_ADDRESS } else { address }
    }

    /// Whether a callee keeps the register `number` for its caller: all that [`forget_scratch`](Self::forget_scratch) keeps
    /// but the stack pointer.
    pub fn survives(arch: Arch, windows: bool, number: usize) -> bool {
        number < MOST && number != stack_pointer(arch) && kept(arch, windows) >> number & 1 != 0
    }

    /// Sets or forgets the frame pointer.
    pub fn set_fp(&mut self, fp: Option<u64>) {
        self.put(frame_pointer(self.arch), fp);
    }

    /// Forgets what a call does not preserve: all but the callee-saved registers of managed code and the stack pointer.
    pub fn forget_scratch(&mut self, windows: bool) {
        self.known &= kept(self.arch, windows);
    }
}
