//! MethodTables of a program compiled ahead of time: their words, and the names metadata has for them.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/inc/MethodTable.h` and
//! `src/coreclr/nativeaot/Common/src/Internal/Runtime/MethodTable.cs`, v8.0 to v11.0. Behind the vtable and the interfaces
//! lie words that tell where the type's module and definition are: distances from their own place, or pointers where the
//! type was made at run time.

use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::clr::image::metadata::sig::primitive_name;
use crate::clr::layout::scan::Span;
use crate::clr::layout::{Layout, Missing};
use crate::clr::types::fields::et;
use crate::clr::types::methodtable::{MethodTable, Parts};
use crate::clr::types::typename::{Named, TypeName};
use crate::dump::{AddressSpace, Dump, Module};

use super::byhash::ByHash;
use super::image::{AotModule, section};
use super::metadata::{FullName, Handle, Metadata};

/// Kinds of MethodTables.
const KIND: u32 = 0x0003_0000;
const FUNCTION_POINTER: u32 = 0x0001_0000;
const PARAMETERISED: u32 = 0x0002_0000;
const DEFINITION: u32 = 0x0003_0000;
const HAS_DISPATCH_MAP: u32 = 0x0004_0000;
/// Made while the program ran.
pub const DYNAMIC: u32 = 0x0008_0000;
const HAS_FINALIZER: u32 = 0x0010_0000;
const HAS_SEALED_SLOTS: u32 = 0x0040_0000;
const GENERIC: u32 = 0x0200_0000;
const HAS_COMPONENT_SIZE: u32 = 0x8000_0000;
/// `PAGE_READWRITE`, `PAGE_WRITECOPY`, and the same of code.
const WRITABLE_PAGES: [u32; 4] = [0x04, 0x08, 0x40, 0x80];
/// Deepest nesting of type arguments followed.
const MAX_DEPTH: u32 = 24;
/// More type arguments than any type has.
const MAX_ARGUMENTS: u32 = 256;
/// Largest fixed part of an instance.
const MAX_BASE: u32 = 1 << 24;

/// Element types as the runtime numbers them.
mod element {
    pub const VALUE_TYPE: u32 = 0x10;
    pub const NULLABLE: u32 = 0x12;
    pub const INTERFACE: u32 = 0x15;
    pub const SYSTEM_ARRAY: u32 = 0x16;
    pub const ARRAY: u32 = 0x17;
    pub const SZ_ARRAY: u32 = 0x18;
    pub const BY_REF: u32 = 0x19;
    pub const POINTER: u32 = 0x1A;
    pub const FUNCTION_POINTER: u32 = 0x1B;
}

/// The words of one MethodTable.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Its address.
    pub address: u64,
    /// Flags.
    pub flags: u32,
    /// Bytes of an instance without components.
    pub base_size: u32,
    /// Base type, or what an array or pointer is of.
    pub related: u64,
    /// Virtual slots.
    pub slots: u16,
    /// Interfaces.
    pub interfaces: u16,
}

impl Words {
    fn element(&self) -> u32 {
        self.flags >> 26 & 0x1F
    }

    fn kind(&self) -> u32 {
        self.flags & KIND
    }

    fn is_array(&self) -> bool {
        matches!(self.element(), element::ARRAY | element::SZ_ARRAY) && self.kind() == PARAMETERISED
    }
}

/// Offsets of a MethodTable resolved once.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    flags: u64,
    base_size: u64,
    related: u64,
    slots: u64,
    interfaces: u64,
    vtable: u64,
    contains_references: u32,
    optional_fields: u32,
}

/// The types of a program.
#[derive(Debug)]
pub struct Types {
    dump: Arc<Dump>,
    modules: Vec<AotModule>,
    offsets: Offsets,
    layout: Layout,
    /// Address of the type of free blocks.
    pub free: u64,
    names: Vec<OnceLock<Option<ModuleNames>>>,
    known: OnceLock<Known>,
    by_hash: OnceLock<ByHash>,
    all: OnceLock<Vec<u64>>,
}

/// Names of one module: its metadata, and which MethodTable is which definition.
#[derive(Debug, Default)]
pub struct ModuleNames {
    /// The metadata.
    pub metadata: Metadata,
    /// Definitions by MethodTable.
    pub definitions: FxHashMap<u64, Handle>,
    /// Pointers that maps refer to by number.
    pub fixups: Vec<u64>,
}

