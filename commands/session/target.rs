//! What the dump is of: `vertarget`, `.lastevent`, `.time`.

use std::io;

use super::misc::plain;
use super::paths;
use crate::commands::runtime::versions::{NOTICED, noticed};
use crate::dump::{DumpKind, Os};
use crate::session::Session;
use crate::shell::banner::{self, event, utc};
use crate::shell::{Cell, Command, Example, Fact, Needs, Out, Outcome, Prefix, Returns, Type};

/// The event a dump was taken at.
const EVENT: Returns = Returns::facts(&[
    Fact::new("event", "the event in words", Type::Text),
    Fact::new("event_code", "exception code or number of the signal", Type::Hex),
    Fact::new("event_address", "where it happened", Type::Address),
    Fact::new("event_thread_id", "operating system id of its thread", Type::Hex),
    Fact::new("exception_type", "type of the thread's managed exception", Type::TypeName),
    Fact::new("exception", "the managed exception", Type::Address),
    Fact::new("exception_message", "its message", Type::Content),
]);

/// The event as facts, without lines.
fn event_data(session: &Session, out: &mut Out) {
    let dump = session.dump();
    let Some(e) = &dump.exception else { return };
    out.datum("event", &Cell::text(event(dump.os, e)));
    out.datum("event_code", &Cell::Hex(e.code.into()));
    out.datum("event_address", &Cell::Addr(e.address));
    out.datum("event_thread_id", &Cell::Hex(e.thread_id));
    if let Some(e) = session.managed_exception() {
        out.datum("exception_type", &Cell::text(&*e.type_name));
        out.datum("exception", &Cell::Addr(e.address));
        out.datum("exception_message", &Cell::maybe(e.message));
    }
}

/// `.time`.
pub const TIME: Command = Command {
    help: "When the dump was written, how long the process had run, its CPU times, as far as the dump records them.",
    examples: &[Example { line: ".time", what: "how long the process ran" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("time", "when the dump was taken, where it says so", Type::Time),
        Fact::new("file_time", "when the file was last written", Type::Time),
        Fact::new("start_time", "when the process started", Type::Time),
        Fact::new("uptime", "how long it had run", Type::Number).unit("s"),
        Fact::new("kernel_time", "its time in the kernel", Type::Number).unit("s"),
        Fact::new("user_time", "its time outside", Type::Number).unit("s"),
    ]),
    run: |ctx, _| {
        let dump = ctx.session()?.dump();
        let p = &dump.process;
        let none = || "not recorded".to_owned();
        let moment = |t: Option<u64>| t.map_or(Cell::None, Cell::Time);
        let seconds = |t: Option<u64>| t.map_or(Cell::None, Cell::Num);
        let spent = |t: Option<u64>| t.map_or_else(none, span);
        let written = dump.file_time.map_or_else(none, |t| format!("not recorded; file written {}", utc(t)));
        let facts = [("time", moment(p.dump_time)), ("file_time", moment(dump.file_time))];
        ctx.out.facts(&facts, format!("Debug session time: {}", p.dump_time.map_or(written, utc)))?;
        ctx.out.datum("start_time", &moment(p.start_time));
        let up = p.dump_time.zip(p.start_time).map(|(d, s)| d.saturating_sub(s));
        ctx.out.fact("uptime", seconds(up), format!("Process Uptime: {}", spent(up)))?;
        let (user, kernel) = (p.cpu_seconds.map(|c| c.0), p.cpu_seconds.map(|c| c.1));
        ctx.out.fact("kernel_time", seconds(kernel), format!("  Kernel time: {}", spent(kernel)))?;
        ctx.out.fact("user_time", seconds(user), format!("  User time: {}", spent(user)))?;
        Ok(Outcome::Complete)
    },
    ..plain("time", Prefix::Dot, "times of dump and process")
};

fn span(seconds: u64) -> String {
    let (d, r) = (seconds / 86_400, seconds % 86_400);
    format!("{d} days {}:{:02}:{:02}", r / 3600, r / 60 % 60, r % 60)
}

