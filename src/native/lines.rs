//! Source lines from DWARF, where an image or the file split off it has it.

use std::sync::{Arc, Mutex, PoisonError};

use addr2line::Context;
use gimli::{Dwarf, EndianArcSlice, LittleEndian, SectionId};
use object::{CompressionFormat, Object, ObjectSection};

use super::image::{Format, Image};
use super::{Native, debugfiles};
use crate::dump::map::FileMap;

/// Most bytes of one section.
const MOST_BYTES: u64 = 1 << 30;

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Path of the file as the compiler wrote it.
    pub file: String,
    /// The line.
    pub line: u32,
}

/// Source lines of an image.
pub struct Lines {
    context: Mutex<Context<EndianArcSlice<LittleEndian>>>,
    /// What its own numbering begins with.
    low: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

impl Lines {
    pub(super) fn find(native: &Native, image: &Image) -> Option<Self> {
        let Format::Elf(elf) = &image.format else { return None };
        let own = image.file.as_ref().and_then(|f| read(&f.file));
        let dwarf = own.or_else(|| read(&debugfiles::split(native.dump(), image).ok()?.file))?;
        let context = Context::from_dwarf(dwarf).ok()?;
        Some(Self { context: Mutex::new(context), low: elf.low })
    }

    /// The line of the instruction at `rva`.
    pub fn at(&self, rva: u64) -> Option<Line> {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        let found = context.find_location(rva.wrapping_add(self.low)).ok()??;
        Some(Line { file: found.file?.to_owned(), line: found.line? })
    }
}

fn read(file: &FileMap) -> Option<Dwarf<EndianArcSlice<LittleEndian>>> {
    let parsed = object::File::parse(&file[..]).ok()?;
    parsed.section_by_name(".debug_line").or_else(|| parsed.section_by_name(".zdebug_line"))?;
    dwarf(&parsed)
}

/// The debug information of a file.
pub(super) fn dwarf(parsed: &object::File<'_>) -> Option<Dwarf<EndianArcSlice<LittleEndian>>> {
    let load = |id: SectionId| -> Result<_, gimli::Error> {
        let bytes = parsed.section_by_name(id.name()).and_then(|s| bytes(&s)).unwrap_or_default();
        Ok(EndianArcSlice::new(Arc::from(bytes), LittleEndian))
    };
    Dwarf::load(load).ok()
}

/// The bytes of a section, unpacked.
fn bytes<'d>(section: &impl ObjectSection<'d>) -> Option<Vec<u8>> {
    use std::io::Read;
    let data = section.compressed_data().ok()?;
    (data.uncompressed_size <= MOST_BYTES).then_some(())?;
    let mut out = Vec::new();
    match data.format {
        CompressionFormat::None => return Some(data.data.to_vec()),
        CompressionFormat::Zlib => {
            flate2::read::ZlibDecoder::new(data.data).take(data.uncompressed_size).read_to_end(&mut out).ok()?;
        }
        CompressionFormat::Zstandard => {
            zstd::Decoder::new(data.data).ok()?.take(data.uncompressed_size).read_to_end(&mut out).ok()?;
        }
        _ => return None,
    }
    Some(out)
}

impl Native {
    /// The source line of the instruction at `address`, where debug information is at hand.
    pub fn line_at(&self, address: u64) -> Option<Line> {
        let opened = self.image_at(address)?;
        let lines = opened.lines.get_or_init(|| Lines::find(self, &opened.image));
        lines.as_ref()?.at(address - opened.image.base)
    }
}
