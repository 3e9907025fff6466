//! What the descriptors of 11.0 name otherwise than those of 9.0 and 10.0, and what they no longer name because it
//! follows from its neighbour.
//!
//! Source: dotnet/runtime `src/coreclr/vm/datadescriptor/datadescriptor.inc`, `src/coreclr/gc/datadescriptor/
//! datadescriptor.inc` and `docs/design/datacontracts/` (`GC.md`, `Loader.md`, `SyncBlock.md`, `Thread.md`).

use std::ops::RangeInclusive;

use crate::clr::layout::Layout;

/// A field: type, name.
type Field = (&'static str, &'static str);

/// Fields by their name in 11.0, and the name the algorithms ask for.
const FIELDS: &[(Field, Field)] = &[
    (("Thread", "ExposedObject"), ("Thread", "GCHandle")),
    (("AppDomain", "AssemblyList"), ("AppDomain", "DomainAssemblyList")),
    (("HandleTableMap", "BucketsPtr"), ("HandleTableMap", "Buckets")),
    (("TableSegment", "NextSegment"), ("HandleSegment", "Next")),
    (("TableSegment", "RgUserData"), ("HandleSegment", "UserData")),
    (("TableSegment", "RgValue"), ("HandleSegment", "Handles")),
    (("CFinalize", "FillPointers"), ("FinalizeQueue", "FillPointers")),
];

/// Constants in the same way, with the values they may have.
const CONSTANTS: &[(&str, &str, RangeInclusive<u64>)] = &[
    ("HandleMaxInternalTypes", "HandleTypeCount", 8..=32),
    ("CFinalizeFillPointersLength", "FinalizeSegmentCount", 4..=16),
];

/// Names what `layout` says as the algorithms ask for it. Returns the fields of older runtimes that are no more.
pub fn translate(layout: &mut Layout, ptr: u64) -> Vec<Field> {
    let mut gone = Vec::new();
    for ((ty, field), (our_type, our_field)) in FIELDS {
        if let Some(fact) = layout.field(ty, field).cloned() {
            layout.set_field(our_type, our_field, fact.value, fact.source);
        }
    }
    for (name, ours, range) in CONSTANTS {
        if let Some(fact) = layout.constant_fact(name).filter(|f| range.contains(&f.value)).cloned() {
            layout.set_constant(ours, fact.value, fact.source);
        }
    }
    handles(layout, ptr);
    finalize_queue(layout, ptr);
    assemblies(layout, &mut gone);
    locks(layout, &mut gone);
    gone
}

/// Sets a field that stands `distance` bytes from one that is described.
fn beside(layout: &mut Layout, (ty, field): Field, distance: i64, name: &str) {
    if let Some(fact) = layout.field(ty, field).cloned()
        && let Some(at) = fact.value.checked_add_signed(distance)
    {
        layout.set_field(ty, name, at, fact.source);
    }
}

/// A segment's header (`handletablepriv.h`): the types of its blocks lie before their user data, its owner behind the link.
fn handles(layout: &mut Layout, ptr: u64) {
    if !layout.describes("TableSegment") {
        return;
    }
    let blocks = layout.constant("HandleBlocksPerSegment").unwrap_or(960 / ptr).min(255);
    beside(layout, ("HandleSegment", "UserData"), -(blocks as i64), "BlockType");
    beside(layout, ("HandleSegment", "Next"), ptr as i64, "Owner");
}

/// `CFinalize`: the array and its end follow the pointers into it.
fn finalize_queue(layout: &mut Layout, ptr: u64) {
    if !layout.describes("CFinalize") {
        return;
    }
    let count = layout.constant("FinalizeSegmentCount").unwrap_or(7);
    beside(layout, ("FinalizeQueue", "FillPointers"), (count * ptr) as i64, "Array");
    beside(layout, ("FinalizeQueue", "FillPointers"), ((count + 1) * ptr) as i64, "End");
}

/// Since 11.0 the app domain's list holds the assemblies themselves.
fn assemblies(layout: &mut Layout, gone: &mut Vec<Field>) {
    if layout.try_offset("AppDomain", "AssemblyList").is_none() {
        return;
    }
    if let Some(fact) = layout.field("Assembly", "Module").cloned() {
        layout.set_field("DomainAssembly", "Module", fact.value, fact.source);
        layout.drop_field("DomainAssembly", "Assembly");
        gone.push(("DomainAssembly", "Assembly"));
    }
}

/// Since 11.0 a sync block has a handle of a `System.Threading.Lock` in place of a lock of its own.
fn locks(layout: &mut Layout, gone: &mut Vec<Field>) {
    let Some(fact) = layout.field("SyncBlock", "Lock").cloned() else { return };
    layout.set_text("SyncBlockOwner", "lock", fact.source);
    // The block's own index in the table stands behind the thin lock (`syncblk.h`).
    beside(layout, ("SyncBlock", "ThinLock"), 4, "Index");
    for field in ["LockState", "Recursion", "Owner"] {
        layout.drop_field("SyncBlock", field);
        gone.push(("SyncBlock", field));
    }
}
