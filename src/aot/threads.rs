//! Managed threads of a program compiled ahead of time: the runtime's own records, and the `System.Threading.Thread` each
//! has among its thread statics.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/threadstore.h`, `thread.h`.

use rustc_hash::FxHashSet;

use crate::clr::ahead::ExceptionRecord;
use crate::clr::gathered::Gathered;
use crate::clr::layout::threadlist::MAX_THREADS;
use crate::clr::runtime::threads::{ClrThread, state};
use crate::clr::types::gcdesc::RefMap;
use crate::native::{Context, Native};

use super::Aot;

/// Most exceptions thrown while others are handled on one thread; more say so.
const MAX_NESTED: usize = 1 << 16;
/// Kind of an exception (`ExKind`), without the flags beside it, and that of one the processor raised.
const KIND: u8 = 3;
const HARDWARE_FAULT: u8 = 2;
/// Most slots that native code registers on one thread.
const MOST_SLOTS: usize = 1 << 16;
/// The loop of the thread that runs finalizers.
const FINALIZERS: &str = "System.Runtime.__Finalizer.ProcessFinalizers";
/// Frames looked through for it.
const MOST_STEPS: usize = 64;
/// Nodes of a thread's list of inlined thread statics: one a module.
const MAX_NODES: usize = 256;
/// `System.Threading.ThreadState` as the object keeps it.
const BACKGROUND: u32 = 4;
const UNSTARTED: u32 = 8;
/// The transition frame of a thread in managed code is null.
const NO_FRAME: u64 = 0;

impl Aot {
    /// Address of the thread store.
    pub fn thread_store(&self) -> Option<u64> {
        let space = &self.dump.space;
        let named = self.layout.global("ThreadStore").ok();
        named.or_else(|| {
            let instance = self.layout.global("RuntimeInstance").ok()?;
            space.ptr_at(instance, self.layout.try_offset("RuntimeInstance", "ThreadStore")?)
        })
    }

    /// Reads the thread list.
    pub fn read_threads(&self) -> Gathered<ClrThread> {
        let mut out = Gathered::default();
        let (space, l) = (&self.dump.space, &self.layout);
        let head = || space.ptr_at(self.thread_store()?, l.try_offset("ThreadStore", "FirstThreadLink")?);
        let (Some(mut at), Some(next), Some(id)) =
            (head(), l.try_offset("Thread", "LinkNext"), l.try_offset("Thread", "OSId"))
        else {
            out.because("the thread list is not in the dump");
            return out;
        };
        let mut seen = FxHashSet::default();
        while at != 0 {
            if !seen.insert(at) || seen.len() > MAX_THREADS {
                out.because("the thread list runs in a circle");
                break;
            }
            let (Some(os_id), Some(link)) = (space.ptr_at(at, id), space.ptr_at(at, next)) else {
                out.because(format!("thread {at:x} is not in the dump"));
                break;
            };
            let thread = self.thread(at, os_id);
            if thread.in_flight.len() >= MAX_NESTED {
                out.because(format!("thread {os_id:x} handles more than {MAX_NESTED} exceptions"));
            }
            out.items.push(thread);
            at = link;
        }
        out
    }

    /// Marks the thread that runs finalizers: the one whose frames have that loop.
    pub fn mark_finalizer(&self, native: &Native, threads: &mut [ClrThread]) {
        let Some(start) = self.start_of(FINALIZERS) else { return };
        let runs = |t: &ClrThread| {
            let registers = self.dump.thread_of(t.os_id).and_then(|n| n.registers.as_ref())?;
            let context = Context::of_thread(self.dump.arch, registers);
            let is = |ip: u64| native.function_at(ip).is_some_and(|f| f.0 == start);
            native.walk_to(context, true, MOST_STEPS, is).ok()
        };
        // Most often it has no managed thread of its own.
        let order = |bare: bool| threads.iter().position(|t| (t.exposed_object == 0) == bare && runs(t).is_some());
        if let Some(t) = order(true).or_else(|| order(false)).and_then(|i| threads.get_mut(i)) {
            t.finalizer = true;
        }
    }

