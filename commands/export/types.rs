//! Tables of types: types, fields, statics, thread statics, exceptions.

use std::sync::Arc;

use anyhow::Result;

use super::writer::{Field, Table};
use crate::clr::Clr;
use crate::clr::fields::et;
use crate::clr::methodtable::MethodTable;
use crate::heap::TypeInfo;
use crate::heap::stat::Tally;
use crate::session::Session;

/// Types of the objects on the heap with their tallies, smallest total first.
fn heap_types(session: &Session) -> Result<Vec<(Arc<TypeInfo>, Tally)>> {
    let stat = session.stat()?;
    let mut types: Vec<_> =
        stat.types.iter().filter_map(|(id, t)| session.types().by_id(id).map(|ty| (ty, t))).collect();
    types.sort_by_key(|(ty, t)| (t.bytes, ty.mt.address));
    Ok(types)
}

fn element_name(clr: &Clr, ty: &TypeInfo) -> &'static str {
    let mt = &ty.mt;
    let e = match () {
        () if ty.is_string => et::STRING,
        () if mt.is_sz_array() => et::SZARRAY,
        () if mt.is_array() => et::ARRAY,
        () if mt.address == clr.known.object => et::OBJECT,
        () if mt.is_value_type() => clr.element_type(mt).unwrap_or(et::STRUCT),
        () => et::CLASS,
    };
    crate::clr::fields::Element(e).name()
}

fn module_name(clr: &Clr, mt: &MethodTable) -> String {
    clr.defining_module(mt).map(|m| clr.module(m).file_name().to_owned()).unwrap_or_default()
}

/// `types`: those of heap objects.
pub fn types(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    for (ty, tally) in heap_types(session)? {
        let mt = &ty.mt;
        let base = if mt.parent == 0 { Arc::from("") } else { clr.type_name(mt.parent) };
        let token = if mt.is_array() || ty.is_free { 0 } else { 0x0200_0000 | u64::from(clr.type_rid(mt)) };
        table.row(&[
            Field::Hex(mt.address),
            Field::Num(tally.count),
            Field::Num(tally.bytes),
            Field::Text(&clr.type_name(mt.address)),
            Field::Text(&base),
            Field::Text(&module_name(clr, mt)),
            Field::Hex(token),
            Field::Num(u64::from(mt.base_size)),
            Field::Num(u64::from(mt.component_size())),
            Field::Bool(mt.contains_pointers()),
            Field::Text(element_name(clr, &ty)),
            Field::Bool(mt.has_finalizer()),
            Field::Bool(clr.mts().is_collectible(mt)),
        ])?;
    }
    Ok(session.stat()?.report.sentence())
}

/// `fields`: instance fields, inherited ones included, of the types of heap objects; arrays and Free have none.
pub fn fields(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let mut partial = None;
    let mut types = heap_types(session)?;
    types.sort_by_key(|(ty, _)| ty.mt.address);
    for (ty, _) in types {
        if ty.mt.is_array() || ty.is_free {
            continue;
        }
        let fields = clr.fields(ty.mt.address);
        partial = partial.or_else(|| fields.partial.clone());
        let name = clr.type_name(ty.mt.address);
        for f in &fields.instance {
            let type_name = f.type_name.as_ref().map(|t| t.display()).unwrap_or_default();
            table.row(&[
                Field::Hex(ty.mt.address),
                Field::Text(&name),
                Field::Text(&f.name),
                Field::Num(f.offset()),
                Field::Text(f.element.name()),
                Field::Text(&type_name),
                Field::Num(u64::from(f.element.size(clr.ptr_size()))),
                Field::Text(&clr.type_name(f.declaring)),
            ])?;
        }
    }
    Ok(partial)
}

fn later() -> Result<Option<String>> {
    Ok(Some("not read yet".into()))
}

/// `statics`.
pub fn statics(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `threadstatics`.
pub fn thread_statics(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}

/// `exceptions`: every exception object.
pub fn exceptions(_session: &Session, _table: &mut Table) -> Result<Option<String>> {
    later()
}
