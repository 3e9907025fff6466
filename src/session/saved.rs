//! The index file: what was computed of a dump, kept for the next time.
//!
//! It is bound to the dump (size, time and samples of the file), to this version of the program, to the shape of the heap and,
//! where roots matter, to the roots. Whatever does not fit is computed anew. It is a cache and no more trusted than a dump:
//! checksums tell damage, and every number is checked before it is used as a place in an array.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use super::Session;
use crate::dump::map::FileMap;
use crate::dump::{OpenOptions, cache};
use crate::graph::container::{Container, Identity, Writer};
use crate::graph::pack::{Coding, Word, checksum, pack, unpack};
use crate::graph::paths::Holders;
use crate::graph::{Adjacency, DominatorTree, Weights};
use crate::heap::WalkReport;
use crate::heap::graph::ObjectGraph;
use crate::heap::index::ObjectIndex;
use crate::heap::retained::{GroupSize, Retained};
use crate::watch::Cancel;

/// Smaller heaps are computed faster than a file is read.
const WORTH: u32 = 1_000_000;
/// Size of a sample of the dump's file, and how many there are.
const SAMPLE: u64 = 4096;
const SAMPLES: u64 = 256;
/// Type table: MethodTables by number.
const TYPES: u32 = 1;
const BITS: u32 = 2;
const REPORT: u32 = 3;
const FORWARD_DEGREES: u32 = 4;
const FORWARD: u32 = 5;
const REVERSE_DEGREES: u32 = 6;
const REVERSE: u32 = 7;
/// References that hit nothing, then the edges of dependent handles.
const DEPENDENT: u32 = 8;
const HOLDERS: u32 = 9;
const NODES: u32 = 10;
const DOMINATORS: u32 = 11;
const SIZES: u32 = 12;
const HISTOGRAM: u32 = 13;
/// Checksum of the roots that holders, dominators and histogram come from.
const ROOTS: u32 = 14;

/// Tells the partial files of this process apart.
static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// Where the index of a dump is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// In the cache folder, for heaps large enough to be worth it.
    #[default]
    Auto,
    /// Nowhere.
    None,
    /// In this file, however small the heap.
    File(PathBuf),
}

impl IndexMode {
    /// From what a user writes: `none`, `auto`, or a file.
    pub fn parse(text: &str) -> Self {
        match text {
            "none" => Self::None,
            "auto" => Self::Auto,
            path => Self::File(path.into()),
        }
    }
}

/// What a session knows of its index file.
#[derive(Debug, Default)]
pub(super) struct Saved {
    mode: IndexMode,
    options: OpenOptions,
    found: OnceLock<Option<Found>>,
    /// Something was computed that is in no file.
    fresh: AtomicBool,
}

/// An index file that belongs to the dump.
#[derive(Debug)]
struct Found {
    file: FileMap,
    container: Container,
    /// Numbers of types in this session by those in the file.
    types: OnceLock<Vec<u32>>,
}

impl Found {
    fn packed<T: Word>(&self, number: u32, coding: Coding, cancel: &Cancel) -> Option<Vec<T>> {
        let (items, bytes) = self.container.section(&self.file, number, cancel)?;
        unpack(bytes, usize::try_from(items).ok()?, coding, cancel)
    }
}

/// State of the index, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexState {
    /// Its file; `None` where there is none for this dump.
    pub path: Option<PathBuf>,
    /// Whether the file is there and belongs to the dump, and its size.
    pub found: Option<u64>,
    /// What it holds.
    pub holds: Vec<&'static str>,
    /// Whether something was computed since that it does not hold.
    pub fresh: bool,
}

impl Session {
    /// Keeps the index where `mode` says; `options` have the cache folder and its limit.
    pub fn with_index(mut self, mode: IndexMode, options: &OpenOptions) -> Self {
        self.saved = Saved { mode, options: options.clone(), ..Saved::default() };
        self
    }

    /// Notes that something was computed.
    pub(super) fn computed<T>(&self, value: T) -> T {
        self.saved.fresh.store(true, Ordering::Relaxed);
        value
    }

