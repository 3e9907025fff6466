//! A dump that a process is asked for: its runtime writes it, by the program `createdump` beside it, or by itself on Windows.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::find::Port;
use super::ipc::{Command, Fields, Payload, Refused, ask};
use super::proc::Process;
use crate::watch::Watch;

/// What a dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All memory, images of modules too.
    Full,
    /// The heaps, stacks and all the runtime needs.
    Heap,
    /// Stacks.
    Mini,
    /// Stacks, without what may be personal.
    Triage,
}

impl Kind {
    /// The words for them.
    pub const WORDS: &[&str] = &["full", "heap", "mini", "triage"];

    /// The kind of that name.
    pub fn named(word: &str) -> Option<Self> {
        let kinds = [Kind::Full, Kind::Heap, Kind::Mini, Kind::Triage];
        Self::WORDS.iter().position(|w| w.eq_ignore_ascii_case(word)).and_then(|i| kinds.get(i).copied())
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Heap => "heap",
            Kind::Mini => "mini",
            Kind::Triage => "triage",
        }
    }

    /// As the protocol numbers it.
    fn number(self) -> u32 {
        match self {
            Kind::Mini => 1,
            Kind::Heap => 2,
            Kind::Triage => 3,
            Kind::Full => 4,
        }
    }
}

/// A dump that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its bytes.
    pub bytes: u64,
    /// How long the process took to write it.
    pub took: Duration,
    /// It was written in a container and copied from there.
    pub copied: bool,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It would replace something.
    #[error("{} is there already; name another file", .0.display())]
    Exists(PathBuf),
    /// Its folder is none.
    #[error("{} is no folder to write to", .0.display())]
    NoFolder(PathBuf),
    /// It would not fit.
    #[error("{} has {free} bytes left, and the process has {needed} bytes of private memory, all of which such a dump holds; \
             -t mini writes stacks alone", .folder.display())]
    Space {
        /// Where it was to be written.
        folder: PathBuf,
        /// What there is.
        free: u64,
        /// What it needs.
        needed: u64,
    },
    /// The runtime did not do it; what may be the reason.
    #[error("{why}{hint}")]
    Refused {
        /// What the runtime said.
        why: Refused,
        /// What is found to be missing.
        hint: String,
    },
    /// It says that it did, and there is nothing.
    #[error("the runtime says that it is done, and {} is not there{}", .0.display(), .1)]
    Nothing(PathBuf, String),
    /// Copying failed.
    #[error("the dump was written in the container, as {}, and cannot be copied: {}", .0.display(), .1)]
    Copy(PathBuf, io::Error),
    /// Ctrl-C.
    #[error(transparent)]
    Interrupted(#[from] crate::watch::Interrupted),
}

/// Where the dump is written, for us and for the process.
struct Place {
    ours: PathBuf,
    theirs: PathBuf,
}

/// Has the process at `port` write a dump to `file`, a path from the root.
pub fn collect(port: &Port, kind: Kind, file: &Path, watch: &Watch) -> Result<Written, Failed> {
    let folder = file.parent().filter(|f| f.is_dir()).ok_or_else(|| Failed::NoFolder(folder_of(file)))?;
    if fs::symlink_metadata(file).is_ok() {
        return Err(Failed::Exists(file.to_owned()));
    }
    let place = place(port, file);
    let process = Process::new(port.pid);
    let written_to = place.ours.parent().unwrap_or(folder);
    enough_space(&process, kind, written_to)?;
    if written_to != folder {
        enough_space(&process, kind, folder)?;
    }
    watch.progress.start("the process writes its dump", 0);
    let begun = Instant::now();
    let asked = order(port, kind, &place.theirs, watch);
    watch.progress.finish();
    if let Err(why) = asked {
        let hint = hint(&process, port, &why);
        if !matches!(why, Refused::Interrupted) {
            // A piece of a dump is none. That it cannot be removed changes nothing of what went wrong.
            let _ = fs::remove_file(&place.ours);
        }
        return Err(Failed::Refused { why, hint });
    }
    let took = begun.elapsed();
    let bytes = fs::metadata(&place.ours).map(|m| m.len()).unwrap_or(0);
    if bytes == 0 {
        return Err(Failed::Nothing(place.theirs, hint(&process, port, &Refused::Gone)));
    }
    let copied = place.ours != file;
    if copied {
        copy(&place.ours, file, bytes, watch)?;
        let _ = fs::remove_file(&place.ours);
    }
    Ok(Written { bytes, took, copied })
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(file).to_owned()
}

