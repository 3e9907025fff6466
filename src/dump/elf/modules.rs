//! Modules of a Linux core: from the mapped files, else from the loader's list, else from ELF headers in memory.

use super::header::Segment;
use super::image::{ElfImage, PeImage, Source};
use super::notes::{FileMapping, Notes};
use crate::dump::memmap::Range;
use crate::dump::{AddressSpace, Module};

const AT_PHDR: u64 = 3;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;
const DT_DEBUG: u64 = 21;
const DT_SONAME: u64 = 14;
const DT_STRTAB: u64 = 5;

/// All modules by base address.
pub fn find(space: &AddressSpace, notes: &Notes, loads: &[(Range, Segment)]) -> Vec<Module> {
    let mut list = if notes.has_files { from_files(space, notes, loads) } else { from_memory(space, notes) };
    if let Some(base) = aux(notes, AT_SYSINFO_EHDR)
        && let Some(m) = elf_module(space, base, "[vdso]".into())
    {
        list.push(m);
    }
    list.sort_by_key(|m| m.base);
    list.dedup_by_key(|m| m.base);
    list
}

fn aux(notes: &Notes, tag: u64) -> Option<u64> {
    notes.auxv.iter().find(|a| a.0 == tag).map(|a| a.1).filter(|&v| v != 0)
}

/// One module per mapping of file offset 0 that begins with an image's magic number. (A single-file program maps its
/// assemblies from the same file at other offsets, below its own base: "lowest mapping" would be wrong.)
fn from_files(space: &AddressSpace, notes: &Notes, loads: &[(Range, Segment)]) -> Vec<Module> {
    let mut of_path: Vec<Vec<usize>> = vec![Vec::new(); notes.paths.len()];
    for (i, f) in notes.files.iter().enumerate() {
        if let Some(list) = of_path.get_mut(f.path as usize) {
            list.push(i);
        }
    }
    let mut out = Vec::new();
    for (mappings, path) in of_path.iter().zip(&notes.paths) {
        let of: Vec<&FileMapping> = mappings.iter().filter_map(|&i| notes.files.get(i)).collect();
        let mut end = 0;
        for (k, first) in of.iter().enumerate().filter(|(_, f)| f.offset == 0) {
            // A section whose file offset rounds down to 0 begins with the headers too, but lies inside the image.
            if first.start < end {
                continue;
            }
            if let Some(m) = file_module(space, path, of.get(k..).unwrap_or(&[]), loads) {
                end = m.base.saturating_add(m.size);
                out.push(m);
            }
        }
    }
    out
}

/// The module that `mappings` (of one path, from one of offset 0 on) begin with.
fn file_module(
    space: &AddressSpace,
    path: &str,
    mappings: &[&FileMapping],
    loads: &[(Range, Segment)],
) -> Option<Module> {
    let first = mappings.first()?;
    if let Some(m) = elf_module(space, first.start, path.to_owned()) {
        return Some(m);
    }
    let span = span(mappings);
    if let Some(pe) = PeImage::read(space, first.start) {
        // Mapped section by section the first mapping holds just the headers and others follow inside the image; else
        // the file lies there flat.
        let inside = |f: &&FileMapping| f.start - first.start < u64::from(pe.size_of_image);
        let headers_only = first.end - first.start <= u64::from(pe.size_of_headers).next_multiple_of(0x1_0000);
        let mapped = headers_only && mappings.get(1).is_some_and(inside);
        let size = if mapped { u64::from(pe.size_of_image).next_multiple_of(0x1000) } else { first.end - first.start };
        return Some(Module {
            base: first.start,
            size,
            path: path.to_owned(),
            timestamp: Some(pe.timestamp),
            image_size: Some(pe.size_of_image),
            ..Module::default()
        });
    }
    // Headers present but of nothing known: a data file. Absent: an image by its name or by executable pages.
    if space.readable(first.start) && !starts_like_image(space, first.start) {
        return None;
    }
    let load = mappings.iter().enumerate().take_while(|(i, f)| *i == 0 || f.offset != 0);
    let executable = load.into_iter().any(|(_, f)| executable(loads, f.start));
    (executable || named_like_image(path)).then(|| Module {
        base: first.start,
        size: span,
        path: path.to_owned(),
        ..Module::default()
    })
}

fn starts_like_image(space: &AddressSpace, at: u64) -> bool {
    space.some(at, 4).is_some_and(|b| b.starts_with(b"\x7fELF") || b.starts_with(b"MZ"))
}

fn named_like_image(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with(".so") || name.contains(".so.") || name.ends_with(".dll") || name.ends_with(".exe")
}

