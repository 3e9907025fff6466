//! What `!leaks` prints and returns.

use anyhow::Result;

use super::Suspect;
use super::evidence::{Evidence, Item};
use crate::clr::Clr;
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Fact, Out, Returns, Table, Type};

/// What `!leaks` returns.
pub const RETURNS: Returns =
    Returns::facts(&[Fact::new("more", "suspects left out", Type::Count)]).and(&[&SUSPECTS, &PATHS, &EVIDENCE, &NEXT]);

/// The suspects.
const SUSPECTS: Table = Table::new(
    "suspects",
    &[
        Col::right("#", "rank", 0).of(Type::Count),
        Col::left("Kind", "kind", 0),
        Col::right("Bytes", "bytes", 0).of(Type::Bytes),
        Col::right("Share", "share", 0).of(Type::Share),
        Col::right("Count", "count", 0).of(Type::Count),
        Col::right("Holder", "holder", 0).of(Type::Address),
        Col::left("Owner", "holder_type", 0).of(Type::TypeName),
        Col::left("Elements", "element", 0).of(Type::TypeName),
        Col::data("example", Type::Address).titled("one of the elements, the biggest block of free space"),
        Col::data("variable", Type::Text).titled("the static variable on the path"),
        Col::data("root", Type::Text).titled("what the root of the path is"),
        Col::data("thread", Type::Hex).titled("operating system id of the thread whose root it is"),
        Col::data("generation", Type::Text).titled("the generation whose free space it is: 0, 1, 2, large, pinned"),
        Col::data("path_length", Type::Count).titled("objects on the path"),
    ],
);

const RANK: Col = Col::data("rank", Type::Count).titled("number of the suspect");

/// The way from a root to a suspect.
const PATHS: Table = Table::new(
    "path",
    &[
        RANK,
        Col::data("step", Type::Count).titled("number in the path; those in the middle of long ones are left out"),
        Col::data("object", Type::Address).titled("the object"),
        Col::data("type", Type::TypeName).titled("its type"),
        Col::data("slot", Type::FieldPath).titled("field of the object before that holds it"),
        Col::data("variable", Type::Text).titled("the static variable that holds it"),
    ],
)
.under("suspects", "rank");

/// What speaks for a suspect.
const EVIDENCE: Table = Table::new(
    "evidence",
    &[
        RANK,
        Item::WHAT,
        Item::TYPE,
        Item::COUNT,
        Item::BYTES,
        Item::SHARE,
        Item::ADDRESS,
        Item::NAME,
        Item::THREAD,
        Col::data("text", Type::Content).titled("text of the string"),
    ],
)
.under("suspects", "rank");

/// Commands to type next.
const NEXT: Table =
    Table::new("next", &[RANK, Col::data("command", Type::Text).titled("the command")]).under("suspects", "rank");

/// Text, or nothing when it is empty.
fn word(text: &str) -> Cell<'_> {
    Cell::maybe(Some(text).filter(|t| !t.is_empty()))
}

/// Prints the suspects, one a row.
pub fn summary(out: &mut Out, shown: &[Suspect]) -> Result<()> {
    let rows = shown.iter().enumerate().map(|(i, s)| {
        [
            Cell::Num(i as u64 + 1),
            Cell::text(s.kind),
            Cell::Sep(s.bytes),
            Cell::Percent(s.share),
            Cell::Sep(s.count),
            Cell::at(s.holder),
            Cell::shown(s.owner.as_str(), word(&s.place.holder_type)),
            Cell::shown(s.element.as_str(), Cell::maybe(s.element_type())),
            Cell::at(s.example),
            Cell::maybe(s.place.variable.as_deref()),
            word(&s.place.root),
            s.place.thread.map_or(Cell::None, Cell::Hex),
            Cell::maybe(s.place.generation),
            if s.place.length == 0 { Cell::None } else { Cell::Num(s.place.length as u64) },
        ]
    });
    Ok(out.fill(&SUSPECTS, rows)?)
}

/// A line of what speaks for a suspect.
fn line(out: &mut Out, what: &str, text: &str) -> std::io::Result<()> {
    out.wrapped(&format!("     {what:<9} "), text)
}

/// Prints what speaks for one suspect, a line for each thing.
pub fn evidence(clr: &Clr, out: &mut Out, rank: usize, s: &Suspect) -> Result<()> {
    out.note("")?;
    let (count, bytes) = (thousands(s.count), thousands(s.bytes));
    // The suspect's row says this too, and who owns it.
    out.facts(&[], format!("{rank}. {}: {count} {}, {bytes} bytes", s.kind, s.element))?;
    let rank = rank as u64;
    let said = |out: &mut Out, what: &str, text: &str| match text.is_empty() {
        true => Ok(()),
        false => line(out, what, text),
    };
    said(out, "owner", &s.owner)?;
    said(out, "path", &s.path)?;
    for step in &s.place.steps {
        let cells = [
            Cell::Num(rank),
            Cell::Num(step.number as u64),
            Cell::Addr(step.address),
            Cell::text(&*step.name),
            Cell::maybe(step.slot.as_deref()),
            Cell::maybe(step.field.as_deref()),
        ];
        out.data_row(&PATHS, &cells)?;
    }
    for e in &s.facts {
        one(clr, out, rank, e)?;
    }
    if s.example != 0 {
        said(out, "example", &format!("{:x}", s.example))?;
    }
    for command in &s.next {
        out.data_row(&NEXT, &[Cell::Num(rank), Cell::text(command)])?;
        line(out, "try", command)?;
    }
    Ok(())
}

fn one(clr: &Clr, out: &mut Out, rank: u64, e: &Evidence) -> Result<()> {
    for (i, item) in e.items.iter().enumerate() {
        let cells = cells(clr, out.wants_data(), rank, item);
        out.data_row(&EVIDENCE, &cells)?;
        if i == 0 {
            line(out, "", &e.text)?;
        }
    }
    Ok(())
}

fn cells<'i>(clr: &Clr, data: bool, rank: u64, item: &'i Item) -> Vec<Cell<'i>> {
    let text = (data && item.is_text).then(|| clr.string_units(item.address, usize::MAX)).flatten();
    let text = text.map_or(Cell::None, |t| Cell::Units(t.1.into()));
    [Cell::Num(rank)].into_iter().chain(item.cells()).chain([text]).collect()
}
