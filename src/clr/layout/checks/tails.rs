//! Invariants of fields that lie behind others of their type: what a member added in front of them would move.

use rustc_hash::FxHashSet;

use super::{Found, Probe};
use crate::clr::types::dynamicstatics::local_module;
use crate::clr::types::lookupmap::LookupMap;
use crate::clr::types::methodtable::MethodTable;

/// Bytes around a thread in which a pointer may be meant for its start.
const NEAR: u64 = 0x800;

/// A thread's managed object holds where the thread starts.
pub fn starts(p: &mut Probe<'_>, threads: &[u64]) {
    let (mut right, mut wrong) = (0, Vec::new());
    for &thread in threads {
        let object = p.field(thread, "Thread", "GCHandle").filter(|&h| h != 0).and_then(|h| p.space().ptr(h));
        let Some(object) = object.filter(|&o| o != 0 && p.is_object(o)) else { continue };
        let size = p.space().ptr(object).and_then(|m| p.mt(m & !7)).map_or(0, |m| u64::from(m.base_size).min(0x400));
        let words: Vec<u64> = (1..size / p.ptr()).filter_map(|i| p.space().ptr_at(object, i * p.ptr())).collect();
        if words.contains(&thread) {
            right += 1;
        } else if let Some(near) = words.iter().find(|w| w.abs_diff(thread) < NEAR) {
            wrong.push(format!("{near:x}, not {thread:x}"));
        }
    }
    let found = match wrong.first() {
        Some(first) => Found::Bad(format!("{} of {}: {first}", wrong.len(), wrong.len() + right)),
        None if right == 0 => Found::Absent("no thread's object is in the dump".into()),
        None => Found::Good(format!("{right} threads")),
    };
    p.record("start of a thread", &["Thread.LinkNext"], "what its managed object holds", found);
}

/// Rows of a module's types looked at.
const ROWS: u32 = 2048;

/// The module's map from rows to types.
fn types(p: &Probe<'_>, module: u64) -> Option<LookupMap> {
    let at = module.checked_add(p.layout.try_offset("Module", "TypeDefToMethodTableMap")?)?;
    LookupMap::at(p.space(), p.layout, at)
}

/// Through .NET 8: a class that was never loaded was not initialised either.
pub fn class_flags(p: &mut Probe<'_>, module: u64) {
    /// Flags that must be set to say anything.
    const LEAST: usize = 8;
    let Some(flags) = p.layout.try_offset("DomainLocalModule", "ClassFlags").filter(|_| p.metadata) else { return };
    let local = local_module(p.space(), p.layout, module).and_then(|l| l.checked_add(flags));
    let (mut set, mut astray) = (0, 0);
    if let (Some(map), Some(local)) = (types(p, module), local) {
        for rid in 1..map.count().min(ROWS) {
            let initialised = p.space().u8(local.saturating_add(u64::from(rid) - 1)).is_some_and(|f| f & 1 != 0);
            if initialised {
                set += 1;
                astray += usize::from(map.get(p.space(), rid) == Some(0));
            }
        }
    }
    let seen = format!("{astray} of {set} are not");
    let found = if set < LEAST { Found::Absent(seen) } else { Found::when(astray == 0, seen) };
    p.record("flags of classes", &["DomainLocalModule.ClassFlags"], "set for classes that are loaded", found);
}

