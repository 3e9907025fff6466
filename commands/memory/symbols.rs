//! `ln`: what an address is called. `x`: addresses of names.

use anyhow::Result;

use super::thing::{Thing, cells, thing};
use super::{matches, module_name, tick};
use crate::clr::Clr;
use crate::clr::image::modules::Module;
use crate::native::symbols::Symbol;
use crate::session::Session;
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// All names an address has.
const EXACT: Table =
    Table::new("exact", &[Col::data("symbol", Type::Text).titled("a symbol that stands for the address")]);

/// `ln`.
pub const LN: Command = Command {
    name: "ln",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "the symbol, method, object or MethodTable an address belongs to",
    help: "For an address in a module: the symbol at or before it and the one behind it, from exports, symbol tables of ELF \
           files (.symtab, .gnu_debugdata), split debug files and PDBs, as far as they are at hand (.symneed says what is \
           missing). In managed code: the method. Else the object or MethodTable it is of.",
    args: &[Arg::pos("ADDR", Kind::Address, "the address").required()],
    examples: &[Example { line: "ln @$ip", what: "where the thread stands" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("address", "the address", Type::Address),
        Fact::new("kind", "what it belongs to: object, method_table, method, symbol or module", Type::Text),
        Fact::new("type", "the type of the object or MethodTable", Type::TypeName),
        Fact::new("module", "the module", Type::Text),
        Fact::new("offset", "how far into the module it is", Type::Hex),
        Fact::new("symbol", "the symbol or method it is in, or the nearest before it", Type::Text),
        Fact::new("symbol_address", "where a symbol begins", Type::Address),
        Fact::new("symbol_offset", "how far behind the beginning of that it is", Type::Hex),
        Fact::new("next_address", "where the next symbol begins", Type::Address),
        Fact::new("next_symbol", "the next symbol", Type::Text),
        Fact::new("path", "the path of the module", Type::Path),
        Fact::new("source_file", "source file of the instruction, where debug information is at hand", Type::Path),
        Fact::new("source_line", "line in it", Type::Number),
    ])
    .and(&[&EXACT]),
    run: ln,
};

fn ln(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let a = args.number("ADDR").unwrap_or(0);
    let pointer = session.dump().arch.pointer_size();
    let shown = tick(a, pointer);
    ctx.out.datum("address", &Cell::Addr(a));
    let Some(found) = thing(session, a) else {
        ctx.out.note(format!("{shown} belongs to no module"))?;
        return Ok(Outcome::Empty);
    };
    let native = matches!(found, Thing::Module(..) | Thing::Symbol { .. });
    let near = if native { session.native().nearest(a) } else { (None, None) };
    let line = match &near {
        (Some(before), _) => format!("({})   {}", tick(before.address, pointer), from(before, a)),
        _ => format!("({shown})   {}", found.text()),
    };
    let behind = near.1.as_ref().map(|n| format!("   |  ({})   {}!{}", tick(n.address, pointer), n.module, n.name));
    let [kind, ty, module, offset, mut symbol] = cells(Some(found));
    let mut distance = Cell::None;
    if let Some(before) = &near.0 {
        symbol = Cell::text(format!("{}!{}", before.module, before.name));
        distance = Cell::Hex(a.wrapping_sub(before.address));
        ctx.out.datum("symbol_address", &Cell::Addr(before.address));
    } else if let Some((name, far)) = session.method_at(a) {
        (symbol, distance) = (Cell::text(name), Cell::Hex(far));
    }
    let mut facts = vec![
        ("kind", kind),
        ("type", ty),
        ("module", module),
        ("offset", offset),
        ("symbol", symbol),
        ("symbol_offset", distance),
    ];
    if let Some(next) = &near.1 {
        facts.push(("next_address", Cell::Addr(next.address)));
        facts.push(("next_symbol", Cell::text(format!("{}!{}", next.module, next.name))));
    }
    ctx.out.facts(&facts, format!("{line}{}", behind.unwrap_or_default()))?;
    if let Some(m) = session.dump().module_at(a).filter(|_| native) {
        ctx.out.fact("path", Cell::text(m.path.as_str()), format!("    {}", m.path))?;
    }
    if let Some(l) = session.native().line_at(a).filter(|_| native) {
        let facts = [("source_file", Cell::text(&*l.file)), ("source_line", Cell::Num(l.line.into()))];
        ctx.out.facts(&facts, format!("    {} @ {}", l.file, l.line))?;
    }
    let exact = if native { session.native().names_at(a) } else { Vec::new() };
    if !exact.is_empty() {
        ctx.out.note("Exact matches:")?;
    }
    for s in exact {
        let name = format!("{}!{}", s.module, s.name);
        ctx.out.row_as(&EXACT, &[Cell::text(&name)], format!("    {name}"))?;
    }
    Ok(Outcome::Complete)
}

