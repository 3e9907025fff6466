//! `db`, `dd`, `dq`, `dps`, `da`, `du` and their kin: memory as bytes, words, pointers and text.

use anyhow::{Result, anyhow};

use super::range::{Range, Words, take};
use super::{symbol, tick, value};
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

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

macro_rules! display {
    ($id:ident, $name:literal, $shape:expr, $summary:literal, $example:literal $(, $alias:literal)*) => {
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
    returns: Returns::NOTHING,
            run: |ctx, args| show(ctx, args, $name, $shape),
        };
    };
}

display!(DB, "db", Shape::HexText(1, 16), "memory as bytes and characters", "db @$csp L20");
display!(DW, "dw", Shape::Hex(2, 8), "memory as 16-bit words", "dw @$csp L10");
display!(DD, "dd", Shape::Hex(4, 4), "memory as 32-bit words", "dd @$csp L8");
display!(DC, "dc", Shape::HexText(4, 4), "memory as 32-bit words and characters", "dc @$csp L8");
display!(DQ, "dq", Shape::Hex(8, 2), "memory as 64-bit words", "dq @$csp L8");
display!(DP, "dp", Shape::Hex(POINTER, 2), "memory as pointers", "dp @$csp L8");
display!(DF, "df", Shape::Float(4), "memory as 32-bit floating point numbers", "df @$csp L4");
display!(DA, "da", Shape::Text(1), "text of one-byte characters", "da @$csp");
display!(DU, "du", Shape::Text(2), "text of two-byte characters", "du @$csp");
display!(
    DPS,
    "dps",
    Shape::Symbols,
    "pointers, each with the module or object it points to",
    "dps @$csp L10",
    "dqs",
    "dds"
);
display!(
    DPA,
    "dpa",
    Shape::PointsToText(1),
    "pointers, each with the one-byte text it points to",
    "dpa @$csp L8",
    "dqa",
    "dda"
);
display!(
    DPU,
    "dpu",
    Shape::PointsToText(2),
    "pointers, each with the two-byte text it points to",
    "dpu @$csp L8",
    "dqu",
    "ddu"
);
display!(
    DPP,
    "dpp",
    Shape::PointsToPointer,
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
    returns: Returns::NOTHING,
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

fn element(bytes: Option<&[u8]>, size: u8) -> String {
    let Some(b) = bytes else {
        return match size {
            8 => "????????`????????".into(),
            n => "?".repeat(usize::from(n) * 2),
        };
    };
    let v = b.iter().rev().fold(0u64, |v, x| v << 8 | u64::from(*x));
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

const GRID: &[Col] = &[Col::left("", "address", 0), Col::left("", "values", 0), Col::left("", "text", 0)];

fn grid(
    ctx: &mut Ctx<'_>,
    view: &View<'_>,
    range: &Range,
    (size, columns): (u8, u8),
    letters: bool,
) -> Result<Outcome> {
    let space = &view.session.dump().space;
    let step = u64::from(size);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let per_line = u64::from(columns);
    let mut missing = false;
    ctx.out.table("memory", GRID, false)?;
    let mut done = 0;
    while done < count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(done * step);
        let n = per_line.min(count - done);
        let (mut values, mut text) = (String::new(), String::new());
        for i in 0..n {
            let a = at.wrapping_add(i * step);
            let bytes = space.slice(a, usize::from(size));
            missing |= bytes.is_none();
            values.push(match i {
                0 => ' ',
                8 if size == 1 => '-',
                _ => ' ',
            });
            values.push_str(&element(bytes, size));
            for k in 0..step {
                text.push(letter(space.u8(a.wrapping_add(k))));
            }
        }
        let width = usize::from(columns) * (usize::from(size) * 2 + 1);
        let text = if letters {
            format!("{:pad$} {text}", "", pad = width.saturating_sub(values.len()))
        } else {
            String::new()
        };
        ctx.out.row(&[address(view, at), Cell::text(values), Cell::text(text)])?;
        done += n;
        if range.start.checked_add(done * step).is_none() {
            break;
        }
    }
    went(ctx, view, range.start.wrapping_add(done * step));
    Ok(outcome(missing))
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

const PAIRS: &[Col] = &[Col::left("", "address", 0), Col::left(" ", "value", 0), Col::left("", "what", 0)];

fn floats(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range) -> Result<Outcome> {
    let mut missing = false;
    ctx.out.table("memory", PAIRS, false)?;
    let count = range.count.unwrap_or(DEFAULT_BYTES / 4);
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i * 4);
        let v = view.session.dump().space.u32(at).map(f32::from_bits);
        missing |= v.is_none();
        ctx.out.row(&[
            address(view, at),
            Cell::text(v.map_or(" ????????".into(), |v| format!(" {v:e}"))),
            Cell::None,
        ])?;
    }
    went(ctx, view, range.start.wrapping_add(count * 4));
    Ok(outcome(missing))
}

