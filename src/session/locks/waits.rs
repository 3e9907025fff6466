//! Which thread waits for which lock.
//!
//! Through 10.0 the runtime keeps a list of the monitors a thread waits for, on its stack, the latest first: of
//! `DebugBlockingItem`s (dotnet/runtime `src/coreclr/vm/threads.h`): monitor, app domain, kind, time-out, next. Where in the
//! `Thread` its head is no table says: it is the one place that holds null or such a record for every thread.
//!
//! Since 9.0 the library has such a list too: thread static `System.Threading.ThreadBlockingInfo.t_first`
//! (`System.Private.CoreLib/src/System/Threading/ThreadBlockingInfo.cs`). A `Lock`, and since 11.0 the `Lock` or `Condition`
//! of a monitor, is named by the stack slot that refers to it. Through 10.0 monitors stand there by their `AwareLock`, but
//! only on threads that have the static already.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::runtime::domains;
use crate::clr::runtime::locks::{self, Lock, LockReader, Owners};
use crate::clr::runtime::syncblocks::SyncBlock;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;

/// The class of the records.
const RECORD: &str = "System.Threading.ThreadBlockingInfo";
/// Records of one thread: waits that nest.
const MAX_RECORDS: usize = 1 << 10;
/// Bytes of a `Thread` looked through for the head of its native list.
const THREAD_SIZE: u64 = 0x1000;

/// How a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// To enter a monitor.
    Monitor,
    /// In `Monitor.Wait`, for a pulse.
    MonitorWait,
    /// To enter a `System.Threading.Lock`.
    Lock,
    /// For a condition of a lock that is no monitor.
    Condition,
}

impl WaitKind {
    /// `Monitor`, `MonitorWait`, `Lock`, `Condition`.
    pub fn name(self) -> &'static str {
        match self {
            WaitKind::Monitor => "Monitor",
            WaitKind::MonitorWait => "MonitorWait",
            WaitKind::Lock => "Lock",
            WaitKind::Condition => "Condition",
        }
    }
}

/// One thread that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Address of its `Thread`.
    pub thread: u64,
    /// How it waits.
    pub kind: WaitKind,
    /// The lock: the one it wants to enter, or whose pulse it waits for.
    pub lock: Lock,
    /// Time-out in milliseconds; `None` when it waits for ever.
    pub timeout: Option<u32>,
}

impl Wait {
    /// Address of the `Thread` that has to leave the lock before this one goes on; 0 for none.
    pub fn holder(&self) -> u64 {
        match self.kind {
            WaitKind::Monitor | WaitKind::Lock if self.lock.held => self.lock.owner,
            _ => 0,
        }
    }
}

/// Everything known of waiting threads, in the order of the thread list, a thread's latest wait first.
pub fn gather(session: &Session) -> Result<Gathered<Wait>> {
    let clr = session.clr()?;
    let mut finder = Finder::new(session, clr);
    finder.native_lists();
    if !session.loaded_types()?.named(RECORD).is_empty() {
        for (thread, cell) in session.thread_static_cells(RECORD, "t_first") {
            finder.managed_list(thread, clr.space().ptr(cell).unwrap_or(0));
        }
    }
    Ok(finder.finish())
}

/// Where a record has its fields.
#[derive(Debug, Clone, Copy)]
struct Places {
    object: u64,
    kind: u64,
    timeout: u64,
    next: u64,
}

struct Finder<'a> {
    clr: &'a Clr,
    owners: Owners<'a>,
    /// Blocks by the address of their monitor, where that is part of them.
    by_monitor: FxHashMap<u64, &'a SyncBlock>,
    /// Blocks by the `Lock` their monitor is.
    by_lock: FxHashMap<u64, &'a SyncBlock>,
    /// Stacks by operating system id.
    stacks: FxHashMap<u64, (u64, u64)>,
    managed: Places,
    reader: LockReader,
    /// What was found, with the place of its record.
    found: Vec<(u64, Wait)>,
    partial: Option<String>,
}

impl<'a> Finder<'a> {
    fn new(session: &'a Session, clr: &'a Clr) -> Self {
        let blocks = &clr.sync_blocks().items;
        let state = clr.layout().try_offset("SyncBlock", "LockState");
        let monitor = |b: &'a SyncBlock| Some((b.address.checked_add(state?)?, b));
        let stacks = session.dump().threads.iter().filter_map(|t| Some((t.os_id, t.stack?)));
        Self {
            clr,
            owners: Owners::of(clr),
            by_monitor: blocks.iter().filter_map(monitor).collect(),
            by_lock: blocks.iter().filter(|b| b.lock_object != 0).map(|b| (b.lock_object, b)).collect(),
            stacks: stacks.collect(),
            managed: places(session, clr),
            reader: LockReader::default(),
            found: Vec::new(),
            partial: None,
        }
    }

