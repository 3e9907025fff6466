//! The variables a suspended method of runtime-async keeps in its continuation, by the JIT's own record of them.
//!
//! Precompiled code has no such record: the references of its data are all that is known.

use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::runtime::continuations::Continuation;
use crate::clr::types::fields::{Element, et};
use crate::session::Session;
use crate::session::signature::Signature;

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// `this`, a parameter's name, a local's where symbols are at hand, else `local N`; `+0x8` for a reference no record names.
    pub name: String,
    /// Name of its type as far as it is known.
    pub type_name: String,
    /// How its value is read.
    pub element: Element,
    /// Where it stands.
    pub at: u64,
}

impl Session {
    /// The variables the continuation keeps, in the order of their places.
    pub fn kept_variables(&self, c: &Continuation) -> Vec<Variable> {
        let Ok(clr) = self.clr() else { return Vec::new() };
        let ip = self.suspended_method(c).map_or(0, |m| m.ip);
        let at = clr.code().at(ip).filter(|_| ip != 0);
        let recorded = at.as_ref().and_then(|at| recorded(self, clr, c, at));
        recorded.unwrap_or_else(|| self.references(c))
    }

    /// The references in the data, where nothing tells what they are.
    fn references(&self, c: &Continuation) -> Vec<Variable> {
        let (Ok(clr), Ok(walker)) = (self.clr(), self.walker()) else { return Vec::new() };
        let Some(o) = walker.object_at(c.address) else { return Vec::new() };
        let mut found = Vec::new();
        o.slots(clr.space(), |slot| {
            let at = c.address.saturating_add(slot);
            if at >= c.data && clr.space().ptr(at).is_some_and(|v| v != 0) {
                let name = format!("+{:#x}", at - c.data);
                found.push(Variable { name, type_name: String::new(), element: Element(et::CLASS), at });
            }
        });
        found
    }
}

fn recorded(session: &Session, clr: &Clr, c: &Continuation, at: &CodeAt) -> Option<Vec<Variable>> {
    let point = clr.code().async_point(at)?;
    let signature = Signature::of(clr, at, clr.code().il_of_suspension(at));
    let object = session.walker().ok()?.object_at(c.address)?;
    let mut places: Vec<(u64, i32)> = point.vars.iter().map(|v| (u64::from(v.offset), v.number)).collect();
    places.sort_unstable();
    let mut references = rustc_hash::FxHashSet::default();
    object.slots(clr.space(), |slot| {
        references.insert(slot);
    });
    let mut found = Vec::with_capacity(places.len());
    for (i, &(offset, number)) in places.iter().enumerate() {
        let (name, type_name, known) = signature.variable(number);
        let end = places.get(i + 1).map_or(object.size, |n| n.0);
        // What no signature tells: a reference by the type's map, else a number as wide as there is room.
        let element = known.unwrap_or_else(|| match references.contains(&offset) {
            true => Element(et::CLASS),
            false => number_of(offset, end.saturating_sub(offset)),
        });
        found.push(Variable { name, type_name, element, at: c.address.checked_add(offset)? });
    }
    Some(found)
}

/// The widest unsigned number that is aligned at `offset` and fits `room` bytes.
fn number_of(offset: u64, room: u64) -> Element {
    let fits = |(size, _): &&(u64, u8)| offset.is_multiple_of(*size) && *size <= room;
    let all = [(8, et::U8), (4, et::U4), (2, et::U2)];
    Element(all.iter().find(fits).map_or(et::U1, |n| n.1))
}
