//! How `!waits` shows what it found.

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::verdicts::{Judged, Step, Trouble, Verdict};
use crate::clr::runtime::locks::Owners;
use crate::commands::threads::clrthreads::number_cell;
use crate::session::Session;
use crate::session::waits::{Kind, Waiting, Waits};
use crate::shell::{Cell, Col, Out, Table, Type, digits};

const VERDICT: Col = Col::data("verdict", Type::Number).titled("number of the verdict");

const VERDICTS: Table = Table::new(
    "verdicts",
    &[
        VERDICT,
        Col::data("trouble", Type::Text).titled("deadlock, async deadlock, starvation, stuck finalizer, convoy"),
        Col::data("threads", Type::Count).titled("threads in it"),
        Col::data("owner", Type::Address).titled("the thread that holds things up"),
        Col::data("owner_managed_id", Type::Number).titled("its managed id"),
        Col::data("owner_name", Type::Given).titled("its name"),
        Col::data("owner_does", Type::Text).titled("the method it is in, its own code first"),
        Col::data("object", Type::Address).titled("the lock or context it is about"),
        Col::data("type", Type::TypeName).titled("type of that"),
        Col::data("pending", Type::Count).titled("work items queued, or objects ready for finalization"),
    ],
);

const STEPS: Table = Table::new(
    "steps",
    &[
        VERDICT,
        Col::data("thread", Type::Address).titled("a thread of it"),
        Col::data("managed_id", Type::Number).titled("its managed id"),
        Col::data("os_id", Type::Hex).titled("its operating system id"),
        Col::data("name", Type::Given).titled("its name"),
        Col::data("kind", Type::Text).titled("how it waits"),
        Col::data("object", Type::Address).titled("what it waits for"),
        Col::data("type", Type::TypeName).titled("type of that"),
        Col::data("caller", Type::Text).titled("the method in which it waits"),
        Col::data("timeout", Type::Number).unit("ms").titled("how long it waits at most"),
        Col::data("holder", Type::Address).titled("the thread that has to go on first"),
        Col::data("holder_managed_id", Type::Number).titled("managed id of that"),
        Col::data("holder_name", Type::Given).titled("name of that"),
        Col::data("last_task", Type::Address).titled("the task which that thread runs for the one waited for"),
    ],
)
.under("verdicts", "verdict");

const WAITING: Table = Table::new(
    "waits",
    &[
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("ID", "managed_id", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::left("Waits For", "kind", 20),
        Col::left("Object", "object", 16).of(Type::Address),
        Col::left("Held By", "held_by", 8),
        Col::right("Timeout", "timeout", 9).of(Type::Number).unit("ms"),
        Col::left("Thread", "name", 16).of(Type::Given),
        Col::left("Type", "type", 0).of(Type::TypeName),
        Col::data("thread", Type::Address).titled("the thread that waits"),
        Col::data("holder", Type::Address).titled("the first thread that holds it"),
        Col::data("handle", Type::Hex).titled("the operating system's handle of it"),
        Col::data("method", Type::Text).titled("the method of the library by which it waits"),
        Col::data("caller", Type::Text).titled("the method that called it"),
        Col::data("cause", Type::Address).titled("what a task waited for comes down to"),
        Col::data("cause_name", Type::Text).titled("type or method of that"),
        Col::data("cause_managed_id", Type::Number).titled("managed id of the thread that runs it"),
    ],
);

const HELD: Table = Table::new(
    "held",
    &[
        Col::right("DBG", "number", 4).of(Type::Number),
        Col::right("ID", "managed_id", 4).of(Type::Number),
        Col::right("OSID", "os_id", 8).of(Type::Hex),
        Col::left("Holds", "kind", 20),
        Col::left("Object", "object", 16).of(Type::Address),
        Col::right("Count", "count", 5).of(Type::Count),
        Col::right("Waiters", "waiters", 7).of(Type::Count),
        Col::left("Thread", "name", 16).of(Type::Given),
        Col::left("Type", "type", 0).of(Type::TypeName),
        Col::data("thread", Type::Address).titled("the thread that holds it"),
    ],
);

/// Everything `!waits` returns.
pub const TABLES: &[&Table] = &[&VERDICTS, &STEPS, &WAITING, &HELD];

/// What the rows are made from.
pub struct View<'a> {
    session: &'a Session,
    owners: Owners<'a>,
    waits: &'a Waits,
    judged: &'a Judged,
    /// Threads that wait for an object.
    waiters: FxHashMap<u64, u64>,
}