fn executable(loads: &[(Range, Segment)], address: u64) -> bool {
    let i = loads.partition_point(|(r, _)| r.0 <= address);
    i.checked_sub(1).and_then(|i| loads.get(i)).is_some_and(|(r, s)| address < r.1 && s.flags & 1 != 0)
}

/// Bytes from the first mapping to the end of the last that belongs to the same load of the file: offsets ascend, and a
/// new mapping of offset 0 starts another load.
fn span(mappings: &[&FileMapping]) -> u64 {
    const MOST_GAP: u64 = 1 << 30;
    let Some(first) = mappings.first() else { return 0 };
    let mut end = first.end;
    for f in mappings.iter().skip(1) {
        if f.offset == 0 || f.start.saturating_sub(end) > MOST_GAP {
            break;
        }
        end = f.end;
    }
    end - first.start
}

/// The ELF image at `base` as a module; `None` when its headers are not readable or are none.
fn elf_module(space: &AddressSpace, base: u64, path: String) -> Option<Module> {
    let image = ElfImage::read(space, base)?;
    let build_id = image.build_id_in_memory(space, base);
    Some(Module { base, size: image.size, path, build_id, ..Module::default() })
}

/// Without `NT_FILE` (qemu-user): the program at `AT_PHDR`, what the loader's list names, and every piece of memory that
/// starts with an ELF header.
fn from_memory(space: &AddressSpace, notes: &Notes) -> Vec<Module> {
    let mut out: Vec<Module> = Vec::new();
    let program = aux(notes, AT_PHDR).map(|p| p & !0xFFF).filter(|&base| ElfImage::read(space, base).is_some());
    if let Some(base) = program {
        let path = aux(notes, AT_EXECFN).map(|a| space.utf8z(a, 4096)).filter(|p| !p.is_empty());
        let path = path.or_else(|| notes.name.clone()).unwrap_or_else(|| "[program]".into());
        out.extend(elf_module(space, base, path));
        out.extend(loader_list(space, base));
    }
    let known: rustc_hash::FxHashSet<u64> = out.iter().map(|m| m.base).collect();
    for p in space.pieces() {
        if !known.contains(&p.start)
            && space.some(p.start, 4) == Some(b"\x7fELF")
            && let Some(image) = ElfImage::read(space, p.start)
        {
            let name = soname(space, &image, p.start).unwrap_or_else(|| format!("[image at {:x}]", p.start));
            out.extend(elf_module(space, p.start, name));
        }
    }
    out
}

/// Entries of a dynamic section: tag and value.
fn dynamic(space: &AddressSpace, image: &ElfImage, base: u64) -> Vec<(u64, u64)> {
    let Some(d) = image.dynamic() else { return Vec::new() };
    let (at, step) = (image.address(base, d.address), u64::from(space.ptr_size()));
    let most = (d.memory_size / (2 * step)).min(512);
    (0..most)
        .map_while(|i| {
            Some((space.ptr_at(at, i.checked_mul(2 * step)?)?, space.ptr_at(at, (i * 2 + 1).checked_mul(step)?)?))
        })
        .take_while(|(tag, _)| *tag != 0)
        .collect()
}

fn soname(space: &AddressSpace, image: &ElfImage, base: u64) -> Option<String> {
    let entries = dynamic(space, image, base);
    let of = |tag| entries.iter().find(|e| e.0 == tag).map(|e| e.1);
    let (strings, name) = (of(DT_STRTAB)?, of(DT_SONAME)?);
    // Loaders relocate the pointer in place, the vdso's stays an offset.
    let at = [strings, image.address(base, strings)].into_iter().find(|&a| space.readable(a))?;
    Some(space.utf8z(at.checked_add(name)?, 256)).filter(|s| !s.is_empty())
}

/// The loader's list of loaded objects: `DT_DEBUG` of the program points at `r_debug`, whose `r_map` chains `link_map`s
/// (`elf/link.h` in glibc; musl has the same).
fn loader_list(space: &AddressSpace, program: u64) -> Vec<Module> {
    let Some(image) = ElfImage::read(space, program) else { return Vec::new() };
    let step = u64::from(space.ptr_size());
    let debug = dynamic(space, &image, program).into_iter().find(|e| e.0 == DT_DEBUG).map(|e| e.1);
    let mut at = debug.and_then(|d| space.ptr_at(d, step)).unwrap_or(0);
    let mut out = Vec::new();
    for _ in 0..4096 {
        let Some(base) = space.ptr(at) else { break };
        let path = space.ptr_at(at, step).map(|n| space.utf8z(n, 4096)).unwrap_or_default();
        if base != 0 && base != program && !path.is_empty() {
            out.extend(elf_module(space, base, path));
        }
        at = space.ptr_at(at, 3 * step).unwrap_or(0);
    }
    out
}
