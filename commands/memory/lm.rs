//! `lm`: the modules of the process. `ln`: the module around an address.

use anyhow::{Result, bail};

use super::range::Words;
use super::{matches, module_name, symbol, tick, value};
use crate::dump::{Dump, Module};
use crate::shell::banner::utc;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

const OPTIONS: &[Arg] = &[Arg::pos("OPTIONS", Kind::Rest, "[v|f] [m PATTERN] [a ADDR]").completes_modules()];
const EXAMPLES: &[Example] = &[Example { line: "lm", what: "all modules" }];

const fn lm(name: &'static str, summary: &'static str, run: fn(&mut Ctx<'_>, &Args) -> Result<Outcome>) -> Command {
    Command {
        name,
        prefix: Prefix::Plain,
        aliases: &[],
        group: Group::Memory,
        summary,
        help: "Lists the modules of the process by address: m PATTERN only those whose name matches (* and ?), a ADDR only \
               the one that holds the address. v (or lmv) adds path, version, time stamp and identity, f (or lmf) the path. \
               Managed assemblies without a native mapping are in !clrmodules.",
        args: OPTIONS,
        examples: EXAMPLES,
        needs: Needs::Dump,
        returns: Returns::NOTHING,
        run,
    }
}

/// `lm`.
pub const LM: Command = Command {
    aliases: &["lmu", "lmn", "lmt", "lmo"],
    ..lm("lm", "list the modules of the process", |ctx, args| list(ctx, args, Detail::Name))
};

/// `lmf`.
pub const LMF: Command = lm("lmf", "list the modules with their paths", |ctx, args| list(ctx, args, Detail::Path));

/// `lmv`, `lmvm`.
pub const LMV: Command = Command {
    aliases: &["lmvm"],
    examples: &[Example { line: "lmvm *clr*", what: "the runtime's module in detail" }],
    ..lm("lmv", "list modules in detail", |ctx, args| list(ctx, args, Detail::All))
};

/// `lm1m`.
pub const LM1M: Command = lm("lm1m", "list module names alone, for scripts", |ctx, args| list(ctx, args, Detail::Bare));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Bare,
    Name,
    Path,
    All,
}

struct Wanted {
    detail: Detail,
    pattern: Option<String>,
    address: Option<u64>,
}

fn wanted(ctx: &Ctx<'_>, args: &Args, detail: Detail) -> Result<Wanted> {
    let mut wanted = Wanted { detail, pattern: None, address: None };
    let mut words = Words::new(args.text("OPTIONS").unwrap_or("").split_whitespace());
    while let Some(word) = words.take() {
        match word.to_ascii_lowercase().as_str() {
            "v" => wanted.detail = Detail::All,
            "f" => wanted.detail = Detail::Path,
            "1m" => wanted.detail = Detail::Bare,
            "m" => wanted.pattern = words.take().map(str::to_owned),
            "a" => wanted.address = words.expression().map(|e| value(ctx, &e)).transpose()?,
            // As in `lmvm NAME`, the letter m being part of the command.
            _ if wanted.pattern.is_none() => wanted.pattern = Some(word.to_owned()),
            _ => bail!("unexpected `{word}`; usage: lm [v|f] [m PATTERN] [a ADDR]"),
        }
    }
    Ok(wanted)
}

const COLUMNS: &[Col] = &[
    Col::left("start", "start", 17),
    Col::left("end", "end", 19),
    Col::left("module name", "module", 24),
    Col::left("", "path", 0),
];

