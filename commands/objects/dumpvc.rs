//! `!dumpvc`: a value type at an address.

use anyhow::{Result, bail};

use super::decoded;
use super::fieldtable::{self, Of};
use super::head::{self, Head};
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!dumpvc MT ADDR`.
pub const DUMPVC: Command = Command {
    name: "dumpvc",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a struct inside an object, an array or a static",
    help: "A value type has no MethodTable of its own in memory: give its MethodTable (the MT column of !dumpobj) and \
           its address (the Value column).",
    args: &[
        Arg::pos("MT", Kind::MethodTable, "MethodTable of the value type").required(),
        Arg::pos("ADDR", Kind::Address, "address of the value").required(),
    ],
    examples: &[Example { line: "!dumpvc $VALUETYPE $VALUE", what: "the fields of a struct" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[head::SAID]).with(&[&head::RETURNS, &fieldtable::RETURNS]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let (mt, address) = (args.number("MT").unwrap_or(0), args.number("ADDR").unwrap_or(0));
    let Some(table) = clr.valid_method_table(mt) else {
        bail!("{mt:x} is not a MethodTable; !name2ee finds one by name")
    };
    if !table.is_value_type() {
        bail!("{mt:x} ({}) is not a value type; use !dumpobj {address:x}", clr.type_name_long(mt));
    }
    if !session.dump().space.readable(address) {
        bail!("{address:x} is not in the dump");
    }
    let class = clr.mts().eeclass(clr.space(), &table);
    Head { address, mt, class, size: table.base_size.into() }.print(clr, ctx.out)?;
    head::file(clr, ctx.out, &table)?;
    fieldtable::print(session, ctx.out, mt, &Of::Value(address))?;
    head::said(ctx.out, decoded::of_value(session, mt, address, 0))?;
    Ok(fieldtable::outcome(clr, mt))
}
