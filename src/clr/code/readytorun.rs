//! Precompiled images (ReadyToRun): their header and tables, in the dump or in the file of the same identity.
//!
//! Format: dotnet/runtime `docs/design/coreclr/botr/readytorun-format.md`, `src/coreclr/inc/readytorun.h`.

use std::cell::OnceCell;
use std::sync::OnceLock;

use super::codeheaps::PAGE;
use super::gcinfo;
use super::nativeformat::{Bytes, NativeArray, unsigned};
use super::unwind::{self, Function};
use crate::clr::Clr;
use crate::clr::image::modules::{ImageFile, Module};
use crate::clr::image::pe::PeInfo;
use crate::dump::Arch;

/// `ReadyToRunSectionType`.
pub const RUNTIME_FUNCTIONS: u32 = 102;
/// Entry points of methods by their row.
pub const METHOD_ENTRY_POINTS: u32 = 103;
/// Exception clauses: start of a method and where its clauses begin.
pub const EXCEPTION_INFO: u32 = 104;
/// Debug information by function.
pub const DEBUG_INFO: u32 = 105;
/// Entry points of instantiations, by signature.
pub const INSTANCE_ENTRY_POINTS: u32 = 109;

/// `RTR` and a zero.
const SIGNATURE: u32 = 0x0052_5452;
/// More sections than any version has.
const MAX_SECTIONS: u32 = 256;
/// Most functions of one image.
const MAX_FUNCTIONS: u32 = 1 << 22;

/// An image's bytes by their distance from its base: those of the dump, else those of its file.
pub struct View<'a> {
    clr: &'a Clr,
    base: u64,
    end: u64,
    module: &'a Module,
    /// Looked for when the dump lacks something.
    file: OnceCell<Option<&'a ImageFile>>,
}

impl<'a> View<'a> {
    fn file(&self) -> Option<&'a ImageFile> {
        *self.file.get_or_init(|| {
            // A composite image is another file than the module that stands for it.
            let size = self.end.saturating_sub(self.base);
            let same = |f: &&ImageFile| {
                self.module.image_base == self.base || u64::from(f.pe.size_of_image).next_multiple_of(PAGE) == size
            };
            self.module.image_file(self.clr).ok().filter(same)
        })
    }

    /// The pointer at `rva`; one that only the file has is moved to where the image is mapped.
    pub fn pointer(&self, rva: u32) -> Option<u64> {
        if let Some(pointer) = self.base.checked_add(u64::from(rva)).and_then(|at| self.clr.space().ptr(at)) {
            return Some(pointer);
        }
        let file = self.file()?;
        let stored = match self.clr.ptr_size() {
            8 => u64::from_le_bytes(*file.at(rva)?.first_chunk()?),
            _ => u64::from(u32::from_le_bytes(*file.at(rva)?.first_chunk()?)),
        };
        let distance = stored.checked_sub(file.pe.preferred_base);
        match distance.filter(|&d| d < u64::from(file.pe.size_of_image)) {
            Some(d) => self.base.checked_add(d),
            None => (stored == 0).then_some(0),
        }
    }

    /// As many bytes from `rva` on as lie together, at most `most`.
    pub fn run(&self, rva: u32, most: usize) -> Vec<u8> {
        let of_dump = self.base.checked_add(u64::from(rva)).map(|at| {
            let mut bytes = vec![0; most];
            let n = self.clr.space().read(at, &mut bytes);
            bytes.truncate(n);
            bytes
        });
        let of_dump = of_dump.unwrap_or_default();
        if of_dump.len() == most {
            return of_dump;
        }
        let of_file = self.file().and_then(|f| f.at(rva)).unwrap_or(&[]);
        let of_file = of_file.get(..most).unwrap_or(of_file);
        if of_dump.len() >= of_file.len() { of_dump } else { of_file.to_vec() }
    }
}

