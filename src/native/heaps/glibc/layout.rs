//! Layouts of the GNU C library's allocator: `malloc/malloc.c` and `malloc/arena.c`, tags glibc-2.17 to glibc-2.42 and the
//! development head of January 2026 (2.43). Nothing in memory names the version, but an arena describes itself: its table of
//! bins is 127 pairs, of which an empty one points to itself.

use std::ops::RangeInclusive;

/// `struct malloc_state`: offsets that move between versions, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct ArenaLayout {
    /// Versions that have it.
    pub versions: &'static str,
    /// Bytes in a word.
    pub word: u64,
    /// `fastbinsY` and how many there are.
    pub fast: (u64, u64),
    /// `bins`; `top` and `last_remainder` stand before them.
    pub bins: u64,
    /// An own mapping's size leaves out a header's length, and bit 0 of what stands before it says huge pages.
    pub short_mappings: bool,
}

/// Every layout. Fast bins: ten of 64 bits; of 32 bits eleven since chunks are aligned to 16 (2.26). The flag
/// `have_fastchunks` came before them with 2.27, they went with 2.43.
pub const LAYOUTS: &[ArenaLayout] = &[
    ArenaLayout { versions: "2.27 to 2.42", word: 8, fast: (0x10, 10), bins: 0x70, short_mappings: false },
    ArenaLayout { versions: "2.43", word: 8, fast: (0, 0), bins: 0x18, short_mappings: true },
    ArenaLayout { versions: "2.17 to 2.26", word: 8, fast: (0x08, 10), bins: 0x68, short_mappings: false },
    ArenaLayout { versions: "2.27 to 2.42", word: 4, fast: (0x0C, 11), bins: 0x40, short_mappings: false },
    ArenaLayout { versions: "2.43", word: 4, fast: (0, 0), bins: 0x10, short_mappings: true },
    ArenaLayout { versions: "2.26", word: 4, fast: (0x08, 11), bins: 0x3C, short_mappings: false },
    ArenaLayout { versions: "2.17 to 2.25", word: 4, fast: (0x08, 10), bins: 0x38, short_mappings: false },
];

/// Pairs in `bins`: `NBINS` of 128 less the first.
pub const BINS: u64 = 127;
/// Bytes of `binmap`.
const BINMAP: u64 = 16;

impl ArenaLayout {
    /// `top`.
    pub fn top(&self) -> u64 {
        self.bins - 2 * self.word
    }

    /// `next`.
    pub fn next(&self) -> u64 {
        self.bins + 2 * BINS * self.word + BINMAP
    }

    /// Address of the chunk that a bin of that number (from 0) pretends to be.
    pub fn bin(&self, arena: u64, number: u64) -> u64 {
        arena.wrapping_add(self.bins).wrapping_add(number * 2 * self.word).wrapping_sub(2 * self.word)
    }

    /// Size of the smallest chunk (`MINSIZE`).
    pub fn least(&self) -> u64 {
        4 * self.word
    }

    /// Alignment of chunks; 32-bit ones had 8 through 2.25.
    pub fn align(&self) -> u64 {
        if self.word == 4 && self.bins == 0x38 { 8 } else { 16 }
    }

    /// Sizes of chunks that a cache may lie in: from the smallest layout to the largest and a little more, for the allocator
    /// leaves a remainder too small to stand alone with its neighbour, and an alignment may be asked for.
    #[inline]
    pub fn cache_chunks(&self) -> RangeInclusive<u64> {
        CACHES_LEAST * (1 + self.word) + self.word..=CACHES_MOST * (2 + self.word) + self.word + 0x60
    }

    /// Chunk size of a fast bin.
    pub fn fast_size(&self, number: u64) -> u64 {
        // fastbin_index: size >> 4 less 2 where a word has 8 bytes, size >> 3 less 2 where it has 4.
        (number + 2) * 2 * self.word
    }
}

/// `tcache_perthread_struct`.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Versions that have it.
    pub versions: &'static str,
    /// Bins.
    pub bins: u64,
    /// Bytes of a count.
    pub count: u64,
    /// Counts say how many more fit, not how many there are.
    pub places: bool,
}

/// Every layout of the cache of a thread: counts, then as many pointers.
pub const CACHES: &[CacheLayout] = &[
    CacheLayout { versions: "2.30 to 2.41", bins: 64, count: 2, places: false },
    CacheLayout { versions: "2.42 and later", bins: 76, count: 2, places: true },
    CacheLayout { versions: "2.26 to 2.29", bins: 64, count: 1, places: false },
];

/// Bins of a cache that hold one size each.
pub const SMALL_BINS: u64 = 64;

impl CacheLayout {
    /// Its size in bytes.
    pub fn size(&self, word: u64) -> u64 {
        self.bins * (self.count + word)
    }

    /// Where the pointer of a bin stands.
    pub fn entry(&self, number: u64, word: u64) -> u64 {
        self.bins * self.count + number * word
    }
}

/// Bins of the smallest layout of a cache, with counts of a byte, and of the largest, with counts of two.
const CACHES_LEAST: u64 = 64;
const CACHES_MOST: u64 = 76;

/// `HEAP_MAX_SIZE`: heaps of further arenas are aligned to it. With huge pages it is four of those, 8 MB at least.
pub const HEAP_ALIGN_64: u64 = 8 << 20;
/// The same for a 32-bit process.
pub const HEAP_ALIGN_32: u64 = 1 << 20;
/// Largest heap: four pages of 1 GB.
pub const HEAP_MOST: u64 = 4 << 30;

/// Flags of a chunk's size.
pub const PREV_INUSE: u64 = 1;
/// The chunk is a mapping of its own.
pub const IS_MMAPPED: u64 = 2;
/// The chunk belongs to another arena than the main one.
pub const NON_MAIN: u64 = 4;
/// All of them.
pub const FLAGS: u64 = 7;
