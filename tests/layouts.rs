//! Layouts are chosen by fingerprint and invariants: names and versions play no part, and a wrong offset is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

use clrscope::clr::layout::Layout;
use clrscope::clr::layout::discover::{DiscoverOptions, Provider, discover};
use clrscope::clr::layout::report::Discovered;
use clrscope::clr::layout::tables::TABLES;
use clrscope::clr::layout::verdict::Verdict;
use clrscope::clr::types::lookupmap::LookupMap;
use clrscope::clr::types::methodtable::MtReader;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::watch::Watch;
use serde_json::Value;

fn open(name: &str) -> Dump {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let options = OpenOptions {
        cache_dir: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps")),
        no_images: true,
        ..OpenOptions::default()
    };
    Dump::open(&path, &options, &Watch::default()).unwrap()
}

/// One dump for each table that testdata can exercise.
const DUMPS: &[(&str, &str)] = &[
    ("linux-x64-10.0-wks-heap.core.zst", "coreclr-10.0-linux-x64"),
    ("linux-x64-8.0-wks-heap.core.zst", "coreclr-8.0-linux-x64"),
    ("linux-x64-3.1-wks-heap.core.zst", "coreclr-3.1-linux-x64"),
    ("linux-x64-2.1-wks-heap.core.zst", "coreclr-2.1-linux-x64"),
    ("win-x64-10.0-wks-full.dmp.zst", "coreclr-10.0-windows-x64"),
    ("win-x64-3.1-wks-full.dmp.zst", "coreclr-3.1-windows-x64"),
    ("win-x86-3.1-small.dmp.zst", "coreclr-3.1-windows-x86"),
];

fn facts(found: &Discovered) -> Vec<(String, u64)> {
    found.layout.facts().into_iter().map(|(n, v, _)| (n, v)).collect()
}

#[test]
fn each_dump_gets_its_table_and_every_check_passes() {
    for (dump, table) in DUMPS {
        let found = discover(&open(dump), &DiscoverOptions::default()).unwrap();
        assert_eq!(found.table.as_deref(), Some(*table), "{dump}");
        let failed: Vec<_> = found.checks.iter().filter(|c| c.verdict == Verdict::Failed).collect();
        assert!(failed.is_empty(), "{dump}: {failed:?}");
    }
}

#[test]
fn names_and_versions_play_no_part() {
    for (dump, table) in DUMPS {
        let mut dump_opened = open(dump);
        let before = discover(&dump_opened, &DiscoverOptions::default()).unwrap();
        for m in &mut dump_opened.modules {
            m.path = "overwritten".into();
            m.version = None;
            m.build_id = None;
        }
        let after = discover(&dump_opened, &DiscoverOptions::default()).unwrap();
        assert_eq!(after.table.as_deref(), Some(*table), "{dump}");
        assert_eq!(facts(&after), facts(&before), "{dump}");
        assert_eq!(after.module.base, before.module.base);
    }
}

