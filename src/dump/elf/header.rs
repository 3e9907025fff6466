//! The ELF header and program headers of a core (System V gABI; `include/uapi/linux/elf.h` in torvalds/linux).

use crate::dump::bytes::{self, word};
use crate::dump::{Arch, Problem};

/// `PT_LOAD`.
pub const PT_LOAD: u32 = 1;
/// `PT_DYNAMIC`.
pub const PT_DYNAMIC: u32 = 2;
/// `PT_NOTE`.
pub const PT_NOTE: u32 = 4;
const ET_CORE: u16 = 4;
const PN_XNUM: u16 = 0xFFFF;

/// What of the ELF header matters.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// 64-bit file.
    pub wide: bool,
    /// Processor.
    pub arch: Arch,
    /// `EI_OSABI`: 3 when the runtime's createdump wrote the file.
    pub os_abi: u8,
}

/// One program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`: 4 read, 2 write, 1 execute.
    pub flags: u32,
    /// `p_offset`.
    pub offset: u64,
    /// `p_vaddr`.
    pub address: u64,
    /// `p_filesz`.
    pub file_size: u64,
    /// `p_memsz`.
    pub memory_size: u64,
}

impl Segment {
    /// Reads the program header at `offset` of `data`.
    pub fn read(data: &[u8], offset: u64, wide: bool) -> Option<Self> {
        let kind = bytes::u32(data, offset)?;
        let at = |n: u64| word(data, offset.checked_add(n)?, wide);
        Some(if wide {
            let flags = bytes::u32(data, offset.checked_add(4)?)?;
            Self { kind, flags, offset: at(8)?, address: at(16)?, file_size: at(32)?, memory_size: at(40)? }
        } else {
            let flags = bytes::u32(data, offset.checked_add(24)?)?;
            Self { kind, flags, offset: at(4)?, address: at(8)?, file_size: at(16)?, memory_size: at(20)? }
        })
    }

    /// One past the last address.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.memory_size.max(self.file_size))
    }
}

/// Reads the header; an error says what the file is and what to do.
pub fn read(data: &[u8]) -> Result<Header, String> {
    let cut = || format!("is an ELF file cut off inside its header ({} bytes); copy the dump again", data.len());
    let ident: [u8; 16] = bytes::array(data, 0).ok_or_else(cut)?;
    let [_, _, _, _, class, order, _, os_abi, ..] = ident;
    if order == 2 {
        return Err("is a big-endian ELF file; only little-endian processes are read".into());
    }
    let wide = match class {
        1 => false,
        2 => true,
        _ => return Err("begins like an ELF file but is damaged: it is neither 32-bit nor 64-bit".into()),
    };
    let (kind, machine) = (bytes::u16(data, 16).ok_or_else(cut)?, bytes::u16(data, 18).ok_or_else(cut)?);
    if kind != ET_CORE {
        let what = match kind {
            1 => "an ELF object file",
            2 | 3 => "a Linux program or library (ELF)",
            _ => "an ELF file of unknown type",
        };
        return Err(format!(
            "is {what}, not a core; open a core written by createdump, dotnet-dump, gcore or the kernel"
        ));
    }
    let arch = match (machine, wide) {
        (62, true) => Arch::X64,
        (183, true) => Arch::Arm64,
        (3, false) => Arch::X86,
        (40, false) => Arch::Arm,
        _ => {
            let name = match machine {
                2 | 43 => "SPARC",
                8 => "MIPS",
                20 | 21 => "PowerPC",
                22 => "s390x",
                62 => "x32",
                243 => "RISC-V",
                258 => "LoongArch",
                _ => "",
            };
            return Err(format!("is a core of a processor that is not read (ELF machine {machine} {name})"));
        }
    };
    Ok(Header { wide, arch, os_abi })
}

/// Reads all program headers that the file holds. `None` when not even the first is there.
pub fn segments(data: &[u8], wide: bool, problems: &mut Vec<Problem>) -> Option<Vec<Segment>> {
    let (table, entry, count) =
        if wide { (bytes::u64(data, 32)?, 54, 56) } else { (u64::from(bytes::u32(data, 28)?), 42, 44) };
    let (mut entry, declared) = (u64::from(bytes::u16(data, entry)?), bytes::u16(data, count)?);
    let least = if wide { 56 } else { 32 };
    if entry < least {
        problems.push(problem("program headers", None, format!("entry size {entry} is too small; {least} assumed")));
        entry = least;
    }
    let mut count = u64::from(declared);
    if declared == PN_XNUM {
        count = extended_count(data, wide).unwrap_or_else(|| {
            let found = count_until_notes(data, table, entry, wide);
            let what = format!("the segment count is missing (file cut off?); {found} found before the notes");
            problems.push(problem("section header 0", None, what));
            found
        });
    }
    let fit = (data.len() as u64).saturating_sub(table) / entry;
    if count > fit {
        let what = format!("{count} declared, {fit} fit in the file");
        problems.push(problem("program headers", Some(table), what));
        count = fit;
    }
    let all: Vec<_> =
        (0..count).map_while(|i| Segment::read(data, table.checked_add(i.checked_mul(entry)?)?, wide)).collect();
    (!all.is_empty()).then_some(all)
}

/// `sh_info` of section header 0: the real count when there are 65,535 segments or more.
fn extended_count(data: &[u8], wide: bool) -> Option<u64> {
    let (at, info) = if wide { (bytes::u64(data, 40)?, 44) } else { (u64::from(bytes::u32(data, 32)?), 28) };
    if at == 0 {
        return None;
    }
    bytes::u32(data, at.checked_add(info)?).map(u64::from)
}

/// The kernel writes the section header at the very end of the file, where a cut loses it; its program headers end
/// where the notes begin.
fn count_until_notes(data: &[u8], table: u64, entry: u64, wide: bool) -> u64 {
    let notes = (0..16).find_map(|i| {
        let s = Segment::read(data, table.checked_add(i * entry)?, wide)?;
        (s.kind == PT_NOTE).then_some(s.offset)
    });
    notes.and_then(|n| n.checked_sub(table)).map_or(u64::from(PN_XNUM), |bytes| bytes / entry)
}

/// A problem record.
pub fn problem(place: &str, offset: Option<u64>, what: String) -> Problem {
    Problem { place: place.to_owned(), offset, what }
}
