//! The cache folder of bounded size: compressed dumps, unpacked once, and indexes.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::OpenError;
use super::map::FileMap;
use super::options::OpenOptions;
use super::sniff::{self, Compression};
use crate::watch::{Progress, Watch};

/// Bytes the cache folder may take in all unless an option says otherwise.
pub const DEFAULT_LIMIT: u64 = 20 << 30;
/// Unit of unpacking, of looking for zeros to skip, and of asking whether to stop.
const BLOCK: usize = 64 << 10;
/// A partial file this old was left by a process that died.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Tells the partial files of this process apart.
static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// The place of the unpacked file, unpacking it when it is not there yet.
///
/// The name in the cache is made of the file's name and a hash of its path, size, time and first bytes, so that a
/// changed file is unpacked anew. Blocks of zeros become holes. A stop removes the partial file.
pub fn unpack(
    path: &Path,
    packed: &FileMap,
    how: Compression,
    options: &OpenOptions,
    watch: &Watch,
) -> Result<PathBuf, OpenError> {
    let folder = folder(options).ok_or_else(|| OpenError::Unsupported {
        path: path.to_owned(),
        what: "is compressed and there is no cache folder to unpack it to: set CLRSCOPE_CACHE, or unpack it first"
            .into(),
    })?;
    fs::create_dir_all(&folder).map_err(|e| cannot_write(path, &folder, e))?;
    let named = name(path, packed).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let place = folder.join(named);
    if place.is_file() {
        touch(&place);
        return Ok(place);
    }
    // Several processes, and threads of one, may unpack the same file at once: each to a name of its own.
    let number = NEXT_PART.fetch_add(1, Ordering::Relaxed);
    let part = Part(place.with_extension(format!("{}-{number}.part", std::process::id())));
    watch.progress.start("unpacking", packed.len() as u64);
    let done = write(path, packed, how, &part.0, watch);
    watch.progress.finish();
    done?;
    match fs::rename(&part.0, &place) {
        Ok(()) => std::mem::forget(part),
        // Another was faster, and its file is in use: it holds the same bytes.
        Err(_) if place.is_file() => return Ok(place),
        Err(e) => return Err(cannot_write(path, &folder, e)),
    }
    evict(&folder, &place, options.cache_limit.unwrap_or(DEFAULT_LIMIT));
    Ok(place)
}

/// The cache cannot be written: says where it is and what to do.
fn cannot_write(path: &Path, cache: &Path, e: io::Error) -> OpenError {
    let text = format!("unpacking it to {} failed: {e}; make room there or set CLRSCOPE_CACHE", cache.display());
    OpenError::Io { path: path.to_owned(), source: io::Error::new(e.kind(), text) }
}

/// A partial file, removed unless it is renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The cache folder; `None` when nothing tells where it could be.
pub fn folder(options: &OpenOptions) -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(given) = options.cache_dir.clone().or_else(|| env("CLRSCOPE_CACHE")) {
        return Some(given);
    }
    let base = env("XDG_CACHE_HOME")
        .or_else(|| env("LOCALAPPDATA"))
        .or_else(|| env("HOME").map(|h| h.join(".cache")))
        .or_else(|| env("USERPROFILE").map(|h| h.join(".cache")))?;
    Some(base.join("clrscope"))
}

fn name(path: &Path, packed: &FileMap) -> io::Result<String> {
    let full = fs::canonicalize(path)?;
    let modified = fs::metadata(path)?.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let head = packed.get(..BLOCK).unwrap_or(packed);
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for b in bytes {
            // FNV-1a: the same in every build, which a cache on disk needs.
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3);
        }
    };
    add(full.as_os_str().as_encoded_bytes());
    add(&(packed.len() as u64).to_le_bytes());
    add(&modified.as_nanos().to_le_bytes());
    add(head);
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let stem: String =
        stem.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).take(80).collect();
    Ok(format!("{stem}-{hash:016x}.dump"))
}

