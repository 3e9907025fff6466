//! `r`, `.effmach`, `.exr`: registers and the exception record.

use anyhow::{Result, anyhow, bail};

use super::{module_name, symbol, tick, value};
use crate::dump::{Arch, Dump, ExceptionInfo, Os, Registers};
use crate::native::record::exception_record;
use crate::shell::alias;
use crate::shell::banner::{event, event_name};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `r`.
pub const R: Command = Command {
    name: "r",
    prefix: Prefix::Plain,
    aliases: &["registers"],
    group: Group::Memory,
    summary: "registers of the current thread; set $t0 to $t19",
    help: "All general registers, or those named, behind blanks or commas. ~N makes another thread current, ~*e r shows those \
           of every thread. r $t0 = EXPRESSION sets one of the pseudo registers $t0 to $t19, which expressions have as \
           @$t0; r $.u0 = TEXT sets the fixed alias $u0. The registers of the process cannot be changed.",
    args: &[Arg::pos("REGISTERS", Kind::LineFor(&["$.u"]), "names, or $tN = EXPRESSION").completes_registers()],
    examples: &[
        Example { line: "r", what: "all registers" },
        Example { line: "r $t1 = @$csp + 10", what: "keep a number" },
    ],
    needs: Needs::Nothing,
    returns: REGISTERS,
    run: registers,
};

/// What `r` returns.
pub const REGISTERS: Returns = Returns::facts(&[
    Fact::new("iopl", "I/O privilege level (x86)", Type::Number),
    Fact::new("module", "the module the instruction pointer points into", Type::Text),
    Fact::new("offset", "how far into it", Type::Hex),
])
.and(&[&VALUES]);

/// Registers; text has several in a line.
const VALUES: Table = Table::new(
    "registers",
    &[
        Col::data("register", Type::Text).titled("name of the register"),
        Col::data("value", Type::Hex).titled("its value"),
    ],
);

/// Rows of registers.
fn values<'n>(out: &mut Out, registers: impl Iterator<Item = (&'n str, u64)>) -> Result<()> {
    for (name, v) in registers {
        out.data_row(&VALUES, &[Cell::text(name), Cell::Hex(v)])?;
    }
    Ok(())
}

fn registers(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text("REGISTERS").unwrap_or("").trim();
    if let Some((name, right)) = text.split_once('=') {
        return assign(ctx, name.trim(), right.trim());
    }
    let names: Vec<String> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|n| !n.is_empty())
        .map(|n| n.trim_start_matches('@').to_lowercase())
        .collect();
    if names.is_empty() {
        return all(ctx);
    }
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let v = match name.starts_with('$') {
            true => value(ctx, &format!("@{name}"))?,
            false => {
                let regs = current(ctx)?;
                regs.get(&name).ok_or_else(|| {
                    let all: Vec<&str> = regs.general.iter().map(|r| r.0).collect();
                    anyhow!("no register {name}; there are {}", all.join(" "))
                })?
            }
        };
        chosen.push((name, v));
    }
    let digits = ctx.session.map_or(16, |s| usize::from(s.dump().arch.pointer_size()) * 2);
    values(ctx.out, chosen.iter().map(|(n, v)| (n.as_str(), *v)))?;
    let line: Vec<String> = chosen.iter().map(|(n, v)| format!("{n}={v:0digits$x}")).collect();
    ctx.out.facts(&[], line.join(" "))?;
    Ok(Outcome::Complete)
}

fn assign(ctx: &mut Ctx<'_>, name: &str, right: &str) -> Result<Outcome> {
    let bare = name.trim_start_matches('@').to_lowercase();
    if let Some(n) = bare.strip_prefix("$.u").filter(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit())) {
        alias::set(&mut ctx.settings.aliases, format!("$u{n}"), right.trim_matches('"').to_owned());
        return Ok(Outcome::Complete);
    }
    let slot = bare.strip_prefix("$t").and_then(|n| n.parse::<usize>().ok());
    if slot.is_none_or(|n| n >= ctx.settings.values.user.len()) {
        bail!("{name} cannot be set: a dump does not change; $t0 to $t19 can");
    }
    let v = value(ctx, right)?;
    if let Some(slot) = slot.and_then(|n| ctx.settings.values.user.get_mut(n)) {
        *slot = v;
    }
    Ok(Outcome::Complete)
}

