//! Tasks, state machines and suspended methods of the heap, and who continues whom.
//!
//! Field names: dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs`, `TaskContinuation.cs`,
//! `System/Runtime/CompilerServices/AsyncTaskMethodBuilderT.cs`, `PoolingAsyncValueTaskMethodBuilderT.cs`; 3.1 differs where
//! several names are asked for. Since 11.0 methods may be suspended without a state machine: [`suspended`].

mod blocked;
pub mod joined;
mod links;
pub mod method;
mod running;
pub mod suspended;
pub mod variables;

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use self::blocked::Blocked;
use self::links::Links;
use self::running::Running;
use self::suspended::Chains;
use super::Session;
use super::value::Value;
use crate::clr::Clr;
use crate::clr::runtime::continuations::Continuation;
use crate::clr::types::fields::et;
use crate::heap::TypeInfo;

/// `Task.m_stateFlags`: ran to completion, faulted or cancelled.
const COMPLETED: i64 = 0x0160_0000;
/// Whether a task with these `m_stateFlags` is complete.
pub fn is_completed(flags: i64) -> bool {
    flags & COMPLETED != 0
}

/// `<>1__state` of a state machine that ran to its end.
const ENDED: i64 = -2;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task without a method of its own.
    Task,
    /// The box of a state machine, with the number of the await it stands at.
    Machine(i64),
    /// A method of runtime-async that is suspended.
    Suspended(Continuation),
    /// A method of runtime-async that runs, resumed, on a thread.
    Running {
        /// Managed id of the thread.
        thread: u32,
        /// Where on its stack the method's return address stands; 0 when the method itself was not found there.
        slot: u64,
        /// That return address.
        ip: u64,
    },
    /// What a thread waits at until the task completes, with the managed id of the thread where it is known.
    Blocking(Option<u32>),
}

/// A task, a state machine's box, a suspended or running method.
#[derive(Debug)]
pub struct Node {
    /// Address of the object; of a running method its place on the stack.
    pub address: u64,
    /// Its MethodTable; 0 for a running method.
    pub mt: u64,
    /// What it is.
    pub kind: Kind,
    /// `m_stateFlags`; 0 where there is none.
    pub flags: i64,
    /// Type name: of the state machine, else of the object; of a suspended method its name.
    pub name: Arc<str>,
    /// What continues when it completes, by number.
    pub next: Vec<u32>,
}

impl Node {
    /// Whether it is a method, not a task alone.
    pub fn is_method(&self) -> bool {
        !matches!(self.kind, Kind::Task | Kind::Blocking(_))
    }

    /// Number of the await it stands at.
    pub fn state(&self) -> Option<i64> {
        match self.kind {
            Kind::Machine(state) => Some(state),
            Kind::Suspended(c) => Some(c.state.into()),
            Kind::Task | Kind::Running { .. } | Kind::Blocking(_) => None,
        }
    }

    /// The number of the await, or what is set in a task's flags.
    pub fn state_text(&self) -> String {
        /// `TaskStateFlags` worth a word: waiting for activation is what most do.
        const FLAGS: &[(i64, &str)] = &[
            (0x1_0000, "Started"),
            (0x2_0000, "DelegateInvoked"),
            (0x4_0000, "Disposed"),
            (0x8_0000, "ExceptionObservedByParent"),
            (0x10_0000, "CancellationAcknowledged"),
            (0x20_0000, "Faulted"),
            (0x40_0000, "Canceled"),
            (0x80_0000, "WaitingOnChildren"),
            (0x100_0000, "RanToCompletion"),
            (0x400_0000, "CompletionReserved"),
        ];
        if let Kind::Running { thread, .. } = self.kind {
            return format!("running on thread {thread}");
        }
        if let Kind::Blocking(thread) = self.kind {
            return thread.map_or_else(|| "blocks a thread".into(), |t| format!("blocks thread {t}"));
        }
        if let Some(s) = self.state() {
            return s.to_string();
        }
        let words: Vec<&str> = FLAGS.iter().filter(|f| self.flags & f.0 != 0).map(|f| f.1).collect();
        if words.is_empty() { " ".into() } else { words.join("|") }
    }
}

/// All of them, in the order of the heap, suspended methods behind.
#[derive(Debug, Default)]
pub struct Tasks {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Completed ones that were left out.
    pub completed: u64,
    /// Why some may be missing.
    pub partial: Option<String>,
    /// What the first method of a chain awaits where that is no node, by the method's number.
    pub awaited: FxHashMap<u32, Awaited>,
}

/// What is awaited: an object, or words for what has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// The object and its MethodTable.
    Object(u64, u64),
    /// No object is known.
    Words(String),
}

