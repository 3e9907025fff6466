//! Pipes against an evaluator that knows nothing of streams, packed rows or prefixes: whole tables of JSON values, gone
//! through once a pipe.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cmp::Ordering;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clrscope::shell::grammar::{Reach, parse};
use clrscope::shell::{Cell, Col, Format, Out, Table, Type, mark};
use proptest::prelude::*;
use serde_json::{Value, json};

const COLUMNS: &[Col] = &[
    Col::right("MT", "method_table", 16).of(Type::Address),
    Col::right("TotalSize", "size", 0).of(Type::Bytes),
    Col::right("", "share", 4).of(Type::Share),
    Col::left("Class Name", "class_name", 0).of(Type::TypeName),
    Col::left("", "free", 0).of(Type::Bool),
    Col::data("seen", Type::Time).titled("when it was seen"),
    Col::right("Delta", "delta", 0).of(Type::Number),
];
const PLAIN: Table = Table::new("things", COLUMNS);
const RISING: Table = Table::new("things", COLUMNS).rising("size");

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command with these rows prints behind pipes.
fn run(pipes: &str, rows: &[Vec<Cell<'static>>], rising: bool, format: Format, most: usize) -> Result<String, String> {
    printed(pipes, rows, rising, format, most, false)
}

/// As [`run`]; with `screen` text has the marks that a terminal's lines are fitted by.
fn printed(
    pipes: &str,
    rows: &[Vec<Cell<'static>>],
    rising: bool,
    format: Format,
    most: usize,
    screen: bool,
) -> Result<String, String> {
    let kept = Kept::default();
    let call = parse(&format!("x {pipes}"), &|_, _| Reach::Command).map_err(|e| format!("{pipes}: {e}"))?.remove(0);
    let out = Out::new(Box::new(kept.clone()), format);
    let mut out = if screen { out.marked(Vec::new()) } else { out };
    out.set_pipes_within(call.pipes, most);
    out.begin("x", None);
    let all = || -> io::Result<()> {
        out.open(if rising { &RISING } else { &PLAIN })?;
        rows.iter().try_for_each(|r| out.row(r))?;
        out.note("Total")?;
        out.settle()?;
        out.end("complete", None)
    };
    let mut all = all;
    all().map_err(|e| e.to_string())?;
    let bytes = kept.0.lock().unwrap().clone();
    Ok(String::from_utf8(bytes).unwrap())
}

/// The only table of an answer in JSON: its columns and rows.
fn table(json: &str) -> (Vec<String>, Vec<Vec<Value>>) {
    let value: Value = serde_json::from_str(json).unwrap();
    let tables = value["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 1);
    (
        serde_json::from_value(tables[0]["columns"].clone()).unwrap(),
        serde_json::from_value(tables[0]["rows"].clone()).unwrap(),
    )
}

fn cell(strategy: impl Strategy<Value = Cell<'static>> + 'static) -> impl Strategy<Value = Cell<'static>> {
    prop_oneof![6 => strategy, 1 => Just(Cell::None)]
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["Zoo", "zoo", "Zoo.Cat", "List<Zoo.Cat>", "System.Byte[]", "", "Ä B", "10"])
        .prop_map(str::to_owned)
}

const TIMES: [(u64, &str); 3] =
    [(0, "1970-01-01"), (60, "1970-01-01T00:01:00Z"), (951_782_400, "\"2000-02-29 00:00\"")];

fn row() -> impl Strategy<Value = Vec<Cell<'static>>> {
    (
        cell(prop_oneof![(0x10u64..0x14).prop_map(Cell::Addr), Just(Cell::AddrPad(u64::MAX, 16))]),
        cell(prop_oneof![
            (0u64..6).prop_map(Cell::Sep),
            (0u64..4).prop_map(|x| Cell::As("rounded".into(), x << 10)),
            (0u64..4).prop_map(Cell::Num),
        ]),
        cell((0u32..6).prop_map(|x| Cell::Percent(f64::from(x) / 2.0))),
        cell(prop_oneof![
            name().prop_map(Cell::text),
            name().prop_map(|n| Cell::Units(n.encode_utf16().collect())),
            name().prop_map(|n| Cell::shown("...", Cell::text(n))),
        ]),
        cell(any::<bool>().prop_map(|b| Cell::Either(b, "Free", ""))),
        cell(prop::sample::select(TIMES.map(|t| t.0).to_vec()).prop_map(Cell::Time)),
        cell(prop_oneof![(-3i64..3).prop_map(Cell::Int), (-3i32..3).prop_map(|x| Cell::Float(f64::from(x) / 2.0))]),
    )
        .prop_map(|(a, b, c, d, e, f, g)| vec![a, b, c, d, e, f, g])
}

