//! `r`, `.effmach`, `.ecxr`, `.exr`: registers and the exception record.

use anyhow::{Result, anyhow, bail};

use super::{symbol, tick, value};
use crate::dump::{Arch, Dump, Registers};
use crate::shell::banner::event;
use crate::shell::run::set_alias;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Outcome, Prefix, Request, Returns, digits,
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
    args: &[Arg::pos("REGISTERS", Kind::Rest, "names, or $tN = EXPRESSION").completes_registers()],
    examples: &[
        Example { line: "r", what: "all registers" },
        Example { line: "r $t1 = @$csp + 10", what: "keep a number" },
    ],
    needs: Needs::Nothing,
    returns: Returns::NOTHING,
    run: registers,
};

const COLUMNS: &[Col] = &[Col::left("", "register", 0), Col::left("", "value", 0)];

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
    ctx.out.table("registers", COLUMNS, false)?;
    if ctx.out.format() != Format::Text {
        for (name, v) in chosen {
            ctx.out.row(&[Cell::text(name), Cell::Hex(v)])?;
        }
        return Ok(Outcome::Complete);
    }
    let line: Vec<String> = chosen.iter().map(|(n, v)| format!("{n}={v:0digits$x}")).collect();
    ctx.out.line(line.join(" "))?;
    Ok(Outcome::Complete)
}

fn assign(ctx: &mut Ctx<'_>, name: &str, right: &str) -> Result<Outcome> {
    let bare = name.trim_start_matches('@').to_lowercase();
    if let Some(n) = bare.strip_prefix("$.u").filter(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit())) {
        set_alias(&mut ctx.settings.aliases, format!("$u{n}"), right.trim_matches('"').to_owned());
        return Ok(Outcome::Complete);
    }
    let slot = bare.strip_prefix("$t").and_then(|n| n.parse::<usize>().ok());
    if slot.is_none_or(|n| n >= ctx.settings.user.len()) {
        bail!("{name} cannot be set: a dump does not change; $t0 to $t19 can");
    }
    let v = value(ctx, right)?;
    if let Some(slot) = slot.and_then(|n| ctx.settings.user.get_mut(n)) {
        *slot = v;
    }
    Ok(Outcome::Complete)
}

fn current<'a>(ctx: &Ctx<'a>) -> Result<&'a Registers> {
    let dump = ctx.session()?.dump();
    let thread = dump.threads.get(ctx.settings.thread).ok_or_else(|| anyhow!("the dump has no threads"))?;
    thread.registers.as_ref().ok_or_else(|| anyhow!("the dump has no registers of this thread"))
}

fn all(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let regs = current(ctx)?;
    ctx.out.table("registers", COLUMNS, false)?;
    if ctx.out.format() != Format::Text {
        for (name, v) in &regs.general {
            ctx.out.row(&[Cell::text(*name), Cell::Hex(*v)])?;
        }
        return Ok(Outcome::Complete);
    }
    for line in block(dump.arch, regs) {
        ctx.out.line(line)?;
    }
    if let Some(at) = symbol(dump, regs.ip) {
        ctx.out.line(format!("{at}:"))?;
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
        lines.push(format!("iopl={:x}         {}", flags >> 12 & 3, flag_names(flags)));
        let segments = SEGMENTS.iter().filter_map(|n| Some(format!("{n}={:04x}", regs.get(n)?)));
        lines.push(format!("{}             efl={flags:08x}", segments.collect::<Vec<_>>().join("  ")));
    }
    lines
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
    returns: Returns::NOTHING,
    run: |ctx, args| {
        let own = ctx.session()?.dump().arch.name();
        let asked = args.text("MACHINE").unwrap_or(own).to_lowercase();
        let asked = if asked == "amd64" { "x64" } else { asked.as_str() };
        if asked != own && asked != "." {
            return Err(anyhow!("the dump is of {own}; there is no {asked} in it"));
        }
        ctx.out.line(format!("Effective machine: {own}"))?;
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
    help: "Prints code, address, flags and parameters of the exception or signal recorded in the dump.",
    args: &[Arg::pos("WHICH", Kind::Text, "-1: the one recorded, as without")],
    examples: &[Example { line: ".exr", what: "the exception record" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let dump = ctx.session()?.dump();
        exception(ctx, dump)
    },
};

fn exception(ctx: &mut Ctx<'_>, dump: &Dump) -> Result<Outcome> {
    let Some(e) = &dump.exception else {
        ctx.out.line("the dump records no exception: it was taken of a running process")?;
        return Ok(Outcome::Empty);
    };
    let p = dump.arch.pointer_size();
    let code = event(dump.os, e);
    let code = code.strip_prefix("exception ").unwrap_or(&code);
    let place = symbol(dump, e.address).map(|s| format!(" ({s})")).unwrap_or_default();
    ctx.out.line(format!("ExceptionAddress: {}{place}", tick(e.address, p)))?;
    ctx.out.line(format!("   ExceptionCode: {code}"))?;
    ctx.out.line(format!("  ExceptionFlags: {:08x}", e.flags))?;
    ctx.out.line(format!("NumberParameters: {}", e.parameters.len()))?;
    for (i, v) in e.parameters.iter().enumerate() {
        ctx.out.line(format!("   Parameter[{i}]: {v:0w$x}", w = digits()))?;
    }
    if let (0xC000_0005, [how, at, ..]) = (e.code, e.parameters.as_slice()) {
        let how = match how {
            0 => "read from",
            1 => "write to",
            8 => "execute at",
            _ => "use",
        };
        ctx.out.line(format!("Attempt to {how} address {}", tick(*at, p)))?;
    }
    Ok(Outcome::Complete)
}

/// `.ecxr`.
pub const ECXR: Command = Command {
    name: "ecxr",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "make the thread of the exception current and show its registers",
    help: "The dump's thread contexts are those at the exception; this goes to its thread.",
    args: &[],
    examples: &[Example { line: ".ecxr", what: "where it happened" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, args| {
        let dump = ctx.session()?.dump();
        let Some(e) = &dump.exception else {
            ctx.out.line("the dump records no exception: it was taken of a running process")?;
            return Ok(Outcome::Empty);
        };
        let index = dump.threads.iter().position(|t| t.os_id == e.thread_id);
        let index = index.ok_or_else(|| anyhow!("the thread of the exception is not in the dump"))?;
        ctx.settings.thread = index;
        ctx.request = Some(Request::Thread(index));
        registers(ctx, args)
    },
};
