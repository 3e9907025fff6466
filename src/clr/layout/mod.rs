//! A layout is data: named types with field offsets, named globals, each with the provider it came from.
//!
//! Built-in tables (`tables/*.json`) have the compact JSON form of the runtime's own contract descriptor
//! (dotnet/runtime `docs/design/datacontracts/contract-descriptor.md`), so one parser serves both. Four additions:
//! `baseline` names another table whose entries are inherited (`null` removes one), `dacSlots` gives positions in
//! the DAC table relative to the slot of `g_gcDacGlobals`, `follows` gives fields by their distance from another field of
//! their type, and `relative` names pointers stored as distance from their own place. Tables named `shape-*` hold what no system and architecture moves: structural discovery starts
//! from them and searches the rest. The algorithms read only a [`Layout`].

pub mod arraylist;
pub mod asks;
pub mod calibrate;
pub mod checks;
pub mod choose;
pub mod collector;
pub mod descriptor;
pub mod discover;
pub mod effort;
pub mod exports;
pub mod gaps;
pub mod gcdac;
mod inline;
mod older;
pub mod provider;
pub mod report;
pub mod scan;
mod search;
pub mod standing;
pub mod structure;
pub mod tables;
pub mod threadlist;
pub mod verdict;
pub mod version;

use std::fmt;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use crate::dump::AddressSpace;

/// Which provider answered for a fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A built-in table, by name.
    Table(String),
    /// The contract descriptor found at the address.
    Descriptor(u64),
    /// The debug header of a NativeAOT program found at the address.
    DebugHeader(u64),
    /// The `GcDacVars` struct found at the address.
    GcDacVars(u64),
    /// The DAC table, by slot relative to `g_gcDacGlobals`.
    DacTable(i32),
    /// Found by structure in this dump and proved by an invariant.
    Calibrated,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Table(n) => write!(f, "table {n}"),
            Source::Descriptor(a) => write!(f, "contract descriptor at {a:x}"),
            Source::DebugHeader(a) => write!(f, "debug header at {a:x}"),
            Source::GcDacVars(a) => write!(f, "GcDacVars at {a:x}"),
            Source::DacTable(s) => write!(f, "DAC table slot {s:+}"),
            Source::Calibrated => write!(f, "calibration"),
        }
    }
}

/// A value with the provider it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Who said so.
    pub source: Source,
}

/// A field, global or constant the layout does not have: no provider knew it, or its invariant refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the layout of this runtime has no {0}; !runtimes -v shows which providers were asked")]
pub struct Missing(pub String);

/// Offsets, sizes, constants and addresses of one runtime.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Field offsets in bytes by type, then field; the field `!` is the size of the type.
    fields: FxHashMap<String, FxHashMap<String, Fact<u64>>>,
    /// Numeric constants.
    constants: FxHashMap<String, Fact<u64>>,
    /// Text constants.
    texts: FxHashMap<String, Fact<String>>,
    /// Addresses of runtime variables (one more read gives the variable's value).
    globals: FxHashMap<String, Fact<u64>>,
    /// Positions in the DAC table relative to the slot of `g_gcDacGlobals`.
    pub dac_slots: FxHashMap<String, i32>,
    /// Fields by their distance in bytes from another field of the same type, which may move.
    follows: FxHashMap<(String, String), (String, i64)>,
    /// Pointers stored as distance from their own place, by type.
    relative: FxHashMap<String, FxHashSet<String>>,
    /// Refused fields as they were.
    refused: FxHashMap<(String, String), Fact<u64>>,
}

impl Layout {
    /// Offset of `field` in `ty`, in bytes.
    pub fn offset(&self, ty: &str, field: &str) -> Result<u64, Missing> {
        self.field(ty, field).map(|f| f.value).ok_or_else(|| Missing(format!("{ty}.{field}")))
    }

    /// Offset of `field` in `ty` when the layout has it.
    pub fn try_offset(&self, ty: &str, field: &str) -> Option<u64> {
        self.field(ty, field).map(|f| f.value)
    }

    /// Whether the pointer in `field` is stored as distance from its own place (`RelativePointer`, dotnet/coreclr v2.1
    /// `src/inc/fixuppointer.h`; images compiled ahead of time need no relocation so).
    pub fn is_relative(&self, ty: &str, field: &str) -> bool {
        self.relative.get(ty).is_some_and(|fields| fields.contains(field))
    }

