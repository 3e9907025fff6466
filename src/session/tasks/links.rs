//! From a task to what continues when it completes.

use rustc_hash::FxHashSet;

use super::blocked::is_event;
use super::{Session, state_machine};
use crate::session::value::Value;

/// Hops from a continuation to the task or box behind it: wrappers, delegates, lists.
const MAX_HOPS: usize = 16;
/// Most continuations of one task.
const MAX_CONTINUATIONS: u64 = 1 << 20;

/// Tasks, boxes and continuations of runtime-async that continue when the one at `address` completes.
pub fn continuations(session: &Session, address: u64) -> Vec<u64> {
    let Some(value) = session.value(address) else { return Vec::new() };
    let mut found = Found::default();
    // An async iterator promises its next value through a source in its state machine.
    let promised = || state_machine(session, &value)?.inner(&["<>v__promiseOfValueOrEnd"]);
    if let Some(next) = value.object(&["m_continuationObject"]) {
        found.resolve(session, next, address);
    } else if let Some(source) = value.inner(&["_valueTaskSource"]).or_else(promised) {
        // A pooled box: its source calls the continuation with a state, and one of them leads to the waiting box.
        for name in ["_continuationState", "_continuation"] {
            if let Some(next) = source.object(&[name]) {
                found.resolve(session, next, address);
            }
        }
    }
    found.order
}

/// What was met, each once, in the order it was met.
#[derive(Default)]
struct Found {
    order: Vec<u64>,
    known: FxHashSet<u64>,
}

impl Found {
    /// Follows a continuation to the tasks or boxes behind it.
    fn resolve(&mut self, session: &Session, first: Value<'_>, from: u64) {
        let mut seen: FxHashSet<u64> = FxHashSet::default();
        let mut work = vec![(first, 0)];
        while let Some((value, hops)) = work.pop() {
            let address = value.address();
            if hops > MAX_HOPS || !seen.insert(address) || address == from {
                continue;
            }
            // A task, a box of its own, or the head of a chain of suspended methods.
            let end = value.has(&["m_stateFlags"])
                || value.has(&["StateMachine"])
                || is_event(&value)
                || session.clr().is_ok_and(|c| c.continuation(address).is_some());
            if end {
                if self.known.insert(address) {
                    self.order.push(address);
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
            // Delegates lead to what they are called on; the wrappers around a continuation to what they wrap.
            if let Some((clr, d)) = session.clr().ok().and_then(|c| Some((c, c.delegate(address)?))) {
                let receivers = clr.invoked(&d).items.into_iter().rev().filter_map(|d| session.value(d.receiver()?));
                work.extend(receivers.map(|v| (v, hops + 1)));
                continue;
            }
            const WRAPPED: &[&[&str]] = &[
                &["m_task"],
                &["m_action"],
                &["m_continuation", "_continuation"],
                &["m_stateMachine", "_stateMachine"],
            ];
            let next = WRAPPED.iter().find_map(|names| value.object(names)).filter(|n| n.address() != address);
            work.extend(next.map(|n| (n, hops + 1)));
        }
    }
}
