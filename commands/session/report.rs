//! `.report`: what the commands say of a dump, as one page to hand on.

mod page;

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};

use super::analyze::ANALYZE;
use crate::commands::{graph, heap, memory, objects, threads};
use crate::shell::args::Value;
use crate::shell::state::Taken;
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
           and filter, and under each section the line that repeats it. FILE that ends in .json is the same as data: the \
           answers of the commands as --json has them. Numbers are those of the commands.\n\n\
           Texts of the process (messages, strings, command lines) are left out unless -with-values is given. Of long tables \
           the page has the first rows and says how many more there are. -diff OLDER adds what grew since an older dump. The \
           same from a command line: clrscope report DUMP [OLDER] -o FILE.",
    args: &[
        Arg::pos("FILE", Kind::File, "file to write: .html, or .json for data").required(),
        Arg::opt("diff", Kind::File, "an older dump of the same program: what grew since"),
        Arg::flag("with-values", "texts of the process too"),
    ],
    examples: &[Example { line: ".report report.html", what: "a page for those who have no debugger" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("file", "the file written", Type::Text),
        Fact::new("sections", "sections in it", Type::Count),
        Fact::new("bytes", "bytes of it", Type::Bytes),
    ]),
    run,
};

/// One section: its title, the command, the options given.
struct Section {
    title: &'static str,
    command: &'static Command,
    options: &'static [(&'static str, Option<u64>)],
}

const SECTIONS: &[Section] = &[
    Section { title: "Verdict", command: &ANALYZE, options: &[("v", None)] },
    Section { title: "Waits", command: &threads::waits::WAITS, options: &[] },
    Section { title: "Memory of the process", command: &memory::address::ADDRESS, options: &[("summary", None)] },
    Section { title: "Generations", command: &heap::heapstat::GCHEAPSTAT, options: &[] },
    Section { title: "Suspects", command: &graph::leaks::LEAKS, options: &[] },
    Section { title: "What keeps most", command: &graph::dominators::DOMINATORS, options: &[("top", Some(100))] },
    Section { title: "Types", command: &heap::dumpheap::DUMPHEAP, options: &[("stat", None), ("top", Some(200))] },
    Section { title: "Stacks", command: &threads::parallelstacks::PARALLELSTACKS, options: &[] },
    Section { title: "Async methods", command: &threads::dumpasync::DUMPASYNC, options: &[("stats", None)] },
    Section { title: "Thread pool", command: &threads::threadpool::THREADPOOL, options: &[("hc", None)] },
    Section { title: "Timers", command: &threads::timerinfo::TIMERINFO, options: &[] },
    Section { title: "Exceptions", command: &threads::exceptions::DUMPEXCEPTIONS, options: &[("stat", None)] },
    Section { title: "Finalizer queue", command: &heap::finalizequeue::FINALIZEQUEUE, options: &[("stat", None)] },
    Section { title: "Handles", command: &heap::gchandles::GCHANDLES, options: &[("stat", None)] },
    Section { title: "Modules", command: &objects::modules::CLRMODULES, options: &[] },
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
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let file = args.text("FILE").unwrap_or("report.html").to_owned();
    let data = file.to_lowercase().ends_with(".json");
    if !data && !file.to_lowercase().ends_with(".html") {
        bail!("a report ends in .html or .json, not `{file}`");
    }
    let values = args.has("with-values");
    let (mut sections, mut missing) = (Vec::new(), Vec::new());
    for section in SECTIONS {
        let mut given = section.args();
        if let (true, Some(older)) = (section.command.name == ANALYZE.name, args.text("diff")) {
            given.push("diff", Value::Text(older.to_owned()));
        }
        let line = section.line();
        let mut answer = match answer(ctx, section.command, &given, &line) {
            Ok(answer) => answer,
            Err(why) if why.is::<crate::watch::Interrupted>() => return Err(why),
            Err(why) => {
                missing.push(format!("{line}: {why}"));
                json!({"outcome": "failed", "reason": why.to_string(), "facts": {}, "tables": [], "notes": []})
            }
        };
        if !values {
            leave_texts_out(section.command, &mut answer);
        }
        sections.push(json!({"title": section.title, "command": line, "answer": answer}));
    }
    let about = sections.first().and_then(|s| s.pointer("/answer/dump")).cloned().unwrap_or(Json::Null);
    let number = sections.len() as u64;
    let model = json!({"dump": about, "values": values, "sections": sections});
    let text = if data { serde_json::to_string_pretty(&model)? + "\n" } else { page::write(&model)? };
    let mut to = std::fs::File::create(Path::new(&file)).with_context(|| format!("cannot write {file}"))?;
    to.write_all(text.as_bytes()).with_context(|| format!("cannot write {file}"))?;
    let bytes = text.len() as u64;
    let facts = [("file", Cell::text(&file)), ("sections", Cell::Num(number)), ("bytes", Cell::Num(bytes))];
    ctx.out.facts(&facts, format!("{file}: {number} sections, {bytes} bytes"))?;
    Ok(if missing.is_empty() { Outcome::Complete } else { Outcome::Partial(missing.join("; ")) })
}

/// What a command returns, as its answer in JSON.
fn answer(ctx: &mut Ctx<'_>, command: &'static Command, args: &Args, line: &str) -> Result<Json> {
    let session = ctx.session()?;
    if command.needs == Needs::Clr {
        session.clr()?;
    }
    let taken = Taken::default();
    let about = session.about();
    let mut out = Out::new(Box::new(taken.clone()), Format::Json);
    out.begin(line, Some(&about));
    let mut inner = Ctx {
        session: Some(session),
        opening: ctx.opening,
        out: &mut out,
        settings: &mut *ctx.settings,
        commands: ctx.commands,
        watch: ctx.watch,
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
