//! `!gcheapstat`: bytes by heap and generation, with the share that is free.

use anyhow::Result;

use crate::heap::{Generation, Heap, Segment, SegmentKind};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

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
    returns: Returns::tables(&[&ALLOCATED, &FREE, &UNROOTED, &COMMITTED, &TOTALS]),
    run,
};

const HEAP: Col = Col::left("Heap", "heap", 8).of(Type::Count);

const EPH: Col = Col::left("EPH", "ephemeral", 10).of(Type::Bytes);
const GEN0: Col = Col::left("Gen0", "gen0", 10).of(Type::Bytes);
const GEN1: Col = Col::left("Gen1", "gen1", 10).of(Type::Bytes);
const GEN2: Col = Col::left("Gen2", "gen2", 10).of(Type::Bytes);
const LOH: Col = Col::left("LOH", "loh", 10).of(Type::Bytes);
const POH: Col = Col::left("POH", "poh", 10).of(Type::Bytes);
const FRZ: Col = Col::left("FRZ", "frozen", 10).of(Type::Bytes);
/// The columns in order: the ephemeral segment, the generations, the other heaps. Text leaves out those this heap does not
/// have.
const PARTS: [Col; 7] = [EPH, GEN0, GEN1, GEN2, LOH, POH, FRZ];
const SHARED: &[Col] = &[
    HEAP,
    EPH,
    GEN0,
    GEN1,
    GEN2,
    LOH,
    POH,
    FRZ,
    Col::data("soh_share", Type::Share).titled("share of generations 0 to 2, rounded down"),
    Col::data("loh_share", Type::Share).titled("share of the large object heap, rounded down"),
    Col::data("poh_share", Type::Share).titled("share of the pinned object heap, rounded down"),
];

/// Allocated bytes of each heap.
const ALLOCATED: Table = Table::new("allocated", &[HEAP, EPH, GEN0, GEN1, GEN2, LOH, POH, FRZ]);
/// Bytes of free blocks.
const FREE: Table = Table::new("free", SHARED);
/// Bytes of objects that no root reaches.
const UNROOTED: Table = Table::new("unrooted", SHARED);
/// Committed bytes.
const COMMITTED: Table = Table::new("committed", &[HEAP, EPH, GEN0, GEN1, GEN2, LOH, POH, FRZ]);
/// Sums over all heaps.
const TOTALS: Table = Table::new(
    "totals",
    &[Col::data("what", Type::Text).titled("the table that is summed"), EPH, GEN0, GEN1, GEN2, LOH, POH, FRZ],
);
const EPHEMERAL: usize = 0;
const LARGE: usize = 4;
const PINNED: usize = 5;
const FROZEN: usize = 6;

const ORDER: [Generation; 6] =
    [Generation::Gen0, Generation::Gen1, Generation::Gen2, Generation::Large, Generation::Pinned, Generation::Frozen];

/// Bytes of each heap in the order of [`PARTS`].
type Rows = Vec<(u32, [u64; 7])>;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let heap = session.heap()?;
    let stat = session.stat()?;
    let young = count(session, heap, |_| true)?;
    let view = View { ephemeral: !heap.regions, frozen: heap.segments.iter().any(|s| s.kind == SegmentKind::Frozen) };
    let allocated = allocated(heap, &young);
    view.print(ctx.out, &ALLOCATED, &allocated, None)?;
    ctx.out.note("")?;
    ctx.out.note("Free space:")?;
    let free = young.iter().map(|(h, sums)| (*h, sums.map(|s| s.free))).collect();
    view.print(ctx.out, &FREE, &free, Some(&allocated))?;
    ctx.out.note("")?;
    if args.has("unreachable") {
        ctx.out.note("Unrooted objects:")?;
        let live = session.live()?;
        let dead = count(session, heap, |a| !live.has(a))?;
        let dead = dead.iter().map(|(h, sums)| (*h, sums.map(|s| s.objects))).collect();
        view.print(ctx.out, &UNROOTED, &dead, Some(&allocated))?;
        ctx.out.note("")?;
    }
    ctx.out.note("Committed space:")?;
    view.print(ctx.out, &COMMITTED, &committed(heap), None)?;
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

    fn print(&self, out: &mut Out, table: &Table, rows: &Rows, of: Option<&Rows>) -> Result<()> {
        let titles = PARTS.map(|c| c.title.to_owned());
        out.open_as(table, &self.line(HEAP.title, titles, ""))?;
        let mut total = [0; 7];
        for (i, (heap, values)) in rows.iter().enumerate() {
            total.iter_mut().zip(values).for_each(|(a, b)| *a += b);
            let shares = of.and_then(|o| o.get(i)).map(|o| self.shares(values, &o.1));
            let line = self.line(&format!("Heap{heap}"), values.map(|n| n.to_string()), &note(shares));
            let mut cells = vec![Cell::Num(u64::from(*heap))];
            cells.extend(self.cells(values));
            cells.extend(shares.into_iter().flatten().map(|s| s.map_or(Cell::None, Cell::Num)));
            out.row_as(table, &cells, line)?;
        }
        if !rows.is_empty() {
            let mut cells = vec![Cell::text(table.name)];
            cells.extend(self.cells(&total));
            out.row_as(&TOTALS, &cells, self.line("Total", total.map(|n| n.to_string()), ""))?;
        }
        Ok(())
    }

    fn cells<'c>(&'c self, values: &'c [u64; 7]) -> impl Iterator<Item = Cell<'static>> + 'c {
        values.iter().enumerate().map(|(i, n)| if self.has(i) { Cell::Num(*n) } else { Cell::None })
    }

    /// A row in text: the columns this heap has, and a note.
    fn line(&self, name: &str, values: [String; 7], note: &str) -> String {
        let mut line = format!("{name:<w$}", w = usize::from(HEAP.width));
        for (column, value) in PARTS.iter().zip(values).enumerate().filter(|(i, _)| self.has(*i)).map(|(_, v)| v) {
            line.push_str(&format!(" {value:<w$}", w = usize::from(column.width)));
        }
        line + " " + note
    }

    /// Percent of the small, large and pinned object heaps, rounded down.
    fn shares(&self, v: &[u64; 7], of: &[u64; 7]) -> [Option<u64>; 3] {
        let share = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
        let small = share(v[1..LARGE].iter().sum(), of[1..LARGE].iter().sum());
        // Without large objects there is no share of them.
        let large = (of[LARGE] > 0).then(|| share(v[LARGE], of[LARGE]));
        // Runtimes without a pinned object heap have a share of it neither.
        let pinned = (!self.ephemeral || of[PINNED] > 0).then(|| share(v[PINNED], of[PINNED]));
        [Some(small), large, pinned]
    }
}

fn note(shares: Option<[Option<u64>; 3]>) -> String {
    let Some([small, large, pinned]) = shares else { return String::new() };
    let part = |name: &str, share: Option<u64>| share.map_or_else(String::new, |s| format!("{name}:{s}%"));
    format!("{:<8} {:<8} {}", part("SOH", small), part("LOH", large), part("POH", pinned))
}
