//! `.ps` and `.collect`: the .NET processes of this machine, and a dump of one of them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};

use crate::live::find::{self, Info, Port};
use crate::live::{Kind as What, collect};
use crate::shell::numbers::utc;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Outcome, Prefix, Request, Returns, Table, Type,
};

const PROCESSES: Table = Table::new(
    "processes",
    &[
        Col::right("PID", "pid", 7).of(Type::Number),
        Col::left("Name", "name", 24).of(Type::Content),
        Col::left("Runtime", "runtime", 16),
        Col::left("Arch", "arch", 5),
        Col::right("Inner", "inner_pid", 7).of(Type::Number),
        Col::left("Command line", "command_line", 0).of(Type::Content).breaks(),
        Col::data("container", Type::Bool).titled("whether it sees other files than this program"),
        Col::data("port", Type::Content).titled("socket or pipe of its diagnostics server"),
        Col::data("refused", Type::Content).titled("why it does not say what it is"),
    ],
);

/// `.ps`.
pub const PS: Command = Command {
    aliases: &["tlist"],
    help: "Lists processes that have a port of the runtime's diagnostics: .NET Core 3.0 and later, and NativeAOT programs that \
           were built with diagnostics. Inner is the number a process has in its own namespace (in a container, mostly 1). \
           What a runtime does not say itself (before .NET 5) is what the system says. Processes of other users are seen by \
           root alone. The same from a command line: clrscope ps.",
    examples: &[Example { line: ".ps", what: "which processes a dump can be taken of" }],
    returns: Returns::facts(&[Fact::new("hidden", "processes that must not be looked at", Type::Count)])
        .and(&[&PROCESSES]),
    run: ps,
    ..Command::bare("ps", Prefix::Dot, Group::Session, "list the .NET processes of this machine")
};

/// `.collect`.
pub const COLLECT: Command = Command {
    help: "Has the runtime of a running process write a dump of it, as dotnet-dump does: the process is stopped meanwhile and \
           goes on afterwards. PID is the number that .ps shows. Types: full (all memory and the images of modules), heap \
           (what a leak hunt needs; the default), mini (stacks), triage (stacks without what may be personal). FILE is written \
           by the user of the process; without it, core_DATE_TIME (on Windows dump_DATE_TIME.dmp) in the current folder. From a \
           container the dump is copied out. The same from a command line: clrscope collect -p PID.",
    args: &[
        Arg::opt("p", Kind::Count, "number of the process").or(&["pid"]).required(),
        Arg::opt("t", Kind::OneOf(What::WORDS), "what the dump holds: heap unless said").or(&["type"]),
        Arg::opt("o", Kind::File, "the dump to write").or(&["output"]),
        Arg::flag("open", "open it then"),
    ],
    examples: &[Example { line: ".collect -p 4711 -t heap -o hunt.core -open", what: "take a dump and look into it" }],
    returns: Returns::facts(&[
        Fact::new("pid", "the process", Type::Number),
        Fact::new("file", "the dump", Type::Content),
        Fact::new("type", "what it holds", Type::Text),
        Fact::new("bytes", "its bytes", Type::Bytes),
        Fact::new("milliseconds", "how long the process was busy with it", Type::Count).unit("ms"),
        Fact::new("copied", "whether it was copied out of a container", Type::Bool),
    ]),
    run: take,
    ..Command::bare("collect", Prefix::Dot, Group::Session, "take a dump of a running .NET process")
};

fn ps(ctx: &mut Ctx<'_>, _: &Args) -> Result<Outcome> {
    ctx.settings.may(".ps")?;
    let cancel = &ctx.opening.watch.cancel;
    let found = find::all(cancel)?;
    let infos = find::describe(&found.ports, cancel)?;
    let rows = found.ports.iter().zip(&infos).map(row);
    ctx.out.fill(&PROCESSES, rows)?;
    let hidden = found.hidden;
    match hidden {
        0 => ctx.out.datum("hidden", &Cell::Num(0)),
        _ => {
            let line = format!("{hidden} processes cannot be looked at: they belong to others, and root sees more");
            ctx.out.fact("hidden", Cell::Num(hidden), line)?;
        }
    }
    Ok(if found.ports.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

fn row<'a>((port, info): (&'a Port, &'a Info)) -> [Cell<'a>; 9] {
    let text = |t: &'a Option<String>| Cell::maybe(t.as_deref());
    let line = match &info.refused {
        Some(why) => Cell::shown(why.as_str(), text(&info.command_line)),
        None => text(&info.command_line),
    };
    [
        Cell::Num(port.pid.into()),
        text(&info.name),
        text(&info.runtime),
        text(&info.arch),
        Cell::Num(port.inner_pid.into()),
        line,
        Cell::Bool(port.root.is_some()),
        Cell::text(port.place.to_string_lossy()),
        text(&info.refused),
    ]
}

fn take(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    ctx.settings.may(".collect")?;
    let number = args.number("p").unwrap_or_default();
    let pid = u32::try_from(number).map_err(|_| anyhow!("there is no process {number}"))?;
    let kind = args.text("t").and_then(What::named).unwrap_or(What::Heap);
    let port = find::of(pid).ok_or_else(|| anyhow!("{}", find::why_none(pid)))?;
    let file = file(args.text("o"))?;
    let written = collect::collect(&port, kind, &file, &ctx.opening.watch)
        .with_context(|| format!("no dump of process {pid} was written"))?;
    let shown = file.to_string_lossy().into_owned();
    let ms = u64::try_from(written.took.as_millis()).unwrap_or(u64::MAX);
    let copied = if written.copied { ", copied out of its container" } else { "" };
    let facts = [
        ("pid", Cell::Num(pid.into())),
        ("file", Cell::text(&shown)),
        ("type", Cell::text(kind.name())),
        ("bytes", Cell::Num(written.bytes)),
        ("milliseconds", Cell::Num(ms)),
        ("copied", Cell::Bool(written.copied)),
    ];
    let line = format!("{shown}: {} dump of process {pid}, {} bytes, {ms} ms{copied}", kind.name(), written.bytes);
    ctx.out.facts(&facts, line)?;
    if args.has("open") {
        ctx.request = Some(Request::Open(file));
    }
    Ok(Outcome::Complete)
}

/// The file to write, from the root: the process has a current folder of its own.
fn file(given: Option<&str>) -> Result<PathBuf> {
    let named = given.map_or_else(default_name, str::to_owned);
    std::path::absolute(Path::new(&named)).with_context(|| format!("cannot write {named}"))
}

/// As dotnet-dump names them, in UTC.
fn default_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let digits: String = utc(now).chars().filter(|c| c.is_ascii_digit() || *c == ' ').collect();
    let stamp = digits.trim().replace(' ', "_");
    if cfg!(windows) { format!("dump_{stamp}.dmp") } else { format!("core_{stamp}") }
}
