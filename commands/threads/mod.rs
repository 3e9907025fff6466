//! Threads, locks, exceptions.

pub mod clrthreads;
pub mod dso;
pub mod exceptions;
pub mod syncblk;
