//! A line is prose, a row is data: what the text of an answer says of the dump stands in its facts and tables too, whole
//! and plain, and the schema made from the command's declaration holds.
//!
//! Every example of every command is asked twice, as text and as JSON, and so is the list of commands of one transcript.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;
#[path = "support/runner.rs"]
mod runner;
#[path = "support/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use clrscope::commands::ALL;
use clrscope::commands::session::report;
use clrscope::shell::grammar::{Reach, parse};
use clrscope::shell::state::Shell;
use clrscope::shell::{Command, Format, schema};
use runner::{Filled, Runner};
use serde_json::Value;
use words::Said;

/// Commands that do not yet return what they print. The list only gets shorter: one that keeps the rule is taken off.
const NOT_YET: &[&str] = &[];

/// Commands whose text says nothing of the dump, and what it is instead.
const OTHERS: &[(&str, &str)] = &[
    ("help", "what commands are for"),
    ("printf", "what was typed"),
    ("shell", "what a program prints"),
    ("dx", "what another command answers behind pipes"),
    ("dyb", "the bits of each byte, which the value has as a number"),
    ("dyd", "the bits of each word, which the value has as a number"),
    ("count", "what the pipe of that name makes of another command's tables"),
];

/// Phrases that hold numbers or names and say nothing of the dump.
const PROSE: &[&str] = &["larger than 0.5 MB", "-limit 0 shows all", "Current CodeAddr:     ffffffffffffffff", "IL_"];

/// Options that no example uses, and what cannot be answered.
const MORE: &[&str] = &[
    "!clrthreads -live -locks",
    "!syncblk -all",
    "!syncblk 1",
    "!dso -all",
    "!threadstate 3021220",
    "!address",
    "!address -o:1",
    "!address 1",
    "!address -f:Image,Heap,TEB",
    "!vprot 1",
    "!vadump -v",
    "!maddress -reserve",
    "!maddress -images",
    "!vmmap",
    "!peb",
    "!gle",
    "!handle 0 f",
    "!runaway 7",
    "lmv",
    "lmf",
    "lmt sm",
    "lm a @$ip",
    "ln @$csp",
    "ln 1",
    "r $t0,$ip",
    "db 0 L3",
    "dd 0 L3",
    "dps 0 L2",
    "dps @$csp L200",
    "dpp @$csp L200",
    "da 0",
    "df @$csp L100",
    "s -[1]b @$csp L1000 0 0 0 1",
    ".formats 1dc5fa1c2b8e400",
    ".formats 3f800000",
];

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The schemas, compiled.
struct Valid {
    schemas: Schemas,
    answer: SchemaIndex,
    of: BTreeMap<String, SchemaIndex>,
}

fn compiled() -> Valid {
    let mut compiler = Compiler::new();
    let all = schema::all(ALL);
    let place = |name: &str| format!("https://clrscope.example/schema/{}", schema::file(name));
    for (name, value) in &all {
        compiler.add_resource(&place(name), value.clone()).unwrap();
    }
    let mut schemas = Schemas::new();
    let mut of: BTreeMap<String, SchemaIndex> =
        all.iter().map(|(n, _)| (n.clone(), compiler.compile(&place(n), &mut schemas).unwrap())).collect();
    let answer = of.remove(schema::ANSWER).unwrap();
    Valid { schemas, answer, of }
}

/// The command a line begins with.
fn command_of(shell: &Shell, line: &str) -> Option<&'static Command> {
    let calls = parse(line, &|_, _| Reach::Line).ok()?;
    shell.find(calls.first()?)
}

/// What breaks the rule in the two answers to one line.
fn wrong(valid: &Valid, shell: &Shell, line: &str, text: &str, json: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut said = Said::default();
    for answer in json.lines() {
        let value: Value = match serde_json::from_str(answer) {
            Ok(v) => v,
            Err(e) => return vec![format!("no JSON ({e}): {answer:.200}")],
        };
        // Blocks run other commands: each answer is held against its own.
        let Some(command) = value["command"].as_str().and_then(|c| command_of(shell, c)) else {
            return vec![format!("an answer of no command: {answer:.200}")];
        };
        let spelled = clrscope::shell::parse::spelled(command);
        let index = valid.of.get(&spelled).or_else(|| valid.of.get(command.name)).copied().unwrap_or(valid.answer);
        if let Err(e) = valid.schemas.validate(&value, index) {
            found.push(format!(
                "the schema does not hold: {}",
                e.to_string().lines().take(4).collect::<Vec<_>>().join(" ")
            ));
        }
        if command.returns.is_nothing()
            && (value["facts"] != serde_json::json!({}) || value["tables"] != serde_json::json!([]))
        {
            found.push("it returns what it does not declare".into());
        }
        found.extend(orphans(command, &value));
        let content = contents(command);
        said.take(&value, &|name| content.contains(name), &mut found);
        for c in command.returns.all_tables().iter().flat_map(|t| t.columns) {
            said.name(c.key);
            said.name(c.title);
        }
        for f in command.returns.all_facts() {
            said.name(f.key);
            said.name(f.title);
        }
    }
    said.name(line);
    for text in text.lines().filter(|l| !l.starts_with("partial: ")) {
        let mut text = text.to_owned();
        for phrase in PROSE {
            text = text.replace(phrase, " ");
        }
        found.extend(said.missing(&text).into_iter().map(|w| format!("`{w}` stands in the text alone: {text:.160}")));
    }
    found
}

