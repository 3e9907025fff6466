//! `!gcheapstat`: bytes by heap and generation, with the share that is free.

use anyhow::Result;

use crate::heap::{Generation, Heap, Segment, SegmentKind};
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Needs, Out, Outcome, Prefix, Returns};

/// `!gcheapstat`.
pub const GCHEAPSTAT: Command = Command {
    name: "gcheapstat",
    prefix: Prefix::Bang,
    aliases: &["heapstat"],
    group: Group::Heap,
    summary: "bytes of each heap by generation: allocated, free, unrooted, committed",
    help: "One table of allocated bytes, one of free blocks with their share, one of committed memory; with -unreachable \
           one of the bytes nothing reaches. EPH is the segment the young generations share (segments, not regions): there \
           Gen0 to Gen2 are the bytes of their objects, without free blocks.",
    args: &[Arg::flag("unreachable", "count what no root reaches").or(&["inclunrooted", "iu"])],
    examples: &[Example { line: "!gcheapstat", what: "how full each generation is" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

/// The columns in order: the ephemeral segment, the generations, the other heaps.
const TITLES: [(&str, &str); 7] = [
    ("EPH", "ephemeral"),
    ("Gen0", "gen0"),
    ("Gen1", "gen1"),
    ("Gen2", "gen2"),
    ("LOH", "loh"),
    ("POH", "poh"),
    ("FRZ", "frozen"),
];
const EPHEMERAL: usize = 0;
const LARGE: usize = 4;
const PINNED: usize = 5;
const FROZEN: usize = 6;

const ORDER: [Generation; 6] =
    [Generation::Gen0, Generation::Gen1, Generation::Gen2, Generation::Large, Generation::Pinned, Generation::Frozen];

/// Bytes of each heap in the order of [`TITLES`].
type Rows = Vec<(u32, [u64; 7])>;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let heap = session.heap()?;
    let stat = session.stat()?;
    let young = count(session, heap, |_| true)?;
    let view = View { ephemeral: !heap.regions, frozen: heap.segments.iter().any(|s| s.kind == SegmentKind::Frozen) };
    let allocated = allocated(heap, &young);
    view.print(ctx.out, "allocated", &allocated, None)?;
    ctx.out.line("")?;
    ctx.out.line("Free space:")?;
    let free = young.iter().map(|(h, sums)| (*h, sums.map(|s| s.free))).collect();
    view.print(ctx.out, "free", &free, Some(&allocated))?;
    ctx.out.line("")?;
    if args.has("unreachable") {
        ctx.out.line("Unrooted objects:")?;
        let (ids, live) = (&session.index()?.ids, session.live()?);
        let alive = |a: u64| ids.id_of(a).and_then(|i| live.get(i as usize)).copied().unwrap_or(false);
        let dead = count(session, heap, |a| !alive(a))?;
        let dead = dead.iter().map(|(h, sums)| (*h, sums.map(|s| s.objects))).collect();
        view.print(ctx.out, "unrooted", &dead, Some(&allocated))?;
        ctx.out.line("")?;
    }
    ctx.out.line("Committed space:")?;
    view.print(ctx.out, "committed", &committed(heap), None)?;
    Ok(stat.report.sentence().or(heap.problems.first().cloned()).map_or(Outcome::Complete, Outcome::Partial))
}

#[derive(Clone, Copy, Default)]
struct Sums {
    objects: u64,
    free: u64,
}

/// Bytes of objects (those `wanted`) and of free blocks by heap and column; the ephemeral segment counts twice, as
/// itself and by generation.
fn count(session: &Session, heap: &Heap, wanted: impl Fn(u64) -> bool + Sync) -> Result<Vec<(u32, [Sums; 7])>> {
    let walker = session.walker()?;
    let (parts, _) = walker.parallel(
        &heap.segments,
        |_| [Sums::default(); 7],
        |acc, segment, o| {
            let Some(part) = acc.get_mut(1 + segment.generation(o.address) as usize) else { return };
            if o.ty.is_free {
                part.free += o.size;
            } else if wanted(o.address) {
                part.objects += o.size;
            }
        },
    )?;
    let mut rows: Vec<(u32, [Sums; 7])> = heap.heaps.iter().map(|h| (h.index, [Sums::default(); 7])).collect();
    for (segment, mut part) in heap.segments.iter().zip(parts) {
        if segment.kind == SegmentKind::Ephemeral {
            part[EPHEMERAL] =
                Sums { objects: part.iter().map(|p| p.objects).sum(), free: part.iter().map(|p| p.free).sum() };
        }
        if let Some(row) = rows.iter_mut().find(|r| r.0 == segment.heap) {
            for (sum, p) in row.1.iter_mut().zip(part) {
                sum.objects += p.objects;
                sum.free += p.free;
            }
        }
    }
    Ok(rows)
}

/// Allocated bytes: whole regions and segments, free blocks in them included. As SOS has it, the generations that share
/// an ephemeral segment count their objects without free blocks; the segment itself counts whole.
fn allocated(heap: &Heap, young: &[(u32, [Sums; 7])]) -> Rows {
    let whole = |h: u32, wanted: &dyn Fn(&Segment) -> bool| -> u64 {
        heap.segments.iter().filter(|s| s.heap == h && wanted(s)).map(Segment::len).sum()
    };
    young
        .iter()
        .map(|(h, sums)| {
            let mut row = [0; 7];
            row[EPHEMERAL] = whole(*h, &|s| s.kind == SegmentKind::Ephemeral);
            for (i, g) in ORDER.into_iter().enumerate() {
                let shared = row[EPHEMERAL] > 0 && i < 3;
                row[i + 1] = if shared { sums[i + 1].objects } else { whole(*h, &|s| s.generation(s.start) == g) };
            }
            (*h, row)
        })
        .collect()
}

fn committed(heap: &Heap) -> Rows {
    let bytes = |s: &Segment| s.committed.saturating_sub(s.base());
    let row = |h: u32| {
        let mut row = [0; 7];
        for s in heap.segments.iter().filter(|s| s.heap == h) {
            let at = if s.kind == SegmentKind::Ephemeral { EPHEMERAL } else { 1 + s.generation(s.start) as usize };
            if let Some(sum) = row.get_mut(at) {
                *sum += bytes(s);
            }
        }
        row
    };
    heap.heaps.iter().map(|h| (h.index, row(h.index))).collect()
}

/// Which columns this heap has.
struct View {
    ephemeral: bool,
    frozen: bool,
}

impl View {
    fn has(&self, column: usize) -> bool {
        match column {
            EPHEMERAL => self.ephemeral,
            FROZEN => self.frozen,
            _ => true,
        }
    }

    fn print(&self, out: &mut Out, name: &'static str, rows: &Rows, of: Option<&Rows>) -> Result<()> {
        let mut columns = vec![Col::left("Heap", "heap", 8)];
        columns.extend(TITLES.iter().enumerate().filter(|(i, _)| self.has(*i)).map(|(_, t)| Col::left(t.0, t.1, 10)));
        columns.push(Col::left("", "note", 0));
        out.table(name, &columns, true)?;
        let mut total = [0; 7];
        for (i, (heap, values)) in rows.iter().enumerate() {
            total.iter_mut().zip(values).for_each(|(a, b)| *a += b);
            let base = of.and_then(|o| o.get(i)).map(|o| o.1);
            self.row(out, &format!("Heap{heap}"), values, base)?;
        }
        if !rows.is_empty() {
            self.row(out, "Total", &total, None)?;
        }
        Ok(())
    }

    fn row(&self, out: &mut Out, name: &str, v: &[u64; 7], of: Option<[u64; 7]>) -> Result<()> {
        let share = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
        let note = of.map(|o| {
            let small = share(v[1..LARGE].iter().sum(), o[1..LARGE].iter().sum());
            // Without large objects there is no share of them.
            let large = match o[LARGE] {
                0 => String::new(),
                of => format!("LOH:{}%", share(v[LARGE], of)),
            };
            let mut note = format!("{:<8} {large:<8}", format!("SOH:{small}%"));
            // Runtimes without a pinned object heap have a share of it neither.
            if !self.ephemeral || o[PINNED] > 0 {
                note.push_str(&format!(" POH:{}%", share(v[PINNED], o[PINNED])));
            }
            note
        });
        let mut cells = vec![Cell::text(name.to_owned())];
        cells.extend(v.iter().enumerate().filter(|(i, _)| self.has(*i)).map(|(_, &n)| Cell::Num(n)));
        cells.push(note.map_or(Cell::None, Cell::text));
        out.row(&cells)?;
        Ok(())
    }
}
