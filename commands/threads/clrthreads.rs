//! `!clrthreads` and `!threadstate`.

use anyhow::Result;

use crate::clr::runtime::threads::{self, ClrThread, state};
use crate::clr::{Clr, runtime::domains};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!clrthreads`.
pub const CLRTHREADS: Command = Command {
    name: "clrthreads",
    prefix: Prefix::Bang,
    aliases: &["threads"],
    group: Group::Threads,
    summary: "list the managed threads",
    help: "DBG is the number of the thread in the dump (~N s makes it current), XXXX when it has ended; ID the managed \
           id, OSID the operating system's. State is a bit mask for !threadstate. Lock Count is -00001 where it is not \
           known (the runtime keeps none since 9.0); -locks counts them: monitors and System.Threading.Locks the thread \
           holds, each once, which takes a walk over the heap. The last column tells special threads and the exception \
           last thrown.",
    args: &[
        Arg::flag("live", "leave out threads that have ended"),
        Arg::flag("special", "accepted; special threads are marked in the last column"),
        Arg::flag("locks", "count the locks each thread holds"),
    ],
    examples: &[Example { line: "!clrthreads", what: "all managed threads" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
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
    returns: Returns::NOTHING,
    run: threadstate,
};

const COLUMNS: &[Col] = &[
    Col::right("DBG", "dbg", 4),
    Col::right("ID", "id", 4),
    Col::right("OSID", "osId", 8),
    Col::left("ThreadOBJ", "thread", 16),
    Col::right("State", "state", 8),
    Col::left("GC Mode", "gcMode", 11),
    Col::left("GC Alloc Context", "allocContext", 33),
    Col::left("Domain", "domain", 16),
    Col::left("Lock Count", "lockCount", 5),
    Col::left("Apt", "apartment", 3),
    Col::left("Exception", "exception", 0),
];
const LOCK_LINE: &str = "                                                                                                            Lock  ";
const HEADER: &str = " DBG   ID     OSID ThreadOBJ           State GC Mode     GC Alloc Context                  Domain           Count Apt Exception";

fn clrthreads(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let list = clr.threads();
    let counts = threads::counts(clr)?.unwrap_or_default();
    for (label, n) in [
        ("ThreadCount:", counts.threads),
        ("UnstartedThread:", counts.unstarted),
        ("BackgroundThread:", counts.background),
        ("PendingThread:", counts.pending),
        ("DeadThread:", counts.dead),
    ] {
        ctx.out.line(format!("{label:<17} {n}"))?;
    }
    ctx.out.line("Hosted Runtime:   no")?;
    if ctx.out.format() == Format::Text {
        ctx.out.line(LOCK_LINE)?;
        ctx.out.line(HEADER)?;
    }
    ctx.out.table("threads", COLUMNS, false)?;
    let (held, unknown) =
        if args.has("locks") { session.locks_held().map(|h| (Some(h.0), h.1))? } else { (None, None) };
    for t in list.items.iter().filter(|t| !(args.has("live") && t.is_dead())) {
        let locks = match &held {
            Some(counts) => format!("{:x}", counts.get(&t.address).copied().unwrap_or(0)),
            None => lock_count(clr, t),
        };
        row(session, clr, ctx.out, t, locks)?;
    }
    Ok(list.partial.clone().or(unknown).map_or(Outcome::Complete, Outcome::Partial))
}

/// Number of a thread in the dump by its operating system id.
pub fn dump_index(session: &Session, os_id: u64) -> Option<usize> {
    session.dump().threads.iter().position(|t| t.os_id == os_id).filter(|_| os_id != 0)
}

fn row(session: &Session, clr: &Clr, out: &mut Out, t: &ClrThread, locks: String) -> Result<()> {
    let domain = if t.domain != 0 { t.domain } else { domains::app_domain(clr).unwrap_or(0) };
    out.row(&[
        Cell::text(dump_index(session, t.os_id).map_or_else(|| "XXXX".into(), |i| i.to_string())),
        Cell::Num(u64::from(t.managed_id)),
        Cell::Hex(t.os_id),
        Cell::text(format!("{:0w$X}", t.address, w = digits())),
        Cell::Hex(u64::from(t.state)),
        Cell::text(if t.preemptive { "Preemptive" } else { "Cooperative" }),
        Cell::text(format!("{:0w$X}:{:0w$X}", t.alloc_context.0, t.alloc_context.1, w = digits())),
        Cell::text(format!("{domain:0w$X}", w = digits())),
        Cell::text(locks),
        Cell::text(apartment(t.state)),
        Cell::text(remarks(clr, t)),
    ])?;
    Ok(())
}

/// How many monitors the thread holds, in hexadecimal, where the runtime counts them.
fn lock_count(clr: &Clr, t: &ClrThread) -> String {
    let at = clr.layout().try_offset("Thread", "LockCount").and_then(|o| t.address.checked_add(o));
    at.and_then(|a| clr.space().u32(a)).map_or_else(|| "-00001".into(), |n| format!("{n:x}"))
}

/// `TS_InSTA` and `TS_InMTA`.
fn apartment(state: u32) -> &'static str {
    match state & 0xC000 {
        0x4000 => "STA",
        0x8000 => "MTA",
        _ => "Ukn",
    }
}

fn remarks(clr: &Clr, t: &ClrThread) -> String {
    let mut text = String::new();
    if t.finalizer {
        text.push_str("(Finalizer) ");
    }
    if t.state & state::THREAD_POOL_WORKER != 0 {
        text.push_str("(Threadpool Worker) ");
    } else if t.state & 0x0800_0000 != 0 {
        text.push_str("(Threadpool Completion Port) ");
    }
    if t.exception != 0
        && let Some(mt) = clr.object_type(t.exception)
    {
        text.push_str(&format!("{} {:0w$x}", clr.type_name_long(mt), t.exception, w = digits()));
    }
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
            ctx.out.line(format!("    {name}"))?;
        }
    }
    if state as u32 == 0 {
        ctx.out.line("    No thread states for '0'")?;
    }
    Ok(Outcome::Complete)
}
