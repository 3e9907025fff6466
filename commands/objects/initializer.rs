//! How far the static initializer of a class has come: what its static fields are worth.

use anyhow::Result;

use crate::clr::types::fields::Field;
use crate::clr::types::statics::{self, ClassState};
use crate::session::Session;
use crate::session::initializers::Initializer;
use crate::shell::{Cell, Col, Out, Table, Type, digits};

/// Classes whose initializer failed or runs.
pub const INITIALIZERS: Table = Table::new(
    "initializers",
    &[
        Col::data("class", Type::TypeName).titled("the class"),
        Col::data("state", Type::Text).titled("failed, or running"),
        Col::data("exception", Type::Address).titled("what is thrown at whoever uses the class"),
        Col::data("thread", Type::Number).titled("managed id of the thread that runs it"),
        Col::data("os_id", Type::Hex).titled("operating system id of that thread"),
        Col::data("name", Type::Given).titled("name of that thread"),
    ],
);

/// What is known of a class.
pub struct State(Option<Initializer>);

impl State {
    /// Of the class `mt` with these static fields.
    pub fn of(session: &Session, mt: u64, fields: &[Field]) -> Self {
        let own = fields.iter().any(|f| !f.desc.is_thread_static && !f.desc.is_rva);
        let table = session.clr().ok().filter(|_| own).and_then(|c| Some((c, c.method_table(mt)?)));
        Self(table.and_then(|(clr, table)| match statics::class_state(clr, &table)? {
            ClassState::Ready => Some(Initializer::Done),
            ClassState::Failed => Some(Initializer::Failed),
            ClassState::NotReady => session.initializer(&table),
        }))
    }

    /// Whether the field has the value that somebody stored; `None` where that is not known.
    pub fn is_final(&self, f: &Field) -> Option<bool> {
        match self.0 {
            _ if f.desc.is_rva => None,
            None => None,
            Some(Initializer::NotRun) => Some(false),
            Some(_) => Some(true),
        }
    }

    /// Says what stands behind the values: that the initializer failed or runs.
    pub fn print(&self, session: &Session, out: &mut Out, mt: u64) -> Result<()> {
        let clr = session.clr()?;
        let name = || clr.type_name(mt);
        match self.0 {
            Some(Initializer::Failed) => {
                let exception = session.initialization_error(mt)?;
                let see = exception.map_or_else(String::new, |e| format!(", !pe {e:0w$x} shows why", w = digits()));
                let line = format!("The initializer of {} failed{see}", name());
                let cells = [
                    Cell::text(name().to_string()),
                    Cell::text("failed"),
                    exception.map_or(Cell::None, Cell::Addr),
                    Cell::None,
                    Cell::None,
                    Cell::None,
                ];
                out.row_as(&INITIALIZERS, &cells, line)?;
            }
            Some(Initializer::Running(thread)) => {
                let Some(t) = clr.threads().items.iter().find(|t| t.address == thread) else { return Ok(()) };
                let named = session.thread_name(t);
                let quoted = if named.is_empty() { String::new() } else { format!(" \"{named}\"") };
                let line = format!(
                    "The initializer of {} runs on thread {} (OSID {:x}){quoted}",
                    name(),
                    t.managed_id,
                    t.os_id
                );
                let cells = [
                    Cell::text(name().to_string()),
                    Cell::text("running"),
                    Cell::None,
                    Cell::Num(t.managed_id.into()),
                    Cell::Hex(t.os_id),
                    Cell::maybe(Some(named).filter(|n| !n.is_empty())),
                ];
                out.row_as(&INITIALIZERS, &cells, line)?;
            }
            _ => {}
        }
        Ok(())
    }
}
