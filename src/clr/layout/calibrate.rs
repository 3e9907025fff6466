//! What no table names, found by structure and proved by an invariant.

use super::checks::{Part, Probe};
use super::gcdac::GcDacVars;
use super::report::RuntimeModule;
use super::scan::Anchor;
use super::search::Search;
use super::verdict::Verdict;
use super::{Layout, Source};
use crate::dump::Dump;

/// Slots looked through on either side of the expected one: servicing moves entries by one or two.
const REACH: i32 = 24;

/// Cells of the DAC table that servicing builds move, in the order they are settled: later checks need earlier ones.
const CELLS: &[(&str, Part, &str)] = &[
    ("ObjectMethodTable", Part::Types, "System.Object"),
    ("StringMethodTable", Part::Types, "System.String"),
    ("FreeObjectMethodTable", Part::Types, "the type of free blocks"),
    ("RuntimeTypeMethodTable", Part::Types, "System.RuntimeType"),
    ("SyncTableEntries", Part::Heap, "sync table"),
];

/// Looks around the expected slots for cells whose content has the right shape.
pub fn well_known(dump: &Dump, layout: &mut Layout, anchor: &Anchor, gc: &GcDacVars, runtime: &RuntimeModule) {
    for (global, part, check) in CELLS {
        let Some(&expected) = layout.dac_slots.get(*global) else { continue };
        let verdict = |layout: &Layout| {
            let checks = Probe::new(dump, layout, gc, runtime, Source::Calibrated).part(*part);
            checks.into_iter().find(|c| c.name == *check).map(|c| c.verdict)
        };
        let holds = |layout: &Layout| verdict(layout) == Some(Verdict::Passed);
        // What is there but has nothing to judge by in this dump stays where the table has it.
        let there = layout.global(global).ok().and_then(|a| dump.space.ptr(a)).is_some_and(|v| dump.space.readable(v));
        match verdict(layout) {
            Some(Verdict::Passed) => continue,
            Some(Verdict::NotPossible(_)) if there => continue,
            _ => {}
        }
        let before = layout.global(global).ok();
        for distance in 1..=REACH {
            let near = [expected + distance, expected - distance];
            let found = near.iter().find_map(|&index| {
                let cell = anchor.get(&dump.space, index)?;
                let mut trial = layout.clone();
                trial.set_global(global, cell, Source::Calibrated);
                holds(&trial).then_some(cell)
            });
            if let Some(cell) = found {
                layout.set_global(global, cell, Source::Calibrated);
                break;
            }
        }
        if layout.global(global).ok() == before && before.is_none() {
            layout.drop_global(global);
        }
    }
}

/// Through 2.2 no variable holds the app domain itself; each thread knows the one it runs in.
pub fn domain_of_thread(dump: &Dump, layout: &mut Layout) {
    if layout.constant("AppDomainOfThread").is_err() || layout.global("AppDomain").is_ok() {
        return;
    }
    let thread = layout.global("FinalizerThread").ok().and_then(|c| dump.space.ptr(c)).filter(|&t| t != 0);
    if let Some(cell) = thread.and_then(|t| t.checked_add(layout.try_offset("Thread", "AppDomain")?)) {
        layout.set_global("AppDomain", cell, Source::Calibrated);
    }
}

/// A field that is looked for when no table gives it or its value was refused.
struct Sought {
    ty: &'static str,
    field: &'static str,
    /// Where, in bytes from the start of the type, and in which steps.
    reach: (u64, u64),
    step: u64,
    /// The checks that prove a candidate: one at least passes, none fails.
    part: Part,
    checks: &'static [&'static str],
    /// Fields that the same checks refuse when this one is wrong: with it in place they may hold.
    with: &'static [(&'static str, &'static str)],
}

const fn sought(
    ty: &'static str,
    field: &'static str,
    reach: (u64, u64),
    part: Part,
    checks: &'static [&'static str],
) -> Sought {
    Sought { ty, field, reach, step: 8, part, checks, with: &[] }
}

/// In the order they are settled: later ones need earlier ones. Fields that follow another move with it.
const FIELDS: &[Sought] = &[
    Sought {
        step: 4,
        ..sought(
            "EEClass",
            "CorTypeAttr",
            (0x14, 0x60),
            Part::Types,
            &["element type of classes", "fields of String", "class attributes"],
        )
    },
    Sought { step: 4, ..sought("Thread", "Id", (0, 0x60), Part::Threads, &["managed ids"]) },
    sought("Thread", "AllocContext", (0, 0x200), Part::Threads, &["allocation contexts"]),
    sought(
        "Module",
        "PEAssembly",
        (0, 0x400),
        Part::Types,
        &["Module.Base is an image", "Module leads to its image", "path of an image"],
    ),
    sought("PEImage", "LoadedImageLayout", (0, 0x100), Part::Types, &["Module leads to its image"]),
    sought("PEImage", "Path", (0, 0x100), Part::Types, &["path of an image"]),
    sought("Module", "TypeDefToMethodTableMap", (0, 0x600), Part::Types, &["map from TypeDef rows to MethodTables"]),
    sought("Module", "DomainLocalModule", (0, 0x800), Part::Types, &["statics of the core library"]),
    sought("HandleTable", "SegmentList", (0, 0x200), Part::Heap, &["handle segment"]),
    sought("Thread", "ThreadLocalDataPtr", (0, 0x600), Part::Threads, &["thread statics"]),
    // Moved by 8 bytes between 3.1.2 and 3.1.23 on Windows, between 3.1.13 and 3.1.27 on Linux.
    Sought {
        with: &[("ThreadLocalBlock", "Table"), ("ThreadLocalBlock", "Size")],
        ..sought(
            "Thread",
            "ThreadLocalBlock",
            (0, 0x600),
            Part::Threads,
            &["thread statics", "thread statics by module"],
        )
    },
    sought("Module", "DynamicMetadata", (0x100, 0x900), Part::Threads, &["metadata of dynamic modules"]),
];

