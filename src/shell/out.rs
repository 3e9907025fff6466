//! The one way out: commands hand over facts, rows and notes; text, JSON and CSV are renderings of the same.

use std::io::{self, Write};

use super::buffer::Buffer;
use super::data::{Data, Ending};
use super::mark;
use super::pipes::{Pipe, pass};
use super::quote::{clean_lines, push_clean};
use super::returns::{Fact, Table, Type};
use crate::session::About;

pub use super::cell::Cell;
pub use super::data::Format;
pub use super::numbers::{digits, narrow_digits, thousands};
pub use super::returns::Col;

/// Addresses remembered for completion.
const RECENT: usize = 4096;

/// The addresses printed last.
#[derive(Debug, Default)]
struct Recent {
    kept: Vec<u64>,
    next: usize,
}

impl Recent {
    fn add(&mut self, cells: &[Cell<'_>]) {
        for address in cells.iter().filter_map(Cell::address) {
            if self.kept.len() < RECENT {
                self.kept.push(address);
            } else {
                self.kept[self.next] = address;
                self.next = (self.next + 1) % RECENT;
            }
        }
    }
}

/// What a terminal is told of a line.
#[derive(Clone, Copy)]
enum Values<'v> {
    /// It is a sentence.
    Prose,
    /// These values stand in it.
    Those(&'v [(Type, &'v Cell<'v>)]),
}

/// A table of this answer.
struct Opened {
    name: &'static str,
    columns: Vec<Col>,
    /// Widths in text.
    widths: Vec<usize>,
    /// Its number in the data.
    number: usize,
    /// Rows handed over.
    rows: u64,
    /// Rows that passed the pipes, in text lines behind it too.
    passed: u64,
}

impl Opened {
    fn is(&self, t: &Table) -> bool {
        self.name == t.name
            && self.columns.len() == t.columns.len()
            && self.columns.iter().zip(t.columns).all(|(a, b)| std::ptr::eq(a.key, b.key) || a.key == b.key)
    }
}

/// The sink of one command.
pub struct Out {
    to: Buffer,
    format: Format,
    data: Data,
    tables: Vec<Opened>,
    /// The table opened last.
    current: Option<usize>,
    pipes: Vec<Pipe>,
    /// Lines that passed the pipes before any table.
    passed: u64,
    line: Vec<u8>,
    recent: Recent,
    mid_line: bool,
    /// Text gets marks for a terminal.
    marked: bool,
    /// Facts the command returns: what their values are.
    facts: Vec<&'static Fact>,
}

impl Out {
    /// Writes to `sink`.
    pub fn new(sink: Box<dyn Write + Send>, format: Format) -> Self {
        Self {
            to: Buffer::new(sink),
            format,
            data: Data::new(format),
            tables: Vec::new(),
            current: None,
            pipes: Vec::new(),
            passed: 0,
            line: Vec::new(),
            recent: Recent::default(),
            mid_line: false,
            marked: false,
            facts: Vec::new(),
        }
    }

    /// Marks values in text for [`super::screen`], the sink it goes to.
    pub fn marked(mut self, facts: Vec<&'static Fact>) -> Self {
        self.marked = true;
        self.facts = facts;
        self
    }

    /// Puts pipes behind everything written from now on.
    pub fn set_pipes(&mut self, pipes: Vec<Pipe>) {
        self.pipes = pipes;
        self.passed = 0;
    }

    /// The rendering chosen by the user.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether values are looked at that text does not show: whole names, whole strings.
    pub fn wants_data(&self) -> bool {
        self.format != Format::Text || !self.pipes.is_empty()
    }

    /// Addresses printed last, oldest first.
    pub fn recent(&self) -> Vec<u64> {
        let (newer, older) = self.recent.kept.split_at(self.recent.next);
        [older, newer].concat()
    }

    fn passes(&mut self, line: &str, table: Option<usize>) -> bool {
        let passed = match table.and_then(|t| self.tables.get_mut(t)) {
            Some(t) => &mut t.passed,
            None => &mut self.passed,
        };
        self.pipes.is_empty() || pass(&self.pipes, passed, line)
    }

    // Prose.

