//! Full names and the index that finds a type by one.

use rustc_hash::FxHashMap;

use super::rows::ExportedType;
use super::tables::table;
use super::{MAX_NESTING, Metadata, Token};

/// Rows by a hash of their full name. Collisions are settled by comparing names.
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

/// Carries a hash on with `namespace.name`, or the bare name.
fn segment_hash(mut state: u64, namespace: &str, name: &str) -> u64 {
    if !namespace.is_empty() {
        state = fnv(fnv(state, namespace.as_bytes()), b".");
    }
    fnv(state, name.as_bytes())
}

impl NameIndex {
    /// Of rows with these hashes, by rid; there is no row 0.
    fn of(hashes: &[u64]) -> Self {
        let mut index = Self { first: FxHashMap::default(), next: vec![0; hashes.len()] };
        // Backwards, so that the first row of a name heads its chain.
        for (rid, &hash) in hashes.iter().enumerate().skip(1).rev() {
            if let Some(later) = index.first.insert(hash, rid as u32)
                && let Some(slot) = index.next.get_mut(rid)
            {
                *slot = later;
            }
        }
        index
    }

    /// The first row of this hash that is the one meant.
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = *self.first.get(&hash)?;
        for _ in 0..=MAX_CANDIDATES {
            if at == 0 || is_it(at) {
                return Some(at).filter(|&at| at != 0);
            }
            at = self.next.get(at as usize).copied().unwrap_or(0);
        }
        None
    }
}

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
        let index = self.index.get_or_init(|| NameIndex::of(&self.name_hashes(self.typedef_count())));
        index.find(fnv(FNV_START, full_name.as_bytes()), |rid| self.full_name(rid) == full_name)
    }

    /// The AssemblyRef token of the assembly to which the type of this full name, nested in no other, is forwarded. The
    /// first call builds an index of all forwarded types.
    pub fn forwarded_to(&self, full_name: &str) -> Option<Token> {
        let index = self.forwarded.get_or_init(|| NameIndex::of(&self.forwarded_hashes()));
        let found = index.find(fnv(FNV_START, full_name.as_bytes()), |rid| {
            let mut name = String::new();
            self.forwarded(rid).iter().for_each(|t| Self::push_segment(&mut name, t.namespace, t.name));
            name == full_name
        })?;
        self.forwarded(found)?.implementation
    }

    fn forwarded_hashes(&self) -> Vec<u64> {
        let hash = |rid| self.forwarded(rid).map_or(0, |t| segment_hash(FNV_START, t.namespace, t.name));
        (0..=self.rows(table::EXPORTED_TYPE)).map(hash).collect()
    }

    /// An ExportedType row of a type that another assembly defines.
    fn forwarded(&self, rid: u32) -> Option<ExportedType<'_>> {
        let of_assembly = |t: Token| t >> 24 == u32::from(table::ASSEMBLY_REF);
        self.exported_type(rid).filter(|t| t.implementation.is_some_and(of_assembly))
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
        segment_hash(outer.map_or(FNV_START, |outer| fnv(outer, b"+")), t.namespace, t.name)
    }
}
