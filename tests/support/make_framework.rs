//! Dumps of the shape of .NET Framework, built from the tables: no heap of one was at hand. Each has two app domains, a thread
//! in either, and a heap with a few objects.
#![allow(dead_code)]

use std::collections::BTreeMap;

use clrscope::clr::layout::scan::AnchorKind;
use clrscope::clr::layout::tables::Table;
use clrscope::clr::layout::{Layout, Source};

use super::make_minidump::{Mini, MiniModule, MiniThread, X64, X86};
use super::make_mscorwks::{Core, HANDLES, MSCORLIB, MSCORLIB_SIZE, More, PLACES, SECOND};

/// Where everything lies: low enough for pointers of four bytes.
pub const IMAGE: u64 = 0x6F00_0000;
pub const RUNTIME: u64 = 0x2000_0000;
pub const SEGMENT: u64 = 0x3000_0000;
pub const LARGE: u64 = 0x3800_0000;
pub const VERSION: [u16; 4] = [4, 8, 9999, 0];
pub const OS_IDS: [u32; 2] = [0x1234, 0x5678];

/// Memory that is written to, by region.
pub struct Memory {
    regions: BTreeMap<u64, Vec<u8>>,
    pub ptr: u64,
    next: u64,
}

impl Memory {
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        let (start, region) = self.regions.range_mut(..=at).next_back().unwrap();
        let i = (at - start) as usize;
        region[i..i + bytes.len()].copy_from_slice(bytes);
    }

    pub fn word(&mut self, at: u64, v: u64) {
        let bytes = v.to_le_bytes();
        self.put(at, &bytes[..self.ptr as usize]);
    }

    pub fn u32(&mut self, at: u64, v: u32) {
        self.put(at, &v.to_le_bytes());
    }

    pub fn read(&self, at: u64) -> u64 {
        let (start, region) = self.regions.range(..=at).next_back().unwrap();
        let mut bytes = [0; 8];
        let i = (at - start) as usize;
        bytes[..self.ptr as usize].copy_from_slice(&region[i..i + self.ptr as usize]);
        u64::from_le_bytes(bytes)
    }

    /// A structure of `size` bytes among those of the runtime.
    pub fn make(&mut self, size: u64) -> u64 {
        let at = self.next;
        self.next += size.next_multiple_of(16);
        at
    }
}

pub struct Builder {
    pub m: Memory,
    pub l: Layout,
}

impl Builder {
    pub fn at(&self, base: u64, ty: &str, field: &str) -> u64 {
        base + self.l.offset(ty, field).unwrap()
    }

    pub fn field(&mut self, base: u64, ty: &str, field: &str, v: u64) {
        let at = self.at(base, ty, field);
        self.m.word(at, v);
    }

    pub fn half(&mut self, base: u64, ty: &str, field: &str, v: u32) {
        let at = self.at(base, ty, field);
        self.m.u32(at, v);
    }

    /// CLR 2.0: MethodTables with inline vtables.
    fn inline(&self) -> bool {
        self.l.constant("InlineVtables").is_ok()
    }

    /// A MethodTable with its class.
    pub fn type_of(&mut self, flags: u32, size: u32, rid: u32, parent: u64, module: u64) -> u64 {
        const MT: &str = "MethodTable";
        // In front of it is room for what tells where references lie.
        let (mt, class) = (self.m.make(0x100) + 0x40, self.m.make(0x100));
        if self.inline() {
            // The low word is the size of a component; type and module are in the class.
            self.half(
                mt,
                MT,
                "MTFlags",
                if flags & 0x8000_0000 != 0 { flags & 0x3_FFFF | flags >> 5 & 0x8_0000 } else { 0 },
            );
            self.half(mt, MT, "BaseSize", size);
            self.field(mt, MT, "ParentMethodTable", parent);
            self.field(mt, MT, "EEClassOrCanonMT", class);
            self.field(class, "EEClass", "Module", module);
            self.half(class, "EEClass", "Token", 0x0200_0000 | rid);
            self.field(class, "EEClass", "MethodTable", mt);
            return mt;
        }
        self.half(mt, MT, "MTFlags", flags);
        self.half(mt, MT, "BaseSize", size);
        self.half(mt, MT, "MTFlags2", rid << 16);
        self.field(mt, MT, "ParentMethodTable", parent);
        self.field(mt, MT, "Module", module);
        self.field(mt, MT, "EEClassOrCanonMT", class);
        self.field(class, "EEClass", "MethodTable", mt);
        mt
    }

