//! What the headers of an image say: fields, data directories, sections and debug records, as values.
//!
//! Layouts and names: the PE format specification; System V gABI; both as the `object` crate has them.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{DataDirectories, ImageNtHeaders, ImageOptionalHeader, SectionTable};

use super::image::{Format, Image, MOST_HEADERS};
use crate::dump::AddressSpace;
use crate::dump::bytes;
use crate::dump::elf::image::ElfImage;

/// One number of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The header it stands in: `file` or `optional`.
    pub header: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// What it means, where it is a choice or a set of flags.
    pub means: Option<String>,
}

/// A part of an image that a header lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Where it begins, from the image's base.
    pub rva: u64,
    /// Its bytes in memory.
    pub size: u64,
    /// Where it begins in the file.
    pub file_offset: Option<u64>,
    /// Its bytes in the file.
    pub file_size: Option<u64>,
    /// What it may do, by the names of its flags.
    pub flags: String,
}

/// The headers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `PE` or `ELF`.
    pub format: &'static str,
    /// Numbers in their order.
    pub fields: Vec<Field>,
    /// Data directories of a PE image that are not empty.
    pub directories: Vec<Part>,
    /// Sections of a PE image, segments of an ELF image.
    pub sections: Vec<Part>,
    /// Records of the debug directory of a PE image.
    pub debug: Vec<Part>,
}

impl Headers {
    /// Those of `image`; `None` when they are neither in the dump nor in its file.
    pub fn read(image: &Image, space: &AddressSpace) -> Option<Self> {
        let mut head = vec![0; MOST_HEADERS];
        let n = image.read(space, 0, &mut head);
        head.truncate(n);
        match &image.format {
            Format::Elf(elf) => of_elf(elf, &head),
            Format::Pe(_) => of_pe(image, space, &head),
            Format::Unknown => None,
        }
    }

    /// The value of a field.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|f| f.name == name).map(|f| f.value)
    }

    /// What a field means in words.
    pub fn means(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|f| f.name == name)?.means.as_deref()
    }
}

fn of_elf(elf: &ElfImage, head: &[u8]) -> Option<Headers> {
    let (kind, machine) = (bytes::u16(head, 16)?, bytes::u16(head, 18)?);
    let entry = if elf.wide { bytes::u64(head, 24)? } else { u64::from(bytes::u32(head, 24)?) };
    let flags = bytes::u32(head, if elf.wide { 48 } else { 36 })?;
    let field = |name, value, means| Field { header: "file", name, value, means };
    let named = |text: String| Some(text).filter(|t| t.parse::<u64>().is_err());
    let fields = vec![
        field("bits", if elf.wide { 64 } else { 32 }, None),
        field("type", u64::from(kind), named(format!("{:?}", object::elf::FileType(kind)))),
        field("machine", u64::from(machine), named(format!("{:?}", object::elf::Machine(machine)))),
        field("entry point", entry, None),
        field("flags", u64::from(flags), None),
        field("lowest address", elf.low, None),
        field("size of image", elf.size, None),
    ];
    let letters = |f: u32| [(4, 'R'), (2, 'W'), (1, 'E')].map(|(bit, c)| if f & bit != 0 { c } else { '-' });
    let sections = elf
        .segments
        .iter()
        .map(|s| Part {
            name: format!("{:?}", object::elf::ProgramType(s.kind)),
            rva: s.address.wrapping_sub(elf.low),
            size: s.memory_size,
            file_offset: Some(s.offset),
            file_size: Some(s.file_size),
            flags: letters(s.flags).iter().collect(),
        })
        .collect();
    Some(Headers { format: "ELF", fields, sections, ..Headers::default() })
}

fn of_pe(image: &Image, space: &AddressSpace, head: &[u8]) -> Option<Headers> {
    let at = u64::from(pe::ImageDosHeader::parse(head).ok()?.nt_headers_offset());
    let optional = usize::try_from(at.checked_add(24)?).ok()?;
    let mut headers = match head.get(optional..)?.first_chunk()? {
        [0x0B, 2] => parse::<pe::ImageNtHeaders64>(head, at)?,
        [0x0B, 1] => parse::<pe::ImageNtHeaders32>(head, at)?,
        _ => return None,
    };
    headers.debug = debug(image, space);
    Some(headers)
}

/// Names of data directories by number (PE format specification, "Optional Header Data Directories").
const DIRECTORIES: [&str; 16] = [
    "Export",
    "Import",
    "Resource",
    "Exception",
    "Security",
    "Base Relocation",
    "Debug",
    "Description",
    "Special",
    "Thread Storage",
    "Load Configuration",
    "Bound Import",
    "Import Address Table",
    "Delay Import",
    "COR20 Header",
    "Reserved",
];

