//! What a value says in words: dates, identifiers, decimals, names of enums, ... The one place that knows how the value
//! types and small classes of the library spell themselves. Spellings are those of .NET's invariant culture, dates those
//! of ISO 8601.

pub mod number;
pub mod time;

use crate::clr::Clr;
use crate::clr::types::fields::{Element, et};
use crate::clr::types::methodtable::MethodTable;
use crate::dump::little_endian;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::digits;

/// Characters of a string shown inside another value.
const SHOWN: usize = 100;
/// Values in values followed: pairs, tuples, `Nullable`.
const MAX_DEPTH: u32 = 8;
/// Elements of an inline array shown.
const MAX_ELEMENTS: u64 = 1 << 10;

/// What the value of type `element` (`mt`, where it is known) at `at` says beyond what its column shows.
pub fn of_field(session: &Session, element: Element, mt: Option<u64>, at: u64) -> Option<String> {
    let clr = session.clr().ok()?;
    match element.0 {
        et::STRUCT => of_struct(session, mt?, at, 0),
        // Six decimals are enough for most: only what they lose is said.
        et::R4 | et::R8 => {
            let text = primitive(clr, element, at)?;
            let six = super::value::read(clr, element, at)?.text;
            let same = six.trim_end_matches('0').trim_end_matches('.') == text;
            (!same).then_some(text)
        }
        _ if element.is_reference() => of_object(session, clr.space().ptr(at).filter(|&o| o != 0)?),
        et::BOOLEAN | et::CHAR | et::PTR | et::FNPTR => None,
        _ => of_enum(session, &clr.valid_method_table(mt?)?, element, at),
    }
}

/// What the object at `address` says: a boxed value, a version, an address of the Internet, a type, ...
pub fn of_object(session: &Session, address: u64) -> Option<String> {
    let clr = session.clr().ok()?;
    // A look at the type before the object is proved to be one: most say nothing.
    let mt = clr.valid_method_table(clr.object_type(address)?)?;
    let small = mt.is_value_type() || !mt.is_array() && CLASSES.contains(&&*clr.type_name(mt.address));
    let value = session.value(address).filter(|_| small)?;
    match mt.is_value_type() {
        true => of_value(session, mt.address, value.data, 0),
        false => of_class(clr, &value),
    }
}

/// What the value of the value type `mt` at `at` says, primitive types included.
pub fn of_value(session: &Session, mt: u64, at: u64, depth: u32) -> Option<String> {
    let clr = session.clr().ok()?;
    let table = clr.valid_method_table(mt).filter(MethodTable::is_value_type)?;
    match clr.element_type(&table)? {
        et::STRUCT => of_struct(session, mt, at, depth),
        e => of_enum(session, &table, Element(e), at).or_else(|| primitive(clr, Element(e), at)),
    }
}

