//! Heap and memory of objects.

pub mod dumpheap;
pub mod eeheap;
pub mod filter;
pub mod finalizequeue;
pub mod gchandles;
pub mod gcroot;
pub mod gcwhere;
pub mod heapstat;
pub mod objsize;
pub mod table;
pub mod verifyheap;
