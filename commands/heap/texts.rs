//! Strings counted by their text: `!dumpheap -strings`, `!strings -stat`.
//!
//! No text is kept: a string is its address and a hash, texts that are alike lie together when sorted by it, and are compared
//! where they lie in the dump.

use std::hash::{BuildHasher, RandomState};

use anyhow::Result;
use rayon::prelude::*;

use super::filter::{Filter, TypeFilter};
use super::listing::{Block, Row, Rows};
use crate::clr::Clr;
use crate::heap::ordered::Make;
use crate::heap::{Object, Segment, WalkReport};
use crate::session::Session;
use crate::shell::out::RowText;
use crate::shell::{Cell, Col, Out, Table, Type};

/// Different texts.
pub const TEXTS: Table = Table::new(
    "strings",
    &[
        Col::right("", "count", 0).of(Type::Count),
        Col::right("", "total_size", 0).of(Type::Bytes),
        Col::left("", "text", 0).of(Type::Content),
    ],
)
.rising("total_size");

/// Characters of a text shown.
const SHOWN: usize = 128;

/// Strings that are listed by the way are compared by their first 1024 characters and their size.
pub const UNITS: usize = 1024;
/// Strings are told apart in so many shares, by the end of their hashes, each small enough to be sorted in a cache.
const SHARES: usize = 64;
/// Rows made text of at once by one worker.
const ROWS: usize = 4096;

/// A string met on the walk.
#[derive(Debug, Clone, Copy)]
struct Met {
    hash: u64,
    address: u64,
    size: u64,
}

/// A text with the first string that has it.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Address of that string.
    pub address: u64,
    /// Strings that have it.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Text {
    /// Bytes that holding it once would save. All that are alike have one size.
    pub fn wasted(&self) -> u64 {
        self.bytes - self.bytes.checked_div(self.count).unwrap_or(0)
    }
}

/// Which strings are counted, and what makes texts the same.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What is asked of the objects.
    pub filter: &'a Filter,
    /// Whether the string at an address counts.
    pub counts: &'a (dyn Fn(u64) -> bool + Sync),
    /// Characters that are compared, beside the size.
    pub units: usize,
}

struct Finding<'a> {
    session: &'a Session,
    clr: &'a Clr,
    asked: Asked<'a>,
    types: TypeFilter,
    /// The listing, unless the counts alone are wanted.
    rows: Option<Rows>,
    hash: RandomState,
}

/// A worker's own.
struct Own {
    types: TypeFilter,
    /// By the end of their hashes.
    met: [Vec<Met>; SHARES],
    rows: Vec<Row>,
}

impl Make for Finding<'_> {
    type State = Own;
    type Block = Block;

    fn begin(&self) -> Own {
        if let Some(rows) = &self.rows {
            rows.begin();
        }
        Own { types: self.types.clone(), met: [const { Vec::new() }; SHARES], rows: Vec::new() }
    }

    fn visit(&self, own: &mut Own, segment: &Segment, o: Object<'_>) {
        let passes = o.ty.is_string && own.types.passes(self.session, o.ty);
        if !passes || !self.asked.filter.passes(self.session, segment, &o) || !(self.asked.counts)(o.address) {
            return;
        }
        let Some((_, bytes)) = self.clr.string_bytes(o.address, self.asked.units) else { return };
        let hash = self.hash.hash_one((&*bytes, o.size));
        if let Some(met) = own.met.get_mut(hash as usize % SHARES) {
            met.push(Met { hash, address: o.address, size: o.size });
        }
        if self.rows.is_some() {
            own.rows.push(Row::of(&o));
        }
    }

    fn take(&self, own: &mut Own, last: bool) -> Option<Block> {
        self.rows.as_ref()?.take(&mut own.rows, last)
    }
}

/// Finds the strings that are asked for, lists them unless the counts alone are wanted, and gives their texts, those with
/// the most bytes last, of which alike the one whose first string lies first.
pub fn find(out: &mut Out, session: &Session, asked: Asked<'_>, lists: bool) -> Result<(Vec<Text>, WalkReport)> {
    let Asked { filter, units, .. } = asked;
    let (clr, walker, segments) = (session.clr()?, session.walker()?, filter.segments(session)?);
    let rows = if lists { Some(Rows::open(out, false)?) } else { None };
    let finding = Finding { session, clr, asked, types: filter.types(session)?, rows, hash: RandomState::new() };
    let range = filter.range.unwrap_or((0, u64::MAX));
    let (states, report) = walker.ordered(&segments, range, &finding, |block| match &finding.rows {
        Some(rows) => rows.print(out, &block),
        None => Ok(()),
    })?;
    let shares = (0..SHARES).into_par_iter().with_max_len(1).map(|share| {
        let mut met: Vec<Met> = states.iter().filter_map(|s| s.met.get(share)).flatten().copied().collect();
        met.sort_unstable_by_key(|m| (m.hash, m.address));
        let mut texts = Vec::new();
        met.chunk_by(|a, b| a.hash == b.hash).for_each(|alike| grouped(clr, units, alike, &mut texts));
        texts
    });
    let mut texts: Vec<Text> = shares.flatten_iter().collect();
    texts.par_sort_unstable_by_key(|t| (t.bytes, t.address));
    Ok((texts, report))
}