    fn finish(mut self) -> Gathered<Wait> {
        let order: FxHashMap<u64, usize> =
            self.clr.threads().items.iter().enumerate().map(|(i, t)| (t.address, i)).collect();
        self.found.sort_by_key(|(at, w)| (order.get(&w.thread).copied(), *at));
        // A monitor may stand in both lists.
        let mut seen = FxHashSet::default();
        let fresh = |w: &Wait| seen.insert((w.thread, w.kind.name(), w.lock.address));
        let mut waits: Vec<Wait> = self.found.into_iter().map(|f| f.1).collect();
        waits.retain(fresh);
        Gathered { items: waits, partial: self.partial }
    }

    fn word(&self, at: u64, offset: u64) -> Option<u32> {
        self.clr.space().u32(at.checked_add(offset)?)
    }

    /// Whether `at` may be a record of the thread: aligned, on its stack where that is known.
    fn on_stack(&self, thread: &ClrThread, at: u64) -> bool {
        let stack = self.stacks.get(&thread.os_id);
        at.is_multiple_of(self.clr.header()) && stack.is_none_or(|s| (s.0..s.1).contains(&at))
    }

    /// Follows the thread's records from `first`. Older ones lie nearer to the beginning of the stack.
    fn managed_list(&mut self, thread: &ClrThread, first: u64) {
        let (mut at, mut before) = (first, 0);
        for _ in 0..MAX_RECORDS {
            if at == 0 {
                return;
            }
            let astray = at <= before || !self.on_stack(thread, at);
            let next = if astray { None } else { self.clr.space().ptr_at(at, self.managed.next) };
            match self.managed_record(thread, at).filter(|_| !astray) {
                Some(wait) => self.found.push((at, wait)),
                None => self.unknown(thread, at),
            }
            let Some(next) = next else { return };
            (before, at) = (at, next);
        }
        self.because(format!("thread {} has more than {MAX_RECORDS} waits in one another", thread.managed_id));
    }

    fn because(&mut self, why: String) {
        self.partial.get_or_insert(why);
    }

    fn unknown(&mut self, thread: &ClrThread, at: u64) {
        self.because(format!("what thread {} waits for, by its record at {at:x}, is no lock", thread.managed_id));
    }

    fn managed_record(&mut self, thread: &ClrThread, at: u64) -> Option<Wait> {
        /// `ThreadBlockingInfo.ObjectKind`.
        const KINDS: [WaitKind; 4] = [WaitKind::Monitor, WaitKind::MonitorWait, WaitKind::Lock, WaitKind::Condition];
        let (space, places) = (self.clr.space(), self.managed);
        let named = space.ptr_at(at, places.object)?;
        let (kind, lock) = match *KINDS.get(self.word(at, places.kind)? as usize)? {
            WaitKind::Lock => self.lock(space.ptr(named)?)?,
            WaitKind::Condition => self.condition(space.ptr(named)?)?,
            of_monitor => (of_monitor, self.by_monitor.get(&named)?.monitor),
        };
        Some(Wait { thread: thread.address, kind, lock, timeout: self.timeout(at, places.timeout) })
    }

    fn timeout(&self, at: u64, offset: u64) -> Option<u32> {
        self.word(at, offset).filter(|&ms| ms != u32::MAX)
    }

    /// The `Lock` at `address`: a monitor, when a sync block has it.
    fn lock(&mut self, address: u64) -> Option<(WaitKind, Lock)> {
        if let Some(block) = self.by_lock.get(&address) {
            return Some((WaitKind::Monitor, block.monitor));
        }
        let class = self.reader.class(self.clr, address).ok()?;
        Some((WaitKind::Lock, class.read(self.clr, address, &self.owners)?))
    }

    /// The `Condition` at `address`: of a monitor, when a sync block has its lock.
    fn condition(&mut self, address: u64) -> Option<(WaitKind, Lock)> {
        let (lock, class) = locks::lock_of_condition(self.clr, address, &mut self.reader)?;
        Some(match self.by_lock.get(&lock) {
            Some(block) => (WaitKind::MonitorWait, block.monitor),
            None => (WaitKind::Condition, class.read(self.clr, lock, &self.owners)?),
        })
    }

    /// The lists of native records.
    fn native_lists(&mut self) {
        if self.by_monitor.is_empty() {
            return;
        }
        let threads: Vec<&'a ClrThread> = self.clr.threads().items.iter().filter(|t| t.os_id != 0).collect();
        let Some(head) = self.native_head(&threads) else { return };
        let next = 2 * self.clr.header() + 8;
        for t in threads {
            let (mut at, mut before) = (self.clr.space().ptr_at(t.address, head).unwrap_or(0), 0);
            for _ in 0..MAX_RECORDS {
                let Some(wait) = self.native_record(t, at).filter(|_| at > before) else { break };
                self.found.push((at, wait));
                (before, at) = (at, self.clr.space().ptr_at(at, next).unwrap_or(0));
            }
            if at != 0 {
                self.unknown(t, at);
            }
        }
    }

