//! `!teb`, `!peb`, `!gle`: the blocks Windows keeps for each thread and for the process; on Linux, what stands for them.

use anyhow::{Result, anyhow, bail};

use super::{tick, value};
use crate::dump::{Dump, Os};
use crate::native::heaps::windows::peb;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// Offsets of the fields shown. Source: winsiderss/phnt `ntpebteb.h`, `ntrtl.h`, `ntpsapi.h` (TEB, PEB and
/// RTL_USER_PROCESS_PARAMETERS); the same from Windows 7 to 11, on x64 and arm64 alike.
struct Layout {
    /// Key, name and offset.
    teb: [(&'static str, &'static str, u64); 12],
    last_error: u64,
    last_status: u64,
    peb: [(&'static str, &'static str, u64); 4],
    processors: u64,
    flags: u64,
    session: u64,
    parameters: [(&'static str, &'static str, u64); 5],
    environment: u64,
}

const WIDE: Layout = Layout {
    teb: [
        ("exception_list", "ExceptionList:", 0x0),
        ("stack_base", "StackBase:", 0x8),
        ("stack_limit", "StackLimit:", 0x10),
        ("sub_system_tib", "SubSystemTib:", 0x18),
        ("fiber_data", "FiberData:", 0x20),
        ("arbitrary_user_pointer", "ArbitraryUserPointer:", 0x28),
        ("self", "Self:", 0x30),
        ("environment_pointer", "EnvironmentPointer:", 0x38),
        ("process_id", "ClientId:", 0x40),
        ("rpc_handle", "RpcHandle:", 0x50),
        ("tls_storage", "Tls Storage:", 0x58),
        ("peb", "PEB Address:", 0x60),
    ],
    last_error: 0x68,
    last_status: 0x1250,
    peb: [
        ("image_base", "ImageBaseAddress:", 0x10),
        ("ldr", "Ldr:", 0x18),
        ("process_parameters", "ProcessParameters:", 0x20),
        ("process_heap", "ProcessHeap:", 0x30),
    ],
    processors: 0xB8,
    flags: 0xBC,
    session: 0x2C0,
    parameters: [
        ("current_directory", "CurrentDirectory:", 0x38),
        ("window_title", "WindowTitle:", 0xB0),
        ("image_file", "ImageFile:", 0x60),
        ("command_line", "CommandLine:", 0x70),
        ("dll_path", "DllPath:", 0x50),
    ],
    environment: 0x80,
};

const NARROW: Layout = Layout {
    teb: [
        ("exception_list", "ExceptionList:", 0x0),
        ("stack_base", "StackBase:", 0x4),
        ("stack_limit", "StackLimit:", 0x8),
        ("sub_system_tib", "SubSystemTib:", 0xC),
        ("fiber_data", "FiberData:", 0x10),
        ("arbitrary_user_pointer", "ArbitraryUserPointer:", 0x14),
        ("self", "Self:", 0x18),
        ("environment_pointer", "EnvironmentPointer:", 0x1C),
        ("process_id", "ClientId:", 0x20),
        ("rpc_handle", "RpcHandle:", 0x28),
        ("tls_storage", "Tls Storage:", 0x2C),
        ("peb", "PEB Address:", 0x30),
    ],
    last_error: 0x34,
    last_status: 0xBF4,
    peb: [
        ("image_base", "ImageBaseAddress:", 0x8),
        ("ldr", "Ldr:", 0xC),
        ("process_parameters", "ProcessParameters:", 0x10),
        ("process_heap", "ProcessHeap:", 0x18),
    ],
    processors: 0x64,
    flags: 0x68,
    session: 0x1D4,
    parameters: [
        ("current_directory", "CurrentDirectory:", 0x24),
        ("window_title", "WindowTitle:", 0x70),
        ("image_file", "ImageFile:", 0x38),
        ("command_line", "CommandLine:", 0x40),
        ("dll_path", "DllPath:", 0x30),
    ],
    environment: 0x48,
};

