//! Answers as a spreadsheet (`-o FILE.xlsx`): a sheet a table, numbers as numbers, addresses as text.
//!
//! Rows go to a file of their own as they come, so no table is too big for memory; the file is put together at the end.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rust_xlsxwriter::{ConditionalFormatDataBar, Format, Workbook, Worksheet, XlsxError};

use super::cell::Cell;
use super::quote::acts;

/// Rows of a sheet with its head, and characters of a cell: no more fit the format.
const MOST_ROWS: u32 = 1 << 20;
const MOST_TEXT: usize = 32_767;
/// Columns wider than this are cut by the window.
const MOST_WIDTH: usize = 60;
const LEAST_WIDTH: usize = 8;
/// Rows whose texts decide how wide a column is.
const MEASURED: u32 = 200;

/// A value of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A number too big to be one of a spreadsheet without loss, an address, any text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// Nothing.
    None,
}

/// A whole number above this is not exact as a spreadsheet has numbers.
const EXACT: u64 = 1 << 53;

impl Value {
    /// A number, or its digits where it would not be exact.
    pub fn number(n: u64) -> Self {
        if n <= EXACT { Value::Number(n as f64) } else { Value::Text(n.to_string()) }
    }

    /// What a cell of an answer is.
    pub fn of(cell: &Cell<'_>) -> Self {
        match cell {
            Cell::Num(n) | Cell::Sep(n) | Cell::As(_, n) => Value::number(*n),
            Cell::Int(n) if n.unsigned_abs() <= EXACT => Value::Number(*n as f64),
            Cell::Float(x) | Cell::Percent(x) if x.is_finite() => Value::Number(*x),
            Cell::Float(_) | Cell::Percent(_) | Cell::None => Value::None,
            Cell::Bool(b) | Cell::Either(b, ..) => Value::Bool(*b),
            Cell::Shown(_, value) => Value::of(value),
            Cell::Text(t) => Value::Text(t.clone().into_owned()),
            other => {
                let mut text = Vec::new();
                other.push_json(&mut text);
                let text = String::from_utf8_lossy(&text);
                Value::Text(serde_json::from_str(&text).unwrap_or_else(|_| text.trim_matches('"').to_owned()))
            }
        }
    }
}

/// One table: the sheet it is in now, and what was written of it.
struct Sheet {
    name: String,
    keys: Vec<String>,
    /// Index of its sheet among all.
    at: usize,
    row: u32,
    /// How many sheets it has filled.
    full: u32,
    widths: Vec<usize>,
    numbers: Vec<bool>,
}

/// A spreadsheet being written.
pub struct Book {
    book: Workbook,
    path: PathBuf,
    sheets: Vec<Sheet>,
    names: HashSet<String>,
    count: usize,
    facts: Vec<(String, Value)>,
    head: Format,
    plain: Format,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("path", &self.path).field("sheets", &self.count).finish_non_exhaustive()
    }
}

impl Book {
    /// A spreadsheet that will be written to `path`.
    pub fn create(path: &Path) -> Self {
        Self {
            book: Workbook::new(),
            path: path.to_owned(),
            sheets: Vec::new(),
            names: HashSet::new(),
            count: 0,
            facts: Vec::new(),
            head: Format::new().set_bold(),
            plain: Format::new().set_num_format("#,##0.##"),
        }
    }

    /// A new table; the number by which its rows are added.
    pub fn table(&mut self, name: &str, keys: &[&str]) -> usize {
        let widths = keys.iter().map(|k| k.len() + 3).collect();
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        let numbers = vec![false; keys.len()];
        self.sheets.push(Sheet { name: name.to_owned(), keys, widths, numbers, ..Sheet::default() });
        self.sheets.len() - 1
    }

    /// Begins a sheet of a table.
    fn begin(&mut self, sheet: &mut Sheet) -> Result<()> {
        let name = self.free_name(&sheet.name, sheet.full);
        let at = self.count;
        let new = self.book.add_worksheet_with_constant_memory()?;
        new.set_name(name)?;
        new.set_freeze_panes(1, 0)?;
        for (i, key) in sheet.keys.iter().enumerate() {
            new.write_string_with_format(0, i as u16, clean(&key.replace('_', " ")), &self.head)?;
        }
        (sheet.at, sheet.row) = (at, 1);
        self.count += 1;
        Ok(())
    }

    /// A name no other sheet has: 31 characters at most, none of `[]:*?/\`, whatever their case.
    fn free_name(&mut self, name: &str, part: u32) -> String {
        let plain: String = name.chars().map(|c| if "[]:*?/\\'".contains(c) || acts(c) { ' ' } else { c }).collect();
        let plain = if plain.trim().is_empty() { "table" } else { plain.trim() };
        let mut n = part;
        loop {
            let tail = if n == 0 { String::new() } else { format!(" {}", n + 1) };
            let cut: String = plain.chars().take(31 - tail.len()).collect();
            let whole = cut.trim_end().to_owned() + &tail;
            if self.names.insert(whole.to_lowercase()) {
                return whole;
            }
            n += 1;
        }
    }