impl Search<'_> {
    /// Fills `layout` with what can be found; returns the names of the fields found.
    pub fn run(&self, layout: &mut Layout) -> Vec<String> {
        self.well_known(layout);
        // What a runtime without strings is, nobody knows: every further search would be in vain.
        if layout.global("StringMethodTable").is_err() {
            return Vec::new();
        }
        self.threads(layout);
        self.sync_table(layout);
        let found = missing(self, layout);
        self.runtime_type(layout);
        found
    }

    /// Fills in what a description leaves out.
    pub fn rest(&self, layout: &mut Layout) -> Vec<String> {
        let known = ["StringMethodTable", "ObjectMethodTable", "FreeObjectMethodTable"];
        if known.iter().any(|g| layout.global(g).is_err()) {
            self.well_known(layout);
        }
        self.sync_table(layout);
        let found = missing(self, layout);
        self.runtime_type(layout);
        found
    }
}

/// Tries to find the fields a table lost: every aligned offset whose checks hold; only a single one is taken. Returns
/// the names of those found.
pub fn missing(search: &Search<'_>, layout: &mut Layout) -> Vec<String> {
    let mut found = Vec::new();
    let lost = |l: &Layout| l.try_offset("Thread", "LinkNext").is_none() || l.try_offset("Thread", "OSId").is_none();
    let elsewhere = search.starts_elsewhere(layout);
    if elsewhere
        || lost(layout)
        || layout.global("ThreadStore").is_err()
        || layout.try_offset("ThreadStore", "ThreadCount").is_none()
    {
        search.threads(layout);
        match elsewhere {
            true if search.starts_elsewhere(layout) => layout.drop_field("Thread", "LinkNext"),
            // What was judged by another start may be right.
            true => layout.take_back_all("Thread"),
            false => {}
        }
        if !lost(layout) {
            found.push("the list of threads".into());
        }
    }
    super::inline::domain_of_threads(search, layout);
    domain_of_thread(search.dump, layout);
    let core = search.has_core(layout);
    for s in FIELDS {
        let hopeless = s.part == Part::Types && !core;
        if hopeless || layout.field(s.ty, s.field).is_some() || !wanted(layout, s.ty, s.field) {
            continue;
        }
        let mut hits = Vec::new();
        let mut trial = layout.clone();
        s.with.iter().for_each(|(ty, field)| trial.take_back(ty, field));
        let ptr = u64::from(search.dump.space.ptr_size());
        let step = s.step.min(ptr);
        // Behind a class's own words comes the next class: with smaller pointers sooner.
        let end = if s.ty == "EEClass" { s.reach.1 / 8 * ptr } else { s.reach.1 };
        for offset in (s.reach.0..end).step_by(step as usize) {
            trial.place(s.ty, s.field, offset, &Source::Calibrated);
            if search.effort.is_over() {
                return found;
            }
            if proves(search, &trial, s) {
                hits.push(offset);
            }
        }
        if let [only] = hits[..] {
            layout.place(s.ty, s.field, only, &Source::Calibrated);
            s.with.iter().for_each(|(ty, field)| layout.take_back(ty, field));
            found.push(format!("{}.{} at {only:#x}", s.ty, s.field));
        }
    }
    if layout.try_offset("AppDomain", "DomainAssemblyList").is_none() || layout.global("AppDomain").is_err() {
        search.domain(layout);
        if let Some(at) = layout.try_offset("AppDomain", "DomainAssemblyList") {
            found.push(format!("AppDomain.DomainAssemblyList at {at:#x}"));
        }
    }
    super::inline::rest(search, layout);
    found
}

fn proves(search: &Search<'_>, trial: &Layout, sought: &Sought) -> bool {
    let mut probe = Probe::new(search.dump, trial, search.gc, search.module, Source::Calibrated);
    probe.metadata = sought.ty == "EEClass";
    let checks = probe.part(sought.part);
    let mut relevant = checks.iter().filter(|c| sought.checks.contains(&c.name)).peekable();
    let mut passed = false;
    relevant.all(|c| {
        passed |= c.verdict == Verdict::Passed;
        c.verdict != Verdict::Failed
    }) && passed
}

/// Whether this era has the field at all: a table without it, untouched, never had it.
fn wanted(layout: &Layout, ty: &str, field: &str) -> bool {
    let dynamic = layout.text("StaticsKind") == Some("DynamicStaticsInfo");
    match (ty, field) {
        ("Thread", "AllocContext") => layout.try_offset("Thread", "RuntimeThreadLocals").is_none(),
        ("Thread", "ThreadLocalDataPtr") => dynamic,
        ("Module", "DomainLocalModule") | ("Thread", "ThreadLocalBlock") => !dynamic,
        _ => true,
    }
}
