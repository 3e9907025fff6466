//! The comparison: which columns are keys, which are compared, which values of the truth are known faults.

use std::collections::HashSet;
use std::path::Path;

use crate::delegates;
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
    ("thinlocks", &["object"], &["recursion", "thread"]),
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

/// Tables of which a mini dump, triage or not, holds pieces at most: the objects are not in it.
const OF_OBJECTS: &[&str] = &[
    "objects",
    "types",
    "edges",
    "fields",
    "finalizable",
    "segments",
    "strings",
    "exceptions",
    "statics",
    "stackroots",
];

/// Dumps of 2.1 and 2.2, by a part of their names. There Microsoft's reader gives every static of the core library, which
/// is shared by all app domains, the address 0, and counts the last element of a free block short: two bytes less.
const SHARED_CORE: &[&str] = &["-2.1-", "-2.2-"];

/// Dumps whose truth comes from the runtime's own library, asked directly, by a part of their names.
const OWN_LIBRARY: &[&str] = &["-old"];

/// Whether the truth of `name` comes from the runtime's own library.
pub fn is_own_library(name: &str) -> bool {
    OWN_LIBRARY.iter().any(|k| name.contains(k))
}

/// What is known of a truth's reader.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// [`SHARED_CORE`].
    shared_core: bool,
    /// [`OWN_LIBRARY`]: the element type of a field is that of its record, a class for every reference; backslashes stand
    /// as they are; a type made at run time has no name; slots that hold null or lead to a stack are roots too.
    own_library: bool,
}

/// How one table compares.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The table.
    pub table: &'static str,
    /// Rows of the truth that were held against ours.
    pub rows: usize,
    /// Rows left out because the names they need are in assemblies that are not at hand.
    pub unnamed: usize,
    /// What falls short, with examples; `None` when all agree.
    pub wrong: Option<String>,
}

/// Compares every table of the dump `name` that the truth has and that can be compared. Columns in `unanswered` (table,
/// column) are not compared.
pub fn folders(name: &str, truth: &Path, ours: &Path, unanswered: &[(&str, &str)]) -> Vec<Outcome> {
    let named = has_names(ours);
    let unnamed = if named { Unnamed::read(ours) } else { Unnamed::default() };
    let lacking = |table: &str| LACKING.iter().find(|l| l.0 == name && l.1 == table).map_or(0, |l| l.2);
    let mini = ["-mini", "-triage"].iter().any(|k| name.contains(k));
    TABLES
        .iter()
        .filter(|(table, ..)| named || !NAMED.contains(table))
        .filter(|(table, ..)| !(mini && OF_OBJECTS.contains(table)))
        .filter_map(|(table, keys, columns)| {
            let known = |c: &&&str| named || !matches!(**c, "name" | "field" | "element_type");
            let keys: Vec<&str> = keys.iter().filter(known).copied().collect();
            let asked = |c: &&&str| !unanswered.contains(&(*table, **c));
            let columns: Vec<&str> = columns.iter().filter(known).filter(asked).copied().collect();
            let is = |parts: &[&str]| parts.iter().any(|k| name.contains(k));
            let reader = Reader { shared_core: is(SHARED_CORE), own_library: is_own_library(name) };
            one(truth, ours, table, &keys, &columns, lacking(table), &unnamed, reader)
        })
        .chain((!mini).then(|| delegates::compare(truth, ours, named)).flatten())
        .collect()
}

/// Types whose assembly is neither in the dump nor at hand, while others are: they have fallback names.
#[derive(Debug, Default)]
struct Unnamed {
    method_tables: HashSet<String>,
    /// Names of the types our statics know, when there are unnamed ones.
    known: HashSet<String>,
}

impl Unnamed {
    fn read(ours: &Path) -> Self {
        let mut out = Self::default();
        let Some(types) = load(&ours.join("types.tsv")) else { return out };
        let (Some(mt), Some(name)) = (types.column("method_table"), types.column("name")) else { return out };
        out.method_tables =
            types.rows.iter().filter(|r| r[name].contains(FALLBACK)).map(|r| r[mt].to_lowercase()).collect();
        if !out.method_tables.is_empty() {
            let statics = load(&ours.join("statics.tsv")).unwrap_or_default();
            out.known = statics.rows.iter().map(|r| r[0].clone()).collect();
        }
        out
    }

