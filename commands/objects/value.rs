//! Field values as dumpobj prints them.

use crate::clr::Clr;
use crate::clr::types::fields::{Element, et};
use crate::shell::{Cell, Col, Type, digits};

/// Column of the number a value is, for [`Held`].
pub const NUMBER: Col = Col::right("Value", "value", 16).of(Type::Number);
/// Column of what a value refers to, for [`Held`].
pub const REFERENCE: Col = Col::data("reference", Type::Address).titled("object or address it refers to");
/// Column of where a value stands, for [`Held`].
pub const ADDRESS: Col = Col::data("address", Type::Address).titled("where the value stands");

/// A value: as `!dumpobj` prints it, and as data.
pub struct Held {
    /// As printed.
    pub text: String,
    /// The number it is; nothing for references and structs, and where it is not in the dump.
    pub number: Cell<'static>,
    /// What it refers to: of references, pointers and native integers.
    pub reference: Cell<'static>,
    /// Where it stands.
    pub address: Option<u64>,
}

impl Held {
    /// Nothing to be said.
    pub const fn nothing() -> Self {
        Self { text: String::new(), number: Cell::None, reference: Cell::None, address: None }
    }

    /// Something of which only this is known.
    pub fn unknown(text: &str) -> Self {
        Self { text: text.into(), ..Self::nothing() }
    }

    /// A reference to `object`, which stands for a struct: its boxed copy.
    pub fn boxed(clr: &Clr, object: u64) -> Self {
        let inside = object.checked_add(clr.header()).filter(|_| object != 0);
        Self {
            text: format!("{object:0w$x}", w = digits()),
            reference: Cell::Addr(object),
            address: inside,
            ..Self::nothing()
        }
    }

    /// Cells of [`NUMBER`], [`REFERENCE`] and [`ADDRESS`].
    pub fn cells(self) -> [Cell<'static>; 3] {
        let address = self.address.map_or(Cell::None, Cell::Addr);
        [Cell::shown(self.text, self.number), self.reference, address]
    }
}

/// The value of a field of type `element` at `address`; `None` when it is not in the dump.
pub fn read(clr: &Clr, element: Element, address: u64) -> Option<Held> {
    let text = text(clr, element, address)?;
    let space = clr.space();
    let mut held = Held { text, address: Some(address), ..Held::nothing() };
    let number = match element.0 {
        et::BOOLEAN | et::U1 => Cell::Num(space.u8(address)?.into()),
        et::I1 => Cell::Int((space.u8(address)? as i8).into()),
        et::CHAR | et::U2 => Cell::Num(space.u16(address)?.into()),
        et::I2 => Cell::Int((space.u16(address)? as i16).into()),
        et::I4 => Cell::Int((space.u32(address)? as i32).into()),
        et::U4 => Cell::Num(space.u32(address)?.into()),
        et::I8 => Cell::Int(space.u64(address)? as i64),
        et::U8 => Cell::Num(space.u64(address)?),
        et::R4 => Cell::Float(f32::from_bits(space.u32(address)?).into()),
        et::R8 => Cell::Float(f64::from_bits(space.u64(address)?)),
        et::STRUCT => Cell::None,
        _ => {
            held.reference = Cell::Addr(space.ptr(address)?);
            Cell::None
        }
    };
    held.number = number;
    Some(held)
}

/// The value of a field of type `element` at `address`; `None` when it is not in the dump. Structs print their address.
fn text(clr: &Clr, element: Element, address: u64) -> Option<String> {
    let space = clr.space();
    Some(match element.0 {
        et::BOOLEAN | et::U1 => space.u8(address)?.to_string(),
        et::I1 => (space.u8(address)? as i8).to_string(),
        et::CHAR => format!("{:x}", space.u16(address)?),
        et::U2 => space.u16(address)?.to_string(),
        et::I2 => (space.u16(address)? as i16).to_string(),
        et::I4 => (space.u32(address)? as i32).to_string(),
        et::U4 => space.u32(address)?.to_string(),
        et::I8 => (space.u64(address)? as i64).to_string(),
        et::U8 => space.u64(address)?.to_string(),
        et::R4 => float(f64::from(f32::from_bits(space.u32(address)?))),
        et::R8 => float(f64::from_bits(space.u64(address)?)),
        et::STRUCT => format!("{address:0w$x}", w = digits()),
        // SOS prints native integers in upper case, references in lower case.
        et::I | et::U => format!("{:0w$X}", space.ptr(address)?, w = digits()),
        _ => format!("{:0w$x}", space.ptr(address)?, w = digits()),
    })
}

/// Six decimals, as C prints a float.
fn float(v: f64) -> String {
    if v.is_nan() { "nan".into() } else { format!("{v:.6}") }
}

/// The value of a field that has no storage yet.
pub fn zero(element: Element) -> Held {
    let (text, number, reference) = match element.0 {
        et::R4 | et::R8 => (float(0.0), Cell::Float(0.0), Cell::None),
        et::BOOLEAN..=et::U8 => ("0".into(), Cell::Num(0), Cell::None),
        _ => (format!("{:0w$x}", 0, w = digits()), Cell::None, Cell::Addr(0)),
    };
    Held { text, number, reference, address: None }
}

/// Whether SOS calls the field a value type (`VT` column).
pub fn is_value_type(element: Element) -> bool {
    !element.is_reference() && element.0 != et::PTR && element.0 != et::FNPTR
}
