//! An answer as data: JSON, one object, or CSV, one block a table; behind pipes text too is one block a table. Rows are
//! written as they come where they can be.

use std::io;

use super::buffer::Buffer;
use super::cell::Cell;
use super::layout::Layout;
use super::numbers::{push_decimal, rfc3339};
use super::page::{self, Page};
use super::pipes::push_whole;
use super::quote::{push_csv, push_json};
use crate::session::About;

/// How results are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// WinDbg-like text.
    #[default]
    Text,
    /// JSON, one object a command.
    Json,
    /// CSV, one block a table.
    Csv,
}

/// Version of the JSON answer's shape. It grows when something is taken away or changes its meaning.
pub const SCHEMA: u64 = 1;

/// Bytes of a table that are kept back before the table begins to stream: several small tables keep their order, and one
/// big one no memory.
const KEPT: usize = 1 << 16;
/// As [`KEPT`] in text: someone may sit before it, and what is kept decides the widths of columns.
const KEPT_TEXT: usize = 1 << 13;
/// Most notes kept.
const MOST_NOTES: usize = 1 << 20;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending<'a> {
    /// `complete`, `partial`, `empty` or `failed`.
    pub outcome: &'static str,
    /// Why it is partial or failed.
    pub reason: Option<&'a str>,
}

/// Where a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its rows are kept.
    Kept,
    /// Its rows go to the sink.
    Streaming,
    /// It is in the sink, whole.
    Written,
}

#[derive(Debug)]
struct Open {
    /// What stands before its rows: `{"name":...,"rows":[`, or the line of keys.
    head: Vec<u8>,
    /// How its rows become lines of text.
    layout: Option<Layout>,
    /// Rows kept.
    rows: Vec<u8>,
    count: u64,
    /// Rows that were written: all of them, or those of the page.
    given: u64,
    place: Place,
    /// No rows will come.
    done: bool,
}

/// One answer being written as JSON or CSV, or as text behind pipes.
#[derive(Debug)]
pub struct Data {
    format: Format,
    json: bool,
    open: bool,
    /// `{"schema":...,"dump":...,"command":...`.
    head: Vec<u8>,
    head_written: bool,
    tables: Vec<Open>,
    /// Tables that stand in the sink, the streaming one among them.
    begun: usize,
    streaming: Option<usize>,
    /// The tables before this one stand in the sink, whole.
    whole: usize,
    /// Bytes of rows of tables that are done and not yet written.
    kept: usize,
    facts: Vec<u8>,
    keys: Vec<&'static str>,
    notes: Vec<u8>,
    notes_count: usize,
    /// The part of the answer that is given, where it is not all of it.
    page: Option<Page>,
}

