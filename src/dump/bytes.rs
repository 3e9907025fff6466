//! Checked little-endian reads from byte slices: every read that does not fit is `None`.

/// `N` bytes at `offset`.
pub fn array<const N: usize>(data: &[u8], offset: u64) -> Option<[u8; N]> {
    let at = usize::try_from(offset).ok()?;
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Little-endian 16 bits at `offset`.
pub fn u16(data: &[u8], offset: u64) -> Option<u16> {
    array(data, offset).map(u16::from_le_bytes)
}

/// Little-endian 32 bits at `offset`.
pub fn u32(data: &[u8], offset: u64) -> Option<u32> {
    array(data, offset).map(u32::from_le_bytes)
}

/// Little-endian 64 bits at `offset`.
pub fn u64(data: &[u8], offset: u64) -> Option<u64> {
    array(data, offset).map(u64::from_le_bytes)
}

/// A word of 4 or 8 bytes at `offset`.
pub fn word(data: &[u8], offset: u64, wide: bool) -> Option<u64> {
    if wide { u64(data, offset) } else { u32(data, offset).map(u64::from) }
}

/// The little-endian number that `bytes` are, 8 at most.
#[inline]
pub fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.len() {
        8 => bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)),
        4 => bytes.first_chunk().map_or(0, |b| u64::from(u32::from_le_bytes(*b))),
        _ => bytes.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)),
    }
}

/// `len` bytes at `offset`.
pub fn slice(data: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    data.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// Bytes at `offset` to a zero or `max`, as lossy UTF-8.
pub fn text(data: &[u8], offset: u64, max: usize) -> String {
    let tail = usize::try_from(offset).ok().and_then(|o| data.get(o..)).unwrap_or(&[]);
    let tail = tail.get(..max).unwrap_or(tail);
    let end = tail.iter().position(|&b| b == 0).unwrap_or(tail.len());
    String::from_utf8_lossy(tail.get(..end).unwrap_or(&[])).into_owned()
}
