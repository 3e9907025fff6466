//! `!verifyheap`: every object, every reference, every handle checked.

use anyhow::Result;

use super::filter::Filter;
use crate::clr::{runtime::finalizer, runtime::syncblocks};
use crate::heap::Segment;
use crate::heap::segments::TORN;
use crate::heap::walk::pointer_in;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

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
        Filter::HEAP,
        Filter::SEGMENT,
        Arg::flag("ignoregcstate", "accepted; the walk always goes as far as it can"),
        Arg::flag("noprogress", "accepted"),
    ],
    examples: &[Example { line: "!verifyheap", what: "is the heap sound" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("objects", "objects verified", Type::Count),
        Fact::new("errors", "errors found", Type::Count),
        Fact::new("unlisted_errors", "errors that were counted and not listed", Type::Count),
        Fact::new("moved_references", "references to where a collection moves objects", Type::Count),
        Fact::new("sync_blocks", "sync blocks verified", Type::Count),
        Fact::new("sound", "nothing is wrong with the heap", Type::Bool),
    ])
    .and(&[&ERRORS, &OUTSIDE]),
    run,
};

/// Errors listed per segment; how many more there are is said.
const MAX_LISTED: usize = 200;

/// What is wrong with objects.
const ERRORS: Table = Table::new(
    "errors",
    &[
        Col::left("Heap", "heap", 6).of(Type::Count),
        Col::left("Segment", "segment", 16).of(Type::Address),
        Col::left("Object", "object", 16).of(Type::Address),
        Col::left("Failure", "failure", 24),
        Col::left("Reason", "reason", 0),
        Col::data("offset", Type::Bytes).titled("where in the object the reference stands"),
        Col::data("reference", Type::Address).titled("what it refers to"),
        Col::data("sync_block", Type::Count).titled("the sync block the object's header names"),
        Col::data("owner", Type::Address).titled("the object that sync block belongs to"),
    ],
);

/// What is wrong with what refers into the heap, and with its shape.
const OUTSIDE: Table = Table::new(
    "outside",
    &[
        Col::data("what", Type::Text).titled("handle, finalizer queue, sync block, shape or dump"),
        Col::data("number", Type::Count).titled("number of the heap or of the sync block"),
        Col::data("handle", Type::Address).titled("the handle"),
        Col::data("kind", Type::Text).titled("kind of the handle, or what the check of the shape is about"),
        Col::data("object", Type::Address).titled("what is no object"),
        Col::data("broken", Type::Count).titled("places where the check does not hold"),
        Col::data("checked", Type::Count).titled("places that were checked"),
        Col::data("reason", Type::Text).titled("where it does not hold first, or what is wrong"),
    ],
);

/// What one object broke.
#[derive(Clone, Copy)]
enum Failure {
    /// A reference at this offset leads to no object.
    Reference { offset: u64, target: u64 },
    /// Its header names a sync block that belongs to another object, or to none.
    SyncBlock { index: u32, owner: Option<u64> },
}

impl Failure {
    fn name(self) -> &'static str {
        match self {
            Self::Reference { .. } => "InvalidObjectReference",
            Self::SyncBlock { .. } => "SyncBlockMismatch",
        }
    }

    fn reason(self) -> String {
        match self {
            Self::Reference { offset, target } => format!("reference at +{offset:x} to {target:x} hits no object"),
            Self::SyncBlock { index, owner: Some(other) } => format!("sync block {index} belongs to {other:x}"),
            Self::SyncBlock { index, owner: None } => format!("there is no sync block {index}"),
        }
    }

    /// The cells of the row that text puts into words.
    fn cells(self) -> [Cell<'static>; 4] {
        match self {
            Self::Reference { offset, target } => [Cell::Num(offset), Cell::Addr(target), Cell::None, Cell::None],
            Self::SyncBlock { index, owner } => {
                [Cell::None, Cell::None, Cell::Num(u64::from(index)), owner.map_or(Cell::None, Cell::Addr)]
            }
        }
    }
}

/// What one segment's objects broke.
#[derive(Default)]
struct Found {
    listed: Vec<(u64, Failure)>,
    errors: u64,
    moved: u64,
}

