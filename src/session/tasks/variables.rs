//! The variables a suspended method of runtime-async keeps in its continuation, by the JIT's own record of them.
//!
//! Names of parameters come from metadata, types from the method's signatures (ECMA-335 II.23.2, II.25.4 for the head of
//! its body). Precompiled code has no such record: the references of its data are all that is known.

use std::sync::Arc;

use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::code::methods::MethodDesc;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::metadata::sig::{self, TypeSig};
use crate::clr::image::modules::Module;
use crate::clr::runtime::continuations::Continuation;
use crate::clr::types::fields::{Element, et};
use crate::clr::types::typename::{ModuleNames, TypeName};
use crate::session::Session;

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// `this`, a parameter's name, a local's where symbols are at hand, else `local N`; `+0x8` for a reference no record names.
    pub name: String,
    /// Name of its type as far as it is known.
    pub type_name: String,
    /// How its value is read.
    pub element: Element,
    /// Where it stands.
    pub at: u64,
}

impl Session {
    /// The variables the continuation keeps, in the order of their places.
    pub fn kept_variables(&self, c: &Continuation) -> Vec<Variable> {
        let Ok(clr) = self.clr() else { return Vec::new() };
        let ip = self.suspended_method(c).map_or(0, |m| m.ip);
        let at = clr.code().at(ip).filter(|_| ip != 0);
        let recorded = at.as_ref().and_then(|at| recorded(self, clr, c, at));
        recorded.unwrap_or_else(|| self.references(c))
    }

    /// The references in the data, where nothing tells what they are.
    fn references(&self, c: &Continuation) -> Vec<Variable> {
        let (Ok(clr), Ok(walker)) = (self.clr(), self.walker()) else { return Vec::new() };
        let Some(o) = walker.object_at(c.address) else { return Vec::new() };
        let mut found = Vec::new();
        o.slots(clr.space(), |slot| {
            let at = c.address.saturating_add(slot);
            if at >= c.data && clr.space().ptr(at).is_some_and(|v| v != 0) {
                let name = format!("+{:#x}", at - c.data);
                found.push(Variable { name, type_name: String::new(), element: Element(et::CLASS), at });
            }
        });
        found
    }
}

fn recorded(session: &Session, clr: &Clr, c: &Continuation, at: &CodeAt) -> Option<Vec<Variable>> {
    let point = clr.code().async_point(at)?;
    let signature = Signature::of(clr, at);
    let object = session.walker().ok()?.object_at(c.address)?;
    let mut places: Vec<(u64, i32)> = point.vars.iter().map(|v| (u64::from(v.offset), v.number)).collect();
    places.sort_unstable();
    let mut references = rustc_hash::FxHashSet::default();
    object.slots(clr.space(), |slot| {
        references.insert(slot);
    });
    let mut found = Vec::with_capacity(places.len());
    for (i, &(offset, number)) in places.iter().enumerate() {
        let (name, type_name, known) = signature.variable(number);
        let end = places.get(i + 1).map_or(object.size, |n| n.0);
        // What no signature tells: a reference by the type's map, else a number as wide as there is room.
        let element = known.unwrap_or_else(|| match references.contains(&offset) {
            true => Element(et::CLASS),
            false => number_of(offset, end.saturating_sub(offset)),
        });
        found.push(Variable { name, type_name, element, at: c.address.checked_add(offset)? });
    }
    Some(found)
}

/// The widest unsigned number that is aligned at `offset` and fits `room` bytes.
fn number_of(offset: u64, room: u64) -> Element {
    let fits = |(size, _): &&(u64, u8)| offset.is_multiple_of(*size) && *size <= room;
    let all = [(8, et::U8), (4, et::U4), (2, et::U2)];
    Element(all.iter().find(fits).map_or(et::U1, |n| n.1))
}

/// What the metadata says of a method's arguments and locals: name, type, how it is read.
#[derive(Default)]
struct Signature {
    arguments: Vec<(String, String, Element)>,
    locals: Vec<(String, Element)>,
    /// Names of locals by slot, from the symbols.
    names: Vec<(u16, String)>,
    /// Whether the method's signature was found.
    known: bool,
}

impl Signature {
    fn of(clr: &Clr, at: &CodeAt) -> Self {
        Self::read(clr, at).unwrap_or_default()
    }

