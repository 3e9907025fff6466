//! What leads from types to names in CLR 2.0, found on the core library and proved by its metadata.
//!
//! Source of the order: the shared source, `clr/src/vm/ceeload.h` (`Module`: its file first), `pefile.h` (`PEFile`: the image
//! it is known by, that of its code, the one compiled ahead of time), `peimage.h`, `peimagelayout.h`. How large the locks in
//! between are it does not tell: places in `Module` and `PEImage` are searched.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::{Layout, Source};
use super::heap::Span;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::pe::PeInfo;
use crate::clr::types::methodtable::{MethodTable, MtReader};
use crate::dump::{AddressSpace, Dump};

/// Words of a `Module` and of a `PEImage` looked through.
const MODULE_WORDS: u64 = 16;
const IMAGE_WORDS: u64 = 96;

/// Finds the way from the core library's module to its image. What is not found, or not proved, is taken out of `layout`.
pub fn complete(dump: &Dump, layout: &mut Layout) {
    let found = way(dump, layout);
    match found {
        Some(way) => {
            layout.set_field("Module", "PEAssembly", way.file, Source::Calibrated);
            layout.set_field("PEImage", "LoadedImageLayout", way.layout, Source::Calibrated);
            match path(&dump.space, way.image) {
                Some(at) => layout.set_field("PEImage", "Path", at, Source::Calibrated),
                None => layout.drop_field("PEImage", "Path"),
            }
        }
        None => {
            for (ty, field) in [("Module", "PEAssembly"), ("PEImage", "LoadedImageLayout"), ("PEImage", "Path")] {
                layout.drop_field(ty, field);
            }
        }
    }
    layout.drop_field("PEImage", "FlatImageLayout");
}

/// A way from a module to its image.
struct Way {
    /// Offset in `Module` of its file.
    file: u64,
    /// The `PEImage` the file is known by.
    image: u64,
    /// Offset in `PEImage` of the layout that is mapped.
    layout: u64,
}

/// The first way to an image whose metadata has System.Object and System.String in the rows their classes name.
fn way(dump: &Dump, layout: &Layout) -> Option<Way> {
    let (space, ptr) = (&dump.space, u64::from(dump.space.ptr_size()));
    let reader = MtReader::new(layout).ok()?;
    let value = |name: &str| layout.global(name).ok().and_then(|c| space.ptr(c)).and_then(|m| reader.read(space, m));
    let (object, string) = (value("ObjectMethodTable")?, value("StringMethodTable")?);
    (object.module == string.module && object.module != 0).then_some(())?;
    let mut judged: FxHashMap<u64, bool> = FxHashMap::default();
    let mut is_core = |base: u64| *judged.entry(base).or_insert_with(|| names_them(space, base, &object, &string));
    let fields = ["PEImage", "NativeImage"].map(|f| layout.try_offset("PEAssembly", f));
    let base_at = layout.try_offset("PEImageLayout", "Base")?;
    for file_at in (ptr..MODULE_WORDS * ptr).step_by(ptr as usize) {
        let Some(file) = space.ptr_at(object.module, file_at).filter(|&f| f != 0) else { continue };
        let images = fields.iter().flatten().filter_map(|&f| space.ptr_at(file, f).filter(|&i| i != 0));
        let images: Vec<u64> = images.collect();
        for &image in &images {
            for at in (0..IMAGE_WORDS * ptr).step_by(ptr as usize) {
                let base = space.ptr_at(image, at).and_then(|l| space.ptr_at(l, base_at));
                // A mapped image is one of the dump's modules.
                let mapped = base.filter(|&b| dump.module_at(b).is_some_and(|m| m.base == b));
                if mapped.is_some_and(&mut is_core) {
                    return Some(Way { file: file_at, image: *images.first()?, layout: at });
                }
            }
        }
    }
    None
}

/// Whether the metadata of the image at `base` calls the two what they are.
fn names_them(space: &AddressSpace, base: u64, object: &MethodTable, string: &MethodTable) -> bool {
    let pe = PeInfo::in_memory(space, base).ok();
    let metadata = pe.and_then(|pe| Metadata::parse(pe.metadata_bytes(space).ok()?).ok());
    metadata.is_some_and(|m| m.full_name(object.rid) == "System.Object" && m.full_name(string.rid) == "System.String")
}

