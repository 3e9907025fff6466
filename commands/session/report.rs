//! `.report`: what the commands say of a dump, as one page to hand on.

mod ahead;
mod chart;
mod growth;
mod icicle;
pub mod model;
mod page;
mod treemap;
mod waitgraph;

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};

use super::analyze::ANALYZE;
use crate::commands::{graph, heap, memory, objects, threads};
use crate::session::Session;
use crate::shell::args::Value;
use crate::shell::redact::{REDACT, last, prose};
use crate::shell::state::{NO_SHEETS, Taken, is_spreadsheet};
use crate::shell::{
    Arg, Args, Cell, Command, Ctx, Example, Fact, Format, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Type,
};

/// `.report FILE`.
pub const REPORT: Command = Command {
    name: "report",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "write what there is to say of the dump as one page to hand on",
    help: "Runs !analyze, !waits and the commands that list memory, suspects, types, stacks, tasks, the thread pool, timers, \
           exceptions, the finalizer queue, handles and modules, and writes what they return into FILE: one HTML page that needs \
           nothing but a browser (it loads nothing and is allowed to load nothing), with the verdicts first, tables that sort \
           and filter, a treemap of the dominator tree and what roots hold field by field (a click or Enter goes into a part), \
           the graph of waits, and under each section the line that repeats it. Numbers are those of the commands. FILE that \
           ends in .json is the model behind the page alone: the answers of the commands as --json has them, and the charts; \
           its schema is docs/schema/report_model.json. FILE that ends in .xlsx is a spreadsheet with a sheet a table, in \
           builds that have the feature xlsx.\n\n\
           Texts of the process (messages, strings, environment, command lines) are left out unless -with-values is given, but for what \
           !analyze quotes; with -redact (or --redact for the whole run) they leave as length and hash, and of paths the \
           last part stays. A \
           page has at most 2 MB: of long tables it has the first rows and says how many more there are, of charts the biggest \
           parts with the others added up. -diff OLDER adds what grew since an older dump, and may be given several times: \
           then there is a column for each dump. The same from a command line: clrscope report DUMP [OLDER...] -o FILE.",
    args: &[
        Arg::pos("FILE", Kind::File, "file to write: .html, .json for the model alone, or .xlsx for its tables")
            .required(),
        Arg::opt("diff", Kind::File, "an older dump of the same program: what grew since; may be repeated"),
        Arg::flag("with-values", "texts of the process too"),
        Arg::flag(REDACT, "texts of the process as length and hash, paths as their last part"),
    ],
    examples: &[Example { line: ".report report.html", what: "a page for those who have no debugger" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("file", "the file written", Type::Path),
        Fact::new("sections", "sections in it", Type::Count),
        Fact::new("bytes", "bytes of it", Type::Bytes),
    ]),
    run,
};

/// What could not be asked, by the reason: often it is the same for many.
#[derive(Debug, Default)]
struct Missing(Vec<(String, Vec<String>)>);

impl Missing {
    fn add(&mut self, what: String, why: String) {
        match self.0.iter_mut().find(|(w, _)| *w == why) {
            Some((_, all)) => all.push(what),
            None => self.0.push((why, vec![what])),
        }
    }

    fn outcome(&self) -> Outcome {
        let parts: Vec<String> = self.0.iter().map(|(why, all)| format!("{}: {why}", all.join(", "))).collect();
        if parts.is_empty() { Outcome::Complete } else { Outcome::Partial(parts.join("; ")) }
    }
}

/// A drawing of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chart {
    Treemap,
    Icicle,
    Waits,
}

/// One section: its title, the command, the options given, what is drawn.
struct Section {
    title: &'static str,
    command: &'static Command,
    options: &'static [(&'static str, Option<u64>)],
    charts: &'static [Chart],
    /// It holds texts of the process and little else.
    values: bool,
}

const fn section(
    title: &'static str,
    command: &'static Command,
    options: &'static [(&'static str, Option<u64>)],
) -> Section {
    Section { title, command, options, charts: &[], values: false }
}