fn text(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, width: u8) -> Result<Outcome> {
    let space = &view.session.dump().space;
    let step = u64::from(width);
    let count = range.count.unwrap_or(DEFAULT_CHARACTERS);
    ctx.out.table("memory", PAIRS, false)?;
    let (mut line, mut from, mut at) = (String::new(), range.start, range.start);
    let mut missing = false;
    for i in 0..count {
        if i % 4096 == 0 {
            view.session.watch.cancel.check()?;
        }
        let unit = if width == 1 { space.u8(at).map(u16::from) } else { space.u16(at) };
        missing = unit.is_none();
        let Some(unit) = unit.filter(|&u| u != 0) else { break };
        line.push(match char::from_u32(u32::from(unit)) {
            Some(c) if width == 2 && !c.is_control() || c.is_ascii_graphic() || c == ' ' => c,
            _ => '.',
        });
        at = at.wrapping_add(step);
        if line.chars().count() == LINE {
            ctx.out.row(&[address(view, from), Cell::text(format!(" \"{line}\"")), Cell::None])?;
            (line, from) = (String::new(), at);
        }
    }
    if !line.is_empty() || at == range.start {
        let shown = if missing && line.is_empty() { " \"????\"".to_owned() } else { format!(" \"{line}\"") };
        ctx.out.row(&[address(view, from), Cell::text(shown), Cell::None])?;
    }
    went(ctx, view, at);
    Ok(outcome(missing))
}

fn pointers(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, shape: Shape) -> Result<Outcome> {
    let step = u64::from(view.pointer);
    let count = range.count.unwrap_or(DEFAULT_BYTES / step);
    let mut missing = false;
    ctx.out.table("memory", PAIRS, false)?;
    for i in 0..count {
        view.session.watch.cancel.check()?;
        let at = range.start.wrapping_add(i * step);
        let v = view.session.dump().space.ptr(at);
        missing |= v.is_none();
        let shown = v.map_or_else(|| " ????????`????????".into(), |v| format!(" {}", tick(v, view.pointer)));
        let what = v.map(|v| what_is_at(view, v, shape)).unwrap_or_default();
        ctx.out.row(&[address(view, at), Cell::text(shown), Cell::text(what)])?;
    }
    went(ctx, view, range.start.wrapping_add(count * step));
    Ok(outcome(missing))
}

/// Characters of a text a pointer points to.
const SHOWN: usize = 64;

fn what_is_at(view: &View<'_>, v: u64, shape: Shape) -> String {
    let space = &view.session.dump().space;
    match shape {
        Shape::PointsToText(_) if !space.readable(v) => String::new(),
        Shape::PointsToText(1) => format!("\"{}\"", space.utf8z(v, SHOWN)),
        Shape::PointsToText(_) => format!("\"{}\"", space.utf16z(v, SHOWN)),
        Shape::PointsToPointer => {
            let Some(p) = space.ptr(v) else { return String::new() };
            format!("{} {}", tick(p, view.pointer), name(view.session, p)).trim_end().to_owned()
        }
        _ => name(view.session, v),
    }
}

/// What a pointer points to: an object, a MethodTable, a place in a module.
pub fn name(session: &Session, v: u64) -> String {
    if v == 0 {
        return String::new();
    }
    if let (Ok(clr), Ok(heap)) = (session.clr(), session.heap()) {
        if heap.segment_at(v).is_some()
            && let Ok(walker) = session.walker()
            && let Some(o) = walker.object_at(v)
        {
            return clr.type_name(o.ty.mt.address).to_string();
        }
        if v.is_multiple_of(u64::from(clr.ptr_size())) && clr.valid_type(v).is_some() {
            return format!("MethodTable {}", clr.type_name(v));
        }
    }
    symbol(session.dump(), v).unwrap_or_default()
}
