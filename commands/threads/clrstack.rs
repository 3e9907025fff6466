//! `!clrstack`: the managed stack of a thread.

use anyhow::{Result, bail};

use super::frameroots;
use crate::clr::Clr;
use crate::clr::code::stack::{Context, Frame, FrameKind, registers};
use crate::clr::image::metadata::debug::SourceLine;
use crate::clr::runtime::threads::ClrThread;
use crate::dump::Arch;
use crate::native::record::Chosen;
use crate::session::Session;
use crate::session::mixed::{Mixed, What};
use crate::session::stacks::{FrameVariable, Place};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type, digits,
};

/// `!clrstack`.
pub const CLRSTACK: Command = Command {
    name: "clrstack",
    prefix: Prefix::Bang,
    aliases: &["mk", "clrstack2"],
    group: Group::Threads,
    summary: "show the managed stack of the current thread",
    help: "Child SP is the stack pointer in the frame, IP the return address, or in the newest frame the instruction that \
           runs next. [Name: address] is a record the runtime left on the stack where managed code was left; native code \
           in between is not shown. What could not be walked is said in its place. -p shows the arguments, -l the locals \
           (by name where symbols are at hand), -a both: where they are, or <CLR reg> for a register, and the value there; \
           <no data> where the code keeps none. -i shows their types too. -f shows native frames too, and modules and offsets, -r the registers \
           of each frame as far as they are known, -gc what each holds: registers and stack slots that the collector would \
           take for roots there, interior ones (into an object, or to something else) and pinned ones marked. Type arguments are exact where the frame tells them; -canon prints \
           System.__Canon instead.\n\n\
           ~*e !clrstack or -all does it for every thread.",
    args: &[
        Arg::flag("all", "every managed thread"),
        Arg::flag("a", "arguments and locals"),
        Arg::flag("p", "arguments"),
        Arg::flag("l", "locals"),
        Arg::flag("i", "arguments and locals with their types"),
        Arg::flag("f", "native frames too, with module and offset").or(&["full"]),
        Arg::flag("r", "registers"),
        Arg::flag("gc", "what each frame holds"),
        Arg::flag("n", "without source lines"),
        Arg::flag("canon", "System.__Canon for type arguments, as SOS prints them"),
        Arg::opt("c", Kind::Count, "so many frames of a thread"),
    ],
    examples: &[
        Example { line: "!clrstack", what: "the stack of the current thread" },
        Example { line: "!clrstack -gc", what: "what each frame holds" },
        Example { line: "!clrstack -all -a", what: "every managed thread, with arguments and locals" },
    ],
    needs: Needs::Clr,
    returns: Returns::tables(&[&THREADS, &FRAMES, &VARIABLES, &REGISTERS, &frameroots::ROOTS]),
    run,
};

const THREADS: Table = Table::new(
    "threads",
    &[
        Col::data("os_id", Type::Hex).titled("operating system id of the thread"),
        Col::data("number", Type::Number).titled("its number in the dump"),
        Col::data("managed_id", Type::Number).titled("its managed id"),
        Col::data("partial", Type::Text).titled("why frames may be missing"),
    ],
);

const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("os_id", Type::Hex).titled("whose stack it is"),
        Col::data("frame", Type::Count).titled("number of the row"),
        Col::right("Child SP", "sp", 16).of(Type::Address),
        Col::right("IP", "ip", 16).of(Type::Address),
        Col::left("Call Site", "call_site", 0),
        Col::data("kind", Type::Text)
            .titled("managed, explicit, or native: with -f a frame, else what could not be walked"),
        Col::data("explicit", Type::Text).titled("class of an explicit frame"),
        Col::data("method_desc", Type::Address).titled("the method"),
        Col::data("token", Type::Hex).titled("its token"),
        Col::data("module", Type::Text).titled("its module"),
        Col::data("native_offset", Type::Hex).titled("how far IP lies behind the start of the method's code"),
        Col::data("il_offset", Type::Number).titled("offset in its IL, where it is recorded"),
        Col::data("source_file", Type::Path).titled("source file, where symbols are at hand"),
        Col::data("source_line", Type::Number).titled("line in it"),
        Col::data("leaf", Type::Bool).titled("the thread was interrupted here, not in a call made here"),
        Col::data("funclet", Type::Bool).titled("a handler, filter or finally block of its method"),
        Col::data("caller_sp", Type::Address).titled("stack pointer of the caller"),
        Col::data("guessed", Type::Bool).titled("found by looking for return addresses: frames above may be missing"),
    ],
)
.under("threads", "os_id");

