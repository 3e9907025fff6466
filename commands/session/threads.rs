//! `~`: the threads of the dump.

use anyhow::{Result, bail};

use crate::commands::memory::{symbol, tick, value};
use crate::dump::{Dump, Thread};
use crate::session::Session;
use crate::shell::parse::each;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns, Table, Type,
};

const THREADS: Table = Table::new(
    "threads",
    &[
        Col::right("the current thread", "current", 1).of(Type::Bool),
        Col::right("number of the thread", "index", 3).of(Type::Number),
        Col::left("operating system id", "os_id", 22).of(Type::Hex),
        Col::left("how often it is suspended", "suspend_count", 11).of(Type::Count),
        Col::left("its TEB", "teb", 22).of(Type::Address),
        Col::left("its name", "name", 0).of(Type::Content),
        Col::data("event", Type::Bool).titled("thread of the event"),
        Col::data("start_address", Type::Address).titled("where it began"),
        Col::data("start_symbol", Type::Text).titled("module that lies in, and the distance from its base"),
    ],
);

/// `~`.
pub const THREAD: Command = Command {
    name: "~",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Session,
    summary: "list threads, switch the current one, run a command with each",
    help: "~ lists the threads of the dump (. the current one, # the one of the event) with their names, those a .NET program \
           gave them before those of the operating system. ~Ns makes thread N current, ~~[ID]s \
           the one with that id of the operating system, ~#s the one of the event. ~*e COMMANDS runs the rest of the line \
           with each thread current, ~Ne with one; the e may be left out before a native command: ~*r. Thread numbers are \
           decimal, ids hexadecimal or expressions. When a command cannot answer for one thread the next has its turn.",
    args: &[Arg::pos("SPEC", Kind::Each, "nothing or * to list, Ns to switch, *e COMMANDS")],
    examples: &[
        Example { line: "~0s", what: "make thread 0 current" },
        Example { line: "~*e ? @$tid", what: "a line for every thread" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&THREADS]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    let spec = args.text("SPEC").unwrap_or("").trim().to_owned();
    if let Some((which, line)) = each(&spec) {
        let threads = select(ctx, dump, which)?;
        // The debuggers say whose stack it is, and nothing behind `*e`.
        let heads = line.starts_with(['k', 'K']) && spec.strip_prefix('*').is_some_and(|r| r.trim_start() == line);
        ctx.request = Some(Request::Each { threads, line: line.to_owned(), heads });
        return Ok(Outcome::Complete);
    }
    if let Some(which) = spec.strip_suffix('s') {
        let chosen = select(ctx, dump, which.trim())?;
        let [index] = chosen.as_slice() else { bail!("only one thread can be current: ~Ns") };
        ctx.request = Some(Request::Thread(*index));
        return Ok(Outcome::Complete);
    }
    let chosen = select(ctx, dump, if spec.is_empty() { "*" } else { &spec })?;
    list(ctx, session, &chosen)?;
    // One thread alone, with what else is known of it.
    if let ([i], true) = (chosen.as_slice(), !matches!(spec.as_str(), "" | "*"))
        && let Some(start) = dump.threads.get(*i).and_then(start)
    {
        let place = symbol(dump, start).map(|s| format!("{s} ")).unwrap_or_default();
        ctx.out.note(format!("      Start: {place}({})", tick(start, dump.arch.pointer_size())))?;
    }
    Ok(if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// Indices of the threads a selection means.
fn select(ctx: &Ctx<'_>, dump: &Dump, which: &str) -> Result<Vec<usize>> {
    let count = dump.threads.len();
    let by_id = which.strip_prefix("~[").or_else(|| which.strip_prefix('[')).and_then(|r| r.strip_suffix(']'));
    if let Some(text) = by_id {
        let id = value(ctx, text)?;
        return match dump.threads.iter().position(|t| t.os_id == id) {
            Some(i) => Ok(vec![i]),
            None => bail!("no thread has the id {id:x}; ~ lists the threads"),
        };
    }
    Ok(match which {
        "*" => (0..count).collect(),
        "." | "" => vec![ctx.settings.thread],
        "#" => {
            let id = dump.exception.as_ref().map(|e| e.thread_id);
            let found: Vec<usize> = dump.threads.iter().position(|t| Some(t.os_id) == id).into_iter().collect();
            if found.is_empty() {
                bail!("no thread of an event: the dump records none");
            }
            found
        }
        n => match n.parse::<usize>() {
            Ok(i) if i < count => vec![i],
            Ok(_) => bail!("no thread {n}; there are 0 to {}", count.saturating_sub(1)),
            Err(_) => bail!("expected ~, ~*, ~N, ~Ns, ~., ~#, ~~[ID]s or ~*e COMMANDS"),
        },
    })
}

/// Where a thread began, when the dump knows.
fn start(thread: &Thread) -> Option<u64> {
    thread.info.as_ref().map(|i| i.start_address).filter(|&a| a != 0)
}

fn list(ctx: &mut Ctx<'_>, session: &Session, chosen: &[usize]) -> Result<()> {
    let dump = session.dump();
    let event = dump.exception.as_ref().map(|e| e.thread_id);
    let pid = dump.process.pid.unwrap_or(0);
    ctx.out.open_bare(&THREADS)?;
    for &i in chosen {
        let Some(t) = dump.threads.get(i) else { continue };
        let (current, of_event) = (i == ctx.settings.thread, Some(t.os_id) == event);
        let mark = match (current, of_event) {
            (true, _) => ".",
            (false, true) => "#",
            (false, false) => "",
        };
        let teb = |a| Cell::shown(format!("Teb: {}", tick(a, dump.arch.pointer_size())), Cell::Addr(a));
        let name = |n: &String| Cell::shown(format!("\"{n}\""), Cell::text(n.clone()));
        let start = start(t);
        let place = start.filter(|_| ctx.out.wants_data()).and_then(|a| symbol(dump, a));
        ctx.out.row(&[
            Cell::shown(mark, Cell::Bool(current)),
            Cell::Num(i as u64),
            Cell::shown(format!(" Id: {pid:x}.{:x}", t.os_id), Cell::Hex(t.os_id)),
            Cell::As(format!("Suspend: {}", t.suspend_count).into(), t.suspend_count.into()),
            t.teb.map_or(Cell::None, teb),
            session.name_of_thread(t).as_ref().map_or(Cell::None, name),
            Cell::Bool(of_event),
            start.map_or(Cell::None, Cell::Addr),
            Cell::maybe(place),
        ])?;
    }
    Ok(())
}
