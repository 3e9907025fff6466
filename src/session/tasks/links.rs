//! From a task to what continues when it completes.

use rustc_hash::FxHashSet;

use super::blocked::is_event;
use super::{Session, state_machine};
use crate::session::value::Value;
use crate::watch::Interrupted;

/// Most objects looked at on the ways from all tasks to what continues them, which says so: each has a wrapper or two, unless
/// the lists of a damaged dump are one another's.
const MAX_STEPS: u64 = 1 << 30;
/// Steps between two looks at Ctrl-C.
const CHECK_EVERY: u64 = 1 << 12;

/// Follows the continuations of tasks.
#[derive(Default)]
pub struct Links {
    steps: u64,
}

impl Links {
    /// Why some continuations may be missing.
    pub fn partial(&self) -> Option<String> {
        (self.steps > MAX_STEPS).then(|| format!("only {MAX_STEPS} continuations of tasks were followed"))
    }

    /// Tasks, boxes and continuations of runtime-async that continue when the one at `address` completes.
    pub fn continuations(&mut self, session: &Session, address: u64) -> Result<Vec<u64>, Interrupted> {
        let found = Found { steps: self.steps, ..Found::default() };
        let found = found.of(session, address);
        self.steps = found.steps;
        session.watch.cancel.check()?;
        Ok(found.order)
    }
}

/// What was met, each once, in the order it was met.
#[derive(Default)]
struct Found {
    order: Vec<u64>,
    known: FxHashSet<u64>,
    steps: u64,
}

impl Found {
    /// What continues when the one at `address` completes.
    fn of(mut self, session: &Session, address: u64) -> Self {
        let Some(value) = session.value(address) else { return self };
        let found = &mut self;
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
        self
    }

    /// Follows a continuation to the tasks or boxes behind it.
    fn resolve(&mut self, session: &Session, first: Value<'_>, from: u64) {
        let mut seen: FxHashSet<u64> = FxHashSet::default();
        let mut work = vec![first];
        while let Some(value) = work.pop() {
            self.steps += 1;
            let stop = self.steps.is_multiple_of(CHECK_EVERY) && session.watch.cancel.is_set();
            if self.steps > MAX_STEPS || stop {
                return;
            }
            let address = value.address();
            if !seen.insert(address) || address == from {
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
                let count = value.int(&["_size"]).unwrap_or(0).max(0) as u64;
                // A list is no longer than what of it is in the dump.
                let before = work.len();
                let there = |i: &u64| items.place(*i).is_some_and(|at| session.dump().space.readable(at));
                work.extend((0..count.min(items.count)).take_while(there).filter_map(|i| items.object(i)));
                self.steps += (work.len() - before) as u64;
                work.get_mut(before..).unwrap_or(&mut []).reverse();
                continue;
            }
            // Delegates lead to what they are called on; the wrappers around a continuation to what they wrap.
            if let Some((clr, d)) = session.clr().ok().and_then(|c| Some((c, c.delegate(address)?))) {
                let receivers = clr.invoked(&d).items.into_iter().rev().filter_map(|d| session.value(d.receiver()?));
                work.extend(receivers);
                continue;
            }
            const WRAPPED: &[&[&str]] = &[
                &["m_task"],
                &["m_action"],
                &["m_continuation", "_continuation"],
                &["m_stateMachine", "_stateMachine"],
            ];
            let next = WRAPPED.iter().find_map(|names| value.object(names)).filter(|n| n.address() != address);
            work.extend(next);
        }
    }
}
