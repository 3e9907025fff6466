//! `!eeversion`, `!runtimes`, `!sosstatus`.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::layout::standing::Standing;
use crate::clr::layout::verdict::{Check, Verdict};
use crate::dump::Os;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type, digits,
};

/// `!eeversion`.
pub const EEVERSION: Command = Command {
    name: "eeversion",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Runtime,
    summary: "show the version of the runtime and the kind of its GC",
    help: "The version is read from the runtime's image where the dump holds it, else from its path.",
    args: &[],
    examples: &[Example { line: "!eeversion", what: "version and GC mode" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("version", "version of the runtime as its image has it", Type::Text),
        Fact::new("version_text", "the same with what stands behind it there", Type::Text),
        Fact::new("server_gc", "the GC is that of servers", Type::Bool),
        Fact::new("heaps", "heaps of the GC", Type::Count),
    ]),
    run: eeversion,
};

/// `!runtimes`.
pub const RUNTIMES: Command = Command {
    name: "runtimes",
    prefix: Prefix::Bang,
    aliases: &["wver"],
    group: Group::Runtime,
    summary: "show the .NET runtime found, with -v how its structures were found",
    help: "-v lists what was asked for the layout of the runtime's structures and what it answered, and every check made \
           on it: which fields it vouches for, what was expected, what was found. A check that failed takes its fields \
           out of use. Then the invariants of the heap on a sample of it, with how often each held. -facts lists every offset, constant and variable in use with where it comes from.",
    args: &[
        Arg::flag("v", "with the providers and the checks").or(&["verbose"]),
        Arg::flag("facts", "with every offset in use"),
    ],
    examples: &[Example { line: "!runtimes -v", what: "the runtime and how far its layout is proved" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("layout", "what the layout of the runtime's structures is based on", Type::Text),
        Fact::new("checks_passed", "checks of the layout that held", Type::Count),
        Fact::new("checks_failed", "checks of the layout that did not: what they vouch for is not used", Type::Count),
        Fact::new("checks_not_possible", "checks whose memory is not in the dump, or that have no case", Type::Count),
    ])
    .and(&[&PROVIDERS, &CHECKS, &LAYOUT, &NOTICED])
    .with(&[&RUNTIME, &HEAP]),
    run: runtimes,
};

/// `!sosstatus`.
pub const SOSSTATUS: Command = Command {
    name: "sosstatus",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Runtime,
    summary: "show the target, the runtime and what was odd about the dump",
    help: "The process, the runtime, where symbols and images are searched, how many invariants of the heap held on a \
           sample, and everything noticed while the dump was opened.",
    args: &[],
    examples: &[Example { line: "!sosstatus", what: "the state of the session" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("os", "operating system", Type::Text),
        Fact::new("arch", "processor architecture", Type::Text),
        Fact::new("pid", "process id", Type::Number),
        Fact::new("file", "path of the dump", Type::Path),
        Fact::new("runtime_error", "why there is no runtime to read", Type::Text),
        Fact::new("symbol_path", "the symbol path", Type::Path),
    ])
    .and(&[&FOLDERS, &NOTICED])
    .with(&[&RUNTIME, &HEAP]),
    run: sosstatus,
};

/// The runtime's module.
const RUNTIME: Returns = Returns::facts(&[
    Fact::new("runtime_version", "version of the runtime", Type::Text),
    Fact::new("runtime_base", "base of its module", Type::Address),
    Fact::new("runtime_size", "bytes of its module", Type::Bytes),
    Fact::new("runtime_index", "what symbol servers know it by: ELF build id, or PE timestamp and size", Type::Text),
    Fact::new("runtime_path", "path of its module", Type::Path),
    Fact::new("runtime_directory", "folder of its module", Type::Text),
    Fact::new("single_file", "it is linked into the program", Type::Bool),
    Fact::new("standalone_gc", "base of the module of a GC of its own", Type::Address),
    Fact::new("framework", "it is .NET Framework", Type::Bool),
    Fact::new(
        "standing",
        "what stands behind the layout: verified, structures, relatives, experimental, described, structural",
        Type::Text,
    ),
    Fact::new("standing_text", "the same in words", Type::Text),
]);

/// The invariants of the heap.
const HEAP: Returns = Returns::facts(&[
    Fact::new("heap_checks_passed", "invariants of the heap that held wherever they were looked at", Type::Count),
    Fact::new("heap_checks_failed", "invariants that are broken", Type::Count),
    Fact::new("heap_checks_idle", "invariants with nothing to look at", Type::Count),
    Fact::new("without_objects", "the objects are not in the dump", Type::Bool),
    Fact::new("heap_error", "why the heap cannot be checked", Type::Text),
])
.and(&[&HEAP_CHECKS]);

