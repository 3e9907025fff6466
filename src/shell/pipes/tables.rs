//! Pipes that look at values, behind all tables of an answer. Prose is left out, and so are tables that lack a column.

use std::io;

use super::super::buffer::Buffer;
use super::super::cell::Cell;
use super::super::data::{Data, Format};
use super::super::layout::{Field, Layout};
use super::super::returns::{Col, Table, Type};
use super::super::words::SyntaxError;
use super::columns::{View, Wrong};
use super::kept::Budget;
use super::pipe::Pipe;
use super::stages::{Chain, Misfit};

/// What `| count` makes of all tables together.
pub const COUNTS: Table =
    Table::new("counts", &[Col::left("Table", "table", 0), Col::right("Count", "count", 0).of(Type::Count)]);

/// A table with pipes behind it.
#[derive(Debug)]
struct Piped {
    name: &'static str,
    chain: Chain,
    /// Rows that came through, for `| count`.
    passed: u64,
    /// Its number in the data; `None` while it has none, as under `| count`.
    number: Option<usize>,
    /// No more rows come.
    done: bool,
}

/// Pipes behind a command.
#[derive(Debug)]
pub struct Tables {
    /// Those before `| count`, or all.
    pipes: Vec<Pipe>,
    /// Those behind it.
    counted: Option<Vec<Pipe>>,
    /// One for each table of the answer.
    tables: Vec<Option<Piped>>,
    /// Why tables are left out, with their names.
    left_out: Vec<(&'static str, Misfit)>,
    budget: Budget,
    settled: bool,
    /// Text gets marks for a terminal.
    marked: bool,
}

impl Tables {
    /// These pipes.
    pub fn new(pipes: Vec<Pipe>, marked: bool, budget: Budget) -> Self {
        let (before, counted) = before_count(&pipes);
        let (pipes, counted) = (before.to_vec(), counted.map(<[Pipe]>::to_vec));
        Tables { pipes, counted, tables: Vec::new(), left_out: Vec::new(), budget, settled: false, marked }
    }

    /// Whether the pipes fit a table with these columns; the error says why not.
    pub fn accepts(&self, name: &'static str, columns: &[Col]) -> io::Result<()> {
        match Chain::over(View::of(columns, true), false, &self.pipes, &Budget::of(0)) {
            Ok(_) => Ok(()),
            Err(m) => Err(io::Error::other(why(&[(name, &m)], "this answer").what)),
        }
    }

    /// The next table of the answer.
    pub fn open(
        &mut self,
        name: &'static str,
        columns: &[Col],
        rising: bool,
        declared: bool,
        data: &mut Data,
        format: Format,
    ) {
        let chain = Chain::over(View::of(columns, declared), rising, &self.pipes, &self.budget);
        let piped = chain.map(|chain| {
            let number =
                if self.counted.is_none() { Some(begin(data, format, name, &chain.view, self.marked)) } else { None };
            Piped { name, chain, passed: 0, number, done: false }
        });
        match piped {
            Ok(piped) => self.tables.push(Some(piped)),
            Err(misfit) => {
                self.tables.push(None);
                if !self.left_out.iter().any(|(n, m)| *n == name && m.keys == misfit.keys) {
                    self.left_out.push((name, misfit));
                }
            }
        }
    }

