//! The field table of dumpobj, dumpvc, dumpclass.

use std::sync::Arc;

use anyhow::Result;

use super::value;
use crate::clr::types::fields::{Field, Fields, et};
use crate::clr::{Clr, types::statics};
use crate::session::Session;
use crate::shell::{Cell, Col, Format, Out, digits};

/// Columns of the table; the type column is cut from the front to 20 characters as SOS does.
const COLUMNS: &[Col] = &[
    Col::right("MT", "mt", 16),
    Col::right("Field", "field", 8),
    Col::right("Offset", "offset", 8),
    Col::right("Type", "type", 20),
    Col::right("VT", "vt", 4),
    Col::right("Attr", "attr", 8),
    Col::right("Value", "value", 16),
    Col::left("Name", "name", 0),
];

/// As [`COLUMNS`] with the wider spacing of tables under an array element.
const NESTED: &[Col] = &[
    Col::right("MT", "mt", 24),
    Col::right("Field", "field", 8),
    Col::right("Offset", "offset", 8),
    Col::right("Type", "type", 24),
    Col::right("VT", "vt", 8),
    Col::right("Attr", "attr", 12),
    Col::right("Value", "value", 20),
    Col::left("Name", "name", 0),
];

/// Whose fields are shown.
pub enum Of {
    /// An object, boxed values included: instance fields lie from this address on, behind the MethodTable pointer.
    Object(u64),
    /// A value inside something else: instance fields lie from this address on.
    Value(u64),
    /// A type alone: instance fields have no values.
    Type,
}

impl Of {
    /// What offsets are counted from: SOS counts those of objects, and of types alone, from the MethodTable pointer.
    fn shift(&self, clr: &Clr) -> u64 {
        match self {
            Self::Object(_) | Self::Type => clr.header(),
            Self::Value(_) => 0,
        }
    }
}

/// Prints `Fields:` and the table for the type `mt`.
pub fn print(session: &Session, out: &mut Out, mt: u64, of: &Of) -> Result<()> {
    let clr = session.clr()?;
    let classes = classes(clr, mt);
    if !matches!(of, Of::Type) {
        out.line("Fields:")?;
    }
    if nothing(&classes) {
        out.line("None")?;
        return Ok(());
    }
    out.table("fields", COLUMNS, true)?;
    rows(session, clr, out, &classes, of, "")
}

/// As [`print`], indented as under an array element.
pub fn print_nested(session: &Session, out: &mut Out, mt: u64, of: &Of) -> Result<()> {
    let clr = session.clr()?;
    let classes = classes(clr, mt);
    out.line("    Fields:")?;
    if nothing(&classes) {
        out.line("    None")?;
        return Ok(());
    }
    let text = out.format() == Format::Text;
    if text {
        out.line(
            "                      MT    Field   Offset                 Type   VT     Attr            Value Name",
        )?;
    }
    out.table("fields", NESTED, false)?;
    rows(session, clr, out, &classes, of, if text { "    " } else { "" })
}

/// The fields of one class of a hierarchy.
struct Class {
    fields: Arc<Fields>,
    /// Which of the instance fields, inherited ones among them, are the class's own.
    own: std::ops::Range<usize>,
    mt: u64,
}

/// Whether there is nothing to list: SOS lists no static fields of base classes alone.
fn nothing(classes: &[Class]) -> bool {
    classes.last().is_none_or(|c| c.fields.instance.is_empty() && c.fields.statics.is_empty())
}

/// The classes of `mt`, the farthest base first: tables list class by class, static fields behind instance fields.
fn classes(clr: &Clr, mt: u64) -> Vec<Class> {
    /// Deepest hierarchy shown.
    const MAX_PARENTS: usize = 64;
    let mut chain = Vec::new();
    let mut at = mt;
    while at != 0 && chain.len() < MAX_PARENTS {
        chain.push(at);
        at = clr.method_table(at).map_or(0, |m| m.parent);
    }
    chain
        .into_iter()
        .rev()
        .map(|mt| {
            let fields = clr.fields(mt);
            let inherited = fields.instance.iter().take_while(|f| f.declaring != mt).count();
            let own = inherited..fields.instance.len();
            Class { fields, own, mt }
        })
        .collect()
}

