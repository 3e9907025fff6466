//! `!threadpool`: the portable thread pool.

use anyhow::Result;

use super::threadpoolqueue;
use crate::clr::Clr;
use crate::clr::runtime::threads::state;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!threadpool`.
pub const THREADPOOL: Command = Command {
    name: "threadpool",
    prefix: Prefix::Bang,
    aliases: &["tp"],
    group: Group::Threads,
    summary: "show the thread pool: workers, limits, processor use",
    help: "Reads the pool the core library keeps in managed code (5.0 and later). Workers that run are those that process \
           a work item. -wi adds the work items that no thread has begun, as !threadpoolqueue lists them; -hc adds what the \
           pool decided on the number of its threads and why, the latest last: milliseconds before the latest, the reason, \
           how many threads it then wanted, and the throughput (completed items a second) measured over so many samples.",
    args: &[
        Arg::flag("wi", "the work items that wait for a thread too"),
        Arg::flag("hc", "the log of the number of threads too").or(&["ti"]),
    ],
    examples: &[
        Example { line: "!threadpool", what: "the state of the pool" },
        Example { line: "!threadpool -wi -hc", what: "what waits for a thread, and why there are so many threads" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("cpu_utilization", "use of the processors as the pool measured it last", Type::Share),
        Fact::new("workers", "worker threads", Type::Count),
        Fact::new("running", "those that process a work item", Type::Count),
        Fact::new("idle", "those that wait for work", Type::Count),
        Fact::new("min_limit", "fewest workers the pool is to have", Type::Count),
        Fact::new("max_limit", "most workers it may have", Type::Count),
        Fact::new(
            "marked_workers",
            "threads marked as workers, where the pool's own counters are not known",
            Type::Count,
        ),
    ])
    .and(&[&LOG])
    .with(&[&threadpoolqueue::RETURNS]),
    run,
};

/// The pool's decisions. Text has a line each.
const LOG: Table = Table::new(
    "hill_climbing",
    &[
        Col::right("Time", "milliseconds", 12)
            .of(Type::Number)
            .unit("ms")
            .titled("before the latest decision, so 0 or less"),
        Col::left("Transition", "transition", 20),
        Col::right("#New Threads", "threads", 12).of(Type::Count),
        Col::right("#Samples", "samples", 8).of(Type::Count),
        Col::right("Throughput", "throughput", 10).of(Type::Number),
    ],
);

/// `HillClimbing.StateOrTransition` of dotnet/runtime v8.0
/// `System.Private.CoreLib/src/System/Threading/PortableThreadPool.HillClimbing.cs`.
const TRANSITIONS: [&str; 9] = [
    "Warmup",
    "Initializing",
    "RandomMove",
    "ClimbingMove",
    "ChangePoint",
    "Stabilizing",
    "Starvation",
    "ThreadTimedOut",
    "CooperativeBlocking",
];

/// Prints the log; `false` where there is none.
fn log(session: &Session, clr: &Clr, out: &mut Out) -> Result<bool> {
    let class = "System.Threading.PortableThreadPool+HillClimbing";
    let Some(climber) = session.static_value(class, &["ThreadPoolHillClimber"]) else { return Ok(false) };
    let Some(entries) = climber.object(&["_log"]).and_then(|l| l.elements()) else { return Ok(false) };
    let word = |name: &'static str| climber.int(&[name]).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let (start, size) = (word("_logStart"), word("_logSize").min(entries.count));
    let all: Vec<_> = (0..size).filter_map(|i| entries.inner((start.wrapping_add(i)) % entries.count.max(1))).collect();
    let time = |e: &Value<'_>| e.int(&["tickCount"]).unwrap_or(0);
    let latest = all.last().map_or(0, time);
    out.note("Hill Climbing Log:")?;
    out.open(&LOG)?;
    for e in &all {
        let at = usize::try_from(e.int(&["stateOrTransition"]).unwrap_or(-1)).ok();
        let mean = e.field(&["lastHistoryMean"]).and_then(|(_, at)| clr.space().u32(at)).map(f32::from_bits);
        out.row(&[
            Cell::Int(time(e).wrapping_sub(latest)),
            Cell::text(at.and_then(|i| TRANSITIONS.get(i)).copied().unwrap_or("?")),
            Cell::Num(e.int(&["newControlSetting"]).unwrap_or(0).unsigned_abs()),
            Cell::Num(e.int(&["lastHistoryCount"]).unwrap_or(0).unsigned_abs()),
            mean.filter(|m| m.is_finite()).map_or(Cell::None, |m| Cell::Float(f64::from(m))),
        ])?;
    }
    out.note("")?;
    Ok(true)
}

/// Address and type of a field of the value at `base` (behind the header of an object).
fn field(session: &Session, clr: &Clr, mt: u64, base: u64, name: &str) -> Option<(u64, Option<u64>)> {
    let fields = clr.fields(mt);
    let f = fields.instance.iter().find(|f| &*f.name == name)?;
    Some((base.checked_add(f.offset())?, session.field_type(f)))
}

const POOL: &str = "System.Threading.PortableThreadPool";

/// Address of the pool's first field and its type.
fn pool(session: &Session, clr: &Clr) -> Result<Option<(u64, u64)>> {
    let Some(&mt) = session.find_types(POOL)?.first() else { return Ok(None) };
    let held = || {
        let fields = clr.fields(mt);
        let f = fields.statics.iter().find(|f| &*f.name == "ThreadPoolInstance")?;
        clr.space().ptr(session.static_address(mt, f)?)
    };
    let object = match clr.ahead() {
        // What holds it has no name there, but there is one alone.
        Some(_) => threadpoolqueue::instances(session, POOL)?.0.first().copied(),
        None => held(),
    };
    let data = object.filter(|&o| o != 0).and_then(|o| o.checked_add(clr.header()));
    Ok(data.map(|data| (data, mt)))
}

/// What can be said where the pool's own counters cannot be read: through 3.1 they are in native code.
fn without_pool(ctx: &mut Ctx<'_>, session: &Session, clr: &Clr) -> Result<Outcome> {
    if clr.ahead().is_some() {
        ctx.out.note("No portable thread pool was used in this process.")?;
        return Ok(Outcome::Empty);
    }
    let workers =
        clr.threads().items.iter().filter(|t| !t.is_dead() && t.state & state::THREAD_POOL_WORKER != 0).count();
    if !session.find_types("System.Threading.PortableThreadPool")?.is_empty() || workers == 0 {
        ctx.out.note("No portable thread pool was used in this process.")?;
        return Ok(Outcome::Empty);
    }
    let line = format!("Threads marked as workers: {workers}");
    ctx.out.fact("marked_workers", Cell::Num(workers as u64), line)?;
    Ok(Outcome::Partial(
        "the pool's own counters are in native code, or its class has no name here; !threadpoolqueue lists queued work"
            .into(),
    ))
}

/// Whether counters are those of a pool: workers that run and all of them, fewest and most.
fn sane(workers: Option<(u64, u64)>, limits: Option<(u64, u64)>) -> bool {
    workers.is_some_and(|(running, total)| running <= total) && limits.is_some_and(|(low, high)| 0 < low && low <= high)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let Some((data, mt)) = pool(session, clr)? else { return without_pool(ctx, session, clr) };
    let at = |name: &str| field(session, clr, mt, data, name);
    let space = clr.space();
    // The counts share one 64-bit word: workers that process work, workers that exist, their goal; 16 bits each.
    let counts = at("_separated").and_then(|(a, ty)| field(session, clr, ty?, a, "counts"));
    // Structs that NativeAOT knows no type of stand with their fields.
    let counts = counts.or_else(|| ["_separated.counts", "_separated.counts._data"].into_iter().find_map(at));
    let counts = counts.and_then(|(a, _)| space.u64(a));
    let short = |name: &str| at(name).and_then(|(a, _)| space.u16(a));
    let cpu = at("_cpuUtilization").and_then(|(a, _)| space.u32(a));
    let running = counts.map(|c| c & 0xFFFF);
    let total = counts.map(|c| c >> 16 & 0xFFFF);
    let idle = total.zip(running).map(|(t, r)| t.saturating_sub(r));
    let (low, high) = (short("_minThreads").map(u64::from), short("_maxThreads").map(u64::from));
    if clr.ahead().is_some() && !sane(running.zip(total), low.zip(high)) {
        ctx.out.note("The counters of the thread pool are not known: NativeAOT keeps no metadata of its fields, and those of other versions do not fit.")?;
        return Ok(Outcome::Partial("the fields of the thread pool are not known".into()));
    }
    ctx.out.note("Using the Portable thread pool.")?;
    ctx.out.note("")?;
    for (key, label, n, unit) in [
        ("cpu_utilization", "CPU utilization:", cpu.map(u64::from), "%"),
        ("workers", "Workers Total:", total, ""),
        ("running", "Workers Running:", running, ""),
        ("idle", "Workers Idle:", idle, ""),
        ("min_limit", "Worker Min Limit:", low, ""),
        ("max_limit", "Worker Max Limit:", high, ""),
    ] {
        let shown = n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        ctx.out.fact(key, n.map_or(Cell::None, Cell::Num), format!("{label:<17} {shown}{unit}"))?;
    }
    ctx.out.note("")?;
    let logged = !args.has("hc") || log(session, clr, ctx.out)?;
    if args.has("wi") {
        threadpoolqueue::show(ctx)?;
    }
    if !logged {
        return Ok(Outcome::Partial(match clr.ahead() {
            Some(_) => {
                "where the pool's log of its decisions lies is not known: NativeAOT keeps no metadata of it".into()
            }
            None => "the pool's log of its decisions is not there".into(),
        }));
    }
    let missing = counts.is_none() || low.is_none() || high.is_none() || cpu.is_none();
    Ok(if missing { Outcome::Partial("some of the pool's fields are not there".into()) } else { Outcome::Complete })
}