fn plain(cell: &Cell<'_>) -> Value {
    let mut json = Vec::new();
    cell.push_json(&mut json);
    serde_json::from_slice(&json).unwrap()
}

/// A condition, with the literal as typed and as the value it means for its column.
#[derive(Debug, Clone)]
enum Cond {
    Compare(usize, &'static str, String, Value),
    Columns(usize, &'static str, usize),
    Free,
    Not(Box<Cond>),
    And(Box<Cond>, Box<Cond>),
    Or(Box<Cond>, Box<Cond>),
}

const OPS: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "~", "!~"];

fn literal() -> impl Strategy<Value = (usize, String, Value)> {
    prop_oneof![
        (0x0fu64..0x15, 0usize..4).prop_map(|(x, form)| {
            let text = [format!("{x:x}"), format!("0x{x:X}"), format!("0n{x}"), format!("0000`{x:08x}")];
            (0, text[form].clone(), json!(format!("{x:#x}")))
        }),
        (0u64..5, 0usize..5).prop_map(|(x, form)| {
            let text = [format!("{x}"), format!("0x{x:x}"), format!("{x}kb"), format!("{x} KiB"), format!("{x}b")];
            (1, text[form].clone(), if form == 2 || form == 3 { json!(x << 10) } else { json!(x) })
        }),
        (0u32..6).prop_map(|x| (2, format!("{}%", f64::from(x) / 2.0), json!(f64::from(x) / 2.0))),
        (name(), any::<bool>()).prop_map(|(n, quoted)| {
            let quoted = quoted || n.contains(' ') || n.is_empty();
            (3, if quoted { format!("\"{n}\"") } else { n.clone() }, json!(n))
        }),
        prop::sample::select(vec![("true", true), ("No", false), ("FREE", true), ("0", false)]).prop_map(|(t, v)| (
            4,
            t.to_owned(),
            json!(v)
        )),
        prop::sample::select(TIMES.to_vec()).prop_map(|(s, t)| (5, t.to_owned(), plain(&Cell::Time(s)))),
        (-3i64..3).prop_map(|x| (6, x.to_string(), json!(x))),
        (-3i32..3).prop_map(|x| (6, (f64::from(x) / 2.0).to_string(), json!(f64::from(x) / 2.0))),
    ]
}

fn condition() -> impl Strategy<Value = Cond> {
    let leaf = prop_oneof![
        6 => (literal(), 0usize..8).prop_map(|((c, text, value), op)| {
            // What is contained is text: only of names it means the same in every form.
            let op = if c == 3 { op } else { op % 6 };
            Cond::Compare(c, OPS[op], text, value)
        }),
        1 => (0usize..7, 0usize..6, 0usize..7).prop_map(|(a, op, b)| Cond::Columns(a, OPS[op], b)),
        1 => Just(Cond::Free),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|c| Cond::Not(Box::new(c))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Cond::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Cond::Or(Box::new(a), Box::new(b))),
        ]
    })
}

