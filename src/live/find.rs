//! Which processes have a diagnostics port, and what they say of themselves.
//!
//! On Unix a port is a socket `dotnet-diagnostic-PID-KEY-socket` in the `TMPDIR` of the process; on Linux the key is the tick
//! at which it started, so that a socket left over by an older process is told from that of a new one with its number. In a
//! container the number is the one the process has there, and the folder is reached through `/proc/PID/root`. On Windows a
//! port is the pipe `dotnet-diagnostic-PID`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;

use super::ipc::{Command, Fields, Payload, Refused, ask};
use super::proc::{self, Process};
use crate::watch::{Cancel, Interrupted};

/// How long a process has for saying what it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// A diagnostics port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The process, as this machine numbers it.
    pub pid: u32,
    /// The number it has in its own namespace.
    pub inner_pid: u32,
    /// The socket or pipe.
    pub place: PathBuf,
    /// Where the files of the process are for us, if they are not ours.
    pub root: Option<PathBuf>,
    /// The folder of the socket as the process sees it.
    pub folder: PathBuf,
}

/// The ports of this machine.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// By the number of the process.
    pub ports: Vec<Port>,
    /// Processes whose files must not be seen: they may be in containers, or have a `TMPDIR` of their own.
    pub hidden: u64,
}

/// What a process says of itself. What it does not say is what the system says.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Name of its program: the assembly, else the file.
    pub name: Option<String>,
    /// Version of the runtime.
    pub runtime: Option<String>,
    /// Its processor architecture, as the runtime spells it.
    pub arch: Option<String>,
    /// The program with its arguments.
    pub command_line: Option<String>,
    /// Why it does not answer.
    pub refused: Option<String>,
}

/// A socket by its name.
#[derive(Debug, Clone)]
struct Socket {
    key: u64,
    place: PathBuf,
}

/// Sockets of a folder by the number of the process.
type Folder = HashMap<u32, Vec<Socket>>;

