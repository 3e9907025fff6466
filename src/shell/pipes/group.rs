//! `| group`: one row for all rows that are the same in some columns.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;

use super::super::cell::Cell;
use super::super::returns::{Col, Type};
use super::columns::{Column, View, Wrong};
use super::kept::{Budget, Packer};
use super::name::Name;
use super::pipe::Aggregate;
use super::value::{Number, Value, whole};

/// Bytes a group needs beside its values: its place in the map and in the list.
const GROUP: usize = 192;

/// What is gone for with each group.
#[derive(Debug, Clone, Copy)]
enum What {
    Count,
    Sum(usize),
    Max(usize),
}

/// What is known of one group for one aggregate.
#[derive(Debug)]
enum Total {
    Count(u64),
    /// The whole numbers and those with fractions.
    Sum {
        int: i128,
        float: Option<f64>,
        form: Form,
        any: bool,
    },
    /// The biggest value, packed.
    Max(Vec<u8>),
}

/// How a sum is shown: as the numbers it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Separated,
    Percent,
}

#[derive(Debug)]
struct Found {
    /// The values of the key, packed.
    key: Vec<u8>,
    totals: Vec<Total>,
}

/// The groups of a table.
#[derive(Debug)]
pub struct Groups {
    keys: Vec<usize>,
    what: Vec<What>,
    /// Names of the columns that are added up, for what goes wrong.
    names: Vec<String>,
    found: Vec<Found>,
    places: HashMap<Vec<u8>, usize>,
    packer: Packer,
    scratch: Vec<u8>,
    budget: Budget,
    used: usize,
}

impl Groups {
    /// The groups of the rows of `view`, and the columns of theirs.
    pub fn of(keys: &[Name], aggregates: &[Aggregate], view: &View, budget: &Budget) -> Result<(Self, View), Wrong> {
        let places = keys.iter().map(|k| view.find(k)).collect::<Result<Vec<_>, _>>()?;
        let mut columns: Vec<Column> = Vec::new();
        for (place, name) in places.iter().zip(keys) {
            let Some(column) = view.at(*place) else { continue };
            if columns.iter().any(|c| c.key == column.key) {
                return Err(Wrong::Value {
                    column: name.column,
                    what: format!("the column `{}` is named twice", column.key),
                });
            }
            columns.push(Column { title: column.named().to_owned().into(), shown: true, ..column.clone() });
        }
        let mut what = Vec::new();
        let mut names = Vec::new();
        for a in aggregates {
            let (w, column, name) = aggregate(a, view)?;
            let mut key = column.key.to_string();
            // A table may have a column called `count` itself.
            while columns.iter().any(|c| c.key == key) {
                key.push_str("_2");
            }
            what.push(w);
            names.push(name);
            columns.push(Column { key: key.into(), ..column });
        }
        let groups = Groups {
            keys: places,
            what,
            names,
            found: Vec::new(),
            places: HashMap::new(),
            packer: Packer::default(),
            scratch: Vec::new(),
            budget: budget.clone(),
            used: 0,
        };
        Ok((groups, View::all(columns, view.declared())))
    }

