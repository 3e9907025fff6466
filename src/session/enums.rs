//! Names of the values of enums, and lengths of inline arrays: what only metadata knows of a value type.

use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::Session;
use crate::clr::types::methodtable::MethodTable;

/// Types kept.
const MAX_TYPES: usize = 1 << 16;
/// Value types larger than this are no value types.
const MAX_SIZE: u64 = 1 << 30;

/// The members of an enum.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnumNames {
    /// Value and name, by value; of equal values in the order of the declaration.
    members: Vec<(i64, String)>,
    /// Whether values are sets of members (`FlagsAttribute`).
    flags: bool,
}

impl EnumNames {
    /// The value of a member, whatever its case; of flags, of several joined by commas or bars.
    pub fn value_of(&self, name: &str) -> Option<i64> {
        let one = |name: &str| self.members.iter().find(|m| m.1.eq_ignore_ascii_case(name.trim())).map(|m| m.0);
        if !self.flags {
            return one(name);
        }
        name.split([',', '|']).try_fold(0, |all, part| Some(all | one(part)?))
    }

    /// Names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|m| m.1.as_str())
    }

    /// The name of `value`, of flags the names of its parts; `None` when no member, or no sum of them, has that value.
    pub fn spell(&self, value: i64) -> Option<String> {
        let at = self.members.partition_point(|m| m.0 < value);
        if let Some(exact) = self.members.get(at).filter(|m| m.0 == value) {
            return Some(exact.1.clone());
        }
        if !self.flags {
            return None;
        }
        // As .NET does: the greatest first, each bit once.
        let mut rest = value as u64;
        let mut by_size: Vec<&(i64, String)> = self.members.iter().filter(|m| m.0 != 0).collect();
        by_size.sort_by_key(|m| std::cmp::Reverse(m.0 as u64));
        let mut parts = Vec::new();
        for (bits, name) in by_size {
            if rest & *bits as u64 == *bits as u64 {
                rest &= !(*bits as u64);
                parts.push(name.as_str());
            }
        }
        parts.reverse();
        (rest == 0 && !parts.is_empty()).then(|| parts.join(", "))
    }
}

/// What was read so far; nothing of a type that is no enum, or no inline array.
#[derive(Debug, Default)]
pub(super) struct Kept {
    enums: RwLock<FxHashMap<u64, Option<Arc<EnumNames>>>>,
    lengths: RwLock<FxHashMap<u64, Option<u64>>>,
}

fn kept<T: Clone>(cache: &RwLock<FxHashMap<u64, T>>, mt: u64, read: impl FnOnce() -> T) -> T {
    if let Some(known) = cache.read().unwrap_or_else(PoisonError::into_inner).get(&mt) {
        return known.clone();
    }
    let found = read();
    let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
    if cache.len() < MAX_TYPES {
        cache.insert(mt, found.clone());
    }
    found
}

impl Session {
    /// The members of the enum `mt`; `None` when it is none, or its metadata is not at hand.
    pub fn enum_names(&self, mt: &MethodTable) -> Option<Arc<EnumNames>> {
        kept(&self.enums.enums, mt.address, || {
            let clr = self.clr().ok()?;
            if &*clr.type_name(mt.parent) != "System.Enum" {
                return None;
            }
            let module = clr.module(clr.defining_module(mt)?);
            let (metadata, rid) = (module.metadata(clr)?, clr.type_rid(mt));
            let mut members: Vec<(i64, String)> =
                metadata.enum_members(rid).into_iter().map(|(name, value)| (value, name.to_owned())).collect();
            members.sort_by_key(|m| m.0);
            let flags = metadata.attribute(rid, "System.FlagsAttribute").is_some();
            Some(Arc::new(EnumNames { members, flags }))
        })
    }

    /// How many elements of `size` bytes the struct `mt` of one field stands for; `None` when it stands for itself.
    pub fn inline_length(&self, mt: &MethodTable, size: u64) -> Option<u64> {
        kept(&self.enums.lengths, mt.address, || {
            const INLINE: &str = "System.Runtime.CompilerServices.InlineArrayAttribute";
            let clr = self.clr().ok()?;
            let module = clr.module(clr.defining_module(mt)?);
            let (metadata, rid) = (module.metadata(clr)?, clr.type_rid(mt));
            // The attribute's only argument is the length, behind the mark all attributes begin with (ECMA-335 II.23.3).
            let declared = metadata.attribute(rid, INLINE).and_then(|a| a.get(2..6)?.try_into().ok());
            let length = match declared.map(u32::from_le_bytes) {
                Some(n) => u64::from(n),
                // The type the compiler makes for a fixed buffer has its size in metadata.
                None if metadata.full_name(rid).ends_with(">e__FixedBuffer") => {
                    u64::from(metadata.class_layout(rid)?.1).checked_div(size)?
                }
                None => return None,
            };
            (length > 0 && length.checked_mul(size)? <= MAX_SIZE).then_some(length)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::EnumNames;

    fn names(members: &[(i64, &str)], flags: bool) -> EnumNames {
        EnumNames { members: members.iter().map(|(v, n)| (*v, (*n).to_owned())).collect(), flags }
    }

    #[test]
    fn values_have_names_and_flags_several() {
        let kind = names(&[(1, "A"), (2, "B")], false);
        assert_eq!((kind.spell(2).as_deref(), kind.spell(3)), (Some("B"), None));
        let flags = names(&[(-8, "Rest"), (0, "None"), (1, "A"), (2, "B"), (3, "AB"), (4, "C")], true);
        assert_eq!(flags.spell(5).as_deref(), Some("A, C"));
        assert_eq!(flags.spell(7).as_deref(), Some("AB, C"));
        assert_eq!(flags.spell(0).as_deref(), Some("None"));
        assert_eq!(flags.spell(-6).as_deref(), Some("B, Rest"));
        assert_eq!(flags.spell(8), None);
        assert_eq!((flags.value_of("c | a"), flags.value_of("a, x"), kind.value_of("b")), (Some(5), None, Some(2)));
        assert_eq!(kind.names().collect::<Vec<_>>(), ["A", "B"]);
    }
}
