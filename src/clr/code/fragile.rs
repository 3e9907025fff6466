//! Images compiled for one build of their dependencies (2.1 and 2.2: the core library): functions with their MethodDescs
//! beside them.
//!
//! Layout: dotnet/coreclr v2.1 `src/vm/ceeload.h` (`NGenLayoutInfo`: three stretches of code, their tables of functions and
//! counts, two arrays of MethodDescs), `src/zap/zapcode.cpp` (an entry of the arrays: distance of the MethodDesc from the
//! image, bit 0 for exception clauses, 0 for a funclet). Found by its structure among what the Module points to. Code of
//! the third stretch (cold parts) has no MethodDescs beside it and is not named.

use super::unwind::{self, Function};
use crate::clr::Clr;
use crate::clr::layout::relative_pointer;

/// Words of the Module looked through.
const MODULE_WORDS: u64 = 512;
/// Most functions of one stretch, and most funclets of one method.
const MAX_FUNCTIONS: u32 = 1 << 22;
const MAX_FUNCLETS: u32 = 1 << 12;

/// Functions in order, and their MethodDescs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    functions: u64,
    count: u32,
    methods: u64,
}

/// The tables of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragile {
    base: u64,
    stretches: [Stretch; 2],
}

impl Fragile {
    /// The tables of the image of `module` at `base`.
    pub fn find(clr: &Clr, base: u64, end: u64, module: u64) -> Option<Self> {
        let (space, ptr) = (clr.space(), clr.header());
        (0..MODULE_WORDS).find_map(|i| {
            let at = module.checked_add(i * ptr)?;
            // In these images most pointers are distances.
            let candidates = [space.ptr(at), relative_pointer(space, at)];
            candidates.into_iter().flatten().filter(|a| (base..end).contains(a)).find_map(|a| one(clr, base, end, a))
        })
    }

    /// The function `ip` is in, the main body of its method and the method.
    pub fn at(&self, clr: &Clr, ip: u64) -> Option<(Function, Function, u64)> {
        self.stretches.iter().find_map(|s| self.in_stretch(clr, s, ip))
    }

    fn in_stretch(&self, clr: &Clr, s: &Stretch, ip: u64) -> Option<(Function, Function, u64)> {
        let size = unwind::entry_size(clr.dump.arch);
        let entry = |i: u32| s.functions.checked_add(u64::from(i) * size);
        let begin = |i: u32| Some(self.base + u64::from(clr.space().u32(entry(i)?)?));
        let (mut low, mut high) = (0, s.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if begin(middle)? <= ip { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        let function = unwind::read(clr, entry(index)?, self.base)?;
        if function.end.is_some_and(|end| ip >= end) {
            return None;
        }
        for i in (index.saturating_sub(MAX_FUNCLETS)..=index).rev() {
            let method = clr.space().u32(s.methods.checked_add(u64::from(i) * 4)?)? & !1;
            if method != 0 {
                let main = unwind::read(clr, entry(i)?, self.base)?;
                return Some((function, main, self.base.checked_add(u64::from(method))?));
            }
        }
        None
    }
}

/// The tables described at `at`, if they are: counts that fit the image, functions that begin in their stretch of code, a
/// MethodDesc for the first.
fn one(clr: &Clr, base: u64, end: u64, at: u64) -> Option<Fragile> {
    let (space, ptr) = (clr.space(), clr.header());
    let inside = |a: u64| (base..end).contains(&a);
    let pointer = |offset: u64| {
        let place = at.checked_add(offset)?;
        let candidates = [space.ptr(place), relative_pointer(space, place)];
        candidates.into_iter().flatten().find(|&a| inside(a))
    };
    // Three stretches of two words, three pointers, three counts, two pointers.
    let counts = 9 * ptr;
    let methods = (counts + 12).next_multiple_of(ptr);
    let stretch = |i: u64| {
        let (start, size) = (pointer(2 * i * ptr), space.ptr_at(at, (2 * i + 1) * ptr)?);
        let count = space.u32(at.checked_add(counts + 4 * i)?)?;
        if count == 0 {
            return Some(Stretch { functions: base, count: 0, methods: base });
        }
        (count < MAX_FUNCTIONS && size < end - base).then_some(())?;
        let (functions, methods) = (pointer((6 + i) * ptr)?, pointer(methods + i * ptr)?);
        let first = base.checked_add(u64::from(space.u32(functions)?))?;
        (first >= start? && first < start?.checked_add(size)?).then_some(Stretch { functions, count, methods })
    };
    let found = Fragile { base, stretches: [stretch(0)?, stretch(1)?] };
    let some = found.stretches.iter().any(|s| s.count > 0);
    some.then_some(found)
}
