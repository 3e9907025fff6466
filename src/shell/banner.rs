//! What is said on opening a dump.

use crate::dump::{CoreWriter, Dump, DumpKind, ExceptionInfo, Os};
use crate::session::Session;

pub use super::numbers::utc;

/// The lines of the banner.
pub fn lines(session: &Session, thread: usize) -> Vec<String> {
    let dump = session.dump();
    let mut lines =
        vec![format!("{}  {}, {}, {} bytes", dump.path.display(), kind(dump), dump.arch.name(), dump.file_size)];
    lines.push(process(dump));
    lines.push(session.describe_runtime());
    if let Some(e) = &dump.exception {
        let number = dump.threads.iter().position(|t| t.os_id == e.thread_id);
        let thread = number.map_or_else(String::new, |n| format!("{n} "));
        lines.push(format!("{} at {:x} on thread {thread}({:x})", event(dump.os, e), e.address, e.thread_id));
        lines.extend(session.describe_exception().map(|e| format!("managed exception {e}")));
    }
    let missing = session.describe_missing();
    if !missing.is_empty() {
        lines.push(format!("not in the dump: {}", missing.join("; ")));
    }
    lines.extend(session.describe_images());
    lines.extend(session.describe_providers().into_iter().map(|l| format!("note: {l}")));
    if let Some(odd) = heap_state(session) {
        lines.push(format!("note: {odd}; !verifyheap tells more"));
    }
    for problem in dump.problems.iter().take(3) {
        lines.push(format!("note: {}: {}", problem.place, problem.what));
    }
    if dump.problems.len() > 3 {
        lines.push(format!("note: {} more notes on this file", dump.problems.len() - 3));
    }
    let current = dump.threads.get(thread);
    let id = current.map_or(0, |t| t.os_id);
    let name = current.and_then(|t| session.name_of_thread(t)).map_or_else(String::new, |n| format!(" \"{n}\""));
    lines.push(format!(
        "{} threads, {} modules; current thread {thread} ({id:x}{name}). .help lists the commands.",
        dump.threads.len(),
        dump.modules.len()
    ));
    lines
}

/// `MINIDUMP_TYPE` bits that say what a minidump was asked to hold (`minidumpapiset.h`).
const FULL_MEMORY: u64 = 0x2;
const PRIVATE_MEMORY: u64 = 0x200;
const FILTER_TRIAGE: u64 = 0x10_0000;

/// Format of the dump and what wrote it.
pub fn kind(dump: &Dump) -> String {
    match &dump.kind {
        DumpKind::Minidump { .. } if dump.os == Os::Linux => "Linux minidump (Breakpad or Crashpad)".into(),
        DumpKind::Minidump { flags } => {
            let what = match flags {
                f if f & FULL_MEMORY != 0 => "full memory",
                f if f & PRIVATE_MEMORY != 0 => "heaps",
                f if f & FILTER_TRIAGE != 0 => "triage",
                _ => "small",
            };
            format!("Windows minidump ({what}, type {flags:#x})")
        }
        DumpKind::ElfCore { writer } => format!(
            "Linux core{}",
            match writer {
                CoreWriter::CreateDump => " by createdump",
                CoreWriter::Gcore => " by gcore",
                CoreWriter::Kernel => " by the kernel",
                CoreWriter::Unknown => "",
            }
        ),
    }
}

fn process(dump: &Dump) -> String {
    let p = &dump.process;
    let mut text = format!("process {}", p.pid.map_or("?".into(), |p| p.to_string()));
    if let Some(name) = &p.name {
        text.push_str(&format!(" {name}"));
    }
    // Breakpad writes zeros where Windows has its version.
    if let Some(v) = p.os_version.as_ref().filter(|v| v.as_str() != "0.0.0") {
        text.push_str(&format!(", {} {v}", if dump.os == Os::Windows { "Windows" } else { "Linux" }));
    }
    match (p.dump_time, dump.file_time) {
        (Some(t), _) => text.push_str(&format!(", dumped {}", utc(t))),
        // A core does not say when it was taken.
        (None, Some(t)) => text.push_str(&format!(", file written {}", utc(t))),
        (None, None) => {}
    }
    text
}

/// Names of the codes met in crashes (`ntstatus.h`, `winnt.h`; the last two are those of .NET and of Visual C++).
const CODES: &[(u32, &str)] = &[
    (0x4000_0015, "fatal application exit"),
    (0x8000_0003, "break instruction"),
    (0x8000_0004, "single step"),
    (0xC000_0005, "access violation"),
    (0xC000_0006, "in-page I/O error"),
    (0xC000_000D, "invalid parameter"),
    (0xC000_0017, "out of memory"),
    (0xC000_001D, "illegal instruction"),
    (0xC000_0094, "integer division by zero"),
    (0xC000_00FD, "stack overflow"),
    (0xC000_0374, "heap corruption"),
    (0xC000_0409, "fail fast"),
    (0xC000_0420, "assertion failure"),
    (0xE043_4352, "CLR exception"),
    (0xE06D_7363, "C++ exception"),
];

/// Signals of Linux, as x64 and arm64 number them (`include/uapi/asm-generic/signal.h`).
const SIGNALS: &[(u32, &str)] = &[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (31, "SIGSYS"),
];

/// The name of a signal (Linux) or exception code (Windows): `SIGABRT`, `access violation`.
pub fn event_name(os: Os, code: u32) -> Option<&'static str> {
    let list = if os == Os::Linux { SIGNALS } else { CODES };
    list.iter().find(|(c, _)| *c == code).map(|(_, n)| *n)
}

/// The event in words: `signal 6 (SIGABRT)`, `exception c0000005 (access violation)`.
pub fn event(os: Os, e: &ExceptionInfo) -> String {
    let name = event_name(os, e.code).map(|n| format!(" ({n})")).unwrap_or_default();
    match os {
        // Breakpad's mark of a dump that was asked for.
        Os::Linux if e.code == u32::MAX => "dump asked for, no signal".into(),
        Os::Linux => format!("signal {}{name}", e.code),
        Os::Windows => format!("exception {:08x}{name}", e.code),
    }
}

/// What is wrong with the managed heap: its shape, or an invariant that a sample of it breaks. `None` when nothing is, or
/// there is no heap to look at.
pub fn heap_state(session: &Session) -> Option<String> {
    let heap = session.heap().ok()?;
    let odd = heap.problems.first().cloned();
    // Inside a collection invariants do not hold, and a dump without the heap has none.
    let checked = |s: &Session| s.heap_check().ok().and_then(|c| c.sentence());
    odd.or_else(|| checked(session).map(|s| format!("the heap is not sound: {s}")))
}
