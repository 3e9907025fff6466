//! `.export FILE`: the heap or stacks in the files of viewers. The file is written beside its place and renamed.

mod dominators;
mod gcdump;
mod heapsnapshot;
mod picture;
mod stacks;
mod tree;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::session::Session;
use crate::shell::{Args, Cell, Col, Ctx, Fact, Outcome, Table, Type};
use tree::Tree;

/// What such a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// `.heapsnapshot`: the developer tools of browsers, memlab.
    Snapshot,
    /// `.gcdump`: PerfView, Visual Studio.
    GcDump,
    /// `.speedscope.json`: speedscope.
    Speedscope,
    /// `.collapsed.txt`, `.folded`: anything that draws flame graphs.
    Collapsed,
}

/// Ends of names of files by what is written into them.
const ENDS: &[(&str, Viewer)] = &[
    (".heapsnapshot", Viewer::Snapshot),
    (".gcdump", Viewer::GcDump),
    (".speedscope.json", Viewer::Speedscope),
    (".collapsed.txt", Viewer::Collapsed),
    (".folded", Viewer::Collapsed),
];

/// Objects in a file without `-most`: what viewers open within a minute.
const MOST: u64 = 2_000_000;

/// Which stacks are meant.
pub const STACKS: &[&str] = &["dominators", "threads", "async"];

/// Facts of such an answer.
pub const FACTS: &[Fact] = &[
    Fact::new("file", "the file", Type::Text),
    Fact::new("file_bytes", "its bytes", Type::Bytes),
    Fact::new("objects", "objects in the file", Type::Count),
    Fact::new("references", "references between them", Type::Count),
    Fact::new("objects_left_out", "live objects summed up under what holds them", Type::Count),
    Fact::new("bytes_left_out", "their bytes", Type::Bytes),
    Fact::new("dead", "objects that nothing reaches, which are not in the file", Type::Count),
];

/// What a file of stacks holds.
pub const PROFILES: Table = Table::new(
    "profiles",
    &[
        Col::left("Profile", "profile", 0),
        Col::right("Stacks", "stacks", 0).of(Type::Count),
        Col::right("Total", "total", 0).of(Type::Count),
        Col::data("unit", Type::Text).titled("what the total counts"),
    ],
);

/// What the name of a file says that it is for; a folder for none.
pub fn of(path: &Path) -> Option<Viewer> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    ENDS.iter().find(|e| name.ends_with(e.0)).map(|e| e.1)
}

/// A file that appears in its place when it is whole.
struct Beside {
    place: PathBuf,
    part: PathBuf,
    out: Option<BufWriter<File>>,
}

impl Beside {
    fn create(place: &Path) -> Result<Self> {
        let mut name = place.file_name().map(|n| n.to_os_string()).unwrap_or_default();
        name.push(format!(".{}.part", std::process::id()));
        let part = place.with_file_name(name);
        let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Self { place: place.to_owned(), part, out: Some(BufWriter::with_capacity(1 << 18, file)) })
    }

    /// Puts it in its place; its bytes.
    fn finish(mut self) -> Result<u64> {
        if let Some(mut out) = self.out.take() {
            out.flush().with_context(|| format!("cannot write {}", self.part.display()))?;
        }
        let bytes = fs::metadata(&self.part)?.len();
        fs::rename(&self.part, &self.place).with_context(|| format!("cannot write {}", self.place.display()))?;
        Ok(bytes)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Once it is renamed nothing is there.
        let _ = fs::remove_file(&self.part);
    }
}

/// Writes the file.
pub fn write(ctx: &mut Ctx<'_>, args: &Args, path: &Path, viewer: Viewer) -> Result<Outcome> {
    let session = ctx.session()?;
    session.clr()?;
    if args.has("tables") || args.has("format") {
        bail!("-tables and -format are for tables in a folder; the end of {} says what it holds", path.display());
    }
    match viewer {
        Viewer::Snapshot | Viewer::GcDump => objects(ctx, session, args, path, viewer),
        Viewer::Speedscope | Viewer::Collapsed => of_stacks(ctx, session, args, path, viewer),
    }
}