/// Reads the packed file and reports how far it is.
struct Counted<'a> {
    rest: &'a [u8],
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.rest.read(out)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.rest.get(..BLOCK).unwrap_or(self.rest))
    }
    fn consume(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or(&[]);
        self.progress.add(n as u64);
    }
}

fn write(path: &Path, packed: &FileMap, how: Compression, to: &Path, watch: &Watch) -> Result<(), OpenError> {
    let source = Counted { rest: packed, progress: &watch.progress };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    match how {
        Compression::Zstd => {
            let open = || {
                let mut d = zstd::stream::read::Decoder::with_buffer(source)?;
                // Files made with --long need windows larger than the default allows.
                d.window_log_max(31)?;
                io::Result::Ok(d)
            };
            let decoder = open().map_err(|e| damaged(format!("is zstd-compressed but cannot be unpacked ({e})")))?;
            copy(path, decoder, to, watch)
        }
        Compression::Gzip => copy(path, flate2::bufread::MultiGzDecoder::new(source), to, watch),
    }
}

fn copy(path: &Path, mut from: impl Read, to: &Path, watch: &Watch) -> Result<(), OpenError> {
    let io = |e| cannot_write(path, to, e);
    let mut file = File::create(to).map_err(io)?;
    let (mut block, mut total) = (vec![0u8; BLOCK], 0u64);
    loop {
        watch.cancel.check().map_err(|_| OpenError::Interrupted)?;
        let n = fill(&mut from, &mut block).map_err(|e| OpenError::Damaged {
            path: path.to_owned(),
            what: format!(
                "the compressed data is damaged or cut off after {total} unpacked bytes ({e}); copy it again"
            ),
        })?;
        let Some(bytes) = block.get(..n).filter(|b| !b.is_empty()) else { break };
        if total == 0 {
            // What is no dump is refused before it fills the disk.
            sniff::format(bytes).map_err(|what| OpenError::Unsupported {
                path: path.to_owned(),
                what: format!("is compressed, and the file inside {what}"),
            })?;
        }
        if bytes.iter().all(|&b| b == 0) {
            file.seek(SeekFrom::Current(n as i64)).map_err(io)?;
        } else {
            file.write_all(bytes).map_err(io)?;
        }
        total += n as u64;
    }
    if total == 0 {
        let what = "is compressed, and the file inside is empty (0 bytes)".into();
        return Err(OpenError::Unsupported { path: path.to_owned(), what });
    }
    file.set_len(total).map_err(io)
}

/// Reads until the block is full or the source ends.
fn fill(from: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = block.get_mut(done..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Marks a file as used now: the oldest use is evicted first.
pub fn touch(place: &Path) {
    if let Ok(f) = File::options().append(true).open(place) {
        let _ = f.set_modified(SystemTime::now());
    }
}

/// Removes the dumps used longest ago until the rest fits, and partial files of processes that died.
pub fn evict(folder: &Path, keep: &Path, limit: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let now = SystemTime::now();
    let mut dumps = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        let modified = meta.modified().unwrap_or(now);
        match path.extension().and_then(|e| e.to_str()) {
            Some("dump" | "index") => dumps.push((modified, size_on_disk(&meta), path)),
            Some("part") if now.duration_since(modified).is_ok_and(|age| age > STALE) => {
                let _ = fs::remove_file(&path);
            }
            _ => {}
        }
    }
    dumps.sort();
    let mut total: u64 = dumps.iter().map(|d| d.1).sum();
    for (_, size, path) in dumps {
        if total <= limit {
            break;
        }
        if path != keep && fs::remove_file(&path).is_ok() {
            total -= size;
        }
    }
}

#[cfg(unix)]
fn size_on_disk(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512)
}

#[cfg(not(unix))]
fn size_on_disk(meta: &fs::Metadata) -> u64 {
    meta.len()
}
