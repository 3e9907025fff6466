//! Finding the runtime and choosing its layout.
//!
//! Nothing here looks at version texts, module names or paths to choose offsets: a module counts as the runtime when its
//! image holds a `GcDacVars` and a DAC table around it, and a built-in table is taken when its invariants hold.

use super::asks;
use super::checks::Probe;
use super::choose::{CORE, Chooser, Settled, failed, passed};
use super::effort::Effort;
use super::gcdac::{self, GcDacVars, GcSource};
pub use super::provider::{DiscoverOptions, Provider};
use super::report::{Discovered, NoRuntime, RuntimeModule};
use super::scan::{Span, anchors_of, find_gc_dac_vars};
use super::standing::Standing;
use super::verdict::Verdict;
use super::{Source, descriptor, older, version};
use crate::dump::{Dump, Module};

/// File names of runtimes that are not linked into the program.
const RUNTIME_NAMES: &[&str] = &["coreclr.dll", "libcoreclr.so", "libcoreclr.dylib", "clr.dll", "mscorwks.dll"];

/// Structs of the collector's variables tried in one module: it has one, and what else has their shape by chance.
const MOST_COLLECTORS: usize = 4;

/// Finds the runtime of `dump` and everything needed to read it.
pub fn discover(dump: &Dump, options: &DiscoverOptions) -> Result<Discovered, NoRuntime> {
    let effort = Effort::begin(&dump.space, &options.watch);
    let found = search(dump, options, &effort);
    if effort.is_stopped() {
        return Err(NoRuntime::Interrupted);
    }
    found
}

