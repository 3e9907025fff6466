//! Read-only pages of ELF modules that the dump lacks, from files on disk with the same build id.

use super::elf::image::ElfImage;
use super::images::{FoundBy, ImageFound, ImageRequest};
use super::{Dump, Module, Presence};

const PT_LOAD: u32 = 1;
const WRITABLE: u32 = 2;
/// More modules than any process loads; a bound for damaged dumps.
const MOST_MODULES: usize = 4096;

/// Adds the missing read-only pages of every ELF module whose file is found by its build id. The dump's own bytes win:
/// the files come last. Pages a process can write are never taken from a file.
pub fn add(dump: &mut Dump) {
    let wanted: Vec<(&Module, ImageFound)> = dump
        .modules
        .iter()
        .filter(|m| m.build_id.is_some())
        .take(MOST_MODULES)
        .filter(|m| lacks_pages(dump, m))
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
        let parts: Vec<_> = segments.map(|s| (image.address(m.base, s.address), s.offset, s.file_size)).collect();
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

fn lacks_pages(dump: &Dump, m: &Module) -> bool {
    let from = dump.map.partition_point(|e| e.end <= m.base);
    let end = m.base.saturating_add(m.size);
    let inside = dump.map.iter().skip(from).take_while(|e| e.start < end);
    inside.into_iter().any(|e| e.presence != Presence::Dumped && e.file.is_some())
}
