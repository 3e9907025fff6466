//! `!heap` of a Windows process: which heaps there are, of which kind, and how much memory they have.

use anyhow::Result;

use crate::native::heaps::windows::list;
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

const HEAPS: Table = Table::new(
    "heaps",
    &[
        Col::right("Heap", "heap", 16).of(Type::Address),
        Col::left("Kind", "kind", 12),
        Col::right("Ranges", "ranges", 6).of(Type::Count),
        Col::right("Reserved", "reserved", 14).of(Type::Bytes),
        Col::right("Committed", "committed", 14).of(Type::Bytes),
        Col::right("Counts reserved", "counted_reserved", 15).of(Type::Bytes),
        Col::right("Counts committed", "counted_committed", 16).of(Type::Bytes),
    ],
);

/// What it returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("heap_reserved", "bytes of the allocations of all heaps", Type::Bytes),
    Fact::new("heap_committed", "bytes of them that are committed", Type::Bytes),
])
.and(&[&HEAPS]);

/// Prints the heaps.
pub fn show(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    let heaps = list(ctx.session()?.dump());
    if heaps.is_empty() {
        ctx.out.note("No heap of the process was found: the block that lists them is not in the dump.")?;
        return Ok(Outcome::Empty);
    }
    ctx.out.open(&HEAPS)?;
    let counted = |n: Option<u64>| n.map_or(Cell::None, Cell::Sep);
    for h in &heaps {
        ctx.out.row(&[
            Cell::Addr(h.address),
            Cell::text(h.kind.name()),
            Cell::Num(h.memory.len() as u64),
            Cell::Sep(h.mapped.0),
            Cell::Sep(h.mapped.1),
            counted(h.counted.map(|c| c.0)),
            counted(h.counted.map(|c| c.1)),
        ])?;
    }
    let (reserved, committed) = heaps.iter().fold((0u64, 0u64), |t, h| (t.0 + h.mapped.0, t.1 + h.mapped.1));
    let line =
        format!("{} heaps: {} bytes reserved, {} committed", heaps.len(), thousands(reserved), thousands(committed));
    ctx.out.facts(&[("heap_reserved", Cell::Num(reserved)), ("heap_committed", Cell::Num(committed))], line)?;
    Ok(Outcome::Partial(
        "blocks of Windows heaps are not read; what kind a heap is and what it counts was proved on no dump of Windows itself"
            .into(),
    ))
}
