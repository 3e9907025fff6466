//! The one shared dump session: opens lazily and caches between commands. Never prints.

pub mod code;
mod complete;
mod describe;
pub mod dynamic;
pub mod enums;
mod errors;
pub mod failfast;
pub mod held;
pub mod initializers;
pub mod locks;
mod lookup;
mod memo;
pub mod mixed;
pub mod nativeowners;
mod nativereach;
pub mod ranges;
pub mod reach;
pub mod saved;
pub mod signature;
mod slots;
pub mod stacks;
pub mod tasks;
pub mod value;
pub mod waits;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};

use crate::aot;
use crate::clr::gathered::Gathered;
use crate::clr::layout::asks;
use crate::clr::layout::discover::{DiscoverOptions, discover};
use crate::clr::layout::version;
use crate::clr::runtime::finalizer::{self, FinalizerQueue};
use crate::clr::runtime::loaderheaps::{self, LoaderHeaps};
use crate::clr::types::fields::Field;
use crate::clr::types::statics;
use crate::clr::{Clr, NoRuntime};
use crate::dump::Dump;
use crate::graph::Adjacency;
use crate::graph::paths::Holders;
use crate::heap::check::HeapCheck;
use crate::heap::graph::ObjectGraph;
use crate::heap::index::ObjectIndex;
use crate::heap::retained::{GroupSize, Retained};
use crate::heap::roots::{self, Root, Stacks};
use crate::heap::stat::HeapStat;
use crate::heap::{Heap, TypeRegistry, Walker};
use crate::native::Native;
use crate::native::heaps::{self, NativeHeaps};
use crate::watch::{Interrupted, Watch};

pub use crate::clr::layout::discover::Provider;

pub use self::describe::About;
pub use self::lookup::{LoadedTypes, MadeTypes};

/// A value computed at first need and kept; an error or an interruption is not kept, so the next caller tries again.
#[derive(Debug, Default)]
struct Lazy<T> {
    value: OnceLock<T>,
    building: Mutex<()>,
}

impl<T> Lazy<T> {
    fn get(&self, build: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(v) = self.value.get() {
            return Ok(v);
        }
        let _one_builder = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if self.value.get().is_none() {
            let built = build()?;
            let _ = self.value.set(built);
        }
        self.value.get().ok_or_else(|| anyhow!("the value was not kept"))
    }
}

/// One open dump and everything computed from it so far.
#[derive(Debug)]
pub struct Session {
    dump: Arc<Dump>,
    saved: saved::Saved,
    /// Cancellation and progress of this session.
    pub watch: Watch,
    providers_off: Vec<Provider>,
    clr: OnceLock<Result<Arc<Clr>, NoRuntime>>,
    types: TypeRegistry,
    heap: Lazy<Heap>,
    stat: Lazy<HeapStat>,
    check: Lazy<HeapCheck>,
    finalizer: Lazy<Gathered<(u32, FinalizerQueue)>>,
    loader_heaps: Lazy<LoaderHeaps>,
    loaded: Lazy<LoadedTypes>,
    made: Lazy<MadeTypes>,
    instantiations: Lazy<Vec<u64>>,
    index: Lazy<ObjectIndex>,
    graph: Lazy<ObjectGraph>,
    reverse: Lazy<Adjacency>,
    roots: Lazy<Gathered<Root>>,
    scanned_roots: Lazy<Gathered<Root>>,
    reach: reach::Kept,
    dominators: Lazy<Retained>,
    live_types: Lazy<Vec<u32>>,
    retained_by_type: Lazy<Vec<GroupSize>>,
    static_slots: Lazy<Vec<(u64, Arc<str>)>>,
    thread_statics: Lazy<Vec<(u64, Arc<str>)>>,
    slot_names: slots::SlotNames,
    enums: enums::Kept,
    holders: Lazy<Holders>,
    locks: locks::Kept,
    all_waits: waits::Kept,
    async_methods: tasks::method::Kept,
    method_groups: tasks::method::Groups,
    native: OnceLock<Arc<Native>>,
    native_heaps: Lazy<NativeHeaps>,
    native_holds: Lazy<nativeowners::Holds>,
    native_reached: Lazy<Vec<bool>>,
    memo: memo::Memo,
}

