//! `suspects`: what `!leaks` lists, all of it.

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::commands::graph::leaks::{Limits, find};
use crate::session::Session;

/// `suspects`.
pub fn rows(session: &Session, table: &mut Table) -> Result<Option<String>> {
    if session.heap()?.in_gc {
        return Ok(Some("the dump was taken inside a garbage collection".into()));
    }
    let found = find(session, &Limits::default())?;
    for (i, s) in found.suspects.iter().enumerate() {
        table.row(&[
            Field::Num(i as u64 + 1),
            Field::Text(s.kind),
            Field::Num(s.bytes),
            Field::Real(s.share),
            Field::Num(s.count),
            Field::maybe(Some(s.holder).filter(|h| *h != 0), Field::Hex),
            Field::Text(&s.place.holder_type),
            Field::Text(s.element_type().unwrap_or("")),
            Field::maybe(Some(s.example).filter(|e| *e != 0), Field::Hex),
            Field::Text(s.place.variable.as_deref().unwrap_or("")),
            Field::Text(&s.place.root),
            Field::maybe(s.place.thread, Field::Hex),
            Field::Text(s.place.generation.unwrap_or("")),
            Field::maybe(Some(s.place.length).filter(|l| *l > 0), |l| Field::Num(l as u64)),
            Field::Text(&s.owner),
            Field::Text(&s.path),
        ])?;
    }
    let index = session.index()?.report.sentence();
    let roots = || session.roots().ok().and_then(|r| r.partial.clone());
    let nameless = || found.nameless.then(|| "types of the class library have no names in the dump".to_owned());
    Ok(index.or_else(roots).or_else(nameless))
}