impl Bytes for View<'_> {
    fn byte(&self, rva: u32) -> Option<u8> {
        let of_dump = self.base.checked_add(u64::from(rva)).and_then(|at| self.clr.space().u8(at));
        of_dump.or_else(|| self.file()?.at(rva)?.first().copied())
    }

    fn u16(&self, rva: u32) -> Option<u16> {
        let of_dump = self.base.checked_add(u64::from(rva)).and_then(|at| self.clr.space().u16(at));
        of_dump.or_else(|| Some(u16::from_le_bytes(*self.file()?.at(rva)?.first_chunk()?)))
    }

    fn u32(&self, rva: u32) -> Option<u32> {
        let of_dump = self.base.checked_add(u64::from(rva)).and_then(|at| self.clr.space().u32(at));
        of_dump.or_else(|| Some(u32::from_le_bytes(*self.file()?.at(rva)?.first_chunk()?)))
    }
}

/// The start of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Distance from the image's base.
    pub rva: u32,
    /// Its MethodDesc; 0 when it is not known.
    pub method: u64,
    /// MethodDef row in the image's metadata; 0 when it is not known.
    pub rid: u32,
}

/// The starts of an image.
#[derive(Debug, Default)]
pub struct Starts {
    /// By place.
    pub all: Vec<Start>,
    /// Whether none can be missing: the image's tables were read throughout.
    pub complete: bool,
}

impl Starts {
    /// The nearest start at or before `rva`.
    pub fn at_or_before(&self, rva: u32) -> Option<Start> {
        let i = self.all.partition_point(|s| s.rva <= rva).checked_sub(1)?;
        self.all.get(i).copied()
    }
}

/// An image's tables.
#[derive(Debug, Default)]
pub struct Image {
    /// Where it is mapped.
    pub base: u64,
    /// One past its last address.
    pub end: u64,
    /// Address of its `Module`.
    pub module: u64,
    /// Version of its format; 0 where its header is not at hand.
    pub version: (u16, u16),
    /// Type, distance from the base and size of its sections.
    sections: Vec<(u32, u32, u32)>,
    /// Whether the file was needed for the header.
    functions: OnceLock<Vec<(u32, u32)>>,
    pub(super) starts: OnceLock<Starts>,
    form: OnceLock<super::debuginfo::Form>,
}

/// A function of an image, with the method it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The function itself.
    pub function: Function,
    /// The main body of the method, where it is known.
    pub main: Option<Main>,
}

/// The main body of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Main {
    /// Its entry among the functions.
    pub index: u32,
    /// The main body.
    pub function: Function,
    /// Its MethodDesc; 0 when the runtime's table has none.
    pub method: u64,
    /// MethodDef row; 0 when not known.
    pub rid: u32,
}

impl Image {
    /// Reads the header of the image of `module` at `base`.
    pub fn read(clr: &Clr, base: u64, end: u64, module: u64) -> Self {
        let mut image = Image { base, end, module, ..Image::default() };
        image.read_header(clr);
        image
    }

    /// Its bytes.
    pub fn view<'a>(&self, clr: &'a Clr, module: &'a Module) -> View<'a> {
        View { clr, base: self.base, end: self.end, module, file: OnceCell::new() }
    }

    fn read_header(&mut self, clr: &Clr) -> Option<()> {
        let module = clr.module(self.module);
        let view = self.view(clr, &module);
        let native = |pe: &PeInfo| pe.cli.as_ref().map(|c| c.native_header.0).filter(|&rva| rva != 0);
        let in_dump = PeInfo::in_memory(clr.space(), self.base).ok();
        let at = in_dump.as_ref().and_then(native).or_else(|| native(&view.file()?.pe));
        // A composite image has no CLI header; it exports the other.
        let at = at.or_else(|| composite_header(clr, self.base, self.end))?;
        (view.u32(at)? == SIGNATURE).then_some(())?;
        let field = |offset: u32| at.checked_add(offset);
        self.version = (view.u16(field(4)?)?, view.u16(field(6)?)?);
        let count = view.u32(field(12)?)?.min(MAX_SECTIONS);
        for i in 0..count {
            let entry = field(16 + 12 * i)?;
            let word = |n: u32| view.u32(entry.checked_add(4 * n)?);
            self.sections.push((word(0)?, word(1)?, word(2)?));
        }
        Some(())
    }

    /// Distance from the base and size of a section.
    pub fn section(&self, kind: u32) -> Option<(u32, u32)> {
        self.sections.iter().find(|s| s.0 == kind).map(|s| (s.1, s.2))
    }

