//! Rows that are kept: packed bytes without an allocation a row, and never more of them than a stated bound.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::cell::Cell;
use super::super::numbers::thousands;
use super::value::whole;

/// Most bytes of rows that the pipes behind one command keep.
pub const MOST_BYTES: usize = 512 << 20;
/// Bytes of a chunk of rows.
const CHUNK: usize = 1 << 20;

/// How cells are packed. The words of [`Cell::Either`] live as long as the program and are kept apart.
#[derive(Debug, Default)]
pub struct Packer {
    words: Vec<(&'static str, &'static str)>,
}

/// Reads packed bytes from the left.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'b [u8]> {
        let n = usize::try_from(self.u64()?).ok()?;
        self.take(n)
    }
}

impl Packer {
    /// Appends a cell. What text makes of a value is not kept, only what is shown behind a pipe.
    pub fn push(&mut self, cell: &Cell<'_>, out: &mut Vec<u8>) {
        let mut number = |tag: u8, x: u64| {
            out.push(tag);
            out.extend_from_slice(&x.to_le_bytes());
        };
        match whole(cell) {
            Cell::None | Cell::Shown(..) => out.push(0),
            Cell::Addr(x) => number(1, *x),
            Cell::AddrPad(x, w) => {
                number(2, *x);
                out.push(*w);
            }
            Cell::AddrUpper(x, w) => {
                number(3, *x);
                out.push(*w);
            }
            Cell::AddrTick(x, w) => {
                number(4, *x);
                out.push(*w);
            }
            Cell::Hex(x) => number(5, *x),
            Cell::Num(x) => number(6, *x),
            Cell::Int(x) => number(7, *x as u64),
            Cell::Sep(x) | Cell::As(_, x) => number(8, *x),
            Cell::Float(x) => number(9, x.to_bits()),
            Cell::Percent(x) => number(10, x.to_bits()),
            Cell::Time(t) => number(11, *t),
            Cell::Bool(b) => out.extend_from_slice(&[12, u8::from(*b)]),
            Cell::Either(b, yes, no) => {
                let word = self.word((yes, no));
                number(13, word as u64);
                out.push(u8::from(*b));
            }
            Cell::Text(t) => {
                number(14, t.len() as u64);
                out.extend_from_slice(t.as_bytes());
            }
            Cell::Units(t) => {
                number(15, 2 * t.len() as u64);
                out.extend(t.iter().flat_map(|u| u.to_le_bytes()));
            }
        }
    }

    fn word(&mut self, pair: (&'static str, &'static str)) -> usize {
        self.words.iter().position(|w| *w == pair).unwrap_or_else(|| {
            self.words.push(pair);
            self.words.len() - 1
        })
    }

    fn cell<'b>(&self, from: &mut Bytes<'b>) -> Option<Cell<'b>> {
        Some(match from.byte()? {
            0 => Cell::None,
            1 => Cell::Addr(from.u64()?),
            2 => Cell::AddrPad(from.u64()?, from.byte()?),
            3 => Cell::AddrUpper(from.u64()?, from.byte()?),
            4 => Cell::AddrTick(from.u64()?, from.byte()?),
            5 => Cell::Hex(from.u64()?),
            6 => Cell::Num(from.u64()?),
            7 => Cell::Int(from.u64()? as i64),
            8 => Cell::Sep(from.u64()?),
            9 => Cell::Float(f64::from_bits(from.u64()?)),
            10 => Cell::Percent(f64::from_bits(from.u64()?)),
            11 => Cell::Time(from.u64()?),
            12 => Cell::Bool(from.byte()? != 0),
            13 => {
                let (yes, no) = self.words.get(usize::try_from(from.u64()?).ok()?).copied()?;
                Cell::Either(from.byte()? != 0, yes, no)
            }
            14 => Cell::Text(Cow::Borrowed(std::str::from_utf8(from.sized()?).ok()?)),
            15 => Cell::Units(from.sized()?.chunks_exact(2).map(|u| u16::from_le_bytes([u[0], u[1]])).collect()),
            _ => return None,
        })
    }

    /// Appends the cells of a row that was packed.
    pub fn row<'b>(&self, packed: &'b [u8], cells: &mut Vec<Cell<'b>>) {
        let mut from = Bytes(packed);
        while !from.0.is_empty() {
            let Some(cell) = self.cell(&mut from) else { return };
            cells.push(cell);
        }
    }

    /// One cell of a row that was packed; those before it are stepped over.
    pub fn nth<'b>(&self, packed: &'b [u8], column: usize) -> Cell<'b> {
        let mut from = Bytes(packed);
        for _ in 0..column {
            let step = match from.byte() {
                Some(0) => Some(0),
                Some(12) => Some(1),
                Some(2..=4 | 13) => Some(9),
                Some(14 | 15) => from.u64().and_then(|n| usize::try_from(n).ok()),
                Some(_) => Some(8),
                None => None,
            };
            if step.and_then(|n| from.take(n)).is_none() {
                return Cell::None;
            }
        }
        self.cell(&mut from).unwrap_or(Cell::None)
    }
}

