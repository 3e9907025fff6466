//! `db`, `dd`, `dq`, `dps`, `da`, `du` and their kin: memory as bytes, words, pointers and text.

use anyhow::{Result, anyhow};

use super::range::{Range, Words, take};
use super::{module_name, tick, value};
use crate::native::symbols::Place;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// How the elements of a display are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Hexadecimal elements of so many bytes, so many a line.
    Hex(u8, u8),
    /// As `Hex`, with the bytes as text behind.
    HexText(u8, u8),
    /// Floating point numbers of so many bytes.
    Float(u8),
    /// Text of one-byte or two-byte characters, up to its end.
    Text(u8),
    /// Pointers, one a line, with what each points to.
    Symbols,
    /// Pointers, one a line, with the text each points to.
    PointsToText(u8),
    /// Pointers, one a line, with the pointer each points to.
    PointsToPointer,
}

/// Bytes shown when no length is given.
const DEFAULT_BYTES: u64 = 128;
/// Characters of a text shown when no length is given.
const DEFAULT_CHARACTERS: u64 = 256;
/// Characters of a line of `da` and `du`.
const LINE: usize = 32;
/// Bytes of a pointer, replaced by the dump's own.
const POINTER: u8 = 0;

const RANGE: &[Arg] = &[Arg::pos("RANGE", Kind::Rest, "ADDR, ADDR L COUNT, or ADDR END; without it, on from the last")];

