//! Managed code: methods, code ranges and heaps, lookup by address, debug information, stack traces.

pub mod clauses;
pub mod codeheaps;
pub mod debuginfo;
pub mod disasm;
mod dynamicmethods;
pub mod entries;
mod forms;
mod fragile;
pub mod gcinfo;
mod gclookup;
pub mod imports;
mod jitcode;
pub mod lookup;
pub mod methods;
pub mod nativeformat;
pub mod ranges;
mod readytorun;
pub mod stack;
pub mod stacktrace;
mod starts;
mod unwind;
