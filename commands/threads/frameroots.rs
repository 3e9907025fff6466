//! What the frames of a stack hold: the rows of `!clrstack -gc`.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::code::stack::{LiveSlot, LiveSlots};
use crate::commands::heap::rootnames::place_of;
use crate::session::Session;
use crate::shell::{Cell, Col, Out, Table, Type, digits};

/// With -gc.
pub const ROOTS: Table = Table::new(
    "roots",
    &[
        Col::data("frame", Type::Count).titled("the frame that holds it"),
        Col::data("place", Type::Text).titled("the register, or that by which the frame knows the slot"),
        Col::data("slot", Type::Address).titled("address of the slot; nothing for a register"),
        Col::data("value", Type::Address).titled("what it holds"),
        Col::data("type", Type::TypeName).titled("type of the object"),
        Col::data("string", Type::Content).titled("its text, of a string"),
        Col::data("interior", Type::Bool).titled("it may point into an object, or at something that is none"),
        Col::data("pinned", Type::Bool).titled("the object must not move"),
    ],
)
.under("frames", "frame");

/// Prints what frame `index` of a stack holds. `number`: that of its row.
pub fn print(session: &Session, out: &mut Out, live: &LiveSlots, (index, number): (usize, u64)) -> Result<()> {
    let clr = session.clr()?;
    for slot in live.slots.iter().filter(|s| s.frame == index) {
        one(clr, out, slot, number)?;
    }
    Ok(())
}

fn one(clr: &Clr, out: &mut Out, s: &LiveSlot, number: u64) -> Result<()> {
    /// Characters of a string that text shows, as SOS does.
    const SHOWN: usize = 31;
    /// UTF-16 units of it that data has.
    const MOST: usize = 1 << 16;
    let w = digits();
    let ty = (!s.interior).then(|| clr.object_type(s.value)).flatten().filter(|mt| clr.valid_type(*mt).is_some());
    let name = ty.map(|mt| clr.type_name_long(mt));
    let is_string = name.as_deref() == Some("System.String");
    let shown = is_string.then(|| clr.string_at(s.value, SHOWN)).flatten();
    let whole = (is_string && out.wants_data()).then(|| clr.string_units(s.value, MOST)).flatten();
    let place = place_of(s.register, s.offset);
    let cells = [
        Cell::Num(number),
        if place.is_empty() { Cell::None } else { Cell::text(&*place) },
        Cell::at(s.address),
        Cell::Addr(s.value),
        Cell::maybe(name.as_deref()),
        whole.map_or(Cell::None, |(_, units)| Cell::Units(units.into())),
        Cell::Bool(s.interior),
        Cell::Bool(s.pinned),
    ];
    let mut line = " ".repeat(2 * w + 2);
    if !place.is_empty() {
        line.push_str(&format!("{place}: "));
    }
    if s.address != 0 {
        line.push_str(&format!("{:0w$x} -> ", s.address));
    }
    line.push_str(&format!("{:0w$x}", s.value));
    for (is, word) in [(s.pinned, " (pinned)"), (s.interior, " (interior)")] {
        line.push_str(if is { word } else { "" });
    }
    if let Some(name) = &name {
        line.push_str(&format!(" - {name}"));
    }
    if let Some((_, text)) = shown {
        line.push_str(&format!(": \"{text}\""));
    }
    Ok(out.row_as(&ROOTS, &cells, line)?)
}
