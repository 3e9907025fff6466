//! From an instruction pointer to the managed method it is in, its native and IL offset: what a walk of stacks, suspended
//! async methods and commands ask.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::debuginfo::{self, AsyncPoint, DebugInfo, Form};
use super::forms;
use super::fragile::Fragile;
use super::gcinfo;
use super::jitcode::{self, CodeHeader, JitHeap};
use super::methods::MethodDesc;
use super::ranges::{self, CodeRange, RangeKind};
use super::readytorun::{Image, View};
use super::unwind::{self, Function};
use crate::clr::Clr;
use crate::clr::image::metadata::debug::SourceLine;
use crate::clr::image::modules::Module;
use crate::dump::Arch;

/// What kind of code an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// Made by the JIT.
    Jit,
    /// Precompiled.
    ReadyToRun,
    /// Precompiled for one build of its dependencies (2.1 and 2.2: the core library).
    Fragile,
    /// Compiled ahead of time, in a program without a JIT.
    Ahead,
    /// A stub of the runtime, with its kind (`StubCodeBlockKind`; 0 when it is not told).
    Stub(u8),
}

/// The code an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeAt {
    /// The address asked for.
    pub ip: u64,
    /// Kind of code.
    pub kind: CodeKind,
    /// The MethodDesc; `None` for stubs and for methods the dump has none of.
    pub method: Option<u64>,
    /// Address of the method's `Module`; 0 when it is not known.
    pub module: u64,
    /// MethodDef token; `None` when it is not known, as for dynamic methods.
    pub token: Option<u32>,
    /// First address of the method's code (of its main body).
    pub start: u64,
    /// Bytes from there to the address.
    pub native: u32,
    /// Bytes of code, funclets included, where they are recorded.
    pub length: Option<u32>,
    /// The function the address is in: the main body or a funclet. `None` where functions are not recorded (x86).
    pub function: Option<Function>,
    /// The main body.
    pub main: Option<Function>,
    /// Base of what the functions count from.
    pub base: u64,
    /// Address of the debug information.
    pub debug_info: Option<u64>,
    /// Address of the GC information.
    pub gc_info: Option<u64>,
    /// Which range it is in.
    pub(super) range: usize,
}

impl CodeAt {
    /// Whether the address is in a funclet (a handler, a filter, a finally block) rather than in the main body.
    pub fn in_funclet(&self) -> bool {
        self.function.is_some_and(|f| f.start != self.start)
    }

    /// The same code, for the address right behind: that of a call at the end of a method.
    pub(super) fn behind(mut self) -> Self {
        (self.ip, self.native) = (self.ip.saturating_add(1), self.native.saturating_add(1));
        self
    }
}

/// What is known of the code of a runtime, read at first need.
#[derive(Debug)]
pub struct CodeTables {
    ranges: Vec<CodeRange>,
    partial: Option<String>,
    heaps: Vec<OnceLock<Option<JitHeap>>>,
    images: Vec<OnceLock<Image>>,
    fragile: Vec<OnceLock<Option<Fragile>>>,
    /// Whether nibble maps have pointers.
    pointers: OnceLock<bool>,
    form: OnceLock<Form>,
    /// Version of jitted code's GC information.
    gc_version: OnceLock<Option<u32>>,
    /// Code by MethodDesc.
    of_method: OnceLock<FxHashMap<u64, Vec<CodeVersion>>>,
}

/// A piece of code of a method: compiled anew, or precompiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeVersion {
    /// Where it begins.
    pub start: u64,
    /// Whether it is precompiled.
    pub precompiled: bool,
}

impl CodeTables {
    /// Reads the ranges.
    pub fn read(clr: &Clr) -> Self {
        let (ranges, partial) = ranges::read(clr);
        let heaps = ranges.iter().map(|_| OnceLock::new()).collect();
        let images = ranges.iter().map(|_| OnceLock::new()).collect();
        let fragile = ranges.iter().map(|_| OnceLock::new()).collect();
        let (pointers, form, gc_version) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { ranges, partial, heaps, images, fragile, pointers, form, gc_version, of_method: OnceLock::new() }
    }
}