fn current<'a>(ctx: &'a Ctx<'_>) -> Result<&'a Registers> {
    let dump = ctx.session()?.dump();
    if ctx.settings.thread >= dump.threads.len() {
        bail!("the dump has no threads");
    }
    ctx.settings.registers(dump).ok_or_else(|| anyhow!("the dump has no registers of this thread"))
}

/// Prints all registers that commands work with.
pub fn all(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let regs = &current(ctx)?.clone();
    values(ctx.out, regs.general.iter().copied())?;
    for line in block(dump.arch, regs) {
        ctx.out.facts(&[], line)?;
    }
    if let Some(flags) = regs.get("efl").filter(|_| matches!(dump.arch, Arch::X64 | Arch::X86)) {
        ctx.out.datum("iopl", &Cell::Num(iopl(flags)));
    }
    if let (Some(at), Some(m)) = (symbol(dump, regs.ip), dump.module_at(regs.ip)) {
        let facts = [("module", Cell::text(module_name(m))), ("offset", Cell::Hex(regs.ip - m.base))];
        ctx.out.facts(&facts, format!("{at}:"))?;
    }
    Ok(Outcome::Complete)
}

/// Segment registers and flags have a line of their own on x86.
const SEGMENTS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];

/// The lines of all registers, as native debuggers print them for the processor.
fn block(arch: Arch, regs: &Registers) -> Vec<String> {
    let digits = usize::from(arch.pointer_size()) * 2;
    let wide = |n: &str| !(matches!(arch, Arch::X64 | Arch::X86) && (SEGMENTS.contains(&n) || n == "efl"));
    let main: Vec<String> = regs
        .general
        .iter()
        .filter(|r| wide(r.0) && !r.0.ends_with("_base"))
        .map(|(n, v)| format!("{n:>3}={v:0digits$x}"))
        .collect();
    let per_line = if digits == 8 { 6 } else { 3 };
    let mut lines: Vec<String> = main.chunks(per_line).map(|c| c.join(" ")).collect();
    if let Some(flags) = regs.get("efl").filter(|_| !wide("efl")) {
        lines.push(format!("iopl={:x}         {}", iopl(flags), flag_names(flags)));
        let segments = SEGMENTS.iter().filter_map(|n| Some(format!("{n}={:04x}", regs.get(n)?)));
        lines.push(format!("{}             efl={flags:08x}", segments.collect::<Vec<_>>().join("  ")));
    }
    lines
}

/// The I/O privilege level of the flags of x86.
fn iopl(flags: u64) -> u64 {
    flags >> 12 & 3
}

/// The flags of x86 by the names debuggers have for a set and a clear bit.
fn flag_names(flags: u64) -> String {
    const FLAGS: [(u32, &str, &str); 8] = [
        (11, "ov", "nv"),
        (10, "dn", "up"),
        (9, "ei", "di"),
        (7, "ng", "pl"),
        (6, "zr", "nz"),
        (4, "ac", "na"),
        (2, "pe", "po"),
        (0, "cy", "nc"),
    ];
    FLAGS.map(|(bit, set, clear)| if flags >> bit & 1 == 1 { set } else { clear }).join(" ")
}

/// `.effmach`.
pub const EFFMACH: Command = Command {
    name: "effmach",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "the processor of the dump",
    help: "Says which processor the process ran on. A dump has one: another cannot be chosen.",
    args: &[Arg::pos("MACHINE", Kind::Text, "accepted when it is the dump's own")],
    examples: &[Example { line: ".effmach", what: "the processor" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("machine", "the processor", Type::Text)]),
    run: |ctx, args| {
        let own = ctx.session()?.dump().arch.name();
        let asked = args.text("MACHINE").unwrap_or(own).to_lowercase();
        let asked = if asked == "amd64" { "x64" } else { asked.as_str() };
        if asked != own && asked != "." {
            return Err(anyhow!("the dump is of {own}; there is no {asked} in it"));
        }
        ctx.out.fact("machine", Cell::text(own), format!("Effective machine: {own}"))?;
        Ok(Outcome::Complete)
    },
};

