//! Finding the runtime and choosing its layout.
//!
//! Nothing here looks at version texts, module names or paths to choose offsets: a module counts as the runtime when its
//! image holds a `GcDacVars` and a DAC table around it, and a built-in table is taken when its invariants hold.

use serde_json::Value;

use super::checks::Probe;
use super::gcdac::GcDacVars;
use super::report::{Check, Discovered, NoRuntime, RuntimeModule, Verdict};
use super::scan::{Anchor, Span, anchors, find_gc_dac_vars};
use super::structure::{self, Search};
use super::tables::{SHAPES, TABLES, Table};
use super::{Layout, Source, calibrate, descriptor, version};
use crate::dump::{Dump, Module};

/// A provider that can be switched off, to test the others alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The runtime's contract descriptor.
    Descriptor,
    /// The collector's own struct of variables.
    GcDacVars,
    /// The table of variables made for Microsoft's debugging library.
    DacTable,
    /// Built-in tables of system and architecture.
    Tables,
    /// Structural discovery and calibration.
    Structure,
}

impl Provider {
    /// All of them, by name.
    pub const ALL: &[(&str, Self)] = &[
        ("descriptor", Self::Descriptor),
        ("gcdacvars", Self::GcDacVars),
        ("dactable", Self::DacTable),
        ("tables", Self::Tables),
        ("structure", Self::Structure),
    ];

    /// The providers that `text` switches off: names separated by commas stand for themselves alone, names with a minus
    /// sign for all others. The error names the word that is no provider.
    pub fn switched_off(text: &str) -> Result<Vec<Self>, String> {
        let (mut only, mut off) = (Vec::new(), Vec::new());
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let name = word.strip_prefix('-');
            let found = Self::ALL.iter().find(|p| p.0.eq_ignore_ascii_case(name.unwrap_or(word)));
            let Some(&(_, provider)) = found else {
                let names: Vec<&str> = Self::ALL.iter().map(|p| p.0).collect();
                return Err(format!("`{word}` is no provider; there are {}", names.join(", ")));
            };
            if name.is_some() { off.push(provider) } else { only.push(provider) }
        }
        if !only.is_empty() {
            off.extend(Self::ALL.iter().map(|p| p.1).filter(|p| !only.contains(p)));
        }
        off.dedup();
        Ok(off)
    }
}

/// What discovery may use.
#[derive(Debug, Clone, Default)]
pub struct DiscoverOptions {
    /// Providers not to ask.
    pub disabled: Vec<Provider>,
    /// Documents that stand in for built-in tables of the same name (tests corrupt single fields so).
    pub replaced: Vec<(&'static str, Value)>,
}

impl DiscoverOptions {
    fn allows(&self, provider: Provider) -> bool {
        !self.disabled.contains(&provider)
    }