impl Data {
    /// An answer in this format.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            json: format == Format::Json,
            open: false,
            head: Vec::new(),
            head_written: false,
            tables: Vec::new(),
            begun: 0,
            streaming: None,
            whole: 0,
            kept: 0,
            facts: Vec::new(),
            keys: Vec::new(),
            notes: Vec::new(),
            notes_count: 0,
            page: None,
        }
    }

    /// Gives a part of the answer alone; JSON only.
    pub fn set_page(&mut self, page: Page) {
        self.page = Some(page).filter(|_| self.json);
    }

    /// Begins the answer to `command` about `dump`.
    pub fn begin(&mut self, command: &str, dump: Option<&About>) {
        let json = self.json;
        *self = Self { page: self.page.take(), ..Self::new(self.format) };
        self.open = true;
        if json {
            self.head.extend_from_slice(b"{\"schema\":");
            push_decimal(&mut self.head, SCHEMA);
            self.head.extend_from_slice(b",\"dump\":");
            push_about(&mut self.head, dump);
            self.head.extend_from_slice(b",\"command\":");
            push_json(&mut self.head, command);
        }
    }

    /// A new table; the number by which its rows are added.
    pub fn table<'k>(&mut self, name: &str, keys: impl ExactSizeIterator<Item = &'k str>) -> usize {
        let mut head = Vec::new();
        if self.json {
            head.extend_from_slice(b"{\"name\":");
            push_json(&mut head, name);
            head.extend_from_slice(b",\"columns\":[");
            separated(&mut head, keys, push_json);
            head.extend_from_slice(b"],\"rows\":[");
        } else {
            let alone = keys.len() == 1;
            separated(&mut head, keys, |out, key| push_csv(out, key, alone));
            head.push(b'\n');
        }
        self.add(head, None)
    }

    /// As [`Data::table`], in text.
    pub fn text_table(&mut self, layout: Layout) -> usize {
        self.add(Vec::new(), Some(layout))
    }

    fn add(&mut self, head: Vec<u8>, layout: Option<Layout>) -> usize {
        self.tables.push(Open { head, layout, rows: Vec::new(), count: 0, given: 0, place: Place::Kept, done: false });
        self.tables.len() - 1
    }

    /// Adds a row to a table.
    pub fn row<'c>(
        &mut self,
        table: usize,
        cells: impl ExactSizeIterator<Item = &'c Cell<'c>>,
        to: &mut Buffer,
    ) -> io::Result<()> {
        let Some(t) = self.tables.get_mut(table).filter(|t| t.place != Place::Written) else {
            return Err(io::Error::other("a row for a table that was said to be done"));
        };
        let streams = t.place == Place::Streaming;
        if let Some(page) = &self.page {
            t.count += 1;
            if page.takes(t.count - 1, t.given) {
                let out = if streams { &mut to.bytes } else { &mut t.rows };
                let start = out.len();
                out.extend_from_slice(if t.given > 0 { b",[" } else { b"[" });
                separated(out, cells, |out, c| page.push(c, out));
                out.push(b']');
                match page.room_for(out.len() - start) {
                    true => t.given += 1,
                    false => out.truncate(start),
                }
            }
            return if streams { to.spill() } else { Ok(()) };
        }
        if let Some(layout) = &mut t.layout {
            layout.pack(cells, &mut t.rows, push_whole);
            if streams {
                layout.row(&t.rows, &mut to.bytes);
                t.rows.clear();
            }
        } else {
            let out = if streams { &mut to.bytes } else { &mut t.rows };
            if self.json {
                out.extend_from_slice(if t.count > 0 { b",[" } else { b"[" });
                separated(out, cells, |out, c| c.push_json(out));
                out.push(b']');
            } else {
                let alone = cells.len() == 1;
                separated(out, cells, |out, c| c.push_csv(out, alone));
                out.push(b'\n');
            }
        }
        t.count += 1;
        if streams {
            return to.spill();
        }
        let most = if t.layout.is_some() { KEPT_TEXT } else { KEPT };
        if t.rows.len() > most && self.streaming.is_none() {
            self.stream(table, to)?;
        }
        Ok(())
    }

    /// Lets a table stream. What is finished before it keeps its place before it.
    fn stream(&mut self, table: usize, to: &mut Buffer) -> io::Result<()> {
        self.write_all(table, true, to)?;
        self.start(table, to)
    }

    /// Writes the head of a table and the rows kept.
    fn start(&mut self, table: usize, to: &mut Buffer) -> io::Result<()> {
        if self.json && !self.head_written {
            self.head_written = true;
            to.bytes.append(&mut self.head);
            to.bytes.extend_from_slice(b",\"tables\":[");
        }
        if self.begun > 0 {
            to.bytes.push(if self.json { b',' } else { b'\n' });
        }
        self.begun += 1;
        self.streaming = Some(table);
        if let Some(t) = self.tables.get_mut(table) {
            t.place = Place::Streaming;
            match &mut t.layout {
                Some(layout) => layout.begin(&t.rows, &mut to.bytes),
                None => {
                    to.bytes.append(&mut t.head);
                    to.bytes.append(&mut t.rows);
                }
            }
            // The table is no longer kept: neither is the memory.
            t.rows = Vec::new();
        }
        to.spill()
    }

    /// Ends the table that streams.
    fn stop(&mut self, to: &mut Buffer) {
        let Some(t) = self.streaming.take().and_then(|i| self.tables.get_mut(i)) else { return };
        t.place = Place::Written;
        if self.json {
            to.bytes.push(b']');
            if let Some(page) = &self.page {
                page.push_total(t.count, &mut to.bytes);
            }
            to.bytes.push(b'}');
        }
    }

    /// Writes the tables before `end` that are kept, or those of them that are done.
    fn write_all(&mut self, end: usize, done: bool, to: &mut Buffer) -> io::Result<()> {
        for i in self.whole..end {
            if self.tables.get(i).is_some_and(|t| t.place == Place::Kept && (t.done || !done)) {
                self.start(i, to)?;
                self.stop(to);
            }
        }
        while self.tables.get(self.whole).is_some_and(|t| t.place == Place::Written) {
            self.whole += 1;
        }
        self.kept = 0;
        Ok(())
    }

    /// Says that a table gets no more rows. Another one may stream then.
    pub fn done(&mut self, table: usize, to: &mut Buffer) -> io::Result<()> {
        if let Some(t) = self.tables.get_mut(table).filter(|t| !t.done) {
            t.done = true;
            self.kept += t.rows.len();
        }
        if self.streaming == Some(table) {
            self.stop(to);
        }
        // Many small tables are as big as a big one.
        if self.kept > KEPT && self.streaming.is_none() {
            self.write_all(self.tables.len(), true, to)?;
        }
        Ok(())
    }

    /// A fact. Each key occurs once.
    pub fn fact(&mut self, key: &'static str, cell: &Cell<'_>) {
        debug_assert!(!self.keys.contains(&key), "the fact {key} is given twice");
        if self.keys.contains(&key) {
            return;
        }
        if self.json {
            if !self.keys.is_empty() {
                self.facts.push(b',');
            }
            push_json(&mut self.facts, key);
            self.facts.push(b':');
            match &self.page {
                // There are few of them, and each is short: they have room whatever the rows took.
                Some(page) => page.push(cell, &mut self.facts),
                None => cell.push_json(&mut self.facts),
            }
        } else {
            push_csv(&mut self.facts, key, false);
            self.facts.push(b',');
            cell.push_csv(&mut self.facts, false);
            self.facts.push(b'\n');
        }
        self.keys.push(key);
    }

    /// Prose: each line of it that says something. CSV has no place for it.
    pub fn note(&mut self, text: &str) {
        if !self.json {
            return;
        }
        let most = self.page.as_ref().map_or(MOST_NOTES, |_| page::NOTES);
        for line in text.split('\n').map(str::trim).filter(|l| !l.is_empty()) {
            self.notes_count += 1;
            if self.notes_count > most + 1 {
                return;
            }
            if self.notes_count > 1 {
                self.notes.push(b',');
            }
            match &self.page {
                _ if self.notes_count > most => push_json(&mut self.notes, "further lines are left out"),
                Some(page) => push_json(&mut self.notes, &page.line(line)),
                None => push_json(&mut self.notes, line),
            }
        }
    }

    /// Ends the answer and hands it over.
    pub fn end(&mut self, ending: Ending<'_>, to: &mut Buffer) -> io::Result<()> {
        if !std::mem::replace(&mut self.open, false) {
            return to.flush();
        }
        self.stop(to);
        match self.format {
            Format::Json => self.end_json(ending, to)?,
            Format::Csv => self.end_csv(to)?,
            Format::Text => self.write_all(self.tables.len(), false, to)?,
        }
        to.flush()
    }

    fn end_json(&mut self, ending: Ending<'_>, to: &mut Buffer) -> io::Result<()> {
        // Once a table has streamed the tables stand before the outcome, else behind it: an object has no order.
        let streamed = self.head_written;
        if streamed {
            self.write_all(self.tables.len(), false, to)?;
            to.bytes.push(b']');
        } else {
            self.head_written = true;
            to.bytes.append(&mut self.head);
        }
        to.bytes.extend_from_slice(b",\"outcome\":");
        push_json(&mut to.bytes, ending.outcome);
        to.bytes.extend_from_slice(b",\"reason\":");
        Cell::maybe(ending.reason).push_json(&mut to.bytes);
        to.bytes.extend_from_slice(b",\"facts\":{");
        to.bytes.append(&mut self.facts);
        to.bytes.push(b'}');
        if !streamed {
            to.bytes.extend_from_slice(b",\"tables\":[");
            self.write_all(self.tables.len(), false, to)?;
            to.bytes.push(b']');
        }
        to.bytes.extend_from_slice(b",\"notes\":[");
        to.bytes.append(&mut self.notes);
        to.bytes.extend_from_slice(b"]}\n");
        Ok(())
    }

    fn end_csv(&mut self, to: &mut Buffer) -> io::Result<()> {
        // A spreadsheet wants one table: facts are one only where there is no other.
        if self.tables.is_empty() && !self.keys.is_empty() {
            to.bytes.extend_from_slice(b"fact,value\n");
            to.bytes.append(&mut self.facts);
        }
        self.write_all(self.tables.len(), false, to)
    }
}

fn separated<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, one: impl Fn(&mut Vec<u8>, T)) {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        one(out, item);
    }
}

/// Which dump the answer is about.
fn push_about(out: &mut Vec<u8>, dump: Option<&About>) {
    let Some(d) = dump else { return out.extend_from_slice(b"null") };
    let moment = |t: Option<u64>| Cell::maybe(t.map(rfc3339));
    let members: [(&str, Cell<'_>); 10] = [
        ("file", Cell::text(&d.file)),
        ("size", Cell::Num(d.size)),
        ("os", Cell::text(d.os)),
        ("arch", Cell::text(d.arch)),
        ("pid", d.pid.map_or(Cell::None, Cell::Num)),
        ("process", Cell::maybe(d.process.as_deref())),
        ("time", moment(d.time)),
        ("file_time", moment(d.file_time)),
        ("runtime", Cell::maybe(d.runtime.as_deref())),
        ("runtime_build", Cell::maybe(d.runtime_build.as_deref())),
    ];
    out.push(b'{');
    separated(out, &members, |out, (key, value)| {
        push_json(out, key);
        out.push(b':');
        value.push_json(out);
    });
    out.push(b'}');
}
