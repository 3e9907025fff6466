//! Which stretches of memory are managed code, and whose: the runtime's own map of code ranges.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/codeman.h`. Through 6.0 a variable heads a list of `RangeSection`s; since 8.0 a
//! map of five levels (two with pointers of four bytes) leads to them by the upper bits of an address. Which of the two it
//! is, and whether the variable is the right one, its contents tell: ranges in order, each with a JIT manager (an object of
//! the runtime, its first word in the runtime's image).

use rustc_hash::FxHashSet;

use super::codeheaps::PAGE;
use crate::clr::Clr;
use crate::dump::MapState;

/// Whose code a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// A heap of the JIT; the address of its `HeapList` node.
    Jit(u64),
    /// A precompiled image; the address of its `Module` (of a composite image: of the one that stands for it).
    Image(u64),
    /// Stubs, whose kind a list of ranges tells.
    Stubs,
    /// A program compiled ahead of time.
    Ahead,
}

/// A stretch of managed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeRange {
    /// First address: the base of a precompiled image; what offsets of functions count from.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Whose it is.
    pub kind: RangeKind,
    /// Address of the `RangeSection`.
    pub section: u64,
}

/// The variable of the runtime, by the name the contract descriptor has for it.
const VARIABLE: &str = "ExecutionManagerCodeRangeMapAddress";
/// Bounds, which say so: real processes have 7 to a few thousand ranges; a map's tables hold 256 pointers each.
const MAX_RANGES: usize = 1 << 18;
const MAX_TABLES: usize = 1 << 14;
const MAX_FRAGMENTS: usize = 1 << 20;
/// Largest range: code is reached by distances of 32 bits.
const MAX_RANGE: u64 = 1 << 32;
/// Entries of a table of the map.
const ENTRIES: u64 = 256;

/// Where the fields of a `RangeSection` stand, in pointers.
struct Shape {
    manager: u64,
    flags: u64,
    heap: u64,
    module: u64,
}

/// 2.1 to 7.0: begin, end, manager, next, last used, flags, heap list node or module.
const LISTED: Shape = Shape { manager: 2, flags: 5, heap: 6, module: 6 };
/// The link of the list.
const NEXT: u64 = 3;
/// Since 8.0: begin, end, flags, manager, module, heap list node, list of stub ranges.
const MAPPED: Shape = Shape { manager: 3, flags: 2, heap: 5, module: 4 };

/// `RANGE_SECTION_CODEHEAP`, `RANGE_SECTION_READYTORUN` (through 7.0).
const CODE_HEAP: u32 = 2;

/// The ranges of the process, by address; none and a reason when the map is not found or not in the dump.
pub fn read(clr: &Clr) -> (Vec<CodeRange>, Option<String>) {
    if let Some(ahead) = clr.ahead() {
        let all = ahead.code_ranges().into_iter();
        return (all.map(|(start, end)| CodeRange { start, end, kind: RangeKind::Ahead, section: 0 }).collect(), None);
    }
    let named = clr.layout().global(VARIABLE).ok().and_then(|at| at_variable(clr, at));
    let (mut ranges, why) = match named.or_else(|| search(clr)) {
        Some(found) => found,
        None => return (Vec::new(), Some("the runtime's map of code ranges was not found in the dump".into())),
    };
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    ranges.dedup_by_key(|r| (r.start, r.end));
    (ranges, why)
}

type Found = (Vec<CodeRange>, Option<String>);

/// The map or list whose variable is at `at`.
fn at_variable(clr: &Clr, at: u64) -> Option<Found> {
    map(clr, at).or_else(|| list(clr, clr.space().ptr(at)?))
}

/// Every writable word of the runtime's image that can be the variable; the one with the most ranges is.
fn search(clr: &Clr) -> Option<Found> {
    let (space, ptr) = (clr.space(), clr.header());
    let (mut at, end) = (clr.found.module.base, clr.found.module.end);
    let mut best: Option<Found> = None;
    let writable = |a: u64| clr.dump.map_at(a).is_none_or(|e| e.state == MapState::Commit && e.protect & 0xCC != 0);
    while let Some(from) = space.next_readable(at).filter(|&a| a < end) {
        let Some(run) = space.run(from) else { break };
        let stop = from.saturating_add(run.len() as u64).min(end);
        let mut page = from;
        while page < stop {
            let next = (page & !(PAGE - 1)).saturating_add(PAGE).min(stop);
            if writable(page) {
                for cell in (page.next_multiple_of(ptr)..next).step_by(ptr as usize) {
                    let pointer = space.ptr(cell).filter(|&p| p > 0xFFFF && !clr.found.module.holds(p));
                    // User addresses have 48 bits: of a top table of five levels only the first entry is set.
                    let sparse = || ptr == 4 || (1..8).all(|i| space.ptr_at(cell, i * ptr) == Some(0));
                    let found = pointer.and_then(|p| list(clr, p).or_else(|| sparse().then(|| map(clr, cell))?));
                    if let Some(f) = found.filter(|f| best.as_ref().is_none_or(|b| f.0.len() > b.0.len())) {
                        best = Some(f);
                    }
                }
            }
            page = next;
        }
        at = stop;
    }
    best
}

/// The list that begins with the section at `first`.
fn list(clr: &Clr, first: u64) -> Option<Found> {
    let (mut at, mut ranges) = (first, Vec::new());
    let mut seen = FxHashSet::default();
    let mut why = None;
    while at != 0 {
        if !seen.insert(at) || ranges.len() >= MAX_RANGES {
            why = Some("the list of code ranges runs in a circle".into());
            break;
        }
        match section(clr, at, &LISTED) {
            Some(range) => ranges.push(range),
            // The first section proves the variable; behind it the list breaks off.
            None if ranges.is_empty() => return None,
            None => {
                why = Some(format!("the code range at {at:x} is not in the dump"));
                break;
            }
        }
        at = clr.space().ptr_at(at, NEXT * clr.header()).unwrap_or(0);
    }
    (!ranges.is_empty()).then_some((ranges, why))
}

