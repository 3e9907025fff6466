//! What grew over several dumps: types, owners and uses of memory, dump by dump. Numbers are those of `!diff`.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;
use serde_json::{Value as Json, json};

use crate::commands::graph::diff;
use crate::commands::graph::diff::grow::{Ways, difference};
use crate::commands::graph::diff::side::Side;
use crate::heap::stat::Tally;
use crate::session::Session;
use crate::shell::numbers::rfc3339;

/// Rows of each list; the rest is counted.
const MOST_ROWS: usize = 100;

/// One thing in every dump, the oldest first.
type Trend = FxHashMap<Arc<str>, Vec<Tally>>;

/// What one dump adds.
struct Sums {
    types: Vec<(Arc<str>, Tally)>,
    owners: Vec<(Arc<str>, Tally)>,
    memory: Vec<(Arc<str>, Tally)>,
    about: Json,
    time: Option<u64>,
    partial: Option<String>,
}

impl Sums {
    fn of(side: &Side) -> Self {
        let nothing = Side::default();
        let owners = Ways::new(&nothing, side).owners();
        let mapped = side.regions.values().fold(0u64, |all, t| all.saturating_add(t.bytes));
        let about = json!([
            file_name(&side.file),
            side.time.map(rfc3339),
            side.pid,
            side.name,
            side.live.count,
            side.live.bytes,
            side.dead.bytes,
            mapped
        ]);
        Self {
            types: side.types.iter().map(|(n, t)| (n.clone(), *t)).collect(),
            owners: owners.into_iter().map(|(o, c)| (o.words, c.new)).collect(),
            memory: side.regions.iter().map(|(n, t)| (n.as_str().into(), *t)).collect(),
            about,
            time: side.time,
            partial: side.partial.clone(),
        }
    }
}

const DUMPS: [&str; 8] = ["file", "time", "pid", "process", "live_objects", "live_bytes", "dead_bytes", "mapped_bytes"];

/// The name of a file without its folder.
fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |n| n.to_string_lossy().into_owned())
}

/// Compares the open dump with older ones. Each is measured and closed before the next is opened. The tables have a column
/// for each dump, the oldest first; the open one is the last.
pub fn build(session: &Session, older: &[&str]) -> Result<Json> {
    let mut all = Vec::new();
    for (i, file) in older.iter().enumerate() {
        // The verdict has asked for the first of them.
        match i {
            0 => all.push(Sums::of(&diff::older(session, file)?.0)),
            _ => all.push(Sums::of(&diff::measure(session, file)?.0)),
        }
    }
    all.sort_by_key(|s| s.time);
    all.push(Sums::of(&*diff::own(session)?));
    let (mut types, mut owners, mut memory) = (Trend::default(), Trend::default(), Trend::default());
    for (i, sums) in all.iter().enumerate() {
        for (trend, list) in [(&mut types, &sums.types), (&mut owners, &sums.owners), (&mut memory, &sums.memory)] {
            for (name, tally) in list {
                let row = trend.entry(name.clone()).or_insert_with(|| vec![Tally::default(); all.len()]);
                if let Some(cell) = row.get_mut(i) {
                    cell.merge(*tally);
                }
            }
        }
    }
    let dumps: Vec<&Json> = all.iter().map(|s| &s.about).collect();
    let mut facts = serde_json::Map::new();
    let mut tables = vec![json!({"name": "dumps", "columns": DUMPS, "rows": dumps})];
    for (name, key, trend) in [("types", "type", types), ("owners", "owner", owners), ("memory", "usage", memory)] {
        let (table, more) = table(name, key, trend, all.len());
        if more > 0 {
            facts.insert(format!("{name}_left_out"), more.into());
        }
        tables.push(table);
    }
    let partial: Vec<&str> = all.iter().filter_map(|s| s.partial.as_deref()).collect();
    let (outcome, reason) = match partial.is_empty() {
        true => ("complete", None),
        false => ("partial", Some(partial.join("; "))),
    };
    Ok(json!({"outcome": outcome, "reason": reason, "facts": facts, "tables": tables, "notes": []}))
}

/// What grew most from the first dump to the last, and what shrank most, with how much there was in each.
fn table(name: &str, key: &str, trend: Trend, dumps: usize) -> (Json, usize) {
    let growth = |t: &[Tally], of: fn(&Tally) -> u64| match (t.first(), t.last()) {
        (Some(old), Some(new)) => difference(of(old), of(new)),
        _ => 0,
    };
    let mut rows: Vec<(Arc<str>, Vec<Tally>)> = trend.into_iter().collect();
    rows.sort_by(|a, b| {
        let by = |t: &[Tally]| Reverse(growth(t, |t| t.bytes));
        by(&a.1).cmp(&by(&b.1)).then_with(|| a.0.cmp(&b.0))
    });
    let more = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);
    let numbered = |what: &'static str| (1..=dumps).map(move |i| format!("{what}_{i}"));
    let ends = [key.to_owned()].into_iter().chain(["growth_bytes".to_owned(), "growth_count".to_owned()]);
    let columns: Vec<String> = ends.chain(numbered("bytes")).chain(numbered("count")).collect();
    let row = |(name, t): &(Arc<str>, Vec<Tally>)| {
        let mut cells = vec![json!(&**name), json!(growth(t, |t| t.bytes)), json!(growth(t, |t| t.count))];
        cells.extend(t.iter().map(|t| json!(t.bytes)));
        cells.extend(t.iter().map(|t| json!(t.count)));
        cells
    };
    (json!({"name": name, "columns": columns, "rows": rows.iter().map(row).collect::<Vec<_>>()}), more)
}
