//! Linux cores.

mod arguments;
pub(super) mod header;
pub mod image;
mod modules;
mod notes;
mod stacks;

use std::path::Path;

use super::map::FileMap;
use super::memmap::{self, Range};
use super::options::OpenOptions;
use super::space::SpaceBuilder;
use super::{
    Arch, CoreWriter, Dump, DumpKind, ExceptionInfo, MapEntry, MapState, MapType, Module, OpenError, Os, Presence,
    Problem, Process,
};
use header::{PT_LOAD, PT_NOTE, Segment};
use notes::Notes;

const AT_PAGESZ: u64 = 6;

/// Opens the ELF file in `map`.
pub fn open(path: &Path, map: FileMap, options: &OpenOptions) -> Result<Dump, OpenError> {
    let head = header::read(&map).map_err(|what| OpenError::Unsupported { path: path.to_owned(), what })?;
    let mut problems = Vec::new();
    let segments = header::segments(&map, head.wide, &mut problems).ok_or_else(|| OpenError::Damaged {
        path: path.to_owned(),
        what: "is a Linux core without a single program header (cut off?); copy the dump again".into(),
    })?;
    let mut notes = Notes::default();
    for s in segments.iter().filter(|s| s.kind == PT_NOTE) {
        read_notes(&map, s, head.arch, &mut notes, &mut problems);
    }
    let file_size = map.len() as u64;
    let (space, loads) = memory(map, head.arch, &segments, &mut problems);
    if loads.is_empty() && notes.threads.is_empty() {
        let what = "is a Linux core in which neither memory nor threads are left (cut off?); copy the dump again";
        return Err(OpenError::Damaged { path: path.to_owned(), what: what.into() });
    }
    let modules = modules::find(&space, &notes, &loads);
    let map = memmap::finish(describe(&loads, &notes, &modules), space.pieces(), &modules);
    let writer = writer(head.os_abi, &segments, &notes);
    let exception = exception(&notes, writer);
    stacks::assign(&mut notes, &loads);
    notes::settle_times(&mut notes);
    if notes.threads.is_empty() {
        problems.push(header::problem("notes", None, "no thread is recorded".into()));
    }
    let page_size = notes.auxv.iter().find(|a| a.0 == AT_PAGESZ).map(|a| a.1);
    let start = arguments::read(&space, &notes.auxv);
    let process = Process {
        pid: notes.pid.or_else(|| notes.threads.first().map(|t| t.os_id)),
        name: notes.name,
        command_line: start.command_line.or(notes.arguments),
        environment: start.environment,
        cpu_seconds: notes.cpu_seconds,
        page_size: page_size.filter(|p| p.is_power_of_two() && (0x1000..=0x100_0000).contains(p)).unwrap_or(0x1000),
        ..Process::default()
    };
    let mut dump = Dump::empty(path, file_size, DumpKind::ElfCore { writer }, Os::Linux, head.arch, space);
    dump.process = process;
    dump.modules = modules;
    dump.threads = notes.threads;
    dump.exception = exception;
    dump.map = map;
    dump.auxv = notes.auxv;
    dump.problems = problems;
    dump.finish(options);
    Ok(dump)
}

fn read_notes(map: &FileMap, s: &Segment, arch: Arch, notes: &mut Notes, problems: &mut Vec<Problem>) {
    let start = usize::try_from(s.offset).unwrap_or(usize::MAX).min(map.len());
    let left = map.get(start..).unwrap_or(&[]);
    let size = usize::try_from(s.file_size).unwrap_or(usize::MAX);
    if size > left.len() {
        let what = format!("{size} bytes declared, {} in the file", left.len());
        problems.push(header::problem("notes", Some(s.offset), what));
    }
    notes::read(left.get(..size).unwrap_or(left), s.offset, arch, notes, problems);
}

/// The address space, and the `PT_LOAD` segments by address, disjoint.
fn memory(
    map: FileMap,
    arch: Arch,
    segments: &[Segment],
    problems: &mut Vec<Problem>,
) -> (super::AddressSpace, Vec<(Range, Segment)>) {
    let mut builder = SpaceBuilder::new(arch.pointer_size());
    let source = builder.source(map);
    let (mut cut, mut lost, mut first) = (0u64, 0u64, None);
    let loads: Vec<Segment> = segments.iter().filter(|s| s.kind == PT_LOAD).copied().collect();
    for s in &loads {
        let kept = builder.add(s.address, source, s.offset, s.file_size);
        if kept < s.file_size {
            cut += 1;
            lost = lost.saturating_add(s.file_size - kept);
            first = first.or(Some(s.offset));
        }
    }
    if cut > 0 {
        let what = format!("{cut} of {} reach past the end of the file; {lost:#x} bytes are missing", loads.len());
        problems.push(header::problem("memory segments", first, what));
    }
    let (space, dropped) = builder.build();
    if dropped > 0 {
        let what = format!("{dropped:#x} bytes are given twice; the first in the file's order are used");
        problems.push(header::problem("memory segments", None, what));
    }
    let loads = loads.into_iter().map(|s| ((s.address, s.end()), s)).collect();
    (space, memmap::disjoint(loads))
}