fn layout(dump: &Dump) -> &'static Layout {
    if dump.arch.pointer_size() == 8 { &WIDE } else { &NARROW }
}

/// Environment variables.
const ENVIRONMENT: Table = Table::new(
    "environment",
    &[
        Col::data("name", Type::Content).titled("name of the variable"),
        Col::data("value", Type::Content).titled("its value; nothing for what has no `=`"),
    ],
);

/// The last errors of threads; text has lines of each.
const ERRORS: Table = Table::new(
    "errors",
    &[
        Col::data("number", Type::Number).titled("number of the thread in the dump"),
        Col::data("os_id", Type::Hex).titled("its operating system id"),
        Col::data("last_error", Type::Number).titled("LastErrorValue: a code of Win32"),
        Col::data("last_status", Type::Hex).titled("LastStatusValue: an NTSTATUS"),
    ],
);

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
    returns: Returns::facts(&[
        Fact::new("teb", "the block", Type::Address),
        Fact::new("exception_list", "the first exception registration (x86)", Type::Address),
        Fact::new("stack_base", "where the stack begins: its highest address", Type::Address),
        Fact::new("stack_limit", "where it ends: its lowest address", Type::Address),
        Fact::new("sub_system_tib", "SubSystemTib", Type::Address),
        Fact::new("fiber_data", "FiberData", Type::Address),
        Fact::new("arbitrary_user_pointer", "ArbitraryUserPointer", Type::Address),
        Fact::new("self", "the block's own address as it has it", Type::Address),
        Fact::new("environment_pointer", "EnvironmentPointer", Type::Address),
        Fact::new("process_id", "process id", Type::Hex),
        Fact::new("os_id", "operating system id of the thread", Type::Hex),
        Fact::new("rpc_handle", "RpcHandle", Type::Address),
        Fact::new("tls_storage", "thread local storage", Type::Address),
        Fact::new("peb", "the process environment block", Type::Address),
        Fact::new("last_error", "LastErrorValue: a code of Win32", Type::Number),
        Fact::new("last_status", "LastStatusValue: an NTSTATUS", Type::Hex),
        Fact::new("thread_pointer", "the thread pointer (Linux)", Type::Address),
    ]),
    run: teb,
};

fn teb(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let p = dump.arch.pointer_size();
    let thread = dump.threads.get(ctx.settings.thread);
    if dump.os == Os::Linux {
        ctx.out.note("a Linux thread has no thread environment block; what is known of this one:")?;
        let t = thread.ok_or_else(|| anyhow!("the dump has no threads"))?;
        let tp = t.registers.as_ref().and_then(|r| r.tp);
        line(ctx, &[("os_id", Cell::Hex(t.os_id))], "Thread id:", &format!("{:x}", t.os_id))?;
        let known = [
            ("stack_base", "StackBase:", t.stack.map(|s| s.1)),
            ("stack_limit", "StackLimit:", t.stack.map(|s| s.0)),
            ("thread_pointer", "Thread pointer:", tp),
        ];
        for (key, name, v) in known {
            if let Some(v) = v {
                line(ctx, &[(key, Cell::Addr(v))], name, &tick(v, p))?;
            }
        }
        return Ok(Outcome::Complete);
    }
    let at = args.number("ADDR").or(thread.and_then(|t| t.teb));
    let at = at.ok_or_else(|| anyhow!("the dump names no environment block of this thread"))?;
    if dump.space.ptr(at).is_none() {
        bail!("the thread environment block at {} is not in the dump", tick(at, p));
    }
    ctx.out.fact("teb", Cell::Addr(at), format!("TEB at {}", tick(at, p)))?;
    let l = layout(dump);
    for (key, name, offset) in l.teb {
        let Some(v) = dump.space.ptr_at(at, offset) else { continue };
        if key != "process_id" {
            line(ctx, &[(key, Cell::Addr(v))], name, &tick(v, p))?;
            continue;
        }
        // A CLIENT_ID: the process and the thread.
        let id = dump.space.ptr_at(at, offset + u64::from(p)).unwrap_or(0);
        let facts = [(key, Cell::Hex(v)), ("os_id", Cell::Hex(id))];
        line(ctx, &facts, name, &format!("{} . {}", tick(v, p), tick(id, p)))?;
    }
    if let Some(v) = dump.space.u32(at.wrapping_add(l.last_error)) {
        line(ctx, &[("last_error", Cell::Num(u64::from(v)))], "LastErrorValue:", &v.to_string())?;
    }
    if let Some(v) = dump.space.u32(at.wrapping_add(l.last_status)) {
        line(ctx, &[("last_status", Cell::Hex(u64::from(v)))], "LastStatusValue:", &format!("{v:x}"))?;
    }
    Ok(Outcome::Complete)
}