/// What was odd about the dump.
pub const NOTICED: Table = Table::new(
    "noticed",
    &[
        Col::data("place", Type::Text).titled("layout, heap, or a part of the file"),
        Col::data("what", Type::Text).titled("what is odd"),
    ],
);

/// What was odd about layout and file, for data alone.
pub fn noticed(session: &Session, out: &mut Out) -> std::io::Result<()> {
    for line in session.describe_providers() {
        out.data_row(&NOTICED, &[Cell::text("layout"), Cell::text(line)])?;
    }
    for p in &session.dump().problems {
        out.data_row(&NOTICED, &[Cell::text(p.place.to_string()), Cell::text(p.what.to_string())])?;
    }
    Ok(())
}

const FOLDERS: Table =
    Table::new("image_folders", &[Col::data("path", Type::Path).titled("folder searched for images")]);

fn version(clr: &Clr) -> String {
    let era = clr.found.era;
    clr.found.module.version.clone().unwrap_or_else(|| format!("{}.{}", era.0, era.1))
}

fn eeversion(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let full = version(clr);
    let number = full.split(' ').next().unwrap_or(&full);
    // Versions of .NET Core 3 are numbered 4.700.
    let old = if number.starts_with("4.700.") { " (3.x runtime)" } else { "" };
    ctx.out.fact("version", Cell::text(number), format!("{number}{old}"))?;
    match full.len() > number.len() {
        true => ctx.out.fact("version_text", Cell::text(&full), &full)?,
        false => ctx.out.datum("version_text", &Cell::text(&full)),
    }
    let server = clr.found.gc.is_server();
    let heaps = if server || ctx.out.wants_data() { session.heap().map(|h| h.heaps.len()).ok() } else { None };
    let line = match server {
        true => format!("Server mode with {} gc heaps", heaps.unwrap_or(0)),
        false => "Workstation mode".into(),
    };
    let heaps = heaps.map_or(Cell::None, |n| Cell::Num(n as u64));
    ctx.out.facts(&[("server_gc", Cell::Bool(server)), ("heaps", heaps)], line)?;
    // Nobody may take what was never seen for what was verified.
    let standing = clr.found.standing;
    if standing.is_prediction() && standing != Standing::Structural {
        ctx.out.note(format!("Standing: {}", standing.sentence()))?;
    }
    Ok(Outcome::Complete)
}

fn runtime_lines(session: &Session, out: &mut Out, indent: &str) -> Result<()> {
    let clr = session.clr()?;
    let m = &clr.found.module;
    let size = m.end.saturating_sub(m.base);
    let number = version(clr);
    let number = number.split(' ').next().unwrap_or_default();
    let index = session.dump().module_at(m.base).and_then(|x| x.index());
    let shown = index.as_ref().map(|i| format!(" index {i}")).unwrap_or_default();
    let facts = [
        ("runtime_version", Cell::text(number)),
        ("runtime_base", Cell::Addr(m.base)),
        ("runtime_size", Cell::Num(size)),
        ("runtime_index", Cell::maybe(index)),
    ];
    let framework = clr.found.is_framework();
    let kind = match clr.ahead() {
        Some(_) => "NativeAOT",
        None if framework => "Desktop .NET Framework",
        None => ".NET Core",
    };
    out.datum("framework", &Cell::Bool(framework));
    let standing = clr.found.standing;
    out.datum("standing", &Cell::text(standing.word()));
    out.datum("standing_text", &Cell::text(standing.sentence()));
    let line = format!("{indent}#0 {kind} runtime {number} at {:0w$X} size {size:08X}{shown}", m.base, w = digits());
    out.facts(&facts, line)?;
    out.fact("runtime_path", Cell::text(&m.path), format!("    Runtime module path: {}", m.path))?;
    if let Some(cut) = m.path.rfind(['/', '\\']) {
        let folder = m.path.get(..cut).unwrap_or_default();
        out.fact("runtime_directory", Cell::text(folder), format!("    Runtime module directory: {folder}"))?;
    }
    match m.single_file {
        true => {
            let line = match clr.ahead() {
                Some(_) => "    The runtime is linked into the program (compiled ahead of time)",
                None => "    The runtime is linked into the program (single file)",
            };
            out.fact("single_file", Cell::Bool(true), line)?;
        }
        false => out.datum("single_file", &Cell::Bool(false)),
    }
    if let Some((start, _)) = m.gc_module {
        out.fact("standalone_gc", Cell::Addr(start), format!("    Standalone GC at {start:0w$X}", w = digits()))?;
    }
    Ok(())
}