/// Elements of a display, one a row.
const MEMORY: Table = Table::new("memory", &[ADDRESS, VALUE]);
/// The same in lines of text; only of bytes and of words shown as characters.
const LINES: Table = Table::new("lines", &[ADDRESS, Col::data("text", Type::Content).titled("the line's characters")]);
const POINTERS: Table = Table::new("memory", &[ADDRESS, POINTER_VALUE, KIND, TYPE, MODULE, OFFSET, SYMBOL]);
const CHAINED: Table = Table::new(
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
const TEXTS: Table = Table::new(
    "memory",
    &[
        ADDRESS,
        POINTER_VALUE,
        Col::left("", "text", 0).of(Type::Content).titled("the text it points to"),
        Col::data("cut", Type::Bool).titled("the text goes on: only its beginning is here"),
    ],
);
const FLOATS: Table = Table::new(
    "memory",
    &[ADDRESS, Col::left("", "value", 0).of(Type::Number).titled("the number; nothing for what is none")],
);

const ADDRESS: Col = Col::left("", "address", 0).of(Type::Address).titled("where it is");
const VALUE: Col = Col::left("", "value", 0).of(Type::Hex).titled("what is there; nothing when the dump lacks it");
const POINTER_VALUE: Col =
    Col::left("", "value", 0).of(Type::Address).titled("the pointer there; nothing when the dump lacks it");
const KIND: Col = Col::left("", "kind", 0).titled("what it points to: object, method_table, method, symbol or module");
const TYPE: Col = Col::data("type", Type::TypeName).titled("the type of the object or MethodTable");
const MODULE: Col = Col::data("module", Type::Text).titled("the module");
const SYMBOL: Col = Col::data("symbol", Type::Text).titled("the method or symbol it is in, with the distance");
const OFFSET: Col = Col::data("offset", Type::Hex).titled("how far into the module");

const NUMBERS: Returns = Returns::tables(&[&MEMORY]);
const CHARACTERS: Returns = Returns::tables(&[&MEMORY, &LINES]);
const STRING: Returns = Returns::facts(&[Fact::new("text", "the whole text", Type::Content)]).and(&[&LINES]);

macro_rules! display {
    ($id:ident, $name:literal, $shape:expr, $returns:expr, $summary:literal, $example:literal $(, $alias:literal)*) => {
        #[doc = concat!("`", $name, "`.")]
        pub const $id: Command = Command {
            name: $name,
            prefix: Prefix::Plain,
            aliases: &[$($alias),*],
            group: Group::Memory,
            summary: $summary,
            help: "ADDR is an expression; L COUNT says how many elements (hexadecimal, 0n for decimal), L?COUNT allows more \
                   than 256 MB. Without an address it goes on where the last display ended. Bytes that are not in the dump \
                   are shown as question marks.",
            args: RANGE,
            examples: &[Example { line: $example, what: $summary }],
            needs: Needs::Dump,
            returns: $returns,
            run: |ctx, args| show(ctx, args, $name, $shape),
        };
    };
}

display!(DB, "db", Shape::HexText(1, 16), CHARACTERS, "memory as bytes and characters", "db @$csp L20");
display!(DW, "dw", Shape::Hex(2, 8), NUMBERS, "memory as 16-bit words", "dw @$csp L10");
display!(DD, "dd", Shape::Hex(4, 4), NUMBERS, "memory as 32-bit words", "dd @$csp L8");
display!(DC, "dc", Shape::HexText(4, 4), CHARACTERS, "memory as 32-bit words and characters", "dc @$csp L8");
display!(DQ, "dq", Shape::Hex(8, 2), NUMBERS, "memory as 64-bit words", "dq @$csp L8");
display!(DP, "dp", Shape::Hex(POINTER, 2), NUMBERS, "memory as pointers", "dp @$csp L8");
display!(
    DF,
    "df",
    Shape::Float(4),
    Returns::tables(&[&FLOATS]),
    "memory as 32-bit floating point numbers",
    "df @$csp L4"
);
display!(DA, "da", Shape::Text(1), STRING, "text of one-byte characters", "da @$csp");
display!(DU, "du", Shape::Text(2), STRING, "text of two-byte characters", "du @$csp");
display!(
    DPS,
    "dps",
    Shape::Symbols,
    Returns::tables(&[&POINTERS]),
    "pointers, each with the module or object it points to",
    "dps @$csp L10",
    "dqs",
    "dds"
);
display!(
    DPA,
    "dpa",
    Shape::PointsToText(1),
    Returns::tables(&[&TEXTS]),
    "pointers, each with the one-byte text it points to",
    "dpa @$csp L8",
    "dqa",
    "dda"
);
display!(
    DPU,
    "dpu",
    Shape::PointsToText(2),
    Returns::tables(&[&TEXTS]),
    "pointers, each with the two-byte text it points to",
    "dpu @$csp L8",
    "dqu",
    "ddu"
);
display!(
    DPP,
    "dpp",
    Shape::PointsToPointer,
    Returns::tables(&[&CHAINED]),
    "pointers, each with the pointer it points to",
    "dpp @$csp L8",
    "dqp",
    "ddp"
);

/// `d`.
pub const D: Command = Command {
    name: "d",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "memory in the form displayed last",
    help: "Shows memory as the last of db, dw, dd, dq, dps, ... did, and goes on from there without an address.",
    args: RANGE,
    examples: &[Example { line: "d @$csp", what: "memory at the stack pointer" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("text", "the whole text", Type::Content)])
        .and(&[&MEMORY, &LINES, &POINTERS, &CHAINED, &TEXTS, &FLOATS]),
    run: |ctx, args| {
        let all = [&DB, &DW, &DD, &DC, &DQ, &DP, &DF, &DA, &DU, &DPS, &DPA, &DPU, &DPP];
        let last = ctx.settings.display.map_or("db", |d| d.0);
        match all.into_iter().find(|c| c.name == last) {
            Some(c) => (c.run)(ctx, args),
            None => (DB.run)(ctx, args),
        }
    },
};

/// What one display works on.
struct View<'a> {
    session: &'a Session,
    pointer: u8,
    /// The name of the command: the next display without an address goes on with it.
    name: &'static str,
}

fn show(ctx: &mut Ctx<'_>, args: &Args, name: &'static str, shape: Shape) -> Result<Outcome> {
    let session = ctx.session()?;
    let pointer = session.dump().arch.pointer_size();
    let view = View { session, pointer, name };
    let size = match shape {
        Shape::Hex(POINTER, _) | Shape::Symbols | Shape::PointsToText(_) | Shape::PointsToPointer => pointer,
        Shape::Hex(n, _) | Shape::HexText(n, _) | Shape::Float(n) | Shape::Text(n) => n,
    };
    let range = range(ctx, args, u64::from(size))?;
    match shape {
        Shape::Hex(n, columns) => {
            let columns = if n == POINTER && pointer == 4 { 4 } else { columns };
            grid(ctx, &view, &range, (size, columns), false)
        }
        Shape::HexText(_, columns) => grid(ctx, &view, &range, (size, columns), true),
        Shape::Float(_) => floats(ctx, &view, &range),
        Shape::Text(width) => text(ctx, &view, &range, width),
        _ => pointers(ctx, &view, &range, shape),
    }
}

