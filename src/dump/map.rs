//! Files mapped into memory: the only place in the project with `unsafe`.
#![allow(unsafe_code, reason = "memory maps are unsafe by nature; see the SAFETY note")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

/// A read-only view of a whole file, or owned bytes standing in for one (tests, small unpacked streams).
#[derive(Debug, Clone)]
pub struct FileMap(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl FileMap {
    /// Maps `path` read-only. An empty file gives an empty view.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if file.metadata()?.len() == 0 {
            return Ok(Self::owned(Vec::new()));
        }
        // SAFETY: the map is private to this process and read-only. If another process truncates the file while it is
        // open, reads past its new end raise SIGBUS: dumps are not written to while they are read, and docs/architecture.md
        // says so. No reference outlives the Arc.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Arc::new(Inner::Mapped(map))))
    }

    /// Wraps bytes already in memory.
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Inner::Owned(bytes)))
    }
}

impl Deref for FileMap {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Inner::Mapped(m) => m,
            Inner::Owned(v) => v,
        }
    }
}
