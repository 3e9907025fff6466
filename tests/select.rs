//! `!select` against an evaluator that knows nothing of plans, offsets or workers: it looks every field of every object up
//! by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::Path;
use std::sync::{Arc, Mutex};

use captured::{Captured, open};
use clrscope::clr::types::fields::{Element, et};
use clrscope::session::Session;
use clrscope::shell::Format;
use clrscope::shell::state::{Ended, Shell};
use serde_json::{Value, json};

const LEAK: &str = "linux-x64-10.0-leak-heap.core.zst";
const SHOP: &str = "linux-x64-10.0-shop-heap.core.zst";

struct Asked {
    shell: Shell,
    out: Captured,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    fn on(dump: &str) -> Self {
        let (mut shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        let errors = Arc::<Mutex<Vec<String>>>::default();
        shell.state.errors = Some(errors.clone());
        Self { shell, out, errors }
    }

    fn session(&self) -> Arc<Session> {
        self.shell.session.clone().unwrap()
    }

    fn run(&mut self, line: &str) -> (Ended, String) {
        self.out.0.lock().unwrap().clear();
        self.errors.lock().unwrap().clear();
        let ended = self.shell.line(line);
        (ended, String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap())
    }

    fn answer(&mut self, line: &str) -> Value {
        self.shell.format = Format::Json;
        let (ended, out) = self.run(line);
        self.shell.format = Format::Text;
        assert_eq!(ended, Ended::Well, "{line}: {:?}", self.errors);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out:.200}"))
    }

    /// Columns and rows of the only table.
    fn table(&mut self, line: &str) -> (Vec<String>, Vec<Vec<Value>>) {
        let answer = self.answer(line);
        let table = &answer["tables"][0];
        let of = |key: &str| table[key].clone();
        (serde_json::from_value(of("columns")).unwrap(), serde_json::from_value(of("rows")).unwrap())
    }

    fn rows(&mut self, line: &str) -> Vec<Vec<Value>> {
        self.table(line).1
    }

    fn error(&mut self, line: &str) -> String {
        let (ended, _) = self.run(line);
        assert_eq!(ended, Ended::Failed, "{line}");
        self.errors.lock().unwrap().join("\n")
    }
}

/// A value as the answer has it: text, numbers, addresses in words, `null`.
fn read(session: &Session, element: Element, mt: Option<u64>, at: u64) -> Value {
    let clr = session.clr().unwrap();
    let space = clr.space();
    let number = |n: Option<i64>| {
        let names = mt.and_then(|mt| clr.valid_method_table(mt)).filter(|m| m.is_value_type());
        let names = names.and_then(|m| session.enum_names(&m));
        n.map_or(Value::Null, |n| names.map_or(json!(n), |names| names.spell(n).map_or(json!(n), |w| json!(w))))
    };
    match element.0 {
        et::BOOLEAN => json!(space.u8(at).unwrap() != 0),
        et::U1 => number(space.u8(at).map(i64::from)),
        et::I1 => number(space.u8(at).map(|b| i64::from(b as i8))),
        et::I2 => number(space.u16(at).map(|b| i64::from(b as i16))),
        et::U2 => number(space.u16(at).map(i64::from)),
        et::I4 => number(space.u32(at).map(|b| i64::from(b as i32))),
        et::U4 => number(space.u32(at).map(i64::from)),
        et::I8 => number(space.u64(at).map(|b| b as i64)),
        et::U8 => json!(space.u64(at).unwrap()),
        et::CHAR => json!(String::from_utf16_lossy(&[space.u16(at).unwrap()])),
        et::R4 => json!(f64::from(f32::from_bits(space.u32(at).unwrap()))),
        et::R8 => json!(f64::from_bits(space.u64(at).unwrap())),
        et::I | et::U | et::PTR | et::FNPTR => json!(format!("{:#x}", space.ptr(at).unwrap())),
        et::STRUCT => {
            let said = mt.and_then(|mt| clrscope::commands::objects::decoded::of_value(session, mt, at, 0));
            said.map_or_else(|| json!(format!("{at:#x}")), |s| json!(s))
        }
        _ => object(session, space.ptr(at).unwrap()),
    }
}

