//! Crashes: the exception or signal of the event, and exceptions nobody has caught.

use anyhow::Result;

use super::{Analysis, Area, Finding, Sure};
use crate::clr::Clr;
use crate::clr::runtime::threads::ClrThread;
use crate::commands::graph::leaks::evidence::{Evidence, Item};
use crate::dump::{ExceptionInfo, Os};
use crate::session::Session;

/// Frames of a stack shown as evidence.
const MOST_FRAMES: usize = 12;
/// Longest part of a recursion that repeats.
const MAX_PERIOD: usize = 16;
/// Fewer frames in repeats are no recursion without end.
const LEAST_REPEATED: usize = 200;
/// A thread so near to the end of its stack has none left.
const STACK_LEFT: u64 = 0x1_0000;

/// Signals that end a process for what it did: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const FATAL: &[(u32, &str)] =
    &[(4, "SIGILL"), (6, "SIGABRT"), (7, "SIGBUS"), (8, "SIGFPE"), (11, "SIGSEGV"), (31, "SIGSYS")];
/// `SI_USER`: `kill` sent the signal.
const SENT: u32 = 0;
/// Exceptions of Windows by their codes (winnt.h, corexcep.h).
const CODES: &[(u32, &str)] = &[
    (0xC000_0005, "access violation"),
    (0xC000_00FD, "stack overflow"),
    (0xC000_0094, "integer division by zero"),
    (0xC000_001D, "illegal instruction"),
    (0xC000_0374, "heap corruption"),
    (0xC000_0409, "fail fast"),
    (0xE043_4352, "managed exception"),
    (0xC000_0017, "no memory"),
];

/// Adds what crashed.
pub fn find(session: &Session, all: &mut Analysis) -> Result<()> {
    let event = session.dump().exception.as_ref();
    let fatal = event.and_then(|e| Some((e, fatal(session.dump().os, e)?)));
    let clr = match session.clr() {
        Ok(clr) => clr,
        Err(why) => {
            all.findings.extend(fatal.map(|(e, name)| native(session, e, name)));
            return Err(why);
        }
    };
    let mut told = 0;
    if let Some((event, name)) = fatal {
        told = event.thread_id;
        let thread = clr.threads().items.iter().find(|t| t.os_id == event.thread_id && t.os_id != 0);
        all.findings.push(match thread {
            // A process may be told to end, by whoever wants its dump: nothing went wrong in it.
            Some(t) if session.dump().os != Os::Windows && event.flags == SENT && t.exception == 0 => {
                sent(session, t, name)
            }
            Some(t) => managed(session, clr, t, Some(name)),
            None => native(session, event, name),
        });
    }
    for thread in clr.threads().items.iter().filter(|t| t.os_id != 0 && t.os_id != told) {
        session.watch.cancel.check()?;
        if thread.exception == 0 {
            continue;
        }
        // Threads that handle an exception go on with code of their own; one that is still where it threw does not.
        if is_throwing(clr, thread) && fatal.is_none() {
            all.findings.push(managed(session, clr, thread, None));
        } else if !thread.in_flight.is_empty() {
            let mut f = of_exception(session, clr, thread, "handles", 20, Sure::Possible);
            f.next = vec![format!("!pe -nested {:x}", thread.exception)];
            all.findings.push(f);
        }
    }
    Ok(())
}

fn fatal(os: Os, e: &ExceptionInfo) -> Option<&'static str> {
    match os {
        Os::Windows if e.code >= 0xC000_0000 => {
            Some(CODES.iter().find(|c| c.0 == e.code).map_or("an exception", |c| c.1))
        }
        Os::Windows => None,
        _ => FATAL.iter().find(|s| s.0 == e.code).map(|s| s.1),
    }
}

/// A signal that a process sent to this one.
fn sent(session: &Session, t: &ClrThread, name: &str) -> Finding {
    let what = format!("{name} was sent to the process while {} ran: it did not raise it itself", who(session, t));
    let mut f = Finding::new(Area::Crash, 40, Sure::Likely, what).signed(format!("{name} was sent"));
    f.next = vec![".lastevent".into()];
    f
}

