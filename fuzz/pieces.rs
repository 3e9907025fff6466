//! Memory out of a fuzzer's bytes: where to begin, then runs of memory, each with its address and length. Seeds have the
//! addresses of the dump they were cut out of.

use clrscope::dump::AddressSpace;
use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;

/// What the bytes say.
pub struct Pieces {
    /// Free to use.
    pub flags: u8,
    /// Where to begin.
    pub root: u64,
    /// Readable memory; bit 0 of the flags makes its pointers four bytes long.
    pub space: AddressSpace,
}

/// Reads `flags u8, root u64`, then `address u64, length u16, bytes`.
pub fn read(data: &[u8]) -> Option<Pieces> {
    let (&flags, rest) = data.split_first()?;
    let (root, _) = rest.split_first_chunk::<8>()?;
    let mut space = SpaceBuilder::new(if flags & 1 == 0 { 8 } else { 4 });
    let source = space.source(FileMap::owned(data.to_vec()));
    let mut at = 9;
    while let Some((address, rest)) = data.get(at..).and_then(|d| d.split_first_chunk::<8>()) {
        let Some((length, rest)) = rest.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        at += 10;
        space.add(u64::from_le_bytes(*address), source, at as u64, length as u64);
        at += length;
    }
    Some(Pieces { flags, root: u64::from_le_bytes(*root), space: space.build().0 })
}