impl<'a> View<'a> {
    /// A view of what was found in a session.
    pub fn new(session: &'a Session, waits: &'a Waits, judged: &'a Judged) -> Result<Self> {
        let mut waiters = FxHashMap::default();
        for object in waits.waiting.iter().flat_map(|w| &w.objects) {
            *waiters.entry(*object).or_insert(0) += 1;
        }
        Ok(Self { session, owners: Owners::of(session.clr()?), waits, judged, waiters })
    }

    fn type_of(&self, object: u64, kind: Kind) -> Option<String> {
        let clr = self.session.clr().ok()?;
        // Of an initializer the class itself is what is waited for.
        let mt =
            if kind == Kind::TypeInitializer { object } else { clr.object_type(object).filter(|_| object != 0)? };
        Some(clr.type_name_long(mt).to_string())
    }

    fn name(&self, thread: u64) -> Option<String> {
        let name = self.owners.thread(thread).map(|t| self.session.thread_name(t));
        name.filter(|n| !n.is_empty())
    }

    /// Managed id and name.
    fn who(&self, thread: u64) -> [Cell<'static>; 2] {
        let id = self.owners.thread(thread).map_or(Cell::None, |t| Cell::Num(t.managed_id.into()));
        [id, Cell::maybe(self.name(thread))]
    }

    /// `thread 4 "name"`.
    pub fn thread(&self, thread: u64) -> String {
        let Some(t) = self.owners.thread(thread) else { return "a thread".into() };
        let name = self.name(thread).map_or_else(String::new, |n| format!(" \"{n}\""));
        let role = if t.finalizer { " (finalizer)" } else { "" };
        format!("thread {}{name}{role}", t.managed_id)
    }

    /// The method a thread is in: the first of its own code, else the newest.
    pub fn does(&self, thread: u64) -> Option<String> {
        let t = self.owners.thread(thread)?;
        let stack = self.session.clr().ok()?.stack(t);
        let names: Vec<String> = stack.managed().filter_map(|f| self.session.frame_name(f, false)).collect();
        let own = names.iter().find(|n| !["System.", "Interop", "Microsoft."].iter().any(|p| n.starts_with(p)));
        own.or_else(|| names.first()).cloned()
    }

    /// `the Monitor of 7f00 (System.Object)`.
    fn what(&self, kind: Kind, object: u64) -> String {
        if object == 0 {
            return format!("a {} that is not known", kind.name());
        }
        let ty = self.type_of(object, kind).unwrap_or_else(|| "?".into());
        let (address, digits) = (object, digits());
        match kind {
            Kind::Monitor => format!("the monitor of {address:0digits$x} ({ty})"),
            Kind::MonitorWait => format!("a pulse of {address:0digits$x} ({ty})"),
            Kind::Join => format!("the end of {address:0digits$x} ({ty})"),
            Kind::TypeInitializer => format!("the initializer of {ty} ({address:0digits$x})"),
            _ => format!("{address:0digits$x} ({ty})"),
        }
    }

