//! What dumps of the shape of CLR 2.0 have beyond those of its successors' shape: a core library with metadata, fields,
//! instantiations, handles, a finalizer's queue, several heaps.
#![allow(dead_code)]

use super::make_framework::{Builder, LARGE, SEGMENT};
use super::make_image::{self, Type};

pub const MSCORLIB: u64 = 0x5000_0000;
pub const MSCORLIB_SIZE: u32 = 0x4000;
pub const HANDLES: u64 = 0x2800_0000;
/// The second heap's segments, where there is one.
pub const SECOND: (u64, u64) = (0x3100_0000, 0x3900_0000);
const PATH: &str = "C:\\Windows\\assembly\\mscorlib.dll";

/// The types of its core library, from row 2 on.
const TYPES: &[Type<'_>] = &[
    Type { space: "System", name: "Object", fields: &[], params: 0 },
    Type {
        space: "System",
        name: "String",
        fields: &["m_arrayLength", "m_stringLength", "m_firstChar", "Empty"],
        params: 0,
    },
    Type { space: "System.Reflection", name: "MemberInfo", fields: &[], params: 0 },
    Type { space: "System", name: "RuntimeType", fields: &[], params: 0 },
    Type { space: "System.Collections.Generic", name: "List`1", fields: &["_items"], params: 1 },
    Type { space: "System", name: "Int32", fields: &["m_value"], params: 0 },
    Type { space: "System.IO", name: "FileStream", fields: &["count", "last", "mine"], params: 0 },
];

/// Places for what its tables leave to be found, in words.
pub const PLACES: &[(&str, &str, u64)] = &[
    ("ThreadStore", "FirstThreadLink", 9),
    ("ThreadStore", "ThreadCount", 12),
    ("Thread", "LinkNext", 40),
    ("Thread", "OSId", 60),
    ("Thread", "AppDomain", 90),
    ("Thread", "AllocContext", 30),
    ("AppDomain", "FriendlyName", 260),
    ("AppDomain", "ModuleSlots", 301),
    ("AppDomain", "ModuleSlotCount", 302),
    ("AppDomain", "DomainAssemblyList", 200),
    ("Generation", "!", 21),
    ("Generation", "StartSegment", 9),
    ("Generation", "AllocationStart", 10),
    ("Module", "PEAssembly", 1),
    ("Module", "TypeDefToMethodTableMap", 70),
    ("Module", "DomainLocalModule", 150),
    ("PEImage", "Path", 14),
    ("PEImage", "LoadedImageLayout", 27),
    ("HandleTable", "SegmentList", 30),
    ("FinalizeQueue", "Array", 0),
    ("FinalizeQueue", "FillPointers", 1),
    ("FinalizeQueue", "End", 7),
    ("EEClass", "ArrayElement", 24),
    ("GCHeap", "AllocAllocated", 5),
    ("GCHeap", "EphemeralHeapSegment", 7),
    ("GCHeap", "FinalizeQueue", 9),
    ("GCHeap", "GenerationTable", 40),
];

/// Numbers and names of its app domains.
pub const DOMAINS: [(u32, &str); 2] = [(1, "app.exe"), (7, "Second")];
/// Where among a module's statics the number of streams is.
const STREAM_COUNT: u32 = 0x80;

/// Types of the core library that others need.
#[derive(Clone, Copy)]
pub struct Core {
    pub module: u64,
    pub object: u64,
    pub string: u64,
    pub middle: u64,
    pub runtime_type: u64,
}

/// What the heap has more.
#[derive(Clone, Copy, Default)]
pub struct More {
    pub number: u64,
    pub numbers: u64,
    pub list: u64,
    pub stream: u64,
    pub dead_stream: u64,
    /// Slot of the strong handle that holds the list.
    pub handle: u64,
    /// A string without characters.
    pub empty: u64,
    /// Where the first thread allocates: what is free, and the object behind it.
    pub free: (u64, u64),
    pub behind: u64,
}

impl Builder {
    /// A type with its own flags and a class whose element type is `element`.
    fn old_type(&mut self, flags: u32, words: u64, rid: u32, core: &Core, element: u8) -> u64 {
        let ptr = self.m.ptr;
        let mt = self.type_of(0x200, (words * ptr) as u32, rid, core.object, core.module);
        self.half(mt, "MethodTable", "MTFlags", flags);
        self.describe(mt, element, 0, 0);
        mt
    }

