//! The six tools: what they take, what they return, and which commands answer.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::engine::{Desk, Done};
use super::params::{Given, Param, Takes};
use crate::commands::{ALL, graph, heap, objects, session};
use crate::shell::Command;
use crate::shell::opaque::{hide, typed};
use crate::shell::page::Page;
use crate::shell::parse::spelled;
use crate::shell::pipes::declared;

/// Bytes of rows that an answer has at most, whatever the limits: what a reader without much room can take.
pub const MOST_BYTES: usize = 48 << 10;
/// Characters of a text.
const TEXT: Takes = Takes::Number(200, 1, 20_000);
/// Milliseconds.
const BUDGET: Takes = Takes::Number(20_000, 1, 300_000);

const DUMP: Param =
    Param::new("dump", Takes::Text, "id of the dump, as `open` gave it; without it the last one opened");
const LIMIT: Param = Param::new("limit", Takes::Number(50, 1, 1000), "rows of each table");
const CUT: Param = Param::new("text", TEXT, "characters of each text; longer ones come as {text, length}");
/// How long a call may take.
pub const TIME: Param =
    Param::new("budget_ms", BUDGET, "milliseconds; what there is by then is returned, marked partial");

/// A tool.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub title: &'static str,
    /// What its reader has to know.
    pub about: &'static str,
    /// What it takes.
    pub params: &'static [Param],
    /// The commands that answer, where they are always the same: its schema has what they declare.
    pub commands: &'static [&'static Command],
    /// Does it.
    pub run: fn(&mut Desk, &Given) -> Result<Done>,
}

/// All of them.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "open",
        title: "Open a dump",
        about: "Opens a .NET dump (minidump or core, also compressed) and describes it: process, runtime, what the dump \
                lacks. Without a path: which dumps are known.",
        params: &[Param::new("path", Takes::Text, "file, in a folder the server was allowed"), CUT, TIME],
        commands: &[&session::target::VERTARGET],
        run: open,
    },
    Tool {
        name: "triage",
        title: "What is wrong",
        about: "Crash, hang, memory or nothing striking: findings with evidence, how sure each is, and the command to run \
                next. Begin here.",
        params: &[DUMP, LIMIT, CUT, TIME],
        commands: &[&session::analyze::ANALYZE],
        run: triage,
    },
    Tool {
        name: "query",
        title: "Run a command",
        about: "Runs any command of the shell (WinDbg and SOS names) with pipes, e.g. `!dumpheap -stat | sort -total_size | top \
                10`, `!dumpheap -type Order | where size > 1000 | count`, `!gcroot ADDR`, `!clrstack -all`, `!strings | group \
                value count`. Filter and sort with pipes rather than by paging. `help` lists commands and pipes.",
        params: &[
            Param::new("command", Takes::Text, "the line").required(),
            DUMP,
            LIMIT,
            Param::new("offset", Takes::Number(0, 0, u64::MAX), "rows of each table to pass over"),
            CUT,
            TIME,
        ],
        commands: &[],
        run: query,
    },
    Tool {
        name: "object",
        title: "Look at an object",
        about: "An object by address: fields with their values, holders (what refers to it), retained (bytes that would go with \
                it), roots (why it is alive).",
        params: &[
            Param::new("address", Takes::Text, "hexadecimal").required(),
            Param::new("parts", Takes::Words(&["fields", "holders", "retained", "roots"], 3), "which of them"),
            DUMP,
            LIMIT,
            CUT,
            TIME,
        ],
        commands: &[&objects::dumpobj::DUMPOBJ, &graph::refs::REFS, &graph::retained::RETAINED, &heap::gcroot::GCROOT],
        run: object,
    },
    Tool {
        name: "compare",
        title: "Compare two dumps",
        about: "What grew from an older dump to a newer one of the same program: types, owners, paths, memory.",
        params: &[
            Param::new("older", Takes::Text, "id or path of the older dump").required(),
            Param::new("parts", Takes::Words(&["types", "owners", "paths", "regions"], 4), "which of them"),
            DUMP,
            LIMIT,
            CUT,
            TIME,
        ],
        commands: &[&graph::diff::DIFF],
        run: compare,
    },
    Tool {
        name: "help",
        title: "Commands and pipes",
        about: "Lists commands and pipes; with a command, its arguments, examples and the tables and columns it returns.",
        params: &[Param::new("command", Takes::Text, "name of a command, or of a pipe")],
        commands: &[],
        run: help,
    },
];