    fn layout(&self, table: &Table) -> Layout {
        match self.replaced.iter().find(|r| r.0 == table.name) {
            Some((_, json)) => table.layout_with(json),
            None => table.layout(),
        }
    }
}

/// File names of runtimes that are not linked into the program.
const RUNTIME_NAMES: &[&str] = &["coreclr.dll", "libcoreclr.so", "libcoreclr.dylib", "clr.dll", "mscorwks.dll"];

/// Finds the runtime of `dump` and everything needed to read it.
pub fn discover(dump: &Dump, options: &DiscoverOptions) -> Result<Discovered, NoRuntime> {
    let mut refused = None;
    for module in candidates(dump) {
        let span = Span::of(module);
        for gc in collector(dump, module, span, options) {
            if native_aot(dump, module) {
                return Err(not_found(dump));
            }
            match choose(dump, module, span, &gc, options) {
                Ok(found) => return Ok(found),
                Err(e) => {
                    refused.get_or_insert(e);
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| not_found(dump)))
}

/// The collector's variables in a module: by `GcDacVars`, or by structure where that is not there or not asked.
fn collector(dump: &Dump, module: &Module, span: Span, options: &DiscoverOptions) -> Vec<GcDacVars> {
    let found = if options.allows(Provider::GcDacVars) { find_gc_dac_vars(dump, span) } else { Vec::new() };
    let named = RUNTIME_NAMES.iter().any(|n| module.file_name().eq_ignore_ascii_case(n));
    // A runtime linked into a program has no name to go by: asked for by structure alone, it is the program itself.
    let program = module.file_name().to_ascii_lowercase().ends_with(".exe")
        || dump.modules.first().is_some_and(|m| m.base == module.base);
    let single = !options.allows(Provider::GcDacVars) && program;
    if found.is_empty() && options.allows(Provider::Structure) && (named || single) {
        // A standalone collector (`clrgc`) has the variables in its own image.
        let standalone = dump.modules.iter().filter(|m| m.file_name().to_ascii_lowercase().contains("clrgc"));
        let mut images = std::iter::once(span).chain(standalone.map(Span::of));
        return images.find_map(|image| super::collector::find(dump, image)).into_iter().collect();
    }
    found
}

/// Modules to look into: those named like a runtime first, then by size, because a renamed or single-file runtime is big.
fn candidates(dump: &Dump) -> Vec<&Module> {
    let named = |m: &Module| RUNTIME_NAMES.iter().any(|n| m.file_name().eq_ignore_ascii_case(n));
    let mut all: Vec<&Module> = dump.modules.iter().filter(|m| m.size > 0).collect();
    all.sort_by_key(|m| (!named(m), std::cmp::Reverse(m.size)));
    all
}

fn not_found(dump: &Dump) -> NoRuntime {
    let framework = ["clr.dll", "mscorwks.dll"];
    for m in &dump.modules {
        if native_aot(dump, m) {
            return NoRuntime::NativeAot(format!(
                "{} holds the NativeAOT runtime, whose types have no metadata; native commands (!address, lm, dq) work",
                m.file_name()
            ));
        }
        if framework.iter().any(|n| m.file_name().eq_ignore_ascii_case(n)) {
            return NoRuntime::Refused(format!("{}: .NET Framework is not read yet", m.path));
        }
        if RUNTIME_NAMES.iter().any(|n| m.file_name().eq_ignore_ascii_case(n)) {
            return NoRuntime::Refused(format!(
                "{} is loaded, but the collector's variables are not in the dump; take a heap or full dump",
                m.path
            ));
        }
    }
    NoRuntime::NotFound(format!("{} modules looked at, none holds a garbage collector's variables", dump.modules.len()))
}

/// `DotNetRuntimeDebugHeader` starts with `DNDH`, a major version from 1 to 16 and a minor one.
fn native_aot(dump: &Dump, module: &Module) -> bool {
    const MAGIC: u32 = u32::from_le_bytes(*b"DNDH");
    super::scan::words_equal(&dump.space, Span::of(module), 4, u64::from(MAGIC)).iter().any(|&at| {
        let major = at.checked_add(4).and_then(|a| dump.space.u16(a)).unwrap_or(0);
        let flags = at.checked_add(8).and_then(|a| dump.space.u32(a)).unwrap_or(u32::MAX);
        (1..=16).contains(&major) && flags <= 3
    })
}

/// A table tried on an anchor.
struct Attempt {
    table: &'static Table,
    anchor: Option<Anchor>,
    layout: Layout,
    checks: Vec<Check>,
}

/// An attempt completed by the other providers.
struct Settled {
    table: &'static Table,
    layout: Layout,
    /// What the checks said of the table, and of it against the descriptor.
    checks: Vec<Check>,
    /// What they say of the completed layout.
    again: Vec<Check>,
    notes: Vec<(String, String)>,
}

impl Attempt {
    fn score(&self) -> i64 {
        score(&self.checks)
    }
}

fn choose(
    dump: &Dump,
    module: &Module,
    span: Span,
    gc: &GcDacVars,
    options: &DiscoverOptions,
) -> Result<Discovered, NoRuntime> {
    let single_file = !RUNTIME_NAMES.iter().any(|n| module.file_name().eq_ignore_ascii_case(n));
    let mut runtime = RuntimeModule {
        base: span.base,
        end: span.end,
        path: module.path.clone(),
        version: version::text(dump, module, single_file),
        single_file,
        gc_module: None,
    };
    runtime.gc_module = gc
        .handle_table_map
        .filter(|&a| !span.contains(a))
        .and_then(|a| dump.module_at(a))
        .map(|m| (m.base, m.base.saturating_add(m.size)));
    let mut providers = vec![(
        "GcDacVars".to_owned(),
        match gc.address {
            0 => format!(
                "not found or not asked; the collector's variables by structure, generation size {}, whether a collection \
                 was running is not known",
                gc.generation_size
            ),
            at => format!("at {at:x}, version {}.{}, generation size {}", gc.major, gc.minor, gc.generation_size),
        },
    )];
    let all_anchors = if options.allows(Provider::DacTable) && gc.address != 0 {
        anchors(&dump.space, span, gc.address)
    } else {
        Vec::new()
    };
    providers.push(("DAC table".into(), format!("{} possible anchors", all_anchors.len())));
    let descriptor = options.allows(Provider::Descriptor).then(|| descriptor::find(dump, span)).flatten();
    providers.push((
        "contract descriptor".into(),
        match &descriptor {
            Some(d) => format!("at {:x}, {} types", d.address, d.types()),
            None => "not in the dump".into(),
        },
    ));
    for (name, provider) in Provider::ALL {
        if !options.allows(*provider) {
            providers.push(((*name).into(), "switched off".into()));
        }
    }
    let descriptor = descriptor.as_ref();
    let chooser = Chooser { dump, span, gc, runtime: &runtime, anchors: &all_anchors, descriptor, options };
    let Some(best) = chooser.best() else {
        return Err(NoRuntime::Refused(format!(
            "{} has the collector's variables, but no layout fits: no built-in table of this system does, and structure \
             {}",
            module.path,
            if options.allows(Provider::Structure) { "finds none" } else { "may not be asked" }
        )));
    };
    settle(&chooser, best, providers)
}

/// The one that fits better; of two that fit alike the first.
fn better(a: Option<Attempt>, b: Option<Attempt>) -> Option<Attempt> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.score() > a.score() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Tries tables and shapes.
struct Chooser<'a> {
    dump: &'a Dump,
    span: Span,
    gc: &'a GcDacVars,
    runtime: &'a RuntimeModule,
    anchors: &'a [Anchor],
    descriptor: Option<&'a descriptor::Descriptor>,
    options: &'a DiscoverOptions,
}

impl Chooser<'_> {
    /// The table that fits best, or, where none fits throughout, the shape that fits better.
    fn best(&self) -> Option<Settled> {
        let mut best: Option<Attempt> = None;
        if self.options.allows(Provider::Tables) {
            let here = Some((self.dump.os, self.dump.arch));
            for table in TABLES.iter().filter(|t| t.platform == here) {
                for anchor in self.anchors {
                    best = better(best, self.table(table, Some(anchor)));
                }
                if self.anchors.is_empty() && self.options.allows(Provider::Structure) {
                    best = better(best, self.table(table, None));
                }
            }
        }
        let table = best.map(|b| self.complete(b));
        if table.as_ref().is_some_and(|t| failed(&t.again) == 0) || !self.options.allows(Provider::Structure) {
            return table;
        }
        // Every word of the image is asked only where the DAC table leads nowhere.
        let shape = self.shapes(self.anchors.iter().map(Some)).or_else(|| self.shapes([None].into_iter()));
        match (table, shape.map(|s| self.complete(s))) {
            (Some(t), Some(s)) => Some(if score(&s.again) > score(&t.again) { s } else { t }),
            (t, s) => t.or(s),
        }
    }

    /// Takes what the checks refuse out of a layout and asks the descriptor and structure for it.
    fn complete(&self, attempt: Attempt) -> Settled {
        let Attempt { table, anchor, mut layout, mut checks } = attempt;
        let mut notes = vec![(
            if table.platform.is_some() { "built-in table" } else { "structure" }.into(),
            format!("{}: {} checks passed, {} failed", table.name, passed(&checks), failed(&checks)),
        )];
        refuse(&mut layout, &checks);
        if let Some(d) = self.descriptor {
            checks.extend(descriptor::witness(&layout, d));
            let filled = descriptor::fill(&mut layout, d);
            notes.push(("contract descriptor".into(), format!("filled {filled} facts the table lacks or had refused")));
        }
        if self.options.allows(Provider::Structure) {
            let found = self.search(anchor.as_ref(), |s| calibrate::missing(s, &mut layout));
            if !found.is_empty() {
                notes.push(("calibration".into(), format!("found {}", found.join(", "))));
            }
        }
        // What the later providers set is held to the same invariants.
        let again = self.checks(&layout, Source::Calibrated);
        refuse(&mut layout, &again);
        Settled { table, layout, checks, again, notes }
    }

    /// The shape that fits best from any of the anchors.
    fn shapes<'b>(&self, anchors: impl Iterator<Item = Option<&'b Anchor>> + Clone) -> Option<Attempt> {
        let mut best: Option<Attempt> = None;
        let pointer = self.dump.arch.pointer_size();
        for shape in SHAPES.iter().filter(|s| s.pointer_size == pointer) {
            best = anchors.clone().fold(best, |b, a| better(b, self.shape(shape, a)));
        }
        best
    }

