//! What each range of the process's memory is used for.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::module_name;
use crate::dump::{Dump, MapEntry, MapState, MapType, Os};
use crate::native::heaps::regions::{Range, readable};
use crate::native::heaps::windows;
use crate::session::ranges::ManagedRange;
use crate::shell::digits;

/// The words of the usage column. Those of a native debugger where it has one.
pub mod word {
    /// Not mapped.
    pub const FREE: &str = "Free";
    /// Mapped, and nothing more is known.
    pub const UNKNOWN: &str = "<unknown>";
    /// An executable image.
    pub const IMAGE: &str = "Image";
    /// A thread's stack, with what is reserved for it.
    pub const STACK: &str = "Stack";
    /// A heap of the operating system's allocator.
    pub const HEAP: &str = "Heap";
    /// The memory a Linux process has from `brk`.
    pub const BRK: &str = "[heap]";
    /// Thread environment block.
    pub const TEB: &str = "TEB";
    /// Process environment block.
    pub const PEB: &str = "PEB";
    /// A mapped file or shared memory.
    pub const FILE: &str = "MappedFile";
}

/// Whose a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Told by the map entry alone.
    Entry,
    /// Index into the managed ranges.
    Managed(u32),
    /// Index into [`Dump::threads`].
    Thread(u32),
    /// Handle of an operating system heap.
    Heap(u64),
}

/// A part of one map entry with one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRange {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Index into [`Dump::map`].
    pub entry: usize,
    /// What it is used for: one of [`word`] or [`ManagedRange::what`].
    pub usage: &'static str,
    /// Whose it is.
    pub owner: Owner,
}

impl UsageRange {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }
}

/// A claim on a range; the lowest rank wins where claims overlap.
#[derive(Debug, Clone, Copy)]
struct Claim {
    start: u64,
    end: u64,
    rank: u8,
    usage: &'static str,
    owner: Owner,
}

/// Cuts the map at the bounds of what is known to be used for something. The sizes add up to those of the map, byte for
/// byte; free ranges stay whole. `managed` need not be sorted.
pub fn classify(dump: &Dump, managed: &[ManagedRange]) -> Vec<UsageRange> {
    let mut claims: Vec<Claim> =
        managed.iter().enumerate().map(|(i, m)| claim(m.start, m.end, 0, m.what, Owner::Managed(i as u32))).collect();
    claims.extend(thread_claims(dump));
    match dump.os {
        Os::Windows => {
            claims.extend(windows_claims(dump));
            claims.extend(gc_claims(dump, managed));
        }
        Os::Linux => {
            claims.extend(brk(dump));
            claims.extend(arenas(dump));
            claims.extend(gc_neighbours(dump, managed));
        }
    }
    let claims = resolve(claims);
    let mut out: Vec<UsageRange> = Vec::with_capacity(dump.map.len() + claims.len());
    let mut next = 0;
    for (index, entry) in dump.map.iter().enumerate() {
        while claims.get(next).is_some_and(|c| c.end <= entry.start) {
            next += 1;
        }
        cut(index, entry, claims.get(next..).unwrap_or(&[]), &mut out);
    }
    out
}

fn claim(start: u64, end: u64, rank: u8, usage: &'static str, owner: Owner) -> Claim {
    Claim { start, end, rank, usage, owner }
}

/// Appends the parts of one entry; `claims` are disjoint, sorted and begin with the first that may reach into it.
fn cut(index: usize, entry: &MapEntry, claims: &[Claim], out: &mut Vec<UsageRange>) {
    let plain = base_usage(entry);
    let mut push = |start: u64, end: u64, usage, owner| {
        if start < end {
            out.push(UsageRange { start, end, entry: index, usage, owner });
        }
    };
    let mut at = entry.start;
    if entry.state != MapState::Free {
        for c in claims.iter().take_while(|c| c.start < entry.end) {
            let (start, end) = (c.start.max(at), c.end.min(entry.end));
            push(at, start, plain, Owner::Entry);
            push(start, end, c.usage, c.owner);
            at = at.max(end);
        }
    }
    push(at, entry.end, plain, Owner::Entry);
}

