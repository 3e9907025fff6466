//! Fields of a type: those the core library is known to have, and the slots of what nothing names.

use std::sync::{Arc, OnceLock};

use crate::clr::types::fielddesc::FieldDesc;
use crate::clr::types::fields::{Element, Field, Fields, et};
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::typename::TypeName;

use super::Aot;
use super::reflected::Place;

/// Most classes in a row that are followed.
const MAX_PARENTS: usize = 256;
/// Bytes of the smallest object: header, MethodTable and one word.
const LEAST: u32 = 24;
/// Words of an instance that are shown without a name.
const MAX_WORDS: u64 = 1 << 12;

impl Aot {
    /// Fields of the type `mt`.
    pub fn read_fields(&self, mt: u64) -> Fields {
        let mut fields = Fields::default();
        if self.types.method_table(mt).is_none_or(|m| m.has_component_size()) {
            return fields;
        }
        let references = self.references(mt);
        let mut chain: Vec<MethodTable> = Vec::new();
        let mut at = mt;
        while let Some(m) = self.types.method_table(at).filter(|_| at != 0 && chain.len() < MAX_PARENTS) {
            at = m.parent;
            chain.push(m);
        }
        for m in chain.iter().rev() {
            self.reflected_fields(m, &references, &mut fields.instance);
            if self.described_fields(m, &references, &mut fields.instance) {
                continue;
            }
            self.known_fields(m, &references, &mut fields.instance);
            // The only word of a base class of the least size may be a field of what derives from it.
            if m.address == mt || m.base_size > LEAST {
                self.slots(m, &references, &mut fields);
            }
        }
        self.static_fields(mt, &mut fields.statics);
        fields
    }

    /// Those of which the image has records.
    fn reflected_fields(&self, mt: &MethodTable, references: &[u64], into: &mut Vec<Field>) {
        for f in self.reflected(mt.address) {
            let Place::Instance(offset) = f.place else { continue };
            // Of value types they are counted from the first field.
            let offset = if mt.is_value_type() { offset.saturating_add(8) } else { offset };
            let element = self.element_of(&f.ty, Some(references.binary_search(&offset).is_ok()));
            into.push(field(mt.address, (f.name.clone(), offset, element), Some(f.ty.clone())));
        }
    }

    /// Those that debug information has; whether there are any, and so all of them.
    fn described_fields(&self, mt: &MethodTable, references: &[u64], into: &mut Vec<Field>) -> bool {
        let described = self.debug_fields(mt, references);
        let all = !described.is_empty();
        for (name, offset, element, ty) in described {
            let twice = into.iter().any(|f| f.declaring == mt.address && f.name == name);
            if !twice {
                into.push(field(mt.address, (name, offset, element), ty));
            }
        }
        all
    }

    /// Statics, with their place as the record's address.
    fn static_fields(&self, mt: u64, into: &mut Vec<Field>) {
        for f in self.reflected(mt) {
            if let Some((at, offset, reference)) = self.place_of_static(f.place) {
                let element = self.element_of(&f.ty, Some(reference));
                into.push(static_field(mt, at, (f.name.clone(), offset, element), Some(f.ty.clone())));
            }
        }
        for ((name, _, element, ty), place) in self.debug_statics(mt) {
            let twice = into.iter().any(|f| f.name == name);
            if let Some((at, offset, _)) = self.place_of_static(place).filter(|_| !twice) {
                into.push(static_field(mt, at, (name, offset, element), ty));
            }
        }
    }

    /// Address of a static, 0 where it was not made yet; its offset in the object that holds it; whether a reference is there.
    fn place_of_static(&self, place: Place) -> Option<(u64, u64, bool)> {
        match place {
            Place::Instance(_) => None,
            Place::Static(at) => Some((at, 0, false)),
            Place::Base(cell, offset) => match self.cells().base(cell) {
                Some(base) => {
                    let references = self.references(self.object_type(base).unwrap_or(0));
                    Some((base.saturating_add(offset), offset, references.binary_search(&offset).is_ok()))
                }
                None => Some((0, offset, false)),
            },
        }
    }

