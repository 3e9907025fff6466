//! Tables of types: types, fields, statics, thread statics, exceptions.

use std::sync::Arc;

use anyhow::Result;

use super::writer::{Field, Table};
use crate::clr::Clr;
use crate::clr::fields::{Element, et};
use crate::clr::methodtable::MethodTable;
use crate::clr::statics;
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
    Element(e).name()
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

/// Types of all modules that are loaded: plain types and open generics, by module and TypeDef row.
fn loaded(session: &Session) -> Result<(Vec<MethodTable>, Option<String>)> {
    let clr = session.clr()?;
    let assemblies = clr.assemblies();
    let (mut types, mut partial) = (Vec::new(), assemblies.partial.clone());
    for a in &assemblies.items {
        let map = clr.loaded_types(a.module);
        partial = partial.or(map.partial);
        types.extend(map.items.into_iter().filter_map(|(_, mt)| clr.valid_method_table(mt)));
    }
    Ok((types, partial))
}

/// Reads a value as tables print it: references in hexadecimal, primitives raw, structs not at all.
fn value(clr: &Clr, element: Element, at: u64) -> String {
    let space = clr.space();
    if element.is_reference() {
        return space.ptr(at).map(|v| format!("{v:x}")).unwrap_or_default();
    }
    match element.0 {
        et::STRUCT | et::PTR | et::FNPTR => String::new(),
        _ => match element.size(clr.ptr_size()) {
            1 => space.u8(at).map(|v| v.to_string()),
            2 => space.u16(at).map(|v| v.to_string()),
            4 => space.u32(at).map(|v| (v as i32).to_string()),
            8 => space.u64(at).map(|v| (v as i64).to_string()),
            _ => None,
        }
        .unwrap_or_default(),
    }
}

/// References and structs (boxed) lie in the storage of references, the rest with the primitives.
fn in_reference_storage(element: Element) -> bool {
    element.is_reference() || element.0 == et::STRUCT
}

/// `statics`.
pub fn statics(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let (types, partial) = loaded(session)?;
    for mt in types {
        let fields = clr.fields(mt.address);
        let name = clr.type_name(mt.address);
        for f in fields.statics.iter().filter(|f| !f.desc.is_thread_static) {
            let place = statics::place(clr, &mt, &f.desc, in_reference_storage(f.element));
            let address = place.address().unwrap_or(0);
            let text = if address == 0 { String::new() } else { value(clr, f.element, address) };
            table.row(&[
                Field::Text(&name),
                Field::Text(&f.name),
                Field::Text(f.element.name()),
                Field::Hex(address),
                Field::Text(&text),
            ])?;
        }
    }
    Ok(partial)
}

/// `threadstatics`: those a thread has storage for.
pub fn thread_statics(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let (types, partial) = loaded(session)?;
    let threads = clr.threads();
    for mt in types {
        let fields = clr.fields(mt.address);
        let name = clr.type_name(mt.address);
        for f in fields.statics.iter().filter(|f| f.desc.is_thread_static) {
            for t in &threads.items {
                let reference = in_reference_storage(f.element);
                let Some(at) = statics::thread_place(clr, t.address, &mt, &f.desc, reference) else { continue };
                let text = if f.element.is_reference() { value(clr, f.element, at) } else { String::new() };
                table.row(&[
                    Field::Hex(t.os_id),
                    Field::Text(&name),
                    Field::Text(&f.name),
                    Field::Text(f.element.name()),
                    Field::Hex(at),
                    Field::Text(&text),
                ])?;
            }
        }
    }
    Ok(partial.or_else(|| threads.partial.clone()))
}

/// `exceptions`: every exception object.
pub fn exceptions(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let walker = session.walker()?;
    let types = session.stat()?;
    let mut is_exception = vec![false; session.types().len()];
    for (id, _) in types.types.iter() {
        if let (Some(ty), Some(slot)) = (session.types().by_id(id), is_exception.get_mut(id as usize)) {
            *slot = clr.is_exception(&ty.mt);
        }
    }
    let (found, report) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<(u64, u64)>, _, o| {
            if is_exception.get(o.ty.id as usize) == Some(&true) {
                acc.push((o.address, o.ty.mt.address));
            }
        },
    )?;
    for (address, mt) in found.into_iter().flatten() {
        let e = clr.exception_at(address, mt);
        table.row(&[
            Field::Hex(address),
            Field::Text(&clr.type_name(mt)),
            Field::Hex(u64::from(e.hresult)),
            Field::Text(e.message.as_deref().unwrap_or("")),
            Field::Hex(e.inner),
            Field::Text(""),
        ])?;
    }
    Ok(report.sentence())
}
