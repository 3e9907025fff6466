//! Threads, locks, exceptions.

pub mod clrthreads;
pub mod dso;
pub mod exceptions;
pub mod syncblk;
pub mod threadpool;
