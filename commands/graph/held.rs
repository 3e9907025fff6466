//! What holds all objects of a type: `!gcroot -type` and `-mt`.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::types::typename::canonical;
use crate::heap::TypeInfo;
use crate::session::Session;
use crate::session::held::HeldPath;
use crate::shell::out::thousands;
use crate::shell::{Args, Cell, Col, Ctx, Fact, Out, Outcome, Returns, Table, Type};

/// Paths shown without `-limit`.
const MOST_PATHS: u64 = 20;
/// Steps shown of a path: so many of its beginning and of its end.
const MOST_STEPS: usize = 20;

/// Paths over which objects of a type are held.
const HELD: Table = Table::new(
    "held",
    &[
        Col::right("Path", "path", 0).of(Type::Count),
        Col::right("Count", "count", 0).of(Type::Count),
        Col::right("Size", "size", 0).of(Type::Bytes),
        Col::left("Example", "example", 0).of(Type::Address),
        Col::left("Held by", "held_by", 0),
    ],
);

/// The steps of a path.
const STEPS: Table = Table::new(
    "steps",
    &[
        Col::data("path", Type::Count).titled("number of the path"),
        Col::data("step", Type::Count).titled("number in the path"),
        Col::data("repeats", Type::Bool).titled("some objects are held over it more than once: lists, trees"),
        Col::data("type", Type::TypeName).titled("type of the object, or its method"),
        Col::data("slot", Type::FieldPath).titled("field of the object before that holds it"),
    ],
)
.under("held", "path");

/// What `!gcroot` returns for types.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("objects", "objects of the type that roots reach", Type::Count),
    Fact::new("bytes", "their own bytes", Type::Bytes),
    Fact::new("paths", "paths over which they are held", Type::Count),
    Fact::new("more_paths", "paths that are not shown", Type::Count),
    Fact::new("dead_objects", "objects of the type that no root reaches", Type::Count),
    Fact::new("dead_bytes", "their own bytes", Type::Bytes),
])
.and(&[&HELD, &STEPS]);

/// Runs `!gcroot` for types.
pub fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    // The walk that indexes the objects meets their types.
    session.index()?;
    let wanted = wanted(session, clr, args)?;
    let held = session.held(|t: &TypeInfo| wanted.binary_search(&t.id).is_ok())?;
    let nostacks = args.has("nostacks");
    let shown: Vec<&HeldPath> = held.paths.iter().filter(|p| !(nostacks && p.by_stack)).collect();
    let limit = match args.number("limit") {
        None => MOST_PATHS,
        Some(0) => u64::MAX,
        Some(n) => n,
    };
    let top = shown.get(..usize::try_from(limit).unwrap_or(usize::MAX).min(shown.len())).unwrap_or(&shown);
    let rows = top.iter().enumerate().map(|(i, p)| {
        let number = Cell::Num(i as u64 + 1);
        [number, Cell::Sep(p.count), Cell::Sep(p.bytes), Cell::Addr(p.example), Cell::text(&*p.root)]
    });
    if !top.is_empty() {
        ctx.out.fill(&HELD, rows)?;
    }
    for (i, p) in top.iter().enumerate() {
        ctx.out.note(format!("\nPath {}: {} objects, {} bytes", i + 1, thousands(p.count), thousands(p.bytes)))?;
        ctx.out.note(format!("    {}", p.root))?;
        steps(session, ctx.out, i as u64 + 1, p)?;
    }
    let (count, bytes) = shown.iter().fold((0, 0u64), |sum, p| (sum.0 + p.count, sum.1.saturating_add(p.bytes)));
    let rest = shown.len() - top.len();
    ctx.out.note("")?;
    if rest > 0 {
        let line = format!("{} more paths; -limit 0 shows all.", thousands(rest as u64));
        ctx.out.fact("more_paths", Cell::Num(rest as u64), line)?;
    }
    let (objects, paths) = (thousands(count), thousands(shown.len() as u64));
    ctx.out.facts(
        &[("objects", Cell::Num(count)), ("bytes", Cell::Num(bytes)), ("paths", Cell::Num(shown.len() as u64))],
        format!("Found {objects} objects, {} bytes, held over {paths} paths.", thousands(bytes)),
    )?;
    if held.dead.0 > 0 {
        let (count, bytes) = held.dead;
        ctx.out.facts(
            &[("dead_objects", Cell::Num(count)), ("dead_bytes", Cell::Num(bytes))],
            format!("No root reaches {} further objects, {} bytes.", thousands(count), thousands(bytes)),
        )?;
    }
    match count {
        0 => super::empty(session),
        _ => super::outcome(session),
    }
}

/// Numbers of the types asked for, sorted.
fn wanted(session: &Session, clr: &Clr, args: &Args) -> Result<Vec<u32>> {
    let all = session.types().all();
    let mut found: Vec<u32> = match (args.number("mt"), args.text("type")) {
        (Some(mt), _) => all.iter().filter(|t| t.mt.address == mt).map(|t| t.id).collect(),
        (None, name) => {
            let name = canonical(name.unwrap_or(""));
            let named: Vec<(u32, String)> =
                all.iter().map(|t| (t.id, canonical(&clr.type_name(t.mt.address)).into_owned())).collect();
            let exact: Vec<u32> = named.iter().filter(|t| t.1 == *name).map(|t| t.0).collect();
            match exact.is_empty() {
                true => named.iter().filter(|t| t.1.contains(&*name)).map(|t| t.0).collect(),
                false => exact,
            }
        }
    };
    if found.is_empty() {
        bail!("no object of this heap has such a type; !dumpheap -stat lists those there are");
    }
    found.sort_unstable();
    Ok(found)
}

fn steps(session: &Session, out: &mut Out, number: u64, path: &HeldPath) -> Result<()> {
    let n = path.steps.len();
    for (i, step) in path.steps.iter().enumerate() {
        let name = session.group_name(step.ty);
        let slot = Some(&*step.slot).filter(|s| !s.is_empty());
        let cells =
            [Cell::Num(number), Cell::Num(i as u64), Cell::Bool(step.repeats), Cell::text(&*name), Cell::maybe(slot)];
        if n > 2 * MOST_STEPS && (MOST_STEPS..n - MOST_STEPS).contains(&i) {
            if i == MOST_STEPS {
                out.note(format!("             ({} steps)", n - 2 * MOST_STEPS))?;
            }
            out.data_row(&STEPS, &cells)?;
            continue;
        }
        let arrow = if step.repeats { "         *->" } else { "          ->" };
        out.row_as(&STEPS, &cells, format!("{arrow} {name}  {}", step.slot))?;
    }
    Ok(())
}
