//! Reading objects by address: strings, arrays, boxed values.

use std::borrow::Cow;

use crate::clr::Clr;

fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

impl Clr {
    /// Offset of the first field (behind the MethodTable pointer).
    pub fn header(&self) -> u64 {
        u64::from(self.ptr_size())
    }

    /// MethodTable address of the object at `address`, mark bits removed.
    pub fn object_type(&self, address: u64) -> Option<u64> {
        Some(self.space().ptr(address)? & !(self.header() - 1))
    }

    /// Whether an object can be at `address`: nothing that the dump holds says that there is none. What it does not hold, as
    /// most of the heap in a mini dump, says nothing.
    pub fn may_be_object(&self, address: u64) -> bool {
        let Some(mt) = self.object_type(address) else { return !self.space().readable(address) };
        let Some(table) = self.method_table(mt) else { return mt != 0 && !self.space().readable(mt) };
        let absent = |at: u64| at != 0 && !self.space().readable(at);
        // An instantiation has its class by way of the type whose code it shares.
        let class = self.mts().eeclass(self.space(), &table).unwrap_or_else(|| self.mts().canonical(&table));
        self.valid_type(mt).is_some() || absent(class)
    }

    /// Length in UTF-16 units and text of the string at `address`, the text cut at `max` units. Lone surrogates become
    /// U+FFFD. The MethodTable is not checked.
    pub fn string_at(&self, address: u64, max: usize) -> Option<(u32, String)> {
        let (length, bytes) = self.string_bytes(address, max)?;
        let text = char::decode_utf16(units(&bytes));
        Some((length, text.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()))
    }

    /// As [`Clr::string_at`], the text in UTF-16 as it is.
    pub fn string_units(&self, address: u64, max: usize) -> Option<(u32, Vec<u16>)> {
        let (length, bytes) = self.string_bytes(address, max)?;
        Some((length, units(&bytes).collect()))
    }

    /// As [`Clr::string_units`], the bytes as they lie in the dump.
    pub fn string_bytes(&self, address: u64, max: usize) -> Option<(u32, Cow<'_, [u8]>)> {
        let (length_at, text_at) = self.mts.string_places().unwrap_or((self.header(), self.header() + 4));
        let length = self.space().u32(address.checked_add(length_at)?)?;
        if length > i32::MAX as u32 {
            return None;
        }
        let units = (length as usize).min(max);
        let (space, text) = (self.space(), address.checked_add(text_at)?);
        let bytes = match space.slice(text, units * 2) {
            Some(whole) => Cow::Borrowed(whole),
            None => Cow::Owned(space.bytes(text, units * 2)?),
        };
        Some((length, bytes))
    }

    /// Number of components of the array or string at `address`.
    pub fn component_count(&self, address: u64) -> Option<u32> {
        self.space().u32(address.checked_add(self.header())?)
    }

    /// Shape of the array at `address` with `rank` dimensions: (length, lower bound) of each, and the address of the
    /// first element. Vectors have one dimension with lower bound 0.
    pub fn array_shape(&self, address: u64, sz: bool, rank: u32) -> Option<(Vec<(u32, i32)>, u64)> {
        let mut data = address.checked_add(2 * self.header())?;
        if self.mts.has_element_types() {
            let mt = self.method_table(self.object_type(address)?)?;
            data = address.checked_add(u64::from(mt.base_size).checked_sub(self.header())?)?;
        }
        if sz {
            return Some((vec![(self.component_count(address)?, 0)], data));
        }
        if rank > 32 {
            return None;
        }
        let word = |i: u32| self.space().u32(data.checked_add(4 * u64::from(i))?);
        let dims = (0..rank).map(|i| Some((word(i)?, word(rank + i)? as i32))).collect::<Option<Vec<_>>>()?;
        Some((dims, data.checked_add(8 * u64::from(rank))?))
    }

    /// The header word in front of the object: sync block index, hash code or thin lock.
    pub fn object_header(&self, address: u64) -> Option<u32> {
        self.space().u32(address.checked_sub(4)?)
    }
}
