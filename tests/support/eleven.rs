//! Writes into a copy of a dump the contract descriptor that .NET 11 would have: in the runtime's image, with the
//! collector's own as sub-descriptor in the collector's image, under the names of 11.0.
//!
//! Names and shapes: dotnet/runtime `src/coreclr/vm/datadescriptor/datadescriptor.inc`, `src/coreclr/gc/datadescriptor/
//! datadescriptor.inc`, `src/coreclr/tools/cdac-build-tool` (main branch). The values are those of the dump's own runtime.
#![allow(clippy::unwrap_used, dead_code)]

use std::ops::Range;

use clrscope::clr::layout::report::Discovered;
use serde_json::{Map, Value, json};

use crate::patch::Patch;

/// How the text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Version 1, as previews of 11.0 wrote it: fields and globals with their types, contracts numbered.
    Typed,
    /// Version 2, as 11.0 writes it: without types, contracts named.
    Bare,
}

/// Types of the runtime's descriptor with their fields. A field that 10.0 named otherwise has that name behind a `<`.
const TYPES: &[(&str, &str)] = &[
    (
        "Thread",
        "Id OSId State PreemptiveGCDisabled RuntimeThreadLocals Frame ExposedObject<GCHandle LastThrownObject LinkNext \
         ThreadLocalDataPtr",
    ),
    ("ThreadStore", "FirstThreadLink ThreadCount UnstartedCount BackgroundCount PendingCount DeadCount"),
    ("RuntimeThreadLocals", "AllocContext"),
    ("ThreadStaticsInfo", "! GCTlsIndex NonGCTlsIndex"),
    (
        "ThreadLocalData",
        "CollectibleTlsArrayData NonCollectibleTlsArrayData CollectibleTlsDataCount NonCollectibleTlsDataCount InFlightData",
    ),
    ("InFlightTLSData", "Next TlsIndex TLSData"),
    ("EEAllocContext", "GCAllocationContext"),
    ("GCAllocContext", "Pointer Limit"),
    ("SyncTableEntry", "! SyncBlock Object"),
    ("Module", "Assembly PEAssembly Base DynamicMetadata Path TypeDefToMethodTableMap TypeRefToMethodTableMap"),
    ("ModuleLookupMap", "TableData Next Count SupportedFlagsMask"),
    ("Assembly", "Module"),
    ("PEAssembly", "PEImage"),
    ("PEImage", "LoadedImageLayout"),
    ("PEImageLayout", "Base"),
    ("ArrayListBase", "Count FirstBlock"),
    ("ArrayListBlock", "Next Size ArrayStart"),
    (
        "MethodTable",
        "! MTFlags BaseSize MTFlags2 EEClassOrCanonMT Module ParentMethodTable NumInterfaces NumVirtuals PerInstInfo \
         AuxiliaryData",
    ),
    ("DynamicStaticsInfo", "! GCStatics NonGCStatics"),
    (
        "EEClass",
        "MethodTable MethodDescChunk NumMethods FieldDescList CorTypeAttr InternalCorElementType NumInstanceFields \
         NumStaticFields NumThreadStaticFields NumNonVirtualSlots",
    ),
    ("TypeDesc", "TypeAndFlags"),
    ("ParamTypeDesc", "TypeArg"),
    ("TypeVarTypeDesc", "Module Token"),
    ("FnPtrTypeDesc", "NumArgs CallConv RetAndArgTypes"),
    ("DynamicMetadata", "Size Data"),
    ("MethodDesc", "CodeData"),
];

const GLOBALS: &[&str] = &[
    "AppDomain",
    "SystemDomain",
    "ThreadStore",
    "FinalizerThread",
    "FreeObjectMethodTable",
    "ObjectMethodTable",
    "StringMethodTable",
    "SyncTableEntries",
];

/// One descriptor being written.
struct Text {
    form: Form,
    types: Map<String, Value>,
    globals: Map<String, Value>,
    subs: Map<String, Value>,
    pointers: Vec<u64>,
}

impl Text {
    fn new(form: Form) -> Self {
        Self { form, types: Map::new(), globals: Map::new(), subs: Map::new(), pointers: vec![0] }
    }

    fn field(&mut self, ty: &str, field: &str, offset: u64) {
        let typed = self.form == Form::Typed && field != "!";
        let value = if typed { json!([offset, "pointer"]) } else { json!(offset) };
        let fields = self.types.entry(ty).or_insert_with(|| json!({}));
        fields.as_object_mut().unwrap().insert(field.into(), value);
    }

    fn pointer(&mut self, address: u64) -> Value {
        self.pointers.push(address);
        let index = self.pointers.len() - 1;
        if self.form == Form::Typed { json!([[index], "pointer"]) } else { json!([index]) }
    }

    fn global(&mut self, name: &str, address: Option<u64>) {
        if let Some(address) = address {
            let value = self.pointer(address);
            self.globals.insert(name.into(), value);
        }
    }