    /// Bounds of the table of functions: first address and number of entries.
    pub fn function_table(&self, arch: Arch) -> Option<(u32, u32)> {
        let (rva, size) = self.section(RUNTIME_FUNCTIONS)?;
        Some((rva, (size / unwind::entry_size(arch) as u32).min(MAX_FUNCTIONS)))
    }

    /// Begin and index of every entry at hand, in order.
    fn functions(&self, clr: &Clr, view: &View<'_>) -> &[(u32, u32)] {
        self.functions.get_or_init(|| {
            let Some((table, count)) = self.function_table(clr.dump.arch) else { return Vec::new() };
            let size = unwind::entry_size(clr.dump.arch) as u32;
            let mut all: Vec<(u32, u32)> = (0..count)
                .filter_map(|i| Some((view.u32(table.checked_add(i.checked_mul(size)?)?)?, i)))
                // Behind the last one stands one that is all ones.
                .filter(|f| f.0 != u32::MAX && u64::from(f.0) < self.end - self.base)
                .collect();
            all.sort_unstable();
            all
        })
    }

    /// The entry `index` of the functions.
    pub fn function(&self, clr: &Clr, view: &View<'_>, index: u32) -> Option<Function> {
        let (table, count) = self.function_table(clr.dump.arch)?;
        (index < count).then_some(())?;
        let at = self.base.checked_add(u64::from(table) + u64::from(index) * unwind::entry_size(clr.dump.arch))?;
        unwind::read_with(clr.dump.arch, |a| view.u32(u32::try_from(a.checked_sub(self.base)?).ok()?), at, self.base)
    }

    /// The method whose code begins exactly at `ip`, where the table of functions is not at hand: entry points alone.
    pub fn entry(&self, clr: &Clr, view: &View<'_>, ip: u64) -> Option<Start> {
        let rva = u32::try_from(ip.checked_sub(self.base)?).ok()?;
        self.starts(clr, view).at_or_before(rva).filter(|s| s.rva == rva)
    }

    /// The function `ip` is in, and its method.
    pub fn find(&self, clr: &Clr, view: &View<'_>, ip: u64) -> Option<Found> {
        let rva = u32::try_from(ip.checked_sub(self.base)?).ok()?;
        let all = self.functions(clr, view);
        let place = all.partition_point(|f| f.0 <= rva).checked_sub(1)?;
        let &(_, index) = all.get(place)?;
        let function = self.function(clr, view, index)?;
        // Entries that are not at hand leave gaps: what lies behind the end is in one of those.
        let next = all.get(place + 1);
        let inside = match function.end {
            Some(end) => ip < end || next.is_some_and(|n| n.1 == index + 1) && ip < self.base + u64::from(next?.0),
            None => next.is_some_and(|n| n.1 == index + 1),
        };
        inside.then_some(Found { function, main: self.main(clr, view, ip, function.start) })
    }

    /// The method whose main body or funclet begins at `start` and holds `ip`: the nearest start of a method at or before
    /// it, if its code is that long.
    fn main(&self, clr: &Clr, view: &View<'_>, ip: u64, start: u64) -> Option<Main> {
        let rva = u32::try_from(start.checked_sub(self.base)?).ok()?;
        let starts = self.starts(clr, view);
        let of = starts.at_or_before(rva)?;
        let all = self.functions(clr, view);
        let place = all.binary_search_by_key(&of.rva, |f| f.0).ok()?;
        let &(_, index) = all.get(place)?;
        let function = self.function(clr, view, index)?;
        let main = Main { index, function, method: of.method, rid: of.rid };
        let inside = match self.code_length(clr, view, &function) {
            Some(length) => ip.wrapping_sub(function.start) <= u64::from(length),
            // Without its length a method is only known to be the right one where no start can be missing in between.
            None => of.rva == rva || starts.complete,
        };
        inside.then_some(main)
    }

    /// Bytes of code of the method with the main body `main`, funclets included, by its GC information.
    pub fn code_length(&self, clr: &Clr, view: &View<'_>, main: &Function) -> Option<u32> {
        let rva = self.gc_info(clr, view, main)?;
        if clr.dump.arch == Arch::X86 {
            return gcinfo::x86::code_length(&view.run(rva, 8));
        }
        let version = gcinfo::version_of_image(self.version.0, self.version.1);
        gcinfo::code_length(&view.run(rva, 16), version, clr.dump.arch).filter(|&l| l > 0)
    }

