//! `!dumpmd`: a method. `!ip2md`: the method an address in compiled code belongs to.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::lookup::{CodeAt, CodeKind};
use crate::clr::code::methods::MethodDesc;
use crate::clr::image::modules::Module;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits};

/// `!dumpmd MD`.
pub const DUMPMD: Command = Command {
    name: "dumpmd",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a method by its MethodDesc: name, type, token, code",
    help: "Takes a MethodDesc, as !dumpmt -md and !name2ee print them, or the address of a stub that stands for one. IsJitted \
           is yes where the MethodDesc leads to code; precompiled code that was only reached through a stub is not \
           found this way.",
    args: &[Arg::pos("MD", Kind::Address, "MethodDesc").required()],
    examples: &[Example { line: "!dumpmd $METHOD", what: "a method" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
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
    returns: Returns::NOTHING,
    run: ip2md,
};

fn dumpmd(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = args.number("MD").unwrap_or(0);
    let Some(md) = clr.valid_method_desc(address).or_else(|| clr.method_of_stub(address)) else {
        bail!("{address:x} is not a MethodDesc; !dumpmt -md and !name2ee print them")
    };
    show(clr, ctx.out, &md, None)?;
    Ok(Outcome::Complete)
}

/// Prints a method; `code` is where its code begins and whether that is precompiled, when it is known from elsewhere.
fn show(clr: &Clr, out: &mut Out, md: &MethodDesc, code: Option<(u64, bool)>) -> Result<()> {
    let mt = clr.method_table(md.owner);
    let class = mt.as_ref().and_then(|m| clr.mts().eeclass(clr.space(), m)).unwrap_or(0);
    let module = mt.as_ref().and_then(|m| clr.defining_module(m)).unwrap_or(0);
    let native = clr.native_code(md);
    let code = code.or_else(|| {
        let kind = |n| clr.code().at(n).is_some_and(|a| !matches!(a.kind, CodeKind::Jit | CodeKind::Stub(_)));
        native.map(|n| (n, kind(n)))
    });
    out.line(format!("Method Name:          {}", clr.method_name(md)))?;
    out.line(format!("Class:                {class:0w$x}", w = digits()))?;
    out.line(format!("MethodTable:          {:0w$x}", md.owner, w = digits()))?;
    out.line(format!("mdToken:              {:0w$X}", md.token(), w = digits()))?;
    out.line(format!("Module:               {module:0w$x}", w = digits()))?;
    out.line(format!("IsJitted:             {}", if code.is_some() { "yes" } else { "no" }))?;
    out.line(format!("Current CodeAddr:     {:0w$x}", native.or(code.map(|c| c.0)).unwrap_or(u64::MAX), w = digits()))?;
    if let Some((code, precompiled)) = code {
        let kind = if precompiled { "  (ReadyToRun)" } else { "" };
        out.line("Version History:")?;
        out.line(format!("     CodeAddr:           {code:0w$x}{kind}", w = digits()))?;
    }
    Ok(())
}

fn ip2md(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let ip = args.number("IP").unwrap_or(0);
    let at = clr.code().at(ip);
    if let Some(at) = at.filter(|a| !matches!(a.kind, CodeKind::Stub(_))) {
        return code(clr, ctx.out, &at);
    }
    if let Some(md) = clr.method_of_stub(ip) {
        ctx.out.line(format!("MethodDesc:   {:0w$x}", md.address, w = digits()))?;
        show(clr, ctx.out, &md, None)?;
        return Ok(Outcome::Complete);
    }
    if let Some(CodeKind::Stub(kind)) = at.map(|a| a.kind) {
        ctx.out.line(format!("{ip:x} is in a stub of the runtime (kind {kind})"))?;
        return Ok(Outcome::Complete);
    }
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        if m.image_base != 0 && ip.wrapping_sub(m.image_base) < m.size {
            let name = m.display_name(clr);
            ctx.out.line(format!("{ip:x} is in the image of {name}, at {:x}", ip - m.image_base))?;
            return Ok(Outcome::Partial(unknown(clr, &m)));
        }
    }
    if !session.dump().space.readable(ip) {
        bail!("{ip:x} is not in the dump");
    }
    match clr.code().partial() {
        Some(why) => bail!("{ip:x} is in no code of a method that is known: {why}"),
        None => bail!("{ip:x} is not in the code of a method; lm and !address tell what it is"),
    }
}

/// Prints the method of compiled code, then what the address stands for in its source.
fn code(clr: &Clr, out: &mut Out, at: &CodeAt) -> Result<Outcome> {
    let precompiled = at.kind != CodeKind::Jit;
    let method = at.method.and_then(|m| clr.method_desc(m));
    match (&method, clr.code().name(at)) {
        (Some(md), _) => {
            out.line(format!("MethodDesc:   {:0w$x}", md.address, w = digits()))?;
            show(clr, out, md, Some((at.start, precompiled)))?;
        }
        (None, Some(name)) => {
            out.line(format!("Method Name:          {name}"))?;
            out.line(format!("mdToken:              {:0w$X}", at.token.unwrap_or(0), w = digits()))?;
            out.line(format!("Module:               {:0w$x}", at.module, w = digits()))?;
            out.line(format!("Current CodeAddr:     {:0w$x}", at.start, w = digits()))?;
        }
        (None, None) => {
            let module = clr.module(at.module);
            let name = module.display_name(clr);
            out.line(format!("{:x} is in the image of {name}, at {:x}", at.ip, at.ip.wrapping_sub(at.base)))?;
            return Ok(Outcome::Partial(unknown(clr, &module)));
        }
    }
    if let Some(funclet) = at.function.filter(|_| at.in_funclet()) {
        out.line(format!("Funclet:              {:0w$x}", funclet.start, w = digits()))?;
    }
    source(clr, out, at)?;
    Ok(match method {
        Some(_) => Outcome::Complete,
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
        out.line(format!("IL offset:            IL_{il:04x}"))?;
    }
    if let Some(il) = before {
        out.line(format!("IL offset of call:    IL_{il:04x}"))?;
    }
    let line = own.or(before).and_then(|il| code.line(at, il));
    let of_call = before.and_then(|il| code.line(at, il)).filter(|l| line.as_ref() != Some(l));
    if let Some(l) = line {
        out.line(format!("Source file:  {} @ {}", l.document, l.line))?;
    }
    if let Some(l) = of_call {
        out.line(format!("Source of call:  {} @ {}", l.document, l.line))?;
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
