//! Stacks of resumed and of suspended async methods, with what awaits them where their callers would stand.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::forest::{Forest, NOTHING};
use super::threadstacks::ThreadStack;
use crate::clr::code::stack::{Frame, FrameKind};
use crate::session::Session;
use crate::session::tasks::Tasks;
use crate::session::tasks::joined::{FrameNames, Resumed, resumes};

/// Most frames of chains looked at: where many tasks wait for the same ones in several ways, each way is a chain. More say so.
const MOST_STEPS: u64 = 1 << 24;

/// The trees of such stacks.
pub struct Joined {
    /// Them.
    pub forest: Forest,
    /// Threads among them.
    pub threads: u64,
    /// Chains of suspended methods among them.
    pub suspended: u64,
    /// Why some may be missing.
    pub partial: Option<String>,
}

impl Joined {
    /// Joins `stacks` with what awaits the methods they were resumed in; `suspended`: the chains of methods that wait too.
    /// Nothing where no thread resumes one and no chains are asked for: then the heap need not be walked.
    pub fn read(session: &Session, stacks: &[ThreadStack<'_>], suspended: bool) -> Result<Option<Self>> {
        let any = stacks.iter().any(|s| s.frames.iter().any(|f| resumes(&f.name)));
        if !any && !suspended {
            return Ok(None);
        }
        let tasks = Tasks::read(session, false)?;
        let resumed = Resumed::new(session, session.clr()?, &tasks);
        let mut running: FxHashMap<u32, Vec<(usize, &ThreadStack<'_>)>> = FxHashMap::default();
        for s in stacks {
            session.watch.cancel.check()?;
            if let Some((frame, node)) = on(&resumed, s) {
                running.entry(node).or_default().push((frame, s));
            }
        }
        let wanted = wanted(&tasks, &running, suspended);
        let mut builder = Builder {
            session,
            tasks: &tasks,
            awaited: Awaited::of(&tasks),
            running,
            wanted,
            suspended,
            forest: Forest::default(),
            names: FrameNames::default(),
            numbers: FxHashMap::default(),
            met: vec![false; tasks.nodes.len()],
            on_path: vec![false; tasks.nodes.len()],
            chains: 0,
            steps: 0,
        };
        let count = tasks.nodes.len() as u32;
        let outermost = |i: &u32| tasks.nodes.get(*i as usize).is_some_and(|n| n.next.is_empty());
        for i in (0..count).filter(outermost) {
            builder.above(i)?;
        }
        // What is left waits in a circle.
        for i in 0..count {
            if builder.met.get(i as usize) == Some(&false) {
                builder.above(i)?;
            }
        }
        let shown = |(node, _): &(&u32, _)| builder.met.get(**node as usize) == Some(&true);
        let threads = builder.running.iter().filter(shown).map(|(_, all)| all.len() as u64).sum();
        let cut = (builder.steps > MOST_STEPS).then(|| format!("only {MOST_STEPS} frames of chains were looked at"));
        let Builder { forest, chains, .. } = builder;
        Ok(Some(Self { forest, threads, suspended: chains, partial: tasks.partial.or(cut) }))
    }
}

/// By node, whether it stands in one of the chains that are shown: all, or those that lead to a method that runs.
fn wanted(tasks: &Tasks, running: &FxHashMap<u32, Vec<(usize, &ThreadStack<'_>)>>, all: bool) -> Vec<bool> {
    let mut wanted = vec![all; tasks.nodes.len()];
    // What nothing awaits is shown by its thread's own stack.
    let awaited = |i: &u32| tasks.nodes.get(*i as usize).is_some_and(|n| !n.next.is_empty());
    let mut work: Vec<u32> = if all { Vec::new() } else { running.keys().copied().filter(awaited).collect() };
    while let Some(i) = work.pop() {
        let (Some(flag), Some(n)) = (wanted.get_mut(i as usize), tasks.nodes.get(i as usize)) else { continue };
        if !std::mem::replace(flag, true) {
            work.extend(&n.next);
        }
    }
    wanted
}

/// The frame of a stack that is a resumed method, counted among its managed ones, and the method's node.
fn on(resumed: &Resumed<'_>, s: &ThreadStack<'_>) -> Option<(usize, u32)> {
    // Frames without a place in a method are left out of `frames`.
    let mut names = Vec::with_capacity(s.stack.frames.len());
    let mut rest = s.frames.iter();
    let managed = |f: &Frame| f.kind == FrameKind::Managed;
    let mut numbers = Vec::with_capacity(s.stack.frames.len());
    let mut number = 0;
    for f in &s.stack.frames {
        numbers.push(number);
        let place = if managed(f) && f.code.is_some() { rest.next() } else { None };
        number += usize::from(place.is_some());
        names.push(place.map_or_else(|| Arc::from(""), |p| p.name.clone()));
    }
    let (frame, node) = resumed.on(s.thread, &s.stack, &names)?;
    Some((*numbers.get(frame)?, node))
}

/// What each node waits for, by number.
struct Awaited {
    first: Vec<u32>,
    all: Vec<u32>,
}

impl Awaited {
    fn of(tasks: &Tasks) -> Self {
        let mut first = vec![0u32; tasks.nodes.len() + 1];
        let edges = || tasks.nodes.iter().zip(0u32..).flat_map(|(n, i)| n.next.iter().map(move |&to| (to as usize, i)));
        for (to, _) in edges() {
            if let Some(n) = first.get_mut(to + 1) {
                *n += 1;
            }
        }
        let mut sum = 0;
        for n in &mut first {
            sum += *n;
            *n = sum;
        }
        let mut place = first.clone();
        let mut all = vec![0; first.last().copied().unwrap_or(0) as usize];
        for (to, from) in edges() {
            if let Some(at) = place.get_mut(to)
                && let Some(slot) = all.get_mut(*at as usize)
            {
                *slot = from;
                *at += 1;
            }
        }
        Self { first, all }
    }

    fn by(&self, node: u32) -> &[u32] {
        let at = |i: usize| self.first.get(i).map_or(0, |&n| n as usize);
        self.all.get(at(node as usize)..at(node as usize + 1)).unwrap_or(&[])
    }
}

struct Builder<'a> {
    session: &'a Session,
    tasks: &'a Tasks,
    awaited: Awaited,
    /// Threads by the method they run, with its frame.
    running: FxHashMap<u32, Vec<(usize, &'a ThreadStack<'a>)>>,
    wanted: Vec<bool>,
    suspended: bool,
    forest: Forest,
    names: FrameNames,
    /// Numbers of names.
    numbers: FxHashMap<Arc<str>, u64>,
    met: Vec<bool>,
    on_path: Vec<bool>,
    chains: u64,
    steps: u64,
}

/// A node to enter above a place, whether a method stands below; or one whose branches are done.
enum Step {
    Enter(u32, usize, bool),
    Leave(u32),
}

impl Builder<'_> {
    fn number(&mut self, name: &Arc<str>) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(name.clone()).or_insert(next)
    }