/// Types that are asked for by what they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// `System.Object`.
    pub object: u64,
    /// `System.String`.
    pub string: u64,
    /// `System.Array`.
    pub array: u64,
    /// `System.RuntimeType`.
    pub runtime_type: u64,
}

impl Types {
    /// Resolves the offsets; nothing is read yet.
    pub fn new(dump: Arc<Dump>, layout: &Layout, modules: Vec<AotModule>, free: u64) -> Result<Self, Missing> {
        let f = |field| layout.offset("MethodTable", field);
        let constant = |name: &str| layout.constant(name).map(|v| v as u32);
        let offsets = Offsets {
            flags: f("Flags")?,
            base_size: f("BaseSize")?,
            related: f("RelatedType")?,
            slots: f("NumVtableSlots")?,
            interfaces: f("NumInterfaces")?,
            vtable: f("VTable")?,
            contains_references: constant("ContainsReferencesFlag")?,
            optional_fields: constant("OptionalFieldsFlag")?,
        };
        let names = modules.iter().map(|_| OnceLock::new()).collect();
        let (layout, known, by_hash, all) = (layout.clone(), OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Self { dump, modules, offsets, layout, free, names, known, by_hash, all })
    }

    /// The memory of the process.
    pub(super) fn space(&self) -> &AddressSpace {
        &self.dump.space
    }

    /// The modules.
    pub fn modules(&self) -> &[AotModule] {
        &self.modules
    }

    /// The words of the MethodTable at `address`.
    pub fn words(&self, address: u64) -> Option<Words> {
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        let (space, o) = (self.space(), &self.offsets);
        address.checked_add(256)?;
        Some(Words {
            address,
            flags: space.u32(address + o.flags)?,
            base_size: space.u32(address + o.base_size)?,
            related: space.u64(address + o.related)?,
            slots: space.u16(address + o.slots).unwrap_or(0),
            interfaces: space.u16(address + o.interfaces).unwrap_or(0),
        })
    }

    /// Names by hash, read at first need.
    pub(super) fn by_hash(&self) -> &ByHash {
        self.by_hash.get_or_init(|| ByHash::of(&self.layout))
    }

    /// The hash of the type's name.
    pub(super) fn hash_of(&self, address: u64) -> Option<u32> {
        let at = address.checked_add(self.layout.try_offset("MethodTable", "HashCode")?)?;
        self.space().u32(at).filter(|&h| h != 0)
    }

    /// The module of the dump at `base`.
    pub(super) fn image(&self, base: u64) -> Option<&Module> {
        self.dump.module_at(base).filter(|m| m.base == base)
    }

    /// The parts of an image that are writable by the memory map.
    pub(super) fn writable(&self, image: Span) -> Vec<Span> {
        let (map, first) = (&self.dump.map, self.dump.map.partition_point(|e| e.end <= image.base));
        let inside = map.iter().skip(first).take_while(|e| e.start < image.end);
        let written = inside.filter(|e| WRITABLE_PAGES.contains(&e.protect));
        written.map(|e| Span { base: e.start.max(image.base), end: e.end.min(image.end) }).collect()
    }

    /// Whether flags, base and what it is of are those of some kind of type.
    pub(super) fn has_kind(&self, w: &Words) -> bool {
        let of = w.related == 0 || w.related.is_multiple_of(8) && self.space().readable(w.related);
        of && (w.element() != 0 || w.kind() == FUNCTION_POINTER) && w.element() <= element::FUNCTION_POINTER
    }

    /// Whether instances hold references.
    fn contains_references(&self, w: &Words) -> bool {
        w.flags & self.offsets.contains_references != 0
    }

    /// The word behind the interfaces: `index` words of the kind the type has follow `TypeManager` indirection.
    fn tail(&self, w: &Words, index: u64) -> Option<u64> {
        let start = self.offsets.vtable + 8 * (u64::from(w.slots) + u64::from(w.interfaces));
        let at = |width: u64| w.address.checked_add(start)?.checked_add(width * index);
        if w.flags & DYNAMIC != 0 { self.space().ptr(at(8)?) } else { self.distance(at(4)?) }
    }

    /// The place told by its distance from `at`.
    fn distance(&self, at: u64) -> Option<u64> {
        Some(at.wrapping_add_signed(i64::from(self.space().u32(at)? as i32)))
    }

