//! `!syncblk`: monitors, `System.Threading.Lock`s, who holds them and who waits.

use anyhow::Result;

use super::clrthreads::{dump_index, number_cell};
use crate::clr::Clr;
use crate::clr::runtime::locks::{Lock, LockKind, Owners};
use crate::clr::runtime::syncblocks::SyncBlock;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;
use crate::session::locks::waits::{self, Wait};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!syncblk`.
pub const SYNCBLK: Command = Command {
    name: "syncblk",
    prefix: Prefix::Bang,
    aliases: &["mlocks", "mwaits", "dumplocks"],
    group: Group::Threads,
    summary: "list the locks that are held, who holds them, who waits, and deadlocks",
    help: "MonitorHeld is 1 for the owner and 2 for each thread that waits to enter. -all lists sync blocks nobody holds \
           too; a number (decimal) shows that one. Monitors nobody ever waited for are thin locks: !dumpobj shows them. \
           Below the table stand, where there are any: objects of class System.Threading.Lock (9.0 and later) that are \
           held or waited for, with how often the owner entered them; each thread that waits for a lock or in \
           Monitor.Wait, with the managed id of the thread that holds it; deadlocks: threads that wait for one another in \
           a circle.",
    args: &[Arg::pos("INDEX", Kind::Count, "number of a sync block"), Arg::flag("all", "those that are not held too")],
    examples: &[Example { line: "!syncblk", what: "the locks that are held, who waits, deadlocks" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("total", "sync blocks there are, free ones among them", Type::Count),
        Fact::new("free", "sync blocks that are free", Type::Count),
    ])
    .and(&[&BLOCKS, &LOCKS, &WAITS, &DEADLOCKS, &CIRCLES]),
    run,
};

const NUMBER: &str = "number of the thread in the dump, nothing when it has ended";

const BLOCKS: Table = Table::new(
    "sync_blocks",
    &[
        Col::right("Index", "index", 5).of(Type::Number),
        Col::right("SyncBlock", "sync_block", 16).of(Type::Address),
        Col::right("MonitorHeld", "monitor_held", 12).of(Type::Count),
        Col::right("Recursion", "recursion", 9).of(Type::Count),
        Col::left("Owning Thread Info", "thread", 16).of(Type::Address),
        Col::left("", "os_id", 0).of(Type::Hex).titled("operating system id of the owner"),
        Col::data("number", Type::Number).titled(NUMBER),
        Col::data("managed_id", Type::Number).titled("managed id of the owner"),
        Col::left("SyncBlock Owner", "object", 16).of(Type::Address),
        Col::left("", "type", 0).of(Type::TypeName).titled("type of the object"),
    ],
);
const BLOCKS_HEAD: &str = "Index         SyncBlock MonitorHeld Recursion Owning Thread Info          SyncBlock Owner";

const LOCKS: Table = Table::new(
    "locks",
    &[
        Col::left("Lock", "lock", 16).of(Type::Address),
        Col::right("Count", "count", 5).of(Type::Count),
        Col::right("Waiters", "waiters", 7).of(Type::Count),
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("ID", "managed_id", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::left("Held By", "name", 0).of(Type::Given),
        Col::data("thread", Type::Address).titled("the thread that holds it"),
    ],
);

const WAITS: Table = Table::new(
    "waits",
    &[
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("ID", "managed_id", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::left("Waits For", "kind", 11),
        Col::left("Object", "object", 16).of(Type::Address),
        Col::right("Held By", "holder_managed_id", 7).of(Type::Number),
        Col::right("Timeout", "timeout", 7).of(Type::Number).unit("ms"),
        Col::left("Thread", "name", 0).of(Type::Given),
        Col::left("Type", "type", 0).of(Type::TypeName),
        Col::data("thread", Type::Address).titled("the thread that waits"),
        Col::data("holder", Type::Address).titled("the thread that holds it"),
    ],
);

const DEADLOCKS: Table = Table::new(
    "deadlocks",
    &[
        Col::data("deadlock", Type::Number).titled("number of the deadlock"),
        Col::data("threads", Type::Count).titled("threads that wait for one another"),
    ],
);

const CIRCLES: Table = Table::new(
    "circles",
    &[
        Col::data("deadlock", Type::Number).titled("number of the deadlock"),
        Col::data("thread", Type::Address).titled("a thread of it"),
        Col::data("managed_id", Type::Number).titled("its managed id"),
        Col::data("os_id", Type::Hex).titled("its operating system id"),
        Col::data("name", Type::Given).titled("its name"),
        Col::data("holds", Type::Address).titled("the object whose lock it holds"),
        Col::data("holds_kind", Type::Text).titled("Monitor, or Lock"),
        Col::data("holds_type", Type::TypeName).titled("the type of that object"),
        Col::data("wants", Type::Address).titled("the object whose lock it waits for"),
        Col::data("wants_kind", Type::Text).titled("Monitor, or Lock"),
        Col::data("wants_type", Type::TypeName).titled("the type of that object"),
        Col::data("timeout", Type::Number).unit("ms").titled("how long it waits at most"),
        Col::data("holder", Type::Address).titled("the thread that holds what it waits for"),
        Col::data("holder_managed_id", Type::Number).titled("managed id of that"),
        Col::data("holder_os_id", Type::Hex).titled("operating system id of that"),
        Col::data("holder_name", Type::Given).titled("name of that"),
    ],
)
.under("deadlocks", "deadlock");

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let view = View { session, clr: session.clr()?, owners: Owners::of(session.clr()?) };
    let blocks = view.clr.sync_blocks();
    ctx.out.open_as(&BLOCKS, BLOCKS_HEAD)?;
    let wanted = args.number("INDEX");
    for b in &blocks.items {
        let shown = match wanted {
            Some(n) => u64::from(b.index) == n,
            None => args.has("all") || b.monitor.monitor_held() != 0,
        };
        if shown {
            ctx.out.row(&view.block(b))?;
        }
    }
    let total = blocks.items.iter().map(|b| b.index as usize).max().unwrap_or(0);
    let free = total.saturating_sub(blocks.items.len());
    ctx.out.facts(&[], "-----------------------------")?;
    ctx.out.fact("total", Cell::Num(total as u64), format!("Total           {total}"))?;
    ctx.out.fact("free", Cell::Num(free as u64), format!("Free            {free}"))?;
    let mut partial = blocks.partial.clone();
    if wanted.is_none() {
        let waits = session.waits()?;
        let objects = view.lock_objects(ctx.out)?;
        view.waits(ctx.out, &waits.items)?;
        view.deadlocks(ctx.out, &waits.items)?;
        partial = partial.or(objects).or_else(|| waits.partial.clone());
    }
    Ok(partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// What the rows are made from.
struct View<'a> {
    session: &'a Session,
    clr: &'a Clr,
    owners: Owners<'a>,
}

impl View<'_> {
    fn type_of(&self, object: u64) -> Option<String> {
        self.clr.object_type(object).map(|mt| self.clr.type_name_long(mt).to_string())
    }

    fn block(&self, b: &SyncBlock) -> [Cell<'static>; 10] {
        let thread = self.owners.thread(b.monitor.owner).filter(|_| b.monitor.held);
        let [owner, os_id, number, managed_id] = match thread {
            Some(t) => {
                // SOS has the operating system's id and the number in one column.
                let number = dump_index(self.session, t.os_id);
                let shown = number.map_or_else(|| "XXX".into(), |i| i.to_string());
                [
                    Cell::AddrUpper(t.address, 16),
                    Cell::shown(format!("{:4x} {shown:>3}  ", t.os_id), Cell::Hex(t.os_id)),
                    number.map_or(Cell::None, |i| Cell::Num(i as u64)),
                    Cell::Num(u64::from(t.managed_id)),
                ]
            }
            None => {
                let zeros = format!("{:0w$X}", 0, w = digits());
                [Cell::shown(zeros, Cell::None), Cell::shown("    none   ", Cell::None), Cell::None, Cell::None]
            }
        };
        [
            Cell::Num(u64::from(b.index)),
            Cell::AddrUpper(b.address, 16),
            Cell::Num(u64::from(b.monitor.monitor_held())),
            Cell::Num(u64::from(b.monitor.count)),
            owner,
            os_id,
            number,
            managed_id,
            Cell::AddrPad(b.object, 16),
            type_cell(self.type_of(b.object)),
        ]
    }

    /// The locks that are objects; returns why some may be missing.
    fn lock_objects(&self, out: &mut Out) -> Result<Option<String>> {
        let objects = self.session.lock_objects()?;
        if objects.items.is_empty() {
            return Ok(objects.partial.clone());
        }
        out.note("")?;
        out.note("System.Threading.Lock objects:")?;
        out.open(&LOCKS)?;
        for lock in &objects.items {
            let [dbg, id, os_id, thread] = self.ids(self.owners.thread(lock.owner));
            out.row(&[
                Cell::AddrPad(lock.address, 16),
                Cell::Num(u64::from(lock.count)),
                Cell::Num(u64::from(lock.waiters)),
                dbg,
                id,
                os_id,
                self.name(lock.owner),
                thread,
            ])?;
        }
        Ok(objects.partial.clone())
    }

    fn waits(&self, out: &mut Out, waits: &[Wait]) -> Result<()> {
        if waits.is_empty() {
            return Ok(());
        }
        out.note("")?;
        out.note("Threads that wait for a lock or a pulse:")?;
        let row = |w: &Wait| {
            let [dbg, id, os_id, thread] = self.ids(self.owners.thread(w.thread));
            let holder = self.owners.thread(w.holder());
            [
                dbg,
                id,
                os_id,
                Cell::text(w.kind.name()),
                Cell::AddrPad(w.lock.object, 16),
                holder.map_or(Cell::None, |t| Cell::Num(u64::from(t.managed_id))),
                milliseconds(w.timeout),
                self.name(w.thread),
                type_cell(self.type_of(w.lock.object)),
                thread,
                holder.map_or(Cell::None, |t| Cell::Addr(t.address)),
            ]
        };
        let rows: Vec<_> = waits.iter().map(row).collect();
        out.fill(&WAITS, rows.iter())?;
        Ok(())
    }

    /// Number in the dump, managed and operating system id, address; nothing of no thread.
    fn ids(&self, thread: Option<&ClrThread>) -> [Cell<'static>; 4] {
        let Some(t) = thread else { return [Cell::None, Cell::None, Cell::None, Cell::None] };
        [
            number_cell(self.session, t.os_id),
            Cell::Num(u64::from(t.managed_id)),
            Cell::Hex(t.os_id),
            Cell::Addr(t.address),
        ]
    }

    fn name(&self, thread: u64) -> Cell<'static> {
        let name = self.owners.thread(thread).map(|t| self.session.thread_name(t));
        Cell::maybe(name.filter(|n| !n.is_empty()))
    }

    /// Circles of threads, each with what it holds, what it waits for and who holds that.
    fn deadlocks(&self, out: &mut Out, waits: &[Wait]) -> Result<()> {
        for (n, circle) in waits::circles(waits).into_iter().enumerate() {
            let circle: Vec<&Wait> = circle.into_iter().filter_map(|i| waits.get(i)).collect();
            let (number, length) = (n as u64 + 1, circle.len());
            out.note("")?;
            out.row_as(
                &DEADLOCKS,
                &[Cell::Num(number), Cell::Num(length as u64)],
                format!("Deadlock: {length} threads wait for one another"),
            )?;
            let before = circle.last().into_iter().chain(&circle);
            for (wait, held) in circle.iter().zip(before) {
                let (thread, holder) = (self.thread(wait.thread), self.thread(wait.holder()));
                let (holds, wants) = (self.lock(&held.lock), self.lock(&wait.lock));
                let until = wait.timeout.map_or_else(String::new, |ms| format!(" for at most {ms} ms"));
                let line = format!("  {thread} holds {holds} and waits{until} for {wants}, held by {holder}");
                out.row_as(&CIRCLES, &self.step(number, wait, &held.lock), line)?;
            }
        }
        Ok(())
    }

    fn step(&self, number: u64, wait: &Wait, held: &Lock) -> Vec<Cell<'static>> {
        let who = |thread: u64| {
            let [_, id, os_id, _] = self.ids(self.owners.thread(thread));
            [Cell::Addr(thread), id, os_id, self.name(thread)]
        };
        let what = |lock: &Lock| {
            [Cell::Addr(lock.object), Cell::text(lock.kind.name()), Cell::maybe(self.type_of(lock.object))]
        };
        let mut cells = vec![Cell::Num(number)];
        cells.extend(who(wait.thread));
        cells.extend(what(held));
        cells.extend(what(&wait.lock));
        cells.push(milliseconds(wait.timeout));
        cells.extend(who(wait.holder()));
        cells
    }

    /// `thread 4 "name" (OSID fbf)`.
    fn thread(&self, address: u64) -> String {
        match self.owners.thread(address) {
            Some(t) => {
                let name = self.session.thread_name(t);
                let name = if name.is_empty() { name } else { format!("\"{name}\" ") };
                format!("thread {} {name}(OSID {:x})", t.managed_id, t.os_id)
            }
            None => format!("thread {address:0w$x}", w = digits()),
        }
    }

    /// `the monitor of 00007f6bc5804338 (System.Object)`; a lock of its own without the words in front.
    fn lock(&self, lock: &Lock) -> String {
        let what = if lock.kind == LockKind::Lock { "" } else { "the monitor of " };
        let ty = self.type_of(lock.object);
        format!("{what}{:0w$x} ({})", lock.object, ty.as_deref().unwrap_or(UNKNOWN), w = digits())
    }
}

/// What text has where a type is not known.
const UNKNOWN: &str = "<unknown>";

fn type_cell(name: Option<String>) -> Cell<'static> {
    name.map_or_else(|| Cell::shown(UNKNOWN, Cell::None), Cell::text)
}

fn milliseconds(timeout: Option<u32>) -> Cell<'static> {
    timeout.map_or(Cell::None, |ms| Cell::Num(u64::from(ms)))
}
