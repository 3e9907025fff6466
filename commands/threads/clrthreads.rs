//! `!clrthreads` and `!threadstate`.

use anyhow::Result;

use crate::clr::runtime::threads::{self, ClrThread, state};
use crate::clr::{Clr, runtime::domains};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!clrthreads`.
pub const CLRTHREADS: Command = Command {
    name: "clrthreads",
    prefix: Prefix::Bang,
    aliases: &["threads", "mthreads", "wthreads"],
    group: Group::Threads,
    summary: "list the managed threads",
    help: "DBG is the number of the thread in the dump (~N s makes it current), XXXX when it has ended; ID the managed \
           id, OSID the operating system's. State is a bit mask for !threadstate. Lock Count is -00001 where it is not \
           known (the runtime keeps none since 9.0); -locks counts them: monitors and System.Threading.Locks the thread \
           holds, each once, which takes a walk over the heap. The last column tells special threads, the exception last \
           thrown, (nested exceptions) when others were being handled then, and the name in quotes.",
    args: &[
        Arg::flag("live", "leave out threads that have ended"),
        Arg::flag("special", "accepted; special threads are marked in the last column"),
        Arg::flag("locks", "count the locks each thread holds"),
    ],
    examples: &[Example { line: "!clrthreads", what: "all managed threads" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("threads", "managed threads", Type::Count),
        Fact::new("unstarted", "those that have not begun", Type::Count),
        Fact::new("background", "background threads", Type::Count),
        Fact::new("pending", "those that are being created", Type::Count),
        Fact::new("dead", "those that have ended", Type::Count),
    ])
    .and(&[&THREADS]),
    run: clrthreads,
};

/// `!threadstate HEX`.
pub const THREADSTATE: Command = Command {
    name: "threadstate",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "put the State column of !clrthreads into words",
    help: "One line for each bit that is set.",
    args: &[Arg::pos("STATE", Kind::Address, "the mask in hexadecimal").required()],
    examples: &[Example { line: "!threadstate 2021220", what: "the bits of a state" }],
    needs: Needs::Nothing,
    returns: Returns::tables(&[&BITS]),
    run: threadstate,
};

const THREADS: Table = Table::new(
    "threads",
    &[
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("ID", "managed_id", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::left("ThreadOBJ", "thread", 16).of(Type::Address),
        Col::right("State", "state", 8).of(Type::Hex),
        Col::left("GC Mode", "gc_mode", 11),
        Col::left("GC Alloc Context", "alloc_pointer", 33).of(Type::Address),
        Col::data("alloc_limit", Type::Address).titled("end of the allocation context"),
        Col::left("Domain", "domain", 16).of(Type::Address),
        Col::left("Lock Count", "lock_count", 5).of(Type::Count),
        Col::left("Apt", "apartment", 3),
        Col::left("Exception", "exception", 0).of(Type::Address),
        Col::data("exception_type", Type::TypeName).titled("type of the exception"),
        Col::data("nested_exceptions", Type::Count).titled("exceptions still being handled when it was thrown"),
        Col::data("finalizer", Type::Bool).titled("it runs finalizers"),
        Col::data("pool", Type::Text).titled("Worker or CompletionPort for threads of the thread pool"),
        Col::data("dead", Type::Bool).titled("it has ended"),
        Col::data("name", Type::Given).titled("its name"),
    ],
);

const BITS: Table = Table::new(
    "states",
    &[
        Col::data("bit", Type::Hex).titled("the bit that is set"),
        Col::data("state", Type::Text).titled("what it means"),
    ],
);

const HEADER: &str = "                                                                                                            Lock\n DBG   ID     OSID ThreadOBJ           State GC Mode     GC Alloc Context                  Domain           Count Apt Exception";

fn clrthreads(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let list = clr.threads();
    let counts = threads::counts(clr)?.unwrap_or_default();
    for (key, label, n) in [
        ("threads", "ThreadCount:", counts.threads),
        ("unstarted", "UnstartedThread:", counts.unstarted),
        ("background", "BackgroundThread:", counts.background),
        ("pending", "PendingThread:", counts.pending),
        ("dead", "DeadThread:", counts.dead),
    ] {
        ctx.out.fact(key, Cell::Num(u64::from(n)), format!("{label:<17} {n}"))?;
    }
    ctx.out.note("Hosted Runtime:   no")?;
    ctx.out.open_as(&THREADS, HEADER)?;
    let (held, unknown) =
        if args.has("locks") { session.locks_held().map(|h| (Some(h.0), h.1))? } else { (None, None) };
    for t in list.items.iter().filter(|t| !(args.has("live") && t.is_dead())) {
        let locks = match &held {
            Some(counts) => Some(u64::from(counts.get(&t.address).copied().unwrap_or(0))),
            None => lock_count(clr, t),
        };
        row(session, clr, ctx.out, t, locks)?;
    }
    Ok(list.partial.clone().or(unknown).map_or(Outcome::Complete, Outcome::Partial))
}

/// Number of a thread in the dump by its operating system id.
pub fn dump_index(session: &Session, os_id: u64) -> Option<usize> {
    session.dump().thread_number(os_id)
}

/// That number; `XXXX` in text when the thread has ended.
pub fn number_cell(session: &Session, os_id: u64) -> Cell<'static> {
    dump_index(session, os_id).map_or_else(|| Cell::shown("XXXX", Cell::None), |i| Cell::Num(i as u64))
}

fn row(session: &Session, clr: &Clr, out: &mut Out, t: &ClrThread, locks: Option<u64>) -> Result<()> {
    let domain = if t.domain != 0 { t.domain } else { domains::app_domain(clr).unwrap_or(0) };
    let (start, end) = t.alloc_context;
    let exception = clr.object_type(t.exception).filter(|_| t.exception != 0).map(|mt| clr.type_name_long(mt));
    let apartment = apartment(t.state);
    let name = session.thread_name(t);
    let nested = t.nested_exceptions();
    out.row(&[
        number_cell(session, t.os_id),
        Cell::Num(u64::from(t.managed_id)),
        Cell::Hex(t.os_id),
        Cell::AddrUpper(t.address, 16),
        Cell::Hex(u64::from(t.state)),
        Cell::text(if t.preemptive { "Preemptive" } else { "Cooperative" }),
        Cell::shown(format!("{start:0w$X}:{end:0w$X}", w = digits()), Cell::Addr(start)),
        Cell::Addr(end),
        Cell::AddrUpper(domain, 16),
        locks.map_or_else(|| Cell::shown("-00001", Cell::None), |n| Cell::shown(format!("{n:x}"), Cell::Num(n))),
        apartment.map_or_else(|| Cell::shown("Ukn", Cell::None), Cell::text),
        Cell::shown(remarks(t, exception.as_deref(), &name), Cell::at(t.exception)),
        Cell::maybe(exception.as_deref()),
        if nested == 0 { Cell::None } else { Cell::Num(nested as u64) },
        Cell::Bool(t.finalizer),
        Cell::maybe(pool(t).map(|p| p.0)),
        Cell::Bool(t.is_dead()),
        Cell::maybe(Some(name).filter(|n| !n.is_empty())),
    ])?;
    Ok(())
}

/// How many monitors the thread holds, where the runtime counts them.
fn lock_count(clr: &Clr, t: &ClrThread) -> Option<u64> {
    let at = clr.layout().try_offset("Thread", "LockCount").and_then(|o| t.address.checked_add(o));
    at.and_then(|a| clr.space().u32(a)).map(u64::from)
}

/// `TS_InSTA` and `TS_InMTA`.
fn apartment(state: u32) -> Option<&'static str> {
    match state & 0xC000 {
        0x4000 => Some("STA"),
        0x8000 => Some("MTA"),
        _ => None,
    }
}

/// What a thread of the thread pool does, in a word and in SOS's words.
fn pool(t: &ClrThread) -> Option<(&'static str, &'static str)> {
    if t.state & state::THREAD_POOL_WORKER != 0 {
        Some(("Worker", "(Threadpool Worker) "))
    } else if t.state & 0x0800_0000 != 0 {
        Some(("CompletionPort", "(Threadpool Completion Port) "))
    } else {
        None
    }
}

fn remarks(t: &ClrThread, exception: Option<&str>, name: &str) -> String {
    let mut text = String::new();
    if t.finalizer {
        text.push_str("(Finalizer) ");
    }
    text.push_str(pool(t).map_or("", |p| p.1));
    if let Some(exception) = exception {
        text.push_str(&format!("{exception} {:0w$x} ", t.exception, w = digits()));
    }
    if t.nested_exceptions() != 0 {
        text.push_str("(nested exceptions) ");
    }
    if !name.is_empty() {
        text.push_str(&format!("\"{name}\""));
    }
    text.truncate(text.trim_end().len());
    text
}

/// The bits of `Thread::ThreadState` (dotnet/runtime `src/coreclr/vm/threads.h`), lowest first.
const STATES: [&str; 32] = [
    "Thread Abort Requested",
    "GC Suspend Pending",
    "User Suspend Pending",
    "Debug Suspend Pending",
    "GC On Transitions",
    "Legal to Join",
    "Yield Requested",
    "Hijacked by the GC",
    "Blocking GC for Stack Overflow",
    "Background",
    "Unstarted",
    "Dead",
    "CLR Owns",
    "CoInitialized",
    "In Single Threaded Apartment",
    "In Multi Threaded Apartment",
    "Reported Dead",
    "Fully initialized",
    "Task Reset",
    "Sync Suspended",
    "Debug Will Sync",
    "Stack Crawl Needed",
    "Suspend Unstarted",
    "Aborted",
    "Thread Pool Worker Thread",
    "Interruptible",
    "Interrupted",
    "Completion Port Thread",
    "Abort Initiated",
    "Finalized",
    "Failed to Start",
    "Detached",
];

fn threadstate(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let state = args.number("STATE").unwrap_or(0);
    for (bit, name) in STATES.iter().enumerate() {
        if state >> bit & 1 != 0 {
            let cells = [Cell::Hex(1 << bit), Cell::text(*name)];
            ctx.out.row_as(&BITS, &cells, format!("    {name}"))?;
        }
    }
    if state as u32 == 0 {
        ctx.out.note("    No thread states for '0'")?;
    }
    Ok(Outcome::Complete)
}