/// `vertarget`.
pub const VERTARGET: Command = Command {
    aliases: &["version"],
    help: "The machine and the process of the dump, and the runtime in it.",
    examples: &[Example { line: "vertarget", what: "what the dump is of" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("file", "path of the file", Type::Path),
        Fact::new("kind", "format of the dump and what wrote it", Type::Text),
        Fact::new("minidump_type", "flags of a minidump", Type::Hex),
        Fact::new("arch", "processor architecture", Type::Text),
        Fact::new("size", "bytes of the file, unpacked", Type::Bytes),
        Fact::new("pid", "process id", Type::Number),
        Fact::new("process", "name or path of the executable", Type::Path),
        Fact::new("os", "operating system", Type::Text),
        Fact::new("os_version", "its version", Type::Text),
        Fact::new("time", "when the dump was taken, where it says so", Type::Time),
        Fact::new("file_time", "when the file was last written", Type::Time),
        Fact::new("runtime", "version of the .NET runtime", Type::Text),
        Fact::new("runtime_error", "why there is no runtime to read", Type::Text),
        Fact::new("single_file", "the runtime is linked into the program", Type::Bool),
        Fact::new("server_gc", "the GC is that of servers", Type::Bool),
        Fact::new("regions", "the heap has regions, not segments", Type::Bool),
        Fact::new("event_thread", "number of the event's thread", Type::Number),
        Fact::new("missing_images", "memory of images and files that is not in the dump", Type::Bytes),
        Fact::new("missing_memory", "other memory that is not in the dump", Type::Bytes),
        Fact::new("heap_segments", "segments of the managed heap", Type::Count),
        Fact::new("missing_heap_segments", "segments of it that are not in the dump", Type::Count),
        Fact::new("assemblies", "assemblies", Type::Count),
        Fact::new("unnamed_assemblies", "assemblies whose metadata is missing", Type::Count),
        Fact::new("threads", "threads", Type::Count),
        Fact::new("modules", "modules", Type::Count),
        Fact::new("current_thread", "number of the current thread", Type::Number),
        Fact::new("current_thread_id", "its operating system id", Type::Hex),
        Fact::new("processors", "logical processors of the machine", Type::Count),
        Fact::new("page_size", "bytes of a page", Type::Bytes),
        Fact::new("command_line", "command line", Type::Content),
    ])
    .and(&[&NOTICED])
    .with(&[&EVENT, &paths::IMAGES]),
    run: |ctx, _| {
        let session = ctx.session()?;
        let thread = ctx.settings.thread;
        target(session, thread, ctx.out)?;
        for line in banner::lines(session, thread) {
            ctx.out.note(line)?;
        }
        let p = &session.dump().process;
        if let Some(n) = p.processors {
            let facts = [("processors", Cell::Num(n.into())), ("page_size", Cell::Num(p.page_size))];
            ctx.out.facts(&facts, format!("{n} processors, page size {}", p.page_size))?;
        }
        if let Some(c) = &p.command_line {
            ctx.out.fact("command_line", Cell::text(c), format!("command line: {c}"))?;
        }
        Ok(Outcome::Complete)
    },
    ..plain("vertarget", Prefix::Plain, "machine, process and runtime of the dump")
};

