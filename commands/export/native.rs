//! Tables of native heaps. What is missing of them is said in their own note: it makes no other table partial.

use anyhow::Result;

use super::column::Field;
use super::writer::Table;
use crate::native::heaps::NO_ARENA;
use crate::session::Session;
use crate::session::nativeowners::Which;

/// `nativeblocks`.
pub fn blocks(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let heaps = session.native_heaps()?;
    for b in heaps.blocks.list() {
        let arena = if b.arena() == NO_ARENA { Field::None } else { Field::Num(u64::from(b.arena())) };
        table.row(&[
            Field::Hex(b.address()),
            Field::Num(b.size()),
            Field::Text(b.state().name()),
            arena,
            Field::Text(b.kind().name()),
        ])?;
    }
    Ok(heaps.partial())
}

/// `nativearenas`.
pub fn arenas(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let heaps = session.native_heaps()?;
    for (number, a) in heaps.arenas.iter().enumerate() {
        table.row(&[
            Field::Num(number as u64),
            Field::Hex(a.address),
            Field::Bool(a.main),
            Field::Num(u64::from(a.heaps)),
            Field::Num(a.system),
            Field::Num(a.used.count),
            Field::Num(a.used.bytes),
            Field::Num(a.free.count),
            Field::Num(a.free.bytes),
            Field::Num(a.largest),
            Field::Num(a.fast.count),
            Field::Num(a.fast.bytes),
            Field::Num(a.cached.count),
            Field::Num(a.cached.bytes),
            Field::Num(a.top),
            Field::Num(a.own),
            Field::Num(a.lost),
            Field::maybe(a.threads, Field::Num),
        ])?;
    }
    Ok(heaps.partial())
}

/// `nativeowners`; empty without a runtime.
pub fn owners(session: &Session, table: &mut Table) -> Result<Option<String>> {
    if session.clr().is_err() {
        return Ok(Some("there is no runtime whose objects could hold blocks".into()));
    }
    for o in session.native_owners(Which::All)? {
        table.row(&[Field::Text(&o.ty), Field::Text(&o.field), Field::Num(o.blocks), Field::Num(o.bytes)])?;
    }
    let missing = [session.native_heaps()?.partial(), session.native_holds()?.partial.clone()];
    let missing: Vec<String> = missing.into_iter().flatten().collect();
    Ok((!missing.is_empty()).then(|| missing.join("; ")))
}
