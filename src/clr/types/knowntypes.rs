//! Types of the core library known by what they are, where no metadata names them: by shape, by what the runtime itself
//! keeps of them, by their place in the hierarchy. A type is named only when its proof leaves no other.

use rustc_hash::FxHashMap;

use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::runtime::handles::HandleKind;

/// `enum_flag_Category_Mask` over which a true primitive is 0x70000.
const PRIMITIVE: (u32, u32) = (0x000F_0000, 0x0007_0000);
/// `_HResult` of the exceptions the runtime allocates before they are needed, by their codes (winerror.h, corerror.h).
const STACK_OVERFLOW: u32 = 0x8007_03E9;
const EXECUTION_ENGINE: u32 = 0x8013_1506;
const OUT_OF_MEMORY: u32 = 0x8007_000E;
const THREAD_ABORT: u32 = 0x8013_1530;
/// Largest exception object looked at, in bytes.
const MAX_EXCEPTION: u64 = 0x100;

/// What is known without metadata.
#[derive(Debug, Clone, Default)]
pub struct KnownTypes {
    /// Names by MethodTable.
    pub names: FxHashMap<u64, &'static str>,
    /// Offset of `_HResult` in an exception object.
    pub hresult: Option<u64>,
}

impl Clr {
    /// Types that are known without metadata, read at first need.
    pub fn known_types(&self) -> &KnownTypes {
        self.known_types.get_or_init(|| {
            let mut finder = Finder {
                clr: self,
                core: self.method_table(self.known.object).map_or(0, |m| m.module),
                known: KnownTypes::default(),
            };
            if self.ahead().is_some() {
                return finder.known;
            }
            finder.bases();
            finder.exceptions();
            finder.threads();
            finder.loaders();
            finder.known
        })
    }
}

struct Finder<'a> {
    clr: &'a Clr,
    /// The core library's module.
    core: u64,
    known: KnownTypes,
}

impl Finder<'_> {
    fn name(&mut self, mt: u64, name: &'static str) {
        let of_core = self.clr.valid_method_table(mt).is_some_and(|m| m.module == self.core && !m.has_component_size());
        if of_core {
            self.known.names.entry(mt).or_insert(name);
        }
    }

    /// A class directly below `parent`.
    fn below(&self, mt: u64, parent: u64) -> bool {
        parent != 0 && self.clr.valid_method_table(mt).is_some_and(|m| m.parent == parent)
    }

    /// `System.ValueType` is above every primitive, `System.Enum` is the one class above value types that is not; every array
    /// has `System.Array` above it.
    fn bases(&mut self) {
        let (clr, object) = (self.clr, self.clr.known.object);
        let loaded = clr.loaded_types(self.core).items;
        let types: Vec<MethodTable> = loaded.iter().filter_map(|(_, mt)| clr.valid_method_table(*mt)).collect();
        let value_type = types.iter().find(|m| m.flags & PRIMITIVE.0 == PRIMITIVE.1).map_or(0, |m| m.parent);
        if !self.below(value_type, object) {
            return;
        }
        self.name(value_type, "System.ValueType");
        let above = types.iter().filter(|m| m.is_value_type() && m.parent != value_type).map(|m| m.parent);
        if let Some(of_enums) = above.clone().next().filter(|&e| above.clone().all(|p| p == e))
            && self.below(of_enums, value_type)
        {
            self.name(of_enums, "System.Enum");
        }
        let held = clr.handles().items.iter().filter(|h| h.object != 0).filter_map(|h| clr.object_type(h.object));
        let array =
            held.filter_map(|mt| clr.valid_method_table(mt)).find(MethodTable::is_array).map_or(0, |m| m.parent);
        if self.below(array, object) {
            self.name(array, "System.Array");
        }
    }

    /// The exceptions that must not need an allocation are held by strong handles: two of them, both two classes below the
    /// one below `System.Object`, with their codes at the same place, are proof of each other.
    fn exceptions(&mut self) {
        let (clr, object) = (self.clr, self.clr.known.object);
        let mut found: Vec<(u64, u64, u64)> = Vec::new();
        for h in clr.handles().items.iter().filter(|h| h.kind == HandleKind::STRONG && h.object != 0) {
            let Some(mt) = clr.object_type(h.object).and_then(|t| clr.valid_method_table(t)) else { continue };
            let base = clr.method_table(mt.parent).map_or(0, |p| p.parent);
            if mt.module == self.core && mt.contains_pointers() && self.below(base, object) {
                found.push((mt.address, mt.parent, h.object));
            }
        }
        let place = |of: u64, code: u32| {
            let end =
                self.clr.object_type(of).and_then(|t| self.clr.method_table(t)).map_or(0, |m| u64::from(m.base_size));
            (clr.header()..end.min(MAX_EXCEPTION))
                .step_by(4)
                .find(|&o| of.checked_add(o).and_then(|a| clr.space().u32(a)) == Some(code))
        };
        let with = |code: u32| found.iter().filter_map(move |f| Some((*f, place(f.2, code)?)));
        let pair = with(STACK_OVERFLOW)
            .flat_map(|s| with(EXECUTION_ENGINE).map(move |e| (s, e)))
            .find(|(s, e)| s.1 == e.1 && s.0.1 == e.0.1 && s.0.0 != e.0.0);
        let Some(((overflow, at), (engine, _))) = pair else { return };
        let system = overflow.1;
        let exception = clr.method_table(system).map_or(0, |m| m.parent);
        let others: Vec<(u64, &'static str)> =
            [(OUT_OF_MEMORY, "System.OutOfMemoryException"), (THREAD_ABORT, "System.Threading.ThreadAbortException")]
                .into_iter()
                .filter_map(|(code, name)| {
                    Some((with(code).find(|(f, place)| *place == at && f.1 == system)?.0.0, name))
                })
                .collect();
        self.name(overflow.0, "System.StackOverflowException");
        self.name(engine.0, "System.ExecutionEngineException");
        for (mt, name) in others {
            self.name(mt, name);
        }
        self.name(system, "System.SystemException");
        self.name(exception, "System.Exception");
        self.known.hresult = Some(at);
    }

    /// What the runtime's threads call their managed object is one sealed type.
    fn threads(&mut self) {
        let threads = self.clr.threads().items.iter().filter(|t| t.exposed_object != 0);
        let mut types: Vec<u64> = threads.filter_map(|t| self.clr.object_type(t.exposed_object)).collect();
        types.dedup();
        let Some(&[mt]) = types.first_chunk::<1>().filter(|_| types.len() == 1) else { return };
        self.name(mt, "System.Threading.Thread");
        let parent = self.clr.method_table(mt).map_or(0, |m| m.parent);
        if self.below(parent, self.clr.known.object) {
            self.name(parent, "System.Runtime.ConstrainedExecution.CriticalFinalizerObject");
        }
    }

    /// Loader allocators are found by the circle they make with the native ones.
    fn loaders(&mut self) {
        for a in self.clr.loader_allocators() {
            let (own, scout) = (self.clr.object_type(a.object), self.clr.object_type(a.scout));
            self.name(own.unwrap_or(0), "System.Reflection.LoaderAllocator");
            self.name(scout.unwrap_or(0), "System.Reflection.LoaderAllocatorScout");
        }
    }
}
