//! Finding the runtime of a program compiled ahead of time and choosing its layout.
//!
//! A module counts when it holds the debug header or a contract descriptor of this flavour ([`super::header`]). The built-in
//! table is the one whose invariants hold best, those nearest to the version of the ReadyToRun header asked first; what the
//! program says of itself goes over it.

use std::sync::Arc;

use crate::clr::layout::Source;
use crate::clr::layout::effort::Effort;
use crate::clr::layout::gcdac::GcDacVars;
use crate::clr::layout::report::{Discovered, RuntimeModule};
use crate::clr::layout::scan::{Span, find_gc_dac_vars, read_gc_dac_vars, runs};
use crate::clr::layout::verdict::{Check, Verdict};
use crate::dump::{Dump, Module};
use crate::watch::Watch;

use super::checks::{Checked, check};
use super::header::{self, Found};
use super::image::{self, AotModule, section};
use super::metadata;
use super::tables::{TABLES, Table};

/// What was found.
#[derive(Debug)]
pub struct Opened {
    /// The dump, with pages of the program's file where it lacks them.
    pub dump: Arc<Dump>,
    /// As of any runtime.
    pub found: Discovered,
    /// Its modules.
    pub modules: Vec<AotModule>,
    /// Address of the type of free blocks.
    pub free: u64,
}

/// Finds the runtime in any module of the dump. `None` where there is none, an error with the reason where it cannot be read.
pub fn discover(dump: &Arc<Dump>, watch: &Watch) -> Option<Result<Opened, String>> {
    let mut all: Vec<&Module> = dump.modules.iter().filter(|m| m.size > 0).collect();
    // The program itself is the first module, a library of its own is large.
    let first = dump.modules.first().map(|m| m.base);
    all.sort_by_key(|m| (Some(m.base) != first, std::cmp::Reverse(m.size)));
    let effort = Effort::begin(&dump.space, watch);
    let mut refused = None;
    for module in all {
        if effort.is_over() {
            refused.get_or_insert_with(|| GIVEN_UP.to_owned());
            break;
        }
        // Pages it could write to that a heap dump lacks: what the loader wrote there is in the file.
        match dump.with_initial_pages(module) {
            Some((more, added)) => {
                let more = Arc::new(more);
                let effort = Effort::begin(&more.space, watch);
                let Some(found) = in_module(&more, module, &effort) else { continue };
                match found {
                    Ok(mut opened) => {
                        let what = format!(
                            "{added} bytes that the program could write are not in the dump: they are read as its file \
                             has them, what it wrote there is not known"
                        );
                        opened.found.warnings.push(what);
                        return Some(Ok(opened));
                    }
                    Err(why) => drop(refused.get_or_insert(why)),
                }
            }
            None => match in_module(dump, module, &effort) {
                Some(Ok(opened)) => return Some(Ok(opened)),
                Some(Err(why)) => drop(refused.get_or_insert(why)),
                None => {}
            },
        }
    }
    let program = dump.modules.first().filter(|m| refused.is_none() && types_in_image(dump, m));
    refused.or_else(|| Some(format!("{}: {NOT_DESCRIBED}", program?.file_name()))).map(Err)
}

/// What is said of a program that only its objects give away.
const NOT_DESCRIBED: &str = "its types lie in its own image, but the pages that describe it are not in the dump; give the program's \
                             file with -i FOLDER";

/// Whether the collector's variables lie in the module and the first object of a region is of a type in it: types of other
/// runtimes are made elsewhere.
fn types_in_image(dump: &Dump, module: &Module) -> bool {
    let (space, span) = (&dump.space, Span::of(module));
    let layout = TABLES.first().map(Table::layout).unwrap_or_default();
    let first = |gc: &GcDacVars| {
        let heap = || gc.g_heaps.and_then(|a| space.ptr(a)).and_then(|a| space.ptr(a));
        let offset = || gc.gc_heap_field_offsets.get(18).copied().filter(|&o| o >= 0);
        let table = gc.generation_table.or_else(|| heap()?.checked_add(offset()? as u64))?;
        let start = gc.generation_field_offsets[1].max(0) as u64;
        let of_generation = |i: u64| {
            let record = table.checked_add(i * gc.generation_size)?;
            let segment = space.ptr_at(record, start).filter(|&s| s != 0)?;
            let object = space.ptr_at(segment, layout.try_offset("HeapSegment", "Mem")?)?;
            space.ptr(object).map(|mt| mt & !7)
        };
        (0..u64::from(gc.generation_count.min(5))).find_map(|i| of_generation(i).filter(|&mt| mt != 0))
    };
    find_gc_dac_vars(dump, span).iter().filter(|gc| gc.is_known()).filter_map(first).any(|mt| span.contains(mt))
}

