//! `.writemem`, `c`: memory into a file, and two ranges of it side by side.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};

use super::range::{Range, Words, take};
use super::{tick, value};
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// Bytes read at once.
const STEP: usize = 1 << 16;

/// `.writemem`.
pub const WRITEMEM: Command = Command {
    name: "writemem",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "write memory to a file",
    help: "Writes the bytes of a range (ADDR L COUNT or ADDR END; L? allows more than 256 MB) to FILE, which is replaced. It \
           ends at the first byte the dump lacks and says so.",
    args: &[
        Arg::pos("FILE", Kind::File, "the file; replaced").required(),
        Arg::pos("RANGE", Kind::Rest, "ADDR L COUNT, or ADDR END").required(),
    ],
    examples: &[Example { line: ".writemem stack.bin @$csp L100", what: "256 bytes of the stack" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("file", "the file", Type::Path),
        Fact::new("start", "where the memory begins", Type::Address),
        Fact::new("size", "bytes written", Type::Bytes),
        Fact::new("asked", "bytes asked for", Type::Bytes),
    ]),
    run: writemem,
};

/// A range of bytes with its length.
fn bytes(ctx: &Ctx<'_>, words: &mut Words<'_>) -> Result<Range> {
    let range = take(words, 1, &|t| value(ctx, t))?;
    range.filter(|r| r.count.is_some()).ok_or_else(|| anyhow!("a range is needed: ADDR L COUNT or ADDR END"))
}

fn writemem(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let pointer = session.dump().arch.pointer_size();
    let mut words = Words::new(args.text("RANGE").unwrap_or("").split_whitespace());
    let range = bytes(ctx, &mut words)?;
    if let Some(word) = words.peek() {
        bail!("unexpected `{}` after the range", show(word));
    }
    let asked = range.count.unwrap_or(0);
    let space = &session.dump().space;
    if asked > 0 && !space.readable(range.start) {
        bail!("nothing is written: {} is not in the dump", tick(range.start, pointer));
    }
    let path = show(args.text("FILE").unwrap_or("")).into_owned();
    let file = File::create(&path).with_context(|| format!("cannot write {path}"))?;
    let mut file = BufWriter::new(file);
    let mut buffer = vec![0; STEP];
    let mut done = 0;
    while done < asked {
        session.watch.cancel.check()?;
        let Some(at) = range.start.checked_add(done) else { break };
        let n = (asked - done).min(STEP as u64) as usize;
        let got = space.read(at, buffer.get_mut(..n).unwrap_or(&mut []));
        file.write_all(buffer.get(..got).unwrap_or(&[])).with_context(|| format!("cannot write {path}"))?;
        done += got as u64;
        if got < n {
            break;
        }
    }
    file.flush().with_context(|| format!("cannot write {path}"))?;
    let facts = [
        ("file", Cell::text(&path)),
        ("start", Cell::Addr(range.start)),
        ("size", Cell::Num(done)),
        ("asked", Cell::Num(asked)),
    ];
    ctx.out.facts(&facts, format!("Writing {done:x} bytes to {path}"))?;
    Ok(match done == asked {
        true => Outcome::Complete,
        false => Outcome::Partial(format!("{done} of {asked} bytes: what follows is not in the dump")),
    })
}

/// `c`.
pub const COMPARE: Command = Command {
    name: "c",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "compare two ranges of memory byte by byte",
    help: "Compares a range (ADDR L COUNT or ADDR END) with what begins at the second address, and lists the bytes that \
           differ: address and byte of the first, then of the second.",
    args: &[Arg::pos("RANGES", Kind::Rest, "ADDR L COUNT ADDR")],
    examples: &[Example { line: "c @$csp L8 @$csp+8", what: "eight bytes and the eight behind them" }],
    needs: Needs::Dump,
    returns: Returns::tables(&[&DIFFERENCES]),
    run: compare,
};

/// Bytes that differ.
const DIFFERENCES: Table = Table::new(
    "differences",
    &[
        Col::data("first", Type::Address).titled("address in the first range"),
        Col::data("first_value", Type::Hex).titled("the byte there"),
        Col::data("second", Type::Address).titled("address in the second"),
        Col::data("second_value", Type::Hex).titled("the byte there"),
    ],
);

/// Most differences shown.
const MOST: u64 = 100_000;

fn compare(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let pointer = session.dump().arch.pointer_size();
    let space = &session.dump().space;
    let mut words = Words::new(args.text("RANGES").unwrap_or("").split_whitespace());
    let range = bytes(ctx, &mut words)?;
    let Some(other) = words.expression() else { bail!("the second address is missing: c ADDR L COUNT ADDR") };
    let other = value(ctx, &other)?;
    if let Some(word) = words.peek() {
        bail!("unexpected `{}` after the second address", show(word));
    }
    let count = range.count.unwrap_or(0);
    let (mut one, mut two) = (vec![0; STEP], vec![0; STEP]);
    let (mut done, mut shown) = (0u64, 0);
    while done < count {
        session.watch.cancel.check()?;
        let (Some(a), Some(b)) = (range.start.checked_add(done), other.checked_add(done)) else { break };
        let n = (count - done).min(STEP as u64) as usize;
        let got = [(a, &mut one), (b, &mut two)].map(|(at, to)| space.read(at, to.get_mut(..n).unwrap_or(&mut [])));
        let both = got[0].min(got[1]);
        for (i, (x, y)) in one.iter().zip(&two).take(both).enumerate().filter(|(_, (x, y))| x != y) {
            if shown == MOST {
                return Ok(Outcome::Partial(format!("only the first {MOST} differences are shown")));
            }
            shown += 1;
            let (a, b) = (a.wrapping_add(i as u64), b.wrapping_add(i as u64));
            let line = format!("{}  {x:02x} - {}  {y:02x}", tick(a, pointer), tick(b, pointer));
            let (x, y) = (Cell::Hex(u64::from(*x)), Cell::Hex(u64::from(*y)));
            ctx.out.row_as(&DIFFERENCES, &[Cell::AddrTick(a, pointer), x, Cell::AddrTick(b, pointer), y], line)?;
        }
        done += both as u64;
        if both < n {
            break;
        }
    }
    Ok(match (done == count, shown) {
        (false, _) => Outcome::Partial(format!("{done} of {count} bytes were compared: the rest is not in the dump")),
        (true, 0) => Outcome::Empty,
        (true, _) => Outcome::Complete,
    })
}
