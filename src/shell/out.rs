//! The one way out: commands hand over facts, rows and notes; text, JSON and CSV are renderings of the same.

use std::io::{self, Write};

use super::buffer::Buffer;
use super::data::{Data, Ending};
use super::layout::{column_titles, declared, end_line, fit, render};
use super::mark;
use super::page::Page;
use super::pipes::Pipe;
use super::pipes::kept::{Budget, MOST_BYTES};
use super::pipes::lines::{Line, Lines, Section};
use super::pipes::tables::Tables;
use super::prose::{self, Values};
use super::quote::{clean_lines, push_clean};
use super::recent::Recent;
use super::redact;
use super::returns::{Fact, Table, Type};
use crate::session::About;

pub use super::cell::Cell;
pub use super::data::Format;
use super::numbers::set_digits;
pub use super::numbers::{digits, narrow_digits, thousands};
pub use super::returns::Col;

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
    /// Where the pipes are in it.
    section: Section,
}

impl Opened {
    fn is(&self, t: &Table) -> bool {
        self.name == t.name
            && self.columns.len() == t.columns.len()
            && self.columns.iter().zip(t.columns).all(|(a, b)| std::ptr::eq(a.key, b.key) || a.key == b.key)
    }
}

/// The pipes behind the command.
enum Behind {
    Nothing,
    Lines(Lines),
    Tables(Tables),
}