fn range(ctx: &Ctx<'_>, args: &Args, size: u64) -> Result<Range> {
    let typed = args.text("RANGE").unwrap_or("");
    let mut words = Words::new(typed.split_whitespace());
    match take(&mut words, size, &|t| value(ctx, t))? {
        Some(r) if words.rest().is_empty() => Ok(r),
        Some(_) => Err(anyhow!("unexpected `{}` after the range", words.rest().join(" "))),
        None => ctx
            .settings
            .display
            .map(|d| Range { start: d.1, count: None })
            .ok_or_else(|| anyhow!("an address is needed: nothing was displayed before")),
    }
}

/// `00007f3a`1c000028`, wide enough for the dump.
fn address(view: &View<'_>, a: u64) -> Cell<'static> {
    Cell::AddrTick(a, view.pointer)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0u64, |v, x| v << 8 | u64::from(*x))
}

fn element(bytes: Option<&[u8]>, size: u8) -> String {
    let Some(v) = bytes.map(number) else {
        return match size {
            8 => "????????`????????".into(),
            n => "?".repeat(usize::from(n) * 2),
        };
    };
    match size {
        8 => format!("{:08x}`{:08x}", v >> 32, v & 0xFFFF_FFFF),
        n => format!("{v:0w$x}", w = usize::from(n) * 2),
    }
}

/// Letters of a byte dump: what is no printable ASCII is a dot.
fn letter(b: Option<u8>) -> char {
    match b {
        Some(b @ 0x20..=0x7E) => char::from(b),
        Some(_) => '.',
        None => '?',
    }
}

/// Where the lines of a display begin, and how many elements each has; none begins behind the end of the address space.
#[derive(Clone, Copy)]
struct Lines {
    start: u64,
    /// Elements in all, and bytes of one.
    count: u64,
    step: u64,
    per_line: u64,
}

impl Lines {
    fn each(self) -> impl Iterator<Item = (u64, u64)> {
        let firsts = (0..self.count).step_by(self.per_line.max(1) as usize);
        firsts.map_while(move |i| {
            let at = self.start.checked_add(i.checked_mul(self.step)?)?;
            Some((at, self.per_line.min(self.count - i)))
        })
    }
}

fn grid(
    ctx: &mut Ctx<'_>,
    view: &View<'_>,
    range: &Range,
    (size, columns): (u8, u8),
    letters: bool,
) -> Result<Outcome> {
    let step = u64::from(size);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let lines = Lines { start: range.start, count, step, per_line: u64::from(columns) };
    if letters && ctx.out.wants_data() {
        // All elements first: only one of two big tables streams.
        for (at, n) in lines.each() {
            view.session.watch.cancel.check()?;
            elements(ctx.out, view, at, n, size)?;
        }
        ctx.out.done(&MEMORY)?;
    }
    let (mut missing, mut next) = (false, range.start);
    for (at, n) in lines.each() {
        view.session.watch.cancel.check()?;
        let mut line = tick(at, view.pointer) + " ";
        let width = line.len() + usize::from(columns) * (usize::from(size) * 2 + 1);
        let text = shown(view, at, n, size, &mut line, &mut missing);
        if letters {
            line.push_str(&" ".repeat(width.saturating_sub(line.len()) + 2));
            line.push_str(&text);
            ctx.out.row_as(&LINES, &[address(view, at), Cell::text(text)], line)?;
        } else {
            elements(ctx.out, view, at, n, size)?;
            ctx.out.facts(&[], line)?;
        }
        next = at.wrapping_add(n * step);
    }
    // `$p`: what was displayed last.
    let last = view.session.dump().space.slice(next.wrapping_sub(step), usize::from(size));
    ctx.settings.values.shown = last.map(number).or(ctx.settings.values.shown);
    went(ctx, view, next);
    Ok(outcome(missing))
}

/// The rows of `n` elements from `at` on.
fn elements(out: &mut Out, view: &View<'_>, at: u64, n: u64, size: u8) -> Result<()> {
    let space = &view.session.dump().space;
    for i in 0..n {
        let a = at.wrapping_add(i * u64::from(size));
        let v = space.slice(a, usize::from(size)).map_or(Cell::None, |b| Cell::Hex(number(b)));
        // Completion remembers where lines begin.
        out.data_row(&MEMORY, &[if i == 0 { address(view, a) } else { Cell::Hex(a) }, v])?;
    }
    Ok(())
}

