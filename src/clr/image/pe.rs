//! PE images, as mapped by a loader, as flat file contents in memory, or as a file: where their CLI metadata lies and
//! what identifies the build.
//!
//! Layouts: Microsoft PE format specification (headers, debug directory), ECMA-335 II.25.3.3 (CLI header). The runtime
//! keeps ready-to-run images mapped section by section and IL-only images flat on Linux; both occur in one process.

use std::ops::Range;

use crate::dump::AddressSpace;

/// Why there is no metadata at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// No PE headers there, or not readable.
    #[error("no PE image")]
    NotPe,
    /// A PE image without CLI header.
    #[error("not a managed image")]
    NotManaged,
    /// A managed image whose metadata is not in the dump.
    #[error("the image's metadata is not in the dump")]
    MetadataMissing,
}

/// How an image lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Sections at their RVAs.
    Mapped,
    /// Sections at their file offsets.
    Flat,
}

/// Identity of the PDB an image was built with (`RSDS` record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbId {
    /// GUID as stored (first three groups little-endian).
    pub guid: [u8; 16],
    /// Age.
    pub age: u32,
    /// Path as the compiler wrote it.
    pub path: String,
    /// Time stamp of the record's entry: with the GUID the identity of a portable PDB.
    pub stamp: u32,
}

impl PdbId {
    /// The GUID as text, e.g. `8f6cb757-9b94-bad2-c23c-a9573abc2d8a`.
    pub fn guid_text(&self) -> String {
        guid_text(&self.guid)
    }
}

/// A stored GUID as text: the first three groups are little-endian.
pub fn guid_text(g: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = g;
    let tail: String =
        rest.iter().enumerate().map(|(i, x)| format!("{}{x:02x}", if i == 2 { "-" } else { "" })).collect();
    format!("{d:02x}{c:02x}{b:02x}{a:02x}-{f:02x}{e:02x}-{h:02x}{g:02x}-{tail}")
}

/// What the CLI header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cli {
    /// `COMIMAGE_FLAGS`: 0x1 IL only, 0x4 IL library (ready to run).
    pub flags: u32,
    /// Entry point token, 0 for none.
    pub entry_point: u32,
    /// Where the metadata lies: addresses in memory, offsets in a file.
    pub metadata: Range<u64>,
    /// Whether the start of the metadata is there (`BSJB`).
    pub present: bool,
    /// RVA and size of the managed native header; size 0 for none. Ready-to-run images have it.
    pub native_header: (u32, u32),
}

/// An image's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeInfo {
    /// `Machine` as stored (ready-to-run images for Linux have it XORed with 0x7B79).
    pub machine: u16,
    /// `TimeDateStamp`, often a hash of the contents.
    pub timestamp: u32,
    /// `SizeOfImage` in bytes.
    pub size_of_image: u32,
    /// `ImageBase`: where pointers in the file assume it to be.
    pub preferred_base: u64,
    /// The layout found, or assumed when neither shows a CLI header.
    pub layout: Layout,
    /// The CLI header; `None` when the image is native or the header is not readable.
    pub cli: Option<Cli>,
    /// Whether the data directory names a CLI header at all.
    pub managed: bool,
    /// PDB identity, when readable. Of several, the one that is not of a native image.
    pub pdb: Option<PdbId>,
    /// Where a portable PDB lies inside the image, from its start in the layout it has, and its bytes.
    pub embedded_pdb: Option<(u64, u32)>,
    sections: Vec<Section>,
    headers: u32,
    certificates: (u32, u32),
}

/// A section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Distance from the base in memory.
    pub rva: u32,
    /// Bytes in memory.
    pub size: u32,
    /// Where it lies in the file.
    pub raw: u32,
    /// Bytes in the file.
    pub raw_size: u32,
}

/// Where an image's bytes come from; offsets are relative to its start.
#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a AddressSpace, u64),
    File(&'a [u8]),
}

