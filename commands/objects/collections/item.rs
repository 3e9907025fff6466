//! One thing in a collection, in a word and as data.

use crate::clr::Clr;
use crate::clr::types::fields::{Element, et};
use crate::commands::objects::{decoded, value};
use crate::session::Session;
use crate::shell::{Cell, digits};

/// Where a key, value or item is, and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Element type.
    pub element: Element,
    /// MethodTable of a struct, and of a primitive or enum where it is known.
    pub mt: Option<u64>,
    /// Its address.
    pub at: u64,
    /// What it is, where that is not simply what stands there.
    pub as_is: As,
}

/// What a place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// What stands there.
    Stored,
    /// One bit of the byte there.
    Bit(u8),
    /// This object, to which nothing there refers.
    Object(u64),
}

impl Place {
    /// The reference to an object at `at`.
    pub fn reference(at: u64) -> Self {
        Self { element: Element(et::CLASS), mt: None, at, as_is: As::Stored }
    }
}

/// What is said of it.
pub struct Said {
    /// An object, a struct or a primitive in one word: a value, or the command that shows it.
    pub text: String,
    /// Text of a string or character.
    content: Cell<'static>,
    number: Cell<'static>,
    object: Cell<'static>,
    address: Cell<'static>,
    type_name: Cell<'static>,
    mt: Cell<'static>,
}

impl Said {
    /// Of what is at `place`; with `whole`, for data, whole texts and names too.
    pub fn of(session: &Session, place: &Place, whole: bool) -> Self {
        let mut said = Self {
            text: "?".into(),
            content: Cell::None,
            number: Cell::None,
            object: Cell::None,
            address: Cell::Addr(place.at),
            type_name: Cell::None,
            mt: Cell::None,
        };
        let Ok(clr) = session.clr() else { return said };
        match place.as_is {
            As::Object(object) => {
                said.object(session, clr, object, whole);
                return said;
            }
            As::Bit(bit) => {
                let Some(byte) = clr.space().u8(place.at) else { return said };
                let set = byte >> (bit & 7) & 1;
                (said.text, said.number) = (if set == 1 { "True" } else { "False" }.into(), Cell::Num(set.into()));
                return said;
            }
            As::Stored => {}
        }
        if place.element.0 == et::STRUCT {
            let words = place.mt.and_then(|mt| decoded::of_value(session, mt, place.at, 0));
            if let Some(words) = &words {
                said.content = Cell::text(words.clone());
            }
            said.text = match place.mt {
                Some(_) if words.is_some() => words.unwrap_or_default(),
                Some(mt) => format!("dumpvc {mt:0w$x} {:0w$x}", place.at, w = digits()),
                None => format!("{:0w$x}", place.at, w = digits()),
            };
            said.typed(clr, place.mt, whole);
        } else if place.element.is_reference() {
            match clr.space().ptr(place.at) {
                None => {}
                Some(0) => (said.text, said.object) = ("null".into(), Cell::Addr(0)),
                Some(object) => said.object(session, clr, object, whole),
            }
        } else {
            said.primitive(session, clr, place, whole);
        }
        said
    }

    fn object(&mut self, session: &Session, clr: &Clr, address: u64, whole: bool) {
        self.object = Cell::Addr(address);
        let Ok(walker) = session.walker() else { return };
        let found = walker.object_at(address);
        let words = found.as_ref().and_then(|o| decoded::of_object(session, o.address));
        self.text = match &found {
            Some(o) if o.ty.is_string => {
                let all = whole.then(|| clr.string_units(address, usize::MAX)).flatten();
                self.content = all.map_or(Cell::None, |(_, units)| Cell::Units(units.into()));
                decoded::quoted(clr, address).unwrap_or_else(|| "\"\"".into())
            }
            Some(_) if words.is_some() => {
                self.content = words.clone().map_or(Cell::None, Cell::text);
                words.unwrap_or_default()
            }
            Some(o) if o.ty.mt.is_array() => format!("dumparray {address:0w$x}", w = digits()),
            _ => format!("dumpobj {address:0w$x}", w = digits()),
        };
        self.typed(clr, found.map(|o| o.ty.mt.address), whole);
    }

    fn primitive(&mut self, session: &Session, clr: &Clr, place: &Place, whole: bool) {
        let held = value::read(clr, place.element, place.at);
        self.typed(clr, place.mt, whole);
        let Some(held) = held else { return };
        let printed = held.text.clone();
        let [number, reference, _] = held.cells();
        let table = place.mt.and_then(|mt| clr.valid_method_table(mt));
        if let Some(words) = table.and_then(|t| decoded::of_enum(session, &t, place.element, place.at)) {
            (self.number, self.object) = (number, reference);
            self.content = Cell::text(words.clone());
            self.text = words;
            return;
        }
        self.text = match (place.element.0, printed.as_str()) {
            (et::R4 | et::R8, _) => decoded::primitive(clr, place.element, place.at).unwrap_or(printed),
            (et::BOOLEAN, "0") => "False".into(),
            (et::BOOLEAN, _) => "True".into(),
            (et::CHAR, _) => {
                let unit = clr.space().u16(place.at);
                self.content = unit.map_or(Cell::None, |u| Cell::Units(vec![u].into()));
                unit.and_then(|u| char::from_u32(u.into())).map_or_else(|| "?".into(), |c| format!("'{c}'"))
            }
            _ => printed,
        };
        (self.number, self.object) = (number, reference);
    }

    fn typed(&mut self, clr: &Clr, mt: Option<u64>, whole: bool) {
        let Some(mt) = mt.filter(|&mt| whole && clr.valid_method_table(mt).is_some()) else { return };
        self.mt = Cell::Addr(mt);
        self.type_name = Cell::text(clr.type_name(mt).to_string());
    }

    /// Its text, then the number, the object, where it stands, the type's name and MethodTable.
    pub fn cells(self) -> [Cell<'static>; 6] {
        [Cell::shown(self.text, self.content), self.number, self.object, self.address, self.type_name, self.mt]
    }
}
