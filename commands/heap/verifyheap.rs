//! `!verifyheap`: every object, every reference, every handle checked.

use anyhow::Result;

use super::filter::Filter;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix};

/// `!verifyheap`.
pub const VERIFYHEAP: Command = Command {
    name: "verifyheap",
    prefix: Prefix::Bang,
    aliases: &["vh"],
    group: Group::Heap,
    summary: "check the heap: walkable, every reference hits an object",
    help: "Walks the heap and checks that every segment is walkable to its end, that every reference hits the start of an \
           object, and that handles, finalizer queues and sync blocks hold objects.",
    args: &[
        Arg::opt("heap", Kind::Count, "only this heap of server GC"),
        Arg::opt("segment", Kind::Address, "only the segment at or around this address"),
        Arg::flag("ignoregcstate", "accepted; the walk always goes as far as it can"),
        Arg::flag("noprogress", "accepted"),
    ],
    examples: &[Example { line: "!verifyheap", what: "is the heap sound" }],
    needs: Needs::Clr,
    run,
};

/// Errors listed per segment; further ones are counted.
const MAX_LISTED: usize = 200;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] = &[
        Col::left("Heap", "heap", 6),
        Col::left("Segment", "segment", 16),
        Col::left("Object", "object", 16),
        Col::left("Failure", "failure", 24),
        Col::left("Reason", "reason", 0),
    ];
    let session = ctx.session()?;
    let clr = session.clr()?;
    let walker = session.walker()?;
    let segments = Filter::new(args)?.segments(session)?;
    let ids = &session.index()?.ids;
    let ptr = u64::from(clr.ptr_size());
    let (parts, report) = walker.parallel(
        &segments,
        |_| (Vec::new(), 0u64),
        |(bad, count): &mut (Vec<(u64, u64, u64)>, u64), _, o| {
            o.ty.refs.slots(o.size, ptr, |offset| {
                let target = crate::heap::walk::pointer_in(clr.space(), &o, offset).unwrap_or(0);
                if target != 0 && ids.id_of(target).is_none() {
                    *count += 1;
                    if bad.len() < MAX_LISTED {
                        bad.push((o.address, offset, target));
                    }
                }
            });
        },
    )?;
    let mut errors: u64 = parts.iter().map(|p| p.1).sum::<u64>() + report.problems.len() as u64 + report.more;
    if errors > 0 {
        ctx.out.table("errors", COLUMNS, true)?;
    }
    for (s, (bad, _)) in segments.iter().zip(&parts) {
        for &(object, offset, target) in bad {
            let reason = format!("reference at +{offset:x} to {target:x} hits no object");
            ctx.out.row(&[
                Cell::Num(u64::from(s.heap)),
                Cell::Addr(s.record),
                Cell::Addr(object),
                Cell::text("InvalidObjectReference"),
                Cell::text(reason),
            ])?;
        }
    }
    for (address, why) in &report.problems {
        let s = walker.heap.segment_at(*address);
        ctx.out.row(&[
            Cell::Num(u64::from(s.map_or(0, |s| s.heap))),
            Cell::Addr(s.map_or(0, |s| s.record)),
            Cell::Addr(*address),
            Cell::text("NotWalkable"),
            Cell::text(why.clone()),
        ])?;
    }
    let strays = clr
        .handles()
        .items
        .iter()
        .filter(|h| walker.heap.segment_at(h.object).is_some() && ids.id_of(h.object).is_none());
    for h in strays {
        errors += 1;
        ctx.out.line(format!("handle {:x} ({}) holds {:x}, which is no object", h.address, h.kind.name(), h.object))?;
    }
    ctx.out.line(format!("{} objects verified, {errors} errors.", thousands(report.objects)))?;
    ctx.out.line(format!("{} SyncBlocks verified.", clr.sync_blocks().items.len()))?;
    if errors == 0 {
        ctx.out.line("No heap corruption detected.")?;
    }
    Ok(walker.heap.problems.first().cloned().map_or(Outcome::Complete, Outcome::Partial))
}
