//! The runtime in the dump: layout providers, MethodTables, modules and metadata, names, fields, threads, handles.

pub mod ahead;
pub mod code;
pub mod gathered;
pub mod il;
pub mod image;
pub mod layout;
pub mod runtime;
pub mod types;

use std::sync::{Arc, OnceLock};

use self::ahead::Ahead;
use self::gathered::Gathered;
use self::layout::report::Discovered;
use self::layout::{Layout, Missing};
use self::runtime::delegates::DelegateShape;
use self::runtime::domains::LoadedAssembly;
use self::runtime::handles::Handle;
use self::runtime::loaderallocators::LoaderAllocators;
use self::runtime::syncblocks::SyncBlock;
use self::runtime::threads::ClrThread;
use self::types::knowntypes::KnownTypes;
use self::types::methodtable::{MethodTable, MtReader};
use crate::dump::{AddressSpace, Dump};
use crate::native::Native;

pub use self::layout::report::NoRuntime;

/// MethodTables every runtime has.
#[derive(Debug, Clone, Copy, Default)]
pub struct WellKnown {
    /// `System.Object`.
    pub object: u64,
    /// `System.String`.
    pub string: u64,
    /// The type of free blocks.
    pub free: u64,
    /// `System.RuntimeType`.
    pub runtime_type: u64,
}

/// The runtime of a dump, opened.
#[derive(Debug)]
pub struct Clr {
    /// The dump it lives in.
    pub dump: Arc<Dump>,
    /// What discovery found: module, GC variables, layout, providers, checks.
    pub found: Discovered,
    /// Well-known types.
    pub known: WellKnown,
    mts: MtReader,
    names: types::names::Names,
    modules: image::modules::Modules,
    field_cache: types::fields::FieldCache,
    handles: OnceLock<Gathered<Handle>>,
    sync_blocks: OnceLock<Gathered<SyncBlock>>,
    threads: OnceLock<Gathered<ClrThread>>,
    assemblies: OnceLock<Gathered<LoadedAssembly>>,
    loader_allocators: OnceLock<LoaderAllocators>,
    known_types: OnceLock<KnownTypes>,
    code: OnceLock<code::lookup::CodeTables>,
    entries: OnceLock<code::entries::Entries>,
    stacks: code::stack::Stacks,
    delegate_shape: OnceLock<Result<DelegateShape, String>>,
    native: OnceLock<Arc<Native>>,
    ahead: Option<Box<dyn Ahead>>,
}

impl Clr {
    /// Wraps a discovered CoreCLR.
    pub fn new(dump: Arc<Dump>, found: Discovered) -> Result<Self, Missing> {
        let cell = |name: &str| found.layout.global(name).ok().and_then(|a| dump.space.ptr(a)).unwrap_or(0);
        let known = WellKnown {
            object: cell("ObjectMethodTable"),
            string: cell("StringMethodTable"),
            free: cell("FreeObjectMethodTable"),
            runtime_type: cell("RuntimeTypeMethodTable"),
        };
        let mts = MtReader::new(&found.layout)?;
        Ok(Self::open(dump, found, mts, known, None))
    }

    /// Wraps the discovered runtime of a program compiled ahead of time.
    pub fn compiled_ahead(dump: Arc<Dump>, found: Discovered, ahead: Box<dyn Ahead>) -> Self {
        let known = ahead.known();
        Self::open(dump, found, MtReader::default(), known, Some(ahead))
    }

    fn open(
        dump: Arc<Dump>,
        found: Discovered,
        mts: MtReader,
        known: WellKnown,
        ahead: Option<Box<dyn Ahead>>,
    ) -> Self {
        Self {
            known,
            mts,
            names: types::names::Names::default(),
            modules: image::modules::Modules::default(),
            field_cache: types::fields::FieldCache::default(),
            handles: OnceLock::new(),
            sync_blocks: OnceLock::new(),
            threads: OnceLock::new(),
            assemblies: OnceLock::new(),
            loader_allocators: OnceLock::new(),
            known_types: OnceLock::new(),
            code: OnceLock::new(),
            entries: OnceLock::new(),
            stacks: code::stack::Stacks::default(),
            delegate_shape: OnceLock::new(),
            native: OnceLock::new(),
            ahead,
            found,
            dump,
        }
    }

    /// Where the program was compiled ahead of time (NativeAOT): its runtime. `None` of CoreCLR.
    pub fn ahead(&self) -> Option<&dyn Ahead> {
        self.ahead.as_deref()
    }

    /// The native code of the process.
    pub fn native(&self) -> &Arc<Native> {
        self.native.get_or_init(|| Arc::new(Native::new(self.dump.clone())))
    }

    /// The readable memory.
    #[inline]
    pub fn space(&self) -> &AddressSpace {
        &self.dump.space
    }

    /// The layout in force.
    pub fn layout(&self) -> &Layout {
        &self.found.layout
    }

    /// Simple name of the assembly that defines `System.Object`.
    pub fn core_library(&self) -> &str {
        self.layout().text("CoreLibrary").unwrap_or("System.Private.CoreLib")
    }