impl Section {
    const fn drawn(mut self, charts: &'static [Chart]) -> Self {
        self.charts = charts;
        self
    }

    const fn of_values(mut self) -> Self {
        self.values = true;
        self
    }
}

const SECTIONS: &[Section] = &[
    section("Verdict", &ANALYZE, &[("v", None)]),
    section("Waits", &threads::waits::WAITS, &[]).drawn(&[Chart::Waits]),
    section("What keeps most", &graph::dominators::DOMINATORS, &[("top", Some(100))])
        .drawn(&[Chart::Treemap, Chart::Icicle]),
    section("Suspects", &graph::leaks::LEAKS, &[]),
    section("Memory of the process", &memory::address::ADDRESS, &[("summary", None)]),
    section("Generations", &heap::heapstat::GCHEAPSTAT, &[]),
    section("Types by retained bytes", &graph::retained::RETAINED, &[("top", Some(100))]),
    section("Namespaces by retained bytes", &graph::retained::RETAINED, &[("namespace", None), ("top", Some(50))]),
    section("Types by own bytes", &heap::dumpheap::DUMPHEAP, &[("stat", None), ("top", Some(200))]),
    section("Stacks", &threads::parallelstacks::PARALLELSTACKS, &[]),
    section("Async methods", &threads::dumpasync::DUMPASYNC, &[("stats", None)]),
    section("Thread pool", &threads::threadpool::THREADPOOL, &[("hc", None)]),
    section("Timers", &threads::timerinfo::TIMERINFO, &[]),
    section("Exceptions", &threads::exceptions::DUMPEXCEPTIONS, &[("stat", None)]),
    section("Finalizer queue", &heap::finalizequeue::FINALIZEQUEUE, &[("stat", None)]),
    section("Handles", &heap::gchandles::GCHANDLES, &[("stat", None)]),
    section("Modules", &objects::modules::CLRMODULES, &[]),
    section("What the dump lacks", &super::symneed::SYMNEED, &[]),
    section("Strings", &heap::strings::STRINGS, &[("top", Some(100))]).of_values(),
    section("Environment and command line", &memory::environment::PEB, &[]).of_values(),
];

impl Section {
    fn line(&self) -> String {
        let mark = if self.command.prefix == Prefix::Dot { "." } else { "!" };
        let options = self.options.iter().map(|(name, n)| match n {
            Some(n) => format!(" -{name} {n}"),
            None => format!(" -{name}"),
        });
        format!("{mark}{}{}", self.command.name, options.collect::<String>())
    }

    fn args(&self) -> Args {
        let mut args = Args::default();
        for &(name, n) in self.options {
            args.push(name, n.map_or(Value::Flag, Value::Number));
        }
        args
    }

