//! Windows minidumps (and those Breakpad writes on Linux).
//!
//! The streams are read with the `minidump` crate; memory is placed by [`memory`]. Formats: `minidumpapiset.h` of the
//! Windows SDK.

mod context;
mod cost;
mod memory;
mod streams;

use std::path::Path;

use minidump::system_info::Cpu;
use minidump::{Minidump, MinidumpSystemInfo};

use super::map::FileMap;
use super::memmap;
use super::options::OpenOptions;
use super::{Arch, Dump, DumpKind, OpenError, Os, Problem};

type Mini<'a> = Minidump<'a, &'a [u8]>;

/// Opens the minidump in `map`.
pub fn open(path: &Path, map: FileMap, options: &OpenOptions) -> Result<Dump, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let mini = Minidump::read(&map[..]).map_err(|e| {
        damaged(format!(
            "is a Windows minidump whose header or stream directory is damaged or cut off ({e}); copy it again"
        ))
    })?;
    let info = mini
        .get_stream::<MinidumpSystemInfo>()
        .map_err(|e| damaged(format!("is a minidump without readable system information ({e}); copy it again")))?;
    let (os, arch) = system(&info).map_err(|what| OpenError::Unsupported { path: path.to_owned(), what })?;
    let mut problems = Vec::new();
    directory_problems(&mini, map.len() as u64, &mut problems);
    let space = memory::space(&mini, &map, arch, &mut problems);
    let kind = DumpKind::Minidump { flags: mini.header.flags };
    let mut dump = Dump::empty(path, map.len() as u64, kind, os, arch, space);
    dump.problems = problems;
    streams::fill(&mut dump, &mini, &map, &info);
    let described = memory::describe(&mini, &dump.modules, &mut dump.problems);
    dump.map = memmap::finish(described, dump.space.pieces(), &dump.modules);
    streams::stacks(&mut dump, &mini);
    streams::command_line(&mut dump);
    note_wow64(&mut dump);
    dump.finish(options);
    Ok(dump)
}

fn system(info: &MinidumpSystemInfo) -> Result<(Os, Arch), String> {
    let os = match platform(info.raw.platform_id) {
        Some(Platform::Windows) => Os::Windows,
        Some(Platform::Linux) => Os::Linux,
        Some(Platform::Apple) => {
            return Err("is a minidump of a macOS or iOS process; only Windows and Linux processes are read".into());
        }
        None => {
            let id = info.raw.platform_id;
            return Err(format!("is a minidump of an operating system that is not read (platform {id:#x})"));
        }
    };
    let arch = match info.cpu {
        Cpu::X86_64 => Arch::X64,
        Cpu::X86 => Arch::X86,
        Cpu::Arm64 => Arch::Arm64,
        Cpu::Arm => Arch::Arm,
        other => return Err(format!("is a minidump of a processor that is not read ({other:?})")),
    };
    Ok((os, arch))
}

/// The platforms that matter here.
enum Platform {
    Windows,
    Linux,
    Apple,
}

/// `VER_PLATFORM_*` of the Windows SDK; the rest are Breakpad's (`minidump_format.h`).
fn platform(id: u32) -> Option<Platform> {
    match id {
        0..=3 => Some(Platform::Windows),
        0x8101 | 0x8102 => Some(Platform::Apple),
        0x8201 | 0x8203 => Some(Platform::Linux),
        _ => None,
    }
}

fn problem(place: &str, offset: Option<u64>, what: String) -> Problem {
    Problem { place: place.to_owned(), offset, what }
}

fn directory_problems(mini: &Mini<'_>, size: u64, problems: &mut Vec<Problem>) {
    for d in mini.all_streams() {
        let end = u64::from(d.location.rva) + u64::from(d.location.data_size);
        if end > size {
            let what = format!("stream {} ends at {end:#x}, past the end of the file", d.stream_type);
            problems.push(problem("stream directory", Some(u64::from(d.location.rva)), what));
        }
    }
}

/// A 64-bit debugger may dump a 32-bit process as 64-bit: threads and registers are then those of the emulation layer.
fn note_wow64(dump: &mut Dump) {
    if dump.arch == Arch::X64 && dump.modules.iter().any(|m| m.file_name().eq_ignore_ascii_case("wow64.dll")) {
        let what = "the process is 32-bit, dumped by a 64-bit tool: its runtime, stacks and registers are not found; dump \
                    it with a 32-bit tool (32-bit procdump, or Task Manager from SysWOW64)";
        dump.problems.push(problem("modules", None, what.into()));
    }
}