/// Appends the elements of a line and gives its letters.
fn shown(view: &View<'_>, at: u64, n: u64, size: u8, line: &mut String, missing: &mut bool) -> String {
    let space = &view.session.dump().space;
    let mut text = String::new();
    for i in 0..n {
        let a = at.wrapping_add(i * u64::from(size));
        let bytes = space.slice(a, usize::from(size));
        *missing |= bytes.is_none();
        line.push(if i == 8 && size == 1 { '-' } else { ' ' });
        line.push_str(&element(bytes, size));
        text.extend((0..u64::from(size)).map(|k| letter(space.u8(a.wrapping_add(k)))));
    }
    text
}

fn outcome(missing: bool) -> Outcome {
    match missing {
        true => Outcome::Partial("question marks are bytes the dump does not hold".into()),
        false => Outcome::Complete,
    }
}

/// Remembers where the next display without an address goes on.
fn went(ctx: &mut Ctx<'_>, view: &View<'_>, next: u64) {
    ctx.settings.display = Some((view.name, next));
}

fn floats(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range) -> Result<Outcome> {
    let mut missing = false;
    ctx.out.open_bare(&FLOATS)?;
    let count = range.count.unwrap_or(DEFAULT_BYTES / 4);
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i * 4);
        let v = view.session.dump().space.u32(at).map(f32::from_bits);
        missing |= v.is_none();
        let shown = match v {
            Some(v) => Cell::shown(format!(" {v:e}"), Cell::Float(f64::from(v))),
            None => Cell::shown(" ????????", Cell::None),
        };
        ctx.out.row(&[address(view, at), shown])?;
    }
    went(ctx, view, range.start.wrapping_add(count * 4));
    Ok(outcome(missing))
}

fn text(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, width: u8) -> Result<Outcome> {
    let space = &view.session.dump().space;
    let step = u64::from(width);
    let count = range.count.unwrap_or(DEFAULT_CHARACTERS);
    let whole = ctx.out.wants_data();
    let mut all: Vec<u16> = Vec::new();
    let (mut line, mut from, mut at) = (String::new(), range.start, range.start);
    let mut missing = false;
    for i in 0..count {
        if i % 4096 == 0 {
            view.session.watch.cancel.check()?;
        }
        let unit = if width == 1 { space.u8(at).map(u16::from) } else { space.u16(at) };
        missing = unit.is_none();
        let Some(unit) = unit.filter(|&u| u != 0) else { break };
        if whole {
            all.push(unit);
        }
        line.push(match char::from_u32(u32::from(unit)) {
            Some(c) if width == 2 && !c.is_control() || c.is_ascii_graphic() || c == ' ' => c,
            _ => '.',
        });
        at = at.wrapping_add(step);
        if line.chars().count() == LINE {
            text_line(ctx.out, view, from, &line)?;
            (line, from) = (String::new(), at);
        }
    }
    if missing && line.is_empty() && at == range.start {
        let shown = format!("{}  \"????\"", tick(from, view.pointer));
        ctx.out.row_as(&LINES, &[address(view, from), Cell::None], shown)?;
    } else if !line.is_empty() || at == range.start {
        text_line(ctx.out, view, from, &line)?;
    }
    if at != range.start || !missing {
        match width {
            // One byte may be part of a character in UTF-8.
            1 => {
                let bytes: Vec<u8> = all.iter().map(|&u| u as u8).collect();
                ctx.out.datum("text", &Cell::text(String::from_utf8_lossy(&bytes)));
            }
            _ => ctx.out.datum("text", &Cell::Units(all.into())),
        }
    }
    went(ctx, view, at);
    Ok(outcome(missing))
}

fn text_line(out: &mut Out, view: &View<'_>, at: u64, text: &str) -> Result<()> {
    let line = format!("{}  \"{text}\"", tick(at, view.pointer));
    Ok(out.row_as(&LINES, &[address(view, at), Cell::text(text)], line)?)
}

