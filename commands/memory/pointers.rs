//! `dps`, `dpa`, `dpu`, `dpp` and their kin: pointers with what they point to.

use anyhow::Result;

use super::range::Range;
use super::thing::{cells, thing};
use super::tick;
use super::view::{ADDRESS, DEFAULT_BYTES, View, address, element, outcome, text, unit, went};
use crate::dump::little_endian;
use crate::shell::{Cell, Col, Ctx, Out, Outcome, Table, Type};

/// What a pointer is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The module, object or method it points to.
    Thing,
    /// The text of characters of so many bytes it points to.
    Text(u8),
    /// The pointer it points to, and what that points to.
    Pointer,
}

pub(super) const POINTERS: Table = Table::new("memory", &[ADDRESS, POINTER_VALUE, KIND, TYPE, MODULE, OFFSET, SYMBOL]);
pub(super) const CHAINED: Table = Table::new(
    "memory",
    &[
        ADDRESS,
        POINTER_VALUE,
        Col::left("", "target", 0).of(Type::Address).titled("the pointer it points to"),
        KIND,
        TYPE,
        MODULE,
        OFFSET,
        SYMBOL,
    ],
);
pub(super) const TEXTS: Table = Table::new(
    "memory",
    &[
        ADDRESS,
        POINTER_VALUE,
        Col::left("", "text", 0).of(Type::Content).titled("the text it points to"),
        Col::data("cut", Type::Bool).titled("the text goes on: only its beginning is here"),
    ],
);
const POINTER_VALUE: Col =
    Col::left("", "value", 0).of(Type::Address).titled("the pointer there; nothing when the dump lacks it");
const KIND: Col = Col::left("", "kind", 0).titled("what it points to: object, method_table, method, symbol or module");
const TYPE: Col = Col::data("type", Type::TypeName).titled("the type of the object or MethodTable");
const MODULE: Col = Col::data("module", Type::Text).titled("the module");
const SYMBOL: Col = Col::data("symbol", Type::Text).titled("the method or symbol it is in, with the distance");
const OFFSET: Col = Col::data("offset", Type::Hex).titled("how far into the module");

/// Shows pointers of `size` bytes, each with its target.
pub(super) fn show(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, (size, target): (u8, Target)) -> Result<Outcome> {
    let step = u64::from(size);
    let read = |at: u64| view.session.dump().space.slice(at, usize::from(size)).map(little_endian);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let mut missing = false;
    ctx.out.open_bare(match target {
        Target::Text(_) => &TEXTS,
        Target::Pointer => &CHAINED,
        Target::Thing => &POINTERS,
    })?;
    let mut last = None;
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i * step);
        let v = read(at);
        last = v.or(last);
        missing |= v.is_none();
        let value = match v {
            Some(v) => Cell::shown(format!(" {}", tick(v, size)), Cell::Addr(v)),
            None => Cell::shown(format!(" {}", element(None, size)), Cell::None),
        };
        match target {
            Target::Text(width) => {
                let [text, cut] = text_at(ctx.out, view, v, width);
                ctx.out.row(&[address(view, at), value, text, cut])?;
            }
            Target::Pointer => {
                let p = v.and_then(read);
                let [kind, ty, module, offset, symbol] = cells(p.and_then(|p| thing(view.session, p)));
                let target = p.map_or(Cell::None, |p| Cell::AddrTick(p, size));
                ctx.out.row(&[address(view, at), value, target, kind, ty, module, offset, symbol])?;
            }
            Target::Thing => {
                let [kind, ty, module, offset, symbol] = cells(v.and_then(|v| thing(view.session, v)));
                ctx.out.row(&[address(view, at), value, kind, ty, module, offset, symbol])?;
            }
        }
    }
    ctx.settings.values.shown = last.or(ctx.settings.values.shown);
    went(ctx, view, range.start.wrapping_add(count * step));
    Ok(outcome(missing))
}

/// Characters of a text a pointer points to that text shows.
const SHOWN: usize = 64;
/// Most characters read of such a text: a range of pointers may point to one long text again and again.
const MOST_TEXT: usize = 32 << 10;

/// The text at `v`, and whether it goes on behind what was read of it.
fn text_at(out: &Out, view: &View<'_>, v: Option<u64>, width: u8) -> [Cell<'static>; 2] {
    let space = &view.session.dump().space;
    let Some(v) = v.filter(|&v| space.readable(v)) else { return [Cell::None, Cell::None] };
    let read = |max: usize| text(space, v, width, max);
    let shown = format!("\"{}\"", read(SHOWN));
    if !out.wants_data() {
        return [Cell::text(shown), Cell::None];
    }
    let ends =
        |i: u64| v.checked_add(i * u64::from(width)).and_then(|at| unit(space, at, width)).is_none_or(|u| u == 0);
    let cut = !(0..=MOST_TEXT as u64).any(ends);
    [Cell::shown(shown, Cell::text(read(MOST_TEXT))), Cell::Bool(cut)]
}
