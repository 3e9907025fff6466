//! Which method of a thread's stack was resumed, and what it is called where stacks of threads and of suspended methods
//! stand together.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Kind, Tasks, state_machine};
use crate::clr::Clr;
use crate::clr::code::stack::{FrameKind, Stack};
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;

/// Frames from a state machine's method to the code that holds its box.
const TO_THE_BOX: usize = 4;

/// Whether code of that name resumes async methods: frames above it are not called by what awaits them.
pub fn resumes(name: &str) -> bool {
    let name = name.split('(').next().unwrap_or(name);
    name.contains("StateMachineBox`1[[") || name.ends_with(".DispatchContinuations")
}

/// Resumed methods by where they are found.
pub struct Resumed<'a> {
    session: &'a Session,
    clr: &'a Clr,
    tasks: &'a Tasks,
    /// Boxes of state machines by address, sorted, with their nodes.
    boxes: Vec<(u64, u32)>,
    /// Methods of runtime-async by the managed id of their thread and their return address.
    running: FxHashMap<(u32, u64), Vec<(u64, u32)>>,
}

impl<'a> Resumed<'a> {
    /// Of the methods among `tasks`.
    pub fn new(session: &'a Session, clr: &'a Clr, tasks: &'a Tasks) -> Self {
        let mut boxes = Vec::new();
        let mut running: FxHashMap<(u32, u64), Vec<(u64, u32)>> = FxHashMap::default();
        for (node, i) in tasks.nodes.iter().zip(0..) {
            match node.kind {
                Kind::Machine(_) => boxes.push((node.address, i)),
                Kind::Running { thread, slot, ip } => running.entry((thread, ip)).or_default().push((slot, i)),
                _ => {}
            }
        }
        boxes.sort_unstable();
        Self { session, clr, tasks, boxes, running }
    }

    /// The newest frame of the stack that is a resumed method, and its node. `names`: of the frames.
    pub fn on(&self, thread: &ClrThread, stack: &Stack, names: &[Arc<str>]) -> Option<(usize, u32)> {
        let last = names.iter().rposition(|n| resumes(n))?;
        let mut live = None;
        for (i, frame) in stack.frames.iter().enumerate().take(last) {
            if frame.kind != FrameKind::Managed {
                continue;
            }
            let at = self.running.get(&(thread.managed_id, frame.ip));
            let behind = frame.sp.wrapping_sub(self.clr.header());
            // One return address may stand on a stack several times.
            let alone = |all: &Vec<(u64, u32)>| all.first().copied().filter(|_| all.len() == 1);
            let found = at.and_then(|all| all.iter().copied().find(|r| r.0 == behind).or_else(|| alone(all)));
            if let Some((_, node)) = found {
                return Some((i, node));
            }
            let name = names.get(i).map_or("", |n| n);
            if let Some(class) = name.strip_suffix(".MoveNext()") {
                let live: &Vec<(usize, u64)> = live.get_or_insert_with(|| self.held(thread));
                let near = live.get(live.partition_point(|s| s.0 < i)..).unwrap_or(&[]);
                let near = near.iter().take_while(|s| s.0 <= i + TO_THE_BOX);
                if let Some(node) = near.filter_map(|s| self.machine(s.1)).find(|&n| self.is_of(n, class)) {
                    return Some((i, node));
                }
            }
        }
        None
    }

    /// What the frames of the thread hold: number of the frame and value, sorted.
    fn held(&self, thread: &ClrThread) -> Vec<(usize, u64)> {
        let slots = self.clr.live_slots(thread).slots;
        let mut all: Vec<(usize, u64)> = slots.iter().filter(|s| s.value != 0).map(|s| (s.frame, s.value)).collect();
        all.sort_unstable();
        all
    }

    /// The box at `value`, or whose state machine `value` points to.
    fn machine(&self, value: u64) -> Option<u32> {
        let last = self.boxes.partition_point(|b| b.0 <= value).checked_sub(1)?;
        let &(address, node) = self.boxes.get(last)?;
        let inside = || {
            let boxed = self.session.value(address)?;
            Some(state_machine(self.session, &boxed)?.data == value)
        };
        (address == value || inside() == Some(true)).then_some(node)
    }

    /// Whether the state machine of the box is of the class of that name, whatever its type arguments.
    fn is_of(&self, node: u32, class: &str) -> bool {
        let plain = |name: &str| name.split('[').next().unwrap_or_default().to_owned();
        let machine =
            || state_machine(self.session, &self.session.value(self.tasks.nodes.get(node as usize)?.address)?);
        machine().is_some_and(|m| plain(&self.clr.type_name_long(m.mt)) == plain(class))
    }
}

/// Names of nodes as frames of stacks have them.
#[derive(Default)]
pub struct FrameNames {
    by_type: FxHashMap<u64, Arc<str>>,
}

impl FrameNames {
    /// The name of the method that is node `i`, or of the task or what waits; `None` for tasks that only stand for a method
    /// beside them.
    pub fn of(&mut self, session: &Session, tasks: &Tasks, i: u32) -> Option<Arc<str>> {
        /// Its methods stand in nodes of their own.
        const RUNTIME_ASYNC: &str = "System.Runtime.CompilerServices.AsyncHelpers+RuntimeAsyncTask<";
        let node = tasks.nodes.get(i as usize)?;
        let full = |method: &super::method::AsyncMethod| match method.long_name.is_empty() {
            true => method.label(),
            false => Arc::from(method.long_name.as_str()),
        };
        Some(match node.kind {
            Kind::Task if node.name.starts_with(RUNTIME_ASYNC) => return None,
            Kind::Task => node.name.clone(),
            Kind::Machine(_) => {
                let known = self.by_type.entry(node.mt);
                let read = || {
                    let machine = state_machine(session, &session.value(node.address)?)?;
                    Some(Arc::from(format!("{}.MoveNext()", session.clr().ok()?.type_name_long(machine.mt))))
                };
                known.or_insert_with(|| read().unwrap_or_else(|| node.name.clone())).clone()
            }
            Kind::Suspended(c) => session.suspended_method(&c).map_or_else(|| node.name.clone(), |m| full(&m)),
            Kind::Running { ip: 0, .. } => node.name.clone(),
            Kind::Running { ip, .. } => full(&session.async_method_at(ip)),
            Kind::Blocking(Some(thread)) => Arc::from(format!("(thread {thread} waits)")),
            Kind::Blocking(None) => Arc::from("(a thread waits)"),
        })
    }
}
