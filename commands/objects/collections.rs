//! `!dumpcollection`, `!dumpconcurrentdictionary`, `!dumpconcurrentqueue`: what is in a collection.

pub mod item;
pub mod parts;
pub mod read;
pub mod room;
mod special;
mod unchanging;

use anyhow::{Result, bail};

use self::item::{Place, Said};
use self::parts::Entry;
use self::read::Shape;
use super::dumpobj::look_up;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumpcollection ADDR`.
pub const DUMPCOLLECTION: Command = Command {
    name: "dumpcollection",
    prefix: Prefix::Bang,
    aliases: &["dcol", "dumpcol", "wdict", "whash", "wkeyvalue"],
    group: Group::Objects,
    summary: "list what is in a collection: lists, dictionaries, sets, queues, stacks",
    help: "Lists the items of the collection at ADDR, or its keys and values, in the collection's own order: List, \
           Dictionary, HashSet, Queue, Stack, LinkedList, SortedDictionary, SortedSet, SortedList, PriorityQueue, the \
           concurrent, immutable, frozen and ordered ones, channels, ArrayList, Hashtable and other old ones, \
           ConditionalWeakTable, ExpandoObject, look-ups, arrays, read-only wrappers around them, and classes that inherit \
           from one. Strings are quoted and cut at 100 characters; numbers, dates, enums and other values of the library are \
           spelled out; other objects and structs are shown as the command that shows them. -start and -length are decimal.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the collection").required(),
        Arg::opt("start", Kind::Count, "first item shown"),
        Arg::opt("length", Kind::Count, "number of items shown"),
        Arg::opt("find", Kind::Text, "only items whose text contains this"),
    ],
    examples: &[Example { line: "!dumpcollection $LIST", what: "what a list holds" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[COLLECTION, TYPE, COUNT]).and(&[&ITEMS, &PAIRS]),
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
    returns: Returns::facts(&[COLLECTION, TYPE, COUNT]).and(&[&PAIRS]),
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
    returns: Returns::facts(&[COLLECTION, TYPE, COUNT]).and(&[&WAITING]),
    run: dump_concurrent_queue,
};

const COLLECTION: Fact = Fact::new("collection", "address of the collection", Type::Address);
const TYPE: Fact = Fact::new("type", "its type", Type::TypeName);
const COUNT: Fact = Fact::new("items", "items in it", Type::Count);

const INDEX: Col = Col::right("Index", "index", 8).of(Type::Count);
const KEY: Col = Col::left("Key", "key", 32).of(Type::Content);
const VALUE: Col = Col::left("Value", "value", 0).of(Type::Content);

/// Columns behind [`VALUE`] and [`KEY`] that say more of it.
const MORE: [Col; 5] = [
    Col::data("value_number", Type::Number).titled("the number the value is: 1 for true, the code of a character"),
    Col::data("value_object", Type::Address).titled("the object it is; 0x0 for null"),
    Col::data("value_address", Type::Address).titled("where it stands"),
    Col::data("value_type", Type::TypeName).titled("type of the object, struct or number"),
    Col::data("value_method_table", Type::Address).titled("MethodTable of the object or struct"),
];
const MORE_OF_KEY: [Col; 5] = [
    Col::data("key_number", Type::Number).titled("the number the key is"),
    Col::data("key_object", Type::Address).titled("the object it is; 0x0 for null"),
    Col::data("key_address", Type::Address).titled("where it stands"),
    Col::data("key_type", Type::TypeName).titled("type of the object, struct or number"),
    Col::data("key_method_table", Type::Address).titled("MethodTable of the object or struct"),
];

const ITEMS: Table = Table::new("items", &[INDEX, VALUE, MORE[0], MORE[1], MORE[2], MORE[3], MORE[4]]);

const PAIRS: Table = Table::new(
    "items",
    &[
        INDEX,
        KEY,
        VALUE,
        MORE_OF_KEY[0],
        MORE_OF_KEY[1],
        MORE_OF_KEY[2],
        MORE_OF_KEY[3],
        MORE_OF_KEY[4],
        MORE[0],
        MORE[1],
        MORE[2],
        MORE[3],
        MORE[4],
    ],
);

/// As [`ITEMS`], numbered as SOS numbers what waits in a queue.
const WAITING: Table = Table::new(
    "items",
    &[
        Col::data("number", Type::Count).titled("its number, the oldest has 1"),
        VALUE,
        MORE[0],
        MORE[1],
        MORE[2],
        MORE[3],
        MORE[4],
    ],
);

/// Prints the first line.
fn head(out: &mut Out, value: &Value<'_>) -> Result<()> {
    let name = value.type_name();
    out.datum("collection", &Cell::Addr(value.address()));
    out.fact("type", Cell::text(&*name), &name)?;
    Ok(())
}

fn said(session: &Session, out: &Out, place: &Place) -> Said {
    Said::of(session, place, out.wants_data())
}

/// A row of [`PAIRS`].
fn pair_row(index: u64, key: Said, value: Said) -> [Cell<'static>; 13] {
    let ([k, k1, k2, k3, k4, k5], [v, v1, v2, v3, v4, v5]) = (key.cells(), value.cells());
    [Cell::Num(index), k, v, k1, k2, k3, k4, k5, v1, v2, v3, v4, v5]
}

/// A row of [`ITEMS`] or [`WAITING`].
fn item_row(number: u64, value: Said) -> [Cell<'static>; 7] {
    let [v, v1, v2, v3, v4, v5] = value.cells();
    [Cell::Num(number), v, v1, v2, v3, v4, v5]
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
    head(ctx.out, &value)?;
    ctx.out.open(if shape.has_pairs() { &PAIRS } else { &ITEMS })?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        let index = count;
        count += 1;
        if !(start..end).contains(&index) {
            return Ok(());
        }
        let found = |said: &Said| find.as_ref().is_none_or(|f| said.text.to_lowercase().contains(f.as_str()));
        match &entry {
            Entry::Item(i) => {
                let value = said(session, ctx.out, i);
                if found(&value) {
                    ctx.out.row_in(&ITEMS, &item_row(index, value))?;
                }
            }
            Entry::Pair(k, v) => {
                let (key, value) = (said(session, ctx.out, k), said(session, ctx.out, v));
                if found(&key) || found(&value) {
                    ctx.out.row_in(&PAIRS, &pair_row(index, key, value))?;
                }
            }
        }
        Ok(())
    })?;
    ctx.out.fact("items", Cell::Num(count), format!("{} items", thousands(count)))?;
    Ok(outcome(partial, count))
}

fn dump_concurrent_dictionary(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let value = collection(session, args)?;
    let Some(shape) = Shape::of(&value).filter(|s| *s == Shape::ConcurrentDictionary) else {
        bail!("{:x} ({}) is not a ConcurrentDictionary", value.address(), value.type_name())
    };
    head(ctx.out, &value)?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        if let Entry::Pair(key, value) = &entry {
            let (key, value) = (said(session, ctx.out, key), said(session, ctx.out, value));
            let line = format!("    -----\n      Key: {}\n    Value: {}", key.text.trim_end_matches(' '), value.text);
            ctx.out.row_as(&PAIRS, &pair_row(count, key, value), line)?;
            count += 1;
        }
        Ok(())
    })?;
    ctx.out.note("-".repeat(45))?;
    ctx.out.fact("items", Cell::Num(count), format!("{count} items"))?;
    Ok(outcome(partial, count))
}

fn dump_concurrent_queue(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let value = collection(session, args)?;
    let Some(shape) = Shape::of(&value).filter(|s| *s == Shape::ConcurrentQueue) else {
        bail!("{:x} ({}) is not a ConcurrentQueue", value.address(), value.type_name())
    };
    head(ctx.out, &value)?;
    let mut count = 0u64;
    let partial = shape.each(session, &value, &mut |entry| {
        if let Entry::Item(place) = &entry {
            count += 1;
            let value = said(session, ctx.out, place);
            let line = format!("{count:>4} - {}", value.text);
            ctx.out.row_as(&WAITING, &item_row(count, value), line)?;
        }
        Ok(())
    })?;
    ctx.out.note("-".repeat(45))?;
    ctx.out.fact("items", Cell::Num(count), format!("{count} items"))?;
    Ok(outcome(partial, count))
}