/// What is said when no more may be read.
const GIVEN_UP: &str = "the search for a NativeAOT runtime was given up after reading all it may";

/// The runtime in one module.
fn in_module(dump: &Arc<Dump>, module: &Module, effort: &Effort<'_>) -> Option<Result<Opened, String>> {
    let mut found = header::find(dump, module)?;
    name(dump, Span::of(module), &mut found);
    Some(open(dump, module, &found, effort).map_err(|why| format!("{}: {why}", module.file_name())))
}

fn open(dump: &Arc<Dump>, module: &Module, found: &Found, effort: &Effort<'_>) -> Result<Opened, String> {
    if let Some(why) = &found.refused {
        return Err(why.clone());
    }
    if dump.arch.pointer_size() != 8 {
        return Err("programs with pointers of four bytes are not supported".into());
    }
    let span = Span::of(module);
    let gc = collector(dump, span, found).ok_or("the collector's variables are not in the dump")?;
    let instance = found
        .layout
        .global("RuntimeInstance")
        .map_err(|_| "its RuntimeInstance is not in the dump; give the program's file with -i FOLDER")?;
    let mut best: Option<((bool, i64), &Table, Checked)> = None;
    for table in ordered(dump, found, instance) {
        if effort.is_over() {
            return Err(GIVEN_UP.into());
        }
        let mut layout = table.layout();
        layout.overlay(&found.layout);
        let modules = image::modules(&dump.space, &layout, instance);
        if modules.is_empty() {
            continue;
        }
        let checked = check(dump, layout, modules, &gc, span, table);
        let count = |v: fn(&Verdict) -> bool| checked.checks.iter().filter(|c| v(&c.verdict)).count() as i64;
        let (passed, failed) = (count(|v| *v == Verdict::Passed), count(|v| *v == Verdict::Failed));
        // The format's own version is believed, unless nothing can be read by it.
        let exact =
            table.layout().constant("ReadyToRunMajor").ok() == checked.modules.first().map(|m| m.header.major.into());
        let stands = exact && first_unmet(&checked).is_none();
        let score = (stands, passed - 2 * failed);
        if best.as_ref().is_none_or(|b| score > b.0) {
            best = Some((score, table, checked));
        }
        if failed == 0 || stands {
            break;
        }
    }
    let (_, table, checked) = best.ok_or("no module with a ReadyToRun header is in the dump")?;
    if let Some(c) = first_unmet(&checked) {
        return Err(format!(
            "the nearest layout is {}, but {}: expected {}, found {}",
            table.name, c.name, c.expected, c.found
        ));
    }
    let own = if found.descriptor { "contract descriptor" } else { "debug header" };
    let header = checked.modules.first().map(|m| format!("{}.{}", m.header.major, m.header.minor)).unwrap_or_default();
    let mut providers = vec![
        (own.to_owned(), found.what.clone()),
        ("GcDacVars".into(), gc.describe()),
        ("ReadyToRun header".into(), format!("version {header}, {} modules", checked.modules.len())),
        ("built-in table".into(), table.name.into()),
    ];
    if !checked.dropped.is_empty() {
        providers.push(("not used".into(), checked.dropped.join(", ")));
    }
    let mut warnings = Vec::new();
    warnings.extend(names_missing(dump, &checked.modules).map(str::to_owned));
    let version = found.version.clone().or_else(|| version(dump, span, table.era));
    Ok(Opened {
        dump: dump.clone(),
        free: checked.free,
        modules: checked.modules,
        found: Discovered {
            module: RuntimeModule {
                base: span.base,
                end: span.end,
                path: module.path.clone(),
                version,
                single_file: true,
                gc_module: None,
            },
            gc,
            layout: checked.layout,
            table: Some(format!("{own} over {}", table.name)),
            providers,
            checks: checked.checks,
            era: table.era,
            gaps: Vec::new(),
            standing: crate::clr::layout::standing::Standing::Verified,
            warnings,
        },
    })
}

/// The first invariant that failed of those without which nothing can be read.
fn first_unmet(checked: &Checked) -> Option<&Check> {
    checked.checks.iter().find(|c| c.verdict == Verdict::Failed && checked.needed.contains(&c.name))
}

