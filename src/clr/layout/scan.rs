//! Finding `GcDacVars` by its shape, and the DAC table around the one cell that points at it.

use super::gcdac::{GcDacVars, GcSource, context_size};
use crate::dump::little_endian;
use crate::dump::{AddressSpace, Dump, Module};

/// A module's span in memory, `.bss` included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First address.
    pub base: u64,
    /// One past the last.
    pub end: u64,
}

impl Span {
    /// The span of `module`.
    pub fn of(module: &Module) -> Self {
        Self { base: module.base, end: module.base.saturating_add(module.size) }
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.base..self.end).contains(&address)
    }
}

/// Calls `each(address, bytes)` for every readable run inside `span`. Heap dumps hold only some pages of an image.
pub fn runs<'s>(space: &'s AddressSpace, span: Span, mut each: impl FnMut(u64, &'s [u8])) {
    let mut at = span.base;
    while let Some(start) = space.next_readable(at).filter(|&a| a < span.end) {
        let Some(run) = space.run(start) else { break };
        let length = run.len().min((span.end - start) as usize);
        space.meter().scan(length as u64);
        each(start, &run[..length]);
        at = start + length as u64;
    }
}

/// Calls `each(address, value)` for every aligned pointer inside `span`.
pub fn each_word(space: &AddressSpace, span: Span, mut each: impl FnMut(u64, u64)) {
    let ptr = u64::from(space.ptr_size());
    runs(space, span, |start, bytes| {
        let skip = start.next_multiple_of(ptr) - start;
        for (i, w) in bytes.get(skip as usize..).unwrap_or(&[]).chunks_exact(ptr as usize).enumerate() {
            each(start + skip + i as u64 * ptr, little_endian(w));
        }
    });
}

/// Most addresses of one search.
const MOST: usize = 4096;

/// Words equal to `value`, a block at a time: images are megabytes, hits are few.
fn equal<const N: usize>(words: &[[u8; N]], value: &[u8; N], start: u64, found: &mut Vec<u64>) {
    const BLOCK: usize = 256;
    for (b, block) in words.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |any, w| any | (w == value)) {
            let hits = block.iter().enumerate().filter(|(_, w)| *w == value);
            found
                .extend(hits.map(|(i, _)| start + ((b * BLOCK + i) * N) as u64).take(MOST.saturating_sub(found.len())));
        }
    }
}

/// Addresses of all aligned words of `size` bytes equal to `value`.
pub fn words_equal(space: &AddressSpace, span: Span, size: usize, value: u64) -> Vec<u64> {
    let mut found = Vec::new();
    runs(space, span, |start, bytes| {
        let skip = start.next_multiple_of(size as u64) - start;
        let bytes = bytes.get(skip as usize..).unwrap_or(&[]);
        let start = start + skip;
        if size == 8 {
            let value = value.to_le_bytes();
            equal(bytes.as_chunks::<8>().0, &value, start, &mut found);
        } else {
            let value = (value as u32).to_le_bytes();
            equal(bytes.as_chunks::<4>().0, &value, start, &mut found);
        }
    });
    found
}

/// Pointers behind the header: version, generation size, and since .NET 5 the number of generations. The last one, the map of
/// handle tables, came after 2.0 (dotnet/coreclr v2.0 `src/gc/gcinterface.dacvars.def` has 26).
const POINTERS: u64 = 27;
/// At least this many of the pointers are set in any flavour (server GC sets eight).
const MIN_SET: usize = 6;

/// All structs of the shape of `GcDacVars` in `span`; the first are those whose address the image holds, as it does that of the
/// collector's own (`g_gcDacGlobals`).
///
/// Shape (dotnet/runtime `gcinterface.dacvars.def`): two version bytes in an otherwise zero word; the size of a generation, a
/// multiple of the pointer size; from .NET 5 the number of generations; then 27 pointers, each null or inside **one**
/// module: the runtime's own or that of a standalone GC.
pub fn find_gc_dac_vars(dump: &Dump, span: Span) -> Vec<GcDacVars> {
    let ptr = u64::from(dump.space.ptr_size());
    let mut found = Vec::new();
    let mut candidates = Vec::new();
    let mut before = (0, u64::MAX);
    each_word(&dump.space, span, |at, value| {
        let versioned = at.checked_sub(ptr) == Some(before.0) && plausible_version(before.1);
        if versioned && plausible_size(value, ptr) && candidates.len() < 1 << 16 {
            candidates.push(before.0);
        }
        before = (at, value);
    });
    for at in candidates {
        if let Some(gc) = read_gc_dac_vars(dump, at, span) {
            found.push(gc);
        }
    }
    if let [first, .., last] = found.as_slice() {
        // All at once: a damaged image may be full of them.
        let (range, mut led) = (first.address..=last.address, vec![false; found.len()]);
        each_word(&dump.space, span, |_, value| {
            let known = range.contains(&value).then(|| found.binary_search_by_key(&value, |gc| gc.address).ok());
            if let Some(led) = known.flatten().and_then(|i| led.get_mut(i)) {
                *led = true;
            }
        });
        let (mut all, others): (Vec<_>, Vec<_>) = found.into_iter().zip(led).partition(|f| f.1);
        all.extend(others);
        return all.into_iter().map(|f| f.0).collect();
    }
    found
}

