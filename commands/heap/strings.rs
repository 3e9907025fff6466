//! `!strings`: strings by what is in them.

use std::collections::HashMap;

use anyhow::Result;

use super::filter::Filter;
use crate::heap::{Generation, Object, WalkReport};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!strings [TEXT]`.
pub const STRINGS: Command = Command {
    name: "strings",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Heap,
    summary: "find strings by their text, or count how often each text is held",
    help: "Lists strings with their generation, length in characters and text; TEXT keeps those that contain it, whatever \
           its case, -start those that begin with it. -minlength and -maxlength are characters. With -stat each different \
           text once: how often it is held, the bytes of all its copies, the bytes that holding it once would save; the \
           biggest saving last.",
    args: &[
        Arg::pos("TEXT", Kind::Text, "only strings that contain this"),
        Arg::opt("start", Kind::Text, "only strings that begin with this (case matters)"),
        Arg::opt("minlength", Kind::Count, "at least so many characters"),
        Arg::opt("maxlength", Kind::Count, "at most so many characters"),
        Arg::opt("gen", Kind::Text, "only gen0, gen1, gen2, loh, poh or foh").words(Generation::WORDS),
        Arg::flag("live", "only strings that the roots reach"),
        Arg::flag("dead", "only strings that nothing reaches"),
        Arg::flag("stat", "each text once, with counts").or(&["summary"]),
        Arg::flag("short", "addresses only"),
        Arg::opt("top", Kind::Count, "with -stat: only so many rows, the biggest"),
    ],
    examples: &[
        Example { line: "!strings http", what: "where addresses of the web are held" },
        Example { line: "!strings -stat -top 20", what: "the texts held most wastefully" },
    ],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

/// Characters read of a string.
const MAX_UNITS: usize = 1 << 16;
/// Characters of a text shown.
const SHOWN: usize = 128;

struct Wanted {
    part: Option<String>,
    start: Option<String>,
    length: (u64, u64),
}

impl Wanted {
    fn passes(&self, units: u32, text: &str) -> bool {
        (self.length.0..=self.length.1).contains(&u64::from(units))
            && self.start.as_ref().is_none_or(|s| text.starts_with(s.as_str()))
            && self.part.as_ref().is_none_or(|p| text.to_lowercase().contains(p.as_str()))
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let filter = Filter::new(args)?;
    let wanted = Wanted {
        part: args.text("TEXT").map(str::to_lowercase),
        start: args.text("start").map(str::to_owned),
        length: (args.number("minlength").unwrap_or(0), args.number("maxlength").unwrap_or(u64::MAX)),
    };
    let report = match args.has("stat") {
        true => statistics(ctx, session, &filter, &wanted, args.number("top"))?,
        false => list(ctx, session, &filter, &wanted, args.has("short"))?,
    };
    Ok(match report.sentence() {
        Some(why) => Outcome::Partial(why),
        None => Outcome::Complete,
    })
}

/// Calls `visit` with every string that passes: its object, its length, its text.
fn each(
    session: &Session,
    filter: &Filter,
    wanted: &Wanted,
    mut visit: impl FnMut(&Object<'_>, &'static str, u32, &str) -> std::io::Result<()>,
) -> Result<WalkReport> {
    let (clr, walker) = (session.clr()?, session.walker()?);
    filter.types(session)?;
    let mut report = WalkReport::default();
    for segment in filter.segments(session)? {
        let mut failed = None;
        report.merge(walker.segment(&segment, (segment.start, segment.end), &mut |o| {
            if !o.ty.is_string || !filter.passes(session, &segment, &o) {
                return true;
            }
            if let Some((units, text)) = clr.string_at(o.address, MAX_UNITS)
                && wanted.passes(units, &text)
            {
                failed = visit(&o, segment.generation(o.address).short(), units, &text).err();
            }
            failed.is_none()
        })?);
        if let Some(e) = failed {
            return Err(e.into());
        }
    }
    Ok(report)
}

fn list(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter, wanted: &Wanted, short: bool) -> Result<WalkReport> {
    const COLUMNS: &[Col] = &[
        Col::right("Address", "address", 16),
        Col::left("Gen", "generation", 6),
        Col::right("Length", "length", 10),
        Col::left("Value", "value", 0),
    ];
    if short {
        ctx.out.table("strings", &[Col::left("", "address", 0)], false)?;
    } else {
        ctx.out.table("strings", COLUMNS, true)?;
    }
    let (mut count, mut bytes) = (0u64, 0u64);
    let report = each(session, filter, wanted, |o, generation, units, text| {
        count += 1;
        bytes += o.size;
        if short {
            return ctx.out.row(&[Cell::Addr(o.address)]);
        }
        let shown: String = text.chars().take(SHOWN).collect();
        ctx.out.row(&[Cell::Addr(o.address), Cell::text(generation), Cell::Sep(u64::from(units)), Cell::text(shown)])
    })?;
    if !short {
        ctx.out.line("")?;
        ctx.out.line(format!("Total {} strings, {} bytes", thousands(count), thousands(bytes)))?;
    }
    Ok(report)
}

fn statistics(
    ctx: &mut Ctx<'_>,
    session: &Session,
    filter: &Filter,
    wanted: &Wanted,
    top: Option<u64>,
) -> Result<WalkReport> {
    const COLUMNS: &[Col] = &[
        Col::right("Count", "count", 0),
        Col::right("TotalSize", "total_size", 0),
        Col::right("Wasted", "wasted", 0),
        Col::left("Value", "value", 0),
    ];
    let mut texts: HashMap<Box<str>, (u64, u64, u64)> = HashMap::new();
    let report = each(session, filter, wanted, |o, _, _, text| {
        let t = match texts.get_mut(text) {
            Some(t) => t,
            None => texts.entry(text.into()).or_default(),
        };
        t.0 += 1;
        t.1 += o.size;
        t.2 += if t.0 > 1 { o.size } else { 0 };
        Ok(())
    })?;
    let (count, bytes, wasted) = texts.values().fold((0, 0, 0), |s, t| (s.0 + t.0, s.1 + t.1, s.2 + t.2));
    let different = texts.len() as u64;
    let mut rows: Vec<_> = texts.into_iter().collect();
    rows.sort_by(|a, b| (a.1.2, a.1.1, &a.0).cmp(&(b.1.2, b.1.1, &b.0)));
    let skipped = top.map_or(0, |n| rows.len().saturating_sub(n as usize));
    let cells: Vec<Vec<Cell<'_>>> = rows
        .iter()
        .skip(skipped)
        .map(|(text, t)| {
            let shown: String = text.chars().take(SHOWN).collect();
            vec![Cell::Sep(t.0), Cell::Sep(t.1), Cell::Sep(t.2), Cell::text(shown)]
        })
        .collect();
    ctx.out.line("Statistics:")?;
    ctx.out.rows("strings", COLUMNS, true, &cells)?;
    let (count, bytes, wasted) = (thousands(count), thousands(bytes), thousands(wasted));
    ctx.out.line(format!(
        "Total {count} strings, {} different, {bytes} bytes, {wasted} of them in copies",
        thousands(different)
    ))?;
    Ok(report)
}
