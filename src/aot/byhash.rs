//! Names of types by the hash in their MethodTable, where there is no metadata to ask: it is a function of the full name.
//!
//! Source of the functions: dotnet/runtime `src/coreclr/tools/Common/Internal/NativeFormat/TypeHashingAlgorithms.cs`, v8.0 to
//! v11.0. `tables/names.txt` has the types of the shared framework that programs meet; of two names with one hash neither is
//! believed.

use rustc_hash::FxHashMap;

use crate::clr::layout::Layout;

/// Full names, one a line.
const NAMES: &str = include_str!("tables/names.txt");
/// What the sum of the even places begins with.
const SEED: u32 = 0x6DA3_B944;
/// Two sums over the even and the odd places.
fn sums(units: impl Iterator<Item = u32>) -> u32 {
    let mut sums = [SEED, 0];
    for (i, unit) in units.enumerate() {
        let [even, odd] = &mut sums;
        let sum = if i % 2 == 0 { even } else { odd };
        *sum = sum.wrapping_add(sum.rotate_left(5)) ^ unit;
    }
    let [even, odd] = sums.map(|s| s.wrapping_add(s.rotate_left(8)));
    even ^ odd
}

/// The hash of a full name, `+` between nesting levels. Since 11.0 (`bytes`) it goes by UTF-8, namespace and name apart.
pub fn hash(name: &str, bytes: bool) -> u32 {
    let of = |text: &str| match bytes {
        true => sums(text.bytes().map(|b| i32::from(b as i8) as u32)),
        false => sums(text.encode_utf16().map(u32::from)),
    };
    let mut levels = name.split('+');
    let outer = levels.next().unwrap_or_default();
    let first = match bytes {
        true => {
            let (namespace, name) = outer.rsplit_once('.').unwrap_or(("", outer));
            of(namespace) ^ of(name)
        }
        false => of(outer),
    };
    levels.fold(first, |hash, level| hash.wrapping_add(hash.rotate_left(11)) ^ of(level))
}

/// Known names by their hash.
#[derive(Debug, Default)]
pub struct ByHash(FxHashMap<u32, Option<&'static str>>);

impl ByHash {
    /// As the runtime of that layout hashes them.
    pub fn of(layout: &Layout) -> Self {
        let bytes = layout.constant("NameHashOfBytes").is_ok_and(|v| v != 0);
        let mut all: FxHashMap<u32, Option<&'static str>> = FxHashMap::default();
        for name in NAMES.lines() {
            all.entry(hash(name, bytes)).and_modify(|n| *n = None).or_insert(Some(name));
        }
        Self(all)
    }

    /// The name with that hash.
    pub fn name(&self, hash: u32) -> Option<&'static str> {
        self.0.get(&hash).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clr::layout::Source;

    #[test]
    fn hashes_are_those_of_the_runtime() {
        // Of MethodTables of 9.0 and 11.0.
        for (name, bytes, expected) in HASHES {
            assert_eq!(hash(name, *bytes), *expected, "{name}");
        }
    }

    const HASHES: &[(&str, bool, u32)] = &[
        ("System.Collections.Generic.List`1", false, 0x5d5351b2),
        ("System.Collections.Generic.List`1", true, 0x466776c5),
        ("System.ConsolePal+<>c", false, 0x3b9a113c),
        ("System.ConsolePal+<>c", true, 0xa836f07b),
        ("System.String", false, 0xb74f3361),
        ("System.String", true, 0x3ebebe0),
    ];

    #[test]
    fn no_two_known_names_have_one_hash() {
        for bytes in [false, true] {
            let mut layout = Layout::default();
            layout.set_constant("NameHashOfBytes", bytes.into(), Source::Calibrated);
            let all = ByHash::of(&layout);
            assert!(all.0.values().all(Option::is_some));
            assert_eq!(all.0.len(), NAMES.lines().count());
        }
    }
}
