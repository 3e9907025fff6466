//! `!gcheapstat`: bytes by heap and generation, with the share that is free.

use anyhow::Result;

use crate::heap::stat::Tally;
use crate::heap::{Generation, Heap, SegmentKind};
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Needs, Out, Outcome, Prefix};

/// `!gcheapstat`.
pub const GCHEAPSTAT: Command = Command {
    name: "gcheapstat",
    prefix: Prefix::Bang,
    aliases: &["heapstat"],
    group: Group::Heap,
    summary: "bytes of each heap by generation: allocated, free, unrooted, committed",
    help: "One table of allocated bytes, one of free blocks with their share, one of committed memory; with -unreachable \
           one of the bytes nothing reaches.",
    args: &[Arg::flag("unreachable", "count what no root reaches").or(&["inclunrooted", "iu"])],
    examples: &[Example { line: "!gcheapstat", what: "how full each generation is" }],
    needs: Needs::Clr,
    run,
};

const ORDER: [Generation; 6] =
    [Generation::Gen0, Generation::Gen1, Generation::Gen2, Generation::Large, Generation::Pinned, Generation::Frozen];

const COLUMNS: &[Col] = &[
    Col::left("Heap", "heap", 8),
    Col::left("Gen0", "gen0", 10),
    Col::left("Gen1", "gen1", 10),
    Col::left("Gen2", "gen2", 10),
    Col::left("LOH", "loh", 10),
    Col::left("POH", "poh", 10),
    Col::left("FRZ", "frozen", 8),
    Col::left("", "note", 0),
];

type Rows = Vec<(u32, [u64; 6])>;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let heap = session.heap()?;
    let stat = session.stat()?;
    let pick = |value: &dyn Fn(&Tally, &Tally) -> u64| -> Rows {
        let get =
            |h: u32, g| stat.generations.iter().find(|x| x.0 == (h, g)).map_or(0, |(_, all, free)| value(all, free));
        heap.heaps.iter().map(|h| (h.index, ORDER.map(|g| get(h.index, g)))).collect()
    };
    let allocated = segment_bytes(heap);
    let free = pick(&|_, free| free.bytes);
    print(ctx.out, "allocated", &allocated, None)?;
    ctx.out.line("")?;
    ctx.out.line("Free space:")?;
    print(ctx.out, "free", &free, Some(&allocated))?;
    ctx.out.line("")?;
    if args.has("unreachable") {
        ctx.out.line("Unrooted objects:")?;
        let dead = unrooted(session, heap)?;
        print(ctx.out, "unrooted", &dead, Some(&allocated))?;
        ctx.out.line("")?;
    }
    ctx.out.line("Committed space:")?;
    print(ctx.out, "committed", &committed(heap), None)?;
    Ok(stat.report.sentence().or(heap.problems.first().cloned()).map_or(Outcome::Complete, Outcome::Partial))
}

fn segment_bytes(heap: &Heap) -> Rows {
    let sum = |h: u32, g| heap.segments.iter().filter(|s| s.heap == h).map(|s| s.part(g)).map(|p| p.1 - p.0).sum();
    heap.heaps.iter().map(|h| (h.index, ORDER.map(|g| sum(h.index, g)))).collect()
}

fn committed(heap: &Heap) -> Rows {
    let bytes = |h: u32, g: Generation| {
        heap.segments
            .iter()
            .filter(|s| s.heap == h && (s.generation(s.start) == g || s.kind == SegmentKind::Ephemeral))
            .map(|s| {
                let part = s.part(g);
                match s.kind {
                    // The committed rest of the ephemeral segment lies behind generation 0.
                    SegmentKind::Ephemeral if g == Generation::Gen0 => s.committed.saturating_sub(part.0),
                    SegmentKind::Ephemeral => part.1 - part.0,
                    _ => s.committed.saturating_sub(s.start & !0xFFF),
                }
            })
            .sum()
    };
    heap.heaps.iter().map(|h| (h.index, ORDER.map(|g| bytes(h.index, g)))).collect()
}

fn unrooted(session: &Session, heap: &Heap) -> Result<Rows> {
    let walker = session.walker()?;
    let (ids, live) = (&session.index()?.ids, session.live()?);
    let (parts, _) = walker.parallel(
        &heap.segments,
        |_| [0u64; 6],
        |acc, segment, o| {
            let alive = ids.id_of(o.address).and_then(|i| live.get(i as usize)).copied().unwrap_or(false);
            if !alive && !o.ty.is_free {
                acc[segment.generation(o.address) as usize] += o.size;
            }
        },
    )?;
    let mut rows: Rows = heap.heaps.iter().map(|h| (h.index, [0; 6])).collect();
    for (segment, part) in heap.segments.iter().zip(parts) {
        if let Some(row) = rows.iter_mut().find(|r| r.0 == segment.heap) {
            row.1.iter_mut().zip(part).for_each(|(a, b)| *a += b);
        }
    }
    Ok(rows)
}

fn print(out: &mut Out, name: &'static str, rows: &Rows, of: Option<&Rows>) -> Result<()> {
    out.table(name, COLUMNS, true)?;
    let mut total = [0; 6];
    for (i, (heap, values)) in rows.iter().enumerate() {
        total.iter_mut().zip(values).for_each(|(a, b)| *a += b);
        let base = of.and_then(|o| o.get(i)).map(|o| o.1);
        row(out, &format!("Heap{heap}"), values, base)?;
    }
    if !rows.is_empty() {
        row(out, "Total", &total, None)?;
    }
    Ok(())
}

fn row(out: &mut Out, name: &str, v: &[u64; 6], of: Option<[u64; 6]>) -> Result<()> {
    let share = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
    let note = of.map(|o| {
        let small = share(v[..3].iter().sum(), o[..3].iter().sum());
        format!(
            "{:<8} {:<8} POH:{}%",
            format!("SOH:{small}%"),
            format!("LOH:{}%", share(v[3], o[3])),
            share(v[4], o[4])
        )
    });
    let mut cells = vec![Cell::text(name.to_owned())];
    cells.extend(v.iter().map(|&n| Cell::Num(n)));
    cells.push(note.map_or(Cell::None, Cell::text));
    out.row(&cells)?;
    Ok(())
}
