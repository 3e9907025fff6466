//! One table file: rows in; TSV, CSV, JSON lines or Parquet out, streamed.

use std::fs::File;
use std::io;
use std::path::Path;

use super::column::{Column, Field, Style};
#[cfg(feature = "parquet")]
use super::groups::Groups;
use super::lines::Lines;
use crate::shell::redact;

/// A table being written.
pub struct Table {
    to: To,
    rows: u64,
    redact: bool,
}

enum To {
    Lines(Lines),
    #[cfg(feature = "parquet")]
    Parquet(Box<Groups>),
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its rows.
    pub rows: u64,
    /// Values that the type of their column cannot hold, written as nothing.
    pub unfit: u64,
}

impl Table {
    /// Makes the file and writes its head.
    pub fn create(path: &Path, style: Style, columns: &'static [Column]) -> io::Result<Self> {
        let to = match style {
            #[cfg(feature = "parquet")]
            Style::Parquet => To::Parquet(Box::new(Groups::begin(File::create(path)?, columns)?)),
            #[cfg(not(feature = "parquet"))]
            Style::Parquet => return Err(io::Error::other(super::column::NO_PARQUET)),
            _ => To::Lines(Lines::begin(File::create(path)?, style, columns)?),
        };
        Ok(Self { to, rows: 0, redact: false })
    }

    /// Keeps texts of the process and paths in.
    pub fn redacted(mut self, on: bool) -> Self {
        self.redact = on;
        self
    }

    /// One row, a value a column.
    pub fn row(&mut self, fields: &[Field<'_>]) -> io::Result<()> {
        if !self.redact {
            return self.push(fields);
        }
        let hidden = fields.iter().map(|field| match field {
            Field::Content(t) => Some(redact::content(t)),
            Field::Path(p) => Some(redact::last(p).to_owned()),
            _ => None,
        });
        let hidden: Vec<Option<String>> = hidden.collect();
        let shown = fields.iter().zip(&hidden).map(|(field, h)| h.as_deref().map_or(*field, Field::Text));
        self.push(&shown.collect::<Vec<_>>())
    }

    fn push(&mut self, fields: &[Field<'_>]) -> io::Result<()> {
        self.rows += 1;
        match &mut self.to {
            To::Lines(lines) => lines.row(fields),
            #[cfg(feature = "parquet")]
            To::Parquet(groups) => groups.row(fields),
        }
    }

    /// Writes what is left and returns what there is.
    pub fn finish(self) -> io::Result<Written> {
        let unfit = match self.to {
            To::Lines(lines) => lines.finish().map(|()| 0)?,
            #[cfg(feature = "parquet")]
            To::Parquet(groups) => groups.finish()?,
        };
        Ok(Written { rows: self.rows, unfit })
    }
}
