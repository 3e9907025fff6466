//! `!dumpalc`: assembly load contexts.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::runtime::loadcontexts::{LoadContext, LoadContexts};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
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
    args: &[Arg::pos("ADDR", Kind::Address, "an object, a context, or the LoaderAllocator of one")],
    examples: &[
        Example { line: "!dumpalc", what: "all load contexts" },
        Example { line: "!dumpalc $OBJECT", what: "where an object's type comes from" },
    ],
    needs: Needs::CoreClr,
    returns: Returns::facts(&[
        Fact::new("context", "the context; nothing when the default one has no object yet", Type::Address),
        Fact::new("type", "its type", Type::TypeName),
        Fact::new("name", "its name", Type::Content),
        Fact::new("collectible", "it can be unloaded", Type::Bool),
        Fact::new("state", "Alive or Unloading", Type::Text),
        Fact::new("native_binder", "the runtime's record of it", Type::Address),
        Fact::new("loader_allocator", "LoaderAllocator object of a collectible context", Type::Address),
        Fact::new("default_assemblies", "assemblies of the default context when it has no object yet", Type::Count),
    ])
    .and(&[&CONTEXTS, &ASSEMBLIES]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let known = session.once("load contexts", || contexts(session))?;
    let (contexts, partial) = &*known;
    match args.number("ADDR") {
        None => list(clr, ctx.out, contexts)?,
        Some(address) => {
            let Some(mt) = clr.object_type(address) else { bail!("{address:x} is no object; !dumpheap lists them") };
            let own = contexts.items.iter().find(|c| c.object == address);
            let mut modules = clr.assemblies().items.iter().map(|a| a.module);
            // Of a LoaderAllocator: what it keeps loaded.
            let kept = modules.find(|&m| clr.loader_allocator_of(m).is_some_and(|l| l.object == address));
            let of_type = || clr.valid_method_table(mt).and_then(|m| clr.defining_module(&m));
            let module = kept.or_else(of_type).unwrap_or(0);
            if let Some(kept) = kept {
                let (name, w) = (clr.module(kept).display_name(clr), digits());
                ctx.out.note(format!("LoaderAllocator {address:0w$x} of {name}"))?;
            }
            match own.or_else(|| clr.load_context_of(module, contexts)) {
                Some(c) => one(clr, ctx.out, c, contexts)?,
                None => {
                    ctx.out.datum("context", &Cell::None);
                    ctx.out.note("Default ALC - The managed instance of this context doesn't exist yet.")?;
                    assemblies(clr, ctx.out, None, contexts)?;
                }
            }
        }
    }
    Ok(partial.clone().map_or(Outcome::Complete, Outcome::Partial))
}

/// All context objects on the heap, and why some may be missing.
fn contexts(session: &Session) -> Result<(LoadContexts, Option<String>)> {
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
    let found = found.into_iter().flatten().filter_map(|a| clr.load_context_at(a));
    Ok((LoadContexts::new(found.collect()), report))
}

fn state(c: &LoadContext) -> &'static str {
    if c.unloading { "Unloading" } else { "Alive" }
}

const CONTEXTS: Table = Table::new(
    "contexts",
    &[
        Col::right("Address", "context", 16).of(Type::Address),
        Col::left("Collectible", "collectible", 11).of(Type::Bool),
        Col::left("State", "state", 9),
        Col::right("Assemblies", "assemblies", 10).of(Type::Count),
        Col::left("Name", "name", 0).of(Type::Content),
        Col::data("type", Type::TypeName).titled("type of the context"),
        Col::data("native_binder", Type::Address).titled("the runtime's record of it"),
    ],
);

fn list(clr: &Clr, out: &mut Out, contexts: &LoadContexts) -> Result<()> {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for a in &clr.assemblies().items {
        *counts.entry(clr.load_context_of(a.module, contexts).map_or(0, |c| c.object)).or_default() += 1;
    }
    let count = |object: u64| counts.get(&object).copied().unwrap_or(0);
    out.open(&CONTEXTS)?;
    for c in &contexts.items {
        out.row(&[
            Cell::Addr(c.object),
            Cell::Bool(c.collectible),
            Cell::text(state(c)),
            Cell::Num(count(c.object)),
            Cell::shown(title(clr, c), Cell::maybe(c.name.as_deref())),
            Cell::text(&*clr.type_name(c.method_table)),
            Cell::Addr(c.binder),
        ])?;
    }
    let rest = count(0);
    if rest > 0 {
        let line = format!("Default ALC without a managed instance: {rest} assemblies");
        out.fact("default_assemblies", Cell::Num(rest), line)?;
    }
    Ok(())
}

/// Type and name.
fn title(clr: &Clr, c: &LoadContext) -> String {
    let name = c.name.as_ref().map(|n| format!(" \"{}\"", n.escape_debug())).unwrap_or_default();
    format!("{}{name}", clr.type_name(c.method_table))
}

fn one(clr: &Clr, out: &mut Out, c: &LoadContext, contexts: &LoadContexts) -> Result<()> {
    let w = digits();
    let facts = [
        ("context", Cell::Addr(c.object)),
        ("type", Cell::text(clr.type_name(c.method_table).to_string())),
        ("name", Cell::maybe(c.name.as_deref())),
    ];
    out.facts(&facts, format!("AssemblyLoadContext: {:0w$x} {}", c.object, title(clr, c)))?;
    out.fact("collectible", Cell::Bool(c.collectible), format!("Collectible:         {}", c.collectible))?;
    out.fact("state", Cell::text(state(c)), format!("State:               {}", state(c)))?;
    out.fact("native_binder", Cell::Addr(c.binder), format!("Native binder:       {:0w$x}", c.binder))?;
    let modules = clr.assemblies().items.iter().map(|a| a.module);
    let mut own = modules.filter(|&m| clr.load_context_of(m, contexts).is_some_and(|o| o.object == c.object));
    if let Some(a) = own.find_map(|m| clr.loader_allocator_of(m)) {
        out.fact("loader_allocator", Cell::Addr(a.object), format!("LoaderAllocator:     {:0w$x}", a.object))?;
    }
    assemblies(clr, out, Some(c), contexts)
}

const ASSEMBLIES: Table = Table::new(
    "assemblies",
    &[
        Col::right("Assembly", "assembly", 16).of(Type::Address),
        Col::right("Module", "module", 16).of(Type::Address),
        Col::left("Name", "name", 0).of(Type::Path),
    ],
);

fn assemblies(clr: &Clr, out: &mut Out, of: Option<&LoadContext>, contexts: &LoadContexts) -> Result<()> {
    out.note("Assemblies:")?;
    out.open(&ASSEMBLIES)?;
    for a in &clr.assemblies().items {
        if clr.load_context_of(a.module, contexts).map(|c| c.object) != of.map(|c| c.object) {
            continue;
        }
        let assembly = if a.assembly != 0 { a.assembly } else { a.item };
        out.row(&[Cell::Addr(assembly), Cell::Addr(a.module), Cell::text(clr.module(a.module).display_name(clr))])?;
    }
    Ok(())
}
