//! Roots: handles, the finalizer queue, thread statics, thread stacks and registers.
//!
//! Of stacks that were walked the roots are those that GC information and the runtime's own records name, by frame. What
//! could not be walked is scanned conservatively and labelled so: every aligned word that lies inside a live object counts,
//! interior pointers included. A conservative scan of whole stacks, registers included, finds those and more.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::index::ObjectIndex;
use super::walk::Walker;
use crate::clr::gathered::Gathered;
use crate::clr::runtime::finalizer::{self, FinalizerQueue};
use crate::clr::runtime::handles::HandleKind;
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::statics;
use crate::dump::little_endian;
use crate::watch::Interrupted;

/// Lowest address anything can have.
const LOWEST: u64 = 0x1_0000;
/// Longest stack scanned, in bytes; what is left out is said.
const MAX_STACK: u64 = 1 << 30;

/// What a root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKind {
    /// A handle that keeps its object alive.
    Handle(HandleKind),
    /// An object ready for finalization.
    Finalizer,
    /// A register or slot of a frame, told by GC information or by a record of the runtime.
    Frame {
        /// Operating system id.
        os_id: u64,
        /// Address of the `Thread`.
        thread: u64,
        /// Index of the frame in its stack.
        frame: u32,
        /// The register, or what the slot is counted from; `None` for a slot that an explicit frame protects.
        register: Option<&'static str>,
        /// Distance of the slot from it in bytes; `None` for the register itself.
        offset: Option<i32>,
        /// The object must not move.
        pinned: bool,
    },
    /// A slot of a thread's stack, found conservatively; index of the thread in the dump and of the managed thread.
    Stack {
        /// Index in `Dump::threads`.
        thread: usize,
        /// Operating system id.
        os_id: u64,
    },
    /// A register, found conservatively.
    Register {
        /// Index in `Dump::threads`.
        thread: usize,
        /// Operating system id.
        os_id: u64,
        /// Its name.
        name: &'static str,
    },
    /// A thread static; its name.
    ThreadStatic {
        /// Operating system id.
        os_id: u64,
        /// `Type.Field`.
        name: Arc<str>,
    },
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What it is.
    pub kind: RootKind,
    /// Address of the slot that holds the reference; 0 for a register.
    pub slot: u64,
    /// The object's start.
    pub object: u64,
    /// Whether the slot points into the object instead of at its start.
    pub interior: bool,
}

impl Root {
    /// Whether it comes from a thread's stack or registers.
    pub fn is_stack(&self) -> bool {
        self.is_conservative() || matches!(self.kind, RootKind::Frame { .. })
    }

    /// Whether it was found by looking for anything that could be a reference, so that it may be stale.
    pub fn is_conservative(&self) -> bool {
        matches!(self.kind, RootKind::Stack { .. } | RootKind::Register { .. })
    }
}

/// How stacks are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacks {
    /// By walking them.
    Walked,
    /// By looking at every word.
    Scanned,
}

/// Collects all roots. `closed`: the instantiations that may have thread statics, which no module lists.
pub fn collect(
    walker: &Walker<'_>,
    index: &ObjectIndex,
    queues: &Gathered<(u32, FinalizerQueue)>,
    closed: &[MethodTable],
    stacks: Stacks,
) -> Result<Gathered<Root>, Interrupted> {
    let mut out = Gathered::default();
    handles(walker, &mut out);
    finalizers(walker, queues, &mut out);
    thread_statics(walker, index, closed, &mut out);
    for thread in &walker.clr.threads().items {
        walker.watch.cancel.check()?;
        let Some(native) = walker.clr.dump.thread_number(thread.os_id) else { continue };
        match stacks {
            Stacks::Walked => walked(walker, index, (thread, native), &mut out),
            Stacks::Scanned => scanned(walker, index, native, &mut out),
        }
    }
    Ok(out)
}