fn parse<H: ImageNtHeaders>(head: &[u8], mut at: u64) -> Option<Headers> {
    let (nt, directories) = H::parse(head, &mut at).ok()?;
    let directories: DataDirectories<'_> = directories;
    let sections: SectionTable<'_> = nt.sections(head, at).ok()?;
    let mut fields = file_header(nt.file_header());
    fields.extend(optional_header(nt.optional_header()));
    let part = |(name, (rva, size)): (&&str, (u32, u32))| Part {
        name: (*name).to_owned(),
        rva: u64::from(rva),
        size: u64::from(size),
        file_offset: None,
        file_size: None,
        flags: String::new(),
    };
    Some(Headers {
        format: "PE",
        fields,
        directories: DIRECTORIES.iter().zip(directories.iter().map(|d| d.address_range())).map(part).collect(),
        sections: sections.iter().map(section).collect(),
        debug: Vec::new(),
    })
}

fn file_header(h: &pe::ImageFileHeader) -> Vec<Field> {
    let field = |name, value, means| Field { header: "file", name, value, means };
    let (machine, flags) = (h.machine.get(LE), h.characteristics.get(LE));
    vec![
        field("machine", u64::from(machine.0), Some(format!("{machine:?}"))),
        field("number of sections", u64::from(h.number_of_sections.get(LE)), None),
        field("time date stamp", u64::from(h.time_date_stamp.get(LE)), None),
        field("file pointer to symbol table", u64::from(h.pointer_to_symbol_table.get(LE)), None),
        field("number of symbols", u64::from(h.number_of_symbols.get(LE)), None),
        field("size of optional header", u64::from(h.size_of_optional_header.get(LE)), None),
        field("characteristics", u64::from(flags.0), Some(format!("{flags:?}"))),
    ]
}

fn optional_header<O: ImageOptionalHeader>(h: &O) -> Vec<Field> {
    let plain = |name, value: u64| Field { header: "optional", name, value, means: None };
    let version = |name, major: u16, minor: u16| {
        let value = u64::from(major) << 16 | u64::from(minor);
        Field { header: "optional", name, value, means: Some(format!("{major}.{minor:02}")) }
    };
    let means =
        |name, value: u16, text: String| Field { header: "optional", name, value: value.into(), means: Some(text) };
    let (subsystem, dll) = (h.subsystem(), h.dll_characteristics());
    vec![
        plain("magic", h.magic().into()),
        version("linker version", h.major_linker_version().into(), h.minor_linker_version().into()),
        plain("size of code", h.size_of_code().into()),
        plain("size of initialized data", h.size_of_initialized_data().into()),
        plain("size of uninitialized data", h.size_of_uninitialized_data().into()),
        plain("address of entry point", h.address_of_entry_point().into()),
        plain("base of code", h.base_of_code().into()),
        plain("image base", h.image_base()),
        plain("section alignment", h.section_alignment().into()),
        plain("file alignment", h.file_alignment().into()),
        version("operating system version", h.major_operating_system_version(), h.minor_operating_system_version()),
        version("image version", h.major_image_version(), h.minor_image_version()),
        version("subsystem version", h.major_subsystem_version(), h.minor_subsystem_version()),
        plain("size of image", h.size_of_image().into()),
        plain("size of headers", h.size_of_headers().into()),
        plain("checksum", h.check_sum().into()),
        means("subsystem", subsystem.0, format!("{subsystem:?}")),
        means("DLL characteristics", dll.0, format!("{dll:?}")),
        plain("size of stack reserve", h.size_of_stack_reserve()),
        plain("size of stack commit", h.size_of_stack_commit()),
        plain("size of heap reserve", h.size_of_heap_reserve()),
        plain("size of heap commit", h.size_of_heap_commit()),
    ]
}

fn section(s: &pe::ImageSectionHeader) -> Part {
    let name = s.name.split(|&b| b == 0).next().unwrap_or(&[]);
    Part {
        name: String::from_utf8_lossy(name).into_owned(),
        rva: s.virtual_address.get(LE).into(),
        size: s.virtual_size.get(LE).into(),
        file_offset: Some(s.pointer_to_raw_data.get(LE).into()),
        file_size: Some(s.size_of_raw_data.get(LE).into()),
        flags: format!("{:?}", s.characteristics.get(LE)),
    }
}

/// The debug directory (PE format specification, "Debug Directory").
fn debug(image: &Image, space: &AddressSpace) -> Vec<Part> {
    const DEBUG: usize = 6;
    const ENTRY: u32 = 28;
    /// More records than any linker writes.
    const MOST: u32 = 32;
    let Format::Pe(pe) = &image.format else { return Vec::new() };
    let Some((at, size)) = pe.directory(DEBUG) else { return Vec::new() };
    let record = |i: u32| {
        let entry = u64::from(at) + u64::from(i * ENTRY);
        let word = |offset| image.u32(space, entry + offset);
        Some(Part {
            name: format!("{:?}", pe::DebugType(word(12)?)),
            rva: word(20)?.into(),
            size: word(16)?.into(),
            file_offset: Some(word(24)?.into()),
            file_size: None,
            flags: String::new(),
        })
    };
    (0..(size / ENTRY).min(MOST)).map_while(record).collect()
}
