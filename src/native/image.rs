//! An image of native code: its bytes by relative address, from the dump, else from its file where the identity is proved.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{DataDirectories, ImageNtHeaders, ImageOptionalHeader, SectionTable};

use crate::dump::elf::image::ElfImage;
use crate::dump::images::{FoundBy, ImageFound, ImageRequest};
use crate::dump::{AddressSpace, Dump, Module};

/// Longest PE headers read.
pub(super) const MOST_HEADERS: usize = 0x1_0000;

/// What an image is.
#[derive(Debug)]
pub enum Format {
    /// ELF, as its headers say.
    Elf(ElfImage),
    /// PE.
    Pe(Pe),
    /// Its headers are not at hand.
    Unknown,
}

/// The headers of a PE image.
#[derive(Debug, Clone, Default)]
pub struct Pe {
    /// `Machine`.
    pub machine: u16,
    /// Address and size by number of the data directory.
    directories: Vec<(u32, u32)>,
    /// RVA, bytes in the file, place in the file.
    sections: Vec<(u32, u32, u32)>,
    headers: u32,
}

impl Pe {
    /// The data directory of that number; `None` when it is empty.
    pub fn directory(&self, number: usize) -> Option<(u32, u32)> {
        self.directories.get(number).copied().filter(|d| d.0 != 0 && d.1 != 0)
    }

    fn read(headers: &[u8]) -> Option<Self> {
        let at = u64::from(pe::ImageDosHeader::parse(headers).ok()?.nt_headers_offset());
        let optional = usize::try_from(at.checked_add(24)?).ok()?;
        match headers.get(optional..)?.first_chunk()? {
            [0x0B, 2] => Self::parse::<pe::ImageNtHeaders64>(headers, at),
            [0x0B, 1] => Self::parse::<pe::ImageNtHeaders32>(headers, at),
            _ => None,
        }
    }

    fn parse<H: ImageNtHeaders>(headers: &[u8], mut at: u64) -> Option<Self> {
        let (nt, directories) = H::parse(headers, &mut at).ok()?;
        let directories: DataDirectories<'_> = directories;
        let sections: SectionTable<'_> = nt.sections(headers, at).ok()?;
        Some(Self {
            machine: nt.file_header().machine.get(LE).0,
            directories: directories.iter().map(|d| d.address_range()).collect(),
            sections: sections
                .iter()
                .map(|s| (s.virtual_address.get(LE), s.size_of_raw_data.get(LE), s.pointer_to_raw_data.get(LE)))
                .collect(),
            headers: nt.optional_header().size_of_headers(),
        })
    }

    /// Where the byte at `rva` lies in the file, and how many follow it there.
    fn in_file(&self, rva: u32) -> Option<(u64, u64)> {
        if rva < self.headers {
            return Some((u64::from(rva), u64::from(self.headers - rva)));
        }
        let (start, size, place) = self.sections.iter().find(|s| rva >= s.0 && rva - s.0 < s.1)?;
        Some((u64::from(*place) + u64::from(rva - start), u64::from(size - (rva - start))))
    }
}

/// An image of the process.
#[derive(Debug)]
pub struct Image {
    /// Its place in [`Dump::modules`].
    pub index: usize,
    /// Where it lies.
    pub base: u64,
    /// Bytes it takes.
    pub size: u64,
    /// What debuggers call it.
    pub name: String,
    /// What its headers say.
    pub format: Format,
    /// Its file, where one with its identity was found.
    pub file: Option<ImageFound>,
}

impl Image {
    /// Opens the image of the module of that number.
    pub fn open(dump: &Dump, index: usize) -> Option<Self> {
        let m = dump.modules.get(index)?;
        let file = file_of(dump, m);
        let (base, size) = (m.base, m.size);
        let format = format(&dump.space, base).or_else(|| in_file(file.as_ref()?)).unwrap_or(Format::Unknown);
        Some(Self { index, base, size, name: m.symbol_name(), format, file })
    }

    /// First address of a function and one past its last, of distances from the image's base.
    pub fn of_function(&self, (begin, end): (u32, u32)) -> (u64, u64) {
        (self.base.wrapping_add(begin.into()), self.base.wrapping_add(end.into()))
    }

