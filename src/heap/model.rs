//! What the GC heap is made of: heaps, segments or regions, generations.

/// What a segment holds. The names are those of the field's tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentKind {
    /// Generation 0 region.
    Generation0,
    /// Generation 1 region.
    Generation1,
    /// Generation 2 region or segment.
    Generation2,
    /// The segment that holds generations 0 and 1 (and the youngest part of 2).
    Ephemeral,
    /// Large object heap.
    Large,
    /// Pinned object heap.
    Pinned,
    /// Frozen (NonGC) heap.
    Frozen,
}

impl SegmentKind {
    /// The name as tables print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generation0 => "Generation0",
            Self::Generation1 => "Generation1",
            Self::Generation2 => "Generation2",
            Self::Ephemeral => "Ephemeral",
            Self::Large => "Large",
            Self::Pinned => "Pinned",
            Self::Frozen => "Frozen",
        }
    }
}

/// Generation of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Generation {
    /// gen0.
    Gen0,
    /// gen1.
    Gen1,
    /// gen2.
    Gen2,
    /// Large object heap.
    Large,
    /// Pinned object heap.
    Pinned,
    /// Frozen (NonGC) heap.
    Frozen,
}

impl Generation {
    /// The name as tables print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gen0 => "Generation0",
            Self::Gen1 => "Generation1",
            Self::Gen2 => "Generation2",
            Self::Large => "Large",
            Self::Pinned => "Pinned",
            Self::Frozen => "Frozen",
        }
    }

    /// The word SOS prints: `0`, `1`, `2`, `large`, `pinned`, `frozen`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Gen0 => "0",
            Self::Gen1 => "1",
            Self::Gen2 => "2",
            Self::Large => "large",
            Self::Pinned => "pinned",
            Self::Frozen => "frozen",
        }
    }

    /// The words a user names generations by, youngest first.
    pub const WORDS: &[&str] = &["gen0", "gen1", "gen2", "loh", "poh", "foh"];

    /// The generation a user names: `gen0`, `0`, `loh`, `large`, `poh`, `pinned`, `foh`, `frozen`, ...
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "gen0" | "0" | "generation0" => Self::Gen0,
            "gen1" | "1" | "generation1" => Self::Gen1,
            "gen2" | "2" | "generation2" => Self::Gen2,
            "loh" | "large" | "3" => Self::Large,
            "poh" | "pinned" | "4" => Self::Pinned,
            "foh" | "frozen" | "nongc" => Self::Frozen,
            _ => return None,
        })
    }
}

/// No process has memory from here on, on any architecture: sums of addresses and sizes of objects do not overflow.
pub const TOP: u64 = 1 << 57;

/// One segment or region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address of its `heap_segment` record.
    pub record: u64,
    /// Number of the heap that owns it (0 in workstation GC).
    pub heap: u32,
    /// What it holds.
    pub kind: SegmentKind,
    /// First object.
    pub start: u64,
    /// One past the last object.
    pub end: u64,
    /// End of committed memory.
    pub committed: u64,
    /// End of reserved memory.
    pub reserved: u64,
    /// `heap_segment::flags`.
    pub flags: u64,
    /// Start of generation 0, for an ephemeral segment; else `end`.
    pub gen0: u64,
    /// Start of generation 1, for an ephemeral segment; else `end`.
    pub gen1: u64,
}

impl Segment {
    /// Bytes between the first object and the end.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Where its memory begins: at its own record, which lies in front of the first object (segments), or at the page
    /// of the first object (regions and frozen segments, whose records are elsewhere).
    pub fn base(&self) -> u64 {
        let page = self.start & !0xFFF;
        if self.record < page && page - self.record <= 0x1000 { self.record } else { page }
    }

    /// Whether nothing was allocated in it.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Generation of an object at `address` in this segment.
    pub fn generation(&self, address: u64) -> Generation {
        match self.kind {
            SegmentKind::Generation0 => Generation::Gen0,
            SegmentKind::Generation1 => Generation::Gen1,
            SegmentKind::Generation2 => Generation::Gen2,
            SegmentKind::Large => Generation::Large,
            SegmentKind::Pinned => Generation::Pinned,
            SegmentKind::Frozen => Generation::Frozen,
            SegmentKind::Ephemeral if address >= self.gen0 => Generation::Gen0,
            SegmentKind::Ephemeral if address >= self.gen1 => Generation::Gen1,
            SegmentKind::Ephemeral => Generation::Gen2,
        }
    }

    /// The part of the segment that belongs to `generation`, empty when none does.
    pub fn part(&self, generation: Generation) -> (u64, u64) {
        match (self.kind, generation) {
            (SegmentKind::Ephemeral, Generation::Gen0) => (self.gen0, self.end),
            (SegmentKind::Ephemeral, Generation::Gen1) => (self.gen1, self.gen0),
            (SegmentKind::Ephemeral, Generation::Gen2) => (self.start, self.gen1),
            _ if self.generation(self.start) == generation => (self.start, self.end),
            _ => (self.start, self.start),
        }
    }
}

/// One GC heap: the only one of workstation GC, one of several of server GC.
#[derive(Debug, Clone, Default)]
pub struct SubHeap {
    /// Number.
    pub index: u32,
    /// Address of the `gc_heap` (server), 0 in workstation GC.
    pub address: u64,
    /// End of allocated memory in the ephemeral segment.
    pub alloc_allocated: u64,
    /// The ephemeral segment's record.
    pub ephemeral: u64,
    /// Address of the finalize queue object.
    pub finalize_queue: u64,
    /// Address of the generation table.
    pub generations: u64,
    /// Allocation start of each generation (segments only), 0 where unknown.
    pub allocation_starts: [u64; 5],
    /// Allocation context of each generation that is set (inside a collection).
    pub contexts: Vec<(u64, u64)>,
}

/// The GC heap's shape: heaps, segments, allocation contexts. Objects are found by [`crate::heap::walk`].
#[derive(Debug, Clone, Default)]
pub struct Heap {
    /// Server GC.
    pub server: bool,
    /// Regions instead of segments.
    pub regions: bool,
    /// A collection was running: the heap is not walkable throughout.
    pub in_gc: bool,
    /// The heaps.
    pub heaps: Vec<SubHeap>,
    /// All segments, by start address.
    pub segments: Vec<Segment>,
    /// Allocation contexts `(pointer, limit)` of threads and generations, sorted.
    pub contexts: Vec<(u64, u64)>,
    /// What was wrong or missing; an answer based on this heap is partial when not empty.
    pub problems: Vec<String>,
}
