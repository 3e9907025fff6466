//! What a command declares that it returns: facts and tables. Rendering, pipes, the schemas in `docs/schema/` and the
//! reference all derive from this.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// What kind of value a column or a fact holds. Any value may be missing (`null` in JSON).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An address: `"0x7f3a1c000028"` in JSON.
    Address,
    /// An identifier or bits that are customarily written in hexadecimal (token, flags, thread id): `"0x6000001"`.
    Hex,
    /// A number of bytes.
    Bytes,
    /// A number of things.
    Count,
    /// Any other number, negative ones and fractions included.
    Number,
    /// A share in percent: 12.5 is an eighth.
    Share,
    /// A moment: `"2026-11-25T15:59:53Z"`.
    Time,
    /// Words and names.
    Text,
    /// Text that the process had in its memory, as it was: strings, messages, arguments. It may hold anything.
    Content,
    /// The name of a type as reflection or C# spells it, whole.
    TypeName,
    /// Fields from one object to another, separated by dots.
    FieldPath,
    /// True or false.
    Bool,
}

impl Type {
    /// Every type.
    pub const ALL: &[Type] = &[
        Type::Address,
        Type::Hex,
        Type::Bytes,
        Type::Count,
        Type::Number,
        Type::Share,
        Type::Time,
        Type::Text,
        Type::Content,
        Type::TypeName,
        Type::FieldPath,
        Type::Bool,
    ];

    /// Its name in documentation and schemas.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Address => "address",
            Type::Hex => "hex",
            Type::Bytes => "bytes",
            Type::Count => "count",
            Type::Number => "number",
            Type::Share => "share",
            Type::Time => "time",
            Type::Text => "text",
            Type::Content => "content",
            Type::TypeName => "type_name",
            Type::FieldPath => "field_path",
            Type::Bool => "bool",
        }
    }
}

/// A table column: how text shows it and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Col {
    /// Header as SOS prints it.
    pub title: &'static str,
    /// Key in JSON and CSV.
    pub key: &'static str,
    /// Minimum width in text; 0 means as wide as needed (the last column) or computed (`Out::fill`).
    pub width: u8,
    /// Aligned right.
    pub right: bool,
    /// What it holds.
    pub ty: Type,
    /// Unit of a number that is no count and no bytes: `ms`, `%`; empty without one.
    pub unit: &'static str,
    /// Text leaves it out: what it says stands elsewhere there, or nowhere.
    pub data_only: bool,
    /// It says how much something changed, with a sign.
    pub growth: bool,
    /// Sentences or paths: where the window is narrow they go on on further lines, and are not cut. The last column.
    pub breaks: bool,
}

impl Col {
    const fn new(title: &'static str, key: &'static str, width: u8, right: bool) -> Self {
        Self { title, key, width, right, ty: Type::Text, unit: "", data_only: false, growth: false, breaks: false }
    }

    /// A column that somebody named: numbers on the right, as wide as what it holds.
    pub fn named(name: &str, ty: Type) -> Self {
        let name = lasting(name);
        let right = matches!(ty, Type::Bytes | Type::Count | Type::Number | Type::Share);
        Self { ty, ..Self::new(name, name, 0, right) }
    }

    /// Right-aligned column.
    pub const fn right(title: &'static str, key: &'static str, width: u8) -> Self {
        Self::new(title, key, width, true)
    }

    /// Left-aligned column.
    pub const fn left(title: &'static str, key: &'static str, width: u8) -> Self {
        Self::new(title, key, width, false)
    }

    /// A column that text leaves out, or whose rows text prints as lines of their own (`Out::row_as`).
    pub const fn data(key: &'static str, ty: Type) -> Self {
        let mut col = Self::new("", key, 0, false);
        col.ty = ty;
        col.data_only = true;
        col
    }

    /// Says what the column holds; text unless said.
    pub const fn of(mut self, ty: Type) -> Self {
        self.ty = ty;
        self
    }

    /// Gives it a title, for columns that text leaves out.
    pub const fn titled(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }

    /// Gives it a unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Says that the column holds how much something changed.
    pub const fn growth(mut self) -> Self {
        self.growth = true;
        self
    }