    /// The module whose `TypeManager` the MethodTable leads to: the proof that it is one.
    pub fn module_of(&self, w: &Words) -> Option<usize> {
        let cell = self.tail(w, 0)?;
        // The program writes to the cell as it starts: a heap dump may lack what it wrote.
        let own = |m: &AotModule| m.header.start(section::TYPE_MANAGER) == Some(cell);
        let manager = self.space().ptr(cell);
        self.modules.iter().position(|m| manager == Some(m.manager) || own(m))
    }

    /// Whether it is the shape of a static base: the compiler writes flags, size and base type of it, and nothing else
    /// (dotnet/runtime `ILCompiler.Compiler/Compiler/DependencyAnalysis/GCStaticEETypeNode.cs`).
    pub fn is_static_base(&self, w: &Words) -> bool {
        let plain = w.flags & !self.offsets.contains_references == 0;
        let sized = w.base_size.is_multiple_of(8) && (16..MAX_BASE).contains(&w.base_size);
        let base = w.related == 0 || w.related == self.known().object;
        plain && sized && base && self.modules.iter().any(|m| self.in_image(m.base, w.address))
    }

    fn in_image(&self, base: u64, address: u64) -> bool {
        self.dump.module_at(address).is_some_and(|m| m.base == base)
    }

    /// Whether `w` is a type of the program.
    pub fn is_type(&self, w: &Words) -> bool {
        let sane = w.base_size < MAX_BASE && (w.base_size >= 16 || w.element() >= element::INTERFACE);
        sane && self.module_of(w).is_some()
    }

    /// Where the vtable begins in a MethodTable.
    pub fn vtable_offset(&self) -> u64 {
        self.offsets.vtable
    }

    /// Whether it is an instantiation of a generic type.
    pub fn is_instantiation(&self, w: &Words) -> bool {
        w.flags & GENERIC != 0 && w.kind() == 0
    }

    /// Whether it is an interface, which has no base.
    pub fn is_interface(&self, w: &Words) -> bool {
        w.kind() == 0 && w.element() == element::INTERFACE && w.related == 0
    }

    /// The interfaces that the list behind the vtable names. Places that the compiler leaves empty are filled as a type is
    /// made at run time, or never: code shared by instantiations has no list of its own.
    pub fn interfaces(&self, w: &Words) -> Vec<u64> {
        let first = w.address.checked_add(self.offsets.vtable + 8 * u64::from(w.slots));
        let at = |i: u64| self.space().ptr(first?.checked_add(8 * i)?);
        let all = (0..u64::from(w.interfaces)).filter_map(at);
        all.filter(|&mt| self.words(mt).is_some_and(|i| self.is_interface(&i))).collect()
    }

    /// Whether it is `System.Object[]`.
    pub fn is_array_of_objects(&self, w: &Words) -> bool {
        w.is_array() && w.element() == element::SZ_ARRAY && w.related != 0 && w.related == self.known().object
    }

    /// Whether it is a type with instances: no generic definition, which has no words behind its own.
    pub fn has_instances(&self, w: &Words) -> bool {
        w.kind() != DEFINITION && w.flags & DYNAMIC == 0
    }

    /// Whether its related type is its base: of classes and value types.
    pub fn has_base(&self, w: &Words) -> bool {
        w.kind() == 0 && w.element() != element::INTERFACE
    }

    /// The words that lie between the indirection and the generic definition.
    fn generic_words(&self, w: &Words) -> u64 {
        // Indirection, writable data.
        let mut count = 2;
        for flag in [HAS_DISPATCH_MAP, HAS_FINALIZER, self.offsets.optional_fields, HAS_SEALED_SLOTS] {
            count += u64::from(flag != 0 && w.flags & flag != 0);
        }
        count
    }

    /// The generic definition of an instantiation.
    fn definition(&self, w: &Words) -> Option<u64> {
        self.is_instantiation(w).then(|| self.tail(w, self.generic_words(w)))?
    }

    /// MethodTables of the generic arguments: one stands in its word, several behind it.
    pub fn arguments(&self, w: &Words) -> Vec<u64> {
        let Some(definition) = self.definition(w).and_then(|d| self.words(d)) else { return Vec::new() };
        let Some(word) = self.tail(w, self.generic_words(w) + 1) else { return Vec::new() };
        // Through 8.0 the number stands where the size of a component does, since then where that of an instance does.
        let count = match self.offsets.optional_fields {
            0 => definition.base_size,
            _ => definition.flags & 0xFFFF,
        };
        let list = |i: u32| {
            let width = if w.flags & DYNAMIC != 0 { 8 } else { 4 };
            let at = word.checked_add(width * u64::from(i))?;
            if width == 8 { self.space().ptr(at) } else { self.distance(at) }
        };
        match count {
            1 => vec![word],
            2..MAX_ARGUMENTS => (0..count).map_while(list).collect(),
            _ => Vec::new(),
        }
    }

