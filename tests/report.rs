//! The page of a report: the policy it carries, its charts, and that its numbers are those of the commands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use captured::open;
use clrscope::commands::ALL;
use clrscope::commands::session::report::model;
use clrscope::shell::{Format, schema};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let n = three.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = char::from(DIGITS[(n >> (18 - 6 * i)) as usize & 63]);
            out.push(if i > three.len() { '=' } else { digit });
        }
    }
    out
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text.as_bytes())))
}

/// What stands between two marks, and the rest.
fn between<'a>(text: &'a str, from: &str, to: &str) -> (&'a str, &'a str) {
    let rest = &text[text.find(from).unwrap() + from.len()..];
    rest.split_once(to).unwrap()
}

/// What a report of a dump is as data, and as a page.
fn report(dump: &str, more: &str) -> (Json, String) {
    let folder = tempfile::tempdir().unwrap();
    let (mut shell, _) = open(&data(dump));
    let path = |name: &str| folder.path().join(name).display().to_string();
    shell.line(&format!(".report {} {more}; .report {} {more}", path("r.json"), path("r.html")));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    (serde_json::from_str(&read("r.json")).unwrap(), read("r.html"))
}

fn answer(dump: &str, line: &str) -> Json {
    let (mut shell, out) = open(&data(dump));
    shell.format = Format::Json;
    shell.line(line);
    let text = out.0.lock().unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn section<'a>(model: &'a Json, title: &str) -> &'a Json {
    model::list(model, "sections").iter().find(|s| s["title"] == title).unwrap()
}

const LEAK: &str = "testdata/linux-x64-10.0-leak-heap.core.zst";
const TWICE: &str = "testdata/linux-x64-10.0-leaktwice-heap.core.zst";
const LOCKS: &str = "testdata/linux-x64-10.0-locks-heap.core.zst";

#[test]
fn the_policy_is_that_of_the_style_and_the_script() {
    let read = |name: &str| std::fs::read_to_string(data("commands/session/report").join(name)).unwrap();
    let (style, script) = (hash(&read("page.css")), hash(&read("page.js")));
    let wanted =
        format!("default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'\n");
    if std::env::var_os("CLRSCOPE_BLESS").is_some() {
        std::fs::write(data("commands/session/report/page.policy"), &wanted).unwrap();
    }
    assert_eq!(read("page.policy"), wanted, "run CLRSCOPE_BLESS=1 cargo test --test report policy, and build anew");
    let (_, page) = report(LOCKS, "");
    let (policy, _) = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let (style, rest) = between(&page, "<style>", "</style>");
    let (_, rest) = between(rest, "<script type=\"application/json\" id=\"model\">", "</script>");
    let (script, _) = between(rest, "<script>", "</script>");
    assert!(policy.contains(&hash(style)) && policy.contains(&hash(script)), "{policy}");
    assert!(policy.starts_with("default-src 'none'; "));
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
}

/// Rows of a chart: parent and bytes.
fn parts(chart: &Json) -> Vec<(Option<usize>, u64)> {
    let row = |r: &Json| (r[0].as_u64().map(|p| p as usize), r[7].as_u64().unwrap());
    model::list(chart, "rows").iter().map(row).collect()
}

#[test]
fn rectangles_sum_to_the_live_bytes() {
    for dump in [LEAK, LOCKS, "testdata/linux-x64-9.0-svr-heap.core.zst"] {
        let (model, page) = report(dump, "");
        assert!(page.len() < 2_000_000);
        let charts = model::list(section(&model, "What keeps most"), "charts");
        let [treemap, icicle] = charts else { panic!("{} charts", charts.len()) };
        let live = answer(dump, "!dominators")["facts"]["bytes"].as_u64().unwrap();
        let rows = parts(treemap);
        assert!(rows.len() > 100 && rows.len() <= 2_000, "{dump}: {}", rows.len());
        let mut inside: HashMap<usize, u64> = HashMap::new();
        for (i, (parent, bytes)) in rows.iter().enumerate() {
            assert!(parent.is_none_or(|p| p < i) && parent.is_none() == (i == 0));
            parent.iter().for_each(|&p| *inside.entry(p).or_default() += bytes);
        }
        inside.iter().for_each(|(&i, &sum)| assert_eq!(rows[i].1, sum, "{dump}: row {i}"));
        let leaves = rows.iter().enumerate().filter(|(i, _)| !inside.contains_key(i)).map(|(_, r)| r.1);
        assert_eq!((leaves.sum::<u64>(), treemap["bytes"].as_u64()), (live, Some(live)), "{dump}");
        assert_eq!(icicle["bytes"].as_u64(), Some(live), "{dump}");
        let mut below: HashMap<usize, u64> = HashMap::new();
        let rows = parts(icicle);
        rows.iter().for_each(|(p, bytes)| p.iter().for_each(|&p| *below.entry(p).or_default() += bytes));
        below.iter().for_each(|(&i, &sum)| assert!(sum <= rows[i].1, "{dump}: row {i}"));
        assert_eq!(below[&0], live, "{dump}: roots hold all that is alive");
    }
}

#[test]
fn the_biggest_holder_is_the_biggest_rectangle() {
    let (model, _) = report(LEAK, "");
    let [treemap, icicle] = model::list(section(&model, "What keeps most"), "charts") else { panic!() };
    let first = |chart: &Json| {
        let rows = model::list(chart, "rows").to_vec();
        rows.into_iter().filter(|r| r[0] == 0).max_by_key(|r| r[7].as_u64()).unwrap()
    };
    assert_eq!(first(treemap)[4], "Zoo.Zoo.Cache");
    assert!(first(icicle)[4].as_str().unwrap().ends_with("Zoo.Zoo.Cache"));
    // As !dominators has it.
    let top = &answer(LEAK, "!dominators -top 1")["tables"][0]["rows"][0];
    assert_eq!((&first(treemap)[2], &first(treemap)[7]), (&top[0], &top[2]));
}

