//! The object graph as pure numbers: ids in address order, adjacency, paths. Reads no dump and names no type.

pub mod adjacency;
pub mod ids;
pub mod paths;

pub use adjacency::Adjacency;
pub use ids::ObjectIds;
