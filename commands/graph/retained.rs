//! `!retained`: what would be freed with an object, or with all objects of a type, assembly or namespace.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::dominators::{self, UNREACHED};
use super::empty;
use crate::clr::types::typename::TypeName;
use crate::heap::TypeInfo;
use crate::heap::retained::GroupSize;
use crate::heap::stat::Tally;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!retained [ADDR]`.
pub const RETAINED: Command = Command {
    name: "retained",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "bytes that would be freed with an object, or with all objects of a type",
    help: "An object retains its own bytes and those of everything that only it keeps alive.\n\n\
           Without an address: live objects by type, the type that retains most last. An object below another of its own \
           type is part of that one's bytes, so nothing counts twice within a row; rows overlap, since what an object \
           retains is counted again for its own type. -assembly and -namespace add up by where types are defined (arrays \
           by their element).\n\n\
           With an address: what that object retains, and the objects that dominate it: each of them going would free it. \
           !objsize counts everything reachable instead, shared or not.\n\n\
           Where a stack cannot be walked it is scanned conservatively, so an object may count as shared with a stale slot.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "one object"),
        Arg::flag("assembly", "by assembly").or(&["module"]),
        Arg::flag("namespace", "by namespace"),
        Arg::opt(
            "top",
            Kind::Count,
            "only so many rows: the biggest, or the nearest (50 without this option); 0 for all",
        ),
    ],
    examples: &[
        Example { line: "!retained -top 10", what: "the types that keep most alive" },
        Example { line: "!retained -namespace", what: "which part of the program it is" },
        Example { line: "!retained $OBJECT", what: "what would go with one object" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("objects", "live objects counted", Type::Count),
        Fact::new("bytes", "their bytes", Type::Bytes),
        Fact::new("address", "the object asked for", Type::Address),
        Fact::new("type", "its type", Type::TypeName),
        Fact::new("rooted", "whether a root reaches it", Type::Bool),
        Fact::new("size", "its own bytes", Type::Bytes),
        Fact::new("retained_bytes", "bytes it retains", Type::Bytes),
        Fact::new("retained_objects", "objects it retains, itself included", Type::Count),
        Fact::new("more", "objects of the chain left out", Type::Count),
        Fact::new("head", "the last object of the whole chain", Type::Address),
        Fact::new("head_roots", "roots that hold that one", Type::Count),
    ])
    .and(&[&TYPES, &ASSEMBLIES, &NAMESPACES, &DOMINATORS]),
    run,
};

const COUNT: Col = Col::right("Count", "count", 0).of(Type::Count);
const SIZE: Col = Col::right("Size", "size", 0).of(Type::Bytes);
const RETAINED_BYTES: Col = Col::right("Retained", "retained", 0).of(Type::Bytes);

/// What is retained, by type.
const TYPES: Table = Table::new(
    "retained",
    &[
        Col::right("MT", "method_table", 0).of(Type::Address),
        COUNT,
        SIZE,
        RETAINED_BYTES,
        Col::left("Class Name", "class_name", 0).of(Type::TypeName),
    ],
)
.rising("retained");

/// By assembly.
const ASSEMBLIES: Table =
    Table::new("retained", &[COUNT, SIZE, RETAINED_BYTES, Col::left("Assembly", "assembly", 0)]).rising("retained");

/// By namespace: that of types that are in none is empty.
const NAMESPACES: Table =
    Table::new("retained", &[COUNT, SIZE, RETAINED_BYTES, Col::left("Namespace", "namespace", 0)]).rising("retained");

/// The object asked for and what dominates it, the nearest first.
const DOMINATORS: Table = Table::new("chain", dominators::COLUMNS);

/// What stands in place of the name of an assembly or namespace that is not known.
const UNKNOWN: &str = "<unknown>";
/// What stands in place of the name of the namespace outside of all.
const GLOBAL: &str = "<global>";

/// Dominators of one object shown without `-top`.
const CHAIN: usize = 50;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let top = args.number("top").map(|n| if n == 0 { usize::MAX } else { usize::try_from(n).unwrap_or(usize::MAX) });
    let (assembly, namespace) = (args.has("assembly"), args.has("namespace"));
    if assembly && namespace {
        bail!("either -assembly or -namespace");
    }
    if let Some(address) = args.number("ADDR") {
        if assembly || namespace {
            bail!("-assembly and -namespace are for all objects, not for one");
        }
        return one(ctx, session, address, top.unwrap_or(CHAIN));
    }
    let top = top.unwrap_or(usize::MAX);
    let total = if assembly {
        by_name(session, ctx.out, &ASSEMBLIES, top, |t| assembly_of(t).into())?
    } else if namespace {
        by_name(session, ctx.out, &NAMESPACES, top, |t| namespace_of(t).into())?
    } else {
        by_type(session, ctx.out, top)?
    };
    crate::commands::heap::table::total(ctx.out, total)?;
    if total.count == 0 { empty(session) } else { super::outcome(session) }
}

/// Every live object is in one row.
fn total<'a>(sizes: impl IntoIterator<Item = &'a GroupSize>) -> Tally {
    let add = |t: Tally, s: &GroupSize| Tally { count: t.count + s.count, bytes: t.bytes.saturating_add(s.own) };
    sizes.into_iter().fold(Tally::default(), add)
}

/// Sorts by retained bytes, the biggest last, and keeps the `top` last.
fn keep_biggest<T>(rows: &mut Vec<(T, GroupSize)>, top: usize) {
    rows.retain(|r| r.1.count > 0);
    rows.sort_by_key(|r| (r.1.retained, r.1.own, r.1.count));
    rows.drain(..rows.len().saturating_sub(top));
}

fn cells<'a>(size: &GroupSize) -> [Cell<'a>; 3] {
    [Cell::Sep(size.count), Cell::Sep(size.own), Cell::Sep(size.retained)]
}

fn by_type(session: &Session, out: &mut Out, top: usize) -> Result<Tally> {
    let clr = session.clr()?;
    let sizes = session.retained_by_type()?;
    let mut rows: Vec<(Arc<TypeInfo>, GroupSize)> =
        session.types().all().into_iter().zip(sizes.iter().copied()).collect();
    // Types are numbered as they are met: what weighs the same stands in the order of MethodTables.
    rows.sort_by_key(|r| r.0.mt.address);
    keep_biggest(&mut rows, top);
    let cells = rows.iter().map(|(ty, size)| {
        let [count, own, retained] = cells(size);
        let mt = ty.mt.address;
        [Cell::Addr(mt), count, own, retained, Cell::text(clr.type_name(mt).to_string())]
    });
    out.fill(&TYPES, cells)?;
    Ok(total(sizes))
}

fn by_name(
    session: &Session,
    out: &mut Out,
    table: &Table,
    top: usize,
    name: impl Fn(&TypeName) -> String,
) -> Result<Tally> {
    let clr = session.clr()?;
    let retained = session.dominators()?;
    let types = session.live_types()?;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let group_of: Vec<u32> = session
        .types()
        .all()
        .iter()
        .map(|t| {
            let next = numbers.len() as u32;
            *numbers.entry(name(&clr.type_tree(t.mt.address))).or_insert(next)
        })
        .collect();
    let group = |p: u32| group_of.get(*types.get(p as usize)? as usize).copied();
    let sizes = retained.by_group(group, numbers.len(), &session.watch)?;
    let mut rows: Vec<(String, GroupSize)> =
        numbers.into_iter().filter_map(|(n, i)| Some((n, *sizes.get(i as usize)?))).collect();
    // What weighs the same stands in the order of names.
    rows.sort_by(|a, b| b.0.cmp(&a.0));
    keep_biggest(&mut rows, top);
    let cells = rows.iter().map(|(name, size)| {
        let [count, own, retained] = cells(size);
        let name = match name.as_str() {
            UNKNOWN => Cell::shown(UNKNOWN, Cell::None),
            GLOBAL => Cell::shown(GLOBAL, Cell::text("")),
            name => Cell::text(name),
        };
        [count, own, retained, name]
    });
    out.fill(table, cells)?;
    Ok(total(&sizes))
}

/// The type an array or pointer is made of in the end.
fn element(ty: &TypeName) -> &TypeName {
    let mut at = ty;
    while let TypeName::SzArray(of) | TypeName::MdArray(of, _) | TypeName::Pointer(of) | TypeName::ByRef(of) = at {
        at = of;
    }
    at
}

fn assembly_of(ty: &TypeName) -> &str {
    match element(ty) {
        TypeName::Named(n) if !n.assembly.is_empty() => &n.assembly,
        TypeName::Missing { module, .. } => module,
        _ => UNKNOWN,
    }
}

fn namespace_of(ty: &TypeName) -> &str {
    match element(ty) {
        // The outermost type carries the namespace of those nested in it.
        TypeName::Named(n) => {
            let outer = n.name.split('+').next().unwrap_or("");
            outer.rsplit_once('.').map_or(GLOBAL, |(namespace, _)| namespace)
        }
        _ => UNKNOWN,
    }
}

fn one(ctx: &mut Ctx<'_>, session: &Session, address: u64, top: usize) -> Result<Outcome> {
    let id = super::id_of(session, address)?;
    let name = session.object_name(address);
    let retained = session.dominators()?;
    let facts = [("address", Cell::Addr(address)), ("type", Cell::text(&*name))];
    ctx.out.facts(&facts, format!("{address:x} ({name})"))?;
    let Some(position) = retained.tree.position(id) else {
        ctx.out.fact("rooted", Cell::Bool(false), UNREACHED)?;
        return Ok(Outcome::Empty);
    };
    ctx.out.datum("rooted", &Cell::Bool(true));
    let own = retained.weights.own(position);
    ctx.out.fact("size", Cell::Num(own), format!("Size:     {} bytes", thousands(own)))?;
    let (bytes, objects) = (retained.bytes(position), retained.objects(position));
    ctx.out.facts(
        &[("retained_bytes", Cell::Num(bytes)), ("retained_objects", Cell::Num(objects))],
        format!("Retained: {} bytes in {} objects", thousands(bytes), thousands(objects)),
    )?;
    ctx.out.note("")?;
    let chain: Vec<u32> = retained.tree.chain(position).collect();
    ctx.out.note("The object and what dominates it, the nearest first:")?;
    let shown = chain.get(..top.min(chain.len())).unwrap_or(&chain);
    dominators::table(session, ctx.out, &DOMINATORS, retained, shown)?;
    if chain.len() > top {
        let more = (chain.len() - top) as u64;
        ctx.out.fact("more", Cell::Num(more), format!("{} more", thousands(more)))?;
    }
    let head =
        chain.last().and_then(|&p| retained.tree.node(p)).and_then(|id| session.index().ok()?.ids.address_of(id));
    if let Some(head) = head {
        let direct = session.roots()?.items.iter().filter(|r| r.object == head).count();
        let line = match direct {
            0 => format!("{head:x} is reached over several ways that share no object; !gcroot {head:x} shows them."),
            1 => format!("{head:x} is held by a root; !gcroot {head:x} names it."),
            n => format!("{head:x} is held by {n} roots; !gcroot {head:x} names them."),
        };
        ctx.out.facts(&[("head", Cell::Addr(head)), ("head_roots", Cell::Num(direct as u64))], line)?;
    }
    super::outcome(session)
}