    /// The offsets of a MethodTable.
    pub fn mts(&self) -> &MtReader {
        &self.mts
    }

    /// Bytes in a pointer.
    #[inline]
    pub fn ptr_size(&self) -> u8 {
        self.dump.space.ptr_size()
    }

    /// Reads the MethodTable at `address` without judging it.
    pub fn method_table(&self, address: u64) -> Option<MethodTable> {
        match &self.ahead {
            Some(ahead) => ahead.method_table(address),
            None => self.mts.read(self.space(), address),
        }
    }

    /// The MethodTable at `address` if it is one: the free type, or a type whose EEClass points back.
    pub fn valid_method_table(&self, address: u64) -> Option<MethodTable> {
        let mt = self.method_table(address)?;
        let ptr = u32::from(self.ptr_size());
        if address == self.known.free {
            return Some(mt);
        }
        if let Some(ahead) = &self.ahead {
            return ahead.is_type(&mt).then_some(mt);
        }
        // An instance has at least header and MethodTable (interfaces have none: their size is 0); the largest fixed part
        // of a class fits 16 bits of fields.
        let sane = (mt.base_size >= 2 * ptr || mt.is_interface()) && mt.base_size < 1 << 24;
        (sane && self.mts.round_trips(self.space(), &mt)).then_some(mt)
    }

    /// As [`Clr::valid_method_table`], interfaces included: they have no instances and so no size.
    pub fn valid_type(&self, address: u64) -> Option<MethodTable> {
        let interface = |m: &MethodTable| m.is_interface() && m.base_size == 0 && self.mts.round_trips(self.space(), m);
        self.valid_method_table(address).or_else(|| self.method_table(address).filter(interface))
    }

    /// The module at `address`, read at first sight.
    pub fn module(&self, address: u64) -> Arc<image::modules::Module> {
        self.modules.get(self, address)
    }

    /// TypeDef row of the type in its defining module.
    pub fn type_rid(&self, mt: &MethodTable) -> u32 {
        if self.ahead.is_some() {
            return 0;
        }
        if !self.mts.token_overflows(mt) {
            return mt.rid;
        }
        // Through .NET 8 a token that does not fit 16 bits is the last optional member, behind the multipurpose slots.
        let at = self.mts.optional_members(mt, self.header());
        self.space().ptr(at).map_or(mt.rid, |v| v as u32 & 0x00FF_FFFF)
    }

    /// Address of the module whose metadata defines the type.
    pub fn defining_module(&self, mt: &MethodTable) -> Option<u64> {
        /// `enum_flag_HasModuleOverride` among the multipurpose slots.
        const MODULE_OVERRIDE: u32 = 0x10;
        if self.mts.module_is_defining() || !(mt.is_generic() || mt.is_array()) {
            return Some(mt.module).filter(|&m| m != 0);
        }
        // Through .NET 8 the field is the loader module; the definition's module of an instantiation is in a slot of
        // the canonical MethodTable when it differs.
        let canonical = self.mts.canonical(mt);
        let of = if mt.is_array() { *mt } else { self.method_table(canonical)? };
        let slot = self.mts.multipurpose_slot(&of, MODULE_OVERRIDE, self.header());
        let read = |s| self.layout().pointer_at(self.space(), s, "MethodTable", "ModuleOverride");
        slot.and_then(read).or(Some(of.module)).filter(|&m| m != 0)
    }

    /// Managed threads, read at first need.
    pub fn threads(&self) -> &Gathered<ClrThread> {
        self.threads.get_or_init(|| {
            if let Some(ahead) = &self.ahead {
                return ahead.threads(self.native());
            }
            runtime::threads::read(self)
                .unwrap_or_else(|m| Gathered { items: Vec::new(), partial: Some(m.to_string()) })
        })
    }

    /// Handles in use, read at first need.
    pub fn handles(&self) -> &Gathered<Handle> {
        self.handles.get_or_init(|| {
            runtime::handles::read(self)
                .unwrap_or_else(|m| Gathered { items: Vec::new(), partial: Some(m.to_string()) })
        })
    }

    /// Sync blocks in use, read at first need.
    pub fn sync_blocks(&self) -> &Gathered<SyncBlock> {
        self.sync_blocks.get_or_init(|| {
            if let Some(ahead) = &self.ahead {
                return ahead.sync_blocks(&self.threads().items);
            }
            runtime::syncblocks::read(self)
                .unwrap_or_else(|m| Gathered { items: Vec::new(), partial: Some(m.to_string()) })
        })
    }

    /// Assemblies of the app domain, read at first need.
    pub fn assemblies(&self) -> &Gathered<LoadedAssembly> {
        self.assemblies.get_or_init(|| {
            runtime::domains::assemblies(self)
                .unwrap_or_else(|m| Gathered { items: Vec::new(), partial: Some(m.to_string()) })
        })
    }

    /// Allocation contexts `(pointer, limit)` of the managed threads.
    pub fn allocation_contexts(&self) -> Vec<(u64, u64)> {
        self.threads().items.iter().map(|t| t.alloc_context).filter(|c| c.0 != 0).collect()
    }
}
