//! The methods explicit frames stand for.

use rustc_hash::FxHashMap;

use super::contexts;
use super::frames::{Class, Explicit};
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
            Class::Transition => word(("FramedMethodFrame", "MethodDescPtr"), 3).and_then(method),
            Class::Helper => {
                let entry = word(("HelperMethodFrame", "FCallEntry"), 5).filter(|&e| e != 0)?;
                let functions = self.stacks.functions.get_or_init(|| Functions::read(self));
                functions.0.get(&entry).copied()
            }
            _ => None,
        }
    }
}
