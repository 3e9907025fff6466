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
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
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
    returns: Returns::facts(&[DYNAMIC_COUNT]).and(&[&MODULES]),
    run: clrmodules,
};

/// `!dumpdomain`.
pub const DUMPDOMAIN: Command = Command {
    name: "dumpdomain",
    prefix: Prefix::Bang,
    aliases: &["wdomain"],
    group: Group::Objects,
    summary: "list the app domains with their assemblies and modules",
    help: "Prints the system domain, the shared domain (through 2.2 and in .NET Framework) and each app domain; under it, \
           each assembly with the address of its Module.",
    args: &[Arg::pos("ADDR", Kind::Address, "address of a domain; all without")],
    examples: &[Example { line: "!dumpdomain", what: "all domains" }],
    needs: Needs::CoreClr,
    returns: Returns::facts(&[DYNAMIC_COUNT]).and(&[&DOMAINS, &ASSEMBLIES]),
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
    needs: Needs::CoreClr,
    returns: Returns::facts(&[
        Fact::new("assembly", "address of the assembly", Type::Address),
        Fact::new("domain", "app domain it belongs to", Type::Address),
        Fact::new("name", "path of its file, or its name where there is no file", Type::Path),
        Fact::new("module", "its Module", Type::Address),
        Fact::new("dynamic", "made at run time", Type::Bool),
        Fact::new("path", "path of its file", Type::Path),
    ]),
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
    needs: Needs::CoreClr,
    returns: Returns::facts(&[
        Fact::new("module", "address of the Module", Type::Address),
        Fact::new("name", "path of its file, or its name where there is no file", Type::Path),
        Fact::new("in_file", "it has a file", Type::Bool),
        Fact::new("dynamic", "made at run time", Type::Bool),
        Fact::new("assembly", "address of the assembly", Type::Address),
        Fact::new("image_base", "where its image is; 0 without one", Type::Address),
        Fact::new("size", "bytes of the image", Type::Bytes),
        Fact::new("typedef_map", "its map from TypeDef rows to MethodTables", Type::Address),
        Fact::new("typeref_map", "its map from TypeRef rows to MethodTables", Type::Address),
        Fact::new("metadata_start", "where its metadata is in the process", Type::Address),
        Fact::new("metadata_size", "bytes of the metadata in the process", Type::Bytes),
        Fact::new("metadata", METADATA, Type::Text),
        Fact::new("metadata_file", METADATA_FILE, Type::Path),
        Fact::new("metadata_missing", METADATA_MISSING, Type::Text),
    ])
    .and(&[&DEFINED, &REFERENCED]),
    run: dumpmodule,
};

const METADATA: &str = "where its metadata comes from: dump, dynamic, file, file by name only; nothing without any";
const METADATA_FILE: &str = "the file its metadata comes from";
const METADATA_MISSING: &str = "why it has no metadata";

const IMAGE_BASE: Col = Col::left("ImageBase", "image_base", 16).of(Type::Address);
const SIZE: Col = Col::left("Size", "size", 8).of(Type::Bytes);
const MODULE: Col = Col::left("Module", "module", 16).of(Type::Address);
const PATH: Col = Col::left("Path", "path", 0).of(Type::Path);
const SOURCE: Col = Col::left("Metadata", "metadata", 0);
const SOURCE_FILE: Col = Col::data("metadata_file", Type::Path).titled(METADATA_FILE);
const SOURCE_MISSING: Col = Col::data("metadata_missing", Type::Text).titled(METADATA_MISSING);
const ASSEMBLY: Col = Col::data("assembly", Type::Address).titled("address of the assembly");
const NAME: Col = Col::data("name", Type::Path).titled("path of its file, or its name where there is no file");
const DYNAMIC: Col = Col::data("dynamic", Type::Bool).titled("made at run time");

