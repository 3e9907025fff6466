//! The field table of dumpobj, dumpvc, dumpclass.

use std::sync::Arc;

use anyhow::Result;

use super::value::{self, Held};
use super::{decoded, initializer};
use crate::clr::types::fields::{Field, Fields, et};
use crate::clr::{Clr, types::statics};
use crate::session::Session;
use crate::shell::{Cell, Col, Out, Outcome, Returns, Table, Type, digits};

const FIELD: Col = Col::data("field", Type::Count).titled("number of the row");
const MT: Col = Col::right("MT", "method_table", 16).of(Type::Address);
const TOKEN: Col = Col::right("Field", "token", 8).of(Type::Hex);
const OFFSET: Col = Col::right("Offset", "offset", 8).of(Type::Bytes);
const TYPE: Col = Col::right("Type", "type", 20).of(Type::TypeName);
const VALUE_TYPE: Col = Col::right("VT", "value_type", 4).of(Type::Bool);
const ATTRIBUTE: Col = Col::right("Attr", "attribute", 8);
const NAME: Col = Col::left("Name", "name", 0);
const DECODED: Col = Col::data("decoded", Type::Content).titled("what the value says in words");
const INITIALIZED: Col = Col::data("initialized", Type::Bool).titled("of a static: its class was initialized");
const DECLARED_BY: Col = Col::data("declared_by", Type::TypeName).titled("class that declares the field");

/// The table; the type column is cut from the front to 20 characters as SOS does.
const FIELDS: Table = Table::new(
    "fields",
    &[
        FIELD,
        MT,
        TOKEN,
        OFFSET,
        TYPE,
        VALUE_TYPE,
        ATTRIBUTE,
        value::NUMBER,
        NAME,
        value::REFERENCE,
        value::ADDRESS,
        DECLARED_BY,
        DECODED,
        INITIALIZED,
    ],
);

/// As [`FIELDS`] with the wider spacing of tables under an array element.
const NESTED: Table = Table::new(
    "fields",
    &[
        Col::data("index", Type::Count).titled("number of the element"),
        FIELD,
        wide(MT, 24),
        TOKEN,
        OFFSET,
        wide(TYPE, 24),
        wide(VALUE_TYPE, 8),
        wide(ATTRIBUTE, 12),
        wide(value::NUMBER, 20),
        NAME,
        value::REFERENCE,
        value::ADDRESS,
        DECLARED_BY,
        DECODED,
        INITIALIZED,
    ],
)
.under("elements", "index");

const fn wide(mut col: Col, width: u8) -> Col {
    col.width = width;
    col
}

/// What each thread has in thread static fields.
const THREAD_STATICS: Table = Table::new(
    "thread_statics",
    &[
        FIELD,
        Col::data("thread", Type::Hex).titled("operating system id of the thread"),
        Col::data("value", Type::Number).titled("the number the value is"),
        value::REFERENCE,
        value::ADDRESS,
        DECODED,
    ],
)
.under("fields", "field");

/// What [`print`] returns.
pub const RETURNS: Returns = Returns::tables(&[&FIELDS, &THREAD_STATICS, &initializer::INITIALIZERS]);
/// What [`print_nested`] returns.
pub const NESTED_RETURNS: Returns = Returns::tables(&[&NESTED, &THREAD_STATICS, &initializer::INITIALIZERS]);

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
        out.note("Fields:")?;
    }
    if nothing(&classes) {
        out.note("None")?;
        return Ok(());
    }
    out.open(&FIELDS)?;
    Printer { session, clr, out, element: None }.rows(&classes, of)
}

/// As [`print`], indented as under an array element, the one with the number `element`.
pub fn print_nested(session: &Session, out: &mut Out, mt: u64, of: &Of, element: u64) -> Result<()> {
    let clr = session.clr()?;
    let classes = classes(clr, mt);
    out.note("    Fields:")?;
    if nothing(&classes) {
        out.note("    None")?;
        return Ok(());
    }
    out.open_as(
        &NESTED,
        "                      MT    Field   Offset                 Type   VT     Attr            Value Name",
    )?;
    Printer { session, clr, out, element: Some(element) }.rows(&classes, of)
}

