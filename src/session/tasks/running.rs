//! Methods of runtime-async that run: each thread's record of the chain it continues.
//!
//! Source: dotnet/runtime `AsyncHelpers.CoreCLR.cs` as of 11.0.0, `AsyncDispatcherInfo`: a record on the stack of the
//! dispatching loop, found by the thread static `t_current`: next record, the continuation that is called *after* the
//! running method, its task. The running method itself is only on the stack: below the loop stands the stub that resumes
//! it, below that the method.

use rustc_hash::FxHashMap;

use super::Session;
use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;

/// Records of one thread: dispatching loops that nest; more say so.
const MAX_RECORDS: usize = 1 << 12;
/// Bytes of the stack below a record that are looked through for the method it runs.
const MAX_STACK: u64 = 1 << 20;

/// A method that runs.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Managed id of its thread.
    pub managed_id: u32,
    /// The continuation called next, 0 for none.
    pub next: u64,
    /// Where its return address stands, 0 when it was not found.
    pub slot: u64,
    /// That address: a place in the method's code.
    pub ip: u64,
}

/// All running ones, by their task.
#[derive(Debug, Default)]
pub struct Running {
    by_task: FxHashMap<u64, Run>,
    /// Why some may be missing.
    pub partial: Option<String>,
}

impl Running {
    /// Reads the threads' records.
    pub fn of(session: &Session) -> Self {
        let mut all = Self::default();
        let Ok(clr) = session.clr() else { return all };
        let cells = session.thread_static_cells("System.Runtime.CompilerServices.AsyncDispatcherInfo", "t_current");
        for (thread, cell) in cells {
            let mut record = clr.space().ptr(cell).unwrap_or(0);
            let native = session.dump().thread_of(thread.os_id);
            let mut lowest = native.and_then(|t| t.registers.as_ref()).map_or(0, |r| r.sp);
            let mut left = MAX_RECORDS;
            while let Some((outer, next, task)) = fields(clr, record).filter(|_| record != 0) {
                let (slot, ip) = running_method(clr, lowest, record).unwrap_or((0, 0));
                all.by_task.entry(task).or_insert(Run { managed_id: thread.managed_id, next, slot, ip });
                // Outer loops lie nearer to the beginning of the stack.
                if outer <= record {
                    break;
                }
                (lowest, record) = (record, outer);
                left -= 1;
                if left == 0 {
                    let id = thread.managed_id;
                    all.partial =
                        Some(format!("thread {id} has more than {MAX_RECORDS} loops that run methods in one another"));
                    break;
                }
            }
        }
        all
    }

    /// The method that runs for the task.
    pub fn on(&self, task: u64) -> Option<&Run> {
        self.by_task.get(&task)
    }
}

/// Next record, next continuation, task.
fn fields(clr: &Clr, record: u64) -> Option<(u64, u64, u64)> {
    let word = |i: u64| clr.space().ptr_at(record, i * clr.header());
    Some((word(0)?, word(1)?, word(2)?))
}

/// The method that the dispatching loop with the record called: from the record downwards the loop's callee returns into
/// the loop, the method into the stub that resumes it, and what the method called into the method.
fn running_method(clr: &Clr, lowest: u64, record: u64) -> Option<(u64, u64)> {
    let ptr = clr.header();
    let from = lowest.max(record.saturating_sub(MAX_STACK)).next_multiple_of(ptr);
    let mut slot = record.checked_sub(ptr)? / ptr * ptr;
    let mut expected = Expected::Loop;
    while slot >= from && slot != 0 {
        let value = clr.space().ptr(slot)?;
        if let Some(at) = clr.code().at(value) {
            expected = match expected {
                Expected::Loop if is_loop(clr, &at) => Expected::Stub,
                Expected::Stub if at.token.is_none() && at.method.is_some() => Expected::Method,
                Expected::Method if at.token.is_some() => return Some((slot, value)),
                other => other,
            };
        }
        slot = slot.checked_sub(ptr)?;
    }
    None
}

/// Whether the code is the dispatching loop's.
fn is_loop(clr: &Clr, at: &CodeAt) -> bool {
    let name = clr.code().name(at).unwrap_or_default();
    name.split('(').next().is_some_and(|n| n.ends_with(".DispatchContinuations"))
}

/// What is looked for next.
#[derive(Clone, Copy)]
enum Expected {
    Loop,
    Stub,
    Method,
}
