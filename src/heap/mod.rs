//! Objects: segments and regions, the walk, references, roots, statistics. Never keeps one Rust value per object.

pub mod check;
pub mod closure;
pub mod graph;
pub mod index;
pub mod links;
pub mod model;
pub mod oom;
pub mod ordered;
pub mod reader;
pub mod regions;
pub mod retained;
pub mod roots;
pub mod segments;
pub mod starts;
pub mod stat;
pub mod summary;
pub mod types;
pub mod walk;

pub use model::{Generation, Heap, Segment, SegmentKind, SubHeap};
pub use types::{TypeId, TypeInfo, TypeRegistry};
pub use walk::{Found, Object, WalkReport, Walker};
