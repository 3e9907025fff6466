//! `s`: memory that holds a pattern.

use anyhow::{Result, anyhow, bail};

use super::range::{Range, Words, take};
use super::{tick, value};
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
           ASCII text, -u two-byte text. [1] as in -[1]q prints addresses alone. The range is ADDR L COUNT or ADDR END; L? \
           allows more than 256 MB. What the dump does not hold is passed over.",
    args: &[Arg::pos("WHAT", Kind::Rest, "[-[1]TYPE] RANGE PATTERN...").joined(|r| r.starts_with('-'))],
    examples: &[Example { line: "s -q @$csp L200 @$csp", what: "pointers to the stack pointer on the stack" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&HITS, &ADDRESSES, &BYTES]),
    run,
};

/// Hits; text shows their bytes with them.
const HITS: Table = Table::new(
    "hits",
    &[
        Col::data("hit", Type::Address).titled("where the pattern is"),
        Col::data("text", Type::Content).titled("the bytes from there on as characters"),
    ],
);

/// Addresses alone.
const ADDRESSES: Table =
    Table::new("hits", &[Col::left("", "hit", 0).of(Type::Address).titled("where the pattern is")]);

/// What stands at each hit.
const BYTES: Table = Table::new(
    "bytes",
    &[
        Col::data("hit", Type::Address).titled("the hit"),
        Col::data("address", Type::Address).titled("address of the byte"),
        Col::data("value", Type::Hex).titled("the byte; nothing when the dump lacks it"),
    ],
)
.under("hits", "hit");

/// Bytes shown of a hit.
const SHOWN: u64 = 16;
/// Hits shown before the rest is left out.
const MOST: usize = 100_000;
/// Bytes of one read of the search.
const CHUNK: u64 = 1 << 20;

struct Search {
    range: Range,
    /// Bytes of an element: addresses of hits are multiples of it.
    size: u64,
    pattern: Vec<u8>,
    bare: bool,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let search = parse(ctx, args.text("WHAT").unwrap_or(""))?;
    let pointer = session.dump().arch.pointer_size();
    let space = &session.dump().space;
    let byte = |at: u64, i: u64| space.u8(at.wrapping_add(i));
    ctx.out.open_bare(if search.bare { &ADDRESSES } else { &HITS })?;
    let (mut hits, mut found) = (0, Vec::new());
    let cut = each(session, &search, |at| {
        hits += 1;
        if search.bare {
            ctx.out.row(&[Cell::Addr(at)])?;
        } else {
            let shown: Vec<Option<u8>> = (0..SHOWN).map(|i| byte(at, i)).collect();
            let hex: Vec<String> = shown.iter().map(|b| b.map_or("??".into(), |b| format!("{b:02x}"))).collect();
            let letter = |b: &Option<u8>| b.filter(|b| b.is_ascii_graphic() || *b == b' ').map_or('.', char::from);
            let text: String = shown.iter().map(letter).collect();
            let line = format!("{}  {}  {text}", tick(at, pointer), hex.join(" "));
            ctx.out.row_as(&HITS, &[Cell::AddrTick(at, pointer), Cell::text(text)], line)?;
            if ctx.out.wants_data() {
                found.push(at);
            }
        }
        Ok(hits < MOST)
    })?;
    // Behind the hits: only one of two big tables streams.
    ctx.out.done(if search.bare { &ADDRESSES } else { &HITS })?;
    for at in found {
        for i in 0..SHOWN {
            let value = byte(at, i).map_or(Cell::None, |b| Cell::Hex(u64::from(b)));
            ctx.out.data_row(&BYTES, &[Cell::Addr(at), Cell::Hex(at.wrapping_add(i)), value])?;
        }
    }
    if cut {
        return Ok(Outcome::Partial(format!("only the first {MOST} hits are shown")));
    }
    Ok(if hits == 0 { Outcome::Empty } else { Outcome::Complete })
}

fn parse(ctx: &Ctx<'_>, text: &str) -> Result<Search> {
    let (mut kind, mut bare, mut rest) = ('b', false, text.trim_start());
    if let Some(option) = rest.strip_prefix('-') {
        let (word, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let plain = word.strip_prefix("[1]");
        bare = plain.is_some();
        kind = plain.unwrap_or(word).chars().next().unwrap_or('b').to_ascii_lowercase();
        rest = after.trim_start();
    }
    // The text to look for may hold blanks: it is what stands in quotes.
    let (range_text, quoted) = match rest.split_once('"') {
        Some((before, after)) => (before, Some(after.trim_end().trim_end_matches('"'))),
        None => (rest, None),
    };
    let size = match kind {
        'b' | 'a' => 1,
        'w' | 'u' => 2,
        'd' => 4,
        'q' => 8,
        _ => bail!("no search -{kind}; there are -b -w -d -q -a -u"),
    };
    let mut words = Words::new(range_text.split_whitespace());
    let range =
        take(&mut words, size, &|t| value(ctx, t))?.ok_or_else(|| anyhow!("a range is needed: ADDR L COUNT"))?;
    let mut pattern = Vec::new();
    match (kind, quoted) {
        ('u', Some(t)) => pattern.extend(show(t).encode_utf16().flat_map(u16::to_le_bytes)),
        (_, Some(t)) => pattern.extend(show(t).bytes()),
        ('a', None) => pattern.extend(show(&words.rest().join(" ")).bytes()),
        ('u', None) => pattern.extend(show(&words.rest().join(" ")).encode_utf16().flat_map(u16::to_le_bytes)),
        _ => {
            for w in words.rest() {
                let v = value(ctx, w)?;
                pattern.extend(v.to_le_bytes().iter().take(size as usize));
            }
        }
    }
    if pattern.is_empty() || range.count.is_none() {
        bail!("usage: s [-[1]b|w|d|q|a|u] ADDR L COUNT PATTERN (or ADDR END PATTERN)");
    }
    let size = if kind == 'u' { 1 } else { size };
    Ok(Search {
        range: Range { count: range.count.map(|c| c.saturating_mul(if kind == 'u' { 2 } else { 1 })), ..range },
        size,
        pattern,
        bare,
    })
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
