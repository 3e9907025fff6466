//! What Linux says of a process in `/proc`. Elsewhere there is no such folder, and nothing is said.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes read of a file of `/proc`: its lists of mappings may be longer, and are searched no further.
const MOST: u64 = 16 << 20;

/// A process by its number in this namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number here.
    pub pid: u32,
    folder: PathBuf,
}

/// Whether the system has `/proc`.
pub fn is_there() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// All processes of this machine that can be seen.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let mut all: Vec<Process> = numbers.map(Process::new).collect();
    all.sort_by_key(|p| p.pid);
    all
}

impl Process {
    /// The process of that number.
    pub fn new(pid: u32) -> Self {
        Self { pid, folder: PathBuf::from(format!("/proc/{pid}")) }
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.folder.join(name)).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.read(name).map(|b| String::from_utf8_lossy(&b).into_owned())
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Its arguments, the program first; nothing for threads of the kernel.
    pub fn arguments(&self) -> Vec<String> {
        let all = self.read("cmdline").unwrap_or_default();
        let all = String::from_utf8_lossy(&all).into_owned();
        all.trim_end_matches('\0').split('\0').filter(|_| !all.is_empty()).map(str::to_owned).collect()
    }

    /// The short name of its program.
    pub fn name(&self) -> Option<String> {
        self.text("comm").map(|t| t.trim_end().to_owned())
    }

    /// A variable of the environment it was started with; `None` too where that must not be read.
    pub fn variable(&self, name: &str) -> Option<String> {
        let all = self.read("environ")?;
        let found = all.split(|b| *b == 0).find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(String::from_utf8_lossy(found).into_owned())
    }

    /// A line of its status, behind the key.
    pub fn status(&self, key: &str) -> Option<String> {
        let all = self.text("status")?;
        all.lines().find_map(|l| Some(l.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// A size of its status in bytes.
    pub fn size(&self, key: &str) -> Option<u64> {
        let text = self.status(key)?;
        text.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Its number in its own namespace: another one in a container.
    pub fn inner_pid(&self) -> u32 {
        let own = self.status("NSpid").and_then(|t| t.split_whitespace().last()?.parse().ok());
        own.unwrap_or(self.pid)
    }

    /// When it started, in ticks since the machine did.
    pub fn started(&self) -> Option<u64> {
        let all = self.text("stat")?;
        // The name in parentheses may hold anything; behind it stand fields from the third on.
        all.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
    }

    /// Where its files are for us, where they are not ours: the root of a container. An error says that it cannot be seen.
    pub fn root(&self) -> std::io::Result<Option<PathBuf>> {
        let link = |of: &Path, what: &str| fs::read_link(of.join(what));
        let own = Path::new("/proc/self");
        let same =
            link(&self.folder, "ns/mnt")? == link(own, "ns/mnt")? && link(&self.folder, "root")? == link(own, "root")?;
        Ok((!same).then(|| self.folder.join("root")))
    }

    /// Paths of the files that it has mapped; `None` where they must not be seen.
    pub fn mapped(&self) -> Option<Vec<String>> {
        let all = self.text("maps")?;
        let mut paths: Vec<String> =
            all.lines().filter_map(|l| l.find('/').and_then(|at| l.get(at..)).map(str::to_owned)).collect();
        paths.dedup();
        Some(paths)
    }

    /// The file of its program.
    pub fn program(&self) -> PathBuf {
        self.folder.join("exe")
    }

    /// The user it runs as.
    pub fn user(&self) -> Option<u32> {
        self.status("Uid")?.split_whitespace().next()?.parse().ok()
    }
}