    /// What the index belongs to.
    fn identity(&self) -> Result<Identity> {
        let (clr, heap) = (self.clr()?, self.heap()?);
        let time = fs::metadata(&self.dump.path)?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
        let mut bytes = format!("{} ", time.unwrap_or_default().as_nanos()).into_bytes();
        sample(&self.dump.path, &mut bytes)?;
        let known = (clr.known.object, clr.known.string, clr.known.free, clr.ptr_size());
        let shape = format!(
            "{} {known:?} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            heap.segments,
            heap.contexts,
            clr.found.module.version
        );
        Ok([checksum(&bytes), checksum(shape.as_bytes())])
    }

    /// What tells the file from others, wherever it lies and however it is compressed: a checksum of its size and of
    /// samples.
    pub fn fingerprint(&self) -> Result<u64> {
        let place = self.dump.unpacked.as_ref().unwrap_or(&self.dump.path);
        fingerprint(place).with_context(|| format!("cannot read {}", place.display()))
    }

    /// The file; `None` when none is kept.
    fn index_path(&self, identity: Identity) -> Option<PathBuf> {
        match &self.saved.mode {
            IndexMode::None => None,
            IndexMode::File(path) => Some(path.clone()),
            IndexMode::Auto => {
                let stem = self.dump.path.file_stem()?.to_string_lossy().into_owned();
                let clean = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' };
                let stem: String = stem.chars().map(clean).take(80).collect();
                let name = format!("{stem}-{:016x}.index", identity[0] ^ identity[1].rotate_left(32));
                Some(cache::folder(&self.saved.options)?.join(name))
            }
        }
    }

    fn found(&self) -> Option<&Found> {
        let open = || {
            if self.saved.mode == IndexMode::None {
                return None;
            }
            let identity = self.identity().ok()?;
            let path = self.index_path(identity)?;
            let file = FileMap::open(&path).ok()?;
            let container = Container::read(&file, identity)?;
            cache::touch(&path);
            Some(Found { file, container, types: OnceLock::new() })
        };
        self.saved.found.get_or_init(open).as_ref()
    }