impl Session {
    /// A session over an opened dump.
    pub fn new(dump: Dump, watch: Watch) -> Self {
        Self {
            dump: Arc::new(dump),
            saved: Default::default(),
            watch,
            providers_off: Vec::new(),
            clr: OnceLock::new(),
            types: TypeRegistry::default(),
            heap: Lazy::default(),
            stat: Lazy::default(),
            check: Lazy::default(),
            finalizer: Lazy::default(),
            loader_heaps: Lazy::default(),
            loaded: Lazy::default(),
            made: Lazy::default(),
            instantiations: Lazy::default(),
            index: Lazy::default(),
            graph: Lazy::default(),
            reverse: Lazy::default(),
            roots: Lazy::default(),
            scanned_roots: Lazy::default(),
            reach: Default::default(),
            dominators: Lazy::default(),
            live_types: Lazy::default(),
            retained_by_type: Lazy::default(),
            static_slots: Lazy::default(),
            thread_statics: Lazy::default(),
            slot_names: Default::default(),
            enums: Default::default(),
            holders: Lazy::default(),
            locks: Default::default(),
            all_waits: Default::default(),
            async_methods: Default::default(),
            method_groups: Default::default(),
            native: OnceLock::new(),
            native_heaps: Lazy::default(),
            native_holds: Lazy::default(),
            native_reached: Lazy::default(),
            memo: Default::default(),
        }
    }

    /// The same session, which does not ask these layout providers.
    #[must_use]
    pub fn without(mut self, providers: Vec<Provider>) -> Self {
        self.providers_off = providers;
        self
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }

    /// The runtime, found at first need; the error says what was looked for.
    pub fn clr(&self) -> Result<&Arc<Clr>> {
        let found = match self.clr.get() {
            Some(found) => found,
            None => {
                let found = self.discovered();
                if matches!(found, Err(NoRuntime::Interrupted)) {
                    return Err(Interrupted.into());
                }
                self.clr.get_or_init(|| found)
            }
        };
        found.as_ref().map_err(|e| anyhow!(e.clone()))
    }

    /// The native code of the process, with or without a runtime in it.
    pub fn native(&self) -> &Native {
        self.native.get_or_init(|| match self.clr() {
            Ok(clr) => clr.native().clone(),
            Err(_) => Arc::new(Native::new(self.dump.clone())),
        })
    }

    /// The blocks of native heaps. None is looked for in the runtime's own memory.
    pub fn native_heaps(&self) -> Result<&NativeHeaps> {
        self.native_heaps.get(|| {
            let taken = self.runtime_ranges()?;
            self.watch.progress.start("reading native heaps", 0);
            let heaps = heaps::read(&self.dump, &taken, &self.watch)?;
            self.watch.progress.finish();
            Ok(heaps)
        })
    }

    fn discovered(&self) -> Result<Arc<Clr>, NoRuntime> {
        let disabled = self.providers_off.clone();
        let options = DiscoverOptions { disabled, watch: self.watch.clone(), ..DiscoverOptions::default() };
        self.watch.progress.start("looking for the runtime", 0);
        let found = discover(&self.dump, &options);
        self.watch.progress.finish();
        let compiled_ahead = match &found {
            Err(NoRuntime::NotFound(_) | NoRuntime::Refused(_) | NoRuntime::NativeAot(_)) => {
                aot::open(&self.dump, &self.watch)
            }
            _ => None,
        };
        if found.is_err() && self.watch.cancel.is_set() {
            return Err(NoRuntime::Interrupted);
        }
        match compiled_ahead {
            Some(Ok(clr)) => return Ok(Arc::new(clr)),
            Some(Err(why)) => {
                let what = format!("{why}; native commands (!address, lm, dq) work");
                return Err(NoRuntime::NativeAot(what));
            }
            None => {}
        }
        let found = found?;
        let next = asks::next(&self.dump, &found.module, &self.providers_off);
        let clr = Clr::new(self.dump.clone(), found).map_err(|m| NoRuntime::Refused(format!("{m}; {next}")))?;
        Ok(Arc::new(clr))
    }

