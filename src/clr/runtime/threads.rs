//! Managed threads, from the thread store's list.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/threads.h` (`Thread`, `ThreadStore`); offsets from the layout.

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::Missing;
use crate::clr::layout::threadlist::{self, End};

/// `Thread::ThreadState` bits.
pub mod state {
    /// `TS_Background`.
    pub const BACKGROUND: u32 = 0x200;
    /// `TS_Unstarted`.
    pub const UNSTARTED: u32 = 0x400;
    /// `TS_Dead`.
    pub const DEAD: u32 = 0x800;
    /// `TS_TPWorkerThread`.
    pub const THREAD_POOL_WORKER: u32 = 0x0100_0000;
}

/// One managed thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClrThread {
    /// Address of its `Thread`.
    pub address: u64,
    /// Operating system id; 0 when the thread has ended.
    pub os_id: u64,
    /// Managed id.
    pub managed_id: u32,
    /// State bits.
    pub state: u32,
    /// Whether the collector may run while it does (GC mode Preemptive).
    pub preemptive: bool,
    /// Its app domain; 0 where threads have none of their own (9.0 and later).
    pub domain: u64,
    /// Allocation context: next free byte and limit; both 0 when it has none.
    pub alloc_context: (u64, u64),
    /// `System.Threading.Thread` object, 0 when it has none yet.
    pub exposed_object: u64,
    /// Exception last thrown on it, 0 for none.
    pub exception: u64,
    /// Exceptions in flight on it, the one thrown last first.
    pub in_flight: Vec<u64>,
    /// Where its stack begins (the highest address) and ends, as the runtime keeps it; zeros where it is not known.
    pub stack: (u64, u64),
    /// Whether it is the finalizer thread.
    pub finalizer: bool,
    /// Address of its explicit frame chain.
    pub frame: u64,
}

impl ClrThread {
    /// Whether the thread has ended.
    pub fn is_dead(&self) -> bool {
        self.state & state::DEAD != 0
    }

    /// How many exceptions were still being handled on it when the youngest was thrown.
    pub fn nested_exceptions(&self) -> usize {
        self.in_flight.len().saturating_sub(1)
    }
}

/// Counts the thread store keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadCounts {
    /// All threads in the list.
    pub threads: u32,
    /// Not started yet.
    pub unstarted: u32,
    /// Background threads.
    pub background: u32,
    /// Starting up.
    pub pending: u32,
    /// Ended, still referenced.
    pub dead: u32,
}

/// The thread store's address.
fn store(clr: &Clr) -> Result<Option<u64>, Missing> {
    Ok(clr.space().ptr(clr.layout().global("ThreadStore")?).filter(|&s| s != 0))
}

/// The thread store's counts.
pub fn counts(clr: &Clr) -> Result<Option<ThreadCounts>, Missing> {
    if clr.ahead().is_some() {
        // Nobody counts them: the list says.
        let all = &clr.threads().items;
        let with = |bit: u32| all.iter().filter(|t| t.state & bit != 0).count() as u32;
        return Ok(Some(ThreadCounts {
            threads: all.len() as u32,
            unstarted: with(state::UNSTARTED),
            background: with(state::BACKGROUND),
            pending: 0,
            dead: with(state::DEAD),
        }));
    }
    let Some(store) = store(clr)? else { return Ok(None) };
    let read = |f| Some(clr.space().u32(store.checked_add(clr.layout().try_offset("ThreadStore", f)?)?)).flatten();
    Ok(Some(ThreadCounts {
        threads: read("ThreadCount").unwrap_or(0),
        unstarted: read("UnstartedCount").unwrap_or(0),
        background: read("BackgroundCount").unwrap_or(0),
        pending: read("PendingCount").unwrap_or(0),
        dead: read("DeadCount").unwrap_or(0),
    }))
}

/// All managed threads, ended ones included, in the list's order.
pub fn read(clr: &Clr) -> Result<Gathered<ClrThread>, Missing> {
    let mut out = Gathered::default();
    let (space, l) = (clr.space(), clr.layout());
    let Some(store) = store(clr)? else {
        out.because("the thread store is not in the dump");
        return Ok(out);
    };
    for field in ["LinkNext", "OSId", "Id", "State"] {
        l.offset("Thread", field)?;
    }
    l.offset("ThreadStore", "FirstThreadLink")?;
    let finalizer = l.global("FinalizerThread").ok().and_then(|a| space.ptr(a)).unwrap_or(0);
    let Some(list) = threadlist::follow(&clr.dump, l, store) else {
        out.because("the thread list is not in the dump");
        return Ok(out);
    };
    if finalizer == 0 {
        out.because("which thread is the finalizer is not known");
    }
    if list.end == End::Circle {
        out.because("the thread list runs in a circle");
    }
    for address in list.threads {
        match one(clr, address, finalizer)? {
            Some(t) => {
                if t.in_flight.len() >= MAX_NESTED {
                    out.because(format!("thread {} handles more than {MAX_NESTED} exceptions", t.managed_id));
                }
                out.items.push(t);
            }
            None => out.because(format!("thread {address:x} is not in the dump")),
        }
    }
    if let Some(c) = counts(clr)?
        && c.threads as usize != out.items.len()
    {
        out.because(format!("the thread store counts {} threads, its list holds {}", c.threads, out.items.len()));
    }
    Ok(out)
}