    /// Types of the file, made known to this session; `None` when one of them is not in the dump.
    fn saved_types<'a>(&self, found: &'a Found) -> Option<&'a Vec<u32>> {
        let read = || {
            let clr = self.clr().ok()?;
            let all: Vec<u64> = found.packed(TYPES, Coding::Delta, &self.watch.cancel)?;
            all.into_iter().map(|mt| Some(self.types.get(clr, mt)?.id)).collect::<Option<_>>()
        };
        match found.types.get() {
            Some(known) => Some(known),
            None => read().map(|all| found.types.get_or_init(|| all)),
        }
    }

    pub(super) fn saved_index(&self) -> Option<ObjectIndex> {
        let found = self.found()?;
        let cancel = &self.watch.cancel;
        let (words, bytes) = found.container.section(&found.file, BITS, cancel)?;
        if words.checked_mul(8)? != bytes.len() as u64 {
            return None;
        }
        let bits = bytes.chunks_exact(8).map(|w| w.try_into().map_or(0, u64::from_le_bytes)).collect();
        let report = read_report(found.container.section(&found.file, REPORT, cancel)?.1)?;
        self.saved_types(found)?;
        ObjectIndex::from_bits(&self.walker().ok()?, bits, report)
    }

    pub(super) fn saved_graph(&self, objects: u32) -> Option<ObjectGraph> {
        let found = self.found()?;
        let forward = self.saved_direction(found, (FORWARD_DEGREES, FORWARD), objects)?;
        let rest: Vec<u64> = found.packed(DEPENDENT, Coding::Plain, &self.watch.cancel)?;
        let (misses, pairs) = rest.split_first()?;
        let id = |v: u64| u32::try_from(v).ok().filter(|&v| v < objects);
        let pairs = pairs.chunks_exact(2).map(|p| Some((id(p[0])?, id(p[1])?)));
        let dependent: Vec<(u32, u32)> = pairs.collect::<Option<_>>()?;
        dependent.is_sorted().then_some(ObjectGraph { forward, dependent, misses: *misses })
    }

    /// What refers to each object.
    pub(super) fn saved_reverse(&self, objects: u32) -> Option<Adjacency> {
        self.saved_direction(self.found()?, (REVERSE_DEGREES, REVERSE), objects)
    }

    fn saved_direction(&self, found: &Found, (degrees, targets): (u32, u32), objects: u32) -> Option<Adjacency> {
        let (degrees, targets) = rayon::join(
            || found.packed::<u32>(degrees, Coding::Plain, &self.watch.cancel),
            || found.packed(targets, Coding::Delta, &self.watch.cancel),
        );
        let all = Adjacency::from_parts(&degrees?, targets?, &self.watch)?;
        (all.nodes() == objects).then_some(all)
    }

    /// Whether what the file says of roots comes from the roots there are.
    fn same_roots(&self, found: &Found) -> Option<()> {
        let saved = found.packed::<u64>(ROOTS, Coding::Plain, &self.watch.cancel)?;
        (saved == [self.roots_sum().ok()?]).then_some(())
    }

    fn roots_sum(&self) -> Result<u64> {
        let words = self.roots()?.items.iter().flat_map(|r| [r.object, u64::from(r.is_conservative())]);
        Ok(checksum(&words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()))
    }

    pub(super) fn saved_holders(&self, objects: u32) -> Option<Holders> {
        let found = self.found()?;
        self.same_roots(found)?;
        let holders = Holders::from_parts(found.packed(HOLDERS, Coding::Near, &self.watch.cancel)?, &self.watch)?;
        (holders.nodes() == objects).then_some(holders)
    }

    pub(super) fn saved_dominators(&self, objects: u32) -> Option<Retained> {
        let found = self.found()?;
        self.same_roots(found)?;
        let (tree, sizes) = rayon::join(
            || {
                let (nodes, parents) = rayon::join(
                    || found.packed(NODES, Coding::Delta, &self.watch.cancel),
                    || found.packed(DOMINATORS, Coding::Near, &self.watch.cancel),
                );
                DominatorTree::from_parts(nodes?, parents?, objects, &self.watch)
            },
            || found.packed::<u64>(SIZES, Coding::Plain, &self.watch.cancel),
        );
        let (tree, sizes) = (tree?, sizes?);
        let whole = sizes.len() == tree.reached() as usize + 1;
        whole.then(|| Retained { tree, weights: Weights::new(sizes) })
    }

    pub(super) fn saved_histogram(&self) -> Option<Vec<GroupSize>> {
        let found = self.found()?;
        self.same_roots(found)?;
        let (types, numbers) =
            (self.saved_types(found)?, found.packed::<u64>(HISTOGRAM, Coding::Plain, &self.watch.cancel)?);
        let mut sizes = vec![GroupSize::default(); self.types.len()];
        for row in numbers.chunks_exact(4) {
            let id = *types.get(usize::try_from(row[0]).ok()?)?;
            *sizes.get_mut(id as usize)? = GroupSize { count: row[1], own: row[2], retained: row[3] };
        }
        Some(sizes)
    }

    /// Where the index is and what it holds.
    pub fn index_state(&self) -> Result<IndexState> {
        const PARTS: [(u32, &str); 5] = [
            (BITS, "objects"),
            (FORWARD, "references"),
            (HOLDERS, "holders"),
            (NODES, "dominators"),
            (HISTOGRAM, "retained sizes by type"),
        ];
        let path = self.index_path(self.identity()?);
        let found = self.found();
        let holds = PARTS.iter().filter(|p| found.is_some_and(|f| f.container.has(p.0))).map(|p| p.1).collect();
        let fresh = self.saved.fresh.load(Ordering::Relaxed);
        Ok(IndexState { path, found: found.map(|f| f.file.len() as u64), holds, fresh })
    }

    /// Saves what was computed since, when an index is kept for this dump; with `any`, for small heaps too. Returns the file.
    pub fn save_index(&self, any: bool) -> Result<Option<PathBuf>> {
        let small = self.index.value.get().is_none_or(|i| i.ids.len() < WORTH);
        let automatic = self.saved.mode == IndexMode::Auto && !any;
        let nothing = !self.saved.fresh.load(Ordering::Relaxed) || self.graph.value.get().is_none();
        if self.saved.mode == IndexMode::None || nothing || automatic && small {
            return Ok(None);
        }
        let identity = self.identity()?;
        let Some(path) = self.index_path(identity) else { return Ok(None) };
        check_place(&path)?;
        let part = Part(path.with_extension(format!(
            "{}-{}.part",
            std::process::id(),
            NEXT_PART.fetch_add(1, Ordering::Relaxed)
        )));
        self.watch.progress.start("saving the index", 0);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).map_err(Into::into).and_then(|()| {
            let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, File::create(&part.0)?))?;
            self.write_sections(&mut writer)?;
            Ok::<(), anyhow::Error>(writer.finish(identity)?.flush()?)
        });
        self.watch.progress.finish();
        written.with_context(|| format!("cannot write the index {}", part.0.display()))?;
        fs::rename(&part.0, &path).with_context(|| format!("cannot write the index {}", path.display()))?;
        std::mem::forget(part);
        self.saved.fresh.store(false, Ordering::Relaxed);
        if let (IndexMode::Auto, Some(folder)) = (&self.saved.mode, path.parent()) {
            cache::evict(folder, &path, self.saved.options.cache_limit.unwrap_or(cache::DEFAULT_LIMIT));
        }
        Ok(Some(path))
    }

    /// Writes what is computed, and what the file has that is not.
    fn write_sections(&self, to: &mut Writer<impl Write + Seek>) -> Result<()> {
        let sections = Sections { session: self, old: self.found() };
        sections.objects(to)?;
        let graph = self.graph()?;
        sections.packed(to, FORWARD_DEGREES, &graph.forward.degrees(), Coding::Plain)?;
        sections.packed(to, FORWARD, graph.forward.targets(), Coding::Delta)?;
        match self.reverse.value.get() {
            Some(reverse) => {
                sections.packed(to, REVERSE_DEGREES, &reverse.degrees(), Coding::Plain)?;
                sections.packed(to, REVERSE, reverse.targets(), Coding::Delta)?;
            }
            None => [REVERSE_DEGREES, REVERSE].iter().try_for_each(|&n| sections.again(to, n))?,
        }
        let pairs = graph.dependent.iter().flat_map(|d| [u64::from(d.0), u64::from(d.1)]);
        sections.packed(
            to,
            DEPENDENT,
            &std::iter::once(graph.misses).chain(pairs).collect::<Vec<_>>(),
            Coding::Plain,
        )?;
        let same = sections.old.is_some_and(|f| self.same_roots(f).is_some());
        sections.packed(to, ROOTS, &[self.roots_sum()?], Coding::Plain)?;
        match self.holders.value.get() {
            Some(h) => sections.packed(to, HOLDERS, h.parts(), Coding::Near)?,
            None if same => sections.again(to, HOLDERS)?,
            None => {}
        }
        match self.dominators.value.get() {
            Some(r) => {
                let (nodes, parents) = r.tree.parts();
                sections.packed(to, NODES, nodes, Coding::Delta)?;
                sections.packed(to, DOMINATORS, parents, Coding::Near)?;
                sections.packed(to, SIZES, &r.weights.all_own(), Coding::Plain)?;
            }
            None if same => [NODES, DOMINATORS, SIZES].iter().try_for_each(|&n| sections.again(to, n))?,
            None => {}
        }
        match self.retained_by_type.value.get() {
            Some(sizes) => sections.histogram(to, sizes)?,
            None if same => sections.again(to, HISTOGRAM)?,
            None => {}
        }
        Ok(())
    }
}

