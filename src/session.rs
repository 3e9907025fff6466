//! The one shared dump session: opens lazily and caches between commands. Never prints.

mod lookup;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};

use crate::clr::fields::Field;
use crate::clr::finalizer::{self, FinalizerQueue};
use crate::clr::gathered::Gathered;
use crate::clr::layout::discover::{DiscoverOptions, discover};
use crate::clr::{Clr, NoRuntime};
use crate::dump::Dump;
use crate::heap::stat::HeapStat;
use crate::heap::{Heap, TypeRegistry, Walker};
use crate::watch::Watch;

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
    /// Cancellation and progress of this session.
    pub watch: Watch,
    clr: OnceLock<Result<Arc<Clr>, NoRuntime>>,
    types: TypeRegistry,
    heap: Lazy<Heap>,
    stat: Lazy<HeapStat>,
    finalizer: Lazy<Gathered<(u32, FinalizerQueue)>>,
    loaded: Lazy<LoadedTypes>,
    made: Lazy<MadeTypes>,
}

impl Session {
    /// A session over an opened dump.
    pub fn new(dump: Dump, watch: Watch) -> Self {
        Self {
            dump: Arc::new(dump),
            watch,
            clr: OnceLock::new(),
            types: TypeRegistry::default(),
            heap: Lazy::default(),
            stat: Lazy::default(),
            finalizer: Lazy::default(),
            loaded: Lazy::default(),
            made: Lazy::default(),
        }
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }

    /// The runtime, found at first need; the error says what was looked for.
    pub fn clr(&self) -> Result<&Arc<Clr>> {
        let found = self.clr.get_or_init(|| {
            let found = discover(&self.dump, &DiscoverOptions::default())?;
            let clr = Clr::new(self.dump.clone(), found).map_err(|m| NoRuntime::Refused(m.to_string()))?;
            Ok(Arc::new(clr))
        });
        found.as_ref().map_err(|e| anyhow!(e.clone()))
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
                match finalizer::read(clr, heap.finalize_queue)? {
                    Some(q) => out.items.push((heap.index, q)),
                    None => out.because(format!("the finalizer queue of heap {} is not in the dump", heap.index)),
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

    /// Address of the static field `field` of the type `mt`; `None` without storage.
    pub fn static_address(&self, _mt: u64, _field: &Field) -> Option<u64> {
        None
    }

    /// MethodTable of a field's declared type, when it is loaded.
    pub fn field_type(&self, field: &Field) -> Option<u64> {
        self.resolve_field_type(field).ok().flatten()
    }

    /// Managed thread id and recursion of the thin lock in the object's header, when one is held.
    pub fn thin_lock(&self, _object: u64) -> Option<(u32, u32)> {
        None
    }

    /// One line on the runtime for the banner: version, flavour, GC; or why there is none.
    pub fn describe_runtime(&self) -> String {
        let clr = match self.clr() {
            Ok(c) => c,
            Err(e) => return format!("{e}"),
        };
        let m = &clr.found.module;
        let flavour = if m.single_file { "single-file" } else { "CoreCLR" };
        let gc = if clr.found.gc.is_server() { "server GC" } else { "workstation GC" };
        let shape = if clr.found.gc.has_regions() { "regions" } else { "segments" };
        let version = m.version.clone().unwrap_or_else(|| format!("{}.{}", clr.found.era.0, clr.found.era.1));
        format!(".NET runtime {version} ({flavour}), {gc}, {shape}")
    }

    /// Type names and live objects for completion: only what is cached, never a walk.
    pub fn completions(&self) -> (Vec<Arc<str>>, Vec<u64>) {
        let Some(Ok(clr)) = self.clr.get() else { return (Vec::new(), Vec::new()) };
        if self.stat.value.get().is_none() {
            return (Vec::new(), Vec::new());
        }
        let mut names: Vec<Arc<str>> = self.types.all().iter().map(|t| clr.type_name(t.mt.address)).collect();
        names.sort_unstable();
        names.dedup();
        (names, Vec::new())
    }
}
