//! `!timerinfo`: timers that are set, with what they will call.

use std::collections::BTreeMap;

use anyhow::Result;
use rustc_hash::FxHashSet;

use crate::commands::objects::dumpdelegate::called_method;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Table, Type, digits,
};

/// `!timerinfo`.
pub const TIMERINFO: Command = Command {
    name: "timerinfo",
    prefix: Prefix::Bang,
    aliases: &["ti"],
    group: Group::Threads,
    summary: "list the timers that are set: due time, period, state, callback",
    help: "For each timer in a queue: S or L for the short or long list, its address, the time it is due after it was set, \
           its period, the object handed to the callback with its type, and the method called. Then the same without the \
           timers' addresses, counted. Timers that were stopped or disposed are in no queue and are not listed. -stat counts \
           them by the method called and the type of its state instead.",
    args: &[Arg::flag("stat", "count them by method and type of the state, the most frequent first")],
    examples: &[
        Example { line: "!timerinfo", what: "which timers keep objects alive" },
        Example { line: "!timerinfo -stat", what: "whose timers they are" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("timers", "timers that are set", Type::Count)]).and(&[&TIMERS, &ALIKE, &KINDS]),
    run,
};

const SHORT: Col = Col::data("short", Type::Bool).titled("in the short list (S), not the long one (L)");
const DUE: Col = Col::data("due", Type::Number).unit("ms").titled("when it is due after it was set; nothing for never");
const PERIOD: Col = Col::data("period", Type::Number).unit("ms").titled("its period; nothing without one");
const STATE: Col = Col::data("state", Type::Address).titled("the object handed to the callback");
const STATE_TYPE: Col = Col::data("state_type", Type::TypeName).titled("its type");
const METHOD: Col = Col::data("method", Type::Text).titled("the method called");

const TIMERS: Table = Table::new(
    "timers",
    &[Col::data("timer", Type::Address).titled("the timer"), SHORT, DUE, PERIOD, STATE, STATE_TYPE, METHOD],
);

const ALIKE: Table = Table::new(
    "alike",
    &[Col::data("count", Type::Count).titled("timers alike"), SHORT, DUE, PERIOD, STATE, STATE_TYPE, METHOD],
);

/// With -stat: timers of one callback and type of state.
const KINDS: Table = Table::new(
    "kinds",
    &[
        Col::right("Count", "count", 8).of(Type::Count),
        Col::right("Example", "example", 16).of(Type::Address),
        Col::left("State", "state_type", 40).of(Type::TypeName),
        Col::left("Method", "method", 0),
    ],
);

/// Bound on the timers of one list.
const MAX_TIMERS: usize = 1 << 22;
/// `Timeout.Infinite` as the unsigned value it is kept as.
const NEVER: u64 = 0xFFFF_FFFF;

/// One timer, without its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    short: bool,
    due: u64,
    period: u64,
    state: u64,
    type_name: String,
    method: String,
}

/// `3600000 ms`, or dashes for never.
fn time(ms: u64) -> String {
    if ms == NEVER { "  ------".into() } else { format!("{ms:>8}") }
}

impl Timer {
    fn read(session: &Session, t: &Value<'_>, short: bool) -> Self {
        let number = |names: &[&str]| t.int(names).map_or(NEVER, |n| n as u64 & NEVER);
        let state = t.object(&["_state", "m_state"]);
        let callback = t.pointer(&["_timerCallback", "m_timerCallback"]).filter(|&c| c != 0);
        Self {
            short: t.int(&["_short", "m_short"]).map_or(short, |s| s != 0),
            due: number(&["_dueTime", "m_dueTime"]),
            period: number(&["_period", "m_period"]),
            state: state.map_or(0, |s| s.address()),
            type_name: state.map_or_else(String::new, |s| s.type_name().to_string()),
            method: callback.and_then(|c| called_method(session.clr().ok()?, c)).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        let method = &self.method;
        format!(
            "@{} ms every {} ms | {:0w$X} ({}) -> {method}",
            time(self.due),
            time(self.period),
            self.state,
            self.type_name,
            w = digits()
        )
    }

    /// A row: `first` and what this says.
    fn cells<'c>(&'c self, first: Cell<'c>) -> [Cell<'c>; 7] {
        let time = |ms: u64| if ms == NEVER { Cell::None } else { Cell::Num(ms) };
        let text = |t: &'c str| Cell::maybe(Some(t).filter(|t| !t.is_empty()));
        [
            first,
            Cell::Bool(self.short),
            time(self.due),
            time(self.period),
            Cell::at(self.state),
            text(&self.type_name),
            text(&self.method),
        ]
    }

