//! Objects, types, modules.

pub mod dumpobj;
pub mod dumpvc;
mod fieldtable;
mod value;
