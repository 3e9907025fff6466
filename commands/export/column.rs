//! What a table consists of: formats, columns, values.

use crate::shell::Type;

/// File format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Tab-separated, backslash escapes.
    Tsv,
    /// Comma-separated, quoted as RFC 4180.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Columns with types, compressed.
    Parquet,
}

impl Style {
    /// The names of the formats, the first without one given.
    pub const NAMES: &[&str] = &["tsv", "csv", "jsonl", "parquet"];

    /// The format of that name.
    pub fn named(name: &str) -> Self {
        match name {
            "csv" => Style::Csv,
            "jsonl" => Style::Jsonl,
            "parquet" => Style::Parquet,
            _ => Style::Tsv,
        }
    }

    /// File name extension.
    pub fn extension(self) -> &'static str {
        match self {
            Style::Tsv => "tsv",
            Style::Csv => "csv",
            Style::Jsonl => "jsonl",
            Style::Parquet => "parquet",
        }
    }
}

/// Why there is no Parquet in a build without it.
#[cfg(not(feature = "parquet"))]
pub const NO_PARQUET: &str = "this build writes no Parquet: it was built without the feature `parquet`, which the released builds \
                          have (cargo build --release --features parquet); -format tsv, csv and jsonl work";

impl Style {
    /// Refuses what this build cannot write.
    #[cfg(feature = "parquet")]
    pub fn check(self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Refuses what this build cannot write.
    #[cfg(not(feature = "parquet"))]
    pub fn check(self) -> anyhow::Result<()> {
        match self {
            Style::Parquet => anyhow::bail!(NO_PARQUET),
            _ => Ok(()),
        }
    }
}

/// A column: what it is called and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What a value is. An address of 0 is none.
    pub ty: Type,
    /// Several values a row.
    pub list: bool,
}

/// A column with a value a row.
pub const fn col(name: &'static str, ty: Type) -> Column {
    Column { name, ty, list: false }
}

/// A column with several values a row: addresses or numbers.
pub const fn list(name: &'static str, ty: Type) -> Column {
    Column { name, ty, list: true }
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// Address: hexadecimal.
    Hex(u64),
    /// Number.
    Num(u64),
    /// Signed number.
    Int(i64),
    /// Number with a fraction.
    Real(f64),
    /// Moment in seconds since 1970.
    Time(u64),
    /// `True` or `False`.
    Bool(bool),
    /// Text; empty where nothing is known.
    Text(&'a str),
    /// Text that a string or a message holds.
    Content(&'a str),
    /// A path of the file system.
    Path(&'a str),
    /// Several addresses, separated by blanks.
    List(&'a [u64]),
    /// Several numbers, separated by blanks.
    Numbers(&'a [u64]),
    /// Nothing is known.
    None,
}

impl<'a> Field<'a> {
    /// What there is of a value.
    pub fn maybe<T>(value: Option<T>, of: impl FnOnce(T) -> Field<'a>) -> Self {
        value.map_or(Field::None, of)
    }
}
