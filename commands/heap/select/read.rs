//! Values of paths in objects, read where they lie: no text is made of them until a row is printed.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::plan::{self, Leaf, Own, Part, Path, Plan, Then};
use crate::clr::Clr;
use crate::clr::types::fields::et;
use crate::commands::objects::decoded;
use crate::dump::bytes;
use crate::heap::Object;
use crate::session::Session;
use crate::session::enums::EnumNames;
use crate::shell::Cell;

/// Types of which a reader remembers what paths are in them; of more it looks again.
const MOST_PLANS: usize = 1 << 16;

/// An object, or what is known of it when it is looked at again.
#[derive(Debug, Clone, Copy)]
pub struct At<'o> {
    /// Its address.
    pub address: u64,
    /// Its MethodTable.
    pub mt: u64,
    /// Its bytes.
    pub size: u64,
    /// Its generation.
    pub generation: &'static str,
    /// Those of them that lie in one piece.
    pub bytes: &'o [u8],
    /// Offset from which on they are no longer its own.
    pub intact: u64,
}

impl<'o> At<'o> {
    /// That of a walk.
    pub fn of(o: &Object<'o>, generation: &'static str) -> Self {
        let (bytes, intact) = (o.bytes, o.intact);
        Self { address: o.address, mt: o.ty.mt.address, size: o.size, generation, bytes, intact }
    }
}

/// A value of a path.
#[derive(Debug, Clone)]
pub enum Value<'s> {
    /// None: the path ends before, at a null or in a type without the field; or it is not in the dump.
    Missing,
    /// `true` or `false`.
    Bool(bool),
    /// A number with a sign.
    Int(i64),
    /// A number without one.
    Number(u64),
    /// A number with a fraction.
    Float(f64),
    /// A character.
    Char(u16),
    /// A native number, a pointer, or the address of an object.
    Hex(u64, bool),
    /// A value of an enum.
    Enum(i64, Arc<EnumNames>),
    /// What a string holds, in UTF-16.
    Text(Cow<'s, [u8]>),
    /// A word.
    Word(&'static str),
    /// The name of a type.
    Name(Arc<str>),
    /// A struct: its type and place.
    Struct(u64, u64),
}

/// What the paths of a question are in the types met so far. Each worker has its own.
#[derive(Debug, Clone)]
pub struct Reader<'s> {
    session: &'s Session,
    clr: &'s Clr,
    paths: &'s [Path],
    known: Vec<Known>,
    boxed: FxHashMap<u64, Option<Leaf>>,
}

/// The plans of one path.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Type and part asked for last, and the number of the plan.
    last: (u64, usize, usize),
    by_type: FxHashMap<(u64, usize), usize>,
    plans: Vec<Plan>,
}

impl Known {
    #[inline]
    fn find(&mut self, session: &Session, mt: u64, parts: &[Part], first: usize) -> Option<&Plan> {
        if (self.last.0, self.last.1) != (mt, first) {
            let number = match self.by_type.get(&(mt, first)) {
                Some(&n) => n,
                None => self.add(session, mt, parts, first),
            };
            self.last = (mt, first, number);
        }
        self.plans.get(self.last.2)
    }

    #[cold]
    fn add(&mut self, session: &Session, mt: u64, parts: &[Part], first: usize) -> usize {
        if self.plans.len() >= MOST_PLANS {
            self.by_type.clear();
            self.plans.clear();
        }
        self.plans.push(plan::make(session, mt, parts, first).plan);
        self.by_type.insert((mt, first), self.plans.len() - 1);
        self.plans.len() - 1
    }
}

impl<'s> Reader<'s> {
    /// A reader of these paths.
    pub fn new(session: &'s Session, clr: &'s Clr, paths: &'s [Path]) -> Self {
        Self { session, clr, paths, known: vec![Known::default(); paths.len()], boxed: FxHashMap::default() }
    }

