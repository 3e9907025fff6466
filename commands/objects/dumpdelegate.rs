//! `!dumpdelegate`: what a delegate calls.

use anyhow::{Result, bail};

use super::dumpobj::look_up;
use crate::clr::Clr;
use crate::clr::runtime::delegates::{Delegate, DelegateKind};
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!dumpdelegate ADDR`.
pub const DUMPDELEGATE: Command = Command {
    name: "dumpdelegate",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show the targets and methods of a delegate or event",
    help: "One row for each method the delegate calls: the object it is called on (the delegate itself where the method \
           gets all its arguments from the call: a static method, an open instance method, a native function), the \
           MethodDesc and the name. Of an open virtual delegate that is the virtual method: the first argument of \
           each call decides which override runs. A native function shows with its address and library. A method of \
           which nothing but an address is known shows as (unknown).",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the delegate").required()],
    examples: &[Example { line: "!dumpdelegate $DELEGATE", what: "what a delegate calls" }],
    needs: Needs::Clr,
    returns: Returns::NOTHING,
    run,
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] =
        &[Col::left("Target", "target", 16), Col::left("Method", "method", 16), Col::left("Name", "name", 0)];
    let session = ctx.session()?;
    let clr = session.clr()?;
    let o = look_up(session, args.number("ADDR").unwrap_or(0))?;
    if let Err(why) = clr.delegate_shape() {
        bail!("what a delegate calls cannot be told: {why}");
    }
    let Some(delegate) = clr.delegate(o.address) else {
        bail!("{:x} ({}) is not a delegate", o.address, clr.type_name(o.ty.mt.address))
    };
    ctx.out.table("targets", COLUMNS, true)?;
    let mut unknown = 0u64;
    let invoked = clr.invoked(&delegate);
    for d in &invoked.items {
        session.watch.cancel.check()?;
        let (method, name) = called(clr, d);
        unknown += u64::from(name.is_none());
        ctx.out.row(&[
            Cell::AddrPad(d.target, 16),
            Cell::AddrPad(method, 16),
            Cell::text(name.unwrap_or_else(|| "(unknown)".into())),
        ])?;
    }
    Ok(match invoked.partial {
        Some(why) => Outcome::Partial(why),
        None if unknown == 1 => Outcome::Partial("the code of one method is known by its address only".into()),
        None if unknown > 0 => Outcome::Partial(format!("the code of {unknown} methods is known by its address only")),
        None => Outcome::Complete,
    })
}

/// MethodDesc (0 when there is none) and name of what a single delegate calls; no name when nothing is known but an address.
pub fn called(clr: &Clr, d: &Delegate) -> (u64, Option<String>) {
    if d.kind == DelegateKind::Unmanaged {
        let image = clr.dump.module_at(d.code).map(|m| format!(" in {}", m.file_name()));
        return (0, Some(format!("unmanaged function {:x}{}", d.code, image.unwrap_or_default())));
    }
    let virtual_call = if d.kind == DelegateKind::OpenVirtual { " (virtual: the first argument decides)" } else { "" };
    match clr.delegate_method(d) {
        Some(md) => (md.address, Some(clr.method_name(&md) + virtual_call)),
        None => (0, clr.delegate_name(d)),
    }
}

/// Type and name of the method a delegate calls, without its parameters: of a list, that of its first entry.
pub fn called_method(clr: &Clr, delegate: u64) -> Option<String> {
    let invoked = clr.invoked(&clr.delegate(delegate)?);
    let first = invoked.items.first()?;
    let Some(method) = clr.delegate_method(first) else {
        return called(clr, first).1;
    };
    let name = clr.method_name(&method);
    match name.strip_prefix(&*clr.type_name_long(method.owner)) {
        Some(rest) => Some(format!("{}{}", clr.type_name(method.owner), rest.split('(').next().unwrap_or(rest))),
        None => Some(name.split('(').next().unwrap_or(&name).to_owned()),
    }
}