    /// The record of a segment.
    pub fn record(&mut self, segment: u64, first: u64, end: u64) {
        let committed = segment + 0x2000;
        let fields = [("Allocated", end), ("Committed", committed), ("Reserved", committed + 0x1000), ("Mem", first)];
        for (field, v) in fields {
            self.field(segment, "HeapSegment", field, v);
        }
        self.field(segment, "HeapSegment", "Used", end);
    }

    pub fn text(&mut self, text: &str) -> u64 {
        let at = self.m.make(2 * text.len() as u64 + 2);
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.m.put(at, &units);
        at
    }

    /// An `ArrayList` at `list`.
    pub fn list(&mut self, list: u64, items: &[u64]) {
        let first = self.at(list, "ArrayListBase", "FirstBlock");
        self.half(list, "ArrayListBase", "Count", items.len() as u32);
        self.half(first, "ArrayListBlock", "Size", 5);
        let start = self.at(first, "ArrayListBlock", "ArrayStart");
        for (i, &item) in items.iter().enumerate() {
            self.m.word(start + i as u64 * self.m.ptr, item);
        }
    }
}

/// What a dump was given.
pub struct Made {
    pub bytes: Vec<u8>,
    pub strings: Vec<u64>,
    pub domains: [u64; 2],
    pub locked: u64,
    /// Of CLR 2.0: an array of the strings, with the type of its elements in front of them.
    pub array: u64,
    pub more: More,
}

/// A layout of CLR 2.0, with places for what its table leaves to be found.
pub fn with_places(mut l: Layout, ptr: u64) -> Layout {
    if l.constant("InlineVtables").is_ok() {
        for &(ty, field, words) in PLACES {
            l.set_field(ty, field, words * ptr, Source::Calibrated);
        }
    }
    l
}

pub fn build(table: &Table) -> Made {
    build_with(table, with_places(table.layout(), u64::from(table.pointer_size)))
}

/// As [`build`], by another layout than the table's own.
pub fn build_with(table: &Table, l: Layout) -> Made {
    build_as(table, l, false)
}

