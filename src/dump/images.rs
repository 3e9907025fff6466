//! Images (assemblies, runtime) on disk, for what the dump does not hold.

use std::path::Path;

use super::open::OpenOptions;

/// Finds image files by identity.
#[derive(Debug, Default)]
pub struct ImageStore {}

impl ImageStore {
    /// A store for the dump at `dump`.
    pub fn new(_dump: &Path, _options: &OpenOptions) -> Self {
        Self {}
    }
}
