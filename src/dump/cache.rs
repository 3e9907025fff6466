//! Compressed dumps, unpacked once into a cache folder of bounded size.

use std::path::{Path, PathBuf};

use super::OpenError;
use super::map::FileMap;
use super::open::OpenOptions;
use super::sniff::Compression;
use crate::watch::Watch;

/// The place of the unpacked file, unpacking it when it is not there yet.
pub fn unpack(
    path: &Path,
    _packed: &FileMap,
    _how: Compression,
    _options: &OpenOptions,
    _watch: &Watch,
) -> Result<PathBuf, OpenError> {
    Err(OpenError::Unsupported { path: path.to_owned(), what: "is compressed; unpack it first".into() })
}
