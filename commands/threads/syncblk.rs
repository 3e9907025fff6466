//! `!syncblk`: monitors, `System.Threading.Lock`s, who holds them and who waits.

use anyhow::Result;

use super::clrthreads::dump_index;
use crate::clr::Clr;
use crate::clr::runtime::locks::{Lock, LockKind, Owners};
use crate::clr::runtime::syncblocks::SyncBlock;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;
use crate::session::locks::waits::{self, Wait};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits,
};

/// `!syncblk`.
pub const SYNCBLK: Command = Command {
    name: "syncblk",
    prefix: Prefix::Bang,
    aliases: &[],
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
    returns: Returns::NOTHING,
    run,
};

const COLUMNS: &[Col] = &[
    Col::right("Index", "index", 5),
    Col::right("SyncBlock", "syncBlock", 16),
    Col::right("MonitorHeld", "monitorHeld", 12),
    Col::right("Recursion", "recursion", 9),
    Col::left("Owning Thread Info", "owner", 16),
    Col::left("", "ownerThread", 0),
    Col::left("SyncBlock Owner", "object", 16),
    Col::left("", "type", 0),
];

const LOCK_COLUMNS: &[Col] = &[
    Col::left("Lock", "lock", 16),
    Col::right("Count", "count", 5),
    Col::right("Waiters", "waiters", 7),
    Col::right("DBG", "dbg", 4),
    Col::right("ID", "id", 4),
    Col::right("OSID", "osId", 8),
    Col::left("Held By", "holderName", 0),
];

const WAIT_COLUMNS: &[Col] = &[
    Col::right("DBG", "dbg", 4),
    Col::right("ID", "id", 4),
    Col::right("OSID", "osId", 8),
    Col::left("Waits For", "kind", 11),
    Col::left("Object", "object", 16),
    Col::right("Held By", "holder", 7),
    Col::right("Timeout", "timeout", 7),
    Col::left("Thread", "name", 0),
    Col::left("Type", "type", 0),
];

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let view = View { session, clr: session.clr()?, owners: Owners::of(session.clr()?) };
    let blocks = view.clr.sync_blocks();
    ctx.out.line("Index         SyncBlock MonitorHeld Recursion Owning Thread Info          SyncBlock Owner")?;
    ctx.out.table("syncBlocks", COLUMNS, false)?;
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
    ctx.out.line("-----------------------------")?;
    ctx.out.line(format!("Total           {total}"))?;
    ctx.out.line(format!("Free            {}", total.saturating_sub(blocks.items.len())))?;
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
    /// The operating system's id of a thread and its number in the dump, as SOS has them.
    fn info(&self, thread: Option<&ClrThread>) -> String {
        match thread {
            Some(t) => {
                let index = dump_index(self.session, t.os_id).map_or_else(|| "XXX".into(), |i| i.to_string());
                format!("{:4x} {index:>3}  ", t.os_id)
            }
            None => "    none   ".into(),
        }
    }

    fn type_of(&self, object: u64) -> String {
        let ty = self.clr.object_type(object).map(|mt| self.clr.type_name_long(mt).to_string());
        ty.unwrap_or_else(|| "<unknown>".into())
    }

    fn block(&self, b: &SyncBlock) -> Vec<Cell<'static>> {
        let thread = self.owners.thread(b.monitor.owner).filter(|_| b.monitor.held);
        vec![
            Cell::Num(u64::from(b.index)),
            Cell::text(format!("{:0w$X}", b.address, w = digits())),
            Cell::Num(u64::from(b.monitor.monitor_held())),
            Cell::Num(u64::from(b.monitor.count)),
            Cell::text(format!("{:0w$X}", thread.map_or(0, |t| t.address), w = digits())),
            Cell::text(self.info(thread)),
            Cell::AddrPad(b.object, 16),
            Cell::text(self.type_of(b.object)),
        ]
    }

    /// The locks that are objects; returns why some may be missing.
    fn lock_objects(&self, out: &mut Out) -> Result<Option<String>> {
        let objects = self.session.lock_objects()?;
        if objects.items.is_empty() {
            return Ok(objects.partial.clone());
        }
        out.line("")?;
        out.line("System.Threading.Lock objects:")?;
        out.table("locks", LOCK_COLUMNS, true)?;
        for lock in &objects.items {
            let [dbg, id, os_id] = self.ids(self.owners.thread(lock.owner));
            out.row(&[
                Cell::AddrPad(lock.address, 16),
                Cell::Num(u64::from(lock.count)),
                Cell::Num(u64::from(lock.waiters)),
                dbg,
                id,
                os_id,
                Cell::text(self.name(lock.owner)),
            ])?;
        }
        Ok(objects.partial.clone())
    }

    fn waits(&self, out: &mut Out, waits: &[Wait]) -> Result<()> {
        if waits.is_empty() {
            return Ok(());
        }
        out.line("")?;
        out.line("Threads that wait for a lock or a pulse:")?;
        let row = |w: &Wait| {
            let [dbg, id, os_id] = self.ids(self.owners.thread(w.thread));
            let holder = self.owners.thread(w.holder());
            vec![
                dbg,
                id,
                os_id,
                Cell::text(w.kind.name()),
                Cell::AddrPad(w.lock.object, 16),
                holder.map_or(Cell::None, |t| Cell::Num(u64::from(t.managed_id))),
                w.timeout.map_or(Cell::None, |ms| Cell::Num(u64::from(ms))),
                Cell::text(self.name(w.thread)),
                Cell::text(self.type_of(w.lock.object)),
            ]
        };
        let rows: Vec<Vec<Cell<'_>>> = waits.iter().map(row).collect();
        out.rows("waits", WAIT_COLUMNS, true, &rows)?;
        Ok(())
    }

    /// Number in the dump, managed and operating system id; nothing of no thread.
    fn ids(&self, thread: Option<&ClrThread>) -> [Cell<'static>; 3] {
        let Some(t) = thread else { return [Cell::None, Cell::None, Cell::None] };
        let dbg = dump_index(self.session, t.os_id).map_or_else(|| "XXXX".into(), |i| i.to_string());
        [Cell::text(dbg), Cell::Num(u64::from(t.managed_id)), Cell::Hex(t.os_id)]
    }

    fn name(&self, thread: u64) -> String {
        self.owners.thread(thread).map_or_else(String::new, |t| self.session.thread_name(t))
    }

    /// Circles of threads, each with what it holds, what it waits for and who holds that.
    fn deadlocks(&self, out: &mut Out, waits: &[Wait]) -> Result<()> {
        for circle in waits::circles(waits) {
            let circle: Vec<&Wait> = circle.into_iter().filter_map(|i| waits.get(i)).collect();
            out.line("")?;
            out.line(format!("Deadlock: {} threads wait for one another", circle.len()))?;
            let before = circle.last().into_iter().chain(&circle);
            for (wait, held) in circle.iter().zip(before) {
                let (thread, holder) = (self.thread(wait.thread), self.thread(wait.holder()));
                let (holds, wants) = (self.lock(&held.lock), self.lock(&wait.lock));
                let until = wait.timeout.map_or_else(String::new, |ms| format!(" for at most {ms} ms"));
                out.line(format!("  {thread} holds {holds} and waits{until} for {wants}, held by {holder}"))?;
            }
        }
        Ok(())
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
        format!("{what}{:0w$x} ({})", lock.object, self.type_of(lock.object), w = digits())
    }
}