/// Since 9.0: what a class with thread statics has in front of it are indexes of them, or that it has none yet.
pub fn thread_indexes(p: &mut Probe<'_>, module: u64) {
    const FIELDS: &[&str] = &["ThreadStaticsInfo.!", "ThreadStaticsInfo.GCTlsIndex", "ThreadStaticsInfo.NonGCTlsIndex"];
    let read = |p: &Probe<'_>| {
        let size = p.layout.try_offset("ThreadStaticsInfo", "!")?;
        let fields = ["NonGCTlsIndex", "GCTlsIndex"].map(|f| p.layout.try_offset("ThreadStaticsInfo", f));
        let count = p.layout.try_offset("EEClass", "NumThreadStaticFields")?;
        let (map, mut all) = (types(p, module)?, Vec::new());
        for rid in 1..map.count().min(4 * ROWS) {
            let Some(mt) = map.get(p.space(), rid).filter(|&m| m != 0).and_then(|m| p.mt(m)) else { continue };
            let class = p.mts.as_ref().and_then(|r| r.eeclass(p.space(), &mt));
            let any = class.and_then(|c| p.space().u16(c.checked_add(count)?)).is_some_and(|n| n > 0);
            if any && let Some(info) = mt.aux.checked_sub(size) {
                all.extend(fields.iter().flatten().filter_map(|f| p.space().u32(info.checked_add(*f)?)));
            }
        }
        Some(all)
    };
    if !p.metadata {
        return;
    }
    let all = read(p).unwrap_or_default();
    let given: Vec<u32> = all.iter().copied().filter(|&i| i != NO_INDEX).collect();
    let wrong = given.iter().filter(|&&i| !is_index(i)).count();
    let found = match given.len() {
        0 => Found::Absent("no class with thread statics is in the dump".into()),
        n => Found::when(wrong == 0, format!("{wrong} of {n} are none")),
    };
    p.record("indexes of thread statics", FIELDS, "indexes, or none", found);
}

/// Since 9.0: static references begin with an object or null, other statics do not begin with objects.
pub fn static_bases(p: &mut Probe<'_>, module: u64) {
    const FIELDS: &[&str] = &[
        "DynamicStaticsInfo.!",
        "DynamicStaticsInfo.MethodTable",
        "DynamicStaticsInfo.GCStatics",
        "DynamicStaticsInfo.NonGCStatics",
    ];
    if !p.metadata || p.mini {
        return;
    }
    // First words of what the two pointers of each class lead to; their lowest bit says that it is not initialised.
    let read = |p: &Probe<'_>| {
        let size = p.layout.try_offset("DynamicStaticsInfo", "!")?;
        let (map, mut all) = (types(p, module)?, [Vec::new(), Vec::new()]);
        for rid in 1..map.count().min(ROWS) {
            let Some(mt) = map.get(p.space(), rid).filter(|&m| m != 0).and_then(|m| p.mt(m)) else { continue };
            let Some(info) = mt.aux.checked_sub(size) else { continue };
            if p.field(info, "DynamicStaticsInfo", "MethodTable") == Some(mt.address) {
                for (words, field) in all.iter_mut().zip(["GCStatics", "NonGCStatics"]) {
                    let base = p.field(info, "DynamicStaticsInfo", field).map(|b| b & !1).filter(|&b| b != 0);
                    words.extend(base.and_then(|b| p.space().ptr(b)).filter(|&w| w != 0));
                }
            }
        }
        Some(all)
    };
    let [references, others] = read(p).unwrap_or_default();
    let objects = |words: &[u64]| words.iter().filter(|&&w| p.is_object(w)).count();
    let (right, wrong) = (objects(&references), objects(&others));
    let seen = format!("{right} of {} and {wrong} of {}", references.len(), others.len());
    let found = match references.len() + others.len() {
        0 => Found::Absent("no statics are in the dump".into()),
        // A collection moves objects before it puts the references right.
        _ if p.collecting() => Found::Absent("a collection was running".into()),
        _ => Found::when(right * 8 > references.len() * 7 && wrong <= others.len() / 8, seen),
    };
    p.record("statics of classes", FIELDS, "references are objects, others are none", found);
}

/// A class that has no thread statics yet.
const NO_INDEX: u32 = u32::MAX;

/// Kind in the upper byte, position in the rest; the first two positions are not given out (dotnet/runtime
/// `src/coreclr/vm/threadstatics.h`, `NUMBER_OF_TLSOFFSETS_NOT_USED_IN_NONCOLLECTIBLE_ARRAY`).
fn is_index(i: u32) -> bool {
    let (kind, at) = (i >> 24, i & 0xFF_FFFF);
    kind <= 2 && at < 1 << 20 && (kind != 0 || at >= 2)
}