/// Managed modules as `-v` shows them.
const MODULES: Table = Table::new(
    "modules",
    &[IMAGE_BASE, SIZE, MODULE, PATH, SOURCE, SOURCE_FILE, SOURCE_MISSING, ASSEMBLY, DYNAMIC, NAME],
);
/// The same table with less of it in text.
const MODULES_SHORT: Table = Table::new(
    "modules",
    &[
        IMAGE_BASE,
        SIZE,
        Col::data("module", Type::Address),
        PATH,
        Col::data("metadata", Type::Text),
        SOURCE_FILE,
        SOURCE_MISSING,
        ASSEMBLY,
        DYNAMIC,
        NAME,
    ],
);

fn outcome(partial: Option<&String>) -> Outcome {
    partial.map_or(Outcome::Complete, |p| Outcome::Partial(p.clone()))
}

fn clrmodules(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let assemblies = clr.assemblies();
    let wanted = args.text("name").map(str::to_ascii_lowercase);
    let verbose = args.has("v");
    ctx.out.open_bare(if verbose { &MODULES } else { &MODULES_SHORT })?;
    let metadata = verbose || ctx.out.wants_data();
    for a in &assemblies.items {
        let m = clr.module(a.module);
        let name = m.display_name(clr);
        let shown = if m.dynamic { format!("(Dynamic) {name}") } else { name.clone() };
        if wanted.as_ref().is_some_and(|w| !shown.to_ascii_lowercase().contains(w.as_str())) {
            continue;
        }
        let source = metadata.then(|| m.metadata_source(clr));
        let [kind, file, missing] = source.map_or([Cell::None, Cell::None, Cell::None], source_cells);
        let kind = Cell::shown(source.map(source_words).unwrap_or_default(), kind);
        ctx.out.row(&[
            Cell::AddrUpper(m.image_base, 16),
            Cell::As(format!("{:08X}", m.size).into(), m.size),
            Cell::AddrPad(m.address, 16),
            Cell::shown(&*shown, path_cell(&m)),
            kind,
            file,
            missing,
            Cell::Addr(identity(a)),
            Cell::Bool(m.dynamic),
            Cell::text(&name),
        ])?;
    }
    made_at_run_time(clr, ctx.out)?;
    Ok(outcome(assemblies.partial.as_ref()))
}

/// How many assemblies the program made itself, where there are any.
fn made_at_run_time(clr: &Clr, out: &mut Out) -> Result<()> {
    match clr.assemblies().items.iter().filter(|a| clr.module(a.module).dynamic).count() as u64 {
        0 => {
            out.datum(DYNAMIC_COUNT.key, &Cell::Num(0));
            Ok(())
        }
        n => Ok(out.fact(DYNAMIC_COUNT.key, Cell::Num(n), format!("Assemblies made at run time: {n}"))?),
    }
}

const DYNAMIC_COUNT: Fact = Fact::new("dynamic_assemblies", "assemblies made at run time", Type::Count);

/// Where a module's metadata comes from, in words.
fn source_words(source: &MetadataSource) -> String {
    match source {
        MetadataSource::Dump => "(metadata: dump)".into(),
        MetadataSource::Dynamic => "(metadata: dynamic)".into(),
        MetadataSource::File(path) => format!("(metadata: {path})"),
        MetadataSource::FileByNameOnly(path) => format!("(metadata: {path}, by name only)"),
        MetadataSource::Missing(why) => format!("(no metadata: {why})"),
    }
}

/// Where a module's metadata comes from, the file, why there is none.
fn source_cells(source: &MetadataSource) -> [Cell<'_>; 3] {
    let text = |t| Cell::Text(std::borrow::Cow::Borrowed(t));
    match source {
        MetadataSource::Dump => [text("dump"), Cell::None, Cell::None],
        MetadataSource::Dynamic => [text("dynamic"), Cell::None, Cell::None],
        MetadataSource::File(path) => [text("file"), text(path), Cell::None],
        MetadataSource::FileByNameOnly(path) => [text("file by name only"), text(path), Cell::None],
        MetadataSource::Missing(why) => [Cell::None, Cell::None, text(why)],
    }
}

