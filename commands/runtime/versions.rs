//! `!eeversion`, `!runtimes`, `!sosstatus`.

use anyhow::Result;

use crate::clr::Clr;
use crate::clr::layout::verdict::Verdict;
use crate::dump::Os;
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Needs, Out, Outcome, Prefix, Returns, digits};

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
    returns: Returns::NOTHING,
    run: eeversion,
};

/// `!runtimes`.
pub const RUNTIMES: Command = Command {
    name: "runtimes",
    prefix: Prefix::Bang,
    aliases: &[],
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
    returns: Returns::NOTHING,
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
    returns: Returns::NOTHING,
    run: sosstatus,
};

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
    ctx.out.line(format!("{number}{old}"))?;
    if full.len() > number.len() {
        ctx.out.line(&full)?;
    }
    if clr.found.gc.is_server() {
        let heaps = session.heap().map(|h| h.heaps.len()).unwrap_or(0);
        ctx.out.line(format!("Server mode with {heaps} gc heaps"))?;
    } else {
        ctx.out.line("Workstation mode")?;
    }
    Ok(Outcome::Complete)
}

fn runtime_lines(session: &Session, out: &mut Out, indent: &str) -> Result<()> {
    let clr = session.clr()?;
    let m = &clr.found.module;
    let size = m.end.saturating_sub(m.base);
    let number = version(clr);
    let number = number.split(' ').next().unwrap_or_default();
    let module = session.dump().module_at(m.base);
    let index =
        module.and_then(|x| x.build_id.as_ref()).map(|b| b.iter().map(|x| format!("{x:02x}")).collect::<String>());
    let index = index.or_else(|| module.and_then(|x| Some(format!("{:x}{:x}", x.timestamp?, x.image_size?))));
    let index = index.map(|i| format!(" index {i}")).unwrap_or_default();
    out.line(format!("{indent}#0 .NET Core runtime {number} at {:0w$X} size {size:08X}{index}", m.base, w = digits()))?;
    out.line(format!("    Runtime module path: {}", m.path))?;
    if let Some(cut) = m.path.rfind(['/', '\\']) {
        out.line(format!("    Runtime module directory: {}", m.path.get(..cut).unwrap_or_default()))?;
    }
    if m.single_file {
        out.line("    The runtime is linked into the program (single file)")?;
    }
    if let Some((start, _)) = m.gc_module {
        out.line(format!("    Standalone GC at {start:0w$X}", w = digits()))?;
    }
    Ok(())
}

fn runtimes(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    runtime_lines(session, ctx.out, "")?;
    if let Some(table) = &clr.found.table {
        ctx.out.line(format!("    Layout: {table}"))?;
    }
    let refused = clr.found.checks.iter().filter(|c| c.verdict == Verdict::Failed).count();
    let lost = clr.found.lost();
    for line in session.describe_providers() {
        ctx.out.line(format!("    Note: {line}"))?;
    }
    if args.has("v") {
        verbose(clr, ctx.out)?;
        heap_checks(session, ctx.out, true)?;
    }
    if args.has("facts") {
        facts(clr, ctx.out)?;
    }
    if refused > 0 && lost.is_empty() {
        ctx.out.line(format!("{refused} checks failed on the table's values; what they refused was found anew"))?;
    }
    Ok(match &lost[..] {
        [] => Outcome::Complete,
        lost => Outcome::Partial(format!("{refused} checks of the layout failed; not used: {}", lost.join(", "))),
    })
}

fn verbose(clr: &Clr, out: &mut Out) -> Result<()> {
    const PROVIDERS: &[Col] = &[Col::left("Provider", "provider", 24), Col::left("Answer", "answer", 0)];
    const CHECKS: &[Col] = &[
        Col::left("Verdict", "verdict", 12),
        Col::left("Check", "check", 40),
        Col::left("Expected", "expected", 32),
        Col::left("Found", "found", 24),
        Col::left("Source", "source", 24),
        Col::left("Fields", "fields", 0),
    ];
    out.line("Providers:")?;
    out.table("providers", PROVIDERS, false)?;
    for (name, answer) in &clr.found.providers {
        out.row(&[Cell::text(name.as_str()), Cell::text(answer.as_str())])?;
    }
    let checks = &clr.found.checks;
    let passed = checks.iter().filter(|c| c.verdict == Verdict::Passed).count();
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed).count();
    let rest = checks.len() - passed - failed;
    out.line(format!("Checks: {passed} passed, {failed} failed, {rest} not possible"))?;
    out.table("checks", CHECKS, true)?;
    for c in checks {
        let verdict = match &c.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::NotPossible(why) => format!("not possible: {why}"),
        };
        out.row(&[
            Cell::text(verdict),
            Cell::text(c.name),
            Cell::text(c.expected.as_str()),
            Cell::text(c.found.as_str()),
            Cell::text(c.source.to_string()),
            Cell::text(c.fields.join(" ")),
        ])?;
    }
    Ok(())
}

