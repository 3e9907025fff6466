//! `!dumpclass`: the class behind a MethodTable, with its static fields.

use anyhow::Result;

use super::dumpmt;
use super::fieldtable::{self, Of};
use crate::clr::types::fielddesc;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, digits};

/// `!dumpclass EECLASS-or-MT`.
pub const DUMPCLASS: Command = Command {
    name: "dumpclass",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show a type's class: attributes, fields, values of its static fields",
    help: "Takes an EEClass or a MethodTable. Lists the instance fields with their offsets and the static fields with \
           their values: the way to a static field without an object of its type.",
    args: &[Arg::pos("CLASS", Kind::MethodTable, "EEClass or MethodTable").required()],
    examples: &[Example { line: "!dumpclass $MT", what: "fields and statics of a type" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let mt = dumpmt::look_up(session, args.number("CLASS").unwrap_or(0))?;
    let module = clr.defining_module(&mt);
    let file = module.map(|m| clr.module(m).display_name(clr)).unwrap_or_default();
    let class = clr.mts().eeclass(clr.space(), &mt);
    let attributes =
        clr.layout().try_offset("EEClass", "CorTypeAttr").and_then(|o| clr.space().u32(class?.checked_add(o)?));
    ctx.out.line(format!("Class Name:      {}", clr.type_name_long(mt.address)))?;
    ctx.out.line(format!("mdToken:         {:0w$X}", 0x0200_0000 | u64::from(clr.type_rid(&mt)), w = digits()))?;
    ctx.out.line(format!("File:            {file}"))?;
    ctx.out.line(format!("Parent:    {:0w$x}", mt.parent, w = digits()))?;
    ctx.out.line(format!("Module:          {:0w$x}", module.unwrap_or(0), w = digits()))?;
    ctx.out.line(format!("Method Table:    {:0w$x}", mt.address, w = digits()))?;
    if let Some(class) = class {
        ctx.out.line(format!("EEClass:         {class:0w$x}", w = digits()))?;
    }
    let flags = attributes.map_or_else(|| "?".into(), |a| format!("{a:08x}"));
    ctx.out.line(format!("Class Attributes:    {flags}  {}", words(attributes.unwrap_or(0))))?;
    let counts = fielddesc::counts(clr.space(), clr.layout(), clr.mts(), &mt)?;
    let fields = clr.fields(mt.address);
    let threads = fields.statics.iter().filter(|f| f.desc.is_thread_static).count();
    ctx.out.line(format!("NumInstanceFields:   {}", counts.map_or(fields.instance.len() as u32, |c| c.instance)))?;
    ctx.out.line(format!("NumStaticFields:     {}", fields.statics.len() - threads))?;
    if threads > 0 {
        ctx.out.line(format!("NumThreadStaticFields: {threads}"))?;
    }
    if !fields.instance.is_empty() || !fields.statics.is_empty() {
        fieldtable::print(session, ctx.out, mt.address, &Of::Type)?;
    }
    Ok(fields.partial.clone().map_or(Outcome::Complete, Outcome::Partial))
}

/// `TypeAttributes` the field's tools put into words (ECMA-335 II.23.1.15).
fn words(attributes: u32) -> &'static str {
    match (attributes & 0x20 != 0, attributes & 0x80 != 0, attributes & 0x100 != 0) {
        (true, _, _) => "Interface, ",
        (_, true, true) => "Abstract, Sealed, ",
        (_, true, false) => "Abstract, ",
        _ => "",
    }
}