    /// Those of a class of the core library, where all of its references are references of the instance.
    fn known_fields(&self, mt: &MethodTable, references: &[u64], into: &mut Vec<Field>) {
        let Some(name) = self.types.definition_name(mt.address) else { return };
        let known = self.managed.fields(&name);
        let sized = self.managed.size(&name).is_none_or(|s| s == u64::from(mt.base_size));
        let holds = sized
            && known.iter().all(|f| {
                let reference = Element(f.element).is_reference();
                references.binary_search(&f.offset).is_ok() == reference && f.offset < u64::from(mt.base_size) - 8
            });
        if !holds {
            return;
        }
        let named: Vec<Arc<str>> = into.iter().filter(|f| f.declaring == mt.address).map(|f| f.name.clone()).collect();
        for f in known.iter().filter(|k| !named.iter().any(|n| **n == *k.name)) {
            let class = match f.class.as_str() {
                "" => crate::clr::image::metadata::sig::primitive_name(f.element).unwrap_or_default(),
                named => named,
            };
            let type_name = (!class.is_empty()).then(|| class_name(class));
            into.push(field(mt.address, (f.name.as_str().into(), f.offset, f.element), type_name));
        }
    }

    /// What no field covers: references by their place, and the words between them.
    fn slots(&self, mt: &MethodTable, references: &[u64], Fields { instance: into, partial, .. }: &mut Fields) {
        // What every object has room for.
        if mt.address == self.types.known().object {
            return;
        }
        let whole = u64::from(mt.base_size).saturating_sub(8);
        let end = whole.min(8 * MAX_WORDS);
        if end < whole {
            partial.get_or_insert_with(|| format!("of an instance of {whole} bytes the first {end} are shown"));
        }
        let mut covered = vec![false; usize::try_from(end / 8).unwrap_or(0) + 1];
        for f in into.iter() {
            let (start, size) = (f.offset() + 8, u64::from(f.element.size(8)).max(1));
            for word in start / 8..start.saturating_add(size).div_ceil(8).min(end / 8 + 1) {
                if let Some(c) = usize::try_from(word).ok().and_then(|w| covered.get_mut(w)) {
                    *c = true;
                }
            }
        }
        let mut slots = Vec::new();
        for at in (8..end).step_by(8) {
            if usize::try_from(at / 8).ok().and_then(|w| covered.get(w)) != Some(&false) {
                continue;
            }
            let element = if references.binary_search(&at).is_ok() { et::CLASS } else { et::U };
            slots.push(field(mt.address, (format!("+{at:#x}").into(), at, element), None));
        }
        into.extend(slots);
    }
}

fn class_name(class: &str) -> TypeName {
    match class.strip_suffix("[]") {
        Some(of) => TypeName::SzArray(Box::new(class_name(of))),
        None => TypeName::plain(class, "System.Private.CoreLib"),
    }
}

/// A static at `address`.
fn static_field(owner: u64, address: u64, (name, offset, element): (Arc<str>, u64, u8), ty: Option<TypeName>) -> Field {
    let mut field = field(owner, (name, offset.saturating_add(8), element), ty);
    (field.desc.is_static, field.desc.address) = (true, address);
    field
}

fn field(owner: u64, (name, offset, element): (Arc<str>, u64, u8), type_name: Option<TypeName>) -> Field {
    let desc = FieldDesc {
        address: 0,
        owner,
        rid: 0,
        is_static: false,
        is_thread_static: false,
        is_rva: false,
        offset: u32::try_from(offset.saturating_sub(8)).unwrap_or(u32::MAX),
        element_type: element,
    };
    let (element, found) = (Element(element), OnceLock::new());
    Field { desc, name, element, type_name, declaring: owner, module: 0, sig: None, found }
}