/// What a reference says.
fn object(session: &Session, to: u64) -> Value {
    let clr = session.clr().unwrap();
    if to == 0 {
        return Value::Null;
    }
    if clr.object_type(to) == Some(clr.known.string) {
        return json!(clr.string_at(to, usize::MAX).unwrap().1);
    }
    // What is in a box.
    let value = session.value(to).map(|v| (v.mt, v.data));
    let boxed = value.filter(|v| clr.valid_method_table(v.0).is_some_and(|m| m.is_value_type()));
    match boxed {
        Some((mt, data)) => {
            let element = clr.element_type(&clr.method_table(mt).unwrap()).unwrap();
            read(session, Element(element), Some(mt), data)
        }
        None => json!(format!("{to:#x}")),
    }
}

/// The value of a path, step by step; the path has plain fields, `Length` and `[N]`.
fn follow(session: &Session, address: u64, path: &[&str]) -> Value {
    let clr = session.clr().unwrap();
    let Some(value) = session.value(address) else { return Value::Null };
    let (first, rest) = path.split_first().unwrap();
    let step = |to: u64| if to == 0 { Value::Null } else { follow(session, to, rest) };
    if let Some(n) = first.strip_prefix('[') {
        let n: u64 = n.trim_end_matches(']').parse().unwrap();
        let Some(elements) = value.elements() else { return Value::Null };
        let Some(place) = elements.place(n) else { return Value::Null };
        if !rest.is_empty() && elements.are_references() {
            return step(clr.space().ptr(place).unwrap());
        }
        return read(session, elements.element(), Some(elements.handle), place);
    }
    if *first == "Length" {
        let counts = clr.method_table(value.mt).unwrap().has_component_size();
        return if counts { json!(clr.component_count(address).unwrap()) } else { Value::Null };
    }
    let fields = clr.fields(value.mt);
    let names = [(*first).to_owned(), format!("<{first}>k__BackingField"), format!("_{first}")];
    let fits = |n: &str| names.iter().any(|w| w.eq_ignore_ascii_case(n));
    let Some(field) = fields.instance.iter().rev().find(|f| fits(&f.name)) else { return Value::Null };
    let at = value.data + field.offset();
    if !rest.is_empty() {
        return if field.element.is_reference() { step(clr.space().ptr(at).unwrap()) } else { Value::Null };
    }
    read(session, field.element, session.field_type(field), at)
}

/// Addresses of the objects whose type has the text in its name, in order.
fn objects(session: &Session, part: &str) -> Vec<u64> {
    let (walker, clr) = (session.walker().unwrap(), session.clr().unwrap());
    let mut segments = walker.heap.segments.clone();
    segments.sort_by_key(|s| s.start);
    let mut found = Vec::new();
    for s in &segments {
        let report = walker.segment(s, (s.start, s.end), &mut |o| {
            let names = clr.type_names(o.ty.mt.address);
            if !o.ty.is_free && (names.short.contains(part) || names.long.contains(part)) {
                found.push(o.address);
            }
            true
        });
        report.unwrap();
    }
    found.sort_unstable();
    found
}

/// A condition as it is typed, and what it means.
type Condition<'a> = (&'a str, &'a dyn Fn(&[Value]) -> bool);

/// Asks for paths, and compares each value with the one found by looking.
fn agree(asked: &mut Asked, part: &str, paths: &[&str], condition: Option<Condition<'_>>) -> usize {
    let session = asked.session();
    let split = |p: &str| -> Vec<String> {
        p.replace('[', ".[").split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect()
    };
    let parts: Vec<Vec<String>> = paths.iter().map(|p| split(p)).collect();
    let mut wanted = Vec::new();
    for address in objects(&session, part) {
        let value = |p: &Vec<String>| follow(&session, address, &p.iter().map(String::as_str).collect::<Vec<_>>());
        let values: Vec<Value> = parts.iter().map(value).collect();
        if condition.is_none_or(|c| c.1(&values)) {
            let mut row = vec![json!(format!("{address:#x}"))];
            row.extend(values);
            wanted.push(row);
        }
    }
    let condition = condition.map_or_else(String::new, |c| format!(" where {}", c.0));
    let line = format!("!select @address, {} from {part}{condition} | sort address", paths.join(", "));
    let found = asked.rows(&line);
    assert_eq!(found.len(), wanted.len(), "{line}");
    for (f, w) in found.iter().zip(&wanted) {
        assert_eq!(f, w, "{line}");
    }
    found.len()
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or("").to_lowercase()
}