/// Everything the banner puts into words.
fn target(session: &Session, thread: usize, out: &mut Out) -> io::Result<()> {
    if !out.wants_data() {
        return Ok(());
    }
    let dump = session.dump();
    let p = &dump.process;
    let moment = |t: Option<u64>| t.map_or(Cell::None, Cell::Time);
    out.datum("file", &Cell::text(dump.path.display().to_string()));
    out.datum("kind", &Cell::text(banner::kind(dump)));
    if let DumpKind::Minidump { flags } = dump.kind {
        out.datum("minidump_type", &Cell::Hex(flags));
    }
    out.datum("arch", &Cell::text(dump.arch.name()));
    out.datum("size", &Cell::Num(dump.file_size));
    out.datum("pid", &p.pid.map_or(Cell::None, Cell::Num));
    out.datum("process", &Cell::maybe(p.name.as_deref()));
    out.datum("os", &Cell::text(if dump.os == Os::Windows { "windows" } else { "linux" }));
    out.datum("os_version", &Cell::maybe(p.os_version.as_deref()));
    out.datum("time", &moment(p.dump_time));
    out.datum("file_time", &moment(dump.file_time));
    runtime(session, out);
    event_data(session, out);
    if let Some(e) = &dump.exception {
        let number = dump.threads.iter().position(|t| t.os_id == e.thread_id);
        out.datum("event_thread", &number.map_or(Cell::None, |n| Cell::Num(n as u64)));
    }
    missing(session, out);
    paths::images(session, out)?;
    noticed(session, out)?;
    if let Some(odd) = banner::heap_state(session) {
        out.data_row(&NOTICED, &[Cell::text("heap"), Cell::text(odd)])?;
    }
    out.datum("threads", &Cell::Num(dump.threads.len() as u64));
    out.datum("modules", &Cell::Num(dump.modules.len() as u64));
    out.datum("current_thread", &Cell::Num(thread as u64));
    out.datum("current_thread_id", &Cell::Hex(dump.threads.get(thread).map_or(0, |t| t.os_id)));
    Ok(())
}

fn runtime(session: &Session, out: &mut Out) {
    match session.clr() {
        Ok(clr) => {
            out.datum("runtime", &Cell::maybe(session.about().runtime));
            out.datum("single_file", &Cell::Bool(clr.found.module.single_file));
            out.datum("server_gc", &Cell::Bool(clr.found.gc.is_server()));
            out.datum("regions", &Cell::Bool(clr.found.gc.has_regions()));
        }
        Err(why) => out.datum("runtime_error", &Cell::text(format!("{why}"))),
    }
}

fn missing(session: &Session, out: &mut Out) {
    let missing = session.missing();
    out.datum("missing_images", &Cell::Num(missing.images));
    out.datum("missing_memory", &Cell::Num(missing.other));
    out.datum("heap_segments", &missing.segments.map_or(Cell::None, |s| Cell::Num(s.all)));
    out.datum("missing_heap_segments", &missing.segments.map_or(Cell::None, |s| Cell::Num(s.missing)));
    out.datum("assemblies", &missing.assemblies.map_or(Cell::None, |a| Cell::Num(a.all)));
    out.datum("unnamed_assemblies", &missing.assemblies.map_or(Cell::None, |a| Cell::Num(a.missing)));
}

/// `.lastevent`.
pub const LASTEVENT: Command = Command {
    help: "The event the dump was taken at: exception code or signal, address, thread.",
    examples: &[Example { line: ".lastevent", what: "whether it crashed, and where" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("pid", "process id", Type::Number),
        Fact::new("time", "when the dump was taken, where it says so", Type::Time),
    ])
    .with(&[&EVENT]),
    run: |ctx, _| {
        let session = ctx.session()?;
        let dump = session.dump();
        let pid = dump.process.pid;
        let Some(e) = &dump.exception else {
            let kind = if matches!(dump.kind, DumpKind::Minidump { .. }) { "exception stream" } else { "signal" };
            ctx.out.note(format!("no event: the dump has no {kind}, it was taken of a running process"))?;
            return Ok(Outcome::Empty);
        };
        event_data(session, ctx.out);
        let what = event(dump.os, e);
        let line = format!("Last event: {:x}.{:x}: {what} at {:x}", pid.unwrap_or(0), e.thread_id, e.address);
        ctx.out.fact("pid", pid.map_or(Cell::None, Cell::Num), line)?;
        if let Some(managed) = session.describe_exception() {
            ctx.out.note(format!("  managed exception {managed}"))?;
        }
        if let Some(t) = dump.process.dump_time {
            ctx.out.fact("time", Cell::Time(t), format!("  debugger time: {}", utc(t)))?;
        }
        Ok(Outcome::Complete)
    },
    ..plain("lastevent", Prefix::Dot, "what the dump was taken at")
};