fn runtimes(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    runtime_lines(session, ctx.out, "")?;
    if let Some(table) = &clr.found.table {
        ctx.out.fact("layout", Cell::text(table), format!("    Layout: {table}"))?;
    }
    for name in session.other_runtimes() {
        let what = format!("{name} holds a NativeAOT runtime too, which is not read beside CoreCLR");
        ctx.out.row_as(&NOTICED, &[Cell::text("layout"), Cell::text(&what)], format!("    Note: {what}"))?;
    }
    let (passed, failed, rest) = verdicts(&clr.found.checks);
    let lost = clr.found.lost();
    for line in session.describe_providers() {
        let row = [Cell::text("layout"), Cell::text(&line)];
        ctx.out.row_as(&NOTICED, &row, format!("    Note: {line}"))?;
    }
    if args.has("v") {
        verbose(clr, ctx.out)?;
        heap_checks(session, ctx.out, true)?;
    }
    if args.has("facts") {
        facts(clr, ctx.out)?;
    }
    if failed > 0 && lost.is_empty() {
        ctx.out.note(format!("{failed} checks failed on the table's values; what they refused was found anew"))?;
    }
    for (key, count) in [("checks_passed", passed), ("checks_failed", failed), ("checks_not_possible", rest)] {
        ctx.out.datum(key, &Cell::Num(count as u64));
    }
    Ok(match &lost[..] {
        [] => Outcome::Complete,
        lost => Outcome::Partial(format!("{failed} checks of the layout failed; not used: {}", lost.join(", "))),
    })
}

/// How many checks passed, failed, were not possible.
fn verdicts(checks: &[Check]) -> (usize, usize, usize) {
    let passed = checks.iter().filter(|c| c.verdict == Verdict::Passed).count();
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed).count();
    (passed, failed, checks.len() - passed - failed)
}

const PROVIDERS: Table =
    Table::new("providers", &[Col::left("Provider", "provider", 24), Col::left("Answer", "answer", 0)]);
const CHECKS: Table = Table::new(
    "checks",
    &[
        Col::left("Verdict", "verdict", 12),
        Col::left("Check", "check", 40),
        Col::left("Expected", "expected", 32),
        Col::left("Found", "found", 24),
        Col::left("Source", "source", 24),
        Col::left("Fields", "fields", 0),
        Col::data("why", Type::Text).titled("why the check was not possible"),
    ],
);

fn verbose(clr: &Clr, out: &mut Out) -> Result<()> {
    out.note(format!("Standing: {}", clr.found.standing.sentence()))?;
    out.note("Providers:")?;
    out.open_bare(&PROVIDERS)?;
    for (name, answer) in &clr.found.providers {
        out.row(&[Cell::text(name.as_str()), Cell::text(answer.as_str())])?;
    }
    let checks = &clr.found.checks;
    let (passed, failed, rest) = verdicts(checks);
    out.note(format!("Checks: {passed} passed, {failed} failed, {rest} not possible"))?;
    out.open(&CHECKS)?;
    for c in checks {
        let (verdict, why) = match &c.verdict {
            Verdict::Passed => (Cell::text("passed"), None),
            Verdict::Failed => (Cell::shown("FAILED", Cell::text("failed")), None),
            Verdict::NotPossible(why) => {
                (Cell::shown(format!("not possible: {why}"), Cell::text("not possible")), Some(why.as_str()))
            }
        };
        out.row(&[
            verdict,
            Cell::text(c.name),
            Cell::text(c.expected.as_str()),
            Cell::text(c.found.as_str()),
            Cell::text(c.source.to_string()),
            Cell::text(c.fields.join(" ")),
            Cell::maybe(why),
        ])?;
    }
    Ok(())
}

const HEAP_CHECKS: Table = Table::new(
    "heap_checks",
    &[
        Col::right("Held", "held", 8).of(Type::Count),
        Col::right("Broken", "broken", 8).of(Type::Count),
        Col::left("Invariant", "invariant", 66),
        Col::left("First broken", "first", 0),
    ],
);

