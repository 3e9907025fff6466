//! Where the fields of a delegate lie: by the names the metadata gives them, by the contract descriptor, or by the one
//! shape no other class has.

use crate::clr::Clr;
use crate::clr::types::fielddesc::{self, FieldDesc};
use crate::clr::types::fields::{Element, et};
use crate::clr::types::methodtable::MethodTable;

/// Offsets in a delegate object, in bytes from its MethodTable pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelegateShape {
    /// MethodTable of `System.MulticastDelegate`.
    pub class: u64,
    /// Base size of every delegate object, in bytes.
    pub(super) size: u32,
    /// `_target`.
    pub(super) target: u64,
    /// `_methodPtr`.
    pub(super) code: u64,
    /// `_methodPtrAux`.
    pub(super) aux: u64,
    /// `_invocationList`; `_helperObject` since .NET 11.
    pub(super) list: u64,
    /// `_invocationCount`; `_extraData` since .NET 11.
    pub(super) data: u64,
    /// `_methodBase`; `_helperObject` since .NET 11.
    pub(super) method: u64,
}

/// Delegates without fields of their own that a core library has at least: `Action`, `EventHandler`, `ThreadStart` and more.
const LEAST: usize = 3;

pub(super) fn find(clr: &Clr) -> Result<DelegateShape, String> {
    let by_name = clr.core_type("System.MulticastDelegate");
    let global = clr.layout().global("MulticastDelegateMethodTable").ok().and_then(|at| clr.space().ptr(at));
    if let Some(class) = by_name.or(global).and_then(|mt| clr.valid_method_table(mt)) {
        let found = by_names(clr, &class).or_else(|| described(clr, &class));
        if let Some(shape) = found.filter(|s| s.is_sound(clr)) {
            return Ok(shape);
        }
    }
    DelegateShape::by_structure(clr)
}

/// Offsets of fields by the names they have through 10, and since 11; by those of NativeAOT.
fn by_names(clr: &Clr, class: &MethodTable) -> Option<DelegateShape> {
    let fields = clr.fields(class.address);
    let at = |name: &str| Some(clr.header() + fields.instance.iter().find(|f| &*f.name == name)?.offset());
    if clr.ahead().is_some() {
        let (helper, extra) = (at("_helperObject")?, at("_extraFunctionPointerOrData")?);
        return Some(DelegateShape {
            class: class.address,
            size: class.base_size,
            target: at("_firstParameter")?,
            code: at("_functionPointer")?,
            aux: extra,
            list: helper,
            data: extra,
            method: helper,
        });
    }
    let list = at("_invocationList").or_else(|| at("_helperObject"))?;
    Some(DelegateShape {
        class: class.address,
        size: class.base_size,
        target: at("_target")?,
        code: at("_methodPtr")?,
        aux: at("_methodPtrAux")?,
        list,
        data: at("_invocationCount").or_else(|| at("_extraData"))?,
        method: at("_methodBase").unwrap_or(list),
    })
}

/// As the descriptor of .NET 11 has it.
fn described(clr: &Clr, class: &MethodTable) -> Option<DelegateShape> {
    let at = |name: &str| clr.layout().try_offset("Delegate", name);
    let helper = at("HelperObject")?;
    Some(DelegateShape {
        class: class.address,
        size: class.base_size,
        target: at("Target")?,
        code: at("MethodPtr")?,
        aux: at("MethodPtrAux")?,
        list: helper,
        data: at("ExtraData")?,
        method: helper,
    })
}

