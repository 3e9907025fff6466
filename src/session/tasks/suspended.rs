//! Methods of runtime-async (11.0): a task's chain of continuations, innermost first, and the methods they belong to.
//!
//! Source: dotnet/runtime `System.Private.CoreLib/src/System/Runtime/CompilerServices/AsyncHelpers.CoreCLR.cs` as of 11.0.0:
//! `RuntimeAsyncTask` keeps the head of its chain in `m_stateObject`; a head made by hand stands for no method and says
//! what is awaited (`RuntimeAsyncTaskContinuation.Task`, `ValueTaskSourceContinuation.Source`). Direct calls between such
//! methods make no task in between: one chain, one task.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::running::Run;
use super::{Awaited, Kind, Node, Tasks};
use crate::clr::runtime::continuations::Continuation;
use crate::session::Session;

/// Longest chain followed; a longer one says so.
const MAX_CHAIN: usize = 1 << 24;

/// The chains found so far.
#[derive(Default)]
pub struct Chains {
    /// The node to continue with, by the task of a chain and by each continuation of it.
    first: FxHashMap<u64, u32>,
    /// What was left out, with the reason.
    pub partial: Option<String>,
}

impl Chains {
    /// The method that continues when the one at `address`, a continuation or the task of a chain, is called.
    pub fn wakes(&self, address: u64) -> Option<u32> {
        self.first.get(&address).copied()
    }

    /// Adds the suspended methods of the task that is node `i`, if it has any.
    pub fn suspend(&mut self, tasks: &mut Tasks, session: &Session, i: u32, places: &FxHashMap<u64, u32>) {
        let Some(task) = tasks.nodes.get(i as usize).map(|n| n.address) else { return };
        let head = session.value(task).and_then(|t| t.pointer(&["m_stateObject"])).unwrap_or(0);
        self.chain(tasks, session, head, i);
        let Some(&first) = self.first.get(&head).filter(|&&first| first != i) else { return };
        self.first.insert(task, first);
        let awaits = head_awaits(session, head).unwrap_or_else(|| awaits_without_head(session, task, head));
        // The awaited object may be a node that does not know who waits: a list of its own, a source of values.
        if let Awaited::Object(object, _) = awaits
            && let Some(&place) = places.get(&object)
            && let Some(node) = tasks.nodes.get_mut(place as usize)
        {
            node.next.push(first);
        }
        tasks.awaited.insert(first, awaits);
    }

    /// Adds the running method of the task that is node `i`, and those that wait for it.
    pub(super) fn run(&mut self, tasks: &mut Tasks, session: &Session, i: u32, run: &Run) {
        let Some(task) = tasks.nodes.get(i as usize).map(|n| n.address) else { return };
        self.chain(tasks, session, run.next, i);
        let after = self.first.get(&run.next).copied().unwrap_or(i);
        let name = match run.ip {
            0 => Arc::from("a method resumed on this thread"),
            ip => session.async_method_at(ip).label(),
        };
        let kind = Kind::Running { thread: run.managed_id, slot: run.slot, ip: run.ip };
        let number = tasks.nodes.len() as u32;
        tasks.nodes.push(Node { address: run.slot, mt: 0, kind, flags: 0, name, next: vec![after] });
        self.first.insert(task, number);
    }

    /// Adds the methods of the chain from `head` on; the last of them is awaited through the task that is node `end`.
    fn chain(&mut self, tasks: &mut Tasks, session: &Session, head: u64, end: u32) {
        let Ok(clr) = session.clr() else { return };
        let (mut at, mut seen, mut before) = (head, FxHashSet::default(), Vec::new());
        let mut last: Option<u32> = None;
        while at != 0 {
            if seen.len() >= MAX_CHAIN || !seen.insert(at) {
                self.because(format!("the chain of continuations at {head:x} runs in a circle or is too long"));
                break;
            }
            let Some(c) = clr.continuation(at) else {
                if at != head {
                    self.because(format!("the continuation {at:x} is not in the dump or is none"));
                }
                break;
            };
            before.push(at);
            if let Some(number) = add(tasks, session, &c) {
                match last.and_then(|l| tasks.nodes.get_mut(l as usize)) {
                    Some(node) => node.next.push(number),
                    None => self.first.extend(before.drain(..).map(|b| (b, number))),
                }
                self.first.insert(at, number);
                last = Some(number);
            }
            at = c.next;
        }
        match last.and_then(|l| tasks.nodes.get_mut(l as usize)) {
            Some(node) => node.next.push(end),
            // Heads alone: whoever calls them completes the task.
            None => self.first.extend(before.drain(..).map(|b| (b, end))),
        }
    }

    fn because(&mut self, why: String) {
        self.partial.get_or_insert(why);
    }
}

/// Adds the node of a continuation that stands for a method.
fn add(tasks: &mut Tasks, session: &Session, c: &Continuation) -> Option<u32> {
    let method = session.suspended_method(c)?;
    let number = tasks.nodes.len() as u32;
    let (kind, name) = (Kind::Suspended(*c), method.label());
    tasks.nodes.push(Node { address: c.address, mt: c.mt, kind, flags: 0, name, next: Vec::new() });
    Some(number)
}

/// What a head made by hand awaits.
fn head_awaits(session: &Session, head: u64) -> Option<Awaited> {
    let value = session.value(head)?;
    let object = value.object(&["Task"]).or_else(|| value.object(&["Source"]))?;
    Some(Awaited::Object(object.address(), object.mt))
}

/// A chain whose head is a method was given to an awaiter of its own as a delegate. The awaiter is a variable of the
/// method: it is known by what the compiler calls on it.
fn awaits_without_head(session: &Session, task: u64, head: u64) -> Awaited {
    let action = session.value(task).and_then(|t| t.pointer(&["m_action"])).unwrap_or(0);
    if action == 0 {
        return Awaited::Words("unknown".into());
    }
    let kept = || Some(session.kept_variables(&session.clr().ok()?.continuation(head)?));
    let awaiter = kept().unwrap_or_default().into_iter().map(|v| v.type_name).find(|ty| is_awaiter(session, ty));
    Awaited::Words(awaiter.map_or_else(|| "custom awaiter".into(), |ty| format!("custom awaiter {ty}")))
}

/// Whether the type has the members of an awaiter.
fn is_awaiter(session: &Session, name: &str) -> bool {
    let (Ok(clr), Ok(types)) = (session.clr(), session.find_types(name)) else { return false };
    let Some(mt) = types.first().and_then(|&mt| clr.method_table(mt)) else { return false };
    let methods = clr.methods(&mt).items;
    ["GetResult", "get_IsCompleted"]
        .iter()
        .all(|&wanted| methods.iter().any(|m| clr.method_simple_name(m).as_deref() == Some(wanted)))
}