impl Cond {
    /// As typed: parentheses only where they are needed.
    fn text(&self) -> String {
        let tight = |c: &Cond| match c {
            Cond::And(..) | Cond::Or(..) => format!("({})", c.text()),
            _ => c.text(),
        };
        match self {
            Cond::Compare(3, op, text, _) => format!("\"class name\" {op} {text}"),
            Cond::Compare(c, op, text, _) => format!("{}{op}{text}", COLUMNS[*c].key.to_uppercase()),
            Cond::Columns(a, op, b) => format!("{} {op} [{}]", COLUMNS[*a].key, COLUMNS[*b].key),
            Cond::Free => "free".into(),
            Cond::Not(c) => format!("not {}", tight(c)),
            Cond::And(a, b) => {
                let side = |c: &Cond| if matches!(c, Cond::Or(..)) { format!("({})", c.text()) } else { c.text() };
                format!("{} AND {}", side(a), side(b))
            }
            Cond::Or(a, b) => format!("{} or {}", a.text(), b.text()),
        }
    }

    fn holds(&self, row: &[Value]) -> bool {
        match self {
            Cond::Compare(c, op, _, value) => compared(&row[*c], op, value),
            Cond::Columns(a, op, b) => compared(&row[*a], op, &row[*b]),
            Cond::Free => row[4] == json!(true),
            Cond::Not(c) => !c.holds(row),
            Cond::And(a, b) => a.holds(row) && b.holds(row),
            Cond::Or(a, b) => a.holds(row) || b.holds(row),
        }
    }
}