    /// The MethodTable with its flags as CoreCLR spells them, so that the layers above read one form.
    pub fn method_table(&self, address: u64) -> Option<MethodTable> {
        let w = self.words(address)?;
        let static_base = w.element() == 0 && w.flags & !self.offsets.contains_references == 0;
        let array = w.is_array();
        let parent = match w.kind() {
            _ if array => self.known().array,
            0 => w.related,
            _ => 0,
        };
        let value = (1..=element::NULLABLE).contains(&w.element()) && w.kind() != PARAMETERISED;
        let module = self.modules.iter().find(|m| self.in_image(m.base, address)).or(self.modules.first());
        Some(MethodTable::from_parts(Parts {
            address,
            component_size: (w.flags & HAS_COMPONENT_SIZE != 0).then_some(w.flags & 0xFFFF),
            references: self.contains_references(&w),
            finalizer: !static_base && w.flags & HAS_FINALIZER != 0,
            array,
            vector: array && w.element() == element::SZ_ARRAY,
            value_type: value,
            interface: w.element() == element::INTERFACE,
            generic: w.flags & GENERIC != 0 && w.kind() == 0,
            open: w.kind() == DEFINITION,
            base_size: if w.kind() == DEFINITION { 0 } else { w.base_size },
            virtuals: if static_base { 0 } else { w.slots },
            interfaces: if static_base { 0 } else { w.interfaces },
            parent,
            module: module.map_or(0, |m| m.base),
            element: if array { w.related } else { 0 },
        }))
    }

    /// Element type (ECMA-335 II.23.1.16).
    pub fn element_type(&self, w: &Words) -> u8 {
        match w.element() {
            e @ 1..=0xB => e as u8,
            0xC => et::I,
            0xD => et::U,
            0xE => et::R4,
            0xF => et::R8,
            element::VALUE_TYPE..=element::NULLABLE => et::STRUCT,
            element::ARRAY => et::ARRAY,
            element::SZ_ARRAY => et::SZARRAY,
            element::POINTER => et::PTR,
            element::FUNCTION_POINTER => et::FNPTR,
            _ => et::CLASS,
        }
    }

    /// Names of the module of that number, read at first need.
    pub fn names(&self, module: usize) -> Option<&ModuleNames> {
        self.names.get(module)?.get_or_init(|| self.read_names(self.modules.get(module)?)).as_ref()
    }

    fn read_names(&self, module: &AotModule) -> Option<ModuleNames> {
        let blob = |id| module.header.blob(self.space(), id);
        let pointers = blob(section::FIXUPS)?.distances();
        let metadata = blob(section::METADATA).and_then(|b| Metadata::new(b, &self.layout)).unwrap_or_default();
        let mut definitions = FxHashMap::default();
        if let Some(map) = blob(section::TYPE_MAP).filter(|_| !metadata.is_empty()) {
            for entry in map.entries() {
                let mut r = map.at(entry);
                let (Some(index), Some(token)) = (r.unsigned(), r.unsigned()) else { continue };
                if let Some(&mt) = pointers.get(index as usize) {
                    definitions.insert(mt, metadata.of_token(token));
                }
            }
        }
        Some(ModuleNames { metadata, definitions, fixups: pointers })
    }

    /// Name of the definition whose MethodTable is at `address`.
    pub fn full_name(&self, address: u64) -> Option<FullName> {
        if !self.have_metadata() {
            return self.name_by_hash(address);
        }
        (0..self.modules.len()).find_map(|i| {
            let names = self.names(i)?;
            names.metadata.full_name(*names.definitions.get(&address)?)
        })
    }

    /// Full name of the definition of the type at `address`: of an instantiation that of its generic definition.
    pub fn definition_name(&self, address: u64) -> Option<String> {
        let w = self.words(address)?;
        self.full_name(self.definition(&w).unwrap_or(address)).map(|n| n.name)
    }

    /// All MethodTables the maps name, sorted; without metadata, all there are.
    pub fn all(&self) -> Vec<u64> {
        let read = || {
            if !self.have_metadata() {
                return self.found();
            }
            let modules = (0..self.modules.len()).filter_map(|i| self.names(i));
            let mut all: Vec<u64> = modules.flat_map(|n| n.definitions.keys().copied()).collect();
            all.sort_unstable();
            all
        };
        self.all.get_or_init(read).clone()
    }

