//! Who waits for what, held by whom, as a graph to be drawn: from the rows of `!waits`.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value as Json, json};

/// Things in the graph; what is left out is counted.
const MOST_NODES: usize = 150;
/// Threads that wait for one thing and hold nothing are shown one by one up to so many.
const MOST_ALIKE: usize = 6;

/// Rows of a table of an answer, by the keys of its columns.
struct Rows<'a> {
    columns: FxHashMap<&'a str, usize>,
    rows: &'a [Json],
}

impl<'a> Rows<'a> {
    fn of(answer: &'a Json, table: &str) -> Self {
        let tables = answer.get("tables").and_then(Json::as_array).into_iter().flatten();
        let found = tables.into_iter().find(|t| t.get("name").and_then(Json::as_str) == Some(table));
        let list = |key| found.and_then(|t| t.get(key)).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let columns = list("columns").iter().enumerate().filter_map(|(i, c)| Some((c.as_str()?, i))).collect();
        Self { columns, rows: list("rows") }
    }

    fn iter(&self) -> impl Iterator<Item = Wait<'a, '_>> + '_ {
        self.rows.iter().map(|row| Wait { rows: self, row })
    }
}

#[derive(Clone, Copy)]
struct Wait<'a, 'b> {
    rows: &'b Rows<'a>,
    row: &'a Json,
}

impl<'a> Wait<'a, '_> {
    fn cell(&self, key: &str) -> Option<&'a Json> {
        self.row.get(*self.rows.columns.get(key)?).filter(|c| !c.is_null())
    }

    fn text(&self, key: &str) -> &'a str {
        self.cell(key).and_then(Json::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.cell(key).and_then(Json::as_u64)
    }

    fn thread(&self, id: &str, name: &str) -> String {
        let number = self.number(id).map_or_else(|| "a thread".to_owned(), |n| format!("thread {n}"));
        match self.text(name) {
            "" => number,
            name => format!("{number} \"{name}\""),
        }
    }
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Json>,
    numbers: FxHashMap<String, usize>,
    edges: Vec<Json>,
    left_out: u64,
}

impl Graph {
    /// The number of a thing; `None` when there is no room for it.
    fn node(&mut self, key: &str, kind: &str, label: &str, about: &str, stuck: bool) -> Option<usize> {
        if let Some(&n) = self.numbers.get(key) {
            return Some(n);
        }
        if self.nodes.len() >= MOST_NODES {
            self.left_out += 1;
            return None;
        }
        self.nodes.push(json!([kind, label, about, stuck]));
        self.numbers.insert(key.to_owned(), self.nodes.len() - 1);
        Some(self.nodes.len() - 1)
    }

    fn edge(&mut self, from: Option<usize>, to: Option<usize>, what: &str) {
        if let (Some(from), Some(to)) = (from, to) {
            self.edges.push(json!([from, to, what]));
        }
    }
}

/// The graph: things (kind, label, what more there is, whether a verdict of a ring names it) and who waits for or is held
/// by whom (numbers of two things, the word).
pub fn build(answer: &Json) -> Json {
    let waits = Rows::of(answer, "waits");
    let (verdicts, steps) = (Rows::of(answer, "verdicts"), Rows::of(answer, "steps"));
    let rings: FxHashSet<u64> = verdicts
        .iter()
        .enumerate()
        .filter(|(_, v)| v.text("trouble").contains("deadlock"))
        .map(|(i, v)| v.number("verdict").unwrap_or(i as u64 + 1))
        .collect();
    let stuck: FxHashSet<&str> = steps
        .iter()
        .filter(|s| s.number("verdict").is_some_and(|v| rings.contains(&v)))
        .map(|s| s.text("thread"))
        .collect();
    let holders: FxHashSet<&str> = waits.iter().map(|w| w.text("holder")).collect();
    let mut graph = Graph::default();
    let mut alike: FxHashMap<(&str, &str), (usize, usize)> = FxHashMap::default();
    for w in waits.iter().filter(|w| !w.text("object").is_empty() || !w.text("holder").is_empty()) {
        let (thread, object) = (w.text("thread"), w.text("object"));
        let in_ring = stuck.contains(thread);
        let what = match object {
            "" => None,
            _ => graph.node(
                &format!("o{object}"),
                "object",
                w.text("kind"),
                &format!("{} {object}", w.text("type")),
                in_ring,
            ),
        };
        let holder = match w.text("holder") {
            "" => None,
            h => {
                let label = format!("thread {}", w.text("held_by").split(' ').next().unwrap_or_default());
                let label = if w.text("held_by").is_empty() { "a thread".to_owned() } else { label };
                graph.node(&format!("t{h}"), "thread", &label, "", stuck.contains(h))
            }
        };
        let many = alike.entry((object, w.text("kind"))).or_default();
        let leaf = !holders.contains(thread) && !in_ring;
        if leaf {
            many.0 += 1;
        }
        if leaf && many.0 > MOST_ALIKE {
            many.1 += 1;
        } else {
            let name = w.thread("managed_id", "name");
            let from = graph.node(&format!("t{thread}"), "thread", &name, w.text("caller"), in_ring);
            graph.edge(from, what.or(holder), "waits for");
        }
        if what.is_some() {
            graph.edge(what, holder, "held by");
        }
    }
    let mut more: Vec<_> = alike.into_iter().filter(|(_, n)| n.1 > 0).collect();
    more.sort_unstable();
    for ((object, kind), (_, n)) in more {
        let from = graph.node(&format!("m{object}{kind}"), "threads", &format!("{n} threads more"), "", false);
        let to = graph.numbers.get(&format!("o{object}")).copied();
        graph.edge(from, to, "waits for");
    }
    rename(&mut graph, &Rows::of(answer, "held"));
    rename(&mut graph, &waits);
    graph.edges.dedup();
    let mut seen = FxHashSet::default();
    graph.edges.retain(|e| seen.insert(e.to_string()));
    json!({"kind": "waits", "nodes": graph.nodes, "edges": graph.edges, "left_out": graph.left_out})
}

/// Gives threads the names that rows say, with what they do there.
fn rename(graph: &mut Graph, rows: &Rows<'_>) {
    for w in rows.iter() {
        let at = graph.numbers.get(&format!("t{}", w.text("thread"))).copied();
        if let Some(node) = at.and_then(|n| graph.nodes.get_mut(n)) {
            let stuck = node.get(3).and_then(Json::as_bool).unwrap_or(false);
            *node = json!(["thread", w.thread("managed_id", "name"), w.text("caller"), stuck]);
        }
    }
}

/// The schema of the graph.
pub fn schema() -> Json {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer", "minimum": 0});
    json!({
        "description": "who waits for what: things, and pairs of them",
        "type": "object",
        "required": ["kind", "nodes", "edges", "left_out"],
        "additionalProperties": false,
        "properties": {
            "kind": {"const": "waits"},
            "nodes": {"type": "array", "maxItems": MOST_NODES, "items": {
                "prefixItems": [{"enum": ["thread", "threads", "object"]}, text, text, {"type": "boolean"}],
                "items": false, "minItems": 4,
            }},
            "edges": {"type": "array", "items": {
                "prefixItems": [number, number, {"enum": ["waits for", "held by"]}], "items": false, "minItems": 3,
            }},
            "left_out": number,
        },
    })
}
