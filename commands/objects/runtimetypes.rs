//! `!dumpruntimetypes`: the `System.RuntimeType` objects. `!findappdomain`: the domain of an object.

use anyhow::Result;

use super::dumpobj::look_up;
use crate::clr::runtime::domains;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
    digits, narrow_digits,
};

/// `!dumpruntimetypes`.
pub const DUMPRUNTIMETYPES: Command = Command {
    name: "dumpruntimetypes",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "list the System.RuntimeType objects with the types they stand for",
    help: "Every System.RuntimeType on the heap: its address, the app domain, the MethodTable of the type it stands for \
           (`?` when it is no MethodTable, as for a type parameter) and that type's name.",
    args: &[],
    examples: &[Example { line: "!dumpruntimetypes", what: "which types the program asked about" }],
    needs: Needs::Clr,
    returns: Returns::tables(&[&TYPES]),
    run: runtime_types,
};

/// `!findappdomain ADDR`.
pub const FINDAPPDOMAIN: Command = Command {
    name: "findappdomain",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "the app domain of an object",
    help: ".NET Core has one app domain: this proves that ADDR is an object and names the domain. What keeps assemblies \
           apart since are load contexts: !dumpalc shows the one of an object's type.",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the object").required()],
    examples: &[Example { line: "!findappdomain $OBJECT", what: "the domain it lives in" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("domain", "address of the app domain", Type::Address),
        Fact::new("name", "its name", Type::Text),
        Fact::new("id", "its number", Type::Number),
    ]),
    run: find_app_domain,
};

/// The objects.
const TYPES: Table = Table::new(
    "types",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("Domain", "domain", 16).of(Type::Address),
        Col::right("MT", "method_table", 16).of(Type::Address),
        Col::left("Type Name", "type_name", 0).of(Type::TypeName),
        Col::data("handle", Type::Address).titled("the MethodTable, or the TypeDesc of what has none"),
    ],
);

fn runtime_types(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (clr, walker) = (session.clr()?, session.walker()?);
    let (parts, report) = walker.parallel(
        &walker.heap.segments,
        |_| Vec::new(),
        |found: &mut Vec<u64>, _, o| {
            if o.ty.mt.address == clr.known.runtime_type {
                found.push(o.address);
            }
        },
    )?;
    let objects: Vec<u64> = parts.concat();
    if objects.is_empty() {
        ctx.out.note("No System.RuntimeType objects found.")?;
        return Ok(report.sentence().map_or(Outcome::Empty, Outcome::Partial));
    }
    let domain = domains::app_domain(clr);
    ctx.out.open(&TYPES)?;
    for address in objects {
        session.watch.cancel.check()?;
        let handle =
            session.value(address).and_then(|v| v.pointer(&["m_handle", "_pUnderlyingEEType"])).filter(|&h| h != 0);
        let mt = handle.filter(|&h| clr.valid_type(h).is_some());
        let name = handle.map(|h| clr.handle_tree(h).display());
        ctx.out.row(&[
            Cell::Addr(address),
            domain.map_or_else(|| Cell::shown(format!("{:0w$x}", 0, w = narrow_digits()), Cell::None), Cell::Addr),
            mt.map_or_else(|| Cell::shown("?", Cell::None), Cell::Addr),
            name.map_or_else(|| Cell::shown("?", Cell::None), Cell::text),
            handle.map_or(Cell::None, Cell::Addr),
        ])?;
    }
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}

fn find_app_domain(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    look_up(session, args.number("ADDR").unwrap_or(0))?;
    let Some(domain) = domains::app_domain(session.clr()?) else {
        return Ok(Outcome::Partial(
            "the app domain is not in the dump, or failed its checks: see !runtimes -v".into(),
        ));
    };
    let line = format!("AppDomain: {domain:0w$x}", w = digits());
    ctx.out.fact("domain", Cell::Addr(domain), line)?;
    // The host's name for the only domain there is, and its id.
    ctx.out.fact("name", Cell::text("clrhost"), "Name:      clrhost")?;
    ctx.out.fact("id", Cell::Num(1), "ID:        1")?;
    Ok(Outcome::Complete)
}
