//! NativeAOT: the runtime of programs compiled ahead of time, beside CoreCLR.
//!
//! Its collector is CoreCLR's; what it keeps of types, threads and code is its own. This layer finds it ([`discover`]),
//! proves a layout ([`checks`]) and answers what [`crate::clr::ahead::Ahead`] asks. It builds on the layer of CoreCLR, which
//! knows nothing of it; layers above ask `Clr` and do not see which runtime it is.

mod byhash;
pub mod checks;
mod code;
mod debug;
pub mod discover;
mod fields;
pub mod format;
mod found;
pub mod header;
pub mod image;
mod indexed;
mod locks;
pub mod managed;
pub mod metadata;
pub mod methods;
mod owners;
mod reflected;
mod statics;
pub mod tables;
mod threads;
mod threadstatics;
pub mod types;

use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::clr::ahead::{Ahead, CompiledCode, ExceptionRecord, ThreadSlot};
use crate::clr::gathered::Gathered;
use crate::clr::layout::Layout;
use crate::clr::layout::gcdac::GcDacVars;
use crate::clr::runtime::syncblocks::SyncBlock;
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::fields::Fields;
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::TypeName;
use crate::clr::{Clr, WellKnown};
use crate::dump::Dump;
use crate::native::{Context, Native};
use crate::watch::Watch;

use self::debug::Debug;
use self::indexed::IndexedBase;
use self::managed::Managed;
use self::methods::Method;
use self::reflected::Reflected;
use self::statics::Cells;
use self::types::Types;

/// The runtime of a program compiled ahead of time.
#[derive(Debug)]
pub struct Aot {
    dump: Arc<Dump>,
    layout: Layout,
    gc: GcDacVars,
    types: Types,
    managed: Managed,
    /// MethodTables by full name.
    by_name: OnceLock<FxHashMap<String, u64>>,
    methods: OnceLock<Vec<Method>>,
    reflected: OnceLock<FxHashMap<u64, Vec<Reflected>>>,
    /// Debug information of each module that has any.
    debug: OnceLock<Vec<Debug>>,
    /// Cells of static bases.
    cells: OnceLock<Cells>,
    /// The cell of each type of bases that has one base alone.
    shapes: OnceLock<FxHashMap<u64, Option<u64>>>,
    /// Owners of cells that the image names.
    bases: OnceLock<FxHashMap<u64, Arc<str>>>,
    /// Owners of base objects, told by code too.
    owners: OnceLock<FxHashMap<u64, Arc<str>>>,
    /// Named slots of thread statics.
    thread_slots: OnceLock<Vec<ThreadSlot>>,
    /// Bases of thread statics that are found by an index.
    indexed: OnceLock<Vec<IndexedBase>>,
}

/// The runtime of a program compiled ahead of time, where the dump holds one; an error with the reason where it does and
/// cannot be read.
pub fn open(dump: &Arc<Dump>, watch: &Watch) -> Option<Result<Clr, String>> {
    let opened = match discover::discover(dump, watch)? {
        Ok(opened) => opened,
        Err(why) => return Some(Err(why)),
    };
    let dump = &opened.dump;
    let layout = opened.found.layout.clone();
    let types = match Types::new(dump.clone(), &layout, opened.modules, opened.free) {
        Ok(types) => types,
        Err(missing) => return Some(Err(missing.to_string())),
    };
    let managed = Managed::of(opened.found.era.0);
    let gc = opened.found.gc.clone();
    let (by_name, methods, reflected, debug, cells, shapes, bases, owners, thread_slots, indexed) = Default::default();
    let aot = Aot {
        dump: dump.clone(),
        layout,
        gc,
        types,
        managed,
        by_name,
        methods,
        reflected,
        debug,
        cells,
        shapes,
        bases,
        owners,
        thread_slots,
        indexed,
    };
    Some(Ok(Clr::compiled_ahead(dump.clone(), opened.found, Box::new(aot))))
}

impl Aot {
    /// MethodTable address of the object at `address`, mark bits removed.
    fn object_type(&self, address: u64) -> Option<u64> {
        Some(self.dump.space.ptr(address)? & !7)
    }

