//! Paths of fields, and what they are in the objects of one type: offsets, found once.

use std::sync::Arc;

use crate::clr::types::fields::{Field, Fields, et};
use crate::clr::types::methodtable::MethodTable;
use crate::session::Session;
use crate::session::enums::EnumNames;
use crate::shell::pipes::name::Name;
use crate::shell::words::SyntaxError;

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A field, or the length of an array or a string.
    Field(String),
    /// An element of an array.
    Element(u32),
}

/// What an object says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Its address.
    Address,
    /// Its bytes.
    Size,
    /// Bytes that would be freed with it.
    Retained,
    /// Its generation.
    Generation,
    /// The object that holds it on a shortest way from a root.
    Owner,
    /// Type of that object.
    OwnerType,
    /// Its type.
    Type,
    /// Its MethodTable.
    MethodTable,
    /// What it says: the text of a string, the value in a box.
    Value,
}

/// Names of [`Own`].
pub const OWN: &[(&str, Own)] = &[
    ("@address", Own::Address),
    ("@size", Own::Size),
    ("@retained", Own::Retained),
    ("@gen", Own::Generation),
    ("@owner", Own::Owner),
    ("@ownertype", Own::OwnerType),
    ("@type", Own::Type),
    ("@mt", Own::MethodTable),
    ("@value", Own::Value),
];

/// A value that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Of the object itself.
    Own(Own),
    /// Of a field, the way there.
    Fields(Vec<Part>),
}

/// Reads a path as typed.
pub fn read(name: &Name) -> Result<Path, SyntaxError> {
    let wrong = |at: usize, what: String| Err(SyntaxError { column: name.column + at, what });
    if name.text.starts_with('@') {
        let own = OWN.iter().find(|o| o.0.eq_ignore_ascii_case(&name.text));
        let names = || OWN.iter().map(|o| o.0).collect::<Vec<_>>().join(" ");
        return own.map_or_else(|| wrong(0, format!("there are {} of an object", names())), |o| Ok(Path::Own(o.1)));
    }
    let (mut parts, mut rest) = (Vec::new(), name.text.as_str());
    while !rest.is_empty() {
        let at = name.text.len() - rest.len();
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((number, after)) = inner.split_once(']') else { return wrong(at, "this [ is not closed".into()) };
            match number.trim().parse() {
                Ok(n) => parts.push(Part::Element(n)),
                Err(_) => return wrong(at + 1, "expected the number of an element here".into()),
            }
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').filter(|_| !parts.is_empty()).unwrap_or(rest);
        let end = match rest.starts_with('<') {
            true => rest.find('>').map_or(rest.len(), |i| i + rest[i..].find(['.', '[']).unwrap_or(rest.len() - i)),
            false => rest.find(['.', '[']).unwrap_or(rest.len()),
        };
        if end == 0 {
            return wrong(name.text.len() - rest.len(), "expected the name of a field here".into());
        }
        parts.push(Part::Field(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    Ok(Path::Fields(parts))
}

/// A value at the end of a path.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its element type.
    pub element: u8,
    /// Its type, of structs.
    pub mt: u64,
    /// Names of its values, where it is an enum.
    pub names: Option<Arc<EnumNames>>,
}

/// What a path does in objects of a type.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it goes on, from the object's address.
    pub at: u64,
    /// The object is an array and has to have more elements than this.
    pub bound: Option<u32>,
    /// What stands there.
    pub then: Then,
}

/// What a plan ends with.
#[derive(Debug, Clone)]
pub enum Then {
    /// The type has no such field.
    Nothing,
    /// A reference; the path goes on with the part of this number, in the object it refers to.
    Follow(usize),
    /// The value.
    Value(Leaf),
}

/// A plan, and what is known of it before an object is looked at.
#[derive(Debug, Clone)]
pub struct Made {
    /// The plan.
    pub plan: Plan,
    /// Of a reference that is followed: its declared type; 0 where that is not known.
    pub declared: u64,
}

/// What stands at an offset of an object.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    element: u8,
    /// Its type; 0 where that is not known.
    mt: u64,
}

const NOTHING: Plan = Plan { at: 0, bound: None, then: Then::Nothing };

/// What `parts` from the number `first` on are in objects of the type `mt`.
pub fn make(session: &Session, mt: u64, parts: &[Part], first: usize) -> Made {
    let nothing = Made { plan: NOTHING, declared: 0 };
    let Ok(clr) = session.clr() else { return nothing };
    let Some(table) = clr.valid_method_table(mt) else { return nothing };
    let Some((place, bound)) = begin(session, &table, parts.get(first)) else { return nothing };
    within(session, place, bound, parts, first + 1).unwrap_or(nothing)
}