/// What a type is to this graph.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Nothing,
    Task,
    Box,
}

fn role(clr: &Clr, ty: &TypeInfo) -> Role {
    let mut found = Role::Nothing;
    if ty.mt.is_array() {
        return found;
    }
    for class in clr.class_chain(ty.mt.address) {
        let name = clr.type_name(class.address);
        // `AsyncStateMachineBox`, `DebugFinalizableAsyncStateMachineBox`, and `StateMachineBox` of pooled builders.
        if name.split('<').next().is_some_and(|n| n.starts_with("System.Runtime.CompilerServices."))
            && name.contains("StateMachineBox<")
        {
            return Role::Box;
        }
        if &*name == "System.Threading.Tasks.Task" {
            found = Role::Task;
        }
    }
    found
}

impl Tasks {
    /// Reads the heap; completed objects only when asked for.
    pub fn read(session: &Session, completed: bool) -> Result<Self> {
        let (clr, walker) = (session.clr()?, session.walker()?);
        let (parts, report) = walker.parallel(
            &walker.heap.segments,
            |_| (Vec::new(), FxHashMap::default()),
            |(found, roles): &mut (Vec<(u64, Role)>, FxHashMap<u32, Role>), _, o| {
                let role = *roles.entry(o.ty.id).or_insert_with(|| role(clr, o.ty));
                if role != Role::Nothing {
                    found.push((o.address, role));
                }
            },
        )?;
        let mut tasks = Self { partial: report.sentence(), ..Self::default() };
        let mut places: FxHashMap<u64, u32> = FxHashMap::default();
        let mut machines: Vec<(u64, u32)> = Vec::new();
        for (address, role) in parts.into_iter().flat_map(|p| p.0) {
            session.watch.cancel.check()?;
            let Some(node) = node(session, address, role, completed) else {
                tasks.completed += 1;
                continue;
            };
            let number = tasks.nodes.len() as u32;
            places.insert(address, number);
            machines.extend(machine_object(session, &node).map(|m| (m, number)));
            tasks.nodes.push(node);
        }
        let own = places.len();
        // A source of values (an async iterator) is the object of its state machine.
        for (machine, number) in machines {
            places.entry(machine).or_insert(number);
        }
        let chains = tasks.suspended(session, &places)?;
        let mut blocked = Blocked::default();
        let mut links = Links::default();
        for i in 0..own {
            let Some(address) = tasks.nodes.get(i).map(|n| n.address) else { break };
            let ends = links.continuations(session, address)?;
            let known = |a: u64| chains.wakes(a).or_else(|| places.get(&a).copied());
            let next: Vec<u32> =
                ends.into_iter().filter_map(|a| known(a).or_else(|| blocked.node(&mut tasks, session, a))).collect();
            if let Some(node) = tasks.nodes.get_mut(i) {
                node.next = next;
            }
        }
        blocked.find_threads(&mut tasks, session)?;
        tasks.because(links.partial());
        tasks.nodes.iter_mut().for_each(|n| dedup(&mut n.next));
        tasks.leave_out_what_has_a_node();
        Ok(tasks)
    }

    /// Adds the methods of runtime-async that are suspended or running, each chain from what is awaited to its task.
    fn suspended(&mut self, session: &Session, places: &FxHashMap<u64, u32>) -> Result<Chains> {
        let mut chains = Chains::default();
        let running = Running::of(session);
        for i in 0..self.nodes.len() as u32 {
            session.watch.cancel.check()?;
            let Some(node) = self.nodes.get(i as usize).filter(|n| n.kind == Kind::Task) else { continue };
            let task = node.address;
            let completed = node.flags & COMPLETED != 0;
            match running.on(task).filter(|_| !completed) {
                Some(run) => chains.run(self, session, i, run),
                None => chains.suspend(self, session, i, places),
            }
        }
        self.because(running.partial);
        self.because(chains.partial.take());
        Ok(chains)
    }

    fn because(&mut self, why: Option<String>) {
        let Some(why) = why else { return };
        let before = self.partial.take();
        self.partial = Some(before.map_or(why.clone(), |b| format!("{b}; {why}")));
    }

    /// What is awaited is said beside a chain only where it is not its top.
    fn leave_out_what_has_a_node(&mut self) {
        let mut continued = vec![false; self.nodes.len()];
        for &n in self.nodes.iter().flat_map(|n| &n.next) {
            if let Some(flag) = continued.get_mut(n as usize) {
                *flag = true;
            }
        }
        self.awaited.retain(|&i, _| !continued.get(i as usize).copied().unwrap_or(false));
    }