    /// Offset of the list's head in a `Thread`: where most threads have a record, and no more have anything else. `None`
    /// when no thread waits.
    fn native_head(&self, threads: &[&ClrThread]) -> Option<u64> {
        let space = self.clr.space();
        let mut records: FxHashMap<u64, usize> = FxHashMap::default();
        for t in threads {
            let Some(stack) = self.stacks.get(&t.os_id) else { continue };
            for at in (0..THREAD_SIZE).step_by(self.clr.header() as usize) {
                let head = space.ptr_at(t.address, at).filter(|h| (stack.0..stack.1).contains(h));
                if head.is_some_and(|h| self.native_record(t, h).is_some()) {
                    *records.entry(at).or_insert(0) += 1;
                }
            }
        }
        let (at, found) = records.into_iter().max_by_key(|&(at, found)| (found, std::cmp::Reverse(at)))?;
        let used = threads.iter().filter(|t| space.ptr_at(t.address, at).is_some_and(|h| h != 0)).count();
        (used <= 2 * found).then_some(at)
    }

    fn native_record(&self, thread: &ClrThread, at: u64) -> Option<Wait> {
        let (space, ptr) = (self.clr.space(), self.clr.header());
        // Without its bounds anything might be on the stack: then nothing is believed.
        if at == 0 || !self.on_stack(thread, at) || !self.stacks.contains_key(&thread.os_id) {
            return None;
        }
        let block = self.by_monitor.get(&space.ptr(at)?)?;
        let domain = space.ptr_at(at, ptr)?;
        if domain == 0 || domain != thread.domain && Some(domain) != domains::app_domain(self.clr) {
            return None;
        }
        let kind = match self.word(at, 2 * ptr)? {
            0 => WaitKind::Monitor,
            1 => WaitKind::MonitorWait,
            _ => return None,
        };
        Some(Wait { thread: thread.address, kind, lock: block.monitor, timeout: self.timeout(at, 2 * ptr + 4) })
    }
}

/// Where the managed records have their fields: by name, without metadata in the order of their declaration.
fn places(session: &Session, clr: &Clr) -> Places {
    let mt = session.loaded_types().ok().and_then(|t| t.named(RECORD).first().copied());
    let fields = mt.map(|mt| clr.fields(mt)).unwrap_or_default();
    let ptr = clr.header();
    let place =
        |name: &str, known: u64| fields.instance.iter().find(|f| &*f.name == name).map_or(known, |f| f.offset());
    Places {
        object: place("_objectPtr", 0),
        kind: place("_objectKind", ptr),
        timeout: place("_timeoutMs", ptr + 4),
        next: place("_next", ptr + 8),
    }
}

/// Threads that wait for one another in a circle: each circle as numbers of waits, where the holder of a wait's lock is the
/// thread of the next, the holder of the last that of the first. A thread may wait in a wait: it needs all of them to end.
pub fn circles(waits: &[Wait]) -> Vec<Vec<usize>> {
    rings(&waits.iter().map(|w| (w.thread, w.holder())).collect::<Vec<_>>())
}

/// The same of pairs: who waits, and who has to go on first; 0 for nobody.
pub fn rings(pairs: &[(u64, u64)]) -> Vec<Vec<usize>> {
    let mut of_thread: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
    for (i, &(thread, holder)) in pairs.iter().enumerate() {
        if holder != 0 && holder != thread {
            of_thread.entry(thread).or_default().push(i);
        }
    }
    let of = |thread: u64| of_thread.get(&thread).map_or(&[][..], |v| v.as_slice());
    let (mut found, mut done): (Vec<Vec<usize>>, FxHashSet<u64>) = Default::default();
    for start in pairs.iter().map(|p| p.0) {
        if done.contains(&start) {
            continue;
        }
        // The way taken: at each thread, which of its waits is next. Waits taken so far stand in `way`.
        let (mut stack, mut way): (Vec<(u64, usize)>, Vec<usize>) = (vec![(start, 0)], Vec::new());
        let mut on_way: FxHashMap<u64, usize> = FxHashMap::from_iter([(start, 0)]);
        while let Some((thread, turn)) = stack.last_mut() {
            let Some(&wait) = of(*thread).get(*turn) else {
                done.insert(*thread);
                on_way.remove(thread);
                stack.pop();
                way.pop();
                continue;
            };
            *turn += 1;
            let Some(holder) = pairs.get(wait).map(|p| p.1) else { continue };
            if let Some(&from) = on_way.get(&holder) {
                found.push(way.iter().skip(from).copied().chain([wait]).collect());
            } else if !done.contains(&holder) {
                on_way.insert(holder, stack.len());
                stack.push((holder, 0));
                way.push(wait);
            }
        }
    }
    found
}