/// The section at `at`, if it is one.
fn section(clr: &Clr, at: u64, shape: &Shape) -> Option<CodeRange> {
    let (space, ptr) = (clr.space(), clr.header());
    at.is_multiple_of(ptr).then_some(())?;
    let described = |field: &str, own: u64| clr.layout().try_offset("RangeSection", field).unwrap_or(own * ptr);
    let listed = shape.heap == shape.module;
    let place = |field: &str, own: u64| if listed { own * ptr } else { described(field, own) };
    let word = |field: &str, own: u64| space.ptr_at(at, place(field, own));
    let (start, end) = (word("RangeBegin", 0)?, word("RangeEndOpen", 1)?);
    let manager = word("JitManager", shape.manager)?;
    let sized = end.checked_sub(start).is_some_and(|s| s > 0 && s <= MAX_RANGE);
    let plausible = sized && start > 0xFFFF && manager != 0 && manager.is_multiple_of(ptr);
    // An object of the runtime begins with its vtable.
    let object = space.ptr(manager).is_none_or(|vtable| clr.found.module.holds(vtable));
    (plausible && object).then_some(())?;
    let flags = space.u32(at.checked_add(place("Flags", shape.flags))?)?;
    (flags < 0x100).then_some(())?;
    let (heap, module) = (word("HeapList", shape.heap)?, word("R2RModule", shape.module)?);
    let kind = match listed {
        true if module == 0 => return None,
        true if flags & CODE_HEAP != 0 => RangeKind::Jit(heap),
        true => RangeKind::Image(module),
        false if module != 0 => RangeKind::Image(module),
        false if heap != 0 => RangeKind::Jit(heap),
        false => RangeKind::Stubs,
    };
    Some(CodeRange { start, end, kind, section: at })
}

/// A walk through the levels of the map.
struct Map<'a> {
    clr: &'a Clr,
    /// Tables entered.
    tables: usize,
    fragments: usize,
    sections: FxHashSet<u64>,
    ranges: Vec<CodeRange>,
    /// What leads nowhere.
    bad: usize,
    absent: bool,
}

/// The map whose top table is at `top`.
fn map(clr: &Clr, top: u64) -> Option<Found> {
    let wide = clr.ptr_size() == 8;
    let mut map =
        Map { clr, tables: 0, fragments: 0, sections: FxHashSet::default(), ranges: Vec::new(), bad: 0, absent: false };
    map.table(top, if wide { 5 } else { 2 }, 0);
    let proven = !map.ranges.is_empty() && map.bad * 8 <= map.ranges.len();
    let why = (map.bad > 0 || map.absent).then(|| "parts of the map of code ranges are not in the dump".to_owned());
    proven.then_some((map.ranges, why))
}

impl Map<'_> {
    /// Bits below those the lowest level chooses by: 17 of 57, 16 of 32.
    fn leaf_bits(&self) -> u32 {
        if self.clr.ptr_size() == 8 { 17 } else { 16 }
    }

    /// The table at `at` of `level`, whose entries stand for addresses from `base` on.
    fn table(&mut self, at: u64, level: u32, base: u64) {
        self.tables += 1;
        for i in 0..ENTRIES {
            if self.tables > MAX_TABLES || self.hopeless() {
                self.absent = true;
                return;
            }
            let Some(entry) = self.clr.space().ptr_at(at, i * self.clr.header()) else {
                self.absent = true;
                return;
            };
            // The lowest bit marks what is collectible.
            let entry = entry & !1;
            if entry == 0 {
                continue;
            }
            let address = base | i << (self.leaf_bits() + 8 * (level - 1));
            if level > 1 {
                self.table(entry, level - 1, address);
            } else {
                self.fragment(entry, address);
            }
        }
    }

    /// Whether what was seen so far is no map.
    fn hopeless(&self) -> bool {
        self.bad > 8 && self.bad > self.ranges.len()
    }

    /// The fragments from `at` on, which share the addresses from `address` on.
    fn fragment(&mut self, mut at: u64, address: u64) {
        let (space, ptr) = (self.clr.space(), self.clr.header());
        let l = self.clr.layout();
        let place = |field: &str, own: u64| l.try_offset("RangeSectionFragment", field).unwrap_or(own * ptr);
        let (next, of) = (place("Next", 0), place("RangeSection", 3));
        let end = address.saturating_add(1 << self.leaf_bits());
        // A block has few neighbours: a chain that goes on is a circle.
        for _ in 0..ENTRIES {
            self.fragments += 1;
            if at == 0 {
                return;
            }
            if self.fragments > MAX_FRAGMENTS || self.ranges.len() >= MAX_RANGES {
                self.absent = true;
                return;
            }
            let section_at = space.ptr_at(at, of).map(|s| s & !1);
            match section_at {
                Some(s) if self.sections.contains(&s) => {}
                Some(s) => match section(self.clr, s, &MAPPED).filter(|r| r.start < end && r.end > address) {
                    Some(range) if self.ranges.len() < MAX_RANGES => {
                        self.sections.insert(s);
                        self.ranges.push(range);
                    }
                    _ if !space.readable(s) => self.absent = true,
                    _ => self.bad += 1,
                },
                None => self.absent = true,
            }
            match space.ptr_at(at, next) {
                Some(link) => at = link & !1,
                None => {
                    self.absent = true;
                    return;
                }
            }
        }
    }
}
