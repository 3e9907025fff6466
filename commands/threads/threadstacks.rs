//! The managed stacks of all threads, with names.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::clr::code::stack::{Frame, Stack};
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;

/// One frame of a stack: the place, and the method by where its code begins.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the method's code begins.
    pub start: u64,
    /// Return address, or where the thread stands.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// The method.
    pub name: Arc<str>,
    /// Whether that is its name, not where its code begins.
    pub named: bool,
}

/// The managed frames of a thread, the newest first.
pub struct ThreadStack<'a> {
    /// The thread.
    pub thread: &'a ClrThread,
    /// The whole stack.
    pub stack: Arc<Stack>,
    /// Its managed frames that lie in a method.
    pub frames: Vec<Place>,
}

/// Stacks of all threads that have managed frames; why some may be missing.
pub fn stacks(session: &Session) -> Result<(Vec<ThreadStack<'_>>, Option<String>)> {
    let clr = session.clr()?;
    let mut names: FxHashMap<(u64, u64), (Arc<str>, bool)> = FxHashMap::default();
    let mut partial = clr.threads().partial.clone();
    let mut all = Vec::new();
    for thread in clr.threads().items.iter().filter(|t| t.os_id != 0) {
        session.watch.cancel.check()?;
        let stack = clr.stack(thread);
        if let Some(why) = stack.partial.as_ref().filter(|_| partial.is_none()) {
            partial = Some(format!("thread {:x}: {why}", thread.os_id));
        }
        let place = |f: &Frame| {
            let at = f.code.as_ref()?;
            let key = (at.start, at.method.unwrap_or(0));
            let look_up = || match clr.code().name(at) {
                Some(name) => (name.into(), true),
                None => (format!("method at {:x}", at.start).into(), false),
            };
            let (name, named) = names.entry(key).or_insert_with(look_up).clone();
            Some(Place { start: at.start, ip: f.ip, sp: f.sp, name, named })
        };
        let frames: Vec<Place> = stack.managed().filter_map(place).collect();
        if !frames.is_empty() {
            all.push(ThreadStack { thread, stack, frames });
        }
    }
    Ok((all, partial))
}
