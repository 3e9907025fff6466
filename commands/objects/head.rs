//! What dumpobj, dumpvc and dumparray say first of an object or value: its type and size.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::types::fields::{Element, et};
use crate::clr::types::methodtable::MethodTable;
use crate::session::Session;
use crate::shell::{Cell, Fact, Out, Returns, Type, digits};

/// What [`Head`] prints.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("address", "address of the object or value", Type::Address),
    Fact::new("type", "its type", Type::TypeName),
    Fact::new("method_table", "MethodTable of its type", Type::Address),
    Fact::new("ee_class", "EEClass of its type", Type::Address),
    Fact::new("size", "its size", Type::Bytes),
    Fact::new("file", "file of the module that defines its type", Type::Path),
]);

/// What [`said`] prints.
pub const SAID: Fact =
    Fact::new("decoded", "what the value says in words: a date, a name of an enum, ...", Type::Content);

/// What [`array`] prints.
pub const ARRAY_RETURNS: Returns = Returns::facts(&[
    Fact::new("rank", "dimensions of the array", Type::Count),
    Fact::new("elements", "elements of the array", Type::Count),
    Fact::new("element_kind", "what its elements are: CLASS, VALUETYPE, or the name of a primitive type", Type::Text),
    Fact::new("element_type", "type of its elements", Type::TypeName),
]);

/// The head of an object or value.
pub struct Head {
    /// Address.
    pub address: u64,
    /// Address of its MethodTable.
    pub mt: u64,
    /// Address of its EEClass, where that is shown.
    pub class: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

impl Head {
    /// Name, MethodTable, EEClass and size.
    pub fn print(&self, clr: &Clr, out: &mut Out) -> Result<()> {
        let name = clr.type_name_long(self.mt);
        out.datum("address", &Cell::Addr(self.address));
        out.fact("type", Cell::text(&*name), format!("Name:        {name}"))?;
        let line = format!("MethodTable: {:0w$x}", self.mt, w = digits());
        out.fact("method_table", Cell::Addr(self.mt), line)?;
        if let Some(class) = self.class {
            out.fact("ee_class", Cell::Addr(class), format!("EEClass:     {class:0w$x}", w = digits()))?;
        }
        let size = self.size;
        out.fact("size", Cell::Num(size), format!("Size:        {size}(0x{size:x}) bytes"))?;
        Ok(())
    }
}

/// The file of the module that defines a type.
pub fn file(clr: &Clr, out: &mut Out, mt: &MethodTable) -> Result<()> {
    let file = clr.defining_module(mt).map(|m| clr.module(m).display_name(clr));
    let line = format!("File:        {}", file.as_deref().unwrap_or_default());
    out.fact("file", Cell::maybe(file), line)?;
    Ok(())
}

/// What a value or object says in words, as [`SAID`] and a line behind all others.
pub fn said(out: &mut Out, words: Option<String>) -> Result<()> {
    match words {
        Some(words) => Ok(out.fact("decoded", Cell::text(&*words), format!("Decoded:     {words}"))?),
        None => Ok(()),
    }
}

/// Rank, length and elements of an array of the type `mt` with `count` elements.
pub fn array(session: &Session, out: &mut Out, mt: &MethodTable, count: u64) -> Result<()> {
    let clr = session.clr()?;
    let (rank, word) = (mt.rank(clr.ptr_size()), element_word(session, mt.per_inst));
    if out.wants_data() {
        out.datum("element_type", &Cell::text(clr.handle_tree(mt.per_inst).reflection()));
    }
    let kind = if word == "?" { Cell::None } else { Cell::text(word) };
    let facts = [("rank", Cell::Num(rank.into())), ("elements", Cell::Num(count)), ("element_kind", kind)];
    out.facts(&facts, format!("Array:       Rank {rank}, Number of elements {count}, Type {word}"))?;
    Ok(())
}

/// The element's type in the word SOS prints: `CLASS`, `VALUETYPE`, or the primitive's name.
pub fn element_word(session: &Session, handle: u64) -> &'static str {
    match element_type(session, handle) {
        Some(Element(et::CLASS)) => "CLASS",
        Some(Element(et::STRUCT)) => "VALUETYPE",
        Some(Element(et::SZARRAY)) => "SZARRAY",
        Some(Element(et::ARRAY)) => "ARRAY",
        Some(Element(et::U1)) => "Byte",
        Some(Element(et::I1)) => "SByte",
        Some(Element(et::R4)) => "Single",
        Some(Element(et::I)) => "IntPtr",
        Some(Element(et::U)) => "UIntPtr",
        Some(Element(et::PTR)) => "PTR",
        Some(Element(et::FNPTR)) => "FNPTR",
        Some(e) => e.name(),
        None => "?",
    }
}

/// Element type of values of the type behind `handle`.
pub fn element_type(session: &Session, handle: u64) -> Option<Element> {
    let clr = session.clr().ok()?;
    if handle & 2 != 0 {
        return clr.space().u8(handle & !3).map(Element);
    }
    let mt = clr.method_table(handle)?;
    if mt.is_array() {
        return Some(Element(if mt.is_sz_array() { et::SZARRAY } else { et::ARRAY }));
    }
    if !mt.is_value_type() {
        return Some(Element(et::CLASS));
    }
    let class = clr.mts().eeclass(clr.space(), &mt)?;
    let at = class.checked_add(clr.layout().try_offset("EEClass", "InternalCorElementType")?)?;
    clr.space().u8(at).map(Element)
}
