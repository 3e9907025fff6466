//! Type names in both spellings, built from MethodTables and metadata, cached.

use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::Clr;

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

impl Clr {
    /// Both names of the type `mt`.
    pub fn type_names(&self, mt: u64) -> TypeNames {
        if let Some(n) = self.names.by_mt.read().unwrap_or_else(PoisonError::into_inner).get(&mt) {
            return n.clone();
        }
        let text: Arc<str> = format!("MT_{mt:x}").into();
        let names = TypeNames { short: text.clone(), long: text };
        self.names.by_mt.write().unwrap_or_else(PoisonError::into_inner).entry(mt).or_insert(names).clone()
    }

    /// The name as dumpheap prints it.
    pub fn type_name(&self, mt: u64) -> Arc<str> {
        self.type_names(mt).short
    }

    /// The name as dumpobj prints it.
    pub fn type_name_long(&self, mt: u64) -> Arc<str> {
        self.type_names(mt).long
    }
}
