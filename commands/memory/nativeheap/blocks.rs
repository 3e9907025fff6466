//! Blocks of native heaps: by size, in a list, around an address.

use anyhow::{Result, bail};
use rustc_hash::FxHashMap;

use crate::native::heaps::{Block, NO_ARENA, NativeHeaps, State};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Args, Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

const SIZES: Table = Table::new(
    "sizes",
    &[
        Col::right("Size", "size", 12).of(Type::Bytes),
        Col::right("Count", "count", 10).of(Type::Count),
        Col::right("Total", "total_size", 14).of(Type::Bytes),
        Col::right("%", "share", 7).of(Type::Share),
    ],
)
.rising("total_size");

const BLOCKS: Table = Table::new("blocks", COLUMNS);
const NEAR: Table = Table::new(
    "near",
    &[
        Col::left("", "which", 9).titled("before, block or next"),
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("Size", "size", 12).of(Type::Bytes),
        Col::left("State", "state", 7),
        Col::left("Kind", "kind", 12),
        Col::right("Arena", "arena", 5).of(Type::Number),
    ],
);
const HOLDERS: Table = Table::new(
    "holders",
    &[
        Col::left("Held by", "by", 8),
        Col::right("Place", "place", 16).of(Type::Address),
        Col::right("Holder", "holder", 16).of(Type::Address),
        Col::left("What", "what", 0),
    ],
);
const COLUMNS: &[Col] = &[
    Col::right("Address", "address", 16).of(Type::Address),
    Col::right("Size", "size", 12).of(Type::Bytes),
    Col::left("State", "state", 7),
    Col::left("Kind", "kind", 12),
    Col::right("Arena", "arena", 5).of(Type::Number),
];

/// What the views of blocks return.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("listed", "blocks listed or added up", Type::Count),
    Fact::new("listed_bytes", "their bytes", Type::Bytes),
    Fact::new("address", "the address asked for", Type::Address),
    Fact::new("first_word", "what the first word of the block says", Type::Text),
    Fact::new("pointers", "words that point into the block", Type::Count),
    Fact::new("offset", "how far into its block that is", Type::Number),
])
.and(&[&SIZES, &BLOCKS, &NEAR, &HOLDERS]);

/// Which blocks are wanted.
pub struct Filter {
    sizes: (u64, u64),
    arena: Option<u16>,
    state: Option<State>,
}

impl Filter {
    /// The one that the arguments make.
    pub fn of(args: &Args, heaps: &NativeHeaps) -> Result<Self> {
        let (size, most) = (args.number("SIZE"), args.number("MAX"));
        let sizes = match (args.text("flt"), size, most) {
            (None, None, _) => (0, u64::MAX),
            (Some("s"), Some(n), None) => (n, n),
            (Some("r"), Some(a), Some(b)) => (a, b),
            (Some("s"), ..) => bail!("-flt s wants one size"),
            (Some(_), ..) => bail!("-flt r wants two sizes"),
            (None, Some(_), _) => bail!("sizes belong to -flt s or -flt r"),
        };
        let arena = match args.number("h") {
            Some(n) if n as usize >= heaps.arenas.len() => {
                bail!("there are arenas 0 to {}", heaps.arenas.len().saturating_sub(1))
            }
            n => n.map(|n| n as u16),
        };
        let state = args.text("state").map(|s| match s {
            "free" => State::Free,
            "cached" => State::Cached,
            _ => State::Used,
        });
        Ok(Self { sizes, arena, state })
    }

    /// Whether it passes and is in use, or in the state asked for.
    pub fn counts(&self, b: &Block) -> bool {
        b.state() == self.state.unwrap_or(State::Used) && self.passes(b)
    }

    /// Whether it passes.
    pub fn passes(&self, b: &Block) -> bool {
        (self.sizes.0..=self.sizes.1).contains(&b.size())
            && self.arena.is_none_or(|a| a == b.arena())
            && self.state.is_none_or(|s| s == b.state())
    }
}

/// Address, size, state, kind, arena.
fn cells(b: &Block) -> [Cell<'static>; 5] {
    let arena = if b.arena() == NO_ARENA { Cell::None } else { Cell::Num(u64::from(b.arena())) };
    [Cell::Addr(b.address()), Cell::Sep(b.size()), Cell::text(b.state().name()), Cell::text(b.kind().name()), arena]
}

/// Blocks by size; those in use unless another state is asked for.
pub fn by_size(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, filter: &Filter) -> Result<Outcome> {
    let mut sums: FxHashMap<u64, u64> = FxHashMap::default();
    for b in heaps.blocks.list().iter().filter(|b| filter.counts(b)) {
        *sums.entry(b.size()).or_default() += 1;
    }
    let mut sums: Vec<(u64, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|&(size, count)| (size.saturating_mul(count), size));
    let (count, bytes) =
        sums.iter().fold((0u64, 0u64), |t, s| (t.0 + s.1, t.1.saturating_add(s.0.saturating_mul(s.1))));
    ctx.out.open(&SIZES)?;
    for (size, n) in &sums {
        let total = size.saturating_mul(*n);
        let share = if bytes == 0 { 0.0 } else { total as f64 * 100.0 / bytes as f64 };
        ctx.out.row(&[Cell::Sep(*size), Cell::Sep(*n), Cell::Sep(total), Cell::Percent(share)])?;
    }
    total(ctx, count, bytes)
}