/// The heap's invariants on a sample: one line, or a row each.
fn heap_checks(session: &Session, out: &mut Out, each: bool) -> Result<()> {
    const COLUMNS: &[Col] = &[
        Col::right("Held", "held", 8),
        Col::right("Broken", "broken", 8),
        Col::left("Invariant", "invariant", 66),
        Col::left("First broken", "first", 0),
    ];
    let check = match session.heap_check() {
        Ok(check) => check,
        Err(why) => return Ok(out.line(format!("Heap checks: not possible: {why:#}"))?),
    };
    let (held, broken, idle) = check.verdicts();
    let note =
        if check.without_objects { "the objects are not in the dump" } else { "on a sample; !verifyheap checks all" };
    out.line(format!("Heap checks: {held} passed, {broken} failed, {idle} with nothing to check ({note})"))?;
    if each {
        out.table("heapchecks", COLUMNS, true)?;
    }
    for c in check.checks.iter().filter(|c| each || c.broken > 0) {
        if each {
            out.row(&[Cell::Num(c.held), Cell::Num(c.broken), Cell::text(c.name), Cell::text(c.first.as_str())])?;
        } else {
            out.line(format!("FAILED: {}: {} of {} ({})", c.name, c.broken, c.held + c.broken, c.first))?;
        }
    }
    for problem in session.heap().map(|h| h.problems.as_slice()).unwrap_or_default() {
        out.line(format!("Heap: {problem}"))?;
    }
    Ok(())
}

fn facts(clr: &Clr, out: &mut Out) -> Result<()> {
    const COLUMNS: &[Col] =
        &[Col::left("Name", "name", 44), Col::right("Value", "value", 16), Col::left("Source", "source", 0)];
    out.line("Layout:")?;
    out.table("facts", COLUMNS, true)?;
    for (name, value, source) in clr.layout().facts() {
        out.row(&[Cell::text(name), Cell::Hex(value), Cell::text(source.to_string())])?;
    }
    Ok(())
}

fn sosstatus(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let dump = session.dump();
    let os = match dump.os {
        Os::Linux => "LINUX",
        Os::Windows => "WINDOWS",
        #[allow(unreachable_patterns, reason = "systems may be added")]
        _ => "?",
    };
    let pid = dump.process.pid.unwrap_or(0);
    let arch = dump.arch.name().to_ascii_uppercase();
    let path = dump.path.display();
    ctx.out.line(format!("Target OS: {os} Architecture: {arch} ProcessId: {pid} (0x{pid:X}) {path}"))?;
    let outcome = match session.clr() {
        Ok(_) => {
            runtime_lines(session, ctx.out, "    ")?;
            for line in session.describe_providers() {
                ctx.out.line(format!("Noticed: {line}"))?;
            }
            Outcome::Complete
        }
        Err(why) => {
            ctx.out.line(format!("    {why:#}"))?;
            Outcome::Partial("the .NET runtime cannot be read".into())
        }
    };
    ctx.out.line("Search paths:")?;
    for folder in &ctx.settings.image_paths {
        ctx.out.line(format!("-> Images: {}", folder.display()))?;
    }
    ctx.out.line(format!("-> Symbols: {}", ctx.settings.symbol_path))?;
    if session.clr().is_ok() {
        heap_checks(session, ctx.out, false)?;
    }
    for problem in &dump.problems {
        ctx.out.line(format!("Noticed: {}: {}", problem.place, problem.what))?;
    }
    Ok(outcome)
}