/// All ports that can be seen.
pub fn all(cancel: &Cancel) -> Result<Ports, Interrupted> {
    if !proc::is_there() {
        return Ok(Ports { ports: listed(), hidden: 0 });
    }
    let mut found = Ports::default();
    let mut folders = HashMap::new();
    // Threads of the kernel have no arguments, and what has ended and is not waited for has none any more.
    for process in proc::all().into_iter().filter(|p| !p.arguments().is_empty()) {
        cancel.check()?;
        match of_process(&process, &mut folders) {
            Ok(port) => found.ports.extend(port),
            Err(_) if process.exists() => found.hidden += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The port of one process.
pub fn of(pid: u32) -> Option<Port> {
    if !proc::is_there() {
        return listed().into_iter().find(|p| p.pid == pid);
    }
    of_process(&Process::new(pid), &mut HashMap::new()).ok().flatten()
}

/// The port of a process; an error where its files must not be seen and ours hold none for it.
fn of_process(process: &Process, folders: &mut HashMap<PathBuf, Folder>) -> std::io::Result<Option<Port>> {
    let root = process.root();
    let own = process.variable("TMPDIR").filter(|t| !t.is_empty());
    let temporary = PathBuf::from("/tmp");
    let mut places: Vec<PathBuf> = Vec::new();
    match (own, &root) {
        (Some(own), _) => places.push(own.into()),
        // What it was started with is not ours to read: it may have the folder that we have.
        (None, Ok(None) | Err(_)) => places.extend([std::env::temp_dir(), temporary]),
        (None, Ok(Some(_))) => places.push(temporary),
    }
    let (inner_pid, started) = (process.inner_pid(), process.started());
    for folder in places {
        let seen = match &root {
            Ok(Some(root)) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
            _ => folder.clone(),
        };
        let sockets = folders.entry(seen).or_insert_with_key(|place| sockets(place));
        let Some(own) = sockets.get(&inner_pid) else { continue };
        // A clock of its own may number ticks otherwise: then the newest one is it.
        let socket = own.iter().find(|s| Some(s.key) == started).or_else(|| own.iter().max_by_key(|s| s.key));
        if let Some(socket) = socket {
            let (place, root) = (socket.place.clone(), root.unwrap_or(None));
            return Ok(Some(Port { pid: process.pid, inner_pid, place, root, folder }));
        }
    }
    root.map(|_| None)
}

/// The sockets of a folder.
fn sockets(folder: &Path) -> Folder {
    let mut found = Folder::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Some((pid, key)) = entry.file_name().to_str().and_then(socket_name) {
            found.entry(pid).or_default().push(Socket { key, place: entry.path() });
        }
    }
    found
}

fn socket_name(name: &str) -> Option<(u32, u64)> {
    let (pid, key) = name.strip_prefix("dotnet-diagnostic-")?.strip_suffix("-socket")?.split_once('-')?;
    Some((pid.parse().ok()?, key.parse().ok()?))
}

/// Ports of a system without `/proc`: those in our own folder. Whether the process is still there, connecting says.
fn listed() -> Vec<Port> {
    let folder = if cfg!(windows) { PathBuf::from(r"\\.\pipe\") } else { std::env::temp_dir() };
    let port = |pid: u32, place: PathBuf| Port { pid, inner_pid: pid, place, root: None, folder: folder.clone() };
    let mut ports: Vec<Port> = if cfg!(windows) {
        let names = fs::read_dir(&folder).into_iter().flatten().flatten();
        let pid = |e: &fs::DirEntry| e.file_name().to_str()?.strip_prefix("dotnet-diagnostic-")?.parse().ok();
        names.filter_map(|e| Some(port(pid(&e)?, e.path()))).collect()
    } else {
        let newest = |s: Vec<Socket>| s.into_iter().max_by_key(|s| s.key);
        sockets(&folder).into_iter().filter_map(|(pid, s)| Some(port(pid, newest(s)?.place))).collect()
    };
    ports.sort_by_key(|p| p.pid);
    ports
}

/// What each of these processes says of itself.
pub fn describe(ports: &[Port], cancel: &Cancel) -> Result<Vec<Info>, Interrupted> {
    let all = ports.par_iter().map(|p| info(p, cancel)).collect();
    cancel.check()?;
    Ok(all)
}

/// What a process says of itself.
pub fn info(port: &Port, cancel: &Cancel) -> Info {
    let mut info = match asked(port, cancel) {
        Ok(info) => info,
        // Runtimes before .NET 5 do not know the question.
        Err(e) if e.is_unknown() => Info::default(),
        Err(e) => Info { refused: Some(e.to_string()), ..Info::default() },
    };
    let process = Process::new(port.pid);
    if info.command_line.is_none() {
        info.command_line = Some(process.arguments().join(" ")).filter(|t| !t.is_empty());
    }
    info.name = info.name.or_else(|| process.name());
    info.runtime = info.runtime.or_else(|| version_of(&process.mapped()?));
    info
}

fn asked(port: &Port, cancel: &Cancel) -> Result<Info, Refused> {
    let ask = |command| ask(&port.place, command, Payload::default(), Some(PATIENCE), cancel);
    let mut last = None;
    for command in [Command::INFO_3, Command::INFO_2, Command::INFO] {
        match ask(command) {
            Ok(payload) => return read(command, &payload).ok_or(Refused::Foreign("a description that ends too early")),
            Err(e) if e.is_unknown() => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or(Refused::Gone))
}

/// `ProcessInfo`, `ProcessInfo2` and `ProcessInfo3`, each longer than the one before; a number of the version stands before
/// the last.
fn read(command: Command, payload: &[u8]) -> Option<Info> {
    /// The number of the process, and a GUID.
    const HEAD: usize = 8 + 16;
    let mut fields = Fields(payload);
    if command == Command::INFO_3 {
        fields.number()?;
    }
    fields.bytes(HEAD)?;
    let line = fields.text()?;
    let (_os, arch) = (fields.text()?, fields.text()?);
    let (name, runtime) = match command {
        Command::INFO => (None, None),
        _ => (fields.text(), Some(fields.text()?)),
    };
    let said = |t: Option<String>| t.filter(|t| !t.is_empty());
    Some(Info {
        name: said(name),
        // The commit stands behind a plus sign.
        runtime: said(runtime.map(|r| r.split('+').next().unwrap_or("").to_owned())),
        arch: said(Some(arch)),
        command_line: said(Some(line)),
        refused: None,
    })
}

/// The version of the runtime among mapped files: `.../Microsoft.NETCore.App/3.1.2/libcoreclr.so`.
fn version_of(mapped: &[String]) -> Option<String> {
    let runtime = mapped.iter().find(|p| p.ends_with("/libcoreclr.so"))?;
    let folder = Path::new(runtime).parent()?.file_name()?.to_str()?;
    folder.starts_with(|c: char| c.is_ascii_digit()).then(|| folder.to_owned())
}

/// Why a process has no port that we can use.
pub fn why_none(pid: u32) -> String {
    let process = Process::new(pid);
    if !proc::is_there() {
        return format!("process {pid} has no diagnostics port: it has ended, or is no .NET process");
    }
    if !process.exists() {
        return format!("there is no process {pid}");
    }
    let Some(mapped) = process.mapped().filter(|m| !m.is_empty()) else {
        let user = process.user().map_or(String::new(), |u| format!("; it runs as user {u}"));
        return format!("process {pid} cannot be looked at: run as its user, or as root{user}");
    };
    if mapped.iter().any(|p| p.ends_with("/libcoreclr.so")) || exports(&process.program(), "DotNetRuntimeInfo") {
        return format!("process {pid} is a .NET process without a diagnostics port: {}", why_closed(&process));
    }
    if exports(&process.program(), "DotNetRuntimeDebugHeader") {
        return format!(
            "process {pid} was compiled ahead of time (NativeAOT) without diagnostics: it was built without EventSourceSupport; \
             `gcore` or the core dump of the system can be opened all the same"
        );
    }
    format!("process {pid} is no .NET process")
}

fn why_closed(process: &Process) -> String {
    let names = ["DOTNET_EnableDiagnostics", "COMPlus_EnableDiagnostics", "DOTNET_EnableDiagnostics_IPC"];
    if let Some(name) = names.iter().find(|n| process.variable(n).is_some_and(|v| v.trim() == "0")) {
        return format!("{name}=0 switches it off");
    }
    let folder = process.variable("TMPDIR").filter(|t| !t.is_empty()).unwrap_or_else(|| "/tmp".into());
    format!(
        "no socket of it is in {folder}. Its diagnostics may be switched off in its runtimeconfig.json, the file may have been \
         removed, or the path be longer than a socket's may be"
    )
}

/// Whether a program exports this name: `DotNetRuntimeInfo` is that of single files, `DotNetRuntimeDebugHeader` of NativeAOT.
fn exports(program: &Path, name: &str) -> bool {
    use object::{Object as _, ObjectSymbol as _, ReadCache};
    let Ok(file) = fs::File::open(program) else { return false };
    let cache = ReadCache::new(file);
    let named = |s: object::Symbol<'_, '_, _>| s.name_bytes().is_ok_and(|n| n == name.as_bytes());
    object::File::parse(&cache).is_ok_and(|f| f.dynamic_symbols().any(named))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets() {
        assert_eq!(socket_name("dotnet-diagnostic-12-3456-socket"), Some((12, 3456)));
        for other in [
            "dotnet-diagnostic-dsrouter-12-34-socket",
            "dotnet-diagnostic-12-socket",
            "dotnet-diagnostic--1-2-socket",
            "dotnet-diagnostic-99999999999-2-socket",
            "clr-debug-pipe-12-34-in",
        ] {
            assert_eq!(socket_name(other), None, "{other}");
        }
    }

    #[test]
    fn descriptions_of_every_age() {
        let head = |first: Payload| {
            let bytes = (0..6).fold(first, Payload::number);
            bytes.text("/app/x --y").text("Linux").text("x64")
        };
        let first = head(Payload::default());
        let raw = |p: Payload| p.into_bytes();
        let info = read(Command::INFO, &raw(first)).unwrap();
        assert_eq!((info.command_line.as_deref(), info.name), (Some("/app/x --y"), None));
        let second = raw(head(Payload::default()).text("x").text("6.0.36+abc"));
        let info = read(Command::INFO_2, &second).unwrap();
        assert_eq!((info.name.as_deref(), info.runtime.as_deref()), (Some("x"), Some("6.0.36")));
        let third = raw(head(Payload::default().number(1)).text("").text("8.0.1").text("linux_x64"));
        let info = read(Command::INFO_3, &third).unwrap();
        assert_eq!((info.name, info.runtime.as_deref(), info.arch.as_deref()), (None, Some("8.0.1"), Some("x64")));
        assert!((0..second.len()).all(|cut| read(Command::INFO_2, &second[..cut]).is_none()));
    }
}
