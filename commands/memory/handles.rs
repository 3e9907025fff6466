//! `!handle` and `!runaway`: what only some minidumps record.

use anyhow::{Result, bail};
use rustc_hash::FxHashMap;

use crate::dump::{DumpKind, Thread};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!handle`.
pub const HANDLE: Command = Command {
    name: "handle",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "handles of the operating system, counted by type",
    help: "Lists the handles the dump records with their types, then how many there are of each type. With HANDLE only that \
           one (0 for all); with TYPE only those of that type, as in !handle 0 f Event. With a bit of FLAGS above 0 the \
           names too. Only minidumps written with handle data have them (procdump -ma).",
    args: &[
        Arg::pos("HANDLE", Kind::Address, "one handle, 0 for all"),
        Arg::pos("FLAGS", Kind::Address, "0 types alone, f everything"),
        Arg::pos("TYPE", Kind::Text, "only this type"),
    ],
    examples: &[Example { line: "!handle", what: "how many handles of each type" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("handles", "handles listed", Type::Count)]).and(&[&HANDLES, &COUNTS]),
    run: handle,
};

const HANDLES: Table = Table::new(
    "handles",
    &[
        Col::right("Handle", "handle", 16).of(Type::Hex),
        Col::left("Type", "type", 20),
        Col::left("Name", "name", 0).of(Type::Given),
    ],
);
const COUNTS: Table =
    Table::new("types", &[Col::left("Type", "type", 20), Col::right("Count", "count", 8).of(Type::Count)]);

fn handle(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    if dump.handles.is_empty() {
        let why = match dump.kind {
            DumpKind::Minidump { .. } => {
                "the dump has no handle data; procdump -ma and MiniDumpWithHandleData write it"
            }
            DumpKind::ElfCore { .. } => "a core records no open files",
        };
        ctx.out.note(why)?;
        return Ok(Outcome::Empty);
    }
    let one = args.number("HANDLE").filter(|&h| h != 0);
    let wanted = args.text("TYPE");
    let chosen: Vec<_> = dump
        .handles
        .iter()
        .filter(|h| one.is_none_or(|v| h.value == v))
        .filter(|h| wanted.is_none_or(|t| h.type_name.eq_ignore_ascii_case(t)))
        .collect();
    if let (Some(v), true) = (one, chosen.is_empty()) {
        bail!("no handle {v:x}; !handle lists them");
    }
    // As native debuggers have it: names only when something is asked of them.
    let names = one.is_some() || args.number("FLAGS").is_some_and(|f| f > 0);
    ctx.out.open(&HANDLES)?;
    let mut counts = FxHashMap::<&str, u64>::default();
    for h in &chosen {
        *counts.entry(h.type_name.as_str()).or_default() += 1;
        let name = Cell::maybe(h.object_name.as_deref());
        let name = if names { name } else { Cell::shown("", name) };
        let ty = Some(h.type_name.as_str()).filter(|t| !t.is_empty());
        ctx.out.row(&[Cell::Hex(h.value), Cell::maybe(ty), name])?;
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let count = chosen.len();
    ctx.out.fact("handles", Cell::Num(count as u64), format!("{count} Handles"))?;
    let ty = |t| if str::is_empty(t) { Cell::shown("None", Cell::None) } else { Cell::text(t) };
    ctx.out.fill(&COUNTS, counts.iter().map(|&(t, n)| [ty(t), Cell::Num(n)]))?;
    Ok(if chosen.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// `!runaway`.
pub const RUNAWAY: Command = Command {
    name: "runaway",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Memory,
    summary: "the time each thread used, the busiest first",
    help: "FLAGS adds up: 1 time in user mode (the default), 2 in the kernel, 4 since the thread was created. Minidumps record \
           it when written with thread information, cores when written by the kernel.",
    args: &[Arg::pos("FLAGS", Kind::Address, "1 user, 2 kernel, 4 elapsed, 7 all")],
    examples: &[Example { line: "!runaway 7", what: "all times of all threads" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&TIMES]),
    run: runaway,
};

const TIMES: Table = Table::new(
    "times",
    &[
        Col::data("mode", Type::Text).titled("which time: user, kernel or elapsed"),
        Col::right("Thread", "number", 10).of(Type::Number),
        Col::data("os_id", Type::Hex).titled("operating system id of the thread"),
        Col::right("Time", "time", 24).of(Type::Number).unit("ms"),
        Col::right("", "name", 0).of(Type::Given),
    ],
);

fn runaway(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    if dump.threads.iter().all(|t| t.info.is_none()) {
        let why = match dump.kind {
            DumpKind::Minidump { .. } => {
                "the dump has no thread information; procdump -ma and MiniDumpWithThreadInfo write it"
            }
            DumpKind::ElfCore { .. } => "this core does not record what time its threads used; those of the kernel do",
        };
        ctx.out.note(why)?;
        return Ok(Outcome::Empty);
    }
    let flags = args.number("FLAGS").unwrap_or(1);
    let ended = dump.process.dump_time.unwrap_or(0);
    let elapsed =
        |t: &Thread| t.info.and_then(|i| i.create_time).map(|c| ended.saturating_sub(c).saturating_mul(10_000_000));
    type Time<'t> = &'t dyn Fn(&Thread) -> Option<u64>;
    let kinds: [(u64, &'static str, &str, Time<'_>); 3] = [
        (1, "user", " User Mode Time", &|t| t.info.map(|i| i.user_time)),
        (2, "kernel", " Kernel Mode Time", &|t| t.info.map(|i| i.kernel_time)),
        (4, "elapsed", " Elapsed Time", &elapsed),
    ];
    for (_, mode, title, time) in kinds.iter().filter(|k| flags & k.0 != 0) {
        let mut times: Vec<(usize, &Thread, u64)> =
            dump.threads.iter().enumerate().filter_map(|(i, t)| Some((i, t, time(t)?))).collect();
        times.sort_by_key(|t| (std::cmp::Reverse(t.2), t.0));
        ctx.out.note(*title)?;
        ctx.out.open(&TIMES)?;
        for (i, t, v) in times {
            ctx.out.row(&[
                Cell::text(*mode),
                Cell::shown(format!("{i}:{:x}", t.os_id), Cell::Num(i as u64)),
                Cell::Hex(t.os_id),
                Cell::shown(span(v), Cell::Float(v as f64 / 10_000.0)),
                Cell::maybe(t.name.as_deref()),
            ])?;
        }
    }
    Ok(Outcome::Complete)
}

/// `0 days 0:00:01.234` of units of 100 ns.
fn span(units: u64) -> String {
    let (seconds, ms) = (units / 10_000_000, units / 10_000 % 1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!("{days} days {}:{:02}:{:02}.{ms:03}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(span(864_012_340_000), "1 days 0:00:01.234");
        assert_eq!(span(0), "0 days 0:00:00.000");
    }
}