    /// Binds `table` to the DAC table at `anchor` and checks everything.
    fn table(&self, table: &'static Table, anchor: Option<&Anchor>) -> Option<Attempt> {
        let mut layout = self.options.layout(table);
        if let Some(anchor) = anchor {
            if layout.constant("DacSlotSize") != Ok(anchor.slot_size) {
                return None;
            }
            bind(self.dump, &mut layout, anchor);
            if self.options.allows(Provider::Structure) {
                calibrate::well_known(self.dump, &mut layout, anchor, self.gc, self.runtime);
            }
        } else {
            self.search(None, |s| s.run(&mut layout));
        }
        let checks = self.checks(&layout, Source::Table(table.name.to_owned()));
        Some(Attempt { table, anchor: anchor.copied(), layout, checks })
    }

    /// Completes `shape` by searching, from the DAC table at `anchor` or from every word of the image.
    fn shape(&self, shape: &'static Table, anchor: Option<&Anchor>) -> Option<Attempt> {
        let mut layout = self.options.layout(shape);
        if let Some(anchor) = anchor {
            bind(self.dump, &mut layout, anchor);
        }
        self.search(anchor, |s| s.run(&mut layout));
        if layout.global("StringMethodTable").is_err() {
            return None;
        }
        let checks = self.checks(&layout, Source::Table(shape.name.to_owned()));
        Some(Attempt { table: shape, anchor: anchor.copied(), layout, checks })
    }

