//! `s`: memory that holds a pattern.

use anyhow::{Result, anyhow, bail};

use super::range::{Range, Words, take};
use super::view::{element, text};
use super::{tick, value};
use crate::dump::little_endian;
use crate::session::Session;
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `s`.
pub const S: Command = Command {
    name: "s",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "search memory for bytes, words, pointers or text",
    help: "-b bytes (the default), -w, -d, -q words of 16, 32, 64 bits (at addresses that are multiples of their size), -a \
           ASCII text, -u two-byte text; -sa, -su any text of printable characters, at least 3 or [lN] of them. Flags stand \
           in one bracket in any order: 1 prints addresses alone, w searches writable memory only, s keeps the hits, r \
           searches among the hits kept. The range is ADDR L COUNT or ADDR END; L? allows more than 256 MB. Numbers and \
           characters ('M' 'Z') make the pattern of -b -w -d -q, text in quotes or bare that of -a -u. What the dump does \
           not hold is passed over.",
    args: &[Arg::pos("WHAT", Kind::Rest, "[-[FLAGS]TYPE] RANGE PATTERN...").joined(|r| r.starts_with('-'))],
    examples: &[
        Example { line: "s -q @$csp L200 @$csp", what: "pointers to the stack pointer on the stack" },
        Example { line: "s -[1w]d @$csp L400 0", what: "where writable words are zero, addresses alone" },
        Example { line: "s -[l5]sa @$csp L400", what: "texts of at least five characters" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&HITS, &ADDRESSES, &ELEMENTS]),
    run,
};

/// Hits; text shows what stands there.
const HITS: Table = Table::new(
    "hits",
    &[
        Col::data("hit", Type::Address).titled("where the pattern is"),
        Col::data("text", Type::Content).titled("what stands there as characters"),
    ],
);

/// Addresses alone.
const ADDRESSES: Table =
    Table::new("hits", &[Col::left("", "hit", 0).of(Type::Address).titled("where the pattern is")]);

/// What stands at each hit.
const ELEMENTS: Table = Table::new(
    "elements",
    &[
        Col::data("hit", Type::Address).titled("the hit"),
        Col::data("address", Type::Address).titled("address of the byte or word"),
        Col::data("value", Type::Hex).titled("the byte or word; nothing when the dump lacks it"),
    ],
)
.under("hits", "hit");

/// Bytes shown of a hit.
const SHOWN: u64 = 16;
/// Hits shown before the rest is left out.
const MOST: usize = 100_000;
/// Bytes of one read of the search.
const CHUNK: u64 = 1 << 20;
/// Longest text that is shown whole, in characters; a longer one goes on as another hit.
const MOST_TEXT: u64 = 4096;
/// Shortest text found, in characters, unless said.
const SHORTEST: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Numbers of so many bytes.
    Number(u8),
    /// Text of characters of so many bytes.
    Text(u8),
    /// Any text of characters of so many bytes.
    AnyText(u8),
}

/// What stands between the dash and the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags {
    form: Form,
    bare: bool,
    writable: bool,
    keep: bool,
    among: bool,
    shortest: u64,
}

impl Default for Flags {
    fn default() -> Self {
        let form = Form::Number(1);
        Self { form, bare: false, writable: false, keep: false, among: false, shortest: SHORTEST }
    }
}