fn handles(walker: &Walker<'_>, out: &mut Gathered<Root>) {
    let handles = walker.clr.handles();
    if let Some(why) = &handles.partial {
        out.because(why.clone());
    }
    for h in handles.items.iter().filter(|h| h.kind.is_strong()) {
        out.items.push(Root { kind: RootKind::Handle(h.kind), slot: h.address, object: h.object, interior: false });
    }
}

fn finalizers(walker: &Walker<'_>, queues: &Gathered<(u32, FinalizerQueue)>, out: &mut Gathered<Root>) {
    if let Some(why) = &queues.partial {
        out.because(why.clone());
    }
    let ptr = u64::from(walker.clr.ptr_size());
    for (_, queue) in &queues.items {
        let slots = queue.all_ready();
        let objects = finalizer::objects(walker.clr, slots);
        for (i, object) in objects.items.into_iter().enumerate() {
            let slot = slots.0 + i as u64 * ptr;
            out.items.push(Root { kind: RootKind::Finalizer, slot, object, interior: false });
        }
    }
}

/// Since 9.0 thread statics hang off the thread's own data, which no handle keeps: each field is a root by name, and the
/// array of all of them once more, for those of types nobody found.
fn thread_statics(walker: &Walker<'_>, index: &ObjectIndex, closed: &[MethodTable], out: &mut Gathered<Root>) {
    let clr = walker.clr;
    if let Some(ahead) = clr.ahead() {
        let name: Arc<str> = "thread statics".into();
        for t in &clr.threads().items {
            let held = ahead.thread_statics(t.address).into_iter().filter(|b| index.ids.id_of(b.1).is_some());
            let kind = RootKind::ThreadStatic { os_id: t.os_id, name: name.clone() };
            out.items.extend(held.map(|(slot, object)| Root { kind: kind.clone(), slot, object, interior: false }));
        }
        let threads: FxHashMap<u64, u64> = clr.threads().items.iter().map(|t| (t.address, t.os_id)).collect();
        for s in ahead.thread_static_slots(clr.native()) {
            let os_id = threads.get(&s.thread).copied().unwrap_or(0);
            let object = clr.space().ptr(s.slot).unwrap_or(0);
            if object != 0 && index.ids.id_of(object).is_some() {
                let kind = RootKind::ThreadStatic { os_id, name: s.name.clone() };
                out.items.push(Root { kind, slot: s.slot, object, interior: false });
            }
        }
        return;
    }
    if clr.layout().text("StaticsKind") != Some("DynamicStaticsInfo") {
        return;
    }
    for table in clr.defined_types().chain(closed.iter().copied()) {
        // Those of a collectible type are held by its loader allocator: a thread alone does not keep it loaded.
        if clr.mts().is_collectible(&table) || !statics::has_thread_statics(clr, &table) {
            continue;
        }
        let fields = clr.fields(table.address);
        for f in fields.statics.iter().filter(|f| f.desc.is_thread_static && statics::in_reference_storage(f.element)) {
            let name: Arc<str> = format!("{}.{}", clr.type_name(table.address), f.name).into();
            for t in &clr.threads().items {
                let slot = statics::thread_place(clr, t.address, &table, &f.desc, true);
                let Some(slot) = slot else { continue };
                let object = clr.space().ptr(slot).unwrap_or(0);
                if object != 0 && index.ids.id_of(object).is_some() {
                    let kind = RootKind::ThreadStatic { os_id: t.os_id, name: name.clone() };
                    out.items.push(Root { kind, slot, object, interior: false });
                }
            }
        }
    }
    let name: Arc<str> = "thread statics".into();
    for t in &clr.threads().items {
        let Some(slot) = statics::thread_array(clr, t.address) else { continue };
        let object = clr.space().ptr(slot).unwrap_or(0);
        if object != 0 && index.ids.id_of(object).is_some() {
            let kind = RootKind::ThreadStatic { os_id: t.os_id, name: name.clone() };
            out.items.push(Root { kind, slot, object, interior: false });
        }
    }
}