    /// Whether a row of `table` cannot be compared.
    fn covers(&self, table: &str, key: &[String]) -> bool {
        if self.method_tables.is_empty() {
            return false;
        }
        match table {
            "types" | "fields" => self.method_tables.contains(&key[0]),
            "statics" => !self.known.contains(&key[0]),
            "threadstatics" => !self.known.contains(&key[1]),
            _ => false,
        }
    }
}

/// How the name of a type goes on when its metadata is not at hand: `Module!0x02000001`.
const FALLBACK: &str = "!0x02";

/// Whether the assemblies' metadata was at hand. Where the dump lacks it and no folder has the files, types have fallback
/// names (`Module!0x02000001`): then addresses, sizes and edges are compared, names are not.
fn has_names(ours: &Path) -> bool {
    let Some(types) = load(&ours.join("types.tsv")) else { return true };
    let name = types.column("name").unwrap_or(0);
    let fallback = types.rows.iter().filter(|r| r.get(name).is_some_and(|n| n.contains(FALLBACK))).count();
    fallback * 2 < types.rows.len()
}

#[allow(clippy::too_many_arguments)]
fn one(
    truth: &Path,
    ours: &Path,
    name: &'static str,
    keys: &[&str],
    columns: &[&str],
    lacking: usize,
    unnamed: &Unnamed,
    Reader { shared_core, own_library }: Reader,
) -> Option<Outcome> {
    let expected = load(&truth.join(format!("{name}.tsv")))?;
    let mut outcome = Outcome { table: name, rows: 0, unnamed: 0, wrong: None };
    let Some(found) = load(&ours.join(format!("{name}.tsv"))) else {
        outcome.wrong = Some(format!("{name}: not exported"));
        return Some(outcome);
    };
    let norm = |column: &str, value: &str| normal(name, column, value);
    let (mut t, mut m) = (index(&expected, keys, norm), index(&found, keys, norm));
    let all = t.len();
    t.retain(|k, _| !unnamed.covers(name, k));
    m.retain(|k, _| !unnamed.covers(name, k));
    (outcome.rows, outcome.unnamed) = (t.len(), all - t.len());
    if shared_core && name == "statics" {
        let nowhere: HashSet<_> = t.keys().filter(|k| k[2] == "0").map(|k| k[..2].to_vec()).collect();
        t.retain(|k, _| k[2] != "0");
        m.retain(|k, _| !nowhere.contains(&k[..2]));
        outcome.rows = t.len();
    }
    if name == "thinlocks" {
        let free = free_blocks(truth);
        t.retain(|k, _| !free.contains(&k[0]));
        outcome.rows = t.len();
    }
    if own_library && name == "stackroots" {
        let heap = segments(truth);
        let on_heap = |object: &str| {
            u64::from_str_radix(object, 16).is_ok_and(|o| heap.iter().any(|&(start, end)| (start..end).contains(&o)))
        };
        t.retain(|k, _| on_heap(&k[1]));
        outcome.rows = t.len();
    }
    let missing: Vec<_> = t.keys().filter(|k| !m.contains_key(*k)).collect();
    let group = GROUPS.iter().find(|g| g.0 == name).map(|g| g.1);
    // A type whose metadata its reader lacks has the fields of its bases there at most, and no name.
    let readable = |row: &[String]| expected.column("type").is_none_or(|c| row.get(c).is_some_and(|n| !n.is_empty()));
    let groups: HashSet<_> =
        group.map(|g| t.iter().filter(|r| readable(r.1)).map(|r| &r.0[g]).collect()).unwrap_or_default();
    let counted = |k: &&Vec<String>| group.is_none_or(|g| groups.contains(&k[g]));
    // Without that column the truth has the sync blocks that are held alone (11.0).
    let held_alone = name == "syncblocks" && expected.column("waiting").is_none();
    let is_held = |k: &&Vec<String>| {
        found.column("held").and_then(|c| m.get(*k)?.get(c)).is_none_or(|held| norm("held", held) != "false")
    };
    let extra: Vec<_> = match SUBSET.contains(&name) {
        true => Vec::new(),
        false => {
            m.keys().filter(|k| !t.contains_key(*k)).filter(counted).filter(|k| !held_alone || is_held(k)).collect()
        }
    };
    let mut different = Vec::new();
    for (key, row) in &t {
        let Some(mine) = m.get(key) else { continue };
        for column in columns {
            let Some(c) = expected.column(column) else { continue };
            let want = row.get(c).map_or("", String::as_str);
            let have = found.column(column).and_then(|c| mine.get(c)).map_or("", String::as_str);
            if shared_core && free_block(name, column, want, have) || own_library && spelled(name, column, want, have) {
                continue;
            }
            if !fault(name, column, want, have) && norm(column, want) != norm(column, have) {
                different.push(format!("   {key:?} {column}: truth {want:?}, ours {have:?}"));
            }
        }
    }
    if missing.is_empty() && extra.len() == lacking && different.is_empty() {
        return Some(outcome);
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
    outcome.wrong = Some(lines.join("\n"));
    Some(outcome)
}

/// Where the segments of a truth begin and end.
pub fn segments(truth: &Path) -> Vec<(u64, u64)> {
    let Some(all) = load(&truth.join("segments.tsv")) else { return Vec::new() };
    let (Some(start), Some(end)) = (all.column("objects_start"), all.column("objects_end")) else { return Vec::new() };
    let hex = |s: &String| u64::from_str_radix(s, 16).unwrap_or(0);
    all.rows.iter().map(|r| (hex(&r[start]), hex(&r[end]))).collect()
}

/// Whether the runtime's own library only spells a value otherwise.
fn spelled(table: &str, column: &str, truth: &str, ours: &str) -> bool {
    match (table, column) {
        ("fields", "element_type") => truth == "Class" && ["String", "Object", "SZArray", "Array"].contains(&ours),
        ("modules", "name") => truth.replace('\\', "\\\\") == ours,
        ("types", "name") => truth == "<Unloaded Type>",
        _ => false,
    }
}

/// Addresses of free blocks. Of those the truth's reader takes what is left of an object's header for a thin lock.
fn free_blocks(truth: &Path) -> HashSet<String> {
    let (Some(types), Some(objects)) = (load(&truth.join("types.tsv")), load(&truth.join("objects.tsv"))) else {
        return HashSet::new();
    };
    let column = |t: &crate::tables::Table, name| t.column(name).unwrap_or(0);
    let (mt, name, of) = (column(&types, "method_table"), column(&types, "name"), column(&objects, "method_table"));
    let free: HashSet<&str> = types.rows.iter().filter(|r| r[name] == "Free").map(|r| r[mt].as_str()).collect();
    objects.rows.iter().filter(|r| free.contains(r[of].as_str())).map(|r| r[0].to_lowercase()).collect()
}

/// Whether the size of a free block, or of all of them, is short in the truth.
fn free_block(table: &str, column: &str, truth: &str, ours: &str) -> bool {
    let (Ok(truth), Ok(ours)) = (truth.parse::<u64>(), ours.parse::<u64>()) else { return false };
    match (table, column) {
        ("objects", "size") => ours == truth + 2,
        ("types", "bytes") => ours > truth && (ours - truth) % 2 == 0,
        _ => false,
    }
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
fn fault(table: &str, column: &str, truth: &str, ours: &str) -> bool {
    match (table, column) {
        ("types", "name") => {
            truth.is_empty()
                || truth == "System.String<*>"
                || truth.contains("<T1")
                || lost_in_arguments(truth, ours)
                // With an argument whose metadata is missing the levels of a nested type stand the wrong way round.
                || truth.contains('`') && !ours.contains('`')
        }
        ("statics" | "threadstatics", "value") | ("modules", "name") => truth.is_empty(),
        // A class that was never loaded: its reader says `Struct` unless the file it is in lies at its place.
        ("fields", "element_type") => truth == "Struct" && ours == "Class",
        _ => false,
    }
}

/// Names of arrays inside type arguments: the reader's parser drops the commas of their rank (`Gen<Double[][]>` for
/// `Gen<Double[,][]>`), gives up and leaves the runtime's spelling (``Gen`1[[...]]``) or its pieces, or deals the
/// arguments of nested levels out in the wrong order. Only such differences count: the letters must be the same.
fn lost_in_arguments(truth: &str, ours: &str) -> bool {
    if !(ours.contains('<') && ours.contains('[')) {
        return false;
    }
    let letters = |s: &str| {
        let mut all: Vec<char> = s.chars().filter(|c| c.is_alphabetic()).collect();
        all.sort_unstable();
        all
    };
    truth.contains("[[") || truth.contains(">[], ") || letters(truth) == letters(ours)
}
