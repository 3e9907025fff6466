//! The field table of dumpobj, dumpvc, dumpclass.

use anyhow::Result;

use super::value;
use crate::clr::Clr;
use crate::clr::fields::{Field, Fields};
use crate::session::Session;
use crate::shell::{Cell, Col, Format, Out};

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
    /// An object or boxed value: instance fields lie from this address on.
    Instance(u64),
    /// A type alone: instance fields have no values.
    Type,
}

/// Prints `Fields:` and the table for the type `mt`.
pub fn print(session: &Session, out: &mut Out, mt: u64, of: &Of) -> Result<()> {
    let clr = session.clr()?;
    let fields = clr.fields(mt);
    if matches!(of, Of::Instance(_)) {
        out.line("Fields:")?;
    }
    if fields.instance.is_empty() && fields.statics.is_empty() {
        out.line("None")?;
        return Ok(());
    }
    out.table("fields", COLUMNS, true)?;
    rows(session, clr, out, mt, &fields, of, "")
}

/// As [`print`], indented as under an array element.
pub fn print_nested(session: &Session, out: &mut Out, mt: u64, of: &Of) -> Result<()> {
    let clr = session.clr()?;
    let fields = clr.fields(mt);
    out.line("    Fields:")?;
    if fields.instance.is_empty() && fields.statics.is_empty() {
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
    rows(session, clr, out, mt, &fields, of, if text { "    " } else { "" })
}

fn rows(session: &Session, clr: &Clr, out: &mut Out, mt: u64, fields: &Fields, of: &Of, indent: &str) -> Result<()> {
    for f in &fields.instance {
        let value = match of {
            Of::Instance(data) => value::text(clr, f.element, data.saturating_add(f.offset())),
            Of::Type => Some(String::new()),
        };
        // SOS counts the offset from the object, not from its first field.
        let shown = f.offset() + if inside_object(clr, mt, of) { clr.header() } else { 0 };
        row(session, out, f, (shown, indent), "instance", value.unwrap_or_else(|| "?".into()))?;
    }
    for f in &fields.statics {
        let (attr, value) = static_value(session, f, mt);
        row(session, out, f, (f.offset(), indent), attr, value)?;
    }
    Ok(())
}

fn inside_object(clr: &Clr, mt: u64, of: &Of) -> bool {
    match of {
        Of::Type => clr.method_table(mt).is_some_and(|m| !m.is_value_type()),
        Of::Instance(_) => clr.method_table(mt).is_some_and(|m| !m.is_value_type()),
    }
}

fn static_value(session: &Session, f: &Field, mt: u64) -> (&'static str, String) {
    if f.desc.is_thread_static {
        return ("TLstatic", String::new());
    }
    let value = match (session.static_address(mt, f), session.clr()) {
        (Some(address), Ok(clr)) => value::text(clr, f.element, address).unwrap_or_else(|| "?".into()),
        _ => "0000000000000000".into(),
    };
    ("static", value)
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
