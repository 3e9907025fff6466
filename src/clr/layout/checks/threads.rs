//! Invariants of the thread store, threads, app domain.

use rustc_hash::FxHashSet;

use super::{Found, Probe};
use crate::clr::layout::arraylist;
use crate::clr::layout::threadlist::{self, End};
use crate::clr::runtime::threads::state;
use crate::clr::types::dynamicstatics::local_module;
use crate::clr::types::statics::local_block;

pub fn run(p: &mut Probe<'_>) {
    let list = list(p);
    if let Some(threads) = &list {
        ids(p, threads);
        states(p, threads);
        contexts(p, threads);
        objects(p, threads);
        in_flight(p, threads);
        super::frames::run(p, threads);
        statics_root(p, threads);
        thread_blocks(p, threads);
        collectible_entries(p, threads);
        super::locks::owners(p, threads);
        super::tails::starts(p, threads);
        let finalizer = p.variable("FinalizerThread").unwrap_or(0);
        let found = Found::when(finalizer == 0 || threads.contains(&finalizer), format!("{finalizer:x}"));
        // A variable that leads into a thread is the right one: then threads begin elsewhere.
        let field = if is_inside(finalizer, threads) { "Thread.LinkNext" } else { "&FinalizerThread" };
        p.record("finalizer thread", &[field], "one of the threads", found);
    }
    domain(p);
    dynamic_modules(p);
    let all = modules(p);
    super::tails::module_indexes(p, &all);
}

/// Whether `address` is none of the threads, but close to one.
pub fn is_inside(address: u64, threads: &[u64]) -> bool {
    const NEAR: u64 = 0x400;
    address != 0 && !threads.contains(&address) && threads.iter().any(|t| t.abs_diff(address) < NEAR)
}

/// How far the thread list may be from the count: in a dump written while the process ran on (6.0 and later, Windows) a
/// thread came or went between the two.
fn slack(count: u64) -> u64 {
    1 + count / 8
}

/// Threads by the list; records whether it closes.
fn list(p: &mut Probe<'_>) -> Option<Vec<u64>> {
    const FIELDS: &[&str] = &["&ThreadStore", "ThreadStore.FirstThreadLink", "Thread.LinkNext"];
    let walk = || {
        let store = p.variable("ThreadStore")?;
        let count = p.word(store, "ThreadStore", "ThreadCount")?;
        let list = threadlist::follow(p.dump, p.layout, store)?;
        (!matches!(list.end, End::Absent(_))).then_some((count, list.threads))
    };
    let (found, exact, threads) = match walk() {
        Some((count, threads)) => {
            let (count, listed) = (u64::from(count), threads.len() as u64);
            let ok = !threads.is_empty() && listed.abs_diff(count) <= slack(count.min(listed));
            let seen = format!("count {count}, list of {listed}");
            (Found::when(ok, seen.clone()), Found::when(listed == count, seen), ok.then_some(threads))
        }
        None if p.layout.try_offset("Thread", "LinkNext").is_none() => {
            let none = || Found::Absent("no provider names Thread.LinkNext".into());
            (none(), none(), None)
        }
        None => (Found::Bad("not readable".into()), Found::Bad("not readable".into()), None),
    };
    p.record("thread list", FIELDS, "about as many threads as the store counts", found);
    p.record("thread count", &["ThreadStore.ThreadCount"], "as many threads as the list has", exact);
    threads
}

