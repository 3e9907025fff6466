//! `!dumpobj`: one object with its fields.

use anyhow::{Result, bail};

use super::continuation;
use super::fieldtable::{self, Of};
use crate::clr::Clr;
use crate::clr::runtime::locks::{LOCK, LockKind};
use crate::clr::types::fields::{Element, et};
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Out, Outcome, Prefix, Returns, digits};

/// `!dumpobj ADDR`.
pub const DUMPOBJ: Command = Command {
    name: "dumpobj",
    prefix: Prefix::Bang,
    aliases: &["do"],
    group: Group::Objects,
    summary: "show an object: type, size, fields with their values",
    help: "Prints the type, MethodTable, size and module of the object at ADDR, its text when it is a string, its shape \
           when it is an array, and its fields: MethodTable of the field's type, token, offset in bytes, type, whether \
           it is a value type, instance or static, value, name. The value of a struct field is its address, for \
           !dumpvc. -refs lists the references it holds.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the object").required(),
        Arg::flag("nofields", "leave the fields out"),
        Arg::flag("refs", "list the references it holds"),
        Arg::flag("d", "accepted for scripts that ask for links; no effect"),
    ],
    examples: &[Example { line: "!dumpobj $OBJECT", what: "the object's fields" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let address = args.number("ADDR").unwrap_or(0);
    let object = look_up(session, address)?;
    show(session, ctx.out, &object, !args.has("nofields"))?;
    if args.has("refs") {
        refs(session, ctx.out, &object)?;
    }
    Ok(Outcome::Complete)
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
pub fn show(session: &Session, out: &mut Out, o: &Found<'_>, fields: bool) -> Result<()> {
    let clr = session.clr()?;
    let mt = &o.ty.mt;
    out.line(format!("Name:        {}", clr.type_name_long(mt.address)))?;
    out.line(format!("MethodTable: {:0w$x}", mt.address, w = digits()))?;
    let size = own_size(clr, o);
    out.line(format!("Size:        {size}(0x{size:x}) bytes"))?;
    if o.ty.is_free {
        return Ok(());
    }
    if mt.address == clr.known.runtime_type {
        runtime_type(session, out, o)?;
    }
    if mt.is_array() {
        array_head(session, out, o)?;
    } else {
        let module = clr.defining_module(mt).map(|m| clr.module(m).display_name(clr));
        out.line(format!("File:        {}", module.unwrap_or_default()))?;
    }
    if o.ty.is_string
        && let Some((_, text)) = clr.string_at(o.address, 1 << 20)
    {
        out.line(format!("String:      {}", printable(&text)))?;
    }
    if clr.may_be_continuation(mt.address) {
        continuation::head(session, out, o.address)?;
    }
    if fields {
        fieldtable::print(session, out, mt.address, &Of::Object(o.address.saturating_add(clr.header())))?;
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
    out.line(format!(
        "Array:       Rank {rank}, Number of elements {count}, Type {}",
        element_word(session, mt.per_inst)
    ))?;
    let bytes = mt.component_size() == 1 && rank == 1;
    let chars = element_type(session, mt.per_inst) == Some(Element(et::CHAR));
    if (bytes || chars)
        && let Some((_, data)) = clr.array_shape(o.address, mt.is_sz_array(), rank)
    {
        out.line(format!("Content:     {}", content(session, data, count, if chars { 2 } else { 1 })))?;
    }
    Ok(())
}

/// The element's type in the word SOS prints: `CLASS`, `VALUETYPE`, or the primitive's name.
pub fn element_word(session: &Session, handle: u64) -> &'static str {
    match element_type(session, handle) {
        Some(Element(et::CLASS)) => "CLASS",
        Some(Element(et::STRUCT)) => "VALUETYPE",
        Some(Element(et::SZARRAY)) => "SZARRAY",
        Some(Element(et::ARRAY)) => "ARRAY",
        Some(Element(et::U1)) => "Byte",
        Some(Element(et::I1)) => "SByte",
        Some(Element(et::R4)) => "Single",
        Some(Element(et::I)) => "IntPtr",
        Some(Element(et::U)) => "UIntPtr",
        Some(Element(et::PTR)) => "PTR",
        Some(Element(et::FNPTR)) => "FNPTR",
        Some(e) => e.name(),
        None => "?",
    }
}

/// Element type of values of the type behind `handle`.
pub fn element_type(session: &Session, handle: u64) -> Option<Element> {
    let clr = session.clr().ok()?;
    if handle & 2 != 0 {
        return clr.space().u8(handle & !3).map(Element);
    }
    let mt = clr.method_table(handle)?;
    if mt.is_array() {
        return Some(Element(if mt.is_sz_array() { et::SZARRAY } else { et::ARRAY }));
    }
    if !mt.is_value_type() {
        return Some(Element(et::CLASS));
    }
    let class = clr.mts().eeclass(clr.space(), &mt)?;
    let at = class.checked_add(clr.layout().try_offset("EEClass", "InternalCorElementType")?)?;
    clr.space().u8(at).map(Element)
}

fn content(session: &Session, data: u64, count: u32, unit: u64) -> String {
    let space = &session.dump().space;
    let dot = |c: u32| char::from_u32(c).filter(|c| (' '..='~').contains(c)).unwrap_or('.');
    (0..u64::from(count.min(64)))
        .map_while(|i| {
            let at = data.checked_add(i * unit)?;
            let c = if unit == 2 { u32::from(space.u16(at)?) } else { u32::from(space.u8(at)?) };
            Some(dot(c))
        })
        .collect()
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '.' } else { c }).collect()
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
        out.line(format!("Type Name:   {}", clr.handle_tree(handle).reflection()))?;
        out.line(format!("Type MT:     {handle:0w$x}", w = digits()))?;
    }
    Ok(())
}

fn thin_lock(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    if let Some((owner, recursion)) = session.thin_lock(o.address) {
        out.line(format!("ThinLock owner {owner:x}, Recursive {recursion:x}"))?;
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
    let owner = owner.map_or_else(|| "none".into(), |t| format!("{:x} (OSID {:x})", t.managed_id, t.os_id));
    let of = match lock.kind {
        LockKind::Lock => String::new(),
        _ => format!("monitor of {:0w$x}, ", lock.object, w = digits()),
    };
    out.line(format!("Lock: {of}owner {owner}, Count {}, Waiters {}", lock.count, lock.waiters))?;
    Ok(())
}

fn refs(session: &Session, out: &mut Out, o: &Found<'_>) -> Result<()> {
    use crate::shell::{Cell, Col};
    const COLUMNS: &[Col] = &[
        Col::right("Field", "field", 20),
        Col::right("Offset", "offset", 8),
        Col::right("Object", "object", 16),
        Col::left("Type", "type", 0),
    ];
    let clr = session.clr()?;
    out.line("GC Refs:")?;
    out.table("references", COLUMNS, true)?;
    let fields = clr.fields(o.ty.mt.address);
    let mut slots = Vec::new();
    o.ty.refs.slots(o.size, clr.header(), |s| slots.push(s));
    for slot in slots {
        let Some(target) = clr.space().ptr(o.address + slot).filter(|&t| t != 0) else { continue };
        let name = fields.instance.iter().find(|f| f.offset() + clr.header() == slot).map(|f| f.name.clone());
        let ty = clr.object_type(target).map(|t| clr.type_name_long(t));
        out.row(&[
            Cell::text(name.as_deref().unwrap_or("").to_owned()),
            Cell::Hex(slot),
            Cell::Addr(target),
            Cell::text(ty.as_deref().unwrap_or("?").to_owned()),
        ])?;
    }
    Ok(())
}
