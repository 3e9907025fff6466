//! Reading MethodTables: the word every object starts with points at one.
//!
//! Layout facts: dotnet/runtime `src/coreclr/vm/methodtable.h` (3.1: dotnet/coreclr v3.1.32), offsets from the
//! [`Layout`]; flag bits are the same from .NET Core 2.1 to 11 unless noted.

use crate::clr::layout::{Layout, Missing, relative_pointer, through_cell};
use crate::dump::AddressSpace;

const HAS_COMPONENT_SIZE: u32 = 0x8000_0000;
const CONTAINS_POINTERS: u32 = 0x0100_0000;
const HAS_FINALIZER: u32 = 0x0010_0000;
const CATEGORY: u32 = 0x000C_0000;
const CATEGORY_VALUE_TYPE: u32 = 0x0004_0000;
const CATEGORY_ARRAY: u32 = 0x0008_0000;
const CATEGORY_INTERFACE: u32 = 0x000C_0000;
const SZ_ARRAY: u32 = 0x0002_0000;
const GENERICS: u32 = 0x30;
/// Beside the category of a value type: a primitive, no enum.
const TRUE_PRIMITIVE: u32 = 0x0003_0000;

/// The fixed fields of one MethodTable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodTable {
    /// Its address.
    pub address: u64,
    /// `m_dwFlags`.
    pub flags: u32,
    /// Bytes of an instance without components, object header included.
    pub base_size: u32,
    /// Second flag word: 16 bits through .NET 8, low 8 bits since.
    pub flags2: u32,
    /// TypeDef row in the defining module's metadata; 0 for arrays.
    pub rid: u32,
    /// Number of virtual slots.
    pub virtuals: u16,
    /// Number of interfaces.
    pub interfaces: u16,
    /// Parent MethodTable or 0.
    pub parent: u64,
    /// Module field: the loader module through .NET 8, the defining module since.
    pub module: u64,
    /// Writeable data (through .NET 8) or auxiliary data.
    pub aux: u64,
    /// EEClass, or the canonical MethodTable with tag bits.
    pub class_or_canonical: u64,
    /// Instantiation, or the element type of an array.
    pub per_inst: u64,
}

impl MethodTable {
    /// Bytes of one component (array element, string character); 0 when instances have none.
    #[inline]
    pub fn component_size(&self) -> u32 {
        if self.flags & HAS_COMPONENT_SIZE != 0 { self.flags & 0xFFFF } else { 0 }
    }

    /// Whether instances hold a component count.
    #[inline]
    pub fn has_component_size(&self) -> bool {
        self.flags & HAS_COMPONENT_SIZE != 0
    }

    /// Whether instances hold references (a GCDesc lies before the MethodTable).
    #[inline]
    pub fn contains_pointers(&self) -> bool {
        self.flags & CONTAINS_POINTERS != 0
    }

    /// Whether instances are finalizable.
    pub fn has_finalizer(&self) -> bool {
        self.flags & HAS_FINALIZER != 0
    }

    /// Any array.
    pub fn is_array(&self) -> bool {
        self.flags & CATEGORY == CATEGORY_ARRAY
    }

    /// A vector: one dimension, lower bound 0.
    pub fn is_sz_array(&self) -> bool {
        self.is_array() && self.flags & SZ_ARRAY != 0
    }

    /// A value type (its boxed form lives on the heap).
    pub fn is_value_type(&self) -> bool {
        self.flags & CATEGORY == CATEGORY_VALUE_TYPE
    }

    /// An interface.
    pub fn is_interface(&self) -> bool {
        self.flags & CATEGORY == CATEGORY_INTERFACE
    }

    /// Dimensions of an array: each one of a multidimensional array adds 8 bytes (two u32) to the base size.
    pub fn rank(&self, ptr_size: u8) -> u32 {
        if self.is_sz_array() { 1 } else { (self.base_size.saturating_sub(3 * u32::from(ptr_size)) / 8).max(1) }
    }

    /// Whether the type is generic, instantiated or open.
    pub fn is_generic(&self) -> bool {
        self.flags & HAS_COMPONENT_SIZE == 0 && self.flags & GENERICS != 0
    }