    fn search<T>(&self, anchor: Option<&Anchor>, run: impl FnOnce(&Search<'_>) -> T) -> T {
        let cells = structure::cells(self.dump, self.span, anchor);
        let slots = anchor.is_some();
        run(&Search { dump: self.dump, gc: self.gc, module: self.runtime, cells: &cells, slots })
    }

    fn checks(&self, layout: &Layout, source: Source) -> Vec<Check> {
        Probe::run(self.dump, layout, self.gc, self.runtime, source)
    }
}

fn bind(dump: &Dump, layout: &mut Layout, anchor: &Anchor) {
    let slots: Vec<(String, i32)> = layout.dac_slots.iter().map(|(n, &i)| (n.clone(), i)).collect();
    for (name, index) in slots {
        if let Some(cell) = anchor.get(&dump.space, index) {
            layout.set_global(&name, cell, Source::DacTable(index));
        }
    }
    calibrate::domain_of_thread(dump, layout);
}

/// Checks that must hold: without them nothing can be read.
const CORE: &[&str] =
    &["the type of free blocks", "System.Object", "System.String", "MethodTable and EEClass point at each other"];

/// Checks that must have passed where none of the core ones could be made.
const MIN_PASSED: usize = 5;

fn settle(chooser: &Chooser<'_>, best: Settled, mut providers: Vec<(String, String)>) -> Result<Discovered, NoRuntime> {
    let mut runtime = chooser.runtime.clone();
    let Settled { table, layout, checks, again, notes } = best;
    let mut gc = chooser.gc.clone();
    if gc.address == 0 && gc.alloc_allocated.is_none() && !gc.is_server() {
        let probe = Probe::new(chooser.dump, &layout, chooser.gc, &runtime, Source::Calibrated);
        let image = runtime.gc_module.map_or(chooser.span, |(base, end)| Span { base, end });
        gc.alloc_allocated = super::collector::allocation_end(chooser.dump, image, &gc, &probe.contexts());
        if gc.alloc_allocated.is_none() {
            let why = "where allocation ends in the youngest segment is not known: its objects are left out";
            providers.push(("structure".into(), why.into()));
        }
    }
    if runtime.version.is_none() {
        let probe = Probe::new(chooser.dump, &layout, chooser.gc, &runtime, Source::Calibrated);
        let core = probe.core_image();
        runtime.version = core.and_then(|(base, end)| version::of_image(chooser.dump, Span { base, end }));
    }
    providers.extend(notes);
    let broken = again.iter().find(|c| CORE.contains(&c.name) && c.verdict == Verdict::Failed);
    if let Some(c) = broken {
        return Err(NoRuntime::Refused(format!(
            "{}: the nearest table is {}, but {}: expected {}, found {}",
            runtime.path, table.name, c.name, c.expected, c.found
        )));
    }
    // A mini dump has none of the memory the core checks look at: then the others must carry the table.
    let core_absent = again.iter().filter(|c| CORE.contains(&c.name)).all(|c| c.verdict != Verdict::Passed);
    if core_absent && (passed(&again) < MIN_PASSED || failed(&again) > 0) {
        return Err(NoRuntime::Refused(format!(
            "{}: the memory that would prove a layout is not in the dump ({} checks passed, {} failed); take a heap or \
             full dump",
            runtime.path,
            passed(&again),
            failed(&again)
        )));
    }
    let era = era(table.name);
    Ok(Discovered { module: runtime, gc, layout, table: Some(table.name.to_owned()), providers, checks, era })
}

fn passed(checks: &[Check]) -> usize {
    checks.iter().filter(|c| c.verdict == Verdict::Passed).count()
}

/// More passed, fewer failed is better; a failure weighs more than a pass.
fn score(checks: &[Check]) -> i64 {
    passed(checks) as i64 - 2 * failed(checks) as i64
}

fn failed(checks: &[Check]) -> usize {
    checks.iter().filter(|c| c.verdict == Verdict::Failed).count()
}

/// Takes the fields of failed checks out of the layout, unless another check that passed vouches for them too.
fn refuse(layout: &mut Layout, checks: &[Check]) {
    let vouched: Vec<&String> =
        checks.iter().filter(|c| c.verdict == Verdict::Passed).flat_map(|c| &c.fields).collect();
    for check in checks.iter().filter(|c| c.verdict == Verdict::Failed) {
        for field in check.fields.iter().filter(|f| !vouched.contains(f)) {
            match field.split_once('.') {
                Some((ty, name)) => {
                    let at = layout.try_offset(ty, name);
                    layout.drop_field(ty, name);
                    // What only follows it is as wrong as it is.
                    for (follower, offset) in at.map(|a| layout.followers(ty, name, a)).unwrap_or_default() {
                        let vouched = vouched.iter().any(|v| **v == format!("{ty}.{follower}"));
                        if !vouched && layout.try_offset(ty, &follower) == Some(offset) {
                            layout.drop_field(ty, &follower);
                        }
                    }
                }
                None => layout.drop_global(field.trim_start_matches('&')),
            }
        }
    }
    layout.follow();
}

/// Major and minor version in a table's name: `coreclr-10.0-linux-x64`.
fn era(table: &str) -> (u16, u16) {
    let version = table.split('-').nth(1).unwrap_or("");
    let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
