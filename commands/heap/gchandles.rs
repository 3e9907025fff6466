//! `!gchandles`: the handle table.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::table::{self, wide_statistics};
use crate::clr::Clr;
use crate::clr::runtime::handles::{Handle, HandleKind};
use crate::heap::stat::TypeTallies;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!gchandles`.
pub const GCHANDLES: Command = Command {
    name: "gchandles",
    prefix: Prefix::Bang,
    aliases: &["gch", "wgchandles"],
    group: Group::Heap,
    summary: "GC handles by kind, with the objects they hold",
    help: "Every handle in use: address, kind, object, size, the secondary object of a dependent \
           handle or the address a weak interior handle stands for, type. Then the \
           types of the objects and how many handles of each kind there are. -stat leaves the first table out; -type \
           keeps one kind.",
    args: &[
        Arg::flag("stat", "no list of handles").or(&["summary"]),
        Arg::opt("type", Kind::Text, "only this kind: Strong, Pinned, WeakShort, WeakLong, Dependent, ...")
            .words(HandleKind::NAMES),
        Arg::flag("perdomain", "accepted: there is one app domain"),
        Arg::flag("d", "accepted; no effect"),
    ],
    examples: &[Example { line: "!gchandles -type Pinned", what: "what is pinned" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("handles", "handles listed or counted", Type::Count),
        Fact::new("other_handles", "handles of kinds that have no name", Type::Count),
    ])
    .and(&[&HANDLES, &BY_KIND])
    .with(&[&table::WIDE_RETURNS]),
    run,
};

const HANDLES: Table = Table::new(
    "handles",
    &[
        Col::right("Handle", "handle", 16).of(Type::Address),
        Col::left("Type", "kind", 11),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::right("Size", "size", 8).of(Type::Bytes),
        Col::right("Data", "data", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);

/// How many handles there are of each kind.
const BY_KIND: Table = Table::new(
    "kinds",
    &[
        Col::data("kind", Type::Text).titled("as the list of handles has it"),
        Col::data("count", Type::Count).titled("handles of it"),
    ],
);

const KINDS: &[(u8, &str)] = &[
    (2, "Strong Handles"),
    (3, "Pinned Handles"),
    (7, "Async Pinned Handles"),
    (5, "Ref Count Handles"),
    (1, "Weak Long Handles"),
    (0, "Weak Short Handles"),
    (9, "Weak WinRT Handles"),
    (4, "Variable Handles"),
    (8, "SizedRef Handles"),
    (6, "Dependent Handles"),
    (10, "Weak Interior Pointer"),
];

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let all = clr.handles();
    let kind = args.text("type");
    if let Some(k) = kind
        && !(0..12).any(|n| HandleKind(n).name().eq_ignore_ascii_case(k))
    {
        bail!("no handle kind `{k}`; there are {}", HandleKind::NAMES.join(", "));
    }
    let handles: Vec<&Handle> =
        all.items.iter().filter(|h| kind.is_none_or(|k| h.kind.name().eq_ignore_ascii_case(k))).collect();
    let walker = session.walker()?;
    if !args.has("stat") {
        ctx.out.open(&HANDLES)?;
        for h in &handles {
            let o = walker.object_at(h.object);
            let data = match (h.kind, h.extra) {
                (HandleKind::DEPENDENT, _) => Cell::AddrUpper(h.dependent, 16),
                (_, 0) => Cell::None,
                (_, extra) => Cell::AddrUpper(extra, 16),
            };
            let name = o.as_ref().map(|o| clr.type_name_long(o.ty.mt.address));
            ctx.out.row(&[
                Cell::AddrUpper(h.address, 16),
                kind_cell(h.kind),
                Cell::AddrUpper(h.object, 16),
                Cell::Num(o.as_ref().map_or(0, |o| o.size)),
                data,
                Cell::maybe(name.as_deref()),
            ])?;
        }
        ctx.out.done(&HANDLES)?;
        ctx.out.note("")?;
    }
    let mut tallies = TypeTallies::default();
    let mut kinds: BTreeMap<u8, u64> = BTreeMap::new();
    for h in &handles {
        *kinds.entry(h.kind.0).or_default() += 1;
        if let Some(o) = walker.object_at(h.object) {
            tallies.add(o.ty.id, o.size);
        }
    }
    wide_statistics(session, ctx.out, &tallies, Clr::type_name_long)?;
    let count = handles.len();
    ctx.out.fact("handles", Cell::Num(count as u64), format!("Total {count} objects"))?;
    if !args.has("type") {
        by_kind(ctx, kinds)?;
    }
    Ok(match &all.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if handles.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The kind of a handle; weak interior pointers have a number for their name, and in text there is room for 11 letters.
fn kind_cell(kind: HandleKind) -> Cell<'static> {
    if kind.0 == 10 { Cell::shown("WeakInterio", Cell::text("WeakInterior")) } else { Cell::text(kind.name()) }
}

fn by_kind(ctx: &mut Ctx<'_>, mut kinds: BTreeMap<u8, u64>) -> Result<()> {
    ctx.out.note("")?;
    ctx.out.note("Handles:")?;
    for (n, name) in KINDS {
        if let Some(count) = kinds.remove(n) {
            let cells = [kind_cell(HandleKind(*n)), Cell::Num(count)];
            ctx.out.row_as(&BY_KIND, &cells, format!("    {:<22}{count}", format!("{name}:")))?;
        }
    }
    let other: u64 = kinds.values().sum();
    if other > 0 {
        let line = format!("    {:<22}{other}", "Other Handles:");
        ctx.out.fact("other_handles", Cell::Num(other), line)?;
        for (n, count) in kinds {
            ctx.out.data_row(&BY_KIND, &[kind_cell(HandleKind(n)), Cell::Num(count)])?;
        }
    }
    Ok(())
}