    /// Adds the chains whose bottom is the node: what it waits for stands above it, and so on.
    fn above(&mut self, bottom: u32) -> Result<()> {
        let mut todo = vec![Step::Enter(bottom, NOTHING, false)];
        while let Some(step) = todo.pop() {
            match step {
                Step::Leave(i) => set(&mut self.on_path, i, false),
                Step::Enter(i, below, method) => {
                    self.steps += 1;
                    if self.steps > MOST_STEPS {
                        return Ok(());
                    }
                    if self.steps.is_multiple_of(4096) {
                        self.session.watch.cancel.check()?;
                    }
                    self.enter(i, below, method, &mut todo);
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, i: u32, below: usize, method: bool, todo: &mut Vec<Step>) {
        if !is(&self.wanted, i) {
            return;
        }
        set(&mut self.met, i, true);
        if self.stands(i, below) {
            return;
        }
        let method = method || self.tasks.nodes.get(i as usize).is_some_and(|n| n.is_method());
        let place = match self.names.of(self.session, self.tasks, i) {
            Some(name) => {
                let number = self.number(&name);
                self.forest.node(below, number, &name)
            }
            None => below,
        };
        set(&mut self.on_path, i, true);
        todo.push(Step::Leave(i));
        let before = todo.len();
        let open = self.awaited.by(i).iter().filter(|&&a| is(&self.wanted, a) && !is(&self.on_path, a));
        todo.extend(open.map(|&a| Step::Enter(a, place, method)));
        if todo.len() == before && method && self.suspended {
            self.forest.waits(place);
            self.chains += 1;
        }
    }

    /// Adds the frames of the threads that run the method of that node; whether there are any.
    fn stands(&mut self, i: u32, below: usize) -> bool {
        let Some(threads) = self.running.get(&i).cloned() else { return false };
        for (frame, s) in threads {
            let frames = s.frames.get(..=frame).unwrap_or(&[]).iter().rev();
            let numbered: Vec<(u64, &Arc<str>)> = frames.map(|f| (self.number(&f.name), &f.name)).collect();
            let place = self.forest.stack(below, numbered.into_iter());
            self.forest.stands(place, s.thread.os_id);
        }
        true
    }
}

fn is(flags: &[bool], i: u32) -> bool {
    flags.get(i as usize).copied().unwrap_or(false)
}

fn set(flags: &mut [bool], i: u32, to: bool) {
    if let Some(flag) = flags.get_mut(i as usize) {
        *flag = to;
    }
}