/// `.exr`.
pub const EXR: Command = Command {
    name: "exr",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "the exception the dump was taken at",
    help: "Prints code, address, flags and parameters of the exception or signal recorded in the dump, or of the \
           EXCEPTION_RECORD at an address.",
    args: &[Arg::pos("WHICH", Kind::Text, "-1: the one recorded, as without; else the address of a record")],
    examples: &[Example { line: ".exr", what: "the exception record" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("address", "where it happened, or what was to be accessed", Type::Address),
        Fact::new("module", "the module around that address", Type::Text),
        Fact::new("offset", "how far into it", Type::Hex),
        Fact::new("code", "exception code, or number of the signal; nothing when the dump was asked for", Type::Hex),
        Fact::new("signal", "number of the signal (Linux)", Type::Number),
        Fact::new("name", "its name", Type::Text),
        Fact::new("flags", "flags of the exception, or si_code", Type::Hex),
        Fact::new("parameters", "how many parameters there are", Type::Count),
        Fact::new("access", "what was tried: read from, write to, execute at, use", Type::Text),
        Fact::new("accessed", "the address that could not be accessed", Type::Address),
    ])
    .and(&[&PARAMETERS]),
    run: |ctx, args| {
        let dump = ctx.session()?.dump();
        match args.text("WHICH").map(str::trim).filter(|w| !matches!(*w, "" | "-1")) {
            None => exception(ctx, dump, dump.exception.as_ref()),
            Some(which) => {
                let at = value(ctx, which)?;
                let record = exception_record(dump, at);
                let missing = || anyhow!("no exception record at {}", tick(at, dump.arch.pointer_size()));
                exception(ctx, dump, Some(&record.ok_or_else(missing)?))
            }
        }
    },
};

const PARAMETERS: Table = Table::new(
    "parameters",
    &[
        Col::data("index", Type::Number).titled("number of the parameter"),
        Col::data("value", Type::Hex).titled("its value"),
    ],
);

fn exception(ctx: &mut Ctx<'_>, dump: &Dump, e: Option<&ExceptionInfo>) -> Result<Outcome> {
    let Some(e) = e else {
        ctx.out.note("the dump records no exception: it was taken of a running process")?;
        return Ok(Outcome::Empty);
    };
    let p = dump.arch.pointer_size();
    let code = event(dump.os, e);
    let code = code.strip_prefix("exception ").unwrap_or(&code);
    let place = symbol(dump, e.address).map(|s| format!(" ({s})")).unwrap_or_default();
    let module = dump.module_at(e.address);
    let facts = [
        ("address", Cell::Addr(e.address)),
        ("module", Cell::maybe(module.map(module_name))),
        ("offset", module.map_or(Cell::None, |m| Cell::Hex(e.address - m.base))),
    ];
    ctx.out.facts(&facts, format!("ExceptionAddress: {}{place}", tick(e.address, p)))?;
    // What the writer of a dump that was asked for puts there is no signal.
    let number = Some(e.code).filter(|&c| dump.os == Os::Windows || c != u32::MAX).map(u64::from);
    let signal = number.filter(|_| dump.os == Os::Linux);
    let facts = [
        ("code", number.map_or(Cell::None, Cell::Hex)),
        ("signal", signal.map_or(Cell::None, Cell::Num)),
        ("name", Cell::maybe(event_name(dump.os, e.code))),
    ];
    ctx.out.facts(&facts, format!("   ExceptionCode: {code}"))?;
    ctx.out.fact("flags", Cell::Hex(u64::from(e.flags)), format!("  ExceptionFlags: {:08x}", e.flags))?;
    let count = e.parameters.len();
    ctx.out.fact("parameters", Cell::Num(count as u64), format!("NumberParameters: {count}"))?;
    for (i, v) in e.parameters.iter().enumerate() {
        let cells = [Cell::Num(i as u64), Cell::Hex(*v)];
        ctx.out.row_as(&PARAMETERS, &cells, format!("   Parameter[{i}]: {v:0w$x}", w = digits()))?;
    }
    if let (0xC000_0005, [how, at, ..]) = (e.code, e.parameters.as_slice()) {
        let how = match how {
            0 => "read from",
            1 => "write to",
            8 => "execute at",
            _ => "use",
        };
        let facts = [("access", Cell::text(how)), ("accessed", Cell::Addr(*at))];
        ctx.out.facts(&facts, format!("Attempt to {how} address {}", tick(*at, p)))?;
    }
    Ok(Outcome::Complete)
}
