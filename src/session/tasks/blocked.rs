//! Threads that block until a task completes: what they wait at is a continuation of the task.
//!
//! Source: dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs`: `SetOnInvokeMres` (`Wait`, `Result`, `GetResult`) and
//! `SetOnCountdownMres` (`WaitAll`) are events that the task sets. The thread itself keeps them on its stack alone.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::{Kind, Node, Tasks};
use crate::clr::Clr;
use crate::dump::Thread;
use crate::session::Session;
use crate::session::value::Value;

/// How the names of these events begin.
const EVENTS: &str = "System.Threading.Tasks.Task+SetOn";
/// Longest part of a stack looked through, in bytes.
const MAX_STACK: u64 = 64 << 20;

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
        for t in clr.threads().items.iter().filter(|t| t.os_id != 0) {
            session.watch.cancel.check()?;
            let Some(native) = session.dump().threads.iter().find(|n| n.os_id == t.os_id) else { continue };
            words(clr, native, |word| {
                if let Some(&number) = self.0.get(&word) {
                    let owner = owners.entry(number).or_insert(Some(t.managed_id));
                    *owner = owner.filter(|&o| o == t.managed_id);
                }
            });
        }
        for (number, owner) in owners {
            if let Some(node) = tasks.nodes.get_mut(number as usize) {
                node.kind = Kind::Blocking(owner);
            }
        }
        Ok(())
    }
}

/// Calls `on` with the registers of a thread and the words of its stack.
fn words(clr: &Clr, native: &Thread, mut on: impl FnMut(u64)) {
    let Some(registers) = &native.registers else { return };
    registers.general.iter().for_each(|r| on(r.1));
    let (Some((low, high)), ptr) = (native.stack, clr.header()) else { return };
    let Some(mut at) = registers.sp.max(low).checked_next_multiple_of(ptr) else { return };
    let end = high.min(at.saturating_add(MAX_STACK));
    while at < end {
        if let Some(word) = clr.space().ptr(at) {
            on(word);
            at = at.saturating_add(ptr);
            continue;
        }
        match clr.space().next_readable(at).and_then(|n| n.checked_next_multiple_of(ptr)) {
            Some(next) if next > at => at = next,
            _ => return,
        }
    }
}
