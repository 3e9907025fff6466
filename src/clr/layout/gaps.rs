//! What cannot be answered because no provider knows it.

use super::Layout;
use super::gcdac::GcDacVars;

/// Answers and what each needs: fields `Type.Name`, variables `&Name`; one of the groups is enough.
const NEEDS: &[(&str, &[&[&str]])] = &[
    (
        "fields",
        &[&["EEClass.FieldDescList", "EEClass.NumInstanceFields"], &["EEClass.FieldDescList", "EEClass.FixedSize"]],
    ),
    ("images and metadata", &[&["Module.PEAssembly", "PEAssembly.PEImage", "PEImageLayout.Base"], &["Module.Base"]]),
    ("types by their row", &[&["Module.TypeDefToMethodTableMap", "ModuleLookupMap.TableData"]]),
    ("metadata of dynamic modules", &[&["Module.DynamicMetadata"]]),
    (
        "statics",
        &[
            &["MethodTable.AuxiliaryData", "DynamicStaticsInfo.GCStatics", "DynamicStaticsInfo.!"],
            &["Module.DomainLocalModule", "DomainLocalModule.GCStatics"],
        ],
    ),
    ("the types that System.RuntimeType objects stand for", &[&["&RuntimeTypeMethodTable"]]),
    ("threads", &[&["&ThreadStore", "ThreadStore.FirstThreadLink", "Thread.LinkNext", "Thread.OSId", "Thread.Id"]]),
    ("allocation contexts", &[&["Thread.RuntimeThreadLocals", "GCAllocContext.Limit"], &["Thread.AllocContext"]]),
    ("thread statics", &[&["Thread.ThreadLocalDataPtr"], &["Thread.ThreadLocalBlock"]]),
    ("exceptions of threads", &[&["Thread.LastThrownObject"]]),
    ("the finalizer thread", &[&["&FinalizerThread"]]),
    ("assemblies", &[&["&AppDomain", "AppDomain.DomainAssemblyList"]]),
    ("sync blocks", &[&["&SyncTableEntries", "SyncTableEntry.Object"]]),
    ("owners of locks", &[&["SyncBlock.LockState", "SyncBlock.Owner"], &["SyncBlock.Lock", "SyncBlock.ThinLock"]]),
    (
        "handles",
        &[&[
            "HandleTableMap.Buckets",
            "HandleTable.SegmentList",
            "HandleSegment.BlockType",
            "HandleSegment.UserData",
            "HandleSegment.Next",
            "HandleSegment.Owner",
            "HandleSegment.Handles",
        ]],
    ),
    ("the finalizer queue", &[&["FinalizeQueue.FillPointers", "FinalizeQueue.Array"]]),
];

/// One line an answer: what it is, and in brackets what is missing.
pub fn find(layout: &Layout, gc: &GcDacVars) -> Vec<String> {
    let mut gaps = of_layout(layout);
    let queue = match gc.is_server() {
        true => {
            gc.gc_heap_field_offsets.get(2).is_some_and(|&o| o >= 0)
                || layout.try_offset("GCHeap", "FinalizeQueue").is_some()
        }
        false => gc.finalize_queue.is_some(),
    };
    let variables = [
        ("handles (the handle table map)", gc.handle_table_map.is_some()),
        ("the finalizer queue (its variable)", queue),
        ("where allocation ends in the youngest segment", gc.alloc_allocated.is_some() || gc.is_server()),
        ("whether a collection was running", gc.gc_structures_invalid_cnt.is_some()),
    ];
    gaps.extend(variables.iter().filter(|v| !v.1).map(|v| v.0.to_owned()));
    gaps
}

/// What the layout alone leaves open.
pub fn of_layout(layout: &Layout) -> Vec<String> {
    let known = |name: &str| match name.split_once('.') {
        Some((ty, field)) => layout.try_offset(ty, field).is_some(),
        None => layout.global(name.trim_start_matches('&')).is_ok(),
    };
    let mut gaps = Vec::new();
    for (what, groups) in NEEDS {
        let missing = groups.iter().map(|g| g.iter().filter(|n| !known(n)).copied().collect::<Vec<_>>());
        let least = missing.min_by_key(Vec::len).unwrap_or_default();
        if !least.is_empty() {
            gaps.push(format!("{what} ({})", least.join(", ")));
        }
    }
    gaps
}