    /// Says that the column, the last one, holds sentences or paths.
    pub const fn breaks(mut self) -> Self {
        self.breaks = true;
        self
    }
}

/// Most names of columns that are kept.
const MOST_NAMES: usize = 1 << 14;

/// A text that lasts as long as the program, each kept once. Columns that a person names are few; whoever has more of them
/// than are kept gets `column` for the rest.
fn lasting(text: &str) -> &'static str {
    static KEPT: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if let Some(known) = kept.get(text) {
        return known;
    }
    if kept.len() >= MOST_NAMES {
        return "column";
    }
    let text: &'static str = Box::leak(text.into());
    kept.insert(text);
    text
}

/// A single value of the answer, such as a line of the head of `!dumpobj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Key in JSON.
    pub key: &'static str,
    /// What it is, for the reference.
    pub title: &'static str,
    /// What it holds.
    pub ty: Type,
    /// Unit of a number that is no count and no bytes; empty without one.
    pub unit: &'static str,
}

impl Fact {
    /// A fact.
    pub const fn new(key: &'static str, title: &'static str, ty: Type) -> Self {
        Self { key, title, ty, unit: "" }
    }

    /// Gives it a unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

/// Which row of another table a row belongs to: both tables have the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Name of the other table.
    pub table: &'static str,
    /// Key of the column.
    pub key: &'static str,
}

/// A table of the answer. Two tables of a command may have one name and other columns: which of them there is depends on
/// the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Name in JSON.
    pub name: &'static str,
    /// Its columns in order.
    pub columns: &'static [Col],
    /// Whose rows its rows belong to.
    pub parent: Option<Parent>,
    /// Key of the column by which the rows come, the biggest last. `top` then means the last rows.
    pub rising: Option<&'static str>,
    /// Which columns it has decides what is asked for: none are declared, and this says what they are.
    pub varies: Option<&'static str>,
}

impl Table {
    /// A table of its own.
    pub const fn new(name: &'static str, columns: &'static [Col]) -> Self {
        Self { name, columns, parent: None, rising: None, varies: None }
    }

    /// A table whose columns are what is asked for: `what` says what that is. It is opened with [`super::Out::open_with`].
    pub const fn varying(name: &'static str, what: &'static str) -> Self {
        Self { varies: Some(what), ..Self::new(name, &[]) }
    }

    /// Its rows belong to the row of `table` that has the same value in the column `key`.
    pub const fn under(mut self, table: &'static str, key: &'static str) -> Self {
        self.parent = Some(Parent { table, key });
        self
    }

    /// Its rows come by the column `key`, the biggest last.
    pub const fn rising(mut self, key: &'static str) -> Self {
        self.rising = Some(key);
        self
    }
}

/// Everything a command may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returns {
    facts: &'static [Fact],
    tables: &'static [&'static Table],
    shared: &'static [&'static Returns],
}

impl Returns {
    /// For commands that do something and say at most a sentence.
    pub const NOTHING: Returns = Returns { facts: &[], tables: &[], shared: &[] };

    /// Facts.
    pub const fn facts(facts: &'static [Fact]) -> Self {
        Self { facts, ..Self::NOTHING }
    }

    /// Tables.
    pub const fn tables(tables: &'static [&'static Table]) -> Self {
        Self { tables, ..Self::NOTHING }
    }

    /// Adds tables.
    pub const fn and(mut self, tables: &'static [&'static Table]) -> Self {
        self.tables = tables;
        self
    }

    /// Adds what parts return that several commands share.
    pub const fn with(mut self, shared: &'static [&'static Returns]) -> Self {
        self.shared = shared;
        self
    }

    /// All facts.
    pub fn all_facts(&self) -> Vec<&'static Fact> {
        let shared = self.shared.iter().flat_map(|r| r.all_facts());
        self.facts.iter().chain(shared).collect()
    }

    /// All tables.
    pub fn all_tables(&self) -> Vec<&'static Table> {
        let shared = self.shared.iter().flat_map(|r| r.all_tables());
        self.tables.iter().copied().chain(shared).collect()
    }

    /// Whether nothing is declared.
    pub fn is_nothing(&self) -> bool {
        self.facts.is_empty() && self.tables.is_empty() && self.shared.iter().all(|r| r.is_nothing())
    }
}
