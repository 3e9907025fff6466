//! What the `minidump` crate would reserve for a stream: it believes the numbers in the file, and a few bytes may ask for
//! gigabytes. Records are counted against the stream, names against a bound, before the crate reads either.
//!
//! Records: `minidumpapiset.h` of the Windows SDK (`MINIDUMP_MODULE`, `MINIDUMP_UNLOADED_MODULE`, `MINIDUMP_THREAD_NAME`,
//! `MINIDUMP_HANDLE_DESCRIPTOR`).

use super::Mini;
use crate::dump::bytes;

/// Most bytes of names that the records of one stream may refer to, each counted as often as it is named.
const MOST_NAMES: u64 = 256 << 20;

/// Records of a stream that refer to names.
pub struct Records {
    /// `MINIDUMP_STREAM_TYPE`.
    pub stream: u32,
    /// Whether sizes of header and record stand in front of the count.
    pub sized: bool,
    /// Size of a record; where the stream says it, the least.
    pub record: usize,
    /// Where in a record the places of names stand.
    pub names: &'static [usize],
}

/// `ModuleListStream`.
pub const MODULES: Records = Records { stream: 4, sized: false, record: 108, names: &[20] };
/// `UnloadedModuleListStream`.
pub const UNLOADED: Records = Records { stream: 14, sized: true, record: 24, names: &[20] };
/// `ThreadNamesStream`.
pub const THREAD_NAMES: Records = Records { stream: 24, sized: false, record: 12, names: &[4] };
/// `HandleDataStream`.
pub const HANDLES: Records = Records { stream: 12, sized: true, record: 32, names: &[8, 12] };

/// An error where reading the stream would cost more than the file can ask for in earnest.
pub fn check(mini: &Mini<'_>, file: &[u8], records: &Records) -> Result<(), String> {
    let Ok(stream) = mini.get_raw_stream(records.stream) else { return Ok(()) };
    let word = |at| bytes::u32(stream, at).map(|v| v as usize);
    let (header, size, count) = match records.sized {
        true => (word(0), word(4), word(8)),
        false => (Some(4), Some(records.record), word(0)),
    };
    let (Some(header), Some(size), Some(count)) = (header, size, count) else { return Ok(()) };
    if size < records.record || header < 4 {
        return Err(format!("records of {size} bytes are too small"));
    }
    let needed = count.checked_mul(size).and_then(|n| n.checked_add(header));
    if needed.is_none_or(|n| n > stream.len()) {
        return Err(format!("{count} records of {size} bytes do not fit into {} bytes", stream.len()));
    }
    // Lists without a header may be padded to eight bytes.
    let first = if !records.sized && needed.is_some_and(|n| n + 4 == stream.len()) { header + 4 } else { header };
    let length = |record: usize, name: &usize| {
        let at = bytes::u32(stream, (first + record * size + name) as u64)?;
        bytes::u32(file, u64::from(at)).map(u64::from).filter(|&n| n <= file.len() as u64)
    };
    let mut names = 0u64;
    for record in 0..count {
        names += records.names.iter().filter_map(|n| length(record, n)).sum::<u64>();
        if names > MOST_NAMES {
            return Err(format!("its {count} records name more than {} MB of text", MOST_NAMES >> 20));
        }
    }
    Ok(())
}
