//! Objects, types, modules.

pub mod dumpclass;
pub mod dumpmt;
pub mod dumpobj;
pub mod dumpvc;
mod fieldtable;
mod value;
