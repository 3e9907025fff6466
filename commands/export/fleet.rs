//! A folder with the tables of many dumps: `FLEET/TABLE/dump=ID/part.parquet`, so that whoever reads it looks only at the
//! dumps that are asked for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use super::column::Style;
use crate::session::Session;
use crate::session::saved::fingerprint;

/// Longest name of a dump.
const MOST_ID: usize = 100;
/// Longest part of it that is the name of the process.
const MOST_NAME: usize = 40;

/// Tells the unfinished files of this process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A dump's place in a fleet.
pub struct Partition<'a> {
    folder: &'a Path,
    id: &'a str,
}

/// A file that is written beside its place. It goes when it is not done.
pub struct Part {
    /// Where it is written.
    pub beside: PathBuf,
    /// Where it belongs.
    pub place: PathBuf,
    empty: bool,
}

impl<'a> Partition<'a> {
    /// The place of the dump called `id` in `folder`.
    pub fn new(folder: &'a Path, id: &'a str) -> Self {
        Self { folder, id }
    }

    fn folder(&self, table: &str) -> PathBuf {
        self.folder.join(table).join(format!("dump={}", self.id))
    }

    /// Begins the file of a table.
    pub fn begin(&self, table: &str, style: Style) -> Result<Part> {
        let folder = self.folder(table);
        make(&folder)?;
        // Readers pass over files whose names begin with a dot. Workers on several machines may share the folder.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = folder.join(format!(".part-{}-{now:x}-{number}", std::process::id()));
        File::create_new(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
        Ok(Part { beside, place: folder.join(format!("part.{}", style.extension())), empty: false })
    }

    /// Takes away what an earlier export left of a table.
    pub fn clear(&self, table: &str, style: Style) -> Result<()> {
        remove(&self.folder(table).join(format!("part.{}", style.extension())))
    }
}

impl Part {
    /// The same without rows to keep: in its place there will be nothing.
    pub fn emptied(mut self) -> Self {
        self.empty = true;
        self
    }

    /// Puts it where it belongs, in place of an older one.
    pub fn take_place(self) -> Result<()> {
        if self.empty {
            return remove(&self.place);
        }
        fs::rename(&self.beside, &self.place).with_context(|| format!("cannot write {}", self.place.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it has taken its place there is nothing to remove.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Makes a folder and those above it.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a dump is called where nobody named it: its process, and a checksum of what the dump is. Neither where it lies nor how
/// it is compressed plays a part.
pub fn id(session: &Session) -> Result<String> {
    let process = &session.dump().process;
    let file = process.name.as_deref().and_then(|n| n.rsplit(['/', '\\']).next()).unwrap_or("");
    let name: String = file.chars().take(MOST_NAME).map(clean).collect();
    // One that begins with a digit is a number to some who read the name of a folder.
    let name = if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("dump{name}") };
    let pid = process.pid.map_or_else(String::new, |p| format!("-{p}"));
    Ok(format!("{name}{pid}-{:016x}", session.fingerprint()?))
}

/// As [`id`], of a file that cannot be read as a dump.
pub fn id_of_file(path: &Path) -> String {
    let is_file = fs::metadata(path).is_ok_and(|m| m.is_file());
    match is_file.then(|| fingerprint(path)).and_then(Result::ok) {
        Some(sum) => format!("unread-{sum:016x}"),
        None => {
            let bytes = path.to_string_lossy();
            format!("missing-{:016x}", crate::graph::pack::checksum(bytes.as_bytes()))
        }
    }
}

/// Refuses names that would be no folder, or not text, to somebody.
pub fn check_id(id: &str) -> Result<()> {
    let fits = id.len() <= MOST_ID && id.starts_with(|c: char| c.is_ascii_alphabetic()) && id.chars().all(is_plain);
    if !fits {
        bail!("-id takes a letter and up to {} letters, digits, `-`, `_` and `.`, not `{id}`", MOST_ID - 1);
    }
    Ok(())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn clean(c: char) -> char {
    if is_plain(c) { c } else { '_' }
}