fn objects(ctx: &mut Ctx<'_>, session: &Session, args: &Args, path: &Path, viewer: Viewer) -> Result<Outcome> {
    if args.has("stacks") {
        bail!("-stacks is for .speedscope.json, .collapsed.txt and .folded");
    }
    let most = match args.number("most") {
        None => MOST,
        Some(0) => u64::MAX,
        Some(n) => n,
    };
    let picture = picture::Picture::of(session, most)?;
    let mut file = Beside::create(path)?;
    let Some(out) = file.out.as_mut() else { bail!("the file is closed") };
    session.watch.progress.start("writing objects", 0);
    let references = match viewer {
        Viewer::GcDump => gcdump::write(&picture, out)?,
        _ => heapsnapshot::write(&picture, out)?,
    };
    session.watch.progress.finish();
    let bytes = file.finish()?;
    let (objects, left, dead) = (picture.objects(), picture.left_out, picture.dead);
    ctx.out.facts(
        &[("objects", Cell::Num(objects)), ("references", Cell::Num(references))],
        format!("{objects} objects, {references} references"),
    )?;
    written(ctx, path, bytes)?;
    ctx.out.fact("dead", Cell::Num(dead), format!("{dead} objects that nothing reaches are not in it"))?;
    let facts = [("objects_left_out", Cell::Num(left.count)), ("bytes_left_out", Cell::Num(left.bytes))];
    let line = format!(
        "{} objects of {} bytes are summed up under what holds them (-most 0 leaves none out)",
        left.count, left.bytes
    );
    match left.count {
        0 => facts.iter().for_each(|(key, value)| ctx.out.datum(key, value)),
        _ => ctx.out.facts(&facts, line)?,
    }
    if viewer == Viewer::GcDump {
        ctx.out.note("experimental: it was read back by PerfView's own code, not yet opened in its window")?;
    }
    Ok(picture.partial.map_or(Outcome::Complete, Outcome::Partial))
}

fn written(ctx: &mut Ctx<'_>, path: &Path, bytes: u64) -> Result<()> {
    let path = path.display().to_string();
    let facts = [("file", Cell::text(&path)), ("file_bytes", Cell::Num(bytes))];
    Ok(ctx.out.facts(&facts, format!("{bytes} bytes  {path}"))?)
}

fn of_stacks(ctx: &mut Ctx<'_>, session: &Session, args: &Args, path: &Path, viewer: Viewer) -> Result<Outcome> {
    let wanted: Vec<&str> = match (args.text("stacks"), viewer) {
        (Some(one), _) => vec![one],
        (None, Viewer::Collapsed) => vec!["dominators"],
        (None, _) => STACKS.to_vec(),
    };
    let mut partial = Vec::new();
    let mut trees: Vec<Tree> = Vec::new();
    for which in wanted {
        let (tree, why) = match which {
            "dominators" => dominators::tree(session)?,
            "threads" => stacks::threads(session)?,
            _ => stacks::suspended(session)?,
        };
        trees.push(tree);
        partial.extend(why.map(|why| format!("{which}: {why}")));
    }
    let mut file = Beside::create(path)?;
    let Some(out) = file.out.as_mut() else { bail!("the file is closed") };
    match viewer {
        Viewer::Collapsed => trees.iter().try_for_each(|t| t.collapsed(out))?,
        _ => {
            let name = session.about().file;
            tree::speedscope(&trees, &name, out)?;
        }
    }
    let bytes = file.finish()?;
    ctx.out.fill(
        &PROFILES,
        trees.iter().map(|t| [Cell::text(t.name), Cell::Sep(t.samples()), Cell::Sep(t.total()), Cell::text(t.unit)]),
    )?;
    written(ctx, path, bytes)?;
    Ok(if partial.is_empty() { Outcome::Complete } else { Outcome::Partial(partial.join("; ")) })
}
