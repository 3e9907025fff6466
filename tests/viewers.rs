//! Files for viewers, read back by readers that know the formats and nothing of what wrote them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use captured::open;
use clrscope::session::Session;
use clrscope::shell::state::{Ended, Shell};
use serde_json::Value;

const DUMPS: [&str; 3] =
    ["linux-x64-10.0-wks-heap.core.zst", "win-x86-3.1-small.dmp.zst", "linux-x64-10.0-plugins-heap.core.zst"];

struct Written {
    shell: Shell,
    folder: tempfile::TempDir,
}

impl Written {
    fn on(dump: &str) -> Self {
        let (shell, _) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        Self { shell, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&mut self, name: &str, options: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let ended = self.shell.line(&format!(".export {} {options}", path.display()));
        assert_eq!(ended, Ended::Well, "{name}");
        // What was written beside it is in its place.
        let files: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(files.iter().all(|f| !f.to_string_lossy().ends_with(".part")), "{files:?}");
        path
    }

    fn json(&mut self, name: &str, options: &str) -> Value {
        let path = self.write(name, options);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn session(&self) -> &Session {
        self.shell.session.as_deref().unwrap()
    }
}

/// A graph read back: names, sizes and references of nodes.
struct Graph {
    names: Vec<String>,
    sizes: Vec<u64>,
    edges: Vec<Vec<usize>>,
    /// Names of the references, where the format has any.
    labels: Vec<Vec<String>>,
}

fn numbers(v: &Value) -> Vec<u64> {
    v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// What V8's format means: <https://github.com/v8/v8>, `src/profiler/heap-snapshot-generator.cc`.
fn snapshot(v: &Value) -> Graph {
    let meta = &v["snapshot"]["meta"];
    let fields = |of: &str| meta[of].as_array().unwrap().len();
    let place = |of: &str, name: &str| meta[of].as_array().unwrap().iter().position(|f| f == name).unwrap();
    let (width, across) = (fields("node_fields"), fields("edge_fields"));
    let (nodes, edges) = (numbers(&v["nodes"]), numbers(&v["edges"]));
    let strings: Vec<&str> = v["strings"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert_eq!(nodes.len() as u64, v["snapshot"]["node_count"].as_u64().unwrap() * width as u64);
    assert_eq!(edges.len() as u64, v["snapshot"]["edge_count"].as_u64().unwrap() * across as u64);
    let of = |row: &[u64], name: &str| row[place("node_fields", name)];
    let types = meta["node_types"][0].as_array().unwrap().len() as u64;
    let kinds = meta["edge_types"][0].as_array().unwrap();
    let mut graph = Graph { names: Vec::new(), sizes: Vec::new(), edges: Vec::new(), labels: Vec::new() };
    let mut rows = edges.chunks(across);
    let mut ids = Vec::new();
    for node in nodes.chunks(width) {
        assert!(of(node, "type") < types);
        ids.push(of(node, "id"));
        graph.names.push(strings[of(node, "name") as usize].to_owned());
        graph.sizes.push(of(node, "self_size"));
        let (mut to, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..of(node, "edge_count") {
            let edge = rows.next().unwrap();
            let target = edge[2] as usize;
            assert!(target.is_multiple_of(width) && target < nodes.len());
            to.push(target / width);
            let indexed = matches!(kinds[edge[0] as usize].as_str().unwrap(), "element" | "hidden");
            labels.push(if indexed { edge[1].to_string() } else { strings[edge[1] as usize].to_owned() });
        }
        graph.edges.push(to);
        graph.labels.push(labels);
    }
    assert!(rows.next().is_none());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), graph.names.len(), "numbers of nodes are unique");
    graph
}

/// Bytes that would be freed with each node: dominators by going over all nodes until nothing changes.
fn retained(graph: &Graph, root: usize) -> Vec<Option<u64>> {
    let count = graph.sizes.len();
    let (mut order, mut seen, mut work) = (Vec::new(), vec![false; count], vec![(root, 0)]);
    seen[root] = true;
    while let Some((node, next)) = work.pop() {
        match graph.edges[node].get(next) {
            Some(&to) => {
                work.push((node, next + 1));
                if !std::mem::replace(&mut seen[to], true) {
                    work.push((to, 0));
                }
            }
            None => order.push(node),
        }
    }
    order.reverse();
    let mut rank = vec![usize::MAX; count];
    order.iter().enumerate().for_each(|(i, n)| rank[*n] = i);
    let mut before = vec![Vec::new(); order.len()];
    for (i, node) in order.iter().enumerate() {
        graph.edges[*node].iter().for_each(|to| before[rank[*to]].push(i));
    }
    let mut above = vec![usize::MAX; order.len()];
    above[0] = 0;
    loop {
        let mut changed = false;
        for i in 1..order.len() {
            let mut known = before[i].iter().copied().filter(|b| above[*b] != usize::MAX);
            let mut best = known.next().unwrap();
            for mut other in known {
                while other != best {
                    while other > best {
                        other = above[other];
                    }
                    while best > other {
                        best = above[best];
                    }
                }
            }
            changed |= std::mem::replace(&mut above[i], best) != best;
        }
        if !changed {
            break;
        }
    }
    let mut bytes: Vec<u64> = order.iter().map(|n| graph.sizes[*n]).collect();
    for i in (1..order.len()).rev() {
        bytes[above[i]] += bytes[i];
    }
    (0..count).map(|n| bytes.get(rank[n]).copied()).collect()
}

/// Addresses of the live objects that retain most, by address; all of them without a bound.
fn kept(session: &Session, most: usize) -> Vec<(u64, u64)> {
    let (retained, ids) = (session.dominators().unwrap(), &session.index().unwrap().ids);
    let mut all: Vec<(u64, u32)> = (1..=retained.tree.reached()).map(|p| (retained.bytes(p), p)).collect();
    all.sort_by_key(|a| (std::cmp::Reverse(a.0), a.1));
    all.truncate(most);
    let address = |p: u32| ids.address_of(retained.tree.node(p).unwrap()).unwrap();
    let mut kept: Vec<(u64, u64)> = all.into_iter().map(|(bytes, p)| (address(p), bytes)).collect();
    kept.sort_unstable();
    kept
}

/// Numbers of the nodes that are objects: those behind the roots, before what is summed up.
fn objects(graph: &Graph, left_out: &str) -> Vec<usize> {
    // A string may begin so too, but no segment begins with one.
    let kinds = graph.names.iter().skip(2).take_while(|n| n.starts_with('(') || n.starts_with('[')).count();
    (2 + kinds..graph.names.len()).filter(|n| graph.names[*n] != left_out || !graph.edges[*n].is_empty()).collect()
}

#[test]
fn snapshots_hold_the_heap_and_retain_the_same() {
    for dump in DUMPS {
        let mut w = Written::on(dump);
        let graph = snapshot(&w.json("all.heapsnapshot", ""));
        let all = kept(w.session(), usize::MAX);
        let nodes = objects(&graph, "(left out)");
        assert_eq!(nodes.len(), all.len(), "{dump}");
        let forward = &w.session().graph().unwrap().forward;
        let ids = &w.session().index().unwrap().ids;
        let sizes = retained(&graph, 0);
        for (node, (address, bytes)) in nodes.iter().zip(&all) {
            assert_eq!(sizes[*node], Some(*bytes), "{dump}: {address:x}");
            assert_eq!(graph.edges[*node].len(), forward.of(ids.id_of(*address).unwrap()).len());
        }
        let name = |a: u64| w.session().clr().unwrap().type_name(w.session().value(a).unwrap().mt);
        for (node, (address, _)) in nodes.iter().zip(&all).step_by(51) {
            let is_text =
                w.session().clr().unwrap().object_type(*address) == Some(w.session().clr().unwrap().known.string);
            assert!(is_text || graph.names[*node] == *name(*address), "{address:x}");
        }
        let labels: Vec<&str> = graph.labels.iter().flatten().map(String::as_str).collect();
        assert!(labels.contains(&"_items") && labels.iter().any(|l| l.starts_with("static variable ")), "{dump}");
        assert_eq!(graph.names[1], "(GC roots)");
    }
}

#[test]
fn what_is_left_out_changes_no_retained_size() {
    for (dump, most) in [(DUMPS[0], 1), (DUMPS[0], 100), (DUMPS[0], 2000), (DUMPS[2], 700)] {
        let mut w = Written::on(dump);
        let graph = snapshot(&w.json("top.heapsnapshot", &format!("-most {most}")));
        let top = kept(w.session(), most);
        let nodes = objects(&graph, "(left out)");
        assert_eq!(nodes.len(), top.len(), "{dump} {most}");
        let sizes = retained(&graph, 0);
        for (node, (address, bytes)) in nodes.iter().zip(&top) {
            assert_eq!(sizes[*node], Some(*bytes), "{dump} {most}: {address:x}");
        }
        assert_eq!(sizes[0], Some(kept_bytes(w.session())), "{dump} {most}: nothing is lost");
    }
}

/// Reads FastSerialization: <https://github.com/microsoft/perfview>, `src/FastSerialization`.
struct Fast<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Fast<'_> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }
    fn int(&mut self) -> i32 {
        self.at += 4;
        i32::from_le_bytes(self.bytes[self.at - 4..self.at].try_into().unwrap())
    }
    fn long(&mut self) -> u64 {
        self.at += 8;
        u64::from_le_bytes(self.bytes[self.at - 8..self.at].try_into().unwrap())
    }
    fn text(&mut self) -> Option<String> {
        let count = usize::try_from(self.int()).ok()?;
        let rest = String::from_utf8_lossy(&self.bytes[self.at..]);
        let text: String = rest.chars().take(count).collect();
        self.at += text.len();
        Some(text)
    }
    fn begin(&mut self, name: &str) {
        assert_eq!([self.byte(), self.byte(), self.byte()], [4, 4, 1]);
        let (version, oldest) = (self.int(), self.int());
        assert!(version >= oldest);
        assert_eq!(self.text().as_deref(), Some(name));
        assert_eq!(self.byte(), 6);
    }
    fn number(&mut self) -> i32 {
        let mut b = self.byte();
        let mut value = i32::from(b) << 25 >> 25;
        while b & 0x80 != 0 {
            b = self.byte();
            value = (value << 7) + i32::from(b & 0x7F);
        }
        value
    }
}

/// The graph of a file, the root and the addresses of nodes.
fn gcdump(bytes: &[u8]) -> (Graph, usize, Vec<u64>) {
    let mut f = Fast { bytes, at: 0 };
    assert_eq!(f.text().as_deref(), Some("!FastSerialization.1"));
    f.begin("GCHeapDump");
    f.begin("Graphs.MemoryGraph");
    let (total, root, types) = (f.long(), f.int() as usize, f.int());
    let types: Vec<(String, i32)> = (0..types)
        .map(|_| {
            let (name, size) = (f.text().unwrap(), f.int());
            f.text();
            (name, size)
        })
        .collect();
    let count = f.int();
    let labels: Vec<usize> = (0..count).map(|_| f.int() as u32 as usize).collect();
    let length = f.int() as usize;
    let blob = &bytes[f.at..f.at + length];
    f.at += length;
    let mut graph = Graph { names: Vec::new(), sizes: Vec::new(), edges: Vec::new(), labels: Vec::new() };
    for (i, label) in labels.iter().enumerate() {
        let mut n = Fast { bytes: blob, at: *label };
        let ty = n.number();
        let (name, fixed) = &types[(ty >> 1) as usize];
        let size = if ty & 1 == 1 { n.number() } else { *fixed };
        graph.names.push(name.clone());
        graph.sizes.push(u64::try_from(size).unwrap());
        let degree = n.number();
        graph.edges.push((0..degree).map(|_| usize::try_from(i as i32 + n.number()).unwrap()).collect());
        assert!(graph.edges[i].iter().all(|to| *to < count as usize));
    }
    assert_eq!(graph.sizes.iter().sum::<u64>(), total);
    assert_eq!(f.int(), count);
    let addresses = (0..count).map(|_| f.long()).collect();
    assert_eq!(f.byte(), 8);
    let wide = f.byte();
    assert_eq!(f.byte(), 6);
    assert_eq!((f.byte(), f.int(), f.int()), (wide, 0x3F80_0000, 0x3F80_0000));
    assert_eq!((f.byte(), f.byte(), f.text()), (1, 1, None));
    let ticks = f.long();
    assert!(ticks > 630_000_000_000_000_000 && ticks < 700_000_000_000_000_000, "{ticks}");
    f.text();
    f.text();
    f.int();
    assert_eq!((f.long(), f.long(), f.int()), (0, 0, 0));
    // What may be skipped ends where the list of places says.
    assert_eq!((f.byte(), f.int(), f.byte()), (12, 0, 1));
    let skipped = f.at;
    assert_eq!(f.byte(), 13);
    assert!(f.text().unwrap().starts_with("clrscope"));
    assert_eq!((f.byte(), f.byte()), (6, 6));
    let list = f.at;
    assert_eq!((f.int(), f.int() as usize), (1, skipped));
    let trailer = f.at;
    assert_eq!((f.int() as usize, f.int() as usize, f.at), (list, trailer, bytes.len()));
    (graph, root, addresses)
}

#[test]
fn gcdumps_are_read_back() {
    for (dump, options) in [(DUMPS[0], ""), (DUMPS[1], ""), (DUMPS[2], "-most 900")] {
        let mut w = Written::on(dump);
        let path = w.write("heap.gcdump", options);
        let (graph, root, addresses) = gcdump(&std::fs::read(path).unwrap());
        assert_eq!(graph.names[root], "[.NET Roots]");
        let wanted = kept(w.session(), if options.is_empty() { usize::MAX } else { 900 });
        let nodes: Vec<usize> = (0..addresses.len()).filter(|n| addresses[*n] != 0).collect();
        assert_eq!(nodes.len(), wanted.len());
        let sizes = retained(&graph, root);
        for (node, (address, bytes)) in nodes.iter().zip(&wanted) {
            assert_eq!((addresses[*node], sizes[*node]), (*address, Some(*bytes)), "{dump}: {address:x}");
            let mt = w.session().value(*address).unwrap().mt;
            assert_eq!(graph.names[*node], *w.session().clr().unwrap().type_name(mt));
        }
    }
}

/// Sums of the weights of a profile of speedscope, with what it holds checked.
fn profiles(v: &Value) -> HashMap<String, u64> {
    assert_eq!(v["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = v["shared"]["frames"].as_array().unwrap();
    assert!(frames.iter().all(|f| f["name"].is_string()));
    let mut sums = HashMap::new();
    for p in v["profiles"].as_array().unwrap() {
        let samples: Vec<Vec<u64>> = p["samples"].as_array().unwrap().iter().map(numbers).collect();
        let weights = numbers(&p["weights"]);
        assert_eq!(samples.len(), weights.len());
        assert!(samples.iter().flatten().all(|f| (*f as usize) < frames.len()));
        let sum = weights.iter().sum();
        assert_eq!(p["endValue"].as_u64(), Some(sum));
        assert_eq!(p["type"], "sampled");
        sums.insert(p["name"].as_str().unwrap().to_owned(), sum);
    }
    sums
}

#[test]
fn flame_graphs_weigh_what_there_is() {
    for dump in ["linux-x64-10.0-async-heap.core.zst", "linux-x64-10.0-shop-heap.core.zst"] {
        let mut w = Written::on(dump);
        let sums = profiles(&w.json("all.speedscope.json", ""));
        let live: u64 = kept_bytes(w.session());
        assert_eq!(sums["dominators"], live);
        assert!(sums["threads"] > 0 && sums["async"] > 0, "{sums:?}");
        for which in ["dominators", "threads", "async"] {
            let path = w.write("one.collapsed.txt", &format!("-stacks {which}"));
            let text = std::fs::read_to_string(path).unwrap();
            let weight = |l: &str| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
            assert_eq!(text.lines().map(weight).sum::<u64>(), sums[which], "{which}");
            let only = profiles(&w.json("one.speedscope.json", &format!("-stacks {which}")));
            assert_eq!(only.len(), 1);
        }
    }
}

fn kept_bytes(session: &Session) -> u64 {
    let retained = session.dominators().unwrap();
    (1..=retained.tree.reached()).map(|p| retained.weights.own(p)).sum()
}

#[test]
fn a_file_that_cannot_be_written_leaves_what_is_there() {
    let mut w = Written::on(DUMPS[1]);
    let path = w.write("a.heapsnapshot", "");
    let before = std::fs::read(&path).unwrap();
    for line in ["-tables objects", "-stacks threads"] {
        assert_eq!(w.shell.line(&format!(".export {} {line}", path.display())), Ended::Failed);
    }
    let nowhere = w.folder.path().join("no/such/folder/a.gcdump");
    assert_eq!(w.shell.line(&format!(".export {}", nowhere.display())), Ended::Failed);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