struct Search {
    flags: Flags,
    range: Range,
    /// Bytes of an element: addresses of hits are multiples of it.
    size: u64,
    pattern: Vec<u8>,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let search = parse(ctx, args.text("WHAT").unwrap_or(""))?;
    let flags = search.flags;
    let table = if flags.bare { &ADDRESSES } else { &HITS };
    ctx.out.open_bare(table)?;
    let (mut found, mut hits) = (Vec::new(), 0);
    let kept = std::mem::take(&mut ctx.settings.found);
    let writable = Writable::of(session);
    let mut hit = |at: u64, length: u64| {
        if flags.writable && !writable.holds(at) || flags.among && kept.binary_search(&at).is_err() {
            return Ok(true);
        }
        hits += 1;
        found.push(at);
        if flags.bare {
            ctx.out.row(&[Cell::Addr(at)])?;
        } else {
            shown(ctx.out, session, flags.form, at, length)?;
        }
        Ok(hits < MOST)
    };
    let cut = match flags.form {
        Form::AnyText(width) => texts(session, &search, width, &mut hit),
        _ => each(session, &search, |at| hit(at, 0)),
    };
    ctx.out.done(table)?;
    if !flags.bare && !matches!(flags.form, Form::AnyText(_)) && ctx.out.wants_data() {
        // Behind the hits: only one of two big tables streams.
        for at in &found {
            elements(ctx, session, flags.form, *at)?;
        }
    }
    found.sort_unstable();
    ctx.settings.found = if flags.keep { found } else { kept };
    if cut? {
        return Ok(Outcome::Partial(format!("only the first {MOST} hits are shown")));
    }
    Ok(if hits == 0 { Outcome::Empty } else { Outcome::Complete })
}

/// Bytes of what a hit is shown in.
fn step(form: Form) -> u8 {
    let (Form::Number(n) | Form::Text(n) | Form::AnyText(n)) = form;
    n
}

fn elements(ctx: &mut Ctx<'_>, session: &Session, form: Form, at: u64) -> Result<()> {
    let size = step(form);
    for i in 0..SHOWN / u64::from(size) {
        let a = at.wrapping_add(i * u64::from(size));
        let v = session.dump().space.slice(a, usize::from(size));
        let v = v.map_or(Cell::None, |b| Cell::Hex(little_endian(b)));
        ctx.out.data_row(&ELEMENTS, &[Cell::Addr(at), Cell::Hex(a), v])?;
    }
    Ok(())
}

/// The line of a hit: in the type that was searched; of any text, the text.
fn shown(out: &mut crate::shell::Out, session: &Session, form: Form, at: u64, length: u64) -> Result<()> {
    let pointer = session.dump().arch.pointer_size();
    let space = &session.dump().space;
    let cell = Cell::AddrTick(at, pointer);
    if let Form::AnyText(width) = form {
        let length = usize::try_from(length).unwrap_or(0);
        let text = text(space, at, width, length);
        let line = format!("{}  \"{text}\"", tick(at, pointer));
        return Ok(out.row_as(&HITS, &[cell, Cell::text(text)], line)?);
    }
    let size = step(form);
    let mut line = tick(at, pointer) + " ";
    let mut text = String::new();
    for i in 0..SHOWN / u64::from(size) {
        let a = at.wrapping_add(i * u64::from(size));
        let bytes = space.slice(a, usize::from(size));
        line.push(if i == 8 && size == 1 { '-' } else { ' ' });
        line.push_str(&element(bytes, size));
        let printable = |b: u16| u8::try_from(b).ok().filter(|b| b.is_ascii_graphic() || *b == b' ');
        match form {
            Form::Text(2) => text.push(space.u16(a).and_then(printable).map_or('.', char::from)),
            _ => text.extend(
                (0..u64::from(size))
                    .map(|k| space.u8(a.wrapping_add(k)).and_then(|b| printable(b.into())).map_or('.', char::from)),
            ),
        }
    }
    // Numbers have none beside them, as in the displays.
    if matches!(form, Form::Number(1 | 2) | Form::Text(_)) {
        line.push_str(&format!("  {text}"));
    }
    Ok(out.row_as(&HITS, &[cell, Cell::text(text)], line)?)
}

/// Bits of protections that let memory be written (`PAGE_READWRITE`, copied on writing, with execution or without).
const WRITE: u32 = 0xCC;

/// Which memory could be written.
struct Writable(Vec<(u64, u64)>);

impl Writable {
    fn of(session: &Session) -> Self {
        let map = session.dump().map.iter().filter(|e| e.protect & WRITE != 0);
        Self(map.map(|e| (e.start, e.end)).collect())
    }

    fn holds(&self, at: u64) -> bool {
        let i = self.0.partition_point(|r| r.1 <= at);
        self.0.get(i).is_some_and(|r| r.0 <= at)
    }
}