/// Whether all fields of the type `mt` could be listed.
pub fn outcome(clr: &Clr, mt: u64) -> Outcome {
    clr.fields(mt).partial.clone().map_or(Outcome::Complete, Outcome::Partial)
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
    // Where the chain is cut the fields of the class itself say so.
    let mut chain: Vec<u64> = clr.class_chain(mt).map(|m| m.address).collect();
    if chain.is_empty() {
        chain.push(mt);
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

/// The value of a static field; that of one without storage yet is zero.
fn static_value(clr: &Clr, f: &Field, mt: u64) -> Held {
    let reference = f.element.is_reference() || f.element.0 == et::STRUCT;
    let place = clr.method_table(mt).and_then(|m| statics::place(clr, &m, &f.desc, reference).storage());
    let Some(address) = place else { return value::zero(f.element) };
    stored(clr, f, address).unwrap_or_else(|| Held::unknown("?"))
}

/// A value in statics storage.
fn stored(clr: &Clr, f: &Field, address: u64) -> Option<Held> {
    match f.element.0 {
        // The storage holds a reference to a boxed copy: an address for dumpobj.
        et::STRUCT => clr.space().ptr(address).map(|boxed| Held::boxed(clr, boxed)),
        _ => value::read(clr, f.element, address),
    }
}

/// Prints the rows.
struct Printer<'a> {
    session: &'a Session,
    clr: &'a Clr,
    out: &'a mut Out,
    /// Number of the array element whose fields they are.
    element: Option<u64>,
}

impl Printer<'_> {
    fn indent(&self) -> &'static str {
        if self.element.is_some() { "    " } else { "" }
    }

    fn rows(&mut self, classes: &[Class], of: &Of) -> Result<()> {
        let (clr, shift) = (self.clr, of.shift(self.clr));
        for class in classes {
            for f in class.fields.instance.get(class.own.clone()).unwrap_or(&[]) {
                let at = match of {
                    Of::Object(data) | Of::Value(data) => Some(data.saturating_add(f.offset())),
                    Of::Type => None,
                };
                let value = at.map_or_else(Held::nothing, |at| {
                    value::read(clr, f.element, at).unwrap_or_else(|| Held::unknown("?"))
                });
                let said = at.and_then(|at| self.decoded(f, at));
                self.row(f, class.mt, (f.offset() + shift, "instance"), value, Behind { said, initialized: None })?;
            }
            let state = initializer::State::of(self.session, class.mt, &class.fields.statics);
            for f in &class.fields.statics {
                if f.desc.is_thread_static {
                    let nothing = Behind { said: None, initialized: None };
                    let number = self.row(f, class.mt, (f.offset(), "TLstatic"), Held::nothing(), nothing)?;
                    self.thread_values(f, class.mt, number)?;
                } else {
                    let value = static_value(clr, f, class.mt);
                    let said = value.address.and_then(|at| self.decoded(f, at));
                    let initialized = state.is_final(f);
                    let behind = Behind { said, initialized };
                    self.row(f, class.mt, (f.offset() + shift, "static"), value, behind)?;
                }
            }
            state.print(self.session, self.out, class.mt)?;
        }
        Ok(())
    }

    /// What each thread has in the thread static field of row `number`.
    fn thread_values(&mut self, f: &Field, mt: u64, number: u64) -> Result<()> {
        let (clr, indent) = (self.clr, self.indent());
        let Some(table) = clr.method_table(mt) else { return Ok(()) };
        let reference = f.element.is_reference() || f.element.0 == et::STRUCT;
        self.out.note(format!("{indent}    Thread static values (Thread:Value)"))?;
        for thread in clr.threads().items.iter().filter(|t| !t.is_dead()) {
            let place = statics::thread_place(clr, thread.address, &table, &f.desc, reference);
            let null = |at: u64| reference && clr.space().ptr(at) == Some(0);
            if let Some(value) = place.filter(|&at| !null(at)).and_then(|at| stored(clr, f, at)) {
                let said = value.address.and_then(|at| self.decoded(f, at));
                let words = said.as_ref().map_or_else(String::new, |s| format!(" = {s}"));
                let line = format!("{indent}        {:x}:    {}{words}", thread.os_id, value.text);
                let [value, reference, address] = value.cells();
                let cells = [Cell::Num(number), Cell::Hex(thread.os_id), value, reference, address, Cell::maybe(said)];
                self.out.row_as(&THREAD_STATICS, &cells, line)?;
            }
        }
        self.out.note("")?;
        Ok(())
    }

    /// What the value of a field at `at` says in words.
    fn decoded(&self, f: &Field, at: u64) -> Option<String> {
        // Most fields say nothing: only those of a type that may are looked up.
        let ty = match f.element.0 {
            et::R4 | et::R8 => None,
            _ if f.element.is_reference() => None,
            _ => self.session.field_type(f),
        };
        decoded::of_field(self.session, f.element, ty, at)
    }

    /// Prints the row of a field of the class `class`, with its offset and attribute, and gives its number.
    fn row(
        &mut self,
        f: &Field,
        class: u64,
        (offset, attribute): (u64, &'static str),
        value: Held,
        behind: Behind,
    ) -> Result<u64> {
        let number = self.out.count(if self.element.is_some() { &NESTED } else { &FIELDS }) + 1;
        // Of a field that nothing describes what it refers to tells the type.
        let held = match value.reference {
            Cell::Addr(at) if f.type_name.is_none() && self.clr.ahead().is_some() && at != 0 => {
                self.clr.object_type(at)
            }
            _ => None,
        };
        let held = held.filter(|&mt| f.element.is_reference() && self.clr.valid_type(mt).is_some());
        let declared = f.type_name.as_ref().map(|t| t.reflection());
        let of_object = || held.map(|mt| self.clr.type_name_long(mt).to_string());
        let name = declared.or_else(of_object).unwrap_or_else(|| f.element.name().to_owned());
        let token = 0x0400_0000 | u64::from(f.desc.rid);
        let declared_by = self.out.wants_data().then(|| self.clr.type_name_long(class));
        let [value, reference, address] = value.cells();
        let cells = [
            self.element.map_or(Cell::None, Cell::Num),
            Cell::Num(number),
            known(held.or_else(|| self.session.field_type(f)).unwrap_or(0)),
            Cell::shown(format!("{token:08x}"), Cell::Hex(token)),
            Cell::As(format!("{offset:x}").into(), offset),
            cut(name, 20),
            Cell::Either(value::is_value_type(f.element), "Yes", "No"),
            Cell::text(attribute),
            value,
            Cell::shown(format!("{}{}{}", self.indent(), f.name, behind.words()), Cell::text(&*f.name)),
            reference,
            address,
            Cell::maybe(declared_by.as_deref()),
            Cell::maybe(behind.said),
            behind.initialized.map_or(Cell::None, Cell::Bool),
        ];
        // Only fields of array elements have the number of an element in front.
        self.out.row(if self.element.is_some() { &cells } else { &cells[1..] })?;
        Ok(number)
    }
}

/// What stands behind the name of a field.
struct Behind {
    /// What its value says in words.
    said: Option<String>,
    /// Of a static: whether the value is one that somebody stored.
    initialized: Option<bool>,
}

impl Behind {
    fn words(&self) -> String {
        let mark = if self.initialized == Some(false) { " (not initialized)" } else { "" };
        match self.said.as_ref().filter(|_| mark.is_empty()) {
            Some(said) => format!(" = {said}"),
            None => mark.into(),
        }
    }
}

/// An address that is 0 where it is not known.
pub fn known(address: u64) -> Cell<'static> {
    match address {
        0 => Cell::shown(format!("{:0w$x}", 0, w = digits()), Cell::None),
        _ => Cell::AddrPad(address, 16),
    }
}

/// A type's name, in text cut from the front.
fn cut(name: String, width: usize) -> Cell<'static> {
    match cut_front(&name, width) {
        short if short == name => Cell::text(name),
        short => Cell::shown(short, Cell::text(name)),
    }
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
