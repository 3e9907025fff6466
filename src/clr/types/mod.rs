//! Types: MethodTables and EEClasses, their names, fields, statics.

pub(in crate::clr) mod dynamicstatics;
pub mod fielddesc;
pub mod fields;
pub mod gcdesc;
pub mod knowntypes;
pub mod loaded;
pub mod lookupmap;
pub mod methodtable;
pub mod names;
pub mod objects;
pub mod parents;
pub mod statics;
pub mod typename;
