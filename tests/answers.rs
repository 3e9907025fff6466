//! Answers as values: whatever a command hands over, JSON has all of it once, in whichever order it comes; what cannot
//! run is answered too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::Path;

use captured::{Captured, open};
use clrscope::shell::state::Ended;
use clrscope::shell::{Cell, Col, Format, Out, Table, Type};
use proptest::prelude::*;
use serde_json::{Value, json};

const ROOTS: Table = Table::new(
    "roots",
    &[Col::right("Root", "root", 6).of(Type::Count), Col::left("Kind", "kind", 0), Col::data("slot", Type::Address)],
);
const CHAIN: Table =
    Table::new("chain", &[Col::data("root", Type::Count), Col::left("", "type", 0).of(Type::TypeName)])
        .under("roots", "root");
const FIT: Table =
    Table::new("fit", &[Col::right("N", "n", 0), Col::left("Name", "name", 0), Col::left("", "rest", 0)]);

fn answer(format: Format, of: impl Fn(&mut Out) -> std::io::Result<()>) -> String {
    let sink = Captured::default();
    let mut out = Out::new(Box::new(sink.clone()), format);
    out.begin("!test", None);
    of(&mut out).unwrap();
    out.end("complete", None).unwrap();
    drop(out);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn chains(out: &mut Out) -> std::io::Result<()> {
    for root in 1..3 {
        out.row_as(&ROOTS, &[Cell::Num(root), Cell::text("handle"), Cell::Addr(0x10 * root)], format!("root {root}"))?;
        for ty in ["A", "B.C"] {
            out.row_as(&CHAIN, &[Cell::Num(root), Cell::text(ty)], format!("  -> {ty}  "))?;
        }
    }
    out.fact("roots", Cell::Num(2), "Found 2 roots.")?;
    out.datum("nothing", &Cell::None);
    out.note("\nThat is all.\n")
}

#[test]
fn rows_printed_as_lines_of_their_own_are_rows_all_the_same() {
    assert_eq!(
        answer(Format::Text, chains),
        "root 1\n  -> A\n  -> B.C\nroot 2\n  -> A\n  -> B.C\nFound 2 roots.\n\nThat is all.\n\n"
    );
    let value: Value = serde_json::from_str(&answer(Format::Json, chains)).unwrap();
    assert_eq!(
        value,
        json!({
            "schema": 1, "dump": null, "command": "!test", "outcome": "complete", "reason": null,
            "facts": {"roots": 2, "nothing": null},
            "tables": [
                {"name": "roots", "columns": ["root", "kind", "slot"], "rows": [[1, "handle", "0x10"], [2, "handle", "0x20"]]},
                {"name": "chain", "columns": ["root", "type"], "rows": [[1, "A"], [1, "B.C"], [2, "A"], [2, "B.C"]]},
            ],
            "notes": ["That is all."],
        })
    );
    assert_eq!(
        answer(Format::Csv, chains),
        "root,kind,slot\n1,handle,0x10\n2,handle,0x20\n\nroot,type\n1,A\n1,B.C\n2,A\n2,B.C\n"
    );
    let facts = |out: &mut Out| out.fact("text", Cell::text("a,b"), "text: a,b");
    assert_eq!(answer(Format::Csv, facts), "fact,value\ntext,\"a,b\"\n");
}

#[test]
fn text_has_the_columns_that_are_its_own_and_as_wide_as_they_need_be() {
    let table = |out: &mut Out| {
        out.open(&ROOTS)?;
        out.row(&[Cell::Num(1), Cell::text("x"), Cell::Addr(1)])?;
        out.open_as(&CHAIN, "Chain")?;
        out.row(&[Cell::Num(1), Cell::text("A")])?;
        out.data_row(&CHAIN, &[Cell::Num(1), Cell::text("unseen")])?;
        let rows =
            [[Cell::Sep(1000), Cell::text("ä"), Cell::text("r")], [Cell::Num(7), Cell::text("longer"), Cell::None]];
        out.fill(&FIT, &rows)?;
        out.fill_bare(&FIT, &rows[..1])
    };
    assert_eq!(
        answer(Format::Text, table),
        "  Root Kind\n     1 x\nChain\nA\n    N Name\n1,000 ä      r\n    7 longer\n1,000 ä r\n"
    );
    let value: Value = serde_json::from_str(&answer(Format::Json, table)).unwrap();
    assert_eq!(value["tables"][1]["rows"], json!([[1, "A"], [1, "unseen"]]));
    assert_eq!(value["tables"][2]["rows"].as_array().unwrap().len(), 3);
}

#[test]
fn a_row_behind_the_end_of_its_table_is_refused() {
    let sink = Captured::default();
    let mut out = Out::new(Box::new(sink.clone()), Format::Json);
    out.begin("!test", None);
    let long = "x".repeat(1 << 17);
    let row = [Cell::Num(1), Cell::text(long)];
    out.row_in(&CHAIN, &row).unwrap();
    out.done(&CHAIN).unwrap();
    assert!(out.row_in(&CHAIN, &row).is_err());
    out.end("failed", Some("so")).unwrap();
    let value: Value = serde_json::from_slice(&sink.0.lock().unwrap()).unwrap();
    assert_eq!((value["outcome"].as_str(), value["tables"][0]["rows"].as_array().unwrap().len()), (Some("failed"), 1));
}

/// What a command may do.
#[derive(Debug, Clone)]
enum Step {
    Open(usize),
    /// A row of a table, of so many bytes.
    Row(usize, usize),
    Done(usize),
    Note(String),
}

const THREE: [Table; 3] = [
    Table::new("a", &[Col::right("", "n", 0), Col::left("", "text", 0)]),
    Table::new("b", &[Col::right("", "n", 0), Col::left("", "text", 0)]),
    Table::new("a", &[Col::right("", "n", 0), Col::left("", "text", 0), Col::data("more", Type::Bool)]),
];

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0usize..50, 0usize..50, 0usize..80_000];
    prop_oneof![
        (0usize..3).prop_map(Step::Open),
        (0usize..3, size.clone()).prop_map(|(t, n)| Step::Row(t, n)),
        (0usize..3, size).prop_map(|(t, n)| Step::Row(t, n)),
        (0usize..3).prop_map(Step::Done),
        "[a-z\"\\\\]{1,9}".prop_map(Step::Note),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn data_has_everything_once_whatever_streams(steps in proptest::collection::vec(step(), 0..40)) {
        let mut rows: [Option<Vec<Value>>; 3] = [None, None, None];
        let (mut done, mut notes) = ([false; 3], Vec::new());
        let sinks = [Format::Json, Format::Csv].map(|f| (f, Captured::default()));
        let mut outs: Vec<Out> = sinks.iter().map(|(f, s)| Out::new(Box::new(s.clone()), *f)).collect();
        outs.iter_mut().for_each(|o| o.begin("!test", None));
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Open(t) => {
                    rows[*t].get_or_insert_default();
                    outs.iter_mut().for_each(|o| o.open(&THREE[*t]).unwrap());
                }
                Step::Row(t, _) if done[*t] => {}
                Step::Row(t, size) => {
                    let text = "x".repeat(*size);
                    let mut cells = vec![Cell::Num(number as u64), Cell::text(text.as_str())];
                    let mut row = vec![json!(number), json!(text)];
                    if *t == 2 {
                        cells.push(Cell::Bool(true));
                        row.push(json!(true));
                    }
                    rows[*t].get_or_insert_default().push(Value::Array(row));
                    outs.iter_mut().for_each(|o| o.row_in(&THREE[*t], &cells).unwrap());
                }
                Step::Done(t) => {
                    rows[*t].get_or_insert_default();
                    done[*t] = true;
                    outs.iter_mut().for_each(|o| o.done(&THREE[*t]).unwrap());
                }
                Step::Note(text) => {
                    notes.push(json!(text));
                    outs.iter_mut().for_each(|o| o.note(text).unwrap());
                }
            }
        }
        outs.iter_mut().for_each(|o| o.end("complete", None).unwrap());
        let value: Value = serde_json::from_slice(&sinks[0].1.0.lock().unwrap()).unwrap();
        prop_assert_eq!(&value["notes"], &Value::Array(notes));
        let tables = value["tables"].as_array().unwrap();
        prop_assert_eq!(tables.len(), rows.iter().flatten().count());
        for (t, wanted) in THREE.iter().zip(&rows).filter_map(|(t, r)| Some((t, r.as_ref()?))) {
            let keys: Vec<&str> = t.columns.iter().map(|c| c.key).collect();
            let found = tables.iter().find(|f| f["name"] == t.name && f["columns"] == json!(keys)).unwrap();
            prop_assert_eq!(&found["rows"], &Value::Array(wanted.clone()));
        }
        // CSV: as many blocks, as many lines.
        let csv = String::from_utf8(sinks[1].1.0.lock().unwrap().clone()).unwrap();
        let blocks: Vec<&str> = csv.split("\n\n").filter(|b| !b.is_empty()).collect();
        prop_assert_eq!(blocks.len(), tables.len());
        let lines: usize = rows.iter().flatten().map(|r| r.len() + 1).sum();
        prop_assert_eq!(csv.lines().filter(|l| !l.is_empty()).count(), lines);
    }
}

