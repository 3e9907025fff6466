//! `!gchandleleaks`: handles that hold an object and are named nowhere in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;

use crate::clr::runtime::handles::{Handle, HandleKind};
use crate::commands::memory::usage::{UsageRange, classify, word};
use crate::dump::{AddressSpace, little_endian};
use crate::heap::stat::Tally;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!gchandleleaks`.
pub const GCHANDLELEAKS: Command = Command {
    name: "gchandleleaks",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "strong and pinned handles that are named nowhere in the memory of the process",
    help: "Looks through all memory in the dump, managed and native, for the addresses of strong and pinned handles, as they are \
           or with the lowest bit set (so GCHandle keeps one that pins), and lists the handles that stand nowhere: nobody can \
           free them any more, their objects live for ever. -all lists those found too, with the first place and what is \
           there.\n\n\
           A word may be stale, and code may keep a handle in another form: a handle that is found may be leaked all the \
           same, one that is not may be in use. Handles of the runtime itself are known by its native memory: where the dump \
           lacks that (heap dumps do) the answer is partial, and they are listed too.",
    args: &[
        Arg::flag("all", "handles that were found too"),
        Arg::opt("type", Kind::Text, "only this kind: Strong or Pinned").words(&["Strong", "Pinned"]),
    ],
    examples: &[
        Example { line: "!gchandleleaks", what: "which handles nobody can free any more" },
        Example { line: "!gchandleleaks -all -type Pinned", what: "who knows the handles that pin" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("handles", "strong and pinned handles", Type::Count),
        Fact::new("not_found", "those found nowhere", Type::Count),
        Fact::new("bytes", "bytes of their objects, each once", Type::Bytes),
        Fact::new("searched", "bytes looked through", Type::Bytes),
        Fact::new("memory_missing", "bytes of memory that are not in the dump, but for images and files", Type::Bytes),
    ])
    .and(&[&LEAKED, &FOUND, &TYPES]),
    run,
};

const HANDLE: Col = Col::right("Handle", "handle", 16).of(Type::Address);
const KIND: Col = Col::left("Kind", "kind", 6);
const OBJECT: Col = Col::right("Object", "object", 16).of(Type::Address);
const SIZE: Col = Col::right("Size", "size", 10).of(Type::Bytes);
const TYPE: Col = Col::left("Type", "type", 0).of(Type::TypeName);

/// Handles found nowhere.
const LEAKED: Table = Table::new("handles", &[HANDLE, KIND, OBJECT, SIZE, TYPE]);

/// Handles that were found.
const FOUND: Table = Table::new(
    "found",
    &[
        HANDLE,
        KIND,
        Col::right("Places", "places", 6).of(Type::Count),
        Col::right("First", "place", 16).of(Type::Address),
        Col::left("In", "usage", 12),
        OBJECT,
        TYPE,
    ],
);

/// Types of the objects that handles found nowhere hold.
const TYPES: Table = Table::new(
    "types",
    &[Col::right("Count", "count", 8).of(Type::Count), Col::right("Bytes", "bytes", 12).of(Type::Bytes), TYPE],
)
.rising("bytes");

/// Where a handle was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Places {
    count: u64,
    first: u64,
}

impl Places {
    fn add(&mut self, other: Self) {
        let earlier = self.count == 0 || other.count > 0 && other.first < self.first;
        if earlier {
            self.first = other.first;
        }
        self.count += other.count;
    }
}

/// The handles looked for, by address.
struct Sought {
    slots: Vec<u64>,
    /// Pointer size.
    size: u64,
}

impl Sought {
    fn new(handles: &[Handle], space: &AddressSpace) -> Self {
        Self { slots: handles.iter().map(|h| h.address).collect(), size: u64::from(space.ptr_size()) }
    }

    /// Number of the handle that `word` names. Slots lie at multiples of their size.
    #[inline]
    fn named(&self, word: u64) -> Option<usize> {
        let slot = word & !1;
        let (first, last) = (*self.slots.first()?, *self.slots.last()?);
        if slot < first || slot > last {
            return None;
        }
        self.slots.binary_search(&slot).ok()
    }

    /// Calls `hit(handle, place)` for the words of `[start, end)` that name one.
    fn search(&self, space: &AddressSpace, (start, end): (u64, u64), mut hit: impl FnMut(usize, u64)) {
        let length = usize::try_from(end - start).unwrap_or(0);
        match space.slice(start, length).filter(|_| start.is_multiple_of(self.size)) {
            Some(bytes) => {
                for (i, w) in bytes.chunks_exact(self.size as usize).enumerate() {
                    if let Some(n) = self.named(little_endian(w)) {
                        hit(n, start + i as u64 * self.size);
                    }
                }
            }
            // A piece may end inside a word.
            None => space.words(start, end).for_each(|(at, w)| {
                if let Some(n) = self.named(w) {
                    hit(n, at);
                }
            }),
        }
    }
}

/// Looks for the handles in all memory. The handles themselves are sorted by address.
fn search(session: &Session, handles: &[Handle]) -> Result<(Vec<Places>, u64)> {
    let space = &session.dump().space;
    let sought = Sought::new(handles, space);
    let parts: Vec<(u64, u64)> = space.parts(0, u64::MAX).collect();
    let searched = parts.iter().map(|p| p.1 - p.0).sum();
    session.watch.progress.start("looking for handles", searched);
    let one = |part: &(u64, u64)| {
        session.watch.cancel.check()?;
        let mut found: Vec<(usize, Places)> = Vec::new();
        sought.search(space, *part, |n, at| found.push((n, Places { count: 1, first: at })));
        found.sort_unstable_by_key(|f| (f.0, f.1.first));
        found.dedup_by(|b, a| {
            a.0 == b.0 && {
                a.1.add(b.1);
                true
            }
        });
        session.watch.progress.add(part.1 - part.0);
        Ok(found)
    };
    let found: Vec<Vec<(usize, Places)>> = parts.par_iter().map(one).collect::<Result<_>>()?;
    session.watch.progress.finish();
    let mut places = vec![Places::default(); handles.len()];
    for (n, more) in found.into_iter().flatten() {
        if let Some(p) = places.get_mut(n) {
            p.add(more);
        }
    }
    Ok((places, searched))
}

fn kinds(args: &Args) -> Result<Vec<HandleKind>> {
    let both = [HandleKind::STRONG, HandleKind::PINNED];
    let Some(kind) = args.text("type") else { return Ok(both.to_vec()) };
    let one = both.into_iter().filter(|k| k.name().eq_ignore_ascii_case(kind)).collect::<Vec<_>>();
    if one.is_empty() {
        anyhow::bail!("-type takes Strong or Pinned, not `{kind}`");
    }
    Ok(one)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (clr, walker) = (session.clr()?, session.walker()?);
    let (all, kinds) = (clr.handles(), kinds(args)?);
    let mut handles: Vec<Handle> = all.items.iter().filter(|h| kinds.contains(&h.kind)).copied().collect();
    handles.sort_unstable_by_key(|h| h.address);
    handles.dedup_by_key(|h| h.address);
    let (places, searched) = search(session, &handles)?;
    let named = |h: &Handle| {
        let o = walker.object_at(h.object);
        (o.as_ref().map(|o| o.size), o.map(|o| clr.type_name(o.ty.mt.address)))
    };
    if args.has("all") {
        found(ctx, session, handles.iter().zip(&places).filter(|p| p.1.count > 0), |h| named(h).1)?;
        ctx.out.done(&FOUND)?;
        ctx.out.note("")?;
    }
    ctx.out.open(&LEAKED)?;
    let mut types: BTreeMap<Arc<str>, Tally> = BTreeMap::new();
    let mut objects: Vec<(u64, u64)> = Vec::new();
    for (h, _) in handles.iter().zip(&places).filter(|p| p.1.count == 0) {
        let (size, name) = named(h);
        ctx.out.row(&[
            Cell::Addr(h.address),
            Cell::text(h.kind.name()),
            Cell::Addr(h.object),
            size.map_or(Cell::None, Cell::Num),
            Cell::maybe(name.as_deref()),
        ])?;
        types.entry(name.unwrap_or_else(|| "?".into())).or_default().add(size.unwrap_or(0));
        objects.push((h.object, size.unwrap_or(0)));
    }
    ctx.out.done(&LEAKED)?;
    let count = objects.len() as u64;
    objects.sort_unstable();
    objects.dedup();
    let bytes: u64 = objects.iter().map(|o| o.1).sum();
    by_type(ctx, types)?;
    let of = thousands(handles.len() as u64);
    let facts =
        [("handles", Cell::Num(handles.len() as u64)), ("not_found", Cell::Num(count)), ("bytes", Cell::Num(bytes))];
    let line =
        format!("{} of {of} handles found nowhere; their objects have {} bytes", thousands(count), thousands(bytes));
    ctx.out.facts(&facts, line)?;
    ctx.out.fact("searched", Cell::Num(searched), format!("{} bytes looked through", thousands(searched)))?;
    let missing = session.missing().other;
    ctx.out.datum("memory_missing", &Cell::Num(missing));
    Ok(match &all.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if missing > 0 => Outcome::Partial(format!(
            "{} bytes of memory are not in the dump: handles may stand there, those of the runtime itself above all",
            thousands(missing)
        )),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// Lists the handles that were found.
fn found<'h>(
    ctx: &mut Ctx<'_>,
    session: &Session,
    all: impl Iterator<Item = (&'h Handle, &'h Places)>,
    named: impl Fn(&Handle) -> Option<Arc<str>>,
) -> Result<()> {
    let ranges = classify(session.dump(), &session.managed_ranges()?);
    let usage = |at: u64| {
        let i = ranges.partition_point(|r: &UsageRange| r.end <= at);
        ranges.get(i).filter(|r| r.start <= at).map_or(word::UNKNOWN, |r| r.usage)
    };
    ctx.out.open(&FOUND)?;
    for (h, p) in all {
        let name = named(h);
        ctx.out.row(&[
            Cell::Addr(h.address),
            Cell::text(h.kind.name()),
            Cell::Sep(p.count),
            Cell::Addr(p.first),
            Cell::text(usage(p.first)),
            Cell::Addr(h.object),
            Cell::maybe(name.as_deref()),
        ])?;
    }
    Ok(())
}

/// Lists the types of the objects, those with most bytes last.
fn by_type(ctx: &mut Ctx<'_>, types: BTreeMap<Arc<str>, Tally>) -> Result<()> {
    let mut types: Vec<(Arc<str>, Tally)> = types.into_iter().collect();
    types.sort_by_key(|(_, t)| (t.bytes, t.count));
    ctx.out.note("")?;
    ctx.out.open(&TYPES)?;
    for (name, t) in &types {
        ctx.out.row(&[Cell::Sep(t.count), Cell::Sep(t.bytes), Cell::text(&**name)])?;
    }
    ctx.out.done(&TYPES)?;
    ctx.out.note("")?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dump::map::FileMap;
    use crate::dump::space::{PART, SpaceBuilder};

    #[test]
    fn words_are_found_across_chunks_and_pieces_and_with_their_tag() {
        let handle = |address| Handle { address, kind: HandleKind::PINNED, object: 8, dependent: 0, extra: 0 };
        let handles = [handle(0x9000), handle(0x9008), handle(0x9010)];
        let size = 3 * PART as usize;
        let mut bytes = vec![0u8; size];
        // The last word of a chunk, the first of the next, one with its tag, one that stands across two words.
        for (at, word) in [(PART as usize - 8, 0x9000u64), (PART as usize, 0x9000), (64, 0x9009), (132, 0x9010)] {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let mut builder = SpaceBuilder::new(8);
        let source = builder.source(FileMap::owned(bytes));
        // Two pieces, the second begins inside a word.
        builder.add(0, source, 0, 20);
        builder.add(20, source, 20, size as u64 - 20);
        let space = builder.build().0;
        let sought = Sought::new(&handles, &space);
        let mut hits = Vec::new();
        space.parts(0, u64::MAX).for_each(|p| sought.search(&space, p, |n, at| hits.push((n, at))));
        hits.sort_unstable();
        assert_eq!(hits, [(0, PART - 8), (0, PART), (1, 64)]);
    }
}
