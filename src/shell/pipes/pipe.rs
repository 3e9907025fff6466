//! Pipes as they were typed.

use super::condition::Condition;
use super::name::Name;

/// Most pipes behind one command.
pub const MOST: usize = 32;

/// What a group is summed up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// Its rows.
    Count,
    /// The sum of a column.
    Sum(Name),
    /// The biggest of a column.
    Max(Name),
}

/// One pipe.
#[derive(Debug, Clone, PartialEq)]
pub enum Pipe {
    /// `| find TEXT`: only those that contain the text, which is in lower case.
    Find(String),
    /// `| top N`: only the first, or the biggest of a table that rises.
    Top(u64),
    /// `| last N`: only the last.
    Last(u64),
    /// `| count`: how many rows.
    Count,
    /// `| where EXPR`: only the rows for which it holds.
    Where(Condition),
    /// `| sort [-]COLUMN,...`: by these columns, `true` for those that fall.
    Sort(Vec<(Name, bool)>),
    /// `| group COLUMN,... AGGREGATE ...`: one row for all that are the same in these columns.
    Group(Vec<Name>, Vec<Aggregate>),
    /// `| cols A,B`: only these columns.
    Cols(Vec<Name>),
}

impl Pipe {
    /// Whether it passes lines of prose too: it looks at no value.
    pub fn takes_lines(&self) -> bool {
        matches!(self, Pipe::Find(_) | Pipe::Top(_) | Pipe::Last(_))
    }
}
