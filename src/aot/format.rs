//! Numbers, texts and hash tables of the native format: how the compiler writes metadata and maps into an image.
//!
//! Source: dotnet/runtime `src/coreclr/tools/Common/Internal/NativeFormat` (`NativeFormatReader.cs`,
//! `NativeFormatReader.Primitives.cs`), the same from 8.0 to 11.0. Nothing read here is trusted: whatever leads out of the
//! bytes at hand is `None`.

/// A stretch of the image in the native format.
#[derive(Debug, Clone, Default)]
pub struct Blob {
    /// Where it lies in the process.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Longest text read, in bytes.
const MAX_TEXT: usize = 1 << 16;

impl Blob {
    /// A reader at `offset`.
    pub fn at(&self, offset: usize) -> Reader<'_> {
        Reader { bytes: &self.bytes, offset }
    }

    /// The text at `offset`: its length, then UTF-8.
    pub fn text(&self, offset: usize) -> Option<&str> {
        let mut r = self.at(offset);
        let length = r.unsigned()? as usize;
        let bytes = self.bytes.get(r.offset..r.offset.checked_add(length.min(MAX_TEXT))?)?;
        std::str::from_utf8(bytes).ok()
    }

    /// The places that a blob of distances of four bytes leads to, each from its own.
    pub fn distances(&self) -> Vec<u64> {
        let place = |(i, b): (usize, &[u8; 4])| {
            self.address.wrapping_add(4 * i as u64).wrapping_add_signed(i64::from(i32::from_le_bytes(*b)))
        };
        self.bytes.as_chunks::<4>().0.iter().enumerate().map(place).collect()
    }

    /// Offsets of the entries of the hash table that the blob is.
    pub fn entries(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let Some(&header) = self.bytes.first() else { return found };
        let (bits, width) = (u32::from(header >> 2), usize::from(header & 3));
        let size = match width {
            0 => 1,
            1 => 2,
            _ => 4,
        };
        let bound = |i: usize| {
            let at = i.checked_mul(size)?.checked_add(1)?;
            let word = self.bytes.get(at..at.checked_add(size)?)?;
            Some(word.iter().rev().fold(0usize, |v, &b| v << 8 | usize::from(b)) + 1)
        };
        // Buckets follow one another: no entry is read twice, whatever their bounds say.
        let mut at = 0;
        for i in 0..1usize.checked_shl(bits.min(31)).unwrap_or(0) {
            let (Some(start), Some(end)) = (bound(i), bound(i + 1)) else { break };
            let mut r = self.at(start.max(at));
            while r.offset < end {
                // The low byte of the hash, then how far the entry is from its own distance.
                let Some(place) = r.skip(1).and_then(|()| r.relative()) else { break };
                found.push(place);
            }
            at = at.max(r.offset);
        }
        found
    }
}

/// Reads one value after another.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Where it stands.
    pub offset: usize,
}

impl Reader<'_> {
    /// Goes on by `count` bytes.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.offset = self.offset.checked_add(count)?;
        Some(())
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.offset)?;
        self.offset += 1;
        Some(b)
    }

    /// The next bytes as a number, and how many bits it has: as many of the lowest bits of the first byte are set as bytes
    /// follow; four of them and the rest of the byte does not count.
    fn raw(&mut self) -> Option<(u32, u32)> {
        let first = *self.bytes.get(self.offset)?;
        let more = (first.trailing_ones() as usize).min(4);
        if more == 4 && first & 0x10 != 0 {
            return None;
        }
        let own = self.bytes.get(self.offset..self.offset.checked_add(more + 1)?)?;
        self.offset += more + 1;
        let whole = own.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        Some(if more == 4 { ((whole >> 8) as u32, 32) } else { ((whole >> (more + 1)) as u32, 7 * (more as u32 + 1)) })
    }

    /// The next number.
    pub fn unsigned(&mut self) -> Option<u32> {
        self.raw().map(|r| r.0)
    }

    /// The next number, which may be negative.
    pub fn signed(&mut self) -> Option<i32> {
        let (value, bits) = self.raw()?;
        let unused = 32 - bits;
        Some(((value << unused) as i32) >> unused)
    }

    /// The place that the next number tells by its distance from itself.
    pub fn relative(&mut self) -> Option<usize> {
        let here = self.offset;
        let distance = self.signed()?;
        here.checked_add_signed(distance as isize)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn encoded(value: u32) -> Vec<u8> {
        match value {
            0..0x80 => vec![(value << 1) as u8],
            0x80..0x4000 => ((value << 2 | 1) as u16).to_le_bytes().to_vec(),
            0x4000..0x20_0000 => (value << 3 | 3).to_le_bytes()[..3].to_vec(),
            0x20_0000..0x1000_0000 => (value << 4 | 7).to_le_bytes().to_vec(),
            _ => [&[0xF][..], &value.to_le_bytes()].concat(),
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_read_back(value: u32) {
            let bytes = encoded(value);
            let mut r = Reader { bytes: &bytes, offset: 0 };
            assert_eq!(r.unsigned(), Some(value));
            assert_eq!(r.offset, bytes.len());
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let blob = Blob { address: 0, bytes };
            let _ = blob.text(0);
            assert!(blob.entries().len() <= blob.bytes.len());
        }
    }

    #[test]
    fn negative_numbers() {
        let of = |bytes: &[u8]| Reader { bytes, offset: 0 }.signed();
        assert_eq!(of(&[0xFE]), Some(-1));
        assert_eq!(of(&[0x7E]), Some(63));
        assert_eq!(of(&[0xFD, 0xFF]), Some(-1));
        assert_eq!(of(&[0x0F, 0xFE, 0xFF, 0xFF, 0xFF]), Some(-2));
        assert_eq!(of(&[0x1F, 0, 0, 0, 0]), None);
        assert_eq!(of(&[]), None);
    }
}