impl Source<'_> {
    fn bytes<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        match self {
            Source::Memory(space, base) => {
                let mut b = [0; N];
                (space.read(base.checked_add(offset)?, &mut b) == N).then_some(b)
            }
            Source::File(f) => f.get(usize::try_from(offset).ok()?..)?.first_chunk().copied(),
        }
    }

    fn u16(&self, offset: u64) -> Option<u16> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    fn text(&self, offset: u64, max: u64) -> String {
        let bytes: Vec<u8> = (0..max)
            .map_while(|i| self.bytes::<1>(offset.checked_add(i)?).map(|[b]| b))
            .take_while(|&b| b != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What the optional header points to.
struct Directories {
    cli: (u32, u32),
    debug: (u32, u32),
}

impl PeInfo {
    /// Reads the image whose first byte is at `base`. Works with the header page alone; whether the metadata is there
    /// too says [`PeInfo::metadata`].
    pub fn in_memory(space: &AddressSpace, base: u64) -> Result<Self, PeError> {
        Self::read(Source::Memory(space, base), &[Layout::Mapped, Layout::Flat], base)
    }

    /// Reads an image file.
    pub fn in_file(file: &[u8]) -> Result<Self, PeError> {
        Self::read(Source::File(file), &[Layout::Flat], 0)
    }

    /// Where the metadata lies: addresses for an image in memory, offsets for a file.
    pub fn metadata(&self) -> Result<Range<u64>, PeError> {
        match &self.cli {
            Some(cli) if cli.present => Ok(cli.metadata.clone()),
            None if !self.managed => Err(PeError::NotManaged),
            _ => Err(PeError::MetadataMissing),
        }
    }

    /// A copy of the metadata of an image in memory; a hole in it makes it [`PeError::MetadataMissing`].
    pub fn metadata_bytes(&self, space: &AddressSpace) -> Result<Vec<u8>, PeError> {
        let range = self.metadata()?;
        let len = usize::try_from(range.end - range.start).map_err(|_| PeError::MetadataMissing)?;
        space.bytes(range.start, len).ok_or(PeError::MetadataMissing)
    }

    /// Bytes the image takes in the layout it has: a flat one is as long as its file, to the end of the last section or
    /// of the certificates behind it.
    pub fn size(&self) -> u64 {
        if self.layout == Layout::Mapped || self.cli.is_none() {
            return u64::from(self.size_of_image);
        }
        let sections = self.sections.iter().map(|s| u64::from(s.raw) + u64::from(s.raw_size));
        let certificates = u64::from(self.certificates.0) + u64::from(self.certificates.1);
        sections.max().unwrap_or(0).max(certificates).max(u64::from(self.headers))
    }

    /// Its sections, in the order of the table.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Bytes of the headers.
    pub fn headers(&self) -> u32 {
        self.headers
    }

    /// Whether both are the same build, as far as timestamp, image size and (where both have one) PDB identity tell.
    pub fn same_build(&self, other: &PeInfo) -> bool {
        let pdb = match (&self.pdb, &other.pdb) {
            (Some(a), Some(b)) => a.guid == b.guid && a.age == b.age,
            _ => true,
        };
        self.timestamp == other.timestamp && self.size_of_image == other.size_of_image && pdb
    }

    /// Offset of `rva` from the image's start in `layout`; `None` outside headers and sections.
    fn offset(&self, rva: u32, layout: Layout) -> Option<u64> {
        if layout == Layout::Mapped || rva < self.headers {
            return Some(u64::from(rva));
        }
        let s = self.sections.iter().find(|s| rva >= s.rva && rva - s.rva < s.raw_size.max(s.size))?;
        (rva - s.rva < s.raw_size).then(|| u64::from(s.raw) + u64::from(rva - s.rva))
    }

    /// Offset of `rva` from the image's start, in the layout the image has.
    pub fn offset_of(&self, rva: u32) -> Option<u64> {
        self.offset(rva, self.layout)
    }

    fn read(source: Source<'_>, layouts: &[Layout], base: u64) -> Result<Self, PeError> {
        let (mut info, directories) = headers(source).ok_or(PeError::NotPe)?;
        info.managed = directories.cli.0 != 0 && directories.cli.1 != 0;
        info.layout = layouts.first().copied().unwrap_or(Layout::Flat);
        if info.managed {
            for &layout in layouts {
                let Some(cli) = info.cli_header(source, directories.cli.0, layout, base) else { continue };
                let present = cli.present;
                if present || info.cli.is_none() {
                    (info.cli, info.layout) = (Some(cli), layout);
                }
                if present {
                    break;
                }
            }
        }
        (info.pdb, info.embedded_pdb) = info.find_pdb(source, directories.debug, layouts);
        Ok(info)
    }

    fn cli_header(&self, source: Source<'_>, rva: u32, layout: Layout, base: u64) -> Option<Cli> {
        let at = self.offset(rva, layout)?;
        let header: [u8; 0x48] = source.bytes(at)?;
        let u32_at = |at: usize| header.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b));
        (u32_at(0)? == 0x48).then_some(())?; // its own size: the only one there ever was
        let (rva, size) = (u32_at(8)?, u32_at(12)?);
        let start = self.offset(rva, layout)?;
        let present = source.bytes(start) == Some(*b"BSJB");
        let first = base.checked_add(start)?;
        Some(Cli {
            flags: u32_at(16)?,
            entry_point: u32_at(20)?,
            metadata: first..first.checked_add(u64::from(size))?,
            present,
            native_header: (u32_at(64)?, u32_at(68)?),
        })
    }

    fn find_pdb(
        &self,
        source: Source<'_>,
        (rva, size): (u32, u32),
        layouts: &[Layout],
    ) -> (Option<PdbId>, Option<(u64, u32)>) {
        // The layout found first; the others only count when no CLI header decided.
        let only = [self.layout];
        let layouts = if self.cli.is_some() { &only[..] } else { layouts };
        let (mut found, mut embedded) = (None::<PdbId>, None);
        for &layout in layouts {
            let Some(at) = self.offset(rva, layout).filter(|_| rva != 0) else { continue };
            for entry in (0..u64::from(size / 28).min(32)).map(|i| at + i * 28) {
                embedded = embedded.or_else(|| embedded_pdb(source, entry, layout));
                let Some(id) = code_view(source, entry, layout) else { continue };
                let native = |p: &PdbId| p.path.to_ascii_lowercase().ends_with(".ni.pdb");
                if found.as_ref().is_none_or(|f| native(f) && !native(&id)) {
                    found = Some(id);
                }
            }
            if found.is_some() || embedded.is_some() {
                break;
            }
        }
        (found, embedded)
    }
}

