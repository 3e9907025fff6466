//! What `!dumpobj` says of a continuation of runtime-async: its method, where that stands, what it keeps.

use anyhow::Result;

use super::value;
use crate::clr::Clr;
use crate::clr::runtime::continuations::{Continuation, flags};
use crate::session::Session;
use crate::session::tasks::variables::Variable;
use crate::shell::{Out, digits};

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
    pub value: String,
}

/// The variables a continuation keeps.
pub fn variables(session: &Session, clr: &Clr, c: &Continuation) -> Vec<Shown> {
    session.kept_variables(c).into_iter().map(|v| show(clr, v)).collect()
}

fn show(clr: &Clr, v: Variable) -> Shown {
    let reference = v.element.is_reference().then(|| clr.space().ptr(v.at).filter(|&o| o != 0)).flatten();
    let mt = reference.and_then(|o| clr.object_type(o)).unwrap_or(0);
    let value = value::text(clr, v.element, v.at).unwrap_or_else(|| "(not in the dump)".into());
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
        out.line("Method:      none (made by the library to wait for a task or a value)")?;
        return Ok(());
    };
    let name = if method.long_name.is_empty() { method.label().to_string() } else { method.long_name.clone() };
    out.line(format!("Method:      {name}"))?;
    if method.method != 0 {
        out.line(format!("MethodDesc:  {:0w$x}", method.method, w = digits()))?;
    }
    if method.ip != 0 {
        out.line(format!("Resumes at:  {:0w$x}", method.ip, w = digits()))?;
    }
    if let Some(il) = method.il_offset {
        let line = method.line.as_ref().map_or_else(String::new, |(file, line)| format!(" [{file} @ {line}]"));
        out.line(format!("IL offset:   {il:x}{line}"))?;
    }
    out.line(format!("State:       {}", c.state))?;
    contexts(clr, out, &c)?;
    let kept = variables(session, clr, &c);
    if !kept.is_empty() {
        out.line("Variables:")?;
        out.line(format!("{:>w$} {:>w$} {:<24} {:>w$} Name", "Address", "MT", "Type", "Value", w = digits()))?;
    }
    for v in kept {
        let ty = super::fieldtable::cut_front(&v.type_name, 24);
        out.line(format!("{:0w$x} {:0w$x} {ty:<24} {:>w$} {}", v.at, v.mt, v.value, v.name, w = digits()))?;
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
        out.line(format!("Continues on {words}"))?;
    }
    let held = c.contexts(clr);
    for (label, object) in [("Execution:  ", held.execution), ("Context:    ", held.continuation)] {
        if let Some(mt) = clr.object_type(object).filter(|_| object != 0) {
            out.line(format!("{label} {object:0w$x} {}", clr.type_name(mt), w = digits()))?;
        }
    }
    if held.exception != 0 {
        out.line(format!("Exception:   {:0w$x}", held.exception, w = digits()))?;
    }
    Ok(())
}
