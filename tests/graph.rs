//! The object graph of real dumps: edges and roots against the truth's tables, chains edge by edge, what holds a type
//! against the objects one by one.
//!
//! The dumps are those of `testdata/`; with `CLRSCOPE_DUMPS` set to a folder, those of that folder instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "truth/tables.rs"]
#[allow(dead_code)]
mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::graph::paths::WaysTo;
use clrscope::heap::roots::RootKind;
use clrscope::session::Session;
use clrscope::watch::Watch;

/// Objects looked at per dump where one by one costs much.
const SAMPLES: usize = 150;

fn folder() -> PathBuf {
    std::env::var_os("CLRSCOPE_DUMPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"), PathBuf::from)
}

/// Dumps with a runtime and a heap, by name.
fn sessions() -> impl Iterator<Item = (String, Session)> {
    let files = std::fs::read_dir(folder()).into_iter().flatten().flatten().map(|e| e.path());
    files.filter_map(|p| {
        let file = p.file_name()?.to_string_lossy().into_owned();
        let bare = file.strip_suffix(".zst").unwrap_or(&file);
        let name = bare.strip_suffix(".core").or_else(|| bare.strip_suffix(".dmp"))?.to_owned();
        let dump = Dump::open(&p, &OpenOptions::default(), &Watch::default()).expect("a readable dump");
        let session = Session::new(dump, Watch::default());
        session.roots().ok()?;
        Some((name, session))
    })
}

/// A table of the truth, `None` where there is none. What was read inside a collection is none,
/// and in a mini dump Microsoft's reader crashed.
fn truth(name: &str, table: &str) -> Option<tables::Table> {
    if name.contains("-ingc-") || name.contains("-mini") {
        return None;
    }
    let found = [format!("{name}.truth"), format!("{name}.truth.tar.zst")];
    let path = found.iter().map(|t| folder().join(t)).find(|t| t.exists())?;
    let work = tempfile::tempdir().unwrap();
    tables::load(&tables::truth_folder(&path, work.path()).unwrap().join(format!("{table}.tsv")))
}

/// Some objects of the dump: the first of every type, and others spread over the heap.
fn samples(s: &Session) -> Vec<u32> {
    let (ids, walker) = (&s.index().unwrap().ids, s.walker().unwrap());
    let mut types = HashSet::new();
    let first = |id: &u32| {
        let o = walker.object_at(ids.address_of(*id).unwrap()).unwrap();
        !o.ty.is_free && types.insert(o.ty.id)
    };
    let step = (ids.len() as usize / SAMPLES).max(1);
    let mut some: Vec<u32> = (0..ids.len()).filter(first).take(SAMPLES).chain((0..ids.len()).step_by(step)).collect();
    some.sort_unstable();
    some.dedup();
    some
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or(0)
}

fn get<'t>(table: &tables::Table, row: &'t [String], column: &str) -> &'t str {
    row.get(table.column(column).unwrap()).map_or("", String::as_str)
}

const LOADER: &str = "System.Reflection.LoaderAllocator";

fn type_of(s: &Session, id: u32) -> String {
    let (clr, address) = (s.clr().unwrap(), s.index().unwrap().ids.address_of(id).unwrap());
    clr.type_name(clr.object_type(address).unwrap()).to_string()
}

