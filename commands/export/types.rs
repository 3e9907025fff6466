//! Tables of types: types, fields, statics, thread statics, exceptions, delegates.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::column::Field;
use super::writer::Table;
use crate::clr::Clr;
use crate::clr::image::metadata::sig::TypeSig;
use crate::clr::runtime::delegates::DelegateKind;
use crate::clr::types::fielddesc::FieldDesc;
use crate::clr::types::fields::{self, Element, et};
use crate::clr::types::methodtable::MethodTable;
use crate::clr::types::statics::{self, in_reference_storage};
use crate::commands::objects::dumpdelegate::called;
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

/// Which declared types exist as far as the runtime knows. The `element_type` column has the element type of the field's
/// type **as loaded**, like ClrMD's tables: an array whose exact type is shared or was never made shows as a class. (Its own
/// declared type is in `field_type`.) A class that was never loaded is a class: what a reader finds of it depends on where
/// the files lie.
struct KnownTypes {
    /// Names of array types that were made.
    arrays: HashSet<Arc<str>>,
}

impl KnownTypes {
    fn new(session: &Session) -> Result<Self> {
        let clr = session.clr()?;
        let heap: Vec<(u64, u64)> = session.heap()?.segments.iter().map(|s| (s.start & !0xFFF, s.reserved)).collect();
        let arrays = clr.loaded_vectors(&heap).into_iter().map(|mt| clr.type_name(mt)).collect();
        Ok(Self { arrays })
    }

    fn element(&self, clr: &Clr, f: &fields::Field) -> Element {
        match (&f.sig, f.element.0) {
            (Some(TypeSig::SzArray(of)), et::SZARRAY) => {
                let made = || f.type_name.as_ref().is_none_or(|t| self.arrays.contains(t.display().as_str()));
                if uses_any(of, &shared_arguments(clr, f.declaring)) || !made() {
                    Element(et::CLASS)
                } else {
                    f.element
                }
            }
            _ => f.element,
        }
    }
}

/// Which type arguments of an instantiation its canonical type shares with others: those that differ between the two
/// (`System.__Canon` stands for every class).
fn shared_arguments(clr: &Clr, mt: u64) -> Vec<bool> {
    let Some(own) = clr.method_table(mt) else { return Vec::new() };
    let canonical = clr.mts().canonical(&own);
    let Some(canonical) = clr.method_table(canonical).filter(|_| canonical != mt) else { return Vec::new() };
    let (own, canonical) = (clr.type_arguments(&own), clr.type_arguments(&canonical));
    own.iter().zip(&canonical).map(|(o, c)| o != c).collect()
}

/// Whether a signature names a type parameter that is shared.
fn uses_any(sig: &TypeSig, shared: &[bool]) -> bool {
    match sig {
        TypeSig::Var(i) => shared.get(*i as usize).copied().unwrap_or(false),
        TypeSig::Generic { args, .. } => args.iter().any(|a| uses_any(a, shared)),
        TypeSig::SzArray(of) | TypeSig::Array(of, _) | TypeSig::Ptr(of) | TypeSig::ByRef(of) => uses_any(of, shared),
        _ => false,
    }
}

/// `fields`: instance fields, inherited ones included, of the types of heap objects; arrays and Free have none.
pub fn fields(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let mut partial = None;
    let mut types = heap_types(session)?;
    types.sort_by_key(|(ty, _)| ty.mt.address);
    let known = KnownTypes::new(session)?;
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
                Field::Text(known.element(clr, f).name()),
                Field::Text(&type_name),
                Field::Num(u64::from(f.element.size(clr.ptr_size()))),
                Field::Text(&clr.type_name(f.declaring)),
            ])?;
        }
    }
    Ok(partial)
}

/// Types that may have static fields: those of all modules that are loaded, plain types and open generics, by module and
/// TypeDef row, and then the closed types.
fn loaded(session: &Session) -> Result<(Vec<MethodTable>, Option<String>)> {
    let clr = session.clr()?;
    let assemblies = clr.assemblies();
    let (mut types, mut partial) = (Vec::new(), assemblies.partial.clone());
    for a in &assemblies.items {
        let map = clr.loaded_types(a.module);
        partial = partial.or(map.partial);
        types.extend(map.items.into_iter().filter_map(|(_, mt)| clr.valid_method_table(mt)));
    }
    types.extend(session.closed_types()?);
    Ok((types, partial))
}

