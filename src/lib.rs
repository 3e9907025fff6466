//! clrscope reads .NET memory dumps, Windows minidumps and Linux ELF cores, with nothing but the dump.
//!
//! [`api`] is the library: open a dump, ask for its heap, types, objects, roots and threads. Everything else is the program
//! around it, hidden here, and may change with any release. Its layers, each using only those above it (`tests/layers.rs`
//! enforces it; `docs/architecture.md` is the map): `dump` (bytes and address space), `native` (native code), `clr` (the
//! runtime in them), `aot` (NativeAOT beside it), `graph` (pure numbers), `heap` (objects and roots), `session` (the shared,
//! caching view), `live` (processes that run), `shell` (the prompt), `commands`, `program` (verbs and options), `serve` (the
//! server, with the feature `mcp`).
//!
//! The feature `prompt`, on by default, is the program; without it there is the reader alone.

#[cfg(feature = "prompt")]
#[doc(hidden)]
#[path = "../commands/mod.rs"]
pub mod commands;

pub mod api;

#[doc(hidden)]
pub mod aot;
#[doc(hidden)]
pub mod clr;
#[doc(hidden)]
pub mod dump;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod heap;
#[cfg(feature = "prompt")]
#[doc(hidden)]
pub mod live;
#[doc(hidden)]
pub mod native;
#[cfg(feature = "prompt")]
#[doc(hidden)]
pub mod program;
#[cfg(feature = "mcp")]
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod session;
#[cfg(feature = "prompt")]
#[doc(hidden)]
pub mod shell;
#[doc(hidden)]
pub mod watch;
