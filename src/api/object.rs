//! Objects and the values in their fields.

use crate::clr::types::fields::et;
use crate::session::{Session, value};

/// An object, or a struct inside one.
#[derive(Debug, Clone, Copy)]
pub struct Object<'d> {
    session: &'d Session,
    value: value::Value<'d>,
    boxed: bool,
}

/// A field with its value.
#[derive(Debug)]
pub struct Field<'d> {
    /// Name as compiled: that of a property is `<Name>k__BackingField`.
    pub name: String,
    /// What it holds.
    pub value: Value<'d>,
}

/// What a field or an element holds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Value<'d> {
    /// A reference to nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed number, of an enum too.
    Int(i64),
    /// An unsigned number, a character or a pointer.
    Uint(u64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
    /// An object.
    Object(Object<'d>),
    /// A struct in place.
    Struct(Object<'d>),
    /// Its memory is not in the dump, or its type is not known.
    Unknown,
}

impl<'d> Object<'d> {
    pub(super) fn at(session: &'d Session, address: u64) -> Option<Self> {
        Some(Self { session, value: session.value(address)?, boxed: true })
    }

    /// Its address; of a struct inside an object that of its first field.
    pub fn address(&self) -> u64 {
        if self.boxed { self.value.address() } else { self.value.data }
    }

    /// Name of its type.
    pub fn type_name(&self) -> String {
        self.value.type_name().to_string()
    }

    /// Bytes it takes on the heap; 0 for a struct inside an object.
    pub fn size(&self) -> u64 {
        let found = || self.session.walker().ok()?.object_at(self.value.address()).map(|o| o.size);
        if self.boxed { found().unwrap_or(0) } else { 0 }
    }

    /// The text of a string, all of it.
    pub fn text(&self) -> Option<String> {
        let clr = self.session.clr().ok()?;
        let is = self.boxed && &*self.value.type_name() == "System.String";
        is.then(|| clr.string_at(self.value.address(), usize::MAX)).flatten().map(|(_, text)| text)
    }

    /// The field called `name`; of those with one name that of the most derived class.
    ///
    /// ```
    /// # fn main() -> Result<(), clrscope::api::Error> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
    /// use clrscope::api::{Dump, Value};
    /// let dump = Dump::open(path)?;
    /// let session = dump.object(0x7fd0d91190c8).expect("an object starts there");
    /// let names: Vec<_> = session.fields().into_iter().map(|f| f.name).collect();
    /// assert!(!names.is_empty() && names.iter().all(|n| !matches!(session.field(n), Value::Unknown)), "{names:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn field(&self, name: &str) -> Value<'d> {
        match self.value.typed(&[name]) {
            Some((element, ty, at)) => self.read(element.0, ty, at),
            None => Value::Unknown,
        }
    }

    /// All fields, inherited ones first; of an array none.
    pub fn fields(&self) -> Vec<Field<'d>> {
        let Ok(clr) = self.session.clr() else { return Vec::new() };
        let one = |f: &crate::clr::types::fields::Field| {
            let at = self.value.data.checked_add(f.offset());
            let value = at.map(|at| self.read(f.element.0, self.session.field_type(f), at));
            Field { name: f.name.to_string(), value: value.unwrap_or(Value::Unknown) }
        };
        clr.fields(self.value.mt).instance.iter().map(one).collect()
    }

    /// Elements of an array, 0 for anything else.
    pub fn length(&self) -> u64 {
        if self.boxed { self.value.elements().map_or(0, |e| e.count) } else { 0 }
    }

    /// Element `i` of an array.
    pub fn element(&self, i: u64) -> Value<'d> {
        let elements = self.value.elements().filter(|_| self.boxed);
        let place = elements.as_ref().and_then(|e| Some((e, e.place(i)?)));
        place.map_or(Value::Unknown, |(e, at)| self.read(e.element().0, Some(e.handle), at))
    }

    fn read(&self, element: u8, ty: Option<u64>, at: u64) -> Value<'d> {
        let Ok(clr) = self.session.clr() else { return Value::Unknown };
        let space = clr.space();
        let read = match element {
            et::BOOLEAN => space.u8(at).map(|v| Value::Bool(v != 0)),
            et::I1 => space.u8(at).map(|v| Value::Int(i64::from(v as i8))),
            et::U1 => space.u8(at).map(|v| Value::Uint(u64::from(v))),
            et::I2 => space.u16(at).map(|v| Value::Int(i64::from(v as i16))),
            et::CHAR | et::U2 => space.u16(at).map(|v| Value::Uint(u64::from(v))),
            et::I4 => space.u32(at).map(|v| Value::Int(i64::from(v as i32))),
            et::U4 => space.u32(at).map(|v| Value::Uint(u64::from(v))),
            et::I8 => space.u64(at).map(|v| Value::Int(v as i64)),
            et::U8 => space.u64(at).map(Value::Uint),
            et::R4 => space.u32(at).map(|v| Value::Float(f64::from(f32::from_bits(v)))),
            et::R8 => space.u64(at).map(|v| Value::Float(f64::from_bits(v))),
            et::STRUCT => ty
                .and_then(|ty| self.session.value_at(ty, at))
                .map(|value| Value::Struct(Self { session: self.session, value, boxed: false })),
            et::CLASS | et::STRING | et::OBJECT | et::SZARRAY | et::ARRAY => space.ptr(at).map(|p| self.reference(p)),
            _ => space.ptr(at).map(Value::Uint),
        };
        read.unwrap_or(Value::Unknown)
    }

    fn reference(&self, address: u64) -> Value<'d> {
        if address == 0 {
            return Value::Null;
        }
        let Some(object) = Self::at(self.session, address) else { return Value::Unknown };
        object.text().map_or(Value::Object(object), Value::Text)
    }
}
