//! Code the JIT made: from an address to the start of its method, and from there to its header.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/codeman.h` (`HeapList`, `RealCodeHeader`), `vm/nibblemapmacros.h`,
//! `docs/design/datacontracts/ExecutionManager.md` (nibble maps), the same from 2.1 to 11 but for the nibble map, which since
//! 10.0 has pointers for units a method fills.

use super::unwind::{self, Function};
use crate::clr::Clr;

/// Bytes a nibble stands for, and nibbles of a word of the map: a word is a unit of 256 bytes.
const BUCKET: u64 = 32;
const UNIT: u64 = 256;
/// A nibble gives the start in its bucket in steps of so many bytes, from 1.
const STEP: u64 = 4;
/// Largest nibble that is a start; a low nibble above makes the word a pointer.
const MAX_START: u32 = 8;
/// Numbers in place of a header that say what kind of stub the code is.
const MAX_STUB: u64 = 15;
/// Most functions of one method.
const MAX_FUNCTIONS: u32 = 1 << 16;

/// A heap of the JIT as its `HeapList` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitHeap {
    /// First address of code.
    pub start: u64,
    /// One past the last address used.
    pub end: u64,
    /// The address the map counts from.
    pub map_base: u64,
    /// The nibble map.
    pub map: u64,
}

/// What lies in front of compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeHeader {
    /// A stub of that kind (`StubCodeBlockKind`).
    Stub(u8),
    /// A method.
    Method(MethodHeader),
}

/// `RealCodeHeader`, or `CodeHeader` of x86.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodHeader {
    /// Debug information; 0 for none.
    pub debug_info: u64,
    /// Exception clauses; 0 for none.
    pub eh_info: u64,
    /// GC information.
    pub gc_info: u64,
    /// The MethodDesc.
    pub method: u64,
    /// First of its functions (main body, then funclets) and how many there are; 0 where the header has none.
    pub functions: (u64, u32),
}

impl JitHeap {
    /// The heap of the `HeapList` node at `node`.
    pub fn read(clr: &Clr, node: u64) -> Option<Self> {
        let (space, ptr) = (clr.space(), clr.header());
        let word = |field: &str, own: u64| {
            let at = clr.layout().try_offset("CodeHeapListNode", field).unwrap_or(own * ptr);
            space.ptr_at(node, at)
        };
        let heap = JitHeap {
            start: word("StartAddress", 2)?,
            end: word("EndAddress", 3)?,
            map_base: word("MapBase", 4)?,
            map: word("HeaderMap", 5)?,
        };
        (heap.map_base <= heap.start && heap.start <= heap.end && heap.map != 0).then_some(heap)
    }

    fn word(&self, clr: &Clr, unit: u64) -> Option<u32> {
        clr.space().u32(self.map.checked_add(unit.checked_mul(4)?)?)
    }

    /// Whether a word of the map is a pointer: the form since 10.0.
    pub fn has_pointers(&self, clr: &Clr) -> bool {
        let units = (self.end.saturating_sub(self.map_base) / UNIT).min(1 << 20);
        (0..=units).map_while(|u| self.word(clr, u)).any(|w| w & 15 > MAX_START)
    }

    /// The start that nibble `index` (from the front) of the word of `unit` stands for.
    fn start_of(&self, unit: u64, index: u64, word: u32) -> Option<u64> {
        let nibble = word >> (28 - 4 * index) & 15;
        (1..=MAX_START).contains(&nibble).then_some(())?;
        self.map_base.checked_add(unit * UNIT + index * BUCKET + u64::from(nibble - 1) * STEP)
    }

    fn pointer(&self, word: u32) -> Option<u64> {
        let low = word & 15;
        (low > MAX_START).then_some(())?;
        self.map_base.checked_add(u64::from(word & !15) + u64::from(low - 9) * STEP)
    }

    /// The last start in `unit`, up to nibble `last`.
    fn last_in(&self, unit: u64, last: u64, word: u32) -> Option<u64> {
        (0..=last).rev().find_map(|i| self.start_of(unit, i, word))
    }

