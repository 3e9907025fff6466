//! Managed code: methods, code heaps, stack traces.

pub mod codeheaps;
pub mod methods;
pub mod stacktrace;
