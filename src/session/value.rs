//! Reading objects by the names of their fields, as commands that know a class of the library do.
//!
//! Names change between releases: every question takes several, the first that exists counts.

use crate::clr::Clr;
use crate::clr::types::fields::{Element, Field, et};

use super::Session;

/// An object, or a struct inside one, whose fields are read by name.
#[derive(Debug, Clone, Copy)]
pub struct Value<'s> {
    session: &'s Session,
    clr: &'s Clr,
    /// MethodTable of its type.
    pub mt: u64,
    /// Address of its first field: of an object, behind the MethodTable pointer.
    pub data: u64,
}

/// The elements of an array.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'s> {
    session: &'s Session,
    clr: &'s Clr,
    /// Type handle of the elements.
    pub handle: u64,
    /// Number of elements.
    pub count: u64,
    data: u64,
    size: u64,
}

impl Session {
    /// The object at `address`, when one starts there.
    pub fn value(&self, address: u64) -> Option<Value<'_>> {
        let clr = self.clr().ok()?;
        let o = self.walker().ok()?.object_at(address)?;
        Some(Value { session: self, clr, mt: o.ty.mt.address, data: address.checked_add(clr.header())? })
    }

    /// The struct of type `mt` at `data`.
    pub fn value_at(&self, mt: u64, data: u64) -> Option<Value<'_>> {
        Some(Value { session: self, clr: self.clr().ok()?, mt, data })
    }

    /// The objects static reference fields called one of `names` of the type `class` hold.
    pub fn static_value(&self, class: &str, names: &[&str]) -> Option<Value<'_>> {
        let clr = self.clr().ok()?;
        let mt = *self.find_types(class).ok()?.first()?;
        let fields = clr.fields(mt);
        let field = names.iter().find_map(|n| fields.statics.iter().find(|f| &*f.name == *n))?;
        self.value(clr.space().ptr(self.static_address(mt, field)?)?)
    }
}

impl<'s> Value<'s> {
    /// Address of the object whose first field this begins at.
    pub fn address(&self) -> u64 {
        self.data.saturating_sub(self.clr.header())
    }

    /// Name of its type as heap listings spell it.
    pub fn type_name(&self) -> std::sync::Arc<str> {
        self.clr.type_name(self.mt)
    }

    fn with<T>(&self, names: &[&str], read: impl FnOnce(&Field, u64) -> Option<T>) -> Option<T> {
        let fields = self.clr.fields(self.mt);
        let field = names.iter().find_map(|n| fields.instance.iter().rev().find(|f| &*f.name == *n))?;
        read(field, self.data.checked_add(field.offset())?)
    }

    /// Whether it has a field of one of these names.
    pub fn has(&self, names: &[&str]) -> bool {
        self.with(names, |_, _| Some(())).is_some()
    }

    /// Element type and address of a field.
    pub fn field(&self, names: &[&str]) -> Option<(Element, u64)> {
        self.with(names, |f, at| Some((f.element, at)))
    }

    /// A pointer-sized field.
    pub fn pointer(&self, names: &[&str]) -> Option<u64> {
        self.with(names, |_, at| self.clr.space().ptr(at))
    }

    /// The object a reference field holds; `None` for null too.
    pub fn object(&self, names: &[&str]) -> Option<Value<'s>> {
        self.session.value(self.pointer(names).filter(|&p| p != 0)?)
    }

    /// The struct in a field.
    pub fn inner(&self, names: &[&str]) -> Option<Value<'s>> {
        let (mt, data) = self.with(names, |f, at| Some((self.session.field_type(f)?, at)))?;
        self.session.value_at(mt, data)
    }

    /// Type and address of whatever a field holds: `None` as type of what is not loaded.
    pub fn typed(&self, names: &[&str]) -> Option<(Element, Option<u64>, u64)> {
        self.with(names, |f, at| Some((f.element, self.session.field_type(f), at)))
    }

    /// An integer, boolean or character field.
    pub fn int(&self, names: &[&str]) -> Option<i64> {
        let space = self.clr.space();
        self.with(names, |f, at| {
            Some(match f.element.0 {
                et::BOOLEAN | et::U1 => i64::from(space.u8(at)?),
                et::I1 => i64::from(space.u8(at)? as i8),
                et::CHAR | et::U2 => i64::from(space.u16(at)?),
                et::I2 => i64::from(space.u16(at)? as i16),
                et::I4 => i64::from(space.u32(at)? as i32),
                et::U4 => i64::from(space.u32(at)?),
                et::I8 | et::U8 => space.u64(at)? as i64,
                _ => space.ptr(at)? as i64,
            })
        })
    }

    /// The elements, when it is an array.
    pub fn elements(&self) -> Option<Elements<'s>> {
        let mt = self.clr.method_table(self.mt).filter(|m| m.is_array())?;
        let (dimensions, data) =
            self.clr.array_shape(self.address(), mt.is_sz_array(), mt.rank(self.clr.ptr_size()))?;
        let count = dimensions.iter().try_fold(1u64, |n, d| n.checked_mul(u64::from(d.0)))?;
        let size = u64::from(mt.component_size()).max(1);
        // More than there is memory for is a lie.
        let count = if data.checked_add(count.checked_mul(size)?).is_some() { count } else { 0 };
        Some(Elements { session: self.session, clr: self.clr, handle: mt.per_inst, count, data, size })
    }

    /// Names of its class and of those it inherits from, the nearest first.
    pub fn classes(&self) -> Vec<std::sync::Arc<str>> {
        self.clr.class_chain(self.mt).map(|m| self.clr.type_name(m.address)).collect()
    }

    /// Whether its class is `name` or inherits from it.
    pub fn is_a(&self, name: &str) -> bool {
        self.classes().iter().any(|c| &**c == name)
    }
}

impl<'s> Elements<'s> {
    /// Address of element `i`.
    pub fn place(&self, i: u64) -> Option<u64> {
        self.data.checked_add(i.checked_mul(self.size)?).filter(|_| i < self.count)
    }

    /// The object element `i` refers to; `None` for null too.
    pub fn object(&self, i: u64) -> Option<Value<'s>> {
        self.session.value(self.clr.space().ptr(self.place(i)?).filter(|&p| p != 0)?)
    }

    /// Element `i`, a struct.
    pub fn inner(&self, i: u64) -> Option<Value<'s>> {
        self.session.value_at(self.handle, self.place(i)?)
    }

    /// Element type of the elements.
    pub fn element(&self) -> Element {
        // The type handle of a pointer or function pointer is no MethodTable.
        let Some(mt) = self.clr.method_table(self.handle).filter(|_| self.handle & 2 == 0) else {
            return Element(et::PTR);
        };
        if !mt.is_value_type() {
            return Element(et::CLASS);
        }
        Element(self.clr.element_type(&mt).unwrap_or(et::STRUCT))
    }

    /// Whether the elements are references.
    pub fn are_references(&self) -> bool {
        self.clr.method_table(self.handle).is_none_or(|m| !m.is_value_type())
    }
}