/// Adds the texts of strings whose hashes are equal: one, but for chance.
fn grouped(clr: &Clr, units: usize, alike: &[Met], texts: &mut Vec<Text>) {
    let first = texts.len();
    for m in alike {
        let equal = |a: u64, b: u64| match (clr.string_bytes(a, units), clr.string_bytes(b, units)) {
            (Some((_, a)), Some((_, b))) => a == b,
            _ => false,
        };
        let same = |t: &&mut Text| t.bytes == t.count * m.size && equal(t.address, m.address);
        match texts.get_mut(first..).and_then(|found| found.iter_mut().find(same)) {
            Some(t) => {
                t.count += 1;
                t.bytes += m.size;
            }
            None => texts.push(Text { address: m.address, count: 1, bytes: m.size }),
        }
    }
}

/// A text cut for its line.
fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or(text)
}

/// What is shown of the string at `address`; where values are wanted the whole text, as it is there.
pub fn value(clr: &Clr, whole: bool, address: u64) -> Cell<'static> {
    // So many characters are at most twice as many units.
    let begins = clr.string_at(address, 2 * SHOWN).map_or(String::new(), |(_, t)| t);
    let shown = shown(&begins).to_owned();
    match whole.then(|| clr.string_units(address, usize::MAX)).flatten() {
        Some((_, units)) => Cell::shown(shown, Cell::Units(units.into())),
        None => Cell::text(shown),
    }
}

/// The cells of a text; `whole` where values are wanted that text does not show.
fn cells(clr: &Clr, text: &Text, whole: bool) -> [Cell<'static>; 3] {
    [Cell::Sep(text.count), Cell::Sep(text.bytes), value(clr, whole, text.address)]
}

/// Prints the texts with their counts.
pub fn print(out: &mut Out, clr: &Clr, texts: &[Text]) -> Result<()> {
    out.open_bare(&TEXTS)?;
    let most = |of: fn(&Text) -> u64| texts.iter().map(of).max().unwrap_or(0);
    let widest = [Cell::Sep(most(|t| t.count)), Cell::Sep(most(|t| t.bytes)), Cell::None];
    out.widen(&[&widest]);
    let Some(text) = out.row_text() else {
        let whole = out.wants_data();
        return Ok(out.fill_bare(&TEXTS, texts.iter().map(|t| cells(clr, t, whole)))?);
    };
    let made = |some: &[Text]| -> Vec<(Vec<u8>, u64)> {
        some.par_chunks(ROWS).map(|rows| (rendered(clr, &text, rows), rows.len() as u64)).collect()
    };
    let mut batches = texts.chunks(ROWS * rayon::current_num_threads() * 4);
    let mut ready = batches.next().map(made);
    while let Some(parts) = ready.take() {
        let mut written = Ok(());
        // One batch goes out while the next is made.
        rayon::in_place_scope(|scope| {
            if let Some(next) = batches.next() {
                let (ready, made) = (&mut ready, &made);
                scope.spawn(move |_| *ready = Some(made(next)));
            }
            written = parts.iter().try_for_each(|(bytes, rows)| out.rendered(bytes, *rows));
        });
        written?;
    }
    Ok(())
}

fn rendered(clr: &Clr, text: &RowText, rows: &[Text]) -> Vec<u8> {
    text.begin();
    let mut bytes = Vec::with_capacity(rows.len() * 64);
    let mut units = Vec::new();
    for t in rows {
        units.clear();
        if let Some((_, begins)) = clr.string_bytes(t.address, 2 * SHOWN) {
            units.extend(begins.as_chunks().0.iter().map(|&u| u16::from_le_bytes(u)));
        }
        let value = Cell::Units(shown_units(&units).into());
        text.push(&[Cell::Sep(t.count), Cell::Sep(t.bytes), value], &mut bytes);
    }
    bytes
}

/// A text in UTF-16 cut as [`shown`] cuts it.
fn shown_units(text: &[u16]) -> &[u16] {
    if text.len() <= SHOWN {
        return text;
    }
    let end = char::decode_utf16(text.iter().copied()).take(SHOWN).map(|c| c.map_or(1, char::len_utf16)).sum();
    text.get(..end).unwrap_or(text)
}
