//! GC information of compiled methods: how long the code is, where it may be interrupted, and which registers and stack
//! slots hold references at each place of it.
//!
//! Format: dotnet/runtime `src/coreclr/vm/gcinfodecoder.cpp`, `inc/gcinfotypes.h`, `docs/design/datacontracts/GCInfo.md`
//! for x64 and arm64, versions 1 to 5. x86 has another format ([`x86`]).
//!
//! The bytes say nowhere how many they are: what is read is bounded by what was given, and every number by the bits left.

mod bits;
mod decode;
mod live;
#[cfg(test)]
mod tests;
mod version;
pub mod x86;

pub use live::{Live, Stop, Transition};
pub use version::{Encoding, OF_JIT, version_of_image};

use crate::dump::Arch;

/// What a stack slot is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// The stack pointer of the caller: where it is when the method has returned.
    CallerSp,
    /// The stack pointer in the method.
    Sp,
    /// The frame register.
    Frame,
}

/// Where a reference lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a register, by its number in instructions.
    Register(u32),
    /// On the stack; distance in bytes.
    Stack(Base, i32),
}

/// A register or stack slot that can hold a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Where it is.
    pub place: Place,
    /// It may point into an object, or at something that is none.
    pub interior: bool,
    /// The object must not move.
    pub pinned: bool,
}

/// Where generic code finds its exact types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generics {
    /// The slot holds a MethodTable.
    MethodTable,
    /// The slot holds a MethodDesc.
    MethodDesc,
    /// The slot holds the object whose type tells.
    This,
}

/// What stands in front of the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The method takes a variable number of arguments.
    pub varargs: bool,
    /// What kind of value it returns, where that is written (through 9.0; `ReturnKind`).
    pub return_kind: Option<u32>,
    /// Bytes of code, funclets included.
    pub length: u32,
    /// Bytes of the prolog, where it is written (with a cookie or a generic context), else 0.
    pub prolog: u32,
    /// The cookie that guards the stack: its distance from the caller's stack pointer, and the code in which it is valid.
    pub cookie: Option<(i32, std::ops::Range<u32>)>,
    /// Slot that keeps the stack pointer of the main body for its funclets (through 9.0), in bytes.
    pub psp_sym: Option<i32>,
    /// Slot and kind of the generic context; from the frame register since version 4, else from the caller's stack pointer.
    pub generics: Option<(i32, Generics)>,
    /// Number of the frame register, if it has one.
    pub frame_register: Option<u32>,
    /// x64: of a method and its funclets only the first is asked for references. arm64: it has explicit tail calls.
    pub leaf_only: bool,
    /// Bytes of the area that edit and continue preserves.
    pub preserved: Option<u32>,
    /// Slot of the frame of a method that native code calls.
    pub reverse_pinvoke: Option<i32>,
    /// Bytes above the stack pointer in which arguments are passed on: they belong to whom is called.
    pub outgoing: u32,
}

/// GC information of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcInfo {
    /// How it is written.
    pub encoding: Encoding,
    /// What stands in front.
    pub header: Header,
    /// Return addresses of calls, in bytes from the start, at which the live slots are known.
    pub safe_points: Vec<u32>,
    /// Stretches of code that can be interrupted at each instruction, in bytes from the start.
    pub ranges: Vec<std::ops::Range<u32>>,
    /// All slots: registers, stack slots, then those that are always live.
    pub slots: Vec<Slot>,
    /// How many of them come and go.
    pub tracked: usize,
    bytes: Vec<u8>,
    /// The bit at which what is live begins.
    states: usize,
}

/// Bytes of code, funclets included, of the method whose GC information begins `bytes`.
pub fn code_length(bytes: &[u8], version: u32, arch: Arch) -> Option<u32> {
    decode::code_length(bytes, Encoding::new(version, arch)?)
}

/// As many bytes as the GC information of a method of `length` bytes of code can have: what SOS takes it for (dotnet/
/// diagnostics `src/SOS/Strike/strike.cpp`), and never more than four megabytes.
pub fn most_bytes(length: u32) -> usize {
    (40 + 2 * length as usize).min(4 << 20)
}

impl GcInfo {
    /// Decodes the GC information at the start of `bytes`.
    pub fn decode(bytes: Vec<u8>, encoding: Encoding) -> Option<Self> {
        decode::decode(bytes, encoding)
    }

    /// Slots that are live throughout.
    pub fn untracked(&self) -> &[Slot] {
        self.slots.get(self.tracked..).unwrap_or(&[])
    }

    /// Whether it can be that of a method with `length` bytes of code: of that length, all in order and inside.
    pub fn fits(&self, length: Option<u32>) -> bool {
        let ordered = self.safe_points.windows(2).all(|w| w[0] < w[1]);
        let last = self.safe_points.last().copied().unwrap_or(0).max(self.ranges.last().map_or(0, |r| r.end));
        let registers = self.encoding.registers();
        let places = self.slots.iter().all(|s| match s.place {
            Place::Register(n) => n < registers,
            Place::Stack(Base::Frame, _) => self.header.frame_register.is_some(),
            Place::Stack(..) => true,
        });
        let whole = length.is_none_or(|l| l == self.header.length);
        whole && ordered && last <= self.header.length && places
    }

    /// Whether what is live can be read for the first and the last of its places.
    pub fn is_whole(&self) -> bool {
        let points = self.safe_points.first().into_iter().chain(self.safe_points.last());
        let mut readable = points.copied().all(|at| self.live(at, Stop::Return).is_some());
        let starts = self.ranges.first().map(|r| r.start).into_iter().chain(self.ranges.last().map(|r| r.end - 1));
        readable &= starts.into_iter().all(|at| self.live(at, Stop::Instruction).is_some());
        readable
    }
}

/// Name of a register by its number in instructions.
pub fn register_name(arch: Arch, number: u32) -> &'static str {
    const X64: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    const ARM64: [&str; 32] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp",
    ];
    let names: &[&'static str] = if arch == Arch::Arm64 { &ARM64 } else { &X64 };
    names.get(number as usize).copied().unwrap_or("???")
}