    /// Element type, attributes and numbers of fields of the class of `mt`.
    fn describe(&mut self, mt: u64, element: u8, instance: u16, statics: u16) {
        let class = self.class_of(mt);
        let at = self.at(class, "EEClass", "InternalCorElementType");
        self.m.put(at, &[element]);
        self.half(class, "EEClass", "CorTypeAttr", 1);
        let at = self.at(class, "EEClass", "NumInstanceFields");
        self.m.put(at, &instance.to_le_bytes());
        let at = self.at(class, "EEClass", "NumStaticFields");
        self.m.put(at, &statics.to_le_bytes());
    }

    fn class_of(&self, mt: u64) -> u64 {
        self.m.read(self.at(mt, "MethodTable", "EEClassOrCanonMT"))
    }

    /// Records of fields: row, offset, element type, whether it is static.
    fn fields_of(&mut self, mt: u64, fields: &[(u32, u32, u8, bool)]) {
        let ptr = self.m.ptr;
        let list = self.m.make(fields.len() as u64 * (ptr + 8));
        let class = self.class_of(mt);
        self.field(class, "EEClass", "FieldDescList", list);
        for (i, &(rid, offset, element, is_static)) in fields.iter().enumerate() {
            let at = list + i as u64 * (ptr + 8);
            self.m.word(at, mt);
            self.m.u32(at + ptr, rid | u32::from(is_static) << 24);
            self.m.u32(at + ptr + 4, offset | u32::from(element) << 27);
        }
        let statics = fields.iter().filter(|f| f.3).count() as u16;
        let element = if fields[0].2 == 8 && fields.len() == 1 { 8 } else { 0x12 };
        self.describe(mt, element, fields.len() as u16 - statics, statics);
    }

    /// The image of the core library, and the way from its module there.
    pub fn core_library(&mut self, core: &Core) {
        let ptr = self.m.ptr;
        let image = make_image::image("mscorlib", TYPES, ptr, MSCORLIB_SIZE);
        self.m.put(MSCORLIB, &image);
        let (file, image, mapped) = (self.m.make(0x100), self.m.make(0x400), self.m.make(0x100));
        self.field(core.module, "Module", "PEAssembly", file);
        self.field(file, "PEAssembly", "PEImage", image);
        self.field(image, "PEImage", "LoadedImageLayout", mapped);
        self.field(mapped, "PEImageLayout", "Base", MSCORLIB);
        let path = self.text(PATH);
        self.field(image, "PEImage", "Path", path);
        let at = self.at(image, "PEImage", "Path") - if ptr == 8 { 16 } else { 12 };
        self.m.u32(at, 2 * (PATH.len() as u32 + 1));
        for mt in [core.object, core.middle, core.runtime_type] {
            self.describe(mt, 0x12, 0, 0);
        }
        self.fields_of(core.string, &[(1, 0, 8, false), (2, 4, 8, false), (3, 8, 3, false), (4, 0, 0x12, true)]);
    }

    /// The map from rows to types.
    fn map(&mut self, core: &Core, others: &[(u32, u64)]) {
        let ptr = self.m.ptr;
        let table = self.m.make(0x100);
        let map = self.at(core.module, "Module", "TypeDefToMethodTableMap");
        self.m.word(map, table);
        self.m.u32(map + 2 * ptr, 10);
        let own = [(2, core.object), (3, core.string), (4, core.middle), (5, core.runtime_type)];
        for &(rid, mt) in own.iter().chain(others) {
            self.m.word(table + u64::from(rid) * ptr, mt);
        }
    }

