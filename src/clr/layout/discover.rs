//! Finding the runtime and choosing its layout.
//!
//! Nothing here looks at version texts, module names or paths to choose offsets: a module counts as the runtime when its
//! image holds a `GcDacVars` and a DAC table around it, and a built-in table is taken when its invariants hold.

use serde_json::Value;

use super::checks::Probe;
use super::gcdac::GcDacVars;
use super::report::{Check, Discovered, NoRuntime, RuntimeModule, Verdict};
use super::scan::{Anchor, Span, anchors, find_gc_dac_vars};
use super::tables::{TABLES, Table};
use super::{Layout, Source, calibrate, descriptor, version};
use crate::dump::{Dump, Module};

/// A provider that can be switched off, to test the others alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Built-in tables.
    Tables,
    /// The contract descriptor.
    Descriptor,
    /// Calibration by structure.
    Structure,
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
        for gc in find_gc_dac_vars(dump, span) {
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
    layout: Layout,
    checks: Vec<Check>,
}

impl Attempt {
    fn count(&self, verdict: &Verdict) -> usize {
        self.checks.iter().filter(|c| std::mem::discriminant(&c.verdict) == std::mem::discriminant(verdict)).count()
    }

    /// More passed, fewer failed is better; a failure weighs more than a pass.
    fn score(&self) -> i64 {
        self.count(&Verdict::Passed) as i64 - 2 * self.count(&Verdict::Failed) as i64
    }
}

fn choose(
    dump: &Dump,
    module: &Module,
    span: Span,
    gc: &GcDacVars,
    options: &DiscoverOptions,
) -> Result<Discovered, NoRuntime> {
    let mut runtime = RuntimeModule {
        base: span.base,
        end: span.end,
        path: module.path.clone(),
        version: version::text(dump, module),
        single_file: !RUNTIME_NAMES.iter().any(|n| module.file_name().eq_ignore_ascii_case(n)),
        gc_module: None,
    };
    runtime.gc_module = gc
        .handle_table_map
        .filter(|&a| !span.contains(a))
        .and_then(|a| dump.module_at(a))
        .map(|m| (m.base, m.base.saturating_add(m.size)));
    let mut providers = vec![(
        "GcDacVars".to_owned(),
        format!("at {:x}, version {}.{}, generation size {}", gc.address, gc.major, gc.minor, gc.generation_size),
    )];
    let all_anchors = anchors(&dump.space, span, gc.address);
    providers.push(("DAC table".into(), format!("{} possible anchors", all_anchors.len())));
    let descriptor = options.allows(Provider::Descriptor).then(|| descriptor::find(dump, span)).flatten();
    providers.push((
        "contract descriptor".into(),
        match &descriptor {
            Some(d) => format!("at {:x}, {} types", d.address, d.types()),
            None => "not in the dump".into(),
        },
    ));
    let mut best: Option<Attempt> = None;
    if options.allows(Provider::Tables) {
        for table in TABLES.iter().filter(|t| t.os == dump.os && t.arch == dump.arch) {
            for anchor in &all_anchors {
                let Some(attempt) = attempt(dump, table, anchor, gc, &runtime, options) else { continue };
                if best.as_ref().is_none_or(|b| attempt.score() > b.score()) {
                    best = Some(attempt);
                }
            }
        }
    }
    let Some(best) = best else {
        return Err(NoRuntime::Refused(format!(
            "{} has the collector's variables, but no built-in table of this system fits its DAC table",
            module.path
        )));
    };
    settle(dump, gc, runtime, best, descriptor, providers, options)
}

/// Binds `table` to the DAC table at `anchor` and checks everything.
fn attempt(
    dump: &Dump,
    table: &'static Table,
    anchor: &Anchor,
    gc: &GcDacVars,
    runtime: &RuntimeModule,
    options: &DiscoverOptions,
) -> Option<Attempt> {
    let mut layout = options.layout(table);
    if layout.constant("DacSlotSize") != Ok(anchor.slot_size) {
        return None;
    }
    bind(dump, &mut layout, anchor);
    if options.allows(Provider::Structure) {
        calibrate::well_known(dump, &mut layout, anchor, gc, runtime);
    }
    let checks = Probe::run(dump, &layout, gc, runtime, Source::Table(table.name.to_owned()));
    Some(Attempt { table, layout, checks })
}

fn bind(dump: &Dump, layout: &mut Layout, anchor: &Anchor) {
    let slots: Vec<(String, i32)> = layout.dac_slots.iter().map(|(n, &i)| (n.clone(), i)).collect();
    for (name, index) in slots {
        if let Some(cell) = anchor.get(&dump.space, index) {
            layout.set_global(&name, cell, Source::DacTable(index));
        }
    }
}

/// Checks that must hold: without them nothing can be read.
const CORE: &[&str] =
    &["the type of free blocks", "System.Object", "System.String", "MethodTable and EEClass point at each other"];

/// Checks that must have passed where none of the core ones could be made.
const MIN_PASSED: usize = 5;

fn settle(
    dump: &Dump,
    gc: &GcDacVars,
    runtime: RuntimeModule,
    best: Attempt,
    descriptor: Option<descriptor::Descriptor>,
    mut providers: Vec<(String, String)>,
    options: &DiscoverOptions,
) -> Result<Discovered, NoRuntime> {
    let Attempt { table, mut layout, mut checks } = best;
    providers.push((
        "built-in table".into(),
        format!("{}: {} checks passed, {} failed", table.name, passed(&checks), failed(&checks)),
    ));
    refuse(&mut layout, &checks);
    if let Some(d) = &descriptor {
        checks.extend(descriptor::witness(&layout, d));
        let filled = descriptor::fill(&mut layout, d);
        providers.push(("contract descriptor".into(), format!("filled {filled} facts the table lacks or had refused")));
    }
    if options.allows(Provider::Structure) {
        let found = calibrate::missing(dump, &mut layout, gc, &runtime);
        if !found.is_empty() {
            providers.push(("calibration".into(), format!("found {}", found.join(", "))));
        }
    }
    // What the later providers set is held to the same invariants.
    let again = Probe::run(dump, &layout, gc, &runtime, Source::Calibrated);
    refuse(&mut layout, &again);
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
    Ok(Discovered {
        module: runtime,
        gc: gc.clone(),
        layout,
        table: Some(table.name.to_owned()),
        providers,
        checks,
        era,
    })
}

fn passed(checks: &[Check]) -> usize {
    checks.iter().filter(|c| c.verdict == Verdict::Passed).count()
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
                Some((ty, name)) => layout.drop_field(ty, name),
                None => layout.drop_global(field.trim_start_matches('&')),
            }
        }
    }
}

/// Major and minor version in a table's name: `coreclr-10.0-linux-x64`.
fn era(table: &str) -> (u16, u16) {
    let version = table.split('-').nth(1).unwrap_or("");
    let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
