//! `lm`: the modules of the process.

use anyhow::{Result, bail};

use super::range::Words;
use super::{matches, module_name, tick, value};
use crate::dump::{Dump, Module};
use crate::shell::banner::utc;
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

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
        returns: Returns::tables(&[&MODULES, &UNLOADED]),
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
            "m" => wanted.pattern = words.take().map(|w| show(w).into_owned()),
            "a" => wanted.address = words.expression().map(|e| value(ctx, &e)).transpose()?,
            // As in `lmvm NAME`, the letter m being part of the command.
            _ if wanted.pattern.is_none() => wanted.pattern = Some(show(word).into_owned()),
            _ => bail!("unexpected `{}`; usage: lm [v|f] [m PATTERN] [a ADDR]", show(word)),
        }
    }
    Ok(wanted)
}

const MODULES: Table = Table::new(
    "modules",
    &[
        Col::left("start", "start", 17).of(Type::Address),
        Col::left("end", "end", 19).of(Type::Address),
        Col::left("module name", "module", 24),
        Col::left("", "path", 0),
        Col::data("file", Type::Text).titled("its file name"),
        Col::data("timestamp", Type::Hex).titled("the time stamp of its PE header"),
        Col::data("time", Type::Time).titled("that as a moment, which it is not in a reproducible build"),
        Col::data("image_size", Type::Bytes).titled("the size its PE header names, else what is mapped"),
        Col::data("version", Type::Text).titled("its file version"),
        Col::data("build_id", Type::Text).titled("its ELF build id"),
        Col::data("pdb", Type::Text).titled("its PDB as the image names it"),
        Col::data("headers", Type::Bool).titled("its headers can be read"),
    ],
);

const UNLOADED: Table = Table::new(
    "unloaded",
    &[
        Col::data("start", Type::Address).titled("where it was"),
        Col::data("end", Type::Address).titled("where it ended"),
        Col::data("name", Type::Text).titled("its name"),
    ],
);

/// What is known of a module; text has the path where it is to be shown.
fn row<'m>(dump: &Dump, m: &'m Module, path: bool) -> [Cell<'m>; 12] {
    let pointer = dump.arch.pointer_size();
    let version = m.version.map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d}"));
    [
        Cell::AddrTick(m.base, pointer),
        Cell::AddrTick(m.base.saturating_add(m.size), pointer),
        Cell::text(module_name(m)),
        if path { Cell::text(m.path.as_str()) } else { Cell::shown("", Cell::text(m.path.as_str())) },
        Cell::text(m.file_name()),
        m.timestamp.map_or(Cell::None, |t| Cell::Hex(u64::from(t))),
        m.timestamp.map_or(Cell::None, |t| Cell::Time(u64::from(t))),
        Cell::Num(image_size(m)),
        Cell::maybe(version),
        Cell::maybe(m.build_id.as_deref().map(hex)),
        Cell::maybe(m.pdb.as_deref()),
        Cell::Bool(dump.space.readable(m.base)),
    ]
}

fn image_size(m: &Module) -> u64 {
    m.image_size.map_or(m.size, u64::from)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

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
            ctx.out.row_as(&MODULES, &row(dump, m, false), module_name(m))?;
        }
        return Ok(if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete });
    }
    ctx.out.open(&MODULES)?;
    for m in &chosen {
        ctx.out.row(&row(dump, m, wanted.detail != Detail::Name))?;
        if wanted.detail == Detail::All {
            details(ctx, dump, m)?;
        }
    }
    let all = wanted.pattern.is_none() && wanted.address.is_none();
    if all && !dump.unloaded.is_empty() {
        ctx.out.note("")?;
        ctx.out.note("Unloaded modules:")?;
        for u in &dump.unloaded {
            let (start, end) = (u.base, u.base.saturating_add(u.size));
            let line = format!("{} {}   {}", tick(start, pointer), tick(end, pointer), u.name);
            let cells = [Cell::AddrTick(start, pointer), Cell::AddrTick(end, pointer), Cell::text(u.name.as_str())];
            ctx.out.row_as(&UNLOADED, &cells, line)?;
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
    facts.push(("ImageSize", format!("{:08X}", image_size(m))));
    if let Some([a, b, c, d]) = m.version {
        facts.push(("File version", format!("{a}.{b}.{c}.{d}")));
    }
    if let Some(id) = &m.build_id {
        facts.push(("Build id", hex(id)));
    }
    if let Some(pdb) = &m.pdb {
        facts.push(("PDB", pdb.clone()));
    }
    let held = dump.space.readable(m.base);
    facts.push(("Headers", if held { "readable" } else { "not in the dump" }.to_owned()));
    for (name, text) in facts {
        ctx.out.facts(&[], format!("    {:<17}{text}", format!("{name}:")))?;
    }
    Ok(())
}
