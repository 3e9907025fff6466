//! `!dumpcollection`, `!dumpconcurrentdictionary`, `!dumpconcurrentqueue`: what is in a collection.

pub mod read;

use anyhow::{Result, bail};

use self::read::{Entry, Shape};
use super::dumpobj::look_up;
use crate::clr::types::fields::{Element, et};
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, digits};

/// `!dumpcollection ADDR`.
pub const DUMPCOLLECTION: Command = Command {
    name: "dumpcollection",
    prefix: Prefix::Bang,
    aliases: &["dcol"],
    group: Group::Objects,
    summary: "list what is in a collection: lists, dictionaries, sets, queues, stacks",
    help: "Lists the items of the collection at ADDR, or its keys and values, in the collection's own order: List, \
           Dictionary, HashSet, Queue, Stack, LinkedList, SortedDictionary, SortedSet, SortedList, PriorityQueue, the \
           concurrent ones, ImmutableList, ArrayList, Hashtable and other old ones, arrays, read-only wrappers around \
           them, and classes that inherit from one. Strings are quoted and cut at 100 characters; other objects and structs \
           are shown as the command that shows them. -start and -length are decimal.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the collection").required(),
        Arg::opt("start", Kind::Count, "first item shown"),
        Arg::opt("length", Kind::Count, "number of items shown"),
        Arg::opt("find", Kind::Text, "only items whose text contains this"),
    ],
    examples: &[Example { line: "!dumpcollection $LIST", what: "what a list holds" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dump_collection,
};

/// `!dumpconcurrentdictionary ADDR`.
pub const DUMPCONCURRENTDICTIONARY: Command = Command {
    name: "dumpconcurrentdictionary",
    prefix: Prefix::Bang,
    aliases: &["dcd"],
    group: Group::Objects,
    summary: "list keys and values of a ConcurrentDictionary",
    help: "For each pair of the ConcurrentDictionary at ADDR its key and value; objects and structs are shown as the \
           command that shows them, strings quoted and cut at 100 characters. !dumpcollection does the same for other \
           collections.",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the dictionary").required()],
    examples: &[Example { line: "!dcd $CONCURRENTDICTIONARY", what: "what it holds" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dump_concurrent_dictionary,
};

/// `!dumpconcurrentqueue ADDR`.
pub const DUMPCONCURRENTQUEUE: Command = Command {
    name: "dumpconcurrentqueue",
    prefix: Prefix::Bang,
    aliases: &["dcq"],
    group: Group::Objects,
    summary: "list the items of a ConcurrentQueue",
    help: "Numbers and shows each item of the ConcurrentQueue at ADDR, the oldest first; objects and structs are shown as \
           the command that shows them, strings quoted and cut at 100 characters.",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the queue").required()],
    examples: &[Example { line: "!dcq $CONCURRENTQUEUE", what: "what waits in it" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run: dump_concurrent_queue,
};

/// Characters of a string shown.
const SHOWN: usize = 100;

/// Where a key, value or item is, and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Element type.
    pub element: Element,
    /// MethodTable of a struct.
    pub mt: Option<u64>,
    /// Its address.
    pub at: u64,
}

/// An object, a struct or a primitive in one word: a value, or the command that shows it.
pub fn show(session: &Session, place: &Place) -> String {
    let Ok(clr) = session.clr() else { return "?".into() };
    if place.element.0 == et::STRUCT {
        return match place.mt {
            Some(mt) => format!("dumpvc {mt:0w$x} {:0w$x}", place.at, w = digits()),
            None => format!("{:0w$x}", place.at, w = digits()),
        };
    }
    if !place.element.is_reference() {
        let text = super::value::text(clr, place.element, place.at);
        return match (place.element.0, text.as_deref()) {
            (et::BOOLEAN, Some("0")) => "False".into(),
            (et::BOOLEAN, Some(_)) => "True".into(),
            (et::CHAR, _) => {
                let c = clr.space().u16(place.at).and_then(|c| char::from_u32(u32::from(c)));
                c.map_or_else(|| "?".into(), |c| format!("'{c}'"))
            }
            (_, t) => t.unwrap_or("?").to_owned(),
        };
    }
    match clr.space().ptr(place.at) {
        None => "?".into(),
        Some(0) => "null".into(),
        Some(object) => show_object(session, object),
    }
}

/// As [`show`], of the object at `address`.
pub fn show_object(session: &Session, address: u64) -> String {
    let (Ok(clr), Ok(walker)) = (session.clr(), session.walker()) else { return "?".into() };
    match walker.object_at(address) {
        Some(o) if o.ty.is_string => {
            let (length, text) = clr.string_at(address, SHOWN).unwrap_or_default();
            format!("\"{text}{}\"", if length as usize > SHOWN { "..." } else { "" })
        }
        Some(o) if o.ty.mt.is_array() => format!("dumparray {address:0w$x}", w = digits()),
        _ => format!("dumpobj {address:0w$x}", w = digits()),
    }
}

fn collection<'s>(session: &'s Session, args: &Args) -> Result<Value<'s>> {
    let address = args.number("ADDR").unwrap_or(0);
    look_up(session, address)?;
    session.value(address).ok_or_else(|| anyhow::anyhow!("{address:x} is not an object"))
}

/// What a reading says of its own completeness.
fn outcome(partial: Option<String>, count: u64) -> Outcome {
    match partial {
        Some(why) => Outcome::Partial(why),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    }
}

fn dump_collection(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const ITEMS: &[Col] = &[Col::right("Index", "index", 8), Col::left("Value", "value", 0)];
    const PAIRS: &[Col] =
        &[Col::right("Index", "index", 8), Col::left("Key", "key", 32), Col::left("Value", "value", 0)];
    let session = ctx.session()?;
    let value = collection(session, args)?;
    let Some(shape) = Shape::of(&value) else {
        bail!(
            "{:x} ({}) is not a collection this command knows; !dumpobj {:x} shows its fields",
            value.address(),
            value.type_name(),
            value.address()
        )
    };
    let start = args.number("start").unwrap_or(0);
    let end = args.number("length").map_or(u64::MAX, |n| start.saturating_add(n));
    let find = args.text("find").map(str::to_lowercase);
    ctx.out.line(&*value.type_name())?;
    ctx.out.table("items", if shape.has_pairs() { PAIRS } else { ITEMS }, true)?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        let index = count;
        count += 1;
        if !(start..end).contains(&index) {
            return Ok(());
        }
        let texts = match &entry {
            Entry::Item(i) => vec![show(session, i)],
            Entry::Pair(k, v) => vec![show(session, k), show(session, v)],
        };
        if find.as_ref().is_some_and(|f| !texts.iter().any(|t| t.to_lowercase().contains(f.as_str()))) {
            return Ok(());
        }
        let mut row = vec![Cell::Num(index)];
        row.extend(texts.into_iter().map(Cell::text));
        Ok(ctx.out.row(&row)?)
    })?;
    ctx.out.line(format!("{} items", thousands(count)))?;
    Ok(outcome(partial, count))
}

