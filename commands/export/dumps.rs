//! `dumps`: one row a dump, with what it is and what became of its export.

use std::path::Path;

use anyhow::Result;

use super::column::{Column, Field, col};
use super::job::Job;
use super::writer::Table;
use crate::commands::session::analyze::{Analysis, Scope, analyze, signature, trouble};
use crate::heap::stat::Tally;
use crate::session::{About, Session};
use crate::shell::Type::{Bool, Bytes, Content, Count, Number, Text, Time};

/// The columns.
pub const COLUMNS: &[Column] = &[
    col("id", Text),
    col("file", Text),
    col("file_bytes", Bytes),
    col("process", Text),
    col("pid", Number),
    col("os", Text),
    col("arch", Text),
    col("time", Time),
    col("file_time", Time),
    col("runtime", Text),
    col("version", Text),
    col("build", Text),
    col("server", Bool),
    col("threads", Count),
    col("committed_bytes", Bytes),
    col("objects", Count),
    col("object_bytes", Bytes),
    col("live", Count),
    col("live_bytes", Bytes),
    col("free_bytes", Bytes),
    col("native_bytes", Bytes),
    col("trouble", Text),
    col("signature", Text),
    col("finding", Content),
    col("outcome", Text),
    col("reason", Text),
];

/// What the managed heap holds.
#[derive(Default)]
struct Managed {
    server: Option<bool>,
    threads: Option<u64>,
    committed: Option<u64>,
    /// Objects, and free space between them.
    all: Option<(Tally, u64)>,
    live: Option<(u64, u64)>,
}

impl Managed {
    /// Each as far as it can be had: an interruption alone is an error.
    fn of(session: &Session) -> Result<Self> {
        let mut managed =
            Self { threads: session.clr().ok().map(|c| c.threads().items.len() as u64), ..Self::default() };
        let Ok(heap) = session.heap() else { return Ok(managed) };
        managed.server = Some(heap.server);
        managed.committed = Some(heap.segments.iter().map(|s| s.committed.max(s.end).saturating_sub(s.start)).sum());
        managed.all = known(session.stat())?.map(|stat| {
            let (mut all, mut free) = (Tally::default(), Tally::default());
            for (_, everything, of_it_free) in &stat.generations {
                all.merge(*everything);
                free.merge(*of_it_free);
            }
            let count = all.count.saturating_sub(free.count);
            (Tally { count, bytes: all.bytes.saturating_sub(free.bytes) }, free.bytes)
        });
        if !heap.in_gc {
            let tree = known(session.dominators())?;
            managed.live = tree.map(|t| (u64::from(t.tree.reached()), t.bytes(0)));
        }
        Ok(managed)
    }
}

/// What there is of a value; what cannot be had is none.
fn known<T>(value: Result<T>) -> Result<Option<T>> {
    match value {
        Err(why) if why.is::<crate::watch::Interrupted>() => Err(why),
        other => Ok(other.ok()),
    }
}

/// The row of a dump that could be opened.
pub fn row(job: &Job<'_>, table: &mut Table) -> Result<Option<String>> {
    let session = job.session;
    let managed = Managed::of(session)?;
    let native = known(session.native_heaps())?.map(|h| h.totals().used.bytes);
    let all = analyze(session, Scope::ALL, None)?;
    let (outcome, reason) = match session.clr() {
        Err(why) => ("refused", format!("{why:#}")),
        Ok(_) if job.missing.is_empty() => ("whole", String::new()),
        Ok(_) => ("partial", job.missing.join("; ")),
    };
    let file = session.dump().path.display().to_string();
    write(table, (job.id, &file, session.flavour()), &session.about(), &managed, (native, &all), (outcome, &reason))?;
    Ok(None)
}

/// The row of a file that is no dump, or none that can be read.
pub fn unread(id: &str, path: &Path, reason: &str, table: &mut Table) -> Result<()> {
    let file = path.display().to_string();
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    let mut fields = [Field::None; COLUMNS.len()];
    for (column, field) in COLUMNS.iter().zip(&mut fields) {
        *field = match column.name {
            "id" => Field::Text(id),
            "file" => Field::Text(&file),
            "file_bytes" => Field::Num(size),
            "outcome" => Field::Text("refused"),
            "reason" => Field::Text(reason),
            _ => Field::None,
        };
    }
    Ok(table.row(&fields)?)
}

fn write(
    table: &mut Table,
    (id, file, flavour): (&str, &str, Option<&'static str>),
    about: &About,
    managed: &Managed,
    (native, analysis): (Option<u64>, &Analysis),
    (outcome, reason): (&str, &str),
) -> Result<()> {
    let word = |t: &Option<String>| t.clone().unwrap_or_default();
    let (process, version, build) = (word(&about.process), word(&about.runtime), word(&about.runtime_build));
    let signature = signature(analysis);
    let first = analysis.findings.first();
    let refused = outcome == "refused" && first.is_none();
    Ok(table.row(&[
        Field::Text(id),
        Field::Text(file),
        Field::Num(about.size),
        Field::Text(&process),
        Field::maybe(about.pid, Field::Num),
        Field::Text(about.os),
        Field::Text(about.arch),
        Field::maybe(about.time, Field::Time),
        Field::maybe(about.file_time, Field::Time),
        Field::maybe(flavour, Field::Text),
        Field::Text(&version),
        Field::Text(&build),
        Field::maybe(managed.server, Field::Bool),
        Field::maybe(managed.threads, Field::Num),
        Field::maybe(managed.committed, Field::Num),
        Field::maybe(managed.all, |a| Field::Num(a.0.count)),
        Field::maybe(managed.all, |a| Field::Num(a.0.bytes)),
        Field::maybe(managed.live, |l| Field::Num(l.0)),
        Field::maybe(managed.live, |l| Field::Num(l.1)),
        Field::maybe(managed.all, |a| Field::Num(a.1)),
        Field::maybe(native, Field::Num),
        if refused { Field::None } else { Field::Text(trouble(analysis)) },
        if refused { Field::None } else { Field::Text(&signature) },
        Field::maybe(first, |f| Field::Content(&f.what)),
        Field::Text(outcome),
        Field::Text(reason),
    ])?)
}
