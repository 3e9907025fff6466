//! The runtime and its heaps.

pub mod versions;