/// What the frames of a thread hold, and what may be held where that is not known.
fn walked(walker: &Walker<'_>, index: &ObjectIndex, (thread, native): (&ClrThread, usize), out: &mut Gathered<Root>) {
    let (clr, os_id, ptr) = (walker.clr, thread.os_id, walker.clr.header());
    let live = clr.live_slots(thread);
    for s in live.slots {
        // GC information also names pointers into the stack and into native memory. Where the dump has no heap, or not this
        // part of it, an object is what GC information calls one, unless what is there is none.
        let absent = |v: u64| !s.interior && v >= LOWEST && v.is_multiple_of(ptr) && clr.may_be_object(v);
        let found = target(walker, index, s.value).or_else(|| absent(s.value).then_some((s.value, false)));
        let Some((object, interior)) = found else { continue };
        let kind = RootKind::Frame {
            os_id,
            thread: thread.address,
            frame: u32::try_from(s.frame).unwrap_or(u32::MAX),
            register: s.register,
            offset: s.offset,
            pinned: s.pinned,
        };
        out.items.push(Root { kind, slot: s.address, object, interior });
    }
    for (name, value) in live.registers {
        register(walker, index, (native, os_id), (name, value), out);
    }
    let mut unknown = live.unknown;
    unknown.sort_unstable();
    let mut reached = 0;
    for (low, high) in unknown {
        scan(walker, index, (native, os_id), low.max(reached)..high, out);
        reached = reached.max(high);
    }
}

fn register(
    walker: &Walker<'_>,
    index: &ObjectIndex,
    (thread, os_id): (usize, u64),
    (name, value): (&'static str, u64),
    out: &mut Gathered<Root>,
) {
    if let Some((object, interior)) = target(walker, index, value) {
        out.items.push(Root { kind: RootKind::Register { thread, os_id, name }, slot: 0, object, interior });
    }
}

/// Scans the whole stack of a native thread, and its registers.
fn scanned(walker: &Walker<'_>, index: &ObjectIndex, thread: usize, out: &mut Gathered<Root>) {
    let Some(native) = walker.clr.dump.threads.get(thread) else { return };
    let Some(registers) = native.registers.as_ref() else { return };
    let os_id = native.os_id;
    for &(name, value) in &registers.general {
        register(walker, index, (thread, os_id), (name, value), out);
    }
    match native.stack {
        Some((low, high)) => scan(walker, index, (thread, os_id), registers.sp.max(low)..high, out),
        None => out.because(format!("the stack of thread {os_id:x} has no known bounds")),
    }
}

/// Looks at every word of a stretch of a stack.
fn scan(
    walker: &Walker<'_>,
    index: &ObjectIndex,
    (thread, os_id): (usize, u64),
    stretch: std::ops::Range<u64>,
    out: &mut Gathered<Root>,
) {
    let clr = walker.clr;
    let ptr = u64::from(clr.ptr_size());
    let Some(mut at) = stretch.start.checked_next_multiple_of(ptr) else { return };
    let end = stretch.end.min(at.saturating_add(MAX_STACK));
    if end < stretch.end {
        out.because(format!("only the first {} MB of the stack of thread {os_id:x} are scanned", MAX_STACK >> 20));
    }
    while at < end {
        let Some(run) = clr.space().run(at) else {
            match clr.space().next_readable(at).filter(|&n| n < end) {
                Some(n) => at = n.next_multiple_of(ptr),
                None => break,
            }
            continue;
        };
        let usable = run.len().min((end - at) as usize);
        let words = run[..usable].chunks_exact(ptr as usize);
        let count = words.len() as u64;
        for (i, w) in words.enumerate() {
            let value = little_endian(w);
            if let Some((object, interior)) = target(walker, index, value) {
                let slot = at + i as u64 * ptr;
                out.items.push(Root { kind: RootKind::Stack { thread, os_id }, slot, object, interior });
            }
        }
        at += count.max(1) * ptr;
    }
}

fn target(walker: &Walker<'_>, index: &ObjectIndex, value: u64) -> Option<(u64, bool)> {
    if value < LOWEST {
        return None;
    }
    let object = index.object_containing(walker, walker.heap, value)?;
    Some((object, object != value))
}