/// Rows that say they belong to a row of another table, which is not there.
fn orphans(command: &Command, answer: &Value) -> Vec<String> {
    let column = |name: &str, key: &str| -> Option<Vec<Value>> {
        let table = answer["tables"].as_array()?.iter().find(|t| t["name"] == name)?;
        let at = table["columns"].as_array()?.iter().position(|c| c == key)?;
        Some(table["rows"].as_array()?.iter().map(|r| r[at].clone()).collect())
    };
    let mut found = Vec::new();
    for t in command.returns.all_tables() {
        let Some(parent) = t.parent else { continue };
        let above: HashSet<Value> = column(parent.table, parent.key).unwrap_or_default().into_iter().collect();
        let own = column(t.name, parent.key).unwrap_or_default();
        if let Some(orphan) = own.iter().find(|k| !above.contains(k)) {
            found.push(format!("a row of {} belongs to {} {orphan}, which is not there", t.name, parent.table));
        }
    }
    found
}

/// Keys of facts and columns that hold text of the process, which may be anything.
fn contents(command: &Command) -> HashSet<&'static str> {
    use clrscope::shell::Type;
    let columns = command.returns.all_tables().into_iter().flat_map(|t| t.columns).filter(|c| c.ty == Type::Content);
    let facts = command.returns.all_facts().into_iter().filter(|f| f.ty == Type::Content).map(|f| f.key);
    columns.map(|c| c.key).chain(facts).collect()
}

/// The lines of the transcript of a dump that one command answers.
fn transcript(runner: &Runner, dump: &str) -> Vec<Filled> {
    let file = std::fs::File::open(data("testdata").join(dump.replace(".core.zst", ".sos.txt.zst"))).unwrap();
    let mut bytes = Vec::new();
    zstd::Decoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: BTreeSet<String> =
        text.lines().filter_map(|l| l.strip_prefix("> ")).map(|l| format!("!{}", l.trim())).collect();
    lines.into_iter().filter_map(|line| Some(Filled { command: command_of(&runner.shell, &line)?, line })).collect()
}

/// Runs everything on a dump; what is wrong, by command.
fn run(dump: &str, transcripts: bool) -> BTreeMap<&'static str, Vec<String>> {
    let valid = compiled();
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner::on(dump);
    let mut lines = runner.examples(dump, folder.path());
    let more = MORE.iter().map(|l| Filled { command: command_of(&runner.shell, l).unwrap(), line: (*l).to_owned() });
    lines.extend(more);
    if transcripts {
        lines.extend(transcript(&runner, dump));
    }
    runner.shell.state.errors = Some(Default::default());
    let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for Filled { command, line } in lines.iter().filter(|l| OTHERS.iter().all(|o| o.0 != l.command.name)) {
        let (_, text) = runner.run(line);
        runner.shell.format = Format::Json;
        let (_, json) = runner.run(line);
        runner.shell.format = Format::Text;
        let found = wrong(&valid, &runner.shell, line, &text, &json);
        all.entry(command.name).or_default().extend(found.into_iter().map(|f| format!("{line}: {f}")));
    }
    all
}