/// Where a row is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    chunk: u32,
    from: u32,
    len: u32,
}

/// How much the pipes behind one command may keep together, and how much they do.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    most: usize,
}

impl Budget {
    /// So many bytes.
    pub fn of(most: usize) -> Self {
        Budget { used: Arc::default(), most }
    }

    /// Takes some for a row of the pipe `what`, which has `rows` by now; more than there are is refused.
    pub fn take(&self, bytes: usize, what: &str, rows: u64) -> io::Result<()> {
        let before = self.used.load(Ordering::Relaxed);
        match before.checked_add(bytes).filter(|b| *b <= self.most) {
            Some(now) => {
                self.used.store(now, Ordering::Relaxed);
                Ok(())
            }
            None => Err(io::Error::other(format!(
                "| {what} would keep more than {} bytes, which {} rows have filled: let | where or | group leave fewer \
                 before it, or | top N stand right behind a sort",
                thousands(self.most as u64),
                thousands(rows)
            ))),
        }
    }

    /// Gives some back.
    pub fn give(&self, bytes: usize) {
        let before = self.used.load(Ordering::Relaxed);
        self.used.store(before.saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// Bytes that a row needs beside its own.
const ROW: usize = 3 * size_of::<u64>();

/// Rows by place.
#[derive(Debug)]
pub struct Kept {
    /// How its rows are packed.
    pub packer: Packer,
    chunks: Vec<Vec<u8>>,
    bytes: usize,
    scratch: Vec<u8>,
    budget: Budget,
}

impl Kept {
    /// No rows.
    pub fn new(budget: &Budget) -> Self {
        Kept { packer: Packer::default(), chunks: Vec::new(), bytes: 0, scratch: Vec::new(), budget: budget.clone() }
    }

    /// Keeps a row for the pipe `what`, which has `rows` by now.
    pub fn add(&mut self, cells: &[Cell<'_>], what: &str, rows: u64) -> io::Result<At> {
        let mut row = std::mem::take(&mut self.scratch);
        row.clear();
        cells.iter().for_each(|c| self.packer.push(c, &mut row));
        self.budget.take(row.len() + ROW, what, rows)?;
        self.bytes += row.len() + ROW;
        let at = self.place(&row).ok_or_else(|| io::Error::other(format!("| {what}: a row is too big to be kept")))?;
        self.scratch = row;
        Ok(at)
    }

    fn place(&mut self, row: &[u8]) -> Option<At> {
        if self.chunks.last().is_none_or(|c| c.len() + row.len() > CHUNK) {
            self.chunks.push(Vec::new());
        }
        let chunk = self.chunks.len().checked_sub(1)?;
        let bytes = self.chunks.last_mut()?;
        let from = bytes.len();
        bytes.extend_from_slice(row);
        Some(At { chunk: chunk.try_into().ok()?, from: from.try_into().ok()?, len: row.len().try_into().ok()? })
    }

    /// The packed bytes of a row.
    pub fn get(&self, at: At) -> &[u8] {
        let (from, len) = (at.from as usize, at.len as usize);
        self.chunks.get(at.chunk as usize).and_then(|c| c.get(from..from + len)).unwrap_or(&[])
    }

    /// Keeps these rows alone, and says where they are now.
    pub fn retain<'a>(&mut self, rows: impl Iterator<Item = &'a mut At>) {
        let old = std::mem::take(&mut self.chunks);
        self.budget.give(std::mem::take(&mut self.bytes));
        for at in rows {
            let (from, len) = (at.from as usize, at.len as usize);
            let row = old.get(at.chunk as usize).and_then(|c| c.get(from..from + len)).unwrap_or(&[]);
            // It had room before.
            if let (Ok(()), Some(new)) = (self.budget.take(len + ROW, "", 0), self.place(row)) {
                self.bytes += len + ROW;
                *at = new;
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn renderings(cell: &Cell<'_>) -> (Vec<u8>, Vec<u8>) {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        super::super::value::push_whole(cell, &mut text);
        cell.push_json(&mut json);
        (text, json)
    }

    fn cells() -> impl Strategy<Value = Cell<'static>> {
        prop_oneof![
            any::<u64>().prop_map(Cell::Addr),
            (any::<u64>(), 1u8..17).prop_map(|(x, w)| Cell::AddrPad(x, w)),
            (any::<u64>(), 1u8..17).prop_map(|(x, w)| Cell::AddrUpper(x, w)),
            (any::<u64>(), prop_oneof![Just(4u8), Just(8)]).prop_map(|(x, w)| Cell::AddrTick(x, w)),
            any::<u64>().prop_map(Cell::Hex),
            any::<u64>().prop_map(Cell::Num),
            any::<i64>().prop_map(Cell::Int),
            any::<u64>().prop_map(Cell::Sep),
            any::<f64>().prop_map(Cell::Float),
            any::<f64>().prop_map(Cell::Percent),
            any::<u32>().prop_map(|t| Cell::Time(t.into())),
            any::<bool>().prop_map(Cell::Bool),
            any::<bool>().prop_map(|b| Cell::Either(b, "Free", "")),
            any::<bool>().prop_map(|b| Cell::Either(b, "Yes", "No")),
            "\\PC{0,8}".prop_map(Cell::text),
            proptest::collection::vec(any::<u16>(), 0..5).prop_map(|u| Cell::Units(u.into())),
            any::<u64>().prop_map(|x| Cell::As("some".into(), x)),
            "\\PC{0,8}".prop_map(|t| Cell::shown("...", Cell::text(t))),
            Just(Cell::None),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(rows in proptest::collection::vec(proptest::collection::vec(cells(), 0..5), 1..8)) {
            let mut kept = Kept::new(&Budget::of(1 << 20));
            let mut places: Vec<At> = rows.iter().map(|r| kept.add(r, "sort", 0).unwrap()).collect();
            for step in 0..2 {
                for (row, at) in rows.iter().skip(step).zip(&places) {
                    let mut back = Vec::new();
                    kept.packer.row(kept.get(*at), &mut back);
                    prop_assert_eq!(back.len(), row.len());
                    for (i, (a, b)) in row.iter().zip(&back).enumerate() {
                        prop_assert_eq!(renderings(a), renderings(b));
                        prop_assert_eq!(renderings(a), renderings(&kept.packer.nth(kept.get(*at), i)));
                    }
                }
                places.drain(..1.min(places.len()));
                kept.retain(places.iter_mut());
            }
        }
    }

    #[test]
    fn too_much_is_refused_with_a_number() {
        let budget = Budget::of(1000);
        let mut kept = Kept::new(&budget);
        let why = (0..).find_map(|n| kept.add(&[Cell::text("x".repeat(20))], "sort", n).err()).unwrap().to_string();
        assert!(why.contains("1,000 bytes, which 18 rows have filled"), "{why}");
        kept.retain(std::iter::empty());
        assert!(kept.add(&[Cell::text("x".repeat(900))], "sort", 0).is_ok());
        drop(kept);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
