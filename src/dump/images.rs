//! Images (assemblies, runtime, programs) on disk, for what the dump does not hold.
//!
//! A file is taken when its identity matches what the dump proves of the image. Where the dump proves nothing, a file of
//! the recorded name is taken and the answer says so. A mismatch is refused and remembered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::elf::image::{ElfImage, PeImage};
use super::map::FileMap;
use super::options::OpenOptions;

/// An image wanted: its recorded path and what the dump proves of its identity.
#[derive(Debug, Clone, Default)]
pub struct ImageRequest<'a> {
    /// Path as the dump records it (either slash).
    pub recorded_path: &'a str,
    /// PE timestamp.
    pub timestamp: Option<u32>,
    /// PE `SizeOfImage`.
    pub size_of_image: Option<u32>,
    /// Module version id of a .NET assembly; compared through the caller's reader, see [`ImageStore::find_with`].
    pub mvid: Option<[u8; 16]>,
    /// ELF build id.
    pub build_id: Option<&'a [u8]>,
}

impl ImageRequest<'_> {
    fn name(&self) -> &str {
        self.recorded_path.rsplit(['/', '\\']).next().unwrap_or(self.recorded_path)
    }
}

/// How a file was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// Timestamp and size, module version id or build id are those of the dump.
    Identity,
    /// The dump proves nothing; the name is all there is.
    NameOnly,
}

/// An image found.
#[derive(Debug, Clone)]
pub struct ImageFound {
    /// The whole file.
    pub file: FileMap,
    /// Its place.
    pub path: PathBuf,
    /// Why it was taken.
    pub how: FoundBy,
}

/// A file of the right name that is another image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its place.
    pub path: PathBuf,
    /// What was expected and what was found.
    pub why: String,
}

/// Finds image files. Shared by all users of a dump; the places searched can be changed at any time.
#[derive(Debug, Default)]
pub struct ImageStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    beside: Option<PathBuf>,
    folders: Vec<PathBuf>,
    symbol_path: String,
    disabled: bool,
    open: HashMap<PathBuf, Option<FileMap>>,
    used: Vec<(PathBuf, FoundBy)>,
    refused: Vec<Refusal>,
}

impl ImageStore {
    /// A store for the dump at `dump`.
    pub fn new(dump: &Path, options: &OpenOptions) -> Self {
        Self(Mutex::new(Inner {
            beside: dump.parent().map(Path::to_owned),
            folders: options.image_paths.clone(),
            symbol_path: options.symbol_path.clone().unwrap_or_default(),
            disabled: options.no_images,
            ..Inner::default()
        }))
    }

    /// Replaces the image folders (`.exepath`).
    pub fn set_folders(&self, folders: Vec<PathBuf>) {
        self.lock().folders = folders;
    }