    /// One line on a verdict.
    pub fn sentence(&self, v: &Verdict) -> String {
        let n = v.threads;
        match v.trouble {
            Trouble::Deadlock => match n {
                1 => "Deadlock: a thread waits for itself".into(),
                _ => format!("Deadlock: {n} threads wait for one another"),
            },
            Trouble::Context => {
                let at = self.what(Kind::Task, v.object);
                format!("Async deadlock: {} blocks on a task that needs its context {at}", self.thread(v.owner))
            }
            Trouble::Starvation => {
                format!(
                    "Starvation: all {n} workers of the thread pool block on tasks, {} work items are queued",
                    v.pending
                )
            }
            Trouble::Finalizer => {
                let does = self.does(v.owner).map_or_else(String::new, |m| format!(" in {m}"));
                format!("Stuck finalizer: the finalizer thread waits{does}; {} objects are ready behind it", v.pending)
            }
            Trouble::Convoy => {
                let kind =
                    v.steps.first().and_then(|s| self.waits.waiting.get(s.wait)).map_or(Kind::Monitor, |w| w.kind);
                let does = self.does(v.owner).map_or_else(String::new, |m| format!(", which is in {m}"));
                format!(
                    "Convoy: {n} threads wait for {}, held by {}{does}",
                    self.what(kind, v.object),
                    self.thread(v.owner)
                )
            }
        }
    }

    /// Shows a verdict with its evidence.
    pub fn verdict(&self, out: &mut Out, number: u64, v: &Verdict) -> Result<()> {
        let [id, name] = self.who(v.owner);
        let kind = v.steps.first().and_then(|s| self.waits.waiting.get(s.wait)).map_or(Kind::Monitor, |w| w.kind);
        let pending = matches!(v.trouble, Trouble::Starvation | Trouble::Finalizer);
        let cells = [
            Cell::Num(number),
            Cell::text(v.trouble.name()),
            Cell::Num(v.threads as u64),
            Cell::at(v.owner),
            id,
            name,
            Cell::maybe(self.does(v.owner)),
            Cell::at(v.object),
            Cell::maybe(self.type_of(v.object, kind)),
            if pending { Cell::Num(v.pending) } else { Cell::None },
        ];
        out.row_as(&VERDICTS, &cells, self.sentence(v))?;
        for step in &v.steps {
            let Some(wait) = self.waits.waiting.get(step.wait) else { continue };
            out.row_as(&STEPS, &self.step(number, step, wait), format!("  {}", self.step_line(step, wait)))?;
        }
        out.note("")?;
        Ok(())
    }

    /// A step in words; nothing of a wait that is not there.
    pub fn step_text(&self, step: &Step) -> Option<String> {
        Some(self.step_line(step, self.waits.waiting.get(step.wait)?))
    }

    fn step_line(&self, step: &Step, wait: &Waiting) -> String {
        let object = wait.objects.first().copied().unwrap_or(0);
        let until = wait.timeout.map_or_else(String::new, |ms| format!(" for at most {ms} ms"));
        let mut line = format!("{} waits{until} for {}", self.thread(wait.thread), self.what(wait.kind, object));
        if let Some(task) = step.tasks.last().filter(|&&t| t != object) {
            line += &format!(", which needs {}", self.what(Kind::Task, *task));
        }
        if step.holder != 0 && step.holder != wait.thread {
            let verb = match wait.kind {
                Kind::Task => "which runs on",
                Kind::Join => "which is",
                Kind::TypeInitializer => "which runs on",
                _ => "held by",
            };
            line += &format!(", {verb} {}", self.thread(step.holder));
        }
        if let Some(caller) = &wait.caller {
            line += &format!(", in {caller}");
        }
        line
    }

