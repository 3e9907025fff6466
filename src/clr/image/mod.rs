//! Images of modules: PE headers, ECMA-335 metadata, the modules themselves.

pub mod metadata;
pub mod modules;
pub mod pe;
pub mod place;
pub mod samebuild;
pub mod symbols;
