//! Tasks and state machines of the heap and who continues whom.
//!
//! Field names: dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs`, `TaskContinuation.cs`,
//! `System/Runtime/CompilerServices/AsyncTaskMethodBuilderT.cs`, `PoolingAsyncValueTaskMethodBuilderT.cs`; 3.1 differs where
//! several names are asked for.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::clr::types::fields::et;
use crate::commands::objects::dumpdelegate::method_of;
use crate::heap::TypeInfo;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::{Out, digits};

/// `Task.m_stateFlags`: ran to completion, faulted or cancelled.
const COMPLETED: i64 = 0x0160_0000;
/// `<>1__state` of a state machine that ran to its end.
const ENDED: i64 = -2;
/// Hops from a continuation to the task or box behind it: wrappers, delegates, lists.
const MAX_HOPS: usize = 16;
/// Most continuations of one task.
const MAX_CONTINUATIONS: u64 = 1 << 20;

/// A task or a state machine's box.
#[derive(Debug)]
pub struct Node {
    /// Address of the object.
    pub address: u64,
    /// Its MethodTable.
    pub mt: u64,
    /// Number of the await a state machine stands at; `None` for a task without one.
    pub state: Option<i64>,
    /// `m_stateFlags`; 0 where there is none.
    pub flags: i64,
    /// Type name: of the state machine, else of the object.
    pub name: std::sync::Arc<str>,
    /// What continues when it completes, by number.
    pub next: Vec<u32>,
}

impl Node {
    /// The method or type a line shows, with the method a task runs.
    pub fn label(&self, session: &Session) -> String {
        let action = match self.state {
            None => session.value(self.address).and_then(|t| t.pointer(&["m_action"])).filter(|&a| a != 0),
            Some(_) => None,
        };
        match (action.and_then(|a| method_of(session, a)), session.clr()) {
            (Some(method), Ok(clr)) => format!("{} {{{}}}", self.name, clr.method_name(&method)),
            _ => self.name.to_string(),
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
        if let Some(s) = self.state {
            return s.to_string();
        }
        let words: Vec<&str> = FLAGS.iter().filter(|f| self.flags & f.0 != 0).map(|f| f.1).collect();
        if words.is_empty() { " ".into() } else { words.join("|") }
    }
}

/// All of them, in the order of the heap.
#[derive(Debug, Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

/// What a type is to this graph.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Nothing,
    Task,
    Box,
}

fn role(clr: &Clr, ty: &TypeInfo) -> Role {
    /// Deepest class hierarchy followed.
    const MAX_PARENTS: usize = 64;
    let mut at = ty.mt.address;
    let mut found = Role::Nothing;
    for _ in 0..MAX_PARENTS {
        if at == 0 || ty.mt.is_array() {
            break;
        }
        let name = clr.type_name(at);
        // `AsyncStateMachineBox`, `DebugFinalizableAsyncStateMachineBox`, and `StateMachineBox` of pooled builders.
        if name.split('<').next().is_some_and(|n| n.starts_with("System.Runtime.CompilerServices."))
            && name.contains("StateMachineBox<")
        {
            return Role::Box;
        }
        if &*name == "System.Threading.Tasks.Task" {
            found = Role::Task;
        }
        at = clr.method_table(at).map_or(0, |m| m.parent);
    }
    found
}

