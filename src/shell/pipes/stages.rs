//! Pipes at work behind one table: each row goes from stage to stage as far as it comes.

use std::collections::VecDeque;
use std::io;

use super::super::cell::Cell;
use super::columns::{View, Wrong};
use super::condition::Check;
use super::group::Groups;
use super::kept::{Budget, Packer};
use super::name::Name;
use super::pipe::Pipe;
use super::sort::{Sorter, Wanted};
use super::value::{contains, push_whole};

/// Takes the rows that come through.
pub type Sink<'s> = dyn FnMut(&[Cell<'_>]) -> io::Result<()> + 's;

/// One pipe at work.
#[derive(Debug)]
enum Stage {
    Where(Check),
    /// The text in lower case, and the places of the cells that are shown.
    Find {
        text: String,
        shown: Vec<usize>,
        line: Vec<u8>,
    },
    First {
        left: u64,
    },
    Last(Ring),
    Sort(Sorter),
    Group(Groups),
}

/// The last rows, packed.
#[derive(Debug)]
struct Ring {
    most: u64,
    rows: VecDeque<Vec<u8>>,
    packer: Packer,
    budget: Budget,
    used: usize,
}

impl Ring {
    fn add(&mut self, row: &[Cell<'_>]) -> io::Result<()> {
        if self.most == 0 {
            return Ok(());
        }
        let full = self.rows.len() as u64 >= self.most;
        let mut packed = if full { self.rows.pop_front().unwrap_or_default() } else { Vec::new() };
        if full {
            self.budget.give(packed.len() + ROW);
            self.used = self.used.saturating_sub(packed.len() + ROW);
        }
        packed.clear();
        row.iter().for_each(|c| self.packer.push(c, &mut packed));
        self.budget.take(packed.len() + ROW, "last", self.rows.len() as u64)?;
        self.used += packed.len() + ROW;
        self.rows.push_back(packed);
        Ok(())
    }

    fn finish(&mut self, mut each: impl FnMut(&[Cell<'_>]) -> io::Result<()>) -> io::Result<()> {
        for packed in std::mem::take(&mut self.rows) {
            let mut cells = Vec::new();
            self.packer.row(&packed, &mut cells);
            each(&cells)?;
        }
        self.budget.give(std::mem::take(&mut self.used));
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}

/// Bytes that one of them needs beside its own.
const ROW: usize = 64;

/// Pipes behind one table.
#[derive(Debug)]
pub struct Chain {
    stages: Vec<Stage>,
    /// What the rows that come through have.
    pub view: View,
}

/// Why they cannot be there: which pipe, and why; the columns there are at that place.
#[derive(Debug, Clone)]
pub struct Misfit {
    /// Number of the pipe.
    pub pipe: usize,
    /// Why.
    pub wrong: Wrong,
    /// Columns that it could name.
    pub keys: String,
}

impl Chain {
    /// Puts pipes behind a table with these columns; `rising`: its biggest rows come last.
    pub fn over(mut view: View, mut rising: bool, pipes: &[Pipe], budget: &Budget) -> Result<Self, Misfit> {
        let mut stages = Vec::new();
        for (i, pipe) in pipes.iter().enumerate() {
            // What is left of the columns does not change which rows there are.
            let next = pipes.iter().skip(i + 1).find(|p| !matches!(p, Pipe::Cols(_)));
            let stage = one(pipe, &mut view, &mut rising, next, budget);
            match stage {
                Ok(stage) => stages.extend(stage),
                Err(wrong) => return Err(Misfit { pipe: i, wrong, keys: view.keys() }),
            }
        }
        Ok(Chain { stages, view })
    }

    /// A row of the table.
    pub fn push(&mut self, row: &[Cell<'_>], sink: &mut Sink<'_>) -> io::Result<()> {
        push(&mut self.stages, row, sink)
    }

    /// No more rows come: those that were kept go on.
    pub fn finish(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        let mut stages = &mut self.stages[..];
        while let Some((first, rest)) = stages.split_first_mut() {
            match first {
                Stage::Last(ring) => ring.finish(|row| push(rest, row, sink))?,
                Stage::Sort(sorter) => sorter.finish(|row| push(rest, row, sink))?,
                Stage::Group(groups) => groups.finish(|row| push(rest, row, sink))?,
                Stage::Where(_) | Stage::Find { .. } | Stage::First { .. } => {}
            }
            stages = rest;
        }
        Ok(())
    }
}

/// The stage of a pipe, if rows have to go through one, and what is behind it: the columns, and whether the biggest come
/// last.
fn one(
    pipe: &Pipe,
    view: &mut View,
    rising: &mut bool,
    next: Option<&Pipe>,
    budget: &Budget,
) -> Result<Option<Stage>, Wrong> {
    let ring = |most| {
        Stage::Last(Ring { most, rows: VecDeque::new(), packer: Packer::default(), budget: budget.clone(), used: 0 })
    };
    Ok(Some(match pipe {
        Pipe::Where(condition) => Stage::Where(condition.bind(view)?),
        Pipe::Find(text) => Stage::Find { text: text.clone(), shown: view.text(), line: Vec::new() },
        Pipe::Top(n) if *rising => ring(*n),
        Pipe::Top(n) => Stage::First { left: *n },
        Pipe::Last(n) => ring(*n),
        // Told apart by those who put chains behind tables.
        Pipe::Count => return Ok(None),
        Pipe::Sort(keys) => {
            let keys = keys.iter().map(|(name, falls)| Ok((view.find(name)?, *falls))).collect::<Result<_, _>>()?;
            *rising = false;
            let wanted = match next {
                Some(Pipe::Top(n)) => Wanted::First(*n),
                Some(Pipe::Last(n)) => Wanted::Last(*n),
                _ => Wanted::All,
            };
            Stage::Sort(Sorter::new(keys, wanted, budget))
        }
        Pipe::Group(keys, aggregates) => {
            let (groups, behind) = Groups::of(keys, aggregates, view, budget)?;
            *view = behind;
            *rising = true;
            Stage::Group(groups)
        }
        Pipe::Cols(names) => {
            view.chosen = chosen(names, view)?;
            view.named = true;
            return Ok(None);
        }
    }))
}

fn chosen(names: &[Name], view: &View) -> Result<Vec<usize>, Wrong> {
    let mut places = Vec::new();
    for name in names {
        let place = view.find(name)?;
        if places.contains(&place) {
            return Err(Wrong::Value {
                column: name.column,
                what: format!("the column `{}` is named twice", name.text),
            });
        }
        places.push(place);
    }
    Ok(places)
}

fn push(stages: &mut [Stage], row: &[Cell<'_>], sink: &mut Sink<'_>) -> io::Result<()> {
    let Some((first, rest)) = stages.split_first_mut() else { return sink(row) };
    match first {
        Stage::Where(check) => {
            if !check.holds(row) {
                return Ok(());
            }
        }
        Stage::Find { text, shown, line } => {
            line.clear();
            for (i, cell) in shown.iter().filter_map(|&i| row.get(i)).enumerate() {
                if i > 0 {
                    line.push(b' ');
                }
                push_whole(cell, line);
            }
            if !contains(&String::from_utf8_lossy(line), text) {
                return Ok(());
            }
        }
        Stage::First { left: 0 } => return Ok(()),
        Stage::First { left } => *left -= 1,
        Stage::Last(ring) => return ring.add(row),
        Stage::Sort(sorter) => return sorter.add(row),
        Stage::Group(groups) => return groups.add(row),
    }
    push(rest, row, sink)
}
