//! Read-only pages of ELF modules that the dump lacks, from files on disk with the same build id; for a single-file program
//! the assemblies in it too, which are mapped beside it.

use rustc_hash::FxHashMap;

use super::elf::image::ElfImage;
use super::images::{FoundBy, ImageFound, ImageRequest};
use super::{Dump, MapEntry, Module, Presence};

const PT_LOAD: u32 = 1;
const WRITABLE: u32 = 2;
/// `PAGE_READWRITE`, `PAGE_EXECUTE_READWRITE`.
const WRITABLE_PAGES: [u32; 2] = [0x04, 0x40];
/// More modules than any process loads: each has a mapping of its own, of which Linux allows 65,530
/// (`vm.max_map_count`); a bound for damaged dumps.
const MOST_MODULES: usize = 1 << 16;

/// Adds the missing read-only pages of every ELF module whose file is found by its build id. The dump's own bytes win:
/// the files come last. Pages a process can write are never taken from a file.
pub fn add(dump: &mut Dump) {
    let beside = beside(dump);
    let wanted: Vec<(&Module, ImageFound)> = dump
        .modules
        .iter()
        .filter(|m| m.build_id.is_some())
        .take(MOST_MODULES)
        .filter(|m| beside.contains_key(&*m.path) || lacks_pages(dump, m))
        .filter_map(|m| {
            let request =
                ImageRequest { recorded_path: &m.path, build_id: m.build_id.as_deref(), ..ImageRequest::default() };
            let found = dump.images.find(&request).ok().filter(|f| f.how == FoundBy::Identity)?;
            Some((m, found))
        })
        .collect();
    let mut pieces = Vec::new();
    for (m, found) in wanted {
        let Some(image) = ElfImage::read(&found.file[..], 0) else { continue };
        let segments = image.segments.iter().filter(|s| s.kind == PT_LOAD && s.flags & WRITABLE == 0);
        let mut parts: Vec<_> = segments.map(|s| (image.address(m.base, s.address), s.offset, s.file_size)).collect();
        let further = beside.get(&*m.path).into_iter().flatten();
        parts.extend(further.map(|e| (e.start, e.file_offset, e.end - e.start)));
        pieces.push((found.file, parts));
    }
    if pieces.is_empty() {
        return;
    }
    let mut builder = std::mem::take(&mut dump.space).into_builder();
    for (file, parts) in pieces {
        let source = builder.source(file);
        for (address, offset, len) in parts {
            builder.add(address, source, offset, len);
        }
    }
    dump.space = builder.build().0;
}

/// Mappings outside modules that the dump lacks, by the path of their file. What a process writes to goes into every kind
/// of core.
fn beside(dump: &Dump) -> FxHashMap<&str, Vec<&MapEntry>> {
    let mut found: FxHashMap<&str, Vec<&MapEntry>> = FxHashMap::default();
    let absent = |e: &&MapEntry| e.presence != Presence::Dumped && !WRITABLE_PAGES.contains(&e.protect);
    for entry in dump.map.iter().filter(|e| e.module.is_none()).filter(absent) {
        if let Some(file) = &entry.file {
            found.entry(file).or_default().push(entry);
        }
    }
    found
}

fn lacks_pages(dump: &Dump, m: &Module) -> bool {
    let from = dump.map.partition_point(|e| e.end <= m.base);
    let end = m.base.saturating_add(m.size);
    let inside = dump.map.iter().skip(from).take_while(|e| e.start < end);
    inside.into_iter().any(|e| e.presence != Presence::Dumped && e.file.is_some())
}
