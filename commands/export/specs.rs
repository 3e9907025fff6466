//! The tables there are: their columns and what fills them.

use anyhow::Result;

use super::column::{Column, col, list};
use super::job::Job;
use super::writer::Table;
use super::{asyncframes, dumps, frames, heap, holders, locks, native, runtime, stackgroups, suspects, types};
use crate::shell::Type::{Address, Bool, Bytes, Content, Count, Hex, Number, Share, Text, TypeName};

/// What one table is: its name, its columns, what fills it.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub name: &'static str,
    pub columns: &'static [Column],
    /// Writes the rows; returns why the table is partial, if it is.
    pub fill: fn(&Job<'_>, &mut Table) -> Result<Option<String>>,
}

impl Spec {
    /// Whether it needs the graph of all objects.
    pub fn is_costly(&self) -> bool {
        matches!(self.name, "suspects" | "dumps")
    }
}

/// Tables of the runtime and its heap.
pub const TABLES: &[Spec] = &[
    Spec {
        name: "runtime",
        columns: &[col("name", Text), col("value", Text)],
        fill: |job, table| runtime::runtime(job.session, table),
    },
    Spec {
        name: "segments",
        columns: &[
            col("segment", Address),
            col("kind", Text),
            col("heap", Number),
            col("objects_start", Address),
            col("objects_end", Address),
            col("committed_end", Address),
            col("reserved_end", Address),
            col("gen0_start", Address),
            col("gen0_end", Address),
            col("gen1_start", Address),
            col("gen1_end", Address),
            col("gen2_start", Address),
            col("gen2_end", Address),
        ],
        fill: |job, table| heap::segments(job.session, table),
    },
    Spec {
        name: "objects",
        columns: &[col("address", Address), col("method_table", Address), col("size", Bytes), col("generation", Text)],
        fill: |job, table| heap::objects(job.session, table),
    },
    Spec {
        name: "types",
        columns: &[
            col("method_table", Address),
            col("count", Count),
            col("bytes", Bytes),
            col("name", TypeName),
            col("base", TypeName),
            col("module", Text),
            col("token", Hex),
            col("static_size", Bytes),
            col("component_size", Bytes),
            col("contains_pointers", Bool),
            col("element_type", Text),
            col("finalizable", Bool),
            col("collectible", Bool),
        ],
        fill: |job, table| types::types(job.session, table),
    },
    Spec {
        name: "edges",
        columns: &[col("object", Address), list("references", Address)],
        fill: |job, table| heap::edges(job.session, table),
    },
    Spec {
        name: "fields",
        columns: &[
            col("method_table", Address),
            col("type", TypeName),
            col("field", Text),
            col("offset", Number),
            col("element_type", Text),
            col("field_type", TypeName),
            col("size", Bytes),
            col("containing_type", TypeName),
        ],
        fill: |job, table| types::fields(job.session, table),
    },
    Spec {
        name: "statics",
        columns: &[
            col("type", TypeName),
            col("field", Text),
            col("element_type", Text),
            col("address", Address),
            col("value", Text),
            col("storage", Address),
        ],
        fill: |job, table| types::statics(job.session, table),
    },
    Spec {
        name: "threadstatics",
        columns: &[
            col("thread_os_id", Hex),
            col("type", TypeName),
            col("field", Text),
            col("element_type", Text),
            col("address", Address),
            col("value", Text),
            col("storage", Address),
        ],
        fill: |job, table| types::thread_statics(job.session, table),
    },
    Spec {
        name: "handles",
        columns: &[
            col("address", Address),
            col("kind", Text),
            col("object", Address),
            col("dependent", Address),
            col("ref_count", Count),
            col("app_domain", Address),
        ],
        fill: |job, table| runtime::handles(job.session, table),
    },
    Spec {
        name: "finalizable",
        columns: &[col("object", Address), col("f_reachable", Bool)],
        fill: |job, table| runtime::finalizable(job.session, table),
    },
    Spec {
        name: "roots",
        columns: &[
            col("kind", Text),
            col("address", Address),
            col("object", Address),
            col("interior", Bool),
            col("pinned", Bool),
            col("name", Text),
        ],
        fill: |job, table| runtime::roots(job.session, table),
    },
    Spec {
        name: "stackroots",
        columns: &[
            col("os_id", Hex),
            col("frame_sp", Address),
            col("register", Text),
            col("address", Address),
            col("object", Address),
            col("interior", Bool),
            col("pinned", Bool),
            col("frame", Text),
            col("precise", Bool),
        ],
        fill: |job, table| runtime::stack_roots(job.session, table),
    },
    Spec {
        name: "threads",
        columns: &[
            col("address", Address),
            col("os_id", Hex),
            col("managed_id", Number),
            col("alive", Bool),
            col("finalizer", Bool),
            col("gc", Bool),
            col("gc_mode", Text),
            col("state", Hex),
            col("lock_count", Count),
            col("exception", Address),
            col("alloc_start", Address),
            col("alloc_end", Address),
            col("stack_base", Address),
            col("stack_limit", Address),
        ],
        fill: |job, table| runtime::threads(job.session, table),
    },
    Spec {
        name: "modules",
        columns: &[
            col("address", Address),
            col("assembly", Address),
            col("image_base", Address),
            col("size", Bytes),
            col("dynamic", Bool),
            col("pe", Bool),
            col("metadata", Address),
            col("metadata_length", Bytes),
            col("name", Text),
            col("pdb", Text),
            col("app_domain", Address),
        ],
        fill: |job, table| runtime::modules(job.session, table),
    },
    Spec {
        name: "strings",
        columns: &[col("object", Address), col("length", Count), col("text", Content)],
        fill: |job, table| heap::strings(job.session, table),
    },
    Spec {
        name: "exceptions",
        columns: &[
            col("object", Address),
            col("type", TypeName),
            col("hresult", Hex),
            col("message", Content),
            col("inner", Address),
            col("stack", Text),
        ],
        fill: |job, table| types::exceptions(job.session, table),
    },
    Spec {
        name: "delegates",
        columns: &[
            col("object", Address),
            col("index", Number),
            col("kind", Text),
            col("target", Address),
            col("method_desc", Address),
            col("method", Text),
        ],
        fill: |job, table| types::delegates(job.session, table),
    },
    Spec {
        name: "syncblocks",
        columns: &[
            col("index", Number),
            col("object", Address),
            col("held", Bool),
            col("recursion", Count),
            col("holder_thread", Address),
            col("waiting", Count),
            col("com", Text),
        ],
        fill: |job, table| locks::sync_blocks(job.session, table),
    },
    Spec {
        name: "thinlocks",
        columns: &[col("object", Address), col("recursion", Count), col("thread", Address)],
        fill: |job, table| locks::thin_locks(job.session, table),
    },
    Spec {
        name: "waits",
        columns: &[
            col("relation", Text),
            col("managed_id", Number),
            col("os_id", Hex),
            col("kind", Text),
            list("object", Address),
            col("count", Count),
            list("holder_managed_id", Number),
        ],
        fill: |job, table| locks::waits(job.session, table),
    },
    Spec {
        name: "frames",
        columns: &[
            col("os_id", Hex),
            col("index", Number),
            col("kind", Text),
            col("frame", Text),
            col("sp", Address),
            col("ip", Address),
            col("method_desc", Address),
            col("token", Hex),
            col("module", Text),
            col("native_offset", Hex),
            col("il_offset", Number),
            col("signature", Text),
        ],
        fill: |job, table| frames::frames(job.session, table),
    },
    Spec {
        name: "ilmap",
        columns: &[col("method_desc", Address), col("il_offset", Number), col("native_start", Address)],
        fill: |job, table| frames::il_map(job.session, table),
    },
    Spec {
        name: "asyncframes",
        columns: &[
            col("task", Address),
            col("depth", Number),
            col("method", Text),
            col("il_offset", Number),
            col("line", Text),
            col("state", Text),
            col("awaited", Text),
        ],
        fill: |job, table| asyncframes::rows(job.session, table),
    },
    Spec {
        name: "suspects",
        columns: &[
            col("rank", Count),
            col("kind", Text),
            col("bytes", Bytes),
            col("share", Share),
            col("count", Count),
            col("holder", Address),
            col("holder_type", TypeName),
            col("element", TypeName),
            col("example", Address),
            col("variable", Text),
            col("root", Text),
            col("thread", Hex),
            col("generation", Text),
            col("path_length", Count),
            col("owner", Text),
            col("path", Text),
        ],
        fill: |job, table| suspects::rows(job.session, table),
    },
    Spec {
        name: "stackgroups",
        columns: &[
            col("hash", Hex),
            col("count", Count),
            list("threads", Number),
            col("depth", Count),
            col("frames", Text),
        ],
        fill: |job, table| stackgroups::rows(job.session, table),
    },
];