    fn thread(&self, address: u64, os_id: u64) -> ClrThread {
        let (space, l) = (&self.dump.space, &self.layout);
        let pointer = |f| l.try_offset("Thread", f).and_then(|o| space.ptr_at(address, o)).unwrap_or(0);
        let in_flight = self.in_flight(pointer("ExceptionTracker"));
        let object = self.thread_object(address);
        let (managed_id, bits) = object.map_or((0, 0), |o| self.of_object(o));
        let mut flags = 0;
        for (bit, ours) in [(BACKGROUND, state::BACKGROUND), (UNSTARTED, state::UNSTARTED)] {
            flags |= if bits & bit != 0 { ours } else { 0 };
        }
        ClrThread {
            address,
            os_id,
            managed_id,
            state: flags,
            preemptive: pointer("TransitionFrame") != NO_FRAME,
            domain: 0,
            alloc_context: (pointer("AllocPointer"), pointer("AllocLimit")),
            exposed_object: object.unwrap_or(0),
            exception: in_flight.first().copied().unwrap_or(0),
            in_flight,
            stack: (pointer("CachedStackBase"), pointer("CachedStackLimit")),
            finalizer: false,
            frame: 0,
        }
    }

    /// The objects of a chain of `ExInfo`.
    fn in_flight(&self, info: u64) -> Vec<u64> {
        let thrown = self.chain_of(info).into_iter().filter_map(|r| self.dump.space.ptr(r.slot));
        thrown.filter(|&o| o != 0 && self.is_object(o)).collect()
    }

    /// The chain of `ExInfo` that begins at `info`.
    fn chain_of(&self, mut info: u64) -> Vec<ExceptionRecord> {
        let (space, l) = (&self.dump.space, &self.layout);
        let (mut found, mut seen) = (Vec::new(), FxHashSet::default());
        let place = |of: u64, name| of.checked_add(l.try_offset("ExInfo", name)?);
        while info != 0 && seen.insert(info) && seen.len() <= MAX_NESTED {
            let Some(slot) = place(info, "ThrownObject").filter(|&s| space.readable(s)) else { break };
            let kind = place(info, "Kind").and_then(|at| space.u8(at)).unwrap_or(0);
            found.push(ExceptionRecord { address: info, slot, faulted: kind & KIND == HARDWARE_FAULT });
            info = place(info, "PreviousNestedInfo").and_then(|at| space.ptr(at)).unwrap_or(0);
        }
        found
    }

    /// Records of the exceptions that the thread at `address` handles, the newest first.
    pub fn records_of(&self, address: u64) -> Vec<ExceptionRecord> {
        let first =
            self.layout.try_offset("Thread", "ExceptionTracker").and_then(|o| self.dump.space.ptr_at(address, o));
        self.chain_of(first.unwrap_or(0))
    }

    /// The place on the stack of the thread at `address` whose return address the collector replaced, and that address, if it
    /// is one of managed code.
    pub fn replaced_return(&self, address: u64) -> Option<(u64, u64)> {
        let word = |name| self.dump.space.ptr_at(address, self.layout.try_offset("Thread", name)?);
        let (place, ip) = (word("HijackedReturnAddressLocation")?, word("HijackedReturnAddress")?);
        let stack = word("CachedStackLimit")?..word("CachedStackBase")?;
        (stack.contains(&place) && self.is_code(ip)).then_some((place, ip))
    }

