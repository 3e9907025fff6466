//! `!dumpclass`: the class behind a MethodTable, with its static fields.

use anyhow::Result;

use super::dumpmt;
use super::fieldtable::{self, Of};
use crate::clr::types::fielddesc;
use crate::shell::{
    Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type, digits,
};

/// `!dumpclass EECLASS-or-MT`.
pub const DUMPCLASS: Command = Command {
    name: "dumpclass",
    prefix: Prefix::Bang,
    aliases: &["wclass"],
    group: Group::Objects,
    summary: "show a type's class: attributes, fields, values of its static fields",
    help: "Takes an EEClass or a MethodTable. Lists the instance fields with their offsets and the static fields with \
           their values: the way to a static field without an object of its type.",
    args: &[Arg::pos("CLASS", Kind::MethodTable, "EEClass or MethodTable").required()],
    examples: &[Example { line: "!dumpclass $MT", what: "fields and statics of a type" }],
    needs: Needs::CoreClr,
    returns: Returns::facts(&[
        Fact::new("name", "name of the type", Type::TypeName),
        Fact::new("token", "its TypeDef token", Type::Hex),
        Fact::new("file", "path of its module, or its name where there is no file", Type::Path),
        Fact::new("parent", "MethodTable of the base class; 0 without one", Type::Address),
        Fact::new("module", "Module that defines it", Type::Address),
        Fact::new("method_table", "its MethodTable", Type::Address),
        Fact::new("ee_class", "its EEClass", Type::Address),
        Fact::new("attributes", "its attributes (TypeAttributes)", Type::Hex),
        Fact::new("interface", "it is an interface", Type::Bool),
        Fact::new("abstract", "it is abstract", Type::Bool),
        Fact::new("sealed", "it is sealed", Type::Bool),
        Fact::new("instance_fields", "instance fields, the inherited ones included", Type::Count),
        Fact::new("static_fields", "its static fields, those of threads not counted", Type::Count),
        Fact::new("thread_static_fields", "its thread static fields", Type::Count),
    ])
    .with(&[&fieldtable::RETURNS]),
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let mt = dumpmt::look_up(session, args.number("CLASS").unwrap_or(0))?;
    let module = clr.defining_module(&mt);
    let file = module.map(|m| clr.module(m).display_name(clr));
    let class = clr.mts().eeclass(clr.space(), &mt);
    let attributes =
        clr.layout().try_offset("EEClass", "CorTypeAttr").and_then(|o| clr.space().u32(class?.checked_add(o)?));
    let (name, token, w) = (clr.type_name_long(mt.address), 0x0200_0000 | u64::from(clr.type_rid(&mt)), digits());
    let out = &mut *ctx.out;
    out.fact("name", Cell::text(&*name), format!("Class Name:      {name}"))?;
    out.fact("token", Cell::Hex(token), format!("mdToken:         {token:0w$X}"))?;
    let line = format!("File:            {}", file.as_deref().unwrap_or_default());
    out.fact("file", Cell::maybe(file), line)?;
    out.fact("parent", Cell::Addr(mt.parent), format!("Parent:    {:0w$x}", mt.parent))?;
    let line = format!("Module:          {:0w$x}", module.unwrap_or(0));
    out.fact("module", module.map_or(Cell::None, Cell::Addr), line)?;
    out.fact("method_table", Cell::Addr(mt.address), format!("Method Table:    {:0w$x}", mt.address))?;
    if let Some(class) = class {
        out.fact("ee_class", Cell::Addr(class), format!("EEClass:         {class:0w$x}"))?;
    }
    let has = |bit: u32| attributes.map_or(Cell::None, |a| Cell::Bool(a & bit != 0));
    let facts = [
        ("attributes", attributes.map_or(Cell::None, |a| Cell::Hex(a.into()))),
        ("interface", has(INTERFACE)),
        ("abstract", has(ABSTRACT)),
        ("sealed", has(SEALED)),
    ];
    let flags = attributes.map_or_else(|| "?".into(), |a| format!("{a:08x}"));
    out.facts(&facts, format!("Class Attributes:    {flags}  {}", words(attributes.unwrap_or(0))))?;
    let counts = fielddesc::counts(clr.space(), clr.layout(), clr.mts(), &mt)?;
    let fields = clr.fields(mt.address);
    let threads = fields.statics.iter().filter(|f| f.desc.is_thread_static).count() as u64;
    let instance = counts.map_or(fields.instance.len() as u64, |c| c.instance.into());
    out.fact("instance_fields", Cell::Num(instance), format!("NumInstanceFields:   {instance}"))?;
    let statics = fields.statics.len() as u64 - threads;
    out.fact("static_fields", Cell::Num(statics), format!("NumStaticFields:     {statics}"))?;
    match threads {
        0 => out.datum("thread_static_fields", &Cell::Num(0)),
        n => out.fact("thread_static_fields", Cell::Num(n), format!("NumThreadStaticFields: {n}"))?,
    }
    if !fields.instance.is_empty() || !fields.statics.is_empty() {
        fieldtable::print(session, out, mt.address, &Of::Type)?;
    }
    Ok(fieldtable::outcome(clr, mt.address))
}

/// `TypeAttributes` (ECMA-335 II.23.1.15).
const INTERFACE: u32 = 0x20;
const ABSTRACT: u32 = 0x80;
const SEALED: u32 = 0x100;

/// Those of them the field's tools put into words.
fn words(attributes: u32) -> &'static str {
    match (attributes & INTERFACE != 0, attributes & ABSTRACT != 0, attributes & SEALED != 0) {
        (true, _, _) => "Interface, ",
        (_, true, true) => "Abstract, Sealed, ",
        (_, true, false) => "Abstract, ",
        _ => "",
    }
}
