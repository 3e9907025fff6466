//! `!waits`: who waits for what, held by whom, and what that means.

pub mod show;
pub mod verdicts;
pub mod work;

use anyhow::Result;

use self::show::View;
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Type};

/// `!waits`.
pub const WAITS: Command = Command {
    name: "waits",
    prefix: Prefix::Bang,
    aliases: &["locks", "dlk"],
    group: Group::Threads,
    summary: "who waits for what, held by whom, and what is wrong: deadlocks, convoys, starvation",
    help: "First the verdicts with their evidence, then each thread that waits with what it waits for and who holds it, then \
           what is held.\n\n\
           deadlock         threads wait for one another in a ring: over monitors, Locks, mutexes, reader-writer locks, \
           Thread.Join, initializers of classes, and tasks that threads of the ring run\n\
           async deadlock   a thread blocks on a task whose rest was given to the SynchronizationContext of that thread\n\
           starvation       all workers of the thread pool block on tasks while work is queued\n\
           stuck finalizer  the finalizer thread waits\n\
           convoy           five threads or more wait for what one thread holds\n\n\
           What a thread waits for is read from the frames of the call by which it waits, and from records of the runtime \
           and the core library; where neither tells, the object is left out. Of a task `comes down to` is what has to \
           happen first. Mutexes have owners on Linux; on Windows the system alone knows them. -all adds the threads that \
           sleep or wait for work.",
    args: &[Arg::flag("all", "threads that sleep or wait for work too")],
    examples: &[
        Example { line: "!waits", what: "what hangs, and why" },
        Example { line: "!waits -all", what: "those that sleep or wait for work too" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("verdicts", "kinds of trouble found", Type::Count),
        Fact::new("blocked", "threads that wait for somebody", Type::Count),
        Fact::new("resting", "threads that sleep or wait for work", Type::Count),
    ])
    .and(show::TABLES),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (waits, judged) = (session.all_waits()?, verdicts::judge(session)?);
    let view = View::new(session, waits, &judged)?;
    let number = judged.verdicts.len() as u64;
    if number == 0 {
        ctx.out.fact("verdicts", Cell::Num(0), "Nothing wrong found: no ring, no convoy, no starvation.")?;
    } else {
        ctx.out.datum("verdicts", &Cell::Num(number));
    }
    for (i, verdict) in judged.verdicts.iter().enumerate() {
        view.verdict(ctx.out, i as u64 + 1, verdict)?;
    }
    view.waiting(ctx.out, args.has("all"))?;
    view.held(ctx.out)?;
    let (blocked, all) = (waits.blocked().count() as u64, waits.waiting.len() as u64);
    let resting = all - blocked;
    ctx.out.note("")?;
    ctx.out.facts(
        &[("blocked", Cell::Num(blocked)), ("resting", Cell::Num(resting))],
        format!("Threads that wait: {blocked}; that sleep or wait for work: {resting}"),
    )?;
    Ok(judged.partial.map_or(Outcome::Complete, Outcome::Partial))
}
