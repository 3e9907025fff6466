//! ELF and PE images as they lie in memory or in a file: size, build id, identity.
//!
//! Layouts: System V gABI; `include/uapi/linux/elf.h` in torvalds/linux 6.6; the PE format specification.

use super::header::{PT_DYNAMIC, PT_LOAD, PT_NOTE, Segment};
use crate::dump::AddressSpace;
use crate::dump::bytes;

/// Gives bytes at an address (memory) or offset (file).
pub trait Source {
    /// `len` bytes at `at`, in one piece.
    fn at(&self, at: u64, len: usize) -> Option<&[u8]>;
    /// As many bytes as lie at `at`, at most `max`.
    fn some(&self, at: u64, max: usize) -> Option<&[u8]>;
}

impl Source for AddressSpace {
    fn at(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.slice(at, len)
    }
    fn some(&self, at: u64, max: usize) -> Option<&[u8]> {
        self.run(at).map(|r| r.get(..max).unwrap_or(r))
    }
}

impl Source for [u8] {
    fn at(&self, at: u64, len: usize) -> Option<&[u8]> {
        bytes::slice(self, at, len as u64)
    }
    fn some(&self, at: u64, max: usize) -> Option<&[u8]> {
        let tail = self.get(usize::try_from(at).ok()?..)?;
        Some(tail.get(..max).unwrap_or(tail))
    }
}

/// What the headers of an ELF image say.
#[derive(Debug, Clone, Default)]
pub struct ElfImage {
    /// 64-bit image.
    pub wide: bool,
    /// Program headers.
    pub segments: Vec<Segment>,
    /// Lowest page of a `PT_LOAD`: what the base address corresponds to.
    pub low: u64,
    /// Bytes from `low` to the end of the last `PT_LOAD`, `.bss` included.
    pub size: u64,
}

const PAGE: u64 = 0x1000;
/// More program headers than any image has; a bound for damaged ones.
const MOST_SEGMENTS: u16 = 128;

impl ElfImage {
    /// Reads the headers of the image at `base`.
    pub fn read<S: Source + ?Sized>(source: &S, base: u64) -> Option<Self> {
        let head = source.at(base, 52)?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = head.get(4) == Some(&2);
        let head = source.at(base, if wide { 64 } else { 52 })?;
        let (table, entry, count) = if wide {
            (bytes::u64(head, 32)?, bytes::u16(head, 54)?, bytes::u16(head, 56)?)
        } else {
            (u64::from(bytes::u32(head, 28)?), bytes::u16(head, 42)?, bytes::u16(head, 44)?)
        };
        if entry < if wide { 56 } else { 32 } || count > MOST_SEGMENTS {
            return None;
        }
        let table = source.at(base.checked_add(table)?, usize::from(entry) * usize::from(count))?;
        let segments: Vec<Segment> =
            (0..u64::from(count)).map_while(|i| Segment::read(table, i * u64::from(entry), wide)).collect();
        let loads = || segments.iter().filter(|s| s.kind == PT_LOAD);
        let low = loads().map(|s| s.address).min()? & !(PAGE - 1);
        let end = loads().map(Segment::end).max()?;
        let size = end.checked_next_multiple_of(PAGE)?.checked_sub(low)?;
        Some(Self { wide, segments, low, size })
    }

    /// The address of `vaddr` when the image lies at `base`.
    pub fn address(&self, base: u64, vaddr: u64) -> u64 {
        base.wrapping_add(vaddr.wrapping_sub(self.low))
    }

    /// The build id (`NT_GNU_BUILD_ID`) of the image in memory at `base`.
    pub fn build_id_in_memory<S: Source + ?Sized>(&self, source: &S, base: u64) -> Option<Vec<u8>> {
        self.notes().find_map(|s| build_id(source.some(self.address(base, s.address), note_len(s))?))
    }

    /// The build id of the image in a file.
    pub fn build_id_in_file(&self, data: &[u8]) -> Option<Vec<u8>> {
        self.notes().find_map(|s| build_id(data.some(s.offset, note_len(s))?))
    }

    fn notes(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.kind == PT_NOTE)
    }

    /// The `PT_DYNAMIC` header.
    pub fn dynamic(&self) -> Option<&Segment> {
        self.segments.iter().find(|s| s.kind == PT_DYNAMIC)
    }
}

fn note_len(s: &Segment) -> usize {
    s.file_size.min(0x1_0000) as usize
}

fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0u64;
    loop {
        let (name, size, kind) = (bytes::u32(notes, at)?, bytes::u32(notes, at + 4)?, bytes::u32(notes, at + 8)?);
        let content = at + 12 + u64::from(name).next_multiple_of(4);
        if kind == 3 && bytes::slice(notes, at + 12, 4) == Some(b"GNU\0") && (4..=64).contains(&size) {
            return bytes::slice(notes, content, u64::from(size)).map(<[u8]>::to_vec);
        }
        at = content + u64::from(size).next_multiple_of(4);
    }
}

/// What the headers of a PE image say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeImage {
    /// `TimeDateStamp` of the file header.
    pub timestamp: u32,
    /// `SizeOfImage` of the optional header.
    pub size_of_image: u32,
    /// `SizeOfHeaders` of the optional header.
    pub size_of_headers: u32,
}

impl PeImage {
    /// Reads the headers of the PE image at `base`.
    pub fn read<S: Source + ?Sized>(source: &S, base: u64) -> Option<Self> {
        let head = source.at(base, 64)?;
        if !head.starts_with(b"MZ") {
            return None;
        }
        let at = u64::from(bytes::u32(head, 0x3C)?);
        let nt = source.at(base.checked_add(at)?, 0x60)?;
        if bytes::u32(nt, 0)? != 0x4550 {
            return None;
        }
        Some(Self {
            timestamp: bytes::u32(nt, 8)?,
            size_of_image: bytes::u32(nt, 0x50)?,
            size_of_headers: bytes::u32(nt, 0x54)?,
        })
    }
}