/// Reads a value as tables print it: references in hexadecimal, primitives raw, structs not at all.
fn value(clr: &Clr, element: Element, at: u64) -> String {
    let space = clr.space();
    if element.is_reference() {
        return space.ptr(at).map(|v| format!("{v:x}")).unwrap_or_default();
    }
    match element.0 {
        et::FNPTR => String::new(),
        // The boxed copy.
        et::STRUCT => space.ptr(at).map(|v| format!("{v:x}")).unwrap_or_default(),
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

/// `statics`.
pub fn statics(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let (types, partial) = loaded(session)?;
    for mt in types {
        let fields = clr.fields(mt.address);
        let name = clr.type_name(mt.address);
        for f in fields.statics.iter().filter(|f| !f.desc.is_thread_static) {
            let storage = statics::place(clr, &mt, &f.desc, in_reference_storage(f.element)).address().unwrap_or(0);
            // ClrMD looks for function pointers among the references, and for fields in the image among those of the
            // class once that is initialised; those of a type with storage of its own among those of its module.
            // `address` is spelled its way, `storage` is where the value is.
            let spelled = |desc, reference| statics::place(clr, &mt, &desc, reference).address().unwrap_or(0);
            let address = match f.element.0 {
                _ if f.desc.is_rva => spelled(FieldDesc { is_rva: false, ..f.desc }, in_reference_storage(f.element)),
                et::FNPTR => spelled(f.desc, true),
                _ if statics::has_own_storage(clr, &mt) => {
                    statics::place_in_module(clr, &mt, &f.desc, in_reference_storage(f.element)).unwrap_or(0)
                }
                _ => storage,
            };
            let text = if address == 0 || f.desc.is_rva { String::new() } else { value(clr, f.element, address) };
            table.row(&[
                Field::Text(&name),
                Field::Text(&f.name),
                Field::Text(f.element.name()),
                Field::Hex(address),
                Field::Text(&text),
                Field::Hex(storage),
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
                let storage = statics::thread_place(clr, t.address, &mt, &f.desc, reference);
                // As for `statics`.
                let address = match statics::has_own_storage(clr, &mt) {
                    true => statics::thread_place_in_module(clr, t.address, &mt, &f.desc, reference),
                    false => storage,
                };
                let Some(at) = address else { continue };
                let text = if f.element.is_reference() { value(clr, f.element, at) } else { String::new() };
                table.row(&[
                    Field::Hex(t.os_id),
                    Field::Text(&name),
                    Field::Text(&f.name),
                    Field::Text(f.element.name()),
                    Field::Hex(at),
                    Field::Text(&text),
                    Field::Hex(storage.unwrap_or(0)),
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
            Field::maybe(e.message.as_deref(), Field::Content),
            Field::Hex(e.inner),
            Field::Text(""),
        ])?;
    }
    Ok(report.sentence())
}

/// `delegates`: what each delegate on the heap calls.
pub fn delegates(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let walker = session.walker()?;
    let class = match clr.delegate_shape() {
        Ok(shape) => shape.class,
        Err(why) => return Ok(Some(why.to_owned())),
    };
    let (found, report) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |acc: &mut Vec<u64>, _, o| {
            if o.ty.mt.parent == class {
                acc.push(o.address);
            }
        },
    )?;
    let (mut partial, mut names) = (report.sentence(), FxHashMap::default());
    for delegate in found.into_iter().flatten().filter_map(|a| clr.delegate(a)) {
        session.watch.cancel.check()?;
        let invoked = clr.invoked(&delegate);
        for (i, d) in invoked.items.iter().enumerate() {
            // Handlers of an event mostly call one method. Code tells it, but for what goes through a shared stub.
            let own = matches!(d.kind, DelegateKind::Dynamic | DelegateKind::OpenVirtual).then_some(d.address);
            let key = (d.code, own, clr.object_type(d.receiver().unwrap_or(0)));
            let (method, name) = names.entry(key).or_insert_with(|| called(clr, d));
            table.row(&[
                Field::Hex(delegate.address),
                Field::Num(i as u64),
                Field::Text(d.kind.name()),
                Field::Hex(d.target),
                Field::Hex(*method),
                Field::Text(name.as_deref().unwrap_or("")),
            ])?;
        }
        partial = partial.or(invoked.partial);
    }
    Ok(partial)
}
