//! What a file is, from its first bytes: which reader opens it, or one line that says what it is and what to do.

use super::bytes;

/// A format with a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Windows minidump.
    Minidump,
    /// ELF file (checked to be a core by its reader).
    Elf,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard frames.
    Zstd,
    /// gzip members.
    Gzip,
}

/// Tells compression by magic number, not by name.
pub fn compression(data: &[u8]) -> Option<Compression> {
    match bytes::u32(data, 0) {
        Some(0xFD2F_B528) => return Some(Compression::Zstd),
        // A skippable frame may come first: only taken for zstd when a real frame follows it.
        Some(m) if m & 0xFFFF_FFF0 == 0x184D_2A50 => {
            let skip = u64::from(bytes::u32(data, 4)?) + 8;
            return (bytes::u32(data, skip)? == 0xFD2F_B528).then_some(Compression::Zstd);
        }
        _ => {}
    }
    data.starts_with(&[0x1F, 0x8B, 8]).then_some(Compression::Gzip)
}

const PROCESS_DUMP: &str = "open a dump of one process (procdump -ma, createdump, dotnet-dump, Task Manager, gcore)";

/// The reader for the file, or the one line about why there is none.
pub fn format(data: &[u8]) -> Result<Format, String> {
    if data.starts_with(b"MDMP") {
        return Ok(Format::Minidump);
    }
    if data.starts_with(b"\x7fELF") {
        return Ok(Format::Elf);
    }
    Err(describe(data))
}

fn describe(data: &[u8]) -> String {
    if let Some(text) = kernel(data).or_else(|| apple(data)).or_else(|| dotnet_file(data)).or_else(|| container(data)) {
        return text;
    }
    if data.starts_with(b"PMDM") {
        return "is a big-endian minidump; only little-endian dumps are read".into();
    }
    if data.iter().take(4096).all(|&b| b == 0) {
        return "starts with zeros only: not a dump, or a copy that was cut short; copy it again".into();
    }
    if data.len() < 4 && (b"MDMP".starts_with(data) || b"\x7fELF".starts_with(data)) {
        return format!("is cut off after {} bytes; copy the dump again", data.len());
    }
    let head = data.get(..4096).unwrap_or(data);
    if std::str::from_utf8(head).map_or_else(|e| e.error_len().is_none(), |_| true)
        && head.iter().all(|&b| b >= 32 || matches!(b, b'\n' | b'\r' | b'\t'))
    {
        return format!("is a text file, not a dump; {PROCESS_DUMP}");
    }
    format!("is neither a Windows minidump nor a Linux core; {PROCESS_DUMP}")
}

fn kernel(data: &[u8]) -> Option<String> {
    let what = if data.starts_with(b"PAGEDU64") {
        "is a Windows kernel (or complete memory) dump, 64-bit"
    } else if data.starts_with(b"PAGEDUMP") {
        "is a Windows kernel (or complete memory) dump, 32-bit"
    } else if data.starts_with(b"KDUMP   ") || data.starts_with(b"DISKDUMP") || data.starts_with(b"makedumpfile") {
        "is a Linux kernel crash dump (kdump)"
    } else if data.starts_with(b"HIBR") || data.starts_with(b"hibr") {
        "is a Windows hibernation file"
    } else if data.starts_with(b"EMiL") {
        "is a LiME image of a machine's memory"
    } else {
        return None;
    };
    Some(format!("{what}; it covers the whole machine, not one process: {PROCESS_DUMP}"))
}

fn apple(data: &[u8]) -> Option<String> {
    let (wide, kind) = match bytes::u32(data, 0)? {
        0xFEED_FACF => (true, bytes::u32(data, 12)?),
        0xFEED_FACE => (false, bytes::u32(data, 12)?),
        0xCFFA_EDFE | 0xCEFA_EDFE => return Some("is a big-endian Mach-O file; it is not read".into()),
        0xBEBA_FECA if bytes::u16(data, 6)? < 0x2000 => {
            return Some(format!("is a macOS universal binary or a Java class, not a dump; {PROCESS_DUMP}"));
        }
        _ => return None,
    };
    let bits = if wide { 64 } else { 32 };
    Some(match kind {
        4 => format!(
            "is a macOS core file ({bits}-bit Mach-O); macOS dumps are not read yet: open it with dotnet-dump or lldb on macOS"
        ),
        _ => format!("is a macOS program or library ({bits}-bit Mach-O), not a dump; {PROCESS_DUMP}"),
    })
}

fn dotnet_file(data: &[u8]) -> Option<String> {
    if data.starts_with(b"Nettrace") {
        return Some(
            "is a .nettrace event trace (a .gcdump or dotnet-trace file), not a memory dump; open it with PerfView, \
             dotnet-gcdump or Visual Studio"
                .into(),
        );
    }
    if head_contains(data, b"!FastSerialization.1") {
        return Some(
            "is a FastSerialization file (.gcdump, .nettrace or .etlx), not a memory dump: it holds no memory; open it \
             with dotnet-gcdump, PerfView or Visual Studio"
                .into(),
        );
    }
    if data.starts_with(b"JAVA PROFILE") {
        return Some("is a Java heap dump (hprof); open it with Eclipse MAT or VisualVM".into());
    }
    if data.starts_with(b"BSJB") {
        return Some(format!("is bare .NET metadata or a portable PDB, not a dump; {PROCESS_DUMP}"));
    }
    if data.starts_with(b"Microsoft C/C++ MSF 7.00") {
        return Some(format!("is a PDB symbol file, not a dump; {PROCESS_DUMP}"));
    }
    let lfanew = bytes::u32(data, 0x3C);
    if data.starts_with(b"MZ") {
        let pe = lfanew.and_then(|at| bytes::u32(data, u64::from(at))) == Some(0x4550);
        let what = if pe { "a Windows program or library (PE file)" } else { "a DOS program" };
        return Some(format!("is {what}, not a dump; {PROCESS_DUMP}"));
    }
    None
}

fn container(data: &[u8]) -> Option<String> {
    let what = if data.starts_with(b"PK\x03\x04") || data.starts_with(b"PK\x05\x06") {
        "a zip archive"
    } else if data.starts_with(b"7z\xBC\xAF\x27\x1C") {
        "a 7z archive"
    } else if data.starts_with(b"\xFD7zXZ\0") {
        "xz-compressed"
    } else if data.starts_with(b"BZh") {
        "bzip2-compressed"
    } else if data.starts_with(&[0x04, 0x22, 0x4D, 0x18]) {
        "lz4-compressed"
    } else if data.starts_with(b"Rar!") {
        "a rar archive"
    } else if data.starts_with(b"MSCF") {
        "a cabinet archive"
    } else if data.get(257..262) == Some(b"ustar") {
        "a tar archive"
    } else {
        return None;
    };
    Some(format!("is {what}; unpack it first and open the dump inside (.zst and .gz are unpacked for you)"))
}

fn head_contains(data: &[u8], needle: &[u8]) -> bool {
    data.get(..64).unwrap_or(data).windows(needle.len()).any(|w| w == needle)
}