/// Major version above zero, minor version, nothing else. Which versions are believed is asked later: one that is not
/// known is to be named.
fn plausible_version(word: u64) -> bool {
    word & 0xFF != 0 && word >> 16 == 0
}

/// A generation begins with its allocation context, its first segment and where allocation in it began.
fn plausible_size(word: u64, ptr: u64) -> bool {
    word.is_multiple_of(ptr) && (context_size(ptr) + 2 * ptr..0x1000).contains(&word)
}

/// The struct at `at`, if it is one; `image` is where the collector lies.
pub fn read_gc_dac_vars(dump: &Dump, at: u64, image: Span) -> Option<GcDacVars> {
    let space = &dump.space;
    let ptr = u64::from(space.ptr_size());
    let get = |index: u64| space.ptr_at(at, index * ptr);
    let has_count = (4..=6).contains(&get(2)?);
    let first = if has_count { 3 } else { 2 };
    let pointers: Vec<u64> = (0..POINTERS).map(|i| get(first + i)).collect::<Option<_>>()?;
    let (&map, named_by_all) = pointers.split_last()?;
    let set: Vec<u64> = named_by_all.iter().copied().filter(|&p| p != 0).collect();
    let home = *set.first()?;
    let module = if image.contains(home) { image } else { Span::of(dump.module_at(home)?) };
    if set.len() < MIN_SET || !set.iter().all(|&p| module.contains(p)) {
        return None;
    }
    // Each is the address of another variable. A table of callbacks behind a counter has the rest of the shape: in libcoreclr of
    // 10.0.14 a counter that reads 0x20 or 0x40 now and then, with 2 in front of it.
    let mut different = set.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() != set.len() {
        return None;
    }
    // Behind the 26 pointers of 2.0 lies what comes next in the image: often the cell that leads back to the struct.
    let size = (first + POINTERS) * ptr;
    let has_map = map == 0 || module.contains(map) && !(at..at.saturating_add(size)).contains(&map);
    let version = get(0)?;
    let mut gc = named(if has_map { &pointers } else { named_by_all });
    gc.address = at;
    gc.source = GcSource::Struct;
    (gc.major, gc.minor) = (version as u8, (version >> 8) as u8);
    gc.generation_size = get(1)?;
    gc.generation_count = if has_count { get(2)? as u32 } else { 4 };
    if gc.max_gen.and_then(|a| space.u32(a)).is_some_and(|n| n != 2) {
        return None;
    }
    if !(gc.is_server() || gc.generation_table.is_some()) {
        return None;
    }
    let size = context_size(ptr) as i32;
    gc.generation_field_offsets = [0, size, size + ptr as i32];
    if has_map {
        newer(&mut gc, space, module, |i| get(first + POINTERS + i));
    }
    Some(gc)
}

/// The pointers by their place in `gcinterface.dacvars.def`, counted from `build_variant`.
fn named(p: &[u64]) -> GcDacVars {
    let at = |i: usize| p.get(i).copied().filter(|&v| v != 0);
    GcDacVars {
        built_with_svr: at(1),
        generation_table: at(3),
        max_gen: at(4),
        ephemeral_heap_segment: at(7),
        alloc_allocated: at(12),
        oom_info: at(14),
        finalize_queue: at(15),
        n_heaps: at(19),
        g_heaps: at(20),
        gc_structures_invalid_cnt: at(21),
        handle_table_map: at(26),
        ..GcDacVars::default()
    }
}

/// Indexes of `gc_heap_field_offsets` (dotnet/runtime `dac_gcheap_fields.h`): 22 since .NET 8, fewer before.
const HEAP_FIELDS: u64 = 22;

/// What came after the handle table map: each counts only if it points into the same module, because the struct ends
/// earlier in older versions and other data follows.
fn newer(gc: &mut GcDacVars, space: &AddressSpace, module: Span, get: impl Fn(u64) -> Option<u64>) {
    let ptr = u64::from(space.ptr_size());
    let size = context_size(ptr) as i32;
    let pointer = |i| get(i).filter(|&p| module.contains(p));
    let words = |at: u64, n: u64| (0..n).map_while(|i| Some(space.u32(at.checked_add(4 * i)?)? as i32)).collect();
    let Some(generation) = pointer(1) else { return };
    let offsets: Vec<i32> = words(generation, 3);
    // The generation starts with its allocation context; anything else is not this array.
    if let [context, start, allocation_start] = offsets[..]
        && context == 0
        && start == size
    {
        gc.generation_field_offsets = [context, start, allocation_start];
    } else {
        return;
    }
    if let Some(heap) = pointer(0) {
        gc.gc_heap_field_offsets = words(heap, HEAP_FIELDS);
    }
    gc.bookkeeping_start = pointer(2);
    gc.free_regions = pointer(5);
    gc.dynamic_adaptation_mode = if gc.minor >= 4 { pointer(10) } else { None };
    // Not the address of a variable but its value: the descriptor of the collector in use.
    gc.descriptor = if gc.minor >= 6 { pointer(11) } else { None };
}

