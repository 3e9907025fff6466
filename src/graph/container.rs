//! The container of an index file: numbered sections, each with a checksum, bound to an identity.
//!
//! ```text
//! "CLRSINDX"  version u32  sections u32  identity 2 x u64
//! per section: number u32, 0 u32, items u64, offset u64, bytes u64, checksum u64
//! checksum u64 of all of that
//! the sections
//! ```
//! All numbers are little-endian. A file with another version or identity, a wrong checksum in its head or sections that lie
//! outside it is no index. The checksum of a section is looked at when it is read.

use std::io::{self, Seek, SeekFrom, Write};

use super::pack::{checksum, checksum_of_pieces};
use crate::watch::Cancel;

const MAGIC: &[u8; 8] = b"CLRSINDX";
/// Changes with everything that changes what an index holds or how.
const VERSION: u32 = 4;
/// Bytes written between two looks at the cancellation flag.
const PIECE: usize = 1 << 23;
const HEAD: usize = 32;
const ENTRY: usize = 40;
/// More sections than any version has.
const MAX_SECTIONS: usize = 64;

/// What an index belongs to.
pub type Identity = [u64; 2];

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u32,
    items: u64,
    offset: u64,
    bytes: u64,
    checksum: u64,
}

/// The sections of an index file.
#[derive(Debug, Clone, Default)]
pub struct Container {
    entries: Vec<Entry>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Container {
    /// Reads the head of `file`; `None` when it is no index, or not that of `identity`.
    pub fn read(file: &[u8], identity: Identity) -> Option<Self> {
        if file.get(..8)? != MAGIC || u32_at(file, 8)? != VERSION {
            return None;
        }
        let count = u32_at(file, 12)? as usize;
        if count > MAX_SECTIONS || [u64_at(file, 16)?, u64_at(file, 24)?] != identity {
            return None;
        }
        let end = HEAD + count * ENTRY;
        if checksum(file.get(..end)?) != u64_at(file, end)? {
            return None;
        }
        let entries = (0..count).map(|i| {
            let at = HEAD + i * ENTRY;
            let offset = u64_at(file, at + 16)?;
            let bytes = u64_at(file, at + 24)?;
            let inside = offset.checked_add(bytes)? <= file.len() as u64;
            let entry = Entry {
                number: u32_at(file, at)?,
                items: u64_at(file, at + 8)?,
                offset,
                bytes,
                checksum: u64_at(file, at + 32)?,
            };
            inside.then_some(entry)
        });
        Some(Self { entries: entries.collect::<Option<_>>()? })
    }

    /// Number of items and bytes of section `number` of `file`; `None` when there is none or it is damaged, and
    /// after a stop.
    pub fn section<'f>(&self, file: &'f [u8], number: u32, cancel: &Cancel) -> Option<(u64, &'f [u8])> {
        let e = self.entries.iter().find(|e| e.number == number)?;
        let start = usize::try_from(e.offset).ok()?;
        let bytes = file.get(start..start.checked_add(usize::try_from(e.bytes).ok()?)?)?;
        (checksum_of_pieces(bytes, cancel) == e.checksum).then_some((e.items, bytes))
    }

    /// Whether there is a section `number`.
    pub fn has(&self, number: u32) -> bool {
        self.entries.iter().any(|e| e.number == number)
    }

    /// Whether a file that begins with `start` is a container, of whatever version.
    pub fn is_one(start: &[u8]) -> bool {
        start.starts_with(MAGIC)
    }
}

/// Writes a container, section by section.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    entries: Vec<Entry>,
    at: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins at the start of `to`, with room for the head.
    pub fn new(mut to: W) -> io::Result<Self> {
        let at = (HEAD + MAX_SECTIONS * ENTRY + 8) as u64;
        to.seek(SeekFrom::Start(at))?;
        Ok(Self { to, entries: Vec::new(), at })
    }

    /// Adds section `number` with `items` items.
    pub fn add(&mut self, number: u32, items: u64, bytes: &[u8], cancel: &Cancel) -> io::Result<()> {
        if self.entries.len() >= MAX_SECTIONS {
            return Err(io::Error::other("too many sections"));
        }
        let (offset, checksum) = (self.at, checksum_of_pieces(bytes, cancel));
        self.entries.push(Entry { number, items, offset, bytes: bytes.len() as u64, checksum });
        self.at += bytes.len() as u64;
        bytes.chunks(PIECE).try_for_each(|piece| {
            cancel.check().map_err(io::Error::other)?;
            self.to.write_all(piece)
        })
    }

    /// Writes the head; before that, what is there is no container.
    pub fn finish(mut self, identity: Identity) -> io::Result<W> {
        let mut head = Vec::with_capacity(HEAD + self.entries.len() * ENTRY + 8);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        identity.iter().for_each(|i| head.extend_from_slice(&i.to_le_bytes()));
        for e in &self.entries {
            head.extend_from_slice(&e.number.to_le_bytes());
            head.extend_from_slice(&[0; 4]);
            [e.items, e.offset, e.bytes, e.checksum].iter().for_each(|n| head.extend_from_slice(&n.to_le_bytes()));
        }
        let sum = checksum(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        self.to.seek(SeekFrom::Start(0))?;
        self.to.write_all(&head)?;
        Ok(self.to)
    }
}
