//! Where an object holds references: the GCDesc in front of its MethodTable, read once a type.
//!
//! Layout: dotnet/runtime `src/coreclr/gc/gcdesc.h`. A signed word before the MethodTable gives the number of series;
//! a negative number marks the repeating form of arrays of structs with references.

use super::methodtable::MethodTable;
use crate::clr::Clr;

/// More series than any class has; a larger number is damage.
const MAX_SERIES: i64 = 1 << 16;

/// Where instances of a type hold references. Offsets are from the object's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RefMap {
    /// No references.
    #[default]
    None,
    /// Runs of references: each starts at `start` and is `delta + size of the object` bytes long.
    Series(Vec<Series>),
    /// An array of structs: from `start` on, the items repeat to the end of the object.
    Repeating {
        /// Offset of the first item.
        start: u64,
        /// Pointers to take, then bytes to skip, per item.
        items: Vec<(u32, u32)>,
    },
    /// The GCDesc is damaged or not in the dump.
    Unreadable,
}

/// One run of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Offset of the first reference.
    pub start: u64,
    /// Length minus object size, in bytes.
    pub delta: i64,
}

impl RefMap {
    /// Reads the GCDesc of `mt`.
    pub fn read(clr: &Clr, mt: &MethodTable) -> Self {
        if !mt.contains_pointers() {
            return RefMap::None;
        }
        Self::parse(clr, mt).unwrap_or(RefMap::Unreadable)
    }

    fn parse(clr: &Clr, mt: &MethodTable) -> Option<Self> {
        let (space, ptr) = (clr.space(), u64::from(clr.ptr_size()));
        let signed = |v: u64| if ptr == 8 { v as i64 } else { i64::from(v as u32 as i32) };
        let count = signed(space.ptr(mt.address.checked_sub(ptr)?)?);
        if count == 0 || count.abs() > MAX_SERIES {
            return None;
        }
        if count > 0 {
            let mut series = Vec::with_capacity(count as usize);
            for i in 1..=count as u64 {
                let at = mt.address.checked_sub(ptr + 2 * ptr * i)?;
                series.push(Series { delta: signed(space.ptr(at)?), start: space.ptr(at + ptr)? });
            }
            // The series lie in memory from high to low offsets; ascending order reads an object front to back.
            series.sort_by_key(|s| s.start);
            return Some(RefMap::Series(series));
        }
        let start = space.ptr(mt.address.checked_sub(2 * ptr)?)?;
        let half = ptr / 2;
        let mut items = Vec::with_capacity(count.unsigned_abs() as usize);
        for i in 0..count.unsigned_abs() {
            let at = mt.address.checked_sub(3 * ptr + ptr * i)?;
            let item = if half == 4 {
                (space.u32(at)?, space.u32(at + 4)?)
            } else {
                (u32::from(space.u16(at)?), u32::from(space.u16(at + 2)?))
            };
            items.push(item);
        }
        let stride: u64 = items.iter().map(|&(n, skip)| u64::from(n) * ptr + u64::from(skip)).sum();
        (stride > 0).then_some(RefMap::Repeating { start, items })
    }

    /// Calls `each(offset)` for every reference slot of an object of `size` bytes (unaligned), in ascending order
    /// within a series. `ptr` is the pointer size.
    #[inline]
    pub fn slots(&self, size: u64, ptr: u64, mut each: impl FnMut(u64)) {
        match self {
            RefMap::None | RefMap::Unreadable => {}
            RefMap::Series(series) => {
                for s in series {
                    let length = size.saturating_add_signed(s.delta);
                    let end = s.start.saturating_add(length).min(size);
                    let mut at = s.start;
                    while at + ptr <= end {
                        each(at);
                        at += ptr;
                    }
                }
            }
            RefMap::Repeating { start, items } => {
                let end = size.saturating_sub(ptr);
                let mut at = *start;
                while at < end {
                    for &(n, skip) in items {
                        for _ in 0..n {
                            if at + ptr > size {
                                return;
                            }
                            each(at);
                            at += ptr;
                        }
                        at += u64::from(skip);
                    }
                }
            }
        }
    }

    /// Whether instances can hold references.
    pub fn is_none(&self) -> bool {
        matches!(self, RefMap::None)
    }
}
