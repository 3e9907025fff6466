//! What keeps what alive: commands over the object graph.

pub mod diff;
pub mod dominators;
pub mod held;
pub mod leaks;
pub mod refs;
pub mod retained;

use anyhow::{Result, bail};

use crate::session::Session;
use crate::shell::Outcome;

/// Id of the object that starts at `address`.
fn id_of(session: &Session, address: u64) -> Result<u32> {
    match session.index()?.ids.id_of(address) {
        Some(id) => Ok(id),
        None => check_object(session, address).and_then(|()| bail!("the object at {address:x} has no number")),
    }
}

/// Refuses what is no object.
fn check_object(session: &Session, address: u64) -> Result<()> {
    if session.is_object(address)? {
        return Ok(());
    }
    super::objects::dumpobj::look_up(session, address)?;
    bail!("no object starts at {address:x}; try !listnearobj {address:x}")
}

/// Complete, or what was missing for it: parts of the heap, or roots.
fn outcome(session: &Session) -> Result<Outcome> {
    let walk = session.index()?.report.sentence();
    let heap = || session.heap().ok().and_then(|h| h.problems.first().cloned());
    let roots = || session.roots().ok().and_then(|r| r.partial.clone());
    Ok(walk.or_else(heap).or_else(roots).map_or(Outcome::Complete, Outcome::Partial))
}

/// Nothing to show: perhaps because something is missing.
pub fn empty(session: &Session) -> Result<Outcome> {
    Ok(match outcome(session)? {
        Outcome::Complete => Outcome::Empty,
        other => other,
    })
}