    /// A row of a table. Where its sheet is full it goes on in a further one.
    pub fn row(&mut self, table: usize, values: impl Iterator<Item = Value>) -> Result<()> {
        let Some(mut sheet) = self.sheets.get_mut(table).map(std::mem::take) else { return Ok(()) };
        match sheet.row {
            // Its first sheet is made with its first row: a table without rows has none.
            0 => self.begin(&mut sheet)?,
            MOST_ROWS.. => {
                self.end_sheet(&sheet)?;
                sheet.full += 1;
                self.begin(&mut sheet)?;
            }
            _ => {}
        }
        let to = self.book.worksheet_from_index(sheet.at)?;
        for (i, value) in values.enumerate() {
            write(to, sheet.row, i, &value, &self.plain)?;
            let wide = match &value {
                Value::Number(_) => 16,
                Value::Text(t) if sheet.row < MEASURED => t.chars().take(MOST_WIDTH).count() + 2,
                _ => 0,
            };
            if let Some(w) = sheet.widths.get_mut(i) {
                *w = (*w).max(wide);
            }
            if let Some(n) = sheet.numbers.get_mut(i) {
                *n |= matches!(value, Value::Number(_));
            }
        }
        sheet.row += 1;
        if let Some(place) = self.sheets.get_mut(table) {
            *place = sheet;
        }
        Ok(())
    }

    /// A single value of the answer.
    pub fn fact(&mut self, key: &str, value: Value) {
        self.facts.push((key.to_owned(), value));
    }

    /// Filter, widths and bars of what was written of a table.
    fn end_sheet(&mut self, sheet: &Sheet) -> Result<()> {
        let (last_row, last) = (sheet.row.saturating_sub(1), sheet.keys.len().saturating_sub(1) as u16);
        let to = self.book.worksheet_from_index(sheet.at)?;
        to.autofilter(0, 0, last_row, last)?;
        for (i, width) in sheet.widths.iter().enumerate() {
            to.set_column_width(i as u16, (*width).clamp(LEAST_WIDTH, MOST_WIDTH) as f64)?;
        }
        let sizes = sheet.keys.iter().zip(&sheet.numbers).enumerate();
        for (i, _) in sizes.filter(|(_, (key, number))| **number && last_row > 0 && is_size(key)) {
            to.add_conditional_format(1, i as u16, last_row, i as u16, &ConditionalFormatDataBar::new())?;
        }
        Ok(())
    }

    /// Puts the file together.
    pub fn save(&mut self) -> Result<()> {
        let facts = std::mem::take(&mut self.facts);
        if !facts.is_empty() || self.count == 0 {
            let table = self.table("facts", &["fact", "value"]);
            for (key, value) in facts {
                self.row(table, [Value::Text(key.replace('_', " ")), value].into_iter())?;
            }
            if self.count == 0 {
                self.book.add_worksheet().set_name("nothing")?;
            }
        }
        for sheet in std::mem::take(&mut self.sheets).iter().filter(|s| s.row > 0) {
            self.end_sheet(sheet)?;
        }
        Ok(self.book.save(&self.path)?)
    }
}

impl Default for Sheet {
    fn default() -> Self {
        let (name, keys, widths, numbers) = Default::default();
        Self { name, keys, at: 0, row: 0, full: 0, widths, numbers }
    }
}

fn write(to: &mut Worksheet, row: u32, column: usize, value: &Value, plain: &Format) -> Result<(), XlsxError> {
    let Ok(column) = u16::try_from(column) else { return Ok(()) };
    match value {
        Value::Number(n) => to.write_number_with_format(row, column, *n, plain)?,
        Value::Bool(b) => to.write_boolean(row, column, *b)?,
        Value::Text(t) => to.write_string(row, column, clean(t))?,
        Value::None => return Ok(()),
    };
    Ok(())
}

/// Text as a cell may hold it: nothing of it acts, and what does not fit ends in three dots. A text is never a formula.
fn clean(text: &str) -> String {
    let seen = |c: char| if acts(c) { '\u{fffd}' } else { c };
    let units: usize = text.chars().map(char::len_utf16).sum();
    if units <= MOST_TEXT {
        return text.chars().map(seen).collect();
    }
    let mut cut: String = text.chars().take(MOST_TEXT / 2).map(seen).collect();
    cut.push('…');
    cut
}

/// Whether a column holds bytes.
fn is_size(key: &str) -> bool {
    ["bytes", "size", "retained"].iter().any(|w| key.contains(w)) && !key.contains("growth")
}
