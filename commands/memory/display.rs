//! `db`, `dd`, `dq`, `dps`, `da`, `du` and their kin: memory as bytes, words, pointers and text.

use anyhow::{Result, anyhow};

use super::pointers::{self, CHAINED, POINTERS, TEXTS, Target};
use super::range::{Range, Words, take};
use super::view::{ADDRESS, DEFAULT_BYTES, Lines, MEMORY, View, address, element, elements, outcome, unit, went};
use super::{forms, tick, value};
use crate::dump::little_endian;
use crate::shell::opaque;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// How the elements of a display are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Hexadecimal elements of so many bytes, so many a line.
    Hex(u8, u8),
    /// As `Hex`, with the bytes as text behind.
    HexText(u8, u8),
    /// Floating point numbers of so many bytes.
    Float(u8),
    /// Text of one-byte or two-byte characters, up to its end.
    Text(u8),
    /// Numbers of so many bytes in binary, with their hexadecimal form behind.
    Bits(u8),
    /// Texts with a length (`STRING`, `UNICODE_STRING`) of characters of so many bytes.
    Counted(u8),
    /// Pointers of so many bytes, one a line, with what each points to.
    Pointers(u8, Target),
}

/// Characters of a text shown when no length is given.
const DEFAULT_CHARACTERS: u64 = 256;
/// Characters of a line of `da` and `du`.
const LINE: u8 = 32;
/// Most elements of a line.
const MOST_COLUMNS: u8 = 0x80;
/// Bytes of a pointer, replaced by the dump's own.
const POINTER: u8 = 0;

const RANGE: &[Arg] =
    &[Arg::pos("RANGE", Kind::Rest, "[/c N] ADDR, ADDR L COUNT, or ADDR END; without it, on from the last")];

/// The same in lines of text; only of bytes and of words shown as characters.
const LINES: Table = Table::new("lines", &[ADDRESS, Col::data("text", Type::Content).titled("the line's characters")]);

const NUMBERS: Returns = Returns::tables(&[&MEMORY]);
const CHARACTERS: Returns = Returns::tables(&[&MEMORY, &LINES]);
const STRING: Returns = Returns::facts(&[Fact::new("text", "the whole text", Type::Content)]).and(&[&LINES]);

macro_rules! display {
    ($id:ident, $name:literal, $shape:expr, $returns:expr, $summary:literal, $example:literal) => {
        #[doc = concat!("`", $name, "`.")]
        pub const $id: Command = Command {
            name: $name,
            prefix: Prefix::Plain,
            aliases: &[],
            group: Group::Memory,
            summary: $summary,
            help: "ADDR is an expression; L COUNT says how many elements (hexadecimal, 0n for decimal), L?COUNT allows more \
                   than 256 MB. Without an address it goes on where the last display ended. /c N puts N elements in a \
                   line. Bytes that are not in the dump are shown as question marks. Case counts in dw and dW, dd and dD, ds \
                   and dS.",
            args: RANGE,
            examples: &[Example { line: $example, what: $summary }],
            needs: Needs::Dump,
            returns: $returns,
            run: |ctx, args| show(ctx, args, $name, $shape),
        };
    };
}

const SHOWN_AS: Returns = Returns::tables(&[&POINTERS]);
const WITH_TEXT: Returns = Returns::tables(&[&TEXTS]);
const WITH_POINTER: Returns = Returns::tables(&[&CHAINED]);
const FRACTIONS: Returns = Returns::tables(&[&forms::FLOATS]);
const COUNTED: Returns = Returns::tables(&[&forms::COUNTED]);

