//! Threads, locks, exceptions.

pub mod clrthreads;
pub mod exceptions;
pub mod syncblk;