/// With -a, -p, -l, -i.
const VARIABLES: Table = Table::new(
    "variables",
    &[
        Col::data("frame", Type::Count).titled("whose it is"),
        Col::data("kind", Type::Text).titled("parameter or local"),
        Col::data("slot", Type::Count).titled("number among its kind"),
        Col::data("name", Type::Text).titled("its name, of a local where symbols are at hand"),
        Col::data("type", Type::TypeName).titled("its type as far as it is known"),
        Col::data("place", Type::Address).titled("where it is in memory"),
        Col::data("register", Type::Text).titled("the register it is in"),
        Col::data("value", Type::Hex).titled("what is there"),
    ],
)
.under("frames", "frame");

/// With -r.
const REGISTERS: Table = Table::new(
    "registers",
    &[
        Col::data("frame", Type::Count).titled("whose they are"),
        Col::data("register", Type::Text).titled("name"),
        Col::data("value", Type::Hex).titled("value; a register that was not saved has none"),
    ],
)
.under("frames", "frame");

const UNMANAGED: [&str; 3] = [
    "Unable to walk the managed stack. The current thread is likely not a",
    "managed thread. You can run !clrthreads to get a list of managed threads in",
    "the process",
];

/// What is shown of a frame.
struct Show {
    arguments: bool,
    locals: bool,
    types: bool,
    offsets: bool,
    registers: bool,
    roots: bool,
    lines: bool,
    canonical: bool,
    most: usize,
}

impl Show {
    fn of(args: &Args) -> Self {
        let all = args.has("a") || args.has("i");
        Self {
            arguments: all || args.has("p"),
            locals: all || args.has("l"),
            types: args.has("i"),
            offsets: args.has("f"),
            registers: args.has("r"),
            roots: args.has("gc"),
            lines: !args.has("n"),
            canonical: args.has("canon"),
            most: args.number("c").and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX),
        }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let show = Show::of(args);
    if args.has("all") {
        let mut partial = clr.threads().partial.clone();
        for t in clr.threads().items.iter().filter(|t| t.os_id != 0) {
            session.watch.cancel.check()?;
            let why = stack(session, clr, ctx.out, Walked { thread: t, from: None, alone: false }, &show)?;
            partial = partial.or(why);
        }
        return Ok(partial.map_or(Outcome::Complete, Outcome::Partial));
    }
    let index = ctx.settings.thread;
    let Some(thread) = session.dump().threads.get(index) else { bail!("the dump has no thread {index}") };
    let Some(t) = session.clr_thread(thread.os_id) else {
        let whose = [Cell::Hex(thread.os_id), Cell::Num(index as u64), Cell::None, Cell::None];
        ctx.out.row_as(&THREADS, &whose, format!("OS Thread Id: 0x{:x} ({index})", thread.os_id))?;
        for line in UNMANAGED {
            ctx.out.note(line)?;
        }
        return Ok(Outcome::Empty);
    };
    let of = Walked { thread: t, from: ctx.settings.context.as_ref(), alone: true };
    Ok(stack(session, clr, ctx.out, of, &show)?.map_or(Outcome::Complete, Outcome::Partial))
}