/// What a value is for comparisons: its kind, then a number, or text in lower case.
fn meaning(v: &Value) -> (u8, f64, String) {
    match v {
        Value::Bool(b) => (1, f64::from(u8::from(*b)), String::new()),
        Value::Number(n) => (0, n.as_f64().unwrap(), String::new()),
        // Addresses here have 53 bits, or all of them.
        Value::String(s) if s.starts_with("0x") => (0, u64::from_str_radix(&s[2..], 16).unwrap() as f64, String::new()),
        Value::String(s) if s.ends_with('Z') && s.contains('T') => (2, 0.0, s.clone()),
        Value::String(s) => (3, 0.0, s.to_lowercase()),
        _ => (4, 0.0, String::new()),
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    let (a, b) = (meaning(a), meaning(b));
    a.0.cmp(&b.0).then(a.1.total_cmp(&(b.1 + 0.0))).then(a.2.cmp(&b.2))
}

fn compared(a: &Value, op: &str, b: &Value) -> bool {
    let comparable = !a.is_null() && !b.is_null() && meaning(a).0 == meaning(b).0;
    let contains = || comparable && meaning(a).2.contains(&meaning(b).2);
    match op {
        "~" => contains(),
        "!~" => !contains(),
        "!=" => !(comparable && order(a, b).is_eq()),
        "==" => comparable && order(a, b).is_eq(),
        "<" => comparable && order(a, b).is_lt(),
        "<=" => comparable && order(a, b).is_le(),
        ">" => comparable && order(a, b).is_gt(),
        _ => comparable && order(a, b).is_ge(),
    }
}

/// A pipe; columns are numbers that are taken modulo those there are.
#[derive(Debug, Clone)]
enum Pipe {
    Sort(Vec<(usize, bool)>),
    Group(Vec<usize>, Vec<(u8, usize)>),
    Cols(Vec<usize>),
    Top(usize),
    Last(usize),
    Count,
}

fn pipe() -> impl Strategy<Value = Pipe> {
    let columns = || prop::collection::vec(0usize..20, 1..4);
    prop_oneof![
        4 => prop::collection::vec((0usize..20, any::<bool>()), 1..4).prop_map(Pipe::Sort),
        2 => (columns(), prop::collection::vec((0u8..3, 0usize..20), 0..3)).prop_map(|(k, a)| Pipe::Group(k, a)),
        2 => columns().prop_map(Pipe::Cols),
        2 => (0usize..12).prop_map(Pipe::Top),
        1 => (0usize..12).prop_map(Pipe::Last),
        1 => Just(Pipe::Count),
    ]
}

/// A table at some place between pipes.
#[derive(Debug, Clone)]
struct Now {
    keys: Vec<(String, Type)>,
    rows: Vec<Vec<Value>>,
    rising: bool,
    name: &'static str,
}

fn unique(columns: &[usize], all: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for c in columns.iter().map(|c| c % all) {
        if !found.contains(&c) {
            found.push(c);
        }
    }
    found
}

impl Now {
    /// Applies a pipe and says how it is typed.
    fn apply(&mut self, pipe: &Pipe) -> String {
        let all = self.keys.len();
        let key = |c: &usize| self.keys[*c].0.clone();
        let keys = |c: &[usize]| c.iter().map(key).collect::<Vec<_>>().join(",");
        match pipe {
            Pipe::Sort(columns) => {
                let columns: Vec<(usize, bool)> = columns.iter().map(|(c, f)| (c % all, *f)).collect();
                let typed = columns.iter().map(|(c, falls)| format!("{}{}", if *falls { "-" } else { "" }, key(c)));
                let typed = typed.collect::<Vec<_>>().join(", ");
                self.rows.sort_by(|a, b| {
                    columns.iter().fold(Ordering::Equal, |o, (c, falls)| {
                        let (a, b) = (&a[*c], &b[*c]);
                        let falls = *falls && !a.is_null() && !b.is_null();
                        o.then(if falls { order(b, a) } else { order(a, b) })
                    })
                });
                self.rising = false;
                format!("| sort {typed}")
            }
            Pipe::Cols(columns) => {
                let columns = unique(columns, all);
                let typed = keys(&columns);
                self.keys = columns.iter().map(|c| self.keys[*c].clone()).collect();
                self.rows = self.rows.iter().map(|r| columns.iter().map(|c| r[*c].clone()).collect()).collect();
                format!("| cols {typed}")
            }
            Pipe::Top(n) => {
                let from = if self.rising { self.rows.len().saturating_sub(*n) } else { 0 };
                self.rows = self.rows.iter().skip(from).take(*n).cloned().collect();
                format!("| top {n}")
            }
            Pipe::Last(n) => {
                self.rows.drain(..self.rows.len().saturating_sub(*n));
                format!("| last {n}")
            }
            Pipe::Count => {
                // Counts that are counted are a table of their own.
                let name = std::mem::replace(&mut self.name, "counts");
                self.rows = vec![vec![json!(name), json!(self.rows.len())]];
                self.keys = vec![("table".into(), Type::Text), ("count".into(), Type::Count)];
                self.rising = false;
                "| count".into()
            }
            Pipe::Group(columns, aggregates) => self.group(&unique(columns, all), aggregates),
        }
    }

    fn group(&mut self, columns: &[usize], aggregates: &[(u8, usize)]) -> String {
        let all = self.keys.len();
        let sums = |c: &usize| matches!(self.keys[*c].1, Type::Bytes | Type::Count | Type::Number | Type::Share);
        let aggregates: Vec<(u8, usize)> =
            aggregates.iter().map(|(a, c)| (*a, c % all)).filter(|(a, c)| *a != 1 || sums(c)).collect();
        let mut typed = columns.iter().map(|c| self.keys[*c].0.clone()).collect::<Vec<_>>().join(" , ");
        for (a, c) in &aggregates {
            typed += &match a {
                0 => " count".to_owned(),
                1 => format!(" sum {}", self.keys[*c].0),
                _ => format!(" max {}", self.keys[*c].0),
            };
        }
        let aggregates = if aggregates.is_empty() { vec![(0, 0)] } else { aggregates };
        let mut groups: Vec<(Vec<Value>, Vec<Vec<Value>>)> = Vec::new();
        for row in &self.rows {
            let id: Vec<Value> = columns.iter().map(|c| row[*c].clone()).collect();
            // 1 and 1.0 are one number, Zoo and zoo two names.
            let same = |other: &Vec<Value>| {
                id.iter()
                    .zip(other)
                    .all(|(a, b)| if a.is_number() { b.is_number() && order(a, b).is_eq() } else { a == b })
            };
            match groups.iter_mut().find(|g| same(&g.0)) {
                Some(g) => g.1.push(row.clone()),
                None => groups.push((id, vec![row.clone()])),
            }
        }
        let mut keys: Vec<(String, Type)> = columns.iter().map(|c| self.keys[*c].clone()).collect();
        for (a, c) in &aggregates {
            let (over, ty) = &self.keys[*c];
            let (mut key, ty) = match a {
                0 => ("count".to_owned(), Type::Count),
                1 => (format!("sum_{over}"), *ty),
                _ => (format!("max_{over}"), *ty),
            };
            while keys.iter().any(|k| k.0 == key) {
                key += "_2";
            }
            keys.push((key, ty));
        }
        let mut rows: Vec<Vec<Value>> = groups
            .into_iter()
            .map(|(mut id, rows)| {
                for (a, c) in &aggregates {
                    let there: Vec<&Value> = rows.iter().map(|r| &r[*c]).filter(|v| !v.is_null()).collect();
                    id.push(match a {
                        0 => json!(rows.len()),
                        _ if there.is_empty() => Value::Null,
                        1 => json!(there.iter().map(|v| v.as_f64().unwrap()).sum::<f64>()),
                        _ => there
                            .into_iter()
                            .fold(None, |max: Option<&Value>, v| match max {
                                Some(m) if order(m, v).is_ge() => Some(m),
                                _ => Some(v),
                            })
                            .unwrap()
                            .clone(),
                    });
                }
                id
            })
            .collect();
        let first = columns.len();
        rows.sort_by(|a, b| {
            let by_size = match (a[first].is_null(), b[first].is_null()) {
                (false, false) => order(&a[first], &b[first]),
                (a, b) => b.cmp(&a),
            };
            (0..first).fold(by_size, |o, c| o.then(order(&a[c], &b[c])))
        });
        (self.keys, self.rows, self.rising) = (keys, rows, true);
        format!("| group {typed}")
    }
}

/// The same values: numbers as such, 1 and 1.0 alike.
fn same(a: &[Vec<Value>], b: &[Vec<Value>]) -> bool {
    let one = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| one(a, b)))
}

