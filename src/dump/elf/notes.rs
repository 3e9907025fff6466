//! The notes of a core: threads, mapped files, process facts, signal.
//!
//! Layouts: `include/uapi/linux/elfcore.h`, `include/linux/elfcore-compat.h`, `fs/binfmt_elf.c` (NT_FILE) and
//! `arch/*/include/uapi/asm/ptrace.h` in torvalds/linux 6.6; what createdump writes: dotnet/runtime 10.0
//! `src/coreclr/debug/createdump/dumpwriterelf.cpp`.

use super::header::problem;
use crate::dump::bytes::{self, u32, word};
use crate::dump::{Arch, ExceptionInfo, Problem, Registers, Thread, ThreadInfo};

/// One mapping of `NT_FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Index into [`Notes::paths`].
    pub path: u32,
}

/// Everything the notes tell.
#[derive(Debug, Default)]
pub struct Notes {
    /// Threads in file order.
    pub threads: Vec<Thread>,
    /// Whether each `NT_PRSTATUS` named a current signal.
    pub signals: Vec<u16>,
    /// Mapped files, by address, disjoint.
    pub files: Vec<FileMapping>,
    /// Distinct paths of `files`.
    pub paths: Vec<String>,
    /// Whether there was an `NT_FILE` note.
    pub has_files: bool,
    /// Auxiliary vector.
    pub auxv: Vec<(u64, u64)>,
    /// `pr_pid` of `NT_PRPSINFO`.
    pub pid: Option<u64>,
    /// `pr_fname`.
    pub name: Option<String>,
    /// `pr_psargs`, at most 79 characters.
    pub arguments: Option<String>,
    /// Signal information: the thread it follows, code, `si_code`, address.
    pub siginfo: Vec<ExceptionInfo>,
    /// First two note types, which tell the writers apart.
    pub order: Vec<u32>,
    /// Whether gdb left a note of its own.
    pub gdb: bool,
    /// User and system seconds of the whole process, when recorded.
    pub cpu_seconds: Option<(u64, u64)>,
}

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4C45;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_ARM_TLS: u32 = 0x401;

const X64: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "efl", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];
const X86: [&str; 17] = [
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip", "cs", "efl", "esp",
    "ss",
];
const ARM64: [&str; 34] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp", "pc", "cpsr",
];
const ARM: [&str; 17] =
    ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc", "cpsr"];
/// The debugger's order of the registers it shows; what is not named here is left out.
const X64_SHOWN: [&str; 25] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rip", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "cs", "ss", "ds", "es", "fs", "gs", "fs_base", "efl",
];
const X86_SHOWN: [&str; 16] =
    ["eax", "ebx", "ecx", "edx", "esi", "edi", "eip", "esp", "ebp", "cs", "ss", "ds", "es", "fs", "gs", "efl"];

/// Reads the notes in `data` (one `PT_NOTE` segment at file offset `base`) into `notes`.
pub fn read(data: &[u8], base: u64, arch: Arch, notes: &mut Notes, problems: &mut Vec<Problem>) {
    let wide = arch.pointer_size() == 8;
    let mut at = 0u64;
    while at + 12 <= data.len() as u64 {
        let (Some(names), Some(size), Some(kind)) = (u32(data, at), u32(data, at + 4), u32(data, at + 8)) else {
            break;
        };
        let content = at + 12 + u64::from(names).next_multiple_of(4);
        let next = content + u64::from(size).next_multiple_of(4);
        let owner = bytes::text(data, at + 12, (names as usize).min(64));
        let Some(desc) = bytes::slice(data, content, u64::from(size)) else {
            let what = format!("note {kind:#x} of {owner:?} is cut off; it and all after it are lost");
            problems.push(problem("notes", base.checked_add(at), what));
            return;
        };
        if one(desc, kind, &owner, arch, wide, notes).is_none() {
            let what = format!("note {kind:#x} of {owner:?} is too short ({size} bytes); left out");
            problems.push(problem("notes", base.checked_add(at), what));
        }
        at = next;
    }
}

fn one(desc: &[u8], kind: u32, owner: &str, arch: Arch, wide: bool, notes: &mut Notes) -> Option<()> {
    if owner == "GDB" {
        notes.gdb = true;
    }
    if owner == "LINUX" {
        if kind == NT_ARM_TLS
            && let Some(r) = notes.threads.last_mut().and_then(|t| t.registers.as_mut())
        {
            r.tp = Some(bytes::u64(desc, 0)?);
        }
        return Some(());
    }
    if owner != "CORE" {
        return Some(());
    }
    if notes.order.len() < 2 {
        notes.order.push(kind);
    }
    match kind {
        NT_PRSTATUS => thread(desc, arch, notes)?,
        NT_PRPSINFO => process(desc, wide, notes)?,
        NT_AUXV => {
            let step = if wide { 8 } else { 4 };
            notes.auxv = (0..desc.len() as u64 / (2 * step))
                .map_while(|i| Some((word(desc, i * 2 * step, wide)?, word(desc, (i * 2 + 1) * step, wide)?)))
                .take_while(|(tag, _)| *tag != 0)
                .collect();
        }
        NT_FILE => files(desc, wide, notes)?,
        NT_SIGINFO => siginfo(desc, wide, notes)?,
        _ => {}
    }
    Some(())
}