/// Address that identifies an assembly: the `Assembly`, or its list item where that is all there is.
fn identity(a: &LoadedAssembly) -> u64 {
    if a.assembly != 0 { a.assembly } else { a.item }
}

/// Domains as `!dumpdomain` lists them.
const DOMAINS: Table = Table::new(
    "domains",
    &[
        Col::data("domain", Type::Address).titled("address of the domain"),
        Col::data("kind", Type::Text).titled("system, shared or app"),
        Col::data("number", Type::Number).titled("number of the app domain"),
        Col::data("low_frequency_heap", Type::Address).titled("LowFrequencyHeap"),
        Col::data("high_frequency_heap", Type::Address).titled("HighFrequencyHeap"),
        Col::data("stub_heap", Type::Address).titled("StubHeap"),
        Col::data("stage", Type::Text).titled("Stage"),
        Col::data("name", Type::Path).titled("Name"),
    ],
);

/// Assemblies of a domain.
const ASSEMBLIES: Table = Table::new(
    "assemblies",
    &[
        Col::data("domain", Type::Address).titled("domain it belongs to"),
        ASSEMBLY,
        DYNAMIC,
        NAME,
        Col::data("module", Type::Address).titled("its Module"),
        Col::data("path", Type::Path).titled("path of its file"),
    ],
)
.under("domains", "domain");

fn assembly_row(clr: &Clr, out: &mut Out, domain: u64, a: &LoadedAssembly) -> Result<()> {
    let m = clr.module(a.module);
    let dynamic = if m.dynamic { "(Dynamic) " } else { "" };
    // Of an image loaded from bytes the name is that of its module.
    let name = m.display_name(clr);
    let (shown, behind) = if m.dynamic { ("", format!(" {name}")) } else { (&*name, String::new()) };
    let cells = [
        Cell::Addr(domain),
        Cell::Addr(identity(a)),
        Cell::Bool(m.dynamic),
        Cell::text(&name),
        Cell::Addr(m.address),
        path_cell(&m),
    ];
    let line = format!(
        "Assembly:           {:0w$x} {dynamic}[{shown}]{behind}\n  Module\n{}\n",
        identity(a),
        module_line(&m),
        w = digits()
    );
    Ok(out.row_as(&ASSEMBLIES, &cells, line)?)
}

fn path_cell(m: &Module) -> Cell<'_> {
    if m.path.is_empty() { Cell::None } else { Cell::text(&m.path) }
}

fn module_line(m: &Module) -> String {
    let path = match () {
        () if m.dynamic => "Dynamic Module",
        () if m.path.is_empty() => "Unknown Module",
        () => &m.path,
    };
    format!("  {:0w$x}    {path}", m.address, w = digits())
}

fn dumpdomain(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let apps = domains::app_domains(clr);
    let (system, shared) = (domains::system_domain(clr), domains::shared_domain(clr));
    let wanted = args.number("ADDR").filter(|&a| a != 0);
    let is_wanted = |d: &u64| wanted.is_none_or(|w| w == *d);
    let known = [system, shared].into_iter().flatten().chain(apps.items.iter().map(|d| d.address));
    if let Some(address) = wanted.filter(|&w| !known.into_iter().any(|d| d == w)) {
        bail!("{address:x} is not a domain; !dumpdomain without an address lists them");
    }
    if let Some(system) = system.filter(is_wanted) {
        domain_row(session, ctx.out, &Domain { address: system, kind: "system", number: None, name: None })?;
    }
    if let Some(shared) = shared.filter(is_wanted) {
        domain_row(session, ctx.out, &Domain { address: shared, kind: "shared", number: None, name: None })?;
    }
    let mut partial = apps.partial.clone();
    for app in apps.items.iter().filter(|d| is_wanted(&d.address)) {
        // The host's name for the only domain there is, where the runtime's own place of it is not known.
        let name = app.name.as_deref().unwrap_or("clrhost");
        let number = Some(app.id);
        domain_row(session, ctx.out, &Domain { address: app.address, kind: "app", number, name: Some(name) })?;
        let assemblies = domains::assemblies_of(clr, app.address)?;
        for a in &assemblies.items {
            assembly_row(clr, ctx.out, app.address, a)?;
        }
        partial = partial.or(assemblies.partial);
    }
    if wanted.is_none_or(|w| apps.items.iter().any(|d| d.address == w)) {
        made_at_run_time(clr, ctx.out)?;
    }
    Ok(outcome(partial.as_ref()))
}

