//! `!clrmodules`, `!dumpdomain`, `!dumpassembly`, `!dumpmodule`: what is loaded.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::image::metadata::table;
use crate::clr::image::modules::{MetadataSource, Module};
use crate::clr::runtime::domains::{self, LoadedAssembly};
use crate::clr::runtime::loaderheaps::Owner;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!clrmodules`.
pub const CLRMODULES: Command = Command {
    name: "clrmodules",
    prefix: Prefix::Bang,
    aliases: &["assemblies"],
    group: Group::Objects,
    summary: "list the managed modules",
    help: "One row a managed module: where its image is, its size in memory, its path. -v adds the runtime's Module and \
           where its metadata comes from: without metadata, types have no names. -name takes part of a path.",
    args: &[
        Arg::opt("name", Kind::Text, "only modules whose path contains this").completes_modules().or(&["n"]),
        Arg::flag("v", "with Module address and source of the metadata").or(&["verbose"]),
    ],
    examples: &[Example { line: "!clrmodules", what: "all managed modules" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: clrmodules,
};

/// `!dumpdomain`.
pub const DUMPDOMAIN: Command = Command {
    name: "dumpdomain",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "list the app domains with their assemblies and modules",
    help: "Prints the system domain and the app domain; under it, each assembly with the address of its Module.",
    args: &[Arg::pos("ADDR", Kind::Address, "address of a domain; all without")],
    examples: &[Example { line: "!dumpdomain", what: "all domains" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dumpdomain,
};

/// `!dumpassembly ADDR`.
pub const DUMPASSEMBLY: Command = Command {
    name: "dumpassembly",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show an assembly with its module",
    help: "ADDR is the address of an assembly, as !dumpdomain lists it.",
    args: &[Arg::pos("ADDR", Kind::Address, "address of an assembly").required()],
    examples: &[Example { line: "!dumpassembly $ASSEMBLY", what: "an assembly" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dumpassembly,
};

/// `!dumpmodule ADDR`.
pub const DUMPMODULE: Command = Command {
    name: "dumpmodule",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a managed module, with -mt its types",
    help: "ADDR is the runtime's Module (from !dumpmt, !dumpdomain), or the base of the image. -mt lists the types it \
           defines that are loaded, and the types of other modules it refers to.",
    args: &[
        Arg::pos("ADDR", Kind::Address, "address of a Module or of its image").required(),
        Arg::flag("mt", "list the types"),
    ],
    examples: &[Example { line: "!dumpmodule -mt $MODULE", what: "a module and its types" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dumpmodule,
};

fn outcome(partial: Option<&String>) -> Outcome {
    partial.map_or(Outcome::Complete, |p| Outcome::Partial(p.clone()))
}

fn clrmodules(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const PLAIN: &[Col] =
        &[Col::left("ImageBase", "imageBase", 16), Col::left("Size", "size", 8), Col::left("Path", "path", 0)];
    const VERBOSE: &[Col] = &[
        Col::left("ImageBase", "imageBase", 16),
        Col::left("Size", "size", 8),
        Col::left("Module", "module", 16),
        Col::left("Path", "path", 0),
        Col::left("Metadata", "metadata", 0),
    ];
    let session = ctx.session()?;
    let clr = session.clr()?;
    let assemblies = clr.assemblies();
    let wanted = args.text("name").map(str::to_ascii_lowercase);
    let verbose = args.has("v");
    ctx.out.table("modules", if verbose { VERBOSE } else { PLAIN }, false)?;
    for a in &assemblies.items {
        let m = clr.module(a.module);
        let path = if m.dynamic { "(Dynamic)".to_owned() } else { m.display_name(clr) };
        if wanted.as_ref().is_some_and(|w| !path.to_ascii_lowercase().contains(w.as_str())) {
            continue;
        }
        let (base, size) =
            (Cell::text(format!("{:0w$X}", m.image_base, w = digits())), Cell::text(format!("{:08X}", m.size)));
        if verbose {
            let source = source(clr, &m);
            ctx.out.row(&[base, size, Cell::AddrPad(m.address, 16), Cell::text(path), Cell::text(source)])?;
        } else {
            ctx.out.row(&[base, size, Cell::text(path)])?;
        }
    }
    Ok(outcome(assemblies.partial.as_ref()))
}

/// Where a module's metadata comes from, in words.
fn source(clr: &Clr, m: &Module) -> String {
    match m.metadata_source(clr) {
        MetadataSource::Dump => "(metadata: dump)".into(),
        MetadataSource::Dynamic => "(metadata: dynamic)".into(),
        MetadataSource::File(path) => format!("(metadata: {path})"),
        MetadataSource::FileByNameOnly(path) => format!("(metadata: {path}, by name only)"),
        MetadataSource::Missing(why) => format!("(no metadata: {why})"),
    }
}

/// Address that identifies an assembly: the `Assembly`, or its list item where that is all there is.
fn identity(a: &LoadedAssembly) -> u64 {
    if a.assembly != 0 { a.assembly } else { a.item }
}

fn assembly_block(clr: &Clr, out: &mut Out, a: &LoadedAssembly) -> Result<()> {
    let m = clr.module(a.module);
    let dynamic = if m.dynamic { "(Dynamic) " } else { "" };
    // Of an image loaded from bytes the name is that of its module.
    let name = if m.dynamic { String::new() } else { m.display_name(clr) };
    out.line(format!("Assembly:           {:0w$x} {dynamic}[{name}]", identity(a), w = digits()))?;
    module_line(out, &m)
}

fn module_line(out: &mut Out, m: &Module) -> Result<()> {
    let path = match () {
        () if m.dynamic => "Dynamic Module",
        () if m.path.is_empty() => "Unknown Module",
        () => &m.path,
    };
    out.line("  Module")?;
    out.line(format!("  {:0w$x}    {path}", m.address, w = digits()))?;
    out.line("")?;
    Ok(())
}

fn dumpdomain(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let (system, app) = (domains::system_domain(clr), domains::app_domain(clr));
    let wanted = args.number("ADDR").filter(|&a| a != 0);
    if let Some(address) = wanted
        && ![system, app].contains(&Some(address))
    {
        bail!("{address:x} is not a domain; !dumpdomain without an address lists them");
    }
    if let Some(system) = system.filter(|s| wanted.is_none_or(|w| w == *s)) {
        ctx.out.line("--------------------------------------")?;
        ctx.out.line(format!("System Domain:      {system:0w$x}", w = digits()))?;
        domain_heaps(session, ctx.out, Owner::Global)?;
        ctx.out.line("Name:               None")?;
    }
    let Some(app) = app.filter(|a| wanted.is_none_or(|w| w == *a)) else { return Ok(Outcome::Complete) };
    ctx.out.line("--------------------------------------")?;
    ctx.out.line(format!("Domain 1:           {app:0w$x}", w = digits()))?;
    domain_heaps(session, ctx.out, Owner::Domain)?;
    // The host's name for the only domain there is.
    ctx.out.line("Name:               clrhost")?;
    let assemblies = clr.assemblies();
    for a in &assemblies.items {
        assembly_block(clr, ctx.out, a)?;
    }
    Ok(outcome(assemblies.partial.as_ref()))
}

/// The loader heaps a domain allocates from: its own, or those of the global allocator, which all domains share since 3.0.
fn domain_heaps(session: &Session, out: &mut Out, owner: Owner) -> Result<()> {
    let heaps = &session.loader_heaps()?.heaps.items;
    let owner = if heaps.iter().any(|h| h.owner == owner) { owner } else { Owner::Global };
    for kind in ["LowFrequencyHeap", "HighFrequencyHeap", "StubHeap"] {
        if let Some(h) = heaps.iter().find(|h| h.owner == owner && h.kind == kind) {
            // The list of blocks comes behind the heap's own first word.
            let address = h.address.saturating_sub(session.clr()?.header());
            out.line(format!("{:<20}{address:0w$X}", format!("{kind}:"), w = digits()))?;
        }
    }
    out.line("Stage:              OPEN")?;
    Ok(())
}

fn dumpassembly(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = args.number("ADDR").unwrap_or(0);
    let Some(a) = clr.assemblies().items.iter().find(|a| [a.assembly, a.item, a.module].contains(&address)) else {
        bail!("{address:x} is not an assembly; !dumpdomain lists them")
    };
    let m = clr.module(a.module);
    ctx.out.line(format!("Parent Domain:      {:0w$x}", domains::app_domain(clr).unwrap_or(0), w = digits()))?;
    ctx.out.line(format!("Name:               {}", m.display_name(clr)))?;
    module_line(ctx.out, &m)?;
    Ok(Outcome::Complete)
}

/// The module at `address`: the runtime's record or the base of its image.
fn look_up(session: &Session, address: u64) -> Result<(Arc<Module>, Option<LoadedAssembly>)> {
    let clr = session.clr()?;
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        if a.module == address || (m.image_base == address && address != 0) {
            return Ok((m, Some(*a)));
        }
    }
    let m = clr.module(address);
    if m.path.is_empty() && m.image_base == 0 && !m.dynamic {
        bail!("{address:x} is not a module; !clrmodules -v lists them");
    }
    Ok((m, None))
}

fn dumpmodule(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let (m, assembly) = look_up(session, args.number("ADDR").unwrap_or(0))?;
    ctx.out.line(format!("Name:                 {}", m.display_name(clr)))?;
    let kind = if m.path.is_empty() { "Reflection " } else { "PEFile " };
    ctx.out.line(format!("Attributes:           {kind}"))?;
    if let Some(a) = assembly {
        ctx.out.line(format!("Assembly:             {:0w$x}", identity(&a), w = digits()))?;
    }
    ctx.out.line(format!("BaseAddress:          {:0w$X}", m.image_base, w = digits()))?;
    for (label, field) in
        [("TypeDefToMethodTableMap", "TypeDefToMethodTableMap"), ("TypeRefToMethodTableMap", "TypeRefToMethodTableMap")]
    {
        if let Some(at) = clr.layout().try_offset("Module", field) {
            ctx.out.line(format!("{:<26}{:0w$X}", format!("{label}:"), m.address.saturating_add(at), w = digits()))?;
        }
    }
    match m.metadata_range(clr) {
        Some((start, length)) => {
            ctx.out.line(format!("MetaData start address: {start:0w$X} ({length} bytes)", w = digits()))?
        }
        None => ctx.out.line(format!("MetaData:             {}", source(clr, &m)))?,
    }
    if args.has("mt") {
        return types(session, ctx.out, &m);
    }
    Ok(Outcome::Complete)
}

fn types(session: &Session, out: &mut Out, m: &Module) -> Result<Outcome> {
    const DEFINED: &[Col] =
        &[Col::right("MT", "mt", 16), Col::right("TypeDef", "token", 18), Col::left("Name", "name", 0)];
    const REFERENCED: &[Col] = &[Col::right("TypeRef", "token", 18), Col::left("Name", "name", 0)];
    let clr = session.clr()?;
    out.line("")?;
    out.line("Types defined in this module")?;
    out.line("")?;
    out.table("defined", DEFINED, true)?;
    let loaded = clr.loaded_types(m.address);
    for &(rid, mt) in &loaded.items {
        let name = clr.type_name_long(mt);
        let token = format!("0x{:08x}", 0x0200_0000 | rid);
        out.row(&[Cell::AddrPad(mt, 16), Cell::text(token), Cell::text(&*name)])?;
    }
    let Some(metadata) = m.metadata(clr) else {
        return Ok(Outcome::Partial("the module's metadata is not in the dump".into()));
    };
    out.line("")?;
    out.line("Types referenced in this module")?;
    out.line("")?;
    out.table("referenced", REFERENCED, true)?;
    for rid in 1..=metadata.rows(table::TYPE_REF) {
        session.watch.cancel.check()?;
        if clr.typeref_resolved(m.address, rid) != Some(false) {
            let token = format!("0x{:08x}", 0x0100_0000 | rid);
            out.row(&[Cell::text(token), Cell::text(metadata.typeref_full_name(rid))])?;
        }
    }
    Ok(outcome(loaded.partial.as_ref()))
}