/// Fields no invariant can vouch for in these dumps, with the reason.
const UNPROVABLE: &[&str] = &[
    // Used for display only, or only in states these dumps are not in.
    "MethodTable.!",
    "MethodTable.NumVirtuals",
    "MethodTable.NumInterfaces",
    "MethodTable.PerInstInfo",
    "MethodTable.AuxiliaryData",
    "EEClass.MethodDescChunk",
    "EEClass.NumMethods",
    "EEClass.NumNonVirtualSlots",
    "EEClass.NumThreadStaticFields",
    "EEClass.BasePadding",
    "EEClass.NativeSize",
    "EEClass.CorTypeAttr",
    "Module.Assembly",
    "Module.Path",
    "Module.SimpleName",
    "Module.DynamicMetadata",
    "Module.TypeRefToMethodTableMap",
    "PEImage.FlatImageLayout",
    "DynamicMetadata.Size",
    "DynamicMetadata.Data",
    "DynamicMetadata.DataPointer",
    "ModuleLookupMap.Next",
    "ModuleLookupMap.Count",
    "ModuleLookupMap.SupportedFlagsMask",
    // No map from TypeDef rows is packed in the dump of 2.1.
    "ModuleLookupMap.Index",
    "ModuleLookupMap.IndexEntryBits",
    "ModuleLookupMap.EncodingLengths",
    "ArrayListBase.Count",
    "ArrayListBlock.Next",
    "ThreadStore.MaxThreadCount",
    "ThreadStore.PendingCount",
    "Thread.PreemptiveGCDisabled",
    "Thread.Frame",
    "Thread.AppDomain",
    "HeapSegment.Used",
    "HeapSegment.Heap",
    "HandleSegment.UserData",
    "HandleSegment.Handles",
    "HandleTableMap.Next",
    "HandleTableMap.MaxIndex",
    // Dead and pending threads are rare: a 0 beside a 0.
    "ThreadStore.DeadCount",
    "Thread.LockCount",
    // Never read: that it is there makes a MethodDesc larger.
    "MethodDesc.CodeData",
    "SyncBlock.LockState",
    "SyncBlock.Owner",
    "SyncBlock.Recursion",
    "DomainLocalModule.DynamicClassTable",
    "DomainLocalModule.DynamicClassCount",
    "DomainLocalModule.ModuleIndex",
    "DomainLocalModule.ClassFlags",
    "DynamicClassInfo.!",
    "DynamicClassInfo.Data",
    "DynamicClassInfo.Flags",
    "ThreadLocalModule.DynamicClassTable",
    "ThreadLocalModule.DynamicClassCount",
    "ThreadLocalModule.GCStatics",
    "ThreadLocalData.NonCollectibleTlsDataCount",
    "ThreadLocalData.NonCollectibleTlsArrayData",
    "ThreadLocalData.CollectibleTlsArrayData",
    "ThreadLocalData.InFlightData",
    "InFlightTLSData.Next",
    "InFlightTLSData.TlsIndex",
    "InFlightTLSData.TLSData",
    "ThreadStaticsInfo.!",
    "ThreadStaticsInfo.NonGCTlsIndex",
    "ThreadStaticsInfo.GCTlsIndex",
    "DynamicStaticsInfo.NonGCStatics",
    "TypeDesc.TypeAndFlags",
    "ParamTypeDesc.TypeArg",
    "ParamTypeDesc.TemplateMT",
    "TypeVarTypeDesc.Module",
    "TypeVarTypeDesc.Token",
    "FnPtrTypeDesc.NumArgs",
    "FnPtrTypeDesc.CallConv",
    "FnPtrTypeDesc.RetAndArgTypes",
    // Server GC only.
    "GCHeap.AllocAllocated",
    "GCHeap.EphemeralHeapSegment",
    "GCHeap.FinalizeQueue",
    "GCHeap.GenerationTable",
    // The last thrown exception is null where nothing was thrown: a null elsewhere looks the same.
    "Thread.LastThrownObject",
    // So is what a thread handles at the moment.
    "Thread.ExceptionTracker",
    "ExceptionInfo.PreviousNestedInfo",
    "ExceptionInfo.ThrownObject",
    // Neighbouring pointers of the same kind: mem and the ends next to it keep their order when shifted by one.
    "HeapSegment.Allocated",
    "HeapSegment.Committed",
    "HeapSegment.Reserved",
    "HeapSegment.Flags",
    "HeapSegment.Next",
    "FinalizeQueue.FillPointers",
    "FinalizeQueue.End",
    "HandleSegment.Next",
    "GCAllocContext.Limit",
    "GCAllocContext.Pointer",
    "ThreadStore.UnstartedCount",
    "ArrayListBlock.Size",
    "SyncTableEntry.SyncBlock",
    "RuntimeThreadLocals.AllocContext",
    "EEAllocContext.GCAllocationContext",
    "Thread.RuntimeThreadLocals",
    "Thread.ThreadLocalBlock",
    "Thread.ThreadLocalDataPtr",
    "Thread.GCHandle",
    "PEImageLayout.Base",
    "Module.Base",
    "PEImage.LoadedImageLayout",
    "PEAssembly.PEImage",
    "MethodTable.MTFlags2",
    "MethodTable.Token",
    "EEClass.InternalCorElementType",
    "EEClass.Packed",
    "DynamicStaticsInfo.GCStatics",
    "DomainLocalModule.GCStatics",
];