/// The line below a list.
pub fn total(ctx: &mut Ctx<'_>, count: u64, bytes: u64) -> Result<Outcome> {
    let facts = [("listed", Cell::Num(count)), ("listed_bytes", Cell::Num(bytes))];
    ctx.out.facts(&facts, format!("Total {} blocks, {} bytes", thousands(count), thousands(bytes)))?;
    Ok(if count == 0 { Outcome::Empty } else { Outcome::Complete })
}

/// The blocks that pass.
pub fn list(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, filter: &Filter) -> Result<Outcome> {
    let watch = &ctx.session()?.watch;
    let (mut count, mut bytes) = (0u64, 0u64);
    ctx.out.open(&BLOCKS)?;
    for b in heaps.blocks.list().iter().filter(|b| filter.passes(b)) {
        watch.cancel.check()?;
        count += 1;
        bytes = bytes.saturating_add(b.size());
        ctx.out.row(&cells(b))?;
    }
    ctx.out.done(&BLOCKS)?;
    total(ctx, count, bytes)
}

/// The block that holds `address`, with its neighbours.
pub fn near(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, address: u64) -> Result<Outcome> {
    let held = heaps.blocks.holding(address);
    let next = heaps.blocks.first_from(address.saturating_add(1));
    ctx.out.datum("address", &Cell::Addr(address));
    match held.and_then(|i| heaps.blocks.get(i)) {
        Some(b) => {
            let offset = address.saturating_sub(b.address());
            let line = format!("{address:x} lies in the block {:x}, 0x{offset:x} behind its start", b.address());
            ctx.out.fact("offset", Cell::As(format!("{offset:x}").into(), offset), line)?;
        }
        None => ctx.out.note(format!("{address:x} lies in no block of a native heap"))?,
    }
    let before = held.unwrap_or(next).checked_sub(1);
    let next = if held.is_some() { held.map(|h| h + 1) } else { Some(next) };
    ctx.out.open_bare(&NEAR)?;
    for (which, at) in [("before", before), ("block", held), ("next", next)] {
        let Some(b) = at.and_then(|i| heaps.blocks.get(i)) else { continue };
        let [address, size, state, kind, arena] = cells(b);
        ctx.out.row(&[Cell::text(which), address, size, state, kind, arena])?;
    }
    let Some((number, b)) = held.and_then(|i| Some((i, *heaps.blocks.get(i)?))) else { return Ok(Outcome::Empty) };
    let session = ctx.session()?;
    let what = session.native_first_word(&b);
    ctx.out.note("")?;
    ctx.out.fact("first_word", Cell::text(&*what), format!("First word: {what}"))?;
    let mut rows = objects(session, number)?;
    rows.extend(elsewhere(session, heaps, &b)?);
    ctx.out.fact("pointers", Cell::Num(rows.len() as u64), format!("Pointers to it: {}", rows.len()))?;
    if !rows.is_empty() {
        ctx.out.open(&HOLDERS)?;
    }
    for (by, place, holder, what) in rows {
        let holder = holder.map_or(Cell::None, Cell::Addr);
        ctx.out.row_in(&HOLDERS, &[Cell::text(by), Cell::Addr(place), holder, Cell::text(what)])?;
    }
    Ok(Outcome::Complete)
}

/// Where a pointer stands: in what, the place, the object or block, its name.
type Holder = (&'static str, u64, Option<u64>, String);

/// Objects that point into the block of that number.
fn objects(session: &Session, number: usize) -> Result<Vec<Holder>> {
    let Ok(clr) = session.clr() else { return Ok(Vec::new()) };
    let holds = session.native_holds()?.list.iter().filter(|h| h.block as usize == number);
    Ok(holds
        .filter_map(|h| {
            let ty = session.types().by_id(h.ty)?;
            let field = session.slot_name(clr, &ty, h.offset);
            let what = format!("{}.{field}", clr.type_name(ty.mt.address));
            Some(("object", h.object + h.offset, Some(h.object), what))
        })
        .collect())
}

/// Other words that point into the block.
fn elsewhere(session: &Session, heaps: &NativeHeaps, b: &Block) -> Result<Vec<Holder>> {
    let dump = session.dump();
    let places = session.native_pointers(b.address(), b.end())?;
    let one = |at: u64| -> Holder {
        if let Some(h) = heaps.blocks.holding(at).and_then(|i| heaps.blocks.get(i)) {
            return ("block", at, Some(h.address()), session.native_first_word(h).into_owned());
        }
        let stack = dump.threads.iter().position(|t| t.stack.is_some_and(|s| (s.0..s.1).contains(&at)));
        if let Some(thread) = stack {
            return ("stack", at, None, format!("thread {thread}"));
        }
        match dump.module_at(at) {
            Some(m) => ("module", at, Some(m.base), format!("{}+0x{:x}", m.file_name(), at - m.base)),
            None => ("memory", at, None, String::new()),
        }
    };
    Ok(places.into_iter().map(one).collect())
}