fn one(clr: &Clr, address: u64, finalizer: u64) -> Result<Option<ClrThread>, Missing> {
    let (space, l) = (clr.space(), clr.layout());
    let word = |f| -> Result<Option<u32>, Missing> { Ok(space.u32(address.wrapping_add(l.offset("Thread", f)?))) };
    let pointer = |f| Some(space.ptr_at(address, l.try_offset("Thread", f)?)).flatten();
    let through_handle = |f| pointer(f).filter(|&h| h != 0).and_then(|h| space.ptr(h)).unwrap_or(0);
    let (Some(state), Some(managed_id)) = (word("State")?, word("Id")?) else { return Ok(None) };
    let Some(os_id) = space.ptr_at(address, l.offset("Thread", "OSId")?) else { return Ok(None) };
    Ok(Some(ClrThread {
        address,
        os_id: u64::from(os_id as u32),
        managed_id,
        state,
        preemptive: l
            .try_offset("Thread", "PreemptiveGCDisabled")
            .and_then(|o| space.u32(address.wrapping_add(o)))
            .is_none_or(|v| v == 0),
        domain: pointer("AppDomain").unwrap_or(0),
        alloc_context: context(clr, address).unwrap_or((0, 0)),
        exposed_object: through_handle("GCHandle"),
        exception: through_handle("LastThrownObject"),
        in_flight: in_flight(clr, address),
        stack: (pointer("CachedStackBase").unwrap_or(0), pointer("CachedStackLimit").unwrap_or(0)),
        finalizer: address == finalizer,
        frame: pointer("Frame").unwrap_or(0),
    }))
}

/// The allocation context: in the Thread itself through .NET 8, behind its runtime locals since.
fn context(clr: &Clr, thread: u64) -> Option<(u64, u64)> {
    let (space, l) = (clr.space(), clr.layout());
    let at = match l.try_offset("Thread", "AllocContext") {
        Some(o) => thread.checked_add(o)?,
        None => {
            let locals = space.ptr_at(thread, l.try_offset("Thread", "RuntimeThreadLocals")?).filter(|&p| p != 0)?;
            locals
                .checked_add(l.try_offset("RuntimeThreadLocals", "AllocContext")?)?
                .checked_add(l.try_offset("EEAllocContext", "GCAllocationContext").unwrap_or(0))?
        }
    };
    let pointer = space.ptr_at(at, l.try_offset("GCAllocContext", "Pointer")?)?;
    Some((pointer, space.ptr_at(at, l.try_offset("GCAllocContext", "Limit")?)?))
}

/// Most exceptions thrown while others are handled on one thread; more say so.
const MAX_NESTED: usize = 1 << 16;

/// The objects of the thread's chain of `ExInfo`, through 8.0 of `ExceptionTracker` (`exceptionhandling.h`): the exception
/// itself since 11.0, a handle of it before.
fn in_flight(clr: &Clr, thread: u64) -> Vec<u64> {
    let (space, l) = (clr.space(), clr.layout());
    let (mut found, mut seen) = (Vec::new(), FxHashSet::default());
    let field = |of: u64, ty, name| space.ptr_at(of, l.try_offset(ty, name)?);
    let mut info = field(thread, "Thread", "ExceptionTracker").unwrap_or(0);
    let is_exception = |o: &u64| clr.object_type(*o).is_some_and(|mt| clr.valid_method_table(mt).is_some());
    while info != 0 && seen.insert(info) && seen.len() <= MAX_NESTED {
        let Some(thrown) = field(info, "ExceptionInfo", "ThrownObject") else { break };
        let object = [Some(thrown), space.ptr(thrown)].into_iter().flatten().find(|o| *o != 0 && is_exception(o));
        found.extend(object);
        info = field(info, "ExceptionInfo", "PreviousNestedInfo").unwrap_or(0);
    }
    found
}
