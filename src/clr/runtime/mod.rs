//! What the runtime keeps of itself: threads, handles, locks, domains, exceptions, loader heaps, delegates.

pub mod continuations;
pub mod delegates;
pub mod domains;
pub mod exceptions;
pub mod finalizer;
pub mod handles;
pub mod loadcontexts;
pub mod loaderallocators;
pub mod loaderheaps;
pub mod locks;
pub mod pal;
pub mod syncblocks;
pub mod threads;
