//! `!gctonative`: pointers of objects to native memory. `!findpointersin`: pointers of native memory to objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::maddress;
use super::usage::classify;
use crate::clr::Clr;
use crate::heap::{Object, TypeInfo};
use crate::session::Session;
use crate::session::nativeowners::each_word;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!gctonative KINDS`.
pub const GCTONATIVE: Command = Command {
    name: "gctonative",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "objects that point to native memory of these kinds, by type and field",
    help: "KINDS are those of !maddress, joined by commas or blanks: Heap, Stack, Image, PAGE_READWRITE, ... Every word of every \
           object counts; words that point into a block in use of a native heap have the bytes of their blocks, each block \
           once. -all lists every pointer. !heap -owners is the same for all native heaps.",
    args: &[Arg::pos("KINDS", Kind::Text, "kinds of memory").required().many(), Arg::flag("all", "every pointer")],
    examples: &[Example { line: "!gctonative Heap", what: "which types point into native heaps" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("pointers", "pointers found", Type::Count)]).and(&[&TYPES, &POINTERS]),
    run: gctonative,
};

/// `!findpointersin KINDS`.
pub const FINDPOINTERSIN: Command = Command {
    name: "findpointersin",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "pointers to objects in memory of these kinds, by the type pointed to",
    help: "KINDS are those of !maddress, joined by commas or blanks: Heap, Stack, Image, PAGE_READWRITE, ... A word counts that is \
           the address of an object, or of a handle's slot. -all lists every pointer. Words may be stale.",
    args: &[Arg::pos("KINDS", Kind::Text, "kinds of memory").required().many(), Arg::flag("all", "every pointer")],
    examples: &[Example { line: "!findpointersin Heap", what: "which objects native heaps know" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("pointers", "pointers found", Type::Count)]).and(&[&TARGETS, &FOUND]),
    run: findpointersin,
};

const KIND: Col = Col::left("Memory Kind", "kind", 20);
const TYPES: Table = Table::new(
    "types",
    &[
        KIND,
        Col::right("Pointers", "pointers", 9).of(Type::Count),
        Col::right("Blocks", "blocks", 9).of(Type::Count),
        Col::right("Bytes", "bytes", 14).of(Type::Bytes),
        Col::left("Type", "type", 0).of(Type::TypeName),
        Col::left("Field", "field", 0).of(Type::FieldPath),
    ],
);
const POINTERS: Table = Table::new(
    "pointers",
    &[
        KIND,
        Col::right("Object", "object", 16).of(Type::Address),
        Col::right("Offset", "offset", 6).of(Type::Hex),
        Col::right("Pointer", "pointer", 16).of(Type::Address),
        Col::right("Block size", "bytes", 12).of(Type::Bytes),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);
const TARGETS: Table = Table::new(
    "targets",
    &[
        KIND,
        Col::left("What", "what", 7),
        Col::right("Pointers", "pointers", 9).of(Type::Count),
        Col::right("First", "place", 16).of(Type::Address),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);
const FOUND: Table = Table::new(
    "found",
    &[
        KIND,
        Col::left("What", "what", 7),
        Col::right("Place", "place", 16).of(Type::Address),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);

/// A range of the kinds asked for.
struct Chosen {
    start: u64,
    end: u64,
    kind: String,
}

/// The ranges of the kinds asked for, by address.
fn chosen(session: &Session, args: &Args) -> Result<Vec<Chosen>> {
    let text: Vec<&str> = args.texts("KINDS").collect();
    let wanted: Vec<&str> =
        text.iter().flat_map(|t| t.split([',', ' '])).map(str::trim).filter(|w| !w.is_empty()).collect();
    let dump = session.dump();
    let (mut out, mut kinds) = (Vec::new(), std::collections::BTreeSet::new());
    for r in classify(dump, &session.managed_ranges()?) {
        let Some(e) = dump.map.get(r.entry).filter(|e| e.state == crate::dump::MapState::Commit) else { continue };
        let kind = maddress::bare(&maddress::kind(dump, &r, e)).to_owned();
        if wanted.iter().any(|w| maddress::bare(w).eq_ignore_ascii_case(&kind)) {
            out.push(Chosen { start: r.start, end: r.end, kind });
        } else {
            kinds.insert(kind);
        }
    }
    if out.is_empty() {
        let known: Vec<String> = kinds.into_iter().collect();
        bail!("no memory of these kinds; there are: {}", known.join(", "));
    }
    Ok(out)
}

fn kind_at(ranges: &[Chosen], address: u64) -> Option<usize> {
    let i = ranges.partition_point(|r| r.end <= address);
    ranges.get(i).filter(|r| r.start <= address).map(|_| i)
}

/// A pointer of an object: range, object, offset, type, value.
type Pointer = (usize, u64, u64, u32, u64);

fn gctonative(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (clr, walker, ranges) = (session.clr()?, session.walker()?, chosen(session, args)?);
    let visit = |found: &mut Vec<Pointer>, _: &_, o: Object<'_>| {
        if !o.ty.is_free && !o.ty.is_string {
            each_word(&o, clr.space(), |offset, word| {
                found.extend(kind_at(&ranges, word).map(|i| (i, o.address, offset, o.ty.id, word)));
            });
        }
    };
    let (found, report) = walker.parallel(&walker.heap.segments, |_| Vec::new(), visit)?;
    let found: Vec<Pointer> = found.into_iter().flatten().collect();
    let blocks = &session.native_heaps()?.blocks;
    let block = |word: u64| blocks.holding(word).filter(|&i| blocks.get(i).is_some_and(|b| b.state().name() == "used"));
    let size = |i: usize| blocks.get(i).map_or(0, |b| b.size());
    let kind = |i: usize| ranges.get(i).map_or("", |r| r.kind.as_str());
    let ty = |id: u32| session.types().by_id(id);
    if args.has("all") {
        ctx.out.open(&POINTERS)?;
        for &(i, object, offset, id, word) in &found {
            session.watch.cancel.check()?;
            let name = ty(id).map(|t| clr.type_name(t.mt.address));
            let bytes = block(word).map_or(Cell::None, |b| Cell::Sep(size(b)));
            let cells = [Cell::text(kind(i)), Cell::Addr(object), Cell::Hex(offset), Cell::Addr(word), bytes];
            let [a, b, c, d, e] = cells;
            ctx.out.row(&[a, b, c, d, e, Cell::maybe(name.as_deref())])?;
        }
        ctx.out.done(&POINTERS)?;
    } else {
        by_type(ctx, &found, clr, &|i| kind(i), &|w| block(w), &|b| size(b))?;
    }
    let line = format!("{} pointers", thousands(found.len() as u64));
    ctx.out.fact("pointers", Cell::Num(found.len() as u64), line)?;
    Ok(match report.sentence() {
        Some(why) => Outcome::Partial(why),
        None if found.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The pointers added up by kind, type and field, the most bytes first.
fn by_type<'k>(
    ctx: &mut Ctx<'_>,
    found: &[Pointer],
    clr: &Clr,
    kind: &dyn Fn(usize) -> &'k str,
    block: &dyn Fn(u64) -> Option<usize>,
    size: &dyn Fn(usize) -> u64,
) -> Result<()> {
    let session = ctx.session()?;
    /// Type, pointers, blocks.
    type Sum = (Arc<TypeInfo>, u64, Vec<usize>);
    let mut groups: BTreeMap<(&str, u32, u64), Sum> = BTreeMap::new();
    for &(i, _, offset, id, word) in found {
        let Some(ty) = session.types().by_id(id) else { continue };
        let key = (kind(i), id, session.slot_key(clr, &ty, offset));
        let group = groups.entry(key).or_insert_with(|| (ty, 0, Vec::new()));
        group.1 += 1;
        group.2.extend(block(word));
    }
    let mut rows = Vec::with_capacity(groups.len());
    for ((kind, _, slot), (ty, pointers, mut blocks)) in groups {
        blocks.sort_unstable();
        blocks.dedup();
        let bytes: u64 = blocks.iter().map(|&b| size(b)).sum();
        let name = clr.type_name(ty.mt.address);
        rows.push((bytes, pointers, blocks.len() as u64, kind, name, session.slot_name(clr, &ty, slot)));
    }
    rows.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then_with(|| (&a.4, &a.5).cmp(&(&b.4, &b.5))));
    ctx.out.open(&TYPES)?;
    for (bytes, pointers, blocks, kind, name, field) in &rows {
        ctx.out.row(&[
            Cell::text(*kind),
            Cell::Sep(*pointers),
            Cell::Sep(*blocks),
            Cell::Sep(*bytes),
            Cell::text(&**name),
            Cell::text(&**field),
        ])?;
    }
    Ok(())
}

/// A pointer to an object: range, place, object, whether through a handle, MethodTable.
type Known = (usize, u64, u64, bool, u64);

/// The pointers to objects in the ranges, by range and place.
fn known(session: &Session, ranges: &[Chosen]) -> Result<Vec<Known>> {
    let clr = session.clr()?;
    let (space, ids) = (clr.space(), &session.index()?.ids);
    let mut slots: Vec<(u64, u64)> = clr.handles().items.iter().map(|h| (h.address, h.object)).collect();
    slots.sort_unstable();
    // Few words lie among the slots of handles: the others need no search.
    let (low, high) = slots.first().zip(slots.last()).map_or((1, 0), |(first, last)| (first.0, last.0));
    let handle = |word: u64| {
        let i = (low..=high).contains(&word).then(|| slots.binary_search_by_key(&word, |s| s.0).ok());
        slots.get(i.flatten()?).map(|s| s.1)
    };
    let parts = ranges.iter().enumerate().flat_map(|(i, r)| space.parts(r.start, r.end).map(move |p| (i, p)));
    let one = |(i, (start, end)): (usize, (u64, u64))| {
        session.watch.cancel.check()?;
        let mut last = 0;
        let pointer = |(at, word): (u64, u64)| {
            let (object, through) = match handle(word) {
                Some(object) => (object, true),
                None => (ids.id_near(word, &mut last).map(|_| word)?, false),
            };
            Some((i, at, object, through, clr.object_type(object).unwrap_or(0)))
        };
        Ok(space.words(start, end).filter_map(pointer).collect())
    };
    let found: Vec<Vec<Known>> = parts.collect::<Vec<_>>().into_par_iter().map(one).collect::<Result<_>>()?;
    Ok(found.concat())
}

fn findpointersin(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let ranges = chosen(session, args)?;
    let found = known(session, &ranges)?;
    let kind = |i: usize| ranges.get(i).map_or("", |r| r.kind.as_str());
    if args.has("all") {
        ctx.out.open(&FOUND)?;
        for &(i, at, object, through, _) in &found {
            session.watch.cancel.check()?;
            let name = session.object_name(object);
            ctx.out.row(&[
                Cell::text(kind(i)),
                what(through),
                Cell::Addr(at),
                Cell::Addr(object),
                Cell::text(&*name),
            ])?;
        }
        ctx.out.done(&FOUND)?;
    } else {
        by_target(ctx, &found, &kind)?;
    }
    let line = format!("{} pointers", thousands(found.len() as u64));
    ctx.out.fact("pointers", Cell::Num(found.len() as u64), line)?;
    Ok(if found.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

fn what(through: bool) -> Cell<'static> {
    Cell::text(if through { "handle" } else { "object" })
}

/// The pointers counted by kind of memory, way and type, the most first.
fn by_target<'k>(ctx: &mut Ctx<'_>, found: &[Known], kind: &dyn Fn(usize) -> &'k str) -> Result<()> {
    let session = ctx.session()?;
    /// Kind of memory, whether through a handle, type.
    type Key<'k> = (&'k str, bool, Arc<str>);
    /// Pointers, the place of the first, its object.
    type Sum = (u64, u64, u64);
    let mut of_types: FxHashMap<(usize, bool, u64), Sum> = FxHashMap::default();
    for &(i, at, object, through, mt) in found {
        of_types.entry((i, through, mt)).or_insert((0, at, object)).0 += 1;
    }
    let mut groups: BTreeMap<Key<'_>, Sum> = BTreeMap::new();
    let mut add = |(i, through, object): (usize, bool, u64), (count, at): (u64, u64)| {
        let group = groups.entry((kind(i), through, session.object_name(object))).or_insert((0, at, object));
        // Ranges and places rise, but not among types.
        (group.1, group.2) = (group.1, group.2).min((at, object));
        group.0 += count;
    };
    let (named, single): (Vec<_>, Vec<_>) = of_types.into_iter().partition(|g| session.is_named_by_type(g.0.2));
    for ((i, through, _), (count, at, object)) in named {
        add((i, through, object), (count, at));
    }
    let single: FxHashSet<u64> = single.into_iter().map(|g| g.0.2).collect();
    for &(i, at, object, through, _) in found.iter().filter(|f| single.contains(&f.4)) {
        session.watch.cancel.check()?;
        add((i, through, object), (1, at));
    }
    let mut rows: Vec<_> = groups.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    ctx.out.open(&TARGETS)?;
    for ((kind, through, name), (count, at, object)) in &rows {
        ctx.out.row(&[
            Cell::text(*kind),
            what(*through),
            Cell::Sep(*count),
            Cell::Addr(*at),
            Cell::Addr(*object),
            Cell::text(&**name),
        ])?;
    }
    Ok(())
}