fn list(ctx: &mut Ctx<'_>, args: &Args, detail: Detail) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let wanted = wanted(ctx, args, detail)?;
    let pointer = dump.arch.pointer_size();
    let chosen: Vec<&Module> = dump
        .modules
        .iter()
        .filter(|m| wanted.address.is_none_or(|a| a >= m.base && a - m.base < m.size))
        .filter(|m| wanted.pattern.as_ref().is_none_or(|p| named(p, m)))
        .collect();
    if wanted.detail == Detail::Bare {
        for m in &chosen {
            ctx.out.line(module_name(m))?;
        }
        return Ok(if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete });
    }
    ctx.out.table("modules", COLUMNS, true)?;
    for m in &chosen {
        let path = if wanted.detail == Detail::Name { "" } else { m.path.as_str() };
        ctx.out.row(&[
            Cell::AddrTick(m.base, pointer),
            Cell::AddrTick(m.base.saturating_add(m.size), pointer),
            Cell::text(module_name(m)),
            Cell::text(path),
        ])?;
        if wanted.detail == Detail::All {
            details(ctx, dump, m)?;
        }
    }
    let all = wanted.pattern.is_none() && wanted.address.is_none();
    if all && !dump.unloaded.is_empty() {
        ctx.out.line("")?;
        ctx.out.line("Unloaded modules:")?;
        for u in &dump.unloaded {
            ctx.out.line(format!(
                "{} {}   {}",
                tick(u.base, pointer),
                tick(u.base.saturating_add(u.size), pointer),
                u.name
            ))?;
        }
    }
    Ok(if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// Whether a module's name fits, with or without the `lib` of Linux: `coreclr` is the runtime everywhere.
fn named(pattern: &str, m: &Module) -> bool {
    let (name, file) = (module_name(m), m.file_name());
    let bare = name.strip_prefix("lib").unwrap_or(&name);
    matches(pattern, &name) || matches(pattern, bare) || matches(pattern, file)
}

fn details(ctx: &mut Ctx<'_>, dump: &Dump, m: &Module) -> Result<()> {
    let mut facts: Vec<(&str, String)> = vec![("Image path", m.path.clone()), ("Image name", m.file_name().to_owned())];
    if let Some(t) = m.timestamp {
        // Reproducible builds put a hash here, which is no time: then the number alone says something.
        facts.push(("Timestamp", format!("{} ({t:08X})", utc(u64::from(t)))));
    }
    facts.push(("ImageSize", format!("{:08X}", m.image_size.map_or(m.size, u64::from))));
    if let Some([a, b, c, d]) = m.version {
        facts.push(("File version", format!("{a}.{b}.{c}.{d}")));
    }
    if let Some(id) = &m.build_id {
        facts.push(("Build id", id.iter().map(|b| format!("{b:02x}")).collect()));
    }
    if let Some(pdb) = &m.pdb {
        facts.push(("PDB", pdb.clone()));
    }
    let held = dump.space.readable(m.base);
    facts.push(("Headers", if held { "readable" } else { "not in the dump" }.to_owned()));
    for (name, text) in facts {
        ctx.out.line(format!("    {:<17}{text}", format!("{name}:")))?;
    }
    Ok(())
}

/// `ln`.
pub const LN: Command = Command {
    name: "ln",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "the module, object or MethodTable an address belongs to",
    help: "There are no native symbols here: the answer is the module and the offset in it, or the managed thing at the \
           address.",
    args: &[Arg::pos("ADDR", Kind::Address, "the address").required()],
    examples: &[Example { line: "ln @$ip", what: "where the thread stands" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, args| {
        let session = ctx.session()?;
        let a = args.number("ADDR").unwrap_or(0);
        let name = super::display::name(session, a);
        if name.is_empty() {
            ctx.out.line(format!("{} belongs to no module", tick(a, session.dump().arch.pointer_size())))?;
            return Ok(Outcome::Empty);
        }
        ctx.out.line(format!("({})   {name}", tick(a, session.dump().arch.pointer_size())))?;
        if let Some(m) = session.dump().module_at(a).filter(|_| symbol(session.dump(), a).as_deref() == Some(&name)) {
            ctx.out.line(format!("    {}", m.path))?;
        }
        Ok(Outcome::Complete)
    },
};