/// A thread whose stack is shown.
struct Walked<'a> {
    thread: &'a ClrThread,
    /// The registers to begin with, if not its own.
    from: Option<&'a Chosen>,
    /// Whether it is the only one.
    alone: bool,
}

/// Prints the stack of one thread; why it may not be whole.
fn stack(session: &Session, clr: &Clr, out: &mut Out, of: Walked<'_>, show: &Show) -> Result<Option<String>> {
    let Walked { thread, from, alone } = of;
    let stack = session.managed_stack(thread, from).unwrap_or_default();
    let index = super::clrthreads::dump_index(session, thread.os_id);
    let whose = [
        Cell::Hex(thread.os_id),
        index.map_or(Cell::None, |i| Cell::Num(i as u64)),
        Cell::Num(u64::from(thread.managed_id)),
        Cell::maybe(stack.partial.as_deref()),
    ];
    let number = index.filter(|_| alone).map_or_else(String::new, |i| format!(" ({i})"));
    out.row_as(&THREADS, &whose, format!("OS Thread Id: 0x{:x}{number}", thread.os_id))?;
    let w = digits();
    out.note(format!("{:>w$} {:>w$} Call Site", "Child SP", "IP"))?;
    let live = show.roots.then(|| clr.live_slots(thread));
    let all = index.filter(|_| show.offsets).map(|i| session.mixed_stack_from(i, from).frames).unwrap_or_default();
    let mut native = all.iter().filter(|f| f.what == What::Native).peekable();
    for (i, frame) in stack.frames.iter().enumerate().take(show.most) {
        while let Some(f) = native.next_if(|n| n.sp < frame.sp) {
            native_frame(session, out, thread, f, show)?;
        }
        one(session, clr, out, thread, frame, show)?;
        if let Some(live) = &live {
            let number = out.count(&FRAMES);
            frameroots::print(session, out, live, (i, number))?;
        }
    }
    for f in native.filter(|_| stack.frames.len() <= show.most) {
        native_frame(session, out, thread, f, show)?;
    }
    Ok(stack.partial.clone())
}

/// A frame of native code, as -f shows it between the others.
fn native_frame(session: &Session, out: &mut Out, thread: &ClrThread, f: &Mixed, show: &Show) -> Result<()> {
    let native = session.native();
    let (place, at) = match f.exact {
        true => (native.place(f.ip), f.ip),
        false => (native.place_of_return(f.ip), f.ip.wrapping_sub(1)),
    };
    let module = session.dump().module_at(at).map(|m| m.file_name().to_owned()).unwrap_or_default();
    let site = match &place {
        Some(p) => format!("{module}{} + {}", p.name.as_ref().map_or_else(String::new, |n| format!("!{n}")), p.offset),
        None => "Unknown".to_owned(),
    };
    let source = native.line_at(at);
    let number = Cell::Num(out.count(&FRAMES) + 1);
    let cells = [
        Cell::Hex(thread.os_id),
        number,
        Cell::Addr(f.sp),
        Cell::Addr(f.ip),
        Cell::text(&*site),
        Cell::text("native"),
        Cell::None,
        Cell::None,
        Cell::None,
        Cell::maybe(Some(module.as_str()).filter(|m| !m.is_empty())),
        place.as_ref().map_or(Cell::None, |p| Cell::Hex(p.offset)),
        Cell::None,
        Cell::maybe(source.as_ref().map(|l| &*l.file)),
        source.as_ref().map_or(Cell::None, |l| Cell::Num(u64::from(l.line))),
        Cell::Bool(f.exact),
        Cell::Bool(false),
        Cell::None,
        Cell::Bool(f.guessed),
    ];
    let line = source.as_ref().filter(|_| show.lines);
    let line = line.map_or_else(String::new, |l| format!(" [{} @ {}]", l.file, l.line));
    Ok(out.row_as(&FRAMES, &cells, format!("{:0w$X} {:0w$X} {site}{line}", f.sp, f.ip, w = digits()))?)
}

