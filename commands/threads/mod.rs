//! Threads, locks, exceptions.

pub mod exceptions;
