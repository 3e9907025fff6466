//! Managed modules: where their image is, which metadata names their types, and why it is missing when it is.
//!
//! Layout facts: dotnet/runtime `src/coreclr/vm/ceeload.h` (`Module`), `peassembly.h`, `peimage.h`; offsets from the
//! layout.

use std::sync::{Arc, OnceLock, RwLock};

use rustc_hash::FxHashMap;

use super::metadata::Metadata;
use super::metadata::debug::Symbols;
use super::pe::PeInfo;
use super::place;
use super::samebuild;
use crate::clr::Clr;
use crate::dump::images::{FoundBy, ImageRequest, Refusal};
use crate::dump::map::FileMap;

/// How a module's metadata was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataSource {
    /// From the image in the dump.
    Dump,
    /// Built at run time (Reflection.Emit), from the runtime's own copy.
    Dynamic,
    /// From a file proved to be the same build.
    File(String),
    /// From a file of the recorded name; the dump holds nothing to prove its identity by.
    FileByNameOnly(String),
    /// Not available; why, and what to do.
    Missing(String),
}

/// A managed module.
#[derive(Debug)]
pub struct Module {
    /// Address of the runtime's `Module`.
    pub address: u64,
    /// Where its image is mapped; 0 for a dynamic module.
    pub image_base: u64,
    /// Recorded path; empty when unknown.
    pub path: String,
    /// Whether it was made at run time.
    pub dynamic: bool,
    /// Size of the image in memory in bytes, when its header is readable.
    pub size: u64,
    metadata: OnceLock<(Option<Arc<Metadata>>, MetadataSource)>,
    file: OnceLock<Result<ImageFile, String>>,
    pub(super) symbols: OnceLock<Result<Symbols, String>>,
}

/// The file of a module, proved to be the same build as far as the dump has something to prove it by.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// The whole file.
    pub file: FileMap,
    /// Its headers.
    pub pe: PeInfo,
    /// Its place.
    pub path: String,
    /// Why it was taken.
    pub how: FoundBy,
}

impl ImageFile {
    /// The bytes from `rva` on to the end of their section or of the file.
    pub fn at(&self, rva: u32) -> Option<&[u8]> {
        self.file.get(usize::try_from(self.pe.offset_of(rva)?).ok()?..)
    }
}

impl Module {
    /// Last component of the path.
    pub fn file_name(&self) -> &str {
        self.path.rsplit(['/', '\\']).next().unwrap_or(&self.path)
    }

    /// File name without `.dll` or `.exe`: the simple assembly name as far as the path tells.
    pub fn stem(&self) -> &str {
        let name = self.file_name();
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".dll") || lower.ends_with(".exe") { &name[..name.len() - 4] } else { name }
    }

    /// Metadata, read at first need.
    pub fn metadata(&self, clr: &Clr) -> Option<&Arc<Metadata>> {
        self.load(clr).0.as_ref()
    }

    /// Where the metadata came from or why it is missing.
    pub fn metadata_source(&self, clr: &Clr) -> &MetadataSource {
        &self.load(clr).1
    }

    /// The file of the module, or why there is none.
    pub fn image_file(&self, clr: &Clr) -> Result<&ImageFile, &str> {
        self.file.get_or_init(|| find_file(clr, self)).as_ref().map_err(String::as_str)
    }

    fn load(&self, clr: &Clr) -> &(Option<Arc<Metadata>>, MetadataSource) {
        self.metadata.get_or_init(|| find_metadata(clr, self))
    }

    /// What stands for the module in names whose metadata is missing.
    pub fn fallback_name(&self, clr: &Clr) -> String {
        let stem = self.stem();
        if stem.is_empty() { self.display_name(clr) } else { stem.to_owned() }
    }

    /// Simple assembly name: from metadata, else from the path.
    pub fn assembly_name(&self, clr: &Clr) -> String {
        let named = self.metadata(clr).and_then(|m| m.assembly().map(|a| a.name.to_owned()));
        named.unwrap_or_else(|| self.stem().to_owned())
    }

    /// Address and length of the metadata in the image in the dump.
    pub fn metadata_range(&self, clr: &Clr) -> Option<(u64, u64)> {
        let range = PeInfo::in_memory(clr.space(), self.image_base).ok()?.metadata().ok()?;
        Some((range.start, range.end - range.start))
    }

    /// CodeView identity of its symbols as `guid age path`; empty when unknown.
    pub fn pdb(&self, clr: &Clr) -> String {
        let pdb = PeInfo::in_memory(clr.space(), self.image_base).ok().and_then(|p| p.pdb);
        pdb.map(|p| format!("{} {} {}", p.guid_text(), p.age, p.path)).unwrap_or_default()
    }

    /// The name to show: the path; without a file the module's name of an image loaded from bytes (`lib.dll`), the
    /// assembly's of a dynamic one.
    pub fn display_name(&self, clr: &Clr) -> String {
        if !self.path.is_empty() {
            return self.path.clone();
        }
        let named = self.metadata(clr).and_then(|m| {
            let assembly = m.assembly().map(|a| a.name.to_owned());
            let module = m.module_name().map(str::to_owned);
            if self.dynamic { assembly.or(module) } else { module.or(assembly) }
        });
        named.unwrap_or_else(|| format!("Module_{:x}", self.address))
    }
}

