//! `.exportall`: many dumps into one fleet.

use std::path::Path;

use anyhow::{Result, bail};

use super::column::Style;
use super::fleet::{Partition, check_id, id, id_of_file};
use super::specs::{self, DUMPS, Spec};
use super::tables::{self, Place};
use super::writer::Table;
use super::{needs_no_runtime, wanted};
use crate::dump::OpenError;
use crate::session::Session;
use crate::shell;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type,
};

/// `.exportall FLEET DUMP...`.
pub const EXPORTALL: Command = Command {
    name: "exportall",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "write the tables of many dumps into one folder, to be asked together",
    help: "Writes what .export writes, of each dump named, into a fleet: FLEET/TABLE/dump=ID/part.parquet, so that DuckDB, \
           Spark, Trino and ClickHouse look only at the dumps that are asked for. The open dump plays no part. ID is made \
           of process, process id and content, so a dump that is exported again takes its own place, wherever it lies: \
           its files are written beside the old ones and renamed when all are written. Several programs may write into one \
           fleet at the same time.\n\n\
           What cannot be read as a dump, or has no runtime that can be read, is refused: it has its row in `dumps`, with the \
           reason, and the others are exported all the same; the command then fails. The same from a command line: \
           clrscope export --out FLEET DUMP... (exit code 1 when one was refused). docs/fleets.md shows what to ask a fleet.",
    args: &[
        Arg::pos("FLEET", Kind::File, "folder to write to; made when missing").required(),
        Arg::pos("DUMP", Kind::File, "dumps to export").required().many(),
        Arg::opt("tables", Kind::Text, "only these tables, separated by commas; `dumps` always"),
        Arg::opt("format", Kind::OneOf(Style::NAMES), "file format; default parquet"),
        Arg::opt("id", Kind::Text, "what the dump is called; of one dump alone"),
    ],
    examples: &[Example {
        line: ".exportall /tmp/fleet older.core.zst -format tsv",
        what: "a dump among others, as text",
    }],
    needs: Needs::Nothing,
    returns: Returns::facts(&[
        Fact::new("exported", "dumps exported, whole or partial", Type::Count),
        Fact::new("refused", "dumps refused", Type::Count),
    ])
    .and(&[&EXPORTS]),
    run,
};

/// What became of each dump.
const EXPORTS: shell::Table = shell::Table::new(
    "exports",
    &[
        Col::data("file", Type::Text).titled("the dump"),
        Col::data("id", Type::Text).titled("what it is called in the fleet"),
        Col::data("outcome", Type::Text).titled("whole, partial or refused"),
        Col::data("rows", Type::Count).titled("rows of all tables"),
        Col::data("reason", Type::Text).titled("why it is not whole"),
    ],
);

/// What became of one dump.
struct Exported {
    id: String,
    outcome: &'static str,
    rows: u64,
    reason: Option<String>,
}