/// What text and data say of a frame.
struct Row {
    call_site: String,
    module: String,
    line: Option<SourceLine>,
    method: Option<u64>,
}

fn one(session: &Session, clr: &Clr, out: &mut Out, thread: &ClrThread, f: &Frame, show: &Show) -> Result<()> {
    let row = describe(session, clr, f, show);
    let number = out.count(&FRAMES) + 1;
    let code = f.code.as_ref();
    let kind = match f.kind {
        FrameKind::Managed => "managed",
        FrameKind::Explicit => "explicit",
        FrameKind::Gap => "native",
    };
    let explicit = f.explicit.map(|e| e.name).filter(|n| !n.is_empty());
    let cells = [
        Cell::Hex(thread.os_id),
        Cell::Num(number),
        Cell::Addr(f.sp),
        Cell::Addr(f.ip),
        Cell::text(&*row.call_site),
        Cell::text(kind),
        Cell::maybe(explicit),
        row.method.map_or(Cell::None, Cell::Addr),
        code.and_then(|c| c.token).map_or(Cell::None, |t| Cell::Hex(u64::from(t))),
        Cell::maybe(Some(row.module.as_str()).filter(|m| !m.is_empty())),
        code.map_or(Cell::None, |c| Cell::Hex(u64::from(c.native))),
        f.il_offset(clr.code()).map_or(Cell::None, |o| Cell::Num(u64::from(o))),
        Cell::maybe(row.line.as_ref().map(|l| &*l.document)),
        row.line.as_ref().map_or(Cell::None, |l| Cell::Num(u64::from(l.line))),
        Cell::Bool(f.leaf),
        Cell::Bool(f.is_funclet()),
        f.caller_sp.map_or(Cell::None, Cell::Addr),
        Cell::Bool(f.guessed),
    ];
    let w = digits();
    let line = row
        .line
        .as_ref()
        .filter(|_| show.lines)
        .map_or_else(String::new, |l| format!(" [{} @ {}]", l.document, l.line));
    let text = match f.kind {
        FrameKind::Managed => format!("{:0w$X} {:0w$X} {}{line}", f.sp, f.ip, row.call_site),
        // SOS leaves a blank for the method where an explicit frame has none.
        FrameKind::Explicit if row.method.is_none() => format!("{:0w$X} {:0w$x} {} ", f.sp, f.ip, row.call_site),
        _ => format!("{:0w$X} {:0w$x} {}", f.sp, f.ip, row.call_site),
    };
    out.row_as(&FRAMES, &cells, text)?;
    if f.kind == FrameKind::Managed {
        details(session, out, f, show, number)?;
    }
    Ok(())
}

fn describe(session: &Session, clr: &Clr, f: &Frame, show: &Show) -> Row {
    let mut row = Row { call_site: String::new(), module: String::new(), line: None, method: None };
    if let Some(at) = &f.code {
        row.method = at.method;
        if at.module != 0 {
            row.module = clr.module(at.module).file_name().to_owned();
        }
        let unknown = || match at.token {
            Some(token) => format!("{}!0x{token:08x}", row.module),
            None => format!("{}!Unknown", row.module),
        };
        row.call_site = session.frame_name(f, !show.canonical).unwrap_or_else(unknown);
        row.line = session.frame_line(f);
        if show.offsets {
            row.call_site = format!("{}!{} + {}", row.module, row.call_site, at.native);
        }
    }
    if let Some(e) = &f.explicit {
        row.method = clr.method_of_frame(e);
        let method = row.method.and_then(|m| clr.method_desc(m)).map_or_else(String::new, |m| clr.method_name(&m));
        let name = if e.name.is_empty() { "Frame" } else { e.name };
        row.call_site = format!("[{name}: {:0w$x}] {method}", e.address, w = digits()).trim_end().to_owned();
    }
    if let Some(why) = &f.why {
        row.call_site = format!("[{why}]");
    }
    row
}