/// Modules met so far, by address.
#[derive(Debug, Default)]
pub struct Modules {
    by_address: RwLock<FxHashMap<u64, Arc<Module>>>,
}

impl Modules {
    /// The module at `address`, read at first sight. An unreadable one has no path and no image.
    pub fn get(&self, clr: &Clr, address: u64) -> Arc<Module> {
        let lock = |p: std::sync::PoisonError<_>| p.into_inner();
        if let Some(m) = self.by_address.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&address) {
            return m.clone();
        }
        let module = Arc::new(read(clr, address));
        self.by_address.write().unwrap_or_else(lock).entry(address).or_insert(module).clone()
    }
}

/// The image of a program compiled ahead of time, which stands for all modules compiled into it.
fn of_image(clr: &Clr, base: u64) -> Module {
    let image = clr.dump.module_at(base).filter(|m| m.base == base);
    Module {
        address: base,
        image_base: base,
        path: image.map(|m| m.path.clone()).unwrap_or_default(),
        dynamic: false,
        size: image.map_or(0, |m| m.size),
        metadata: OnceLock::from((None, MetadataSource::Missing(NO_METADATA.into()))),
        file: OnceLock::from(Err(NO_METADATA.into())),
        symbols: OnceLock::new(),
    }
}

/// Why there is no metadata of ECMA-335.
const NO_METADATA: &str = "a NativeAOT program keeps no modules and no metadata of them";

fn read(clr: &Clr, address: u64) -> Module {
    if clr.ahead().is_some() {
        return of_image(clr, address);
    }
    let (space, l) = (clr.space(), clr.layout());
    let field = |base: u64, ty: &str, f: &str| space.ptr_at(base, l.try_offset(ty, f)?).filter(|&v| v != 0);
    let [image, _] = place::images(space, l, address);
    let base = place::of_module(space, l, address).unwrap_or(0);
    let text = |a: u64| Some(space.utf16z(a, 1024)).filter(|t| !t.is_empty());
    let path = image
        .and_then(|i| text(field(i, "PEImage", "Path")?))
        .or_else(|| text(field(address, "Module", "Path")?))
        .unwrap_or_default();
    let size = PeInfo::in_memory(space, base).map(|p| p.size()).unwrap_or(0);
    let dynamic = base == 0 && dynamic_metadata(clr, address).is_some();
    Module {
        address,
        image_base: base,
        path,
        dynamic,
        size,
        metadata: OnceLock::new(),
        file: OnceLock::new(),
        symbols: OnceLock::new(),
    }
}

