//! An exported symbol of an image by its name, read from memory: the export directory of a PE image (`winnt.h`,
//! `IMAGE_EXPORT_DIRECTORY`), the dynamic symbols of a 64-bit ELF image by their GNU hash (`elf.h`). Pages that are not
//! in the dump give `None`.

use super::scan::Span;
use crate::dump::{AddressSpace, Dump};

/// Most names or symbols looked at.
const MOST: u32 = 1 << 16;

/// Address of the symbol `name` that `image` exports.
pub fn find(dump: &Dump, image: Span, name: &str) -> Option<u64> {
    let space = &dump.space;
    let found = match space.u16(image.base)? {
        0x5A4D => pe(space, image.base, name),
        0x457F => elf(space, image.base, name),
        _ => None,
    };
    found.filter(|&a| image.contains(a))
}

/// Whether the text at `at` is `name`, closed by a zero.
fn is_name(space: &AddressSpace, at: u64, name: &str) -> bool {
    space.bytes(at, name.len() + 1).is_some_and(|b| b.split_last() == Some((&0, name.as_bytes())))
}

fn pe(space: &AddressSpace, base: u64, name: &str) -> Option<u64> {
    let at = |rva: u32| base.checked_add(u64::from(rva));
    let header = at(space.u32(base.checked_add(0x3C)?)?)?;
    if space.u32(header)? != u32::from_le_bytes(*b"PE\0\0") {
        return None;
    }
    let optional = header.checked_add(24)?;
    let directories = optional.checked_add(if space.u16(optional)? == 0x20B { 112 } else { 96 })?;
    let exports = at(space.u32(directories).filter(|&rva| rva != 0)?)?;
    let word = |offset: u64| space.u32(exports.checked_add(offset)?);
    let (count, functions, names, ordinals) = (word(24)?, at(word(28)?)?, at(word(32)?)?, at(word(36)?)?);
    for i in 0..u64::from(count.min(MOST)) {
        let text = at(space.u32(names.checked_add(4 * i)?)?)?;
        if is_name(space, text, name) {
            let ordinal = space.u16(ordinals.checked_add(2 * i)?)?;
            return at(space.u32(functions.checked_add(4 * u64::from(ordinal))?)?);
        }
    }
    None
}

/// Tags of the dynamic section and types of program headers.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6FFF_FEF5;
const CLASS_64: u8 = 2;

fn elf(space: &AddressSpace, base: u64, name: &str) -> Option<u64> {
    if space.u8(base.checked_add(4)?)? != CLASS_64 {
        return None;
    }
    let table = base.checked_add(space.u64(base.checked_add(0x20)?)?)?;
    let (size, count) = (space.u16(base.checked_add(0x36)?)?, space.u16(base.checked_add(0x38)?)?);
    let (mut lowest, mut dynamic) = (None::<u64>, None);
    for i in 0..u64::from(count.min(128)) {
        let header = table.checked_add(i * u64::from(size))?;
        let address = space.u64(header.checked_add(16)?)?;
        match space.u32(header)? {
            PT_LOAD => lowest = Some(lowest.map_or(address, |l| l.min(address))),
            PT_DYNAMIC => dynamic = Some(address),
            _ => {}
        }
    }
    let bias = base.wrapping_sub(lowest? & !0xFFF);
    let dynamic = bias.wrapping_add(dynamic?);
    let (mut strings, mut symbols, mut hash) = (None, None, None);
    for i in 0..256u64 {
        let entry = dynamic.checked_add(16 * i)?;
        let (tag, value) = (space.u64(entry)?, space.u64(entry.checked_add(8)?)?);
        // glibc puts addresses here, musl leaves what the file has.
        let value = if value < base { bias.wrapping_add(value) } else { value };
        match tag {
            0 => break,
            DT_STRTAB => strings = Some(value),
            DT_SYMTAB => symbols = Some(value),
            DT_GNU_HASH => hash = Some(value),
            _ => {}
        }
    }
    let symbol = Symbols { space, strings: strings?, symbols: symbols? }.lookup(hash?, name)?;
    Some(bias.wrapping_add(symbol))
}

struct Symbols<'a> {
    space: &'a AddressSpace,
    strings: u64,
    symbols: u64,
}

impl Symbols<'_> {
    /// Value of the symbol `name`, by the hash table at `table`: numbers of buckets, of the first symbol in it and of words
    /// of its filter; the filter, the buckets, one word a symbol whose lowest bit ends a bucket.
    fn lookup(&self, table: u64, name: &str) -> Option<u64> {
        const SYMBOL: u64 = 24;
        let word = |at: u64, i: u64| self.space.u32(at.checked_add(4 * i)?);
        let (buckets, first, filter) = (word(table, 0)?, word(table, 1)?, word(table, 2)?);
        let hash = name.bytes().fold(5381u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(b)));
        let places = table.checked_add(16)?.checked_add(8 * u64::from(filter))?;
        let mut index = word(places, u64::from(hash.checked_rem(buckets)?))?;
        if index < first {
            return None;
        }
        let chains = places.checked_add(4 * u64::from(buckets))?;
        for _ in 0..MOST {
            let chain = word(chains, u64::from(index.checked_sub(first)?))?;
            if chain | 1 == hash | 1 {
                let symbol = self.symbols.checked_add(SYMBOL * u64::from(index))?;
                let text = self.strings.checked_add(u64::from(self.space.u32(symbol)?))?;
                if is_name(self.space, text, name) {
                    return self.space.u64(symbol.checked_add(8)?).filter(|&v| v != 0);
                }
            }
            if chain & 1 != 0 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }
}