/// Reads `-[FLAGS]TYPE` at the start of `text`.
fn flags(text: &str) -> Result<(Flags, &str)> {
    let mut f = Flags::default();
    let Some(mut rest) = text.strip_prefix('-') else { return Ok((f, text)) };
    let mut bracket = |inside: &str| -> Result<()> {
        let mut rest = inside.trim_start();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c.to_ascii_lowercase() {
                '1' => f.bare = true,
                'w' => f.writable = true,
                's' => f.keep = true,
                'r' => f.among = true,
                'n' | ',' => {}
                'l' => {
                    let digits = rest.trim_start();
                    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                    let number = digits[..end].parse().ok().filter(|n| (1..=MOST_TEXT).contains(n));
                    f.shortest = number.ok_or_else(|| anyhow!("expected a length of 1 to {MOST_TEXT} behind l"))?;
                    rest = &digits[end..];
                }
                _ => bail!("no flag {c} of a search; there are 1 lN r s w"),
            }
            rest = rest.trim_start();
        }
        Ok(())
    };
    while let Some(after) = rest.strip_prefix('[') {
        let (inside, after) = after.split_once(']').ok_or_else(|| anyhow!("the bracket of the flags is not closed"))?;
        bracket(inside)?;
        rest = after;
    }
    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    f.form = match word.to_ascii_lowercase().as_str() {
        "b" => Form::Number(1),
        "w" => Form::Number(2),
        "d" => Form::Number(4),
        "q" => Form::Number(8),
        "a" => Form::Text(1),
        "u" => Form::Text(2),
        "sa" => Form::AnyText(1),
        "su" => Form::AnyText(2),
        "v" => bail!("-v finds C++ objects by their vtable; dps shows what points to a vtable, !dumpheap -mt objects"),
        _ => bail!("no search -{}; there are -b -w -d -q -a -u -sa -su", show(word)),
    };
    Ok((f, after.trim_start()))
}

fn parse(ctx: &Ctx<'_>, text: &str) -> Result<Search> {
    let (flags, rest) = flags(text.trim_start())?;
    // The text to look for may hold blanks: it is what stands in quotes.
    let (range_text, quoted) = match rest.split_once('"') {
        Some((before, after)) => (before, Some(after.trim_end().trim_end_matches('"'))),
        None => (rest, None),
    };
    let (size, number) = (u64::from(step(flags.form)), matches!(flags.form, Form::Number(_)));
    let mut words = Words::new(range_text.split_whitespace());
    let usage = "usage: s -[FLAGS]b|w|d|q|a|u|sa|su ADDR L COUNT PATTERN (or ADDR END PATTERN)";
    let range = take(&mut words, size, &|t| value(ctx, t))?.ok_or_else(|| anyhow!("a range is needed: {usage}"))?;
    let mut pattern = Vec::new();
    match (number, quoted) {
        (true, Some(t)) => pattern.extend(show(t).bytes()),
        (true, None) => {
            for w in words.rest() {
                let v = match w.strip_prefix('\'').and_then(|w| w.strip_suffix('\'')) {
                    Some(c) if !c.is_empty() => c.bytes().rev().fold(0, |v, b| v << 8 | u64::from(b)),
                    _ => value(ctx, w)?,
                };
                pattern.extend(v.to_le_bytes().iter().take(size as usize));
            }
        }
        (false, quoted) => {
            let text = quoted.map_or_else(|| words.rest().join(" "), str::to_owned);
            match size {
                1 => pattern.extend(show(&text).bytes()),
                _ => pattern.extend(show(&text).encode_utf16().flat_map(u16::to_le_bytes)),
            }
        }
    }
    let any = matches!(flags.form, Form::AnyText(_));
    if pattern.is_empty() != any || range.count.is_none() {
        bail!("{usage}");
    }
    // Text begins anywhere.
    let (size, times) = if number { (size, 1) } else { (1, size) };
    let range = Range { count: range.count.map(|c| c.saturating_mul(times)), ..range };
    Ok(Search { flags, range, size, pattern })
}

