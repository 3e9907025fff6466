//! Writing tables: plain files, or a dump's part of a fleet.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::column::Style;
use super::fleet::Partition;
use super::job::Job;
use super::specs::{NATIVE, Spec};
use super::writer::Table;
use crate::session::Session;
use crate::watch::Interrupted;

/// Where tables go.
pub enum Place<'a> {
    /// A file a table in this folder.
    Folder(&'a Path),
    /// A dump's part of each table of a fleet.
    Fleet(&'a Partition<'a>),
}

/// One table that was written.
pub struct Done {
    /// Its name.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Its file.
    pub path: PathBuf,
    /// Why rows may be missing.
    pub partial: Option<String>,
    /// What is missing of it is said with it, and is no lack of the others.
    pub aside: bool,
}

/// Writes tables; `told` hears of each. What was missing, in words. Parts of a fleet take their places together, when all
/// are written.
pub fn write(
    (session, id): (&Session, &str),
    wanted: &[&Spec],
    (place, style, redact): (&Place<'_>, Style, bool),
    mut told: impl FnMut(&Done) -> Result<()>,
) -> Result<Vec<String>> {
    let (mut missing, mut parts) = (Vec::new(), Vec::new());
    for spec in wanted {
        session.watch.cancel.check()?;
        let (path, part) = match place {
            Place::Folder(folder) => (folder.join(format!("{}.{}", spec.name, style.extension())), None),
            Place::Fleet(partition) => {
                let part = partition.begin(spec.name, style)?;
                (part.place.clone(), Some(part))
            }
        };
        let at = part.as_ref().map_or(&path, |p| &p.beside);
        let job = Job { session, id, missing: &missing };
        let (rows, partial) = match table(&job, spec, (style, redact), at) {
            Ok(done) => done,
            // One table that cannot be had stops no other of a fleet.
            Err(why) if part.is_some() && is_of_dump(&why) => {
                missing.push(format!("{}: {why:#}", spec.name));
                parts.extend(part.map(|p| p.emptied()));
                continue;
            }
            Err(why) => return Err(why),
        };
        let aside = NATIVE.iter().any(|n| n.name == spec.name);
        let done = Done { name: spec.name, rows, path, partial, aside };
        told(&done)?;
        if !aside {
            missing.extend(done.partial.map(|why| format!("{}: {why}", spec.name)));
        }
        parts.extend(part);
    }
    for part in parts {
        part.take_place()?;
    }
    Ok(missing)
}

/// Whether something is wrong with the dump, not with where the table goes, and nobody asked to stop.
fn is_of_dump(why: &anyhow::Error) -> bool {
    !why.chain().any(|e| e.is::<io::Error>() || e.is::<Interrupted>())
}

/// Writes one table; its rows and why some may be missing.
fn table(job: &Job<'_>, spec: &Spec, (style, redact): (Style, bool), path: &Path) -> Result<(u64, Option<String>)> {
    let cannot = || format!("cannot write {}", path.display());
    let mut table = Table::create(path, style, spec.columns).with_context(cannot)?.redacted(redact);
    let why = (spec.fill)(job, &mut table)?;
    let written = table.finish().with_context(cannot)?;
    let unfit = match written.unfit {
        0 => None,
        n => Some(format!("{n} values are beyond what their columns hold and left out")),
    };
    let reasons: Vec<String> = why.into_iter().chain(unfit).collect();
    Ok((written.rows, (!reasons.is_empty()).then(|| reasons.join("; "))))
}
