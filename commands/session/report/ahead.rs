//! What the sections of a report share, made ahead and side by side: much of it keeps one core busy alone.

use std::thread;

use anyhow::Result;

use super::{icicle, treemap};
use crate::commands::graph::leaks::{self, Limits};
use crate::session::Session;

/// Objects of a heap up to which parts are made side by side: what is, is in memory at once.
const MOST_OBJECTS: u32 = 1 << 26;

/// Makes it. What fails fails again where it is asked for, and is told there.
pub fn make(session: &Session) {
    let _ = shared(session);
}

fn shared(session: &Session) -> Result<()> {
    session.clr()?;
    if session.heap()?.in_gc || session.index()?.ids.len() > MOST_OBJECTS {
        return Ok(());
    }
    // Plain threads, not tasks of the pool: one that waits for the pool must not begin another part in between.
    thread::scope(|s| {
        s.spawn(|| session.roots().is_ok());
        session.reverse()
    })?;
    thread::scope(|s| {
        s.spawn(|| session.holders().is_ok() && session.stat().is_ok() && session.native_heaps().is_ok());
        session.dominators()
    })?;
    session.live_types()?;
    thread::scope(|s| {
        s.spawn(|| icicle::chart(session).is_ok());
        s.spawn(|| treemap::chart(session).is_ok());
        leaks::find(session, &Limits::default())
    })?;
    Ok(())
}