#[test]
fn fields_and_conditions_are_those_that_looking_finds() {
    let mut a = Asked::on(SHOP);
    let orders = agree(&mut a, "Shop.Order", &["Id", "Customer", "Body.Length", "customer.Length"], None);
    assert!(orders > 5000, "{orders}");
    let int = |v: &Value| v.as_i64();
    let few: &dyn Fn(&[Value]) -> bool = &|v| int(&v[0]) >= Some(590) && text(&v[1]).contains("customer 59");
    assert!(
        agree(&mut a, "Shop.Order", &["Id", "Customer"], Some(("Id >= 590 and Customer contains \"R 59\"", few))) > 50
    );
    let null: &dyn Fn(&[Value]) -> bool = &|v| v[0].is_null() || int(&v[1]) == Some(0);
    agree(&mut a, "Cycle", &["Next.Prev.Load.Length", "Load.Length"], Some(("Next is null or Load.Length == 0", null)));
    let lines: &dyn Fn(&[Value]) -> bool = &|v| int(&v[0]) == Some(2) && text(&v[2]) == "b";
    let paths = ["Lines._size", "Lines._items[0]", "Lines._items[1]", "Lines._items[9]"];
    let line = ("Lines._size == 2 and not (Lines._items[1] != B)", lines);
    assert!(agree(&mut a, "Shop.Invoice", &paths, Some(line)) > 500);
    let texts =
        a.rows("!select @value from \"System.String\" where @value startswith \"unique \" and @value endswith 7");
    assert_eq!(texts.len(), 60);
    assert!(texts.iter().all(|t| text(&t[0]).starts_with("unique ") && text(&t[0]).ends_with('7')));
}

#[test]
fn other_runtimes_are_read_alike() {
    for dump in [
        LEAK,
        "win-x64-3.1-wks-full.dmp.zst",
        "win-x86-3.1-small.dmp.zst",
        "linux-x64-9.0-svr-heap.core.zst",
        "linux-x64-10.0-ingc-heap.core.zst",
        "linux-x64-11.0-eleven-heap.core.zst",
        "aot/linux-x64-9.0-nativeaot-dyn-full.core.zst",
    ] {
        let mut a = Asked::on(dump);
        agree(&mut a, "List<", &["_size", "_version", "_items.Length", "_items[0]"], None);
        let some: &dyn Fn(&[Value]) -> bool = &|v| v[0].as_i64() > Some(1);
        agree(&mut a, "List<", &["_size", "_items[1]"], Some(("_size > 1", some)));
        let held: &dyn Fn(&[Value]) -> bool = &|v| !v[0].is_null() && v[1].as_i64() < Some(0);
        agree(&mut a, "Exception", &["_message", "_HResult"], Some(("_message != null and _HResult < 0", held)));
        agree(&mut a, "System.String[]", &["[0]", "[1]", "Length", "[0].Length"], None);
    }
}

#[test]
fn what_an_object_says_of_itself_is_what_other_commands_say() {
    let mut a = Asked::on(LEAK);
    let rows = a.rows("!select @address, @size, @mt, @type, @gen, @retained, @owner from \"System.Byte[]\"");
    let listed = a.rows("!dumpheap -type System.Byte[] | cols address,size,method_table");
    assert_eq!(rows.len(), listed.iter().filter(|r| rows.iter().any(|o| o[0] == r[0])).count());
    assert!(rows.len() > 100);
    for row in rows.iter().step_by(97) {
        let address = row[0].as_str().unwrap();
        let other = listed.iter().find(|r| r[0] == row[0]).unwrap();
        assert_eq!((&row[1], &row[2], &row[3]), (&other[1], &other[2], &json!("System.Byte[]")));
        let facts = a.answer(&format!("!retained {address}"))["facts"].clone();
        assert_eq!(row[5], facts["retained_bytes"], "{address}");
        let at = a.answer(&format!("!gcwhere {address}")).to_string();
        assert!(at.contains(row[4].as_str().unwrap()), "{at}");
    }
    let one = a.rows(&format!("!select * from {}", rows[0][0].as_str().unwrap()));
    assert_eq!(one.len(), 1);
}

