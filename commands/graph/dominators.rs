//! `!dominators`: the dominator tree, level by level.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::Result;
use rustc_hash::FxHashSet;

use crate::commands::heap::gcroot::static_between;
use crate::heap::retained::Retained;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!dominators [ADDR]`.
pub const DOMINATORS: Command = Command {
    name: "dominators",
    prefix: Prefix::Bang,
    aliases: &["dom"],
    group: Group::Heap,
    summary: "which objects keep most alive, level by level",
    help: "An object dominates another when every way from the roots to the other leads through it: with it the other would \
           go. What an object dominates, itself included, is what it retains.\n\n\
           Without an address: the objects at the top of that tree, those no single other object keeps alive, the biggest \
           first; in place of the arrays in which the runtime keeps static fields, what the fields hold, by name. With an address: what hangs directly below that object. Go on with the address of a row. An object that \
           several others share stands below the nearest one that keeps all of them alive.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "what hangs below this object"),
        Arg::opt("top", Kind::Count, "so many rows, 20 without this option; 0 for all"),
    ],
    examples: &[
        Example { line: "!dominators", what: "what the heap hangs on" },
        Example { line: "!dominators $OBJECT -top 5", what: "where the bytes of one object are" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("objects", "objects below, in all", Type::Count),
        Fact::new("bytes", "their bytes", Type::Bytes),
        Fact::new("more", "rows left out", Type::Count),
        Fact::new("more_bytes", "bytes they retain", Type::Bytes),
    ])
    .and(&[&BELOW]),
    run,
};

/// Objects directly below one, the biggest first.
const BELOW: Table = Table::new("dominators", COLUMNS);

/// Columns of objects in the tree.
pub const COLUMNS: &[Col] = &[
    Col::right("Address", "address", 0).of(Type::Address),
    Col::right("MT", "method_table", 0).of(Type::Address),
    Col::right("Retained", "retained", 0).of(Type::Bytes),
    Col::right("Objects", "objects", 0).of(Type::Count),
    Col::right("Size", "size", 0).of(Type::Bytes),
    Col::left("Class Name", "class_name", 0).of(Type::TypeName),
    Col::data("variable", Type::Text).titled("the static variable that holds it"),
];

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let id = args.number("ADDR").map(|a| super::id_of(session, a)).transpose()?;
    let retained = session.dominators()?;
    let Some(position) = id.map_or(Some(0), |id| retained.tree.position(id)) else {
        ctx.out.note(UNREACHED)?;
        return Ok(Outcome::Empty);
    };
    let top = match args.number("top") {
        None => 20,
        Some(0) => usize::MAX,
        Some(n) => usize::try_from(n).unwrap_or(usize::MAX),
    };
    // The runtime's arrays of statics say nothing of the program: what they hold does.
    let open = if position == 0 { statics_arrays(session, retained)? } else { FxHashSet::default() };
    let (biggest, count) = children(session, retained, position, &open, top)?;
    if count == 0 {
        ctx.out.note(match id {
            Some(_) => "Nothing hangs on this object alone.",
            None => "No root reaches an object of this heap.",
        })?;
        return super::empty(session);
    }
    table(session, ctx.out, &BELOW, retained, &biggest)?;
    let all = retained.bytes(position).saturating_sub(retained.weights.own(position));
    let shown: u64 = biggest.iter().map(|&p| retained.bytes(p)).sum();
    let rest = count - biggest.len();
    if rest > 0 {
        let bytes = all.saturating_sub(shown);
        let facts = [("more", Cell::Num(rest as u64)), ("more_bytes", Cell::Num(bytes))];
        ctx.out.facts(&facts, format!("{} more, {} bytes", thousands(rest as u64), thousands(bytes)))?;
    }
    let objects = retained.objects(position).saturating_sub(1);
    let facts = [("objects", Cell::Num(objects)), ("bytes", Cell::Num(all))];
    ctx.out.facts(&facts, format!("Total {} objects, {} bytes", thousands(objects), thousands(all)))?;
    super::outcome(session)
}

/// What to say of an object that is dead.
pub const UNREACHED: &str = "No root reaches this object: nothing keeps it alive, and it is not in the tree.";

/// Positions of the arrays that hold static fields, all of them at the top of the tree.
pub fn statics_arrays(session: &Session, retained: &Retained) -> Result<FxHashSet<u32>> {
    let (walker, index) = (session.walker()?, session.index()?);
    let at = |slot: u64| {
        let object = index.object_containing(&walker, walker.heap, slot)?;
        retained.tree.position(index.ids.id_of(object)?)
    };
    Ok(session.static_slots()?.iter().filter_map(|s| at(s.0)).collect())
}

/// The `top` biggest children of `position`, the biggest first, and how many there are. Those in `open` are replaced by
/// their children.
fn children(
    session: &Session,
    retained: &Retained,
    position: u32,
    open: &FxHashSet<u32>,
    top: usize,
) -> Result<(Vec<u32>, usize)> {
    let mut heap = BinaryHeap::new();
    let mut count = 0usize;
    let tree = &retained.tree;
    let opened = open.iter().filter(|&&p| tree.parent(p) == Some(position)).flat_map(|&p| tree.children(p));
    let others = tree.children(position).filter(|p| !open.contains(p));
    for child in others.chain(opened) {
        if count.is_multiple_of(1 << 14) {
            session.watch.cancel.check()?;
        }
        count += 1;
        let key = Reverse((retained.bytes(child), Reverse(child)));
        if heap.len() < top {
            heap.push(key);
        } else if heap.peek().is_some_and(|least| key < *least) {
            heap.pop();
            heap.push(key);
        }
    }
    Ok((heap.into_sorted_vec().into_iter().map(|Reverse((_, Reverse(p)))| p).collect(), count))
}

/// Prints objects of the tree, given by position, as a table of [`COLUMNS`].
pub fn table(session: &Session, out: &mut Out, table: &Table, retained: &Retained, positions: &[u32]) -> Result<()> {
    let (clr, ids) = (session.clr()?, &session.index()?.ids);
    let mut rows = Vec::with_capacity(positions.len());
    for &p in positions {
        let Some(address) = retained.tree.node(p).and_then(|id| ids.address_of(id)) else { continue };
        let mt = clr.object_type(address).unwrap_or(0);
        let name = session.object_name(address).to_string();
        let above = retained.tree.parent(p).and_then(|q| ids.address_of(retained.tree.node(q)?));
        let variable = above.and_then(|a| static_between(session, clr, a, address));
        let name = match &variable {
            Some(v) => Cell::shown(format!("{name} (static variable: {v})"), Cell::text(name)),
            None => Cell::text(name),
        };
        rows.push([
            Cell::Addr(address),
            Cell::Addr(mt),
            Cell::Sep(retained.bytes(p)),
            Cell::Sep(retained.objects(p)),
            Cell::Sep(retained.weights.own(p)),
            name,
            Cell::maybe(variable),
        ]);
    }
    Ok(out.fill(table, &rows)?)
}
