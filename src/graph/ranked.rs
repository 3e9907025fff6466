//! Bits of which each knows how many are set before it, by a count every 512 of them: 1.06 bits each.

/// Bits per count.
pub const BLOCK: u64 = 512;
/// Words per count.
pub const WORDS: usize = (BLOCK / 64) as usize;

/// Sets a bit, where there is room for it.
#[inline]
pub fn mark_bit(bits: &mut [u64], bit: usize) {
    if let Some(word) = bits.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// The bits with their counts.
#[derive(Debug, Default)]
pub struct RankedBits {
    bits: Vec<u64>,
    ranks: Vec<u32>,
    count: u32,
}

impl RankedBits {
    /// Counts the bits: as many as `u32::MAX - 1`.
    pub fn new(bits: Vec<u64>) -> Self {
        let mut rank = 0u64;
        let mut ranks = Vec::with_capacity(bits.len().div_ceil(WORDS));
        for block in bits.chunks(WORDS) {
            ranks.push(rank as u32);
            rank += block.iter().map(|w| u64::from(w.count_ones())).sum::<u64>();
        }
        Self { bits, ranks, count: rank.min(u64::from(u32::MAX - 1)) as u32 }
    }

    /// The bits.
    pub fn bits(&self) -> &[u64] {
        &self.bits
    }

    /// How many are set before each block.
    pub fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// How many are set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a bit is set.
    #[inline]
    pub fn has(&self, bit: usize) -> bool {
        self.bits.get(bit / 64).is_some_and(|w| w >> (bit % 64) & 1 != 0)
    }

    /// How many are set before a bit.
    #[inline]
    pub fn rank(&self, bit: usize) -> u32 {
        let (word, inside) = (bit / 64, bit % 64);
        let first = word / WORDS * WORDS;
        let mut rank = self.ranks.get(word / WORDS).copied().unwrap_or(self.count);
        for w in self.bits.get(first..word).unwrap_or(&[]) {
            rank += w.count_ones();
        }
        let last = self.bits.get(word).copied().unwrap_or(0) & ((1u64 << inside) - 1);
        rank + last.count_ones()
    }

    /// The number of a bit among those that are set.
    #[inline]
    pub fn number_of(&self, bit: usize) -> Option<u32> {
        self.has(bit).then(|| self.rank(bit)).filter(|&n| n < self.count)
    }
}
