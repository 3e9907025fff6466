//! `lm`: the modules of the process.

use anyhow::{Result, bail};

use super::{matches, module_name, tick, value};
use crate::dump::images::hex;
use crate::dump::{Dump, Module};
use crate::shell::banner::utc;
use crate::shell::expr::pseudo::checksum;
use crate::shell::opaque::show;
use crate::shell::words::bracketed;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `lm`.
pub const LM: Command = Command {
    name: "lm",
    prefix: Prefix::Plain,
    aliases: &["lmv", "lmvm", "lmf", "lm1m", "lmt", "lmo", "lmn", "modules"],
    group: Group::Memory,
    summary: "list the modules of the process",
    help: "Lists the modules of the process by address. Options stand in any mix, with blanks between them or without: m \
           PATTERN those whose name matches (* ? [a-z] # +), M PATTERN those whose path does, a ADDR the one that holds the \
           address (an expression in parentheses); v path, version, time stamp and identity, f or p the path, i or n the \
           file name, t the time stamp, c the checksum, 1m the names alone, sm sorted by name, o without unloaded ones. D, \
           u, k and e change nothing; l lists none: no symbols are loaded. Managed assemblies without a native mapping are \
           in !clrmodules.",
    args: &[Arg::pos("OPTIONS", Kind::Rest, "[v|f|t|c|1m|sm] [m PATTERN] [a ADDR]").completes_modules().joined(joins)],
    examples: &[
        Example { line: "lm", what: "all modules" },
        Example { line: "lmvm *clr*", what: "the runtime's module in detail" },
        Example { line: "lm 1m sm", what: "names alone, for scripts" },
        Example { line: "lmf M *clr*", what: "by path" },
        Example { line: "lmt", what: "with time stamps" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&MODULES, &UNLOADED]),
    run: list,
};

/// Whether what follows `lm` without a blank is made of its options.
fn joins(rest: &str) -> bool {
    options(rest, &|_| Some(0)).is_ok()
}

/// What is shown behind the name of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Nothing at all but the name.
    Bare,
    Name,
    Path,
    File,
    Time,
    Checksum,
    All,
}

#[derive(Debug, PartialEq)]
struct Wanted<'t> {
    detail: Detail,
    sorted: bool,
    /// Unloaded modules too.
    unloaded: bool,
    /// None: none has its symbols loaded.
    none: bool,
    name: Option<&'t str>,
    path: Option<&'t str>,
    address: Option<u64>,
}

/// Reads options; `value` evaluates an address.
fn options<'t>(text: &'t str, value: &dyn Fn(&str) -> Option<u64>) -> Result<Wanted<'t>> {
    let (detail, none) = (Detail::Name, false);
    let mut w = Wanted { detail, sorted: false, unloaded: true, none, name: None, path: None, address: None };
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            _ if rest.starts_with("sm") => {
                w.sorted = true;
                &rest[2..]
            }
            _ if rest.starts_with("1m") => {
                w.detail = Detail::Bare;
                &rest[2..]
            }
            'm' | 'M' => {
                let (pattern, after) = word(after);
                if pattern.is_empty() {
                    bail!("a pattern is missing behind {c}: lm {c} PATTERN");
                }
                *(if c == 'm' { &mut w.name } else { &mut w.path }) = Some(pattern);
                after
            }
            'a' => {
                let (expression, behind) = match bracketed(after, '(') {
                    Some((_, behind)) => (&after[..after.len() - behind.len()], behind),
                    None => word(after),
                };
                // `lmam X`: the reference writes the letter without an address too.
                match Some(expression).filter(|e| !e.is_empty()).and_then(value) {
                    Some(a) => w.address = Some(a),
                    None if after.trim_start().starts_with(['m', 'M']) => {
                        rest = after;
                        continue;
                    }
                    None => bail!("expected an address behind a: lm a ADDR"),
                }
                behind
            }
            'D' | 'd' | 'u' | 'k' | 'e' => after,
            'o' => {
                w.unloaded = false;
                after
            }
            'l' => {
                w.none = true;
                after
            }
            'v' | 'f' | 'p' | 'i' | 'n' | 't' | 'c' => {
                let detail = match c {
                    'v' => Detail::All,
                    'f' | 'p' => Detail::Path,
                    'i' | 'n' => Detail::File,
                    't' => Detail::Time,
                    _ => Detail::Checksum,
                };
                // Names alone stay names alone, and details details.
                if !matches!(w.detail, Detail::Bare | Detail::All) {
                    w.detail = detail;
                }
                after
            }
            _ => bail!("unexpected `{}`; lm m PATTERN lists modules by name (.help lm)", show(word(rest).0)),
        }
        .trim_start();
    }
    Ok(w)
}

/// The word at the start of `text`, blanks before it skipped, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (word.trim_matches('"'), rest)
}