/// What is to be said where the program's metadata cannot be read.
fn names_missing(dump: &Dump, modules: &[AotModule]) -> Option<&'static str> {
    let blobs: Vec<_> = modules.iter().map(|m| m.header.blob(&dump.space, section::METADATA)).collect();
    if blobs.iter().all(Option::is_none) {
        return Some(
            "the program's metadata is not in the dump: types of the core libraries are named by the hash of their names, \
             others and methods have no names; give its file with -i FOLDER",
        );
    }
    let empty = blobs.iter().flatten().all(|b| !metadata::is_metadata(b));
    empty.then_some(
        "the program was built without metadata: types of the core libraries are named by the hash of their names, others \
         and methods have no names",
    )
}

/// Tells variables by their shape whose names are not in the dump, as in one without the pages of the program's file.
fn name(dump: &Dump, span: Span, found: &mut Found) {
    for value in std::mem::take(&mut found.unnamed) {
        let word = |o: u64| dump.space.u32(value.checked_add(o)?);
        let free = || word(0).is_some_and(|f| f & 0x8000_FFFF == 0x8000_0001) && word(4) == Some(24);
        let instance = || TABLES.iter().any(|t| !image::modules(&dump.space, &t.layout(), value).is_empty());
        let name = match () {
            () if read_gc_dac_vars(dump, value, span).is_some() => "GcDacVars",
            () if free() => "FreeObjectMethodTable",
            () if instance() => "RuntimeInstance",
            () if is_thread_store(dump, value) => "ThreadStore",
            () => continue,
        };
        found.layout.set_global(name, value, Source::Calibrated);
    }
}

/// Whether the first thread of the list that begins there is a thread of the dump.
fn is_thread_store(dump: &Dump, at: u64) -> bool {
    let layout = TABLES.last().map(Table::layout).unwrap_or_default();
    let field = |of: u64, ty: &str, name: &str| dump.space.ptr_at(of, layout.try_offset(ty, name)?);
    let id = field(at, "ThreadStore", "FirstThreadLink").and_then(|thread| field(thread, "Thread", "OSId"));
    id.is_some_and(|id| dump.thread_of(id).is_some())
}

/// Tables, those first that the version of the ReadyToRun header speaks for: the newest that is not newer than it.
fn ordered(dump: &Dump, found: &Found, instance: u64) -> Vec<&'static Table> {
    let major = TABLES.iter().rev().find_map(|t| {
        let mut layout = t.layout();
        layout.overlay(&found.layout);
        image::modules(&dump.space, &layout, instance).first().map(|m| m.header.major)
    });
    let of = |t: &Table| t.layout().constant("ReadyToRunMajor").unwrap_or(0);
    let mut all: Vec<&Table> = TABLES.iter().collect();
    let major = u64::from(major.unwrap_or(u16::MAX));
    all.sort_by_key(|t| if of(t) <= major { (0, major - of(t)) } else { (1, of(t) - major) });
    all
}

/// The collector's variables: where the header says, by the descriptor, or by their shape.
fn collector(dump: &Dump, span: Span, found: &Found) -> Option<GcDacVars> {
    let named = found.layout.global("GcDacVars").ok().and_then(|at| read_gc_dac_vars(dump, at, span));
    let shaped = || find_gc_dac_vars(dump, span).into_iter().find(GcDacVars::is_known);
    let described = || GcDacVars::described(&found.layout, &dump.space);
    named.filter(GcDacVars::is_known).or_else(shaped).or_else(described)
}

/// The runtime's version as its image has it: the text `10.0.12` between zeros; `None` when there are several, or none.
fn version(dump: &Dump, span: Span, era: (u16, u16)) -> Option<String> {
    let start = format!("{}.{}.", era.0, era.1);
    let mut found: Vec<String> = Vec::new();
    runs(&dump.space, span, |_, bytes| {
        let mut at = 0;
        while let Some(i) = bytes.get(at..).and_then(|b| b.windows(start.len()).position(|w| w == start.as_bytes())) {
            let begins = at + i;
            at = begins + start.len();
            let rest = bytes.get(begins..).unwrap_or_default();
            let text = rest.get(..rest.iter().take(40).position(|&b| b == 0).unwrap_or(0)).unwrap_or_default();
            let alone = begins.checked_sub(1).and_then(|b| bytes.get(b)) == Some(&0);
            let tail = text.get(start.len()..).unwrap_or_default();
            // `10.0.12`, `11.0.0-rc.1`: not the four parts of a compiler's or tool's version.
            let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
            let number = digits > 0 && digits < 4 && tail.get(digits).is_none_or(|&b| b == b'-');
            if let Some(text) = std::str::from_utf8(text).ok().filter(|_| alone && number)
                && !found.iter().any(|f| f == text)
                && found.len() < 4
            {
                found.push(text.to_owned());
            }
        }
    });
    if found.len() == 1 { found.pop() } else { None }
}