/// Calls `hit` with the address of each text of printable characters and how many it has until it says to stop; `true`
/// when it did. Text of two-byte characters is looked for at addresses that are multiples of two.
fn texts(session: &Session, s: &Search, width: u8, hit: &mut dyn FnMut(u64, u64) -> Result<bool>) -> Result<bool> {
    let space = &session.dump().space;
    let step = u64::from(width);
    let end = s.range.start.saturating_add(s.range.count.unwrap_or(0));
    let printable = |unit: u16| (0x20..0x7F).contains(&unit) || unit == 9;
    let (mut from, mut length) = (0, 0);
    let mut at = s.range.start.checked_next_multiple_of(step).unwrap_or(u64::MAX);
    let mut buffer = Vec::new();
    while let Some(start) = space.next_readable(at).filter(|a| *a < end) {
        session.watch.cancel.check()?;
        let Some(start) = start.checked_next_multiple_of(step) else { break };
        if start != at && length > 0 {
            if length >= s.flags.shortest && !hit(from, length)? {
                return Ok(true);
            }
            length = 0;
        }
        buffer.resize(CHUNK.min(end - start.min(end)) as usize, 0);
        let got = space.read(start, &mut buffer);
        let bytes = buffer.get(..got).unwrap_or(&[]);
        let mut next = start;
        for unit in bytes.chunks_exact(usize::from(width)) {
            let value = little_endian(unit) as u16;
            if printable(value) && length < MOST_TEXT {
                from = if length == 0 { next } else { from };
                length += 1;
            } else {
                if length >= s.flags.shortest && !hit(from, length)? {
                    return Ok(true);
                }
                (from, length) = (next, u64::from(printable(value)));
            }
            next = next.saturating_add(step);
        }
        // A rest shorter than a character, or nothing at all: on behind it.
        at = if next == start { start.saturating_add(step) } else { next };
    }
    Ok(length >= s.flags.shortest && !hit(from, length)?)
}

/// Calls `hit` with the address of every match until it says to stop; `true` when it did.
fn each(session: &Session, s: &Search, mut hit: impl FnMut(u64) -> Result<bool>) -> Result<bool> {
    let space = &session.dump().space;
    let end = s.range.start.saturating_add(s.range.count.unwrap_or(0).saturating_mul(s.size));
    let length = s.pattern.len() as u64;
    let mut buffer = Vec::new();
    let mut at = s.range.start;
    while let Some(from) = space.next_readable(at).filter(|a| *a < end) {
        session.watch.cancel.check()?;
        let Some(run) = space.run(from) else { break };
        let size = (run.len() as u64).min(CHUNK).min(end - from);
        // A match may reach into the run that follows.
        buffer.resize((size + length - 1).min(end - from) as usize, 0);
        let got = space.read(from, &mut buffer);
        let bytes = buffer.get(..got).unwrap_or(&[]);
        // Only where an element begins, and its first byte first: whole windows compare slowly.
        let step = s.size as usize;
        let begin = ((s.size - (from - s.range.start) % s.size) % s.size) as usize;
        let first = s.pattern.first().copied().unwrap_or(0);
        for i in (begin..size as usize).step_by(step) {
            if bytes.get(i) == Some(&first)
                && bytes.get(i..i + s.pattern.len()) == Some(s.pattern.as_slice())
                && !hit(from + i as u64)?
            {
                return Ok(true);
            }
        }
        let Some(next) = from.checked_add(size) else { break };
        at = next;
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn flags_in_any_order() {
        let (f, rest) = flags("-[1w]q 10 L20 5").unwrap();
        assert_eq!((f.form, f.bare, f.writable, rest), (Form::Number(8), true, true, "10 L20 5"));
        let (f, _) = flags("-[wl5]su 10 L20").unwrap();
        assert_eq!((f.form, f.shortest, f.writable), (Form::AnyText(2), 5, true));
        let (f, _) = flags("-[l 8 s r]a 10 L20 x").unwrap();
        assert_eq!((f.form, f.shortest, f.keep, f.among), (Form::Text(1), 8, true, true));
        assert_eq!(flags("10 L20 5").unwrap(), (Flags::default(), "10 L20 5"));
        for wrong in ["-x 10", "-[z]b 10", "-[l]sa 1", "-[1b 2", "-[l0]sa 1"] {
            assert!(flags(wrong).is_err(), "{wrong}");
        }
    }
}
