//! Methods of native images (2.2 and older) by the place their code begins: what such an image says of its code is not
//! read, but its MethodDescs lie in it, and their slots lead to the code.

use rustc_hash::FxHashMap;

use super::methods::MethodDesc;
use crate::clr::Clr;

/// Most entries kept.
const MAX_ENTRIES: usize = 1 << 22;

/// MethodDescs by the address of their code.
#[derive(Debug, Default)]
pub struct Entries(FxHashMap<u64, u64>);

impl Entries {
    fn read(clr: &Clr) -> Self {
        let mut found = FxHashMap::default();
        // Only there are MethodTables and MethodDescs in an image.
        if !clr.layout().is_relative("MethodDescChunk", "MethodTable") {
            return Self::default();
        }
        for a in &clr.assemblies().items {
            let module = clr.module(a.module);
            let within = |mt: u64| module.image_base != 0 && mt.wrapping_sub(module.image_base) < module.size;
            for (_, mt) in clr.loaded_types(a.module).items.into_iter().filter(|t| within(t.1)) {
                let Some(mt) = clr.valid_type(mt) else { continue };
                for m in clr.methods(&mt).items {
                    let entry = clr.own_slot(&m).or_else(|| clr.vtable_slot(&mt, m.slot));
                    if let Some(code) = entry.filter(|_| found.len() < MAX_ENTRIES) {
                        found.entry(code).or_insert(m.address);
                    }
                }
            }
        }
        Self(found)
    }
}

impl Clr {
    /// The method of a native image whose code begins at `code`.
    pub fn method_of_entry(&self, code: u64) -> Option<MethodDesc> {
        let entries = self.entries.get_or_init(|| Entries::read(self));
        entries.0.get(&code).and_then(|&md| self.valid_method_desc(md))
    }
}
