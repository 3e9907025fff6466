//! `!threadpoolqueue`: work the thread pool has not begun.

use std::collections::HashMap;

use anyhow::Result;
use rustc_hash::FxHashSet;

use crate::commands::objects::collections::parts::Entry;
use crate::commands::objects::collections::read::Shape;
use crate::commands::objects::dumpdelegate::called_method;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{
    Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Table, Type, digits,
};

/// `!threadpoolqueue`.
pub const THREADPOOLQUEUE: Command = Command {
    name: "threadpoolqueue",
    prefix: Prefix::Bang,
    aliases: &["tpq"],
    group: Group::Threads,
    summary: "list the work items the thread pool has not begun",
    help: "The items in the thread pool's global queues, then those in the local queues of its threads: address, whether it \
           is a task or another work item, and the method it will call; then how often each method is queued. Long queues \
           mean that the pool's threads are blocked or too few.",
    args: &[],
    examples: &[Example { line: "!threadpoolqueue", what: "what is waiting for a thread" }],
    needs: Needs::Clr,
    returns: RETURNS,
    run: |ctx, _| show(ctx),
};

/// What the list of work items returns.
pub const RETURNS: Returns =
    Returns::facts(&[Fact::new("work_items", "work items queued", Type::Count)]).and(&[&QUEUES, &ITEMS, &METHODS]);

const KIND: Col = Col::data("kind", Type::Text).titled("Task, or Work for any other work item");
const METHOD: Col = Col::data("method", Type::Text).titled("the method or state machine it will run, else its type");

const QUEUES: Table = Table::new(
    "queues",
    &[
        Col::data("queue", Type::Text).titled("global, or local for those of the pool's threads"),
        Col::data("items", Type::Count).titled("work items in it"),
    ],
);

const ITEMS: Table = Table::new(
    "items",
    &[
        Col::data("queue", Type::Text).titled("the queue it is in"),
        Col::data("item", Type::Address).titled("the work item"),
        KIND,
        METHOD,
    ],
)
.under("queues", "queue");

const METHODS: Table = Table::new("methods", &[Col::data("count", Type::Count).titled("work items"), KIND, METHOD]);

/// The work item of an entry; `None` for a place of the ring that is empty.
fn item_of(session: &Session, entry: &Entry) -> Option<u64> {
    let Entry::Item(place) = entry else { return None };
    session.dump().space.ptr(place.at).filter(|&o| o != 0)
}

/// Kind of a work item and the method it will call.
fn describe(session: &Session, address: u64) -> (&'static str, String) {
    /// Hops from a work item to its delegate: wrappers of the library nest twice. One that nests deeper is listed by its type.
    const MAX_HOPS: usize = 8;
    let Some(item) = session.value(address) else { return ("Work", "?".into()) };
    let kind = if item.is_a("System.Threading.Tasks.Task") { "Task" } else { "Work" };
    let mut at = item;
    for _ in 0..MAX_HOPS {
        if let Some(machine) = at.object(&["StateMachine"]).or_else(|| at.inner(&["StateMachine"])) {
            return (kind, machine.type_name().to_string());
        }
        let delegate = at.pointer(&["m_action", "_callback", "callback", "_action"]).filter(|&d| d != 0);
        if let Some(method) = delegate.and_then(|d| called_method(session.clr().ok()?, d)) {
            return (kind, method);
        }
        match at.object(&["m_task", "_state", "state", "m_stateObject"]) {
            Some(next) if delegate.is_none() => at = next,
            _ => break,
        }
    }
    (kind, item.type_name().to_string())
}

/// All objects whose class is `name`.
pub fn instances(session: &Session, name: &str) -> Result<(Vec<u64>, Option<String>)> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| (Vec::new(), rustc_hash::FxHashMap::default()),
        |(found, types): &mut (Vec<u64>, rustc_hash::FxHashMap<u32, bool>), _, o| {
            if *types.entry(o.ty.id).or_insert_with(|| &*clr.type_name(o.ty.mt.address) == name) {
                found.push(o.address);
            }
        },
    )?;
    Ok((parts.into_iter().flat_map(|p| p.0).collect(), report.sentence()))
}

fn global(
    session: &Session,
    pool: &Value<'_>,
    seen: &mut FxHashSet<u64>,
    queue: &mut Vec<u64>,
) -> Result<Option<String>> {
    let mut partial = None;
    let mut each = |q: Option<Value<'_>>| -> Result<()> {
        let Some(q) = q.filter(|q| seen.insert(q.address())) else { return Ok(()) };
        if Shape::of(&q) == Some(Shape::ConcurrentQueue) {
            let found = Shape::ConcurrentQueue.each(session, &q, &mut |e| {
                queue.extend(item_of(session, &e));
                Ok(())
            })?;
            partial = partial.take().or(found);
        }
        Ok(())
    };
    for name in ["highPriorityWorkItems", "workItems", "lowPriorityWorkItems"] {
        each(pool.object(&[name]))?;
    }
    // Since 7.0 work is spread over further queues on machines with many processors.
    if let Some(more) = pool.object(&["_assignableWorkItemQueues"]).and_then(|a| a.elements()) {
        for i in 0..more.count {
            each(more.object(i))?;
        }
    }
    Ok(partial)
}

