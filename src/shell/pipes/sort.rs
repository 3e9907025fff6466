//! `| sort`: rows in the order of some columns.

use std::cmp::Ordering;
use std::io;

use super::super::cell::Cell;
use super::kept::{At, Budget, Kept};
use super::value::Value;

/// Which rows are asked for behind the sort: no more are kept than twice as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Only so many at the beginning.
    First(u64),
    /// Only so many at the end.
    Last(u64),
}

/// Rows kept before those that are not wanted are dropped.
const SOME: u64 = 4096;

/// A row: a number that decides most comparisons, and where the rest is.
#[derive(Debug)]
struct Entry {
    first: u64,
    at: At,
}

/// The rows of a table.
#[derive(Debug)]
pub struct Sorter {
    /// Places of the columns, and whether they fall.
    keys: Vec<(usize, bool)>,
    wanted: Wanted,
    kept: Kept,
    entries: Vec<Entry>,
}

impl Sorter {
    /// Sorts by these columns, the biggest first where `true` stands.
    pub fn new(keys: Vec<(usize, bool)>, wanted: Wanted, budget: &Budget) -> Self {
        Sorter { keys, wanted, kept: Kept::new(budget), entries: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: &[Cell<'_>]) -> io::Result<()> {
        let at = self.kept.add(row, "sort", self.entries.len() as u64)?;
        let first = self.keys.first().map_or(0, |(column, falls)| {
            let value = row.get(*column).map_or(Value::Missing, Value::of);
            match (value.is_missing(), falls) {
                // Missing values come last, whichever way.
                (true, _) => u64::MAX,
                (_, false) => value.prefix(),
                (_, true) => (1 << 60) - value.prefix(),
            }
        });
        self.entries.push(Entry { first, at });
        let (Wanted::First(n) | Wanted::Last(n)) = self.wanted else { return Ok(()) };
        if self.entries.len() as u64 > n.saturating_mul(2).saturating_add(SOME) {
            self.order();
            self.kept.retain(self.entries.iter_mut().map(|e| &mut e.at));
        }
        Ok(())
    }

    /// Sorts what there is; rows that are alike stay as they came. What is not wanted is left out.
    fn order(&mut self) {
        let (kept, keys) = (&self.kept, &self.keys);
        self.entries
            .sort_by(|a, b| a.first.cmp(&b.first).then_with(|| compare(kept.get(a.at), kept.get(b.at), kept, keys)));
        match self.wanted {
            Wanted::All => {}
            Wanted::First(n) => self.entries.truncate(usize::try_from(n).unwrap_or(usize::MAX)),
            Wanted::Last(n) => {
                let more = self.entries.len().saturating_sub(usize::try_from(n).unwrap_or(usize::MAX));
                self.entries.drain(..more);
            }
        }
    }

    /// Hands out the rows.
    pub fn finish(&mut self, mut each: impl FnMut(&[Cell<'_>]) -> io::Result<()>) -> io::Result<()> {
        self.order();
        for e in std::mem::take(&mut self.entries) {
            let mut cells = Vec::new();
            self.kept.packer.row(self.kept.get(e.at), &mut cells);
            each(&cells)?;
        }
        self.kept.retain(std::iter::empty());
        Ok(())
    }
}

fn compare(a: &[u8], b: &[u8], kept: &Kept, keys: &[(usize, bool)]) -> Ordering {
    for (column, falls) in keys {
        let (a, b) = (kept.packer.nth(a, *column), kept.packer.nth(b, *column));
        let (a, b) = (Value::of(&a), Value::of(&b));
        let order = match (a.is_missing(), b.is_missing()) {
            (false, false) if *falls => b.order(&a),
            (false, false) => a.order(&b),
            (a, b) => a.cmp(&b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}