const MUCH: usize = 1 << 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_keeps_what_holds(rows in prop::collection::vec(row(), 0..12), c in condition()) {
        let typed = format!("| where {}", c.text());
        let (_, found) = table(&run(&typed, &rows, false, Format::Json, MUCH).unwrap());
        let all: Vec<Vec<Value>> = rows.iter().map(|r| r.iter().map(plain).collect()).collect();
        let want: Vec<Vec<Value>> = all.into_iter().filter(|r| c.holds(r)).collect();
        prop_assert_eq!(found, want, "{}", typed);
    }

    #[test]
    fn pipes_do_what_each_does(
        rows in prop::collection::vec(row(), 0..40),
        pipes in prop::collection::vec(pipe(), 1..5),
        c in prop::option::of(condition()),
        rising: bool,
    ) {
        let mut now = Now {
            keys: COLUMNS.iter().map(|c| (c.key.to_owned(), c.ty)).collect(),
            rows: rows.iter().map(|r| r.iter().map(plain).collect()).collect(),
            rising,
            name: "things",
        };
        let mut typed = String::new();
        if let Some(c) = &c {
            typed = format!("| where {} ", c.text());
            now.rows.retain(|r| c.holds(r));
        }
        // `top` and `last` alone leave the lines of text as they are.
        let looks = c.is_some() || pipes.iter().any(|p| !matches!(p, Pipe::Top(_) | Pipe::Last(_)));
        for p in &pipes {
            typed += &now.apply(p);
        }
        if !looks {
            typed += &now.apply(&Pipe::Cols((0..COLUMNS.len()).collect()));
        }
        let json = run(&typed, &rows, rising, Format::Json, MUCH).unwrap();
        let (keys, found) = table(&json);
        prop_assert_eq!(keys, now.keys.iter().map(|k| k.0.clone()).collect::<Vec<_>>(), "{}", typed);
        prop_assert!(same(&found, &now.rows), "{}\n{:?}\n{:?}", typed, found, now.rows);
        // CSV has the same values, text as many lines behind its titles.
        let csv = run(&typed, &rows, rising, Format::Csv, MUCH).unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let fields: Vec<Vec<String>> = reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
        let shown = |v: &Value| match v {
            Value::Null => String::new(),
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        let want: Vec<Vec<String>> = found.iter().map(|r| r.iter().map(shown).collect()).collect();
        prop_assert_eq!(fields, want);
        let text = run(&typed, &rows, rising, Format::Text, MUCH).unwrap();
        let marked = printed(&typed, &rows, rising, Format::Text, MUCH, true).unwrap();
        prop_assert!(marked.lines().all(mark::any));
        let plain: String = marked.lines().map(|l| mark::plain(l) + "\n").collect();
        prop_assert_eq!(&plain, &text);
        let lines = text.lines().count();
        prop_assert!(lines == found.len() || lines == found.len() + 1, "{}\n{}", typed, text);
    }
}