/// Offset of the buffer of the first text in a `PEImage` that is a path.
fn path(space: &AddressSpace, image: u64) -> Option<u64> {
    let ptr = u64::from(space.ptr_size());
    let places = (text_header(ptr)..IMAGE_WORDS * ptr).step_by(ptr as usize);
    places.into_iter().find(|&at| text(space, image, at).is_some_and(|t| t.contains(['\\', '/'])))
}

/// Bytes of a text's record in front of its buffer: size and allocation, 32 bits each, and flags (the shared source,
/// `clr/src/inc/sstring.h`).
pub fn text_header(ptr: u64) -> u64 {
    if ptr == 8 { 16 } else { 12 }
}

/// The text whose buffer is at `at` of what begins at `base`: the size in front of it is its own.
pub fn text(space: &AddressSpace, base: u64, at: u64) -> Option<String> {
    const MOST: usize = 0x400;
    let size = space.u32(base.checked_add(at)?.checked_sub(text_header(u64::from(space.ptr_size())))?)?;
    let buffer = space.ptr_at(base, at).filter(|&b| b > 0xFFFF && (4..0x800).contains(&size))?;
    let text = space.utf16z(buffer, MOST);
    (size as usize == 2 * (text.encode_utf16().count() + 1)).then_some(text)
}

/// Objects of each segment looked at for arrays.
const OBJECTS: usize = 4096;
/// Words of a class in which the type of an array's elements is looked for: behind those that every class has.
const CLASS_WORDS: std::ops::Range<u64> = 12..48;

/// Finds where the class of an array has the type of its elements (`ArrayClass`, the shared source, `clr/src/vm/class.h`): the
/// only place that holds, in all arrays met whose elements are no references, a type of the elements' size.
pub fn elements(space: &AddressSpace, layout: &mut Layout, segments: &[Span]) {
    layout.drop_field("EEClass", "ArrayElement");
    let Ok(reader) = MtReader::new(layout) else { return };
    let ptr = u64::from(space.ptr_size());
    let arrays = arrays(space, &reader, segments);
    let fits = |o: &u64| {
        let is_element = |array: &MethodTable| {
            let element = reader.read(space, space.ptr_at(array.class_or_canonical, *o)?)?;
            let bytes = u64::from(element.base_size).checked_sub(2 * ptr)?;
            let right = bytes == u64::from(array.component_size()).next_multiple_of(ptr);
            (right && element.is_value_type() && reader.round_trips(space, &element)).then_some(())
        };
        arrays.iter().all(|a| is_element(a).is_some())
    };
    let found: Vec<u64> = CLASS_WORDS.map(|i| i * ptr).filter(fits).collect();
    if let (&[only], false) = (found.as_slice(), arrays.is_empty()) {
        layout.set_field("EEClass", "ArrayElement", only, Source::Calibrated);
    }
}

/// Types of arrays without references among the first objects.
fn arrays(space: &AddressSpace, reader: &MtReader, segments: &[Span]) -> Vec<MethodTable> {
    const ENOUGH: usize = 16;
    let ptr = u64::from(space.ptr_size());
    let (mut seen, mut found) = (FxHashSet::default(), Vec::new());
    for &(start, end) in segments {
        let mut at = start;
        for _ in 0..OBJECTS {
            let mt = space.ptr(at).and_then(|m| reader.read(space, m & !(ptr - 1))).filter(|m| m.base_size > 0);
            let Some(mt) = mt.filter(|_| at < end && found.len() < ENOUGH) else { break };
            let count = if mt.has_component_size() { space.ptr_at(at, ptr).unwrap_or(0) & 0xFFFF_FFFF } else { 0 };
            let size = u64::from(mt.base_size) + count * u64::from(mt.component_size());
            if mt.is_array() && !mt.contains_pointers() && seen.insert(mt.address) && reader.round_trips(space, &mt) {
                found.push(mt);
            }
            at = at.saturating_add(size.max(3 * ptr).next_multiple_of(ptr));
        }
    }
    found
}
