//! Exception clauses of compiled methods: what is tried, what handles.
//!
//! Layout: JIT code has them at `RealCodeHeader` + a pointer, behind a header (kind and size, to the next pointer), their number a
//! pointer in front of it (dotnet/runtime `src/coreclr/vm/codeman.h`, `EE_ILEXCEPTION`; `inc/corhdr.h`,
//! `IMAGE_COR_ILMETHOD_SECT_EH_CLAUSE_FAT`; `vm/codeman.cpp`, `EEJitManager::InitializeEHEnumeration`). A precompiled image
//! has a table of pairs, start of a method and start of its clauses, whose last entry is a sentinel
//! (`docs/design/coreclr/botr/readytorun-format.md`, `READYTORUN_SECTION_EXCEPTION_INFO`). The same from 3.1 to 11.

use super::jitcode::{self, CodeHeader};
use super::lookup::{Code, CodeAt, CodeKind};
use super::nativeformat::Bytes;
use super::readytorun::{EXCEPTION_INFO, Image, View};
use crate::clr::gathered::Gathered;

/// Most clauses of one method.
const MAX_CLAUSES: u64 = 1 << 14;

/// Flags of a clause (`CorExceptionFlag`, `COR_ILEXCEPTION_CLAUSE_*`).
mod flag {
    pub const FILTER: u32 = 1;
    pub const FINALLY: u32 = 2;
    pub const FAULT: u32 = 4;
    pub const DUPLICATE: u32 = 8;
    /// The type was resolved: its handle stands in place of the token.
    pub const RESOLVED: u32 = 0x1000_0000;
}

/// What a catch clause catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// The type with that handle.
    Type(u64),
    /// The type with that token in the method's module.
    Token(u32),
}

/// Kind of a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClauseKind {
    /// Handles exceptions of a type.
    Catch(Caught),
    /// Handles what code at that offset says it does.
    Filter(u32),
    /// Runs on every way out.
    Finally,
    /// Runs when an exception leaves.
    Fault,
}

/// A clause; offsets count from the start of the method's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its kind.
    pub kind: ClauseKind,
    /// Code that is tried.
    pub tried: std::ops::Range<u32>,
    /// Code that handles.
    pub handler: std::ops::Range<u32>,
    /// A copy of a clause for the handlers nested in what it tries.
    pub duplicate: bool,
}

impl Clause {
    /// Whether it stands for a finally block that was copied to where nothing was thrown: it tries nothing.
    pub fn is_cloned_finally(&self) -> bool {
        self.kind == ClauseKind::Finally
            && self.duplicate
            && self.tried.is_empty()
            && self.tried.start == self.handler.start
    }
}

impl Code<'_> {
    /// The exception clauses of the method `at` is in, in the order in which they are asked.
    pub fn clauses(&self, at: &CodeAt) -> Gathered<Clause> {
        let mut out = Gathered::default();
        let found = match at.kind {
            CodeKind::Jit => self.jit_clauses(at, &mut out),
            CodeKind::ReadyToRun => self.with_image(at.range, |image, view| precompiled(image, view, at, &mut out)),
            CodeKind::Fragile | CodeKind::Ahead | CodeKind::Stub(_) => None,
        };
        if found.is_none() {
            out.because("its exception clauses are not in the dump");
        }
        out
    }

    fn jit_clauses(&self, at: &CodeAt, out: &mut Gathered<Clause>) -> Option<()> {
        let (clr, ptr) = (self.clr(), self.clr().header());
        let CodeHeader::Method(header) = jitcode::header(clr, at.start)? else { return None };
        if header.eh_info == 0 {
            return Some(());
        }
        let space = clr.space();
        let count = u64::from(space.u32(header.eh_info.checked_sub(ptr)?)?);
        let size = clause_size(ptr);
        for i in 0..count.min(MAX_CLAUSES) {
            let place = header.eh_info.checked_add(ptr + i * size)?;
            let word = |n: u64| space.u32(place.checked_add(4 * n)?);
            out.items.push(clause(word, || space.ptr(place.checked_add(type_at(ptr))?))?);
        }
        (count <= MAX_CLAUSES).then_some(())
    }
}

/// Where the type of a clause stands, on 64 bits aligned to its size.
fn type_at(ptr: u64) -> u64 {
    20u64.next_multiple_of(ptr)
}

/// Bytes of a clause with a pointer at its end.
fn clause_size(ptr: u64) -> u64 {
    type_at(ptr) + ptr
}

/// Flags, start and end of what is tried, start and end of the handler, then a union.
fn clause(word: impl Fn(u64) -> Option<u32>, handle: impl Fn() -> Option<u64>) -> Option<Clause> {
    let flags = word(0)?;
    let kind = if flags & flag::FILTER != 0 {
        ClauseKind::Filter(handle().map(|h| h as u32).or_else(|| word(5))?)
    } else if flags & flag::FINALLY != 0 {
        ClauseKind::Finally
    } else if flags & flag::FAULT != 0 {
        ClauseKind::Fault
    } else if flags & flag::RESOLVED != 0 {
        ClauseKind::Catch(Caught::Type(handle()?))
    } else {
        ClauseKind::Catch(Caught::Token(handle().map(|h| h as u32).or_else(|| word(5))?))
    };
    let (tried, handler) = (word(1)?..word(2)?, word(3)?..word(4)?);
    (tried.start <= tried.end && handler.start <= handler.end).then_some(())?;
    Some(Clause { kind, tried, handler, duplicate: flags & flag::DUPLICATE != 0 })
}

/// The clauses of a method of an image: those from its entry of the table up to the next one's.
fn precompiled(image: &Image, view: &View<'_>, at: &CodeAt, out: &mut Gathered<Clause>) -> Option<()> {
    /// Bytes of an entry of the table and of a clause.
    const ENTRY: u32 = 8;
    const CLAUSE: u32 = 24;
    let Some((table, size)) = image.section(EXCEPTION_INFO) else { return Some(()) };
    let method = u32::try_from(at.start.checked_sub(image.base)?).ok()?;
    let entry = |i: u32, word: u32| view.u32(table.checked_add(i.checked_mul(ENTRY)?)?.checked_add(4 * word)?);
    // The last entry is the sentinel.
    let count = (size / ENTRY).saturating_sub(1);
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle, 0)? < method { low = middle + 1 } else { high = middle }
    }
    if low == count || entry(low, 0)? != method {
        return Some(());
    }
    let (first, end) = (entry(low, 1)?, entry(low + 1, 1)?);
    let clauses = end.checked_sub(first)? / CLAUSE;
    for i in 0..clauses.min(MAX_CLAUSES as u32) {
        let place = first.checked_add(i * CLAUSE)?;
        out.items.push(clause(|n| view.u32(place.checked_add(4 * n as u32)?), || None)?);
    }
    (u64::from(clauses) <= MAX_CLAUSES).then_some(())
}
