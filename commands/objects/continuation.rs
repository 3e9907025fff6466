//! What `!dumpobj` says of a continuation of runtime-async: its method, where that stands, what it keeps.

use std::sync::Arc;

use anyhow::Result;

use super::fieldtable::{cut_front, known};
use super::value::{self, Held};
use crate::clr::Clr;
use crate::clr::runtime::continuations::{Continuation, flags};
use crate::session::Session;
use crate::session::tasks::variables::Variable;
use crate::shell::{Cell, Col, Fact, Out, Returns, Table, Type, digits};

/// What [`head`] returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("method", "method the continuation belongs to", Type::Text),
    Fact::new("method_desc", "MethodDesc of that method", Type::Address),
    Fact::new("resumes_at", "code it continues at", Type::Address),
    Fact::new("il_offset", "IL offset of the await it stands at", Type::Bytes),
    Fact::new("source_file", "source file of that await", Type::Path),
    Fact::new("source_line", "line in it", Type::Number),
    Fact::new("state", "number of the await", Type::Number),
    Fact::new("continues_on", "where it continues", Type::Text),
    Fact::new("execution_context", "the ExecutionContext it captured", Type::Address),
    Fact::new("execution_context_type", "type of that", Type::TypeName),
    Fact::new("context", "the SynchronizationContext or TaskScheduler it captured", Type::Address),
    Fact::new("context_type", "type of that", Type::TypeName),
    Fact::new("exception", "exception of the awaited method, thrown when it continues", Type::Address),
])
.and(&[&VARIABLES]);

/// Columns of a variable. Text prints lines of its own.
pub const COLUMNS: [Col; 6] = [
    Col::data("address", Type::Address).titled("where the variable stands"),
    Col::data("method_table", Type::Address).titled("MethodTable of the object it refers to, or of its type"),
    Col::data("type", Type::TypeName).titled("its type; of a reference to an object that of the object"),
    Col::data("value", Type::Number).titled("the number it is"),
    Col::data("name", Type::Text).titled("its name"),
    value::REFERENCE,
];

const VARIABLES: Table = Table::new("variables", &COLUMNS);

impl Shown {
    /// The row of it, and the line that text prints: type and value take so many characters at least, the line begins
    /// with `indent`.
    pub fn row(self, indent: &str, widths: (usize, usize)) -> ([Cell<'static>; 6], String) {
        let Shown { name, type_name, mt, at, value } = self;
        let (ty, w) = (cut_front(&type_name, widths.0), digits());
        let line =
            format!("{indent}{at:0w$x} {mt:0w$x} {ty:<tw$} {:>vw$} {name}", value.text, tw = widths.0, vw = widths.1);
        let ty = if type_name.is_empty() { Cell::None } else { Cell::text(type_name) };
        let [number, reference, _] = value.cells();
        ([Cell::Addr(at), known(mt), ty, number, Cell::text(name), reference], line)
    }
}

/// A variable with its value in words.
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its type; of a reference to an object that of the object.
    pub type_name: String,
    /// MethodTable of the object it refers to, 0 for other values.
    pub mt: u64,
    /// Where it stands.
    pub at: u64,
    /// Its value as `!dumpobj` prints fields.
    pub value: Held,
}

/// The variables a continuation keeps.
pub fn variables(session: &Session, clr: &Clr, c: &Continuation) -> Vec<Shown> {
    session.kept_variables(c).into_iter().map(|v| show(clr, v)).collect()
}

fn show(clr: &Clr, v: Variable) -> Shown {
    let reference = v.element.is_reference().then(|| clr.space().ptr(v.at).filter(|&o| o != 0)).flatten();
    let mt = reference.and_then(|o| clr.object_type(o)).unwrap_or(0);
    let value = value::read(clr, v.element, v.at).unwrap_or_else(|| Held::unknown("(not in the dump)"));
    let type_name = match mt {
        0 => v.type_name,
        mt => clr.type_name(mt).to_string(),
    };
    Shown { name: v.name, type_name, mt, at: v.at, value }
}

/// Prints what is known of a continuation, behind the head of its object.
pub fn head(session: &Session, out: &mut Out, address: u64) -> Result<()> {
    let clr = session.clr()?;
    let Some(c) = clr.continuation(address) else { return Ok(()) };
    let Some(method) = session.suspended_method(&c) else {
        out.note("Method:      none (made by the library to wait for a task or a value)")?;
        return Ok(());
    };
    let name = if method.long_name.is_empty() { method.label() } else { Arc::from(&*method.long_name) };
    // What stands there instead of a name is no name.
    let known = !(method.long_name.is_empty() && method.name.is_empty());
    let value = if known { Cell::text(&*name) } else { Cell::None };
    out.fact("method", value, format!("Method:      {name}"))?;
    if method.method != 0 {
        let line = format!("MethodDesc:  {:0w$x}", method.method, w = digits());
        out.fact("method_desc", Cell::Addr(method.method), line)?;
    }
    if method.ip != 0 {
        out.fact("resumes_at", Cell::Addr(method.ip), format!("Resumes at:  {:0w$x}", method.ip, w = digits()))?;
    }
    if let Some(il) = method.il_offset {
        let line = method.line.as_ref();
        let shown = line.map_or_else(String::new, |(file, line)| format!(" [{file} @ {line}]"));
        let facts = [
            ("il_offset", Cell::Num(il.into())),
            ("source_file", Cell::maybe(line.map(|l| &*l.0))),
            ("source_line", line.map_or(Cell::None, |l| Cell::Num(l.1.into()))),
        ];
        out.facts(&facts, format!("IL offset:   {il:x}{shown}"))?;
    }
    out.fact("state", Cell::Int(c.state.into()), format!("State:       {}", c.state))?;
    contexts(clr, out, &c)?;
    let kept = variables(session, clr, &c);
    if !kept.is_empty() {
        out.note("Variables:")?;
        let w = digits();
        out.open_as(&VARIABLES, &format!("{:>w$} {:>w$} {:<24} {:>w$} Name", "Address", "MT", "Type", "Value"))?;
    }
    for v in kept {
        let (cells, line) = v.row("", (24, digits()));
        out.row_as(&VARIABLES, &cells, line)?;
    }
    Ok(())
}

/// Where the method continues, and what it captured.
fn contexts(clr: &Clr, out: &mut Out, c: &Continuation) -> Result<()> {
    let on = [
        (flags::ON_THREAD_POOL, "the thread pool"),
        (flags::ON_SYNCHRONIZATION_CONTEXT, "the captured SynchronizationContext"),
        (flags::ON_TASK_SCHEDULER, "the captured TaskScheduler"),
    ];
    if let Some((_, words)) = on.iter().find(|(flag, _)| c.flags & flag != 0) {
        out.fact("continues_on", Cell::text(*words), format!("Continues on {words}"))?;
    }
    let held = c.contexts(clr);
    let captured = [
        ("Execution:  ", ["execution_context", "execution_context_type"], held.execution),
        ("Context:    ", ["context", "context_type"], held.continuation),
    ];
    for (label, [key, of_type], object) in captured {
        if let Some(mt) = clr.object_type(object).filter(|_| object != 0) {
            let name = clr.type_name(mt);
            let facts = [(key, Cell::Addr(object)), (of_type, Cell::text(&*name))];
            out.facts(&facts, format!("{label} {object:0w$x} {name}", w = digits()))?;
        }
    }
    if held.exception != 0 {
        let line = format!("Exception:   {:0w$x}", held.exception, w = digits());
        out.fact("exception", Cell::Addr(held.exception), line)?;
    }
    Ok(())
}
