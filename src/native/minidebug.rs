//! `.gnu_debugdata`: an ELF file of symbols alone, packed by xz, that Fedora and its kin put into stripped images.
//!
//! Format: gdb documentation, "MiniDebugInfo"; xz file format 1.1; LZMA2 chunks as the xz sources describe them.

/// Most bytes unpacked: tables of the largest libraries take some megabytes.
const MOST: u64 = 1 << 28;

/// The file inside, if the section is whole and not larger than anything known.
pub fn unpack(section: &[u8]) -> Option<Vec<u8>> {
    let size = unpacked_size(section).filter(|&n| n <= MOST)?;
    let mut out = Vec::with_capacity(usize::try_from(size).ok()?);
    let mut input = section;
    lzma_rs::xz_decompress(&mut input, &mut out).ok()?;
    Some(out)
}

/// How large it will be, summed over the chunks: unpacking itself has no bound.
fn unpacked_size(section: &[u8]) -> Option<u64> {
    const HEADER: usize = 12;
    let flags = section.strip_prefix(b"\xFD7zXZ\0")?;
    let check = match flags.get(1)? & 15 {
        0 => 0,
        1 => 4,
        4 => 8,
        10 => 32,
        _ => return None,
    };
    let (mut at, mut total) = (HEADER, 0u64);
    // A block begins with its header's length in words; 0 begins the index.
    while *section.get(at)? != 0 {
        let start = at + (usize::from(*section.get(at)?) + 1) * 4;
        at = start;
        loop {
            let control = *section.get(at)?;
            let word = |i: usize| Some(u64::from(u16::from_be_bytes(*section.get(at + i..)?.first_chunk()?)) + 1);
            match control {
                0 => break,
                1 | 2 => {
                    total += word(1)?;
                    at = at.checked_add(3 + word(1)? as usize)?;
                }
                3..=0x7F => return None,
                _ => {
                    total += (u64::from(control & 31) << 16) + word(1)?;
                    at = at.checked_add(5 + usize::from(control >= 0xC0) + word(3)? as usize)?;
                }
            }
        }
        at += 1;
        at += (at - start).next_multiple_of(4) - (at - start) + check;
    }
    Some(total)
}