/// What the slots of a DAC table are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorKind {
    /// The slot of the cell that holds the address of `GcDacVars` (2.0 and later, .NET Framework 4.8).
    GcDacVars,
    /// The slot of the cell that holds the MethodTable of free blocks, where there is no such struct.
    FreeObject,
}

impl AnchorKind {
    /// The kind that `layout` counts from.
    pub fn of(layout: &super::Layout) -> Self {
        match layout.text("DacAnchor") {
            Some("FreeObjectMethodTable") => Self::FreeObject,
            _ => Self::GcDacVars,
        }
    }
}

/// Where the DAC table may be anchored: slots that hold the cell which holds the address of GcDacVars, or the type of free
/// blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// What it is the slot of.
    pub kind: AnchorKind,
    /// Address of the slot.
    pub slot: u64,
    /// Bytes of a slot: pointers (7.0 and later) or 32-bit RVAs.
    pub slot_size: u64,
    /// Base for RVAs.
    pub base: u64,
}

impl Anchor {
    /// Address stored in the slot `index` away.
    pub fn get(&self, space: &AddressSpace, index: i32) -> Option<u64> {
        let at = self.slot.checked_add_signed(i64::from(index).checked_mul(self.slot_size as i64)?)?;
        if self.slot_size == 4 && (space.ptr_size() == 8 || self.base != 0) {
            return Some(self.base.checked_add(u64::from(space.u32(at)?))?).filter(|&a| a != self.base);
        }
        space.ptr(at).filter(|&a| a != 0)
    }
}

/// Most cells that hold the address of one struct: there is one, and what else has its value by chance.
const MOST_CELLS: usize = 16;
/// Most slots that hold the address of one cell.
const MOST_SLOTS: usize = 16;

/// All anchors for a struct at `vars`: with pointer-sized slots first, then with RVAs.
fn anchors(space: &AddressSpace, image: Span, vars: u64) -> Vec<Anchor> {
    let ptr = usize::from(space.ptr_size());
    let kind = AnchorKind::GcDacVars;
    let mut found = Vec::new();
    for cell in words_equal(space, image, ptr, vars).into_iter().take(MOST_CELLS) {
        let slots = |size: usize, value: u64| words_equal(space, image, size, value).into_iter().take(MOST_SLOTS);
        found.extend(slots(ptr, cell).map(|slot| Anchor { kind, slot, slot_size: ptr as u64, base: 0 }));
        let rva = cell - image.base;
        found.extend(slots(4, rva).map(|slot| Anchor { kind, slot, slot_size: 4, base: image.base }));
    }
    found
}

/// All anchors by whatever named the collector's variables. A struct of a version that is not known still is where the DAC
/// table leads.
pub fn anchors_of(space: &AddressSpace, image: Span, gc: &GcDacVars) -> Vec<Anchor> {
    match gc.refused.map_or(gc.address, |r| r.0) {
        _ if gc.source == GcSource::DacTable => free_anchors(space, image),
        0 => Vec::new(),
        vars => anchors(space, image, vars),
    }
}

/// All anchors by the type of free blocks: cells that lead to a MethodTable of components of one byte, base size of three
/// pointers, without parent and class (its shape in every version: dotnet/coreclr `src/vm/appdomain.cpp`,
/// `SystemDomain::LoadBaseSystemClasses`), then the slots that hold such a cell's RVA.
pub fn free_anchors(space: &AddressSpace, image: Span) -> Vec<Anchor> {
    let ptr = u64::from(space.ptr_size());
    let is_free = |mt: u64| {
        let (flags, size) = (space.u32(mt)?, space.u32(mt.checked_add(4)?)?);
        // Behind 16 bytes of numbers: parent, module, writeable data, class.
        let (parent, class) = (space.ptr_at(mt, 16)?, space.ptr_at(mt, 16 + 3 * ptr)?);
        (flags & 0xFFFF == 1 && u64::from(size) == 3 * ptr && parent == 0 && class == 0).then_some(())
    };
    let mut cells = Vec::new();
    each_word(space, image, |at, value| {
        let pointer = value > 0x1_0000 && value.is_multiple_of(ptr) && !image.contains(value);
        if pointer && cells.len() < MOST_CELLS && is_free(value).is_some() {
            cells.push(at);
        }
    });
    let slots = |cell: u64| words_equal(space, image, 4, cell - image.base).into_iter().take(MOST_SLOTS);
    let anchor = |slot| Anchor { kind: AnchorKind::FreeObject, slot, slot_size: 4, base: image.base };
    cells.into_iter().flat_map(|c| slots(c).map(anchor)).collect()
}
