//! `!strings`: strings by what is in them.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::Result;

use super::filter::Filter;
use crate::clr::Clr;
use crate::heap::{Generation, Object, WalkReport};
use crate::session::Session;
use crate::shell::expr::pattern::matches;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

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
        Arg::opt("m", Kind::Text, "only strings this pattern fits: * ? [a-z] # + as in $spat").or(&["match"]),
        Arg::opt("minlength", Kind::Count, "at least so many characters").or(&["n"]),
        Arg::opt("maxlength", Kind::Count, "at most so many characters").or(&["x"]),
        Arg::opt("gen", Kind::Text, "only gen0, gen1, gen2, loh, poh or foh").words(Generation::WORDS).or(&["g"]),
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
    returns: Returns::facts(&[
        Fact::new("strings", "strings listed or counted", Type::Count),
        Fact::new("different", "different texts among them", Type::Count),
        Fact::new("bytes", "bytes of the strings", Type::Bytes),
        Fact::new("wasted", "bytes that holding each text once would save", Type::Bytes),
    ])
    .and(&[&LIST, &ADDRESSES, &TEXTS]),
    run,
};

/// Strings.
const LIST: Table = Table::new(
    "strings",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::left("Gen", "generation", 6),
        Col::right("Length", "length", 10).of(Type::Count),
        Col::left("Value", "value", 0).of(Type::Content),
    ],
);

/// Their addresses alone.
const ADDRESSES: Table = Table::new("strings", &[Col::left("", "address", 0).of(Type::Address)]);

/// Different texts.
const TEXTS: Table = Table::new(
    "texts",
    &[
        Col::right("Count", "count", 0).of(Type::Count),
        Col::right("TotalSize", "total_size", 0).of(Type::Bytes),
        Col::right("Wasted", "wasted", 0).of(Type::Bytes),
        Col::data("example", Type::Address).titled("the first string with the text"),
        Col::left("Value", "value", 0).of(Type::Content),
    ],
)
.rising("wasted");

/// Characters of a text shown.
pub const SHOWN: usize = 128;

struct Wanted {
    part: Option<String>,
    start: Option<String>,
    pattern: Option<String>,
    length: (u64, u64),
}

impl Wanted {
    fn passes(&self, units: u32, text: &str) -> bool {
        (self.length.0..=self.length.1).contains(&u64::from(units))
            && self.start.as_ref().is_none_or(|s| text.starts_with(s.as_str()))
            && self.pattern.as_ref().is_none_or(|p| matches(p, text))
            && self.part.as_ref().is_none_or(|p| text.to_lowercase().contains(p.as_str()))
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let filter = Filter::new(args)?;
    let wanted = Wanted {
        part: args.text("TEXT").map(str::to_lowercase),
        start: args.text("start").map(str::to_owned),
        pattern: args.text("m").map(str::to_owned),
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

/// A text cut for its line.
pub fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or(text)
}

/// What is shown of a text; where values are wanted the whole one, as it is at `address`.
pub fn value<'t>(clr: &Clr, whole: bool, address: u64, shown: impl Into<Cow<'t, str>>) -> Cell<'t> {
    match whole.then(|| clr.string_units(address, usize::MAX)).flatten() {
        Some((_, units)) => Cell::shown(shown, Cell::Units(units.into())),
        None => Cell::text(shown),
    }
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
            if let Some((units, text)) = clr.string_at(o.address, usize::MAX)
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
    let (clr, whole) = (session.clr()?, ctx.out.wants_data());
    if short {
        ctx.out.open_bare(&ADDRESSES)?;
    } else {
        ctx.out.open(&LIST)?;
    }
    let (mut count, mut bytes) = (0u64, 0u64);
    let report = each(session, filter, wanted, |o, generation, units, text| {
        count += 1;
        bytes += o.size;
        if short {
            return ctx.out.row(&[Cell::Addr(o.address)]);
        }
        let value = value(clr, whole, o.address, shown(text));
        ctx.out.row(&[Cell::Addr(o.address), Cell::text(generation), Cell::Sep(u64::from(units)), value])
    })?;
    if !short {
        ctx.out.note("")?;
        let facts = [("strings", Cell::Num(count)), ("bytes", Cell::Num(bytes))];
        ctx.out.facts(&facts, format!("Total {} strings, {} bytes", thousands(count), thousands(bytes)))?;
    }
    Ok(report)
}

/// How often a text is held.
#[derive(Default)]
struct Held {
    count: u64,
    bytes: u64,
    wasted: u64,
    /// The first string with it.
    first: u64,
}

fn statistics(
    ctx: &mut Ctx<'_>,
    session: &Session,
    filter: &Filter,
    wanted: &Wanted,
    top: Option<u64>,
) -> Result<WalkReport> {
    let mut texts: HashMap<Box<str>, Held> = HashMap::new();
    let report = each(session, filter, wanted, |o, _, _, text| {
        let t = match texts.get_mut(text) {
            Some(t) => t,
            None => texts.entry(text.into()).or_insert(Held { first: o.address, ..Held::default() }),
        };
        t.count += 1;
        t.bytes += o.size;
        t.wasted += if t.count > 1 { o.size } else { 0 };
        Ok(())
    })?;
    let sum = |s: (u64, u64, u64), t: &Held| (s.0 + t.count, s.1 + t.bytes, s.2 + t.wasted);
    let (count, bytes, wasted) = texts.values().fold((0, 0, 0), sum);
    let different = texts.len() as u64;
    let mut rows: Vec<_> = texts.into_iter().collect();
    rows.sort_by(|a, b| (a.1.wasted, a.1.bytes, &a.0).cmp(&(b.1.wasted, b.1.bytes, &b.0)));
    let skipped = top.map_or(0, |n| rows.len().saturating_sub(n as usize));
    ctx.out.note("Statistics:")?;
    let (clr, whole) = (session.clr()?, ctx.out.wants_data());
    let cells = rows.iter().skip(skipped).map(|(text, t)| {
        let value = value(clr, whole, t.first, shown(text));
        [Cell::Sep(t.count), Cell::Sep(t.bytes), Cell::Sep(t.wasted), Cell::Addr(t.first), value]
    });
    ctx.out.fill(&TEXTS, cells)?;
    let facts = [("strings", count), ("different", different), ("bytes", bytes), ("wasted", wasted)];
    let [strings, different, bytes, wasted] = facts.map(|(_, n)| thousands(n));
    ctx.out.facts(
        &facts.map(|(key, n)| (key, Cell::Num(n))),
        format!("Total {strings} strings, {different} different, {bytes} bytes, {wasted} of them in copies"),
    )?;
    Ok(report)
}