fn search(dump: &Dump, options: &DiscoverOptions, effort: &Effort<'_>) -> Result<Discovered, NoRuntime> {
    let (mut refused, mut ahead) = (None, None);
    for module in candidates(dump) {
        let span = Span::of(module);
        let (found, described) = collector(dump, module, span, options);
        let flavour = described.main.as_ref().and_then(|d| d.layout().text("RuntimeFlavor"));
        if !found.is_empty() && (flavour == Some("NativeAot") || native_aot(dump, module)) {
            ahead.get_or_insert_with(|| NoRuntime::NativeAot(module.file_name().to_owned()));
            continue;
        }
        let mut best: Option<Discovered> = None;
        for gc in found.iter().take(MOST_COLLECTORS) {
            if effort.is_over() {
                break;
            }
            match choose(dump, module, span, gc, &described, options, effort) {
                Ok(found) if failed(&found.checks) == 0 => return Ok(found),
                // What has the shape by chance leads nowhere: most of what is checked there is not possible.
                Ok(found) if best.as_ref().is_none_or(|b| passed(&found.checks) > passed(&b.checks)) => {
                    best = Some(found)
                }
                Ok(_) => {}
                Err(e) => {
                    refused.get_or_insert(e);
                }
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
    }
    Err(refused.or(ahead).unwrap_or_else(|| not_found(dump, options)))
}

/// The collector's variables in a module, best first: by `GcDacVars`, by the descriptor, or by structure where neither is
/// there or may be asked. With what the image holds of descriptors.
fn collector(
    dump: &Dump,
    module: &Module,
    span: Span,
    options: &DiscoverOptions,
) -> (Vec<GcDacVars>, descriptor::Found) {
    let structs = if options.allows(Provider::GcDacVars) { find_gc_dac_vars(dump, span) } else { Vec::new() };
    let (mut found, unknown): (Vec<_>, Vec<_>) = structs.into_iter().partition(GcDacVars::is_known);
    let unknown = unknown.first();
    let named = RUNTIME_NAMES.iter().any(|n| module.file_name().eq_ignore_ascii_case(n));
    // A runtime linked into a program has no name to go by: asked for by other means, it is the program itself.
    let program = module.file_name().to_ascii_lowercase().ends_with(".exe")
        || dump.modules.first().is_some_and(|m| m.base == module.base);
    let single = !options.allows(Provider::GcDacVars) && program;
    let runtime = named || single || unknown.is_some();
    let mut described = descriptor::Found::default();
    if options.allows(Provider::Descriptor) && (runtime || !found.is_empty()) {
        described = descriptor::find(dump, span);
        // The collector's own description, where the runtime's is not there or does not lead to it.
        let own = found.iter().chain(unknown).find_map(|gc| gc.descriptor);
        descriptor::collector(dump, &mut described, own);
        found.extend(described.used().and_then(|d| GcDacVars::described(d.layout(), &dump.space)));
    }
    if found.is_empty() && runtime {
        found.extend(older::find(dump, span, options));
    }
    if found.is_empty() && options.allows(Provider::Structure) && runtime {
        // A standalone collector (`clrgc`) has the variables in its own image.
        let standalone = dump.modules.iter().filter(|m| m.file_name().to_ascii_lowercase().contains("clrgc"));
        let mut images = std::iter::once(span).chain(standalone.map(Span::of));
        found.extend(images.find_map(|image| super::collector::find(dump, image)));
    }
    for gc in &mut found {
        gc.refused = unknown.map(|u| (u.address, u.major, u.minor));
    }
    (found, described)
}

/// Modules to look into: those named like a runtime first, then by size, because a renamed or single-file runtime is big.
fn candidates(dump: &Dump) -> Vec<&Module> {
    let named = |m: &Module| RUNTIME_NAMES.iter().any(|n| m.file_name().eq_ignore_ascii_case(n));
    let mut all: Vec<&Module> = dump.modules.iter().filter(|m| m.size > 0).collect();
    all.sort_by_key(|m| (!named(m), std::cmp::Reverse(m.size)));
    all
}

fn not_found(dump: &Dump, options: &DiscoverOptions) -> NoRuntime {
    for m in &dump.modules {
        if native_aot(dump, m) {
            return NoRuntime::NativeAot(m.file_name().to_owned());
        }
        if RUNTIME_NAMES.iter().any(|n| m.file_name().eq_ignore_ascii_case(n)) {
            let runtime = runtime_module(dump, m);
            let next = asks::next(dump, &runtime, &options.disabled);
            let (what, next) = if !options.disabled.is_empty() {
                ("not found by the providers that may be asked", next)
            } else if asks::holds_data(dump, &runtime) {
                ("not found", next)
            } else {
                ("not in the dump", asks::collect(dump).to_owned())
            };
            return NoRuntime::Refused(format!(
                "{} is loaded, but the collector's variables are {what}; {next}",
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

/// The runtime in `module`, as far as the module itself tells.
fn runtime_module(dump: &Dump, module: &Module) -> RuntimeModule {
    let single_file = !RUNTIME_NAMES.iter().any(|n| module.file_name().eq_ignore_ascii_case(n));
    let Span { base, end } = Span::of(module);
    let version = version::text(dump, module, single_file);
    RuntimeModule { base, end, path: module.path.clone(), version, single_file, gc_module: None }
}

fn choose(
    dump: &Dump,
    module: &Module,
    span: Span,
    gc: &GcDacVars,
    described: &descriptor::Found,
    options: &DiscoverOptions,
    effort: &Effort<'_>,
) -> Result<Discovered, NoRuntime> {
    let mut runtime = runtime_module(dump, module);
    let mut gc = gc.clone();
    if gc.handle_table_map.is_none() && options.allows(Provider::Structure) && !options.allows(Provider::Tables) {
        gc.handle_table_map = super::collector::handle_map(dump, span);
    }
    let gc = &gc;
    runtime.gc_module = gc
        .handle_table_map
        .filter(|&a| !span.contains(a))
        .and_then(|a| dump.module_at(a))
        .map(|m| (m.base, m.base.saturating_add(m.size)));
    let mut providers = vec![("GcDacVars".to_owned(), gc.describe())];
    let all_anchors = if options.allows(Provider::DacTable) { anchors_of(&dump.space, span, gc) } else { Vec::new() };
    providers.push(("DAC table".into(), format!("{} possible anchors", all_anchors.len())));
    providers.push(("contract descriptor".into(), described.describe()));
    for (name, provider) in Provider::ALL {
        if !options.allows(*provider) {
            providers.push(((*name).into(), "switched off".into()));
        }
    }
    let descriptor = described.used();
    let chooser = Chooser {
        dump,
        span,
        gc,
        runtime: &runtime,
        anchors: &all_anchors,
        descriptor,
        refused: &described.refused,
        options,
        effort,
        words: Default::default(),
    };
    let Some(best) = chooser.best() else {
        return Err(NoRuntime::Refused(format!(
            "{} has the collector's variables, but no layout fits: {}, and structure {}; {}",
            module.path,
            match options.allows(Provider::Tables) {
                true => "no built-in table of this system does",
                false => "built-in tables may not be asked",
            },
            match (options.allows(Provider::Structure), effort.is_spent()) {
                (false, _) => "may not be asked",
                (true, false) => "finds none",
                (true, true) => "was given up: it had read all that a search may",
            },
            asks::next(dump, &runtime, &options.disabled)
        )));
    };
    let mut found = settle(&chooser, best, providers)?;
    if effort.is_spent() {
        let what = "the search for what no table names was given up after reading all it may: fields may be missing";
        found.warnings.push(what.into());
    }
    Ok(found)
}

/// Checks that must have passed where none of the core ones could be made.
const MIN_PASSED: usize = 5;

fn settle(chooser: &Chooser<'_>, best: Settled, mut providers: Vec<(String, String)>) -> Result<Discovered, NoRuntime> {
    let mut runtime = chooser.runtime.clone();
    let Settled { table, layout, mut checks, again, notes, described } = best;
    let mut gc = chooser.gc.clone();
    gc.handle_table_map = gc.handle_table_map.or_else(|| layout.global("HandleTableMap").ok());
    if gc.handle_table_map.is_none() && chooser.options.allows(Provider::Structure) {
        gc.handle_table_map = super::collector::handle_map(chooser.dump, chooser.span);
    }
    checks.extend(chooser.descriptor.and_then(|d| gc.witness(&GcDacVars::described(d.layout(), &chooser.dump.space)?)));
    if gc.source == GcSource::Structure && gc.alloc_allocated.is_none() && !gc.is_server() {
        let probe = Probe::new(chooser.dump, &layout, chooser.gc, &runtime, Source::Calibrated);
        let image = runtime.gc_module.map_or(chooser.span, |(base, end)| Span { base, end });
        let mts = probe.mts;
        gc.alloc_allocated =
            super::collector::allocation_end(chooser.dump, image, &gc, &probe.contexts(), mts.as_ref());
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
            "{}: the nearest table is {}, but {}: expected {}, found {}; {}",
            runtime.path,
            table.name,
            c.name,
            c.expected,
            c.found,
            asks::next(chooser.dump, &runtime, &chooser.options.disabled)
        )));
    }
    // A mini dump has none of the memory the core checks look at: then the others must carry the table.
    let core_absent = again.iter().filter(|c| CORE.contains(&c.name)).all(|c| c.verdict != Verdict::Passed);
    if core_absent && (passed(&again) < MIN_PASSED || failed(&again) > 0) {
        let bad: Vec<&str> = again.iter().filter(|c| c.verdict == Verdict::Failed).map(|c| c.name).collect();
        // What failed was in the dump: then it is the build that is not known, too.
        let (names, build) = match bad.is_empty() {
            true => (String::new(), String::new()),
            false => {
                let next = asks::next(chooser.dump, &runtime, &chooser.options.disabled);
                (format!(": {}", bad.join(", ")), format!("; {next}"))
            }
        };
        return Err(NoRuntime::Refused(format!(
            "{}: the memory that would prove a layout is not in the dump ({} checks passed, {} failed{names}); {}{build}",
            runtime.path,
            passed(&again),
            bad.len(),
            asks::collect(chooser.dump)
        )));
    }
    let era = runtime.version.as_deref().filter(|_| described).and_then(version::number).unwrap_or(era(table.name));
    let gaps = super::gaps::find(&layout, &gc);
    if !gaps.is_empty() {
        providers.push(("no provider answers".into(), gaps.join("; ")));
    }
    let standing = Standing::of(table, &layout, described);
    let mut warnings = warnings(chooser, &gc);
    // Where providers are switched off it is not the build that nobody knows.
    if standing.is_prediction() && chooser.options.disabled.is_empty() {
        warnings.push(format!("the layout: {}", standing.sentence()));
        warnings.push(asks::asks(chooser.dump, &runtime));
    }
    let table = if described { format!("contract descriptor over {}", table.name) } else { table.name.to_owned() };
    Ok(Discovered { module: runtime, gc, layout, table: Some(table), providers, checks, era, gaps, warnings, standing })
}

/// What is to be said aloud: providers that are there and were refused.
fn warnings(chooser: &Chooser<'_>, gc: &GcDacVars) -> Vec<String> {
    let mut all = Vec::new();
    if let Some((at, major, minor)) = gc.refused {
        all.push(format!(
            "GcDacVars at {at:x} has version {major}.{minor}, and only major versions {} to {} are known: it is not used",
            gcdac::MAJORS.start(),
            gcdac::MAJORS.end()
        ));
    }
    if chooser.descriptor.is_none() {
        all.extend(chooser.refused.iter().map(|why| format!("the contract descriptor {why}: it is not used")));
    }
    all
}

/// Major and minor version in a table's name: `coreclr-10.0-linux-x64`.
fn era(table: &str) -> (u16, u16) {
    let version = table.split('-').nth(1).unwrap_or("");
    let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
