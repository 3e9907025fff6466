//! Tables of the heap: segments, objects, edges, strings.

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::heap::{Generation, Object, WalkReport};
use crate::session::Session;

/// Text is cut at this many UTF-16 units.
const TEXT_UNITS: usize = 200;

/// `segments`.
pub fn segments(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let heap = session.heap()?;
    for s in &heap.segments {
        let part = |g| {
            let (a, b) = s.part(g);
            if a == b { (0, 0) } else { (a, b) }
        };
        let (g0, g1, g2) = (part(Generation::Gen0), part(Generation::Gen1), part(Generation::Gen2));
        table.row(&[
            Field::Hex(s.record),
            Field::Text(s.kind.name()),
            Field::Num(u64::from(s.heap)),
            Field::Hex(s.start),
            Field::Hex(s.end),
            Field::Hex(s.committed),
            Field::Hex(s.reserved),
            Field::Hex(g0.0),
            Field::Hex(g0.1),
            Field::Hex(g1.0),
            Field::Hex(g1.1),
            Field::Hex(g2.0),
            Field::Hex(g2.1),
        ])?;
    }
    Ok((!heap.problems.is_empty()).then(|| heap.problems.join("; ")))
}

/// Walks all objects in segment order; `each` writes a row.
pub fn each_object(
    session: &Session,
    what: &'static str,
    mut each: impl FnMut(Object<'_>, Generation) -> std::io::Result<()>,
) -> Result<Option<String>> {
    let walker = session.walker()?;
    session.watch.progress.start(what, walker.heap.allocated());
    let mut whole = WalkReport::default();
    for segment in &walker.heap.segments {
        let mut failed = None;
        let report = walker.segment(segment, (segment.start, segment.end), &mut |o| match each(
            o,
            segment.generation(o.address),
        ) {
            Ok(()) => true,
            Err(e) => {
                failed = Some(e);
                false
            }
        })?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        whole.merge(report);
    }
    session.watch.progress.finish();
    Ok(whole.sentence())
}

/// `objects`, free ones included.
pub fn objects(session: &Session, table: &mut Table) -> Result<Option<String>> {
    each_object(session, "writing objects", |o, generation| {
        table.row(&[
            Field::Hex(o.address),
            Field::Hex(o.ty.mt.address),
            Field::Num(o.size),
            Field::Text(generation.name()),
        ])
    })
}

/// `edges`: references by object.
pub fn edges(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let space = &session.dump().space;
    let mut targets = Vec::new();
    each_object(session, "writing edges", |o, _| {
        if o.ty.refs.is_none() {
            return Ok(());
        }
        targets.clear();
        o.slots(space, |offset| {
            if let Some(t) = crate::heap::walk::pointer_in(space, &o, offset).filter(|&t| t != 0) {
                targets.push(t);
            }
        });
        if targets.is_empty() {
            return Ok(());
        }
        table.row(&[Field::Hex(o.address), Field::List(&targets)])
    })
}

/// `strings`: every string, cut at 200 UTF-16 units.
pub fn strings(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    each_object(session, "writing strings", |o, _| {
        if !o.ty.is_string {
            return Ok(());
        }
        let Some((length, text)) = clr.string_at(o.address, TEXT_UNITS) else { return Ok(()) };
        table.row(&[Field::Hex(o.address), Field::Num(u64::from(length)), Field::Content(&text)])
    })
}