    /// A row of a table of the answer, by its place among them.
    pub fn row(
        &mut self,
        table: usize,
        cells: &[Cell<'_>],
        format: Format,
        data: &mut Data,
        to: &mut Buffer,
    ) -> io::Result<()> {
        match self.tables.get_mut(table) {
            Some(Some(piped)) => piped.with(format, data, to, |chain, sink| chain.push(cells, sink)),
            _ => Ok(()),
        }
    }

    /// A table gets no more rows.
    pub fn done(&mut self, table: usize, format: Format, data: &mut Data, to: &mut Buffer) -> io::Result<()> {
        match self.tables.get_mut(table) {
            Some(Some(piped)) => piped.finish(format, data, to),
            _ => Ok(()),
        }
    }

    /// No table gets more rows. An error says that there was none with the columns that the pipes name.
    pub fn settle(&mut self, format: Format, data: &mut Data, to: &mut Buffer) -> io::Result<()> {
        if std::mem::replace(&mut self.settled, true) {
            return Ok(());
        }
        if !self.tables.iter().any(Option::is_some) && !self.left_out.is_empty() {
            let misfits: Vec<(&str, &Misfit)> = self.left_out.iter().map(|(n, m)| (*n, m)).collect();
            return Err(io::Error::other(why(&misfits, "this answer").what));
        }
        for piped in self.tables.iter_mut().flatten() {
            piped.finish(format, data, to)?;
        }
        let Some(all) = self.counted.take() else { return Ok(()) };
        let mut behind = &all[..];
        let mut counts: Vec<(&str, u64)> = self.tables.iter().flatten().map(|t| (t.name, t.passed)).collect();
        loop {
            let (pipes, again) = before_count(behind);
            let view = View::of(COUNTS.columns, true);
            // That they fit was seen before the command ran.
            let Ok(chain) = Chain::over(view, false, pipes, &self.budget) else { return Ok(()) };
            let number =
                if again.is_none() { Some(begin(data, format, COUNTS.name, &chain.view, self.marked)) } else { None };
            let mut table = Piped { name: COUNTS.name, chain, passed: 0, number, done: false };
            for (name, count) in &counts {
                let row = [Cell::text(*name), Cell::Num(*count)];
                table.with(format, data, to, |chain, sink| chain.push(&row, sink))?;
            }
            table.finish(format, data, to)?;
            let Some(more) = again else { return Ok(()) };
            // Counts that are counted are one table.
            counts = vec![(COUNTS.name, table.passed)];
            behind = more;
        }
    }

    /// Whether there was no table at all.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

impl Piped {
    fn with(
        &mut self,
        format: Format,
        data: &mut Data,
        to: &mut Buffer,
        act: impl FnOnce(&mut Chain, &mut super::stages::Sink<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (passed, number) = (&mut self.passed, self.number);
        let shown = if format == Format::Text { self.chain.view.text() } else { self.chain.view.chosen.clone() };
        act(&mut self.chain, &mut |row| {
            *passed += 1;
            let Some(number) = number else { return Ok(()) };
            // Not every row of a command that does not declare them has all cells.
            let cells = shown.iter().map(|i| row.get(*i).unwrap_or(&Cell::None));
            data.row(number, cells, to)
        })
    }

    fn finish(&mut self, format: Format, data: &mut Data, to: &mut Buffer) -> io::Result<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        self.with(format, data, to, |chain, sink| chain.finish(sink))?;
        match self.number {
            Some(number) => data.done(number, to),
            None => Ok(()),
        }
    }
}

/// Begins a table in the data.
fn begin(data: &mut Data, format: Format, name: &str, view: &View, marked: bool) -> usize {
    if format != Format::Text {
        let keys: Vec<&str> = view.data().map(|c| &*c.key).collect();
        return data.table(name, keys.into_iter());
    }
    let fields = view
        .text()
        .into_iter()
        .filter_map(|i| view.at(i))
        .map(|c| Field { title: if view.named { c.named().to_owned() } else { c.title.to_string() }, col: c.col });
    data.text_table(Layout::new(fields.collect(), marked))
}

/// Pipes before the first `| count`, and those behind it.
pub fn before_count(pipes: &[Pipe]) -> (&[Pipe], Option<&[Pipe]>) {
    match pipes.iter().position(|p| *p == Pipe::Count) {
        Some(at) => (pipes.get(..at).unwrap_or(&[]), pipes.get(at + 1..)),
        None => (pipes, None),
    }
}

/// Why pipes fit no table of `whose` answer: told of the tables that got farthest.
pub fn why(misfits: &[(&str, &Misfit)], whose: &str) -> SyntaxError {
    let farthest = misfits.iter().map(|(_, m)| m.pipe).max().unwrap_or(0);
    let mut there = Vec::new();
    let mut missing: Vec<(&str, usize)> = Vec::new();
    for (name, m) in misfits.iter().filter(|(_, m)| m.pipe == farthest) {
        match &m.wrong {
            // It has the columns: the rest is what is wrong.
            Wrong::Value { column, what } => return SyntaxError { column: *column, what: what.clone() },
            Wrong::NoColumn(n) => {
                if !missing.iter().any(|(m, _)| *m == n.text) {
                    missing.push((&n.text, n.column));
                }
                let columns = format!("{name} ({})", m.keys);
                if !there.contains(&columns) {
                    there.push(columns);
                }
            }
        }
    }
    let column = missing.first().map_or(0, |m| m.1);
    let names: Vec<String> = missing.iter().map(|(m, _)| format!("`{m}`")).collect();
    let what = match names.as_slice() {
        [one] => format!("no table of {whose} has a column {one}; there are: {}", there.join(", ")),
        all => format!("no table of {whose} has all the columns {}; there are: {}", all.join(", "), there.join(", ")),
    };
    SyntaxError { column, what }
}
