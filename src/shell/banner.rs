//! What is said on opening a dump.

use crate::dump::{CoreWriter, DumpKind};
use crate::session::Session;

/// The lines of the banner.
pub fn lines(session: &Session, thread: usize) -> Vec<String> {
    let dump = session.dump();
    let kind = match &dump.kind {
        DumpKind::Minidump { flags } => format!("Windows minidump (type {flags:#x})"),
        DumpKind::ElfCore { writer } => format!(
            "Linux core{}",
            match writer {
                CoreWriter::CreateDump => " by createdump",
                CoreWriter::Gcore => " by gcore",
                CoreWriter::Kernel => " by the kernel",
                CoreWriter::Unknown => "",
            }
        ),
    };
    let mut lines = vec![format!("{}  {kind}, {}, {} bytes", dump.path.display(), dump.arch.name(), dump.file_size)];
    let p = &dump.process;
    let mut process = format!("process {}", p.pid.map_or("?".into(), |p| p.to_string()));
    if let Some(name) = &p.name {
        process.push_str(&format!(" {name}"));
    }
    if let Some(v) = &p.os_version {
        process.push_str(&format!(", {v}"));
    }
    if let Some(t) = p.dump_time {
        process.push_str(&format!(", dumped {}", utc(t)));
    }
    lines.push(process);
    lines.push(session.describe_runtime());
    if let Some(e) = &dump.exception {
        lines.push(format!("exception {:#x} at {:x} on thread {:x}", e.code, e.address, e.thread_id));
    }
    for problem in dump.problems.iter().take(3) {
        lines.push(format!("note: {}: {}", problem.place, problem.what));
    }
    if dump.problems.len() > 3 {
        lines.push(format!("note: {} more notes on this file", dump.problems.len() - 3));
    }
    let id = dump.threads.get(thread).map_or(0, |t| t.os_id);
    lines.push(format!(
        "{} threads, {} modules; current thread {thread} ({id:x}). .help lists the commands.",
        dump.threads.len(),
        dump.modules.len()
    ));
    lines
}

/// Seconds since 1970 as `YYYY-MM-DD HH:MM:SS UTC` (civil-from-days, proleptic Gregorian).
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}
