//! Type names in both spellings, built from MethodTables and metadata, cached.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::methodtable::MethodTable;
use super::typename::{Named, TypeName};
use crate::clr::Clr;
use crate::clr::image::metadata::sig::primitive_name;
use crate::clr::layout::through_cell;

/// What every fallback name has in it.
const FALLBACK: &str = "!0x";
/// Deepest nesting of type arguments followed.
const MAX_DEPTH: u32 = 24;
/// More type arguments than any type has.
const MAX_ARGS: u16 = 256;
/// `enum_flag_Category_Mask` over which primitive types are told from enums: 0x70000 is a true primitive.
const PRIMITIVE: (u32, u32) = (0x000F_0000, 0x0007_0000);

/// Element types of TypeDescs (ECMA-335 II.23.1.16).
mod element {
    pub const PTR: u8 = 0x0F;
    pub const BYREF: u8 = 0x10;
    pub const VAR: u8 = 0x13;
    pub const ARRAY: u8 = 0x14;
    pub const FNPTR: u8 = 0x1B;
    pub const SZARRAY: u8 = 0x1D;
    pub const MVAR: u8 = 0x1E;
}

/// Both spellings of a type's name.
#[derive(Debug, Clone)]
pub struct TypeNames {
    /// The spelling of dumpheap, gcroot, objsize: `List<System.String>`.
    pub short: Arc<str>,
    /// The spelling of dumpobj, dumpmt, gchandles: ``List`1[[System.String, System.Private.CoreLib]]``.
    pub long: Arc<str>,
}

/// Names built so far, by MethodTable.
#[derive(Debug, Default)]
pub struct Names {
    by_mt: RwLock<FxHashMap<u64, TypeNames>>,
}

/// Names kept at most: real processes have tens of thousands of types, a hostile dump must not fill memory.
const MAX_NAMES: usize = 1 << 20;

impl Clr {
    /// Both names of the type `mt`.
    pub fn type_names(&self, mt: u64) -> TypeNames {
        if let Some(n) = self.names.by_mt.read().unwrap_or_else(PoisonError::into_inner).get(&mt) {
            return n.clone();
        }
        let tree = self.type_tree(mt);
        let names = TypeNames { short: self.spell_short(&tree).into(), long: tree.reflection().into() };
        let mut cache = self.names.by_mt.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() < MAX_NAMES {
            cache.insert(mt, names.clone());
        }
        names
    }

    fn spell_short(&self, tree: &TypeName) -> String {
        tree.display()
    }

    /// The name as dumpheap prints it.
    pub fn type_name(&self, mt: u64) -> Arc<str> {
        self.type_names(mt).short
    }

    /// The name as dumpobj prints it.
    pub fn type_name_long(&self, mt: u64) -> Arc<str> {
        self.type_names(mt).long
    }

    /// Whether the name of the type `mt`, or of a type in it, is a fallback: `Module!0x02000123`.
    pub fn is_unnamed(&self, mt: u64) -> bool {
        // Names are kept, trees are not.
        self.type_name(mt).contains(FALLBACK) && self.type_tree(mt).is_missing()
    }

    /// The name of the type `mt` as a tree.
    pub fn type_tree(&self, mt: u64) -> TypeName {
        self.tree(mt, 0)
    }

    fn tree(&self, address: u64, depth: u32) -> TypeName {
        if let Some(ahead) = self.ahead() {
            return ahead.tree(address);
        }
        if address == self.known.free {
            return TypeName::Free;
        }
        if depth > MAX_DEPTH {
            return TypeName::Unknown;
        }
        let Some(mt) = self.method_table(address) else { return TypeName::Unknown };
        if mt.is_array() {
            let of = Box::new(self.handle(mt.per_inst, depth + 1));
            return if mt.is_sz_array() {
                TypeName::SzArray(of)
            } else {
                TypeName::MdArray(of, mt.rank(self.ptr_size()))
            };
        }
        let args = self.type_arguments(&mt);
        let args: Vec<TypeName> = args.iter().map(|&h| self.handle(h, depth + 1)).collect();
        self.named(&mt, args)
    }