fn thread(desc: &[u8], arch: Arch, notes: &mut Notes) -> Option<()> {
    let wide = arch.pointer_size() == 8;
    // elf_prstatus: siginfo (12), cursig (2), pad, sigpend, sighold (words), pid at 32 / 24, times, registers at 112 / 72.
    let (pid, times, registers) = if wide { (32, 48, 112) } else { (24, 40, 72) };
    let (names, shown): (&[&'static str], &[&'static str]) = match arch {
        Arch::X64 => (&X64, &X64_SHOWN),
        Arch::X86 => (&X86, &X86_SHOWN),
        Arch::Arm64 => (&ARM64, &ARM64),
        Arch::Arm => (&ARM, &ARM),
    };
    let step = u64::from(arch.pointer_size());
    let values: Vec<u64> = (0..names.len() as u64).map_while(|i| word(desc, registers + i * step, wide)).collect();
    if values.len() < names.len() {
        return None;
    }
    let value = |name: &str| names.iter().position(|n| *n == name).and_then(|i| values.get(i).copied());
    let general = shown.iter().filter_map(|n| Some((*n, value(n)?))).collect();
    let [ip, sp, fp] = arch.pointers();
    let tp = value("fs_base").filter(|&v| v != 0);
    let registers = Registers { ip: value(ip)?, sp: value(sp)?, fp: value(fp)?, tp, general };
    let os_id = u64::from(u32(desc, pid)?);
    // Two `timeval`s: user and system time. Only the kernel fills them in.
    let time = |n: u64| {
        let at = times + n * 2 * step;
        let (s, us) = (word(desc, at, wide).unwrap_or(0), word(desc, at + step, wide).unwrap_or(0));
        s.saturating_mul(10_000_000).saturating_add(us.saturating_mul(10))
    };
    let (user_time, kernel_time) = (time(0), time(1));
    let info = ThreadInfo { start_address: 0, create_time: None, kernel_time, user_time };
    notes.signals.push(bytes::u16(desc, 12)?);
    notes.threads.push(Thread { os_id, registers: Some(registers), info: Some(info), ..Thread::default() });
    Some(())
}

/// Drops the times of threads where none is recorded, and takes those of the others off the main thread's, which the
/// kernel gives as those of the whole process (`fill_prstatus` in `fs/binfmt_elf.c`). What ended threads used stays in.
pub fn settle_times(notes: &mut Notes) {
    let infos = || notes.threads.iter().filter_map(|t| t.info);
    if infos().all(|i| i.user_time == 0 && i.kernel_time == 0) {
        notes.threads.iter_mut().for_each(|t| t.info = None);
        return;
    }
    let main = notes.pid.or_else(|| notes.threads.first().map(|t| t.os_id));
    let others = notes.threads.iter().filter(|t| Some(t.os_id) != main).filter_map(|t| t.info);
    let (user, kernel) =
        others.fold((0u64, 0u64), |(u, k), i| (u.saturating_add(i.user_time), k.saturating_add(i.kernel_time)));
    if let Some(i) = notes.threads.iter_mut().find(|t| Some(t.os_id) == main).and_then(|t| t.info.as_mut()) {
        notes.cpu_seconds = Some((i.user_time / 10_000_000, i.kernel_time / 10_000_000));
        i.user_time = i.user_time.saturating_sub(user);
        i.kernel_time = i.kernel_time.saturating_sub(kernel);
    }
}

fn process(desc: &[u8], wide: bool, notes: &mut Notes) -> Option<()> {
    // elf_prpsinfo: the 32-bit form of x86 and arm has 16-bit uid and gid.
    let (pid, name, arguments) = if wide { (24, 40, 56) } else { (12, 28, 44) };
    notes.pid = Some(u64::from(u32(desc, pid)?));
    let some = |s: String| Some(s.trim_end().to_owned()).filter(|s| !s.is_empty());
    notes.name = some(bytes::text(desc, name, 16));
    notes.arguments = some(bytes::text(desc, arguments, 80));
    Some(())
}

fn siginfo(desc: &[u8], wide: bool, notes: &mut Notes) -> Option<()> {
    let info = ExceptionInfo {
        thread_id: notes.threads.last().map_or(0, |t| t.os_id),
        code: u32(desc, 0)?,
        flags: u32(desc, 8)?,
        address: word(desc, if wide { 16 } else { 12 }, wide)?,
        parameters: Vec::new(),
    };
    notes.siginfo.push(info);
    Some(())
}

fn files(desc: &[u8], wide: bool, notes: &mut Notes) -> Option<()> {
    let step = if wide { 8 } else { 4 };
    let (count, page) = (word(desc, 0, wide)?, word(desc, step, wide)?);
    let room = (desc.len() as u64).saturating_sub(2 * step) / (3 * step);
    let count = count.min(room);
    notes.has_files = true;
    let mut names = desc.get(usize::try_from((2 + 3 * count) * step).ok()?..)?;
    let mut known = rustc_hash::FxHashMap::default();
    let mut list = Vec::new();
    for i in 0..count {
        let at = (2 + 3 * i) * step;
        let (start, end) = (word(desc, at, wide)?, word(desc, at + step, wide)?);
        let offset = word(desc, at + 2 * step, wide)?.saturating_mul(page);
        let len = names.iter().position(|&b| b == 0).unwrap_or(names.len());
        let (name, rest) = names.split_at(len);
        names = rest.get(1..).unwrap_or(&[]);
        let next = notes.paths.len() as u32;
        let path = *known.entry(name).or_insert(next);
        if path == next {
            notes.paths.push(String::from_utf8_lossy(name).into_owned());
        }
        if start < end {
            list.push(FileMapping { start, end, offset, path });
        }
    }
    list.sort_by_key(|f| f.start);
    // Mappings of one process never overlap: what does is cut so that later code may rely on it.
    let mut last = 0;
    for mut f in list {
        if f.start < last {
            f.offset = f.offset.saturating_add(last - f.start);
            f.start = last;
        }
        if f.start < f.end {
            last = f.end;
            notes.files.push(f);
        }
    }
    Some(())
}
