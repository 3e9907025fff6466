//! The object graph as pure numbers: ids in address order, adjacency, paths, dominators. Reads no dump and names no type.

pub mod adjacency;
pub mod container;
pub mod dominators;
pub mod ids;
pub mod mark;
pub mod pack;
pub mod paths;
pub mod ranked;
pub mod rounds;

pub use adjacency::{Adjacency, Chunk};
pub use dominators::{DominatorTree, Weights};
pub use ids::ObjectIds;
pub use ranked::{RankedBits, mark_bit};