display!(DB, "db", Shape::HexText(1, 16), CHARACTERS, "memory as bytes and characters", "db @$csp L20");
display!(DW, "dw", Shape::Hex(2, 8), NUMBERS, "memory as 16-bit words", "dw @$csp L10");
display!(DWTEXT, "dW", Shape::HexText(2, 8), CHARACTERS, "memory as 16-bit words and characters", "dW @$csp L10");
display!(DD, "dd", Shape::Hex(4, 4), NUMBERS, "memory as 32-bit words", "dd /c 2 @$csp L8");
display!(DC, "dc", Shape::HexText(4, 4), CHARACTERS, "memory as 32-bit words and characters", "dc @$csp L8");
display!(DQ, "dq", Shape::Hex(8, 2), NUMBERS, "memory as 64-bit words", "dq @$csp L8");
display!(DP, "dp", Shape::Hex(POINTER, 2), NUMBERS, "memory as pointers", "dp @$csp L8");
display!(DF, "df", Shape::Float(4), FRACTIONS, "memory as 32-bit floating point numbers", "df @$csp L4");
display!(DDOUBLE, "dD", Shape::Float(8), FRACTIONS, "memory as 64-bit floating point numbers", "dD @$csp L4");
display!(DYB, "dyb", Shape::Bits(1), NUMBERS, "memory as bits and bytes", "dyb @$csp L8");
display!(DYD, "dyd", Shape::Bits(4), NUMBERS, "memory as bits and 32-bit words", "dyd @$csp L4");
display!(DA, "da", Shape::Text(1), STRING, "text of one-byte characters", "da @$csp");
display!(DU, "du", Shape::Text(2), STRING, "text of two-byte characters", "du @$csp");
display!(DS, "ds", Shape::Counted(1), COUNTED, "the text of a STRING (length, maximum, pointer)", "ds @$csp");
display!(
    DSWIDE,
    "dS",
    Shape::Counted(2),
    COUNTED,
    "the text of a UNICODE_STRING (length, maximum, pointer)",
    "dS @$csp"
);
display!(
    DPS,
    "dps",
    Shape::Pointers(POINTER, Target::Thing),
    SHOWN_AS,
    "pointers, each with the module or object it points to",
    "dps @$csp L10"
);
display!(
    DDS,
    "dds",
    Shape::Pointers(4, Target::Thing),
    SHOWN_AS,
    "32-bit words, each with the module or object at that address",
    "dds @$csp L8"
);
display!(
    DQS,
    "dqs",
    Shape::Pointers(8, Target::Thing),
    SHOWN_AS,
    "64-bit words, each with the module or object at that address",
    "dqs @$csp L8"
);
display!(
    DPA,
    "dpa",
    Shape::Pointers(POINTER, Target::Text(1)),
    WITH_TEXT,
    "pointers, each with the one-byte text it points to",
    "dpa @$csp L8"
);
display!(
    DDA,
    "dda",
    Shape::Pointers(4, Target::Text(1)),
    WITH_TEXT,
    "32-bit words, each with the one-byte text at that address",
    "dda @$csp L4"
);
display!(
    DQA,
    "dqa",
    Shape::Pointers(8, Target::Text(1)),
    WITH_TEXT,
    "64-bit words, each with the one-byte text at that address",
    "dqa @$csp L4"
);
display!(
    DPU,
    "dpu",
    Shape::Pointers(POINTER, Target::Text(2)),
    WITH_TEXT,
    "pointers, each with the two-byte text it points to",
    "dpu @$csp L8"
);
display!(
    DDU,
    "ddu",
    Shape::Pointers(4, Target::Text(2)),
    WITH_TEXT,
    "32-bit words, each with the two-byte text at that address",
    "ddu @$csp L4"
);
display!(
    DQU,
    "dqu",
    Shape::Pointers(8, Target::Text(2)),
    WITH_TEXT,
    "64-bit words, each with the two-byte text at that address",
    "dqu @$csp L4"
);
display!(
    DPP,
    "dpp",
    Shape::Pointers(POINTER, Target::Pointer),
    WITH_POINTER,
    "pointers, each with the pointer it points to",
    "dpp @$csp L8"
);
display!(
    DDP,
    "ddp",
    Shape::Pointers(4, Target::Pointer),
    WITH_POINTER,
    "32-bit words, each with the pointer at that address",
    "ddp @$csp L4"
);
display!(
    DQP,
    "dqp",
    Shape::Pointers(8, Target::Pointer),
    WITH_POINTER,
    "64-bit words, each with the pointer at that address",
    "dqp @$csp L4"
);

