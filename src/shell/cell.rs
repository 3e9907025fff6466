//! One value of a row or fact, and how each rendering writes it.

use std::borrow::Cow;
use std::io::Write as _;

use super::numbers::{
    digits, narrow_digits, push_decimal, push_hex, push_hex_upper, push_signed, push_thousands, rfc3339, utc,
};
use super::quote::{push_clean, push_clean_units, push_csv, push_csv_units, push_json, push_json_units};

/// One value. The variants that differ only in how text shows them are the same elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// Hexadecimal as SOS prints addresses in its tables (`7f3a1c000028`); the shell remembers it for address completion.
    Addr(u64),
    /// Hexadecimal zero-padded to the given digits (`00007f3a1c000028`); remembered too.
    AddrPad(u64, u8),
    /// As `AddrPad` with capitals, as some SOS tables have it.
    AddrUpper(u64, u8),
    /// Hexadecimal as the native debuggers print it, `00007f3a`1c000028`, or 8 digits where a pointer has 4 bytes (the
    /// second value is the size of a pointer); remembered too.
    AddrTick(u64, u8),
    /// Hexadecimal number that is no address.
    Hex(u64),
    /// Decimal.
    Num(u64),
    /// Signed decimal.
    Int(i64),
    /// Decimal with thousands separators in text, a plain number elsewhere.
    Sep(u64),
    /// A number with a fraction.
    Float(f64),
    /// A share in percent, printed with two decimals and `%` in text.
    Percent(f64),
    /// A moment in seconds since 1970.
    Time(u64),
    /// `true` or `false`.
    Bool(bool),
    /// True or false; text shows the first word for true, the second for false.
    Either(bool, &'static str, &'static str),
    /// Text.
    Text(Cow<'a, str>),
    /// Text in UTF-16, as the process has it.
    Units(Cow<'a, [u16]>),
    /// A value rendered as the first in text, as the second number elsewhere (sizes in mixed notations).
    As(Cow<'a, str>, u64),
    /// A value rendered as the first in text, as the second elsewhere: a name cut to its column, a number in words.
    Shown(Cow<'a, str>, Box<Cell<'a>>),
    /// Nothing.
    None,
}

impl<'a> Cell<'a> {
    /// Text cell.
    pub fn text(s: impl Into<Cow<'a, str>>) -> Self {
        Cell::Text(s.into())
    }

    /// `value`, which text shows as `shown`.
    pub fn shown(shown: impl Into<Cow<'a, str>>, value: Cell<'a>) -> Self {
        Cell::Shown(shown.into(), Box::new(value))
    }

    /// Text, or nothing.
    pub fn maybe(s: Option<impl Into<Cow<'a, str>>>) -> Self {
        s.map_or(Cell::None, Cell::text)
    }

    /// An address, or nothing for 0.
    pub fn at(address: u64) -> Self {
        if address == 0 { Cell::None } else { Cell::Addr(address) }
    }

    /// The address it is, for completion.
    pub fn address(&self) -> Option<u64> {
        match self {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) if *x != 0 => Some(*x),
            Cell::Shown(_, value) => value.address(),
            _ => None,
        }
    }

    /// Appends the cell as text prints it and returns how many characters that is. Control characters of names and
    /// strings never reach the terminal.
    pub fn push_text(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        match self {
            Cell::Addr(x) => push_hex(out, *x, narrow_digits()),
            Cell::Hex(x) => push_hex(out, *x, 1),
            Cell::AddrPad(x, w) => push_hex(out, *x, digits().min(usize::from(*w))),
            Cell::AddrUpper(x, w) => push_hex_upper(out, *x, digits().min(usize::from(*w))),
            Cell::AddrTick(x, 4) => push_hex(out, *x, 8),
            Cell::AddrTick(x, _) => {
                push_hex(out, x >> 32, 8);
                out.push(b'`');
                push_hex(out, x & 0xFFFF_FFFF, 8);
            }
            Cell::Num(x) => push_decimal(out, *x),
            Cell::Int(x) => push_signed(out, *x),
            Cell::Sep(x) => push_thousands(out, *x),
            // Writing to a Vec cannot fail.
            Cell::Float(x) => drop(write!(out, "{x}")),
            Cell::Percent(p) => drop(write!(out, "{p:.2}%")),
            Cell::Time(t) => out.extend_from_slice(utc(*t).as_bytes()),
            Cell::Bool(b) => push_bool(out, *b),
            Cell::Either(b, yes, no) => out.extend_from_slice(if *b { yes } else { no }.as_bytes()),
            Cell::Text(t) | Cell::As(t, _) | Cell::Shown(t, _) => {
                push_clean(out, t);
                return characters(&out[start..]);
            }
            Cell::Units(t) => {
                push_clean_units(out, t);
                return characters(&out[start..]);
            }
            Cell::None => {}
        }
        out.len() - start
    }

    /// Appends the cell as JSON has it.
    pub fn push_json(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) | Cell::Hex(x) => {
                out.extend_from_slice(b"\"0x");
                push_hex(out, *x, 1);
                out.push(b'"');
            }
            Cell::Num(x) | Cell::Sep(x) | Cell::As(_, x) => push_decimal(out, *x),
            Cell::Int(x) => push_signed(out, *x),
            Cell::Float(x) | Cell::Percent(x) => push_float(out, *x),
            Cell::Time(t) => push_json(out, &rfc3339(*t)),
            Cell::Bool(b) | Cell::Either(b, ..) => push_bool(out, *b),
            Cell::Text(t) => push_json(out, t),
            Cell::Units(t) => push_json_units(out, t),
            Cell::Shown(_, value) => value.push_json(out),
            Cell::None => out.extend_from_slice(b"null"),
        }
    }

    /// Appends the cell as a field of CSV: what JSON has, without quotes where none are needed. `alone`: the record has
    /// no other field.
    pub fn push_csv(&self, out: &mut Vec<u8>, alone: bool) {
        match self {
            Cell::Addr(x) | Cell::AddrPad(x, _) | Cell::AddrUpper(x, _) | Cell::AddrTick(x, _) | Cell::Hex(x) => {
                out.extend_from_slice(b"0x");
                push_hex(out, *x, 1);
            }
            Cell::Time(t) => push_csv(out, &rfc3339(*t), alone),
            Cell::Text(t) => push_csv(out, t, alone),
            Cell::Units(t) => push_csv_units(out, t, alone),
            Cell::Shown(_, value) => value.push_csv(out, alone),
            Cell::Float(x) | Cell::Percent(x) if !x.is_finite() => push_csv(out, "", alone),
            Cell::None => push_csv(out, "", alone),
            number => number.push_json(out),
        }
    }
}