/// What is written and where.
struct Bulk<'a> {
    redact: bool,
    folder: &'a Path,
    style: Style,
    wanted: Vec<&'static Spec>,
    /// All tables: what an earlier export left of others goes.
    all: bool,
    named: Option<&'a str>,
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let style = Style::named(args.text("format").unwrap_or("parquet"));
    style.check()?;
    let named = args.text("id");
    named.map(check_id).transpose()?;
    let files: Vec<&str> = args.texts("DUMP").collect();
    if named.is_some() && files.len() > 1 {
        bail!("-id names one dump, and there are {}", files.len());
    }
    let mut wanted = wanted(args.text("tables"), true)?;
    if !wanted.iter().any(|s| s.name == DUMPS.name) {
        wanted.push(&DUMPS);
    }
    let folder = Path::new(args.text("FLEET").unwrap_or("."));
    let redact = ctx.settings.redact;
    let bulk = Bulk { folder, style, redact, wanted, all: args.text("tables").is_none(), named };
    let mut refused = 0u64;
    for file in &files {
        let done = bulk.export(ctx, Path::new(file))?;
        refused += u64::from(done.outcome == "refused");
        let reason = done.reason.as_deref();
        let cells = [
            Cell::text(*file),
            Cell::text(&done.id),
            Cell::text(done.outcome),
            Cell::Num(done.rows),
            Cell::maybe(reason),
        ];
        let why = reason.map_or_else(String::new, |r| format!(": {r}"));
        let line = format!("{:<8} {:>10} rows  {}  {file}{why}", done.outcome, done.rows, done.id);
        ctx.out.row_as(&EXPORTS, &cells, line)?;
    }
    let exported = files.len() as u64 - refused;
    let facts = [("exported", Cell::Num(exported)), ("refused", Cell::Num(refused))];
    ctx.out.facts(&facts, format!("{exported} dumps exported, {refused} refused"))?;
    if refused > 0 {
        bail!("{refused} of {} dumps were refused; `dumps` has the reasons", files.len());
    }
    Ok(Outcome::Complete)
}

impl Bulk<'_> {
    /// Exports a dump. An error is one of the folder, or a stop: it ends all.
    fn export(&self, ctx: &Ctx<'_>, file: &Path) -> Result<Exported> {
        match ctx.opening.open(file) {
            Ok(session) => self.write(&session),
            Err(OpenError::Interrupted) => Err(crate::watch::Interrupted.into()),
            Err(why) => self.refuse(file, why.to_string()),
        }
    }

    fn write(&self, session: &Session) -> Result<Exported> {
        let id = match self.named {
            Some(id) => id.to_owned(),
            None => id(session)?,
        };
        let refused = known(session.clr())?.map(|why| format!("{why:#}"));
        let possible = self.wanted.iter().filter(|s| refused.is_none() || needs_no_runtime(s));
        let possible: Vec<&Spec> = possible.copied().collect();
        let partition = Partition::new(self.folder, &id);
        let mut rows = 0;
        let place = Place::Fleet(&partition);
        let missing = tables::write((session, &id), &possible, (&place, self.style, self.redact), |done| {
            rows += done.rows;
            Ok(())
        })?;
        if refused.is_some() {
            self.clear(&partition, |s| !needs_no_runtime(s))?;
        }
        let outcome = match () {
            () if refused.is_some() => "refused",
            () if missing.is_empty() => "whole",
            () => "partial",
        };
        let reason = refused.or_else(|| (!missing.is_empty()).then(|| missing.join("; ")));
        Ok(Exported { id, outcome, rows, reason })
    }

    /// Writes the row of a file that cannot be opened.
    fn refuse(&self, file: &Path, reason: String) -> Result<Exported> {
        let id = self.named.map_or_else(|| id_of_file(file), str::to_owned);
        let partition = Partition::new(self.folder, &id);
        let part = partition.begin(DUMPS.name, self.style)?;
        let mut table = Table::create(&part.beside, self.style, DUMPS.columns)?;
        super::dumps::unread(&id, file, &reason, &mut table)?;
        let written = table.finish()?;
        part.take_place()?;
        self.clear(&partition, |s| s.name != DUMPS.name)?;
        Ok(Exported { id, outcome: "refused", rows: written.rows, reason: Some(reason) })
    }

    /// Takes away what an earlier export of the dump left of tables it has no more.
    fn clear(&self, partition: &Partition<'_>, gone: impl Fn(&Spec) -> bool) -> Result<()> {
        for spec in specs::all().filter(|s| self.all && gone(s)) {
            partition.clear(spec.name, self.style)?;
        }
        Ok(())
    }
}

/// Why there is none; a stop is an error.
fn known<T>(value: Result<T>) -> Result<Option<anyhow::Error>> {
    match value {
        Err(why) if why.is::<crate::watch::Interrupted>() => Err(why),
        other => Ok(other.err()),
    }
}
