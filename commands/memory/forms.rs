//! `df`, `dD`, `dyb`, `dyd`, `ds`, `dS`: memory as fractions, bits and texts with a length.

use anyhow::Result;

use super::range::Range;
use super::tick;
use super::view::{ADDRESS, DEFAULT_BYTES, Lines, MEMORY, View, address, element, elements, outcome, text, went};
use crate::dump::little_endian;
use crate::shell::{Cell, Col, Ctx, Outcome, Table, Type};

/// Numbers with a fraction, one a row.
pub(super) const FLOATS: Table = Table::new(
    "memory",
    &[ADDRESS, Col::left("", "value", 0).of(Type::Number).titled("the number; nothing for what is none")],
);

/// Texts with a length, one a row.
pub(super) const COUNTED: Table = Table::new(
    "strings",
    &[
        ADDRESS,
        Col::data("length", Type::Bytes).titled("bytes of the text"),
        Col::data("maximum", Type::Bytes).titled("bytes there is room for"),
        Col::data("buffer", Type::Address).titled("where the text is"),
        Col::data("text", Type::Content).titled("the text; nothing when the dump lacks it"),
    ],
);

/// Bytes of a display of bits without a length.
const DEFAULT_BITS: u64 = 32;

/// A number with a fraction in as few digits as tell it, with an exponent where they would be many.
pub fn fraction(v: f64, narrow: bool) -> String {
    let plain = v == 0.0 || !v.is_finite() || (1e-5..1e16).contains(&v.abs());
    match (plain, narrow) {
        (true, true) => format!("{}", v as f32),
        (true, false) => format!("{v}"),
        (false, true) => format!("{:e}", v as f32),
        (false, false) => format!("{v:e}"),
    }
}

/// `df`, `dD`.
pub(super) fn floats(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, (size, columns): (u8, u8)) -> Result<Outcome> {
    let space = &view.session.dump().space;
    let read = |at: u64| match size {
        4 => space.u32(at).map(|v| f64::from(f32::from_bits(v))),
        _ => space.u64(at).map(f64::from_bits),
    };
    let step = u64::from(size);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let mut missing = false;
    for (from, n) in (Lines { start: range.start, count, step, per_line: u64::from(columns) }).each() {
        view.session.watch.cancel.check()?;
        let mut line = tick(from, view.pointer);
        for i in 0..n {
            let at = from.wrapping_add(i * step);
            let v = read(at);
            missing |= v.is_none();
            let shown = v.map_or_else(|| element(None, size), |v| fraction(v, size == 4));
            line.push_str(&format!(" {shown:>24}"));
            let first = if i == 0 { address(view, at) } else { Cell::Hex(at) };
            // Of a short number only the digits that tell it: widened it would have others.
            let value = v.map(|v| if size == 4 { (v as f32).to_string().parse().unwrap_or(v) } else { v });
            ctx.out.data_row(&FLOATS, &[first, value.map_or(Cell::None, Cell::Float)])?;
        }
        ctx.out.facts(&[], line)?;
    }
    went(ctx, view, range.start.wrapping_add(count.wrapping_mul(step)));
    Ok(outcome(missing))
}

