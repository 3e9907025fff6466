//! Who waits for what, held by whom.
//!
//! How a thread waits its stack tells: the outermost of the methods of the core library by which it does ([`kinds`]). What
//! it waits for is an object that the frames of that call hold (`blocked`), for monitors and `Lock`s what the runtime or
//! the library keeps a record of ([`super::locks::waits`]). Who holds it the object tells.

mod blocked;
mod handles;
mod initializers;
pub mod kinds;
mod rwlocks;

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use self::blocked::Blocked;
use self::handles::Handles;
use self::initializers::Running;
pub use self::kinds::Kind;
use super::locks::waits::{Wait, WaitKind};
use super::value::Value;
use super::{Lazy, Session};
use crate::clr::Clr;
use crate::clr::runtime::locks::Lock;
use crate::clr::runtime::threads::ClrThread;

/// Class of what keeps the handle of a wait handle.
const SAFE_HANDLE: &str = "Microsoft.Win32.SafeHandles.SafeWaitHandle";

/// One thread that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Address of its `Thread`.
    pub thread: u64,
    /// How it waits.
    pub kind: Kind,
    /// What it waits for; several where it waits for one or all of them, none where that is not known. Of a class's
    /// initializer the MethodTable.
    pub objects: Vec<u64>,
    /// Addresses of the `Thread`s that have to do something before it goes on.
    pub holders: Vec<u64>,
    /// The operating system's handle of what it waits for, where there is one.
    pub handle: Option<u64>,
    /// Time-out in milliseconds, where one is known.
    pub timeout: Option<u32>,
    /// The method of the library by which it waits; empty where the runtime itself waits.
    pub method: String,
    /// The method that called it.
    pub caller: Option<String>,
}

/// One thread that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Address of its `Thread`.
    pub thread: u64,
    /// What it is: `Monitor`, `Lock`, `Mutex`, `ReaderWriterLockSlim`.
    pub kind: Kind,
    /// The object.
    pub object: u64,
    /// How often it was entered.
    pub count: u32,
}

/// Waits and holds of all threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// Threads that wait, in the order of the thread list; those that sleep or have no work among them.
    pub waiting: Vec<Waiting>,
    /// What is held: thin locks, monitors, `Lock`s, mutexes, reader-writer locks, each in the order of the heap.
    pub holding: Vec<Holding>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

impl Waits {
    /// Threads that wait for somebody.
    pub fn blocked(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|w| w.kind.is_wait())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Kept(Lazy<Waits>);

impl Session {
    /// Who waits for what, and who holds what. Walks the heap once.
    pub fn all_waits(&self) -> Result<&Waits> {
        self.all_waits.0.get(|| gather(self))
    }
}

/// The threads by what objects name them by.
struct Threads<'a> {
    by_object: FxHashMap<u64, u64>,
    by_id: FxHashMap<u32, u64>,
    session: &'a Session,
}

impl<'a> Threads<'a> {
    fn of(session: &'a Session, clr: &Clr) -> Self {
        let living = || clr.threads().items.iter().filter(|t| !t.is_dead());
        let by_object = living().filter(|t| t.exposed_object != 0).map(|t| (t.exposed_object, t.address)).collect();
        Self { by_object, by_id: living().map(|t| (t.managed_id, t.address)).collect(), session }
    }

    /// The living thread of a managed id.
    fn of_id(&self, id: u32) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    /// The living thread of a `System.Threading.Thread`.
    fn of_object(&self, object: u64) -> Option<u64> {
        let by_id = || {
            let id = self.session.value(object)?.int(&["_managedThreadId", "m_ManagedThreadId"])?;
            self.of_id(u32::try_from(id).ok()?)
        };
        self.by_object.get(&object).copied().or_else(by_id)
    }
}

/// Objects of the heap that threads wait for.
#[derive(Debug, Default)]
struct Objects {
    handles: Vec<u64>,
    rwlocks: Vec<u64>,
    /// `CountdownEvent`s and what else waits by an event of its own.
    others: Vec<u64>,
    partial: Option<String>,
}

