//! What waits mean: threads that wait for one another, many that wait for one, a pool without a free thread, a finalizer
//! thread that does not go on, a thread that waits for what only it can do.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::work::{Cause, Work};
use crate::clr::code::stack::FrameKind;
use crate::clr::runtime::threads::ClrThread;
use crate::commands::threads::threadpoolqueue;
use crate::session::Session;
use crate::session::locks::waits::rings;
use crate::session::tasks::Tasks;
use crate::session::waits::{Kind, Waiting, Waits};

/// So many threads that wait for one make a convoy.
pub const CONVOY: usize = 5;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Threads wait for one another in a ring.
    Deadlock,
    /// A thread waits for a task that only this thread can complete: the rest of it was given to its context.
    Context,
    /// No thread of the pool is free, all wait for tasks, and work is queued.
    Starvation,
    /// The finalizer thread waits.
    Finalizer,
    /// Many threads wait for what one thread holds.
    Convoy,
}

impl Trouble {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Deadlock => "deadlock",
            Trouble::Context => "async deadlock",
            Trouble::Starvation => "starvation",
            Trouble::Finalizer => "stuck finalizer",
            Trouble::Convoy => "convoy",
        }
    }
}

/// One thread of a verdict: what it waits for and who has to go on first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its wait: a number in [`Waits::waiting`].
    pub wait: usize,
    /// Address of the `Thread` that has to go on first; 0 for none.
    pub holder: u64,
    /// Tasks between: the one waited for first, the one that thread runs last.
    pub tasks: Vec<u64>,
}

/// A verdict with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What kind of trouble.
    pub trouble: Trouble,
    /// The threads in it.
    pub threads: usize,
    /// Who holds things up: a `Thread`; 0 where no single one does.
    pub owner: u64,
    /// The object it is about: a lock, a context; 0 for none.
    pub object: u64,
    /// What waits besides threads: work items queued, objects ready for finalization.
    pub pending: u64,
    /// The ring, or what the threads wait for.
    pub steps: Vec<Step>,
}

/// The verdicts, the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
    /// For a thread that waits for a task: what the task comes down to, by number of the wait.
    pub causes: FxHashMap<usize, Cause>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

/// Judges the waits of a session.
pub fn judge(session: &Session) -> Result<Judged> {
    let waits = session.all_waits()?;
    let mut judged = Judged { partial: waits.partial.clone(), ..Judged::default() };
    let has_tasks = waits.blocked().any(|w| w.kind == Kind::Task && !w.objects.is_empty());
    let work = if has_tasks { Some(Work::new(session, Tasks::read(session, false)?)) } else { None };
    let (edges, ways) = edges(waits, work.as_ref());
    let mut in_ring = FxHashSet::default();
    for ring in rings(&edges) {
        let steps: Vec<Step> = ring.iter().filter_map(|&i| ways.get(i).cloned()).collect();
        in_ring.extend(ring.iter().filter_map(|&i| edges.get(i)).map(|e| e.0));
        judged.verdicts.push(Verdict {
            trouble: Trouble::Deadlock,
            threads: steps.len(),
            owner: 0,
            object: 0,
            pending: 0,
            steps,
        });
    }
    for (i, wait) in waits.waiting.iter().enumerate().filter(|(_, w)| w.kind == Kind::Task) {
        session.watch.cancel.check()?;
        let Some(work) = &work else { break };
        let Some(&task) = wait.objects.first() else { continue };
        judged.causes.extend(work.cause(task).map(|c| (i, c)));
        if let Some(context) = work.needs_context_of(task, wait.thread) {
            in_ring.insert(wait.thread);
            judged.verdicts.push(Verdict {
                trouble: Trouble::Context,
                threads: 1,
                owner: wait.thread,
                object: context.object,
                pending: 0,
                steps: vec![Step { wait: i, holder: wait.thread, tasks: context.tasks }],
            });
        }
    }
    judged.verdicts.extend(starvation(session, waits)?);
    judged.verdicts.extend(finalizer(session, waits)?);
    judged.verdicts.extend(convoys(waits, &in_ring));
    if let Some(work) = work {
        judged.partial = judged.partial.or(work.partial());
    }
    Ok(judged)
}

/// Who has to go on before whom: pairs of waiting thread and the other, and the step each stands for.
fn edges(waits: &Waits, work: Option<&Work<'_>>) -> (Vec<(u64, u64)>, Vec<Step>) {
    let (mut edges, mut steps) = (Vec::new(), Vec::new());
    for (i, wait) in waits.waiting.iter().enumerate().filter(|(_, w)| w.kind.is_wait()) {
        for &holder in &wait.holders {
            edges.push((wait.thread, holder));
            steps.push(Step { wait: i, holder, tasks: Vec::new() });
        }
        // For one of several any may come first.
        let tasks = wait.objects.iter().filter(|_| wait.kind == Kind::Task && wait.objects.len() == 1);
        for (holder, tasks) in tasks.flat_map(|&t| work.map(|w| w.threads_of(t)).unwrap_or_default()) {
            edges.push((wait.thread, holder));
            steps.push(Step { wait: i, holder, tasks });
        }
    }
    (edges, steps)
}

