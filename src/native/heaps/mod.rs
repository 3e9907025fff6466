//! Native heaps: the blocks that the C library's allocator gave to the program, read without symbols. Knows nothing of .NET.
//!
//! Everything is found by structure and held against what the allocator itself counts; what fails is said
//! ([`NativeHeaps::checks`], [`NativeHeaps::missing`]).

pub mod blocks;
mod foreign;
mod glibc;
mod musl;
pub mod reach;
pub mod regions;
pub mod windows;

pub use self::blocks::{Block, Blocks, Kind, Lookups, NO_ARENA, State};

use self::regions::Range;
use crate::dump::{Dump, Os};
use crate::watch::{Interrupted, Watch};

/// Whose heaps they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allocator {
    /// The GNU C library's; the versions whose layout the arenas have.
    Glibc(&'static str),
    /// musl's mallocng, 1.2.1 and later.
    Musl,
    /// Another one, recognised and not read.
    Other(&'static str),
    /// None was found.
    #[default]
    None,
}

/// An arena, or what corresponds to one. Sizes are those of chunks with their headers: they add up to `system`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arena {
    /// Where its own data lie; 0 where the dump lacks them.
    pub address: u64,
    /// It is the process's first one.
    pub main: bool,
    /// Pieces of memory it has.
    pub heaps: u32,
    /// Bytes of those.
    pub system: u64,
    /// Blocks the program has.
    pub used: Sum,
    /// Free chunks.
    pub free: Sum,
    /// The largest of those, in bytes.
    pub largest: u64,
    /// Chunks in fast bins.
    pub fast: Sum,
    /// Chunks in caches of threads.
    pub cached: Sum,
    /// The end from which new chunks are cut, in bytes.
    pub top: u64,
    /// Bytes of the allocator's own: headers of heaps, fences; and what somebody else took of the break in between.
    pub own: u64,
    /// Bytes of it that could not be read as chunks.
    pub lost: u64,
    /// Bytes `malloc_trim` would give back.
    pub trimmable: u64,
    /// Threads that allocate from it, where the arena says.
    pub threads: Option<u64>,
}

/// Chunks and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds one.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds others.
    pub fn join(&mut self, other: Sum) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes one off.
    pub fn take(&mut self, bytes: u64) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// One comparison of what was read with what the allocator counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Number of the arena; `None` for the whole.
    pub arena: Option<u16>,
    /// What is compared.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in words.
    pub text: String,
}

/// A stretch of memory that the allocator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Number of the arena; [`NO_ARENA`] of a mapping that is one block.
    pub arena: u16,
}

/// The native heaps of a process.
#[derive(Debug, Default)]
pub struct NativeHeaps {
    /// Whose they are.
    pub allocator: Allocator,
    /// Its arenas; blocks have their numbers.
    pub arenas: Vec<Arena>,
    /// Mappings of their own, whole.
    pub mapped: Sum,
    /// How many of those and how many bytes the allocator counts, where that can be read.
    pub mapped_counted: Option<Sum>,
    /// All blocks.
    pub blocks: Blocks,
    /// The memory of arenas and mappings, by address: as many bytes as `system` of all arenas and `mapped`.
    pub memory: Vec<Stretch>,
    /// What was held against what.
    pub checks: Vec<Check>,
    /// Why the answer is not complete; empty when it is.
    pub missing: Vec<String>,
}

impl NativeHeaps {
    fn none(allocator: Allocator) -> Self {
        Self { allocator, ..Self::default() }
    }

    /// All arenas and mappings added up; caches and fast bins are both `cached`.
    pub fn totals(&self) -> Arena {
        let mut t = Arena { system: self.mapped.bytes, used: self.mapped, ..Arena::default() };
        for a in &self.arenas {
            t.heaps += a.heaps;
            t.system += a.system;
            t.largest = t.largest.max(a.largest);
            t.top += a.top;
            t.own += a.own;
            t.lost += a.lost;
            t.trimmable += a.trimmable;
            t.used.join(a.used);
            t.free.join(a.free);
            t.cached.join(a.cached);
            t.cached.join(a.fast);
        }
        t
    }

    /// Why the answer is not complete, in one line.
    pub fn partial(&self) -> Option<String> {
        let failed = self.checks.iter().filter(|c| !c.holds).map(|c| match c.arena {
            Some(n) => format!("arena {n}: {}: {}", c.what, c.text),
            None => format!("{}: {}", c.what, c.text),
        });
        let all: Vec<String> = self.missing.iter().cloned().chain(failed).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Reads the native heaps of `dump`. `taken` are ranges known to belong to somebody else (sorted by start, in any overlap):
/// no block is looked for in them.
pub fn read(dump: &Dump, taken: &[Range], watch: &Watch) -> Result<NativeHeaps, Interrupted> {
    if dump.os != Os::Linux {
        return Ok(NativeHeaps::default());
    }
    let regions = regions::Regions::of(dump, taken);
    let named = foreign::library(dump);
    let glibc = glibc::read(dump, &regions, named.is_some(), watch)?;
    // An arena that never gave a block is no use of this allocator: another one stands in its place.
    let real = |h: &NativeHeaps| !h.blocks.is_empty() && h.arenas.iter().any(|a| a.address != 0);
    if let Some(mut heaps) = glibc {
        if real(&heaps) {
            let also = |name| format!("{name} is there too: its blocks are not read");
            heaps.missing.extend(named.map(also));
            return Ok(heaps);
        }
        // Memory that looks like the main arena's, without the arena itself.
        return Ok(match foreign(dump, &regions, named, watch)? {
            Allocator::None => heaps,
            other => NativeHeaps::none(other),
        });
    }
    if let Some(heaps) = musl::read(dump, &regions, watch)? {
        return Ok(heaps);
    }
    Ok(NativeHeaps::none(foreign(dump, &regions, named, watch)?))
}

/// Another allocator, by the name of its library or by what it keeps.
fn foreign(
    dump: &Dump,
    regions: &regions::Regions,
    named: Option<&'static str>,
    watch: &Watch,
) -> Result<Allocator, Interrupted> {
    let found = match named {
        Some(name) => Some(name),
        None => foreign::by_structure(&dump.space, regions, watch)?,
    };
    Ok(found.map_or(Allocator::None, Allocator::Other))
}