    /// The generic type definition itself (`List<T>`).
    pub fn is_open_generic(&self) -> bool {
        self.flags & HAS_COMPONENT_SIZE == 0 && self.flags & GENERICS == GENERICS
    }
}

/// What a runtime with MethodTables of another form says of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// Its address.
    pub address: u64,
    /// Bytes of a component, where instances have any.
    pub component_size: Option<u32>,
    /// Instances hold references.
    pub references: bool,
    /// Instances are finalizable.
    pub finalizer: bool,
    /// An array.
    pub array: bool,
    /// A vector among them.
    pub vector: bool,
    /// A value type.
    pub value_type: bool,
    /// An interface.
    pub interface: bool,
    /// An instantiation.
    pub generic: bool,
    /// A generic definition.
    pub open: bool,
    /// Bytes of an instance without components.
    pub base_size: u32,
    /// Virtual slots.
    pub virtuals: u16,
    /// Interfaces.
    pub interfaces: u16,
    /// Base type or 0.
    pub parent: u64,
    /// What stands for its module: the base of the image.
    pub module: u64,
    /// Element type of an array.
    pub element: u64,
}

impl MethodTable {
    /// One of another form, its flags spelled as CoreCLR does.
    pub fn from_parts(p: Parts) -> Self {
        let bit = |set: bool, flag: u32| if set { flag } else { 0 };
        let category = match () {
            () if p.interface => CATEGORY_INTERFACE,
            () if p.array => CATEGORY_ARRAY | bit(p.vector, SZ_ARRAY),
            () => bit(p.value_type, CATEGORY_VALUE_TYPE),
        };
        let low = match p.component_size {
            Some(size) => HAS_COMPONENT_SIZE | size & 0xFFFF,
            None if p.open => GENERICS,
            None => bit(p.generic, GENERICS & GENERICS >> 1),
        };
        Self {
            address: p.address,
            flags: category | low | bit(p.references, CONTAINS_POINTERS) | bit(p.finalizer, HAS_FINALIZER),
            base_size: p.base_size,
            flags2: 0,
            rid: 0,
            virtuals: p.virtuals,
            interfaces: p.interfaces,
            parent: p.parent,
            module: p.module,
            aux: 0,
            class_or_canonical: 0,
            per_inst: p.element,
        }
    }
}

/// Offsets of a MethodTable resolved once.
#[derive(Debug, Clone, Copy, Default)]
pub struct MtReader {
    flags: u64,
    base_size: u64,
    flags2: u64,
    token: Option<u64>,
    virtuals: u64,
    interfaces: u64,
    parent: u64,
    module: u64,
    aux: u64,
    class: u64,
    per_inst: u64,
    class_mt: u64,
    canonical_tag: u64,
    collectible: u32,
    overflow_rid: u32,
    /// Whether the module and the class's way back are stored as distances (through 2.2).
    relative: (bool, bool),
    /// Flag of a parent that is behind a cell; 0 where images compiled ahead of time hold no MethodTables.
    indirect_parent: u32,
    /// Of CLR 2.0.
    inline: Option<OfClass>,
    /// Where a string has its length and its text, where a layout says so.
    string: Option<(u64, u64)>,
}

/// What CLR 2.0 keeps in the class.
#[derive(Debug, Clone, Copy)]
struct OfClass {
    module: u64,
    token: u64,
    /// Type of an array's elements, where its place is known.
    element: Option<u64>,
    /// The variable with System.Object.
    object: u64,
}

/// Flags of CLR 2.0, whose low word is always the size of a component; its second word has none that are known. Source: the
/// shared source, `clr/src/vm/methodtable.h`, `WFLAGS_ENUM`.
mod old {
    pub const ARRAY: u32 = 0x1_0000;
    /// Of an array.
    pub const VECTOR: u32 = 0x2_0000;
    /// Of what is no array: primitive (2), class (4), value type (6).
    pub const KIND: u32 = 0x6_0000;
    pub const PRIMITIVE: u32 = 0x2_0000;
    pub const VALUE_TYPE: u32 = 0x6_0000;
    pub const REFERENCES: u32 = 0x8_0000;
    pub const FINALIZER: u32 = 0x10_0000;
    /// Table of a token, and the rest of it.
    pub const TYPE_DEF: u32 = 0x02;
    pub const ROW: u32 = 0xFF_FFFF;
}