    /// Type handles of the generic arguments of `mt`; empty for a type that is not generic.
    pub fn type_arguments(&self, mt: &MethodTable) -> Vec<u64> {
        if let Some(ahead) = self.ahead() {
            return ahead.arguments(mt);
        }
        self.read_arguments(mt).unwrap_or_default()
    }

    fn read_arguments(&self, mt: &MethodTable) -> Option<Vec<u64>> {
        if self.mts().has_element_types() {
            return self.inline_arguments(mt);
        }
        if !mt.is_generic() || mt.per_inst == 0 {
            return None;
        }
        // PerInstInfo points at an array of dictionaries, its sizes (u16 dictionaries, u16 arguments) lie in front;
        // the last dictionary is the type's own and starts with the arguments.
        let (space, ptr) = (self.space(), self.header());
        let dictionaries = space.u16(mt.per_inst.checked_sub(4)?)?;
        let count = space.u16(mt.per_inst.checked_sub(2)?)?;
        if dictionaries == 0 || count == 0 || count > MAX_ARGS {
            return None;
        }
        let own = through_cell(space, space.ptr_at(mt.per_inst, ptr * u64::from(dictionaries - 1))?)?;
        (0..u64::from(count)).map(|i| through_cell(space, space.ptr_at(own, i * ptr)?)).collect()
    }

    /// The same in CLR 2.0, whose dictionaries have no sizes in front: metadata knows how many arguments a type has, and each
    /// generic one above it has a dictionary in front of its own. What is no type is no argument.
    fn inline_arguments(&self, mt: &MethodTable) -> Option<Vec<u64>> {
        let arity = |m: &MethodTable| {
            let module = self.module(self.defining_module(m)?);
            let params = module.metadata(self)?.generic_params(0x0200_0000 | self.type_rid(m)).len();
            Some(params.min(usize::from(MAX_ARGS)))
        };
        let count = arity(mt).filter(|&n| n > 0 && mt.per_inst != 0 && !mt.is_array())?;
        let before = self.class_chain(mt.parent).filter(|m| arity(m).is_some_and(|n| n > 0)).count();
        let (space, ptr) = (self.space(), self.header());
        let own = space.ptr_at(mt.per_inst, ptr * before as u64)?;
        let is_type = |h: &u64| h & 2 != 0 || self.valid_method_table(*h).is_some();
        (0..count as u64).map(|i| space.ptr_at(own, i * ptr).filter(is_type)).collect()
    }

    /// The name behind a type handle as a tree.
    pub fn handle_tree(&self, handle: u64) -> TypeName {
        self.handle(handle, 0)
    }

    /// A type handle: a MethodTable, or a TypeDesc marked by bit 1.
    fn handle(&self, handle: u64, depth: u32) -> TypeName {
        if handle & 2 == 0 {
            return self.tree(handle, depth);
        }
        self.type_desc(handle & !3, depth).unwrap_or(TypeName::Unknown)
    }

