//! `!dumpmd`: a method. `!ip2md`: the method an address in compiled code belongs to.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::lookup::{CodeAt, CodeKind, CodeVersion};
use crate::clr::code::methods::MethodDesc;
use crate::clr::image::modules::Module;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!dumpmd MD`.
pub const DUMPMD: Command = Command {
    name: "dumpmd",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a method by its MethodDesc: name, type, token, code",
    help: "Takes a MethodDesc, as !dumpmt -md and !name2ee print them, or the address of a stub that stands for one. All \
           code of it that is known is listed: what the JIT made, again for each tier, and precompiled code in use.",
    args: &[Arg::pos("MD", Kind::Address, "MethodDesc").required()],
    examples: &[Example { line: "!dumpmd $METHOD", what: "a method" }],
    needs: Needs::CoreClr,
    returns: METHOD,
    run: dumpmd,
};

/// `!ip2md IP`.
pub const IP2MD: Command = Command {
    name: "ip2md",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "the method whose compiled code an address is in",
    help: "Finds the method for an address in compiled code, such as a return address on a stack, and shows it as !dumpmd \
           does: code the JIT made, precompiled code in the images of assemblies, funclets, dynamic methods, stubs. Where \
           the compiler recorded it, the IL offset of the instruction follows, that of the call before it (what a return \
           address stands for), and with a portable PDB, inside the assembly or beside it or in a folder given with -i or \
           .sympath, file and line. Tables of precompiled images that the dump lacks come from the file of the same \
           identity.",
    args: &[Arg::pos("IP", Kind::Address, "address in code").required()],
    examples: &[Example { line: "!ip2md $CODE", what: "whose code is it" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("address", "the address asked about", Type::Address),
        Fact::new("stub", "kind of the runtime's stub that holds it", Type::Number),
        Fact::new("image", "path of the image that holds it, where no method of it is known", Type::Path),
        Fact::new("image_offset", "its distance from the base of that image", Type::Bytes),
        Fact::new("funclet", "start of the funclet that holds it", Type::Address),
        Fact::new("il_offset", "IL offset of the instruction", Type::Hex),
        Fact::new("il_offset_of_call", "IL offset of the call before it, where that is another", Type::Hex),
        Fact::new("source_file", "source file of the instruction, else of the call", Type::Path),
        Fact::new("source_line", "line in it", Type::Number),
        Fact::new("call_source_file", "source file of the call, where file or line are others", Type::Path),
        Fact::new("call_source_line", "line in it", Type::Number),
    ])
    .with(&[&METHOD]),
    run: ip2md,
};

/// What is known of a method.
pub(super) const METHOD: Returns = Returns::facts(&[
    Fact::new("method_desc", "the MethodDesc", Type::Address),
    Fact::new("name", "type, name and parameters of the method", Type::Text),
    Fact::new("ee_class", "EEClass of its type", Type::Address),
    Fact::new("method_table", "MethodTable of its type", Type::Address),
    Fact::new("token", "its MethodDef token", Type::Hex),
    Fact::new("module", "Module that defines it", Type::Address),
    Fact::new("jitted", "its MethodDesc leads to code, or code of it was found", Type::Bool),
    Fact::new("code", "where its code begins now", Type::Address),
    Fact::new(
        "version_code",
        "where the version of its code begins that is shown: the one that holds the address",
        Type::Address,
    ),
    Fact::new("ready_to_run", "that version is precompiled", Type::Bool),
    Fact::new("il", "where its IL lies, header first", Type::Address),
])
.and(&[&VERSIONS]);

/// Code of the method.
const VERSIONS: Table = Table::new(
    "versions",
    &[
        Col::data("code", Type::Address).titled("where it begins"),
        Col::data("ready_to_run", Type::Bool).titled("it is precompiled"),
        Col::data("shown", Type::Bool)
            .titled("it is the one that runs now, or the one that holds the address asked about"),
    ],
);

fn dumpmd(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = args.number("MD").unwrap_or(0);
    let Some(md) = clr.valid_method_desc(address).or_else(|| clr.method_of_stub(address)) else {
        bail!("{address:x} is not a MethodDesc; !dumpmt -md and !name2ee print them")
    };
    ctx.out.datum("method_desc", &Cell::Addr(md.address));
    show(clr, ctx.out, &md, None)?;
    Ok(Outcome::Complete)
}

/// Prints a method; `code` is where its code begins and whether that is precompiled, when it is known from elsewhere.
pub(super) fn show(clr: &Clr, out: &mut Out, md: &MethodDesc, code: Option<(u64, bool)>) -> Result<()> {
    let mt = clr.method_table(md.owner);
    let class = mt.as_ref().and_then(|m| clr.mts().eeclass(clr.space(), m));
    let module = mt.as_ref().and_then(|m| clr.defining_module(m));
    let known = |at: Option<u64>| at.map_or(Cell::None, Cell::Addr);
    let native = clr.code().entry_of(md);
    let code = code.or_else(|| {
        let kind = |n| clr.code().at(n).is_some_and(|a| !matches!(a.kind, CodeKind::Jit | CodeKind::Stub(_)));
        native.map(|n| (n, kind(n)))
    });
    let (name, token, w) = (clr.method_name(md), u64::from(md.token()), digits());
    out.fact("name", Cell::text(&name), format!("Method Name:          {name}"))?;
    out.fact("ee_class", known(class), format!("Class:                {:0w$x}", class.unwrap_or(0)))?;
    out.fact("method_table", Cell::Addr(md.owner), format!("MethodTable:          {:0w$x}", md.owner))?;
    out.fact("token", Cell::Hex(token), format!("mdToken:              {token:0w$X}"))?;
    out.fact("module", known(module), format!("Module:               {:0w$x}", module.unwrap_or(0)))?;
    let words = if code.is_some() { "yes" } else { "no" };
    out.fact("jitted", Cell::Bool(code.is_some()), format!("IsJitted:             {words}"))?;
    let current = native.or(code.map(|c| c.0));
    let line = format!("Current CodeAddr:     {:0w$x}", current.unwrap_or(u64::MAX));
    out.fact("code", known(current), line)?;
    let il = module.map(|m| clr.module(m)).and_then(|m| il_address(clr, &m, md));
    let mut versions = clr.code().versions(md.address).to_vec();
    if let Some((start, precompiled)) = code.filter(|c| versions.iter().all(|v| v.start != c.0)) {
        versions.push(CodeVersion { start, precompiled });
    }
    if il.is_some() || !versions.is_empty() {
        out.note("Version History:")?;
    }
    if let Some(il) = il {
        out.fact("il", Cell::Addr(il), format!("  IL Addr:            {il:0w$x}"))?;
    }
    if let Some((start, precompiled)) = code {
        out.datum("version_code", &Cell::Addr(start));
        out.datum("ready_to_run", &Cell::Bool(precompiled));
    }
    for v in versions.iter().rev() {
        let kind = if v.precompiled { "  (ReadyToRun)" } else { "" };
        let line = format!("     CodeAddr:           {:0w$x}{kind}", v.start);
        let shown = code.is_some_and(|c| c.0 == v.start);
        out.row_as(&VERSIONS, &[Cell::Addr(v.start), Cell::Bool(v.precompiled), Cell::Bool(shown)], line)?;
    }
    Ok(())
}

/// Where the IL of a method lies, by its row of metadata; `None` for what has none.
fn il_address(clr: &Clr, module: &Module, md: &MethodDesc) -> Option<u64> {
    let row = module.metadata(clr).filter(|_| !md.is_dynamic() && !module.dynamic)?.method(md.rid)?;
    clr.address_of_rva(module, Some(row.rva).filter(|&rva| rva != 0)?)
}

fn ip2md(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let ip = args.number("IP").unwrap_or(0);
    ctx.out.datum("address", &Cell::Addr(ip));
    let at = clr.code().at(ip);
    if let Some(at) = at.filter(|a| !matches!(a.kind, CodeKind::Stub(_))) {
        return code(clr, ctx.out, &at);
    }
    if let Some(md) = clr.method_of_stub(ip) {
        method_desc(ctx.out, &md)?;
        show(clr, ctx.out, &md, None)?;
        return Ok(Outcome::Complete);
    }
    if let Some(CodeKind::Stub(kind)) = at.map(|a| a.kind) {
        let line = format!("{ip:x} is in a stub of the runtime (kind {kind})");
        ctx.out.fact("stub", Cell::Num(u64::from(kind)), line)?;
        return Ok(Outcome::Complete);
    }
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        if m.image_base != 0 && ip.wrapping_sub(m.image_base) < m.size {
            in_image(clr, ctx.out, &m, (ip, m.image_base))?;
            return Ok(Outcome::Partial(unknown(clr, &m)));
        }
    }
    if !session.dump().space.readable(ip) {
        bail!("{ip:x} is not in the dump{}", within(session, ip));
    }
    match clr.code().partial() {
        Some(why) => bail!("{ip:x} is in no code of a method that is known: {why}"),
        None => bail!("{ip:x} is not in the code of a method{}; ln and !address tell what it is", within(session, ip)),
    }
}

/// Of which native image an address is, for an error.
fn within(session: &Session, ip: u64) -> String {
    let module = session.dump().modules.iter().find(|m| ip.wrapping_sub(m.base) < m.size);
    module.map(|m| format!(": it is in the image {}, native code", m.file_name())).unwrap_or_default()
}

/// Prints that an address is in an image, of which no method is known to hold it.
fn in_image(clr: &Clr, out: &mut Out, m: &Module, (ip, base): (u64, u64)) -> Result<()> {
    let (name, offset) = (m.display_name(clr), ip.wrapping_sub(base));
    let facts = [("image", Cell::text(&name)), ("image_offset", Cell::Num(offset)), ("module", Cell::Addr(m.address))];
    Ok(out.facts(&facts, format!("{ip:x} is in the image of {name}, at {offset:x}"))?)
}

pub(super) fn method_desc(out: &mut Out, md: &MethodDesc) -> Result<()> {
    let line = format!("MethodDesc:   {:0w$x}", md.address, w = digits());
    Ok(out.fact("method_desc", Cell::Addr(md.address), line)?)
}

/// Prints the method of compiled code, then what the address stands for in its source.
fn code(clr: &Clr, out: &mut Out, at: &CodeAt) -> Result<Outcome> {
    let precompiled = at.kind != CodeKind::Jit;
    let method = at.method.and_then(|m| clr.method_desc(m));
    match (&method, clr.code().name(at)) {
        (Some(md), _) => {
            method_desc(out, md)?;
            show(clr, out, md, Some((at.start, precompiled)))?;
        }
        (None, Some(name)) => {
            let (token, w) = (u64::from(at.token.unwrap_or(0)), digits());
            out.fact("name", Cell::text(&*name), format!("Method Name:          {name}"))?;
            out.fact("token", Cell::Hex(token), format!("mdToken:              {token:0w$X}"))?;
            out.fact("module", Cell::Addr(at.module), format!("Module:               {:0w$x}", at.module))?;
            out.fact("code", Cell::Addr(at.start), format!("Current CodeAddr:     {:0w$x}", at.start))?;
            out.datum("version_code", &Cell::Addr(at.start));
            out.datum("ready_to_run", &Cell::Bool(precompiled));
        }
        (None, None) => {
            let module = clr.module(at.module);
            in_image(clr, out, &module, (at.ip, at.base))?;
            return Ok(Outcome::Partial(unknown(clr, &module)));
        }
    }
    if let Some(funclet) = at.function.filter(|_| at.in_funclet()) {
        let line = format!("Funclet:              {:0w$x}", funclet.start, w = digits());
        out.fact("funclet", Cell::Addr(funclet.start), line)?;
    }
    source(clr, out, at)?;
    Ok(match method {
        Some(_) => Outcome::Complete,
        None if clr.ahead().is_some() => Outcome::Complete,
        None => Outcome::Partial("its MethodDesc is not in the dump".into()),
    })
}

/// Prints IL offset and source line of the instruction, and of the call before it where that is another: what it stands for
/// as a return address.
fn source(clr: &Clr, out: &mut Out, at: &CodeAt) -> Result<()> {
    let code = clr.code();
    let own = code.il_of_suspension(at);
    let before = code.il_of_return(at).filter(|b| Some(*b) != own);
    if let Some(il) = own {
        out.fact("il_offset", Cell::Hex(il.into()), format!("IL offset:            IL_{il:04x}"))?;
    }
    if let Some(il) = before {
        out.fact("il_offset_of_call", Cell::Hex(il.into()), format!("IL offset of call:    IL_{il:04x}"))?;
    }
    let line = own.or(before).and_then(|il| code.line(at, il));
    let of_call = before.and_then(|il| code.line(at, il)).filter(|l| line.as_ref() != Some(l));
    if let Some(l) = line {
        let facts = [("source_file", Cell::text(&*l.document)), ("source_line", Cell::Num(l.line.into()))];
        out.facts(&facts, format!("Source file:  {} @ {}", l.document, l.line))?;
    }
    if let Some(l) = of_call {
        let facts = [("call_source_file", Cell::text(&*l.document)), ("call_source_line", Cell::Num(l.line.into()))];
        out.facts(&facts, format!("Source of call:  {} @ {}", l.document, l.line))?;
    }
    Ok(())
}

/// Why no method is known at an address in a precompiled image.
fn unknown(clr: &Clr, module: &Module) -> String {
    let why = match module.image_file(clr) {
        Ok(_) => "no method of it is known that holds the address".into(),
        Err(why) => format!("which method it is tell tables of its file: {why}"),
    };
    format!("{} holds precompiled code; {why}", module.file_name())
}
