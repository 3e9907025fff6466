//! Session, symbols, output.

pub mod analyze;
pub mod dx;
pub mod evaluate;
pub mod help;
pub mod index;
pub mod language;
pub mod list;
pub mod live;
pub mod load;
pub mod mex;
pub mod misc;
pub mod modules;
pub mod paths;
pub mod printf;
pub mod report;
pub mod symneed;
pub mod target;
pub mod threads;
pub mod triage;
