//! `GcDacVars`: the struct in which the garbage collector publishes the addresses of its variables.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcinterface.dacvars.def`, `GcDacVars` in `gcinterface.dac.h`.

use std::ops::RangeInclusive;

use super::verdict::{Check, Verdict};
use super::{Layout, Source};
use crate::dump::AddressSpace;

/// Major versions whose layout is known: 1 through 6.0, 2 since. A new one is a new layout.
pub const MAJORS: RangeInclusive<u8> = 1..=2;
/// Newest minor version whose additions are known. Newer ones only add to the end.
const NEWEST_MINOR: u8 = 9;

/// Who named the collector's variables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GcSource {
    /// Their shapes.
    #[default]
    Structure,
    /// The struct.
    Struct,
    /// The collector's part of the contract descriptor.
    Descriptor,
    /// The DAC table itself, before there was a struct (1.x, .NET Framework before 4.8).
    DacTable,
}

/// A found `GcDacVars`, its version differences resolved. Every `Option<u64>` is the address of a GC variable, `None`
/// when the struct holds null there (workstation GC has no `n_heaps`, server GC no per-heap variables) or ends earlier.
#[derive(Debug, Clone, Default)]
pub struct GcDacVars {
    /// Who named them.
    pub source: GcSource,
    /// Where the struct lies.
    pub address: u64,
    /// A struct that is in the dump and whose version is not known: its place, major and minor version.
    pub refused: Option<(u64, u8, u8)>,
    /// Descriptor of the collector in use (minor version 6).
    pub descriptor: Option<u64>,
    /// Major version of the GC's DAC interface.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
    /// Size of one `generation` record in bytes.
    pub generation_size: u64,
    /// Number of generations in the table: 4 before the pinned object heap (.NET Core 3.1), 5 since.
    pub generation_count: u32,
    /// Workstation: the generation table itself.
    pub generation_table: Option<u64>,
    /// Highest ordinary generation (variable holds 2).
    pub max_gen: Option<u64>,
    /// Workstation: variable holding the ephemeral segment's address.
    pub ephemeral_heap_segment: Option<u64>,
    /// Workstation: variable holding the end of allocated memory in the ephemeral segment.
    pub alloc_allocated: Option<u64>,
    /// Workstation: variable holding the finalize queue's address.
    pub finalize_queue: Option<u64>,
    /// Workstation: `oom_history` record.
    pub oom_info: Option<u64>,
    /// Server: variable holding the number of heaps.
    pub n_heaps: Option<u64>,
    /// Server: variable holding the address of the array of heaps.
    pub g_heaps: Option<u64>,
    /// Variable above zero while a collection makes the heap unwalkable.
    pub gc_structures_invalid_cnt: Option<u64>,
    /// The handle table map itself.
    pub handle_table_map: Option<u64>,
    /// Server: offsets inside `gc_heap` by the index of `dac_gcheap_fields.h`; -1 for an absent field.
    pub gc_heap_field_offsets: Vec<i32>,
    /// Offsets inside `generation`: allocation context, start segment, allocation start (-1 with regions).
    pub generation_field_offsets: [i32; 3],
    /// Variable holding the start of the GC's bookkeeping memory (8.0 and later).
    pub bookkeeping_start: Option<u64>,
    /// Free region lists (8.0 and later, workstation).
    pub free_regions: Option<u64>,
    /// Mode of dynamic adaptation (DATAS), 10.0.
    pub dynamic_adaptation_mode: Option<u64>,
    /// Value of `built_with_svr`.
    pub built_with_svr: Option<u64>,
}

/// Bytes of the allocation context a `generation` starts with: two pointers, two 64-bit counts, two pointers, a 32-bit
/// count (dotnet/runtime `src/coreclr/gc/gcinterface.h`, `gc_alloc_context`).
pub fn context_size(ptr: u64) -> u64 {
    (4 * ptr + 2 * 8 + 4).next_multiple_of(8)
}

impl GcDacVars {
    /// Server GC: the heaps are listed by `g_heaps`.
    pub fn is_server(&self) -> bool {
        self.g_heaps.is_some() && self.n_heaps.is_some()
    }

    /// Regions instead of segments: generations have no allocation start.
    pub fn has_regions(&self) -> bool {
        self.generation_field_offsets[2] < 0
    }

    /// Whether the struct's major version is one whose layout is known.
    pub fn is_known(&self) -> bool {
        MAJORS.contains(&self.major)
    }

