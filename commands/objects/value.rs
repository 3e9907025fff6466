//! Field values as dumpobj prints them.

use crate::clr::Clr;
use crate::clr::types::fields::{Element, et};
use crate::shell::digits;

/// The value of a field of type `element` at `address`; `None` when it is not in the dump. Structs print their address.
pub fn text(clr: &Clr, element: Element, address: u64) -> Option<String> {
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
pub fn zero(element: Element) -> String {
    match element.0 {
        et::R4 | et::R8 => float(0.0),
        et::BOOLEAN..=et::U8 => "0".into(),
        _ => format!("{:0w$x}", 0, w = digits()),
    }
}

/// Whether SOS calls the field a value type (`VT` column).
pub fn is_value_type(element: Element) -> bool {
    !element.is_reference() && element.0 != et::PTR && element.0 != et::FNPTR
}
