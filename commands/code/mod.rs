//! Code: IL, signatures, machine code.

pub mod clru;
pub mod dumpil;
pub mod dumpsig;
pub mod listing;
pub mod unassemble;
