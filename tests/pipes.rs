//! Pipes behind real commands: what comes through in text, JSON and CSV, and what is said of mistakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::Path;
use std::sync::{Arc, Mutex};

use captured::{Captured, open};
use clrscope::shell::Format;
use clrscope::shell::pipes::declared;
use clrscope::shell::pipes::kept::MOST_BYTES;
use clrscope::shell::state::{Ended, Shell};
use serde_json::{Value, json};

const LEAK: &str = "linux-x64-10.0-leak-heap.core.zst";

struct Session {
    shell: Shell,
    out: Captured,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn on(dump: &str) -> Self {
        let (mut shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        let errors = Arc::<Mutex<Vec<String>>>::default();
        shell.state.errors = Some(errors.clone());
        Self { shell, out, errors }
    }

    fn run(&mut self, line: &str) -> (Ended, String) {
        self.out.0.lock().unwrap().clear();
        self.errors.lock().unwrap().clear();
        let ended = self.shell.line(line);
        (ended, String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap())
    }

    fn text(&mut self, line: &str) -> String {
        let (ended, out) = self.run(line);
        assert_eq!(ended, Ended::Well, "{line}: {:?}", self.errors);
        out
    }

    fn error(&mut self, line: &str) -> String {
        let (ended, out) = self.run(line);
        assert_eq!((ended, out.as_str()), (Ended::Failed, ""), "{line}");
        self.errors.lock().unwrap().join("\n")
    }

    fn json(&mut self, line: &str) -> Value {
        self.shell.format = Format::Json;
        let (_, out) = self.run(line);
        self.shell.format = Format::Text;
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out:.200}"))
    }

    /// The rows of the only table.
    fn rows(&mut self, line: &str) -> Vec<Vec<Value>> {
        let answer = self.json(line);
        let tables = answer["tables"].as_array().unwrap();
        assert_eq!(tables.len(), 1, "{line}");
        serde_json::from_value(tables[0]["rows"].clone()).unwrap()
    }
}

#[test]
fn golden_lines() {
    let mut s = Session::on(LEAK);
    for (line, want) in [
        // What a person expects, though the command has the biggest last.
        (
            "!dumpheap -stat | top 2",
            "\
Statistics:
          MT Count TotalSize Class Name
7fdcb325dd58 5,612   277,778 System.String
7fdcb3509120 1,796 2,713,321 System.Byte[]
",
        ),
        // As ever: nothing here rises by bytes.
        (
            "!dumpheap -stat -sort name | find zoo.session | top 1",
            "          MT Count TotalSize Class Name
7fdcb3508188     1        40 System.Collections.Concurrent.ConcurrentDictionary<System.Int32, Zoo.Session>
",
        ),
        (
            "!dumpheap -stat | where total_size > 20kb and not \"class name\" ~ system | sort -count",
            "          MT Count TotalSize Class Name
7fdcb3504d70 1,684   107,776 Zoo.Session
55ed449ba900 1,509    36,328 Free
",
        ),
        (
            "!dumpheap -stat | sort -total_size | cols class_name,count | top 3",
            "\
Class Name                                                                  Count
System.Byte[]                                                               1,796
System.String                                                               5,612
System.Collections.Generic.Dictionary<System.String, System.Object>+Entry[] 1,685
",
        ),
        (
            "!dumpheap | group mt sum size count max size | top 2",
            "              MT  Sum Size Count Max Size
    7fdcb325dd58   277,778 5,612   29,338
    7fdcb3509120 2,713,321 1,796   90,524
",
        ),
        ("!dumpheap | count", "Table      Count\nobjects    17886\nstatistics   147\n"),
        ("!dumpheap -short -mt 7fdcb3504d70 | where address < 7fd0`d900c200", "7fd0d900c140\n"),
        ("!dumpheap -stat | where class_name == \"no such type\"", "MT Count TotalSize Class Name\n"),
        (
            "!dumpheap -stat | findstr /i \"zoo.session\" | grep + | where count == 1 | cols count | top 2",
            "Count\n    1\n    1\n",
        ),
        (
            ".foreach /pS 1 (t {!dumpheap -stat | where count == 1,684 and class_name ~ zoo | cols mt}) {.echo t}",
            "7fdcb3504d70\n",
        ),
    ] {
        assert_eq!(s.text(line), want, "{line}");
    }
}

