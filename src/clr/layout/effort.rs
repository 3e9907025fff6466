//! What discovery may cost: so much for each byte of the dump, whatever it holds.

use crate::dump::AddressSpace;
use crate::watch::Watch;

/// What may be spent for each readable byte of the dump (`Meter::cost`), and on top of that: the images searched are
/// megabytes however small the dump is. Structure alone spends 0.9 to 2.7 G on dumps of 80 to 280 MB; 1 G takes 0.35 s.
const A_BYTE: u64 = 4;
const ALWAYS: u64 = 4 << 30;

/// How much of what may be read was read. Whoever searches asks [`Effort::is_over`] at every candidate.
#[derive(Debug)]
pub struct Effort<'a> {
    space: &'a AddressSpace,
    watch: &'a Watch,
    limit: u64,
}

impl<'a> Effort<'a> {
    /// Begins to count.
    pub fn begin(space: &'a AddressSpace, watch: &'a Watch) -> Self {
        let allowed = space.readable_bytes().saturating_mul(A_BYTE).saturating_add(ALWAYS);
        space.meter().switch(true);
        Self { space, watch, limit: space.meter().cost().saturating_add(allowed) }
    }

    /// Whether no more may be spent, or the user stopped it.
    pub fn is_over(&self) -> bool {
        self.is_spent() || self.is_stopped()
    }

    /// Whether no more may be spent.
    pub fn is_spent(&self) -> bool {
        self.space.meter().cost() > self.limit
    }

    /// Whether the user stopped it.
    pub fn is_stopped(&self) -> bool {
        self.watch.cancel.is_set()
    }
}

impl Drop for Effort<'_> {
    fn drop(&mut self) {
        self.space.meter().switch(false);
    }
}
