//! `!dumpdelegate`: what a delegate calls.

use anyhow::{Result, bail};

use super::dumpobj::look_up;
use crate::clr::Clr;
use crate::clr::code::methods::MethodDesc;
use crate::heap::Found;
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix};

/// `!dumpdelegate ADDR`.
pub const DUMPDELEGATE: Command = Command {
    name: "dumpdelegate",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "show the targets and methods of a delegate or event",
    help: "One row for each method the delegate calls: the object it is called on (the delegate itself for a static \
           method) and the method. A method that was never compiled and is only known by a stub shows as (unknown).",
    args: &[Arg::pos("ADDR", Kind::Object, "address of the delegate").required()],
    examples: &[Example { line: "!dumpdelegate $DELEGATE", what: "what a delegate calls" }],
    needs: Needs::Clr,
    run,
};

/// Most entries of an invocation list shown.
const MAX_ENTRIES: u64 = 1 << 20;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    const COLUMNS: &[Col] =
        &[Col::left("Target", "target", 16), Col::left("Method", "method", 16), Col::left("Name", "name", 0)];
    let session = ctx.session()?;
    let clr = session.clr()?;
    let o = look_up(session, args.number("ADDR").unwrap_or(0))?;
    if field(clr, &o, "_methodPtr").is_none() {
        bail!("{:x} ({}) is not a delegate", o.address, clr.type_name(o.ty.mt.address));
    }
    ctx.out.table("targets", COLUMNS, true)?;
    let mut unknown = 0;
    for entry in entries(session, clr, &o) {
        let Some(d) = session.walker()?.object_at(entry) else { continue };
        let target = field(clr, &d, "_target").unwrap_or(0);
        let method = method(session, clr, &d, target);
        unknown += usize::from(method.is_none());
        ctx.out.row(&[
            Cell::AddrPad(target, 16),
            Cell::AddrPad(method.map_or(0, |m| m.address), 16),
            Cell::text(method.map_or_else(|| "(unknown)".into(), |m| clr.method_name(&m))),
        ])?;
    }
    if unknown > 0 {
        return Ok(Outcome::Partial(format!("{unknown} methods are known by a stub only")));
    }
    Ok(Outcome::Complete)
}

/// A pointer-sized field of the object by name.
fn field(clr: &Clr, o: &Found<'_>, name: &str) -> Option<u64> {
    let fields = clr.fields(o.ty.mt.address);
    let f = fields.instance.iter().find(|f| &*f.name == name)?;
    clr.space().ptr(o.address.checked_add(clr.header())?.checked_add(f.offset())?)
}

/// The delegates in the invocation list, or the delegate itself when it has none.
fn entries(session: &Session, clr: &Clr, o: &Found<'_>) -> Vec<u64> {
    let list = field(clr, o, "_invocationList").filter(|&l| l != 0);
    let count = field(clr, o, "_invocationCount").filter(|&c| c > 0 && c <= MAX_ENTRIES);
    let array = list.and_then(|l| session.walker().ok()?.object_at(l)).filter(|a| a.ty.mt.is_array());
    let (Some(array), Some(count)) = (array, count) else { return vec![o.address] };
    let length = u64::from(clr.component_count(array.address).unwrap_or(0));
    let data = array.address + 2 * clr.header();
    (0..count.min(length)).filter_map(|i| clr.space().ptr_at(data, i * clr.header())).filter(|&d| d != 0).collect()
}

/// The method the delegate at `address` calls.
pub fn method_of(session: &Session, address: u64) -> Option<MethodDesc> {
    let clr = session.clr().ok()?;
    let d = session.walker().ok()?.object_at(address)?;
    let target = field(clr, &d, "_target").unwrap_or(0);
    method(session, clr, &d, target)
}

/// The method behind the delegate's code pointers: by the code of the target's methods, or by the stub's data.
fn method(session: &Session, clr: &Clr, d: &Found<'_>, target: u64) -> Option<MethodDesc> {
    let pointers = [field(clr, d, "_methodPtrAux"), field(clr, d, "_methodPtr")];
    // A static method's target is the delegate itself; its code is in the second pointer.
    let code = pointers.into_iter().flatten().find(|&p| p != 0)?;
    if let Some(md) = clr.method_of_stub(code) {
        return Some(md);
    }
    let ty = session.walker().ok()?.object_at(target)?.ty.mt;
    let mut at = Some(ty);
    for _ in 0..64 {
        let class = at?;
        let entry = |m: &MethodDesc| clr.native_code(m) == Some(code) || clr.own_slot(m) == Some(code);
        if let Some(m) = clr.methods(&class).items.into_iter().find(entry) {
            return Some(m);
        }
        at = clr.method_table(class.parent);
    }
    None
}
