//! Session, symbols, output.

pub mod help;
pub mod load;
pub mod misc;
pub mod paths;
