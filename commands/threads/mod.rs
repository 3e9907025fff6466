//! Threads, locks, exceptions.

pub mod clrstack;
pub mod clrthreads;
pub mod dso;
pub mod dumpasync;
pub mod dumpstack;
pub mod exceptions;
pub mod forest;
pub mod frameroots;
pub mod joined;
pub mod k;
pub mod parallelstacks;
pub mod syncblk;
pub mod taskstate;
pub mod threadpool;
pub mod threadpoolqueue;
pub mod threadstacks;
pub mod timerinfo;
pub mod waits;
pub mod web;