fn ids(p: &mut Probe<'_>, threads: &[u64]) {
    let os: Vec<u64> =
        threads.iter().filter_map(|&t| p.field(t, "Thread", "OSId")).map(|v| u64::from(v as u32)).collect();
    let known: FxHashSet<u64> = p.dump.threads.iter().map(|t| t.os_id).collect();
    let living: Vec<u64> = os.iter().copied().filter(|&id| id != 0).collect();
    let strangers = living.iter().filter(|id| !known.contains(id)).count();
    let distinct: FxHashSet<_> = living.iter().collect();
    let ok = os.len() == threads.len()
        && !living.is_empty()
        && strangers * 4 <= living.len()
        && distinct.len() == living.len();
    let seen = format!("{} of {} known to the dump", living.len() - strangers, living.len());
    p.record(
        "operating system ids",
        // A wrong offset of the link moves every thread: then neither kind of id is one.
        &["Thread.OSId", "Thread.LinkNext"],
        "ids of threads in the dump, 0 when ended",
        Found::when(ok, seen),
    );
    let managed: Vec<u32> = threads.iter().filter_map(|&t| p.word(t, "Thread", "Id")).collect();
    let distinct: FxHashSet<_> = managed.iter().collect();
    let small = managed.iter().all(|&id| (1..1 << 20).contains(&id));
    let ok = managed.len() == threads.len() && distinct.len() == managed.len() && small;
    p.record(
        "managed ids",
        &["Thread.Id", "Thread.LinkNext"],
        "distinct and small",
        Found::when(ok, format!("{managed:?}")),
    );
}

fn states(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] =
        &["Thread.State", "ThreadStore.UnstartedCount", "ThreadStore.BackgroundCount", "ThreadStore.DeadCount"];
    let states: Vec<u32> = threads.iter().filter_map(|&t| p.word(t, "Thread", "State")).collect();
    let with = |bit: u32| states.iter().filter(|s| *s & bit != 0).count() as u32;
    let Some(store) = p.variable("ThreadStore") else { return };
    let count = |f| p.word(store, "ThreadStore", f);
    let counted = (count("UnstartedCount"), count("BackgroundCount"), count("DeadCount"));
    // Ended threads lose their background bit's meaning: the store counts only living ones.
    let living_background =
        states.iter().filter(|s| **s & state::BACKGROUND != 0 && **s & (state::DEAD | state::UNSTARTED) == 0).count()
            as u32;
    let seen = (with(state::UNSTARTED), living_background, with(state::DEAD));
    // A thread that starts or ends while the dump is written is counted on one side only: one of three may be off by one.
    let off: u32 = [(counted.0, seen.0), (counted.1, seen.1), (counted.2, seen.2)]
        .iter()
        .map(|(a, b)| a.map_or(u32::MAX, |a| a.abs_diff(*b)))
        .fold(0, u32::saturating_add);
    let ok = states.len() == threads.len() && off <= 1;
    let found = Found::when(ok, format!("(unstarted, background, dead) counted {counted:?}, by state bits {seen:?}"));
    p.record("thread states", FIELDS, "counts equal the state bits", found);
}

fn contexts(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] = &[
        "Thread.AllocContext",
        "Thread.RuntimeThreadLocals",
        "RuntimeThreadLocals.AllocContext",
        "EEAllocContext.GCAllocationContext",
        "GCAllocContext.Pointer",
        "GCAllocContext.Limit",
    ];
    let all: Vec<(u64, u64)> = threads.iter().filter_map(|&t| context(p, t)).collect();
    let sane = |c: &(u64, u64)| {
        *c == (0, 0)
            || (c.0 <= c.1
                && c.1 - c.0 < 1 << 30
                && c.0.is_multiple_of(p.ptr())
                && c.0 > 0x1_0000
                && (p.mini || p.space().readable(c.0 - 1)))
    };
    let bad = all.iter().find(|c| !sane(c));
    let found = match bad {
        Some(c) => Found::Bad(format!("{:x}-{:x}", c.0, c.1)),
        None if all.is_empty() => Found::Absent("no thread's context is in the dump".into()),
        None => Found::Good(format!("{} contexts, {} in use", all.len(), all.iter().filter(|c| c.0 != 0).count())),
    };
    p.record("allocation contexts", FIELDS, "both zero, or a short range of readable memory", found);
}

/// The allocation context of a thread, zeros when it has none.
fn context(p: &Probe<'_>, thread: u64) -> Option<(u64, u64)> {
    let at = match p.layout.try_offset("Thread", "AllocContext") {
        Some(o) => thread.checked_add(o)?,
        None => {
            let locals = p.field(thread, "Thread", "RuntimeThreadLocals")?;
            if locals == 0 {
                return Some((0, 0));
            }
            let inner = p.layout.try_offset("EEAllocContext", "GCAllocationContext").unwrap_or(0);
            locals.checked_add(p.layout.try_offset("RuntimeThreadLocals", "AllocContext")? + inner)?
        }
    };
    Some((p.field(at, "GCAllocContext", "Pointer")?, p.field(at, "GCAllocContext", "Limit")?))
}

