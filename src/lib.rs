//! clrscope reads .NET memory dumps: Windows minidumps and Linux ELF cores, with nothing but the dump.
//!
//! The layers, each using only those above it (`tests/layers.rs` enforces it; `docs/architecture.md` is the map):
//! [`dump`] (bytes and address space), [`native`] (native code),
//! [`clr`] (the runtime in them), [`aot`] (NativeAOT beside it), [`heap`] (objects and roots),
//! [`graph`] (pure numbers), [`session`] (the shared, caching view), [`shell`] (the prompt), [`commands`].

#[path = "../commands/mod.rs"]
pub mod commands;

pub mod aot;
pub mod clr;
pub mod dump;
pub mod graph;
pub mod heap;
pub mod native;
pub mod session;
pub mod shell;
pub mod watch;