/// A domain as `!dumpdomain` shows it.
struct Domain<'a> {
    address: u64,
    /// System, shared or app.
    kind: &'static str,
    number: Option<u32>,
    name: Option<&'a str>,
}

/// A domain with the loader heaps it allocates from: its own, or those of the global allocator, which all domains share
/// since 3.0.
fn domain_row(session: &Session, out: &mut Out, domain: &Domain<'_>) -> Result<()> {
    let title = match domain.number {
        Some(n) => format!("Domain {n}:"),
        None if domain.kind == "shared" => "Shared Domain:".to_owned(),
        None => "System Domain:".to_owned(),
    };
    let owner = if domain.kind == "app" { Owner::Domain } else { Owner::Global };
    let heaps = &session.loader_heaps()?.heaps.items;
    let owner = if heaps.iter().any(|h| h.owner == owner) { owner } else { Owner::Global };
    let mut line = format!("--------------------------------------\n{title:<20}{:0w$x}", domain.address, w = digits());
    let mut places = [Cell::None, Cell::None, Cell::None];
    for (kind, place) in ["LowFrequencyHeap", "HighFrequencyHeap", "StubHeap"].iter().zip(&mut places) {
        // Whose heap it is cannot be told where domains have heaps of their own.
        if domain.kind != "shared"
            && let Some(h) = heaps.iter().find(|h| h.owner == owner && h.kind == *kind)
        {
            // The list of blocks comes behind the heap's own first word.
            let address = h.address.saturating_sub(session.clr()?.header());
            line.push_str(&format!("\n{:<20}{address:0w$X}", format!("{kind}:"), w = digits()));
            *place = Cell::Addr(address);
        }
    }
    line.push_str(&format!("\nStage:              OPEN\nName:               {}", domain.name.unwrap_or("None")));
    let [low, high, stub] = places;
    let number = domain.number.map_or(Cell::None, |n| Cell::Num(u64::from(n)));
    let (address, kind, name) = (Cell::Addr(domain.address), Cell::text(domain.kind), Cell::maybe(domain.name));
    let cells = [address, kind, number, low, high, stub, Cell::text("OPEN"), name];
    Ok(out.row_as(&DOMAINS, &cells, line)?)
}