impl MtReader {
    /// Resolves the offsets; fails when the layout lacks one.
    pub fn new(l: &Layout) -> Result<Self, Missing> {
        let f = |field| l.offset("MethodTable", field);
        Ok(Self {
            flags: f("MTFlags")?,
            base_size: f("BaseSize")?,
            flags2: f("MTFlags2")?,
            token: l.try_offset("MethodTable", "Token"),
            virtuals: f("NumVirtuals")?,
            interfaces: f("NumInterfaces")?,
            parent: f("ParentMethodTable")?,
            module: f("Module")?,
            aux: f("AuxiliaryData")?,
            class: f("EEClassOrCanonMT")?,
            per_inst: f("PerInstInfo")?,
            class_mt: l.offset("EEClass", "MethodTable")?,
            canonical_tag: l.constant("CanonicalTag")?,
            collectible: l.constant("CollectibleFlag")? as u32,
            overflow_rid: if l.constant("MethodTableTokenBits")? == 16 { 0xFFFF } else { u32::MAX },
            relative: (l.is_relative("MethodTable", "Module"), l.is_relative("EEClass", "MethodTable")),
            indirect_parent: l.constant("IndirectParentFlag").unwrap_or(0) as u32,
            inline: match l.constant("InlineVtables") {
                Ok(_) => {
                    let object = l.global("ObjectMethodTable").unwrap_or(0);
                    let (module, token) = (l.offset("EEClass", "Module")?, l.offset("EEClass", "Token")?);
                    Some(OfClass { module, token, element: l.try_offset("EEClass", "ArrayElement"), object })
                }
                Err(_) => None,
            },
            string: l.try_offset("String", "Length").zip(l.try_offset("String", "FirstChar")),
        })
    }

    /// Reads the MethodTable at `address` without judging it. `None` when it is not readable or misaligned.
    pub fn read(&self, space: &AddressSpace, address: u64) -> Option<MethodTable> {
        let ptr = u64::from(space.ptr_size());
        if address == 0 || !address.is_multiple_of(ptr) {
            return None;
        }
        address.checked_add(256)?;
        if let Some(of_class) = self.inline {
            return self.read_inline(space, address, of_class);
        }
        let flags2 = space.u32(address + self.flags2)?;
        let (flags2, rid) = match self.token {
            Some(t) => (flags2 & 0xFFFF, u32::from(space.u16(address + t)?)),
            None => (flags2 & 0xFF, flags2 >> 8),
        };
        let module = match self.relative.0 {
            true => relative_pointer(space, address + self.module)?,
            false => space.ptr(address + self.module)?,
        };
        let mut mt = MethodTable {
            address,
            flags: space.u32(address + self.flags)?,
            base_size: space.u32(address + self.base_size)?,
            flags2,
            rid,
            virtuals: space.u16(address + self.virtuals)?,
            interfaces: space.u16(address + self.interfaces)?,
            parent: space.ptr(address + self.parent)?,
            module,
            aux: space.ptr(address + self.aux)?,
            class_or_canonical: space.ptr(address + self.class)?,
            per_inst: space.ptr(address + self.per_inst)?,
        };
        if self.indirect_parent != 0 {
            self.resolve(space, &mut mt);
        }
        Some(mt)
    }

