//! Allocators that are recognised and not read: by the name of their library, and by the structure of what they keep where
//! the library has another name or is part of the program.

use rustc_hash::FxHashSet;

use super::regions::{Range, Regions, readable};
use crate::dump::{AddressSpace, Dump};
use crate::watch::{Interrupted, Watch};

/// Allocators known by the name of their library: the beginning of the file's name, and what to call it.
const LIBRARIES: [(&str, &str); 6] = [
    ("libjemalloc", "jemalloc"),
    ("libtcmalloc", "tcmalloc"),
    ("libmimalloc", "mimalloc"),
    ("libsnmalloc", "snmalloc"),
    ("libhoard", "hoard"),
    ("ld-musl", "musl (not mallocng)"),
];

/// The allocator whose library is loaded.
pub fn library(dump: &Dump) -> Option<&'static str> {
    let named = |m: &crate::dump::Module| LIBRARIES.iter().find(|l| m.file_name().starts_with(l.0));
    dump.modules.iter().find_map(named).map(|l| l.1)
}

/// The allocator whose structure is there.
pub fn by_structure(
    space: &AddressSpace,
    regions: &Regions,
    watch: &Watch,
) -> Result<Option<&'static str>, Interrupted> {
    if space.ptr_size() != 8 {
        return Ok(None);
    }
    let data = data(regions);
    type Test = fn(&AddressSpace, &Regions, &[Range], &Watch) -> Result<bool, Interrupted>;
    let tests: [(&str, Test); 3] = [("jemalloc", is_jemalloc), ("mimalloc", is_mimalloc), ("tcmalloc", is_tcmalloc)];
    for (name, test) in tests {
        if test(space, regions, &data, watch)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Anonymous memory behind the data of a module up to this size is that module's (`.bss`). jemalloc's is the largest: its tree
/// begins with two megabytes.
const MOST_BSS: u64 = 8 << 20;

/// Writable data of modules, with what is zero when the program starts.
fn data(regions: &Regions) -> Vec<Range> {
    let ends: FxHashSet<u64> = regions.data.iter().map(|r| r.1).collect();
    let bss = regions.anonymous.iter().filter(|r| ends.contains(&r.0)).map(|r| (r.0, r.1.min(r.0 + MOST_BSS)));
    regions.data.iter().copied().chain(bss).collect()
}

/// Spread over anonymous memory, so many pages are looked up in what may be jemalloc's tree.
const PAGES: usize = 256;
/// So many of them have to be found.
const FOUND: usize = 4;
/// A leaf of the tree has an element of eight bytes for each page of a gigabyte.
const LEAF: u64 = 1 << 18;

/// jemalloc 5.0 to 5.3 (`include/jemalloc/internal/rtree.h`, `edata.h`, `extent_structs.h`): a tree of two levels, whose root is
/// an array in the library's data and whose leaves have an element for each page: an address of 48 bits with flags around it.
/// There the extent begins: bits, address, size. The extent of a page holds the page.
fn is_jemalloc(space: &AddressSpace, regions: &Regions, data: &[Range], watch: &Watch) -> Result<bool, Interrupted> {
    let mut large: Vec<Range> = regions.anonymous.clone();
    large.sort_by_key(|r| std::cmp::Reverse(r.1 - r.0));
    let spread = |r: &Range| {
        let step = ((r.1 - r.0) / 8).next_multiple_of(0x1000).max(0x1000);
        (r.0..r.1).step_by(step as usize).collect::<Vec<u64>>()
    };
    let pages: Vec<u64> = large.iter().flat_map(spread).take(PAGES).collect();
    let holds = |leaf: u64, page: u64| {
        let element = space.ptr_at(leaf, (page >> 12) % LEAF * 8).filter(|&e| e != 0)?;
        let extent = element & 0xFFFF_FFFF_FFE0;
        let (start, size) = (space.ptr_at(extent, 8)? & !0xFFF, space.ptr_at(extent, 16)? & !0xFFF);
        (size > 0 && size < 1 << 40 && page.checked_sub(start)? < size).then_some(())
    };
    for &(start, end) in data {
        watch.cancel.check()?;
        for (_, leaf) in space.words(start, end) {
            if leaf == 0 || !leaf.is_multiple_of(64) {
                continue;
            }
            let Some(range) = regions.around(leaf) else { continue };
            let fits = leaf.checked_add(LEAF * 8).is_some_and(|e| e <= range.1);
            if fits && pages.iter().filter(|&&p| holds(leaf, p).is_some()).nth(FOUND - 1).is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// `MI_SEGMENT_SIZE`: 4 MB in version 1, 32 MB in 2.
const SEGMENT: u64 = 4 << 20;
/// The head of a segment that is looked at, in bytes.
const HEAD: u64 = 0x400;

/// mimalloc 1.x and 2.x (`include/mimalloc/types.h`, `internal.h`): the head of each segment holds its own address ^ a random
/// number of the process, which the main heap in the library's data holds too (`cookie`).
fn is_mimalloc(space: &AddressSpace, regions: &Regions, data: &[Range], watch: &Watch) -> Result<bool, Interrupted> {
    let mut cookies = FxHashSet::default();
    for (start, end) in readable(space, &regions.anonymous) {
        watch.cancel.check()?;
        let Some(first) = start.checked_next_multiple_of(SEGMENT) else { continue };
        for segment in (first..end).step_by(SEGMENT as usize) {
            let words = space.words(segment, end.min(segment + HEAD));
            // An address is no random number, and neither is what differs from this one in its lower half.
            cookies.extend(words.map(|w| w.1).filter(|w| w >> 48 != 0 && w >> 48 != 0xFFFF).map(|w| w ^ segment));
        }
    }
    if cookies.is_empty() {
        return Ok(false);
    }
    for &(start, end) in data {
        watch.cancel.check()?;
        if space.words(start, end).any(|w| w.1 >> 48 != 0 && cookies.contains(&w.1)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Size of a `Span`: its lists lie side by side.
const SPAN: u64 = 48;
/// So many empty lists in a row of all that there are (256) are believed.
const LISTS: u32 = 64;

/// gperftools' tcmalloc 2.x (`src/page_heap.h`, `src/span.h`): two lists of free spans for each number of pages up to 128, an
/// array in its data. The head of a list is a span, of which `next` and `prev` stand at 16 and 24: an empty one points to itself.
fn is_tcmalloc(space: &AddressSpace, _: &Regions, data: &[Range], watch: &Watch) -> Result<bool, Interrupted> {
    for &(start, end) in data {
        watch.cancel.check()?;
        let (mut before, mut row, mut last) = ((0, 0), 0, 0u64);
        for (at, word) in space.words(start, end) {
            let head = word.wrapping_add(16);
            if before == (head, word) && at == head.wrapping_add(8) {
                // Lists that are not empty make gaps of whole spans.
                let next = head.wrapping_sub(last);
                row = if next.is_multiple_of(SPAN) && next <= 16 * SPAN { row + 1 } else { 0 };
                last = head;
                if row >= LISTS {
                    return Ok(true);
                }
            }
            before = (at, word);
        }
    }
    Ok(false)
}