/// A crash in native code, or without a runtime.
fn native(session: &Session, e: &ExceptionInfo, name: &str) -> Finding {
    let ip = session.dump().thread_of(e.thread_id).and_then(|t| t.registers.as_ref()).map_or(0, |r| r.ip);
    let module = session.dump().module_at(ip).map_or("no module", |m| m.file_name());
    let what = format!("{name} on thread {:x}, in {module}", e.thread_id);
    let mut f = Finding::new(Area::Crash, 100, Sure::Certain, what).signed(format!("{name} in {module}"));
    f.address = ip;
    if e.address != 0 {
        f.evidence.push(say(format!("the address it was about: {:x}", e.address)));
    }
    f.next = vec![".ecxr".into(), "k".into()];
    f
}

/// A crash on a managed thread.
fn managed(session: &Session, clr: &Clr, thread: &ClrThread, signal: Option<&str>) -> Finding {
    let stack = clr.stack(thread);
    let names: Vec<String> = stack.managed().filter_map(|f| session.frame_name(f, false)).collect();
    let overflow = recursion(&names).filter(|_| is_full(session, thread) || is_of(clr, thread, "StackOverflow"));
    let by = signal.map_or_else(String::new, |s| format!(" ({s})"));
    let mut f = if let Some((period, repeats)) = overflow {
        let mut f = Finding::new(
            Area::Crash,
            100,
            Sure::Certain,
            format!(
                "stack overflow on {}{by}: {period} methods call one another {repeats} times",
                who(session, thread)
            ),
        )
        .signed(format!("stack overflow in {}", circle(&names, period)));
        f.evidence =
            names.iter().skip(skip(&names, period)).take(period).map(|n| say(format!("repeats: {n}"))).collect();
        f.count = Some(names.len() as u64);
        f
    } else if let Some(said) = session.fail_fast(thread.exception) {
        let what = format!("{} ended the process with Environment.FailFast: {said}", who(session, thread));
        Finding::new(Area::Crash, 100, Sure::Certain, what).signed(format!("Environment.FailFast in {}", place(&names)))
    } else if thread.exception != 0 {
        let (weight, sure) = if signal.is_some() { (100, Sure::Certain) } else { (95, Sure::Likely) };
        let mut f = of_exception(session, clr, thread, "did not catch", weight, sure);
        f.signature = format!("{} in {}", f.signature, place(&names));
        f
    } else {
        let sure = Sure::Certain;
        let at = names.first().map_or_else(|| "native code".to_owned(), Clone::clone);
        Finding::new(Area::Crash, 100, sure, format!("{}{by} in {at}", who(session, thread))).signed(format!(
            "{} in {}",
            signal.unwrap_or("an exception"),
            place(&names)
        ))
    };
    if f.address == 0 {
        f.address = thread.exception;
    }
    if overflow.is_none() {
        f.evidence.extend(names.iter().take(MOST_FRAMES).map(|n| say(format!("at {n}"))));
    }
    if names.len() > MOST_FRAMES && overflow.is_none() {
        let more = names.len() - MOST_FRAMES;
        f.evidence
            .push(Evidence::new(format!("and {more} frames more"), Item::of("frames left out").count(more as u64)));
    }
    f.evidence.extend(stack.partial.iter().map(|why| say(format!("the stack is not whole: {why}"))));
    if thread.exception != 0 {
        f.next.push(format!("!pe -nested {:x}", thread.exception));
    }
    if let Some(n) = session.dump().thread_number(thread.os_id) {
        f.next.push(format!("~{n} s; !clrstack; k"));
    }
    f
}

/// A finding on the exception of a thread.
fn of_exception(session: &Session, clr: &Clr, t: &ClrThread, verb: &str, weight: u8, sure: Sure) -> Finding {
    let mt = clr.object_type(t.exception).unwrap_or(0);
    let name = clr.type_name(mt);
    let message = clr.valid_method_table(mt).and_then(|m| clr.exception_at(t.exception, m.address).message);
    let text = message.filter(|m| !m.is_empty()).map_or_else(String::new, |m| format!(": {m}"));
    let mut f = Finding::new(Area::Crash, weight, sure, format!("{} {verb} {name}{text}", who(session, t)))
        .signed(name.to_string());
    f.address = t.exception;
    if t.nested_exceptions() > 0 {
        let nested = t.nested_exceptions() as u64;
        let item = Item::of("exceptions that were handled then").count(nested);
        f.evidence.push(Evidence::new(format!("thrown while {nested} more were handled"), item));
    }
    if name.ends_with("OutOfMemoryException")
        && let Ok(heap) = session.heap()
    {
        let records = crate::heap::oom::records(clr, heap).items;
        f.evidence.extend(records.iter().map(|r| {
            let item = Item::of("bytes that were asked for").bytes(r.requested);
            Evidence::new(format!("{}: {} bytes were asked for", r.reason(), r.requested), item)
        }));
        f.next.push("!analyzeoom".into());
    }
    f
}

