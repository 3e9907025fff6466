//! Symbols that an image carries for the loader: the dynamic symbols of ELF, the exports of PE.
//!
//! Layouts: System V gABI (dynamic section, symbol table, GNU hash table as `elf.h` and binutils have it); PE format
//! specification (`.edata`).

use object::read::pe::{ExportTable, ExportTarget};

use super::image::{Format, Image};
use super::table::{MOST_NAME, MOST_SYMBOLS, Rank, Table};
use crate::dump::AddressSpace;
use crate::dump::elf::image::ElfImage;

/// Largest table of exports read, in bytes.
const MOST_EXPORTS: u32 = 1 << 26;

/// Adds the symbols of `image`; `false` where its tables are not at hand.
pub fn add(space: &AddressSpace, image: &Image, table: &mut Table) -> bool {
    match &image.format {
        Format::Elf(elf) => Dynamic::read(space, image, elf).is_some_and(|d| d.symbols(table)),
        Format::Pe(pe) => pe.directory(0).is_none_or(|d| exports(space, image, d, table).is_some()),
        Format::Unknown => false,
    }
}

fn exports(space: &AddressSpace, image: &Image, (at, size): (u32, u32), table: &mut Table) -> Option<()> {
    let section = image.section(space, u64::from(at), size.min(MOST_EXPORTS) as usize);
    let parsed = ExportTable::parse(&section.bytes, at).ok()?;
    let whole = !section.has_holes();
    let mut found = false;
    for (pointer, ordinal) in parsed.name_iter().take(MOST_SYMBOLS) {
        let (Ok(name), Ok(target)) = (parsed.name_from_pointer(pointer), parsed.target_by_index(ordinal)) else {
            continue;
        };
        if let (ExportTarget::Address(rva), Ok(name)) = (target, std::str::from_utf8(name)) {
            found = true;
            table.add(u64::from(rva), 0, Rank::Global, true, name);
        }
    }
    (whole || found).then_some(())
}

const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_GNU_HASH: u64 = 0x6FFF_FEF5;

/// What the dynamic section names; addresses in the process.
struct Dynamic<'a> {
    space: &'a AddressSpace,
    image: &'a Image,
    wide: bool,
    low: u64,
    strings: u64,
    string_bytes: u64,
    symbols: u64,
    hash: Option<u64>,
    gnu_hash: Option<u64>,
}

impl<'a> Dynamic<'a> {
    fn read(space: &'a AddressSpace, image: &'a Image, elf: &ElfImage) -> Option<Self> {
        let header = elf.segments.iter().find(|s| s.kind == PT_DYNAMIC)?;
        let step = if elf.wide { 8 } else { 4 };
        let start = elf.address(image.base, header.address);
        let word = |at: u64| if elf.wide { space.u64(at) } else { space.u32(at).map(u64::from) };
        let mut values = [None; 5];
        for i in 0..512u64 {
            let at = start.checked_add(2 * step * i)?;
            let (Some(tag), Some(value)) = (word(at), word(at.checked_add(step)?)) else { break };
            // Loaders of glibc put addresses here, that of musl and the vdso leave what the file has.
            let address = if value < image.base { elf.address(image.base, value) } else { value };
            match tag {
                0 => break,
                DT_STRTAB => values[0] = Some(address),
                DT_SYMTAB => values[1] = Some(address),
                DT_STRSZ => values[2] = Some(value),
                DT_HASH => values[3] = Some(address),
                DT_GNU_HASH => values[4] = Some(address),
                _ => {}
            }
        }
        let [strings, symbols, string_bytes, hash, gnu_hash] = values;
        Some(Self {
            space,
            image,
            wide: elf.wide,
            low: elf.low,
            strings: strings?,
            string_bytes: string_bytes?,
            symbols: symbols?,
            hash,
            gnu_hash,
        })
    }

    fn u32(&self, base: u64, index: u64) -> Option<u32> {
        self.space.u32(base.checked_add(index.checked_mul(4)?)?)
    }

    /// How many symbols there are, which only the hash tables know.
    fn count(&self) -> Option<u64> {
        let by_hash = || self.u32(self.hash?, 1).map(u64::from);
        let by_gnu_hash = || {
            let at = self.gnu_hash?;
            let (buckets, first, filter) = (self.u32(at, 0)?, self.u32(at, 1)?, self.u32(at, 2)?);
            let word = if self.wide { 8 } else { 4 };
            let places = at.checked_add(16)?.checked_add(u64::from(filter).checked_mul(word)?)?;
            let buckets = u64::from(buckets).min(MOST_SYMBOLS as u64);
            let last = (0..buckets).map_while(|i| self.u32(places, i)).max()?;
            let chains = places.checked_add(4 * buckets)?;
            let mut i = u64::from(last.checked_sub(first)?);
            while self.u32(chains, i)? & 1 == 0 && i < MOST_SYMBOLS as u64 {
                i += 1;
            }
            Some(i + u64::from(first) + 1)
        };
        by_hash().or_else(by_gnu_hash).map(|n| n.min(MOST_SYMBOLS as u64))
    }

    fn symbols(&self, table: &mut Table) -> bool {
        let Some(count) = self.count() else { return false };
        let (size, mut missing) = if self.wide { (24, false) } else { (16, false) };
        for i in 1..count {
            let Some(at) = self.symbols.checked_add(i * size) else { break };
            match self.symbol(at) {
                Some((rva, bytes, rank, code, name)) => table.add(rva, bytes, rank, code, &name),
                None => missing |= !self.space.readable(at),
            }
        }
        !missing
    }

    fn symbol(&self, at: u64) -> Option<(u64, u64, Rank, bool, String)> {
        let space = self.space;
        let name = u64::from(space.u32(at)?);
        let (info, section, value, size) = if self.wide {
            (space.u8(at + 4)?, space.u16(at + 6)?, space.u64(at + 8)?, space.u64(at + 16)?)
        } else {
            let (value, size) = (space.u32(at + 4)?, space.u32(at + 8)?);
            (space.u8(at + 12)?, space.u16(at + 14)?, u64::from(value), u64::from(size))
        };
        // Undefined ones are of other images; types: object, function, and functions chosen at load time.
        let (code, defined) = (matches!(info & 15, 2 | 10), section != 0 && section < 0xFF00);
        (defined && (code || info & 15 <= 1)).then_some(())?;
        let rva = value.wrapping_sub(self.low);
        (rva < self.image.size && name < self.string_bytes).then_some(())?;
        let text = space.utf8z(self.strings.checked_add(name)?, MOST_NAME);
        let rank = if info >> 4 == 2 { Rank::Weak } else { Rank::Global };
        Some((rva, size, rank, code, text))
    }
}