fn dumpassembly(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = args.number("ADDR").unwrap_or(0);
    let Some(a) = clr.assemblies().items.iter().find(|a| [a.assembly, a.item, a.module].contains(&address)) else {
        bail!("{address:x} is not an assembly; !dumpdomain lists them")
    };
    let (m, domain) = (clr.module(a.module), Some(a.domain).filter(|&d| d != 0));
    let name = m.display_name(clr);
    let out = &mut *ctx.out;
    out.datum("assembly", &Cell::Addr(identity(a)));
    let line = format!("Parent Domain:      {:0w$x}", domain.unwrap_or(0), w = digits());
    out.fact("domain", domain.map_or(Cell::None, Cell::Addr), line)?;
    out.fact("name", Cell::text(&name), format!("Name:               {name}"))?;
    out.note("  Module")?;
    out.datum("dynamic", &Cell::Bool(m.dynamic));
    out.facts(&[("module", Cell::Addr(m.address)), ("path", path_cell(&m))], module_line(&m))?;
    out.note("")?;
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
    let name = m.display_name(clr);
    let out = &mut *ctx.out;
    out.datum("module", &Cell::Addr(m.address));
    out.fact("name", Cell::text(&name), format!("Name:                 {name}"))?;
    let kind = if m.path.is_empty() { "Reflection " } else { "PEFile " };
    out.fact("in_file", Cell::Bool(!m.path.is_empty()), format!("Attributes:           {kind}"))?;
    out.datum("dynamic", &Cell::Bool(m.dynamic));
    if let Some(a) = assembly {
        let line = format!("Assembly:             {:0w$x}", identity(&a), w = digits());
        out.fact("assembly", Cell::Addr(identity(&a)), line)?;
    }
    let line = format!("BaseAddress:          {:0w$X}", m.image_base, w = digits());
    out.facts(&[("image_base", Cell::Addr(m.image_base)), ("size", Cell::Num(m.size))], line)?;
    for (key, field) in [("typedef_map", "TypeDefToMethodTableMap"), ("typeref_map", "TypeRefToMethodTableMap")] {
        if let Some(at) = clr.layout().try_offset("Module", field) {
            let address = m.address.saturating_add(at);
            let line = format!("{:<26}{address:0w$X}", format!("{field}:"), w = digits());
            out.fact(key, Cell::Addr(address), line)?;
        }
    }
    let source = m.metadata_source(clr);
    for (key, cell) in ["metadata", "metadata_file", "metadata_missing"].into_iter().zip(source_cells(source)) {
        out.datum(key, &cell);
    }
    match m.metadata_range(clr) {
        Some((start, length)) => {
            let line = format!("MetaData start address: {start:0w$X} ({length} bytes)", w = digits());
            out.facts(&[("metadata_start", Cell::Addr(start)), ("metadata_size", Cell::Num(length))], line)?;
        }
        None => out.note(format!("MetaData:             {}", source_words(source)))?,
    }
    if args.has("mt") {
        return types(session, out, &m);
    }
    Ok(Outcome::Complete)
}

const TOKEN: u8 = 18;
const DEFINED: Table = Table::new(
    "defined",
    &[
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::right("TypeDef", "token", TOKEN).of(Type::Hex),
        Col::left("Name", "name", 0).of(Type::TypeName),
    ],
);
const REFERENCED: Table = Table::new(
    "referenced",
    &[Col::right("TypeRef", "token", TOKEN).of(Type::Hex), Col::left("Name", "name", 0).of(Type::TypeName)],
);

fn types(session: &Session, out: &mut Out, m: &Module) -> Result<Outcome> {
    let clr = session.clr()?;
    let token = |t: u32| Cell::shown(format!("0x{t:08x}"), Cell::Hex(t.into()));
    out.note("")?;
    out.note("Types defined in this module")?;
    out.note("")?;
    out.open(&DEFINED)?;
    let loaded = clr.loaded_types(m.address);
    for &(rid, mt) in &loaded.items {
        let name = clr.type_name_long(mt);
        out.row(&[Cell::AddrPad(mt, 16), token(0x0200_0000 | rid), Cell::text(&*name)])?;
    }
    let Some(metadata) = m.metadata(clr) else {
        return Ok(Outcome::Partial("the module's metadata is not in the dump".into()));
    };
    out.done(&DEFINED)?;
    out.note("")?;
    out.note("Types referenced in this module")?;
    out.note("")?;
    out.open(&REFERENCED)?;
    for rid in 1..=metadata.rows(table::TYPE_REF) {
        session.watch.cancel.check()?;
        if clr.typeref_resolved(m.address, rid) != Some(false) {
            out.row(&[token(0x0100_0000 | rid), Cell::text(metadata.typeref_full_name(rid))])?;
        }
    }
    Ok(outcome(loaded.partial.as_ref()))
}
