//! `!verifyheap`: every object, every reference, every handle checked.

use anyhow::Result;

use super::filter::Filter;
use crate::clr::{runtime::finalizer, runtime::syncblocks};
use crate::heap::Segment;
use crate::heap::segments::TORN;
use crate::heap::walk::pointer_in;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns};

/// `!verifyheap`.
pub const VERIFYHEAP: Command = Command {
    name: "verifyheap",
    prefix: Prefix::Bang,
    aliases: &["vh"],
    group: Group::Heap,
    summary: "check the heap: walkable, every reference hits an object",
    help: "Walks the heap and checks that every segment is walkable to its end, that every reference hits the start of an \
           object, that sync block indices and the sync table agree, and that handles, finalizer queues and sync blocks \
           hold objects. Signs that the dump was torn while it was written count as errors. In a dump taken inside a \
           collection references to where objects are being moved are counted apart.",
    args: &[
        Arg::opt("heap", Kind::Count, "only this heap of server GC"),
        Arg::opt("segment", Kind::Address, "only the segment at or around this address"),
        Arg::flag("ignoregcstate", "accepted; the walk always goes as far as it can"),
        Arg::flag("noprogress", "accepted"),
    ],
    examples: &[Example { line: "!verifyheap", what: "is the heap sound" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

/// Errors listed per segment; further ones are counted.
const MAX_LISTED: usize = 200;
const COLUMNS: &[Col] = &[
    Col::left("Heap", "heap", 6),
    Col::left("Segment", "segment", 16),
    Col::left("Object", "object", 16),
    Col::left("Failure", "failure", 24),
    Col::left("Reason", "reason", 0),
];

/// What one segment's objects broke.
#[derive(Default)]
struct Found {
    listed: Vec<(u64, &'static str, String)>,
    errors: u64,
    moved: u64,
}

impl Found {
    fn error(&mut self, object: u64, failure: &'static str, reason: impl FnOnce() -> String) {
        self.errors += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push((object, failure, reason()));
        }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let walker = session.walker()?;
    let segments = Filter::new(args)?.segments(session)?;
    let ids = &session.index()?.ids;
    let ptr = u64::from(clr.ptr_size());
    let blocks: rustc_hash::FxHashMap<u32, u64> = clr.sync_blocks().items.iter().map(|b| (b.index, b.object)).collect();
    let heap = walker.heap;
    // Inside a collection references may already be those of the places objects will have.
    let moving = |target| heap.in_gc && heap.segments.iter().any(|s| (s.start..s.reserved).contains(&target));
    let (parts, report) = walker.parallel(
        &segments,
        |_| Found::default(),
        |found: &mut Found, _, o| {
            o.ty.refs.slots(o.size, ptr, |offset| {
                let target = pointer_in(clr.space(), &o, offset).unwrap_or(0);
                if target == 0 || ids.id_of(target).is_some() {
                    return;
                }
                if moving(target) {
                    found.moved += 1;
                    return;
                }
                found.error(o.address, "InvalidObjectReference", || {
                    format!("reference at +{offset:x} to {target:x} hits no object")
                });
            });
            // A free block may carry the header of what it was.
            let index = (!o.ty.is_free).then(|| clr.object_header(o.address).and_then(syncblocks::index_of)).flatten();
            if let Some(index) = index
                && blocks.get(&index) != Some(&o.address)
            {
                found.error(o.address, "SyncBlockMismatch", || match blocks.get(&index) {
                    Some(other) => format!("sync block {index} belongs to {other:x}"),
                    None => format!("there is no sync block {index}"),
                });
            }
        },
    )?;
    let mut errors: u64 = parts.iter().map(|p| p.errors).sum::<u64>() + report.problems.len() as u64 + report.more;
    if errors > 0 {
        ctx.out.table("errors", COLUMNS, true)?;
    }
    for (s, found) in segments.iter().zip(parts.iter()) {
        for (object, failure, reason) in &found.listed {
            row(ctx.out, s, *object, failure, reason.clone())?;
        }
    }
    for (address, why) in &report.problems {
        if let Some(s) = heap.segment_at(*address) {
            row(ctx.out, s, *address, "NotWalkable", why.clone())?;
        }
    }
    errors += outside(session, ctx.out)?;
    ctx.out.line(format!("{} objects verified, {errors} errors.", thousands(report.objects)))?;
    let moved: u64 = parts.iter().map(|p| p.moved).sum();
    if moved > 0 {
        ctx.out.line(format!("{} references lead to where the collection moves objects.", thousands(moved)))?;
    }
    ctx.out.line(format!("{} SyncBlocks verified.", clr.sync_blocks().items.len()))?;
    if errors == 0 && heap.problems.is_empty() {
        ctx.out.line("No heap corruption detected.")?;
    }
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}

fn row(out: &mut Out, s: &Segment, object: u64, failure: &'static str, reason: String) -> Result<()> {
    out.row(&[
        Cell::Num(u64::from(s.heap)),
        Cell::Addr(s.record),
        Cell::Addr(object),
        Cell::text(failure),
        Cell::text(reason),
    ])?;
    Ok(())
}

/// Errors of what refers into the heap from outside, and of the heap's shape.
fn outside(session: &Session, out: &mut Out) -> Result<u64> {
    let (clr, heap, ids) = (session.clr()?, session.heap()?, &session.index()?.ids);
    let mut errors = 0;
    let mut say = |text: String| -> Result<()> {
        errors += 1;
        Ok(out.line(text)?)
    };
    let astray = |object: u64| object != 0 && heap.segment_at(object).is_some() && ids.id_of(object).is_none();
    for h in clr.handles().items.iter().filter(|h| astray(h.object)) {
        say(format!("handle {:x} ({}) holds {:x}, which is no object", h.address, h.kind.name(), h.object))?;
    }
    for (number, queue) in &session.finalizer_queues()?.items {
        for object in finalizer::objects(clr, queue.all()).items.into_iter().filter(|&o| astray(o)) {
            say(format!("the finalizer queue of heap {number} holds {object:x}, which is no object"))?;
        }
    }
    for b in clr.sync_blocks().items.iter().filter(|b| astray(b.object)) {
        say(format!("sync block {} belongs to {:x}, which is no object", b.index, b.object))?;
    }
    for c in &session.heap_check()?.checks {
        // What is checked in full above is not repeated from the sample.
        if c.broken > 0 && c.about_shape {
            say(format!("{}: {} of {} do not hold ({})", c.name, c.broken, c.broken + c.held, c.first))?;
        }
    }
    for problem in heap.problems.iter().filter(|p| p.starts_with(TORN)) {
        say(problem.clone())?;
    }
    Ok(errors)
}