#[test]
fn numbers_are_those_of_the_commands() {
    let (model, page) = report(LEAK, "-with-values");
    for s in model::list(&model, "sections") {
        let line = model::text(s, "command");
        let told = answer(LEAK, line);
        for part in ["facts", "tables", "outcome"] {
            assert_eq!(s["answer"][part], told[part], "{line}");
        }
    }
    assert!(page.contains("ASPNETCORE") || page.contains("DOTNET_"), "the environment is in it");
    // The page has the model, as far as its tables go.
    let (inside, _) = between(&page, "id=\"model\">", "</script>");
    let inside: Json = serde_json::from_str(inside).unwrap();
    let cut = section(&inside, "Types by own bytes");
    let rows = cut["answer"]["tables"][0]["rows"].as_array().unwrap();
    let all = section(&model, "Types by own bytes")["answer"]["tables"][0]["rows"].as_array().unwrap();
    assert!(all.starts_with(rows) && !rows.is_empty());
}

#[test]
fn texts_of_the_process_are_left_out_unless_asked_for() {
    let (model, page) = report(LEAK, "");
    let all = model.to_string() + &page;
    let strings = answer(LEAK, "!strings -stat -top 50");
    let rows = strings["tables"][0]["rows"].as_array().unwrap();
    for row in rows {
        let text = row.as_array().unwrap().iter().rev().find_map(Json::as_str).unwrap();
        let told = text.len() > 12 && !text.contains(['.', '_', ' ']) && all.contains(text);
        assert!(!told, "{text}");
    }
}

#[test]
fn growth_is_that_of_diff() {
    let older = data(LEAK).display().to_string();
    let (model, page) = report(TWICE, &format!("-diff \"{older}\" -diff \"{older}\""));
    let grown = &section(&model, "Growth")["answer"];
    let told = answer(TWICE, &format!("!diff \"{older}\" -top 0"));
    for (here, there, name) in [("types", "types", "name"), ("memory", "regions", "name")] {
        let of_diff: HashMap<String, Json> =
            model::rows(&told, there).into_iter().map(|r| (r[name].as_str().unwrap().to_owned(), r)).collect();
        let key = if here == "types" { "type" } else { "usage" };
        let mut compared = 0;
        for row in model::rows(grown, here) {
            let Some(other) = of_diff.get(row[key].as_str().unwrap()) else {
                assert_eq!((&row["growth_bytes"], &row["growth_count"]), (&0.into(), &0.into()), "{row}");
                continue;
            };
            assert_eq!(row["growth_bytes"], other["growth_bytes"], "{row}");
            assert_eq!((&row["bytes_1"], &row["bytes_2"]), (&other["old_bytes"], &other["old_bytes"]));
            assert_eq!((&row["bytes_3"], &row["count_3"]), (&other["new_bytes"], &other["new_count"]));
            compared += 1;
        }
        assert!(compared > 2, "{here}: {compared}");
    }
    let cache = model::rows(grown, "owners").remove(0);
    assert!(cache["owner"].as_str().unwrap().contains("Zoo.Zoo.Cache"), "{cache}");
    assert!(page.matches("<polyline").count() > 20);
}

#[test]
fn the_model_keeps_its_schema() {
    let mut compiler = Compiler::new();
    let place = |name: &str| format!("https://clrscope.example/schema/{}", schema::file(name));
    for (name, value) in schema::all(ALL) {
        compiler.add_resource(&place(&name), value).unwrap();
    }
    compiler.add_resource(&place(model::SCHEMA), model::schema()).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile(&place(model::SCHEMA), &mut schemas).unwrap();
    let older = data(LEAK).display().to_string();
    for (dump, more) in [
        (LEAK, "-with-values".to_owned()),
        (LOCKS, String::new()),
        (TWICE, format!("-diff \"{older}\"")),
        ("testdata/linux-x64-10.0-ingc-heap.core.zst", String::new()),
    ] {
        let (model, page) = report(dump, &more);
        if let Err(e) = schemas.validate(&model, index) {
            panic!("{dump}: {e}");
        }
        let (inside, _) = between(&page, "id=\"model\">", "</script>");
        schemas.validate(&serde_json::from_str(inside).unwrap(), index).unwrap();
    }
}

#[test]
fn waits_are_drawn() {
    let (model, _) = report(LOCKS, "");
    let graph = &model::list(section(&model, "Waits"), "charts")[0];
    let (nodes, edges) = (model::list(graph, "nodes"), model::list(graph, "edges"));
    assert!(edges.iter().all(|e| [0, 1].iter().all(|&i| (e[i].as_u64().unwrap() as usize) < nodes.len())));
    // Two threads of the ring wait for one another over two objects.
    let stuck: Vec<usize> = (0..nodes.len()).filter(|&i| nodes[i][3] == true && nodes[i][0] == "thread").collect();
    assert_eq!(stuck.len(), 2, "{nodes:?}");
    let next = |from: usize, what: &str| -> Vec<usize> {
        let of = edges.iter().filter(|e| e[0] == from && e[2] == what);
        of.map(|e| e[1].as_u64().unwrap() as usize).collect()
    };
    let around = next(next(stuck[0], "waits for")[0], "held by");
    assert_eq!(around, [stuck[1]]);
}
