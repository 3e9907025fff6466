//! How much room collections and builders have, and how much of it they use.
//!
//! Field names: dotnet/runtime v8.0 `src/libraries/System.Private.CoreLib/src/System/Collections`, `.../System/Text/
//! StringBuilder.cs`, `.../System/IO/MemoryStream.cs`, `src/libraries/System.Collections*`; several where other releases and
//! .NET Framework have others.

use crate::clr::Clr;
use crate::session::value::Value;

/// Who doubles what is full has used half of it since, and a table of primes that grew from 37 to 89 has used 38: what
/// uses less than this percentage was made so, or held more once.
pub const LEAST_USED: u64 = 40;

/// The array a collection keeps its items in, and the fields that say how many there are.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The class, without type arguments.
    class: &'static str,
    /// The array, or the object that has it.
    items: &'static [&'static str],
    /// An array as long beside it.
    beside: &'static [&'static str],
    /// How many there are.
    count: &'static [&'static str],
    /// How many of those are free again.
    free: &'static [&'static str],
    /// Items that stand in other arrays, all of them full.
    before: &'static [&'static str],
    /// How many it takes before it grows, when that is less than the array has room for.
    most: &'static [&'static str],
}

const fn known(class: &'static str, items: &'static [&'static str], count: &'static [&'static str]) -> Known {
    Known { class, items, beside: &[], count, free: &[], before: &[], most: &[] }
}

const fn table(class: &'static str, items: &'static [&'static str]) -> Known {
    let beside = &["_buckets", "m_buckets", "buckets"];
    let free = &["_freeCount", "freeCount"];
    Known { beside, free, ..known(class, items, &["_count", "m_count", "count"]) }
}

const KNOWN: &[Known] = &[
    known("System.Collections.Generic.List", &["_items"], &["_size"]),
    known("System.Collections.ArrayList", &["_items"], &["_size"]),
    known("System.Collections.Generic.Queue", &["_array"], &["_size"]),
    known("System.Collections.Queue", &["_array"], &["_size"]),
    known("System.Collections.Generic.Stack", &["_array"], &["_size"]),
    known("System.Collections.Stack", &["_array"], &["_size"]),
    known("System.Collections.Generic.Deque", &["_array"], &["_size"]),
    known("System.Collections.Generic.PriorityQueue", &["_nodes"], &["_size"]),
    table("System.Collections.Generic.Dictionary", &["_entries", "entries"]),
    table("System.Collections.Generic.HashSet", &["_entries", "_slots", "m_slots"]),
    Known { beside: &["values"], ..known("System.Collections.Generic.SortedList", &["keys"], &["_size"]) },
    Known {
        most: &["_loadsize", "loadsize"],
        ..known("System.Collections.Hashtable", &["_buckets", "buckets"], &["_count", "count"])
    },
    known("System.Collections.Immutable.ImmutableArray+Builder", &["_elements"], &["_count"]),
    Known { before: &["m_ChunkOffset"], ..known("System.Text.StringBuilder", &["m_ChunkChars"], &["m_ChunkLength"]) },
    known("System.IO.MemoryStream", &["_buffer"], &["_length"]),
];

/// Its buckets, and how many items each lock guards, stand in an object of their own.
const CONCURRENT: &str = "System.Collections.Concurrent.ConcurrentDictionary";
/// Locks of one such dictionary: it never makes more (`MaxLockNumber`, dotnet/runtime v8.0
/// `src/libraries/System.Collections.Concurrent/src/System/Collections/Concurrent/ConcurrentDictionary.cs`).
const MAX_LOCKS: u64 = 1024;

/// Where the collections of one type say how much room they have.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Offset of the reference to the object that has the others, when that is not the collection itself.
    through: Option<u64>,
    items: u64,
    beside: Option<u64>,
    count: Count,
    free: Option<u64>,
    before: Option<u64>,
    most: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Count {
    Field(u64),
    /// The sum of the elements of an array.
    Sum(u64),
}

/// How much room one collection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Items there is room for.
    pub capacity: u64,
    /// Items there are.
    pub count: u64,
    /// Bytes of room an item takes.
    pub unit: u64,
    /// The arrays it keeps them in; 0 for none.
    pub arrays: [u64; 2],
}

impl Room {
    /// Bytes of room not in use.
    pub fn spare(&self) -> u64 {
        self.capacity.saturating_sub(self.count).saturating_mul(self.unit)
    }

    /// Whether it uses less than what growing leaves unused.
    pub fn is_mostly_empty(&self) -> bool {
        self.count.saturating_mul(100) < self.capacity.saturating_mul(LEAST_USED)
    }
}

impl Plan {
    /// That of the type of `sample`; `None` when it is no collection with room of its own.
    pub fn of(sample: &Value<'_>) -> Option<Self> {
        let at = |v: &Value<'_>, names: &[&str]| v.field(names).and_then(|f| f.1.checked_sub(v.address()));
        let mut classes = sample.classes().into_iter().map(|c| bare(&c));
        let found = classes.find_map(|c| {
            let concurrent = (c == CONCURRENT).then_some(None);
            concurrent.or_else(|| KNOWN.iter().find(|k| k.class == c).map(Some))
        })?;
        let Some(k) = found else {
            let tables = sample.object(&["_tables", "m_tables"])?;
            return Some(Self {
                through: Some(at(sample, &["_tables", "m_tables"])?),
                items: at(&tables, &["_buckets", "m_buckets"])?,
                count: Count::Sum(at(&tables, &["_countPerLock", "m_countPerLock"])?),
                ..Self::plain(0, 0)
            });
        };
        Some(Self {
            beside: at(sample, k.beside),
            free: at(sample, k.free),
            before: at(sample, k.before),
            most: at(sample, k.most),
            ..Self::plain(at(sample, k.items)?, at(sample, k.count)?)
        })
    }

    fn plain(items: u64, count: u64) -> Self {
        let count = Count::Field(count);
        Self { through: None, items, beside: None, count, free: None, before: None, most: None }
    }

    /// What the collection at `address` says. `array` knows the length of an array and the bytes of an element.
    pub fn read(&self, clr: &Clr, address: u64, array: impl Fn(u64) -> Option<(u64, u64)>) -> Option<Room> {
        let space = clr.space();
        let from = match self.through {
            Some(offset) => space.ptr_at(address, offset)?,
            None => address,
        };
        let number = |offset: u64| from.checked_add(offset).and_then(|at| space.u32(at)).map(u64::from);
        let arrays = [space.ptr_at(from, self.items)?, self.beside.and_then(|o| space.ptr_at(from, o)).unwrap_or(0)];
        let (length, mut unit) = array(arrays[0])?;
        if let Some((_, more)) = array(arrays[1]) {
            unit = unit.saturating_add(more);
        }
        let count = match self.count {
            Count::Field(offset) => number(offset)?,
            Count::Sum(offset) => {
                let counts = space.ptr_at(from, offset)?;
                let first = counts.checked_add(2 * clr.header())?;
                let locks = (0..array(counts)?.0.min(MAX_LOCKS)).map(|i| space.u32(first.checked_add(4 * i)?));
                locks.sum::<Option<u32>>().map(u64::from)?
            }
        };
        let count = count.saturating_sub(self.free.and_then(number).unwrap_or(0));
        let capacity = self.most.and_then(number).map_or(length, |most| most.min(length));
        let before = self.before.and_then(number).unwrap_or(0);
        // What is being changed may say anything.
        (count <= capacity).then_some(Room { capacity: capacity + before, count: count + before, unit, arrays })
    }
}

/// A type's name without type arguments, of outer classes too.
pub fn bare(name: &str) -> String {
    let mut depth = 0u32;
    let is_outside = |c: &char| {
        match c {
            '<' => depth += 1,
            '>' => {
                depth = depth.saturating_sub(1);
                return false;
            }
            _ => {}
        }
        depth == 0
    };
    name.chars().filter(is_outside).collect()
}

#[cfg(test)]
mod tests {
    use super::{Room, bare};

    #[test]
    fn names_lose_their_arguments() {
        assert_eq!(bare("A.B<C<D>, E>+F<G>"), "A.B+F");
        assert_eq!(bare("A.B"), "A.B");
    }

    #[test]
    fn what_grew_by_itself_is_not_mostly_empty() {
        let room = |count, capacity| Room { capacity, count, unit: 8, arrays: [0; 2] };
        // Each was full and grew for one more.
        for (before, capacity) in [(4, 8), (3, 7), (7, 17), (17, 37), (37, 89), (89, 197), (919, 1931)] {
            assert!(!room(before + 1, capacity).is_mostly_empty(), "{capacity}");
        }
        assert!(room(1, 4).is_mostly_empty() && room(0, 1).is_mostly_empty() && !room(0, 0).is_mostly_empty());
        assert_eq!((room(1, 4).spare(), room(0, 0).spare()), (24, 0));
    }
}