    /// Slots that native code registered for the collector on the thread at `address`, and whether they may point into
    /// objects: a chain of records, each with an array of addresses of slots.
    pub fn slots_registered(&self, address: u64) -> Vec<(u64, bool)> {
        let (space, l) = (&self.dump.space, &self.layout);
        let (mut found, mut seen) = (Vec::new(), FxHashSet::default());
        let place = |of: u64, name| of.checked_add(l.try_offset("GCFrameRegistration", name)?);
        let head = l.try_offset("Thread", "GCFrameRegistrations").and_then(|o| space.ptr_at(address, o));
        let mut at = head.unwrap_or(0);
        while at != 0 && seen.insert(at) && found.len() < MOST_SLOTS {
            let word = |name| place(at, name).and_then(|p| space.u32(p));
            let slots = place(at, "Refs").and_then(|p| space.ptr(p));
            let (Some(slots), Some(count), Some(interior)) = (slots, word("Count"), word("Interior")) else { break };
            let left = MOST_SLOTS.saturating_sub(found.len()) as u64;
            let all = (0..u64::from(count).min(left)).map_while(|i| space.ptr_at(slots, 8 * i));
            found.extend(all.map(|slot| (slot, interior != 0)));
            at = place(at, "Next").and_then(|p| space.ptr(p)).unwrap_or(0);
        }
        found
    }

    /// Bases of a thread's statics: those of its own record, and the array of the others.
    pub fn statics_of_thread(&self, thread: u64) -> Vec<(u64, u64)> {
        let mut found = self.inlined_statics(thread);
        let slot = self.layout.try_offset("Thread", "ThreadStatics").and_then(|o| thread.checked_add(o));
        let array = slot.and_then(|s| Some((s, self.dump.space.ptr(s)?)));
        found.extend(array.filter(|a| a.1 != 0 && self.is_object(a.1)));
        found
    }

    /// Bases of the thread's statics that are kept in its own record: one object a module, with the slot that holds it.
    pub fn inlined_statics(&self, thread: u64) -> Vec<(u64, u64)> {
        let (space, l) = (&self.dump.space, &self.layout);
        let mut found = Vec::new();
        let base = l.try_offset("InlinedThreadStatics", "Base");
        let field = |of: u64, name| space.ptr_at(of, l.try_offset("InlinedThreadStatics", name)?);
        let head = l.try_offset("Thread", "InlinedThreadStatics").and_then(|o| space.ptr_at(thread, o));
        let mut node = head.unwrap_or(0);
        let mut seen = FxHashSet::default();
        while node != 0 && seen.insert(node) && seen.len() <= MAX_NODES {
            let slot = base.and_then(|o| node.checked_add(o));
            let held = slot.and_then(|s| Some((s, space.ptr(s)?)));
            found.extend(held.filter(|b| b.1 != 0 && self.is_object(b.1)));
            node = field(node, "Next").unwrap_or(0);
        }
        found
    }

    /// The `System.Threading.Thread` among a thread's statics.
    fn thread_object(&self, thread: u64) -> Option<u64> {
        let class = self.named("System.Threading.Thread");
        let space = &self.dump.space;
        self.inlined_statics(thread).into_iter().find_map(|(_, base)| {
            let mt = self.types.method_table(self.object_type(base)?)?;
            let mut found = None;
            RefMap::read(space, &mt).slots(u64::from(mt.base_size), 8, |slot| {
                let object = base.checked_add(slot).and_then(|a| space.ptr(a)).filter(|&o| o != 0);
                let object = object.filter(|&o| class != 0 && self.object_type(o) == Some(class));
                found = found.or(object);
            });
            found
        })
    }

    /// Managed id and state bits that a `System.Threading.Thread` keeps.
    fn of_object(&self, object: u64) -> (u32, u32) {
        let space = &self.dump.space;
        let place = |field| self.managed.offset("System.Threading.Thread", field).and_then(|o| object.checked_add(o));
        let id = place("_managedThreadId").and_then(|a| space.ptr(a)).and_then(|p| space.u32(p.checked_add(8)?));
        (id.unwrap_or(0), place("_threadState").and_then(|a| space.u32(a)).unwrap_or(0))
    }
}
