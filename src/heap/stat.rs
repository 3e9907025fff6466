//! Statistics: counts and bytes per type, per generation, per segment.

use super::model::{Generation, Segment, SegmentKind};
use super::types::TypeId;
use super::walk::{Object, WalkReport, Walker};
use crate::watch::Interrupted;

/// Count and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects.
    pub count: u64,
    /// Bytes, unaligned sizes summed.
    pub bytes: u64,
}

impl Tally {
    /// Adds one object.
    #[inline]
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: Tally) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// Tallies by type number.
#[derive(Debug, Clone, Default)]
pub struct TypeTallies(pub Vec<Tally>);

impl TypeTallies {
    /// Adds one object of type `id`.
    #[inline]
    pub fn add(&mut self, id: TypeId, bytes: u64) {
        let i = id as usize;
        if i >= self.0.len() {
            self.0.resize((i + 1).next_power_of_two(), Tally::default());
        }
        self.0[i].add(bytes);
    }

    /// Adds other tallies.
    pub fn merge(&mut self, other: &TypeTallies) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), Tally::default());
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            a.merge(*b);
        }
    }

    /// Types with at least one object.
    pub fn iter(&self) -> impl Iterator<Item = (TypeId, Tally)> + '_ {
        self.0.iter().enumerate().filter(|(_, t)| t.count > 0).map(|(i, t)| (i as TypeId, *t))
    }

    /// The sum over all types.
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        self.0.iter().for_each(|t| sum.merge(*t));
        sum
    }
}

/// Statistics of the whole heap.
#[derive(Debug, Clone, Default)]
pub struct HeapStat {
    /// All objects by type.
    pub types: TypeTallies,
    /// Free and live bytes of each (heap, generation): key, everything, free blocks.
    pub generations: Vec<((u32, Generation), Tally, Tally)>,
    /// Free blocks of at least [`FRAGMENT`] bytes outside the large, pinned and frozen heaps, with what follows them.
    pub fragments: Vec<Fragment>,
    /// How the walk went.
    pub report: WalkReport,
}

/// Free blocks worth mentioning, in bytes.
pub const FRAGMENT: u64 = 512 * 1024;

/// A big free block and the object behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Address of the free block.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// The object behind it.
    pub next: u64,
    /// MethodTable of that object.
    pub next_mt: u64,
}

/// Finds fragments among the objects of segments, each seen in order.
#[derive(Debug, Clone, Default)]
pub struct Fragments {
    /// Start of the segment, address and size of the big free block that was seen last.
    gap: Option<(u64, u64, u64)>,
    /// Those found so far.
    pub found: Vec<Fragment>,
}

impl Fragments {
    /// Sees the next object.
    #[inline]
    pub fn see(&mut self, segment: &Segment, o: &Object<'_>) {
        if o.ty.is_free {
            self.gap = (o.size >= FRAGMENT).then_some((segment.start, o.address, o.size));
        } else if let Some((start, address, size)) = self.gap.take() {
            let apart = matches!(segment.kind, SegmentKind::Large | SegmentKind::Pinned | SegmentKind::Frozen);
            if start == segment.start && !apart {
                self.found.push(Fragment { address, size, next: o.address, next_mt: o.ty.mt.address });
            }
        }
    }
}

/// What the walk of one segment gathers.
struct Acc {
    types: TypeTallies,
    parts: Vec<(Generation, Tally, Tally)>,
    fragments: Fragments,
}

impl Acc {
    fn part(&mut self, generation: Generation, size: u64, is_free: bool) {
        if self.parts.last().is_none_or(|p| p.0 != generation) {
            self.parts.push((generation, Tally::default(), Tally::default()));
        }
        if let Some(p) = self.parts.last_mut() {
            p.1.add(size);
            if is_free {
                p.2.add(size);
            }
        }
    }

    /// Everything and free blocks, by generation.
    fn by_generation(&self, walker: &Walker<'_>, segment: &Segment) -> Vec<(Generation, Tally, Tally)> {
        if segment.kind == SegmentKind::Ephemeral || segment.is_empty() {
            return self.parts.clone();
        }
        let free = walker.types.get(walker.clr, walker.clr.known.free).map_or(u32::MAX, |t| t.id);
        let free = self.types.0.get(free as usize).copied().unwrap_or_default();
        vec![(segment.generation(segment.start), self.types.total(), free)]
    }
}

impl HeapStat {
    /// Walks everything, in parallel by segment.
    pub fn collect(walker: &Walker<'_>) -> Result<Self, Interrupted> {
        let init =
            |_: &Segment| Acc { types: TypeTallies::default(), parts: Vec::new(), fragments: Fragments::default() };
        let total = walker.heap.allocated();
        walker.watch.progress.start("walking the heap", total);
        let (accs, report) = walker.parallel(&walker.heap.segments, init, |acc, segment, o| {
            acc.types.add(o.ty.id, o.size);
            acc.fragments.see(segment, &o);
            // Only the ephemeral segment holds more than one generation; the others are summed up by type afterwards.
            if segment.kind == SegmentKind::Ephemeral {
                acc.part(segment.generation(o.address), o.size, o.ty.is_free);
            }
        })?;
        walker.watch.progress.finish();
        let mut stat = HeapStat { report, ..Self::default() };
        for (segment, acc) in walker.heap.segments.iter().zip(accs) {
            stat.types.merge(&acc.types);
            let parts = acc.by_generation(walker, segment);
            stat.fragments.extend(acc.fragments.found);
            for (generation, all, free) in parts {
                let key = (segment.heap, generation);
                match stat.generations.iter_mut().find(|g| g.0 == key) {
                    Some(g) => {
                        g.1.merge(all);
                        g.2.merge(free);
                    }
                    None => stat.generations.push((key, all, free)),
                }
            }
        }
        stat.generations.sort_by_key(|g| g.0);
        Ok(stat)
    }
}
