//! `!teb`, `!peb`, `!gle`: the blocks Windows keeps for each thread and for the process; on Linux, what stands for them.

use anyhow::{Result, anyhow, bail};

use super::usage::peb;
use super::{tick, value};
use crate::dump::{Dump, Os};
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// Offsets of the fields shown. Source: winsiderss/phnt `ntpebteb.h`, `ntrtl.h`, `ntpsapi.h` (TEB, PEB and
/// RTL_USER_PROCESS_PARAMETERS); the same from Windows 7 to 11, on x64 and arm64 alike.
struct Layout {
    teb: [(&'static str, u64); 12],
    last_error: u64,
    last_status: u64,
    peb: [(&'static str, u64); 4],
    processors: u64,
    flags: u64,
    session: u64,
    parameters: [(&'static str, u64); 5],
    environment: u64,
}

const WIDE: Layout = Layout {
    teb: [
        ("ExceptionList:", 0x0),
        ("StackBase:", 0x8),
        ("StackLimit:", 0x10),
        ("SubSystemTib:", 0x18),
        ("FiberData:", 0x20),
        ("ArbitraryUserPointer:", 0x28),
        ("Self:", 0x30),
        ("EnvironmentPointer:", 0x38),
        ("ClientId:", 0x40),
        ("RpcHandle:", 0x50),
        ("Tls Storage:", 0x58),
        ("PEB Address:", 0x60),
    ],
    last_error: 0x68,
    last_status: 0x1250,
    peb: [("ImageBaseAddress:", 0x10), ("Ldr:", 0x18), ("ProcessParameters:", 0x20), ("ProcessHeap:", 0x30)],
    processors: 0xB8,
    flags: 0xBC,
    session: 0x2C0,
    parameters: [
        ("CurrentDirectory:", 0x38),
        ("WindowTitle:", 0xB0),
        ("ImageFile:", 0x60),
        ("CommandLine:", 0x70),
        ("DllPath:", 0x50),
    ],
    environment: 0x80,
};

const NARROW: Layout = Layout {
    teb: [
        ("ExceptionList:", 0x0),
        ("StackBase:", 0x4),
        ("StackLimit:", 0x8),
        ("SubSystemTib:", 0xC),
        ("FiberData:", 0x10),
        ("ArbitraryUserPointer:", 0x14),
        ("Self:", 0x18),
        ("EnvironmentPointer:", 0x1C),
        ("ClientId:", 0x20),
        ("RpcHandle:", 0x28),
        ("Tls Storage:", 0x2C),
        ("PEB Address:", 0x30),
    ],
    last_error: 0x34,
    last_status: 0xBF4,
    peb: [("ImageBaseAddress:", 0x8), ("Ldr:", 0xC), ("ProcessParameters:", 0x10), ("ProcessHeap:", 0x18)],
    processors: 0x64,
    flags: 0x68,
    session: 0x1D4,
    parameters: [
        ("CurrentDirectory:", 0x24),
        ("WindowTitle:", 0x70),
        ("ImageFile:", 0x38),
        ("CommandLine:", 0x40),
        ("DllPath:", 0x30),
    ],
    environment: 0x48,
};

fn layout(dump: &Dump) -> &'static Layout {
    if dump.arch.pointer_size() == 8 { &WIDE } else { &NARROW }
}

const FACTS: &[Col] = &[Col::left("", "name", 0), Col::left("", "value", 0)];
/// Longest environment shown, in strings.
const MOST_STRINGS: usize = 4096;
/// Longest text of the parameters, in characters.
const MOST_TEXT: usize = 32 << 10;

/// `!teb`.
pub const TEB: Command = Command {
    name: "teb",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "the thread environment block of the current thread",
    help: "Stack bounds, thread id, thread local storage, last error, of the thread environment block at ADDR or of the \
           current thread. Linux threads have none: what is known of their stack is printed instead.",
    args: &[Arg::pos("ADDR", Kind::Address, "another block")],
    examples: &[Example { line: "!teb", what: "the current thread's block" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: teb,
};

fn teb(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let p = dump.arch.pointer_size();
    let thread = dump.threads.get(ctx.settings.thread);
    if dump.os == Os::Linux {
        ctx.out.line("a Linux thread has no thread environment block; what is known of this one:")?;
        let t = thread.ok_or_else(|| anyhow!("the dump has no threads"))?;
        let tp = t.registers.as_ref().and_then(|r| r.tp);
        let mut rows = vec![("Thread id:", format!("{:x}", t.os_id))];
        rows.extend(t.stack.map(|s| ("StackBase:", tick(s.1, p))));
        rows.extend(t.stack.map(|s| ("StackLimit:", tick(s.0, p))));
        rows.extend(tp.map(|tp| ("Thread pointer:", tick(tp, p))));
        return facts(ctx, &rows);
    }
    let at = args.number("ADDR").or(thread.and_then(|t| t.teb));
    let at = at.ok_or_else(|| anyhow!("the dump names no environment block of this thread"))?;
    if dump.space.ptr(at).is_none() {
        bail!("the thread environment block at {} is not in the dump", tick(at, p));
    }
    ctx.out.line(format!("TEB at {}", tick(at, p)))?;
    let l = layout(dump);
    let mut rows = Vec::new();
    for (name, offset) in l.teb {
        let Some(v) = dump.space.ptr_at(at, offset) else { continue };
        let text = match name {
            "ClientId:" => {
                let id = dump.space.ptr_at(at, offset + u64::from(p)).unwrap_or(0);
                format!("{} . {}", tick(v, p), tick(id, p))
            }
            _ => tick(v, p),
        };
        rows.push((name, text));
    }
    rows.extend(dump.space.u32(at.wrapping_add(l.last_error)).map(|v| ("LastErrorValue:", v.to_string())));
    rows.extend(dump.space.u32(at.wrapping_add(l.last_status)).map(|v| ("LastStatusValue:", format!("{v:x}"))));
    facts(ctx, &rows)
}

fn facts(ctx: &mut Ctx<'_>, rows: &[(&str, String)]) -> Result<Outcome> {
    ctx.out.table("facts", FACTS, false)?;
    for (name, text) in rows {
        ctx.out.row(&[Cell::text(format!("    {name:<25}")), Cell::text(text.as_str())])?;
    }
    Ok(if rows.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// `!gle`.
pub const GLE: Command = Command {
    name: "gle",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "the last error of the current thread (Windows)",
    help: "LastErrorValue and LastStatusValue of the thread environment block; -all those of every thread.",
    args: &[Arg::flag("all", "of every thread")],
    examples: &[Example { line: "!gle -all", what: "the last error of every thread" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: |ctx, args| {
        let dump = ctx.session()?.dump();
        if dump.os != Os::Windows {
            ctx.out.line("a Linux thread keeps its last error (errno) where only its C library knows")?;
            return Ok(Outcome::Empty);
        }
        let l = layout(dump);
        let chosen = if args.has("all") { 0..dump.threads.len() } else { ctx.settings.thread..ctx.settings.thread + 1 };
        let mut shown = false;
        for (i, t) in dump.threads.iter().enumerate().filter(|(i, _)| chosen.contains(i)) {
            let read = |offset| t.teb.and_then(|teb| dump.space.u32(teb.checked_add(offset)?));
            let (Some(error), Some(status)) = (read(l.last_error), read(l.last_status)) else { continue };
            shown = true;
            ctx.out.line(format!("Last error for thread {i} ({:x}):", t.os_id))?;
            ctx.out.line(format!("  LastErrorValue: (Win32) {error:#x} ({error})"))?;
            ctx.out.line(format!("  LastStatusValue: (NTSTATUS) {status:#x}"))?;
        }
        if !shown {
            ctx.out.line("no thread environment block is in the dump")?;
        }
        Ok(if shown { Outcome::Complete } else { Outcome::Empty })
    },
};

/// `!peb`.
pub const PEB: Command = Command {
    name: "peb",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "the process environment: image, command line, folder, environment variables",
    help: "Image, command line, current folder and environment variables, from the process environment block of Windows (at \
           ADDR, or the one the threads name) or from the top of the main thread's stack of a Linux process.",
    args: &[Arg::pos("ADDR", Kind::Text, "another block")],
    examples: &[Example { line: "!peb | find DOTNET", what: "which settings of .NET there are" }],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run: process,
};

fn process(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    if dump.os == Os::Linux {
        return linux(ctx, dump);
    }
    let given = args.text("ADDR").map(|t| value(ctx, t)).transpose()?;
    let Some(at) = given.or_else(|| peb(dump)) else {
        bail!("the process environment block is not in the dump; vertarget shows what is known of the process");
    };
    let (l, p) = (layout(dump), dump.arch.pointer_size());
    let space = &dump.space;
    let Some(debugged) = space.u8(at.wrapping_add(2)) else {
        bail!("the process environment block at {} is not in the dump", tick(at, p));
    };
    ctx.out.line(format!("PEB at {}", tick(at, p)))?;
    let mut rows = vec![("BeingDebugged:", if debugged == 0 { "No" } else { "Yes" }.to_owned())];
    rows.extend(l.peb.iter().filter_map(|(name, offset)| Some((*name, tick(space.ptr_at(at, *offset)?, p)))));
    let number = |offset: u64| space.u32(at.wrapping_add(offset));
    rows.extend(number(l.processors).map(|v| ("NumberOfProcessors:", v.to_string())));
    rows.extend(number(l.flags).map(|v| ("NtGlobalFlag:", format!("{v:x}"))));
    rows.extend(number(l.session).map(|v| ("SessionId:", v.to_string())));
    let parameters = space.ptr_at(at, l.peb[2].1).filter(|&a| a != 0);
    for (name, offset) in l.parameters {
        let text = parameters.and_then(|a| unicode(dump, a.checked_add(offset)?));
        rows.extend(text.map(|t| (name, format!("'{t}'"))));
    }
    let outcome = facts(ctx, &rows)?;
    let environment = parameters.and_then(|a| space.ptr_at(a, l.environment)).filter(|&a| a != 0);
    let Some(mut next) = environment.filter(|&a| space.readable(a)) else {
        return Ok(Outcome::Partial("the environment variables are not in the dump".into()));
    };
    ctx.out.line(format!("    Environment:              {}", tick(next, p)))?;
    for _ in 0..MOST_STRINGS {
        let text = space.utf16z(next, MOST_TEXT);
        if text.is_empty() {
            break;
        }
        ctx.out.line(format!("        {text}"))?;
        let units = text.encode_utf16().count() as u64 + 1;
        let Some(after) = next.checked_add(units * 2) else { break };
        next = after;
    }
    Ok(outcome)
}

/// A `UNICODE_STRING`: length in bytes, its maximum, a pointer to the text.
fn unicode(dump: &Dump, at: u64) -> Option<String> {
    let units = usize::from(dump.space.u16(at)? / 2);
    let buffer = dump.space.ptr_at(at, u64::from(dump.arch.pointer_size()))?;
    Some(if units == 0 || buffer == 0 { String::new() } else { dump.space.utf16z(buffer, units) })
}

fn linux(ctx: &mut Ctx<'_>, dump: &Dump) -> Result<Outcome> {
    let p = &dump.process;
    let mut rows = Vec::new();
    rows.extend(p.pid.map(|v| ("Process id:", v.to_string())));
    rows.extend(p.name.clone().map(|v| ("ImageFile:", format!("'{v}'"))));
    rows.extend(p.command_line.clone().map(|v| ("CommandLine:", format!("'{v}'"))));
    let outcome = facts(ctx, &rows)?;
    if p.environment.is_empty() {
        return Ok(Outcome::Partial("the environment variables are not in the dump".into()));
    }
    ctx.out.line("    Environment:")?;
    for text in &p.environment {
        ctx.out.line(format!("        {text}"))?;
    }
    Ok(outcome)
}