impl Objects {
    fn find(session: &Session) -> Result<Self> {
        /// What a class is here.
        #[derive(Clone, Copy)]
        enum Of {
            Nothing,
            Handle,
            RwLock,
            Other,
        }
        let (clr, walker) = (session.clr()?, session.walker()?);
        let role = |mt: u64| {
            for class in clr.class_chain(mt) {
                match &*clr.type_name(class.address) {
                    "System.Threading.WaitHandle" => return Of::Handle,
                    "System.Threading.ReaderWriterLockSlim" => return Of::RwLock,
                    "System.Threading.CountdownEvent" | "System.Threading.Barrier" => return Of::Other,
                    _ => {}
                }
            }
            Of::Nothing
        };
        session.watch.progress.start("looking for wait handles", walker.heap.allocated());
        let (parts, report) = walker.parallel(
            &walker.heap.segments,
            |_| (Self::default(), FxHashMap::<u32, Of>::default()),
            |(found, roles), _, o| match roles.entry(o.ty.id).or_insert_with(|| role(o.ty.mt.address)) {
                Of::Nothing => {}
                Of::Handle => found.handles.push(o.address),
                Of::RwLock => found.rwlocks.push(o.address),
                Of::Other => found.others.push(o.address),
            },
        )?;
        session.watch.progress.finish();
        let mut all = Self { partial: report.sentence(), ..Self::default() };
        for (mut part, _) in parts {
            all.handles.append(&mut part.handles);
            all.rwlocks.append(&mut part.rwlocks);
            all.others.append(&mut part.others);
        }
        Ok(all)
    }
}

fn gather(session: &Session) -> Result<Waits> {
    let clr = session.clr()?;
    // Without a heap what threads wait for is told by stacks and records alone.
    let objects = Objects::find(session)
        .or_else(|why| if why.is::<crate::watch::Interrupted>() { Err(why) } else { Ok(Objects::default()) })?;
    let threads = Threads::of(session, clr);
    let handles = Handles::new(session, &objects.handles);
    let (rw_held, rw_partial) = rwlocks::held(session, &objects.rwlocks, &threads);
    let records = session.waits()?;
    let running = Running::of(session, clr);
    let finder = Finder { session, clr, threads: &threads, handles: &handles, objects: &objects, rw_held: &rw_held };
    let mut waits = Waits { partial: objects.partial.clone().or(rw_partial), ..Waits::default() };
    for thread in clr.threads().items.iter().filter(|t| t.os_id != 0 && !t.is_dead()) {
        session.watch.cancel.check()?;
        let record = records.items.iter().find(|w| w.thread == thread.address);
        let found = match Blocked::find(session, clr, thread) {
            Some(blocked) => Some(finder.wait(thread, &blocked, record, &running)),
            None => record.map(of_record).or_else(|| running.awaited_by(session, thread)),
        };
        waits.waiting.extend(found);
    }
    let held = finder.held(&mut waits.partial)?;
    waits.holding = held;
    let others = [&records.partial, &clr.threads().partial];
    waits.partial = waits.partial.or_else(|| others.into_iter().flatten().next().cloned());
    Ok(waits)
}

/// The wait that a record of the runtime or the library tells.
fn of_record(record: &Wait) -> Waiting {
    let kind = match record.kind {
        WaitKind::Monitor => Kind::Monitor,
        WaitKind::MonitorWait => Kind::MonitorWait,
        WaitKind::Lock => Kind::Lock,
        WaitKind::Condition => Kind::Condition,
    };
    Waiting {
        thread: record.thread,
        kind,
        objects: vec![record.lock.object],
        holders: Some(record.holder()).into_iter().filter(|&h| h != 0).collect(),
        handle: None,
        timeout: record.timeout,
        method: String::new(),
        caller: None,
    }
}

struct Finder<'a> {
    session: &'a Session,
    clr: &'a Arc<Clr>,
    threads: &'a Threads<'a>,
    handles: &'a Handles<'a>,
    objects: &'a Objects,
    rw_held: &'a [rwlocks::Held],
}