/// Writes sections.
struct Sections<'a> {
    session: &'a Session,
    old: Option<&'a Found>,
}

impl Sections<'_> {
    fn add(&self, to: &mut Writer<impl Write + Seek>, number: u32, items: usize, bytes: Cow<'_, [u8]>) -> Result<()> {
        self.session.watch.cancel.check()?;
        let added = to.add(number, items as u64, &bytes, &self.session.watch.cancel);
        // A stop is one, whatever became of the write.
        self.session.watch.cancel.check()?;
        Ok(added?)
    }

    fn packed<T: Word>(
        &self,
        to: &mut Writer<impl Write + Seek>,
        number: u32,
        values: &[T],
        coding: Coding,
    ) -> Result<()> {
        self.add(to, number, values.len(), pack(values, coding, &self.session.watch.cancel)?.into())
    }

    /// A section of the old file, as it is.
    fn again(&self, to: &mut Writer<impl Write + Seek>, number: u32) -> Result<()> {
        let old = self.old.and_then(|f| f.container.section(&f.file, number, &self.session.watch.cancel));
        // The numbers of types may be others in that file.
        let same = number != HISTOGRAM
            || self
                .old
                .and_then(|f| self.session.saved_types(f))
                .is_some_and(|t| t.iter().copied().eq(0..t.len() as u32));
        match old.filter(|_| same) {
            Some((items, bytes)) => self.add(to, number, usize::try_from(items)?, bytes.into()),
            None => Ok(()),
        }
    }

    fn objects(&self, to: &mut Writer<impl Write + Seek>) -> Result<()> {
        let types: Vec<u64> = self.session.types.all().iter().map(|t| t.mt.address).collect();
        self.packed(to, TYPES, &types, Coding::Delta)?;
        let index = self.session.index()?;
        let bits = index.ids.bits();
        self.add(to, BITS, bits.len(), bits.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>().into())?;
        let report = write_report(&index.report);
        self.add(to, REPORT, 1, report.into())
    }

    fn histogram(&self, to: &mut Writer<impl Write + Seek>, sizes: &[GroupSize]) -> Result<()> {
        let rows = sizes.iter().zip(0u64..).filter(|r| r.0.count > 0);
        let numbers: Vec<u64> = rows.flat_map(|(s, id)| [id, s.count, s.own, s.retained]).collect();
        self.packed(to, HISTOGRAM, &numbers, Coding::Plain)
    }
}

