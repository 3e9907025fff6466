//! Machine code as text, with what an instruction refers to: pure functions of bytes, so that native code has them too.
//!
//! x86 and x64 by iced-x86 in MASM's spelling, arm64 by yaxpeax-arm. What registers hold is followed only as far as code
//! that runs straight through tells; an instruction that is jumped to forgets all of it.

mod arm64;
mod flow;
mod x86;

use crate::dump::{Arch, Os};

pub use flow::Registers;

/// Longest instruction of any architecture, in bytes.
pub const LONGEST: usize = 15;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A number in the instruction, or an address relative to it.
    Value(u64),
    /// What the pointer at this address holds.
    Memory(u64),
    /// A register, plus a distance.
    Register(u8, i64),
    /// What the pointer at register plus distance holds.
    At(u8, i64),
    /// The register as it is, with 16 bits at this shift replaced (arm64 `movk`).
    Insert(u8, u16, u32),
}

/// Where control goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To a function and back.
    Call,
    /// Elsewhere.
    Jump,
    /// Elsewhere or on.
    Branch,
    /// Back to the caller, or nowhere.
    End,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its address.
    pub address: u64,
    /// Its bytes.
    pub length: u8,
    /// Name and operands; `???` for what is no instruction.
    pub text: String,
    /// Where control goes.
    pub flow: Flow,
    /// Where a call or jump leads.
    pub target: Option<Source>,
    /// A register that gets a value, and the value; `None` for one that is not followed.
    pub sets: Option<(u8, Option<Source>)>,
    /// Registers that hold other values afterwards, as bits.
    pub spoils: u64,
    /// An address or number among its operands.
    pub mentions: Option<Source>,
}

impl Instruction {
    /// What is no instruction.
    fn bad(address: u64, length: usize) -> Self {
        Instruction {
            address,
            length: length as u8,
            text: "???".into(),
            flow: Flow::Next,
            target: None,
            sets: None,
            spoils: u64::MAX,
            mentions: None,
        }
    }

    /// Address of the next one.
    pub fn next(&self) -> u64 {
        self.address.wrapping_add(u64::from(self.length))
    }
}

/// How code is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    arch: Arch,
    os: Os,
}

impl Machine {
    /// The machine of a dump; `None` where its instructions are not known here (32-bit ARM).
    pub fn new(arch: Arch, os: Os) -> Option<Self> {
        (arch != Arch::Arm).then_some(Self { arch, os })
    }

    /// Fewest bytes of an instruction: where the next may begin.
    pub fn step(&self) -> u64 {
        if self.arch == Arch::Arm64 { 4 } else { 1 }
    }

    /// The first instruction of `bytes`, which lie at `address`; `None` without bytes.
    pub fn decode(&self, bytes: &[u8], address: u64) -> Option<Instruction> {
        match self.arch {
            Arch::X64 | Arch::X86 => x86::decode(bytes, address, self.arch == Arch::X64),
            Arch::Arm64 => arm64::decode(bytes, address),
            Arch::Arm => None,
        }
    }

    /// The instructions of `bytes`, which lie at `address`.
    pub fn instructions<'a>(&'a self, bytes: &'a [u8], address: u64) -> impl Iterator<Item = Instruction> + 'a {
        let mut at = 0usize;
        std::iter::from_fn(move || {
            let i = self.decode(bytes.get(at..)?, address.wrapping_add(at as u64))?;
            at += usize::from(i.length.max(1));
            Some(i)
        })
    }

    /// Registers a call may change, as bits.
    fn scratch(&self) -> u64 {
        match (self.arch, self.os) {
            // x0 to x18 and the link register.
            (Arch::Arm64, _) => 0x7_FFFF | 1 << 30,
            // rax, rcx, rdx, r8 to r11.
            (Arch::X64, Os::Windows) => 0x0F07,
            // On Unix rsi and rdi too.
            (Arch::X64, _) => 0x0FC7,
            _ => 0x07,
        }
    }

    /// Bytes of an instruction as debuggers print them.
    pub fn bytes_text(&self, bytes: &[u8]) -> String {
        match (self.arch, bytes.first_chunk::<4>()) {
            (Arch::Arm64, Some(word)) => format!("{:08x}", u32::from_le_bytes(*word)),
            _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    /// Columns that bytes take in a listing.
    pub fn bytes_width(&self) -> usize {
        if self.arch == Arch::Arm64 { 8 } else { 15 }
    }
}

/// An address as debuggers print it.
fn tick(address: u64, wide: bool) -> String {
    if wide { format!("{:08x}`{:08x}", address >> 32, address & 0xFFFF_FFFF) } else { format!("{address:08x}") }
}

#[cfg(test)]
mod tests;
