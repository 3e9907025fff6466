//! Heap and memory of objects.

pub mod analyzeoom;
pub mod dumpgen;
pub mod dumpheap;
pub mod eeheap;
pub mod ephrefs;
pub mod filter;
pub mod finalizequeue;
pub mod finq;
pub mod gchandleleaks;
pub mod gchandles;
pub mod gcroot;
pub mod gcwhere;
pub mod heapstat;
pub mod listing;
pub mod objsize;
pub mod rootnames;
pub mod select;
pub mod strings;
pub mod table;
pub mod texts;
pub mod verifyheap;
pub mod verifyobj;