/// All of them: `d` goes on with the last.
const ALL: [&Command; 27] = [
    &DB, &DW, &DWTEXT, &DD, &DC, &DQ, &DP, &DF, &DDOUBLE, &DYB, &DYD, &DA, &DU, &DS, &DSWIDE, &DPS, &DDS, &DQS, &DPA,
    &DDA, &DQA, &DPU, &DDU, &DQU, &DPP, &DDP, &DQP,
];

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
    returns: Returns::facts(&[Fact::new("text", "the whole text", Type::Content)]).and(&[
        &MEMORY,
        &LINES,
        &POINTERS,
        &CHAINED,
        &TEXTS,
        &forms::FLOATS,
        &forms::COUNTED,
    ]),
    run: |ctx, args| {
        let last = ctx.settings.display.map_or("db", |d| d.0);
        match ALL.into_iter().find(|c| c.name == last) {
            Some(c) => (c.run)(ctx, args),
            None => (DB.run)(ctx, args),
        }
    },
};

fn show(ctx: &mut Ctx<'_>, args: &Args, name: &'static str, shape: Shape) -> Result<Outcome> {
    let session = ctx.session()?;
    let pointer = session.dump().arch.pointer_size();
    let view = View { session, pointer, name };
    let size = match shape {
        Shape::Hex(POINTER, _) | Shape::Pointers(POINTER, _) => pointer,
        Shape::Counted(_) => pointer * 2,
        Shape::Hex(n, _)
        | Shape::HexText(n, _)
        | Shape::Float(n)
        | Shape::Bits(n)
        | Shape::Text(n)
        | Shape::Pointers(n, _) => n,
    };
    let (range, wanted) = range(ctx, args, u64::from(size))?;
    match shape {
        Shape::Hex(n, columns) => {
            let columns = if n == POINTER && pointer == 4 { 4 } else { columns };
            grid(ctx, &view, &range, (size, wanted.unwrap_or(columns)), false)
        }
        Shape::HexText(_, columns) => grid(ctx, &view, &range, (size, wanted.unwrap_or(columns)), true),
        Shape::Float(_) => forms::floats(ctx, &view, &range, (size, wanted.unwrap_or(1))),
        Shape::Bits(_) => forms::bits(ctx, &view, &range, (size, wanted.unwrap_or(4 / size.min(4)))),
        Shape::Counted(width) => forms::counted(ctx, &view, &range, width),
        Shape::Text(width) => text(ctx, &view, &range, (width, usize::from(wanted.unwrap_or(LINE)))),
        Shape::Pointers(_, target) => pointers::show(ctx, &view, &range, (size, target)),
    }
}

/// The range of a display, and how many elements a line is to have.
fn range(ctx: &Ctx<'_>, args: &Args, size: u64) -> Result<(Range, Option<u8>)> {
    let typed = args.text("RANGE").unwrap_or("");
    let mut words = Words::new(typed.split_whitespace());
    let mut columns = None;
    while let Some(word) = words.peek().filter(|w| w.starts_with('/')) {
        words.take();
        let number = match word.strip_prefix("/c") {
            Some("") => words.take().ok_or_else(|| anyhow!("expected how many elements a line has behind /c"))?,
            Some(number) => number,
            None => return Err(anyhow!("unexpected `{}`; /c N puts N elements in a line", opaque::show(word))),
        };
        let n = value(ctx, number)?;
        let n = u8::try_from(n).ok().filter(|n| (1..=MOST_COLUMNS).contains(n));
        columns = Some(n.ok_or_else(|| anyhow!("a line has 1 to {MOST_COLUMNS} elements, not {number}"))?);
    }
    let range = match take(&mut words, size, &|t| value(ctx, t))? {
        Some(r) if words.rest().is_empty() => r,
        Some(_) => return Err(anyhow!("unexpected `{}` after the range", words.rest().join(" "))),
        None => ctx
            .settings
            .display
            .map(|d| Range { start: d.1, count: None })
            .ok_or_else(|| anyhow!("an address is needed: nothing was displayed before"))?,
    };
    Ok((range, columns))
}

/// Letters of a byte dump: what is no printable ASCII is a dot.
fn letter(b: Option<u8>) -> char {
    match b {
        Some(b @ 0x20..=0x7E) => char::from(b),
        Some(_) => '.',
        None => '?',
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
    ctx.settings.values.shown = last.map(little_endian).or(ctx.settings.values.shown);
    went(ctx, view, next);
    Ok(outcome(missing))
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

fn text(ctx: &mut Ctx<'_>, view: &View<'_>, range: &Range, (width, per_line): (u8, usize)) -> Result<Outcome> {
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
        let unit = unit(space, at, width);
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
        if line.chars().count() == per_line {
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