    /// The variables by what the descriptor says of the collector; `None` when it says nothing of generations.
    pub fn described(layout: &Layout, space: &AddressSpace) -> Option<Self> {
        let ptr = u64::from(space.ptr_size());
        let size =
            layout.try_offset("Generation", "!").filter(|s| s.is_multiple_of(ptr) && (0x20..0x1000).contains(s))?;
        let offset = |ty, field| layout.try_offset(ty, field).map_or(-1, |o| o as i32);
        let global = |name| layout.global(name).ok();
        let start = layout.try_offset("Generation", "StartSegment")? as i32;
        let context = offset("Generation", "AllocationContext");
        let mut offsets = vec![-1; 22];
        for (index, field) in GC_HEAP_FIELDS {
            offsets[*index] = offset("GCHeap", field);
        }
        let gc = Self {
            source: GcSource::Descriptor,
            generation_size: size,
            generation_count: layout.constant("TotalGenerationCount").ok().filter(|n| (4..=8).contains(n)).unwrap_or(5)
                as u32,
            generation_table: global("GCHeapGenerationTable"),
            max_gen: global("MaxGeneration"),
            ephemeral_heap_segment: global("GCHeapEphemeralHeapSegment"),
            alloc_allocated: global("GCHeapAllocAllocated"),
            finalize_queue: global("GCHeapFinalizeQueue"),
            oom_info: global("GCHeapOomData").or_else(|| global("GCHeapOOMData")),
            n_heaps: global("NumHeaps"),
            g_heaps: global("Heaps"),
            gc_structures_invalid_cnt: global("StructureInvalidCount"),
            handle_table_map: global("HandleTableMap"),
            gc_heap_field_offsets: offsets,
            generation_field_offsets: [
                // First of all its members, unless its form was found by others.
                if layout.constant("InlineVtables").is_ok() { context } else { context.max(0) },
                start,
                offset("Generation", "AllocationStart"),
            ],
            bookkeeping_start: global("BookkeepingStart"),
            free_regions: global("GCHeapFreeRegions"),
            dynamic_adaptation_mode: global("DynamicAdaptationMode"),
            ..Self::default()
        };
        (gc.is_server() || gc.generation_table.is_some()).then_some(gc)
    }

    /// Holds the struct against what the descriptor says of the same collector.
    pub fn witness(&self, described: &Self) -> Option<Check> {
        if self.source != GcSource::Struct {
            return None;
        }
        let mut unlike = Vec::new();
        let mut pair = |name: &str, ours: Option<u64>, theirs: Option<u64>| {
            if let (Some(a), Some(b)) = (ours, theirs)
                && a != b
            {
                unlike.push(format!("{name} {a:x}, not {b:x}"));
            }
        };
        pair("generation size", Some(self.generation_size), Some(described.generation_size));
        pair("generations", Some(self.generation_count.into()), Some(described.generation_count.into()));
        pair("generation_table", self.generation_table, described.generation_table);
        pair("ephemeral_heap_segment", self.ephemeral_heap_segment, described.ephemeral_heap_segment);
        pair("alloc_allocated", self.alloc_allocated, described.alloc_allocated);
        pair("finalize_queue", self.finalize_queue, described.finalize_queue);
        pair("n_heaps", self.n_heaps, described.n_heaps);
        pair("g_heaps", self.g_heaps, described.g_heaps);
        pair("handle_table_map", self.handle_table_map, described.handle_table_map);
        Some(Check {
            name: "GcDacVars and the collector's descriptor agree",
            fields: Vec::new(),
            source: Source::GcDacVars(self.address),
            expected: "the same variables".into(),
            found: if unlike.is_empty() { "the same".into() } else { unlike.join(", ") },
            verdict: if unlike.is_empty() { Verdict::Passed } else { Verdict::Failed },
        })
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let refused = match self.refused.filter(|_| self.source != GcSource::Struct) {
            Some((at, major, minor)) => {
                format!("at {at:x}, refused: version {major}.{minor}, whose major version is not known")
            }
            None => "not found or not asked".into(),
        };
        match self.source {
            GcSource::Struct => {
                let newer = if self.minor > NEWEST_MINOR {
                    "; its minor version is newer than any known: the known part is used"
                } else {
                    ""
                };
                format!(
                    "at {:x}, version {}.{}, generation size {}{newer}",
                    self.address, self.major, self.minor, self.generation_size
                )
            }
            GcSource::Descriptor => {
                format!(
                    "{refused}; the collector's variables by the contract descriptor, generation size {}",
                    self.generation_size
                )
            }
            GcSource::DacTable => format!(
                "{refused}; the collector's variables by the DAC table, generation size {}",
                self.generation_size
            ),
            GcSource::Structure => format!(
                "{refused}; the collector's variables by structure, generation size {}, whether a collection was running is \
                 not known",
                self.generation_size
            ),
        }
    }
}

/// Places of `gc_heap_field_offsets` (dotnet/runtime `src/coreclr/gc/dac_gcheap_fields.h`) by the descriptor's names.
const GC_HEAP_FIELDS: &[(usize, &str)] = &[
    (0, "AllocAllocated"),
    (1, "EphemeralHeapSegment"),
    (2, "FinalizeQueue"),
    (3, "OomData"),
    (11, "CardTable"),
    (12, "MarkArray"),
    (13, "NextSweepObj"),
    (14, "BackgroundMinSavedAddr"),
    (15, "BackgroundMaxSavedAddr"),
    (16, "SavedSweepEphemeralSeg"),
    (17, "SavedSweepEphemeralStart"),
    (18, "GenerationTable"),
    (19, "FreeableSohSegment"),
    (20, "FreeableUohSegment"),
    (21, "FreeRegions"),
];