    fn step(&self, number: u64, step: &Step, wait: &Waiting) -> Vec<Cell<'static>> {
        let object = wait.objects.first().copied().unwrap_or(0);
        let [id, name] = self.who(wait.thread);
        let [holder_id, holder_name] = self.who(step.holder);
        vec![
            Cell::Num(number),
            Cell::Addr(wait.thread),
            id,
            self.owners.thread(wait.thread).map_or(Cell::None, |t| Cell::Hex(t.os_id)),
            name,
            Cell::text(wait.kind.name()),
            Cell::at(object),
            Cell::maybe(self.type_of(object, wait.kind)),
            Cell::maybe(wait.caller.clone()),
            milliseconds(wait.timeout),
            Cell::at(step.holder),
            holder_id,
            holder_name,
            step.tasks.last().map_or(Cell::None, |&t| Cell::Addr(t)),
        ]
    }

    /// The table of threads that wait, a line for each thing waited for.
    pub fn waiting(&self, out: &mut Out, all: bool) -> Result<()> {
        let shown = || self.waits.waiting.iter().enumerate().filter(|(_, w)| all || w.kind.is_wait());
        if shown().next().is_none() {
            return Ok(());
        }
        out.open(&WAITING)?;
        for (i, wait) in shown() {
            let none = [0];
            let objects: &[u64] = if wait.objects.is_empty() { &none } else { &wait.objects };
            for &object in objects {
                out.row(&self.wait(i, wait, object))?;
            }
        }
        Ok(())
    }

    fn wait(&self, i: usize, wait: &Waiting, object: u64) -> Vec<Cell<'static>> {
        let thread = self.owners.thread(wait.thread);
        let ids: Vec<String> =
            wait.holders.iter().filter_map(|&h| self.owners.thread(h)).map(|t| t.managed_id.to_string()).collect();
        let cause = self.judged.causes.get(&i);
        vec![
            thread.map_or(Cell::None, |t| number_cell(self.session, t.os_id)),
            thread.map_or(Cell::None, |t| Cell::Num(t.managed_id.into())),
            thread.map_or(Cell::None, |t| Cell::Hex(t.os_id)),
            Cell::text(wait.kind.name()),
            if object == 0 { Cell::None } else { Cell::AddrPad(object, 16) },
            if ids.is_empty() { Cell::None } else { Cell::text(ids.join(" ")) },
            milliseconds(wait.timeout),
            Cell::maybe(self.name(wait.thread)),
            Cell::maybe(self.type_of(object, wait.kind)),
            Cell::Addr(wait.thread),
            wait.holders.first().map_or(Cell::None, |&h| Cell::Addr(h)),
            wait.handle.map_or(Cell::None, Cell::Hex),
            if wait.method.is_empty() { Cell::None } else { Cell::text(wait.method.clone()) },
            Cell::maybe(wait.caller.clone()),
            cause.map_or(Cell::None, |c| Cell::at(c.object)),
            cause.map_or(Cell::None, |c| Cell::text(c.name.clone())),
            cause.map_or(Cell::None, |c| self.who(c.thread)[0].clone()),
        ]
    }

    /// The table of what is held.
    pub fn held(&self, out: &mut Out) -> Result<()> {
        if self.waits.holding.is_empty() {
            return Ok(());
        }
        out.note("")?;
        out.open(&HELD)?;
        for h in &self.waits.holding {
            let thread = self.owners.thread(h.thread);
            out.row(&[
                thread.map_or(Cell::None, |t| number_cell(self.session, t.os_id)),
                thread.map_or(Cell::None, |t| Cell::Num(t.managed_id.into())),
                thread.map_or(Cell::None, |t| Cell::Hex(t.os_id)),
                Cell::text(h.kind.name()),
                Cell::AddrPad(h.object, 16),
                Cell::Num(h.count.into()),
                Cell::Num(self.waiters.get(&h.object).copied().unwrap_or(0)),
                Cell::maybe(self.name(h.thread)),
                Cell::maybe(self.type_of(h.object, h.kind)),
                Cell::Addr(h.thread),
            ])?;
        }
        Ok(())
    }
}

fn milliseconds(timeout: Option<u32>) -> Cell<'static> {
    timeout.map_or(Cell::None, |ms| Cell::Num(ms.into()))
}