/// Whether a thread is a worker of the pool.
fn is_worker(session: &Session, thread: &ClrThread) -> bool {
    let Ok(clr) = session.clr() else { return false };
    let stack = clr.stack(thread);
    let managed = stack.frames.iter().filter(|f| f.kind == FrameKind::Managed);
    let names = managed.filter_map(|f| session.frame_name(f, false));
    names.into_iter().any(|n| {
        n.starts_with("System.Threading.ThreadPoolWorkQueue.Dispatch")
            || n.starts_with("System.Threading.PortableThreadPool+WorkerThread.")
    })
}

fn starvation(session: &Session, waits: &Waits) -> Result<Option<Verdict>> {
    let clr = session.clr()?;
    let workers: Vec<&ClrThread> =
        clr.threads().items.iter().filter(|t| t.os_id != 0 && !t.is_dead() && is_worker(session, t)).collect();
    let wait_of = |t: &ClrThread| waits.waiting.iter().position(|w| w.thread == t.address);
    let blocked = |w: &Waiting| w.kind == Kind::Task;
    let steps: Vec<Step> = workers
        .iter()
        .filter_map(|t| wait_of(t))
        .filter(|&i| waits.waiting.get(i).is_some_and(blocked))
        .map(|wait| Step { wait, holder: 0, tasks: Vec::new() })
        .collect();
    if steps.is_empty() || steps.len() < workers.len() {
        return Ok(None);
    }
    let queues = threadpoolqueue::queued(session)?;
    let queued = (queues.global.len() + queues.local.len()) as u64;
    let verdict =
        Verdict { trouble: Trouble::Starvation, threads: steps.len(), owner: 0, object: 0, pending: queued, steps };
    Ok((queued > 0).then_some(verdict))
}

fn finalizer(session: &Session, waits: &Waits) -> Result<Option<Verdict>> {
    let Some(thread) = session.clr()?.threads().items.iter().find(|t| t.finalizer) else { return Ok(None) };
    let Some(i) = waits.waiting.iter().position(|w| w.thread == thread.address && w.kind != Kind::Idle) else {
        return Ok(None);
    };
    let ready = match session.finalizer_queues() {
        Ok(queues) => {
            let slots = |r: (u64, u64)| r.1.saturating_sub(r.0) / session.clr().map_or(8, |c| c.header());
            queues.items.iter().map(|(_, q)| slots(q.ready) + slots(q.critical)).sum()
        }
        Err(_) => 0,
    };
    let holder = waits.waiting.get(i).and_then(|w| w.holders.first().copied()).unwrap_or(0);
    Ok(Some(Verdict {
        trouble: Trouble::Finalizer,
        threads: 1,
        owner: thread.address,
        object: waits.waiting.get(i).and_then(|w| w.objects.first().copied()).unwrap_or(0),
        pending: ready,
        steps: vec![Step { wait: i, holder, tasks: Vec::new() }],
    }))
}

/// Many that wait for one owner, which is in no ring.
fn convoys(waits: &Waits, in_ring: &FxHashSet<u64>) -> Vec<Verdict> {
    let mut by_owner: Vec<((u64, u64), Vec<Step>)> = Vec::new();
    let mut places: FxHashMap<(u64, u64), usize> = FxHashMap::default();
    for (wait, w) in waits.waiting.iter().enumerate().filter(|(_, w)| w.kind.is_wait()) {
        let (&[holder], &[object]) = (&w.holders[..], &w.objects[..]) else { continue };
        if in_ring.contains(&holder) {
            continue;
        }
        let place = *places.entry((holder, object)).or_insert_with(|| {
            by_owner.push(((holder, object), Vec::new()));
            by_owner.len() - 1
        });
        if let Some(found) = by_owner.get_mut(place) {
            found.1.push(Step { wait, holder, tasks: Vec::new() });
        }
    }
    by_owner.retain(|(_, steps)| steps.len() >= CONVOY);
    by_owner.sort_by_key(|(_, steps)| std::cmp::Reverse(steps.len()));
    let verdict = |((owner, object), steps): ((u64, u64), Vec<Step>)| Verdict {
        trouble: Trouble::Convoy,
        threads: steps.len(),
        owner,
        object,
        pending: 0,
        steps,
    };
    by_owner.into_iter().map(verdict).collect()
}
