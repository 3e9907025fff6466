//! Delegates: the truth has a row a delegate (every third one) with all it calls, ours a row for each call.

use std::collections::HashMap;
use std::path::Path;

use crate::compare::Outcome;
use crate::tables::load;

/// What one call of ours says.
struct Call<'t> {
    kind: &'t str,
    target: &'t str,
    method: &'t str,
}

/// Kinds that Microsoft's reader leaves out of a list, or answers with an error when they stand alone: it finds the code by
/// the JIT's tables, which have neither dynamic methods nor the stubs of virtual calls and native functions.
const LEFT_OUT: &[&str] = &["dynamic", "open virtual", "unmanaged"];

/// How the name of an open virtual delegate's method goes on in ours.
const VIRTUAL: &str = " (virtual: the first argument decides)";

/// Holds our calls against the truth's; names only where metadata was at hand.
pub fn compare(truth: &Path, ours: &Path, named: bool) -> Option<Outcome> {
    let expected = load(&truth.join("delegates.tsv"))?;
    let mut outcome = Outcome { table: "delegates", rows: expected.rows.len(), unnamed: 0, wrong: None };
    let Some(found) = load(&ours.join("delegates.tsv")) else {
        outcome.wrong = Some("delegates: not exported".into());
        return Some(outcome);
    };
    let mut calls: HashMap<&str, Vec<Call<'_>>> = HashMap::new();
    for r in &found.rows {
        calls.entry(r[0].as_str()).or_default().push(Call { kind: &r[2], target: &r[3], method: &r[5] });
    }
    let wrong: Vec<String> = expected
        .rows
        .iter()
        .filter_map(|row| {
            let ours = calls.get(row[0].as_str()).map_or(&[][..], Vec::as_slice);
            let said = row.get(2).map_or("", String::as_str);
            let why = differs(&row[0], said, ours, named)?;
            let mine: Vec<String> = ours.iter().map(|c| format!("{} {} {}", c.kind, c.target, c.method)).collect();
            Some(format!("   {} {why}: truth {said:?}, ours {:?}", row[0], mine.join(" | ")))
        })
        .collect();
    if !wrong.is_empty() {
        let head = format!("delegates: {} rows in the truth, different {}", outcome.rows, wrong.len());
        outcome.wrong = Some(std::iter::once(head).chain(wrong.into_iter().take(5)).collect::<Vec<_>>().join("\n"));
    }
    Some(outcome)
}

/// What is wrong with our calls of the delegate `object`.
fn differs(object: &str, truth: &str, ours: &[Call<'_>], named: bool) -> Option<&'static str> {
    if ours.is_empty() {
        return Some("missing");
    }
    let said: Vec<(&str, &str)> = truth.split(" | ").map(|t| t.split_once(' ').unwrap_or((t, ""))).collect();
    // A list of .NET 11 is no list to its reader, and what it cannot tell it leaves empty or answers with an exception.
    if truth.is_empty() || truth.starts_with('!') || said == [(object, "")] {
        let can = |c: &Call<'_>| !LEFT_OUT.contains(&c.kind);
        return (ours.len() == 1 && can(&ours[0])).then_some("the truth lacks what it can tell");
    }
    let told: Vec<&Call<'_>> = match ours.len() == said.len() {
        true => ours.iter().collect(),
        false => ours.iter().filter(|c| !LEFT_OUT.contains(&c.kind)).collect(),
    };
    if told.len() != said.len() {
        return Some("other count");
    }
    for (call, (target, method)) in told.iter().zip(&said) {
        if call.target != *target {
            return Some("other target");
        }
        // Where metadata is missing names are made of tokens, in ours and in the truth.
        let fallback = call.method.contains("!0x02") || call.method.contains(".0x06") || method.ends_with("!Unknown");
        let name = call.method.strip_suffix(VIRTUAL).unwrap_or(call.method);
        if named && !fallback && !method.is_empty() && name != *method {
            return Some("other method");
        }
    }
    None
}
