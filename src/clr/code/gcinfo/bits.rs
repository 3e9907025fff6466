//! Bits of a stream, the lowest of each byte first, and the numbers of variable length in it.

use crate::dump::little_endian;
/// Reads bits; nothing is read past the end.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// From the bit `at` of `bytes` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bits read so far, counted from the start of the bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bits not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    /// Moves to the bit `at`.
    pub fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// Moves over `count` bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        Some(())
    }

    /// The next bit.
    pub fn bit(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1 != 0;
        self.at += 1;
        Some(bit)
    }

    /// The next `count` bits, at most 32.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        if count == 0 {
            return Some(0);
        }
        let (byte, shift) = (self.at / 8, self.at % 8);
        let end = self.at.checked_add(count as usize)?;
        let bytes = self.bytes.get(byte..end.div_ceil(8))?;
        let word = little_endian(bytes);
        self.at = end;
        Some((word >> shift) as u32 & u32::MAX.checked_shr(32u32.checked_sub(count)?)?)
    }

    /// Groups of `base` bits, each with a bit that says whether another follows, lowest first.
    pub fn unsigned(&mut self, base: u32) -> Option<u32> {
        let (value, _) = self.groups(base)?;
        u32::try_from(value).ok()
    }

    /// As [`Bits::unsigned`]; the top bit of the last group is the sign.
    pub fn signed(&mut self, base: u32) -> Option<i32> {
        let (value, width) = self.groups(base)?;
        let rest = 64u32.checked_sub(width)?;
        i32::try_from((value << rest) as i64 >> rest).ok()
    }

    /// The value and how many bits it has.
    fn groups(&mut self, base: u32) -> Option<(u64, u32)> {
        /// No number of the format is wider than 32 bits, rounded up to whole groups.
        const WIDEST: u32 = 40;
        let (mut value, mut width) = (0u64, 0);
        while width < WIDEST {
            let group = self.take(base + 1)?;
            value |= u64::from(group & ((1 << base) - 1)) << width;
            width += base;
            if group >> base == 0 {
                return Some((value, width));
            }
        }
        None
    }
}