/// Address and size of the metadata of a Reflection.Emit module.
fn dynamic_metadata(clr: &Clr, module: u64) -> Option<(u64, u32)> {
    let (space, l) = (clr.space(), clr.layout());
    let record = space.ptr_at(module, l.try_offset("Module", "DynamicMetadata")?).filter(|&r| r != 0)?;
    let size = space.u32(record.checked_add(l.try_offset("DynamicMetadata", "Size")?)?)?;
    let data = match l.try_offset("DynamicMetadata", "DataPointer") {
        Some(o) => space.ptr_at(record, o)?,
        None => record.checked_add(l.try_offset("DynamicMetadata", "Data")?)?,
    };
    (size > 16 && space.u32(data)? == u32::from_le_bytes(*b"BSJB")).then_some((data, size))
}

fn find_metadata(clr: &Clr, module: &Module) -> (Option<Arc<Metadata>>, MetadataSource) {
    let space = clr.space();
    if let Some((data, size)) = dynamic_metadata(clr, module.address)
        && let Some(bytes) = space.bytes(data, size as usize)
        && let Ok(m) = Metadata::parse(bytes)
    {
        return (Some(Arc::new(m)), MetadataSource::Dynamic);
    }
    let image = PeInfo::in_memory(space, module.image_base).ok();
    if let Some(bytes) = image.as_ref().and_then(|i| i.metadata_bytes(space).ok())
        && let Ok(m) = Metadata::parse(bytes)
    {
        return (Some(Arc::new(m)), MetadataSource::Dump);
    }
    from_file(clr, module)
}

/// Metadata of the module's file.
fn from_file(clr: &Clr, module: &Module) -> (Option<Arc<Metadata>>, MetadataSource) {
    let found = match module.image_file(clr) {
        Ok(f) => f,
        Err(why) => return (None, MetadataSource::Missing(why.to_owned())),
    };
    let path = found.path.clone();
    match metadata_of(found) {
        Some(m) if found.how == FoundBy::NameOnly => (Some(Arc::new(m)), MetadataSource::FileByNameOnly(path)),
        Some(m) => (Some(Arc::new(m)), MetadataSource::File(path)),
        None => (None, MetadataSource::Missing(format!("{path} holds no readable metadata"))),
    }
}

fn metadata_of(found: &ImageFile) -> Option<Metadata> {
    let range = found.pe.metadata().ok()?;
    Metadata::in_map(found.file.clone(), range.start as usize..range.end as usize).ok()
}

/// The file on disk of the same identity: PE timestamp and image size where the dump holds the header. Where it does not,
/// one of the same name whose types are those in memory.
fn find_file(clr: &Clr, module: &Module) -> Result<ImageFile, String> {
    if module.path.is_empty() {
        return Err("the module has no path and its metadata is not in the dump".into());
    }
    let image = PeInfo::in_memory(clr.space(), module.image_base).ok();
    let request = ImageRequest {
        recorded_path: &module.path,
        timestamp: image.as_ref().map(|i| i.timestamp),
        size_of_image: image.as_ref().map(|i| i.size_of_image),
        mvid: None,
        build_id: None,
    };
    let found = clr.dump.images.find(&request).map_err(|refused| refusal_text(module, &refused))?;
    let path = found.path.display().to_string();
    let pe = PeInfo::in_file(&found.file).map_err(|_| format!("{path} holds no readable metadata"))?;
    let found = ImageFile { file: found.file, pe, path, how: found.how };
    if found.how == FoundBy::NameOnly
        && let Some(why) = metadata_of(&found).and_then(|m| samebuild::contradiction(clr, module.address, &m))
    {
        return Err(format!("{} is another build: {why}", found.path));
    }
    Ok(found)
}

fn refusal_text(module: &Module, refused: &[Refusal]) -> String {
    let name = module.file_name();
    if refused.is_empty() {
        return format!("not in the dump, and no {name} was found; give its folder with .exepath FOLDER or -i FOLDER");
    }
    let each: Vec<String> = refused.iter().map(|r| format!("{}: {}", r.path.display(), r.why)).collect();
    format!("not in the dump, and the files found are others: {}", each.join("; "))
}