    /// Whether an object begins at `address`.
    fn is_object(&self, address: u64) -> bool {
        let mt = self.object_type(address).and_then(|mt| self.types.method_table(mt));
        mt.is_some_and(|m| self.is_type(&m))
    }

    /// MethodTable of the type of that full name; 0 where the image has none.
    fn named(&self, name: &str) -> u64 {
        let all = self.by_name.get_or_init(|| {
            let named = |mt: u64| Some((self.types.full_name(mt)?.name, mt));
            self.types.all().into_iter().filter_map(named).collect()
        });
        all.get(name).copied().unwrap_or(0)
    }
}

impl Ahead for Aot {
    fn known(&self) -> WellKnown {
        let known = self.types.known();
        WellKnown {
            object: known.object,
            string: known.string,
            free: self.types.free,
            runtime_type: known.runtime_type,
        }
    }

    fn method_table(&self, address: u64) -> Option<MethodTable> {
        self.types.method_table(address)
    }

    fn is_type(&self, mt: &MethodTable) -> bool {
        mt.address == self.types.free
            || self.types.words(mt.address).is_some_and(|w| self.types.is_type(&w) || self.types.is_static_base(&w))
    }

    fn tree(&self, address: u64) -> TypeName {
        let shape = self.types.words(address).is_some_and(|w| self.types.is_static_base(&w));
        shape.then(|| self.only_owner(address)).flatten().unwrap_or_else(|| self.types.tree(address, 0))
    }

    fn arguments(&self, mt: &MethodTable) -> Vec<u64> {
        self.types.words(mt.address).map(|w| self.types.arguments(&w)).unwrap_or_default()
    }

    fn element_type(&self, mt: &MethodTable) -> u8 {
        self.types.words(mt.address).map_or(0, |w| self.types.element_type(&w))
    }

    fn types(&self) -> Vec<u64> {
        self.types.all()
    }

    fn interfaces(&self, mt: u64) -> Vec<String> {
        let all = self.types.words(mt).map(|w| self.types.interfaces(&w)).unwrap_or_default();
        all.into_iter().filter_map(|i| self.types.definition_name(i)).collect()
    }

    fn type_named(&self, name: &str) -> Option<u64> {
        Some(self.named(name)).filter(|&mt| mt != 0)
    }

    fn fields(&self, mt: u64) -> Fields {
        self.read_fields(mt)
    }

    fn threads(&self, native: &Native) -> Gathered<ClrThread> {
        let mut all = self.read_threads();
        self.mark_finalizer(native, &mut all.items);
        all
    }

    fn thread_statics(&self, thread: u64) -> Vec<(u64, u64)> {
        self.statics_of_thread(thread)
    }

    fn thread_static_slots(&self, native: &Native) -> &[ThreadSlot] {
        self.thread_slots(native)
    }

    fn owner_of_statics(&self, native: &Native, base: u64) -> Option<Arc<str>> {
        self.owner_of_base(native, base)
    }

    fn static_slots(&self, native: &Native) -> Vec<(u64, Arc<str>)> {
        self.slots_of_statics(native)
    }

    fn sync_blocks(&self, threads: &[ClrThread]) -> Gathered<SyncBlock> {
        self.read_sync_blocks(threads)
    }

    fn code_ranges(&self) -> Vec<(u64, u64)> {
        self.managed_code()
    }

    fn code_at(&self, native: &Native, ip: u64) -> Option<CompiledCode> {
        self.compiled_code(native, ip)
    }

    fn code_length(&self, native: &Native, start: u64) -> Option<u64> {
        self.length_of(native, start)
    }

    fn exception_records(&self, thread: u64) -> Vec<ExceptionRecord> {
        self.records_of(thread)
    }

    fn registered_slots(&self, thread: u64) -> Vec<(u64, bool)> {
        self.slots_registered(thread)
    }

    fn method_starts(&self) -> Vec<u64> {
        self.methods().iter().map(|m| m.start).collect()
    }

    fn method_named(&self, name: &str) -> Option<u64> {
        self.start_of(name)
    }

    fn method_name(&self, start: u64) -> Option<String> {
        self.name_of_method(start)
    }

    fn hijacked(&self, thread: u64) -> Option<(u64, u64)> {
        self.replaced_return(thread)
    }

    fn transition(&self, thread: u64) -> Option<Context> {
        self.noted(thread)
    }
}