impl Probe<'_> {
    /// The core library's module, 0 when it is not known.
    pub fn core_module(&self) -> u64 {
        core_module(self)
    }

    /// Modules of the app domain.
    pub fn modules(&self) -> Vec<u64> {
        modules(self)
    }

    /// Allocation contexts of all threads.
    pub fn contexts(mut self) -> Vec<(u64, u64)> {
        let threads = list(&mut self).unwrap_or_default();
        threads.iter().filter_map(|&t| context(&self, t)).collect()
    }
}

fn objects(p: &mut Probe<'_>, threads: &[u64]) {
    for (name, field, one_type) in
        [("Thread objects", "GCHandle", true), ("last thrown exceptions", "LastThrownObject", false)]
    {
        if p.layout.try_offset("Thread", field).is_none() {
            continue;
        }
        let handles: Vec<u64> =
            threads.iter().filter_map(|&t| p.field(t, "Thread", field)).filter(|&h| h != 0).collect();
        let objects: Vec<Option<u64>> = handles.iter().map(|&h| p.space().ptr(h)).collect();
        let unreadable = objects.iter().filter(|o| o.is_none()).count();
        let objects: Vec<u64> = objects.into_iter().flatten().filter(|&o| o != 0).collect();
        let right = objects.iter().filter(|&&o| p.is_object(o)).count();
        let types: FxHashSet<u64> = objects.iter().filter_map(|&o| p.space().ptr(o)).collect();
        let ok =
            unreadable == 0 && right == objects.len() && (!one_type || types.len() <= 1) && (!one_type || right > 0);
        let seen = format!("{right} of {} handles lead to objects of {} types", handles.len(), types.len());
        let path: &[&str] = if one_type { &["Thread.GCHandle"] } else { &["Thread.LastThrownObject"] };
        let found = if unreadable > 0 && right == 0 && handles.iter().all(|h| !p.space().readable(*h) && *h > 0x1_0000)
        {
            Found::Absent("the handles are not in the dump".into())
        } else if one_type && unreadable == 0 && objects.is_empty() && distinct(&handles) {
            // A program that never asked for `Thread.CurrentThread` (the first seconds of 8.0.27).
            Found::Absent("no thread has its object yet".into())
        } else {
            Found::when(ok, seen)
        };
        p.record(name, path, if one_type { "objects of one type" } else { "objects or null" }, found);
    }
}

/// Exceptions a thread is handling: a chain of `ExInfo` on its stack, each with the object or, through 10.0, a handle of
/// it. Source: dotnet/runtime `src/coreclr/vm/exinfo.h`.
fn in_flight(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] =
        &["Thread.ExceptionTracker", "ExceptionInfo.PreviousNestedInfo", "ExceptionInfo.ThrownObject"];
    if FIELDS.iter().any(|f| f.split_once('.').is_none_or(|(ty, name)| p.layout.try_offset(ty, name).is_none())) {
        return;
    }
    let infos: Vec<u64> =
        threads.iter().filter_map(|&t| p.field(t, "Thread", "ExceptionTracker")).filter(|&i| i != 0).collect();
    let thrown = |info: u64| p.field(info, "ExceptionInfo", "ThrownObject");
    let object = |v: u64| v == 0 || p.is_object(v) || p.space().ptr(v).is_some_and(|o| o == 0 || p.is_object(o));
    let right = infos.iter().filter(|&&i| thrown(i).is_some_and(object)).count();
    let unread = infos.iter().filter(|&&i| thrown(i).is_none()).count();
    let found = match infos.len() {
        0 => Found::Absent("no exception is in flight".into()),
        n if unread == n && p.mini => Found::Absent("what is thrown is not in the dump".into()),
        n => Found::when(right == n || p.mini && right + unread == n, format!("{right} of {n} lead to an object")),
    };
    p.record("exceptions in flight", FIELDS, "objects or null", found);
}

