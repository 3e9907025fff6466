//! `!dumpalc`: assembly load contexts.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::runtime::loadcontexts::LoadContext;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!dumpalc [ADDR]`.
pub const DUMPALC: Command = Command {
    name: "dumpalc",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show the AssemblyLoadContext an object's type was loaded into, or all of them",
    help: "With an address: the context of the type of that object (or the context that is that object), whether it can \
           be unloaded and whether that has begun, and its assemblies. Without: all contexts. A plug-in that will not \
           unload shows as collectible and unloading: the runtime holds such a context itself until nothing refers to \
           its LoaderAllocator any more, so !gcroot on that one tells what keeps it.",
    args: &[Arg::pos("ADDR", Kind::Address, "an object")],
    examples: &[
        Example { line: "!dumpalc", what: "all load contexts" },
        Example { line: "!dumpalc $OBJECT", what: "where an object's type comes from" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let (contexts, partial) = contexts(session)?;
    match args.number("ADDR") {
        None => list(clr, ctx.out, &contexts)?,
        Some(address) => {
            let Some(mt) = clr.object_type(address) else { bail!("{address:x} is no object; !dumpheap lists them") };
            let own = contexts.iter().find(|c| c.object == address);
            let module = clr.valid_method_table(mt).and_then(|m| clr.defining_module(&m)).unwrap_or(0);
            match own.or_else(|| clr.load_context_of(module, &contexts)) {
                Some(c) => one(clr, ctx.out, c, &contexts)?,
                None => {
                    ctx.out.line("Default ALC - The managed instance of this context doesn't exist yet.")?;
                    assemblies(clr, ctx.out, None, &contexts)?;
                }
            }
        }
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// All context objects on the heap, and why some may be missing.
fn contexts(session: &Session) -> Result<(Vec<LoadContext>, Option<String>)> {
    let clr = session.clr()?;
    let walker = session.walker()?;
    // The walk that counts meets every type.
    let report = session.stat()?.report.sentence();
    let wanted: Vec<bool> = session.types().all().iter().map(|t| clr.is_load_context(t.mt.address)).collect();
    let (found, _) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<u64>, _, o| {
            if wanted.get(o.ty.id as usize) == Some(&true) {
                acc.push(o.address);
            }
        },
    )?;
    Ok((found.into_iter().flatten().filter_map(|a| clr.load_context_at(a)).collect(), report))
}

fn state(c: &LoadContext) -> &'static str {
    if c.unloading { "Unloading" } else { "Alive" }
}

fn list(clr: &Clr, out: &mut Out, contexts: &[LoadContext]) -> Result<()> {
    const COLUMNS: &[Col] = &[
        Col::right("Address", "address", 16),
        Col::left("Collectible", "collectible", 11),
        Col::left("State", "state", 9),
        Col::right("Assemblies", "assemblies", 10),
        Col::left("Name", "name", 0),
    ];
    let all = clr.assemblies();
    let homes: Vec<u64> =
        all.items.iter().map(|a| clr.load_context_of(a.module, contexts).map_or(0, |c| c.object)).collect();
    let count = |object: u64| homes.iter().filter(|&&h| h == object).count() as u64;
    out.table("contexts", COLUMNS, true)?;
    for c in contexts {
        out.row(&[
            Cell::Addr(c.object),
            Cell::text(if c.collectible { "true" } else { "false" }),
            Cell::text(state(c)),
            Cell::Num(count(c.object)),
            Cell::text(title(clr, c)),
        ])?;
    }
    let rest = count(0);
    if rest > 0 {
        out.line(format!("Default ALC without a managed instance: {rest} assemblies"))?;
    }
    Ok(())
}

/// Type and name.
fn title(clr: &Clr, c: &LoadContext) -> String {
    let name = c.name.as_ref().map(|n| format!(" \"{}\"", n.escape_debug())).unwrap_or_default();
    format!("{}{name}", clr.type_name(c.method_table))
}

fn one(clr: &Clr, out: &mut Out, c: &LoadContext, contexts: &[LoadContext]) -> Result<()> {
    out.line(format!("AssemblyLoadContext: {:0w$x} {}", c.object, title(clr, c), w = digits()))?;
    out.line(format!("Collectible:         {}", c.collectible))?;
    out.line(format!("State:               {}", state(c)))?;
    out.line(format!("Native binder:       {:0w$x}", c.binder, w = digits()))?;
    let modules = clr.assemblies().items.iter().map(|a| a.module);
    let mut own = modules.filter(|&m| clr.load_context_of(m, contexts).is_some_and(|o| o.object == c.object));
    if let Some(a) = own.find_map(|m| clr.loader_allocator_of(m)) {
        out.line(format!("LoaderAllocator:     {:0w$x}", a.object, w = digits()))?;
    }
    assemblies(clr, out, Some(c), contexts)
}

fn assemblies(clr: &Clr, out: &mut Out, of: Option<&LoadContext>, contexts: &[LoadContext]) -> Result<()> {
    const COLUMNS: &[Col] =
        &[Col::right("Assembly", "assembly", 16), Col::right("Module", "module", 16), Col::left("Name", "name", 0)];
    out.line("Assemblies:")?;
    out.table("assemblies", COLUMNS, true)?;
    for a in &clr.assemblies().items {
        if clr.load_context_of(a.module, contexts).map(|c| c.object) != of.map(|c| c.object) {
            continue;
        }
        let assembly = if a.assembly != 0 { a.assembly } else { a.item };
        out.row(&[Cell::Addr(assembly), Cell::Addr(a.module), Cell::text(clr.module(a.module).display_name(clr))])?;
    }
    Ok(())
}
