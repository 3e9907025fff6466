//! `!dumpobj`: one object with its fields.

use anyhow::{Result, bail};

use super::continuation;
use super::decoded;
use super::fieldtable::{self, Of};
use super::head::{self, Head};
use crate::clr::Clr;
use crate::clr::runtime::locks::{LOCK, LockKind};
use crate::clr::types::fields::{Element, et};
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
    digits,
};

/// `!dumpobj ADDR`.
pub const DUMPOBJ: Command = Command {
    name: "dumpobj",
    prefix: Prefix::Bang,
    aliases: &["do", "mdt", "wdo", "displayobj", "do2"],
    group: Group::Objects,
    summary: "show an object: type, size, fields with their values",
    help: "Prints the type, MethodTable, size and module of the object at ADDR, its text when it is a string, its shape \
           when it is an array, and its fields: MethodTable of the field's type, token, offset in bytes, type, whether \
           it is a value type, instance or static, value, name, and what the value says in words where it is a date, an \
           identifier, an enum, ... The value of a struct field is its address, for !dumpvc. A static field of a class whose \
           initializer has not run is marked: its value was never stored. -refs lists the references it holds.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object").required(),
        Arg::flag("nofields", "leave the fields out"),
        Arg::flag("refs", "list the references it holds"),
        Arg::flag("d", "accepted for scripts that ask for links; no effect"),
    ],
    examples: &[Example { line: "!dumpobj $OBJECT", what: "the object's fields" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        head::SAID,
        Fact::new("string", "text of the string", Type::Content),
        Fact::new(
            "content",
            "characters or bytes of the array, 65536 at most; a byte is the character of that number",
            Type::Content,
        ),
        Fact::new("content_left_out", "characters or bytes of it that the content does not have", Type::Count),
        Fact::new("stands_for", "the type the RuntimeType stands for", Type::TypeName),
        Fact::new("stands_for_method_table", "MethodTable, or handle, of that type", Type::Address),
        Fact::new("thin_lock_owner", "managed id of the thread that holds the thin lock", Type::Number),
        Fact::new("thin_lock_recursion", "how often it entered the lock again", Type::Count),
        Fact::new("lock_monitor_of", "object whose monitor the Lock is", Type::Address),
        Fact::new("lock_owner", "managed id of the thread that holds the Lock", Type::Number),
        Fact::new("lock_owner_os_id", "operating system id of that thread", Type::Hex),
        Fact::new("lock_count", "how often it entered the Lock", Type::Count),
        Fact::new("lock_waiters", "threads that wait for the Lock", Type::Count),
    ])
    .and(&[&REFERENCES])
    .with(&[&head::RETURNS, &head::ARRAY_RETURNS, &continuation::RETURNS, &fieldtable::RETURNS]),
    run,
};

const REFERENCES: Table = Table::new(
    "references",
    &[
        Col::right("Field", "field", 20).of(Type::FieldPath),
        Col::right("Offset", "offset", 8).of(Type::Bytes),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let object = look_up(session, address)?;
    let fields = !args.has("nofields");
    show(session, ctx.out, &object, fields)?;
    if args.has("refs") {
        refs(session, ctx.out, &object)?;
    }
    Ok(if fields { fieldtable::outcome(session.clr()?, object.ty.mt.address) } else { Outcome::Complete })
}

/// The object at `address`, or why there is none.
pub fn look_up(session: &Session, address: u64) -> Result<Found<'_>> {
    let walker = session.walker()?;
    if let Some(o) = walker.object_at(address) {
        return Ok(o);
    }
    match walker.heap.segment_at(address) {
        Some(_) if !session.dump().space.readable(address) => {
            bail!("{address:x} is inside the managed heap, but its memory is not in the dump")
        }
        Some(_) => {
            bail!("{address:x} is inside the managed heap but no object starts there; try !listnearobj {address:x}")
        }
        None if session.dump().space.readable(address) => {
            bail!("{address:x} is not in the managed heap; !address {address:x} tells what it is")
        }
        None => bail!("{address:x} is not in the dump"),
    }
}

/// Prints the object's head and fields.
fn show(session: &Session, out: &mut Out, o: &Found<'_>, fields: bool) -> Result<()> {
    let clr = session.clr()?;
    let mt = &o.ty.mt;
    Head { address: o.address, mt: mt.address, class: None, size: own_size(clr, o) }.print(clr, out)?;
    if o.ty.is_free {
        return Ok(());
    }
    if mt.address == clr.known.runtime_type {
        runtime_type(session, out, o)?;
    }
    if mt.is_array() {
        array_head(session, out, o)?;
    } else {
        head::file(clr, out, mt)?;
    }
    if o.ty.is_string
        && let Some((_, text)) = clr.string_at(o.address, 1 << 20)
    {
        let line = format!("String:      {text}");
        let whole = out.wants_data().then(|| clr.string_units(o.address, usize::MAX)).flatten();
        out.fact("string", whole.map_or(Cell::text(text), |(_, units)| Cell::Units(units.into())), line)?;
    }
    if clr.may_be_continuation(mt.address) {
        continuation::head(session, out, o.address)?;
    }
    if fields {
        fieldtable::print(session, out, mt.address, &Of::Object(o.address.saturating_add(clr.header())))?;
    }
    if mt.address != clr.known.runtime_type {
        head::said(out, decoded::of_object(session, o.address))?;
    }
    thin_lock(session, out, o)?;
    lock(session, out, o)
}