/// Place and size of what the debug directory entry at `entry` describes, if it is of type `kind`.
fn debug_data(source: Source<'_>, entry: u64, layout: Layout, kind: u32) -> Option<(u64, u32)> {
    (source.u32(entry + 12)? == kind).then_some(())?;
    let at = source.u32(entry + if layout == Layout::Mapped { 20 } else { 24 })?;
    Some((u64::from(at), source.u32(entry + 16)?))
}

/// The embedded portable PDB of the entry at `entry`, if it is one (`IMAGE_DEBUG_TYPE_EMBEDDED_PORTABLE_PDB`).
fn embedded_pdb(source: Source<'_>, entry: u64, layout: Layout) -> Option<(u64, u32)> {
    debug_data(source, entry, layout, 17).filter(|d| d.0 != 0)
}

/// The `RSDS` record of the debug directory entry at `entry`, if it is one.
fn code_view(source: Source<'_>, entry: u64, layout: Layout) -> Option<PdbId> {
    let (at, size) = debug_data(source, entry, layout, 2)?;
    let size = u64::from(size).min(1024);
    (source.bytes(at)? == *b"RSDS" && size > 24).then_some(())?;
    let (guid, age) = (source.bytes(at + 4)?, source.u32(at + 20)?);
    Some(PdbId { guid, age, path: source.text(at + 24, size - 24), stamp: source.u32(entry + 4)? })
}

/// DOS, file and optional header and the section table.
fn headers(source: Source<'_>) -> Option<(PeInfo, Directories)> {
    (source.bytes(0)? == *b"MZ").then_some(())?;
    let pe = u64::from(source.u32(0x3C)?);
    (source.bytes(pe)? == *b"PE\0\0").then_some(())?;
    let sections = u64::from(source.u16(pe + 6)?.min(96)); // the limit of the Windows loader
    let optional = pe + 24;
    let directories = optional + if source.u16(optional)? == 0x20B { 112 } else { 96 };
    let count = source.u32(directories - 4)?;
    let directory = |n: u32| {
        let at = directories + u64::from(n) * 8;
        if n < count { Some((source.u32(at)?, source.u32(at + 4)?)) } else { Some((0, 0)) }
    };
    let table = optional + u64::from(source.u16(pe + 20)?);
    let section = |n: u64| {
        let at = table + n * 40;
        Some(Section {
            size: source.u32(at + 8)?,
            rva: source.u32(at + 12)?,
            raw_size: source.u32(at + 16)?,
            raw: source.u32(at + 20)?,
        })
    };
    let info = PeInfo {
        machine: source.u16(pe + 4)?,
        timestamp: source.u32(pe + 8)?,
        size_of_image: source.u32(optional + 56)?,
        preferred_base: if source.u16(optional)? == 0x20B {
            source.bytes(optional + 24).map(u64::from_le_bytes)?
        } else {
            u64::from(source.u32(optional + 28)?)
        },
        layout: Layout::Mapped,
        cli: None,
        managed: false,
        pdb: None,
        embedded_pdb: None,
        sections: (0..sections).map_while(section).collect(),
        headers: source.u32(optional + 60)?,
        certificates: directory(4)?,
    };
    Some((info, Directories { cli: directory(14)?, debug: directory(6)? }))
}

#[cfg(test)]
mod tests;
