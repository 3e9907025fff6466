//! Pipes behind commands: `!dumpheap -stat | where count > 100 | sort -total_size | top 5`. Those that look at no value pass
//! lines ([`lines`]); with one that does, all of them work on the typed rows of tables ([`tables`]), in every format alike.

pub mod check;
pub mod columns;
pub mod complete;
pub mod condition;
pub mod declared;
pub mod group;
pub mod kept;
pub mod lines;
pub mod literal;
pub mod name;
pub mod parse;
pub mod pipe;
pub mod sort;
pub mod stages;
pub mod tables;
pub mod value;

pub use check::check;
pub use declared::read;
pub use pipe::{MOST, Pipe};
pub use value::push_whole;
