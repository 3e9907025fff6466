//! `.heapsnapshot`: the heap as V8 writes it (v8/v8 `src/profiler/heap-snapshot-generator.cc`, `HeapSnapshotJSONSerializer`),
//! for the developer tools of browsers, editors and memlab.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::picture::{Edge, FIRST_KIND, Picture};
use crate::heap::Object;
use crate::shell::numbers::push_decimal;
use crate::shell::quote::{push_json, push_json_units};

/// Fields and types as V8 declares them: numbers of types are places in these lists.
const META: &str = r#"{"node_fields":["type","name","id","self_size","edge_count","trace_node_id","detachedness"],"node_types":[["hidden","array","string","object","code","closure","regexp","number","native","synthetic","concatenated string","sliced string","symbol","bigint","object shape"],"string","number","number","number","number","number"],"edge_fields":["type","name_or_index","to_node"],"edge_types":[["context","element","property","internal","hidden","shortcut","weak"],"string_or_number","node"],"trace_function_info_fields":["function_id","name","script_name","script_id","line","column"],"trace_node_fields":["id","function_info_index","count","size","children"],"sample_fields":["timestamp_us","last_assigned_id"],"location_fields":["object_index","script_id","line","column"]}"#;

/// Fields of a node.
const FIELDS: u64 = 7;
/// Types of nodes.
const STRING: u64 = 2;
const OBJECT: u64 = 3;
const NATIVE: u64 = 8;
const SYNTHETIC: u64 = 9;
/// Types of references.
const ELEMENT: u64 = 1;
const PROPERTY: u64 = 2;
const INTERNAL: u64 = 3;

/// Characters of a string shown.
const SHOWN: usize = 200;

/// Texts by number: those known before the strings of the program, whose texts are written again when all is done, and
/// those met behind them.
struct Names {
    first: Vec<String>,
    strings: u64,
    later: Vec<Arc<str>>,
    numbers: FxHashMap<Arc<str>, u64>,
}

impl Names {
    /// The number of a name that is met while references are written.
    fn of(&mut self, name: &Arc<str>) -> u64 {
        if let Some(&n) = self.numbers.get(name) {
            return n;
        }
        let n = self.first.len() as u64 + self.strings + self.later.len() as u64;
        self.later.push(name.clone());
        self.numbers.insert(name.clone(), n);
        n
    }
}

/// Names that need no object.
const FIXED: [&str; 5] = ["", "(GC roots)", "(left out)", "(dependent)", "(dominates)"];
const GC_ROOTS: u64 = 1;
const LEFT_OUT: u64 = 2;
const DEPENDENT: u64 = 3;
const DOMINATES: u64 = 4;

/// Rows of numbers with commas between them.
struct Rows<'o, W: Write> {
    out: &'o mut W,
    line: Vec<u8>,
    first: bool,
}

impl<'o, W: Write> Rows<'o, W> {
    fn new(out: &'o mut W) -> Self {
        Self { out, line: Vec::new(), first: true }
    }

