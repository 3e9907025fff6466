//! Maps from metadata rows to the runtime's structures (`LookupMap`).
//!
//! Layout: dotnet/runtime `src/coreclr/vm/ceeload.h`: blocks of {next, table, count, flag mask}. Through .NET Core 2.2
//! entries are distances from their own place, and the maps of images compiled ahead of time are compressed
//! (dotnet/coreclr v2.1 `src/vm/ceeload.h`, `ceeload.cpp`): every sixteenth entry stands in an index with the bit at which
//! its successors begin in the table; those are differences, each with two bits that choose its length.

use crate::clr::layout::{Layout, relative_value};
use crate::dump::AddressSpace;
use crate::dump::little_endian;

/// Entries from one mark of the index to the next.
const STRIDE: u32 = 16;
/// Bits of a value in the index.
const VALUE_BITS: u32 = 32;
/// Bits that choose the length of a difference.
const LENGTH_BITS: u32 = 2;

/// One block of a map.
#[derive(Debug, Clone, Copy)]
pub struct LookupMap {
    address: u64,
    next: u64,
    table: u64,
    count: u32,
    relative: bool,
    packed: Option<Packed>,
}

/// What a compressed block has beside its table.
#[derive(Debug, Clone, Copy)]
struct Packed {
    index: u64,
    index_bits: u32,
    lengths: [u8; 4],
}

impl LookupMap {
    /// The block at `address`; `None` when it is not readable or the layout lacks its fields.
    pub fn at(space: &AddressSpace, l: &Layout, address: u64) -> Option<Self> {
        const TYPE: &str = "ModuleLookupMap";
        let word = |field: &str| space.u32(address.checked_add(l.try_offset(TYPE, field)?)?);
        let pointer = |field: &str| space.ptr_at(address, l.try_offset(TYPE, field)?);
        let packed = || {
            let index = pointer("Index").filter(|&i| i != 0)?;
            let lengths = word("EncodingLengths")?.to_le_bytes();
            Some(Packed { index, index_bits: word("IndexEntryBits")?, lengths })
        };
        Some(Self {
            address,
            next: pointer("Next").unwrap_or(0),
            table: pointer("TableData")?,
            count: word("Count").unwrap_or(u32::MAX),
            relative: l.is_relative(TYPE, "TableData"),
            packed: packed(),
        })
    }

    /// Rows this block holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The block behind this one, 0 when it is the last.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The entry of row `i` without its flag bits, 0 for none; `None` when it is not readable.
    pub fn get(&self, space: &AddressSpace, i: u32) -> Option<u64> {
        let flags = u64::from(space.ptr_size()) - 1;
        if let Some(packed) = &self.packed {
            let distance = if i < self.count { packed.distance(space, self.table, i)? } else { 0 };
            return Some(if distance == 0 {
                0
            } else {
                self.address.wrapping_add_signed(i64::from(distance)) & !flags
            });
        }
        let at = self.table.checked_add(u64::from(i) * u64::from(space.ptr_size()))?;
        let value = if self.relative { relative_value(space, at)? } else { space.ptr(at)? };
        Some(value & !flags)
    }
}

impl Packed {
    /// Distance of entry `i` from the map.
    fn distance(&self, space: &AddressSpace, table: u64, i: u32) -> Option<i32> {
        if !(VALUE_BITS + 1..=2 * VALUE_BITS).contains(&self.index_bits) {
            return None;
        }
        let mut index = Bits { space, base: self.index, position: u64::from(i / STRIDE) * u64::from(self.index_bits) };
        let mut value = index.take(VALUE_BITS)? as i32;
        if i.is_multiple_of(STRIDE) {
            return Some(value);
        }
        let mut rest = Bits { space, base: table, position: u64::from(index.take(self.index_bits - VALUE_BITS)?) };
        for _ in 0..i % STRIDE {
            let length = *self.lengths.get(rest.take(LENGTH_BITS)? as usize)?;
            let added = rest.take(1)? == 1;
            let difference = rest.take(u32::from(length))? as i32;
            value = if added { value.wrapping_add(difference) } else { value.wrapping_sub(difference) };
        }
        Some(value)
    }
}

/// A stream of bits, lowest first.
struct Bits<'a> {
    space: &'a AddressSpace,
    base: u64,
    position: u64,
}

impl Bits<'_> {
    /// The next `n` bits, 32 at most.
    fn take(&mut self, n: u32) -> Option<u32> {
        if n == 0 {
            return Some(0);
        }
        if n > 32 {
            return None;
        }
        let (at, shift) = (self.base.checked_add(self.position / 8)?, self.position % 8);
        let bytes = self.space.bytes(at, (shift as usize + n as usize).div_ceil(8))?;
        let word = little_endian(&bytes);
        self.position += u64::from(n);
        Some((word >> shift) as u32 & (u32::MAX >> (32 - n)))
    }
}