    fn list(&self) -> &'static str {
        if self.short { "(S)" } else { "(L)" }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let stat = args.has("stat");
    let mut kinds: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let session = ctx.session()?;
    let (clr, walker) = (session.clr()?, session.walker()?);
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| (Vec::new(), rustc_hash::FxHashMap::default()),
        |(found, types): &mut (Vec<u64>, rustc_hash::FxHashMap<u32, bool>), _, o| {
            let is_queue = |mt| &*clr.type_name(mt) == "System.Threading.TimerQueue";
            if *types.entry(o.ty.id).or_insert_with(|| is_queue(o.ty.mt.address)) {
                found.push(o.address);
            }
        },
    )?;
    let mut counts: BTreeMap<Timer, u64> = BTreeMap::new();
    let (mut total, mut seen) = (0u64, FxHashSet::default());
    let mut partial = report.sentence();
    for queue in parts.into_iter().flat_map(|p| p.0).filter_map(|a| session.value(a)) {
        // Before 3.0 there was one list, whose timers are all of one kind.
        for (names, short) in [
            (&["_shortTimers", "m_shortTimers"][..], true),
            (&["_longTimers", "m_longTimers"][..], false),
            (&["_timers", "m_timers"][..], false),
        ] {
            // What a queue of an unknown layout has there is no timer.
            let is_timer = |t: &Value<'_>| t.has(&["_dueTime", "m_dueTime"]);
            let mut at = queue.object(names).filter(is_timer);
            while let Some(t) = at.filter(|t| seen.len() < MAX_TIMERS && seen.insert(t.address())) {
                session.watch.cancel.check()?;
                let timer = Timer::read(session, &t, short);
                at = t.object(&["_next", "m_next"]);
                total += 1;
                if stat {
                    kinds.entry((timer.type_name, timer.method)).or_insert((0, t.address())).0 += 1;
                    continue;
                }
                let text = timer.text().replacen("ms | ", "ms |  ", 1);
                let line = format!("{} 0x{:0w$X} {text}", timer.list(), t.address(), w = digits());
                ctx.out.row_as(&TIMERS, &timer.cells(Cell::Addr(t.address())), line)?;
                *counts.entry(timer).or_default() += 1;
            }
        }
    }
    if seen.len() >= MAX_TIMERS {
        partial.get_or_insert_with(|| format!("only the first {MAX_TIMERS} timers are listed"));
    }
    if stat {
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|k| std::cmp::Reverse(k.1.0));
        ctx.out.open(&KINDS)?;
        for ((state, method), (count, example)) in &kinds {
            let text = |t: &str| Cell::maybe(Some(t.to_owned()).filter(|t| !t.is_empty()));
            ctx.out.row(&[Cell::Num(*count), Cell::Addr(*example), text(state), text(method)])?;
        }
    }
    ctx.out.note("")?;
    ctx.out.fact("timers", Cell::Num(total), format!("   {} timers", thousands(total)))?;
    if !stat {
        ctx.out.facts(&[], "-".repeat(47))?;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (timer, count) in rows {
        let line = format!("{count:>4} | {} {}", timer.list(), timer.text());
        ctx.out.row_as(&ALIKE, &timer.cells(Cell::Num(count)), line)?;
    }
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if total == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}
