//! What no table names, found by structure and proved by an invariant.

use super::checks::Probe;
use super::gcdac::GcDacVars;
use super::report::{RuntimeModule, Verdict};
use super::scan::Anchor;
use super::{Layout, Source};
use crate::dump::Dump;

/// Slots looked through on either side of the expected one: servicing moves entries by one or two.
const REACH: i32 = 24;

/// Cells of the DAC table that servicing builds move, in the order they are settled: later checks need earlier ones.
const CELLS: &[(&str, &str)] = &[
    ("ObjectMethodTable", "System.Object"),
    ("StringMethodTable", "System.String"),
    ("FreeObjectMethodTable", "the type of free blocks"),
    ("RuntimeTypeMethodTable", "System.RuntimeType"),
    ("SyncTableEntries", "sync table"),
];

/// Looks around the expected slots for cells whose content has the right shape.
pub fn well_known(dump: &Dump, layout: &mut Layout, anchor: &Anchor, gc: &GcDacVars, runtime: &RuntimeModule) {
    for (global, check) in CELLS {
        let Some(&expected) = layout.dac_slots.get(*global) else { continue };
        let verdict = |layout: &Layout| {
            let checks = Probe::run(dump, layout, gc, runtime, Source::Calibrated);
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

/// Fields that are looked for when the table's value was refused: where, and the check that proves a candidate.
const FIELDS: &[(&str, &str, u64, &str)] = &[
    ("Thread", "OSId", 0x600, "operating system ids"),
    ("Thread", "Id", 0x60, "managed ids"),
    ("Thread", "AllocContext", 0x200, "allocation contexts"),
    ("Thread", "GCHandle", 0x600, "Thread objects"),
    ("Module", "Base", 0x400, "Module.Base is an image"),
    ("Module", "PEAssembly", 0x400, "Module leads to its image"),
    ("PEImage", "LoadedImageLayout", 0x100, "Module leads to its image"),
    ("PEImage", "Path", 0x100, "path of an image"),
    ("Module", "TypeDefToMethodTableMap", 0x600, "map from TypeDef rows to MethodTables"),
    ("AppDomain", "DomainAssemblyList", 0x1800, "assemblies of the app domain"),
    ("Module", "DomainLocalModule", 0x800, "statics of the core library"),
    ("HandleTable", "SegmentList", 0x200, "handle segment"),
];

/// Tries to find the fields a table lost: every aligned offset whose check passes; only a single one is taken. Returns
/// the names of those found.
pub fn missing(dump: &Dump, layout: &mut Layout, gc: &GcDacVars, runtime: &RuntimeModule) -> Vec<String> {
    let ptr = u64::from(dump.space.ptr_size());
    let mut found = Vec::new();
    for &(ty, field, reach, check) in FIELDS {
        if layout.field(ty, field).is_some() || !wanted(layout, ty, field) {
            continue;
        }
        let mut hits = Vec::new();
        for offset in (0..reach).step_by(if reach < 0x80 { 4 } else { ptr as usize }) {
            let mut trial = layout.clone();
            trial.set_field(ty, field, offset, Source::Calibrated);
            let checks = Probe::run(dump, &trial, gc, runtime, Source::Calibrated);
            let proves = |c: &super::report::Check| c.name == check && c.verdict == Verdict::Passed;
            if checks.iter().any(proves) {
                hits.push(offset);
            }
        }
        if let [only] = hits[..] {
            layout.set_field(ty, field, only, Source::Calibrated);
            found.push(format!("{ty}.{field} at {only:#x}"));
        }
    }
    found
}

/// Whether this era has the field at all: a table without it, untouched, never had it.
fn wanted(layout: &Layout, ty: &str, field: &str) -> bool {
    match (ty, field) {
        ("Thread", "AllocContext") => layout.try_offset("Thread", "RuntimeThreadLocals").is_none(),
        ("Module", "Base") => false,
        ("Module", "DomainLocalModule") => layout.text("StaticsKind") == Some("DomainLocalModule"),
        _ => true,
    }
}