/// The sink of one command.
pub struct Out {
    to: Buffer,
    format: Format,
    data: Data,
    tables: Vec<Opened>,
    /// The table opened last.
    current: Option<usize>,
    behind: Behind,
    /// A line as pipes see it, and as it is printed.
    line: Vec<u8>,
    printed: Vec<u8>,
    recent: Recent,
    mid_line: bool,
    /// Text gets marks for a terminal.
    marked: bool,
    /// Facts the command returns: what their values are.
    facts: Vec<&'static Fact>,
    /// Texts of the process and paths do not leave whole.
    redact: bool,
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
            behind: Behind::Nothing,
            line: Vec::new(),
            printed: Vec::new(),
            recent: Recent::default(),
            mid_line: false,
            marked: false,
            facts: Vec::new(),
            redact: false,
        }
    }

    /// Has the answer written as a spreadsheet.
    #[cfg(feature = "xlsx")]
    pub fn into_book(mut self, book: super::sheets::Book) -> Self {
        self.data.into_book(book);
        self
    }

    /// Keeps texts of the process and paths in, where columns and `facts` declare them; prose with them. Text as a
    /// format has no columns to tell by: it is refused before it comes here.
    pub fn redacted(mut self, on: bool, facts: Vec<&'static Fact>) -> Self {
        if on {
            (self.redact, self.facts) = (true, facts);
        }
        self
    }

    /// Marks values in text for [`super::screen`], the sink it goes to.
    pub fn marked(mut self, facts: Vec<&'static Fact>) -> Self {
        self.marked = true;
        self.facts = facts;
        self
    }

    /// Gives a part of the answer alone, where answers are JSON.
    pub fn paged(mut self, page: Option<Page>) -> Self {
        if let Some(page) = page {
            self.data.set_page(page);
        }
        self
    }

    /// Puts pipes behind everything written from now on.
    pub fn set_pipes(&mut self, pipes: Vec<Pipe>) {
        self.set_pipes_within(pipes, MOST_BYTES);
    }

    /// As [`Out::set_pipes`], where the pipes may keep so many bytes.
    pub fn set_pipes_within(&mut self, pipes: Vec<Pipe>, most: usize) {
        let budget = Budget::of(most);
        self.behind = match pipes.iter().all(Pipe::takes_lines) {
            true if pipes.is_empty() => Behind::Nothing,
            true => Behind::Lines(Lines::new(pipes, budget)),
            false => Behind::Tables(Tables::new(pipes, self.marked, budget)),
        };
    }

    /// The rendering chosen by the user.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether values are looked at that text does not show: whole names, whole strings.
    pub fn wants_data(&self) -> bool {
        self.format != Format::Text || !matches!(self.behind, Behind::Nothing)
    }

    /// Addresses printed last, oldest first.
    pub fn recent(&self) -> Vec<u64> {
        self.recent.all()
    }

    // Prose.

    /// A line of prose: a heading, a sentence. It stands under `notes` in JSON; CSV leaves it out. What it says of the
    /// dump stands in facts or rows too.
    pub fn note(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        if self.redact {
            return Ok(());
        }
        if self.format == Format::Text {
            return self.text_with(text, self.current, None, Values::Prose);
        }
        match self.behind {
            Behind::Nothing => self.data.note(text),
            Behind::Lines(_) => return self.through(self.current, text, None),
            Behind::Tables(_) => {}
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
        if self.format == Format::Text {
            let whole = format!("{head}{text}");
            return self.text_with(&whole, self.current, None, Values::Behind(head, text));
        }
        Ok(())
    }

    /// A line of text, or several, of a table's section; only in text. A terminal is told where values stand in it. `row`
    /// is the table whose row it is, and the cells.
    fn text_with(
        &mut self,
        text: &str,
        section: Option<usize>,
        row: Option<(usize, &[Cell<'_>])>,
        values: Values<'_>,
    ) -> io::Result<()> {
        let values = if self.marked { values } else { Values::Unmarked };
        match self.behind {
            Behind::Nothing => {
                prose::push(&mut self.to.bytes, &mut self.line, text, values);
                self.to.spill()
            }
            Behind::Lines(_) => {
                self.printed.clear();
                prose::push(&mut self.printed, &mut self.line, text, values);
                self.through(section, text, row)
            }
            Behind::Tables(_) => Ok(()),
        }
    }

    /// A line through the pipes of a table's section, as they see it; in text, it is printed as `self.printed` has it.
    /// `row` is the table whose row it is, and the cells.
    fn through(&mut self, section: Option<usize>, text: &str, row: Option<(usize, &[Cell<'_>])>) -> io::Result<()> {
        let Out { behind, tables, data, to, format, printed, .. } = self;
        let Behind::Lines(lines) = behind else { return Ok(()) };
        let row = row.map(|(at, cells)| (tables.get(at).map_or(0, |t| t.number), cells));
        let section = section.and_then(|s| tables.get_mut(s)).map(|t| &mut t.section);
        let line = Line { text, printed, row };
        lines.push(section, line, &mut |line| deliver(line, *format, data, to))
    }

    /// Ends a table's section of lines, or that before any table: what the pipes kept of it goes on.
    fn end_section(&mut self, section: Option<usize>, rising: bool) -> io::Result<()> {
        let Out { behind, tables, data, to, format, .. } = self;
        let Behind::Lines(lines) = behind else { return Ok(()) };
        let section = section.and_then(|s| tables.get_mut(s)).map(|t| &mut t.section);
        lines.end(section, rising, &mut |line| deliver(line, *format, data, to))
    }

    /// Text as it is, without a line end of its own. Under `notes` in JSON; CSV leaves it out. Pipes see whole lines only
    /// and pass it.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            _ if self.redact => Ok(()),
            _ if matches!(self.behind, Behind::Tables(_)) => Ok(()),
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
        self.text_with(line.as_ref(), self.current, None, Values::Those(&values))
    }

    /// A fact that text does not print, or prints with something else.
    pub fn datum(&mut self, key: &'static str, value: &Cell<'_>) {
        self.recent.add(std::slice::from_ref(value));
        if self.redact {
            // What nobody declared may be anything.
            let ty = self.facts.iter().find(|f| f.key == key).map_or(Type::Content, |f| f.ty);
            let hidden = redact::cell(ty, value);
            return self.data.fact(key, hidden.as_ref().unwrap_or(value));
        }
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
        if matches!(self.behind, Behind::Lines(_)) {
            self.end_section(self.current, false)?;
            self.end_section(Some(at), table.rising.is_some())?;
        }
        if let Some(t) = self.tables.get_mut(at) {
            t.widths = declared(&t.columns);
        }
        self.current = Some(at);
        Ok(())
    }

    /// Whether the pipes fit a table with these columns, which is still to be opened; the error says why not.
    pub fn accepts(&self, table: &Table, columns: &[Col]) -> io::Result<()> {
        match &self.behind {
            Behind::Tables(tables) => tables.accepts(table.name, columns),
            _ => Ok(()),
        }
    }

    /// Opens a table whose columns vary with these, as wide as its first rows need and not wider than `most`.
    pub fn open_with(
        &mut self,
        table: &Table,
        columns: &[Col],
        first: &[Vec<Cell<'_>>],
        most: usize,
    ) -> io::Result<()> {
        let at = self.add(table.name, columns, table.rising.is_some(), true);
        self.current = Some(at);
        let marked = self.marked;
        if let Some(t) = self.tables.get_mut(at) {
            fit(&t.columns, &mut t.widths, first.iter(), true, marked);
            t.widths.iter_mut().for_each(|w| *w = (*w).min(most));
        }
        self.titles()
    }

    /// As [`Out::open`], with the titles as a command has them.
    pub fn open_as(&mut self, table: &Table, titles: &str) -> io::Result<()> {
        self.open_bare(table)?;
        if !self.shows_titles() {
            return Ok(());
        }
        // The head is no row: pipes leave it, those that look at values have their own.
        let (above, titles) = titles.rsplit_once('\n').map_or((None, titles), |(a, t)| (Some(a), t));
        for line in above.into_iter().flat_map(|a| a.split('\n')) {
            let start = self.to.bytes.len();
            // Where the titles give way to those of the columns, nothing stands above them.
            if self.marked {
                mark::row(&mut self.to.bytes, true);
            }
            push_clean(&mut self.to.bytes, line);
            if self.marked {
                mark::or_titles(&mut self.to.bytes);
            }
            end_line(&mut self.to.bytes, start);
        }
        let start = self.to.bytes.len();
        if self.marked {
            mark::row(&mut self.to.bytes, true);
        }
        push_clean(&mut self.to.bytes, titles);
        if let Some(t) = self.current.and_then(|c| self.tables.get(c)).filter(|_| self.marked) {
            mark::or_titles(&mut self.to.bytes);
            // Titles of some such tables are written for the reference: where one is too long, its key is what pipes call it.
            let fits = |c: &&Col| !c.title.is_empty() && c.title.len() <= usize::from(c.width).max(c.key.len());
            let named = |c| Cell::text(Some(c).filter(fits).map_or(c.key, |c| c.title));
            let keys: Vec<Cell<'_>> = t.columns.iter().map(named).collect();
            render(&t.columns, &t.widths, &keys, &mut self.to.bytes, true);
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
        match (&mut self.behind, self.tables.get(at)) {
            (Behind::Tables(tables), _) => tables.done(at, self.format, &mut self.data, &mut self.to),
            (_, Some(t)) if self.format != Format::Text => self.data.done(t.number, &mut self.to),
            _ => Ok(()),
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
        let hidden = self.hidden(at, cells);
        let cells = hidden.as_deref().unwrap_or(cells);
        match (&self.behind, self.format) {
            (Behind::Tables(_), _) => self.emit(at, cells),
            (_, Format::Text) if self.marked => {
                let types: Vec<Type> =
                    self.tables.get(at).map(|t| t.columns.iter().map(|c| c.ty).collect()).unwrap_or_default();
                let values: Vec<(Type, &Cell<'_>)> = types.into_iter().zip(cells).collect();
                self.text_with(line.as_ref(), Some(at), Some((at, cells)), Values::Those(&values))
            }
            (_, Format::Text) => self.text_with(line.as_ref(), Some(at), Some((at, cells)), Values::Unmarked),
            (Behind::Lines(_), _) => self.through(Some(at), line.as_ref(), Some((at, cells))),
            (Behind::Nothing, _) => self.emit(at, cells),
        }
    }

    /// One row that text does not print: what it says stands in lines around it.
    pub fn data_row(&mut self, table: &Table, cells: &[Cell<'_>]) -> io::Result<()> {
        let at = self.enter(table, cells);
        let hidden = self.hidden(at, cells);
        let cells = hidden.as_deref().unwrap_or(cells);
        let silent = self.format == Format::Text && !matches!(self.behind, Behind::Tables(_));
        if silent { Ok(()) } else { self.emit(at, cells) }
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

    /// The row as it may leave, where that is not as it is.
    fn hidden<'c>(&self, at: usize, cells: &[Cell<'c>]) -> Option<Vec<Cell<'c>>> {
        let columns = &self.tables.get(at).filter(|_| self.redact)?.columns;
        let ty = |i: usize| columns.get(i).map_or(Type::Content, |c| c.ty);
        let cell = |(i, c): (usize, &Cell<'c>)| redact::cell(ty(i), c).unwrap_or_else(|| c.clone());
        Some(cells.iter().enumerate().map(cell).collect())
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
        known.unwrap_or_else(|| self.add(table.name, table.columns, table.rising.is_some(), true))
    }

    fn add(&mut self, name: &'static str, columns: &[Col], rising: bool, says: bool) -> usize {
        let number = match &mut self.behind {
            Behind::Tables(tables) => {
                tables.open(name, columns, rising, says, &mut self.data, self.format);
                0
            }
            _ if self.format == Format::Text => 0,
            _ => self.data.table(name, columns.iter().map(|c| c.key)),
        };
        self.tables.push(Opened {
            name,
            columns: columns.to_vec(),
            widths: declared(columns),
            number,
            rows: 0,
            section: Section::default(),
        });
        self.tables.len() - 1
    }

    fn shows_titles(&self) -> bool {
        self.format == Format::Text && !matches!(self.behind, Behind::Tables(_))
    }

    fn titles(&mut self) -> io::Result<()> {
        let Some(t) = self.current.and_then(|c| self.tables.get(c)).filter(|_| self.shows_titles()) else {
            return Ok(());
        };
        // The head is no row: pipes leave it.
        let start = self.to.bytes.len();
        if self.marked {
            mark::row(&mut self.to.bytes, true);
        }
        render(&t.columns, &t.widths, &column_titles(&t.columns), &mut self.to.bytes, self.marked);
        end_line(&mut self.to.bytes, start);
        self.to.spill()
    }

    fn row_at(&mut self, at: usize, cells: &[Cell<'_>]) -> io::Result<()> {
        self.noted(at, cells);
        let hidden = self.hidden(at, cells);
        let cells = hidden.as_deref().unwrap_or(cells);
        let Some(t) = self.tables.get(at) else { return Ok(()) };
        match (&self.behind, self.format) {
            (Behind::Nothing, Format::Text) => {
                print_row(t, cells, &mut self.to.bytes, self.marked);
                self.to.spill()
            }
            (Behind::Lines(_), format) => {
                self.line.clear();
                render(&t.columns, &t.widths, cells, &mut self.line, false);
                self.printed.clear();
                if format == Format::Text {
                    print_row(t, cells, &mut self.printed, self.marked);
                }
                let line = std::mem::take(&mut self.line);
                let through = self.through(Some(at), &String::from_utf8_lossy(&line), Some((at, cells)));
                self.line = line;
                self.line.clear();
                through
            }
            _ => self.emit(at, cells),
        }
    }

    fn emit(&mut self, at: usize, cells: &[Cell<'_>]) -> io::Result<()> {
        if let Behind::Tables(tables) = &mut self.behind {
            return tables.row(at, cells, self.format, &mut self.data, &mut self.to);
        }
        let Some(t) = self.tables.get(at) else { return Ok(()) };
        self.data.row(t.number, cells.iter(), &mut self.to)
    }

    fn filled<'c, R: AsRef<[Cell<'c>]>>(
        &mut self,
        mut rows: impl Iterator<Item = R> + Clone,
        titles: bool,
    ) -> io::Result<()> {
        let lines = self.shows_titles() || matches!(self.behind, Behind::Lines(_));
        if let Some(t) = self.current.and_then(|c| self.tables.get_mut(c)).filter(|_| lines) {
            fit(&t.columns, &mut t.widths, rows.clone(), titles, self.marked);
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
        self.end_section(self.current, false)?;
        if let Some(before) = self.current {
            self.finish(before)?;
        }
        if self.shows_titles() {
            // The one before it is needed no longer.
            self.tables.clear();
        }
        self.current = Some(self.add(name, columns, false, false));
        Ok(())
    }

    // Big tables.

    /// What makes text of the rows of the table opened last on other threads, where rows are text and nothing else: without
    /// pipes and not for a terminal.
    pub fn row_text(&self) -> Option<RowText> {
        let plain = self.format == Format::Text && !self.marked && matches!(self.behind, Behind::Nothing);
        let t = self.current.and_then(|c| self.tables.get(c)).filter(|_| plain)?;
        Some(RowText { columns: t.columns.clone(), widths: t.widths.clone(), digits: digits() })
    }

    /// Rows of the table opened last, as [`RowText`] has made text of them. Addresses of the last ones are to be told to
    /// [`Out::printed_addresses`].
    pub fn rendered(&mut self, text: &[u8], rows: u64) -> io::Result<()> {
        if let Some(t) = self.current.and_then(|c| self.tables.get_mut(c)) {
            t.rows += rows;
        }
        self.to.pass(text)
    }

    /// Takes note of addresses in rows that were rendered.
    pub fn printed_addresses(&mut self, cells: &[Cell<'_>]) {
        self.recent.add(cells);
    }

    /// Makes the columns of the table opened last as wide as these rows need: the widest of those that follow.
    pub fn widen(&mut self, widest: &[&[Cell<'_>]]) {
        let marked = self.marked;
        if let Some(t) = self.current.and_then(|c| self.tables.get_mut(c)) {
            fit(&t.columns, &mut t.widths, widest.iter(), false, marked);
        }
    }

    // The answer as a whole.

    /// Begins the answer to one command about the dump that is open.
    pub fn begin(&mut self, command: &str, dump: Option<&About>) {
        self.data.begin(command, dump);
        self.tables.clear();
        self.current = None;
    }

    /// Lets go on what pipes have kept: the command is done. An error says that no table has the columns they name.
    pub fn settle(&mut self) -> io::Result<()> {
        match &mut self.behind {
            Behind::Nothing => Ok(()),
            Behind::Lines(_) => {
                self.end_section(None, false)?;
                (0..self.tables.len()).try_for_each(|t| self.end_section(Some(t), false))
            }
            Behind::Tables(tables) => tables.settle(self.format, &mut self.data, &mut self.to),
        }
    }

    /// Whether pipes that need one met no table.
    pub fn lacks_tables(&self) -> bool {
        matches!(&self.behind, Behind::Tables(tables) if tables.is_empty())
    }

    /// Says why the answer is not whole, whatever the pipes pass; only in text.
    pub fn partial(&mut self, why: &str) -> io::Result<()> {
        if self.format != Format::Text {
            return Ok(());
        }
        // What has gone through the pipes stands before it.
        self.data.end(Ending { outcome: "partial", reason: Some(why) }, &mut self.to)?;
        let values = if self.marked { Values::Prose } else { Values::Unmarked };
        prose::push(&mut self.to.bytes, &mut self.line, &format!("partial: {why}"), values);
        self.to.spill()
    }

    /// Ends the answer to one command: outcome `complete`, `partial`, `empty` or `failed`, with its reason.
    pub fn end(&mut self, outcome: &'static str, reason: Option<&str>) -> io::Result<()> {
        let hidden = reason.filter(|_| self.redact).map(redact::prose);
        let reason = hidden.as_deref().or(reason);
        // In text the data holds what has gone through pipes, if anything.
        self.data.end(Ending { outcome, reason }, &mut self.to)
    }
}

/// Makes text of rows of one table, on any thread.
#[derive(Debug, Clone)]
pub struct RowText {
    columns: Vec<Col>,
    widths: Vec<usize>,
    digits: usize,
}

impl RowText {
    /// Has this thread write addresses as wide as the shell's does.
    pub fn begin(&self) {
        set_digits(self.digits);
    }

    /// Appends a row as a line.
    pub fn push(&self, cells: &[Cell<'_>], out: &mut Vec<u8>) {
        let start = out.len();
        render(&self.columns, &self.widths, cells, out, false);
        end_line(out, start);
    }
}

/// A row as a line of text, `marked` for a terminal.
fn print_row(t: &Opened, cells: &[Cell<'_>], out: &mut Vec<u8>, marked: bool) {
    let start = out.len();
    if marked {
        mark::row(out, false);
    }
    render(&t.columns, &t.widths, cells, out, marked);
    end_line(out, start);
}

/// Hands on a line that came through.
fn deliver(line: Line<'_>, format: Format, data: &mut Data, to: &mut Buffer) -> io::Result<()> {
    match (format, line.row) {
        (Format::Text, _) => {
            to.bytes.extend_from_slice(line.printed);
            to.spill()
        }
        (_, Some((number, cells))) => data.row(number, cells.iter(), to),
        (_, None) => {
            data.note(line.text);
            Ok(())
        }
    }
}