fn write_report(report: &WalkReport) -> Vec<u8> {
    let problems = serde_json::Value::from_iter(report.problems.iter().map(|(a, w)| serde_json::json!([a, w])));
    let r = report;
    serde_json::json!([r.objects, r.skipped, r.more, r.gaps, problems, r.shape]).to_string().into_bytes()
}

fn read_report(bytes: &[u8]) -> Option<WalkReport> {
    let all: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let number = |i: usize| all.get(i)?.as_u64();
    let problem = |p: &serde_json::Value| Some((p.get(0)?.as_u64()?, p.get(1)?.as_str()?.to_owned()));
    let problems = all.get(4)?.as_array()?.iter().map(problem).collect::<Option<_>>()?;
    let shape = all.get(5).and_then(|s| s.as_str()).map(str::to_owned);
    Some(WalkReport { objects: number(0)?, skipped: number(1)?, more: number(2)?, gaps: number(3)?, problems, shape })
}

/// As [`Session::fingerprint`], of a file that is no dump.
pub fn fingerprint(path: &Path) -> io::Result<u64> {
    let mut bytes = Vec::new();
    sample(path, &mut bytes)?;
    Ok(checksum(&bytes))
}

/// Appends the size of a file and samples of it.
fn sample(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    bytes.extend_from_slice(&size.to_le_bytes());
    let step = (size / SAMPLES).max(SAMPLE);
    for at in (0..size).step_by(step as usize).chain([size.saturating_sub(SAMPLE)]) {
        file.seek(SeekFrom::Start(at))?;
        Read::by_ref(&mut file).take(SAMPLE).read_to_end(bytes)?;
    }
    Ok(())
}

/// Refuses to replace a file that is no index.
fn check_place(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    match File::open(path).and_then(|f| f.take(8).read_to_end(&mut start)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(0) => Ok(()),
        Ok(_) if Container::is_one(&start) => Ok(()),
        Ok(_) => bail!("{} is there and is no index; it is left alone", path.display()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A partial file, removed unless it is renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