    fn read(clr: &Clr, at: &CodeAt) -> Option<Self> {
        let module = clr.module(at.module);
        let metadata = module.metadata(clr)?;
        let rid = at.token? & 0x00FF_FFFF;
        let row = metadata.method(rid)?;
        let own = sig::method(row.signature)?;
        let md = at.method.and_then(|m| clr.method_desc(m));
        let owner = md.and_then(|m: MethodDesc| clr.method_table(m.owner));
        let arguments = owner.map(|mt| clr.type_arguments(&mt)).unwrap_or_default();
        let arguments: Vec<TypeName> = arguments.iter().map(|&h| clr.handle_tree(h)).collect();
        let names = ModuleNames::new(metadata, Arc::from(module.assembly_name(clr)), &arguments);
        let typed = |s: &TypeSig| (TypeName::from_sig(s, &names).display(), element(s));
        let mut out = Self { known: true, ..Self::default() };
        if own.convention & 0x20 != 0 {
            let owner_name = owner.map_or_else(String::new, |mt| clr.type_name(mt.address).to_string());
            let value = owner.is_some_and(|mt| mt.is_value_type());
            out.arguments.push(("this".into(), owner_name, Element(if value { et::PTR } else { et::CLASS })));
        }
        let params = metadata.params(rid);
        for (i, param) in own.params.iter().enumerate() {
            let name = params.iter().find(|p| usize::from(p.0) == i + 1).map(|p| p.1.to_owned());
            let (ty, element) = typed(param);
            out.arguments.push((name.unwrap_or_else(|| format!("argument {i}")), ty, element));
        }
        let locals = local_types(clr, &module, metadata, row.rva).unwrap_or_default();
        out.locals = locals.iter().map(typed).collect();
        if let Some(offset) = clr.code().il_of_suspension(at) {
            out.names = clr.local_names(at.module, rid, offset);
        }
        Some(out)
    }

    /// Variables are numbered through: arguments, then locals.
    fn variable(&self, number: i32) -> (String, String, Option<Element>) {
        let index = usize::try_from(number).ok().filter(|_| self.known);
        let Some(n) = index else { return (format!("variable {number}"), String::new(), None) };
        if let Some((name, ty, element)) = self.arguments.get(n) {
            return (name.clone(), ty.clone(), Some(*element));
        }
        let local = n - self.arguments.len();
        let typed = self.locals.get(local).cloned();
        let (ty, element) = typed.map_or_else(|| (String::new(), None), |(ty, element)| (ty, Some(element)));
        let name = self.names.iter().find(|(slot, _)| usize::from(*slot) == local).map(|(_, name)| name.clone());
        (name.unwrap_or_else(|| format!("local {local}")), ty, element)
    }
}

/// How values of a type are read.
fn element(sig: &TypeSig) -> Element {
    Element(match sig {
        TypeSig::Primitive(e) => *e,
        TypeSig::ValueType(_) | TypeSig::Generic { value_type: true, .. } => et::STRUCT,
        TypeSig::Ptr(_) | TypeSig::ByRef(_) | TypeSig::FnPtr(_) => et::PTR,
        TypeSig::SzArray(_) => et::SZARRAY,
        TypeSig::Array(..) => et::ARRAY,
        _ => et::CLASS,
    })
}

/// Types of the locals of the method whose body is at `rva`: in the image in the dump, else in its file.
fn local_types(clr: &Clr, module: &Module, metadata: &Metadata, rva: u32) -> Option<Vec<TypeSig>> {
    const HEADER: usize = 12;
    let in_memory = module.image_base.checked_add(u64::from(rva)).and_then(|a| clr.space().bytes(a, HEADER));
    let in_file = || Some(module.image_file(clr).ok()?.at(rva)?.get(..HEADER)?.to_vec());
    let token = |bytes: Vec<u8>| locals_token(&bytes, metadata);
    let row = in_memory.and_then(token).or_else(|| token(in_file()?))?;
    sig::locals(metadata.standalone_sig(row)?)
}

/// Row of the locals' signature in the head of a method's body of the large form; `None` when it is none.
fn locals_token(head: &[u8], metadata: &Metadata) -> Option<u32> {
    const LARGE: u16 = 3;
    let flags = u16::from_le_bytes(*head.first_chunk()?);
    let token = u32::from_le_bytes(*head.get(8..)?.first_chunk()?);
    let row = token & 0x00FF_FFFF;
    let right = flags & 3 == LARGE && flags >> 12 == 3 && token >> 24 == 0x11;
    (right && row != 0 && metadata.standalone_sig(row).is_some()).then_some(row)
}