    /// Types that are asked for by what they are.
    pub fn known(&self) -> &Known {
        self.known.get_or_init(|| {
            let mut known = Known::default();
            for mt in self.all() {
                let Some(w) = self.words(mt) else { continue };
                match () {
                    () if is_string(&w) => known.string = mt,
                    () if w.element() == element::SYSTEM_ARRAY => known.array = mt,
                    () => {}
                }
            }
            // Literals are the first objects of the frozen part; without metadata they alone tell.
            if known.string == 0 {
                known.string = self.frozen_string().unwrap_or(0);
            }
            known.object = self.words(known.string).map_or(0, |w| w.related);
            let runtime_type = |mt: &u64| self.full_name(*mt).is_some_and(|n| n.name == "System.RuntimeType");
            known.runtime_type = self.all().into_iter().find(runtime_type).unwrap_or(0);
            known
        })
    }

    fn frozen_string(&self) -> Option<u64> {
        /// Objects looked at.
        const SAMPLE: usize = 64;
        self.modules.iter().find_map(|m| {
            let (start, end) = m.header.section(section::FROZEN)?;
            let mut at = start.checked_add(8)?;
            for _ in 0..SAMPLE {
                let mt = self.space().ptr(at).filter(|_| at < end)?;
                let w = self.words(mt)?;
                if is_string(&w) {
                    return Some(mt);
                }
                let counted = w.flags & HAS_COMPONENT_SIZE != 0;
                let count = if counted { u64::from(self.space().u32(at.checked_add(8)?)?) } else { 0 };
                let size = u64::from(w.base_size) + count * u64::from(w.flags & 0xFFFF) * u64::from(counted);
                at = at.checked_add(size.max(24).next_multiple_of(8))?;
            }
            None
        })
    }

    /// The name of the type at `address` as a tree.
    pub fn tree(&self, address: u64, depth: u32) -> TypeName {
        if address == self.free {
            return TypeName::Free;
        }
        let Some(w) = self.words(address).filter(|_| depth <= MAX_DEPTH) else { return TypeName::Unknown };
        if w.element() == 0 && self.is_static_base(&w) {
            return TypeName::plain(format!("static base {address:#x}"), "");
        }
        let of = || Box::new(self.tree(w.related, depth + 1));
        match (w.kind(), w.element()) {
            (FUNCTION_POINTER, _) => return TypeName::FnPtr,
            (PARAMETERISED, element::SZ_ARRAY) => return TypeName::SzArray(of()),
            (PARAMETERISED, element::ARRAY) => {
                return TypeName::MdArray(of(), (w.base_size.saturating_sub(24) / 8).max(1));
            }
            (PARAMETERISED, element::POINTER) => return TypeName::Pointer(of()),
            (PARAMETERISED, element::BY_REF) => return TypeName::ByRef(of()),
            _ => {}
        }
        let args = self.arguments(&w);
        let named = self.definition(&w).unwrap_or(address);
        match self.full_name(named) {
            Some(full) => TypeName::Named(Named {
                name: full.name,
                args: args.into_iter().map(|a| self.tree(a, depth + 1)).collect(),
                assembly: full.assembly.into(),
            }),
            None => self.unnamed(&w, named),
        }
    }

    /// What stands for a type that metadata does not name.
    fn unnamed(&self, w: &Words, definition: u64) -> TypeName {
        let known = self.known();
        if w.address == known.object {
            return TypeName::plain("System.Object", "System.Private.CoreLib");
        }
        if w.address == known.string {
            return TypeName::plain("System.String", "System.Private.CoreLib");
        }
        // The base of a primitive is below System.Object, that of an enum one further down.
        let above = self.words(w.related).map(|b| b.related);
        if let Some(name) =
            primitive_name(self.element_type(w)).filter(|_| self.has_base(w) && above == Some(known.object))
        {
            return TypeName::plain(name, "System.Private.CoreLib");
        }
        let module = self.module_of(w).and_then(|i| self.dump.module_at(self.modules.get(i)?.base));
        TypeName::plain(format!("{}!{definition:#x}", module.map_or("?", |m| m.stem())), "")
    }
}

/// A string: components of two bytes behind length and terminator, no array.
pub(super) fn is_string(w: &Words) -> bool {
    w.flags & HAS_COMPONENT_SIZE != 0 && w.flags & 0xFFFF == 2 && w.base_size == 22 && w.kind() == 0
}
