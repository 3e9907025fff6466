//! The heap's invariants on a sample: cheap enough for every load, so that a torn dump, a wrong layout or a corrupted heap
//! is noticed before an answer is believed. `!verifyheap` checks everything.

use super::model::{Segment, SegmentKind};
use super::segments::TORN;
use super::walk::{NOT_IN_DUMP, Object, Walker, pointer_in};
use crate::clr::gathered::Gathered;
use crate::clr::layout::verdict::Verdict;
use crate::clr::runtime::finalizer::{self, FinalizerQueue};
use crate::clr::runtime::threads;
use crate::watch::Interrupted;

/// Objects looked at per segment; a segment with fewer is walked to its end.
const PER_SEGMENT: u64 = 512;
/// Segments looked at.
const SEGMENTS: usize = 128;
/// References, handles and queue entries looked at.
const SAMPLE: usize = 4096;

/// How often one invariant held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// How often it did.
    pub held: u64,
    /// How often it did not.
    pub broken: u64,
    /// The first case in which it did not.
    pub first: String,
    /// Whether it is about the shape of the heap and its threads, which is looked at whole, not about objects.
    pub about_shape: bool,
}

impl Check {
    fn new(name: &'static str) -> Self {
        Self { name, held: 0, broken: 0, first: String::new(), about_shape: false }
    }

    fn of_shape(name: &'static str) -> Self {
        Self { about_shape: true, ..Self::new(name) }
    }

    fn note(&mut self, held: bool, first: impl FnOnce() -> String) {
        if held {
            self.held += 1;
            return;
        }
        if self.broken == 0 {
            self.first = first();
        }
        self.broken += 1;
    }
}

/// The invariants of one heap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeapCheck {
    /// Each with its counts.
    pub checks: Vec<Check>,
    /// The objects are not in the dump (mini, triage): what needs them was not checked.
    pub without_objects: bool,
}

impl HeapCheck {
    /// Invariants that held wherever they were looked at, those that did not, those with nothing to look at.
    pub fn verdicts(&self) -> (usize, usize, usize) {
        let broken = self.checks.iter().filter(|c| c.broken > 0).count();
        let idle = self.checks.iter().filter(|c| c.broken == 0 && c.held == 0).count();
        (self.checks.len() - broken - idle, broken, idle)
    }

    /// One sentence when an invariant is broken.
    pub fn sentence(&self) -> Option<String> {
        let c = self.checks.iter().find(|c| c.broken > 0)?;
        let (_, broken, _) = self.verdicts();
        let rest = if broken > 1 { format!("; {} more invariants are broken", broken - 1) } else { String::new() };
        Some(format!("{}: {} of {} do not hold ({}){rest}", c.name, c.broken, c.broken + c.held, c.first))
    }

    /// Looks at a sample of everything.
    pub fn sample(walker: &Walker<'_>, queues: &Gathered<(u32, FinalizerQueue)>) -> Result<Self, Interrupted> {
        let mut checks = vec![shape(walker), contexts(walker)];
        // A mini dump has pieces of the heap here and there, and MethodTables for some: nothing can be told from those.
        let space = walker.clr.space();
        let hollow = |s: &Segment| !s.is_empty() && !space.readable(s.start);
        if walker.heap.segments.is_empty() || walker.heap.segments.iter().any(hollow) {
            checks.push(thread_list(walker));
            return Ok(Self { checks, without_objects: true });
        }
        checks.extend(objects(walker)?);
        checks.push(handles(walker));
        checks.push(queue_entries(walker, queues));
        checks.push(sync_blocks(walker));
        checks.push(thread_list(walker));
        Ok(Self { checks, without_objects: false })
    }
}

fn shape(walker: &Walker<'_>) -> Check {
    let mut check = Check::of_shape("segments lie in order: mem <= allocated <= committed <= reserved");
    for s in &walker.heap.segments {
        // Frozen segments are read as they were made: committed may be short by the header of the page.
        let ok =
            s.start <= s.end && (s.kind == SegmentKind::Frozen || s.end <= s.committed) && s.committed <= s.reserved;
        check.note(ok, || format!("segment {:x}", s.record));
    }
    check
}