    /// The charts. One that cannot be drawn is left out, and why goes to `missing`.
    fn drawings(&self, session: &Session, answer: &Json, missing: &mut Missing) -> Result<Vec<Json>> {
        let mut drawn = Vec::new();
        for chart in self.charts {
            let made = match chart {
                Chart::Treemap => treemap::chart(session).map(|c| (*c).clone()),
                Chart::Icicle => icicle::chart(session).map(|c| (*c).clone()),
                Chart::Waits => Ok(waitgraph::build(answer)),
            };
            match made {
                Ok(chart) => drawn.push(chart),
                Err(why) if why.is::<crate::watch::Interrupted>() => return Err(why),
                Err(why) => missing.add(format!("{chart:?} of {}", self.line()), format!("{why:#}")),
            }
        }
        drawn.retain(|c| ["rows", "nodes"].iter().any(|k| model::list(c, k).len() > 1));
        Ok(drawn)
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let file = args.text("FILE").unwrap_or("report.html").to_owned();
    let data = file.to_lowercase().ends_with(".json");
    let sheets = is_spreadsheet(&file);
    if !data && !sheets && !file.to_lowercase().ends_with(".html") {
        bail!("a report ends in .html, .json or .xlsx, not `{file}`");
    }
    if sheets && !SHEETS {
        bail!("{file}: {NO_SHEETS}");
    }
    let mut missing = Missing::default();
    let model = build(ctx, args, &mut missing)?;
    let number = model::list(&model, "sections").len() as u64;
    let bytes = match sheets {
        true => spreadsheet(&model, &file)?,
        false => {
            let text = if data { serde_json::to_string_pretty(&model)? + "\n" } else { page::write(&model)? };
            let mut to = std::fs::File::create(Path::new(&file)).with_context(|| format!("cannot write {file}"))?;
            to.write_all(text.as_bytes()).with_context(|| format!("cannot write {file}"))?;
            text.len() as u64
        }
    };
    let facts = [("file", Cell::text(&file)), ("sections", Cell::Num(number)), ("bytes", Cell::Num(bytes))];
    ctx.out.facts(&facts, format!("{file}: {number} sections, {bytes} bytes"))?;
    Ok(missing.outcome())
}

/// Whether this build writes spreadsheets.
const SHEETS: bool = cfg!(feature = "xlsx");

/// The tables of the model as a spreadsheet; how many bytes that has.
#[cfg(feature = "xlsx")]
fn spreadsheet(model: &Json, file: &str) -> Result<u64> {
    use crate::shell::sheets::{Book, Value};
    let value = |cell: &Json| match (cell, cell.as_u64()) {
        (_, Some(n)) => Value::number(n),
        (Json::Number(n), _) => n.as_f64().map_or(Value::None, Value::Number),
        (Json::Bool(b), _) => Value::Bool(*b),
        (Json::String(s), _) => Value::Text(s.clone()),
        _ => Value::None,
    };
    std::fs::File::create(file).with_context(|| format!("cannot write {file}"))?;
    let mut book = Book::create(Path::new(file));
    for section in model::list(model, "sections") {
        let (title, answer) = (model::text(section, "title"), model::at(section, "answer"));
        let facts = model::at(answer, "facts").as_object();
        for (key, fact) in facts.into_iter().flatten().filter(|(_, f)| !f.is_null()) {
            book.fact(&format!("{title}: {key}"), value(fact));
        }
        for table in model::list(answer, "tables") {
            let keys: Vec<&str> = model::list(table, "columns").iter().filter_map(Json::as_str).collect();
            let number = book.table(&format!("{title} {}", model::text(table, "name")), &keys);
            for row in model::list(table, "rows") {
                book.row(number, row.as_array().into_iter().flatten().map(value))?;
            }
        }
    }
    book.save().with_context(|| format!("cannot write {file}"))?;
    Ok(std::fs::metadata(file)?.len())
}

#[cfg(not(feature = "xlsx"))]
fn spreadsheet(_: &Json, file: &str) -> Result<u64> {
    bail!("{file}: {NO_SHEETS}")
}

/// The model. What could not be asked goes to `missing`.
fn build(ctx: &mut Ctx<'_>, args: &Args, missing: &mut Missing) -> Result<Json> {
    let values = args.has("with-values");
    let redact = ctx.settings.redact || args.has(REDACT);
    let older: Vec<&str> = args.texts("diff").collect();
    let mut sections = Vec::new();
    ahead::make(ctx.session()?);
    for section in SECTIONS.iter().filter(|s| values || !s.values) {
        let mut given = section.args();
        if let (true, Some(first)) = (section.command.name == ANALYZE.name, older.first()) {
            given.push("diff", Value::Text((*first).to_owned()));
        }
        let line = section.line();
        let mut answer = or_failed(answer(ctx, section.command, &given, &line, redact), &line, redact, missing)?;
        if !values && !redact {
            leave_texts_out(section.command, &mut answer);
        }
        let charts = section.drawings(ctx.session()?, &answer, missing)?;
        sections.push(part(section.title, &line, answer, charts));
        if section.command.name == ANALYZE.name && !older.is_empty() {
            let named = |file: &&str| if redact { last(file).to_owned() } else { (*file).to_owned() };
            let line = older.iter().map(|o| format!("!diff {}", named(o))).collect::<Vec<_>>().join("; ");
            let mut grown = or_failed(growth::build(ctx.session()?, &older), &line, redact, missing)?;
            if let (Some(to), Some(from)) = (grown.as_object_mut(), sections.first().map(|s| &s["answer"])) {
                to.insert("schema".into(), from["schema"].clone());
                to.insert("dump".into(), from["dump"].clone());
                to.insert("command".into(), line.clone().into());
            }
            sections.push(part("Growth", &line, grown, Vec::new()));
        }
    }
    let about = sections.first().and_then(|s| s.pointer("/answer/dump")).cloned().unwrap_or(Json::Null);
    Ok(json!({"report": model::VERSION, "dump": about, "values": values, "sections": sections}))
}

fn part(title: &str, line: &str, answer: Json, charts: Vec<Json>) -> Json {
    json!({"title": title, "command": line, "answer": answer, "left_out": {}, "charts": charts})
}

/// An answer, or that there is none: a report says what it can.
fn or_failed(answer: Result<Json>, line: &str, redact: bool, missing: &mut Missing) -> Result<Json> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(why) if why.is::<crate::watch::Interrupted>() => Err(why),
        Err(why) => {
            missing.add(line.to_owned(), format!("{why:#}"));
            let reason = if redact { prose(&format!("{why:#}")) } else { format!("{why:#}") };
            Ok(json!({"schema": crate::shell::data::SCHEMA, "dump": null, "command": line, "outcome": "failed",
                "reason": reason, "facts": {}, "tables": [], "notes": []}))
        }
    }
}