    /// A line of prose: a heading, a sentence. It stands under `notes` in JSON; CSV leaves it out. What it says of the
    /// dump stands in facts or rows too.
    pub fn note(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        if self.format == Format::Text {
            return self.text_with(text, self.current, Values::Prose);
        }
        if self.passes(text, self.current) {
            self.data.note(text);
        }
        Ok(())
    }

    /// As [`Out::note`], in commands that do not yet return values: it may hold anything.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.note(text)
    }

    /// A line whose values stand in rows: `head`, and behind it sentences or paths that go on below where the window is
    /// narrow.
    pub fn wrapped(&mut self, head: &str, text: &str) -> io::Result<()> {
        if self.format != Format::Text {
            return Ok(());
        }
        if !self.marked {
            return self.text_line(&format!("{head}{text}"), self.current);
        }
        let start = self.to.bytes.len();
        if !self.passes(&format!("{head}{text}"), self.current) {
            return Ok(());
        }
        let out = &mut self.to.bytes;
        mark::row(out, false);
        mark::begin(out, mark::Mark::Plain, false, 0);
        // A blank stands between the values of a row.
        push_clean(out, head.strip_suffix(' ').unwrap_or(head));
        mark::end(out);
        mark::begin(out, mark::Mark::Prose, false, 0);
        push_clean(out, text);
        mark::end(out);
        end_line(out, start);
        self.to.spill()
    }

    /// A line of text, or several; only in text.
    fn text_line(&mut self, text: &str, table: Option<usize>) -> io::Result<()> {
        self.text_with(text, table, Values::Those(&[]))
    }

    /// As `text_line`; a terminal is told where these values stand in it.
    fn text_with(&mut self, text: &str, table: Option<usize>, values: Values<'_>) -> io::Result<()> {
        if !self.passes(text, table) {
            return Ok(());
        }
        let out = &mut self.to.bytes;
        let start = out.len();
        for (i, part) in text.split('\n').enumerate() {
            if i > 0 {
                out.push(b'\n');
            }
            match values {
                Values::Those(values) if self.marked && !values.is_empty() => {
                    push_clean(&mut self.line, part);
                    mark::line(out, &String::from_utf8_lossy(&self.line), values);
                    self.line.clear();
                }
                Values::Prose if self.marked && !part.is_empty() => {
                    mark::begin(out, mark::Mark::Prose, false, 0);
                    push_clean(out, part);
                    mark::end(out);
                }
                _ => push_clean(out, part),
            }
        }
        end_line(out, start);
        self.to.spill()
    }