/// `module!name+0x12` of an address behind the symbol.
fn from(symbol: &Symbol, address: u64) -> String {
    let name = format!("{}!{}", symbol.module, symbol.name);
    match address.wrapping_sub(symbol.address) {
        0 => name,
        n => format!("{name}+0x{n:x}"),
    }
}

const SYMBOLS: Table = Table::new(
    "symbols",
    &[
        Col::left("address", "address", 17).of(Type::Address),
        Col::left("name", "symbol", 0).of(Type::Text),
        Col::data("size", Type::Bytes).titled("bytes of it, where they are recorded"),
        Col::data("managed", Type::Bool).titled("it is a managed method"),
        Col::data("code", Type::Bool).titled("it is code, not data"),
    ],
);

/// `x`.
pub const X: Command = Command {
    name: "x",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "symbols and managed methods whose name matches",
    help: "x MODULE!PATTERN lists exports and symbols of the modules whose name matches, and methods of managed modules that \
           have code, as Type.Method. * and ? stand for characters, case does not matter. Without MODULE all modules are \
           searched. Names of C++ are matched without parameters.",
    args: &[Arg::pos("SYMBOL", Kind::Rest, "MODULE!PATTERN").required().completes_modules()],
    examples: &[
        Example { line: "x *coreclr!*Main*", what: "what the runtime exports of that name" },
        Example { line: "x *!*Main", what: "entry points, managed ones too" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&SYMBOLS]),
    run: x,
};

fn x(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let text = show(args.text("SYMBOL").unwrap_or("").trim()).into_owned();
    // Options of the debuggers choose columns and order; the rows are the same.
    let text = text.split_whitespace().find(|w| !w.starts_with('/')).unwrap_or("*").to_owned();
    let (module, pattern) = text.split_once('!').unwrap_or(("*", &text));
    let mut found = 0usize;
    ctx.out.open_bare(&SYMBOLS)?;
    let native = session.native();
    for (index, m) in session.dump().modules.iter().enumerate() {
        session.watch.cancel.check()?;
        let name = module_name(m);
        let bare = name.strip_prefix("lib").unwrap_or(&name);
        if !(matches(module, &name) || matches(module, bare) || matches(module, m.file_name())) {
            continue;
        }
        let Some(opened) = native.image(index) else { continue };
        for s in native.matching(opened, |name| matches(pattern, name)) {
            found += 1;
            let name = format!("{}!{}", s.module, s.name);
            let size = if s.size == 0 { Cell::None } else { Cell::Num(s.size) };
            row(ctx, s.address, &name, size, false, s.code)?;
        }
    }
    if let Ok(clr) = session.clr() {
        found += methods(ctx, session, clr, module, pattern)?;
    }
    Ok(if found == 0 { Outcome::Empty } else { Outcome::Complete })
}

fn row(ctx: &mut Ctx<'_>, address: u64, name: &str, size: Cell<'_>, managed: bool, code: bool) -> Result<()> {
    let pointer = ctx.session()?.dump().arch.pointer_size();
    let cells = [Cell::AddrTick(address, pointer), Cell::text(name), size, Cell::Bool(managed), Cell::Bool(code)];
    Ok(ctx.out.row(&cells)?)
}

/// Methods with code of the managed modules whose name matches.
fn methods(ctx: &mut Ctx<'_>, session: &Session, clr: &Clr, module: &str, pattern: &str) -> Result<usize> {
    let mut found = 0;
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        let name = m.display_name(clr);
        let stem = stem(&m, &name);
        if !(matches(module, stem) || matches(module, &name) || matches(module, &stem.replace('.', "_"))) {
            continue;
        }
        let Some(metadata) = m.metadata(clr) else { continue };
        for (rid, mt) in clr.loaded_types(a.module).items {
            session.watch.cancel.check()?;
            let owner = metadata.full_name(rid);
            let Some(table) = clr.method_table(mt) else { continue };
            for md in clr.methods(&table).items {
                let Some(method) = metadata.method(md.rid) else { continue };
                if md.rid == 0 || !matches(pattern, &format!("{owner}.{}", method.name)) {
                    continue;
                }
                let Some(code) = clr.native_code(&md) else { continue };
                found += 1;
                row(ctx, code, &format!("{stem}!{}", clr.method_name(&md)), Cell::None, true, true)?;
            }
        }
    }
    Ok(found)
}

/// What the module is called in front of `!`.
fn stem<'n>(m: &Module, name: &'n str) -> &'n str {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let cut = file.strip_suffix(".dll").or_else(|| file.strip_suffix(".exe")).unwrap_or(file);
    if m.path.is_empty() { name } else { cut }
}