    /// The value of the path of this number in an object.
    #[inline]
    pub fn value(&mut self, path: usize, o: &At<'_>) -> Value<'s> {
        match self.paths.get(path) {
            None => Value::Missing,
            Some(Path::Own(Own::Value)) => self.referred(o.address),
            Some(Path::Own(own)) => self.own(*own, o),
            Some(Path::Fields(parts)) => self.follow(path, parts, o).unwrap_or(Value::Missing),
        }
    }

    fn follow(&mut self, path: usize, parts: &[Part], o: &At<'_>) -> Option<Value<'s>> {
        let (mut o, mut first) = (*o, 0);
        loop {
            let plan = self.known.get_mut(path)?.find(self.session, o.mt, parts, first)?;
            if let Some(n) = plan.bound
                && number(self.clr, &o, self.clr.header(), 4)? <= u64::from(n)
            {
                return None;
            }
            match &plan.then {
                Then::Nothing => return None,
                Then::Value(leaf) if is_reference(leaf.element) => {
                    let to = number(self.clr, &o, plan.at, self.clr.header() as usize)?;
                    return Some(self.referred(to));
                }
                Then::Value(leaf) => return leaf_at(self.clr, leaf, &o, plan.at),
                Then::Follow(next) => {
                    let to = number(self.clr, &o, plan.at, self.clr.header() as usize).filter(|&to| to != 0)?;
                    // Each reference has a part of the path of its own.
                    first = *next;
                    let bytes = self.clr.space().run(to)?;
                    let mt = type_in(self.clr, bytes).or_else(|| self.clr.object_type(to))?;
                    o = At { address: to, mt, size: 0, generation: "", bytes, intact: u64::MAX };
                }
            }
        }
    }

    /// What a reference says: the text of a string, the value in a box, else the address.
    fn referred(&mut self, to: u64) -> Value<'s> {
        if to == 0 {
            return Value::Missing;
        }
        let clr = self.clr;
        let run = clr.space().run(to).unwrap_or(&[]);
        let Some(mt) = type_in(clr, run).or_else(|| clr.object_type(to)) else { return Value::Hex(to, true) };
        if mt == clr.known.string {
            if let Some(text) = text_in(clr, run) {
                return Value::Text(Cow::Borrowed(text));
            }
            return clr.string_bytes(to, usize::MAX).map_or(Value::Missing, |t| Value::Text(t.1));
        }
        let Some(leaf) = self.in_box(mt) else { return Value::Hex(to, true) };
        let o = At { address: to, mt, size: 0, generation: "", bytes: run, intact: u64::MAX };
        leaf_at(clr, leaf, &o, clr.header()).unwrap_or(Value::Missing)
    }

    /// What is in a box of the type `mt`; `None` where it is none.
    fn in_box(&mut self, mt: u64) -> Option<&Leaf> {
        let (session, clr) = (self.session, self.clr);
        if self.boxed.len() >= MOST_PLANS {
            self.boxed.clear();
        }
        let of = || {
            let table = clr.valid_method_table(mt).filter(|t| t.is_value_type())?;
            Some(Leaf { element: clr.element_type(&table)?, mt, names: session.enum_names(&table) })
        };
        self.boxed.entry(mt).or_insert_with(of).as_ref()
    }

    fn own(&self, own: Own, o: &At<'_>) -> Value<'s> {
        let id = || self.session.index().ok()?.ids.id_of(o.address);
        let owner = || {
            let above = self.session.holders().ok()?.above(id()?)?;
            self.session.index().ok()?.ids.address_of(above)
        };
        match own {
            Own::Address | Own::Value => Value::Hex(o.address, true),
            Own::Size => Value::Number(o.size),
            Own::Generation => Value::Word(o.generation),
            Own::Type => Value::Name(self.clr.type_name(o.mt)),
            Own::MethodTable => Value::Hex(o.mt, true),
            Own::Retained => {
                let retained = || {
                    let all = self.session.dominators().ok()?;
                    Some(all.bytes(all.tree.position(id()?)?))
                };
                retained().map_or(Value::Missing, Value::Number)
            }
            Own::Owner => owner().map_or(Value::Missing, |a| Value::Hex(a, true)),
            Own::OwnerType => {
                let mt = owner().and_then(|a| self.clr.object_type(a));
                mt.map_or(Value::Missing, |mt| Value::Name(self.clr.type_name(mt)))
            }
        }
    }

    /// The cell of a value; of texts no more than so many characters.
    pub fn cell<'v>(&self, value: &'v Value<'_>, most: usize) -> Cell<'v> {
        match value {
            Value::Missing => Cell::None,
            Value::Bool(b) => Cell::Bool(*b),
            Value::Int(x) => Cell::Int(*x),
            Value::Number(x) => Cell::Num(*x),
            Value::Float(x) => Cell::Float(*x),
            Value::Char(c) => Cell::Units(vec![*c].into()),
            Value::Hex(x, true) => Cell::Addr(*x),
            Value::Hex(x, false) => Cell::Hex(*x),
            Value::Enum(x, names) => names.spell(*x).map_or(Cell::Int(*x), Cell::text),
            Value::Text(bytes) => Cell::Units(units(bytes).take(most).collect()),
            Value::Word(w) => Cell::text(*w),
            Value::Name(n) => Cell::text(&**n),
            Value::Struct(mt, at) => match decoded::of_value(self.session, *mt, *at, 0) {
                Some(text) => Cell::text(text),
                None => Cell::Addr(*at),
            },
        }
    }
}

/// Characters of a text in UTF-16.
pub fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

fn is_reference(element: u8) -> bool {
    crate::clr::types::fields::Element(element).is_reference()
}

/// The MethodTable of the object whose bytes begin so, mark bits removed.
#[inline]
fn type_in(clr: &Clr, run: &[u8]) -> Option<u64> {
    Some(bytes::word(run, 0, clr.header() == 8)? & !(clr.header() - 1))
}

/// The text of the string whose bytes begin so, where all of them do.
#[inline]
fn text_in<'r>(clr: &Clr, run: &'r [u8]) -> Option<&'r [u8]> {
    let length = bytes::u32(run, clr.header()).filter(|l| *l <= i32::MAX as u32)?;
    bytes::slice(run, clr.header() + 4, 2 * u64::from(length))
}