/// The heap's invariants on a sample: one line, or a row each.
fn heap_checks(session: &Session, out: &mut Out, each: bool) -> Result<()> {
    let check = match session.heap_check() {
        Ok(check) => check,
        Err(why) => {
            let why = format!("{why:#}");
            return Ok(out.fact("heap_error", Cell::text(&why), format!("Heap checks: not possible: {why}"))?);
        }
    };
    let (held, broken, idle) = check.verdicts();
    let note =
        if check.without_objects { "the objects are not in the dump" } else { "on a sample; !verifyheap checks all" };
    let facts = [
        ("heap_checks_passed", Cell::Num(held as u64)),
        ("heap_checks_failed", Cell::Num(broken as u64)),
        ("heap_checks_idle", Cell::Num(idle as u64)),
        ("without_objects", Cell::Bool(check.without_objects)),
    ];
    out.facts(&facts, format!("Heap checks: {held} passed, {broken} failed, {idle} with nothing to check ({note})"))?;
    if each {
        out.open(&HEAP_CHECKS)?;
    }
    for c in check.checks.iter().filter(|c| each || c.broken > 0) {
        let first = if c.first.is_empty() { Cell::None } else { Cell::text(c.first.as_str()) };
        let row = [Cell::Num(c.held), Cell::Num(c.broken), Cell::text(c.name), first];
        if each {
            out.row(&row)?;
        } else {
            let line = format!("FAILED: {}: {} of {} ({})", c.name, c.broken, c.held + c.broken, c.first);
            out.row_as(&HEAP_CHECKS, &row, line)?;
        }
    }
    for problem in session.heap().map(|h| h.problems.as_slice()).unwrap_or_default() {
        out.row_as(&NOTICED, &[Cell::text("heap"), Cell::text(problem)], format!("Heap: {problem}"))?;
    }
    Ok(())
}

/// Every fact of the layout in use.
const LAYOUT: Table = Table::new(
    "layout_facts",
    &[Col::left("Name", "name", 44), Col::right("Value", "value", 16).of(Type::Hex), Col::left("Source", "source", 0)],
);

fn facts(clr: &Clr, out: &mut Out) -> Result<()> {
    out.note("Layout:")?;
    out.open(&LAYOUT)?;
    for (name, value, source) in clr.layout().facts() {
        out.row(&[Cell::text(name), Cell::Hex(value), Cell::text(source.to_string())])?;
    }
    Ok(())
}

fn sosstatus(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    let os = if dump.os == Os::Windows { "windows" } else { "linux" };
    let pid = dump.process.pid.unwrap_or(0);
    let arch = dump.arch.name();
    let path = dump.path.display().to_string();
    let facts = [
        ("os", Cell::text(os)),
        ("arch", Cell::text(arch)),
        ("pid", dump.process.pid.map_or(Cell::None, Cell::Num)),
        ("file", Cell::text(&path)),
    ];
    let [os, arch] = [os, arch].map(str::to_ascii_uppercase);
    let line = format!("Target OS: {os} Architecture: {arch} ProcessId: {pid} (0x{pid:X}) {path}");
    ctx.out.facts(&facts, line)?;
    let outcome = match session.clr() {
        Ok(_) => {
            runtime_lines(session, ctx.out, "    ")?;
            for line in session.describe_providers() {
                let row = [Cell::text("layout"), Cell::text(&line)];
                ctx.out.row_as(&NOTICED, &row, format!("Noticed: {line}"))?;
            }
            Outcome::Complete
        }
        Err(why) => {
            let why = format!("{why:#}");
            ctx.out.fact("runtime_error", Cell::text(&why), format!("    {why}"))?;
            Outcome::Partial("the .NET runtime cannot be read".into())
        }
    };
    ctx.out.note("Search paths:")?;
    for folder in &ctx.settings.image_paths {
        let folder = folder.display().to_string();
        ctx.out.row_as(&FOLDERS, &[Cell::text(&folder)], format!("-> Images: {folder}"))?;
    }
    let symbols = &ctx.settings.symbol_path;
    ctx.out.fact("symbol_path", Cell::text(symbols), format!("-> Symbols: {symbols}"))?;
    if session.clr().is_ok() {
        heap_checks(session, ctx.out, false)?;
    }
    for problem in &dump.problems {
        let row = [Cell::text(problem.place.to_string()), Cell::text(problem.what.to_string())];
        ctx.out.row_as(&NOTICED, &row, format!("Noticed: {}: {}", problem.place, problem.what))?;
    }
    Ok(outcome)
}
