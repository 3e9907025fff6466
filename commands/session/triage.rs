//! `.triage`: many dumps, a line each, grouped by what is wrong with them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::analyze::{Finding, Scope, analyze, signature, trouble};
use crate::dump::OpenError;
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `.triage DUMP...`.
pub const TRIAGE: Command = Command {
    name: "triage",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "many dumps, a line each with the first finding, grouped by what is wrong",
    help: "Opens each dump named and looks at it as !analyze does. Dumps with the same trouble stand together, the most frequent \
           first: what tells troubles apart is the signature, the kind of trouble and names of exceptions, methods, types and \
           static fields, no addresses and no figures. Dumps without a striking finding come behind them, and last what cannot \
           be read, with the reason. The open dump plays no part. The same from a command line: clrscope triage DUMP...; with \
           --json or --csv each dump is a row.",
    args: &[Arg::pos("DUMP", Kind::File, "dumps to look at").required().many()],
    examples: &[Example { line: ".triage older.core.zst", what: "one of many" }],
    needs: Needs::Nothing,
    returns: Returns::facts(&[
        Fact::new("dumps", "dumps looked at", Type::Count),
        Fact::new("signatures", "different troubles", Type::Count),
        Fact::new("refused", "dumps that cannot be read", Type::Count),
    ])
    .and(&[&DUMPS]),
    run,
};

const DUMPS: Table = Table::new(
    "dumps",
    &[
        Col::data("file", Type::Text).titled("the dump"),
        Col::data("signature", Type::Text).titled("what the trouble is, the same for dumps with the same trouble"),
        Col::data("dumps", Type::Count).titled("dumps with this signature"),
        Col::data("trouble", Type::Text).titled("crash, hang, memory, nothing striking, or refused"),
        Col::data("finding", Type::Content).titled("the first finding"),
        Col::data("address", Type::Address).titled("the object or code it is about"),
        Col::data("count", Type::Count).titled("how many threads or objects"),
        Col::data("bytes", Type::Bytes).titled("how many bytes"),
        Col::data("share", Type::Share).titled("percent of the live bytes"),
        Col::data("process", Type::Text).titled("name of the process"),
        Col::data("pid", Type::Number).titled("process id"),
        Col::data("runtime", Type::Text).titled("version of the .NET runtime"),
        Col::data("reason", Type::Text).titled("why it is refused, or what was not looked at"),
    ],
);

/// The kind of trouble of a dump that cannot be read.
const REFUSED: &str = "refused";

/// What one dump says.
#[derive(Default)]
struct Seen {
    file: String,
    signature: String,
    trouble: &'static str,
    finding: Option<Finding>,
    process: Option<String>,
    pid: Option<u64>,
    runtime: Option<String>,
    reason: Option<String>,
}

impl Seen {
    /// Troubles first, then those without one, then what cannot be read.
    fn order(&self) -> u8 {
        match self.trouble {
            REFUSED => 2,
            "nothing striking" => 1,
            _ => 0,
        }
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let mut seen = Vec::new();
    for file in args.texts("DUMP") {
        seen.push(look(ctx, file)?);
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for s in &seen {
        *counts.entry(s.signature.clone()).or_default() += 1;
    }
    let count = |s: &Seen| counts.get(&s.signature).copied().unwrap_or(0);
    seen.sort_by_key(|s| (s.order(), std::cmp::Reverse(count(s)), s.signature.clone()));
    let mut before = None;
    for s in &seen {
        if before != Some(&s.signature) {
            ctx.out.note(format!("{}{} x {}", if before.is_some() { "\n" } else { "" }, count(s), s.signature))?;
            before = Some(&s.signature);
        }
        row(ctx, s, count(s))?;
    }
    let refused = seen.iter().filter(|s| s.trouble == REFUSED).count() as u64;
    let different = counts.len() as u64;
    ctx.out.note("")?;
    let facts = [
        ("dumps", Cell::Num(seen.len() as u64)),
        ("signatures", Cell::Num(different)),
        ("refused", Cell::Num(refused)),
    ];
    ctx.out.facts(&facts, format!("{} dumps, {different} signatures, {refused} refused", seen.len()))?;
    Ok(match refused {
        0 => Outcome::Complete,
        n => Outcome::Partial(format!("{n} of {} dumps cannot be read", seen.len())),
    })
}

fn row(ctx: &mut Ctx<'_>, s: &Seen, count: u64) -> Result<()> {
    let cells = [
        Cell::text(&s.file),
        Cell::text(&s.signature),
        Cell::Num(count),
        Cell::text(s.trouble),
        Cell::maybe(s.finding.as_ref().map(|f| f.what.as_str())),
        Cell::at(s.finding.as_ref().map_or(0, |f| f.address)),
        number(s.finding.as_ref().and_then(|f| f.count)),
        number(s.finding.as_ref().and_then(|f| f.bytes)),
        s.finding.as_ref().and_then(|f| f.share).map_or(Cell::None, Cell::Percent),
        Cell::maybe(s.process.as_deref()),
        number(s.pid),
        Cell::maybe(s.runtime.as_deref()),
        Cell::maybe(s.reason.as_deref()),
    ];
    let said = s.finding.as_ref().map(|f| f.what.as_str()).or(s.reason.as_deref()).unwrap_or("no finding");
    let process = s.process.as_ref().map_or_else(String::new, |p| match s.pid {
        Some(pid) => format!(" ({p} {pid})"),
        None => format!(" ({p})"),
    });
    let runtime = s.runtime.as_ref().map_or_else(String::new, |r| format!(" .NET {r}"));
    Ok(ctx.out.row_as(&DUMPS, &cells, format!("    {}{process}{runtime}: {said}", s.file))?)
}

fn number<'a>(n: Option<u64>) -> Cell<'a> {
    n.map_or(Cell::None, Cell::Num)
}

/// Looks at one dump. An error is a stop.
fn look(ctx: &Ctx<'_>, file: &str) -> Result<Seen> {
    let refused = |why: String| Seen {
        file: file.to_owned(),
        signature: REFUSED.to_owned(),
        trouble: REFUSED,
        reason: Some(why),
        ..Seen::default()
    };
    let session = match ctx.opening.open(Path::new(file)) {
        Ok(session) => session,
        Err(OpenError::Interrupted) => return Err(crate::watch::Interrupted.into()),
        Err(why) => return Ok(refused(why.to_string())),
    };
    let seen = findings(&session, file)?;
    Ok(match session.clr() {
        // A crash in native code is one without a runtime too.
        Err(why) if seen.finding.is_none() => {
            Seen { process: seen.process, pid: seen.pid, ..refused(format!("{why:#}")) }
        }
        _ => seen,
    })
}

fn findings(session: &Session, file: &str) -> Result<Seen> {
    let mut all = analyze(session, Scope::ALL, None)?;
    let about = session.about();
    Ok(Seen {
        file: file.to_owned(),
        signature: signature(&all),
        trouble: trouble(&all),
        reason: (!all.missing.is_empty()).then(|| all.missing.join("; ")),
        finding: (!all.findings.is_empty()).then(|| all.findings.swap_remove(0)),
        process: about.process,
        pid: about.pid,
        runtime: about.runtime,
    })
}