fn numbered(n: u64) -> Vec<Vec<Cell<'static>>> {
    let row = |i: u64| {
        let name = Cell::text(format!("Zoo.Animal{i}"));
        let size = Cell::Sep(i.wrapping_mul(7919) % n);
        vec![Cell::Addr(i), size, Cell::None, name, Cell::Either(false, "Free", ""), Cell::None, Cell::None]
    };
    (0..n).map(row).collect()
}

#[test]
fn more_rows_than_the_bound_are_refused_with_a_number() {
    let rows = numbered(20_000);
    for (pipes, what) in [
        ("| sort size", "| sort would keep"),
        ("| group method_table", "| group would keep"),
        ("| sort size | group size", "| sort would keep"),
        ("| cols size | last 15000", "| last would keep"),
        ("| last 15000", "| last would keep"),
    ] {
        let why = run(pipes, &rows, false, Format::Json, 500_000).unwrap_err();
        assert!(why.starts_with(what) && why.contains("500,000 bytes") && why.contains(" rows have filled"), "{why}");
    }
    // What is dropped again needs no room.
    let (_, found) = table(&run("| sort -size | cols size | top 3", &rows, false, Format::Json, 1 << 20).unwrap());
    assert_eq!(found, [[json!(19_999)], [json!(19_998)], [json!(19_997)]]);
    let (_, found) = table(&run("| sort size | last 2", &rows, false, Format::Json, 1 << 20).unwrap());
    assert_eq!(found.iter().map(|r| r[1].clone()).collect::<Vec<_>>(), [json!(19_998), json!(19_999)]);
    let (_, found) = table(&run("| group free sum size max size", &rows, false, Format::Json, 10_000).unwrap());
    assert_eq!(found, [[json!(false), json!(199_990_000u64), json!(19_999)]]);
}

#[test]
fn columns_of_text_grow_with_what_they_hold() {
    let mut rows = numbered(3);
    rows[1][3] = Cell::shown("...nimal", Cell::text("Zoo.An.Animal.Whose.Name.Is.Long"));
    rows[2][1] = Cell::As("1.2 GB".into(), 1_234_567_890);
    let text = run("| cols class_name,size", &rows, false, Format::Text, MUCH).unwrap();
    let want = "\
Class Name                           TotalSize
Zoo.Animal0                                  0
Zoo.An.Animal.Whose.Name.Is.Long             2
Zoo.Animal2                      1,234,567,890
";
    assert_eq!(text, want);
    // Those who stream as well.
    let mut rows = numbered(2000);
    rows[1999][3] = Cell::text("X".repeat(40));
    let text = run("| cols class_name,size,seen", &rows, false, Format::Text, MUCH).unwrap();
    assert!(text.starts_with("Class Name    TotalSize seen\n"), "{text:.80}");
    assert!(text.ends_with(&format!("\n{}        81\n", "X".repeat(40))), "{}", &text[text.len() - 80..]);
}
