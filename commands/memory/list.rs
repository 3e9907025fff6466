//! `dl`, `dlb`: linked lists.

use anyhow::{Result, anyhow};
use rustc_hash::FxHashSet;

use super::range::Words;
use super::view::element;
use super::{tick, value};
use crate::dump::{AddressSpace, little_endian};
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// Elements shown unless said, and most that may be asked for.
const ELEMENTS: u64 = 0x20;
const MOST_ELEMENTS: u64 = 1 << 20;
/// Words shown of an element unless said, and most that may be asked for.
const WORDS: u64 = 4;
const MOST_WORDS: u64 = 0x100;

const LIST: &[Arg] = &[Arg::pos("LIST", Kind::Rest, "ADDR [COUNT [WORDS]]")];

/// Words of the elements of a list.
const MEMORY: Table = Table::new(
    "memory",
    &[
        Col::data("element", Type::Address).titled("the element"),
        Col::data("address", Type::Address).titled("where the word is"),
        Col::data("value", Type::Hex).titled("the word; nothing when the dump lacks it"),
    ],
);

macro_rules! list {
    ($id:ident, $name:literal, $back:literal, $summary:literal) => {
        #[doc = concat!("`", $name, "`.")]
        pub const $id: Command = Command {
            name: $name,
            prefix: Prefix::Plain,
            aliases: &[],
            group: Group::Memory,
            summary: $summary,
            help: "Follows a LIST_ENTRY or SINGLE_LIST_ENTRY from ADDR on and shows the first WORDS pointers (4 unless \
                   said) of each element, COUNT elements (32 unless said) at most. It ends where the list comes back to an \
                   element, at a null pointer, and at memory the dump lacks. dl follows the pointers forward, dlb those \
                   backward (the second of each element).",
            args: LIST,
            examples: &[Example { line: concat!($name, " @$csp 2 2"), what: "two elements, two words each" }],
            needs: Needs::Dump,
            returns: Returns::tables(&[&MEMORY]),
            run: |ctx, args| run(ctx, args, $back),
        };
    };
}

list!(DL, "dl", false, "the elements of a linked list");
list!(DLB, "dlb", true, "the elements of a linked list, backward");

fn run(ctx: &mut Ctx<'_>, args: &Args, back: bool) -> Result<Outcome> {
    let session = ctx.session()?;
    let space = &session.dump().space;
    let pointer = session.dump().arch.pointer_size();
    let mut words = Words::new(args.text("LIST").unwrap_or("").split_whitespace());
    let mut next = |least: u64, most: u64| -> Result<Option<u64>> {
        let Some(text) = words.expression() else { return Ok(None) };
        let n = value(ctx, &text)?;
        match (least..=most).contains(&n) {
            true => Ok(Some(n)),
            false => Err(anyhow!("{} is not a number from {least:x} to {most:x}", show(&text))),
        }
    };
    let start = next(0, u64::MAX)?.ok_or_else(|| anyhow!("an address is needed: the first element of the list"))?;
    let count = next(1, MOST_ELEMENTS)?.unwrap_or(ELEMENTS);
    let each = next(1, MOST_WORDS)?.unwrap_or(WORDS);
    if start == 0 {
        ctx.out.note("the list is empty: its first element would be at 0")?;
        return Ok(Outcome::Empty);
    }
    let size = u64::from(pointer);
    let end = follow(space, start, if back { size } else { 0 }, count, |at| {
        session.watch.cancel.check()?;
        let mut line = tick(at, pointer) + " ";
        for i in 0..each {
            let a = at.wrapping_add(i * size);
            let word = space.slice(a, usize::from(pointer));
            line.push(' ');
            line.push_str(&element(word, pointer));
            let first = if i == 0 { Cell::AddrTick(at, pointer) } else { Cell::Hex(at) };
            let value = word.map_or(Cell::None, |w| Cell::Hex(little_endian(w)));
            ctx.out.data_row(&MEMORY, &[first, Cell::Hex(a), value])?;
        }
        Ok(ctx.out.facts(&[], line)?)
    })?;
    Ok(match end {
        End::Closed => Outcome::Complete,
        End::Missing(at) => Outcome::Partial(format!("the element at {} is not in the dump", tick(at, pointer))),
        End::More(_) => Outcome::Partial(format!("only the first {count} elements are shown")),
    })
}

/// How a walk over a linked list ended.
pub enum End {
    /// At a null pointer, or at an element it had.
    Closed,
    /// At this element, in which the memory of the link is not in the dump.
    Missing(u64),
    /// Before this element: there are more.
    More(u64),
}

/// Calls `each` with the elements of the list from `at` on, `most` of them at most. The address of the next one stands `link`
/// bytes behind the start of an element.
pub fn follow(
    space: &AddressSpace,
    mut at: u64,
    link: u64,
    most: u64,
    mut each: impl FnMut(u64) -> Result<()>,
) -> Result<End> {
    let mut seen = FxHashSet::default();
    for _ in 0..most {
        if at == 0 || !seen.insert(at) {
            return Ok(End::Closed);
        }
        each(at)?;
        let Some(next) = at.checked_add(link).and_then(|a| space.ptr(a)) else { return Ok(End::Missing(at)) };
        at = next;
    }
    Ok(if at == 0 || seen.contains(&at) { End::Closed } else { End::More(at) })
}
