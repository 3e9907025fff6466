//! Opening a dump: which format, then that format's reader.

use std::path::Path;

use super::map::FileMap;
use super::options::OpenOptions;
use super::{Dump, OpenError, cache, elf, minidump, sniff};
use crate::watch::Watch;

impl Dump {
    /// Opens the dump at `path`: a Windows minidump or a Linux core, plain or compressed (`.zst`, `.gz`).
    ///
    /// What is damaged but usable is listed in [`Dump::problems`]; an error means that nothing can be read. Cost is linear
    /// in the number of ranges and threads; memory content is not read. Unpacking honours `watch`.
    pub fn open(path: &Path, options: &OpenOptions, watch: &Watch) -> Result<Dump, OpenError> {
        let map = map_file(path)?;
        let (map, unpacked) = match sniff::compression(&map) {
            Some(how) => {
                let place = cache::unpack(path, &map, how, options, watch)?;
                (map_file(&place)?, Some(place))
            }
            None => (map, None),
        };
        watch.cancel.check().map_err(|_| OpenError::Interrupted)?;
        let mut dump = Self::from_map(path, map, options)?;
        dump.unpacked = unpacked;
        let written = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        dump.file_time =
            written.and_then(|t| t.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()).map(|d| d.as_secs());
        Ok(dump)
    }

    /// Opens a dump already in memory or mapped; `path` is for messages and for finding images beside it.
    pub fn from_map(path: &Path, map: FileMap, options: &OpenOptions) -> Result<Dump, OpenError> {
        match sniff::format(&map) {
            Ok(sniff::Format::Minidump) => minidump::open(path, map, options),
            Ok(sniff::Format::Elf) => elf::open(path, map, options),
            Err(what) => Err(OpenError::Unsupported { path: path.to_owned(), what }),
        }
    }
}

fn map_file(path: &Path) -> Result<FileMap, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let unsupported = |what: &str| OpenError::Unsupported { path: path.to_owned(), what: what.to_owned() };
    let meta = std::fs::metadata(path).map_err(io)?;
    if meta.is_dir() {
        return Err(unsupported("is a folder; name the dump file inside it"));
    }
    if !meta.is_file() {
        return Err(unsupported("is not a regular file; copy the dump to a file first"));
    }
    let map = FileMap::open(path).map_err(io)?;
    if map.is_empty() {
        return Err(unsupported("is empty (0 bytes); writing the dump failed or the copy did not finish"));
    }
    Ok(map)
}