/// What segments and mapped files say of each range, bytes aside.
fn describe(loads: &[(Range, Segment)], notes: &Notes, modules: &[Module]) -> Vec<MapEntry> {
    let a: Vec<Range> = loads.iter().map(|l| l.0).collect();
    let b: Vec<Range> = notes.files.iter().map(|f| (f.start, f.end)).collect();
    let entry = |part: &memmap::Part| {
        let segment = part.a.and_then(|i| loads.get(i)).map(|l| l.1);
        let mapping = part.b.and_then(|i| notes.files.get(i));
        let file = mapping.and_then(|f| notes.paths.get(f.path as usize));
        let module = file.and_then(|f| {
            let i = modules.partition_point(|m| m.base <= part.start).checked_sub(1)?;
            let inside = |m: &Module| part.start - m.base < m.size && m.path == *f;
            modules.get(i).is_some_and(inside).then_some(i as u32)
        });
        let protect = segment.map_or(0, |s| protection(s.flags));
        // Allocators reserve by mapping without any access; where bytes of it are in the core it is in use all the same.
        let reserved = protect == NO_ACCESS && file.is_none();
        MapEntry {
            start: part.start,
            end: part.end,
            state: if reserved { MapState::Reserve } else { MapState::Commit },
            kind: match (file.is_some(), module.is_some()) {
                (true, true) => MapType::Image,
                (true, false) => MapType::Mapped,
                _ => MapType::Private,
            },
            protect,
            allocation_base: part.start,
            allocation_protect: protect,
            presence: Presence::MappedOnly,
            module,
            file: file.cloned(),
            file_offset: mapping.map_or(0, |f| f.offset.saturating_add(part.start - f.start)),
        }
    };
    memmap::sweep(&a, &b).iter().map(entry).collect()
}

/// `PAGE_NOACCESS`.
const NO_ACCESS: u32 = 0x01;

/// ELF segment flags as Windows page protection.
fn protection(flags: u32) -> u32 {
    match flags & 7 {
        0 => NO_ACCESS,
        4 => 0x02,
        2 | 6 => 0x04,
        1 => 0x10,
        5 => 0x20,
        _ => 0x40,
    }
}

/// createdump sets the OS ABI byte and leads with process facts and the auxiliary vector; the kernel leads with the
/// dumping thread and always writes signal information; gdb leads with process facts and puts its notes last.
fn writer(os_abi: u8, segments: &[Segment], notes: &Notes) -> CoreWriter {
    let last_load = segments.iter().filter(|s| s.kind == PT_LOAD && s.file_size > 0).map(|s| s.offset).max();
    let note = segments.iter().filter(|s| s.kind == PT_NOTE).map(|s| s.offset).max();
    match notes.order.as_slice() {
        [3, 6, ..] if os_abi == 3 => CoreWriter::CreateDump,
        _ if notes.gdb => CoreWriter::Gcore,
        [3, 1, ..] if note > last_load => CoreWriter::Gcore,
        [1, 3, ..] if notes.has_files && !notes.siginfo.is_empty() => CoreWriter::Kernel,
        _ => CoreWriter::Unknown,
    }
}

const SIGTRAP: u32 = 5;
const SIGSTOP: u32 = 19;

/// The signal that made the dump. Signals by which a debugger or createdump stopped the process do not count.
fn exception(notes: &Notes, writer: CoreWriter) -> Option<ExceptionInfo> {
    let made_it = |code: u32| code != 0 && !(writer == CoreWriter::Gcore && matches!(code, SIGTRAP | SIGSTOP));
    if let Some(info) = notes.siginfo.iter().find(|s| made_it(s.code)) {
        return Some(info.clone());
    }
    // Old createdump stamps SIGABRT on every thread, crash or not: only a signal of a single thread tells something.
    let mut with = notes.threads.iter().zip(&notes.signals).filter(|(_, s)| made_it(u32::from(**s)));
    let (thread, signal) = with.next()?;
    let all_alike = notes.threads.len() > 1 && with.next().is_some();
    (!all_alike || writer != CoreWriter::CreateDump).then(|| ExceptionInfo {
        thread_id: thread.os_id,
        code: u32::from(*signal),
        address: 0,
        flags: 0,
        parameters: Vec::new(),
    })
}