/// The place of the first part in an object.
fn begin(session: &Session, table: &MethodTable, part: Option<&Part>) -> Option<(Place, Option<u32>)> {
    let clr = session.clr().ok()?;
    let header = clr.header();
    match part? {
        Part::Field(name) if table.has_component_size() => {
            name.eq_ignore_ascii_case("Length").then_some((Place { at: header, element: et::I4, mt: 0 }, None))
        }
        Part::Element(n) if table.is_sz_array() => {
            // The type handle of a pointer or function pointer is no MethodTable.
            let element = clr.method_table(table.per_inst).filter(|_| table.per_inst & 2 == 0);
            let kind = match &element {
                None => et::PTR,
                Some(e) if !e.is_value_type() => et::CLASS,
                Some(e) => clr.element_type(e).unwrap_or(et::STRUCT),
            };
            let at = 2 * header + u64::from(*n) * u64::from(table.component_size());
            Some((Place { at, element: kind, mt: table.per_inst }, Some(*n)))
        }
        Part::Element(_) => None,
        Part::Field(name) => {
            let fields = clr.fields(table.address);
            let place = of_field(session, find(&fields, name)?, header);
            Some((place, None))
        }
    }
}

fn of_field(session: &Session, field: &Field, base: u64) -> Place {
    let mt = session.field_type(field).unwrap_or(0);
    Place { at: base.saturating_add(field.offset()), element: field.element.0, mt }
}

/// Goes on in structs until a value or a reference to be followed.
fn within(session: &Session, mut place: Place, bound: Option<u32>, parts: &[Part], mut next: usize) -> Option<Made> {
    let clr = session.clr().ok()?;
    loop {
        let made = |then| Some(Made { plan: Plan { at: place.at, bound, then }, declared: place.mt });
        let Some(part) = parts.get(next) else {
            return made(Then::Value(leaf(session, place)));
        };
        match (place.element, part) {
            (et::STRUCT, Part::Field(name)) => {
                let fields = clr.fields(place.mt);
                place = of_field(session, find(&fields, name)?, place.at);
                next += 1;
            }
            (e, _) if crate::clr::types::fields::Element(e).is_reference() => return made(Then::Follow(next)),
            _ => return None,
        }
    }
}

fn leaf(session: &Session, place: Place) -> Leaf {
    let table = || session.clr().ok()?.valid_method_table(place.mt).filter(MethodTable::is_value_type);
    let number = (et::I1..=et::U8).contains(&place.element) || matches!(place.element, et::BOOLEAN | et::CHAR);
    let names = if number { table().and_then(|t| session.enum_names(&t)) } else { None };
    Leaf { element: place.element, mt: place.mt, names }
}

/// The field a name means: of that name, of the property of that name, or of it without regard to case and to what
/// programs put before names of fields.
pub fn find<'f>(fields: &'f Fields, name: &str) -> Option<&'f Field> {
    let plain = |n: &str| n.trim_start_matches("m_").trim_start_matches('_').to_lowercase();
    let of = |fits: &dyn Fn(&str) -> bool| fields.instance.iter().rev().find(|f| fits(&f.name));
    let property = |n: &str| n.strip_prefix('<').and_then(|n| n.strip_suffix(">k__BackingField")).map(str::to_owned);
    of(&|n| n == name)
        .or_else(|| of(&|n| property(n).is_some_and(|p| p == name)))
        .or_else(|| of(&|n| plain(&property(n).unwrap_or_else(|| n.to_owned())) == plain(name)))
}

/// Names of the fields of a type, as they may be asked for.
pub fn names(session: &Session, mt: u64) -> Vec<String> {
    let Ok(clr) = session.clr() else { return Vec::new() };
    let Some(table) = clr.valid_method_table(mt) else { return Vec::new() };
    if table.has_component_size() {
        return if table.is_array() { vec!["Length".into(), "[0]".into()] } else { vec!["Length".into()] };
    }
    let short = |n: &str| n.strip_prefix('<').and_then(|n| n.strip_suffix(">k__BackingField")).unwrap_or(n).to_owned();
    clr.fields(mt).instance.iter().map(|f| short(&f.name)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_parts() {
        let path = |text: &str| read(&Name { text: text.into(), column: 10 });
        let field = |n: &str| Part::Field(n.into());
        assert_eq!(path("A.B").unwrap(), Path::Fields(vec![field("A"), field("B")]));
        assert_eq!(
            path("[2]._x[3].C").unwrap(),
            Path::Fields(vec![Part::Element(2), field("_x"), Part::Element(3), field("C")])
        );
        assert_eq!(path("<A>k__BackingField.B").unwrap(), Path::Fields(vec![field("<A>k__BackingField"), field("B")]));
        assert_eq!(path("@GEN").unwrap(), Path::Own(Own::Generation));
        for (text, column) in [("A..B", 12), ("A[x]", 12), ("A[1", 11), ("@x", 10), ("A.", 12), (".A", 10)] {
            assert_eq!(path(text).unwrap_err().column, column, "{text}: {:?}", path(text));
        }
    }
}