const MODULES: Table = Table::new(
    "modules",
    &[
        Col::left("start", "start", 17).of(Type::Address),
        Col::left("end", "end", 19).of(Type::Address),
        Col::left("module name", "module", 24),
        Col::left("", "path", 0).of(Type::Path),
        Col::data("file", Type::Text).titled("its file name"),
        Col::data("timestamp", Type::Hex).titled("the time stamp of its PE header"),
        Col::data("time", Type::Time).titled("that as a moment, which it is not in a reproducible build"),
        Col::data("checksum", Type::Hex).titled("the checksum in its PE header"),
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

/// What is known of a module; text has behind its name what is to be shown.
fn row<'m>(dump: &Dump, m: &'m Module, detail: Detail) -> [Cell<'m>; 13] {
    let pointer = dump.arch.pointer_size();
    let checksum = checksum(dump, m.base);
    let path = Cell::text(m.path.as_str());
    let path = match detail {
        Detail::Path | Detail::All => path,
        Detail::Bare | Detail::Name => Cell::shown("", path),
        Detail::File => Cell::shown(m.file_name(), path),
        Detail::Time => Cell::shown(m.timestamp.map_or(String::new(), stamp), path),
        Detail::Checksum => Cell::shown(checksum.map_or(String::new(), |c| format!("{c:08X}")), path),
    };
    [
        Cell::AddrTick(m.base, pointer),
        Cell::AddrTick(m.base.saturating_add(m.size), pointer),
        Cell::text(module_name(m)),
        path,
        Cell::text(m.file_name()),
        m.timestamp.map_or(Cell::None, |t| Cell::Hex(u64::from(t))),
        m.timestamp.map_or(Cell::None, |t| Cell::Time(u64::from(t))),
        checksum.map_or(Cell::None, |c| Cell::Hex(u64::from(c))),
        Cell::Num(image_size(m)),
        Cell::maybe(m.version_text()),
        Cell::maybe(m.build_id.as_deref().map(hex)),
        Cell::maybe(m.pdb.as_deref()),
        Cell::Bool(dump.space.readable(m.base)),
    ]
}

/// A time stamp as a moment and as the number it is: reproducible builds put a hash there, which is no time.
fn stamp(t: u32) -> String {
    format!("{} ({t:08X})", utc(u64::from(t)))
}

fn image_size(m: &Module) -> u64 {
    m.image_size.map_or(m.size, u64::from)
}

fn list(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let text = args.text("OPTIONS").unwrap_or("").to_owned();
    let wanted = options(&text, &|t| value(ctx, t).ok())?;
    let pointer = dump.arch.pointer_size();
    let (name, path) = (wanted.name.map(show), wanted.path.map(show));
    let mut chosen: Vec<&Module> = dump
        .modules
        .iter()
        .filter(|_| !wanted.none)
        .filter(|m| wanted.address.is_none_or(|a| a >= m.base && a - m.base < m.size))
        .filter(|m| name.as_ref().is_none_or(|p| named(p, m)))
        .filter(|m| path.as_ref().is_none_or(|p| matches(p, &m.path)))
        .collect();
    if wanted.sorted {
        chosen.sort_by_cached_key(|m| module_name(m).to_lowercase());
    }
    let outcome = if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete };
    if wanted.detail == Detail::Bare {
        for m in &chosen {
            ctx.out.row_as(&MODULES, &row(dump, m, Detail::Bare), module_name(m))?;
        }
        return Ok(outcome);
    }
    ctx.out.open(&MODULES)?;
    for m in &chosen {
        ctx.out.row(&row(dump, m, wanted.detail))?;
        if wanted.detail == Detail::All {
            details(ctx, dump, m)?;
        }
    }
    if wanted.none {
        ctx.out.note("no symbols are loaded: types, methods and fields are read from the dump itself")?;
    }
    let all = name.is_none() && path.is_none() && wanted.address.is_none() && wanted.unloaded && !wanted.none;
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
    Ok(outcome)
}

/// Whether a module's name fits, with or without the `lib` of Linux: `coreclr` is the runtime everywhere.
pub fn named(pattern: &str, m: &Module) -> bool {
    let (name, file) = (module_name(m), m.file_name());
    let bare = name.strip_prefix("lib").unwrap_or(&name);
    matches(pattern, &name) || matches(pattern, bare) || matches(pattern, file)
}

fn details(ctx: &mut Ctx<'_>, dump: &Dump, m: &Module) -> Result<()> {
    let mut facts: Vec<(&str, String)> = vec![("Image path", m.path.clone()), ("Image name", m.file_name().to_owned())];
    if let Some(t) = m.timestamp {
        facts.push(("Timestamp", stamp(t)));
    }
    if let Some(c) = checksum(dump, m.base) {
        facts.push(("CheckSum", format!("{c:08X}")));
    }
    facts.push(("ImageSize", format!("{:08X}", image_size(m))));
    facts.extend(m.version_text().map(|v| ("File version", v)));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Wanted<'_>> {
        options(text, &|t| u64::from_str_radix(t.trim().trim_matches(['(', ')']), 16).ok()).ok()
    }

    #[test]
    fn options_in_any_mix() {
        let w = read("DvmX").unwrap();
        assert_eq!((w.detail, w.name), (Detail::All, Some("X")));
        let w = read("1m mX*").unwrap();
        assert_eq!((w.detail, w.name), (Detail::Bare, Some("X*")));
        let w = read("sm").unwrap();
        assert_eq!((w.sorted, w.name), (true, None));
        assert_eq!(read("ft").unwrap().detail, Detail::Time);
        assert_eq!(read("amX").unwrap().name, Some("X"));
        assert_eq!(read("a (10) v m y").unwrap().address, Some(16));
        assert_eq!(read("a1f").unwrap().address, Some(31));
        assert_eq!(read("f M *\\\\clr*").unwrap().path, Some("*\\\\clr*"));
        assert_eq!(read("coreclr"), None);
        assert_eq!(read("m"), None);
    }
}
