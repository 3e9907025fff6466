//! The tables of ReadyToRun images that are written for reading in place: numbers of one to five bytes, arrays of sparse
//! trees, hash tables.
//!
//! Format: dotnet/runtime `src/coreclr/vm/nativeformatreader.h`, the same from 2.1 to 11. The bytes are hostile: what lies
//! outside answers `None`.

/// Bytes of an image by their distance from its start.
pub trait Bytes {
    /// The byte at `rva`, when it is at hand.
    fn byte(&self, rva: u32) -> Option<u8>;

    /// Little-endian 16 bits at `rva`.
    fn u16(&self, rva: u32) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte(rva)?, self.byte(rva.checked_add(1)?)?]))
    }

    /// Little-endian 32 bits at `rva`.
    fn u32(&self, rva: u32) -> Option<u32> {
        Some(u32::from(self.u16(rva)?) | u32::from(self.u16(rva.checked_add(2)?)?) << 16)
    }
}

impl Bytes for [u8] {
    fn byte(&self, rva: u32) -> Option<u8> {
        self.get(rva as usize).copied()
    }
}

/// The number at `at` and where it ends: as many trailing ones of the first byte as further bytes.
pub fn unsigned(bytes: &(impl Bytes + ?Sized), at: u32) -> Option<(u32, u32)> {
    let first = bytes.byte(at)?;
    let next = |i: u32| bytes.byte(at.checked_add(i)?).map(u32::from);
    let extra = first.trailing_ones();
    let low = u32::from(first);
    Some(match extra {
        0 => (low >> 1, at.checked_add(1)?),
        1 => (low >> 2 | next(1)? << 6, at.checked_add(2)?),
        2 => (low >> 3 | next(1)? << 5 | next(2)? << 13, at.checked_add(3)?),
        3 => (low >> 4 | next(1)? << 4 | next(2)? << 12 | next(3)? << 20, at.checked_add(4)?),
        4 => (bytes.u32(at.checked_add(1)?)?, at.checked_add(5)?),
        _ => return None,
    })
}

/// A place named at `at` by its distance from there, and where the distance ends.
fn relative(bytes: &(impl Bytes + ?Sized), at: u32) -> Option<(u32, u32)> {
    let (value, next) = unsigned(bytes, at)?;
    // The sign is the top bit of what was stored.
    let bits = match next - at {
        1 => 7,
        2 => 14,
        3 => 21,
        4 => 28,
        _ => 32,
    };
    let delta = (value << (32 - bits)) as i32 >> (32 - bits);
    Some((at.checked_add_signed(delta)?, next))
}

/// Indices of a block of an array, each a leaf of a binary tree over their four bits.
const BLOCK: u32 = 16;

/// A sparse array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeArray {
    base: u32,
    count: u32,
    index_size: u32,
}

impl NativeArray {
    /// The array at `at`.
    pub fn at(bytes: &(impl Bytes + ?Sized), at: u32) -> Option<Self> {
        let (value, base) = unsigned(bytes, at)?;
        Some(Self { base, count: value >> 2, index_size: 1 << (value & 3).min(2) })
    }

    /// Indices it has room for.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where the element of `index` lies. `None` in the outer option: bytes are missing; in the inner one: there is none.
    pub fn get(&self, bytes: &(impl Bytes + ?Sized), index: u32) -> Option<Option<u32>> {
        if index >= self.count {
            return Some(None);
        }
        let slot = self.base.checked_add((index / BLOCK).checked_mul(self.index_size)?)?;
        let offset = match self.index_size {
            1 => u32::from(bytes.byte(slot)?),
            2 => u32::from(bytes.u16(slot)?),
            _ => bytes.u32(slot)?,
        };
        let mut at = self.base.checked_add(offset)?;
        for bit in [8, 4, 2, 1] {
            let (node, next) = unsigned(bytes, at)?;
            if index & bit != 0 && node & 2 != 0 {
                at = at.checked_add(node >> 2)?;
            } else if index & bit == 0 && node & 1 != 0 {
                at = next;
            } else {
                // A leaf that hangs higher up names the index it stands for.
                let leaf = node & 3 == 0 && node >> 2 == index % BLOCK;
                return Some(leaf.then_some(next));
            }
        }
        Some(Some(at))
    }
}

/// A hash table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeHashtable {
    base: u32,
    buckets: u32,
    index_size: u32,
}

/// Buckets that may be missing before the rest is given up.
const MAX_MISSED: u32 = 1 << 14;
/// Most entries of one table that are read.
const MAX_ENTRIES: usize = 1 << 21;

impl NativeHashtable {
    /// The table at `at`.
    pub fn at(bytes: &(impl Bytes + ?Sized), at: u32) -> Option<Self> {
        let header = u32::from(bytes.byte(at)?);
        let size = header & 3;
        (size <= 2 && header >> 2 <= 24).then_some(())?;
        Some(Self { base: at.checked_add(1)?, buckets: 1 << (header >> 2), index_size: 1 << size })
    }

    /// Places of all entries, bucket by bucket, and whether every byte of the way there was at hand.
    pub fn entries(&self, bytes: &(impl Bytes + ?Sized)) -> (Vec<u32>, bool) {
        let (mut out, mut missed) = (Vec::new(), 0);
        for bucket in 0..self.buckets {
            missed += u32::from(self.bucket(bytes, bucket, &mut out).is_none());
            // A damaged count of buckets leads out of the image, damaged places run over each other.
            if missed > MAX_MISSED || out.len() >= MAX_ENTRIES {
                return (out, false);
            }
        }
        (out, missed == 0)
    }

    fn bucket(&self, bytes: &(impl Bytes + ?Sized), bucket: u32, out: &mut Vec<u32>) -> Option<()> {
        let slot = |i: u32| {
            let at = self.base.checked_add(i.checked_mul(self.index_size)?)?;
            let offset = match self.index_size {
                1 => u32::from(bytes.byte(at)?),
                2 => u32::from(bytes.u16(at)?),
                _ => bytes.u32(at)?,
            };
            self.base.checked_add(offset)
        };
        let (mut at, end) = (slot(bucket)?, slot(bucket.checked_add(1)?)?);
        while at < end && out.len() < MAX_ENTRIES {
            // One byte of the hash, then the entry by its distance.
            let (entry, next) = relative(bytes, at.checked_add(1)?)?;
            out.push(entry);
            at = next;
        }
        Some(())
    }
}