/// A line of a block with its facts.
fn line(ctx: &mut Ctx<'_>, facts: &[(&'static str, Cell<'_>)], name: &str, text: &str) -> Result<()> {
    // One line whatever the text holds.
    Ok(ctx.out.facts(facts, format!("    {name:<25} {}", text.replace('\n', ".")))?)
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
    returns: Returns::tables(&[&ERRORS]),
    run: |ctx, args| {
        let dump = ctx.session()?.dump();
        if dump.os != Os::Windows {
            ctx.out.note("a Linux thread keeps its last error (errno) where only its C library knows")?;
            return Ok(Outcome::Empty);
        }
        let l = layout(dump);
        let chosen = if args.has("all") { 0..dump.threads.len() } else { ctx.settings.thread..ctx.settings.thread + 1 };
        let mut shown = false;
        for (i, t) in dump.threads.iter().enumerate().filter(|(i, _)| chosen.contains(i)) {
            let read = |offset| t.teb.and_then(|teb| dump.space.u32(teb.checked_add(offset)?));
            let (Some(error), Some(status)) = (read(l.last_error), read(l.last_status)) else { continue };
            shown = true;
            let cells =
                [Cell::Num(i as u64), Cell::Hex(t.os_id), Cell::Num(u64::from(error)), Cell::Hex(u64::from(status))];
            ctx.out.data_row(&ERRORS, &cells)?;
            ctx.out.facts(&[], format!("Last error for thread {i} ({:x}):", t.os_id))?;
            ctx.out.facts(&[], format!("  LastErrorValue: (Win32) {error:#x} ({error})"))?;
            ctx.out.facts(&[], format!("  LastStatusValue: (NTSTATUS) {status:#x}"))?;
        }
        if !shown {
            ctx.out.note("no thread environment block is in the dump")?;
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
    returns: Returns::facts(&[
        Fact::new("peb", "the block", Type::Address),
        Fact::new("being_debugged", "a debugger is attached", Type::Bool),
        Fact::new("image_base", "address of the program's image", Type::Address),
        Fact::new("ldr", "what the loader keeps", Type::Address),
        Fact::new("process_parameters", "the process parameters", Type::Address),
        Fact::new("process_heap", "the process's own heap", Type::Address),
        Fact::new("processors", "number of processors", Type::Count),
        Fact::new("nt_global_flag", "NtGlobalFlag", Type::Hex),
        Fact::new("session_id", "the session it runs in", Type::Number),
        Fact::new("current_directory", "current folder", Type::Content),
        Fact::new("window_title", "title of its window", Type::Content),
        Fact::new("image_file", "path of the program, or its name (Linux)", Type::Content),
        Fact::new("command_line", "command line", Type::Content),
        Fact::new("dll_path", "where DLLs are looked for", Type::Content),
        Fact::new("environment", "where the environment variables are", Type::Address),
        Fact::new("pid", "process id (Linux)", Type::Number),
    ])
    .and(&[&ENVIRONMENT]),
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
    ctx.out.fact("peb", Cell::Addr(at), format!("PEB at {}", tick(at, p)))?;
    let debugged = debugged != 0;
    let shown = if debugged { "Yes" } else { "No" };
    line(ctx, &[("being_debugged", Cell::Bool(debugged))], "BeingDebugged:", shown)?;
    for (key, name, offset) in l.peb {
        if let Some(v) = space.ptr_at(at, offset) {
            line(ctx, &[(key, Cell::Addr(v))], name, &tick(v, p))?;
        }
    }
    let number = |offset: u64| space.u32(at.wrapping_add(offset));
    if let Some(v) = number(l.processors) {
        line(ctx, &[("processors", Cell::Num(u64::from(v)))], "NumberOfProcessors:", &v.to_string())?;
    }
    if let Some(v) = number(l.flags) {
        line(ctx, &[("nt_global_flag", Cell::Hex(u64::from(v)))], "NtGlobalFlag:", &format!("{v:x}"))?;
    }
    if let Some(v) = number(l.session) {
        line(ctx, &[("session_id", Cell::Num(u64::from(v)))], "SessionId:", &v.to_string())?;
    }
    let parameters = space.ptr_at(at, l.peb[2].2).filter(|&a| a != 0);
    for (key, name, offset) in l.parameters {
        if let Some(text) = parameters.and_then(|a| unicode(dump, a.checked_add(offset)?)) {
            line(ctx, &[(key, Cell::text(&text))], name, &format!("'{text}'"))?;
        }
    }
    let environment = parameters.and_then(|a| space.ptr_at(a, l.environment)).filter(|&a| a != 0);
    let Some(mut next) = environment.filter(|&a| space.readable(a)) else {
        return Ok(Outcome::Partial("the environment variables are not in the dump".into()));
    };
    let shown = format!("    Environment:              {}", tick(next, p));
    ctx.out.fact("environment", Cell::Addr(next), shown)?;
    for _ in 0..MOST_STRINGS {
        let text = space.utf16z(next, MOST_TEXT);
        if text.is_empty() {
            return Ok(Outcome::Complete);
        }
        variable(ctx, &text)?;
        let units = text.encode_utf16().count() as u64 + 1;
        let Some(after) = next.checked_add(units * 2) else { return Ok(Outcome::Complete) };
        next = after;
    }
    Ok(Outcome::Partial(format!("only the first {MOST_STRINGS} environment variables are listed")))
}

/// One variable of the environment: `NAME=VALUE`. Windows keeps the current folder of a drive under a name that begins
/// with `=`.
fn variable(ctx: &mut Ctx<'_>, text: &str) -> Result<()> {
    let at = text.char_indices().skip(1).find(|c| c.1 == '=').map(|c| c.0);
    let (name, value) = match at {
        Some(at) => (&text[..at], text.get(at + 1..)),
        None => (text, None),
    };
    Ok(ctx.out.row_as(&ENVIRONMENT, &[Cell::text(name), Cell::maybe(value)], format!("        {text}"))?)
}

/// A `UNICODE_STRING`: length in bytes, its maximum, a pointer to the text.
fn unicode(dump: &Dump, at: u64) -> Option<String> {
    let units = usize::from(dump.space.u16(at)? / 2);
    let buffer = dump.space.ptr_at(at, u64::from(dump.arch.pointer_size()))?;
    Some(if units == 0 || buffer == 0 { String::new() } else { dump.space.utf16z(buffer, units) })
}

fn linux(ctx: &mut Ctx<'_>, dump: &Dump) -> Result<Outcome> {
    let p = &dump.process;
    if let Some(v) = p.pid {
        line(ctx, &[("pid", Cell::Num(v))], "Process id:", &v.to_string())?;
    }
    for (key, name, text) in [("image_file", "ImageFile:", &p.name), ("command_line", "CommandLine:", &p.command_line)]
    {
        if let Some(v) = text {
            line(ctx, &[(key, Cell::text(v))], name, &format!("'{v}'"))?;
        }
    }
    if p.environment.is_empty() {
        return Ok(Outcome::Partial("the environment variables are not in the dump".into()));
    }
    ctx.out.note("    Environment:")?;
    for text in &p.environment {
        variable(ctx, text)?;
    }
    let nothing = p.pid.is_none() && p.name.is_none() && p.command_line.is_none();
    Ok(if nothing { Outcome::Empty } else { Outcome::Complete })
}
