//! One of the two dumps, as far as the comparison needs it: names and numbers, no addresses but of examples.

use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::commands::memory::summary::add_up;
use crate::commands::memory::usage::{classify, word};
use crate::heap::stat::Tally;
use crate::native::heaps::Sum;
use crate::session::Session;
use crate::session::nativeowners::Which;

/// How the path of an object held by a stack begins: thread ids differ from process to process.
const STACK: &str = "stack of thread";
const STACKS: &str = "stacks";

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Live objects with what holds them: the costly part.
    pub live: bool,
    /// Types of all objects, dead ones too.
    pub all: bool,
    /// Uses of memory.
    pub regions: bool,
    /// Native heaps, and what holds their blocks.
    pub native: bool,
}

/// Objects of one type held in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Index of the holder, always of an earlier node.
    pub parent: Option<u32>,
    /// Name of the type.
    pub name: Arc<str>,
    /// The root, or the slot of the holder.
    pub slot: Arc<str>,
    /// The objects.
    pub own: Tally,
    /// One of them; 0 without one.
    pub example: u64,
}

/// What one dump says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// File as given.
    pub file: String,
    /// When it was written, seconds since 1970, if known.
    pub time: Option<u64>,
    /// Process id and name.
    pub process: String,
    /// The process id.
    pub pid: Option<u64>,
    /// The name of the process.
    pub name: Option<String>,
    /// The runtime in words.
    pub runtime: String,
    /// Objects by name of their type: live ones, or all.
    pub types: FxHashMap<Arc<str>, Tally>,
    /// Live objects by what holds them.
    pub nodes: Vec<Node>,
    /// All live objects.
    pub live: Tally,
    /// Objects no root reaches.
    pub dead: Tally,
    /// Uses of memory: regions and bytes.
    pub regions: FxHashMap<String, Tally>,
    /// Native heaps: blocks in use, and what is kept free.
    pub native: FxHashMap<String, Tally>,
    /// Native blocks in use by the type and field that holds them.
    pub native_owners: FxHashMap<String, Tally>,
    /// Why something is missing.
    pub partial: Option<String>,
}

impl Side {
    /// Reads what is wanted of `session`.
    pub fn measure(session: &Session, wanted: Wanted) -> Result<Self> {
        let dump = session.dump();
        let process = [dump.process.pid.map(|p| p.to_string()), dump.process.name.clone()];
        let mut side = Self {
            file: dump.path.display().to_string(),
            time: dump.process.dump_time.or(dump.file_time),
            process: process.into_iter().flatten().collect::<Vec<_>>().join(" "),
            pid: dump.process.pid,
            name: dump.process.name.clone(),
            runtime: session.describe_runtime(),
            ..Self::default()
        };
        if wanted.regions {
            side.read_regions(session)?;
        }
        if wanted.native {
            side.read_native(session)?;
        }
        if wanted.live {
            side.read_live(session)?;
        }
        if wanted.all {
            side.read_all(session)?;
        }
        if wanted.live || wanted.all {
            side.partial = match super::super::outcome(session)? {
                crate::shell::Outcome::Partial(why) => Some(format!("{}: {why}", side.file)),
                _ => None,
            };
        }
        Ok(side)
    }

    fn read_regions(&mut self, session: &Session) -> Result<()> {
        let (dump, managed) = (session.dump(), session.managed_ranges()?);
        let ranges = classify(dump, &managed);
        let sums = add_up(dump, &ranges, |r| (r.usage != word::FREE).then(|| r.usage.to_owned()));
        self.regions = sums.into_iter().map(|s| (s.name, Tally { count: s.count, bytes: s.bytes })).collect();
        Ok(())
    }

    fn read_native(&mut self, session: &Session) -> Result<()> {
        let heaps = session.native_heaps()?;
        if !heaps.memory.is_empty() {
            let t = heaps.totals();
            let arenas = heaps.arenas.iter().filter(|a| !a.main);
            let further = Sum { count: arenas.clone().count() as u64, bytes: arenas.map(|a| a.system).sum() };
            let parts = [
                ("blocks in use", t.used),
                ("free chunks", t.free),
                ("cached chunks", t.cached),
                ("tops of arenas", Sum { count: heaps.arenas.len() as u64, bytes: t.top }),
                ("arenas beside the main one, whole", further),
            ];
            let tally = |s: Sum| Tally { count: s.count, bytes: s.bytes };
            self.native = parts.into_iter().map(|(name, s)| (name.to_owned(), tally(s))).collect();
        }
        if session.clr().is_ok() {
            for o in session.native_owners(Which::All)? {
                let tally = Tally { count: o.blocks, bytes: o.bytes };
                self.native_owners.entry(format!("{}.{}", o.ty, o.field)).or_default().merge(tally);
            }
        }
        Ok(())
    }

    fn read_live(&mut self, session: &Session) -> Result<()> {
        let clr = session.clr()?;
        let tree = session.held_tree(|t| !t.is_free)?;
        self.dead = Tally { count: tree.dead.0, bytes: tree.dead.1 };
        let all = session.types().all();
        let names: Vec<Arc<str>> = all.iter().map(|t| clr.type_name(t.mt.address)).collect();
        let stacks: Arc<str> = STACKS.into();
        for n in tree.nodes {
            let name = match names.get(n.ty as usize) {
                Some(name) => name.clone(),
                None => session.group_name(n.ty),
            };
            let own = Tally { count: n.count, bytes: n.bytes };
            self.types.entry(name.clone()).or_default().merge(own);
            self.live.merge(own);
            let slot = if n.parent.is_none() && n.slot.starts_with(STACK) { stacks.clone() } else { n.slot };
            self.nodes.push(Node { parent: n.parent, name, slot, own, example: n.example });
        }
        Ok(())
    }

    fn read_all(&mut self, session: &Session) -> Result<()> {
        let (clr, stat) = (session.clr()?, session.stat()?);
        self.types.clear();
        for (id, tally) in stat.types.iter() {
            let Some(ty) = session.types().by_id(id) else { continue };
            let name = if ty.is_free { "Free".into() } else { clr.type_name(ty.mt.address) };
            self.types.entry(name).or_default().merge(tally);
        }
        Ok(())
    }
}
