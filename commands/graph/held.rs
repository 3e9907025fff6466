//! What holds all objects of a type: `!gcroot -type` and `-mt`.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::types::typename::canonical;
use crate::heap::TypeInfo;
use crate::session::Session;
use crate::session::held::HeldPath;
use crate::shell::out::thousands;
use crate::shell::{Args, Cell, Col, Ctx, Format, Out, Outcome};

/// Paths shown without `-limit`.
const PATHS: u64 = 20;
/// Steps shown of a path: so many of its beginning and of its end.
const STEPS: usize = 20;

const PATHS_TABLE: &[Col] = &[
    Col::right("Path", "path", 0),
    Col::right("Count", "count", 0),
    Col::right("Size", "size", 0),
    Col::left("Example", "example", 0),
    Col::left("Held by", "held_by", 0),
];

const STEPS_TABLE: &[Col] = &[Col::left("", "arrow", 12), Col::left("", "type", 0), Col::left("", "slot", 0)];

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
        None => PATHS,
        Some(0) => u64::MAX,
        Some(n) => n,
    };
    let top = shown.get(..usize::try_from(limit).unwrap_or(usize::MAX).min(shown.len())).unwrap_or(&shown);
    let rows: Vec<Vec<Cell<'_>>> = top
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let number = Cell::Num(i as u64 + 1);
            vec![number, Cell::Sep(p.count), Cell::Sep(p.bytes), Cell::Addr(p.example), Cell::text(&*p.root)]
        })
        .collect();
    if !rows.is_empty() {
        ctx.out.rows("held", PATHS_TABLE, true, &rows)?;
    }
    for (i, p) in top.iter().enumerate() {
        ctx.out.line(format!("\nPath {}: {} objects, {} bytes", i + 1, thousands(p.count), thousands(p.bytes)))?;
        ctx.out.line(format!("    {}", p.root))?;
        steps(session, ctx.out, p)?;
    }
    let (count, bytes) = shown.iter().fold((0, 0u64), |sum, p| (sum.0 + p.count, sum.1.saturating_add(p.bytes)));
    let rest = shown.len() - top.len();
    ctx.out.line("")?;
    if rest > 0 {
        ctx.out.line(format!("{} more paths; -limit 0 shows all.", thousands(rest as u64)))?;
    }
    let (objects, paths) = (thousands(count), thousands(shown.len() as u64));
    ctx.out.line(format!("Found {objects} objects, {} bytes, held over {paths} paths.", thousands(bytes)))?;
    if held.dead.0 > 0 {
        let (count, bytes) = (thousands(held.dead.0), thousands(held.dead.1));
        ctx.out.line(format!("No root reaches {count} further objects, {bytes} bytes."))?;
    }
    match count {
        0 => crate::commands::graph::dominators::empty(session),
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

fn steps(session: &Session, out: &mut Out, path: &HeldPath) -> Result<()> {
    let columns = if out.format() == Format::Text { &STEPS_TABLE[..2] } else { STEPS_TABLE };
    out.table("steps", columns, false)?;
    let n = path.steps.len();
    for (i, step) in path.steps.iter().enumerate() {
        if n > 2 * STEPS && (STEPS..n - STEPS).contains(&i) {
            if i == STEPS && out.format() == Format::Text {
                out.line(format!("             ({} steps)", n - 2 * STEPS))?;
            }
            continue;
        }
        let name = session.group_name(step.ty);
        let arrow = if step.repeats { "         *->" } else { "          ->" };
        match out.format() {
            Format::Text if !step.slot.is_empty() => {
                out.row(&[Cell::text(arrow), Cell::text(format!("{name}  {}", step.slot))])?;
            }
            Format::Text => out.row(&[Cell::text(arrow), Cell::text(&*name)])?,
            _ => out.row(&[Cell::text(arrow.trim()), Cell::text(&*name), Cell::text(&*step.slot)])?,
        }
    }
    Ok(())
}