/// Through .NET 8: each module has an index of its own.
pub fn module_indexes(p: &mut Probe<'_>, modules: &[u64]) {
    if p.layout.try_offset("DomainLocalModule", "ModuleIndex").is_none() {
        return;
    }
    let locals = modules.iter().filter_map(|&m| local_module(p.space(), p.layout, m));
    let indexes: Vec<u32> = locals.filter_map(|l| p.word(l, "DomainLocalModule", "ModuleIndex")).collect();
    let distinct: FxHashSet<&u32> = indexes.iter().collect();
    let ok = distinct.len() == indexes.len() && indexes.iter().all(|&i| i < 1 << 16);
    let found = match indexes.len() {
        0 | 1 => Found::Absent("only one module has statics".into()),
        n => Found::when(ok, format!("{} different ones of {n} modules", distinct.len())),
    };
    p.record("indexes of modules", &["DomainLocalModule.ModuleIndex"], "distinct and small", found);
}

/// The type of an array's elements stands where an instantiation's arguments do; the vtable begins two pointers on.
pub fn array_elements(p: &mut Probe<'_>) {
    let Some(at) = p.layout.try_offset("MethodTable", "PerInstInfo").filter(|_| p.metadata) else { return };
    let arrays = arrays(p);
    let is_type = |mt: u64| {
        let element = p.space().ptr_at(mt, at)?;
        // A low bit is a further step (2.1, compiled ahead), the next one a record of a pointer or a variable.
        let step = if element & 1 != 0 { p.space().ptr(element & !1)? } else { element };
        let right =
            step & 2 != 0 || p.mt(step).is_some_and(|m| p.mts.as_ref().is_some_and(|r| r.round_trips(p.space(), &m)));
        right.then_some(())
    };
    let right = arrays.iter().filter(|&&mt| is_type(mt).is_some()).count();
    let seen = format!("{right} of {} types of arrays", arrays.len());
    let found = if arrays.is_empty() {
        Found::Absent("no array was met".into())
    } else {
        Found::when(right == arrays.len(), seen)
    };
    p.record("element types of arrays", &["MethodTable.PerInstInfo"], "types", found);
    if let Some(size) = p.layout.try_offset("MethodTable", "!") {
        let expected = at + 2 * p.ptr();
        let found = Found::when(size == expected, size.to_string());
        p.record("size of a MethodTable", &["MethodTable.!"], expected.to_string(), found);
    }
}

/// MethodTables of arrays among the first objects of generation 2.
fn arrays(p: &Probe<'_>) -> FxHashSet<u64> {
    const SEGMENTS: usize = 16;
    const OBJECTS: usize = 512;
    const ENOUGH: usize = 16;
    let mut found = FxHashSet::default();
    let mut record = p.first_segment();
    for _ in 0..SEGMENTS {
        let Some(segment) = record.filter(|&r| r != 0) else { break };
        let (Some(mut at), Some(end)) =
            (p.field(segment, "HeapSegment", "Mem"), p.field(segment, "HeapSegment", "Allocated"))
        else {
            break;
        };
        for _ in 0..OBJECTS {
            let Some((mt, size)) = object(p, at).filter(|_| at < end && found.len() < ENOUGH) else { break };
            if mt.is_array() {
                found.insert(mt.address);
            }
            at = at.saturating_add(size);
        }
        record = p.field(segment, "HeapSegment", "Next");
    }
    found
}

/// The MethodTable of the object at `at` and the bytes to the next one.
fn object(p: &Probe<'_>, at: u64) -> Option<(MethodTable, u64)> {
    let mt = p.mt(p.space().ptr(at)? & !(p.ptr() - 1))?;
    let count = if mt.has_component_size() { p.space().u32(at.checked_add(p.ptr())?)? } else { 0 };
    let size = u64::from(mt.base_size) + u64::from(count) * u64::from(mt.component_size());
    (mt.base_size != 0).then(|| (mt, size.max(3 * p.ptr()).next_multiple_of(p.ptr())))
}
