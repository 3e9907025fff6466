//! `dt`: the layout of a type, or a value of it in memory.

use anyhow::{Result, bail};

use crate::commands::memory::value;
use crate::dump::little_endian;
use crate::native::record::context_places;
use crate::session::Session;
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns, Table, Type,
};

const FIELDS: Table = Table::new(
    "fields",
    &[
        Col::data("offset", Type::Hex).titled("where it stands"),
        Col::data("field", Type::Text).titled("its name"),
        Col::data("size", Type::Bytes).titled("its bytes"),
        Col::data("value", Type::Hex).titled("its value"),
    ],
);

/// `dt [MODULE!]TYPE [ADDR]`.
pub const DT: Command = Command {
    help: "Of a .NET type shows the class (as !dumpclass), with an address the object or value there (as !dumpobj and !dumpvc). \
           Of native types those are known that need no symbols: _TEB, _PEB (as !teb and !peb) and _CONTEXT, the registers \
           that stand at an address. Names are whole; the module before ! and options are accepted.",
    args: &[Arg::pos("TYPE", Kind::Rest, "[MODULE!]TYPE [ADDR]")],
    examples: &[
        Example { line: "dt System.String", what: "the class of strings" },
        Example { line: "dt System.OutOfMemoryException $EXCEPTION", what: "an object" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&FIELDS]),
    run,
    ..Command::bare("dt", Prefix::Plain, Group::Objects, "the layout of a type, or a value of it in memory")
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = show(args.text("TYPE").unwrap_or("")).into_owned();
    let mut words = text.split_whitespace().filter(|w| !w.starts_with('-'));
    let Some(name) = words.next() else { bail!("expected a type: dt TYPE [ADDR]") };
    let address = words.next().map(|w| value(ctx, w)).transpose()?;
    let name = name.split_once('!').map_or(name, |(_, n)| n);
    let at = address.map_or(String::new(), |a| format!(" 0x{a:x}"));
    let line = match name.trim_start_matches('_') {
        "TEB" => format!("!teb{at}"),
        "PEB" => format!("!peb{at}"),
        "CONTEXT" => return context(ctx, address),
        _ => return managed(ctx, name, address),
    };
    ctx.request = Some(Request::Lines(vec![line]));
    Ok(Outcome::Complete)
}

fn managed(ctx: &mut Ctx<'_>, name: &str, address: Option<u64>) -> Result<Outcome> {
    let session = ctx.session()?;
    let found = session.clr().and_then(|_| session.find_types(name)).unwrap_or_default();
    if found.is_empty() {
        bail!(
            "no type {name} is loaded; !name2ee *!{name} looks in all modules. Types of native code need symbols of types, which \
             are not read: _TEB, _PEB and _CONTEXT are known"
        );
    }
    let lines = found.iter().map(|&mt| line(session, mt, address)).collect::<Result<_>>()?;
    ctx.request = Some(Request::Lines(lines));
    Ok(Outcome::Complete)
}

/// What shows the type, or its value at `address`.
fn line(session: &Session, mt: u64, address: Option<u64>) -> Result<String> {
    let Some(address) = address else { return Ok(format!("!dumpclass 0x{mt:x}")) };
    let is_object = session.walker().is_ok_and(|w| w.object_at(address).is_some_and(|o| o.ty.mt.address == mt));
    let is_value = session.clr()?.valid_method_table(mt).is_some_and(|t| t.is_value_type());
    Ok(match is_value && !is_object {
        true => format!("!dumpvc 0x{mt:x} 0x{address:x}"),
        false => format!("!dumpobj 0x{address:x}"),
    })
}

fn context(ctx: &mut Ctx<'_>, address: Option<u64>) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let mut missing = 0;
    for (name, offset, size) in context_places(dump.arch) {
        let read = |at: u64| dump.space.bytes(at, usize::from(size)).map(|b| little_endian(&b));
        let found = address.and_then(|a| read(a.checked_add(offset)?));
        missing += usize::from(address.is_some() && found.is_none());
        let text = match (found, address) {
            (Some(v), _) => format!(" : 0x{v:x}"),
            (None, Some(_)) => " : ??".to_owned(),
            (None, None) => String::new(),
        };
        let cells = [Cell::Hex(offset), Cell::text(name), Cell::Num(size.into()), found.map_or(Cell::None, Cell::Hex)];
        ctx.out.row_as(&FIELDS, &cells, format!("   +0x{offset:03x} {name:<4}{text}"))?;
    }
    Ok(if missing == 0 {
        Outcome::Complete
    } else {
        Outcome::Partial(format!("{missing} of the fields are not in the dump"))
    })
}