/// `objects` with what each keeps alive and what keeps it.
pub const HELD_OBJECTS: Spec = Spec {
    name: "objects",
    columns: &[
        col("address", Address),
        col("method_table", Address),
        col("size", Bytes),
        col("generation", Text),
        col("retained", Bytes),
        col("dominator", Address),
        col("depth", Count),
        col("owner", Text),
    ],
    fill: |job, table| holders::objects(job.session, table),
};

/// What the dump is and what became of the others: it is written last, and without a runtime too.
pub const DUMPS: Spec = Spec { name: "dumps", columns: dumps::COLUMNS, fill: dumps::row };

/// Names of all tables, in the order they are written.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLES.iter().chain(NATIVE).chain([&DUMPS])
}

/// Tables of native memory: they need no runtime, and what a dump lacks of them is no lack of the others.
pub const NATIVE: &[Spec] = &[
    Spec {
        name: "nativeblocks",
        columns: &[
            col("address", Address),
            col("size", Bytes),
            col("state", Text),
            col("arena", Number),
            col("kind", Text),
        ],
        fill: |job, table| native::blocks(job.session, table),
    },
    Spec {
        name: "nativearenas",
        columns: &[
            col("arena", Number),
            col("address", Address),
            col("main", Bool),
            col("heaps", Count),
            col("system", Bytes),
            col("used", Count),
            col("used_bytes", Bytes),
            col("free", Count),
            col("free_bytes", Bytes),
            col("largest_free", Bytes),
            col("fast", Count),
            col("fast_bytes", Bytes),
            col("cached", Count),
            col("cached_bytes", Bytes),
            col("top", Bytes),
            col("own", Bytes),
            col("lost", Bytes),
            col("threads", Count),
        ],
        fill: |job, table| native::arenas(job.session, table),
    },
    Spec {
        name: "nativeowners",
        columns: &[col("type", TypeName), col("field", Text), col("blocks", Count), col("bytes", Bytes)],
        fill: |job, table| native::owners(job.session, table),
    },
];