/// The object's size as its class gives it: that of a short string is less than the smallest object.
pub fn own_size(clr: &Clr, o: &Found<'_>) -> u64 {
    if !o.ty.is_string {
        return o.size;
    }
    let units = clr.component_count(o.address).unwrap_or(0);
    u64::from(o.ty.mt.base_size) + u64::from(units) * u64::from(o.ty.mt.component_size())
}

fn array_head(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    let clr = session.clr()?;
    let mt = &o.ty.mt;
    let rank = mt.rank(clr.ptr_size());
    let count = clr.component_count(o.address).unwrap_or(0);
    head::array(session, out, mt, count.into())?;
    let bytes = mt.component_size() == 1 && rank == 1;
    let chars = head::element_type(session, mt.per_inst) == Some(Element(et::CHAR));
    if (bytes || chars)
        && let Some((_, data)) = clr.array_shape(o.address, mt.is_sz_array(), rank)
    {
        let units = content(session, data, count, if chars { 2 } else { 1 }, out.wants_data());
        let dot = |c: &u16| char::from_u32((*c).into()).filter(|c| (' '..='~').contains(c)).unwrap_or('.');
        let shown: String = units.iter().take(SHOWN as usize).map(dot).collect();
        let left_out = u64::from(count).saturating_sub(units.len() as u64);
        if out.wants_data() && left_out > 0 {
            out.datum("content_left_out", &Cell::Num(left_out));
        }
        out.fact("content", Cell::Units(units.into()), format!("Content:     {shown}"))?;
    }
    Ok(())
}

/// Characters or bytes of an array shown in text.
const SHOWN: u32 = 64;
/// As many are values; how many are left out is one too.
const MOST: u32 = 1 << 16;

/// The first characters or bytes of an array, as far as they are in the dump.
fn content(session: &Session, data: u64, count: u32, unit: u64, whole: bool) -> Vec<u16> {
    let space = &session.dump().space;
    (0..u64::from(count.min(if whole { MOST } else { SHOWN })))
        .map_while(|i| {
            let at = data.checked_add(i * unit)?;
            if unit == 2 { space.u16(at) } else { space.u8(at).map(u16::from) }
        })
        .collect()
}

/// The type a `System.RuntimeType` object stands for: its `m_handle` field.
fn runtime_type(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    let clr = session.clr()?;
    let fields = clr.fields(o.ty.mt.address);
    let handle = fields
        .instance
        .iter()
        .find(|f| &*f.name == "m_handle")
        .and_then(|f| clr.space().ptr(o.address.checked_add(clr.header())?.checked_add(f.offset())?));
    if let Some(handle) = handle {
        let name = clr.handle_tree(handle).reflection();
        out.fact("stands_for", Cell::text(&*name), format!("Type Name:   {name}"))?;
        let line = format!("Type MT:     {handle:0w$x}", w = digits());
        out.fact("stands_for_method_table", Cell::Addr(handle), line)?;
    }
    Ok(())
}

fn thin_lock(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    if let Some((owner, recursion)) = session.thin_lock(o.address) {
        let facts =
            [("thin_lock_owner", Cell::Num(owner.into())), ("thin_lock_recursion", Cell::Num(recursion.into()))];
        out.facts(&facts, format!("ThinLock owner {owner:x}, Recursive {recursion:x}"))?;
    }
    Ok(())
}

/// Who holds a `System.Threading.Lock`, and the monitor it is; nothing of one nobody holds or waits for.
fn lock(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    let clr = session.clr()?;
    if &*clr.type_name(o.ty.mt.address) != LOCK {
        return Ok(());
    }
    let Some(lock) = session.lock_at(o.address).filter(|l| l.monitor_held() != 0) else { return Ok(()) };
    let owner = clr.threads().items.iter().find(|t| t.address == lock.owner && lock.held);
    let shown = owner.map_or_else(|| "none".into(), |t| format!("{:x} (OSID {:x})", t.managed_id, t.os_id));
    let monitor = lock.kind != LockKind::Lock;
    let of = if monitor { format!("monitor of {:0w$x}, ", lock.object, w = digits()) } else { String::new() };
    let facts = [
        ("lock_monitor_of", if monitor { Cell::Addr(lock.object) } else { Cell::None }),
        ("lock_owner", owner.map_or(Cell::None, |t| Cell::Num(t.managed_id.into()))),
        ("lock_owner_os_id", owner.map_or(Cell::None, |t| Cell::Hex(t.os_id))),
        ("lock_count", Cell::Num(lock.count.into())),
        ("lock_waiters", Cell::Num(lock.waiters.into())),
    ];
    out.facts(&facts, format!("Lock: {of}owner {shown}, Count {}, Waiters {}", lock.count, lock.waiters))?;
    Ok(())
}

fn refs(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    let clr = session.clr()?;
    out.note("GC Refs:")?;
    out.open(&REFERENCES)?;
    let fields = clr.fields(o.ty.mt.address);
    let mut slots = Vec::new();
    o.slots(clr.space(), |s| slots.push(s));
    for slot in slots {
        let Some(target) = clr.space().ptr(o.address + slot).filter(|&t| t != 0) else { continue };
        let name = fields.instance.iter().find(|f| f.offset() + clr.header() == slot).map(|f| f.name.clone());
        let ty = clr.object_type(target).map(|t| clr.type_name_long(t));
        out.row(&[
            Cell::maybe(name.as_deref()),
            Cell::As(format!("{slot:x}").into(), slot),
            Cell::Addr(target),
            ty.as_deref().map_or(Cell::shown("?", Cell::None), Cell::text),
        ])?;
    }
    Ok(())
}
