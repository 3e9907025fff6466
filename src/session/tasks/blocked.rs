//! Threads that block until a task completes: what they wait at is a continuation of the task.
//!
//! Source: dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs`: `SetOnInvokeMres` (`Wait`, `Result`, `GetResult`) and
//! `SetOnCountdownMres` (`WaitAll`) are events that the task sets. The thread itself keeps them on its stack alone.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::{Kind, Node, Tasks};
use crate::session::Session;
use crate::session::value::Value;

/// How the names of these events begin.
const EVENTS: &str = "System.Threading.Tasks.Task+SetOn";

/// Whether a continuation is such an event.
pub(super) fn is_event(value: &Value<'_>) -> bool {
    value.has(&["m_combinedState", "_combinedState"]) && value.type_name().starts_with(EVENTS)
}

/// The events met so far, by address, with their nodes.
#[derive(Default)]
pub(super) struct Blocked(FxHashMap<u64, u32>);

impl Blocked {
    /// The node of the event at `address`; `None` when it is none.
    pub(super) fn node(&mut self, tasks: &mut Tasks, session: &Session, address: u64) -> Option<u32> {
        if let Some(&number) = self.0.get(&address) {
            return Some(number);
        }
        let value = session.value(address).filter(is_event)?;
        let number = u32::try_from(tasks.nodes.len()).ok()?;
        let (mt, name): (u64, Arc<str>) = (value.mt, value.type_name());
        tasks.nodes.push(Node { address, mt, kind: Kind::Blocking(None), flags: 0, name, next: Vec::new() });
        self.0.insert(address, number);
        Some(number)
    }

    /// Finds the threads that wait: an event that stands on one stack alone is what that thread waits at.
    pub(super) fn find_threads(&self, tasks: &mut Tasks, session: &Session) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let clr = session.clr()?;
        let mut owners: FxHashMap<u32, Option<u32>> = FxHashMap::default();
        for t in &clr.threads().items {
            session.watch.cancel.check()?;
            let Some(native) = session.dump().thread_of(t.os_id) else { continue };
            for number in session.dump().held_by(native).filter_map(|word| self.0.get(&word)) {
                let owner = owners.entry(*number).or_insert(Some(t.managed_id));
                *owner = owner.filter(|&o| o == t.managed_id);
            }
        }
        for (number, owner) in owners {
            if let Some(node) = tasks.nodes.get_mut(number as usize) {
                node.kind = Kind::Blocking(owner);
            }
        }
        Ok(())
    }
}
