//! Fields of a type by name: FieldDescs joined with metadata, cached.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::fielddesc::FieldDesc;
use super::methodtable::MethodTable;
use super::typename::{ModuleNames, TypeName};
use crate::clr::Clr;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::metadata::sig::{self, TypeSig};

/// A field's element type, by the names the field's tools print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element(pub u8);

/// Element types (ECMA-335 II.23.1.16).
#[allow(missing_docs, reason = "the names are those of the standard")]
pub mod et {
    pub const BOOLEAN: u8 = 2;
    pub const CHAR: u8 = 3;
    pub const I1: u8 = 4;
    pub const U1: u8 = 5;
    pub const I2: u8 = 6;
    pub const U2: u8 = 7;
    pub const I4: u8 = 8;
    pub const U4: u8 = 9;
    pub const I8: u8 = 0xA;
    pub const U8: u8 = 0xB;
    pub const R4: u8 = 0xC;
    pub const R8: u8 = 0xD;
    pub const STRING: u8 = 0xE;
    pub const PTR: u8 = 0xF;
    pub const STRUCT: u8 = 0x11;
    pub const CLASS: u8 = 0x12;
    pub const VAR: u8 = 0x13;
    pub const ARRAY: u8 = 0x14;
    pub const I: u8 = 0x18;
    pub const U: u8 = 0x19;
    pub const FNPTR: u8 = 0x1B;
    pub const OBJECT: u8 = 0x1C;
    pub const SZARRAY: u8 = 0x1D;
}

impl Element {
    /// The name as tables print it: `Int32`, `SZArray`, `Struct`.
    pub fn name(self) -> &'static str {
        match self.0 {
            et::BOOLEAN => "Boolean",
            et::CHAR => "Char",
            et::I1 => "Int8",
            et::U1 => "UInt8",
            et::I2 => "Int16",
            et::U2 => "UInt16",
            et::I4 => "Int32",
            et::U4 => "UInt32",
            et::I8 => "Int64",
            et::U8 => "UInt64",
            et::R4 => "Float",
            et::R8 => "Double",
            et::STRING => "String",
            et::PTR => "Pointer",
            et::STRUCT => "Struct",
            et::CLASS => "Class",
            et::VAR => "Var",
            et::ARRAY => "Array",
            et::I => "NativeInt",
            et::U => "NativeUInt",
            et::FNPTR => "FunctionPointer",
            et::OBJECT => "Object",
            et::SZARRAY => "SZArray",
            _ => "Unknown",
        }
    }

    /// Whether a value is an object reference.
    pub fn is_reference(self) -> bool {
        matches!(self.0, et::STRING | et::CLASS | et::ARRAY | et::OBJECT | et::SZARRAY | et::VAR)
    }

    /// Bytes of a value; 0 for structs, whose size is their type's.
    pub fn size(self, ptr: u8) -> u32 {
        match self.0 {
            et::BOOLEAN | et::I1 | et::U1 => 1,
            et::CHAR | et::I2 | et::U2 => 2,
            et::I4 | et::U4 | et::R4 => 4,
            et::I8 | et::U8 | et::R8 => 8,
            et::STRUCT => 0,
            _ => u32::from(ptr),
        }
    }
}

/// One field of a type.
#[derive(Debug, Clone)]
pub struct Field {
    /// The runtime's record of it.
    pub desc: FieldDesc,
    /// Its name; a fallback by token when the metadata is missing.
    pub name: Arc<str>,
    /// Element type, references told apart by the signature where it is known.
    pub element: Element,
    /// Name of its type; `None` when the metadata is missing.
    pub type_name: Option<TypeName>,
    /// MethodTable that declares it.
    pub declaring: u64,
    /// Module whose metadata names it.
    pub module: u64,
    /// Signature, for resolving the type of a struct field.
    pub sig: Option<TypeSig>,
    /// MethodTable of its type, once somebody looked for it among those that are loaded.
    pub found: OnceLock<Option<u64>>,
}

impl Field {
    /// Offset in bytes from the first field (behind the MethodTable pointer), or in the statics storage.
    pub fn offset(&self) -> u64 {
        u64::from(self.desc.offset)
    }
}

/// All fields of a type.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Instance fields, inherited first, in the order of their classes' declarations.
    pub instance: Vec<Field>,
    /// Static fields the type itself declares, thread statics included.
    pub statics: Vec<Field>,
    /// Why the list is not complete, if it is not.
    pub partial: Option<String>,
}