    fn type_desc(&self, desc: u64, depth: u32) -> Option<TypeName> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (space, l) = (self.space(), self.layout());
        let kind = space.u8(desc.checked_add(l.try_offset("TypeDesc", "TypeAndFlags")?)?)?;
        Some(match kind {
            element::PTR | element::BYREF => {
                let of = through_cell(space, space.ptr_at(desc, l.try_offset("ParamTypeDesc", "TypeArg")?)?)?;
                let of = Box::new(self.handle(of, depth + 1));
                if kind == element::PTR { TypeName::Pointer(of) } else { TypeName::ByRef(of) }
            }
            // Through 3.1 arrays are TypeDescs too: the template MethodTable knows the rank, the argument the element.
            element::SZARRAY | element::ARRAY => {
                let of = through_cell(space, space.ptr_at(desc, l.try_offset("ParamTypeDesc", "TypeArg")?)?)?;
                let of = Box::new(self.handle(of, depth + 1));
                if kind == element::SZARRAY {
                    return Some(TypeName::SzArray(of));
                }
                let template = l.pointer(space, desc, "ParamTypeDesc", "TemplateMT")?;
                TypeName::MdArray(of, self.method_table(template)?.rank(self.ptr_size()))
            }
            element::VAR | element::MVAR => {
                let token = space.u32(desc.checked_add(l.try_offset("TypeVarTypeDesc", "Token")?)?)?;
                let module = l.pointer(space, desc, "TypeVarTypeDesc", "Module")?;
                let number = self.generic_param_number(module, token)?;
                TypeName::Param(Cow::Owned(format!("T{}", number + 1)))
            }
            element::FNPTR => TypeName::FnPtr,
            _ => TypeName::Unknown,
        })
    }

    /// Position of a generic parameter among those of its owner.
    fn generic_param_number(&self, module: u64, token: u32) -> Option<u32> {
        let module = self.module(module);
        module.metadata(self)?.generic_param_number(token & 0x00FF_FFFF)
    }

    fn named(&self, mt: &MethodTable, mut args: Vec<TypeName>) -> TypeName {
        if let Some(name) = self.known_by_shape(mt) {
            return TypeName::plain(name, self.core_library());
        }
        if mt.rid == 0
            && let Some(name) = self.continuation_type_name(mt)
        {
            return TypeName::Named(Named { name, args: Vec::new(), assembly: "System.Private.CoreLib".into() });
        }
        let Some(module) = self.defining_module(mt) else { return TypeName::Unknown };
        let module = self.module(module);
        let rid = self.type_rid(mt);
        let name = module.metadata(self).map(|m| m.full_name(rid)).filter(|n| !n.is_empty());
        match name {
            Some(name) => {
                if mt.is_open_generic() {
                    args = open_arguments(&name);
                }
                TypeName::Named(Named { name, args, assembly: module.assembly_name(self).into() })
            }
            None => match self.known_types().names.get(&mt.address) {
                Some(&known) => TypeName::plain(known, self.core_library()),
                None => TypeName::Missing { module: module.fallback_name(self).into(), token: 0x0200_0000 | rid },
            },
        }
    }

    /// Types recognised without metadata: the well-known ones and the true primitives by their element type.
    fn known_by_shape(&self, mt: &MethodTable) -> Option<&'static str> {
        match mt.address {
            a if a == self.known.string => return Some("System.String"),
            a if a == self.known.object => return Some("System.Object"),
            a if a == self.known.runtime_type => return Some("System.RuntimeType"),
            _ => {}
        }
        if mt.flags & PRIMITIVE.0 != PRIMITIVE.1 || mt.has_component_size() {
            return None;
        }
        let class = self.mts().eeclass(self.space(), mt)?;
        let at = class.checked_add(self.layout().try_offset("EEClass", "InternalCorElementType")?)?;
        primitive_name(self.space().u8(at)?)
    }
}

/// Arguments of an open type as the field's tools spell them: numbered anew at each nesting level; none at all, so that
/// backticks stay, when the innermost level has no parameters of its own (``SharedArrayPool`1+<>c``).
fn open_arguments(name: &str) -> Vec<TypeName> {
    let arity =
        |level: &str| level.rsplit_once('`').and_then(|(_, n)| n.parse::<u16>().ok()).unwrap_or(0).min(MAX_ARGS);
    let levels: Vec<u16> = name.split('+').map(arity).collect();
    if levels.last() == Some(&0) {
        return Vec::new();
    }
    levels.into_iter().flat_map(|n| (1..=n).map(|i| TypeName::Param(Cow::Owned(format!("T{i}"))))).collect()
}
