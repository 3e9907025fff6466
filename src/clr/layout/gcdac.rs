//! `GcDacVars`: the struct in which the garbage collector publishes the addresses of its variables.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcinterface.dacvars.def`, `GcDacVars` in `gcinterface.dac.h`.

/// A found `GcDacVars`, its version differences resolved. Every `Option<u64>` is the address of a GC variable, `None`
/// when the struct holds null there (workstation GC has no `n_heaps`, server GC no per-heap variables) or ends earlier.
#[derive(Debug, Clone, Default)]
pub struct GcDacVars {
    /// Where the struct lies.
    pub address: u64,
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
}