    /// Where the GC information of a method lies: behind the unwind information of its main body.
    pub fn gc_info(&self, clr: &Clr, view: &View<'_>, main: &Function) -> Option<u32> {
        /// Address of the personality routine behind the codes.
        const PERSONALITY: u32 = 4;
        let at = u32::try_from(main.unwind.checked_sub(self.base)?).ok()?;
        let size = match clr.dump.arch {
            Arch::X64 => (4 + 2 * u32::from(view.byte(at.checked_add(2)?)?)).next_multiple_of(4) + PERSONALITY,
            Arch::Arm64 => {
                let first = view.u32(at)?;
                let (single, epilogs, words) = (first >> 21 & 1 != 0, first >> 22 & 31, first >> 27);
                if epilogs == 0 && words == 0 {
                    let second = view.u32(at.checked_add(4)?)?;
                    8 + 4 * (second & 0xFFFF) + 4 * (second >> 16 & 0xFF) + PERSONALITY
                } else {
                    4 + if single { 0 } else { 4 * epilogs } + 4 * words + PERSONALITY
                }
            }
            Arch::X86 => {
                let word = |at: u64| view.u32(u32::try_from(at).ok()?);
                return u32::try_from(unwind::of_x86(word, at.into()).0).ok();
            }
            Arch::Arm => return None,
        };
        at.checked_add(size)
    }

    /// Where the debug information of the method with main body `index` lies.
    pub fn debug_info(&self, view: &View<'_>, index: u32) -> Option<u32> {
        let (rva, _) = self.section(DEBUG_INFO)?;
        let at = NativeArray::at(view, rva)?.get(view, index)??;
        // What several methods share is named by how far back it lies.
        let (back, next) = unsigned(view, at)?;
        if back == 0 { Some(next) } else { at.checked_sub(back) }
    }

    /// How debug information of this image is written: the form in which a sample decodes without remainder.
    pub fn debug_form(&self, clr: &Clr, view: &View<'_>) -> super::debuginfo::Form {
        *self.form.get_or_init(|| {
            let samples = || -> Option<Vec<Vec<u8>>> {
                let (rva, _) = self.section(DEBUG_INFO)?;
                let array = NativeArray::at(view, rva)?;
                let indices = (0..array.count().min(1 << 16)).filter(|&i| matches!(array.get(view, i), Some(Some(_))));
                Some(indices.filter_map(|i| self.debug_info(view, i)).map(|at| view.run(at, 4096)).take(64).collect())
            };
            super::forms::choose(super::debuginfo::OF_IMAGE, &samples().unwrap_or_default(), clr.dump.arch)
        })
    }
}

/// The header that a composite image exports (`RTR_HEADER`).
fn composite_header(clr: &Clr, base: u64, end: u64) -> Option<u32> {
    let (space, word) = (clr.space(), |at: u64| clr.space().u32(at).map(u64::from));
    (space.u16(base)? == 0x5A4D).then_some(())?;
    let pe = base.checked_add(word(base.checked_add(0x3C)?)?)?;
    let optional = pe.checked_add(24)?;
    let directory = optional.checked_add(if space.u16(optional)? == 0x20B { 112 } else { 96 })?;
    let exports = base.checked_add(word(directory).filter(|&rva| rva != 0)?)?;
    let field = |offset: u64| word(exports.checked_add(offset)?);
    let (names, functions, ordinals) = (base.checked_add(field(32)?)?, base.checked_add(field(28)?)?, field(36)?);
    for i in 0..field(24)?.min(64) {
        let name = base.checked_add(word(names.checked_add(4 * i)?)?)?;
        if space.utf8z(name, 16) == "RTR_HEADER" {
            let ordinal = u64::from(space.u16(base.checked_add(ordinals)?.checked_add(2 * i)?)?);
            let rva = word(functions.checked_add(4 * ordinal)?)?;
            return (base.checked_add(rva)? < end).then(|| u32::try_from(rva).ok()).flatten();
        }
    }
    None
}