/// A process in a container sees other files than we do: it writes where its socket is, and the dump is copied from there.
fn place(port: &Port, file: &Path) -> Place {
    let Some(root) = &port.root else { return Place { ours: file.to_owned(), theirs: file.to_owned() } };
    let name = format!("clrscope-{}-{}.core", port.inner_pid, std::process::id());
    let theirs = port.folder.join(name);
    let ours = root.join(theirs.strip_prefix("/").unwrap_or(&theirs));
    Place { ours, theirs }
}

/// Asks for the dump, by the newest command that the runtime knows.
fn order(port: &Port, kind: Kind, file: &Path, watch: &Watch) -> Result<(), Refused> {
    let path = file.to_string_lossy();
    // There the runtime makes a command line of it.
    let path = if cfg!(windows) { format!("\"{path}\"") } else { path.into_owned() };
    let mut last = Refused::Gone;
    for command in [Command::DUMP_3, Command::DUMP_2, Command::DUMP] {
        // Flags, or before .NET 6 whether to log: none.
        let payload = Payload::default().text(&path).number(kind.number()).number(0);
        match ask(&port.place, command, payload, None, &watch.cancel) {
            Ok(answer) => {
                let result = Fields(&answer).number().ok_or(Refused::Foreign("an answer without a result"))?;
                // A failure has the highest bit.
                return if result >> 31 == 0 { Ok(()) } else { Err(Refused::Code(result, String::new())) };
            }
            Err(e) if e.is_unknown() => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

/// What is missing, as far as can be seen from here.
fn hint(process: &Process, port: &Port, why: &Refused) -> String {
    if matches!(why, Refused::Code(0x8013_1515, _)) {
        return "; a program compiled ahead of time (NativeAOT) writes no dumps: `gcore` does".into();
    }
    if !matches!(why, Refused::Code(..) | Refused::Gone) {
        return String::new();
    }
    if !process.exists() && super::proc::is_there() {
        return "; the process has ended".into();
    }
    let mapped = process.mapped().unwrap_or_default();
    let runtime = mapped.iter().find(|p| p.ends_with("/libcoreclr.so"));
    let Some(folder) = runtime.and_then(|p| Path::new(p).parent()) else { return String::new() };
    let seen = match &port.root {
        Some(root) => root.join(folder.strip_prefix("/").unwrap_or(folder)),
        None => folder.to_owned(),
    };
    let program = seen.join("createdump");
    match fs::metadata(&program) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            format!("; the program createdump, which writes dumps, is not beside the runtime in {}", folder.display())
        }
        Ok(m) if !may_run(&m) => format!("; {} is not marked as a program", folder.join("createdump").display()),
        _ => match process.user() {
            Some(user) => format!("; the process runs as user {user}: may it write there, and be traced (ptrace)?"),
            None => String::new(),
        },
    }
}

#[cfg(unix)]
fn may_run(file: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn may_run(_: &fs::Metadata) -> bool {
    true
}

/// Refuses what cannot fit: such a dump holds at least the private memory of the process.
fn enough_space(process: &Process, kind: Kind, folder: &Path) -> Result<(), Failed> {
    if matches!(kind, Kind::Mini | Kind::Triage) {
        return Ok(());
    }
    let Some(needed) = process.size("RssAnon") else { return Ok(()) };
    match free(folder) {
        Some(free) if free < needed => Err(Failed::Space { folder: folder.to_owned(), free, needed }),
        _ => Ok(()),
    }
}

/// Bytes left for us in the file system of a folder.
#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    u64::from(found.blocks_available()).checked_mul(u64::from(found.fragment_size()))
}

/// Not asked there: the runtime says when the disk is full.
#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

/// A new file that nobody else may read, as createdump makes it: a dump holds whatever the process knew.
fn new_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Copies the dump out of a container.
fn copy(from: &Path, to: &Path, bytes: u64, watch: &Watch) -> Result<(), Failed> {
    let failed = |e| Failed::Copy(from.to_owned(), e);
    let mut source = File::open(from).map_err(failed)?;
    let mut target = new_file(to).map_err(failed)?;
    watch.progress.start("copying the dump", bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        if let Err(e) = watch.cancel.check() {
            let _ = fs::remove_file(to);
            return Err(e.into());
        }
        let n = source.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        target.write_all(&buffer[..n]).map_err(failed)?;
        watch.progress.add(n as u64);
    }
    watch.progress.finish();
    target.sync_all().map_err(failed)
}
