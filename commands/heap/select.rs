//! `!select`: fields of objects, by their paths, of those for which a condition holds.

mod judge;
mod plan;
mod query;
mod read;
mod suggest;
mod types;

use anyhow::{Result, bail};

use self::judge::Judge;
use self::plan::{Own, Path};
use self::query::Query;
use self::read::{At, Reader, Value};
use self::types::{Found, Kin, Like, Types};
use super::filter::Filter;
use crate::heap::ordered::Make;
use crate::heap::{Object, Segment, WalkReport};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::pipes::condition::{Asked, Check};
use crate::shell::pipes::name::Name;
use crate::shell::words::SyntaxError;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!select`.
pub const SELECT: Command = Command {
    name: "select",
    prefix: Prefix::Bang,
    aliases: &["hq", "wfrom", "wselect"],
    group: Group::Heap,
    summary: "ask objects of a type for their fields: FIELD, ... from TYPE [where CONDITION]",
    help: "FIELDS are paths, separated by commas: Customer.Name, _items.Length, _items[0].Total, [0].Name of arrays. A property \
           that the compiler made a field for has its own name; a leading _ or m_ and the case of letters do not count where no \
           field is spelled so. Of the object itself there are @address, @size, @gen, @type, @mt, @value (the text of a string, what \
           is in a box), @retained (bytes that would be freed with it), @owner (the object that holds it on a shortest way from a root) and @ownertype. * is all fields, \
           FIELD as NAME names a column.\n\n\
           TYPE is part of the name of a type, in which case counts; in quotes it is the whole name; with * or ? a pattern; -mt \
           takes a MethodTable instead, -type the same as from. An address behind from means that one object. -derived takes \
           what derives from such types too. Where several types are meant, a field that one lacks has no value there.\n\n\
           CONDITION is what | where takes, on paths: == != < <= > >= ~ contains like (* ? % in the pattern) startswith endswith, \
           is null, is not null, with and, or, not and parentheses. Text is compared whatever its case and stands in quotes where \
           it has blanks; [PATH] on the right is another field; numbers are decimal, 0x for hexadecimal, for references and \
           addresses hexadecimal; values of enums are named. A path that ends at a null has no value: it is unequal to everything.\n\n\
           Strings are their text, boxes what is in them, references addresses; dates, identifiers and other values of the library \
           are spelled out. Sort, group and count with pipes. Lines of NetExt (!wfrom -type T where (...) select ...) are \
           understood, with $addr() $mt() $typename() $enumname(F) $string(F) $arraysize(F) $a(\"NAME\", F) $contains(F, \"x\") \
           $wildcardmatch(F, \"x*\") $isnull(F).",
    args: &[
        Arg::flag("derived", "types that derive from TYPE too").or(&["inherited"]),
        Arg::opt(
            "implement",
            Kind::TypeName,
            "only types that derive from a class, or implement an interface, whose name contains this",
        ),
        Filter::MT,
        Filter::TYPE,
        Arg::opt("obj", Kind::Object, "only this object"),
        Filter::SMALLEST,
        Filter::LARGEST,
        Filter::LIVE,
        Filter::DEAD,
        Filter::GEN,
        Filter::HEAP,
        Filter::SEGMENT,
        Arg::flag("nofield", "accepted; columns have their titles once").or(&["nospace"]),
        Arg::pos("QUESTION", Kind::Rest, "FIELD, ... from TYPE [where CONDITION]").completes(suggest::suggest),
    ],
    examples: &[
        Example {
            line: "!select @address, _size, _items.Length from List< where _size > 10",
            what: "lists by their length",
        },
        Example {
            line: "!select _message, _HResult from Exception where _message is not null",
            what: "what exceptions say",
        },
        Example {
            line: "!select @address, @retained from \"System.Byte[]\" where Length > 1000 | sort -retained | top 5",
            what: "the five arrays that keep most alive",
        },
        Example { line: "!select * from $EXCEPTION", what: "all fields of one object" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("objects", "objects for which the condition holds", Type::Count),
        Fact::new("looked_at", "objects of the types asked for", Type::Count),
    ])
    .and(&[&OBJECTS]),
    run,
};

/// The objects.
const OBJECTS: Table = Table::varying("objects", "the fields asked for, by their paths or the names given");

/// Columns of one question.
const MOST_FIELDS: usize = 256;
/// Characters of a text shown in a row.
const SHOWN: usize = 128;
/// Widest column, but for the last.
const WIDE: usize = 40;
/// Objects of a block.
const ROWS: usize = 1024;

/// A question, ready to be asked.
struct Asking<'s> {
    session: &'s Session,
    filter: Filter,
    types: Types,
    /// Of the columns first, then those the condition names.
    paths: Vec<Path>,
    columns: Vec<Col>,
    check: Option<Check>,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let query = query::read(args.text("QUESTION").unwrap_or(""))?;
    let asking = asking(session, args, &query)?;
    ctx.out.accepts(&OBJECTS, &asking.columns)?;
    prepare(session, &asking.paths)?;
    let one = args.number("obj").or_else(|| one_object(session, &query));
    let (count, looked, report) = match one {
        Some(address) => single(ctx.out, &asking, address)?,
        None => walk(ctx.out, &asking)?,
    };
    let line = format!("{} objects of {} looked at", thousands(count), thousands(looked));
    ctx.out.note("")?;
    ctx.out.facts(&[("objects", Cell::Num(count)), ("looked_at", Cell::Num(looked))], line)?;
    let heap = session.heap()?.problems.first().cloned();
    Ok(match report.sentence().or(heap) {
        Some(why) => Outcome::Partial(why),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The object an address behind `from` means.
fn one_object(session: &Session, query: &Query) -> Option<u64> {
    let from = query.from.as_ref().filter(|f| !f.exact)?;
    let address = crate::shell::expr::number(&from.text.text)?;
    session.value(address).map(|_| address)
}

/// What paths say that is not in the objects themselves is computed before the walk.
fn prepare(session: &Session, paths: &[Path]) -> Result<()> {
    for path in paths {
        match path {
            Path::Own(Own::Retained) => {
                session.dominators()?;
            }
            Path::Own(Own::Owner | Own::OwnerType) => {
                session.holders()?;
            }
            _ => continue,
        }
        session.index()?;
    }
    Ok(())
}

fn asking<'s>(session: &'s Session, args: &Args, query: &Query) -> Result<Asking<'s>> {
    let mut filter = Filter::new(args)?;
    (filter.mt, filter.name) = (None, None);
    let types = types_of(session, args, query)?;
    let mut asking = Asking { session, filter, types, paths: Vec::new(), columns: Vec::new(), check: None };
    for field in &query.fields {
        match field.path.text.as_str() {
            "*" => asking.all_fields()?,
            _ => asking.column(&field.path, field.title.as_deref())?,
        }
    }
    if let Some(condition) = &query.condition {
        let mut find = |name: &Name, asked: Asked<'_>| asking.place(name, asked);
        let check = condition.with_columns(&mut find)?;
        asking.check = Some(check);
    }
    Ok(asking)
}

/// The types a question is about.
fn types_of(session: &Session, args: &Args, query: &Query) -> Result<Types> {
    let one = args.number("obj").or_else(|| one_object(session, query));
    if let Some(address) = one {
        let Some(found) = session.value(address) else { bail!("no object starts at {address:x}") };
        return types::wanted(session, None, Some(found.mt), Kin::Itself);
    }
    let option = args.text("type").or(args.text("implement"));
    let like = match (&query.from, option) {
        (Some(from), None) => Some(Like::of(from)),
        (None, Some(part)) => Some(Like::part(part)),
        (Some(from), Some(_)) => {
            let what = "the type is given by an option already".to_owned();
            return Err(SyntaxError { column: from.text.column, what }.into());
        }
        (None, None) if args.has("mt") => None,
        (None, None) => bail!("whose fields? FIELD, ... from TYPE [where CONDITION], -type or -mt"),
    };
    let kin = match (args.has("implement"), args.has("derived")) {
        (true, _) => Kin::Implementing,
        (_, true) => Kin::Derived,
        _ => Kin::Itself,
    };
    let types = types::wanted(session, like.as_ref(), args.number("mt"), kin)?;
    if types.all.is_empty() {
        let from = query.from.as_ref().map_or(option.unwrap_or(""), |f| &f.text.text);
        types::none(session, like.as_ref(), kin, from)?;
    }
    Ok(types)
}

impl Asking<'_> {
    /// Adds a column.
    fn column(&mut self, name: &Name, title: Option<&str>) -> Result<()> {
        let path = plan::read(name)?;
        let found = types::resolve(self.session, &self.types, &path, name)?;
        let wanted = title.unwrap_or(name.text.trim_start_matches('@'));
        let mut called = wanted.to_owned();
        let mut again = 2;
        while self.columns.iter().any(|c| c.key == called) {
            called = format!("{wanted}_{again}");
            again += 1;
        }
        if self.columns.len() == MOST_FIELDS {
            bail!("more than {MOST_FIELDS} fields are asked for");
        }
        self.columns.push(Col::named(&called, found.ty));
        self.paths.push(path);
        Ok(())
    }

    /// Adds all fields the types have, in the order of the first that has them.
    fn all_fields(&mut self) -> Result<()> {
        let mut names: Vec<String> = vec!["@address".into()];
        for t in &self.types.all {
            for name in plan::names(self.session, t.mt.address) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            if names.len() > MOST_FIELDS {
                bail!("these types have more than {MOST_FIELDS} fields: name those you want, or one type");
            }
        }
        for text in names {
            self.column(&Name { text, column: 0 }, None)?;
        }
        Ok(())
    }

    /// The number of the path a condition names.
    fn place(&mut self, name: &Name, asked: Asked<'_>) -> Result<usize, SyntaxError> {
        let path = plan::read(name)?;
        let found: Found = types::resolve(self.session, &self.types, &path, name)?;
        types::asks(&found, name, asked)?;
        let known = self.paths.iter().position(|p| *p == path);
        Ok(known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Reader::new(self.session, self.session.clr()?, &self.paths))
    }
}

/// An object that passed.
#[derive(Debug, Clone, Copy)]
struct Passed {
    address: u64,
    mt: u64,
    size: u64,
    generation: &'static str,
}

/// A worker's own.
struct Worker<'a> {
    reader: Reader<'a>,
    looked: u64,
    passed: Vec<Passed>,
}

struct Walk<'a> {
    asking: &'a Asking<'a>,
    reader: Reader<'a>,
}

impl<'a> Make for Walk<'a> {
    type State = Worker<'a>;
    type Block = Vec<Passed>;

    fn begin(&self) -> Worker<'a> {
        Worker { reader: self.reader.clone(), looked: 0, passed: Vec::new() }
    }

    fn visit(&self, own: &mut Worker<'a>, segment: &Segment, o: Object<'_>) {
        let asking = self.asking;
        if !asking.types.wanted.get(o.ty.id as usize).is_some_and(|w| *w)
            || !asking.filter.passes(asking.session, segment, &o)
        {
            return;
        }
        own.looked += 1;
        let at = At::of(&o, segment.generation(o.address).short());
        if let Some(check) = &asking.check
            && !check.holds_for(&mut Judge { reader: &mut own.reader, object: &at })
        {
            return;
        }
        own.passed.push(Passed { address: at.address, mt: at.mt, size: at.size, generation: at.generation });
    }

    fn take(&self, own: &mut Worker<'a>, last: bool) -> Option<Vec<Passed>> {
        let enough = own.passed.len() >= ROWS || last && !own.passed.is_empty();
        enough.then(|| std::mem::take(&mut own.passed))
    }
}

/// Prints rows; the first decide how wide columns are.
struct Printer<'a> {
    asking: &'a Asking<'a>,
    reader: Reader<'a>,
    opened: bool,
    /// Characters of texts that are shown.
    most: usize,
    count: u64,
}

impl<'a> Printer<'a> {
    fn new(out: &Out, asking: &'a Asking<'a>) -> Result<Self> {
        let most = if out.wants_data() { usize::MAX } else { SHOWN };
        Ok(Self { asking, reader: asking.reader()?, opened: false, most, count: 0 })
    }

    fn print(&mut self, out: &mut Out, passed: &[Passed]) -> std::io::Result<()> {
        self.count += passed.len() as u64;
        if !std::mem::replace(&mut self.opened, true) {
            let values: Vec<Vec<Value<'_>>> = passed.iter().map(|p| self.values(p)).collect();
            let rows: Vec<Vec<Cell<'_>>> = values.iter().map(|v| self.cells(v)).collect();
            out.open_with(&OBJECTS, &self.asking.columns, &rows, WIDE)?;
            return rows.iter().try_for_each(|r| out.row(r));
        }
        for p in passed {
            let values = self.values(p);
            out.row(&self.cells(&values))?;
        }
        Ok(())
    }

    fn values(&mut self, p: &Passed) -> Vec<Value<'a>> {
        let bytes = self.asking.session.dump().space.run(p.address).unwrap_or(&[]);
        let bytes = bytes.get(..p.size as usize).unwrap_or(bytes);
        let at = At { address: p.address, mt: p.mt, size: p.size, generation: p.generation, bytes, intact: p.size };
        (0..self.asking.columns.len()).map(|path| self.reader.value(path, &at)).collect()
    }

    fn cells<'v>(&self, values: &'v [Value<'_>]) -> Vec<Cell<'v>> {
        values.iter().map(|v| self.reader.cell(v, self.most)).collect()
    }
}

fn walk(out: &mut Out, asking: &Asking<'_>) -> Result<(u64, u64, WalkReport)> {
    let session = asking.session;
    let (walker, segments) = (session.walker()?, asking.filter.segments(session)?);
    asking.filter.types(session)?;
    let walk = Walk { asking, reader: asking.reader()? };
    let mut printer = Printer::new(out, asking)?;
    let (states, report) = walker.ordered(&segments, (0, u64::MAX), &walk, |passed| printer.print(out, &passed))?;
    if !printer.opened {
        printer.print(out, &[])?;
    }
    Ok((printer.count, states.iter().map(|s| s.looked).sum(), report))
}

fn single(out: &mut Out, asking: &Asking<'_>, address: u64) -> Result<(u64, u64, WalkReport)> {
    let session = asking.session;
    let (walker, heap) = (session.walker()?, session.heap()?);
    let Some(found) = walker.object_at(address) else { bail!("no object starts at {address:x}") };
    let generation = heap.segment_at(address).map_or("", |s| s.generation(address).short());
    let passed = Passed { address, mt: found.ty.mt.address, size: found.size, generation };
    let mut printer = Printer::new(out, asking)?;
    let at = At { address, mt: passed.mt, size: passed.size, generation, bytes: found.bytes, intact: passed.size };
    let mut reader = asking.reader()?;
    let holds = |c: &Check| c.holds_for(&mut Judge { reader: &mut reader, object: &at });
    let rows = if asking.check.as_ref().is_none_or(holds) { &[passed][..] } else { &[] };
    printer.print(out, rows)?;
    Ok((printer.count, 1, WalkReport::default()))
}
