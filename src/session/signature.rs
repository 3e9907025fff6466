//! What metadata says of a method's arguments and locals.
//!
//! Names of parameters come from metadata, those of locals from symbols, types from the method's signatures (ECMA-335 II.23.2,
//! II.25.4 for the head of its body).

use std::sync::Arc;

use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::code::methods::MethodDesc;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::metadata::sig::{self, TypeSig};
use crate::clr::image::modules::Module;
use crate::clr::types::fields::{Element, et};
use crate::clr::types::typename::{ModuleNames, TypeName};

/// What the metadata says of a method's arguments and locals: name, type, how it is read.
#[derive(Debug, Clone, Default)]
pub struct Signature {
    /// Name, type and how it is read: `this` first, then the parameters.
    pub arguments: Vec<(String, String, Element)>,
    /// Type of each local and how it is read.
    pub locals: Vec<(String, Element)>,
    /// Names of locals by slot, from the symbols.
    names: Vec<(u16, String)>,
    /// Whether the method's signature was found.
    pub known: bool,
}

impl Signature {
    /// That of the method at `at`; locals have the names they have at IL offset `il`.
    pub fn of(clr: &Clr, at: &CodeAt, il: Option<u32>) -> Self {
        Self::read(clr, at, il).unwrap_or_default()
    }

    fn read(clr: &Clr, at: &CodeAt, il: Option<u32>) -> Option<Self> {
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
        if let Some(offset) = il {
            out.names = clr.local_names(at.module, rid, offset);
        }
        Some(out)
    }

    /// Name, type and reading of variable `number`: arguments first, then locals.
    pub fn variable(&self, number: i32) -> (String, String, Option<Element>) {
        let index = usize::try_from(number).ok().filter(|_| self.known);
        let Some(n) = index else { return (format!("variable {number}"), String::new(), None) };
        if let Some((name, ty, element)) = self.arguments.get(n) {
            return (name.clone(), ty.clone(), Some(*element));
        }
        let local = n - self.arguments.len();
        let typed = self.locals.get(local).cloned();
        let (ty, element) = typed.map_or_else(|| (String::new(), None), |(ty, element)| (ty, Some(element)));
        (self.local_name(local).map_or_else(|| format!("local {local}"), str::to_owned), ty, element)
    }

    /// Name of local `slot`, where symbols are at hand.
    pub fn local_name(&self, slot: usize) -> Option<&str> {
        self.names.iter().find(|(s, _)| usize::from(*s) == slot).map(|(_, name)| name.as_str())
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