#[test]
fn edges_are_those_of_the_truth_in_both_directions() {
    let mut edges = 0;
    for (name, s) in sessions() {
        let Some(table) = truth(&name, "edges") else { continue };
        let (ids, graph) = (&s.index().unwrap().ids, s.graph().unwrap());
        let mut wanted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in &table.rows {
            let from = ids.id_of(hex(&row[0])).unwrap();
            let to = row[1].split(' ').filter(|t| !t.is_empty()).filter_map(|t| ids.id_of(hex(t)));
            wanted.entry(from).or_default().extend(to);
        }
        let mut turned: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for id in 0..ids.len() {
            let mut to: Vec<u32> = graph.forward.of(id).to_vec();
            to.iter().for_each(|&t| turned.entry(t).or_default().push(id));
            // The truth's table leaves dependent handles out.
            for &(_, t) in graph.dependent.iter().filter(|d| d.0 == id) {
                let at = to.iter().rposition(|x| *x == t).unwrap();
                to.remove(at);
            }
            let mut want = wanted.remove(&id).unwrap_or_default();
            // Microsoft's reader misses what keeps a dynamic assembly loaded.
            let surplus = to.last().filter(|l| to.len() == want.len() + 1 && type_of(&s, **l) == LOADER);
            if let Some(&allocator) = surplus {
                want.push(allocator);
            }
            to.sort_unstable();
            want.sort_unstable();
            assert_eq!(to, want, "{name}: references of {:x}", ids.address_of(id).unwrap());
            edges += to.len();
        }
        for id in 0..ids.len() {
            let mut from = s.reverse().unwrap().of(id).to_vec();
            from.sort_unstable();
            assert_eq!(from, turned.remove(&id).unwrap_or_default());
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || edges > 100_000, "only {edges} edges compared");
}

#[test]
fn every_root_of_the_truth_is_one_of_ours() {
    let mut compared = 0;
    let mut missing = Vec::new();
    for (name, s) in sessions() {
        let (index, walker) = (s.index().unwrap(), s.walker().unwrap());
        let start = |a: u64| index.object_containing(&walker, walker.heap, a);
        let ours: HashSet<u64> = s.roots().unwrap().items.iter().map(|r| r.object).collect();
        let holders = s.holders().unwrap();
        let slots: HashSet<u64> = s.roots().unwrap().items.iter().map(|r| r.slot).collect();
        for list in ["roots", "stackroots"] {
            let Some(table) = truth(&name, list) else { continue };
            for row in &table.rows {
                let Some(object) = start(hex(get(&table, row, "object"))) else { continue };
                compared += 1;
                // Weak interior handles are no roots; Microsoft's reader takes their number for that of another kind.
                if list == "roots" && get(&table, row, "kind") == "StaticVar" {
                    continue;
                }
                let kind = if list == "roots" { get(&table, row, "kind") } else { "stack" };
                // The arrays a thread's statics lie in hang off one that is ours.
                let below = kind == "ThreadStaticVar" && holders.is_reached(index.ids.id_of(object).unwrap());
                if !ours.contains(&object) && !below {
                    missing.push(format!("{name}: {kind} {}", row.join(" ")));
                } else if kind.ends_with("Handle") {
                    assert!(slots.contains(&hex(get(&table, row, "address"))), "{name}: {}", row.join(" "));
                }
            }
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(missing.is_empty(), "{} roots are missing:\n{}", missing.len(), missing.join("\n"));
    assert!(any || compared > 500, "only {compared} roots compared");
}

#[test]
fn chains_are_real_edge_by_edge_and_shortest() {
    let (mut chains, mut further) = (0, 0);
    for (name, s) in sessions() {
        let (ids, graph, watch) = (&s.index().unwrap().ids, s.graph().unwrap(), Watch::default());
        let edges: HashMap<u64, HashSet<u64>> = truth(&name, "edges")
            .map(|t| t.rows.iter().map(|r| (hex(&r[0]), r[1].split(' ').map(hex).collect())).collect())
            .unwrap_or_default();
        let heap = s.walker().unwrap();
        let is_edge = |a: u32, b: u32| {
            let (from, to) = (ids.address_of(a).unwrap(), ids.address_of(b).unwrap());
            let o = heap.object_at(from).unwrap();
            let mut held = false;
            o.ty.refs.slots(o.size, s.clr().unwrap().header(), |at| {
                held |= s.clr().unwrap().space().ptr(from + at) == Some(to);
            });
            let unslotted = graph.is_dependent(a, b) || type_of(&s, b) == LOADER;
            (held || unslotted) && (edges.is_empty() || unslotted || edges[&from].contains(&to))
        };
        let holders = s.holders().unwrap();
        let starts: HashSet<u32> = s.roots().unwrap().items.iter().filter_map(|r| ids.id_of(r.object)).collect();
        for target in samples(&s) {
            let ways = WaysTo::new(s.reverse().unwrap(), target, &[], &watch).unwrap();
            let reached = starts.iter().any(|&r| ways.reaches(r));
            assert_eq!(reached, holders.is_reached(target), "{name}");
            for &root in starts.iter().filter(|&&r| ways.reaches(r)).take(8) {
                let (mut shown, mut last) = (0, 0);
                ways.all_from(&graph.forward, s.reverse().unwrap(), root, &watch, |path| {
                    assert_eq!((path[0], path[path.len() - 1]), (root, target));
                    assert!(path.windows(2).all(|e| is_edge(e[0], e[1])), "{name}: {path:x?}");
                    assert!(path.len() >= last, "{name}: the shortest come first");
                    (shown, last) = (shown + 1, path.len());
                    shown < 5
                })
                .unwrap();
                chains += 1;
                further += shown - 1;
            }
            let mut at = target;
            while let Some(up) = holders.above(at) {
                assert!(is_edge(up, at), "{name}");
                at = up;
            }
            assert!(!reached || starts.contains(&at), "{name}");
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || chains > 3000 && further > 1000, "only {chains} chains and {further} further ones");
}

#[test]
fn what_holds_a_type_is_what_holds_its_objects_one_by_one() {
    let mut merged = 0;
    for (name, s) in sessions() {
        let (ids, walker, holders) = (&s.index().unwrap().ids, s.walker().unwrap(), s.holders().unwrap());
        let object = |id: u32| walker.object_at(ids.address_of(id).unwrap()).unwrap();
        // A suspended method is told by its name, not by the type its continuation shares with others.
        let listed = |id: u32| s.group_of(object(id).address, &object(id).ty);
        for ty in s.types().all().iter().filter(|t| !t.is_free).step_by(3) {
            let held = s.held(|t| t.id == ty.id).unwrap();
            let instances: Vec<u32> = (0..ids.len()).filter(|&id| object(id).ty.id == ty.id).collect();
            // Count and bytes by the types on the way, those that follow themselves told once.
            let mut naive: BTreeMap<Vec<u32>, (u64, u64)> = BTreeMap::new();
            let mut dead = (0, 0);
            for &id in &instances {
                let size = object(id).size;
                if !holders.is_reached(id) {
                    dead = (dead.0 + 1, dead.1 + size);
                    continue;
                }
                let way = std::iter::successors(Some(id), |&v| holders.above(v));
                let mut types: Vec<u32> = way.map(|v| object(v).ty.id).collect();
                types.dedup();
                types.reverse();
                // A field that holds the whole way is named in place of the array it lies in.
                let sum = naive.entry(types).or_default();
                *sum = (sum.0 + 1, sum.1 + size);
            }
            assert_eq!(held.dead, dead, "{name}");
            let count: u64 = held.paths.iter().map(|p| p.count).sum();
            let bytes: u64 = held.paths.iter().map(|p| p.bytes).sum();
            let wanted = naive.values().fold((0, 0), |a, v| (a.0 + v.0, a.1 + v.1));
            assert_eq!((count, bytes), wanted, "{name}: {}", type_of(&s, instances.first().copied().unwrap_or(0)));
            assert!(held.paths.is_sorted_by_key(|p| std::cmp::Reverse(p.bytes)));
            for p in &held.paths {
                merged += 1;
                let example = ids.id_of(p.example).unwrap();
                assert_eq!(p.steps.last().unwrap().ty, listed(example));
                let way: Vec<u32> = std::iter::successors(Some(example), |&v| holders.above(v)).collect();
                let types: Vec<u32> = way.iter().rev().map(|&v| listed(v)).collect();
                // Without repetition, the steps are the types of the example's way, behind the statics' array if any.
                if p.steps.iter().all(|x| !x.repeats) {
                    let skip = types.len() - p.steps.len();
                    assert!(types[skip..].iter().copied().eq(p.steps.iter().map(|x| x.ty)), "{name}: {p:?}");
                    assert!(skip == 0 || p.root.contains("static variable "), "{name}: {p:?}");
                }
            }
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || merged > 700, "only {merged} paths");
}

fn printed(dump: &str, line: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{dump}.core.zst")))
        .args(["-c", line])
        .env("CLRSCOPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_owners_of_a_leaked_type_stand_apart() {
    let out = printed("linux-x64-10.0-leak-heap", "!gcroot -type Zoo.Session");
    let rows: Vec<Vec<&str>> =
        out.lines().skip(1).take_while(|l| !l.is_empty()).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert_eq!((rows[0][1], *rows[0].last().unwrap()), ("1,667", "Zoo.Zoo.Cache"), "{out}");
    assert_eq!(*rows[1].last().unwrap(), "Zoo.Zoo.Keep", "{out}");
    assert!(rows[2].last().unwrap().starts_with("System.Threading.TimerQueue."), "{out}");
    let others: u64 = rows[1..].iter().map(|r| r[1].parse::<u64>().unwrap()).sum();
    assert_eq!(others, 16, "{out}");
    for step in
        ["Zoo.Session  [].value", "Entry[]  _entries", "TimerHolder  _timer", "*-> System.Threading.TimerQueueTimer"]
    {
        assert!(out.contains(step), "{step}: {out}");
    }
    // Each example is indeed held so.
    let one = printed("linux-x64-10.0-leak-heap", &format!("!gcroot {}", rows[2][3]));
    assert!(one.contains("TimerQueue.<Instances>k__BackingField"), "{one}");
    // Parts of names find several types; a MethodTable finds one.
    let part = printed("linux-x64-10.0-leak-heap", "!gcroot -type Zoo.Sess -limit 1");
    assert!(part.contains("more paths; -limit 0 shows all") && part.contains("1,667"), "{part}");
    let json = printed("linux-x64-10.0-leak-heap", "!gcroot -type Zoo.Session --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tables"][0]["rows"][0][1], 1667);
}

#[test]
fn references_are_told_with_their_fields_in_both_directions() {
    let dump = "linux-x64-10.0-leak-heap";
    let top = printed(dump, "!gcroot -type Zoo.Session -limit 1");
    let row: Vec<&str> = top.lines().nth(1).unwrap().split_whitespace().collect();
    let (session, cache) = (row[3], "Zoo.Zoo.Cache");
    let into = printed(dump, &format!("!refs {session}"));
    assert!(into.lines().any(|l| l.contains("].value") && l.contains("Entry[]")), "{into}");
    let out = printed(dump, &format!("!refs {session} -out"));
    for field in ["User", "Buffer", "Bag"] {
        let row = out.lines().find(|l| l.split_whitespace().nth(2) == Some(field)).unwrap();
        let back = printed(dump, &format!("!refs {}", row.split_whitespace().next().unwrap()));
        assert!(back.lines().any(|l| l.contains(session) && l.contains(field)), "{back}");
    }
    let held = printed(dump, "!dominators -top 1");
    let address = held.lines().find(|l| l.contains(cache)).unwrap().split_whitespace().next().unwrap();
    let roots = printed(dump, &format!("!refs {address}"));
    assert!(roots.contains("(static variable Zoo.Zoo.Cache)"), "{roots}");
    let stat = printed(dump, &format!("!refs {address} -stat"));
    assert!(stat.lines().next().unwrap().contains("Count"), "{stat}");
    // Every handle is named where its object is asked for.
    let handles = printed("linux-x64-10.0-wks-heap", "!gchandles");
    let mut kinds = HashSet::new();
    for row in handles.lines().skip(1) {
        let words: Vec<&str> = row.split_whitespace().collect();
        if words.len() < 4 || words[0].len() < 12 || words[2].len() < 12 || !kinds.insert(words[1]) {
            continue;
        }
        let refs = printed("linux-x64-10.0-wks-heap", &format!("!refs {}", words[2]));
        assert!(refs.contains(&words[0].to_lowercase()), "{row}: {refs}");
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
}

#[test]
fn roots_of_frames_are_those_of_the_truth() {
    let (mut equal, mut all) = (0, 0);
    for (name, s) in sessions() {
        let Some(table) = truth(&name, "stackroots") else { continue };
        let (index, walker) = (s.index().unwrap(), s.walker().unwrap());
        let start = |a: u64| index.object_containing(&walker, walker.heap, a).unwrap_or(a);
        let (mut precise, mut guessed) = (HashSet::new(), HashSet::new());
        for r in &s.roots().unwrap().items {
            match &r.kind {
                RootKind::Frame { os_id, register, offset: None, .. } if r.slot == 0 => {
                    precise.insert((*os_id, 0, r.object, register.unwrap_or("")));
                }
                RootKind::Frame { os_id, .. } => {
                    precise.insert((*os_id, r.slot, r.object, ""));
                }
                RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => {
                    guessed.insert((*os_id, r.object));
                }
                _ => {}
            }
        }
        for row in &table.rows {
            let (os_id, slot) = (hex(get(&table, row, "os_id")), hex(get(&table, row, "address")));
            let held = hex(get(&table, row, "object"));
            // The library of the oldest runtimes lists what holds nothing, or leads to a stack, too.
            if walker.heap.segment_at(held).is_none() {
                continue;
            }
            let object = start(held);
            // Not every table says which register it is.
            let register =
                table.column("register").filter(|_| slot == 0).map(|c| row.get(c).map_or("", String::as_str));
            let found = match (slot, register) {
                (0, None) => precise.iter().any(|p| (p.0, p.1, p.2) == (os_id, 0, object)),
                (_, register) => precise.contains(&(os_id, slot, object, register.unwrap_or(""))),
            };
            // What the dump alone does not tell is looked for.
            assert!(found || guessed.contains(&(os_id, object)), "{name}: {}", row.join(" "));
            (equal, all) = (equal + usize::from(found), all + 1);
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || all > 500, "only {all} roots compared");
    assert!(equal * 100 >= all * 96, "{equal} of {all} roots are those of a frame");
}

/// Roots of one `gcroot`: those of the handle table and the like by their line, objects that stacks hold by address.
fn roots_of(text: &str) -> (HashSet<String>, HashSet<u64>) {
    let (mut exact, mut stack) = (HashSet::new(), HashSet::new());
    let (mut on_stack, mut fresh) = (false, false);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with("Thread ") && !line.contains("statics") {
            on_stack = true;
        } else if line.ends_with(':') && !line.starts_with(' ') {
            on_stack = false;
        } else if line.contains(" -> ") || line.trim_start().starts_with("->") {
            if on_stack && fresh {
                stack.insert(hex(words[1]));
            }
            fresh = false;
        } else if line.starts_with("    ") {
            fresh = true;
            if !on_stack {
                exact.insert(words.join(" "));
            }
        }
    }
    (exact, stack)
}

#[test]
fn roots_found_are_those_of_sos_and_beyond_them_only_conservative_ones() {
    let (mut compared, mut stacks) = (0, 0);
    for dump in ["linux-x64-10.0-wks-heap", "linux-x64-10.0-leak-heap", "linux-x64-10.0-crash-heap"] {
        let file = std::fs::File::open(folder().join(format!("{dump}.sos.txt.zst")));
        let Ok(file) = file else { continue };
        let text = zstd::decode_all(file).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        for block in text.split("\n> ").filter(|b| b.starts_with("gcroot ")) {
            let (command, rows) = block.split_once('\n').unwrap();
            if rows.contains("dotnet-dump crashed") || rows.contains("COMMAND FAILED") {
                continue;
            }
            let ((theirs, their_stack), (ours, our_stack)) =
                (roots_of(rows), roots_of(&printed(dump, &format!("!{command}"))));
            assert_eq!(ours, theirs, "{dump}: {command}");
            assert!(their_stack.is_subset(&our_stack), "{dump}: {command}: {their_stack:x?} {our_stack:x?}");
            compared += 1;
            stacks += their_stack.len();
        }
    }
    let any = std::env::var_os("CLRSCOPE_DUMPS").is_some();
    assert!(any || compared > 10 && stacks > 3, "only {compared} commands, {stacks} stack roots");
}