    fn constant(&mut self, name: &str, value: u64) {
        let text = format!("{value:#x}");
        let value = if self.form == Form::Typed { json!([text, "uint32"]) } else { json!(text) };
        self.globals.insert(name.into(), value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.globals.insert(name.into(), json!([value, "string"]));
    }

    fn json(&self, contracts: &[&str]) -> String {
        let bare = self.form == Form::Bare;
        let version = |_| if bare { json!("c1") } else { json!(1) };
        let contracts: Map<String, Value> = contracts.iter().map(|c| ((*c).to_owned(), version(c))).collect();
        json!({
            "version": if bare { 2 } else { 1 },
            "baseline": "empty",
            "types": self.types,
            "globals": self.globals,
            "subDescriptors": self.subs,
            "contracts": contracts,
        })
        .to_string()
    }

    /// Writes text and pointers into `image`, and the header at `place` or there too. Returns the header's address.
    fn put(&self, patch: &mut Patch, image: &Range<u64>, place: Option<u64>, contracts: &[&str]) -> u64 {
        let json = self.json(contracts);
        let data: Vec<u8> = self.pointers.iter().flat_map(|p| p.to_le_bytes()).collect();
        let (text, data) = (patch.put(image, json.as_bytes()), patch.put(image, &data));
        let header = header(json.len() as u32, text, self.pointers.len() as u32, data);
        match place {
            Some(at) => {
                patch.write(at, &header);
                at
            }
            None => patch.put(image, &header),
        }
    }
}

/// The header of a descriptor on a 64-bit machine.
pub fn header(length: u32, text: u64, count: u32, pointers: u64) -> Vec<u8> {
    let mut h = b"DNCCDAC\0".to_vec();
    h.extend(1u32.to_le_bytes());
    h.extend(length.to_le_bytes());
    h.extend(text.to_le_bytes());
    h.extend(u64::from(count).to_le_bytes());
    h.extend(pointers.to_le_bytes());
    h
}

/// Writes the descriptor of 11.0 into `patch`, a copy of the dump that `found` describes.
pub fn describe(patch: &mut Patch, found: &Discovered, form: Form) {
    describe_with(patch, found, form, &[]);
}

/// Writes the collector's descriptor alone into its image; returns its address.
pub fn collector_alone(patch: &mut Patch, found: &Discovered, form: Form) -> u64 {
    let image = found.module.base..found.module.end;
    let own = found.module.gc_module.map_or(image, |(a, b)| a..b);
    collector(found, form).put(patch, &own, None, &["GC"])
}

/// As [`describe`], with further fields: type, name, offset.
pub fn describe_with(patch: &mut Patch, found: &Discovered, form: Form, more: &[(&str, &str, u64)]) {
    let image = found.module.base..found.module.end;
    let old = old_header(patch, &image);
    let gc = collector_alone(patch, found, form);
    // The other flavour's, which nothing points to: it must not be taken for the one in use.
    let mut decoy = Text::new(form);
    decoy.field("Generation", "!", 0x88);
    decoy.field("Generation", "StartSegment", 0x10);
    decoy.global("GCHeapGenerationTable", Some(image.start));
    decoy.put(patch, &image, None, &["GC"]);
    let cell = patch.put(&image, &gc.to_le_bytes());
    let mut main = runtime(patch, found, form);
    for (ty, field, offset) in more {
        main.field(ty, field, *offset);
    }
    let entry = main.pointer(cell);
    main.subs.insert("GC".into(), entry);
    main.put(patch, &image, old, &["Loader", "RuntimeTypeSystem", "SyncBlock", "Thread"]);
    patch.replace(&image, b"@(#)Version 10.0.", b"@(#)Version 11.0.");
    patch.set_major_version(image.start, 11);
}

/// The header that 10.0 left in the image.
fn old_header(patch: &Patch, image: &Range<u64>) -> Option<u64> {
    let magic = b"DNCCDAC\0";
    (image.start..image.end - 8).step_by(8).find(|&a| patch.read(a, 8) == Some(magic))
}

fn runtime(patch: &mut Patch, found: &Discovered, form: Form) -> Text {
    let l = &found.layout;
    let mut text = Text::new(form);
    for (ty, fields) in TYPES {
        for field in fields.split_whitespace() {
            let (name, before) = field.split_once('<').unwrap_or((field, field));
            if let Some(offset) = l.try_offset(ty, before) {
                text.field(ty, name, offset);
            }
        }
    }
    for name in GLOBALS {
        text.global(name, l.global(name).ok());
    }
    text.constant("MethodDescTokenRemainderBitCount", l.constant("MethodDescTokenRemainderBitCount").unwrap());
    text.constant("ObjectToMethodTableUnmask", 7);
    for (name, value) in [("OperatingSystem", "Unix"), ("Architecture", "x64"), ("RID", "linux-x64")] {
        text.text(name, value);
    }
    let list = l.offset("AppDomain", "DomainAssemblyList").unwrap();
    let name = if assemblies(patch, found) { "AssemblyList" } else { "DomainAssemblyList" };
    text.field("AppDomain", name, list);
    if name == "DomainAssemblyList" {
        text.field("DomainAssembly", "Module", l.offset("DomainAssembly", "Module").unwrap());
    }
    text
}

/// Puts the assemblies themselves into the app domain's list, as 11.0 does; 9.0 has no way from an item to its assembly.
fn assemblies(patch: &mut Patch, found: &Discovered) -> bool {
    let l = &found.layout;
    let Some(assembly) = l.try_offset("DomainAssembly", "Assembly") else { return false };
    let domain = patch.ptr(l.global("AppDomain").unwrap()).unwrap();
    let list = domain + l.offset("AppDomain", "DomainAssemblyList").unwrap();
    let mut left = patch.ptr(list).unwrap() & 0xFFFF_FFFF;
    let mut block = list + l.offset("ArrayListBase", "FirstBlock").unwrap();
    while block != 0 && left > 0 {
        let size = patch.ptr(block + l.offset("ArrayListBlock", "Size").unwrap()).unwrap() & 0xFFFF_FFFF;
        for i in 0..size.min(left) {
            let slot = block + l.offset("ArrayListBlock", "ArrayStart").unwrap() + 8 * i;
            let item = patch.ptr(slot).unwrap();
            let own = patch.ptr(item + assembly).unwrap();
            patch.write(slot, &own.to_le_bytes());
        }
        left -= size.min(left);
        block = patch.ptr(block + l.offset("ArrayListBlock", "Next").unwrap()).unwrap();
    }
    true
}

fn collector(found: &Discovered, form: Form) -> Text {
    let (l, gc) = (&found.layout, &found.gc);
    let mut text = Text::new(form);
    let [context, start, allocation] = gc.generation_field_offsets;
    text.field("Generation", "!", gc.generation_size);
    text.field("Generation", "AllocationContext", context as u64);
    text.field("Generation", "StartSegment", start as u64);
    if allocation >= 0 {
        text.field("Generation", "AllocationStart", allocation as u64);
    }
    for field in "Allocated Committed Reserved Used Mem Flags Next".split(' ') {
        text.field("HeapSegment", field, l.offset("HeapSegment", field).unwrap());
    }
    text.field("CFinalize", "FillPointers", l.offset("FinalizeQueue", "FillPointers").unwrap());
    text.field("HandleTableMap", "BucketsPtr", l.offset("HandleTableMap", "Buckets").unwrap());
    text.field("HandleTableMap", "Next", l.offset("HandleTableMap", "Next").unwrap());
    text.field("HandleTableBucket", "Table", l.offset("HandleTableBucket", "Table").unwrap());
    text.field("HandleTable", "SegmentList", l.offset("HandleTable", "SegmentList").unwrap());
    text.field("TableSegment", "NextSegment", l.offset("HandleSegment", "Next").unwrap());
    text.field("TableSegment", "RgUserData", l.offset("HandleSegment", "UserData").unwrap());
    text.field("TableSegment", "RgValue", l.offset("HandleSegment", "Handles").unwrap());
    let server = gc.is_server();
    const SERVER: &[(usize, &str)] = &[
        (0, "AllocAllocated"),
        (1, "EphemeralHeapSegment"),
        (2, "FinalizeQueue"),
        (18, "GenerationTable"),
        (21, "FreeRegions"),
    ];
    for (index, field) in SERVER.iter().filter(|_| server) {
        if let Some(&offset) = gc.gc_heap_field_offsets.get(*index).filter(|o| **o >= 0) {
            text.field("GCHeap", field, offset as u64);
        }
    }
    if server {
        text.field("HeapSegment", "Heap", l.offset("HeapSegment", "Heap").unwrap());
        text.global("NumHeaps", gc.n_heaps);
        text.global("Heaps", gc.g_heaps);
    } else {
        text.global("GCHeapGenerationTable", gc.generation_table);
        text.global("GCHeapEphemeralHeapSegment", gc.ephemeral_heap_segment);
        text.global("GCHeapAllocAllocated", gc.alloc_allocated);
        text.global("GCHeapFinalizeQueue", gc.finalize_queue);
        text.global("GCHeapFreeRegions", gc.free_regions);
    }
    text.global("MaxGeneration", gc.max_gen);
    text.global("StructureInvalidCount", gc.gc_structures_invalid_cnt);
    text.global("HandleTableMap", gc.handle_table_map);
    text.global("BookkeepingStart", gc.bookkeeping_start);
    text.global("DynamicAdaptationMode", gc.dynamic_adaptation_mode);
    text.constant("TotalGenerationCount", gc.generation_count.into());
    text.constant("CFinalizeFillPointersLength", l.constant("FinalizeSegmentCount").unwrap());
    text.constant("HandleMaxInternalTypes", l.constant("HandleTypeCount").unwrap());
    text.constant("HandleBlocksPerSegment", 120);
    text.constant("HandlesPerBlock", 64);
    text.constant("InitialHandleTableArraySize", 10);
    let (flavour, shape) =
        (if server { "server" } else { "workstation" }, if gc.has_regions() { "regions" } else { "segments" });
    text.text("GCIdentifiers", &format!("{flavour}, {shape}, background, "));
    text
}
