//! Everything of a minidump but its memory: modules, threads, process facts, event, handles.

use minidump::{
    CodeView, Error, MinidumpException, MinidumpHandleDataStream, MinidumpMiscInfo, MinidumpModule, MinidumpModuleList,
    MinidumpStream, MinidumpSystemInfo, MinidumpThreadInfoList, MinidumpThreadList, MinidumpThreadNames,
    MinidumpUnloadedModuleList,
};

use super::cost::{self, Records};
use super::{Mini, context, problem};
use crate::dump::{
    Arch, Dump, ExceptionInfo, Module, Os, OsHandle, Presence, Problem, Thread, ThreadInfo, UnloadedModule,
};

/// Fills `dump` from the streams; what cannot be read is recorded and left empty.
pub fn fill(dump: &mut Dump, mini: &Mini<'_>, file: &[u8], system: &MinidumpSystemInfo) {
    let problems = &mut dump.problems;
    let misc = get::<MinidumpMiscInfo>(mini, "MiscInfo", problems);
    dump.modules = get_named::<MinidumpModuleList>(mini, file, &cost::MODULES, "ModuleList", problems)
        .map_or_else(Vec::new, |list| list.iter().map(module).collect());
    dump.modules.sort_by_key(|m| m.base);
    dump.unloaded =
        get_named::<MinidumpUnloadedModuleList>(mini, file, &cost::UNLOADED, "UnloadedModuleList", problems)
            .map_or_else(Vec::new, |list| list.iter().map(unloaded).collect());
    dump.threads = threads(mini, file, system, misc.as_ref(), dump.arch, problems);
    if let Some(e) = get::<MinidumpException<'_>>(mini, "Exception", problems) {
        exception(&e, system, misc.as_ref(), dump);
    }
    dump.handles = handles(mini, file, &mut dump.problems);
    process(dump, mini, system, misc.as_ref());
}

/// A stream; a damaged one becomes a problem, a missing one does not.
fn get<'a, S: MinidumpStream<'a>>(mini: &'a Mini<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<S> {
    match mini.get_stream::<S>() {
        Ok(s) => Some(s),
        Err(Error::StreamNotFound) => None,
        Err(e) => {
            problems.push(problem(name, None, format!("cannot be read ({e}); left out")));
            None
        }
    }
}

/// As [`get`], for a stream whose records refer to names.
fn get_named<'a, S: MinidumpStream<'a>>(
    mini: &'a Mini<'_>,
    file: &[u8],
    records: &Records,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<S> {
    if let Err(why) = cost::check(mini, file, records) {
        problems.push(problem(name, None, format!("cannot be read ({why}); left out")));
        return None;
    }
    get(mini, name, problems)
}

fn module(m: &MinidumpModule) -> Module {
    let v = &m.raw.version_info;
    let version = (v.signature == 0xFEEF_04BD).then(|| {
        let (hi, lo) = (v.file_version_hi, v.file_version_lo);
        [(hi >> 16) as u16, hi as u16, (lo >> 16) as u16, lo as u16]
    });
    let (mut pdb, mut pdb_id, mut build_id) = (None, None, None);
    let trimmed = |b: &[u8]| {
        let end = b.iter().position(|&c| c == 0).unwrap_or(b.len());
        Some(String::from_utf8_lossy(b.get(..end)?).into_owned()).filter(|s| !s.is_empty())
    };
    match &m.codeview_info {
        Some(CodeView::Pdb70(c)) => {
            let g = &c.signature;
            let mut guid = [0; 16];
            let parts = [&g.data1.to_le_bytes()[..], &g.data2.to_le_bytes(), &g.data3.to_le_bytes(), &g.data4];
            guid.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
            (pdb, pdb_id) = (trimmed(&c.pdb_file_name), Some((guid, c.age)));
        }
        Some(CodeView::Pdb20(c)) => pdb = trimmed(&c.pdb_file_name),
        Some(CodeView::Elf(c)) => build_id = Some(c.build_id.clone()),
        _ => {}
    }
    Module {
        base: m.raw.base_of_image,
        size: u64::from(m.raw.size_of_image),
        path: m.name.trim_end_matches('\0').to_owned(),
        timestamp: Some(m.raw.time_date_stamp),
        image_size: Some(m.raw.size_of_image),
        version,
        build_id,
        pdb,
        pdb_id,
    }
}

fn unloaded(m: &minidump::MinidumpUnloadedModule) -> UnloadedModule {
    UnloadedModule {
        base: m.raw.base_of_image,
        size: u64::from(m.raw.size_of_image),
        name: m.name.trim_end_matches('\0').to_owned(),
    }
}

fn threads(
    mini: &Mini<'_>,
    file: &[u8],
    system: &MinidumpSystemInfo,
    misc: Option<&MinidumpMiscInfo>,
    arch: Arch,
    problems: &mut Vec<Problem>,
) -> Vec<Thread> {
    let Some(list) = get::<MinidumpThreadList<'_>>(mini, "ThreadList", problems) else { return Vec::new() };
    let names = get_named::<MinidumpThreadNames>(mini, file, &cost::THREAD_NAMES, "ThreadNames", problems);
    let infos = get::<MinidumpThreadInfoList>(mini, "ThreadInfoList", problems);
    let mut without = 0;
    let one = |t: &minidump::MinidumpThread<'_>| {
        let id = t.raw.thread_id;
        let registers = t.context(system, misc).and_then(|c| context::registers(&c, arch));
        without += u32::from(registers.is_none());
        let info = infos.as_ref().and_then(|l| l.get_thread_info(id)).map(|i| ThreadInfo {
            start_address: i.raw.start_address,
            create_time: filetime(i.raw.create_time),
            kernel_time: i.raw.kernel_time,
            user_time: i.raw.user_time,
        });
        Thread {
            os_id: u64::from(id),
            name: names.as_ref().and_then(|n| Some(n.get_name(id)?.trim_end_matches('\0').to_owned())),
            teb: Some(t.raw.teb).filter(|&teb| teb != 0),
            registers,
            stack: None,
            suspend_count: t.raw.suspend_count,
            info,
        }
    };
    let threads: Vec<Thread> = list.threads.iter().map(one).collect();
    if without > 0 {
        let what = format!("{without} of {} threads have no readable registers", threads.len());
        problems.push(problem("ThreadList", None, what));
    }
    threads
}

