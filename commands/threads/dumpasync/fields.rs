//! What a method that waits keeps, one variable a line.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::runtime::continuations::Continuation;
use crate::commands::objects::{continuation, fieldtable, value};
use crate::session::Session;
use crate::session::tasks::{Kind, Node, state_machine};
use crate::shell::{Out, digits};

/// The fields of the state machine, or the variables a continuation keeps.
pub fn list(session: &Session, out: &mut Out, node: &Node, indent: &str) -> Result<()> {
    let clr = session.clr()?;
    match node.kind {
        Kind::Machine(_) => machine(session, clr, out, node, indent),
        Kind::Suspended(c) => kept(session, clr, out, &c, indent),
        Kind::Task | Kind::Running { .. } => Ok(()),
    }
}

fn heading(out: &mut Out, indent: &str) -> Result<()> {
    Ok(out.line(format!("{indent}  {:>16} {:>16} {:<20} {:>16} Name", "Address", "MT", "Type", "Value"))?)
}

fn machine(session: &Session, clr: &Clr, out: &mut Out, node: &Node, indent: &str) -> Result<()> {
    let Some(boxed) = session.value(node.address) else { return Ok(()) };
    let Some(machine) = state_machine(session, &boxed) else { return Ok(()) };
    heading(out, indent)?;
    for f in &clr.fields(machine.mt).instance {
        let at = machine.data.saturating_add(f.offset());
        let mt = session.field_type(f).unwrap_or(0);
        let ty = f.type_name.as_ref().map_or_else(|| f.element.name().to_owned(), |t| t.display());
        let ty = fieldtable::cut_front(&ty, 20);
        let value = value::text(clr, f.element, at).unwrap_or_else(|| "?".into());
        out.line(format!("{indent}  {at:0w$x} {mt:0w$x} {ty:<20} {value:>16} {}", f.name, w = digits()))?;
    }
    Ok(())
}

fn kept(session: &Session, clr: &Clr, out: &mut Out, c: &Continuation, indent: &str) -> Result<()> {
    heading(out, indent)?;
    for v in continuation::variables(session, clr, c) {
        let ty = fieldtable::cut_front(&v.type_name, 20);
        out.line(format!("{indent}  {:0w$x} {:0w$x} {ty:<20} {:>16} {}", v.at, v.mt, v.value, v.name, w = digits()))?;
    }
    Ok(())
}