/// The answers of a line on a dump, or without one.
fn asked(dump: Option<&str>, line: &str) -> (Ended, Vec<Value>) {
    let name = dump.unwrap_or("win-x86-3.1-small.dmp.zst");
    let (mut shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name));
    shell.format = Format::Json;
    shell.state.errors = Some(Default::default());
    if dump.is_none() {
        shell.session = None;
    }
    let ended = shell.line(line);
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    (ended, text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect())
}

#[test]
fn what_cannot_run_is_answered_too() {
    const SMALL: Option<&str> = Some("win-x86-3.1-small.dmp.zst");
    for (dump, line, command, reason) in [
        (SMALL, "!dumphaep -stat", "!dumphaep -stat", "dumphaep"),
        (SMALL, "!dumpheap -sort colour", "!dumpheap -sort colour", "expected one of"),
        (SMALL, "!dumpheap \"abc", "!dumpheap \"abc", "not closed"),
        (SMALL, "lm | nothing", "lm | nothing", "after `|`"),
        (SMALL, "!dumpobj 10", "!dumpobj 10", "not in the dump"),
        (SMALL, "? 1 +", "? 1 +", ""),
        (SMALL, ".opendump /nowhere.dmp", ".opendump /nowhere.dmp", "/nowhere.dmp"),
        (SMALL, "$$><nowhere.txt", "nowhere.txt", "cannot read the script"),
        (None, "!dumpheap -stat", "!dumpheap -stat", "no dump is open"),
    ] {
        let (ended, answers) = asked(dump, line);
        assert_eq!((ended, answers.len()), (Ended::Failed, 1), "{line}: {answers:?}");
        let a = &answers[0];
        assert_eq!((a["outcome"].as_str(), a["command"].as_str()), (Some("failed"), Some(command)), "{a}");
        assert!(a["reason"].as_str().unwrap().contains(reason), "{a}");
        assert_eq!((&a["facts"], &a["tables"], &a["notes"]), (&json!({}), &json!([]), &json!([])), "{a}");
        assert_eq!(a["dump"].is_null(), dump.is_none(), "{a}");
    }
}

#[test]
fn an_answer_says_which_dump_it_is_about() {
    for (dump, wanted) in [
        (
            "linux-x64-10.0-leak-heap.core.zst",
            json!({
                "file": "linux-x64-10.0-leak-heap.core.zst", "size": 94_474_240, "os": "linux", "arch": "x64", "pid": 8544,
                "process": "dotnet", "time": null, "runtime": "10.0.14",
            }),
        ),
        ("win-x86-3.1-small.dmp.zst", json!({"os": "windows", "arch": "x86"})),
    ] {
        let (ended, answers) = asked(Some(dump), ".echo here; lm");
        assert_eq!((ended, answers.len()), (Ended::Well, 2));
        assert_eq!(answers[0]["dump"], answers[1]["dump"]);
        assert_eq!(answers[0]["notes"], json!(["here"]));
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(&answers[0]["dump"][key], value, "{dump}: {key}");
        }
        assert!(answers[0]["dump"]["runtime_build"].as_str().is_some_and(|b| b.len() >= 12), "{}", answers[0]["dump"]);
    }
}