#[test]
fn all_formats_go_through_the_same_pipes() {
    let mut s = Session::on(LEAK);
    let all = s.rows("!dumpheap -stat");
    let line = "!dumpheap -stat | where count >= 100 or total_size > 0x2000";
    let number = |v: &Value| v.as_u64().unwrap();
    let want: Vec<_> = all.iter().filter(|r| number(&r[1]) >= 100 || number(&r[2]) > 0x2000).cloned().collect();
    assert!(want.len() > 5 && want.len() < all.len());
    assert_eq!(s.rows(line), want);
    let answer = s.json(line);
    assert_eq!(answer["command"], line);
    assert_eq!(answer["facts"]["objects"], 17_886);
    assert_eq!((&answer["outcome"], &answer["notes"]), (&json!("complete"), &json!([])));
    assert_eq!(answer["tables"][0]["columns"], json!(["method_table", "count", "total_size", "class_name"]));
    assert_eq!(s.text(line).lines().count(), want.len() + 1);
    s.shell.format = Format::Csv;
    let csv = s.text(line);
    s.shell.format = Format::Text;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(
        reader.headers().unwrap().iter().collect::<Vec<_>>(),
        ["method_table", "count", "total_size", "class_name"]
    );
    let records: Vec<Vec<Value>> = reader
        .records()
        .map(|r| r.unwrap())
        .map(|r| {
            vec![json!(r[0]), json!(r[1].parse::<u64>().unwrap()), json!(r[2].parse::<u64>().unwrap()), json!(r[3])]
        })
        .collect();
    assert_eq!(records, want);
}

#[test]
fn grouped_objects_are_the_statistics() {
    let mut s = Session::on(LEAK);
    let mut statistics: Vec<Vec<Value>> = s.rows("!dumpheap -stat | cols mt,count,total_size");
    let mut groups = s.rows("!dumpheap | group mt count sum size");
    // The groups come by their count, the biggest last.
    assert!(groups.windows(2).all(|w| w[0][1].as_u64() <= w[1][1].as_u64()));
    let key = |r: &Vec<Value>| r[0].as_str().unwrap().to_owned();
    statistics.sort_by_key(key);
    groups.sort_by_key(key);
    assert_eq!(groups, statistics);
    let total = s.rows("!dumpheap | group free count | group free sum count | cols sum_count | group sum_count");
    assert_eq!(total.iter().map(|r| r[0].as_u64().unwrap()).sum::<u64>(), 17_886);
    // The ten biggest, whether one sorts by size and takes the first or by the command's own order.
    let mut by_sort = s.rows("!dumpheap -stat | sort -total_size | top 10");
    by_sort.reverse();
    assert_eq!(by_sort, s.rows("!dumpheap -stat | top 10"));
    assert_eq!(s.rows("!dumpheap -stat | cols mt | top 10").len(), 10);
}