    /// Fills `out` with what lies at `rva`; how many bytes of it are at hand.
    pub fn read(&self, space: &AddressSpace, rva: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(at) = rva.checked_add(done as u64) else { break };
            let memory = self.base.checked_add(at).map_or(0, |a| space.read(a, rest));
            let n = if memory > 0 { memory } else { self.of_file(at, rest) };
            if n == 0 {
                break;
            }
            done += n;
        }
        done
    }

    /// Copies from the file; only a PE's, since pages of ELF files are part of the address space already.
    fn of_file(&self, rva: u64, out: &mut [u8]) -> usize {
        let mut copy = || {
            let (Some(found), Format::Pe(pe)) = (&self.file, &self.format) else { return None };
            let (place, size) = pe.in_file(u32::try_from(rva).ok()?)?;
            let bytes = found.file.get(usize::try_from(place).ok()?..)?;
            // What follows may be in the dump: page by page.
            let page = 0x1000 - (rva & 0xFFF) as usize;
            let n = bytes.len().min(out.len()).min(usize::try_from(size).ok()?).min(page);
            out.get_mut(..n)?.copy_from_slice(bytes.get(..n)?);
            Some(n)
        };
        copy().unwrap_or(0)
    }

    /// `N` bytes at `rva`.
    pub fn array<const N: usize>(&self, space: &AddressSpace, rva: u64) -> Option<[u8; N]> {
        let mut out = [0; N];
        (self.read(space, rva, &mut out) == N).then_some(out)
    }

    /// The 32-bit word at `rva`.
    pub fn u32(&self, space: &AddressSpace, rva: u64) -> Option<u32> {
        self.array(space, rva).map(u32::from_le_bytes)
    }

    /// `len` bytes at `rva`, zeros in place of what is missing, with the stretches that are.
    pub fn section(&self, space: &AddressSpace, rva: u64, len: usize) -> Section {
        let mut bytes = vec![0; len];
        let mut holes: Vec<(usize, usize)> = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|r| !r.is_empty()) {
            let n = self.read(space, rva.wrapping_add(at as u64), rest);
            at += n;
            if at >= len {
                break;
            }
            let next = len.min(at + (0x1000 - (rva.wrapping_add(at as u64) & 0xFFF) as usize));
            match holes.last_mut() {
                Some(h) if h.1 == at => h.1 = next,
                _ => holes.push((at, next)),
            }
            at = next;
        }
        Section { address: self.base.wrapping_add(rva), bytes, holes }
    }
}

/// A section of an image as it lies in memory.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its address in the process.
    pub address: u64,
    /// Its bytes; zeros where the dump has none.
    pub bytes: Vec<u8>,
    holes: Vec<(usize, usize)>,
}

impl Section {
    /// One of which nothing is missing.
    pub fn whole(address: u64, bytes: Vec<u8>) -> Self {
        Self { address, bytes, holes: Vec::new() }
    }

    /// Whether some of it is missing.
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Whether all of `start..end` is there.
    pub fn has(&self, start: usize, end: usize) -> bool {
        let i = self.holes.partition_point(|h| h.1 <= start);
        end <= self.bytes.len() && self.holes.get(i).is_none_or(|h| h.0 >= end)
    }
}

fn format(space: &AddressSpace, base: u64) -> Option<Format> {
    if let Some(elf) = ElfImage::read(space, base) {
        return Some(Format::Elf(elf));
    }
    let mut headers = vec![0; MOST_HEADERS];
    let n = space.read(base, &mut headers);
    headers.truncate(n);
    Pe::read(&headers).map(Format::Pe)
}

fn in_file(found: &ImageFound) -> Option<Format> {
    if let Some(elf) = ElfImage::read(&found.file[..], 0) {
        return Some(Format::Elf(elf));
    }
    let n = found.file.len().min(MOST_HEADERS);
    Pe::read(found.file.get(..n)?).map(Format::Pe)
}

/// The file of a module, if its identity is proved.
fn file_of(dump: &Dump, m: &Module) -> Option<ImageFound> {
    let request = ImageRequest {
        recorded_path: &m.path,
        timestamp: m.timestamp,
        size_of_image: m.image_size,
        build_id: m.build_id.as_deref(),
        ..ImageRequest::default()
    };
    let provable = request.build_id.is_some() || (request.timestamp.is_some() && request.size_of_image.is_some());
    dump.images.find(&request).ok().filter(|f| provable && f.how == FoundBy::Identity)
}