/// The class of all delegates has no name where no metadata is at hand. It is the class two below `System.Object` whose
/// fields, with those of the one between, are references and pointers in this order, and below which there are several
/// classes that add no field.
fn by_shape(clr: &Clr, class: &MethodTable, types: &[MethodTable]) -> Option<DelegateShape> {
    /// Declared by `System.Delegate` and by `System.MulticastDelegate`: `r` a reference, `p` a pointer.
    const LISTS: (&str, &str) = ("rrpp", "rp");
    const HELPER: (&str, &str) = ("rrppp", "");
    let ptr = clr.header();
    let words = (class.base_size as u64 / ptr).checked_sub(2)?;
    if class.has_component_size() || class.is_value_type() || !matches!(words, 5 | 6) {
        return None;
    }
    let base = clr.valid_method_table(class.parent).filter(|b| b.parent == clr.known.object && b.parent != 0)?;
    let (above, own) = (pattern(clr, &base)?, pattern(clr, class)?);
    let at = |i: u64| (i + 1) * ptr;
    let (class, size) = (class.address, class.base_size);
    let shape = match (above.as_str(), own.as_str()) {
        LISTS => DelegateShape {
            class,
            size,
            target: at(0),
            method: at(1),
            code: at(2),
            aux: at(3),
            list: at(4),
            data: at(5),
        },
        HELPER => DelegateShape {
            class,
            size,
            list: at(0),
            method: at(0),
            target: at(1),
            code: at(2),
            aux: at(3),
            data: at(4),
        },
        _ => return None,
    };
    let below: Vec<&MethodTable> = types.iter().filter(|t| t.parent == class).collect();
    let bare = |t: &&MethodTable| t.base_size == size && pattern(clr, t).is_some_and(|p| p.is_empty());
    (below.len() >= LEAST && below.iter().all(bare)).then_some(shape)
}

/// The instance fields a class declares, each a word, in the order of their offsets; `None` when they are other ones or
/// stand otherwise than they are declared.
fn pattern(clr: &Clr, mt: &MethodTable) -> Option<String> {
    let fields = fielddesc::read(clr, mt).ok()?;
    let mut own: Vec<FieldDesc> = fields.items.into_iter().filter(|f| !f.is_static).collect();
    let declared: Vec<u32> = own.iter().map(|f| f.rid).collect();
    own.sort_by_key(|f| f.offset);
    let sorted = own.iter().map(|f| f.rid).eq(declared) && own.windows(2).all(|w| w[0].rid < w[1].rid);
    let step = clr.header() as u32;
    let dense = own.windows(2).all(|w| w[1].offset - w[0].offset == step);
    let letter = |f: &FieldDesc| match f.element_type {
        e if Element(e).is_reference() => Some('r'),
        et::I | et::U | et::PTR | et::FNPTR => Some('p'),
        _ => None,
    };
    (fields.partial.is_none() && sorted && dense).then(|| own.iter().map(letter).collect())?
}

impl DelegateShape {
    /// The fields by structure alone: the one class of the core library that has the shape.
    pub fn by_structure(clr: &Clr) -> Result<Self, String> {
        let core = clr.method_table(clr.known.object).map_or(0, |m| m.module);
        let loaded = clr.loaded_types(core);
        let types: Vec<MethodTable> = loaded.items.iter().filter_map(|t| clr.valid_method_table(t.1)).collect();
        let mut candidates = types.iter().filter_map(|t| Some((t, by_shape(clr, t, &types)?)));
        match (candidates.next(), candidates.next()) {
            (Some((_, shape)), None) if shape.is_sound(clr) => Ok(shape),
            (Some((a, _)), Some((b, _))) => {
                Err(format!("the types {:x} and {:x} both look like System.MulticastDelegate", a.address, b.address))
            }
            _ => Err(match &loaded.partial {
                Some(why) => format!("System.MulticastDelegate is not found: {why}"),
                None => "no loaded type is System.MulticastDelegate, by name or by shape".into(),
            }),
        }
    }

    /// Whether the fields are words of the object, each at a place of its own but for the one that serves twice.
    fn is_sound(&self, clr: &Clr) -> bool {
        let ptr = clr.header();
        // An object's size counts its header, which lies in front of it.
        let end = u64::from(self.size).saturating_sub(ptr);
        let single = [self.target, self.code, self.aux, self.list, self.data];
        let inside = |o: &u64| *o >= ptr && o.is_multiple_of(ptr) && o + ptr <= end;
        let among = |o: u64| single.iter().filter(|&&s| s == o).count();
        // Compiled ahead of time one word is either.
        let shared = |o: u64| clr.ahead().is_some() && o == self.aux && o == self.data;
        let apart = single.iter().all(|&o| among(o) == 1 || shared(o) && among(o) == 2);
        single.iter().chain([&self.method]).all(inside)
            && apart
            && (self.method == self.list || among(self.method) == 0)
    }
}