#[test]
fn a_shifted_field_is_refused_or_found_again() {
    let mut refused = 0;
    let mut wrong = Vec::new();
    for (dump, name) in DUMPS {
        let opened = open(dump);
        let table = TABLES.iter().find(|t| t.name == *name).unwrap();
        let right = table.layout();
        for (fact, value, _) in right.facts() {
            let Some((ty, field)) = fact.split_once('.') else { continue };
            if UNPROVABLE.contains(&fact.as_str()) {
                continue;
            }
            let mut json = table.json();
            let types = json["types"].as_object_mut().unwrap();
            let fields = types.entry(ty).or_insert_with(|| Value::Object(Default::default()));
            fields[field] = Value::from(value + 8);
            let options = DiscoverOptions {
                replaced: vec![(table.name, json)],
                disabled: vec![Provider::Descriptor],
                ..Default::default()
            };
            match discover(&opened, &options) {
                // Another table may fit better than a broken one; then its own values count.
                Ok(found) if found.table.as_deref() == Some(table.name) => {
                    let kept = found.layout.try_offset(ty, field);
                    if kept == Some(value + 8) {
                        let seen: Vec<_> = found.checks.iter().filter(|c| c.fields.contains(&fact)).collect();
                        wrong.push(format!("{dump}: {fact} was accepted though it is wrong: {seen:?}"));
                    }
                    let said = found.checks.iter().any(|c| {
                        c.verdict == Verdict::Failed
                            && c.fields.contains(&fact)
                            && !c.expected.is_empty()
                            && !c.found.is_empty()
                    });
                    if !said {
                        wrong.push(format!("{dump}: nothing says that {fact} was refused"));
                    }
                    refused += 1;
                }
                Ok(_) | Err(_) => refused += 1,
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 80, "only {refused} fields were tried");
}

/// Fields nothing in these dumps tells from a neighbour: the size a class has for native code is 0 almost everywhere.
const SILENT: &[&str] = &["EEClass.NativeSize"];

/// A table's document with the fields of `ty` moved by `shift` from offset `start` on.
fn moved(table: &Value, ty: &str, start: u64, shift: u64) -> Value {
    let mut json = table.clone();
    for (_, at) in json["types"][ty].as_object_mut().unwrap() {
        let offset = at.as_u64().unwrap();
        if offset >= start {
            *at = Value::from(offset + shift);
        }
    }
    json
}

/// What a servicing build does: a member is added, and all that follows it in its type moves.
#[test]
fn a_shifted_tail_is_found_again_or_refused() {
    let (mut tried, mut found_again, mut wrong) = (0, 0, Vec::new());
    for (dump, name) in DUMPS {
        let opened = open(dump);
        let table = TABLES.iter().find(|t| t.name == *name).unwrap();
        let (right, json) = (table.layout(), table.json());
        let own = json["types"].as_object().unwrap();
        let starts = own.iter().flat_map(|(ty, f)| f.as_object().unwrap().iter().map(move |(n, at)| (ty, n, at)));
        for ((ty, first, start), shift) in starts.flat_map(|s| [(s, 8), (s, 16)]) {
            let case = format!("{dump}: {ty} moved by {shift} from {first} on");
            let replaced = vec![(table.name, moved(&json, ty, start.as_u64().unwrap(), shift))];
            let options = DiscoverOptions { replaced, disabled: vec![Provider::Descriptor], ..Default::default() };
            tried += 1;
            let Ok(found) = discover(&opened, &options) else { continue };
            let mut all = true;
            for (fact, value, _) in right.facts() {
                let Some((t, field)) = fact.split_once('.') else { continue };
                if t != ty || SILENT.contains(&fact.as_str()) {
                    continue;
                }
                match found.layout.try_offset(t, field) {
                    Some(is) if is == value => {}
                    Some(is) => wrong.push(format!("{case}: {fact} is {is}, not {value}")),
                    None => all = false,
                }
            }
            let said = found.checks.iter().any(|c| c.verdict == Verdict::Failed);
            if !said && found.table.as_deref() == Some(table.name) && !SILENT.contains(&&*format!("{ty}.{first}")) {
                wrong.push(format!("{case}: nothing says so"));
            }
            found_again += usize::from(all);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 100, "only {tried} shifts were tried");
    assert!(found_again * 8 >= tried * 7, "only {found_again} of {tried} were found again");
}

/// The core library of 2.1 is compiled ahead of time: its map from generic types to their canonical instantiations is
/// packed. Every entry must be a generic type of that very row.
#[test]
fn packed_maps_of_2_1_lead_to_the_types_of_their_rows() {
    /// From the map of TypeDef rows to that of generic types: dotnet/coreclr v2.1 `src/vm/ceeload.h`.
    const DISTANCE: u64 = 368;
    let dump = open("linux-x64-2.1-wks-heap.core.zst");
    let found = discover(&dump, &DiscoverOptions::default()).unwrap();
    let (space, l) = (&dump.space, &found.layout);
    let reader = MtReader::new(l).unwrap();
    let object = reader.read(space, space.ptr(l.global("ObjectMethodTable").unwrap()).unwrap()).unwrap();
    let at = object.module + l.offset("Module", "TypeDefToMethodTableMap").unwrap() + DISTANCE;
    assert_ne!(space.ptr_at(at, l.offset("ModuleLookupMap", "Index").unwrap()), Some(0), "the map is not packed");
    let map = LookupMap::at(space, l, at).unwrap();
    let mut generic = 0;
    for row in 0..map.count() {
        let Some(mt) = map.get(space, row).filter(|&m| m != 0) else { continue };
        let mt = reader.read(space, mt).unwrap();
        assert!(mt.rid == row && mt.is_generic() && reader.round_trips(space, &mt), "row {row}: {mt:x?}");
        generic += 1;
    }
    assert!(generic > 100, "only {generic} of {} rows", map.count());
}

/// Fields whose neighbour of the same kind serves as well, and so is not told from them.
const ALIKE: &[&str] = &[
    // The two forms of an image, mapped and as on disk: either has the metadata.
    "PEImage.LoadedImageLayout",
    "PEImage.FlatImageLayout",
    // Through 5.0 the image by identity and the image opened, the same one.
    "PEAssembly.PEImage",
];

/// In an image compiled ahead (2.1) every type counts as loaded: nothing tells flags of classes from their neighbours.
const AHEAD: (&str, &str) = ("linux-x64-2.1-wks-heap.core.zst", "DomainLocalModule.ClassFlags");

/// Types that lie in front of what they belong to: places count from their end.
const IN_FRONT: &[&str] = &["DynamicStaticsInfo", "ThreadStaticsInfo"];

/// Types whose members servicing builds add to, and those the algorithms lean on most.
const TAILED: &[&str] = &[
    "Thread",
    "ThreadStore",
    "Module",
    "AppDomain",
    "EEClass",
    "MethodTable",
    "DynamicStaticsInfo",
    "ThreadStaticsInfo",
    "DomainLocalModule",
    "PEImage",
    "PEAssembly",
    "HandleTable",
    "SyncBlock",
];

/// The document of a table with every field of `ty` named in it, the inherited ones too, those from `start` on moved.
fn moved_whole(json: &Value, right: &Layout, ty: &str, start: u64, shift: i64) -> Value {
    let mut json = json.clone();
    for (fact, value, _) in right.facts() {
        if let Some((t, field)) = fact.split_once('.')
            && t == ty
        {
            let at = if value >= start { value.checked_add_signed(shift).unwrap_or(value) } else { value };
            json["types"][ty][field] = Value::from(at);
        }
    }
    json
}

/// Tails of whole types, from each of their fields on, whoever names the field: what is believed afterwards is right.
#[test]
fn no_tail_of_a_type_that_moved_is_believed() {
    let outcomes: Vec<(usize, Vec<String>)> = std::thread::scope(|s| {
        let all: Vec<_> = DUMPS.iter().map(|(dump, name)| s.spawn(move || moved_tails(dump, name))).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let wrong: Vec<&String> = outcomes.iter().flat_map(|o| &o.1).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let tried: usize = outcomes.iter().map(|o| o.0).sum();
    assert!(tried > 100, "only {tried} shifts were tried");
}

fn moved_tails(dump: &str, name: &str) -> (usize, Vec<String>) {
    let (mut tried, mut wrong) = (0, Vec::new());
    let opened = open(dump);
    let table = TABLES.iter().find(|t| t.name == name).unwrap();
    let (right, json) = (table.layout(), table.json());
    for ty in TAILED {
        let facts: Vec<(String, u64)> = right
            .facts()
            .into_iter()
            .filter(|f| f.0.strip_prefix(ty).is_some_and(|r| r.starts_with('.')))
            .map(|(n, v, _)| (n, v))
            .collect();
        let mut starts: Vec<u64> = facts.iter().map(|f| f.1).collect();
        starts.sort_unstable();
        starts.dedup();
        let back = IN_FRONT.contains(ty);
        // Of long types every second field: each takes a discovery of its own.
        let step = if starts.len() > 6 { 2 } else { 1 };
        let starts: Vec<u64> = starts.into_iter().step_by(step).collect();
        for (start, shift) in starts.iter().flat_map(|s| [(*s, 8), (*s, -8)]).filter(|s| s.1 > 0 || back) {
            let case = format!("{dump}: {ty} moved by {shift} from {start} on");
            let replaced = vec![(table.name, moved_whole(&json, &right, ty, start, shift))];
            let options = DiscoverOptions { replaced, disabled: vec![Provider::Descriptor], ..Default::default() };
            tried += 1;
            let Ok(found) = discover(&opened, &options) else { continue };
            // What lies in front of another thing counts from its end: without that nothing is read.
            let place = |l: &Layout, field: &str| {
                let end = if back { l.try_offset(ty, "!")? } else { 0 };
                Some(l.try_offset(ty, field)?.wrapping_sub(end))
            };
            let told = |f: &&(String, u64)| !ALIKE.contains(&f.0.as_str()) && (dump, f.0.as_str()) != AHEAD;
            for (fact, value) in facts.iter().filter(told) {
                let field = &fact[ty.len() + 1..];
                if let Some(is) = place(&found.layout, field)
                    && Some(is) != place(&right, field)
                {
                    wrong.push(format!("{case}: {fact} is {is}, not {value}"));
                }
            }
        }
    }
    (tried, wrong)
}

/// No dump of Windows on arm64 was at hand. By the contract descriptor in the program file of 10.0.9 its structures are
/// those of x64: an x64 dump whose header says arm64 stands in for one, as far as structures go.
#[test]
fn a_dump_of_windows_on_arm64_gets_its_own_table() {
    const SYSTEM_INFO: u32 = 7;
    const ARM64: u16 = 12;
    let unpacked = open("win-x64-10.0-wks-full.dmp.zst").unpacked.unwrap();
    let mut bytes = std::fs::read(unpacked).unwrap();
    let word = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    let (streams, directory) = (word(&bytes, 8) as usize, word(&bytes, 12) as usize);
    let entry = (0..streams).map(|i| directory + 12 * i).find(|&e| word(&bytes, e) == SYSTEM_INFO).unwrap();
    let info = word(&bytes, entry + 8) as usize;
    bytes[info..info + 2].copy_from_slice(&ARM64.to_le_bytes());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    let dump = Dump::open(file.path(), &options, &Watch::default()).unwrap();
    let found = discover(&dump, &DiscoverOptions::default()).unwrap();
    assert_eq!(found.table.as_deref(), Some("coreclr-10.0-windows-arm64"));
    let failed: Vec<_> = found.checks.iter().filter(|c| c.verdict == Verdict::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(found.lost().is_empty());
}