fn page(given: &Given) -> Page {
    // What a tool has no argument for is not limited by it.
    let or = |n: u64, otherwise: u64| if n == 0 { otherwise } else { n };
    let text = or(given.number("text"), 2000);
    Page::new(given.number("offset"), or(given.number("limit"), 1000), text as usize, MOST_BYTES)
}

fn open(desk: &mut Desk, given: &Given) -> Result<Done> {
    if let Some(path) = given.text("path") {
        let path = desk.allowed().file(path)?;
        let at = desk.known(path)?;
        // What cannot be opened is not kept.
        if let Err(e) = desk.shell(at) {
            desk.forget(at);
            return Err(e);
        }
    }
    let mut done = match desk.dump(None) {
        Ok(at) => desk.ask(at, &["vertarget".into()], &page(given))?,
        Err(_) => Done::default(),
    };
    done.set("dumps", desk.list());
    Ok(done)
}

fn triage(desk: &mut Desk, given: &Given) -> Result<Done> {
    let at = desk.dump(given.text("dump"))?;
    desk.ask(at, &["!analyze".into()], &page(given))
}

fn query(desk: &mut Desk, given: &Given) -> Result<Done> {
    let line = typed(given.text("command").unwrap_or_default());
    let at = desk.dump(given.text("dump"))?;
    desk.ask(at, &[line.into_owned()], &page(given))
}

fn object(desk: &mut Desk, given: &Given) -> Result<Done> {
    let address = given.text("address").unwrap_or_default().trim();
    let digits = address.trim_start_matches("0x").replace('`', "");
    if digits.is_empty() || u64::from_str_radix(&digits, 16).is_err() {
        bail!("`address` takes a hexadecimal number");
    }
    let limit = given.number("limit");
    let parts = [
        ("fields", format!("!dumpobj {digits}")),
        ("holders", format!("!refs {digits} -limit 0")),
        ("retained", format!("!retained {digits} -top {limit}")),
        ("roots", format!("!gcroot {digits} -limit {limit}")),
    ];
    let lines: Vec<String> = parts.into_iter().filter(|p| given.has("parts", p.0)).map(|p| p.1).collect();
    let at = desk.dump(given.text("dump"))?;
    desk.ask(at, &lines, &page(given))
}

fn compare(desk: &mut Desk, given: &Given) -> Result<Done> {
    let older = given.text("older").unwrap_or_default();
    let older: PathBuf = match desk.path(older) {
        Some(path) => path,
        None => desk.allowed().file(older)?,
    };
    let flags = [("types", " -stat"), ("owners", " -owners"), ("paths", " -paths"), ("regions", " -regions")];
    let flags: String = flags.into_iter().filter(|f| given.has("parts", f.0)).map(|f| f.1).collect();
    let path = older.to_str().ok_or_else(|| anyhow!("the path is no text"))?;
    let line = format!("!diff {}{flags} -top {}", hide(path), given.number("limit"));
    let at = desk.dump(given.text("dump"))?;
    desk.ask_of_file(at, &line, &page(given))
}

fn help(desk: &mut Desk, given: &Given) -> Result<Done> {
    let Some(name) = given.text("command") else { return Ok(Done::told(".help", contents())) };
    let mut done = desk.ask_nothing(&format!(".help {}", hide(name)), &page(given))?;
    let bare = name.trim().trim_start_matches(['!', '.']);
    if let Some(command) = ALL.iter().find(|c| c.is_called(bare)) {
        done.add_table(results(command));
    }
    Ok(done)
}

/// All commands and pipes, a line each.
fn contents() -> Vec<Value> {
    let commands: Vec<Value> = ALL.iter().map(|c| json!([spelled(c), c.summary])).collect();
    let pipes: Vec<Value> =
        declared::ALL.iter().map(|p| json!([format!("| {} {}", p.name, p.syntax).trim_end(), p.summary])).collect();
    vec![table("commands", &["command", "summary"], commands), table("pipes", &["pipe", "summary"], pipes)]
}

/// What a command declares that it returns.
fn results(command: &Command) -> Value {
    let facts = command.returns.all_facts().into_iter().map(|f| json!([null, f.key, f.ty.name(), f.unit, f.title]));
    let tables = command.returns.all_tables();
    let columns =
        tables.iter().flat_map(|t| t.columns.iter().map(|c| json!([t.name, c.key, c.ty.name(), c.unit, c.title])));
    table("results", &["table", "key", "holds", "unit", "title"], facts.chain(columns).collect())
}

/// A table whose rows nobody but this program wrote.
fn table(name: &str, columns: &[&str], rows: Vec<Value>) -> Value {
    let total = rows.len();
    json!({"name": name, "columns": columns, "rows": rows, "offset": 0, "total": total, "more": 0, "untrusted": []})
}
