//! The table of what was compared, as `docs/accuracy.md` shows it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::compare::Outcome;
use crate::tables::load;

/// Columns: heading, table of the truth.
const COLUMNS: &[(&str, &str)] = &[
    ("objects", "objects"),
    ("type names", "types"),
    ("edges", "edges"),
    ("handles", "handles"),
    ("statics", "statics"),
    ("thread statics", "threadstatics"),
    ("fields", "fields"),
    ("finalizer", "finalizable"),
    ("threads", "threads"),
    ("sync blocks", "syncblocks"),
    ("modules", "modules"),
    ("strings", "strings"),
    ("stack roots", "stackroots"),
];

static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn push(row: String) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

/// Runtime, system, architecture, collector and kind of dump, as cells.
fn what(name: &str, truth: &Path) -> String {
    let runtime = load(&truth.join("runtime.tsv")).unwrap_or_default();
    let value =
        |key: &str| runtime.rows.iter().find(|r| r[0] == key).and_then(|r| r.get(1)).cloned().unwrap_or_default();
    let module = value("module");
    let windows = module.contains('\\');
    // A core says nothing of the version but the path; a Windows image has its own numbers.
    let in_path = module.split(['/', '\\']).rev().find(|p| p.starts_with(|c: char| c.is_ascii_digit()));
    let version = in_path.map(str::to_owned).filter(|v| v.contains('.')).unwrap_or_else(|| value("version"));
    let segments = load(&truth.join("segments.tsv")).unwrap_or_default();
    let kind = segments.column("kind");
    let shape = match segments.rows.iter().any(|r| kind.is_some_and(|k| r[k] == "Ephemeral")) {
        _ if segments.rows.is_empty() => "",
        true => ", segments",
        false => ", regions",
    };
    let collector = if value("server") == "True" { "server" } else { "workstation" };
    let kinds = ["full", "heap", "mini", "triage", "gcore", "kernel"];
    let dump = kinds.iter().find(|k| name.split('-').any(|p| p == **k)).copied().unwrap_or("full");
    let system = if windows { "Windows" } else { "Linux" };
    format!(
        "| `{name}` | {version} | {system} | {} | {collector}{shape} | {dump} ",
        value("architecture").to_lowercase()
    )
}

fn cell(o: Option<&Outcome>) -> String {
    match o {
        None => "| - ".into(),
        Some(o) => {
            let unnamed = if o.unnamed > 0 { format!(" ({} unnamed)", o.unnamed) } else { String::new() };
            format!("| {}{}{unnamed} ", o.rows, if o.wrong.is_some() { " **differ**" } else { "" })
        }
    }
}

/// Notes a dump that was compared.
pub fn add(name: &str, truth: &Path, outcomes: &[Outcome]) {
    let cells: String = COLUMNS.iter().map(|c| cell(outcomes.iter().find(|o| o.table == c.1))).collect();
    push(format!("{}{cells}|", what(name, truth)));
}

/// Notes a dump taken inside a collection: how many of the objects the truth's reader could name are ours too.
pub fn in_collection(name: &str, truth: &Path, ours: &Path) {
    let (t, m) =
        (load(&truth.join("objects.tsv")).unwrap_or_default(), load(&ours.join("objects.tsv")).unwrap_or_default());
    let mine: std::collections::HashSet<&str> = m.rows.iter().map(|r| r[0].as_str()).collect();
    let named: Vec<&str> = t.rows.iter().filter(|r| r[1] != "0").map(|r| r[0].as_str()).collect();
    let found = named.iter().filter(|a| mine.contains(**a)).count();
    let objects = format!("| {found} of {} (ours {}) ", named.len(), m.rows.len());
    push(format!("{}{objects}{}|", what(name, truth), "| - ".repeat(COLUMNS.len() - 1)));
}

/// All rows, sorted, under their heading.
pub fn table() -> String {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rows.sort();
    let headings: String = COLUMNS.iter().map(|c| format!(" {} |", c.0)).collect();
    let rule = "| --- ".repeat(6 + COLUMNS.len());
    format!("| dump | runtime | OS | arch | GC | kind |{headings}\n{rule}|\n{}\n", rows.join("\n"))
}