/// A number of so many bytes at an offset of an object.
#[inline]
fn number(clr: &Clr, o: &At<'_>, offset: u64, length: usize) -> Option<u64> {
    let found = match length {
        1 => o.bytes.get(offset as usize).map(|b| u64::from(*b)),
        2 => bytes::u16(o.bytes, offset).map(u64::from),
        4 => bytes::u32(o.bytes, offset).map(u64::from),
        _ => bytes::u64(o.bytes, offset),
    };
    if found.is_some() {
        return found;
    }
    let address = o.address.checked_add(offset).filter(|_| offset.saturating_add(length as u64) <= o.intact)?;
    Some(match length {
        1 => clr.space().u8(address)?.into(),
        2 => clr.space().u16(address)?.into(),
        4 => clr.space().u32(address)?.into(),
        _ => clr.space().u64(address)?,
    })
}

fn leaf_at<'s>(clr: &Clr, leaf: &Leaf, o: &At<'_>, at: u64) -> Option<Value<'s>> {
    let number = |bytes| number(clr, o, at, bytes);
    let signed = match leaf.element {
        et::BOOLEAN if leaf.names.is_none() => return Some(Value::Bool(number(1)? != 0)),
        et::CHAR if leaf.names.is_none() => return Some(Value::Char(number(2)? as u16)),
        et::U8 if leaf.names.is_none() => return Some(Value::Number(number(8)?)),
        et::R4 => return Some(Value::Float(f32::from_bits(number(4)? as u32).into())),
        et::R8 => return Some(Value::Float(f64::from_bits(number(8)?))),
        et::STRUCT => return Some(Value::Struct(leaf.mt, o.address.checked_add(at)?)),
        et::I1 => i64::from(number(1)? as i8),
        et::BOOLEAN | et::U1 => number(1)? as i64,
        et::I2 => i64::from(number(2)? as i16),
        et::CHAR | et::U2 => number(2)? as i64,
        et::I4 => i64::from(number(4)? as i32),
        et::U4 => number(4)? as i64,
        et::I8 | et::U8 => number(8)? as i64,
        _ => return Some(Value::Hex(number(clr.header() as usize)?, false)),
    };
    Some(match &leaf.names {
        Some(names) => Value::Enum(signed, names.clone()),
        None => Value::Int(signed),
    })
}
