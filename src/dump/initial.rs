//! Pages of an ELF module that its process could write and that the dump lacks, as the loader laid them out from the file:
//! for a reader that knows which of the words there never change.
//!
//! A heap dump of `createdump` holds private memory by mapping: of an image's data segment the part behind the last page of
//! the file. What the process wrote to the pages in front is lost; what the loader wrote, and nobody after it, is known.
//! Relocations: System V gABI; the x86-64 and AArch64 ELF ABIs; `DT_RELR` as in the generic ABI.

use super::elf::header::{PT_DYNAMIC, PT_LOAD};
use super::elf::image::ElfImage;
use super::images::{FoundBy, ImageRequest};
use super::map::FileMap;
use super::{Arch, Dump, Module, bytes};

const WRITABLE: u32 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELRSZ: u64 = 35;
const DT_RELR: u64 = 36;
/// Bytes of an `Elf64_Rela`.
const RELA: u64 = 24;

impl Dump {
    /// The same dump with those pages of `module`, and how many bytes they are. `None` where none is missing, or no file
    /// with the module's build id is at hand. Nothing else of the dump is hidden by them.
    pub fn with_initial_pages(&self, module: &Module) -> Option<(Self, u64)> {
        let relative = match self.arch {
            Arch::X64 => 8,
            Arch::Arm64 => 1027,
            Arch::X86 | Arch::Arm => return None,
        };
        let image = ElfImage::read(&self.space, module.base)?;
        let lacking = image.segments.iter().filter(|s| s.kind == PT_LOAD && s.flags & WRITABLE != 0);
        let absent = |address: u64, length: u64| length > 0 && !self.space.holds(address, length);
        if !lacking.into_iter().any(|s| absent(image.address(module.base, s.address), s.file_size)) {
            return None;
        }
        let build_id = module.build_id.as_deref()?;
        let request = ImageRequest { recorded_path: &module.path, build_id: Some(build_id), ..ImageRequest::default() };
        let found = self.images.find(&request).ok().filter(|f| f.how == FoundBy::Identity)?;
        let laid = Laid::of(&found.file, module.base, relative)?;
        let before = self.space.readable_bytes();
        let mut builder = self.space.clone().into_builder();
        for (address, bytes) in laid.pieces {
            let length = bytes.len() as u64;
            let source = builder.source(FileMap::owned(bytes));
            builder.add(address, source, 0, length);
        }
        let space = builder.build().0;
        let added = space.readable_bytes().saturating_sub(before);
        Some((Self { space, ..self.clone() }, added))
    }
}

/// The writable segments of a file as the loader lays them out.
struct Laid {
    /// Distance from addresses in the file to those in memory.
    bias: u64,
    /// Address in memory and bytes of each.
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Laid {
    fn of(file: &[u8], base: u64, relative: u32) -> Option<Self> {
        let image = ElfImage::read(file, 0).filter(|i| i.wide)?;
        let bias = base.wrapping_sub(image.low);
        let loads: Vec<_> = image.segments.iter().filter(|s| s.kind == PT_LOAD).collect();
        let written = loads.iter().filter(|s| s.flags & WRITABLE != 0);
        // Segments do not overlap in the file of an image.
        let size = written.clone().fold(0u64, |sum, s| sum.saturating_add(s.file_size));
        if size > file.len() as u64 {
            return None;
        }
        let pieces = written
            .filter_map(|s| Some((bias.wrapping_add(s.address), bytes::slice(file, s.offset, s.file_size)?.to_vec())))
            .collect();
        let mut laid = Self { bias, pieces };
        // Where what lies at an address is in the file.
        let place = |address: u64| {
            let s = loads.iter().find(|s| address >= s.address && address - s.address < s.file_size)?;
            s.offset.checked_add(address - s.address)
        };
        let dynamic = image.segments.iter().find(|s| s.kind == PT_DYNAMIC)?;
        let table = bytes::slice(file, dynamic.offset, dynamic.file_size)?;
        let (words, _) = table.as_chunks::<8>();
        let entries: Vec<(u64, u64)> =
            words.chunks_exact(2).map(|e| (u64::from_le_bytes(e[0]), u64::from_le_bytes(e[1]))).collect();
        let tag = |tag: u64| entries.iter().take_while(|e| e.0 != 0).find(|e| e.0 == tag).map(|e| e.1);
        let part = |at: u64, size: u64| bytes::slice(file, place(tag(at)?)?, tag(size)?);
        if let Some(table) = part(DT_RELA, DT_RELASZ) {
            for entry in table.chunks_exact(RELA as usize) {
                let word = |o| bytes::u64(entry, o).unwrap_or(0);
                if word(8) as u32 == relative {
                    laid.put(word(0), |_, bias| bias.wrapping_add(word(16)));
                }
            }
        }
        if let Some(table) = part(DT_RELR, DT_RELRSZ) {
            laid.packed(table.as_chunks::<8>().0);
        }
        Some(laid)
    }

    /// Relocations packed as an address, then bits for the words behind it.
    fn packed(&mut self, table: &[[u8; 8]]) {
        let mut next = 0u64;
        for word in table.iter().map(|w| u64::from_le_bytes(*w)) {
            if word & 1 == 0 {
                self.put(word, u64::wrapping_add);
                next = word.wrapping_add(8);
                continue;
            }
            for bit in (0..63).filter(|b| word >> (b + 1) & 1 != 0) {
                self.put(next.wrapping_add(8 * bit), u64::wrapping_add);
            }
            next = next.wrapping_add(8 * 63);
        }
    }

    /// Changes the word at an address of the file: the word, the bias.
    fn put(&mut self, address: u64, change: impl Fn(u64, u64) -> u64) {
        let (bias, at) = (self.bias, self.bias.wrapping_add(address));
        for (start, bytes) in &mut self.pieces {
            let place = at.checked_sub(*start).and_then(|o| usize::try_from(o).ok());
            let Some(word) = place.and_then(|o| bytes.get_mut(o..o.checked_add(8)?)) else { continue };
            let old = bytes::u64(word, 0).unwrap_or(0);
            word.copy_from_slice(&change(old, bias).to_le_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packed_relocations_name_an_address_and_the_words_behind_it() {
        let mut laid = Laid { bias: 0x1000, pieces: vec![(0x3000, vec![0; 80])] };
        // 0x2008, then of the words behind it the first and the third; then a word outside.
        laid.packed(&[0x2008u64.to_le_bytes(), (0b101u64 << 1 | 1).to_le_bytes(), 0x9000u64.to_le_bytes()]);
        let words: Vec<u64> = laid.pieces[0].1.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
        assert_eq!(words, [0, 0x1000, 0x1000, 0, 0x1000, 0, 0, 0, 0, 0]);
    }
}