impl Found {
    fn error(&mut self, object: u64, failure: Failure) {
        self.errors += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push((object, failure));
        }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let walker = session.walker()?;
    let segments = Filter::new(args)?.segments(session)?;
    let ids = &session.index()?.ids;
    let blocks: rustc_hash::FxHashMap<u32, u64> = clr.sync_blocks().items.iter().map(|b| (b.index, b.object)).collect();
    let heap = walker.heap;
    // Inside a collection references may already be those of the places objects will have.
    let moving = |target| heap.in_gc && heap.segment_reserving(target).is_some_and(|s| target < s.reserved);
    let (parts, report) = walker.parallel(
        &segments,
        |_| Found::default(),
        |found: &mut Found, _, o| {
            o.slots(clr.space(), |offset| {
                let target = pointer_in(clr.space(), &o, offset).unwrap_or(0);
                if target == 0 || ids.id_of(target).is_some() {
                    return;
                }
                if moving(target) {
                    found.moved += 1;
                    return;
                }
                found.error(o.address, Failure::Reference { offset, target });
            });
            // A free block may carry the header of what it was.
            let index = (!o.ty.is_free).then(|| clr.object_header(o.address).and_then(syncblocks::index_of)).flatten();
            if let Some(index) = index
                && blocks.get(&index) != Some(&o.address)
            {
                found.error(o.address, Failure::SyncBlock { index, owner: blocks.get(&index).copied() });
            }
        },
    )?;
    let mut errors: u64 = parts.iter().map(|p| p.errors).sum::<u64>() + report.problems.len() as u64 + report.more;
    if errors > 0 {
        ctx.out.open(&ERRORS)?;
    }
    for (s, found) in segments.iter().zip(parts.iter()) {
        for (object, failure) in &found.listed {
            row(ctx.out, s, *object, (failure.name(), failure.reason()), failure.cells())?;
        }
    }
    const NOTHING: [Cell<'_>; 4] = [Cell::None, Cell::None, Cell::None, Cell::None];
    for (address, why) in &report.problems {
        if let Some(s) = heap.segment_at(*address) {
            row(ctx.out, s, *address, ("NotWalkable", why.clone()), NOTHING)?;
        }
    }
    let unlisted = errors.saturating_sub(ctx.out.count(&ERRORS));
    errors += outside(session, ctx.out)?;
    ctx.out.facts(
        &[
            ("objects", Cell::Num(report.objects)),
            ("errors", Cell::Num(errors)),
            ("unlisted_errors", Cell::Num(unlisted)),
        ],
        match unlisted {
            0 => format!("{} objects verified, {errors} errors.", thousands(report.objects)),
            n => format!("{} objects verified, {errors} errors, {n} of them not listed.", thousands(report.objects)),
        },
    )?;
    let moved: u64 = parts.iter().map(|p| p.moved).sum();
    if moved > 0 {
        let line = format!("{} references lead to where the collection moves objects.", thousands(moved));
        ctx.out.fact("moved_references", Cell::Num(moved), line)?;
    }
    let blocks = clr.sync_blocks().items.len();
    ctx.out.fact("sync_blocks", Cell::Num(blocks as u64), format!("{blocks} SyncBlocks verified."))?;
    let sound = errors == 0 && heap.problems.is_empty();
    ctx.out.datum("sound", &Cell::Bool(sound));
    if sound {
        ctx.out.note("No heap corruption detected.")?;
    }
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}

fn row(
    out: &mut Out,
    s: &Segment,
    object: u64,
    (failure, reason): (&str, String),
    [offset, reference, index, owner]: [Cell<'_>; 4],
) -> Result<()> {
    out.row_in(
        &ERRORS,
        &[
            Cell::Num(u64::from(s.heap)),
            Cell::Addr(s.record),
            Cell::Addr(object),
            Cell::text(failure),
            Cell::text(reason),
            offset,
            reference,
            index,
            owner,
        ],
    )?;
    Ok(())
}

/// A row of [`OUTSIDE`].
#[derive(Default)]
struct Outside<'a> {
    what: &'static str,
    number: Option<u32>,
    handle: u64,
    kind: Option<&'a str>,
    object: u64,
    /// Places where a check does not hold, and all that were checked.
    counts: Option<(u64, u64)>,
    reason: Option<&'a str>,
}

impl Outside<'_> {
    fn cells(&self) -> [Cell<'_>; 8] {
        [
            Cell::text(self.what),
            self.number.map_or(Cell::None, |n| Cell::Num(u64::from(n))),
            Cell::at(self.handle),
            Cell::maybe(self.kind),
            Cell::at(self.object),
            self.counts.map_or(Cell::None, |c| Cell::Num(c.0)),
            self.counts.map_or(Cell::None, |c| Cell::Num(c.1)),
            Cell::maybe(self.reason),
        ]
    }
}

/// Errors of what refers into the heap from outside, and of the heap's shape.
fn outside(session: &Session, out: &mut Out) -> Result<u64> {
    let (clr, heap, ids) = (session.clr()?, session.heap()?, &session.index()?.ids);
    let mut errors = 0;
    let mut say = |row: Outside<'_>, line: String| -> Result<()> {
        errors += 1;
        Ok(out.row_as(&OUTSIDE, &row.cells(), line)?)
    };
    let astray = |object: u64| object != 0 && heap.segment_at(object).is_some() && ids.id_of(object).is_none();
    for h in clr.handles().items.iter().filter(|h| astray(h.object)) {
        let line = format!("handle {:x} ({}) holds {:x}, which is no object", h.address, h.kind.name(), h.object);
        let kind = Some(h.kind.name());
        say(Outside { what: "handle", handle: h.address, kind, object: h.object, ..Outside::default() }, line)?;
    }
    for (number, queue) in &session.finalizer_queues()?.items {
        for object in finalizer::objects(clr, queue.all()).items.into_iter().filter(|&o| astray(o)) {
            let row = Outside { what: "finalizer queue", number: Some(*number), object, ..Outside::default() };
            say(row, format!("the finalizer queue of heap {number} holds {object:x}, which is no object"))?;
        }
    }
    for b in clr.sync_blocks().items.iter().filter(|b| astray(b.object)) {
        let row = Outside { what: "sync block", number: Some(b.index), object: b.object, ..Outside::default() };
        say(row, format!("sync block {} belongs to {:x}, which is no object", b.index, b.object))?;
    }
    for c in &session.heap_check()?.checks {
        // What is checked in full above is not repeated from the sample.
        if c.broken > 0 && c.about_shape {
            let of = c.broken + c.held;
            let (kind, reason, counts) = (Some(c.name), Some(&*c.first), Some((c.broken, of)));
            let row = Outside { what: "shape", kind, counts, reason, ..Outside::default() };
            say(row, format!("{}: {} of {of} do not hold ({})", c.name, c.broken, c.first))?;
        }
    }
    for problem in heap.problems.iter().filter(|p| p.starts_with(TORN)) {
        say(Outside { what: "dump", reason: Some(problem), ..Outside::default() }, problem.clone())?;
    }
    Ok(errors)
}
