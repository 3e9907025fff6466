//! `!strings`: strings by what is in them.

use anyhow::Result;
use rayon::prelude::*;

use super::filter::Filter;
use super::texts::{self, Asked, Text, value};
use crate::clr::Clr;
use crate::heap::ordered::Make;
use crate::heap::{Generation, Object, Segment, WalkReport};
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

struct Wanted {
    part: Option<String>,
    start: Option<String>,
    pattern: Option<String>,
    length: (u64, u64),
}

impl Wanted {
    /// The length of the string at `address`, if it is one that is wanted.
    fn length_at(&self, clr: &Clr, address: u64) -> Option<u32> {
        let (units, _) = clr.string_bytes(address, usize::MAX)?;
        let fits = (self.length.0..=self.length.1).contains(&u64::from(units));
        let any = self.start.is_none() && self.pattern.is_none() && self.part.is_none();
        (fits && (any || self.passes(&clr.string_at(address, usize::MAX)?.1))).then_some(units)
    }

    fn passes(&self, text: &str) -> bool {
        self.start.as_ref().is_none_or(|s| text.starts_with(s.as_str()))
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

/// A string that was found.
struct Hit {
    address: u64,
    size: u64,
    units: u32,
    generation: &'static str,
}

/// Hits that are handed on together, unless there are no more.
const HITS: usize = 1024;

struct Finding<'a> {
    session: &'a Session,
    clr: &'a Clr,
    filter: &'a Filter,
    wanted: &'a Wanted,
}

impl Make for Finding<'_> {
    type State = Vec<Hit>;
    type Block = Vec<Hit>;

    fn begin(&self) -> Vec<Hit> {
        Vec::new()
    }

    fn visit(&self, hits: &mut Vec<Hit>, segment: &Segment, o: Object<'_>) {
        if o.ty.is_string
            && self.filter.passes(self.session, segment, &o)
            && let Some(units) = self.wanted.length_at(self.clr, o.address)
        {
            let generation = segment.generation(o.address).short();
            hits.push(Hit { address: o.address, size: o.size, units, generation });
        }
    }

    fn take(&self, hits: &mut Vec<Hit>, last: bool) -> Option<Vec<Hit>> {
        (last || hits.len() >= HITS).then(|| std::mem::take(hits))
    }
}

fn list(ctx: &mut Ctx<'_>, session: &Session, filter: &Filter, wanted: &Wanted, short: bool) -> Result<WalkReport> {
    let (clr, whole) = (session.clr()?, ctx.out.wants_data());
    if short {
        ctx.out.open_bare(&ADDRESSES)?;
    } else {
        ctx.out.open(&LIST)?;
    }
    // What is alive is marked before the walk.
    filter.types(session)?;
    let (mut count, mut bytes) = (0u64, 0u64);
    let finding = Finding { session, clr, filter, wanted };
    let (_, report) =
        session.walker()?.ordered(&filter.segments(session)?, (0, u64::MAX), &finding, |hits: Vec<Hit>| {
            for hit in hits {
                count += 1;
                bytes += hit.size;
                if short {
                    ctx.out.row(&[Cell::Addr(hit.address)])?;
                    continue;
                }
                let value = value(clr, whole, hit.address);
                let length = Cell::Sep(u64::from(hit.units));
                ctx.out.row(&[Cell::Addr(hit.address), Cell::text(hit.generation), length, value])?;
            }
            Ok(())
        })?;
    if !short {
        ctx.out.note("")?;
        let facts = [("strings", Cell::Num(count)), ("bytes", Cell::Num(bytes))];
        ctx.out.facts(&facts, format!("Total {} strings, {} bytes", thousands(count), thousands(bytes)))?;
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
    let (clr, whole) = (session.clr()?, ctx.out.wants_data());
    let counts = |address: u64| wanted.length_at(clr, address).is_some();
    let (mut texts, report) =
        texts::find(ctx.out, session, Asked { filter, counts: &counts, units: usize::MAX }, false)?;
    let sum = |s: (u64, u64, u64), t: &Text| (s.0 + t.count, s.1 + t.bytes, s.2 + t.wasted());
    let (count, bytes, wasted) = texts.iter().fold((0, 0, 0), sum);
    let different = texts.len() as u64;
    let order = |t: &Text| (t.wasted(), t.bytes, t.address);
    let skipped = top.map_or(0, |n| texts.len().saturating_sub(n as usize));
    if skipped > 0 && skipped < texts.len() {
        texts.select_nth_unstable_by_key(skipped, order);
    }
    let rows = texts.get_mut(skipped..).unwrap_or_default();
    rows.par_sort_unstable_by_key(order);
    ctx.out.note("Statistics:")?;
    let cells = rows.iter().map(|t| {
        let value = value(clr, whole, t.address);
        [Cell::Sep(t.count), Cell::Sep(t.bytes), Cell::Sep(t.wasted()), Cell::Addr(t.address), value]
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