    /// Adds a row.
    pub fn add(&mut self, row: &[Cell<'_>]) -> io::Result<()> {
        let mut identity = std::mem::take(&mut self.scratch);
        identity.clear();
        self.keys.iter().for_each(|k| identify(row.get(*k).unwrap_or(&Cell::None), &mut identity));
        let at = match self.places.get(&identity) {
            Some(at) => *at,
            None => self.begin(&identity, row)?,
        };
        self.scratch = identity;
        let groups = self.found.len() as u64;
        let Some(found) = self.found.get_mut(at) else { return Ok(()) };
        for ((what, total), name) in self.what.iter().zip(&mut found.totals).zip(&self.names) {
            let cell = match what {
                What::Count => &Cell::None,
                What::Sum(at) | What::Max(at) => row.get(*at).unwrap_or(&Cell::None),
            };
            let more = total.add(cell, &mut self.packer, name)?;
            self.budget.take(more, "group", groups)?;
            self.used += more;
        }
        Ok(())
    }

    fn begin(&mut self, identity: &[u8], row: &[Cell<'_>]) -> io::Result<usize> {
        let mut key = Vec::new();
        for k in &self.keys {
            self.packer.push(row.get(*k).unwrap_or(&Cell::None), &mut key);
        }
        let bytes = GROUP + identity.len() + key.len() + self.what.len() * size_of::<Total>();
        self.budget.take(bytes, "group", self.found.len() as u64)?;
        self.used += bytes;
        let totals = self.what.iter().map(|w| Total::new(*w)).collect();
        self.found.push(Found { key, totals });
        self.places.insert(identity.to_vec(), self.found.len() - 1);
        Ok(self.found.len() - 1)
    }

    /// Hands out the rows: by the first aggregate, the biggest last, those that are alike by their keys.
    pub fn finish(&mut self, mut each: impl FnMut(&[Cell<'_>]) -> io::Result<()>) -> io::Result<()> {
        self.places = HashMap::new();
        let mut found = std::mem::take(&mut self.found);
        let packer = &self.packer;
        let keys = self.keys.len();
        found.sort_by(|a, b| a.order(b, packer, keys));
        let result = found.iter().try_for_each(|f| {
            let mut cells = Vec::with_capacity(keys + f.totals.len());
            packer.row(&f.key, &mut cells);
            cells.extend(f.totals.iter().map(|t| t.cell(packer)));
            each(&cells)
        });
        self.budget.give(std::mem::take(&mut self.used));
        result
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}

/// An aggregate, its column and the name of what it goes over.
fn aggregate(a: &Aggregate, view: &View) -> Result<(What, Column, String), Wrong> {
    let (name, word, title) = match a {
        Aggregate::Count => {
            let column = Column::of(&Col::right("Count", "count", 0).of(Type::Count));
            return Ok((What::Count, column, String::new()));
        }
        Aggregate::Sum(name) => (name, "sum", "Sum"),
        Aggregate::Max(name) => (name, "max", "Max"),
    };
    let place = view.find(name)?;
    let Some(column) = view.at(place) else { return Err(Wrong::NoColumn(name.clone())) };
    let sums = |ty| matches!(ty, Type::Bytes | Type::Count | Type::Number | Type::Share);
    if word == "sum" && !view.checked(place).is_none_or(sums) {
        let what =
            format!("`{}` holds {}: sum takes bytes, counts and other numbers", column.key, column.col.ty.name());
        return Err(Wrong::Value { column: name.column, what });
    }
    let what = if word == "sum" { What::Sum(place) } else { What::Max(place) };
    let over = Column {
        key: format!("{word}_{}", column.key).into(),
        title: format!("{title} {}", column.named()).into(),
        col: Col { width: 0, ..column.col },
        shown: true,
    };
    Ok((what, over, column.key.to_string()))
}

/// Appends what tells the value of a cell from others: two numbers that are the same are, however they are shown.
fn identify(cell: &Cell<'_>, out: &mut Vec<u8>) {
    let mut text = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    if let Cell::Units(units) = whole(cell)
        && String::from_utf16(units).is_err()
    {
        // Text that UTF-8 cannot hold is not what it is mended to.
        let bytes: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        return text(1, &bytes);
    }
    match Value::of(cell) {
        Value::Missing => text(0, &[]),
        Value::Text(t) => text(2, t.as_bytes()),
        Value::Bool(b) => text(3, &[u8::from(b)]),
        Value::Time(t) => text(4, &t.to_le_bytes()),
        Value::Hex(x) => text(5, &i128::from(x).to_le_bytes()),
        Value::Number(Number::Int(x)) => text(5, &x.to_le_bytes()),
        Value::Number(Number::Float(x)) => text(6, &x.to_bits().to_le_bytes()),
    }
}

impl Found {
    fn order(&self, other: &Found, packer: &Packer, keys: usize) -> Ordering {
        let first = match (self.totals.first(), other.totals.first()) {
            (Some(a), Some(b)) => a.order(b, packer),
            _ => Ordering::Equal,
        };
        let key = |f: &Found, i: usize, g: &Found| {
            let (a, b) = (packer.nth(&f.key, i), packer.nth(&g.key, i));
            Value::of(&a).order(&Value::of(&b))
        };
        (0..keys).fold(first, |order, i| order.then_with(|| key(self, i, other)))
    }
}

impl Total {
    fn new(what: What) -> Self {
        match what {
            What::Count => Total::Count(0),
            What::Sum(_) => Total::Sum { int: 0, float: None, form: Form::Plain, any: false },
            What::Max(_) => Total::Max(Vec::new()),
        }
    }

    /// Adds a row's cell; how many more bytes are kept.
    fn add(&mut self, cell: &Cell<'_>, packer: &mut Packer, name: &str) -> io::Result<usize> {
        let value = Value::of(cell);
        match self {
            Total::Count(n) => *n += 1,
            Total::Sum { int, float, form, any } => {
                match value {
                    Value::Missing => return Ok(0),
                    // 2^64 rows of 64 bits fit.
                    Value::Number(Number::Int(x)) => *int = int.saturating_add(x),
                    Value::Number(Number::Float(x)) => *float = Some(float.unwrap_or(0.0) + x),
                    _ => {
                        return Err(io::Error::other(format!(
                            "| group: `{name}` holds no numbers, sum adds up numbers"
                        )));
                    }
                }
                if !std::mem::replace(any, true) {
                    *form = match whole(cell) {
                        Cell::Percent(_) => Form::Percent,
                        Cell::Sep(_) | Cell::As(..) => Form::Separated,
                        _ => Form::Plain,
                    };
                }
            }
            Total::Max(packed) => {
                let bigger = !value.is_missing()
                    && (packed.is_empty() || Value::of(&packer.nth(packed, 0)).order(&value).is_lt());
                if bigger {
                    let before = packed.len();
                    packed.clear();
                    packer.push(cell, packed);
                    return Ok(packed.len().saturating_sub(before));
                }
            }
        }
        Ok(0)
    }

    fn cell<'b>(&'b self, packer: &Packer) -> Cell<'b> {
        match self {
            Total::Count(n) => Cell::Sep(*n),
            Total::Sum { any: false, .. } => Cell::None,
            Total::Sum { int, float: None, form: Form::Percent, .. } => Cell::Percent(*int as f64),
            Total::Sum { int, float: Some(x), form: Form::Percent, .. } => Cell::Percent(*int as f64 + x),
            Total::Sum { int, float: None, form, .. } => Number::Int(*int).cell(*form == Form::Separated),
            Total::Sum { int, float: Some(x), .. } => Cell::Float(*int as f64 + x),
            Total::Max(packed) => packer.nth(packed, 0),
        }
    }

    /// By size, groups that have no value first: the biggest come last.
    fn order(&self, other: &Total, packer: &Packer) -> Ordering {
        let (a, b) = (self.cell(packer), other.cell(packer));
        let (a, b) = (Value::of(&a), Value::of(&b));
        match (a.is_missing(), b.is_missing()) {
            (false, false) => a.order(&b),
            (a, b) => b.cmp(&a),
        }
    }
}
