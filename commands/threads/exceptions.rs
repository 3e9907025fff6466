//! `!printexception` and `!dumpexceptions`.

use anyhow::{Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::clr::code::stacktrace::TraceFrame;
use crate::clr::image::metadata::debug::SourceLine;
use crate::clr::runtime::threads::ClrThread;
use crate::dump::Arch;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!printexception [ADDR]`.
pub const PRINTEXCEPTION: Command = Command {
    name: "printexception",
    prefix: Prefix::Bang,
    aliases: &["pe", "wpe"],
    group: Group::Threads,
    summary: "show an exception: message, stack trace, inner exceptions",
    help: "Without ADDR: the exception last thrown on the current thread. -nested follows the inner exceptions too, all of \
           an aggregate's, and on the current thread those that were still being handled when it was thrown. The stack \
           trace is the one recorded in the object, with file and line where a portable PDB is at hand: in the assembly or \
           beside it. Where the process ended itself the message of Environment.FailFast is shown too.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of an exception object"),
        Arg::flag("nested", "the inner exceptions too"),
        Arg::flag("lines", "accepted: source lines are shown where symbols are at hand").or(&["l"]),
        Arg::flag("ccw", "accepted; ADDR is always an object"),
    ],
    examples: &[
        Example { line: "!pe", what: "the exception of the current thread" },
        Example { line: "!pe -nested $EXCEPTION", what: "an exception with those inside it" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new(
            "nested_on_thread",
            "exceptions still being handled on the thread when this one was thrown",
            Type::Count,
        ),
        Fact::new("fail_fast", "what the process said when it ended itself", Type::Content),
    ])
    .and(&[&EXCEPTIONS, &INNER, &FRAMES]),
    run: print_exception,
};

/// `!dumpexceptions`.
pub const DUMPEXCEPTIONS: Command = Command {
    name: "dumpexceptions",
    prefix: Prefix::Bang,
    aliases: &["dumpallexceptions", "dae", "wdae"],
    group: Group::Threads,
    summary: "list the exception objects on the heap",
    help: "For each: address, type, message, and the frame it was thrown in. -type takes part of a type name; -stat counts \
           them by type and message.",
    args: &[
        Arg::opt("type", Kind::TypeName, "only types whose name contains this"),
        Arg::flag("stat", "count them by type and message, the most frequent first"),
    ],
    examples: &[
        Example { line: "!dumpexceptions", what: "all exceptions" },
        Example { line: "!dumpexceptions -stat", what: "which there are, and how many of each" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("objects", "exception objects", Type::Count)]).and(&[&LIST, &KINDS]),
    run: dump_exceptions,
};

/// An exception and those inside it; text has lines of it.
const EXCEPTIONS: Table = Table::new(
    "exceptions",
    &[
        Col::data("exception", Type::Address).titled("the exception object"),
        Col::data("type", Type::TypeName).titled("its type"),
        Col::data("message", Type::Content).titled("its message"),
        Col::data("inner", Type::Address).titled("the exception inside it"),
        Col::data("inner_type", Type::TypeName).titled("the type of that"),
        Col::data("stack_text", Type::Content).titled("the stack trace the object keeps as a string"),
        Col::data("hresult", Type::Hex).titled("its HRESULT"),
        Col::data("inside", Type::Address).titled("the exception it is inside of, of those that are not the first"),
    ],
);

/// What an aggregate collects; text has it below the first inner exception.
const INNER: Table = Table::new(
    "inner_exceptions",
    &[
        Col::data("exception", Type::Address).titled("the aggregate"),
        Col::data("inner", Type::Address).titled("an exception inside it"),
        Col::data("type", Type::TypeName).titled("its type"),
        Col::data("message", Type::Content).titled("its message"),
    ],
)
.under("exceptions", "exception");

const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("exception", Type::Address).titled("whose stack trace it is"),
        Col::left("    SP              ", "sp", 20).of(Type::Address),
        Col::left("IP              ", "ip", 16).of(Type::Address),
        Col::left("Function", "function", 0),
        Col::data("offset", Type::Hex).titled("how far IP lies behind the start of the method's code"),
        Col::data("method_desc", Type::Address).titled("the method"),
        Col::data("il_offset", Type::Number).titled("offset in its IL, where it is recorded"),
        Col::data("source_file", Type::Path).titled("source file, where symbols are at hand"),
        Col::data("source_line", Type::Number).titled("line in it"),
    ],
)
.under("exceptions", "exception");

const LIST: Table = Table::new(
    "exceptions",
    &[
        Col::right("Address", "exception", 16).of(Type::Address),
        Col::right("MethodTable", "method_table", 16).of(Type::Address),
        Col::left("Message Name", "type", 0).of(Type::TypeName),
        Col::data("message", Type::Content).titled("its message"),
        Col::data("thrown_in", Type::Text).titled("the method it was thrown in"),
    ],
);

/// Exceptions by type and message.
const KINDS: Table = Table::new(
    "kinds",
    &[
        Col::right("Count", "count", 8).of(Type::Count),
        Col::right("Example", "example", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
        Col::left("Message", "message", 0).of(Type::Content),
    ],
);

const SEPARATOR: &str = "Nested exception -------------------------------------------------------------";

fn print_exception(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let address = match args.number("ADDR").filter(|&a| a != 0) {
        Some(a) => a,
        None => match current(ctx, session)? {
            Ok(a) => a,
            Err(why) => {
                ctx.out.note(why)?;
                return Ok(Outcome::Empty);
            }
        },
    };
    let nested = args.has("nested");
    // Those that were being handled when it was thrown, the youngest first.
    let handled = match args.number("ADDR") {
        None | Some(0) => still_handled(ctx, session, address)?,
        Some(_) => Vec::new(),
    };
    // What is to be shown, the next one last, with what it is inside of.
    let mut rest: Vec<(u64, u64)> = Vec::new();
    if nested {
        rest.extend(handled.iter().rev().map(|&e| (e, 0)));
    }
    rest.push((address, 0));
    let (mut seen, mut partial) = (FxHashSet::default(), None);
    while let Some((at, inside)) = rest.pop() {
        session.watch.cancel.check()?;
        if !seen.insert(at) {
            if inside != 0 {
                partial = partial
                    .or_else(|| Some(format!("the chain of inner exceptions runs in a circle: {at:x} comes again")));
            }
            continue;
        }
        let Some(mt) = clr.object_type(at).and_then(|m| clr.valid_method_table(m)).filter(|m| clr.is_exception(m))
        else {
            if seen.len() == 1 {
                bail!("{at:x} is not an exception object; !dumpexceptions lists them");
            }
            partial = partial.or_else(|| Some(format!("the exception {at:x} is not in the dump")));
            continue;
        };
        if seen.len() > 1 {
            line(ctx.out, SEPARATOR)?;
        }
        let inner = session.inner_exceptions(at);
        let why = one(clr, ctx.out, &Shown { address: at, mt: mt.address, inside, inner: &inner.items })?;
        partial = partial.or(why).or(inner.partial);
        if nested {
            rest.extend(inner.items.iter().rev().map(|&e| (e, at)));
        }
    }
    if let Some(message) = session.fail_fast(address) {
        ctx.out.note("")?;
        let line = format!("Environment.FailFast was called: {message}");
        ctx.out.fact("fail_fast", Cell::text(&message), line)?;
    }
    if !handled.is_empty() {
        let count = Cell::Num(handled.len() as u64);
        match nested {
            true => ctx.out.datum("nested_on_thread", &count),
            false => {
                let line = "There are nested exceptions on this thread. Run with -nested for details";
                ctx.out.note("")?;
                ctx.out.fact("nested_on_thread", count, line)?;
            }
        }
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// The exceptions in flight on the current thread beside `exception`, which is its own.
fn still_handled(ctx: &Ctx<'_>, session: &Session, exception: u64) -> Result<Vec<u64>> {
    let thread = current_thread(ctx, session)?;
    let others = |t: &ClrThread| t.in_flight.iter().copied().filter(|&e| e != exception).collect();
    Ok(thread.map_or_else(Vec::new, others))
}

/// The managed thread that is current.
fn current_thread<'s>(ctx: &Ctx<'_>, session: &'s Session) -> Result<Option<&'s ClrThread>> {
    let os_id = session.dump().threads.get(ctx.settings.thread).map(|t| t.os_id);
    Ok(session.clr()?.threads().items.iter().find(|t| Some(t.os_id) == os_id && t.os_id != 0))
}

/// The exception of the current thread, or why there is none.
fn current(ctx: &Ctx<'_>, session: &Session) -> Result<std::result::Result<u64, &'static str>> {
    Ok(match current_thread(ctx, session)? {
        None => Err("The current thread is unmanaged"),
        Some(t) if t.exception == 0 => Err("There is no current managed exception on this thread"),
        Some(t) => Ok(t.exception),
    })
}

/// A line of what a row says.
fn line(out: &mut Out, text: impl AsRef<str>) -> Result<()> {
    Ok(out.facts(&[], text)?)
}

/// A string of the process, whole: text has its beginning.
fn whole<'t>(clr: &Clr, at: u64, beginning: Option<&'t str>) -> Cell<'t> {
    match clr.string_units(at, usize::MAX).filter(|_| at != 0) {
        Some((_, units)) => Cell::Units(units.into()),
        None => Cell::maybe(beginning),
    }
}

/// An exception that is shown.
struct Shown<'a> {
    address: u64,
    mt: u64,
    /// The exception it is inside of; 0 for none.
    inside: u64,
    /// Those inside it.
    inner: &'a [u64],
}

fn one(clr: &Clr, out: &mut Out, shown: &Shown<'_>) -> Result<Option<String>> {
    let &Shown { address, mt, inside, inner: all } = shown;
    let e = &clr.exception_at(address, mt);
    let name = clr.type_name_long(mt);
    let inner = clr.object_type(e.inner).filter(|_| e.inner != 0).map(|inner| clr.type_name_long(inner));
    if out.wants_data() {
        let cells = [
            Cell::Addr(address),
            Cell::text(&*name),
            whole(clr, e.message_at, e.message.as_deref()),
            Cell::at(e.inner),
            Cell::maybe(inner.as_deref()),
            whole(clr, e.stack_text_at, e.stack_text.as_deref()),
            Cell::Hex(u64::from(e.hresult)),
            Cell::at(inside),
        ];
        out.data_row(&EXCEPTIONS, &cells)?;
    }
    line(out, format!("Exception object: {address:0w$x}", w = digits()))?;
    line(out, format!("Exception type:   {name}"))?;
    line(out, format!("Message:          {}", e.message.as_deref().unwrap_or("<none>")))?;
    match inner {
        Some(inner) => line(
            out,
            format!("InnerException:   {inner}, Use printexception {:0w$X} to see more.", e.inner, w = digits()),
        )?,
        None => line(out, "InnerException:   <none>")?,
    }
    if all.len() > 1 {
        line(out, format!("InnerExceptions:  {}", all.len()))?;
        for &inner in all {
            let mt = clr.object_type(inner).unwrap_or(0);
            let (name, e) = (clr.type_name_long(mt), clr.exception_at(inner, mt));
            let message = e.message.as_deref();
            let text = format!("    {inner:0w$X} {name}: {}", message.unwrap_or("<none>"), w = digits());
            let whole = if out.wants_data() { whole(clr, e.message_at, message) } else { Cell::None };
            out.row_as(&INNER, &[Cell::Addr(address), Cell::Addr(inner), Cell::text(&*name), whole], text)?;
        }
    }
    let trace = clr.stack_trace(e.stack_trace);
    line(out, "StackTrace (generated):")?;
    if trace.items.is_empty() {
        line(out, "<none>")?;
    } else {
        frames(clr, out, (address, e.fault), &trace.items)?;
    }
    line(out, "")?;
    line(out, format!("StackTraceString: {}", e.stack_text.as_deref().unwrap_or("<none>")))?;
    line(out, format!("HResult: {:08x}", e.hresult))?;
    Ok(trace.partial)
}

/// Frames of a trace. On x64 SOS prints the addresses of a fault's trace as they were before the runtime stepped back, for all
/// exceptions that may be faults: the instruction at fault, and where calls return to.
fn frames(clr: &Clr, out: &mut Out, (exception, fault): (u64, bool), frames: &[TraceFrame]) -> Result<()> {
    out.open(&FRAMES)?;
    let forward = u64::from(fault && clr.dump.arch == Arch::X64);
    for kept in frames {
        let f = &TraceFrame { ip: kept.ip.wrapping_add(forward), ..*kept };
        let (function, offset) = function(clr, f);
        let shown = match (&function, offset) {
            (Some(name), Some(o)) => format!("{name}+0x{o:x}"),
            (Some(name), None) => name.clone(),
            (None, _) => format!("MethodDesc {:0w$x}", f.method, w = digits()),
        };
        let (il, line) = stands(clr, kept);
        let place = line.as_ref().map_or_else(String::new, |l| format!(" [{} @ {}]", l.document, l.line));
        out.row(&[
            Cell::Addr(exception),
            Cell::shown(format!("    {:0w$X}", f.sp, w = digits()), Cell::Addr(f.sp)),
            Cell::AddrUpper(f.ip, 16),
            Cell::shown(shown + &place, Cell::maybe(function)),
            offset.map_or(Cell::None, Cell::Hex),
            Cell::Addr(f.method),
            il.map_or(Cell::None, |o| Cell::Num(u64::from(o))),
            Cell::maybe(line.as_ref().map(|l| &*l.document)),
            line.as_ref().map_or(Cell::None, |l| Cell::Num(u64::from(l.line))),
        ])?;
    }
    Ok(())
}

/// IL offset and source line of a frame of a trace, as far as they are known. Its address lies in the instruction that threw
/// or called: the runtime steps back from where a call returns to (dotnet/runtime `src/coreclr/vm/excep.cpp`, `AppendElement`).
fn stands(clr: &Clr, f: &TraceFrame) -> (Option<u32>, Option<SourceLine>) {
    let code = clr.code();
    let Some(at) = code.at(f.ip) else { return (None, None) };
    let il = code.il_of_instruction(&at);
    (il, il.and_then(|il| code.line(&at, il)))
}

/// `module!method`, nothing where that cannot be told, and the offset where the start of the method's code is known.
fn function(clr: &Clr, f: &TraceFrame) -> (Option<String>, Option<u64>) {
    if clr.ahead().is_some() {
        let at = clr.code().at(f.ip);
        let name = at.as_ref().and_then(|at| clr.code().name(at));
        let module = at.map(|at| clr.module(at.module).file_name().to_owned()).unwrap_or_default();
        return (name.map(|n| format!("{module}!{n}")), at.map(|at| at.native.into()));
    }
    let Some(md) = clr.valid_method_desc(f.method) else { return (None, None) };
    let module = clr.method_table(md.owner).and_then(|mt| clr.defining_module(&mt)).map(|m| clr.module(m));
    let name = clr.method_name(&md);
    let module = module.map(|m| m.file_name().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "UNKNOWN".into());
    let offset = clr.native_code(&md).and_then(|code| f.ip.checked_sub(code)).filter(|&o| o < 1 << 24);
    (Some(format!("{module}!{name}")), offset)
}

fn dump_exceptions(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
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
    if args.has("stat") {
        kinds(session, ctx.out, &objects)?;
        return Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial));
    }
    ctx.out.open(&LIST)?;
    for &(address, mt) in &objects {
        session.watch.cancel.check()?;
        let e = clr.exception_at(address, mt);
        let thrown = clr.innermost_frame(e.stack_trace).and_then(|f| match clr.ahead() {
            Some(_) => clr.code().name(&clr.code().at(f.ip)?),
            None => clr.valid_method_desc(f.method).map(|md| clr.method_name(&md)),
        });
        let message = match ctx.out.wants_data() {
            true => whole(clr, e.message_at, e.message.as_deref()),
            false => Cell::None,
        };
        ctx.out.row(&[
            Cell::Addr(address),
            Cell::Addr(mt),
            Cell::text(&*clr.type_name_long(mt)),
            message,
            Cell::maybe(thrown.as_deref()),
        ])?;
        line(ctx.out, format!("        Message: {}", e.message.as_deref().unwrap_or("<null>")))?;
        if let Some(method) = thrown {
            line(ctx.out, format!("        StackFrame: {method}"))?;
        }
    }
    ctx.out.note("")?;
    let count = objects.len() as u64;
    ctx.out.fact("objects", Cell::Num(count), format!("    Total: {count} objects"))?;
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}

/// Counts exception objects by type and message.
fn kinds(session: &Session, out: &mut Out, objects: &[(u64, u64)]) -> Result<()> {
    let clr = session.clr()?;
    let mut kinds: FxHashMap<(u64, Option<String>), (u64, u64)> = FxHashMap::default();
    for &(address, mt) in objects {
        session.watch.cancel.check()?;
        let message = clr.exception_at(address, mt).message;
        kinds.entry((mt, message)).or_insert((0, address)).0 += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (count, example))| (std::cmp::Reverse(*count), *example));
    out.open(&KINDS)?;
    for ((mt, message), (count, example)) in kinds {
        let name = clr.type_name_long(mt);
        out.row(&[Cell::Num(count), Cell::Addr(example), Cell::text(&*name), Cell::maybe(message)])?;
    }
    let count = objects.len() as u64;
    Ok(out.fact("objects", Cell::Num(count), format!("Total: {count} objects"))?)
}
