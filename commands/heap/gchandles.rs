//! `!gchandles`: the handle table.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::table::wide_statistics;
use crate::clr::Clr;
use crate::clr::runtime::handles::{Handle, HandleKind};
use crate::heap::stat::TypeTallies;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!gchandles`.
pub const GCHANDLES: Command = Command {
    name: "gchandles",
    prefix: Prefix::Bang,
    aliases: &[],
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
    returns: Returns::NOTHING,
    run,
};

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
        const COLUMNS: &[Col] = &[
            Col::right("Handle", "handle", 16),
            Col::left("Type", "kind", 11),
            Col::right("Object", "object", 16),
            Col::right("Size", "size", 8),
            Col::right("Data", "data", 16),
            Col::left("Type", "type", 0),
        ];
        ctx.out.table("handles", COLUMNS, true)?;
        for h in &handles {
            let o = walker.object_at(h.object);
            let data = match (h.kind, h.extra) {
                (HandleKind::DEPENDENT, _) => Cell::AddrUpper(h.dependent, 16),
                (_, 0) => Cell::None,
                (_, extra) => Cell::AddrUpper(extra, 16),
            };
            let name = o.as_ref().map(|o| clr.type_name_long(o.ty.mt.address).to_string()).unwrap_or_default();
            ctx.out.row(&[
                Cell::AddrUpper(h.address, 16),
                // The column has room for 11 letters.
                Cell::text(if h.kind.0 == 10 { "WeakInterio" } else { h.kind.name() }),
                Cell::AddrUpper(h.object, 16),
                Cell::Num(o.as_ref().map_or(0, |o| o.size)),
                data,
                Cell::text(name),
            ])?;
        }
        ctx.out.line("")?;
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
    ctx.out.line(format!("Total {} objects", handles.len()))?;
    if !args.has("type") {
        by_kind(ctx, kinds)?;
    }
    Ok(match &all.partial {
        Some(why) => Outcome::Partial(why.clone()),
        None if handles.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

fn by_kind(ctx: &mut Ctx<'_>, mut kinds: BTreeMap<u8, u64>) -> Result<()> {
    ctx.out.line("")?;
    ctx.out.line("Handles:")?;
    for (n, name) in KINDS {
        if let Some(count) = kinds.remove(n) {
            ctx.out.line(format!("    {:<22}{count}", format!("{name}:")))?;
        }
    }
    let other: u64 = kinds.values().sum();
    if other > 0 {
        ctx.out.line(format!("    {:<22}{other}", "Other Handles:"))?;
    }
    Ok(())
}
