//! Objects, types, modules.

pub mod collections;
pub mod continuation;
pub mod decoded;
pub mod dt;
pub mod dumpalc;
pub mod dumparray;
pub mod dumpclass;
pub mod dumpdelegate;
pub mod dumpmd;
pub mod dumpmt;
pub mod dumpobj;
pub mod dumpvc;
pub mod ehinfo;
pub mod fieldtable;
pub mod gcinfo;
pub mod head;
pub mod initializer;
pub mod modules;
pub mod name2ee;
pub mod runtimetypes;
pub mod savemodule;
pub mod value;