/// Whether there are any, no two alike.
fn distinct(values: &[u64]) -> bool {
    !values.is_empty() && values.iter().collect::<FxHashSet<_>>().len() == values.len()
}

fn statics_root(p: &mut Probe<'_>, threads: &[u64]) {
    for (field, path) in
        [("ThreadLocalDataPtr", "Thread.ThreadLocalDataPtr"), ("ThreadLocalBlock", "Thread.ThreadLocalBlock")]
    {
        if p.layout.try_offset("Thread", field).is_none() {
            continue;
        }
        let root = |t| match field {
            "ThreadLocalBlock" => match local_block(p.space(), p.layout, t)? {
                0 => Some(0),
                block => p.field(block, "ThreadLocalBlock", "Table"),
            },
            _ => p.field(t, "Thread", field),
        };
        let all: Vec<(u64, u64)> = threads.iter().filter_map(|&t| Some((t, root(t)?))).collect();
        let roots: Vec<u64> = all.iter().map(|a| a.1).collect();
        // A mini dump has the threads and not what they lead to.
        let there = |r: u64| p.space().readable(r) || p.mini && p.plausible(r);
        let bad = roots.iter().find(|&&r| r != 0 && !(r.is_multiple_of(p.ptr()) && there(r)));
        let used: Vec<u64> = roots.iter().copied().filter(|&r| r != 0).collect();
        let held: Vec<Option<usize>> = all
            .iter()
            .filter(|a| a.1 != 0)
            .map(|&(t, r)| if field == "ThreadLocalBlock" { blocks_of(p, t, r) } else { entries_of(p, r) })
            .collect();
        let objects: usize = held.iter().flatten().sum();
        let found = match bad {
            Some(b) => Found::Bad(format!("{b:x}")),
            None if held.contains(&None) && !p.mini => Found::Bad("what it leads to is no storage".into()),
            None => {
                let ok = !used.is_empty() && roots.len() == threads.len() && (objects > 0 || p.mini || p.collecting());
                Found::when(
                    ok,
                    format!("{} of {} threads have one, {objects} objects in them", used.len(), roots.len()),
                )
            }
        };
        p.record("thread statics", &[path], "storage of statics or null, set for some thread", found);
    }
}

/// Entries looked at of one thread's table.
const ENTRIES: u64 = 256;

/// Objects in the storage of a thread since 9.0: a count, then a table of objects. `None` when it is no such storage.
fn entries_of(p: &Probe<'_>, data: u64) -> Option<usize> {
    let count = p.word(data, "ThreadLocalData", "NonCollectibleTlsDataCount")?;
    let array = p.field(data, "ThreadLocalData", "NonCollectibleTlsArrayData")?;
    if count > 1 << 20 || (count == 0) != (array == 0) {
        return None;
    }
    if count == 0 {
        return Some(0);
    }
    // The table is an array itself: its MethodTable and length take the first two indices.
    if !p.is_object(array) {
        return if p.mini || p.collecting() { Some(0) } else { None };
    }
    let mut objects = 0;
    for i in 2..u64::from(count).min(ENTRIES) {
        match p.space().ptr_at(array, i * p.ptr())? {
            0 => {}
            o if p.is_object(o) => objects += 1,
            _ if p.collecting() => {}
            _ => return None,
        }
    }
    Some(objects)
}

/// Objects in the storage of a thread through .NET 8: a table of blocks by module and its length, each block with the
/// handle of an array. The core library's block is at its index, which its `DomainLocalModule` knows.
fn blocks_of(p: &Probe<'_>, thread: u64, table: u64) -> Option<usize> {
    let local = local_module(p.space(), p.layout, core_module(p))?;
    let index = p.word(local, "DomainLocalModule", "ModuleIndex")?;
    let storage = local_block(p.space(), p.layout, thread)?;
    let length = p.field(storage, "ThreadLocalBlock", "Size")?;
    if length > 1 << 16 {
        return None;
    }
    if u64::from(index) >= length {
        return Some(0);
    }
    let block = p.space().ptr_at(table, u64::from(index) * p.ptr())?;
    if block == 0 {
        return Some(0);
    }
    let handle = p.field(block, "ThreadLocalModule", "GCStatics")?;
    match handle {
        0 => Some(0),
        h => p.space().ptr(h).filter(|&o| o != 0 && p.is_object(o)).map(|_| 1),
    }
}