    /// Start of the code block that `ip` is in. `pointers`: whether the maps of this runtime have pointers.
    pub fn block_start(&self, clr: &Clr, ip: u64, pointers: bool) -> Option<u64> {
        let distance = ip.checked_sub(self.map_base)?;
        let (unit, index) = (distance / UNIT, distance % UNIT / BUCKET);
        let word = self.word(clr, unit)?;
        if let Some(start) = self.pointer(word).filter(|_| pointers) {
            return (start <= ip).then_some(start);
        }
        let own = self.start_of(unit, index, word).filter(|&s| s <= ip);
        let before = || self.last_in(unit, index.checked_sub(1)?, word);
        if let Some(start) = own.or_else(before) {
            return Some(start);
        }
        // With pointers the unit before tells; without, the nearest word that is not zero, which may be far.
        let lowest = if pointers { unit.saturating_sub(1) } else { 0 };
        for u in (lowest..unit).rev() {
            let word = self.word(clr, u)?;
            if let Some(start) = self.pointer(word).filter(|_| pointers) {
                return Some(start);
            }
            if word != 0 {
                return self.last_in(u, UNIT / BUCKET - 1, word);
            }
        }
        None
    }

    /// Starts of the code blocks of the heap, in order, as many as `most`.
    pub fn starts(&self, clr: &Clr, most: usize) -> Vec<u64> {
        let units = (self.end.saturating_sub(self.map_base) / UNIT).min(1 << 22);
        let words = (0..=units).map_while(|u| Some((u, self.word(clr, u)?)));
        let in_word = |(u, w): (u64, u32)| {
            let some = if self.pointer(w).is_some() { 0 } else { UNIT / BUCKET };
            (0..some).filter_map(move |i| self.start_of(u, i, w))
        };
        words.filter(|w| w.1 != 0).flat_map(in_word).take(most).collect()
    }
}

/// What lies in front of the code at `start`: a word that is the kind of a stub, the address of the header, or on x86 the
/// last word of the header itself.
pub fn header(clr: &Clr, start: u64) -> Option<CodeHeader> {
    let (space, ptr) = (clr.space(), clr.header());
    let word = space.ptr(start.checked_sub(ptr)?)?;
    if word <= MAX_STUB {
        return Some(CodeHeader::Stub(word as u8));
    }
    let place = |field: &str, own: u64| clr.layout().try_offset("RealCodeHeader", field).unwrap_or(own);
    let method_at = place("MethodDesc", 3 * ptr);
    let at = |base: u64, functions: bool| {
        let method = space.ptr_at(base, method_at)?;
        is_method(clr, method).then_some(())?;
        let count = || {
            let count = space.u32(base.checked_add(place("NumUnwindInfos", 4 * ptr))?)?;
            let first = base.checked_add(place("UnwindInfos", 4 * ptr + 4))?;
            (count <= MAX_FUNCTIONS).then_some((first, count))
        };
        Some(MethodHeader {
            debug_info: space.ptr_at(base, place("DebugInfo", 0))?,
            eh_info: space.ptr_at(base, place("EHInfo", ptr))?,
            gc_info: space.ptr_at(base, place("GCInfo", 2 * ptr))?,
            method,
            functions: if functions { count().unwrap_or((0, 0)) } else { (0, 0) },
        })
    };
    if clr.ptr_size() == 8 {
        return at(word, true).map(CodeHeader::Method);
    }
    // The header in front of the code, else behind a pointer.
    let own = || at(start.checked_sub(4 * ptr)?, false);
    let real = || at(Some(word).filter(|w| w.is_multiple_of(ptr))?, true);
    own().or_else(real).map(CodeHeader::Method)
}

/// Whether `address` can be a MethodDesc: its chunk names a MethodTable whose class leads back. Those of dynamic methods
/// have no row.
pub fn is_method(clr: &Clr, address: u64) -> bool {
    let aligned = address != 0 && address.is_multiple_of(clr.header());
    let owner = || clr.method_desc(address).map(|md| md.owner).filter(|&o| o != 0);
    // In a mini dump the MethodTable may be missing: the header in front of the code is proof enough then.
    aligned && owner().is_some_and(|o| clr.method_table(o).is_none() || clr.valid_type(o).is_some())
}

/// Whether what is at `address` is certain to be no MethodDesc: in a mini dump chunk or class may be missing.
pub fn is_no_method(clr: &Clr, address: u64) -> bool {
    let refuted = |owner: u64| {
        let classless = clr.method_table(owner).filter(|mt| !clr.mts().has_class(clr.space(), mt));
        owner == 0 || classless.is_none()
    };
    !is_method(clr, address) && clr.method_desc(address).is_some_and(|md| refuted(md.owner))
}

/// The functions of a method: places relative to the start of its range. Each is one entry; only the last has no successor
/// that tells its end where the architecture does not record it.
pub fn functions(clr: &Clr, header: &MethodHeader, base: u64) -> Vec<Function> {
    let (first, count) = header.functions;
    let size = unwind::entry_size(clr.dump.arch);
    let entry = |i: u32| unwind::read(clr, first.checked_add(u64::from(i) * size)?, base);
    (0..count).map_while(entry).collect()
}
