//! `!dumpruntimetypes`: the `System.RuntimeType` objects. `!findappdomain`: the domain of an object.

use anyhow::Result;

use super::dumpobj::look_up;
use crate::clr::runtime::domains;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, digits};

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
    returns: Returns::NOTHING,
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
    returns: Returns::NOTHING,
    run: find_app_domain,
};

fn runtime_types(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] = &[
        Col::right("Address", "address", 16),
        Col::right("Domain", "domain", 16),
        Col::right("MT", "method_table", 16),
        Col::left("Type Name", "type_name", 0),
    ];
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
        ctx.out.line("No System.RuntimeType objects found.")?;
        return Ok(report.sentence().map_or(Outcome::Empty, Outcome::Partial));
    }
    let domain = domains::app_domain(clr).unwrap_or(0);
    ctx.out.table("types", COLUMNS, true)?;
    for address in objects {
        session.watch.cancel.check()?;
        let handle = session.value(address).and_then(|v| v.pointer(&["m_handle"])).filter(|&h| h != 0);
        let mt = handle.filter(|&h| clr.valid_type(h).is_some());
        let name = handle.map(|h| clr.handle_tree(h).display());
        ctx.out.row(&[
            Cell::Addr(address),
            Cell::Addr(domain),
            mt.map_or(Cell::text("?"), Cell::Addr),
            Cell::text(name.unwrap_or_else(|| "?".into())),
        ])?;
    }
    Ok(report.sentence().map_or(Outcome::Complete, Outcome::Partial))
}

fn find_app_domain(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    look_up(session, args.number("ADDR").unwrap_or(0))?;
    let Some(domain) = domains::app_domain(session.clr()?) else {
        return Ok(Outcome::Partial("the app domain is not in the dump".into()));
    };
    ctx.out.line(format!("AppDomain: {domain:0w$x}", w = digits()))?;
    // The host's name for the only domain there is, and its id.
    ctx.out.line("Name:      clrhost")?;
    ctx.out.line("ID:        1")?;
    Ok(Outcome::Complete)
}