    /// The image folders.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.lock().folders.clone()
    }

    /// Replaces the symbol path (`.sympath`), of which only local folders are searched.
    pub fn set_symbol_path(&self, path: &str) {
        path.clone_into(&mut self.lock().symbol_path);
    }

    /// The symbol path.
    pub fn symbol_path(&self) -> String {
        self.lock().symbol_path.clone()
    }

    /// Files taken so far, each once.
    pub fn used(&self) -> Vec<(PathBuf, FoundBy)> {
        self.lock().used.clone()
    }

    /// Files refused so far, each once.
    pub fn refused(&self) -> Vec<Refusal> {
        self.lock().refused.clone()
    }

    /// The file of an image, or the refused candidates (none: no file of that name anywhere).
    pub fn find(&self, request: &ImageRequest<'_>) -> Result<ImageFound, Vec<Refusal>> {
        self.find_with(request, |_| None)
    }

    /// As [`find`](Self::find), with a reader of the module version id of an assembly's file. When the request names one
    /// and nothing else of its identity, files for which `mvid_of` answers otherwise are refused.
    pub fn find_with(
        &self,
        request: &ImageRequest<'_>,
        mvid_of: impl Fn(&[u8]) -> Option<[u8; 16]>,
    ) -> Result<ImageFound, Vec<Refusal>> {
        let mut refusals = Vec::new();
        for path in self.candidates(request) {
            let Some(file) = self.file(&path) else { continue };
            match identify(request, &file, &mvid_of) {
                Ok(how) => {
                    let mut inner = self.lock();
                    if inner.used.iter().all(|u| u.0 != path) {
                        inner.used.push((path.clone(), how));
                    }
                    return Ok(ImageFound { file, path, how });
                }
                Err(why) => refusals.push(Refusal { path, why }),
            }
        }
        let mut inner = self.lock();
        for r in &refusals {
            if !inner.refused.contains(r) {
                inner.refused.push(r.clone());
            }
        }
        drop(inner);
        Err(refusals)
    }

    /// The file of symbols called `name` for which `is` holds: beside the dump, in the folder of the module at `module`, in
    /// the image folders and the local folders of the symbol path, plainly by name or below one of `keys` as symbol stores
    /// have it. `is` gives the reason why a file is another. The error lists the refused candidates.
    pub fn find_symbols(
        &self,
        name: &str,
        module: &str,
        keys: &[String],
        is: impl Fn(&FileMap) -> Result<(), String>,
    ) -> Result<(FileMap, PathBuf), Vec<Refusal>> {
        self.first_of(self.symbol_candidates(name, module, keys), is)
    }

    /// The file of debug information split off the ELF module at `module` with that build id: as a symbol store has it
    /// (`_.debug/elf-buildid-sym-ID/_.debug`), below `.build-id` of a folder or of `/usr/lib/debug`, or called as the
    /// module with `.debug` or `.dbg` behind it.
    pub fn find_debug_file(
        &self,
        build_id: &[u8],
        module: &str,
        is: impl Fn(&FileMap) -> Result<(), String>,
    ) -> Result<(FileMap, PathBuf), Vec<Refusal>> {
        let name = module.rsplit(['/', '\\']).next().unwrap_or(module);
        let key = [format!("elf-buildid-sym-{}", hex(build_id))];
        let mut candidates = self.symbol_candidates("_.debug", "", &key);
        let id = hex(build_id);
        if let Some((first, rest)) = id.split_at_checked(2)
            && !self.lock().disabled
        {
            let inner = self.lock();
            let mut folders: Vec<PathBuf> = inner.beside.iter().chain(&inner.folders).cloned().collect();
            folders.extend(local_folders(&inner.symbol_path));
            folders.push(PathBuf::from(SYSTEM_DEBUG_FILES));
            let each = folders.iter().map(|f| f.join(".build-id").join(first).join(format!("{rest}.debug")));
            candidates.extend(each.filter(|p| p.is_file()));
        }
        for ending in ["debug", "dbg"] {
            candidates.extend(self.symbol_candidates(&format!("{name}.{ending}"), module, &key));
        }
        self.first_of(candidates, is)
    }

    /// Existing files that may be the symbols `name` of the module at `module`.
    fn symbol_candidates(&self, name: &str, module: &str, keys: &[String]) -> Vec<PathBuf> {
        let request = ImageRequest { recorded_path: name, ..ImageRequest::default() };
        let mut candidates = self.candidates_with(&request, keys);
        let folder = Path::new(module).parent().filter(|p| p.is_absolute());
        let beside = folder.map(|f| f.join(request.name())).filter(|p| p.is_file() && !self.lock().disabled);
        candidates.extend(beside.filter(|p| !candidates.contains(p)));
        candidates
    }

    fn first_of(
        &self,
        candidates: Vec<PathBuf>,
        is: impl Fn(&FileMap) -> Result<(), String>,
    ) -> Result<(FileMap, PathBuf), Vec<Refusal>> {
        let mut refusals = Vec::new();
        for path in candidates {
            let Some(file) = self.file(&path) else { continue };
            match is(&file) {
                Ok(()) => return Ok((file, path)),
                Err(why) => refusals.push(Refusal { path, why }),
            }
        }
        Err(refusals)
    }

    /// Existing files that may be the image, best first, identity not looked at: beside the dump, at the recorded path, in
    /// the image folders, in the local folders of the symbol path; plainly by name or as a symbol store files them. A
    /// file given as an "image folder" is a candidate for everything that has an identity to prove.
    pub fn candidates(&self, request: &ImageRequest<'_>) -> Vec<PathBuf> {
        self.candidates_with(request, &store_keys(request))
    }

    fn candidates_with(&self, request: &ImageRequest<'_>, keys: &[String]) -> Vec<PathBuf> {
        let inner = self.lock();
        let name = request.name();
        if inner.disabled || name.is_empty() || name == ".." || name == "." {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut add = |p: PathBuf| {
            if p.is_file() && !out.contains(&p) {
                out.push(p);
            }
        };
        let folder = |dir: &Path, add: &mut dyn FnMut(PathBuf)| {
            for name in spellings(name) {
                add(dir.join(&name));
                for key in keys {
                    add(dir.join(&name).join(key).join(&name));
                }
            }
        };
        if let Some(dir) = &inner.beside {
            folder(dir, &mut add);
        }
        // A Windows path says nothing on another system, and a relative one would mean our own folder.
        let recorded = Path::new(request.recorded_path);
        if recorded.is_absolute() {
            add(recorded.to_owned());
        }
        for dir in &inner.folders {
            if dir.is_file() {
                let named = dir.file_name().is_some_and(|f| f.eq_ignore_ascii_case(name));
                if named || provable(request) {
                    add(dir.clone());
                }
            } else {
                folder(dir, &mut add);
            }
        }
        for dir in local_folders(&inner.symbol_path) {
            folder(&dir, &mut add);
        }
        out
    }

    fn file(&self, path: &Path) -> Option<FileMap> {
        if let Some(known) = self.lock().open.get(path) {
            return known.clone();
        }
        let file = FileMap::open(path).ok().filter(|f| !f.is_empty());
        self.lock().open.insert(path.to_owned(), file.clone());
        file
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where Linux distributions install debug information.
const SYSTEM_DEBUG_FILES: &str = "/usr/lib/debug";

fn provable(r: &ImageRequest<'_>) -> bool {
    r.build_id.is_some() || r.mvid.is_some() || (r.timestamp.is_some() && r.size_of_image.is_some())
}

/// The name as recorded and in lower case, as symbol stores on case-sensitive systems spell it.
fn spellings(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    if lower == name { vec![lower] } else { vec![name.to_owned(), lower] }
}

/// Folder names of a symbol store: timestamp and size for PE files, `elf-buildid-...` for ELF files (Microsoft's
/// "Simple Symbol Query Protocol" conventions, dotnet/symstore `docs/specs/SSQP_Key_Conventions.md`).
fn store_keys(r: &ImageRequest<'_>) -> Vec<String> {
    let mut keys = Vec::new();
    if let (Some(t), Some(s)) = (r.timestamp, r.size_of_image) {
        keys.extend([format!("{t:08X}{s:x}"), format!("{t:08x}{s:x}"), format!("{t:08X}{s:X}")]);
        keys.dedup();
    }
    if let Some(id) = r.build_id {
        keys.push(format!("elf-buildid-{}", hex(id)));
    }
    keys
}

/// The local folders of a symbol path: `SRV*a*b*https://...`, `cache*a`, `symsrv*symsrv.dll*a*...` and plain folders.
pub fn local_folders(symbol_path: &str) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    for element in symbol_path.split(';').map(str::trim).filter(|e| !e.is_empty()) {
        let parts: Vec<&str> = element.split('*').map(str::trim).collect();
        let skip = match parts.first().map(|p| p.to_ascii_lowercase()).as_deref() {
            _ if parts.len() == 1 => 0,
            Some("symsrv") => 2,
            _ => 1,
        };
        let local = parts.into_iter().skip(skip).filter(|p| !p.is_empty() && !p.contains("://"));
        out.extend(local.map(PathBuf::from));
    }
    out
}

fn identify(
    request: &ImageRequest<'_>,
    file: &[u8],
    mvid_of: &impl Fn(&[u8]) -> Option<[u8; 16]>,
) -> Result<FoundBy, String> {
    if let Some(wanted) = request.build_id {
        let found = ElfImage::read(file, 0).and_then(|i| i.build_id_in_file(file));
        return match found {
            Some(id) if id == wanted => Ok(FoundBy::Identity),
            Some(id) => Err(format!("build id {} expected, {} found", hex(wanted), hex(&id))),
            None => Err(format!("build id {} expected, the file has none", hex(wanted))),
        };
    }
    if let (Some(time), Some(size)) = (request.timestamp, request.size_of_image) {
        return match PeImage::read(file, 0) {
            Some(pe) if pe.timestamp == time && pe.size_of_image == size => Ok(FoundBy::Identity),
            Some(pe) => Err(format!(
                "timestamp {time:08x} and image size {size:x} expected, {:08x} and {:x} found",
                pe.timestamp, pe.size_of_image
            )),
            None => Err("a PE file expected; it is none".into()),
        };
    }
    if let Some(wanted) = request.mvid {
        return match mvid_of(file) {
            Some(id) if id == wanted => Ok(FoundBy::Identity),
            Some(id) => Err(format!("module version id {} expected, {} found", hex(&wanted), hex(&id))),
            None => Err(format!("module version id {} expected, the file has none", hex(&wanted))),
        };
    }
    Ok(FoundBy::NameOnly)
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