/// What the map alone says.
fn base_usage(e: &MapEntry) -> &'static str {
    match e.state {
        MapState::Free => word::FREE,
        _ if e.module.is_some() || e.kind == MapType::Image => word::IMAGE,
        _ if e.file.is_some() || e.kind == MapType::Mapped => word::FILE,
        _ => word::UNKNOWN,
    }
}

/// Disjoint claims, sorted; where several overlap the one of the lowest rank stays.
fn resolve(mut claims: Vec<Claim>) -> Vec<Claim> {
    claims.retain(|c| c.start < c.end);
    let mut points: Vec<(u64, bool, usize)> = Vec::with_capacity(claims.len() * 2);
    for (i, c) in claims.iter().enumerate() {
        points.push((c.start, true, i));
        points.push((c.end, false, i));
    }
    points.sort_unstable();
    let mut active: BTreeSet<(u8, usize)> = BTreeSet::new();
    let mut out: Vec<Claim> = Vec::with_capacity(claims.len());
    let mut at = 0;
    for (address, opens, i) in points {
        if let Some(best) = active.first().and_then(|(_, b)| claims.get(*b))
            && address > at
        {
            match out.last_mut() {
                Some(last) if last.end == at && last.usage == best.usage && last.owner == best.owner => {
                    last.end = address;
                }
                _ => out.push(Claim { start: at, end: address, ..*best }),
            }
        }
        at = address;
        let key = (claims.get(i).map_or(0, |c| c.rank), i);
        if opens {
            active.insert(key);
        } else {
            active.remove(&key);
        }
    }
    out
}

/// Stacks and thread environment blocks.
fn thread_claims(dump: &Dump) -> Vec<Claim> {
    let teb_size = if dump.arch.pointer_size() == 8 { 0x2000 } else { 0x1000 };
    let mut out = Vec::new();
    for (i, t) in dump.threads.iter().enumerate() {
        let owner = Owner::Thread(i as u32);
        if let Some(teb) = t.teb.filter(|&a| a != 0) {
            out.push(claim(teb, teb.saturating_add(teb_size), 1, word::TEB, owner));
        }
        let sp = t.registers.as_ref().map(|r| r.sp);
        let range = match (dump.os, t.stack) {
            // The whole allocation: reserved and guard pages belong to the stack.
            (Os::Windows, stack) => {
                stack.map(|s| s.1.saturating_sub(1)).or(sp).and_then(|a| dump.allocation(a)).or(stack)
            }
            (Os::Linux, stack) => stack.map(|(low, high)| (low - guard(dump, low), high)),
        };
        if let Some((start, end)) = range {
            out.push(claim(start, end, 2, word::STACK, owner));
        }
    }
    out
}

/// Guards are a page or two by default (glibc, musl); what lies below a stack and is longer has neighbours.
const MOST_GUARD: u64 = 64 << 10;

/// Bytes of the guard below the stack that begins at `low`: memory nobody may touch, where the dump lists it.
fn guard(dump: &Dump, low: u64) -> u64 {
    let below =
        low.checked_sub(1).and_then(|a| dump.map_at(a)).filter(|e| e.state == MapState::Reserve && e.end == low);
    let page = dump.process.page_size.max(0x1000);
    below.map(|e| low - e.start).map_or(0, |size| if size <= MOST_GUARD { size } else { page.min(size) })
}

