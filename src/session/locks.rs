//! The locks of the heap, and who holds and waits for what: thin locks in the headers of objects, and objects of class
//! `System.Threading.Lock`. Monitors in sync blocks need no heap: [`crate::clr::Clr::sync_blocks`].

pub mod waits;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use self::waits::Wait;
use super::{Lazy, Session};
use crate::clr::gathered::Gathered;
use crate::clr::runtime::locks::{LOCK, Lock, LockClass, LockKind, LockReader, Owners, ThinBits};
use crate::clr::runtime::syncblocks;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Kept {
    objects: Lazy<Gathered<Lock>>,
    thin: Lazy<Gathered<Lock>>,
    waits: Lazy<Gathered<Wait>>,
}

impl Session {
    /// Objects of class `System.Threading.Lock` that are held or waited for and are no monitors, in the order of the heap;
    /// none where the class is not loaded.
    pub fn lock_objects(&self) -> Result<&Gathered<Lock>> {
        self.locks.objects.get(|| self.find_lock_objects())
    }

    /// Thin locks held by living threads, in the order of the heap.
    pub fn thin_locks(&self) -> Result<&Gathered<Lock>> {
        self.locks.thin.get(|| self.find_thin_locks())
    }

    /// What threads wait for, where it is a lock. Needs no heap.
    pub fn waits(&self) -> Result<&Gathered<Wait>> {
        self.locks.waits.get(|| waits::gather(self))
    }

    /// Locks held by each thread, by the address of its `Thread`, and why some may be missing: monitors and `Lock`s.
    pub fn locks_held(&self) -> Result<(FxHashMap<u64, u32>, Option<String>)> {
        let (blocks, objects, thin) = (self.clr()?.sync_blocks(), self.lock_objects()?, self.thin_locks()?);
        let monitors = blocks.items.iter().map(|b| &b.monitor);
        let mut counts = FxHashMap::default();
        for lock in monitors.chain(&objects.items).chain(&thin.items).filter(|l| l.held && l.owner != 0) {
            *counts.entry(lock.owner).or_insert(0) += 1;
        }
        let partial = [&blocks.partial, &objects.partial, &thin.partial].into_iter().flatten().next();
        Ok((counts, partial.cloned()))
    }

    /// Managed thread id and number of further entries of the thin lock in the object's header, when a living thread
    /// holds one.
    pub fn thin_lock(&self, object: u64) -> Option<(u32, u32)> {
        let clr = self.clr().ok()?;
        let lock = ThinBits::of(clr).owner(syncblocks::thin_bits(clr.object_header(object)?)?)?;
        clr.threads().items.iter().any(|t| t.managed_id == lock.0 && !t.is_dead()).then_some(lock)
    }

    /// The `System.Threading.Lock` at `address`, when one is there: of a monitor, when a sync block has it.
    pub fn lock_at(&self, address: u64) -> Option<Lock> {
        let clr = self.clr().ok()?;
        let class = LockReader::default().class(clr, address).ok()?;
        match clr.sync_blocks().items.iter().find(|b| b.lock_object == address && address != 0) {
            Some(block) => Some(block.monitor),
            None => class.read(clr, address, &Owners::of(clr)),
        }
    }

    /// The class `Lock` of the core library: that of a monitor, else by its name.
    fn lock_class(&self) -> Result<Option<Result<LockClass, String>>> {
        let clr = self.clr()?;
        let of_monitor = clr.sync_blocks().items.iter().find(|b| b.lock_object != 0).map(|b| b.lock_object);
        let core = clr.method_table(clr.known.object).map_or(0, |m| m.module);
        let of_core = |mt: &u64| clr.method_table(*mt).is_some_and(|m| m.module == core);
        let mt = match of_monitor.and_then(|o| clr.object_type(o)) {
            Some(mt) => Some(mt),
            None => self.loaded_types()?.named(LOCK).iter().copied().find(of_core),
        };
        Ok(mt.map(|mt| LockClass::of(clr, mt).map_err(|m| m.to_string())))
    }

    fn find_lock_objects(&self) -> Result<Gathered<Lock>> {
        let mut found = Gathered::default();
        let class = match self.lock_class()? {
            None => return Ok(found),
            Some(Err(why)) => {
                found.partial = Some(why);
                return Ok(found);
            }
            Some(Ok(class)) => class,
        };
        let (clr, walker) = (self.clr()?, self.walker()?);
        self.watch.progress.start("looking for locks", walker.heap.allocated());
        let (parts, report) = walker.parallel(
            &walker.heap.segments,
            |_| Vec::new(),
            |found: &mut Vec<u64>, _, o| {
                if o.ty.mt.address == class.mt {
                    found.push(o.address);
                }
            },
        )?;
        self.watch.progress.finish();
        found.partial = report.sentence();
        let monitors: FxHashSet<u64> = clr.sync_blocks().items.iter().map(|b| b.lock_object).collect();
        let owners = Owners::of(clr);
        for address in parts.into_iter().flatten().filter(|a| !monitors.contains(a)) {
            match class.read(clr, address, &owners) {
                Some(lock) => found.items.extend((lock.held || lock.waiters != 0).then_some(lock)),
                None => found.because(format!("the lock {address:x} is not whole in the dump")),
            }
        }
        Ok(found)
    }

    fn find_thin_locks(&self) -> Result<Gathered<Lock>> {
        let (clr, walker) = (self.clr()?, self.walker()?);
        let (owners, bits) = (Owners::of(clr), ThinBits::of(clr));
        self.watch.progress.start("looking for locks", walker.heap.allocated());
        let (parts, report) = walker.parallel(
            &walker.heap.segments,
            |_| Vec::new(),
            |found: &mut Vec<Lock>, _, o| {
                // Free blocks keep what stood in front of the objects they were.
                let header = if o.ty.is_free { None } else { clr.object_header(o.address) };
                let Some(word) = header.and_then(syncblocks::thin_bits) else { return };
                if bits.owner(word).is_some_and(|(id, _)| owners.living(id).is_some()) {
                    found.push(bits.lock(word, LockKind::Thin, o.address, o.address, &owners));
                }
            },
        )?;
        self.watch.progress.finish();
        Ok(Gathered { items: parts.into_iter().flatten().collect(), partial: report.sentence() })
    }
}
