//! `!heap -l`: blocks that nothing points to, and `!heap -stat -type`: blocks in use by what their first word says.

use std::borrow::Cow;

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::native::heaps::{Block, NativeHeaps, State};
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

use super::blocks::Filter;

const LEAKED: Table = Table::new("leaked", GROUPS).rising("total_size");
const TYPES: Table = Table::new(
    "types",
    &[
        Col::right("Count", "count", 10).of(Type::Count),
        Col::right("Total", "total_size", 14).of(Type::Bytes),
        Col::right("First", "address", 16).of(Type::Address),
        Col::left("First word", "what", 0),
    ],
)
.rising("total_size");
const GROUPS: &[Col] = &[
    Col::right("Size", "size", 12).of(Type::Bytes),
    Col::right("Count", "count", 10).of(Type::Count),
    Col::right("Total", "total_size", 14).of(Type::Bytes),
    Col::right("First", "address", 16).of(Type::Address),
    Col::left("First word", "what", 0),
];

/// What both return.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("candidates", "blocks that nothing points to", Type::Count),
    Fact::new("candidate_bytes", "their bytes", Type::Bytes),
])
.and(&[&LEAKED, &TYPES]);

/// Blocks alike.
#[derive(Default, Clone, Copy)]
struct Group {
    count: u64,
    bytes: u64,
    first: u64,
}

impl Group {
    fn add(&mut self, b: &Block) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(b.size());
        if self.first == 0 {
            self.first = b.address();
        }
    }
}

/// Blocks in use that nothing points to, by size and first word.
pub fn leaked(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, filter: &Filter) -> Result<Outcome> {
    let session = ctx.session()?;
    let reached = session.native_reached()?;
    let mut groups: FxHashMap<(u64, Cow<'static, str>), Group> = FxHashMap::default();
    let (mut count, mut bytes) = (0u64, 0u64);
    let blocks = heaps.blocks.list().iter().zip(reached).filter(|(b, reached)| !**reached && b.state() == State::Used);
    for (b, _) in blocks.filter(|(b, _)| filter.passes(b)) {
        session.watch.cancel.check()?;
        (count, bytes) = (count + 1, bytes.saturating_add(b.size()));
        groups.entry((b.size(), session.native_first_word(b))).or_default().add(b);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| (a.1.bytes, &a.0).cmp(&(b.1.bytes, &b.0)));
    ctx.out.open(&LEAKED)?;
    for ((size, what), g) in &groups {
        let cells =
            [Cell::Sep(*size), Cell::Sep(g.count), Cell::Sep(g.bytes), Cell::Addr(g.first), Cell::text(&**what)];
        ctx.out.row(&cells)?;
    }
    let facts = [("candidates", Cell::Num(count)), ("candidate_bytes", Cell::Num(bytes))];
    let line =
        format!("Candidates: {} blocks, {} bytes that no pointer was found to", thousands(count), thousands(bytes));
    ctx.out.facts(&facts, line)?;
    let main = heaps.arenas.first().is_none_or(|a| a.address != 0);
    if !main && session.dump().os == crate::dump::Os::Linux {
        let why = "writable data of libraries are not in the dump: what only they point to is among the candidates";
        return Ok(Outcome::Partial(why.into()));
    }
    Ok(if count == 0 { Outcome::Empty } else { Outcome::Complete })
}

/// Blocks in use by what their first word says.
pub fn by_type(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, filter: &Filter) -> Result<Outcome> {
    let session = ctx.session()?;
    let mut groups: FxHashMap<Cow<'static, str>, Group> = FxHashMap::default();
    let (mut count, mut bytes) = (0u64, 0u64);
    for b in heaps.blocks.list().iter().filter(|b| filter.counts(b)) {
        session.watch.cancel.check()?;
        (count, bytes) = (count + 1, bytes.saturating_add(b.size()));
        groups.entry(session.native_first_word(b)).or_default().add(b);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| (a.1.bytes, &a.0).cmp(&(b.1.bytes, &b.0)));
    ctx.out.open(&TYPES)?;
    for (what, g) in &groups {
        ctx.out.row(&[Cell::Sep(g.count), Cell::Sep(g.bytes), Cell::Addr(g.first), Cell::text(&**what)])?;
    }
    super::blocks::total(ctx, count, bytes)
}