    /// Nodes that continue nothing: the tops of the stacks. Of a circle, its first node.
    pub fn roots(&self) -> Vec<u32> {
        let mut continued = vec![false; self.nodes.len()];
        for (i, n) in self.nodes.iter().enumerate() {
            for &c in n.next.iter().filter(|&&c| c as usize != i) {
                if let Some(flag) = continued.get_mut(c as usize) {
                    *flag = true;
                }
            }
        }
        let mut roots: Vec<u32> = (0..self.nodes.len() as u32).filter(|&i| !continued[i as usize]).collect();
        let mut reached = vec![false; self.nodes.len()];
        roots.iter().for_each(|&r| self.mark(r, &mut reached));
        for i in 0..self.nodes.len() as u32 {
            if !reached[i as usize] {
                roots.push(i);
                self.mark(i, &mut reached);
            }
        }
        roots
    }

    fn mark(&self, from: u32, reached: &mut [bool]) {
        let mut work = vec![from];
        while let Some(i) = work.pop() {
            let (Some(flag), Some(n)) = (reached.get_mut(i as usize), self.nodes.get(i as usize)) else { continue };
            if !std::mem::replace(flag, true) {
                work.extend(&n.next);
            }
        }
    }
}

/// Keeps the first of equals.
fn dedup(list: &mut Vec<u32>) {
    if list.len() > 1 {
        let mut seen = rustc_hash::FxHashSet::default();
        list.retain(|i| seen.insert(*i));
    }
}

fn node(session: &Session, address: u64, role: Role, completed: bool) -> Option<Node> {
    let value = session.value(address)?;
    let flags = value.int(&["m_stateFlags"]);
    let machine = if role == Role::Box { state_machine(session, &value) } else { None };
    let state = machine.and_then(|m| m.int(&["<>1__state"]));
    let done = flags.is_some_and(|f| f & COMPLETED != 0) || state == Some(ENDED);
    if done && !completed {
        return None;
    }
    let kind = if role == Role::Box { Kind::Machine(state.unwrap_or(0)) } else { Kind::Task };
    let name = machine.map_or_else(|| value.type_name(), |m| m.type_name());
    Some(Node { address, mt: value.mt, kind, flags: flags.unwrap_or(0), name, next: Vec::new() })
}

/// The object of the state machine in a box, where it is one of its own.
fn machine_object(session: &Session, node: &Node) -> Option<u64> {
    let boxed = session.value(node.address).filter(|_| matches!(node.kind, Kind::Machine(_)))?;
    let (element, _, at) = boxed.typed(&["StateMachine"])?;
    session.clr().ok()?.space().ptr(at).filter(|&m| element.0 != et::STRUCT && m != 0)
}

/// The state machine in a box: a struct in it, or an object of its own in code compiled for debugging.
pub fn state_machine<'s>(session: &'s Session, boxed: &Value<'s>) -> Option<Value<'s>> {
    let (element, mt, at) = boxed.typed(&["StateMachine"])?;
    if element.0 == et::STRUCT { session.value_at(mt?, at) } else { boxed.object(&["StateMachine"]) }
}

impl Tasks {
    /// What the method at the top of a stack waits for, where that is not the stack's first line.
    pub fn awaited_by(&self, session: &Session, i: u32) -> Option<Awaited> {
        let node = self.nodes.get(i as usize)?;
        match node.kind {
            Kind::Machine(state) if state >= 0 => awaited_by_machine(session, node),
            _ => self.awaited.get(&i).cloned(),
        }
    }
}

/// What a state machine waits for, when it is no task: the object in its awaiter.
fn awaited_by_machine(session: &Session, node: &Node) -> Option<Awaited> {
    let clr = session.clr().ok()?;
    let boxed = session.value(node.address)?;
    let machine = state_machine(session, &boxed)?;
    let fields = clr.fields(machine.mt);
    let awaiters = fields.instance.iter().filter(|f| f.name.starts_with("<>u__"));
    for f in awaiters {
        let at = machine.data.checked_add(f.offset())?;
        let object = match f.element.0 {
            // The first reference in the awaiter.
            et::STRUCT => {
                let mt = session.field_type(f)?;
                let inner = clr.fields(mt);
                let reference = inner.instance.iter().find(|i| i.element.is_reference())?;
                clr.space().ptr(at.checked_add(reference.offset())?)
            }
            _ => clr.space().ptr(at),
        };
        if let Some(o) = object.filter(|&o| o != 0).and_then(|o| session.value(o)) {
            return Some(Awaited::Object(o.address(), o.mt));
        }
    }
    None
}
