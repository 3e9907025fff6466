//! The classes a type derives from, and the interfaces these declare.

use super::methodtable::MethodTable;
use crate::clr::Clr;
use crate::clr::il::names::of_token;
use crate::clr::image::metadata::table;

/// Most classes in a row that are followed. The runtime and the compilers set no limit, programs have a dozen; a damaged dump
/// may have a row as long as itself, which must not be walked anew for every type. What meets it says so
/// ([`ClassChain::cut`]) where classes are listed; elsewhere the question is whether one of a few classes of the library is
/// among them.
pub const MAX_PARENTS: usize = 1 << 12;

/// A class and those it derives from, the nearest first.
#[derive(Debug, Clone)]
pub struct ClassChain<'c> {
    clr: &'c Clr,
    at: u64,
    left: usize,
}

impl ClassChain<'_> {
    /// Why the chain ended before the class that derives from nothing.
    pub fn cut(&self) -> Option<String> {
        match (self.at, self.left) {
            (0, _) => None,
            (_, 0) => Some(format!("more than {MAX_PARENTS} classes derive from one another; the rest is left out")),
            (at, _) => Some(format!("MethodTable {at:x} is not in the dump")),
        }
    }
}

impl Iterator for ClassChain<'_> {
    type Item = MethodTable;

    fn next(&mut self) -> Option<MethodTable> {
        if self.at == 0 || self.left == 0 {
            return None;
        }
        let mt = self.clr.method_table(self.at)?;
        self.at = mt.parent;
        self.left -= 1;
        Some(mt)
    }
}

impl Clr {
    /// The class whose MethodTable is at `mt`, and those it derives from, the nearest first.
    pub fn class_chain(&self, mt: u64) -> ClassChain<'_> {
        ClassChain { clr: self, at: mt, left: MAX_PARENTS }
    }

    /// Names of the interfaces that the definition of a class declares, by its metadata: `System.IDisposable`,
    /// ``System.Collections.Generic.IList`1``, generic ones whatever their arguments. Compilers list those that an interface
    /// itself asks for too. Empty for arrays, whose interfaces are the runtime's, and where there is no metadata.
    pub fn declared_interfaces(&self, mt: &MethodTable) -> Vec<String> {
        if mt.is_array() {
            return Vec::new();
        }
        if let Some(ahead) = self.ahead() {
            return ahead.interfaces(mt.address);
        }
        let Some(module) = self.defining_module(mt) else { return Vec::new() };
        let module = self.module(module);
        let Some(metadata) = module.metadata(self) else { return Vec::new() };
        let name = |token: u32| match (token >> 24) as u8 {
            table::TYPE_DEF => metadata.full_name(token & 0x00FF_FFFF),
            table::TYPE_REF => metadata.typeref_full_name(token & 0x00FF_FFFF),
            // `class [System.Runtime]System.Collections.Generic.IList`1<!0>`
            _ => {
                let text = of_token(metadata, token);
                let open = text.split('<').next().unwrap_or_default();
                open.rsplit([' ', ']']).next().unwrap_or_default().to_owned()
            }
        };
        metadata.interfaces(self.type_rid(mt)).map(name).collect()
    }
}
