//! `!analyze`: what kind of trouble this is, what speaks for it, what to type next.

mod crash;
mod hang;
mod memory;

use std::cmp::Reverse;

use anyhow::Result;

use crate::commands::graph::leaks::evidence::{Evidence, Item};
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!analyze`.
pub const ANALYZE: Command = Command {
    name: "analyze",
    prefix: Prefix::Bang,
    aliases: &["triage"],
    group: Group::Session,
    summary: "what kind of trouble this is, the findings that matter, and what to type next",
    help: "At most one screen: the dump and what it lacks; crash, hang, memory or nothing striking, and why; up to three \
           findings, the one that matters most first, each with its evidence, how sure it is and what to type next; where \
           the memory is; what was not looked at.\n\n\
           certain   the dump says so: an exception nobody caught, a ring of threads that wait for one another\n\
           likely    what stands there fits and nothing else is known to look like it\n\
           possible  worth a look; it may be meant to be so\n\n\
           A crash is an exception or signal the dump was written for, a stack overflow, Environment.FailFast, or a thread \
           whose exception nobody has caught. A hang is what !waits calls a deadlock, starvation, a stuck finalizer or a \
           convoy. Memory is what !leaks finds; it is named as the trouble where one holder keeps a quarter of the live \
           bytes in a hundred elements or more, or where the collector had no memory to give. -crash, -hang and -memory \
           look at one of the three alone; -diff OLDER adds what grew since that dump, and puts it first; -v lists all \
           findings.",
    args: &[
        Arg::flag("v", "all findings with all their evidence"),
        Arg::flag("crash", "exceptions and signals only"),
        Arg::flag("hang", "what threads wait for only"),
        Arg::flag("memory", "memory only"),
        Arg::opt("diff", Kind::File, "an older dump of the same program: what grew since"),
    ],
    examples: &[
        Example { line: "!analyze", what: "where to begin with a dump" },
        Example { line: "!analyze -v", what: "everything it found" },
        Example { line: "!analyze -hang", what: "who waits for whom" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("trouble", "crash, hang, memory, or nothing striking", Type::Text),
        Fact::new("signature", "the trouble as other dumps with the same have it", Type::Text),
        Fact::new("findings", "findings there are", Type::Count),
        Fact::new("dump", "the dump in a line", Type::Text),
        Fact::new("lacks", "what the dump lacks", Type::Text),
        Fact::new("images_missing", "bytes of mapped images and files that are not in it", Type::Bytes),
        Fact::new("memory_missing", "bytes of other memory that are not in it", Type::Bytes),
        Fact::new("not_shown", "findings that are not shown", Type::Count),
        Fact::new("not_looked_at", "what was not looked at", Type::Text),
    ])
    .and(&[&FINDINGS, &EVIDENCE, &NEXT, &MEMORY]),
    run,
};

const RANK: Col = Col::data("rank", Type::Number).titled("number of the finding");

const FINDINGS: Table = Table::new(
    "findings",
    &[
        RANK,
        Col::data("area", Type::Text).titled("crash, hang or memory"),
        Col::data("sure", Type::Text).titled("certain, likely or possible"),
        Col::data("what", Type::Content).titled("the finding in a line"),
        Col::data("address", Type::Address).titled("the object or code it is about"),
        Col::data("count", Type::Count).titled("how many threads or objects"),
        Col::data("bytes", Type::Bytes).titled("how many bytes"),
        Col::data("share", Type::Share).titled("percent of the live bytes"),
        Col::data("signature", Type::Text).titled("the same in every dump with the same finding: names, no figures"),
    ],
);

/// What speaks for a finding: a sentence, and a row for each thing it says.
const EVIDENCE: Table = Table::new(
    "evidence",
    &[
        RANK,
        Col::data("text", Type::Content).titled("the sentence, in the first row of it"),
        Item::WHAT,
        Item::TYPE,
        Item::COUNT,
        Item::BYTES,
        Item::SHARE,
        Item::ADDRESS,
        Item::NAME,
        Item::THREAD,
    ],
)
.under("findings", "rank");

const NEXT: Table =
    Table::new("next", &[RANK, Col::data("command", Type::Text).titled("what to type")]).under("findings", "rank");

const MEMORY: Table = Table::new(
    "memory",
    &[Col::data("kind", Type::Text).titled("what it is"), Col::data("bytes", Type::Bytes).titled("bytes of it")],
);

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sure {
    /// Worth a look.
    Possible,
    /// Nothing else is known to look like it.
    Likely,
    /// The dump says so.
    Certain,
}

impl Sure {
    fn name(self) -> &'static str {
        match self {
            Sure::Possible => "possible",
            Sure::Likely => "likely",
            Sure::Certain => "certain",
        }
    }
}

/// What a finding belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The process ended, or was about to.
    Crash,
    /// Threads do not go on.
    Hang,
    /// Memory is held.
    Memory,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Area::Crash => "crash",
            Area::Hang => "hang",
            Area::Memory => "memory",
        }
    }
}

/// From this weight on a finding is the trouble, not something by the way.
pub const STRIKING: u8 = 50;

/// Findings of less weight than `WORTH` are listed with -v alone.
pub const SMALL: u8 = 10;
/// From this weight on a finding is worth a line.
const WORTH: u8 = 20;

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it belongs to.
    pub area: Area,
    /// Which comes first: 100 ended the process, 50 and more is trouble, less is worth a look.
    pub weight: u8,
    /// How sure it is.
    pub sure: Sure,
    /// In a line.
    pub what: String,
    /// The same in every dump with the same finding: names, no addresses and no figures.
    pub signature: String,
    /// The object or code it is about; 0 for none.
    pub address: u64,
    /// Threads or objects.
    pub count: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Percent of the live bytes.
    pub share: Option<f64>,
    /// What speaks for it, a line each.
    pub evidence: Vec<Evidence>,
    /// What to type next.
    pub next: Vec<String>,
}

impl Finding {
    /// A finding without figures.
    pub fn new(area: Area, weight: u8, sure: Sure, what: impl Into<String>) -> Self {
        Self {
            area,
            weight,
            sure,
            what: what.into(),
            signature: String::new(),
            address: 0,
            count: None,
            bytes: None,
            share: None,
            evidence: Vec::new(),
            next: Vec::new(),
        }
    }

    /// The same, found again in other dumps under this signature.
    #[must_use]
    pub fn signed(mut self, signature: impl Into<String>) -> Self {
        self.signature = signature.into();
        self
    }
}

/// Everything found, what matters most first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    /// The findings.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub missing: Vec<String>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Exceptions and signals.
    pub crash: bool,
    /// Waits.
    pub hang: bool,
    /// Memory.
    pub memory: bool,
}

impl Scope {
    /// Everything.
    pub const ALL: Self = Self { crash: true, hang: true, memory: true };
}

/// Adds what it finds.
type Find = fn(&Session, &mut Analysis) -> Result<()>;

/// Looks at everything asked for. What cannot be looked at is said, and stops nothing.
pub fn analyze(session: &Session, scope: Scope, older: Option<&str>) -> Result<Analysis> {
    let mut all = Analysis::default();
    let parts: [(bool, &str, Find); 3] = [
        (scope.crash, "exceptions", crash::find),
        (scope.hang, "waits", hang::find),
        (scope.memory, "memory", memory::find),
    ];
    for (wanted, what, find) in parts {
        if !wanted {
            continue;
        }
        match find(session, &mut all) {
            Ok(()) => {}
            Err(why) if why.is::<crate::watch::Interrupted>() => return Err(why),
            Err(why) => all.missing.push(format!("{what}: {why}")),
        }
    }
    if let Some(older) = older {
        memory::growth(session, older, &mut all)?;
    }
    all.findings.sort_by_key(|f| (Reverse(f.weight), Reverse(f.sure)));
    Ok(all)
}

/// The kind of trouble.
pub fn trouble(all: &Analysis) -> &'static str {
    all.findings.first().filter(|f| f.weight >= STRIKING).map_or("nothing striking", |f| f.area.name())
}

/// The trouble as other dumps with the same have it: its kind and the signature of the first finding.
pub fn signature(all: &Analysis) -> String {
    match all.findings.first().filter(|f| f.weight >= STRIKING) {
        Some(f) => format!("{}: {}", f.area.name(), f.signature),
        None => trouble(all).to_owned(),
    }
}

/// Findings of one screen.
const MOST_FINDINGS: usize = 3;
/// Lines of evidence of one finding on one screen.
const MOST_EVIDENCE: usize = 4;

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let one = ["crash", "hang", "memory"].iter().any(|n| args.has(n));
    let scope =
        Scope { crash: !one || args.has("crash"), hang: !one || args.has("hang"), memory: !one || args.has("memory") };
    let all = analyze(session, scope, args.text("diff"))?;
    head(session, ctx.out)?;
    let kind = trouble(&all);
    let reason = all.findings.first().filter(|f| f.weight >= STRIKING);
    let line = reason.map_or_else(|| "Trouble: nothing striking".into(), |f| format!("Trouble: {kind}: {}", f.what));
    ctx.out.fact("trouble", Cell::text(kind), line)?;
    ctx.out.datum("signature", &Cell::text(signature(&all)));
    ctx.out.note("")?;
    let verbose = args.has("v");
    let most = if verbose { usize::MAX } else { MOST_FINDINGS };
    let worth = |f: &&Finding| verbose || f.weight >= WORTH;
    let shown = all.findings.iter().filter(worth).take(most).count();
    for (i, f) in all.findings.iter().filter(worth).take(most).enumerate() {
        finding(ctx.out, i as u64 + 1, f, verbose)?;
    }
    let number = all.findings.len() as u64;
    match number.checked_sub(shown as u64).filter(|&n| n > 0) {
        Some(more) => {
            let line = format!("{number} findings, {more} of them not shown: !analyze -v");
            ctx.out.facts(&[("findings", Cell::Num(number)), ("not_shown", Cell::Num(more))], line)?;
        }
        None => ctx.out.datum("findings", &Cell::Num(number)),
    }
    if scope.memory {
        bar(session, ctx.out)?;
    }
    let mut left = Vec::new();
    for (looked, what) in [(scope.crash, "exceptions"), (scope.hang, "waits"), (scope.memory, "memory")] {
        if !looked {
            left.push(what.to_owned());
        }
    }
    if args.text("diff").is_none() {
        left.push("growth since an older dump (-diff OLDER)".into());
    }
    if !scope.memory {
        left.push("native heaps (!heap -s)".into());
    }
    left.extend(all.missing.iter().cloned());
    let left = left.join("; ");
    ctx.out.fact("not_looked_at", Cell::text(left.clone()), format!("Not looked at: {left}"))?;
    Ok(match all.missing.is_empty() {
        true => Outcome::Complete,
        false => Outcome::Partial(all.missing.join("; ")),
    })
}

/// What the dump is and lacks.
fn head(session: &Session, out: &mut Out) -> Result<()> {
    let about = session.about();
    let mut line = format!("{} {}", about.os, about.arch);
    if let Some(pid) = about.pid {
        line += &format!(", process {pid}");
    }
    if let Some(name) = &about.process {
        line += &format!(" {name}");
    }
    if let Some(runtime) = &about.runtime {
        line += &format!(", .NET {runtime}");
    }
    out.fact("dump", Cell::text(line.clone()), format!("Dump: {line}"))?;
    let missing = session.missing();
    let mut lacks = Vec::new();
    for (bytes, what) in [(missing.images, "mapped images and files"), (missing.other, "other memory")] {
        if bytes > 0 {
            lacks.push(format!("{} bytes of {what}", thousands(bytes)));
        }
    }
    for (share, what) in [(missing.segments, "segments of the heap"), (missing.assemblies, "assemblies' metadata")] {
        if let Some(s) = share.filter(|s| s.missing > 0) {
            lacks.push(format!("{} of {} {what}", s.missing, s.all));
        }
    }
    if !lacks.is_empty() {
        let lacks = lacks.join(", ");
        out.fact("lacks", Cell::text(lacks.clone()), format!("Lacks: {lacks}"))?;
        out.datum("images_missing", &Cell::Num(missing.images));
        out.datum("memory_missing", &Cell::Num(missing.other));
    }
    Ok(())
}

fn finding(out: &mut Out, rank: u64, f: &Finding, verbose: bool) -> Result<()> {
    let cells = [
        Cell::Num(rank),
        Cell::text(f.area.name()),
        Cell::text(f.sure.name()),
        Cell::text(f.what.clone()),
        Cell::at(f.address),
        f.count.map_or(Cell::None, Cell::Num),
        f.bytes.map_or(Cell::None, Cell::Num),
        f.share.map_or(Cell::None, Cell::Percent),
        Cell::text(f.signature.as_str()),
    ];
    out.row_as(&FINDINGS, &cells, format!("{rank}. {} ({}): {}", f.area.name(), f.sure.name(), f.what))?;
    let most = if verbose { usize::MAX } else { MOST_EVIDENCE };
    for (i, e) in f.evidence.iter().enumerate() {
        let nothing = Item::default();
        let cells = said(rank, Some(&e.text), e.items.first().unwrap_or(&nothing));
        match i < most {
            true => out.row_as(&EVIDENCE, &cells, format!("     {}", e.text))?,
            false => out.data_row(&EVIDENCE, &cells)?,
        }
        for item in e.items.iter().skip(1) {
            out.data_row(&EVIDENCE, &said(rank, None, item))?;
        }
    }
    if f.evidence.len() > most {
        out.note("     ... (-v shows all of it)")?;
    }
    for command in &f.next {
        out.row_as(&NEXT, &[Cell::Num(rank), Cell::text(command.clone())], format!("     next: {command}"))?;
    }
    out.note("")?;
    Ok(())
}

/// A row of evidence.
fn said<'a>(rank: u64, text: Option<&'a str>, item: &'a Item) -> Vec<Cell<'a>> {
    [Cell::Num(rank), Cell::maybe(text)].into_iter().chain(item.cells()).collect()
}

/// Where the memory is.
fn bar(session: &Session, out: &mut Out) -> Result<()> {
    let parts = memory::parts(session)?;
    if parts.is_empty() {
        return Ok(());
    }
    out.note("Memory:")?;
    for (kind, bytes) in parts {
        let line = format!("  {:>16} bytes  {kind}", thousands(bytes));
        out.row_as(&MEMORY, &[Cell::text(kind), Cell::Num(bytes)], line)?;
    }
    Ok(())
}
