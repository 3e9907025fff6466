//! What a method that waits keeps, one variable a line.

use anyhow::Result;

use crate::clr::Clr;
use crate::commands::objects::continuation::{self, COLUMNS, Shown};
use crate::commands::objects::value::{self, Held};
use crate::session::Session;
use crate::session::tasks::{Kind, Node, state_machine};
use crate::shell::{Cell, Col, Out, Table, Type};

/// The variables of all frames.
pub const FIELDS: Table = Table::new(
    "fields",
    &[
        Col::data("frame", Type::Count).titled("number of the frame that keeps it"),
        COLUMNS[0],
        COLUMNS[1],
        COLUMNS[2],
        COLUMNS[3],
        COLUMNS[4],
        COLUMNS[5],
    ],
)
.under("frames", "frame");

/// The fields of the state machine, or the variables a continuation keeps, of the frame with this number.
pub fn list(session: &Session, out: &mut Out, node: &Node, frame: u64, indent: &str) -> Result<()> {
    let clr = session.clr()?;
    let fields = match node.kind {
        Kind::Machine(_) => machine(session, clr, node),
        Kind::Suspended(c) => Some(continuation::variables(session, clr, &c)),
        Kind::Task | Kind::Running { .. } | Kind::Blocking(_) => None,
    };
    let Some(fields) = fields else { return Ok(()) };
    let indent = format!("{indent}  ");
    let titles = format!("{indent}{:>16} {:>16} {:<20} {:>16} Name", "Address", "MT", "Type", "Value");
    out.open_as(&FIELDS, &titles)?;
    for field in fields {
        let ([address, mt, ty, value, name, reference], line) = field.row(&indent, (20, 16));
        out.row_as(&FIELDS, &[Cell::Num(frame), address, mt, ty, value, name, reference], line)?;
    }
    Ok(())
}

fn machine(session: &Session, clr: &Clr, node: &Node) -> Option<Vec<Shown>> {
    let boxed = session.value(node.address)?;
    let machine = state_machine(session, &boxed)?;
    let fields = clr.fields(machine.mt);
    let shown = fields.instance.iter().map(|f| {
        let at = machine.data.saturating_add(f.offset());
        Shown {
            name: f.name.to_string(),
            type_name: f.type_name.as_ref().map_or_else(|| f.element.name().to_owned(), |t| t.display()),
            mt: session.field_type(f).unwrap_or(0),
            at,
            value: value::read(clr, f.element, at).unwrap_or_else(|| Held::unknown("?")),
        }
    });
    Some(shown.collect())
}