/// Whether an exception of the thread is still looking for a handler. A handler that runs has a frame of its own on the stack
/// (a funclet) for as long as its exception is handled.
fn is_throwing(clr: &Clr, thread: &ClrThread) -> bool {
    let stack = clr.stack(thread);
    let handlers = stack.managed().filter(|f| f.is_funclet()).count();
    stack.partial.is_none() && thread.in_flight.first() == Some(&thread.exception) && thread.in_flight.len() > handlers
}

fn is_of(clr: &Clr, thread: &ClrThread, name: &str) -> bool {
    clr.object_type(thread.exception).is_some_and(|mt| clr.type_name(mt).contains(name))
}

/// Whether the stack of a thread is used up.
fn is_full(session: &Session, thread: &ClrThread) -> bool {
    let native = session.dump().thread_of(thread.os_id);
    let sp = native.and_then(|t| t.registers.as_ref()).map_or(0, |r| r.sp);
    let low = [thread.stack.1, native.and_then(|t| t.stack).map_or(0, |s| s.0)].into_iter().find(|&l| l != 0);
    low.is_some_and(|low| sp != 0 && sp < low.saturating_add(STACK_LEFT))
}

/// Frames in front of where methods begin to repeat: the newest may be of another call.
fn skip(names: &[String], period: usize) -> usize {
    let repeats = |from: usize| (from..from + LEAST_REPEATED).all(|i| names.get(i) == names.get(i + period));
    (0..MAX_PERIOD).find(|&from| names.len() > from + LEAST_REPEATED + period && repeats(from)).unwrap_or(0)
}

/// How many methods call one another in a circle, and how often: the shortest circle there is.
fn recursion(names: &[String]) -> Option<(usize, usize)> {
    (1..=MAX_PERIOD).find_map(|period| {
        let from = (0..MAX_PERIOD).find(|&from| {
            names.len() > from + LEAST_REPEATED + period
                && (from..from + LEAST_REPEATED).all(|i| names.get(i) == names.get(i + period))
        })?;
        let same = (from..names.len().saturating_sub(period)).take_while(|&i| names.get(i) == names.get(i + period));
        Some((period, (same.count() + period) / period))
    })
}

/// Where it is, as far as other dumps have it: the newest method that is none of the class library's.
fn place(names: &[String]) -> &str {
    let own = |n: &&String| !["System.", "Microsoft.", "Interop", "Internal."].iter().any(|p| n.starts_with(p));
    names.iter().find(own).or(names.first()).map_or("native code", String::as_str)
}

/// A circle of methods, by the one that comes first in the alphabet: which of them is the newest is chance.
fn circle(names: &[String], period: usize) -> &str {
    let methods = names.iter().skip(skip(names, period)).take(period);
    methods.min().map_or("native code", String::as_str)
}

/// A sentence that says no figures.
fn say(text: String) -> Evidence {
    Evidence { text, items: Vec::new() }
}

/// `thread 4 "name"`.
fn who(session: &Session, thread: &ClrThread) -> String {
    let name = session.thread_name(thread);
    let name = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let role = if thread.finalizer { " (finalizer)" } else { "" };
    format!("thread {}{name}{role}", thread.managed_id)
}

#[cfg(test)]
mod tests {
    use super::{recursion, skip};

    #[test]
    fn the_shortest_circle_of_methods_is_found() {
        let names: Vec<String> = ["Top".to_owned()]
            .into_iter()
            .chain((0..900).map(|i| ["A", "B", "C"][i % 3].to_owned()))
            .chain(["Main".to_owned()])
            .collect();
        assert_eq!(recursion(&names), Some((3, 300)));
        assert_eq!(skip(&names, 3), 1);
        assert_eq!(recursion(&names[..100]), None);
    }
}
