//! Assembly load contexts: which one an assembly was loaded into.
//!
//! A context is a native binder and, but for the default one that nobody asked for, a managed `AssemblyLoadContext` that
//! holds the binder's address (`_nativeAssemblyLoadContext`, dotnet/runtime v8.0.0
//! `src/libraries/System.Private.CoreLib/src/System/Runtime/Loader/AssemblyLoadContext.cs`). A `PEAssembly` holds the binder
//! too, itself (5.0 and later) or through the assembly the binder made (3.1). Where it stands moved with every release: the
//! pointer is looked for.

use rustc_hash::FxHashMap;

use crate::clr::Clr;

/// Names of the managed type: a program's own contexts derive from it.
pub const TYPE: &str = "System.Runtime.Loader.AssemblyLoadContext";
/// The type of the default one.
const DEFAULT: &str = "System.Runtime.Loader.DefaultAssemblyLoadContext";
/// Words of a `PEAssembly` looked at, and of what they point to.
const WORDS: u64 = 32;

/// A managed context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadContext {
    /// Address of the object.
    pub object: u64,
    /// Its MethodTable.
    pub method_table: u64,
    /// The native binder.
    pub binder: u64,
    /// Its name; `None` when it has none.
    pub name: Option<String>,
    /// Whether it can be unloaded.
    pub collectible: bool,
    /// Whether unloading has begun.
    pub unloading: bool,
}

/// The contexts of a process.
#[derive(Debug, Default)]
pub struct LoadContexts {
    /// All of them.
    pub items: Vec<LoadContext>,
    by_binder: FxHashMap<u64, usize>,
}

impl LoadContexts {
    /// These, found by their binders.
    pub fn new(items: Vec<LoadContext>) -> Self {
        let mut by_binder = FxHashMap::default();
        for (i, c) in items.iter().enumerate() {
            by_binder.entry(c.binder).or_insert(i);
        }
        Self { items, by_binder }
    }

    fn of_binder(&self, binder: u64) -> Option<&LoadContext> {
        self.items.get(*self.by_binder.get(&binder)?)
    }
}

impl Clr {
    /// Whether `mt` is a load context's type or derives from it.
    pub fn is_load_context(&self, mt: u64) -> bool {
        self.class_chain(mt).any(|m| &*self.type_name(m.address) == TYPE)
    }

    /// The context object at `object`.
    pub fn load_context_at(&self, object: u64) -> Option<LoadContext> {
        let mt = self.object_type(object)?;
        let fields = self.fields(mt);
        let place = |name: &str| {
            let field = fields.instance.iter().find(|f| &*f.name == name)?;
            object.checked_add(self.header())?.checked_add(field.offset())
        };
        let space = self.space();
        let binder = space.ptr(place("_nativeAssemblyLoadContext")?).filter(|&b| b != 0)?;
        let name = place("_name").and_then(|a| space.ptr(a)).filter(|&s| s != 0);
        // InternalState: Alive, Unloading.
        let state = place("_state").and_then(|a| space.u32(a)).unwrap_or(0);
        Some(LoadContext {
            object,
            method_table: mt,
            binder,
            name: name.and_then(|s| self.string_at(s, 1024)).map(|s| s.1),
            collectible: place("_isCollectible").and_then(|a| space.u8(a)).unwrap_or(0) != 0,
            unloading: state == 1,
        })
    }

    /// Which of `contexts` the module at `module` was loaded into; `None` for the default context without an object.
    pub fn load_context_of<'c>(&self, module: u64, contexts: &'c LoadContexts) -> Option<&'c LoadContext> {
        let (space, ptr) = (self.space(), self.header());
        let l = self.layout();
        let assembly = space.ptr_at(module, l.try_offset("Module", "PEAssembly")?).filter(|&a| a != 0)?;
        let words = |of: u64| (0..WORDS).map_while(move |i| space.ptr_at(of, i * ptr));
        let known = |w: u64| contexts.of_binder(w);
        words(assembly)
            .find_map(known)
            .or_else(|| {
                let inner = words(assembly).filter(|&w| w.is_multiple_of(ptr) && space.readable(w));
                inner.flat_map(words).find_map(known)
            })
            .or_else(|| {
                // Through 3.1 the core library has no binder; it is in the default context.
                let core = self.method_table(self.known.object)?.module;
                contexts.items.iter().find(|c| module == core && &*self.type_name(c.method_table) == DEFAULT)
            })
    }
}
