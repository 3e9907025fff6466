//! The comparison: which columns are keys, which are compared, which values of the truth are known faults.

use std::collections::HashSet;
use std::path::Path;

use crate::tables::{index, load};

/// Table, key columns, compared columns.
const TABLES: &[(&str, &[&str], &[&str])] = &[
    ("objects", &["address"], &["method_table", "size", "generation"]),
    ("types", &["method_table"], &["count", "bytes", "name"]),
    ("edges", &["object"], &["references"]),
    ("fields", &["method_table", "offset", "field"], &["element_type"]),
    ("handles", &["address"], &["kind", "object", "dependent"]),
    ("finalizable", &["object", "f_reachable"], &[]),
    ("segments", &["objects_start"], &["kind", "heap", "objects_end"]),
    ("statics", &["type", "field", "address"], &["value"]),
    ("threadstatics", &["thread_os_id", "type", "field"], &["address", "value"]),
    ("threads", &["address"], &["os_id", "managed_id", "finalizer", "exception"]),
    ("modules", &["address"], &["image_base", "name"]),
    ("strings", &["object"], &["length", "text"]),
    ("exceptions", &["object"], &["hresult", "message", "inner"]),
    ("syncblocks", &["index"], &["object", "held", "recursion", "holder_thread"]),
    ("stackroots", &["os_id", "object"], &[]),
];

/// Of these the truth holds a sample (strings), the precise part (stack roots: ours are conservative) or not all tables
/// of server GC (handles): more rows of ours are no error.
const SUBSET: &[&str] = &["strings", "stackroots", "handles"];

/// Of these the truth covers only types whose metadata its reader could open: extra rows count only inside its types.
const GROUPS: &[(&str, usize)] = &[("fields", 0), ("statics", 0), ("threadstatics", 1)];

/// Tables that say nothing without the names of fields and types.
const NAMED: &[&str] = &["statics", "threadstatics", "exceptions"];

/// Extra rows that are the truth's lack, with the table, how many, and the cause.
const LACKING: &[(&str, &str, usize)] = &[
    // Microsoft's reader gave up the core library's statics halfway: of `<PrivateImplementationDetails>` it lists those of
    // other modules alone, ours all 191 of the core library too.
    ("win-x64-10.0-wks-full", "statics", 191),
];

/// Lists every table of the dump `name` that falls short, with examples. Empty when all agree. Columns in `unanswered`
/// (table, column) are not compared.
pub fn folders(name: &str, truth: &Path, ours: &Path, unanswered: &[(&str, &str)]) -> Vec<String> {
    let named = has_names(ours);
    let lacking = |table: &str| LACKING.iter().find(|l| l.0 == name && l.1 == table).map_or(0, |l| l.2);
    TABLES
        .iter()
        .filter(|(table, ..)| named || !NAMED.contains(table))
        .filter_map(|(table, keys, columns)| {
            let known = |c: &&&str| named || !matches!(**c, "name" | "field" | "element_type");
            let keys: Vec<&str> = keys.iter().filter(known).copied().collect();
            let asked = |c: &&&str| !unanswered.contains(&(*table, **c));
            let columns: Vec<&str> = columns.iter().filter(known).filter(asked).copied().collect();
            one(truth, ours, table, &keys, &columns, lacking(table))
        })
        .collect()
}

/// Whether the assemblies' metadata was at hand. Where the dump lacks it and no folder has the files, types have fallback
/// names (`Module!0x02000001`): then addresses, sizes and edges are compared, names are not.
fn has_names(ours: &Path) -> bool {
    let Some(types) = load(&ours.join("types.tsv")) else { return true };
    let name = types.column("name").unwrap_or(0);
    let fallback = types.rows.iter().filter(|r| r.get(name).is_some_and(|n| n.contains("!0x02"))).count();
    fallback * 2 < types.rows.len()
}

fn one(truth: &Path, ours: &Path, name: &str, keys: &[&str], columns: &[&str], lacking: usize) -> Option<String> {
    let expected = load(&truth.join(format!("{name}.tsv")))?;
    let Some(found) = load(&ours.join(format!("{name}.tsv"))) else { return Some(format!("{name}: not exported")) };
    let norm = |column: &str, value: &str| normal(name, column, value);
    let (t, m) = (index(&expected, keys, norm), index(&found, keys, norm));
    let missing: Vec<_> = t.keys().filter(|k| !m.contains_key(*k)).collect();
    let group = GROUPS.iter().find(|g| g.0 == name).map(|g| g.1);
    let groups: HashSet<_> = group.map(|g| t.keys().map(|k| &k[g]).collect()).unwrap_or_default();
    let counted = |k: &&Vec<String>| group.is_none_or(|g| groups.contains(&k[g]));
    let extra: Vec<_> = match SUBSET.contains(&name) {
        true => Vec::new(),
        false => m.keys().filter(|k| !t.contains_key(*k)).filter(counted).collect(),
    };
    let mut different = Vec::new();
    for (key, row) in &t {
        let Some(mine) = m.get(key) else { continue };
        for column in columns {
            let Some(c) = expected.column(column) else { continue };
            let want = row.get(c).map_or("", String::as_str);
            let have = found.column(column).and_then(|c| mine.get(c)).map_or("", String::as_str);
            if !fault(name, column, want) && norm(column, want) != norm(column, have) {
                different.push(format!("   {key:?} {column}: truth {want:?}, ours {have:?}"));
            }
        }
    }
    if missing.is_empty() && extra.len() == lacking && different.is_empty() {
        return None;
    }
    let mut lines = vec![format!(
        "{name}: {} rows in the truth, missing {}, extra {}, different {}",
        t.len(),
        missing.len(),
        extra.len(),
        different.len()
    )];
    lines.extend(missing.iter().take(3).map(|k| format!("   missing {k:?}")));
    lines.extend(extra.iter().take(3).map(|k| format!("   extra {k:?}")));
    lines.extend(different.into_iter().take(5));
    Some(lines.join("\n"))
}

fn normal(table: &str, column: &str, value: &str) -> String {
    let value = value.trim();
    match column {
        "references" => {
            let mut parts: Vec<_> = value.split_whitespace().collect();
            parts.sort_unstable();
            parts.join(" ")
        }
        "name" | "type" | "containing_type" | "text" | "message" | "field" => value.to_owned(),
        "kind" if table == "segments" => value.to_owned(),
        _ => value.to_lowercase(),
    }
}

/// Values the truth's reader is known to get wrong or to leave empty: `docs/accuracy.md` lists the causes.
fn fault(table: &str, column: &str, truth: &str) -> bool {
    match (table, column) {
        ("types", "name") => truth.is_empty() || truth == "System.String<*>" || truth.contains("<T1"),
        ("statics" | "threadstatics", "value") | ("modules", "name") => truth.is_empty(),
        _ => false,
    }
}
