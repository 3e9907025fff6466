//! Full names and the index that finds a type by one.

use rustc_hash::FxHashMap;

use super::tables::table;
use super::{MAX_NESTING, Metadata, Token};

/// TypeDef rows by a hash of their full name. Collisions are settled by comparing names.
#[derive(Debug)]
pub(super) struct NameIndex {
    first: FxHashMap<u64, u32>,
    /// Next row of the same hash, by rid; 0 ends the chain.
    next: Vec<u32>,
}

/// Candidates compared per look-up: a flood of equal hashes must not make a look-up slow.
const MAX_CANDIDATES: usize = 64;

/// FNV-1a, because it can be carried on: the hash of `Outer+Inner` continues that of `Outer`.
fn fnv(mut state: u64, bytes: &[u8]) -> u64 {
    for &b in bytes {
        state = (state ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    state
}
const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

impl Metadata {
    /// Appends `namespace.name` (or the bare name) to `out`.
    fn push_segment(out: &mut String, namespace: &str, name: &str) {
        if !namespace.is_empty() {
            out.push_str(namespace);
            out.push('.');
        }
        out.push_str(name);
    }

    /// TypeDef rows from the outermost enclosing type down to `typedef` itself.
    pub fn nesting(&self, typedef: u32) -> Vec<u32> {
        let mut chain = vec![typedef];
        let mut at = typedef;
        while let Some(outer) = self.enclosing(at)
            && chain.len() < MAX_NESTING
        {
            chain.push(outer);
            at = outer;
        }
        chain.reverse();
        chain
    }

    /// Full name as reflection has it: namespace of the outermost type, `+` between nested ones, backticks kept, e.g.
    /// ``System.Collections.Generic.Dictionary`2+Entry``. Empty for a row that does not exist.
    pub fn full_name(&self, typedef: u32) -> String {
        let mut name = String::new();
        for (i, rid) in self.nesting(typedef).into_iter().enumerate() {
            if i > 0 {
                name.push('+');
            }
            if let Some(t) = self.typedef(rid) {
                Self::push_segment(&mut name, t.namespace, t.name);
            }
        }
        name
    }

    /// Full name of TypeRef row `rid`, put together as by [`Metadata::full_name`].
    pub fn typeref_full_name(&self, rid: u32) -> String {
        let mut segments = Vec::new();
        let mut at = Some(rid);
        while let Some(r) = at.and_then(|rid| self.typeref(rid))
            && segments.len() < MAX_NESTING
        {
            segments.push((r.namespace, r.name));
            at = r.scope.filter(|s| s >> 24 == u32::from(table::TYPE_REF)).map(|s| s & 0x00FF_FFFF);
        }
        let mut name = String::new();
        for (i, (namespace, simple)) in segments.into_iter().rev().enumerate() {
            if i > 0 {
                name.push('+');
            }
            Self::push_segment(&mut name, namespace, simple);
        }
        name
    }

    /// The scope a TypeRef is finally resolved in, nesting followed: AssemblyRef, ModuleRef or Module token.
    pub fn typeref_scope(&self, rid: u32) -> Option<Token> {
        let mut scope = self.typeref(rid)?.scope?;
        for _ in 0..MAX_NESTING {
            if scope >> 24 != u32::from(table::TYPE_REF) {
                return Some(scope);
            }
            scope = self.typeref(scope & 0x00FF_FFFF)?.scope?;
        }
        None
    }

    /// The TypeDef row with exactly this full name (case matters). The first call builds an index of all types.
    pub fn typedef_by_name(&self, full_name: &str) -> Option<u32> {
        let index = self.index.get_or_init(|| self.build_index());
        let mut at = *index.first.get(&fnv(FNV_START, full_name.as_bytes()))?;
        for _ in 0..MAX_CANDIDATES {
            if at == 0 || self.full_name(at) == full_name {
                break;
            }
            at = index.next.get(at as usize).copied().unwrap_or(0);
        }
        (at != 0 && self.full_name(at) == full_name).then_some(at)
    }

    fn build_index(&self) -> NameIndex {
        let count = self.typedef_count();
        let hashes = self.name_hashes(count);
        let mut index = NameIndex { first: FxHashMap::default(), next: vec![0; count as usize + 1] };
        // Backwards, so that the first row of a name heads its chain.
        for rid in (1..=count).rev() {
            let Some(&hash) = hashes.get(rid as usize) else { continue };
            if let Some(later) = index.first.insert(hash, rid)
                && let Some(slot) = index.next.get_mut(rid as usize)
            {
                *slot = later;
            }
        }
        index
    }

    /// Hash of every full name, each carried on from that of the enclosing type: linear in the number of types.
    fn name_hashes(&self, count: u32) -> Vec<u64> {
        let mut hashes = vec![0u64; count as usize + 1];
        let mut known = vec![false; count as usize + 1];
        let mut pending = Vec::new();
        for rid in 1..=count {
            // Marked when pushed: a cycle ends at the first type seen twice.
            let mut at = Some(rid);
            while let Some(r) = at
                && let Some(k) = known.get_mut(r as usize)
                && !*k
            {
                *k = true;
                pending.push(r);
                at = self.enclosing(r);
            }
            while let Some(r) = pending.pop() {
                let hash = self.name_hash(r, self.enclosing(r).and_then(|o| hashes.get(o as usize)).copied());
                if let Some(slot) = hashes.get_mut(r as usize) {
                    *slot = hash;
                }
            }
        }
        hashes
    }

    fn name_hash(&self, rid: u32, outer: Option<u64>) -> u64 {
        let Some(t) = self.typedef(rid) else { return 0 };
        let mut state = outer.map_or(FNV_START, |outer| fnv(outer, b"+"));
        if !t.namespace.is_empty() {
            state = fnv(fnv(state, t.namespace.as_bytes()), b".");
        }
        fnv(state, t.name.as_bytes())
    }
}
