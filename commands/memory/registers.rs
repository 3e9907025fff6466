//! `r`, `.effmach`, `.ecxr`, `.exr`: registers and the exception record.

use anyhow::{Result, anyhow};

use super::{symbol, tick};
use crate::dump::{Dump, Os, Registers};
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request};

/// `r`.
pub const R: Command = Command {
    name: "r",
    prefix: Prefix::Plain,
    aliases: &["registers"],
    group: Group::Memory,
    summary: "registers of the current thread",
    help: "All general registers, or those named. ~N makes another thread current, ~*e r shows those of every thread.",
    args: &[Arg::pos("REG", Kind::Text, "only this register").many()],
    examples: &[Example { line: "r", what: "all registers" }],
    needs: Needs::Dump,
    run: registers,
};

const COLUMNS: &[Col] = &[Col::left("", "register", 0), Col::left("", "value", 0)];
/// Registers a line.
const PER_LINE: usize = 3;

fn registers(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let thread = dump.threads.get(ctx.settings.thread).ok_or_else(|| anyhow!("the dump has no threads"))?;
    let regs = thread.registers.as_ref().ok_or_else(|| anyhow!("the dump has no registers of this thread"))?;
    let names: Vec<String> =
        args.texts("REG").flat_map(|t| t.split(',')).map(|n| n.trim_start_matches('@').to_lowercase()).collect();
    if let Some(unknown) = names.iter().find(|n| find(regs, n).is_none()) {
        let all: Vec<&str> = regs.general.iter().map(|r| r.0).collect();
        return Err(anyhow!("no register {unknown}; there are {}", all.join(" ")));
    }
    let chosen: Vec<(String, u64)> = match names.is_empty() {
        true => regs.general.iter().map(|r| (r.0.to_owned(), r.1)).collect(),
        false => names.into_iter().filter_map(|n| find(regs, &n).map(|v| (n, v))).collect(),
    };
    ctx.out.table("registers", COLUMNS, false)?;
    if ctx.out.format() != crate::shell::Format::Text {
        for (name, v) in chosen {
            ctx.out.row(&[Cell::text(name), Cell::Hex(v)])?;
        }
        return Ok(Outcome::Complete);
    }
    let digits = usize::from(dump.arch.pointer_size()) * 2;
    for part in chosen.chunks(PER_LINE) {
        let line: Vec<String> = part.iter().map(|(n, v)| format!("{n:>3}={v:0digits$x}")).collect();
        ctx.out.line(line.join(" "))?;
    }
    if let Some(at) = symbol(dump, regs.ip) {
        ctx.out.line(format!("{at}:"))?;
    }
    Ok(Outcome::Complete)
}

fn find(regs: &Registers, name: &str) -> Option<u64> {
    match name {
        "$ip" => Some(regs.ip),
        "$csp" => Some(regs.sp),
        _ => regs.general.iter().find(|r| r.0 == name).map(|r| r.1),
    }
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
    let code = if dump.os == Os::Linux { format!("signal {}", e.code) } else { format!("{:08x}", e.code) };
    let place = symbol(dump, e.address).map(|s| format!(" ({s})")).unwrap_or_default();
    ctx.out.line(format!("ExceptionAddress: {}{place}", tick(e.address, p)))?;
    ctx.out.line(format!("   ExceptionCode: {code}"))?;
    ctx.out.line(format!("  ExceptionFlags: {:08x}", e.flags))?;
    ctx.out.line(format!("NumberParameters: {}", e.parameters.len()))?;
    for (i, v) in e.parameters.iter().enumerate() {
        ctx.out.line(format!("   Parameter[{i}]: {v:016x}"))?;
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