/// 100 ns since 1601 as seconds since 1970; `None` before that.
fn filetime(t: u64) -> Option<u64> {
    (t / 10_000_000).checked_sub(11_644_473_600).filter(|_| t != 0)
}

/// The event. Its own context shows where it happened; the thread's shows the dump writer.
fn exception(e: &MinidumpException<'_>, system: &MinidumpSystemInfo, misc: Option<&MinidumpMiscInfo>, dump: &mut Dump) {
    let r = &e.raw.exception_record;
    let count = (r.number_parameters as usize).min(r.exception_information.len());
    dump.exception = Some(ExceptionInfo {
        thread_id: u64::from(e.thread_id),
        code: r.exception_code,
        address: r.exception_address,
        flags: r.exception_flags,
        parameters: r.exception_information.iter().take(count).copied().collect(),
    });
    let arch = dump.arch;
    if let Some(registers) = e.context(system, misc).and_then(|c| context::registers(&c, arch))
        && let Some(t) = dump.threads.iter_mut().find(|t| t.os_id == u64::from(e.thread_id))
    {
        t.registers = Some(registers);
    }
}

fn handles(mini: &Mini<'_>, file: &[u8], problems: &mut Vec<Problem>) -> Vec<OsHandle> {
    let Some(list) = get_named::<MinidumpHandleDataStream>(mini, file, &cost::HANDLES, "HandleData", problems) else {
        return Vec::new();
    };
    let text = |s: &Option<String>| s.as_deref().map(|s| s.trim_end_matches('\0').to_owned()).filter(|s| !s.is_empty());
    let one = |h: &minidump::MinidumpHandleDescriptor| OsHandle {
        value: h.raw.handle().copied().unwrap_or(0),
        type_name: text(&h.type_name).unwrap_or_default(),
        object_name: text(&h.object_name),
    };
    list.iter().map(one).collect()
}

