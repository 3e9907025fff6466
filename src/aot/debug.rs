//! Fields and owners of statics by a file of debug information, where one of the program's build is at hand.
//!
//! Source: dotnet/runtime `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/UserDefinedTypeDescriptor.cs` (a class under its
//! mangled name, its own instance fields as members, by their distance from the object, of a struct from its first byte),
//! `ObjectWriter/Dwarf/DwarfInfo.cs`, `UnixNodeMangler.cs` (names of a MethodTable and of a cell of static references).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::clr::types::fields::{Element, et};
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::TypeName;
use crate::native::Native;
use crate::native::classes::{Classes, Member, MemberType};

use super::Aot;

/// What names the MethodTable of a class: this, the length of the name, the name.
const METHOD_TABLE: &str = "_ZTV";
/// What stands before the name of a struct there.
const BOXED: &str = "Boxed_";
/// What names the cell of a class's static references.
const GC_STATICS: &str = "__GCSTATICS";

/// What the debug information of a program says.
#[derive(Debug, Default)]
pub struct Debug {
    classes: Classes,
    /// Mangled names by MethodTable, and the other way round.
    names: FxHashMap<u64, Arc<str>>,
    types: FxHashMap<Arc<str>, u64>,
    /// Mangled names of owners by cell.
    cells: FxHashMap<u64, Arc<str>>,
}

impl Debug {
    fn of(classes: Classes) -> Self {
        let mut debug = Self::default();
        for (symbol, address) in &classes.data {
            if let Some(name) = symbol.strip_prefix(METHOD_TABLE).and_then(counted) {
                let name: Arc<str> = name.strip_prefix(BOXED).unwrap_or(name).into();
                debug.names.insert(*address, name.clone());
                debug.types.insert(name, *address);
            } else if let Some(name) = symbol.strip_prefix(GC_STATICS) {
                debug.cells.insert(*address, name.into());
            }
        }
        debug.classes = classes;
        debug
    }

    /// Members of the class whose MethodTable is at `mt`.
    fn members(&self, mt: u64) -> &[Member] {
        self.names.get(&mt).and_then(|n| self.classes.members.get(n)).map_or(&[], Vec::as_slice)
    }
}

/// The name behind its length.
fn counted(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (length, name) = text.split_at_checked(digits)?;
    let length: usize = length.parse().ok()?;
    (name.len() == length).then_some(name)
}

/// A field by the debug information: its name, its place in an object, element type and type.
pub type DebugField = (Arc<str>, u64, u8, Option<TypeName>);

impl Aot {
    /// The debug information, read at first need.
    fn debug(&self) -> &[Debug] {
        self.debug.get_or_init(|| {
            let native = Native::new(self.dump.clone());
            let modules = self.types.modules().iter();
            let wanted = |name: &str| name.starts_with(METHOD_TABLE) || name.starts_with(GC_STATICS);
            modules.filter_map(|m| native.classes(m.base, wanted)).map(Debug::of).collect()
        })
    }

    /// Own fields of the class, where debug information has them and its references are those of the MethodTable.
    pub fn debug_fields(&self, mt: &MethodTable, references: &[u64]) -> Vec<DebugField> {
        let described = self.debug().iter().map(|d| (d, d.members(mt.address))).find(|(_, m)| !m.is_empty());
        let Some((debug, members)) = described else { return Vec::new() };
        // Of a struct they are counted from its first byte.
        let first = if mt.is_value_type() { 8 } else { 0 };
        let fields: Vec<DebugField> = members
            .iter()
            .map(|m| {
                let (element, ty) = self.debug_type(debug, &m.ty);
                (m.name.clone(), m.offset.saturating_add(first), element, ty)
            })
            .collect();
        let end = u64::from(mt.base_size).saturating_sub(8);
        let holds = fields.iter().all(|(_, at, element, _)| {
            let reference = references.binary_search(at).is_ok();
            let like = *element == et::STRUCT || Element(*element).is_reference() == reference;
            like && (8..end).contains(at)
        });
        if holds { fields } else { Vec::new() }
    }

    fn debug_type(&self, debug: &Debug, ty: &MemberType) -> (u8, Option<TypeName>) {
        let named = |name: &Arc<str>| match debug.types.get(name) {
            Some(&mt) => self.types.tree(mt, 0),
            None => TypeName::plain(name.to_string(), ""),
        };
        match ty {
            MemberType::Reference(name) => {
                let ty = named(name);
                (self.element_of(&ty, Some(true)), Some(ty))
            }
            MemberType::Class(name) => (et::STRUCT, Some(named(name))),
            MemberType::Pointer => (et::PTR, None),
            MemberType::Number(encoding, size, name) => {
                let element = number(*encoding, *size, name);
                let ty = crate::clr::image::metadata::sig::primitive_name(element);
                (element, ty.map(|t| TypeName::plain(t, "System.Private.CoreLib")))
            }
            MemberType::Other => (et::U, None),
        }
    }

    /// Owners of cells by their names, as metadata spells them where the class has a MethodTable.
    pub fn debug_owners(&self) -> Vec<(u64, Arc<str>)> {
        let of = |d: &Debug| -> Vec<(u64, Arc<str>)> {
            let owner = |name: &Arc<str>| match d.types.get(name) {
                Some(&mt) => self.types.tree(mt, 0).display().into(),
                None => name.clone(),
            };
            d.cells.iter().map(|(&cell, name)| (cell, owner(name))).collect()
        };
        self.debug().iter().flat_map(of).collect()
    }
}

/// Element type of a number by how it is encoded (`DW_ATE_*`); two have the size of a pointer and no other mark than a name.
fn number(encoding: u8, size: u64, name: &str) -> u8 {
    const BOOLEAN: u8 = 2;
    const FLOAT: u8 = 4;
    const SIGNED: u8 = 5;
    const SIGNED_CHAR: u8 = 6;
    const UTF: u8 = 0x10;
    let signed = matches!(encoding, SIGNED | SIGNED_CHAR);
    match (encoding, size) {
        (BOOLEAN, _) => et::BOOLEAN,
        (UTF, _) => et::CHAR,
        (FLOAT, 4) => et::R4,
        (FLOAT, _) => et::R8,
        (_, 1) => {
            if signed {
                et::I1
            } else {
                et::U1
            }
        }
        (_, 2) => {
            if signed {
                et::I2
            } else {
                et::U2
            }
        }
        (_, 4) => {
            if signed {
                et::I4
            } else {
                et::U4
            }
        }
        (_, 8) if name == "nint" => et::I,
        (_, 8) if name == "nuint" => et::U,
        (_, 8) => {
            if signed {
                et::I8
            } else {
                et::U8
            }
        }
        _ => et::U,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_behind_its_length() {
        assert_eq!(counted("8Zoo_Node"), Some("Zoo_Node"));
        assert_eq!(counted("7Zoo_Node"), None);
        assert_eq!(counted("Zoo"), None);
    }

    #[test]
    fn numbers_by_encoding_and_size() {
        let of = |encoding, size, name| number(encoding, size, name);
        assert_eq!(
            [of(2, 1, "bool"), of(0x10, 2, "char16_t"), of(5, 8, "nint"), of(5, 8, "long")],
            [et::BOOLEAN, et::CHAR, et::I, et::I8]
        );
        assert_eq!([of(7, 8, "nuint"), of(7, 1, "byte"), of(4, 8, "double")], [et::U, et::U1, et::R8]);
    }
}