    /// One of CLR 2.0, its flags spelled as CoreCLR does: type, module and token are those of the class.
    fn read_inline(&self, space: &AddressSpace, address: u64, of: OfClass) -> Option<MethodTable> {
        let flags = space.u32(address + self.flags)?;
        let class = space.ptr(address + self.class)?;
        let in_class = |at: u64| class.checked_add(at).filter(|_| class != 0);
        let token = in_class(of.token).and_then(|at| space.u32(at)).unwrap_or(0);
        let array = flags & old::ARRAY != 0;
        let kind = flags & old::KIND;
        let parts = Parts {
            address,
            component_size: Some(flags & 0xFFFF).filter(|&size| size != 0),
            references: flags & old::REFERENCES != 0,
            finalizer: flags & old::FINALIZER != 0,
            array,
            vector: array && flags & old::VECTOR != 0,
            value_type: !array && (kind == old::PRIMITIVE || kind == old::VALUE_TYPE),
            base_size: space.u32(address + self.base_size)?,
            virtuals: space.u16(address + self.virtuals)?,
            interfaces: space.u16(address + self.interfaces)?,
            parent: space.ptr(address + self.parent)?,
            module: in_class(of.module).and_then(|at| space.ptr(at)).unwrap_or(space.ptr(address + self.module)?),
            // All arrays of references have one type; what their elements are says the array itself.
            element: match flags & old::REFERENCES != 0 && flags & 0xFFFF == u32::from(space.ptr_size()) {
                _ if !array => space.ptr(address + self.per_inst)?,
                true => space.ptr(of.object).unwrap_or(0),
                false => of.element.and_then(in_class).and_then(|at| space.ptr(at)).unwrap_or(0),
            },
            ..Parts::default()
        };
        let rid = if token >> 24 == old::TYPE_DEF && !array { token & old::ROW } else { 0 };
        let mut mt = MethodTable { rid, class_or_canonical: class, ..MethodTable::from_parts(parts) };
        if !array && kind == old::PRIMITIVE {
            mt.flags |= TRUE_PRIMITIVE;
        }
        Some(mt)
    }

    /// Where a string has its length and its text, where that is not behind its MethodTable: in CLR 2.0 its capacity stands
    /// there.
    pub fn string_places(&self) -> Option<(u64, u64)> {
        self.string
    }

    /// Whether arrays of references name the type of their elements in front of them, as through CLR 2.0: then the first
    /// element lies where the base size ends.
    pub fn has_element_types(&self) -> bool {
        self.inline.is_some()
    }

    /// Takes the cells out of a MethodTable's pointers: images compiled ahead of time (through 2.2) lead to other images
    /// through cells. The parent's is marked by a flag and lies as far behind as the field does; the canonical
    /// MethodTable's by both tag bits; others by bit 0. Source: dotnet/coreclr v2.1 `src/vm/methodtable.h`.
    fn resolve(&self, space: &AddressSpace, mt: &mut MethodTable) {
        const CELL_TAGS: u64 = 3;
        if mt.flags & self.indirect_parent != 0 {
            mt.parent = space.ptr_at(mt.parent, self.parent).unwrap_or(0);
        }
        if mt.class_or_canonical & CELL_TAGS == CELL_TAGS {
            let cell = space.ptr(mt.class_or_canonical - CELL_TAGS).unwrap_or(0);
            mt.class_or_canonical = if cell == 0 { 0 } else { cell | self.canonical_tag };
        }
        mt.per_inst = through_cell(space, mt.per_inst).unwrap_or(0);
    }

    /// Whether the class field holds the canonical MethodTable instead of the EEClass.
    fn canonical_of(&self, mt: &MethodTable) -> Option<u64> {
        (mt.class_or_canonical & self.canonical_tag != 0).then_some(mt.class_or_canonical & !3)
    }

    /// The canonical MethodTable's address (its own for most types).
    pub fn canonical(&self, mt: &MethodTable) -> u64 {
        self.canonical_of(mt).unwrap_or(mt.address)
    }

    /// Address of the EEClass, through the canonical MethodTable; `None` also where types have none.
    pub fn eeclass(&self, space: &AddressSpace, mt: &MethodTable) -> Option<u64> {
        match self.canonical_of(mt) {
            None if self.class == 0 => None,
            None => Some(mt.class_or_canonical),
            Some(c) => {
                let class = space.ptr_at(c, self.class)?;
                (class & self.canonical_tag == 0).then_some(class)
            }
        }
    }

    /// Whether the EEClass points back, or to the type it is shared with: the proof that the address is a MethodTable.
    pub fn round_trips(&self, space: &AddressSpace, mt: &MethodTable) -> bool {
        self.eeclass(space, mt).and_then(|class| self.owner(space, class)) == Some(self.canonical(mt))
            || match self.inline {
                Some(_) => self.is_instantiation(space, mt),
                None => self.shares_class(space, mt),
            }
    }

