//! `!diff` of two dumps of one program, the newer after twice as many requests, held against counts over the truth tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const OLD: &str = "linux-x64-10.0-leak-heap";
const NEW: &str = "linux-x64-10.0-leaktwice-heap";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn core(name: &str) -> PathBuf {
    data(&format!("{name}.core.zst"))
}

fn run(dump: &Path, command: &str, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(dump)
        .args(options)
        .arg("-c")
        .arg(command)
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .output()
        .unwrap()
}

fn text(dump: &Path, command: &str) -> String {
    let out = run(dump, command, &[]);
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Rows of the tables by name, each as a map from column to value.
fn tables(dump: &Path, command: &str) -> HashMap<String, Vec<HashMap<String, Value>>> {
    let out = run(dump, command, &["--json"]);
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut found = HashMap::new();
    for t in json["tables"].as_array().unwrap() {
        let columns: Vec<&str> = t["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
        let rows =
            t["rows"].as_array().unwrap().iter().map(|r| {
                columns.iter().zip(r.as_array().unwrap()).map(|(c, v)| ((*c).to_owned(), v.clone())).collect()
            });
        found.insert(t["name"].as_str().unwrap().to_owned(), rows.collect());
    }
    found
}

fn number(row: &HashMap<String, Value>, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

/// The truth of one dump, as far as a naive count needs it.
struct Truth {
    /// Type name and size by address.
    objects: HashMap<u64, (String, u64)>,
    edges: HashMap<u64, Vec<u64>>,
    facts: HashMap<String, u64>,
}

impl Truth {
    fn of(name: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let dir = tables::truth_folder(&data(&format!("{name}.truth.tar.zst")), work.path()).unwrap();
        let hex = |t: &str| u64::from_str_radix(t, 16).unwrap();
        let rows = |table: &str| tables::load(&dir.join(format!("{table}.tsv"))).unwrap().rows;
        let names: HashMap<u64, String> = rows("types").into_iter().map(|r| (hex(&r[0]), r[3].clone())).collect();
        let objects = rows("objects").into_iter().map(|r| {
            let name = names.get(&hex(&r[1])).cloned().unwrap_or_default();
            (hex(&r[0]), (name, r[2].parse().unwrap()))
        });
        let edges = rows("edges").into_iter().map(|r| (hex(&r[0]), r[1].split(' ').map(hex).collect()));
        let facts = std::fs::read_to_string(data(&format!("{name}.facts.tsv"))).unwrap();
        let fact = |(k, v): (&str, &str)| {
            let radix = if k.starts_with("address:") { 16 } else { 10 };
            Some((k.to_owned(), u64::from_str_radix(v, radix).ok()?))
        };
        Self {
            objects: objects.collect(),
            edges: edges.collect(),
            facts: facts.lines().filter_map(|l| l.split_once('\t')).filter_map(fact).collect(),
        }
    }

    /// Everything references lead to from `from`, and how much of it is of a type.
    fn below(&self, from: u64, of: &str) -> u64 {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(a) = todo.pop() {
            if seen.insert(a) {
                todo.extend(self.edges.get(&a).into_iter().flatten());
            }
        }
        seen.iter().filter(|a| self.objects.get(a).is_some_and(|o| o.0 == of)).count() as u64
    }

    /// Objects of a type that one of another type refers to.
    fn referred(&self, of: &str, by: &str) -> u64 {
        let is = |a: &u64, name: &str| self.objects.get(a).is_some_and(|o| o.0 == name);
        let mut all: Vec<u64> =
            self.edges.iter().filter(|e| is(e.0, by)).flat_map(|e| e.1).filter(|a| is(a, of)).copied().collect();
        all.sort_unstable();
        all.dedup();
        all.len() as u64
    }

    fn by_type(&self) -> BTreeMap<&str, (i64, i64)> {
        let mut sums = BTreeMap::new();
        for (name, size) in self.objects.values() {
            let s = sums.entry(name.as_str()).or_insert((0, 0));
            *s = (s.0 + 1, s.1 + *size as i64);
        }
        sums
    }
}

const OWNERS: [&str; 4] = ["Zoo.Zoo.Cache", "Zoo.Zoo.Large", "Zoo.Publisher.Ticked", "Zoo.Zoo.Keep"];

#[test]
fn the_four_owners_that_leak_are_on_top() {
    let found = tables(&core(NEW), &format!("!diff {}", core(OLD).display()));
    let owners = &found["owners"];
    let names: Vec<&str> = owners.iter().take(4).map(|r| r["variable"].as_str().unwrap()).collect();
    assert_eq!(names, OWNERS);
    assert!(owners[..4].iter().all(|r| r["root"] == "static variable" && r["type"].is_null()), "{owners:?}");
    assert!(owners[4..].iter().all(|r| r["variable"].is_null() != r["type"].is_null()), "{owners:?}");
    // Nothing else grew by so much as one of them.
    assert!(owners.iter().skip(4).all(|r| number(r, "growth_bytes") * 20 < number(&owners[3], "growth_bytes")));
    for r in owners {
        assert_eq!(number(r, "growth_bytes"), number(r, "new_bytes") - number(r, "old_bytes"));
        assert_eq!(number(r, "growth_count"), number(r, "new_count") - number(r, "old_count"));
    }

    let (old, new) = (Truth::of(OLD), Truth::of(NEW));
    let paths = &found["paths"];
    let steps = |path: &Value| found["steps"].iter().filter(|s| s["path"] == *path).collect::<Vec<_>>();
    for (i, p) in paths.iter().enumerate() {
        let steps = steps(&p["path"]);
        assert_eq!((number(p, "path"), number(p, "length")), (i as i64 + 1, steps.len() as i64));
        assert!(steps.iter().enumerate().all(|(i, s)| number(s, "step") == i as i64));
        assert!(steps.iter().all(|s| s["slot"].is_null() == (s["step"] == 0)), "{steps:?}");
    }
    let path = |owner: &str, end: &str| {
        let is = |r: &&HashMap<String, Value>| {
            r["variable"] == owner && steps(&r["path"]).last().is_some_and(|s| s["type"] == end)
        };
        paths.iter().find(is).unwrap_or_else(|| panic!("{owner} to {end}: {paths:#?}"))
    };
    let counts = |r: &HashMap<String, Value>| (number(r, "old_count") as u64, number(r, "new_count") as u64);
    let both = |f: &dyn Fn(&Truth) -> u64| (f(&old), f(&new));
    let sessions = path(OWNERS[0], "Zoo.Session");
    assert_eq!(counts(sessions), both(&|t| t.facts["count:cache"]));
    assert_eq!(counts(sessions), both(&|t| t.below(t.facts["address:Cache"], "Zoo.Session")));
    let arrays = path(OWNERS[1], "System.Byte[]");
    assert_eq!(counts(arrays), both(&|t| t.below(t.facts["address:Large"], "System.Byte[]")));
    let handlers = path(OWNERS[2], "System.EventHandler");
    assert_eq!(counts(handlers), both(&|t| t.referred("Zoo.Subscriber", "System.EventHandler")));
    let timers = path(OWNERS[3], "System.Threading.Timer");
    assert_eq!(counts(timers), both(&|t| t.below(t.facts["address:Keep"], "System.Threading.Timer")));
    assert_eq!(paths[0]["path"], sessions["path"]);
    // The example is the object it says.
    let at = u64::from_str_radix(sessions["example"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(new.objects[&at].0, "Zoo.Session");
}

#[test]
fn types_are_those_of_the_truth_and_both_ways_mirror() {
    let command = |options: &str, other: &str| format!("!diff {} -stat -all -top 0 {options}", core(other).display());
    let found = tables(&core(NEW), &command("", OLD));
    let rows: BTreeMap<&str, &HashMap<String, Value>> =
        found["types"].iter().map(|r| (r["name"].as_str().unwrap(), r)).collect();
    let (old, new) = (Truth::of(OLD), Truth::of(NEW));
    let (before, after) = (old.by_type(), new.by_type());
    let mut checked = 0;
    for name in before.keys().chain(after.keys()).filter(|n| !n.is_empty() && **n != "Free") {
        let (b, a) = (before.get(name).copied().unwrap_or_default(), after.get(name).copied().unwrap_or_default());
        // Where the two spell a name differently there is nothing to compare; what is equal is not listed.
        let Some(row) = rows.get(name) else {
            assert!(b == a || name.contains(['<', '+', '*']), "{name}: {b:?} {a:?}");
            continue;
        };
        let found = ["old_count", "old_bytes", "new_count", "new_bytes"].map(|c| number(row, c));
        assert_eq!(found, [b.0, b.1, a.0, a.1], "{name}");
        let state = (a.0 == 0).then_some("gone").or((b.0 == 0).then_some("new"));
        assert_eq!(row["state"].as_str(), state, "{name}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked} types");

    // Seen from the other dump it is the same, with -newer, and the opposite without.
    let turned = tables(&core(OLD), &command("-newer", NEW));
    assert_eq!(turned["types"], found["types"]);
    let opposite = tables(&core(OLD), &command("", NEW));
    for r in &opposite["types"] {
        let mirror = rows[r["name"].as_str().unwrap()];
        assert_eq!(number(r, "growth_bytes"), -number(mirror, "growth_bytes"));
        assert_eq!(number(r, "growth_count"), -number(mirror, "growth_count"));
    }
}

#[test]
fn memory_is_that_of_the_summary() {
    let found = tables(&core(NEW), &format!("!diff {} -regions -top 0", core(OLD).display()));
    assert!(!found.contains_key("types") && !found.contains_key("owners"));
    let usage = |name| {
        let rows = tables(&core(name), "!address -summary").remove("usage").unwrap();
        let of = |r: &HashMap<String, Value>| (r["name"].as_str().unwrap().to_owned(), number(r, "size"));
        rows.iter().map(of).collect::<BTreeMap<String, i64>>()
    };
    let (old, new) = (usage(OLD), usage(NEW));
    assert!(found["regions"].iter().any(|r| r["name"] == "GCHeap" && number(r, "growth_bytes") > 0));
    for r in &found["regions"] {
        let name = r["name"].as_str().unwrap();
        let bytes = |m: &BTreeMap<String, i64>| m.get(name).copied().unwrap_or(0);
        assert_eq!((number(r, "old_bytes"), number(r, "new_bytes")), (bytes(&old), bytes(&new)), "{name}");
    }
}

#[test]
fn across_runtimes_systems_and_without_one() {
    // Another build, the names are the same: what the program keeps is matched.
    let found = tables(&core(NEW), &format!("!diff {} -owners", data("linux-x64-8.0-wks-heap.core.zst").display()));
    assert!(found["owners"].iter().any(|r| r["variable"] == "Zoo.Zoo.Large" && number(r, "old_bytes") > 0));
    let windows = data("win-x64-10.0-wks-full.dmp.zst");
    let found = tables(&windows, &format!("!diff {}", core("linux-x64-10.0-wks-heap").display()));
    // The same program on another system: what it keeps alive itself is alike.
    let zoo = found["owners"].iter().filter(|r| r["variable"] == "Zoo.Zoo.Cache");
    assert!(zoo.map(|r| number(r, "growth_bytes").abs()).sum::<i64>() < 10_000, "{found:?}");
    assert!(found["regions"].iter().any(|r| r["name"] == "Image"));
    // Types that only one of them has are listed whole, whatever the limit of rows.
    let listed = &found["new_and_gone"];
    let found = tables(&windows, &format!("!diff {} -stat -top 0", core("linux-x64-10.0-wks-heap").display()));
    assert_eq!(*listed, found["new_and_gone"]);
    for (state, count) in [("new", "new_count"), ("gone", "old_count")] {
        let by_name = |rows: &[HashMap<String, Value>], count: &str| {
            let of = rows.iter().filter(|r| r["state"] == state);
            of.map(|r| (r["name"].to_string(), number(r, count))).collect::<BTreeMap<_, _>>()
        };
        let only = by_name(listed, "count");
        assert!(!only.is_empty() && only == by_name(&found["types"], count), "{only:?}");
    }
}

#[test]
fn answers_in_every_case() {
    let same = text(&core(OLD), &format!("!diff {}", core(OLD).display()));
    assert_eq!(same.matches("nothing changed").count(), 5, "{same}");
    let rows = |t: &str| tables(&core(OLD), t);
    let none = rows(&format!("!diff {} -stat", core(OLD).display()));
    assert!(!none.contains_key("types"), "{none:?}");

    let turned = text(&core(OLD), &format!("!diff {} -stat", core(NEW).display()));
    assert!(turned.contains("shrank"), "{turned}");

    let csv = run(&core(NEW), &format!("!diff {} -owners -top 4", core(OLD).display()), &["--csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.contains("growth_bytes,growth_percent,growth_count,old_bytes,new_bytes"), "{csv}");
    assert!(csv.contains(",static variable,Zoo.Zoo.Cache,"), "{csv}");

    for sort in ["count", "percent", "name"] {
        let found = rows(&format!("!diff {} -newer -stat -sort {sort} -top 5", core(NEW).display()));
        assert_eq!(found["types"].len(), 5);
        let key = |r: &HashMap<String, Value>| match sort {
            "count" => -number(r, "growth_count") as f64,
            "percent" => -r["growth_percent"].as_f64().unwrap_or(f64::INFINITY),
            _ => 0.0,
        };
        assert!(found["types"].is_sorted_by_key(key));
        let names: Vec<&str> = found["types"].iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert!(sort != "name" || names.is_sorted(), "{names:?}");
    }
    let filtered = rows(&format!("!diff {} -newer -type Zoo.Session -top 0", core(NEW).display()));
    assert!(filtered["types"].iter().all(|r| r["name"].as_str().unwrap().contains("Zoo.Session")));

    let missing = run(&core(OLD), "!diff no-such-file.core", &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-file.core"));
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), b"not a dump at all").unwrap();
    let refused = run(&core(OLD), &format!("!diff \"{}\"", broken.path().display()), &[]);
    assert_eq!(refused.status.code(), Some(1));
}
