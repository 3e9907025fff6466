//! One step of unwinding: a caller's frame, or why there is none.

use std::fmt;

use super::context::Context;

/// A caller's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// Its registers.
    pub context: Context,
    /// Its instruction pointer is that of an interrupted instruction, not a return address.
    pub exact: bool,
    /// Nothing describes the frame it was called from: it was found by the frame pointer, and frames may be missing before.
    pub guessed: bool,
}

/// Why a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is the outermost frame.
    Bottom,
    /// The dump has no registers to begin with.
    NoRegisters,
    /// The address is in no module.
    NoImage(u64),
    /// What describes the frames of the module is not at hand.
    NoUnwindData {
        /// The module.
        module: String,
        /// Path of its file as the dump has it.
        path: String,
        /// Address in it, from its base.
        offset: u64,
    },
    /// Memory of the stack is not in the dump.
    Memory(u64),
    /// The place of the caller depends on a register that is not known.
    Register,
    /// The description leads to the same frame again, or down the stack.
    Stuck,
    /// More frames than any stack has.
    Limit,
    /// What is known of the processor does not suffice.
    Processor(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Bottom => f.write_str("end of the stack"),
            End::NoRegisters => f.write_str("the dump has no registers of the thread"),
            End::NoImage(0) => f.write_str("the return address is 0"),
            End::NoImage(ip) => write!(f, "{ip:x} is in no module"),
            End::NoUnwindData { module, offset, .. } => {
                write!(f, "no unwind data for {module}+0x{offset:x}: give the folder of its file with -i")
            }
            End::Memory(at) => write!(f, "the stack at {at:x} is not in the dump"),
            End::Register => f.write_str("the caller's place depends on a register that is not known"),
            End::Stuck => f.write_str("the unwind data leads nowhere from here"),
            End::Limit => f.write_str("more frames than are walked"),
            End::Processor(what) => write!(f, "native frames of {what} are not walked"),
        }
    }
}