fn pointers(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, shape: Shape) -> Result<Outcome> {
    let step = u64::from(view.pointer);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let mut missing = false;
    ctx.out.open_bare(match shape {
        Shape::PointsToText(_) => &TEXTS,
        Shape::PointsToPointer => &CHAINED,
        _ => &POINTERS,
    })?;
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i * step);
        let v = view.session.dump().space.ptr(at);
        missing |= v.is_none();
        let value = match v {
            Some(v) => Cell::shown(format!(" {}", tick(v, view.pointer)), Cell::Addr(v)),
            None => Cell::shown(" ????????`????????", Cell::None),
        };
        match shape {
            Shape::PointsToText(width) => {
                let [text, cut] = text_at(ctx.out, view, v, width);
                ctx.out.row(&[address(view, at), value, text, cut])?;
            }
            Shape::PointsToPointer => {
                let p = v.and_then(|v| view.session.dump().space.ptr(v));
                let [kind, ty, module, offset, symbol] = cells(p.and_then(|p| thing(view.session, p)));
                let target = p.map_or(Cell::None, |p| address(view, p));
                ctx.out.row(&[address(view, at), value, target, kind, ty, module, offset, symbol])?;
            }
            _ => {
                let [kind, ty, module, offset, symbol] = cells(v.and_then(|v| thing(view.session, v)));
                ctx.out.row(&[address(view, at), value, kind, ty, module, offset, symbol])?;
            }
        }
    }
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
    let read = |max: usize| if width == 1 { space.utf8z(v, max) } else { space.utf16z(v, max) };
    let shown = format!("\"{}\"", read(SHOWN));
    if !out.wants_data() {
        return [Cell::text(shown), Cell::None];
    }
    let ends = |i: u64| {
        let at = v.checked_add(i * u64::from(width));
        at.and_then(|a| if width == 1 { space.u8(a).map(u16::from) } else { space.u16(a) }).is_none_or(|u| u == 0)
    };
    let cut = !(0..=MOST_TEXT as u64).any(ends);
    let text = read(MOST_TEXT);
    [Cell::shown(shown, Cell::text(text)), Cell::Bool(cut)]
}

/// What an address is of.
pub enum Thing {
    /// An object of this type.
    Object(String),
    /// The MethodTable of this type.
    MethodTable(String),
    /// A place in managed code: the method, as module and name, and how far into it.
    Method(String, u64),
    /// A place in a module that has a name.
    Symbol {
        /// The place.
        place: Place,
        /// How far into the module it is.
        offset: u64,
    },
    /// A place in a module: its name and how far into it.
    Module(String, u64),
}

impl Thing {
    /// As text has it.
    pub fn text(&self) -> String {
        match self {
            Thing::Object(name) => name.clone(),
            Thing::MethodTable(name) => format!("MethodTable {name}"),
            Thing::Symbol { place, .. } => place.to_string(),
            Thing::Method(name, 0) | Thing::Module(name, 0) => name.clone(),
            Thing::Method(name, offset) | Thing::Module(name, offset) => format!("{name}+0x{offset:x}"),
        }
    }
}

/// Kind, type, module, offset and symbol of a thing; text shows it in the place of the first.
pub fn cells(thing: Option<Thing>) -> [Cell<'static>; 5] {
    let Some(thing) = thing else { return [Cell::None, Cell::None, Cell::None, Cell::None, Cell::None] };
    let shown = thing.text();
    let kind = |kind: &'static str| Cell::shown(shown, Cell::text(kind));
    match thing {
        Thing::Object(name) => [kind("object"), Cell::text(name), Cell::None, Cell::None, Cell::None],
        Thing::MethodTable(name) => [kind("method_table"), Cell::text(name), Cell::None, Cell::None, Cell::None],
        Thing::Method(..) => {
            let text = Cell::text(thing.text());
            [kind("method"), Cell::None, Cell::None, Cell::None, text]
        }
        Thing::Symbol { place, offset } => {
            let text = Cell::text(place.to_string());
            [kind("symbol"), Cell::None, Cell::text(place.module), Cell::Hex(offset), text]
        }
        Thing::Module(name, offset) => [kind("module"), Cell::None, Cell::text(name), Cell::Hex(offset), Cell::None],
    }
}

/// What a pointer points to: an object, a MethodTable, managed code, a place in a module.
pub fn thing(session: &Session, v: u64) -> Option<Thing> {
    if v == 0 {
        return None;
    }
    if let (Ok(clr), Ok(heap)) = (session.clr(), session.heap()) {
        if heap.segment_at(v).is_some()
            && let Ok(walker) = session.walker()
            && let Some(o) = walker.object_at(v)
        {
            return Some(Thing::Object(clr.type_name(o.ty.mt.address).to_string()));
        }
        if v.is_multiple_of(u64::from(clr.ptr_size())) && clr.valid_type(v).is_some() {
            return Some(Thing::MethodTable(clr.type_name(v).to_string()));
        }
    }
    if let Some((name, offset)) = session.method_at(v) {
        return Some(Thing::Method(name, offset));
    }
    let module = session.dump().module_at(v)?;
    let offset = v - module.base;
    match session.native().place(v).filter(|p| p.name.is_some()) {
        Some(place) => Some(Thing::Symbol { place, offset }),
        None => Some(Thing::Module(module_name(module), offset)),
    }
}