/// What a command returns, as its answer in JSON.
fn answer(ctx: &mut Ctx<'_>, command: &'static Command, args: &Args, line: &str, redact: bool) -> Result<Json> {
    let session = ctx.session()?;
    if command.needs == Needs::Clr {
        session.clr()?;
    }
    let taken = Taken::default();
    let about = session.about();
    let out = Out::new(Box::new(taken.clone()), Format::Json);
    let mut out = out.redacted(redact, command.returns.all_facts());
    out.begin(line, Some(&about));
    let mut inner = Ctx {
        session: Some(session),
        opening: ctx.opening,
        out: &mut out,
        settings: &mut *ctx.settings,
        commands: ctx.commands,
        request: None,
    };
    match (command.run)(&mut inner, args)? {
        Outcome::Complete => out.end("complete", None)?,
        Outcome::Empty => out.end("empty", None)?,
        Outcome::Partial(why) => out.end("partial", Some(&why))?,
    }
    drop(out);
    Ok(serde_json::from_slice(&taken.bytes())?)
}

/// Takes texts of the process out of an answer: facts and columns declared to hold such.
fn leave_texts_out(command: &Command, answer: &mut Json) {
    // The findings are words of this program around them.
    if command.name == ANALYZE.name {
        return;
    }
    let facts = command.returns.all_facts().into_iter().filter(|f| f.ty == Type::Content).map(|f| f.key);
    for key in facts {
        if let Some(fact) =
            answer.get_mut("facts").and_then(Json::as_object_mut).and_then(|f: &mut Map<_, _>| f.get_mut(key))
        {
            *fact = Json::Null;
        }
    }
    for table in answer.get_mut("tables").and_then(Json::as_array_mut).into_iter().flatten() {
        let name = table.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let declared = command.returns.all_tables();
        let content = |key: &str| {
            let mut of = declared.iter().filter(|t| t.name == name);
            // Columns that are asked for may hold anything.
            of.any(|t| t.varies.is_some() || t.columns.iter().any(|c| c.key == key && c.ty == Type::Content))
        };
        let columns: Vec<bool> = table
            .get("columns")
            .and_then(Json::as_array)
            .map(|c| c.iter().map(|k| k.as_str().is_some_and(content)).collect())
            .unwrap_or_default();
        for row in table.get_mut("rows").and_then(Json::as_array_mut).into_iter().flatten() {
            for (cell, _) in row.as_array_mut().into_iter().flatten().zip(&columns).filter(|(_, hide)| **hide) {
                *cell = Json::Null;
            }
        }
    }
}