/// A number with a fraction, as short as it may be to be read back as the same; JSON has none for infinity.
fn push_float(out: &mut Vec<u8>, x: f64) {
    if x.is_finite() {
        // `{:?}` keeps the fraction of whole numbers and writes very large ones with an exponent, as JSON has them.
        drop(write!(out, "{x:?}"));
    } else {
        out.extend_from_slice(b"null");
    }
}

fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Characters of UTF-8: bytes that begin one.
pub fn characters(text: &[u8]) -> usize {
    if text.is_ascii() { text.len() } else { text.iter().filter(|b| (**b & 0xC0) != 0x80).count() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(cell: &Cell<'_>) -> [String; 3] {
        let (mut text, mut json, mut csv) = (Vec::new(), Vec::new(), Vec::new());
        let characters = cell.push_text(&mut text);
        cell.push_json(&mut json);
        cell.push_csv(&mut csv, false);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.chars().count(), characters);
        [text, String::from_utf8(json).unwrap(), String::from_utf8(csv).unwrap()]
    }

    #[test]
    fn every_rendering_of_every_kind() {
        for (cell, text, json, csv) in [
            (Cell::Hex(0x1F), "1f", "\"0x1f\"", "0x1f"),
            (Cell::AddrPad(0xAB, 6), "0000ab", "\"0xab\"", "0xab"),
            (Cell::AddrUpper(0xAB, 4), "00AB", "\"0xab\"", "0xab"),
            (Cell::AddrTick(0x7F_0000_0001, 8), "0000007f`00000001", "\"0x7f00000001\"", "0x7f00000001"),
            (Cell::AddrTick(0x10, 4), "00000010", "\"0x10\"", "0x10"),
            (Cell::Sep(1234), "1,234", "1234", "1234"),
            (Cell::Int(-5), "-5", "-5", "-5"),
            (Cell::Percent(12.5), "12.50%", "12.5", "12.5"),
            (Cell::Percent(f64::NAN), "NaN%", "null", ""),
            (Cell::Float(3.0), "3", "3.0", "3.0"),
            (Cell::Float(1e300), &format!("{}", 1e300), "1e300", "1e300"),
            (Cell::Time(0), "1970-01-01 00:00:00 UTC", "\"1970-01-01T00:00:00Z\"", "1970-01-01T00:00:00Z"),
            (Cell::Bool(true), "true", "true", "true"),
            (Cell::Either(false, "Yes", "No"), "No", "false", "false"),
            (Cell::text("ä\u{1b},"), "ä\\x1b,", "\"ä\\u001b,\"", "\"ä\\u001b,\""),
            (Cell::Units((&[0xE4, 0xD800][..]).into()), "ä\u{fffd}", "\"ä\\ud800\"", "ä\\ud800"),
            (Cell::As("2 kB".into(), 2048), "2 kB", "2048", "2048"),
            (
                Cell::shown("...tem.Int32", Cell::text("System.Int32")),
                "...tem.Int32",
                "\"System.Int32\"",
                "System.Int32",
            ),
            (Cell::None, "", "null", ""),
        ] {
            assert_eq!(all(&cell), [text, json, csv], "{cell:?}");
        }
    }
}