/// Field lists met so far.
#[derive(Debug, Default)]
pub struct FieldCache {
    by_mt: RwLock<FxHashMap<u64, Arc<Fields>>>,
}

impl Clr {
    /// Fields of the type `mt`, read at first need.
    pub fn fields(&self, mt: u64) -> Arc<Fields> {
        if let Some(f) = self.field_cache.by_mt.read().unwrap_or_else(PoisonError::into_inner).get(&mt) {
            return f.clone();
        }
        let fields = Arc::new(self.read_fields(mt));
        let mut cache = self.field_cache.by_mt.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() < 1 << 18 {
            cache.insert(mt, fields.clone());
        }
        fields
    }

    /// Element type of values of the type `mt`: of an enum, its underlying type.
    pub fn element_type(&self, mt: &MethodTable) -> Option<u8> {
        if let Some(ahead) = self.ahead() {
            return Some(ahead.element_type(mt));
        }
        let class = self.mts().eeclass(self.space(), mt)?;
        let at = class.checked_add(self.layout().try_offset("EEClass", "InternalCorElementType")?)?;
        self.space().u8(at)
    }

    /// Bytes of the fields of a value type: its size without what surrounds a boxed one (dotnet/runtime
    /// `src/coreclr/vm/class.h`, `m_cbBaseSizePadding`).
    pub fn value_size(&self, mt: &MethodTable) -> Option<u64> {
        let padding = || {
            let class = self.mts().eeclass(self.space(), mt)?;
            self.space().u8(class.checked_add(self.layout().try_offset("EEClass", "BasePadding")?)?)
        };
        let around = padding().map_or(2 * self.header(), u64::from);
        u64::from(mt.base_size).checked_sub(around).filter(|&s| s > 0)
    }

    fn read_fields(&self, mt: u64) -> Fields {
        if let Some(ahead) = self.ahead() {
            return ahead.fields(mt);
        }
        let mut fields = Fields::default();
        let mut classes = self.class_chain(mt);
        let chain: Vec<MethodTable> = classes.by_ref().collect();
        fields.partial = classes.cut();
        for (depth, m) in chain.iter().enumerate().rev() {
            self.own_fields(m, depth == 0, &mut fields);
        }
        fields
    }

    fn own_fields(&self, mt: &MethodTable, statics: bool, fields: &mut Fields) {
        let descs = match super::fielddesc::read(self, mt) {
            Ok(d) => d,
            Err(why) => {
                fields.partial.get_or_insert_with(|| why.to_string());
                return;
            }
        };
        if let Some(why) = &descs.partial {
            fields.partial.get_or_insert_with(|| why.clone());
        }
        let module_address = self.defining_module(mt).unwrap_or(0);
        let module = self.module(module_address);
        let metadata = module.metadata(self);
        let args: Vec<TypeName> = self.type_arguments(mt).iter().map(|&h| self.handle_tree(h)).collect();
        let assembly: Arc<str> = module.assembly_name(self).into();
        for desc in descs.items {
            if desc.is_static && !statics {
                continue;
            }
            let field = self.field(desc, mt.address, module_address, metadata.map(|m| &**m), &assembly, &args);
            if desc.is_static { fields.statics.push(field) } else { fields.instance.push(field) }
        }
    }

    fn field(
        &self,
        desc: FieldDesc,
        declaring: u64,
        module: u64,
        metadata: Option<&Metadata>,
        assembly: &Arc<str>,
        args: &[TypeName],
    ) -> Field {
        let row = metadata.and_then(|m| m.field(desc.rid));
        let sig = row.and_then(|r| sig::field(r.signature));
        let element = match (&sig, desc.element_type) {
            (Some(s), et::CLASS) => Element(reference_element(s)),
            (_, e) => Element(e),
        };
        let type_name = metadata
            .zip(sig.as_ref())
            .map(|(m, s)| TypeName::from_sig(s, &ModuleNames::new(m, assembly.clone(), args)));
        let name = match row {
            Some(r) => r.name.into(),
            None => format!("0x{:08x}", 0x0400_0000 | desc.rid).into(),
        };
        Field { desc, name, element, type_name, declaring, module, sig, found: OnceLock::new() }
    }
}

/// A FieldDesc calls every reference a class; the signature tells strings, arrays and objects apart.
fn reference_element(sig: &TypeSig) -> u8 {
    match sig {
        TypeSig::Primitive(e @ (et::STRING | et::OBJECT)) => *e,
        TypeSig::SzArray(_) => et::SZARRAY,
        TypeSig::Array(..) => et::ARRAY,
        _ => et::CLASS,
    }
}