    /// The types met so far.
    pub fn types(&self) -> &TypeRegistry {
        &self.types
    }

    /// The heap's shape.
    pub fn heap(&self) -> Result<&Heap> {
        self.heap.get(|| {
            let clr = self.clr()?;
            Ok(Heap::read(clr, &clr.allocation_contexts())?)
        })
    }

    /// Finalizer queues by heap number, read at first need.
    pub fn finalizer_queues(&self) -> Result<&Gathered<(u32, FinalizerQueue)>> {
        self.finalizer.get(|| {
            let clr = self.clr()?;
            let mut out = Gathered::default();
            for heap in &self.heap()?.heaps {
                match finalizer::read(clr, heap.finalize_queue) {
                    // The rest of the heap is readable without.
                    Err(missing) => out.because(missing.to_string()),
                    Ok(Some(q)) => out.items.push((heap.index, q)),
                    Ok(None) => out.because(format!("the finalizer queue of heap {} is not in the dump", heap.index)),
                }
            }
            Ok(out)
        })
    }

    /// What a walk over the objects needs.
    pub fn walker(&self) -> Result<Walker<'_>> {
        Ok(Walker { clr: self.clr()?, heap: self.heap()?, types: &self.types, watch: &self.watch })
    }

    /// Statistics of the whole heap.
    pub fn stat(&self) -> Result<&HeapStat> {
        self.stat.get(|| Ok(HeapStat::collect(&self.walker()?)?))
    }

    /// The heap's invariants on a sample.
    pub fn heap_check(&self) -> Result<&HeapCheck> {
        self.check.get(|| Ok(HeapCheck::sample(&self.walker()?, self.finalizer_queues()?)?))
    }

    /// Which addresses are objects.
    pub fn index(&self) -> Result<&ObjectIndex> {
        self.index.get(|| {
            if let Some(index) = self.saved_index() {
                return Ok(index);
            }
            Ok(self.computed(ObjectIndex::build(&self.walker()?)?))
        })
    }

    /// All references. What asks about one object had better ask [`Session::ways_to`] and its like: they do with less.
    pub fn graph(&self) -> Result<&ObjectGraph> {
        self.graph.get(|| {
            if let Some(graph) = self.saved_graph(self.index()?.ids.len()) {
                return Ok(graph);
            }
            Ok(self.computed(ObjectGraph::build(&self.walker()?, self.index()?)?))
        })
    }

    /// What refers to each object.
    pub fn reverse(&self) -> Result<&Adjacency> {
        self.reverse.get(|| {
            let objects = self.index()?.ids.len();
            let (graph, saved) = rayon::join(|| self.graph(), || self.saved_reverse(objects));
            let graph = graph?;
            match saved.filter(|s| s.edges() == graph.forward.edges()) {
                Some(reverse) => Ok(reverse),
                None => Ok(self.computed(graph.reversed(&self.watch)?)),
            }
        })
    }

    /// All roots.
    pub fn roots(&self) -> Result<&Gathered<Root>> {
        self.roots.get(|| self.collect_roots(Stacks::Walked))
    }

    /// All roots, those of stacks found by looking at every word of them.
    pub fn scanned_roots(&self) -> Result<&Gathered<Root>> {
        self.scanned_roots.get(|| self.collect_roots(Stacks::Scanned))
    }

    fn collect_roots(&self, stacks: Stacks) -> Result<Gathered<Root>> {
        let closed = self.closed_types()?;
        Ok(roots::collect(&self.walker()?, self.index()?, self.finalizer_queues()?, &closed, stacks)?)
    }

    /// What holds each live object, on a shortest way from a root. Roots found conservatively hold only what no other does.
    pub fn holders(&self) -> Result<&Holders> {
        self.holders.get(|| {
            let ids = &self.index()?.ids;
            if let Some(holders) = self.saved_holders(ids.len()) {
                return Ok(holders);
            }
            let roots = &self.roots()?.items;
            // What a stack holds is held for a moment: another holder says more.
            let of = |guessed: bool| {
                roots.iter().filter(|r| r.is_stack() == guessed).filter_map(|r| ids.id_of(r.object)).collect::<Vec<_>>()
            };
            let late: Vec<u32> = self.late_holders().into_iter().filter_map(|a| ids.id_of(a)).collect();
            self.watch.progress.start("looking for holders", u64::from(ids.len()));
            let holders = Holders::build(&self.graph()?.forward, &[of(false), of(true)], &late, &self.watch)?;
            self.watch.progress.finish();
            Ok(self.computed(holders))
        })
    }

    /// The dominator tree of the live objects, with what each retains.
    pub fn dominators(&self) -> Result<&Retained> {
        self.dominators.get(|| {
            if let Some(retained) = self.saved_dominators(self.index()?.ids.len()) {
                return Ok(retained);
            }
            let (walker, roots) = (self.walker()?, &self.roots()?.items);
            let edges = (&self.graph()?.forward, self.reverse()?);
            Ok(self.computed(Retained::build(&walker, self.index()?, edges, roots)?))
        })
    }

    /// Type numbers of the live objects by their position in the dominator tree: 4 bytes an object.
    pub fn live_types(&self) -> Result<&Vec<u32>> {
        self.live_types.get(|| Ok(self.dominators()?.types(&self.walker()?, self.index()?)?))
    }

    /// What the live objects of each type retain, by type number.
    pub fn retained_by_type(&self) -> Result<&Vec<GroupSize>> {
        self.retained_by_type.get(|| {
            if let Some(sizes) = self.saved_histogram() {
                return Ok(sizes);
            }
            let retained = self.dominators()?;
            let types = self.live_types()?;
            let sizes = retained.by_group(|p| types.get(p as usize).copied(), self.types.len(), &self.watch)?;
            Ok(self.computed(sizes))
        })
    }

    /// Names of static reference fields by the address of their slot, sorted.
    pub fn static_slots(&self) -> Result<&Vec<(u64, Arc<str>)>> {
        self.static_slots.get(|| {
            let clr = self.clr()?;
            if let Some(ahead) = clr.ahead() {
                return Ok(ahead.static_slots(clr.native()));
            }
            let mut types: Vec<u64> =
                clr.assemblies().items.iter().flat_map(|a| clr.loaded_types(a.module).items).map(|t| t.1).collect();
            // Instantiations are in no map.
            types.extend(self.closed_types()?.iter().map(|t| t.address));
            types.sort_unstable();
            types.dedup();
            let mut slots = Vec::new();
            for mt in types {
                self.watch.cancel.check()?;
                let Some(table) = clr.valid_type(mt) else { continue };
                for f in clr.fields(mt).statics.iter().filter(|f| !f.desc.is_thread_static) {
                    let boxed = f.element.0 == crate::clr::types::fields::et::STRUCT;
                    if !(f.element.is_reference() || boxed) {
                        continue;
                    }
                    if let Some(at) = statics::place(clr, &table, &f.desc, true).address() {
                        slots.push((at, format!("{}.{}", clr.type_name(mt), f.name).into()));
                    }
                }
            }
            slots.sort_unstable();
            slots.dedup_by_key(|s: &mut (u64, Arc<str>)| s.0);
            Ok(slots)
        })
    }

    /// Name of the static field whose slot is at `address`.
    pub fn static_at(&self, address: u64) -> Option<Arc<str>> {
        let slots = self.static_slots().ok()?;
        slots.binary_search_by_key(&address, |s| s.0).ok().and_then(|i| slots.get(i)).map(|s| s.1.clone())
    }

    /// Address of the static field `field` of the type `mt`; `None` without storage.
    pub fn static_address(&self, mt: u64, field: &Field) -> Option<u64> {
        let clr = self.clr().ok()?;
        let reference = field.element.is_reference() || field.element.0 == crate::clr::types::fields::et::STRUCT;
        statics::place(clr, &clr.method_table(mt)?, &field.desc, reference).address()
    }

    /// MethodTable of a field's declared type, when it is loaded.
    pub fn field_type(&self, field: &Field) -> Option<u64> {
        if let Some(known) = field.found.get() {
            return *known;
        }
        // What was interrupted is looked for again.
        let found = self.resolve_field_type(field).ok()?;
        *field.found.get_or_init(|| found)
    }

    /// Ranges of memory the runtime owns, sorted by start: for telling them apart from the rest of the process.
    pub fn managed_ranges(&self) -> Result<Vec<ranges::ManagedRange>> {
        match self.clr() {
            Ok(_) => ranges::collect(self),
            // Native memory has its uses without a runtime.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Loader heaps and code heaps.
    pub fn loader_heaps(&self) -> Result<&LoaderHeaps> {
        self.loader_heaps.get(|| {
            let clr = self.clr()?;
            let gc = self.heap().map(ranges::reserved).unwrap_or_default();
            Ok(loaderheaps::find(clr, &gc, &self.watch)?)
        })
    }

    /// What is to be said of the layout providers: those refused, and what none of them answers.
    pub fn describe_providers(&self) -> Vec<String> {
        let Ok(clr) = self.clr() else { return Vec::new() };
        let mut lines = clr.found.warnings.clone();
        if !clr.found.gaps.is_empty() {
            lines.push(format!("no layout provider answers: {}", clr.found.gaps.join("; ")));
        }
        lines
    }

    /// Files of modules that hold a runtime of programs compiled ahead of time, beside CoreCLR.
    pub fn other_runtimes(&self) -> Vec<String> {
        let Ok(clr) = self.clr() else { return Vec::new() };
        let others = self.dump.modules.iter().filter(|m| clr.ahead().is_none() && !clr.found.module.holds(m.base));
        others.filter(|m| aot::header::is_in(&self.dump, m)).map(|m| m.file_name().to_owned()).collect()
    }

    /// What kind of runtime it is; `None` without one.
    pub fn flavour(&self) -> Option<&'static str> {
        let clr = self.clr().ok()?;
        Some(match clr.found.module.single_file {
            _ if clr.ahead().is_some() => "NativeAOT",
            _ if clr.found.is_framework() => "Framework",
            true => "single-file",
            false => "CoreCLR",
        })
    }

    /// One line on the runtime for the banner: version, flavour, GC; or why there is none.
    pub fn describe_runtime(&self) -> String {
        let clr = match self.clr() {
            Ok(c) => c,
            Err(e) => return format!("{e}"),
        };
        let flavour = self.flavour().unwrap_or("CoreCLR");
        let gc = if clr.found.gc.is_server() { "server GC" } else { "workstation GC" };
        let shape = if clr.found.gc.has_regions() { "regions" } else { "segments" };
        format!(".NET runtime {} ({flavour}), {gc}, {shape}", runtime_version(clr))
    }
}

/// The runtime's version as people know it.
fn runtime_version(clr: &Clr) -> String {
    let (m, era) = (&clr.found.module, clr.found.era);
    match &m.version {
        Some(version) => version::product(version, &m.path, era),
        None => format!("{}.{}", era.0, era.1),
    }
}