#[test]
fn tables_that_lack_a_column_are_left_out() {
    let mut s = Session::on(LEAK);
    let answer = s.json("!dumpheap | where count > 1000");
    let names: Vec<&Value> = answer["tables"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(names, ["statistics"]);
    let answer = s.json("!dumpheap | where size > 1000 | count");
    assert_eq!(answer["tables"][0]["columns"], json!(["table", "count"]));
    assert_eq!(answer["tables"][0]["rows"].as_array().unwrap().len(), 1);
    assert_eq!(answer["tables"][0]["rows"][0][0], "objects");
    let counts = s.rows("!dumpheap | count | sort -count | top 1");
    assert_eq!(counts, [[json!("objects"), json!(17_886)]]);
}

#[test]
fn mistakes_are_found_before_the_command_runs() {
    let mut s = Session::on(LEAK);
    for (line, place, what) in [
        (
            "!dumpheap -stat | where foo > 5",
            "foo",
            "no table of !dumpheap has a column `foo`; there are: objects (address",
        ),
        (
            "!dumpheap -stat | cols count | sort -mt",
            "mt",
            "has a column `mt`; there are: strings (count), statistics (count)",
        ),
        (
            "!dumpheap | where size > big",
            "big",
            "expected a number (decimal, 0x for hexadecimal; kb, mb, gb), not `big`",
        ),
        ("!dumpheap | where size and free", "size", "`size` is not true or false"),
        ("!dumpheap | where address == Nope", "Nope", "`Nope` is no number, register or module"),
        ("!dumpheap | where followed_by > 1 and count > 1", "followed_by", "all the columns `followed_by`, `count`"),
        ("!dumpheap | group size sum address", "address", "`address` holds address: sum takes"),
        ("!dumpheap | cols size,size", "size", "the column `size` is named twice"),
        (
            "!dumpheap | count | where size > 1",
            "size",
            "no table of | count has a column `size`; there are: counts (table, count)",
        ),
        ("!dumpheap | top", "", "expected a number after `top`"),
        ("!dumpheap | nope 5", "nope", "expected a pipe after `|`: where, sort, group, cols, top, last, count, find"),
    ] {
        let error = s.error(line);
        assert!(error.contains(what), "{line}: {error}");
        // The caret stands under the place.
        let caret = error.lines().find_map(|l| l.find('^')).unwrap();
        let above = error.lines().next().unwrap();
        assert!(above[caret.min(above.len())..].starts_with(place), "{error}");
        assert_eq!(s.json(line)["outcome"], "failed");
    }
    // Which tables there are is known when they come.
    let error = s.error("!dumpheap -stat | where address > 5");
    assert!(
        error.contains("no table of this answer has a column `address`; there are: statistics (method_table"),
        "{error}"
    );
    // `|` in quotes is text.
    assert_eq!(s.rows("!dumpheap -stat | where class_name ~ \"a|b;c\"").len(), 0);
}

#[test]
fn what_is_missing_is_said_whatever_the_pipes() {
    let mut s = Session::on("linux-x64-10.0-ingc-heap.core.zst");
    for pipes in
        ["", "| top 1", "| find nothing-has-this", "| where count > 100000", "| sort count", "| count", "| cols mt"]
    {
        let text = s.text(&format!("!dumpheap -stat {pipes}"));
        let said: Vec<&str> = text.lines().filter(|l| l.starts_with("partial: the dump was taken inside a")).collect();
        assert_eq!(said.len(), 1, "{pipes}: {text}");
        assert!(text.trim_end().ends_with(said[0]), "{pipes}: {text}");
        assert_eq!(s.json(&format!("!dumpheap -stat {pipes}"))["outcome"], "partial");
    }
}

#[test]
fn answers_without_a_table_say_so() {
    let mut s = Session::on(LEAK);
    assert!(s.error(".time | count").contains(".time returns no table: behind it stand find, top and last alone"));
    // Nothing found is an answer.
    assert_eq!(s.json("!gcwhere 10 | count")["outcome"], "empty");
}

#[test]
fn every_example_runs() {
    let mut s = Session::on(LEAK);
    for (line, _) in declared::ALL.iter().flat_map(|d| d.examples) {
        assert!(!s.text(line).is_empty(), "{line}");
    }
    // What is kept at most is told as it is.
    let bound = format!("{} MB", MOST_BYTES >> 20);
    let told = |name: &str| declared::named(name).unwrap().help.contains(&bound);
    assert!(told("sort") && told("group"));
}