    /// Objects from `at` on: a boxed number, an array of numbers, a list that holds `array`, two that are finalized.
    pub fn more_objects(&mut self, at: &mut u64, core: &Core, array: u64) -> More {
        let ptr = self.m.ptr;
        let number = self.old_type(0x2_0000, 3, 7, core, 8);
        self.fields_of(number, &[(6, 0, 8, false)]);
        let numbers = self.old_type(0x3_0004, 3, 0, core, 0x1D);
        let class = self.class_of(numbers);
        self.field(class, "EEClass", "ArrayElement", number);
        let canonical = self.old_type(0xC_0000, 3, 6, core, 0x12);
        self.fields_of(canonical, &[(5, 0, 0x12, false)]);
        // An instantiation over String shares its class.
        let list = self.m.make(0x100) + 0x40;
        for (mt, argument) in [(canonical, core.object), (list, core.string)] {
            self.half(mt, "MethodTable", "MTFlags", 0xC_0000);
            self.half(mt, "MethodTable", "BaseSize", 3 * ptr as u32);
            self.field(mt, "MethodTable", "ParentMethodTable", core.object);
            let class = self.class_of(canonical);
            self.field(mt, "MethodTable", "EEClassOrCanonMT", class);
            let (dictionaries, own) = (self.m.make(0x20), self.m.make(0x20));
            self.field(mt, "MethodTable", "PerInstInfo", dictionaries);
            self.m.word(dictionaries, own);
            self.m.word(own, argument);
            // One reference behind the MethodTable.
            self.m.word(mt - ptr, 1);
            self.m.word(mt - 2 * ptr, ptr);
            self.m.word(mt - 3 * ptr, 0u64.wrapping_sub(2 * ptr));
        }
        let stream = self.old_type(0x14_0000, 3, 8, core, 0x12);
        self.fields_of(
            stream,
            &[(7, STREAM_COUNT, 8, true), (8, ptr as u32, 0x12, true), (9 | 1 << 25, 0, 0x12, true)],
        );
        let class = self.class_of(stream);
        self.half(class, "EEClass", "CorTypeAttr", 1);
        self.map(core, &[(6, canonical), (7, number), (8, stream)]);
        let mut made = More::default();
        let mut put = |b: &mut Self, mt: u64, word: u64, more: u64| {
            let own = *at;
            b.m.word(own, mt);
            b.m.word(own + ptr, word);
            *at += (3 * ptr + more).next_multiple_of(ptr);
            own
        };
        made.number = put(self, number, 42, 0);
        made.numbers = put(self, numbers, 3, 12);
        for i in 0..3 {
            self.m.u32(made.numbers + 2 * ptr + 4 * i, 7 + i as u32);
        }
        made.list = put(self, list, array, 0);
        made.stream = put(self, stream, 0, 0);
        made.dead_stream = put(self, stream, 0, 0);
        made.empty = put(self, core.string, 1, 8);
        // Behind what is free is room for the smallest object.
        made.free = (*at, *at + 16 * ptr);
        *at += 19 * ptr;
        made.behind = *at;
        self.m.word(*at, core.object);
        *at += 3 * ptr;
        made
    }

    /// What an app domain has: a name, its place in the list, a number, and the statics of the core library, which domains share;
    /// without `more` those of one class alone. Gives its record of the core library.
    pub fn old_domain(&mut self, domain: u64, place: u32, core: &Core, more: Option<&More>, empty: u64) -> u64 {
        let ptr = self.m.ptr;
        let (id, name) = DOMAINS[place as usize - 1];
        let file = self.m.make(0x200);
        self.m.word(file + ptr, domain);
        self.field(file, "DomainAssembly", "Module", core.module);
        let (local, references) = (self.m.make(0x100), self.m.make(0x500));
        self.m.word(local, file);
        self.field(local, "DomainLocalModule", "GCStatics", references);
        let flags = self.at(local, "DomainLocalModule", "ClassFlags");
        self.m.put(flags + 2, &[1]);
        self.m.word(references, empty);
        if let Some(more) = more {
            // The classes of rows 3 and 8 are initialised.
            self.m.put(flags + 7, &[1]);
            self.m.word(references + ptr, more.list);
            self.m.u32(local + u64::from(STREAM_COUNT), 1234);
        }
        // The second of three slots is the core library's.
        let slots = self.m.make(0x40);
        self.m.word(slots + ptr, local);
        self.field(domain, "AppDomain", "ModuleSlots", slots);
        self.field(domain, "AppDomain", "ModuleSlotCount", 3);
        let block = self.at(domain, "AppDomain", "ModuleSlots") - ptr;
        self.m.word(block, domain);
        let index = block - if ptr == 8 { 16 } else { 12 };
        self.m.u32(index, place);
        self.m.u32(index + 4, id);
        let text = self.text(name);
        self.field(domain, "AppDomain", "FriendlyName", text);
        let at = self.at(domain, "AppDomain", "FriendlyName") - if ptr == 8 { 16 } else { 12 };
        self.m.u32(at, 2 * (name.len() as u32 + 1));
        file
    }

    /// A module of the program alone, and its record in `domain`: it has its statics itself.
    pub fn own_module(&mut self, domain: u64, core: &Core) -> u64 {
        let ptr = self.m.ptr;
        let (module, file, local) = (self.m.make(0x800), self.m.make(0x200), self.m.make(0x100));
        self.m.word(file + ptr, domain);
        self.field(file, "DomainAssembly", "Module", module);
        self.m.word(local, file);
        self.field(module, "Module", "DomainLocalModule", local);
        // The number of the core library, and elsewhere in it a word that is like it.
        self.field(core.module, "Module", "DomainLocalModule", 1 << 1 | 1);
        let like = self.at(core.module, "Module", "DomainLocalModule") + 5 * ptr;
        self.m.word(like, 1 << 1 | 1);
        file
    }

