//! Suspects, as `!leaks` finds them.

use super::Result;
use crate::commands::graph::leaks;
use crate::session::Session;

/// Something that keeps or wastes much memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// What kind of trouble it is: `collection`, `event`, `timer`, `free`, ... `.help leaks` lists them.
    pub kind: &'static str,
    /// Bytes kept alive, or that could be saved.
    pub bytes: u64,
    /// Percent of the live bytes; of free space that of the whole heap.
    pub share: f64,
    /// Elements.
    pub count: u64,
    /// Type of the elements.
    pub element: String,
    /// Who holds it: a static field, else the type at the root.
    pub owner: String,
    /// Address of what holds it.
    pub holder: Option<u64>,
    /// Address of one element.
    pub example: Option<u64>,
    /// What speaks for it, a sentence each.
    pub evidence: Vec<String>,
}

/// All of them.
pub fn all(session: &Session) -> Result<Vec<Suspect>> {
    let found = leaks::find(session, &leaks::Limits::default())?;
    let one = |s: &leaks::Suspect| Suspect {
        kind: s.kind,
        bytes: s.bytes,
        share: s.share,
        count: s.count,
        element: s.element.clone(),
        owner: s.owner.clone(),
        holder: Some(s.holder).filter(|&a| a != 0),
        example: Some(s.example).filter(|&a| a != 0),
        evidence: s.facts.iter().map(|f| f.text.clone()).collect(),
    };
    Ok(found.suspects.iter().map(one).collect())
}
