//! The methods explicit frames stand for.

use rustc_hash::FxHashMap;

use super::frames::{Class, Explicit};
use super::{contexts, helper};
use crate::clr::Clr;

/// Functions of the runtime that methods are implemented by, and those methods.
#[derive(Debug, Default)]
pub struct Functions(FxHashMap<u64, u64>);

impl Functions {
    /// Reads those of the core library: no other has any.
    pub fn read(clr: &Clr) -> Self {
        let mut found = FxHashMap::default();
        let core = clr.method_table(clr.known.object).and_then(|mt| clr.defining_module(&mt));
        for (_, mt) in core.map(|m| clr.loaded_types(m).items).unwrap_or_default() {
            let Some(mt) = clr.valid_type(mt) else { continue };
            for md in clr.methods(&mt).items.into_iter().filter(|m| m.is_fcall()) {
                for entry in [clr.own_slot(&md), clr.native_code(&md)].into_iter().flatten() {
                    found.entry(entry).or_insert(md.address);
                }
            }
        }
        Self(found)
    }
}

impl Clr {
    /// The MethodDesc an explicit frame stands for: the function called, or the method a stub was called for.
    pub fn method_of_frame(&self, frame: &Explicit) -> Option<u64> {
        let word = |of: (&str, &str), own: u64| self.space().ptr(contexts::field(self, frame.address, of, own)?);
        let method = |md: u64| self.valid_method_desc(md).map(|m| m.address);
        match frame.class {
            // Bit 0 marks what is no MethodDesc.
            Class::InlinedCall => word(("InlinedCallFrame", "Datum"), 2).filter(|d| d & 1 == 0).and_then(method),
            Class::Transition => {
                let own = word(("FramedMethodFrame", "MethodDescPtr"), 3).and_then(method);
                own.or_else(|| self.dispatched_method(frame))
            }
            Class::Helper => {
                let entry = word(("HelperMethodFrame", "FCallEntry"), 5).filter(|&e| e != 0)?;
                let functions = self.stacks.functions.get_or_init(|| Functions::read(self));
                // The runtime writes it into the frame together with the caller's registers.
                let written = || {
                    helper::is_unwound(self, frame.address).then_some(())?;
                    word(("HelperMethodFrame", "MethodDesc"), 2).and_then(method)
                };
                functions.0.get(&entry).copied().or_else(written)
            }
            _ => None,
        }
    }

    /// The method of an interface, or of a class, whose implementation a stub is about to find: by type and slot number.
    fn dispatched_method(&self, frame: &Explicit) -> Option<u64> {
        let place = |name: &str, own: u64| contexts::field(self, frame.address, (frame.name, name), own);
        (frame.name == "StubDispatchFrame").then_some(())?;
        let declared = self.valid_type(self.space().ptr(place("RepresentativeMTPtr", 4)?)?)?;
        let slot = self.space().u32(place("RepresentativeSlot", 5)?)?;
        let of = |mt| Some(self.methods(&self.method_table(mt)?).items);
        let classes = self.class_chain(declared.address);
        let methods = classes.filter_map(|c| of(c.address)).flatten();
        methods.into_iter().find(|m| u32::from(m.slot) == slot).map(|m| m.address)
    }
}
