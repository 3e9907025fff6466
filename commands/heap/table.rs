//! The two tables SOS prints of objects: the listing and the statistics.

use std::sync::Arc;

use anyhow::Result;

use crate::clr::Clr;
use crate::heap::stat::{Tally, TypeTallies};
use crate::heap::{TypeInfo, TypeRegistry};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Fact, Out, Returns, Table, Type};

/// Columns of the listing: 16, 16 and 14 wide, `Free` behind.
const LISTING: &[Col] = &[
    Col::right("Address", "address", 16).of(Type::Address),
    Col::right("MT", "method_table", 16).of(Type::Address),
    Col::right("Size", "size", 14).of(Type::Bytes),
    Col::left("", "free", 0).of(Type::Bool),
];

/// The listing.
pub const OBJECTS: Table = Table::new("objects", LISTING);

/// The listing of addresses alone.
pub const ADDRESSES: Table = Table::new("objects", &[Col::left("", "address", 0).of(Type::Address)]);

/// The cells of a row of the listing.
pub fn listing(address: u64, mt: u64, free: bool, size: u64) -> [Cell<'static>; 4] {
    [Cell::Addr(address), Cell::Addr(mt), Cell::Sep(size), Cell::Either(free, "Free", "")]
}

/// One row of the listing.
pub fn listing_row(out: &mut Out, address: u64, ty: &TypeInfo, size: u64) -> std::io::Result<()> {
    out.row(&listing(address, ty.mt.address, ty.is_free, size))
}

const MT: Col = Col::right("MT", "method_table", 0).of(Type::Address);
const COUNT: Col = Col::right("Count", "count", 0).of(Type::Count);
const TOTAL: Col = Col::right("TotalSize", "total_size", 0).of(Type::Bytes);
const RETAINED: Col = Col::right("Retained", "retained", 0).of(Type::Bytes);
const NAME: Col = Col::left("Class Name", "class_name", 0).of(Type::TypeName);

/// The statistics, with and without what the types retain.
const STATISTICS: Table = Table::new("statistics", &[MT, COUNT, TOTAL, NAME]);
const STATISTICS_RETAINED: Table = Table::new("statistics", &[MT, COUNT, TOTAL, RETAINED, NAME]).rising("retained");

/// What [`statistics`] returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("objects", "objects counted", Type::Count),
    Fact::new("bytes", "their bytes", Type::Bytes),
    Fact::new("unnamed_types", "types listed without a name", Type::Count),
])
.and(&[&STATISTICS.rising("total_size"), &STATISTICS_RETAINED]);

/// The statistics of commands that print no total of bytes.
const WIDE: Table = Table::new(
    "statistics",
    &[
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::right("Count", "count", 8).of(Type::Count),
        Col::right("TotalSize", "total_size", 12).of(Type::Bytes),
        NAME,
    ],
)
.rising("total_size");

/// What [`wide_statistics`] returns.
pub const WIDE_RETURNS: Returns = Returns::tables(&[&WIDE]);

/// How statistics are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By bytes, the biggest last.
    Size,
    /// By count, the biggest last.
    Count,
    /// By name.
    Name,
    /// By what the type retains, the biggest last; the statistics get a column for it.
    Retained,
}

/// Rows of the statistics: the type, its tally.
pub fn sorted(types: &TypeRegistry, clr: &Clr, tallies: &TypeTallies, sort: Sort) -> Vec<(Arc<TypeInfo>, Tally)> {
    let mut rows: Vec<(Arc<TypeInfo>, Tally)> =
        tallies.iter().filter_map(|(id, t)| types.by_id(id).map(|ty| (ty, t))).collect();
    match sort {
        Sort::Size | Sort::Retained => rows.sort_by_key(|(ty, t)| (t.bytes, t.count, ty.mt.address)),
        Sort::Count => rows.sort_by_key(|(ty, t)| (t.count, t.bytes, ty.mt.address)),
        Sort::Name => rows.sort_by_cached_key(|(ty, _)| clr.type_name(ty.mt.address)),
    }
    rows
}

/// Prints `Statistics:` and the table in the widths of the commands that have no total of bytes; `name` spells a type.
pub fn wide_statistics(
    session: &Session,
    out: &mut Out,
    tallies: &TypeTallies,
    name: impl Fn(&Clr, u64) -> Arc<str>,
) -> Result<()> {
    let clr = session.clr()?;
    out.note("Statistics:")?;
    out.open(&WIDE)?;
    for (ty, t) in sorted(session.types(), clr, tallies, Sort::Size) {
        let name = name(clr, ty.mt.address);
        out.row(&[Cell::AddrPad(ty.mt.address, 16), Cell::Num(t.count), Cell::Num(t.bytes), Cell::text(&*name)])?;
    }
    Ok(())
}

/// Prints `Statistics:`, the table and the total; `top` keeps the last rows (the biggest) only.
pub fn statistics(session: &Session, out: &mut Out, tallies: &TypeTallies, sort: Sort, top: Option<u64>) -> Result<()> {
    let clr = session.clr()?;
    let mut rows = sorted(session.types(), clr, tallies, sort);
    let sizes = if sort == Sort::Retained { Some(session.retained_by_type()?) } else { None };
    let retained = |ty: &TypeInfo| sizes.map(|s| s.get(ty.id as usize).map_or(0, |g| g.retained));
    if sizes.is_some() {
        rows.sort_by_key(|(ty, _)| retained(ty));
    }
    if let Some(n) = top {
        let n = n.min(rows.len() as u64) as usize;
        if sort == Sort::Name {
            rows.truncate(n);
        } else {
            rows.drain(..rows.len() - n);
        }
    }
    out.note("Statistics:")?;
    let names: Vec<Arc<str>> = rows.iter().map(|(ty, _)| clr.type_name(ty.mt.address)).collect();
    let cells: Vec<Vec<Cell<'_>>> = rows
        .iter()
        .zip(&names)
        .map(|((ty, t), name)| {
            let mut row = vec![Cell::Addr(ty.mt.address), Cell::Sep(t.count), Cell::Sep(t.bytes)];
            row.extend(retained(ty).map(Cell::Sep));
            row.push(Cell::text(&**name));
            row
        })
        .collect();
    let table = match sort {
        Sort::Retained => STATISTICS_RETAINED,
        Sort::Size => STATISTICS.rising("total_size"),
        Sort::Count => STATISTICS.rising("count"),
        Sort::Name => STATISTICS,
    };
    out.fill(&table, &cells)?;
    total(out, tallies.total())?;
    let unnamed = rows.iter().filter(|(ty, _)| clr.is_unnamed(ty.mt.address)).count();
    if unnamed > 0
        && let Some(missing) = session.missing_metadata()
    {
        let line = format!("{unnamed} types have no name: not in the dump: {missing}");
        out.fact("unnamed_types", Cell::Num(unnamed as u64), line)?;
    }
    Ok(())
}

/// `Total N objects, M bytes`.
pub fn total(out: &mut Out, t: Tally) -> Result<()> {
    let facts = [("objects", Cell::Num(t.count)), ("bytes", Cell::Num(t.bytes))];
    out.facts(&facts, format!("Total {} objects, {} bytes", thousands(t.count), thousands(t.bytes)))?;
    Ok(())
}
