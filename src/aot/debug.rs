//! Fields, statics and their owners by a file of debug information, where one of the program's build is at hand.
//!
//! Source: dotnet/runtime `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/UserDefinedTypeDescriptor.cs` (a class under its
//! mangled name, its own instance fields as members, by their distance from the object, of a struct from its first byte; on
//! Windows a class of its own for statics, by their distance from their base or their first byte),
//! `ObjectWriter/Dwarf/DwarfInfo.cs`, `ObjectWriter/CodeView/CodeViewTypesBuilder.cs`, `UnixNodeMangler.cs`,
//! `WindowsNodeMangler.cs` (names of a MethodTable, of a cell of static references, of other statics).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::clr::types::fields::{Element, et};
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::TypeName;
use crate::native::Native;
use crate::native::classes::{Classes, Member, MemberType};

use super::Aot;
use super::reflected::Place;

/// What names the MethodTable of a class: this, the length of the name, the name; on Windows the name between two texts.
const METHOD_TABLE: &str = "_ZTV";
const VIRTUAL_TABLE: (&str, &str) = ("??_7", "@@6B@");
/// What stands before the name of a struct there.
const BOXED: &str = "Boxed_";
/// What names the cell of a class's static references, and its other statics.
const GC_STATICS: &str = "__GCSTATICS";
const STATICS: &str = "__NONGCSTATICS";
/// What stands before both in the name of the class that describes them.
const CLASS_OF_STATICS: &str = "__type";

/// Structs in structs that are followed: programs nest two or three.
const MAX_NESTED: usize = 8;
/// Fields of a class up to which a struct among them is shown by its own; no class has as many.
const MAX_FIELDS: usize = 1 << 12;

