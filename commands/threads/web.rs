//! `!dumprequests`, `!dumphttp`: requests of HTTP, those that are served and those that were sent.

mod incoming;
mod outgoing;
mod work;

use anyhow::Result;
use rustc_hash::FxHashMap;

pub use self::incoming::DUMPREQUESTS;
pub use self::outgoing::DUMPHTTP;
use self::work::Work;
use crate::clr::Clr;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::{Cell, Col, Out, Table, Type};

/// Longest text of a request shown, in UTF-16 units; data has it whole.
const SHOWN: usize = 200;

const THREAD: Col = Col::right("Thread", "thread", 8).of(Type::Hex);
const ASYNC: Col = Col::right("Async", "async", 16).of(Type::Address);
const AGE: Col = Col::right("Age", "age", 8).of(Type::Number).unit("ms");

/// The async methods a request is in, from the one that waits to the one that began.
const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("address", Type::Address).titled("the request"),
        Col::data("depth", Type::Count).titled("0 for the method that waits, then what continues it"),
        Col::data("object", Type::Address).titled("box of the state machine, or continuation"),
        Col::data("type", Type::TypeName).titled("type of the state machine, or the method of runtime-async"),
    ],
)
.under("requests", "address");

/// Objects of the types that `wanted` finds by name, by address.
fn objects(session: &Session, wanted: impl Fn(&Clr, u64) -> bool + Sync) -> Result<(Vec<u64>, Option<String>)> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    session.watch.progress.start("looking for requests", walker.heap.allocated());
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| (Vec::new(), FxHashMap::default()),
        |(found, types): &mut (Vec<u64>, FxHashMap<u32, bool>), _, o| {
            if *types.entry(o.ty.id).or_insert_with(|| !o.ty.is_free && wanted(clr, o.ty.mt.address)) {
                found.push(o.address);
            }
        },
    )?;
    session.watch.progress.finish();
    Ok((parts.into_iter().flat_map(|p| p.0).collect(), report.sentence()))
}

/// Whether the class `mt`, or one it inherits from, is one of these, whatever its type arguments.
fn is_class(clr: &Clr, mt: u64, classes: &[&str]) -> bool {
    clr.class_chain(mt).any(|c| classes.contains(&clr.type_name(c.address).split('<').next().unwrap_or("")))
}

/// The text of a string field.
fn text(session: &Session, v: &Value<'_>, names: &[&str]) -> Option<String> {
    string(session, v.pointer(names)?)
}

/// The text of the string at `address`.
fn string(session: &Session, address: u64) -> Option<String> {
    let clr = session.clr().ok()?;
    if clr.object_type(address)? != clr.known.string {
        return None;
    }
    clr.string_at(address, usize::MAX).map(|t| t.1)
}

/// A cell of text that may be long.
fn long(text: Option<String>) -> Cell<'static> {
    match text {
        Some(t) => match t.char_indices().nth(SHOWN) {
            Some((end, _)) => Cell::shown(format!("{}...", t.get(..end).unwrap_or(&t)), Cell::text(t.clone())),
            None => Cell::text(t),
        },
        None => Cell::None,
    }
}

/// Prints the async methods of requests, where a request is in some.
fn frames(
    out: &mut Out,
    work: &Work<'_>,
    requests: impl Iterator<Item = (u64, Option<u32>)>,
    shown: bool,
) -> Result<()> {
    for (address, innermost) in requests {
        for (depth, node) in work.chain(innermost).enumerate() {
            let cells =
                [Cell::Addr(address), Cell::Num(depth as u64), Cell::Addr(node.address), Cell::text(&*node.name)];
            if !shown {
                out.data_row(&FRAMES, &cells)?;
                continue;
            }
            if depth == 0 {
                out.facts(&[], format!("\n{address:x}"))?;
            }
            let line = format!("    {:x} {}", node.address, node.name);
            out.row_as(&FRAMES, &cells, line)?;
        }
    }
    Ok(())
}