fn dump_concurrent_dictionary(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let value = collection(session, args)?;
    let Some(shape) = Shape::of(&value).filter(|s| *s == Shape::ConcurrentDictionary) else {
        bail!("{:x} ({}) is not a ConcurrentDictionary", value.address(), value.type_name())
    };
    ctx.out.line(&*value.type_name())?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        if let Entry::Pair(key, value) = &entry {
            count += 1;
            ctx.out.line("    -----")?;
            ctx.out.line(format!("      Key: {}", show(session, key)))?;
            ctx.out.line(format!("    Value: {}", show(session, value)))?;
        }
        Ok(())
    })?;
    ctx.out.line("-".repeat(45))?;
    ctx.out.line(format!("{count} items"))?;
    Ok(outcome(partial, count))
}

fn dump_concurrent_queue(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let value = collection(session, args)?;
    let Some(shape) = Shape::of(&value).filter(|s| *s == Shape::ConcurrentQueue) else {
        bail!("{:x} ({}) is not a ConcurrentQueue", value.address(), value.type_name())
    };
    ctx.out.line(&*value.type_name())?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        if let Entry::Item(item) = &entry {
            count += 1;
            ctx.out.line(format!("{count:>4} - {}", show(session, item)))?;
        }
        Ok(())
    })?;
    ctx.out.line("-".repeat(45))?;
    ctx.out.line(format!("{count} items"))?;
    Ok(outcome(partial, count))
}
