//! Lists objects in address order: a row each, counted by type meanwhile.

use anyhow::Result;

use super::filter::{Filter, TypeFilter};
use super::table::{ADDRESSES, OBJECTS, listing};
use crate::heap::ordered::Make;
use crate::heap::stat::{Fragment, Fragments, TypeTallies};
use crate::heap::{Object, Segment, WalkReport};
use crate::session::Session;
use crate::shell::out::RowText;
use crate::shell::{Cell, Out};

/// Rows of a block.
const ROWS: usize = 4096;

/// An object in the listing.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its address.
    pub address: u64,
    /// Its MethodTable.
    pub mt: u64,
    /// Its size.
    pub size: u64,
    /// It is free space.
    pub free: bool,
}

impl Row {
    /// That of an object.
    pub fn of(o: &Object<'_>) -> Self {
        Self { address: o.address, mt: o.ty.mt.address, size: o.size, free: o.ty.is_free }
    }

    /// Its cells, of the listing or of addresses alone.
    fn with(&self, bare: bool, each: impl FnOnce(&[Cell<'_>])) {
        match bare {
            true => each(&[Cell::Addr(self.address)]),
            false => each(&listing(self.address, self.mt, self.free, self.size)),
        }
    }
}

/// Rows that go on together: as text, or as they are where something else than text is made of them.
pub struct Block {
    rows: Vec<Row>,
    text: Vec<u8>,
}

/// Makes blocks of rows.
pub struct Rows {
    bare: bool,
    text: Option<RowText>,
}

impl Rows {
    /// Opens the table in `out`, of addresses alone when `bare`.
    pub fn open(out: &mut Out, bare: bool) -> std::io::Result<Self> {
        if bare {
            out.open_bare(&ADDRESSES)?
        } else {
            out.open(&OBJECTS)?
        }
        Ok(Self { bare, text: out.row_text() })
    }

    /// A worker begins.
    pub fn begin(&self) {
        if let Some(t) = &self.text {
            t.begin();
        }
    }

    /// Takes enough rows for a block, or all when `last`.
    pub fn take(&self, rows: &mut Vec<Row>, last: bool) -> Option<Block> {
        if rows.is_empty() || !last && rows.len() < ROWS {
            return None;
        }
        let rows = std::mem::take(rows);
        let mut text = Vec::new();
        if let Some(t) = &self.text {
            text.reserve(rows.len() * if self.bare { 13 } else { 50 });
            rows.iter().for_each(|r| r.with(self.bare, |cells| t.push(cells, &mut text)));
        }
        Some(Block { rows, text })
    }

    /// Prints a block.
    pub fn print(&self, out: &mut Out, block: &Block) -> std::io::Result<()> {
        if self.text.is_none() {
            let mut printed = Ok(());
            for row in &block.rows {
                row.with(self.bare, |cells| printed = out.row(cells));
                std::mem::replace(&mut printed, Ok(()))?;
            }
            return Ok(());
        }
        block.rows.iter().for_each(|r| r.with(self.bare, |cells| out.printed_addresses(cells)));
        out.rendered(&block.text, block.rows.len() as u64)
    }
}

/// A listing with the filter it goes by.
struct Listing<'a> {
    session: &'a Session,
    filter: &'a Filter,
    types: TypeFilter,
    rows: Rows,
}

/// A worker's own.
struct Own {
    types: TypeFilter,
    tallies: TypeTallies,
    rows: Vec<Row>,
    fragments: Fragments,
}

/// What was met while objects were listed.
pub struct Listed {
    /// Those listed, by type.
    pub tallies: TypeTallies,
    /// How the walk went.
    pub report: WalkReport,
    /// Big free blocks of the segments that were walked; `None` where only parts of them were.
    pub fragments: Option<Vec<Fragment>>,
}

impl Make for Listing<'_> {
    type State = Own;
    type Block = Block;

    fn begin(&self) -> Own {
        self.rows.begin();
        Own {
            types: self.types.clone(),
            tallies: TypeTallies::default(),
            rows: Vec::new(),
            fragments: Fragments::default(),
        }
    }

    fn visit(&self, own: &mut Own, segment: &Segment, o: Object<'_>) {
        own.fragments.see(segment, &o);
        if own.types.passes(self.session, o.ty) && self.filter.passes(self.session, segment, &o) {
            own.tallies.add(o.ty.id, o.size);
            own.rows.push(Row::of(&o));
        }
    }

    fn take(&self, own: &mut Own, last: bool) -> Option<Block> {
        self.rows.take(&mut own.rows, last)
    }
}

/// Lists the objects that pass the filter, addresses alone when `bare`.
pub fn list(out: &mut Out, session: &Session, filter: &Filter, bare: bool) -> Result<Listed> {
    let (walker, segments) = (session.walker()?, filter.segments(session)?);
    let rows = Rows::open(out, bare)?;
    let listing = Listing { session, filter, types: filter.types(session)?, rows };
    let range = filter.range.unwrap_or((0, u64::MAX));
    let (states, report) = walker.ordered(&segments, range, &listing, |block| listing.rows.print(out, &block))?;
    let (mut tallies, mut fragments) = (TypeTallies::default(), Vec::new());
    for own in states {
        tallies.merge(&own.tallies);
        fragments.extend(own.fragments.found);
    }
    fragments.sort_unstable_by_key(|f| f.address);
    Ok(Listed { tallies, report, fragments: filter.range.is_none().then_some(fragments) })
}
