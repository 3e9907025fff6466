//! An answer of a command as a tool gives it: its facts and tables, and beside them which of these the dump wrote.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::shell::grammar::{Reach, parse};
use crate::shell::opaque;
use crate::shell::page::Page;
use crate::shell::returns::{Returns, Type};
use crate::shell::state::Shell;

/// Most characters of a reason, or of a command that is repeated.
const MOST_TEXT: usize = 1000;

/// What a command declares, by the line it was run with.
pub fn declared(shell: &Shell, line: &str) -> Returns {
    let calls = parse(&opaque::typed(line), &|_, _| Reach::Line).unwrap_or_default();
    calls.first().and_then(|c| shell.find(c)).map_or(Returns::NOTHING, |c| c.returns)
}

/// Whether values of this type are words that may come from the dump.
fn is_words(ty: Type) -> bool {
    matches!(ty, Type::Text | Type::Content | Type::TypeName | Type::FieldPath)
}

/// Whether a value holds words, where no declaration says it.
fn has_words(value: &Value) -> bool {
    value.is_string() || value.is_object()
}

/// Text of one line that acts on nothing, cut.
pub fn short(text: &str) -> String {
    Page::new(0, 0, MOST_TEXT, 0).line(text)
}

/// The answer in `raw`, which is one object as `--json` has it. `trusted`: nothing in it comes from a dump.
pub fn converted(raw: Value, returns: &Returns, trusted: bool) -> Value {
    let Value::Object(mut raw) = raw else { return Value::Null };
    let mut take = |key: &str| raw.remove(key).unwrap_or(Value::Null);
    let text = |v: &Value| v.as_str().map(short);
    let facts = take("facts");
    let tables: Vec<Value> = match take("tables") {
        Value::Array(all) => all.into_iter().filter_map(|t| converted_table(t, returns, trusted)).collect(),
        _ => Vec::new(),
    };
    let notes = take("notes");
    let mut answer = Map::new();
    answer.insert("command".into(), text(&take("command")).unwrap_or_default().into());
    answer.insert("outcome".into(), take("outcome"));
    if let Some(reason) = text(&take("reason")) {
        answer.insert("reason".into(), reason.into());
    }
    // Lines repeat what facts and tables say: where there are none they are all there is.
    let silent = tables.is_empty() && facts.as_object().is_none_or(Map::is_empty);
    if silent && notes.as_array().is_some_and(|n| !n.is_empty()) {
        answer.insert("lines".into(), notes);
    }
    let wrote = if trusted { Vec::new() } else { facts_of_the_dump(&facts, returns) };
    answer.insert("facts".into(), facts);
    answer.insert("untrusted_facts".into(), json!(wrote));
    answer.insert("tables".into(), tables.into());
    answer.into()
}

/// Keys of the facts that the dump wrote.
fn facts_of_the_dump(facts: &Value, returns: &Returns) -> Vec<String> {
    let declared = returns.all_facts();
    let is = |key: &str, value: &Value| match declared.iter().find(|f| f.key == key) {
        Some(fact) => is_words(fact.ty) && !value.is_null(),
        None => has_words(value),
    };
    facts.as_object().into_iter().flatten().filter(|(k, v)| is(k, v)).map(|(k, _)| k.clone()).collect()
}

fn converted_table(table: Value, returns: &Returns, trusted: bool) -> Option<Value> {
    let Value::Object(mut table) = table else { return None };
    let name = table.get("name")?.as_str()?.to_owned();
    let columns: Vec<String> =
        table.get("columns")?.as_array()?.iter().filter_map(|c| Some(c.as_str()?.to_owned())).collect();
    let number = |key: &str| table.get(key).and_then(Value::as_u64).unwrap_or(0);
    let rows = table.get("rows")?.as_array()?;
    let more = number("total").saturating_sub(number("offset")).saturating_sub(rows.len() as u64);
    let declared: Vec<_> = returns.all_tables().into_iter().filter(|t| t.name == name).collect();
    let words: HashSet<usize> = columns
        .iter()
        .enumerate()
        .filter(|(i, key)| {
            let known = declared.iter().flat_map(|t| t.columns).find(|c| c.key == key.as_str());
            match known {
                Some(column) => is_words(column.ty),
                // A column that pipes made.
                None => rows.iter().any(|r| r.get(*i).is_some_and(has_words)),
            }
        })
        .map(|(i, _)| i)
        .collect();
    let untrusted: Vec<&String> =
        columns.iter().enumerate().filter(|(i, _)| words.contains(i) && !trusted).map(|(_, c)| c).collect();
    let untrusted = json!(untrusted);
    table.insert("more".into(), more.into());
    table.insert("untrusted".into(), untrusted);
    Some(table.into())
}