fn rows(session: &Session, clr: &Clr, out: &mut Out, classes: &[Class], of: &Of, indent: &str) -> Result<()> {
    let shift = of.shift(clr);
    for class in classes {
        for f in class.fields.instance.get(class.own.clone()).unwrap_or(&[]) {
            let value = match of {
                Of::Object(data) | Of::Value(data) => value::text(clr, f.element, data.saturating_add(f.offset())),
                Of::Type => Some(String::new()),
            };
            row(session, out, f, (f.offset() + shift, indent), "instance", value.unwrap_or_else(|| "?".into()))?;
        }
        for f in &class.fields.statics {
            if f.desc.is_thread_static {
                row(session, out, f, (f.offset(), indent), "TLstatic", String::new())?;
                thread_values(clr, out, f, class.mt, indent)?;
            } else {
                let value = static_value(clr, f, class.mt);
                row(session, out, f, (f.offset() + shift, indent), "static", value)?;
            }
        }
    }
    Ok(())
}

/// The value of a static field; that of one without storage yet is zero.
fn static_value(clr: &Clr, f: &Field, mt: u64) -> String {
    let reference = f.element.is_reference() || f.element.0 == et::STRUCT;
    let place = clr.method_table(mt).and_then(|m| statics::place(clr, &m, &f.desc, reference).storage());
    let Some(address) = place else { return value::zero(f.element) };
    stored(clr, f, address).unwrap_or_else(|| "?".into())
}

/// A value in statics storage.
fn stored(clr: &Clr, f: &Field, address: u64) -> Option<String> {
    match f.element.0 {
        // The storage holds a reference to a boxed copy: an address for dumpobj.
        et::STRUCT => clr.space().ptr(address).map(|boxed| format!("{boxed:0w$x}", w = digits())),
        _ => value::text(clr, f.element, address),
    }
}

/// What each thread has in a thread static field.
fn thread_values(clr: &Clr, out: &mut Out, f: &Field, mt: u64, indent: &str) -> Result<()> {
    let Some(table) = clr.method_table(mt) else { return Ok(()) };
    let reference = f.element.is_reference() || f.element.0 == et::STRUCT;
    out.line(format!("{indent}    Thread static values (Thread:Value)"))?;
    for thread in clr.threads().items.iter().filter(|t| !t.is_dead()) {
        let place = statics::thread_place(clr, thread.address, &table, &f.desc, reference);
        let null = |at: u64| reference && clr.space().ptr(at) == Some(0);
        if let Some(value) = place.filter(|&at| !null(at)).and_then(|at| stored(clr, f, at)) {
            out.line(format!("{indent}        {:x}:    {value}", thread.os_id))?;
        }
    }
    out.line("")?;
    Ok(())
}

fn row(
    session: &Session,
    out: &mut Out,
    f: &Field,
    (offset, indent): (u64, &str),
    attr: &str,
    value: String,
) -> Result<()> {
    let mt = session.field_type(f).unwrap_or(0);
    let name = f.type_name.as_ref().map(|t| t.reflection()).unwrap_or_else(|| f.element.name().to_owned());
    out.row(&[
        Cell::AddrPad(mt, 16),
        Cell::text(format!("{:08x}", 0x0400_0000 | f.desc.rid)),
        Cell::Hex(offset),
        Cell::text(cut_front(&name, 20)),
        Cell::text(if value::is_value_type(f.element) { "Yes" } else { "No" }),
        Cell::text(attr),
        Cell::text(value),
        Cell::text(format!("{indent}{}", f.name)),
    ])?;
    Ok(())
}

/// Cuts a long type name from the front, as the column does.
pub fn cut_front(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length - (width - 3)).collect();
    format!("...{tail}")
}