/// `dyb`, `dyd`: bytes stand in the order of memory, the bytes of a word with the highest first.
pub(super) fn bits(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, (size, columns): (u8, u8)) -> Result<Outcome> {
    let step = u64::from(size);
    let count = range.count.unwrap_or(DEFAULT_BITS / step);
    let lines = Lines { start: range.start, count, step, per_line: u64::from(columns) };
    let lead = " ".repeat(tick(0, view.pointer).len() + 2);
    let bytes = usize::from(size) * usize::from(columns);
    if size > 1 {
        let word: Vec<String> = (0..usize::from(size)).rev().map(|b| format!("{:<8}", tens(b))).collect();
        ctx.out.note(format!("{lead}{}", vec![word.join(" "); usize::from(columns)].join(" ")).trim_end())?;
    }
    let units: Vec<String> = (0..bytes).map(|i| digits(if size == 1 { 0 } else { bytes - 1 - i })).collect();
    ctx.out.note(format!("{lead}{}", units.join(" ")))?;
    ctx.out.note(format!("{lead}{}", vec!["--------"; bytes].join(" ")))?;
    let space = &view.session.dump().space;
    let mut missing = false;
    for (from, n) in lines.each() {
        view.session.watch.cancel.check()?;
        let (mut binary, mut hex) = (Vec::new(), Vec::new());
        for i in 0..n {
            let at = from.wrapping_add(i * step);
            let v = space.slice(at, usize::from(size));
            missing |= v.is_none();
            hex.push(element(v, size));
            let ordered = v.map(|v| v.iter().rev().map(|b| format!("{b:08b}")).collect::<Vec<_>>().join(" "));
            binary.push(ordered.unwrap_or_else(|| vec!["????????"; usize::from(size)].join(" ")));
        }
        elements(ctx.out, view, from, n, size)?;
        let width = bytes * 9 - 1;
        let line = format!("{}  {:<width$}  {}", tick(from, view.pointer), binary.join(" "), hex.join(" "));
        ctx.out.facts(&[], line)?;
    }
    ctx.out.done(&MEMORY)?;
    let next = range.start.wrapping_add(count.wrapping_mul(step));
    let last = space.slice(next.wrapping_sub(step), usize::from(size)).map(little_endian);
    ctx.settings.values.shown = last.or(ctx.settings.values.shown);
    went(ctx, view, next);
    Ok(outcome(missing))
}

/// The units of the numbers of a byte's bits, the highest first; its place among the bytes of the word counts.
fn digits(byte: usize) -> String {
    (0..8).rev().map(|bit| char::from(b'0' + ((byte * 8 + bit) % 10) as u8)).collect()
}

/// Where among a byte's bits the tens of their numbers change, and to what.
fn tens(byte: usize) -> String {
    let ten = |bit: usize| (byte * 8 + bit).checked_div(10).filter(|_| (byte * 8 + bit).is_multiple_of(10));
    (0..8).rev().map(|bit| ten(bit).map_or(' ', |t| char::from(b'0' + (t % 10) as u8))).collect()
}

/// Longest text shown of a STRING: its length has 16 bits.
const MOST_UNITS: usize = 0x1_0000;

/// `ds`, `dS`: a `STRING` or `UNICODE_STRING` has its length and its room in bytes, and a pointer to the text.
pub(super) fn counted(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, width: u8) -> Result<Outcome> {
    let space = &view.session.dump().space;
    let step = u64::from(view.pointer) * 2;
    let count = range.count.unwrap_or(1);
    let mut missing = false;
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i.wrapping_mul(step));
        let head = (space.u16(at), space.u16(at.wrapping_add(2)), space.ptr_at(at, u64::from(view.pointer)));
        let (Some(length), Some(room), Some(buffer)) = head else {
            missing = true;
            let line = format!("{}  \"????\"", tick(at, view.pointer));
            let none = Cell::None;
            ctx.out.row_as(&COUNTED, &[address(view, at), none.clone(), none.clone(), none.clone(), none], line)?;
            continue;
        };
        let units = (usize::from(length) / usize::from(width)).min(MOST_UNITS);
        let held = units == 0 || space.slice(buffer, 1).is_some();
        missing |= !held;
        let text = held.then(|| text(space, buffer, width, units));
        let line = format!("{}  \"{}\"", tick(buffer, view.pointer), text.as_deref().unwrap_or("????"));
        let (length, room) = (Cell::Num(length.into()), Cell::Num(room.into()));
        let cells = [Cell::Addr(at), length, room, address(view, buffer), Cell::maybe(text.as_deref())];
        ctx.out.row_as(&COUNTED, &cells, line)?;
    }
    went(ctx, view, range.start.wrapping_add(count.wrapping_mul(step)));
    Ok(outcome(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions() {
        for (v, narrow, text) in [
            (1.5, false, "1.5"),
            (f64::from(0.1f32), true, "0.1"),
            (0.0, false, "0"),
            (1e300, false, "1e300"),
            (9.881_312_916_824_93e-324, false, "1e-323"),
            (f64::NAN, false, "NaN"),
        ] {
            assert_eq!(fraction(v, narrow), text);
        }
    }

    #[test]
    fn numbers_of_bits() {
        assert_eq!(digits(0), "76543210");
        assert_eq!(digits(3), "10987654");
        assert_eq!(tens(3), " 3      ");
        assert_eq!(tens(1), "     1  ");
    }
}
