//! Processes that run: the ports on which .NET runtimes of this machine answer, and dumps that they are asked for. Knows no
//! dump, no shell. What the other side says is believed no more than a dump is.

pub mod collect;
pub mod find;
pub mod ipc;
pub mod proc;

pub use collect::{Kind, Written};
pub use find::{Port, Ports};