impl Graph {
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
        let mut graph = Self { nodes: Vec::new(), partial: report.sentence() };
        let mut places: FxHashMap<u64, u32> = FxHashMap::default();
        for (address, role) in parts.into_iter().flat_map(|p| p.0) {
            session.watch.cancel.check()?;
            if let Some(node) = node(session, address, role, completed) {
                places.insert(address, graph.nodes.len() as u32);
                graph.nodes.push(node);
            }
        }
        for i in 0..graph.nodes.len() {
            session.watch.cancel.check()?;
            let address = graph.nodes[i].address;
            let next: Vec<u32> =
                continuations(session, address).into_iter().filter_map(|a| places.get(&a).copied()).collect();
            graph.nodes[i].next = next;
        }
        Ok(graph)
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

fn node(session: &Session, address: u64, role: Role, completed: bool) -> Option<Node> {
    let value = session.value(address)?;
    let flags = value.int(&["m_stateFlags"]);
    let machine = if role == Role::Box { state_machine(session, &value) } else { None };
    let state = machine.and_then(|m| m.int(&["<>1__state"]));
    let done = flags.is_some_and(|f| f & COMPLETED != 0) || state == Some(ENDED);
    if done && !completed {
        return None;
    }
    let state = if role == Role::Box { Some(state.unwrap_or(0)) } else { None };
    let name = machine.map_or_else(|| value.type_name(), |m| m.type_name());
    Some(Node { address, mt: value.mt, state, flags: flags.unwrap_or(0), name, next: Vec::new() })
}

/// The state machine in a box: a struct in it, or an object of its own in code compiled for debugging.
fn state_machine<'s>(session: &'s Session, boxed: &Value<'s>) -> Option<Value<'s>> {
    let (element, mt, at) = boxed.typed(&["StateMachine"])?;
    if element.0 == et::STRUCT { session.value_at(mt?, at) } else { boxed.object(&["StateMachine"]) }
}

/// Tasks and boxes that continue when the one at `address` completes.
fn continuations(session: &Session, address: u64) -> Vec<u64> {
    let Some(value) = session.value(address) else { return Vec::new() };
    let mut out = Vec::new();
    if let Some(next) = value.object(&["m_continuationObject"]) {
        resolve(next, address, &mut out);
    } else if let Some(source) = value.inner(&["_valueTaskSource"]) {
        // A pooled box: its source calls the continuation with a state, and one of them leads to the waiting box.
        for name in ["_continuationState", "_continuation"] {
            if let Some(next) = source.object(&[name]) {
                resolve(next, address, &mut out);
            }
        }
    }
    out
}

/// Follows a continuation to the tasks or boxes behind it.
fn resolve(first: Value<'_>, from: u64, out: &mut Vec<u64>) {
    let mut seen: FxHashSet<u64> = FxHashSet::default();
    let mut work = vec![(first, 0)];
    while let Some((value, hops)) = work.pop() {
        let address = value.address();
        if hops > MAX_HOPS || !seen.insert(address) || address == from {
            continue;
        }
        // A task or a box of its own.
        if value.has(&["m_stateFlags"]) || value.has(&["StateMachine"]) {
            if !out.contains(&address) {
                out.push(address);
            }
            continue;
        }
        // A list of continuations.
        if let Some(items) = value.object(&["_items"]).and_then(|a| a.elements()) {
            let count = value.int(&["_size"]).unwrap_or(0).clamp(0, MAX_CONTINUATIONS as i64) as u64;
            let each = (0..count.min(items.count)).rev().filter_map(|i| items.object(i));
            work.extend(each.map(|v| (v, hops + 1)));
            continue;
        }
        // Delegates lead to their target; the wrappers around a continuation to what they wrap.
        const WRAPPED: &[&[&str]] = &[
            &["m_task"],
            &["m_action"],
            &["_target"],
            &["m_continuation", "_continuation"],
            &["m_stateMachine", "_stateMachine"],
        ];
        let next = WRAPPED.iter().find_map(|names| value.object(names)).filter(|n| n.address() != address);
        work.extend(next.map(|n| (n, hops + 1)));
    }
}

/// What the state machine at the top of a stack waits for, when it is no task: address and MethodTable of the object in
/// its awaiter.
pub fn awaited(session: &Session, node: &Node) -> Option<(u64, u64)> {
    let clr = session.clr().ok()?;
    let boxed = session.value(node.address)?;
    let machine = state_machine(session, &boxed)?;
    node.state.filter(|&s| s >= 0)?;
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
            return Some((o.address(), o.mt));
        }
    }
    None
}

/// The fields of the state machine, one a line.
pub fn fields(session: &Session, out: &mut Out, node: &Node, indent: &str) -> Result<()> {
    let clr = session.clr()?;
    let Some(boxed) = session.value(node.address) else { return Ok(()) };
    let Some(machine) = state_machine(session, &boxed) else { return Ok(()) };
    out.line(format!("{indent}  {:>16} {:>16} {:<20} {:>16} Name", "Address", "MT", "Type", "Value"))?;
    for f in &clr.fields(machine.mt).instance {
        let at = machine.data.saturating_add(f.offset());
        let mt = session.field_type(f).unwrap_or(0);
        let ty = f.type_name.as_ref().map_or_else(|| f.element.name().to_owned(), |t| t.display());
        let ty = crate::commands::objects::fieldtable::cut_front(&ty, 20);
        let value = crate::commands::objects::value::text(clr, f.element, at).unwrap_or_else(|| "?".into());
        out.line(format!("{indent}  {at:0w$x} {mt:0w$x} {ty:<20} {value:>16} {}", f.name, w = digits()))?;
    }
    Ok(())
}
