//! What an address is of: an object, a MethodTable, managed code, a place in a module.

use super::module_name;
use crate::native::symbols::Place;
use crate::session::Session;
use crate::shell::Cell;

/// What an address is of.
pub enum Thing {
    /// An object of this type.
    Object(String),
    /// The MethodTable of this type.
    MethodTable(String),
    /// A place in managed code: the method, as module and name, and how far into it.
    Method(String, u64),
    /// A place in a module that has a name.
    Symbol {
        /// The place.
        place: Place,
        /// How far into the module it is.
        offset: u64,
    },
    /// A place in a module: its name and how far into it.
    Module(String, u64),
}

impl Thing {
    /// As text has it.
    pub fn text(&self) -> String {
        match self {
            Thing::Object(name) => name.clone(),
            Thing::MethodTable(name) => format!("MethodTable {name}"),
            Thing::Symbol { place, .. } => place.to_string(),
            Thing::Method(name, 0) | Thing::Module(name, 0) => name.clone(),
            Thing::Method(name, offset) | Thing::Module(name, offset) => format!("{name}+0x{offset:x}"),
        }
    }
}

/// Kind, type, module, offset and symbol of a thing; text shows it in the place of the first.
pub fn cells(thing: Option<Thing>) -> [Cell<'static>; 5] {
    let Some(thing) = thing else { return [Cell::None, Cell::None, Cell::None, Cell::None, Cell::None] };
    let shown = thing.text();
    let kind = |kind: &'static str| Cell::shown(shown, Cell::text(kind));
    match thing {
        Thing::Object(name) => [kind("object"), Cell::text(name), Cell::None, Cell::None, Cell::None],
        Thing::MethodTable(name) => [kind("method_table"), Cell::text(name), Cell::None, Cell::None, Cell::None],
        Thing::Method(..) => {
            let text = Cell::text(thing.text());
            [kind("method"), Cell::None, Cell::None, Cell::None, text]
        }
        Thing::Symbol { place, offset } => {
            let text = Cell::text(place.to_string());
            [kind("symbol"), Cell::None, Cell::text(place.module), Cell::Hex(offset), text]
        }
        Thing::Module(name, offset) => [kind("module"), Cell::None, Cell::text(name), Cell::Hex(offset), Cell::None],
    }
}

/// What a pointer points to: an object, a MethodTable, managed code, a place in a module.
pub fn thing(session: &Session, v: u64) -> Option<Thing> {
    if v == 0 {
        return None;
    }
    if let (Ok(clr), Ok(heap)) = (session.clr(), session.heap()) {
        if heap.segment_at(v).is_some()
            && let Ok(walker) = session.walker()
            && let Some(o) = walker.object_at(v)
        {
            return Some(Thing::Object(clr.type_name(o.ty.mt.address).to_string()));
        }
        if v.is_multiple_of(u64::from(clr.ptr_size())) && clr.valid_type(v).is_some() {
            return Some(Thing::MethodTable(clr.type_name(v).to_string()));
        }
    }
    if let Some((name, offset)) = session.method_at(v) {
        return Some(Thing::Method(name, offset));
    }
    let module = session.dump().module_at(v)?;
    let offset = v - module.base;
    match session.native().place(v).filter(|p| p.name.is_some()) {
        Some(place) => Some(Thing::Symbol { place, offset }),
        None => Some(Thing::Module(module_name(module), offset)),
    }
}