/// Answers about code.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    clr: &'a Clr,
    tables: &'a CodeTables,
}

/// Most methods whose debug information tells its form.
const SAMPLES: usize = 96;
/// Most starts looked at in search of them.
const SAMPLE_STARTS: usize = 1 << 14;
/// Most code blocks of one heap.
const MAX_STARTS: usize = 1 << 20;
/// Longest debug information read, in bytes.
const MAX_DEBUG: usize = 1 << 22;

impl Clr {
    /// Lookup of code; its tables are read at first need.
    pub fn code(&self) -> Code<'_> {
        Code { clr: self, tables: self.code.get_or_init(|| CodeTables::read(self)) }
    }
}

impl<'a> Code<'a> {
    /// The stretches of managed code, by address.
    pub fn ranges(&self) -> &'a [CodeRange] {
        &self.tables.ranges
    }

    /// Why some may be missing.
    pub fn partial(&self) -> Option<&'a str> {
        self.tables.partial.as_deref()
    }

    /// Whether `ip` is in managed code, stubs included.
    pub fn is_managed(&self, ip: u64) -> bool {
        self.range(ip).is_some()
    }

    /// The stretch of managed code that `ip` is in.
    pub fn range_at(&self, ip: u64) -> Option<&'a CodeRange> {
        self.range(ip).map(|r| r.1)
    }

    fn range(&self, ip: u64) -> Option<(usize, &'a CodeRange)> {
        let i = self.tables.ranges.partition_point(|r| r.start <= ip).checked_sub(1)?;
        self.tables.ranges.get(i).filter(|r| ip < r.end).map(|r| (i, r))
    }

    /// The code at `ip`; `None` where there is none, or none that can be told.
    pub fn at(&self, ip: u64) -> Option<CodeAt> {
        let (index, range) = self.range(ip)?;
        match range.kind {
            RangeKind::Jit(node) => self.jit(ip, index, range, node),
            RangeKind::Image(module) => self.precompiled(ip, index, range, module),
            RangeKind::Stubs => Some(stub(ip, ip, 0, index, range)),
            RangeKind::Ahead => self.compiled(ip, index, range),
        }
    }

    fn compiled(&self, ip: u64, index: usize, range: &CodeRange) -> Option<CodeAt> {
        let found = self.clr.ahead()?.code_at(self.clr.native(), ip)?;
        let of = |(start, end): (u64, u64)| Function { start, end: Some(end), unwind: 0 };
        let mut at = bare(ip, found.start, CodeKind::Ahead, index, range);
        (at.module, at.function) = (found.image, Some(of(found.function)));
        at.main = at.function.filter(|f| f.start == found.start);
        at.length = at.main.and_then(|m| u32::try_from(m.end?.checked_sub(m.start)?).ok());
        at.gc_info = found.gc_info;
        Some(at)
    }

    fn heap(&self, index: usize, node: u64) -> Option<&'a JitHeap> {
        let cell = self.tables.heaps.get(index)?;
        cell.get_or_init(|| JitHeap::read(self.clr, node)).as_ref()
    }

    fn jit_heaps(&self) -> impl Iterator<Item = &'a JitHeap> {
        let (this, ranges) = (*self, &self.tables.ranges);
        ranges.iter().enumerate().filter_map(move |(i, r)| match r.kind {
            RangeKind::Jit(node) => this.heap(i, node),
            _ => None,
        })
    }

    fn pointers(&self) -> bool {
        *self.tables.pointers.get_or_init(|| self.jit_heaps().any(|h| h.has_pointers(self.clr)))
    }

    fn jit(&self, ip: u64, index: usize, range: &CodeRange, node: u64) -> Option<CodeAt> {
        let heap = self.heap(index, node)?;
        let start = heap.block_start(self.clr, ip, self.pointers())?;
        let header = match jitcode::header(self.clr, start)? {
            CodeHeader::Stub(kind) => return Some(stub(ip, start, kind, index, range)),
            CodeHeader::Method(h) => h,
        };
        let functions = jitcode::functions(self.clr, &header, range.start);
        let last = functions.last().and_then(|f| f.end);
        if last.is_some_and(|end| ip >= end) {
            return None;
        }
        let function = functions.iter().rev().find(|f| f.start <= ip).copied();
        let mut at = CodeAt {
            ip,
            kind: CodeKind::Jit,
            method: Some(header.method),
            module: 0,
            token: None,
            start,
            native: u32::try_from(ip - start).ok()?,
            length: match last {
                Some(end) => end.checked_sub(start).and_then(|l| u32::try_from(l).ok()),
                None => self.length_of_x86(header.gc_info),
            },
            function,
            main: functions.first().copied(),
            base: range.start,
            debug_info: Some(header.debug_info).filter(|&d| d != 0),
            gc_info: Some(header.gc_info).filter(|&g| g != 0),
            range: index,
        };
        self.name_method(&mut at);
        Some(at)
    }

    /// Bytes of a method on x86, where functions are not recorded: its GC information begins with them.
    fn length_of_x86(&self, gc_info: u64) -> Option<u32> {
        (self.clr.dump.arch == Arch::X86 && gc_info != 0).then_some(())?;
        gcinfo::x86::code_length(&self.bytes(gc_info, 5))
    }

    /// Token and module of the MethodDesc.
    fn name_method(&self, at: &mut CodeAt) {
        let Some(md) = at.method.and_then(|m| self.clr.method_desc(m)) else { return };
        if !md.is_dynamic() && md.rid != 0 {
            at.token = Some(md.token());
        }
        let owner = self.clr.method_table(md.owner);
        if let Some(module) = owner.and_then(|mt| self.clr.defining_module(&mt)) {
            at.module = module;
        }
    }

    fn image(&self, index: usize, range: &CodeRange, module: u64) -> Option<&'a Image> {
        let cell = self.tables.images.get(index)?;
        Some(cell.get_or_init(|| Image::read(self.clr, range.start, range.end, module)))
    }

    fn precompiled(&self, ip: u64, index: usize, range: &CodeRange, module: u64) -> Option<CodeAt> {
        let image = self.image(index, range, module)?;
        if image.version == (0, 0) {
            return self.fragile(ip, index, range, module);
        }
        let of = self.clr.module(module);
        let view = image.view(self.clr, &of);
        let Some(found) = image.find(self.clr, &view, ip) else {
            let start = image.entry(self.clr, &view, ip)?;
            let mut at = bare(ip, ip, CodeKind::ReadyToRun, index, range);
            (at.method, at.module) = (Some(start.method).filter(|&m| m != 0), module);
            at.token = Some(start.rid).filter(|&r| r != 0).map(|r| 0x0600_0000 | r);
            self.name_method(&mut at);
            return Some(at);
        };
        let absolute = |rva: u32| image.base.checked_add(u64::from(rva));
        let main = found.main;
        let start = main.map_or(found.function.start, |m| m.function.start);
        let mut at = CodeAt {
            ip,
            kind: CodeKind::ReadyToRun,
            method: main.map(|m| m.method).filter(|&m| m != 0),
            module,
            token: main.filter(|m| m.rid != 0).map(|m| 0x0600_0000 | m.rid),
            start,
            native: u32::try_from(ip - start).ok()?,
            length: main.and_then(|m| image.code_length(self.clr, &view, &m.function)),
            function: Some(found.function),
            main: main.map(|m| m.function),
            base: image.base,
            debug_info: main.and_then(|m| image.debug_info(&view, m.index)).and_then(absolute),
            gc_info: main.and_then(|m| image.gc_info(self.clr, &view, &m.function)).and_then(absolute),
            range: index,
        };
        self.name_method(&mut at);
        Some(at)
    }

    fn fragile(&self, ip: u64, index: usize, range: &CodeRange, module: u64) -> Option<CodeAt> {
        let tables = self.tables.fragile.get(index)?;
        let tables = tables.get_or_init(|| Fragile::find(self.clr, range.start, range.end, module));
        let (function, main, method) = tables.as_ref()?.at(self.clr, ip)?;
        jitcode::is_method(self.clr, method).then_some(())?;
        let mut at = bare(ip, main.start, CodeKind::Fragile, index, range);
        (at.method, at.module) = (Some(method), module);
        (at.function, at.main) = (Some(function), Some(main));
        at.gc_info = self.fragile_gc_info(&main);
        at.length = at.gc_info.and_then(|g| self.length_of_x86(g));
        self.name_method(&mut at);
        Some(at)
    }

    /// GC information of a method in an image of that kind: on x86 it stands in place of unwind information, else behind it and
    /// the address of a personality routine (dotnet/coreclr v1.0 `src/vm/codeman.cpp`, `GetUnwindDataBlob`).
    fn fragile_gc_info(&self, main: &Function) -> Option<u64> {
        match self.clr.dump.arch {
            Arch::X86 => Some(unwind::of_x86(|at| self.clr.space().u32(at), main.unwind).0),
            Arch::X64 => {
                let codes = *self.bytes(main.unwind, 4).get(2)?;
                main.unwind.checked_add((4 + 2 * u64::from(codes) + 4).next_multiple_of(4))
            }
            _ => None,
        }
    }

    /// Runs `run` with the image that `address` lies in and its bytes.
    pub(super) fn with_image<T>(&self, index: usize, run: impl FnOnce(&Image, &View<'_>) -> Option<T>) -> Option<T> {
        let range = self.tables.ranges.get(index)?;
        let RangeKind::Image(module) = range.kind else { return None };
        let of: std::sync::Arc<Module> = self.clr.module(module);
        let image = self.image(index, range, module)?;
        run(image, &image.view(self.clr, &of))
    }

    /// Up to `most` bytes at `address`, from the dump or from the file of the precompiled image it lies in: for unwind and
    /// GC information.
    pub fn bytes(&self, address: u64, most: usize) -> Vec<u8> {
        let of_image = self.range(address).and_then(|(index, _)| {
            self.with_image(index, |image, view| Some(view.run(u32::try_from(address - image.base).ok()?, most)))
        });
        of_image.unwrap_or_else(|| {
            let mut bytes = vec![0; most];
            let n = self.clr.space().read(address, &mut bytes);
            bytes.truncate(n);
            bytes
        })
    }

    /// The pointer at `address`, from the dump or from the file of the precompiled image it lies in, relocated.
    pub fn pointer(&self, address: u64) -> Option<u64> {
        self.clr.space().ptr(address).or_else(|| {
            let (index, _) = self.range(address)?;
            self.with_image(index, |image, view| view.pointer(u32::try_from(address - image.base).ok()?))
        })
    }

    /// First addresses of all code blocks known, by range: methods and stubs the JIT's heaps have, methods of precompiled
    /// images that the runtime prepared or the image's tables name.
    pub fn starts(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for (index, range) in self.tables.ranges.iter().enumerate() {
            match range.kind {
                RangeKind::Jit(node) => {
                    let heap = self.heap(index, node);
                    all.extend(heap.map(|h| h.starts(self.clr, MAX_STARTS)).unwrap_or_default());
                }
                RangeKind::Image(_) => {
                    let of_image = self.with_image(index, |image, view| {
                        Some(image.starts(self.clr, view).all.iter().map(|s| image.base + u64::from(s.rva)).collect())
                    });
                    all.append(&mut of_image.unwrap_or_default());
                }
                RangeKind::Ahead => all.extend(self.clr.ahead().map(|a| a.method_starts()).unwrap_or_default()),
                RangeKind::Stubs => {}
            }
        }
        all
    }

    /// The precompiled image that `address` lies in: number of its range and address of its `Module`. Its data are beside
    /// its code.
    pub(super) fn image_around(&self, address: u64) -> Option<(usize, u64)> {
        match self.range(address)? {
            (index, CodeRange { kind: RangeKind::Image(module), .. }) => Some((index, *module)),
            _ => None,
        }
    }

    pub(super) fn clr(&self) -> &'a Clr {
        self.clr
    }

    /// Architecture of the code.
    pub(super) fn arch(&self) -> Arch {
        self.clr.dump.arch
    }

    /// Up to `most` starts of what the JIT made, stubs among them.
    pub(super) fn jit_starts(&self, most: usize) -> Vec<u64> {
        self.jit_heaps().flat_map(|h| h.starts(self.clr, most)).take(most).collect()
    }

    /// Version of jitted code's GC information; `None` where no sample decodes.
    pub(super) fn jit_gc_version(&self) -> Option<u32> {
        *self.tables.gc_version.get_or_init(|| self.choose_gc_version())
    }

    /// Version of the format of the precompiled image `at` is in.
    pub(super) fn image_version(&self, at: &CodeAt) -> Option<(u16, u16)> {
        self.with_image(at.range, |image, _| Some(image.version)).filter(|v| *v != (0, 0))
    }

    /// All code of the method at `method` that is in the JIT's heaps, and what is precompiled of it and in use, by address.
    pub fn versions(&self, method: u64) -> &'a [CodeVersion] {
        let all = self.tables.of_method.get_or_init(|| self.by_method());
        all.get(&method).map_or(&[], Vec::as_slice)
    }

    /// Code by MethodDesc: of the JIT as headers say, precompiled as the runtime's own tables have it.
    fn by_method(&self) -> FxHashMap<u64, Vec<CodeVersion>> {
        let mut all: FxHashMap<u64, Vec<CodeVersion>> = FxHashMap::default();
        let mut add = |method: u64, start: u64, precompiled: bool| {
            if method != 0 {
                all.entry(method).or_default().push(CodeVersion { start, precompiled });
            }
        };
        for (index, range) in self.tables.ranges.iter().enumerate() {
            match range.kind {
                RangeKind::Jit(node) => {
                    let starts = self.heap(index, node).map(|h| h.starts(self.clr, MAX_STARTS)).unwrap_or_default();
                    for start in starts {
                        if let Some(CodeHeader::Method(h)) = jitcode::header(self.clr, start) {
                            add(h.method, start, false);
                        }
                    }
                }
                RangeKind::Image(_) => {
                    self.with_image(index, |image, view| {
                        for s in &image.starts(self.clr, view).all {
                            add(s.method, image.base.checked_add(u64::from(s.rva))?, true);
                        }
                        Some(())
                    });
                }
                RangeKind::Ahead | RangeKind::Stubs => {}
            }
        }
        for versions in all.values_mut() {
            versions.sort_unstable_by_key(|v| v.start);
            versions.dedup();
        }
        all
    }

    /// Where the current code of `method` begins: what its MethodDesc leads to, else what is known of it, compiled anew
    /// rather than precompiled.
    pub fn entry_of(&self, md: &MethodDesc) -> Option<u64> {
        let known = || {
            let versions = self.versions(md.address);
            versions.iter().rev().find(|v| !v.precompiled).or(versions.last()).map(|v| v.start)
        };
        self.clr.native_code(md).filter(|&code| self.at(code).is_some()).or_else(known)
    }

    /// How debug information of jitted code is written in this runtime.
    fn jit_form(&self) -> Form {
        *self.tables.form.get_or_init(|| {
            let starts = self.jit_starts(SAMPLE_STARTS).into_iter();
            let info = |start: u64| match jitcode::header(self.clr, start)? {
                CodeHeader::Method(h) if h.debug_info != 0 => Some(self.bytes(h.debug_info, 4096)),
                _ => None,
            };
            let samples: Vec<Vec<u8>> = starts.filter_map(info).filter(|b| !b.is_empty()).take(SAMPLES).collect();
            forms::choose(debuginfo::OF_JIT, &samples, self.clr.dump.arch)
        })
    }

    /// The debug information of a method; `None` where it has none or none is at hand.
    pub fn debug_info(&self, at: &CodeAt) -> Option<DebugInfo> {
        let address = at.debug_info?;
        let form = match at.kind {
            CodeKind::ReadyToRun => self.with_image(at.range, |i, view| Some(i.debug_form(self.clr, view)))?,
            _ => self.jit_form(),
        };
        let first = self.bytes(address, 4096);
        let length = DebugInfo::length(&first, form)?;
        let bytes = if length > first.len() { self.bytes(address, length.min(MAX_DEBUG)) } else { first };
        // Half of it is worse than none: what is missing would look like code without IL.
        (bytes.len() >= length).then_some(())?;
        DebugInfo::decode(&bytes, form, self.clr.dump.arch)
    }

    /// IL offset of a return address: of the call before it. `None` where nothing is recorded or the code is no IL's.
    pub fn il_of_return(&self, at: &CodeAt) -> Option<u32> {
        real(self.debug_info(at)?.il_of_return(at.native)?)
    }

    /// IL offset of the instruction itself: where a thread was interrupted.
    pub fn il_of_instruction(&self, at: &CodeAt) -> Option<u32> {
        real(self.debug_info(at)?.il_of_instruction(at.native)?)
    }

    /// IL offset of the await that a suspended method's continuation names by its address.
    pub fn il_of_suspension(&self, at: &CodeAt) -> Option<u32> {
        real(self.debug_info(at)?.il_of_suspension(at.native)?)
    }

    /// The source line of the IL at `offset` of the method, where its symbols are at hand.
    pub fn line(&self, at: &CodeAt, offset: u32) -> Option<SourceLine> {
        self.clr.source_line(at.module, at.token? & 0x00FF_FFFF, offset)
    }

    /// What a suspended async method keeps at the point whose continuation names this address: where its variables lie in
    /// the `Continuation`. `None` where it is not recorded, as in precompiled code.
    pub fn async_point(&self, at: &CodeAt) -> Option<AsyncPoint> {
        self.debug_info(at)?.points.into_iter().find(|p| p.native == at.native)
    }

    /// Name of the method, as [`Clr::method_name`] gives it; of one without a MethodDesc by its row.
    pub fn name(&self, at: &CodeAt) -> Option<String> {
        if let Some(ahead) = self.clr.ahead() {
            return ahead.method_name(at.start);
        }
        if let Some(md) = at.method.and_then(|m| self.clr.method_desc(m)) {
            return Some(self.clr.method_name(&md));
        }
        self.clr.method_name_of_row(at.module, at.token? & 0x00FF_FFFF)
    }
}

fn stub(ip: u64, start: u64, kind: u8, index: usize, range: &CodeRange) -> CodeAt {
    bare(ip, start, CodeKind::Stub(kind), index, range)
}

/// Code of which nothing but its start is known.
fn bare(ip: u64, start: u64, kind: CodeKind, index: usize, range: &CodeRange) -> CodeAt {
    CodeAt {
        ip,
        kind,
        method: None,
        module: 0,
        token: None,
        start,
        native: u32::try_from(ip.saturating_sub(start)).unwrap_or(u32::MAX),
        length: None,
        function: None,
        main: None,
        base: range.start,
        debug_info: None,
        gc_info: None,
        range: index,
    }
}

/// An offset that is one of IL, not a mark.
fn real(il: i32) -> Option<u32> {
    u32::try_from(il).ok()
}
