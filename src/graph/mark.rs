//! Marking: what a set of objects reaches, as one bit an object start, in parallel and without a graph.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{ObjectIds, mark_bit};
use crate::watch::{Interrupted, Watch};

/// A worker that has more waiting gives half of it to one that has nothing.
const MANY: usize = 1 << 10;
/// Objects between two looks at the cancellation flag and at who is idle.
const CHECK: u32 = 1 << 10;

/// Says what a node refers to.
pub trait References {
    /// Calls `each` for every reference of the object that starts at `address`. What they lead to need not be an object.
    fn references(&mut self, address: u64, each: impl FnMut(u64));
}

/// Objects that are marked.
#[derive(Debug, Default)]
pub struct Marked {
    bits: Vec<u64>,
}

impl Marked {
    /// Marks what the objects that start at `sources` reach, themselves included. What is no object start is passed over.
    /// `reader` makes what each worker reads with.
    pub fn from_sources<R: References>(
        ids: &ObjectIds,
        sources: impl IntoIterator<Item = u64>,
        reader: impl Fn() -> R + Sync,
        watch: &Watch,
    ) -> Result<Self, Interrupted> {
        watch.progress.start("marking", u64::from(ids.len()));
        let mut bits = Vec::new();
        bits.resize_with(ids.bits().len(), AtomicU64::default);
        let job = Job { ids, reader, watch, bits, idle: AtomicUsize::new(0), failed: Mutex::new(None) };
        let mut first: Vec<u64> = sources.into_iter().filter(|&s| job.set(s)).collect();
        rayon::scope(|scope| {
            let share = first.len().div_ceil(rayon::current_num_threads()).max(1);
            // Every worker begins with a share, be it an empty one: it is idle then.
            for _ in 0..rayon::current_num_threads() {
                let own = first.split_off(first.len().saturating_sub(share));
                scope.spawn(|scope| job.drain(scope, own));
            }
        });
        if let Some(e) = job.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(e);
        }
        watch.progress.finish();
        Ok(Self { bits: job.bits.into_iter().map(AtomicU64::into_inner).collect() })
    }

    /// From one value an object, in the order of their ids.
    pub fn from_ids(ids: &ObjectIds, marked: &[bool]) -> Self {
        let mut bits = vec![0u64; ids.bits().len()];
        let mut marks = marked.iter();
        ids.each_set(ids.bits(), 0..ids.bits().len(), |address| {
            if marks.next() == Some(&true)
                && let Some(bit) = ids.bit_of(address)
            {
                mark_bit(&mut bits, bit);
            }
            true
        });
        Self { bits }
    }

    /// Whether the object that starts at `address` is marked; `ids` are those it was marked with.
    #[inline]
    pub fn has(&self, ids: &ObjectIds, address: u64) -> bool {
        ids.bit_of(address).is_some_and(|bit| self.bits.get(bit / 64).is_some_and(|w| w >> (bit % 64) & 1 != 0))
    }

    /// How many objects are marked.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Addresses of the marked objects, ascending, until `each` returns `false`.
    pub fn each(&self, ids: &ObjectIds, each: impl FnMut(u64) -> bool) {
        ids.each_set(&self.bits, 0..self.bits.len(), each);
    }
}

struct Job<'j, M> {
    ids: &'j ObjectIds,
    reader: M,
    watch: &'j Watch,
    bits: Vec<AtomicU64>,
    /// Tasks that ended and whose work nobody has taken over.
    idle: AtomicUsize,
    failed: Mutex<Option<Interrupted>>,
}

impl<R: References, M: Fn() -> R + Sync> Job<'_, M> {
    /// Marks the object that starts at `address`; `false` when it was marked, or when there is none.
    #[inline]
    fn set(&self, address: u64) -> bool {
        let Some(bit) = self.ids.bit_of(address) else { return false };
        let Some(word) = self.bits.get(bit / 64) else { return false };
        let mask = 1 << (bit % 64);
        word.load(Ordering::Relaxed) & mask == 0 && word.fetch_or(mask, Ordering::Relaxed) & mask == 0
    }

    fn drain<'s>(&'s self, scope: &rayon::Scope<'s>, mut waiting: Vec<u64>) {
        let mut reader = (self.reader)();
        let mut left = CHECK;
        while let Some(address) = waiting.pop() {
            reader.references(address, |target| {
                if self.set(target) {
                    waiting.push(target);
                }
            });
            left -= 1;
            if left == 0 {
                left = CHECK;
                self.watch.progress.add(u64::from(CHECK));
                if let Err(e) = self.watch.cancel.check() {
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    return;
                }
                if waiting.len() >= MANY && self.take_idle() {
                    let given = waiting.split_off(waiting.len() / 2);
                    // The older half is nearer to the roots and has more below it.
                    let older = std::mem::replace(&mut waiting, given);
                    scope.spawn(move |scope| self.drain(scope, older));
                }
            }
        }
        self.idle.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether somebody is idle, who is from now on not.
    fn take_idle(&self) -> bool {
        let less = |n: usize| n.checked_sub(1);
        self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::ids::RangeBits;
    use super::*;

    /// A random graph: the targets of each of its nodes.
    struct Naive<'a>(&'a [Vec<u64>]);

    impl References for Naive<'_> {
        fn references(&mut self, address: u64, each: impl FnMut(u64)) {
            self.0[(address / 8) as usize].iter().copied().for_each(each);
        }
    }

    proptest::proptest! {
        #[test]
        fn marked_is_what_is_reached(
            n in 1u64..3000,
            raw in proptest::collection::vec((0u64..3000, 0u64..3000), 0..4000),
            sources in proptest::collection::vec(0u64..4000, 0..6),
        ) {
            let mut bits = RangeBits::new(0, n * 8, 3);
            let mut edges = vec![Vec::new(); n as usize];
            // Every seventh address is no object, though something refers to it.
            (0..n).filter(|v| v % 7 != 3).for_each(|v| bits.set(v * 8));
            raw.iter().for_each(|(a, b)| edges[(a % n) as usize].push(b * 8));
            // A long list, so that there is something to share out.
            (0..n).for_each(|v| edges[v as usize].push((v + 2) * 8));
            let ids = ObjectIds::build(vec![bits]);
            let from = sources.iter().map(|s| s * 8);
            let marked = Marked::from_sources(&ids, from.clone(), || Naive(&edges), &Watch::default()).unwrap();
            let (mut seen, mut stack) = (std::collections::BTreeSet::new(), from.collect::<Vec<_>>());
            while let Some(v) = stack.pop() {
                if ids.bit_of(v).is_some() && seen.insert(v) {
                    stack.extend(&edges[(v / 8) as usize]);
                }
            }
            let mut all = Vec::new();
            marked.each(&ids, |a| { all.push(a); true });
            assert_eq!(all, seen.iter().copied().collect::<Vec<_>>());
            assert_eq!(marked.count(), seen.len() as u64);
            assert!((0..n + 9).all(|v| marked.has(&ids, v * 8) == seen.contains(&(v * 8))));
            let by_id: Vec<bool> = (0..ids.len()).map(|id| seen.contains(&ids.address_of(id).unwrap())).collect();
            assert_eq!(Marked::from_ids(&ids, &by_id).bits, marked.bits);
        }
    }
}