    /// Whether it is an instantiation of CLR 2.0 that shares its class with others: the class leads to one of them, which
    /// leads back (the shared source, `clr/src/vm/generics.cpp`, `Generics::CreateTypeHandleForNonCanonicalGenericInstantiation`).
    fn is_instantiation(&self, space: &AddressSpace, mt: &MethodTable) -> bool {
        let owner = self.owner(space, mt.class_or_canonical).filter(|&a| a != mt.address);
        owner.and_then(|a| self.read(space, a)).is_some_and(|first| {
            first.class_or_canonical == mt.class_or_canonical
                && (first.base_size, first.flags) == (mt.base_size, mt.flags)
                && first.per_inst != 0
                && mt.per_inst != 0
        })
    }

    /// Whether the EEClass is in the dump.
    pub fn has_class(&self, space: &AddressSpace, mt: &MethodTable) -> bool {
        self.eeclass(space, mt).and_then(|class| self.owner(space, class)).is_some()
    }

    /// The MethodTable an EEClass points back to.
    fn owner(&self, space: &AddressSpace, class: u64) -> Option<u64> {
        match self.relative.1 {
            true => relative_pointer(space, class.checked_add(self.class_mt)?),
            false => space.ptr_at(class, self.class_mt),
        }
    }

    /// Whether it is a type made at run time for what a suspended method keeps (since 11.0): one for each layout of the
    /// data, all below `Continuation`, with one EEClass that points back to the first of them (dotnet/runtime
    /// `src/coreclr/vm/asynccontinuations.cpp`). None has a row in metadata.
    pub fn shares_class(&self, space: &AddressSpace, mt: &MethodTable) -> bool {
        let class = mt.class_or_canonical;
        let made = |m: &MethodTable| {
            m.rid == 0
                && m.class_or_canonical == class
                && m.parent != 0
                && m.flags & (HAS_COMPONENT_SIZE | CATEGORY) == 0
        };
        if !made(mt) || class & 3 != 0 {
            return false;
        }
        let first = self.owner(space, class).filter(|&a| a != mt.address).and_then(|a| self.read(space, a));
        first.is_some_and(|first| {
            made(&first)
                && first.parent == mt.parent
                && self.read(space, mt.parent).is_some_and(|p| {
                    let back = self.eeclass(space, &p).and_then(|c| self.owner(space, c));
                    p.rid != 0 && p.base_size <= mt.base_size && back == Some(self.canonical(&p))
                })
        })
    }

    /// Whether the type can be unloaded.
    pub fn is_collectible(&self, mt: &MethodTable) -> bool {
        mt.flags & self.collectible != 0
    }

    /// Whether the token did not fit its 16 bits (3.1 to 8).
    pub fn token_overflows(&self, mt: &MethodTable) -> bool {
        mt.rid == self.overflow_rid
    }

    /// Whether the module field is the defining module for every type (9.0 and later).
    pub fn module_is_defining(&self) -> bool {
        self.token.is_none()
    }

    /// Address of multipurpose slot `flag` (a bit of the low five of `flags2`), through .NET 8: dotnet/coreclr v3.1.32
    /// `methodtable.h`, `GetMultipurposeSlotPtr`. `None` when the type has no such slot.
    pub fn multipurpose_slot(&self, mt: &MethodTable, flag: u32, ptr: u64) -> Option<u64> {
        if mt.flags2 & flag == 0 {
            return None;
        }
        let below = mt.flags2 & (flag - 1) & 0x1F;
        let mut n = u64::from(below.count_ones());
        if n == 1 && below & 3 == 2 {
            n = 0;
        }
        Some(self.slot_address(mt, n, ptr))
    }

    /// Address where the optional members begin (after the slots and the vtable chunks), through .NET 8.
    pub fn optional_members(&self, mt: &MethodTable, ptr: u64) -> u64 {
        let n = u64::from((mt.flags2 & 0x1F).count_ones());
        self.slot_address(mt, n.max(2), ptr)
    }

    fn slot_address(&self, mt: &MethodTable, n: u64, ptr: u64) -> u64 {
        let chunks = u64::from(mt.virtuals).div_ceil(8) * ptr;
        let offset = if n < 2 { self.per_inst + n * ptr } else { self.per_inst + 2 * ptr + chunks + (n - 2) * ptr };
        mt.address.saturating_add(offset)
    }
}