/// Through .NET 8: a thread's table of blocks has some entries, all of them in the dump.
fn thread_blocks(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] = &["ThreadLocalBlock.Table", "ThreadLocalBlock.Size"];
    if p.layout.try_offset("Thread", "ThreadLocalBlock").is_none() {
        return;
    }
    let tables: Vec<(u64, u64)> = threads
        .iter()
        .filter_map(|&t| local_block(p.space(), p.layout, t).filter(|&b| b != 0))
        .filter_map(|b| Some((p.field(b, "ThreadLocalBlock", "Table")?, p.field(b, "ThreadLocalBlock", "Size")?)))
        .collect();
    let sound = |&(table, size): &(u64, u64)| match table {
        0 => size == 0,
        _ => (1..1 << 16).contains(&size) && (p.space().readable(table) || p.mini && p.plausible(table)),
    };
    let found = match tables.iter().find(|t| !sound(t)) {
        Some((table, size)) => Found::Bad(format!("{size} blocks at {table:x}")),
        None if tables.is_empty() => Found::Absent("no thread is in the dump".into()),
        None => Found::Good(format!("{} threads", tables.len())),
    };
    p.record("thread statics by module", FIELDS, "none, or a readable table of some blocks", found);
}

/// Since 9.0: as many entries of collectible types as there is a table for.
fn collectible_entries(p: &mut Probe<'_>, threads: &[u64]) {
    const FIELDS: &[&str] = &["ThreadLocalData.CollectibleTlsDataCount"];
    let Some(count) = p.layout.try_offset("ThreadLocalData", "CollectibleTlsDataCount") else { return };
    let data = threads.iter().filter_map(|&t| p.field(t, "Thread", "ThreadLocalDataPtr")).filter(|&d| d != 0);
    let entries: Vec<(u32, u64)> = data
        .filter_map(|d| {
            Some((p.space().u32(d.checked_add(count)?)?, p.field(d, "ThreadLocalData", "CollectibleTlsArrayData")?))
        })
        .collect();
    let found = match entries.iter().find(|(n, table)| (*n == 0) != (*table == 0) || *n >= 1 << 24) {
        Some((n, table)) => Found::Bad(format!("{n} entries at {table:x}")),
        None if entries.is_empty() => Found::Absent("no thread's data is in the dump".into()),
        None => Found::Good(format!("{} threads", entries.len())),
    };
    p.record("thread statics of collectible types", FIELDS, "a table where there are entries, else none", found);
}

fn domain(p: &mut Probe<'_>) {
    if p.layout.constant("InlineVtables").is_ok() && p.layout.try_offset("AppDomain", "DomainAssemblyList").is_none() {
        // Which list of CLR 2.0's app domain it is, is found or not told.
        return;
    }
    const FIELDS: &[&str] = &[
        "&AppDomain",
        "AppDomain.DomainAssemblyList",
        "ArrayListBase.FirstBlock",
        "ArrayListBlock.ArrayStart",
        "ArrayListBlock.Size",
        "DomainAssembly.Module",
        "DomainAssembly.Assembly",
        "Assembly.Module",
    ];
    let core = core_module(p);
    let found = match first_assembly(p) {
        Some((count, size, module)) => {
            let ok = module == core && (1..1 << 16).contains(&count) && (1..1 << 16).contains(&size);
            Found::when(ok, format!("{count} assemblies, block of {size}, first module {module:x}"))
        }
        None => p.unreadable("not readable".into()),
    };
    p.record("assemblies of the app domain", FIELDS, format!("the first is the core library's module {core:x}"), found);
}

fn core_module(p: &Probe<'_>) -> u64 {
    p.variable("ObjectMethodTable").and_then(|a| p.mt(a)).map_or(0, |m| m.module)
}