/// As [`build_with`]; of CLR 2.0 with several heaps, where `server` says so.
pub fn build_as(table: &Table, l: Layout, server: bool) -> Made {
    let ptr = u64::from(table.pointer_size);
    let mut regions = vec![(RUNTIME, 0x2_0000), (SEGMENT, 0x4000), (LARGE, 0x2000), (IMAGE, 0x1_0000)];
    if l.constant("InlineVtables").is_ok() {
        regions.extend([(MSCORLIB, MSCORLIB_SIZE as usize), (HANDLES, 0x1_0000)]);
        regions.extend([(SECOND.0, 0x4000), (SECOND.1, 0x2000)].iter().filter(|_| server));
    }
    let regions = regions.iter().map(|&(at, n)| (at, vec![0; n])).collect();
    let mut b = Builder { m: Memory { regions, ptr, next: RUNTIME + 0x100 }, l };
    b.m.put(IMAGE, b"MZ");

    // Types: the free one has no class; the others are of one module.
    let module = b.m.make(0x800);
    let three = 3 * ptr as u32;
    let free = b.m.make(0x80);
    let inline = b.inline();
    b.half(free, "MethodTable", "MTFlags", if inline { 1 } else { 0x8000_0001 });
    b.half(free, "MethodTable", "BaseSize", three);
    let object = b.type_of(0x200, three, 2, 0, module);
    let base = 2 * ptr as u32 + if inline { 8 } else { 10 };
    let string = b.type_of(0x8000_0002, base, 3, object, module);
    let middle = b.type_of(0x200, three, 4, object, module);
    let runtime_type = b.type_of(0x0100_0200, 2 * three, 5, middle, module);

    // The heap: free blocks where generations begin, strings, an object whose header has the number of its domain and of
    // the thread that locks it.
    let mem = SEGMENT + 0x1000;
    let mut at = mem;
    let mut starts = [0; 3];
    for start in starts.iter_mut().rev() {
        *start = at;
        b.m.word(at, free);
        at += u64::from(three);
    }
    let mut strings = Vec::new();
    for text in ["Framework", "two domains", "x"] {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        b.m.word(at, string);
        // In CLR 2.0 the capacity stands in front of the length.
        b.m.u32(at + ptr, text.len() as u32 + u32::from(inline));
        b.m.u32(at + ptr + if inline { 4 } else { 0 }, text.len() as u32);
        b.m.put(at + ptr + if inline { 8 } else { 4 }, &units);
        strings.push(at);
        at += (2 * ptr + 10 + units.len() as u64).next_multiple_of(ptr);
    }
    let mut array = 0;
    if inline {
        // An array of references: the type of its elements, then these. All behind the base size are references.
        let of_strings = b.type_of(0x8103_0000 | ptr as u32, 4 * ptr as u32, 6, object, module);
        let minus = 0u64.wrapping_sub(4 * ptr);
        b.m.word(of_strings - ptr, 1);
        b.m.word(of_strings - 2 * ptr, 3 * ptr);
        b.m.word(of_strings - 3 * ptr, minus);
        array = at;
        b.m.word(at, of_strings);
        b.m.u32(at + ptr, strings.len() as u32);
        b.m.word(at + 2 * ptr, string);
        for (i, &s) in strings.iter().enumerate() {
            b.m.word(at + (3 + i as u64) * ptr, s);
        }
        at += (4 + strings.len() as u64) * ptr;
    }
    let locked = at;
    b.m.word(at, object);
    b.m.u32(at - 4, 2 << 16 | 1);
    at += u64::from(three);
    let core = Core { module, object, string, middle, runtime_type };
    let mut more = More::default();
    let mut queue = 0;
    if inline {
        b.core_library(&core);
        more = b.more_objects(&mut at, &core, array);
        queue = b.queue(&[more.stream], &[more.dead_stream]);
    }
    b.record(SEGMENT, mem, at);
    b.record(LARGE, LARGE + 0x1000, LARGE + 0x1000 + u64::from(three));
    b.m.word(LARGE + 0x1000, free);

    // Domains, one assembly in each, and threads.
    let shared = b.m.make(0x100);
    let system = b.m.make(0x100);
    let assembly = b.m.make(0x200);
    b.field(assembly, "DomainAssembly", "Module", module);
    let domains = [("DefaultDomain", 1), ("Second", 2)].map(|(name, id)| {
        let domain = b.m.make(0x1800);
        let mut all = vec![assembly];
        if inline {
            all = vec![b.old_domain(domain, id, &core, Some(&more).filter(|_| id == 1), more.empty)];
            all.extend((id == 1).then(|| b.own_module(domain, &core)));
        } else {
            b.half(domain, "AppDomain", "Id", id);
            let text = b.text(name);
            b.field(domain, "AppDomain", "FriendlyName", text);
        }
        let list = b.at(domain, "AppDomain", "DomainAssemblyList");
        b.list(list, &all);
        domain
    });
    let threads = [0, 1].map(|i: usize| {
        let thread = b.m.make(0xA00);
        b.m.word(thread, IMAGE + 0x40);
        b.half(thread, "Thread", "Id", i as u32 + 1);
        b.half(thread, "Thread", "OSId", OS_IDS[i]);
        b.field(thread, "Thread", "AppDomain", domains[i]);
        b.field(thread, "Thread", "Frame", u64::MAX);
        thread
    });
    if inline {
        // Two explicit frames, each of a class of its own.
        let frames = [b.m.make(16), b.m.make(16)];
        for (i, next) in [frames[1], u64::MAX].into_iter().enumerate() {
            b.m.word(frames[i], IMAGE + 0x80 + 0x10 * i as u64);
            b.m.word(frames[i] + ptr, next);
        }
        b.field(threads[0], "Thread", "Frame", frames[0]);
        let context = b.at(threads[0], "Thread", "AllocContext");
        b.m.word(context, more.free.0);
        b.m.word(context + ptr, more.free.1);
    }
    let store = b.m.make(0x200);
    let sync_table = b.m.make(0x100);
    let links = threads.map(|t| b.at(t, "Thread", "LinkNext"));
    let head = b.at(store, "ThreadStore", "FirstThreadLink");
    b.m.word(head, links[0]);
    b.m.word(links[0], links[1]);
    b.m.word(head + 2 * ptr, links[1]);
    b.half(store, "ThreadStore", "ThreadCount", 2);

    // The collector's table of generations.
    let newer = AnchorKind::of(&b.l) == AnchorKind::GcDacVars;
    let (size, start, allocation) = match (newer, ptr) {
        (true, 8) => (0xF0, 0x38, 0x40),
        (true, _) => (0x88, 0x28, 0x2C),
        (false, _) => {
            let o = |f: &str| b.l.offset("Generation", f).unwrap();
            (o("!"), o("StartSegment"), o("AllocationStart"))
        }
    };
    let generations = IMAGE + 0x8000;
    if inline && !server {
        b.generations(generations, (SEGMENT, LARGE), starts);
    }
    for (g, (segment, from)) in
        [(SEGMENT, starts[0]), (SEGMENT, starts[1]), (SEGMENT, starts[2]), (LARGE, LARGE + 0x1000)]
            .iter()
            .enumerate()
            .filter(|_| !inline)
    {
        b.m.word(generations + g as u64 * size + start, *segment);
        b.m.word(generations + g as u64 * size + allocation, *from);
    }

    // Variables, and the slots that lead to them.
    let map = IMAGE + 0x9000;
    let index_list = IMAGE + 0x9100;
    b.list(index_list, &domains);
    let mut heaps = 0;
    if inline {
        b.handles(map, &mut more);
    }
    if server {
        heaps = b.heaps(starts, at, free, queue);
    }
    let mut cell = IMAGE + 0x4000;
    let anchor = IMAGE + 0x2000;
    let slots: Vec<(String, i32)> = b.l.dac_slots.iter().map(|(n, &i)| (n.clone(), i)).collect();
    let mut variable = |b: &mut Builder, v: u64| {
        cell += 16;
        b.m.word(cell, v);
        cell
    };
    for (name, index) in slots {
        let value = match name.as_str() {
            "FreeObjectMethodTable" => free,
            "ObjectMethodTable" => object,
            "StringMethodTable" => string,
            "RuntimeTypeMethodTable" => runtime_type,
            "ThreadStore" => store,
            "FinalizerThread" => threads[0],
            "SystemDomain" => system,
            "SyncTableEntries" => sync_table,
            "SharedDomain" => shared,
            "HeapType" => 1 + u64::from(server),
            "NumHeaps" if server => 2,
            "Heaps" => heaps,
            "GCHeapAllocAllocated" | "GCHeapEphemeralHeapSegment" if server => 0,
            "GCHeapFinalizeQueue" if !server => queue,
            "RuntimeBase" => IMAGE,
            "GCHeapAllocAllocated" => at,
            "GCHeapEphemeralHeapSegment" => SEGMENT,
            _ => 0,
        };
        let place = match name.as_str() {
            "AppDomainIndexList" => index_list,
            "GCHeapGenerationTable" => generations,
            "HandleTableMap" => map,
            _ => variable(&mut b, value),
        };
        b.m.u32(anchor.checked_add_signed(4 * i64::from(index)).unwrap(), (place - IMAGE) as u32);
    }
    if newer {
        let vars = IMAGE + 0x6000;
        let globals = variable(&mut b, vars);
        b.m.u32(anchor, (globals - IMAGE) as u32);
        b.m.word(vars, 1);
        b.m.word(vars + ptr, size);
        for i in 0..27 {
            let place = match i {
                3 => generations,
                26 => map,
                19 | 20 => continue,
                _ => variable(&mut b, [(4, 2), (7, SEGMENT), (12, at)].iter().find(|v| v.0 == i).map_or(0, |v| v.1)),
            };
            b.m.word(vars + (2 + i) * ptr, place);
        }
    }

    let mut mini = Mini::new();
    mini.flags = 2;
    mini.system(if ptr == 8 { X64 } else { X86 }, 2);
    let runtime = MiniModule {
        base: IMAGE,
        size: 0x1_0000,
        name: if inline { "C:\\Windows\\Microsoft.NET\\mscorwks.dll" } else { "C:\\Windows\\Microsoft.NET\\clr.dll" },
        timestamp: 7,
        version: VERSION,
        pdb: "",
    };
    let library = MiniModule {
        base: MSCORLIB,
        size: MSCORLIB_SIZE,
        name: "C:\\Windows\\assembly\\mscorlib.dll",
        timestamp: 8,
        version: VERSION,
        pdb: "",
    };
    let modules = [runtime, library];
    mini.modules(if inline { &modules } else { &modules[..1] });
    let threads: Vec<MiniThread> = OS_IDS.iter().map(|&id| MiniThread { id, ..MiniThread::default() }).collect();
    mini.threads(&threads);
    mini.memory64(b.m.regions.into_iter().collect());
    Made { bytes: mini.finish(), strings, domains, locked, array, more }
}