    /// Text as it is, without a line end of its own. Under `notes` in JSON; CSV leaves it out. Pipes see whole lines only
    /// and pass it.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Text => {
                let clean = clean_lines(text);
                self.mid_line = if text.is_empty() { self.mid_line } else { !text.ends_with('\n') };
                self.to.bytes.extend_from_slice(clean.as_bytes());
                self.to.spill()
            }
            Format::Json => {
                self.data.note(text);
                Ok(())
            }
            Format::Csv => Ok(()),
        }
    }

    /// Whether the last [`Out::print`] left a line unfinished.
    pub fn mid_line(&self) -> bool {
        self.mid_line
    }

    // Facts.

    /// A fact with the line that text prints of it.
    pub fn fact(&mut self, key: &'static str, value: Cell<'_>, line: impl AsRef<str>) -> io::Result<()> {
        self.facts(&[(key, value)], line)
    }

    /// Facts that text prints in one line.
    pub fn facts(&mut self, facts: &[(&'static str, Cell<'_>)], line: impl AsRef<str>) -> io::Result<()> {
        for (key, value) in facts {
            self.datum(key, value);
        }
        if self.format != Format::Text {
            return Ok(());
        }
        let ty = |key: &str| self.facts.iter().find(|f| f.key == key).map_or(Type::Text, |f| f.ty);
        let values: Vec<(Type, &Cell<'_>)> = facts.iter().map(|(key, value)| (ty(key), value)).collect();
        self.text_with(line.as_ref(), self.current, Values::Those(&values))
    }

    /// A fact that text does not print, or prints with something else.
    pub fn datum(&mut self, key: &'static str, value: &Cell<'_>) {
        self.recent.add(std::slice::from_ref(value));
        if self.format != Format::Text {
            self.data.fact(key, value);
        }
    }

    // Tables.

    /// Opens a table, its titles as a line above it in text. Rows follow with [`Out::row`]. Opened again, the titles are
    /// printed again and its rows go on.
    pub fn open(&mut self, table: &Table) -> io::Result<()> {
        self.open_bare(table)?;
        self.titles()
    }

    /// As [`Out::open`], without titles.
    pub fn open_bare(&mut self, table: &Table) -> io::Result<()> {
        let at = self.slot(table);
        if let Some(t) = self.tables.get_mut(at) {
            t.passed = 0;
            t.widths = declared(&t.columns);
        }
        self.current = Some(at);
        Ok(())
    }

    /// As [`Out::open`], with the titles as a command has them.
    pub fn open_as(&mut self, table: &Table, titles: &str) -> io::Result<()> {
        self.open_bare(table)?;
        if self.format != Format::Text {
            return Ok(());
        }
        // The head is no row: pipes leave it.
        let (above, titles) = titles.rsplit_once('\n').map_or((None, titles), |(a, t)| (Some(a), t));
        for line in above.into_iter().flat_map(|a| a.split('\n')) {
            push_clean(&mut self.to.bytes, line);
            self.to.bytes.push(b'\n');
        }
        let start = self.to.bytes.len();
        if self.marked {
            mark::row(&mut self.to.bytes, true);
        }
        push_clean(&mut self.to.bytes, titles);
        if let Some(t) = self.current.and_then(|c| self.tables.get(c)).filter(|_| self.marked) {
            mark::or_titles(&mut self.to.bytes);
            // Titles of such tables are written for the reference; their keys are what pipes call them.
            let keys: Vec<Cell<'_>> = t.columns.iter().map(|c| Cell::text(c.key)).collect();
            render(t, &keys, &mut self.to.bytes, true);
        }
        end_line(&mut self.to.bytes, start);
        self.to.spill()
    }

    /// A whole table at once; columns of width 0 become as wide as their widest cell or title. The rows are gone through
    /// twice and may be made as they are asked for.
    pub fn fill<'c, R: AsRef<[Cell<'c>]>>(
        &mut self,
        table: &Table,
        rows: impl IntoIterator<Item = R, IntoIter: Clone>,
    ) -> io::Result<()> {
        self.open_bare(table)?;
        self.filled(rows.into_iter(), true)
    }

    /// As [`Out::fill`], without titles.
    pub fn fill_bare<'c, R: AsRef<[Cell<'c>]>>(
        &mut self,
        table: &Table,
        rows: impl IntoIterator<Item = R, IntoIter: Clone>,
    ) -> io::Result<()> {
        self.open_bare(table)?;
        self.filled(rows.into_iter(), false)
    }

    /// Says that a table gets no more rows: another big one may follow without being kept in memory.
    pub fn done(&mut self, table: &Table) -> io::Result<()> {
        let at = self.slot(table);
        self.finish(at)
    }

    fn finish(&mut self, at: usize) -> io::Result<()> {
        match (self.format, self.tables.get(at)) {
            (Format::Text, _) | (_, None) => Ok(()),
            (_, Some(t)) => self.data.done(t.number, &mut self.to),
        }
    }

    /// One row of the table opened last: in text, cells joined with one space, padded to the column widths.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        match self.current {
            Some(at) => self.row_at(at, cells),
            None => Err(io::Error::other("a row without a table")),
        }
    }

    /// One row of a table that need not be the one opened last.
    pub fn row_in(&mut self, table: &Table, cells: &[Cell<'_>]) -> io::Result<()> {
        let at = self.slot(table);
        self.row_at(at, cells)
    }

    /// One row that text prints as this line, or lines.
    pub fn row_as(&mut self, table: &Table, cells: &[Cell<'_>], line: impl AsRef<str>) -> io::Result<()> {
        let at = self.enter(table, cells);
        match self.format {
            Format::Text if self.marked => {
                let types: Vec<Type> =
                    self.tables.get(at).map(|t| t.columns.iter().map(|c| c.ty).collect()).unwrap_or_default();
                let values: Vec<(Type, &Cell<'_>)> = types.into_iter().zip(cells).collect();
                self.text_with(line.as_ref(), Some(at), Values::Those(&values))
            }
            Format::Text => self.text_line(line.as_ref(), Some(at)),
            _ => {
                if self.passes(line.as_ref(), Some(at)) {
                    self.emit(at, cells)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// One row that text does not print: what it says stands in lines around it.
    pub fn data_row(&mut self, table: &Table, cells: &[Cell<'_>]) -> io::Result<()> {
        let at = self.enter(table, cells);
        if self.format == Format::Text { Ok(()) } else { self.emit(at, cells) }
    }

    /// Rows a table has so far: a number for the next, by which rows of another table name it.
    pub fn count(&mut self, table: &Table) -> u64 {
        let at = self.slot(table);
        self.tables.get(at).map_or(0, |t| t.rows)
    }

    /// Takes note of a row and gives the place of its table.
    fn enter(&mut self, table: &Table, cells: &[Cell<'_>]) -> usize {
        let at = self.slot(table);
        self.noted(at, cells);
        at
    }

    fn noted(&mut self, at: usize, cells: &[Cell<'_>]) {
        self.recent.add(cells);
        if let Some(t) = self.tables.get_mut(at) {
            t.rows += 1;
        }
    }

    /// The place of a table among those of this answer.
    fn slot(&mut self, table: &Table) -> usize {
        let known = self.current.filter(|&c| self.tables.get(c).is_some_and(|t| t.is(table)));
        let known = known.or_else(|| self.tables.iter().position(|t| t.is(table)));
        known.unwrap_or_else(|| self.add(table.name, table.columns))
    }

    fn add(&mut self, name: &'static str, columns: &[Col]) -> usize {
        let number = if self.format == Format::Text { 0 } else { self.data.table(name, columns) };
        self.tables.push(Opened {
            name,
            columns: columns.to_vec(),
            widths: declared(columns),
            number,
            rows: 0,
            passed: 0,
        });
        self.tables.len() - 1
    }

    fn titles(&mut self) -> io::Result<()> {
        let Some(t) = self.current.and_then(|c| self.tables.get(c)).filter(|_| self.format == Format::Text) else {
            return Ok(());
        };
        // The head is no row: pipes leave it.
        let start = self.to.bytes.len();
        if self.marked {
            mark::row(&mut self.to.bytes, true);
        }
        render(t, &column_titles(t), &mut self.to.bytes, self.marked);
        end_line(&mut self.to.bytes, start);
        self.to.spill()
    }

    fn row_at(&mut self, at: usize, cells: &[Cell<'_>]) -> io::Result<()> {
        self.noted(at, cells);
        let Some(t) = self.tables.get_mut(at) else { return Ok(()) };
        if self.pipes.is_empty() {
            if self.format != Format::Text {
                return self.emit(at, cells);
            }
            let start = self.to.bytes.len();
            if self.marked {
                mark::row(&mut self.to.bytes, false);
            }
            render(t, cells, &mut self.to.bytes, self.marked);
            end_line(&mut self.to.bytes, start);
            return self.to.spill();
        }
        self.line.clear();
        render(t, cells, &mut self.line, false);
        let line = String::from_utf8_lossy(&self.line);
        if !pass(&self.pipes, &mut t.passed, &line) {
            return Ok(());
        }
        if self.format != Format::Text {
            return self.emit(at, cells);
        }
        let start = self.to.bytes.len();
        if self.marked {
            mark::row(&mut self.to.bytes, false);
            render(t, cells, &mut self.to.bytes, true);
        } else {
            self.to.bytes.extend_from_slice(&self.line);
        }
        end_line(&mut self.to.bytes, start);
        self.to.spill()
    }

    fn emit(&mut self, at: usize, cells: &[Cell<'_>]) -> io::Result<()> {
        let Some(t) = self.tables.get(at) else { return Ok(()) };
        self.data.row(t.number, cells, &mut self.to)
    }

    fn filled<'c, R: AsRef<[Cell<'c>]>>(
        &mut self,
        mut rows: impl Iterator<Item = R> + Clone,
        titles: bool,
    ) -> io::Result<()> {
        let lines = self.format == Format::Text || !self.pipes.is_empty();
        if let Some(t) = self.current.and_then(|c| self.tables.get_mut(c)).filter(|_| lines) {
            fit(t, rows.clone(), titles, self.marked);
        }
        if titles {
            self.titles()?;
        }
        rows.try_for_each(|r| self.row(r.as_ref()))
    }

    // Tables of commands that do not yet declare what they return.

    /// Starts a table whose rows follow with [`Out::row`] and stream at once. `name` is its key in JSON.
    /// With `header` the titles are printed first, aligned like the data.
    pub fn table(&mut self, name: &'static str, columns: &[Col], header: bool) -> io::Result<()> {
        self.undeclared(name, columns)?;
        if header { self.titles() } else { Ok(()) }
    }

    /// As [`Out::fill`] with these columns.
    pub fn rows(
        &mut self,
        name: &'static str,
        columns: &[Col],
        header: bool,
        rows: &[Vec<Cell<'_>>],
    ) -> io::Result<()> {
        self.undeclared(name, columns)?;
        self.filled(rows.iter(), header)
    }

    fn undeclared(&mut self, name: &'static str, columns: &[Col]) -> io::Result<()> {
        if let Some(before) = self.current {
            self.finish(before)?;
        }
        if self.format == Format::Text {
            // The one before it is needed no longer.
            self.tables.clear();
        }
        self.current = Some(self.add(name, columns));
        Ok(())
    }

    // The answer as a whole.

    /// Begins the answer to one command about the dump that is open.
    pub fn begin(&mut self, command: &str, dump: Option<&About>) {
        self.data.begin(command, dump);
        self.tables.clear();
        self.current = None;
    }

    /// Ends the answer to one command: outcome `complete`, `partial`, `empty` or `failed`, with its reason.
    pub fn end(&mut self, outcome: &'static str, reason: Option<&str>) -> io::Result<()> {
        if self.format == Format::Text {
            return self.to.flush();
        }
        self.data.end(Ending { outcome, reason }, &mut self.to)
    }
}

fn declared(columns: &[Col]) -> Vec<usize> {
    columns.iter().map(|c| usize::from(c.width)).collect()
}

fn column_titles(t: &Opened) -> Vec<Cell<'static>> {
    t.columns.iter().map(|c| Cell::text(c.title)).collect()
}

/// Makes the columns of width 0 as wide as their widest cell, and title, if titles are shown. The last one, on the left,
/// needs no width, unless a `window` has to share it out.
fn fit<'c, R: AsRef<[Cell<'c>]>>(t: &mut Opened, rows: impl Iterator<Item = R>, titles: bool, window: bool) {
    let last = t.columns.iter().rposition(|c| !c.data_only);
    let open = |(i, c): (usize, &Col)| {
        let fits = c.width > 0 || c.data_only || last == Some(i) && !c.right && !window;
        (!fits).then_some((i, if titles { c.title.len() } else { 0 }))
    };
    let mut widest: Vec<(usize, usize)> = t.columns.iter().enumerate().filter_map(open).collect();
    let mut scratch = Vec::new();
    for row in rows {
        for (i, width) in &mut widest {
            if let Some(cell) = row.as_ref().get(*i) {
                scratch.clear();
                *width = (*width).max(cell.push_text(&mut scratch));
            }
        }
    }
    for (i, width) in widest {
        t.widths[i] = width;
    }
}

/// Appends a row as text, `marked` for a terminal.
fn render(t: &Opened, cells: &[Cell<'_>], out: &mut Vec<u8>, marked: bool) {
    let mut first = true;
    for (i, cell) in cells.iter().enumerate() {
        let column = t.columns.get(i);
        if column.is_some_and(|c| c.data_only) {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            out.push(b' ');
        }
        let start = out.len();
        let width = t.widths.get(i).copied().unwrap_or(0);
        let marked = column.filter(|_| marked);
        if let Some(c) = marked {
            mark::begin(out, mark::Mark::of(c, cell), c.right, width);
        }
        let characters = cell.push_text(out);
        if marked.is_some() {
            mark::end(out);
        }
        let pad = width.saturating_sub(characters);
        if pad == 0 {
            continue;
        }
        let end = out.len();
        out.resize(end + pad, b' ');
        if column.is_some_and(|c| c.right) {
            out.copy_within(start..end, start + pad);
            out[start..start + pad].fill(b' ');
        }
    }
}

/// Takes the blanks off the end of the line that begins at `start`, and ends it.
fn end_line(out: &mut Vec<u8>, start: usize) {
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}