#[test]
fn pipes_sort_and_group_the_fields() {
    let mut a = Asked::on(SHOP);
    let top = a.rows("!select Id, Body.Length as bytes from Shop.Order | sort -bytes,Id | top 3");
    assert_eq!(top, [[json!(0), json!(600)], [json!(1), json!(600)], [json!(2), json!(600)]]);
    let (columns, groups) = a.table("!select Body.Length from Shop.Order | group Body.Length count | sort count");
    assert_eq!(columns, ["Body.Length", "count"]);
    assert!(groups.len() > 5);
    let counted = a.rows("!select Id from Shop.Order where Id < 10 | count");
    let all = a.rows("!select Id from Shop.Order where Id < 10").len();
    assert_eq!(counted, [[json!("objects"), json!(all)]]);
    let (columns, _) = a.table("!select Id, ID, @size, @size as Id from Shop.Order | top 1");
    assert_eq!(columns, ["Id", "ID", "size", "Id_2"]);
}

#[test]
fn lines_of_netext_are_understood() {
    let mut a = Asked::on(SHOP);
    let plain =
        a.rows("!select @address, Customer from Shop.Order where Customer like \"customer 1?\" and Id is not null");
    assert!(plain.len() > 50);
    for line in [
        "!wfrom -nospace -type Shop.Order where ($wildcardmatch(Customer, \"customer 1?\")) select $addr(), Customer",
        "!wfrom -type *.Order where (Customer like 'customer 1?') select $addr(), $string(Customer)",
        "!hq $addr(), $a(\"name\", Customer) from \"Shop.Order\" where $contains(Customer, \"customer 1\") and Customer.Length == 11",
    ] {
        assert_eq!(a.rows(line), plain, "{line}");
    }
    let types = a.rows("!wfrom -implement System.MulticastDelegate select $typename() | group type count");
    assert!(types.len() > 2);
    assert_eq!(a.rows("!select -derived @type from System.MulticastDelegate | group type count"), types);
    let lists = a.rows("!wfrom -implement System.Collections.Generic.IList`1 select $typename() | group type count");
    let named = |name: &str| lists.iter().any(|r| r.first() == Some(&Value::String(name.to_owned())));
    assert!(named("System.Collections.Generic.List<System.Object>") && !named("System.String"), "{lists:?}");
}

#[test]
fn mistakes_are_told_before_the_walk() {
    let mut a = Asked::on(SHOP);
    for (line, what) in [
        ("!select Nme from Shop.Order", "there are Id, Customer, Body"),
        ("!select Customer.Len from Shop.Order", "System.String has not a field `Len`: there are Length"),
        ("!select Id from Shop.Order where Idd > 5", "has not a field `Idd`"),
        ("!select Id from Shop.Order where Id > x", "expected a number"),
        ("!select Id from Shop.Order where Customer", "is not true or false"),
        ("!select Id from shop.order", "there is Shop.Order"),
        ("!select Id from Nothing.Like.This", "no type on the heap"),
        ("!select Id", "whose fields?"),
        ("!select Id from Shop.Order | sort Nme", "has a column `Nme`"),
        ("!select Id from Shop.Order where", "nothing follows `where`"),
        ("!select Id from Shop.Order order by Id", "| sort"),
    ] {
        let error = a.error(line);
        assert!(error.contains(what), "{line}: {error}");
    }
    // The place of a mistake is right behind options too.
    let error = a.error("!select -min 1 Nme from Shop.Order");
    let caret = error.lines().find(|l| l.contains('^')).unwrap().find('^').unwrap();
    assert_eq!(caret, 4 + "!select -min 1 ".len(), "{error}");
}

#[test]
fn enums_have_names() {
    let mut a = Asked::on(LEAK);
    let groups = a.rows("!select _access from FileStreamStrategy | group _access count");
    let word = |v: &Value| v.is_null() || ["Read", "Write", "ReadWrite"].contains(&v.as_str().unwrap());
    assert!(groups.iter().all(|g| word(&g[0])) && groups.len() > 1, "{groups:?}");
    let word = groups.iter().find_map(|g| g[0].as_str()).unwrap().to_lowercase();
    let named = a.rows(&format!("!select @address from FileStreamStrategy where _access == {word}"));
    let number = ["read", "write", "readwrite"].iter().position(|w| *w == word).unwrap() + 1;
    assert_eq!(named, a.rows(&format!("!select @address from FileStreamStrategy where _access == {number}")));
    assert!(!named.is_empty());
    let error = a.error("!select @address from FileStreamStrategy where _access == reed");
    assert!(error.contains("expected a number or one of Read, Write, ReadWrite, not `reed`"), "{error}");
    let error = a.error("!select _access from FileStreamStrategy -live");
    assert!(error.contains("options stand before"), "{error}");
    let error = a.error("!select @address from System.Threading.Thread where nothing == 1");
    assert!(error.contains("there are"), "{error}");
}
