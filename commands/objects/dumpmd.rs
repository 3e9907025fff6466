//! `!dumpmd`: a method. `!ip2md`: the method an address in compiled code belongs to.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::dump::Arch;
use crate::session::Session;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, digits};

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
    run: dumpmd,
};

/// `!ip2md IP`.
pub const IP2MD: Command = Command {
    name: "ip2md",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "the method whose compiled code an address is in",
    help: "Finds the method for an address in code the JIT compiled, such as a return address on a stack, and shows it as \
           !dumpmd does. Of precompiled code, in the images of the assemblies, the methods the runtime has prepared are \
           known: the nearest one that begins before the address is shown, and the answer says so.",
    args: &[Arg::pos("IP", Kind::Address, "address in code").required()],
    examples: &[Example { line: "!ip2md $CODE", what: "whose code is it" }],
    needs: Needs::Clr,
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

/// Prints a method; `code` is where its code begins when that is known from elsewhere.
fn show(clr: &Clr, out: &mut Out, md: &MethodDesc, code: Option<u64>) -> Result<()> {
    let mt = clr.method_table(md.owner);
    let class = mt.as_ref().and_then(|m| clr.mts().eeclass(clr.space(), m)).unwrap_or(0);
    let module = mt.as_ref().and_then(|m| clr.defining_module(m)).unwrap_or(0);
    let native = clr.native_code(md);
    let code = code.or(native);
    out.line(format!("Method Name:          {}", clr.method_name(md)))?;
    out.line(format!("Class:                {class:0w$x}", w = digits()))?;
    out.line(format!("MethodTable:          {:0w$x}", md.owner, w = digits()))?;
    out.line(format!("mdToken:              {:0w$X}", md.token(), w = digits()))?;
    out.line(format!("Module:               {module:0w$x}", w = digits()))?;
    out.line(format!("IsJitted:             {}", if code.is_some() { "yes" } else { "no" }))?;
    out.line(format!("Current CodeAddr:     {:0w$x}", native.or(code).unwrap_or(u64::MAX), w = digits()))?;
    if let Some(code) = code {
        let image = clr.module(module);
        let precompiled = image.image_base != 0 && code.wrapping_sub(image.image_base) < image.size;
        let kind = if precompiled { "  (ReadyToRun)" } else { "" };
        out.line("Version History:")?;
        out.line(format!("     CodeAddr:           {code:0w$x}{kind}", w = digits()))?;
    }
    Ok(())
}

/// Offset of the MethodDesc in a `RealCodeHeader` (dotnet/runtime v8.0 `src/coreclr/vm/codeman.h`): behind the pointers to
/// debug information, exception clauses and GC information.
const HEADER_METHOD: u64 = 3;
/// Longest method looked back through.
const MAX_METHOD: u64 = 1 << 20;

/// The method whose code `ip` is in, with the start of that code: the nearest start before it. In front of each method's
/// code lies a pointer to its header, in which the MethodDesc is; that it is one, proves the start. On x86 the header itself
/// lies there.
fn method_at(session: &Session, ip: u64) -> Result<Option<(MethodDesc, u64)>> {
    let clr = session.clr()?;
    let (space, ptr) = (clr.space(), clr.header());
    let heaps = &session.loader_heaps()?.heaps.items;
    let blocks = heaps.iter().filter(|h| h.kind == "LoaderCodeHeap").flat_map(|h| &h.blocks);
    let Some(block) = blocks.into_iter().find(|b| (b.start..b.start + b.size).contains(&ip)) else { return Ok(None) };
    let lowest = block.start.max(ip.saturating_sub(MAX_METHOD));
    let mut at = ip & !(ptr - 1);
    while at > lowest {
        let header = match session.dump().arch {
            Arch::X86 => inline_header(session, at),
            _ => space.ptr(at - ptr).filter(|&h| h > 0xFFFF && h.is_multiple_of(ptr)),
        };
        let method = header.and_then(|h| space.ptr_at(h, HEADER_METHOD * ptr)).and_then(|m| clr.valid_method_desc(m));
        if let Some(md) = method {
            return Ok(Some((md, at)));
        }
        at -= ptr;
    }
    Ok(None)
}

/// Where the header of code at `at` lies if it is in front of the code (`CodeHeader` of x86): its pointers to debug
/// information and exception clauses are null or readable, the one to GC information is readable.
fn inline_header(session: &Session, at: u64) -> Option<u64> {
    let (space, ptr) = (&session.dump().space, u64::from(session.dump().arch.pointer_size()));
    let header = at.checked_sub((HEADER_METHOD + 1) * ptr)?;
    let word = |i: u64| space.ptr_at(header, i * ptr);
    let optional = |i: u64| word(i).is_some_and(|p| p == 0 || space.readable(p));
    (optional(0) && optional(1) && space.readable(word(2)?)).then_some(header)
}

/// The method of `module` whose code begins nearest before `ip`, of those whose code the runtime has prepared; a method
/// that is on a stack is among them.
fn prepared_before(session: &Session, module: u64, base: u64, ip: u64) -> Result<Option<(MethodDesc, u64)>> {
    let clr = session.clr()?;
    let mut types: Vec<u64> = clr.loaded_types(module).items.into_iter().map(|t| t.1).collect();
    // Instantiations are in no map of a module.
    types.extend(session.made_types()?.values());
    let (mut best, mut seen) = (None::<(MethodDesc, u64)>, rustc_hash::FxHashSet::default());
    for mt in types {
        session.watch.cancel.check()?;
        let Some(table) = clr.valid_type(mt) else { continue };
        if !seen.insert(clr.mts().canonical(&table)) {
            continue;
        }
        for md in clr.methods(&table).items {
            let code = clr.native_code(&md).filter(|c| (base..=ip).contains(c) && ip - c < MAX_METHOD);
            if let Some(code) = code.filter(|c| best.is_none_or(|b| b.1 < *c)) {
                best = Some((md, code));
            }
        }
    }
    Ok(best)
}

fn ip2md(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let ip = args.number("IP").unwrap_or(0);
    if let Some((md, start)) = method_at(session, ip)? {
        ctx.out.line(format!("MethodDesc:   {:0w$x}", md.address, w = digits()))?;
        show(clr, ctx.out, &md, Some(start))?;
        return Ok(Outcome::Complete);
    }
    if let Some(md) = clr.method_of_stub(ip) {
        ctx.out.line(format!("MethodDesc:   {:0w$x}", md.address, w = digits()))?;
        show(clr, ctx.out, &md, None)?;
        return Ok(Outcome::Complete);
    }
    for a in &clr.assemblies().items {
        let m = clr.module(a.module);
        if m.image_base != 0 && ip.wrapping_sub(m.image_base) < m.size {
            let Some((md, start)) = prepared_before(session, a.module, m.image_base, ip)? else {
                ctx.out.line(format!("{ip:x} is in the image of {}", m.display_name(clr)))?;
                return Ok(Outcome::Partial("no method of it is known whose code begins before the address".into()));
            };
            ctx.out.line(format!("MethodDesc:   {:0w$x}", md.address, w = digits()))?;
            show(clr, ctx.out, &md, Some(start))?;
            let why = "precompiled code: the nearest method whose code is known to begin before the address, which it is for \
                       an address from a stack";
            return Ok(Outcome::Partial(why.into()));
        }
    }
    if !session.dump().space.readable(ip) {
        bail!("{ip:x} is not in the dump");
    }
    bail!("{ip:x} is not in the code of a method; lm and !address tell what it is")
}
