//! Tasks that threads wait for: who runs them, what they come down to, and whether they need the thread that waits.
//!
//! Source: dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs` (`t_currentTask`: the task a thread runs),
//! `TaskContinuation.cs` (`SynchronizationContextAwaitTaskContinuation.m_syncContext`), `Thread.cs`
//! (`_synchronizationContext`).

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::session::Session;
use crate::session::tasks::{Awaited, Kind, Tasks, is_completed};

/// Objects of a context looked through for what was given to it; a queue of more is not a deadlock's.
const MAX_OBJECTS: usize = 1 << 16;
/// References from a context to what was given to it: its queue, the array of that, an entry, a delegate, what it calls.
const MAX_DEPTH: u32 = 12;

/// What a task that is waited for comes down to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The task at the bottom, or what it awaits.
    pub object: u64,
    /// Its type, or the method.
    pub name: String,
    /// Address of the `Thread` that runs it; 0 where none does.
    pub thread: u64,
}

/// What a context has to do before a task completes.
pub struct NeedsContext {
    /// The context.
    pub object: u64,
    /// Tasks from the one waited for to the one whose rest the context has to run.
    pub tasks: Vec<u64>,
}

/// The tasks of a session, both ways.
pub struct Work<'s> {
    session: &'s Session,
    tasks: Tasks,
    places: FxHashMap<u64, u32>,
    /// By number: what has to complete before.
    before: Vec<Vec<u32>>,
    /// Address of the `Thread` that runs a task.
    runs: FxHashMap<u64, u64>,
}

impl<'s> Work<'s> {
    /// Turns the continuations of all tasks round.
    pub fn new(session: &'s Session, tasks: Tasks) -> Self {
        let places: FxHashMap<u64, u32> = tasks.nodes.iter().enumerate().map(|(i, n)| (n.address, i as u32)).collect();
        let mut before = vec![Vec::new(); tasks.nodes.len()];
        for (i, node) in tasks.nodes.iter().enumerate() {
            for &next in &node.next {
                if let Some(list) = before.get_mut(next as usize).filter(|_| next as usize != i) {
                    list.push(i as u32);
                }
            }
        }
        let mut work = Self { session, tasks, places, before, runs: FxHashMap::default() };
        work.runs = work.running();
        work
    }

    /// Why something may be missing.
    pub fn partial(&self) -> Option<String> {
        self.tasks.partial.clone()
    }

    /// The tasks and state machines that threads run now.
    fn running(&self) -> FxHashMap<u64, u64> {
        let mut runs = FxHashMap::default();
        let Ok(clr) = self.session.clr() else { return runs };
        for (thread, cell) in self.session.thread_static_cells("System.Threading.Tasks.Task", "t_currentTask") {
            if let Some(task) = clr.space().ptr(cell).filter(|&t| t != 0) {
                runs.insert(task, thread.address);
            }
        }
        for thread in clr.threads().items.iter().filter(|t| t.os_id != 0 && !t.is_dead()) {
            for frame in clr.stack(thread).managed() {
                let name = self.session.frame_name(frame, false).unwrap_or_default();
                let runs_machine = name.contains("StateMachineBox") && name.contains(".MoveNext(");
                if !runs_machine {
                    continue;
                }
                for value in self.session.frame_variables(frame).iter().filter_map(|v| v.value) {
                    if self.node(value).is_some_and(|n| matches!(n.kind, Kind::Machine(_))) {
                        runs.entry(value).or_insert(thread.address);
                    }
                }
            }
        }
        for node in &self.tasks.nodes {
            if let Kind::Running { thread, .. } = node.kind
                && let Some(t) = clr.threads().items.iter().find(|t| t.managed_id == thread && !t.is_dead())
            {
                runs.insert(node.address, t.address);
            }
        }
        runs
    }

    fn node(&self, address: u64) -> Option<&crate::session::tasks::Node> {
        self.tasks.nodes.get(*self.places.get(&address)? as usize)
    }

    /// The tasks that have to complete before `task` does, itself first, each with the one it was met from.
    fn below(&self, task: u64) -> Vec<(u32, Option<usize>)> {
        let Some(&first) = self.places.get(&task) else { return Vec::new() };
        let (mut order, mut seen) = (vec![(first, None)], FxHashSet::from_iter([first]));
        let mut at = 0;
        while let Some(&(node, _)) = order.get(at) {
            for &next in self.before.get(node as usize).into_iter().flatten() {
                if seen.insert(next) {
                    order.push((next, Some(at)));
                }
            }
            at += 1;
        }
        order
    }

    fn address(&self, number: u32) -> u64 {
        self.tasks.nodes.get(number as usize).map_or(0, |n| n.address)
    }

    /// From the first of `order` to the one at `at`.
    fn way(&self, order: &[(u32, Option<usize>)], at: usize) -> Vec<u64> {
        let (mut way, mut at) = (Vec::new(), Some(at));
        while let Some(&(node, from)) = at.and_then(|i| order.get(i)) {
            way.push(self.address(node));
            at = from;
        }
        way.reverse();
        way
    }