/// Module of an item of the app domain's list.
pub fn module_of(p: &Probe<'_>, item: u64) -> Option<u64> {
    match p.layout.try_offset("DomainAssembly", "Module") {
        Some(o) => p.space().ptr_at(item, o),
        None => p.field(p.field(item, "DomainAssembly", "Assembly")?, "Assembly", "Module"),
    }
}

/// Number of assemblies, slots of the list's first block, module of its first item.
fn first_assembly(p: &Probe<'_>) -> Option<(u32, u32, u64)> {
    let list = p.variable("AppDomain")?.checked_add(p.layout.try_offset("AppDomain", "DomainAssemblyList")?)?;
    let count = p.word(list, "ArrayListBase", "Count")?;
    let block = list.checked_add(p.layout.try_offset("ArrayListBase", "FirstBlock")?)?;
    let size = p.word(block, "ArrayListBlock", "Size")?;
    let item = p.space().ptr_at(block, p.layout.try_offset("ArrayListBlock", "ArrayStart")?)?;
    Some((count, size, module_of(p, item)?))
}

impl Probe<'_> {
    /// How many modules the layout's list of assemblies has, if it is one: its first item is the core library, and it
    /// has as many as it says.
    pub fn assembly_list(&self) -> Option<usize> {
        let core = core_module(self);
        let (count, size, module) = first_assembly(self)?;
        let shaped = core != 0 && module == core && (1..1 << 16).contains(&count) && (1..1 << 16).contains(&size);
        let all = if shaped { modules(self) } else { Vec::new() };
        let distinct: FxHashSet<&u64> = all.iter().collect();
        let whole = shaped && all.len() == count.min(MOST_MODULES) as usize && distinct.len() == all.len();
        whole.then_some(all.len())
    }
}

/// Modules made at run time have no image, but metadata of their own.
fn dynamic_modules(p: &mut Probe<'_>) {
    if p.layout.try_offset("Module", "DynamicMetadata").is_none() {
        return;
    }
    let made: Vec<u64> = modules(p).into_iter().filter(|&m| !has_image(p, m)).collect();
    let ok = |m: &u64| {
        let record = p.field(*m, "Module", "DynamicMetadata").filter(|&r| r != 0)?;
        let data = match p.layout.try_offset("DynamicMetadata", "DataPointer") {
            Some(o) => p.space().ptr_at(record, o)?,
            None => record.checked_add(p.layout.try_offset("DynamicMetadata", "Data")?)?,
        };
        (p.space().u32(data)? == u32::from_le_bytes(*b"BSJB")).then_some(())
    };
    let right = made.iter().filter_map(ok).count();
    let found = match made.len() {
        0 => Found::Absent("no module was made at run time".into()),
        _ if right == 0 && p.mini => Found::Absent("no metadata of such a module is in the dump".into()),
        // Some are so new that nothing was saved yet.
        n => Found::when(right > 0, format!("{right} of {n} modules")),
    };
    p.record("metadata of dynamic modules", &["Module.DynamicMetadata"], "a metadata signature", found);
}

/// Whether the module has an image, in the dump or not; taken to have one where what tells is not in the dump.
fn has_image(p: &Probe<'_>, module: u64) -> bool {
    match p.field(module, "Module", "PEAssembly") {
        Some(0) => false,
        Some(assembly) => p.field(assembly, "PEAssembly", "PEImage") != Some(0),
        None => true,
    }
}

/// Modules looked at.
const MOST_MODULES: u32 = 4096;

/// Modules of the app domain.
fn modules(p: &Probe<'_>) -> Vec<u64> {
    let assemblies = || {
        let list = p.variable("AppDomain")?.checked_add(p.layout.try_offset("AppDomain", "DomainAssemblyList")?)?;
        Some(arraylist::items(p.space(), p.layout, list, MOST_MODULES as usize)?.items)
    };
    let modules = assemblies().unwrap_or_default().into_iter().filter_map(|a| module_of(p, a));
    modules.filter(|&m| m != 0).collect()
}