    fn row(&mut self, numbers: &[u64]) -> io::Result<()> {
        self.line.clear();
        for (i, n) in numbers.iter().enumerate() {
            if i > 0 || !self.first {
                self.line.push(b',');
            }
            push_decimal(&mut self.line, *n);
        }
        self.first = false;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

/// Writes the file; how many references it holds.
pub fn write(picture: &Picture<'_>, out: &mut impl Write) -> Result<u64> {
    let types: Vec<String> =
        picture.session.types().all().iter().map(|t| picture.clr.type_name(t.mt.address).to_string()).collect();
    let mut first: Vec<String> = FIXED.iter().map(|n| (*n).to_owned()).collect();
    first.extend(picture.kinds.iter().map(|k| k.0.clone()));
    let of_types = first.len() as u64;
    first.extend(types);
    let mut names = Names { first, strings: 0, later: Vec::new(), numbers: FxHashMap::default() };
    let (nodes, edges) = (picture.nodes(), count(picture)?);
    write!(
        out,
        r#"{{"snapshot":{{"meta":{META},"node_count":{nodes},"edge_count":{edges},"trace_function_count":0}},"#
    )?;
    write!(out, "\n\"nodes\":[")?;
    write_nodes(picture, &mut names, of_types, out)?;
    write!(out, "],\n\"edges\":[")?;
    write_edges(picture, &mut names, out)?;
    write!(out, "],\n\"trace_function_infos\":[],\"trace_tree\":[],\"samples\":[],\"locations\":[],\n\"strings\":[")?;
    write_strings(picture, &names, out)?;
    writeln!(out, "]}}")?;
    Ok(edges - of_roots(picture))
}

/// References to kinds of roots, and of these to what they hold.
fn of_roots(picture: &Picture<'_>) -> u64 {
    1 + (0..picture.kinds.len()).map(|k| 1 + picture.held(k).len() as u64).sum::<u64>()
}

fn count(picture: &Picture<'_>) -> Result<u64> {
    let mut edges = of_roots(picture);
    picture.each(|id, _| {
        edges += u64::from(picture.degree(id));
        Ok(())
    })?;
    Ok(edges)
}

fn write_nodes(picture: &Picture<'_>, names: &mut Names, of_types: u64, out: &mut impl Write) -> Result<()> {
    let mut rows = Rows::new(out);
    // Objects of the heap have odd numbers.
    let mut number = 0u64;
    let mut id = || {
        number += 1;
        2 * number - 1
    };
    let kinds = picture.kinds.len() as u64;
    rows.row(&[SYNTHETIC, 0, id(), 0, 1, 0, 0])?;
    rows.row(&[SYNTHETIC, GC_ROOTS, id(), 0, kinds, 0, 0])?;
    for i in 0..picture.kinds.len() {
        let held = picture.held(i).len() as u64;
        rows.row(&[SYNTHETIC, FIXED.len() as u64 + i as u64, id(), 0, held, 0, 0])?;
    }
    let texts = names.first.len() as u64;
    let mut strings = 0;
    picture.each(|at, o| {
        let (ty, name) = match o.ty.is_string {
            true => (STRING, texts + strings),
            false => (OBJECT, of_types + u64::from(o.ty.id)),
        };
        strings += u64::from(o.ty.is_string);
        Ok(rows.row(&[ty, name, id(), o.size, picture.degree(at).into(), 0, 0])?)
    })?;
    names.strings = strings;
    for rest in picture.rests() {
        rows.row(&[NATIVE, LEFT_OUT, id(), rest.bytes, 0, 0, 0])?;
    }
    Ok(())
}

fn write_edges(picture: &Picture<'_>, names: &mut Names, out: &mut impl Write) -> Result<()> {
    let mut rows = Rows::new(out);
    rows.row(&[ELEMENT, 1, FIELDS])?;
    for i in 0..picture.kinds.len() as u64 {
        rows.row(&[ELEMENT, i, (u64::from(FIRST_KIND) + i) * FIELDS])?;
    }
    for kind in 0..picture.kinds.len() {
        for (i, to) in picture.held(kind).into_iter().enumerate() {
            rows.row(&[ELEMENT, i as u64, u64::from(to) * FIELDS])?;
        }
    }
    picture.each(|id, o| {
        let statics = picture.statics(o);
        picture.edges(id, o, |edge, to| {
            let (ty, name) = named(picture, names, o, &statics, edge);
            Ok(rows.row(&[ty, name, u64::from(to) * FIELDS])?)
        })
    })
}

/// Type and name of a reference.
fn named(
    picture: &Picture<'_>,
    names: &mut Names,
    o: &Object<'_>,
    statics: &[(u64, Arc<str>)],
    edge: Edge,
) -> (u64, u64) {
    let offset = match edge {
        Edge::Slot(offset) => offset,
        Edge::Link => return (INTERNAL, DEPENDENT),
        Edge::Dominates => return (INTERNAL, DOMINATES),
        Edge::Rest => return (INTERNAL, LEFT_OUT),
    };
    let slot = o.address.saturating_add(offset);
    if let Some((_, name)) = statics.binary_search_by_key(&slot, |s| s.0).ok().and_then(|i| statics.get(i)) {
        return (PROPERTY, names.of(name));
    }
    let name = picture.session.slot_name(picture.clr, o.ty, offset);
    match picture.element(o.ty, offset).filter(|_| &*name == "[]") {
        Some(element) => (ELEMENT, element),
        None => (PROPERTY, names.of(&name)),
    }
}

fn write_strings(picture: &Picture<'_>, names: &Names, out: &mut impl Write) -> Result<()> {
    let mut text = Vec::new();
    let mut first = true;
    let mut put = |out: &mut dyn Write, text: &mut Vec<u8>| -> io::Result<()> {
        if !std::mem::replace(&mut first, false) {
            out.write_all(b",\n")?;
        }
        out.write_all(text)?;
        text.clear();
        Ok(())
    };
    for name in &names.first {
        push_json(&mut text, name);
        put(out, &mut text)?;
    }
    picture.each(|_, o| {
        if o.ty.is_string {
            let units = picture.clr.string_units(o.address, SHOWN).map(|s| s.1).unwrap_or_default();
            push_json_units(&mut text, &units);
            put(out, &mut text)?;
        }
        Ok(())
    })?;
    for name in &names.later {
        push_json(&mut text, name);
        put(out, &mut text)?;
    }
    Ok(())
}