    /// The map of handle tables at `map`: one strong handle, one that is weak.
    pub fn handles(&mut self, map: u64, made: &mut More) {
        let ptr = self.m.ptr;
        let blocks = if ptr == 8 { 120 } else { 240 };
        let (buckets, bucket, tables, table) =
            (self.m.make(0x80), self.m.make(0x20), self.m.make(0x20), self.m.make(0x200));
        self.field(map, "HandleTableMap", "Buckets", buckets);
        self.half(map, "HandleTableMap", "MaxIndex", 10);
        self.m.word(buckets, bucket);
        self.field(bucket, "HandleTableBucket", "Table", tables);
        self.m.word(tables, table);
        self.field(table, "HandleTable", "SegmentList", HANDLES);
        self.field(HANDLES, "HandleSegment", "Owner", table);
        let types = self.at(HANDLES, "HandleSegment", "BlockType");
        self.m.put(types, &vec![0xFF; 3 * blocks + 24]);
        self.m.put(types, &[2, 0]);
        // The last block of each kind.
        self.m.put(types + 3 * blocks as u64, &[1, 0xFF, 0]);
        let first = self.at(HANDLES, "HandleSegment", "Handles");
        made.handle = first;
        self.m.word(first, made.list);
        self.m.word(first + 64 * ptr, made.number);
    }

    /// A finalizer's queue: one object registered, one that is ready.
    pub fn queue(&mut self, registered: &[u64], ready: &[u64]) -> u64 {
        let ptr = self.m.ptr;
        let (queue, array) = (self.m.make(0x80), self.m.make(0x80));
        for (i, &o) in registered.iter().chain(ready).enumerate() {
            self.m.word(array + i as u64 * ptr, o);
        }
        let registered = array + registered.len() as u64 * ptr;
        let all = registered + ready.len() as u64 * ptr;
        self.field(queue, "FinalizeQueue", "Array", array);
        self.field(queue, "FinalizeQueue", "End", array + 0x80);
        let fills = self.at(queue, "FinalizeQueue", "FillPointers");
        // The oldest first: all that is registered is in the youngest generation.
        for (i, fill) in [array, array, array, registered, registered, all].iter().enumerate() {
            self.m.word(fills + i as u64 * ptr, *fill);
        }
        queue
    }

    /// Two heaps of a server collector; the first has the segments of all others, `starts` are where its generations begin.
    /// Gives the array of them.
    pub fn heaps(&mut self, starts: [u64; 3], end: u64, free: u64, queue: u64) -> u64 {
        let ptr = self.m.ptr;
        let array = self.m.make(0x20);
        let second = self.empty_segments(free);
        let empty = self.queue(&[], &[]);
        let all = [((SEGMENT, LARGE), starts, end, queue), (SECOND, second.0, second.1, empty)];
        for (i, (segments, starts, end, queue)) in all.into_iter().enumerate() {
            let heap = self.m.make(0x1000);
            self.m.word(array + i as u64 * ptr, heap);
            self.field(heap, "GCHeap", "AllocAllocated", end);
            self.field(heap, "GCHeap", "EphemeralHeapSegment", segments.0);
            self.field(heap, "GCHeap", "FinalizeQueue", queue);
            let table = self.at(heap, "GCHeap", "GenerationTable");
            self.generations(table, segments, starts);
        }
        array
    }

    /// A table of generations.
    pub fn generations(&mut self, table: u64, segments: (u64, u64), starts: [u64; 3]) {
        let size = self.l.offset("Generation", "!").unwrap();
        let large = (segments.1, segments.1 + 0x1000);
        let all = starts.iter().map(|&s| (segments.0, s)).chain([large]);
        for (g, (segment, start)) in all.enumerate() {
            let generation = table + g as u64 * size;
            // The segment allocated in stands in front of the first one.
            self.field(generation, "Generation", "StartSegment", segment);
            let first = self.at(generation, "Generation", "StartSegment");
            self.m.word(first - 2 * self.m.ptr, segment);
            self.field(generation, "Generation", "AllocationStart", start);
            // Where the last collection planned it to begin.
            let start_at = self.at(generation, "Generation", "AllocationStart");
            let planned = if g == 3 { 0 } else { start };
            self.m.word(start_at + self.m.ptr, planned);
        }
    }

    /// Segments of the second heap with nothing in them; where its generations begin, and their end.
    fn empty_segments(&mut self, free: u64) -> ([u64; 3], u64) {
        let three = 3 * self.m.ptr;
        let first = SECOND.0 + 0x1000;
        let starts = [first + 2 * three, first + three, first];
        for at in starts.into_iter().chain([SECOND.1 + 0x1000]) {
            self.m.word(at, free);
        }
        let end = first + 3 * three;
        self.record(SECOND.0, first, end);
        self.record(SECOND.1, SECOND.1 + 0x1000, SECOND.1 + 0x1000 + three);
        (starts, end)
    }
}