/// The rest of the allocations that hold GC segments: what is reserved there, and what is committed without being a
/// segment (card tables, mark arrays, regions given back but not decommitted).
fn gc_claims(dump: &Dump, managed: &[ManagedRange]) -> Vec<Claim> {
    let mut out = Vec::new();
    let mut seen = FxHashSet::default();
    for m in managed.iter().filter(|m| m.what == "GCHeap") {
        let Some(base) = dump.map_at(m.start).map(|e| e.allocation_base).filter(|b| seen.insert(*b)) else { continue };
        let first = dump.map.partition_point(|e| e.end <= base);
        let own = dump.map.get(first..).unwrap_or(&[]).iter().take_while(|e| e.allocation_base == base);
        for e in own.filter(|e| e.state != MapState::Free) {
            let what = if e.state == MapState::Reserve { "GCHeapReserve" } else { "GCBookkeeping" };
            out.push(claim(e.start, e.end, 4, what, Owner::Entry));
        }
    }
    out
}

/// Reserved ranges of a Linux process that a GC segment or its reserve ends at or begins behind: a core has no allocation
/// bases, and the collector reserves its ranges whole.
fn gc_neighbours(dump: &Dump, managed: &[ManagedRange]) -> Vec<Claim> {
    let mut ends: Vec<u64> =
        managed.iter().filter(|m| m.what.starts_with("GCHeap")).flat_map(|m| [m.start, m.end]).collect();
    ends.sort_unstable();
    let touched = |e: &MapEntry| {
        let first = ends.partition_point(|&a| a < e.start);
        ends.get(first).is_some_and(|&a| a <= e.end)
    };
    let reserved = dump.map.iter().filter(|e| e.state == MapState::Reserve && touched(e));
    reserved.map(|e| claim(e.start, e.end, 4, "GCHeapReserve", Owner::Entry)).collect()
}

/// Size and alignment of the heaps of glibc's further arenas in a 64-bit process: `HEAP_MAX_SIZE`, glibc 2.x
/// `malloc/arena.c`.
const ARENA: u64 = 64 << 20;

/// The heaps of glibc's malloc arenas: each begins with `heap_info` (`ar_ptr`, `prev`, `size`, `mprotect_size`).
fn arenas(dump: &Dump) -> Vec<Claim> {
    if dump.arch.pointer_size() != 8 {
        return Vec::new();
    }
    let space = &dump.space;
    let is_arena = |start: u64| {
        let (Some(arena), Some(previous)) = (space.ptr(start), space.ptr_at(start, 8)) else { return false };
        let (size, usable) = (space.ptr_at(start, 16).unwrap_or(0), space.ptr_at(start, 24).unwrap_or(0));
        // The first heap of an arena holds the arena itself, right behind its heap_info.
        let near = if previous == 0 { arena.wrapping_sub(start) <= 0x80 } else { previous.is_multiple_of(ARENA) };
        near && arena != 0 && size != 0 && size.is_multiple_of(0x1000) && size <= usable && usable <= ARENA
    };
    // A heap may begin inside an entry: neighbouring mappings of one protection are one in a core.
    let anonymous = dump.map.iter().filter(|e| e.file.is_none() && e.module.is_none() && e.state == MapState::Commit);
    let ranges: Vec<Range> = anonymous.map(|e| (e.start, e.end)).collect();
    let starts = readable(space, &ranges).flat_map(|(start, end)| {
        let first = start.checked_next_multiple_of(ARENA).unwrap_or(end);
        (first..end).step_by(ARENA as usize)
    });
    starts
        .filter(|&start| is_arena(start))
        .map(|start| claim(start, start.saturating_add(ARENA), 3, word::HEAP, Owner::Heap(start)))
        .collect()
}

/// Process environment block and heaps.
fn windows_claims(dump: &Dump) -> Vec<Claim> {
    let Some(peb) = windows::peb(dump) else { return Vec::new() };
    let mut out = vec![claim(peb, peb.saturating_add(0x1000), 1, word::PEB, Owner::Entry)];
    for h in windows::list(dump) {
        out.extend(h.memory.iter().map(|r| claim(r.0, r.1, 3, word::HEAP, Owner::Heap(h.address))));
    }
    out
}

