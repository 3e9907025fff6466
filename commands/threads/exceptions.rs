//! `!printexception` and `!dumpexceptions`.

use anyhow::{Result, bail};

use crate::clr::Clr;
use crate::clr::code::stacktrace::TraceFrame;
use crate::clr::runtime::exceptions::ExceptionObject;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!printexception [ADDR]`.
pub const PRINTEXCEPTION: Command = Command {
    name: "printexception",
    prefix: Prefix::Bang,
    aliases: &["pe"],
    group: Group::Threads,
    summary: "show an exception: message, stack trace, inner exceptions",
    help: "Without ADDR: the exception last thrown on the current thread. -nested follows the inner exceptions too. The \
           stack trace is the one recorded in the object.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of an exception object"),
        Arg::flag("nested", "the inner exceptions too"),
        Arg::flag("lines", "accepted; the dump holds no source lines").or(&["l"]),
        Arg::flag("ccw", "accepted; ADDR is always an object"),
    ],
    examples: &[
        Example { line: "!pe", what: "the exception of the current thread" },
        Example { line: "!pe -nested $EXCEPTION", what: "an exception with those inside it" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: print_exception,
};

/// `!dumpexceptions`.
pub const DUMPEXCEPTIONS: Command = Command {
    name: "dumpexceptions",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "list the exception objects on the heap",
    help: "For each: address, type, message, and the frame it was thrown in. -type takes part of a type name.",
    args: &[Arg::opt("type", Kind::TypeName, "only types whose name contains this")],
    examples: &[Example { line: "!dumpexceptions", what: "all exceptions" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dump_exceptions,
};

/// Deepest chain of inner exceptions followed.
const MAX_INNER: usize = 64;
const SEPARATOR: &str = "Nested exception -------------------------------------------------------------";

fn print_exception(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = match args.number("ADDR").filter(|&a| a != 0) {
        Some(a) => a,
        None => match current(ctx, session)? {
            Ok(a) => a,
            Err(why) => {
                ctx.out.line(why)?;
                return Ok(Outcome::Empty);
            }
        },
    };
    let mut seen = Vec::new();
    let mut at = address;
    let mut partial = None;
    while at != 0 && !seen.contains(&at) && seen.len() < MAX_INNER {
        let Some(mt) = clr.object_type(at).and_then(|m| clr.valid_method_table(m)).filter(|m| clr.is_exception(m))
        else {
            if seen.is_empty() {
                bail!("{at:x} is not an exception object; !dumpexceptions lists them");
            }
            break;
        };
        if !seen.is_empty() {
            ctx.out.line(SEPARATOR)?;
        }
        seen.push(at);
        let e = clr.exception_at(at, mt.address);
        let why = one(clr, ctx.out, at, mt.address, &e)?;
        partial = partial.or(why);
        at = if args.has("nested") { e.inner } else { 0 };
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// The exception of the current thread, or why there is none.
fn current(ctx: &Ctx<'_>, session: &Session) -> Result<std::result::Result<u64, &'static str>> {
    let clr = session.clr()?;
    let os_id = session.dump().threads.get(ctx.settings.thread).map(|t| t.os_id);
    let thread = clr.threads().items.iter().find(|t| Some(t.os_id) == os_id && t.os_id != 0);
    Ok(match thread {
        None => Err("The current thread is unmanaged"),
        Some(t) if t.exception == 0 => Err("There is no current managed exception on this thread"),
        Some(t) => Ok(t.exception),
    })
}

fn one(clr: &Clr, out: &mut Out, address: u64, mt: u64, e: &ExceptionObject) -> Result<Option<String>> {
    out.line(format!("Exception object: {address:0w$x}", w = digits()))?;
    out.line(format!("Exception type:   {}", clr.type_name_long(mt)))?;
    out.line(format!("Message:          {}", e.message.as_deref().unwrap_or("<none>")))?;
    match clr.object_type(e.inner).filter(|_| e.inner != 0) {
        Some(inner) => out.line(format!(
            "InnerException:   {}, Use printexception {:0w$X} to see more.",
            clr.type_name_long(inner),
            e.inner,
            w = digits()
        ))?,
        None => out.line("InnerException:   <none>")?,
    }
    let trace = clr.stack_trace(e.stack_trace);
    if trace.items.is_empty() {
        out.line("StackTrace (generated):")?;
        out.line("<none>")?;
    } else {
        frames(clr, out, &trace.items)?;
    }
    out.line("")?;
    out.line(format!("StackTraceString: {}", e.stack_text.as_deref().unwrap_or("<none>")))?;
    out.line(format!("HResult: {:08x}", e.hresult))?;
    Ok(trace.partial)
}

fn frames(clr: &Clr, out: &mut Out, frames: &[TraceFrame]) -> Result<()> {
    const COLUMNS: &[Col] = &[
        Col::left("    SP              ", "sp", 20),
        Col::left("IP              ", "ip", 16),
        Col::left("Function", "function", 0),
    ];
    out.line("StackTrace (generated):")?;
    out.table("frames", COLUMNS, true)?;
    for f in frames {
        out.row(&[
            Cell::text(format!("    {:0w$X}", f.sp, w = digits())),
            Cell::text(format!("{:0w$X}", f.ip, w = digits())),
            Cell::text(function(clr, f)),
        ])?;
    }
    Ok(())
}

/// `module!method+0xN`; the offset where the start of the method's code is known.
fn function(clr: &Clr, f: &TraceFrame) -> String {
    let Some(md) = clr.valid_method_desc(f.method) else {
        return format!("MethodDesc {:0w$x}", f.method, w = digits());
    };
    let module = clr.method_table(md.owner).and_then(|mt| clr.defining_module(&mt)).map(|m| clr.module(m));
    let name = clr.method_name(&md);
    let module = module.map(|m| m.file_name().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "UNKNOWN".into());
    let offset = clr.native_code(&md).and_then(|code| f.ip.checked_sub(code)).filter(|&o| o < 1 << 24);
    offset.map_or_else(|| format!("{module}!{name}"), |o| format!("{module}!{name}+0x{o:x}"))
}

fn dump_exceptions(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] = &[
        Col::right("Address", "address", 16),
        Col::right("MethodTable", "mt", 16),
        Col::left("Message Name", "name", 0),
    ];
    let session = ctx.session()?;
    let clr = session.clr()?;
    let wanted = args.text("type").map(str::to_ascii_lowercase);
    // The statistics know the types; only segments' objects of exception types are looked at again.
    session.stat()?;
    let types: std::collections::HashSet<u64> = session
        .types()
        .all()
        .iter()
        .filter(|t| clr.is_exception(&t.mt))
        .filter(|t| {
            wanted.as_ref().is_none_or(|w| clr.type_name(t.mt.address).to_ascii_lowercase().contains(w.as_str()))
        })
        .map(|t| t.mt.address)
        .collect();
    let walker = session.walker()?;
    let (found, report) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |found, _, o| {
            if types.contains(&o.ty.mt.address) {
                found.push((o.address, o.ty.mt.address));
            }
        },
    )?;
    let mut objects: Vec<(u64, u64)> = found.into_iter().flatten().collect();
    objects.sort_unstable();
    ctx.out.table("exceptions", COLUMNS, true)?;
    for &(address, mt) in &objects {
        let e = clr.exception_at(address, mt);
        ctx.out.row(&[Cell::Addr(address), Cell::Addr(mt), Cell::text(&*clr.type_name_long(mt))])?;
        ctx.out.line(format!("        Message: {}", e.message.as_deref().unwrap_or("<null>")))?;
        if let Some(md) = clr.stack_trace(e.stack_trace).items.first().and_then(|f| clr.valid_method_desc(f.method)) {
            ctx.out.line(format!("        StackFrame: {}", clr.method_name(&md)))?;
        }
    }
    ctx.out.line("")?;
    ctx.out.line(format!("    Total: {} objects", objects.len()))?;
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}