/// Registers, arguments and locals of a managed frame.
fn details(session: &Session, out: &mut Out, f: &Frame, show: &Show, number: u64) -> Result<()> {
    if show.registers
        && let Some(context) = &f.registers
    {
        print_registers(out, context, number)?;
    }
    if show.arguments || show.locals {
        let all = session.frame_variables(f);
        let (arguments, locals): (Vec<_>, Vec<_>) = all.iter().partition(|v| v.argument);
        for (title, list) in [("PARAMETERS", arguments), ("LOCALS", locals)] {
            let wanted = if title == "LOCALS" { show.locals } else { show.arguments };
            if !wanted || list.is_empty() {
                continue;
            }
            out.note(format!("    {title}:"))?;
            for v in list {
                variable(out, v, show, number)?;
            }
        }
    }
    if show.arguments || show.locals || show.registers {
        out.note("")?;
    }
    Ok(())
}

fn variable(out: &mut Out, v: &FrameVariable, show: &Show, number: u64) -> Result<()> {
    let (place, register) = match v.place {
        Place::Nowhere => (None, None),
        Place::Register(name) => (None, Some(name)),
        Place::Memory(at) => (Some(at), None),
    };
    let cells = [
        Cell::Num(number),
        Cell::text(if v.argument { "parameter" } else { "local" }),
        Cell::Num(v.number as u64),
        Cell::maybe(Some(v.name.as_str()).filter(|n| !n.is_empty())),
        Cell::maybe(Some(v.type_name.as_str()).filter(|n| !n.is_empty())),
        place.map_or(Cell::None, Cell::Addr),
        Cell::maybe(register),
        v.value.map_or(Cell::None, Cell::Hex),
    ];
    let at = match v.place {
        Place::Nowhere => None,
        Place::Register(_) => Some("<CLR reg>".to_owned()),
        Place::Memory(at) => Some(format!("0x{at:0w$X}", w = digits())),
    };
    let value = v.value.map_or_else(|| "<no data>".to_owned(), |v| format!("0x{v:0w$x}", w = digits()));
    let ty = if show.types && !v.type_name.is_empty() { format!("{} ", v.type_name) } else { String::new() };
    let text = match (v.name.as_str(), at) {
        ("", None) => format!("        {ty}<no data>"),
        ("", Some(at)) => format!("        {ty}{at} = {value}"),
        (name, None) => format!("        {ty}{name} = <no data>"),
        (name, Some(at)) => format!("        {ty}{name} ({at}) = {value}"),
    };
    out.row_as(&VARIABLES, &cells, text)?;
    Ok(())
}

/// In SOS's order, three a line; what is not known has question marks.
fn print_registers(out: &mut Out, context: &Context, number: u64) -> Result<()> {
    const X64: [&str; 17] = [
        "rsp", "rbp", "rip", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
        "r15",
    ];
    const X86: [&str; 9] = ["esp", "ebp", "eip", "eax", "ebx", "ecx", "edx", "esi", "edi"];
    let names: Vec<&'static str> = match context.arch {
        Arch::X64 => X64.to_vec(),
        Arch::X86 => X86.to_vec(),
        arch => ["sp", "lr", "pc", "fp"]
            .into_iter()
            .chain(registers::names(arch).iter().copied().filter(|n| !matches!(*n, "sp" | "lr" | "pc" | "fp")))
            .collect(),
    };
    let w = digits();
    for line in names.chunks(3) {
        let mut text = String::from("   ");
        for name in line {
            let shown = context.named(name).map_or_else(|| "?".repeat(w), |v| format!("{v:0w$x}"));
            text.push_str(&format!(" {name:>3}={shown}"));
        }
        out.note(text)?;
        for name in line {
            if let Some(v) = context.named(name) {
                out.data_row(&REGISTERS, &[Cell::Num(number), Cell::text(*name), Cell::Hex(v)])?;
            }
        }
    }
    Ok(())
}
