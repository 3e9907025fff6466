//! The types seen on the heap: dense numbers for MethodTables, with what the walk needs of each.

use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;

use crate::clr::Clr;
use crate::clr::types::gcdesc::RefMap;
use crate::clr::types::methodtable::MethodTable;

/// Dense number of a type, in the order types were first seen.
pub type TypeId = u32;

/// What the walk needs of a type; shared, immutable.
#[derive(Debug)]
pub struct TypeInfo {
    /// Its number.
    pub id: TypeId,
    /// The MethodTable.
    pub mt: MethodTable,
    /// Whether it is the type of free blocks.
    pub is_free: bool,
    /// Whether it is `System.String`.
    pub is_string: bool,
    /// Where instances hold references.
    pub refs: RefMap,
}

/// All types met so far. Workers keep local caches in front of it.
#[derive(Debug, Default)]
pub struct TypeRegistry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_mt: FxHashMap<u64, Option<TypeId>>,
    types: Vec<Arc<TypeInfo>>,
    /// Words of their GCDescs.
    words: u64,
}

impl TypeRegistry {
    /// The type of MethodTable `address`, registering it at first sight. `None` when it is no MethodTable or that of an
    /// interface, which no object has; the verdict is remembered, up to a bound that keeps a hostile heap from growing it.
    pub fn get(&self, clr: &Clr, address: u64) -> Option<Arc<TypeInfo>> {
        if let Some(known) = self.look_up(address) {
            return known;
        }
        let mt = clr.valid_method_table(address).filter(|m| !m.is_interface());
        let mut refs = mt.map(|m| RefMap::read(clr.space(), &m)).unwrap_or_default();
        let mut inner = self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = inner.by_mt.get(&address).copied() {
            return known.and_then(|id| inner.types.get(id as usize).cloned());
        }
        let Some(mt) = mt else {
            if inner.by_mt.len() < 1 << 20 {
                inner.by_mt.insert(address, None);
            }
            return None;
        };
        // GCDescs lie side by side: together they are no larger than what is read.
        inner.words += refs.words();
        if inner.words > clr.space().readable_bytes() / u64::from(clr.ptr_size()) {
            refs = RefMap::Unreadable;
        }
        let id = inner.types.len() as TypeId;
        let info = Arc::new(TypeInfo {
            id,
            is_free: address == clr.known.free,
            is_string: address == clr.known.string,
            mt,
            refs,
        });
        inner.by_mt.insert(address, Some(id));
        inner.types.push(info.clone());
        Some(info)
    }

    /// What was found at `address` before: a type, that there is none, or nothing where nobody has looked.
    pub fn look_up(&self, address: u64) -> Option<Option<Arc<TypeInfo>>> {
        let inner = self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let id = *inner.by_mt.get(&address)?;
        Some(id.and_then(|id| inner.types.get(id as usize).cloned()))
    }

    /// The type numbered `id`.
    pub fn by_id(&self, id: TypeId) -> Option<Arc<TypeInfo>> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner).types.get(id as usize).cloned()
    }

    /// All types so far, by number.
    pub fn all(&self) -> Vec<Arc<TypeInfo>> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner).types.clone()
    }

    /// Number of types so far.
    pub fn len(&self) -> usize {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner).types.len()
    }

    /// Whether no type was met yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