    /// The pointer in `field` of the structure of type `ty` at `base`, 0 for null.
    pub fn pointer(&self, space: &AddressSpace, base: u64, ty: &str, field: &str) -> Option<u64> {
        self.pointer_at(space, base.checked_add(self.try_offset(ty, field)?)?, ty, field)
    }

    /// The pointer at `at`, stored as `field` of `ty` is.
    pub fn pointer_at(&self, space: &AddressSpace, at: u64, ty: &str, field: &str) -> Option<u64> {
        if self.is_relative(ty, field) { relative_pointer(space, at) } else { space.ptr(at) }
    }

    /// The offset with its source.
    pub fn field(&self, ty: &str, field: &str) -> Option<&Fact<u64>> {
        self.fields.get(ty)?.get(field)
    }

    /// Numeric constant.
    pub fn constant(&self, name: &str) -> Result<u64, Missing> {
        self.constants.get(name).map(|f| f.value).ok_or_else(|| Missing(format!("constant {name}")))
    }

    /// A numeric constant with its source.
    pub fn constant_fact(&self, name: &str) -> Option<&Fact<u64>> {
        self.constants.get(name)
    }

    /// Text constant.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|f| f.value.as_str())
    }

    /// Address of the runtime variable `name`.
    pub fn global(&self, name: &str) -> Result<u64, Missing> {
        self.globals.get(name).map(|f| f.value).ok_or_else(|| Missing(format!("global {name}")))
    }

    /// Sets a field offset.
    pub fn set_field(&mut self, ty: &str, field: &str, offset: u64, source: Source) {
        let fact = Fact { value: offset, source };
        match self.fields.get_mut(ty) {
            Some(fields) => fields.insert(field.to_owned(), fact),
            None => self.fields.entry(ty.to_owned()).or_default().insert(field.to_owned(), fact),
        };
    }

    /// Sets a global's address.
    pub fn set_global(&mut self, name: &str, address: u64, source: Source) {
        self.globals.insert(name.to_owned(), Fact { value: address, source });
    }

    /// Sets a numeric constant.
    pub fn set_constant(&mut self, name: &str, value: u64, source: Source) {
        self.constants.insert(name.to_owned(), Fact { value, source });
    }

    /// Sets a text constant.
    pub fn set_text(&mut self, name: &str, value: &str, source: Source) {
        self.texts.insert(name.to_owned(), Fact { value: value.to_owned(), source });
    }

    /// Whether any field of `ty` is known.
    pub fn describes(&self, ty: &str) -> bool {
        self.fields.get(ty).is_some_and(|f| !f.is_empty())
    }

    /// Takes over what `other` says and this layout does not. Returns the names of what both say, and not alike.
    pub fn absorb(&mut self, other: &Self) -> Vec<String> {
        let mut unlike = Vec::new();
        for (ty, fields) in &other.fields {
            let own = self.fields.entry(ty.clone()).or_default();
            for (name, fact) in fields {
                match own.get(name) {
                    None => drop(own.insert(name.clone(), fact.clone())),
                    Some(f) if f.value != fact.value => unlike.push(format!("{ty}.{name}")),
                    Some(_) => {}
                }
            }
        }
        let pairs = [(&mut self.constants, &other.constants), (&mut self.globals, &other.globals)];
        for (own, others) in pairs {
            for (name, fact) in others {
                match own.get(name) {
                    None => drop(own.insert(name.clone(), fact.clone())),
                    Some(f) if f.value != fact.value => unlike.push(name.clone()),
                    Some(_) => {}
                }
            }
        }
        for (name, fact) in &other.texts {
            self.texts.entry(name.clone()).or_insert_with(|| fact.clone());
        }
        unlike.sort_unstable();
        unlike
    }

    /// Takes over all that `other` says; fields that only follow one of its move with it.
    pub fn overlay(&mut self, other: &Self) {
        for (ty, fields) in &other.fields {
            for (name, fact) in fields {
                if self.try_offset(ty, name) != Some(fact.value) {
                    self.place(ty, name, fact.value, &fact.source);
                }
            }
        }
        // What was moved as a follower and is named itself is where it is named.
        for (ty, fields) in &other.fields {
            self.fields.entry(ty.clone()).or_default().extend(fields.iter().map(|(n, f)| (n.clone(), f.clone())));
        }
        let facts =
            |map: &FxHashMap<String, Fact<u64>>| map.iter().map(|(n, f)| (n.clone(), f.clone())).collect::<Vec<_>>();
        self.constants.extend(facts(&other.constants));
        self.globals.extend(facts(&other.globals));
        self.texts.extend(other.texts.iter().map(|(n, f)| (n.clone(), f.clone())));
        self.follow();
    }

    /// Sets a field and those that keep their distance from it.
    pub fn place(&mut self, ty: &str, field: &str, offset: u64, source: &Source) {
        self.set_field(ty, field, offset, source.clone());
        for (name, at) in self.followers(ty, field, offset) {
            self.set_field(ty, &name, at, source.clone());
        }
    }

    /// Fields of `ty` that keep their distance from `field`, and where they are if it is at `offset`.
    pub fn followers(&self, ty: &str, field: &str, offset: u64) -> Vec<(String, u64)> {
        let of = self.follows.iter().filter(|((t, _), (base, _))| t == ty && base == field);
        of.filter_map(|((_, name), (_, distance))| Some((name.clone(), offset.checked_add_signed(*distance)?)))
            .collect()
    }

    /// Gives the fields that follow another, and are not named themselves, their offsets.
    pub fn follow(&mut self) {
        let rules: Vec<_> = self.follows.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for ((ty, name), (base, distance)) in rules {
            if self.field(&ty, &name).is_none()
                && let Some(fact) = self.field(&ty, &base).cloned()
                && let Some(at) = fact.value.checked_add_signed(distance)
            {
                self.set_field(&ty, &name, at, fact.source);
            }
        }
    }

    /// Fields a table names at another distance than they keep: name, expected offset, offset.
    pub fn strays(&self) -> Vec<(String, u64, u64)> {
        let stray = |((ty, name), (base, distance)): (&(String, String), &(String, i64))| {
            let expected = self.try_offset(ty, base)?.checked_add_signed(*distance)?;
            let own = self.field(ty, name).filter(|f| matches!(f.source, Source::Table(_)))?;
            let is = own.value;
            (is != expected).then(|| (format!("{ty}.{name}"), expected, is))
        };
        let mut all: Vec<_> = self.follows.iter().filter_map(stray).collect();
        all.sort_unstable();
        all
    }

    /// Removes a refused field; the next provider may set it again.
    pub fn drop_field(&mut self, ty: &str, field: &str) {
        if let Some(fact) = self.fields.get_mut(ty).and_then(|fields| fields.remove(field)) {
            self.refused.insert((ty.to_owned(), field.to_owned()), fact);
        }
    }

    /// Takes a refused field back: it was judged by another that was wrong.
    pub fn take_back(&mut self, ty: &str, field: &str) {
        if self.field(ty, field).is_none()
            && let Some(fact) = self.refused.get(&(ty.to_owned(), field.to_owned())).cloned()
        {
            self.fields.entry(ty.to_owned()).or_default().insert(field.to_owned(), fact);
        }
    }

    /// Takes all refused fields of `ty` back.
    pub fn take_back_all(&mut self, ty: &str) {
        let fields: Vec<String> = self.refused.keys().filter(|k| k.0 == ty).map(|k| k.1.clone()).collect();
        fields.iter().for_each(|field| self.take_back(ty, field));
    }

    /// Removes a refused global.
    pub fn drop_global(&mut self, name: &str) {
        self.globals.remove(name);
    }

    /// Everything known, sorted: `Type.Field`, value, source.
    pub fn facts(&self) -> Vec<(String, u64, &Source)> {
        let mut all: Vec<_> = self
            .fields
            .iter()
            .flat_map(|(t, fields)| fields.iter().map(move |(f, v)| (format!("{t}.{f}"), v.value, &v.source)))
            .chain(self.globals.iter().map(|(n, v)| (format!("&{n}"), v.value, &v.source)))
            .chain(self.constants.iter().map(|(n, v)| (n.clone(), v.value, &v.source)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Merges a compact JSON document: its entries win over what is there. Indirect globals (`[n]`) are resolved with
    /// `pointers`, the descriptor's pointer data. Unknown forms are skipped: names are the contract, not the shape.
    pub fn merge(&mut self, json: &Value, source: &Source, pointers: &dyn Fn(u64) -> Option<u64>) {
        for (ty, fields) in json.get("types").and_then(Value::as_object).into_iter().flatten() {
            for (field, v) in fields.as_object().into_iter().flatten() {
                if v.is_null() {
                    self.drop_field(ty, field);
                } else if let Some(n) = number(v).or_else(|| number(v.get(0)?)) {
                    self.set_field(ty, field, n, source.clone());
                }
            }
        }
        for (name, v) in json.get("globals").and_then(Value::as_object).into_iter().flatten() {
            self.merge_global(name, v, source, pointers);
        }
        for (name, v) in json.get("follows").and_then(Value::as_object).into_iter().flatten() {
            let rule = || Some((v.get(0)?.as_str()?.to_owned(), v.get(1)?.as_i64()?));
            let Some((ty, field)) = name.split_once('.') else { continue };
            match rule() {
                Some(rule) => self.follows.insert((ty.to_owned(), field.to_owned()), rule),
                None => self.follows.remove(&(ty.to_owned(), field.to_owned())),
            };
        }
        for name in json.get("relative").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            // A minus sign takes one away that a baseline has.
            let plain = name.strip_prefix('-');
            if let Some((ty, field)) = plain.unwrap_or(name).split_once('.') {
                let fields = self.relative.entry(ty.to_owned()).or_default();
                if plain.is_some() {
                    fields.remove(field)
                } else {
                    fields.insert(field.to_owned())
                };
            }
        }
        for (name, v) in json.get("dacSlots").and_then(Value::as_object).into_iter().flatten() {
            match v.as_i64() {
                Some(n) => self.dac_slots.insert(name.clone(), n as i32),
                None => self.dac_slots.remove(name),
            };
        }
    }

    fn merge_global(&mut self, name: &str, v: &Value, source: &Source, pointers: &dyn Fn(u64) -> Option<u64>) {
        let is_text = v.get(1).and_then(Value::as_str) == Some("string");
        let first = v.get(0).unwrap_or(v);
        // `[n]` and `[[n], type]` refer to pointer data; `[value, type]` and `value` are the value.
        let inner = if v.as_array().is_some_and(|a| a.len() == 1) { Some(first) } else { first.get(0) };
        if is_text && let Some(s) = first.as_str() {
            self.set_text(name, s, source.clone());
        } else if let Some(index) = inner.and_then(number) {
            if let Some(address) = pointers(index).filter(|&a| a != 0) {
                self.set_global(name, address, source.clone());
            }
        } else if let Some(n) = number(first) {
            self.set_constant(name, n, source.clone());
        } else if let Some(s) = first.as_str() {
            self.set_text(name, s, source.clone());
        }
    }
}

/// The pointer stored at `at` as distance from there; 0 is null. Bit 0 of the result marks a cell that holds the pointer
/// (`RelativeFixupPointer`, `FIXUP_POINTER_INDIRECTION`).
pub fn relative_pointer(space: &AddressSpace, at: u64) -> Option<u64> {
    through_cell(space, relative_value(space, at)?)
}

/// As [`relative_pointer`], where the lowest bits are flags and no cells are used.
pub fn relative_value(space: &AddressSpace, at: u64) -> Option<u64> {
    let distance = space.ptr(at)?;
    let value = if distance == 0 { 0 } else { at.wrapping_add(distance) };
    Some(if space.ptr_size() == 4 { value & 0xFFFF_FFFF } else { value })
}

/// A pointer whose bit 0 marks a cell that holds it (`FixupPointer`).
pub fn through_cell(space: &AddressSpace, value: u64) -> Option<u64> {
    if value & 1 != 0 { space.ptr(value - 1) } else { Some(value) }
}

/// A JSON number, or one in a string (decimal, `0x`, `-0x`), as the descriptor's own reader accepts them.
pub fn number(v: &Value) -> Option<u64> {
    if let Some(n) = v.as_u64() {
        return Some(n);
    }
    if let Some(n) = v.as_i64() {
        return Some(n as u64);
    }
    let s = v.as_str()?;
    let (neg, s) = s.strip_prefix('-').map_or((false, s), |r| (true, r));
    let n = match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        Some(h) => u64::from_str_radix(h, 16).ok()?,
        None => s.parse().ok()?,
    };
    Some(if neg { n.wrapping_neg() } else { n })
}