/// Whether `target` is an object; `None` when that cannot be told: its memory or its segment is not in the dump.
fn is_object(walker: &Walker<'_>, target: u64) -> Option<bool> {
    let known = walker.heap.segment_at(target).is_some();
    let absent = !walker.clr.space().readable(target) && (known || !walker.heap.problems.is_empty());
    (!absent).then(|| walker.object_at(target).is_some())
}

fn contexts(walker: &Walker<'_>) -> Check {
    let mut check = Check::of_shape("allocation contexts lie in segments");
    // Segments that are not in the dump say nothing of the contexts.
    if !walker.heap.problems.iter().all(|p| p.starts_with(TORN)) {
        return check;
    }
    for &(pointer, limit) in &walker.heap.contexts {
        let inside = walker.heap.segment_reserving(pointer).is_some_and(|s| limit <= s.reserved);
        check.note(inside, || format!("{pointer:x}-{limit:x}"));
    }
    check
}

/// Segments that walk, and references that hit objects.
fn objects(walker: &Walker<'_>) -> Result<[Check; 2], Interrupted> {
    let mut walks = Check::new("objects follow one another");
    let mut references = Check::new("references hit objects");
    let (space, ptr) = (walker.clr.space(), u64::from(walker.clr.ptr_size()));
    let step = walker.heap.segments.len().div_ceil(SEGMENTS).max(1);
    for s in walker.heap.segments.iter().step_by(step) {
        let mut seen = 0;
        let mut look = |o: Object<'_>| {
            o.ty.refs.slots(o.size.min(4096), ptr, |offset| {
                if references.held + references.broken >= SAMPLE as u64 {
                    return;
                }
                let Some(target) = pointer_in(space, &o, offset).filter(|&t| t != 0) else { return };
                let Some(hit) = is_object(walker, target) else { return };
                references.note(hit, || format!("{:x} at +{offset:x} to {target:x}", o.address));
            });
            seen += 1;
            seen < PER_SEGMENT
        };
        let report = walker.segment(s, (s.start, s.end), &mut look)?;
        walks.held += report.objects;
        for (at, what) in report.problems.iter().filter(|p| p.1 != NOT_IN_DUMP) {
            walks.note(false, || format!("{at:x}: {what}"));
        }
    }
    Ok([walks, references])
}

fn handles(walker: &Walker<'_>) -> Check {
    let mut check = Check::new("handles hold objects");
    for h in walker.clr.handles().items.iter().filter(|h| h.object != 0).take(SAMPLE) {
        let Some(held) = is_object(walker, h.object) else { continue };
        check.note(held, || format!("{:x} holds {:x}", h.address, h.object));
    }
    check
}

fn queue_entries(walker: &Walker<'_>, queues: &Gathered<(u32, FinalizerQueue)>) -> Check {
    let mut check = Check::new("finalizer queues hold objects");
    let ptr = u64::from(walker.clr.ptr_size());
    for (_, queue) in &queues.items {
        let (start, end) = queue.all();
        let end = end.min(start.saturating_add(SAMPLE as u64 * ptr));
        for object in finalizer::objects(walker.clr, (start, end)).items {
            let Some(held) = is_object(walker, object) else { continue };
            check.note(held, || format!("{object:x}"));
        }
    }
    check
}

fn sync_blocks(walker: &Walker<'_>) -> Check {
    let mut check = Check::new("sync blocks belong to objects");
    for b in walker.clr.sync_blocks().items.iter().filter(|b| b.object != 0).take(SAMPLE) {
        let Some(held) = is_object(walker, b.object) else { continue };
        check.note(held, || format!("{} belongs to {:x}", b.index, b.object));
    }
    check
}

fn thread_list(walker: &Walker<'_>) -> Check {
    let mut check = Check::of_shape("the thread list is as long as the thread store says");
    // A count that does not fit was found out when the layout was checked, and is not in use.
    let refused = walker.clr.found.checks.iter().find(|c| c.name == "thread count" && c.verdict == Verdict::Failed);
    if let Some(c) = refused {
        check.note(false, || c.found.clone());
    } else if walker.clr.ahead().is_none()
        && let Ok(Some(counts)) = threads::counts(walker.clr)
    {
        let listed = walker.clr.threads().items.len();
        check.note(listed as u64 == u64::from(counts.threads), || format!("{listed} of {}", counts.threads));
    }
    check
}