#[test]
fn what_text_says_stands_in_facts_and_tables() {
    let windows = std::thread::spawn(|| run("win-x64-10.0-wks-full.dmp.zst", false));
    let mut all = run("linux-x64-10.0-leak-heap.core.zst", true);
    for (name, found) in windows.join().unwrap() {
        all.entry(name).or_default().extend(found);
    }
    let mut broken = Vec::new();
    for (name, found) in all.iter().filter(|(n, f)| !f.is_empty() && !NOT_YET.contains(n)) {
        broken.push(format!("{name}: {} faults", found.len()));
        let shown = std::env::var("CLRSCOPE_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
        broken.extend(found.iter().take(shown).map(|f| format!("    {f}")));
    }
    assert!(broken.is_empty(), "text says what values do not:\n{}", broken.join("\n"));
    let done: Vec<&&str> = NOT_YET.iter().filter(|n| all.get(**n).is_none_or(Vec::is_empty)).collect();
    assert!(done.is_empty(), "these keep the rule, take them off NOT_YET: {done:?}");
}

/// The first object of each type the heap holds.
fn one_of_each(runner: &mut Runner) -> Vec<String> {
    let mut types = HashSet::new();
    let listing = runner.run("!dumpheap").1;
    let rows = listing.lines().take_while(|l| !l.starts_with("Statistics")).map(|l| l.split_whitespace());
    rows.filter_map(|mut words| {
        let (address, mt) = (words.next()?.to_owned(), words.next()?.to_owned());
        (u64::from_str_radix(&mt, 16).is_ok() && types.insert(mt)).then_some(address)
    })
    .collect()
}

/// What a row of `fields` holds, as the text of `!dumpobj` spells it: `None` where it says nothing.
fn spelled(row: &BTreeMap<&str, &Value>) -> Option<String> {
    let address = |key: &str| row[key].as_str().map(|a| a[2..].to_owned());
    match row["type"].as_str()? {
        "System.Single" | "System.Double" => row["value"].as_f64().map(|v| format!("{v:.6}")),
        "System.Char" => row["value"].as_u64().map(|v| format!("{v:x}")),
        _ if !row["value"].is_null() => Some(row["value"].to_string()),
        _ => address("reference").or_else(|| address("address")),
    }
}

#[test]
fn fields_hold_what_text_prints() {
    let mut runner = Runner::on("linux-x64-10.0-leak-heap.core.zst");
    let mut compared = 0;
    for address in one_of_each(&mut runner) {
        let line = format!("!dumpobj {address}");
        let text = runner.run(&line).1;
        runner.shell.format = Format::Json;
        let answer: Value = serde_json::from_str(&runner.run(&line).1).unwrap();
        runner.shell.format = Format::Text;
        let Some(table) = answer["tables"].as_array().unwrap().iter().find(|t| t["name"] == "fields") else { continue };
        let keys: Vec<&str> = table["columns"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
        let behind_titles = text.lines().skip_while(|l| !l.trim_start().starts_with("MT    Field"));
        let mut lines = behind_titles.filter(|l| {
            !l.contains("Thread static values")
                && [" instance ", " static ", " TLstatic "].iter().any(|a| l.contains(a))
        });
        for row in table["rows"].as_array().unwrap() {
            let row: BTreeMap<&str, &Value> = keys.iter().copied().zip(row.as_array().unwrap()).collect();
            let line = lines.next().unwrap();
            let attribute = format!(" {} ", row["attribute"].as_str().unwrap());
            let (_, behind) = line.split_once(&attribute).unwrap();
            let name = row["name"].as_str().unwrap();
            // Behind the name stands what the value says in words, and whether it was ever set.
            let before = line.split(" = ").next().unwrap();
            let state = before.rsplit_once(" (").map_or(before, |l| l.0);
            assert!(before.ends_with(name) || state.ends_with(name), "{address}: {name} is not the field of {line}");
            let shown = behind.split_whitespace().next().filter(|w| row["attribute"] != "TLstatic" && *w != "?");
            let shown = shown.map(str::to_lowercase);
            let shown = shown.map(|w| if row["value"].is_null() { w.trim_start_matches('0').to_owned() } else { w });
            let held = spelled(&row).map(|h| if row["value"].is_null() && h == "0" { String::new() } else { h });
            assert_eq!(shown, held, "{address}: {line}");
            compared += 1;
        }
        assert_eq!(lines.next(), None, "{address}: more fields in text");
    }
    assert!(compared > 900, "only {compared} fields");
}

#[test]
fn schemas_are_current() {
    let folder = data("docs/schema");
    let bless = std::env::var_os("CLRSCOPE_BLESS").is_some();
    let mut names = BTreeSet::new();
    let model = (report::model::SCHEMA.to_owned(), report::model::schema());
    for (name, value) in schema::all(ALL).into_iter().chain([model]) {
        let file = schema::file(&name);
        let wanted = serde_json::to_string_pretty(&value).unwrap() + "\n";
        if bless {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(&file), &wanted).unwrap();
        }
        let found = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
        assert!(found == wanted, "docs/schema/{file} is stale: run CLRSCOPE_BLESS=1 cargo test --test values schemas");
        assert!(names.insert(file), "two commands are called {name}");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let known = names.contains(&entry.file_name().to_string_lossy().into_owned());
        if bless && !known {
            std::fs::remove_file(entry.path()).unwrap();
        }
        assert!(bless || known, "docs/schema holds {:?}, which no command has", entry.file_name());
    }
}

#[test]
fn declarations_are_sound() {
    for c in ALL {
        let tables = c.returns.all_tables();
        for t in &tables {
            let keys: HashSet<&str> = t.columns.iter().map(|c| c.key).collect();
            assert_eq!(keys.len(), t.columns.len(), "{}: {} has a column twice", c.name, t.name);
            assert!(t.rising.is_none_or(|k| keys.contains(k)), "{}: {} rises by no column of it", c.name, t.name);
            if let Some(p) = t.parent {
                let above = tables.iter().find(|o| o.name == p.table);
                let both = above.is_some_and(|o| o.columns.iter().any(|c| c.key == p.key)) && keys.contains(p.key);
                assert!(both, "{}: {} and {} have no column {} both", c.name, t.name, p.table, p.key);
            }
            for col in t.columns {
                assert!(plain(col.key), "{}: {} is no key", c.name, col.key);
                assert!(!col.data_only || !col.title.is_empty(), "{}: nobody says what {} is", c.name, col.key);
            }
        }
        let mut facts = HashSet::new();
        for f in c.returns.all_facts() {
            assert!(plain(f.key) && !f.title.is_empty() && facts.insert(f.key), "{}: the fact {}", c.name, f.key);
        }
    }
}

fn plain(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