/// The ring of a thread's own queue.
fn local(q: &Value<'_>, queue: &mut Vec<u64>) {
    let Some(items) = q.object(&["m_array"]).and_then(|a| a.elements()) else { return };
    let (head, tail) = (q.int(&["m_headIndex"]).unwrap_or(0), q.int(&["m_tailIndex"]).unwrap_or(0));
    let mask = q.int(&["m_mask"]).unwrap_or(0) as u64;
    for i in 0..(tail.wrapping_sub(head).max(0) as u64).min(items.count) {
        let at = (head as u64).wrapping_add(i) & mask;
        if let Some(o) = items.object(at) {
            queue.push(o.address());
        }
    }
}

/// Work items that no thread has begun.
#[derive(Debug, Default)]
pub struct Queued {
    /// Addresses of those in the queues of all threads.
    pub global: Vec<u64>,
    /// Of those in queues of threads.
    pub local: Vec<u64>,
    /// Whether the pool has a queue at all.
    pub pool: bool,
    /// Why some may be missing.
    pub partial: Option<String>,
}

/// Why nothing is said of a queue whose fields nothing names, as in programs compiled ahead of time without symbols.
const UNKNOWN: &str = "the fields of the thread pool's queues are not known";

/// Reads the queues of the pool.
pub fn queued(session: &Session) -> Result<Queued> {
    let (pools, mut partial) = instances(session, "System.Threading.ThreadPoolWorkQueue")?;
    let (mut global_queue, mut seen) = (Vec::new(), FxHashSet::default());
    let unknown = |known: bool| (!known).then(|| UNKNOWN.to_owned());
    for pool in pools.iter().filter_map(|&a| session.value(a)) {
        partial = partial.or(unknown(pool.has(&["workItems"])));
        let found = global(session, &pool, &mut seen, &mut global_queue)?;
        partial = partial.or(found);
    }
    let mut local_queue = Vec::new();
    let (locals, _) = instances(session, "System.Threading.ThreadPoolWorkQueue+WorkStealingQueue")?;
    for q in locals.iter().filter_map(|&a| session.value(a)) {
        partial = partial.or(unknown(q.has(&["m_array"])));
        local(&q, &mut local_queue);
    }
    Ok(Queued { global: global_queue, local: local_queue, pool: !pools.is_empty(), partial })
}

/// Lists the work items and counts them.
pub fn show(ctx: &mut Ctx<'_>) -> Result<Outcome> {
    let session = ctx.session()?;
    let Queued { global: global_queue, local: local_queue, pool, mut partial } = queued(session)?;
    let mut methods: HashMap<(&'static str, String), u64> = HashMap::new();
    for (name, title, queue) in
        [("global", "global work item queue", &global_queue), ("local", "local per thread work items", &local_queue)]
    {
        let cells = [Cell::text(name), Cell::Num(queue.len() as u64)];
        ctx.out.row_as(&QUEUES, &cells, format!("{title:_<60}"))?;
        for &item in queue {
            session.watch.cancel.check()?;
            let (kind, method) = describe(session, item);
            let cells = [Cell::text(name), Cell::Addr(item), Cell::text(kind), Cell::text(&method)];
            ctx.out.row_as(&ITEMS, &cells, format!("0x{item:0w$X} {kind} | {method}", w = digits()))?;
            *methods.entry((kind, method)).or_default() += 1;
        }
        ctx.out.note("")?;
    }
    let total = (global_queue.len() + local_queue.len()) as u64;
    ctx.out.facts(&[], "-".repeat(60))?;
    let mut rows: Vec<_> = methods.into_iter().collect();
    rows.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    for ((kind, method), count) in rows {
        let cells = [Cell::Num(count), Cell::text(kind), Cell::text(&method)];
        ctx.out.row_as(&METHODS, &cells, format!("{count:>5} {kind} {method}"))?;
    }
    ctx.out.fact("work_items", Cell::Num(total), format!("{:>5} work items", thousands(total)))?;
    if !pool && session.find_types("System.Threading.Tasks.Task")?.is_empty() {
        partial.get_or_insert_with(|| "the names of the thread pool's classes are missing".into());
    }
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if total == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}