fn process(dump: &mut Dump, mini: &Mini<'_>, system: &MinidumpSystemInfo, misc: Option<&MinidumpMiscInfo>) {
    let main = dump.modules.iter().find(|m| m.file_name().to_ascii_lowercase().ends_with(".exe"));
    let p = &mut dump.process;
    p.name = main.or(dump.modules.first()).map(|m| m.path.clone());
    p.dump_time = Some(u64::from(mini.header.time_date_stamp)).filter(|&t| t != 0);
    p.processors = Some(u32::from(system.raw.number_of_processors)).filter(|&n| n != 0);
    let r = &system.raw;
    p.os_version = Some(format!("{}.{}.{}", r.major_version, r.minor_version, r.build_number));
    if let Ok(status) = mini.get_stream::<minidump::MinidumpLinuxProcStatus<'_>>() {
        // Breakpad keeps a copy of /proc/PID/status.
        let line = status.iter().find(|(key, _)| key.as_bytes() == b"Pid");
        p.pid = line.and_then(|(_, v)| v.to_string_lossy().trim().parse().ok());
    }
    if let Some(m) = misc.map(|m| &m.raw) {
        p.pid = m.process_id().copied().map(u64::from).or(p.pid);
        p.start_time = m.process_create_time().copied().map(u64::from).filter(|&t| t != 0);
        p.cpu_seconds = m.process_user_time().zip(m.process_kernel_time()).map(|(u, k)| (u64::from(*u), u64::from(*k)));
    }
}

/// The command line from the process environment block: `TEB.ProcessEnvironmentBlock`, `PEB.ProcessParameters`,
/// `RTL_USER_PROCESS_PARAMETERS.CommandLine` (public symbols of ntdll, Windows 7 to 11).
pub fn command_line(dump: &mut Dump) {
    let (peb, parameters, line) = if dump.space.ptr_size() == 8 { (0x60, 0x20, 0x70) } else { (0x30, 0x10, 0x40) };
    let space = &dump.space;
    let read = |teb: u64| {
        let at = space.ptr_at(space.ptr_at(teb, peb)?, parameters)?.checked_add(line)?;
        let units = usize::from(space.u16(at)? / 2);
        let text = space.utf16z(space.ptr_at(at, u64::from(space.ptr_size()))?, units);
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    };
    let teb = dump.threads.iter().find_map(|t| t.teb);
    dump.process.command_line = teb.filter(|_| dump.os == Os::Windows).and_then(read);
}

/// Stack bounds from the thread environment block (`NT_TIB`: `StackBase`, `StackLimit`), else from the stack the thread
/// list records, else from the memory map.
pub fn stacks(dump: &mut Dump, mini: &Mini<'_>) {
    let mut recorded = rustc_hash::FxHashMap::default();
    if let Ok(list) = mini.get_stream::<MinidumpThreadList<'_>>() {
        for t in &list.threads {
            let (at, len) = (t.raw.stack.start_of_memory_range, u64::from(t.raw.stack.memory.data_size));
            recorded.insert(u64::from(t.raw.thread_id), (at, at.saturating_add(len)));
        }
    }
    let stacks: Vec<_> = dump.threads.iter().map(|t| stack(dump, t, &recorded)).collect();
    for (t, s) in dump.threads.iter_mut().zip(stacks) {
        t.stack = s;
    }
}

fn stack(dump: &Dump, t: &Thread, recorded: &rustc_hash::FxHashMap<u64, (u64, u64)>) -> Option<(u64, u64)> {
    let step = u64::from(dump.space.ptr_size());
    let sp = t.registers.as_ref().map(|r| r.sp)?;
    let holds = |r: &(u64, u64)| r.0 <= sp && sp < r.1;
    let from_teb = || {
        let teb = t.teb.filter(|_| dump.os == Os::Windows)?;
        // NT_TIB: exception list, StackBase, StackLimit. (A TEB of arm64 is laid out as on x64.)
        let (base, limit) = (dump.space.ptr_at(teb, step)?, dump.space.ptr_at(teb, 2 * step)?);
        Some((limit, base)).filter(|r| r.0 < r.1 && r.1 - r.0 <= MOST_STACK)
    };
    // A stack pointer below the limit is in the guard page about to be committed: the range is stretched down to it.
    let from_teb = from_teb().filter(|r| sp < r.1 && r.0.saturating_sub(sp) <= 0x1_0000).map(|r| (r.0.min(sp), r.1));
    from_teb.or_else(|| recorded.get(&t.os_id).copied().filter(holds)).or_else(|| {
        let e = dump.map_at(sp).filter(|e| e.presence == Presence::Dumped)?;
        Some((e.start, e.end.min(sp.saturating_add(FALLBACK_STACK))))
    })
}

/// Larger than any stack a linker or `CreateThread` is asked for in practice (1 GiB); a bound for damaged blocks.
const MOST_STACK: u64 = 1 << 30;
/// The default stack reserve of a Windows thread (1 MiB) with room for large main threads.
const FALLBACK_STACK: u64 = 8 << 20;