impl Finder<'_> {
    fn wait(&self, thread: &ClrThread, b: &Blocked<'_>, record: Option<&Wait>, running: &Running) -> Waiting {
        let mut wait = Waiting {
            thread: thread.address,
            kind: b.kind,
            objects: Vec::new(),
            holders: Vec::new(),
            handle: None,
            timeout: None,
            method: b.method.clone(),
            caller: b.caller.clone(),
        };
        match b.kind {
            Kind::Monitor | Kind::MonitorWait | Kind::Lock | Kind::Condition => {
                let known = record.map(of_record).unwrap_or_else(|| self.lock(thread, b));
                return Waiting { method: wait.method, caller: wait.caller, ..known };
            }
            Kind::WaitHandle => {
                wait.objects = self.handle_of(b).into_iter().collect();
                wait.kind = wait.objects.first().map_or(Kind::WaitHandle, |&o| self.handles.kind(o));
            }
            Kind::WaitAny | Kind::WaitAll => {
                wait.objects = self.handles_of(b);
                let all = self.waits_for_all(thread).unwrap_or_else(|| b.waits_for_all());
                wait.kind = if all { Kind::WaitAll } else { Kind::WaitAny };
            }
            Kind::Task => wait.objects = self.tasks_of(b),
            Kind::TypeInitializer => {
                if let Some(known) = running.awaited_by(self.session, thread) {
                    return Waiting { method: wait.method, caller: wait.caller, ..known };
                }
            }
            Kind::Sleep | Kind::Idle => {}
            kind => {
                let own = if kind == Kind::Join { thread.exposed_object } else { 0 };
                let named = kind.class().map(|c| b.objects(|v| v.is_a(c))).unwrap_or_default();
                let found = named.into_iter().find(|&o| o != own).or_else(|| self.around(kind, b));
                wait.objects = found.into_iter().collect();
            }
        }
        wait.timeout = b.timeout();
        wait.handle = wait.objects.first().filter(|_| wait.objects.len() == 1).and_then(|&o| self.handles.handle(o));
        wait.holders = self.holders(&wait);
        wait
    }

    /// A wait for a lock of which no record is left: one of those in its frames that another thread holds.
    fn lock(&self, thread: &ClrThread, b: &Blocked<'_>) -> Waiting {
        let blocks = &self.clr.sync_blocks().items;
        let lock = |o: u64| -> Option<Lock> {
            let of_block = blocks.iter().find(|s| s.object == o).map(|s| s.monitor);
            of_block.or_else(|| if b.kind == Kind::Lock { self.session.lock_at(o) } else { None })
        };
        let fits = |l: &Lock| match b.kind {
            Kind::Monitor | Kind::Lock => l.held && l.owner != thread.address,
            _ => true,
        };
        let found = b.objects(|v| lock(v.address()).is_some_and(|l| fits(&l)));
        let held = found.first().and_then(|&o| lock(o)).filter(|l| l.held && l.owner != thread.address);
        let holder = held.filter(|_| matches!(b.kind, Kind::Monitor | Kind::Lock)).map(|l| l.owner);
        Waiting {
            thread: thread.address,
            kind: b.kind,
            objects: found.into_iter().take(1).collect(),
            holders: holder.into_iter().filter(|&h| h != 0).collect(),
            handle: None,
            timeout: b.timeout(),
            method: String::new(),
            caller: None,
        }
    }

    /// The wait handle of a call: by the `SafeWaitHandle` it keeps alive, else the wait handle itself.
    fn handle_of(&self, b: &Blocked<'_>) -> Option<u64> {
        let safe = b.objects(|v| &*v.type_name() == SAFE_HANDLE);
        let direct = || b.objects(|v| v.is_a("System.Threading.WaitHandle")).into_iter().next();
        safe.first().map(|&s| self.handles.of_safe(s)).or_else(direct)
    }

    /// The wait handles of a call for several: those of the array of `SafeWaitHandle`s it keeps alive.
    fn handles_of(&self, b: &Blocked<'_>) -> Vec<u64> {
        let items = |array: u64, class: &str| -> Vec<u64> {
            let elements = self.session.value(array).filter(|v| v.type_name().strip_suffix("[]") == Some(class));
            let Some(elements) = elements.and_then(|v| v.elements()) else { return Vec::new() };
            /// `WaitHandle.MaxWaitHandles`.
            const MAX_HANDLES: u64 = 64;
            (0..elements.count.min(MAX_HANDLES)).filter_map(|i| elements.object(i)).map(|v| v.address()).collect()
        };
        for class in [SAFE_HANDLE, "System.Threading.WaitHandle"] {
            let arrays = b.objects(|v| v.type_name().strip_suffix("[]") == Some(class));
            let found = arrays.into_iter().map(|a| items(a, class)).find(|i| !i.is_empty());
            if let Some(found) = found {
                return found.into_iter().map(|o| self.handles.of_safe(o)).collect();
            }
        }
        Vec::new()
    }

    /// Whether the thread waits for all of several: known where waiting is managed code.
    fn waits_for_all(&self, thread: &ClrThread) -> Option<bool> {
        let info = self.session.value(thread.exposed_object)?.object(&["_waitInfo"])?;
        info.int(&["_isWaitForAll"]).map(|all| all != 0)
    }

    /// The task waited for; of a call for several those that are not complete.
    fn tasks_of(&self, b: &Blocked<'_>) -> Vec<u64> {
        let class = "System.Threading.Tasks.Task";
        if kinds::split(&b.method).is_some_and(|(_, m)| m.starts_with("WaitA")) {
            let of_tasks = |v: &Value<'_>| v.type_name().strip_suffix("[]").is_some_and(|t| t.starts_with(class));
            let array = b.objects(of_tasks).first().and_then(|&a| self.session.value(a)).and_then(|a| a.elements());
            if let Some(all) = array {
                let pending = |v: &Value<'_>| v.int(&["m_stateFlags"]).is_some_and(|f| !super::tasks::is_completed(f));
                return (0..all.count).filter_map(|i| all.object(i)).filter(pending).map(|v| v.address()).collect();
            }
        }
        b.objects(|v| v.is_a(class)).into_iter().take(1).collect()
    }

    /// The object whose own event the call waits for.
    fn around(&self, kind: Kind, b: &Blocked<'_>) -> Option<u64> {
        let class = kind.class()?;
        if kind == Kind::Join {
            // Since 11.0 on Unix a thread has an event that is set when it ends.
            let event = self.handle_of(b)?;
            let ends = |o: &u64| self.session.value(*o).and_then(|v| v.pointer(&["_joinEvent"])) == Some(event);
            return self.threads.by_object.keys().copied().find(ends);
        }
        let events = b.objects(|v| v.is_a("System.Threading.ManualResetEventSlim"));
        let own = |v: &Value<'_>| v.pointer(&["_event", "m_event"]).is_some_and(|e| events.contains(&e));
        let candidates = self.objects.others.iter().filter_map(|&a| self.session.value(a));
        candidates.filter(|v| v.is_a(class)).find(own).map(|v| v.address())
    }

    /// Who has to do something before a wait ends.
    fn holders(&self, wait: &Waiting) -> Vec<u64> {
        let mut found: Vec<u64> = match wait.kind {
            Kind::Mutex | Kind::WaitAll => {
                let owners = wait.objects.iter().filter(|&&o| self.handles.kind(o) == Kind::Mutex);
                owners.filter_map(|&o| self.handles.owner(o, self.threads)).map(|o| o.thread).collect()
            }
            Kind::Join => wait.objects.iter().filter_map(|&o| self.threads.of_object(o)).collect(),
            Kind::ReaderWriterLockSlim => {
                self.rw_held.iter().filter(|h| wait.objects.contains(&h.lock)).map(|h| h.thread).collect()
            }
            _ => Vec::new(),
        };
        found.retain(|&h| h != wait.thread);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Everything that is held.
    fn held(&self, partial: &mut Option<String>) -> Result<Vec<Holding>> {
        let (thin, objects) = (self.session.thin_locks(), self.session.lock_objects());
        let blocks = self.clr.sync_blocks();
        let mut found = Vec::new();
        let mut add = |kind: Kind, l: &Lock| {
            if l.held && l.owner != 0 {
                found.push(Holding { thread: l.owner, kind, object: l.object, count: l.count });
            }
        };
        // Without a heap the monitors in sync blocks are what is left.
        for list in [thin, objects] {
            match list {
                Ok(list) => {
                    let kind = |l: &Lock| if l.kind.name() == "Lock" { Kind::Lock } else { Kind::Monitor };
                    list.items.iter().for_each(|l| add(kind(l), l));
                    *partial = partial.take().or_else(|| list.partial.clone());
                }
                Err(why) if why.is::<crate::watch::Interrupted>() => return Err(why),
                Err(why) => *partial = partial.take().or_else(|| Some(why.to_string())),
            }
        }
        blocks.items.iter().for_each(|b| add(Kind::Monitor, &b.monitor));
        *partial = partial.take().or_else(|| blocks.partial.clone());
        for (object, owner) in self.handles.owned(self.threads) {
            found.push(Holding { thread: owner.thread, kind: Kind::Mutex, object, count: owner.count });
        }
        for h in self.rw_held {
            let kind = Kind::ReaderWriterLockSlim;
            found.push(Holding { thread: h.thread, kind, object: h.lock, count: h.count });
        }
        Ok(found)
    }
}