    /// Threads that run what `task` needs, each with the tasks between.
    pub fn threads_of(&self, task: u64) -> Vec<(u64, Vec<u64>)> {
        let order = self.below(task);
        let mut found: Vec<(u64, Vec<u64>)> = Vec::new();
        for (i, &(node, _)) in order.iter().enumerate() {
            if let Some(&thread) = self.runs.get(&self.address(node)).filter(|t| found.iter().all(|f| f.0 != **t)) {
                found.push((thread, self.way(&order, i)));
            }
        }
        // A task that is not among those that wait may run all the same.
        if order.is_empty()
            && let Some(&thread) = self.runs.get(&task)
        {
            found.push((thread, vec![task]));
        }
        found
    }

    /// What `task` comes down to: the first that nothing else has to complete before.
    pub fn cause(&self, task: u64) -> Option<Cause> {
        let order = self.below(task);
        let is_last = |n: u32| self.before.get(n as usize).is_none_or(|b| b.is_empty());
        let &(last, _) = order.iter().find(|o| is_last(o.0))?;
        let node = self.tasks.nodes.get(last as usize)?;
        let thread = self.runs.get(&node.address).copied().unwrap_or(0);
        Some(match self.tasks.awaited_by(self.session, last) {
            Some(Awaited::Object(object, mt)) => {
                Cause { object, name: self.session.clr().ok()?.type_name(mt).to_string(), thread }
            }
            Some(Awaited::Words(name)) => Cause { object: node.address, name, thread },
            None => Cause { object: node.address, name: node.name.to_string(), thread },
        })
    }

    /// Whether `task` needs the context of the thread that waits for it: what continues one of its tasks was given to the
    /// context already, or will be.
    pub fn needs_context_of(&self, task: u64, thread: u64) -> Option<NeedsContext> {
        let clr = self.session.clr().ok()?;
        let thread = clr.threads().items.iter().find(|t| t.address == thread)?;
        let names = ["_synchronizationContext", "m_SynchronizationContext"];
        let context = self.session.value(thread.exposed_object)?.object(&names)?;
        let order = self.below(task);
        // A method whose awaited task is complete was handed over to go on; where the context refers to it, to the context.
        let idle = |n: u32| {
            let of = self.tasks.nodes.get(n as usize);
            let suspended = of.is_some_and(|n| matches!(n.kind, Kind::Machine(s) if s >= 0));
            let done = || match self.tasks.awaited_by(self.session, n) {
                Some(Awaited::Object(o, _)) => {
                    self.session.value(o).and_then(|v| v.int(&["m_stateFlags"])).is_some_and(is_completed)
                }
                Some(Awaited::Words(_)) => false,
                None => true,
            };
            suspended && self.before.get(n as usize).is_none_or(|b| b.is_empty()) && done()
        };
        let wanted: FxHashSet<u64> = order.iter().filter(|o| idle(o.0)).map(|o| self.address(o.0)).collect();
        let queued = if wanted.is_empty() { None } else { self.reached(context.address(), &wanted) };
        for (i, &(node, _)) in order.iter().enumerate() {
            let address = self.address(node);
            // A task waited for continues the event of the waiting thread: what is below it continues methods.
            let posts = i > 0 && self.posts_to(address, context.address());
            if posts || queued == Some(address) {
                return Some(NeedsContext { object: context.address(), tasks: self.way(&order, i) });
            }
        }
        None
    }

    /// Whether what continues the task at `address` runs on the context.
    fn posts_to(&self, address: u64, context: u64) -> bool {
        let Some(next) = self.session.value(address).and_then(|v| v.object(&["m_continuationObject"])) else {
            return false;
        };
        let on = |v: &crate::session::value::Value<'_>| v.pointer(&["m_syncContext"]) == Some(context);
        let listed = || {
            let items = next.object(&["_items"])?.elements()?;
            (0..items.count.min(MAX_OBJECTS as u64)).filter_map(|i| items.object(i)).find(on)
        };
        on(&next) || listed().is_some()
    }

    /// The first of `wanted` met over references from `from`, through objects that are no tasks of others and no threads.
    fn reached(&self, from: u64, wanted: &FxHashSet<u64>) -> Option<u64> {
        let (clr, walker) = (self.session.clr().ok()?, self.session.walker().ok()?);
        let (mut todo, mut seen) = (VecDeque::from([(from, 0u32)]), FxHashSet::from_iter([from]));
        while let Some((at, depth)) = todo.pop_front() {
            let Some(object) = walker.object_at(at) else { continue };
            let mut found = None;
            object.slots(clr.space(), |slot| {
                let to = clr.space().ptr_at(at, slot).unwrap_or(0);
                if to == 0 || found.is_some() || seen.len() >= MAX_OBJECTS || !seen.insert(to) {
                    return;
                }
                if wanted.contains(&to) {
                    found = Some(to);
                } else if depth < MAX_DEPTH && self.node(to).is_none() {
                    todo.push_back((to, depth + 1));
                }
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