/// What a symbol of a program names, with the mangled name of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    MethodTable(&'a str),
    /// The cell of its static references.
    Cell(&'a str),
    /// Its other statics.
    Statics(&'a str),
}

impl<'a> Named<'a> {
    fn of(symbol: &'a str) -> Option<Self> {
        let (before, behind) = VIRTUAL_TABLE;
        let table = || symbol.strip_prefix(before)?.strip_suffix(behind);
        if let Some(name) = symbol.strip_prefix(METHOD_TABLE).and_then(counted).or_else(table) {
            return Some(Self::MethodTable(name.strip_prefix(BOXED).unwrap_or(name)));
        }
        let member = |what| {
            let windows = || symbol.strip_prefix('?')?.strip_prefix(what)?.strip_prefix('@')?.strip_suffix("@@");
            symbol.strip_prefix(what).or_else(windows)
        };
        member(GC_STATICS).map(Self::Cell).or_else(|| member(STATICS).map(Self::Statics))
    }
}

/// What the debug information of a program says.
#[derive(Debug, Default)]
pub struct Debug {
    classes: Classes,
    /// Mangled names by MethodTable, and the other way round.
    names: FxHashMap<u64, Arc<str>>,
    types: FxHashMap<Arc<str>, u64>,
    /// Mangled names of owners by cell, and the other way round.
    owners: FxHashMap<u64, Arc<str>>,
    cells: FxHashMap<Arc<str>, u64>,
    /// Where statics without references lie.
    statics: FxHashMap<Arc<str>, u64>,
}

impl Debug {
    /// `is_type`: whether a MethodTable of the program lies there; the runtime itself has classes with such symbols.
    fn of(classes: Classes, is_type: impl Fn(u64) -> bool) -> Self {
        let mut debug = Self::default();
        for (symbol, address) in &classes.data {
            match Named::of(symbol) {
                Some(Named::MethodTable(name)) if is_type(*address) => {
                    let name: Arc<str> = name.into();
                    debug.names.insert(*address, name.clone());
                    debug.types.insert(name, *address);
                }
                Some(Named::Cell(name)) => {
                    let name: Arc<str> = name.into();
                    debug.owners.insert(*address, name.clone());
                    debug.cells.insert(name, *address);
                }
                Some(Named::Statics(name)) => drop(debug.statics.insert(name.into(), *address)),
                _ => {}
            }
        }
        debug.classes = classes;
        debug
    }

    /// Members of the class whose MethodTable is at `mt`.
    fn members(&self, mt: u64) -> &[Member] {
        self.names.get(&mt).map_or(&[], |n| self.class(n))
    }

    fn class(&self, name: &str) -> &[Member] {
        self.classes.members.get(name).map_or(&[], Vec::as_slice)
    }

    /// Statics of one kind of the class of that mangled name.
    fn class_of_statics(&self, kind: &str, name: &str) -> &[Member] {
        self.class(&format!("{CLASS_OF_STATICS}{kind}{name}"))
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
            let classes = modules.filter_map(|m| native.classes(m.base, |name| Named::of(name).is_some()));
            let is_type = |mt| self.types.words(mt).is_some_and(|w| self.types.is_type(&w));
            classes.map(|c| Debug::of(c, is_type)).collect()
        })
    }

    /// Own fields of the class, where debug information has them and its references are those of the MethodTable.
    pub fn debug_fields(&self, mt: &MethodTable, references: &[u64]) -> Vec<DebugField> {
        let described = self.debug().iter().map(|d| (d, d.members(mt.address))).find(|(_, m)| !m.is_empty());
        let Some((debug, members)) = described else { return Vec::new() };
        // Of a struct they are counted from its first byte.
        let first = if mt.is_value_type() { 8 } else { 0 };
        self.believed(debug, members, (first, u64::from(mt.base_size).saturating_sub(8)), references)
    }

    /// Members as fields, if all lie in an object of so many bytes and have references where it has; `first` is what their
    /// offsets are counted from.
    fn believed(
        &self,
        debug: &Debug,
        members: &[Member],
        (first, end): (u64, u64),
        references: &[u64],
    ) -> Vec<DebugField> {
        let mut fields = Vec::new();
        self.flattened(debug, members, ("", first, 0), &mut fields);
        let holds = fields.iter().all(|(_, at, element, _)| {
            let reference = references.binary_search(at).is_ok();
            let like = *element == et::STRUCT || Element(*element).is_reference() == reference;
            like && (8..end).contains(at)
        });
        if holds { fields } else { Vec::new() }
    }

    /// Members as fields behind `prefix`. A struct that the program never boxes has no MethodTable that could tell its
    /// fields: they stand for it, as `outer.inner`.
    fn flattened(
        &self,
        debug: &Debug,
        members: &[Member],
        (prefix, first, depth): (&str, u64, usize),
        into: &mut Vec<DebugField>,
    ) {
        for m in members {
            let at = m.offset.saturating_add(first);
            let name: Arc<str> = if prefix.is_empty() { m.name.clone() } else { format!("{prefix}.{}", m.name).into() };
            let inner = match &m.ty {
                MemberType::Class(class) if !debug.types.contains_key(class) && depth < MAX_NESTED => {
                    debug.class(class)
                }
                _ => &[],
            };
            if inner.is_empty() || into.len() >= MAX_FIELDS {
                let (element, ty) = self.debug_type(debug, &m.ty);
                into.push((name, at, element, ty));
            } else {
                self.flattened(debug, inner, (&name, at, depth + 1), into);
            }
        }
    }

    /// Statics of the class, where debug information describes them.
    pub fn debug_statics(&self, mt: u64) -> Vec<(DebugField, Place)> {
        let Some((debug, name)) = self.debug().iter().find_map(|d| Some((d, d.names.get(&mt)?))) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        if let Some(&at) = debug.statics.get(name) {
            for m in debug.class_of_statics(STATICS, name) {
                let (element, ty) = self.debug_type(debug, &m.ty);
                if !Element(element).is_reference() {
                    found.push(((m.name.clone(), m.offset, element, ty), Place::Static(at.wrapping_add(m.offset))));
                }
            }
        }
        if let Some(&cell) = debug.cells.get(name) {
            let of_base = |f: DebugField| {
                let place = Place::Base(cell, f.1);
                (f, place)
            };
            found.extend(self.fields_of_base(debug, name, cell).into_iter().map(of_base));
        }
        found
    }

    /// Static references of the class of that mangled name, whose cell is at `cell`, as its base has them.
    fn fields_of_base(&self, debug: &Debug, name: &str, cell: u64) -> Vec<DebugField> {
        let shape = self.cells().base(cell).and_then(|base| self.types.words(self.object_type(base)?));
        let Some(shape) = shape else { return Vec::new() };
        let members = debug.class_of_statics(GC_STATICS, name);
        let end = u64::from(shape.base_size).saturating_sub(8);
        self.believed(debug, members, (0, end), &self.references(shape.address))
    }

    /// Slots of static references that debug information names: address and `Type.Field`.
    pub fn debug_slots(&self) -> Vec<(u64, Arc<str>)> {
        let mut slots = Vec::new();
        for debug in self.debug() {
            for (name, &cell) in &debug.cells {
                let fields = self.fields_of_base(debug, name, cell);
                let Some(base) = self.cells().base(cell).filter(|_| !fields.is_empty()) else { continue };
                let owner = self.spelled(debug, name);
                let slot = |f: &DebugField| Some((base.checked_add(f.1)?, format!("{owner}.{}", f.0).into()));
                slots.extend(fields.iter().filter_map(slot));
            }
        }
        slots
    }

    /// A mangled name as metadata spells it, where the class has a MethodTable.
    fn spelled(&self, debug: &Debug, name: &Arc<str>) -> Arc<str> {
        debug.types.get(name).map_or_else(|| name.clone(), |&mt| self.types.tree(mt, 0).display().into())
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
        let of = |d| move |(&cell, name)| (cell, self.spelled(d, name));
        self.debug().iter().flat_map(|d| d.owners.iter().map(of(d))).collect()
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
    fn symbols_name_tables_and_statics_on_both_systems() {
        let table = Some(Named::MethodTable("Zoo_Node"));
        assert_eq!([Named::of("_ZTV8Zoo_Node"), Named::of("_ZTV14Boxed_Zoo_Node")], [table, table]);
        assert_eq!([Named::of("??_7Zoo_Node@@6B@"), Named::of("??_7Boxed_Zoo_Node@@6B@")], [table, table]);
        let cell = Some(Named::Cell("Zoo_Cache"));
        assert_eq!([Named::of("__GCSTATICSZoo_Cache"), Named::of("?__GCSTATICS@Zoo_Cache@@")], [cell, cell]);
        assert_eq!(Named::of("?__NONGCSTATICS@Zoo_Cache@@"), Some(Named::Statics("Zoo_Cache")));
        assert_eq!([Named::of("??_7Zoo_Node@@6BOther@@@"), Named::of("?Main@Zoo@@")], [None, None]);
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