/// Auxiliary vector tag of the program's entry point.
const AT_ENTRY: u64 = 9;
/// How far above the program's end the kernel puts the start of the heap at most: 1 GiB on arm64, 32 MiB on x64.
/// Source: torvalds/linux v6.6 `arch/arm64/kernel/process.c` and `arch/x86/kernel/process.c`, `arch_randomize_brk`.
const BRK_REACH: u64 = 1 << 30;

/// The `brk` heap of a Linux process: the first run of anonymous writable memory above the program.
fn brk(dump: &Dump) -> Option<Claim> {
    let entry = dump.auxv.iter().find(|(tag, _)| *tag == AT_ENTRY)?.1;
    let program = dump.module_at(entry)?;
    let from = program.base.checked_add(program.size)?;
    let first = dump.map.partition_point(|e| e.start < from);
    let above = dump.map.get(first..)?;
    let heap = |e: &&MapEntry| e.file.is_none() && e.module.is_none() && e.protect & 0x04 != 0;
    let start = above.iter().take_while(|e| e.start - from < BRK_REACH && e.module.is_none()).position(|e| heap(&e))?;
    let mut run = above.get(start..)?.iter().take_while(heap);
    let first = run.next()?;
    let mut end = first.end;
    for e in run {
        if e.start != end {
            break;
        }
        end = e.end;
    }
    Some(claim(first.start, end, 3, word::BRK, Owner::Entry))
}

/// What a range is exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail<'a> {
    /// What the runtime says of it (`heap 0 Generation2`).
    pub managed: Option<&'a str>,
    /// Whose stack or block it is: number of the thread in the dump and operating system id.
    pub thread: Option<(u32, u64)>,
    /// Process id, of ranges that belong to the process or a thread.
    pub pid: Option<u64>,
    /// Handle of the heap of the operating system it belongs to.
    pub heap: Option<u64>,
    /// The name of the module that is mapped there.
    pub module: Option<String>,
    /// The path of the module or file that is mapped there.
    pub path: Option<&'a str>,
}

impl Detail<'_> {
    /// As the native debugger's region list puts it: `[~3; 1f4.2a0]`, `[coreclr; "path"]`; empty when there is nothing to
    /// say.
    pub fn text(&self) -> String {
        let pid = self.pid.unwrap_or(0);
        match (self.managed, self.thread, self.heap, &self.module, self.path) {
            (Some(m), ..) => format!("[{m}]"),
            (_, Some((i, id)), ..) => format!("[~{i}; {pid:x}.{id:x}]"),
            (_, _, Some(handle), ..) => format!("[Handle: {handle:0w$x}]", w = digits()),
            (_, _, _, Some(m), path) => format!("[{m}; \"{}\"]", path.unwrap_or("")),
            (_, _, _, None, Some(file)) => format!("\"{file}\""),
            _ => self.pid.map_or_else(String::new, |p| format!("[{p:x}]")),
        }
    }
}

/// What a range is exactly.
pub fn detail<'a>(dump: &'a Dump, managed: &'a [ManagedRange], range: &UsageRange) -> Detail<'a> {
    let mut d = Detail::default();
    let Some(entry) = dump.map.get(range.entry) else { return d };
    let pid = Some(dump.process.pid.unwrap_or(0));
    match range.owner {
        Owner::Managed(i) => {
            d.managed = managed.get(i as usize).map(|m| m.detail.as_str()).filter(|t| !t.is_empty());
        }
        Owner::Thread(i) => {
            d.thread = Some((i, dump.threads.get(i as usize).map_or(0, |t| t.os_id)));
            d.pid = pid;
        }
        Owner::Heap(handle) => d.heap = Some(handle),
        Owner::Entry if range.usage == word::PEB => d.pid = pid,
        Owner::Entry => match entry.module.and_then(|i| dump.modules.get(i as usize)) {
            Some(m) => (d.module, d.path) = (Some(module_name(m)), Some(m.path.as_str())),
            None => d.path = entry.file.as_deref(),
        },
    }
    d
}