/// A number, truth value or character.
pub fn primitive(clr: &Clr, element: Element, at: u64) -> Option<String> {
    let space = clr.space();
    Some(match element.0 {
        et::BOOLEAN => if space.u8(at)? == 0 { "False" } else { "True" }.into(),
        et::CHAR => {
            let c = char::from_u32(space.u16(at)?.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
            format!("'{c}'")
        }
        et::R4 => number::single(f32::from_bits(space.u32(at)?)),
        et::R8 => number::double(f64::from_bits(space.u64(at)?)),
        et::I1 | et::U1 | et::I2 | et::U2 | et::I4 | et::U4 | et::I8 | et::U8 => {
            super::value::read(clr, element, at)?.text
        }
        et::I | et::U | et::PTR | et::FNPTR => format!("0x{:x}", space.ptr(at)?),
        _ => return None,
    })
}

/// Classes that are said in a word, by exact name.
const CLASSES: &[&str] = &["System.Version", "System.Uri", "System.Net.IPAddress", "System.RuntimeType"];

fn of_class(clr: &Clr, v: &Value<'_>) -> Option<String> {
    match &*v.type_name() {
        "System.Version" => {
            let part = |name: &str| v.int(&[name]).filter(|n| *n >= 0);
            let parts = ["_Major", "_Minor", "_Build", "_Revision"].map(part);
            let known: Vec<String> = parts.iter().map_while(|p| p.map(|n| n.to_string())).collect();
            (known.len() >= 2).then(|| known.join("."))
        }
        "System.Uri" => {
            let text = v.pointer(&["_string", "m_String"]).filter(|&p| p != 0)?;
            (clr.object_type(text) == Some(clr.known.string))
                .then(|| clr.string_at(text, 1 << 11))
                .flatten()
                .map(|t| t.1)
        }
        "System.Net.IPAddress" => ip_address(clr, v),
        "System.RuntimeType" => {
            let handle = v.pointer(&["m_handle"]).filter(|&h| h != 0)?;
            Some(clr.handle_tree(handle).display())
        }
        _ => None,
    }
}

/// Four bytes in the order of the network, or eight numbers and a scope.
fn ip_address(clr: &Clr, v: &Value<'_>) -> Option<String> {
    let scope = v.int(&["_addressOrScopeId"])? as u32;
    match v.object(&["_numbers", "m_Numbers"]).and_then(|n| n.elements()) {
        None => Some(std::net::Ipv4Addr::from(scope.to_le_bytes()).to_string()),
        Some(numbers) if numbers.count == 8 => {
            let mut parts = [0u16; 8];
            for (i, part) in parts.iter_mut().enumerate() {
                *part = clr.space().u16(numbers.place(i as u64)?)?;
            }
            let address = std::net::Ipv6Addr::from(parts).to_string();
            Some(if scope == 0 { address } else { format!("{address}%{scope}") })
        }
        Some(_) => None,
    }
}

/// A struct that has a spelling of its own.
fn of_struct(session: &Session, mt: u64, at: u64, depth: u32) -> Option<String> {
    let clr = session.clr().ok()?;
    let table = clr.valid_method_table(mt).filter(MethodTable::is_value_type)?;
    if clr.element_type(&table)? != et::STRUCT {
        return of_value(session, mt, at, depth);
    }
    let v = session.value_at(mt, at)?;
    let name = clr.type_name(mt);
    let base = name.split('<').next().unwrap_or_default();
    let Some(rest) = base.strip_prefix("System.") else { return inline_array(session, &table, &v, depth) };
    match rest {
        "DateTime" => time::date_time(v.int(&["_dateData", "dateData"])? as u64),
        "DateTimeOffset" => {
            let utc = v.inner(&["_dateTime", "m_dateTime"])?.int(&["_dateData", "dateData"])? as u64;
            time::date_time_offset(utc, v.int(&["_offsetMinutes", "m_offsetMinutes"])?)
        }
        "TimeSpan" => Some(time::time_span(v.int(&["_ticks"])?)),
        "DateOnly" => time::date(v.int(&["_dayNumber"])?),
        "TimeOnly" => time::time_of_day(v.int(&["_ticks"])? as u64),
        "Guid" => number::guid(clr.space().bytes(at, 16)?.as_slice()),
        // Four words in memory, whatever its fields are called: flags, high, low, middle.
        "Decimal" => {
            let (flags, high) = (clr.space().u32(at)?, clr.space().u32(at.checked_add(4)?)?);
            number::decimal(flags, high, clr.space().u64(at.checked_add(8)?)?)
        }
        "Int128" | "UInt128" => {
            let (low, high) = (v.int(&["_lower"])? as u64, v.int(&["_upper"])? as u64);
            let bits = u128::from(high) << 64 | u128::from(low);
            Some(if rest == "Int128" { (bits as i128).to_string() } else { bits.to_string() })
        }
        "Half" => Some(number::half(v.int(&["_value", "m_value"])? as u16)),
        "Numerics.BigInteger" => big_integer(clr, &v),
        "Nullable" if depth < MAX_DEPTH => match v.int(&["hasValue"])? {
            0 => Some("null".into()),
            _ => typed(session, clr, &v, "value", depth),
        },
        "Collections.Generic.KeyValuePair" if depth < MAX_DEPTH => {
            let part = |name| typed(session, clr, &v, name, depth);
            Some(format!("[{}, {}]", part("key")?, part("value")?))
        }
        "Collections.DictionaryEntry" if depth < MAX_DEPTH => {
            let part = |name| typed(session, clr, &v, name, depth);
            Some(format!("[{}, {}]", part("_key")?, part("_value")?))
        }
        "ValueTuple" if depth < MAX_DEPTH => {
            let names = ["Item1", "Item2", "Item3", "Item4", "Item5", "Item6", "Item7", "Rest"];
            let parts: Vec<String> = names.iter().map_while(|n| typed(session, clr, &v, n, depth)).collect();
            Some(format!("({})", parts.join(", ")))
        }
        _ => inline_array(session, &table, &v, depth),
    }
}

/// What is in a field of a pair or tuple.
fn typed(session: &Session, clr: &Clr, v: &Value<'_>, name: &str, depth: u32) -> Option<String> {
    let (element, mt, at) = v.typed(&[name])?;
    Some(item(session, clr, (element, mt), at, depth + 1))
}

/// A value inside another one, in any case: in words, or as the command that shows it.
fn item(session: &Session, clr: &Clr, (element, mt): (Element, Option<u64>), at: u64, depth: u32) -> String {
    let said = match element.0 {
        et::STRUCT => mt.and_then(|mt| {
            of_value(session, mt, at, depth).or_else(|| Some(format!("dumpvc {mt:0w$x} {at:0w$x}", w = digits())))
        }),
        _ if element.is_reference() => clr.space().ptr(at).map(|o| reference(session, clr, o)),
        _ => mt
            .and_then(|mt| of_enum(session, &clr.valid_method_table(mt)?, element, at))
            .or_else(|| primitive(clr, element, at)),
    };
    said.unwrap_or_else(|| "?".into())
}

/// An object inside another value.
fn reference(session: &Session, clr: &Clr, object: u64) -> String {
    if object == 0 {
        return "null".into();
    }
    let text = quoted(clr, object).filter(|_| clr.object_type(object) == Some(clr.known.string));
    text.or_else(|| of_object(session, object)).unwrap_or_else(|| format!("dumpobj {object:0w$x}", w = digits()))
}

/// The string at `object` in quotation marks, cut to what is shown inside another value.
pub fn quoted(clr: &Clr, object: u64) -> Option<String> {
    let (length, text) = clr.string_at(object, SHOWN)?;
    Some(format!("\"{text}{}\"", if length as usize > SHOWN { "..." } else { "" }))
}

/// `Name (number)`, of flags `A, B (number)`; nothing of a type that is no enum.
pub fn of_enum(session: &Session, mt: &MethodTable, element: Element, at: u64) -> Option<String> {
    let clr = session.clr().ok()?;
    let names = session.enum_names(mt)?;
    let bytes = clr.space().bytes(at, element.size(clr.ptr_size()) as usize)?;
    let raw = little_endian(&bytes);
    let unused = 64u32.saturating_sub(8 * bytes.len() as u32);
    let signed = matches!(element.0, et::I1 | et::I2 | et::I4 | et::I8 | et::I);
    let value = if signed { ((raw << unused) as i64) >> unused } else { raw as i64 };
    let number = if signed { value.to_string() } else { raw.to_string() };
    Some(match names.spell(value) {
        Some(name) => format!("{name} ({number})"),
        None => number,
    })
}

/// The sign, or the digits in words of 32 bits with the sign apart.
fn big_integer(clr: &Clr, v: &Value<'_>) -> Option<String> {
    let sign = v.int(&["_sign"])?;
    let bits = v.pointer(&["_bits"])?;
    if bits == 0 {
        return Some(sign.to_string());
    }
    let words = v.object(&["_bits"])?.elements()?;
    let size = usize::try_from(words.count).ok()?.checked_mul(4)?;
    if words.count > number::MAX_WORDS {
        return Some(format!("a number of {} bits", words.count.saturating_mul(32)));
    }
    let bytes = clr.space().bytes(words.place(0)?, size)?;
    let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Some(format!("{}{}", if sign < 0 { "-" } else { "" }, number::big(words)))
}

/// The elements of a struct that stands for several of its only field: an inline array, or a fixed buffer.
fn inline_array(session: &Session, mt: &MethodTable, v: &Value<'_>, depth: u32) -> Option<String> {
    let clr = session.clr().ok()?;
    let fields = clr.fields(mt.address);
    let [field] = fields.instance.as_slice() else { return None };
    if depth >= MAX_DEPTH {
        return None;
    }
    let ty = session.field_type(field);
    let size = match field.element.0 {
        et::STRUCT => clr.value_size(&clr.valid_method_table(ty?)?)?,
        _ => u64::from(field.element.size(clr.ptr_size())),
    };
    let count = session.inline_length(mt, size)?;
    let mut parts = Vec::new();
    for i in 0..count.min(MAX_ELEMENTS) {
        let at = v.data.checked_add(field.offset())?.checked_add(i.checked_mul(size)?)?;
        parts.push(item(session, clr, (field.element, ty), at, depth + 1));
    }
    let more = count.saturating_sub(MAX_ELEMENTS);
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    Some(format!("[{}{rest}]", parts.join(", ")))
}
